"""One Spark for many tests: a process that runs SQL, a statement a line."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# A test has a few rows. They are not worth a compiler, neither Java's nor Spark's.
LIGHT = {
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.ui.enabled": "false",
}

SHELL = """
import json, pathlib, sys
from pyspark.sql import SparkSession
jars = ",".join(str(p) for p in sorted(pathlib.Path(sys.argv[1]).glob("*.jar")))
builder = SparkSession.builder.master("local[1]").config("spark.jars", jars)
for name, value in json.loads(sys.argv[2]).items():
    builder = builder.config(name, value)
spark = (builder
    .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
    .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    .config("spark.databricks.delta.snapshotPartitions", "1")
    # The number of tasks in which VACUUM lists folders; 10,000 by default.
    .config("spark.sql.sources.parallelPartitionDiscovery.parallelism", "1")
    .config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1").getOrCreate())
print("READY", flush=True)
for line in sys.stdin:
    try:
        rows = [json.loads(r) for r in spark.sql(json.loads(line)).toJSON().collect()]
        print("ANSWER " + json.dumps({"rows": rows}), flush=True)
    except Exception as e:
        print("ANSWER " + json.dumps({"error": str(e)}), flush=True)
"""


class Spark:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def _line(self, word: str) -> str:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith(word):
                return line.removeprefix(word)
        raise AssertionError("Spark has ended")

    def sql(self, statement: str) -> list[dict[str, Any]]:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(statement) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self._line("ANSWER "))
        assert "error" not in answer, f"{statement}: {answer['error']}"
        return answer["rows"]


@contextmanager
def spark() -> Iterator[Spark]:
    jars = os.environ.get("BAYOU_TEST_SPARK_JARS", "")
    assert jars and list(pathlib.Path(jars).glob("delta-spark_*.jar")), (
        "BAYOU_TEST_SPARK_JARS names no Delta jars: run `make setup`"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", SHELL, jars, json.dumps(LIGHT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin and process.stdout
    shell = Spark(process)
    shell._line("READY")
    try:
        yield shell
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()
