"""The benchmark still runs: its numbers are for `make bench`, not for here."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
BENCH = ROOT / "benches" / "bench.py"


def test_the_benchmark_runs_on_a_small_topic(tmp_path: pathlib.Path) -> None:
    if not os.environ.get("BAYOU_TEST_KAFKA"):
        pytest.fail("BAYOU_TEST_KAFKA is not set: run the tests with `python tests/kafka/server.py run -- pytest`")
    out = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, BENCH, "--smoke", "--json", out], capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert set(found["events_per_second"]) == set("abcdefghijk")
    (once,) = found["rounds"]
    assert {w: once[w]["events"] for w in once} == dict.fromkeys("abcdefghijk", 20_000)
    # The hand-written pipeline is an independent implementation of the same four rules.
    assert once["b"]["rows"] == once["c"]["rows"] == once["k"]["rows"] > 10_000
    assert once["d"]["rows"] > 0
    assert once["e"]["rows"] >= 10 and once["f"]["rows"] > 15_000 and once["g"]["rows"] > 19_000
    assert once["h"]["rows"] >= 100 and once["i"]["rows"] > 15_000
    assert found["peak_mb"]["c"] < 500


def test_the_latency_benchmark_runs_and_a_row_is_in_the_table_within_ten_times_the_bound(
    tmp_path: pathlib.Path,
) -> None:
    out = tmp_path / "latency.json"
    done = subprocess.run(
        [sys.executable, ROOT / "benches" / "latency.py", "--smoke", "--json", out],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [once] = json.loads(out.read_text())
    assert once["table"]["rows"] > 100 and once["loop"]["rows"] > 100
    # Where an epoch waited for a moment without messages, it waited for the end of the run.
    assert once["table"]["p50"] < 1000 and once["loop"]["p50"] < 1000


def test_the_benchmark_of_the_store_runs_and_stays_within_the_budget(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, ROOT / "benches" / "store.py", "--smoke", "--json", out],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for one in json.loads(out.read_text()):
        assert one["requests"] <= 3 + 4 * one["tables"], one


def test_the_bill_counts_what_bayou_asks_of_a_store_in_an_epoch(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, ROOT / "benches" / "bill.py", "--epochs", "12", "--json", out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert [(one["by"], one["tables"]) for one in found] == [("bayou", 1), ("bayou", 3)]
    for one in found:
        assert one["by_kind"]["PUT"] >= 2 + 2 * one["tables"] and one["requests"] <= 3 + 4 * one["tables"], one


def test_the_benchmarks_of_state_and_of_tables_run_and_their_results_are_right() -> None:
    for command in (["state.py", "--groups", "100000", "--epochs", "10"], ["tables.py", "--rows", "20000"]):
        done = subprocess.run(
            [sys.executable, ROOT / "benches" / command[0], *command[1:]], capture_output=True, text=True, timeout=120
        )
        # They compare the rows that they wrote with what they published.
        assert done.returncode == 0, done.stdout + done.stderr
        said = (
            ["100,000 groups", "a restart: peak"]
            if command[0] == "state.py"
            else ["joined:", "texts:", '"files": 10000']
        )
        assert all(s in done.stdout for s in said), done.stdout


def test_the_ceiling_is_measured_with_the_properties_that_the_reader_uses() -> None:
    rust = (ROOT / "src" / "kafka" / "consume" / "native.rs").read_text()
    reader = {}
    for block in ("let defaults = [", "let mut over = vec!["):
        (text,) = re.findall(re.escape(block) + r"(.*?)\n        \];", rust, re.DOTALL)
        reader |= dict(re.findall(r'^\s*\("([a-z.]+)", "([^"]*)"\),', text, re.MULTILINE))
    bench: dict = {}
    exec(re.search(r"^CONSUMER = \{.*?^\}", BENCH.read_text(), re.DOTALL | re.MULTILINE)[0], bench)
    assert reader == bench["CONSUMER"]
