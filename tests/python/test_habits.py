"""What users of Spark, pandas, Delta Live Tables and confluent-kafka type: tables in hand, and words that are not there."""

from __future__ import annotations

import copy
import datetime
import decimal
import pathlib
import pickle
import re
import subprocess
import sys

import bayou
import pyarrow as pa
import pytest
from bayou import _core

ROWS = {"model": ["a", "b", "c", None], "n": [1, 2, None, 4]}


@pytest.fixture
def table() -> bayou.Table:
    return bayou.from_batches(ROWS).collect()


def test_at_least_120_words_of_other_systems_are_answered_with_the_right_one(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    stream = bayou.from_batches(ROWS)
    broker.create_topic("t")
    lake = bayou.Pipeline("p", tmp_path)
    lake.table("t", broker.read_stream("t", schema="n INT"))
    owners = {
        "Stream": stream,
        "GroupedStream": stream.group_by("model"),
        "Table": stream.collect(),
        "Query": lake.run(progress=False),
        "Pipeline": lake,
        "Connection": broker,
        "Preview": stream.preview(),
        "BatchIterator": stream.batches(),
        "Schema": stream.schema,
        "ProduceReport": broker.produce("t", [{"a": 1}]),
        "bayou": bayou,
    }
    words = _core._words()
    assert len(words) >= 120 and len(words) == len(set(words)), len(words)
    for owner, word in words:
        with pytest.raises(AttributeError) as e:
            getattr(owners[owner], word)
        text = str(e.value)
        assert f"no attribute '{word}'" in text and text.endswith(".") and len(text) > 45, text
        # Names in the sentence exist.
        for name in re.findall(r"Here it is called ([a-z_]+)\b", text):
            assert hasattr(owners[owner], name), text
    for word in (
        "filter",
        "withColumn",
        "groupBy",
        "show",
        "head",
        "toPandas",
        "printSchema",
        "dropna",
        "foreachBatch",
    ):
        assert ("Stream", word) in words


def test_misspelt_names_are_told_the_nearest_one_also_in_notebooks(table: bayou.Table, tmp_path: pathlib.Path) -> None:
    stream = bayou.from_batches(ROWS)
    lake = bayou.Pipeline("p", tmp_path)
    for owner, word, right in [
        (stream, "selct", "select"),
        (stream, "with_watermrk", "with_watermark"),
        (table, "to_panda", "to_pandas"),
        (lake, "tabels", "tables"),
        (bayou, "conect", "connect"),
        (bayou, "Pipelin", "Pipeline"),
    ]:
        with pytest.raises(AttributeError, match=f"Did you mean '{right}'") as e:
            getattr(owner, word)
        assert str(e.value).count("Did you mean") == 1
    # The traceback of plain Python has the hint once, too.
    script = "import bayou; bayou.from_batches({'a': [1]}).selct"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stderr
    assert shown.count("id you mean") == 1 and ".." not in shown.splitlines()[-1], shown
    with pytest.raises(AttributeError, match=r"select\(\"model\"\)"):
        stream.model  # noqa: B018
    for call in (lambda: stream["n"], lambda: len(stream), lambda: list(stream)):
        with pytest.raises(TypeError, match="stream"):
            call()
    assert bool(stream) and not hasattr(stream, "_ipython_canary_method_should_not_exist_")


def test_a_table_is_sliced_iterated_copied_and_pickled(table: bayou.Table) -> None:
    rows = table.to_dicts()
    assert list(table) == rows and [*iter(table)][1] == {"model": "b", "n": 2}
    assert table[0] == rows[0] and table[-1] == rows[-1]
    assert table[1:3].to_dicts() == rows[1:3] and table[::-2].to_dicts() == rows[::-2]
    assert table[10:].to_dicts() == [] and table[:-1].to_dicts() == rows[:-1]
    assert table.head(2).to_dicts() == rows[:2] and len(table.head()) == 4 and len(table.head(0)) == 0
    assert table[["n", "MODEL"]].columns == ["n", "model"] and table["n"] == [1, 2, None, 4]
    assert copy.copy(table) is table and copy.deepcopy({"t": table})["t"] is table
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(table, protocol))
        assert type(again) is bayou.Table and again.to_dicts() == rows and again.schema == table.schema
    with pytest.raises(IndexError):
        table[4]
    with pytest.raises(TypeError, match="slice"):
        table[1.5]  # type: ignore[call-overload]
    with pytest.raises(bayou.SchemaError, match="nope"):
        table[["nope"]]
    long = bayou.from_batches({"n": list(range(200_000))}).collect()
    assert sum(row["n"] for row in long) == sum(range(200_000))
    assert long[199_990:].column("n") == list(range(199_990, 200_000)) and long[5::50_000]["n"] == [
        5,
        50_005,
        100_005,
        150_005,
    ]


