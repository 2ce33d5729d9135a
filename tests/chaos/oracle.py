"""Checks that a lake has exactly the rows that follow from its topic: no row is missing, doubled or changed, in any table of runner.py's pipeline.

The oracle shares no code with bayou. It gets the messages from Kafka's Java consumer. It gets the epoch of each message, and the idle partitions,
from the seals (docs/format.md). It computes everything else from the definitions in docs/event-time.md.
"""

from __future__ import annotations

import json
import pathlib
from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from delta import Table
from truth import COLUMNS, NULL, Truth

SECOND = 1_000_000
DELAY, MINUTE, GAP, WITHIN, NEAR = 10 * SECOND, 60 * SECOND, 3 * SECOND, 60 * SECOND, 5 * SECOND
NEVER = -(1 << 62)  # there is no watermark yet
X, A, B = ord("x"), ord("a"), ord("b")
QUERY = "chaos"
Rows = Counter  # of tuples


@dataclass
class Verdict:
    problems: list[str] = field(default_factory=list)
    missing: int = 0
    duplicated: int = 0
    altered: int = 0
    figures: dict[str, Any] = field(default_factory=dict)

    def say(self, text: str) -> None:
        self.problems.append(text)

    def same(self, what: str, got: Any, want: Any) -> None:
        if got != want:
            self.say(f"{what}: {got}, not {want}")

    def rows(self, what: str, got: Rows, want: Rows) -> None:
        if got == want:
            return
        more, less = got - want, want - got
        doubled = sum(n for row, n in more.items() if row in want)
        self.duplicated += doubled
        self.missing += max(0, less.total() - (more.total() - doubled))
        self.altered += min(less.total(), more.total() - doubled)
        self.say(
            f"{what}: {more.total()} rows too many, {less.total()} missing; {list(more)[:3]} instead of {list(less)[:3]}"
        )


def column(table: pa.Table, name: str) -> np.ndarray:
    """The values as integers: times in microseconds, the key "u7" as 7, kinds as the code of their letter."""
    if not table.num_rows:
        return np.array([], np.int64)
    found = table[name]
    if pa.types.is_timestamp(found.type):
        return found.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    if pa.types.is_integer(found.type):
        return found.cast(pa.int64()).fill_null(NULL).to_numpy()
    texts = found.to_pylist()
    if name == "k":
        return np.array([int(x[1:]) if x and x[1:].isdigit() else NULL for x in texts], np.int64)
    return np.array([ord(x) if x and len(x) == 1 else NULL for x in texts], np.int64)


def tuples(table: pa.Table, *names: str) -> Rows:
    return Counter(zip(*(column(table, n).tolist() for n in names), strict=True))


def grouped(keys: list[np.ndarray], n: np.ndarray, s: np.ndarray) -> Rows:
    """count(*), sum(n), min(s), max(s) by keys."""
    if not len(n):
        return Counter()
    order = np.lexsort(keys[::-1])
    keys, n, s = [k[order] for k in keys], n[order], s[order]
    new = np.zeros(len(n), bool)
    new[0] = True
    for k in keys:
        new[1:] |= k[1:] != k[:-1]
    at = np.flatnonzero(new)
    counts = np.diff(np.append(at, len(n)))
    sums, low, high = np.add.reduceat(n, at), np.minimum.reduceat(s, at), np.maximum.reduceat(s, at)
    return Counter(zip(*(x.tolist() for x in [*(k[at] for k in keys), counts, sums, low, high]), strict=True))


def read_json(path: pathlib.Path) -> dict[str, Any]:
    return json.loads(path.read_text())


