"""The queries of Nexmark (persons, auctions and bids of an auction house), compared with DuckDB, however the topics are cut into epochs.

Queries over the present (q12) and over the last rows of a key (q6) are written with event time and with `max_by`. A result that a stream does
not have before it ends (an average over running winners, q4) is computed by SQL over the tables.
"""

from __future__ import annotations

import datetime
import pathlib
import random
from collections.abc import Callable
from typing import Any

import bayou
import duckdb
import pyarrow as pa
import pytest

START = datetime.datetime(2026, 3, 1, 11, 59, tzinfo=datetime.timezone.utc)
EVENTS = 3000


def events(seed: int) -> dict[str, pa.Table]:
    """As the generator of Nexmark: of fifty events one is a person, three are auctions and the others bids, a little out of order."""
    rng = random.Random(seed)
    persons, auctions, bids = [], [], []
    for n in range(EVENTS):
        time = START + datetime.timedelta(milliseconds=100 * n + rng.randrange(2000))
        if n % 50 == 0:
            state = rng.choice(["OR", "ID", "CA", "WA", None])
            persons.append((len(persons), f"name {n}", f"{n}@example.com", rng.choice(["Portland", "Boise", "Kent"]), state, time))
        elif n % 50 < 4:
            expires = time + datetime.timedelta(seconds=rng.choice([5, 20, 60]))
            auctions.append((len(auctions), f"item {n}", rng.randrange(1, 200), 100, time, expires, rng.randrange(max(1, len(persons))), rng.randrange(10, 14)))
        else:
            channel = rng.choice(["apple", "google", "facebook", "baidu", "channel-17"])
            url = f"https://www.nexmark.com/{rng.choice('abc')}/{channel}/item.htm?query=1&channel_id={rng.randrange(5)}"
            bids.append((rng.randrange(max(1, len(auctions))), rng.randrange(max(1, len(persons))), rng.randrange(1, 10_000), channel, url, time, "x" * (n % 5) + "c%"))
    stamp = pa.timestamp("us", "UTC")
    return {
        "person": pa.table(
            [pa.array(c, t) for c, t in zip(zip(*persons, strict=True), [pa.int64(), pa.string(), pa.string(), pa.string(), pa.string(), stamp], strict=True)],
            names=["id", "name", "email", "city", "state", "ts"],
        ),
        "auction": pa.table(
            [pa.array(c, t) for c, t in zip(zip(*auctions, strict=True), [pa.int64(), pa.string(), pa.int64(), pa.int64(), stamp, stamp, pa.int64(), pa.int64()], strict=True)],
            names=["id", "item", "initial_bid", "reserve", "ts", "expires", "seller", "category"],
        ),
        "bid": pa.table(
            [pa.array(c, t) for c, t in zip(zip(*bids, strict=True), [pa.int64(), pa.int64(), pa.int64(), pa.string(), pa.string(), stamp, pa.string()], strict=True)],
            names=["auction", "bidder", "price", "channel", "url", "ts", "extra"],
        ),
    }


