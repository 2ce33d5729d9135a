"""Streams: what is read, how it is transformed, and where it is written."""

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal, final

from bayou._core._iterate import BatchIterator, Preview, Validation
from bayou._core._outputs import _Outputs
from bayou._core._table import Schema, Table
from bayou._core._types import _ArrowSchema, _Dialect, _Duration, _OutputMode, _Rows, _TimestampUnit
from bayou._core._window import GroupedStream, Window

@final
class Stream(_Outputs):
    """The description of what is read and how it is transformed. A Stream is immutable and lazy. Each method checks columns, functions
    and types at once, but reads no messages. Two streams with the same steps are equal.

    Expressions are Databricks SQL with ANSI semantics; `bayou.functions()` lists the functions. `5/2` is 2.5. Column names match
    case-insensitively and keep their case. Backticks quote names. With `dialect="datafusion"` an expression uses DataFusion's own
    functions and semantics instead.

    You cannot iterate over a Stream directly. Use `batches`, `pandas_batches`, `collect` or `preview`.

    Example:
        >>> clean = (raw.select("time", "heart_bpm AS bpm", "model")
        ...             .expect_or_drop("human has a pulse", "bpm > 0")
        ...             .named("clean"))
    """

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order.

        Example:
            >>> clean.columns
            ['time', 'bpm', 'model']
        """
    @property
    def schema(self) -> Schema:
        """Names and types of the columns.

        Example:
            >>> print(clean.schema)
            time TIMESTAMP, bpm INT, model STRING
        """
    @property
    def name(self) -> str | None:
        """The name given with `named`, if `named` was the last step. Otherwise None.

        Example:
            >>> clean.name
            'clean'
        """
    def explain(self) -> str:
        """The source, every step and the resulting columns, one line for each.

        Example:
            >>> print(clean.explain())
        """
    def select(self, *columns: str | list[str], dialect: _Dialect | None = None, **named: str) -> Stream:
        """Keep only these columns and SQL expressions, in this order.

        One of them may be a generator, which makes several rows of one: `explode`, `posexplode`, `inline`, the forms of these with
        `_outer`, `stack`, `json_tuple`. The rows keep their message, so rules, quarantine and `with_watermark` work behind it. A row in
        quarantine has its original message, and in `row` its place in the message: `"_element": [3]`.

        Args:
            columns: Names or expressions ("heart_bpm AS bpm", "*", "* EXCEPT (ip)", "after.*", "explode(readings) AS r",
                "posexplode(m) AS (i, k, v)", "filter(readings, r -> r.v > 0) AS good").
            dialect: "databricks" (the default) or "datafusion".
            named: Expressions with their names: `bpm="heart_bpm"` is "heart_bpm AS bpm".

        Raises:
            SchemaError: A column or function does not exist, or types do not fit.

        Example:
            >>> raw.select("time", "heart_bpm AS bpm", kilo="kcal / 1000")
            >>> raw.select("device", "explode(readings) AS r").select("device", "r.time AS time", "r.value AS value")
        """
    def with_columns(self, *columns: str | list[str], dialect: _Dialect | None = None, **named: str) -> Stream:
        """Keep all columns and add some. A new column replaces an existing one with the same name. All expressions use the original
        columns. One of them may be a generator, as in `select`.

        Args:
            columns: Expressions with a name ("upper(model) AS model", "explode(readings) AS r").
            dialect: "databricks" (the default) or "datafusion".
            named: Expressions with their names: `day="to_date(time)"`.

        Raises:
            SchemaError: A column or function does not exist, or types do not fit.

        Example:
            >>> raw.with_columns(day="to_date(time)")
        """
    def decode(
        self,
        column: str,
        *,
        schema: str | _ArrowSchema | dict[str, str],
        format: str = "json",
        into: str | None = None,
        timezone: str | None = None,
        timestamp_unit: _TimestampUnit | Mapping[str, _TimestampUnit] | None = None,
        allow_quoted_numbers: bool = False,
        allow_nan: bool = False,
        missing: Literal["null", "malformed"] = "null",
    ) -> Stream:
        """Decode a column of text or bytes as if each value were a message: JSON within JSON, within a header, a key or raw bytes.

        The result is a STRUCT; `select("after.name", ...)` or `select("after.*")` takes its fields. With schema="ARRAY<…>" or
        "MAP<STRING, …>", or format="jsonl", it is the list or map itself. A value that cannot be decoded follows `on_malformed` as a
        malformed message does: in a table's query the whole row goes to quarantine, with the original message and the stage "decode".
        NULL stays NULL.

        Args:
            column: A STRING or BINARY column.
            schema: The columns of the values, as in `read_stream`.
            format: "json" or "jsonl".
            into: The column of the result. Default: the column itself. A column of this name is replaced.
            timezone: The zone of timestamps without an offset. Default "UTC".
            timestamp_unit: The unit of numbers in TIMESTAMP columns, for all or by field.
            allow_quoted_numbers, allow_nan, missing: As in `read_stream`.

        Raises:
            SchemaError: The column does not exist or is neither STRING nor BINARY, or the schema is wrong.
            ConfigError: The format is unknown.

        Example:
            >>> raw.decode("after", schema="id BIGINT, amount DOUBLE").select("after.id AS id", "after.amount AS amount")
        """
    def where(self, condition: str, dialect: _Dialect | None = None) -> Stream:
        """Keep only the rows for which a condition is TRUE. Removed rows are not counted as failures; use `expect_or_drop` for that.

        Args:
            condition: A boolean SQL expression.
            dialect: "databricks" (the default) or "datafusion".

        Raises:
            SchemaError: The condition is not boolean, or a column or function in it does not exist.

        Example:
            >>> raw.where("model LIKE 'Pulse%'")
        """
    def rename(self, names: dict[str, str]) -> Stream:
        """Give some columns new names.

        Args:
            names: {old: new}.

        Raises:
            SchemaError: A column does not exist, or two get the same name.

        Example:
            >>> raw.rename({"heart_bpm": "bpm"})
        """
    def drop(self, *columns: str | list[str]) -> Stream:
        """Remove columns.

        Raises:
            SchemaError: A column does not exist, or no column is left.

        Example:
            >>> raw.drop("ip", "version")
        """
    def union(self, other: Stream) -> Stream:
        """The rows of both streams. Columns are matched by name.

        Raises:
            SchemaError: The names or types of the columns differ.

        Example:
            >>> kafka.read_stream("a", schema=ddl).union(kafka.read_stream("b", schema=ddl))
        """
    def named(self, name: str) -> Stream:
        """Give the stream a name. The rules before this step are reported under the name. They run once for all streams that are built
        on it.

        Args:
            name: Letters, digits, "_", "-", "."; the first character is a letter or digit.

        Raises:
            ConfigError: The text is not a valid name.

        Example:
            >>> clean = raw.expect_or_drop("set", "bpm IS NOT NULL").named("clean")
        """
    def expect(self, name: str, condition: str, dialect: _Dialect | None = None) -> Stream:
        """Add a rule that is only counted. Rows that break it stay.

        A row passes only if the condition is TRUE. NULL breaks the rule, and an error breaks it, too. Consecutive rules are one set:
        each rule is counted on every incoming row, and the strongest action wins (fail, quarantine, drop, keep).

        Args:
            name: The name of the rule in reports, unique within its set.
            condition: A boolean SQL expression.
            dialect: "databricks" (the default) or "datafusion".

        Raises:
            SchemaError: The condition is not boolean, or a column or function in it does not exist.
            ConfigError: A rule of the same set has this name already.

        Example:
            >>> raw.expect("plausible", "bpm < 250")
        """
    def expect_or_drop(self, name: str, condition: str, dialect: _Dialect | None = None) -> Stream:
        """Add a rule. Rows that break it are dropped. Arguments and errors are those of `expect`.

        Example:
            >>> raw.expect_or_drop("human has a pulse", "bpm > 0")
        """
    def expect_or_quarantine(self, name: str, condition: str, dialect: _Dialect | None = None) -> Stream:
        """Add a rule. Rows that break it go to the quarantine table with the original message. Iterators and previews drop and count
        them. Arguments and errors are those of `expect`.

        Example:
            >>> raw.expect_or_quarantine("tracker is valid", "model <> 'undef'")
        """
    def expect_or_fail(self, name: str, condition: str, dialect: _Dialect | None = None) -> Stream:
        """Add a rule. A row that breaks it stops the query with an ExpectationError, and nothing of that epoch is committed. Arguments
        and errors are those of `expect`.

        Example:
            >>> raw.expect_or_fail("key is set", "ip IS NOT NULL")
        """
    def expect_all(self, rules: dict[str, str], dialect: _Dialect | None = None) -> Stream:
        """Several `expect` rules: {name: condition}.

        Example:
            >>> raw.expect_all({"plausible": "bpm < 250", "recent": "time > '2024-01-01'"})
        """
    def expect_all_or_drop(self, rules: dict[str, str], dialect: _Dialect | None = None) -> Stream:
        """Several `expect_or_drop` rules: {name: condition}.

        Example:
            >>> raw.expect_all_or_drop({"set": "bpm IS NOT NULL", "pulse": "bpm > 0"})
        """
    def expect_all_or_quarantine(self, rules: dict[str, str], dialect: _Dialect | None = None) -> Stream:
        """Several `expect_or_quarantine` rules: {name: condition}.

        Example:
            >>> raw.expect_all_or_quarantine({"valid": "model <> 'undef'"})
        """
    def expect_all_or_fail(self, rules: dict[str, str], dialect: _Dialect | None = None) -> Stream:
        """Several `expect_or_fail` rules: {name: condition}.

        Example:
            >>> raw.expect_all_or_fail({"key": "ip IS NOT NULL"})
        """
    def with_watermark(
        self,
        column: str,
        delay: _Duration,
        *,
        idle_timeout: _Duration | None = None,
        max_future: _Duration | None = None,
        on_idle: Literal["hold", "advance"] = "hold",
        late: Literal["quarantine", "drop"] = "quarantine",
    ) -> Stream:
        """Set the event-time column, and how long to wait for late rows.

        Each partition has a watermark: the highest event time seen minus the delay. The watermark of the stream is the lowest one over
        partitions that are not idle. It never goes back. Within an epoch, rows are judged by the watermark with which the epoch began.
        At the end of the epoch the watermark advances, and the windows whose end it has reached are emitted. A row is late when all
        its windows are closed. A row with NULL as event time is late.

        Args:
            column: A TIMESTAMP column, or a TIMESTAMP field of a struct, as in "after.ts".
            delay: How far a row may be behind the newest event.
            idle_timeout: A partition that has been read to its end and is silent for this long does not hold the others. Default
                "5 minutes".
            max_future: Event times later than the clock plus this do not move the watermark. Default "1 hour".
            on_idle: What happens when all partitions are idle. "hold" keeps the watermark at the highest event time minus the delay, so
                a backlog after a silence is not late. With "advance" the watermark follows the clock minus `idle_timeout` and minus the
                delay, so the last windows of a topic that became silent close.
            late: "quarantine" or "drop": what happens to late rows. They are always counted.

        Raises:
            SchemaError: The column does not exist or is not a TIMESTAMP.
            ConfigError: The stream has a watermark already, or is aggregated.

        Example:
            >>> clean.with_watermark("time", "10 seconds")
        """
    def drop_duplicates(self, keys: str | list[str] | None = None, *, within: _Duration) -> Stream:
        """Drop rows that repeat an earlier one, by event time.

        A row is a duplicate if a row with the same keys was kept and their event times differ by at most `within`, in either
        direction (NULL keys equal each other). Among the rows of an epoch, the one with the lowest topic, partition and offset is kept, and
        among the rows of one message the first.
        So the order in which partitions answered makes no difference. A key is remembered until the watermark has passed its time
        plus `within`, so the state is bounded. Rows below the watermark are late.

        Args:
            keys: Columns or expressions. Default: all columns.
            within: The largest distance in event time between duplicates.

        Raises:
            ConfigError: The stream does not have a watermark, or is a running aggregate.
            SchemaError: A key does not exist or has a type without an order (MAP).

        Example:
            >>> clean.with_watermark("time", "1 minute").drop_duplicates(["ip", "time"], within="10 minutes")
        """
    def join(
        self,
        other: Stream | str | Path | _Rows | list[dict[str, Any]] | dict[str, list[Any]],
        on: str | list[str] | list[tuple[str, str]] | dict[str, str],
        how: Literal["inner", "left"] = "inner",
        *,
        within: _Duration | tuple[_Duration, _Duration] | None = None,
        suffix: str = "_right",
        storage_options: Mapping[str, object] | Callable[[], Mapping[str, object]] | None = None,
        spark: Any = None,
    ) -> Stream:
        """Join with a table or with a second stream.

        A table is rows in memory (Arrow, pandas, polars, dicts), the path or URL of a Delta table, or `catalog.schema.table` of Unity
        Catalog. A Delta table is looked up when an epoch begins. If it has grown, its new files are read; after other changes it is read
        again. The version holds for a whole epoch and is sealed with it. Only the columns that are used are in memory. A row that matches
        several rows is emitted several times.

        A join with a stream needs `within=`. It gives pairs with equal keys whose event times are within a range of each other. A pair
        is emitted in the epoch in which the later row arrived. With how="left", a left row without a match is emitted with NULLs when
        the watermark proves that no match can arrive. Both streams need a watermark. Rows below the lower of the two watermarks are
        late. The event time of a pair is that of the left row. In the progress, `stateOperators[…]["customMetrics"]` counts
        numUnmatchedLeft and numUnmatchedRight.

        NULL keys do not match anything. The result has the left columns, then the right columns without the keys of the same name.

        Args:
            other: The right side.
            on: Columns with equal values: one, several, pairs (left, right), or {left: right}. Whole numbers of different
                widths, and FLOAT and DOUBLE, are compared as the wider type.
            how: "inner" or "left".
            within: A duration in both directions, or (before, after): the time of the right row is in [left - before, left + after].
            suffix: Added to the name of a right column if the left side has the same name.
            storage_options: Options of a cloud store, with the names of delta-rs.
            spark: A Spark session. It reads a table of a catalog where the catalog gives bayou no credentials, or where there is no login. The
                table is read as a whole, again after each change. Default: the notebook's session, when the catalog gives bayou no credentials.

        Raises:
            ConfigError: A watermark or the `within=` of a stream is missing, or the stream is a running aggregate.
            SchemaError: A key does not exist, two types cannot be compared, or two columns have the same name.
            StorageError: The Delta table does not exist.

        Example:
            >>> clean.join("lake/devices", on="model", how="left")
            >>> clicks.join(orders, on={"user": "customer"}, within=("0 seconds", "30 minutes"))
        """
    def map_batches(
        self,
        function: Callable[[Any], Any],
        schema: str | _ArrowSchema | dict[str, str] | None = None,
        *,
        input: Literal["arrow", "pandas", "polars", "bayou"] = "arrow",
    ) -> Stream:
        """Apply a Python function to the rows, batch by batch.

        The function can return fewer or more rows. If it raises an exception, bayou finds the rows by bisection: it calls the function
        again with parts of the batch. These rows follow `on_malformed`, and the error names epoch, topic, partition and offset. A
        function that fails for every row stops the query. Call with_watermark before map_batches, because the returned rows do not
        say from which partition they came. The result is sealed, so the function is not called again after a crash.

        Args:
            function: Takes a batch and returns rows: Arrow, pandas (the index is left out), polars, dicts or a dict of lists. Values
                fit the schema exactly, or they are an error that names column and row (docs/values.md). A result without rows does not
                need columns.
            schema: The columns of the result, found by name, also within structs. Default: the columns of the input.
            input: The type of the argument: "arrow" (pyarrow.RecordBatch), "pandas", "polars" or "bayou" (Batch).

        Raises:
            ConfigError: The argument is not a function, `input` is unknown, or the stream is a running aggregate.
            ImportError: The package that `input` needs is not installed.

        Example:
            >>> clean.map_batches(lambda df: df.assign(zone=df.bpm // 40), "time TIMESTAMP, bpm INT, zone INT", input="pandas")
        """
    def group_by(self, *keys: str | Window | list[str]) -> GroupedStream:
        """Group rows by a window, columns or expressions. Without keys, all rows are one group.

        Args:
            keys: Columns or SQL expressions, and at most one `bayou.window(…)` (or its text, "window(time, '1 minute')").

        Raises:
            SchemaError: A column or function does not exist.
            ConfigError: There are two windows, or the stream is aggregated already.

        Example:
            >>> clean.group_by(bayou.window("time", "1 minute"), "model").agg("count(*) AS n")
        """
    def batches(
        self,
        *,
        trigger: _Duration | None = None,
        output_mode: _OutputMode | None = None,
        limit: int | None = None,
        timeout: _Duration | None = None,
        batch_rows: int | None = None,
        close_windows: bool = False,
        name: str | None = None,
        checkpoint_location: str | PathLike[str] | None = None,
        storage_options: Mapping[str, object] | Callable[[], Mapping[str, object]] | None = None,
        group_id: str | None = None,
    ) -> BatchIterator:
        """Iterate over the rows as Arrow batches, at least once. Nothing is committed; with `name=` the position is stored.

        A malformed message raises an error, unless `on_malformed` says otherwise. Quarantined and late rows are dropped and counted.

        Args:
            trigger: "available_now" (the default) reads everything up to the current end, and then ends. With an interval
                ("2 seconds") the iterator continues until you leave the loop; "0 seconds" is as fast as possible.
            output_mode: "append" (rows; windows when they close) or "complete" (the whole result each time). Default: append;
                complete for an aggregate without a window.
            limit: End after this many rows.
            timeout: End after this time.
            batch_rows: The number of rows in each batch except the last one. Default: as they arrive.
            close_windows: At the end, emit windows that are still open.
            name: With `checkpoint_location`: store the position under this name. It is stored when the next batch is requested, so
                a batch that was not finished comes again.
            checkpoint_location: A path or URL.
            storage_options: Options of a cloud store, with the names of delta-rs.
            group_id: Read as a member of this consumer group, together with other members, which may be other programs. The group keeps the
                position: it is committed when the next batch is requested. `starting_offsets` is used where the group has no offset. A batch
                comes twice at most when a member fails or partitions move while it is used. A pause of any length keeps the membership. With a
                trigger, topics that match a pattern later join within seconds, and are read from their start. For streams without state.
                Properties of `connect` decide the rest: "group.instance.id" makes a static member, and "partition.assignment.strategy"
                (default "cooperative-sticky") must be one of the other members'.

        Raises:
            ConfigError: Options contradict each other.
            AclError: The credentials may not read the topic, or not in this group.
            ConcurrentQueryError: A different member has the same group.instance.id.
            TypeError: An argument does not exist.
            MalformedError: While iterating: a message cannot be decoded.

        Example:
            >>> for batch in clean.batches(batch_rows=10_000):
            ...     print(batch.to_polars().describe())
        """
    def pandas_batches(
        self,
        *,
        trigger: _Duration | None = None,
        output_mode: _OutputMode | None = None,
        limit: int | None = None,
        timeout: _Duration | None = None,
        batch_rows: int | None = None,
        close_windows: bool = False,
        name: str | None = None,
        checkpoint_location: str | PathLike[str] | None = None,
        storage_options: Mapping[str, object] | Callable[[], Mapping[str, object]] | None = None,
        group_id: str | None = None,
    ) -> BatchIterator:
        """Iterate over the rows as pandas frames. Arguments and errors are those of `batches`.

        Raises:
            ImportError: pandas is not installed.

        Example:
            >>> for frame in per_minute.pandas_batches(trigger="2 seconds", output_mode="complete"):
            ...     redraw(frame)
        """
    def collect(
        self,
        limit: int | None = None,
        *,
        timeout: _Duration | None = None,
        output_mode: _OutputMode | None = None,
        close_windows: bool = False,
    ) -> Table:
        """Read everything up to the current end into memory. Arguments and errors are those of `batches`.

        Example:
            >>> clean.collect(limit=1000).to_pandas()
        """
    def preview(self, n: int = 20, *, timeout: _Duration | None = None) -> Preview:
        """The first rows, and the messages that could not be decoded, with their errors. Nothing is committed. Windows that are still
        open are shown, too.

        Args:
            n: At most this many rows.
            timeout: Stop reading after this time. Default 10 seconds.

        Example:
            >>> clean.preview(20)
        """
    def validate(self) -> Validation:
        """Run the rules over everything up to the current end, and count. An `expect_or_fail` rule is counted and does not stop.

        Example:
            >>> bayou.from_batches(frame).expect("set", "bpm IS NOT NULL").validate().passed
            True
        """
    def __eq__(self, value: object, /) -> bool: ...
    def __hash__(self) -> int: ...
