"""JSON within text: in a column, a key, a header or bytes, by functions of SQL and by `decode`."""

from __future__ import annotations

import base64
import json
import pathlib
from typing import Any

import bayou
import pytest
from delta_replay import rows


def of(values: list[Any], ddl: str, **options: Any) -> bayou.Stream:
    return bayou.from_messages([json.dumps(v) for v in values], schema=ddl, **options)


def one(stream: bayou.Stream) -> dict[str, Any]:
    [row] = stream.collect().to_dicts()
    return row


def test_a_document_in_a_string_becomes_columns_and_rows() -> None:
    after = json.dumps(
        {"_id": {"$oid": "6"}, "items": [{"sku": "a", "n": 2}, {"sku": "b", "n": 3}], "at": 1700000000000}
    )
    stream = of([{"op": "c", "after": after}, {"op": "d", "after": None}], "op STRING, after STRING")
    ddl = "`_id` STRUCT<`$oid`: STRING>, items ARRAY<STRUCT<sku: STRING, n: INT>>, at TIMESTAMP"
    read = stream.with_columns(d=f"from_json(after, '{ddl}', map('timestampUnit', 'ms'))")
    flat = read.select("d._id.`$oid` AS id", "d.at AS at", "inline(d.items)").collect().to_dicts()
    assert [(r["id"], r["sku"], r["n"]) for r in flat] == [("6", "a", 2), ("6", "b", 3)]
    assert flat[0]["at"].timestamp() == 1_700_000_000
    decoded = stream.decode("after", schema=ddl, timestamp_unit="ms")
    assert decoded.columns == ["op", "after"]
    again = decoded.select("op", "after._id.`$oid` AS id", "size(after.items) AS n").collect().to_dicts()
    assert again == [{"op": "c", "id": "6", "n": 2}, {"op": "d", "id": None, "n": None}]


def test_paths_and_variants_reach_into_text_and_no_column_is_a_variant() -> None:
    text = '{"Store":{"fruit":[{"weight":8,"type":"apple"},{"weight":9.5}],"zip code":"94025"},"null":null,"big":1e3}'
    stream = of([{"j": text}], "j STRING")
    row = one(
        stream.select(
            "j:store.fruit[0].weight::INT AS w",
            "j:store.`zip code`",
            "j:['store'] AS exact",
            "j:Store.fruit[*].type AS types",
            "j:null AS nothing",
            "to_json(parse_json(j):Store.fruit[1]) AS second",
            "parse_json(j):big::INT AS big",
            "parse_json(j):Store.fruit[0]::STRUCT<weight: INT> AS s",
            "try_parse_json('[1,') IS NULL AS bad",
        )
    )
    assert row == {
        "w": 8,
        "zip code": "94025",
        "exact": None,
        "types": '"apple"',
        "nothing": None,
        "second": '{"weight":9.5}',
        "big": 1000,
        "s": {"weight": 8},
        "bad": True,
    }
    for refused in ("parse_json(j) AS v", "j:a AS x, parse_json(j):a"):
        with pytest.raises(bayou.SchemaError, match=r"is VARIANT, which no column can hold.*to_json"):
            stream.select(refused)
    with pytest.raises(bayou.SchemaError, match="VARIANT"):
        stream.group_by("parse_json(j)").count()
    with pytest.raises(bayou.SchemaError, match="VARIANT"):
        stream.group_by().agg("max(parse_json(j)) AS m")
    with pytest.raises(bayou.SchemaError, match="a path behind a colon goes into JSON text"):
        of([{"s": {"a": 1}}], "s STRUCT<a: INT>").select("s:a")


def test_keys_headers_and_bytes_are_text_too(broker: bayou.Connection) -> None:
    broker.create_topic("t")
    body = base64.b64encode(b'{"t":1.5}').decode()
    broker.produce("t", [{"id": '{"id":7}', "body": body}], key="id", headers={"ce": b'{"v":1}'}, progress=False)
    raw = broker.read_stream("t", schema="body STRING", include_metadata=True)
    row = one(
        raw.select(
            "from_json(decode(_key, 'UTF-8'), 'id INT').id AS id",
            "from_json(CAST(unbase64(body) AS STRING), 't DOUBLE').t AS t",
            "get_json_object(decode(_headers[0].value, 'UTF-8'), '$.v') AS v",
        )
    )
    assert row == {"id": 7, "t": 1.5, "v": "1"}
    assert one(raw.decode("_key", schema="id INT", into="k").select("k.id AS id")) == {"id": 7}


