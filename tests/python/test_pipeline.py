"""The main job, from a producer that is not bayou's to tables that other readers read."""

from __future__ import annotations

import collections
import decimal
import json
import math
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import bayou
import confluent_kafka
import deltalake
import pytest
from delta_replay import rows, transactions

SCHEMA = "ip STRING, time TIMESTAMP, model STRING, heart_bpm INT"
START = datetime(2024, 1, 1, tzinfo=timezone.utc)


def events(seed: int, count: int) -> list[bytes | None]:
    """Fitness events with malformed ones, tombstones and oddities among them."""
    rng = random.Random(seed)
    out: list[bytes | None] = []
    for i in range(count):
        when = START + timedelta(seconds=i, microseconds=rng.randrange(1_000_000)) - timedelta(seconds=rng.randrange(4))
        row: dict[str, Any] = {
            "ip": f"10.0.{rng.randrange(256)}.{rng.randrange(256)}",
            "time": when.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "model": rng.choice(["a", "b", "c", "undef", None]),
            "heart_bpm": rng.choice([0, None, *range(60, 120)]),
            "extra": [1, {"x": "y"}],
        }
        kind = rng.randrange(40)
        if kind == 0:
            out.append(None)
        elif kind == 1:
            out.append(json.dumps(row).encode()[: rng.randrange(1, 40)])
        elif kind == 2:
            out.append(json.dumps({**row, "heart_bpm": 71.5}).encode())
        elif kind == 3:
            out.append(json.dumps({**row, "heart_bpm": "71"}).encode())
        elif kind == 4:
            out.append(json.dumps({**row, "heart_bpm": 7.1e1}).encode())
        elif kind == 5:
            out.append(b"\xff\xfe" + json.dumps(row).encode())
        else:
            out.append(json.dumps(row).encode())
    return out


def decode(value: bytes | None) -> dict[str, Any] | None:
    """The independent reader: None for a message that is not a row."""
    if value is None:
        return None
    try:
        row = json.loads(value.decode("utf-8"))
    except ValueError:
        return None
    bpm = row.get("heart_bpm")
    if isinstance(bpm, str) or (isinstance(bpm, float) and bpm != int(bpm)):
        return None
    return {
        "ip": row["ip"],
        "time": datetime.fromisoformat(row["time"].replace("Z", "+00:00")),
        "model": row["model"],
        "bpm": None if bpm is None else int(bpm),
    }


def publish(
    address: str, topic: str, values: list[bytes | None], partitions: int
) -> list[tuple[int, int, bytes | None]]:
    """With confluent-kafka; returns each message with its place."""
    producer = confluent_kafka.Producer({"bootstrap.servers": address, "linger.ms": 20})
    placed: list[tuple[int, int, bytes | None]] = []

    def delivered(error: Any, message: Any) -> None:
        assert error is None, error
        placed.append((message.partition(), message.offset(), message.value()))

    for i, value in enumerate(values):
        producer.produce(topic, value, partition=i % partitions, on_delivery=delivered)
        if i % 1000 == 0:
            producer.poll(0)
    producer.flush(30)
    assert len(placed) == len(values)
    return placed


def clean_stream(kafka: bayou.Connection, topic: str, **options: Any) -> bayou.Stream:
    raw = kafka.read_stream(topic, schema=SCHEMA, **options)
    return (
        raw.select("ip", "time", "model", "heart_bpm AS bpm")
        .expect_or_drop("bpm is set", "bpm IS NOT NULL")
        .expect_or_drop("has a pulse", "bpm > 0")
        .expect_or_quarantine("model is known", "model <> 'undef'")
        .expect("not too fast", "bpm < 110")
    )


def define(kafka: bayou.Connection, topic: str, root: pathlib.Path, **options: Any) -> bayou.Pipeline:
    clean = clean_stream(kafka, topic, **options).named("clean")
    lake = bayou.Pipeline("heart", str(root))
    lake.table("cleansed", clean, partition_by=["model"])
    lake.table(
        "totals",
        clean.group_by().agg(
            "count(bpm) AS n", "avg(bpm) AS mean", "stddev(bpm) AS sd", "min(bpm) AS low", "max(bpm) AS high"
        ),
    )
    lake.table("by_model", clean.group_by("model").agg("count(*) AS n", "count(DISTINCT ip) AS ips"))
    windows = clean.with_watermark("time", "10 seconds").group_by(bayou.window("time", "1 minute"), "model")
    lake.table("per_minute", windows.agg("count(*) AS n", "sum(bpm) AS total"))
    return lake


