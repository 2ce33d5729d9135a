"""One real Spark 4.0 with Delta for all tests: a process of its own, because a Spark takes half a minute of a core until it is warm.

    python tests/spark/spark_server.py run -- pytest …      # sets BAYOU_TEST_SPARK, runs, stops
    python tests/spark/spark_server.py start                # prints BAYOU_TEST_SPARK, runs until its input ends

Tests join it by Spark Connect, each with a session of its own, or by py4j as the classic session of their process. Both see the same tables.
The jars come from Maven Central (pom.xml) into $BAYOU_CACHE. Without BAYOU_TEST_SPARK a test starts a server for itself (`server`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

# A test has a few rows. They are not worth an optimizing compiler, neither Java's nor Spark's.
LIGHT = {
    # With one compiler Java keeps 48 MB of code, and Spark's is more: it would be thrown away and compiled again, a third of all time.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=512m -XX:+UseSerialGC",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.session.timeZone": "UTC",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "2g",
    "spark.databricks.delta.snapshotPartitions": "1",
    # VACUUM of files of a moment ago.
    "spark.databricks.delta.retentionDurationCheck.enabled": "false",
    # The number of tasks in which VACUUM lists folders; 10,000 by default.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "1",
    "spark.sql.streaming.forceDeleteTempCheckpointLocation": "true",
}


def start(master: str, work: str, more: dict[str, str], *folders: pathlib.Path) -> Any:
    """A Spark of this process with Delta. `work`: a folder for its files. `more`: settings. `folders`: more jars."""
    from pyspark.sql import SparkSession

    delta = os.environ.get("BAYOU_TEST_SPARK_JARS", "")
    jars = [p for folder in (*folders, delta) if folder for p in sorted(pathlib.Path(folder).glob("*.jar"))]
    if not any(p.name.startswith("delta-spark_") for p in jars):
        sys.exit("BAYOU_TEST_SPARK_JARS names no Delta jars: run `make setup`")
    settings = {
        "spark.jars": ",".join(map(str, jars)),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.warehouse.dir": f"{work}/warehouse",
        "spark.local.dir": work,
    }
    builder = SparkSession.builder.master(master)
    for name, value in (LIGHT | settings | more).items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def serve() -> None:
    """Runs a Spark until standard input ends, and prints how it is joined."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    listens = {
        "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
    }
    with tempfile.TemporaryDirectory(prefix="bayou-spark-") as work:
        session = start("local[2]", work, listens)
        session.sparkContext.setLogLevel("OFF")
        py4j = session.sparkContext._gateway.gateway_parameters
        print(
            json.dumps({"connect": f"sc://127.0.0.1:{port}", "port": py4j.port, "secret": py4j.auth_token}), flush=True
        )
        sys.stdin.read()
        session.stop()


@contextlib.contextmanager
def server() -> Iterator[dict[str, Any]]:
    """How to join the Spark of BAYOU_TEST_SPARK, or a new one: "connect" (a URL), "port" and "secret" (py4j)."""
    found = os.environ.get("BAYOU_TEST_SPARK")
    if found:
        yield json.loads(found)
        return
    command = [sys.executable, __file__, "start"]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdin and process.stdout
        try:
            # Spark's own start can print before.
            line = next((line for line in process.stdout if line.startswith("{")), None)
            if line is None:
                log.seek(0)
                raise RuntimeError(f"Spark ended with code {process.wait(60)}:\n{log.read()[-3000:]}")
            yield json.loads(line)
        finally:
            process.stdin.close()
            process.wait(60)
            process.stdout.close()


def connect(how: dict[str, Any]) -> Any:
    """A session of its own, through Spark Connect."""
    from pyspark.sql.connect.session import SparkSession

    return SparkSession.builder.remote(how["connect"]).create()


def classic(how: dict[str, Any]) -> Any:
    """The first session of the server, used as this process's own session. If you stop this session, the server stops."""
    os.environ |= {"PYSPARK_GATEWAY_PORT": str(how["port"]), "PYSPARK_GATEWAY_SECRET": how["secret"]}
    from pyspark import SparkContext
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    gateway = launch_gateway()
    there = gateway.jvm.org.apache.spark.SparkContext.getOrCreate()
    context = SparkContext(gateway=gateway, jsc=gateway.jvm.JavaSparkContext.fromSparkContext(there))
    return SparkSession(context)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "start"])
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if given.what == "start":
        serve()
        return 0
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    with server() as how:
        return subprocess.run(command, env=os.environ | {"BAYOU_TEST_SPARK": json.dumps(how)}).returncode


if __name__ == "__main__":
    sys.exit(main())
