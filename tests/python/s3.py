"""The S3 server of tests/s3 as the tests use it."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3

SERVER = pathlib.Path(__file__).parent.parent / "s3" / "server.py"


class Bucket:
    """One bucket of one server."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.options = {
            "aws_access_key_id": "test-key",
            "aws_secret_access_key": "test-secret-sesame",
            "aws_region": "us-east-1",
            "aws_endpoint": self.endpoint,
            "aws_allow_http": "true",
        }
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="test-key",
            aws_secret_access_key="test-secret-sesame",
        )
        self.client.create_bucket(Bucket="lake")

    def names(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="lake", Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", [])]

    def get(self, name: str) -> bytes:
        return self.client.get_object(Bucket="lake", Key=name)["Body"].read()

    def put(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket="lake", Key=name, Body=content)

    def copy_to(self, folder: pathlib.Path, prefix: str = "") -> pathlib.Path:
        """Copies all objects to files, for readers of local tables."""
        for name in self.names(prefix):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.get(name))
        return folder

    def faults(self, seed: int, rate: float) -> None:
        asked = json.dumps({"seed": seed, "rate": rate}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/_faults", asked), timeout=30).close()

    def faults_seen(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.endpoint}/_faults", timeout=30) as answer:
            return json.load(answer)


@contextmanager
def bucket(*options: str) -> Iterator[Bucket]:
    server = subprocess.Popen(
        [sys.executable, str(SERVER), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin and server.stdout
    try:
        yield Bucket(int(server.stdout.readline()))
    finally:
        server.stdin.close()
        server.wait(20)
        server.stdout.close()
