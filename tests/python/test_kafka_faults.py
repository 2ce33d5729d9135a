"""Exactly once while Kafka itself fails: three brokers that are killed, paused and deposed; logs that lose their beginning, their end,
or all; transactions, compaction, new partitions. The truth is what Kafka's own Java consumer reads."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import bayou
import confluent_kafka
import pytest
from delta_replay import rows

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "kafka"))
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "chaos"))

import brokers
import truth as truths
from cluster import Cluster, until

HERE = pathlib.Path(__file__).parent
SCHEMA = "n INT"
# Cases that take long and show little that the other cases do not show.
ALL = os.environ.get("BAYOU_TEST_FAULTS") == "all"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as made:
        yield made


@pytest.fixture(scope="module")
def kafka(cluster: Cluster) -> bayou.Connection:
    return bayou.connect(cluster.address)


@pytest.fixture(autouse=True)
def healed(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.heal()


def fresh(what: str) -> str:
    return f"{what}-{uuid.uuid4().hex[:8]}"


def send(cluster: Cluster, topic: str, numbers: range, partition: int = 0, **options: Any) -> None:
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": cluster.address, "linger.ms": 1, "log_level": 0, **options}
    )
    errors: list[Any] = []
    for n in numbers:
        producer.produce(
            topic,
            json.dumps({"n": n}),
            key=str(n),
            partition=partition,
            on_delivery=lambda e, _: e and errors.append(e),
        )
    assert producer.flush(30) == 0 and not errors, errors


def stream(kafka: bayou.Connection, topic: str, **options: Any) -> bayou.Stream:
    raw = kafka.read_stream(topic, schema=SCHEMA, include_metadata=True, max_offsets_per_trigger=20, **options)
    return raw.select("_partition AS part", "_offset AS off", "n")


def write(kafka: bayou.Connection, topic: str, path: pathlib.Path, **options: Any) -> bayou.Query:
    return stream(kafka, topic, **options).write_delta(str(path), query_name="q", progress=False)


def numbers(path: pathlib.Path) -> list[int]:
    return sorted(r["n"] for r in rows(path))


def seals(path: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted((path / "_bayou/q/1/epoch").glob("*.json"))]


def lost(path: pathlib.Path) -> list[tuple[int, int, int, str]]:
    """Partition, from, until, why; and each partition's ranges join on to each other."""
    at: dict[int, int] = {}
    for seal in seals(path):
        for r in seal["ranges"]:
            assert r["from"] == at.get(r["partition"], r["from"]), "ranges do not join"
            at[r["partition"]] = r["until"]
    return [(x["partition"], x["from"], x["until"], x["why"]) for seal in seals(path) for x in seal["lost"]]


def equals_the_java_consumer(cluster: Cluster, topic: str, *paths: pathlib.Path) -> int:
    """Each message once, at its place in the topic. Returns the number of messages, because the Java consumer may give up early."""
    held = max(len(rows(path)) for path in paths)
    lines = truths.consume(cluster.address, topic, 1500)
    if len(lines) < held:
        lines = truths.consume(cluster.address, topic, 10_000)  # a slow start is not an end
    want = []
    for line in lines:
        _, partition, offset, _, value = line.split("\t", 4)
        place = (int(partition.removeprefix("Partition:")), int(offset.removeprefix("Offset:")))
        want.append((*place, json.loads(value)["n"]))
    for path in paths:
        assert sorted((r["part"], r["off"], r["n"]) for r in rows(path)) == sorted(want)
    return len(want)


# --- brokers


def test_tables_are_exact_while_brokers_are_killed_paused_deposed_and_replaced(
    cluster: Cluster, tmp_path: pathlib.Path
) -> None:
    figures = brokers.campaign(
        cluster, tmp_path, seed=5, steps=["kill", "pause", "move", "reassign", "replace", "quota"]
    )
    print(f"\n{figures}")
    assert figures["problems"] == [] and figures["errors"] == []
    assert (figures["missing"], figures["duplicated"], figures["altered"]) == (0, 0, 0)
    assert figures["epochs"] > 20 and figures["messages"] > 5_000


