"""Tables that come, go and change places between runs: no row goes to a different table, and no row is lost or doubled."""

from __future__ import annotations

import json
import pathlib
from datetime import datetime, timedelta, timezone
from typing import Any

import bayou
import deltalake
import pytest
from delta_replay import rows

START = datetime(2024, 1, 1, tzinfo=timezone.utc)
FOREVER = "1000 days"


def publish(broker: bayou.Connection, seconds: list[int], partition: int | None = None) -> None:
    events = [{"time": START + timedelta(seconds=s), "k": "a", "n": s} for s in seconds]
    broker.produce("t", events, partition=partition, progress=False)


def stream(broker: bayou.Connection, **options: Any) -> bayou.Stream:
    return broker.read_stream("t", schema="time TIMESTAMP, k STRING, n INT", **options)


def minutes(timed: bayou.Stream) -> bayou.Stream:
    return timed.group_by(bayou.window("time", "1 minute")).agg("count(*) AS c")


@pytest.mark.parametrize("second", [["fast", "slow"], ["slow", "fast"], ["slow"]])
def test_each_watermark_stays_its_tables_when_tables_change_places(
    broker: bayou.Connection, tmp_path: pathlib.Path, second: list[str]
) -> None:
    broker.create_topic("t")
    publish(broker, [60 * i for i in range(30)])

    def run(names: list[str]) -> None:
        lake = bayou.Pipeline("p", tmp_path)
        for name in names:
            delay = {"fast": "10 seconds", "slow": "1 hour"}[name]
            lake.table(name, minutes(stream(broker).with_watermark("time", delay, idle_timeout=FOREVER)))
        lake.run(progress=False)

    run(["fast", "slow"])
    publish(broker, [60 * 30 + 7200])
    run(second)
    assert len(rows(tmp_path / "slow")) == 30


