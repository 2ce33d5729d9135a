"""The costs of an epoch on an object store: time, requests by kind, bytes.

    python benches/store.py                     # 1, 3 and 10 tables, 60 epochs each, 50 ms a request
    python benches/store.py --smoke             # 8 epochs: only checks that the benchmark runs
    python benches/store.py --json out.json

The store is the stub of the tests (tests/s3/stub.py), in this process. It answers each request after the latency, and records the request. The
broker is embedded, and an epoch has one message. The epochs between the first and the last seal are counted. Checkpoints of the tables' logs are
counted separately. The costs for a month are those of one epoch a minute, at S3's prices in us-east-1 (0.005 dollars for 1,000 PUT and LIST, 0.0004
for 1,000 GET and HEAD).
"""

import argparse
import collections
import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "s3"))

SEAL = re.compile(r"/epoch/\d{20}\.json$")
WRITES = ("PUT", "CREATE", "LIST", "MULTIPART", "POST")
A_MONTH = 30 * 24 * 60


def is_checkpoint(request) -> bool:
    return "checkpoint" in request.name


def dollars(each: dict[str, float]) -> float:
    """What the requests of an epoch, by kind, cost in a month."""
    return sum(n * A_MONTH / 1000 * (0.005 if kind in WRITES else 0.0004) for kind, n in each.items())


def measure(tables: int, epochs: int, latency: float) -> dict:
    import bayou
    import pyarrow as pa
    from stub import BUCKET, stub

    with stub() as store, bayou.testing.broker() as kafka:
        kafka.create_topic("events", partitions=1)
        kafka.produce("events", pa.table({"i": list(range(epochs))}), progress=False)
        raw = kafka.read_stream("events", schema="i INT", max_offsets_per_trigger=1, starting_offsets="earliest")
        lake = bayou.Pipeline("bench", f"s3://{BUCKET}/lake", storage_options=store.options)
        for n in range(tables):
            lake.table(f"t{n}", raw)
        store.latency = latency
        lake.run(progress=False)
        # The first epoch of a run looks at each table two more times. This is a cost of the start, and not of an epoch.
        seals = [n for n, r in enumerate(store.requests) if r.kind == "CREATE" and SEAL.search(r.name)][1:]
        between, count = store.requests[seals[0] : seals[-1]], len(seals) - 1
        seconds = (store.requests[seals[-1]].at - store.requests[seals[0]].at) / count
    kinds = collections.Counter(r.kind for r in between if not is_checkpoint(r))
    each = {kind: n / count for kind, n in sorted(kinds.items())}
    return {
        "tables": tables,
        "epochs": count,
        "epochs_per_second": 1 / seconds,
        "requests": sum(each.values()),
        "by_kind": each,
        "checkpoint_requests": sum(map(is_checkpoint, between)) / count,
        "bytes": sum(r.size for r in between) / count,
        "dollars_a_month": dollars(each),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="8 epochs")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--latency", type=float, default=50, metavar="MS")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    given = parser.parse_args()
    epochs = 8 if given.smoke else given.epochs
    print(f"\n{given.latency:.0f} ms a request, {epochs} epochs of one message\n")
    print(f"{'tables':>6}{'epochs/s':>10}{'ms':>7}{'requests':>10}{'3 + 4k':>8}{'bytes':>9}{'$/month':>9}  by kind")
    found = []
    for tables in (1, 3, 10):
        found.append(one := measure(tables, epochs, given.latency / 1000))
        kinds = ", ".join(f"{kind} {n:.2f}" for kind, n in one["by_kind"].items())
        speed = one["epochs_per_second"]
        print(
            f"{tables:6}{speed:10.2f}{1000 / speed:7.0f}{one['requests']:10.2f}{3 + 4 * tables:8}{one['bytes']:9,.0f}"
            f"{one['dollars_a_month']:9.2f}  {kinds}",
            flush=True,
        )
    print("\nexpected: three tables under 400 ms; requests at most 3 + 4k, and what the logs' checkpoints read")
    if given.json:
        pathlib.Path(given.json).write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
