"""Publishing for production: transactions, offsets of what was sent, order, other producers' partitions, encryption, interrupts."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import bayou
import confluent_kafka
import pyarrow as pa
import pytest

Topic = Callable[..., str]


def messages(address: str, topic: str, isolation: str = "read_committed") -> list[tuple[int, int, bytes | None]]:
    """Everything on a topic as a different client reads it: partition, offset, value."""
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "reader",
            "auto.offset.reset": "earliest",
            "isolation.level": isolation,
            "enable.partition.eof": True,
        }
    )
    parts = consumer.list_topics(topic, 10).topics[topic].partitions
    consumer.assign([confluent_kafka.TopicPartition(topic, p, confluent_kafka.OFFSET_BEGINNING) for p in parts])
    out, ended = [], 0
    while ended < len(parts):
        message = consumer.poll(30)
        assert message is not None
        if message.error() is None:
            out.append((message.partition(), message.offset(), message.value()))
        else:
            assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, message.error()
            ended += 1
    consumer.close()
    return sorted(out)


def test_a_transaction_is_seen_whole_or_not_at_all(kafka: bayou.Connection, topic: Topic, address: str) -> None:
    t = topic(3)
    report = kafka.produce(t, [{"a": i} for i in range(1000)], key="a", transaction=True, progress=False)
    assert (report.rows, report.delivered, report.failed) == (1000, 1000, 0)
    assert len(messages(address, t)) == 1000

    def rows() -> Iterator[dict[str, Any]]:
        for i in range(5000):
            yield {"a": i}
        raise ValueError("the source broke")

    with pytest.raises(bayou.FunctionError, match="Nothing was published") as raised:
        kafka.produce(t, rows(), transaction=True, progress=False)
    assert isinstance(raised.value.__cause__, ValueError)
    with pytest.raises(bayou.MalformedError, match="Nothing was published"):
        kafka.produce(t, [{"a": 1.0}, {"a": float("nan")}], transaction=True, progress=False)
    assert len(messages(address, t)) == 1000, "readers of committed messages see nothing of the two"
    assert kafka.read_stream(t, schema="a INT").collect().to_dicts().__len__() == 1000
    # A row that the topic does not accept ends the transaction, too.
    with pytest.raises(bayou.ConfigError, match=r"(?s)large.*Nothing was published"):
        kafka.produce(t, [{"a": 1}, {"a": "x" * 3_000_000}], transaction=True, progress=False)
    assert len(messages(address, t)) == 1000


def test_a_newer_producer_of_a_transactional_id_fences_the_older(
    kafka: bayou.Connection, topic: Topic, address: str
) -> None:
    t, go, ready = topic(), threading.Event(), threading.Event()

    def slow() -> Iterator[dict[str, Any]]:
        yield {"who": "old"}
        ready.set()
        assert go.wait(60)
        for _ in range(3000):
            yield {"who": "old"}

    errors: list[BaseException] = []

    def old() -> None:
        try:
            kafka.produce(t, slow(), transaction=True, transactional_id="nightly", rate=1e6, progress=False)
        except BaseException as e:
            errors.append(e)

    thread = threading.Thread(target=old)
    thread.start()
    assert ready.wait(60)
    kafka.produce(t, [{"who": "new"}], transaction=True, transactional_id="nightly", progress=False)
    go.set()
    thread.join(60)
    [error] = errors
    assert isinstance(error, bayou.ConcurrentQueryError) and "'nightly'" in str(error), error
    assert [v for _, _, v in messages(address, t)] == [b'{"who":"new"}']


def test_a_crash_in_a_transaction_leaves_nothing_for_readers(
    kafka: bayou.Connection, topic: Topic, address: str
) -> None:
    t = topic()
    script = textwrap.dedent(f"""
        import os, bayou
        def rows():
            for i in range(200_000):
                if i == 150_000:
                    os._exit(9)
                yield {{"a": i}}
        bayou.connect({address!r}).produce({t!r}, rows(), transaction=True, transactional_id="crash", progress=False)
    """)
    assert subprocess.run([sys.executable, "-c", script], timeout=120).returncode == 9
    kafka.produce(t, [{"a": -1}], transaction=True, transactional_id="crash", progress=False)
    assert [v for _, _, v in messages(address, t)] == [b'{"a":-1}']
    assert len(messages(address, t, "read_uncommitted")) > 1, "some were on the topic"


def test_the_options_of_transactions_are_checked(
    kafka: bayou.Connection, broker: bayou.Connection, topic: Topic
) -> None:
    t = topic()
    with pytest.raises(bayou.ConfigError, match="needs transaction=True"):
        kafka.produce(t, [{"a": 1}], transactional_id="x")
    with pytest.raises(bayou.ConfigError, match='needs acks="all"'):
        kafka.produce(t, [{"a": 1}], transaction=True, acks="1")
    broker.create_topic("t")
    with pytest.raises(bayou.ConfigError, match="cannot do transactions"):
        broker.produce("t", [{"a": 1}], transaction=True)
    with pytest.raises(bayou.ConfigError, match="murmur3.*Did you mean 'murmur2'"):
        kafka.produce(t, [{"a": 1}], partitioner="murmur3")  # type: ignore[arg-type]


def test_each_rows_offset_or_error_is_told_on_request(kafka: bayou.Connection, topic: Topic, address: str) -> None:
    t = topic(3)
    rows = [{"n": i, "v": "x" * (2_000_000 if i == 7 else 10)} for i in range(20)]
    report = kafka.produce(t, pa.Table.from_pylist(rows), key="n", deliveries=True, progress=False)
    assert (report.delivered, report.failed) == (19, 1)
    found = report.deliveries.to_dicts()
    assert [r["row"] for r in found] == list(range(20)) and report.deliveries.columns == [
        "row",
        "partition",
        "offset",
        "error",
    ]
    assert found[7]["offset"] is None and "message.max.bytes" in found[7]["error"]
    by_place = {(p, o): v for p, o, v in messages(address, t)}
    for row in found:
        if row["row"] != 7:
            assert f'"n":{row["row"]},'.encode() in by_place[(row["partition"], row["offset"])]
    assert "row 7" in report.failures[0]
    with pytest.raises(bayou.ConfigError, match="deliveries=True"):
        kafka.produce(t, [{"n": 1}], progress=False).deliveries  # noqa: B018
    unconfirmed = kafka.produce(t, [{"n": 1}], acks="0", deliveries=True, progress=False)
    assert unconfirmed.deliveries.to_dicts()[0]["error"] is None


def test_batches_are_shaped_by_linger_and_size_and_partitions_by_the_partitioner(
    kafka: bayou.Connection, topic: Topic
) -> None:
    t = topic(6)
    rows = [{"k": f"key-{i}"} for i in range(200)]
    options = {"key": "k", "deliveries": True, "progress": False}
    ours = kafka.produce(t, rows, linger="5 ms", batch_size="64 KB", **options)  # type: ignore[arg-type]
    same = kafka.produce(t, rows, partitioner="murmur2_random", **options)  # type: ignore[arg-type]
    other = kafka.produce(t, rows, partitioner="consistent_random", **options)  # type: ignore[arg-type]
    by = [
        r.deliveries["partition"].to_pylist()
        if hasattr(r.deliveries["partition"], "to_pylist")
        else list(r.deliveries["partition"])
        for r in (ours, same, other)
    ]
    assert by[0] == by[1] != by[2]


@pytest.mark.parametrize("acks", ["all", "1"])
def test_messages_keep_their_order_while_a_broker_restarts_connections(
    kafka: bayou.Connection, topic: Topic, address: str, acks: str
) -> None:
    t = topic(1)
    kafka.produce(t, [{"n": i} for i in range(20_000)], acks=acks, linger=0, progress=False)  # type: ignore[arg-type]
    assert [v for _, _, v in messages(address, t)] == [f'{{"n":{i}}}'.encode() for i in range(20_000)]


def xor(values: list[bytes]) -> list[bytes]:
    return [b"\x01" + bytes(b ^ 0x5A for b in v) for v in values]


def unxor(values: list[bytes]) -> list[bytes]:
    for v in values:
        if v[:1] != b"\x01":
            raise ValueError("this was not encrypted")
    return [bytes(b ^ 0x5A for b in v[1:]) for v in values]


def test_values_are_encrypted_and_decrypted_in_batches(
    kafka: bayou.Connection, topic: Topic, address: str, tmp_path: pathlib.Path
) -> None:
    t, calls = topic(2), []

    def seal(values: list[bytes]) -> list[bytes]:
        calls.append(len(values))
        return xor(values)

    rows = [{"id": i, "name": f"patient {i}"} for i in range(10_000)]
    kafka.produce(t, pa.Table.from_pylist(rows), key="id", encrypt=seal, progress=False)
    assert sum(calls) == 10_000 and len(calls) < 20
    assert not any(b"patient" in (v or b"") for _, _, v in messages(address, t))
    stream = kafka.read_stream(t, schema="id INT, name STRING", include_metadata=True, decrypt=unxor)
    found = stream.collect().to_dicts()
    assert sorted((r["id"], r["name"]) for r in found) == [(i, f"patient {i}") for i in range(10_000)]
    assert all(bytes(r["_key"]) == str(r["id"]).encode() for r in found)
    # A value that cannot be decrypted goes to quarantine as it came. The function does not get tombstones.
    kafka.produce(t, [{"id": -1, "name": "in the clear"}], progress=False)
    kafka.produce(t, pa.table({"v": pa.array([None], pa.binary())}), value="v", progress=False)
    query = stream.where("id < 3").write_delta(tmp_path / "t", progress=False)
    assert len(bayou.read_delta(tmp_path / "t")) == 3 and query.last_progress["numTombstones"] == 1
    [bad] = bayou.read_delta(f"{tmp_path / 't'}_quarantine").to_dicts()
    assert bad["stage"] == "decode" and bad["error"] == "decrypt=unxor: it raised ValueError"
    assert bytes(bad["value"]) == b'{"id":-1,"name":"in the clear"}'
    # A rule's rows keep the bytes that came, encrypted.
    strict = kafka.read_stream(t, schema="id INT, name STRING", decrypt=unxor).expect_or_quarantine(
        "small", "id < 9999"
    )
    strict.write_delta(tmp_path / "u", progress=False)
    rules = [r for r in bayou.read_delta(f"{tmp_path / 'u'}_quarantine").to_dicts() if r["stage"] == "expectation"]
    assert len(rules) == 1 and bytes(rules[0]["value"])[:1] == b"\x01"
    assert unxor([bytes(rules[0]["value"])]) == [b'{"id":9999,"name":"patient 9999"}']


def test_a_function_that_returns_nonsense_is_told_by_its_name(kafka: bayou.Connection, topic: Topic) -> None:
    t = topic()
    for function, text in [
        (lambda values: values[:-1], "got 2 values and returned 1"),
        (lambda values: ["text"] * len(values), "a list with str"),
        (lambda values: None, "it returned NoneType"),
    ]:
        with pytest.raises(bayou.FunctionError, match=text):
            kafka.produce(t, [{"a": 1}, {"a": 2}], encrypt=function, progress=False)  # type: ignore[arg-type]
    with pytest.raises(bayou.ConfigError, match="a function from a list of bytes"):
        kafka.produce(t, [{"a": 1}], encrypt="AES", progress=False)  # type: ignore[arg-type]
    kafka.produce(t, [{"a": 1}], progress=False)
    with pytest.raises(
        bayou.MalformedError,
        match=r"decrypt=<lambda>: it got 1 values and returned 0.*as many bytes\. No message was skipped",
    ):
        kafka.read_stream(t, schema="a INT", decrypt=lambda values: values[:-1]).collect()
    assert kafka.offsets(t).to_dicts()[0]["offset"] == 1, "nothing of the failed calls was sent"


def test_the_stop_button_says_what_has_arrived(kafka: bayou.Connection, topic: Topic, address: str) -> None:
    t = topic()
    timer = threading.Timer(1.5, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt, match=rf"publishing to '{t}' was stopped: (\d+) of (\d+) rows") as raised:
        kafka.produce(t, ({"a": i} for i in range(10_000_000)), rate=1000, progress=False)
    assert time.monotonic() - began < 15
    told = int(str(raised.value).split("stopped: ")[1].split()[0])
    assert told == len(messages(address, t)) > 0
    timer = threading.Timer(1.0, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt, match="Nothing was published"):
        kafka.produce(t, ({"a": i} for i in range(10_000_000)), rate=1000, transaction=True, progress=False)
    assert len(messages(address, t)) == told
