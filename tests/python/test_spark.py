"""Spark, which shares nothing with bayou, reads its tables."""

from __future__ import annotations

import pathlib
from datetime import datetime, timedelta, timezone
from typing import Any

import bayou
from spark_shell import spark


def test_spark_reads_appended_windowed_complete_and_quarantine_tables(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    start = datetime(2024, 1, 1, tzinfo=timezone.utc)
    events = [
        {"time": start + timedelta(seconds=7 * i), "model": ["a b", "c/ü%", None][i % 3], "n": i} for i in range(60)
    ]
    lake = bayou.Pipeline("spark", str(tmp_path))
    stream = broker.read_stream(
        "t", schema="time TIMESTAMP, model STRING, n INT", max_offsets_per_trigger=25
    ).expect_or_quarantine("even", "n % 2 = 0")
    lake.table("rows", stream, partition_by=["model"], comment="rows for Spark")
    lake.table(
        "windows",
        stream.with_watermark("time", "0 seconds")
        .group_by(bayou.window("time", "1 minute"))
        .agg("count(*) AS n", "avg(n) AS mean"),
    )
    lake.table("totals", stream.group_by("model").agg("count(*) AS n", "max(n) AS high"))
    for part in (events[:40], events[40:]):
        broker.produce("t", part, progress=False)
        lake.run(progress=False)
    found: dict[str, dict[str, Any]] = {}
    with spark() as shell:
        for name in ("rows", "windows", "totals", "spark_quarantine"):
            table = f"delta.`{tmp_path / name}`"
            schema = shell.session.sql(f"SELECT * FROM {table}").schema.simpleString()
            found[name] = {"schema": schema, "rows": shell.sql(f"SELECT * FROM {table}")}
            assert shell.sql(f"DESCRIBE HISTORY {table}")

    even = [e for e in events if e["n"] % 2 == 0]
    assert found["rows"]["schema"] == "struct<time:timestamp,model:string,n:int>"
    assert sorted((r["n"], r.get("model"), r["time"]) for r in found["rows"]["rows"]) == [
        (e["n"], e["model"], e["time"].strftime("%Y-%m-%dT%H:%M:%S.000Z")) for e in even
    ]
    minutes: dict[datetime, list[int]] = {}
    for e in even:
        minutes.setdefault(e["time"].replace(second=0), []).append(e["n"])
    closed = {m: ns for m, ns in minutes.items() if m + timedelta(minutes=1) <= even[-1]["time"]}
    assert {r["window_start"]: (r["n"], r["mean"]) for r in found["windows"]["rows"]} == {
        m.strftime("%Y-%m-%dT%H:%M:%S.000Z"): (len(ns), sum(ns) / len(ns)) for m, ns in closed.items()
    }
    assert {r.get("model"): (r["n"], r["high"]) for r in found["totals"]["rows"]} == {
        m: (len(ns), max(ns)) for m in ("a b", "c/ü%", None) if (ns := [e["n"] for e in even if e["model"] == m])
    }
    assert len(found["spark_quarantine"]["rows"]) == 30
    assert found["spark_quarantine"]["schema"] == (
        "struct<topic:string,partition:int,offset:bigint,timestamp:timestamp,key:binary,headers:array<struct<key:string,value:binary>>,value:binary,"
        "stage:string,dataset:string,rules:array<string>,error:string,epoch:bigint,row:string>"
    )
