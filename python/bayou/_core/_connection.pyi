"""A Kafka cluster: topics, publishing, subscribing."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, final

from bayou._core._administration import _Administration
from bayou._core._stream import Stream
from bayou._core._table import Table
from bayou._core._types import _Duration, _Offsets, _OnMalformed, _OnTombstone, _Rows, _SchemaLike, _TimestampUnit

@final
class Connection(_Administration):
    """A Kafka cluster. `bayou.connect` returns it.

    Its repr shows the address, but no secrets.

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
        """Whether this is the embedded broker. It is in memory and ends a few seconds after its last user.

        Example:
            >>> bayou.connect().is_embedded
            True
        """
    @property
    def cluster_id(self) -> str:
        """The id of the cluster. Checkpoints record it, so that a table is never filled from two clusters.

        Raises:
            ConnectionError: The cluster does not answer.

        Example:
            >>> kafka.cluster_id
            'yq8Zp0mRQgq…'
        """
    @property
    def scratch_dir(self) -> Path:
        """A directory that exists as long as the embedded broker, for temporary tables.

        Raises:
            ConfigError: This is not the embedded broker.

        Example:
            >>> lake = bayou.Pipeline("demo", f"{kafka.scratch_dir}/lake")
        """
    @property
    def client_properties(self) -> dict[str, str]:
        """librdkafka properties with which a different client, for example confluent-kafka, can connect to the embedded broker.

        The embedded broker listens on the loopback address of this machine and accepts only clients that know its secret
        (SASL/SCRAM). The properties contain this secret, and other users of the machine do not know it. Do not print the properties.

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
            name: The name of the topic.
            partitions: The number of partitions.
            replication_factor: The number of replicas of each partition. Default: the default of the broker.
            config: Kafka's topic properties, for example {"retention.ms": "86400000"}. The embedded broker does not take any.
            exist_ok: If the topic exists, leave it unchanged instead of raising an error.

        Raises:
            TopicError: The topic exists, or the broker refuses the name or the numbers.
            AclError: The credentials do not allow it.
            ConfigError: The embedded broker does not support what is asked.

        Example:
            >>> kafka.create_topic("fitness-tracker", partitions=6, exist_ok=True)
        """
    def delete_topic(self, name: str) -> None:
        """Delete a topic with all its messages.

        Raises:
            TopicError: The topic does not exist.
            AclError: The credentials do not allow it.
            ConfigError: The embedded broker cannot delete topics.

        Example:
            >>> kafka.delete_topic("fitness-tracker")
        """
    def topics(self, *, internal: bool = False) -> Table:
        """All topics. Columns: topic STRING, partitions BIGINT.

        Args:
            internal: Kafka's internal topics, too ("__consumer_offsets" and similar).

        Raises:
            ConnectionError: The cluster does not answer.

        Example:
            >>> kafka.topics().column("topic")
            ['fitness-tracker']
        """
    def describe_topic(self, name: str) -> dict[str, Any]:
        """Name, id, partitions (leader, replicas, in-sync replicas, earliest and latest offset) and configuration of a topic.

        The latest offset is the one after the last message that `read_committed` can see.

        Raises:
            TopicError: The topic does not exist.

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
        linger: _Duration | None = None,
        batch_size: str | int | None = None,
        partitioner: Literal[
            "murmur2_random", "murmur2", "consistent_random", "consistent", "fnv1a_random", "fnv1a", "random"
        ]
        | None = None,
        rate: float | None = None,
        include_key_in_value: bool = True,
        transaction: bool = False,
        transactional_id: str | None = None,
        deliveries: bool = False,
        encrypt: Callable[[list[bytes]], list[bytes]] | None = None,
        progress: bool = True,
    ) -> ProduceReport:
        """Publish each row as one JSON message, and wait until the broker has acknowledged all of them.

        bayou's JSON reader reads back exactly what is written: times are RFC 3339 in UTC with microseconds, decimals are numbers,
        binary is base64. A value is written exactly or not at all. A time finer than a microsecond, NaN, or a type without a JSON
        form is an error that names the column and the row. The rows before it are published, and the error says how many arrived.
        A pandas index is left out.

        Args:
            topic: The topic. It must exist.
            rows: An Arrow stream or array (PyCapsule), a pandas frame, or any iterable of dicts. An endless iterable is possible.
            key: The column whose value is the message key. The key decides the partition.
            headers: Headers of every message. Values are str, bytes or None.
            headers_column: A column with headers: a map, or a list of structs (key, value). The column is removed from the value.
            partition: One partition for all rows.
            partition_column: A column with the partition. For NULL the key decides. The column is removed from the value.
            timestamp: A column with the timestamp of the message: TIMESTAMP, or a number of milliseconds. NULL means now.
            value: A column whose text or bytes become the value, unchanged. NULL makes a tombstone. Default: the row as JSON.
            compression: The compression of batches. Default: the property of the connection, otherwise "lz4"; "zstd" for the embedded broker.
            acks: How many replicas acknowledge. Default "all", with idempotence. Any other value turns idempotence off. Messages of a
                partition keep their order either way, also when they are sent again.
            linger: How long messages are gathered into a batch. Default 20 milliseconds.
            batch_size: How large a batch may grow, "1 MB" or a number of bytes. Default: librdkafka's.
            partitioner: How a key decides the partition. Default "murmur2_random": as Java's producers, so that a key is in the same partition
                whichever client writes it. An integer key is written as its text.
            rate: At most this many rows per second. Default: as fast as possible.
            include_key_in_value: Whether the key column stays in the value.
            transaction: All rows or none. Readers with `isolation.level=read_committed`, as bayou's, see the rows when all have arrived. An
                error, an interrupt or a crash leaves none of them for these readers.
            transactional_id: The name of the transaction's producer. A newer producer of this name ends an open transaction of an older one,
                which can send nothing afterwards. Default: a unique name.
            deliveries: Keep the partition and offset, or the error, of each row for `report.deliveries`.
            encrypt: A function that gets the values of some rows, a list of bytes, and returns what is sent instead, a list of as many bytes.
                It is called for batches, on a thread of bayou. Messages without a value are left out. `read_stream(decrypt=)` undoes it.
            progress: Show progress after two seconds.

        Returns:
            A report with the number of delivered and failed rows, and the reasons of the first ten failures.

        Raises:
            TopicError: The topic or partition does not exist.
            SchemaError: A column does not exist or does not have a JSON form.
            MalformedError: A value does not have a JSON form. The message names the column and the row (counted from 0).
            ConcurrentQueryError: A different producer has taken the transactional id.
            AclError: These credentials have no WRITE permission on the topic.
            AuthError: The cluster refuses these credentials, or one side refuses the certificate of the other.
            ConnectionError: Kafka has confirmed no row in the time of `message.timeout.ms` (60 seconds if you do not set it).
            KeyboardInterrupt: The stop button. The text says how many rows have arrived.
            FunctionError: Your iterator, or the function of `encrypt`, raised an exception. The exception is the `__cause__`.
            ConfigError: Options contradict each other, or the embedded broker is full. It never evicts messages.

        Example:
            >>> kafka.produce("fitness-tracker", bayou.simulate("fitness", rows=200_000), key="ip")
            >>> kafka.produce("alerts", [{"model": "Pulse 3", "bpm": 220}])
        """
    def peek(self, topic: str, n: int = 20) -> Table:
        """The newest messages, not decoded, newest first. Works for any format.

        Columns: key, value (bytes), topic, partition, offset, timestamp, timestampType, headers, and framing. The framing is a guess:
        "json", "text", "binary", "schema registry (…)", "tombstone", "empty", or "too large to show: …" (more than 64 MB; the value
        is then NULL).

        Args:
            topic: The topic.
            n: At most this many messages.

        Raises:
            TopicError: The topic does not exist.

        Example:
            >>> kafka.peek("fitness-tracker", n=1).row(0)["framing"]
            'json'
        """
    def read_stream(
        self,
        topics: str | list[str] | None = None,
        *,
        subscribe_pattern: str | None = None,
        schema: _SchemaLike | None = None,
        format: Literal["json", "jsonl", "raw"] | None = None,
        starting_offsets: _Offsets | None = None,
        ending_offsets: _Offsets | None = None,
        max_offsets_per_trigger: int | None = None,
        min_offsets_per_trigger: int | None = None,
        max_trigger_delay: _Duration | None = None,
        fail_on_data_loss: bool | None = None,
        on_malformed: _OnMalformed | None = None,
        max_malformed: float = 0.5,
        on_tombstone: _OnTombstone | None = None,
        timezone: str | None = None,
        timestamp_unit: _TimestampUnit | Mapping[str, _TimestampUnit] | None = None,
        allow_quoted_numbers: bool = False,
        allow_nan: bool = False,
        missing: Literal["null", "malformed"] = "null",
        include_metadata: bool = False,
        max_message_bytes: str | int | None = None,
        decrypt: Callable[[list[bytes]], list[bytes]] | None = None,
        options: Mapping[str, object] | None = None,
    ) -> Stream:
        """Subscribe to topics. One message becomes one row. This call reads no messages yet; it checks topics, schema and options.

        A value that does not fit its column makes the message malformed: 1.9 into INT, 300 into TINYINT, a quoted number into a
        number. It never silently becomes a different value. 1.0 and 1e3 fit an INT. A missing field is NULL. Unknown fields are
        ignored and counted. If a field is repeated, the last one counts. BINARY is base64. JSON fields match columns exactly. If a
        STRING column gets a value that is not a string, it gets the JSON text of the value, unchanged.

        Args:
            topics: A topic, or a list of topics with one schema. For topics with different schemas use `a.union(b)`.
                Topics may be added and left out between runs of a query (see `start=` of `write_delta`).
            subscribe_pattern: Instead of topics: all topics whose whole name matches this regular expression of Java, "orders_.*". Topics
                that are created later join a run within seconds, from their earliest offset. Kafka's internal topics never match.
            schema: A Spark DDL string ("time TIMESTAMP, bpm INT"), a StructType of PySpark or its JSON, an Arrow schema (PyCapsule), or
                {name: type}. TIMESTAMP is
                microseconds in UTC. "ARRAY<…>" or "MAP<STRING, …>" is for messages whose document is a list, or a map by name: one
                column `value`. Required for "json" and "jsonl". "infer" looks at the newest 1,000 messages (see `infer_schema`): for
                notebooks; a job that runs again gets a schema to keep, because a table does not change with each sample.
            format: "json" (the default), "jsonl" or "raw". "jsonl" is for several JSON documents in a message: one column `value`, the
                list of them, all or none. "raw" gives Spark's row: key, value, topic, partition, offset, timestamp,
                timestampType, headers. With `options=` and without a schema the default is "raw".
            starting_offsets: Where the first run of a query begins: "earliest" (the default), "latest", an aware datetime, or
                {"topic": {0: 42}} with every partition (-2 is earliest, -1 is latest; or an aware datetime for each). At a time, reading begins
                with the first message at or after it, or at the end if there is none. Later runs continue where they stopped.
            ending_offsets: Where a bounded run ends, in the same forms. Only with trigger="available_now". Default: the end of each
                partition when the run starts.
            max_offsets_per_trigger: At most this many messages in an epoch. Default: only the general limits of 5 million rows,
                256 MB of messages and 60 seconds.
            min_offsets_per_trigger: With trigger="10 seconds": an epoch waits until there are this many messages. Bounded runs do not wait.
            max_trigger_delay: The longest wait for `min_offsets_per_trigger`. Default "15 minutes".
            fail_on_data_loss: Stop if offsets that are still needed do not exist any more. Default True. False records the loss.
            on_malformed: What happens to messages that cannot be decoded, and to rows for which an expression fails: "fail",
                "drop" or "quarantine". Default: "fail" for iterators, "quarantine" for tables. They are always counted.
            max_malformed: A share from 0 to 1. If more of the last 1,000 messages (at least 100) are malformed, the query stops with
                a SchemaError. If an expression fails for more of the rows, it stops with a ConfigError. 1.0 means never.
            on_tombstone: What happens to messages with a null value: "skip" (the default), "null_row" (a row of NULLs, which NOT
                NULL columns do not accept) or "quarantine". They are counted.
            timezone: The zone of timestamp strings without an offset, for example "Europe/Berlin". Default "UTC".
            timestamp_unit: The unit of numbers in TIMESTAMP columns, with or without quotes: "s", "ms", "us" or "ns", or for each
                column {"time": "ms", "after.created_at": "us"}. Without a unit such a message is malformed. A time outside the years
                0001 to 9999 is malformed, too. Digits finer than a microsecond are cut, as in Spark.
            allow_quoted_numbers: A string that holds a number ("12.5") is that number, in columns of numbers. Default False: such a
                message is malformed.
            allow_nan: NaN, Infinity and -Infinity, which Python's json module writes, are values of FLOAT and DOUBLE columns. Default
                False: a message with one of them is malformed, because JSON does not have them.
            missing: What happens if a message does not have a field of the schema. With "null" (the default) the column is NULL; with "malformed"
                the message is malformed. A field whose value is null is NULL in both cases.
            include_metadata: Add the columns _topic, _partition, _offset, _timestamp, _key, _headers.
            max_message_bytes: The largest size of a value, key or headers: "500 KB" or a number of bytes; default "64 MB". A larger
                message is malformed and is not copied into memory. The quarantine table gets NULL for the part that is too large.
            decrypt: A function that gets the values of some messages, a list of bytes, and returns what is decoded instead, a list of as many
                bytes. It is called for batches, on a thread of bayou. A message for which it fails is malformed; the quarantine table keeps
                the bytes as they came.
            options: The same options in Spark's spelling ({"subscribe": "t", "startingOffsets": "earliest"}), for pasted cells; also
                subscribePattern, assign, startingTimestamp, startingOffsetsByTimestamp and their like. Those of the connection
                ("kafka.…") must be the connection's. What is not needed here (minPartitions, groupIdPrefix, …) gets a warning.

        Raises:
            TopicError: A topic does not exist.
            SchemaError: The schema cannot be read.
            ConfigError: An option is wrong, or is not in this version (Avro, Protobuf, CSV).
            TypeError: An argument does not exist. If it is the word of a similar system, the message has bayou's word.

        Example:
            >>> raw = kafka.read_stream("fitness-tracker", schema="ip STRING, time TIMESTAMP, model STRING, heart_bpm INT")
        """
    def infer_schema(self, topic: str, *, sample: int = 1000, format: Literal["json"] | None = None) -> InferredSchema:
        """Guess a schema from the newest JSON messages of a topic.

        Integers become BIGINT, or DECIMAL beyond it. Numbers with a fraction become DOUBLE. Texts that all are dates or timestamps become
        DATE or TIMESTAMP. Numbers become TIMESTAMP if their name says so (`created_at`, `eventTime`, `ts`) and all of them are times since
        1990 in one unit. Objects become STRUCT, or MAP if they have very many names. Where values of different kinds meet, or there
        is no value, the column is a STRING, which takes any value as its JSON text. Every message of the sample can be read with the
        schema, except those that are no JSON objects.

        Args:
            topic: The topic.
            sample: The number of messages to look at.
            format: "json", the default.

        Raises:
            TopicError: The topic does not exist, or has no messages.
            SchemaError: No message is a JSON object.

        Example:
            >>> found = kafka.infer_schema("fitness-tracker")
            >>> print(found)
            ip STRING, time TIMESTAMP, version STRING, model STRING, color STRING, heart_bpm BIGINT, kcal BIGINT
            >>> raw = kafka.read_stream("fitness-tracker", **found.options)
        """
    def _repr_html_(self) -> str: ...

@final
class InferredSchema:
    """What `infer_schema` found. Its text is the DDL. Its repr has the arguments to paste into `read_stream`, and the notes.

    Example:
        >>> print(kafka.infer_schema("fitness-tracker"))
        ip STRING, time TIMESTAMP, version STRING, model STRING, color STRING, heart_bpm BIGINT, kcal BIGINT
    """

    @property
    def ddl(self) -> str:
        """The schema as a DDL string.

        Example:
            >>> kafka.infer_schema("t").ddl
            'a BIGINT, s STRING'
        """
    @property
    def options(self) -> dict[str, Any]:
        """The arguments of `read_stream` that read the messages so: schema, and timestamp_unit and allow_nan where they are needed.

        Example:
            >>> kafka.read_stream("t", **kafka.infer_schema("t").options)
        """
    @property
    def messages(self) -> int:
        """The number of messages that were looked at.

        Example:
            >>> kafka.infer_schema("t").messages
            1000
        """
    @property
    def malformed(self) -> int:
        """How many of the messages are not JSON objects.

        Example:
            >>> kafka.infer_schema("t").malformed
            0
        """
    @property
    def notes(self) -> list[str]:
        """Notes about the guess: fields without a value, values of different kinds, numbers in quotes, names that differ in case only.

        Example:
            >>> kafka.infer_schema("t").notes
            ['note: no message has a value']
        """

@final
class ProduceReport:
    """The result of `produce`.

    Example:
        >>> report = kafka.produce("t", rows)
        >>> assert report.failed == 0, report.failures
    """

    @property
    def topic(self) -> str:
        """The topic of the messages.

        Example:
            >>> report.topic
            'fitness-tracker'
        """
    @property
    def rows(self) -> int:
        """The number of rows that were taken from the source.

        Example:
            >>> report.rows
            200000
        """
    @property
    def delivered(self) -> int:
        """The number of messages that the broker has acknowledged.

        Example:
            >>> report.delivered
            200000
        """
    @property
    def failed(self) -> int:
        """The number of messages that were not delivered.

        Example:
            >>> report.failed
            0
        """
    @property
    def bytes(self) -> int:
        """The size of keys and values before compression, in bytes.

        Example:
            >>> report.bytes
            29871544
        """
    @property
    def seconds(self) -> float:
        """The duration of the call in seconds.

        Example:
            >>> report.delivered / report.seconds
        """
    @property
    def deliveries(self) -> Table:
        """The result for each row, with `deliveries=True`. Columns: row BIGINT (counted from 0), partition INT, offset BIGINT (NULL if the message
        was not delivered, or with acks="0"), error STRING (NULL if it was delivered).

        Raises:
            ConfigError: The call did not keep the results.

        Example:
            >>> report = kafka.produce("t", rows, deliveries=True)
            >>> report.deliveries
        """
    @property
    def failures(self) -> list[str]:
        """The reasons of the first ten failures.

        Example:
            >>> report.failures
            []
        """
