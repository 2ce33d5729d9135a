"""A query as HTML: its current work, the rows that it has written, and notes for the user."""

from __future__ import annotations

import datetime
import html
import json
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bayou._display.cells import STYLE, _cell

if TYPE_CHECKING:
    from bayou import _core

# Rates are over the last seconds, and the curves show the last minutes.
_RECENT = 10.0
_SHOWN = 300.0
_POINTS = 300


@dataclass
class History:
    """The samples of a run while it was shown: the time, the messages so far, and how many are not read yet."""

    samples: deque[tuple[float, int, int | None]] = field(default_factory=lambda: deque(maxlen=4 * _POINTS))
    points: deque[tuple[float, float, int | None]] = field(default_factory=lambda: deque(maxlen=_POINTS))

    def add(self, now: float, messages: int, lag: int | None) -> None:
        self.samples.append((now, messages, lag))
        while len(self.samples) > 2 and now - self.samples[0][0] > _RECENT:
            self.samples.popleft()
        if not self.points or now - self.points[-1][0] >= _SHOWN / _POINTS:
            rate = self.rate()
            if rate is not None:
                self.points.append((now, rate, lag))

    def rate(self) -> float | None:
        """Messages a second over the last seconds. None while there is only one sample."""
        if len(self.samples) < 2:
            return None
        (first, had, _), (last, have, _) = self.samples[0], self.samples[-1]
        return (have - had) / (last - first) if last > first else None


# By run. The oldest are forgotten: a notebook can run for months.
_histories: OrderedDict[str, History] = OrderedDict()


def sample(query: _core.Query) -> dict[str, Any]:
    """The state of a query. It is also remembered, for rates and curves."""
    state: dict[str, Any] = json.loads(query.to_json())
    history = _histories.setdefault(state["runId"], History())
    _histories.move_to_end(state["runId"])
    while len(_histories) > 50:
        _histories.popitem(last=False)
    if state["status"] in ("starting", "running"):
        history.add(time.monotonic(), state["numInputRows"], state["lag"])
    return state


def rate_of(state: dict[str, Any]) -> float | None:
    """Messages a second: of the last seconds while the query runs, of the whole run afterwards."""
    if state["status"] in ("starting", "running"):
        history = _histories.get(state["runId"])
        recent = history.rate() if history is not None else None
        if recent is not None:
            return recent
    seconds = state["seconds"]
    return state["numInputRows"] / seconds if seconds else None


def _number(n: float | None) -> str:
    return "–" if n is None else f"{n:,.0f}"


def ago(moment: str | None, now: datetime.datetime | None = None) -> str:
    """How long ago a time was, in words."""
    if not moment:
        return ""
    try:
        then = datetime.datetime.fromisoformat(moment.replace("Z", "+00:00"))
    except ValueError:
        return ""
    if then.tzinfo is None:
        then = then.replace(tzinfo=datetime.timezone.utc)
    seconds = ((now or datetime.datetime.now(datetime.timezone.utc)) - then).total_seconds()
    ahead, seconds = seconds < 0, abs(seconds)
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "min")):
        if seconds >= 2 * size:
            text = f"{seconds / size:,.0f} {unit}"
            break
    else:
        text = f"{seconds:,.0f} s"
    return f"{text} ahead" if ahead else f"{text} ago"


def _watermark(moment: str | None) -> str:
    if not moment:
        return "–"
    short = moment[:19].replace("T", " ")
    return f"{short} ({ago(moment)})" if ago(moment) else moment


def _tail(path: str, room: int = 40) -> str:
    """A cell with the end of a path, which distinguishes paths. The whole path is the title of the cell."""
    if len(path) <= room:
        return f"<td>{html.escape(path)}</td>"
    # Cut between two names, if there is a place.
    end = path[-room:]
    end = end[end.find("/") :] if "/" in end[:-1] else end
    return f'<td title="{html.escape(path)}">…{html.escape(end)}</td>'


