"""Rows that a table does not accept never reach a file: they go to quarantine, and every sealed row can be committed."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import bayou
import deltalake
import pytest
from spark_shell import Spark, spark


@pytest.fixture(scope="module")
def shell() -> Iterator[Spark]:
    with spark() as made:
        yield made


def put(broker: bayou.Connection, rows: list[dict[str, Any]], topic: str = "t") -> None:
    broker.create_topic(topic, exist_ok=True)
    broker.produce(topic, rows, progress=False)


def aside(path: pathlib.Path | str) -> list[dict[str, Any]]:
    """The quarantine's rows in the order of their offsets."""
    return sorted(bayou.read_delta(f"{path}_quarantine").to_dicts(), key=lambda r: (r["offset"] or 0, r["row"] or ""))


def nullable(path: pathlib.Path | str) -> dict[str, bool]:
    return {f.name: f.nullable for f in deltalake.DeltaTable(str(path)).schema().fields}


def test_a_null_for_a_not_null_column_goes_to_quarantine_in_every_mode(
    broker: bayou.Connection, shell: Spark, tmp_path: pathlib.Path
) -> None:
    put(broker, [{"a": 1, "n": 5}])
    strict = broker.read_stream("t", schema="a INT, n INT NOT NULL")
    loose = broker.read_stream("t", schema="a INT, n INT")
    strict.write_delta(tmp_path / "append", progress=False)
    strict.group_by("n").agg("count(*) AS c").write_delta(tmp_path / "update", output_mode="update", progress=False)
    strict.group_by("n").agg("count(*) AS c").write_delta(tmp_path / "complete", progress=False)
    put(broker, [{"a": 2}, {"a": 3, "n": 7}, {"a": 4}])
    query = loose.write_delta(tmp_path / "append", progress=False)
    assert any("'n' is NOT NULL in the table" in note and "merge" in note for note in query.notes), query.notes
    assert sorted(r["a"] for r in bayou.read_delta(tmp_path / "append").to_dicts()) == [1, 3]
    kept = aside(tmp_path / "append")
    assert [(r["offset"], r["stage"], json.loads(r["value"])) for r in kept] == [
        (1, "table", {"a": 2}),
        (3, "table", {"a": 4}),
    ]
    assert all(r["dataset"] == "append" and "'n' is NULL" in r["error"] for r in kept)
    rows = shell.sql(f"SELECT a, n FROM delta.`{tmp_path}/append` ORDER BY a")
    assert rows == [{"a": 1, "n": 5}, {"a": 3, "n": 7}]
    for mode in ("update", "complete"):
        path = tmp_path / mode
        # The group's key cannot be NULL in the table.
        for _ in range(2):
            loose.group_by("n").agg("count(*) AS c").write_delta(path, output_mode=mode, progress=False)
        assert sorted((r["n"], r["c"]) for r in bayou.read_delta(path).to_dicts()) == [(5, 1), (7, 1)], mode
        assert [json.loads(r["row"]) for r in aside(path)] == [{"c": 2}], mode
        assert nullable(path) == {"n": False, "c": True}


