"""Random streams through pipelines of random windows, sessions, joins and the rest, against the oracle in event_time.py.

    python tests/python/event_time_campaign.py --seeds 0:1000 --workers 2

Needs a Kafka (BAYOU_TEST_KAFKA, or one that is started here). Streams have disorder, late rows, bad clocks, NULL times, idle
partitions, random epoch sizes, and stops and resumes in between. A seed that fails is run again by `--seeds N:N+1`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import bayou
import confluent_kafka
from delta_replay import rows as table_rows
from event_time import (
    EPOCH,
    SECOND,
    Chain,
    Deduplicate,
    Join,
    Row,
    Sessions,
    Windows,
    fixed,
    local_days,
    micros,
    months,
    replay,
    seals,
)

DELAY, IDLE = 5, 60
SCHEMA = "n BIGINT, time TIMESTAMP, k STRING"


def aggregates(rows: list[Row]) -> Row:
    n = [r["n"] for r in rows]
    return {
        "c": len(n),
        "s": sum(n),
        "lo": min(n),
        "hi": max(n),
        "even": sum(1 for x in n if x % 2 == 0),
        "kinds": len({x % 3 for x in n}),
    }


AGGREGATES = [
    "count(*) AS c",
    "sum(n) AS s",
    "min(n) AS lo",
    "max(n) AS hi",
    "count(*) FILTER (WHERE n % 2 = 0) AS even",
    "count(DISTINCT n % 3) AS kinds",
]


@dataclass
class Case:
    """A table: its definition for bayou, and the oracle's chain."""

    stream: Callable[[bayou.Stream], bayou.Stream]
    chain: Chain
    mode: str
    keep: Callable[[Row], bool] = lambda row: True


def windowed(window: Any, spans: Any, mode: str, keys: list[str]) -> Case:
    operator = (
        Sessions(spans, keys, aggregates, mode) if isinstance(spans, int) else Windows(spans, keys, aggregates, mode)
    )
    groups = [window, *keys] if window is not None else keys
    return Case(lambda s: s.group_by(*groups).agg(*AGGREGATES), Chain(operator), mode)


def of_windows(mode: str) -> Case:
    inner = Windows(fixed(20 * SECOND), ["k"], aggregates, "append")
    total = lambda rows: {"c": sum(r["c"] for r in rows), "hi": max(r["hi"] for r in rows)}  # noqa: E731
    outer = Windows(fixed(60 * SECOND), [], total, mode)

    def stream(s: bayou.Stream) -> bayou.Stream:
        per_20 = s.group_by(bayou.window("time", "20 seconds"), "k").agg(*AGGREGATES)
        return per_20.group_by(bayou.window("window_end", "1 minute")).agg("sum(c) AS c", "max(hi) AS hi")

    return Case(stream, Chain(inner, outer), mode)


def deduplicated(within: int, then: str | None) -> Case:
    """Alone, or with windows behind it."""
    first = Deduplicate(["k"], within * SECOND)
    if then is None:
        return Case(lambda s: s.drop_duplicates("k", within=f"{within} seconds"), Chain(first), "append")
    window = Windows(fixed(60 * SECOND), ["k"], aggregates, then)
    stream = lambda s: (  # noqa: E731
        s.drop_duplicates(["k"], within=timedelta(seconds=within))
        .group_by(bayou.window("time", "1 minute"), "k")
        .agg(*AGGREGATES)
    )
    return Case(stream, Chain(first, window), then)


def joined(reach: tuple[int, int], how: str, then: str | None) -> Case:
    """Even numbers with odd ones of the same key and about the same time."""
    join = Join(["k"], (reach[0] * SECOND, reach[1] * SECOND), how, {"n_right": "n", "time_right": "time"})
    sides = lambda row: [row["n"] % 2]  # noqa: E731

    def pairs(s: bayou.Stream) -> bayou.Stream:
        within = (f"{reach[0]} seconds", f"{reach[1]} seconds")
        return s.where("n % 2 = 0").join(s.where("n % 2 = 1"), on="k", how=how, within=within)

    if then is None:
        return Case(pairs, Chain(join, sides=sides), "append")
    count = lambda rows: {  # noqa: E731
        "c": len(rows),
        "matched": sum(1 for r in rows if r["n_right"] is not None),
        "s": sum(r["n"] for r in rows),
    }
    window = Windows(fixed(30 * SECOND), ["k"], count, then)
    stream = lambda s: (  # noqa: E731
        pairs(s)
        .group_by(bayou.window("time", "30 seconds"), "k")
        .agg("count(*) AS c", "count(n_right) AS matched", "sum(n) AS s")
    )
    return Case(stream, Chain(join, window, sides=sides), then)


