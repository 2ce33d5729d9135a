"""Options of reading JSON: texts that are accepted besides standard JSON, and schemas that are guessed."""

from __future__ import annotations

import json
import math
from typing import Any

import bayou
import pytest


def rows(values: list[str], **options: Any) -> list[dict[str, Any]]:
    return bayou.from_messages(values, **options).collect().to_dicts()


def error(value: str, **options: Any) -> str:
    with pytest.raises(bayou.MalformedError) as failed:
        rows([value], **options)
    return str(failed.value)


def test_quoted_numbers_are_numbers_where_that_is_asked_for() -> None:
    columns = "t TINYINT, i INT, b BIGINT, d DOUBLE, f FLOAT, m DECIMAL(10,2), s STRING, l ARRAY<INT>, o STRUCT<x: INT>"
    value = json.dumps(
        {
            "t": "-7",
            "i": "42",
            "b": "9007199254740993",
            "d": "1e3",
            "f": "0.5",
            "m": "12.50",
            "s": "42",
            "l": ["1", 2],
            "o": {"x": "3"},
        }
    )
    (row,) = rows([value], schema=columns, allow_quoted_numbers=True)
    assert row["t"] == -7 and row["i"] == 42 and row["b"] == 9007199254740993 and row["d"] == 1000.0 and row["f"] == 0.5
    assert str(row["m"]) == "12.50" and row["s"] == "42" and row["l"] == [1, 2] and row["o"] == {"x": 3}
    for value in ['{"i":"1.5"}', '{"i":"300000000000"}', '{"i":""}', '{"i":" 1"}', '{"i":"+1"}', '{"i":"007"}', '{"i":"1 "}',
                  '{"i":"x"}', '{"i":"0x1F"}', '{"i":"NaN"}', '{"i":"true"}', '{"i":"1_000"}']:  # fmt: skip
        error(value, schema="i INT", allow_quoted_numbers=True)
    # These texts are accepted only with the option, and the error names the option.
    assert "a quoted number does not fit INT: allow_quoted_numbers=True takes it" in error('{"i":"1"}', schema="i INT")
    assert "a string that is not a number does not fit INT" in error('{"i":"one"}', schema="i INT")
    assert "allow_quoted_numbers" not in error('{"i":"one"}', schema="i INT")


def test_nan_and_infinity_are_floats_where_that_is_asked_for() -> None:
    value = json.dumps({"d": math.nan, "f": math.inf, "l": [-math.inf, 1.5], "other": math.nan, "s": math.nan})
    columns = "d DOUBLE, f FLOAT, l ARRAY<DOUBLE>, s STRING"
    (row,) = rows([value], schema=columns, allow_nan=True)
    assert math.isnan(row["d"]) and row["f"] == math.inf and row["l"] == [-math.inf, 1.5] and row["s"] == "NaN"
    for value, column in [
        ("NaN", "INT"),
        ("Infinity", "BIGINT"),
        ("-Infinity", "DECIMAL(10,2)"),
        ("NaN", "TIMESTAMP"),
        ("NaN", "BOOLEAN"),
    ]:
        error(f'{{"a":{value}}}', schema=f"a {column}", allow_nan=True)
    for value in ["nan", "inf", "+Infinity", "NAN", "-NaN"]:
        error(f'{{"a":{value}}}', schema="a DOUBLE", allow_nan=True)
    assert "allow_nan=True" in error('{"a":NaN}', schema="a DOUBLE")
    assert "allow_nan=True" in error('{"b":-Infinity}', schema="a DOUBLE"), "also where no column reads it"
    both = {"allow_nan": True, "allow_quoted_numbers": True}
    (row,) = rows(['{"a":"-Infinity"}'], schema="a DOUBLE", **both)
    assert row["a"] == -math.inf
    error('{"a":"NaN"}', schema="a DOUBLE", allow_quoted_numbers=True)


def test_a_missing_field_is_null_or_malformed() -> None:
    columns = "a INT, o STRUCT<x: INT, y: INT>, l ARRAY<STRUCT<z: INT>>"
    assert rows(["{}"], schema=columns) == [{"a": None, "o": None, "l": None}]
    strict = {"schema": columns, "missing": "malformed"}
    full = '{"a":null,"o":{"x":1,"y":null},"l":[{"z":1}]}'
    assert rows([full], **strict) == [{"a": None, "o": {"x": 1, "y": None}, "l": [{"z": 1}]}]
    assert rows(['{"a":1,"o":null,"l":[null]}'], **strict) == [{"a": 1, "o": None, "l": [None]}]
    for value, name in [
        ('{"a":1,"l":[]}', "'o'"),
        ('{"a":1,"o":{"x":1},"l":[]}', "'y'"),
        ('{"a":1,"o":null,"l":[{}]}', "'z'"),
    ]:
        said = error(value, **strict)
        assert f"field {name} is missing" in said and 'missing="null"' in said
    kept = bayou.from_messages(["{}", full], on_malformed="drop", **strict).collect()
    assert len(kept) == 1, "the message after it is untouched"