def test_nested_nulls_are_found_and_tables_of_others_keep_their_schema(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    path = str(tmp_path / "t")
    fields = [
        deltalake.Field("id", "long", nullable=False),
        deltalake.Field("s", deltalake.schema.StructType([deltalake.Field("x", "integer", nullable=False)])),
        deltalake.Field("l", deltalake.schema.ArrayType("integer", contains_null=False)),
        deltalake.Field("m", deltalake.schema.MapType("string", "integer", value_contains_null=False)),
    ]
    deltalake.DeltaTable.create(path, deltalake.Schema(fields))
    before = deltalake.DeltaTable(path).schema().to_json()
    good = [{"id": 1, "s": {"x": 1}, "l": [1], "m": {"a": 1}}, {"id": 2}, {"id": 3, "s": None, "l": [], "m": {}}]
    bad = [{"s": {"x": 1}}, {"id": 4, "s": {"x": None}}, {"id": 5, "l": [1, None]}, {"id": 6, "m": {"a": None}}]
    put(broker, [*good, *bad])
    stream = broker.read_stream("t", schema="id BIGINT, s STRUCT<x: INT>, l ARRAY<INT>, m MAP<STRING, INT>")
    stream.write_delta(path, progress=False)
    assert sorted(r["id"] for r in bayou.read_delta(path).to_dicts()) == [1, 2, 3]
    assert [r["error"].split("'")[1] for r in aside(path)] == ["id", "s.x", "l.element", "m.value"]
    # A tighter DDL never changes the table; schema_mode="merge" loosens it where the stream is looser.
    assert deltalake.DeltaTable(path).schema().to_json() == before
    stream.write_delta(path, schema_mode="merge", progress=False)
    put(broker, bad)
    stream.write_delta(path, progress=False)
    assert len(bayou.read_delta(path)) == len(good) + len(bad)
    assert json.loads(deltalake.DeltaTable(path).schema().to_json())["fields"][0]["nullable"] is True


def test_a_column_is_not_null_only_where_the_user_said_so(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    put(broker, [{"a": 1, "k": "x", "time": "2024-01-01T00:00:00Z"}])
    stream = broker.read_stream("t", schema="a INT NOT NULL, k STRING NOT NULL, time TIMESTAMP NOT NULL")
    expressions = stream.select(
        "a", "a AS b", "coalesce(a, 0) AS c", "1 AS one", "'v' AS v", "a IS NULL AS n", "concat_ws('-', k) AS w"
    )
    expressions.write_delta(tmp_path / "e", progress=False)
    assert [n for n, null in nullable(tmp_path / "e").items() if not null] == ["a", "b"]
    timed = stream.with_watermark("time", "0 seconds")
    windows = timed.group_by(bayou.window("time", "1 minute"), "k", "upper(k) AS u").agg("count(*) AS n")
    windows.write_delta(tmp_path / "w", close_windows=True, progress=False)
    assert [n for n, null in nullable(tmp_path / "w").items() if not null] == ["k"]
    # So an edited cell continues: a column that was never NULL may be NULL from now on.
    loose = broker.read_stream("t", schema="a INT").select("coalesce(a, 0) AS v")
    loose.write_delta(tmp_path / "v", progress=False)
    put(broker, [{}])
    broker.read_stream("t", schema="a INT").select("a AS v").write_delta(tmp_path / "v", progress=False)
    assert bayou.sql("SELECT count(*) AS n FROM t WHERE v IS NULL", t=tmp_path / "v").to_dicts() == [{"n": 1}]


def test_checks_of_the_table_are_kept_and_those_that_come_meanwhile_too(
    broker: bayou.Connection, shell: Spark, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "t"
    shell.sql(f"CREATE TABLE delta.`{path}` (a INT, name VARCHAR(3)) USING delta")
    shell.sql(f"ALTER TABLE delta.`{path}` ADD CONSTRAINT pos CHECK (a > 0)")
    put(broker, [{"a": 1, "name": "abc"}, {"a": -1}, {}, {"a": 2, "name": "abcd"}])
    query = broker.read_stream("t", schema="a INT, name STRING").write_delta(
        path, trigger="0 seconds", block=False, progress=False
    )
    try:
        until(lambda: counted(path) == (1, 3))
        assert [r["a"] for r in bayou.read_delta(path).to_dicts()] == [1]
        kept = aside(path)
        assert [(r["offset"], r["rules"]) for r in kept] == [(1, ["pos"]), (2, ["pos"]), (3, [])]
        assert "breaks the table's constraint 'pos': a > 0" in kept[0]["error"] and "at most 3" in kept[2]["error"]
        deltalake.DeltaTable(str(path)).alter.add_constraint({"small": "a < 100"})
        put(broker, [{"a": 7}, {"a": 500}])
        until(lambda: counted(path) == (2, 4))
        assert query.exception() is None
        not_null(path, "a")
        put(broker, [{"a": 8}, {"name": "x"}])
        until(lambda: counted(path) == (3, 5))
    finally:
        query.stop()
    assert sorted(r["a"] for r in bayou.read_delta(path).to_dicts()) == [1, 7, 8]
    assert [r["offset"] for r in aside(path)] == [1, 2, 3, 5, 7]
    assert shell.sql(f"SELECT count(*) AS n FROM delta.`{path}` WHERE a > 0") == [{"n": 3}]


def not_null(path: pathlib.Path, column: str) -> None:
    """Makes a column NOT NULL, as the ALTER TABLE of some engines does. Spark's and deltalake's do not."""
    log = sorted((path / "_delta_log").glob("*.json"))
    entries = [json.loads(line) for file in log for line in file.open()]
    metadata = [e["metaData"] for e in entries if "metaData" in e][-1]
    schema = json.loads(metadata["schemaString"])
    next(f for f in schema["fields"] if f["name"] == column)["nullable"] = False
    metadata["schemaString"] = json.dumps(schema)
    version = int(log[-1].stem) + 1
    with (path / "_delta_log" / f"{version:020}.json").open("x") as file:
        file.write(json.dumps({"metaData": metadata}) + "\n")


def counted(path: pathlib.Path) -> tuple[int, int]:
    """Rows in the table and in its quarantine."""
    try:
        return len(bayou.read_delta(path)), len(bayou.read_delta(f"{path}_quarantine"))
    except bayou.StorageError:
        return 0, 0


def until(met: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.05)


def test_a_constraint_that_cannot_be_evaluated_is_refused_by_name(
    broker: bayou.Connection, shell: Spark, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "t"
    shell.sql(f"CREATE TABLE delta.`{path}` (a INT) USING delta")
    shell.sql(f"ALTER TABLE delta.`{path}` ADD CONSTRAINT odd CHECK (java_method('java.lang.Math', 'abs', a) <> '7')")
    put(broker, [{"a": 1}])
    with pytest.raises(bayou.StorageError, match=r"'odd'.*java_method.*Drop the constraint"):
        broker.read_stream("t", schema="a INT").write_delta(path, progress=False)


def test_no_value_stops_a_query(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    long, far = 9223372036854775807, 253402300800000000
    rows = [
        {"p": "ok"},
        {"p": "x" * 300},
        {"p": "ü" * 200},
        {"p": ""},
        {"p": "__HIVE_DEFAULT_PARTITION__"},
        {"p": None},
    ]
    put(broker, rows)
    put(broker, [{"t": 0, "n": 1}, {"t": long, "n": 2}, {"t": far, "n": 3}, {"t": -far * 2, "n": 4}], "times")
    by_text = broker.read_stream("t", schema="p STRING, n INT")
    times = broker.read_stream("times", schema="t BIGINT, n INT").select("timestamp_micros(t) AS t", "n")
    for mode in ("append", "update"):
        text = by_text if mode == "append" else by_text.group_by("p").agg("count(*) AS n")
        path = tmp_path / f"text_{mode}"
        text.write_delta(path, output_mode=mode, partition_by="p", progress=False)
        text.write_delta(path, output_mode=mode, partition_by="p", progress=False)
        found = bayou.read_delta(path).to_dicts()
        assert sorted(str(r["p"]) for r in found) == sorted(["None", "ok", "x" * 300, "ü" * 200]), mode
        assert len(aside(path)) == 2
        assert sorted(map(str, deltalake.DeltaTable(str(path)).to_pyarrow_table()["p"].to_pylist())) == sorted(
            ["None", "ok", "x" * 300, "ü" * 200]
        )
        for by in ([], ["t"], ["d"]):
            stream = times.with_columns("to_date(t) AS d") if by == ["d"] else times
            path = tmp_path / f"times_{mode}_{''.join(by)}"
            if mode == "update":
                stream = stream.group_by(*(["t", "d"] if by == ["d"] else ["t"])).agg("max(n) AS n")
            stream.write_delta(path, output_mode=mode, partition_by=by, progress=False)
            assert [r["n"] for r in bayou.read_delta(path).to_dicts()] == [1], (mode, by)
            assert len(aside(path)) == 3, (mode, by)
            assert deltalake.DeltaTable(str(path)).to_pyarrow_table().num_rows == 1


@pytest.mark.parametrize(
    ("schema", "by", "said"),
    [
        ("b BINARY, n INT", "b", "BINARY.*hex"),
        ("s STRUCT<x: INT>, n INT", "s", "STRUCT.*field"),
        ("l ARRAY<INT>, n INT", "l", "ARRAY"),
        ("m MAP<STRING, INT>, n INT", "m", "MAP"),
        ("a INT, n INT", ["a", "A"], "twice"),
    ],
)
def test_partitions_that_readers_cannot_read_back_are_refused_before_anything_is_written(
    broker: bayou.Connection, tmp_path: pathlib.Path, schema: str, by: Any, said: str
) -> None:
    broker.create_topic("t", exist_ok=True)
    with pytest.raises(bayou.SchemaError, match=said):
        broker.read_stream("t", schema=schema).write_delta(tmp_path / "t", partition_by=by, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_merging_by_a_null_key_keeps_one_row_also_beside_times_and_in_partitions(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    keys = "ts TIMESTAMP, d DOUBLE, s STRING, b BINARY"
    broker.create_topic("t")
    stream = broker.read_stream("t", schema=keys)
    for round_ in range(3):
        day = f"2024-01-0{round_ + 1}T00:00:00Z"
        put(broker, [{}, {"ts": day}, {"d": -0.0}, {"d": 0.0}, {"s": "a"}, {"b": "AA=="}])
        for name, key in [
            ("ts", "ts"),
            ("d", "d"),
            ("s", "s"),
            ("b", "b"),
            ("all", ""),
        ]:
            grouped = stream.group_by(*([key] if key else ["ts", "d", "s", "b"])).agg("count(*) AS n")
            every = 2 if round_ else None
            grouped.write_delta(tmp_path / name, output_mode="update", optimize_every=every, progress=False)
        parts = stream.group_by("s", "d").agg("count(*) AS n")
        parts.write_delta(
            tmp_path / "parts", output_mode="update", partition_by=["s", "d"], optimize_every=2, progress=False
        )
    count = {
        name: sorted(r["n"] for r in bayou.read_delta(tmp_path / name).to_dicts()) for name in ("ts", "d", "s", "b")
    }
    assert count == {"ts": [1, 1, 1, 15], "d": [6, 12], "s": [3, 15], "b": [3, 15]}
    # {} three times, three days, zeros of both signs as one, "a", and the bytes.
    assert sorted(r["n"] for r in bayou.read_delta(tmp_path / "all").to_dicts()) == [1, 1, 1, 3, 3, 3, 6]
    assert sorted(r["n"] for r in bayou.read_delta(tmp_path / "parts").to_dicts()) == [3, 6, 9]


CRASH = """
import sys, bayou
name, path, mode, by = sys.argv[1:]
kafka = bayou.connect(name=name)
stream = kafka.read_stream("t", schema="a INT, k STRING")
if mode == "update":
    stream = stream.group_by("k").agg("max(a) AS a")
bayou.testing.crash_at("seal.after", nth=1)
stream.write_delta(path, output_mode=mode, partition_by=by or None, progress=False)
"""


@pytest.mark.parametrize("mode", ["append", "update"])
@pytest.mark.parametrize("by", ["", "k"])
def test_a_sealed_epoch_that_a_changed_table_does_not_take_is_repaired_without_loss(
    tmp_path: pathlib.Path, mode: str, by: str
) -> None:
    name = f"test-{uuid.uuid4().hex[:12]}"
    broker = bayou.connect(name=name)
    path = tmp_path / "t"
    put(broker, [{"a": 1, "k": "x"}])
    stream = broker.read_stream("t", schema="a INT, k STRING")
    if mode == "update":
        stream = stream.group_by("k").agg("max(a) AS a")
    write = lambda: stream.write_delta(path, output_mode=mode, partition_by=by or None, progress=False)  # noqa: E731
    write()
    assert bayou.repair(path).to_dicts() == []
    put(broker, [{"a": 2, "k": "y"}, {"a": -3, "k": "z"}, {"a": -4, "k": "w"}])
    died = subprocess.run([sys.executable, "-c", CRASH, name, str(path), mode, by], check=False)
    assert died.returncode == -6
    deltalake.DeltaTable(str(path)).alter.add_constraint({"pos": "a > 0"})
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(bayou.SchemaError, match=r"2 of its rows.*'pos'.*repair\(confirm=True\)"):
            write()
        assert time.monotonic() - began < 5, "what is the same each time is not tried again and again"
    listed = bayou.repair(path).to_dicts()
    assert sorted(json.loads(r["row"])["a"] for r in listed) == [-4, -3]
    assert all(r["table"] == "t" and "'pos'" in r["error"] for r in listed)
    assert sorted(r["a"] for r in bayou.read_delta(path).to_dicts()) == [1], "listing changes nothing"
    assert len(bayou.repair(path, confirm=True)) == 2
    assert sorted(r["a"] for r in bayou.read_delta(path).to_dicts()) == [1, 2]
    assert bayou.repair(path, confirm=True).to_dicts() == []
    put(broker, [{"a": 5, "k": "v"}, {"a": 6, "k": "z"}])
    write()
    assert sorted(r["a"] for r in bayou.read_delta(path).to_dicts()) == [1, 2, 5, 6]
    kept = aside(path)
    assert sorted(json.loads(r["row"])["a"] for r in kept) == [-4, -3]
    assert {(r["stage"], r["dataset"], r["epoch"]) for r in kept} == {("table", "t", 1)}
    with pytest.raises(bayou.ConfigError, match="no checkpoint.*query_name"):
        bayou.repair(tmp_path / "other")


def test_column_names_match_without_case_and_nested_fields_by_name(
    broker: bayou.Connection, shell: Spark, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "t"
    shell.sql(
        f"CREATE TABLE delta.`{path}` (Id BIGINT, s STRUCT<x: INT, y: INT>, P STRING) USING delta PARTITIONED BY (P)"
    )
    put(broker, [{"id": 1, "s": {"y": 2, "z": 3}, "p": "a"}])
    narrow = broker.read_stream("t", schema="id BIGINT, s STRUCT<y: INT>, p STRING")
    narrow.write_delta(path, partition_by="p", progress=False)
    assert bayou.read_delta(path).to_dicts() == [{"Id": 1, "s": {"x": None, "y": 2}, "P": "a"}]
    put(broker, [{"id": 2, "s": {"y": 4, "z": 5}, "p": "a"}])
    wide = broker.read_stream("t", schema="id BIGINT, s STRUCT<z: INT, y: INT>, p STRING")
    with pytest.raises(bayou.SchemaError, match="schema_mode"):
        wide.write_delta(path, partition_by="p", progress=False)
    wide.write_delta(path, partition_by="p", schema_mode="merge", progress=False)
    rows = shell.sql(f"SELECT Id, s.x, s.y, s.z, P FROM delta.`{path}` ORDER BY Id")
    assert rows == [{"Id": 1, "y": 2, "P": "a"}, {"Id": 2, "y": 4, "z": 5, "P": "a"}]
    with pytest.raises(bayou.SchemaError, match=r"'s' is STRUCT.*Read it with the type of the table"):
        broker.read_stream("t", schema="id BIGINT, s STRING, p STRING").write_delta(
            path, partition_by="p", progress=False
        )
    with pytest.raises(bayou.SchemaError, match=r"CAST\(`id` AS BIGINT\) AS `id`") as caught:
        broker.read_stream("t", schema="id STRING, p STRING").write_delta(path, partition_by="p", progress=False)
    advice = str(caught.value).split('with_columns("')[1].split('")')[0]
    put(broker, [{"id": 3, "p": "b"}])
    quoted = broker.read_stream("t", schema="id STRING, p STRING").with_columns(advice)
    quoted.write_delta(path, partition_by="p", progress=False)
    assert sorted(r["Id"] for r in bayou.read_delta(path).to_dicts()) == [1, 2, 3]


def test_lengths_within_structs_lists_and_maps_are_kept(
    broker: bayou.Connection, tmp_path: pathlib.Path, shell: Spark
) -> None:
    path = str(tmp_path / "t")
    shell.sql(
        f"CREATE TABLE {'v' + uuid.uuid4().hex[:8]} (a VARCHAR(3), l ARRAY<VARCHAR(3)>, s STRUCT<n: DECIMAL(10,2), x: CHAR(2)>, "
        f"m MAP<VARCHAR(2), ARRAY<VARCHAR(1)>>) USING delta LOCATION '{path}'"
    )
    put(
        broker,
        [
            {"a": "abc", "l": ["abc", None], "s": {"n": 1, "x": "üü"}, "m": {"kk": ["a"]}},
            {"a": "abcd"},
            {"l": ["abc", "abcd"]},
            {"s": {"n": 1, "x": "abc"}},
            {"m": {"kkk": []}},
            {"m": {"k": ["a", "ab"]}},
        ],
    )
    ddl = "a STRING, l ARRAY<STRING>, s STRUCT<n: DECIMAL(10,2), x: STRING>, m MAP<STRING, ARRAY<STRING>>"
    broker.read_stream("t", schema=ddl).write_delta(path, progress=False)
    assert len(bayou.read_delta(path)) == 1
    assert [r["offset"] for r in aside(path)] == [1, 2, 3, 4, 5]
    assert all("at most" in r["error"] for r in aside(path))


def test_a_table_that_is_read_as_a_stream_hands_on_only_the_rows_that_it_takes(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    deltalake.DeltaTable.create(
        str(tmp_path / "clean"),
        schema=deltalake.Schema(
            [
                deltalake.Field("a", deltalake.schema.PrimitiveType("integer"), nullable=False),
                deltalake.Field("b", deltalake.schema.PrimitiveType("string")),
            ]
        ),
    )
    deltalake.DeltaTable(str(tmp_path / "clean")).alter.add_constraint({"short": "b <> 'much'"})
    broker.create_topic("t")
    raw = broker.read_stream("t", schema="a INT, b STRING")

    def lake() -> bayou.Pipeline:
        made = bayou.Pipeline("p", tmp_path)
        made.table("clean", raw)
        made.table("behind", made.read_stream("clean").select("a", "b"))
        made.table("totals", made.read_stream("clean").group_by().agg("count(*) AS n", "sum(a) AS s"))
        made.table("beside", raw.select("a AS x"))
        return made

    want: list[int] = []
    for first in (1, 11):
        put(broker, [{"a": first, "b": "x"}, {"b": "x"}, {"a": first + 1, "b": "much"}, {"a": first + 2}])
        lake().run(progress=False)
        # A CHECK that is NULL does not hold either.
        want += [first]
        for table in ("clean", "behind"):
            assert sorted(r["a"] for r in bayou.read_delta(tmp_path / table).to_dicts()) == want, table
        assert bayou.read_delta(tmp_path / "totals").to_dicts() == [{"n": len(want), "s": sum(want)}]
        # The stream before the table does not depend on what the table accepts.
        assert bayou.read_delta(tmp_path / "beside").num_rows == 4 * len(want)
        aside = bayou.read_delta(tmp_path / "p_quarantine").to_dicts()
        assert sorted((r["dataset"], r["stage"]) for r in aside) == [("clean", "table")] * 3 * len(want)


def test_a_group_of_a_complete_result_is_set_aside_once_over_all_runs(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    stream = broker.read_stream("t", schema="k STRING, n BIGINT")
    totals = stream.group_by("k").agg("sum(n) AS s", "2 * max(n) AS twice")
    most = 2**63 - 1
    for k in range(30):
        put(broker, [{"k": "bad", "n": most}, {"k": f"good {k}", "n": 1}, {"k": f"bad {k % 3}", "n": most}])
        totals.write_delta(tmp_path / "t", progress=False)
    aside = sorted(json.loads(r["row"])["k"] for r in bayou.read_delta(f"{tmp_path}/t_quarantine").to_dicts())
    assert aside == ["bad", "bad 0", "bad 1", "bad 2"]
    assert sorted(r["k"] for r in bayou.read_delta(tmp_path / "t").to_dicts()) == sorted(f"good {k}" for k in range(30))


@pytest.mark.parametrize(
    ("schema", "column", "says"),
    [
        ("s STRUCT<`a b`: INT>", "s", "s.`a b` AS s_a_b"),
        ("s STRUCT<x: INT, t: STRUCT<`c=d`: INT>>", "s", "'c=d'"),
        ("s ARRAY<STRUCT<`a,b`: INT>>", "s", "'a,b'"),
        ("s MAP<STRING, STRUCT<`a;b`: INT>>", "s", "'a;b'"),
        ("s STRUCT<a: INT, A: INT>", "s", "twice"),
    ],
)
def test_names_within_columns_that_delta_does_not_take_are_refused_when_the_line_is_typed(
    broker: bayou.Connection, tmp_path: pathlib.Path, schema: str, column: str, says: str
) -> None:
    put(broker, [{"s": None}])
    with pytest.raises(bayou.SchemaError) as e:
        broker.read_stream("t", schema=schema).write_delta(tmp_path / "t", progress=False)
    assert says in str(e.value) and not (tmp_path / "t").exists(), e.value


def test_the_advice_for_a_fields_name_works(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    put(broker, [{"s": {"a b": 1}}])
    stream = broker.read_stream("t", schema="s STRUCT<`a b`: INT>").select("s.`a b` AS s_a_b")
    stream.write_delta(tmp_path / "t", progress=False)
    assert bayou.read_delta(tmp_path / "t").to_dicts() == [{"s_a_b": 1}]