def test_a_filled_table_has_every_window_that_the_others_have_closed(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t", partitions=2)
    timed = stream(broker).with_watermark("time", "10 seconds")
    publish(broker, [60 * i for i in range(100)], partition=0)
    lake = bayou.Pipeline("p", tmp_path)
    lake.table("a", minutes(timed))
    lake.run(progress=False)
    # A partition that was idle comes back with an old event: the filling's own watermark stays far behind.
    publish(broker, [60 * 50], partition=1)
    lake.run(progress=False)
    lake.table("b", minutes(timed.where("n >= 0")), start="earliest")
    lake.run(progress=False)
    for partition in (0, 1):
        publish(broker, [60 * 200], partition=partition)
    lake.run(progress=False)
    assert len(rows(tmp_path / "a")) == len(rows(tmp_path / "b")) == 100


def test_windows_over_an_old_tables_windows_can_be_filled_from_the_earliest_offset(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    publish(broker, [60 * i for i in range(200)])
    timed = stream(broker).with_watermark("time", "10 seconds", idle_timeout=FOREVER)
    per_minute = minutes(timed)
    lake = bayou.Pipeline("p", tmp_path)
    lake.table("a", per_minute)
    lake.run(progress=False)
    for _ in range(2):
        lake = bayou.Pipeline("p", tmp_path)
        hours = per_minute.group_by(bayou.window("window_end", "1 hour")).agg("sum(c) AS c")
        lake.table("b", hours, start="earliest")
        lake.table("a", per_minute)
        lake.run(progress=False)
        publish(broker, [60 * 240, 60 * 241])
    assert sorted(r["c"] for r in rows(tmp_path / "b")) == [20, 60, 60, 60]
    assert len(rows(tmp_path / "a")) == 200


def test_an_old_table_that_began_later_keeps_its_own_totals_beside_a_filled_one(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    publish(broker, list(range(10)))
    totals = stream(broker, starting_offsets="latest").group_by("k").agg("count(*) AS c")
    lake = bayou.Pipeline("p", tmp_path)
    lake.table("old", totals)
    lake.run(progress=False)
    publish(broker, list(range(10, 15)))
    lake.run(progress=False)
    for n in (20, 30):
        publish(broker, list(range(n, n + 5)))
        lake = bayou.Pipeline("p", tmp_path)
        lake.table("new", totals, start="earliest")
        lake.table("old", totals)
        lake.run(progress=False)
    assert [r["c"] for r in rows(tmp_path / "old")] == [15]
    assert [r["c"] for r in rows(tmp_path / "new")] == [25]


def test_a_table_that_was_left_out_is_not_filled_a_second_time(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    publish(broker, list(range(5)))

    def lake(*names: str, **options: Any) -> bayou.Pipeline:
        made = bayou.Pipeline("p", tmp_path)
        for name in names:
            made.table(name, stream(broker).where("n >= 0"), **(options if name == "b" else {}))
        return made

    lake("a", "b").run(progress=False)
    publish(broker, [5])
    lake("a").run(progress=False)
    with pytest.raises(bayou.ConfigError, match="would write those rows twice"):
        lake("a", "b", start="earliest").run(progress=False)
    publish(broker, [6])
    query = lake("a", "b", start="now").run(progress=False)
    assert any("left out after epoch 0" in w for w in query.warnings)
    assert sorted(r["n"] for r in rows(tmp_path / "b")) == [0, 1, 2, 3, 4, 6]


def test_a_filling_goes_on_when_one_of_its_tables_is_taken_back(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    publish(broker, list(range(100)))
    raw = stream(broker, max_offsets_per_trigger=10)
    lake = bayou.Pipeline("p", tmp_path)
    lake.table("a", raw)
    lake.run(progress=False)
    stopped: list[int] = []

    def stop(_: Any, epoch: int) -> None:
        stopped.append(epoch)
        if len(stopped) == 3:
            raise RuntimeError("enough")

    lake.table("b", raw.where("n >= 0"), start="earliest")
    lake.table("c", raw.where("n >= 1"), start="earliest")
    lake.foreach_batch("f", raw.where("n >= 2"), stop, start="earliest")
    with pytest.raises(bayou.FunctionError, match="enough"):
        lake.run(progress=False)
    # The function must take its epoch. Then the function and one of the tables are removed.
    lake.run(progress=False, trigger="1 hour", block=False).stop()
    rest = bayou.Pipeline("p", tmp_path)
    rest.table("a", raw)
    rest.table("c", raw.where("n >= 1"), start="earliest")
    rest.run(progress=False)
    assert sorted(r["n"] for r in rows(tmp_path / "c")) == list(range(1, 100))


def test_a_string_is_not_the_column_of_that_name(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"k": "model", "model": "x"}, {"k": "y", "model": "y"}], progress=False)
    raw = broker.read_stream("t", schema="k STRING, model STRING")
    lake = bayou.Pipeline("p", tmp_path)
    lake.table("text", raw.where("k = 'model'"))
    lake.table("column", raw.where("k = model"))
    lake.table("count", raw.group_by().agg("count_if(k = 'model') AS c"))
    lake.run(progress=False)
    assert [r["model"] for r in rows(tmp_path / "text")] == ["x"]
    assert [r["model"] for r in rows(tmp_path / "column")] == ["y"]
    lake.table("count", raw.group_by().agg("count_if(k = model) AS c"))
    broker.produce("t", [{"k": "z", "model": "z"}], progress=False)
    with pytest.raises(bayou.ConfigError, match="cannot be carried over"):
        lake.run(progress=False)


def test_a_column_that_is_never_null_may_be_added_to_a_table_that_has_rows(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    publish(broker, [1])
    stream(broker).write_delta(tmp_path / "r", progress=False)
    publish(broker, [2])
    more = stream(broker).with_columns("coalesce(n, 0) AS m")
    more.write_delta(tmp_path / "r", schema_mode="merge", progress=False)
    found = deltalake.DeltaTable(str(tmp_path / "r")).to_pyarrow_table().to_pylist()
    assert sorted((r["n"], r["m"]) for r in found) == [(1, None), (2, 2)]
    counts = stream(broker).group_by("n").agg("count(*) AS c")
    counts.write_delta(tmp_path / "u", output_mode="update", progress=False)
    publish(broker, [2])
    wider = counts.with_columns("c + 1 AS d")
    wider.write_delta(tmp_path / "u", output_mode="update", schema_mode="merge", progress=False)
    found = deltalake.DeltaTable(str(tmp_path / "u")).to_pyarrow_table().to_pylist()
    assert sorted((r["n"], r["c"], r["d"]) for r in found) == [(1, 1, None), (2, 2, 3)]


def test_state_files_stay_few_where_each_run_is_one_epoch(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t")
    totals = stream(broker).group_by("n").agg("count(*) AS c")
    for n in range(30):
        publish(broker, [n, 0])
        totals.write_delta(tmp_path / "u", output_mode="update", progress=False)
    newest = max((tmp_path / "u/_bayou").glob("*/*/epoch/*.json"))
    [state] = json.loads(newest.read_text())["state"].values()
    assert state["base"] and len(state["increments"]) < 25
    written = len(list((tmp_path / "u/_bayou").glob("*/*/state/*/*.arrow")))
    assert written == 30, "no file is written that nobody names"
    assert sorted(r["c"] for r in rows(tmp_path / "u")) == [1] * 29 + [31]


def test_small_files_are_joined_beside_the_stream(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t")
    publish(broker, list(range(60)))
    stream(broker, max_offsets_per_trigger=2).write_delta(tmp_path / "r", optimize_every=10, progress=False)
    publish(broker, [60])
    stream(broker).write_delta(tmp_path / "r", optimize_every=10, progress=False)
    table = deltalake.DeltaTable(str(tmp_path / "r"))
    assert len(table.file_uris()) < 15
    assert "OPTIMIZE" in {h["operation"] for h in table.history()}
    assert sorted(r["n"] for r in rows(tmp_path / "r")) == list(range(61))


@pytest.mark.parametrize(
    ("before", "after", "aggregate"),
    [
        ("INT", "BIGINT", "max(n)"),
        ("INT", "STRING", "count(DISTINCT n)"),
        ("DECIMAL(10,2)", "DECIMAL(10,3)", "max(n)"),
        ("DOUBLE", "DECIMAL(10,2)", "sum(n)"),
    ],
)
def test_a_changed_type_under_an_aggregate_is_said_with_both_types(
    broker: bayou.Connection, tmp_path: pathlib.Path, before: str, after: str, aggregate: str
) -> None:
    broker.create_topic("types")
    broker.produce("types", [{"n": 1}], progress=False)

    def write(ddl: str) -> bayou.Query:
        stream = broker.read_stream("types", schema=f"n {ddl}")
        grouped = stream.group_by().agg(f"CAST({aggregate} AS STRING) AS r")
        return grouped.write_delta(tmp_path / "t", output_mode="update", progress=False)

    write(before)
    broker.produce("types", [{"n": 2}], progress=False)
    with pytest.raises(bayou.ConfigError, match="(have changed|has changed, and its state)") as caught:
        write(after)
    said = str(caught.value)
    assert "damaged" not in said and "full_refresh=True" in said, said
    write(before)
    assert len(bayou.read_delta(tmp_path / "t")) == 1
