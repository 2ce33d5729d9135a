"""The costs of large joined tables and of outputs with many partitions: CPU seconds and peak memory. Each job has its own process.

    python benches/tables.py                       # all
    python benches/tables.py joined texts          # some
    python benches/tables.py --rows 200000         # smaller

joined      a static Delta table of 5,000,000 rows, to which a row is appended before each of 20 epochs of 50,000 messages
texts       a static Delta table with 2.2 GB of text in one column
partitions  10,000 values of a partition column, 40 rows of each, in one epoch
"""

import argparse
import contextlib
import json
import os
import pathlib
import sys
import tempfile
import time
import uuid
from typing import Any

from state import job

HERE = pathlib.Path(__file__).resolve().parent


def publish(address: str, keys: int, messages: int) -> str:
    import bayou
    import numpy as np
    import pyarrow as pa

    kafka = bayou.connect(address)
    topic = f"tables-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(topic, partitions=2, replication_factor=1)
    for first in range(0, messages, 500_000):
        n = np.arange(first, min(first + 500_000, messages))
        rows = pa.table({"k": pa.array(n * 7919 % keys, pa.int64()), "v": pa.array(n, pa.int64())})
        assert kafka.produce(topic, rows, progress=False).delivered == len(n)
    return topic


def dimension(path: str, rows: int, text: int) -> None:
    """`rows` rows of a key and a text of `text` characters."""
    import deltalake
    import pyarrow as pa

    for first in range(0, rows, 250_000):
        keys = range(first, min(first + 250_000, rows))
        table = pa.table(
            {
                "k": pa.array(keys, pa.int64()),
                "name": [f"{k:0{text}d}" for k in keys],
                "unused": [f"u{k}" for k in keys],
            }
        )
        deltalake.write_deltalake(path, table, mode="append")


def joined(address: str, folder: str, rows: int, epochs: int = 20, text: int = 12) -> dict[str, Any]:
    import bayou
    import deltalake
    import pyarrow as pa

    path = f"{folder}/dim"
    an_epoch = max(min(50_000, rows // 100), 1)
    messages = an_epoch * epochs
    topic = publish(address, rows, messages)
    dimension(path, rows, text)
    raw = bayou.connect(address).read_stream(topic, schema="k BIGINT, v BIGINT", max_offsets_per_trigger=an_epoch)
    stream = raw.join(path, on="k", how="left").select("k", "v", "length(name) AS n")
    row = pa.table({"k": pa.array([-1], pa.int64()), "name": ["x"], "unused": ["x"]})
    began, cpu = time.monotonic(), time.process_time()
    query = stream.write_delta(f"{folder}/out", block=False, progress=False)
    seen = 0
    while query.is_active:
        done = len(query.recent_progress)
        if done > seen and epochs > 1:
            deltalake.write_deltalake(path, row, mode="append")
        seen = done
        time.sleep(0.01)
    query.await_termination()
    wall, cpu = time.monotonic() - began, time.process_time() - cpu
    durations = [p["durationMs"] for p in query.recent_progress]
    found = bayou.read_delta(f"{folder}/out", columns=["n"])
    assert len(found) == messages, (len(found), messages)
    assert set(found["n"]) == {text}, set(found["n"])
    return {
        "seconds": round(wall, 1),
        "cpu_s": round(cpu, 1),
        "read_tables_s": round(sum(d.get("readTables", 0) for d in durations) / 1000, 1),
        "epochs_s": round(sum(d["triggerExecution"] for d in durations) / 1000, 1),
        "epochs": len(durations),
    }


def texts(address: str, folder: str, rows: int) -> dict[str, Any]:
    # 2.2 GB: more than 32-bit offsets can address.
    return joined(address, folder, rows * 11 // 25, epochs=1, text=1000)


def partitions(address: str, folder: str, rows: int) -> dict[str, Any]:
    import bayou

    keys, messages = min(10_000, rows), 40 * min(10_000, rows)
    topic = publish(address, keys, messages)
    raw = bayou.connect(address).read_stream(topic, schema="k BIGINT, v BIGINT")
    cpu = time.process_time()
    raw.write_delta(f"{folder}/out", partition_by="k", progress=False)
    return {"cpu_s": round(time.process_time() - cpu, 1), "files": len(list(pathlib.Path(folder, "out").glob("k=*")))}


JOBS = {"joined": joined, "texts": texts, "partitions": partitions}


def main() -> int:
    if sys.argv[1:2] == ["--job"]:
        what, address, folder, rows = sys.argv[2:6]
        print(json.dumps(JOBS[what](address, folder, int(rows))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help=", ".join(JOBS))
    parser.add_argument("--rows", type=int, default=5_000_000)
    given = parser.parse_args()
    chosen = given.what or list(JOBS)
    if wrong := set(chosen) - set(JOBS):
        parser.error(f"there is no {', '.join(wrong)}")
    with contextlib.ExitStack() as stack:
        address = os.environ.get("BAYOU_TEST_KAFKA")
        if not address:
            sys.path.insert(0, str(HERE.parent / "tests" / "kafka"))
            from server import Server

            address = stack.enter_context(Server()).plain
        for what in chosen:
            with tempfile.TemporaryDirectory(prefix="bayou-tables-") as folder:
                found, peak, _ = job(__file__, what, address, folder, str(given.rows))
            print(f"{what}: peak {peak:,.0f} MB, {json.dumps(found)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
