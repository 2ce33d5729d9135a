"""Streams without a table: iterators, previews, checks, and rows or messages at hand."""

from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, final

from bayou._core._stream import Stream
from bayou._core._table import Table
from bayou._core._types import _OnMalformed, _OnTombstone, _Rows, _SchemaLike, _TimestampUnit

@final
class BatchIterator:
    """Batches, one after another. Leaving the loop, `close`, or the end of a `with` block releases the consumer. One thread reads;
    a second one that asks meanwhile gets a ConfigError.

    Example:
        >>> with clean.batches(trigger="1 second") as batches:
        ...     first = next(batches)
    """

    def close(self) -> None:
        """Release the consumer; iteration ends, also in a thread that waits for the next batch.

        Example:
            >>> batches.close()
        """
    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...
    def __enter__(self) -> BatchIterator: ...
    def __exit__(self, *_args: type[BaseException] | BaseException | TracebackType | None) -> None: ...

@final
class Preview:
    """What `preview` shows: rows, and what could not be decoded or was set aside. `len` is the number of rows.

    Example:
        >>> clean.preview(20)
    """

    @property
    def rows(self) -> Table:
        """The rows.

        Example:
            >>> clean.preview(5).rows.to_pandas()
        """
    @property
    def notes(self) -> list[str]:
        """What is worth knowing, as: no message had 'userid', they have 'userId'.

        Example:
            >>> clean.preview().notes
        """
    @property
    def malformed(self) -> Table:
        """Messages that did not make it: topic, partition, offset, stage, rules, error. At most 100.

        Example:
            >>> clean.preview().malformed.column("error")
        """
    def __len__(self) -> int: ...
    def _repr_html_(self) -> str: ...

@final
class Validation:
    """What `validate` finds.

    Example:
        >>> checked = bayou.from_batches(frame).expect("set", "bpm IS NOT NULL").validate()
        >>> checked.passed
        True
    """

    @property
    def expectations(self) -> Table:
        """Counts of the rules: dataset, name, action, passed_records, failed_records.

        Example:
            >>> checked.expectations.to_pandas()
        """
    @property
    def passed(self) -> bool:
        """Whether no row broke a rule and nothing was malformed.

        Example:
            >>> assert checked.passed
        """
    @property
    def rows_in(self) -> int:
        """Rows that came in, decoded.

        Example:
            >>> checked.rows_in
            1000
        """
    @property
    def rows_out(self) -> int:
        """Rows that came out behind the last step.

        Example:
            >>> checked.rows_out
            985
        """
    @property
    def malformed(self) -> int:
        """Messages that could not be decoded.

        Example:
            >>> checked.malformed
            0
        """
    def raise_for_expectations(self, *names: str, max_ratio: float = 0.0) -> None:
        """Raise if too many rows broke a rule.

        Args:
            names: Rules. Default: all.
            max_ratio: The share of rows, 0 to 1, that may break each.

        Raises:
            ExpectationError: More did.
            ConfigError: There is no such rule.

        Example:
            >>> checked.raise_for_expectations("set", max_ratio=0.01)
        """
    def _repr_html_(self) -> str: ...

def from_batches(rows: _Rows | list[dict[str, Any]] | dict[str, list[Any]]) -> Stream:
    """Rows at hand as a stream: for tests, checks, and the same rules on a frame.

    Args:
        rows: An Arrow stream or array (PyCapsule), a pandas frame, a list of dicts, or a dict of lists. They are copied; a pandas
            index is left out. A time finer than a microsecond is an error: TIMESTAMP has none.

    Raises:
        MalformedError: A value does not fit; the message names column and row.
        ImportError: Plain Python rows or a frame, and pyarrow is not installed.

    Example:
        >>> bayou.from_batches({"bpm": [70, 0]}).expect_or_drop("pulse", "bpm > 0").collect().to_dicts()
        [{'bpm': 70}]
    """

def from_messages(
    messages: Iterable[bytes | str | None],
    *,
    schema: _SchemaLike | None = None,
    format: Literal["json", "raw"] | None = None,
    on_malformed: _OnMalformed | None = None,
    on_tombstone: _OnTombstone | None = None,
    timezone: str | None = None,
    timestamp_unit: _TimestampUnit | Mapping[str, _TimestampUnit] | None = None,
    include_metadata: bool = False,
    max_message_bytes: str | int | None = None,
) -> Stream:
    """Message values at hand, decoded as if they came from a topic; None is a tombstone. Arguments as `read_stream`.

    Raises:
        SchemaError: The schema cannot be read, or an item is neither bytes, str nor None.

    Example:
        >>> bayou.from_messages(['{"bpm": 70}', b'{"bpm": 1.9}'], schema="bpm INT", on_malformed="drop").collect().to_dicts()
        [{'bpm': 70}]
    """