def test_a_text_that_does_not_fit_sets_its_row_aside_or_is_null_as_told(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    texts = ['{"n":1}', '{"n":"2"}', "no", None, '{"n":1.5}', '{"n":3} {}']
    broker.produce("t", [{"j": t} for t in texts], progress=False)
    raw = broker.read_stream("t", schema="j STRING", max_malformed=1.0)
    raw.select("from_json(j, 'n INT').n AS n").write_delta(str(tmp_path / "strict"), progress=False)
    assert sorted(str(r["n"]) for r in rows(tmp_path / "strict")) == ["1", "None"]
    aside = sorted(rows(tmp_path / "strict_quarantine"), key=lambda r: r["offset"])
    assert [(r["offset"], r["stage"]) for r in aside] == [
        (1, "transform"),
        (2, "transform"),
        (4, "transform"),
        (5, "transform"),
    ]
    assert "field 'n': a quoted value does not fit INT" in aside[0]["error"]
    assert json.loads(bytes(aside[1]["value"])) == {"j": "no"}
    for call in ("try_from_json(j, 'n INT').n AS n", "from_json(j, 'n INT', map('mode', 'PERMISSIVE')).n AS n"):
        assert [r["n"] for r in raw.select(call).collect().to_dicts()] == [1, None, None, None, None, None]
    decoded = raw.decode("j", schema="n INT")
    decoded.select("j.n AS n").write_delta(str(tmp_path / "decoded"), progress=False)
    assert sorted(str(r["n"]) for r in rows(tmp_path / "decoded")) == ["1", "None"]
    aside = sorted(rows(tmp_path / "decoded_quarantine"), key=lambda r: r["offset"])
    assert [(r["offset"], r["stage"]) for r in aside] == [(1, "decode"), (2, "decode"), (4, "decode"), (5, "decode")]
    assert aside[0]["error"].startswith("column 'j': field 'n': a quoted number") and json.loads(
        bytes(aside[0]["value"])
    ) == {"j": texts[1]}
    with pytest.raises(bayou.MalformedError, match=r"t\[0\] offset 1: column 'j': field 'n'"):
        decoded.collect()
    dropping = broker.read_stream("t", schema="j STRING", max_malformed=1.0, on_malformed="drop").decode(
        "j", schema="n INT"
    )
    assert [r["j"] for r in dropping.collect().to_dicts()] == [{"n": 1}, None]


def test_decode_behind_explode_sets_single_elements_aside(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"a": ['{"n":1}', "bad", None, '{"n":4}']}], progress=False)
    raw = broker.read_stream("t", schema="a ARRAY<STRING>", max_malformed=1.0)
    flat = raw.select("posexplode(a) AS (i, j)").decode("j", schema="n INT", into="d").select("i", "d.n AS n")
    flat.write_delta(str(tmp_path / "t"), progress=False)
    assert sorted((r["i"], r["n"]) for r in rows(tmp_path / "t")) == [(0, 1), (2, None), (3, 4)]
    [aside] = rows(tmp_path / "t_quarantine")
    assert json.loads(aside["row"]) == {"i": 1, "j": "bad", "_element": [1]} and aside["stage"] == "decode"


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("from_json(j, 'n NOPE')", "is not a type"),
        ("from_json(j, j)", "the schema must be a constant"),
        ("from_json(j, 'INT')", "the schema is INT"),
        ("from_json(j, 'MAP<INT, INT>')", "a map must be MAP<STRING"),
        ("from_json(j, 'n INT', map('mode', 'DROPMALFORMED'))", "the option mode is PERMISSIVE"),
        ("from_json(j, 'n INT', map('dateFormat', 'y'))", "the option dateFormat is not supported"),
        ("from_json(n, 'n INT')", "n is INT, not STRING"),
        ("to_json(n)", "a STRUCT, ARRAY, MAP or VARIANT is expected"),
        ("schema_of_json(j)", "the text must be a constant"),
        ("schema_of_json('x')", "the text is not JSON"),
        ("j:", "a name is expected"),
        ("j:a[x]", "a position from 0"),
    ],
)
def test_a_call_that_cannot_be_is_refused_when_it_is_typed(item: str, words: str) -> None:
    with pytest.raises(bayou.SchemaError, match=words):
        bayou.from_messages([], schema="n INT, j STRING").select(item)


def test_decode_is_refused_for_what_is_no_text() -> None:
    stream = bayou.from_messages([], schema="n INT, j STRING")
    with pytest.raises(bayou.SchemaError, match="needs a STRING or BINARY column, and 'n' is INT"):
        stream.decode("n", schema="a INT")
    with pytest.raises(bayou.ConfigError, match='format="raw" has nothing to decode'):
        stream.decode("j", schema=None, format="raw")  # type: ignore[arg-type]
    with pytest.raises(bayou.ConfigError, match="format='nope' is not a format"):
        stream.decode("j", schema="a INT", format="nope")
    assert "decode j as json into d" in stream.decode("j", schema="a INT", into="d").explain()
