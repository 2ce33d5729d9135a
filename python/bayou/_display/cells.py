"""Values, rows and tables as HTML."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayou import _core

_ROWS = 100
# JupyterLab aligns the cells of every table to the right, so the alignment has to be important. A tone is a bar next to the text or a badge
# with its own background: no single colour of text can be read on white and on black.
STYLE = (
    "<style>"
    ".bayou{font:13px/1.45 system-ui,sans-serif;color:inherit}"
    ".bayou table{border-collapse:collapse;margin:.4em 0;font-size:13px}"
    ".bayou th,.bayou td{padding:.18em .7em;text-align:left!important;vertical-align:top;"
    "border-bottom:1px solid rgba(128,128,128,.25);white-space:pre-wrap;overflow-wrap:break-word;max-width:32em}"
    ".bayou th{font-weight:600;white-space:nowrap}"
    ".bayou td.n,.bayou th.n{text-align:right!important;white-space:nowrap;font-variant-numeric:tabular-nums}"
    ".bayou .null{opacity:.65;font-style:italic}.bayou .dim,.bayou .type{opacity:.75}"
    ".bayou .type{font-weight:400;font-size:11px}.bayou .wide{overflow-x:auto;max-width:100%}"
    ".bayou td.why{min-width:14em}"
    ".bayou details summary{cursor:pointer}.bayou pre{margin:.2em 0;font-size:12px;white-space:pre-wrap}"
    ".bayou .bad,.bayou .warn{border-left:4px solid #b3261e;padding:.15em .6em;margin:.3em 0;overflow-wrap:anywhere;white-space:pre-wrap}"
    ".bayou .warn{border-left-color:#b26a00}"
    ".bayou .tag{border-radius:.8em;padding:.1em .7em;font-size:12px;color:#fff;background:#5f6368}"
    ".bayou .tag.good{background:#1b6e34}.bayou .tag.failed{background:#b3261e}"
    ".bayou .tiles{display:flex;flex-wrap:wrap;gap:.5em 1.6em;margin:.4em 0}"
    ".bayou .tile b{display:block;font-size:16px;font-variant-numeric:tabular-nums}"
    "</style>"
)


def _text(value: Any) -> str:
    """A value as it is written in SQL results: nested values in the form of JSON."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (bytes, bytearray)):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return "0x" + value.hex()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(k)}: {_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_text(v) for v in value) + "]"
    return str(value)


def _lines(value: Any, indent: int = 0) -> str:
    """A nested value, one entry in a line."""
    entries: list[tuple[str, Any]]
    if isinstance(value, dict):
        entries, ends = [(f"{_text(k)}: ", v) for k, v in value.items()], "{}"
    elif isinstance(value, (list, tuple)):
        entries, ends = [("", v) for v in value], "[]"
    else:
        return _text(value)
    if not entries:
        return ends
    pad = "  " * (indent + 1)
    inner = "\n".join(f"{pad}{name}{_lines(v, indent + 1)}" for name, v in entries[:200])
    more = f"\n{pad}… and {len(entries) - 200} more" if len(entries) > 200 else ""
    return f"{ends[0]}\n{inner}{more}\n{'  ' * indent}{ends[1]}"


def _cell(value: Any) -> str:
    if value is None:
        return '<td class="null">NULL</td>'
    if isinstance(value, bool):
        return f"<td>{str(value).lower()}</td>"
    if isinstance(value, int):
        return f'<td class="n">{value}</td>'
    if isinstance(value, float):
        return f'<td class="n">{value:.6g}</td>'
    text = _text(value)
    if text in ("", "NULL"):
        # A text that would look empty, or like NULL.
        return f"<td>'{text}'</td>"
    if isinstance(value, (dict, list)) and len(text) > 60:
        short = html.escape(text[:57])
        return f"<td><details><summary>{short}…</summary><pre>{html.escape(_lines(value)[:5000])}</pre></details></td>"
    if len(text) > 120:
        return f'<td title="{html.escape(text[:2000])}">{html.escape(text[:120])}…</td>'
    return f"<td>{html.escape(text)}</td>"


def _type(text: str) -> str:
    """The type under a column's name. Nested types are long, so only their kind is shown; the whole type is the tooltip."""
    short = text if len(text) <= 24 else text.split("<")[0] + "<…>"
    return f'<div class="type" title="{html.escape(text[:2000])}">{html.escape(short)}</div>'


def _rows_html(table: _core.Table, most: int = _ROWS, types: bool = True) -> str:
    columns, rows, total = table.columns, table.to_dicts(most), len(table)
    numbers = {
        c
        for c in columns
        if any(isinstance(row[c], (int, float)) and not isinstance(row[c], bool) for row in rows[:20])
    }
    named = zip(columns, table.schema.types, strict=True)
    head = "".join(
        f"<th{' class=n' if c in numbers else ''}>{html.escape(c)}{_type(kind) if types else ''}</th>"
        for c, kind in named
    )
    body = "".join("<tr>" + "".join(_cell(row[c]) for c in columns) + "</tr>" for row in rows)
    count = f"{total:,} row{'' if total == 1 else 's'}"
    more = f'<div class="dim">{f"{len(rows)} of " if total > len(rows) else ""}{count}</div>'
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{more}'


def table_html(table: _core.Table, most: int = _ROWS) -> str:
    return f'{STYLE}<div class="bayou">{_rows_html(table, most)}</div>'


def _reasons_html(reasons: _core.Table) -> str:
    head = "<th class=n>count</th><th>reason</th><th>first</th><th>message or row</th>"
    body = ""
    for row in reasons.head(20):
        place = "" if row["topic"] is None else f"{row['topic']}[{row['partition']}] offset {row['offset']}"
        reason = f'<td class="why">{html.escape(row["error"])}</td>'
        body += f"<tr>{_cell(row['count'])}{reason}{_cell(place) if place else '<td></td>'}{_cell(row['value'])}</tr>"
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


_DONE = {"drop": "dropped", "quarantine": "to quarantine", "fail": "would stop the query", "keep": "counted, and kept"}


def preview_html(preview: _core.Preview) -> str:
    out = _rows_html(preview.rows)
    looked = f"Looked at {preview.messages:,} message{'' if preview.messages == 1 else 's'}."
    out += f'<div class="dim">{looked}</div>'
    for rule in preview.expectations:
        failed, of = rule["failed_records"], rule["passed_records"] + rule["failed_records"]
        share = f" ({failed / of:.1%})" if failed else ""
        text = f"{rule['name']}: {failed:,} of {of:,} rows break it{share}"
        text += f", {_DONE.get(rule['action'], rule['action'])}" if failed else ""
        out += f'<div class="{"warn" if failed else "dim"}">{html.escape(text)}</div>'
    out += "".join(f'<div class="dim">{html.escape(note)}</div>' for note in preview.notes)
    reasons = preview.reasons
    if len(reasons):
        out += '<div class="bad">Malformed or set aside</div>' + _reasons_html(reasons)
    return f'{STYLE}<div class="bayou">{out}</div>'


def connection_html(connection: _core.Connection) -> str:
    head = html.escape(repr(connection))
    try:
        topics = connection.topics()
        body = _rows_html(topics, types=False)
    except Exception as error:  # a repr must not fail
        body = f'<div class="bad">{html.escape(str(error))}</div>'
    note = '<div class="dim">in memory; ends a few seconds after its last user</div>' if connection.is_embedded else ""
    return f'{STYLE}<div class="bayou"><div>{head}</div>{note}{body}</div>'
