"""Slices of the long campaigns (tests/chaos/churn.py, tests/chaos/soak.py): nothing is left behind, and nothing grows."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "chaos"))

from bounds import KILOBYTES_PER_ROUND, MEGABYTES_PER_MINUTE

CHAOS = pathlib.Path(__file__).parent.parent / "chaos"


def result(script: str, *options: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, str(CHAOS / script), *options], capture_output=True, text=True, timeout=600)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_queries_that_start_and_stop_again_and_again_leave_nothing_behind(address: str) -> None:
    found = result("churn.py", "--rounds", "400")
    assert found["threadsLeft"] == {} and found["handlesLeft"] == {} and found["temporaryFilesLeft"] == 0
    # Less than one buffer of any reader or writer a start; twice what the campaign asks for, on a machine that is busy. With fewer rounds,
    # memory that is kept for reuse is more than that.
    assert found["kilobytesPerRound"] < 2 * KILOBYTES_PER_ROUND


def test_a_short_soak_is_exact_and_does_its_chores_beside_the_stream(address: str) -> None:
    options = {"--epochs": "300", "--rate": "1000", "--every": "0.5", "--trigger": "100 ms"}
    found = result("soak.py", *(word for option in options.items() for word in option))
    assert found["wrong"] == [] and found["failure"] is None and found["warnings"] == []
    assert found["messages"] > 10_000 and found["epochs"] >= 300
    assert found["epochsCleanedUp"] > 0 and found["optimized"] > 0 and found["checkpointAtVersion"]
    # The campaign has an epoch a second. Here pools are still being filled, by some 100 KB an epoch, and the machine may be busy. This test finds
    # memory that keeps each epoch's rows. The campaign finds smaller leaks.
    assert found["kilobytesPerEpoch"] < 25 * MEGABYTES_PER_MINUTE * 1024 / 60
    # How many of a pool's threads are there depends on how busy the machine is; one more with each epoch would be 200.
    assert found["threads"][1] - found["threads"][0] < 40
    assert found["handles"][1] - found["handles"][0] < 40
