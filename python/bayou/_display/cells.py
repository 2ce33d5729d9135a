"""Values, rows and tables as HTML."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayou import _core

_ROWS = 100
# JupyterLab aligns the cells of every table to the right, so the alignment has to be important. A tone is a bar beside the text or a badge
# with its own background: no single colour of text can be read on white and on black.
STYLE = (
    "<style>"
    ".bayou{font:13px/1.45 system-ui,sans-serif;color:inherit}"
    ".bayou table{border-collapse:collapse;margin:.4em 0;font-size:13px}"
    ".bayou th,.bayou td{padding:.18em .7em;text-align:left!important;vertical-align:top;"
    "border-bottom:1px solid rgba(128,128,128,.25);white-space:pre-wrap;overflow-wrap:break-word;max-width:32em}"
    ".bayou th{font-weight:600;white-space:nowrap}"
    ".bayou td.n,.bayou th.n{text-align:right!important;white-space:nowrap;font-variant-numeric:tabular-nums}"
    ".bayou .null{opacity:.65;font-style:italic}.bayou .dim{opacity:.75}"
    ".bayou .bad,.bayou .warn{border-left:4px solid #b3261e;padding:.15em .6em;margin:.3em 0;overflow-wrap:anywhere;white-space:pre-wrap}"
    ".bayou .warn{border-left-color:#b26a00}"
    ".bayou .tag{border-radius:.8em;padding:.1em .7em;font-size:12px;color:#fff;background:#5f6368}"
    ".bayou .tag.good{background:#1b6e34}.bayou .tag.failed{background:#b3261e}"
    ".bayou .tiles{display:flex;flex-wrap:wrap;gap:.5em 1.6em;margin:.4em 0}"
    ".bayou .tile b{display:block;font-size:16px;font-variant-numeric:tabular-nums}"
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
        return f'<td title="{html.escape(text[:2000])}">{html.escape(text[:120])}…</td>'
    return f"<td>{html.escape(text)}</td>"


def _rows_html(columns: list[str], rows: list[dict[str, Any]], total: int) -> str:
    first = rows[0] if rows else {}
    numbers = {c for c in columns if isinstance(first.get(c), (int, float)) and not isinstance(first.get(c), bool)}
    head = "".join(f"<th{' class=n' if c in numbers else ''}>{html.escape(c)}</th>" for c in columns)
    body = "".join("<tr>" + "".join(_cell(row[c]) for c in columns) + "</tr>" for row in rows)
    more = (
        f'<div class="dim">{len(rows)} of {total:,} rows</div>'
        if total > len(rows)
        else f'<div class="dim">{total:,} rows</div>'
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def table_html(table: _core.Table) -> str:
    return f'{STYLE}<div class="bayou">{_rows_html(table.columns, table.to_dicts(_ROWS), len(table))}</div>'


def preview_html(preview: _core.Preview) -> str:
    out = _rows_html(preview.rows.columns, preview.rows.to_dicts(_ROWS), len(preview.rows))
    out += "".join(f'<div class="dim">{html.escape(note)}</div>' for note in preview.notes)
    bad = preview.malformed
    if len(bad):
        out += f'<div class="bad">{len(bad)} malformed or set aside</div>' + _rows_html(
            bad.columns, bad.to_dicts(20), len(bad)
        )
    return f'{STYLE}<div class="bayou">{out}</div>'


def connection_html(connection: _core.Connection) -> str:
    head = html.escape(repr(connection))
    try:
        topics = connection.topics()
        body = _rows_html(topics.columns, topics.to_dicts(_ROWS), len(topics))
    except Exception as error:  # a repr must not fail
        body = f'<div class="bad">{html.escape(str(error))}</div>'
    note = '<div class="dim">in memory; ends a few seconds after its last user</div>' if connection.is_embedded else ""
    return f'{STYLE}<div class="bayou"><div>{head}</div>{note}{body}</div>'
