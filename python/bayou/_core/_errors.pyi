"""Errors. Each kind says what the caller can do."""

from bayou._core._query import Query

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
