"""A Spark 4.0 with Delta for the tests of managed tables: classic in this process, and a Connect server in the same JVM for other processes."""

from __future__ import annotations

import os
import pathlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def sparks(folder: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The sessions "classic" and "connect", which see the same tables, and the "url" of the Connect server."""
    from pyspark.sql import SparkSession
    from pyspark.sql.connect.session import SparkSession as RemoteSession

    jars = os.environ.get("BAYOU_TEST_SPARK_JARS", "")
    found = sorted(pathlib.Path(jars).glob("*.jar"))
    assert any(p.name.startswith("delta-spark_") for p in found), (
        "BAYOU_TEST_SPARK_JARS names no Delta jars: run `make setup`"
    )
    port = free_port()
    settings = {
        "spark.jars": ",".join(str(p) for p in found),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.session.timeZone": "UTC",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.driver.memory": "1g",
        # A few rows are not worth a compiler.
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.adaptive.enabled": "false",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
    }
    builder = SparkSession.builder.master("local[1]")
    for name, value in settings.items():
        builder = builder.config(name, value)
    classic = builder.getOrCreate()
    classic.sparkContext.setLogLevel("OFF")
    url = f"sc://127.0.0.1:{port}"
    remote = RemoteSession.builder.remote(url).getOrCreate()
    try:
        yield {"classic": classic, "connect": remote, "url": url}
    finally:
        remote.stop()
        classic.stop()
