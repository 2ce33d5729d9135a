"""How much memory live groups take, whether epochs get slower when the number of groups grows, and how much a restart takes.

    python benches/state.py                       # 5,000,000 groups of (window, string key): count, sum, min, max
    python benches/state.py --groups 200000       # smaller
    python benches/state.py --memory-limit "300 MB"   # the rest of the state is on local disk

Every message makes a new group, and all windows stay open. Epochs have the same size. The benchmark compares the times of the epochs (from
`durationMs`) in the first and the last fifth of the run, and adds up the sizes of the state files in the checkpoint. Then a second run, in a
separate process, loads the state and reads one more message.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent


def publish(address: str, topic: str, groups: int) -> None:
    import bayou
    import numpy as np
    import pyarrow as pa

    kafka = bayou.connect(address)
    if topic not in kafka.topics().column("topic"):
        kafka.create_topic(topic, partitions=2, replication_factor=1)
    start = time.time_ns() // 1000 // 86_400_000_000 * 86_400_000_000
    for first in range(0, groups, 500_000):
        n = np.arange(first, min(first + 500_000, groups))
        rows = pa.table(
            {
                "time": pa.array(start + n % 3_000_000, pa.timestamp("us", "UTC")),
                "device": pa.array([f"device-{i:09d}" for i in n]),
                "value": pa.array(n, pa.int64()),
            }
        )
        assert kafka.produce(topic, rows, progress=False).delivered == len(n)


def job(script: str, *arguments: str) -> tuple[dict[str, Any], float, float]:
    """Runs a job of a benchmark in a separate process. Returns its output, its peak memory in MB, and its CPU seconds."""
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen([sys.executable, script, "--job", *arguments], stdout=out)
        # Only wait4 returns the resources of this one child.
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0, child.returncode
        out.seek(0)
        return json.loads(out.read().splitlines()[-1]), usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def run(address: str, topic: str, table: str, epoch: int, mode: str, limit: str | None) -> None:
    import bayou

    raw = bayou.connect(address).read_stream(
        topic, schema="time TIMESTAMP, device STRING, value BIGINT", max_offsets_per_trigger=epoch
    )
    timed = raw.with_watermark("time", "10 seconds")
    groups = timed.group_by(bayou.window("time", "1 day"), "device").agg(
        "count(*) AS n", "sum(value) AS total", "min(value) AS low", "max(value) AS high"
    )
    query = groups.write_delta(table, output_mode=mode, memory_limit=limit, progress=False)
    last = query.last_progress["stateOperators"][0]
    times = [p["durationMs"]["triggerExecution"] for p in query.recent_progress]
    print(json.dumps({"groups": last["numRowsTotal"], "state_mb": last["memoryUsedBytes"] >> 20, "epochs_ms": times}))


def main() -> int:
    if sys.argv[1:2] == ["--job"]:
        address, topic, table, epoch, mode, limit = sys.argv[2:8]
        run(address, topic, table, int(epoch), mode, limit or None)
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=5_000_000)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--mode", default="append", choices=["append", "update"])
    parser.add_argument("--memory-limit", default="")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        address = os.environ.get("BAYOU_TEST_KAFKA")
        if not address:
            sys.path.insert(0, str(HERE.parent / "tests" / "kafka"))
            from server import Server

            address = stack.enter_context(Server()).plain
        topic = f"state-{uuid.uuid4().hex[:8]}"
        code = "import sys; sys.path.insert(0, sys.argv[1]); import state; state.publish(sys.argv[2], sys.argv[3], int(sys.argv[4]))"
        subprocess.run([sys.executable, "-c", code, str(HERE), address, topic, str(given.groups)], check=True)
        with tempfile.TemporaryDirectory(prefix="bayou-state-") as folder:
            table = str(pathlib.Path(folder) / "groups")
            epoch = -(-given.groups // given.epochs)
            arguments = [address, topic, table, str(epoch), given.mode, given.memory_limit]
            found, peak, cpu = job(__file__, *arguments)
            files = list(pathlib.Path(table, "_bayou").glob("*/*/state/*/*.arrow"))
            written = sum(f.stat().st_size for f in files)
            seals = sorted(pathlib.Path(table, "_bayou").glob("*/*/epoch/*.json"))
            [state] = json.loads(seals[-1].read_text())["state"].values()
            subprocess.run([sys.executable, "-c", code, str(HERE), address, topic, "1"], check=True)
            _, peak_again, cpu_again = job(__file__, *arguments)
        subprocess.run(
            [
                sys.executable,
                "-c",
                "import bayou, sys; bayou.connect(sys.argv[1]).delete_topic(sys.argv[2])",
                address,
                topic,
            ],
            check=False,
        )
    times = found["epochs_ms"]
    fifth = max(len(times) // 5, 1)
    first, last = statistics.median(times[:fifth]), statistics.median(times[-fifth:])
    print(f"{found['groups']:,} groups, mode {given.mode}, {len(times)} epochs of {epoch:,} messages")
    print(
        f"state in memory {found['state_mb']:,} MB, peak of the process {peak:,.0f} MB (expected: 2,048 at 5,000,000), {cpu:.1f} CPU s"
    )
    ratio = peak_again / peak
    print(
        f"a restart: peak {peak_again:,.0f} MB, {ratio:.2f} of the run before (expected: 1.3 at most), {cpu_again:.1f} CPU s"
    )
    print(f"an epoch took {first:,.0f} ms at first, {last:,.0f} ms at the end: {last / first:.2f} (expected: flat)")
    names = len(state["increments"]) + (state["base"] is not None)
    print(f"state files: {written >> 20:,} MB written in {len(files)} files, of which the last seal names {names}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
