"""A Kafka cluster: topics, publishing, subscribing."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, final

from bayou._core._stream import Stream
from bayou._core._table import Table
from bayou._core._types import _Offsets, _OnMalformed, _OnTombstone, _Rows, _SchemaLike, _TimestampUnit

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
