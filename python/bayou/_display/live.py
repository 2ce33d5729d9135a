"""Output that is updated during a call: the panel of a query, and the counter of `produce`.

In a notebook the output of the cell is updated in place. A terminal has one line that is updated. A scheduled job has a line from time to
time, on stderr, or through the logger "bayou" where logging is configured.
"""

from __future__ import annotations

import atexit
import html
import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from bayou import _notebook
from bayou._display.cells import table_html
from bayou._display.panel import html_of, line_of, sample

if TYPE_CHECKING:
    from bayou import _core

log = logging.getLogger("bayou")

# Seconds between two lines of a job, and between two updates of a panel whose cell has ended.
_EVERY = 30.0
_BEHIND = 1.0
# The threads that follow queries. They end before the interpreter does: a thread that writes to stderr at that time would abort it.
_following: set[threading.Thread] = set()
_exit = threading.Event()


@atexit.register
def _end() -> None:
    _exit.set()
    for thread in list(_following):
        thread.join(1.0)


def in_notebook() -> bool:
    """Whether the front end of this kernel shows HTML. IPython in a terminal does not."""
    shell = _notebook.shell()
    return shell is not None and type(shell).__name__ not in ("TerminalInteractiveShell", "NoneType")


def _cell() -> int | None:
    """The number of the cell that runs."""
    return getattr(_notebook.shell(), "execution_count", None)


class _Html:
    def __init__(self, text: str, plain: str = "") -> None:
        self.text = text
        self.plain = plain

    def __repr__(self) -> str:
        return self.plain

    def _repr_html_(self) -> str:
        return self.text


def _drawn(query: _core.Query) -> _Html:
    state = sample(query)
    return _Html(html_of(state), line_of(state))


class _Lines:
    """Lines for a terminal or a log."""

    def __init__(self) -> None:
        self._said = time.monotonic()
        self._open = 0
        self._last = ""

    def update(self, text: str) -> None:
        now = time.monotonic()
        if sys.stderr is not None and sys.stderr.isatty():
            if text != self._last:
                self._last = text
                print(f"\r{text:<{self._open}}", end="", file=sys.stderr, flush=True)
                self._open = len(text)
            self._said = now
        elif now - self._said >= _EVERY:
            self._said = now
            self.say(logging.INFO, text)

    def due(self) -> bool:
        terminal = sys.stderr is not None and sys.stderr.isatty()
        return time.monotonic() - self._said >= (0.5 if terminal else _EVERY)

    def end(self) -> None:
        """Removes the line of a terminal."""
        if self._open:
            print(f"\r{' ' * self._open}\r", end="", file=sys.stderr, flush=True)
            self._open = 0

    def say(self, level: int, text: str) -> None:
        """A line of its own. It is visible also if logging is not configured."""
        self.end()
        if log.hasHandlers():
            log.log(level, "%s", text)
        elif sys.stderr is not None:
            print(text, file=sys.stderr, flush=True)


# The cell in which a run was shown last. A Query that is the last expression of this cell would show the same panel a second time.
_shown: dict[str, int | None] = {}


def query_html(query: _core.Query) -> str:
    return html_of(sample(query))


class Panel:
    """Shows a query until it ends: with `block` by calls of `update`, otherwise from a thread of its own.

    With `tell`, the panel of the call that started the query, a failure is logged too.
    """

    def __init__(self, query: _core.Query, block: bool, tell: bool = True) -> None:
        self._query = query
        self._handle: Any = None
        self._lines = _Lines()
        self._tell = tell
        if in_notebook():
            while len(_shown) > 100:
                _shown.pop(next(iter(_shown)))
            _shown[query.run_id] = _cell()
            from IPython.display import display

            self._handle = display(_drawn(query), display_id=True)  # type: ignore[no-untyped-call, unused-ignore]
        if not block:
            thread = threading.Thread(target=self._follow, name=f"bayou-panel {query.name}", daemon=True)
            _following.add(thread)
            thread.start()

    def update(self) -> None:
        if self._handle is not None:
            self._handle.update(_drawn(self._query))
        elif self._lines.due():
            self._lines.update(line_of(sample(self._query)))

    def close(self) -> None:
        if self._handle is not None:
            self._handle.update(_drawn(self._query))
            _shown[self._query.run_id] = _cell()
        else:
            self._lines.say(
                logging.ERROR if self._query.status == "failed" else logging.INFO, line_of(sample(self._query))
            )

    def _follow(self) -> None:
        # On Databricks only the output of the running cell can be updated, so the panel is drawn again when the user asks for it.
        drawn = self._handle is not None and "DATABRICKS_RUNTIME_VERSION" not in os.environ
        try:
            while self._query.is_active and not _exit.is_set():
                if drawn:
                    self._handle.update(_drawn(self._query))
                elif self._handle is None and self._lines.due() and not _interactive():
                    self._lines.update(line_of(sample(self._query)))
                _exit.wait(_BEHIND)
            if self._tell and self._query.status == "failed":
                # Without handlers, Python writes an error to stderr.
                self._lines.end()
                log.error("%s", line_of(sample(self._query)))
            if drawn:
                self._handle.update(_drawn(self._query))
        except Exception:
            # The kernel is going away, or the front end is gone. The query itself is not affected.
            log.debug("the panel of a query ended", exc_info=True)
        finally:
            _following.discard(threading.current_thread())


def _interactive() -> bool:
    """Whether the user types at a prompt, where lines of a background thread would be in the way."""
    return hasattr(sys, "ps1") or _notebook.shell() is not None


def show(query: _core.Query) -> None:
    """Shows the panel of a query, which stays alive as long as the query runs."""
    if in_notebook():
        Panel(query, False, tell=False)
    else:
        print(line_of(sample(query)))


def show_again(query: _core.Query) -> None:
    """Shows a query that is the last expression of a cell."""
    if not in_notebook():
        print(repr(query))
    elif query.run_id not in _shown or _shown[query.run_id] != _cell():
        show(query)


class Progress:
    """One line with a counter."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._handle: Any = None
        self._said = time.monotonic()
        self._lines = _Lines()

    def update(self, rows: int, seconds: float) -> None:
        if time.monotonic() - self._said < 0.5:
            return
        self._said = time.monotonic()
        text = f"{self._what}: {rows:,} rows in {seconds:.0f} s ({rows / seconds if seconds else 0:,.0f}/s)"
        if not in_notebook():
            self._lines.update(text)
        elif self._handle is None:
            from IPython.display import display

            self._handle = display(_Html(html.escape(text), text), display_id=True)  # type: ignore[no-untyped-call, unused-ignore]
        else:
            self._handle.update(_Html(html.escape(text), text))

    def close(self) -> None:
        if self._handle is not None:
            self._handle.update(_Html(""))
        self._lines.end()


def show_table(table: _core.Table, rows: int, text: str) -> None:
    """Shows the first rows of a table: as HTML where the front end shows it, otherwise as `text`."""
    if in_notebook():
        from IPython.display import display

        display(_Html(table_html(table, rows), text))  # type: ignore[no-untyped-call, unused-ignore]
    else:
        print(text)
