"""From a Kafka topic to a Delta table, from a notebook cell, exactly once."""

from __future__ import annotations

import atexit as _atexit
import os as _os
import sys as _sys

from bayou import _interpreter

_interpreter.check()  # first, because the imports below cannot be undone

from bayou import _core, testing  # noqa: E402
from bayou._connect import connect, simulate  # noqa: E402
from bayou._core import (  # noqa: E402
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
    FunctionError,
    GroupedStream,
    InferredSchema,
    MalformedError,
    Preview,
    ProduceReport,
    Query,
    Schema,
    SchemaError,
    StorageError,
    Stream,
    Table,
    TableBatches,
    TopicError,
    Validation,
    Window,
    __version__,
    aggregate,
    from_batches,
    from_messages,
    functions,
    read_delta,
    session_window,
    sql,
    window,
)
from bayou._metrics import on_progress, opentelemetry  # noqa: E402
from bayou.pipeline import Pipeline, repair  # noqa: E402

# The helper process of the embedded broker imports bayou from the same place as this process. It does not search the working directory,
# where a stranger's uuid.py can be (-P exists since Python 3.11; for older versions the empty entry is removed).
_core._set_launcher(
    [
        _sys.executable,
        *(["-P"] if _sys.version_info >= (3, 11) else []),
        "-c",
        "import sys; sys.path[:] = [p for p in sys.path if p] + [sys.argv[1]]; from bayou import _core; _core._run_broker(sys.argv[2])",
        _os.path.dirname(_os.path.dirname(_os.path.abspath(__file__))),
    ],
)
_atexit.register(_core._shutdown)


def __getattr__(name: str) -> object:
    raise _core._no_attribute("bayou", name, __all__)


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
    "FunctionError",
    "GroupedStream",
    "InferredSchema",
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
    "TableBatches",
    "TopicError",
    "Validation",
    "Window",
    "__version__",
    "aggregate",
    "connect",
    "from_batches",
    "from_messages",
    "functions",
    "on_progress",
    "opentelemetry",
    "read_delta",
    "repair",
    "session_window",
    "simulate",
    "sql",
    "testing",
    "window",
]
