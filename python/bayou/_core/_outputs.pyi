"""The outputs of a stream: the methods of `Stream` that run a query."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from bayou._core._connection import Connection
from bayou._core._query import Query
from bayou._core._types import _Duration, _OutputMode

class _Outputs:
    def write_delta(
        self,
        target: str | Path,
        *,
        query_name: str | None = None,
        output_mode: _OutputMode | None = None,
        trigger: _Duration | None = None,
        checkpoint_location: str | PathLike[str] | None = None,
        partition_by: str | list[str] | None = None,
        storage_options: Mapping[str, object] | Callable[[], Mapping[str, object]] | None = None,
        table_name: str | None = None,
        comment: str | None = None,
        schema_mode: Literal["merge"] | None = None,
        start: Literal["now", "earliest"] | None = None,
        location: str | PathLike[str] | None = None,
        spark: Any = None,
        full_refresh: bool = False,
        accept_changes: bool = False,
        close_windows: bool = False,
        memory_limit: str | int | None = None,
        optimize_every: int | None = None,
        clean_log: bool | None = None,
        commit_to_group: str | None = None,
        single_writer: bool = False,
        timeout: _Duration | None = None,
        block: bool = True,
        progress: bool = True,
    ) -> Query:
        """Write a Delta table, exactly once. A second run continues where the last run stopped and writes nothing twice, also after a
        kill at any point.

        Rows that are set aside go to `<target>_quarantine`. This table is created when the first such row arrives. It also gets rows
        that the target does not accept (stage `table`): NULL in a NOT NULL column, a broken CHECK constraint, a year outside 0001 to
        9999. Its column `row` has the row as JSON if the row does not come from a single message. It also has the row if a generator made the row,
        with the row's place in the message. If the same query is already active in this process, the old run is stopped after its epoch.

        Args:
            target: A path or URL, or `catalog.schema.table`, a table of Unity Catalog (docs/catalogs.md). Three parts between dots are always
                such a name. Write "./a.b.c" for a folder.
            query_name: The identity of the query. Default: the last part of the target.
            output_mode: "append" (rows; windows when they close), "update" (the rows of changed groups replace the rows with the same
                keys; NULL keys equal each other) or "complete" (the whole result). Default: append; complete for an aggregate without
                a window.
            trigger: "available_now" (the default) reads everything up to the end at the start of the run, in epochs, and then stops. An
                interval ("10 seconds") runs until it is stopped.
            checkpoint_location: The folder of the checkpoint. Default `<target>/_bayou`. Required for a table of Unity Catalog.
            partition_by: Columns.
            storage_options: Options of a cloud store, with the names of delta-rs. For a table of Unity Catalog also the login:
                databricks_host and databricks_token, or databricks_client_id and databricks_client_secret. Or a function without arguments that returns them, for
                credentials that expire. It may add "expires_at", an aware datetime, and is asked again 5 minutes before (in the last quarter
                of shorter lives). Without it, it is asked after the store has refused the credentials. It is called on a different thread.
            table_name: The name of the table in Delta's metadata.
            comment: The comment of the table.
            schema_mode: "merge" adds new columns, and new fields within columns, to an existing table. It also makes a NOT NULL column
                nullable if it can be NULL in the stream. This is a commit of its own.
            start: Where a table begins that is not in the checkpoint yet, and where a topic begins that the query did not read in its last
                run: "now" or "earliest". Topics that a pattern finds begin at their earliest offset by themselves.
            location: For a new table of Unity Catalog: its place, a cloud URL below an external location. Default: a folder with its
                name in the storage root of the schema.
            spark: A Spark session (classic or Connect). It writes tables that bayou may not write itself, also exactly once: managed tables,
                and tables with features such as row tracking or clustering. On Databricks the notebook's own is found. bayou hands over
                the rows of each epoch as Parquet files in the checkpoint, so Spark must reach `checkpoint_location`.
            full_refresh: Empty the table and read everything again. Delta's history keeps the old rows. If others have also written rows
                to the table, accept_changes=True is required, too.
            accept_changes: Take over a table that has rows of others, or let two queries share a table. Continue although others changed
                data in the table (RESTORE, DELETE, overwrite), or although its log has lost an epoch or was cleaned up before this
                query has seen it.
            close_windows: At the end, emit windows that are still open (for backfills). Later rows of these windows are late.
            memory_limit: How much state stays in memory, for example "2 GB" or a number of bytes. The rest goes to local disk (TMPDIR).
                Joined Delta tables count, too, and more than the limit is an error. Default: half of the memory of the machine
                or of its container.
            optimize_every: Compact the small files of the table in parallel with the stream when there are this many (Delta's OPTIMIZE; VACUUM
                deletes the old files). bayou counts the files from time to time, so there can be more of them if an epoch writes
                several. In mode update, files are joined in the order of their keys, and those of different windows only after
                both are closed, so that later epochs find as few files as before. Default: never.
            clean_log: Remove entries from the table's log that its own retention (`delta.logRetentionDuration`, 30 days by default)
                allows to remove, in parallel with the stream. Default: the table property `bayou.cleanLog` decides. bayou sets this property
                for tables that it creates. The logs of other tables are not changed unless this is True.
            commit_to_group: Publish the position of the query as the offsets of this consumer group after each epoch, for tools that show
                lag. The position is never read back: the checkpoint decides. The group must not have members. If the broker refuses, there
                is a warning, and the query continues. Default: no group.
            single_writer: Write to `/Volumes` or `/dbfs`, which cannot create a file only if it is absent. You promise that no other run and
                no other program writes there at the same time: otherwise rows can be lost or written twice. Without effect elsewhere.
            timeout: End the run after this time, for example "55 minutes": the epoch at work is finished, and the status is "stopped". The
                next run continues there. For scheduled jobs that follow a topic. Default: no limit.
            block: Wait for the end. Otherwise return a running Query as soon as it has started.
            progress: Show a panel that is updated in place.

        Returns:
            The Query, ended or running.

        Raises:
            AclError: Unity Catalog does not allow it. The message has the GRANT statement that does.
            ConfigError: Options or the checkpoint do not fit, or the table is one that bayou cannot write.
            ConcurrentQueryError: A different process runs this query.
            DataLossError: Offsets that are still needed do not exist any more.
            ExpectationError: A row broke an `expect_or_fail` rule.
            SchemaError: Too many messages are malformed, or the columns of the table differ.
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
        checkpoint_location: str | PathLike[str] | None = None,
        input: Literal["arrow", "pandas", "polars", "bayou"] = "arrow",
        output_mode: _OutputMode | None = None,
        trigger: _Duration | None = None,
        start: Literal["now", "earliest"] | None = None,
        storage_options: Mapping[str, object] | Callable[[], Mapping[str, object]] | None = None,
        single_writer: bool = False,
        full_refresh: bool = False,
        close_windows: bool = False,
        memory_limit: str | int | None = None,
        commit_to_group: str | None = None,
        timeout: _Duration | None = None,
        block: bool = True,
        progress: bool = True,
    ) -> Query:
        """Call `function(rows, epoch)` with the rows of each epoch.

        At least once: after a crash the function gets the same rows for the same epoch again. A function that stores the epoch number
        can recognise this. The rows are staged in the checkpoint before the epoch is sealed, and are not computed again. For an epoch
        without rows the function is not called. An exception of the function stops the query. A new run calls the function with the
        same rows.

        Args:
            function: Called on a thread of its own with the rows and the number of the epoch.
            query_name: The identity of the query. Required.
            checkpoint_location: The folder of the checkpoint. Required.
            input: The type of the rows: "arrow" (pyarrow.Table), "pandas", "polars" or "bayou" (Table).
            output_mode: As in write_delta; "update" gives the rows of changed groups.
            trigger: As in write_delta.
            start: As in write_delta, for topics.
            storage_options: As in write_delta.
            single_writer: As in write_delta, for the checkpoint.
            full_refresh: Read everything again.
            close_windows: As in write_delta.
            memory_limit: As in write_delta.
            commit_to_group: As in write_delta.
            timeout: As in write_delta.
            block: As in write_delta.
            progress: As in write_delta.

        Raises:
            ConfigError: Options are missing.
            FunctionError: The function failed. Its exception is the `__cause__`.

        Example:
            >>> alerts.foreach_batch(lambda rows, epoch: post(rows.to_pylist()), query_name="alerts", checkpoint_location="lake/_alerts")
        """

    def write_kafka(
        self,
        topic: str,
        *,
        query_name: str | None = None,
        checkpoint_location: str | PathLike[str] | None = None,
        to: Connection | None = None,
        key: str | Sequence[str] | None = None,
        headers_column: str | None = None,
        partition_column: str | None = None,
        timestamp: str | None = None,
        format: Literal["json"] = "json",
        create: Mapping[str, object] | None = None,
        output_mode: _OutputMode | None = None,
        trigger: _Duration | None = None,
        start: Literal["now", "earliest"] | None = None,
        storage_options: Mapping[str, object] | Callable[[], Mapping[str, object]] | None = None,
        single_writer: bool = False,
        full_refresh: bool = False,
        accept_changes: bool = False,
        close_windows: bool = False,
        memory_limit: str | int | None = None,
        commit_to_group: str | None = None,
        timeout: _Duration | None = None,
        block: bool = True,
        progress: bool = True,
    ) -> Query:
        """Write the rows to a Kafka topic as JSON, exactly once.

        The messages of an epoch are staged in the checkpoint before the epoch is sealed, and then sent in one transaction. The transaction
        also commits the number of the epoch as the offset of the group `bayou.<query name>.<output>` on partition 0 of the topic, so a run
        after a crash knows what was sent. Readers with `isolation.level=read_committed` see each message once. Others also see messages of
        transactions that were aborted. Each message has the headers `bayou-epoch` and `bayou-query`.

        Output modes: "append" sends each row. "update" sends the groups that changed, keyed by the keys of the groups: a newer message
        replaces the older one, and a group that is no longer in the result gets a tombstone (a NULL value). "complete" keeps the topic equal
        to the whole result: messages that changed, and tombstones. Use a compacted topic for these two modes. `create` makes such a topic.

        A row that cannot be a message (NaN in JSON, larger than the topic accepts, a partition that does not exist) goes to the quarantine
        table. The embedded broker is refused, because it has no real transactions.

        Args:
            topic: The name of the topic.
            query_name: The identity of the query. Required.
            checkpoint_location: The folder of the checkpoint. Required.
            to: The cluster. Default: the cluster that the stream reads.
            key: The column of the key, as text. Several columns: the key is a JSON object. Default: no key; in the modes update and
                complete the keys of the groups.
            headers_column: A column of headers: a map, or a list of structs (key, value). It is left out of the value.
            partition_column: A column of partitions. For NULL the key decides. It is left out of the value. Append only.
            timestamp: The column of the message's timestamp (a number is milliseconds). Default: the time of sending.
            format: "json": what `read_stream` reads back.
            create: Create the topic if it does not exist: the arguments of `create_topic`, for example {"partitions": 3}. {} is one
                partition. Default: the topic must exist.
            output_mode: "append", "update" or "complete". Default: append; complete for an aggregate without a window.
            trigger: As in write_delta.
            start: As in write_delta, for topics.
            storage_options: As in write_delta.
            single_writer: As in write_delta, for the checkpoint.
            full_refresh: Read everything again. The messages of an append topic stay, and all rows are sent again. In the modes update and
                complete, the topic's messages of this output get tombstones first.
            accept_changes: Continue although the topic is a different one or was recreated, or although it is not known whether the last
            epoch was sent.
            close_windows: As in write_delta.
            memory_limit: As in write_delta.
            commit_to_group: As in write_delta.
            timeout: As in write_delta.
            block: As in write_delta.
            progress: As in write_delta.

        Raises:
            ConfigError: Options are missing, the broker does not offer transactions, or a message is too large by now.
            TopicError: The topic does not exist.
            AclError: The credentials need Write, Describe and Read on the topic, Write and Describe on transactional ids that begin with
                "bayou.", and Read on groups that begin with "bayou.".
            ConcurrentQueryError: A different query of this name writes to the topic.
            DataLossError: The topic was deleted and recreated, or it is not known any more whether the last epoch was sent.

        Example:
            >>> alerts = clean.where("bpm > 180").select("device", "bpm", "ts")
            >>> alerts.write_kafka("alerts", key="device", query_name="alerts", checkpoint_location="lake/_alerts", create={"partitions": 3})
        """