def test_options_that_are_wrong_are_named() -> None:
    for options, said in [
        ({"missing": "drop"}, 'missing=\'drop\': use "null" or "malformed"'),
        ({"format": "raw", "schema": None, "allow_nan": True}, 'allow_nan= is an option of format="json"'),
        ({"on_malformed": "skip"}, 'use "fail", "drop" or "quarantine"'),
        ({"timestamp_unit": "m"}, "timestamp_unit='m'"),
    ]:
        with pytest.raises(bayou.ConfigError) as failed:
            bayou.from_messages(["{}"], **{"schema": "a INT", **options})
        assert said in str(failed.value)
    with pytest.raises(TypeError, match=r"from_messages\(\): allow_nan must be True or False, not str"):
        bayou.from_messages(["{}"], schema="a INT", allow_nan="yes")
    with pytest.raises(TypeError, match=r"has no argument 'allow_quoted'.* Did you mean 'allow_quoted_numbers'\?"):
        bayou.from_messages(["{}"], schema="a INT", allow_quoted=True)


def test_a_schema_is_inferred_from_a_topic_and_reads_it(broker: bayou.Connection, tmp_path: Any) -> None:
    broker.create_topic("events", partitions=2)
    with pytest.raises(bayou.TopicError, match="no message to infer"):
        broker.infer_schema("events")
    values = [
        json.dumps(
            {
                "id": i,
                "created_at": 1764154800000 + i,
                "at": "2026-11-26T10:00:00Z",
                "user": {"name": f"u{i}", "tags": ["a"]},
                "score": i / 2,
            }
        )
        for i in range(100)
    ]
    broker.produce("events", [{"value": v} for v in values], value="value", progress=False)
    found = broker.infer_schema("events")
    assert str(found) == found.ddl
    want = "id BIGINT, created_at TIMESTAMP, at TIMESTAMP, user STRUCT<name: STRING, tags: ARRAY<STRING>>, score DOUBLE"
    assert found.ddl == want
    assert found.options == {"schema": want, "timestamp_unit": {"created_at": "ms"}}
    assert found.messages == 100 and found.malformed == 0 and found.notes == []
    assert repr(found).startswith("# from 100 messages\nschema='id BIGINT,")
    assert broker.infer_schema("events", sample=1).messages == 1
    pasted = broker.read_stream("events", **found.options)
    inferred = broker.read_stream("events", schema="infer")
    assert inferred.collect().to_dicts() == pasted.collect().to_dicts()
    inferred.write_delta(tmp_path / "t")
    assert len(bayou.read_delta(tmp_path / "t")) == 100
    with pytest.raises(bayou.TopicError):
        broker.infer_schema("nothing")
    with pytest.raises(bayou.ConfigError, match="sample=0"):
        broker.infer_schema("events", sample=0)
    with pytest.raises(bayou.ConfigError, match="looks at JSON"):
        broker.read_stream("events", schema="infer", format="raw")


def test_a_schema_is_inferred_from_messages_at_hand() -> None:
    assert rows(['{"a":1}', '{"a":2,"b":"x"}'], schema="infer") == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]
    (row,) = rows(['{"ts":1764154800,"v":NaN}'], schema="infer")
    assert row["ts"].year == 2025 and math.isnan(row["v"])
    with pytest.raises(bayou.SchemaError, match="none is a JSON object"):
        rows(["[1]"], schema="infer")


def test_fields_that_differ_in_case_only_are_read_and_a_table_asks_for_another_name(
    broker: bayou.Connection, tmp_path: Any
) -> None:
    stream = bayou.from_messages(
        ['{"userid":1,"userId":2,"s":{"x":3,"X":4}}'], schema="userid INT, userId INT, s STRUCT<x: INT, X: INT>"
    )
    assert stream.collect().to_dicts() == [{"userid": 1, "userId": 2, "s": {"x": 3, "X": 4}}]
    assert stream.select("userId", "s.X", "userid + 1 AS n").collect().to_dicts() == [{"userId": 2, "X": 4, "n": 2}]
    assert stream.select("*").columns == ["userid", "userId", "s"]
    assert stream.with_columns("userId * 10 AS userId").collect().to_dicts()[0]["userid"] == 1
    for wrong in ("USERID", "s.`x` + USERID"):
        with pytest.raises(bayou.SchemaError, match="'userid' or 'userId'"):
            stream.select(wrong)
    mixed = bayou.from_messages(["{}"], schema="s STRUCT<aB: INT, Ab: INT>")
    with pytest.raises(bayou.SchemaError, match="'aB' or 'Ab'"):
        mixed.select("s.ab")
    broker.create_topic("t")
    broker.produce("t", [{"value": '{"userid":1,"userId":2}'}], value="value", progress=False)
    flat = broker.read_stream("t", schema="userid INT, userId INT")
    with pytest.raises(
        bayou.SchemaError, match=r"'userid' and 'userId' have the same name.*rename\(\{\"userId\": \"userId_2\"\}\)"
    ):
        flat.write_delta(tmp_path / "t")
    flat.rename({"userId": "userId_2"}).write_delta(tmp_path / "t", progress=False)
    assert bayou.read_delta(tmp_path / "t").to_dicts() == [{"userid": 1, "userId_2": 2}]
    with pytest.raises(bayou.SchemaError):
        flat.rename({"userId": "USERID"})
    found = bayou.from_messages(['{"a":1,"A":"x"}'], schema="infer")
    assert found.columns == ["a", "A"]
