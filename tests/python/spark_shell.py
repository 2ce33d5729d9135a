"""SQL of the tests' Spark, as rows of JSON."""

from __future__ import annotations

import json
import pathlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "spark"))
from spark_server import connect, server


class Spark:
    def __init__(self, session: Any) -> None:
        self.session = session

    def sql(self, statement: str) -> list[dict[str, Any]]:
        frame = self.session.sql(statement)
        if not frame.columns:
            return []
        return [json.loads(r["row"]) for r in frame.selectExpr("to_json(struct(*)) AS row").collect()]


@contextmanager
def spark() -> Iterator[Spark]:
    with server() as how:
        session = connect(how)
        try:
            yield Spark(session)
        finally:
            session.stop()
