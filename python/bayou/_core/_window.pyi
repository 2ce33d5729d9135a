"""Windows, aggregates and grouped streams, for `group_by`."""

from collections.abc import Callable
from typing import Any, Literal, final

from bayou._core._stream import Stream
from bayou._core._types import _Dialect, _Duration

@final
class Window:
    """A window over event time, for `group_by`. `bayou.window` and `bayou.session_window` return it.

    Example:
        >>> bayou.window("time", "1 minute")
        window("time", "1 minute")
    """

def window(
    column: str,
    size: _Duration,
    slide: _Duration | None = None,
    offset: _Duration | None = None,
    timezone: str = "UTC",
) -> Window:
    """A window over event time for `group_by`: tumbling, or sliding with `slide`. Its columns are window_start and window_end.

    Days and weeks follow the calendar of `timezone`: a day has 23 or 25 hours when the clocks change. Months, quarters and years
    follow the calendar in every zone. Shorter sizes, and days in UTC, have a fixed length and are counted from 1970-01-01 UTC, as in
    Spark.

    The rows of a window have the event time window_end minus one microsecond. So `window("window_end", "1 hour")` makes windows over
    windows.

    Args:
        column: A TIMESTAMP column.
        size: The length of a window: "1 minute", "90 seconds", a timedelta, "1 day", "1 month".
        slide: The distance between the starts of two windows. Default: `size` (tumbling).
        offset: Moves the starts. For calendar sizes in local time ("6 hours": days begin at six in the morning).
        timezone: The zone of calendar sizes, for example "Europe/Berlin".

    Raises:
        ConfigError: The size or the slide is zero, the slide is longer than the size, the zone does not exist, or the zone has no effect
            on this size.

    Example:
        >>> clean.group_by(bayou.window("time", "5 minutes", slide="1 minute")).agg("count(*) AS n")
        >>> clean.group_by(bayou.window("time", "1 day", timezone="Europe/Berlin"), "model").count()
    """

def session_window(column: str, gap: _Duration) -> Window:
    """A window for `group_by` that contains rows of one key as long as they follow each other within `gap`.

    window_start is the time of the first row. window_end is the time of the last row plus the gap. Sessions that overlap or touch
    become one, as in Spark. A session is closed when the watermark has passed its end.

    Args:
        column: A TIMESTAMP column.
        gap: The longest silence within a session.

    Raises:
        ConfigError: The gap is zero.

    Example:
        >>> clean.group_by(bayou.session_window("time", "5 minutes"), "ip").agg("count(*) AS events")
    """

@final
class Aggregate:
    """A Python function over the rows of a group. `bayou.aggregate` returns it.

    Example:
        >>> bayou.aggregate(p95, returns="DOUBLE", columns="bpm")
    """

def aggregate(
    function: Callable[[Any], Any],
    returns: str,
    columns: str | list[str] | None = None,
    *,
    input: Literal["arrow", "pandas", "polars", "bayou"] = "arrow",
) -> Aggregate:
    """A Python function as an aggregate, for `agg`. The function is called once for each group, when the window of the group closes.

    The function gets the rows of the group ordered by event time, then by their values. So its input does not depend on the order in
    which the rows arrived. All rows of open windows are kept. Such an aggregate needs output_mode="append".

    Args:
        function: Takes the rows and returns one value or None (pandas.NA and NaT count as None). The value fits `returns` exactly, or
            it is an error.
        returns: The type of the value, for example "DOUBLE".
        columns: The columns that the function gets. Default: all columns.
        input: The type of the argument: "arrow" (pyarrow.RecordBatch), "pandas", "polars" or "bayou" (Batch).

    Raises:
        ConfigError: The argument is not a function, or `input` is unknown.
        SchemaError: The type does not exist.

    Example:
        >>> spread = bayou.aggregate(lambda df: df.bpm.quantile(0.95), returns="DOUBLE", columns="bpm", input="pandas")
        >>> clean.with_watermark("time", "10 seconds").group_by(bayou.window("time", "1 minute")).agg(p95=spread)
    """

@final
class GroupedStream:
    """A stream with grouping keys. Call `agg` or `count` next.

    Example:
        >>> clean.group_by("model").agg("count(*) AS n")
    """

    def agg(
        self, *aggregates: str | list[str] | Aggregate, dialect: _Dialect | None = None, **named: str | Aggregate
    ) -> Stream:
        """Aggregate the groups. The columns are window_start, window_end, the keys, and the aggregates, in this order.

        Args:
            aggregates: SQL aggregates with a name ("count(bpm) AS events").
            dialect: "databricks" (the default) or "datafusion".
            named: Aggregates with their names: `highest="max(bpm)"`.

        Raises:
            SchemaError: An aggregate does not have a name, or a column or function does not exist.

        Example:
            >>> clean.group_by("model").agg("avg(bpm) AS average", highest="max(bpm)")
        """
    def count(self) -> Stream:
        """The number of rows of each group, in the column `count`.

        Example:
            >>> clean.group_by("model").count()
        """
