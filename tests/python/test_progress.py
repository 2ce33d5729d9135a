"""Reports of a query about its work: progress as in Spark, listeners, Prometheus, OpenTelemetry, alerts."""

from __future__ import annotations

import json
import logging
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

import bayou
import pytest


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


def test_progress_of_an_interval_run_has_sparks_meanings(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t", partitions=2)
    raw = (
        broker.read_stream("t", schema="n INT, ts TIMESTAMP").expect("small", "n < 5").with_watermark("ts", "1 second")
    )
    query = raw.named("clean").write_delta(tmp_path / "t", trigger="1 second", block=False, progress=False)
    for round in range(3):
        times = [f"2026-01-01T00:00:0{round}Z", f"2026-01-01T00:00:0{round + 2}Z"]
        broker.produce("t", [{"n": n, "ts": times[n % 2]} for n in range(10)])
        until(lambda round=round: sum(p["numInputRows"] for p in query.recent_progress) == 10 * (round + 1))  # type: ignore[misc]
    query.stop()
    assert query.recent_progress
    for progress in query.recent_progress:
        source = progress["sources"][0]
        for topic, offsets in source["endOffset"].items():
            for partition, end in offsets.items():
                assert source["latestOffset"][topic][partition] >= end
        durations = progress["durationMs"]
        # The wait for the trigger is not work: Spark's triggerExecution does not have it.
        assert durations["triggerExecution"] < 900 and progress["waitMs"] > 0, progress
        assert sum(v for k, v in durations.items() if k != "triggerExecution") <= durations["triggerExecution"] + 50
        if progress["numInputRows"]:
            assert progress["processedRowsPerSecond"] > progress["inputRowsPerSecond"] > 0
        assert source["processedRowsPerSecond"] == progress["processedRowsPerSecond"]
        assert (
            source["metrics"]
            == {
                "avgOffsetsBehindLatest": "0",
                "maxOffsetsBehindLatest": "0",
                "minOffsetsBehindLatest": "0",
            }
            or source["lag"] > 0
        )
        assert progress["sink"]["metrics"]["numOutputRows"] == str(progress["sink"]["numOutputRows"])
        low, middle, high = (progress["eventTime"][k] for k in ("min", "avg", "max"))
        assert low <= middle <= high
    first = query.recent_progress[0]
    if first["numInputRows"] == 10:
        assert first["eventTime"]["avg"].startswith("2026-01-01T00:00:01")
    observed = [p["observedMetrics"]["clean"]["small"] for p in query.recent_progress if p["numInputRows"]]
    assert sum(o["failedRecords"] for o in observed) == 15 and sum(o["passedRecords"] for o in observed) == 15


def test_listeners_see_every_epoch_before_a_run_returns(
    broker: bayou.Connection, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"n": n} for n in range(100)])
    seen: list[dict[str, Any]] = []
    threads = set()

    def listener(progress: dict[str, Any]) -> None:
        threads.add(threading.get_ident())
        seen.append(progress)

    def broken(progress: dict[str, Any]) -> None:
        raise KeyError("mine")

    stops = [bayou.on_progress(broken), bayou.on_progress(listener)]
    stream = broker.read_stream("t", schema="n INT", max_offsets_per_trigger=10)
    with caplog.at_level(logging.WARNING, "bayou"):
        query = stream.write_delta(tmp_path / "a", progress=False)
        until(lambda: "KeyError: 'mine'" in caplog.text)
    assert [p["batchId"] for p in seen] == [p["batchId"] for p in query.recent_progress] and len(seen) >= 10
    assert threading.get_ident() not in threads
    last = query.last_progress
    assert last is not None and int(last["sink"]["metrics"]["numFiles"]) == 1
    # A listener gets an epoch when it is sealed. The metrics of its commit are added to `last_progress` afterwards.
    for sink in (last["sink"], *last["sinks"]):
        sink["metrics"] = {k: v for k, v in sink["metrics"].items() if k in ("mode", "numOutputRows")}
    assert seen[-1] == last
    for stop in stops:
        stop()
        stop()  # a second time is nothing
    stream.write_delta(tmp_path / "b", progress=False)
    assert len(seen) == len(query.recent_progress)
    with pytest.raises(bayou.ConfigError, match="function"):
        bayou.on_progress("print")  # type: ignore[arg-type]


