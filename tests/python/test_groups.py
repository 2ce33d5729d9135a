"""Reading as a member of a consumer group: together with confluent-kafka's and Java's members, through joins, leaves, crashes and long pauses."""

from __future__ import annotations

import collections
import contextlib
import json
import pathlib
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import bayou
import confluent_kafka
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "kafka"))
from cluster import until
from server import jars

Topic = Callable[..., str]


@pytest.fixture
def group() -> str:
    return f"g-{uuid.uuid4().hex[:8]}"


def put(kafka: bayou.Connection, topic: str, first: int, count: int) -> None:
    kafka.produce(topic, [{"n": i} for i in range(first, first + count)], key="n", progress=False)


def numbers(batch: Any) -> list[int]:
    return [r["n"] for r in batch.to_dicts()]


def committed(kafka: bayou.Connection, group: str) -> int:
    return sum(r["offset"] for r in kafka.group_offsets(group).to_dicts())


def test_a_group_keeps_the_position_when_the_next_batch_is_asked_for(
    kafka: bayou.Connection, topic: Topic, group: str
) -> None:
    t = topic(3)
    put(kafka, t, 0, 500)
    stream = kafka.read_stream(t, schema="n INT")
    first = [n for batch in stream.batches(group_id=group) for n in numbers(batch)]
    assert sorted(first) == list(range(500)) and committed(kafka, group) == 500
    put(kafka, t, 500, 100)
    again = [n for batch in stream.batches(group_id=group) for n in numbers(batch)]
    assert sorted(again) == list(range(500, 600))
    # A batch that was not finished comes again.
    put(kafka, t, 600, 10)
    for _ in stream.batches(group_id=group):
        break
    assert committed(kafka, group) == 600
    rest = [n for batch in stream.batches(group_id=group) for n in numbers(batch)]
    assert sorted(rest) == list(range(600, 610))
    # Rows that no batch has are used, too.
    put(kafka, t, 610, 5)
    assert list(stream.where("n < 0").batches(group_id=group)) == []
    assert committed(kafka, group) == 615


def test_only_rows_that_were_handed_out_are_committed(kafka: bayou.Connection, topic: Topic, group: str) -> None:
    t = topic(1)
    put(kafka, t, 0, 1500)
    stream = kafka.read_stream(t, schema="n INT")
    it = stream.batches(group_id=group, batch_rows=1000, trigger="0 seconds")
    assert len(numbers(next(it))) == 1000
    it.close()
    rest = [n for batch in stream.batches(group_id=group, batch_rows=400) for n in numbers(batch)]
    assert set(range(1000, 1500)) <= set(rest), "nothing is lost"
    assert committed(kafka, group) == 1500
    # Iterators with a limit continue, run by run.
    put(kafka, t, 1500, 300)
    for first in (1500, 1600, 1700):
        got = [n for batch in stream.batches(group_id=group, limit=100) for n in numbers(batch)]
        assert got == list(range(first, first + 100))


def test_a_group_whose_log_was_cut_behind_its_offset_is_told(
    address: str, kafka: bayou.Connection, topic: Topic, group: str
) -> None:
    t = topic(1)
    put(kafka, t, 0, 5)
    other = confluent_kafka.Consumer({"bootstrap.servers": address, "group.id": group})
    other.commit(offsets=[confluent_kafka.TopicPartition(t, 0, 500)], asynchronous=False)
    other.close()
    with pytest.raises(bayou.DataLossError, match="ends at 5, and the group's offset is 500"):
        list(kafka.read_stream(t, schema="n INT").batches(group_id=group))
    tolerant = kafka.read_stream(t, schema="n INT", fail_on_data_loss=False)
    assert sorted(n for b in tolerant.batches(group_id=group) for n in numbers(b)) == list(range(5))


@pytest.mark.parametrize("start", ["earliest", "latest"])
def test_where_the_group_has_no_offset_starting_offsets_count(
    kafka: bayou.Connection, topic: Topic, group: str, start: str
) -> None:
    t = topic(2)
    put(kafka, t, 0, 20)
    stream = kafka.read_stream(t, schema="n INT", starting_offsets=start)
    got = [n for batch in stream.batches(group_id=group, timeout="20 seconds") for n in numbers(batch)]
    assert sorted(got) == (list(range(20)) if start == "earliest" else [])
    put(kafka, t, 20, 5)
    got = [n for batch in stream.batches(group_id=group) for n in numbers(batch)]
    assert sorted(got) == list(range(20, 25)), "the start was committed"


