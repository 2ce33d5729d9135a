"""A broker in memory that is gone cannot come back: nothing waits for it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import threading
import time
import uuid

import bayou
import pytest

GONE = "embedded broker .* is gone. It was in memory and cannot come back"


def helper_of(name: str) -> int:
    """The process that holds the broker of that name."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            arguments = (process / "cmdline").read_bytes().split(b"\0")
            if any(a.endswith(f"/{name}".encode()) for a in arguments):
                return int(process.name)
    raise AssertionError(f"no helper of {name}")


def wait_for(what: str, is_so, seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def test_whatever_reads_from_a_broker_that_is_killed_ends_and_says_that_it_cannot_come_back(
    tmp_path: pathlib.Path,
) -> None:
    name = f"gone-{uuid.uuid4().hex[:8]}"
    kafka = bayou.connect(name=name)
    kafka.create_topic("t")
    kafka.produce("t", [{"a": 1}], progress=False)
    scratch = pathlib.Path(kafka.scratch_dir)
    stream = kafka.read_stream("t", schema="a INT")
    live = stream.write_delta(tmp_path / "t", trigger="0 seconds", block=False)
    in_scratch = stream.write_delta(scratch / "t", trigger="1 second", block=False)
    lake = bayou.Pipeline("lake", scratch / "lake")
    lake.table("t", stream)
    lake_query = lake.run(trigger="500 milliseconds", block=False)
    queries = [live, in_scratch, lake_query]
    for query in queries:
        wait_for("a first epoch", lambda query=query: query.last_progress is not None)
    raised: list[BaseException] = []

    def iterate() -> None:
        try:
            for batch in stream.batches(trigger="100 milliseconds"):
                raised.extend([] if batch.num_rows else [AssertionError("an empty batch")])
                begun.set()
        except bayou.ConnectionError as e:
            raised.append(e)

    begun = threading.Event()
    thread = threading.Thread(target=iterate)
    thread.start()
    assert begun.wait(10)

    os.kill(helper_of(name), signal.SIGKILL)
    killed = time.monotonic()
    for query in queries:
        with pytest.raises(bayou.ConnectionError, match=GONE):
            query.await_termination(10)
        assert not query.is_active and query.status == "failed"
    thread.join(10)
    assert not thread.is_alive()
    [error] = raised
    assert isinstance(error, bayou.ConnectionError) and "cannot come back" in str(error)
    assert time.monotonic() - killed < 5
    wait_for("the scratch directory is removed", lambda: not scratch.exists())

    # The message of a new run, and its advice.
    with pytest.raises(bayou.ConnectionError, match=GONE):
        stream.collect()
    again = bayou.connect(name=name)
    assert len(again.topics()) == 0 and pathlib.Path(again.scratch_dir) != scratch
    assert bayou.read_delta(tmp_path / "t").column("a") == [1], "what is written elsewhere stays"


def test_a_broker_that_is_busy_is_not_taken_for_one_that_is_gone(tmp_path: pathlib.Path) -> None:
    name = f"busy-{uuid.uuid4().hex[:8]}"
    kafka = bayou.connect(name=name)
    kafka.create_topic("t")
    kafka.produce("t", [{"a": 1}], progress=False)
    query = kafka.read_stream("t", schema="a INT").write_delta(tmp_path / "t", trigger="0 seconds", block=False)
    wait_for("a first epoch", lambda: query.last_progress is not None)
    helper = helper_of(name)
    os.kill(helper, signal.SIGSTOP)
    try:
        time.sleep(2)  # as long as a laptop's lid is closed
        assert query.is_active
    finally:
        os.kill(helper, signal.SIGCONT)
    kafka.produce("t", [{"a": 2}], progress=False)
    wait_for("the second row", lambda: len(bayou.read_delta(tmp_path / "t")) == 2, 20)
    query.stop()
