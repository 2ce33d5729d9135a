"""A kernel that is interrupted. It takes jobs, each one a line of JSON, and reports when it has reached the state for the interrupt.

    {"call": "run", "where": "idle", "address": …, "topic": …, "root": …, "rows": 2000}

prints "there" in that state, then {"raised": monotonic seconds, "missed": false}. Then the pipeline runs again to its end, and
the rows of its tables are compared with simple computations: {"wrong": []}.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import bayou
import pyarrow as pa

# Not deltalake: threads of pyarrow read through its file objects, which are Python objects. If the process ends during a read, these threads
# abort it.
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))
from delta_replay import rows as replayed

SCHEMA = "n INT, k STRING, time TIMESTAMP"
START = 1_704_067_200_000_000
# How long a slow crash point takes, in seconds: as slow as a cloud store on a bad day.
HOLD = 0.6
# How long a slow function takes, in seconds. Nothing waits for it: the interrupted run must leave the call behind.
LONG = 5.0
SAID = threading.Event()
# Rows that `produce` has taken from the iterator.
TAKEN = [0]


def value(n: int) -> bytes:
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(START // 1_000_000 + n))
    return json.dumps({"n": n, "k": f"k{n % 7}", "time": when}).encode()


def say(word: Any) -> None:
    # In one write, because several threads say something, and `print` writes the end of the line on its own.
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()


def there() -> None:
    """Prints "there", once for each job."""
    if not SAID.is_set():
        SAID.set()
        say("there")


class Function:
    """A function of the user whose first call takes a long time."""

    def __init__(self, busy: bool) -> None:
        self.slow, self.busy = True, busy

    def wait(self) -> None:
        if not self.slow:
            return
        self.slow = False
        there()
        until = time.monotonic() + LONG
        while self.busy and time.monotonic() < until:
            pass
        time.sleep(max(0.0, until - time.monotonic()))

    def rows(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        self.wait()
        return rows

    def batch(self, _: pa.Table, __: int) -> None:
        self.wait()

    def of_group(self, rows: pa.RecordBatch) -> int:
        self.wait()
        return rows.num_rows


def define(job: dict[str, Any], kafka: bayou.Connection, function: Function | None) -> bayou.Pipeline:
    where = job["where"]
    raw = kafka.read_stream(job["topic"], schema=SCHEMA, max_offsets_per_trigger=job.get("epoch"))
    clean = raw.where("n >= 0")
    f = function or Function(False)
    clean = clean.with_watermark("time", "10 seconds", idle_timeout="1000 days")
    if where.startswith("map_batches"):
        clean = clean.map_batches(f.rows, schema=SCHEMA)
    clean = clean.named("clean")
    lake = bayou.Pipeline("stops", job["root"])
    lake.table("clean", clean)
    counted = ("count(*) AS c", "sum(n) AS n")
    lake.table("totals", clean.group_by().agg(*counted))
    lake.table("by_k", clean.group_by("k").agg(*counted), output_mode="update")
    of_group = {"g": bayou.aggregate(f.of_group, "INT", ["n"])} if where == "aggregate" else {}
    lake.table("minutes", clean.group_by(bayou.window("time", "1 minute")).agg(*counted, **of_group))
    if where == "foreach_batch":
        lake.foreach_batch("told", clean, f.batch)
    return lake


def wrong(root: str, rows: int) -> list[str]:
    """The differences from the expected tables, for the rows 0 … rows − 1, with one second between two rows."""

    def read(table: str) -> list[dict[str, Any]]:
        return replayed(f"{root}/{table}")

    out = []
    found = sorted(r["n"] for r in read("clean"))
    if found != list(range(rows)):
        double = [n for n, c in Counter(found).items() if c > 1]
        out.append(f"clean: {len(found)} rows of {rows}, twice: {double[:5]}")
    if [(r["c"], r["n"]) for r in read("totals")] != [(rows, sum(range(rows)))]:
        out.append(f"totals: {read('totals')}")
    keys = {f"k{k}": (len(range(k, rows, 7)), sum(range(k, rows, 7))) for k in range(7)}
    if {r["k"]: (r["c"], r["n"]) for r in read("by_k")} != keys or len(read("by_k")) != 7:
        out.append(f"by_k: {read('by_k')}")
    closed = (rows - 1 - 10) // 60
    minutes = sorted((r["window_start"].timestamp(), r["c"], r["n"]) for r in read("minutes"))
    of = [(START / 1e6 + 60 * m, 60, sum(range(60 * m, 60 * m + 60))) for m in range(closed)]
    if minutes != of:
        out.append(f"minutes: {len(minutes)} windows of {len(of)}")
    return out


def position(root: pathlib.Path) -> int:
    """The number of offsets in epochs that are done."""
    done = sorted(root.glob("_bayou/stops/*/done/*.json"))
    if not done:
        return 0
    seal = done[-1].parent.parent / "epoch" / done[-1].name
    return sum(r["until"] for r in json.loads(seal.read_text())["ranges"])


@contextlib.contextmanager
def watching(seen: Callable[[], bool] | None) -> Iterator[None]:
    """Prints "there" when the condition holds."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            if seen is not None and seen():
                return there()
            time.sleep(0.002)  # between two looks at a folder

    thread = threading.Thread(target=watch, daemon=True)
    if seen is not None:
        thread.start()
    try:
        yield
    finally:
        stop.set()


