"""Windows against an oracle in plain Python: it reads the sealed epochs in their documented format and applies the definitions."""

from __future__ import annotations

import json
import pathlib
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import bayou
import confluent_kafka
import pytest
from delta_replay import rows

NOW = datetime.now(timezone.utc).replace(microsecond=0)
DELAY = 5
IDLE = 60


def us(t: datetime) -> int:
    return round(t.timestamp()) * 1_000_000 + t.microsecond


def seals(root: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted(root.glob("_bayou/*/*/epoch/*.json"))]


def oracle(
    messages: dict[tuple[int, int], dict[str, Any]],
    epochs: list[dict[str, Any]],
    size: int,
    slide: int,
    topic: str,
    one_epoch_a_run: bool,
) -> tuple[dict[Any, Any], list[tuple[int, int]]]:
    """Rows of the windowed table, and places of the late messages, from the sealed ranges alone."""
    partitions = {r["partition"] for r in epochs[0]["ranges"]}
    highest: dict[int, int | None] = dict.fromkeys(partitions)
    watermark: int | None = None
    open_: dict[tuple[int, Any], list[int]] = {}
    emitted: dict[Any, Any] = {}
    late: list[tuple[int, int]] = []
    for seal in epochs:
        for r in seal["ranges"]:
            for offset in range(r["from"], r["until"]):
                m = messages[r["partition"], offset]
                time = m["us"]
                starts = (
                    []
                    if time is None
                    else [s for s in range(time - time % slide, time - size, -slide) if s + size > time]
                )
                alive = [s for s in starts if watermark is None or s + size > watermark]
                if not alive:
                    late.append((r["partition"], offset))
                for s in alive:
                    open_.setdefault((s, m["model"]), []).append(m["n"])
                if time is not None and time <= seal["began"] + 3_600_000_000:
                    highest[r["partition"]] = max(highest[r["partition"]] or time, time)
        [state] = seal["watermarks"].values()
        # Whether a partition is idle is sealed. Where an epoch is a whole run, every partition is caught up, and silence is
        # measured from its last record's timestamp.
        idle = {p: state["partitions"][f"{topic}[{p}]"]["idle"] for p in partitions}
        if one_epoch_a_run:
            for r in seal["ranges"]:
                last = r["lastTimestamp"]
                silent = last is None or seal["clock"] - min(last, seal["clock"]) >= IDLE * 1_000_000
                assert idle[r["partition"]] == silent, f"epoch {seal['epoch']}: idleness of partition {r['partition']}"
        awake = [highest[p] for p in partitions if not idle[p]]
        if awake:
            candidate = None if None in awake else min(awake)
        else:
            seen = [h for h in highest.values() if h is not None]
            candidate = max(seen) if seen else None
        if candidate is not None:
            candidate -= DELAY * 1_000_000
            watermark = candidate if watermark is None else max(watermark, candidate)
        assert state["watermark"] == watermark, f"epoch {seal['epoch']}"
        if watermark is not None:
            for start, model in [k for k in open_ if k[0] + size <= watermark]:
                ns = open_.pop((start, model))
                assert (start, model) not in emitted, "a window is emitted once"
                emitted[start, model] = (len(ns), sum(ns))
    return emitted, late


def publish(
    address: str, topic: str, rng: random.Random, count: int, partitions: int, first: int, silent: set[int]
) -> dict[tuple[int, int], dict[str, Any]]:
    """Disorder, late rows, bad clocks, NULL times; some partitions stay silent; record timestamps in the past make partitions idle."""
    producer = confluent_kafka.Producer({"bootstrap.servers": address})
    placed: dict[tuple[int, int], dict[str, Any]] = {}
    for n in range(first, first + count):
        when = NOW - timedelta(hours=2) + timedelta(seconds=n) - timedelta(seconds=rng.randrange(8))
        if rng.random() < 0.05:
            when -= timedelta(seconds=rng.randrange(300))
        if rng.random() < 0.01:
            when = NOW + timedelta(days=400)
        partition = rng.choice([p for p in range(partitions) if p not in silent])
        time = None if rng.random() < 0.02 else when.strftime("%Y-%m-%dT%H:%M:%SZ")
        model = rng.choice(["a", "b", None])
        value = {"n": n, "time": time, "model": model}
        row = {"us": None if time is None else us(when), "model": model, "n": n}

        def delivered(
            error: Any,
            message: Any,
            row: dict[str, Any] = row,
        ) -> None:
            assert error is None
            placed[message.partition(), message.offset()] = row

        stamp = NOW - timedelta(seconds=rng.choice([5, 3000]))
        producer.produce(
            topic,
            json.dumps(value).encode(),
            partition=partition,
            timestamp=round(stamp.timestamp() * 1000),
            on_delivery=delivered,
        )
    producer.flush(30)
    return placed


