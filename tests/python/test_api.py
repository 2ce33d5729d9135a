"""What users type: the right thing works, the wrong thing is refused with the right word."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import bayou
import pandas as pd
import pyarrow as pa
import pytest

MESSAGES = ['{"a": 1, "s": "x"}', '{"a": 2}', '{"a": "no"}', None, b'{"a": 3.0, "u": [1]}']


def test_an_unset_variable_never_reads_an_empty_broker() -> None:
    for nothing in (None, "", {}):
        with pytest.raises(bayou.ConfigError):
            bayou.connect(nothing)


def test_an_unreachable_broker_is_named_within_ten_seconds() -> None:
    began = time.monotonic()
    with pytest.raises(bayou.ConnectionError, match=r"127\.0\.0\.1:1"):
        bayou.connect("127.0.0.1:1")
    assert time.monotonic() - began < 10
    with pytest.raises(bayou.BayouError) as caught:
        bayou.connect(
            {
                "bootstrap.servers": "127.0.0.1:1",
                "security.protocol": "SASL_PLAINTEXT",
                "sasl.mechanism": "PLAIN",
                "sasl.username": "u",
                "sasl.password": "hunter2",
            }
        )
    assert "hunter2" not in str(caught.value)


def test_messages_at_hand_are_decoded_as_from_a_topic() -> None:
    with pytest.raises(bayou.MalformedError, match=r"offset 2: field 'a'"):
        bayou.from_messages(MESSAGES, schema="a INT, s STRING").collect()
    stream = bayou.from_messages(MESSAGES, schema="a INT, s STRING", on_malformed="drop")
    assert stream.collect().to_dicts() == [{"a": 1, "s": "x"}, {"a": 2, "s": None}, {"a": 3, "s": None}]
    rows = bayou.from_messages(
        MESSAGES, schema="a INT", on_malformed="drop", on_tombstone="null_row", include_metadata=True
    ).collect()
    assert [(r["a"], r["_offset"]) for r in rows.to_dicts()] == [(1, 0), (2, 1), (None, 3), (3, 4)]
    preview = bayou.from_messages(MESSAGES, schema="a INT", on_malformed="quarantine").preview()
    assert len(preview) == 3 and "a string that is not a number" in preview.malformed.to_dicts()[0]["error"]


def test_expectations_are_checked_on_rows_at_hand() -> None:
    frame = pd.DataFrame({"bpm": [60, 0, None, 300], "model": ["a", "b", "undef", "d"]})
    found = (
        bayou.from_batches(frame)
        .expect_all_or_drop({"set": "bpm IS NOT NULL", "pulse": "bpm > 0"})
        .expect_or_fail("known", "model <> 'undef'")
        .validate()
    )
    assert {r["name"]: r["failed_records"] for r in found.expectations.to_dicts()} == {"set": 1, "pulse": 2, "known": 1}
    assert not found.passed and found.rows_in == 4
    assert {r["name"]: r["action"] for r in found.expectations.to_dicts()}["known"] == "fail"
    assert bayou.from_batches([{"a": 1}, {"a": 2, "b": "x"}]).collect().to_dicts()[1] == {"a": 2, "b": "x"}
    with pytest.raises(bayou.ExpectationError, match="'known'"):
        found.raise_for_expectations("known")
    with pytest.raises(bayou.ConfigError, match="Did you mean 'pulse'"):
        found.raise_for_expectations("pulze")


def test_wrong_names_fail_when_the_line_is_typed() -> None:
    stream = bayou.from_batches(pa.table({"bpm": [1], "Model": ["a"]}))
    with pytest.raises(bayou.SchemaError, match="Did you mean 'bpm'"):
        stream.select("bmp")
    with pytest.raises(bayou.SchemaError, match="avg"):
        stream.group_by().agg("avgg(bpm)")
    with pytest.raises(bayou.SchemaError, match="BOOLEAN"):
        stream.where("bpm + 1")
    with pytest.raises(bayou.SchemaError, match="TIMESTAMP"):
        stream.with_watermark("bpm", "1 minute")
    with pytest.raises(bayou.ConfigError, match="watermark"):
        bayou.from_batches(pa.table({"t": pa.array([datetime.now(timezone.utc)])})).group_by(
            bayou.window("t", "1 minute")
        ).agg("count(*) AS n").collect(output_mode="append")
    assert stream.select("MODEL").columns == ["MODEL"] or stream.select("MODEL").columns == ["Model"]


def test_near_misses_are_told_the_right_word(broker: bayou.Connection) -> None:
    broker.create_topic("fitness")
    with pytest.raises(bayou.TopicError, match="fitness"):
        broker.read_stream("fitnes", schema="a INT")
    stream = broker.read_stream("fitness", schema="a INT")
    with pytest.raises(TypeError, match="output_mode"):
        stream.write_delta("/tmp/never", mode="append")
    with pytest.raises(AttributeError, match="group_by"):
        stream.groupBy("a")
    with pytest.raises(TypeError, match="batches"):
        iter(stream)
    with pytest.raises(bayou.ConfigError, match="at least 1"):
        broker.read_stream("fitness", schema="a INT", max_offsets_per_trigger=0)
    with pytest.raises(bayou.ConfigError, match="available_now"):
        stream.write_delta("/tmp/never", trigger="availableNow")
    with pytest.raises(bayou.ConfigError, match="complete"):
        stream.group_by("a").agg("count(*) AS n").write_delta("/tmp/never", output_mode="append")
    with pytest.raises(bayou.ConfigError, match="Catalog"):
        stream.write_delta("main.default.t")
    with pytest.raises(bayou.StorageError, match="Volumes"):
        stream.write_delta("/Volumes/main/default/v/t")
    with pytest.raises(bayou.SchemaError, match="AS"):
        stream.group_by().agg("count(a)").write_delta("/tmp/never")
    with pytest.raises(bayou.ConfigError, match="time zone"):
        broker.read_stream("fitness", schema="a INT", starting_offsets=datetime(2024, 1, 1))
    with pytest.raises(bayou.ConfigError, match=r"fitness\[0\] is missing|every partition"):
        broker.read_stream("fitness", schema="a INT", starting_offsets={"fitness": {}}).collect()


def test_sparks_spelling_of_options_is_taken(broker: bayou.Connection) -> None:
    broker.create_topic("t", partitions=2)
    broker.produce("t", [{"a": i} for i in range(10)], partition=1, progress=False)
    options = {
        "subscribe": "t",
        "startingOffsets": '{"t": {"0": -2, "1": 4}}',
        "failOnDataLoss": "false",
        "kafka.bootstrap.servers": broker.address,
    }
    assert [r["a"] for r in broker.read_stream(options=options, schema="a INT").collect().to_dicts()] == [
        4,
        5,
        6,
        7,
        8,
        9,
    ]
    raw = broker.read_stream(options={"subscribe": "t"})
    assert raw.columns == ["key", "value", "topic", "partition", "offset", "timestamp", "timestampType", "headers"]
    with pytest.raises(bayou.ConfigError, match="starting"):
        broker.read_stream(options={"subscribe": "t", "startingOffset": "earliest"})


def test_offsets_in_every_spelling(kafka: bayou.Connection, topic) -> None:  # type: ignore[no-untyped-def]
    name = topic(1)
    start = datetime(2024, 5, 1, tzinfo=timezone.utc)
    kafka.produce(name, [{"a": i, "t": start + timedelta(seconds=i)} for i in range(10)], timestamp="t", progress=False)

    def read(**options: object) -> list[int]:
        return [r["a"] for r in kafka.read_stream(name, schema="a INT", **options).collect().to_dicts()]  # type: ignore[arg-type]

    assert read() == list(range(10))
    assert read(starting_offsets="latest") == []
    assert read(starting_offsets=start + timedelta(seconds=4)) == [4, 5, 6, 7, 8, 9]
    assert read(starting_offsets={name: {0: 7}}) == [7, 8, 9]
    assert read(starting_offsets={name: {0: 2}}, ending_offsets={name: {0: 5}}) == [2, 3, 4]
    assert read(ending_offsets=start + timedelta(seconds=3)) == [0, 1, 2]


def test_small_calls_of_produce_are_quick_and_count_their_own_rows(
    kafka: bayou.Connection, topic: Callable[..., str]
) -> None:
    to = topic(2)
    kafka.produce(to, [{"n": -1}], progress=False)
    seconds = []
    for n in range(20):
        began = time.perf_counter()
        report = kafka.produce(to, [{"n": n}], progress=False)
        seconds.append(time.perf_counter() - began)
        assert (report.rows, report.delivered, report.failed) == (1, 1, 0)
    # 20 ms are promised, a new producer takes 500.
    assert sorted(seconds)[10] < 0.2, seconds
    # Other settings, a call that fails, and calls at once do not share what they count.
    assert kafka.produce(to, [{"n": 20}], acks="1", progress=False).delivered == 1
    with pytest.raises(bayou.BayouError):
        kafka.produce(to, [{"n": 21}, object()], progress=False)
    with ThreadPoolExecutor(6) as pool:
        reports = list(pool.map(lambda n: kafka.produce(to, [{"n": 22 + n}] * (n + 1), progress=False), range(12)))
    assert [r.delivered for r in reports] == list(range(1, 13))
    rows = kafka.read_stream(to, schema="n INT", starting_offsets="earliest").collect().to_dicts()
    found = Counter(row["n"] for row in rows)
    assert found == Counter({n: 1 for n in range(-1, 22)} | {22 + n: n + 1 for n in range(12)})


def test_what_is_published_is_read_back_the_same(broker: bayou.Connection) -> None:
    table = pa.table(
        {
            "i": pa.array([1, None], pa.int64()),
            "d": pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)),
            "t": pa.array(
                [datetime(2024, 1, 1, 12, 0, 0, 123456, tzinfo=timezone.utc), None], pa.timestamp("us", "UTC")
            ),
            "b": pa.array([b"\x00\xff", None]),
            "s": pa.array(['q"\\é\n', None]),
            "f": pa.array([0.1, None]),
            "l": pa.array([[1, None], None], pa.list_(pa.int32())),
        }
    )
    ddl = "i BIGINT, d DECIMAL(9,2), t TIMESTAMP, b BINARY, s STRING, f DOUBLE, l ARRAY<INT>"
    for topic, rows in (("arrow", table), ("dicts", table.to_pylist()), ("batch", table.to_batches()[0])):
        broker.create_topic(topic)
        report = broker.produce(topic, rows, progress=False)
        assert (report.rows, report.delivered, report.failed) == (2, 2, 0)
        assert broker.read_stream(topic, schema=ddl).collect().to_dicts() == table.to_pylist()
    exact = Decimal("123456789012345678.10")
    broker.create_topic("exact")
    broker.produce("exact", [{"d": exact, "v": b"{}"}], progress=False)
    broker.produce("exact", [{"v": None}, {"v": '{"d": 1}'}], value="v", progress=False)
    assert [r["d"] for r in broker.read_stream("exact", schema="d DECIMAL(20,2)").collect().to_dicts()] == [
        exact,
        Decimal(1),
    ]
    broker.create_topic("pandas")
    broker.produce("pandas", pd.DataFrame({"a": [1, 2]}), key="a", headers={"h": "v"}, progress=False)
    [row, _] = broker.read_stream("pandas", format="raw").collect().to_dicts()
    assert (row["key"], row["value"], row["headers"]) == (b"1", b'{"a":1}', [{"key": "h", "value": b"v"}])


def test_tables_go_to_arrow_pandas_and_polars() -> None:
    table = bayou.from_batches(
        pa.table({"i": pa.array([1, None], pa.int32()), "j": [1, 2], "s": ["x", None]})
    ).collect()
    frame = table.to_pandas()
    assert (
        str(frame["i"].dtype) == "Int32"
        and str(frame["j"].dtype) == "int64"
        and frame["i"].isna().tolist() == [False, True]
    )
    assert pa.table(table).num_rows == len(table) == 2
    assert table.to_polars()["s"].to_list() == ["x", None]
    assert table.schema.ddl == "i INT, j BIGINT, s STRING" and "NULL" in table._repr_html_()


def test_equal_streams_are_one_stream_and_streams_tell_what_they_are(broker: bayou.Connection) -> None:
    broker.create_topic("t")
    make = lambda: broker.read_stream("t", schema="a INT").where("a > 1").named("n")  # noqa: E731
    assert make() == make() and hash(make()) == hash(make())
    assert "a > 1" in repr(make()) and "read t as json" in make().explain()
    both = make().union(broker.read_stream("t", schema="a INT"))
    broker.produce("t", [{"a": i} for i in range(4)], progress=False)
    assert sorted(r["a"] for r in both.collect().to_dicts()) == [0, 1, 2, 2, 3, 3]


def test_iterators_by_limit_timeout_batch_rows_and_trigger(broker: bayou.Connection) -> None:
    broker.create_topic("t", partitions=2)
    broker.produce("t", [{"a": i} for i in range(1000)], progress=False)
    stream = broker.read_stream("t", schema="a INT")
    assert [len(b) for b in stream.batches(batch_rows=300)] == [300, 300, 300, 100]
    assert sum(len(b) for b in stream.batches(limit=250)) == 250
    assert sum(len(f) for f in stream.pandas_batches()) == 1000
    began = time.monotonic()
    assert sum(len(b) for b in stream.batches(trigger="100 ms", timeout="1 second")) == 1000
    assert 0.9 < time.monotonic() - began < 10
    counts = stream.group_by().agg("count(*) AS n")
    seen = []
    for frame in counts.pandas_batches(trigger="100 ms", output_mode="complete", timeout=30):
        seen.append(int(frame["n"][0]))
        if len(seen) == 3:
            break
        broker.produce("t", [{"a": 0}] * 10, progress=False)
    assert seen[0] <= 1010 and seen == sorted(seen) and len(seen) == 3


def test_a_named_iterator_goes_on_where_it_was_left(broker: bayou.Connection, tmp_path) -> None:  # type: ignore[no-untyped-def]
    broker.create_topic("t")
    broker.produce("t", [{"a": i} for i in range(5)], progress=False)
    stream = broker.read_stream("t", schema="a INT")
    read = lambda: [r["a"] for b in stream.batches(name="it", checkpoint_location=str(tmp_path)) for r in b.to_dicts()]  # noqa: E731
    assert read() == [0, 1, 2, 3, 4]
    broker.produce("t", [{"a": 5}], progress=False)
    assert read() == [5]
    broker.produce("t", [{"a": i} for i in range(6, 9)], progress=False)
    [cut] = [b["a"] for b in stream.batches(name="it", checkpoint_location=str(tmp_path), limit=1)]
    assert cut == [6] and read() == [6, 7, 8], "at least once: what the limit cut off comes again"


def test_the_pipelines_tables_are_there_for_a_kernel_that_defined_nothing(broker: bayou.Connection, tmp_path) -> None:  # type: ignore[no-untyped-def]
    broker.create_topic("t")
    broker.produce("t", [{"a": i, "m": "xy"[i % 2]} for i in range(10)], progress=False)
    lake = bayou.Pipeline("p", str(tmp_path))
    rows = broker.read_stream("t", schema="a INT, m STRING")

    @lake.table
    def all_rows() -> bayou.Stream:
        return rows

    @lake.table("by_m", comment="per letter")
    def counted() -> bayou.Stream:
        return lake.read_stream("all_rows").group_by("m").agg("count(*) AS n", total="sum(a)")

    lake.run(progress=False)
    other = bayou.Pipeline("p", str(tmp_path))
    assert other.tables() == ["all_rows", "by_m"]
    assert other.sql("SELECT m, n, total FROM by_m ORDER BY m").to_dicts() == [
        {"m": "x", "n": 5, "total": 20},
        {"m": "y", "n": 5, "total": 25},
    ]
    assert len(other.read("all_rows")) == 10
    with pytest.raises(bayou.StorageError, match="by_m"):
        other.read("by_n")

    @lake.table(name="again")
    def from_a_complete_table() -> bayou.Stream:
        return lake.read_stream("by_m")

    with pytest.raises(bayou.ConfigError, match="complete"):
        lake.run(progress=False)
    del lake._definitions["again"]

    @lake.table
    def loop() -> bayou.Stream:
        return lake.read_stream("loop")

    with pytest.raises(bayou.ConfigError, match="loop -> loop"):
        lake.run(progress=False)


INTERRUPT = """
import os, signal, threading, time, bayou
with bayou.testing.broker() as kafka:
    kafka.create_topic("t")
    stream = kafka.read_stream("t", schema="a INT")
    for what in ("batches", "write"):
        pressed = []
        def press():
            time.sleep(0.7)
            pressed.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)
        threading.Thread(target=press).start()
        try:
            if what == "batches":
                for _ in stream.batches(trigger="1 second"):
                    pass
            else:
                stream.write_delta(os.path.join(kafka.scratch_dir, "t"), trigger="1 second", progress=False)
        except KeyboardInterrupt:
            print("answered", what, round((time.monotonic() - pressed[0]) * 1000), flush=True)
    kafka.produce("t", [{"a": 1}], progress=False)
    print("usable", stream.collect().to_dicts(), flush=True)