def test_topics_that_match_the_pattern_later_are_read_from_their_start(kafka: bayou.Connection, group: str) -> None:
    prefix = f"p{uuid.uuid4().hex[:8]}_"
    kafka.create_topic(f"{prefix}eu", partitions=2, replication_factor=1)
    put(kafka, f"{prefix}eu", 0, 5)
    stream = kafka.read_stream(subscribe_pattern=f"{prefix}.*", schema="n INT", starting_offsets="latest")
    found: list[int] = []

    def read() -> None:
        for batch in stream.batches(group_id=group, trigger="100 ms", timeout="60 seconds"):
            found.extend(numbers(batch))
            if len(found) >= 15:
                return

    reader = threading.Thread(target=read)
    reader.start()
    # The starts of all partitions are committed when they are assigned.
    until(lambda: group in kafka.consumer_groups().column("group") and len(kafka.group_offsets(group).to_dicts()) == 2)
    put(kafka, f"{prefix}eu", 5, 5)
    until(lambda: sorted(found) == list(range(5, 10)))
    # The topic has its messages before the group knows it.
    kafka.create_topic(f"{prefix}us", partitions=2, replication_factor=1)
    put(kafka, f"{prefix}us", 10, 10)
    reader.join(70)
    assert sorted(found) == list(range(5, 20))


def test_what_a_group_cannot_do_is_refused(kafka: bayou.Connection, broker: bayou.Connection, topic: Topic) -> None:
    t = topic()
    stream = kafka.read_stream(t, schema="n INT")
    with pytest.raises(bayou.ConfigError, match="stream with state"):
        stream.group_by("n").count().batches(group_id="g")
    with pytest.raises(bayou.ConfigError, match="leave name= and checkpoint_location= out"):
        stream.batches(group_id="g", name="x", checkpoint_location="x")
    with pytest.raises(bayou.ConfigError, match="leave assign out"):
        kafka.read_stream(options={"assign": json.dumps({t: [0]})}).batches(group_id="g")
    with pytest.raises(bayou.ConfigError, match="rows in memory"):
        bayou.from_batches({"n": [1]}).batches(group_id="g")
    broker.create_topic("t")
    with pytest.raises(bayou.ConfigError, match="embedded broker"):
        broker.read_stream("t", format="raw").batches(group_id="g")


def test_offsets_that_are_gone_are_a_loss_or_are_passed_over(kafka: bayou.Connection, topic: Topic, group: str) -> None:
    t = topic()
    put(kafka, t, 0, 20)
    kafka.reset_group(group, t, to={t: {0: 5}}, confirm=True)
    kafka.delete_records(t, {0: 10}, confirm=True)
    with pytest.raises(bayou.DataLossError, match=f'reset_group\\("{group}"'):
        list(kafka.read_stream(t, schema="n INT").batches(group_id=group))
    tolerant = kafka.read_stream(t, schema="n INT", fail_on_data_loss=False)
    assert [n for b in tolerant.batches(group_id=group) for n in numbers(b)] == list(range(10, 20))
    # Retention has taken everything that the group has not read.
    kafka.reset_group(group, t, to={t: {0: 15}}, confirm=True)
    kafka.delete_records(t, {0: 20}, confirm=True)
    began = time.monotonic()
    assert not list(tolerant.batches(group_id=group, timeout="40 seconds"))
    assert time.monotonic() - began < 25, "the end is seen"


def test_a_pause_longer_than_max_poll_interval_keeps_membership_and_offsets(
    address: str, kafka: bayou.Connection, topic: Topic, group: str
) -> None:
    t = topic(2)
    put(kafka, t, 0, 40_000)
    slow = bayou.connect({"bootstrap.servers": address, "max.poll.interval.ms": 6000, "session.timeout.ms": 6000})
    it = slow.read_stream(t, schema="n INT").batches(group_id=group)
    seen = numbers(next(it))
    before = kafka.describe_group(group).to_dicts()[0]["member"]
    time.sleep(
        11
    )  # longer than the interval, and longer than a member without partitions waits: this is what the test is about
    [member] = kafka.describe_group(group).to_dicts()
    assert member["member"] == before, "it was never thrown out"
    seen += [n for batch in it for n in numbers(batch)]
    assert sorted(seen) == list(range(40_000)), "nothing is lost, and nothing came twice"
    assert committed(kafka, group) == 40_000


