"""The compiled part of bayou. All docstrings of the public names live here, once.

Import the names from `bayou`, not from this module.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, TypeAlias, final

import pandas as pd
import polars as pl
import pyarrow as pa
from typing_extensions import disjoint_base

class _ArrowStream(Protocol):
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

class _ArrowArray(Protocol):
    def __arrow_c_array__(self, requested_schema: object | None = None) -> tuple[object, object]: ...

class _ArrowSchema(Protocol):
    def __arrow_c_schema__(self) -> object: ...

_Duration: TypeAlias = str | timedelta | float
"""A number and a unit ("10 seconds", "1 minute 30 seconds", "500 ms", "2h"), a timedelta, or a number of seconds."""
_Rows: TypeAlias = _ArrowStream | _ArrowArray | pd.DataFrame
_SchemaLike: TypeAlias = str | _ArrowSchema | Mapping[str, str]
_Offsets: TypeAlias = str | datetime | Mapping[str, Mapping[int, int]]
_Dialect: TypeAlias = Literal["databricks", "spark", "datafusion"]
_OnMalformed: TypeAlias = Literal["fail", "drop", "quarantine"]
_OnTombstone: TypeAlias = Literal["skip", "null_row", "quarantine"]
_TimestampUnit: TypeAlias = Literal["s", "ms", "us", "ns"]
_OutputMode: TypeAlias = Literal["append", "update", "complete"]

__version__: str

# --- errors -------------------------------------------------------------------------------------------------------------

class BayouError(Exception):
    """What every error of bayou is. Its message says what happened, where (topic, partition, offset, table), and what to do;
    secrets and payloads never show in it.

    Attributes:
        query: The `Query` that ended with this error, or None. Its progress and counts are still there.

    Example:
        >>> try:
        ...     clean.write_delta("lake/clean")
        ... except bayou.BayouError as error:
        ...     print(error, error.query)
    """

    query: Query | None

class ConnectionError(BayouError):
    """No broker answers. The message names the address. Trying again may help.

    Example:
        >>> bayou.connect("localhost:1")
        Traceback (most recent call last):
        bayou.ConnectionError: ...
    """

class AuthError(BayouError):
    """The broker refuses the credentials, or TLS fails.

    Example:
        >>> try:
        ...     bayou.connect({"bootstrap.servers": "…", "sasl.username": user, "sasl.password": old})
        ... except bayou.AuthError:
        ...     ...
    """

class AclError(BayouError):
    """Signed in, but not allowed to do this. The message names the resource and the operation.

    Example:
        >>> try:
        ...     kafka.create_topic("t")
        ... except bayou.AclError as error:
        ...     print(error)
    """

class TopicError(BayouError):
    """A topic or partition does not exist, exists already, or cannot be made as asked.

    Example:
        >>> try:
        ...     kafka.read_stream("fitnes-tracker", schema="ip STRING")
        ... except bayou.TopicError as error:
        ...     print(error)
    """

class SchemaError(BayouError):
    """A schema, a column, a type or a SQL expression does not fit; also raised when more than `max_malformed` of the last
    1,000 messages (at least 100) cannot be decoded, with the commonest error.

    Example:
        >>> stream.select("heart_bmp")
        Traceback (most recent call last):
        bayou.SchemaError: ...
    """

class MalformedError(BayouError):
    """A message cannot be decoded, or an expression fails for a row, and `on_malformed` is "fail". The message names topic,
    partition, offset and field, and never prints the payload.

    Example:
        >>> try:
        ...     raw.collect()
        ... except bayou.MalformedError:
        ...     print(raw.preview().malformed)
    """

class ExpectationError(BayouError):
    """A row broke an `expect_or_fail` rule (nothing of its epoch was committed), or `raise_for_expectations` found too many.

    Example:
        >>> try:
        ...     query.raise_for_expectations("plausible", max_ratio=0.01)
        ... except bayou.ExpectationError as error:
        ...     print(error.query.expectations)
    """

class DataLossError(BayouError):
    """Offsets that the query still needs are gone: retention removed them, or the topic was made anew. The message names the
    range. `fail_on_data_loss=False` records the loss and goes on.

    Example:
        >>> stream = kafka.read_stream("t", schema="a INT", fail_on_data_loss=False)
    """

class ConcurrentQueryError(BayouError):
    """Another process runs this query. Nothing was written twice: of two runners only one can seal an epoch.

    Example:
        >>> try:
        ...     lake.run()
        ... except bayou.ConcurrentQueryError as error:
        ...     print(error)
    """

class StorageError(BayouError):
    """Tables or checkpoints cannot be read or written, or are damaged.

    Example:
        >>> bayou.read_delta("lake/nothing-here")
        Traceback (most recent call last):
        bayou.StorageError: ...
    """

class FunctionError(BayouError):
    """Code of yours ended: the function of a foreach_batch or an iterator whose rows were published raised, or a function called
    sys.exit(). What it raised is the `__cause__`.

    Example:
        >>> try:
        ...     kafka.produce("t", rows_of_mine())
        ... except bayou.FunctionError as error:
        ...     print(error, error.__cause__)
    """

class ConfigError(BayouError):
    """An argument or option is wrong, or does not fit an earlier run of the same query. A mistyped name gets a
    "did you mean".

    Example:
        >>> bayou.connect(None)
        Traceback (most recent call last):
        bayou.ConfigError: ...
    """

# --- rows ---------------------------------------------------------------------------------------------------------------

@final
class Schema:
    """Names and types of columns. Prints as DDL and is an Arrow schema by the PyCapsule protocol.

    Equal to another Schema, or to a string, with the same DDL.

    Example:
        >>> print(stream.schema)
        time TIMESTAMP, bpm INT, model STRING
    """

    @property
    def types(self) -> list[str]:
        """Each column's type as DDL has it, in order.

        Example:
            >>> stream.schema.types
            ['TIMESTAMP', 'INT', 'STRING']
        """

    @property
    def names(self) -> list[str]:
        """Names of the columns, in order.

        Example:
            >>> stream.schema.names
            ['time', 'bpm', 'model']
        """
    @property
    def ddl(self) -> str:
        """The schema as a Spark DDL string, to paste into `schema=`.

        Example:
            >>> kafka.read_stream("t", schema=stream.schema.ddl)
        """
    def to_arrow(self) -> pa.Schema:
        """As `pyarrow.Schema`.

        Raises:
            ImportError: pyarrow is not installed.

        Example:
            >>> stream.schema.to_arrow().field("bpm").type
            DataType(int32)
        """
    def __arrow_c_schema__(self) -> object: ...
    def __len__(self) -> int: ...
    def __eq__(self, value: object, /) -> bool: ...

@disjoint_base
class Table:
    """Rows in memory: what every call that reads returns.

    It is an Arrow stream by the PyCapsule protocol, so polars, pyarrow, DuckDB and others take it as it is. `len(table)` is the
    number of rows, `table["bpm"]` a column's values. A notebook shows at most 100 rows.

    Example:
        >>> table = stream.collect(limit=1000)
        >>> len(table), table.columns
        (1000, ['time', 'bpm', 'model'])
    """

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order.

        Example:
            >>> table.columns
            ['model', 'n']
        """
    @property
    def schema(self) -> Schema:
        """Names and types.

        Example:
            >>> print(table.schema)
            model STRING, n BIGINT
        """
    @property
    def num_rows(self) -> int:
        """The number of rows; `len(table)` says the same.

        Example:
            >>> table.num_rows
            6
        """
    def to_arrow(self) -> pa.Table:
        """As `pyarrow.Table`, without copying.

        Raises:
            ImportError: pyarrow is not installed.

        Example:
            >>> table.to_arrow().num_rows
            6
        """
    def to_pandas(self) -> pd.DataFrame:
        """As a pandas frame. A column of integers with NULLs becomes pandas' nullable type (`Int64`), one of booleans
        `boolean`; timestamps are `datetime64[us, UTC]`.

        Raises:
            ImportError: pandas is not installed.

        Example:
            >>> table.to_pandas().plot(x="model", y="n")
        """
    def to_polars(self) -> pl.DataFrame:
        """As a polars frame, without copying.

        Raises:
            ImportError: polars is not installed.

        Example:
            >>> table.to_polars().sort("n")
        """
    def to_dicts(self, limit: int | None = None) -> list[dict[str, Any]]:
        """As a list of dicts.

        Timestamps become aware datetimes (UTC), decimals `Decimal`, binary `bytes`, NULL None.

        Args:
            limit: At most so many rows. Default: all.

        Example:
            >>> table.to_dicts(limit=1)
            [{'model': 'Pulse 3', 'n': 1042}]
        """
    def column(self, name: str) -> list[Any]:
        """The values of one column as a list; `table[name]` is the same. Names match case-insensitively.

        Raises:
            SchemaError: There is no such column.

        Example:
            >>> table.column("n")
            [1042, 977]
        """
    def row(self, index: int) -> dict[str, Any]:
        """One row as a dict, counted from 0; -1 is the last.

        Raises:
            IndexError: There are fewer rows.

        Example:
            >>> totals.row(0)["eventsTotal"]
            200000
        """
    def __getitem__(self, key: str, /) -> list[Any]: ...
    def __len__(self) -> int: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...
    def __arrow_c_schema__(self) -> object: ...
    def _repr_html_(self) -> str: ...