def cases(rng: random.Random) -> dict[str, Case]:
    """A few tables of one pipeline."""
    windows: dict[str, tuple[Any, Any]] = {
        "tumbling": (bayou.window("time", "1 minute"), fixed(60 * SECOND)),
        "sliding": (bayou.window("time", timedelta(seconds=60), slide="20 seconds"), fixed(60 * SECOND, 20 * SECOND)),
        "uneven": (
            bayou.window("time", "70 seconds", slide="30 seconds", offset="7 seconds"),
            fixed(70 * SECOND, 30 * SECOND, 7 * SECOND),
        ),
        "offset": (bayou.window("time", "90 seconds", offset="15 seconds"), fixed(90 * SECOND, None, 15 * SECOND)),
        "session": (bayou.session_window("time", "7 seconds"), 7 * SECOND),
        "long session": (bayou.session_window("time", "40 seconds"), 40 * SECOND),
        "day": (bayou.window("time", "1 day", timezone="America/New_York"), local_days("America/New_York")),
        "month": (bayou.window("time", "1 month"), months),
    }
    out: dict[str, Case] = {}
    wanted = rng.sample([(w, m) for w in windows for m in ("append", "update", "complete")], 2)
    for name, mode in wanted:
        window, spans = windows[name]
        case = windowed(window, spans, mode, rng.choice([[], ["k"]]))
        if mode != "append" and rng.random() < 0.3:
            inner = case.stream
            case.stream = lambda s, inner=inner: inner(s).where("c > 2")
            case.keep = lambda row: row["c"] > 2
        out[f"{name.replace(' ', '_')}_{mode}"] = case
    if rng.random() < 0.3:
        mode = rng.choice(["append", "update", "complete"])
        out[f"windows_of_windows_{mode}"] = of_windows(mode)
    elif rng.random() < 0.3:
        mode = rng.choice(["update", "complete"])
        out[f"running_{mode}"] = windowed(None, None, mode, rng.choice([[], ["k"]]))
    then = rng.choice([None, "append", "update", "complete"])
    if rng.random() < 0.25:
        out[f"deduplicated_{then}"] = deduplicated(rng.choice([0, 3, 20, 100]), then)
    elif rng.random() < 0.4:
        reach = rng.choice([(0, 0), (5, 5), (0, 20), (30, 2)])
        out[f"joined_{then}"] = joined(reach, rng.choice(["inner", "left"]), then)
    return out


class Bench:
    """A broker, its topics, and a producer: made once, used by many seeds."""

    def __init__(self, address: str) -> None:
        self.kafka = bayou.connect(address)
        self.producer = confluent_kafka.Producer({"bootstrap.servers": address, "linger.ms": 1})
        self.topics: dict[int, str] = {}
        for partitions in (1, 2, 3):
            name = f"event-time-{os.getpid()}-{time.monotonic_ns()}-{partitions}"
            self.kafka.create_topic(name, partitions=partitions, replication_factor=1)
            self.topics[partitions] = name

    def publish(self, topic: str, rows: list[tuple[int, Row, int]]) -> dict[tuple[str, int, int], Row]:
        """(partition, row, record timestamp in ms); returns the rows by their places."""
        placed: dict[tuple[str, int, int], Row] = {}

        def delivered(error: Any, message: Any, row: Row) -> None:
            assert error is None, error
            at = (topic, message.partition(), message.offset())
            placed[at] = row | {"_at": at}

        for partition, row, stamp in rows:
            when = None if row["time"] is None else (EPOCH + timedelta(microseconds=row["time"])).isoformat()
            value = json.dumps({"n": row["n"], "k": row["k"], "time": when}).encode()
            self.producer.produce(
                topic,
                value,
                partition=partition,
                timestamp=stamp,
                on_delivery=lambda e, m, row=row: delivered(e, m, row),
            )
        self.producer.flush(30)
        return placed

    def ends(self, topic: str) -> dict[str, dict[int, int]]:
        described = self.kafka.describe_topic(topic)
        return {topic: {p["partition"]: p["latest"] for p in described["partitions"]}}


def random_rows(
    rng: random.Random, first: int, count: int, partitions: list[int], now: datetime
) -> list[tuple[int, Row, int]]:
    """One a second or so, with disorder; some late, some with a bad clock, some without a time."""
    out = []
    for n in range(first, first + count):
        when = now - timedelta(hours=2) + timedelta(seconds=n) - timedelta(seconds=rng.randrange(8))
        if rng.random() < 0.05:
            when -= timedelta(seconds=rng.randrange(300))
        if rng.random() < 0.01:
            when = now + timedelta(days=400)
        t = None if rng.random() < 0.02 else when
        row = {
            "n": n,
            "time": None if t is None else micros(t),
            "k": rng.choice(["a", "b", "c", None]),
            "_t": None if t is None else micros(t),
        }
        stamp = now - timedelta(seconds=rng.choice([5, 3000]))
        out.append((rng.choice(partitions), row, round(stamp.timestamp() * 1000)))
    return out


def shown(row: Row) -> tuple:
    """A row as something that can be compared and sorted."""
    plain = {k: micros(v) if isinstance(v, datetime) else v for k, v in row.items() if not k.startswith("_")}
    return tuple(sorted((k, repr(v)) for k, v in plain.items()))


