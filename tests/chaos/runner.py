"""One run of the campaign's pipeline, in a process that may be killed. It waits for its job, a line of JSON on standard input:

    {"address": …, "topic": …, "root": …, "epoch": 2500, "crash": {"seal.after": 2}, "extra": false, "trigger": null, "reset": false,
     "anew": false, "optimize": null, "slow": {"seal.before": 60}}

("anew": full_refresh=True; "optimize": optimize_every; "slow": seconds that a crash point takes). It prints "go" when it begins, and at the end
"done" and the crash points that it passed. Meanwhile it accepts the lines "what" (what is it doing?) and "stop". The answer to both is a line
"doing" with the facts.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import threading
import uuid
from typing import Any

import bayou
import pyarrow as pa

SCHEMA = "p INT, s BIGINT, t TIMESTAMP, k STRING, n BIGINT, kind STRING, c BIGINT"


def keep(folder: pathlib.Path, rows: pa.Table, epoch: int) -> None:
    """Writes the rows of each call to a new file, which appears as a whole or not at all."""
    folder.mkdir(exist_ok=True)
    name = f"{epoch:020}-{uuid.uuid4().hex}"
    rows = rows.select(["part", "off", "n", "c"]).sort_by([("part", "ascending"), ("off", "ascending")])
    (folder / f".{name}").write_text(json.dumps(rows.to_pydict()))
    os.rename(folder / f".{name}", folder / f"{name}.json")


def define(job: dict[str, Any]) -> bayou.Pipeline:
    kafka = bayou.connect(job["address"])
    root = pathlib.Path(job["root"])
    raw = kafka.read_stream(
        job["topic"], schema=SCHEMA, max_offsets_per_trigger=job["epoch"], include_metadata=True, max_malformed=1.0
    )
    clean = (
        raw.select("_partition AS part", "_offset AS off", "p", "s", "t", "k", "n", "kind", "c")
        .expect_or_quarantine("kind is known", "kind <> 'x'")
        .expect_or_drop("n is counted", "n >= 0")
        .with_watermark("t", "10 seconds", idle_timeout="1 day")
        .named("clean")
    )
    totals = ["count(*) AS c", "sum(n) AS n", "min(s) AS lo", "max(s) AS hi"]
    lake = bayou.Pipeline("chaos", root)
    lake.table("clean", clean)
    lake.table("windows", clean.group_by(bayou.window("t", "1 minute"), "kind").agg(*totals))
    lake.table("by_key", clean.group_by("k").agg(*totals), output_mode="update")
    lake.table("by_kind", clean.group_by("kind").agg(*totals), output_mode="complete")
    calm = clean.where("n % 20 = 0")
    sessions = calm.group_by(bayou.session_window("t", "3 seconds"), "k").agg(*totals)
    lake.table("sessions", sessions, output_mode="update")
    lake.table("firsts", clean.where("n % 10 = 1").drop_duplicates("n", within="1 minute"))
    fours = clean.where("n % 4 = 0").select("part", "off", "t", "k", "n", "kind")
    pairs = fours.where("kind = 'a'").join(fours.where("kind = 'b'"), on="k", how="left", within="5 seconds")
    lake.table("pairs", pairs.select("part", "off", "part_right", "off_right"))
    lake.foreach_batch("told", clean.where("n % 50 = 7"), lambda rows, epoch: keep(root / "told", rows, epoch))
    if job.get("extra"):
        lake.table("extra", clean.where("n % 3 = 0"), start="earliest")
    return lake


def tell(word: str, facts: object = None) -> None:
    """A line for the harness, in one write: two threads tell lines, and `print` writes each of its arguments on its own."""
    os.write(1, f"{word} {json.dumps(facts)}\n".encode())


def answer(query: bayou.Query) -> None:
    # Reads from the handle's number, because a buffered reader that waits would block the end of the interpreter.
    for asked in iter(lambda: os.read(0, 100), b""):
        progress = query.last_progress or {}
        # Heartbeats are not progress.
        points = {p: n for p, n in bayou.testing.crash_points().items() if not p.startswith("heartbeat")}
        doing = {"status": query.status, "epoch": progress.get("batchId"), "passed": points}
        tell("doing", doing)
        if b"stop" in asked:
            query.stop()


def main() -> None:
    job = json.loads(sys.stdin.readline())
    lake = define(job)
    bayou.testing.crash_points()  # the count begins
    for point, nth in job["crash"].items():
        bayou.testing.crash_at(point, nth)
    for point, seconds in job.get("slow", {}).items():
        bayou.testing.slow_at(point, seconds)
    tell("go")
    if job.get("reset"):
        lake.reset(confirm=True)
    query = lake.run(
        trigger=job.get("trigger"),
        full_refresh=bool(job.get("anew")),
        optimize_every=job.get("optimize"),
        progress=False,
        block=False,
    )
    threading.Thread(target=answer, args=(query,), daemon=True).start()
    query.await_termination()
    tell("done", bayou.testing.crash_points())


if __name__ == "__main__":
    main()
