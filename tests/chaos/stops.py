"""The stop button: SIGINT in every state of a call, and the time until the call ends.

    python tests/kafka/server.py run -- python tests/chaos/stops.py --rounds 8 --seed 1

prints a block of JSON: for each state n, p50, p99 and max in milliseconds; the errors in tables after the next run; and the number of
interrupts that came too late for the state (they are not measured). The kernels (stopped.py) are used again and again, so that damage by an
interrupt is found in later rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import bayou
import confluent_kafka
import confluent_kafka.admin

HERE = pathlib.Path(__file__).parent
SMALL, LARGE = 2000, 200_000

# The state in which a call is interrupted, and the crash point that is slow in this state ("hold"). "starting" and "dead broker": the broker's
# process is stopped, like a machine that hangs.
STATES: list[dict[str, Any]] = [
    *({"where": "starting", "call": c} for c in ("run", "await", "batches", "collect", "preview", "connect")),
    {"where": "starting", "call": "produce", "other": True},
    *({"where": "idle", "call": c} for c in ("run", "await", "batches")),
    *({"where": "dead broker", "call": c} for c in ("run", "await", "batches")),
    *({"where": "killed broker", "call": c} for c in ("run", "batches")),
    *({"where": "reading a backlog", "call": c, "rows": LARGE} for c in ("run", "await", "collect")),
    {"where": "writing files", "call": "run", "rows": LARGE, "epoch": 50_000},
    {"where": "publishing", "call": "produce", "other": True},
    {"where": "map_batches", "call": "run"},
    {"where": "map_batches, busy", "call": "run"},
    {"where": "aggregate", "call": "run"},
    {"where": "foreach_batch", "call": "run"},
    *(
        {"where": f"a slow store: {point}", "call": "run", "hold": point, "epoch": 500}
        for point in ("start.before", "data:clean.before", "staged:by_k.after", "seal.before", "seal.after")
    ),
    *(
        {"where": f"a slow store: {point}", "call": "run", "hold": point, "epoch": 500}
        for point in ("commit:clean.before", "commit:by_k.after", "done.before")
    ),
    # The first interrupt hits the commit. The next run must finish this commit, and the second interrupt hits that run.
    {
        "where": "a store that hangs: commit",
        "call": "run",
        "hold": "commit:clean.before",
        "seconds": 3.0,
        "twice": True,
    },
]


def values(count: int) -> Iterator[bytes]:
    from stopped import value

    return (value(n) for n in range(count))


def topic(address: str, count: int) -> str:
    name = f"stops-{uuid.uuid4().hex[:8]}"
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": address})
    for done in admin.create_topics([confluent_kafka.admin.NewTopic(name, 1, 1)]).values():
        done.result(30)
    producer = confluent_kafka.Producer({"bootstrap.servers": address, "linger.ms": 20})
    for n, v in enumerate(values(count)):
        producer.produce(name, v, partition=0)
        if n % 1000 == 0:
            producer.poll(0)
            while len(producer) > 50_000:
                producer.poll(0.05)
    assert producer.flush(60) == 0
    return name


class Kernel:
    """One process that takes jobs."""

    def __init__(self) -> None:
        command = [sys.executable, str(HERE / "stopped.py")]
        # A new session, so that an interrupt at the terminal does not reach the kernel.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def tell(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a kernel ended with {self.process.wait(30)}")
        return json.loads(line)

    def close(self) -> tuple[int, float]:
        """Ends the kernel. Returns the exit code and how long the exit took in seconds."""
        assert self.process.stdin and self.process.stdout
        began = time.monotonic()
        self.process.stdin.close()
        code = self.process.wait(30)
        self.process.stdout.close()
        return code, time.monotonic() - began

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def broker_of(pid: int, name: str) -> int:
    """The process of the embedded broker that the process `pid` has started."""
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rsplit(")", 1)[1].split()
            words = (status.parent / "cmdline").read_text().split("\0")
            if int(fields[1]) == pid and any("_run_broker" in w for w in words) and any(name in w for w in words):
                return int(status.parent.name)
    raise RuntimeError(f"no broker {name}")


class Campaign:
    def __init__(self, address: str, broker_pid: int, seed: int, root: pathlib.Path) -> None:
        self.address, self.broker_pid, self.rng, self.root = address, broker_pid, random.Random(seed), root
        self.topics = {n: topic(address, n) for n in (SMALL, LARGE)}
        self.kernel = Kernel()
        self.taken: dict[str, list[float]] = defaultdict(list)
        self.missed: dict[str, int] = defaultdict(int)
        self.wrong: list[str] = []

    def hit(self, state: dict[str, Any]) -> None:
        rows = state.get("rows", SMALL)
        job = {
            "address": self.address,
            "topic": self.topics[rows],
            "root": str(self.root / uuid.uuid4().hex),
            "epoch": None,
            **state,
            "rows": rows,
        }
        if state.get("other"):
            job["topic"] = topic(self.address, 5)
        name = f"{state['where']} / {state['call']}"
        kill: Callable[[], None] | None = None
        if state["where"] == "killed broker":
            job |= {"broker": f"stops-{uuid.uuid4().hex[:8]}"}
            own = bayou.connect(name=job["broker"])
            own.create_topic(job["topic"])
            own.produce(job["topic"], [{"n": n, "k": "k", "time": None} for n in range(rows)], progress=False)
            pid = broker_of(os.getpid(), job["broker"])
            kill = lambda: os.kill(pid, signal.SIGKILL)  # noqa: E731
            job["address"] = own.address
            del own
        if state.get("twice"):
            self.once(job, name, kill, then="again")
            name = name.replace("commit", "finishing what is sealed, at the start")
        self.once(job, name, kill)

    def once(self, job: dict[str, Any], name: str, kill: Callable[[], None] | None, then: str = "next") -> None:
        self.kernel.tell(json.dumps(job))
        assert self.kernel.hear() == "ready"
        with contextlib.ExitStack() as stack:
            if job["where"] == "starting":
                stack.enter_context(frozen(self.broker_pid))
            self.kernel.tell("go")
            assert self.kernel.hear() == "there"
            if job["where"] == "dead broker":
                stack.enter_context(frozen(self.broker_pid))
            if kill:
                kill()
            long = 0.6 if "broker" in job["where"] or job["where"] in ("starting", "idle") else 0.1
            time.sleep(self.rng.random() * long)  # a random moment of the state
            pressed = time.monotonic()
            self.kernel.process.send_signal(signal.SIGINT)
            said = self.kernel.hear()
        if said["missed"]:
            self.missed[name] += 1
        else:
            self.taken[name].append((said["raised"] - pressed) * 1000)
        self.kernel.tell(then)
        self.wrong += [f"{name}: {w}" for w in self.kernel.hear()["wrong"]]

    def result(self) -> dict[str, Any]:
        def figures(taken: list[float]) -> dict[str, float]:
            ordered = sorted(taken)
            at = lambda q: round(ordered[min(len(ordered) - 1, int(q * len(ordered)))])  # noqa: E731
            return {"n": len(ordered), "p50": at(0.5), "p99": at(0.99), "max": round(ordered[-1])}

        slow = [t for name, all_ in self.taken.items() if name.startswith("a s") for t in all_]
        usual = [t for name, all_ in self.taken.items() if not name.startswith("a s") for t in all_]
        return {
            "milliseconds": {name: figures(taken) for name, taken in sorted(self.taken.items())},
            "all, on a store that answers": figures(usual) if usual else {},
            "all, on a store that takes 600 ms or hangs": figures(slow) if slow else {},
            "missed": dict(self.missed),
            "wrong": self.wrong,
        }


def campaign(rounds: int, seed: int, only: str = "") -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bayou-stops-") as folder:
        c = Campaign(
            os.environ["BAYOU_TEST_KAFKA"], int(os.environ["BAYOU_TEST_KAFKA_PID"]), seed, pathlib.Path(folder)
        )
        exits = []
        try:
            for _ in range(rounds):
                for state in c.rng.sample(STATES, len(STATES)):
                    if re.search(only, f"{state['where']} / {state['call']}"):
                        print(f"{state['where']} / {state['call']}", file=sys.stderr, flush=True)
                        c.hit(state)
                exits.append(c.kernel.close())
                c.kernel = Kernel()
        except BaseException:
            print(json.dumps(c.result()), file=sys.stderr)
            raise
        finally:
            c.kernel.kill()
        codes = Counter(code for code, _ in exits)
        c.wrong += [f"{n} kernels ended with {code}" for code, n in codes.items() if code]
        return {"seed": seed, **c.result(), "exitCodes": codes, "slowestExit": round(max(s for _, s in exits), 2)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="states whose name has this (a regular expression)")
    given = parser.parse_args()
    result = campaign(given.rounds, given.seed, given.only)
    print(json.dumps(result, indent=1))
    sys.exit(1 if result["wrong"] else 0)
