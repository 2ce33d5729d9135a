"""Spark 4.0 as a golden model of event time, where the definitions agree (docs/event-time.md lists where they do not).

Spark reads the same rows as Structured Streaming, a file an epoch, with the same watermark: the windows that it appends, and so the rows
that it drops as late, must be bayou's. Sessions, deduplication and joins are compared without late rows.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import bayou
from delta_replay import rows
from pyspark.sql import functions as F

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "spark"))
from spark_server import classic, server

START = datetime(2024, 3, 1, tzinfo=timezone.utc)
AGGREGATES = ["count(*) AS c", "sum(n) AS s", "min(n) AS lo", "max(n) AS hi", "avg(n) AS mean"]


def windows(frame: Any, window: Any) -> Any:
    out = frame.groupBy(window.alias("w"), "k").agg(*[F.expr(a) for a in AGGREGATES])
    return out.select(
        *[F.col(f"w.{end}").alias(f"window_{end}") for end in ("start", "end")], "k", "c", "s", "lo", "hi", "mean"
    )


def chained(frame: Any) -> Any:
    inner = frame.groupBy(F.window("time", "20 seconds").alias("w"), "k").agg(F.count("*").alias("c"))
    out = inner.groupBy(F.window("w", "1 minute").alias("v")).agg(F.sum("c").alias("c"))
    return out.select(F.col("v.start").alias("window_start"), F.col("v.end").alias("window_end"), "c")


def joined(frame: Any) -> Any:
    near = "l.k = r.k AND r.time BETWEEN l.time - INTERVAL 3 SECONDS AND l.time + INTERVAL 5 SECONDS"
    left, right = frame.where("n % 2 = 0").alias("l"), frame.where("n % 2 = 1").alias("r")
    out = left.join(right, F.expr(near), "leftOuter")
    return out.select(F.col("l.n").alias("n"), F.col("r.n").alias("n_right"))


SPARK: dict[str, Callable[[Any], Any]] = {
    "tumbling": lambda f: windows(f, F.window("time", "1 minute")),
    "sliding": lambda f: windows(f, F.window("time", "1 minute", "20 seconds")),
    "offset": lambda f: windows(f, F.window("time", "90 seconds", "90 seconds", "15 seconds")),
    "session": lambda f: windows(f, F.session_window("time", "4 seconds")),
    "chained": chained,
    "duplicates": lambda f: f.withColumn("id", F.expr("n div 2")).dropDuplicatesWithinWatermark(["id"]).select("id"),
    "joined": joined,
}


def of_spark(session: Any, case: pathlib.Path, query: str) -> list[dict[str, Any]]:
    """The rows that Spark appends for the files of a case, an epoch a file."""
    source = session.readStream.schema("n BIGINT, time TIMESTAMP, k STRING").option("maxFilesPerTrigger", 1)
    frame = source.option("latestFirst", "false").json(str(case / "epochs")).withWatermark("time", "20 seconds")
    # Otherwise rows are judged by the watermark of an epoch before, for the sake of chains.
    session.conf.set("spark.sql.streaming.statefulOperator.allowMultiple", str(query == "chained").lower())
    table = f"out_{query}_{case.name[:2]}"
    writer = SPARK[query](frame).writeStream.format("memory").queryName(table).outputMode("append")
    writer.trigger(availableNow=True).option("checkpointLocation", str(case / "checkpoint")).start().awaitTermination()
    return [r.asDict() for r in session.table(table).collect()]


def streams(s: bayou.Stream, query: str) -> bayou.Stream:
    of = lambda window: s.group_by(window, "k").agg(*AGGREGATES)  # noqa: E731
    if query == "tumbling":
        return of(bayou.window("time", "1 minute"))
    if query == "sliding":
        return of(bayou.window("time", "1 minute", slide="20 seconds"))
    if query == "offset":
        return of(bayou.window("time", "90 seconds", offset="15 seconds"))
    if query == "session":
        return of(bayou.session_window("time", "4 seconds"))
    if query == "chained":
        inner = s.group_by(bayou.window("time", "20 seconds"), "k").agg("count(*) AS c")
        return inner.group_by(bayou.window("window", "1 minute")).agg("sum(c) AS c")
    if query == "duplicates":
        return s.with_columns("n div 2 AS id").drop_duplicates(["id"], within="20 seconds").select("id")
    pairs = s.where("n % 2 = 0").join(s.where("n % 2 = 1"), "k", "left", within=("3 seconds", "5 seconds"))
    return pairs.select("n", "n_right")


def random_epochs(rng: random.Random, late: bool) -> list[list[dict[str, Any]]]:
    """Disorder within the delay; with `late` also rows that are late. Milliseconds, so that nothing meets a watermark exactly."""
    out, n = [], 0
    for _ in range(rng.randrange(3, 6)):
        epoch = []
        for _ in range(rng.randrange(10, 60)):
            t = START + timedelta(seconds=n, milliseconds=rng.randrange(1000)) - timedelta(seconds=rng.randrange(8))
            if late and rng.random() < 0.15:
                t -= timedelta(seconds=rng.randrange(240))
            epoch.append({"n": n, "time": t, "k": rng.choice(["a", "b", "c"])})
            n += 1
        out.append(epoch)
    # At the end time passes everything.
    out.append([{"n": n, "time": START + timedelta(days=1), "k": "z"}])
    return out


def shown(row: dict[str, Any]) -> tuple:
    def text(v: Any) -> Any:
        if isinstance(v, datetime):
            return v.replace(tzinfo=None).isoformat()
        return round(v, 9) if isinstance(v, float) else v

    return tuple(sorted((k, str(text(v))) for k, v in row.items()))


def test_spark_appends_the_same_windows_sessions_pairs_and_first_rows(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    rng = random.Random(11)
    cases = tmp_path / "cases"
    wanted: dict[str, Counter] = {}
    late = 0
    queries = ["tumbling", "sliding", "offset", "chained", "session", "duplicates", "joined"]
    for number, query in enumerate(queries * 2):
        name = f"{number:02}-{query}"
        epochs = random_epochs(rng, late=query in ("tumbling", "sliding", "offset"))
        (cases / name / "epochs").mkdir(parents=True)
        broker.create_topic(name)
        broker.produce(name, [row for epoch in epochs for row in epoch], progress=False)
        for i, epoch in enumerate(epochs):
            text = "\n".join(json.dumps(r | {"time": r["time"].isoformat()}) for r in epoch)
            file = cases / name / "epochs" / f"{i:03}.json"
            file.write_text(text)
            os.utime(file, (1_700_000_000 + i, 1_700_000_000 + i))
        lake = bayou.Pipeline(name, tmp_path / "lake" / name)
        # Spark's epochs are its files: run by run up to the end of each.
        until = 0
        for epoch in epochs:
            until += len(epoch)
            raw = broker.read_stream(
                name, schema="n BIGINT, time TIMESTAMP, k STRING", ending_offsets={name: {0: until}}
            )
            timed = raw.with_watermark("time", "20 seconds", max_future="1000000 days")
            lake.table("out", streams(timed, query))
            ran = lake.run(progress=False)
            if ran.last_progress:
                late += sum(o["numRowsDroppedByWatermark"] for o in ran.last_progress["stateOperators"])
        wanted[name] = Counter(shown(r) for r in rows(tmp_path / "lake" / name / "out"))
    assert late > 30, "late rows are dropped by both"
    got: dict[str, list[dict[str, Any]]] = {}
    with server() as how:
        # Not by Spark Connect, where the two sides of a join read the files by themselves.
        session = classic(how).newSession()
        for name in wanted:
            got[name] = of_spark(session, cases / name, name[3:])
    for name, found in got.items():
        appended = Counter(map(shown, found))
        if "duplicates" in name:
            # The last row is kept by both; which twin of a pair is kept shows in no column.
            assert max(appended.values()) == 1
        assert appended == wanted[name], (
            f"{name}: only Spark: {list(appended - wanted[name])[:4]}, only bayou: {list(wanted[name] - appended)[:4]}"
        )
    assert sum(sum(w.values()) for w in wanted.values()) > 400
