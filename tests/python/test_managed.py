"""Tables that only Spark may write: exactly once through a real Spark 4.0, classic and Connect. Spark itself is the oracle that reads them."""

from __future__ import annotations

import concurrent.futures
import datetime
import decimal
import itertools
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import bayou
import pyarrow as pa
import pytest
from bayou import _managed
from managed_run import COMMAND, run
from managed_spark import commits, no_login, publish, replaced, rows, sparks, waiting, write

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "unity"))
from unity_server import Unity, unity

_COUNT = itertools.count()
ALL = os.environ.get("BAYOU_TEST_KILLS") == "all"


@pytest.fixture(scope="module")
def all_sparks() -> Iterator[dict[str, Any]]:
    with sparks() as made:
        made["classic"].sql("CREATE SCHEMA IF NOT EXISTS heart")
        yield made


@pytest.fixture
def spark(all_sparks: dict[str, Any]) -> Any:
    return all_sparks["classic"]


@pytest.fixture(autouse=True)
def no_login_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    no_login(monkeypatch)


@pytest.fixture
def name() -> str:
    return f"spark_catalog.heart.t{next(_COUNT)}"


# `make chaos` has both kinds of session for both tests. Killed runs go by Connect, and all other tests by the classic session.
@pytest.mark.parametrize("kind", ["connect", *(["classic"] if ALL else [])])
def test_rows_are_appended_once_and_the_history_has_one_commit_for_each_epoch(
    all_sparks: dict[str, Any], broker: bayou.Connection, name: str, tmp_path: pathlib.Path, kind: str
) -> None:
    spark = all_sparks[kind]
    raw = publish(broker, range(100)).with_columns("named_struct('größe', i, 'y', array(i)) AS `order-ü`")
    more = {"partition_by": ["day"], "comment": "it's a heart"}
    query = write(raw, name, spark, tmp_path, **more)
    assert query.status == "finished" and "through Spark" in repr(query)
    write(raw, name, spark, tmp_path, **more)
    publish(broker, range(100, 120))
    write(raw, name, spark, tmp_path, **more)
    days = [datetime.date(2026, 1, 1), datetime.date(2026, 1, 2), None]
    assert rows(spark, name) == [{"i": i, "day": days[i % 3], "order-ü": {"größe": i, "y": [i]}} for i in range(120)]
    assert commits(spark, name) == [(n, "WRITE") for n in range(5)]
    detail = spark.sql(f"DESCRIBE DETAIL {name}").collect()[0]
    assert detail["partitionColumns"] == ["day"] and detail["description"] == "it's a heart"
    kind_of = {r["col_name"]: r["data_type"] for r in spark.sql(f"DESCRIBE EXTENDED {name}").collect()}
    assert kind_of["Type"] == "MANAGED"
    # What is committed does not wait any more.
    assert waiting(tmp_path) == []


@pytest.mark.parametrize("kind", ["classic", *(["connect"] if ALL else [])])
def test_changed_groups_are_merged_by_their_keys_and_rows_that_are_gone_are_taken_out(
    all_sparks: dict[str, Any], broker: bayou.Connection, name: str, tmp_path: pathlib.Path, kind: str
) -> None:
    spark = all_sparks[kind]
    spark.conf.set("spark.databricks.delta.commitInfo.userMetadata", "the user's own")
    try:
        raw = publish(broker, range(60), epoch=20)
        # A group leaves the table when it has more than 15 rows.
        groups = raw.group_by("day", "i % 2 AS odd").agg("count(*) AS n", "max(i) AS top").where("n <= 15")
        write(groups, name, spark, tmp_path, output_mode="update")
        publish(broker, range(60, 95))
        write(groups, name, spark, tmp_path, output_mode="update")
        write(groups, name, spark, tmp_path, output_mode="update")
        wanted: dict[Any, dict[str, Any]] = {}
        for i in range(95):
            key = ([datetime.date(2026, 1, 1), datetime.date(2026, 1, 2), None][i % 3], i % 2)
            was = wanted.setdefault(key, {"day": key[0], "odd": key[1], "n": 0, "top": i})
            was.update(n=was["n"] + 1, top=i)
        left = [r for r in wanted.values() if r["n"] <= 15]
        assert len(left) == 1
        found = rows(spark, name, "top")
        assert found == sorted(left, key=lambda r: r["top"])
        assert commits(spark, name) == [(n, "MERGE") for n in range(5)]
        assert spark.conf.get("spark.databricks.delta.commitInfo.userMetadata") == "the user's own"
        assert spark.conf.get("spark.databricks.delta.write.txnAppId", None) is None
    finally:
        spark.conf.unset("spark.databricks.delta.commitInfo.userMetadata")
    assert not [t for t in spark.catalog.listTables("heart") if "_bayou" in t.name]


