"""The messages of a topic, as Kafka's own Java console consumer reads them (read_committed)."""

from __future__ import annotations

import functools
import json
import pathlib
import subprocess
import sys
import zlib
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "kafka"))
from server import VERSION, java

Numbers = np.ndarray
NULL = -1  # the message does not have this kind or key


@functools.lru_cache(maxsize=200_000)
def second(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()) * 1_000_000


def micros(text: str) -> int:
    """`2024-01-01T00:00:00.123456Z`"""
    return second(text[:19]) + int(text[20:26])


def checksum(p: int, s: int, t: int, k: int, n: int, kind: int) -> int:
    """The checksum, as the producers compute it. Keys and kinds are numbers here: u7 is 7, "a" is 97."""
    return zlib.crc32(f"{p}|{s}|{t}|u{k}|{n}|{chr(kind)}".encode())


@dataclass
class Truth:
    """The messages as columns, in the order of partition and offset."""

    part: Numbers
    off: Numbers
    stamp: Numbers
    # 0: a row; 1: not JSON; 2: without a value
    state: Numbers
    columns: dict[str, Numbers]
    values: list[bytes | None]
    keys: list[bytes | None]
    topic: str = ""
    problems: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.part)


COLUMNS = ("p", "s", "t", "k", "n", "kind", "c")


def parse(lines: list[str]) -> Truth:
    part, off, stamp, state = [], [], [], []
    values: list[bytes | None] = []
    keys: list[bytes | None] = []
    known: dict[str, bytes | None] = {"null": None}
    columns: dict[str, list[int]] = {c: [] for c in COLUMNS}
    problems = []
    for line in lines:
        when, partition, offset, key, value = line.split("\t", 4)
        part.append(int(partition.removeprefix("Partition:")))
        off.append(int(offset.removeprefix("Offset:")))
        stamp.append(int(when.removeprefix("CreateTime:")))
        # There are few keys and many messages, so equal keys share one object.
        keys.append(known.setdefault(key, key.encode()))
        row = [0] * 7
        if value == "null":
            state.append(2)
            values.append(None)
        else:
            values.append(value.encode())
            try:
                found = json.loads(value)
            except ValueError:
                state.append(1)
            else:
                state.append(0)
                kind = ord(found["kind"])
                row = [found["p"], found["s"], micros(found["t"]), int(found["k"][1:]), found["n"], kind, found["c"]]
                if checksum(*row[:6]) != row[6] or key != found["k"]:
                    problems.append(f"the topic itself: {line[:200]}")
        for name, number in zip(COLUMNS, row, strict=True):
            columns[name].append(number)
    order = np.lexsort((np.array(off, np.int64), np.array(part, np.int64)))
    pick = lambda numbers: np.array(numbers, np.int64)[order]  # noqa: E731
    kept = {name: pick(numbers) for name, numbers in columns.items()}
    in_order = lambda texts: [texts[i] for i in order]  # noqa: E731
    return Truth(
        pick(part), pick(off), pick(stamp), pick(state), kept, in_order(values), in_order(keys), problems=problems
    )


def consume(address: str, topic: str, patience_ms: int = 5000) -> list[str]:
    """Ends when no message has come for `patience_ms`. The caller knows how many messages were committed."""
    options = {
        "print.timestamp": "true",
        "print.partition": "true",
        "print.offset": "true",
        "print.key": "true",
        "print.value": "true",
        "key.separator": "\t",
    }
    command = java(VERSION, "-Xmx512m", "-XX:TieredStopAtLevel=1")
    command += ["org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", address, "--topic", topic]
    command += ["--from-beginning", "--isolation-level", "read_committed", "--timeout-ms", str(patience_ms)]
    for name, value in options.items():
        command += ["--formatter-property", f"{name}={value}"]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    said = done.stderr.strip().splitlines()
    assert any(f"Processed a total of {len(lines)} messages" in line for line in said), done.stderr[-2000:]
    return lines


def read(address: str, topic: str, committed: int, patience_ms: int = 5000) -> Truth:
    """`committed`: the number of messages that the producers committed. It shows whether the consumer ended too early."""
    found = parse(consume(address, topic, patience_ms))
    found.topic = topic
    assert len(found) == committed, f"the Java consumer read {len(found)} messages, the producers committed {committed}"
    return found


def summary(truth: Truth) -> dict[str, Any]:
    return {
        "messages": len(truth),
        "malformed": int((truth.state == 1).sum()),
        "tombstones": int((truth.state == 2).sum()),
    }
