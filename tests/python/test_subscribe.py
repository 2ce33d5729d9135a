"""Which topics a query reads: patterns, chosen partitions, Spark's options, and topics that come and go between runs."""

from __future__ import annotations

import json
import pathlib
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import bayou
import deltalake
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "kafka"))
from cluster import until

Topic = Callable[..., str]


def values(path: pathlib.Path) -> list[int]:
    """The values in the table, by a different reader."""
    return sorted(deltalake.DeltaTable(str(path)).to_pyarrow_table().column("a").to_pylist())


def put(kafka: bayou.Connection, topic: str, *numbers: int, partition: int | None = None) -> None:
    kafka.produce(topic, [{"a": n} for n in numbers], partition=partition, progress=False)


@pytest.fixture
def prefix() -> str:
    return f"orders-{uuid.uuid4().hex[:8]}_"


def make(kafka: bayou.Connection, *names: str, partitions: int = 1) -> None:
    for name in names:
        kafka.create_topic(name, partitions=partitions, replication_factor=1)


def test_topics_of_a_pattern_join_a_running_query_and_are_sealed(
    kafka: bayou.Connection, prefix: str, tmp_path: pathlib.Path
) -> None:
    make(kafka, f"{prefix}eu", f"not-{prefix}x")
    put(kafka, f"{prefix}eu", 1, 2)
    put(kafka, f"not-{prefix}x", 99)
    stream = kafka.read_stream(subscribe_pattern=f"{prefix}.*", schema="a INT")
    query = stream.write_delta(tmp_path / "t", trigger="0 seconds", block=False, progress=False)
    until(lambda: (tmp_path / "t").exists() and values(tmp_path / "t") == [1, 2])
    make(kafka, f"{prefix}us", partitions=2)
    put(kafka, f"{prefix}us", 3, partition=1)
    until(lambda: values(tmp_path / "t") == [1, 2, 3])
    assert any(f"'{prefix}us' has joined" in n for n in query.notes)
    query.stop()
    # The next run, bounded, finds the messages that came meanwhile, and none twice; a topic of the pattern needs no start=.
    make(kafka, f"{prefix}asia")
    put(kafka, f"{prefix}asia", 4)
    put(kafka, f"{prefix}us", 5)
    again = stream.write_delta(tmp_path / "t", progress=False)
    assert values(tmp_path / "t") == [1, 2, 3, 4, 5]
    assert again.last_progress["numInputRows"] == 2
    assert stream.write_delta(tmp_path / "t", progress=False).last_progress is None
    assert values(tmp_path / "t") == [1, 2, 3, 4, 5]


def test_a_topic_of_a_pattern_that_is_deleted_is_a_loss(
    kafka: bayou.Connection, prefix: str, tmp_path: pathlib.Path
) -> None:
    make(kafka, f"{prefix}a", f"{prefix}b")
    put(kafka, f"{prefix}a", 1)
    put(kafka, f"{prefix}b", 2)

    def stream(**more: Any) -> bayou.Stream:
        return kafka.read_stream(subscribe_pattern=f"{prefix}.*", schema="a INT", **more)

    stream().write_delta(tmp_path / "t", progress=False)
    kafka.delete_topic(f"{prefix}b")
    put(kafka, f"{prefix}a", 3)
    with pytest.raises(bayou.DataLossError, match=f"'{prefix}b' is gone"):
        stream().write_delta(tmp_path / "t", progress=False)
    query = stream(fail_on_data_loss=False).write_delta(tmp_path / "t", progress=False)
    assert values(tmp_path / "t") == [1, 2, 3] and any("gone" in n for n in query.notes)
    # Afterwards the deleted topic does not stop a run.
    stream().write_delta(tmp_path / "t", progress=False)


def test_patterns_are_checked_when_the_line_is_typed(kafka: bayou.Connection, prefix: str) -> None:
    with pytest.raises(bayou.TopicError, match=f"no topic of .* matches /{prefix}none.*/"):
        kafka.read_stream(subscribe_pattern=f"{prefix}none.*", format="raw")
    with pytest.raises(bayou.ConfigError, match="regular expression"):
        kafka.read_stream(subscribe_pattern="orders_(", format="raw")
    with pytest.raises(bayou.ConfigError, match=r"subscribe_pattern=\"orders_\.\*\""):
        kafka.read_stream("orders_.*", format="raw")
    with pytest.raises(bayou.ConfigError, match="only one"):
        kafka.read_stream("t", subscribe_pattern="t", format="raw")