@pytest.mark.parametrize("seed", range(16))
def test_windows_equal_the_oracle_over_random_streams_epochs_and_runs(
    address: str, kafka: bayou.Connection, topic: Callable[..., str], tmp_path: pathlib.Path, seed: int
) -> None:
    rng = random.Random(seed)
    partitions = rng.randrange(1, 4)
    silent = {p for p in range(partitions - 1) if rng.random() < 0.4}
    name = topic(partitions)
    size, slide = rng.choice([(60, 60), (60, 60), (60, 20), (90, 30)])
    one_epoch_a_run = seed % 2 == 0
    cut = 10_000 if one_epoch_a_run else rng.randrange(20, 200)
    messages: dict[tuple[int, int], dict[str, Any]] = {}
    counted: list[list[dict[str, Any]]] = []
    for run in range(3):
        messages |= publish(address, name, rng, rng.randrange(50, 400), partitions, run * 400, silent)
        raw = kafka.read_stream(name, schema="n BIGINT, time TIMESTAMP, model STRING", max_offsets_per_trigger=cut)
        windows = raw.with_watermark("time", f"{DELAY} seconds", idle_timeout=f"{IDLE} seconds").group_by(
            bayou.window("time", f"{size} seconds", slide=f"{slide} seconds"), "model"
        )
        query = windows.agg("count(*) AS n", "sum(n) AS total").write_delta(str(tmp_path / "w"), progress=False)
        counted.append([p["stateOperators"][0]["numRowsDroppedByWatermark"] for p in query.recent_progress])
    want, late = oracle(messages, seals(tmp_path / "w"), size * 1_000_000, slide * 1_000_000, name, one_epoch_a_run)
    got = {(us(r["window_start"]), r["model"]): (r["n"], r["total"]) for r in rows(tmp_path / "w")}
    assert got == want
    assert all(us(r["window_end"]) - us(r["window_start"]) == size * 1_000_000 for r in rows(tmp_path / "w"))
    aside = rows(tmp_path / "w_quarantine") if (tmp_path / "w_quarantine").exists() else []
    assert sorted((r["partition"], r["offset"]) for r in aside) == sorted(late)
    assert sum(map(sum, counted)) == len(late)


