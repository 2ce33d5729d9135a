"""Runs of runner.py that are cut off: at a crash point, or at any moment."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import confluent_kafka.admin

HERE = pathlib.Path(__file__).parent
NAME = "chaos"
# Written by commits of the sealed epoch, not before its seal.
MERGED = ("by_key", "sessions")


def new_topic(address: str, name: str, partitions: int) -> str:
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": address})
    for done in admin.create_topics([confluent_kafka.admin.NewTopic(name, partitions, 1)]).values():
        done.result(30)
    return name


def start_producer(address: str, topic: str, count: int, seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / "produce.py"), address, topic, str(count), str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def produced(producer: subprocess.Popen[str]) -> dict[str, int]:
    out, _ = producer.communicate(timeout=1200)
    assert producer.returncode == 0, "the producer failed"
    return json.loads(out)


@dataclass
class End:
    """How a run ended: "finished", "SIGKILL", or the crash point's name."""

    how: str
    points: dict[str, int] = field(default_factory=dict)


class Runners:
    """Processes that have imported what they need and wait for a job: an interpreter's start takes longer than most runs."""

    def __init__(self, ready: int = 1) -> None:
        self.waiting: deque[tuple[subprocess.Popen[str], Any]] = deque()
        self.ready = ready

    def _start(self) -> None:
        errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with its process)
        child = subprocess.Popen(
            [sys.executable, str(HERE / "runner.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        self.waiting.append((child, errors))

    def run(self, job: dict[str, Any], kill_after: float) -> End:
        """Gives the job to a process, and kills it when it is still there after so many seconds of work."""
        while len(self.waiting) < self.ready + 1:
            self._start()
        child, errors = self.waiting.popleft()
        assert child.stdin and child.stdout
        child.stdin.write(json.dumps(job) + "\n")
        child.stdin.flush()
        child.stdin.close()
        # An end of file (a crash while the job is read) ends the wait as well as the word.
        said = child.stdout.readline()
        try:
            child.wait(kill_after)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait(60)
        said += child.stdout.read()
        child.stdout.close()
        errors.seek(0)
        why = errors.read()
        errors.close()
        if child.returncode == 0:
            return End("finished", json.loads(said.splitlines()[-1].removeprefix("done ")))
        if child.returncode == -signal.SIGKILL:
            return End("SIGKILL")
        if child.returncode == -signal.SIGABRT:
            [point] = [
                line.removeprefix("crash point ") for line in why.splitlines() if line.startswith("crash point ")
            ]
            return End(point)
        raise AssertionError(f"a run failed instead of ending or dying ({child.returncode}):\n{why[-3000:]}")

    def close(self) -> None:
        for child, errors in self.waiting:
            assert child.stdin
            child.stdin.close()  # its job is an empty line, which it fails on
            child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()
            errors.close()
        self.waiting.clear()


def job(address: str, topic: str, root: pathlib.Path, epoch: int, crash: dict[str, int], **more: Any) -> dict[str, Any]:
    return {"address": address, "topic": topic, "root": str(root), "epoch": epoch, "crash": crash, **more}


def newest_generation(root: pathlib.Path) -> pathlib.Path | None:
    found = sorted(int(p.parent.name) for p in (root / "_bayou" / NAME).glob("*/query.json"))
    return root / "_bayou" / NAME / str(found[-1]) if found else None


def numbers(folder: pathlib.Path) -> list[int]:
    return sorted(int(p.name[:20]) for p in folder.glob("*.json"))


def position(root: pathlib.Path) -> int:
    """Offsets that are sealed, over all partitions."""
    at = newest_generation(root)
    if at is None or not numbers(at / "epoch"):
        return 0
    seal = json.loads((at / "epoch" / f"{numbers(at / 'epoch')[-1]:020}.json").read_text())
    return sum(r["until"] for r in seal["ranges"])


def epochs(root: pathlib.Path) -> int:
    at = newest_generation(root)
    return len(numbers(at / "epoch")) if at else 0


def between(root: pathlib.Path, since: float) -> str | None:
    """Where a kill has left an epoch, by the files on disk: "sealed" and not done, "staged" and not sealed (files written
    after `since`, of which no seal tells), or neither."""
    at = newest_generation(root)
    if at is None:
        return None
    sealed, done = numbers(at / "epoch"), numbers(at / "done")
    if sealed and (not done or sealed[-1] > done[-1]):
        return "sealed"
    newest = sealed[-1] if sealed else -1
    for path in [*at.glob("state/*/*-increment-*.arrow"), *at.glob("staged/*/*.arrow")]:
        if int(path.name[:20]) > newest and path.stat().st_mtime > since:
            return "staged"
    known: set[str] = set()
    latest = since
    if sealed:
        file = at / "epoch" / f"{newest:020}.json"
        seal = json.loads(file.read_text())
        known = {add["path"] for table in seal["tables"].values() for add in table["adds"]}
        latest = max(since, file.stat().st_mtime)
    for table in root.iterdir():
        if table.name in MERGED or not (table / "_delta_log").exists():
            continue
        with os.scandir(table) as entries:
            for entry in entries:
                fresh = entry.name.endswith(".parquet") and entry.stat().st_mtime > latest
                if fresh and entry.name not in known:
                    return "staged"
    return None
