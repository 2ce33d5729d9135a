"""For bayou's own Python part."""

from collections.abc import Callable, Mapping
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any

from bayou._core._connection import Connection
from bayou._core._query import Query
from bayou._core._stream import Stream
from bayou._core._table import Table
from bayou._core._types import _Duration

def _connect(target: object, name: str) -> Connection: ...
def _clean(text: str) -> str: ...
def _encode_row(dict: dict[Any, Any], row: int) -> bytes: ...
def _encode_key(value: object, column: str, row: int) -> bytes | None: ...
def _run_broker(dir: str | Path) -> None: ...
def _set_launcher(command: list[str]) -> None: ...
def _shutdown() -> None: ...
def _crash_at(point: str, nth: int) -> None: ...
def _pause_at(point: str, nth: int) -> None: ...
def _slow_at(point: str, seconds: float) -> None: ...
def _treat_as_mount(folder: str | Path) -> None: ...
def _crash_points() -> dict[str, int]: ...
def _is_complete(stream: Stream) -> bool: ...
def _check_table_name(name: str) -> None: ...
def _neighbour(name: str) -> str | None: ...
def _of_table(stream: Stream, name: str) -> Stream: ...
def _functions() -> list[str]: ...
def _simulate_fitness(
    rows: int,
    seed: int,
    start: datetime | None,
    interval: _Duration | None,
    disorder: _Duration | None,
    late: float,
    late_by: _Duration | None,
    fever_region: str | None,
    fever_start: float,
    undef: float,
    zero: float,
    columns: int | None,
) -> Any: ...
def _run_pipeline(
    name: str, root: str | None, schema: str | None, outputs: list[dict[str, Any]], **options: Any
) -> Query: ...
def _repair(
    root: str | None,
    schema: str | None,
    target: str | PathLike[str] | None,
    query_name: str | None,
    checkpoint_location: str | PathLike[str] | None,
    storage_options: Mapping[str, object] | Callable[[], Mapping[str, object]] | None,
    confirm: bool,
) -> Table: ...
def _reset(
    schema: str | None,
    checkpoint: str,
    storage_options: Mapping[str, object] | Callable[[], Mapping[str, object]] | None,
) -> bool: ...
def _pipeline_tables(
    root: str | None,
    schema: str | None,
    checkpoint: str,
    storage: Mapping[str, object] | Callable[[], Mapping[str, object]] | None,
) -> list[str]: ...
def _pipeline_sql(
    query: str,
    root: str | None,
    schema: str | None,
    checkpoint: str,
    storage: Mapping[str, object] | Callable[[], Mapping[str, object]] | None,
) -> Table: ...
def _pipeline_read(
    name: str,
    root: str | None,
    schema: str | None,
    checkpoint: str,
    storage: Mapping[str, object] | Callable[[], Mapping[str, object]] | None,
) -> Table: ...
def _pipeline_expectations(
    schema: str | None,
    checkpoint: str,
    storage: Mapping[str, object] | Callable[[], Mapping[str, object]] | None,
) -> Table: ...
