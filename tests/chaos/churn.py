"""Starts and stops queries again and again in one process, and counts the leftovers: threads, file handles, memory, connections.

    python tests/kafka/server.py run -- python tests/chaos/churn.py --rounds 500 --seed 1

prints a block of JSON. One round is one start and stop: a bounded run, an interval run that is stopped, an iterator that is left
half-way, `write_delta`, a new connection, a run that fails, a preview, `foreach_batch`, a run that is interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from typing import Any

import bayou

SCHEMA = "a INT, k STRING"


def threads() -> Counter[str]:
    found: Counter[str] = Counter()
    for task in pathlib.Path("/proc/self/task").iterdir():
        try:
            found[(task / "comm").read_text().strip()] += 1
        except OSError:
            continue  # the thread has ended meanwhile
    return found


def handles() -> Counter[str]:
    found: Counter[str] = Counter()
    for handle in pathlib.Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(handle)
        except OSError:
            continue
        found[target.split(":")[0] if ":" in target else target] += 1
    return found


def memory() -> int:
    """The resident memory in bytes."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def slope(points: list[tuple[float, float]]) -> float:
    """The slope of a line through the points, by least squares."""
    n = len(points)
    mx, my = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    across = sum((x - mx) ** 2 for x, _ in points)
    return sum((x - mx) * (y - my) for x, y in points) / across if across else 0.0


def settled(before: Counter[str], within: float = 20.0) -> Counter[str]:
    """Threads that still exist after all threads had time to end. Clients close, and idle workers end, by themselves."""
    deadline = time.monotonic() + within
    while True:
        more = threads() - before
        if not more or time.monotonic() > deadline:
            return more
        time.sleep(0.1)


class Churn:
    def __init__(self, address: str, root: pathlib.Path, seed: int) -> None:
        self.address, self.root, self.rng = address, root, random.Random(seed)
        self.kafka = bayou.connect(address)
        self.topic = f"churn-{uuid.uuid4().hex[:8]}"
        self.kafka.create_topic(self.topic, partitions=1, replication_factor=1)
        self.kafka.produce(self.topic, [{"a": n, "k": f"k{n % 3}"} for n in range(50)], progress=False)
        self.kinds = [self.bounded, self.interval, self.iterator, self.write, self.anew, self.fails, self.looks]
        self.kinds += [self.functions, self.told, self.interrupted]

    def stream(self, kafka: bayou.Connection | None = None) -> bayou.Stream:
        return (kafka or self.kafka).read_stream(self.topic, schema=SCHEMA)

    def lake(self) -> bayou.Pipeline:
        # A few folders are used again and again, like a cell of a notebook that is run again.
        lake = bayou.Pipeline(f"p{self.rng.randrange(6)}", self.root)
        lake.table(f"{lake.name}_t", self.stream())
        lake.table(f"{lake.name}_k", self.stream().group_by("k").agg("count(*) AS c"), output_mode="update")
        return lake

    def bounded(self) -> None:
        self.lake().run(progress=False)

    def interval(self) -> None:
        self.lake().run(trigger="1 second", block=False, progress=False).stop()

    def iterator(self) -> None:
        for _ in self.stream().batches(trigger="1 second", batch_rows=10):
            break

    def write(self) -> None:
        self.stream().write_delta(self.root / "w", progress=False)

    def anew(self) -> None:
        assert len(self.stream(bayou.connect(self.address)).collect(limit=20)) == 20

    def fails(self) -> None:
        try:
            self.stream().where("a >= 0").expect_or_fail("never", "a < 0").write_delta(
                self.root / uuid.uuid4().hex, progress=False
            )
        except bayou.ExpectationError:
            return
        raise AssertionError("it did not fail")

    def looks(self) -> None:
        assert len(self.stream().preview(5)) == 5

    def functions(self) -> None:
        mapped = self.stream().map_batches(lambda rows: rows, schema=SCHEMA)
        assert len(mapped.collect(limit=10)) == 10

    def told(self) -> None:
        rows = []
        # A new name, because a pipeline that has handed out all rows hands out nothing.
        lake = bayou.Pipeline(f"told-{uuid.uuid4().hex[:8]}", self.root)
        lake.foreach_batch("f", self.stream(), lambda batch, _: rows.append(batch.num_rows))
        lake.run(progress=False)
        assert sum(rows) == 50

    def interrupted(self) -> None:
        lake = self.lake()
        timer = threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with contextlib.suppress(KeyboardInterrupt):
            lake.run(trigger="1 second", progress=False)
        timer.join()


def churn(address: str, rounds: int, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bayou-churn-") as folder:
        # Spilled files, and files that are left behind, are found in this folder.
        temporary = pathlib.Path(folder) / "tmp"
        temporary.mkdir()
        os.environ["TMPDIR"] = str(temporary)
        work = Churn(address, pathlib.Path(folder) / "lake", seed)
        for kind in work.kinds * 2:
            kind()
        gc.collect()
        settled(Counter(), within=3)
        before, opened, resident = threads(), handles(), []
        began = time.monotonic()
        for n in range(rounds):
            work.kinds[n % len(work.kinds)]()
            if n % 10 == 9:
                resident.append((n, memory() / 2**20))
        seconds = time.monotonic() - began
        gc.collect()
        left = settled(before)
        more = handles() - opened
        second_half = resident[len(resident) // 2 :]
        rows = work.lake()
        rows.run(progress=False)
        return {
            "seed": seed,
            "rounds": rounds,
            "seconds": round(seconds, 1),
            "threadsBefore": sum(before.values()),
            "threadsLeft": dict(left),
            "handlesBefore": sum(opened.values()),
            "handlesLeft": dict(more),
            "temporaryFilesLeft": len(list(temporary.rglob("*"))),
            "megabytes": [round(resident[0][1], 1), round(resident[-1][1], 1)],
            "kilobytesPerRound": round(slope(second_half) * 1024, 2),
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(json.dumps(churn(os.environ["BAYOU_TEST_KAFKA"], given.rounds, given.seed), indent=1))
    sys.exit(0)