def test_a_complete_result_replaces_the_rows_and_not_the_table(
    spark: Any, broker: bayou.Connection, name: str, tmp_path: pathlib.Path
) -> None:
    raw = publish(broker, range(50))
    totals = raw.group_by("i % 2 AS odd").agg("count(*) AS n")
    write(totals, name, spark, tmp_path)
    spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('mine' = 'kept')")
    spark.sql(f"ALTER TABLE {name} ADD CONSTRAINT few CHECK (n < 1000)")
    before = spark.sql(f"DESCRIBE DETAIL {name}").collect()[0]
    publish(broker, range(50, 80))
    write(totals, name, spark, tmp_path)
    after = spark.sql(f"DESCRIBE DETAIL {name}").collect()[0]
    assert after["id"] == before["id"] and after["properties"]["mine"] == "kept"
    assert after["properties"]["delta.constraints.few"] == "n < 1000"
    assert rows(spark, name, "odd") == [{"odd": 0, "n": 40}, {"odd": 1, "n": 40}]
    assert [epoch for epoch, _ in commits(spark, name)] == [0, 1, 2]
    # The history keeps the earlier results.
    assert [r["n"] for r in rows(spark, f"{name} VERSION AS OF 1", "odd")] == [15, 15]


# `make chaos` has them all. Each is two processes and their Spark.
POINTS = {
    "append": ["write.after", "seal.after", *(["write.before", "staged:{}.after", "spark:{}.after"] if ALL else [])],
    "update": ["write.after", *(["write.before"] if ALL else [])],
}


def test_a_run_that_is_killed_at_any_point_goes_on_when_it_is_run_again(
    all_sparks: dict[str, Any],
    kafka: bayou.Connection,
    topic: Callable[..., str],
    address: str,
    tmp_path: pathlib.Path,
) -> None:
    spark = all_sparks["classic"]
    source = topic()
    kafka.produce(source, pa.table({"i": list(range(60))}), progress=False)
    good = [i for i in range(60) if i != 9]

    def killed_and_run_again(mode: str, point: str, n: int) -> None:
        table = f"killed_{mode}_{n}"
        job = {"address": address, "topic": source, "spark": all_sparks["url"], "mode": mode}
        job |= {"target": f"spark_catalog.heart.{table}", "checkpoint": str(tmp_path / table)}
        point = point.format(table)
        killed = run(job | {"crash": point})
        assert killed.returncode != 0 and f"crash point {point}" in killed.stderr, (point, killed.stderr[-2000:])
        again = run(job)
        assert again.returncode == 0, (point, again.stderr[-3000:])
        if mode == "append":
            assert [r["i"] for r in rows(spark, job["target"])] == good, point
        else:
            by_key = [[i for i in good if i % 3 == k] for k in range(3)]
            wanted = [{"k": k, "n": len(of), "total": sum(of)} for k, of in enumerate(by_key)]
            assert rows(spark, job["target"], "k") == wanted, point
        assert [epoch for epoch, _ in commits(spark, job["target"])] == [0, 1, 2], point
        aside = rows(spark, f"{job['target']}_quarantine", "offset")
        assert [r["offset"] for r in aside] == [9], point

    jobs = [(mode, point, n) for mode, points in POINTS.items() for n, point in enumerate(points)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(killed_and_run_again, *job) for job in jobs]:
            done.result()


def test_of_two_runners_of_one_query_one_commits(
    all_sparks: dict[str, Any],
    kafka: bayou.Connection,
    topic: Callable[..., str],
    address: str,
    name: str,
    tmp_path: pathlib.Path,
) -> None:
    source, spark = topic(), all_sparks["classic"]
    kafka.produce(source, pa.table({"i": list(range(5))}), progress=False)
    job = {"address": address, "topic": source, "spark": all_sparks["url"], "mode": "append", "trigger": "1 second"}
    job |= {"target": name, "checkpoint": str(tmp_path)}
    first = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, text=True)
    try:
        assert first.stdin
        first.stdin.write(json.dumps(job))
        first.stdin.close()
        until = time.monotonic() + 120
        while not list(tmp_path.rglob("done/*.json")):
            assert first.poll() is None and time.monotonic() < until
            time.sleep(0.1)
        stream = kafka.read_stream(source, schema="i INT", max_offsets_per_trigger=20)
        with pytest.raises(bayou.ConcurrentQueryError):
            write(stream.expect_or_quarantine("not nine", "i <> 9"), name, spark, tmp_path, query_name="q")
    finally:
        first.kill()
        first.wait(30)
    assert [r["i"] for r in rows(spark, name)] == list(range(5)) and len(commits(spark, name)) == 1