@final
class Batch(Table):
    """One batch of an iterator: a Table that fits into one Arrow record batch.

    Example:
        >>> for batch in stream.batches():
        ...     print(len(batch))
    """

# --- connecting and publishing ------------------------------------------------------------------------------------------

@final
class Connection:
    """A Kafka cluster, as `bayou.connect` returns it.

    Its repr names the address and never a secret.

    Example:
        >>> kafka = bayou.connect("localhost:9092")
        >>> kafka.topics()
    """

    @property
    def address(self) -> str:
        """The bootstrap servers, "host:port" separated by commas.

        Example:
            >>> kafka.address
            'localhost:9092'
        """
    @property
    def is_embedded(self) -> bool:
        """Whether this is the embedded broker: in memory, gone a few seconds after its last user.

        Example:
            >>> bayou.connect().is_embedded
            True
        """
    @property
    def cluster_id(self) -> str:
        """The cluster's id. Checkpoints record it: a table is never filled from two clusters.

        Raises:
            ConnectionError: The cluster does not answer.

        Example:
            >>> kafka.cluster_id
            'yq8Zp0mRQgq…'
        """
    @property
    def scratch_dir(self) -> Path:
        """A directory that lives and dies with the embedded broker, for tables that are worth as little as its topics.

        Raises:
            ConfigError: This is not the embedded broker.

        Example:
            >>> lake = bayou.Pipeline("demo", f"{kafka.scratch_dir}/lake")
        """
    @property
    def client_properties(self) -> dict[str, str]:
        """librdkafka's properties with which another client, as confluent-kafka, reaches the embedded broker.

        It listens on this machine's loopback and lets in who knows its secret, which is among them (SASL/SCRAM); other users of
        the machine do not. Do not print them.

        Raises:
            ConfigError: This is not the embedded broker.

        Example:
            >>> producer = confluent_kafka.Producer(kafka.client_properties)
        """
    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        replication_factor: int | None = None,
        config: Mapping[str, object] | None = None,
        exist_ok: bool = False,
    ) -> None:
        """Create a topic.

        Args:
            name: Its name.
            partitions: How many partitions.
            replication_factor: Copies of each. Default: the broker's own.
            config: Kafka's topic properties, as {"retention.ms": "86400000"}. The embedded broker takes none.
            exist_ok: Leave a topic that exists as it is.

        Raises:
            TopicError: It exists, or the broker refuses the name or the numbers.
            AclError: Not allowed.
            ConfigError: The embedded broker cannot do what is asked.

        Example:
            >>> kafka.create_topic("fitness-tracker", partitions=6, exist_ok=True)
        """
    def delete_topic(self, name: str) -> None:
        """Delete a topic with all its messages.

        Raises:
            TopicError: There is no such topic.
            AclError: Not allowed.
            ConfigError: The embedded broker cannot delete topics.

        Example:
            >>> kafka.delete_topic("fitness-tracker")
        """
    def topics(self) -> Table:
        """All topics but Kafka's own: topic STRING, partitions BIGINT.

        Raises:
            ConnectionError: The cluster does not answer.

        Example:
            >>> kafka.topics().column("topic")
            ['fitness-tracker']
        """
    def describe_topic(self, name: str) -> dict[str, Any]:
        """A topic's name, id, partitions (leader, replicas, in-sync replicas, earliest and latest offset) and configuration.

        Latest is the offset after the last message that `read_committed` may see.

        Raises:
            TopicError: There is no such topic.

        Example:
            >>> kafka.describe_topic("fitness-tracker")["partitions"][0]["latest"]
            33341
        """
    def produce(
        self,
        topic: str,
        rows: _Rows | Iterable[Mapping[str, Any]],
        *,
        key: str | None = None,
        headers: Mapping[str, str | bytes | None] | None = None,
        headers_column: str | None = None,
        partition: int | None = None,
        partition_column: str | None = None,
        timestamp: str | None = None,
        value: str | None = None,
        compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] | None = None,
        acks: Literal["all", "1", "0", 1, 0] | None = None,
        rate: float | None = None,
        include_key_in_value: bool = True,
        progress: bool = True,
    ) -> ProduceReport:
        """Publish rows, one JSON message each, and wait until the broker has acknowledged them.

        Written is what bayou's JSON reader reads back: RFC 3339 in UTC with microseconds, decimals as numbers, base64 binary. A
        value is written exactly or not at all: a time finer than a microsecond, NaN, or a type without a JSON form is an error that
        names column and row. The rows before it are published, and the error says how many arrived. A pandas index is left out.

        Args:
            topic: Where to. It must exist.
            rows: An Arrow stream or array (PyCapsule), a pandas frame, or any iterable of dicts, endless ones too.
            key: The column whose value is the message key; it decides the partition.
            headers: Headers of every message; values are str, bytes or None.
            headers_column: A column of headers: a map, or a list of structs (key, value). It leaves the value.
            partition: One partition for all rows.
            partition_column: A column with the partition; NULL lets the key decide. It leaves the value.
            timestamp: A column with the message's timestamp: TIMESTAMP, or a number of milliseconds; NULL is now.
            value: A column whose text or bytes are the value as they are; NULL makes a tombstone. Default: the row as JSON.
            compression: How batches are compressed. Default: the connection's property; zstd for the embedded broker.
            acks: How many replicas acknowledge. Default "all", with idempotence; anything else turns idempotence off.
            rate: Rows per second at most. Default: as fast as possible.
            include_key_in_value: Whether the key's column stays in the value.
            progress: Show progress after two seconds.

        Returns:
            What became of the rows; failed ones are counted and the first ten explained.

        Raises:
            TopicError: There is no such topic or partition.
            SchemaError: A column does not exist or has no JSON form.
            MalformedError: A value has none; the message names column and row (counted from 0).
            FunctionError: Your iterator raised; that is the `__cause__`.
            ConfigError: Options contradict each other, or the embedded broker is full: nothing is ever evicted.

        Example:
            >>> kafka.produce("fitness-tracker", bayou.simulate("fitness", rows=200_000), key="ip")
            >>> kafka.produce("alerts", [{"model": "Pulse 3", "bpm": 220}])
        """
    def peek(self, topic: str, n: int = 20) -> Table:
        """The newest messages as they are, newest first, whatever their format.

        Columns: key, value (bytes), topic, partition, offset, timestamp, timestampType, headers, and framing, a guess: "json",
        "text", "binary", "schema registry (…)", "tombstone", "empty", or "too large to show: …" (64 MB; then the value is NULL).

        Args:
            topic: The topic.
            n: At most so many messages.

        Raises:
            TopicError: There is no such topic.

        Example:
            >>> kafka.peek("fitness-tracker", n=1).row(0)["framing"]
            'json'
        """
    def read_stream(
        self,
        topics: str | list[str] | None = None,
        *,
        schema: _SchemaLike | None = None,
        format: Literal["json", "raw"] | None = None,
        starting_offsets: _Offsets | None = None,
        ending_offsets: _Offsets | None = None,
        max_offsets_per_trigger: int | None = None,
        fail_on_data_loss: bool | None = None,
        on_malformed: _OnMalformed | None = None,
        max_malformed: float = 0.5,
        on_tombstone: _OnTombstone | None = None,
        timezone: str | None = None,
        timestamp_unit: _TimestampUnit | Mapping[str, _TimestampUnit] | None = None,
        include_metadata: bool = False,
        max_message_bytes: str | int | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Stream:
        """Subscribe to topics: one message is one row. Nothing is read yet; topics, schema and options are checked.

        A value that does not fit its column makes the message malformed, never silently another value: 1.9 into INT, 300 into
        TINYINT, a quoted number into a number. 1.0 and 1e3 fit an INT. A missing field is NULL, unknown fields are ignored and
        counted, of a repeated field the last counts, BINARY is base64. JSON fields match columns exactly. Anything but a string
        asked for as STRING is its JSON text, as it stood.

        Args:
            topics: A topic, or a list of topics with one schema. For topics of other schemas: `a.union(b)`.
            schema: A Spark DDL string ("time TIMESTAMP, bpm INT"), an Arrow schema (PyCapsule), or {name: type}. TIMESTAMP is
                microseconds in UTC. Needed for "json".
            format: "json" (the default) or "raw": Spark's row key, value, topic, partition, offset, timestamp, timestampType,
                headers. With `options=` and no schema: "raw".
            starting_offsets: Where a query's first run begins: "earliest" (the default), "latest", an aware datetime, or
                {"topic": {0: 42}} naming every partition (-2 earliest, -1 latest). Later runs go on where they stopped.
            ending_offsets: Where a bounded run ends; forms as before. Only with trigger="available_now". Default: what is there
                when it starts.
            max_offsets_per_trigger: At most so many messages an epoch. Default: no limit but 5 million rows, 256 MB
                of messages or 60 seconds.
            fail_on_data_loss: Stop when offsets that are still needed are gone. Default True; False records the loss.
            on_malformed: What becomes of messages that cannot be decoded, and of rows for which an expression fails: "fail",
                "drop" or "quarantine". Default: iterators "fail", tables "quarantine". Always counted.
            max_malformed: A share; when more of the last 1,000 messages (at least 100) are malformed, the query stops with a
                SchemaError, and when an expression fails for so many rows, with a ConfigError. 1.0: never.
            on_tombstone: What becomes of messages with a null value: "skip" (the default), "null_row" (which NOT NULL columns
                do not take) or "quarantine". Counted.
            timezone: Zone of timestamp strings without an offset, as "Europe/Berlin". Default "UTC".
            timestamp_unit: Unit of numbers in TIMESTAMP columns, in quotes or not: "s", "ms", "us" or "ns", or by column
                {"time": "ms", "after.created_at": "us"}. Without it such a message is malformed; so is a time outside the years
                0001 to 9999. Digits finer than a microsecond are cut, as Spark cuts them.
            include_metadata: Add _topic, _partition, _offset, _timestamp, _key, _headers.
            max_message_bytes: A message whose value, key or headers are larger is malformed: it is not taken into memory, and
                stands in the quarantine without what is too large (NULL). "500 KB" or a number of bytes; default "64 MB".
            options: The same in Spark's spelling ({"subscribe": "t", "startingOffsets": "earliest"}), for pasted cells.

        Raises:
            TopicError: A topic does not exist.
            SchemaError: The schema cannot be read.
            ConfigError: An option is wrong, or not in this version (Avro, Protobuf, CSV).
            TypeError: An argument that does not exist; a neighbouring system's word gets bayou's.

        Example:
            >>> raw = kafka.read_stream("fitness-tracker", schema="ip STRING, time TIMESTAMP, model STRING, heart_bpm INT")
        """
    def _repr_html_(self) -> str: ...

@final
class ProduceReport:
    """What became of published rows.

    Example:
        >>> report = kafka.produce("t", rows)
        >>> assert report.failed == 0, report.failures
    """

    @property
    def topic(self) -> str:
        """Where they went.

        Example:
            >>> report.topic
            'fitness-tracker'
        """
    @property
    def rows(self) -> int:
        """Rows taken from the source.

        Example:
            >>> report.rows
            200000
        """
    @property
    def delivered(self) -> int:
        """Messages that the broker has acknowledged.

        Example:
            >>> report.delivered
            200000
        """
    @property
    def failed(self) -> int:
        """Messages that were not delivered.

        Example:
            >>> report.failed
            0
        """
    @property
    def bytes(self) -> int:
        """Bytes of keys and values, before compression.

        Example:
            >>> report.bytes
            29871544
        """
    @property
    def seconds(self) -> float:
        """How long it took, in seconds.

        Example:
            >>> report.delivered / report.seconds
        """
    @property
    def failures(self) -> list[str]:
        """Why: the first ten failures.

        Example:
            >>> report.failures
            []
        """

# --- streams ------------------------------------------------------------------------------------------------------------

@final
class Stream:
    """What is read and what becomes of it: immutable and lazy. Building one reads no messages, but checks columns, functions
    and types when the line is typed. Two streams built the same way are equal.

    Expressions are Databricks SQL with ANSI semantics; docs/sql.md lists the functions. `5/2` is 2.5. Column names match
    case-insensitively and keep their case; backticks quote. `dialect="datafusion"` runs an expression with DataFusion's own
    functions and meanings instead.

    A Stream is not iterated itself: use `batches`, `pandas_batches`, `collect` or `preview`.

    Example:
        >>> clean = (raw.select("time", "heart_bpm AS bpm", "model")
        ...             .expect_or_drop("human has a pulse", "bpm > 0")
        ...             .named("clean"))
    """

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order.

        Example:
            >>> clean.columns
            ['time', 'bpm', 'model']
        """
    @property
    def schema(self) -> Schema:
        """Names and types of the columns.

        Example:
            >>> print(clean.schema)
            time TIMESTAMP, bpm INT, model STRING
        """
    @property
    def name(self) -> str | None:
        """The name given with `named`, if it was the last step.

        Example:
            >>> clean.name
            'clean'
        """
    def explain(self) -> str:
        """The source, every step and the columns that come out, a line each.

        Example:
            >>> print(clean.explain())
        """
    def select(self, *columns: str | list[str], dialect: _Dialect | None = None, **named: str) -> Stream:
        """Columns and SQL expressions, in this order, and nothing else.

        Args:
            columns: Names or expressions ("heart_bpm AS bpm", "*").
            dialect: "databricks" (the default) or "datafusion".
            named: Expressions by name: `bpm="heart_bpm"` is "heart_bpm AS bpm".

        Raises:
            SchemaError: A column or function does not exist, or types do not fit.

        Example:
            >>> raw.select("time", "heart_bpm AS bpm", kilo="kcal / 1000")
        """
    def with_columns(self, *columns: str | list[str], dialect: _Dialect | None = None, **named: str) -> Stream:
        """All columns, with some added; one of the same name is replaced. All expressions see the columns as they came in.

        Args:
            columns: Expressions with a name ("upper(model) AS model").
            dialect: "databricks" (the default) or "datafusion".
            named: Expressions by name.

        Raises:
            SchemaError: A column or function does not exist, or types do not fit.

        Example:
            >>> raw.with_columns(day="to_date(time)")
        """
    def where(self, condition: str, dialect: _Dialect | None = None) -> Stream:
        """The rows for which a condition is TRUE. Rows that go are not counted as failures; for that there is `expect_or_drop`.

        Args:
            condition: A boolean SQL expression.
            dialect: "databricks" (the default) or "datafusion".

        Raises:
            SchemaError: The condition is not boolean, or names what does not exist.

        Example:
            >>> raw.where("model LIKE 'Pulse%'")
        """
    def rename(self, names: dict[str, str]) -> Stream:
        """Other names for some columns.

        Args:
            names: {old: new}.

        Raises:
            SchemaError: A column does not exist, or two get the same name.

        Example:
            >>> raw.rename({"heart_bpm": "bpm"})
        """
    def drop(self, *columns: str | list[str]) -> Stream:
        """All columns but these.

        Raises:
            SchemaError: A column does not exist, or none is left.

        Example:
            >>> raw.drop("ip", "version")
        """
    def union(self, other: Stream) -> Stream:
        """The rows of both streams, columns matched by name.

        Raises:
            SchemaError: Names or types differ.

        Example:
            >>> kafka.read_stream("a", schema=ddl).union(kafka.read_stream("b", schema=ddl))
        """
    def named(self, name: str) -> Stream:
        """The same stream under a name: rules before it are reported under it, and run once for everything built on it.

        Args:
            name: Letters, digits, "_", "-", "."; a letter or digit first.

        Raises:
            ConfigError: Not a name.

        Example:
            >>> clean = raw.expect_or_drop("set", "bpm IS NOT NULL").named("clean")
        """
    def expect(self, name: str, condition: str, dialect: _Dialect | None = None) -> Stream:
        """A rule that is counted; rows that break it stay.

        A rule holds only when its condition is TRUE: NULL breaks it, and so does an error. Rules next to each other are one set:
        each is counted on every row that comes in, and the strongest action wins (fail, quarantine, drop, keep).

        Args:
            name: What the rule is called in reports, unique within its set.
            condition: A boolean SQL expression.
            dialect: "databricks" (the default) or "datafusion".

        Raises:
            SchemaError: The condition is not boolean, or names what does not exist.
            ConfigError: The name is taken.

        Example:
            >>> raw.expect("plausible", "bpm < 250")
        """
    def expect_or_drop(self, name: str, condition: str, dialect: _Dialect | None = None) -> Stream:
        """A rule whose rows are dropped when they break it. Arguments and errors as `expect`.

        Example:
            >>> raw.expect_or_drop("human has a pulse", "bpm > 0")
        """
    def expect_or_quarantine(self, name: str, condition: str, dialect: _Dialect | None = None) -> Stream:
        """A rule whose rows move to the quarantine table when they break it, with the original message. In iterators and
        previews they are dropped and counted. Arguments and errors as `expect`.

        Example:
            >>> raw.expect_or_quarantine("tracker is valid", "model <> 'undef'")
        """
    def expect_or_fail(self, name: str, condition: str, dialect: _Dialect | None = None) -> Stream:
        """A rule that stops the query with an ExpectationError; nothing of that epoch is committed. Arguments and errors as
        `expect`.

        Example:
            >>> raw.expect_or_fail("key is set", "ip IS NOT NULL")
        """
    def expect_all(self, rules: dict[str, str], dialect: _Dialect | None = None) -> Stream:
        """Several `expect`: {name: condition}.

        Example:
            >>> raw.expect_all({"plausible": "bpm < 250", "recent": "time > '2024-01-01'"})
        """
    def expect_all_or_drop(self, rules: dict[str, str], dialect: _Dialect | None = None) -> Stream:
        """Several `expect_or_drop`: {name: condition}.

        Example:
            >>> raw.expect_all_or_drop({"set": "bpm IS NOT NULL", "pulse": "bpm > 0"})
        """
    def expect_all_or_quarantine(self, rules: dict[str, str], dialect: _Dialect | None = None) -> Stream:
        """Several `expect_or_quarantine`: {name: condition}.

        Example:
            >>> raw.expect_all_or_quarantine({"valid": "model <> 'undef'"})
        """
    def expect_all_or_fail(self, rules: dict[str, str], dialect: _Dialect | None = None) -> Stream:
        """Several `expect_or_fail`: {name: condition}.

        Example:
            >>> raw.expect_all_or_fail({"key": "ip IS NOT NULL"})
        """
    def with_watermark(
        self,
        column: str,
        delay: _Duration,
        *,
        idle_timeout: _Duration | None = None,
        max_future: _Duration | None = None,
        on_idle: Literal["hold", "advance"] = "hold",
        late: Literal["quarantine", "drop"] = "quarantine",
    ) -> Stream:
        """Say which column is the event time, and how long to wait for stragglers.

        The watermark is, per partition, the highest event time seen less the delay; the stream's is the lowest over partitions
        that are not idle, and never goes back. Within an epoch rows are judged by the watermark with which it began; at its end
        it advances, and windows whose end it has reached are emitted. A row is late when all its windows are closed; a NULL
        event time counts as late.

        Args:
            column: A TIMESTAMP column.
            delay: How far behind the newest event rows may come.
            idle_timeout: A partition that is caught up and silent for so long does not hold the others. Default "5 minutes".
            max_future: Event times later than the clock and this do not move the watermark. Default "1 hour".
            on_idle: When all partitions are idle, "hold" leaves the watermark at the highest event time less the delay, so that a backlog
                that comes after a silence is not late; "advance" has it follow the clock, less `idle_timeout` and the delay, so that the
                last windows of a topic that fell silent close.
            late: Late rows go to the quarantine table, or are dropped. Always counted.

        Raises:
            SchemaError: The column does not exist or is no TIMESTAMP.
            ConfigError: There is a watermark already, or the stream is aggregated.

        Example:
            >>> clean.with_watermark("time", "10 seconds")
        """
    def drop_duplicates(self, keys: str | list[str] | None = None, *, within: _Duration) -> Stream:
        """Drop rows that repeat an earlier one, in event time.

        A row is a duplicate when a row with the same keys was kept whose event time differs by at most `within`, either way
        (NULL keys equal each other). Of an epoch's rows the one with the lowest topic, partition and offset is kept, so that
        the order in which partitions answered makes no difference. Keys are remembered until the watermark has passed
        their time and `within`: the state is bounded. Rows below the watermark are late.

        Args:
            keys: Columns or expressions. Default: all columns.
            within: How far apart duplicates may lie.

        Raises:
            ConfigError: There is no watermark, or the stream is a running aggregate.
            SchemaError: A key does not exist or has a type that has no order (MAP).

        Example:
            >>> clean.with_watermark("time", "1 minute").drop_duplicates(["ip", "time"], within="10 minutes")
        """
    def join(
        self,
        other: Stream | str | Path | _Rows | list[dict[str, Any]] | dict[str, list[Any]],
        on: str | list[str] | list[tuple[str, str]] | dict[str, str],
        how: Literal["inner", "left"] = "inner",
        *,
        within: _Duration | tuple[_Duration, _Duration] | None = None,
        suffix: str = "_right",
        storage_options: Mapping[str, object] | None = None,
    ) -> Stream:
        """Join with a table, or with another stream.

        A table: rows at hand (Arrow, pandas, polars, dicts), or the path or URL of a Delta table, which is read again when its
        version has changed; the version holds for a whole epoch and is sealed with it. A row that matches several comes
        several times.

        A stream (`within=` is needed): pairs with equal keys whose event times lie within a range of each other, handed out
        in the epoch in which the later row came; with how="left" a left row without a match comes with NULLs once the
        watermark proves that none can come. Both need a watermark; rows below the lower one of the two are late. The event
        time of a pair is the left row's. `stateOperators[…]["customMetrics"]` in the progress counts numUnmatchedLeft and
        numUnmatchedRight.

        NULL keys match nothing. Columns are the left ones, then the right ones but for keys of the same name.

        Args:
            other: The right side.
            on: Columns with equal values: one, several, pairs (left, right), or {left: right}. Whole numbers of different
                widths, and FLOAT and DOUBLE, are compared as the wider type.
            how: "inner" or "left".
            within: A duration either way, or (before, after): the right row's time lies in [left - before, left + after].
            suffix: Added to right columns whose name the left side has.
            storage_options: Options of a cloud store, as delta-rs names them.

        Raises:
            ConfigError: No watermark, no `within=` for a stream, or a running aggregate.
            SchemaError: A key does not exist, types that cannot be compared, or two columns of one name.
            StorageError: There is no Delta table.

        Example:
            >>> clean.join("lake/devices", on="model", how="left")
            >>> clicks.join(orders, on={"user": "customer"}, within=("0 seconds", "30 minutes"))
        """
    def map_batches(
        self,
        function: Callable[[Any], Any],
        schema: str | _ArrowSchema | dict[str, str] | None = None,
        *,
        input: Literal["arrow", "pandas", "polars", "bayou"] = "arrow",
    ) -> Stream:
        """Rows through a Python function, batch by batch.

        The function may return fewer or more rows. Where it raises, the rows are found by bisection (the function is called
        again with parts of the batch) and follow `on_malformed`; the error names epoch, topic, partition and offset. A
        function that fails for every row stops the query. Put with_watermark before it: what it returns does not tell
        which partition it came from. Its result is part of what is sealed, so that it is not called again after a crash.

        Args:
            function: Takes a batch, returns rows: Arrow, pandas (its index is left out), polars, dicts or a dict of lists. Values
                fit the schema exactly or are an error that names column and row (docs/values.md); no rows need no columns.
            schema: The columns that it returns, found by name, in structs too. Default: those that it is given.
            input: What it is given: "arrow" (pyarrow.RecordBatch), "pandas", "polars" or "bayou" (Batch).

        Raises:
            ConfigError: Not a function, another `input`, or a running aggregate.
            ImportError: What `input` needs is not installed.

        Example:
            >>> clean.map_batches(lambda df: df.assign(zone=df.bpm // 40), "time TIMESTAMP, bpm INT, zone INT", input="pandas")
        """
    def group_by(self, *keys: str | Window | list[str]) -> GroupedStream:
        """Group rows, by a window, columns or expressions; without any, all rows are one group.

        Args:
            keys: Columns or SQL expressions, and at most one `bayou.window(…)` (or its text, "window(time, '1 minute')").

        Raises:
            SchemaError: A column or function does not exist.
            ConfigError: Two windows, or the stream is aggregated already.

        Example:
            >>> clean.group_by(bayou.window("time", "1 minute"), "model").agg("count(*) AS n")
        """
    def batches(
        self,
        *,
        trigger: _Duration | None = None,
        output_mode: _OutputMode | None = None,
        limit: int | None = None,
        timeout: _Duration | None = None,
        batch_rows: int | None = None,
        close_windows: bool = False,
        name: str | None = None,
        checkpoint_location: str | PathLike[str] | None = None,
        storage_options: Mapping[str, object] | None = None,
    ) -> BatchIterator:
        """Iterate over the rows as Arrow batches. At least once: nothing is committed unless the position is stored.

        Malformed messages raise unless `on_malformed` says otherwise. Quarantined and late rows are dropped and counted.

        Args:
            trigger: "available_now" (the default): all that is there now, then end. An interval ("2 seconds") goes on until it
                is left; "0 seconds" is as fast as possible.
            output_mode: "append" (rows; windows when closed) or "complete" (the whole result each time). Default: append, and
                complete for an aggregate without a window.
            limit: End after so many rows.
            timeout: End after so long.
            batch_rows: Rows of a batch, but for the last. Default: as they come.
            close_windows: At the end emit windows that are still open.
            name: With `checkpoint_location`: remember the position under this name. It is stored when the next batch is asked
                for, so a batch that was not finished comes again.
            checkpoint_location: A path or URL.
            storage_options: Options of a cloud store, as delta-rs names them.

        Raises:
            ConfigError: Options contradict each other.
            TypeError: An argument that does not exist.
            MalformedError: While iterating: a message cannot be decoded.

        Example:
            >>> for batch in clean.batches(batch_rows=10_000):
            ...     print(batch.to_polars().describe())
        """
    def pandas_batches(
        self,
        *,
        trigger: _Duration | None = None,
        output_mode: _OutputMode | None = None,
        limit: int | None = None,
        timeout: _Duration | None = None,
        batch_rows: int | None = None,
        close_windows: bool = False,
        name: str | None = None,
        checkpoint_location: str | PathLike[str] | None = None,
        storage_options: Mapping[str, object] | None = None,
    ) -> BatchIterator:
        """Iterate over the rows as pandas frames. Arguments and errors as `batches`.

        Raises:
            ImportError: pandas is not installed.

        Example:
            >>> for frame in per_minute.pandas_batches(trigger="2 seconds", output_mode="complete"):
            ...     redraw(frame)
        """
    def collect(
        self,
        limit: int | None = None,
        *,
        timeout: _Duration | None = None,
        output_mode: _OutputMode | None = None,
        close_windows: bool = False,
    ) -> Table:
        """All that is there now, in memory. Arguments and errors as `batches`.

        Example:
            >>> clean.collect(limit=1000).to_pandas()
        """
    def preview(self, n: int = 20, *, timeout: _Duration | None = None) -> Preview:
        """The first rows, and messages that could not be decoded with their errors. Commits nothing; open windows show too.

        Args:
            n: At most so many rows.
            timeout: Stop looking after so long. Default 10 seconds.

        Example:
            >>> clean.preview(20)
        """
    def validate(self) -> Validation:
        """Run the rules over all that is there and count; an `expect_or_fail` is counted instead of stopping.

        Example:
            >>> bayou.from_batches(frame).expect("set", "bpm IS NOT NULL").validate().passed
            True
        """
    def write_delta(
        self,
        target: str | Path,
        *,
        query_name: str | None = None,
        output_mode: _OutputMode | None = None,
        trigger: _Duration | None = None,
        checkpoint_location: str | PathLike[str] | None = None,
        partition_by: str | list[str] | None = None,
        storage_options: Mapping[str, object] | None = None,
        table_name: str | None = None,
        comment: str | None = None,
        schema_mode: Literal["merge"] | None = None,
        start: Literal["now", "earliest"] | None = None,
        full_refresh: bool = False,
        accept_changes: bool = False,
        close_windows: bool = False,
        memory_limit: str | int | None = None,
        optimize_every: int | None = None,
        clean_log: bool | None = None,
        block: bool = True,
        progress: bool = True,
    ) -> Query:
        """Write a Delta table, exactly once: running it again goes on where the last run stopped and writes nothing twice, also
        after a kill at any point.

        Rows that are set aside go to `<target>_quarantine`, made when first needed; so do rows that the table does not take (stage
        `table`): NULL for a column that is NOT NULL there, a broken CHECK constraint, a year outside 0001 to 9999. Running a query that is active in this
        process stops the old one after its epoch.

        Args:
            target: A path or URL. `catalog.schema.table` is refused in this version.
            query_name: The query's identity. Default: the target's last part.
            output_mode: "append" (rows; windows when closed), "update" (the rows of changed groups take the place of those with
                the same keys; NULL keys equal) or "complete" (the whole result). Default: append, and complete for an
                aggregate without a window.
            trigger: "available_now" (the default): all that is there when it starts, in epochs, then stop. Or an interval,
                "10 seconds", until stopped.
            checkpoint_location: Where the checkpoint lies. Default `<target>/_bayou`.
            partition_by: Columns.
            storage_options: Options of a cloud store, as delta-rs names them.
            table_name: Delta's own name of the table.
            comment: The table's comment.
            schema_mode: "merge" adds new columns, and new fields within columns, to a table that exists, and makes a column nullable that
                is NOT NULL there and can be NULL in the stream, by a commit of its own.
            start: Where a table begins that the query's checkpoint does not know yet: "now" or "earliest".
            full_refresh: Empty the table and read everything anew. Delta's history keeps the old rows. Where others have written rows
                to the table as well, accept_changes=True is needed, too.
            accept_changes: Take over a table that has rows of others; let two queries share it. Go on although others changed data in the table (RESTORE, DELETE, overwrite), or its log has lost an epoch
                or was cleaned up before this query has seen it.
            close_windows: At the end emit windows that are still open (backfills); later rows of theirs are late.
            memory_limit: How much state stays in memory, as "2 GB" or bytes; what is beyond it goes to local disk (TMPDIR).
                Default: half of the machine's memory.
            optimize_every: Join the table's small files, beside the stream, whenever there are so many (Delta's OPTIMIZE; the old
                files are VACUUM's). They are counted now and then: where an epoch writes several, some more may gather.
                Default: never.
            clean_log: Take away what the table's own retention (`delta.logRetentionDuration`, 30 days by default) lets go of in its log,
                beside the stream. Default: as the table property `bayou.cleanLog` says, which bayou sets for tables that it makes;
                other tables are left alone unless this is True.
            block: Wait for the end. Otherwise return a running Query once it has started.
            progress: Show a panel that is updated in place.

        Returns:
            The Query, ended or running.

        Raises:
            ConfigError: Options or the checkpoint do not fit.
            ConcurrentQueryError: Another process runs this query.
            DataLossError: Offsets that are still needed are gone.
            ExpectationError: A rule of `expect_or_fail` was broken.
            SchemaError: Too many malformed messages, or the table has other columns.
            StorageError: The table cannot be written.
            KeyboardInterrupt: The stop button, after the query has ended cleanly.

        Example:
            >>> query = clean.write_delta("lake/bpm_cleansed", partition_by="model")
            >>> query.last_progress["numInputRows"]
            200000
        """
    def foreach_batch(
        self,
        function: Callable[[Any, int], Any],
        *,
        query_name: str | None = None,
        checkpoint_location: str | PathLike[str] | None = None,
        input: Literal["arrow", "pandas", "polars", "bayou"] = "arrow",
        output_mode: _OutputMode | None = None,
        trigger: _Duration | None = None,
        storage_options: Mapping[str, object] | None = None,
        full_refresh: bool = False,
        close_windows: bool = False,
        memory_limit: str | int | None = None,
        block: bool = True,
        progress: bool = True,
    ) -> Query:
        """Hand each epoch's rows to `function(rows, epoch)`.

        At least once: after a crash the same rows come again for the same epoch, so that a function that remembers the epoch
        can tell. They are staged in the checkpoint before the epoch is sealed, and not computed again. An epoch without
        rows is not handed over. What the function raises stops the query; running it again calls it with the same rows.

        Args:
            function: Called on a thread of its own with the rows and the epoch's number.
            query_name: The query's identity; needed.
            checkpoint_location: Where its checkpoint lies; needed.
            input: What the rows come as: "arrow" (pyarrow.Table), "pandas", "polars" or "bayou" (Table).
            output_mode: As in write_delta; "update" hands over the rows of changed groups.
            trigger: As in write_delta.
            storage_options: As in write_delta.
            full_refresh: Read everything anew.
            close_windows: As in write_delta.
            memory_limit: As in write_delta.
            block: As in write_delta.
            progress: As in write_delta.

        Raises:
            ConfigError: Options are missing.
            FunctionError: The function failed; what it raised is the `__cause__`.

        Example:
            >>> alerts.foreach_batch(lambda rows, epoch: post(rows.to_pylist()), query_name="alerts", checkpoint_location="lake/_alerts")
        """
    def __eq__(self, value: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class GroupedStream:
    """A stream with keys, waiting for its aggregates.

    Example:
        >>> clean.group_by("model").agg("count(*) AS n")
    """

    def agg(
        self, *aggregates: str | list[str] | Aggregate, dialect: _Dialect | None = None, **named: str | Aggregate
    ) -> Stream:
        """Aggregate the groups. Columns come as window_start, window_end, keys, aggregates.

        Args:
            aggregates: SQL aggregates with a name ("count(bpm) AS events").
            dialect: "databricks" (the default) or "datafusion".
            named: Aggregates by name: `highest="max(bpm)"`.

        Raises:
            SchemaError: An aggregate has no name, or a column or function does not exist.

        Example:
            >>> clean.group_by("model").agg("avg(bpm) AS average", highest="max(bpm)")
        """
    def count(self) -> Stream:
        """The number of rows of each group, as column `count`.

        Example:
            >>> clean.group_by("model").count()
        """

@final
class Window:
    """A window over event time, made by `bayou.window`, for `group_by`.

    Example:
        >>> bayou.window("time", "1 minute")
        window("time", "1 minute")
    """

@final
class BatchIterator:
    """Batches, one after another. Leaving the loop, `close`, or the end of a `with` block releases the consumer. One thread reads;
    a second one that asks meanwhile gets a ConfigError.

    Example:
        >>> with clean.batches(trigger="1 second") as batches:
        ...     first = next(batches)
    """

    def close(self) -> None:
        """Release the consumer; iteration ends, also in a thread that waits for the next batch.

        Example:
            >>> batches.close()
        """
    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...
    def __enter__(self) -> BatchIterator: ...
    def __exit__(self, *_args: type[BaseException] | BaseException | TracebackType | None) -> None: ...

@final
class Preview:
    """What `preview` shows: rows, and what could not be decoded or was set aside. `len` is the number of rows.

    Example:
        >>> clean.preview(20)
    """

    @property
    def rows(self) -> Table:
        """The rows.

        Example:
            >>> clean.preview(5).rows.to_pandas()
        """
    @property
    def notes(self) -> list[str]:
        """What is worth knowing, as: no message had 'userid', they have 'userId'.

        Example:
            >>> clean.preview().notes
        """
    @property
    def malformed(self) -> Table:
        """Messages that did not make it: topic, partition, offset, stage, rules, error. At most 100.

        Example:
            >>> clean.preview().malformed.column("error")
        """
    def __len__(self) -> int: ...
    def _repr_html_(self) -> str: ...

@final
class Validation:
    """What `validate` finds.

    Example:
        >>> checked = bayou.from_batches(frame).expect("set", "bpm IS NOT NULL").validate()
        >>> checked.passed
        True
    """

    @property
    def expectations(self) -> Table:
        """Counts of the rules: dataset, name, action, passed_records, failed_records.

        Example:
            >>> checked.expectations.to_pandas()
        """
    @property
    def passed(self) -> bool:
        """Whether no row broke a rule and nothing was malformed.

        Example:
            >>> assert checked.passed
        """
    @property
    def rows_in(self) -> int:
        """Rows that came in, decoded.

        Example:
            >>> checked.rows_in
            1000
        """
    @property
    def rows_out(self) -> int:
        """Rows that came out behind the last step.

        Example:
            >>> checked.rows_out
            985
        """
    @property
    def malformed(self) -> int:
        """Messages that could not be decoded.

        Example:
            >>> checked.malformed
            0
        """
    def raise_for_expectations(self, *names: str, max_ratio: float = 0.0) -> None:
        """Raise if too many rows broke a rule.

        Args:
            names: Rules. Default: all.
            max_ratio: The share of rows, 0 to 1, that may break each.

        Raises:
            ExpectationError: More did.
            ConfigError: There is no such rule.

        Example:
            >>> checked.raise_for_expectations("set", max_ratio=0.01)
        """
    def _repr_html_(self) -> str: ...

# --- queries ------------------------------------------------------------------------------------------------------------

@final
class Query:
    """A running or ended query. In a notebook it shows as a panel: rows per second, lag, watermark, rules, commits.

    Example:
        >>> query = clean.write_delta("lake/clean", trigger="10 seconds", block=False)
        >>> query.stop()
    """

    @property
    def name(self) -> str:
        """The query's name, which is its identity.

        Example:
            >>> query.name
            'clean'
        """
    @property
    def id(self) -> str:
        """The query's id.

        Example:
            >>> query.id
            '0b6f…'
        """
    @property
    def run_id(self) -> str:
        """An id of this run.

        Example:
            >>> query.run_id
            '7c1e…'
        """
    @property
    def is_active(self) -> bool:
        """Whether it still runs.

        Example:
            >>> query.is_active
            False
        """
    @property
    def status(self) -> str:
        """What it does: "starting", "running", "waiting", "stopping", "stopped", "finished" or "failed".

        Example:
            >>> query.status
            'finished'
        """
    @property
    def last_progress(self) -> dict[str, Any] | None:
        """The newest epoch, with the keys of Spark's StreamingQueryProgress; None before the first. Durations are milliseconds.

        Example:
            >>> query.last_progress["numInputRows"]
            200000
        """
    @property
    def recent_progress(self) -> list[dict[str, Any]]:
        """The last 100 epochs of this run, oldest first.

        Example:
            >>> [p["batchId"] for p in query.recent_progress]
            [0, 1]
        """
    @property
    def expectations(self) -> Table:
        """Counts of this run's rules: dataset, name, action, passed_records, failed_records.

        Example:
            >>> query.expectations.to_pandas()
        """
    @property
    def warnings(self) -> list[str]:
        """What may be wrong: a changed starting_offsets, a driver-local path, ….

        Example:
            >>> query.warnings
            []
        """
    @property
    def notes(self) -> list[str]:
        """What is good to know: changed tables, windows that are still open and which partition holds them.

        Example:
            >>> query.notes
            []
        """
    def exception(self) -> BayouError | None:
        """What it ended with, or None.

        Example:
            >>> query.exception() is None
            True
        """
    def stop(self) -> None:
        """End it now. An epoch that is not sealed is abandoned, and comes again at the next run.

        Example:
            >>> query.stop()
        """
    def await_termination(self, timeout: _Duration | None = None) -> bool:
        """Wait for the end.

        Args:
            timeout: At most so long. Default: without end.

        Returns:
            Whether it has ended.

        Raises:
            BayouError: What it ended with.

        Example:
            >>> query.await_termination("1 minute")
            True
        """
    def open_windows(self) -> Table:
        """Which windows wait for their end, and why: the earliest hundred of each table, as of the last epoch.

        Columns: table, window_start, window_end, groups, watermark, held_by (the partition that holds the watermark), highest (its
        highest event time), held_since (the clock when that last rose), closes (what would close the window).

        Example:
            >>> query.open_windows().to_pandas()[["window_end", "held_by", "closes"]]
        """
    def raise_for_expectations(self, *names: str, max_ratio: float = 0.0) -> None:
        """Raise if too many rows of this run broke a rule; for jobs, after the commit.

        Args:
            names: Rules. Default: all.
            max_ratio: The share of rows, 0 to 1, that may break each.

        Raises:
            ExpectationError: More did.
            ConfigError: There is no such rule.

        Example:
            >>> query.raise_for_expectations("plausible", max_ratio=0.01)
        """
    def to_json(self) -> str:
        """All that is known of the query as JSON text, for logs.

        Example:
            >>> json.loads(query.to_json())["epochs"]
            2
        """
    def _repr_html_(self) -> str: ...

# --- functions ----------------------------------------------------------------------------------------------------------

def window(
    column: str,
    size: _Duration,
    slide: _Duration | None = None,
    offset: _Duration | None = None,
    timezone: str = "UTC",
) -> Window:
    """A window over event time for `group_by`: tumbling, or sliding with `slide`. Columns are window_start and window_end.

    Sizes of days and weeks follow the calendar of `timezone` (a day of 23 or 25 hours where the clocks change), months,
    quarters and years that of any zone. Shorter sizes, and days in UTC, are fixed and start from 1970-01-01 UTC, as in Spark.

    The rows of a window carry the event time window_end less one microsecond: `window("window_end", "1 hour")` makes windows
    of windows.

    Args:
        column: A TIMESTAMP column.
        size: How long a window is: "1 minute", "90 seconds", a timedelta, "1 day", "1 month".
        slide: A new window starts so often. Default: `size` (tumbling).
        offset: Shifts the starts; for calendar sizes in local time ("6 hours": days from six in the morning).
        timezone: The zone of calendar sizes, as "Europe/Berlin".

    Raises:
        ConfigError: A size or slide of nothing, a slide longer than the size, or a zone that does not exist or does not matter.

    Example:
        >>> clean.group_by(bayou.window("time", "5 minutes", slide="1 minute")).agg("count(*) AS n")
        >>> clean.group_by(bayou.window("time", "1 day", timezone="Europe/Berlin"), "model").count()
    """

@final
class Aggregate:
    """A Python function over the rows of a group, made by `aggregate`.

    Example:
        >>> bayou.aggregate(p95, returns="DOUBLE", columns="bpm")
    """

def aggregate(
    function: Callable[[Any], Any],
    returns: str,
    columns: str | list[str] | None = None,
    *,
    input: Literal["arrow", "pandas", "polars", "bayou"] = "arrow",
) -> Aggregate:
    """A Python function as an aggregate, for `agg`: it is called once for each group, when its window is closed.

    It is given the group's rows in the order of event time, then of their values, so that what it sees does not depend on when they
    came. All rows of open windows are kept; only output_mode="append" can have it.

    Args:
        function: Takes the rows, returns one value or None (pandas.NA and NaT are None). It fits `returns` exactly or is an error.
        returns: The type of that value, as in "DOUBLE".
        columns: What it is given. Default: all columns.
        input: As what: "arrow" (pyarrow.RecordBatch), "pandas", "polars" or "bayou" (Batch).

    Raises:
        ConfigError: Not a function, or another `input`.
        SchemaError: A type that does not exist.

    Example:
        >>> spread = bayou.aggregate(lambda df: df.bpm.quantile(0.95), returns="DOUBLE", columns="bpm", input="pandas")
        >>> clean.with_watermark("time", "10 seconds").group_by(bayou.window("time", "1 minute")).agg(p95=spread)
    """

def session_window(column: str, gap: _Duration) -> Window:
    """A window for `group_by` that lasts as long as rows of one key follow each other within `gap`.

    window_start is the first row's time, window_end the last one's and the gap. Sessions that meet or touch are one, as in Spark;
    one is closed when the watermark has passed its end.

    Args:
        column: A TIMESTAMP column.
        gap: The longest silence within a session.

    Raises:
        ConfigError: A gap of nothing.

    Example:
        >>> clean.group_by(bayou.session_window("time", "5 minutes"), "ip").agg("count(*) AS events")
    """

def from_batches(rows: _Rows | list[dict[str, Any]] | dict[str, list[Any]]) -> Stream:
    """Rows at hand as a stream: for tests, checks, and the same rules on a frame.

    Args:
        rows: An Arrow stream or array (PyCapsule), a pandas frame, a list of dicts, or a dict of lists. They are copied; a pandas
            index is left out. A time finer than a microsecond is an error: TIMESTAMP has none.

    Raises:
        MalformedError: A value does not fit; the message names column and row.
        ImportError: Plain Python rows or a frame, and pyarrow is not installed.

    Example:
        >>> bayou.from_batches({"bpm": [70, 0]}).expect_or_drop("pulse", "bpm > 0").collect().to_dicts()
        [{'bpm': 70}]
    """

def from_messages(
    messages: Iterable[bytes | str | None],
    *,
    schema: _SchemaLike | None = None,
    format: Literal["json", "raw"] | None = None,
    on_malformed: _OnMalformed | None = None,
    on_tombstone: _OnTombstone | None = None,
    timezone: str | None = None,
    timestamp_unit: _TimestampUnit | Mapping[str, _TimestampUnit] | None = None,
    include_metadata: bool = False,
    max_message_bytes: str | int | None = None,
) -> Stream:
    """Message values at hand, decoded as if they came from a topic; None is a tombstone. Arguments as `read_stream`.

    Raises:
        SchemaError: The schema cannot be read, or an item is neither bytes, str nor None.

    Example:
        >>> bayou.from_messages(['{"bpm": 70}', b'{"bpm": 1.9}'], schema="bpm INT", on_malformed="drop").collect().to_dicts()
        [{'bpm': 70}]
    """

def read_delta(
    target: str | Path, *, version: int | None = None, storage_options: Mapping[str, object] | None = None
) -> Table:
    """A whole Delta table.

    Args:
        target: A path or URL.
        version: A version of it. Default: the newest.
        storage_options: Options of a cloud store, as delta-rs names them.

    Raises:
        StorageError: There is no table, or no such version.

    Example:
        >>> bayou.read_delta("lake/bpm_cleansed").to_pandas()
    """

def sql(query: str, *, storage_options: Mapping[str, object] | None = None, **tables: str | _Rows) -> Table:
    """Run a SELECT over tables given by name.

    Args:
        query: SQL. It can only read.
        storage_options: Options of a cloud store, for the paths.
        tables: By name: a Delta table's path or URL, an Arrow stream (PyCapsule), or a pandas frame.

    Raises:
        SchemaError: The SQL cannot be planned or run.
        StorageError: A table cannot be read.

    Example:
        >>> bayou.sql("SELECT model, count(*) AS n FROM t GROUP BY model", t="lake/bpm_cleansed")
    """

# --- for bayou's own Python part ----------------------------------------------------------------------------------------

def _connect(target: object, name: str) -> Connection: ...
def _clean(text: str) -> str: ...
def _encode_row(dict: dict[Any, Any], row: int) -> bytes: ...
def _encode_key(value: object, column: str, row: int) -> bytes | None: ...
def _run_broker(dir: str | Path) -> None: ...
def _set_launcher(command: list[str]) -> None: ...
def _shutdown() -> None: ...
def _crash_at(point: str, nth: int) -> None: ...
def _pause_at(point: str, nth: int) -> None: ...
def _slow_at(point: str, seconds: float) -> None: ...
def _crash_points() -> dict[str, int]: ...
def _is_complete(stream: Stream) -> bool: ...
def _of_table(stream: Stream, name: str) -> Stream: ...
def _functions() -> list[str]: ...
def _simulate_fitness(
    rows: int,
    seed: int,
    start: datetime | None,
    interval: _Duration | None,
    disorder: _Duration | None,
    late: float,
    late_by: _Duration | None,
    fever_region: str | None,
    fever_start: float,
    undef: float,
    zero: float,
    columns: int | None,
) -> Any: ...
def _run_pipeline(
    name: str,
    root: str,
    tables: list[dict[str, Any]],
    *,
    trigger: _Duration | None,
    checkpoint_location: str | PathLike[str] | None,
    storage_options: Mapping[str, object] | None,
    full_refresh: bool,
    accept_changes: bool,
    close_windows: bool,
    memory_limit: str | int | None,
    optimize_every: int | None,
    clean_log: bool | None,
    block: bool,
    progress: bool,
) -> Query: ...
def _repair(
    root: str | None,
    target: str | PathLike[str] | None,
    query_name: str | None,
    checkpoint_location: str | PathLike[str] | None,
    storage_options: Mapping[str, object] | None,
    confirm: bool,
) -> Table: ...
def _reset(checkpoint: str, storage_options: Mapping[str, object] | None) -> bool: ...
def _pipeline_tables(
    root: str, checkpoint: str, storage: Mapping[str, object] | None
) -> list[tuple[str, str, int | None]]: ...
def _pipeline_sql(query: str, root: str, checkpoint: str, storage: Mapping[str, object] | None) -> Table: ...
def _pipeline_read(name: str, root: str, checkpoint: str, storage: Mapping[str, object] | None) -> Table: ...
def _pipeline_expectations(checkpoint: str, storage: Mapping[str, object] | None) -> Table: ...
