"""Shapes of payloads as they are on people's topics, and the SQL that reads each: from a message to rows (k, ts, v).

The true values are drawn first, and each shape writes them in its own way. So the results of SQL are compared with values that no parser of bayou
has seen.
"""

from __future__ import annotations

import base64
import datetime
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Before the years in which clocks change, and not at the beginning of a minute.
BASE = int(datetime.datetime(2026, 1, 31, 23, 40, 7, tzinfo=datetime.timezone.utc).timestamp()) * 1_000_000


@dataclass(frozen=True)
class Row:
    """The values of one element of a message."""

    k: str | None
    t: int
    v: int | None


@dataclass
class Shape:
    name: str
    write: Callable[[list[Row], random.Random], Any]
    read: dict[str, Any]
    steps: list[list[str]]
    # Elements of one message. 1: the message itself.
    many: bool = False
    # Times are multiples of this.
    step: int = 1_000_000
    rule: str = "v IS NOT NULL AND v >= 0"
    headers: Callable[[list[Row]], dict[str, str]] | None = None
    raw: bool = False
    # Whether a message may say that k or v is NULL, or v less than 0.
    nulls: bool = True
    negative: bool = True
    # The least number of elements of a message.
    least: int = 0
    # Whether a message says two values, of temp and of hum.
    pair: bool = False


def iso(t: int, digits: int = 0, zone: str = "Z", hours: int = 0) -> str:
    at = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=t, hours=hours)
    return at.strftime("%Y-%m-%dT%H:%M:%S") + (f".{t % 1_000_000:06}000"[: digits + 1] if digits else "") + zone


def strf(t: int, pattern: str, hours: int = 0) -> str:
    return (datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=t, hours=hours)).strftime(pattern)


def text(v: Any) -> str:
    return json.dumps(v, separators=(",", ":"))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def cents(v: int | None) -> str | None:
    """An amount in cents as people write it."""
    return None if v is None else f"{'-' if v < 0 else ''}{abs(v) // 100}.{abs(v) % 100:02}"


def otlp(rows: list[Row], rng: random.Random) -> Any:
    def record(r: Row) -> Any:
        attributes = [
            {"key": "noise", "value": {"stringValue": "x"}},
            {"key": "k", "value": {} if r.k is None else {"stringValue": r.k}},
            {"key": "v", "value": {} if r.v is None else {"intValue": str(r.v)}},
        ]
        rng.shuffle(attributes)
        return {"timeUnixNano": str(r.t * 1000 + 7), "attributes": attributes}

    half = rng.randrange(len(rows) + 1)
    scopes = [{"logRecords": [record(r) for r in part]} for part in (rows[:half], rows[half:])]
    return {"resourceLogs": [{"scopeLogs": scopes[:1]}, {"scopeLogs": scopes[1:]}, {"scopeLogs": []}]}


def by_name(rows: list[Row]) -> dict[str, list[Row]]:
    out: dict[str, list[Row]] = {}
    for r in rows:
        out.setdefault(r.k or "none", []).append(r)
    return out


PLAIN = ["k", "ts", "v"]
MS = {"timestamp_unit": "ms"}


def flat(r: Row, ts: Any) -> dict[str, Any]:
    return {"k": r.k, "ts": ts, "v": r.v}


