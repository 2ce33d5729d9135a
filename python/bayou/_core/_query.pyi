"""Queries, running or ended."""

from typing import Any, final

from bayou._core._errors import BayouError
from bayou._core._table import Table
from bayou._core._types import _Duration

@final
class Query:
    """A running or ended query. In a notebook it is shown as a panel: rows per second, lag, watermark, rules, commits.

    Example:
        >>> query = clean.write_delta("lake/clean", trigger="10 seconds", block=False)
        >>> query.stop()
    """

    @property
    def name(self) -> str:
        """The name of the query. The name is its identity.

        Example:
            >>> query.name
            'clean'
        """
    @property
    def id(self) -> str:
        """The id of the query. It stays the same in all runs.

        Example:
            >>> query.id
            '0b6f…'
        """
    @property
    def run_id(self) -> str:
        """The id of this run.

        Example:
            >>> query.run_id
            '7c1e…'
        """
    @property
    def is_active(self) -> bool:
        """Whether the query is still running.

        Example:
            >>> query.is_active
            False
        """
    @property
    def status(self) -> str:
        """One of "starting", "running", "stopping", "stopped", "finished" or "failed".

        Example:
            >>> query.status
            'finished'
        """
    @property
    def last_progress(self) -> dict[str, Any] | None:
        """The newest epoch, with the keys of Spark's StreamingQueryProgress. None before the first epoch. Durations are milliseconds.

        An epoch is shown when it is sealed. What its commit wrote and rewrote (files, rows, bytes) is added to `sinks[…]["metrics"]`
        as soon as it is committed.

        Example:
            >>> query.last_progress["numInputRows"]
            200000
        """
    @property
    def recent_progress(self) -> list[dict[str, Any]]:
        """The last 100 epochs of this run, oldest first.

        Example:
            >>> [p["batchId"] for p in query.recent_progress]
            [0, 1]
        """
    @property
    def expectations(self) -> Table:
        """The counts of the rules in this run. Columns: dataset, name, action, passed_records, failed_records.

        Example:
            >>> query.expectations.to_pandas()
        """
    @property
    def warnings(self) -> list[str]:
        """Possible problems, for example a changed starting_offsets or a path that is local to the driver.

        Example:
            >>> query.warnings
            []
        """
    @property
    def notes(self) -> list[str]:
        """Hints: changed tables, windows that are still open, and the partition that holds them.

        Example:
            >>> query.notes
            []
        """
    def exception(self) -> BayouError | None:
        """The error with which the query ended, or None.

        Example:
            >>> query.exception() is None
            True
        """
    def stop(self) -> None:
        """Stop the query now. An epoch that is not sealed is abandoned; the next run reads it again.

        Example:
            >>> query.stop()
        """
    def await_termination(self, timeout: _Duration | None = None) -> bool:
        """Wait for the end of the query.

        Args:
            timeout: Wait at most this long. Default: no limit.

        Returns:
            Whether the query has ended.

        Raises:
            BayouError: The error with which the query ended.

        Example:
            >>> query.await_termination("1 minute")
            True
        """
    def open_windows(self) -> Table:
        """The open windows, and what they wait for: the earliest hundred of each table, after the last epoch.

        Columns: table, window_start, window_end, groups, watermark, held_by (the partition that holds the watermark), highest (the
        highest event time of that partition), held_since (the clock when `highest` last rose), closes (what would close the window).

        Example:
            >>> query.open_windows().to_pandas()[["window_end", "held_by", "closes"]]
        """
    def raise_for_expectations(self, *names: str, max_ratio: float = 0.0) -> None:
        """Raise an error if too many rows of this run broke a rule. For jobs that check the result after the commit.

        Args:
            names: The names of rules. Default: all.
            max_ratio: The share of rows, from 0 to 1, that may break each rule.

        Raises:
            ExpectationError: More rows broke a rule.
            ConfigError: The rule does not exist.

        Example:
            >>> query.raise_for_expectations("plausible", max_ratio=0.01)
        """
    def show(self) -> None:
        """Show the panel of the query, which is updated in place as long as the query runs. Outside notebooks: print one line.

        Example:
            >>> query.show()
        """
    def metrics(self) -> str:
        """The counts of the query in Prometheus' text format, for a file of the node exporter's textfile collector, or to push.

        Names begin with `bayou_query_`; labels are query, run_id, table, topic, partition, dataset, rule, operator and index.

        Example:
            >>> "bayou_query_input_rows_total" in query.metrics()
            True
        """
    def result(self) -> str:
        """The result of the run, as a short JSON text: for `dbutils.notebook.exit`, and for the log of a job.

        Keys: query, status (as the property: "finished", "stopped" or "failed" after the run), epochs, numInputRows, numMalformed,
        numQuarantined, numRowsDroppedByWatermark, lag, seconds, tables (for each: location, mode, rowsWritten, version), brokenRules,
        warnings, notes, and error where the run failed. `to_json` also has the last progress.

        Example:
            >>> json.loads(query.result())["tables"]["bpm_cleansed"]["rowsWritten"]
            1999
        """
    def to_json(self) -> str:
        """Everything that is known about the query, as JSON text. For logs.

        Example:
            >>> json.loads(query.to_json())["epochs"]
            2
        """
    def _repr_html_(self) -> str: ...
    def _ipython_display_(self) -> None: ...
