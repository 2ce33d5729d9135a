"""SQL through the whole of bayou: what an expression means must hold where it is used."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

import bayou
import pyarrow as pa
import pytest

TIME = '"time":"2024-01-01T00:00:01Z"'


def on_a_small_stack(work: Callable[[], None]) -> None:
    """Runs on a thread with a stack of 256 KiB."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as e:
            failed.append(e)

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    if failed:
        raise failed[0]


@pytest.mark.parametrize("dialect", ["databricks", "datafusion"])
def test_a_filter_guards_the_argument_of_its_aggregate(dialect: str) -> None:
    rows = bayou.from_messages(
        [f'{{{TIME},"cost":10,"n":2,"s":"7"}}', f'{{{TIME},"cost":20,"n":0,"s":"x"}}'],
        schema="time TIMESTAMP, cost INT, n INT, s STRING",
    )
    texts = [
        "count(*) AS rows",
        "sum(cost / n) FILTER (WHERE n <> 0) AS r",
        "sum(CAST(s AS INT)) FILTER (WHERE s <> 'x') AS t",
    ]
    windows = rows.with_watermark("time", "0 seconds").group_by(bayou.window("time", "1 minute"))
    sessions = rows.with_watermark("time", "0 seconds").group_by(bayou.session_window("time", "1 minute"))
    for grouped in (windows, sessions, rows.group_by()):
        out = grouped.agg(*texts, dialect=dialect).collect(close_windows=True).to_dicts()
        assert [(r["rows"], r["r"], r["t"]) for r in out] == [(2, 5, 7)], grouped


def test_names_that_begin_with_a_digit_are_columns_everywhere() -> None:
    rows = bayou.from_batches({"2fa_id": [1, 2, 3, 3], "5min_avg": [7.5, 8.5, 9.5, 9.5]})
    assert rows.select("2fa_id", "5min_avg + 1 AS more").collect().to_dicts()[1] == {"2fa_id": 2, "more": 9.5}
    assert rows.group_by("2fa_id").count().collect().to_dicts()[-1] == {"2fa_id": 3, "count": 2}
    dated = rows.with_columns("timestamp_seconds(0) AS time").with_watermark("time", "0 seconds")
    assert len(dated.drop_duplicates("2fa_id", within="1 hour").collect()) == 3
    assert rows.expect_or_drop("some", "2fa_id > 2").collect().columns == ["2fa_id", "5min_avg"]
    read = bayou.from_messages(['{"1h":0.25}'], schema="1h DOUBLE")
    assert read.select("1h * 4 AS r").collect().to_dicts() == [{"r": 1.0}]
    with pytest.raises(bayou.SchemaError, match='"2fa_id"'):
        rows.select("2fa_id", dialect="datafusion")
    assert bayou.sql("SELECT 2fa_id FROM t", t=pa.table({"2fa_id": [1]})).to_dicts() == [{"2fa_id": 1}]


def nested(values: list[float]) -> pa.Table:
    array = pa.array([[v] for v in values], pa.list_(pa.float64()))
    struct = pa.array([{"a": [v], "d": v} for v in values], pa.struct({"a": pa.list_(pa.float64()), "d": pa.float64()}))
    return pa.table({"a": array, "s": struct, "n": pa.array(range(len(values)), pa.int32())})


