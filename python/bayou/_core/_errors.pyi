"""Errors. Each kind says what the caller can do."""

from collections.abc import Sequence

from bayou._core._query import Query

class BayouError(Exception):
    """The base class of all errors of bayou. The message says what happened, where (topic, partition, offset, table), and what to
    do. It never contains secrets or payloads.

    Attributes:
        query: The `Query` that ended with this error, or None. Its progress and counts are still available.
        topic, partition, offset: The message or the place in the topic that the error is about, or None.
        field: The column, or the field of a message, or None.
        table: The location of the table, or None.
        epoch: The epoch that failed, or None.
        ranges: The offsets that are lost, as tuples (topic, partition, from, until); `until` is not lost. Empty for other errors.
        retryable: True if the same call can succeed later without any change.

    Example:
        >>> try:
        ...     clean.write_delta("lake/clean")
        ... except bayou.BayouError as error:
        ...     print(error, error.query, error.topic, error.offset, error.retryable)
    """

    query: Query | None
    topic: str | None
    partition: int | None
    offset: int | None
    field: str | None
    table: str | None
    epoch: int | None
    ranges: Sequence[tuple[str, int, int, int]]
    retryable: bool

class ConnectionError(BayouError):
    """No broker answers. The message names the address. A retry can help.

    Example:
        >>> bayou.connect("localhost:1")
        Traceback (most recent call last):
        bayou.ConnectionError: ...
    """

class AuthError(BayouError):
    """The broker refuses the credentials, or the TLS handshake fails. Also raised if a function or a login gives no token or no credentials for
    a broker, a store or Unity Catalog.

    Example:
        >>> try:
        ...     bayou.connect({"bootstrap.servers": "…", "sasl.username": user, "sasl.password": old})
        ... except bayou.AuthError:
        ...     ...
    """

class AclError(BayouError):
    """The credentials are valid, but do not allow this operation. The message names the resource and the operation.

    Example:
        >>> try:
        ...     kafka.create_topic("payments")
        ... except bayou.AclError as error:
        ...     print(error)
    """

class TopicError(BayouError):
    """A topic or partition does not exist, exists already, or cannot be created as requested.

    Example:
        >>> try:
        ...     kafka.read_stream("fitnes-tracker", schema="ip STRING")
        ... except bayou.TopicError as error:
        ...     print(error)
    """

class SchemaError(BayouError):
    """A schema, a column, a type or a SQL expression does not fit. Also raised if more than `max_malformed` of the last 1,000
    messages (at least 100) cannot be decoded; the message then has the most frequent error.

    Example:
        >>> stream.select("heart_bmp")
        Traceback (most recent call last):
        bayou.SchemaError: ...
    """

class MalformedError(BayouError):
    """A message cannot be decoded, or an expression fails for a row, and `on_malformed` is "fail". The error names topic, partition,
    offset and field. It never prints the payload.

    Example:
        >>> try:
        ...     raw.collect()
        ... except bayou.MalformedError:
        ...     print(raw.preview().malformed)
    """

class ExpectationError(BayouError):
    """A row broke an `expect_or_fail` rule, and nothing of its epoch was committed. Or `raise_for_expectations` found too many rows
    that broke a rule.

    Example:
        >>> try:
        ...     query.raise_for_expectations("plausible", max_ratio=0.01)
        ... except bayou.ExpectationError as error:
        ...     print(error.query.expectations)
    """

class DataLossError(BayouError):
    """Offsets that the query still needs do not exist any more: retention removed them, the log was truncated, or the topic was recreated. The
    message names the range. With `fail_on_data_loss=False` the loss is recorded and the query continues. Also raised if a table or a topic that
    the query writes was dropped, recreated or changed by others; the message says how to continue.

    Example:
        >>> stream = kafka.read_stream("t", schema="a INT", fail_on_data_loss=False)
    """

class ConcurrentQueryError(BayouError):
    """A different process runs this query. Nothing was written twice, because only one of two runners can seal an epoch. Also raised if a
    different producer has taken the transactional id, or a different member of a consumer group has the same group.instance.id.

    Example:
        >>> try:
        ...     lake.run()
        ... except bayou.ConcurrentQueryError as error:
        ...     print(error)
    """

class StorageError(BayouError):
    """A table or a checkpoint cannot be read or written, or is damaged.

    Example:
        >>> bayou.read_delta("lake/nothing-here")
        Traceback (most recent call last):
        bayou.StorageError: ...
    """

class FunctionError(BayouError):
    """Your code failed: a function of `foreach_batch`, `map_batches`, `aggregate` or `encrypt`, or the iterator given to `produce`, raised an
    exception, or a function called sys.exit(). The exception is the `__cause__`, and its traceback shows the line. The log "bayou.functions" has
    the traceback, too.

    Example:
        >>> try:
        ...     kafka.produce("t", rows_of_mine())
        ... except bayou.FunctionError as error:
        ...     print(error, error.__cause__)
    """

class ConfigError(BayouError):
    """An argument or option is wrong, or does not fit an earlier run of the same query. For a misspelt name the message suggests the
    right one.

    Example:
        >>> bayou.connect(None)
        Traceback (most recent call last):
        bayou.ConfigError: ...
    """
