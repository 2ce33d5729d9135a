"""Reading Delta tables, and SQL over them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bayou._core._table import Table
from bayou._core._types import _Rows

def read_delta(
    target: str | Path,
    *,
    columns: str | Sequence[str] | None = None,
    where: str | None = None,
    limit: int | None = None,
    version: int | None = None,
    storage_options: Mapping[str, object] | Callable[[], Mapping[str, object]] | None = None,
    spark: Any = None,
) -> Table:
    """Read a Delta table, or some of it.

    The call looks up the version and the columns. The rows are read when they are first used, and then stay in memory (about
    50 bytes a row with four columns). `batches()` of the result reads a table of any size within a few megabytes.

    Args:
        target: A path or URL, or `catalog.schema.table` of Unity Catalog, external or managed.
        columns: The columns to read, in this order. The others are not read from the files. Default: all.
        where: A condition in SQL, as in `bayou.sql`. Files that cannot have such rows, by their statistics and partition values, are not
            read. Default: all rows.
        limit: At most this many rows, whichever come first. Default: all.
        version: The version of the table. Default: the newest.
        storage_options: Options of a cloud store, with the names of delta-rs.
        spark: A Spark session. It reads a table of a catalog where the catalog gives bayou no credentials, or where there is no login. On
            Databricks the notebook's own is found.

    Raises:
        SchemaError: A column does not exist, or the condition is wrong.
        StorageError: The table or the version does not exist, or a file cannot be read.

    Example:
        >>> bayou.read_delta("lake/bpm_cleansed").to_pandas()
        >>> for batch in bayou.read_delta("lake/bpm_cleansed", columns=["model", "bpm"], where="bpm > 100").batches():
        ...     print(len(batch))
    """

def sql(
    query: str,
    *,
    storage_options: Mapping[str, object] | Callable[[], Mapping[str, object]] | None = None,
    spark: Any = None,
    **tables: str | _Rows,
) -> Table:
    """Run a SELECT over tables that are given by name.

    Args:
        query: SQL. Only reading is possible. Names match in upper and lower case. The language is that of expressions in a stream
            (Databricks SQL, ANSI: `5/2` is 2.5, an overflow is an error), with Spark's clauses: PIVOT, VERSION AS OF, LATERAL VIEW,
            DESCRIBE HISTORY and more. Tables of Unity Catalog are used by their names: FROM main.heart.bpm.
        storage_options: Options of a cloud store, for the paths, and the login for tables of Unity Catalog (see write_delta).
        spark: A Spark session, which reads the tables of a catalog that bayou cannot read itself, as in read_delta. Each of them is read as a
            whole. Default: the notebook's session, when the catalog gives bayou no credentials.
        tables: Names and tables. A table is the path or URL of a Delta table, `catalog.schema.table` of Unity Catalog, an Arrow stream
            (PyCapsule), or a pandas frame.

    Raises:
        SchemaError: The SQL cannot be planned or run.
        StorageError: A table cannot be read.

    Example:
        >>> bayou.sql("SELECT model, count(*) AS n FROM t GROUP BY model", t="lake/bpm_cleansed")
    """

def functions(like: str | None = None) -> Table:
    """The functions of bayou's SQL, for expressions of streams and for `sql`. Their meaning is that of Spark 4.0.

    Columns: name, kind ("function", "aggregate", "generator", "window function" or "operator"), usage. A generator makes several rows from one row.

    Args:
        like: Only the functions whose usage contains this text. Default: all.

    Example:
        >>> bayou.functions("date_").to_dicts(limit=1)
        [{'name': 'date_add', 'kind': 'function', 'usage': 'date_add(date, days)'}]
    """
