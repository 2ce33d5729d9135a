"""Power cuts: the state of a lake on a disk that loses all data that was not synced.

    python tests/chaos/powercut.py --seed 1 --cuts 2000       # with BAYOU_TEST_KAFKA

A run is recorded (recorder.c): every call that changes a file, every sync, and a mark when a run has ended, which acknowledges its messages. The
record gives the states in which a power cut can leave the disk. Strict: each file has its last synced content, and each directory has the names
of its last sync. Lucky: some of the changes that were not synced are on the disk, in any combination, and a file may have its length and zeros.
The pipeline runs again on each of these disks. No acknowledged message may be missing, and the tables must be exact.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "python"))
sys.path.insert(0, str(HERE))

RUN = """
import ctypes, json, sys
import bayou
from lakes import define, publish
job = json.loads(sys.argv[1])
kafka = bayou.connect(job["address"])
count = 0
for mark, more in enumerate(job["portions"], 1):
    publish(job["address"], job["topic"], count, count + more)
    count += more
    define(kafka, job["topic"], job["root"], job["epoch"], None).run(progress=False)
    ctypes.CDLL(None).recorder_mark(ctypes.c_uint64(mark))
"""


def build(folder: pathlib.Path) -> pathlib.Path:
    library = folder / "recorder.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "recorder.c"), "-ldl", "-lpthread"]
    subprocess.run(command, check=True)
    return library


def record(folder: pathlib.Path, job: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Runs the job with the recorder. Returns the calls that changed its files."""
    to = folder / "record"
    paths = os.pathsep.join([str(HERE.parent / "python"), os.environ.get("PYTHONPATH", "")])
    env = {"LD_PRELOAD": str(build(folder)), "RECORD_TO": str(to), "RECORD_ROOT": job["root"], "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", RUN, json.dumps(job)], env=os.environ | env, check=True, timeout=300)
    return list(parse(to.read_bytes()))


FIELDS = {"C": "tn", "W": "nnb", "T": "nn", "S": "n", "L": "nt", "R": "tt", "U": "t", "M": "tn", "K": "n"}


def parse(data: bytes) -> Iterator[tuple[Any, ...]]:
    at = 0
    while at < len(data):
        what = chr(data[at])
        at += 1
        out: list[Any] = [what]
        for kind in FIELDS[what]:
            [n] = struct.unpack_from("<Q", data, at)
            at += 8
            if kind == "n":
                out.append(n)
                continue
            piece = data[at : at + n]
            at += n
            out.append(piece.decode() if kind == "t" else piece)
        yield tuple(out)


@dataclass
class File:
    now: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


@dataclass
class Directory:
    """Files and directories by name, and the changes of names since the last sync."""

    now: dict[str, File | Directory] = field(default_factory=dict)
    synced: dict[str, File | Directory] = field(default_factory=dict)
    since: list[tuple[str, File | Directory | None]] = field(default_factory=list)

    def set(self, name: str, what: File | Directory | None) -> None:
        if what is None:
            self.now.pop(name, None)
        else:
            self.now[name] = what
        self.since.append((name, what))

    def sync(self) -> None:
        self.synced = dict(self.now)
        self.since.clear()


class Disk:
    """A file system that replays the record. `deaf`: it ignores syncs of "files" or of "directories". (Then the campaign must find the
    loss.)"""

    def __init__(self, root: str, inode: int, deaf: str = "") -> None:
        self.root, self.deaf = root, deaf
        self.top = Directory()
        self.by_inode: dict[int, File | Directory] = {inode: self.top}
        self.marks = 0

    def place(self, path: str) -> tuple[Directory, str]:
        parts = [p for p in path.removeprefix(self.root).split("/") if p]
        at = self.top
        for part in parts[:-1]:
            found = at.now[part]
            assert isinstance(found, Directory), path
            at = found
        return at, parts[-1] if parts else ""

    def do(self, step: tuple[Any, ...]) -> None:
        what, *rest = step
        if what == "C":
            at, name = self.place(rest[0])
            self.by_inode[rest[1]] = made = File()
            at.set(name, made)
        elif what == "W":
            file = self.by_inode[rest[0]]
            assert isinstance(file, File)
            file.now[rest[1] : rest[1] + len(rest[2])] = rest[2]
        elif what == "T":
            file = self.by_inode[rest[0]]
            assert isinstance(file, File)
            del file.now[rest[1] :]
        elif what == "S":
            self.sync(self.by_inode.get(rest[0]))
        elif what == "L":
            at, name = self.place(rest[1])
            at.set(name, self.by_inode[rest[0]])
        elif what == "R":
            old, old_name = self.place(rest[0])
            new, new_name = self.place(rest[1])
            moved = old.now[old_name]
            new.set(new_name, moved)
            old.set(old_name, None)
        elif what == "U":
            at, name = self.place(rest[0])
            at.set(name, None)
        elif what == "M":
            at, name = self.place(rest[0])
            self.by_inode[rest[1]] = directory = Directory()
            at.set(name, directory)
        elif what == "K":
            self.marks = rest[0]

    def sync(self, what: File | Directory | None) -> None:
        if isinstance(what, File) and self.deaf != "files":
            what.synced = bytes(what.now)
        elif isinstance(what, Directory) and self.deaf != "directories":
            what.sync()

    def leave(self, to: pathlib.Path, luck: random.Random | None) -> None:
        """Writes the files that a power cut at this point leaves."""
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir(parents=True)
        self._leave(self.top, to, luck)

    def _leave(self, at: Directory, to: pathlib.Path, luck: random.Random | None) -> None:
        names = dict(at.synced)
        for name, what in at.since if luck else ():
            if luck and luck.random() < 0.5:
                if what is None:
                    names.pop(name, None)
                else:
                    names[name] = what
        for name, what in names.items():
            if isinstance(what, Directory):
                (to / name).mkdir()
                self._leave(what, to / name, luck)
            else:
                (to / name).write_bytes(self._content(what, luck))

    @staticmethod
    def _content(file: File, luck: random.Random | None) -> bytes:
        if luck is None or file.synced == file.now:
            return file.synced
        whole = bytes(file.now)
        return luck.choice([file.synced, whole, whole[: luck.randrange(len(whole) + 1)], bytes(len(whole))])


