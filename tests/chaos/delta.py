"""Reads a Delta table from its log, with pyarrow's Parquet reader. Short, strict, and without any code of the writer."""

from __future__ import annotations

import json
import pathlib
import urllib.parse
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def plain(kind: pa.DataType) -> pa.DataType:
    """Joined files have texts as views. The texts are the same."""
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(plain(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(plain(field.type)) for field in kind])
    views = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    return views.get(kind, kind)


@dataclass
class Commit:
    version: int
    adds: dict[str, dict[str, Any]]
    removes: list[str]
    txns: dict[str, int]
    # Small files became large ones (OPTIMIZE): the rows are those of the removed files.
    joined: bool = False


class Table:
    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.problems: list[str] = []
        self.commits: list[Commit] = []
        self.live: dict[str, Commit] = {}
        # Every file that was ever added.
        self.added: dict[str, Commit] = {}
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
        changes: list[bool] = []
        for line in text.splitlines():
            action = json.loads(line)
            if add := action.get("add"):
                if add["path"] in commit.adds:
                    self.problems.append(f"{self.path.name}: version {version} adds {add['path']} twice")
                commit.adds[add["path"]] = add
                changes.append(add["dataChange"])
            elif remove := action.get("remove"):
                commit.removes.append(remove["path"])
                changes.append(remove["dataChange"])
            elif txn := action.get("txn"):
                commit.txns[txn["appId"]] = txn["version"]
        commit.joined = bool(commit.adds and commit.removes) and not any(changes)
        if changes and not any(changes) and not commit.joined:
            self.problems.append(f"{self.path.name}: version {version} says that no data changed")
        for path in commit.removes:
            if self.live.pop(path, None) is None:
                self.problems.append(f"{self.path.name}: version {version} removes {path}, which is not there")
        for path in commit.adds:
            if path in self.live:
                self.problems.append(f"{self.path.name}: version {version} adds {path} again")
            self.live[path] = self.added[path] = commit
        self.commits.append(commit)

    def read(self, path: str) -> pa.Table:
        add = self.added[path].adds[path]
        file = self.path / urllib.parse.unquote(path)
        if not file.exists():
            self.problems.append(f"{self.path.name}: the file {path} is gone")
            return pa.table({})
        found = pq.ParquetFile(file).read()
        found = found.cast(pa.schema([field.with_type(plain(field.type)) for field in found.schema]))
        stated = json.loads(add.get("stats") or "{}").get("numRecords", found.num_rows)
        if stated != found.num_rows or add["size"] != file.stat().st_size:
            self.problems.append(f"{self.path.name}: {path} is not what the log says of it")
        return found

    def versions(self, path: str, found: pa.Table) -> list[int]:
        """The version that added each row. For rows of joined files: the version that added the row first."""
        commit = self.added[path]
        if not commit.joined:
            return [commit.version] * found.num_rows
        before: dict[str, list[int]] = defaultdict(list)
        for old in commit.removes:
            rows = self.read(old)
            for row, version in zip(map(repr, rows.to_pylist()), self.versions(old, rows), strict=True):
                before[row].append(version)
        return [before[row].pop() if before[row] else commit.version for row in map(repr, found.to_pylist())]

    def _check_joined(self) -> None:
        """Checks that joining files has changed no row."""
        for commit in (c for c in self.commits if c.joined):
            held = lambda paths: Counter(repr(r) for p in paths for r in self.read(p).to_pylist())  # noqa: E731
            if held(commit.adds) != held(commit.removes):
                self.problems.append(f"{self.path.name}: version {commit.version} joins files and changes their rows")

    def rows(self) -> pa.Table:
        """All rows, with the version that added each row as `_version`, and a number for the row's file as `_file` (-1: the file was made by joining
        files)."""
        self._check_joined()
        pieces = []
        for number, (path, commit) in enumerate(self.live.items()):
            piece = self.read(path)
            if piece.num_rows:
                files = [-1 if commit.joined else number] * piece.num_rows
                piece = piece.append_column("_version", pa.array(self.versions(path, piece), pa.int64()))
                pieces.append(piece.append_column("_file", pa.array(files, pa.int64())))
        return pa.concat_tables(pieces) if pieces else pa.table({})
