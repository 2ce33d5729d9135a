"""Exactly once under kills: a slice of the campaign of tests/chaos (`make chaos`), and the oracle's own test."""

from __future__ import annotations

import pathlib
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import bayou
import pytest
from event_time import Chain, Deduplicate, Join, Sessions, Windows, fixed, replay, seals

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "chaos"))

import bounds
import campaigns
import truth as truths
from chaos import TABLES, Campaign, campaign, every_epoch, first_start
from corruptions import CORRUPTIONS, SAYS, Lake, join
from harness import Runners, job, produced, start_producer
from oracle import MINUTE, SECOND, Oracle, tuples

SEED = 5


@dataclass
class Finished:
    root: pathlib.Path
    truth: truths.Truth


@pytest.fixture(scope="module")
def running(address: str) -> Iterator[Campaign]:
    with campaign(address, SEED) as made:
        yield made


@pytest.fixture(scope="module")
def lake(running: Campaign) -> Finished:
    """A lake whose runs were cut off a few times, and which is exact all the same."""
    topic = running.topic(3)
    counts = produced(start_producer(running.address, topic, 14_000, SEED))
    root = running.folder / "finished"
    for point in ("seal.after", "commit:by_key.before", "foreach:told.after", "done.before"):
        end = running.run(job(running.address, topic, root, 1200, {point: 2}))
        assert end.how == point
    running.finish(job(running.address, topic, root, 1200, {}))
    return Finished(root, truths.read(running.address, topic, counts["committed"]))


def test_the_oracle_accepts_a_lake_that_is_exact(lake: Finished) -> None:
    verdict = Oracle(lake.root, lake.truth).check()
    assert verdict.problems == []
    figures = verdict.figures
    assert figures["messages"] > 12_000 and figures["epochs"] >= 10
    assert all(figures["rows"][name] > 20 for name in (*TABLES, "_quarantine") if name != "by_kind"), figures
    assert figures["late"]["windows"] > 5


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_oracle_catches_every_corruption_and_says_what_it_is(
    lake: Finished, tmp_path: pathlib.Path, name: str
) -> None:
    root = tmp_path / "lake"
    shutil.copytree(lake.root, root)
    CORRUPTIONS[name](Lake(root, random.Random(f"{SEED} {name}")))
    problems = Oracle(root, lake.truth).check().problems
    assert any(re.search(SAYS[name], p) for p in problems), f"{name}: {SAYS[name]!r} is in none of {problems[:10]}"


def test_there_are_at_least_eighty_corruptions() -> None:
    assert len(CORRUPTIONS) >= 80


def test_the_oracle_accepts_small_files_that_were_joined(lake: Finished, tmp_path: pathlib.Path) -> None:
    root = tmp_path / "lake"
    shutil.copytree(lake.root, root)
    for name in (*TABLES, "chaos_quarantine"):
        if name != "by_kind":
            join(Lake(root, random.Random(SEED)), name)
    assert Oracle(root, lake.truth).check().problems == []


def test_the_oracle_agrees_with_the_definitions_of_event_time(lake: Finished) -> None:
    """The oracle of tests/chaos is written to be fast, and tests/python/event_time.py to be read. Their results must be the same."""
    truth, oracle = lake.truth, Oracle(lake.root, lake.truth)
    oracle.check()
    # Rows that are not good move no watermark, and are in no table.
    messages = {}
    [topic] = seals(lake.root / "_bayou/chaos")[0]["ranges"][0]["topic"].split()
    for i in oracle.i.tolist():
        row = {c: int(v[i]) for c, v in truth.columns.items()}
        at = (int(truth.part[i]), int(truth.off[i]))
        messages[(topic, *at)] = row | {"_t": row["t"], "_at": at, "part": at[0], "off": at[1]}

    def totals(rows: list[dict]) -> dict:
        s = [r["s"] for r in rows]
        return {"c": len(rows), "n": sum(r["n"] for r in rows), "lo": min(s), "hi": max(s)}

    only = lambda wanted: lambda row: [0] if wanted(row) else []  # noqa: E731
    sides = lambda r: [] if r["n"] % 4 or chr(r["kind"]) not in "ab" else ["ab".index(chr(r["kind"]))]  # noqa: E731
    right = {"part_right": "part", "off_right": "off"}
    # The slow oracle computes windows again at the end of each epoch, so each epoch gets few rows.
    chains = {
        "windows": Chain(Windows(fixed(MINUTE), ["kind"], totals, "append")),
        "by_kind": Chain(Windows(None, ["kind"], totals, "complete")),
        "sessions": Chain(Sessions(3 * SECOND, ["k"], totals, "update"), sides=only(lambda r: r["n"] % 20 == 0)),
        "firsts": Chain(Deduplicate(["n"], MINUTE), sides=only(lambda r: r["n"] % 10 == 1)),
        "pairs": Chain(Join(["k"], (5 * SECOND, 5 * SECOND), "left", right), sides=sides),
    }
    replay(seals(lake.root / "_bayou/chaos"), messages, 10 * SECOND, chains)
    columns = {
        "windows": ("window_start", "window_end", "kind", "c", "n", "lo", "hi"),
        "by_kind": ("kind", "c", "n", "lo", "hi"),
        "sessions": ("k", "window_start", "window_end", "c", "n", "lo", "hi"),
        "firsts": ("part", "off", "n"),
        "pairs": ("part", "off", "part_right", "off_right"),
    }
    for name, chain in chains.items():
        value = lambda x: -1 if x is None else x  # noqa: E731
        want = Counter(tuple(value(r[c]) for c in columns[name]) for r in chain.table())
        assert tuples(oracle.rows[name], *columns[name]) == want and want, name
        if name in oracle.late:
            assert len(oracle.late[name]) == len(chain.late), name


