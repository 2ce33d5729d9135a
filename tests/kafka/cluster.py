"""Three Kafka nodes on loopback for tests of what happens when brokers die, hang, or lose their logs.

    with Cluster() as cluster:
        cluster.kill(1); cluster.start(1); cluster.pause(2); cluster.resume(2); cluster.settle()

Each node is broker and controller. Elections are fast, so that a test need not wait for the seconds that production gives a broker.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import confluent_kafka
import confluent_kafka.admin as kadmin
from server import free_ports, jars, run_quietly

NODES = (1, 2, 3)


def until(what: Callable[[], Any], seconds: float = 60.0, say: str = "") -> Any:
    """Waits for something true, asking again and again: brokers tell nobody when they are ready."""
    deadline = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {say or what}")
        time.sleep(0.1)


class Cluster:
    def __init__(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bayou-cluster-"))
        ports = free_ports(2 * len(NODES))
        self.ports = dict(zip(NODES, ports[: len(NODES)], strict=True))
        controllers = dict(zip(NODES, ports[len(NODES) :], strict=True))
        self.address = ",".join(f"127.0.0.1:{p}" for p in self.ports.values())
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.paused: set[int] = set()
        voters = ",".join(f"{n}@127.0.0.1:{p}" for n, p in controllers.items())
        for n in NODES:
            (self.folder / f"{n}.properties").write_text(f"""
