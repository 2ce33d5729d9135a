"""What an error advises is typed here, and does what the error says."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable
from typing import Any

import bayou
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3
from deltalake import convert_to_deltalake


def said(call: Callable[[], Any], kind: type[BaseException] = bayou.BayouError) -> str:
    with pytest.raises(kind) as failed:
        call()
    return str(failed.value)


def test_offsets_behind_the_end_are_no_data_loss(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t", partitions=2)
    broker.produce("t", [{"a": n} for n in range(10)], partition=0, progress=False)

    def stream(offset: int) -> bayou.Stream:
        return broker.read_stream("t", schema="a INT", starting_offsets={"t": {0: offset, 1: 0}})

    for call in (stream(99).collect, lambda: stream(99).write_delta(tmp_path / "t", progress=False)):
        text = said(call, bayou.ConfigError)
        assert "t[0] ends at 10" in text and "99" in text and "up to 10, or -1" in text
    for right in (10, -1):
        assert len(stream(right).collect()) == 0
    query = stream(10).write_delta(tmp_path / "t", progress=False)
    broker.produce("t", [{"a": 10}], partition=0, progress=False)
    stream(10).write_delta(tmp_path / "t", progress=False)
    assert bayou.read_delta(tmp_path / "t").column("a") == [10] and query.exception() is None


def test_what_is_no_list_of_topics_is_told_as_such(broker: bayou.Connection) -> None:
    for name in ("a", "b", "x1", "x2"):
        broker.create_topic(name)
    assert "'a' twice" in said(lambda: broker.read_stream(["a", "a"], schema="a INT"), bayou.ConfigError)
    text = said(lambda: broker.read_stream("a,b", schema="a INT"), bayou.ConfigError)
    advised = re.search(r"read_stream\((\[.*?\])\)", text)
    assert advised and len(broker.read_stream(eval(advised[1]), schema="a INT").collect()) == 0
    for pattern in ("^x.*", "x.*", "x[0-9]"):
        text = said(lambda pattern=pattern: broker.read_stream(pattern, schema="a INT"), bayou.ConfigError)
        advised = re.search(r"read_stream\(subscribe_pattern=(\".*\")\)", text)
        assert advised
        stream = broker.read_stream(subscribe_pattern=eval(advised[1]), schema="a INT", include_metadata=True)
        assert stream.collect() is not None
    assert "letters, digits" in said(lambda: broker.read_stream("a b", schema="a INT"), bayou.ConfigError)


def test_options_of_other_clients_are_told_where_they_belong(
    kafka: bayou.Connection, topic: Callable[..., str]
) -> None:
    name_of_topic = topic()

    def options(name: str) -> str:
        given = {"subscribe": name_of_topic, name: "x"}
        return said(lambda: kafka.read_stream(options=given), bayou.ConfigError)

    assert "only committed messages are read. Leave it out" in options("kafka.isolation.level")
    assert "use starting_offsets" in options("kafka.auto.offset.reset")
    text = options("kafka.sasl.jaas.config")
    assert "PlainLoginModule required" in text and '"x"' not in text
    for which in ("starting", "ending"):
        text = options(f"{which}OffsetsByTimestamp")
        assert '{"topic": {"0": 1700000000000}}' in text
        kafka.read_stream(options={"subscribe": name_of_topic, f"{which}Timestamp": 1700000000000}).collect()
    assert 'bayou.connect({"client.id": …})' in options("kafka.client.id")


def test_types_of_arrow_that_are_no_types_here_name_one_that_is() -> None:
    for arrow, advised in [
        (pa.uint64(), "DECIMAL(20, 0)"),
        (pa.uint32(), "BIGINT"),
        (pa.uint16(), "INT"),
        (pa.uint8(), "SMALLINT"),
        (pa.time64("us"), "STRING"),
        (pa.time32("s"), "STRING"),
    ]:
        made = lambda arrow=arrow: bayou.from_messages(["{}"], schema=pa.schema([("a", arrow)]))  # noqa: E731
        try:
            made()
        except bayou.SchemaError as error:
            assert advised in str(error), error
        bayou.from_messages(["{}"], schema=f"a {advised}").collect()
    for empty, advised in [
        ("STRUCT<>", "STRUCT<a: INT>"),
        ("STRUCT<>", "MAP<STRING, STRING>"),
        ("ARRAY<>", "ARRAY<STRING>"),
        ("MAP<>", "MAP<STRING, STRING>"),
    ]:
        assert advised in said(lambda empty=empty: bayou.from_messages([], schema=f"a {empty}"), bayou.SchemaError)
        bayou.from_messages(["{}"], schema=f"a {advised}").collect()


def test_a_target_that_cannot_be_a_table_is_told_so(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"a": 1}], progress=False)
    stream = broker.read_stream("t", schema="a INT")
    file = tmp_path / "file"
    file.write_text("x")
    for target in (file, file / "below"):
        text = said(lambda target=target: stream.write_delta(target, progress=False), bayou.ConfigError)
        assert "is a file" in text and "Name a different folder" in text
    # Foreign files are not taken into a table that does not name them: VACUUM would delete them.
    for names in (["old.parquet"], ["day=1/old.parquet"], ["2024/01/old.parquet"]):
        folder = tmp_path / re.sub("[=/]", "-", names[0])
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table({"a": pa.array([7], pa.int32())}), folder / name)
        text = said(lambda folder=folder: stream.write_delta(folder, progress=False), bayou.ConfigError)
        assert "old.parquet" in text and "convert_to_deltalake" in text
        assert not (folder / "_delta_log").exists() and (folder / names[0]).exists()
    convert_to_deltalake(str(tmp_path / "old.parquet"))
    stream.write_delta(tmp_path / "old.parquet", query_name="converted", progress=False)
    assert sorted(bayou.read_delta(tmp_path / "old.parquet").column("a")) == [1, 7]
    # A table below a different table is not foreign.
    stream.write_delta(tmp_path / "lake" / "inner", progress=False)
    stream.write_delta(tmp_path / "lake", progress=False)


def test_a_stores_answer_is_a_remedy_and_no_xml(broker: bayou.Connection) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"a": 1}], progress=False)
    stream = broker.read_stream("t", schema="a INT")
    with s3.bucket() as bucket:
        write = lambda options, name="lake": stream.write_delta(  # noqa: E731
            f"s3://{name}/t", storage_options=options, progress=False
        )
        text = said(lambda: write(bucket.options, "nowhere"))
        assert "The bucket does not exist. Create it" in text and "<" not in text, text
        bucket.client.create_bucket(Bucket="nowhere")
        write(bucket.options, "nowhere")
        nameless = {k: v for k, v in bucket.options.items() if "key" not in k}
        text = said(lambda: write({**nameless, "aws_metadata_endpoint": "http://127.0.0.1:9"}))
        assert 'storage_options={"aws_access_key_id": …, "aws_secret_access_key": …}' in text, text
        write(bucket.options)
        assert bayou.read_delta("s3://lake/t", storage_options=bucket.options).column("a") == [1]


def test_functions_that_do_not_exist_are_no_riddle() -> None:
    rows = bayou.from_batches({"a": [1], "s": ["x"]})
    text = lambda expression: said(lambda: rows.select(f"{expression} AS x"), bayou.SchemaError)  # noqa: E731
    for name in (
        "from_csv",
        "xpath",
        "aes_encrypt",
        "sentences",
        "variant_get",
        "hll_sketch_agg",
        "conv",
        "map",
        "flatten",
    ):
        assert "Did you mean" not in text(f"{name}(s)"), name
    assert "Did you mean 'upper'?" in text("uper(s)")
    assert "Did you mean 'substring'?" in text("substing(s, 1)")
    assert "Did you mean 'date_trunc'?" in text("datetrunc('day', s)")
    # DataFusion is named where it has the function, and then it has.
    assert "dialect" not in text("nonsense(s)") and "dialect" not in text("aes_encrypt(s)")
    assert 'dialect="datafusion"' in text("to_hex(a)")
    assert rows.select("to_hex(a) AS x", dialect="datafusion").collect().column("x") == ["1"]


def test_words_of_spark_and_pandas_are_answered_with_what_to_type(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"bpm": 1}, {"bpm": 2}], progress=False)
    stream = broker.read_stream("t", schema="bpm INT")
    target = tmp_path / "t"
    text = said(lambda: stream.write_delta(target, mode="overwrite"), TypeError)
    assert "full_refresh=True" in text and 'output_mode="complete"' in text
    stream.write_delta(target, progress=False)
    stream.write_delta(target, full_refresh=True, progress=False)
    assert len(bayou.read_delta(target)) == 2
    lake = bayou.Pipeline("advice", tmp_path / "lake")
    lake.table("t", stream)
    assert "lake.run(full_refresh=True)" in said(lambda: lake.run(mode="overwrite"), TypeError)
    assert "lake.table(" in said(lambda: lake.run(mode="append"), TypeError)
    lake.run(progress=False)
    lake.run(full_refresh=True, progress=False)
    lake.table("again", stream, output_mode="append")
    text = said(lambda: stream.withColumn("x", "bpm * 2"), AttributeError)
    assert 'with_columns("expression AS name")' in text
    text = said(lambda: stream.with_columns("x", "bpm * 2"), bayou.SchemaError)
    assert 'with_columns(x="bpm * 2")' in text
    assert stream.with_columns(x="bpm * 2").collect().column("x") == [2, 4]
    assert stream.with_columns("bpm * 2 AS x").collect().column("x") == [2, 4]


def test_a_table_that_is_used_as_a_list_or_a_frame_says_what_to_write() -> None:
    table = bayou.from_batches({"bpm": [1, 2, 3]}).collect()
    assert table.row(0) == table[0] == {"bpm": 1} and list(table) == table.to_dicts()
    assert "a slice of rows" in said(lambda: table[0.5], TypeError)  # type: ignore[call-overload]
    assert "'bpm' in table.columns" in said(lambda: "bpm" in table, TypeError)
    assert "bpm" in table.columns and 2 in table["bpm"] and len(table.to_dicts()) == 3
    assert table.row(-1) == {"bpm": 3}
    for beyond in (3, -4):
        assert f"no row {beyond}: the table has 3" in said(lambda beyond=beyond: table.row(beyond), IndexError)
    stream = bayou.from_batches({"bpm": [1, 2, 3]})
    for call in (
        lambda: stream.collect(-1),
        lambda: stream.collect(limit=-1),
        lambda: stream.batches(limit=-5),
        lambda: stream.preview(-1),
        lambda: table.to_dicts(-1),
    ):
        assert "is not a number of rows" in said(call, bayou.ConfigError)
    assert len(stream.collect(limit=0)) == 0 and len(stream.collect(limit=2)) == 2


def test_an_exception_of_a_users_function_is_the_cause_of_the_querys_error(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"a": 1}], progress=False)
    stream = broker.read_stream("t", schema="a INT")
    broke = KeyError("the user's own")

    def fails(rows: object, epoch: int = 0) -> None:
        raise broke

    def ends(rows: object) -> None:
        raise end

    end = SystemExit("early")
    with pytest.raises(bayou.FunctionError, match="'q' failed for epoch 0: KeyError") as failed:
        stream.foreach_batch(fails, query_name="q", checkpoint_location=str(tmp_path / "c"), progress=False)
    assert failed.value.__cause__ is broke
    query = failed.value.query
    assert query.exception().__cause__ is broke, "as often as it is asked for"
    mapped = stream.map_batches(ends, schema="a INT")
    for call in (mapped.collect, lambda: mapped.write_delta(tmp_path / "t", progress=False)):
        with pytest.raises(bayou.FunctionError) as failed:
            call()
        assert failed.value.__cause__ is end
    lake = bayou.Pipeline("causes", tmp_path / "lake")
    lake.table("t", mapped)
    with pytest.raises(bayou.FunctionError) as failed:
        lake.run(progress=False)
    assert failed.value.__cause__ is end
    live = mapped.write_delta(tmp_path / "live", trigger="0 seconds", block=False)
    with pytest.raises(bayou.FunctionError) as failed:
        live.await_termination(20)
    assert failed.value.__cause__ is end


def test_a_name_that_is_twice_in_a_result_is_refused_where_a_column_is_chosen_by_it() -> None:
    stream = bayou.from_messages(['{"n":1}'], schema="n INT")
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"])
    with pytest.raises(bayou.MalformedError, match="the column 'n' twice"):
        stream.map_batches(lambda _: twice).collect()
    frame = pd.DataFrame([[1, 2]], columns=["n", "n"])
    with pytest.raises((bayou.BayouError, ValueError), match="'n'"):
        stream.map_batches(lambda _: frame, input="pandas").collect()
    inside = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], fields=[pa.field("x", pa.int64())] * 2)
    struct = pa.Table.from_arrays([inside], names=["s"])
    with pytest.raises(bayou.BayouError, match="the field 'x' twice"):
        stream.map_batches(lambda _: struct, "s STRUCT<x: BIGINT>").collect()
    with pytest.raises(bayou.SchemaError, match="n"):
        bayou.from_batches(twice).select("n")


def test_words_of_spark_and_deltalake_are_answered_with_bayous_and_with_the_place_where_to_say_them(
    tmp_path: pathlib.Path,
) -> None:
    stream = bayou.from_messages(['{"n":1}'], schema="n INT")
    lake = bayou.Pipeline("p", tmp_path)
    table: Callable[..., object] = lambda **more: lake.table("t", stream, **more)  # noqa: E731
    for call, word, says in [
        (lake.run, "checkpointLocation", 'Pipeline("name", root, checkpoint_location=…)'),
        (lake.run, "checkpoint_location", 'Pipeline("name", root, checkpoint_location=…)'),
        (lake.run, "partition_columns", 'lake.table("name", stream, partition_by=…)'),
        (lake.run, "output_mode", 'lake.table("name", stream, output_mode=…)'),
        (lake.run, "processingTime", "Here it is called trigger"),
        (lake.run, "startingOffsets", 'read_stream("topic", starting_offsets=…)'),
        (table, "partition_columns", "Here it is called partition_by"),
        (table, "partition_cols", "Here it is called partition_by"),
        (table, "trigger", "lake.run(trigger=…)"),
        (table, "checkpointLocation", 'Pipeline("name", root, checkpoint_location=…)'),
        (stream.collect, "outputMode", "Here it is called output_mode"),
        (stream.collect, "limitt", "Did you mean 'limit'?"),
    ]:
        with pytest.raises(TypeError) as e:
            call(**{word: "x"})
        assert says in str(e.value) and f"no argument '{word}'" in str(e.value), e.value


def test_methods_of_spark_and_wrong_arguments_are_told_what_to_write_when_the_line_is_typed(
    tmp_path: pathlib.Path,
) -> None:
    stream = bayou.from_messages(['{"n":1,"a":[]}'], schema="n INT, a ARRAY<INT>")
    for word, says in [
        ("dropDuplicates", "drop_duplicates("),
        ("selectExpr", "called select"),
        ("limit", "preview(20)"),
        ("orderBy", "ORDER BY"),
        ("count", "count(*)"),
        ("mapInPandas", "map_batches"),
        ("foreachBatch", "foreach_batch"),
    ]:
        assert says in said(lambda word=word: getattr(stream, word), AttributeError)  # type: ignore[misc]
    assert 'agg(n="sum(n)")' in said(lambda: stream.group_by().agg({"n": "sum"}))  # type: ignore[arg-type]
    assert "size" in said(lambda: bayou.window("t", True))
    assert "'with space' cannot name a table" in said(lambda: bayou.Pipeline("p", tmp_path).table("with space", stream))
    assert "get(array, index)" in said(lambda: stream.select("a[0] AS x").collect())
    assert stream.select("get(a, 0) AS x", "try_element_at(a, 1) AS y").collect().to_dicts() == [{"x": None, "y": None}]
