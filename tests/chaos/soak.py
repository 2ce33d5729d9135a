"""A long run at a steady rate: memory, threads, file handles, epochs and lag over time, and exact tables at the end.

    python tests/kafka/server.py run -- python tests/chaos/soak.py --minutes 10 --rate 2000

prints a block of JSON, and with --markdown a table for a report. A producer in a separate process sends at the given rate. A pipeline on an
interval writes an append table whose small files are joined, an update and a complete table, windows and a quarantine table. Old epochs are
cleaned up only if there are more than 100 newer ones and they are a week old. So the campaign regularly sets the clock in the seals before the
last 100 back by weeks.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import select
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from typing import Any

import bayou
import confluent_kafka
import deltalake

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))
from churn import handles, memory, slope, threads
from delta_replay import rows as replayed

SCHEMA = "n BIGINT, k STRING, time TIMESTAMP"
START = 1_704_067_200
WEEKS = 30 * 86_400 * 1_000_000
BAD, ODD = 997, 499  # one message of so many is not JSON; has an unknown kind
PARTITIONS = 2


def value(n: int) -> bytes:
    """The n-th message. Each message is ten milliseconds after the previous one."""
    if n % BAD == BAD - 1:
        return b"{"
    when = START + n // 100
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when))
    kind = "odd" if n % ODD == ODD - 1 else f"k{n % 50}"
    return b'{"n":%d,"k":"%s","time":"%s.%02dZ"}' % (n, kind.encode(), text.encode(), n % 100)


def produce(address: str, topic: str, rate: float, seconds: float) -> int:
    """Sends at a steady rate, in order in each partition, for `seconds` or until standard input ends. Returns the number of messages."""
    producer = confluent_kafka.Producer({"bootstrap.servers": address, "linger.ms": 20, "enable.idempotence": True})
    began, n = time.monotonic(), 0
    while time.monotonic() - began < seconds and not select.select([sys.stdin], [], [], 0)[0]:
        while n < (time.monotonic() - began) * rate:
            producer.produce(topic, value(n), partition=n % PARTITIONS)
            n += 1
        producer.poll(0)
        time.sleep(0.01)  # the rate must be steady
    assert producer.flush(60) == 0
    return n


def age(at: pathlib.Path) -> None:
    """Makes the seals before the last 100 weeks old. The run that wrote a seal never reads it again."""
    seals = sorted((at / "epoch").glob("*.json"))
    for seal in seals[:-100]:
        # The file is changed in place, and only if it exists. Clean-up may remove it at any moment, and renaming a new file to its name would
        # create it again.
        with contextlib.suppress(FileNotFoundError), seal.open("r+b") as file:
            text = file.read()
            clock = json.loads(text)["clock"]
            if clock > time.time() * 1e6 - WEEKS / 2:
                # The number of digits does not change, and there is one write. So a reader sees the old or the new number.
                os.pwrite(
                    file.fileno(), str(clock - WEEKS).encode(), text.index(b'"clock":%d' % clock) + len(b'"clock":')
                )


def expected(count: int) -> dict[str, Any]:
    good = [n for n in range(count) if n % BAD != BAD - 1 and n % ODD != ODD - 1]
    by_k: dict[str, list[int]] = {}
    minutes: dict[int, list[int]] = {}
    for n in good:
        by_k.setdefault(f"k{n % 50}", []).append(n)
        minutes.setdefault(n // 6000, []).append(n)
    # The watermark: the lowest of the highest event times of the partitions, minus ten seconds.
    rows = [n for n in range(count) if n % BAD != BAD - 1 and n % ODD != ODD - 1]
    highest = min(max(n for n in rows if n % PARTITIONS == p) for p in range(PARTITIONS))
    closed = max(0, (highest - 1000) // 6000)
    return {
        "good": good,
        "by_k": {k: (len(v), sum(v)) for k, v in by_k.items()},
        "minutes": {m: (len(v), sum(v)) for m, v in minutes.items() if m < closed},
        "quarantined": sum(n % BAD == BAD - 1 or n % ODD == ODD - 1 for n in range(count)),
    }


def wrong(root: pathlib.Path, count: int) -> list[str]:
    def read(table: str) -> list[dict[str, Any]]:
        return replayed(root / table)

    out, want = [], expected(count)
    found = sorted(r["n"] for r in read("rows"))
    if found != want["good"]:
        missing, twice = set(want["good"]) - set(found), [n for n, c in Counter(found).items() if c > 1]
        out.append(f"rows: {len(found)}, missing {sorted(missing)[:5]}, twice {twice[:5]}")
    if {r["k"]: (r["c"], r["s"]) for r in read("by_k")} != want["by_k"]:
        out.append("by_k differs")
    if [(r["c"], r["s"]) for r in read("total")] != [(len(want["good"]), sum(want["good"]))]:
        out.append(f"total: {read('total')}")
    minutes = {int(r["window_start"].timestamp() - START) // 60: (r["c"], r["s"]) for r in read("minutes")}
    if minutes != want["minutes"] or len(read("minutes")) != len(minutes):
        out.append(f"minutes: {len(minutes)} windows of {len(want['minutes'])}")
    if len(read("soak_quarantine")) != want["quarantined"]:
        out.append(f"quarantine: {len(read('soak_quarantine'))} of {want['quarantined']}")
    return out


def soak(address: str, minutes: float, rate: float, every: float, trigger: str, epochs: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bayou-soak-") as folder:
        root = pathlib.Path(folder)
        topic = f"soak-{uuid.uuid4().hex[:8]}"
        kafka = bayou.connect(address)
        kafka.create_topic(topic, partitions=PARTITIONS, replication_factor=1)
        clean = (
            kafka.read_stream(topic, schema=SCHEMA)
            .expect_or_quarantine("kind is known", "k <> 'odd'")
            .with_watermark("time", "10 seconds")
            .named("clean")
        )
        lake = bayou.Pipeline("soak", root)
        sums = ("count(*) AS c", "sum(n) AS s")
        lake.table("rows", clean)
        lake.table("by_k", clean.group_by("k").agg(*sums), output_mode="update")
        lake.table("total", clean.group_by().agg(*sums))
        lake.table("minutes", clean.group_by(bayou.window("time", "1 minute")).agg(*sums))
        command = [sys.executable, __file__, "--produce", address, topic, str(rate), str(minutes * 60)]
        producer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert producer.stdin
        began = time.monotonic()
        query = lake.run(trigger=trigger, block=False, progress=False, optimize_every=20)
        samples: list[dict[str, float]] = []
        at = root / "_bayou/soak/1"
        cleaned = 0
        while producer.poll() is None:
            time.sleep(every)  # between two samples
            if not query.is_active:
                break
            progress = query.last_progress or {}
            lag = [s["lag"] for s in progress.get("sources", [])]
            samples.append(
                {
                    "seconds": round(time.monotonic() - began, 1),
                    "megabytes": memory() / 2**20,
                    "threads": sum(threads().values()),
                    "handles": sum(handles().values()),
                    "epoch": progress.get("batchId", 0),
                    "lag": max([float(x) for x in lag], default=0.0),
                }
            )
            age(at)
            if epochs and progress.get("batchId", 0) >= epochs:
                break
        producer.stdin.close()
        producer.stdin = None
        said, _ = producer.communicate(timeout=120)
        count = int(said)
        seals = sorted(int(p.name[:20]) for p in (at / "epoch").glob("*.json"))
        query.stop()
        failure = query.exception()
        warnings = query.warnings
        lake.run(progress=False)
        cleaned = seals[0] if seals else 0
        history = Counter(h["operation"] for h in deltalake.DeltaTable(str(root / "rows")).history())
        hint = root / "rows/_delta_log/_last_checkpoint"
        half = samples[len(samples) // 2 :]
        line = lambda name: slope([(s["seconds"] / 60, s[name]) for s in half])  # noqa: E731
        span = half[-1]["seconds"] - half[0]["seconds"] if len(half) > 1 else 1
        return {
            "minutes": round((samples[-1]["seconds"] if samples else 0) / 60, 1),
            "rate": rate,
            "messages": count,
            "epochs": seals[-1] + 1 if seals else 0,
            "epochsPerSecond": round((half[-1]["epoch"] - half[0]["epoch"]) / span, 2),
            "megabytes": [
                round(samples[0]["megabytes"], 1),
                round(half[0]["megabytes"], 1),
                round(half[-1]["megabytes"], 1),
            ],
            "megabytesMost": round(max(s["megabytes"] for s in samples), 1),
            "megabytesPerMinute": round(line("megabytes"), 3),
            "kilobytesPerEpoch": round(slope([(s["epoch"], s["megabytes"] * 1024) for s in half]), 1),
            "threads": [int(half[0]["threads"]), int(half[-1]["threads"]), round(line("threads"), 3)],
            "handles": [int(half[0]["handles"]), int(half[-1]["handles"]), round(line("handles"), 3)],
            "lagMost": max(s["lag"] for s in half),
            "epochsCleanedUp": cleaned,
            "filesOfRows": len(deltalake.DeltaTable(str(root / "rows")).file_uris()),
            "optimized": history.get("OPTIMIZE", 0),
            "checkpointAtVersion": json.loads(hint.read_text())["version"] if hint.is_file() else None,
            "warnings": warnings,
            "failure": None if failure is None else str(failure),
            "wrong": wrong(root, count),
        }


def markdown(r: dict[str, Any]) -> str:
    rows = [
        ("minutes, messages a second", f"{r['minutes']:g}, {r['rate']:g}"),
        ("messages, epochs", f"{r['messages']:,}, {r['epochs']:,}"),
        ("memory at the start, half-way, at the end (MB)", ", ".join(map(str, r["megabytes"]))),
        ("memory, slope over the second half (MB a minute)", r["megabytesPerMinute"]),
        ("threads half-way, at the end; slope a minute", ", ".join(map(str, r["threads"]))),
        ("file handles half-way, at the end; slope a minute", ", ".join(map(str, r["handles"]))),
        ("most offsets behind, second half", f"{r['lagMost']:g}"),
        (
            "log checkpoint at version; times that files were joined; files left",
            f"{r['checkpointAtVersion']}; {r['optimized']}; {r['filesOfRows']}",
        ),
        ("old epochs cleaned up", r["epochsCleanedUp"]),
        ("differences in the tables", len(r["wrong"])),
    ]
    return "\n".join(["| soak | |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--produce"]:
        print(produce(sys.argv[2], sys.argv[3], float(sys.argv[4]), float(sys.argv[5])))
        sys.exit(0)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=2000)
    parser.add_argument("--every", type=float, default=5, help="seconds between two looks")
    parser.add_argument("--epochs", type=int, default=0, help="enough, before the minutes are over")
    parser.add_argument("--trigger", default="1 second", help="a shorter one has as many epochs in less time")
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args()
    result = soak(os.environ["BAYOU_TEST_KAFKA"], given.minutes, given.rate, given.every, given.trigger, given.epochs)
    print(json.dumps(result, indent=1))
    if given.markdown:
        print(markdown(result))
    sys.exit(1 if result["wrong"] or result["failure"] else 0)
