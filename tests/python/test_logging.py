"""Logs that speak: Rust's log in Python's logging, tracebacks of users' functions, errors with their facts as attributes."""

from __future__ import annotations

import logging
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

import bayou
import pytest


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


def fails_here(rows: object, *_: object) -> object:
    raise KeyError("the line that fails")


def test_rusts_log_reaches_pythons_loggers_by_their_levels(
    broker: bayou.Connection, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"n": 1}])
    stream = broker.read_stream("t", schema="n INT")
    stream.write_delta(tmp_path / "quiet", progress=False)
    assert not [r for r in caplog.records if r.levelno < logging.WARNING and r.name.startswith("bayou.run")]
    with caplog.at_level(logging.DEBUG, "bayou"):
        time.sleep(0.15)  # the levels are asked for ten times a second at most
        stream.write_delta(tmp_path / "loud", progress=False)
        until(lambda: any(r.name == "bayou.run" and "committed" in r.getMessage() for r in caplog.records))
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "bayou.run"):
        time.sleep(0.15)
        stream.write_delta(tmp_path / "run", progress=False)
        until(lambda: any(r.name == "bayou.run" for r in caplog.records))


def test_a_failing_functions_traceback_and_class_are_the_users_own_everywhere(
    broker: bayou.Connection, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"n": 1, "ts": "2026-01-01T00:00:00Z"}, {"n": 2, "ts": "2026-01-01T01:00:00Z"}])
    stream = broker.read_stream("t", schema="n INT, ts TIMESTAMP", on_malformed="fail")
    windows = stream.with_watermark("ts", "1 second").group_by(bayou.window("ts", "1 minute"))
    spread = bayou.aggregate(fails_here, returns="INT")

    def endless() -> object:
        yield {"n": 1}
        fails_here(None)

    at = {"query_name": "each", "checkpoint_location": tmp_path / "each", "progress": False}
    places: dict[str, tuple[Callable[[], object], bool]] = {
        "foreach_batch": (lambda: stream.foreach_batch(fails_here, **at), True),  # type: ignore[arg-type]
        "map_batches": (lambda: stream.map_batches(fails_here, "n INT").collect(), False),
        "map_batches to a table": (
            lambda: stream.map_batches(fails_here, "n INT").write_delta(tmp_path / "map", progress=False),
            True,
        ),
        "aggregate": (lambda: windows.agg(x=spread).write_delta(tmp_path / "agg", progress=False), True),
        "produce": (lambda: broker.produce("t", endless(), progress=False), False),  # type: ignore[arg-type]
    }
    for place, (call, has_epoch) in places.items():
        with pytest.raises(bayou.FunctionError) as e:
            call()
        cause = e.value.__cause__
        assert isinstance(cause, KeyError), (place, cause)
        frames = []
        traceback = cause.__traceback__
        while traceback is not None:
            frames.append(traceback.tb_frame.f_code.co_name)
            traceback = traceback.tb_next
        assert "fails_here" in frames, (place, frames)
        assert (e.value.epoch == 0) == has_epoch and not e.value.retryable, (place, e.value.epoch)
    until(lambda: "in fails_here" in caplog.text)
    assert any(r.name == "bayou.functions" for r in caplog.records)


def test_a_function_that_calls_bayou_and_fails_is_not_taken_for_bad_rows(tmp_path: pathlib.Path) -> None:
    def looks_up(rows: object) -> object:
        return bayou.read_delta(tmp_path / "nothing")

    with pytest.raises(bayou.FunctionError, match="there is no Delta table here") as e:
        bayou.from_batches({"n": [1]}).map_batches(looks_up, "n INT").collect()
    assert isinstance(e.value.__cause__, bayou.StorageError)
    with pytest.raises(bayou.MalformedError, match="returned None"):
        bayou.from_batches({"n": [1]}).map_batches(lambda rows: None, "n INT").collect()


def test_rows_that_a_function_refuses_go_to_quarantine_and_the_log_has_the_traceback(
    broker: bayou.Connection, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"n": n} for n in range(10)])

    def picky(rows):  # type: ignore[no-untyped-def]
        if 3 in rows["n"]:
            raise ValueError("three is not allowed")
        return rows

    stream = broker.read_stream("t", schema="n INT").map_batches(picky, "n INT", input="bayou")
    stream.write_delta(tmp_path / "t", progress=False)
    kept = bayou.read_delta(tmp_path / "t_quarantine")
    assert len(kept) == 1 and "three is not allowed" in kept.row(0)["error"]
    until(lambda: "in picky" in caplog.text)


def test_errors_carry_what_they_know(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t", partitions=2)
    broker.produce("t", [{"n": 1}, {"n": 2}, {"n": 1.5}], partition=1)
    stream = broker.read_stream("t", schema="n INT", on_malformed="fail")
    with pytest.raises(bayou.MalformedError) as e:
        stream.write_delta(tmp_path / "t", progress=False)
    known = e.value
    assert (known.topic, known.partition, known.offset, known.field, known.epoch) == ("t", 1, 2, "n", 0)
    assert not known.retryable and tuple(known.ranges) == ()
    with pytest.raises(bayou.ExpectationError) as f:
        good = broker.read_stream("t", schema="n DOUBLE").expect_or_fail("small", "n < 2")
        good.write_delta(tmp_path / "e", progress=False)
    assert (f.value.topic, f.value.partition, f.value.offset) == ("t", 1, 1)
    with pytest.raises(bayou.TopicError) as g:
        broker.read_stream("nowhere", schema="n INT")
    assert g.value.topic == "nowhere" and g.value.offset is None
    with pytest.raises(bayou.StorageError) as h:
        bayou.read_delta(tmp_path / "nothing")
    assert "nothing" in (h.value.table or "") and not h.value.retryable
    with pytest.raises(bayou.ConnectionError) as c:
        bayou.connect("127.0.0.1:1")
    assert c.value.retryable
    with pytest.raises(bayou.ConfigError) as d:
        bayou.connect(None)
    assert (d.value.topic, d.value.table, d.value.epoch, d.value.retryable) == (None, None, None, False)


def test_the_log_of_the_last_moments_is_not_lost_at_exit(tmp_path: pathlib.Path) -> None:
    script = f"""
import bayou, logging
logging.basicConfig(level=logging.DEBUG)
with bayou.testing.broker() as kafka:
    kafka.create_topic("t")
    kafka.produce("t", [{{"n": 1}}])
    kafka.read_stream("t", schema="n INT").write_delta({str(tmp_path / "t")!r}, progress=False)
"""
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stderr
    assert "DEBUG:bayou.run:epoch 0 committed" in shown, shown[-2000:]
