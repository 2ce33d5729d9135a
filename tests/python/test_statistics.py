"""The statistics by which readers skip files are true: each reader finds each row, for values of every type."""

from __future__ import annotations

import decimal
import json
import math
import pathlib
import random
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from typing import Any

import bayou
import deltalake
import duckdb
import duckdb_extension_delta
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from spark_shell import Spark, spark

DDL = (
    "i BIGINT, d9 DECIMAL(9,2), d18 DECIMAL(18,2), d20 DECIMAL(20,2), d38 DECIMAL(38,18), e38 DECIMAL(38,0), f FLOAT, x DOUBLE, "
    "t TIMESTAMP, day DATE, s STRING, b BOOLEAN, tiny TINYINT, n STRUCT<d: DECIMAL(38,18), x: DOUBLE, s: STRING>"
)
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def shell() -> Iterator[Spark]:
    with spark() as made:
        yield made


def decimals(r: random.Random, precision: int, scale: int) -> decimal.Decimal:
    digits = r.choice([1, 3, 16, 17, precision])
    whole = r.randrange(10 ** min(digits, precision)) * r.choice([1, -1])
    exact = decimal.Context(prec=60)
    return exact.scaleb(decimal.Decimal(r.choice([whole, 10**precision - 1, 1 - 10**precision, 0])), -scale)


def rows(r: random.Random, first: int, count: int) -> list[dict[str, Any]]:
    def floats(wild: float) -> float:
        return r.choice([0.0, -0.0, r.uniform(-1, 1), r.uniform(-wild, wild), 0.1, 1e-30])

    def one(i: int) -> dict[str, Any]:
        micros = r.choice(
            [r.randrange(-6 * 10**16, 2 * 10**17), r.randrange(10**15), 253402300799999999, -62135596800000000]
        )
        text = r.choice(
            ["", "a", "z" * 100, "\U0010ffff" * 60, "é" * 40, "a" * 63 + "é", "a" * 64 + "b", "\x00", "Ω%_\\'\""]
        )
        row: dict[str, Any] = {
            "i": i,
            "d9": decimals(r, 9, 2),
            "d18": decimals(r, 18, 2),
            "d20": decimals(r, 20, 2),
            "d38": decimals(r, 38, 18),
            "e38": decimals(r, 38, 0),
            "f": floats(1e30),
            "x": floats(1e300),
            "t": EPOCH + timedelta(microseconds=micros),
            "day": date(1970, 1, 1) + timedelta(days=r.randrange(-700_000, 2_900_000)),
            "s": text,
            "b": r.random() < 0.5,
            "tiny": r.randrange(-128, 128),
            "n": {"d": decimals(r, 38, 18), "x": floats(1e300), "s": text},
        }
        return {k: v if k == "i" or r.random() > 0.1 else None for k, v in row.items()}

    return [one(first + i) for i in range(count)]


def literal(column: str, value: Any) -> str:
    """A literal that DataFusion, DuckDB and Spark read alike."""
    if isinstance(value, decimal.Decimal):
        kind = dict(part.split(" ", 1) for part in DDL.split(", n STRUCT")[0].split(", ")).get(column, "DECIMAL(38,18)")
        return f"CAST('{value:f}' AS {kind})"
    if isinstance(value, datetime):
        return f"CAST('{value.replace(tzinfo=None).isoformat(sep=' ', timespec='microseconds')}+00:00' AS TIMESTAMP)"
    if isinstance(value, date):
        return f"CAST('{value.isoformat()}' AS DATE)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"CAST('{value!r}' AS {'FLOAT' if column == 'f' else 'DOUBLE'})"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value)


POINTS = ["d9", "d18", "d20", "d38", "e38", "f", "x", "t", "day", "s", "tiny", "n.d", "n.x", "n.s"]


def value_of(row: dict[str, Any], column: str) -> Any:
    for part in column.split("."):
        row = row[part] if row is not None else None
    return row