def test_a_batch_is_a_record_batch_for_others() -> None:
    batch = next(bayou.from_batches(ROWS).batches())
    assert pa.record_batch(batch).num_rows == 4 and pa.table(batch).num_rows == 4
    again = pickle.loads(pickle.dumps(batch))
    assert type(again) is bayou.Batch and pa.record_batch(again).equals(pa.record_batch(batch))


def test_simulated_events_are_a_table() -> None:
    events = bayou.simulate("fitness", rows=300)
    assert isinstance(events, bayou.Table) and len(events) == 300 and events["heart_bpm"][:5] == events[:5]["heart_bpm"]
    assert bayou.from_batches(events).collect().to_dicts() == events.to_dicts()


def odd_table() -> bayou.Table:
    far = pa.array([-(2**62), 2**62], pa.timestamp("us", "UTC"))
    days = pa.array([-(2**31), 2**31 - 1], pa.int32()).cast(pa.date32())
    nested = pa.array(
        [[{"a": 1, "b": ["x" * 100]}], None], pa.list_(pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]))
    )
    by_struct = pa.array([[({"k": 1}, "v")], []], pa.map_(pa.struct([("k", pa.int64())]), pa.string()))
    columns = {
        "far": far,
        "days": days,
        "big": pa.array([2**63 - 1, -(2**63)]),
        "bytes": pa.array([b"\xff\x00\xfe", b"plain"], pa.binary()),
        "text": pa.array(["NULL", "<script>alert('x')</script>\x1b[31m"]),
        "empty": pa.array(["", None]),
        "decimal": pa.array([decimal.Decimal("1" * 38), None], pa.decimal128(38, 0)),
        "floats": pa.array([float("nan"), float("-inf")]),
        "nested": nested,
        "by_struct": by_struct,
        "none": pa.array([None, None], pa.string()),
    }
    return bayou.sql("SELECT * FROM t", t=pa.table(columns))


def test_no_display_ever_fails(capsys: pytest.CaptureFixture[str]) -> None:
    table = odd_table()
    shown, html = repr(table), table._repr_html_()
    table.show()
    assert "\x1b" not in shown + capsys.readouterr().out and "<script>" not in html
    assert len(table.to_dicts()) == 2 and len(list(table)) == 2 and len(pickle.dumps(table)) > 0
    # NULL is distinguished from the text "NULL", and an empty text from no text.
    assert "<td>'NULL'</td>" in html and "<td>''</td>" in html and '<td class="null">NULL</td>' in html
    assert "<details>" in html and "BIGINT" in html and "ARRAY&lt;…&gt;" in html
    wide = bayou.from_batches({f"column_{i}": ["x" * 30] for i in range(300)}).collect()
    assert max(len(line) for line in repr(wide).splitlines()[:5]) < 300 and "more columns" in repr(wide)
    assert "overflow-x:auto" in wide._repr_html_()
    empty = bayou.from_batches({"a": [1]}).where("a > 1").collect()
    empty.show()
    assert "0 rows" in empty._repr_html_() and "a" in capsys.readouterr().out


