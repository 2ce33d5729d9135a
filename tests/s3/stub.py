"""A stub of an object store, in memory. It supports only the requests that object_store sends to S3 and to Google Cloud Storage's XML API.

The stub records every request, answers after a latency that can be set, throttles, and accepts credentials for a limited time. moto (server.py) is
the independent implementation of S3's API. The stub is for cases that moto does not support, and for many requests.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.sax.saxutils import escape

BUCKET = "lake"


@dataclass
class Object:
    content: bytes
    number: int
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.content).hexdigest()}-{self.number}"'


@dataclass(frozen=True)
class Request:
    """A request: "GET", "PUT", "CREATE" (a put-if-absent), "HEAD", "LIST", "DELETE" or "MULTIPART", and the name within the bucket."""

    kind: str
    name: str
    status: int
    size: int
    at: float
    # The key id or the token of the request.
    who: str


class Stub:
    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.lock = threading.Lock()
        self.requests: list[Request] = []
        self.latency = 0.0
        self.count = 0
        # The end of the lifetime of each key id or token, by time.time(). None: all of them are accepted.
        self.accepts: dict[str, float] | None = None
        # The folder that a token gives access to, and whether the token may write there.
        self.scopes: dict[str, tuple[str, bool]] = {}
        # This many of the next requests get 503 and this Retry-After.
        self.throttled, self.retry_after = 0, 1
        # The store's put-if-absent is not atomic: the store looks for the key, and then writes.
        self.lies = False
        # The most keys in one page of a listing.
        self.page = 1000
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def options(self) -> dict[str, str]:
        return {
            "aws_access_key_id": "test-key",
            "aws_secret_access_key": "test-secret-sesame",
            "aws_region": "us-east-1",
            "aws_endpoint": self.endpoint,
            "aws_allow_http": "true",
        }

    def names(self, prefix: str = "") -> list[str]:
        with self.lock:
            return sorted(n for n in self.objects if n.startswith(prefix))

    def put(self, name: str, content: bytes) -> None:
        with self.lock:
            self.count += 1
            self.objects[name] = Object(content, self.count)


NS = "http://s3.amazonaws.com/doc/2006-03-01/"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Otherwise the body of an answer would wait until the client has confirmed the head.
    disable_nagle_algorithm = True
    wbufsize = -1
    stub: Stub

    def log_message(self, *_: Any) -> None:
        pass

    def who(self) -> str:
        sent = self.headers
        if sent.get("x-amz-security-token"):
            return str(sent["x-amz-security-token"])
        found = re.search(r"Credential=([^/]+)/|Bearer (.+)", sent.get("Authorization", ""))
        return (found.group(1) or found.group(2)) if found else ""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.stub.requests.append(
            Request(self.kind, self.name, status, max(len(body), self.sent), time.time(), self.who())
        )
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Length", headers.get("length_of", str(len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def refuse(self, status: int, code: str, **headers: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
        self.answer(status, body, Content_Type="application/xml", **headers)

    def handle_one(self) -> None:
        stub = self.stub
        self.sent = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(self.sent)
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        bucket, _, name = urllib.parse.unquote(url.path).lstrip("/").partition("/")
        self.kind, self.name = self.command, name
        absent = self.headers.get("If-None-Match") == "*" or self.headers.get("x-goog-if-generation-match") == "0"
        if self.command == "PUT" and absent:
            self.kind = "CREATE"
        if self.command == "GET" and not name:
            self.kind, self.name = "LIST", query.get("prefix", "")
        if "uploads" in query or "uploadId" in query:
            self.kind = "MULTIPART"
        if self.command == "POST" and "delete" in query:
            self.kind = "DELETE"
        if stub.latency:
            time.sleep(stub.latency)
        with stub.lock:
            stub.throttled, throttled = max(stub.throttled - 1, 0), stub.throttled > 0
        if throttled:
            return self.refuse(503, "SlowDown", Retry_After=str(stub.retry_after))
        if stub.accepts is not None:
            until = stub.accepts.get(self.who())
            if until is None:
                return self.refuse(403, "InvalidAccessKeyId")
            if until <= time.time():
                return self.refuse(
                    403 if self.headers.get("Authorization", "").startswith("AWS4") else 401, "ExpiredToken"
                )
        if not self.within(name, query, body):
            return self.refuse(403, "AccessDenied")
        if bucket != BUCKET:
            return self.refuse(404, "NoSuchBucket")
        if stub.lies and absent:
            with stub.lock:
                there = name in stub.objects
            time.sleep(0.005)
            if there:
                return self.refuse(412, "PreconditionFailed")
            absent = False
        with stub.lock:
            self.act(name, query, body, absent)

    def within(self, name: str, query: dict[str, str], body: bytes) -> bool:
        """Whether the token gives access to all keys of the request."""
        folder, write = self.stub.scopes.get(self.who(), ("", True))
        names = [name] if name else [query.get("prefix", "")]
        if self.kind == "DELETE" and self.command == "POST":
            names = re.findall(r"<Key>(.*?)</Key>", body.decode())
        inside = all(n == folder or n.startswith(f"{folder}/") for n in names) if folder else True
        return inside and (write or self.command in ("GET", "HEAD"))

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_one

    def act(self, name: str, query: dict[str, str], body: bytes, absent: bool) -> None:
        stub = self.stub
        found = stub.objects.get(name)
        if self.kind == "LIST":
            return self.answer(200, self.listing(query), Content_Type="application/xml")
        if self.kind == "DELETE":
            keys = re.findall(r"<Key>(.*?)</Key>", body.decode()) if self.command == "POST" else [name]
            for key in keys:
                stub.objects.pop(key, None)
            if self.command == "POST":
                gone = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
                return self.answer(200, f'<DeleteResult xmlns="{NS}">{gone}</DeleteResult>'.encode())
            return self.answer(204)
        if self.kind == "MULTIPART":
            return self.multipart(name, query, body, absent)
        if self.kind in ("PUT", "CREATE"):
            if absent and found:
                return self.refuse(412, "PreconditionFailed")
            match = self.headers.get("If-Match")
            if match and (found is None or found.etag != match):
                return self.refuse(412, "PreconditionFailed")
            return self.store(name, body)
        if found is None:
            return self.refuse(404, "NoSuchKey")
        headers = {
            "ETag": found.etag,
            "Last_Modified": found.at.strftime("%a, %d %b %Y %H:%M:%S GMT"),
            "x_goog_generation": str(found.number),
        }
        content, status = found.content, 200
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if asked:
            first, last = asked.groups()
            start = int(first) if first else max(len(content) - int(last), 0)
            stop = min(int(last) + 1, len(content)) if first and last else len(content)
            headers["Content_Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
            content, status = content[start:stop], 206
        if self.command == "HEAD":
            headers["length_of"] = str(len(content))
        return self.answer(status, content, **headers)

    def store(self, name: str, content: bytes, answer: bytes = b"") -> None:
        self.stub.count += 1
        made = self.stub.objects[name] = Object(content, self.stub.count)
        self.answer(200, answer, ETag=made.etag, x_goog_generation=str(made.number))

    def multipart(self, name: str, query: dict[str, str], body: bytes, absent: bool) -> None:
        uploads = self.stub.uploads
        if "uploads" in query:
            self.stub.count += 1
            upload = f"upload-{self.stub.count}"
            uploads[upload] = {}
            text = f"<Bucket>{BUCKET}</Bucket><Key>{escape(name)}</Key><UploadId>{upload}</UploadId>"
            body = f'<InitiateMultipartUploadResult xmlns="{NS}">{text}</InitiateMultipartUploadResult>'.encode()
            return self.answer(200, body, Content_Type="application/xml")
        upload = query["uploadId"]
        if self.command == "PUT":
            uploads[upload][int(query["partNumber"])] = body
            return self.answer(200, ETag=f'"{hashlib.md5(body).hexdigest()}"')
        if self.command == "DELETE":
            uploads.pop(upload, None)
            return self.answer(204)
        if absent and name in self.stub.objects:
            return self.refuse(412, "PreconditionFailed")
        parts = uploads.pop(upload)
        etag = f'"{upload}"'
        text = f"<Bucket>{BUCKET}</Bucket><Key>{escape(name)}</Key><ETag>{escape(etag)}</ETag>"
        answer = f'<CompleteMultipartUploadResult xmlns="{NS}">{text}</CompleteMultipartUploadResult>'.encode()
        self.store(name, b"".join(parts[n] for n in sorted(parts)), answer)

    def listing(self, query: dict[str, str]) -> bytes:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        most = min(int(query.get("max-keys", 1000)), self.stub.page)
        entries: list[str] = []
        folders: set[str] = set()
        truncated, last = False, ""
        for name in sorted(n for n in self.stub.objects if n.startswith(prefix) and n > after):
            folder = ""
            if delimiter and delimiter in name[len(prefix) :]:
                folder = prefix + name[len(prefix) :].split(delimiter)[0] + delimiter
                if folder in folders or after.startswith(folder):
                    continue
            if len(entries) + len(folders) >= most:
                truncated = True
                break
            last = f"{folder}\U0010ffff" if folder else name
            if folder:
                folders.add(folder)
                continue
            found = self.stub.objects[name]
            at = found.at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
            entries.append(
                f"<Contents><Key>{escape(name)}</Key><LastModified>{at}</LastModified><ETag>{escape(found.etag)}</ETag>"
                f"<Size>{len(found.content)}</Size></Contents>"
            )
        common = "".join(f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in sorted(folders))
        token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>" if truncated else ""
        more = "true" if truncated else "false"
        head = f"<Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix><IsTruncated>{more}</IsTruncated>{token}"
        return f'<ListBucketResult xmlns="{NS}">{head}{"".join(entries)}{common}</ListBucketResult>'.encode()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        pass  # the client has closed the connection


@contextmanager
def stub() -> Iterator[Stub]:
    made = Stub()
    server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"stub": made}))
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
