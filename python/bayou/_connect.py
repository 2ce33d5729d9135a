"""`connect` and `simulate`: their arguments are interpreted in Python."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from bayou import _core


class _Embedded:
    """The default target. Its text is what `connect?` shows."""

    def __repr__(self) -> str:
        return "EMBEDDED"


_EMBEDDED = _Embedded()


def connect(
    target: Any = _EMBEDDED,
    *,
    name: str = "default",
    schema_registry: Mapping[str, str] | None = None,
) -> _core.Connection:
    """Connect to a Kafka cluster.

    Args:
        target: An address ("host:9092"), or a dict of librdkafka properties. Without it: the embedded broker. There is one for each
            user of this machine and each `name`. It is in memory, all kernels share it, and it ends a few seconds after its last user.
            None, "" and {} are refused, because an unset variable must never read an empty broker.
        name: The name of the embedded broker.
        schema_registry: Refused; this version does not support schema registries.

    Raises:
        ConnectionError: The cluster does not answer within 10 seconds. The message names its address.
        AuthError: The cluster refuses the credentials.
        ConfigError: A property is unknown, or bayou sets it itself.

    Example:
        >>> kafka = bayou.connect()
        >>> kafka = bayou.connect("localhost:9092")
    """
    if schema_registry is not None:
        raise _core.ConfigError("schema_registry= is not in this version. The formats are json and raw.")
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
    lazy: bool = False,
) -> _core.Table | Any:
    """Simulate events, as a Table. `produce` takes it. The same seed gives the same events.

    `simulate("fitness")` simulates fitness trackers that report a pulse: ip, time, version, model, color, heart_bpm, kcal, region.

    Args:
        what: "fitness".
        rows: The number of rows. They take about 100 bytes each in memory.
        seed: A different seed gives different rows.
        start: The time of the first row (an aware datetime). Default: such that the time of the last row is now.
        interval: The time between rows. Default 10 milliseconds.
        disorder: Rows are out of order by up to this time.
        late: The share of rows that are late by `late_by` (default 5 minutes) in addition.
        fever_region: The region whose pulse rises. None means no outbreak.
        fever_start: The share of rows after which the pulse begins to rise.
        undef: The share of rows with model 'undef'.
        zero: The share of rows with a pulse of 0.
        columns: Only this many columns, from the left (7: without region).
        lazy: True returns an Arrow stream (PyCapsule) that makes the rows while it is read, once, in constant memory.

    Returns:
        A Table; with `lazy=True` an Arrow stream.

    Example:
        >>> kafka.produce("fitness-tracker", bayou.simulate("fitness", rows=200_000), key="ip")
    """
    if what != "fitness":
        raise _core.ConfigError(f'simulate({what!r}) does not exist. Use simulate("fitness").')
    return _core._simulate_fitness(
        rows, seed, start, interval, disorder, late, late_by, fever_region, fever_start, undef, zero, columns, lazy
    )
