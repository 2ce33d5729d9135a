"""An S3 API on loopback for the tests (moto, in memory) that can make requests fail.

    python tests/s3/server.py                    # prints its port, runs until its standard input ends
    python tests/s3/server.py --no-conditions    # a store without put-if-absent: it ignores If-None-Match

The server handles one request at a time, so that put-if-absent is atomic, as in S3. After `POST /_faults` with
{"seed": 1, "rate": 0.05}, this share of the writing requests fails, in one of four ways. `GET /_faults` returns how many have failed.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import random
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

WAYS = ("500 before", "500 after", "503 SlowDown", "cut after")


class Quiet(WSGIRequestHandler):
    def log(self, *_: Any, **__: Any) -> None:
        pass


class Store:
    def __init__(self, inner: Callable[..., Iterable[bytes]], conditions: bool) -> None:
        self.inner, self.conditions = inner, conditions
        self.lock = threading.Lock()
        self.random, self.rate = random.Random(0), 0.0
        self.faults: Counter[str] = Counter()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        # The body is read completely first, because a client that is paused in the middle of its request must not block the others.
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if not self.conditions:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        with self.lock:
            if environ["PATH_INFO"] == "/_faults":
                return self.control(environ, body, start_response)
            way = self.fault(environ["REQUEST_METHOD"])
            if way in ("500 before", "503 SlowDown"):
                return self.fail(way, start_response)
            said: list[Any] = []
            answer = list(self.inner(environ, lambda *a: said.extend(a)))
            if way == "500 after":
                return self.fail(way, start_response)
            if way == "cut after":
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
                raise ConnectionAbortedError  # no answer is sent
            start_response(*said[:2])
            return answer

    def fault(self, method: str) -> str | None:
        if method not in ("PUT", "POST", "DELETE") or self.random.random() >= self.rate:
            return None
        way = self.random.choice(WAYS)
        self.faults[way] += 1
        return way

    def fail(self, way: str, start_response: Callable[..., Any]) -> Iterable[bytes]:
        slow = way == "503 SlowDown"
        status, code = (
            ("503 Service Unavailable", "SlowDown") if slow else ("500 Internal Server Error", "InternalError")
        )
        start_response(status, [("Content-Type", "application/xml")])
        return [f"<Error><Code>{code}</Code><Message>asked for</Message></Error>".encode()]

    def control(self, environ: dict[str, Any], body: bytes, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            asked = json.loads(body)
            self.random, self.rate = random.Random(asked["seed"]), asked["rate"]
            self.faults.clear()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(self.faults).encode()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-conditions", action="store_true")
    given = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    app = Store(DomainDispatcherApplication(create_backend_app), not given.no_conditions)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
