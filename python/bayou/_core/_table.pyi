"""Rows in memory, and their schema."""

from typing import Any, final

import pandas as pd
import polars as pl
import pyarrow as pa
from typing_extensions import disjoint_base

@final
class Schema:
    """Names and types of columns. Prints as DDL and is an Arrow schema by the PyCapsule protocol.

    Equal to another Schema, or to a string, with the same DDL.

    Example:
        >>> print(stream.schema)
        time TIMESTAMP, bpm INT, model STRING
    """

    @property
    def types(self) -> list[str]:
        """Each column's type as DDL has it, in order.

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
        """The schema as a Spark DDL string, to paste into `schema=`.

        Example:
            >>> kafka.read_stream("t", schema=stream.schema.ddl)
        """
    def to_arrow(self) -> pa.Schema:
        """As `pyarrow.Schema`.

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
    """Rows in memory: what every call that reads returns.

    It is an Arrow stream by the PyCapsule protocol, so polars, pyarrow, DuckDB and others take it as it is. `len(table)` is the
    number of rows, `table["bpm"]` a column's values. A notebook shows at most 100 rows.

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
        """Names and types.

        Example:
            >>> print(table.schema)
            model STRING, n BIGINT
        """
    @property
    def num_rows(self) -> int:
        """The number of rows; `len(table)` says the same.

        Example:
            >>> table.num_rows
            6
        """
    def to_arrow(self) -> pa.Table:
        """As `pyarrow.Table`, without copying.

        Raises:
            ImportError: pyarrow is not installed.

        Example:
            >>> table.to_arrow().num_rows
            6
        """
    def to_pandas(self) -> pd.DataFrame:
        """As a pandas frame. A column of integers with NULLs becomes pandas' nullable type (`Int64`), one of booleans
        `boolean`; timestamps are `datetime64[us, UTC]`.

        Raises:
            ImportError: pandas is not installed.

        Example:
            >>> table.to_pandas().plot(x="model", y="n")
        """
    def to_polars(self) -> pl.DataFrame:
        """As a polars frame, without copying.

        Raises:
            ImportError: polars is not installed.

        Example:
            >>> table.to_polars().sort("n")
        """
    def to_dicts(self, limit: int | None = None) -> list[dict[str, Any]]:
        """As a list of dicts.

        Timestamps become aware datetimes (UTC), decimals `Decimal`, binary `bytes`, NULL None.

        Args:
            limit: At most so many rows. Default: all.

        Example:
            >>> table.to_dicts(limit=1)
            [{'model': 'Pulse 3', 'n': 1042}]
        """
    def column(self, name: str) -> list[Any]:
        """The values of one column as a list; `table[name]` is the same. Names match case-insensitively.

        Raises:
            SchemaError: There is no such column.

        Example:
            >>> table.column("n")
            [1042, 977]
        """
    def row(self, index: int) -> dict[str, Any]:
        """One row as a dict, counted from 0; -1 is the last.

        Raises:
            IndexError: There are fewer rows.

        Example:
            >>> totals.row(0)["eventsTotal"]
            200000
        """
    def __getitem__(self, key: str, /) -> list[Any]: ...
    def __len__(self) -> int: ...
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