def condition(job: dict[str, Any]) -> Callable[[], bool] | None:
    root, where = pathlib.Path(job["root"]), job["where"]
    if where in ("idle", "dead broker", "killed broker") and job["call"] in ("run", "await"):
        return lambda: position(root) >= job["rows"]
    if where == "reading a backlog" and job["call"] in ("run", "await"):
        return lambda: any(root.glob("_bayou/stops/*/start.json"))
    if where == "writing files":
        return lambda: (root / "clean").is_dir() and any(".parquet" in p.name for p in (root / "clean").iterdir())
    if job.get("hold"):
        before = bayou.testing.crash_points().get(job["hold"], 0)
        return lambda: bayou.testing.crash_points().get(job["hold"], 0) > before
    return None


def rows_for_ever() -> Iterator[dict[str, Any]]:
    there()
    TAKEN[0] = 0
    while True:
        TAKEN[0] += 1
        yield {"n": TAKEN[0] - 1, "k": "k", "time": None}


def call(job: dict[str, Any], kafka: bayou.Connection | None, lake: bayou.Pipeline | None) -> None:
    what, where = job["call"], job["where"]
    trigger = "1 second" if where in ("idle", "dead broker", "killed broker", "reading a backlog") else None
    if where == "starting":
        there()
    if what == "connect":
        bayou.connect(job["address"])
    elif what == "run":
        assert lake
        lake.run(trigger=trigger, progress=job.get("progress", False))
    elif what == "await":
        assert lake
        lake.run(trigger=trigger, progress=False, block=False).await_termination()
    elif what == "produce":
        assert kafka
        kafka.produce(job["topic"], rows_for_ever() if where != "starting" else [{"n": 1}], progress=False)
    else:
        assert kafka
        stream = kafka.read_stream(job["topic"], schema=SCHEMA)
        if what == "preview":
            stream.preview(20)
        elif what == "collect":
            if where == "reading a backlog":
                threading.Timer(0.05, there).start()
            stream.group_by("k").agg("count(*) AS c", "sum(n) AS n").collect()
        elif what == "batches":
            seen = 0
            for batch in stream.batches(trigger="1 second"):
                seen += len(batch)
                if seen >= job["rows"]:
                    there()