def test_a_pattern_reads_windows_over_all_its_topics_across_runs(
    kafka: bayou.Connection, prefix: str, tmp_path: pathlib.Path
) -> None:
    """The watermark is the lowest over the partitions of all topics, and state survives a topic that joins."""
    base = datetime(2024, 1, 1, tzinfo=timezone.utc)

    def at(topic: str, *minutes: float) -> None:
        kafka.produce(
            topic, [{"t": (base + timedelta(minutes=m)).isoformat(), "a": 1} for m in minutes], progress=False
        )

    make(kafka, f"{prefix}a")
    stream = (
        kafka.read_stream(subscribe_pattern=f"{prefix}.*", schema="t TIMESTAMP, a INT")
        .with_watermark("t", "0 seconds", idle_timeout="10000 days")
        .group_by(bayou.window("t", "10 minutes"))
        .agg(n="count(*)")
    )
    at(f"{prefix}a", 1, 2, 15)
    stream.write_delta(tmp_path / "t", progress=False)
    make(kafka, f"{prefix}b")
    at(f"{prefix}b", 12, 13)
    at(f"{prefix}a", 25)
    stream.write_delta(tmp_path / "t", progress=False)
    at(f"{prefix}b", 21)
    stream.write_delta(tmp_path / "t", progress=False)
    found = deltalake.DeltaTable(str(tmp_path / "t")).to_pyarrow_table().to_pylist()
    assert sorted((r["window_start"], r["n"]) for r in found) == [
        (base, 2),
        (base + timedelta(minutes=10), 3),
    ], "the window from minute 10 waits for the topic that joined"


@pytest.mark.parametrize("start", ["now", "earliest"])
def test_a_topic_more_is_a_change_that_needs_a_start(
    kafka: bayou.Connection, topic: Topic, tmp_path: pathlib.Path, start: str
) -> None:
    a, b = topic(2), topic(2)
    put(kafka, a, 1, 2)
    put(kafka, b, 10, 11)
    one = kafka.read_stream(a, schema="a INT").where("a > 0")
    both = kafka.read_stream([a, b], schema="a INT").where("a > 0")
    one.write_delta(tmp_path / "t", progress=False)
    with pytest.raises(bayou.ConfigError, match=rf"did not read '{b}' before.*start=\"now\".*start=\"earliest\""):
        both.write_delta(tmp_path / "t", progress=False)
    assert values(tmp_path / "t") == [1, 2]
    query = both.write_delta(tmp_path / "t", start=start, progress=False)  # type: ignore[arg-type]
    assert any("are new and start" in n for n in query.notes)
    old = [10, 11] if start == "earliest" else []
    assert values(tmp_path / "t") == [1, 2, *old]
    # The new topic is recorded, also if nothing was read: the next run needs no start=, and continues in both.
    put(kafka, b, 12)
    put(kafka, a, 3)
    both.write_delta(tmp_path / "t", progress=False)
    assert values(tmp_path / "t") == sorted([1, 2, 3, 12, *old])
    # A topic that is left out is reported, and not read.
    put(kafka, a, 4)
    put(kafka, b, 13)
    left = kafka.read_stream(b, schema="a INT").where("a > 0").write_delta(tmp_path / "t", progress=False)
    assert any(f"'{a}' are no longer read" in n for n in left.notes)
    assert values(tmp_path / "t") == sorted([1, 2, 3, 12, 13, *old])
    # When the topic comes back, reading continues where it was: nothing is lost, and nothing comes twice.
    put(kafka, a, 5)
    both.write_delta(tmp_path / "t", progress=False)
    assert values(tmp_path / "t") == sorted([1, 2, 3, 4, 5, 12, 13, *old])