SCHEMAS = {
    "person": "id BIGINT, name STRING, email STRING, city STRING, state STRING, ts TIMESTAMP",
    "auction": "id BIGINT, item STRING, initial_bid BIGINT, reserve BIGINT, ts TIMESTAMP, expires TIMESTAMP, seller BIGINT, category BIGINT",
    "bid": "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, ts TIMESTAMP, extra STRING",
}
Streams = dict[str, bayou.Stream]
# By name: the stream, and the same for DuckDB.
QUERIES: dict[str, tuple[Callable[[Streams], Any], str]] = {
    "q0": (lambda s: s["bid"].select("auction", "bidder", "price", "ts"), "SELECT auction, bidder, price, ts FROM bid"),
    "q1": (
        lambda s: s["bid"].select("auction", "bidder", "CAST(0.908 * price AS DECIMAL(23,3)) AS price", "ts"),
        "SELECT auction, bidder, CAST(0.908 * price AS DECIMAL(23,3)) AS price, ts FROM bid",
    ),
    "q2": (lambda s: s["bid"].where("auction % 13 = 0").select("auction", "price"), "SELECT auction, price FROM bid WHERE auction % 13 = 0"),
    "q3": (
        lambda s: s["auction"].where("category = 10").join(s["person"].where("state IN ('OR', 'ID', 'CA')"), on={"seller": "id"}, within="1 day", suffix="_p").select("name", "city", "state", "id"),
        "SELECT name, city, state, a.id FROM auction a JOIN person p ON a.seller = p.id WHERE category = 10 AND state IN ('OR', 'ID', 'CA')",
    ),
    "q5": (
        lambda s: s["bid"].group_by(bayou.window("ts", "10 seconds", "2 seconds"), "auction").agg("count(*) AS n"),
        "SELECT time_bucket(INTERVAL 2 SECONDS, ts) - k * INTERVAL 2 SECONDS AS window_start, time_bucket(INTERVAL 2 SECONDS, ts) - k * INTERVAL 2 SECONDS + INTERVAL 10 SECONDS AS window_end, "
        "auction, count(*) AS n FROM bid, range(5) r(k) GROUP BY ALL",
    ),
    "q7": (
        lambda s: s["bid"].group_by(bayou.window("ts", "10 seconds")).agg("max(price) AS price", "max_by(struct(auction, bidder), struct(price, ts, auction, bidder)) AS best").select("window_start", "price", "best.auction", "best.bidder"),
        "SELECT w, price, auction, bidder FROM (SELECT time_bucket(INTERVAL 10 SECONDS, ts) AS w, *, row_number() OVER (PARTITION BY w ORDER BY price DESC, ts DESC, auction DESC, bidder DESC) AS r FROM bid) WHERE r = 1",
    ),
    "q8": (
        lambda s: s["person"].join(s["auction"], on={"id": "seller"}, within="10 seconds", suffix="_a").where("date_trunc('MINUTE', ts) = date_trunc('MINUTE', ts_a)").select("id", "name", "id_a"),
        "SELECT p.id, name, a.id FROM person p JOIN auction a ON p.id = a.seller AND abs(epoch_us(p.ts) - epoch_us(a.ts)) <= 10000000 AND date_trunc('minute', p.ts) = date_trunc('minute', a.ts)",
    ),
    "q9": (
        lambda s: s["auction"].join(s["bid"], on={"id": "auction"}, within=("0 seconds", "60 seconds"), suffix="_b").where("ts_b <= expires")
        .group_by(bayou.window("ts", "1 day"), "id").agg("max_by(struct(bidder, price), struct(price, -unix_micros(ts_b), bidder)) AS best").select("id", "best.*"),
        "SELECT id, bidder, price FROM (SELECT a.id, bidder, price, row_number() OVER (PARTITION BY a.id ORDER BY price DESC, b.ts, bidder DESC) AS r FROM auction a JOIN bid b ON a.id = b.auction AND b.ts BETWEEN a.ts AND a.expires) WHERE r = 1",
    ),
    "q10": (
        lambda s: s["bid"].select("auction", "price", "date_format(ts, 'yyyy-MM-dd') AS dt", "date_format(ts, 'HH:mm') AS hm"),
        "SELECT auction, price, strftime(ts, '%Y-%m-%d') AS dt, strftime(ts, '%H:%M') AS hm FROM bid",
    ),
    "q11": (
        lambda s: s["bid"].group_by(bayou.session_window("ts", "10 seconds"), "bidder").agg("count(*) AS n").select("bidder", "n", "window_start"),
        "SELECT bidder, count(*) AS n, min(ts) FROM (SELECT bidder, ts, sum(new) OVER (PARTITION BY bidder ORDER BY ts, auction, price) AS g FROM "
        "(SELECT *, coalesce(epoch_us(ts) - epoch_us(lag(ts) OVER (PARTITION BY bidder ORDER BY ts, auction, price)) >= 10000000, TRUE)::INT AS new FROM bid)) GROUP BY bidder, g",
    ),
    "q12": (lambda s: s["bid"].group_by(bayou.window("ts", "10 seconds"), "bidder").agg("count(*) AS n").select("bidder", "n"), "SELECT bidder, count(*) AS n FROM bid GROUP BY bidder, time_bucket(INTERVAL 10 SECONDS, ts)"),
    "q13": (
        lambda s: s["bid"].join([{"key": k, "value": f"v{k}"} for k in range(7)], on={"auction": "key"}).select("auction", "price", "value"),
        "SELECT auction, price, 'v' || auction FROM bid WHERE auction < 7",
    ),
    "q14": (
        lambda s: s["bid"].select(
            "auction", "0.908 * price AS price", "CASE WHEN hour(ts) BETWEEN 8 AND 18 THEN 'dayTime' WHEN hour(ts) <= 6 OR hour(ts) >= 20 THEN 'nightTime' ELSE 'otherTime' END AS kind",
            "length(extra) - length(replace(extra, 'c')) AS c_counts",
        ).where("price > 1000"),
        "SELECT auction, 0.908 * price, CASE WHEN hour(ts) BETWEEN 8 AND 18 THEN 'dayTime' WHEN hour(ts) <= 6 OR hour(ts) >= 20 THEN 'nightTime' ELSE 'otherTime' END, "
        "length(extra) - length(replace(extra, 'c', '')) FROM bid WHERE 0.908 * price > 1000",
    ),
    "q15": (
        lambda s: s["bid"].group_by(bayou.window("ts", "1 minute")).agg(
            "count(*) AS n", "count(*) FILTER (WHERE price < 1000) AS low", "count(DISTINCT bidder) AS bidders", "count(DISTINCT auction) FILTER (WHERE price >= 1000) AS high_auctions"
        ).select("n", "low", "bidders", "high_auctions"),
        "SELECT count(*), count(*) FILTER (WHERE price < 1000), count(DISTINCT bidder), count(DISTINCT auction) FILTER (WHERE price >= 1000) FROM bid GROUP BY time_bucket(INTERVAL 1 MINUTE, ts)",
    ),
    "q16": (
        lambda s: s["bid"].group_by("channel", bayou.window("ts", "1 minute")).agg("max(date_format(ts, 'HH:mm')) AS minute", "count(*) AS n", "count(DISTINCT bidder) AS bidders").select("channel", "minute", "n", "bidders"),
        "SELECT channel, max(strftime(ts, '%H:%M')), count(*), count(DISTINCT bidder) FROM bid GROUP BY channel, time_bucket(INTERVAL 1 MINUTE, ts)",
    ),
    "q17": (
        lambda s: s["bid"].group_by("auction", bayou.window("ts", "1 minute")).agg("count(*) AS n", "min(price) AS low", "max(price) AS high", "avg(price) AS mean", "sum(price) AS total").select("auction", "n", "low", "high", "mean", "total"),
        "SELECT auction, count(*), min(price), max(price), avg(price), sum(price)::BIGINT FROM bid GROUP BY auction, time_bucket(INTERVAL 1 MINUTE, ts)",
    ),
    "q18": (
        lambda s: s["bid"].group_by("bidder", "auction").agg("max_by(price, struct(ts, price)) AS price"),
        "SELECT bidder, auction, price FROM (SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY ts DESC, price DESC) AS r FROM bid) WHERE r = 1",
    ),
    "q19": (
        lambda s: s["bid"].group_by("auction", bayou.window("ts", "1 minute")).agg("slice(sort_array(collect_list(struct(price, bidder)), false), 1, 3) AS top").select("auction", "inline(top)"),
        "SELECT auction, price, bidder FROM (SELECT *, row_number() OVER (PARTITION BY auction, time_bucket(INTERVAL 1 MINUTE, ts) ORDER BY price DESC, bidder DESC) AS r FROM bid) WHERE r <= 3",
    ),
    "q20": (
        lambda s: s["bid"].join(s["auction"].where("category = 10"), on={"auction": "id"}, within="1 day", suffix="_a").select("auction", "bidder", "price", "item", "category"),
        "SELECT auction, bidder, price, item, category FROM bid b JOIN auction a ON b.auction = a.id WHERE category = 10",
    ),
    "q21": (
        lambda s: s["bid"].select(
            "auction", "bidder", "CASE WHEN lower(channel) = 'apple' THEN '0' WHEN lower(channel) = 'google' THEN '1' WHEN lower(channel) = 'facebook' THEN '2' WHEN lower(channel) = 'baidu' THEN '3' "
            "ELSE regexp_extract(url, '(&|^)channel_id=([^&]*)', 2) END AS channel_id",
        ).where("channel_id <> ''"),
        "SELECT auction, bidder, CASE lower(channel) WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3' ELSE regexp_extract(url, '(&|^)channel_id=([^&]*)', 2) END AS c FROM bid WHERE c <> ''",
    ),
    "q22": (
        lambda s: s["bid"].select("auction", "split_part(url, '/', 4) AS dir1", "element_at(split(url, '/'), 5) AS dir2", "split(url, '/')[5] AS dir3"),
        "SELECT auction, split_part(url, '/', 4), split_part(url, '/', 5), split_part(url, '/', 6) FROM bid",
    ),
}
# Over the tables that the others fill, or over the topics' own tables.
OVER_TABLES = {
    "q4": (
        "SELECT category, avg(final) AS mean FROM (SELECT a.id, category, max(b.price) AS final FROM auctions a JOIN q0 b ON a.id = b.auction AND b.ts BETWEEN a.ts AND a.expires GROUP BY a.id, category) GROUP BY category",
        "SELECT category, avg(final) FROM (SELECT a.id, category, max(b.price) AS final FROM auction a JOIN bid b ON a.id = b.auction AND b.ts BETWEEN a.ts AND a.expires GROUP BY a.id, category) GROUP BY category",
    ),
    "q6": (
        "SELECT seller, avg(final) OVER (PARTITION BY seller ORDER BY expires, id ROWS BETWEEN 10 PRECEDING AND CURRENT ROW) AS mean FROM "
        "(SELECT a.id, seller, expires, max(b.price) AS final FROM auctions a JOIN q0 b ON a.id = b.auction AND b.ts BETWEEN a.ts AND a.expires GROUP BY a.id, seller, expires)",
        "SELECT seller, avg(final) OVER (PARTITION BY seller ORDER BY expires, id ROWS BETWEEN 10 PRECEDING AND CURRENT ROW) FROM "
        "(SELECT a.id, seller, expires, max(b.price) AS final FROM auction a JOIN bid b ON a.id = b.auction AND b.ts BETWEEN a.ts AND a.expires GROUP BY a.id, seller, expires)",
    ),
    "q5 hottest": (
        "SELECT window_start, auction, n FROM q5 QUALIFY rank() OVER (PARTITION BY window_start ORDER BY n DESC) = 1",
        "SELECT w, auction, n FROM (SELECT time_bucket(INTERVAL 2 SECONDS, ts) - k * INTERVAL 2 SECONDS AS w, auction, count(*) AS n FROM bid, range(5) r(k) GROUP BY ALL) QUALIFY rank() OVER (PARTITION BY w ORDER BY n DESC) = 1",
    ),
}