def test_kills_at_crash_points_and_at_random_leave_every_table_exact(running: Campaign) -> None:
    before = running.kills.total()
    running.small(points=2)
    # The campaign has hundreds of kills.
    running.large(40_000, running.kills.total() + 12, partitions=3)
    result = running.result()
    print(f"\nseed {SEED}: {result}")
    assert result["problems"] == []
    assert (result["missing"], result["duplicated"], result["altered"]) == (0, 0, 0)
    assert running.kills.total() - before >= 12
    assert result["betweenStageAndDone"] >= 0.3


def test_there_are_thirty_crash_points_and_a_run_passes_them(running: Campaign) -> None:
    topic, root = running.topic(1), running.folder / "passed"
    produced(start_producer(running.address, topic, 30_000, SEED))
    end = running.runners.run(job(running.address, topic, root, 1500, {}))
    assert end.how == "finished"
    names = {*first_start(), *every_epoch()}
    assert len(names) >= 30
    assert names - set(end.points) == set(), "points that a run of some epochs does not pass"


def test_a_run_that_hangs_is_told_apart_from_one_that_is_killed_or_has_nothing_to_read(running: Campaign) -> None:
    topic = running.topic(1)
    produced(start_producer(running.address, topic, 3000, SEED))
    runners = Runners(patience=2, hung=3)
    try:
        hangs = job(
            running.address, topic, running.folder / "hangs", 1000, {"done.after": 9}, slow={"seal.before": 100}
        )
        end = runners.run(hangs)
        assert end.how == "hung" and '"status": "running"' in end.why and '"query.after": 1' in end.why, end
        assert runners.run(hangs, kill_after=2).how == "SIGKILL"
        idle = job(running.address, topic, running.folder / "idle", 1000, {"done.after": 9}, trigger="50 milliseconds")
        # On a busy machine, three epochs may take some seconds.
        runners.patience = 6
        end = runners.run(idle)
        assert end.how == "finished" and end.points["done.after"] == 3, end
        end = runners.run({**idle, "topic": "nobodys"})
        assert end.how == "failed" and "TopicError" in end.why, end
    finally:
        runners.close()


CRASH = """
import sys, bayou
bayou.testing.crash_at("seal.before", nth=2)
with bayou.testing.broker() as kafka:
    kafka.create_topic("t")
    kafka.produce("t", [{"a": i} for i in range(5)], progress=False)
    stream = kafka.read_stream("t", schema="a INT", max_offsets_per_trigger=2)
    stream.write_delta(sys.argv[1], progress=False)
"""


