"""Dicts to JSON text, in chunks, for `produce`."""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from time import monotonic
from typing import Any

_CHUNK = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


# json writes a Decimal in no way that keeps its digits: it goes through as a marked string, and the marks are taken off.
_MARK = f"decimal-{uuid.uuid4().hex}:"
_MARKED = re.compile(f'"{_MARK}([^"]*)"')


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return _MARK + format(value, "f")
    if isinstance(value, datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=timezone.utc)
        return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "item") and callable(value.item):  # NumPy's scalars
        return value.item()
    return value


def _micros(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=timezone.utc)
        delta: timedelta = value - _EPOCH
        return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
    return int(value) * 1000


def encoded(
    rows: Iterable[Any],
    key: str | None,
    timestamp: str | None,
    partition: str | None,
    include_key: bool,
    rate: float | None,
    value: str | None,
) -> Iterator[dict[str, Any]]:
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        raise TypeError("an Arrow stream, a pandas frame, or an iterable of dicts is wanted")
    source = iter(rows)
    # At a rate, a chunk is what a tenth of a second sends, so that rows do not wait to become many.
    size = _CHUNK if rate is None else max(1, min(_CHUNK, int(rate / 10)))
    while True:
        values: list[bytes | None] = []
        keys: list[str | None] = []
        times: list[int | None] = []
        partitions: list[int | None] = []
        began = monotonic()
        for row in source:
            if row is None:
                raise TypeError("a row is None; to publish tombstones pass an Arrow table with a column for value=")
            if not isinstance(row, Mapping):
                raise TypeError(f"a row is {type(row).__name__}; dicts are wanted")
            row = dict(row)
            if key is not None:
                found = row[key] if key in row else _no_column(key, row)
                keys.append(None if found is None else str(_plain(found)))
                if not include_key:
                    del row[key]
            if timestamp is not None:
                times.append(_micros(row[timestamp] if timestamp in row else _no_column(timestamp, row)))
            if partition is not None:
                partitions.append(row.pop(partition) if partition in row else _no_column(partition, row))
            values.append(
                _json(row) if value is None else _as_is(row[value] if value in row else _no_column(value, row))
            )
            if len(values) >= size or monotonic() - began > 0.2:
                break
        if not values:
            return
        yield {
            "value": values,
            "key": keys if key is not None else None,
            "timestamp": times if timestamp is not None else None,
            "partition": partitions if partition is not None else None,
        }


def _json(row: Mapping[str, Any]) -> bytes:
    text = json.dumps(_plain(row), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return (_MARKED.sub(r"\1", text) if _MARK in text else text).encode()


def _as_is(value: Any) -> bytes | None:
    """A value that goes out as it stands; None is a tombstone."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise TypeError(f"value= names a field that is {type(value).__name__}; str, bytes or None is wanted")


def _no_column(name: str, row: Mapping[str, Any]) -> Any:
    raise KeyError(f"a row has no {name!r}; it has {', '.join(map(str, row))}")