class Log:
    """The seals of a lake's newest generation, and the epoch of each message according to the seals."""

    def __init__(self, root: pathlib.Path, truth: Truth, verdict: Verdict) -> None:
        checkpoint = root / "_bayou" / QUERY
        self.generations = sorted(int(p.parent.name) for p in checkpoint.glob("*/query.json"))
        at = checkpoint / str(self.generations[-1])
        self.start = read_json(at / "start.json")
        self.truncates = [
            read_json(checkpoint / str(g) / "start.json")["truncateTxn"]
            for g in self.generations
            if (checkpoint / str(g) / "start.json").exists()
        ]
        self.older = [
            read_json(p) for g in self.generations[:-1] for p in sorted((checkpoint / str(g) / "epoch").glob("*.json"))
        ]
        self.seals = [read_json(p) for p in sorted((at / "epoch").glob("*.json"))]
        self.dones = {int(p.stem): read_json(p) for p in (at / "done").glob("*.json")}
        first = self.start["firstEpoch"]
        numbers = [s["epoch"] for s in self.seals]
        verdict.same("epochs", numbers, list(range(first, first + len(numbers))))
        verdict.same("epochs that are done", sorted(self.dones), numbers)
        for seal in self.seals:
            done = self.dones.get(seal["epoch"])
            if done and done["nonce"] != seal["nonce"]:
                verdict.say(f"epoch {seal['epoch']}: done is another seal's")
        self._ranges(truth, verdict)

    def _ranges(self, truth: Truth, verdict: Verdict) -> None:
        """Checks that the ranges cover each partition without gaps and overlaps, and contain as many messages as they say."""
        self.epoch = np.full(len(truth), -1, np.int64)
        [positions] = self.start["positions"].values()
        known = np.unique(truth.part).tolist()
        for part in known:
            rows = np.flatnonzero(truth.part == part)
            offsets = truth.off[rows]
            at, untils = positions.get(str(part), 0), []
            for seal in self.seals:
                mine = [r for r in seal["ranges"] if r["partition"] == part]
                if len(mine) != 1:
                    verdict.say(f"epoch {seal['epoch']}: {len(mine)} ranges for partition {part}")
                    untils.append(at)
                    continue
                [r] = mine
                if r["from"] != at or r["until"] < at:
                    verdict.say(f"epoch {seal['epoch']}, partition {part}: from {r['from']} to {r['until']} after {at}")
                low, high = np.searchsorted(offsets, [r["from"], r["until"]])
                if not seal.get("backfill"):
                    verdict.same(f"epoch {seal['epoch']}, partition {part}: records", r["records"], int(high - low))
                at = r["until"]
                untils.append(at)
            self.epoch[rows] = np.searchsorted(np.array(untils), offsets, side="right")
            unread = int((self.epoch[rows] >= len(self.seals)).sum())
            if unread:
                verdict.missing += unread
                verdict.say(f"partition {part}: {unread} messages were not read")
        self.epoch[self.epoch >= len(self.seals)] = -1

    def watermarks(self, truth: Truth, good: np.ndarray, verdict: Verdict) -> None:
        """Computes the watermarks before and after each epoch. The sealed watermarks must be the same."""
        parts = sorted(int(p) for p in next(iter(self.start["positions"].values())))
        highest: dict[int, int] = {}
        heard: set[int] = set()
        now = NEVER
        self.before, self.after = [], []
        rows = np.flatnonzero(good & (self.epoch >= 0))
        rows = rows[np.argsort(self.epoch[rows], kind="stable")]
        cuts = np.searchsorted(self.epoch[rows], np.arange(len(self.seals) + 1))
        for i, seal in enumerate(self.seals):
            mine = rows[cuts[i] : cuts[i + 1]]
            times, where = truth.columns["t"][mine], truth.part[mine]
            times, where = times[times <= seal["began"] + 3600 * SECOND], where[times <= seal["began"] + 3600 * SECOND]
            for part in np.unique(where).tolist():
                highest[part] = max(highest.get(part, NEVER), int(times[where == part].max()))
            self.before.append(now)
            # All messages are of today, and the timeout is a day. So only a partition that never had a message can be idle. If its first
            # messages are about to be read, it can be idle or not: the seal decides.
            heard |= {r["partition"] for r in seal["ranges"] if r["records"]}
            [state] = seal["watermarks"].values()
            idle = {int(p[p.rindex("[") + 1 : -1]) for p, s in state["partitions"].items() if s["idle"]}
            if idle & heard:
                verdict.say(f"epoch {seal['epoch']}: partitions {idle & heard} count as idle, and are not")
            awake = [highest.get(part) for part in parts if part not in idle - heard]
            if awake and None not in awake:
                now = max(now, min(t for t in awake if t is not None) - DELAY)
            self.after.append(now)
            shown = lambda w: None if w == NEVER else w  # noqa: E731
            verdict.same(f"epoch {seal['epoch']}: watermark", state["watermark"], shown(now))
            for before in seal["watermarksBefore"].values():
                verdict.same(f"epoch {seal['epoch']}: watermark before", before, shown(self.before[-1]))
        self.final = now


