"""How much memory a run takes for large messages, for each way to read them. Each way has its own process, which prints its own peak.

python tests/kafka/server.py run -- python tests/python/memory.py          # 1,500 messages of 0.86 MB, each way
python tests/kafka/server.py run -- python tests/python/memory.py append   # one way
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import uuid

SCHEMA = "k STRING, n INT, s STRING"
KEYS = 20
WAYS = ("batches", "append", "partitioned", "quarantined", "malformed", "foreach", "update", "complete", "exploded")


def peak_mb() -> float:
    """Of this process, since it began."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def fill(brokers: str, topic: str, messages: int, size: int, malformed: bool = False) -> None:
    """Messages of `size` bytes, no two alike, in one partition."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": brokers})
    for made in admin.create_topics([NewTopic(topic, 1, 1)]).values():
        made.result()
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 5, "queue.buffering.max.kbytes": 65536, "acks": 1})
    text = os.urandom(size).hex()
    for n in range(messages):
        row = json.dumps({"k": f"k{n % KEYS}", "n": n, "s": text[n : n + size]})
        value = ("not " + row if malformed else row).encode()
        while True:
            try:
                producer.produce(topic, value)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush()


def bomb(brokers: str, codec: str) -> str:
    """A topic with a message of 300 MB of one letter, which a codec makes small, between two of a few bytes."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    topic = f"bomb-{codec}-{suffix()}"
    config = {"max.message.bytes": "64000000"}
    admin = AdminClient({"bootstrap.servers": brokers})
    for made in admin.create_topics([NewTopic(topic, 1, 1, config=config)]).values():
        made.result()
    large = {"message.max.bytes": 400_000_000, "queue.buffering.max.kbytes": 1_000_000, "linger.ms": 0}
    producer = Producer({"bootstrap.servers": brokers, "compression.type": codec, **large})
    for value in (b'{"a": 1}', b"a" * 300_000_000, b'{"a": 2}'):
        delivered: list[object] = []
        producer.produce(topic, value, on_delivery=lambda error, _, to=delivered: to.append(error))
        producer.flush(60)
        assert delivered == [None]
    return topic


def lists(brokers: str) -> str:
    """A topic with 20 lists of 6,000 numbers, and in front of them one of 100,000."""
    from confluent_kafka import Producer

    topic = f"lists-{suffix()}"
    producer = Producer({"bootstrap.servers": brokers})
    for k, length in enumerate([100_000] + [6_000] * 20):
        producer.produce(topic, json.dumps({"k": k, "l": list(range(length))}).encode(), partition=0)
    assert producer.flush(60) == 0
    return topic


def suffix() -> str:
    return uuid.uuid4().hex[:8]


def run(way: str, brokers: str, topic: str, folder: str) -> None:
    """Reads the topic in one way."""
    import bayou

    stream = bayou.connect(brokers).read_stream(topic, schema=SCHEMA, max_malformed=1.0)
    table = folder + "/t"
    seen = None
    if way == "exploded":
        # Each row has the list and one of its elements: 5.8 GB of rows.
        lists = bayou.connect(brokers).read_stream(topic, schema="k INT, l ARRAY<INT>")
        lists.select("k", "l", "explode(l) AS n").write_delta(table, progress=False)
    elif way == "bomb":
        seen = len(bayou.connect(brokers).read_stream(topic, schema="a INT", on_malformed="drop").collect())
    elif way == "batches":
        seen = sum(batch.num_rows for batch in stream.batches())
    elif way == "append":
        stream.write_delta(table, progress=False)
    elif way == "partitioned":
        stream.write_delta(table, partition_by="k", progress=False)
    elif way == "quarantined":
        stream.expect_or_quarantine("never", "n < 0").write_delta(table, progress=False)
    elif way == "malformed":
        stream.write_delta(table, progress=False)
    elif way == "foreach":
        counts: list[int] = []
        stream.foreach_batch(
            lambda rows, epoch: counts.append(len(rows)),
            query_name="memory",
            checkpoint_location=folder + "/c",
            progress=False,
        )
        seen = sum(counts)
    else:
        groups = stream.group_by("k").agg("max(s) AS s", "count(*) AS n")
        groups.write_delta(table, output_mode=way, progress=False)
    print(json.dumps({"peak": peak_mb(), "seen": seen}))


def peak(way: str, brokers: str, topic: str, messages: int) -> float:
    """The peak in MB of a process that reads the topic in this way. What it wrote is looked at from outside."""
    import bayou

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "run", way, brokers, topic, folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{way}: {done.stderr[-3000:]}"
        said = json.loads(done.stdout.splitlines()[-1])
        seen = said["seen"]
        if seen is None:
            table = folder + ("/t_quarantine" if way in ("quarantined", "malformed") else "/t")
            count = "sum(n)" if way in ("update", "complete") else "count(*)"
            seen = bayou.sql(f"SELECT {count} AS n FROM t", t=table).to_arrow().column("n")[0].as_py()
        assert seen == messages, f"{way}: {seen} of {messages}"
        return float(said["peak"])


def main() -> None:
    if sys.argv[1:2] == ["run"]:
        return run(*sys.argv[2:])
    brokers = os.environ["BAYOU_TEST_KAFKA"]
    messages, size = 1500, 860_000
    for codec in ("gzip", "lz4", "zstd"):
        if not sys.argv[1:] or codec in sys.argv[1:]:
            print(f"{codec:12} {peak('bomb', brokers, bomb(brokers, codec), 2):6.0f} MB", flush=True)
    topics: dict[bool, str] = {}
    for way in [way for way in WAYS if way in sys.argv[1:] or not sys.argv[1:]]:
        if way == "exploded":
            print(f"{way:12} {peak(way, brokers, lists(brokers), 120_000):6.0f} MB", flush=True)
            continue
        malformed = way == "malformed"
        if malformed not in topics:
            topics[malformed] = f"memory-{suffix()}"
            fill(brokers, topics[malformed], messages, size, malformed)
        began = time.monotonic()
        mb = peak(way, brokers, topics[malformed], messages)
        print(f"{way:12} {mb:6.0f} MB {time.monotonic() - began:6.1f} s", flush=True)


if __name__ == "__main__":
    main()
