"""`connect` and `simulate`: what their arguments mean is Python's to sort out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from bayou import _core

_EMBEDDED = object()


def connect(
    target: Any = _EMBEDDED,
    *,
    name: str = "default",
    schema_registry: Mapping[str, str] | None = None,
) -> _core.Connection:
    """Connect to a Kafka cluster.

    Args:
        target: An address ("host:9092"), or a dict of librdkafka's properties. Left out: the embedded broker, one per
            user of this machine and `name`, shared by all kernels, in memory, gone a few seconds after its last user.
            None, "" and {} are refused: an unset variable must never read an empty broker.
        name: Which embedded broker.
        schema_registry: Not in this version; given, it is refused.

    Raises:
        ConnectionError: The cluster does not answer within 10 seconds; the message names its address.
        AuthError: It refuses the credentials.
        ConfigError: A property is unknown, or one that bayou sets itself.

    Example:
        >>> kafka = bayou.connect()
        >>> kafka = bayou.connect("localhost:9092")
    """
    if schema_registry is not None:
        raise _core.ConfigError("schema_registry= is not in this version: formats are json and raw")
    return _core._connect(True if target is _EMBEDDED else target, name)


def simulate(
    what: str,
    *,
    rows: int = 100_000,
    seed: int = 0,
    start: datetime | None = None,
    interval: str | timedelta | float | None = None,
    disorder: str | timedelta | None = None,
    late: float = 0.0,
    late_by: str | timedelta | None = None,
    fever_region: str | None = "Bayern",
    fever_start: float = 0.5,
    undef: float = 0.10,
    zero: float = 0.05,
    columns: int | None = None,
) -> Any:
    """Made-up events, the same for the same seed, as an Arrow stream (PyCapsule) that `produce` takes.

    `simulate("fitness")` is fitness trackers that report a pulse: ip, time, version, model, color, heart_bpm, kcal, region.

    Args:
        what: "fitness".
        rows: How many.
        seed: Another seed, other rows.
        start: Time of the first row (aware datetime). Default: so that the last row is now.
        interval: Time between rows. Default 10 milliseconds.
        disorder: Rows come out of order by up to so much.
        late: Share of rows that are late by `late_by` (default 5 minutes) on top.
        fever_region: The region whose pulse drifts up from `fever_start` (share of the rows) on; None for no outbreak.
        undef: Share of rows with model 'undef'.
        zero: Share of rows with a pulse of 0.
        columns: Only the first so many columns (7: without region).

    Example:
        >>> kafka.produce("fitness-tracker", bayou.simulate("fitness", rows=200_000), key="ip")
    """
    if what != "fitness":
        raise _core.ConfigError(f'simulate({what!r}): there is "fitness"')
    return _core._simulate_fitness(
        rows, seed, start, interval, disorder, late, late_by, fever_region, fever_start, undef, zero, columns
    )
