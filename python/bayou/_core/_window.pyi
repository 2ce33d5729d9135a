"""Windows and aggregates for `group_by`."""

from collections.abc import Callable
from typing import Any, Literal, final

from bayou._core._types import _Duration

@final
class Window:
    """A window over event time, made by `bayou.window`, for `group_by`.

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
    """A window over event time for `group_by`: tumbling, or sliding with `slide`. Columns are window_start and window_end.

    Sizes of days and weeks follow the calendar of `timezone` (a day of 23 or 25 hours where the clocks change), months,
    quarters and years that of any zone. Shorter sizes, and days in UTC, are fixed and start from 1970-01-01 UTC, as in Spark.

    The rows of a window carry the event time window_end less one microsecond: `window("window_end", "1 hour")` makes windows
    of windows.

    Args:
        column: A TIMESTAMP column.
        size: How long a window is: "1 minute", "90 seconds", a timedelta, "1 day", "1 month".
        slide: A new window starts so often. Default: `size` (tumbling).
        offset: Shifts the starts; for calendar sizes in local time ("6 hours": days from six in the morning).
        timezone: The zone of calendar sizes, as "Europe/Berlin".

    Raises:
        ConfigError: A size or slide of nothing, a slide longer than the size, or a zone that does not exist or does not matter.

    Example:
        >>> clean.group_by(bayou.window("time", "5 minutes", slide="1 minute")).agg("count(*) AS n")
        >>> clean.group_by(bayou.window("time", "1 day", timezone="Europe/Berlin"), "model").count()
    """

def session_window(column: str, gap: _Duration) -> Window:
    """A window for `group_by` that lasts as long as rows of one key follow each other within `gap`.

    window_start is the first row's time, window_end the last one's and the gap. Sessions that meet or touch are one, as in Spark;
    one is closed when the watermark has passed its end.

    Args:
        column: A TIMESTAMP column.
        gap: The longest silence within a session.

    Raises:
        ConfigError: A gap of nothing.

    Example:
        >>> clean.group_by(bayou.session_window("time", "5 minutes"), "ip").agg("count(*) AS events")
    """

@final
class Aggregate:
    """A Python function over the rows of a group, made by `aggregate`.

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
    """A Python function as an aggregate, for `agg`: it is called once for each group, when its window is closed.

    It is given the group's rows in the order of event time, then of their values, so that what it sees does not depend on when they
    came. All rows of open windows are kept; only output_mode="append" can have it.

    Args:
        function: Takes the rows, returns one value or None (pandas.NA and NaT are None). It fits `returns` exactly or is an error.
        returns: The type of that value, as in "DOUBLE".
        columns: What it is given. Default: all columns.
        input: As what: "arrow" (pyarrow.RecordBatch), "pandas", "polars" or "bayou" (Batch).

    Raises:
        ConfigError: Not a function, or another `input`.
        SchemaError: A type that does not exist.

    Example:
        >>> spread = bayou.aggregate(lambda df: df.bpm.quantile(0.95), returns="DOUBLE", columns="bpm", input="pandas")
        >>> clean.with_watermark("time", "10 seconds").group_by(bayou.window("time", "1 minute")).agg(p95=spread)
    """