def test_a_write_that_fails_after_it_happened_is_found_in_the_history(
    spark: Any, broker: bayou.Connection, name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_it, count = _managed._write, itertools.count()

    def ambiguous(spark: Any, asked: dict[str, Any]) -> None:
        n = next(count)
        if n == 1:
            raise RuntimeError("[DELTA_CONCURRENT_APPEND] somebody was faster")
        write_it(spark, asked)
        if n == 2:
            raise RuntimeError("the answer was lost")

    monkeypatch.setattr(_managed, "_write", ambiguous)
    raw = publish(broker, range(90))
    write(raw, name, spark, tmp_path)
    assert [r["i"] for r in rows(spark, name)] == list(range(90))
    assert [epoch for epoch, _ in commits(spark, name)] == [0, 1, 2]
    assert next(count) == 4


def test_a_write_that_fails_leaves_its_epoch_sealed_for_the_next_run(
    spark: Any, broker: bayou.Connection, name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = publish(broker, range(60))

    def failing(spark: Any, asked: dict[str, Any]) -> None:
        raise RuntimeError("[CAST_INVALID_INPUT] the value 'secret payload' cannot be cast\n- second line")

    with monkeypatch.context() as patched:
        patched.setattr(_managed, "_write", failing)
        with pytest.raises(bayou.StorageError, match="the epoch is sealed: running the query again") as told:
            write(raw, name, spark, tmp_path)
        assert "payload" not in str(told.value) and "CAST_INVALID_INPUT" in str(told.value)
    assert rows(spark, name) == [] and len(waiting(tmp_path)) >= 1
    write(raw, name, spark, tmp_path)
    assert [r["i"] for r in rows(spark, name)] == list(range(60))
    assert [epoch for epoch, _ in commits(spark, name)] == [0, 1]


def test_of_three_that_commit_one_epoch_at_a_time_one_does(
    all_sparks: dict[str, Any], name: str, tmp_path: pathlib.Path
) -> None:
    spark = all_sparks["classic"]
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"i": pa.array([1, 2, 3], pa.int32())}), tmp_path / "part.parquet")
    spark.sql(f"CREATE TABLE {name} (i INT) USING DELTA")
    for epoch, mode in enumerate(["append", "append", "update", "complete"]):
        asked: dict[str, Any] = {
            **{
                "table": name,
                "shown": name,
                "app": "bayou/q/t",
                "epoch": epoch,
                "seal": "s",
                "mode": mode,
                "since": -1,
            },
            **{
                "files": [f"file://{tmp_path}/part.parquet"],
                "columns": "i INT",
                "id": None,
                "looked": True,
                "accept_changes": True,
            },
        }
        if mode == "update":
            table = pa.table({"_bayou_delete": [False, True], "i": pa.array([7, 1], pa.int32())})
            pq.write_table(table, tmp_path / "merge.parquet")
            asked |= {"files": [f"file://{tmp_path}/merge.parquet"], "columns": "_bayou_delete BOOLEAN, i INT"}
            asked |= {"keys": ["i"], "names": ["i"]}

        def commit(kind: str, asked: dict[str, Any] = asked) -> Any:
            return json.loads(_managed.answer(all_sparks[kind], "commit", json.dumps(asked)))

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(commit, ["classic", "connect", "classic"]))
        assert {a.get("version") for a in answers} == {max(a.get("version", -1) for a in answers)}, answers
        assert [n for n, _ in commits(spark, name)] == list(range(epoch + 1))
        wanted = {0: [1, 2, 3], 1: [1, 1, 2, 2, 3, 3], 2: [2, 2, 3, 3, 7], 3: [1, 2, 3]}[epoch]
        assert [r["i"] for r in rows(spark, name)] == wanted
    # A different query of the same name, which has sealed different rows.
    said = json.loads(_managed.answer(spark, "commit", json.dumps(asked | {"seal": "another"})))
    assert said["error"]["kind"] == "concurrent_query" and "query_name=" in said["error"]["text"]
    # A checkpoint that is older than what the history still shows.
    said = json.loads(_managed.answer(spark, "commit", json.dumps(asked | {"epoch": 2, "since": 4})))
    assert said["error"]["kind"] == "config" and "older copy" in said["error"]["text"]


