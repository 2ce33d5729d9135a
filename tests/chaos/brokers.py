"""Brokers die, hang and lose leadership while pipelines read: an interval run without end, and bounded runs one after the other.

    python tests/chaos/brokers.py --seed 1 --rounds 30      # prints figures as JSON

The seed decides every step of a round. An idempotent producer that waits for all replicas (acks=all) sends all the time. At the end the oracle
compares all nine outputs of runner.py's pipeline, in both lakes, with the messages that Kafka's Java consumer reads.
"""

from __future__ import annotations

import argparse
import json
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
import confluent_kafka
from oracle import Oracle
from produce import messages
from runner import define
from truth import read

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "kafka"))
from cluster import NODES, Cluster, until
from server import BEFORE, VERSION

STOP, CONT = signal.SIGSTOP, signal.SIGCONT
STEPS = ("kill", "pause", "move", "kill two", "pause two", "restart all", "rolling", "replace", "reassign", "quota")
# Longer than the brokers' session timeout, so that leaders change.
PAUSE = 4.0


class Producer(threading.Thread):
    """Sends until `finish` is called, and counts the delivered messages."""

    def __init__(self, address: str, topic: str, seed: int, rate: int) -> None:
        super().__init__()
        self.topic, self.seed, self.rate = topic, seed, rate
        self.enough = threading.Event()
        self.delivered = 0
        self.errors: list[str] = []
        options = {
            "bootstrap.servers": address,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 5,
            "compression.type": "lz4",
            "message.timeout.ms": 300_000,
            "socket.timeout.ms": 5000,
            "reconnect.backoff.max.ms": 500,
            "log_level": 0,
        }
        self.producer = confluent_kafka.Producer(options)

    def heard(self, error: Any, _: Any) -> None:
        if error is None:
            self.delivered += 1
        else:
            self.errors.append(str(error))

    def run(self) -> None:
        start = (int(time.time()) - 86_400) * 1_000_000
        for i, (key, value) in enumerate(messages(self.seed, 10_000_000, start)):
            if i % 100 == 0 and self.enough.wait(100 / self.rate):
                break
            while True:
                try:
                    self.producer.produce(self.topic, value, key, on_delivery=self.heard)
                    break
                except BufferError:
                    self.producer.poll(0.1)
            self.producer.poll(0)
        left = self.producer.flush(120)
        if left:
            self.errors.append(f"{left} messages were not delivered")

    def finish(self) -> int:
        self.enough.set()
        self.join(180)
        assert not self.is_alive() and not self.errors, self.errors[:5]
        return self.delivered


class Bounded(threading.Thread):
    """Bounded runs, one after the other."""

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__(daemon=True)  # a thread that hangs does not block the campaign's end
        self.job = job
        self.enough = threading.Event()
        self.runs = 0
        self.errors: list[str] = []
        self.unreachable = 0
        self.query: bayou.Query | None = None

    def run(self) -> None:
        while not self.enough.is_set():
            try:
                self.query = define(self.job).run(progress=False, block=False)
                self.query.await_termination()
                self.runs += 1
            except bayou.ConnectionError:
                # A start that finds no broker raises this error, and the next start goes on.
                self.unreachable += 1
            except Exception as error:
                # Any exception: an exception that ends a thread would not be noticed.
                self.errors.append(f"{type(error).__name__}: {error}")
                return
            self.enough.wait(0.2)

    def finish(self) -> list[str]:
        """The errors of the runs."""
        self.enough.set()
        # A run that is active when all brokers work again ends soon.
        self.join(120)
        if not self.is_alive():
            return self.errors
        doing = self.query and (self.query.status, self.query.last_progress)
        if self.query:
            self.query.stop()
        self.join(30)
        left = ", and does not stop" if self.is_alive() else ""
        return [*self.errors, f"a bounded run hangs{left}: {doing}"]


