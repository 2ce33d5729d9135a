"""Conversions to and from pandas, pyarrow and polars. Each package is imported only when it is needed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bayou import _core


def _missing(package: str, call: str) -> ImportError:
    return ImportError(f"{call} needs {package}, which is not installed. Run: pip install {package}")


def _wrong_result(text: str) -> _core.MalformedError:
    """The error for the result of a user's function. The mark distinguishes it from errors of bayou within the function."""
    error = _core.MalformedError(text)
    error._of_result = True  # type: ignore[attr-defined]
    return error


def _pyarrow(table: Any, pa: Any) -> Any:
    """A pyarrow.Table. pyarrow before version 14 does not know Arrow's PyCapsules; Databricks 14.3 LTS has version 8."""
    if hasattr(pa.Table, "__arrow_c_stream__"):
        return pa.table(table)
    import pyarrow.ipc

    return pyarrow.ipc.open_stream(table.__reduce__()[1][0]).read_all()


def capsule(rows: Any) -> Any:
    """An object of an old pyarrow as one that exports PyCapsules. Other rows stay as they are."""
    if hasattr(rows, "__arrow_c_stream__") or not type(rows).__module__.startswith("pyarrow."):
        return rows
    import pyarrow as pa
    import pyarrow.ipc

    if isinstance(rows, pa.RecordBatch):
        rows = pa.Table.from_batches([rows])
    elif isinstance(rows, pa.RecordBatchReader):
        rows = rows.read_all()
    if not isinstance(rows, pa.Table):
        return rows
    sink = pa.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return _core._table_of(sink.getvalue().to_pybytes(), False)


def to_arrow(table: _core.Table) -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise _missing("pyarrow", "to_arrow()") from error
    return _pyarrow(table, pa)


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
    arrow = _pyarrow(table, pa)
    # Whole-number columns with NULLs become pandas' nullable integers; others keep NumPy's types.
    with_nulls = {str(c.type) for c in arrow.columns if c.null_count and str(c.type) in nullable}
    options: dict[str, Any] = {"types_mapper": lambda t: nullable[str(t)] if str(t) in with_nulls else None}
    maps = int(pa.__version__.split(".")[0]) >= 13
    if maps:
        options |= {"coerce_temporal_nanoseconds": False, "maps_as_pydicts": "lossy"}
    try:
        frame = arrow.to_pandas(**options)
    except pa.ArrowInvalid:
        # pandas before version 2 has nanoseconds only, and with them the years 1677 to 2262.
        frame = arrow.to_pandas(timestamp_as_object=True, **options)
    for field, column in zip(arrow.schema, arrow.columns, strict=True):
        if str(field.type) in with_nulls and not column.null_count:
            frame[field.name] = frame[field.name].astype(str(field.type))
        if pa.types.is_boolean(field.type) and column.null_count:
            frame[field.name] = frame[field.name].astype("boolean")
        is_old_map = pa.types.is_map(field.type) and not maps
        if is_old_map or (pa.types.is_nested(field.type) and any(_loses(chunk, pa) for chunk in column.chunks)):
            # pyarrow converts whole numbers next to NULL to floats, which changes 2**53 + 1.
            frame[field.name] = pd.Series(table.column(field.name), index=frame.index, dtype=object)
    return frame


def _loses(array: Any, pa: Any) -> bool:
    """Whether lists, maps or structs contain whole numbers next to NULL."""
    kind = array.type
    if pa.types.is_struct(kind):
        return any(_loses(array.field(i), pa) for i in range(kind.num_fields))
    if pa.types.is_map(kind):
        return _loses(array.items, pa)
    if pa.types.is_nested(kind):
        return _loses(array.flatten(), pa)
    return bool(pa.types.is_integer(kind) and array.null_count)


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
    """Converts value by value, without pyarrow."""
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
    """Checks that the package for a function's input is installed."""
    package = {"arrow": "pyarrow", "pandas": "pandas", "polars": "polars"}.get(kind)
    if package is None:
        return
    try:
        __import__(package)
    except ImportError as error:
        raise _missing(package, f'{call}(input="{kind}")') from error