def sessions(epoch: np.ndarray, k: np.ndarray, rows: dict[str, np.ndarray], log: Log) -> tuple[Rows, list[int]]:
    """The table's rows, and the indexes of the late rows."""
    open_: dict[int, list[list[int]]] = defaultdict(list)  # [start, end, count, sum, low, high]
    closed: Rows = Counter()
    late: list[int] = []
    order = np.lexsort((rows["t"], k, epoch))
    e_, k_, t_, n_, s_ = (x[order].tolist() for x in (epoch, k, rows["t"], rows["n"], rows["s"]))
    index = order.tolist()
    i = 0
    while i < len(index):
        e, key = e_[i], k_[i]
        before = log.before[e]
        pieces = []
        for session in open_[key]:
            if session[1] < before:
                closed[(key, *session)] += 1
            else:
                pieces.append((session, []))
        while i < len(index) and e_[i] == e and k_[i] == key:
            pieces.append(([t_[i], t_[i] + GAP, 1, n_[i], s_[i], s_[i]], [index[i]]))
            i += 1
        merged: list[tuple[list[int], list[int]]] = []
        for session, who in sorted(pieces, key=lambda p: p[0][0]):
            if merged and session[0] <= merged[-1][0][1]:
                a = merged[-1][0]
                a[1:] = [
                    max(a[1], session[1]),
                    a[2] + session[2],
                    a[3] + session[3],
                    min(a[4], session[4]),
                    max(a[5], session[5]),
                ]
                merged[-1][1].extend(who)
            else:
                merged.append((list(session), list(who)))
        open_[key] = []
        for session, who in merged:
            if session[1] < before:
                late.extend(who)
            else:
                open_[key].append(session)
    for key, kept in open_.items():
        closed.update((key, *session) for session in kept)
    return closed, late


