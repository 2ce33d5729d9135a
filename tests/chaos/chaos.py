"""The campaign: a pipeline of nine outputs is killed again and again, and the oracle checks the result.

    python tests/chaos/chaos.py --seed 1                                   # 300 kills over 3,000,000 messages
    python tests/chaos/chaos.py --seed 1 --report docs/reliability-report.md

All named crash points are used, one after the other. The crash points of a first start, of a reset, of filling a new table and of clean-up are
used on separate small lakes. The crash points of every epoch are used on the large lake, with SIGKILL at random moments in between. If
BAYOU_TEST_KAFKA does not name a Kafka, one is started. The same seed gives the same messages and the same schedule. The timing between two
kills depends on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import bayou
import truth as truths
from harness import (
    End,
    Runners,
    between,
    epochs,
    job,
    new_topic,
    newest_generation,
    numbers,
    position,
    produced,
    start_producer,
)
from oracle import Oracle, Verdict
from report import markdown
from server import VERSION, Server

TABLES = ("clean", "windows", "by_key", "by_kind", "sessions", "firsts", "pairs")
SMALL = 6000


class Broken(AssertionError):
    """A run that failed or hung. This is a problem of its lake, which cannot be tested any further."""


# Tables whose small files are joined in runs with optimize_every: append, update, and the quarantine.
JOINED = ("clean", "by_key", "chaos_quarantine")


def both(*steps: str) -> list[str]:
    return [f"{step}.{when}" for step in steps for when in ("before", "after")]


def first_start() -> list[str]:
    creates = [f"create:{t}" for t in (*TABLES, "chaos_quarantine")]
    return both("probe", "remove:probe", "query", "start", "definition", *creates)


def every_epoch() -> list[str]:
    data = [f"data:{t}" for t in (*TABLES, "chaos_quarantine")]
    commits = [f"commit:{t}" for t in (*TABLES, "chaos_quarantine")]
    staged = [f"staged:{t}" for t in ("by_key", "sessions", "told")]
    return both("seal", "done", "state:increment", "state:base", "foreach:told", *staged, *data, *commits)


def seldom() -> list[str]:
    """Crash points that are reached once in many epochs. They are set in addition to the others, until each one has been hit."""
    return both("checkpoint:clean", "last-checkpoint:clean", "remove:staged:by_key")


@dataclass
class Campaign:
    address: str
    seed: int
    folder: pathlib.Path
    runners: Runners = field(default_factory=Runners)
    kills: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)
    # Runs that neither ended nor reached their crash point, and what they were doing.
    hung: list[str] = field(default_factory=list)
    joined: int = 0
    lakes: int = 0
    epochs: int = 0
    told_again: int = 0
    messages: dict[str, int] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def topic(self, partitions: int) -> str:
        return new_topic(self.address, f"chaos-{self.seed}-{os.getpid()}-{time.monotonic_ns()}", partitions)

    def run(self, what: dict[str, Any], kill_after: float | None = None, label: str = "") -> End:
        """One run. A kill is counted by its crash point, and by the state of the epoch that it left on disk."""
        since = time.time()
        end = self.runners.run(what, kill_after)
        if end.how in ("failed", "hung"):
            say(end.why)
            # The last line of an error names the error. The first line of a run that hung says what the run was doing.
            why = end.why.strip().splitlines()[-1 if end.how == "failed" else 0]
            told = f"{label}a run {end.how}, which was to crash at {what['crash'] or 'no point'}: {why}"
            if end.how == "hung":
                self.hung.append(told)
            self.problem(told)
            raise Broken(told)
        if end.how != "finished":
            self.kills[f"{label}{end.how}"] += 1
            self.left[between(pathlib.Path(what["root"]), since) or "neither"] += 1
        return end

    def problem(self, text: str) -> None:
        self.verdict.problems.append(text)
        say(f"  PROBLEM {text}")

    def finish(self, what: dict[str, Any], label: str = "") -> None:
        """An ordinary run, to the end."""
        end = self.run({**what, "crash": {}, "reset": False, "anew": False}, label=label)
        assert end.how == "finished", f"a run without a crash point ended by {end.how}"

    def look(self, root: pathlib.Path, truth: truths.Truth, what: str, extra: bool = False) -> None:
        oracle = Oracle(root, truth, extra)
        found = oracle.check()
        self.lakes += 1
        self.epochs += epochs(root)
        self.told_again += getattr(oracle, "told_again", 0)
        self.verdict.missing += found.missing
        self.verdict.duplicated += found.duplicated
        self.verdict.altered += found.altered
        self.verdict.problems += [f"{what}: {p}" for p in found.problems]
        for problem in found.problems[:10]:
            say(f"  PROBLEM {what}: {problem}")
        self.joined += sum(commit.joined for table in oracle.tables.values() for commit in table.commits)

    # --- small lakes: one crash each, then a run to the end

    def small(self, points: int | None = None) -> None:
        """`points`: at most this many crash points of each kind."""
        topic = self.topic(3)
        counts = produced(start_producer(self.address, topic, SMALL, self.seed))
        truth = truths.read(self.address, topic, counts["committed"])
        self.messages["small"] = counts["committed"]
        pick = lambda names: names if points is None else self.rng.sample(names, min(points, len(names)))  # noqa: E731
        for point in pick(first_start()):
            self._cut(topic, truth, point, "first start")
        done = self.folder / "done"
        self.finish(job(self.address, topic, done, 1500, {}))
        anew = both("query", "start", "commit:clean", "commit:by_key", "done")
        for point in pick([*anew, *both("reset", "seal", "remove:reset")]):
            self._cut(topic, truth, point, "reset", done, reset=True)
        # The first seal is the fence of the old generation. The second seal is the first one of the new generation.
        fences = [
            (point, 1)
            for point in [*anew, *both("reset", "seal", "definition", "commit:chaos_quarantine", "data:clean")]
        ]
        fenced = pick([*fences, ("seal.before", 2), ("seal.after", 2)])
        # ("seal.after", 1): the old generation has ended, and the new one has not begun.
        for point, nth in dict.fromkeys([*fenced, ("seal.after", 1)]):
            self._cut(topic, truth, point, "full refresh", done, nth, anew=True)
        fill = both("create:extra", "seal", "data:extra", "commit:extra", "done", "definition")
        for point in pick(fill):
            self._cut(topic, truth, point, "backfill", done, extra=True)
        shutil.rmtree(done)
        clean_up = both("remove:seal", "remove:done", "remove:state:increment")
        # The seal is removed last: a crash after that must leave no files behind.
        with contextlib.suppress(Broken):
            self._clean_up(topic, truth, clean_up if points is None else ["remove:seal.after"])
        self._joined(topic, truth, pick(both(*(f"{step}:{t}" for t in JOINED for step in ("data", "commit")))))

    def _cut(
        self,
        topic: str,
        truth: truths.Truth,
        point: str,
        kind: str,
        of: pathlib.Path | None = None,
        nth: int = 1,
        **more: bool,
    ) -> None:
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="small-") as made:
            root = pathlib.Path(made) / "lake"
            if of:
                shutil.copytree(of, root)
            what = job(self.address, topic, root, 1500, {point: nth}, **more)
            with contextlib.suppress(Broken):  # the next lake may show a different problem
                end = self.run(what, label=f"{kind} / ")
                assert end.how == point, f"{kind}: {point} was not passed ({end.how})"
                self.finish(what, f"{kind}, after {point}: ")
                self.look(root, truth, f"{kind}, {point}", bool(more.get("extra")))

    def _joined(self, topic: str, truth: truths.Truth, points: list[str]) -> None:
        """Small files are joined in parallel with the stream (optimize_every), by separate commits, and the runs are killed. A commit of an epoch and
        a commit of joining pass the same crash points. Which of them is hit is random."""
        root, before = self.folder / "joined", self.joined
        size = len(truth) // (40 + 10 * len(points))
        with contextlib.suppress(Broken):
            for point in points:
                crash = {point: self.rng.randrange(2, 9)}
                what = job(self.address, topic, root, size, crash, optimize=4)
                end = self.run(what, label="small files are joined / ")
                assert end.how == point, f"small files are joined: {point} was not passed ({end.how})"
            self.finish(what, "small files are joined: ")
            self.look(root, truth, "small files are joined")
            if self.joined - before < 5:
                self.problem(f"small files were joined only {self.joined - before} times")
        shutil.rmtree(root)

    def _clean_up(self, topic: str, truth: truths.Truth, points: list[str]) -> None:
        """Old epochs are cleaned up. The oracle gets a copy of them."""
        root, kept = self.folder / "aged", self.folder / "kept"
        # Clean-up runs at each 20th epoch. If it is killed at epoch 120, it must run again before the end.
        size = len(truth) // 165
        end = self.run(job(self.address, topic, root, size, {"done.after": 110}), label="clean-up / ")
        assert end.how == "done.after", end.how
        at = newest_generation(root)
        assert at is not None
        for name in numbers(at / "epoch")[:15]:
            file = at / "epoch" / f"{name:020}.json"
            seal = json.loads(file.read_text())
            seal["clock"] -= 8 * 86_400_000_000
            file.write_text(json.dumps(seal))
        shutil.copytree(at, kept)
        for point in points:
            copy = self.folder / "copy"
            shutil.copytree(root, copy)
            what = job(self.address, topic, copy, size, {point: 1})
            end = self.run(what, label="clean-up / ")
            assert end.how == point, f"clean-up: {point} was not passed ({end.how})"
            self.finish(what)
            there = newest_generation(copy)
            assert there is not None and numbers(there / "epoch")[0] == 15, "clean-up has not been finished"
            if numbers(there / "epoch") != numbers(there / "done"):
                self.problem(f"clean-up, {point}: done files are left whose seals are gone")
            for part in ("epoch", "done"):
                for file in (kept / part).iterdir():
                    if not (there / part / file.name).exists():
                        shutil.copy(file, there / part)
            self.look(copy, truth, f"clean-up, {point}")
            shutil.rmtree(copy)

    # --- the large lake

    def large(self, count: int, target: int, partitions: int = 4) -> None:
        """Runs until there are `target` kills in total. Then the rest is read, and the oracle checks the lake."""
        topic, root = self.topic(partitions), self.folder / "large"
        producer = start_producer(self.address, topic, count, self.seed)
        try:
            self._kill(producer, topic, root, count, target)
            counts = produced(producer)
        finally:
            producer.kill()
            producer.wait()
        self.messages |= counts
        say(f"  the rest: {count - position(root):,} messages; {counts}")
        self.finish(job(self.address, topic, root, 100_000, {}))
        truth = truths.read(self.address, topic, counts["committed"], 10_000)
        say("  the oracle looks")
        self.look(root, truth, "large")

    def _kill(self, producer: subprocess.Popen[str], topic: str, root: pathlib.Path, count: int, target: int) -> None:
        schedule: deque[str] = deque()
        rare = Counter(dict.fromkeys(seldom(), 1))
        nowhere = 0
        while self.kills.total() < target:
            if not schedule:
                names = every_epoch()
                # In addition, a third as many kills at random moments.
                names += ["SIGKILL"] * (len(names) // 3)
                self.rng.shuffle(names)
                schedule.extend(names)
            point = schedule.popleft()
            nth = 1 if point.startswith(("state:base", "create")) else self.rng.randrange(1, 5)
            crash = {p: 1 for p, n in rare.items() if n > 0}
            kill_after = None
            if point == "SIGKILL":
                kill_after = self.rng.uniform(0.05, 1.5)
            else:
                crash[point] = nth
            left = max(0, count - position(root))
            # About three epochs a run, so that the messages last until the last kill.
            size = max(300, min(20_000, left // max(1, target - self.kills.total()) // 3))
            trigger = self.rng.choice([None, None, None, "50 milliseconds"])
            end = self.run(job(self.address, topic, root, size, crash, trigger=trigger), kill_after)
            rare[end.how] -= 1
            nowhere = nowhere + 1 if end.how == "finished" else 0
            assert nowhere < 20, f"nothing is left to read after {self.kills.total()} of {target} kills"
            if end.how == "finished" and producer.poll() is None:
                time.sleep(0.2)  # the producer is behind: all messages are read
            if end.how != "finished" and self.kills.total() % 20 == 0:
                say(f"  {self.kills.total()} kills, {position(root):,} of {count:,}, {dict(self.left)}")

    def result(self) -> dict[str, Any]:
        total = self.kills.total()
        return {
            "seed": self.seed,
            "with": f"bayou {bayou.__version__}, Kafka {VERSION}, Python {sys.version.split()[0]}, {os.cpu_count()} cores",
            "kills": total,
            "killsAtRandomMoments": sum(n for p, n in self.kills.items() if p.endswith("SIGKILL")),
            "crashPoints": len([p for p in self.kills if not p.endswith("SIGKILL")]),
            "distinctNames": len({p.split(" / ")[-1] for p in self.kills} - {"SIGKILL"}),
            "betweenStageAndDone": (self.left["sealed"] + self.left["staged"]) / max(1, total),
            "left": dict(self.left),
            "messages": self.messages,
            "epochs": self.epochs,
            "lakes": self.lakes,
            "timesFilesWereJoined": self.joined,
            "hung": self.hung,
            "missing": self.verdict.missing,
            "duplicated": self.verdict.duplicated,
            "altered": self.verdict.altered,
            "problems": self.verdict.problems,
            "toldAgain": self.told_again,
            "seconds": round(time.monotonic() - self.began),
            "killsByPoint": dict(sorted(self.kills.items())),
        }


def say(text: str) -> None:
    print(text, flush=True)


@contextlib.contextmanager
def campaign(address: str, seed: int, folder: pathlib.Path | None = None) -> Any:
    # The lakes are in memory, if possible. Otherwise hundreds of restarts would wait for a disk most of the time.
    memory = pathlib.Path("/dev/shm")
    at = folder or (memory if memory.is_dir() else None)
    with tempfile.TemporaryDirectory(dir=at, prefix="bayou-chaos-") as made:
        running = Campaign(address, seed, pathlib.Path(made))
        try:
            yield running
        finally:
            running.runners.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--messages", type=int, default=3_200_000, help="written; a few are in aborted transactions")
    parser.add_argument("--kills", type=int, default=320)
    parser.add_argument(
        "--report", type=pathlib.Path, help="where the report is written, as Markdown; the JSON lies beside it"
    )
    given = parser.parse_args()
    say(f"seed {given.seed}: {given.kills} kills over {given.messages:,} messages")
    with contextlib.ExitStack() as stack:
        address = os.environ.get("BAYOU_TEST_KAFKA")
        if not address:
            address = stack.enter_context(Server()).plain
        running = stack.enter_context(campaign(address, given.seed))
        # A run that broke is in the list of problems.
        with contextlib.suppress(Broken):
            running.small()
        say(f"small lakes: {running.kills.total()} kills, {len(running.verdict.problems)} problems")
        with contextlib.suppress(Broken):
            running.large(given.messages, given.kills)
        result = running.result()
    if given.report:
        given.report.write_text(markdown(result))
        given.report.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    say(json.dumps({k: v for k, v in result.items() if k != "killsByPoint"}))
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
