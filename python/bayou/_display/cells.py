"""HTML for notebooks: tables, connections, and a panel that is updated in place while a query runs.

In a plain script or a scheduled job, the logger "bayou" writes a line from time to time instead.
"""

from __future__ import annotations

import html
import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayou import _core

log = logging.getLogger("bayou")

_ROWS = 100
_STYLE = (
    "<style>"
    ".bayou{font:13px/1.45 system-ui,sans-serif;color:inherit}"
    ".bayou table{border-collapse:collapse;margin:.4em 0}"
    ".bayou th,.bayou td{padding:.18em .7em;text-align:left;border-bottom:1px solid rgba(128,128,128,.25);white-space:nowrap}"
    ".bayou th{font-weight:600}.bayou td.n{text-align:right;font-variant-numeric:tabular-nums}"
    ".bayou .null{opacity:.45}.bayou .dim{opacity:.65}.bayou .bad{color:#c0392b}.bayou .good{color:#1e8449}"
    ".bayou .tag{border-radius:.8em;padding:.05em .6em;border:1px solid currentColor;font-size:12px}"
    ".bayou .tiles{display:flex;flex-wrap:wrap;gap:.5em 1.6em;margin:.4em 0}.bayou .tile b{display:block;font-size:16px;font-variant-numeric:tabular-nums}"
    "</style>"
)


def _cell(value: Any) -> str:
    if value is None:
        return '<td class="null">NULL</td>'
    if isinstance(value, bool):
        return f"<td>{str(value).lower()}</td>"
    if isinstance(value, int):
        return f'<td class="n">{value}</td>'
    if isinstance(value, float):
        return f'<td class="n">{value:.6g}</td>'
    if isinstance(value, (bytes, bytearray)):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = "0x" + value.hex()
    else:
        text = str(value)
    if len(text) > 120:
        text = text[:120] + "…"
    return f"<td>{html.escape(text)}</td>"