def _curve(values: list[tuple[float, float]], title: str) -> str:
    """A curve over the last minutes."""
    width, height = 220, 28
    first, last = values[0][0], values[-1][0]
    most = max(v for _, v in values)
    span, top = max(last - first, 1.0), most or 1.0
    last_minutes = f"last {span / 60:.0f} min" if span >= 90 else f"last {span:.0f} s"
    path = " ".join(f"{(t - first) / span * width:.1f},{height - 2 - v / top * (height - 4):.1f}" for t, v in values)
    return (
        f'<div class="tile"><svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">'
        f'<polyline points="{path}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
        f'<div class="dim">{title}, at most {_number(most)}, {last_minutes}</div></div>'
    )


def _curves(run: str) -> str:
    history = _histories.get(run)
    if history is None or len(history.points) < 5:
        return ""
    out = _curve([(t, rate) for t, rate, _ in history.points], "messages/s")
    behind = [(t, float(lag)) for t, _, lag in history.points if lag is not None]
    if len(behind) >= 5 and any(v for _, v in behind):
        out += _curve(behind, "behind")
    return f'<div class="tiles">{out}</div>'


def html_of(state: dict[str, Any]) -> str:
    """The panel of a query."""
    status = state["status"]
    tone = {"failed": "failed", "finished": "good", "running": "good"}.get(status, "")
    of_run = "messages/s" if status in ("starting", "running") else "messages/s of the run"
    tiles = [
        ("messages", _number(state["numInputRows"])),
        (of_run, _number(rate_of(state))),
        ("behind", _number(state["lag"])),
        ("watermark", _watermark(state["watermark"])),
        ("late", _number(state["numRowsDroppedByWatermark"])),
        ("malformed", _number(state["numMalformed"])),
        ("epochs", _number(state["epochs"])),
    ]
    out = [f"<div><b>{html.escape(state['name'])}</b> <span class='tag {tone}'>{html.escape(status)}</span></div>"]
    if state["message"]:
        out.append(f'<div class="bad">{html.escape(state["message"])}</div>')
    out += [f'<div class="warn">⚠ {html.escape(text)}</div>' for text in state["warnings"]]
    shown = "".join(f'<div class="tile"><b>{html.escape(v)}</b>{k}</div>' for k, v in tiles)
    out.append(f'<div class="tiles">{shown}</div>')
    out.append(_curves(state["runId"]))
    if state["tables"]:
        heads = ("table", "mode", "rows written in this run", "version", "location")
        head = "".join(f"<th{' class=n' if 'rows' in h or h == 'version' else ''}>{h}</th>" for h in heads)
        body = "".join(
            f'<tr>{_cell(name)}{_cell(t["mode"])}<td class="n">{t["rowsWritten"]:,}</td>{_cell(t["version"])}{_tail(t["location"])}</tr>'
            for name, t in state["tables"].items()
        )
        out.append(f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')
    if state["expectations"]:
        body = ""
        for e in state["expectations"]:
            failed, passed = e["failedRecords"], e["passedRecords"]
            share = 100 * failed / (failed + passed) if failed + passed else 0
            body += (
                f"<tr>{_cell(e['dataset'])}{_cell(e['name'])}{_cell(e['action'])}"
                f'<td class="n">{passed:,}</td><td class="n">{"<b>" if failed else ""}{failed:,}{"</b>" if failed else ""}</td>'
                f'<td class="n">{share:.2f} %</td></tr>'
            )
        texts = "".join(f"<th>{h}</th>" for h in ("dataset", "expectation", "action"))
        numbers = "".join(f"<th class=n>{h}</th>" for h in ("passed", "failed", "share"))
        out.append(f"<table><thead><tr>{texts}{numbers}</tr></thead><tbody>{body}</tbody></table>")
    out += [f'<div class="dim">{html.escape(note)}</div>' for note in state["notes"]]
    return f'{STYLE}<div class="bayou">{"".join(out)}</div>'


def line_of(state: dict[str, Any]) -> str:
    """A query in one line."""
    rate = rate_of(state)
    parts = [f"{state['numInputRows']:,} messages in {state['epochs']:,} epoch{'' if state['epochs'] == 1 else 's'}"]
    if rate is not None:
        parts.append(f"{rate:,.0f}/s")
    if state["lag"] is not None:
        parts.append(f"{state['lag']:,} behind")
    if state["watermark"] and state["status"] == "running":
        parts.append(f"watermark {ago(state['watermark'])}")
    line = f"{state['name']}: {state['status']}, {', '.join(parts)}"
    return f"{line}: {state['message']}" if state["message"] else line
