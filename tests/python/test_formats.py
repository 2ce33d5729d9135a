"""Checkpoints of other versions: today's format is read forever, an earlier or later one is refused with words."""

from __future__ import annotations

import json
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

import bayou
import confluent_kafka.admin
import deltalake
import pytest

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE / "golden"))
import record  # noqa: E402
import record_operators  # noqa: E402


@pytest.fixture(scope="module")
def identity(address: str) -> Iterator[dict[str, object]]:
    """The recorded topic, recreated: the same messages at the same offsets. Yields the ids that the checkpoint must contain."""
    record.new_topic(address, record.TOPIC)
    record.publish(address, record.TOPIC, range(record.RECORDED))
    kafka = bayou.connect(address)
    yield {
        "clusterId": kafka.cluster_id,
        "topicIds": {record.TOPIC: kafka.describe_topic(record.TOPIC)["id"]},
    }
    confluent_kafka.admin.AdminClient({"bootstrap.servers": address}).delete_topics([record.TOPIC])


@pytest.fixture
def root(identity: dict[str, object], tmp_path: pathlib.Path) -> pathlib.Path:
    root = tmp_path / "lake"
    shutil.copytree(HERE / "golden/v1", root)
    query = root / "_bayou/golden/1/query.json"
    query.write_text(json.dumps(json.loads(query.read_text()) | identity))
    return root


def one(root: pathlib.Path, pattern: str) -> pathlib.Path:
    return sorted((root / "_bayou/golden/1").glob(pattern))[-1]


FILES = ["query.json", "start.json", "definition/*.json", "epoch/*.json", "done/*.json"]


@pytest.mark.parametrize("pattern", FILES)
@pytest.mark.parametrize("version", [3, 99, 0, None])
def test_a_file_of_another_format_version_is_refused_by_name_with_what_to_do(
    address: str, root: pathlib.Path, pattern: str, version: int | None
) -> None:
    file = one(root, pattern)
    content = json.loads(file.read_text())
    assert content.pop("formatVersion") == 1
    file.write_text(json.dumps(content if version is None else {"formatVersion": version} | content))
    before = {p: p.read_bytes() for p in root.rglob("*.*") if p.is_file()}
    with pytest.raises(bayou.ConfigError) as e:
        record.define(address, root, None).run(progress=False)
    said = str(e.value)
    known = " 2" if version and pattern == "epoch/*.json" else " 1"
    assert file.name in said and f"format {version or 0}" in said and known in said
    assert ("newer bayou" in said and "Upgrade bayou" in said) == bool(version)
    assert ("older bayou" in said and "full_refresh=True" in said) == (not version)
    if pattern == "done/*.json":
        with pytest.raises(bayou.ConfigError, match=f"format {version or 0}"):
            bayou.Pipeline("golden", root).sql("SELECT * FROM clean")
    after = {p: p.read_bytes() for p in root.rglob("*.*") if p.is_file() and p.name != "heartbeat.json"}
    changed = [p.name for p in after if before.get(p) != after[p]]
    assert changed == [], "what is not understood is left as it is"
    if not version:
        # What the error advises works.
        record.define(address, root, None).run(full_refresh=True, progress=False)


@pytest.mark.parametrize("pattern", ["state/*/*.arrow", "staged/*/*.arrow"])
@pytest.mark.parametrize(("byte", "age"), [(b"2", "newer"), (b"0", "older")])
def test_a_state_file_of_another_format_version_is_refused_by_name_with_what_to_do(
    address: str, root: pathlib.Path, pattern: str, byte: bytes, age: str
) -> None:
    for file in (root / "_bayou/golden/1").glob(pattern):
        content = file.read_bytes()
        assert content[:8] == b"BAYOUST1"
        file.write_bytes(content[:7] + byte + content[8:])
    with pytest.raises(
        bayou.ConfigError, match=rf"\.arrow was written by an? {age} bayou \(format {byte.decode()}"
    ) as e:
        record.define(address, root, None).run(progress=False)
    assert "full_refresh=True" in str(e.value)