@pytest.mark.parametrize("key", ["a", "s"])
def test_zeros_and_nans_are_one_key_within_arrays_and_structs(
    key: str, broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    rows = bayou.from_batches(nested([0.0, -0.0, float("nan"), 1.0]))
    assert sorted(r["count"] for r in rows.group_by(key).count().collect().to_dicts()) == [1, 1, 2]
    assert rows.group_by().agg(f"count(DISTINCT {key}) AS n").collect().to_dicts() == [{"n": 3}]
    dated = rows.with_columns("timestamp_seconds(0) AS time").with_watermark("time", "0 seconds")
    assert len(dated.drop_duplicates(key, within="1 hour").collect()) == 3
    side = nested([-0.0]).rename_columns({"n": "m"}).select([key, "m"])
    assert sorted(r["n"] for r in rows.join(side, on=key).collect().to_dicts()) == [0, 1]
    # Over epochs, into a table that is merged into.
    broker.create_topic("t")
    stream = broker.read_stream("t", schema="a ARRAY<DOUBLE>, s STRUCT<a: ARRAY<DOUBLE>, d: DOUBLE>")
    for value in ("0.0", "-0.0"):
        broker.produce("t", [{"a": [float(value)], "s": {"a": [float(value)], "d": float(value)}}], progress=False)
        query = (
            stream.group_by(key).agg("count(*) AS n").write_delta(tmp_path / "t", output_mode="update", progress=False)
        )
        assert query.exception() is None
    assert [r["n"] for r in bayou.read_delta(tmp_path / "t").to_dicts()] == [2]


def test_an_expression_that_fails_for_every_row_is_no_finished_run(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"n": 0, "s": "x"} for _ in range(300)], progress=False)
    read: dict[str, Any] = dict(schema="n INT, s STRING")
    stream = broker.read_stream("t", **read)
    for name, wrong, said in [
        (
            "a",
            stream.select("1 / n AS r"),
            r"300 of the last 300 rows fail, more than max_malformed=0.5: column 'r'.*division by zero",
        ),
        ("b", stream.where("CAST(s AS INT) > 0"), "condition '.*CAST"),
        ("c", stream.group_by().agg("sum(1 / n) AS r"), "division by zero"),
        ("d", stream.group_by("1 / n AS k").count(), "division by zero"),
        (
            "e",
            stream.expect_or_quarantine("whole", "CAST(s AS INT) > 0"),
            "expectation 'whole'.*cannot be computed for any",
        ),
        ("f", stream.expect("whole", "CAST(s AS INT) > 0"), "Correct the rule, not the rows"),
    ]:
        with pytest.raises(bayou.ConfigError, match=said):
            wrong.write_delta(tmp_path / name, progress=False)
    with pytest.raises(bayou.ConfigError, match="column 'r'"):
        stream.select("1 / n AS r").write_delta(tmp_path / "a", progress=False)
    # With the option, the query continues; and fewer than a hundred rows prove nothing.
    lenient = broker.read_stream("t", max_malformed=1.0, **read).select("1 / n AS r")
    lenient.write_delta(tmp_path / "g", progress=False)
    assert len(bayou.read_delta(tmp_path / "g_quarantine")) == 300
    at_hand = bayou.from_messages(['{"n":0}'] * 99, schema="n INT", on_malformed="drop")
    assert len(at_hand.select("1 / n AS r").collect()) == 0
    at_hand = bayou.from_messages(['{"n":0}'] * 300, schema="n INT", on_malformed="drop")
    with pytest.raises(bayou.ConfigError, match="300 of the last 300 rows fail: column 'r'"):
        at_hand.select("1 / n AS r").collect()
    # Where some rows pass, failing rows are counted and kept aside as ever.
    mixed = bayou.from_messages(['{"n":0}'] * 300 + ['{"n":1}'], schema="n INT", on_malformed="drop")
    assert len(mixed.select("1 / n AS r").collect()) == 1


def test_text_that_goes_deep_is_an_error_on_small_stacks_too() -> None:
    rows = bayou.from_batches(pa.table({"a": pa.array([1, 2], pa.int32())}))

    def work() -> None:
        assert len(rows.where("(" * 120 + "a" + ")" * 120 + " > 1").collect()) == 1
        assert len(rows.where(" OR ".join(f"a = {i}" for i in range(450))).collect()) == 2
        long = rows.select(" + ".join(["a"] * 1000) + " AS r")
        assert long.collect().to_dicts()[0] == {"r": 1000}
        del long
        for text in (
            "(" * 5000,
            " OR ".join(["a = 1"] * 20_000),
            "CAST(a AS " + "ARRAY<" * 20_000 + "INT" + ">" * 20_000 + ")",
        ):
            for dialect in ("databricks", "datafusion"):
                with pytest.raises(bayou.SchemaError):
                    rows.where(text, dialect=dialect)
        with pytest.raises(bayou.SchemaError, match="nested more than"):
            bayou.from_messages([], schema="a " + "ARRAY<" * 20_000 + "INT" + ">" * 20_000)
        table = pa.table({"a": [1, 2, 3000]})
        many = " OR ".join(f"a = {i}" for i in range(2000))
        assert bayou.sql(f"SELECT a FROM t WHERE {many}", t=table).to_dicts() == [{"a": 1}, {"a": 2}]
        for deep in (
            " OR ".join(f"a = {i}" for i in range(20_000)),
            " + ".join(["a"] * 20_000) + " > 1",
            "(" * 5000 + "a" + ")" * 5000,
        ):
            with pytest.raises(bayou.SchemaError):
                bayou.sql(f"SELECT a FROM t WHERE {deep}", t=table)

    on_a_small_stack(work)


def test_greatest_of_many_columns_is_typed_at_once() -> None:
    names = [f"c{i}" for i in range(200)]
    rows = bayou.from_batches(pa.table({n: pa.array([i], pa.int32()) for i, n in enumerate(names)}))
    begin = time.process_time()
    assert rows.select(f"greatest({', '.join(names)}) AS r").collect().to_dicts() == [{"r": 199}]
    assert time.process_time() - begin < 5