def firsts(n: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The rows that are kept, as a mask. The order of the rows counts."""
    kept: dict[int, list[int]] = defaultdict(list)
    out = np.zeros(len(n), bool)
    for i, (key, when) in enumerate(zip(n.tolist(), t.tolist(), strict=True)):
        times = kept[key]
        at = bisect_left(times, when)
        near = (at < len(times) and times[at] - when <= WITHIN) or (at > 0 and when - times[at - 1] <= WITHIN)
        if not near:
            insort(times, when)
            out[i] = True
    return out


def pairs(left: list[tuple[int, ...]], right: list[tuple[int, ...]], final: int) -> Rows:
    """Each side has rows (k, t, part, off)."""
    by_key: dict[int, list[tuple[int, ...]]] = defaultdict(list)
    for k, *rest in right:
        by_key[k].append(tuple(rest))
    for rows in by_key.values():
        rows.sort()
    out: Rows = Counter()
    for k, t, part, off in left:
        rows = by_key.get(k, [])
        near = rows[bisect_left(rows, (t - NEAR,)) : bisect_right(rows, (t + NEAR, 1 << 40))]
        for _, p, o in near:
            out[part, off, p, o] += 1
        if not near and t + NEAR < final:
            out[part, off, NULL, NULL] += 1
    return out


class Oracle:
    """`extra`: the lake also has the table that was added later."""

    def __init__(self, root: pathlib.Path, truth: Truth, extra: bool = False) -> None:
        self.root, self.truth, self.extra = root, truth, extra
        self.verdict = Verdict(list(truth.problems))
        self.late: dict[str, np.ndarray] = {}

    def check(self) -> Verdict:
        v, truth, c = self.verdict, self.truth, self.truth.columns
        self.log = log = Log(self.root, truth, v)
        decoded = truth.state == 0
        self.unknown = decoded & (c["kind"] == X)
        self.dropped = decoded & (c["kind"] != X) & (c["n"] < 0)
        self.good = good = decoded & (c["kind"] != X) & (c["n"] >= 0)
        log.watermarks(truth, good, v)
        self.names = ["clean", "windows", "by_key", "by_kind", "sessions", "firsts", "pairs"] + ["extra"] * self.extra
        self.tables = {n: Table(self.root / n) for n in self.names}
        self.tables["_quarantine"] = Table(self.root / f"{QUERY}_quarantine")
        self.rows = {n: t.rows() for n, t in self.tables.items()}
        # Every sealed message has an epoch. Messages that are not sealed are already counted as missing.
        self.i = np.flatnonzero(good & (log.epoch >= 0))
        self.e = log.epoch[self.i]
        self.before = np.array([*log.before, NEVER])[self.e]
        self.v = {n: c[n][self.i] for n in COLUMNS} | {"part": truth.part[self.i], "off": truth.off[self.i]}
        self._appended("clean", np.ones(len(self.i), bool))
        if self.extra:
            self._appended("extra", self.v["n"] % 3 == 0, ordered=False)
        self._aggregates()
        self._sessions()
        self._firsts()
        self._pairs()
        self._told()
        self._quarantine()
        self._accounts()
        self._transactions()
        for table in self.tables.values():
            v.problems.extend(table.problems)
        v.figures = {
            "messages": len(truth),
            "epochs": len(log.seals),
            "late": {n: len(x) for n, x in self.late.items()},
        }
        v.figures["rows"] = {n: r.num_rows for n, r in self.rows.items()}
        return v

    # --- tables of whole rows

    def _appended(self, name: str, mask: np.ndarray, ordered: bool = True) -> None:
        """Checks that each wanted row is in the table once, unchanged, and added by the commit of its own epoch."""
        v, found = self.verdict, self.rows[name]
        place = lambda part, off: (part << 48) | off  # noqa: E731
        want_at = place(self.v["part"][mask], self.v["off"][mask])
        got_at = place(column(found, "part"), column(found, "off"))
        order, worder = np.argsort(got_at, kind="stable"), np.argsort(want_at, kind="stable")
        got_sorted, want_sorted = got_at[order], want_at[worder]
        twice = int((got_sorted[1:] == got_sorted[:-1]).sum()) if len(got_sorted) else 0
        missing = len(np.setdiff1d(want_sorted, got_sorted))
        strange = len(np.setdiff1d(got_sorted, want_sorted))
        v.duplicated, v.missing, v.altered = v.duplicated + twice, v.missing + missing, v.altered + strange
        if twice or missing or strange:
            v.say(f"{name}: {missing} rows missing, {twice} doubled, {strange} that are nobody's")
            return
        for c in COLUMNS:
            changed = int((column(found, c)[order] != self.v[c][mask][worder]).sum())
            if changed:
                v.altered += changed
                v.say(f"{name}: {changed} values of {c} are not what was sent")
        self._in_order(name)
        if not ordered or not len(order):
            return
        # The epoch whose commit added the row.
        app = f"bayou/{QUERY}/{name}"
        txns = {commit.version: commit.txns.get(app, -1) for commit in self.tables[name].commits}
        first = self.log.start["firstEpoch"]
        brought = np.array([txns[x] for x in column(found, "_version").tolist()])
        wrong = int((brought[order] != self.e[mask][worder] + first).sum())
        if wrong:
            v.say(f"{name}: {wrong} rows came with another epoch's commit")
        part, off = column(found, "part"), column(found, "off")
        for p in np.unique(part).tolist():
            mine = part == p
            steps = np.diff(brought[mine][np.argsort(off[mine])])
            if (steps < 0).any():
                v.say(f"{name}: partition {p}: later offsets came with earlier commits")

    def _in_order(self, name: str) -> None:
        """Checks that the rows of a partition have the same order in a file as in the topic."""
        found = self.rows[name]
        if not found.num_rows:
            return
        part, off, file = (column(found, c) for c in ("part", "off", "_file"))
        at = np.lexsort((part, file))  # stable: keeps the order of the rows in a file
        part, off, file = part[at], off[at], file[at]
        neighbours = (part[1:] == part[:-1]) & (file[1:] == file[:-1]) & (file[1:] >= 0)
        wrong = int((neighbours & (off[1:] <= off[:-1])).sum())
        if wrong:
            self.verdict.say(f"{name}: {wrong} rows lie before one with a lower offset of their partition")

    # --- event time

    def _note_late(self, name: str, late: np.ndarray) -> None:
        """`late`: indexes into the good rows."""
        self.late[name] = late

    def _aggregates(self) -> None:
        r, log = self.v, self.log
        totals = ("c", "n", "lo", "hi")
        start = r["t"] - r["t"] % MINUTE
        late = start + MINUTE <= self.before
        self._note_late("windows", np.flatnonzero(late))
        closed = ~late & (start + MINUTE <= log.final)
        want = grouped([start[closed], start[closed] + MINUTE, r["kind"][closed]], r["n"][closed], r["s"][closed])
        self.open_rows = int((~late & ~closed).sum())
        self.verdict.rows("windows", tuples(self.rows["windows"], "window_start", "window_end", "kind", *totals), want)
        for name, key in (("by_key", "k"), ("by_kind", "kind")):
            self.verdict.rows(name, tuples(self.rows[name], key, *totals), grouped([r[key]], r["n"], r["s"]))

    def _sessions(self) -> None:
        mask = np.flatnonzero(self.v["n"] % 20 == 0)
        picked = {n: self.v[n][mask] for n in ("t", "n", "s")}
        want, late = sessions(self.e[mask], self.v["k"][mask], picked, self.log)
        self._note_late("sessions", mask[np.array(late, np.int64)])
        got = tuples(self.rows["sessions"], "k", "window_start", "window_end", "c", "n", "lo", "hi")
        self.verdict.rows("sessions", got, want)

    def _firsts(self) -> None:
        r = self.v
        mask = np.flatnonzero(r["n"] % 10 == 1)
        late = r["t"][mask] < self.before[mask]
        self._note_late("firsts", mask[late])
        mask = mask[~late]
        mask = mask[np.lexsort((r["off"][mask], r["part"][mask], self.e[mask]))]
        kept = mask[firsts(r["n"][mask], r["t"][mask])]
        chosen = np.zeros(len(self.i), bool)
        chosen[kept] = True
        self.repeated = len(mask) - len(kept)
        self._appended("firsts", chosen)

    def _pairs(self) -> None:
        r = self.v
        sides, late = [], []
        for kind in (A, B):
            mask = np.flatnonzero((r["n"] % 4 == 0) & (r["kind"] == kind))
            behind = r["t"][mask] < self.before[mask]
            late.append(mask[behind])
            mask = mask[~behind]
            sides.append(list(zip(*(r[c][mask].tolist() for c in ("k", "t", "part", "off")), strict=True)))
        self._note_late("pairs", np.concatenate(late))
        want = pairs(sides[0], sides[1], self.log.final)
        self.verdict.rows("pairs", tuples(self.rows["pairs"], "part", "off", "part_right", "off_right"), want)

    def _told(self) -> None:
        """foreach_batch: the function got each epoch at least once, and each time the same rows."""
        first = self.log.start["firstEpoch"]
        told: dict[int, list[dict[str, list[int]]]] = defaultdict(list)
        for path in sorted((self.root / "told").glob("*.json")):
            if int(path.name[:20]) >= first:
                told[int(path.name[:20]) - first].append(read_json(path))
        mask = np.flatnonzero(self.v["n"] % 50 == 7)
        mask = mask[np.lexsort((self.v["off"][mask], self.v["part"][mask], self.e[mask]))]
        want: dict[int, dict[str, list[int]]] = {}
        for e in np.unique(self.e[mask]).tolist():
            mine = (
                mask[self.e[mask] == e]
                if len(mask) < 50_000
                else mask[slice(*np.searchsorted(self.e[mask], [e, e + 1]))]
            )
            want[e] = {c: self.v[c][mine].tolist() for c in ("part", "off", "n", "c")}
        self.verdict.same("epochs told to the function", sorted(told), sorted(want))
        for e, calls in told.items():
            if any(call != want.get(e) for call in calls):
                self.verdict.say(f"epoch {e + first}: the function was told other rows")
        self.told_again = sum(len(calls) - 1 for calls in told.values())

    # --- rejected rows

    def _quarantine(self) -> None:
        v, truth, log, found = self.verdict, self.truth, self.log, self.rows["_quarantine"]
        want: dict[tuple[str, str, int], int] = {}
        for i in np.flatnonzero((truth.state == 1) & (log.epoch >= 0)).tolist():
            want["decode", "clean", i] = 1
        for i in np.flatnonzero(self.unknown & (log.epoch >= 0)).tolist():
            want["expectation", "clean", i] = 1
        # For each late row: how far it was below the watermark at the beginning of its epoch.
        behind: dict[tuple[str, int], int] = {}
        for name, rows in self.late.items():
            late = (self.before[rows] - self.v["t"][rows]).tolist()
            for i, by in zip(self.i[rows].tolist(), late, strict=True):
                want["late", name, i] = 1
                behind[name, i] = by
        where = {(p, o): i for i, (p, o) in enumerate(zip(truth.part.tolist(), truth.off.tolist(), strict=True))}
        got: Rows = Counter()
        columns = [c for c in found.schema.names if not c.startswith("_")] if found.num_rows else []
        # As integers, because a time as a Python object would lose its zone or its microseconds.
        stamps = column(found, "timestamp").tolist() if found.num_rows else []
        others = found.select([c for c in columns if c != "timestamp"]).to_pylist() if found.num_rows else []
        for row, stamp in zip(others, stamps, strict=True):
            place = f"quarantine: {row['partition']}, {row['offset']}"
            i = where.get((row["partition"], row["offset"]), -1)
            got[row["stage"], row["dataset"], i] += 1
            if i < 0:
                v.altered += 1
                v.say(f"{place} is nobody's message")
                continue
            wanted = self._message(i) | {"rules": ["kind is known"] if row["stage"] == "expectation" else []}
            for name, value in wanted.items():
                shown = stamp if name == "timestamp" else row[name]
                if shown != value:
                    v.altered += 1
                    v.say(f"{place}: {name} is {shown!r}, not {value!r}")
            said = self._reason(row["stage"], i, behind.get((row["dataset"], i)))
            if said not in row["error"]:
                v.altered += 1
                v.say(f"{place}: error is {row['error']!r}, without {said!r}")
        v.rows("quarantine", got, Counter(want))

    def _message(self, i: int) -> dict[str, Any]:
        """The quarantine's columns for a message, which do not depend on the error. The producers send no headers. `row` is for rows that do not come
        from a single message."""
        truth = self.truth
        return {
            "topic": truth.topic,
            "timestamp": int(truth.stamp[i]) * 1000,
            "key": truth.keys[i],
            "headers": [],
            "value": truth.values[i],
            "epoch": int(self.log.epoch[i]) + self.log.start["firstEpoch"],
            "row": None,
        }

    def _reason(self, stage: str, i: int, behind: int | None) -> str:
        """The text that the error must contain: where the JSON ends too early, which rule the row breaks, or how late it was."""
        if stage == "decode":
            return f"(byte {len(self.truth.values[i] or b'')})"
        if stage == "expectation":
            return "'kind is known'"
        return "" if behind is None else f"late by {behind / 1e6:.3f} s: "

    def _accounts(self) -> None:
        """good + dropped + quarantined + late = all messages, by the counts of the seals and by the rows of the tables."""
        v, truth = self.verdict, self.truth
        rows = self.rows["_quarantine"]
        stages: Counter[tuple[str, str]] = Counter()
        if rows.num_rows:
            stages.update(zip(*(rows[c].to_pylist() for c in ("stage", "dataset")), strict=True))
        aside = sum(n for (stage, _), n in stages.items() if stage != "late")
        self._counts(aside + sum(len(x) for x in self.late.values()))
        dropped, tombstones = int(self.dropped.sum()), int((truth.state == 2).sum())
        good = self.rows["clean"].num_rows
        v.same("clean: good + dropped + quarantined", good + dropped + aside + tombstones, len(truth))
        late = {name: stages["late", name] for name in self.late}
        held = {name: int(column(self.rows[name], "c").sum()) for name in ("windows", "by_key", "by_kind", "sessions")}
        v.same("windows: counted + open + late", held["windows"] + self.open_rows + late["windows"], good)
        v.same("by_key: counted", held["by_key"], good)
        v.same("by_kind: counted", held["by_kind"], good)
        calm = int((self.v["n"] % 20 == 0).sum())
        v.same("sessions: counted + late", held["sessions"] + late["sessions"], calm)
        ones = int((self.v["n"] % 10 == 1).sum())
        v.same("firsts: kept + repeated + late", self.rows["firsts"].num_rows + self.repeated + late["firsts"], ones)
        for name, found in self.late.items():
            v.same(f"{name}: late rows set aside", late[name], len(found))

    def _counts(self, set_aside: int) -> None:
        """Checks the counts of each seal: for its own epoch, and for rules up to this epoch. An epoch that fills a new table counts nothing here."""
        v, truth, log = self.verdict, self.truth, self.log
        per = lambda epochs: np.bincount(epochs[epochs >= 0], minlength=len(log.seals)).tolist()  # noqa: E731
        want = {"messages": per(log.epoch), "malformed": per(log.epoch[truth.state == 1])}
        want |= {"tombstones": per(log.epoch[truth.state == 2]), "rows": per(log.epoch[truth.state == 0])}
        want |= {"dropped": per(log.epoch[self.dropped]), "unknown": per(log.epoch[self.unknown])}
        late = {name: per(self.e[rows]) for name, rows in self.late.items()}
        total = passed = failed = fell = 0
        for e, seal in enumerate(log.seals):
            counts = seal["counts"]
            if seal.get("backfill"):
                continue
            at = f"epoch {seal['epoch']}"
            for name in ("messages", "rows", "malformed", "tombstones", "dropped"):
                v.same(f"{at}: {name} counted", counts[name], want[name][e])
            # The name of an operator is the name of its table, and a hash of its steps.
            found: Counter[str] = Counter()
            for operator, n in counts["late"].items():
                found[operator.split("+")[0]] += n
            for name, numbers in late.items():
                v.same(f"{at}: {name}: late rows counted", found[name], numbers[e])
            v.same(
                f"{at}: unknown fields, failed rows counted", (counts["unknownFields"], counts["failedRows"]), (0, 0)
            )
            aside = want["malformed"][e] + want["unknown"][e] + sum(numbers[e] for numbers in late.values())
            v.same(f"{at}: quarantined counted", counts["quarantined"], aside)
            total += counts["quarantined"]
            failed, fell = failed + want["unknown"][e], fell + want["dropped"][e]
            passed += want["rows"][e]
            rules = {r["name"]: (r["passedRecords"], r["failedRecords"]) for r in counts["rules"]}
            # Each rule counts every row that comes in.
            v.same(f"{at}: rule 'kind is known'", rules.get("kind is known"), (passed - failed, failed))
            v.same(f"{at}: rule 'n is counted'", rules.get("n is counted"), (passed - fell, fell))
        v.same("quarantined counted, and set aside", total, set_aside)

    # --- the log of each table against the seals

    def _transactions(self) -> None:
        v, log = self.verdict, self.log
        for name, table in self.tables.items():
            app = f"bayou/{QUERY}/{name}"
            commits = {c.txns[app]: c for c in table.commits if app in c.txns}
            order = [c.txns[app] for c in table.commits if app in c.txns]
            if order != sorted(set(order)):
                v.say(f"{name}: epochs were committed in the order {order[:20]}")
            asked = {
                s["epoch"]: s["tables"][name]
                for s in [*log.older, *log.seals]
                if s["tables"].get(name, {}).get("commit")
            }
            emptied = {t for t in log.truncates if t is not None}
            v.same(f"{name}: epochs in the table", sorted(set(order) - emptied), sorted(asked))
            v.same(f"{name}: txn", max(order, default=None), max([*asked, *(emptied & set(order))], default=None))
            for epoch, sealed in asked.items():
                commit = commits.get(epoch)
                if commit is None:
                    continue
                if not sealed.get("staged"):
                    v.same(
                        f"{name}, epoch {epoch}: files", sorted(commit.adds), sorted(a["path"] for a in sealed["adds"])
                    )
                done = log.dones.get(epoch)
                if done:
                    said = done["tables"].get(name, {})
                    v.same(
                        f"{name}, epoch {epoch}: done", (said.get("version"), said.get("txn")), (commit.version, epoch)
                    )
            version = {c.txns[app]: c.version for c in table.commits if app in c.txns}
            last = log.dones.get(log.seals[-1]["epoch"]) if log.seals else None
            if last and version and last["tables"][name]["version"] != version[max(version)]:
                v.say(f"{name}: the newest version is not what done says")