def test_a_table_that_is_gone_or_recreated_is_refused(
    spark: Any, broker: bayou.Connection, name: str, tmp_path: pathlib.Path
) -> None:
    raw = publish(broker, range(10))
    write(raw, name, spark, tmp_path)
    spark.sql(f"DROP TABLE {name}")
    with pytest.raises(bayou.DataLossError, match=r"the table is gone: Spark does not find it.*UNDROP TABLE"):
        write(raw, name, spark, tmp_path)
    assert not spark.catalog.tableExists(name)
    spark.sql(f"CREATE TABLE {name} (i INT, day DATE) USING DELTA")
    with pytest.raises(bayou.DataLossError, match="recreated by a different program"):
        write(raw, name, spark, tmp_path)
    assert rows(spark, name) == []
    write(raw, name, spark, tmp_path, full_refresh=True, accept_changes=True)
    assert len(rows(spark, name)) == 10


def test_a_lost_checkpoint_is_told_and_full_refresh_starts_over(
    spark: Any, broker: bayou.Connection, name: str, tmp_path: pathlib.Path
) -> None:
    raw = publish(broker, range(40))
    write(raw, name, spark, tmp_path / "a")
    with pytest.raises(bayou.ConfigError, match=r"holds epochs up to 1 of a query.*its checkpoint .* is missing"):
        write(raw, name, spark, tmp_path / "b")
    spark.sql(f"INSERT INTO {name} VALUES (1000, NULL)")
    with pytest.raises(bayou.ConfigError, match="full_refresh empties the table, and a different writer"):
        write(raw, name, spark, tmp_path / "a", full_refresh=True)
    write(raw, name, spark, tmp_path / "a", full_refresh=True, accept_changes=True)
    assert [r["i"] for r in rows(spark, name)] == list(range(40))
    assert [epoch for epoch, _ in commits(spark, name)] == [0, 1, 3, 4, 5]


def test_rows_of_others_are_respected_as_in_other_tables(
    spark: Any, broker: bayou.Connection, name: str, tmp_path: pathlib.Path
) -> None:
    raw = publish(broker, range(30), epoch=10)
    counts = raw.group_by("i % 2 AS odd").agg("count(*) AS n")
    spark.sql(f"CREATE TABLE {name} (odd INT, n BIGINT) USING DELTA")
    spark.sql(f"INSERT INTO {name} VALUES (7, 7)")
    for mode in ("update", "complete"):
        with pytest.raises(bayou.ConfigError, match=r"has rows that .* did not write.*accept_changes=True"):
            write(counts, name, spark, tmp_path / mode, output_mode=mode)
    write(counts, name, spark, tmp_path / "taken", output_mode="update", accept_changes=True)
    assert [(r["odd"], r["n"]) for r in rows(spark, name, "odd")] == [(0, 15), (1, 15), (7, 7)]
    # Operations that change no rows may happen at any time.
    spark.sql(f"OPTIMIZE {name}")
    spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('mine' = 'yes')")
    publish(broker, range(30, 40))
    write(counts, name, spark, tmp_path / "taken", output_mode="update")
    spark.sql(f"INSERT INTO {name} VALUES (8, 8)")
    with pytest.raises(bayou.DataLossError, match=r"by a different writer, and in this mode only bayou may write"):
        write(counts, name, spark, tmp_path / "taken", output_mode="update")
    write(counts, name, spark, tmp_path / "taken", output_mode="update", accept_changes=True)
    # A table to which rows are appended may have other writers, which must not take rows out.
    table = f"{name}_rows"
    write(raw, table, spark, tmp_path / "rows")
    spark.sql(f"INSERT INTO {table} VALUES (1000, NULL)")
    publish(broker, range(40, 50))
    write(raw, table, spark, tmp_path / "rows")
    assert [r["i"] for r in rows(spark, table)] == [*range(50), 1000]
    spark.sql(f"DELETE FROM {table} WHERE i < 5")
    with pytest.raises(bayou.DataLossError, match=r"a DELETE by a different writer, which removed rows"):
        write(raw, table, spark, tmp_path / "rows")


