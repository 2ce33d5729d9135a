"""All campaigns, one after the other, and the page that tells what came of them.

    python tests/chaos/campaigns.py --seed 1                         # all: about an hour
    python tests/chaos/campaigns.py --seed 1 --only kills,powercut   # the others' figures are kept as they are

Each campaign is a program of its own that prints its figures as JSON, or a test that prints a line with its counts. They are kept in
docs/reliability-report.json, and docs/reliability-report.md is made of them.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any

import report

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
PAGE = ROOT / "docs" / "reliability-report.md"


@dataclass
class Campaign:
    title: str
    what: str
    command: list[str]
    # These find the figures in what a test prints.
    find: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


def script(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(HERE / f"{name}.py"), *arguments]


def campaigns(seed: int) -> dict[str, Campaign]:
    rust = ["cargo", "test", "--release", "--locked", "--test", "it", "--"]
    every = {"BAYOU_TEST_FAULTS": "all", "BAYOU_TEST_PAUSES": "all"}
    return {
        "kills": Campaign("Kills", "", script("chaos", "--seed", str(seed))),
        "store": Campaign(
            "A store that fails",
            "Every durable call of a run in five epochs, in each of nine ways; then a restart (tests/it/storage_faults.rs).",
            [*rust, "whatever_way", "--nocapture"],
            {"faults": r"(\d+) faults, \d+ of which", "runs that ended with an error": r"\d+ faults, (\d+) of which"},
            every,
        ),
        "powercut": Campaign(
            "Power cuts",
            "Runs are recorded call by call; the disk is worked out as a cut between two calls may leave it, strictly and with luck.",
            script("powercut", "--seed", str(seed), "--cuts", "2000"),
        ),
        "brokers": Campaign(
            "Brokers that die, hang and lose leadership",
            "Three Kafka nodes, a producer and a pipeline at work all the while.",
            script("brokers", "--seed", str(seed), "--rounds", "24"),
        ),
        "requests": Campaign(
            "Errors in answer to Kafka's requests",
            "librdkafka's mock says every error to every request (tests/it/kafka_faults.rs).",
            [*rust, "kafka_faults", "--nocapture", "--test-threads", "1"],
            {"cases": r"(\d+) cases"},
            every,
        ),
        "pauses": Campaign(
            "Two runners and other writers",
            "A runner is paused at a crash point while another one goes on, on disk and on an S3 API; Spark and deltalake write in between.",
            ["pytest", "tests/python/test_takeover.py", "tests/python/test_other_writers.py"],
            {"tests passed": r"(\d+) passed", "tests failed": r"(\d+) failed"},
            every,
        ),
        "stops": Campaign(
            "The stop button",
            "SIGINT in each state, and an exact run after it.",
            script("stops", "--rounds", "6", "--seed", str(seed)),
        ),
        "churn": Campaign(
            "Starts and stops",
            "Queries of all kinds in one process.",
            script("churn", "--rounds", "500", "--seed", str(seed)),
        ),
        "soak": Campaign("A long run", "A steady rate of messages.", script("soak", "--minutes", "10")),
    }


def figures(campaign: Campaign, said: str) -> dict[str, Any]:
    if campaign.find:
        found = {name: re.findall(pattern, said) for name, pattern in campaign.find.items()}
        return {name: sum(map(int, numbers)) for name, numbers in found.items()}
    start = said.find("{")
    return json.JSONDecoder().raw_decode(said[start:])[0] if start >= 0 else {}


def run(name: str, campaign: Campaign, seed: int) -> dict[str, Any]:
    print(f"== {campaign.title}", flush=True)
    began = time.monotonic()
    command, environment = campaign.command, os.environ | campaign.environment
    # A broker for each: what one leaves behind is not the next one's.
    command = [sys.executable, str(ROOT / "tests" / "kafka" / "server.py"), "run", "--", *command]
    with tempfile.TemporaryDirectory() as folder:
        kept = pathlib.Path(folder) / "report.md"
        if name == "kills":
            command += ["--report", str(kept)]
        # What Rust's tests count they print to the other stream.
        errors = subprocess.STDOUT if campaign.find else None
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace"
        )
        if done.returncode:
            print(done.stdout[-10_000:], flush=True)
        said = kept.with_suffix(".json").read_text() if kept.with_suffix(".json").exists() else done.stdout
    return {
        "seed": seed,
        "ok": done.returncode == 0,
        "on": time.strftime("%Y-%m-%d"),
        "seconds": round(time.monotonic() - began),
        "figures": figures(campaign, said),
    }


def plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items()) or "none"
    if isinstance(value, list):
        return "; ".join(map(plain, value)) or "none"
    return f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def rows(value: dict[str, Any], before: str = "") -> list[str]:
    out = []
    for name, item in value.items():
        if isinstance(item, dict) and any(isinstance(v, dict) for v in item.values()):
            out += rows(item, f"{before}{name}: ")
        else:
            out.append(f"| {before}{name} | {plain(item)} |")
    return out


def page(results: dict[str, Any], of: dict[str, Campaign]) -> str:
    lines = [
        "# Reliability report",
        "",
        "Written by `make chaos` (tests/chaos/campaigns.py); what is promised is in",
        "[reliability.md](reliability.md).",
        "",
    ]
    lines += ["| campaign | seed | day | seconds | went well |", "|---|---|---|---|---|"]
    known = [(name, c) for name, c in of.items() if name in results]
    for name, campaign in known:
        r = results[name]
        lines.append(
            f"| {campaign.title} | {r['seed']} | {r['on']} | {r['seconds']:,} | {'yes' if r['ok'] else 'NO'} |"
        )
    for name, campaign in known:
        if name == "kills":
            continue
        shown = (
            " ".join(["python", *campaign.command[1:]])
            if campaign.command[0] == sys.executable
            else " ".join(campaign.command)
        )
        lines += [
            "",
            f"## {campaign.title}",
            "",
            campaign.what,
            "",
            f"`{shown.replace(str(ROOT) + '/', '')}`",
            "",
            "| | |",
            "|---|---|",
        ]
        lines += rows(results[name]["figures"])
    text = "\n".join(lines) + "\n"
    if "kills" in results:
        text += "\n" + report.markdown(results["kills"]["figures"])
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    parser.add_argument("--only", default="", help="names, with commas between")
    given = parser.parse_args()
    of = campaigns(given.seed)
    chosen = given.only.split(",") if given.only else list(of)
    if wrong := [c for c in chosen if c not in of]:
        parser.error(f"no such campaign: {', '.join(wrong)}; there are {', '.join(of)}")
    kept = PAGE.with_suffix(".json")
    results: dict[str, Any] = {}
    for name in chosen:
        found = run(name, of[name], given.seed)
        # Read anew: another one may have written to it meanwhile.
        results = (json.loads(kept.read_text()) if kept.exists() else {}) | {name: found}
        kept.write_text(json.dumps(results, indent=1) + "\n")
        PAGE.write_text(page(results, of))
    return 0 if all(results[name]["ok"] for name in chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