def as_input(rows: Any, kind: str) -> Any:
    """Converts rows to the type that a user's function gets. A batch stays a batch, and a table stays a table."""
    if kind == "pandas":
        return to_pandas(rows)
    if kind == "polars":
        return to_polars(rows)
    if kind == "arrow":
        import pyarrow as pa

        table = _pyarrow(rows, pa)
        if type(rows).__name__ != "Batch":
            return table
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
    return rows


def is_pandas(rows: Any) -> bool:
    """Whether rows are a pandas frame. Its own Arrow export has the index as a column."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(rows, pandas.DataFrame)


def handed_out(rows: Any) -> Any:
    """Converts a frame to an object that exports exactly its columns as Arrow. Other rows stay unchanged."""
    if is_pandas(rows):
        return from_pandas(rows)
    polars = sys.modules.get("polars")
    if polars is not None and isinstance(rows, polars.DataFrame) and any("Null" in str(t) for t in rows.dtypes):
        # polars exports a column that contains only NULL in a form that is not Arrow's.
        return capsule(rows.to_arrow())
    if hasattr(rows, "iloc") and not hasattr(rows, "__arrow_c_stream__"):
        return from_pandas(rows)
    return capsule(rows)


def as_arrow(rows: Any) -> Any:
    """Converts rows in memory to an object that exports Arrow."""
    rows = handed_out(rows)
    if hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "__arrow_c_array__"):
        return rows
    return from_python(rows)


# The core calls these functions from its own threads, each as one call. Only Python code is between the core and the user's function.
def call(function: Any, rows: Any, kind: str, names: list[str]) -> tuple[Any, dict[str, list[Any]] | None]:
    """Calls a function. Returns its columns in Arrow and its columns as lists of Python values. A result without rows has no columns."""
    made = function(as_input(rows, kind))
    if made is None:
        raise _wrong_result("it returned None; return the rows")
    return columns(made, names)


def call_epoch(function: Any, rows: Any, kind: str, epoch: int) -> None:
    function(as_input(rows, kind), epoch)


def call_groups(function: Any, groups: list[Any], kind: str) -> list[Any]:
    return [function(as_input(rows, kind)) for rows in groups]


def columns(made: Any, names: list[str]) -> tuple[Any, dict[str, list[Any]] | None]:
    """Converts the result of a user's function to (an object that exports Arrow or None, lists by name or None).

    The core knows the announced types. So this function does not guess a type that the core can read itself.
    """
    if is_pandas(made):
        return _of_pandas(made, names)
    made = handed_out(made)
    if hasattr(made, "__arrow_c_stream__") or hasattr(made, "__arrow_c_array__"):
        return (None, None) if hasattr(made, "__len__") and len(made) == 0 else (made, None)
    if isinstance(made, Mapping):
        return _of_columns(made, names)
    if isinstance(made, (str, bytes)) or not isinstance(made, Iterable):
        raise _wrong_result(
            f"it returned {type(made).__name__}; return a frame, Arrow, a list of dicts, or a dict of columns"
        )
    lists: dict[str, list[Any]] = {name: [] for name in names}
    count = 0
    for number, row in enumerate(made):
        if not isinstance(row, Mapping):
            raise _wrong_result(f"row {number} of the result is {type(row).__name__}, not a dict")
        # A missing field is NULL. A field with a different spelling is a mistake.
        missing = [name for name in names if name not in row]
        unknown = [str(name) for name in row if name not in lists] if missing else []
        if unknown:
            raise _wrong_result(
                f"row {number} of the result has no {missing[0]!r}, which schema= announces, but it has {unknown[0]!r}"
            )
        for name in names:
            lists[name].append(row.get(name))
        count += 1
    return None, lists if count else None


def _of_pandas(frame: Any, names: list[str]) -> tuple[Any, dict[str, list[Any]] | None]:
    if not len(frame):
        return None, None
    if not frame.columns.is_unique:
        raise _wrong_result(f"it returned a frame with two columns of the same name: {list(frame.columns)}")
    _announced(frame.columns, names)
    lists = {name: _objects(frame[name]) for name in names if frame[name].dtype == object}
    typed = [name for name in names if name not in lists]
    return from_pandas(frame[typed]) if typed else None, lists


def _announced(has: Any, names: list[str]) -> None:
    for name in names:
        if name not in has:
            raise _wrong_result(f"it returned no column {name!r}, which schema= announces. It returned {list(has)}.")


def _objects(series: Any) -> list[Any]:
    """Values of a column of objects. pandas has NaN for missing values there."""
    return [None if isinstance(value, float) and value != value else value for value in series.tolist()]


def _of_columns(made: Mapping[Any, Any], names: list[str]) -> tuple[Any, dict[str, list[Any]] | None]:
    typed: dict[str, Any] = {}
    lists: dict[str, list[Any]] = {}
    for name, values in made.items():
        if hasattr(values, "__arrow_c_stream__") or hasattr(values, "__arrow_c_array__"):
            typed[name] = values
        elif hasattr(values, "iloc"):
            lists[name] = _objects(values)
        elif hasattr(values, "to_pylist"):  # a column of an old pyarrow
            lists[name] = values.to_pylist()
        elif isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
            raise _wrong_result(f"column {name!r} of the result is {type(values).__name__}, not a list")
        else:
            lists[name] = list(values)
    if len({len(column) for column in (*typed.values(), *lists.values())}) > 1:
        raise _wrong_result("it returned columns of different lengths")
    if not any(len(column) for column in (*typed.values(), *lists.values())):
        return None, None
    _announced(made, names)
    if not typed:
        return None, lists
    import pyarrow as pa

    return pa.table({name: pa.chunked_array(column) for name, column in typed.items()}), lists


def from_pandas(frame: Any) -> Any:
    """Converts a pandas frame to Arrow. The index is left out, as in to_csv(index=False)."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise _missing("pyarrow", "a pandas frame as input") from error
    return capsule(pa.Table.from_pandas(frame, preserve_index=False))