def _rows_html(columns: list[str], rows: list[dict[str, Any]], total: int) -> str:
    head = "".join(f"<th>{html.escape(c)}</th>" for c in columns)
    body = "".join("<tr>" + "".join(_cell(row[c]) for c in columns) + "</tr>" for row in rows)
    more = (
        f'<div class="dim">{len(rows)} of {total:,} rows</div>'
        if total > len(rows)
        else f'<div class="dim">{total:,} rows</div>'
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def table_html(table: _core.Table) -> str:
    return f'{_STYLE}<div class="bayou">{_rows_html(table.columns, table.to_dicts(_ROWS), len(table))}</div>'


def preview_html(preview: _core.Preview) -> str:
    out = _rows_html(preview.rows.columns, preview.rows.to_dicts(_ROWS), len(preview.rows))
    out += "".join(f'<div class="dim">{html.escape(note)}</div>' for note in preview.notes)
    bad = preview.malformed
    if len(bad):
        out += f'<div class="bad">{len(bad)} malformed or set aside</div>' + _rows_html(
            bad.columns, bad.to_dicts(20), len(bad)
        )
    return f'{_STYLE}<div class="bayou">{out}</div>'


def connection_html(connection: _core.Connection) -> str:
    head = html.escape(repr(connection))
    try:
        topics = connection.topics()
        body = _rows_html(topics.columns, topics.to_dicts(_ROWS), len(topics))
    except Exception as error:  # a repr must not fail
        body = f'<div class="bad">{html.escape(str(error))}</div>'
    note = '<div class="dim">in memory; ends a few seconds after its last user</div>' if connection.is_embedded else ""
    return f'{_STYLE}<div class="bayou"><div>{head}</div>{note}{body}</div>'


def _number(n: float) -> str:
    return f"{n:,.0f}"


# Runs whose panel has just ended, and when. A Query that is the last expression of a cell would show the same panel a second time.
_ended: dict[str, float] = {}


def query_html(query: _core.Query) -> str:
    if time.monotonic() - _ended.pop(query.run_id, -1.0) < 0.5:
        return ""
    return _query_html(query)


def _query_html(query: _core.Query) -> str:
    r = json.loads(query.to_json())
    status = r["status"]
    tone = {"failed": "bad", "finished": "good", "running": "good"}.get(status, "dim")
    seconds = r["seconds"] or 0
    tiles = [
        ("messages", _number(r["numInputRows"])),
        ("messages/s", _number(r["numInputRows"] / seconds) if seconds else "–"),
        ("behind", "–" if r["lag"] is None else _number(r["lag"])),
        ("watermark", r["watermark"] or "–"),
        ("late", _number(r["numRowsDroppedByWatermark"])),
        ("malformed", _number(r["numMalformed"])),
        ("epochs", _number(r["epochs"])),
    ]
    out = [f"<div><b>{html.escape(r['name'])}</b> <span class='tag {tone}'>{html.escape(status)}</span></div>"]
    if r["message"]:
        out.append(f'<div class="bad">{html.escape(r["message"])}</div>')
    out.append(
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{html.escape(v)}</b>{k}</div>' for k, v in tiles)
        + "</div>"
    )
    tables = [
        {
            "table": name,
            "mode": t["mode"],
            "rows written": t["rowsWritten"],
            "version": t["version"],
            "location": t["location"],
        }
        for name, t in r["tables"].items()
    ]
    if tables:
        head = "".join(f"<th>{c}</th>" for c in tables[0])
        body = "".join("<tr>" + "".join(_cell(v) for v in t.values()) + "</tr>" for t in tables)
        out.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    if r["expectations"]:
        body = ""
        for e in r["expectations"]:
            failed, passed = e["failedRecords"], e["passedRecords"]
            share = 100 * failed / (failed + passed) if failed + passed else 0
            tone = ' class="n bad"' if failed else ' class="n"'
            body += (
                f"<tr>{_cell(e['dataset'])}{_cell(e['name'])}{_cell(e['action'])}"
                f'<td class="n">{passed:,}</td><td{tone}>{failed:,}</td><td class="n">{share:.2f} %</td></tr>'
            )
        heads = "".join(f"<th>{h}</th>" for h in ("dataset", "expectation", "action", "passed", "failed", ""))
        out.append(f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>")
    for note in [*r["notes"], *r["warnings"]]:
        out.append(f'<div class="dim">{html.escape(note)}</div>')
    return f'{_STYLE}<div class="bayou">{"".join(out)}</div>'


def _in_notebook() -> bool:
    """Whether the front end of this kernel shows HTML. IPython in a terminal does not."""
    ipython = sys.modules.get("IPython")
    if ipython is None:
        return False
    shell = ipython.get_ipython()
    return shell is not None and type(shell).__name__ not in ("TerminalInteractiveShell", "NoneType")


class _Html:
    def __init__(self, text: str) -> None:
        self.text = text

    def _repr_html_(self) -> str:
        return self.text


class Panel:
    """Shows a query. In a notebook the panel is updated in place, at most twice a second. Elsewhere there are a few log lines."""

    def __init__(self, query: _core.Query, block: bool) -> None:
        self._query = query
        self._handle: Any = None
        self._said = time.monotonic()
        self._live = block and _in_notebook()
        if self._live:
            from IPython.display import display

            self._handle = display(_Html(_query_html(query)), display_id=True)  # type: ignore[no-untyped-call, unused-ignore]

    def update(self) -> None:
        if self._handle is not None:
            self._handle.update(_Html(_query_html(self._query)))
        elif time.monotonic() - self._said > 30:
            self._said = time.monotonic()
            log.info("%s", _line(self._query))

    def close(self) -> None:
        if self._handle is not None:
            self._handle.update(_Html(_query_html(self._query)))
            _ended[self._query.run_id] = time.monotonic()
        else:
            log.info("%s", _line(self._query))


def _line(query: _core.Query) -> str:
    r = json.loads(query.to_json())
    rate = r["numInputRows"] / r["seconds"] if r["seconds"] else 0
    lag = "" if r["lag"] is None else f", {r['lag']:,} behind"
    return f"{r['name']}: {r['status']}, {r['numInputRows']:,} messages in {r['epochs']} epochs ({rate:,.0f}/s{lag})"


class Progress:
    """One line with a counter."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._handle: Any = None
        self._said = time.monotonic()

    def update(self, rows: int, seconds: float) -> None:
        text = f"{self._what}: {rows:,} rows in {seconds:.0f} s ({rows / seconds if seconds else 0:,.0f}/s)"
        if time.monotonic() - self._said < 0.5:
            return
        if _in_notebook():
            self._said = time.monotonic()
            if self._handle is None:
                from IPython.display import display

                self._handle = display(_Html(html.escape(text)), display_id=True)  # type: ignore[no-untyped-call, unused-ignore]
            else:
                self._handle.update(_Html(html.escape(text)))
        elif time.monotonic() - self._said > 30:
            self._said = time.monotonic()
            log.info("%s", text)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.update(_Html(""))
