"""Values at the boundary to Python are exact, or an error that names column and row."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import bayou
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

UTC = timezone.utc
NOON = datetime(2024, 1, 31, 12, tzinfo=UTC)
BIG = 2**53 + 1


def mapped(rows: Any, schema: str) -> list[dict[str, Any]]:
    """The result of a function that returns `rows` for one message."""
    stream = bayou.from_messages(['{"n":1}'], schema="n INT")
    return stream.map_batches(lambda _: rows, schema).collect().to_dicts()


def aggregated(value: Any, returns: str) -> Any:
    stream = bayou.from_messages(['{"time":"2024-01-01T00:00:00Z"}'], schema="time TIMESTAMP")
    windows = stream.with_watermark("time", "0 seconds").group_by(bayou.window("time", "1 minute"))
    return windows.agg(v=bayou.aggregate(lambda _: value, returns=returns)).collect(close_windows=True)["v"][0]


# type, value, what arrives (None: an error), and for values that Arrow, pandas or polars types hold: another form of it
CASES: list[tuple[str, Any, Any]] = [
    ("INT", 1, 1),
    ("INT", 1.0, 1),
    ("INT", Decimal("1.00"), 1),
    ("INT", np.int64(7), 7),
    ("INT", np.float64(7.0), 7),
    ("INT", None, None),
    ("INT", pd.NA, None),
    ("TIMESTAMP", pd.NaT, None),
    ("BIGINT", BIG, BIG),
    ("BIGINT", -(2**63), -(2**63)),
    ("DOUBLE", 2**53, 2.0**53),
    ("DOUBLE", 2**60, 2.0**60),
    ("DOUBLE", 0.1, 0.1),
    ("DOUBLE", Decimal("0.1"), 0.1),
    ("DOUBLE", math.inf, math.inf),
    ("FLOAT", 0.5, 0.5),
    ("FLOAT", np.float32(0.1), float(np.float32(0.1))),
    ("FLOAT", 16777216, 16777216.0),
    ("DECIMAL(5,2)", Decimal("1.5"), Decimal("1.50")),
    ("DECIMAL(5,2)", 1.25, Decimal("1.25")),
    ("DECIMAL(38,0)", 10**37, Decimal(10**37)),
    ("BOOLEAN", True, True),
    ("BOOLEAN", np.bool_(False), False),
    ("STRING", "ü\x00", "ü\x00"),
    ("STRING", 5, "5"),
    ("STRING", True, "true"),
    ("BINARY", b"\x00\xff", b"\x00\xff"),
    ("BINARY", bytearray(b"ab"), b"ab"),
    ("TIMESTAMP", NOON, NOON),
    ("TIMESTAMP", NOON.astimezone(timezone(timedelta(hours=2))), NOON),
    ("TIMESTAMP", pd.Timestamp("2024-01-31T12:00:00.000001", tz="UTC"), NOON + timedelta(microseconds=1)),
    ("TIMESTAMP", np.datetime64("2024-01-31T12:00:00.000001000", "ns"), NOON + timedelta(microseconds=1)),
    ("TIMESTAMP", date(2024, 1, 31), datetime(2024, 1, 31, tzinfo=UTC)),
    ("TIMESTAMP", datetime(1, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)),
    ("TIMESTAMP", datetime(9999, 12, 31, 23, 59, 59, 999999, UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)),
    ("TIMESTAMP", "2024-01-31 12:00:00.0000009 UTC", NOON),
    ("DATE", date(2024, 1, 31), date(2024, 1, 31)),
    ("DATE", datetime(2024, 1, 31, tzinfo=UTC), date(2024, 1, 31)),
    ("DATE", np.datetime64("2024-01-31"), date(2024, 1, 31)),
    ("ARRAY<INT>", [1, None, 2.0], [1, None, 2]),
    ("ARRAY<BIGINT>", np.array([BIG, 2]), [BIG, 2]),
    ("ARRAY<DOUBLE>", (1, 2.5), [1.0, 2.5]),
    ("MAP<STRING, INT>", {"a": 1, "b": None}, {"a": 1, "b": None}),
    ("STRUCT<lon: DOUBLE, lat: DOUBLE>", {"lat": 50.1, "lon": 8.6}, {"lon": 8.6, "lat": 50.1}),
    ("STRUCT<lon: DOUBLE, lat: DOUBLE>", {"lat": 50.1}, {"lon": None, "lat": 50.1}),
    ("ARRAY<STRUCT<a: INT, b: STRING>>", [{"b": "x", "a": 1}], [{"a": 1, "b": "x"}]),
]

MISFITS: list[tuple[str, Any]] = [
    ("INT", 1.9),
    ("INT", -0.5),
    ("INT", math.nan),
    ("INT", Decimal("1.5")),
    ("INT", "1"),
    ("INT", True),
    ("INT", 2**31),
    ("TINYINT", 300),
    ("BIGINT", 2**63),
    ("BIGINT", 1e300),
    ("DOUBLE", BIG),
    ("DOUBLE", 2**2000),
    ("DOUBLE", "1.5"),
    ("FLOAT", 16777217),
    ("FLOAT", 1e300),
    ("FLOAT", BIG),
    ("DECIMAL(5,2)", Decimal("1.239")),
    ("DECIMAL(5,2)", 1.005),
    ("DECIMAL(5,2)", Decimal("1234.5")),
    ("DECIMAL(5,2)", Decimal("NaN")),
    ("BOOLEAN", 2),
    ("BOOLEAN", 1),
    ("BOOLEAN", "true"),
    ("STRING", b"bytes"),
    ("STRING", "\ud800"),
    ("TIMESTAMP", 1706702400),
    ("TIMESTAMP", pd.Timestamp("2024-01-31T12:00:00.000000001", tz="UTC")),
    ("TIMESTAMP", np.datetime64("2024-01-31T12:00:00.000000001", "ns")),
    ("TIMESTAMP", np.datetime64("20000-01-01", "us")),
    ("TIMESTAMP", "yesterday"),
    ("DATE", NOON),
    ("DATE", 19753),
    ("ARRAY<INT>", [1, 1.5]),
    ("ARRAY<INT>", 1),
    ("MAP<STRING, INT>", {"a": 1.5}),
    ("STRUCT<lon: DOUBLE, lat: DOUBLE>", {"lat": 50.1, "lng": 8.6}),
    ("STRUCT<y: INT>", {"z": 2}),
    ("STRUCT<y: INT>", {"y": 2.5}),
    ("STRING", uuid.uuid4()),
    ("STRING", {1, 2}),
    ("INT", timedelta(seconds=1)),
]


@pytest.mark.parametrize(("schema", "value", "wanted"), CASES)
def test_a_value_arrives_exactly(schema: str, value: Any, wanted: Any) -> None:
    assert mapped([{"v": value}], f"v {schema}") == [{"v": wanted}]
    assert mapped({"v": [value, None]}, f"v {schema}") == [{"v": wanted}, {"v": None}]
    assert mapped(pd.DataFrame({"v": pd.Series([value], dtype=object)}), f"v {schema}") == [{"v": wanted}]
    assert aggregated(value, schema) == wanted


@pytest.mark.parametrize(("schema", "value"), MISFITS)
def test_a_value_that_does_not_fit_is_an_error_that_names_its_place(schema: str, value: Any) -> None:
    if not (isinstance(value, float) and math.isnan(value)):  # in pandas that is NULL
        frames = [pd.DataFrame({"v": pd.Series([None, value], dtype=object)})]
    else:
        frames = []
    for rows in ([{"v": None}, {"v": value}], {"v": [None, value]}, *frames):
        with pytest.raises(bayou.MalformedError, match=r"column 'v(\.\w+)*', row 1: "):
            mapped(rows, f"v {schema}")
    with pytest.raises(bayou.MalformedError):
        aggregated(value, schema)


TYPED: list[tuple[pa.Array, str, Any]] = [
    (pa.array([1.0]), "INT", 1),
    (pa.array([1.9]), "INT", None),
    (pa.array([math.nan]), "INT", None),
    (pa.array([300], pa.int64()), "TINYINT", None),
    (pa.array([2**64 - 1], pa.uint64()), "BIGINT", None),
    (pa.array([2**63 - 1], pa.uint64()), "BIGINT", 2**63 - 1),
    (pa.array([BIG]), "DOUBLE", None),
    (pa.array([16777217]), "FLOAT", None),
    (pa.array([1e300]), "FLOAT", None),
    (pa.array([0.1]), "FLOAT", float(np.float32(0.1))),
    (pa.array([Decimal("1.25")]), "DECIMAL(5,1)", None),
    (pa.array([Decimal("1.50")]), "DECIMAL(5,1)", Decimal("1.5")),
    (pa.array([Decimal("2.00")]), "INT", 2),
    (pa.array([Decimal("1e40")], pa.decimal256(50, 0)), "DECIMAL(38,0)", None),
    (pa.array([Decimal("0.1")]), "DOUBLE", 0.1),
    (pa.array([1.005]), "DECIMAL(5,2)", None),
    (pa.array([1.25]), "DECIMAL(5,2)", Decimal("1.25")),
    (pa.array([2]), "BOOLEAN", None),
    (pa.array([True]), "INT", None),
    (pa.array(["1"]), "INT", None),
    (pa.array(["x"], pa.large_string()), "STRING", "x"),
    (pa.array(["x"], pa.string_view()), "STRING", "x"),
    (pa.array([5]), "STRING", "5"),
    (pa.array([b"x"]), "STRING", None),
    (pa.array([b"x"], pa.large_binary()), "BINARY", b"x"),
    (pa.array([b"ab"], pa.binary(2)), "BINARY", b"ab"),
    (pa.array(["a", "a"]).dictionary_encode(), "STRING", "a"),
    (pa.array([1], pa.timestamp("ns", "UTC")), "TIMESTAMP", None),
    (pa.array([-1], pa.timestamp("ns", "UTC")), "TIMESTAMP", None),
    (pa.array([-1000], pa.timestamp("ns")), "TIMESTAMP", datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)),
    (pa.array([10**14], pa.timestamp("s", "UTC")), "TIMESTAMP", None),
    (pa.array([NOON]), "DATE", None),
    (pa.array([1706702400]), "TIMESTAMP", None),
    (pa.array([date(2024, 1, 31)]), "TIMESTAMP", datetime(2024, 1, 31, tzinfo=UTC)),
    (pa.array(["2024-01-31T12:00:00Z"]), "TIMESTAMP", NOON),
    (pa.array([[1.0, None]]), "ARRAY<INT>", [1, None]),
    (pa.array([[1.5]]), "ARRAY<INT>", None),
    (pa.array([[1, 2]], pa.list_(pa.int64(), 2)), "ARRAY<INT>", [1, 2]),
    (pa.array([[1]], pa.large_list(pa.int64())), "ARRAY<INT>", [1]),
    (pa.array([{"lat": 50.1, "lng": 8.6}]), "STRUCT<lon: DOUBLE, lat: DOUBLE>", None),
    (pa.array([{"lat": 50.1, "lon": 8.6}]), "STRUCT<lon: DOUBLE, lat: DOUBLE>", {"lon": 8.6, "lat": 50.1}),
    (pa.array([{"z": 2}]), "STRUCT<y: INT>", None),
    (pa.array([{"a": 1}]), "MAP<STRING, INT>", None),
    (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), "MAP<STRING, INT>", {"a": 1}),
    (pa.array([[("a", 1.5)]], pa.map_(pa.string(), pa.float64())), "MAP<STRING, INT>", None),
    (pa.nulls(1), "INT", "null"),
    (pa.array([None], pa.string()), "INT", "null"),
]


@pytest.mark.parametrize(("array", "schema", "wanted"), TYPED)
def test_a_column_of_arrow_fits_exactly_or_is_an_error(array: pa.Array, schema: str, wanted: Any) -> None:
    table = pa.table({"v": array})
    # Also as the middle of something longer, where offsets do not begin at nothing.
    middle = pa.concat_tables([table, table, table]).combine_chunks().slice(len(array), len(array))
    for rows in (table, middle, table.to_batches()[0]):
        if wanted is None:
            with pytest.raises(bayou.MalformedError, match=r"column 'v(\.\w+)*', row 0: "):
                mapped(rows, f"v {schema}")
        else:
            assert mapped(rows, f"v {schema}")[0]["v"] == (None if wanted == "null" else wanted)


def test_the_row_of_a_misfit_is_counted_over_all_of_a_result() -> None:
    parts = [pa.table({"v": pa.array([[1.0]] * 5)}), pa.table({"v": pa.array([[1.0], [], [2.0, 2.5]])})]
    with pytest.raises(bayou.MalformedError, match=r"column 'v\.1', row 7: a number with a fraction"):
        mapped(pa.concat_tables(parts), "v ARRAY<INT>")
    with pytest.raises(bayou.MalformedError, match=r"column 'x', row 1: "):
        mapped(pl.DataFrame({"x": [1, 2**40]}), "x INT")
    with pytest.raises(bayou.MalformedError, match=r"column 'n', row 0: "):
        bayou.from_messages(['{"n":1}'], schema="n INT").map_batches(
            lambda d: d.assign(n=d.n / 2), input="pandas"
        ).collect()


def test_a_row_that_does_not_fit_is_set_aside_and_the_others_go_on() -> None:
    stream = bayou.from_messages([json.dumps({"n": n}) for n in (2, 3, 4)], schema="n INT", on_malformed="drop")
    half = stream.map_batches(lambda d: d.assign(n=d.n / 2), input="pandas")
    assert half.collect()["n"] == [1, 2]


@pytest.mark.parametrize(
    "nothing",
    [
        [],
        {},
        {"v": []},
        pd.DataFrame(),
        pd.DataFrame({"other": []}),
        pl.DataFrame(),
        pa.table({}),
        pa.table({"v": pa.nulls(0)}),
        iter(()),
    ],
)
def test_no_rows_need_no_columns(nothing: Any) -> None:
    assert mapped(nothing, "v INT, w STRING") == []


def test_a_field_that_is_left_out_is_null_and_one_spelt_otherwise_an_error() -> None:
    assert mapped([{"a": 1}, {"a": 2, "b": "x"}], "a INT, b STRING") == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]
    assert mapped([{"a": 1}], "a INT, b STRING") == [{"a": 1, "b": None}]
    assert mapped([{"a": 1, "more": 2}], "a INT") == [{"a": 1}]
    for rows in (
        [{"a": 1, "B": "x"}],
        {"a": [1], "B": ["x"]},
        pd.DataFrame({"a": [1], "B": ["x"]}),
        pa.table({"a": [1], "B": ["x"]}),
    ):
        with pytest.raises(bayou.MalformedError, match="no (column )?'b'"):
            mapped(rows, "a INT, b STRING")
    for rows in (None, 5, "text", [5], {"a": 5}):
        with pytest.raises(bayou.MalformedError, match="return|not a dict|not a list"):
            mapped(rows, "a INT")


def test_what_an_aggregate_has_no_value_for_is_null() -> None:
    messages = [json.dumps({"time": "2024-01-01T00:00:00Z", "k": k, "n": n}) for k, n in (("a", None), ("b", 3))]
    stream = bayou.from_messages(messages, schema="time TIMESTAMP, k STRING, n INT").with_watermark("time", "0 seconds")
    groups = stream.group_by(bayou.window("time", "1 minute"), "k")
    for function in (lambda d: d.n.max(), lambda d: d.n.iloc[0], lambda d: d.n.mean()):
        made = groups.agg(v=bayou.aggregate(function, returns="DOUBLE", input="pandas")).collect(close_windows=True)
        assert dict(zip(made["k"], made["v"], strict=True)) == {"a": None, "b": 3.0}


@pytest.mark.parametrize("end", [SystemExit(3), GeneratorExit()])
def test_a_function_that_exits_is_an_error_and_not_the_stop_button(end: BaseException) -> None:
    def leave(_: object) -> object:
        raise end

    stream = bayou.from_messages(['{"n":1}'], schema="n INT")
    with pytest.raises(bayou.FunctionError, match=type(end).__name__) as failed:
        stream.map_batches(leave, "n INT").collect()
    assert failed.value.__cause__ is end
    with pytest.raises(bayou.FunctionError):
        aggregate_stream = bayou.from_messages(['{"time":"2024-01-01T00:00:00Z"}'], schema="time TIMESTAMP")
        windows = aggregate_stream.with_watermark("time", "0 seconds").group_by(bayou.window("time", "1 minute"))
        windows.agg(v=bayou.aggregate(leave, returns="INT")).collect(close_windows=True)


def test_a_frames_index_is_left_out_everywhere(broker: bayou.Connection) -> None:
    whole = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    frames = [
        whole[whole.a != 2],
        whole.sort_values("a", ascending=False),
        whole.set_index("b", drop=False),
        whole.set_index(["a", "b"], drop=False),
        whole.groupby("a", as_index=False).first(),
        whole.set_index(pd.Index([5, 6, 7], name="named")),
    ]
    for number, frame in enumerate(frames):
        topic = f"t{number}"
        broker.create_topic(topic)
        broker.produce(topic, frame, progress=False)
        published = [json.loads(v) for v in broker.read_stream(topic, format="raw").collect()["value"]]
        assert sorted(published, key=str) == sorted(frame.to_dict("records"), key=str)
        stream = bayou.from_batches(frame)
        assert stream.columns == ["a", "b"]
        assert bayou.from_batches({"a": [1]}).join(frame, on="a").columns == ["a", "b"]
        assert bayou.sql("SELECT * FROM t", t=frame).columns == ["a", "b"]
        assert stream.map_batches(lambda _, frame=frame: frame).columns == ["a", "b"]


def test_a_frame_that_is_changed_later_does_not_change_the_stream() -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "v": [1.0, 2.0, 3.0]})
    array = np.array([1.0, 2.0, 3.0])
    streams = [bayou.from_batches(frame), bayou.from_batches({"a": [1, 2, 3]}).join(frame, on="a")]
    streams.append(bayou.from_batches(pa.table({"v": pa.array(array)})))
    frame.loc[0, "v"] = 99.0
    frame["v"].to_numpy().flags.writeable and frame["v"].to_numpy().__setitem__(1, 99.0)
    array[0] = 99.0
    for stream in streams:
        assert stream.collect()["v"] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "array",
    [
        pa.array([0, 1], pa.timestamp("ns")),
        pa.array([0, 10**14], pa.timestamp("s")),
        pa.array([[0], [1]], pa.list_(pa.timestamp("ns"))),
        pa.array([{"x": 0}, {"x": 1}], pa.struct([("x", pa.timestamp("ns", "UTC"))])),
    ],
)
def test_times_that_do_not_fit_are_refused_at_every_door(array: pa.Array) -> None:
    table = pa.table({"t": array, "k": [1, 2]})
    for door in (
        lambda: bayou.from_batches(table),
        lambda: bayou.from_batches({"k": [1]}).join(table, on="k"),
        lambda: bayou.sql("SELECT * FROM x", x=table),
    ):
        with pytest.raises(bayou.MalformedError, match=r"column 't(\.\w+)*', row 1: "):
            door()


def test_whole_numbers_within_lists_keep_their_digits_beside_null() -> None:
    table = bayou.from_messages(
        [json.dumps({"l": [BIG, None], "s": {"n": BIG}}), json.dumps({"l": None, "s": {"n": None}})],
        schema="l ARRAY<BIGINT>, s STRUCT<n: BIGINT>",
    ).collect()
    frame = table.to_pandas()
    assert list(frame["l"][0]) == [BIG, None]
    assert frame["s"].tolist() == [{"n": BIG}, {"n": None}]


def test_rows_at_hand_are_read_exactly_or_refused_by_column_and_row(broker: bayou.Connection) -> None:
    nothing = pl.DataFrame({"a": [None, None], "l": [[], None]})
    assert bayou.from_batches(nothing).collect().to_dicts() == [{"a": None, "l": []}, {"a": None, "l": None}]
    assert [v for _, v in published(broker, nothing)] == [b'{"a":null,"l":[]}', b'{"a":null,"l":null}']
    assert mapped(nothing, "a INT, l ARRAY<STRING>") == [{"a": None, "l": []}, {"a": None, "l": None}]
    assert bayou.from_batches([{"a": 1}, {"a": pd.NA}, {}]).collect()["a"] == [1, None, None]
    for rows in ([{"a": 1.5}, {"a": BIG}], [{"a": Decimal(1)}, {"a": Decimal("NaN")}], {"a": [1, "x"]}):
        with pytest.raises(bayou.MalformedError, match="column 'a', row 1: "):
            bayou.from_batches(rows)
    for wrong in (5, "text", [5], [None]):
        with pytest.raises(TypeError, match="not a collection of rows|not a dict"):
            bayou.from_batches(wrong)
    for column in (pd.Series([1]), pl.Series([1]), pa.array([1]), pa.chunked_array([[1]])):
        with pytest.raises(bayou.SchemaError, match="does not hold rows with named columns"):
            bayou.from_batches(column)


# --- published rows ---------------------------------------------------------------------------------------------------


def published(kafka: bayou.Connection, rows: Any, **options: Any) -> list[tuple[bytes | None, Any]]:
    """Keys and values of what is published."""
    topic = f"t{uuid.uuid4().hex}"
    kafka.create_topic(topic)
    kafka.produce(topic, rows, progress=False, **options)
    found = kafka.read_stream(topic, format="raw").collect()
    return list(zip(found["key"], found["value"], strict=True))


PUBLISHED: list[tuple[Any, bytes]] = [
    (None, b"null"),
    (Decimal("1.50"), b"1.50"),
    (Decimal("1E+3"), b"1000"),
    (Decimal("-0.0"), b"0.0"),
    (np.float32(0.1), b"0.1"),
    (np.float64(0.1), b"0.1"),
    (np.int8(-3), b"-3"),
    (np.bool_(True), b"true"),
    (np.str_("x"), b'"x"'),
    (np.array([7]), b"[7]"),
    (np.array([[1.5, 2.0]]), b"[[1.5,2.0]]"),
    (np.datetime64("2024-01-01", "ns"), b'"2024-01-01T00:00:00.000000Z"'),
    (np.datetime64("2024-01-01T00:00:00", "s"), b'"2024-01-01T00:00:00.000000Z"'),
    (np.datetime64("2024-01-01"), b'"2024-01-01"'),
    (np.datetime64("NaT"), b"null"),
    (pd.NaT, b"null"),
    (pd.NA, b"null"),
    (pd.Timestamp("2024-01-01", tz="Europe/Berlin"), b'"2023-12-31T23:00:00.000000Z"'),
    (datetime(999, 1, 2, tzinfo=UTC), b'"0999-01-02T00:00:00.000000Z"'),
    (date(1, 1, 1), b'"0001-01-01"'),
    (10**30, str(10**30).encode()),
    ({"a": {"b": [b"\x00\xff"]}}, b'{"a":{"b":["AP8="]}}'),
    ({1: 2}, b'{"1":2}'),
    ((1, "x"), b'[1,"x"]'),
    (pa.scalar(5), b"5"),
    (pl.Series([1, None]), b"[1,null]"),
]

UNPUBLISHABLE: list[Any] = [
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("Infinity"),
    math.nan,
    math.inf,
    np.float32("nan"),
    np.timedelta64(5, "ns"),
    timedelta(seconds=1),
    np.datetime64("2024-01-01T00:00:00.000000001", "ns"),
    np.datetime64("20000-01-01", "us"),
    pd.Timestamp("2024-01-01T00:00:00.000000001"),
    uuid.uuid4(),
    {1, 2},
    object(),
    1 + 2j,
    "\ud800",
    {"x": [math.nan]},
    {1.5: 2},
]


def test_a_dicts_values_are_published_exactly(broker: bayou.Connection) -> None:
    found = published(broker, [{"v": value} for value, _ in PUBLISHED])
    assert [v for _, v in found] == [b'{"v":' + text + b"}" for _, text in PUBLISHED]


@pytest.mark.parametrize("value", UNPUBLISHABLE, ids=[str(n) for n in range(len(UNPUBLISHABLE))])
def test_a_value_that_json_cannot_say_is_an_error_with_column_and_row(broker: bayou.Connection, value: Any) -> None:
    broker.create_topic("t")
    before = [{"v": i} for i in range(2500)]
    with pytest.raises(
        bayou.MalformedError, match=r"column 'v(\.\w+)*', row 2500: .*2500 rows were taken before, and 2500 of them"
    ) as failed:
        broker.produce("t", [*before, {"v": value}, {"v": 1}], progress=False)
    assert "is_" not in str(failed.value)
    assert broker.read_stream("t", schema="v INT").collect()["v"] == list(range(2500))


def test_a_deep_value_is_an_error_and_not_the_end_of_the_process(broker: bayou.Connection) -> None:
    broker.create_topic("t")
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(bayou.MalformedError, match="more than 128 levels"):
        broker.produce("t", [{"v": endless}], progress=False)


class SourceBroke(Exception):
    pass


def test_a_source_that_breaks_is_told_with_what_arrived_and_its_own_exception(broker: bayou.Connection) -> None:
    broker.create_topic("t")
    broke = SourceBroke("at the end")

    def rows() -> Iterator[dict[str, int]]:
        yield from ({"a": i} for i in range(2500))
        raise broke

    with pytest.raises(
        bayou.FunctionError,
        match=r"row 2500: SourceBroke: at the end\. 2500 rows were taken before, and 2500 of them are on the topic 't'",
    ) as failed:
        broker.produce("t", rows(), progress=False)
    assert failed.value.__cause__ is broke
    assert len(broker.read_stream("t", schema="a INT").collect()) == 2500
    wide = pa.table({"a": pa.array([*range(9000), 1]), "x": pa.array([0.0] * 9000 + [math.nan])})
    with pytest.raises(bayou.MalformedError, match=r"column 'x', row 9000: .* rows were taken before"):
        broker.produce("t", wide, progress=False)
    for wrong, why in (
        ([None], "row 0 is None"),
        ([{"a": 1}, 5], "row 1 is int"),
        (5, "not a collection of rows"),
        ({"a": 1}, "not a collection of rows"),
    ):
        with pytest.raises((bayou.SchemaError, TypeError), match=why):
            broker.produce("t", wrong, progress=False)


KEYS: dict[str, tuple[Any, pa.DataType]] = {
    "text": ("ü x", pa.string()),
    "bytes": (b"\x00\xffk", pa.binary()),
    "whole": (7, pa.int64()),
    "truth": (True, pa.bool_()),
    "double": (1e22, pa.float64()),
    "single": (np.float32(0.1), pa.float32()),
    "decimal": (Decimal("1.50"), pa.decimal128(5, 2)),
    "time": (NOON, pa.timestamp("us", "UTC")),
    "day": (date(2024, 1, 31), pa.date32()),
    "struct": ({"p": 1, "q": [1e22, "x"]}, pa.struct([("p", pa.int32()), ("q", pa.list_(pa.string()))])),
    "list": ([1, 2], pa.list_(pa.int64())),
    "null": (None, pa.string()),
    "quote": ('"', pa.string()),
}
KEYS["struct"] = ({"p": 1, "q": [1e22, 0.5]}, pa.struct([("p", pa.int32()), ("q", pa.list_(pa.float64()))]))


def test_a_key_is_the_same_bytes_from_a_dict_and_from_arrow_and_in_every_process(broker: bayou.Connection) -> None:
    for name, (value, kind) in KEYS.items():
        plain = float(value) if isinstance(value, np.float32) else value
        table = pa.table({"k": pa.array([plain], kind)})
        from_dict, from_arrow = published(broker, [{"k": value}], key="k"), published(broker, table, key="k")
        assert from_dict == from_arrow, name
        without = published(broker, [{"k": value, "v": 1}], key="k", include_key_in_value=False)
        assert without == [(from_dict[0][0], b'{"v":1}')], name
    code = f"""