def expected(all_rows: list[dict[str, Any]], column: str, value: Any) -> int:
    def same(a: Any) -> bool:
        if column == "f":
            return a is not None and pa.scalar(a, pa.float32()) == pa.scalar(value, pa.float32())
        return a is not None and a == value

    return sum(same(value_of(row, column)) for row in all_rows)


def duck() -> duckdb.DuckDBPyConnection:
    # Its own installer would fetch the extension from the network.
    [extension] = pathlib.Path(duckdb_extension_delta.__file__).parent.rglob("*.duckdb_extension")
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    connection.execute(f"LOAD '{extension}'")
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def check(
    path: pathlib.Path, all_rows: list[dict[str, Any]], shell: Spark | None, seed: int, nested: bool = True
) -> None:
    r = random.Random(seed)
    reader, builder = duck(), deltalake.QueryBuilder().register("t", deltalake.DeltaTable(str(path)))
    frame = pl.scan_delta(str(path))
    wrong = []
    for column in (c for c in POINTS if "." not in c or nested):
        values = [v for v in (value_of(row, column) for row in all_rows) if v is not None]
        for n, value in enumerate(r.sample(values, min(4, len(values)))):
            wanted = expected(all_rows, column, value)
            condition = f"{column} = {literal(column.split('.')[-1] if '.' not in column else 'n', value)}"
            if column == "f":
                condition = f"f = {literal('f', value)}"
            micros = own = condition
            if isinstance(value, datetime):
                # DataFusion's TIMESTAMP has nanoseconds, which end in 2262.
                text = value.replace(tzinfo=None).isoformat(timespec="microseconds")
                micros = f"""{column} = arrow_cast('{text}Z', 'Timestamp(Microsecond, Some("UTC"))')"""
            if isinstance(value, str):
                # In Spark a backslash is an escape.
                text = value.replace("\\", "\\\\").replace("'", "\\'")
                own = f"{column} = '{text}'"
            found = {"bayou": bayou.sql(f"SELECT count(*) AS n FROM t WHERE {own}", t=path).to_dicts()[0]["n"]}
            if "\x00" not in str(value) and "\\" not in str(value):
                with_zone = condition.replace("AS TIMESTAMP)", "AS TIMESTAMPTZ)")
                query = f"SELECT count(*) FROM delta_scan('{path}') WHERE {with_zone}"
                found["duckdb"] = reader.execute(query).fetchone()[0]
                # A statement of Spark takes half a second.
                if shell is not None and n < 2:
                    found["spark"] = shell.sql(f"SELECT count(*) AS n FROM delta.`{path}` WHERE {condition}")[0]["n"]
            table = pa.table(builder.execute(f"SELECT count(*) AS n FROM t WHERE {micros}").read_all())
            found["deltalake"] = table["n"][0].as_py()
            if "." not in column and column not in ("e38", "d38"):
                kind = pl.Float32 if column == "f" else None
                found["polars"] = frame.filter(pl.col(column) == pl.lit(value, kind)).select(pl.len()).collect().item()
            wrong += [(column, value, name, count, wanted) for name, count in found.items() if count != wanted]
    assert not wrong, wrong[:10]


def test_every_reader_finds_every_row_in_written_merged_and_joined_files(
    broker: bayou.Connection, shell: Spark, tmp_path: pathlib.Path
) -> None:
    r = random.Random(7)
    broker.create_topic("t")
    stream = broker.read_stream("t", schema=DDL)
    everything: list[dict[str, Any]] = []
    for batch in range(3):
        new = rows(r, 1000 * batch, 25)
        everything += new
        broker.produce("t", [row | {"t": row["t"] and row["t"].isoformat()} for row in new], progress=False)
        stream.write_delta(tmp_path / "append", progress=False)
        grouped = stream.group_by("i").agg(
            *[f"max({c}) AS {c}" for c in ("d9", "d18", "d20", "d38", "e38", "f", "x", "t", "day", "s", "tiny")]
        )
        grouped.write_delta(tmp_path / "merged", output_mode="update", progress=False)
    check(tmp_path / "append", everything, shell, 1)
    check(tmp_path / "merged", everything, None, 2, nested=False)
    broker.produce("t", [{"i": 9999}], progress=False)
    stream.write_delta(tmp_path / "append", optimize_every=2, progress=False)
    assert len(deltalake.DeltaTable(str(tmp_path / "append")).file_uris()) == 1
    check(tmp_path / "append", [*everything, dict.fromkeys(everything[0]) | {"i": 9999}], shell, 3)


