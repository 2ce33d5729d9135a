"""Several tables in one pass over a topic."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, overload

from bayou import _core

_OPTIONS = ("output_mode", "partition_by", "table_name", "comment", "schema_mode", "start")
_Definition = Callable[[], _core.Stream]


class Pipeline:
    """Tables that are written together, from one pass over their topics.

    Constructing it does no I/O; `sql`, `read` and `tables` also work in a kernel that defined nothing.

    Args:
        name: The pipeline's name; its checkpoint and quarantine table are named after it.
        root: The folder (path or cloud URL) under which each table has a folder of its own.
        checkpoint_location: Where the checkpoint lies. Default `<root>/_bayou`.
        storage_options: Options of a cloud store, as delta-rs names them.

    Example:
        >>> lake = bayou.Pipeline("heart_stream", "lake/heart_stream")
        >>> lake.table("bpm_cleansed", clean)
        >>> lake.run()
    """

    def __init__(
        self,
        name: str,
        root: str | os.PathLike[str],
        *,
        checkpoint_location: str | os.PathLike[str] | None = None,
        storage_options: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.root = os.fspath(root)
        self.query: _core.Query | None = None
        self._checkpoint_location = None if checkpoint_location is None else os.fspath(checkpoint_location)
        self._storage_options = dict(storage_options) if storage_options else None
        self._definitions: dict[str, tuple[_core.Stream | _Definition, dict[str, Any]]] = {}
        self._resolving: list[str] = []
        self._resolved: dict[str, _core.Stream] = {}

    @property
    def _checkpoint(self) -> str:
        return f"{(self._checkpoint_location or self.root + '/_bayou').rstrip('/')}/{self.name}"

    @overload
    def table(self, name: _Definition, /) -> _Definition: ...
    @overload
    def table(self, name: str, stream: _core.Stream, /, **options: Any) -> None: ...
    @overload
    def table(self, name: str | None = None, /, **options: Any) -> Callable[[_Definition], _Definition]: ...
    def table(self, name: Any = None, stream: Any = None, /, **options: Any) -> Any:
        """Define a table: `lake.table("name", stream)`, or as a decorator, plain or called.

        A decorated function takes no argument, returns a Stream, and is called when the pipeline runs.
        Defining a name again replaces it, as re-running a cell does.

        Args:
            name: The table's name (default: the function's).
            stream: What is written to it.
            output_mode: "append", "update" or "complete". Default: append, and complete for an aggregate without a window.
            partition_by: Columns.
            table_name: Delta's own name of the table. Default: `name`.
            comment: The table's comment.
            schema_mode: "merge" adds new columns to a table that exists.
            start: For a table that is new in a pipeline that has run before: "now" (only what comes from now on), or
                "earliest" (it is filled from the earliest offset first, while the others wait).
        """
        if name is None:
            name = options.pop("name", None)  # @lake.table(name="…"), as Delta Live Tables has it
        for option in options:
            if option not in _OPTIONS:
                raise TypeError(f"table() has no argument {option!r}.{_hint(option, options[option])}")
        if callable(name) and not isinstance(name, str):
            self._define(name.__name__, name, options)
            return name
        if stream is not None:
            if not isinstance(stream, _core.Stream) and not callable(stream):
                raise TypeError(f"table {name!r}: a Stream is wanted, not {type(stream).__name__}")
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
        """Hand each epoch's rows of `stream` to `function(rows, epoch)`, beside the tables and after them.

        At least once: after a crash the same rows come again for the same epoch, so a function that remembers the epoch can
        tell. An epoch without rows is not handed over. What the function raises stops the query; running it again calls
        the function with the same rows.

        Args:
            name: Under which it is known to the pipeline, as a table's name.
            stream: Where the rows come from.
            function: Called with the rows and the epoch's number, on a thread of its own.
            input: What the rows come as: "arrow" (pyarrow.Table), "pandas", "polars" or "bayou" (Table).
            output_mode: "append" (default), "update" (the rows of changed groups) or "complete" (the whole result).
            start: As for tables.

        Example:
            >>> lake.foreach_batch("mail", alerts, lambda rows, epoch: send(rows.to_pylist()))
        """
        if not callable(function):
            raise TypeError(f"foreach_batch {name!r}: a function is wanted, not {type(function).__name__}")
        options = {"foreach": function, "input": input, "output_mode": output_mode, "start": start}
        self._define(name, stream, options)

    def _define(self, name: str, stream: _core.Stream | _Definition, options: dict[str, Any]) -> None:
        self._definitions[name] = (stream, options)

    def read_stream(self, name: str) -> _core.Stream:
        """The rows that table `name` of this pipeline receives in the same epoch, after its rules; nothing is read from Delta.

        In a run, rows that the table refuses (NULL for a NOT NULL column, a CHECK constraint) go to quarantine and no further.
        An iterator over the stream knows no table, and yields them.

        Raises:
            ConfigError: There is no such table, it is not an append table, or it is defined by itself.
        """
        stream = self._resolve(name)
        if self._definitions[name][1].get("output_mode") in ("complete", "update") or _core._is_complete(stream):
            raise _core.ConfigError(
                f"the rows of table {name!r} change later (complete, update); only append tables are read as streams"
            )
        return _core._of_table(stream, name)

    def _resolve(self, name: str) -> _core.Stream:
        if name in self._resolving:
            cycle = " -> ".join([*self._resolving[self._resolving.index(name) :], name])
            raise _core.ConfigError(f"tables are defined by each other: {cycle}")
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
        full_refresh: bool = False,
        accept_changes: bool = False,
        close_windows: bool = False,
        memory_limit: str | int | None = None,
        optimize_every: int | None = None,
        clean_log: bool | None = None,
        block: bool = True,
        progress: bool = True,
        **unknown: Any,
    ) -> _core.Query:
        """Run the pipeline: all tables from one pass, exactly once.

        Args:
            trigger: "available_now" (default): all that is there now, then stop. Or an interval, "10 seconds".
            full_refresh: Empty the tables and read everything anew; Delta's history keeps the old rows.
            accept_changes: Go on although others changed the tables.
            close_windows: At the end emit windows that are still open (backfills); later rows of theirs are late.
            memory_limit: How much state stays in memory, as "2 GB" or bytes; what is beyond it goes to local disk (TMPDIR).
                Default: half of the machine's memory.
            optimize_every: Join a table's small files, beside the stream, whenever there are so many (Delta's OPTIMIZE; the old
                files are VACUUM's). Default: never.
            clean_log: Clean the tables' logs as their own retention says; see `Stream.write_delta`.
            block: Wait for the end and show progress; otherwise return at once with a running Query.
            progress: Show a panel.

        Returns:
            The Query.

        Raises:
            BayouError: What stopped it; `error.query` holds the Query.
        """
        for option, value in unknown.items():
            raise TypeError(f"run() has no argument {option!r}.{_hint(option, value, 'run')}")
        if not self._definitions:
            raise _core.ConfigError(f'pipeline {self.name!r} has no tables: define one with lake.table("name", stream)')
        tables = []
        for name, (_, options) in list(self._definitions.items()):
            self._resolving = []
            stream, _ = self._definitions[name]
            made = self._resolve(name) if not isinstance(stream, _core.Stream) else stream
            tables.append({"name": name, "stream": made, **options})
        try:
            self.query = _core._run_pipeline(
                self.name,
                self.root,
                tables,
                trigger=trigger,
                checkpoint_location=self._checkpoint_location,
                storage_options=self._storage_options,
                full_refresh=full_refresh,
                accept_changes=accept_changes,
                close_windows=close_windows,
                memory_limit=memory_limit,
                optimize_every=optimize_every,
                clean_log=clean_log,
                block=block,
                progress=progress,
            )
        except (_core.BayouError, KeyboardInterrupt) as error:
            self.query = getattr(error, "query", None) or self.query
            raise
        return self.query

    def sql(self, query: str) -> _core.Table:
        """Run SQL over the pipeline's tables, all at the newest finished epoch.

        Example:
            >>> lake.sql("SELECT model, count(*) AS n FROM bpm_cleansed GROUP BY model").to_pandas()
        """
        return _core._pipeline_sql(query, self.root, self._checkpoint, self._storage_options)

    def read(self, table: str) -> _core.Table:
        """A whole table, at the newest finished epoch."""
        return _core._pipeline_read(table, self.root, self._checkpoint, self._storage_options)

    def tables(self) -> list[str]:
        """Names of the tables that exist under the root, the quarantine table among them."""
        return [name for name, _, _ in _core._pipeline_tables(self.root, self._checkpoint, self._storage_options)]

    def expectations(self) -> _core.Table:
        """Counts of the rules over all runs: dataset, name, action, passed_records, failed_records."""
        return _core._pipeline_expectations(self._checkpoint, self._storage_options)

    def repair(self, *, confirm: bool = False) -> _core.Table:
        """The way out when an epoch is sealed and a table does not take its rows any more, because others changed the table meanwhile.

        Args:
            confirm: Move those rows to the quarantine table (stage `table`) and commit the others, so that the epoch is done.
                Otherwise they are only listed. A function's rows (`foreach_batch`) are handed over by the next run.

        Returns:
            The refused rows: table, error, row (as JSON). Empty where nothing has to be repaired.

        Raises:
            ConfigError: There is no checkpoint of this pipeline.
            ConcurrentQueryError: The pipeline is running.

        Example:
            >>> lake.repair().to_pandas()
            >>> lake.repair(confirm=True)
        """
        return _core._repair(self.root, None, self.name, self._checkpoint_location, self._storage_options, confirm)

    def reset(self, *, confirm: bool = False) -> None:
        """Start over at the next run: tables are emptied and everything is read anew. Delta's history keeps the old rows.

        Raises:
            ConfigError: Without confirm=True.
        """
        if not confirm:
            raise _core.ConfigError(
                f"reset() empties the tables of {self.name!r} at the next run and reads everything anew; say reset(confirm=True)"
            )
        if self.query is not None and self.query.is_active:
            self.query.stop()
        _core._reset(self._checkpoint, self._storage_options)

    def __repr__(self) -> str:
        names: Sequence[str] = list(self._definitions)
        state = f", {self.query.status}" if self.query is not None else ""
        # What was typed may hold a signature or a key.
        root = _core._clean(str(self.root))
        return f"Pipeline({self.name!r}, {root!r}: {len(names)} tables defined{''.join(f' {n}' for n in names)}{state})"


def repair(
    target: str | os.PathLike[str],
    *,
    query_name: str | None = None,
    checkpoint_location: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, object] | None = None,
    confirm: bool = False,
) -> _core.Table:
    """The way out for a table of `write_delta` that does not take the rows of a sealed epoch any more; see `Pipeline.repair`.

    Args:
        target: The table.
        query_name: As it was given to `write_delta`. Default: the target's last part.
        checkpoint_location: As it was given to `write_delta`.
        storage_options: Options of a cloud store.
        confirm: Move the rows to quarantine and commit the others.

    Returns:
        The refused rows: table, error, row (as JSON).

    Raises:
        ConfigError: There is no checkpoint of this query.
        ConcurrentQueryError: The query is running.

    Example:
        >>> bayou.repair("lake/bpm_cleansed").to_pandas()
    """
    return _core._repair(None, os.fspath(target), query_name, checkpoint_location, storage_options, confirm)


_NEIGHBOURS = {
    "mode": "output_mode",
    "outputMode": "output_mode",
    "partition_cols": "partition_by",
    "partitionBy": "partition_by",
    "mergeSchema": "schema_mode",
    "name": "the first argument",
    "processingTime": "trigger",
    "availableNow": "trigger",
}


def _hint(word: str, value: object = None, call: str = "table") -> str:
    if word in ("mode", "outputMode", "output_mode"):
        if value == "overwrite":
            return " To write everything anew: lake.run(full_refresh=True)."
        if call == "run":
            return ' How a table is written is said where it is defined: lake.table("name", stream, output_mode=…).'
    right = _NEIGHBOURS.get(word)
    if right is None:
        return ""
    if call == "run" and right != "trigger":
        return f' That is said where a table is defined: lake.table("name", stream, {right}=…).'
    return f" Here it is called {right}."