import bayou, sys
from decimal import Decimal
k = bayou.connect(name={broker_name(broker)!r})
k.create_topic("other")
k.produce("other", [{{"k": Decimal("1.50")}}], key="k", progress=False)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert broker.read_stream("other", format="raw").collect()["key"] == [b"1.50"]


def broker_name(kafka: bayou.Connection) -> str:
    return repr(kafka).split("'")[1]


def test_timestamps_and_partitions_of_dicts_are_read_or_refused_by_name(broker: bayou.Connection) -> None:
    broker.create_topic("t", partitions=3)
    times = [
        NOON,
        np.datetime64("2024-01-31T12:00:00", "us"),
        pd.Timestamp(NOON),
        1706702400000,
        np.int64(1706702400000),
    ]
    rows = [{"t": t, "p": np.int32(2)} for t in times]
    broker.produce("t", rows, timestamp="t", partition_column="p", progress=False)
    found = broker.read_stream("t", format="raw").collect()
    assert set(found["timestamp"]) == {NOON}
    assert set(found["partition"]) == {2}
    for options, row, why in (
        ({"timestamp": "t"}, {"t": 1.5}, "column 't', row 0"),
        ({"timestamp": "t"}, {"u": 1}, "row 0 has no field 't' for the timestamp"),
        ({"partition_column": "p"}, {"p": "x"}, "column 'p', row 0"),
        ({"key": "k"}, {"p": 1}, "row 0 has no field 'k' for the key"),
        ({"value": "v"}, {"v": 5}, "column 'v', row 0"),
    ):
        with pytest.raises(bayou.SchemaError, match=why):
            broker.produce("t", [row], progress=False, **options)


