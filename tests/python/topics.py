"""Topics as outputs, for tests: the messages on a topic as seen by readers that are not bayou's, and a pipeline that writes topics and is cut off."""

from __future__ import annotations

import contextlib
import json
import pathlib
import random
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import bayou
import confluent_kafka
import confluent_kafka.admin

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "kafka"))
import server

HERE = pathlib.Path(__file__).parent


@dataclass(frozen=True)
class Message:
    partition: int
    offset: int
    key: str | None
    value: str | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp: int

    @property
    def epoch(self) -> int:
        return int(dict(self.headers)["bayou-epoch"] or b"")

    @property
    def row(self) -> Any:
        return None if self.value is None else json.loads(self.value)


def message(m: Any) -> Message:
    text = [None if b is None else b.decode() for b in (m.key(), m.value())]
    return Message(m.partition(), m.offset(), text[0], text[1], tuple(m.headers() or ()), m.timestamp()[1])


def reader(address: str, topic: str, isolation: str = "read_committed") -> confluent_kafka.Consumer:
    options = {
        "bootstrap.servers": address,
        "group.id": "test-reader",
        "isolation.level": isolation,
        "enable.partition.eof": True,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
    consumer = confluent_kafka.Consumer(options)
    partitions = consumer.list_topics(topic, 10).topics[topic].partitions
    consumer.assign([confluent_kafka.TopicPartition(topic, p, 0) for p in partitions])
    return consumer


def committed(address: str, topic: str, isolation: str = "read_committed") -> list[Message]:
    """Everything on the topic, as librdkafka's consumer sees it."""
    consumer = reader(address, topic, isolation)
    open_, out = {p.partition for p in consumer.assignment()}, []
    try:
        while open_:
            m = consumer.poll(30)
            assert m is not None, f"{topic}: the end of partitions {open_} did not come"
            if m.error():
                assert m.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, m.error()
                open_.discard(m.partition())
            else:
                out.append(message(m))
    finally:
        consumer.close()
    return out


def java_values(address: str, topic: str) -> list[str]:
    """The values, as Kafka's own console consumer sees them with read_committed."""
    command = ["java", "-cp", f"{server.jars()}/*", "org.apache.kafka.tools.consumer.ConsoleConsumer"]
    command += ["--bootstrap-server", address, "--topic", topic, "--from-beginning"]
    command += ["--isolation-level", "read_committed", "--timeout-ms", "6000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout.splitlines()


def content(messages: list[Message]) -> dict[str | None, Any]:
    """The messages of a reader that keeps the newest message of each key."""
    out: dict[str | None, Any] = {}
    for m in messages:
        if m.row is None:
            out.pop(m.key, None)
        else:
            out[m.key] = m.row
    return out


def number(address: str, group: str, topic: str) -> tuple[int, dict[str, Any]] | None:
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": address})
    wanted = confluent_kafka.ConsumerGroupTopicPartitions(group, [confluent_kafka.TopicPartition(topic, 0)])
    for _ in range(50):
        [found] = admin.list_consumer_group_offsets([wanted])[group].result(30).topic_partitions
        if found.offset < 0:
            return None
        # confluent-kafka reads the text up to the next zero byte, which may be behind its end.
        with contextlib.suppress(UnicodeDecodeError):
            return found.offset, json.JSONDecoder().raw_decode(found.metadata)[0]
    raise AssertionError("the metadata cannot be read")


def forget(address: str, group: str) -> None:
    """Deletes the offsets of a group, as Kafka does for an unused group after offsets.retention.minutes."""
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": address})
    admin.delete_consumer_groups([group])[group].result(30)


def configure(address: str, topic: str, **config: str) -> None:
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": address})
    kind = confluent_kafka.admin.ConfigResource.Type.TOPIC
    set_ = confluent_kafka.admin.AlterConfigOpType.SET
    entries = [
        confluent_kafka.admin.ConfigEntry(n.replace("_", "."), v, incremental_operation=set_) for n, v in config.items()
    ]
    resource = confluent_kafka.admin.ConfigResource(kind, topic, incremental_configs=entries)
    admin.incremental_alter_configs([resource])[resource].result(30)


@dataclass
class Lake:
    """A pipeline that writes topics and tables, in processes that end when the test wants it."""

    kafka: bayou.Connection
    root: pathlib.Path
    source: str
    topics: dict[str, str]
    name: str = "topics"
    sent: int = 0
    rng: random.Random = field(default_factory=lambda: random.Random(7))

    @property
    def address(self) -> str:
        return self.kafka.address

    def publish(self, count: int) -> None:
        first, self.sent = self.sent, self.sent + count
        rows = [
            {"id": i, "ip": f"10.0.0.{self.rng.randrange(12)}", "n": self.rng.randrange(5)}
            for i in range(first, self.sent)
        ]
        assert self.kafka.produce(self.source, rows, key="ip").failed == 0

    def job(self, crash: dict[str, int] | None, pause: dict[str, int] | None, run: dict[str, Any]) -> dict[str, Any]:
        return {
            "address": self.address,
            "source": self.source,
            "root": str(self.root),
            "name": self.name,
            "topics": self.topics,
            "crash": crash or {},
            "pause": pause or {},
            "run": run,
        }

    def start(
        self, crash: dict[str, int] | None = None, *, pause: dict[str, int] | None = None, **run: Any
    ) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [sys.executable, str(HERE / "topic_run.py")], stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        assert process.stdin and process.stdout
        process.stdin.write(json.dumps(self.job(crash, pause, run)) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "go\n"
        return process

    def end(self, process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
        try:
            out, errors = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return process.returncode, json.loads(out) if out.strip() else {}, errors

    def crash(self, point: str, nth: int = 1) -> None:
        code, said, errors = self.end(self.start({point: nth}))
        assert code != 0 and f"crash point {point}" in errors, (code, said, errors)

    def run(self, **run: Any) -> dict[str, Any]:
        code, said, errors = self.end(self.start(**run))
        assert code == 0, errors
        return said

    def finish(self, **run: Any) -> None:
        assert self.run(**run)["error"] is None

    def group(self, output: str) -> str:
        return f"bayou.{self.name}.{output}"

    def table(self, name: str) -> list[dict[str, Any]]:
        return bayou.read_delta(self.root / name).to_arrow().to_pylist()

    def check_rows(self) -> list[Message]:
        """The append topic has each row of the table once, and one transaction for each epoch."""
        found = committed(self.address, self.topics["rows"])
        want = sorted(self.table("rows_table"), key=lambda r: r["id"])
        assert sorted((m.row for m in found), key=lambda r: r["id"]) == want
        assert [r["id"] for r in want] == list(range(self.sent))
        assert all(m.key == m.row["ip"] for m in found)
        return found

    def check_upserts(self, output: str) -> list[Message]:
        found = committed(self.address, self.topics[output])
        have = sorted(content(found).values(), key=lambda r: r["ip"])
        assert have == sorted(self.table(f"{output}_table"), key=lambda r: r["ip"])
        return found
