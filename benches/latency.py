"""The latency of a row from Kafka to the table, and to a Python loop.

    python benches/latency.py                     # 1,000, 50,000 and 150,000 messages a second; triggers 0, 100 ms and 1 s; 15 s each
    python benches/latency.py --smoke             # 1,000 a second, 3 s: only checks that the benchmark runs
    python benches/latency.py --json out.json

A producer in a separate process (confluent-kafka) publishes at a steady rate to 4 partitions of a real Kafka (BAYOU_TEST_KAFKA, or one that is
started here). Each message has Kafka's timestamp, in milliseconds. A row is in the table when its commit is in the log. So its latency is the time
of the commit's file minus the row's timestamp. A row is in the loop when `batches()` hands out its batch. Different machines give different
numbers: compare the triggers with each other, and the table with the loop.
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import uuid

HERE = pathlib.Path(__file__).resolve().parent
PARTITIONS = 4
RATES = (1_000, 50_000, 150_000)
TRIGGERS = ("0 seconds", "100 milliseconds", "1 second")


def publish(address: str, topic: str, rate: int, seconds: float) -> None:
    """Publishes at a steady rate, in a burst every 5 ms."""
    import confluent_kafka

    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": address,
            "linger.ms": 1,
            "queue.buffering.max.messages": 1_000_000,
            "compression.type": "lz4",
        }
    )
    payload = json.dumps({"ip": "10.0.0.1", "model": "watch", "heart_bpm": 71, "note": "x" * 60}).encode()
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        while sent < passed * rate:
            try:
                producer.produce(topic, payload, partition=sent % PARTITIONS)
                sent += 1
            except BufferError:
                producer.poll(0.001)
        producer.poll(0)
        time.sleep(0.005)
    producer.flush(30)


def quantiles(latencies: list) -> dict:
    """The quantiles in milliseconds. Each entry is (latency in ms, rows)."""
    latencies.sort()
    total = sum(n for _, n in latencies)
    out, seen, wanted = {}, 0, [("p50", 0.5), ("p99", 0.99), ("max", 1.0)]
    for latency, n in latencies:
        seen += n
        while wanted and seen >= total * wanted[0][1]:
            out[wanted.pop(0)[0]] = round(latency)
    return out | {"rows": total}


def of_table(path: pathlib.Path) -> list:
    import pyarrow.parquet as pq

    out = []
    for commit in (path / "_delta_log").glob("*.json"):
        at = commit.stat().st_mtime * 1000
        for line in commit.open():
            add = json.loads(line).get("add")
            if add:
                times = pq.read_table(path / add["path"], columns=["_timestamp"])["_timestamp"].cast("int64").to_numpy()
                out += [(at - t / 1000, 1) for t in times[:: max(1, len(times) // 200)]]
    return out


def measure(address: str, rate: int, trigger: str, seconds: float, folder: pathlib.Path) -> dict:
    import bayou
    import numpy as np

    kafka = bayou.connect(address)
    topic = f"latency-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(topic, partitions=PARTITIONS, replication_factor=1)
    columns = "ip STRING, model STRING, heart_bpm INT"
    stream = kafka.read_stream(topic, schema=columns, include_metadata=True)
    found = {}
    for what in ("table", "loop"):
        begin = [sys.executable, __file__, "--publish", json.dumps([address, topic, rate, seconds])]
        latest = kafka.read_stream(topic, schema=columns, include_metadata=True, starting_offsets="latest")
        if what == "table":
            path = folder / f"{rate}-{trigger.replace(' ', '')}"
            query = latest.write_delta(path, trigger=trigger, block=False, progress=False)
            subprocess.run(begin, check=True)
            time.sleep(2)
            query.stop()
            found[what] = quantiles(of_table(path))
        else:
            seen: list = []
            iterator = latest.batches(trigger=trigger)

            def read(iterator=iterator, seen=seen) -> None:
                for batch in iterator:
                    now = time.time() * 1000
                    times = batch.to_arrow()["_timestamp"].cast("int64").to_numpy() / 1000
                    step = max(1, len(times) // 200)
                    seen += [(now - t, 1) for t in np.asarray(times)[::step]]

            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            time.sleep(1)
            subprocess.run(begin, check=True)
            time.sleep(2)
            iterator.close()
            reader.join(10)
            found[what] = quantiles(seen)
    del stream
    kafka.delete_topic(topic)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--publish", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.publish:
        publish(*json.loads(given.publish))
        return 0
    rates, triggers, seconds = (RATES[:1], TRIGGERS[:1], 3.0) if given.smoke else (RATES, TRIGGERS, given.seconds)
    with contextlib.ExitStack() as stack:
        address = os.environ.get("BAYOU_TEST_KAFKA")
        if not address:
            sys.path.insert(0, str(HERE.parent / "tests" / "kafka"))
            import server

            address = stack.enter_context(server.Server()).plain
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bayou-latency-")))
        out = []
        print(f"{'rate':>8}  {'trigger':>16}  {'to':>5}  {'p50 ms':>7}  {'p99 ms':>7}  {'max ms':>7}")
        for rate in rates:
            for trigger in triggers:
                found = measure(address, rate, trigger, seconds, folder)
                out.append({"rate": rate, "trigger": trigger} | found)
                for what, q in found.items():
                    print(
                        f"{rate:>8}  {trigger:>16}  {what:>5}  {q['p50']:>7}  {q['p99']:>7}  {q['max']:>7}", flush=True
                    )
    if given.json:
        given.json.write_text(json.dumps(out, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
