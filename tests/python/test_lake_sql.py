"""SQL over tables: clauses and names as in Spark, versions, and the lake's answers about its tables."""

from __future__ import annotations

import datetime
import json
import math
import os
import pathlib
import re
import time
from typing import Any

import bayou
import deltalake
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from record_spark_queries import TABLES, plain

HERE = pathlib.Path(__file__).parent
TYPES = {"INT": pa.int32(), "BIGINT": pa.int64(), "DOUBLE": pa.float64(), "STRING": pa.string()}


def table(ddl: str, rows: list[list[Any]]) -> pa.Table:
    schema = bayou.from_messages([], schema=ddl).collect().to_arrow().schema

    def value(v: Any, t: pa.DataType) -> Any:
        if v is not None and pa.types.is_struct(t):
            return {f.name: x for f, x in zip(t, v, strict=True)}
        return list(v.items()) if v is not None and pa.types.is_map(t) else v

    columns = zip(*rows, strict=True)
    arrays = [pa.array([value(v, f.type) for v in c], f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def shown(value: Any, of: pa.DataType) -> Any:
    """A value of ours as the recording writes it."""
    if value is None:
        return None
    if pa.types.is_map(of):
        return {str(k): shown(v, of.item_type) for k, v in value}
    if pa.types.is_struct(of):
        return {f.name: shown(value[f.name], f.type) for f in of}
    if pa.types.is_list(of):
        return [shown(v, of.value_type) for v in value]
    return plain(value)


def same(a: Any, b: Any) -> bool:
    """Equal, and floats as far as the order of a sum lets them be."""
    if isinstance(a, float) and isinstance(b, float):
        return (a != a and b != b) or a == b or abs(a - b) <= 1e-14 * abs(b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return [*a] == [*b] and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b


def test_queries_have_the_answers_of_a_real_spark() -> None:
    """Recorded by record_spark_queries.py. Rows are compared in their order only where the query asks for one."""
    tables = {name: table(ddl, rows) for name, (ddl, rows) in TABLES.items()}
    wrong = []
    answers = [a for name in ("", "_random") for a in json.loads((HERE / f"spark_queries{name}.json").read_text())]
    assert len(answers) >= 600
    for answer in answers:
        query = answer["query"]
        try:
            found = bayou.sql(query, **tables).to_arrow()
        except bayou.SchemaError as error:
            if "refused" not in answer:
                wrong.append(f"{query}: {error}")
            continue
        if "refused" in answer:
            wrong.append(f"{query}: Spark refuses it")
            continue
        columns = [[shown(v, c.type) for v in c.to_pylist()] for c in found.columns]
        rows = [list(row) for row in zip(*columns, strict=True)]
        want = answer["rows"]
        if "ORDER BY" not in re.sub(r"\([^()]*\)", "", re.sub(r"\([^()]*\)", "", query)):
            rows, want = sorted(rows, key=repr), sorted(want, key=repr)
        if found.column_names != answer["names"] or not same(rows, want):
            wrong.append(f"{query}:\n  {found.column_names} {rows}\n  {answer['names']} {want}")
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def lake(broker: bayou.Connection, tmp_path: pathlib.Path) -> bayou.Pipeline:
    broker.create_topic("t")
    lake = bayou.Pipeline("shop", tmp_path)
    raw = broker.read_stream("t", schema="id BIGINT NOT NULL, Region STRING, tags ARRAY<STRUCT<K: STRING>>")
    lake.table("Events", raw, partition_by="Region", comment="all events")
    lake.table("per_region", raw.group_by("Region").agg("count(*) AS n"))
    for k in range(3):
        broker.produce("t", [{"id": 10 * k + i, "Region": "ns"[i % 2]} for i in range(4)], progress=False)
        lake.run(progress=False)
    return lake


def test_a_table_is_read_at_a_version_or_at_a_time(lake: bayou.Pipeline) -> None:
    def ids(clause: str) -> list[int]:
        return [r["id"] for r in lake.sql(f"SELECT id FROM events {clause} ORDER BY id").to_dicts()]

    all_ids = [10 * k + i for k in range(3) for i in range(4)]
    assert ids("") == all_ids
    log = pathlib.Path(lake.root) / "Events" / "_delta_log"
    commits = sorted(log.glob("*.json"))
    newest = len(commits) - 1
    assert [len(ids(f"VERSION AS OF {v}")) for v in (newest - 2, newest - 1, newest)] == [4, 8, 12]
    now = int(time.time())
    for k, commit in enumerate(commits):
        os.utime(commit, (now - 3600 + 60 * k,) * 2)

    def at(seconds: float) -> str:
        return datetime.datetime.fromtimestamp(now - 3600 + seconds, datetime.timezone.utc).isoformat()

    assert len(ids(f"TIMESTAMP AS OF '{at(60 * newest - 1)}'")) == 8
    assert len(ids(f"TIMESTAMP AS OF '{at(60 * newest)}'")) == 12
    assert len(ids(f"TIMESTAMP AS OF TIMESTAMP '{at(60 * (newest - 1) + 5)}' - INTERVAL 10 SECONDS")) == 4
    both = "SELECT count(*) AS n FROM Events VERSION AS OF {} a JOIN events b ON a.ID = b.id AND a.region = b.REGION"
    assert lake.sql(both.format(newest - 2)).to_dicts() == [{"n": 4}]
    named = f"SELECT count(*) AS n FROM events VERSION AS OF {newest - 1} WHERE Events.id > 0"
    assert lake.sql(named).to_dicts() == [{"n": 7}]
    for clause, words in {
        f"VERSION AS OF {newest + 1}": f"version {newest + 1}",
        "TIMESTAMP AS OF '2020-01-01'": "before the oldest version",
        f"TIMESTAMP AS OF '{at(7000)}'": f"after the newest version .version {newest},",
        "TIMESTAMP AS OF 'no time'": "TIMESTAMP AS OF",
        "FOR SYSTEM_TIME AS OF '2020-01-01'": "Say VERSION AS OF or TIMESTAMP AS OF",
    }.items():
        with pytest.raises(bayou.BayouError, match=words):
            ids(clause)
    assert len(ids("TIMESTAMP AS OF current_timestamp() - INTERVAL 57 MINUTES - INTERVAL 30 SECONDS")) == 8
    with pytest.raises(bayou.SchemaError, match="only Delta tables have versions"):
        bayou.sql("SELECT * FROM t VERSION AS OF 1", t=pa.table({"a": [1]}))


def test_the_lake_shows_and_describes_its_tables(lake: bayou.Pipeline) -> None:
    def names(text: str) -> list[str]:
        return [r["tableName"] for r in lake.sql(text).to_dicts()]

    assert names("SHOW TABLES") == ["Events", "per_region"]
    assert names("show tables like 'per*'") == names("SHOW TABLES '%REGION';") == ["per_region"]
    assert names("SHOW TABLES LIKE 'x*|ev*'") == ["Events"]
    for word in ("DESCRIBE", "DESC", "describe table"):
        assert [tuple(r.values()) for r in lake.sql(f"{word} events").to_dicts()] == [
            ("id", "bigint", None),
            ("Region", "string", None),
            ("tags", "array<struct<K:string>>", None),
            ("# Partition Information", "", ""),
            ("# col_name", "data_type", "comment"),
            ("Region", "string", None),
        ]
    more = {r["col_name"]: r["data_type"] for r in lake.sql("DESCRIBE EXTENDED `Events`").to_dicts()}
    assert (more["Name"], more["Comment"], more["Provider"]) == ("Events", "all events", "delta")
    assert more["Location"].rstrip("/") == str(pathlib.Path(lake.root) / "Events")
    history = lake.sql("DESCRIBE HISTORY per_region").to_arrow()
    versions = history.column("version").to_pylist()
    assert versions == sorted(versions, reverse=True) and versions[-1] == 0
    assert history.column("operation")[0].as_py() == "WRITE" and "bayou" in history.column("engineInfo")[0].as_py()
    assert history.schema.field("timestamp").type == pa.timestamp("us", "UTC")
    for text, words in {
        "DESCRIBE event": "no table 'event'.*Events",
        "DESCRIBE HISTORY nothing": "no table 'nothing'",
        "SHOW TABLES IN other": "Leave IN",
        "SHOW DATABASES": "SHOW supports only SHOW TABLES",
        "DESCRIBE DETAIL events": "DESCRIBE EXTENDED",
        "SHOW TABLES LIKE 'a' 'b'": "cannot be used in this statement",
    }.items():
        with pytest.raises(bayou.SchemaError, match=words):
            lake.sql(text)


def test_what_is_parsed_and_not_done_is_refused_by_name() -> None:
    t = pa.table({"g": [1, 2], "d": [1.5, None]})
    for text in ("SELECT nothing FROM t", "SELECT nothing(g) FROM t"):
        with pytest.raises(bayou.SchemaError, match="nothing") as caught:
            bayou.sql(text, t=t)
        assert not any(word in str(caught.value).lower() for word in ("datafusion", "double quotes", "planning"))
    for text, words in {
        "SELECT a.g FROM t AS a JOIN (SELECT g FROM t TABLESAMPLE (10 PERCENT)) AS b ON a.g = b.g": "TABLESAMPLE",
        "SELECT g FROM (SELECT g FROM t) TABLESAMPLE (1 ROWS)": "TABLESAMPLE",
        "SELECT g, count(*) AS n FROM t GROUP BY ALL WITH ROLLUP": "Name the columns",
        "SELECT * FROM t PIVOT (sum(d) FOR g IN (ANY))": "PIVOT takes a list of values",
        "SELECT * FROM t PIVOT (sum(d) FOR (g, d) IN (1))": "is not 2 values",
        "SELECT * FROM t UNPIVOT ((a, b) FOR c IN (g, d))": "has 1 columns",
        "SELECT count(DISTINCT *) FROM t": "Name the columns",
        "SELECT g FROM t EXCEPT ALL SELECT 1": "EXCEPT ALL is not supported",
        "SELECT g FROM t INTERSECT ALL SELECT 1": "INTERSECT ALL is not supported",
        "INSERT INTO t VALUES (1, 2)": "SQL:",
        "COPY t TO 'x.csv'": "SQL:",
    }.items():
        with pytest.raises(bayou.SchemaError, match=words):
            bayou.sql(text, t=t)


def test_names_are_looked_up_in_the_scope_that_they_stand_in() -> None:
    t = pa.table({"Id": [1, 2, 3], "Name": ["a", "b", None], "v": [10, 20, 30]})
    u = pa.table({"id": [1, 2, 4], "NAME": ["x", "y", "z"], "w": [1.5, 2.5, 3.5]})
    e = pa.table({"event_id": [1, 2, 3], "Amount": [5, 7, 9], "Day": ["mo", "mo", "tu"]})
    tables = {"t": t, "u": u, "e": e}
    for query, want in {
        # A name of WITH hides a table, in its scope, and can use only names before it.
        "WITH T AS (SELECT 5 AS id) SELECT * FROM T": [{"id": 5}],
        "WITH E AS (SELECT Amount FROM e WHERE amount > 5) SELECT sum(AMOUNT) AS s FROM E": [{"s": 16}],
        "WITH t AS (SELECT v + 1 AS V FROM t) SELECT max(V) AS m FROM t": [{"m": 31}],
        "WITH b AS (SELECT Day AS day, Amount FROM e), e AS (SELECT * FROM b) SELECT max(day) AS d FROM e": [
            {"d": "tu"}
        ],
        "SELECT q.z, t.ID FROM (WITH T AS (SELECT 1 AS z) SELECT z FROM T) q, t WHERE id = 1": [{"z": 1, "ID": 1}],
        # An exact spelling comes first.
        "SELECT Day, sum(Amount) AS amount FROM e GROUP BY Day ORDER BY -sum(Amount)": [
            {"Day": "mo", "amount": 12},
            {"Day": "tu", "amount": 9},
        ],
        "SELECT sum(v) AS V FROM t HAVING V > 1": [{"V": 60}],
        "SELECT upper(name) AS NAME FROM t GROUP BY NAME HAVING NAME = 'A'": [{"NAME": "A"}],
        # Fields go by the type of their column.
        "SELECT x.Ab FROM (SELECT named_struct('Ab', Id) AS x FROM t) y ORDER BY 1 LIMIT 1": [{"Ab": 1}],
        "SELECT s.AB, r.ab FROM (SELECT named_struct('AB', 1) AS s, named_struct('ab', 2) AS r)": [{"AB": 1, "ab": 2}],
        # Types are those that all branches fit into.
        "SELECT v FROM t UNION ALL SELECT w FROM u ORDER BY 1 LIMIT 2": [{"v": 1.5}, {"v": 2.5}],
        "SELECT CASE WHEN Id = 1 THEN 2.5 ELSE v END AS x FROM t ORDER BY id": [{"x": 2.5}, {"x": 20}, {"x": 30}],
        "SELECT v FROM t UNION SELECT '7' ORDER BY 1 LIMIT 1": [{"v": 7}],
        "SELECT id, val FROM (SELECT Id, v, w FROM t JOIN (SELECT id AS k, w FROM u) ON Id = k) "
        "UNPIVOT (val FOR col IN (v, w)) ORDER BY val LIMIT 2": [{"id": 1, "val": 1.5}, {"id": 2, "val": 2.5}],
        # The condition of PIVOT is that of the aggregate, whatever is around it.
        "SELECT * FROM (SELECT Day, Amount FROM e) PIVOT (round(avg(Amount) / 2, 1) FOR Day IN ('mo', 'tu'))": [
            {"mo": 3.0, "tu": 4.5}
        ],
        "SELECT * FROM (SELECT Day, Amount FROM e) PIVOT (sum(Amount) FILTER (WHERE Amount > 5) FOR Day IN ('mo'))": [
            {"mo": 7}
        ],
    }.items():
        assert bayou.sql(query, **tables).to_dicts() == want, query
    for query, words in {
        "SELECT * FROM t NATURAL JOIN u": r"spell a column in different ways \(Id, id\)",
        "SELECT * FROM t JOIN u USING (id)": "ON a.Id = b.id",
        "SELECT Id FROM t UNION ALL BY NAME SELECT id FROM u": "Use one spelling",
        "SELECT round(sum(v), 1) FILTER (WHERE v > 1) FROM t": "round is not one",
        "SELECT * FROM public.t VERSION AS OF 0": "a name of several parts",
        "SELECT * FROM e PIVOT (upper(Day) FOR Day IN ('mo'))": "PIVOT takes aggregate functions",
    }.items():
        with pytest.raises(bayou.SchemaError, match=words):
            bayou.sql(query, **tables)
    # The table with this exact spelling, not a table whose name differs in case.
    assert bayou.sql("SELECT count(*) AS n FROM t", t=t, T=u.slice(0, 1)).to_dicts() == [{"n": 3}]


def by_hand(root: pathlib.Path, files: int, there: int) -> None:
    """A Delta table of many files, of which one exists: reading any other one fails."""
    schema = {"type": "struct", "fields": [{"name": "id", "type": "long", "nullable": True, "metadata": {}}]}
    (root / "_delta_log").mkdir(parents=True)
    path = root / f"f{there}.parquet"
    pq.write_table(pa.table({"id": pa.array(range(there * 10, there * 10 + 10), pa.int64())}), path)
    meta = {"id": "x", "format": {"provider": "parquet", "options": {}}, "schemaString": json.dumps(schema)}
    lines: list[dict[str, Any]] = [
        {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {"metaData": {**meta, "partitionColumns": [], "configuration": {}, "createdTime": 0}},
    ]
    for k in range(files):
        stats = {"numRecords": 10, "minValues": {"id": k * 10}, "maxValues": {"id": k * 10 + 9}, "nullCount": {"id": 0}}
        add = {"path": f"f{k}.parquet", "partitionValues": {}, "size": path.stat().st_size, "modificationTime": 0}
        lines.append({"add": {**add, "dataChange": True, "stats": json.dumps(stats)}})
    (root / "_delta_log" / f"{0:020}.json").write_text("\n".join(map(json.dumps, lines)))


def test_a_query_reads_only_the_files_that_may_have_its_rows(tmp_path: pathlib.Path) -> None:
    by_hand(tmp_path / "t", 2_000, 1_234)
    for condition in [
        "id = 12345",
        "12345 = id",
        "id IN (12345, 12345L)",
        "id BETWEEN 12345 AND 12345",
        "id > 12344 AND id < 12346",
        "id = 12345 AND id / 2 > 1",
        "id % 2 = 1 AND NOT (id <> 12345)",
    ]:
        rows = bayou.sql(f"SELECT id / 2 AS half FROM t WHERE {condition}", t=str(tmp_path / "t")).to_dicts()
        assert rows == [{"half": 6172.5}], condition
    with pytest.raises(bayou.BayouError):
        bayou.sql("SELECT id FROM t WHERE id + 0 = 12345", t=str(tmp_path / "t"))


def test_aggregates_of_few_groups_of_many_and_of_all_rows_are_those_of_the_rows(tmp_path: pathlib.Path) -> None:
    """Of many groups the planner aggregates each row by itself. The texts of a Delta table come as views."""
    n = 240_000
    # Each sum fits into BIGINT, but the sum of each half of the rows does not.
    longs = [None if k % 11 == 0 else 2**60 + k if k < n // 2 else -(2**60) for k in range(n)]
    ints = [None if k % 13 == 0 else 2**31 - 1 - k for k in range(n)]
    doubles = [None if k % 5 == 0 else math.nan if k % 9_973 == 1 else (-1.0) ** k / (k + 1) for k in range(n)]
    texts = [None if k % 4 == 0 else f"{k * 7919 % 100_003}: longer than a view has room for" for k in range(n)]
    t = pa.table(
        {
            "few": pa.array([k % 11 for k in range(n)], pa.int32()),
            "many": pa.array([k if k % 100 else 0 for k in range(n)], pa.int64()),
            "b": pa.array(longs, pa.int64()),
            "i": pa.array(ints, pa.int32()),
            "d": pa.array(doubles, pa.float64()),
            "f": pa.array([None if d is None else d if d != d else round(d * 8) / 8 for d in doubles], pa.float32()),
            "s": pa.array(texts, pa.string()),
        }
    )
    deltalake.write_deltalake(str(tmp_path / "t"), t)
    views = t.set_column(6, "s", t["s"].cast(pa.string_view()))

    def greatest(v: float) -> tuple[bool, float]:
        return (v != v, v)

    def wanted(rows: list[dict[str, Any]]) -> list[Any]:
        def of(column: str, some: bool = False) -> list[Any]:
            return [r[column] for r in rows if r[column] is not None and not (some and (r["i"] or 0) <= 2**30)]

        floats = [pick(of(c), key=greatest, default=None) for c in "df" for pick in (min, max)]
        some = [sum(of("b", True)) if of("b", True) else None, max(of("d", True), key=greatest, default=None)]
        sums = [sum(of(c)) if of(c) else None for c in "bi"]
        return [*sums, *floats, min(of("s"), default=None), max(of("s"), default=None), len(of("s")), *some]

    found = (
        "sum(b), sum(i), min(d), max(d), min(f), max(f), min(s), max(s), count(s), "
        "sum(b) FILTER (WHERE i > 1073741824), max(d) FILTER (WHERE i > 1073741824)"
    )
    rows = t.to_pylist()
    for key in ("few", "many", "NULL"):
        groups: dict[Any, list[dict[str, Any]]] = {}
        for row in rows:
            groups.setdefault(row.get(key), []).append(row)
        answer = {g: repr(wanted(of)) for g, of in groups.items()}
        by = (
            f"SELECT {key} AS g, {found} FROM t GROUP BY {key}"
            if key != "NULL"
            else f"SELECT NULL AS g, {found} FROM t"
        )
        for table_of in (t, views, str(tmp_path / "t")):
            out = bayou.sql(by, t=table_of).to_arrow()
            assert [f.type for f in out.schema][1:10] == [
                *[pa.int64()] * 2, *[pa.float64()] * 2, *[pa.float32()] * 2, *[pa.string()] * 2, pa.int64(),
            ]  # fmt: skip
            columns = [c.to_pylist() for c in out.columns]
            assert {g: repr(list(v)) for g, *v in zip(*columns, strict=True)} == answer, key
    # The sum of all that is greater than 0 does not fit.
    for by in ("", "GROUP BY few", "GROUP BY few % 2"):
        with pytest.raises(bayou.BayouError, match="overflow"):
            bayou.sql(f"SELECT sum(b) AS n FROM t WHERE b > 0 {by}", t=t)
        assert None in bayou.sql(f"SELECT try_sum(b) AS n FROM t WHERE b > 0 {by}", t=t).to_arrow()["n"].to_pylist()


def test_an_error_names_the_expression_and_no_value() -> None:
    t = pa.table(
        {"secret": pa.array(["hunter2"]), "n": pa.array([0], pa.int32()), "x": pa.array([2147483647], pa.int32())}
    )
    for query, words in {
        "SELECT 1 / n FROM t": ["(1 / n)", "division by zero"],
        "SELECT x + 1 FROM t": ["(x + 1)", "overflow"],
        "SELECT CAST(secret AS INT) FROM t": ["secret", "INT"],
        "SELECT sum(x / n) FROM t": ["(x / n)", "division by zero"],
        "SELECT nothing(x) FROM t": ["nothing"],
        "SELECT x, sum(n) FROM t": ["GROUP BY", "x"],
    }.items():
        with pytest.raises(bayou.BayouError) as e:
            bayou.sql(query, t=t)
        said = str(e.value)
        assert all(word in said for word in words), said
        assert not any(word in said for word in ["hunter2", "__", "datafusion", "DataFusion", "External"]), said


def test_hostile_sizes_are_an_error_or_an_answer() -> None:
    t = pa.table({"a": pa.array([1], pa.int32())})
    for query in [
        "SELECT a FROM t WHERE " + " OR ".join(f"a = {k}" for k in range(10_000)),
        "SELECT a FROM t WHERE " + " OR ".join(f"a = {k}" for k in range(900)),
        "SELECT " + "(" * 1_000 + "a" + ")" * 1_000 + " FROM t",
        "SELECT " + "(" * 120 + "a" + ")" * 120 + " FROM t",
        "SELECT CAST(a AS " + "ARRAY<" * 20_000 + "INT" + ">" * 20_000 + ") FROM t",
        "SELECT " + "array(" * 20_000 + "a" + ")" * 20_000 + " FROM t",
        "SELECT a FROM t WHERE a IN (" + ", ".join(map(str, range(20_000))) + ")",
        "SELECT " + " + ".join(["a"] * 990) + " AS s FROM t",
    ]:
        try:
            bayou.sql(query, t=t)
        except bayou.SchemaError as e:
            assert len(str(e)) < 30_000


def test_a_subquery_without_rows_counts_none() -> None:
    customers = pa.table({"id": [1, 2], "name": ["a", "b"]})
    orders = pa.table({"customer": [1, 1], "qty": [3, None]})

    def rows(query: str) -> list[dict[str, Any]]:
        return bayou.sql(query, c=customers, o=orders).to_dicts()

    counted = "(SELECT {} FROM o WHERE o.customer = c.id)"
    for aggregate, found in {
        "count(qty)": [1, 0],
        "count(*)": [2, 0],
        "count(DISTINCT qty)": [1, 0],
        "count_if(qty > 1)": [1, 0],
        "sum(qty)": [3, None],
        "collect_list(qty)": [[3], []],
    }.items():
        query = f"SELECT id, {counted.format(aggregate)} AS n FROM c ORDER BY id"
        assert [r["n"] for r in rows(query)] == found, aggregate
    assert rows(f"SELECT id FROM c WHERE {counted.format('count(qty)')} = 0") == [{"id": 2}]
    frame = "SELECT count(qty) OVER (ORDER BY qty ROWS BETWEEN 3 PRECEDING AND 2 PRECEDING) AS n FROM o"
    assert rows(frame) == [{"n": 0}, {"n": 0}]


def test_a_condition_of_a_subquery_guards_those_around_it() -> None:
    texts = ["x", "7", None, "3", "12", ""] * 50
    t = pa.table({"s": texts, "a": pa.array([0, 2, None, 5, 20, 0] * 50, pa.int32())})
    for query, n in {
        "WITH good AS (SELECT * FROM t WHERE s RLIKE '^[0-9]+$') SELECT count(*) AS n FROM good WHERE CAST(s AS INT) > 5": 100,
        "SELECT count(*) AS n FROM (SELECT * FROM t WHERE a <> 0) WHERE 10 / a > 1": 100,
        "SELECT count(*) AS n FROM (SELECT * FROM t WHERE a + 0 <> 0) WHERE 10 / a > 1 AND s IS NOT NULL": 100,
        "SELECT count(*) AS n FROM (SELECT *, s RLIKE '^[0-9]+$' AS good FROM t) WHERE good AND CAST(s AS INT) > 5": 100,
    }.items():
        assert bayou.sql(query, t=t).to_dicts() == [{"n": n}], query
    with pytest.raises(bayou.BayouError, match="division by zero"):
        bayou.sql("SELECT count(*) FROM t WHERE 10 / a > 1", t=t)


def test_a_constant_that_fails_is_no_error_where_there_is_no_row() -> None:
    t = pa.table({"a": pa.array([], pa.int32())})
    assert bayou.sql("SELECT 1 / 0 AS x, raise_error('no') AS y FROM t", t=t).to_dicts() == []
    with pytest.raises(bayou.BayouError):
        bayou.sql("SELECT 1 / 0 AS x FROM t", t=pa.table({"a": [1]}))


def test_a_join_by_expressions_looks_rows_up() -> None:
    """Comparing each row with each other row would take hours."""
    n = 200_000
    a = pa.table({"k": [f"Key {i}" for i in range(n)], "d": pa.array([float(i) for i in range(n)]), "i": range(n)})
    b = pa.table(
        {"k": [f" KEY {i} " for i in range(0, 2 * n, 2)], "f": pa.array([-0.0, *range(2, 2 * n, 2)], pa.float32())}
    )
    for on, matches in {
        "lower(a.k) = trim(lower(b.k))": n // 2,
        "a.d = b.f": n // 2,
        "a.d = b.f AND a.i < 1000 AND length(b.k) > 3": 500,
        "a.i + 1 = CAST(split_part(trim(b.k), ' ', 2) AS INT) + 1": n // 2,
        "CAST(a.i AS STRING) = split_part(trim(b.k), ' ', 2)": n // 2,
    }.items():
        for query in (
            f"SELECT count(*) AS n FROM a JOIN b ON {on}",
            f"SELECT count(*) AS n FROM a, b WHERE {on}",
            f"SELECT count(*) AS n FROM a WHERE EXISTS (SELECT 1 FROM b WHERE {on})",
            f"SELECT count(b.k) AS n FROM a LEFT JOIN b ON {on}",
        ):
            assert bayou.sql(query, a=a, b=b).to_dicts() == [{"n": matches}], query


def test_unpivot_reads_its_input_once() -> None:
    n = 50_000
    wide = pa.table({"id": range(n), **{f"c{k}": range(k, n + k) for k in range(100)}})
    columns = ", ".join(f"c{k}" for k in range(100))
    query = f"SELECT count(*) AS n, max(v) AS m, count(DISTINCT name) AS d FROM t UNPIVOT (v FOR name IN ({columns})) WHERE id < 100"
    assert bayou.sql(query, t=wide).to_dicts() == [{"n": 10_000, "m": 198, "d": 100}]


def test_errors_of_queries_are_in_plain_words() -> None:
    t = pa.table({"a": [1, 2], "b": ["x", "y"]})
    u = pa.table({"a": [1, 2], "c": [1.5, 2.5]})
    for query, words in {
        "SELECT nope FROM t": "there is no column nope. The columns are: t.a, t.b",
        "SELECT * FROM t JOIN u USING (zz)": "there is no column zz",
        "SELECT a FROM t JOIN u ON t.a = u.a": "column a is in more than one table. Say which",
        "SELECT x.* FROM t": "there is no table x in FROM",
        "SELECT a FROM t WHERE b": "a condition is not BOOLEAN",
        "SELECT b FROM t GROUP BY a": "column b is neither in GROUP BY nor within an aggregate function",
        "SELECT a FROM t HAVING a > 1": "neither in GROUP BY nor within an aggregate function",
        "SELECT a FROM t WHERE sum(a) > 1": "aggregate functions are not allowed in WHERE. Use HAVING",
        "SELECT a FROM t WHERE row_number() OVER (ORDER BY a) = 1": "QUALIFY",
        "SELECT rank(a) OVER (ORDER BY a) FROM t": "arguments that it does not take",
        "SELECT a, (SELECT c FROM u WHERE u.a = t.a) AS m FROM t": "aggregate its rows",
        "SELECT (SELECT a FROM u) FROM t": "more than one row",
        "SELECT (SELECT a, c FROM u) FROM t": "must have one column",
        "SELECT a FROM t UNION SELECT 'x'": "a value cannot be read as BIGINT",
        "SELECT a FROM t UNION SELECT true": "no type in common",
        "SELECT * FROM t JOIN t ON t.a = t.a": "Give one of them an alias",
        "SELECT a FROM t FOR UPDATE": "only reading is possible",
        "SELECT a FROM t SORT BY a": "Use ORDER BY",
        "SELECT a FROM t, LATERAL explode(array(1, 2)) AS x": "LATERAL VIEW explode",
        "SELECT * FROM (VALUES (1), ('x')) v": "does not fit the type",
        "SELECT a INTO x FROM t": "only reading is possible",
    }.items():
        with pytest.raises(bayou.SchemaError) as error:
            bayou.sql(query, t=t, u=u)
        said = str(error.value)
        assert words in said, query
        for own in ("Utf8", "Int64", "__", "Arrow", "Physical", "logical", "expression WindowFunction", "datafusion"):
            assert own not in said, said
