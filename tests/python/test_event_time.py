"""Event time: answers that can be checked by hand, and random streams against the oracle."""

from __future__ import annotations

import json
import os
import pathlib
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import bayou
import pytest
from delta_replay import live_files, rows
from event_time_campaign import AGGREGATES, Bench, campaign, random_rows, shown

START = datetime(2024, 1, 1, tzinfo=timezone.utc)
SEEDS = int(os.environ.get("BAYOU_TEST_SEEDS", "200"))


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def seconds(t: datetime) -> float:
    return (t - START).total_seconds()


def publish(broker: bayou.Connection, events: list[dict[str, Any]], topic: str = "t", **options: Any) -> None:
    broker.create_topic(topic, exist_ok=True)
    broker.produce(topic, events, progress=False, **options)


def stream(broker: bayou.Connection, schema: str = "time TIMESTAMP, k STRING, n INT", **options: Any) -> bayou.Stream:
    return broker.read_stream("t", schema=schema, **options)


def test_hundreds_of_random_streams_equal_the_oracle(address: str) -> None:
    total = campaign(address, 0, SEEDS, os.cpu_count() or 2)
    assert total["seeds"] == SEEDS >= 200
    assert total["epochs"] > 3 * SEEDS and total["late"] > 5 * SEEDS and total["tables"] > 2 * SEEDS
    print(f"\n{dict(total)}")


@pytest.mark.parametrize("seed", range(3))
def test_without_late_rows_every_cut_into_epochs_gives_the_same_rows(
    address: str, tmp_path: pathlib.Path, seed: int
) -> None:
    rng = random.Random(seed)
    bench = Bench(address)
    now = datetime.now(timezone.utc).replace(microsecond=0)
    topic = bench.topics[2]
    start = bench.ends(topic)
    events = []
    for partition, row, stamp in random_rows(rng, 0, 300, [0, 1], now):
        # No later than the delay behind the newest before it.
        t = now - timedelta(hours=2) + timedelta(seconds=row["n"] - rng.randrange(5))
        events.append((partition, row | {"time": round(t.timestamp()) * 1_000_000}, stamp))
    bench.publish(topic, events)
    found: dict[str, list[list[tuple]]] = {}
    for cut in (10_000, 5 + rng.randrange(10), 20 + rng.randrange(50)):
        raw = bench.kafka.read_stream(
            topic, schema="n BIGINT, time TIMESTAMP, k STRING", starting_offsets=start, max_offsets_per_trigger=cut
        )
        # Partitions are read at their own pace: the delay covers what one may be ahead of the other.
        clean = raw.with_watermark("time", "400 seconds", idle_timeout="1 hour")
        windows = {
            "tumbling": bayou.window("time", "1 minute"),
            "sliding": bayou.window("time", "1 minute", slide="15 seconds"),
            "session": bayou.session_window("time", "3 seconds"),
        }
        lake = bayou.Pipeline("p", tmp_path / str(cut))
        for name, window in windows.items():
            for mode in ("append", "update", "complete"):
                lake.table(f"{name}_{mode}", clean.group_by(window, "k").agg(*AGGREGATES), output_mode=mode)
        evens = clean.where("n % 2 = 0")
        lake.table("joined", evens.join(clean.where("n % 2 = 1"), on="k", how="left", within="5 seconds"))
        query = lake.run(close_windows=True, progress=False)
        assert sum(o["numRowsDroppedByWatermark"] for p in query.recent_progress for o in p["stateOperators"]) == 0
        for name in lake.tables():
            found.setdefault(name, []).append(sorted(shown(r) for r in rows(tmp_path / str(cut) / name)))
    assert len(found) == 10
    for name, answers in found.items():
        assert answers[0] and answers[0] == answers[1] == answers[2], name
    for window in ("tumbling", "sliding", "session"):
        modes = [found[f"{window}_{mode}"][0] for mode in ("append", "update", "complete")]
        assert modes[0] == modes[1] == modes[2], window


