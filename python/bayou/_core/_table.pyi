"""Rows in memory, and their schema."""

from collections.abc import Iterator
from typing import Any, final, overload

import pandas as pd
import polars as pl
import pyarrow as pa
from typing_extensions import disjoint_base

@final
class Schema:
    """Names and types of columns. A Schema prints as DDL and is an Arrow schema by the PyCapsule protocol.

    A Schema is equal to a different Schema, or to a string, with the same DDL.

    Example:
        >>> print(stream.schema)
        time TIMESTAMP, bpm INT, model STRING
    """

    @property
    def types(self) -> list[str]:
        """The type of each column as in DDL, in order.

        Example:
            >>> stream.schema.types
            ['TIMESTAMP', 'INT', 'STRING']
        """

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order.

        Example:
            >>> stream.schema.names
            ['time', 'bpm', 'model']
        """
    @property
    def ddl(self) -> str:
        """The schema as a Spark DDL string. You can give it to `schema=`.

        Example:
            >>> kafka.read_stream("t", schema=stream.schema.ddl)
        """
    def to_arrow(self) -> pa.Schema:
        """The schema as a `pyarrow.Schema`.

        Raises:
            ImportError: pyarrow is not installed.

        Example:
            >>> stream.schema.to_arrow().field("bpm").type
            DataType(int32)
        """
    def __arrow_c_schema__(self) -> object: ...
    def __len__(self) -> int: ...
    def __eq__(self, value: object, /) -> bool: ...

@disjoint_base
class Table:
    """Rows in memory. Every call that reads returns a Table.

    A Table is an Arrow stream by the PyCapsule protocol, so polars, pyarrow, DuckDB and others can read it directly. `len(table)` is
    the number of rows. `table["bpm"]` is the list of values of a column, `table[0]` is a row, `table[:10]` and `table[["model", "bpm"]]`
    are tables. `for row in table` gives dicts. A notebook shows at most 100 rows. A Table never changes, and can be pickled.

    Example:
        >>> table = stream.collect(limit=1000)
        >>> len(table), table.columns
        (1000, ['time', 'bpm', 'model'])
    """

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order.

        Example:
            >>> table.columns
            ['model', 'n']
        """
    @property
    def schema(self) -> Schema:
        """Names and types of the columns.

        Example:
            >>> print(table.schema)
            model STRING, n BIGINT
        """
    @property
    def num_rows(self) -> int:
        """The number of rows, like `len(table)`.

        Example:
            >>> table.num_rows
            6
        """
    def to_arrow(self) -> pa.Table:
        """The rows as a `pyarrow.Table`, without copying.

        Raises:
            ImportError: pyarrow is not installed.

        Example:
            >>> table.to_arrow().num_rows
            6
        """
    def to_pandas(self) -> pd.DataFrame:
        """The rows as a pandas frame. Integer columns with NULLs get pandas' nullable type (`Int64`), boolean columns with NULLs get
        `boolean`. Timestamps are `datetime64[us, UTC]`.

        Raises:
            ImportError: pandas is not installed.

        Example:
            >>> table.to_pandas().plot(x="model", y="n")
        """
    def to_polars(self) -> pl.DataFrame:
        """The rows as a polars frame, without copying.

        Raises:
            ImportError: polars is not installed.

        Example:
            >>> table.to_polars().sort("n")
        """
    def to_dicts(self, limit: int | None = None) -> list[dict[str, Any]]:
        """The rows as a list of dicts.

        Timestamps become aware datetimes (UTC), decimals become `Decimal`, binary becomes `bytes`, and NULL becomes None.

        Args:
            limit: At most this many rows. Default: all.

        Example:
            >>> table.to_dicts(limit=1)
            [{'model': 'Pulse 3', 'n': 1042}]
        """
    def column(self, name: str) -> list[Any]:
        """The values of one column as a list, like `table[name]`. Names match case-insensitively.

        Raises:
            SchemaError: The column does not exist.

        Example:
            >>> table.column("n")
            [1042, 977]
        """
    def row(self, index: int) -> dict[str, Any]:
        """One row as a dict. Rows are counted from 0; -1 is the last row.

        Raises:
            IndexError: The table has fewer rows.

        Example:
            >>> totals.row(0)["eventsTotal"]
            200000
        """
    def head(self, n: int = 5) -> Table:
        """The first rows.

        Example:
            >>> table.head(2).to_pandas()
        """
    def show(self, n: int = 20) -> None:
        """Show the first rows: as HTML in a notebook, as text elsewhere. Works with all values, and never fails.

        Example:
            >>> table.show(5)
        """
    def batches(self, batch_rows: int | None = None) -> TableBatches:
        """The rows batch by batch. The rows of `read_delta(…)` are read from the files as the loop goes, unless the table was used
        before: so a table of any size needs only some megabytes.

        Args:
            batch_rows: At most this many rows in a batch. Default: about 65,536 rows or 16 MB.

        Raises:
            StorageError: A file cannot be read.

        Example:
            >>> for batch in bayou.read_delta("lake/bpm_cleansed").batches():
            ...     print(len(batch))
        """
    @overload
    def __getitem__(self, key: str, /) -> list[Any]: ...
    @overload
    def __getitem__(self, key: int, /) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice | list[str], /) -> Table: ...
    def __iter__(self) -> Iterator[dict[str, Any]]: ...
    def __len__(self) -> int: ...
    def __copy__(self) -> Table: ...
    def __deepcopy__(self, memo: object, /) -> Table: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...
    def __arrow_c_schema__(self) -> object: ...
    def _repr_html_(self) -> str: ...

@final
class Batch(Table):
    """One batch of an iterator: a Table that fits into one Arrow record batch.

    Example:
        >>> for batch in stream.batches():
        ...     print(len(batch))
    """

    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...

@final
class TableBatches:
    """The rows of a table, batch by batch. Each batch is a `Batch`. One thread at a time reads it.

    Example:
        >>> total = sum(len(batch) for batch in table.batches())
    """

    def __iter__(self) -> TableBatches: ...
    def __next__(self) -> Batch: ...