def test_arrows_times_of_day_and_years_are_exact_too(broker: bayou.Connection) -> None:
    broker.create_topic("t")
    for array in (pa.array([1], pa.time64("ns")), pa.array([-719_528], pa.date32())):
        with pytest.raises(bayou.MalformedError, match="column 'x', row 0"):
            broker.produce("t", pa.table({"x": array}), progress=False)


# --- times that Python does not have, and iterators in several threads -------------------------------------------------


def test_a_table_with_times_outside_pythons_years_is_shown() -> None:
    far = pa.table(
        {
            "t": pa.array([0, 253402300800000000, -62135596800000001, 2**62], pa.timestamp("us", "UTC")),
            "d": pa.array([0, 2932897, -719163, 2**30], pa.date32()),
        }
    )
    table = bayou.from_batches(far).collect()
    rows = table.to_dicts()
    assert rows[0] == {"t": datetime(1970, 1, 1, tzinfo=UTC), "d": date(1970, 1, 1)}
    assert all(isinstance(value, str) and value for row in rows[1:] for value in row.values())
    assert "10000" in rows[1]["t"]
    assert "10000" in table._repr_html_() and "10000" in repr(table)


def test_a_field_in_another_case_is_told_by_preview_and_by_the_query(broker: bayou.Connection) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"userId": "a", "event": "b"}], progress=False)
    stream = broker.read_stream("t", schema="userid STRING, event STRING")
    preview = stream.preview()
    query = stream.write_delta(str(broker.scratch_dir / "t"), progress=False)
    for notes in (preview.notes, query.notes):
        assert len(notes) == 1
        assert "'userid'" in notes[0] and "'userId'" in notes[0]
    assert preview.notes[0] in repr(preview) and "userId" in preview._repr_html_()