def compare(root: pathlib.Path, name: str, case: Case, what: str) -> None:
    got = Counter(shown(r) for r in table_rows(root / name)) if (root / name / "_delta_log").exists() else Counter()
    want = Counter(shown(r) for r in case.chain.table() if case.keep(r))
    assert got == want, (
        f"{what}, table {name}: {sum((got - want).values())} rows too many, {sum((want - got).values())} missing; "
        f"too many: {list(got - want)[:3]}; missing: {list(want - got)[:3]}"
    )


def run_seed(bench: Bench, seed: int, root: pathlib.Path) -> dict[str, int]:
    rng = random.Random(seed)
    now = datetime.now(timezone.utc).replace(microsecond=0)
    partitions = rng.randrange(1, 4)
    topic = bench.topics[partitions]
    tables = cases(rng)
    silent = {p for p in range(partitions - 1) if rng.random() < 0.3}
    awake = [p for p in range(partitions) if p not in silent]
    start = bench.ends(topic)
    messages: dict[tuple[str, int, int], Row] = {}
    late = epochs = 0
    runs = rng.randrange(1, 4)
    for run in range(runs):
        messages |= bench.publish(topic, random_rows(rng, run * 150, rng.randrange(20, 150), awake, now))
        raw = bench.kafka.read_stream(
            topic,
            schema=SCHEMA,
            starting_offsets=start,
            max_offsets_per_trigger=rng.choice([10_000, rng.randrange(10, 90)]),
        )
        clean = raw.with_watermark("time", f"{DELAY} seconds", idle_timeout=f"{IDLE} seconds")
        lake = bayou.Pipeline("p", root)
        for name, case in tables.items():
            lake.table(name, case.stream(clean), output_mode=case.mode)
        query = lake.run(progress=False)
        late += sum(o["numRowsDroppedByWatermark"] for p in query.recent_progress for o in p["stateOperators"])
        epochs += len(query.recent_progress)
    sealed = seals(root / "_bayou" / "p")
    replay(sealed, messages, DELAY * SECOND, {n: c.chain for n, c in tables.items()})
    for name, case in tables.items():
        compare(root, name, case, f"seed {seed}")
    want = Counter((name, *row["_at"]) for name, c in tables.items() for row in c.chain.late if "_at" in row)
    aside = table_rows(root / "p_quarantine") if (root / "p_quarantine").exists() else []
    got = Counter((r["dataset"], r["topic"], r["partition"], r["offset"]) for r in aside)
    assert got == want, f"seed {seed}: late rows: {list(got - want)[:5]} too many, {list(want - got)[:5]} missing"
    assert late == sum(want.values()), f"seed {seed}: {late} late rows counted, {sum(want.values())} expected"
    return {"messages": len(messages), "epochs": epochs, "late": late, "tables": len(tables), "runs": runs}


def work(address: str, first: int, last: int) -> Counter:
    """Runs seeds; the first that differs ends it."""
    bench = Bench(address)
    # Where every durable step waits for a disk, a thousand pipelines would test the disk.
    memory = pathlib.Path("/dev/shm")
    total: Counter = Counter()
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="bayou-event-time-") as folder:
        for seed in range(first, last):
            root = pathlib.Path(folder) / str(seed)
            total.update(run_seed(bench, seed, root))
            total["seeds"] += 1
            shutil.rmtree(root, ignore_errors=True)
    return total


def campaign(address: str, first: int, last: int, workers: int) -> Counter:
    """In processes of their own: one Python uses one core."""
    size = -(-(last - first) // workers)
    parts = [(a, min(a + size, last)) for a in range(first, last, size)]
    command = [sys.executable, __file__, "--work", address]
    children = [
        subprocess.Popen([*command, str(a), str(b)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for a, b in parts
    ]
    total: Counter = Counter()
    failed = []
    for (a, b), child in zip(parts, children, strict=True):
        out, err = child.communicate()
        if child.returncode:
            failed.append(f"seeds {a}:{b}: {err.strip().splitlines()[-1] if err.strip() else child.returncode}")
        else:
            total.update(json.loads(out.splitlines()[-1]))
    assert not failed, "\n".join(failed)
    return total


def main() -> int:
    if sys.argv[1:2] == ["--work"]:
        address, first, last = sys.argv[2:5]
        print(json.dumps(work(address, int(first), int(last))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0:200", help="FIRST:LAST")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 2)
    given = parser.parse_args()
    first, last = map(int, given.seeds.split(":"))
    with contextlib.ExitStack() as stack:
        address = os.environ.get("BAYOU_TEST_KAFKA")
        if not address:
            sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "kafka"))
            from server import Server

            address = stack.enter_context(Server()).plain
        began = time.monotonic()
        total = campaign(address, first, last, given.workers)
    print(f"{dict(total)} in {time.monotonic() - began:.0f} s: all equal to the oracle")
    return 0


if __name__ == "__main__":
    sys.exit(main())
