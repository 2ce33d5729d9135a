"""All campaigns, one after the other, and the page with their results.

    python tests/chaos/campaigns.py --seed 1                         # all: about an hour and a half
    python tests/chaos/campaigns.py --seed 1 --only kills,powercut   # the figures of the others are kept

Each campaign is a separate program that prints its figures as JSON, or a test that prints a line with its counts. The bounds of the figures
are in bounds.py. If a figure is outside of its bounds or missing, the exit code is 1. The figures are kept in docs/reliability-report.json, and
docs/reliability-report.md is written from them.
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

import bounds
import report

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
PAGE = ROOT / "docs" / "reliability-report.md"


@dataclass
class Campaign:
    title: str
    what: str
    command: list[str]
    # Patterns that find the figures in the output of a test.
    find: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    # Campaigns without a seed try all cases, or use their own seed.
    seeded: bool = True

    def shown(self) -> str:
        """The command, as a user can type it."""
        python = self.command[0] == sys.executable
        words = [*(f"{k}={v}" for k, v in self.environment.items()), "python tests/kafka/server.py run --"]
        words += ["python", *self.command[1:]] if python else self.command
        return " ".join(words).replace(str(ROOT) + "/", "")


# Numbers of tests in the last lines of cargo and of pytest. If no test ran, there is no such line, or the line says 0.
RUST = {"tests passed": r"test result: \w+\. (\d+) passed"}
PYTEST = {
    "tests passed": r"(\d+) passed.* in [\d.]+s",
    "tests failed": r"(?:(\d+) failed, )?\d+ passed.* in [\d.]+s",
    "tests skipped": r"\d+ passed(?:, (\d+) skipped)?.* in [\d.]+s",
}


def script(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(HERE / f"{name}.py"), *arguments]


def campaigns(seed: int) -> dict[str, Campaign]:
    rust = ["cargo", "test", "--release", "--locked", "--test", "it", "--"]
    faults, pauses = {"BAYOU_TEST_FAULTS": "all"}, {"BAYOU_TEST_PAUSES": "all"}
    return {
        "kills": Campaign("Kills", "", script("chaos", "--seed", str(seed))),
        "store": Campaign(
            "A store that fails",
            "Every call of a run in five epochs, reads and listings too, in thirteen ways; uploads, and what happens beside the stream; then a restart "
            "(tests/it/storage_faults.rs).",
            [*rust, "whatever_way", "--nocapture"],
            RUST
            | {"faults": r"(\d+) faults, \d+ of which", "runs that ended with an error": r"\d+ faults, (\d+) of which"},
            faults,
            seeded=False,
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
        "upgrade": Campaign(
            "A cluster that is upgraded from Kafka 3.9 to Kafka 4",
            "Node after node on the data as they are, other faults before and after, a producer and a pipeline at work all the while.",
            script("brokers", "--seed", str(seed), "--rounds", "4", "--upgrade"),
        ),
        "topics": Campaign(
            "Topics as outputs",
            "Three Kafka nodes that die and hang, runs that are killed at each step of a transaction, and a reader of committed messages all the while.",
            script("transactions", "--seed", str(seed), "--kills", "100"),
        ),
        "faults": Campaign(
            "What Kafka loses",
            "Three nodes whose logs lose their beginning, their end, or all; transactions, compaction, new partitions; between runs and during one.",
            ["pytest", "tests/python/test_kafka_faults.py"],
            PYTEST,
            faults,
            seeded=False,
        ),
        "requests": Campaign(
            "Errors in answer to Kafka's requests",
            "librdkafka's mock says every error to every request (tests/it/kafka_faults.rs).",
            [*rust, "kafka_faults", "--nocapture", "--test-threads", "1"],
            RUST | {"cases": r"(\d+) cases"},
            faults,
            seeded=False,
        ),
        "pauses": Campaign(
            "Two runners and other writers",
            "A runner is paused at a crash point while another one goes on, on disk and on an S3 API; Spark and deltalake write in between.",
            ["pytest", "tests/python/test_takeover.py", "tests/python/test_other_writers.py"],
            PYTEST,
            pauses,
            seeded=False,
        ),
        "managed": Campaign(
            "Tables that Spark writes",
            "A run is killed before and after each call of Spark, and at each step of an epoch; then it is run again.",
            ["pytest", "tests/python/test_managed.py", "-k", "killed or appended_once or merged_by"],
            PYTEST,
            {"BAYOU_TEST_KILLS": "all"},
            seeded=False,
        ),
        "stops": Campaign(
            "The stop button",
            "SIGINT in each state, and an exact run after it. "
            f"To be answered in {bounds.P99} ms for 99 of 100, and in {bounds.MOST} ms always, also while a store takes its time.",
            script("stops", "--rounds", "6", "--seed", str(seed)),
        ),
        "churn": Campaign(
            "Starts and stops",
            f"Queries of all kinds in one process, which are to leave nothing, and at most {bounds.KILOBYTES_PER_ROUND:g} KB each.",
            script("churn", "--rounds", "500", "--seed", str(seed)),
        ),
        "soak": Campaign(
            "A long run",
            "A steady rate of messages. In its second half memory is to grow by no more than "
            f"{bounds.MEGABYTES_PER_MINUTE:g} MB a minute, and threads and file handles by "
            f"{bounds.THREADS_PER_MINUTE:g} and {bounds.HANDLES_PER_MINUTE:g}.",
            script("soak", "--minutes", "30"),
            seeded=False,
        ),
    }


def figures(campaign: Campaign, said: str) -> dict[str, Any]:
    """The figures that are found. A figure that is not found is left out, and not set to 0."""
    if campaign.find:
        found = {name: re.findall(pattern, said) for name, pattern in campaign.find.items()}
        return {name: sum(int(n or 0) for n in numbers) for name, numbers in found.items() if numbers}
    start = said.find("{")
    try:
        return json.JSONDecoder().raw_decode(said[max(0, start) :])[0]
    except ValueError:
        return {}


def commit() -> str:
    """The tested commit, and whether files are changed. The report itself does not count, because each campaign changes it."""
    report_files = [f":!docs/{PAGE.with_suffix(ending).name}" for ending in (".md", ".json")]
    git = lambda *words: subprocess.run(  # noqa: E731
        ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        changed = git("status", "--porcelain", "--", ".", *report_files)
        return git("rev-parse", "--short", "HEAD") + (", changed" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "not known"


def run(name: str, campaign: Campaign, seed: int) -> dict[str, Any]:
    print(f"== {campaign.title}", flush=True)
    began, of = time.monotonic(), commit()
    command, environment = campaign.command, os.environ | campaign.environment
    # A separate broker for each campaign, so that no campaign sees the leftovers of a different one.
    command = [sys.executable, str(ROOT / "tests" / "kafka" / "server.py"), "run", "--", *command]
    with tempfile.TemporaryDirectory() as folder:
        kept = pathlib.Path(folder) / "report.md"
        if name == "kills":
            command += ["--report", str(kept)]
        # Rust's tests print their counts to stderr.
        errors = subprocess.STDOUT if campaign.find else None
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace"
        )
        if done.returncode:
            print(done.stdout[-10_000:], flush=True)
        said = kept.with_suffix(".json").read_text() if kept.with_suffix(".json").exists() else done.stdout
    found = figures(campaign, said)
    missed = bounds.missed(name, found)
    if done.returncode:
        missed.append(f"exit code {done.returncode}")
    for text in missed:
        print(f"MISSED {name}: {text}", flush=True)
    return {
        "seed": seed if campaign.seeded else None,
        "commit": of,
        "command": campaign.shown(),
        "ok": not missed,
        "missed": missed,
        "on": time.strftime("%Y-%m-%d"),
        "seconds": round(time.monotonic() - began),
        "figures": found,
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
        "[reliability.md](reliability.md). Commands are given as they are typed after `. scripts/env.sh`.",
        "",
    ]
    lines += ["| campaign | seed | commit | day | seconds | went well |", "|---|---|---|---|---|---|"]
    known = [(name, c) for name, c in of.items() if name in results]
    for name, campaign in known:
        r = results[name]
        seed = r["seed"] if campaign.seeded else "none"
        went = "yes" if r["ok"] else "NO"
        lines.append(
            f"| {campaign.title} | {seed} | {r.get('commit', 'not known')} | {r['on']} | {r['seconds']:,} | {went} |"
        )
    if wrong := [f"- {c.title}: {text}" for name, c in known for text in results[name].get("missed", [])]:
        lines += ["", "Not as it has to be:", "", *wrong]
    for name, campaign in known:
        if name == "kills":
            continue
        lines += [
            "",
            f"## {campaign.title}",
            "",
            campaign.what,
            "",
            f"`{results[name].get('command') or campaign.shown()}`",
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
        # The file is read again, because a different process may have written to it meanwhile.
        results = (json.loads(kept.read_text()) if kept.exists() else {}) | {name: found}
        kept.write_text(json.dumps(results, indent=1) + "\n")
        PAGE.write_text(page(results, of))
    return 0 if all(results[name]["ok"] for name in chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
