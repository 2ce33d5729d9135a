"""Runs of runner.py that are killed, at a crash point or at a random moment."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import confluent_kafka.admin

HERE = pathlib.Path(__file__).parent
NAME = "chaos"
# The files of these tables are written by the commit of the sealed epoch, and not before its seal.
MERGED = ("by_key", "sessions")
# A run that has not reached its crash point in this time is asked what it is doing. A run on an interval is also stopped.
PATIENCE = 12.0
# A run that gives the same answer for this long hangs.
HUNG = 60.0


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
    """How a run ended: "finished", "SIGKILL" (a planned one), the crash point's name, "failed", or "hung"."""

    how: str
    points: dict[str, int] = field(default_factory=dict)
    # The error. For a run that hung: what the run was doing.
    why: str = ""


class Child:
    """A process that has imported what it needs and waits for a job."""

    def __init__(self) -> None:
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        command = [sys.executable, str(HERE / "runner.py")]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.errors, text=True)
        self.lines: queue.Queue[str] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def tell(self, line: str) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # the process has ended; its code is checked later
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def hear(self, word: str, within: float) -> str | None:
        """The next line that begins with the word. None: there was no such line in time, or the process has ended."""
        until = time.monotonic() + within
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return None
            if not line:
                self.lines.put("")
                return None
            if line.startswith(word):
                return line.removeprefix(word).strip()

    def ended(self, within: float) -> bool:
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def close(self) -> str:
        """The output on stderr."""
        self.reader.join(60)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self.errors.seek(0)
        said = self.errors.read()
        self.errors.close()
        return said


class Runners:
    """Processes that are started before they are needed, because the start of an interpreter takes longer than most runs."""

    def __init__(self, ready: int = 1, patience: float = PATIENCE, hung: float = HUNG) -> None:
        self.waiting: deque[Child] = deque()
        self.ready, self.patience, self.hung = ready, patience, hung

    def run(self, job: dict[str, Any], kill_after: float | None = None) -> End:
        """Gives the job to a process. `kill_after`: the process is killed after this many seconds of work. Otherwise it reaches its crash point or
        its end. A process that does neither, and makes no progress, hangs."""
        while len(self.waiting) < self.ready + 1:
            self.waiting.append(Child())
        child = self.waiting.popleft()
        child.tell(json.dumps(job))
        # The wait ends with the word "go", or when the process ends (a crash while it reads the job).
        began = child.hear("go", HUNG) is not None  # the imports, mostly
        doing = None
        planned = False
        if kill_after is None:
            doing = self._watch(child, job, began)
        elif not child.ended(kill_after):
            planned = True
        if doing is not None or planned:
            child.kill()
        code = child.process.returncode
        done = child.hear("done", 60) if code == 0 else None
        said = child.close()
        if doing is not None:
            return End("hung", why=f"{doing}\n{said[-3000:]}")
        if code == 0 and done is not None:
            return End("finished", json.loads(done))
        if planned and code == -signal.SIGKILL:
            return End("SIGKILL")
        points = [line.removeprefix("crash point ") for line in said.splitlines() if line.startswith("crash point ")]
        if code == -signal.SIGABRT and len(points) == 1:
            return End(points[0])
        return End("failed", why=f"exit code {code}\n{said[-3000:]}")

    def _watch(self, child: Child, job: dict[str, Any], began: bool) -> str | None:
        """Waits for the end. Returns what the process was doing, if it hangs."""
        if child.ended(self.patience if began else 0):
            return None
        if job.get("trigger"):
            # If the run has read all messages before it reaches its crash point, it would never end.
            child.tell("stop")
        before, since = None, time.monotonic()
        while True:
            child.tell("what")
            doing = child.hear("doing", 5) or "it does not answer"
            if doing != before:
                before, since = doing, time.monotonic()
            if child.ended(1):
                return None
            if time.monotonic() - since > self.hung:
                return doing

    def close(self) -> None:
        for child in self.waiting:
            child.kill()
            child.close()
        self.waiting.clear()


def job(address: str, topic: str, root: pathlib.Path, epoch: int, crash: dict[str, int], **more: Any) -> dict[str, Any]:
    return {"address": address, "topic": topic, "root": str(root), "epoch": epoch, "crash": crash, **more}


def newest_generation(root: pathlib.Path) -> pathlib.Path | None:
    found = sorted(int(p.parent.name) for p in (root / "_bayou" / NAME).glob("*/query.json"))
    return root / "_bayou" / NAME / str(found[-1]) if found else None


def numbers(folder: pathlib.Path) -> list[int]:
    return sorted(int(p.name[:20]) for p in folder.glob("*.json"))


def position(root: pathlib.Path) -> int:
    """The number of sealed offsets, over all partitions."""
    at = newest_generation(root)
    if at is None or not numbers(at / "epoch"):
        return 0
    seal = json.loads((at / "epoch" / f"{numbers(at / 'epoch')[-1]:020}.json").read_text())
    return sum(r["until"] for r in seal["ranges"])


def epochs(root: pathlib.Path) -> int:
    at = newest_generation(root)
    return len(numbers(at / "epoch")) if at else 0


def between(root: pathlib.Path, since: float) -> str | None:
    """The state in which a kill has left an epoch, by the files on disk: "sealed" and not done, "staged" and not sealed (files that were written
    after `since` and are in no seal), or neither."""
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