def expected(values: list[bytes | None]) -> tuple[list[dict[str, Any]], dict[str, tuple[int, int]], int]:
    """Good rows, counts per rule, quarantined."""
    decoded = [d for d in map(decode, values) if d is not None]
    rules = {
        "bpm is set": lambda r: r["bpm"] is not None,
        "has a pulse": lambda r: r["bpm"] is not None and r["bpm"] > 0,
        "model is known": lambda r: r["model"] is not None and r["model"] != "undef",
        "not too fast": lambda r: r["bpm"] is not None and r["bpm"] < 110,
    }
    counts = {name: (sum(map(rule, decoded)), sum(not rule(r) for r in decoded)) for name, rule in rules.items()}
    unknown = sum(not rules["model is known"](r) for r in decoded)
    malformed = sum(v is not None and decode(v) is None for v in values)
    good = [r for r in decoded if all(rules[n](r) for n in ("bpm is set", "has a pulse", "model is known"))]
    return good, counts, unknown + malformed


def check(root: pathlib.Path, values: list[bytes | None], *, in_order: bool) -> None:
    good, _, set_aside = expected(values)
    key = lambda r: (r["time"], r["ip"], r["model"], r["bpm"])  # noqa: E731
    assert sorted(map(key, rows(root / "cleansed"))) == sorted(map(key, good))
    # Also by a reader that is not bayou's.
    theirs = deltalake.DeltaTable(str(root / "cleansed")).to_pyarrow_table().to_pylist()
    assert sorted(map(key, theirs)) == sorted(map(key, good))
    pulses = [r["bpm"] for r in good]
    [totals] = rows(root / "totals")
    assert (totals["n"], totals["low"], totals["high"]) == (len(pulses), min(pulses), max(pulses))
    assert math.isclose(totals["mean"], statistics.fmean(pulses), rel_tol=1e-12)
    assert math.isclose(totals["sd"], statistics.stdev(pulses), rel_tol=1e-9)
    by_model = collections.defaultdict(list)
    for r in good:
        by_model[r["model"]].append(r["ip"])
    assert {r["model"]: (r["n"], r["ips"]) for r in rows(root / "by_model")} == {
        m: (len(i), len(set(i))) for m, i in by_model.items()
    }
    late = [r for r in rows(root / "heart_quarantine") if r["stage"] == "late"]
    assert len(rows(root / "heart_quarantine")) - len(late) == set_aside
    if in_order:
        assert not late
        closed = max(r["time"] for r in good) - timedelta(seconds=10)
        want: dict[Any, tuple[int, int]] = {}
        for r in good:
            start = r["time"].replace(second=0, microsecond=0)
            if start + timedelta(minutes=1) <= closed:
                n, total = want.get((start, r["model"]), (0, 0))
                want[start, r["model"]] = (n + 1, total + r["bpm"])
        got = {(r["window_start"], r["model"]): (r["n"], r["total"]) for r in rows(root / "per_minute")}
        assert got == want


@pytest.mark.parametrize("seed", [1, 2])
def test_tables_equal_an_independent_computation_for_any_cut_into_epochs(
    address: str, kafka: bayou.Connection, topic: Callable[..., str], tmp_path: pathlib.Path, seed: int
) -> None:
    rng = random.Random(seed)
    name = topic(1)
    values = events(seed, 3000)
    publish(address, name, values[:2000], 1)
    lake = define(kafka, name, tmp_path, max_offsets_per_trigger=rng.randrange(50, 900))
    first = lake.run(progress=False)
    publish(address, name, values[2000:], 1)
    second = define(kafka, name, tmp_path, max_offsets_per_trigger=rng.randrange(50, 900)).run(progress=False)
    check(tmp_path, values, in_order=True)
    # Counts: this run's on the query, all runs' on the pipeline.
    _, counts, _ = expected(values)
    got = {r["name"]: (r["passed_records"], r["failed_records"]) for r in lake.expectations().to_dicts()}
    assert got == counts
    of_runs = [{r["name"]: r["passed_records"] for r in q.expectations.to_dicts()} for q in (first, second)]
    assert {n: of_runs[0][n] + of_runs[1][n] for n in counts} == {n: c[0] for n, c in counts.items()}
    assert {r["dataset"] for r in second.expectations.to_dicts()} == {"clean"}


