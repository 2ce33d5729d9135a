"""How bayou shows tables, connections and queries."""

from bayou._display.cells import connection_html, preview_html, table_html
from bayou._display.live import Panel, Progress, query_html, show, show_again, show_table

__all__ = [
    "Panel",
    "Progress",
    "connection_html",
    "preview_html",
    "query_html",
    "show",
    "show_again",
    "show_table",
    "table_html",
]
