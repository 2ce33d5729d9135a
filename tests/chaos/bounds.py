"""The bounds for the figures of each campaign. Exit codes are not enough: a campaign that did nothing ends with code 0.

missed("soak", figures) lists the figures that are outside of their bounds. A figure that does not exist counts as missed, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Figures = dict[str, Any]

KILLS, MESSAGES, BETWEEN = 300, 3_000_000, 0.3
# Milliseconds until the stop button is answered: the 99th percentile and the maximum, on any store.
P99, MOST = 250, 1000
# Seconds that the end of the interpreter waits for queries, and after that for users' functions.
QUERIES, FUNCTIONS = 1.0, 2.0
# The least length of a soak run in minutes, and the most growth a minute in its second half, when the pools are full.
LONG, MEGABYTES_PER_MINUTE, THREADS_PER_MINUTE, HANDLES_PER_MINUTE = 10, 1.0, 0.5, 0.5
ROUNDS, KILOBYTES_PER_ROUND = 500, 10.0
# The least number of faults. A run in five epochs makes about 480 calls, and each call fails in up to thirteen ways.
FAULTS = 1500
# The number of cases: 24 errors, once and four times, for each of a reader's six requests and of a producer's three requests.
CASES = 432
CUTS = 1000
TOPIC_KILLS = 100


def least(figures: Figures, name: str, bound: float) -> Iterator[str]:
    if figures[name] < bound:
        yield f"{name}: {figures[name]:,} is less than {bound:,}"


def most(figures: Figures, name: str, bound: float) -> Iterator[str]:
    if figures[name] > bound:
        yield f"{name}: {figures[name]:,} is more than {bound:,}"


def nothing(figures: Figures, *names: str) -> Iterator[str]:
    """The figures must be 0, an empty list, or None."""
    for name in names:
        if figures[name]:
            yield f"{name}: {figures[name]}"


def kills(f: Figures) -> Iterator[str]:
    yield from least(f, "kills", KILLS)
    yield from least(f["messages"], "committed", MESSAGES)
    yield from least(f, "betweenStageAndDone", BETWEEN)
    yield from least(f, "timesFilesWereJoined", 1)
    yield from nothing(f, "missing", "duplicated", "altered", "problems", "hung")


def brokers(f: Figures) -> Iterator[str]:
    yield from least(f, "messages", 1)
    yield from least(f, "epochs", 1)
    yield from least(f, "boundedRuns", 1)
    yield from nothing(f, "missing", "duplicated", "altered", "problems", "errors")


def topics(f: Figures) -> Iterator[str]:
    yield from least(f, "kills", TOPIC_KILLS)
    yield from least(f, "tombstones", 1)
    yield from least(f, "messagesOfAbortedTransactions", 1)
    yield from nothing(f, "missing", "duplicated", "problems")


def powercut(f: Figures) -> Iterator[str]:
    yield from least(f, "cuts", CUTS)
    yield from nothing(f, "problems")


def stops(f: Figures) -> Iterator[str]:
    for which in ("all, on a store that answers", "all, on a store that takes 600 ms or hangs"):
        yield from (f"{which}: {m}" for m in [*most(f[which], "p99", P99), *most(f[which], "max", MOST)])
    yield from nothing(f, "missed", "wrong")
    if set(f["exitCodes"]) != {"0"}:
        yield f"exitCodes: {f['exitCodes']}"
    yield from most(f, "slowestExit", QUERIES + FUNCTIONS)


def churn(f: Figures) -> Iterator[str]:
    yield from least(f, "rounds", ROUNDS)
    yield from most(f, "kilobytesPerRound", KILOBYTES_PER_ROUND)
    yield from nothing(f, "threadsLeft", "handlesLeft", "temporaryFilesLeft")


def soak(f: Figures) -> Iterator[str]:
    yield from least(f, "minutes", LONG)
    yield from least(f, "messages", 0.9 * f["minutes"] * 60 * f["rate"])
    yield from most(f, "megabytesPerMinute", MEGABYTES_PER_MINUTE)
    for name, bound in (("threads", THREADS_PER_MINUTE), ("handles", HANDLES_PER_MINUTE)):
        yield from most({f"{name} a minute": f[name][2]}, f"{name} a minute", bound)
    # A pipeline with a trigger of one second is never ten seconds behind.
    yield from most(f, "lagMost", 10 * f["rate"])
    yield from least(f, "epochsCleanedUp", 1)
    yield from least(f, "optimized", 1)
    yield from nothing(f, "warnings", "failure", "wrong")


def passed(f: Figures) -> Iterator[str]:
    """For a program of tests: at least one test ran, and no test failed or was skipped."""
    yield from least(f, "tests passed", 1)
    yield from nothing(f, *(name for name in ("tests failed", "tests skipped") if name in f))


def store(f: Figures) -> Iterator[str]:
    yield from passed(f)
    yield from least(f, "faults", FAULTS)
    yield from least(f, "runs that ended with an error", 1)


def requests(f: Figures) -> Iterator[str]:
    yield from passed(f)
    yield from least(f, "cases", CASES)


JUDGES: dict[str, Callable[[Figures], Iterator[str]]] = {
    "kills": kills,
    "store": store,
    "powercut": powercut,
    "brokers": brokers,
    "upgrade": brokers,
    "topics": topics,
    "faults": passed,
    "requests": requests,
    "pauses": passed,
    "managed": passed,
    "stops": stops,
    "churn": churn,
    "soak": soak,
}


def missed(name: str, figures: Figures) -> list[str]:
    out = []
    try:
        for problem in JUDGES[name](figures):
            out.append(problem)
    except KeyError as e:
        out.append(f"there is no figure {e}")
    return out
