"""Slices of the long campaigns (tests/chaos/churn.py, tests/chaos/soak.py): nothing is left behind, and nothing grows."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

CHAOS = pathlib.Path(__file__).parent.parent / "chaos"


def result(script: str, *options: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, str(CHAOS / script), *options], capture_output=True, text=True, timeout=300)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_queries_that_start_and_stop_again_and_again_leave_nothing_behind(address: str) -> None:
    found = result("churn.py", "--rounds", "500")
    assert found["threadsLeft"] == {} and found["handlesLeft"] == {} and found["temporaryFilesLeft"] == 0
    # Steady within noise: five hundred rounds are to cost less than what one query needs.
    assert found["kilobytesPerRound"] < 200


def test_a_short_soak_is_exact_and_does_its_chores_beside_the_stream(address: str) -> None:
    found = result("soak.py", "--minutes", "0.2", "--rate", "1000")
    assert found["wrong"] == [] and found["failure"] is None and found["warnings"] == []
    assert found["messages"] > 10_000 and found["epochs"] >= 5