process.roles=broker,controller
node.id={n}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=PLAINTEXT://127.0.0.1:{self.ports[n]},CONTROLLER://127.0.0.1:{controllers[n]}
advertised.listeners=PLAINTEXT://127.0.0.1:{self.ports[n]}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={self.folder}/data-{n}
auto.create.topics.enable=false
unclean.leader.election.enable=false
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
# Seconds after which a broker that says nothing is out.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
replica.lag.time.max.ms=2000
replica.socket.timeout.ms=2000
replica.fetch.wait.max.ms=200
replica.fetch.backoff.ms=100
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
controller.quorum.election.backoff.max.ms=300
controller.quorum.request.timeout.ms=1000
controlled.shutdown.enable=true
auto.leader.rebalance.enable=false
num.network.threads=2
num.io.threads=2
num.recovery.threads.per.data.dir=1
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=8388608
log.cleaner.backoff.ms=500
# Tests write old timestamps: only a topic that asks for it forgets, and then soon.
log.retention.ms=-1
log.retention.check.interval.ms=500
log.initial.task.delay.ms=500
file.delete.delay.ms=500
""")

    def log(self, node: int) -> pathlib.Path:
        return self.folder / f"kafka-{node}.log"

    def java(self, main: str, *arguments: str) -> list[str]:
        # The first compiler only: three brokers start at once, and none lives long.
        options = ["-Xmx256m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
        return ["java", *options, f"-Dkafka.logs.dir={self.folder}", "-cp", f"{jars()}/*", main, *arguments]

    def __enter__(self) -> Cluster:
        try:
            cluster = secrets.token_urlsafe(16)
            making = [
                subprocess.Popen(
                    self.java(
                        "kafka.tools.StorageTool",
                        "format",
                        f"--cluster-id={cluster}",
                        "-c",
                        str(self.folder / f"{n}.properties"),
                    ),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                for n in NODES
            ]
            for process in making:
                out, _ = process.communicate(timeout=120)
                assert process.returncode == 0, out
            for n in NODES:
                self.start(n)
            self.admin = self.client()
            self.settle()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for n in list(self.paused):
            self.resume(n)
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- faults

    def start(self, node: int) -> None:
        assert node not in self.processes, f"node {node} runs already"
        with self.log(node).open("ab") as log:
            command = self.java("kafka.Kafka", str(self.folder / f"{node}.properties"))
            self.processes[node] = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self, node: int) -> None:
        self.resume(node)
        process = self.processes.pop(node)
        process.kill()
        process.wait()

    def pause(self, node: int) -> None:
        self.processes[node].send_signal(signal.SIGSTOP)
        self.paused.add(node)

    def resume(self, node: int) -> None:
        if node in self.paused:
            self.processes[node].send_signal(signal.SIGCONT)
            self.paused.discard(node)

    def heal(self) -> None:
        """Everything runs again, and every replica has caught up."""
        for n in NODES:
            self.resume(n)
            if n not in self.processes:
                self.start(n)
        self.settle()

    # --- what the cluster says

    def metadata(self) -> Any:
        """None while nobody answers."""
        try:
            return self.admin.list_topics(timeout=2)
        except confluent_kafka.KafkaException:
            # A client goes on asking a broker that hangs, for longer than a test waits.
            self.admin = self.client()
            return None

    def client(self) -> kadmin.AdminClient:
        return kadmin.AdminClient({"bootstrap.servers": self.address, "log_level": 0, "socket.timeout.ms": 4000})

    def partitions(self, topic: str) -> dict[int, Any]:
        found = self.metadata()
        return dict(found.topics[topic].partitions) if found and topic in found.topics else {}

    def leader(self, topic: str, partition: int = 0) -> int:
        def led() -> Any:
            found = self.partitions(topic).get(partition)
            return found if found is not None and found.leader > 0 else None

        return int(until(led, say=f"{topic}[{partition}] has a leader").leader)

    def settle(self) -> None:
        """Until every node is there and every partition of every topic is in sync on all its replicas."""

        def settled() -> bool:
            found = self.metadata()
            if not found or len(found.brokers) < len(NODES):
                return False
            parts = [p for t in found.topics.values() for p in t.partitions.values()]
            return all(p.leader > 0 and len(p.isrs) == len(p.replicas) for p in parts)

        for process in self.processes.values():
            if process.poll() is not None:
                raise RuntimeError(f"a broker ended with code {process.returncode}")
        until(settled, 90, "every replica in sync")

    def shrunk(self, topic: str, to: int) -> None:
        """Until only node `to` is in sync."""
        until(lambda: all(list(p.isrs) == [to] for p in self.partitions(topic).values()), say=f"only {to} in sync")

    # --- topics

    def create(
        self, topic: str, partitions: int = 1, replicas: int | list[int] = 3, config: dict[str, str] | None = None
    ) -> str:
        """`replicas`: how many, or on which nodes, the first of which leads."""
        if isinstance(replicas, int):
            new = kadmin.NewTopic(topic, partitions, replicas, config=config or {})
        else:
            new = kadmin.NewTopic(topic, partitions, replica_assignment=[replicas] * partitions, config=config or {})
        self.admin.create_topics([new], operation_timeout=20)[topic].result(30)
        until(lambda: len(self.partitions(topic)) == partitions, say=f"{topic} is known")
        self.leader(topic)
        return topic

    def delete(self, topic: str) -> None:
        self.admin.delete_topics([topic], operation_timeout=20)[topic].result(30)
        until(lambda: not self.partitions(topic), say=f"{topic} is gone")

    def grow(self, topic: str, partitions: int) -> None:
        self.admin.create_partitions([kadmin.NewPartitions(topic, partitions)])[topic].result(30)
        until(lambda: len(self.partitions(topic)) == partitions, say=f"{topic} has {partitions} partitions")

    def configure(self, topic: str, **config: str) -> None:
        """Names with underscores for dots."""
        entries = [
            kadmin.ConfigEntry(n.replace("_", "."), v, incremental_operation=kadmin.AlterConfigOpType.SET)
            for n, v in config.items()
        ]
        resource = kadmin.ConfigResource(kadmin.ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
        self.admin.incremental_alter_configs([resource])[resource].result(30)

    def delete_records(self, topic: str, before: int, partition: int = 0) -> None:
        """As retention does it, at once and to the offset."""
        place = confluent_kafka.TopicPartition(topic, partition, before)
        self.admin.delete_records([place])[place].result(30)

    def move_leaders(self, topic: str, to: int) -> None:
        """To a node that is in sync: it becomes the preferred replica, and an election makes it the leader."""
        replicas = ",".join(str(n) for n in [to, *(n for n in NODES if n != to)])
        plan = ",".join(
            f'{{"topic":"{topic}","partition":{p},"replicas":[{replicas}]}}' for p in sorted(self.partitions(topic))
        )
        file = self.folder / "plan.json"
        file.write_text(f'{{"version":1,"partitions":[{plan}]}}')
        tool = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
        where = ["--bootstrap-server", self.address]
        command = self.java(tool, *where, "--additional", "--execute", "--reassignment-json-file", str(file))

        def accepted() -> bool:
            # Not while a controller takes office, or the move before is at work.
            try:
                run_quietly(*command, cwd=self.folder)
            except RuntimeError as e:
                print(e, file=sys.stderr)
                return False
            return True

        until(accepted, say="the plan is accepted")
        until(lambda: all(p.replicas[0] == to for p in self.partitions(topic).values()), say="replicas in a new order")
        self.elect(topic)

    def elect(self, topic: str) -> None:
        """The preferred replica leads, as far as it may."""
        places = [confluent_kafka.TopicPartition(topic, p) for p in self.partitions(topic)]
        with contextlib.suppress(confluent_kafka.KafkaException):
            self.admin.elect_leaders(confluent_kafka.ElectionType.PREFERRED, places).result(30)

    def environment(self) -> dict[str, str]:
        return os.environ | {"BAYOU_TEST_KAFKA": self.address}
