"""From a Kafka topic to a Delta table, from a notebook cell, exactly once."""

from __future__ import annotations

import atexit as _atexit
import sys as _sys

from bayou import _core, testing
from bayou._connect import connect, simulate
from bayou._core import (
    AclError,
    Aggregate,
    AuthError,
    Batch,
    BatchIterator,
    BayouError,
    ConcurrentQueryError,
    ConfigError,
    Connection,
    ConnectionError,
    DataLossError,
    ExpectationError,
    GroupedStream,
    MalformedError,
    Preview,
    ProduceReport,
    Query,
    Schema,
    SchemaError,
    StorageError,
    Stream,
    Table,
    TopicError,
    Validation,
    Window,
    __version__,
    aggregate,
    from_batches,
    from_messages,
    read_delta,
    session_window,
    sql,
    window,
)
from bayou.pipeline import Pipeline

_core._set_launcher(
    [_sys.executable, "-c", "import sys; from bayou import _core; _core._run_broker(sys.argv[1])"],
)
_atexit.register(_core._shutdown)

__all__ = [
    "AclError",
    "Aggregate",
    "AuthError",
    "Batch",
    "BatchIterator",
    "BayouError",
    "ConcurrentQueryError",
    "ConfigError",
    "Connection",
    "ConnectionError",
    "DataLossError",
    "ExpectationError",
    "GroupedStream",
    "MalformedError",
    "Pipeline",
    "Preview",
    "ProduceReport",
    "Query",
    "Schema",
    "SchemaError",
    "StorageError",
    "Stream",
    "Table",
    "TopicError",
    "Validation",
    "Window",
    "__version__",
    "aggregate",
    "connect",
    "from_batches",
    "from_messages",
    "read_delta",
    "session_window",
    "simulate",
    "sql",
    "testing",
    "window",
]