def rows_of(table: pa.Table) -> list[tuple[Any, ...]]:
    return [*zip(*(c.to_pylist() for c in table.columns), strict=True)]


def plain(rows: list[tuple[Any, ...]]) -> list[str]:
    """Rows in one order. Averages are equal as far as the order of a sum lets them be."""

    def one(v: Any) -> Any:
        if isinstance(v, float):
            return float(f"{v:.9g}")
        return str(v.astimezone(datetime.timezone.utc)) if isinstance(v, datetime.datetime) else v

    return sorted(repr(tuple(one(v) for v in row)) for row in rows)


@pytest.mark.parametrize("cut", [200, 1100, 100_000])
def test_the_queries_of_nexmark_have_the_answers_of_duckdb(broker: bayou.Connection, tmp_path: pathlib.Path, cut: int) -> None:
    tables = events(seed=cut)
    streams: Streams = {}
    for name, rows in tables.items():
        broker.create_topic(name)
        broker.produce(name, rows, progress=False)
        raw = broker.read_stream(name, schema=SCHEMAS[name], max_offsets_per_trigger=cut)
        streams[name] = raw.with_watermark("ts", "4 seconds", max_future="36500 days").named(name)
    lake = bayou.Pipeline("nexmark", tmp_path)
    lake.table("auctions", streams["auction"])
    for name, (query, _) in QUERIES.items():
        lake.table(name, query(streams))
    lake.run(close_windows=True, progress=False)
    duck = duckdb.connect()
    duck.execute("SET TimeZone = 'UTC'")
    for name, rows in tables.items():
        duck.register(name, rows)
    wrong = []
    wanted = {n: q for n, (_, q) in QUERIES.items()} | {n: q for n, (_, q) in OVER_TABLES.items()}
    for name, want in wanted.items():
        text = OVER_TABLES[name][0] if name in OVER_TABLES else f"SELECT * FROM {name}"
        found, theirs = plain(rows_of(lake.sql(text).to_arrow())), plain(rows_of(duck.execute(want).to_arrow_table()))
        if found != theirs:
            wrong.append(f"{name}: {len(found)} rows: {found[:3]}, DuckDB {len(theirs)}: {theirs[:3]}")
    assert not wrong, "\n".join(wrong)
