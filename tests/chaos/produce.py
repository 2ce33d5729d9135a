"""Writes the campaign's messages with two transactional producers in turn. Some of their transactions are aborted.

Every message carries its producer, its sequence number, its event time, and a checksum of all its fields. Some messages are late, some
break a rule, some are not JSON, and some have no value. The same seed gives the same messages.

    python tests/chaos/produce.py ADDRESS TOPIC COUNT SEED [MESSAGES A SECOND]     # prints the numbers of messages as JSON
"""

from __future__ import annotations

import functools
import json
import random
import sys
import time
import zlib
from collections.abc import Iterator
from datetime import datetime, timezone

import confluent_kafka

STEP = 10_000  # microseconds of event time from one message to the next
TRANSACTION = 1000


@functools.lru_cache(maxsize=100_000)
def second(s: int) -> str:
    return datetime.fromtimestamp(s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


def checksum(p: int, s: int, t: int, k: str, n: int, kind: str) -> int:
    return zlib.crc32(f"{p}|{s}|{t}|{k}|{n}|{kind}".encode())


def messages(seed: int, count: int, start: int) -> Iterator[tuple[bytes, bytes | None]]:
    """Keys and values. Event times begin at `start` (microseconds)."""
    rng = random.Random(seed)
    draw, sequence = rng.random, [0, 0]
    for i in range(count):
        p = i // TRANSACTION % 2
        s = sequence[p]
        sequence[p] += 1
        x = draw()
        t = start + i * STEP - int(draw() * 2_000_000)
        k = f"u{int(draw() * 500)}"
        n = int(draw() * 10_000)
        kind = "aaabbbcccc"[int(draw() * 10)]
        if x < 0.005:
            t -= 60_000_000 + int(draw() * 540_000_000)
        elif x < 0.015:
            kind = "x"  # a rule sends the row to the quarantine
        elif x < 0.025:
            n = -1  # a rule drops the row
        elif x < 0.028:
            yield k.encode(), b'{"p":%d,"s":%d,"t":"2024' % (p, s)
            continue
        elif x < 0.029:
            yield k.encode(), None
            continue
        when = f"{second(t // 1_000_000)}.{t % 1_000_000:06d}Z"
        crc = checksum(p, s, t, k, n, kind)
        yield k.encode(), f'{{"p":{p},"s":{s},"t":"{when}","k":"{k}","n":{n},"kind":"{kind}","c":{crc}}}'.encode()


def produce(address: str, topic: str, count: int, seed: int, rate: float = 0.0) -> dict[str, int]:
    """Returns the numbers of committed and of aborted messages. `rate`: messages a second. 0: as fast as possible."""
    rng = random.Random(seed ^ 0xABAD)
    producers = []
    for p in range(2):
        options = {"transactional.id": f"chaos-{topic}-{p}", "linger.ms": 5, "compression.type": "lz4"}
        producers.append(confluent_kafka.Producer({"bootstrap.servers": address, **options}))
        producers[-1].init_transactions(30)
    # A day ago, so that no event time is ahead of the clock. A full second, so that windows are easy to read.
    start = (int(time.time()) - 86_400) * 1_000_000
    committed = aborted = 0
    source = messages(seed, count, start)
    began = time.monotonic()
    for first in range(0, count, TRANSACTION):
        producer = producers[first // TRANSACTION % 2]
        size = min(TRANSACTION, count - first)
        producer.begin_transaction()
        for _ in range(size):
            key, value = next(source)
            while True:
                try:
                    producer.produce(topic, value, key)
                    break
                except BufferError:
                    producer.poll(0.1)
        if rng.random() < 0.05:
            # The messages are delivered before the abort, so the topic has aborted records, which readers must skip.
            producer.flush(30)
            producer.abort_transaction(30)
            aborted += size
        else:
            producer.commit_transaction(30)
            committed += size
        if rate:
            ahead = (first + size) / rate - (time.monotonic() - began)
            if ahead > 0:
                time.sleep(ahead)  # the rate must be steady
    return {"committed": committed, "aborted": aborted}


if __name__ == "__main__":
    address, topic, count, seed, *rest = sys.argv[1:]
    print(json.dumps(produce(address, topic, int(count), int(seed), float(rest[0]) if rest else 0.0)))
