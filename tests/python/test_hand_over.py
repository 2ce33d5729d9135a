"""Two runs of a query in the same process, as when a cell is run again: the first run ends before the second run begins."""

from __future__ import annotations

import os
import pathlib
import signal
import sys
import threading
from typing import Any

import bayou
import pytest
from delta_replay import rows

WAIT = 30


class Held:
    """A function for `foreach_batch` that is held in its first call, and notes how many are in it at once."""

    def __init__(self) -> None:
        self.entered, self.free = threading.Event(), threading.Event()
        self.inside, self.most = 0, 0
        self.calls: list[tuple[int, list[int]]] = []
        self.lock = threading.Lock()

    def __call__(self, batch: Any, epoch: int) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.entered.set()
        assert self.free.wait(WAIT)
        with self.lock:
            self.calls.append((epoch, sorted(batch["n"].to_pylist())))
            self.inside -= 1


class Beside:
    """A run on a thread of its own. Its start waits until the previous run has finished its work."""

    def __init__(self, made: bayou.Pipeline) -> None:
        self.error: BaseException | None = None

        def run() -> None:
            try:
                made.run(progress=False)
            except bayou.BayouError as e:
                self.error = e

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def ended(self) -> BaseException | None:
        self.thread.join(WAIT)
        assert not self.thread.is_alive()
        return self.error


def lake(broker: bayou.Connection, root: pathlib.Path, held: Held) -> bayou.Pipeline:
    made = bayou.Pipeline("p", root)
    raw = broker.read_stream("t", schema="n INT")
    made.table("kept", raw)
    made.foreach_batch("told", raw, held)
    return made


def send(broker: bayou.Connection, numbers: range) -> None:
    broker.produce("t", [{"n": n} for n in numbers], progress=False)


def kept(root: pathlib.Path) -> list[int]:
    return sorted(r["n"] for r in rows(root / "kept"))


@pytest.fixture
def topic(broker: bayou.Connection) -> bayou.Connection:
    broker.create_topic("t", partitions=1)
    send(broker, range(10))
    return broker


def test_a_function_that_a_stopped_run_left_at_work_ends_before_the_next_run_calls_it(
    topic: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    held = Held()
    first = lake(topic, tmp_path, held).run(block=False, progress=False)
    assert held.entered.wait(WAIT)
    first.stop()
    assert not first.is_active and not held.calls
    second = Beside(lake(topic, tmp_path, held))
    second.thread.join(1)
    assert second.thread.is_alive() and held.most == 1, "it has to wait for the call of the run before"
    held.free.set()
    assert second.ended() is None
    # At least once, and the same rows each time.
    assert held.most == 1 and held.calls == [(0, [*range(10)])] * 2
    assert kept(tmp_path) == [*range(10)]


def test_an_interrupted_start_leaves_the_run_before_it_in_its_place_for_the_next_start(
    topic: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    held = Held()
    first = lake(topic, tmp_path, held).run(trigger="100 milliseconds", block=False, progress=False)
    assert held.entered.wait(WAIT)
    # This run waits for the first run, whose function is at work, and is interrupted while it waits.
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        lake(topic, tmp_path, held).run(progress=False)
    timer.join()
    assert first.is_active
    third = Beside(lake(topic, tmp_path, held))
    third.thread.join(1)
    assert third.thread.is_alive() and first.is_active and held.most == 1, "it has to wait for the first"
    held.free.set()
    assert third.ended() is None and not first.is_active and first.exception() is None
    assert held.most == 1 and held.calls == [(0, [*range(10)])]
    assert kept(tmp_path) == [*range(10)]


def test_an_interrupt_that_python_drops_in_a_callback_ends_the_run_all_the_same(
    topic: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    """An exception that is raised in a weak reference's callback or a finalizer is printed and forgotten."""

    class Dropped:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            # The handler runs before the next line, and what it raises ends here.
            threading.get_ident()

    held = Held()
    raw = topic.read_stream("t", schema="n INT")
    made = bayou.Pipeline("p", tmp_path)
    made.table("kept", raw)

    class Panel:
        def __init__(self, *_: Any) -> None:
            self.dropped: Dropped | None = Dropped()

        def update(self) -> None:
            self.dropped = None

        def close(self) -> None:
            pass

    import bayou._display as display

    usual, display.Panel = display.Panel, Panel  # type: ignore[misc, assignment]
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with pytest.raises(KeyboardInterrupt):
            made.run(trigger="100 milliseconds")
    finally:
        display.Panel, sys.unraisablehook = usual, hook  # type: ignore[misc]
    assert made.query is not None and not held.calls
    assert made.query.await_termination(10)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
