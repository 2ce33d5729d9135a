"""Alerts: SQL over the tables of a pipeline, and a function that is called when rows appear."""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from bayou import _core

log = logging.getLogger("bayou.alerts")


@dataclass
class Alert:
    """One alert of a pipeline."""

    name: str
    sql: str
    then: Callable[[_core.Table], Any]
    every: float | None = None
    # When the query runs again, by the monotonic clock.
    due: float = 0.0
    firing: bool | None = None
    # The state in the checkpoint. It differs from `firing` until the note is written.
    noted: bool | None = None


class Watch:
    """Looks after the alerts of a run, on a thread of its own."""

    def __init__(self, alerts: list[Alert], ask: Callable[[str], _core.Table], notes: Notes, name: str) -> None:
        now = time.monotonic()
        # Copies, because the state of an alert belongs to one run.
        self._alerts = [replace(a, due=now + (a.every or 0.0), firing=None, noted=None) for a in alerts]
        self._ask = ask
        self._notes = notes
        self._name = name
        # The query of a run in the background. No call waits for its end.
        self._query: _core.Query | None = None
        self._told: dict[str, str] = {}
        self._events: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._listening = _core._listen("done", self._heard)
        self._look_again = True
        self._thread = threading.Thread(target=self._run, name=f"bayou-alerts {name}", daemon=True)
        self._thread.start()

    def _heard(self, event: dict[str, Any]) -> None:
        if event["name"] == self._name:
            self._events.put(True)

    def follow(self, query: _core.Query) -> None:
        """Runs until the query ends."""
        self._query = query

    def close(self, look: bool = True, wait: bool = False) -> None:
        """Ends the thread. `look`: runs the queries once more, after the last epoch, and waits for them. `wait`: waits for a function that runs."""
        self._look_again = look
        self._events.put(False)
        if look or wait:
            self._thread.join()

    def _run(self) -> None:
        goes_on = True
        while goes_on:
            clocks = [a.due for a in self._alerts if a.every is not None]
            wait = max(min([*clocks, time.monotonic() + 1.0]) - time.monotonic(), 0.0)
            ended = self._query is not None and not self._query.is_active
            try:
                goes_on = self._events.get(timeout=0 if ended else wait)
                # If several epochs ended meanwhile, the queries run once.
                while goes_on and not self._events.empty():
                    goes_on = self._events.get()
                by_clock = False
            except queue.Empty:
                by_clock, goes_on = not ended, not ended
            if not goes_on and not self._look_again:
                break
            now = time.monotonic()
            for alert in self._alerts:
                if alert.every is None and by_clock:
                    continue
                if alert.every is not None and now < alert.due and goes_on:
                    continue
                self._look(alert)
                if alert.every is not None:
                    alert.due = max(alert.due + alert.every, time.monotonic())
        _core._unlisten(self._listening)

    def _look(self, alert: Alert) -> None:
        try:
            if alert.firing is None:
                alert.firing = alert.noted = self._notes.read(alert.name)
            rows = self._ask(alert.sql)
            if bool(len(rows)) != alert.firing:
                if len(rows):
                    alert.then(rows)
                alert.firing = bool(len(rows))
            # Only now: after a crash in between, the function is called again. A note that cannot be written is tried again, and the function
            # is not called for that.
            if alert.noted != alert.firing:
                self._notes.write(alert.name, alert.firing)
                alert.noted = alert.firing
        except Exception as error:
            # A table that does not exist yet would give a warning after each epoch.
            if self._told.get(alert.name) != str(error):
                self._told[alert.name] = str(error)
                text = "the alert %r of %r failed, and is tried again: %s"
                log.warning(text, alert.name, self._name, error, exc_info=not isinstance(error, _core.BayouError))


class Notes:
    """The state of each alert in the checkpoint: whether its query returned rows."""

    def __init__(self, schema: str | None, checkpoint: str, storage_options: Any) -> None:
        self._schema = schema
        self._checkpoint = checkpoint
        self._storage_options = storage_options

    def _place(self, name: str) -> str:
        return f"alerts/{quote(name, safe='')}.json"

    def read(self, name: str) -> bool:
        text = _core._read_note(self._schema, self._checkpoint, self._place(name), self._storage_options)
        return text is not None and bool(json.loads(text).get("firing"))

    def write(self, name: str, firing: bool) -> None:
        text = json.dumps({"formatVersion": 1, "firing": firing})
        _core._write_note(self._schema, self._checkpoint, self._place(name), text, self._storage_options)


def checked(name: str, sql: str, every: float | None, then: Callable[[_core.Table], Any]) -> Alert:
    """The alert, or an error that is about the arguments."""
    if not isinstance(sql, str) or not sql.strip():
        raise _core.ConfigError(f"alert {name!r} needs a SELECT over the tables of the pipeline")
    if not callable(then):
        raise _core.ConfigError(f"alert {name!r}: then= takes a function of the rows, not {type(then).__name__}")
    if every is not None and every < 1:
        warnings.warn(f"alert {name!r}: every= is at least one second", UserWarning, stacklevel=3)
        every = 1.0
    return Alert(name, sql, then, every)