def test_quarantined_messages_keep_their_bytes_and_their_place(
    address: str, kafka: bayou.Connection, topic: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    name = topic(3)
    values = events(9, 1500)
    placed = {(p, o): v for p, o, v in publish(address, name, values, 3)}
    query = clean_stream(kafka, name).write_delta(str(tmp_path / "t"), progress=False)
    aside = rows(tmp_path / "t_quarantine")
    for r in aside:
        assert r["value"] == placed[r["partition"], r["offset"]]
        assert (r["topic"], r["epoch"], r["dataset"]) == (name, 0, "t")
        wanted = "decode" if decode(r["value"]) is None else "expectation"
        assert r["stage"] == wanted and (r["rules"] != []) == (wanted == "expectation") and r["error"]
    assert query.last_progress["numTombstones"] == sum(v is None for v in values)
    assert query.last_progress["numInputRows"] == len(values)
    schema = deltalake.DeltaTable(str(tmp_path / "t_quarantine")).schema()
    assert [f.name for f in schema.fields] == [
        "topic",
        "partition",
        "offset",
        "timestamp",
        "key",
        "headers",
        "value",
        "stage",
        "dataset",
        "rules",
        "error",
        "epoch",
        "row",
    ]


RUN = """
import sys, bayou
sys.path.insert(0, sys.argv[4])
from test_pipeline import define
import pathlib
lake = define(bayou.connect(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3]), max_offsets_per_trigger=60)
print("go", flush=True)
lake.run(progress=False)
print("done", flush=True)
"""


def test_a_run_that_is_killed_again_and_again_ends_exact(
    address: str, kafka: bayou.Connection, topic: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    rng = random.Random(5)
    name = topic(1)
    values = events(77, 6000)
    publish(address, name, values, 1)
    here = str(pathlib.Path(__file__).parent)
    kills = 0
    for _ in range(60):
        child = subprocess.Popen(
            [sys.executable, "-c", RUN, address, name, str(tmp_path), here], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None and child.stdout.readline() == "go\n"
        time.sleep(rng.random() * 0.35)  # the moment of the kill is what is random here
        if child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        out = child.stdout.read()
        child.wait()
        if "done" in out:
            break
    define(kafka, name, tmp_path).run(progress=False)
    assert kills >= 3, "the run was never hit"
    check(tmp_path, values, in_order=True)
    seals = sorted((tmp_path / "_bayou/heart/1/epoch").glob("*.json"))
    newest = {
        t: max(
            json.loads(s.read_text())["epoch"]
            for s in seals
            if json.loads(s.read_text())["tables"].get(t, {}).get("commit")
        )
        for t in ("cleansed", "totals")
    }
    for table, epoch in newest.items():
        assert transactions(tmp_path / table) == {f"bayou/heart/{table}": epoch}


def test_two_runners_of_one_query_never_write_twice(
    address: str, kafka: bayou.Connection, topic: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    name = topic(1)
    values = events(3, 4000)
    publish(address, name, values, 1)
    here = str(pathlib.Path(__file__).parent)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, address, name, str(tmp_path), here],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    ended = [c.communicate(timeout=120) for c in children]
    for (_, err), child in zip(ended, children, strict=True):
        assert child.returncode == 0 or "ConcurrentQueryError" in err, err
    define(kafka, name, tmp_path).run(progress=False)
    check(tmp_path, values, in_order=True)


def test_an_expectation_that_fails_the_query_leaves_nothing_of_its_epoch(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"a": i} for i in range(10)], progress=False)
    stream = broker.read_stream("t", schema="a INT").expect_or_fail("small", "a < 7")
    with pytest.raises(bayou.ExpectationError, match=r"'small'.*t\[0\] offset 7") as caught:
        stream.write_delta(str(tmp_path / "t"), progress=False)
    assert caught.value.query.status == "failed"
    assert rows(tmp_path / "t") == []
    query = (
        broker.read_stream("t", schema="a INT")
        .expect("small", "a < 7")
        .write_delta(str(tmp_path / "t"), progress=False)
    )
    assert len(rows(tmp_path / "t")) == 10
    with pytest.raises(bayou.ExpectationError, match=r"30\.00 %"):
        query.raise_for_expectations("small", max_ratio=0.1)
    query.raise_for_expectations("small", max_ratio=0.3)


def test_reset_and_full_refresh_start_over_and_history_keeps_the_old_rows(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"a": i} for i in range(10)], progress=False)
    lake = bayou.Pipeline("p", str(tmp_path))
    lake.table("t", broker.read_stream("t", schema="a INT"))
    lake.run(progress=False)
    with pytest.raises(bayou.ConfigError, match="confirm=True"):
        lake.reset()
    lake.reset(confirm=True)
    lake.table("t", broker.read_stream("t", schema="a INT").where("a >= 5"))
    lake.run(progress=False)
    assert sorted(r["a"] for r in rows(tmp_path / "t")) == [5, 6, 7, 8, 9]
    lake.run(full_refresh=True, progress=False)
    assert sorted(r["a"] for r in rows(tmp_path / "t")) == [5, 6, 7, 8, 9]
    assert len(bayou.read_delta(str(tmp_path / "t"), version=1)) == 10


