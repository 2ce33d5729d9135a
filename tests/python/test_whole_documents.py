"""Messages whose document is a list, a map by name, or several documents; and selects that take structs apart."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import bayou
import pytest
from delta_replay import rows


def texts(values: list[str], schema: Any, **options: Any) -> list[dict[str, Any]]:
    return bayou.from_messages(values, schema=schema, **options).collect().to_dicts()


def test_a_list_or_a_map_as_the_document_is_one_column() -> None:
    assert texts(['[{"a":1},{"a":2}]', "[]"], "ARRAY<STRUCT<a: INT>>") == [
        {"value": [{"a": 1}, {"a": 2}]},
        {"value": []},
    ]
    assert texts(["[1,null]"], "array<int>") == [{"value": [1, None]}]
    gateway = '{"Device A":[{"ts":1700000000000,"values":{"t":1.5}}],"Device B":[]}'
    stream = bayou.from_messages(
        [gateway],
        schema="MAP<STRING, ARRAY<STRUCT<ts: TIMESTAMP, `values`: MAP<STRING, DOUBLE>>>>",
        timestamp_unit={"ts": "ms"},
    )
    flat = stream.select("explode(value) AS (device, list)").select("device", "inline(list)")
    [row] = flat.select("device", "ts", "`values`['t'] AS t").collect().to_dicts()
    assert (row["device"], row["ts"].timestamp(), row["t"]) == ("Device A", 1_700_000_000, 1.5)
    # A struct is its columns.
    assert texts(['{"a":1}'], "STRUCT<a: INT>") == [{"a": 1}]


@pytest.mark.parametrize(
    ("text", "schema", "words"),
    [
        ('{"a":1}', "ARRAY<INT>", r"field 'value': an object does not fit ARRAY|an object does not fit ARRAY"),
        ("[1]", "MAP<STRING, INT>", "an array does not fit MAP"),
        ("null", "ARRAY<INT>", "null instead of a document"),
        ('[1,"x"]', "ARRAY<INT>", "1: a string that is not a number does not fit INT|'1'"),
        ("[1] [2]", "ARRAY<INT>", 'more than one JSON document in one message: format="jsonl"'),
        ("[1]", "a INT", 'an array instead of an object: schema="ARRAY'),
    ],
)
def test_a_document_of_another_shape_is_malformed_and_says_how(text: str, schema: str, words: str) -> None:
    with pytest.raises(bayou.MalformedError, match=words):
        bayou.from_messages([text], schema=schema).collect()


def test_several_documents_in_a_message_are_a_list_all_or_none() -> None:
    lines = [
        '{"a":1}\n{"a":2}\n',
        ' {"a":3}',
        '{"a":4}\n{"a":"x"}',
        "",
        "\n",
        '{"a":5}\nnull',
        '{"a":6}{"a":7}',
        '{"a":8}\n{"a"',
    ]
    stream = bayou.from_messages(lines, schema="a INT", format="jsonl", on_malformed="drop")
    assert str(stream.schema) == "value ARRAY<STRUCT<a: INT>>"
    assert [[e["a"] for e in r["value"]] for r in stream.collect().to_dicts()] == [[1, 2], [3], [6, 7]]
    assert [r["a"] for r in stream.select("inline(value)").collect().to_dicts()] == [1, 2, 3, 6, 7]
    with pytest.raises(
        bayou.MalformedError, match="offset 2: field '1.a': a string that is not a number does not fit INT"
    ):
        bayou.from_messages(lines, schema="a INT", format="jsonl").collect()
    lists = bayou.from_messages(["[1]\n[2,3]"], schema="ARRAY<INT>", format="ndjson")
    assert lists.collect().to_dicts() == [{"value": [[1], [2, 3]]}]
    times = bayou.from_messages(['{"t":1}\n{"t":2}'], schema="t TIMESTAMP", format="jsonl", timestamp_unit={"t": "s"})
    assert [e["t"].timestamp() for e in times.collect().to_dicts()[0]["value"]] == [1, 2]
    with pytest.raises(bayou.ConfigError, match="timestamp_unit names the column 'x'"):
        bayou.from_messages([], schema="t TIMESTAMP", format="jsonl", timestamp_unit={"x": "s"})


def test_lists_of_events_go_to_windows_and_bad_elements_to_quarantine(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("grid")
    batches = [
        json.dumps(
            [{"id": f"{i}-{k}", "eventTime": f"2024-01-01T00:{i:02}:{k:02}Z", "data": {"n": k}} for k in range(5)]
        )
        for i in range(20)
    ]
    broker.produce("grid", [{"v": b} for b in batches], value="v", progress=False)
    raw = broker.read_stream(
        "grid",
        schema="ARRAY<STRUCT<id: STRING, eventTime: TIMESTAMP, data: STRUCT<n: INT>>>",
        max_offsets_per_trigger=3,
    )
    flat = (
        raw.select("explode(value) AS e")
        .select("e.* EXCEPT (data)", "e.data.*")
        .expect_or_quarantine("small", "n < 4")
        .with_watermark("eventTime", "0 seconds")
    )
    assert flat.columns == ["id", "eventTime", "n"]
    windows = flat.group_by(bayou.window("eventTime", "1 minute")).agg("count(*) AS c", "sum(n) AS s")
    windows.write_delta(str(tmp_path / "w"), close_windows=True, progress=False)
    assert sorted((r["c"], r["s"]) for r in rows(tmp_path / "w")) == [(4, 6)] * 20
    aside = rows(tmp_path / "w_quarantine")
    assert len(aside) == 20 and all(json.loads(r["row"])["_element"] == [4] for r in aside)
    assert {bytes(r["value"]).decode() for r in aside} == set(batches)


def test_stars_take_structs_apart_and_lists_give_a_field_of_each_element() -> None:
    text = '{"op":"u","after":{"id":1,"name":"x","secret":"s"},"readings":[{"value":1.5},{"value":null},null]}'
    stream = bayou.from_messages(
        [text],
        schema="op STRING, after STRUCT<id: INT, name: STRING, secret: STRING>, readings ARRAY<STRUCT<value: DOUBLE>>",
    )
    out = stream.select("op", "after.* EXCEPT (Secret)", "readings.value")
    assert out.collect().to_dicts() == [{"op": "u", "id": 1, "name": "x", "value": [1.5, None, None]}]
    assert stream.select("* EXCEPT (after, readings)").columns == ["op"]
    assert stream.with_columns("after.*").drop("after", "readings").columns == ["op", "id", "name", "secret"]
    assert stream.select("element_at(readings.value, 1) AS v").collect().to_dicts() == [{"v": 1.5}]
    nulls = bayou.from_messages(['{"after":null}'], schema="after STRUCT<id: INT>")
    assert nulls.select("after.*").collect().to_dicts() == [{"id": None}]
    for items, words in [
        (["op.*"], "op is STRING, not a STRUCT"),
        (["readings.*"], "Of an ARRAY, explode or inline makes rows"),
        (["* EXCEPT (nam)"], "EXCEPT: there is no column 'nam'"),
        (["after.* EXCEPT (nam)"], "Did you mean 'name'"),
        (["abs(after.*)"], "must be alone in select"),
        (["readings.nope"], "has no field 'nope'"),
        (["op", "after.*", "after.id"], "two columns would be named 'id'"),
    ]:
        with pytest.raises(bayou.SchemaError, match=words):
            stream.select(*items)
    with pytest.raises(bayou.SchemaError, match="must be alone in select"):
        stream.where("after.*")


def test_decode_reads_lists_and_lines_too() -> None:
    stream = bayou.from_messages([json.dumps({"l": "[1,2]", "m": '{"a":1}\n{"a":2}'})], schema="l STRING, m STRING")
    out = stream.decode("l", schema="ARRAY<INT>").decode("m", schema="a INT", format="jsonl")
    assert out.select("l", "m.a AS a").collect().to_dicts() == [{"l": [1, 2], "a": [1, 2]}]