def test_without_brokers_a_run_waits_with_a_warning_stops_at_once_and_goes_on_later(
    cluster: Cluster, kafka: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    topic = cluster.create(fresh("dark"), 2)
    for p in range(2):
        send(cluster, topic, range(p * 100, p * 100 + 50), p)
    path = tmp_path / "t"
    live = stream(kafka, topic).write_delta(str(path), query_name="q", trigger="100 ms", progress=False, block=False)
    until(lambda: len(seals(path)) >= 2, say="two epochs")
    for n in (1, 2, 3):
        cluster.kill(n)
    told = ("no broker of", "cannot be reached", "You can safely try again")
    until(lambda: any(t in w for w in live.warnings for t in told), 30, "a warning that no broker answers")
    assert live.is_active
    began = time.monotonic()
    live.stop()
    assert time.monotonic() - began < 1.5
    began = time.monotonic()
    with pytest.raises(bayou.ConnectionError, match=r"cannot be reached|127\.0\.0\.1"):
        write(kafka, topic, path)
    assert time.monotonic() - began < 15
    cluster.heal()
    for p in range(2):
        send(cluster, topic, range(p * 100 + 50, p * 100 + 70), p)
    write(kafka, topic, path)
    assert equals_the_java_consumer(cluster, topic, path) == 140


# --- what is lost


RUN = """
import sys, bayou
from test_kafka_faults import stream
address, topic, path, tolerant, refresh = sys.argv[1:]
made = stream(bayou.connect(address), topic, fail_on_data_loss=tolerant != "tolerant")
query = made.write_delta(path, query_name="q", trigger="50 ms", progress=False, block=False, full_refresh=refresh == "refresh")
print("go", flush=True)
query.await_termination()
"""


@contextlib.contextmanager
def live_run(
    cluster: Cluster, topic: str, path: pathlib.Path, tolerant: bool, refresh: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """An interval run in a process that can be held still."""
    command = [
        sys.executable,
        "-c",
        RUN,
        cluster.address,
        topic,
        str(path),
        "tolerant" if tolerant else "strict",
        refresh,
    ]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE)
    try:
        assert child.stdout and child.stdout.readline() == "go\n"
        yield child
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdout, child.stderr):
            if pipe:
                pipe.close()


def hold(child: subprocess.Popen[str]) -> None:
    child.send_signal(brokers.STOP)
    # A request that waits at a broker for messages would still get them; it waits for a quarter of a second.
    time.sleep(0.6)


def ends_with(child: subprocess.Popen[str], *texts: str) -> None:
    _, said = child.communicate(timeout=60)
    assert "DataLossError" in said and all(t in said for t in texts), said


def position(path: pathlib.Path) -> dict[int, int]:
    found = seals(path) if path.exists() else []
    return {r["partition"]: r["until"] for r in found[-1]["ranges"]} if found else {}