def test_sessions_grow_merge_and_close(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    publish(broker, [{"time": at(t), "k": "a", "n": t} for t in (0, 4, 20, 100)])
    sessions = (
        stream(broker).with_watermark("time", "30 seconds").group_by(bayou.session_window("time", "10 seconds"), "k")
    ).agg("count(*) AS c", "min(n) AS lo")
    sessions.write_delta(tmp_path / "s", output_mode="update", progress=False)
    spans = lambda: sorted((seconds(r["window_start"]), seconds(r["window_end"]), r["c"]) for r in rows(tmp_path / "s"))  # noqa: E731
    assert spans() == [(0, 14, 2), (20, 30, 1), (100, 110, 1)]
    # 12 touches both: three sessions become one, and 90 makes the last one begin earlier.
    publish(broker, [{"time": at(t), "k": "a", "n": t} for t in (75, 90)])
    sessions.write_delta(tmp_path / "s", output_mode="update", progress=False)
    assert spans() == [(0, 14, 2), (20, 30, 1), (75, 85, 1), (90, 110, 2)]
    publish(broker, [{"time": at(t), "k": "a", "n": t} for t in (83,)])
    sessions.write_delta(tmp_path / "s", output_mode="update", progress=False)
    assert spans() == [(0, 14, 2), (20, 30, 1), (75, 110, 4)]
    publish(broker, [{"time": at(1000), "k": "a", "n": 0}, {"time": at(5), "k": "a", "n": 0}])
    sessions.write_delta(tmp_path / "s", output_mode="update", progress=False)
    assert spans() == [(0, 14, 2), (20, 30, 1), (75, 110, 4), (1000, 1010, 1)], "5 is late: its session is closed"
    [late] = rows(tmp_path / "s_quarantine")
    assert late["stage"] == "late" and late["error"].startswith("late by 65.000 s"), late["error"]


def test_days_and_months_follow_the_calendar_of_their_zone(broker: bayou.Connection) -> None:
    # Clocks go forward in Berlin on 31 March 2024: that day has 23 hours.
    events = [datetime(2024, 3, 30, 22, 59, tzinfo=timezone.utc) + timedelta(hours=h) for h in range(0, 60, 6)]
    publish(broker, [{"time": t, "k": None, "n": 1} for t in events])
    timed = stream(broker).with_watermark("time", "0 seconds")
    days = timed.group_by(bayou.window("time", "1 day", timezone="Europe/Berlin")).agg("count(*) AS c")
    got = sorted((r["window_start"], r["window_end"]) for r in days.collect(close_windows=True).to_dicts())
    utc = lambda *a: datetime(*a, tzinfo=timezone.utc)  # noqa: E731
    assert got[:3] == [
        (utc(2024, 3, 29, 23), utc(2024, 3, 30, 23)),
        (utc(2024, 3, 30, 23), utc(2024, 3, 31, 22)),
        (utc(2024, 3, 31, 22), utc(2024, 4, 1, 22)),
    ]
    months = timed.group_by(bayou.window("time", "1 month")).agg("count(*) AS c").collect(close_windows=True)
    assert [(r["window_start"], r["c"]) for r in sorted(months.to_dicts(), key=lambda r: r["window_start"])] == [
        (utc(2024, 3, 1), 5),
        (utc(2024, 4, 1), 5),
    ]
    with pytest.raises(bayou.ConfigError, match="Europe/Berlin"):
        bayou.window("time", "1 day", timezone="Europe/Berln")


def test_windows_of_windows_close_with_the_watermark_that_passes_through(broker: bayou.Connection) -> None:
    publish(broker, [{"time": at(t), "k": "ab"[t % 2], "n": t} for t in range(0, 400, 7)])
    minutes = (
        stream(broker)
        .with_watermark("time", "0 seconds")
        .group_by(bayou.window("time", "1 minute"), "k")
        .agg("count(*) AS c")
    )
    fives = minutes.group_by(bayou.window("window_end", "5 minutes")).agg("sum(c) AS c", "max(c) AS most")
    assert [(seconds(r["window_end"]), r["c"]) for r in fives.collect().to_dicts()] == [(300, 43)]
    assert sum(r["c"] for r in fives.collect(close_windows=True).to_dicts()) == 58
    with pytest.raises(bayou.ConfigError, match="window_end"):
        minutes.group_by(bayou.window("window_start", "5 minutes"))
    with pytest.raises(bayou.ConfigError, match="needs final rows"):
        stream(broker).group_by("k").agg("count(*) AS c").group_by("c")


def test_a_call_tells_why_a_window_is_open_and_what_would_close_it(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    now = datetime.now(timezone.utc).replace(microsecond=0)
    broker.create_topic("t", partitions=2)
    for partition, ago in ((0, 600), (1, 60)):
        event = {"time": now - timedelta(seconds=ago), "k": "a", "n": 1}
        broker.produce("t", [event], partition=partition, progress=False)
    counts = (
        stream(broker)
        .with_watermark("time", "10 seconds", idle_timeout="1 hour")
        .group_by(bayou.window("time", "1 minute"))
        .agg("count(*) AS c")
    )
    query = counts.write_delta(tmp_path / "w", progress=False)
    windows = query.open_windows().to_dicts()
    assert len(windows) == 2
    for w in windows:
        assert w["held_by"] == "t[0]" and w["highest"] == now - timedelta(seconds=600)
        assert w["watermark"] == now - timedelta(seconds=610)
        assert abs((w["held_since"] - now).total_seconds()) < 60
        needed = (w["window_end"] + timedelta(seconds=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert needed in w["closes"] and "t[0]" in w["closes"] and "1 hour" in w["closes"]
    [note] = [n for n in query.notes if "still open" in n]
    assert "2 windows are still open" in note and "t[0] holds the watermark" in note


def test_update_merges_by_keys_and_takes_out_what_a_condition_turns_away(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    publish(broker, [{"time": at(0), "k": k, "n": n} for k, n in (("a", 1), (None, 5), ("b", 50))])
    sums = stream(broker).group_by("k").agg("sum(n) AS total", "count(*) AS c").where("total < 40")
    write = lambda: sums.write_delta(tmp_path / "u", output_mode="update", partition_by=["k"], progress=False)  # noqa: E731
    got = lambda: sorted((str(r["k"]), r["total"], r["c"]) for r in rows(tmp_path / "u"))  # noqa: E731
    write()
    assert got() == [("None", 5, 1), ("a", 1, 1)]
    untouched = {p for p in live_files(tmp_path / "u") if "k=a" in p}
    publish(broker, [{"time": at(0), "k": None, "n": 6}])
    write()
    assert got() == [("None", 11, 2), ("a", 1, 1)], "NULL keys equal each other"
    assert untouched <= set(live_files(tmp_path / "u")), "files without a changed key stay"
    publish(broker, [{"time": at(0), "k": "a", "n": 100}])
    write()
    assert got() == [("None", 11, 2)], "a's total is no longer below 40"
    with pytest.raises(bayou.ConfigError, match="'k' is no longer among the columns"):
        sums.select("total").write_delta(tmp_path / "v", output_mode="update", progress=False)
    with pytest.raises(bayou.ConfigError, match="needs an aggregation"):
        stream(broker).write_delta(tmp_path / "v", output_mode="update", progress=False)
    history = [
        json.loads(line) for p in (tmp_path / "u/_delta_log").glob("*.json") for line in p.read_text().splitlines()
    ]
    assert "MERGE" in {a["commitInfo"]["operation"] for a in history if "commitInfo" in a}


def test_joins_with_a_delta_table_that_is_read_again_when_its_version_changes(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    import deltalake
    import pyarrow as pa

    devices = str(tmp_path / "devices")
    deltalake.write_deltalake(devices, pa.table({"k": ["a"], "maker": ["Ajax"]}))
    publish(broker, [{"time": at(0), "k": k, "n": 1} for k in ("a", "b", None)])
    joined = stream(broker).join(devices, on="k", how="left")
    assert joined.columns == ["time", "k", "n", "maker"]
    joined.write_delta(tmp_path / "j", progress=False)
    deltalake.write_deltalake(devices, pa.table({"k": ["b"], "maker": ["Bolt"]}), mode="append")
    publish(broker, [{"time": at(1), "k": k, "n": 2} for k in ("a", "b")])
    joined.write_delta(tmp_path / "j", progress=False)
    assert sorted((r["n"], str(r["k"]), r["maker"]) for r in rows(tmp_path / "j")) == [
        (1, "None", None),
        (1, "a", "Ajax"),
        (1, "b", None),
        (2, "a", "Ajax"),
        (2, "b", "Bolt"),
    ]
    sealed = [json.loads(p.read_text())["staticVersions"] for p in sorted((tmp_path / "j/_bayou").glob("*/*/epoch/*"))]
    assert [list(s.values()) for s in sealed] == [[0], [1]]
    inner = stream(broker).join([{"name": "a", "size": 3}], on={"k": "name"})
    assert {(r["k"], r["name"], r["size"]) for r in inner.collect().to_dicts()} == {("a", "a", 3)}
    with pytest.raises(bayou.SchemaError, match="CAST"):
        stream(broker).join([{"k": 1}], on="k")
    with pytest.raises(bayou.ConfigError, match="within="):
        stream(broker).join(stream(broker), on="k")


def test_unmatched_and_late_rows_of_a_join_are_accounted_for(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    publish(
        broker, [{"time": at(t), "k": k, "n": n} for t, k, n in [(0, "a", 0), (3, "a", 1), (5, "b", 2), (8, "c", 3)]]
    )
    timed = stream(broker).with_watermark("time", "0 seconds")
    pairs = timed.where("n % 2 = 0").join(timed.where("n % 2 = 1"), on="k", how="left", within="10 seconds")
    assert pairs.columns == ["time", "k", "n", "time_right", "n_right"]
    pairs.write_delta(tmp_path / "j", progress=False)
    publish(broker, [{"time": at(t), "k": k, "n": n} for t, k, n in [(100, "z", 4), (2, "a", 5)]])
    query = pairs.write_delta(tmp_path / "j", progress=False)
    assert sorted((r["n"], r["n_right"]) for r in rows(tmp_path / "j") if r["n_right"]) == [(0, 1)]
    assert [r["n"] for r in rows(tmp_path / "j") if r["n_right"] is None] == [2]
    [operator] = query.last_progress["stateOperators"]
    assert operator["customMetrics"] == {"numUnmatchedLeft": 1, "numUnmatchedRight": 1}
    assert operator["numRowsDroppedByWatermark"] == 1
    [late] = rows(tmp_path / "j_quarantine")
    assert late["error"].startswith("late by 6.000 s: the watermark has passed it")


def test_functions_in_the_middle_name_epoch_and_row_where_they_fail(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    publish(broker, [{"time": at(n), "k": "a", "n": n} for n in range(50)])

    def invert(frame: Any) -> Any:
        if (frame["n"] == 17).any():
            raise ValueError("seventeen")
        return frame.assign(inverse=1 / (frame["n"] + 1))

    schema = "time TIMESTAMP, n INT, inverse DOUBLE"
    mapped = stream(broker).map_batches(invert, schema, input="pandas")
    with pytest.raises(
        bayou.FunctionError, match=r"t\[0\] offset 17: the function 'invert' failed: ValueError: seventeen"
    ):
        mapped.collect()
    query = mapped.write_delta(tmp_path / "m", progress=False)
    assert sorted(r["n"] for r in rows(tmp_path / "m")) == [n for n in range(50) if n != 17]
    [aside] = rows(tmp_path / "m_quarantine")
    assert aside["stage"] == "transform" and aside["offset"] == 17 and "seventeen" in aside["error"]
    assert query.last_progress["numQuarantined"] == 1
    strict = stream(broker, on_malformed="fail").map_batches(invert, schema, input="pandas")
    with pytest.raises(bayou.FunctionError, match=r"epoch 0, t\[0\] offset 17"):
        strict.write_delta(tmp_path / "strict", progress=False)
    doubled = stream(broker).map_batches(lambda b: b.append_column("m", b["n"]), "m INT")
    assert doubled.collect(limit=3).to_dicts() == [{"m": 0}, {"m": 1}, {"m": 2}]
    with pytest.raises(bayou.MalformedError, match="no column 'm'"):
        stream(broker).map_batches(lambda b: b, "m INT").collect()
    with pytest.raises(bayou.ConfigError, match="before map_batches"):
        doubled.with_watermark("time", "1 second") if "time" in doubled.columns else stream(broker).map_batches(
            lambda b: b
        ).with_watermark("time", "1 second")
    timed = stream(broker).with_watermark("time", "0 seconds").map_batches(lambda b: b.slice(0, 10))
    counts = timed.group_by(bayou.window("time", "5 seconds")).agg("count(*) AS c")
    assert sum(r["c"] for r in counts.collect(close_windows=True).to_dicts()) == 10


def test_foreach_batch_gives_the_same_rows_again_for_an_epoch_that_failed(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    publish(broker, [{"time": at(n), "k": "a", "n": n} for n in range(30)])
    calls: list[tuple[int, list[int]]] = []
    broken = True

    def take(table: Any, epoch: int) -> None:
        calls.append((epoch, table["n"].to_pylist()))
        if broken and epoch == 1:
            raise RuntimeError("the network is down")

    lake = bayou.Pipeline("p", tmp_path)
    lake.table("rows", stream(broker, max_offsets_per_trigger=10))
    lake.foreach_batch("out", stream(broker, max_offsets_per_trigger=10).where("n % 2 = 0"), take)
    with pytest.raises(bayou.FunctionError, match="RuntimeError: the network is down"):
        lake.run(progress=False)
    broken = False
    # Later messages do not change epoch 1.
    publish(broker, [{"time": at(n), "k": "a", "n": n} for n in range(30, 40)])
    lake.run(progress=False)
    assert calls[0] == (0, [0, 2, 4, 6, 8])
    assert calls[1] == calls[2] == (1, [10, 12, 14, 16, 18])
    assert sorted(n for _, ns in calls[2:] for n in ns) == list(range(10, 40, 2))
    assert sorted(r["n"] for r in rows(tmp_path / "rows")) == list(range(40))
    with pytest.raises(bayou.ConfigError, match="query_name"):
        stream(broker).foreach_batch(take)


def test_a_new_table_is_filled_from_the_earliest_offset_while_the_others_wait(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    publish(broker, [{"time": at(n), "k": "ab"[n % 2], "n": n} for n in range(100)])
    clean = (
        stream(broker, max_offsets_per_trigger=15)
        .expect_or_quarantine("not seven", "n % 10 <> 7")
        .with_watermark("time", "5 seconds")
        .named("clean")
    )

    def lake(*more: str) -> bayou.Pipeline:
        p = bayou.Pipeline("p", tmp_path)
        p.table("rows", clean)
        if "minutes" in more:
            minutes = clean.group_by(bayou.window("time", "10 seconds"), "k").agg("count(*) AS c")
            p.table("minutes", minutes, start="earliest")
        if "big" in more:
            p.table("big", clean.where("n >= 50").expect_or_quarantine("not 59", "n <> 59"), start="earliest")
        return p

    lake().run(progress=False)
    with pytest.raises(bayou.ConfigError, match="start"):
        other = lake()
        other.table("late", clean)
        other.run(progress=False)
    publish(broker, [{"time": at(n), "k": "ab"[n % 2], "n": n} for n in range(100, 130)])
    query = lake("minutes", "big").run(progress=False)
    assert any("filled from the earliest offset" in n for n in query.notes)
    publish(broker, [{"time": at(n), "k": "ab"[n % 2], "n": n} for n in range(130, 160)])
    lake("minutes", "big").run(progress=False)
    good = [n for n in range(160) if n % 10 != 7]
    assert sorted(r["n"] for r in rows(tmp_path / "rows")) == good
    assert sorted(r["n"] for r in rows(tmp_path / "big")) == [n for n in good if n >= 50 and n != 59]
    counts: dict[tuple[float, str], int] = {}
    for n in good:
        counts[n // 10 * 10, "ab"[n % 2]] = counts.get((n // 10 * 10, "ab"[n % 2]), 0) + 1
    closed = {w: c for w, c in counts.items() if w[0] + 10 <= 159 - 5}
    assert {(seconds(r["window_start"]), r["k"]): r["c"] for r in rows(tmp_path / "minutes")} == closed
    # Each message is set aside once, by the table that had it first.
    aside = [(r["dataset"], r["offset"]) for r in rows(tmp_path / "p_quarantine")]
    assert sorted(aside) == sorted([("clean", n) for n in range(160) if n % 10 == 7] + [("big", 59)])


def test_a_change_that_state_cannot_follow_is_refused_with_the_difference(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    publish(broker, [{"time": at(n), "k": "a", "n": n} for n in range(10)])
    timed = stream(broker).with_watermark("time", "0 seconds")
    of = lambda size: timed.group_by(bayou.window("time", size), "k").agg("count(*) AS c")  # noqa: E731
    of("20 seconds").write_delta(tmp_path / "w", progress=False)
    publish(broker, [{"time": at(15), "k": "a", "n": 0}])
    with pytest.raises(bayou.ConfigError, match=r"20000000 µs.*30000000 µs"):
        of("30 seconds").write_delta(tmp_path / "w", progress=False)
    more = timed.group_by(bayou.window("time", "20 seconds"), "k").agg("count(*) AS c", "sum(n) AS s")
    with pytest.raises(bayou.ConfigError, match="sum"):
        more.write_delta(tmp_path / "w", schema_mode="merge", progress=False)
    # A column that needs no state may come.
    wider = of("20 seconds").with_columns("c * 2 AS twice")
    with pytest.raises(bayou.SchemaError, match="schema_mode"):
        wider.write_delta(tmp_path / "w", progress=False)
    publish(broker, [{"time": at(25), "k": "a", "n": 0}])
    wider.write_delta(tmp_path / "w", schema_mode="merge", progress=False)
    assert [(r["c"], r["twice"]) for r in rows(tmp_path / "w")] == [(11, 22)]


KILLED = """
import os, sys
import bayou
address, topic, root, kill_at = sys.argv[1:5]
seen = 0
def count(rows, epoch):
    global seen
    seen += 1
    if seen == int(kill_at):
        os._exit(9)
raw = bayou.connect(address).read_stream(topic, schema="n BIGINT, time TIMESTAMP, k STRING", max_offsets_per_trigger=40)
timed = raw.with_watermark("time", "20 seconds").drop_duplicates(["n"], within="1 minute")
lake = bayou.Pipeline("p", root)
lake.table("sums", timed.group_by("k").agg("sum(n) AS s", "count(*) AS c"), output_mode="update")
lake.table("sessions", timed.group_by(bayou.session_window("time", "4 seconds"), "k").agg("count(*) AS c"), output_mode="update")
lake.table("pairs", timed.where("n % 2 = 0").join(timed.where("n % 2 = 1"), on="k", how="left", within="3 seconds"))
lake.foreach_batch("count", timed, count)
lake.run(progress=False, close_windows=True)
"""


def test_updates_sessions_joins_and_duplicates_survive_kills_between_seal_and_done(
    address: str, kafka: bayou.Connection, topic: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    rng = random.Random(5)
    name = topic(1)
    events = []
    for n in range(300):
        event = {"n": n, "time": at(n - rng.randrange(5)), "k": rng.choice(["a", "b", None])}
        events.extend([event] * rng.choice([1, 1, 1, 2]))
    kafka.produce(name, events, progress=False)

    def run(root: pathlib.Path, kill_at: int) -> int:
        arguments = [sys.executable, "-c", KILLED, address, name, str(root), str(kill_at)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
        assert done.returncode in (0, 9), done.stderr[-2000:]
        return done.returncode

    assert run(tmp_path / "whole", 0) == 0
    kills = 0
    # The function is called between seal and done: each run commits one epoch, and dies in the next.
    while run(tmp_path / "killed", rng.choice([1, 2, 2])) == 9:
        kills += 1
    assert kills >= 5
    for table in ("sums", "sessions", "pairs"):
        whole, killed = (sorted(shown(r) for r in rows(tmp_path / root / table)) for root in ("whole", "killed"))
        assert whole == killed and whole, table
    assert sum(r["c"] for r in rows(tmp_path / "killed" / "sums")) == 300
