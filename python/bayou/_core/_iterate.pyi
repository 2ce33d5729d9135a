"""Streams without a table: iterators, previews, checks, and rows or messages in memory."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, final

from bayou._core._stream import Stream
from bayou._core._table import Table
from bayou._core._types import _OnMalformed, _OnTombstone, _Rows, _SchemaLike, _TimestampUnit

@final
class BatchIterator:
    """An iterator over batches. The consumer is released when you leave the loop, call `close`, or leave the `with` block. Only one
    thread can read. A second thread that asks at the same time gets a ConfigError.

    Example:
        >>> with clean.batches(trigger="1 second") as batches:
        ...     first = next(batches)
    """

    def close(self) -> None:
        """Release the consumer. The iteration ends, also in a thread that waits for the next batch.

        Example:
            >>> batches.close()
        """
    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...
    def __enter__(self) -> BatchIterator: ...
    def __exit__(self, *_args: type[BaseException] | BaseException | TracebackType | None) -> None: ...

@final
class Preview:
    """The result of `preview`: rows, what the rules would do, and messages that could not be decoded or were set aside. `len` is the
    number of rows.

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
        """Hints, for example: no message had 'userid', they have 'userId'.

        Example:
            >>> clean.preview().notes
        """
    @property
    def messages(self) -> int:
        """How many messages the preview has looked at.

        Example:
            >>> clean.preview(20).messages
            1000
        """
    @property
    def expectations(self) -> Table:
        """The counts of the rules for these messages. Columns: dataset, name, action, passed_records, failed_records.

        Example:
            >>> clean.preview().expectations.to_pandas()
        """
    @property
    def reasons(self) -> Table:
        """Why some messages and rows are not in `rows`. Equal reasons are grouped, the most frequent first, for at most 1,000 messages and rows.

        Columns: count, stage, dataset, error; and for the first message or row of each group topic, partition, offset and value (the message, or the
        row as JSON).

        Example:
            >>> clean.preview().reasons.show()
        """
    @property
    def malformed(self) -> Table:
        """Messages that are not in the rows, at most 100. Columns: topic, partition, offset, stage, rules, error.

        Example:
            >>> clean.preview().malformed.column("error")
        """
    def __len__(self) -> int: ...
    def _repr_html_(self) -> str: ...

@final
class Validation:
    """The result of `validate`.

    Example:
        >>> checked = bayou.from_batches(frame).expect("set", "bpm IS NOT NULL").validate()
        >>> checked.passed
        True
    """

    @property
    def expectations(self) -> Table:
        """The counts of the rules. Columns: dataset, name, action, passed_records, failed_records.

        Example:
            >>> checked.expectations.to_pandas()
        """
    @property
    def passed(self) -> bool:
        """True if no row broke a rule and no message was malformed.

        Example:
            >>> assert checked.passed
        """
    @property
    def rows_in(self) -> int:
        """The number of decoded rows.

        Example:
            >>> checked.rows_in
            1000
        """
    @property
    def rows_out(self) -> int:
        """The number of rows after the last step.

        Example:
            >>> checked.rows_out
            985
        """
    @property
    def malformed(self) -> int:
        """The number of messages that could not be decoded.

        Example:
            >>> checked.malformed
            0
        """
    def raise_for_expectations(self, *names: str, max_ratio: float = 0.0) -> None:
        """Raise an error if too many rows broke a rule.

        Args:
            names: The names of rules. Default: all.
            max_ratio: The share of rows, from 0 to 1, that may break each rule.

        Raises:
            ExpectationError: More rows broke a rule.
            ConfigError: The rule does not exist.

        Example:
            >>> checked.raise_for_expectations("set", max_ratio=0.01)
        """
    def _repr_html_(self) -> str: ...

def from_batches(rows: _Rows | list[dict[str, Any]] | dict[str, list[Any]]) -> Stream:
    """Make a stream of rows in memory, for tests, for checks, and to apply the same rules to a frame.

    Args:
        rows: An Arrow stream or array (PyCapsule), a pandas frame, a list of dicts, or a dict of lists. The rows are copied. A pandas
            index is left out. A time finer than a microsecond is an error, because TIMESTAMP has microseconds.

    Raises:
        MalformedError: A value does not fit. The message names column and row.
        ImportError: The rows are plain Python objects or a frame, and pyarrow is not installed.

    Example:
        >>> bayou.from_batches({"bpm": [70, 0]}).expect_or_drop("pulse", "bpm > 0").collect().to_dicts()
        [{'bpm': 70}]
    """

def from_messages(
    messages: Iterable[bytes | str | None],
    *,
    schema: _SchemaLike | None = None,
    format: Literal["json", "jsonl", "raw"] | None = None,
    on_malformed: _OnMalformed | None = None,
    on_tombstone: _OnTombstone | None = None,
    timezone: str | None = None,
    timestamp_unit: _TimestampUnit | Mapping[str, _TimestampUnit] | None = None,
    allow_quoted_numbers: bool = False,
    allow_nan: bool = False,
    missing: Literal["null", "malformed"] = "null",
    include_metadata: bool = False,
    max_message_bytes: str | int | None = None,
    decrypt: Callable[[list[bytes]], list[bytes]] | None = None,
) -> Stream:
    """Make a stream of message values in memory, decoded as if they came from a topic. None is a tombstone. The arguments are those of
    `read_stream`.

    Raises:
        SchemaError: The schema cannot be read, or an item is not bytes, str or None.

    Example:
        >>> bayou.from_messages(['{"bpm": 70}', b'{"bpm": 1.9}'], schema="bpm INT", on_malformed="drop").collect().to_dicts()
        [{'bpm': 70}]
    """
