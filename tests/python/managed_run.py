"""A process that writes a table through Spark Connect, and may be ended at a crash point, or before or after Spark's own write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

COMMAND = [sys.executable, __file__]


def run(job: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(COMMAND, input=json.dumps(job), capture_output=True, text=True, timeout=180)


def ended(code: int, text: str) -> None:
    print(text, file=sys.stderr, flush=True)
    os._exit(code)


def main() -> None:
    import bayou
    from bayou import _managed
    from pyspark.sql.connect.session import SparkSession

    job = json.load(sys.stdin)
    spark = SparkSession.builder.remote(job["spark"]).getOrCreate()
    point, nth = job.get("crash", ""), job.get("nth", 2)
    if point.startswith("write."):
        write, count = _managed._write, 0

        def dying(spark: Any, asked: dict[str, Any]) -> None:
            nonlocal count
            # Those of the table itself, and not of its quarantine.
            count += not asked["table"].endswith("_quarantine`")
            if asked["table"].endswith("_quarantine`"):
                return write(spark, asked)
            if count == nth and point == "write.before":
                ended(9, f"crash point {point}")
            write(spark, asked)
            if count == nth and point == "write.after":
                ended(9, f"crash point {point}")
            return None

        _managed._write = dying
    elif point:
        bayou.testing.crash_at(point, nth)
    raw = bayou.connect(job["address"]).read_stream(job["topic"], schema="i INT", max_offsets_per_trigger=20)
    stream = raw.expect_or_quarantine("not nine", "i <> 9")
    if job["mode"] != "append":
        stream = stream.group_by("i % 3 AS k").agg("count(*) AS n", "sum(i) AS total")
    stream.write_delta(
        job["target"],
        output_mode=job["mode"],
        trigger=job.get("trigger"),
        checkpoint_location=job["checkpoint"],
        spark=spark,
        query_name="q",
        progress=False,
    )


if __name__ == "__main__":
    main()