def test_values_of_all_types_are_exact_in_the_table(
    spark: Any, broker: bayou.Connection, name: str, tmp_path: pathlib.Path
) -> None:
    columns = "b BOOLEAN, y TINYINT, s SMALLINT, i INT, l BIGINT, f FLOAT, d DOUBLE, x DECIMAL(38,18), t STRING, z BINARY, dt DATE, ts TIMESTAMP"
    nested = "a ARRAY<STRUCT<u: INT, v: STRING>>, m MAP<STRING, ARRAY<DECIMAL(5,2)>>, n STRUCT<p: TIMESTAMP, q: STRUCT<r: BIGINT>>"
    first = dict(
        b=True,
        y=-128,
        s=32767,
        i=-(2**31),
        l=2**63 - 1,
        f=0.1,
        d=1e-300,
        x=decimal.Decimal("12345678901234567890.123456789012345678"),
        t="ü 'x' \\",
        z="AAEC",
        dt="1582-10-14",
        ts="0001-01-01T00:00:00Z",
        a=[{"u": 1, "v": None}, None],
        m={"k": [1.5, None]},
        n={"p": "1899-12-31T23:59:59.999999Z", "q": {"r": None}},
    )
    last = {
        **first,
        "b": False,
        "dt": "9999-12-31",
        "ts": "9999-12-31T23:59:59.999999Z",
        "a": [],
        "m": {},
        "n": None,
        "t": "",
    }
    nothing: dict[str, Any] = {"b": None}
    broker.create_topic("types", partitions=1)
    for row in (first, last, nothing):
        broker.produce("types", [row], progress=False)
    raw = broker.read_stream("types", schema=f"{columns}, {nested}", max_offsets_per_trigger=2, on_malformed="fail")
    write(raw, name, spark, tmp_path)
    # Python has no times before the year 1 in other zones, so times are compared as numbers.
    frame = spark.sql(f"SELECT * EXCEPT (ts, dt, n), n.q FROM {name} ORDER BY dt NULLS LAST")
    found = [r.asDict(recursive=True) for r in frame.collect()]
    assert len(found) == 3 and found[2] == {k: None for k in found[2]}
    one, two = found[:2]
    at = (
        "SELECT unix_micros(ts) AS ts, unix_micros(n.p) AS p, unix_date(dt) AS dt FROM "
        + name
        + " ORDER BY dt NULLS LAST"
    )
    micros = [tuple(r) for r in spark.sql(at).collect()]
    day = datetime.date(1970, 1, 1)
    assert micros == [
        (-62135596800000000, -2208988800000001, (datetime.date(1582, 10, 14) - day).days),
        (253402300799999999, None, (datetime.date(9999, 12, 31) - day).days),
        (None, None, None),
    ]
    assert (one["b"], one["y"], one["s"], one["i"], one["l"], one["d"]) == (
        True,
        -128,
        32767,
        -(2**31),
        2**63 - 1,
        1e-300,
    )
    assert one["x"] == decimal.Decimal("12345678901234567890.123456789012345678") and one["f"] == pytest.approx(0.1)
    assert one["t"] == "ü 'x' \\" and bytes(one["z"]) == b"\0\1\2"
    assert one["a"] == [{"u": 1, "v": None}, None] and one["m"] == {"k": [decimal.Decimal("1.50"), None]}
    assert one["q"] == {"r": None} and two["q"] is None and two["a"] == [] and two["m"] == {} and two["t"] == ""


def test_columns_are_merged_and_what_does_not_fit_is_refused(
    spark: Any, broker: bayou.Connection, name: str, tmp_path: pathlib.Path
) -> None:
    raw = publish(broker, range(10))
    write(raw.with_columns("named_struct('x', i) AS s"), name, spark, tmp_path)
    wider = raw.with_columns("named_struct('y', 'new', 'x', i) AS s", "i * 2 AS twice")
    publish(broker, range(10, 20))
    with pytest.raises(bayou.SchemaError, match='schema_mode="merge"'):
        write(wider, name, spark, tmp_path)
    write(wider, name, spark, tmp_path, schema_mode="merge")
    found = rows(spark, name)
    assert found[0]["s"] == {"x": 0, "y": None} and found[0]["twice"] is None
    assert found[15]["s"] == {"x": 15, "y": "new"} and found[15]["twice"] == 30 and len(found) == 20
    with pytest.raises(bayou.SchemaError, match=r"column 'i' is INT in the table and STRING in the stream"):
        write(wider.with_columns("CAST(i AS STRING) AS i"), name, spark, tmp_path, schema_mode="merge")
    with pytest.raises(bayou.ConfigError, match="partitioned by"):
        write(wider, name, spark, tmp_path, partition_by=["day"])
    # Columns of the table that the stream does not have are NULL, and letters follow the table.
    table = f"{name}_update"
    spark.sql(f"CREATE TABLE {table} (Odd INT NOT NULL, more STRING, N BIGINT) USING DELTA")
    counts = raw.group_by("i % 2 AS odd").agg("count(*) AS n")
    write(counts, table, spark, tmp_path / "u", output_mode="update")
    merged = counts.with_columns("n * 2 AS twice")
    publish(broker, range(20, 30))
    write(merged, table, spark, tmp_path / "u", output_mode="update", schema_mode="merge")
    assert [tuple(r.values()) for r in rows(spark, table, "odd")] == [(0, None, 15, 30), (1, None, 15, 30)]


