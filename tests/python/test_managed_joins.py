"""Joined tables that only Spark may read. Spark writes them; bayou asks for their version and reads them through Spark."""

from __future__ import annotations

import datetime
import itertools
import pathlib
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import bayou
import pyarrow as pa
import pyspark.sql.types
import pytest
from bayou import _managed
from managed_spark import no_login, publish, sparks

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "kafka"))
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "unity"))
from cluster import until
from unity_server import Unity, unity

_COUNT = itertools.count()


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    with sparks() as made:
        made["classic"].sql("CREATE SCHEMA IF NOT EXISTS joined")
        yield made["classic"]


@pytest.fixture
def name() -> str:
    return f"spark_catalog.joined.t{next(_COUNT)}"


@pytest.fixture
def uc(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[Unity]:
    no_login(monkeypatch)
    with unity() as made:
        made.add_schema("main.heart", f"file://{tmp_path}/heart")
        yield made


def test_a_joined_table_that_only_spark_reads_is_read_again_when_it_has_changed(
    spark: Any, broker: bayou.Connection, uc: Unity, name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spark.sql(f"CREATE TABLE {name} (i INT, word STRING, ts TIMESTAMP, unused STRING) USING DELTA")
    spark.sql(f"INSERT INTO {name} VALUES (1, 'one', TIMESTAMP '2026-01-01 00:00:00', 'x'), (NULL, 'none', NULL, 'y')")
    raw = publish(broker, [1, 2], epoch=2)
    joined = raw.join(name, on="i", how="left", spark=spark).select("i", "word", "ts")
    assert f"with the table {name} (read by Spark)" in joined.explain()
    epoch = {"query_name": "q", "checkpoint_location": str(tmp_path / "c"), "progress": False}

    def run() -> dict[int, str | None]:
        joined.write_delta(tmp_path / "t", **epoch)
        return {r["i"]: r["word"] for r in bayou.read_delta(tmp_path / "t").to_dicts()}

    assert run() == {1: "one", 2: None}
    first = next(r for r in bayou.read_delta(tmp_path / "t").to_dicts() if r["i"] == 1)
    assert first["ts"] == datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    # Only the columns that are used are read, and only after a change.
    asked: list[Any] = []
    read = _managed.read
    monkeypatch.setattr(_managed, "read", lambda *a: asked.append(a[2:4]) or read(*a))
    spark.sql(
        f"MERGE INTO {name} USING (SELECT 3 AS i, 'three' AS word) s ON false WHEN NOT MATCHED THEN INSERT (i, word) VALUES (i, word)"
    )
    broker.produce("t", [{"i": i} for i in (3, 4, 3, 1)], progress=False)
    assert run() == {1: "one", 2: None, 3: "three", 4: None}
    # The first request asks for the columns only.
    assert asked == [(2, None), (2, ["i", "word", "ts"])], "two epochs, one version"
    # Into the middle of a run that goes on.
    query = joined.write_delta(tmp_path / "t", trigger="100 milliseconds", block=False, **epoch)
    try:
        spark.sql(f"UPDATE {name} SET i = 5, word = 'five' WHERE i = 3")
        # An epoch that began before the change has the earlier version to its end.
        until(lambda: (3, ["i", "word", "ts"]) in asked)
        broker.produce("t", [{"i": 5}], progress=False)
        until(lambda: len(bayou.read_delta(tmp_path / "t")) == 7)
    finally:
        query.stop()
    assert {r["i"]: r["word"] for r in bayou.read_delta(tmp_path / "t").to_dicts()}[5] == "five"
    # The catalog gives no credentials, and the session of the notebook is found.
    uc.add_table("main.heart.theirs", "s3://bucket/theirs", table_type="MANAGED")
    uc.missing = {"EXTERNAL USE SCHEMA"}
    monkeypatch.setattr(_managed, "find", lambda: None)
    with pytest.raises(bayou.AclError, match="EXTERNAL USE SCHEMA"):
        raw.join("main.heart.theirs", on="i", storage_options=uc.login)
    answers = {"version": lambda spark, asked: {"version": 7}}
    monkeypatch.setattr(_managed, "_REQUESTS", _managed._REQUESTS | answers)
    monkeypatch.setattr(_managed, "find", lambda: spark)
    monkeypatch.setattr(_managed, "read", lambda spark, table, *more: pa.table({"i": [2], "of": [table]}))
    theirs = raw.join("main.heart.theirs", on="i", storage_options=uc.login)
    assert theirs.collect().to_dicts()[0]["of"] == "`main`.`heart`.`theirs`"


def test_a_joined_table_of_spark_without_versions_or_with_changed_columns_is_told(
    spark: Any, broker: bayou.Connection, name: str, tmp_path: pathlib.Path
) -> None:
    raw = publish(broker, [1])
    spark.sql(f"CREATE TABLE {name} (i INT, word STRING) USING DELTA")
    spark.sql(f"CREATE VIEW {name}_view AS SELECT 1 AS i")
    spark.sql(f"CREATE TABLE {name}_parquet USING parquet AS SELECT 1 AS i")
    for other in ("view", "parquet"):
        with pytest.raises(
            bayou.ConfigError, match=r"Spark tells no versions of .*Hand over the rows: join\(bayou\.read_delta\("
        ):
            raw.join(f"{name}_{other}", on="i", spark=spark)
    with pytest.raises(bayou.StorageError, match="TABLE_OR_VIEW_NOT_FOUND"):
        raw.join(f"{name}_nowhere", on="i", spark=spark)
    joined = raw.join(name, on="i", spark=spark)
    spark.sql(f"CREATE OR REPLACE TABLE {name} (i INT, word INT) USING DELTA")
    with pytest.raises(bayou.SchemaError, match="column 'word' was STRING when the stream was written, and is INT now"):
        joined.write_delta(tmp_path / "t", progress=False)


class Older:
    """A frame of Spark 3.5 as far as it is read: classic, or Connect."""

    def __init__(self, table: pa.Table, way: str) -> None:
        self.schema = pyspark.sql.types.StructType.fromDDL("i INT, ts TIMESTAMP")
        if way == "classic":
            self._collect_as_arrow = table.to_batches
        elif way == "pandas":
            self.toPandas = table.to_pandas
        else:
            calls = {
                "connect": lambda plan: (table, None),
                # Of databricks-connect 14.3.
                "connect with observations": lambda plan, observations: table if observations == {} else None,
            }
            self._session = types.SimpleNamespace(client=types.SimpleNamespace(to_table=calls[way]))
            self._plan = types.SimpleNamespace(to_proto=lambda client: None, observations={})


def test_an_older_spark_gives_whole_numbers_and_times_as_they_are() -> None:
    moment = datetime.datetime(2026, 1, 1, 5, tzinfo=datetime.timezone.utc)
    of = pa.schema({"i": pa.int32(), "ts": pa.timestamp("us", "America/New_York")})
    table = pa.table({"i": [1, None], "ts": [moment, None]}, of)
    for way in ("classic", "connect", "connect with observations"):
        for some in (table, table.slice(0, 0)):
            read = bayou.from_batches(_managed._arrow(Older(some, way))).collect()
            assert [str(t) for t in read.to_arrow().schema.types] == ["int32", "timestamp[us, tz=UTC]"], way
            assert read.to_arrow().to_pylist() == some.to_pylist()
    assert list(_managed._arrow(Older(table, "pandas")).columns) == ["i", "ts"]


Version = Callable[[Any, dict[str, Any]], dict[str, Any]]


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch, broker: bayou.Connection) -> Callable[[Version], bayou.Stream]:
    """A join with a table whose version is asked for by a function."""

    def join(version: Version) -> bayou.Stream:
        monkeypatch.setattr(_managed, "_REQUESTS", _managed._REQUESTS | {"version": version})
        monkeypatch.setattr(_managed, "read", lambda *asked: pa.table({"i": [1], "word": ["one"]}))
        session = types.SimpleNamespace(sql=None, read=None, table=None, conf=None)
        return publish(broker, [1]).join("spark_catalog.heart.words", on="i", spark=session)

    return join


def test_a_query_goes_on_whose_joined_table_takes_longer_to_look_up_than_its_interval(
    words: Callable[[Version], bayou.Stream], tmp_path: pathlib.Path
) -> None:
    asked = [0]

    def version(spark: Any, request: dict[str, Any]) -> dict[str, Any]:
        asked[0] += 1
        time.sleep(0.3)
        if asked[0] == 2:
            raise ConnectionError("Spark is away for a moment")
        return {"version": 1}

    query = words(version).write_delta(tmp_path / "t", trigger="100 milliseconds", block=False, progress=False)
    try:
        until(lambda: query.last_progress)
    finally:
        query.stop()
    assert [r["word"] for r in bayou.read_delta(tmp_path / "t").to_dicts()] == ["one"] and asked[0] >= 3


def test_a_stop_does_not_wait_for_a_spark_that_does_not_answer(
    words: Callable[[Version], bayou.Stream], tmp_path: pathlib.Path
) -> None:
    answers, asked = threading.Event(), threading.Event()
    answers.set()

    def version(spark: Any, request: dict[str, Any]) -> dict[str, Any]:
        asked.set()
        answers.wait(60)
        return {"version": 1}

    joined = words(version)
    answers.clear()
    asked.clear()
    query = joined.write_delta(tmp_path / "t", trigger="100 milliseconds", block=False, progress=False)
    assert asked.wait(30)
    began = time.monotonic()
    query.stop()
    until(lambda: not query.is_active)
    assert time.monotonic() - began < 20 and query.status == "stopped"
    answers.set()
    joined.write_delta(tmp_path / "t", progress=False)
    assert [r["word"] for r in bayou.read_delta(tmp_path / "t").to_dicts()] == ["one"]
