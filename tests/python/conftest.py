"""Fixtures: a real Kafka (started by tests/kafka/server.py), fresh topics, and an embedded broker of one's own."""

from __future__ import annotations

import itertools
import os
import signal
import uuid
from collections.abc import Callable, Iterator

import bayou
import pytest

_COUNT = itertools.count()


@pytest.fixture(autouse=True)
def stop_button() -> None:
    """Each test begins with Python's own handler of SIGINT.

    A process that a shell starts in the background (`make test &`) ignores SIGINT, and a SparkContext of an earlier test leaves its own handler.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def address() -> str:
    """The real broker's address. Tests that need it fail without it: skipping would look like passing."""
    found = os.environ.get("BAYOU_TEST_KAFKA")
    if not found:
        pytest.fail("BAYOU_TEST_KAFKA is not set: run `python tests/kafka/server.py run -- pytest`", pytrace=False)
    return found


@pytest.fixture(scope="session")
def kafka(address: str) -> bayou.Connection:
    return bayou.connect(address)


@pytest.fixture
def topic(kafka: bayou.Connection) -> Callable[..., str]:
    def make(partitions: int = 1) -> str:
        name = f"py-{uuid.uuid4().hex[:8]}-{next(_COUNT)}"
        kafka.create_topic(name, partitions=partitions, replication_factor=1)
        return name

    return make


@pytest.fixture
def broker() -> Iterator[bayou.Connection]:
    with bayou.testing.broker() as connection:
        yield connection
