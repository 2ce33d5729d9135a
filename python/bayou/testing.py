"""For tests of pipelines: a broker of their own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from bayou import _core
from bayou._connect import connect


@contextmanager
def broker() -> Iterator[_core.Connection]:
    """A private embedded broker: nobody else joins it, and it ends soon after the block.

    Example:
        >>> with bayou.testing.broker() as kafka:
        ...     kafka.create_topic("t")
    """
    yield connect(name=f"test-{uuid.uuid4().hex[:12]}")