@dataclass
class Outcome:
    cuts: int = 0
    by_step: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def campaign(
    address: str,
    topic: str,
    folder: pathlib.Path,
    seed: int,
    cuts: int,
    deaf: str = "",
    portions: tuple[int, ...] = (60, 60, 40),
) -> Outcome:
    """Records a few runs in epochs of 20 messages. Then cuts the power at `cuts` points, and runs the pipeline on the files that are left."""
    import bayou
    from lakes import check, define

    root = folder / "lake"
    root.mkdir()
    inode = root.stat().st_ino
    steps = record(folder, {"address": address, "topic": topic, "root": str(root), "portions": portions, "epoch": 20})
    shutil.rmtree(root)
    rng = random.Random(seed)
    kafka = bayou.connect(address)
    # A sample of all points between two steps, each one once strict and once lucky.
    chosen = [(n, lucky) for n in range(1, len(steps) + 1) for lucky in (False, True)]
    chosen = sorted(rng.sample(chosen, min(cuts, len(chosen))))
    out, disk, done = Outcome(), Disk(str(root), inode, deaf), 0
    for n, lucky in chosen:
        for step in steps[done:n]:
            disk.do(step)
        done = n
        where = f"cut {n} of {len(steps)} after {steps[n - 1][0]} {steps[n - 1][1]}, {'lucky' if lucky else 'strict'}"
        disk.leave(root, random.Random(f"{seed} {n}") if lucky else None)
        out.cuts += 1
        out.by_step[steps[n - 1][0]] += 1
        acknowledged = sum(portions[: disk.marks])
        try:
            if acknowledged:
                found = sealed(root)
                assert found >= acknowledged, f"{acknowledged} messages were acknowledged, {found} are finished"
                rows = rows_of(root)
                wanted = {i for i in range(acknowledged) if i % 10 != 9}
                assert wanted <= rows, f"{len(wanted - rows)} acknowledged rows are missing"
            define(kafka, topic, str(root), 20, None).run(progress=False)
            check(root, sum(portions))
        except Exception as e:
            out.problems.append(f"{where}: {type(e).__name__}: {e}")
            if len(out.problems) >= 10:
                break
    shutil.rmtree(root)
    return out


def sealed(root: pathlib.Path) -> int:
    """The number of messages in epochs that are done."""
    generation = root / "_bayou" / "q" / "1"
    newest = max((p.name for p in (generation / "done").glob("*.json")), default=None)
    if newest is None:
        return 0
    return sum(r["until"] for r in json.loads((generation / "epoch" / newest).read_text())["ranges"])


def rows_of(root: pathlib.Path) -> set[int]:
    import delta_replay

    return {r["i"] for r in delta_replay.rows(root / "rows")}


def main() -> int:
    import bayou

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cuts", type=int, default=2000)
    given = parser.parse_args()
    address = os.environ["BAYOU_TEST_KAFKA"]
    topic = f"powercut-{os.getpid()}"
    bayou.connect(address).create_topic(topic, partitions=1, replication_factor=1)
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(address, topic, pathlib.Path(folder), given.seed, given.cuts)
    print(json.dumps({"seed": given.seed, "cuts": found.cuts, "problems": len(found.problems)}))
    for problem in found.problems:
        print(problem)
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