@pytest.mark.parametrize("topics", [1, 2])
def test_a_bounded_member_ends_behind_the_markers_of_transactions(
    kafka: bayou.Connection, topic: Topic, group: str, topics: int
) -> None:
    names = [topic(2) for _ in range(topics)]
    for i, name in enumerate(names):
        rows = [{"n": i * 100 + n} for n in range(100)]
        kafka.produce(name, rows, key="n", transaction=True, progress=False)
    stream = kafka.read_stream(names, schema="n INT")
    for wanted in (list(range(100 * topics)), []):
        began = time.monotonic()
        assert sorted(n for batch in stream.batches(group_id=group) for n in numbers(batch)) == wanted
        assert time.monotonic() - began < 25, "the end is seen, and no silence is waited for"
    # New messages behind the markers are not passed over.
    put(kafka, names[-1], 1000, 50)
    assert sorted(n for batch in stream.batches(group_id=group) for n in numbers(batch)) == list(range(1000, 1050))


def test_a_static_member_comes_back_to_its_partitions_and_a_twin_is_told(
    address: str, kafka: bayou.Connection, topic: Topic, group: str
) -> None:
    t = topic(2)
    put(kafka, t, 0, 10)
    static = {"bootstrap.servers": address, "group.instance.id": "desk-1", "session.timeout.ms": 10000}
    first = bayou.connect(static).read_stream(t, schema="n INT").batches(group_id=group, trigger="0 seconds")
    seen = numbers(next(first))
    [member] = kafka.describe_group(group).to_dicts()
    assert member["instance_id"] == "desk-1"
    second = (
        bayou.connect(static)
        .read_stream(t, schema="n INT")
        .batches(group_id=group, trigger="0 seconds", timeout="30 seconds")
    )
    taker = threading.Thread(target=lambda: next(second, None))
    taker.start()
    with pytest.raises(bayou.ConcurrentQueryError, match="group.instance.id"):
        for batch in first:
            seen += numbers(batch)
    second.close()
    taker.join(60)


