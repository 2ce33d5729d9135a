"""Topics as outputs while runs are killed and brokers die: checks the messages that a reader of committed messages sees.

    python tests/chaos/transactions.py --seed 1 --kills 100      # prints figures as JSON

There are three Kafka nodes. A pipeline of three topics and three tables (tests/python/topic_run.py) is killed at the crash points of a transaction
in turn, and at random moments in between. In some of the runs a broker dies, hangs or loses its leaders. A consumer that is not bayou's reads the
append topic from the first message on. At the end each row of the source must be there once, and the newest messages of the other topics must
equal the tables.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from typing import Any

import bayou

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "kafka"))
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))
from cluster import NODES, Cluster
from topics import Lake, committed, java_values, reader

POINTS = [
    f"{step}:{output}.{when}"
    for output in ("rows", "changed", "whole")
    for step in ("staged", "send", "commit")
    for when in ("before", "after")
] + ["seal.before", "seal.after", "done.before", "done.after"]
BROKERS = ("none", "none", "kill", "pause", "move")


class Reader(threading.Thread):
    def __init__(self, address: str, topic: str) -> None:
        super().__init__()
        self.consumer = reader(address, topic)
        self.seen: Counter[int] = Counter()
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.is_set():
            m = self.consumer.poll(0.1)
            if m is not None and not m.error():
                self.seen[json.loads(m.value())["id"]] += 1
        self.consumer.close()


def disturb(cluster: Cluster, rng: random.Random) -> str:
    what = rng.choice(BROKERS)
    node = rng.choice(NODES)
    if what == "kill":
        cluster.kill(node)
    elif what == "pause":
        cluster.pause(node)
    elif what == "move":
        cluster.kill(node)
        cluster.start(node)
    return what


def campaign(seed: int, kills: int, folder: pathlib.Path) -> dict[str, Any]:
    rng = random.Random(seed)
    figures: dict[str, Any] = {"kills": 0, "points": Counter(), "brokers": Counter(), "problems": []}
    with Cluster() as cluster:
        kafka = bayou.connect(cluster.address)
        names = {"source": 3, "rows": 3, "changed": 2, "whole": 2}
        for name, partitions in names.items():
            kafka.create_topic(name, partitions=partitions, replication_factor=3)
        lake = Lake(kafka, folder / "lake", "source", {name: name for name in names if name != "source"}, rng=rng)
        watching = Reader(cluster.address, "rows")
        watching.start()
        try:
            while figures["kills"] < kills:
                cluster.heal()
                cluster.settle()
                lake.publish(rng.randrange(60, 200))
                point = POINTS[figures["kills"] % len(POINTS)] if rng.random() < 0.6 else None
                process = lake.start({point: rng.randrange(1, 3)} if point else {})
                figures["brokers"][disturb(cluster, rng)] += 1
                if point is None:
                    time.sleep(rng.uniform(0.05, 1.5))
                    process.kill()
                else:
                    # If the run never reaches the crash point, it ends. If it waits for a broker, it ends after the broker is back.
                    time.sleep(0.5)
                    cluster.heal()
                code, said, errors = lake.end(process)
                if code != 0:
                    figures["kills"] += 1
                    figures["points"][point or "SIGKILL"] += 1
                elif said.get("error") not in (None, "ConnectionError"):
                    figures["problems"].append(said)
                if code != 0 and "crash point" not in errors and point:
                    figures["problems"].append(errors[-500:])
            cluster.heal()
            cluster.settle()
            lake.finish()
            until = time.monotonic() + 60
            while len(watching.seen) < lake.sent and time.monotonic() < until:
                time.sleep(0.1)
        finally:
            watching.enough.set()
            watching.join()
        figures["rows"] = lake.sent
        figures["missing"] = lake.sent - len(watching.seen)
        figures["duplicated"] = sum(n - 1 for n in watching.seen.values())
        try:
            found = lake.check_rows()
            figures["epochs"] = len({m.epoch for m in found})
            figures["tombstones"] = 0
            for output in ("changed", "whole"):
                figures["tombstones"] += sum(m.value is None for m in lake.check_upserts(output))
            java = java_values(cluster.address, "rows")
            assert sorted(java) == sorted(m.value or "" for m in found), "the console consumer sees other messages"
        except AssertionError as e:
            figures["problems"].append(str(e)[:500])
        every = committed(cluster.address, "rows", "read_uncommitted")
        figures["messagesOfAbortedTransactions"] = len(every) - lake.sent
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=100)
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bayou-topics-") as folder:
        figures = campaign(given.seed, given.kills, pathlib.Path(folder))
    figures |= {"seed": given.seed, "seconds": round(time.monotonic() - began)}
    print(json.dumps(figures, indent=1))
    return 1 if figures["problems"] or figures["missing"] or figures["duplicated"] else 0


if __name__ == "__main__":
    sys.exit(main())
