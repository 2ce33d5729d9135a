"""Fixtures: the real Kafka of tests/kafka/server.py, and fresh topics."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable

import bayou
import pytest

_COUNT = itertools.count()


@pytest.fixture(scope="session")
def address() -> str:
    found = os.environ.get("BAYOU_TEST_KAFKA")
    if not found:
        pytest.fail("BAYOU_TEST_KAFKA is not set: run `make stores`", pytrace=False)
    return found


@pytest.fixture(scope="session")
def kafka(address: str) -> bayou.Connection:
    return bayou.connect(address)


@pytest.fixture
def topic(kafka: bayou.Connection) -> Callable[[], str]:
    def make() -> str:
        name = f"st-{uuid.uuid4().hex[:8]}-{next(_COUNT)}"
        kafka.create_topic(name, partitions=1, replication_factor=1)
        return name

    return make
