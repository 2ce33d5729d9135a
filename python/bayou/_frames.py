"""To and from pandas, pyarrow and polars; each is imported only when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayou import _core


def _missing(package: str, call: str) -> ImportError:
    return ImportError(f"{call} needs {package}, which is not installed: pip install {package}")


def to_arrow(table: _core.Table) -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise _missing("pyarrow", "to_arrow()") from error
    return pa.table(table)


def need_pandas() -> None:
    try:
        import pandas  # noqa: F401
    except ImportError as error:
        raise _missing("pandas", "pandas_batches()") from error


def to_pandas(table: _core.Table) -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise _missing("pandas", "to_pandas()") from error
    nullable = {
        "int8": pd.Int8Dtype(),
        "int16": pd.Int16Dtype(),
        "int32": pd.Int32Dtype(),
        "int64": pd.Int64Dtype(),
    }
    try:
        import pyarrow as pa
    except ImportError:
        return _to_pandas_plain(table, pd)
    arrow = pa.table(table)
    # Whole-number columns with NULLs become pandas' nullable integers; others keep NumPy's types.
    with_nulls = {str(c.type) for c in arrow.columns if c.null_count and str(c.type) in nullable}
    frame = arrow.to_pandas(
        types_mapper=lambda t: nullable[str(t)] if str(t) in with_nulls else None,
        coerce_temporal_nanoseconds=False,
        maps_as_pydicts="lossy",
    )
    for field, column in zip(arrow.schema, arrow.columns, strict=True):
        if str(field.type) in with_nulls and not column.null_count:
            frame[field.name] = frame[field.name].astype(str(field.type))
        if pa.types.is_boolean(field.type) and column.null_count:
            frame[field.name] = frame[field.name].astype("boolean")
    return frame


_PANDAS_TYPES = {
    "TINYINT": ("int8", "Int8"),
    "SMALLINT": ("int16", "Int16"),
    "INT": ("int32", "Int32"),
    "BIGINT": ("int64", "Int64"),
    "FLOAT": ("float32", "float32"),
    "DOUBLE": ("float64", "float64"),
    "BOOLEAN": ("bool", "boolean"),
    "TIMESTAMP": ("datetime64[us, UTC]", "datetime64[us, UTC]"),
}


def _to_pandas_plain(table: _core.Table, pd: Any) -> Any:
    """Without pyarrow: value by value."""
    columns = {}
    for name, ddl in zip(table.columns, table.schema.types, strict=True):
        values = table.column(name)
        plain, nullable = _PANDAS_TYPES.get(ddl, ("object", "object"))
        has_null = any(v is None for v in values)
        columns[name] = pd.Series(values, dtype=nullable if has_null else plain)
    return pd.DataFrame(columns, columns=table.columns)


def to_polars(table: _core.Table) -> Any:
    try:
        import polars as pl
    except ImportError as error:
        raise _missing("polars", "to_polars()") from error
    return pl.DataFrame(table)


def check_input(kind: str, call: str) -> None:
    """That what a function is to be given can be made."""
    package = {"arrow": "pyarrow", "pandas": "pandas", "polars": "polars"}.get(kind)
    if package is None:
        return
    try:
        __import__(package)
    except ImportError as error:
        raise _missing(package, f'{call}(input="{kind}")') from error


def as_input(rows: Any, kind: str) -> Any:
    """Rows as a user's function wants them; a batch stays a batch, a table a table."""
    if kind == "pandas":
        return to_pandas(rows)
    if kind == "polars":
        return to_polars(rows)
    if kind == "arrow":
        import pyarrow as pa

        table = pa.table(rows)
        if type(rows).__name__ != "Batch":
            return table
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
    return rows


def as_arrow(rows: Any) -> Any:
    """What a function returned, as something that hands out Arrow; None stays None."""
    if rows is None or hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "__arrow_c_array__"):
        return rows
    return from_pandas(rows) if hasattr(rows, "iloc") else from_python(rows)


# Called from threads of the core's, each as one call: nothing but Python lies between the core and the user's function.
def call(function: Any, rows: Any, kind: str) -> Any:
    return as_arrow(function(as_input(rows, kind)))


def call_epoch(function: Any, rows: Any, kind: str, epoch: int) -> None:
    function(as_input(rows, kind), epoch)


def call_groups(function: Any, groups: list[Any], kind: str) -> Any:
    return from_python({"value": [function(as_input(rows, kind)) for rows in groups]})


def from_pandas(frame: Any) -> Any:
    """A frame of pandas as Arrow; its index is left out, as in to_csv(index=False)."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise _missing("pyarrow", "a pandas frame as input") from error
    return pa.Table.from_pandas(frame, preserve_index=False)


def from_python(rows: Any) -> Any:
    """A list of dicts, or a dict of lists, as Arrow."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise _missing("pyarrow", "plain Python rows as input") from error
    if isinstance(rows, dict):
        return pa.table(rows)
    rows = list(rows)
    # pyarrow takes the names from the first row; a field that only later rows have would be lost.
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