def test_totals_and_deduplication_go_on_over_topics_that_come_and_go(
    kafka: bayou.Connection, topic: Topic, tmp_path: pathlib.Path
) -> None:
    a, b, c = topic(), topic(), topic()
    for name in (a, b, c):
        put(kafka, name, 1, 2, 2)

    def run(topics: list[str], **more: Any) -> dict[str, list[dict[str, Any]]]:
        raw = kafka.read_stream(topics, schema="a INT")
        lake = bayou.Pipeline("p", str(tmp_path / "lake"))
        lake.table("totals", raw.group_by("a").agg(n="count(*)"))
        timed = kafka.read_stream(topics, schema="a INT", include_metadata=True).with_watermark("_timestamp", "1 hour")
        lake.table("firsts", timed.drop_duplicates(["a"], within="1 day").select("a"))
        lake.run(progress=False, **more)
        return {t: lake.read(t).to_dicts() for t in ("totals", "firsts")}

    found = run([a])
    assert Counter({r["a"]: r["n"] for r in found["totals"]}) == {1: 1, 2: 2} and len(found["firsts"]) == 2
    found = run([a, b], start="earliest")
    assert {r["a"]: r["n"] for r in found["totals"]} == {1: 2, 2: 4}, "the state was carried over"
    assert len(found["firsts"]) == 2, "what was seen in one topic is a duplicate in the other"
    found = run([b, c], start="earliest")
    assert {r["a"]: r["n"] for r in found["totals"]} == {1: 3, 2: 6}
    put(kafka, b, 3)
    put(kafka, a, 3)
    found = run([b, c])
    assert {r["a"]: r["n"] for r in found["totals"]} == {1: 3, 2: 6, 3: 1}


def test_a_kill_before_the_first_seal_leaves_a_new_topic_new(
    kafka: bayou.Connection, topic: Topic, tmp_path: pathlib.Path
) -> None:
    a, b = topic(), topic()
    put(kafka, a, 1)
    kafka.read_stream(a, schema="a INT").write_delta(tmp_path / "t", progress=False)
    put(kafka, b, 2)
    both = kafka.read_stream([a, b], schema="a INT").expect_or_fail("small", "a < 2")
    with pytest.raises(bayou.ExpectationError):
        both.write_delta(tmp_path / "t", start="earliest", progress=False)
    mended = kafka.read_stream([a, b], schema="a INT").expect_or_fail("small", "a < 3")
    mended.write_delta(tmp_path / "t", start="earliest", progress=False)
    assert values(tmp_path / "t") == [1, 2]


def test_chosen_partitions_are_read_and_no_others(
    kafka: bayou.Connection, topic: Topic, tmp_path: pathlib.Path
) -> None:
    t = topic(3)
    for p in range(3):
        put(kafka, t, p * 10, partition=p)
    stream = kafka.read_stream(options={"assign": json.dumps({t: [0, 2]})}, schema="a INT", format="json")
    assert f"{t}[0, 2]" in repr(stream)
    stream.write_delta(tmp_path / "t", progress=False)
    assert values(tmp_path / "t") == [0, 20]
    for p in range(3):
        put(kafka, t, p * 10 + 1, partition=p)
    more = kafka.read_stream(options={"assign": json.dumps({t: [1, 2]})}, schema="a INT", format="json")
    more.write_delta(tmp_path / "t", progress=False)
    assert values(tmp_path / "t") == [0, 10, 11, 20, 21], "a new partition from its start, one less is left"
    stream.write_delta(tmp_path / "t", progress=False)
    assert values(tmp_path / "t") == [0, 1, 10, 11, 20, 21], "what comes back goes on where it was"
    with pytest.raises(bayou.TopicError, match=rf"{t}\[7\] does not exist.*3 partitions"):
        kafka.read_stream(options={"assign": json.dumps({t: [7]})}, format="raw")
    with pytest.raises(bayou.ConfigError, match="assign"):
        kafka.read_stream(options={"assign": "t"}, format="raw")


