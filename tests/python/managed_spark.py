"""A Spark 4.0 with Delta for the tests of managed tables: classic in this process, and a Connect server in the same JVM for other processes."""

from __future__ import annotations

import json
import os
import pathlib
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import bayou
from spark_shell import LIGHT


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
        "spark.sql.session.timeZone": "UTC",
        "spark.databricks.delta.snapshotPartitions": "1",
        "spark.driver.memory": "1g",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
    }
    builder = SparkSession.builder.master("local[1]")
    for name, value in (LIGHT | settings).items():
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


def publish(kafka: bayou.Connection, numbers: Any, epoch: int = 30, topic: str = "t") -> bayou.Stream:
    kafka.create_topic(topic, partitions=1, exist_ok=True)
    rows = [{"i": i, "day": ["2026-01-01", "2026-01-02", None][i % 3]} for i in numbers]
    kafka.produce(topic, rows, progress=False)
    return kafka.read_stream(topic, schema="i INT, day DATE", max_offsets_per_trigger=epoch)


def write(stream: bayou.Stream, name: str, spark: Any, at: pathlib.Path, **more: Any) -> bayou.Query:
    return stream.write_delta(name, **{"spark": spark, "checkpoint_location": str(at), "progress": False, **more})


def rows(spark: Any, name: str, order: str = "i") -> list[dict[str, Any]]:
    return [r.asDict(recursive=True) for r in spark.sql(f"SELECT * FROM {name} ORDER BY {order}").collect()]


def commits(spark: Any, name: str) -> list[tuple[int, str]]:
    """Epoch and operation of each commit of bayou, oldest first."""
    found = spark.sql(f"DESCRIBE HISTORY {name}").where("userMetadata LIKE '%bayou%'").orderBy("version").collect()
    return [(json.loads(r["userMetadata"])["epoch"], r["operation"]) for r in found]


def waiting(at: pathlib.Path) -> list[str]:
    return [p.name for p in at.rglob("staged/**/*.parquet")]


def replaced(answer: Callable[..., str]) -> Callable[..., str]:
    """The catalog of the stand-in is called main, and Spark's spark_catalog."""
    return lambda spark, what, request: answer(spark, what, request.replace("`main`.", "`spark_catalog`."))