"""


def test_the_stop_button_is_answered_at_once_and_the_kernel_stays_usable() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPT], capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    assert lines[-1] == "usable [{'a': 1}]", done.stderr
    for line, what in zip(lines, ("batches", "write"), strict=False):
        assert line.startswith(f"answered {what}"), done.stdout
        assert int(line.split()[-1]) < 2500, "ten times the promise of 250 ms"


def test_a_forked_child_gets_an_error_and_not_a_crash(broker: bayou.Connection) -> None:
    code = "import os, bayou\nk = bayou.connect(name='forked')\npid = os.fork()\nif pid == 0:\n    try:\n        k.topics()\n    except bayou.ConfigError as e:\n        os._exit(7 if 'fork' in str(e) else 8)\n    os._exit(9)\nprint(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "7", done.stderr


def test_three_processes_share_the_embedded_broker_and_it_is_gone_afterwards() -> None:
    name = f"shared-{time.monotonic_ns()}"
    write = f"import bayou; k = bayou.connect(name='{name}'); k.create_topic('t', exist_ok=True); k.produce('t', [{{'a': 1}}], progress=False); print(k.cluster_id)"
    kafka = bayou.connect(name=name)
    ids = {
        subprocess.run([sys.executable, "-c", write], capture_output=True, text=True, timeout=60).stdout.strip()
        for _ in range(2)
    }
    assert ids == {kafka.cluster_id}
    assert len(kafka.read_stream("t", schema="a INT").collect()) == 2
    assert "memory" in repr(kafka) and "t" in kafka._repr_html_()


def test_a_rule_that_saw_no_row_is_there_with_zeros(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("zeros")
    broker.produce("zeros", [{"a": 1}, {"a": -1}], progress=False)
    stream = broker.read_stream("zeros", schema="a INT").expect("positive", "a > 0")
    stream.write_delta(tmp_path / "t", progress=False)
    again = stream.write_delta(tmp_path / "t", progress=False)
    [rule] = again.expectations.to_dicts()
    assert (rule["name"], rule["passed_records"], rule["failed_records"]) == ("positive", 0, 0)
    again.raise_for_expectations("positive")
    again.raise_for_expectations()
    nothing = broker.read_stream("zeros", schema="a INT").where("a > 100").expect("positive", "a > 0")
    assert nothing.validate().expectations.to_dicts()[0]["passed_records"] == 0
    nothing.validate().raise_for_expectations("positive")
    with pytest.raises(bayou.ConfigError, match="no expectation 'negative'"):
        again.raise_for_expectations("negative")