def adds(path: pathlib.Path) -> list[dict[str, Any]]:
    entries = [json.loads(line) for f in sorted((path / "_delta_log").glob("*.json")) for line in f.open()]
    return [json.loads(e["add"]["stats"]) for e in entries if "add" in e]


def test_statistics_are_exact_or_lie_further_out_or_are_left_out(
    broker: bayou.Connection, shell: Spark, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    line = decimal.Decimal("1.123456789012345678")
    values = [{"d": line, "e": 10**38 - 1, "t": "2024-01-01T00:00:00.123456Z", "x": 1.0}, {"x": 2.0, "d": -line}]
    broker.produce("t", values, progress=False)
    stream = broker.read_stream("t", schema="d DECIMAL(38,18), e DECIMAL(38,0), t TIMESTAMP, x DOUBLE")
    stream.write_delta(tmp_path / "t", progress=False)
    text = next(iter((tmp_path / "t" / "_delta_log").glob("*1.json"))).read_text()
    assert "1.123456789012345678" in text and "-1.123456789012345678" in text and "9" * 38 in text
    [stats] = adds(tmp_path / "t")
    assert (stats["minValues"]["t"], stats["maxValues"]["t"]) == (
        "2024-01-01T00:00:00.123Z",
        "2024-01-01T00:00:00.124Z",
    )
    assert stats["nullCount"] == {"d": 0, "e": 1, "t": 1, "x": 0} and stats["numRecords"] == 2
    # A NaN is above all numbers for Spark, and no reader may skip the file for it.
    nan = stream.with_columns("CASE WHEN x = 1 THEN double('NaN') ELSE x END AS x")
    nan.write_delta(tmp_path / "nan", progress=False)
    [stats] = adds(tmp_path / "nan")
    assert "x" not in stats["minValues"] and "x" not in stats["maxValues"]
    assert shell.sql(f"SELECT count(*) AS n FROM delta.`{tmp_path}/nan` WHERE x > 5") == [{"n": 1}]
    for condition, wanted in (("x = 2", 1), ("x < 5", 1)):
        assert bayou.sql(f"SELECT count(*) AS n FROM t WHERE {condition}", t=tmp_path / "nan").to_dicts() == [
            {"n": wanted}
        ]
    [file] = (tmp_path / "nan").glob("*.parquet")
    group = pq.ParquetFile(file).metadata.row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert not columns["x"].is_stats_set and columns["d"].is_stats_set


def test_times_that_spark_wrote_far_from_today_are_read_as_they_are(
    broker: bayou.Connection, shell: Spark, tmp_path: pathlib.Path
) -> None:
    dim = tmp_path / "dim"
    shell.sql(
        f"CREATE TABLE delta.`{dim}` (model STRING, price DOUBLE, valid_from TIMESTAMP, valid_to TIMESTAMP) USING delta"
    )
    shell.sql(f"INSERT INTO delta.`{dim}` VALUES ('a', 1.0, '0001-01-01 00:00:00Z', '9999-12-31 00:00:00Z')")
    [row] = bayou.read_delta(dim).to_dicts()
    assert (row["valid_from"].year, row["valid_to"].year) == (1, 9999)
    query = "SELECT count(*) AS n FROM t WHERE valid_to > TIMESTAMP '2024-01-01 00:00:00' AND date_part('year', valid_from) = 1"
    assert bayou.sql(query, t=dim).to_dicts() == [{"n": 1}]
    broker.create_topic("t")
    broker.produce("t", [{"model": "a", "time": "2024-05-01T00:00:00Z"}], progress=False)
    stream = broker.read_stream("t", schema="model STRING, time TIMESTAMP")
    joined = stream.join(dim, on="model").where("time >= valid_from AND time < valid_to").collect()
    assert [r["valid_to"].year for r in joined.to_dicts()] == [9999]
    # A table in mode update whose file Spark has rewritten is merged from the same values.
    far = stream.select(
        "timestamp_micros(bigint(-62135596800000000)) AS low",
        "timestamp_micros(bigint(253370764800000000)) AS high",
        "model",
    )
    groups = far.group_by("low", "high", "model").agg("count(*) AS n")
    path = tmp_path / "groups"
    groups.write_delta(path, output_mode="update", progress=False)
    broker.produce("t", [{"model": "b"}], progress=False)
    groups.write_delta(path, output_mode="update", progress=False)
    shell.sql(f"OPTIMIZE delta.`{path}`")
    broker.produce("t", [{"model": "a"}, {"model": "c"}], progress=False)
    groups.write_delta(path, output_mode="update", progress=False)
    found = shell.sql(f"SELECT year(low) AS low, year(high) AS high, model, n FROM delta.`{path}` ORDER BY model")
    assert found == [
        {"low": 1, "high": 9999, "model": "a", "n": 2},
        {"low": 1, "high": 9999, "model": "b", "n": 1},
        {"low": 1, "high": 9999, "model": "c", "n": 1},
    ]
    assert math.isclose(bayou.read_delta(dim).to_dicts()[0]["price"], 1.0)


def test_a_partitions_time_is_one_and_the_same_for_readers_in_every_zone(
    broker: bayou.Connection, tmp_path: pathlib.Path, shell: Spark
) -> None:
    path = str(tmp_path / "t")
    times = [
        "0001-01-01T00:00:00Z",
        "1969-12-31T23:59:59.999999Z",
        "2024-01-01T00:30:00Z",
        "2024-07-01T12:00:00.123456Z",
    ]
    broker.create_topic("t")
    counts = broker.read_stream("t", schema="ts TIMESTAMP, k INT").group_by("ts", "k").agg("count(*) AS n")

    def go() -> None:
        broker.produce("t", [{"ts": ts, "k": k} for ts in [*times, None] for k in range(2)], progress=False)
        counts.write_delta(path, output_mode="update", partition_by="ts", progress=False)

    go()
    micros = [-62135596800000000, -1, 1704069000000000, 1719835200123456]
    for zone in ("Europe/Berlin", "America/Los_Angeles", "UTC"):
        shell.sql(f"SET TIME ZONE '{zone}'")
        seen = shell.sql(f"SELECT unix_micros(ts) AS u FROM delta.`{path}` WHERE k = 0 AND ts IS NOT NULL ORDER BY u")
        assert [r["u"] for r in seen] == micros, zone
        for ts in times:
            found = shell.sql(f"SELECT count(*) AS c FROM delta.`{path}` WHERE ts = TIMESTAMP '{ts}'")
            assert found == [{"c": 2}], (zone, ts)
    # A file that Spark has rewritten has the same groups, in whichever way Spark writes their values.
    shell.sql(f"DELETE FROM delta.`{path}` WHERE k = 1")
    shell.sql(f"INSERT INTO delta.`{path}` SELECT ts, 1 AS k, 1L AS n FROM delta.`{path}`")
    broker.produce("t", [{"ts": ts, "k": k} for ts in [*times, None] for k in range(2)], progress=False)
    counts.write_delta(path, output_mode="update", partition_by="ts", accept_changes=True, progress=False)
    found = bayou.read_delta(path).to_dicts()
    assert [r["n"] for r in found] == [2] * 10 and {r["ts"] for r in found} == {
        None,
        *(EPOCH + timedelta(microseconds=u) for u in micros),
    }
    assert deltalake.DeltaTable(path).to_pyarrow_table().num_rows == 10
    # A literal of DataFusion's is in nanoseconds, which have no year 1.
    for ts in times[1:]:
        assert bayou.sql(f"SELECT count(*) AS c FROM t WHERE ts = TIMESTAMP '{ts}'", t=path).to_dicts() == [{"c": 2}], (
            ts
        )
