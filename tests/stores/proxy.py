"""A proxy on loopback in front of an object store. It makes requests fail as real stores and networks do.

After `POST /_faults` with {"seed": 1, "rate": 0.05}, this share of the writing requests fails. `GET /_faults` returns how many have failed. They
fail in the same ways as in tests/s3/server.py, whose clients also work with this proxy.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "s3"))
from stub import Server

WAYS = ("500 before", "500 after", "503 SlowDown", "cut after")
# Headers of one connection, and not of the request.
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@dataclass
class Proxy:
    behind: int
    port: int = 0
    rate: float = 0.0
    random: random.Random = field(default_factory=lambda: random.Random(0))
    faults: Counter[str] = field(default_factory=Counter)
    # This many of the next requests get 503 and this Retry-After.
    throttled: int = 0
    retry_after: int = 1
    requests: list[tuple[str, str, int, float]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, method: str) -> str | None:
        with self.lock:
            if self.throttled > 0:
                self.throttled -= 1
                return "throttled"
            if method not in ("PUT", "POST", "DELETE") or self.random.random() >= self.rate:
                return None
            way = self.random.choice(WAYS)
            self.faults[way] += 1
            return way


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: Proxy

    def log_message(self, *_: Any) -> None:
        pass

    def pass_on(self) -> None:
        proxy = self.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/_faults":
            return self.control(body)
        way = proxy.fault(self.command)
        if way == "throttled":
            return self.reply(503, [("Retry-After", str(proxy.retry_after))], b"<Error><Code>SlowDown</Code></Error>")
        if way in ("500 before", "503 SlowDown"):
            return self.reply(500 if way == "500 before" else 503, [], b"<Error><Code>InternalError</Code></Error>")
        behind = http.client.HTTPConnection("127.0.0.1", proxy.behind, timeout=60)
        try:
            # Signatures include the host that the client named.
            behind.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() != "connection":
                    behind.putheader(name, value)
            behind.endheaders(body)
            answer = behind.getresponse()
            content = answer.read()
        finally:
            behind.close()
        proxy.requests.append((self.command, self.path, answer.status, time.time()))
        if way == "500 after":
            return self.reply(500, [], b"<Error><Code>InternalError</Code></Error>")
        if way == "cut after":
            self.close_connection = True
            return
        headers = [(n, v) for n, v in answer.getheaders() if n.lower() not in HOP]
        if self.command == "HEAD" and answer.getheader("Content-Length"):
            headers.append(("Content-Length", str(answer.getheader("Content-Length"))))
        self.reply(answer.status, headers, content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on

    def reply(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD" and status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def control(self, body: bytes) -> None:
        proxy = self.proxy
        if self.command == "POST":
            asked = json.loads(body)
            with proxy.lock:
                proxy.random, proxy.rate = random.Random(asked["seed"]), asked["rate"]
                proxy.faults.clear()
        self.reply(200, [("Content-Type", "application/json")], json.dumps(proxy.faults).encode())


@contextmanager
def proxy(behind: int) -> Iterator[Proxy]:
    made = Proxy(behind)
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"proxy": made}))
    made.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
