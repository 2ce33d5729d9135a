"""A disk that is full, a disk that loses writes that were not flushed, and files that are torn."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable

import bayou
import deltalake
import pytest
from lakes import NAME, check, define, publish

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "chaos"))

import powercut

HERE = pathlib.Path(__file__).parent


@pytest.mark.parametrize("limit", ["size", "inodes"])
def test_a_full_disk_is_a_typed_error_and_the_run_goes_on_when_there_is_space(
    address: str, topic: Callable[..., str], tmp_path: pathlib.Path, limit: str
) -> None:
    name = topic(1)
    publish(address, name, 0, 160)
    job = {"address": address, "topic": name, "messages": 160, "folder": str(tmp_path), "limit": limit}
    # A user who is not root gets a user namespace to mount in.
    apart = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--mount"]
    done = subprocess.run(
        [*apart, sys.executable, str(HERE / "full_disk.py"), json.dumps(job)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["errors"] == ["True"], found
    # A notebook shows the error, and no text about the clean-up after it.
    assert "panicked" not in done.stderr, done.stderr[:3000]
    assert found["runs"] > 8 and found["readable"] > 3, found


def test_a_disk_that_forgets_what_was_not_flushed_loses_nothing_that_was_acknowledged(
    address: str, topic: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    found = powercut.campaign(address, topic(1), tmp_path, seed=7, cuts=90)
    assert found.problems == []
    assert found.cuts == 90 and found.by_step["S"] > 10 and found.by_step["L"] > 2, found.by_step


@pytest.mark.parametrize("deaf", ["files", "directories"])
def test_a_disk_that_does_not_sync_is_found_out(
    address: str, topic: Callable[..., str], tmp_path: pathlib.Path, deaf: str
) -> None:
    """The test of the test above: without what the syncs promise it must fail."""
    found = powercut.campaign(address, topic(1), tmp_path, seed=7, cuts=40, deaf=deaf)
    assert len(found.problems) >= 5, found.problems


def newest(root: pathlib.Path, pattern: str) -> pathlib.Path:
    return max(root.glob(pattern), key=lambda p: (p.name, p.stat().st_mtime))


TORN = {
    "a table's newest commit": "rows/_delta_log/*.json",
    "the newest commit of a table that is merged": "by_k/_delta_log/*.json",
    "the newest commit of a complete table": "all/_delta_log/*.json",
    "the newest commit of the quarantine": f"{NAME}_quarantine/_delta_log/*.json",
    "a checkpoint of a table's log": "rows/_delta_log/*.checkpoint.parquet",
    "the newest seal": f"_bayou/{NAME}/1/epoch/*.json",
    "the newest done": f"_bayou/{NAME}/1/done/*.json",
    "the definition": f"_bayou/{NAME}/1/definition/*.json",
    "query.json": f"_bayou/{NAME}/1/query.json",
    "start.json": f"_bayou/{NAME}/1/start.json",
    "a state file": f"_bayou/{NAME}/1/state/*/*-increment-*.arrow",
}


def lake_of_100(address: str, kafka: bayou.Connection, name: str, root: pathlib.Path) -> None:
    """A log with a checkpoint, and commits beyond it."""
    for start, end in ((0, 50), (50, 100)):
        publish(address, name, start, end)
        define(kafka, name, str(root), 30, None).run(progress=False)
        if end == 50:
            deltalake.DeltaTable(str(root / "rows")).create_checkpoint()
    check(root, 100)


def test_a_torn_or_empty_file_is_detected_and_named(
    address: str, kafka: bayou.Connection, topic: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    name, root = topic(1), tmp_path / "lake"
    lake_of_100(address, kafka, name, root)
    publish(address, name, 100, 120)
    for what, pattern in TORN.items():
        whole = newest(root, pattern).read_bytes()
        for torn in (b"", whole[: len(whole) // 2], bytes(len(whole)), whole[:-3]):
            if torn == whole[:-3] and pattern.endswith(".json") and "_delta_log" in pattern:
                continue  # a commit without its last brace and newline: cut in half says as much
            newest(root, pattern).write_bytes(torn)
            case = f"{what}, {len(torn)} of {len(whole)} bytes"
            with pytest.raises(bayou.BayouError) as caught:
                define(kafka, name, str(root), 30, None).run(progress=False)
                pytest.fail(f"{case}: nothing was noticed")
            assert isinstance(caught.value, (bayou.StorageError, bayou.DataLossError)), (case, caught.value)
            table_or_file = pattern.split("/_delta_log")[0] if "_delta_log" in pattern else newest(root, pattern).name
            assert table_or_file in str(caught.value), (case, str(caught.value))
            assert "full_refresh" in str(caught.value), (case, str(caught.value))
            # When the file is back, the query continues as if nothing had happened.
            newest(root, pattern).write_bytes(whole)
    define(kafka, name, str(root), 30, None).run(progress=False)
    check(root, 120)


def test_a_missing_file_is_named_or_made_good(
    address: str, kafka: bayou.Connection, topic: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    name, root, count = topic(1), tmp_path / "lake", 100
    lake_of_100(address, kafka, name, root)
    made_good = set()
    for what, pattern in TORN.items():
        publish(address, name, count, count + 20)
        count += 20
        file = newest(root, pattern)
        whole = file.read_bytes()
        file.unlink()
        try:
            define(kafka, name, str(root), 30, None).run(progress=False)
        except bayou.BayouError as e:
            said = str(e)
            assert isinstance(e, (bayou.StorageError, bayou.DataLossError, bayou.ConfigError)), (what, said)
            place = pattern.split("/_delta_log")[0] if "_delta_log" in pattern else f"_bayou/{NAME}"
            assert place in said and "full_refresh" in said, (what, said)
            file.write_bytes(whole)
            define(kafka, name, str(root), 30, None).run(progress=False)
        else:
            made_good.add(what)
        check(root, count)
    assert made_good == {"the newest done", "start.json"}
    # A checkpoint of the log describes the table, so the older commits are not needed.
    publish(address, name, count, count + 20)
    deltalake.DeltaTable(str(root / "rows")).create_checkpoint()
    file = newest(root, TORN["a table's newest commit"])
    whole = file.read_bytes()
    file.unlink()
    define(kafka, name, str(root), 30, None).run(progress=False)
    # The test's own reader reads only commits.
    file.write_bytes(whole)
    check(root, count + 20)


def test_a_torn_commit_of_an_epoch_that_is_not_done_is_committed_again(
    address: str, kafka: bayou.Connection, topic: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    """As a store leaves it that put the name before the content: the epoch's commit is there and empty."""
    name = topic(1)
    publish(address, name, 0, 100)
    root = tmp_path / "lake"
    define(kafka, name, str(root), 30, None).run(progress=False)
    newest(root, f"_bayou/{NAME}/1/done/*.json").unlink()
    for table in ("rows", f"{NAME}_quarantine"):
        newest(root, f"{table}/_delta_log/*.json").write_bytes(b"")
    define(kafka, name, str(root), 30, None).run(progress=False)
    check(root, 100)
