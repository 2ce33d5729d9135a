"""A notebook of Delta Live Tables keeps its decorators, functions and names."""

from __future__ import annotations

import pathlib

import bayou
import pytest
from bayou import dlt

SCHEMA = "ip STRING, time TIMESTAMP, version STRING, model STRING, color STRING, heart_bpm INT, kcal INT"


def test_the_notebook_of_the_demo_is_ported_by_its_reader_and_expressions(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("fitness-tracker", partitions=2)
    events = bayou.simulate("fitness", rows=20_000, seed=3, columns=7)
    broker.produce("fitness-tracker", events, key="ip", progress=False)
    lake = dlt.pipeline("fitness", tmp_path / "lake")

    @dlt.table(comment="events as they came", table_properties={"pipelines.reset.allowed": "false"}, temporary=False)
    def events_raw():  # type: ignore[no-untyped-def]
        return broker.read_stream("fitness-tracker", schema=SCHEMA)

    @dlt.table(comment="pulses that can be", partition_cols=["model"])
    @dlt.expect_or_drop("heart rate is set", "bpm IS NOT NULL")
    @dlt.expect_or_drop("human has a pulse", "bpm > 0")
    @dlt.expect_or_fail("not from tomorrow", "time < current_timestamp() + INTERVAL 1 DAY")
    @dlt.expect("plausible", "bpm < 250")
    def bpm_cleansed():  # type: ignore[no-untyped-def]
        return dlt.read_stream("events_raw").select("time", "heart_bpm AS bpm", "model").where("model <> 'undef'")

    @dlt.table
    def bpm_global():  # type: ignore[no-untyped-def]
        return (
            dlt.read_stream("bpm_cleansed")
            .groupBy()
            .agg(
                "count(bpm) AS eventsTotal",
                "max(bpm) AS max",
                "min(bpm) AS min",
                "avg(bpm) AS avg",
                "stddev(bpm) AS stddev",
            )
        )

    @dlt.view
    def known_models():  # type: ignore[no-untyped-def]
        return dlt.read_stream("bpm_cleansed").filter("model IS NOT NULL")

    @dlt.table(name="bpm_per_minute")
    def per_minute():  # type: ignore[no-untyped-def]
        return (
            dlt.read_stream("known_models")
            .withWatermark("time", "10 seconds")
            .groupBy("window(time, '1 minute')", "model")
            .agg("count(*) AS n", "avg(bpm) AS average")
        )

    @dlt.table
    @dlt.expect_all_or_drop({"has a model": "model IS NOT NULL", "has events": "n > 0"})
    def events_by_model():  # type: ignore[no-untyped-def]
        return dlt.read_stream("bpm_cleansed").groupBy("model").agg("count(*) AS n")

    query = lake.run(progress=False)
    expected = events.to_pandas()
    expected = expected[(expected.heart_bpm > 0) & (expected.model != "undef")]
    total = lake.read("bpm_global").row(0)
    assert total["eventsTotal"] == len(expected) and total["max"] == expected.heart_bpm.max()
    assert total["stddev"] == pytest.approx(expected.heart_bpm.std())
    by_model = {row["model"]: row["n"] for row in lake.read("events_by_model")}
    assert by_model == expected.groupby("model").size().to_dict()
    rules = {(r["dataset"], r["name"]): r for r in query.expectations}
    assert rules["bpm_cleansed", "human has a pulse"]["failed_records"] > 0
    assert ("events_by_model", "has events") in rules
    assert sorted(lake.tables()) == ["bpm_cleansed", "bpm_global", "bpm_per_minute", "events_by_model", "events_raw"]
    import deltalake

    opened = deltalake.DeltaTable(tmp_path / "lake" / "bpm_cleansed")
    assert opened.metadata().partition_columns == ["model"] and opened.metadata().description == "pulses that can be"
    # The property of events_raw.
    for call in (lambda: lake.run(full_refresh=True), lambda: lake.reset(confirm=True)):
        with pytest.raises(bayou.ConfigError, match=r"events_raw has the property"):
            call()


def test_what_cannot_be_kept_is_refused_by_name(tmp_path: pathlib.Path) -> None:
    dlt._current.clear()
    with pytest.raises(bayou.ConfigError, match=r"dlt\.pipeline"):
        dlt.table(lambda: None)
    rows = bayou.from_batches({"a": [1, None]})
    lake = dlt.use(bayou.Pipeline("p", tmp_path))
    for option, says in [
        ("cluster_by", "partition_cols"),
        ("path", "root of the pipeline"),
        ("schema", "CAST"),
        ("whatever", "know"),
    ]:
        with pytest.raises(bayou.ConfigError, match=says):
            dlt.table(**{option: "x"})
    with pytest.warns(UserWarning, match="delta.appendOnly"):
        dlt.table(name="one", table_properties={"delta.appendOnly": "true", "quality": "gold"})(lambda: rows)
    for name in ("create_streaming_table", "append_flow", "create_sink"):
        with pytest.raises(AttributeError, match=name):
            getattr(dlt, name)
    with pytest.raises(bayou.ConfigError, match="update"):
        dlt.apply_changes(target="t")

    @dlt.table
    def wrong():  # type: ignore[no-untyped-def]
        return [1]

    with pytest.raises(TypeError, match="not a Stream"):
        lake.run(progress=False)


def test_views_are_not_written_and_their_rules_count(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"a": 1}, {"a": None}, {"a": 3}])
    lake = dlt.pipeline("views", tmp_path)

    @dlt.view(name="source")
    @dlt.expect_or_drop("is set", "a IS NOT NULL")
    def anything():  # type: ignore[no-untyped-def]
        return broker.read_stream("t", schema="a INT")

    @dlt.table(temporary=True)
    def between():  # type: ignore[no-untyped-def]
        return dlt.read("source").withColumn("b", "a * 2").withColumnRenamed("a", "c")

    @dlt.table
    def out():  # type: ignore[no-untyped-def]
        return dlt.read("between").select("b", "c")

    query = lake.run(progress=False)
    assert lake.tables() == ["out"]
    assert sorted(row["b"] for row in lake.read("out")) == [2, 6]
    assert [(r["dataset"], r["failed_records"]) for r in query.expectations] == [("source", 1)]

    # A property is that of the cell as it ran last, and streams of dlt go into the pipeline's methods.
    dlt.table(name="kept", table_properties={"pipelines.reset.allowed": "false"})(lambda: dlt.read("source"))
    with pytest.raises(bayou.ConfigError, match="kept"):
        lake.reset(confirm=True)
    dlt.table(name="kept")(lambda: dlt.read("source"))
    lake.reset(confirm=True)
    lake.foreach_batch("each", dlt.read("source"), lambda rows, epoch: None)
    assert "each" in lake._definitions

    # A view of the same name as a table replaces the table, and a cycle is reported.
    @dlt.view
    def out():  # type: ignore[no-untyped-def]  # noqa: F811
        return dlt.read("last")

    @dlt.table
    def last():  # type: ignore[no-untyped-def]
        return dlt.read("out")

    with pytest.raises(bayou.ConfigError, match="cycle"):
        lake.run(progress=False)