def test_tables_of_a_broker_that_is_gone_are_refused_with_the_remedy(tmp_path: pathlib.Path) -> None:
    for attempt in range(2):
        with bayou.testing.broker() as kafka:
            kafka.create_topic("t")
            kafka.produce("t", [{"a": attempt}], progress=False)
            stream = kafka.read_stream("t", schema="a INT")
            if attempt == 0:
                stream.write_delta(str(tmp_path / "t"), progress=False)
            else:
                with pytest.raises(bayou.ConfigError, match=r"embedded.*full_refresh=True"):
                    stream.write_delta(str(tmp_path / "t"), progress=False)
                stream.write_delta(str(tmp_path / "t"), progress=False, full_refresh=True)
    assert [r["a"] for r in rows(tmp_path / "t")] == [1]


def test_an_interval_query_follows_the_topic_until_it_is_stopped(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t", partitions=2)
    stream = broker.read_stream("t", schema="a INT")
    query = stream.write_delta(str(tmp_path / "t"), trigger="0 seconds", block=False, progress=False)
    assert query.is_active
    for i in range(3):
        broker.produce("t", [{"a": i}], progress=False)
        deadline = time.monotonic() + 20
        while len(rows(tmp_path / "t")) <= i and time.monotonic() < deadline:
            time.sleep(0.02)
    assert sorted(r["a"] for r in rows(tmp_path / "t")) == [0, 1, 2]
    # The same query again in this process: the older run ends first.
    again = stream.write_delta(str(tmp_path / "t"), trigger="1 second", block=False, progress=False)
    assert not query.is_active and again.is_active
    again.stop()
    assert again.status == "stopped" and again.await_termination("1 second")
    with pytest.raises(AttributeError, match="await_termination"):
        again.awaitTermination()


def test_others_may_append_and_optimize_but_not_delete(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t")
    path = str(tmp_path / "t")
    stream = broker.read_stream("t", schema="a INT")
    for i in range(2):
        broker.produce("t", [{"a": i}], progress=False)
        stream.write_delta(path, progress=False)
    import pyarrow as pa

    deltalake.write_deltalake(path, pa.table({"a": pa.array([100], pa.int32())}), mode="append")
    deltalake.DeltaTable(path).optimize.compact()
    broker.produce("t", [{"a": 2}], progress=False)
    stream.write_delta(path, progress=False)
    assert sorted(r["a"] for r in rows(path)) == [0, 1, 2, 100]
    deltalake.DeltaTable(path).delete("a = 1")
    broker.produce("t", [{"a": 3}], progress=False)
    with pytest.raises(bayou.DataLossError, match="DELETE"):
        stream.write_delta(path, progress=False)
    stream.write_delta(path, progress=False, accept_changes=True)
    assert sorted(r["a"] for r in rows(path)) == [0, 2, 3, 100]


def test_a_new_column_needs_schema_mode_merge(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"a": 1, "b": "x"}], progress=False)
    path = str(tmp_path / "t")
    broker.read_stream("t", schema="a INT").write_delta(path, progress=False)
    broker.produce("t", [{"a": 2, "b": "y"}], progress=False)
    wider = broker.read_stream("t", schema="a INT, b STRING")
    with pytest.raises(bayou.SchemaError, match="schema_mode"):
        wider.write_delta(path, progress=False)
    wider.write_delta(path, progress=False, schema_mode="merge")
    assert bayou.sql("SELECT a, b FROM t ORDER BY a", t=path).to_dicts() == [{"a": 1, "b": None}, {"a": 2, "b": "y"}]


