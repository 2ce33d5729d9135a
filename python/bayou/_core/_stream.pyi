"""Streams: what is read, what becomes of it, and where it is written."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, final

from bayou._core._iterate import BatchIterator, Preview, Validation
from bayou._core._query import Query
from bayou._core._table import Schema, Table
from bayou._core._types import _ArrowSchema, _Dialect, _Duration, _OutputMode, _Rows
from bayou._core._window import Aggregate, Window

@final
class Stream:
    """What is read and what becomes of it: immutable and lazy. Building one reads no messages, but checks columns, functions
    and types when the line is typed. Two streams built the same way are equal.

    Expressions are Databricks SQL with ANSI semantics; docs/sql.md lists the functions. `5/2` is 2.5. Column names match
    case-insensitively and keep their case; backticks quote. `dialect="datafusion"` runs an expression with DataFusion's own
    functions and meanings instead.

    A Stream is not iterated itself: use `batches`, `pandas_batches`, `collect` or `preview`.

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
        """The name given with `named`, if it was the last step.

        Example:
            >>> clean.name
            'clean'
        """
    def explain(self) -> str:
        """The source, every step and the columns that come out, a line each.

        Example:
            >>> print(clean.explain())
        """
    def select(self, *columns: str | list[str], dialect: _Dialect | None = None, **named: str) -> Stream:
        """Columns and SQL expressions, in this order, and nothing else.

        Args:
            columns: Names or expressions ("heart_bpm AS bpm", "*").
            dialect: "databricks" (the default) or "datafusion".
            named: Expressions by name: `bpm="heart_bpm"` is "heart_bpm AS bpm".

        Raises:
            SchemaError: A column or function does not exist, or types do not fit.

        Example:
            >>> raw.select("time", "heart_bpm AS bpm", kilo="kcal / 1000")
        """
    def with_columns(self, *columns: str | list[str], dialect: _Dialect | None = None, **named: str) -> Stream:
        """All columns, with some added; one of the same name is replaced. All expressions see the columns as they came in.

        Args:
            columns: Expressions with a name ("upper(model) AS model").
            dialect: "databricks" (the default) or "datafusion".
            named: Expressions by name.

        Raises:
            SchemaError: A column or function does not exist, or types do not fit.

        Example:
            >>> raw.with_columns(day="to_date(time)")
        """
    def where(self, condition: str, dialect: _Dialect | None = None) -> Stream:
        """The rows for which a condition is TRUE. Rows that go are not counted as failures; for that there is `expect_or_drop`.

        Args:
            condition: A boolean SQL expression.
            dialect: "databricks" (the default) or "datafusion".

        Raises:
            SchemaError: The condition is not boolean, or names what does not exist.

        Example:
            >>> raw.where("model LIKE 'Pulse%'")
        """
    def rename(self, names: dict[str, str]) -> Stream:
        """Other names for some columns.

        Args:
            names: {old: new}.

        Raises:
            SchemaError: A column does not exist, or two get the same name.

        Example:
            >>> raw.rename({"heart_bpm": "bpm"})
        """
    def drop(self, *columns: str | list[str]) -> Stream:
        """All columns but these.

        Raises:
            SchemaError: A column does not exist, or none is left.

        Example:
            >>> raw.drop("ip", "version")
        """
    def union(self, other: Stream) -> Stream:
        """The rows of both streams, columns matched by name.

        Raises:
            SchemaError: Names or types differ.

        Example:
            >>> kafka.read_stream("a", schema=ddl).union(kafka.read_stream("b", schema=ddl))
        """
    def named(self, name: str) -> Stream:
        """The same stream under a name: rules before it are reported under it, and run once for everything built on it.

        Args:
            name: Letters, digits, "_", "-", "."; a letter or digit first.

        Raises:
            ConfigError: Not a name.

        Example:
            >>> clean = raw.expect_or_drop("set", "bpm IS NOT NULL").named("clean")
        """
    def expect(self, name: str, condition: str, dialect: _Dialect | None = None) -> Stream:
        """A rule that is counted; rows that break it stay.

        A rule holds only when its condition is TRUE: NULL breaks it, and so does an error. Rules next to each other are one set:
        each is counted on every row that comes in, and the strongest action wins (fail, quarantine, drop, keep).

        Args:
            name: What the rule is called in reports, unique within its set.
            condition: A boolean SQL expression.
            dialect: "databricks" (the default) or "datafusion".

        Raises:
            SchemaError: The condition is not boolean, or names what does not exist.
            ConfigError: The name is taken.

        Example:
            >>> raw.expect("plausible", "bpm < 250")
        """
    def expect_or_drop(self, name: str, condition: str, dialect: _Dialect | None = None) -> Stream:
        """A rule whose rows are dropped when they break it. Arguments and errors as `expect`.

        Example:
            >>> raw.expect_or_drop("human has a pulse", "bpm > 0")
        """
    def expect_or_quarantine(self, name: str, condition: str, dialect: _Dialect | None = None) -> Stream:
        """A rule whose rows move to the quarantine table when they break it, with the original message. In iterators and
        previews they are dropped and counted. Arguments and errors as `expect`.

        Example:
            >>> raw.expect_or_quarantine("tracker is valid", "model <> 'undef'")
        """
    def expect_or_fail(self, name: str, condition: str, dialect: _Dialect | None = None) -> Stream:
        """A rule that stops the query with an ExpectationError; nothing of that epoch is committed. Arguments and errors as
        `expect`.

        Example:
            >>> raw.expect_or_fail("key is set", "ip IS NOT NULL")
        """
    def expect_all(self, rules: dict[str, str], dialect: _Dialect | None = None) -> Stream:
        """Several `expect`: {name: condition}.

        Example:
            >>> raw.expect_all({"plausible": "bpm < 250", "recent": "time > '2024-01-01'"})
        """
    def expect_all_or_drop(self, rules: dict[str, str], dialect: _Dialect | None = None) -> Stream:
        """Several `expect_or_drop`: {name: condition}.

        Example:
            >>> raw.expect_all_or_drop({"set": "bpm IS NOT NULL", "pulse": "bpm > 0"})
        """
    def expect_all_or_quarantine(self, rules: dict[str, str], dialect: _Dialect | None = None) -> Stream:
        """Several `expect_or_quarantine`: {name: condition}.

        Example:
            >>> raw.expect_all_or_quarantine({"valid": "model <> 'undef'"})
        """
    def expect_all_or_fail(self, rules: dict[str, str], dialect: _Dialect | None = None) -> Stream:
        """Several `expect_or_fail`: {name: condition}.

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
        """Say which column is the event time, and how long to wait for stragglers.

        The watermark is, per partition, the highest event time seen less the delay; the stream's is the lowest over partitions
        that are not idle, and never goes back. Within an epoch rows are judged by the watermark with which it began; at its end
        it advances, and windows whose end it has reached are emitted. A row is late when all its windows are closed; a NULL
        event time counts as late.

        Args:
            column: A TIMESTAMP column.
            delay: How far behind the newest event rows may come.
            idle_timeout: A partition that is caught up and silent for so long does not hold the others. Default "5 minutes".
            max_future: Event times later than the clock and this do not move the watermark. Default "1 hour".
            on_idle: When all partitions are idle, "hold" leaves the watermark at the highest event time less the delay, so that a backlog
                that comes after a silence is not late; "advance" has it follow the clock, less `idle_timeout` and the delay, so that the
                last windows of a topic that fell silent close.
            late: Late rows go to the quarantine table, or are dropped. Always counted.

        Raises:
            SchemaError: The column does not exist or is no TIMESTAMP.
            ConfigError: There is a watermark already, or the stream is aggregated.

        Example:
            >>> clean.with_watermark("time", "10 seconds")
        """
    def drop_duplicates(self, keys: str | list[str] | None = None, *, within: _Duration) -> Stream:
        """Drop rows that repeat an earlier one, in event time.

        A row is a duplicate when a row with the same keys was kept whose event time differs by at most `within`, either way
        (NULL keys equal each other). Of an epoch's rows the one with the lowest topic, partition and offset is kept, so that
        the order in which partitions answered makes no difference. Keys are remembered until the watermark has passed
        their time and `within`: the state is bounded. Rows below the watermark are late.

        Args:
            keys: Columns or expressions. Default: all columns.
            within: How far apart duplicates may lie.

        Raises:
            ConfigError: There is no watermark, or the stream is a running aggregate.
            SchemaError: A key does not exist or has a type that has no order (MAP).

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
        storage_options: Mapping[str, object] | None = None,
    ) -> Stream:
        """Join with a table, or with another stream.

        A table: rows at hand (Arrow, pandas, polars, dicts), or the path or URL of a Delta table, which is read again when its
        version has changed; the version holds for a whole epoch and is sealed with it. A row that matches several comes
        several times.

        A stream (`within=` is needed): pairs with equal keys whose event times lie within a range of each other, handed out
        in the epoch in which the later row came; with how="left" a left row without a match comes with NULLs once the
        watermark proves that none can come. Both need a watermark; rows below the lower one of the two are late. The event
        time of a pair is the left row's. `stateOperators[…]["customMetrics"]` in the progress counts numUnmatchedLeft and
        numUnmatchedRight.

        NULL keys match nothing. Columns are the left ones, then the right ones but for keys of the same name.

        Args:
            other: The right side.
            on: Columns with equal values: one, several, pairs (left, right), or {left: right}. Whole numbers of different
                widths, and FLOAT and DOUBLE, are compared as the wider type.
            how: "inner" or "left".
            within: A duration either way, or (before, after): the right row's time lies in [left - before, left + after].
            suffix: Added to right columns whose name the left side has.
            storage_options: Options of a cloud store, as delta-rs names them.

        Raises:
            ConfigError: No watermark, no `within=` for a stream, or a running aggregate.
            SchemaError: A key does not exist, types that cannot be compared, or two columns of one name.
            StorageError: There is no Delta table.

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
        """Rows through a Python function, batch by batch.

        The function may return fewer or more rows. Where it raises, the rows are found by bisection (the function is called
        again with parts of the batch) and follow `on_malformed`; the error names epoch, topic, partition and offset. A
        function that fails for every row stops the query. Put with_watermark before it: what it returns does not tell
        which partition it came from. Its result is part of what is sealed, so that it is not called again after a crash.

        Args:
            function: Takes a batch, returns rows: Arrow, pandas (its index is left out), polars, dicts or a dict of lists. Values
                fit the schema exactly or are an error that names column and row (docs/values.md); no rows need no columns.
            schema: The columns that it returns, found by name, in structs too. Default: those that it is given.
            input: What it is given: "arrow" (pyarrow.RecordBatch), "pandas", "polars" or "bayou" (Batch).

        Raises:
            ConfigError: Not a function, another `input`, or a running aggregate.
            ImportError: What `input` needs is not installed.

        Example:
            >>> clean.map_batches(lambda df: df.assign(zone=df.bpm // 40), "time TIMESTAMP, bpm INT, zone INT", input="pandas")
        """
    def group_by(self, *keys: str | Window | list[str]) -> GroupedStream:
        """Group rows, by a window, columns or expressions; without any, all rows are one group.

        Args:
            keys: Columns or SQL expressions, and at most one `bayou.window(…)` (or its text, "window(time, '1 minute')").

        Raises:
            SchemaError: A column or function does not exist.
            ConfigError: Two windows, or the stream is aggregated already.

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
        checkpoint_location: str | None = None,
        storage_options: Mapping[str, object] | None = None,
    ) -> BatchIterator:
        """Iterate over the rows as Arrow batches. At least once: nothing is committed unless the position is stored.

        Malformed messages raise unless `on_malformed` says otherwise. Quarantined and late rows are dropped and counted.

        Args:
            trigger: "available_now" (the default): all that is there now, then end. An interval ("2 seconds") goes on until it
                is left; "0 seconds" is as fast as possible.
            output_mode: "append" (rows; windows when closed) or "complete" (the whole result each time). Default: append, and
                complete for an aggregate without a window.
            limit: End after so many rows.
            timeout: End after so long.
            batch_rows: Rows of a batch, but for the last. Default: as they come.
            close_windows: At the end emit windows that are still open.
            name: With `checkpoint_location`: remember the position under this name. It is stored when the next batch is asked
                for, so a batch that was not finished comes again.
            checkpoint_location: A path or URL.
            storage_options: Options of a cloud store, as delta-rs names them.

        Raises:
            ConfigError: Options contradict each other.
            TypeError: An argument that does not exist.
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
        checkpoint_location: str | None = None,
        storage_options: Mapping[str, object] | None = None,
    ) -> BatchIterator:
        """Iterate over the rows as pandas frames. Arguments and errors as `batches`.

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
        """All that is there now, in memory. Arguments and errors as `batches`.

        Example:
            >>> clean.collect(limit=1000).to_pandas()
        """
    def preview(self, n: int = 20, *, timeout: _Duration | None = None) -> Preview:
        """The first rows, and messages that could not be decoded with their errors. Commits nothing; open windows show too.

        Args:
            n: At most so many rows.
            timeout: Stop looking after so long. Default 10 seconds.

        Example:
            >>> clean.preview(20)
        """
    def validate(self) -> Validation:
        """Run the rules over all that is there and count; an `expect_or_fail` is counted instead of stopping.

        Example:
            >>> bayou.from_batches(frame).expect("set", "bpm IS NOT NULL").validate().passed
            True
        """
    def write_delta(
        self,
        target: str | Path,
        *,
        query_name: str | None = None,
        output_mode: _OutputMode | None = None,
        trigger: _Duration | None = None,
        checkpoint_location: str | None = None,
        partition_by: str | list[str] | None = None,
        storage_options: Mapping[str, object] | None = None,
        table_name: str | None = None,
        comment: str | None = None,
        schema_mode: Literal["merge"] | None = None,
        start: Literal["now", "earliest"] | None = None,
        full_refresh: bool = False,
        accept_changes: bool = False,
        close_windows: bool = False,
        memory_limit: str | int | None = None,
        optimize_every: int | None = None,
        clean_log: bool | None = None,
        block: bool = True,
        progress: bool = True,
    ) -> Query:
        """Write a Delta table, exactly once: running it again goes on where the last run stopped and writes nothing twice, also
        after a kill at any point.

        Rows that are set aside go to `<target>_quarantine`, made when first needed; so do rows that the table does not take (stage
        `table`): NULL for a column that is NOT NULL there, a broken CHECK constraint, a year outside 0001 to 9999. Running a query that is active in this
        process stops the old one after its epoch.

        Args:
            target: A path or URL. `catalog.schema.table` is refused in this version.
            query_name: The query's identity. Default: the target's last part.
            output_mode: "append" (rows; windows when closed), "update" (the rows of changed groups take the place of those with
                the same keys; NULL keys equal) or "complete" (the whole result). Default: append, and complete for an
                aggregate without a window.
            trigger: "available_now" (the default): all that is there when it starts, in epochs, then stop. Or an interval,
                "10 seconds", until stopped.
            checkpoint_location: Where the checkpoint lies. Default `<target>/_bayou`.
            partition_by: Columns.
            storage_options: Options of a cloud store, as delta-rs names them.
            table_name: Delta's own name of the table.
            comment: The table's comment.
            schema_mode: "merge" adds new columns, and new fields within columns, to a table that exists, and makes a column nullable that
                is NOT NULL there and can be NULL in the stream, by a commit of its own.
            start: Where a table begins that the query's checkpoint does not know yet: "now" or "earliest".
            full_refresh: Empty the table and read everything anew. Delta's history keeps the old rows. Where others have written rows
                to the table as well, accept_changes=True is needed, too.
            accept_changes: Take over a table that has rows of others; let two queries share it. Go on although others changed data in the table (RESTORE, DELETE, overwrite), or its log has lost an epoch
                or was cleaned up before this query has seen it.
            close_windows: At the end emit windows that are still open (backfills); later rows of theirs are late.
            memory_limit: How much state stays in memory, as "2 GB" or bytes; what is beyond it goes to local disk (TMPDIR).
                Default: half of the machine's memory.
            optimize_every: Join the table's small files, beside the stream, whenever there are so many (Delta's OPTIMIZE; the old
                files are VACUUM's). They are counted now and then: where an epoch writes several, some more may gather.
                Default: never.
            clean_log: Take away what the table's own retention (`delta.logRetentionDuration`, 30 days by default) lets go of in its log,
                beside the stream. Default: as the table property `bayou.cleanLog` says, which bayou sets for tables that it makes;
                other tables are left alone unless this is True.
            block: Wait for the end. Otherwise return a running Query once it has started.
            progress: Show a panel that is updated in place.

        Returns:
            The Query, ended or running.

        Raises:
            ConfigError: Options or the checkpoint do not fit.
            ConcurrentQueryError: Another process runs this query.
            DataLossError: Offsets that are still needed are gone.
            ExpectationError: A rule of `expect_or_fail` was broken.
            SchemaError: Too many malformed messages, or the table has other columns.
            StorageError: The table cannot be written.
            KeyboardInterrupt: The stop button, after the query has ended cleanly.

        Example:
            >>> query = clean.write_delta("lake/bpm_cleansed", partition_by="model")
            >>> query.last_progress["numInputRows"]
            200000
        """
    def foreach_batch(
        self,
        function: Callable[[Any, int], Any],
        *,
        query_name: str | None = None,
        checkpoint_location: str | None = None,
        input: Literal["arrow", "pandas", "polars", "bayou"] = "arrow",
        output_mode: _OutputMode | None = None,
        trigger: _Duration | None = None,
        storage_options: Mapping[str, object] | None = None,
        full_refresh: bool = False,
        close_windows: bool = False,
        memory_limit: str | int | None = None,
        block: bool = True,
        progress: bool = True,
    ) -> Query:
        """Hand each epoch's rows to `function(rows, epoch)`.

        At least once: after a crash the same rows come again for the same epoch, so that a function that remembers the epoch
        can tell. They are staged in the checkpoint before the epoch is sealed, and not computed again. An epoch without
        rows is not handed over. What the function raises stops the query; running it again calls it with the same rows.

        Args:
            function: Called on a thread of its own with the rows and the epoch's number.
            query_name: The query's identity; needed.
            checkpoint_location: Where its checkpoint lies; needed.
            input: What the rows come as: "arrow" (pyarrow.Table), "pandas", "polars" or "bayou" (Table).
            output_mode: As in write_delta; "update" hands over the rows of changed groups.
            trigger: As in write_delta.
            storage_options: As in write_delta.
            full_refresh: Read everything anew.
            close_windows: As in write_delta.
            memory_limit: As in write_delta.
            block: As in write_delta.
            progress: As in write_delta.

        Raises:
            ConfigError: Options are missing.
            FunctionError: The function failed; what it raised is the `__cause__`.

        Example:
            >>> alerts.foreach_batch(lambda rows, epoch: post(rows.to_pylist()), query_name="alerts", checkpoint_location="lake/_alerts")
        """
    def __eq__(self, value: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class GroupedStream:
    """A stream with keys, waiting for its aggregates.

    Example:
        >>> clean.group_by("model").agg("count(*) AS n")
    """

    def agg(
        self, *aggregates: str | list[str] | Aggregate, dialect: _Dialect | None = None, **named: str | Aggregate
    ) -> Stream:
        """Aggregate the groups. Columns come as window_start, window_end, keys, aggregates.

        Args:
            aggregates: SQL aggregates with a name ("count(bpm) AS events").
            dialect: "databricks" (the default) or "datafusion".
            named: Aggregates by name: `highest="max(bpm)"`.

        Raises:
            SchemaError: An aggregate has no name, or a column or function does not exist.

        Example:
            >>> clean.group_by("model").agg("avg(bpm) AS average", highest="max(bpm)")
        """
    def count(self) -> Stream:
        """The number of rows of each group, as column `count`.

        Example:
            >>> clean.group_by("model").count()
        """