def parsed(text: str) -> dict[str, float]:
    """A plain reader of Prometheus' text format."""
    out: dict[str, float] = {}
    families: set[str] = set()
    for line in text.splitlines():
        if line.startswith("# TYPE"):
            name, kind = line.split()[2:]
            assert name not in families and kind in ("counter", "gauge")
            families.add(name)
        elif not line.startswith("#"):
            key, value = line.rsplit(" ", 1)
            assert key.split("{")[0] in families and key not in out
            out[key] = float(value)
    assert text.endswith("\n")
    return out


def test_metrics_are_prometheus_text(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t", partitions=2)
    broker.produce("t", [{"n": n} for n in range(50)])
    stream = broker.read_stream("t", schema="n INT").expect_or_drop('has "quotes"\\', "n < 40").named("clean")
    query = stream.write_delta(tmp_path / "t", query_name="q", progress=False)
    found = parsed(query.metrics())
    labels = f'query="q",run_id="{query.run_id}"'
    assert found[f"bayou_query_input_rows_total{{{labels}}}"] == 50
    assert found[f"bayou_query_up{{{labels}}}"] == 0 and found[f"bayou_query_failed{{{labels}}}"] == 0
    rule = 'dataset="clean",rule="has \\"quotes\\"\\\\",action="drop"'
    assert found[f"bayou_query_rule_failed_total{{{labels},{rule}}}"] == 10
    assert found[f"bayou_query_rule_passed_total{{{labels},{rule}}}"] == 40
    assert found[f'bayou_query_table_rows_total{{{labels},table="t"}}'] == 40
    offsets = [v for k, v in found.items() if k.startswith("bayou_query_offset{")]
    ends = [v for k, v in found.items() if k.startswith("bayou_query_latest_offset{")]
    assert sum(offsets) == 50 == sum(ends)


def test_series_of_several_stateful_steps_are_told_apart(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"n": n, "ts": f"2026-01-01T00:{n:02}:00Z"} for n in range(20)])
    timed = broker.read_stream("t", schema="n INT, ts TIMESTAMP").with_watermark("ts", "1 minute")
    once = timed.drop_duplicates(["n"], within="1 minute").group_by(bayou.window("ts", "5 minutes")).count()
    found = parsed(once.write_delta(tmp_path / "t", progress=False).metrics())
    assert len([k for k in found if k.startswith("bayou_query_state_rows{")]) == 2


def test_opentelemetry_gets_the_progress_if_it_is_installed(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    recorded: list[tuple[str, float]] = []

    class Instrument:
        def __init__(self, name: str) -> None:
            self.name = name

        def add(self, value: float, attributes: dict[str, str]) -> None:
            assert attributes == {"query": "q"}
            recorded.append((self.name, value))

        record = set = add

    class Meter:
        def __getattr__(self, name: str) -> Callable[..., Instrument]:
            return lambda name, **_: Instrument(name)

    try:
        import opentelemetry  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="opentelemetry-api"):
            bayou.opentelemetry()
        return
    broker.create_topic("t")
    broker.produce("t", [{"n": 1}] * 5)
    stop = bayou.opentelemetry(Meter())
    broker.read_stream("t", schema="n INT").write_delta(tmp_path / "t", query_name="q", progress=False)
    stop()
    assert sum(v for n, v in recorded if n == "bayou.input_rows") == 5
    assert any(n == "bayou.epoch.duration" and v > 0 for n, v in recorded)


def lake_of(broker: bayou.Connection, root: pathlib.Path) -> bayou.Pipeline:
    lake = bayou.Pipeline("watched", root)
    lake.table("t", broker.read_stream("t", schema="n INT"))
    return lake


def test_an_alert_is_told_once_and_again_after_it_was_gone(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t")
    told: list[list[dict[str, Any]]] = []
    query = "SELECT max(n) AS n FROM t HAVING max(n) > 10 AND count(*) % 2 = 1"

    def run(*values: int) -> None:
        # A new Pipeline object, as in a new kernel: the state of the alerts is in the checkpoint.
        broker.produce("t", [{"n": v} for v in values])
        lake = lake_of(broker, tmp_path)
        lake.alert("n is high", query, then=lambda rows: told.append(rows.to_dicts()))
        lake.run(progress=False)

    run(1, 2, 3)
    assert told == []
    run(20, 21)
    assert told == [[{"n": 21}]]
    run(22, 23)
    assert told == [[{"n": 21}]], "rows that stay are not told again"
    run(24)
    run(25)
    assert told == [[{"n": 21}], [{"n": 25}]], "rows that were gone are told again"
    state = json.loads((tmp_path / "_bayou" / "watched" / "alerts" / "n%20is%20high.json").read_text())
    assert state == {"formatVersion": 1, "firing": True}


def test_an_alert_whose_function_fails_is_a_warning_and_is_tried_again(
    broker: bayou.Connection, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"n": 1}])
    calls: list[int] = []

    def then(rows: bayou.Table) -> None:
        calls.append(len(rows))
        if len(calls) == 1:
            raise OSError("the mail server is away")

    for _ in range(3):
        lake = lake_of(broker, tmp_path)
        lake.alert("any", "SELECT n FROM t", then=then)
        assert lake.run(progress=False).status == "finished"
    assert calls == [1, 1] and "the mail server is away" in caplog.text


