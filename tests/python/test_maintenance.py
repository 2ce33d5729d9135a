"""What happens beside the stream: log checkpoints, joined files, clean-up. It happens, and where it cannot, the stream goes on."""

from __future__ import annotations

import json
import pathlib
import shutil

import bayou
import deltalake
from delta_replay import rows

WEEKS = 30 * 86_400 * 1_000_000


def publish(broker: bayou.Connection, start: int, count: int) -> None:
    broker.produce("t", [{"n": n} for n in range(start, start + count)], progress=False)


def define(broker: bayou.Connection, root: pathlib.Path) -> bayou.Pipeline:
    stream = broker.read_stream("t", schema="n INT", max_offsets_per_trigger=1)
    lake = bayou.Pipeline("p", root)
    lake.table("r", stream)
    lake.table("total", stream.group_by().agg("count(*) AS c"), output_mode="update")
    return lake


def age(root: pathlib.Path, epochs: range) -> None:
    """As if these epochs were weeks old: what nobody can wait for in a test."""
    for n in epochs:
        seal = root / f"_bayou/p/1/epoch/{n:020}.json"
        text = json.loads(seal.read_text())
        seal.write_text(json.dumps(text | {"clock": text["clock"] - WEEKS}))


def numbers(folder: pathlib.Path) -> list[int]:
    return sorted(int(p.name[:20]) for p in folder.rglob("*.*"))


def test_old_epochs_are_cleaned_up_and_logs_get_checkpoints_while_the_stream_runs(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    publish(broker, 0, 104)
    lake = define(broker, tmp_path)
    lake.run(progress=False, optimize_every=10)
    at = tmp_path / "_bayou/p/1"
    assert numbers(at / "epoch") == numbers(at / "done") == list(range(104)), "young ones stay, be there ever so many"
    age(tmp_path, range(60))
    publish(broker, 104, 22)
    query = lake.run(progress=False, optimize_every=10)
    assert query.warnings == []
    # At epoch 120, or soon after it where the round before was still at work: what is older than 100 epochs and than a week.
    first = numbers(at / "epoch")[0]
    assert 20 <= first <= 25
    assert numbers(at / "epoch") == numbers(at / "done") == list(range(first, 126))
    oldest = json.loads((at / f"epoch/{first:020}.json").read_text())["state"].values()
    needed = [f for files in oldest for f in [files["base"], *files["increments"]] if f]
    needed_from = min(int(f.rsplit("/", 1)[1][:20]) for f in needed)
    assert min(numbers(at / "state")) == needed_from > 0, "and state that no seal needs that is left"
    assert all((at / f).is_file() for f in needed)
    assert numbers(at / "staged") in ([], [125], [124, 125]) or min(numbers(at / "staged")) >= 119
    for table in ("r", "total"):
        hint = json.loads((tmp_path / table / "_delta_log/_last_checkpoint").read_text())
        assert hint["version"] >= 50
        assert len(deltalake.DeltaTable(str(tmp_path / table)).file_uris()) < 25
    # From the checkpoint alone, as after the log before it has expired.
    for table in ("r", "total"):
        version = json.loads((tmp_path / table / "_delta_log/_last_checkpoint").read_text())["version"]
        for entry in (tmp_path / table / "_delta_log").glob("*.json"):
            if int(entry.stem) < version:
                entry.unlink()
    publish(broker, 126, 1)
    lake.run(progress=False)
    found = deltalake.DeltaTable(str(tmp_path / "r")).to_pyarrow_table()["n"].to_pylist()
    assert sorted(found) == list(range(127))
    assert deltalake.DeltaTable(str(tmp_path / "total")).to_pyarrow_table().to_pylist() == [{"c": 127}]


def test_maintenance_that_fails_is_a_warning_and_never_fails_the_stream(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    publish(broker, 0, 2)
    lake = define(broker, tmp_path)
    lake.run(progress=False)
    # No checkpoint can be written: folders lie where its files belong. (Permissions do not stop root, who may run this.)
    log = tmp_path / "r/_delta_log"
    obstacles = [log / f"{v:020}.checkpoint.parquet" for v in range(40, 250)]
    for obstacle in obstacles:
        obstacle.mkdir()
    # Small files cannot be joined: one of them is not there for a while.
    [lost, *_] = sorted((tmp_path / "r").glob("*.parquet"))
    shutil.move(lost, tmp_path / "kept")
    publish(broker, 2, 102)
    query = lake.run(progress=False, optimize_every=10)
    said = "\n".join(query.warnings)
    assert "checkpoints of the log were not written, and are tried again" in said, said
    assert "small files were not joined, and are tried again" in said
    assert "r" in said and len(query.warnings) < 10, "each once, not with each epoch"
    # Old epochs cannot be removed.
    at = tmp_path / "_bayou/p/1"
    age(tmp_path, range(60))
    stuck = at / f"done/{0:020}.json"
    stuck.rename(tmp_path / "done0")
    stuck.mkdir()
    (stuck / "in the way").touch()
    publish(broker, 104, 18)
    query = lake.run(progress=False)
    assert any("old epochs were not cleaned up, and are tried again" in w for w in query.warnings), query.warnings
    assert query.exception() is None
    # When all is well again, so is the table.
    shutil.move(tmp_path / "kept", lost)
    for obstacle in obstacles:
        obstacle.rmdir()
    shutil.rmtree(stuck)
    publish(broker, 122, 20)
    query = lake.run(progress=False, optimize_every=10)
    assert query.warnings == []
    # Where joining took all of that run, the clean-up comes in the next.
    count = 142
    while min(numbers(at / "epoch")) < 20 and count < 200:
        publish(broker, count, 20)
        lake.run(progress=False)
        count += 20
    assert min(numbers(at / "epoch")) >= 20
    assert (log / "_last_checkpoint").is_file()
    assert sorted(r["n"] for r in rows(tmp_path / "r")) == list(range(count))
    assert rows(tmp_path / "total") == [{"c": count}]