def test_times_are_given_for_each_partition(kafka: bayou.Connection, topic: Topic) -> None:
    t, base = topic(2), 1_700_000_000_000
    for p in range(2):
        rows = [{"a": p * 10 + i, "ms": base + i} for i in range(5)]
        kafka.produce(t, rows, partition=p, timestamp="ms", progress=False)

    def found(**given: Any) -> list[int]:
        return sorted(kafka.read_stream(t, schema="a INT", **given).collect().column("a"))

    by_time = json.dumps({t: {"0": base + 3, "1": base + 4}})
    assert found(options={"startingOffsetsByTimestamp": by_time}, format="json") == [3, 4, 14]
    at = datetime.fromtimestamp(base / 1000, timezone.utc)
    assert found(starting_offsets={t: {0: at + timedelta(milliseconds=4), 1: at}}) == [4, 10, 11, 12, 13, 14]
    # The first of the three counts, as in Spark.
    both = {"startingTimestamp": str(base + 4), "startingOffsetsByTimestamp": by_time, "startingOffsets": "earliest"}
    assert found(options=both, format="json") == [4, 14]
    ends = {"endingOffsetsByTimestamp": json.dumps({t: {"0": base + 1, "1": base + 2}})}
    assert found(options=ends, format="json") == [0, 10, 11]
    with pytest.raises(bayou.ConfigError, match=rf"{t}\[1\] is missing"):
        found(options={"startingOffsetsByTimestamp": json.dumps({t: {"0": base}})}, format="json")
    late = {"startingTimestamp": str(base + 100)}
    assert found(options=late, format="json") == []
    with pytest.raises(bayou.ConfigError, match=rf"no message at or after .* {t}\[0\], {t}\[1\]"):
        found(options={**late, "startingOffsetsByTimestampStrategy": "error"}, format="json")


def test_an_epoch_waits_for_so_many_messages_but_not_for_ever(
    kafka: bayou.Connection, topic: Topic, tmp_path: pathlib.Path
) -> None:
    t = topic()
    put(kafka, t, *range(5))
    stream = kafka.read_stream(t, schema="a INT", min_offsets_per_trigger=10, max_trigger_delay="1 hour")
    query = stream.write_delta(tmp_path / "t", trigger="0 seconds", block=False, progress=False)
    until(lambda: query.status == "running")
    time.sleep(1)  # shows that nothing happens
    assert query.last_progress is None
    put(kafka, t, *range(5, 12))
    until(lambda: query.last_progress)
    assert query.recent_progress[0]["numInputRows"] >= 10
    put(kafka, t, 12)
    query.stop()  # ends the epoch
    bounded = stream.write_delta(tmp_path / "t", progress=False)
    assert values(tmp_path / "t") == list(range(13)) and bounded.status == "finished"
    short = kafka.read_stream(
        options={"subscribe": t, "minOffsetsPerTrigger": "10", "maxTriggerDelay": "1s"}, schema="a INT", format="json"
    )
    put(kafka, t, 13)
    query = short.write_delta(tmp_path / "t", trigger="0 seconds", block=False, progress=False)
    until(lambda: query.last_progress)
    query.stop()
    assert values(tmp_path / "t") == list(range(14))
    with pytest.raises(bayou.ConfigError, match="cannot have both"):
        kafka.read_stream(t, format="raw", min_offsets_per_trigger=10, max_offsets_per_trigger=5)


def test_a_pasted_cell_of_spark_runs(kafka: bayou.Connection, topic: Topic, address: str) -> None:
    t = topic()
    put(kafka, t, 1)
    cell = {
        "kafka.bootstrap.servers": address.upper() if address.isalpha() else f" {address} ",
        "subscribe": t,
        "startingOffsets": "earliest",
        "minPartitions": "12",
        "kafkaConsumer.pollTimeoutMs": "5000",
        "kafka.group.id": "etl",
        "includeHeaders": "true",
        "failOnDataLoss": "false",
        "maxoffsetspertrigger": "5",
    }
    with pytest.warns(UserWarning) as told:
        rows = bayou.connect(options=cell).read_stream(options=cell).collect()
    assert bytes(rows.to_dicts()[0]["value"]) == b'{"a":1}'
    said = " ".join(str(w.message) for w in told)
    for name in ("minPartitions", "kafkaConsumer.pollTimeoutMs", "kafka.group.id"):
        assert name in said, said
    with pytest.raises(bayou.ConfigError, match=r"kafka\.security\.protocol.*is a property of the connection"):
        kafka.read_stream(options={**cell, "kafka.security.protocol": "SASL_SSL"})
    with pytest.raises(bayou.ConfigError, match=r"kafka\.bootstrap\.servers is not the address"):
        kafka.read_stream(options={**cell, "kafka.bootstrap.servers": "elsewhere:9092"})
    with pytest.raises(bayou.ConfigError, match="give one of subscribe, subscribePattern"):
        kafka.read_stream(options={"subscribe": t, "subscribePattern": "t.*"})
    with pytest.raises(bayou.ConfigError, match="startingOfsets.*Did you mean 'startingOffsets'"):
        kafka.read_stream(options={"subscribe": t, "startingOfsets": "earliest"})
