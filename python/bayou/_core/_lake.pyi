"""Reading Delta tables, and SQL over them."""

from collections.abc import Mapping
from pathlib import Path

from bayou._core._table import Table
from bayou._core._types import _Rows

def read_delta(
    target: str | Path, *, version: int | None = None, storage_options: Mapping[str, object] | None = None
) -> Table:
    """A whole Delta table.

    Args:
        target: A path or URL.
        version: A version of it. Default: the newest.
        storage_options: Options of a cloud store, as delta-rs names them.

    Raises:
        StorageError: There is no table, or no such version.

    Example:
        >>> bayou.read_delta("lake/bpm_cleansed").to_pandas()
    """

def sql(query: str, *, storage_options: Mapping[str, object] | None = None, **tables: str | _Rows) -> Table:
    """Run a SELECT over tables given by name.

    Args:
        query: SQL. It can only read.
        storage_options: Options of a cloud store, for the paths.
        tables: By name: a Delta table's path or URL, an Arrow stream (PyCapsule), or a pandas frame.

    Raises:
        SchemaError: The SQL cannot be planned or run.
        StorageError: A table cannot be read.

    Example:
        >>> bayou.sql("SELECT model, count(*) AS n FROM t GROUP BY model", t="lake/bpm_cleansed")
    """
