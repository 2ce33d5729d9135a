"""The object stores for `make stores`: real servers on loopback, each one behind a proxy that can make requests fail.

Each store is used like the S3 server of tests/python/s3.py: a root, options, and the stored files.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "s3"))
sys.path.insert(0, str(pathlib.Path(__file__).parent))
from proxy import Proxy, proxy
from s3 import Bucket
from stub import BUCKET, stub

TESTS = pathlib.Path(__file__).parent.parent
CACHE = pathlib.Path(os.environ["BAYOU_CACHE"])
ACCOUNT = "devstoreaccount1"
# The well-known key of Azure's emulators, which is not a secret.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass
class Store:
    """One store. bayou gets `root` and `options`. `copy` copies a folder of the store to local disk."""

    name: str
    scheme: str
    options: dict[str, str]
    copy: Callable[[str, pathlib.Path], None]
    proxy: Proxy | None = None
    more: Any = None

    def root(self, prefix: str) -> str:
        return f"{self.scheme}://{BUCKET}/{prefix}"


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def process(command: list[str], port: int, **more: Any) -> Iterator[None]:
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    try:
        until = time.monotonic() + 60
        while True:
            assert running.poll() is None, f"{command[0]} ended with {running.returncode}"
            assert time.monotonic() < until, f"{command[0]} does not listen"
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield
    finally:
        running.kill()
        running.wait()


@contextmanager
def versitygw(folder: pathlib.Path) -> Iterator[Store]:
    port = free_port()
    command = [str(CACHE / "go" / "bin" / "versitygw"), "--port", f"127.0.0.1:{port}", "posix", str(folder)]
    keys = {"ROOT_ACCESS_KEY": "test-key", "ROOT_SECRET_KEY": "test-secret-sesame"}
    with process(command, port, env={**os.environ, **keys}), proxy(port) as before:
        bucket = Bucket(before.port)
        yield Store("versitygw", "s3", bucket.options, lambda p, to: drop(bucket.copy_to(to, p)), before)


@contextmanager
def moto(_: pathlib.Path) -> Iterator[Store]:
    command = [sys.executable, str(TESTS / "s3" / "server.py")]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdin and server.stdout
    try:
        with proxy(int(server.stdout.readline())) as before:
            bucket = Bucket(before.port)
            yield Store("moto", "s3", bucket.options, lambda p, to: drop(bucket.copy_to(to, p)), before)
    finally:
        server.stdin.close()
        server.wait(20)


def drop(_: object) -> None:
    pass


def sas(life: float) -> str:
    """A signature for the account that is valid for `life` seconds."""
    end = (datetime.now(UTC) + timedelta(seconds=life)).strftime("%Y-%m-%dT%H:%M:%SZ")
    given = {"sp": "rwdlac", "ss": "b", "srt": "sco", "st": "", "se": end, "sip": "", "spr": "https,http"}
    text = "\n".join([ACCOUNT, *given.values(), "2021-08-06", "", ""])
    signed = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    given |= {"sv": "2021-08-06", "sig": base64.b64encode(signed).decode()}
    return urllib.parse.urlencode({k: v for k, v in given.items() if v})


class Azure:
    """The requests that the tests send directly to Azurite."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}/{ACCOUNT}/{BUCKET}"

    def ask(self, path: str = "", query: str = "", method: str = "GET") -> bytes:
        url = f"{self.base}{urllib.parse.quote(path)}?{query}&{sas(60)}"
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as answer:
            return answer.read()

    def copy(self, prefix: str, folder: pathlib.Path) -> None:
        listed = self.ask(query=f"restype=container&comp=list&prefix={urllib.parse.quote(prefix)}")
        for name in [str(n.text) for n in ET.fromstring(listed).iter("Name")]:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.ask(f"/{name}"))


@contextmanager
def azurite(folder: pathlib.Path) -> Iterator[Store]:
    port = free_port()
    binary = CACHE / "azurite" / "node_modules" / ".bin" / "azurite-blob"
    command = [str(binary), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)]
    command += ["--disableTelemetry", "--silent", "--skipApiVersionCheck"]
    with process(command, port, cwd=folder), proxy(port) as before:
        azure = Azure(port)
        azure.ask(query="restype=container", method="PUT")
        options = {
            "azure_storage_account_name": ACCOUNT,
            "azure_storage_account_key": KEY,
            "azure_storage_endpoint": f"http://127.0.0.1:{before.port}/{ACCOUNT}",
            "allow_http": "true",
        }
        yield Store("azurite", "az", options, azure.copy, before)


@contextmanager
def google(_: pathlib.Path) -> Iterator[Store]:
    """The stub of this project, because no registry has a server that accepts the requests of object_store to Google's XML API."""
    with stub() as made, proxy(made.port) as before:
        base = f"http://127.0.0.1:{before.port}"
        options = {"google_base_url": base, "google_bearer_token": "any-token-will-do", "allow_http": "true"}

        def copy(prefix: str, folder: pathlib.Path) -> None:
            for name in made.names(prefix):
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(made.objects[name].content)

        yield Store("google", "gs", options, copy, before, made)


SERVERS = {"versitygw": versitygw, "azurite": azurite, "moto": moto, "google": google}


@dataclass
class Place:
    """A folder of a store, as tests/python/lakes.py uses it."""

    store: Store
    prefix: str
    folder: pathlib.Path

    @property
    def root(self) -> str:
        return self.store.root(self.prefix)

    @property
    def options(self) -> dict[str, str]:
        return self.store.options

    def files(self) -> pathlib.Path:
        copy = self.folder / f"copy-{time.monotonic_ns()}"
        copy.mkdir(parents=True)
        self.store.copy(f"{self.prefix}/", copy)
        return copy / self.prefix
