"""Three Kafka nodes on loopback for tests of what happens when brokers die, hang, or lose their logs.

    with Cluster() as cluster:
        cluster.kill(1); cluster.start(1); cluster.pause(2); cluster.resume(2); cluster.settle()
        cluster.upgrade(); cluster.replace(3); cluster.reassign("t", [1, 2])

Each node is broker and controller. Elections are fast, so that tests do not wait as long as the settings for production would make them wait.
"""

from __future__ import annotations

import contextlib
import json
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
from server import VERSION, free_ports, java, run_quietly

NODES = (1, 2, 3)


def until(what: Callable[[], Any], seconds: float = 60.0, say: str = "") -> Any:
    """Repeats a question until the answer is true, because brokers do not report when they are ready."""
    deadline = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {say or what}")
        time.sleep(0.1)


class Cluster:
    def __init__(self, version: str = VERSION) -> None:
        self.versions = dict.fromkeys(NODES, version)
        self.id = secrets.token_urlsafe(16)
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bayou-cluster-"))
        ports = free_ports(2 * len(NODES))
        self.ports = dict(zip(NODES, ports[: len(NODES)], strict=True))
        controllers = dict(zip(NODES, ports[len(NODES) :], strict=True))
        self.address = ",".join(f"127.0.0.1:{p}" for p in self.ports.values())
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.paused: set[int] = set()
        voters = ",".join(f"{n}@127.0.0.1:{p}" for n, p in controllers.items())
        for n in NODES:
            self.properties(n).write_text(f"""
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

    def properties(self, node: int) -> pathlib.Path:
        return self.folder / f"{node}.properties"

    def log(self, node: int) -> pathlib.Path:
        return self.folder / f"kafka-{node}.log"

    def java(self, main: str, *arguments: str, version: str = VERSION) -> list[str]:
        # Only the first compiler, because three brokers start at the same time, and no broker lives long.
        options = ["-Xmx256m", "-Xms64m", "-XX:TieredStopAtLevel=1", f"-Dkafka.logs.dir={self.folder}"]
        return [*java(version, *options), main, *arguments]

    def format(self, node: int) -> list[str]:
        """The command that formats a node's folder."""
        # The "=" keeps an id that begins with a hyphen from being taken for an option.
        more = ["format", f"--cluster-id={self.id}", "-c", str(self.properties(node))]
        return self.java("kafka.tools.StorageTool", *more, version=self.versions[node])

    def __enter__(self) -> Cluster:
        try:
            making = [
                subprocess.Popen(self.format(n), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
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
            command = self.java("kafka.Kafka", str(self.properties(node)), version=self.versions[node])
            self.processes[node] = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self, node: int) -> None:
        self.resume(node)
        process = self.processes.pop(node)
        process.kill()
        process.wait()

    def restart(self, node: int) -> None:
        """A controlled restart: the leaders move to different nodes before the node stops."""
        process = self.processes.pop(node)
        process.terminate()
        process.wait(60)
        self.start(node)
        self.settle()

    def upgrade(self, version: str = VERSION) -> None:
        """Restarts one node after the other with the jars of a newer release, on its data. Then raises the features of the cluster."""
        for n in NODES:
            self.versions[n] = version
            self.restart(n)
        tool = "org.apache.kafka.tools.FeatureCommand"
        release = ".".join(version.split(".")[:2])
        command = self.java(tool, "--bootstrap-server", self.address, "upgrade", "--release-version", release)
        run_quietly(*command, cwd=self.folder)

    def replace(self, node: int) -> None:
        """The node's machine and its disk are lost. A new node with the same id gets all data from the other nodes."""
        self.kill(node)
        shutil.rmtree(self.folder / f"data-{node}")
        run_quietly(*self.format(node), cwd=self.folder)
        self.start(node)
        self.settle()

    def throttle(self, bytes_a_second: int | None) -> None:
        """Sets a quota for the bytes that each client reads from a broker. None: no quota."""
        change = ["--delete-config", "consumer_byte_rate"]
        if bytes_a_second is not None:
            change = ["--add-config", f"consumer_byte_rate={bytes_a_second}"]
        where = ["--bootstrap-server", self.address, "--alter", "--entity-type", "clients", "--entity-default"]
        run_quietly(*self.java("kafka.admin.ConfigCommand", *where, *change), cwd=self.folder)

    def pause(self, node: int) -> None:
        self.processes[node].send_signal(signal.SIGSTOP)
        self.paused.add(node)

    def resume(self, node: int) -> None:
        if node in self.paused:
            self.processes[node].send_signal(signal.SIGCONT)
            self.paused.discard(node)

    def heal(self) -> None:
        """Starts everything that does not run, and waits until every replica has caught up."""
        for n in NODES:
            self.resume(n)
            if n not in self.processes:
                self.start(n)
        self.settle()

    # --- the state of the cluster

    def metadata(self) -> Any:
        """The metadata, or None if no broker answers."""
        try:
            return self.admin.list_topics(timeout=2)
        except confluent_kafka.KafkaException:
            # The old client would ask a broker that hangs for longer than a test waits.
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
        """Waits until all nodes are in the cluster, and all replicas of all partitions are in sync."""

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
        """Waits until only node `to` is in sync."""
        until(lambda: all(list(p.isrs) == [to] for p in self.partitions(topic).values()), say=f"only {to} in sync")

    # --- topics

    def create(
        self, topic: str, partitions: int = 1, replicas: int | list[int] = 3, config: dict[str, str] | None = None
    ) -> str:
        """`replicas`: the number of replicas, or their nodes. The first node is the leader."""
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
        """The names of settings have underscores instead of dots."""
        entries = [
            kadmin.ConfigEntry(n.replace("_", "."), v, incremental_operation=kadmin.AlterConfigOpType.SET)
            for n, v in config.items()
        ]
        resource = kadmin.ConfigResource(kadmin.ConfigResource.Type.TOPIC, topic, incremental_configs=entries)
        self.admin.incremental_alter_configs([resource])[resource].result(30)

    def delete_records(self, topic: str, before: int, partition: int = 0) -> None:
        """Deletes records as retention does, but immediately and up to this offset."""
        place = confluent_kafka.TopicPartition(topic, partition, before)
        self.admin.delete_records([place])[place].result(30)

    def move_leaders(self, topic: str, to: int) -> None:
        """Moves all leaders to a node that is in sync. The node becomes the preferred replica, and an election makes it the leader."""
        self.reassign(topic, [to, *(n for n in NODES if n != to)])
        self.elect(topic)

    def reassign(self, topic: str, replicas: list[int]) -> None:
        """Moves all partitions to these nodes. Returns when the partitions are on exactly these nodes."""
        plan = [{"topic": topic, "partition": p, "replicas": replicas} for p in sorted(self.partitions(topic))]
        file = self.folder / "plan.json"
        file.write_text(json.dumps({"version": 1, "partitions": plan}))
        tool = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
        where = ["--bootstrap-server", self.address]
        command = self.java(tool, *where, "--additional", "--execute", "--reassignment-json-file", str(file))

        def accepted() -> bool:
            # Kafka refuses the plan while a new controller starts, or while the previous move is running.
            try:
                run_quietly(*command, cwd=self.folder)
            except RuntimeError as e:
                print(e, file=sys.stderr)
                return False
            return True

        until(accepted, say="the plan is accepted")

        def moved() -> bool:
            found = self.partitions(topic)
            return bool(found) and all(list(p.replicas) == replicas for p in found.values())

        until(moved, say=f"{topic} is on {replicas}")

    def elect(self, topic: str) -> None:
        """Elects the preferred replicas, where this is possible."""
        places = [confluent_kafka.TopicPartition(topic, p) for p in self.partitions(topic)]
        with contextlib.suppress(confluent_kafka.KafkaException):
            self.admin.elect_leaders(confluent_kafka.ElectionType.PREFERRED, places).result(30)

    def environment(self) -> dict[str, str]:
        return os.environ | {"BAYOU_TEST_KAFKA": self.address}
