"""The tests' Spark for the tests of managed tables: as the classic session of this process, and by Connect."""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import bayou
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "spark"))
from spark_server import classic, connect, server


@contextmanager
def sparks() -> Iterator[dict[str, Any]]:
    """The sessions "classic" and "connect", which see the same tables, and the "url" of the Connect server."""
    with server() as how:
        remote = connect(how)
        try:
            yield {"classic": classic(how), "connect": remote, "url": how["connect"]}
        finally:
            remote.stop()


def no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets the login of this machine."""
    for name in ("HOST", "TOKEN", "CLIENT_ID", "CLIENT_SECRET", "RUNTIME_VERSION", "CONFIG_PROFILE"):
        monkeypatch.delenv(f"DATABRICKS_{name}", raising=False)
    monkeypatch.setenv("DATABRICKS_CONFIG_FILE", "/nowhere")


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
