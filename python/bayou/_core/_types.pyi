"""Types of arguments."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, TypeAlias

import pandas as pd

class _ArrowStream(Protocol):
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

class _ArrowArray(Protocol):
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...

class _ArrowSchema(Protocol):
    def __arrow_c_schema__(self) -> object: ...

class _SparkType(Protocol):
    """A StructType or a different type of PySpark."""

    def jsonValue(self) -> Any: ...
    def simpleString(self) -> str: ...

_Duration: TypeAlias = str | timedelta | float
"""A number and a unit ("10 seconds", "1 minute 30 seconds", "500 ms", "2h"), a timedelta, or a number of seconds."""
_Rows: TypeAlias = _ArrowStream | _ArrowArray | pd.DataFrame
_SchemaLike: TypeAlias = str | _ArrowSchema | _SparkType | Mapping[str, str | _SparkType]
_Offsets: TypeAlias = str | datetime | Mapping[str, Mapping[int, int] | Mapping[int, datetime]]
_Dialect: TypeAlias = Literal["databricks", "spark", "datafusion"]
_OnMalformed: TypeAlias = Literal["fail", "drop", "quarantine"]
_OnTombstone: TypeAlias = Literal["skip", "null_row", "quarantine"]
_TimestampUnit: TypeAlias = Literal["s", "ms", "us", "ns"]
_OutputMode: TypeAlias = Literal["append", "update", "complete"]
