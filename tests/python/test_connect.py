"""`connect` before anything is sent: Spark's and Java's spelling, secrets that are functions, presets, mistakes that are reported at once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import bayou
import pytest
from bayou import _core

Sent = list[dict[str, str]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """The properties that reach the core."""
    seen: Sent = []
    monkeypatch.setattr(_core, "_connect", lambda target, name, tokens: seen.append(target))
    return seen


PLAIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="api key" password="p\\"a;s=s\\\\";'
SCRAM = "kafkashaded.org.apache.kafka.common.security.scram.ScramLoginModule required username='u' password=plain ;"
OAUTH = (
    "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required "
    "clientId='id' clientSecret='the secret' scope='kafka' extension_logicalCluster='x';"
)


def test_options_of_a_spark_cell_are_taken_whole(sent: Sent) -> None:
    bayou.connect(
        options={
            "kafka.bootstrap.servers": "a:9093, b:9093",
            "kafka.security.protocol": "SASL_SSL",
            "kafka.sasl.mechanism": "PLAIN",
            "kafka.sasl.jaas.config": PLAIN,
            "kafka.ssl.endpoint.identification.algorithm": "",
            "subscribe": "t",
            "startingOffsets": "earliest",
        }
    )
    assert sent == [
        {
            "bootstrap.servers": "a:9093, b:9093",
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "ssl.endpoint.identification.algorithm": "none",
            "sasl.username": "api key",
            "sasl.password": 'p"a;s=s\\',
        }
    ]
    with pytest.raises(bayou.ConfigError, match=r"kafka\.bootstrap\.servers"):
        bayou.connect(options={"subscribe": "t"})
    with pytest.raises(bayou.ConfigError, match="not both"):
        bayou.connect("a:1", options={"kafka.bootstrap.servers": "a:1"})


@pytest.mark.parametrize(
    ("jaas", "expected"),
    [
        (SCRAM, {"sasl.username": "u", "sasl.password": "plain", "sasl.mechanism": "SCRAM-SHA-512"}),
        # The client's id and secret go to the endpoint of tokens (test_tokens), and not to librdkafka.
        (OAUTH, {"sasl.mechanism": "OAUTHBEARER"}),
    ],
)
def test_login_modules_of_java_become_librdkafkas_properties(sent: Sent, jaas: str, expected: dict[str, str]) -> None:
    more = {"sasl.oauthbearer.token.endpoint.url": "https://login.example.com/token"} if jaas == OAUTH else {}
    bayou.connect({"bootstrap.servers": "a:1", "security.protocol": "SASL_SSL", "sasl.jaas.config": jaas, **more})
    assert {k: v for k, v in sent[0].items() if k.startswith("sasl.")} == expected


def test_the_text_of_a_wrong_login_module_is_not_shown() -> None:
    for jaas, says in [
        ("password=THE-SECRET", "form"),
        ("org.example.OwnModule required password='THE-SECRET';", "OwnModule"),
        (PLAIN.replace("username", "name").replace("p\\", "THE-SECRET\\"), "no username"),
    ]:
        with pytest.raises(bayou.ConfigError, match=says) as e:
            bayou.connect({"bootstrap.servers": "a:1", "security.protocol": "SASL_SSL", "sasl.jaas.config": jaas})
        assert "SECRET" not in str(e.value)


def test_javas_stores_are_translated_or_refused_with_the_way_out(sent: Sent) -> None:
    base = {"bootstrap.servers": "a:1", "security.protocol": "SSL"}
    bayou.connect(
        {**base, "ssl.truststore.type": "PEM", "ssl.truststore.location": "/ca.pem", "ssl.protocol": "TLSv1.3"}
    )
    assert sent[0] == {**base, "ssl.ca.location": "/ca.pem"}
    bayou.connect(
        {
            **base,
            "ssl.truststore.certificates": "CA",
            "ssl.keystore.certificate.chain": "CERT",
            "ssl.keystore.key": "KEY",
        }
    )
    assert sent[1] == {**base, "ssl.ca.pem": "CA", "ssl.certificate.pem": "CERT", "ssl.key.pem": "KEY"}
    bayou.connect({**base, "ssl.keystore.location": "/client.p12", "ssl.keystore.password": "pw"})
    assert sent[2] == {**base, "ssl.keystore.location": "/client.p12", "ssl.keystore.password": "pw"}
    for wrong, says in [
        ({"ssl.truststore.location": "/ca.jks"}, "keytool -exportcert"),
        ({"ssl.keystore.location": "/client.jks", "ssl.keystore.type": "JKS"}, "pkcs12"),
        ({"kafka.ssl.ca.location": "/a", "ssl.ca.location": "/b"}, "twice"),
    ]:
        with pytest.raises(bayou.ConfigError, match=says):
            bayou.connect({**base, **wrong})


def test_secrets_are_text_or_functions_that_return_text(sent: Sent) -> None:
    base: dict[str, Any] = {
        "bootstrap.servers": ["a:1", "b:2"],
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "scram-sha-256",
    }
    bayou.connect({**base, "sasl.username": "u", "sasl.password": lambda: "from a vault"})
    assert sent[0]["sasl.password"] == "from a vault" and sent[0]["bootstrap.servers"] == "a:1,b:2"
    assert sent[0]["sasl.mechanism"] == "SCRAM-SHA-256"

    class Opaque:
        def __str__(self) -> str:
            return "THE-SECRET"

    for wrong in (None, b"THE-SECRET", 123, True, ("THE-SECRET",), Opaque(), lambda: None, lambda: b"THE-SECRET"):
        with pytest.raises(bayou.ConfigError, match=r"'sasl\.password' must be text") as e:
            bayou.connect({**base, "sasl.username": "u", "sasl.password": wrong})
        assert "THE-SECRET" not in str(e.value)
    with pytest.raises(bayou.ConfigError, match=r"'client\.id' is None"):
        bayou.connect({**base, "sasl.username": "u", "sasl.password": "p", "client.id": None})
    with pytest.raises(bayou.FunctionError, match=r"the function of 'sasl\.password' raised ZeroDivisionError") as f:
        bayou.connect({**base, "sasl.username": "u", "sasl.password": lambda: 1 / 0})
    assert f.value.__cause__ is None, "its text may have the secret"
    assert len(sent) == 1, "nothing was sent"


def test_a_forgotten_setting_is_named_before_anything_is_sent(sent: Sent) -> None:
    login = {"sasl.username": "u", "sasl.password": "p"}
    for given, says in [
        ({**login}, r"security\.protocol is PLAINTEXT"),
        ({**login, "security.protocol": "SSL"}, r"SASL_SSL"),
        ({**login, "security.protocol": "SASL_SSL"}, r"sasl\.mechanism is missing"),
        ({**login, "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}, "allow_plaintext_password"),
    ]:
        with pytest.raises(bayou.ConfigError, match=says):
            bayou.connect({"bootstrap.servers": "a:1", **given})
    assert not sent
    allowed = {"bootstrap.servers": "a:1", **login, "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}
    bayou.connect(allowed, allow_plaintext_password=True)
    assert sent == [allowed]


def test_words_of_other_clients_are_told_where_they_go() -> None:
    for wrong, says in [
        ({"bootstrap_servers": "a:1"}, r'connect\("host:9092"\)'),
        ({"brokers": "a:1"}, r'connect\("host:9092"\)'),
        ({"security_protocol": "SSL"}, r'"security\.protocol"'),
        ({"sasl_plain_username": "u"}, r'"sasl\.username"'),
        ({"nme": "x"}, "Did you mean 'name'"),
    ]:
        with pytest.raises(TypeError, match=says) as e:
            bayou.connect(**wrong)  # type: ignore[arg-type]
        assert f"no argument '{next(iter(wrong))}'" in str(e.value)


def test_the_scheme_of_an_address_is_the_protocol(sent: Sent) -> None:
    login = {"sasl.mechanism": "PLAIN", "sasl.username": "u", "sasl.password": "p"}
    bayou.connect({"bootstrap.servers": "SASL_SSL://a:1,SASL_SSL://b:1", **login})
    assert sent[0]["security.protocol"] == "SASL_SSL"
    bayou.connect({"bootstrap.servers": "a:1", "client.dns.lookup": "resolve_canonical_bootstrap_servers_only"})
    assert sent[1]["client.dns.lookup"] == "resolve_canonical_bootstrap_servers_only"
    for servers in ("SSL://a:1", "SASL_SSL://a:1,SSL://b:1"):
        with pytest.raises(bayou.ConfigError, match="Leave one of the two out"):
            bayou.connect({"bootstrap.servers": servers, "security.protocol": "SASL_SSL", **login})


def test_presets_know_their_providers(sent: Sent) -> None:
    bayou.connect.confluent_cloud("pkc-1.aws.confluent.cloud:9092", "KEY", lambda: "SECRET", client_id="etl")
    bayou.connect.event_hubs("Endpoint=sb://name.servicebus.windows.net/;SharedAccessKeyName=k;SharedAccessKey=abc=")
    bayou.connect.redpanda("seed:9092", "u", "p", sasl_mechanism="SCRAM-SHA-512")
    cloud, hubs, panda = sent
    assert cloud == {
        "bootstrap.servers": "pkc-1.aws.confluent.cloud:9092",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "KEY",
        "sasl.password": "SECRET",
        "client.dns.lookup": "use_all_dns_ips",
        "client.id": "etl",
    }
    assert (
        hubs["bootstrap.servers"] == "name.servicebus.windows.net:9093" and hubs["sasl.username"] == "$ConnectionString"
    )
    assert hubs["sasl.password"].endswith("SharedAccessKey=abc=") and panda["sasl.mechanism"] == "SCRAM-SHA-512"
    for wrong in ("Endpoint=sb://x/;Other=THE-SECRET", "THE-SECRET", 5):
        with pytest.raises(bayou.ConfigError, match="connection string") as e:
            bayou.connect.event_hubs(wrong)  # type: ignore[arg-type]
        assert "THE-SECRET" not in str(e.value)


@pytest.fixture
def listener() -> Iterator[Any]:
    """Starts servers that answer each connection by a function of its first bytes."""
    sockets = []

    def start(answer: Any) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        sockets.append(server)

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(answer(connection.recv(256)))

        threading.Thread(target=serve, daemon=True).start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield start
    for server in sockets:
        server.close()


def test_a_port_of_another_protocol_is_recognised_at_once(listener: Any) -> None:
    tls = listener(
        lambda asked: b"\x16\x03\x03\x00\x01\x02" if asked[:1] == b"\x16" else b"\x15\x03\x03\x00\x02\x02\x0a"
    )
    plain = listener(lambda asked: b"\x00\x00\x00\x0a" + asked[8:12] + bytes(6) if asked[:1] != b"\x16" else b"")
    web = listener(lambda asked: b"HTTP/1.1 400 Bad Request\r\n\r\n")
    for target, says in [
        (tls, "speaks TLS"),
        ({"bootstrap.servers": plain, "security.protocol": "SSL"}, r"security\.protocol=PLAINTEXT"),
        (web, "HTTP server"),
    ]:
        with pytest.raises(bayou.ConnectionError, match=says) as e:
            bayou.connect(target)
        assert not e.value.retryable