def fault(cluster: Cluster, topic: str, rng: random.Random, step: str) -> None:
    nodes = rng.sample(NODES, 2 if "two" in step else 1)
    if step == "move":
        to = rng.choice(NODES)
        cluster.move_leaders(topic, to)
        return
    if step == "rolling":
        for n in NODES:
            cluster.restart(n)
        return
    if step == "upgrade":
        cluster.upgrade()
        return
    if step == "replace":
        cluster.replace(rng.choice(NODES))
        return
    if step == "reassign":
        # Away from one node and back: each partition's log is copied.
        cluster.reassign(topic, rng.sample(NODES, 2))
        cluster.reassign(topic, rng.sample(NODES, 3))
        cluster.settle()
        return
    if step == "quota":
        # Less than the producer sends, so that readers fall behind and are throttled.
        cluster.throttle(20_000)
        time.sleep(PAUSE)
        cluster.throttle(None)
        return
    if step == "restart all":
        for n in NODES:
            cluster.kill(n)
        time.sleep(rng.random() * 2)  # the length of the outage is random
        cluster.heal()
        return
    for n in nodes:
        (cluster.kill if step.startswith("kill") else cluster.pause)(n)
    # The length of the fault.
    time.sleep(PAUSE if step.startswith("pause") else PAUSE * rng.random())
    cluster.heal()


def campaign(
    cluster: Cluster, folder: pathlib.Path, seed: int, steps: list[str], rate: int = 1500, epoch: int = 400
) -> dict[str, Any]:
    rng = random.Random(seed)
    topic = cluster.create(f"brokers-{seed}-{uuid.uuid4().hex[:6]}", 3)
    job = {"address": cluster.address, "topic": topic, "epoch": epoch}
    roots = {"live": folder / "live", "bounded": folder / "bounded"}
    producer = Producer(cluster.address, topic, seed, rate)
    bounded = Bounded({**job, "root": str(roots["bounded"])})
    began = time.monotonic()
    producer.start()
    live = define({**job, "root": str(roots["live"])})
    query = live.run(trigger="200 ms", progress=False, block=False)
    bounded.start()
    epochs = lambda: len(list(roots["live"].glob("_bayou/chaos/1/epoch/*")))  # noqa: E731
    try:
        for step in steps:
            # Producer and pipelines are running when the fault comes.
            sent, sealed = producer.delivered, epochs()
            until(lambda sent=sent: producer.delivered > sent + 500, 90, "the producer goes on")
            until(lambda sealed=sealed: epochs() > sealed + 1, 90, "the interval run goes on")
            fault(cluster, topic, rng, step)
            say(f"  {step}: {producer.delivered:,} delivered, {epochs()} epochs")
        delivered = producer.finish()
    finally:
        producer.enough.set()
        errors = bounded.finish()
    if not bounded.runs:
        errors.append("no bounded run has come to its end")
    if not query.is_active:
        errors.append(f"the interval run has ended: {query.exception()}")
    warnings = len(query.warnings)
    query.stop()
    for root in roots.values():
        define({**job, "epoch": 100_000, "root": str(root)}).run(progress=False)
    truth = read(cluster.address, topic, delivered)
    figures: dict[str, Any] = {
        "seed": seed,
        "steps": dict(Counter(steps)),
        "messages": delivered,
        "boundedRuns": bounded.runs,
        "unreachable": bounded.unreachable,
        "errors": errors,
        "warnings": warnings,
        "epochs": 0,
        "missing": 0,
        "duplicated": 0,
        "altered": 0,
        "problems": [],
    }
    for name, root in roots.items():
        verdict = Oracle(root, truth).check()
        figures["epochs"] += verdict.figures["epochs"]
        figures["missing"] += verdict.missing
        figures["duplicated"] += verdict.duplicated
        figures["altered"] += verdict.altered
        figures["problems"] += [f"{name}: {p}" for p in verdict.problems]
        seals = [json.loads(p.read_text()) for p in root.glob("_bayou/chaos/1/epoch/*.json")]
        figures["problems"] += [f"{name}: lost {s['lost']}" for s in seals if s["lost"]]
    figures["seconds"] = round(time.monotonic() - began, 1)
    return figures


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30, help="faults in all")
    parser.add_argument("--rate", type=int, default=1500, help="messages a second")
    parser.add_argument(
        "--upgrade", action="store_true", help="the cluster begins with Kafka 3.9 and ends with Kafka 4"
    )
    given = parser.parse_args()
    rng = random.Random(given.seed)
    steps = [rng.choice(STEPS) for _ in range(given.rounds)]
    if given.upgrade:
        steps.insert(len(steps) // 2, "upgrade")
    version = BEFORE if given.upgrade else VERSION
    with tempfile.TemporaryDirectory(prefix="bayou-brokers-") as folder, Cluster(version) as cluster:
        figures = campaign(cluster, pathlib.Path(folder), given.seed, steps, given.rate)
    print(json.dumps(figures, indent=1))
    return 1 if figures["problems"] or figures["errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
