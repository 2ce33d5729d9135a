"""The benchmark still runs: its numbers are for `make bench`, not for here."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

BENCH = pathlib.Path(__file__).parents[2] / "benches" / "bench.py"


def test_the_benchmark_runs_on_a_small_topic(tmp_path: pathlib.Path) -> None:
    if not os.environ.get("BAYOU_TEST_KAFKA"):
        pytest.fail("BAYOU_TEST_KAFKA is not set: run the tests with `python tests/kafka/server.py run -- pytest`")
    out = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, BENCH, "--smoke", "--json", out], capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert set(found["events_per_second"]) == {"a", "b", "c", "d"}
    (once,) = found["rounds"]
    assert {w: once[w]["events"] for w in once} == dict.fromkeys("abcd", 20_000)
    # The hand-written pipeline is an independent implementation of the same four rules.
    assert once["b"]["rows"] == once["c"]["rows"] > 10_000
    assert once["d"]["rows"] > 0
    assert found["peak_mb"]["c"] < 500