def test_an_alert_by_the_clock_is_told_although_nothing_comes(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"n": 1}])
    told: list[int] = []
    seen = threading.Event()
    lake = lake_of(broker, tmp_path)
    # The condition depends on the clock of the call only, so no epoch makes it true.
    lake.alert(
        "silence",
        f"SELECT count(*) AS n FROM t HAVING unix_timestamp() >= {int(time.time()) + 3}",
        every="1 second",
        then=lambda rows: (told.append(rows.row(0)["n"]), seen.set()),
    )
    query = lake.run(trigger="1 second", block=False, progress=False)
    assert seen.wait(30)
    query.stop()
    assert told == [1] and query.recent_progress[-1]["batchId"] == 0
    names = lambda: [t.name for t in threading.enumerate() if t.name.startswith("bayou-alerts")]  # noqa: E731
    until(lambda: not names())


def test_an_alert_is_told_by_one_run_at_a_time_and_ends_with_its_run(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"n": 1}])
    told: list[int] = []

    def slow(rows: bayou.Table) -> None:
        told.append(len(rows))
        time.sleep(1.5)

    lake = lake_of(broker, tmp_path)
    lake.alert("any", "SELECT n FROM t", then=slow)
    first = lake.run(trigger="1 second", block=False, progress=False)
    until(lambda: told)
    # The cell again, while the function of the first run is at work.
    lake.run(progress=False)
    first.stop()
    with pytest.raises(TypeError):
        lake.run(clean_log="yes")  # type: ignore[arg-type]
    lake.run(progress=False)
    assert told == [1]
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("bayou-alerts")])


def test_an_alert_whose_note_cannot_be_written_is_not_told_again(
    broker: bayou.Connection, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.create_topic("t")
    told: list[int] = []
    lake = lake_of(broker, tmp_path)
    lake.alert("any", "SELECT n FROM t", then=lambda rows: told.append(len(rows)))
    real, failures = bayou._core._write_note, []

    def broken(*arguments: Any) -> None:
        failures.append(1)
        if len(failures) < 3:
            raise bayou.StorageError("the store is away")
        real(*arguments)

    monkeypatch.setattr(bayou._core, "_write_note", broken)
    query = lake.run(trigger="1 second", block=False, progress=False)
    for _ in range(4):
        seen = len(failures)
        broker.produce("t", [{"n": 1}])
        until(lambda seen=seen: len(failures) > seen or len(failures) >= 3)  # type: ignore[misc]
    query.stop()
    assert len(told) == 1 and len(failures) == 3


def test_a_run_within_a_listener_does_not_wait_for_itself(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"n": 1}])
    stream = broker.read_stream("t", schema="n INT")
    ran: list[float] = []

    def listener(progress: dict[str, Any]) -> None:
        if not ran:
            ran.append(0.0)
            began = time.monotonic()
            stream.write_delta(tmp_path / "inner", progress=False)
            ran[0] = time.monotonic() - began

    stop = bayou.on_progress(listener)
    stream.write_delta(tmp_path / "outer", progress=False)
    stop()
    assert 0 < ran[0] < 4


def test_wrong_alerts_are_refused_when_the_line_is_typed(tmp_path: pathlib.Path) -> None:
    lake = bayou.Pipeline("p", tmp_path)
    with pytest.raises(bayou.ConfigError, match="function"):
        lake.alert("a", "SELECT 1", then="mail")  # type: ignore[arg-type]
    with pytest.raises(bayou.ConfigError, match="SELECT"):
        lake.alert("a", " ", then=print)
    with pytest.raises(bayou.ConfigError, match="every"):
        lake.alert("a", "SELECT 1", then=print, every="soon")