def hit(job: dict[str, Any], kafka: bayou.Connection | None) -> None:
    function = Function(job["where"].endswith("busy"))
    # The pipeline is defined before the broker is stopped, because only the call is measured.
    lake = define(job, kafka, function) if job["call"] in ("run", "await") and kafka else None
    if job.get("hold"):
        bayou.testing.slow_at(job["hold"], job.get("seconds", HOLD))
    missed, raised = False, 0.0
    SAID.clear()
    say("ready")
    sys.stdin.readline()
    try:
        with watching(condition(job)):
            try:
                call(job, kafka, lake)
            except bayou.ConnectionError:
                # An embedded broker that was killed cannot come back. A call that reads from it ends soon, perhaps before the button is pressed.
                if job["where"] != "killed broker":
                    raise
        missed = True
        there()
        time.sleep(20)  # the interrupt is on its way
    except KeyboardInterrupt:
        raised = time.monotonic()
    finally:
        if job.get("hold"):
            bayou.testing.slow_at(job["hold"], 0)
    say({"raised": raised, "missed": missed})
    if lake is not None and lake.query is not None and job["call"] == "run":
        # The user gets the Query also after pressing the button.
        ends = ("stopped", "stopping", "finished", "starting", "running")
        ends += ("failed",) if job["where"] == "killed broker" else ()
        assert lake.query.status in ends, lake.query.status


def main() -> None:
    connections: dict[str, bayou.Connection] = {}
    for line in sys.stdin:
        job = json.loads(line)
        address = job["address"]
        if "broker" in job and address not in connections:
            connections[address] = bayou.connect(name=job["broker"])
        elif address not in connections:
            connections[address] = bayou.connect(address)
        kafka = connections[address]
        hit(job, kafka)
        # The parent lets the broker continue first.
        left = sys.stdin.readline().strip() == "again"
        say({"wrong": [] if left else after(job, kafka)})


def after(job: dict[str, Any], kafka: bayou.Connection) -> list[str]:
    """Checks that the kernel works as before: the next run ends, and the tables are exact."""
    if job["where"] == "killed broker":
        return after_killed(job)
    if job["where"] == "publishing":
        return after_publishing(job, kafka)
    if job["call"] not in ("run", "await"):
        if job["call"] == "produce" and job["where"] == "starting":
            # Rows that were given up before the broker answered must not be published a little later.
            time.sleep(0.3)
            there_now = kafka.describe_topic(job["topic"])["partitions"][0]["latest"]
            return [] if there_now == 5 else [f"published after the interrupt: {there_now - 5}"]
        found = kafka.read_stream(job["topic"], schema=SCHEMA).preview(5)
        return [] if len(found) == 5 else [f"preview: {len(found)} rows"]
    function = Function(False)
    function.slow = False
    define({**job, "epoch": None}, kafka, function).run(progress=False)
    return wrong(job["root"], job["rows"])


def after_killed(job: dict[str, Any]) -> list[str]:
    """The embedded broker and its topics are gone, so the query cannot continue. Written rows stay, and a new broker with the same name serves this
    kernel like the old broker."""
    out = []
    if job["call"] == "run":
        found = sorted(r["n"] for r in replayed(f"{job['root']}/clean"))
        totals = [(r["c"], r["n"]) for r in replayed(f"{job['root']}/totals")]
        if found != list(range(job["rows"])) or totals != [(job["rows"], sum(found))]:
            out.append(f"clean: {len(found)} rows, totals: {totals}")
    kafka = bayou.connect(name=job["broker"])
    kafka.create_topic("again")
    kafka.produce("again", [{"n": n, "k": "k", "time": None} for n in range(9)], progress=False)
    seen = len(kafka.read_stream("again", schema=SCHEMA).preview(9))
    return out if seen == 9 else [*out, f"after the broker came back: {seen} rows of 9"]


def after_publishing(job: dict[str, Any], kafka: bayou.Connection) -> list[str]:
    """The interrupted call does not report how many rows were delivered. The rows in the topic must be the first ones, each one once and in order,
    and no more rows may come a little later."""
    time.sleep(0.3)
    latest = lambda: kafka.describe_topic(job["topic"])["partitions"][0]["latest"]  # noqa: E731
    before = latest()
    stream = kafka.read_stream(job["topic"], schema=SCHEMA)
    found = [n for batch in stream.batches() for n in pa.table(batch)["n"].to_pylist()]
    out = []
    if found[5:] != list(range(len(found) - 5)) or len(found) - 5 > TAKEN[0]:
        out.append(f"published: {found[5:15]}…, {len(found) - 5} rows of {TAKEN[0]}")
    if before != latest() or before != len(found):
        out.append(f"published after the interrupt: {latest() - before}; read: {len(found)} of {before}")
    return out


if __name__ == "__main__":
    main()
