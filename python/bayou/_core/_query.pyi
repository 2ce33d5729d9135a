"""Queries, running or ended."""

from typing import Any, final

from bayou._core._errors import BayouError
from bayou._core._table import Table
from bayou._core._types import _Duration

@final
class Query:
    """A running or ended query. In a notebook it shows as a panel: rows per second, lag, watermark, rules, commits.

    Example:
        >>> query = clean.write_delta("lake/clean", trigger="10 seconds", block=False)
        >>> query.stop()
    """

    @property
    def name(self) -> str:
        """The query's name, which is its identity.

        Example:
            >>> query.name
            'clean'
        """
    @property
    def id(self) -> str:
        """The query's id.

        Example:
            >>> query.id
            '0b6f…'
        """
    @property
    def run_id(self) -> str:
        """An id of this run.

        Example:
            >>> query.run_id
            '7c1e…'
        """
    @property
    def is_active(self) -> bool:
        """Whether it still runs.

        Example:
            >>> query.is_active
            False
        """
    @property
    def status(self) -> str:
        """What it does: "starting", "running", "waiting", "stopping", "stopped", "finished" or "failed".

        Example:
            >>> query.status
            'finished'
        """
    @property
    def last_progress(self) -> dict[str, Any] | None:
        """The newest epoch, with the keys of Spark's StreamingQueryProgress; None before the first. Durations are milliseconds.

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
        """Counts of this run's rules: dataset, name, action, passed_records, failed_records.

        Example:
            >>> query.expectations.to_pandas()
        """
    @property
    def warnings(self) -> list[str]:
        """What may be wrong: a changed starting_offsets, a driver-local path, ….

        Example:
            >>> query.warnings
            []
        """
    @property
    def notes(self) -> list[str]:
        """What is good to know: changed tables, windows that are still open and which partition holds them.

        Example:
            >>> query.notes
            []
        """
    def exception(self) -> BayouError | None:
        """What it ended with, or None.

        Example:
            >>> query.exception() is None
            True
        """
    def stop(self) -> None:
        """End it now. An epoch that is not sealed is abandoned, and comes again at the next run.

        Example:
            >>> query.stop()
        """
    def await_termination(self, timeout: _Duration | None = None) -> bool:
        """Wait for the end.

        Args:
            timeout: At most so long. Default: without end.

        Returns:
            Whether it has ended.

        Raises:
            BayouError: What it ended with.

        Example:
            >>> query.await_termination("1 minute")
            True
        """
    def open_windows(self) -> Table:
        """Which windows wait for their end, and why: the earliest hundred of each table, as of the last epoch.

        Columns: table, window_start, window_end, groups, watermark, held_by (the partition that holds the watermark), highest (its
        highest event time), held_since (the clock when that last rose), closes (what would close the window).

        Example:
            >>> query.open_windows().to_pandas()[["window_end", "held_by", "closes"]]
        """
    def raise_for_expectations(self, *names: str, max_ratio: float = 0.0) -> None:
        """Raise if too many rows of this run broke a rule; for jobs, after the commit.

        Args:
            names: Rules. Default: all.
            max_ratio: The share of rows, 0 to 1, that may break each.

        Raises:
            ExpectationError: More did.
            ConfigError: There is no such rule.

        Example:
            >>> query.raise_for_expectations("plausible", max_ratio=0.01)
        """
    def to_json(self) -> str:
        """All that is known of the query as JSON text, for logs.

        Example:
            >>> json.loads(query.to_json())["epochs"]
            2
        """
    def _repr_html_(self) -> str: ...
