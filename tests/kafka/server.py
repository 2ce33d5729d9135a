"""A real Apache Kafka on loopback for the tests: one node, no ZooKeeper, removed afterwards.

    python tests/kafka/server.py run -- cargo test …      # sets BAYOU_TEST_KAFKA…, runs, stops
    python tests/kafka/server.py start                    # prints the addresses as JSON, runs until it is interrupted

The jars come from Maven Central (pom.xml) into $BAYOU_CACHE or ~/.cache/bayou. BAYOU_TEST_KAFKA is the plain listener;
BAYOU_TEST_KAFKA_SASL the SASL_SSL one (PLAIN, user "bayou", password BAYOU_TEST_KAFKA_PASSWORD), whose certificate is signed by
the CA in BAYOU_TEST_KAFKA_CA, made for this run.
"""

import argparse
import contextlib
import json
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from typing import TypeVar

HERE = pathlib.Path(__file__).parent
VERSION = "4.3.0"
# The last release of Kafka 3, from which clusters are upgraded to 4.
BEFORE = "3.9.2"
USER = "bayou"
START_SECONDS = 60
Self = TypeVar("Self", bound="Server")


def cache() -> pathlib.Path:
    return pathlib.Path(os.environ.get("BAYOU_CACHE", pathlib.Path.home() / ".cache" / "bayou"))


def jars(version: str = VERSION) -> pathlib.Path:
    """The folder with the jars of a release of Kafka, fetched once."""
    folder = cache() / f"kafka-{version}-with-tools"
    if not folder.exists():
        part = folder.with_name(folder.name + f".part{os.getpid()}")
        part.mkdir(parents=True)
        command = [
            "mvn",
            "-q",
            "-B",
            "-f",
            str(HERE / "pom.xml"),
            f"-Dkafka.version={version}",
            "dependency:copy-dependencies",
            f"-DoutputDirectory={part}",
        ]
        subprocess.run(command, check=True, stdout=sys.stderr)
        # A different run may have been faster. Its jars are the same.
        with contextlib.suppress(OSError):
            part.rename(folder)
    return folder


def archive(version: str) -> pathlib.Path:
    """The file with Kafka's classes as Java has them in memory, for one release of Kafka and one Java. Loading the classes takes half of a broker's start."""
    java = pathlib.Path(shutil.which("java") or "java").resolve()
    stamp = f"{java} {java.stat().st_mtime_ns if java.exists() else 0}"
    return cache() / f"kafka-{version}-{zlib.crc32(stamp.encode()):08x}.jsa"


def java(version: str, *options: str) -> list[str]:
    """A command line of Java up to the main class."""
    found = archive(version)
    # A file that does not fit is left aside by Java.
    share = [f"-XX:SharedArchiveFile={found}", "-Xlog:cds=off"] if found.exists() else []
    return ["java", "-XX:+UseSerialGC", *share, *options, "-cp", f"{jars(version)}/*"]


def prepare(version: str) -> None:
    """Fetches the jars of a release, and archives its classes: once, by a broker that starts and stops."""
    jars(version)
    if archive(version).exists():
        return
    part = archive(version).with_suffix(f".part{os.getpid()}")
    server = Server(version=version)
    # The command that formats the folder writes a file too, and the broker replaces it.
    server.options = [f"-XX:ArchiveClassesAtExit={part}", "-Xlog:cds=off"]
    with server:
        server.stop()
    part.rename(archive(version))


def free_ports(count: int) -> list[int]:
    """Ports that are free now. All of them are bound at the same time, so that they are different."""
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in held:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in held]


def run_quietly(*command: str, cwd: pathlib.Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]} {command[1]} failed: {done.stderr}{done.stdout}")


def certificates(folder: pathlib.Path, password: str) -> pathlib.Path:
    """Makes a test CA, and a key store with a certificate for localhost that this CA signed. Returns the CA's PEM file."""
    run_quietly(
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=bayou test CA",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        cwd=folder,
    )
    run_quietly(
        "openssl",
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=localhost",
        "-keyout",
        "server.key",
        "-out",
        "server.csr",
        cwd=folder,
    )
    (folder / "server.ext").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    run_quietly(
        "openssl",
        "x509",
        "-req",
        "-in",
        "server.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "server.ext",
        "-out",
        "server.pem",
        cwd=folder,
    )
    run_quietly(
        "openssl",
        "pkcs12",
        "-export",
        "-in",
        "server.pem",
        "-inkey",
        "server.key",
        "-name",
        "kafka",
        "-passout",
        f"pass:{password}",
        "-out",
        "server.p12",
        cwd=folder,
    )
    return folder / "ca.pem"


