"""A small pipeline, on disk or on S3, for tests of several runners and writers: the pipeline, a process that runs it, and what its tables
must hold."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import bayou
import confluent_kafka
import delta_replay
from s3 import Bucket

NAME = "q"
SCHEMA = "i INT, k INT"


def define(
    kafka: bayou.Connection,
    topic: str,
    root: str,
    epoch: int,
    options: dict[str, str] | None,
    checkpoint: str | None = None,
) -> bayou.Pipeline:
    raw = kafka.read_stream(topic, schema=SCHEMA, max_offsets_per_trigger=epoch)
    good = raw.expect_or_quarantine("not nine", "i % 10 <> 9").named("good")
    lake = bayou.Pipeline(NAME, root, storage_options=options, checkpoint_location=checkpoint)
    lake.table("rows", good)
    lake.table("by_k", good.group_by("k").agg("count(*) AS n", "sum(i) AS total"), output_mode="update")
    lake.table("all", good.group_by().agg("count(*) AS n", "sum(i) AS total"))
    return lake


def publish(address: str, topic: str, start: int, stop: int) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": address, "linger.ms": 5})
    for i in range(start, stop):
        producer.produce(topic, json.dumps({"i": i, "k": i % 7}))
    assert producer.flush(30) == 0


def check(root: pathlib.Path, count: int) -> None:
    """The tables hold messages 0 to `count`, each once and in order."""
    good = [i for i in range(count) if i % 10 != 9]
    rows = delta_replay.rows(root / "rows")
    assert [r["i"] for r in rows] == good, (
        f"{len(rows)} rows, {len({r['i'] for r in rows})} different, want {len(good)}"
    )
    aside = [r["offset"] for r in delta_replay.rows(root / f"{NAME}_quarantine")] if count >= 10 else []
    assert aside == [i for i in range(count) if i % 10 == 9]
    by_k: dict[int, list[int]] = collections.defaultdict(list)
    for i in good:
        by_k[i % 7].append(i)
    found = {r["k"]: (r["n"], r["total"]) for r in delta_replay.rows(root / "by_k")}
    assert found == {k: (len(v), sum(v)) for k, v in by_k.items()}
    assert [(r["n"], r["total"]) for r in delta_replay.rows(root / "all")] == [(len(good), sum(good))]


@dataclass
class Place:
    """Where a lake is."""

    folder: pathlib.Path
    bucket: Bucket | None = None
    prefix: str = ""

    @property
    def root(self) -> str:
        return f"s3://lake/{self.prefix}" if self.bucket else str(self.folder)

    @property
    def options(self) -> dict[str, str] | None:
        return self.bucket.options if self.bucket else None

    def files(self) -> pathlib.Path:
        """The lake as local files."""
        if self.bucket is None:
            return self.folder
        return self.bucket.copy_to(self.folder / f"copy-{time.monotonic_ns()}", self.prefix) / self.prefix

    def names(self, folder: str) -> list[str]:
        if self.bucket is None:
            return sorted(str(p.relative_to(self.folder)) for p in (self.folder / folder).rglob("*") if p.is_file())
        return sorted(n.removeprefix(self.prefix + "/") for n in self.bucket.names(f"{self.prefix}/{folder}/"))

    def change(self, name: str, **fields: Any) -> None:
        """Changes a value in a JSON file, as if time had passed or a clock were different."""
        if self.bucket is None:
            path = self.folder / name
            path.write_text(json.dumps(json.loads(path.read_text()) | fields))
        else:
            content = json.loads(self.bucket.get(f"{self.prefix}/{name}"))
            self.bucket.put(f"{self.prefix}/{name}", json.dumps(content | fields).encode())


@dataclass
class Runner:
    """A process that runs the pipeline to its end, on a machine with a different name if requested."""

    process: subprocess.Popen[str]
    job: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def start(
        cls, address: str, topic: str, place: Place, *, epoch: int, elsewhere: bool = False, **more: Any
    ) -> Runner:
        command = [sys.executable, __file__]
        if elsewhere:
            # A namespace of its own for the host's name; where one is not root, in a user namespace.
            command = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--uts", *command]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        job = {"address": address, "topic": topic, "root": place.root, "options": place.options, "epoch": epoch}
        runner = cls(process, job | {"elsewhere": elsewhere} | more)
        assert process.stdout and process.stdout.readline() == "ready\n"
        return runner

    def go(self) -> Runner:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(self.job) + "\n")
        self.process.stdin.flush()
        return self

    def wait_until_paused(self, at_most: float = 60) -> None:
        deadline = time.monotonic() + at_most
        while pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
            assert self.process.poll() is None, f"it ended instead of pausing at {self.job['pause']}: {self.end()}"
            assert time.monotonic() < deadline, f"it did not come to {self.job['pause']}"
            time.sleep(0.02)

    def resume(self) -> Runner:
        self.process.send_signal(signal.SIGCONT)
        return self

    def end(self, at_most: float = 120) -> str:
        """ "finished", or the error's type and text."""
        out, _ = self.process.communicate(timeout=at_most)
        return out.strip() or f"code {self.process.returncode}"

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def main() -> None:
    print("ready", flush=True)
    job = json.loads(sys.stdin.readline())
    if job["elsewhere"]:
        socket.sethostname("elsewhere")
    for point, nth in job.get("pause", {}).items():
        bayou.testing.pause_at(point, nth)
    for point, nth in job.get("crash", {}).items():
        bayou.testing.crash_at(point, nth)
    lake = define(bayou.connect(job["address"]), job["topic"], job["root"], job["epoch"], job["options"])
    try:
        lake.run(progress=False, trigger=job.get("trigger"), full_refresh=job.get("full_refresh", False))
    except bayou.BayouError as e:
        print(f"{type(e).__name__}: {e}", flush=True)
    else:
        print("finished", flush=True)


if __name__ == "__main__":
    main()
