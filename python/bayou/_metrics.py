"""Reports of queries for monitoring: progress for functions, Prometheus' text, OpenTelemetry's instruments.

The text format is https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4).
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any

from bayou import _core


def on_progress(function: Callable[[dict[str, Any]], object]) -> Callable[[], None]:
    """Call a function with the progress of each epoch, of all queries of this process, as in Spark's StreamingQueryListener.

    The function gets the dict of `Query.last_progress`. It is called on a thread of bayou, in order, one call at a time. The query does
    not wait for it; but the call that started a blocking query returns only when the function has seen its last epoch (at most 5 seconds).
    An exception is logged, and does not end the query.

    Args:
        function: Takes a dict.

    Returns:
        A function without arguments that ends the calls.

    Example:
        >>> stop = bayou.on_progress(lambda progress: print(progress["name"], progress["numInputRows"]))
        >>> lake.run()
        >>> stop()
    """
    if not callable(function):
        raise _core.ConfigError(f"on_progress takes a function, not {type(function).__name__}")
    number = _core._listen("progress", function)

    def stop() -> None:
        _core._unlisten(number)

    return stop


def _seconds(moment: str | None) -> float | None:
    if not moment:
        return None
    try:
        return datetime.datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def _label(text: object) -> str:
    return str(text).replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


class _Text:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def family(
        self, name: str, kind: str, help: str, samples: list[tuple[dict[str, object], float | int | None]]
    ) -> None:
        samples = [(labels, value) for labels, value in samples if value is not None]
        if not samples:
            return
        self.lines += [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
        for labels, value in samples:
            shown = ",".join(f'{k}="{_label(v)}"' for k, v in labels.items())
            self.lines.append(f"{name}{{{shown}}} {value}")


def prometheus(query: _core.Query) -> str:
    """The text of `Query.metrics`."""
    state: dict[str, Any] = json.loads(query.to_json())
    last: dict[str, Any] = state["lastProgress"] or {}
    of: dict[str, object] = {"query": state["name"], "run_id": state["runId"]}
    text = _Text()

    def one(name: str, kind: str, help: str, value: float | int | None) -> None:
        text.family(f"bayou_query_{name}", kind, help, [(of, value)])

    one("up", "gauge", "1 while the query runs.", int(state["status"] in ("starting", "running", "stopping")))
    one("failed", "gauge", "1 if the run ended with an error.", int(state["status"] == "failed"))
    one("epochs_total", "counter", "Epochs of this run.", state["epochs"])
    one("input_rows_total", "counter", "Messages read in this run.", state["numInputRows"])
    one("malformed_total", "counter", "Messages that could not be decoded.", state["numMalformed"])
    one("quarantined_total", "counter", "Messages and rows in quarantine.", state["numQuarantined"])
    one("dropped_total", "counter", "Rows that rules dropped.", state["numDropped"])
    one("late_total", "counter", "Rows behind the watermark.", state["numRowsDroppedByWatermark"])
    one("behind_rows", "gauge", "Messages that are not read yet.", state["lag"])
    one("watermark_seconds", "gauge", "The watermark, in seconds since 1970.", _seconds(state["watermark"]))
    one("input_rows_per_second", "gauge", "Of the last epoch.", last.get("inputRowsPerSecond"))
    one("processed_rows_per_second", "gauge", "Of the last epoch, without waiting.", last.get("processedRowsPerSecond"))
    for key, value in (last.get("durationMs") or {}).items():
        step = "".join(f"_{c.lower()}" if c.isupper() else c for c in key)
        one(f"{step}_seconds", "gauge", f"durationMs.{key} of the last epoch.", value / 1000)
    text.family(
        "bayou_query_table_rows_total",
        "counter",
        "Rows written in this run.",
        [({**of, "table": name}, table["rowsWritten"]) for name, table in state["tables"].items()],
    )
    text.family(
        "bayou_query_table_version",
        "gauge",
        "The version of the Delta table.",
        [({**of, "table": name}, table["version"]) for name, table in state["tables"].items()],
    )
    for result in ("passed", "failed"):
        text.family(
            f"bayou_query_rule_{result}_total",
            "counter",
            f"Rows that {'passed' if result == 'passed' else 'broke'} a rule in this run.",
            [
                (
                    {**of, "dataset": rule["dataset"], "rule": rule["name"], "action": rule["action"]},
                    rule[f"{result}Records"],
                )
                for rule in state["expectations"]
            ],
        )
    offsets: list[tuple[dict[str, object], float | int | None]] = []
    ends: list[tuple[dict[str, object], float | int | None]] = []
    for source in last.get("sources") or []:
        for key, into in (("endOffset", offsets), ("latestOffset", ends)):
            for topic, partitions in (source.get(key) or {}).items():
                into += [({**of, "topic": topic, "partition": p}, at) for p, at in partitions.items()]
    text.family("bayou_query_offset", "gauge", "The next offset to read.", offsets)
    text.family("bayou_query_latest_offset", "gauge", "The end of the partition.", ends)
    # A table can have several stateful steps.
    operators = list(enumerate(last.get("stateOperators") or []))
    text.family(
        "bayou_query_state_rows",
        "gauge",
        "Rows in the state of an operator.",
        [({**of, "operator": o["operatorName"], "index": i}, o["numRowsTotal"]) for i, o in operators],
    )
    text.family(
        "bayou_query_state_bytes",
        "gauge",
        "Memory of the state of an operator.",
        [({**of, "operator": o["operatorName"], "index": i}, o["memoryUsedBytes"]) for i, o in operators],
    )
    return "\n".join(text.lines) + "\n"


def opentelemetry(meter: Any = None) -> Callable[[], None]:
    """Record the progress of all queries of this process with OpenTelemetry.

    Instruments, with the attribute `query`: counters `bayou.input_rows`, `bayou.malformed`, `bayou.quarantined`; histograms
    `bayou.epoch.duration` (seconds); gauges `bayou.behind`, `bayou.processed_rows_per_second`.

    Args:
        meter: A meter of OpenTelemetry. Default: that of the global meter provider, named "bayou".

    Returns:
        A function without arguments that ends the recording.

    Raises:
        ImportError: The package opentelemetry-api is not installed.

    Example:
        >>> stop = bayou.opentelemetry()
    """
    try:
        from opentelemetry import metrics
    except ImportError as error:
        raise ImportError("bayou.opentelemetry() needs the package opentelemetry-api. Install it first.") from error
    meter = meter or metrics.get_meter("bayou")
    rows = meter.create_counter("bayou.input_rows", unit="1", description="Messages read")
    malformed = meter.create_counter("bayou.malformed", unit="1", description="Messages that could not be decoded")
    quarantined = meter.create_counter("bayou.quarantined", unit="1", description="Messages and rows in quarantine")
    duration = meter.create_histogram("bayou.epoch.duration", unit="s", description="Work of an epoch, without waiting")
    behind = meter.create_gauge("bayou.behind", unit="1", description="Messages that are not read yet")
    speed = meter.create_gauge("bayou.processed_rows_per_second", unit="1/s", description="Of the last epoch")

    def record(progress: dict[str, Any]) -> None:
        of = {"query": progress["name"]}
        rows.add(progress["numInputRows"], of)
        malformed.add(progress["numMalformed"], of)
        quarantined.add(progress["numQuarantined"], of)
        duration.record(progress["durationMs"]["triggerExecution"] / 1000, of)
        behind.set(sum(source["lag"] for source in progress["sources"]), of)
        speed.set(progress["processedRowsPerSecond"], of)

    return on_progress(record)