def java_member(address: str, topic: str, group: str, count: int, strategy: str) -> subprocess.Popen[str]:
    """Kafka's own console consumer as a member."""
    return subprocess.Popen(
        [
            "java", "-Xmx256m", "-cp", f"{jars()}/*", "org.apache.kafka.tools.consumer.ConsoleConsumer",
            "--bootstrap-server", address, "--topic", topic, "--group", group, "--max-messages", str(count),
            "--consumer-property", f"partition.assignment.strategy={strategy}",
            "--consumer-property", "auto.offset.reset=earliest", "--timeout-ms", "30000",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("strategy", "java"),
    [
        ("cooperative-sticky", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"),
        ("range,roundrobin", "org.apache.kafka.clients.consumer.RangeAssignor"),
    ],
)
def test_partitions_are_shared_with_javas_members(
    address: str, kafka: bayou.Connection, topic: Topic, group: str, strategy: str, java: str
) -> None:
    t = topic(4)
    put(kafka, t, 0, 400)
    ours = bayou.connect({"bootstrap.servers": address, "partition.assignment.strategy": strategy})
    seen: list[int] = []
    it = ours.read_stream(t, schema="n INT").batches(group_id=group, trigger="0 seconds", timeout="90 seconds")
    seen += numbers(next(it))
    process = java_member(address, t, group, 100, java)
    try:
        stop = threading.Event()

        def feed() -> None:
            n = 400
            while not stop.is_set():
                put(kafka, t, n, 20)
                n += 20
                time.sleep(0.1)

        feeder = threading.Thread(target=feed)
        feeder.start()
        done = threading.Thread(target=lambda: (process.wait(80), stop.set()))
        done.start()
        for batch in it:
            seen += numbers(batch)
            if stop.is_set():
                break
        stop.set()
        feeder.join()
        done.join()
        theirs = [json.loads(line)["n"] for line in (process.stdout or []) if line.startswith("{")]
    finally:
        process.kill()
    it.close()
    rest = [n for b in ours.read_stream(t, schema="n INT").batches(group_id=group) for n in numbers(b)]
    total = sum(r["offset"] for r in kafka.offsets(t).to_dicts())
    assert len(theirs) == 100 and set(seen) | set(theirs) | set(rest) == set(range(total)), "nothing is lost"


MEMBER = textwrap.dedent("""
    import json, sys, time, bayou
    address, topic, group = sys.argv[1:4]
    kafka = bayou.connect({"bootstrap.servers": address, "session.timeout.ms": 6000, "heartbeat.interval.ms": 500})
    stream = kafka.read_stream(topic, schema="n INT", include_metadata=True)
    print("ready", flush=True)
    for batch in stream.batches(group_id=group, trigger="0 seconds"):
        rows = [(r["_partition"], r["_offset"], r["n"]) for r in batch.to_dicts()]
        print(json.dumps(rows), flush=True)
""")


def churn(address: str, kafka: bayou.Connection, t: str, group: str, seconds: float) -> None:
    """Members come and go, by kill and by leaving, while messages are published. Then: nothing is lost, and the messages that come twice are
    bounded by a batch per partition and change."""
    got: dict[str, list[list[list[int]]]] = collections.defaultdict(list)
    lock = threading.Lock()
    members: list[tuple[str, subprocess.Popen[str]]] = []
    changes = 0

    def follow(name: str, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or []:
            if line.startswith("["):
                with contextlib.suppress(ValueError), lock:
                    got[name].append(json.loads(line))

    def join() -> None:
        name = uuid.uuid4().hex[:6]
        process = subprocess.Popen([sys.executable, "-c", MEMBER, address, t, group], stdout=subprocess.PIPE, text=True)
        threading.Thread(target=follow, args=(name, process), daemon=True).start()
        members.append((name, process))

    sent, began = 0, time.monotonic()
    try:
        for _ in range(2):
            join()
        while time.monotonic() - began < seconds:
            put(kafka, t, sent, 500)
            sent += 500
            time.sleep(0.3)
            if int((time.monotonic() - began) / 3) > changes:
                changes += 1
                if changes % 3 == 0 and len(members) > 1:
                    members.pop(0)[1].kill()
                elif changes % 3 == 1 and len(members) < 4:
                    join()
                elif len(members) > 1:
                    members.pop(0)[1].terminate()
        deadline = time.monotonic() + 60

        def seen() -> set[int]:
            with lock:
                return {n for batches in got.values() for rows in batches for _, _, n in rows}

        while seen() != set(range(sent)):
            assert time.monotonic() < deadline, f"{sent - len(seen())} of {sent} are lost"
            time.sleep(0.2)
    finally:
        for _, process in members:
            process.kill()
    times = collections.Counter((p, o) for batches in got.values() for rows in batches for p, o, _ in rows)
    twice = sum(1 for n in times.values() if n > 1)
    largest = max(len(rows) for batches in got.values() for rows in batches)
    assert twice <= largest * 6 * (changes + 1), (twice, largest, changes)


def test_members_come_and_go_and_nothing_is_lost(
    address: str, kafka: bayou.Connection, topic: Topic, group: str
) -> None:
    churn(address, kafka, topic(6), group, 20)


@pytest.mark.parametrize("strategy", ["cooperative-sticky", "range"])
def test_confluents_members_take_over_where_a_batch_was_used(
    address: str, kafka: bayou.Connection, topic: Topic, group: str, strategy: str
) -> None:
    t = topic(4)
    put(kafka, t, 0, 1000)
    ours = bayou.connect({"bootstrap.servers": address, "partition.assignment.strategy": strategy})
    it: Iterator[Any] = ours.read_stream(t, schema="n INT").batches(
        group_id=group, trigger="0 seconds", timeout="90 seconds"
    )
    seen: list[int] = []
    while len(seen) < 1000:
        seen += numbers(next(it))
    other = confluent_kafka.Consumer(
        {
            "bootstrap.servers": address,
            "group.id": group,
            "partition.assignment.strategy": strategy,
            "auto.offset.reset": "earliest",
        }
    )
    other.subscribe([t])
    stop, theirs = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            for m in other.consume(500, 0.2):
                if m.error() is None:
                    theirs.append(json.loads(m.value())["n"])

    reader = threading.Thread(target=read)
    reader.start()
    sent, deadline = 1000, time.monotonic() + 80
    try:
        while len(theirs) < 200:
            assert time.monotonic() < deadline
            put(kafka, t, sent, 100)
            sent += 100
            seen += numbers(next(it))
        stop.set()
        reader.join()
        # Its partitions come back.
        other.close()
        while len(set(seen) | set(theirs)) < sent:
            seen += numbers(next(it))
    finally:
        stop.set()
        reader.join()
        it.close()  # type: ignore[attr-defined]
    assert sorted(set(seen) | set(theirs)) == list(range(sent))
    assert len(seen) + len(theirs) == sent, "each batch was committed before its partition moved, so nothing came twice"
