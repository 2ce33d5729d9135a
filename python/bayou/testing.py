"""For tests of pipelines: a broker of their own, and crashes where they hurt most."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from bayou import _core
from bayou._connect import connect


@contextmanager
def broker() -> Iterator[_core.Connection]:
    """A private embedded broker: nobody else joins it, and it ends soon after the block.

    Example:
        >>> with bayou.testing.broker() as kafka:
        ...     kafka.create_topic("t")
    """
    yield connect(name=f"test-{uuid.uuid4().hex[:12]}")


def crash_at(point: str, nth: int = 1) -> None:
    """End this process, as a power cut would, when it passes a crash point for the `nth` time from now on.

    There is a point before and after each durable step, named after what is written: `seal`, `done`, `start`,
    `commit:<table>`, `create:<table>`, `data:<table>`, `staged:<table>`, `state:increment`, `foreach:<name>`, ….
    Several points may be set. Call it in a child process that may die.

    Args:
        point: The point, as "seal.before" or "commit:clean.after".
        nth: 0 takes the point back.

    Example:
        >>> bayou.testing.crash_at("seal.after", nth=2)
        >>> lake.run()  # is cut off between the seal of its second epoch and the commits
    """
    _check(point, nth)
    _core._crash_at(point, nth)


def pause_at(point: str, nth: int = 1) -> None:
    """Stop this process (SIGSTOP), as a suspended machine would, when it passes a crash point for the `nth` time from now on.

    It goes on when somebody sends it SIGCONT. Call it in a child process.

    Args:
        point: The point, as in `crash_at`.
        nth: 0 takes the point back.

    Example:
        >>> bayou.testing.pause_at("seal.before", nth=2)
        >>> lake.run()  # stops before it seals its second epoch; meanwhile another runner may take over
    """
    _check(point, nth)
    _core._pause_at(point, nth)


def _check(point: str, nth: int) -> None:
    if nth < 0:
        raise ValueError(f"nth={nth}: the how-many-th time is counted from 1; 0 takes the point back")
    if not point.endswith((".before", ".after")):
        raise ValueError(f"{point!r} is not a crash point: they end in .before or .after, as in 'seal.before'")


def slow_at(point: str, seconds: float) -> None:
    """Make the store take so long at a crash point, as a store far away on a bad day does: for tests of what is stopped then.

    Args:
        point: The point, as for `crash_at`.
        seconds: 0 takes it back.

    Example:
        >>> bayou.testing.slow_at("seal.before", 0.5)
    """
    if not 0 <= seconds <= 600:
        raise ValueError(f"seconds={seconds}: from 0 to 600 is meant")
    if not point.endswith((".before", ".after")):
        raise ValueError(f"{point!r} is not a crash point: they end in .before or .after, as in 'seal.before'")
    _core._slow_at(point, seconds)


def crash_points() -> dict[str, int]:
    """The crash points that this process has passed, and how often. The first call begins the count.

    Example:
        >>> bayou.testing.crash_points()
        {}
        >>> lake.run()
        >>> bayou.testing.crash_points()["done.after"]
        3
    """
    return _core._crash_points()
