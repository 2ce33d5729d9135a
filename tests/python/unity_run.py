"""A process that writes a table of Unity Catalog, and may be ended at a crash point."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def run(job: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, __file__]
    return subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, timeout=120)


def main() -> None:
    import bayou

    job = json.load(sys.stdin)
    if "crash" in job:
        bayou.testing.crash_at(job["crash"])
    raw = bayou.connect(job["address"]).read_stream(job["topic"], schema="i INT", max_offsets_per_trigger=15)
    raw.expect_or_quarantine("not nine", "i % 10 <> 9").write_delta(
        job["target"], storage_options=job["options"], checkpoint_location=job["checkpoint"], progress=False
    )


if __name__ == "__main__":
    main()
