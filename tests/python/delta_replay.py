"""A Delta table read by a replay of its log and by pyarrow's Parquet reader: shares no code with the writer of the table."""

from __future__ import annotations

import json
import pathlib
import urllib.parse
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def live_files(table: str | pathlib.Path) -> dict[str, dict[str, Any]]:
    live: dict[str, dict[str, Any]] = {}
    for version in sorted(pathlib.Path(table, "_delta_log").glob("*.json")):
        for line in version.read_text().splitlines():
            action = json.loads(line)
            if "add" in action:
                path = action["add"]["path"]
                assert path not in live, f"{path} is added twice"
                live[path] = action["add"]
            elif "remove" in action:
                assert live.pop(action["remove"]["path"], None) is not None, "removed but not there"
    return live


def transactions(table: str | pathlib.Path) -> dict[str, int]:
    newest: dict[str, int] = {}
    for version in sorted(pathlib.Path(table, "_delta_log").glob("*.json")):
        for line in version.read_text().splitlines():
            txn = json.loads(line).get("txn")
            if txn:
                newest[txn["appId"]] = txn["version"]
    return newest


def rows(table: str | pathlib.Path) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for path, add in live_files(table).items():
        found = pq.ParquetFile(pathlib.Path(table, urllib.parse.unquote(path))).read()
        for name, value in (add.get("partitionValues") or {}).items():
            found = found.append_column(name, pa.array([value] * found.num_rows, pa.string()))
        out.extend(found.to_pylist())
    return out
