"""Converts dicts to JSON text, in chunks, for `produce`. Also decides how values without a JSON type are written."""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from time import monotonic
from typing import Any

from bayou import _core

_CHUNK = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FINER = "the time is finer than a microsecond. Round it first, so that no digit is lost silently."


def _since(value: datetime) -> int:
    """Microseconds since 1970; a time without a zone is UTC."""
    if value.tzinfo is None:
        value = value.replace(tzinfo=timezone.utc)
    delta: timedelta = value - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def scalar(value: Any) -> tuple[str, Any]:
    """Returns the kind of a value, and the value in a plain type. Called for values that are not a plain number, text, list or dict.

    Nothing is rounded. A value that does not fit is a TypeError or a ValueError with the remedy.
    """
    pandas = sys.modules.get("pandas")
    if pandas is not None and (value is pandas.NA or value is pandas.NaT):
        return "none", None
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray)):
        return _of_numpy(value, numpy)
    if isinstance(value, datetime):
        if getattr(value, "nanosecond", 0):  # pandas' Timestamp
            raise ValueError(_FINER)
        return "timestamp", _since(value)
    if isinstance(value, date):
        return "date", value.toordinal() - 719_163
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} does not have a JSON form. Replace it, for example with None.")
        text = format(value, "f")
        return "number", text.lstrip("-") if value.is_zero() else text
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "bytes", bytes(value)
    if isinstance(value, Mapping):
        return "dict", dict(value)
    if isinstance(value, (list, tuple)):
        return "list", list(value)
    if isinstance(value, str):  # the value of an enum or of a NumPy scalar
        return "text", str.__str__(value)
    if isinstance(value, int):
        return "int", int(value)
    if isinstance(value, float):
        return "float", float(value)
    if isinstance(value, time):
        if value.tzinfo is not None:
            raise TypeError("a time of day with a zone does not have a JSON form. Publish it as text.")
        return "time", ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond
    if isinstance(value, timedelta):
        raise TypeError("a duration does not have a JSON form. Convert it to a number of seconds or to text.")
    if isinstance(value, (set, frozenset)):
        raise TypeError("a set does not have an order or a JSON form. Publish a list instead.")
    for name in ("as_py", "to_pylist", "to_list", "tolist"):  # Arrow's scalars and arrays, series
        convert = getattr(value, name, None)
        if callable(convert):
            found = convert()
            if type(found) is not type(value):
                return _told(found)
    raise TypeError(f"{type(value).__name__} does not have a JSON form. Publish str() of it, or leave it out.")


def _told(value: Any) -> tuple[str, Any]:
    """Like `scalar`, but also for plain values."""
    if value is None:
        return "none", None
    if isinstance(value, bool):
        return "bool", value
    return scalar(value)


def _of_numpy(value: Any, numpy: Any) -> tuple[str, Any]:
    if isinstance(value, numpy.ndarray):
        # One value after the other, so that each keeps its own type.
        return _told(value[()]) if value.ndim == 0 else ("list", list(value))
    if isinstance(value, numpy.datetime64):
        if numpy.isnat(value):
            return "none", None
        unit = numpy.datetime_data(value.dtype)[0]
        if unit in ("Y", "M", "W", "D"):
            return "date", int(value.astype("datetime64[D]").astype(numpy.int64))
        micros = value.astype("datetime64[us]")
        if micros.astype(value.dtype) != value:
            finer = unit in ("ns", "ps", "fs", "as")
            raise ValueError(_FINER if finer else "the time is out of range for TIMESTAMP")
        return "timestamp", int(micros.astype(numpy.int64))
    if isinstance(value, numpy.timedelta64):
        raise TypeError("a duration does not have a JSON form. Convert it to a number of seconds or to text.")
    if isinstance(value, numpy.bool_):
        return "bool", bool(value)
    if isinstance(value, numpy.integer):
        return "int", int(value)
    if isinstance(value, (numpy.float16, numpy.float32)):
        return "float32", float(value)
    if isinstance(value, numpy.floating):
        plain = float(value)
        if plain != value and value == value:
            raise ValueError(f"{type(value).__name__} has more digits than DOUBLE. Round it first.")
        return "float", plain
    if isinstance(value, str):
        return "text", str.__str__(value)
    if isinstance(value, bytes):
        return "bytes", bytes(value)
    raise TypeError(f"{type(value).__name__} does not have a JSON form. Convert it to numbers or to text.")