def test_a_preview_says_what_was_looked_at_and_why_rows_are_missing() -> None:
    good = [b'{"bpm": 70, "model": "a"}'] * 6
    bad = [b'{"bpm": 0, "model": "a"}'] * 3 + [b'{"bpm": 80, "model": "undef"}'] * 2 + [b'{"bpm": 1.5}'] * 4 + [b"{"]
    stream = (
        bayou.from_messages(good + bad, schema="bpm INT, model STRING", on_malformed="quarantine")
        .expect_or_drop("human has a pulse", "bpm > 0")
        .expect_or_quarantine("tracker is known", "model <> 'undef'")
    )
    preview = stream.preview()
    assert len(preview) == 6 and preview.messages == 16
    rules = {row["name"]: (row["passed_records"], row["failed_records"]) for row in preview.expectations}
    assert rules == {"human has a pulse": (8, 3), "tracker is known": (9, 2)}
    reasons = preview.reasons.to_dicts()
    assert [r["count"] for r in reasons] == [4, 2, 1]
    assert "field 'bpm'" in reasons[0]["error"] and reasons[0]["value"] == '{"bpm": 1.5}'
    assert reasons[1]["error"] == "breaks 'tracker is known'" and '"undef"' in reasons[1]["value"]
    html = preview._repr_html_()
    assert "Looked at 16 messages" in html and "human has a pulse: 3 of 11 rows break it (27.3%), dropped" in html
    assert "'human has a pulse': 3 of 11 rows are dropped" in repr(preview) and "looked at 16 messages" in repr(preview)


def test_a_struct_type_of_pyspark_is_a_schema() -> None:
    class Type:
        """Stands for pyspark.sql.types.DataType, whose JSON this is (Spark 4.0)."""

        def __init__(self, value: object) -> None:
            self.value = value

        def jsonValue(self) -> object:
            return self.value

        def simpleString(self) -> str:
            return "…"

    def field(name: str, kind: object, nullable: bool = True) -> dict[str, object]:
        return {"name": name, "type": kind, "nullable": nullable, "metadata": {}}

    fields = [
        field("ip", "string", False),
        field("time", "timestamp"),
        field("bpm", "integer"),
        field("steps", "long"),
        field("price", "decimal(10,2)"),
        field("tags", {"type": "array", "elementType": "short", "containsNull": True}),
        field("of", {"type": "map", "keyType": "string", "valueType": "double", "valueContainsNull": True}),
        field("after", {"type": "struct", "fields": [field("user-id", "byte"), field("on", "date")]}),
    ]
    spark = Type({"type": "struct", "fields": fields})
    ddl = (
        "ip STRING NOT NULL, time TIMESTAMP, bpm INT, steps BIGINT, price DECIMAL(10,2), tags ARRAY<SMALLINT>, "
        "of MAP<STRING, DOUBLE>, after STRUCT<`user-id`: TINYINT, on: DATE>"
    )
    import json

    expected = bayou.from_messages([], schema=ddl).schema
    for given in (spark, json.dumps(spark.jsonValue())):
        assert bayou.from_messages([], schema=given).schema == expected
    assert bayou.from_messages([], schema={"a": Type("integer"), "b": "STRING"}).schema == "a INT, b STRING"  # type: ignore[dict-item]
    listed = Type({"type": "array", "elementType": "integer", "containsNull": True})
    assert bayou.from_messages([b"[1, 2]"], schema=listed).collect()["value"] == [[1, 2]]
    for wrong in ('{"type": "struct", "fields": [{"name": "a", "type": {"type": "blob"}}]}', '{"a"', '{"type": 3}'):
        with pytest.raises(bayou.SchemaError, match="schema"):
            bayou.from_messages([], schema=wrong)


def test_times_outside_pythons_years_stay_in_tables() -> None:
    table = odd_table()
    assert isinstance(table.row(0)["far"], str) and isinstance(table.row(0)["days"], str)
    inside = bayou.from_batches({"t": [datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)]}).collect()
    assert table.schema.types[0] == "TIMESTAMP" and inside.row(0)["t"].year == 2024