def test_sql_over_tables_leaves_nothing_out_that_it_reads(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"d": decimal.Decimal("1234567890123456.78"), "g": 1}, {"g": 2}], progress=False)
    path = str(tmp_path / "t")
    broker.read_stream("t", schema="d DECIMAL(18,2), g INT").write_delta(path, progress=False)

    def sql(text: str) -> list[dict[str, Any]]:
        return bayou.sql(text, t=path).to_dicts()

    assert len(sql("SELECT g, count(*) AS n FROM t GROUP BY ROLLUP(g)")) == 3
    # Literals are exact, and NULL is below all values.
    assert sql("SELECT g FROM t WHERE d = 1234567890123456.78") == [{"g": 1}]
    assert sql("SELECT 0.1 + 0.2 AS x") == [{"x": decimal.Decimal("0.3")}]
    assert sql("SELECT d FROM t ORDER BY d DESC LIMIT 1")[0]["d"] is not None
    assert sql("SELECT d FROM t ORDER BY d LIMIT 1") == [{"d": None}]


def test_a_failing_expression_quarantines_its_row_and_no_other(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"a": i, "s": str(i) if i != 3 else "three"} for i in range(6)], progress=False)
    stream = broker.read_stream("t", schema="a INT, s STRING").select("a", "CAST(s AS INT) AS n", "10 / (a - 4) AS q")
    stream.write_delta(str(tmp_path / "t"), progress=False)
    assert sorted(r["a"] for r in rows(tmp_path / "t")) == [0, 1, 2, 5]
    aside = {r["offset"]: r for r in rows(tmp_path / "t_quarantine")}
    assert sorted(aside) == [3, 4] and all(r["stage"] == "transform" for r in aside.values())
    assert "column 'n'" in aside[3]["error"] and "three" not in aside[3]["error"]


def test_too_many_malformed_messages_stop_the_query_with_the_commonest_error(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"a": "x" if i % 4 else 1} for i in range(400)], progress=False)
    with pytest.raises(bayou.SchemaError, match=r"max_malformed=0.5.*a string that is not a number does not fit INT"):
        broker.read_stream("t", schema="a INT").write_delta(str(tmp_path / "t"), progress=False)
    broker.read_stream("t", schema="a INT", max_malformed=1.0).write_delta(str(tmp_path / "t"), progress=False)
    assert (len(rows(tmp_path / "t")), len(rows(tmp_path / "t_quarantine"))) == (100, 300)


def test_a_runner_of_a_generation_that_was_ended_is_beaten_at_the_seal(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"a": 1}], progress=False)
    stream = broker.read_stream("t", schema="a INT")
    stream.write_delta(str(tmp_path / "t"), progress=False)
    stream.write_delta(str(tmp_path / "t"), progress=False, full_refresh=True)
    last = sorted((tmp_path / "t/_bayou/t/1/epoch").glob("*.json"))[-1]
    fence = json.loads(last.read_text())
    assert (fence["definition"], fence["epoch"], fence["tables"]) == ("fence", 1, {})
    assert [r["a"] for r in rows(tmp_path / "t")] == [1]


def test_the_quarantine_table_may_be_taken_away_between_runs(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t")
    stream = broker.read_stream("t", schema="a INT").expect_or_quarantine("small", "a < 5")
    for a in (7, 8):
        broker.produce("t", [{"a": 1}, {"a": a}], progress=False)
        stream.write_delta(str(tmp_path / "t"), progress=False)
        assert [json.loads(r["value"]) for r in rows(tmp_path / "t_quarantine")] == [{"a": a}]
        shutil.rmtree(tmp_path / "t_quarantine")
    assert [r["a"] for r in rows(tmp_path / "t")] == [1, 1]


def test_an_epoch_is_committed_in_the_mode_that_it_was_sealed_in(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"a": 1}, {"a": 1}], progress=False)
    counts = broker.read_stream("t", schema="a INT").group_by("a").agg("count(*) AS n")
    counts.write_delta(str(tmp_path / "t"), progress=False)
    # As after a kill between seal and commit of epoch 0, with the definition changed since.
    (tmp_path / "t/_bayou/t/1/done/00000000000000000000.json").unlink()
    with pytest.raises(bayou.BayouError):
        broker.read_stream("t", schema="a INT").select("a", "CAST(a AS BIGINT) AS n").write_delta(
            str(tmp_path / "t"), progress=False
        )
    counts.write_delta(str(tmp_path / "t"), progress=False)
    assert rows(tmp_path / "t") == [{"a": 1, "n": 2}]
