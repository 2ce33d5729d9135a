"""The compiled part of bayou. This folder has the docstrings of all public names, once, in one file for each noun.

Import the names from `bayou`, not from here. The folder contains only stubs. The module itself is `_core.abi3.so` next to it.
"""

from bayou._core._connection import (
    Connection as Connection,
    InferredSchema as InferredSchema,
    ProduceReport as ProduceReport,
)
from bayou._core._errors import (
    AclError as AclError,
    AuthError as AuthError,
    BayouError as BayouError,
    ConcurrentQueryError as ConcurrentQueryError,
    ConfigError as ConfigError,
    ConnectionError as ConnectionError,
    DataLossError as DataLossError,
    ExpectationError as ExpectationError,
    FunctionError as FunctionError,
    MalformedError as MalformedError,
    SchemaError as SchemaError,
    StorageError as StorageError,
    TopicError as TopicError,
)
from bayou._core._internal import (
    _check_table_name as _check_table_name,
    _clean as _clean,
    _connect as _connect,
    _crash_at as _crash_at,
    _crash_points as _crash_points,
    _duration as _duration,
    _encode_key as _encode_key,
    _encode_row as _encode_row,
    _is_complete as _is_complete,
    _listen as _listen,
    _neighbour as _neighbour,
    _no_attribute as _no_attribute,
    _of_table as _of_table,
    _pause_at as _pause_at,
    _pipeline_expectations as _pipeline_expectations,
    _pipeline_read as _pipeline_read,
    _pipeline_sql as _pipeline_sql,
    _pipeline_tables as _pipeline_tables,
    _read_note as _read_note,
    _repair as _repair,
    _reset as _reset,
    _run_broker as _run_broker,
    _run_pipeline as _run_pipeline,
    _set_launcher as _set_launcher,
    _shutdown as _shutdown,
    _simulate_fitness as _simulate_fitness,
    _slow_at as _slow_at,
    _table_of as _table_of,
    _treat_as_mount as _treat_as_mount,
    _unlisten as _unlisten,
    _words as _words,
    _write_note as _write_note,
)
from bayou._core._iterate import (
    BatchIterator as BatchIterator,
    Preview as Preview,
    Validation as Validation,
    from_batches as from_batches,
    from_messages as from_messages,
)
from bayou._core._lake import (
    functions as functions,
    read_delta as read_delta,
    sql as sql,
)
from bayou._core._query import (
    Query as Query,
)
from bayou._core._stream import (
    Stream as Stream,
)
from bayou._core._table import (
    Batch as Batch,
    Schema as Schema,
    Table as Table,
    TableBatches as TableBatches,
)
from bayou._core._window import (
    Aggregate as Aggregate,
    GroupedStream as GroupedStream,
    Window as Window,
    aggregate as aggregate,
    session_window as session_window,
    window as window,
)

__version__: str