def test_a_pipeline_writes_managed_tables_and_sets_aside_what_they_do_not_take(
    spark: Any, broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    spark.sql("CREATE SCHEMA lake")
    spark.sql("CREATE TABLE lake.strict (i INT NOT NULL, day DATE NOT NULL, c VARCHAR(2)) USING DELTA")
    spark.sql("ALTER TABLE lake.strict ADD CONSTRAINT small CHECK (i < 40)")
    raw = publish(broker, range(60))
    lake = bayou.Pipeline("p", schema="spark_catalog.lake", spark=spark, checkpoint_location=str(tmp_path))
    good = raw.expect_or_quarantine("not nine", "i % 10 <> 9").named("good")
    lake.table("strict", good.with_columns("CAST(i AS STRING) AS c"))
    lake.table("by_odd", good.group_by("i % 2 AS odd").agg("count(*) AS n"), output_mode="update")
    lake.table("total", good.group_by().agg("count(*) AS n"))
    seen: list[int] = []
    lake.foreach_batch("seen", good, lambda batch, epoch: seen.append(len(batch)))
    query = lake.run(progress=False)
    lake.run(progress=False)
    fits = [i for i in range(40) if i % 10 != 9 and i % 3 != 2]
    assert [r["i"] for r in rows(spark, "lake.strict")] == fits
    assert rows(spark, "lake.by_odd", "odd") == [{"odd": 0, "n": 30}, {"odd": 1, "n": 24}]
    assert rows(spark, "lake.total", "n") == [{"n": 54}] and sum(seen) == 54
    aside = rows(spark, "lake.p_quarantine", "offset, stage")
    assert {r["offset"] for r in aside if r["stage"] == "expectation"} == set(range(9, 60, 10))
    assert {r["offset"] for r in aside if r["stage"] == "table"} == {i for i in range(60) if i % 10 != 9} - set(fits)
    assert [r["rules"] for r in aside if r["offset"] == 48] == [["small"]]
    assert set(query.last_progress["sinks"][0]) and query.status == "finished"
    assert waiting(tmp_path) == []
    # In a kernel that has defined nothing.
    again = bayou.Pipeline("p", schema="spark_catalog.lake", spark=spark, checkpoint_location=str(tmp_path))
    assert again.tables() == ["by_odd", "p_quarantine", "strict", "total"]
    assert again.read("total").to_dicts() == [{"n": 54}]
    text = "SELECT count(*) AS n, (SELECT sum(n) FROM by_odd) AS of FROM strict"
    assert again.sql(text).to_dicts() == [{"n": len(fits), "of": 54}]
    with pytest.raises(bayou.StorageError, match="there is no table 'totl'.*Did you mean 'total'"):
        again.read("totl")
    assert [r["failed_records"] for r in again.expectations().to_dicts()] == [6]
    # A table that changes between the runs has different requirements.
    spark.sql("ALTER TABLE lake.strict DROP CONSTRAINT small")
    publish(broker, [60, 61])
    lake.run(progress=False)
    assert [r["i"] for r in rows(spark, "lake.strict")] == [*fits, 60, 61]


@pytest.fixture
def uc(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[Unity]:
    monkeypatch.setattr(_managed, "answer", replaced(_managed.answer))
    with unity() as made:
        made.add_schema("main.heart", f"file://{tmp_path}/heart")
        yield made


def test_the_catalog_says_which_tables_spark_writes(
    spark: Any, uc: Unity, broker: bayou.Connection, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = publish(broker, range(10))
    login = {"storage_options": uc.login}

    def made(table: str, kind: str, more: str = "") -> str:
        place = f" LOCATION '{tmp_path}/external/{table}'" if kind == "EXTERNAL" else ""
        spark.sql(f"CREATE TABLE heart.{table} (i INT, day DATE) USING DELTA{more}{place}")
        at = spark.sql(f"DESCRIBE DETAIL heart.{table}").collect()[0]["location"]
        uc.add_table(f"main.heart.{table}", at, table_type=kind)
        return f"main.heart.{table}"

    managed, plain = made("managed", "MANAGED"), made("plain", "EXTERNAL")
    # The existing session is found: the notebook's own, or the active one.
    write(raw, managed, None, tmp_path / "c", **login)
    assert [r["i"] for r in rows(spark, "heart.managed")] == list(range(10)) and len(
        commits(spark, "heart.managed")
    ) == 1
    assert [r["i"] for r in bayou.read_delta(managed, storage_options=uc.login).to_dicts()] == list(range(10))
    with monkeypatch.context() as alone:
        alone.setattr(_managed, "find", lambda: None)
        with pytest.raises(bayou.ConfigError, match=r"MANAGED table.*there is no Spark session\. Give spark=spark"):
            write(raw, managed, None, tmp_path / "c", **login)
    # bayou commits itself where this is allowed, also if there is a Spark.
    write(raw, plain, spark, tmp_path / "c", **login)
    assert [r["i"] for r in rows(spark, "heart.plain")] == list(range(10)) and commits(spark, "heart.plain") == []
    features = {
        "clustered": " CLUSTER BY (i)",
        # Three at once: each would be enough.
        "modern": " TBLPROPERTIES ('delta.enableRowTracking' = 'true', 'delta.enableInCommitTimestamps' = 'true',"
        " 'delta.columnMapping.mode' = 'name')",
    }
    for table, more in features.items():
        named = made(table, "EXTERNAL", more)
        with pytest.raises(bayou.StorageError, match=r"which bayou cannot write.*spark=spark"):
            write(raw, named, None, tmp_path / "c", **login)
        write(raw, named, spark, tmp_path / "c", **login)
        assert [r["i"] for r in rows(spark, f"heart.{table}")] == list(range(10)), table
        assert len(commits(spark, f"heart.{table}")) == 1, table
        with pytest.raises(bayou.StorageError, match=r"which bayou cannot write.*spark=spark"):
            write(raw, str(tmp_path / "external" / table), None, tmp_path / "p", query_name="by_path")
    # A new table without location= is a managed one if a Spark is given, and with location= it is bayou's.
    write(raw, "main.heart.fresh", spark, tmp_path / "c", **login)
    assert len(commits(spark, "heart.fresh")) == 1 and "main.heart.fresh" not in uc.tables
    write(raw, "main.heart.placed", spark, tmp_path / "c", location=f"file://{tmp_path}/placed", **login)
    assert uc.tables["main.heart.placed"]["table_type"] == "EXTERNAL"
    with pytest.raises(bayou.ConfigError, match="is a VIEW"):
        uc.add_table("main.heart.view", "", table_type="VIEW", data_source_format="")
        write(raw, "main.heart.view", spark, tmp_path / "c", **login)


def test_what_the_catalog_does_not_let_bayou_read_is_read_by_spark(
    spark: Any, uc: Unity, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spark.sql(f"CREATE TABLE {name} (i INT, ts TIMESTAMP, d DECIMAL(10,2), a ARRAY<STRUCT<x: INT>>) USING DELTA")
    spark.sql(
        f"INSERT INTO {name} VALUES (1, TIMESTAMP '2026-01-01 00:00:00', 1.5, array(struct(1))), (NULL, NULL, NULL, NULL)"
    )
    found = bayou.read_delta(name, spark=spark)
    assert found.to_dicts()[0] == {
        "i": 1,
        "ts": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
        "d": decimal.Decimal("1.50"),
        "a": [{"x": 1}],
    }
    assert len(found) == 2 and len(bayou.read_delta(name, version=0, spark=spark)) == 0
    # The existing session is found.
    assert len(bayou.read_delta(name)) == 2
    other = pa.table({"i": [1], "word": ["one"]})
    for more in ({"spark": spark}, {}):
        rows = bayou.sql(f"SELECT w.word, t.d * 2 AS d FROM {name} t JOIN w USING (i)", w=other, **more)
        assert rows.to_dicts() == [{"word": "one", "d": decimal.Decimal("3.00")}]
    with pytest.raises(bayou.StorageError, match="TABLE_OR_VIEW_NOT_FOUND"):
        bayou.read_delta(f"{name}_nowhere", spark=spark)
    uc.add_table("main.heart.theirs", "s3://bucket/theirs", table_type="MANAGED")
    uc.missing = {"EXTERNAL USE SCHEMA"}
    monkeypatch.setattr(_managed, "read", lambda spark, table, version, *wanted: pa.table({"seen": [table]}))
    read = bayou.read_delta("main.heart.theirs", storage_options=uc.login, spark=spark)
    assert read.to_dicts() == [{"seen": "`main`.`heart`.`theirs`"}]
    by_sql = bayou.sql("SELECT upper(seen) AS s FROM main.heart.theirs", storage_options=uc.login)
    assert by_sql.to_dicts() == [{"s": "`MAIN`.`HEART`.`THEIRS`"}]
    monkeypatch.setattr(_managed, "find", lambda: None)
    with pytest.raises(bayou.AclError, match="EXTERNAL USE SCHEMA"):
        bayou.read_delta("main.heart.theirs", storage_options=uc.login)
    with pytest.raises(bayou.ConfigError, match="there is no Spark session. Give spark=spark"):
        bayou.read_delta(name)


def test_wrong_uses_of_spark_are_told_when_the_line_is_typed(
    spark: Any, broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    raw = publish(broker, range(3))
    with pytest.raises(bayou.ConfigError, match="the target .* is a path, which bayou writes by itself"):
        write(raw, str(tmp_path / "t"), spark, tmp_path)
    with pytest.raises(TypeError, match="must be a Spark session, not str"):
        write(raw, "spark_catalog.heart.x", "spark", tmp_path)
    with pytest.raises(TypeError, match=r"getOrCreate\(\)"):
        write(raw, "spark_catalog.heart.x", type(spark).builder, tmp_path)
    with pytest.raises(bayou.ConfigError, match="needs checkpoint_location="):
        raw.write_delta("spark_catalog.heart.x", spark=spark)
    with pytest.raises(bayou.ConfigError, match="outside Unity Catalog.*spark=spark"):
        raw.write_delta("spark_catalog.heart.x", checkpoint_location=tmp_path)
    with pytest.raises(bayou.ConfigError, match='Give schema="catalog.schema"'):
        bayou.Pipeline("p", "lake", spark=spark)
    with pytest.raises(bayou.SchemaError, match="is not a valid column name"):
        write(raw.rename({"i": "a b"}), "spark_catalog.heart.x", spark, tmp_path)
    assert not spark.catalog.tableExists("spark_catalog.heart.x")


def test_a_checkpoint_that_spark_does_not_reach_is_told_before_anything_is_sealed(
    spark: Any, broker: bayou.Connection, name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = publish(broker, range(3))
    # A Spark elsewhere has other disks.
    real = _managed._url
    monkeypatch.setattr(_managed, "_url", lambda spark, url: real(spark, url).replace(str(tmp_path), "/elsewhere"))
    with pytest.raises(bayou.ConfigError, match="Spark does not reach the checkpoint.*checkpoint_location="):
        write(raw, name, spark, tmp_path)
    assert not list(tmp_path.rglob("epoch/*")) and waiting(tmp_path) == []
    monkeypatch.undo()
    write(raw, name, spark, tmp_path)
    assert len(rows(spark, name)) == 3


def test_files_have_the_names_that_spark_knows(spark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for url, elsewhere, on_databricks in [
        ("file:///tmp/a b/x", "file:///tmp/a b/x", "file:///tmp/a b/x"),
        ("file:///Volumes/main/heart/x", "/Volumes/main/heart/x", "/Volumes/main/heart/x"),
        ("file:///dbfs/heart/x", "dbfs:/heart/x", "dbfs:/heart/x"),
        ("s3://bucket/x", "s3a://bucket/x", "s3://bucket/x"),
        (
            "abfss://c@a.dfs.core.windows.net/x",
            "abfss://c@a.dfs.core.windows.net/x",
            "abfss://c@a.dfs.core.windows.net/x",
        ),
    ]:
        assert _managed._url(spark, url) == elsewhere
        with monkeypatch.context() as cluster:
            cluster.setenv("DATABRICKS_RUNTIME_VERSION", "16.4")
            assert _managed._url(spark, url) == on_databricks
