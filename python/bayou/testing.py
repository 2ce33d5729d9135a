"""For tests of pipelines: private brokers, and crashes at named points."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from bayou import _core
from bayou._connect import connect

__all__ = ["broker", "crash_at", "crash_points", "pause_at", "slow_at"]


@contextmanager
def broker() -> Iterator[_core.Connection]:
    """A private embedded broker. No other process uses it, and it ends soon after the block.

    Example:
        >>> with bayou.testing.broker() as kafka:
        ...     kafka.create_topic("t")
    """
    yield connect(name=f"test-{uuid.uuid4().hex[:12]}")


def crash_at(point: str, nth: int = 1) -> None:
    """End this process, like a power cut, when it passes a crash point for the `nth` time from now on.

    Each durable step has a point before it and a point after it. The name says what is written: `seal`, `done`, `start`,
    `commit:<table>`, `create:<table>`, `data:<table>`, `staged:<table>`, `state:increment`, `foreach:<name>`, ….
    You can set several points. Call this function in a child process that may die.

    Args:
        point: The point, for example "seal.before" or "commit:clean.after".
        nth: The number of the pass that crashes. 0 removes the point.

    Example:
        >>> bayou.testing.crash_at("seal.after", nth=2)
        >>> lake.run()  # ends between the seal of its second epoch and the commits
    """
    _check(point, nth)
    _core._crash_at(point, nth)


def pause_at(point: str, nth: int = 1) -> None:
    """Suspend this process (SIGSTOP), like a suspended machine, when it passes a crash point for the `nth` time from now on.

    The process continues when it gets SIGCONT. Call this function in a child process.

    Args:
        point: The point, as in `crash_at`.
        nth: The number of the pass that suspends. 0 removes the point.

    Example:
        >>> bayou.testing.pause_at("seal.before", nth=2)
        >>> lake.run()  # is suspended before it seals its second epoch; a different runner can take over
    """
    _check(point, nth)
    _core._pause_at(point, nth)


def _check(point: str, nth: int) -> None:
    if nth < 0:
        raise ValueError(f"nth={nth} is negative. Passes are counted from 1, and 0 removes the point.")
    if not point.endswith((".before", ".after")):
        raise ValueError(
            f"{point!r} is not a crash point. Crash points end in .before or .after, for example 'seal.before'."
        )


def slow_at(point: str, seconds: float) -> None:
    """Delay the store at a crash point, like a slow store far away. For tests that stop a query in such a moment.

    Args:
        point: The point, as in `crash_at`.
        seconds: The delay, from 0 to 600. 0 removes it.

    Example:
        >>> bayou.testing.slow_at("seal.before", 0.5)
    """
    if not 0 <= seconds <= 600:
        raise ValueError(f"seconds={seconds} is not between 0 and 600")
    if not point.endswith((".before", ".after")):
        raise ValueError(
            f"{point!r} is not a crash point. Crash points end in .before or .after, for example 'seal.before'."
        )
    _core._slow_at(point, seconds)


def crash_points() -> dict[str, int]:
    """The crash points that this process has passed, and how often. The first call starts the count.

    Example:
        >>> bayou.testing.crash_points()
        {}
        >>> lake.run()
        >>> bayou.testing.crash_points()["done.after"]
        3
    """
    return _core._crash_points()
