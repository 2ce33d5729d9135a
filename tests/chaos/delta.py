"""A Delta table, from its log and by pyarrow's Parquet reader. Short, strict, and no code of what wrote it."""

from __future__ import annotations

import json
import pathlib
import urllib.parse
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass
class Commit:
    version: int
    adds: dict[str, dict[str, Any]]
    removes: list[str]
    txns: dict[str, int]


class Table:
    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.problems: list[str] = []
        self.commits: list[Commit] = []
        self.live: dict[str, Commit] = {}
        names = sorted(path.joinpath("_delta_log").glob("[0-9]*.json"))
        for expected, name in enumerate(names):
            if int(name.stem) != expected:
                self.problems.append(f"{path.name}: version {expected} of the log is missing")
                break
            self._take(int(name.stem), name.read_text())
        if not names:
            self.problems.append(f"{path.name}: there is no log")

    def _take(self, version: int, text: str) -> None:
        commit = Commit(version, {}, [], {})
        for line in text.splitlines():
            action = json.loads(line)
            if add := action.get("add"):
                if add["path"] in commit.adds:
                    self.problems.append(f"{self.path.name}: version {version} adds {add['path']} twice")
                commit.adds[add["path"]] = add
            elif remove := action.get("remove"):
                commit.removes.append(remove["path"])
            elif txn := action.get("txn"):
                commit.txns[txn["appId"]] = txn["version"]
        for path in commit.removes:
            if self.live.pop(path, None) is None:
                self.problems.append(f"{self.path.name}: version {version} removes {path}, which is not there")
        for path in commit.adds:
            if path in self.live:
                self.problems.append(f"{self.path.name}: version {version} adds {path} again")
            self.live[path] = commit
        self.commits.append(commit)

    def read(self, path: str) -> pa.Table:
        add = self.live[path].adds[path]
        file = self.path / urllib.parse.unquote(path)
        if not file.exists():
            self.problems.append(f"{self.path.name}: the file {path} is gone")
            return pa.table({})
        found = pq.ParquetFile(file).read()
        stated = json.loads(add.get("stats") or "{}").get("numRecords", found.num_rows)
        if stated != found.num_rows or add["size"] != file.stat().st_size:
            self.problems.append(f"{self.path.name}: {path} is not what the log says of it")
        return found

    def rows(self) -> pa.Table:
        """All rows, with the version that brought each one as `_version`."""
        pieces = []
        for path, commit in self.live.items():
            piece = self.read(path)
            if piece.num_rows:
                versions = pa.array([commit.version] * piece.num_rows, pa.int64())
                pieces.append(piece.append_column("_version", versions))
        return pa.concat_tables(pieces) if pieces else pa.table({})
