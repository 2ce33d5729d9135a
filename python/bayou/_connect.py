"""`connect` and `simulate`: their arguments are interpreted in Python."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from bayou import _core, _security


class _Embedded:
    """The default target. Its text is what `connect?` shows."""

    def __repr__(self) -> str:
        return "EMBEDDED"


_EMBEDDED = _Embedded()


class _Connect:
    """Connect to a Kafka cluster.

    Args:
        target: An address ("host:9092"), or a dict of librdkafka properties. Without it: the embedded broker. There is one for each
            user of this machine and each `name`. It is in memory, all kernels share it, and it ends a few seconds after its last user.
            None, "" and {} are refused, because an unset variable must never read an empty broker. "bootstrap.servers" may be a list. A secret
            is text, or a function without arguments that returns text.
        name: The name of the embedded broker.
        options: The options of a Spark cell instead of `target`: names with "kafka." in front, and the text of `kafka.sasl.jaas.config`.
        allow_plaintext_password: Allow PLAIN over SASL_PLAINTEXT, which sends the password in the clear.
        service_credential: On Databricks, the name of a service credential of Unity Catalog that opens the cluster (Amazon MSK, Azure Event Hubs).
        schema_registry: Refused; this version does not support schema registries.

    SASL OAUTHBEARER takes its tokens from the property "oauth_cb", as in confluent-kafka: a function that returns a token (a JSON Web Token says
    when it expires), or (token, seconds since the Unix epoch when it expires). It is called before the last token expires, on a different thread.
    Or from librdkafka's properties of `sasl.oauthbearer.method` "oidc".

    Presets: `bayou.connect.confluent_cloud`, `.event_hubs`, `.msk_iam` and `.redpanda` know the properties of these providers.

    Returns:
        A Connection.

    Raises:
        ConnectionError: The cluster does not answer within 10 seconds, or the port speaks a different protocol. The message names its address.
        AuthError: The cluster refuses the credentials.
        ConfigError: A property is unknown, a secret is not text, or bayou sets the property itself.

    Example:
        >>> kafka = bayou.connect()
        >>> kafka = bayou.connect("localhost:9092")
    """

    __name__ = __qualname__ = "connect"

    def __call__(
        self,
        target: Any = _EMBEDDED,
        *,
        name: str = "default",
        options: Mapping[str, object] | None = None,
        allow_plaintext_password: bool = False,
        service_credential: str | None = None,
        schema_registry: Mapping[str, str] | None = None,
        **unknown: Any,
    ) -> _core.Connection:
        for word in unknown:
            raise TypeError(f"connect() has no argument {word!r}.{_other_word(word)}")
        if schema_registry is not None:
            raise _core.ConfigError("schema_registry= is not in this version. The formats are json, jsonl and raw.")
        if options is not None:
            if target is not _EMBEDDED:
                raise _core.ConfigError("connect takes a target or options=, not both")
            # The other options say what is read, so they belong into read_stream(options=…).
            target = {k: v for k, v in options.items() if k.startswith("kafka.")}
            if "kafka.bootstrap.servers" not in target:
                raise _core.ConfigError("connect(options=…): 'kafka.bootstrap.servers' is missing")
        if isinstance(target, (list, tuple)):
            target = {"bootstrap.servers": target}
        if service_credential is not None and isinstance(target, str):
            target = {"bootstrap.servers": target}
        tokens = None
        if isinstance(target, Mapping) and target:
            target, tokens = _security.checked(target, allow_plaintext_password, service_credential)
        elif service_credential is not None:
            raise _core.ConfigError("connect: service_credential= needs the address of a cluster")
        return _core._connect(True if target is _EMBEDDED else target, name, tokens)

    def __repr__(self) -> str:
        return "<function bayou.connect>"

    def confluent_cloud(
        self, bootstrap: str, key: str | Callable[[], str], secret: str | Callable[[], str], **more: Any
    ) -> _core.Connection:
        """Connect to Confluent Cloud.

        Args:
            bootstrap: The bootstrap server of the cluster, "pkc-….confluent.cloud:9092".
            key: The API key of the cluster.
            secret: Its secret. Both may be functions without arguments.
            more: librdkafka's properties, with underscores instead of dots (client_id="etl").

        Example:
            >>> kafka = bayou.connect.confluent_cloud("pkc-xxxxx.eu-central-1.aws.confluent.cloud:9092", key, secret)
        """
        return self({**_sasl(bootstrap, "PLAIN", key, secret), "client.dns.lookup": "use_all_dns_ips", **_dotted(more)})

    def event_hubs(self, connection_string: str | Callable[[], str], **more: Any) -> _core.Connection:
        """Connect to Azure Event Hubs by the connection string of a namespace. The tier has to be Standard or higher.

        Args:
            connection_string: "Endpoint=sb://….servicebus.windows.net/;SharedAccessKeyName=…;SharedAccessKey=…", or a function that returns it.
            more: librdkafka's properties, with underscores instead of dots.

        Raises:
            ConfigError: The text is not such a connection string. It is not shown.

        Example:
            >>> kafka = bayou.connect.event_hubs(connection_string)
        """
        text = connection_string() if callable(connection_string) else connection_string
        host = re.search(r"(?i)\bEndpoint=sb://([^/;]+)", text) if isinstance(text, str) else None
        if host is None or "SharedAccessKey=" not in text:
            raise _core.ConfigError(
                "connect.event_hubs: this is not the connection string of a namespace (it is not shown). It begins with Endpoint=sb://, and has "
                "SharedAccessKeyName and SharedAccessKey."
            )
        return self({**_sasl(f"{host.group(1)}:9093", "PLAIN", "$ConnectionString", text), **_dotted(more)})

    def msk_iam(self, bootstrap: str | list[str], region: str, **more: Any) -> _core.Connection:
        """Connect to Amazon MSK with IAM. The login is that of the machine: environment, profile, instance or container role.

        Amazon's library aws-msk-iam-sasl-signer-python signs the tokens. It must be installed.

        Args:
            bootstrap: The bootstrap servers for IAM, with the port 9098 (9198 from outside).
            region: The region, "eu-central-1".
            more: librdkafka's properties, with underscores instead of dots; service_credential="name" on Databricks.

        Raises:
            ConfigError: The library is not installed.

        Example:
            >>> kafka = bayou.connect.msk_iam("b-1.mycluster.xxxxx.c2.kafka.eu-central-1.amazonaws.com:9098", "eu-central-1")
        """
        from bayou import _tokens

        tokens = _tokens.msk_iam(region, more.pop("service_credential", None))
        bearer = {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER", "oauth_cb": tokens}
        return self({"bootstrap.servers": bootstrap, **bearer, **_dotted(more)})

    def redpanda(
        self, bootstrap: str, user: str | Callable[[], str], password: str | Callable[[], str], **more: Any
    ) -> _core.Connection:
        """Connect to Redpanda Cloud, or to a Redpanda cluster with TLS and SCRAM-SHA-256.

        Args:
            bootstrap: The bootstrap server.
            user: The user.
            password: The password. Both may be functions without arguments.
            more: librdkafka's properties, with underscores instead of dots (sasl_mechanism="SCRAM-SHA-512").

        Example:
            >>> kafka = bayou.connect.redpanda("seed-xxxxx.redpanda.com:9092", user, password)
        """
        return self({**_sasl(bootstrap, "SCRAM-SHA-256", user, password), **_dotted(more)})


def _other_word(word: str) -> str:
    """Where an argument of kafka-python, confluent-kafka or others goes."""
    if word in ("bootstrap_servers", "bootstrap", "brokers", "servers", "host", "address", "url"):
        return ' Write the address first: connect("host:9092").'
    right = {
        "sasl_plain_username": "sasl.username",
        "sasl_plain_password": "sasl.password",
        "ssl_cafile": "ssl.ca.location",
    }
    if word in right or word.startswith(("sasl_", "ssl_", "security_", "client_")):
        name = right.get(word, word.replace("_", "."))
        return f' Properties of librdkafka go into one dict: connect({{"bootstrap.servers": …, "{name}": …}}).'
    near = difflib.get_close_matches(
        word, ["target", "name", "options", "allow_plaintext_password", "service_credential"], 1
    )
    return f" Did you mean {near[0]!r}?" if near else ""


def _sasl(bootstrap: str, mechanism: str, user: object, password: object) -> dict[str, object]:
    return {
        "bootstrap.servers": bootstrap,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": mechanism,
        "sasl.username": user,
        "sasl.password": password,
    }


def _dotted(more: Mapping[str, object]) -> dict[str, object]:
    return {k.replace("_", "."): v for k, v in more.items()}


connect = _Connect()


def simulate(
    what: str,
    *,
    rows: int = 100_000,
    seed: int = 0,
    start: datetime | None = None,
    interval: str | timedelta | float | None = None,
    disorder: str | timedelta | None = None,
    late: float = 0.0,
    late_by: str | timedelta | None = None,
    fever_region: str | None = "Bayern",
    fever_start: float = 0.5,
    undef: float = 0.10,
    zero: float = 0.05,
    columns: int | None = None,
    lazy: bool = False,
) -> _core.Table | Any:
    """Simulate events, as a Table. `produce` takes it. The same seed gives the same events.

    `simulate("fitness")` simulates fitness trackers that report a pulse: ip, time, version, model, color, heart_bpm, kcal, region.

    Args:
        what: "fitness".
        rows: The number of rows. They take about 100 bytes each in memory.
        seed: A different seed gives different rows.
        start: The time of the first row (an aware datetime). Default: such that the time of the last row is now.
        interval: The time between rows. Default 10 milliseconds.
        disorder: Rows are out of order by up to this time.
        late: The share of rows that are late by `late_by` (default 5 minutes) in addition.
        fever_region: The region whose pulse rises. None means no outbreak.
        fever_start: The share of rows after which the pulse begins to rise.
        undef: The share of rows with model 'undef'.
        zero: The share of rows with a pulse of 0.
        columns: Only this many columns, from the left (7: without region).
        lazy: True returns an Arrow stream (PyCapsule) that makes the rows while it is read, once, in constant memory.

    Returns:
        A Table; with `lazy=True` an Arrow stream.

    Example:
        >>> kafka.produce("fitness-tracker", bayou.simulate("fitness", rows=200_000), key="ip")
    """
    if what != "fitness":
        raise _core.ConfigError(f'simulate({what!r}) does not exist. Use simulate("fitness").')
    return _core._simulate_fitness(
        rows, seed, start, interval, disorder, late, late_by, fever_region, fever_start, undef, zero, columns, lazy
    )
