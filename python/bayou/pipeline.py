"""Several tables and topics from one pass over a topic."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, overload

from bayou import _alerts, _core

_OPTIONS = ("output_mode", "partition_by", "table_name", "comment", "schema_mode", "start", "location")
_Definition = Callable[[], _core.Stream]


def _unwrapped(stream: Any) -> Any:
    """The Stream in a stream of bayou.dlt."""
    return getattr(stream, "_stream", stream) if type(stream).__module__ == "bayou.dlt" else stream


class Pipeline:
    """Tables that are written together, from one pass over their topics.

    The constructor does no I/O. `sql`, `read` and `tables` also work in a kernel that did not define any tables.

    Args:
        name: The name of the pipeline. Its checkpoint and its quarantine table get this name.
        root: The folder (path or cloud URL) that contains one folder for each table. With `schema`: the folder in which new tables get
            theirs. Default: the storage root of the schema.
        schema: "catalog.schema" of Unity Catalog. The tables of the pipeline are tables of this schema, and so is the quarantine table: external
            tables, or managed ones, which Spark writes. See docs/catalogs.md.
        spark: With `schema`: the Spark session that writes managed tables; see write_delta. On Databricks it is found by itself.
        checkpoint_location: The folder of the checkpoint. Default `<root>/_bayou`. Required with `schema`.
        storage_options: Options of a cloud store, with the names of delta-rs, or a function that returns them (see write_delta). With
            `schema`: also the login, as databricks_host and databricks_token, or databricks_client_id and databricks_client_secret.

    Example:
        >>> lake = bayou.Pipeline("heart_stream", "lake/heart_stream")
        >>> lake.table("bpm_cleansed", clean)
        >>> lake.run()
        >>> lake = bayou.Pipeline("heart_stream", schema="main.heart", checkpoint_location="s3://lake/checkpoints")
    """

    def __init__(
        self,
        name: str,
        root: str | os.PathLike[str] | None = None,
        *,
        schema: str | None = None,
        spark: Any = None,
        checkpoint_location: str | os.PathLike[str] | None = None,
        storage_options: Mapping[str, object] | Callable[[], Mapping[str, object]] | None = None,
    ) -> None:
        self.name = name
        self._spark = spark
        if root is None and schema is None:
            raise _core.ConfigError(
                f'pipeline {name!r} needs a root, for example Pipeline({name!r}, "lake/{name}"), or schema="catalog.schema".'
            )
        if schema is None and spark is not None:
            raise _core.ConfigError(
                f'pipeline {name!r}: spark= writes tables of Unity Catalog. Give schema="catalog.schema", or leave spark= out.'
            )
        if schema is not None and checkpoint_location is None:
            raise _core.ConfigError(
                f"pipeline {name!r}: with schema=, checkpoint_location= is required: a folder outside the tables, for example "
                'checkpoint_location="s3://bucket/checkpoints".'
            )
        self.root = None if root is None else os.fspath(root)
        self.schema = schema
        self.query: _core.Query | None = None
        # The run in the background whose failure was not reported yet.
        self._unwatched: _core.Query | None = None
        self._checkpoint_location = None if checkpoint_location is None else os.fspath(checkpoint_location)
        self._storage_options = dict(storage_options) if isinstance(storage_options, Mapping) else storage_options
        self._definitions: dict[str, tuple[_core.Stream | _Definition, dict[str, Any]]] = {}
        self._resolving: list[str] = []
        self._resolved: dict[str, _core.Stream] = {}
        # Tables that must not be emptied (bayou.dlt, "pipelines.reset.allowed").
        self._protected: set[str] = set()
        self._alerts: dict[str, _alerts.Alert] = {}
        self._watch: _alerts.Watch | None = None
        # The views of bayou.dlt, by name.
        self._views: dict[str, Callable[[], Any]] = {}

    def __getattr__(self, name: str) -> object:
        # IPython, pickle and others ask for private names.
        known = [] if name.startswith("_") else [n for n in dir(type(self)) if not n.startswith("_")]
        raise _core._no_attribute("Pipeline", name, [*known, "name", "root", "query"])

    @property
    def _checkpoint(self) -> str:
        at = self._checkpoint_location or f"{self.root}/_bayou"
        return f"{at.rstrip('/')}/{self.name}"

    @overload
    def table(self, name: _Definition, /) -> _Definition: ...
    @overload
    def table(self, name: str, stream: _core.Stream, /, **options: Any) -> None: ...
    @overload
    def table(self, name: str | None = None, /, **options: Any) -> Callable[[_Definition], _Definition]: ...
    def table(self, name: Any = None, stream: Any = None, /, **options: Any) -> Any:
        """Define a table: `lake.table("name", stream)`. Also a decorator, with or without parentheses.

        A decorated function takes no argument and returns a Stream. It is called when the pipeline runs. A second definition of the
        same name replaces the first one, so you can run a cell again.

        Args:
            name: The name of the table. Default: the name of the function.
            stream: The rows of the table.
            output_mode: "append", "update" or "complete". Default: append; complete for an aggregate without a window.
            partition_by: Columns.
            table_name: The name of the table in Delta's metadata. Default: `name`.
            comment: The comment of the table.
            schema_mode: "merge" adds new columns to an existing table.
            start: For a new table in a pipeline that has run before: "now" (only new messages), or "earliest" (the table is filled
                from the earliest offset first, while the others wait).
            location: With `schema`: the place of a new table, a cloud URL. Default: a folder of that name in the root.

        Example:
            >>> lake.table("bpm_cleansed", clean, partition_by="model")
            >>> @lake.table
            ... def bpm_per_model():
            ...     return lake.read_stream("bpm_cleansed").group_by("model").count()
        """
        if name is None:
            name = options.pop("name", None)  # @lake.table(name="…"), as in Delta Live Tables
        for option in options:
            if option not in _OPTIONS:
                raise TypeError(f"table() has no argument {option!r}.{_hint(option, options[option])}")
        if callable(name) and not isinstance(name, str):
            self._define(name.__name__, name, options)
            return name
        stream = _unwrapped(stream)
        if stream is not None:
            if not isinstance(stream, _core.Stream) and not callable(stream):
                raise TypeError(f"table {name!r}: {type(stream).__name__} is not a Stream")
            self._define(name, stream, options)
            return None

        def decorate(function: _Definition) -> _Definition:
            self._define(name or function.__name__, function, options)
            return function

        return decorate

    def foreach_batch(
        self,
        name: str,
        stream: _core.Stream,
        function: Callable[[Any, int], Any],
        *,
        input: str = "arrow",
        output_mode: str | None = None,
        start: str | None = None,
    ) -> None:
        """Call `function(rows, epoch)` with the rows of `stream` in each epoch, after the tables of the epoch are written.

        At least once: after a crash the function gets the same rows for the same epoch again. A function that stores the epoch number
        can recognise this. For an epoch without rows the function is not called. An exception of the function stops the query. A new
        run calls the function with the same rows.

        Args:
            name: The name in the pipeline, like the name of a table.
            stream: The rows.
            function: Called with the rows and the number of the epoch, on a thread of its own.
            input: The type of the rows: "arrow" (pyarrow.Table), "pandas", "polars" or "bayou" (Table).
            output_mode: "append" (default), "update" (the rows of changed groups) or "complete" (the whole result).
            start: As in `table`.

        Example:
            >>> lake.foreach_batch("mail", alerts, lambda rows, epoch: send(rows.to_pylist()))
        """
        stream = _unwrapped(stream)
        if not isinstance(stream, _core.Stream):
            raise TypeError(f"foreach_batch {name!r}: {type(stream).__name__} is not a Stream")
        if not callable(function):
            raise TypeError(f"foreach_batch {name!r}: {type(function).__name__} is not a function")
        options = {"foreach": function, "input": input, "output_mode": output_mode, "start": start}
        self._define(name, stream, options)

    def topic(
        self,
        name: str,
        stream: _core.Stream,
        /,
        *,
        topic: str | None = None,
        to: _core.Connection | None = None,
        key: str | Sequence[str] | None = None,
        headers_column: str | None = None,
        partition_column: str | None = None,
        timestamp: str | None = None,
        format: str = "json",
        create: Mapping[str, object] | None = None,
        output_mode: str | None = None,
        start: str | None = None,
    ) -> None:
        """Write the rows of `stream` to a Kafka topic as JSON, exactly once, in the same pass as the tables.

        Each epoch is one transaction. Readers with `isolation.level=read_committed` (bayou always reads so) see all messages of an
        epoch, or none. Each message has the headers `bayou-epoch` and `bayou-query`. See `Stream.write_kafka` for output modes, permissions
        and errors.

        Args:
            name: The name in the pipeline, like the name of a table.
            stream: The rows.
            topic: The name of the topic. Default: `name`.
            to: The cluster. Default: the cluster that the stream reads.
            key: The column of the key, as text. Several columns: the key is a JSON object. Default: no key; in the modes update and
                complete the keys of the groups.
            headers_column: A column of headers: a map, or a list of structs (key, value). It is left out of the value.
            partition_column: A column of partitions. For NULL the key decides. It is left out of the value.
            timestamp: The column of the message's timestamp (a number is milliseconds). Default: the time of sending.
            format: "json".
            create: Create the topic if it does not exist: the arguments of `create_topic`, for example {"partitions": 3}. {} is one
                partition. Default: the topic must exist.
            output_mode: "append", "update" or "complete", as in `Stream.write_kafka`.
            start: As in `table`.

        Example:
            >>> alerts = clean.where("bpm > 180").select("device", "bpm", "ts")
            >>> lake.topic("alerts", alerts, key="device", create={"partitions": 3})
            >>> lake.run()
        """
        stream = _unwrapped(stream)
        given = {
            "topic": name if topic is None else topic,
            "to": to,
            "key": key,
            "headers_column": headers_column,
            "partition_column": partition_column,
            "timestamp": timestamp,
            "format": format,
            "create": create,
        }
        if not isinstance(stream, _core.Stream):
            raise TypeError(f"topic {name!r}: {type(stream).__name__} is not a Stream")
        self._define(name, stream, {"topic": given, "output_mode": output_mode, "start": start})

    def _tell(self) -> None:
        """Warns once if the run in the background has failed."""
        query = self._unwatched
        if query is None or query.is_active:
            return
        self._unwatched = None
        if query.status == "failed":
            warnings.warn(
                f"the run of the pipeline {self.name!r} in the background has failed: {query.exception()} "
                "run() goes on where it stopped.",
                RuntimeWarning,
                stacklevel=3,
            )

    def _check_protected(self, what: str) -> None:
        if self._protected:
            raise _core.ConfigError(
                f"{what} of {self.name!r}, and {', '.join(sorted(self._protected))} has the property "
                "pipelines.reset.allowed=false. Remove the property if the table may lose its rows."
            )

    def _define(self, name: str, stream: _core.Stream | _Definition, options: dict[str, Any]) -> None:
        self._tell()
        _core._check_table_name(name)
        self._definitions[name] = (stream, options)

    def read_stream(self, name: str) -> _core.Stream:
        """The rows that table `name` of this pipeline receives in the same epoch, after its rules. Nothing is read from Delta.

        In a run, rows that the table refuses (NULL for a NOT NULL column, a CHECK constraint) go to quarantine and no further.
        An iterator over the stream knows no table, and yields them.

        Raises:
            ConfigError: The table does not exist, is not an append table, or is defined by itself.

        Example:
            >>> lake.read_stream("bpm_cleansed").group_by("model").agg("avg(bpm) AS average")
        """
        self._tell()
        stream = self._resolve(name)
        if self._definitions[name][1].get("output_mode") in ("complete", "update") or _core._is_complete(stream):
            raise _core.ConfigError(
                f"table {name!r} cannot be read as a stream, because its rows change later (mode update or complete). "
                "Read an append table."
            )
        return _core._of_table(stream, name)

    def _resolve(self, name: str) -> _core.Stream:
        if name in self._resolving:
            cycle = " -> ".join([*self._resolving[self._resolving.index(name) :], name])
            raise _core.ConfigError(f"the definitions of tables form a cycle: {cycle}")
        if name not in self._definitions:
            known = ", ".join(self._definitions) or "none"
            raise _core.ConfigError(f"pipeline {self.name!r} has no table {name!r}. Tables: {known}.")
        stream, _ = self._definitions[name]
        if not isinstance(stream, _core.Stream):
            self._resolving.append(name)
            try:
                made = stream()
            finally:
                self._resolving.pop()
            if not isinstance(made, _core.Stream):
                raise TypeError(f"the function of table {name!r} returned {type(made).__name__}, not a Stream")
            stream = made
        return stream if stream.name is not None else stream.named(name)

    def run(
        self,
        *,
        trigger: str | timedelta | float | None = None,
        start: Literal["now", "earliest"] | None = None,
        full_refresh: bool = False,
        accept_changes: bool = False,
        close_windows: bool = False,
        memory_limit: str | int | None = None,
        optimize_every: int | None = None,
        clean_log: bool | None = None,
        commit_to_group: str | None = None,
        single_writer: bool = False,
        timeout: str | timedelta | float | None = None,
        block: bool = True,
        progress: bool = True,
        **unknown: Any,
    ) -> _core.Query:
        """Run the pipeline: write all tables from one pass, exactly once.

        Args:
            trigger: "available_now" (the default) reads everything up to the current end and then stops. An interval ("10 seconds")
                runs until it is stopped.
            start: Where topics start that the pipeline did not read in its last run; see `Stream.write_delta`.
            full_refresh: Empty the tables and read everything again. Delta's history keeps the old rows.
            accept_changes: Continue although others changed the tables; see `Stream.write_delta`.
            close_windows: At the end, emit windows that are still open (for backfills). Later rows of these windows are late.
            memory_limit: How much state stays in memory, for example "2 GB" or a number of bytes. The rest goes to local disk (TMPDIR).
                Joined Delta tables count, too, and more than the limit is an error. Default: half of the memory of the machine
                or of its container.
            optimize_every: Compact the small files of a table in parallel with the stream when there are this many (Delta's OPTIMIZE; VACUUM
                deletes the old files). Default: never.
            clean_log: Clean the logs of the tables as their own retention says; see `Stream.write_delta`.
            commit_to_group: Publish the position to a consumer group, for lag tools; see `Stream.write_delta`.
            single_writer: Write to `/Volumes` or `/dbfs`; see `Stream.write_delta`.
            timeout: End the run after this time, for example "55 minutes", when the epoch at work is finished; see `Stream.write_delta`.
            block: Wait for the end and show progress. Otherwise return a running Query at once.
            progress: Show a panel.

        Returns:
            The Query.

        Raises:
            BayouError: The error that stopped the query. `error.query` is the Query.

        Example:
            >>> query = lake.run()
            >>> query.status
            'finished'
        """
        self._tell()
        if full_refresh:
            self._check_protected("full_refresh=True empties all tables")
        for option, value in unknown.items():
            raise TypeError(f"run() has no argument {option!r}.{_hint(option, value, 'run')}")
        if not self._definitions:
            raise _core.ConfigError(
                f'pipeline {self.name!r} has no tables. Define one with lake.table("name", stream).'
            )
        tables = []
        for name, (_, options) in list(self._definitions.items()):
            self._resolving = []
            stream, _ = self._definitions[name]
            made = self._resolve(name) if not isinstance(stream, _core.Stream) else stream
            tables.append({"name": name, "stream": made, **options})
        watch = self._watch_alerts()
        try:
            self.query = _core._run_pipeline(
                self.name,
                self.root,
                self.schema,
                tables,
                trigger=trigger,
                start=start,
                checkpoint_location=self._checkpoint_location,
                storage_options=self._storage_options,
                full_refresh=full_refresh,
                accept_changes=accept_changes,
                close_windows=close_windows,
                memory_limit=memory_limit,
                optimize_every=optimize_every,
                clean_log=clean_log,
                commit_to_group=commit_to_group,
                spark=self._spark,
                single_writer=single_writer,
                timeout=timeout,
                block=block,
                progress=progress,
            )
        except BaseException as error:
            self.query = getattr(error, "query", None) or self.query
            if watch is not None:
                # The stop button does not wait for an alert.
                watch.close(look=isinstance(error, Exception))
            raise
        if watch is not None and block:
            watch.close()
        elif watch is not None:
            watch.follow(self.query)
        self._unwatched = None if block else self.query
        return self.query

    def alert(
        self,
        name: str,
        query: str,
        *,
        then: Callable[[_core.Table], Any],
        every: str | timedelta | float | None = None,
    ) -> None:
        """Call a function when a query over the tables begins to return rows.

        The query sees the tables of the pipeline at their newest finished epoch. It runs after each epoch of a run, or at an interval while a run
        is active (`every`): if no messages come, no epoch ends. `then(rows)` is called when the query begins to return rows, and again after the
        rows were gone. The checkpoint records the call when `then` has returned, so a restart does not call it again. After a crash in between,
        it is called twice. An exception of `then`, or of the query, is a warning of the logger "bayou.alerts", and the call is tried again.

        Args:
            name: The name of the alert, unique in the pipeline. A second definition of the same name replaces the first one.
            query: A SELECT. Rows mean that something is wrong.
            then: Takes the rows, a Table. It is called on a thread of bayou.
            every: Run the query at this interval instead of after each epoch, at least one second.

        Raises:
            ConfigError: An argument is wrong.

        Example:
            >>> lake.alert(
            ...     "pulse rises",
            ...     "SELECT model, avg(bpm) AS bpm FROM bpm_cleansed GROUP BY model HAVING avg(bpm) > 120",
            ...     then=lambda rows: print(rows),
            ... )
        """
        self._tell()
        seconds = None if every is None else _core._duration(every, "every")
        self._alerts[name] = _alerts.checked(name, query, seconds, then)

    def _watch_alerts(self) -> _alerts.Watch | None:
        if self._watch is not None:
            # The previous run may still call the function of an alert. Two threads must not call it.
            self._watch.close(look=False, wait=True)
            self._watch = None
        if not self._alerts:
            return None
        notes = _alerts.Notes(self.schema, self._checkpoint, self._storage_options)

        def ask(query: str) -> _core.Table:
            return _core._pipeline_sql(
                query, self.root, self.schema, self._checkpoint, self._storage_options, self._spark
            )

        self._watch = _alerts.Watch(list(self._alerts.values()), ask, notes, self.name)
        return self._watch

    def sql(self, query: str) -> _core.Table:
        """Run SQL over the tables of the pipeline, all as of the newest finished epoch.

        Example:
            >>> lake.sql("SELECT model, count(*) AS n FROM bpm_cleansed GROUP BY model").to_pandas()
        """
        self._tell()
        return _core._pipeline_sql(query, self.root, self.schema, self._checkpoint, self._storage_options, self._spark)

    def read(self, table: str) -> _core.Table:
        """Read a whole table, as of the newest finished epoch.

        Example:
            >>> lake.read("bpm_cleansed").to_pandas()
        """
        self._tell()
        return _core._pipeline_read(table, self.root, self.schema, self._checkpoint, self._storage_options, self._spark)

    def tables(self) -> list[str]:
        """The names of the tables that exist below the root or in the schema, including the quarantine table.

        Example:
            >>> lake.tables()
            ['bpm_cleansed']
        """
        self._tell()
        return _core._pipeline_tables(self.root, self.schema, self._checkpoint, self._storage_options, self._spark)

    def expectations(self) -> _core.Table:
        """The counts of the rules over all runs. Columns: dataset, name, action, passed_records, failed_records.

        Example:
            >>> lake.expectations().to_pandas()
        """
        self._tell()
        return _core._pipeline_expectations(self.schema, self._checkpoint, self._storage_options)

    def repair(self, *, confirm: bool = False) -> _core.Table:
        """Finish an epoch that is sealed but not committed, because others changed a table meanwhile and the table now refuses rows.

        Args:
            confirm: Move the refused rows to the quarantine table (stage `table`) and commit the others, so that the epoch is done.
                Without it, the refused rows are only listed. The rows of a function (`foreach_batch`) are given to it by the next run.

        Returns:
            The refused rows: table, error, row (as JSON). Empty if nothing has to be repaired.

        Raises:
            ConfigError: This pipeline does not have a checkpoint.
            ConcurrentQueryError: The pipeline is running.

        Example:
            >>> lake.repair().to_pandas()
            >>> lake.repair(confirm=True)
        """
        self._tell()
        return _core._repair(
            self.root, self.schema, None, self.name, self._checkpoint_location, self._storage_options, confirm
        )

    def reset(self, *, confirm: bool = False) -> None:
        """Make the next run start over: it empties the tables and reads everything again. Delta's history keeps the old rows.

        Raises:
            ConfigError: confirm=True is missing.

        Example:
            >>> lake.reset(confirm=True)
        """
        self._tell()
        if not confirm:
            raise _core.ConfigError(
                f"reset() makes the next run empty the tables of {self.name!r} and read everything again. "
                "To do that, call reset(confirm=True)."
            )
        self._check_protected("reset() empties all tables")
        if self.query is not None and self.query.is_active:
            self.query.stop()
        _core._reset(self.schema, self._checkpoint, self._storage_options)

    def __repr__(self) -> str:
        names: Sequence[str] = list(self._definitions)
        state = f", {self.query.status}" if self.query is not None else ""
        # The path as the user wrote it can contain a signature or a key.
        place = repr(_core._clean(str(self.root))) if self.schema is None else f"schema={self.schema!r}"
        return f"Pipeline({self.name!r}, {place}: {len(names)} tables defined{''.join(f' {n}' for n in names)}{state})"


def repair(
    target: str | os.PathLike[str],
    *,
    query_name: str | None = None,
    checkpoint_location: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, object] | Callable[[], Mapping[str, object]] | None = None,
    confirm: bool = False,
) -> _core.Table:
    """Finish a sealed epoch of `write_delta` if the table now refuses some of its rows; see `Pipeline.repair`.

    Args:
        target: The table.
        query_name: The same as for `write_delta`. Default: the last part of the target.
        checkpoint_location: The same as for `write_delta`.
        storage_options: Options of a cloud store.
        confirm: Move the refused rows to quarantine and commit the others.

    Returns:
        The refused rows: table, error, row (as JSON).

    Raises:
        ConfigError: This query does not have a checkpoint.
        ConcurrentQueryError: The query is running.

    Example:
        >>> bayou.repair("lake/bpm_cleansed").to_pandas()
    """
    return _core._repair(None, None, target, query_name, checkpoint_location, storage_options, confirm)


# Arguments of the run, of the constructor of the pipeline and of the stream. All other arguments belong to the definition of a table.
_OF_RUN = {"trigger"}
_OF_PIPELINE = {"checkpoint_location"}
_OF_STREAM = {"starting_offsets", "ending_offsets", "max_offsets_per_trigger", "fail_on_data_loss", "include_metadata"}


def _hint(word: str, value: object = None, call: str = "table") -> str:
    """bayou's word for a word of Spark or deltalake, and the call that takes it."""
    if word in ("mode", "outputMode", "output_mode") and value == "overwrite":
        return " To write everything again, use lake.run(full_refresh=True)."
    elsewhere = {*_OPTIONS} | _OF_PIPELINE | _OF_STREAM | _OF_RUN
    right = word if word in elsewhere else _core._neighbour(word)
    if right is None or word == "path":
        return ""
    if right in _OF_STREAM:
        return f' Give it to the stream: read_stream("topic", {right}=…).'
    if right in _OF_PIPELINE:
        return f' Give it to the pipeline: Pipeline("name", root, {right}=…).'
    if call == "run" and right in _OPTIONS:
        return f' Give it to the definition of a table: lake.table("name", stream, {right}=…).'
    if call == "table" and right in _OF_RUN:
        return f" Give it to the run: lake.run({right}=…)."
    return f" Here it is called {right}."