def _timestamp(value: Any, column: str, row: int) -> int | None:
    """The timestamp of a message in microseconds. A whole number in the column is milliseconds."""
    if value is None:
        return None
    tag, plain = ("int", value) if type(value) is int else _told(value)
    if tag == "none":
        return None
    if tag == "timestamp":
        return int(plain)
    if tag == "date":
        return int(plain) * 86_400_000_000
    if tag == "int":
        return int(plain) * 1000
    raise _core.SchemaError(
        f"column '{column}', row {row}: the timestamp must be a time or a number of milliseconds, not {type(value).__name__}"
    )


def _partition(value: Any, column: str, row: int) -> int | None:
    if value is None:
        return None
    try:
        return operator.index(value)
    except TypeError:
        raise _core.SchemaError(
            f"column '{column}', row {row}: the partition must be a whole number, not {type(value).__name__}"
        ) from None


class SourceFailed(Exception):
    """The iterator of the rows raised an exception, which is the `__cause__`."""


def encoded(
    rows: Iterable[Any],
    key: str | None,
    timestamp: str | None,
    partition: str | None,
    include_key: bool,
    rate: float | None,
    value: str | None,
) -> Iterator[dict[str, Any]]:
    """Yields chunks of messages. The rows before a failing row are yielded first, so the published rows end where the error says."""
    if isinstance(rows, (Mapping, str, bytes)) or not isinstance(rows, Iterable):
        raise _core.SchemaError(
            f"{type(rows).__name__} is not a collection of rows. Give an Arrow stream, a pandas frame, or an iterable of dicts."
        )
    source = iter(rows)
    # With a rate, a chunk has the rows of a tenth of a second, so that rows do not wait for a full chunk.
    size = _CHUNK if rate is None else max(1, min(_CHUNK, int(rate / 10)))
    number = 0
    failed: BaseException | None = None
    while failed is None:
        values: list[bytes | None] = []
        keys: list[bytes | None] = []
        times: list[int | None] = []
        partitions: list[int | None] = []
        began = monotonic()
        while len(values) < size and monotonic() - began < 0.2:
            try:
                row = next(source)
            except StopIteration:
                failed = StopIteration()
                break
            except BaseException as error:
                failed = SourceFailed(f"row {number}")
                failed.__cause__ = error
                break
            try:
                if not isinstance(row, Mapping):
                    raise _core.SchemaError(_no_row(row, number))
                row = dict(row)
                at = None if key is None else _core._encode_key(_field(row, key, number, "key"), key, number)
                when = (
                    None
                    if timestamp is None
                    else _timestamp(_field(row, timestamp, number, "timestamp"), timestamp, number)
                )
                where = None
                if partition is not None:
                    where = _partition(_field(row, partition, number, "partition"), partition, number)
                    del row[partition]
                if value is not None:
                    made = _as_is(_field(row, value, number, "value"), value, number)
                else:
                    if key is not None and not include_key:
                        del row[key]
                    made = _core._encode_row(row, number)
            except BaseException as error:
                failed = error
                break
            values.append(made)
            keys.append(at)
            times.append(when)
            partitions.append(where)
            number += 1
        if values:
            yield {
                "value": values,
                "key": keys if key is not None else None,
                "timestamp": times if timestamp is not None else None,
                "partition": partitions if partition is not None else None,
            }
    if not isinstance(failed, StopIteration):
        raise failed


def _no_row(row: Any, number: int) -> str:
    if row is None:
        return f"row {number} is None. To publish tombstones, give an Arrow table with a column for value=."
    return f"row {number} is {type(row).__name__}, not a dict"


def _as_is(value: Any, column: str, row: int) -> bytes | None:
    """A value that is published unchanged. None is a tombstone."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    raise _core.SchemaError(
        f"column '{column}', row {row}: the field of value= must be str, bytes or None, not {type(value).__name__}"
    )


def _field(row: Mapping[str, Any], name: str, number: int, what: str) -> Any:
    if name in row:
        return row[name]
    raise _core.SchemaError(
        f"row {number} has no field {name!r} for the {what}. Its fields are {', '.join(map(repr, map(str, row)))}."
    )