def from_python(rows: Any) -> Any:
    """Converts a list of dicts, or a dict of lists, to Arrow."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise _missing("pyarrow", "plain Python rows as input") from error
    if isinstance(rows, Mapping):
        typed = {name: _array(name, v, pa) if isinstance(v, (list, tuple)) else v for name, v in rows.items()}
        return capsule(pa.table({str(name): values for name, values in typed.items()}))
    if isinstance(rows, (str, bytes)) or not isinstance(rows, Iterable):
        raise TypeError(
            f"{type(rows).__name__} is not a collection of rows. Give Arrow, a frame, a list of dicts, or a dict of lists."
        )
    rows = list(rows)
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(f"row {number} is {type(row).__name__}, not a dict")
    # pyarrow takes the names from the first row only. A field that only later rows have would be lost.
    names = list(dict.fromkeys(name for row in rows for name in row))
    return capsule(pa.table({str(name): _array(name, [row.get(name) for row in rows], pa) for name in names}))


def _array(name: Any, values: Sequence[Any], pa: Any) -> Any:
    """Converts the values to the one type that fits all of them. Otherwise the error names the first value that does not fit the values
    before it."""
    pandas = sys.modules.get("pandas")
    if pandas is not None:
        values = [None if v is pandas.NA or v is pandas.NaT else v for v in values]
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        good, bad = 0, len(values)
        while bad - good > 1:
            middle = (good + bad) // 2
            try:
                pa.array(values[:middle])
                good = middle
            except Exception:
                bad = middle
        raise _core.MalformedError(f"column {str(name)!r}, row {good}: {error}") from None
