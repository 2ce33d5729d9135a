"""The meaning of event time, in plain Python: reads the sealed epochs in their documented format, and applies the definitions of
docs/event-time.md to the messages. It shares no code with bayou, and is slow on purpose.

A row is a dict; `_t` is its event time in microseconds (None: NULL), `_at` the place of its message (partition, offset).
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

Row = dict[str, Any]
Span = tuple[int, int]
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
SECOND = 1_000_000


def micros(t: datetime) -> int:
    delta = t - EPOCH
    return (delta.days * 86_400 + delta.seconds) * SECOND + delta.microseconds


def seals(checkpoint: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted(checkpoint.glob("*/epoch/*.json"))]


# --- which windows a time belongs to


def fixed(size: int, slide: int | None = None, offset: int = 0) -> Callable[[int], list[Span]]:
    slide = slide or size

    def spans(t: int) -> list[Span]:
        last = t - (t - offset) % slide
        return [(s, s + size) for s in range(last, t - size, -slide) if s + size > t]

    return spans


def local_days(zone: str) -> Callable[[int], list[Span]]:
    tz = ZoneInfo(zone)

    def spans(t: int) -> list[Span]:
        day = (EPOCH + timedelta(microseconds=t)).astimezone(tz).date()
        start = datetime(day.year, day.month, day.day, tzinfo=tz)
        after = day + timedelta(days=1)
        end = datetime(after.year, after.month, after.day, tzinfo=tz)
        return [(micros(start.astimezone(timezone.utc)), micros(end.astimezone(timezone.utc)))]

    return spans


def months(t: int) -> list[Span]:
    day = EPOCH + timedelta(microseconds=t)
    start = datetime(day.year, day.month, 1, tzinfo=timezone.utc)
    end = datetime(day.year + day.month // 12, day.month % 12 + 1, 1, tzinfo=timezone.utc)
    return [(micros(start), micros(end))]


# --- operators: rows of an epoch in, rows out at its end


class Operator:
    """`late` lists the rows that came too late."""

    def __init__(self) -> None:
        self.late: list[Row] = []

    def push(self, side: int, row: Row, before: int | None) -> None:
        raise NotImplementedError

    def end(self, before: int | None, after: int | None) -> list[Row]:
        raise NotImplementedError


class Windows(Operator):
    """Groups by window and key. mode: append (rows out when closed), update and complete (`table` is the result)."""

    def __init__(
        self, spans: Callable[[int], list[Span]] | None, keys: list[str], aggregate: Callable, mode: str
    ) -> None:
        super().__init__()
        self.spans, self.keys, self.aggregate, self.mode = spans, keys, aggregate, mode
        self.groups: dict[tuple, list[Row]] = {}
        self.results: dict[tuple, Row] = {}

    def push(self, side: int, row: Row, before: int | None) -> None:
        if self.spans is None:
            spans: list[Span | None] = [None]
        elif row["_t"] is None:
            spans = []
        else:
            forever = self.mode == "complete" or before is None
            spans = [s for s in self.spans(row["_t"]) if forever or s[1] > before]
        if not spans:
            self.late.append(row)
        for span in spans:
            key = (span, *(row[k] for k in self.keys))
            self.groups.setdefault(key, []).append(row)
            self.results[key] = {}

    def result(self, key: tuple) -> Row:
        out = dict(zip(self.keys, key[1:], strict=True)) | self.aggregate(self.groups[key])
        if key[0] is not None:
            out |= {"window_start": key[0][0], "window_end": key[0][1], "_t": key[0][1] - 1}
        return out

    def end(self, before: int | None, after: int | None) -> list[Row]:
        # Every result is computed again, except that of a closed group, which keeps its result.
        for key in self.groups:
            self.results[key] = self.result(key)
        closed = [k for k in self.groups if k[0] is not None and after is not None and k[0][1] <= after]
        if self.mode == "complete":
            return []
        out = [self.results[k] for k in closed]
        for k in closed:
            del self.groups[k]
        return out if self.mode == "append" else []

    def table(self) -> list[Row]:
        return list(self.results.values())


class Sessions(Operator):
    def __init__(self, gap: int, keys: list[str], aggregate: Callable, mode: str) -> None:
        super().__init__()
        self.gap, self.keys, self.aggregate, self.mode = gap, keys, aggregate, mode
        self.held: list[Row] = []
        self.open: list[tuple[tuple, int, int, list[Row]]] = []
        self.closed: list[tuple[tuple, int, int, list[Row]]] = []

    def push(self, side: int, row: Row, before: int | None) -> None:
        (self.late if row["_t"] is None else self.held).append(row)

    def end(self, before: int | None, after: int | None) -> list[Row]:
        key = lambda row: tuple(row[k] for k in self.keys)  # noqa: E731
        pieces = [(key(r), r["_t"], r["_t"] + self.gap, [r]) for r in self.held] + self.open
        merged: list[tuple[tuple, int, int, list[Row]]] = []
        for k, start, end, rows in sorted(pieces, key=lambda p: (repr(p[0]), p[1])):
            if merged and merged[-1][0] == k and start <= merged[-1][2]:
                _, first, last, so_far = merged[-1]
                merged[-1] = (k, first, max(last, end), so_far + rows)
            else:
                merged.append((k, start, end, rows))
        forever = self.mode == "complete"
        fresh = {id(r) for r in self.held}
        self.open = []
        for session in merged:
            late = not forever and before is not None and session[2] < before
            if late:
                # An open session is never closed by the watermark that the epoch began with.
                assert all(id(r) in fresh for r in session[3])
                self.late.extend(session[3])
            else:
                self.open.append(session)
        self.held = []
        if forever or after is None:
            return []
        done = [s for s in self.open if s[2] < after]
        self.open = [s for s in self.open if not s[2] < after]
        self.closed.extend(done)
        return [self.result(s) for s in done] if self.mode == "append" else []

    def result(self, session: tuple[tuple, int, int, list[Row]]) -> Row:
        k, start, end, rows = session
        out = dict(zip(self.keys, k, strict=True)) | self.aggregate(rows)
        return out | {"window_start": start, "window_end": end, "_t": end - 1}

    def table(self) -> list[Row]:
        return [self.result(s) for s in self.closed + self.open]


class Deduplicate(Operator):
    def __init__(self, keys: list[str], within: int) -> None:
        super().__init__()
        self.keys, self.within = keys, within
        self.kept: dict[tuple, list[int]] = {}
        self.held: list[Row] = []

    def push(self, side: int, row: Row, before: int | None) -> None:
        late = row["_t"] is None or (before is not None and row["_t"] < before)
        (self.late if late else self.held).append(row)

    def end(self, before: int | None, after: int | None) -> list[Row]:
        out = []
        for row in sorted(self.held, key=lambda r: r["_at"]):
            times = self.kept.setdefault(tuple(row[k] for k in self.keys), [])
            if all(abs(row["_t"] - t) > self.within for t in times):
                times.append(row["_t"])
                out.append(row)
        self.held = []
        return out


class Join(Operator):
    """Pairs of rows with equal keys, where the time of the right row is within [left - before, left + after]."""

    def __init__(self, keys: list[str], reach: Span, how: str, columns: dict[str, str]) -> None:
        super().__init__()
        self.keys, self.reach, self.how, self.columns = keys, reach, how, columns
        self.sides: tuple[list[Row], list[Row]] = ([], [])
        self.new: tuple[list[Row], list[Row]] = ([], [])
        self.matched: set[int] = set()
        self.given_up: set[int] = set()

    def push(self, side: int, row: Row, before: int | None) -> None:
        late = row["_t"] is None or (before is not None and row["_t"] < before)
        (self.late if late else self.new[side]).append(row)

    def pair(self, left: Row, right: Row | None) -> Row:
        return left | {name: None if right is None else right[of] for name, of in self.columns.items()}

    def end(self, before: int | None, after: int | None) -> list[Row]:
        out = []
        news = {id(r) for side in self.new for r in side}
        for side, new in zip(self.sides, self.new, strict=True):
            side.extend(new)
            new.clear()
        for left in self.sides[0]:
            for right in self.sides[1]:
                both = [[r[k] for k in self.keys] for r in (left, right)]
                near = left["_t"] - self.reach[0] <= right["_t"] <= left["_t"] + self.reach[1]
                if near and both[0] == both[1] and None not in both[0] and (id(left) in news or id(right) in news):
                    self.matched.add(id(left))
                    out.append(self.pair(left, right))
        if self.how == "left" and after is not None:
            for left in self.sides[0]:
                hopeless = left["_t"] + self.reach[1] < after
                if hopeless and id(left) not in self.matched and id(left) not in self.given_up:
                    self.given_up.add(id(left))
                    out.append(self.pair(left, None))
        return out


# --- the watermark


class Watermark:
    """The highest event time of each partition; the lowest of these over partitions that are not idle, less the delay. It never goes back."""

    def __init__(self, partitions: Iterable[str], delay: int, max_future: int = 3600 * SECOND) -> None:
        self.highest: dict[str, int | None] = dict.fromkeys(partitions)
        self.delay, self.max_future = delay, max_future
        self.now: int | None = None

    def see(self, partition: str, t: int | None, began: int) -> None:
        if t is not None and t <= began + self.max_future:
            self.highest[partition] = max(self.highest[partition] or t, t)

    def advance(self, idle: dict[str, bool]) -> int | None:
        awake = [self.highest[p] for p in self.highest if not idle[p]]
        if awake:
            found = None if None in awake else min(t for t in awake if t is not None)
        else:
            found = max((t for t in self.highest.values() if t is not None), default=None)
        if found is not None:
            self.now = found - self.delay if self.now is None else max(self.now, found - self.delay)
        return self.now


def output_watermark(operator: Operator, watermark: int | None) -> int | None:
    if isinstance(operator, Join) and watermark is not None:
        return watermark - max(operator.reach)
    return watermark


class Chain:
    """Operators one behind the other; the first one may have two inputs."""

    def __init__(self, *operators: Operator, sides: Callable[[Row], list[int]] = lambda row: [0]) -> None:
        self.operators, self.sides = operators, sides
        self.rows: list[Row] = []

    def epoch(self, rows: list[Row], before: int | None, after: int | None) -> None:
        inputs = [(side, row) for row in rows for side in self.sides(row)]
        for operator in self.operators:
            for side, row in inputs:
                operator.push(side, row, before)
            inputs = [(0, row) for row in operator.end(before, after)]
            before, after = output_watermark(operator, before), output_watermark(operator, after)
        self.rows.extend(row for _, row in inputs)

    @property
    def late(self) -> list[Row]:
        return [row for operator in self.operators for row in operator.late]

    def table(self) -> list[Row]:
        last = self.operators[-1]
        if isinstance(last, (Windows, Sessions)) and last.mode != "append":
            return last.table()
        return self.rows


def replay(
    epochs: list[dict[str, Any]],
    messages: dict[tuple[str, int, int], Row],
    delay: int,
    chains: dict[str, Chain],
    closes: bool = False,
) -> None:
    """Runs the epochs through the chains, which share one watermark; checks the sealed watermarks on the way."""
    names = [f"{r['topic']}[{r['partition']}]" for r in epochs[0]["ranges"]] if epochs else []
    watermark = Watermark(names, delay)
    for seal in epochs:
        before = watermark.now
        rows = []
        for r in seal["ranges"]:
            for offset in range(r["from"], r["until"]):
                row = messages.get((r["topic"], r["partition"], offset))
                if row is not None:
                    rows.append(row)
                    watermark.see(f"{r['topic']}[{r['partition']}]", row["_t"], seal["began"])
        [state] = seal["watermarks"].values()
        after = watermark.advance({p: state["partitions"][p]["idle"] for p in names})
        if closes and seal is epochs[-1]:
            assert after is None or state["watermark"] >= after
            watermark.now = after = state["watermark"]
        assert state["watermark"] == after, f"epoch {seal['epoch']}: the watermark is {state['watermark']}, not {after}"
        for chain in chains.values():
            chain.epoch(rows, before, after)