def test_the_recorded_checkpoint_of_format_version_1_is_finished_and_gone_on_from(
    address: str, root: pathlib.Path
) -> None:
    sealed, done = one(root, "epoch/*.json"), one(root, "done/*.json")
    assert int(sealed.stem) == int(done.stem) + 1, "an epoch is sealed and in no table yet"
    record.publish(address, record.TOPIC, range(record.RECORDED, record.LATER))
    record.define(address, root, 30).run(progress=False)

    def read(table: str) -> list[dict[str, object]]:
        return deltalake.DeltaTable(str(root / table)).to_pyarrow_table().to_pylist()

    good = [n for n in range(record.LATER) if n % 13 != 12 and n != 7]
    assert sorted(r["n"] for r in read("clean")) == good  # type: ignore[type-var]
    by_k: Callable[[int], list[int]] = lambda k: [n for n in good if n % 5 == k]  # noqa: E731
    assert {r["k"]: (r["c"], r["n"]) for r in read("by_k")} == {f"k{k}": (len(by_k(k)), sum(by_k(k))) for k in range(5)}
    [total] = read("total")
    assert total["c"] == len(good) and total["mean"] == pytest.approx(sum(good) / len(good))
    # Twelve messages a minute; the lower of the partitions' highest times less ten seconds closes them.
    highest = min(max(n for n in good if n % 2 == p) for p in range(2)) * 5 - 10
    minutes = {m: [n for n in good if n // 12 == m] for m in range(highest // 60)}
    assert sorted((r["c"], r["n"]) for r in read("minutes")) == sorted((len(v), sum(v)) for v in minutes.values())
    assert len(read("golden_quarantine")) == sum(n % 13 == 12 for n in range(record.LATER))


def test_operators_of_every_kind_go_on_from_the_names_that_an_older_version_gave_them(
    address: str, tmp_path: pathlib.Path
) -> None:
    record.new_topic(address, record_operators.TOPIC)
    record_operators.publish(address, range(record_operators.RECORDED))
    root = tmp_path / "lake"
    shutil.copytree(HERE / "golden/v1-operators", root)
    kafka = bayou.connect(address)
    query = root / "_bayou/golden/1/query.json"
    ids = {record_operators.TOPIC: kafka.describe_topic(record_operators.TOPIC)["id"]}
    query.write_text(json.dumps(json.loads(query.read_text()) | {"clusterId": kafka.cluster_id, "topicIds": ids}))
    assert int(one(root, "epoch/*.json").stem) == int(one(root, "done/*.json").stem) + 1
    before = json.loads(one(root, "epoch/*.json").read_text())["state"]
    # The epoch is finished as it was sealed, the run continues from it, and once more in portions.
    record_operators.define(address, root, None).run(progress=False)
    record_operators.publish(address, range(record_operators.RECORDED, record_operators.LATER))
    record_operators.define(address, root, 30).run(progress=False)
    seal = json.loads(one(root, "epoch/*.json").read_text())
    tables = lambda state: sorted(name.split("+")[0] for name in state)  # noqa: E731
    assert tables(seal["state"]) == tables(before) and not set(seal["state"]) & set(before), "each has its new name"

    def read(table: str) -> list[dict[str, Any]]:
        return deltalake.DeltaTable(str(root / table)).to_pyarrow_table().to_pylist()

    good = [n for n in range(record_operators.LATER) if n % 13 != 12 and n != 7 and n % 17 != 16]
    seconds = lambda n: 5 * n  # noqa: E731
    assert sorted(r["n"] for r in read("plain")) == good
    for table, rest in (("even", 0), ("odd", 1)):
        of = lambda k, rest=rest: [n for n in good if n % 5 == k and n % 2 == rest]  # noqa: E731
        assert {r["k"]: (r["c"], r["n"]) for r in read(table)} == {f"k{k}": (len(of(k)), sum(of(k))) for k in range(5)}
    assert sorted((r["n"], r["m"]) for r in read("joined")) == sorted(
        (n, m) for n in good for m in (n - 10, n) if m in good
    )
    assert sorted(r["third"] for r in read("distinct")) == sorted({n // 3 for n in good})
    watermark = min(max(seconds(n) for n in good if n % 2 == p) for p in range(2)) - 10
    sessions = []
    for k in range(5):
        for n in (n for n in good if n % 5 == k):
            if sessions and sessions[-1][0] == k and seconds(n) - seconds(sessions[-1][1][-1]) < 30:
                sessions[-1][1].append(n)
            else:
                sessions.append((k, [n]))
    closed = [(f"k{k}", len(ns)) for k, ns in sessions if seconds(ns[-1]) + 30 <= watermark]
    assert sorted((r["k"], r["c"]) for r in read("sessions")) == sorted(closed)
    minutes = {m: [n for n in good if n // 12 == m] for m in range(watermark // 60)}
    assert sorted((r["c"], r["n"]) for r in read("filled")) == sorted((len(v), sum(v)) for v in minutes.values())