class Server:
    """One broker in a temporary folder. Use it as a context manager. `more`: lines for its properties.

    `version` may change between `stop` and `start`. Then the broker continues with a different release on the same data.
    """

    # Further options for `kafka-storage format`.
    format_options: Sequence[str] = ()
    # The release of Kafka.
    version: str = VERSION
    # Java's own options.
    options: Sequence[str] = ()

    def __init__(self, more: str = "", version: str = VERSION) -> None:
        self.version = version
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bayou-kafka-"))
        self.password = secrets.token_urlsafe(16)
        plain, sasl, controller = free_ports(3)
        self.plain, self.sasl = f"127.0.0.1:{plain}", f"localhost:{sasl}"
        self.ca = certificates(self.folder, self.password)
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        (self.folder / "server.properties").write_text(f"""
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://{self.plain},SASL_SSL://{self.sasl}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config={module} required user_{USER}="{self.password}";
listener.name.sasl_ssl.ssl.keystore.type=PKCS12
listener.name.sasl_ssl.ssl.keystore.location={self.folder}/server.p12
listener.name.sasl_ssl.ssl.keystore.password={self.password}
log.dirs={self.folder}/data
auto.create.topics.enable=true
delete.topic.enable=true
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
# Tests write old timestamps: only a topic that asks for it forgets, and then soon.
log.retention.ms=-1
log.retention.check.interval.ms=1000
log.initial.task.delay.ms=1000
file.delete.delay.ms=500
{more}
""")
        self.log = self.folder / "kafka.log"
        self.process: subprocess.Popen[bytes] | None = None

    def java(self, main: str, *arguments: str) -> list[str]:
        options = ["-Xmx512m", "-Xms128m", f"-Dkafka.logs.dir={self.folder}", *self.options]
        return [*java(self.version, *options), main, *arguments]

    def __enter__(self: Self) -> Self:
        try:
            # The "=" keeps an id that begins with a hyphen from being taken for an option.
            more = [f"--cluster-id={secrets.token_urlsafe(16)}", "-c", self.properties_file, *self.format_options]
            run_quietly(*self.java("kafka.tools.StorageTool", "format", *more), cwd=self.folder)
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    @property
    def properties_file(self) -> str:
        return str(self.folder / "server.properties")

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.java("kafka.Kafka", self.properties_file), stdout=log, stderr=log)
        self.wait()

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(30)

    def wait(self) -> None:
        """Waits until the broker answers an ApiVersions request on its plain listener. It does so only when it is ready."""
        deadline = time.monotonic() + START_SECONDS
        request = bytes.fromhex("000000140012000000000001000a") + b"bayou-test"
        while True:
            if self.process and self.process.poll() is not None:
                raise RuntimeError(f"Kafka ended with code {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
            with contextlib.suppress(OSError):
                host, port = self.plain.split(":")
                with socket.create_connection((host, int(port)), timeout=2) as s:
                    s.sendall(request)
                    if len(s.recv(4)) == 4:
                        return
            if time.monotonic() > deadline:
                raise RuntimeError(f"Kafka was not ready in {START_SECONDS} s:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        return {
            "BAYOU_TEST_KAFKA": self.plain,
            "BAYOU_TEST_KAFKA_SASL": self.sasl,
            "BAYOU_TEST_KAFKA_CA": str(self.ca),
            "BAYOU_TEST_KAFKA_USER": USER,
            "BAYOU_TEST_KAFKA_PASSWORD": self.password,
            "BAYOU_TEST_KAFKA_DATA": str(self.folder / "data"),
            "BAYOU_TEST_KAFKA_PID": str(self.process.pid if self.process else 0),
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "start"])
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    with Server() as server:
        if given.what == "run":
            return subprocess.run(command, env=os.environ | server.environment()).returncode
        print(json.dumps(server.environment()), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.process.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
