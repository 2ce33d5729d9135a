"""Work in parallel with the stream: log checkpoints, joined files, clean-up. The work is done, and if it fails, the stream continues."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import time

import bayou
import deltalake
import pyarrow as pa
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
    """Makes these epochs look weeks old, because a test cannot wait for weeks."""
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
    # At epoch 120, or soon after it if the previous round is still at work, files are removed that are older than 100 epochs and than a week.
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
    # No checkpoint can be written: folders are in the places of its files. (Permissions do not stop root, who may run this.)
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
    assert "small files were not compacted, and are tried again" in said
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
    assert any("old epochs were not cleaned up, which is tried again later" in w for w in query.warnings), (
        query.warnings
    )
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


def test_a_tables_log_is_cleaned_as_its_own_retention_says_and_no_further_than_kept_epochs_need(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    lake = define(broker, tmp_path)
    publish(broker, 0, 160)
    lake.run(progress=False)
    for table, on in (("r", None), ("total", "false")):
        properties = {"delta.logRetentionDuration": "interval 1 second"} | ({"bayou.cleanLog": on} if on else {})
        made = deltalake.DeltaTable(str(tmp_path / table))
        assert made.metadata().configuration["bayou.cleanLog"] == "true", "set for tables that bayou makes"
        # By hand: deltalake's own ALTER cleans the log as well.
        log = tmp_path / table / "_delta_log"
        first = [json.loads(line) for line in (log / f"{0:020}.json").open()]
        metadata = next(e["metaData"] for e in first if "metaData" in e)
        metadata["configuration"] |= properties
        (log / f"{made.version() + 1:020}.json").write_text(json.dumps({"metaData": metadata}) + "\n")
        # Older than the retention, however quick the runs are.
        hour_ago = time.time() - 3600
        for entry in log.iterdir():
            os.utime(entry, (hour_ago, hour_ago))
    age(tmp_path, range(100))
    # Unfinished files of killed writers, and a file that a writer is writing now.
    old, young = (tmp_path / "r" / f"part-0.parquet#{n}" for n in (1, 2))
    for left in (old, young):
        left.touch()
    os.utime(old, (1, 1))
    publish(broker, 160, 140)
    query = lake.run(progress=False)
    assert query.warnings == []
    kept = numbers(tmp_path / "_bayou/p/1/epoch")
    logs = {t: sorted(int(p.stem) for p in (tmp_path / t / "_delta_log").glob("*.json")) for t in ("r", "total")}
    assert logs["total"][0] == 0, "the table says no"
    needed = json.loads((tmp_path / f"_bayou/p/1/done/{kept[0]:020}.json").read_text())["tables"]["r"]["version"]
    assert 40 < logs["r"][0] <= needed, (logs["r"][0], needed)
    assert logs["r"] == list(range(logs["r"][0], logs["r"][-1] + 1))
    assert not old.exists() and young.exists()
    assert sorted(r["n"] for r in lake.read("r").to_dicts()) == list(range(300))
    assert len(deltalake.DeltaTable(str(tmp_path / "r"), version=needed).to_pyarrow_table()) == kept[0] + 1
    # Tables of other writers are left alone, unless the run has clean_log=True.
    deltalake.write_deltalake(str(tmp_path / "theirs"), pa.table({"n": pa.array([-1], pa.int32())}))
    stream = broker.read_stream("t", schema="n INT", max_offsets_per_trigger=100)
    stream.write_delta(tmp_path / "theirs", progress=False)
    assert "bayou.cleanLog" not in deltalake.DeltaTable(str(tmp_path / "theirs")).metadata().configuration


def test_a_commit_reads_no_more_of_a_long_log_than_of_a_short_one(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    """Each commit asks for the newest version and the next by name, and lists nothing."""
    broker.create_topic("t")
    stream = broker.read_stream("t", schema="n INT", max_offsets_per_trigger=1)
    cost = []
    for length in (0, 20_000):
        path = tmp_path / f"t{length}"
        publish(broker, 0, 1)
        stream.write_delta(path, progress=False)
        # A log that was never cleaned: older files, which a listing would go through.
        for n in range(length):
            (path / "_delta_log" / f"{0:020}.{n:020}.compacted.crc").touch()
        publish(broker, 1, 60)
        began = time.process_time()
        stream.write_delta(path, progress=False)
        cost.append(time.process_time() - began)
    # One listing of 20,000 names takes about as long as an epoch: 60 of them would be ten times the work.
    assert cost[1] < 4 * cost[0] + 0.5, cost