def test_complete_mode_keeps_every_row_and_close_windows_emits_what_is_open(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    start = datetime(2024, 1, 1, tzinfo=timezone.utc)
    broker.produce("t", [{"time": start + timedelta(seconds=s)} for s in (0, 70, 10, 200, 5)], progress=False)
    raw = broker.read_stream("t", schema="time TIMESTAMP").with_watermark("time", "0 seconds")
    counts = raw.group_by(bayou.window("time", "1 minute")).agg("count(*) AS n")
    assert [
        r["n"] for r in sorted(counts.collect(output_mode="complete").to_dicts(), key=lambda r: r["window_start"])
    ] == [3, 1, 1]
    assert [r["n"] for r in counts.collect().to_dicts()] == [3, 1]
    assert [r["n"] for r in counts.collect(close_windows=True).to_dicts()] == [3, 1, 1]
    query = counts.write_delta(str(tmp_path / "w"), progress=False)
    assert any("1 window is still open" in note for note in query.notes)
    counts.write_delta(str(tmp_path / "w"), progress=False, close_windows=True)
    broker.produce("t", [{"time": start + timedelta(seconds=210)}], progress=False)
    counts.write_delta(str(tmp_path / "w"), progress=False)
    assert sorted(r["n"] for r in rows(tmp_path / "w")) == [1, 1, 3]
    assert [r["stage"] for r in rows(tmp_path / "w_quarantine")] == ["late"]


def test_a_complete_table_is_rewritten_only_when_its_groups_changed(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    start = datetime(2024, 1, 1, tzinfo=timezone.utc)
    broker.produce("t", [{"time": start + timedelta(seconds=s)} for s in (0, 70, 200)], progress=False)
    counts = (
        broker.read_stream("t", schema="time TIMESTAMP")
        .with_watermark("time", "0 seconds")
        .group_by(bayou.window("time", "1 minute"))
    )
    for _ in range(2):
        query = counts.agg("count(*) AS n").write_delta(str(tmp_path / "w"), output_mode="complete", progress=False)
    assert query.last_progress is None
    assert len(list((tmp_path / "w/_delta_log").glob("*.json"))) == 2, "made, and written once"
    assert sorted(r["n"] for r in rows(tmp_path / "w")) == [1, 1, 1]


def test_a_watermark_waits_for_the_partitions_of_its_own_topics_only(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    start = datetime.now(timezone.utc) - timedelta(minutes=30)
    streams = []
    for topic in ("one", "two"):
        broker.create_topic(topic)
        broker.produce(topic, [{"time": start + timedelta(seconds=s)} for s in range(0, 300, 20)], progress=False)
        raw = broker.read_stream(topic, schema="time TIMESTAMP")
        streams.append(raw.with_watermark("time", "0 seconds"))
    lake = bayou.Pipeline("p", str(tmp_path))
    for topic, stream in zip(("one", "two"), streams, strict=True):
        lake.table(topic, stream.group_by(bayou.window("time", "1 minute")).agg("count(*) AS n"))
    lake.table("both", streams[0].union(streams[1]).group_by(bayou.window("time", "1 minute")).agg("count(*) AS n"))
    lake.run(progress=False)
    one, both = rows(tmp_path / "one"), rows(tmp_path / "both")
    assert len(one) >= 4 and len(rows(tmp_path / "two")) == len(one) == len(both)
    assert sorted(r["n"] * 2 for r in one) == sorted(r["n"] for r in both)


def test_state_follows_its_aggregation_when_tables_change_places(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    totals = broker.read_stream("t", schema="a INT").group_by().agg("sum(a) AS total")
    for names in (["x", "y"], ["y", "x"], ["y"]):
        broker.produce("t", [{"a": 1}, {"a": 2}], progress=False)
        lake = bayou.Pipeline("p", str(tmp_path))
        for name in names:
            lake.table(name, totals)
        lake.run(progress=False)
    assert [r["total"] for r in rows(tmp_path / "y")] == [9]
    other = bayou.Pipeline("p", str(tmp_path))
    other.table("y", broker.read_stream("t", schema="a INT").group_by().agg("max(CAST(a AS BIGINT)) AS total"))
    with pytest.raises(bayou.ConfigError, match="cannot be carried over"):
        other.run(progress=False)
    with pytest.raises(bayou.ConfigError, match="union"):
        totals.union(totals)


def test_an_input_that_is_empty_or_quiet_holds_neither_a_union_nor_a_join(
    address: str, kafka: bayou.Connection, topic: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    busy, empty, quiet = topic(1), topic(1), topic(1)
    now = datetime.now(timezone.utc)
    kafka.produce(busy, [{"time": now - timedelta(minutes=60 - i), "k": i} for i in range(60)], progress=False)
    long_ago = now - timedelta(days=3)
    kafka.produce(quiet, [{"time": long_ago, "k": -1, "at": long_ago}], timestamp="at", progress=False)

    def stream(*topics: str) -> bayou.Stream:
        made = kafka.read_stream(list(topics), schema="time TIMESTAMP, k INT")
        return made.with_watermark("time", "1 second", idle_timeout="1 second")

    def windows(s: bayou.Stream) -> int:
        return len(s.group_by(bayou.window("time", "10 minutes")).count().collect())

    for other in (empty, quiet):
        wanted = windows(stream(busy, other))
        assert wanted >= 5
        assert windows(stream(busy).union(stream(other))) == wanted
        assert windows(stream(other).union(stream(busy))) == wanted
        joined = stream(busy).join(stream(other), on="k", how="left", within="1 minute")
        assert 40 <= len(joined.collect()) < 60, "unmatched rows are handed out as the busy side goes on"
        query = joined.write_delta(tmp_path / f"join-{other}", progress=False)
        assert any("keeps" in n and "nothing has matched yet" in n for n in query.notes), query.notes
    # When an idle input gets messages again, the watermark does not go back, also after a restart: these messages are late.
    lake = bayou.Pipeline("p", tmp_path / "lake")
    union = stream(busy).union(stream(empty)).group_by(bayou.window("time", "10 minutes")).agg("count(*) AS n")
    lake.table("w", union)
    lake.run(progress=False)
    first = lake.read("w").to_dicts()
    kafka.produce(empty, [{"time": now - timedelta(minutes=55), "k": 1}], progress=False)
    for _ in range(2):
        lake.run(progress=False)
    later = lake.read("w").to_dicts()
    assert sorted(str(r) for r in later) == sorted({str(r) for r in later}), "no window is handed out twice"
    assert all(r in later for r in first)
    assert lake.read("p_quarantine").to_dicts()[0]["stage"] == "late"


def test_the_last_windows_of_a_silent_topic_wait_or_close_by_the_clock_as_told(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    now = datetime.now(timezone.utc)
    broker.produce("t", [{"time": now - timedelta(minutes=10)}], progress=False)
    raw = broker.read_stream("t", schema="time TIMESTAMP")
    for on_idle, closed in (("hold", 0), ("advance", 1)):
        timed = raw.with_watermark("time", "1 second", idle_timeout="1 second", on_idle=on_idle)
        counts = timed.group_by(bayou.window("time", "1 minute")).agg("count(*) AS n")
        query = counts.write_delta(tmp_path / on_idle, trigger="0.2 seconds", block=False, progress=False)
        try:
            deadline = time.monotonic() + (60 if closed else 4)
            while time.monotonic() < deadline and len(bayou.read_delta(tmp_path / on_idle)) < 1:
                time.sleep(0.1)
            assert len(bayou.read_delta(tmp_path / on_idle)) == closed
        finally:
            query.stop()
        listed = counts.write_delta(tmp_path / on_idle, progress=False).open_windows().to_dicts()
        assert len(listed) == 1 - closed
        if listed:
            assert 'on_idle="hold" waits for one' in listed[0]["closes"] and "silence there" not in listed[0]["closes"]
    with pytest.raises(bayou.ConfigError, match='"hold" or "advance"'):
        raw.with_watermark("time", "1 second", on_idle="wait")


@pytest.mark.parametrize("mode", ["append", "update", "complete", "session"])
def test_a_group_whose_result_cannot_be_computed_goes_to_quarantine_and_the_others_go_on(
    broker: bayou.Connection, tmp_path: pathlib.Path, mode: str
) -> None:
    broker.create_topic("t")
    start = datetime(2024, 1, 1, tzinfo=timezone.utc)

    def send(*rows: tuple[int, int, int]) -> None:
        made = [{"time": start + timedelta(seconds=s), "ok": ok, "total": total, "k": "x"} for s, ok, total in rows]
        broker.produce("t", made, progress=False)

    big = 9223372036854775807
    send((0, 1, 2), (60, 0, 0), (120, 3, 4), (180, big, 1), (181, big, 1), (500, 0, 1))
    raw = broker.read_stream("t", schema="time TIMESTAMP, ok BIGINT, total INT, k STRING")
    timed = raw.with_watermark("time", "0 seconds")
    window = bayou.session_window("time", "10 seconds") if mode == "session" else bayou.window("time", "1 minute")
    rate = timed.group_by(window, "k").agg("sum(ok) / sum(total) AS rate", "sum(ok) AS ok")
    by_python = timed.group_by(window, "k").agg(
        n=bayou.aggregate(lambda rows: 1 // sum(rows.column("total").to_pylist()), returns="INT")
    )
    lake = bayou.Pipeline("p", tmp_path)
    lake.table("raw", raw)
    output = "append" if mode == "session" else mode
    lake.table("rate", rate, output_mode=output)
    if output == "append":
        lake.table("python", by_python)
    for _ in range(2):
        lake.run(progress=False)
    assert len(lake.read("raw")) == 6
    ends = {"append": [0.5, 0.75], "session": [0.5, 0.75], "update": [0.0, 0.5, 0.75], "complete": [0.0, 0.5, 0.75]}
    assert sorted(r["rate"] for r in lake.read("rate").to_dicts()) == ends[mode]
    kept = [r for r in lake.read("p_quarantine").to_dicts() if r["stage"] == "aggregate"]
    groups = sorted((json.loads(r["row"])["window_start"][11:16], json.loads(r["row"])["k"]) for r in kept)
    # A group without a sum, one whose sum is too large, and the function's; each once, however often it is computed.
    assert groups == [("00:01", "x")] * (2 if output == "append" else 1) + [("00:03", "x")]
    assert any("division by zero" in r["error"] for r in kept) and any("overflow" in r["error"] for r in kept)
    if mode == "update":
        # If a result cannot be computed any more, the old result is not shown. When it can be computed again, it is there.
        for row, left in (((501, 5, -1), [0.5, 0.75]), ((502, 1, 1), [0.5, 0.75, 6.0])):
            send(row)
            lake.run(progress=False)
            assert sorted(r["rate"] for r in lake.read("rate").to_dicts()) == left
    with pytest.raises(bayou.MalformedError, match=r"window that begins at 2024.*window_start.*with_columns"):
        rate.collect(close_windows=True)
