"""Arrays, maps, structs and lambdas where streams take SQL: select, where, rules, aggregates, and over the tables."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import bayou
import pytest
from delta_replay import rows

ORDERS = "id INT, items ARRAY<STRUCT<sku: STRING, price: DOUBLE, n: INT>>, tags MAP<STRING, INT>, raw STRING"


def orders() -> list[dict[str, Any]]:
    return [
        {
            "id": 1,
            "items": [{"sku": "a", "price": 2.5, "n": 2}, {"sku": "b", "price": 1.0, "n": 0}],
            "tags": {"x": 1, "y": 5},
            "raw": "[3,1,2]",
        },
        {"id": 2, "items": [], "tags": {}, "raw": "[]"},
        {"id": 3, "items": None, "tags": None, "raw": None},
        {"id": 4, "items": [{"sku": "c", "price": 9.0, "n": 3}], "tags": {"x": 0}, "raw": "[10]"},
    ]


def stream() -> bayou.Stream:
    return bayou.from_messages([json.dumps(o) for o in orders()], schema=ORDERS)


def of(stream: bayou.Stream, *names: str) -> list[Any]:
    return [tuple(r[n] for n in names) if len(names) > 1 else r[names[0]] for r in stream.collect().to_dicts()]


def test_lambdas_stand_in_select_where_with_columns_and_over_json_in_text() -> None:
    total = "aggregate(items, 0D, (acc, e) -> acc + e.price * e.n) AS total"
    made = stream().select(
        "id", total, "transform(filter(items, e -> e.n > 0), (e, i) -> e.sku || i || '-' || id) AS skus"
    )
    assert of(made, "id", "total", "skus") == [(1, 5.0, ["a0-1"]), (2, 0.0, []), (3, None, None), (4, 27.0, ["c0-4"])]
    assert of(stream().where("exists(items, e -> e.price > 5) OR size(items) = 0"), "id") == [2, 4]
    bought = stream().select("id", "explode(filter(items, e -> e.n > 0)) AS e").select("id", "e.sku AS sku")
    assert of(bought, "id", "sku") == [(1, "a"), (4, "c")]
    wide = stream().with_columns(
        sorted="array_sort(from_json(raw, 'ARRAY<INT>'), (a, b) -> b - a)",
        said="to_json(map_filter(tags, (k, v) -> v > 0))",
        best="array_max(transform(items, e -> struct(e.price, e.sku))).sku",
    )
    assert of(wide, "sorted", "said", "best") == [
        ([3, 2, 1], '{"x":1,"y":5}', "a"),
        ([], "{}", None),
        (None, None, None),
        ([10], "{}", "c"),
    ]


def test_structs_and_lists_are_compared_grouped_and_aggregated() -> None:
    keyed = (
        stream()
        .group_by("size(items) > 0 AS some")
        .agg("max(struct(id, raw)).raw AS last", "max_by(id, map_values(tags)) AS by", "count(DISTINCT items) AS n")
    )
    found = {r["some"]: (r["last"], r["by"], r["n"]) for r in keyed.collect().to_dicts()}
    assert found == {True: ("[10]", 1, 2), False: ("[]", 2, 1), None: (None, None, 0)}
    twice = bayou.from_messages(
        [json.dumps({"k": k, "v": v}) for k, v in [([1, None], 1), ([1, None], 2), ([], 3), (None, 4)]],
        schema="k ARRAY<INT>, v INT",
    )
    groups = twice.group_by("struct(k, size(k) AS n) AS g").agg("sum(v) AS v").collect().to_dicts()
    assert sorted((str(r["g"]["k"]), r["v"]) for r in groups) == [("None", 4), ("[1, None]", 3), ("[]", 3)]
    assert of(twice.where("k = array(1, NULL) OR (v, 1) IN ((4, 1), (9, 1))"), "v") == [1, 2, 4]


def test_a_rule_and_an_element_that_fails_set_their_own_message_aside(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"id": n, "v": v} for n, v in enumerate([[4, 2], [1, 0], [], [9]])], progress=False)
    read = broker.read_stream("t", schema="id INT, v ARRAY<INT>")
    made = read.with_columns(parts="transform(v, x -> 8 / x)").expect_or_quarantine(
        "small", "forall(parts, p -> p > 1)"
    )
    query = made.write_delta(str(tmp_path / "out"), progress=False)
    assert sorted(r["id"] for r in rows(tmp_path / "out")) == [0, 2]
    aside = sorted((r["offset"], r["stage"], r["error"]) for r in rows(tmp_path / "out_quarantine"))
    assert [(a, b) for a, b, _ in aside] == [(1, "transform"), (3, "expectation")]
    assert "division by zero" in aside[0][2]
    assert query.exception() is None


def test_a_header_is_found_by_its_name(broker: bayou.Connection) -> None:
    broker.create_topic("h")
    broker.produce("h", [{"a": 1}], headers={"trace": "t-1", "kind": "x"}, progress=False)
    broker.produce("h", [{"a": 2}], progress=False)
    read = broker.read_stream("h", schema="a INT", include_metadata=True)
    made = read.select(
        "a",
        "CAST(element_at(map_from_entries(_headers), 'trace') AS STRING) AS trace",
        "CAST(get(filter(_headers, h -> h.key = 'kind'), 0).value AS STRING) AS kind",
    )
    assert sorted(of(made, "a", "trace", "kind")) == [(1, "t-1", "x"), (2, None, None)]


def test_what_no_lambda_and_no_map_can_be_is_told_when_the_line_is_typed() -> None:
    for text, says in [
        ("x -> x", r"a lambda \(x -> …\) goes into transform, filter"),
        ("transform(id, x -> x)", "id is INT, not an ARRAY"),
        ("transform(items, e -> e.nope)", "has no field 'nope'"),
        ("tags = tags", "comparing MAP"),
        ("shuffle(items)", "not the same every time"),
        ("map(tags, 1)", "a key of a MAP cannot be"),
    ]:
        with pytest.raises(bayou.SchemaError, match=says):
            stream().select(f"{text} AS v")