FLAT = "k STRING, ts TIMESTAMP, v BIGINT"
SHAPES = [
    Shape("a flat document", lambda rs, _: flat(rs[0], iso(rs[0].t)), {"schema": FLAT}, [PLAIN]),
    Shape("seconds", lambda rs, _: flat(rs[0], rs[0].t // 10**6), {"schema": FLAT, "timestamp_unit": "s"}, [PLAIN]),
    Shape("milliseconds", lambda rs, _: flat(rs[0], rs[0].t // 1000), {"schema": FLAT, **MS}, [PLAIN], step=1000),
    Shape("microseconds", lambda rs, _: flat(rs[0], rs[0].t), {"schema": FLAT, "timestamp_unit": "us"}, [PLAIN], step=1),
    Shape("nanoseconds", lambda rs, _: flat(rs[0], rs[0].t * 1000 + 999), {"schema": FLAT, "timestamp_unit": "ns"}, [PLAIN], step=1),
    Shape("seconds with a fraction", lambda rs, _: flat(rs[0], rs[0].t / 1e6), {"schema": FLAT, "timestamp_unit": "s"}, [PLAIN], step=1000),
    Shape("milliseconds in quotes", lambda rs, _: flat(rs[0], str(rs[0].t // 1000)), {"schema": FLAT, **MS}, [PLAIN], step=1000),
    Shape("nine digits", lambda rs, _: flat(rs[0], iso(rs[0].t, 9)), {"schema": FLAT}, [PLAIN], step=1),
    Shape("an offset", lambda rs, _: flat(rs[0], iso(rs[0].t, 3, "+0530", 5).replace("T", " ")[:-5] + "+0500"), {"schema": FLAT}, [PLAIN], step=1000),
    Shape(
        "a CDC envelope",
        lambda rs, _: {"before": None, "after": {**flat(rs[0], rs[0].t)}, "op": "c", "ts_ms": 1, "source": {"lsn": 5}},
        {"schema": "before STRUCT<k: STRING>, after STRUCT<k: STRING, ts: BIGINT, v: BIGINT>, op STRING"},
        [["after.*", "op"], ["k", "timestamp_micros(ts) AS ts", "v"]],
        step=1,
    ),
    Shape(
        "an envelope with its schema",
        lambda rs, _: {"schema": {"type": "struct", "fields": [{"field": "k"}]}, "payload": {"op": "u", "after": flat(rs[0], rs[0].t // 1000)}},
        {"schema": "payload STRUCT<op: STRING, after: STRUCT<k: STRING, ts: BIGINT, v: BIGINT>>"},
        [["payload.after.*"], ["k", "timestamp_millis(ts) AS ts", "v"]],
        step=1000,
    ),
    Shape(
        "a decimal as its bytes",
        lambda rs, _: {"k": rs[0].k, "at": rs[0].t, "amount": None if rs[0].v is None else b64(rs[0].v.to_bytes(4, "big"))},
        {"schema": "k STRING, at BIGINT, amount STRING"},
        [["k", "timestamp_micros(at) AS ts", "CAST(conv(hex(unbase64(amount)), 16, 10) AS BIGINT) AS v"]],
        step=1,
        negative=False,
    ),
    Shape(
        "amounts as text",
        lambda rs, _: {"k": rs[0].k, "created": iso(rs[0].t), "amount": cents(rs[0].v), "__deleted": "false"},
        {"schema": "k STRING, created TIMESTAMP, amount STRING, __deleted STRING"},
        [["k", "created AS ts", "CAST(CAST(amount AS DECIMAL(12,2)) * 100 AS BIGINT) AS v"]],
    ),
    Shape(
        "a document as text in a document",
        lambda rs, _: {"op": "i", "after": text({"_id": {"$oid": "5f"}, "k": rs[0].k, "at": {"$date": rs[0].t // 1000}, "v": rs[0].v})},
        {"schema": "op STRING, after STRING"},
        [
            ["from_json(after, 'k STRING, at STRUCT<`$date`: BIGINT>, v BIGINT') AS d"],
            ["d.k", "timestamp_millis(d.at.`$date`) AS ts", "d.v"],
        ],
        step=1000,
    ),
    Shape(
        "text in text in text",
        lambda rs, _: {"a": text({"b": text(flat(rs[0], iso(rs[0].t)))})},
        {"schema": "a STRING"},
        [["from_json(from_json(a, 'b STRING').b, 'k STRING, ts TIMESTAMP, v BIGINT') AS d"], ["d.*"]],
    ),
    Shape(
        "rows of a statement",
        lambda rs, _: {"type": "INSERT", "data": [{"k": r.k, "ts": iso(r.t, zone="").replace("T", " "), "v": None if r.v is None else str(r.v)} for r in rs], "old": None},
        {"schema": "type STRING, data ARRAY<STRUCT<k: STRING, ts: TIMESTAMP, v: STRING>>"},
        [["inline(data) AS (k, ts, w)"], ["k", "ts", "CAST(w AS BIGINT) AS v"]],
        many=True,
    ),
    Shape(
        "an envelope by table",
        lambda rs, _: {"database": "shop", "table": "t", "ts": rs[0].t // 10**6, "data": {"k": rs[0].k, "v": rs[0].v}, "xid": 9},
        {"schema": "table STRING, ts TIMESTAMP, data STRUCT<k: STRING, v: BIGINT>", "timestamp_unit": "s"},
        [["data.k", "ts", "data.v"]],
    ),
    Shape(
        "a structured event",
        lambda rs, _: {"specversion": "1.0", "type": rs[0].k, "time": iso(rs[0].t, 7), "data": {"v": rs[0].v}},
        {"schema": "type STRING, time TIMESTAMP, data STRUCT<v: BIGINT>"},
        [["type AS k", "time AS ts", "data.v"]],
        step=1,
    ),
    Shape(
        "an event in headers",
        lambda rs, _: {"v": rs[0].v},
        {"schema": "v BIGINT", "include_metadata": True},
        [
            ["map_from_entries(_headers) AS h", "v"],
            ["CAST(h['ce_type'] AS STRING) AS k", "CAST(CAST(h['ce_time'] AS STRING) AS TIMESTAMP) AS ts", "v"],
        ],
        headers=lambda rs: {"ce_id": "1", "ce_type": rs[0].k or "", "ce_time": iso(rs[0].t, 6)},
        nulls=False,
        step=1,
    ),
    Shape(
        "a batch of events",
        lambda rs, _: [{"id": "x", "eventTime": iso(r.t, 3), "data": {"k": r.k, "v": r.v}} for r in rs],
        {"schema": "ARRAY<STRUCT<eventTime: TIMESTAMP, data: STRUCT<k: STRING, v: BIGINT>>>"},
        [["inline(value)"], ["data.k", "eventTime AS ts", "data.v"]],
        many=True,
        step=1000,
    ),
    Shape(
        "a body in base64",
        lambda rs, _: {"properties": {"p": "1"}, "body": b64(text(flat(rs[0], iso(rs[0].t))).encode())},
        {"schema": "properties MAP<STRING, STRING>, body STRING"},
        [["from_json(decode(unbase64(body), 'UTF-8'), 'k STRING, ts TIMESTAMP, v BIGINT') AS d"], ["d.*"]],
    ),
    Shape(
        "readings by device",
        lambda rs, _: {k: [{"ts": r.t // 1000, "values": {"v": r.v}} for r in of] for k, of in by_name(rs).items()},
        {"schema": "MAP<STRING, ARRAY<STRUCT<ts: TIMESTAMP, values: STRUCT<v: BIGINT>>>>", **MS},
        [["explode(value) AS (name, all)"], ["nullif(name, 'none') AS k", "inline(all)"], ["k", "ts", "values.v"]],
        many=True,
        step=1000,
    ),
    Shape(
        "batches within batches",
        lambda rs, _: {"entries": [{"k": r.k, "values": [{"at": {"s": r.t // 10**6, "ns": r.t % 10**6 * 1000}, "value": {"integerValue": r.v}}]} for r in rs]},
        {"schema": "entries ARRAY<STRUCT<k: STRING, values: ARRAY<STRUCT<at: STRUCT<s: BIGINT, ns: BIGINT>, value: STRUCT<integerValue: BIGINT>>>>>"},
        [["explode(entries) AS e"], ["e.k", "explode(e.values) AS x"], ["k", "timestamp_micros(x.at.s * 1000000 + x.at.ns div 1000) AS ts", "x.value.integerValue AS v"]],
        many=True,
        step=1,
    ),
    Shape(
        "points as pairs",
        lambda rs, _: {"points": [[r.k, r.t // 1000, r.v] for r in rs]},
        {"schema": "points ARRAY<ARRAY<STRING>>"},
        [["explode(points) AS p"], ["p[0] AS k", "timestamp_millis(CAST(p[1] AS BIGINT)) AS ts", "CAST(get(p, 2) AS BIGINT) AS v"]],
        many=True,
        step=1000,
    ),
    Shape(
        "columns as arrays",
        lambda rs, _: {"k": [r.k for r in rs], "t": [r.t // 1000 for r in rs], "v": [r.v for r in rs]},
        {"schema": "k ARRAY<STRING>, t ARRAY<TIMESTAMP>, v ARRAY<BIGINT>", **MS},
        [["inline(arrays_zip(k, t, v))"], ["k", "t AS ts", "v"]],
        many=True,
        step=1000,
    ),
    Shape(
        "metrics by name",
        lambda rs, _: {"at": iso(rs[0].t), "metrics": {rs[0].k or "none": rs[0].v}},
        {"schema": "at TIMESTAMP, metrics MAP<STRING, BIGINT>"},
        [["at AS ts", "explode(metrics) AS (name, v)"], ["nullif(name, 'none') AS k", "ts", "v"]],
    ),
    Shape(
        "a path into text",
        lambda rs, _: {"body": text({"data": {"list": [0, {"k": rs[0].k, "v": rs[0].v}], "at ": iso(rs[0].t)}})},
        {"schema": "body STRING"},
        [["body:data.list[1].k AS k", "CAST(body:data['at '] AS TIMESTAMP) AS ts", "body:data.list[1].v::BIGINT AS v"]],
    ),
    Shape(
        "a VARIANT",
        lambda rs, _: {"body": text({"d": flat(rs[0], iso(rs[0].t))})},
        {"schema": "body STRING"},
        [["variant_get(parse_json(body), '$.d.k', 'STRING') AS k", "variant_get(parse_json(body), '$.d.ts', 'TIMESTAMP') AS ts", "parse_json(body):d.v::BIGINT AS v"]],
    ),
    Shape(
        "records with attributes",
        otlp,
        {"schema": "resourceLogs ARRAY<STRUCT<scopeLogs: ARRAY<STRUCT<logRecords: ARRAY<STRUCT<timeUnixNano: STRING, attributes: ARRAY<STRUCT<key: STRING, value: STRUCT<stringValue: STRING, intValue: STRING>>>>>>>>>"},
        [
            ["explode(flatten(flatten(transform(resourceLogs, r -> transform(r.scopeLogs, s -> s.logRecords))))) AS r"],
            [
                "filter(r.attributes, a -> a.key = 'k')[0].value.stringValue AS k",
                "timestamp_micros(CAST(r.timeUnixNano AS BIGINT) div 1000) AS ts",
                "CAST(filter(r.attributes, a -> a.key = 'v')[0].value.intValue AS BIGINT) AS v",
            ],
        ],
        many=True,
        step=1,
    ),
    Shape(
        "attributes as a map",
        lambda rs, _: {"at": iso(rs[0].t), "attrs": [{"key": "v", "value": rs[0].v}, {"key": "z", "value": 9}], "k": rs[0].k},
        {"schema": "at TIMESTAMP, attrs ARRAY<STRUCT<key: STRING, value: BIGINT>>, k STRING"},
        [["k", "at AS ts", "map_from_entries(attrs)['v'] AS v"]],
    ),
    Shape(
        "commits",
        lambda rs, _: {"ref": "main", "commits": [{"id": r.k, "timestamp": iso(r.t, 0, "+02:00", 2), "size": r.v} for r in rs]},
        {"schema": "ref STRING, commits ARRAY<STRUCT<id: STRING, timestamp: TIMESTAMP, size: BIGINT>>"},
        [["explode(commits) AS c"], ["c.id AS k", "c.timestamp AS ts", "c.size AS v"]],
        many=True,
    ),
    Shape(
        "an order with lines",
        lambda rs, _: {"created_at": iso(rs[0].t), "line_items": [{"sku": rs[0].k, "price": cents(rs[0].v)}]},
        {"schema": "created_at TIMESTAMP, line_items ARRAY<STRUCT<sku: STRING, price: DECIMAL(12,2)>>", "allow_quoted_numbers": True},
        [["created_at AS ts", "inline(line_items)"], ["sku AS k", "ts", "CAST(price * 100 AS BIGINT) AS v"]],
    ),
    Shape(
        "a log line's time",
        lambda rs, _: {"time_local": strf(rs[0].t, "%d/%b/%Y:%H:%M:%S +0100", 1), "uri": f"/a?k={rs[0].k or ''}&x=1", "bytes": rs[0].v},
        {"schema": "time_local STRING, uri STRING, bytes BIGINT"},
        [["nullif(parse_url(concat('http://h', uri), 'QUERY', 'k'), '') AS k", "to_timestamp(time_local, 'dd/MMM/yyyy:HH:mm:ss Z') AS ts", "bytes AS v"]],
    ),
    Shape(
        "dotted names",
        lambda rs, _: {"@timestamp": iso(rs[0].t, 3), "log.level": rs[0].k, "http.bytes": rs[0].v},
        {"schema": "`@timestamp` TIMESTAMP, `log.level` STRING, `http.bytes` BIGINT"},
        [["`log.level` AS k", "`@timestamp` AS ts", "`http.bytes` AS v"]],
        step=1000,
    ),
    Shape(
        "names with dashes and blanks",
        lambda rs, _: {"user-id": rs[0].k, "Event Time": iso(rs[0].t), "24h_volume": rs[0].v},
        {"schema": "`user-id` STRING, `Event Time` TIMESTAMP, 24h_volume BIGINT"},
        [["`user-id` AS k", "`Event Time` AS ts", "24h_volume AS v"]],
    ),
    Shape(
        "names that differ in case",
        lambda rs, _: {"t": rs[0].v, "T": rs[0].t // 1000, "s": rs[0].k},
        {"schema": "t BIGINT, T TIMESTAMP, s STRING", **MS},
        [["s AS k", "`T` AS ts", "`t` AS v"]],
        step=1000,
    ),
    Shape(
        "separated values",
        lambda rs, _: f"{rs[0].k or ''},{iso(rs[0].t)},{'' if rs[0].v is None else rs[0].v}",
        {"format": "raw"},
        [["from_csv(decode(value, 'UTF-8'), 'k STRING, ts TIMESTAMP, v BIGINT') AS d"], ["d.*"]],
        raw=True,
    ),
    Shape(
        "separated values in a field",
        lambda rs, _: {"line": f"{rs[0].k or ''}|{iso(rs[0].t)}|{'' if rs[0].v is None else rs[0].v}"},
        {"schema": "line STRING"},
        [["from_csv(line, 'k STRING, ts TIMESTAMP, v BIGINT', map('sep', '|')) AS d"], ["d.*"]],
    ),
    Shape(
        "pairs in a text",
        lambda rs, _: {"m": f"k={rs[0].k or ''};t={rs[0].t};v={'' if rs[0].v is None else rs[0].v}"},
        {"schema": "m STRING"},
        [["str_to_map(m, ';', '=') AS m"], ["nullif(m['k'], '') AS k", "timestamp_micros(m['t']::BIGINT) AS ts", "CAST(nullif(m['v'], '') AS BIGINT) AS v"]],
        step=1,
    ),
    Shape(
        "a line of syslog",
        lambda rs, _: f"<34>1 {iso(rs[0].t, 3)} host app - - k={rs[0].k or ''} v={'' if rs[0].v is None else rs[0].v}",
        {"format": "raw"},
        [
            ["decode(value, 'UTF-8') AS line"],
            [
                "nullif(regexp_extract(line, 'k=(\\\\w*)', 1), '') AS k",
                "CAST(regexp_extract(line, '^<\\\\d+>1 (\\\\S+)', 1) AS TIMESTAMP) AS ts",
                "CAST(nullif(regexp_extract(line, 'v=(-?\\\\d*)', 1), '') AS BIGINT) AS v",
            ],
        ],
        raw=True,
        step=1000,
    ),
    Shape(
        "bytes that are a document",
        lambda rs, _: flat(rs[0], iso(rs[0].t)),
        {"format": "raw"},
        [["from_json(decode(value, 'UTF-8'), 'k STRING, ts TIMESTAMP, v BIGINT') AS d"], ["d.k", "d.ts", "d.v"]],
    ),
    Shape(
        "several documents in a message",
        lambda rs, _: "\n".join(text(flat(r, iso(r.t))) for r in rs) + "\n",
        {"schema": FLAT, "format": "jsonl"},
        [["inline(value)"], PLAIN],
        many=True,
        least=1,
        raw=True,
    ),
    Shape(
        "fields of a text",
        lambda rs, _: {"doc": text({"ts": iso(rs[0].t), "k": rs[0].k, "v": rs[0].v})},
        {"schema": "doc STRING"},
        [["json_tuple(doc, 'k', 'ts', 'v') AS (k, t, w)"], ["k", "CAST(t AS TIMESTAMP) AS ts", "w::BIGINT AS v"]],
    ),
    Shape(
        "a column for each metric",
        lambda rs, _: {"at": iso(rs[0].t), "temp": rs[0].v, "hum": rs[1].v},
        {"schema": "at TIMESTAMP, temp BIGINT, hum BIGINT"},
        [["at AS ts", "stack(2, 'temp', temp, 'hum', hum) AS (k, v)"]],
        pair=True,
    ),
    Shape(
        "a union of types",
        lambda rs, rng: {"k": rs[0].k, "at": iso(rs[0].t), "value": None if rs[0].v is None else rng.choice([{"long": rs[0].v}, {"string": str(rs[0].v)}])},
        {"schema": "k STRING, at TIMESTAMP, value STRUCT<long: BIGINT, string: STRING>"},
        [["k", "at AS ts", "coalesce(value.long, CAST(value.string AS BIGINT)) AS v"]],
    ),
    Shape(
        "features of a map",
        lambda rs, _: {"type": "FeatureCollection", "features": [{"properties": {"mag": r.v, "time": r.t // 1000}, "geometry": {"coordinates": [1.5, -2.25, 3]}, "id": r.k} for r in rs]},
        {"schema": "features ARRAY<STRUCT<properties: STRUCT<mag: BIGINT, time: TIMESTAMP>, geometry: STRUCT<coordinates: ARRAY<DOUBLE>>, id: STRING>>", **MS},
        [["explode(features) AS f"], ["f.id AS k", "f.properties.time AS ts", "f.properties.mag + CAST(f.geometry.coordinates[2] - 3 AS BIGINT) AS v"]],
        many=True,
        step=1000,
    ),
    Shape(
        "samples with labels",
        lambda rs, _: {"metric": {"__name__": "up", "k": rs[0].k}, "values": [[rs[0].t / 1e6, None if rs[0].v is None else str(rs[0].v)]]},
        {"schema": "metric MAP<STRING, STRING>, values ARRAY<ARRAY<STRING>>"},
        [["metric['k'] AS k", "explode(values) AS p"], ["k", "CAST(CAST(p[0] AS DECIMAL(20,6)) AS TIMESTAMP) AS ts", "CAST(p[1] AS BIGINT) AS v"]],
        step=1000,
    ),
    Shape(
        "date and time apart",
        lambda rs, _: {"k": rs[0].k, "d": int(strf(rs[0].t, "%Y%m%d")), "t": strf(rs[0].t, "%H%M%S"), "v": rs[0].v},
        {"schema": "k STRING, d INT, t STRING, v BIGINT"},
        [["k", "to_timestamp(concat(d, t), 'yyyyMMddHHmmss') AS ts", "v"]],
    ),
    Shape(
        "local time and its zone",
        lambda rs, _: {"k": rs[0].k, "local": iso(rs[0].t, 0, "", 9), "zone": "Asia/Tokyo", "v": rs[0].v},
        {"schema": "k STRING, local TIMESTAMP, zone STRING, v BIGINT"},
        [["k", "to_utc_timestamp(local, zone) AS ts", "v"]],
    ),
    Shape(
        "a date of .NET",
        lambda rs, _: {"k": rs[0].k, "at": f"/Date({rs[0].t // 1000})/", "v": rs[0].v},
        {"schema": "k STRING, at STRING, v BIGINT"},
        [["k", "timestamp_millis(CAST(regexp_extract(at, '(-?\\\\d+)', 1) AS BIGINT)) AS ts", "v"]],
        step=1000,
    ),
    Shape(
        "numbers for people",
        lambda rs, _: {"k": rs[0].k, "at": strf(rs[0].t, "%m/%d/%Y %I:%M:%S %p"), "v": None if rs[0].v is None else f"{rs[0].v:,}"},
        {"schema": "k STRING, at STRING, v STRING"},
        [["k", "to_timestamp(at, 'MM/dd/yyyy hh:mm:ss a') AS ts", "CAST(replace(v, ',') AS BIGINT) AS v"]],
    ),
    Shape(
        "old and new names",
        lambda rs, rng: {"v": rs[0].v, **rng.choice([{"user": {"id": rs[0].k}, "at": iso(rs[0].t)}, {"userId": rs[0].k, "timestamp": rs[0].t // 1000}])},
        {"schema": "user STRUCT<id: STRING>, userId STRING, at TIMESTAMP, timestamp BIGINT, v BIGINT"},
        [["coalesce(user.id, userId) AS k", "coalesce(at, timestamp_millis(timestamp)) AS ts", "v"]],
    ),
    Shape(
        "NaN where there is no value",
        lambda rs, _: f'{{"k":{text(rs[0].k)},"ts":"{iso(rs[0].t)}","w":{"NaN" if rs[0].v is None else rs[0].v}}}',
        {"schema": "k STRING, ts TIMESTAMP, w DOUBLE", "allow_nan": True},
        [["k", "ts", "CAST(nullif(w, double('NaN')) AS BIGINT) AS v"]],
        raw=True,
    ),
    Shape(
        "sums within a message",
        lambda rs, _: {"k": rs[0].k, "at": iso(rs[0].t), "items": None if rs[0].v is None else [{"q": rs[0].v - 7}, {"q": 4}, {"q": 3}]},
        {"schema": "k STRING, at TIMESTAMP, items ARRAY<STRUCT<q: BIGINT>>"},
        [["k", "at AS ts", "aggregate(items, 0L, (acc, i) -> acc + i.q) AS v"]],
    ),
    Shape(
        "places as keys",
        lambda rs, _: {"at": iso(rs[0].t), "slots": [rs[0].v, rs[1].v]},
        {"schema": "at TIMESTAMP, slots ARRAY<BIGINT>"},
        [["at AS ts", "posexplode(slots) AS (p, v)"], ["elt(p + 1, 'temp', 'hum') AS k", "ts", "v"]],
        pair=True,
    ),
    Shape(
        "flags that are set",
        lambda rs, _: {"at": iso(rs[0].t), "v": rs[0].v, "flags": {"x": False, (rs[0].k or "none"): True, "y": None}},
        {"schema": "at TIMESTAMP, v BIGINT, flags MAP<STRING, BOOLEAN>"},
        [["at AS ts", "v", "explode(map_keys(map_filter(flags, (k, on) -> on))) AS name"], ["nullif(name, 'none') AS k", "ts", "v"]],
    ),
    Shape(
        "an enveloped list by kind",
        lambda rs, _: {"batch": [{"kind": "skip", "body": None}, *({"kind": "m", "body": text(flat(r, iso(r.t)))} for r in rs)]},
        {"schema": "batch ARRAY<STRUCT<kind: STRING, body: STRING>>"},
        [["explode(filter(batch, b -> b.kind = 'm')) AS b"], ["from_json(b.body, 'k STRING, ts TIMESTAMP, v BIGINT') AS d"], ["d.*"]],
        many=True,
    ),
]