def test_retention_past_our_offset_is_an_error_with_the_range_or_goes_on_record(
    cluster: Cluster, kafka: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    topic = cluster.create(fresh("retention"))
    path = tmp_path / "t"
    send(cluster, topic, range(10))
    write(kafka, topic, path)
    send(cluster, topic, range(10, 40))
    cluster.delete_records(topic, 25)
    with pytest.raises(bayou.DataLossError, match=rf"{topic}\[0\]: offsets 10 to 24 are lost: retention"):
        write(kafka, topic, path)
    query = write(kafka, topic, path, fail_on_data_loss=False)
    assert any("offsets 10 to 24 are lost" in w for w in query.warnings)
    assert lost(path) == [(0, 10, 25, "retention")]
    assert numbers(path) == [*range(10), *range(25, 40)]
    # The loss is reported once. Removing the rest is no loss, because the rest was read.
    cluster.delete_records(topic, 40)
    assert not any("lost" in w for w in write(kafka, topic, path).warnings)


@pytest.mark.parametrize("tolerant", [False, True])
def test_retention_while_a_run_looks_away(cluster: Cluster, tmp_path: pathlib.Path, tolerant: bool) -> None:
    topic = cluster.create(fresh("retention"))
    path = tmp_path / "t"
    send(cluster, topic, range(10))
    with live_run(cluster, topic, path, tolerant) as child:
        until(lambda: position(path) == {0: 10}, say="10 read")
        hold(child)
        send(cluster, topic, range(10, 40))
        cluster.delete_records(topic, 25)
        child.send_signal(brokers.CONT)
        if not tolerant:
            ends_with(child, f"{topic}[0]: offsets 10 to 24 are lost: retention")
            assert numbers(path) == [*range(10)]
            return
        until(lambda: position(path) == {0: 40}, say="40 read")
    assert lost(path) == [(0, 10, 25, "retention")]
    assert numbers(path) == [*range(10), *range(25, 40)]


@pytest.mark.parametrize("grown", [5, 30], ids=["shorter", "longer than we had read"])
def test_a_topic_recreated_between_runs(
    cluster: Cluster, kafka: bayou.Connection, tmp_path: pathlib.Path, grown: int
) -> None:
    topic = cluster.create(fresh("anew"))
    path = tmp_path / "t"
    send(cluster, topic, range(10))
    write(kafka, topic, path)
    cluster.delete(topic)
    cluster.create(topic)
    send(cluster, topic, range(100, 100 + grown))
    with pytest.raises(bayou.DataLossError, match=rf"recreated.*{topic}\[0\] from offset 10 on"):
        write(kafka, topic, path)
    query = write(kafka, topic, path, fail_on_data_loss=False)
    assert any("deleted and recreated" in w for w in query.warnings)
    assert lost(path) == [(0, 10, 0, "recreated")]
    assert numbers(path) == [*range(10), *range(100, 100 + grown)]
    # The new topic is now the topic of this query, also for strict runs.
    send(cluster, topic, range(200, 205))
    write(kafka, topic, path)
    assert numbers(path) == [*range(10), *range(100, 100 + grown), *range(200, 205)]


@pytest.mark.parametrize("tolerant", [False, True])
@pytest.mark.parametrize("grown", [5, 30], ids=["shorter", "longer than we had read"])
def test_a_topic_recreated_while_a_run_looks_away(
    cluster: Cluster, tmp_path: pathlib.Path, grown: int, tolerant: bool
) -> None:
    topic = cluster.create(fresh("anew"))
    path = tmp_path / "t"
    send(cluster, topic, range(10))
    # It starts over in its first start only, not when it starts again because of the topic.
    with live_run(cluster, topic, path, tolerant, "refresh") as child:
        until(lambda: position(path) == {0: 10}, say="10 read")
        hold(child)
        cluster.delete(topic)
        cluster.create(topic)
        send(cluster, topic, range(100, 100 + grown))
        child.send_signal(brokers.CONT)
        if not tolerant:
            ends_with(child, "deleted and recreated", f"{topic}[0] from offset 10 on")
            assert numbers(path) == [*range(10)]
            return
        until(lambda: position(path) == {0: grown} and len(numbers(path)) == 10 + grown, say="the new topic read")
    assert lost(path) == [(0, 10, 0, "recreated")]
    assert numbers(path) == [*range(10), *range(100, 100 + grown)]


@pytest.mark.parametrize("tolerant", [False, True])
@pytest.mark.parametrize("grown", [5, 30], ids=["shorter", "longer than we had read"])
def test_a_topic_recreated_while_an_iterator_is_used(
    cluster: Cluster, kafka: bayou.Connection, grown: int, tolerant: bool
) -> None:
    topic = cluster.create(fresh("anew"))
    send(cluster, topic, range(10))
    read = kafka.read_stream(topic, schema=SCHEMA, fail_on_data_loss=not tolerant)
    batches = iter(read.batches(trigger="1 second"))
    found = next(batches)["n"]
    while len(found) < 10:
        found += next(batches)["n"]
    cluster.delete(topic)
    cluster.create(topic)
    send(cluster, topic, range(100, 100 + grown))
    if not tolerant:
        with pytest.raises(bayou.DataLossError, match="deleted and recreated"):
            next(batches)
        return
    while len(found) < 10 + grown:
        found += next(batches)["n"]
    assert found == [*range(10), *range(100, 100 + grown)]


def truncate(cluster: Cluster, topic: str, seen: Any) -> None:
    """30 messages on nodes 1 and 2, 20 more on 1 alone; `seen` waits until they are read; then 2 leads, which has 30."""
    send(cluster, topic, range(30))
    cluster.kill(2)
    cluster.shrunk(topic, 1)
    send(cluster, topic, range(30, 50), acks=1)
    seen()
    cluster.kill(1)
    cluster.start(2)
    until(lambda: cluster.leader(topic) == 2, 60, "node 2 leads")


def unclean(cluster: Cluster) -> str:
    settings = {"unclean.leader.election.enable": "true", "min.insync.replicas": "1"}
    return cluster.create(fresh("cut"), 1, [1, 2], settings)


@pytest.mark.parametrize("after", [5, 30] if ALL else [30])
def test_a_log_that_was_cut_between_runs(
    cluster: Cluster, kafka: bayou.Connection, tmp_path: pathlib.Path, after: int
) -> None:
    topic = unclean(cluster)
    path = tmp_path / "t"
    # The end that a run reads to is a little behind the records that only the leader has.
    truncate(
        cluster,
        topic,
        lambda: until(lambda: bool(write(kafka, topic, path)) and position(path) == {0: 50}, say="50 read"),
    )
    assert numbers(path) == [*range(50)]
    send(cluster, topic, range(100, 100 + after))
    with pytest.raises(bayou.DataLossError, match=rf"{topic}\[0\]: offsets 30 to 49 were read and are no longer"):
        write(kafka, topic, path)
    query = write(kafka, topic, path, fail_on_data_loss=False)
    assert any("offsets 30 to 49 were read and are no longer" in w for w in query.warnings)
    assert lost(path) == [(0, 50, 30, "truncated")]
    assert numbers(path) == [*range(50), *range(100, 100 + after)]
    send(cluster, topic, range(200, 205))
    write(kafka, topic, path)
    assert numbers(path) == [*range(50), *range(100, 100 + after), *range(200, 205)]


@pytest.mark.parametrize("tolerant", [False, True] if ALL else [True])
def test_a_log_that_is_cut_while_it_is_read(cluster: Cluster, tmp_path: pathlib.Path, tolerant: bool) -> None:
    topic = unclean(cluster)
    path = tmp_path / "t"
    with live_run(cluster, topic, path, tolerant) as child:
        truncate(cluster, topic, lambda: until(lambda: position(path) == {0: 50}, say="50 read"))
        send(cluster, topic, range(100, 130))
        if not tolerant:
            ends_with(child, f"{topic}[0]: offsets 30 to 49 were read and are no longer in the log")
            assert numbers(path) == [*range(50)]
            return
        until(lambda: position(path) == {0: 60} and len(numbers(path)) == 80, say="the new records read")
    assert lost(path) == [(0, 50, 30, "truncated")]
    assert numbers(path) == [*range(50), *range(100, 130)]


# --- transactions, compaction, new partitions


def test_leaders_that_change_in_an_orderly_way_lose_nothing_and_are_not_taken_for_a_loss(
    cluster: Cluster, kafka: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    topic = cluster.create(fresh("orderly"))
    path = tmp_path / "t"
    producer = transactional(cluster, topic)
    for i in range(3):
        # A marker of a later leader than the last record's is no loss.
        producer.begin_transaction()
        for n in range(i * 10, i * 10 + 10):
            producer.produce(topic, json.dumps({"n": n}))
        producer.flush(30)
        to = cluster.leader(topic) % 3 + 1
        cluster.move_leaders(topic, to)
        until(lambda to=to: cluster.leader(topic) == to, say="the leader moves")
        (producer.abort_transaction if i % 2 else producer.commit_transaction)(30)
        write(kafka, topic, path)
    # The last stable offset lags a little behind a commit.
    until(lambda: kafka.describe_topic(topic)["partitions"][0]["latest"] == 33, say="the last stable offset moves")
    write(kafka, topic, path)
    assert numbers(path) == [*range(10), *range(20, 30)] and lost(path) == []
    assert equals_the_java_consumer(cluster, topic, path) == 20


def transactional(cluster: Cluster, topic: str) -> confluent_kafka.Producer:
    options = {"bootstrap.servers": cluster.address, "transactional.id": fresh(topic), "linger.ms": 1, "log_level": 0}
    producer = confluent_kafka.Producer(options)
    producer.init_transactions(30)
    return producer


def test_a_bounded_run_ends_at_the_last_stable_offset_and_behind_markers(
    cluster: Cluster, kafka: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    topic = cluster.create(fresh("transactions"))
    path = tmp_path / "t"
    one, two = transactional(cluster, topic), transactional(cluster, topic)

    def say(producer: confluent_kafka.Producer, first: int, count: int) -> None:
        for n in range(first, first + count):
            producer.produce(topic, json.dumps({"n": n}))
        producer.flush(30)

    def stable_from(end: int) -> None:
        until(lambda: kafka.describe_topic(topic)["partitions"][0]["latest"] == end, say="the last stable offset moves")

    one.begin_transaction()
    say(one, 0, 5)  # offsets 0 to 4, marker 5: the last record is a marker
    one.commit_transaction(30)
    # The coordinator writes markers after it has answered.
    stable_from(6)
    write(kafka, topic, path)
    assert position(path) == {0: 6} and numbers(path) == [*range(5)]
    one.begin_transaction()
    say(one, 10, 5)  # 6 to 10, aborted, marker 11
    one.abort_transaction(30)
    write(kafka, topic, path)
    assert numbers(path) == [*range(5)]
    two.begin_transaction()
    say(two, 20, 5)  # 12 to 16, open
    one.begin_transaction()
    say(one, 30, 5)  # 17 to 21, marker 22: committed, and behind the open one
    one.commit_transaction(30)
    write(kafka, topic, path)
    assert position(path)[0] <= 12 and equals_the_java_consumer(cluster, topic, path) == 5
    two.commit_transaction(30)
    stable_from(24)
    write(kafka, topic, path)
    assert position(path) == {0: 24} and equals_the_java_consumer(cluster, topic, path) == 15
    # Retention removes all records and markers. A query that has read them loses nothing.
    cluster.delete_records(topic, 24)
    write(kafka, topic, path)
    assert lost(path) == []


def test_compaction_leaves_gaps_everywhere_and_bounded_runs_end(
    cluster: Cluster, kafka: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    settings = {
        "cleanup.policy": "compact",
        "segment.ms": "100",
        "min.cleanable.dirty.ratio": "0.001",
        "delete.retention.ms": "0",
        "min.compaction.lag.ms": "0",
        "max.compaction.lag.ms": "100",
    }
    topic = cluster.create(fresh("compact"), config=settings)
    early, late = tmp_path / "early", tmp_path / "late"

    def put(keys: range, first: int, value: bool = True) -> None:
        producer = confluent_kafka.Producer({"bootstrap.servers": cluster.address, "linger.ms": 1, "log_level": 0})
        for i, k in enumerate(keys):
            producer.produce(topic, json.dumps({"n": first + i}) if value else None, key=str(k), partition=0)
        assert producer.flush(30) == 0

    put(range(50), 0)
    write(kafka, topic, early)
    before = len(numbers(early))
    put(range(10), 100)  # 0 to 9 go at the start,
    put(range(20, 30), 200)  # 20 to 29 in the middle,
    put(range(40, 50), 300, value=False)  # and 40 to 49 with their tombstones, as whole segments,
    put(range(900, 901), 400)
    put(range(900, 901), 500, value=False)  # up to the newest but one.

    def compacted() -> bool:
        # Each roll of the segment needs a message.
        put(range(999, 1000), 600)
        lines = truths.consume(cluster.address, topic, 1000)
        return 0 < len(lines) < 60 and not any("\t900\t" in line for line in lines)

    until(compacted, 180, "the topic is compacted")
    write(kafka, topic, late)
    got = {(r["part"], r["off"]): r["n"] for r in rows(late)}
    want = {}
    for line in truths.consume(cluster.address, topic, 2000):
        _, partition, offset, _, value = line.split("\t", 4)
        if value != "null":
            want[int(partition[10:]), int(offset[7:])] = json.loads(value)["n"]
    # The cleaner runs at the same time. Records that it has removed since were there when bayou read.
    assert want and want.items() <= got.items() and len(got) < 60
    write(kafka, topic, early)
    assert before == 50 and lost(early) == [] and lost(late) == []
    assert position(early) == position(late) or position(early)[0] >= position(late)[0]


def test_partitions_that_are_added_are_read_from_their_start(
    cluster: Cluster, kafka: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    topic = cluster.create(fresh("growing"))
    bounded, live = tmp_path / "bounded", tmp_path / "live"
    send(cluster, topic, range(10))
    write(kafka, topic, bounded)
    with live_run(cluster, topic, live, False) as child:
        until(lambda: position(live) == {0: 10}, say="10 read")
        cluster.grow(topic, 3)
        for p in range(3):
            send(cluster, topic, range(100 * (p + 1), 100 * (p + 1) + 30), p)
        until(lambda: len(numbers(live)) == 100, say="all partitions read")
        assert child.poll() is None
    write(kafka, topic, bounded)
    assert equals_the_java_consumer(cluster, topic, bounded, live) == 100


def test_a_partition_that_is_added_is_read_while_messages_come_without_a_pause(
    cluster: Cluster, kafka: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    """With a steady rate there may be no moment without messages before retention removes the messages of the new partition."""
    topic = cluster.create(fresh("busy"))
    producer = confluent_kafka.Producer({"bootstrap.servers": cluster.address, "linger.ms": 0, "log_level": 0})
    done, sent = threading.Event(), 0

    def steadily() -> None:
        nonlocal sent
        while not done.wait(0.003):
            producer.produce(topic, json.dumps({"n": sent}), partition=0)
            producer.poll(0)
            sent += 1

    thread = threading.Thread(target=steadily)
    thread.start()
    try:
        with live_run(cluster, topic, tmp_path, False) as child:
            until(lambda: position(tmp_path).get(0, 0) > 0, say="reading")
            cluster.grow(topic, 2)
            send(cluster, topic, range(-30, 0), 1)
            until(lambda: position(tmp_path).get(1) == 30, say="the new partition read")
            assert child.poll() is None
    finally:
        done.set()
        thread.join()
        assert producer.flush(30) == 0
    write(kafka, topic, tmp_path)
    assert equals_the_java_consumer(cluster, topic, tmp_path) == sent + 30
