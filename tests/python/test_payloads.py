"""Shapes of payloads by SQL alone: from a topic to windows and Delta tables, with a rule and a quarantine, compared with the written values."""

from __future__ import annotations

import datetime
import json
import pathlib
import random
from typing import Any

import bayou
import pyarrow as pa
import pytest
from delta_replay import rows
from payloads import BASE, SHAPES, Row, Shape

MINUTE = 60_000_000
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def drawn(shape: Shape, rng: random.Random, n: int) -> list[Row]:
    """The values of a message."""
    t = BASE + n * 5_000_000
    count = max(shape.least, rng.choice([0, 1, 1, 2, 5])) if shape.many else 1
    out = []
    for _ in range(2 if shape.pair else count):
        # In order, so that no row is late.
        t += rng.randrange(900_000)
        v: int | None = rng.choice([0, 7, 100, 12345, 10**6])
        if shape.negative and rng.random() < 0.1:
            v = -rng.randrange(1, 200)
        if shape.nulls and rng.random() < 0.1:
            v = None
        k = None if shape.nulls and rng.random() < 0.1 else rng.choice("abc")
        out.append(Row(k, t - t % shape.step, v))
    if shape.pair:
        out = [Row(k, out[0].t, r.v) for k, r in zip(("temp", "hum"), out, strict=True)]
    return out


def published(broker: bayou.Connection, shape: Shape, rng: random.Random) -> list[tuple[bytes, list[Row] | None]]:
    """The messages, and what each says. `None`: it is broken."""
    out: list[tuple[bytes, list[Row] | None]] = []
    headers = []
    for n in range(60):
        said = drawn(shape, rng, n)
        written = shape.write(said, rng)
        value = written if isinstance(written, str) else json.dumps(written)
        broken = shape.read.get("format", "json") in ("json", "jsonl") and rng.random() < 0.05 and len(value) > 3
        out.append((value.rstrip()[:-1].encode() if broken else value.encode(), None if broken else said))
        headers.append(list((shape.headers(said) if shape.headers else {}).items()))
    table: dict[str, Any] = {"value": pa.array([v for v, _ in out], pa.binary())}
    if shape.headers:
        of = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))
        table["headers"] = pa.array([[{"key": k, "value": v.encode()} for k, v in h] for h in headers], of)
    broker.produce(
        "t", pa.table(table), value="value", headers_column="headers" if shape.headers else None, progress=False
    )
    return out


def micros(time: Any) -> int:
    return (time - EPOCH) // datetime.timedelta(microseconds=1)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.name)
def test_a_payload_is_read_by_sql_alone(broker: bayou.Connection, tmp_path: pathlib.Path, shape: Shape) -> None:
    broker.create_topic("t")
    messages = published(broker, shape, random.Random(shape.name))
    stream = broker.read_stream("t", max_offsets_per_trigger=17, **shape.read)
    for step in shape.steps:
        stream = stream.select(*step)
    clean = stream.expect_or_quarantine("a value", shape.rule).named("clean")
    lake = bayou.Pipeline("q", tmp_path)
    lake.table("clean", clean)
    timed = clean.with_watermark("ts", "10 seconds", max_future="36500 days")
    lake.table(
        "per_minute", timed.group_by(bayou.window("ts", "1 minute"), "k").agg("count(*) AS n", "sum(v) AS total")
    )
    lake.run(close_windows=True, progress=False)

    want, failed, windows = [], [], {}
    for offset, (_, said) in enumerate(messages):
        for place, r in enumerate(said or []):
            if r.v is None or r.v < 0:
                failed.append((offset, place))
                continue
            want.append((r.k, r.t, r.v))
            key = (r.t - r.t % MINUTE, r.k)
            n, total = windows.get(key, (0, 0))
            windows[key] = (n + 1, total + r.v)

    def key(row: Any) -> str:
        return repr(row)

    found = [(r["k"], micros(r["ts"]), r["v"]) for r in rows(tmp_path / "clean")]
    assert sorted(found, key=key) == sorted(want, key=key)
    made = {(micros(r["window_start"]), r["k"]): (r["n"], r["total"]) for r in rows(tmp_path / "per_minute")}
    assert made == windows
    aside = rows(tmp_path / "q_quarantine")
    broken = [offset for offset, (_, said) in enumerate(messages) if said is None]
    assert sorted(r["offset"] for r in aside if r["stage"] == "decode") == broken
    assert all(bytes(r["value"]) == messages[r["offset"]][0] for r in aside)
    assert sorted(r["offset"] for r in aside if r["stage"] == "expectation") == sorted(o for o, _ in failed)