def test_a_process_ends_at_the_crash_point_that_it_was_given(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "t"
    done = subprocess.run([sys.executable, "-c", CRASH, str(root)], capture_output=True, text=True, timeout=60)
    assert done.returncode == -6 and "crash point seal.before" in done.stderr
    assert len(list(root.glob("_bayou/t/1/epoch/*.json"))) == 1, "one epoch is sealed, the second is not"
    with pytest.raises(ValueError, match="not a crash point"):
        bayou.testing.crash_at("seal")
    with pytest.raises(ValueError, match="counted from 1"):
        bayou.testing.crash_at("seal.after", nth=-1)


# Figures as they must be, and figures of which each alone is too bad.
GOOD: dict[str, dict[str, Any]] = {
    "kills": {"kills": 300, "messages": {"committed": 3_000_000}, "betweenStageAndDone": 0.3, "timesFilesWereJoined": 9}
    | {"missing": 0, "duplicated": 0, "altered": 0, "problems": [], "hung": []},
    "store": {"tests passed": 3, "faults": 2221, "runs that ended with an error": 900},
    "powercut": {"cuts": 1420, "problems": 0},
    "brokers": {"messages": 9, "epochs": 9, "boundedRuns": 1, "errors": [], "problems": []}
    | {"missing": 0, "duplicated": 0, "altered": 0},
    "upgrade": {"messages": 9, "epochs": 9, "boundedRuns": 1, "errors": [], "problems": []}
    | {"missing": 0, "duplicated": 0, "altered": 0},
    "topics": {"kills": 100, "tombstones": 1, "messagesOfAbortedTransactions": 9}
    | {"missing": 0, "duplicated": 0, "problems": []},
    "faults": {"tests passed": 23, "tests failed": 0, "tests skipped": 0},
    "requests": {"tests passed": 3, "cases": 432},
    "pauses": {"tests passed": 9, "tests failed": 0, "tests skipped": 0},
    "managed": {"tests passed": 1, "tests failed": 0, "tests skipped": 0},
    "stops": {
        "all, on a store that answers": {"p99": 250, "max": 1000},
        "all, on a store that takes 600 ms or hangs": {"p99": 250, "max": 1000},
        "missed": {},
        "wrong": [],
        "exitCodes": {"0": 6},
        "slowestExit": 3.0,
    },
    "churn": {"rounds": 500, "kilobytesPerRound": 10, "threadsLeft": {}, "handlesLeft": {}, "temporaryFilesLeft": 0},
    "soak": {"minutes": 10, "rate": 2000, "messages": 1_199_983, "megabytesPerMinute": 1, "threads": [51, 51, 0.0]}
    | {"handles": [23, 23, 0.1], "lagMost": 0, "epochsCleanedUp": 1, "optimized": 1, "warnings": [], "failure": None}
    | {"wrong": []},
}
BAD: list[tuple[str, dict[str, Any]]] = [
    *(("kills", {name: bad}) for name, bad in (("kills", 299), ("betweenStageAndDone", 0.29), ("hung", ["a run"]))),
    ("kills", {"messages": {"committed": 2_999_999}}),
    ("store", {"tests passed": 0}),
    ("store", {"faults": 0}),
    ("powercut", {"cuts": 3}),
    ("brokers", {"boundedRuns": 0}),
    ("topics", {"kills": 99}),
    ("topics", {"duplicated": 1}),
    ("brokers", {"errors": ["a bounded run hangs"]}),
    ("faults", {"tests passed": 0}),
    ("pauses", {"tests skipped": 1}),
    ("requests", {"cases": 431}),
    ("stops", {"all, on a store that answers": {"p99": 251, "max": 900}}),
    ("stops", {"all, on a store that takes 600 ms or hangs": {"p99": 200, "max": 1001}}),
    ("stops", {"missed": {"idle / run": 1}}),
    ("stops", {"exitCodes": {"0": 5, "-6": 1}}),
    ("churn", {"threadsLeft": {"bayou": 1}}),
    ("churn", {"kilobytesPerRound": 10.1}),
    ("soak", {"megabytesPerMinute": 1.1}),
    ("soak", {"handles": [23, 29, 1.0]}),
    ("soak", {"optimized": 0}),
]


def test_a_campaign_goes_well_by_its_figures_alone() -> None:
    of = campaigns.campaigns(SEED)
    assert set(of) == set(bounds.JUDGES) == set(GOOD)
    for name, good in GOOD.items():
        assert bounds.missed(name, good) == []
        assert bounds.missed(name, {}) != [], "nothing was found"
        for figure in good.keys() - {"tests failed", "tests skipped"}:
            less = {k: v for k, v in good.items() if k != figure}
            assert any(figure in text for text in bounds.missed(name, less)), figure
    for name, bad in BAD:
        assert len(bounds.missed(name, GOOD[name] | bad)) == 1, (name, bad)


def test_counts_of_tests_are_read_from_what_they_print_and_none_is_no_zero() -> None:
    of = campaigns.campaigns(SEED)
    found = lambda name, said: campaigns.figures(of[name], said)  # noqa: E731
    assert found("faults", "...\n23 passed in 155.85s (0:02:35)\n") == GOOD["faults"]
    some = {"tests passed": 2, "tests failed": 1, "tests skipped": 3}
    assert found("pauses", "1 failed, 2 passed, 3 skipped in 2.01s\n") == some
    assert found("pauses", "3 failed in 2.01s\n") == found("pauses", "") == {}
    none = "running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out\n"
    assert bounds.missed("store", found("store", none)) == [
        "tests passed: 0 is less than 1",
        "there is no figure 'faults'",
    ]
    assert found("churn", "no JSON at all") == found("churn", "") == {}


def test_the_page_tells_commands_as_they_can_be_typed_seeds_that_are_used_and_what_was_tested() -> None:
    of = campaigns.campaigns(SEED)
    assert (
        of["requests"]
        .shown()
        .startswith("BAYOU_TEST_FAULTS=all python tests/kafka/server.py run -- cargo test --release")
    )
    assert of["churn"].shown() == (
        f"python tests/kafka/server.py run -- python tests/chaos/churn.py --rounds 500 --seed {SEED}"
    )
    entry = {"commit": "abc1234, changed", "ok": True, "missed": [], "on": "2026-01-31", "seconds": 61}
    results = {
        "faults": entry | {"seed": None, "figures": GOOD["faults"]},
        "churn": entry
        | {"seed": 3, "command": "the one with seed 3", "ok": False, "missed": ["rounds"], "figures": {}},
    }
    text = campaigns.page(results, of)
    assert "| What Kafka loses | none | abc1234, changed | 2026-01-31 | 61 | yes |" in text
    assert "| Starts and stops | 3 | abc1234, changed | 2026-01-31 | 61 | NO |" in text
    assert "- Starts and stops: rounds\n" in text and "`the one with seed 3`" in text