def test_tombstones_cannot_become_rows_of_nulls_where_null_is_not_taken() -> None:
    with pytest.raises(bayou.ConfigError, match="'a' is NOT NULL"):
        bayou.from_messages([None], schema="a INT NOT NULL", on_tombstone="null_row")
    assert bayou.from_messages([None], schema="a INT", on_tombstone="null_row").collect()["a"] == [None]


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_closing_an_iterator_ends_the_thread_that_waits_and_a_second_reader_is_refused(
    broker: bayou.Connection,
) -> None:
    broker.create_topic("t")
    batches = broker.read_stream("t", schema="a INT").batches(trigger="1 second")
    ended: list[str] = []

    def read() -> None:
        try:
            for _ in batches:
                pass
            ended.append("end")
        except bayou.ConfigError as error:
            ended.append(str(error))

    threads = [threading.Thread(target=read, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    # There is nothing to read: the first thread waits, and the other thread gets an error.
    assert eventually(lambda: len(ended) == 1)
    assert "a different thread is reading this iterator" in ended[0]
    began = time.monotonic()
    batches.close()
    for thread in threads:
        thread.join(5)
    assert ended[1:] == ["end"]
    assert time.monotonic() - began < 3
    assert "closed" in repr(batches)
    assert list(batches) == []
