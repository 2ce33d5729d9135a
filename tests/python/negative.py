"""Errors at secured clusters: a call, the exception that it must raise, and what the text must say. `make clusters` runs all of them,
`make test` those marked QUICK."""

from __future__ import annotations

import contextlib
import http.server
import logging
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import bayou
import pytest
from secured import Secured

Call = Callable[["Place"], Any]
PLAINTEXT_PASSWORD = {"allow_plaintext_password": True}


@dataclass
class Place:
    """The broker, certificates of clients, and servers that are no brokers."""

    secured: Secured
    folder: pathlib.Path
    silent: str
    web: str
    root: bayou.Connection

    def connect(
        self, listener: str, user: str | None = None, mechanism: str = "PLAIN", **more: object
    ) -> bayou.Connection:
        properties = self.secured.properties(listener, user, mechanism, **more)
        return bayou.connect(properties, **(PLAINTEXT_PASSWORD if listener == "SASL" else {}))  # type: ignore[arg-type]


@dataclass
class Case:
    name: str
    call: Call
    error: type[BaseException]
    says: str
    quick: bool = False


def silent_server() -> socket.socket:
    """Accepts connections and never answers."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    return listener


def web_server() -> http.server.ThreadingHTTPServer:
    class Quiet(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def client(place: Place, name: str, authority: str = "ca", **more: Any) -> dict[str, Any]:
    """Properties of a client certificate."""
    issuer = place.secured.ca if authority == "ca" else place.secured.other_ca
    pem, key = issuer.issue(name, **more)
    out: dict[str, Any] = {"ssl_certificate_location": str(pem), "ssl_key_location": str(key)}
    if more.get("password"):
        out["ssl_key_password"] = more["password"]
    return out


def bare(place: Place, listener: str, **properties: str) -> bayou.Connection:
    return bayou.connect(
        {
            "bootstrap.servers": place.secured.address(listener),
            **{k.replace("_", "."): v for k, v in properties.items()},
        }
    )


def login(mechanism: str, **more: object) -> Call:
    return lambda p: p.connect("SASL_TLS", "alice", mechanism, **more)


def allowed(user: str, *acls: tuple[str, dict[str, str]]) -> Callable[[Place], bayou.Connection]:
    """A connection of a user with only these rights."""

    def make(p: Place) -> bayou.Connection:
        p.root.remove_acl(f"User:{user}", confirm=True)
        for operation, what in acls:
            p.root.add_acl(f"User:{user}", operation, **what)  # type: ignore[arg-type]
        return p.connect("SASL", user)

    return make


T = {"topic": "case"}
TLS = r"(?i)certificate"
AUTH, CONNECTION, CONFIG, ACL = bayou.AuthError, bayou.ConnectionError, bayou.ConfigError, bayou.AclError


def collect(kafka: bayou.Connection) -> Any:
    return kafka.read_stream("case", schema="a INT").collect()


def send(kafka: bayou.Connection, **more: Any) -> Any:
    return kafka.produce("case", [{"a": 1}], progress=False, **more)


CASES = [
    # TLS: brokers that the client does not trust
    Case("unknown CA", lambda p: p.connect("TLS", ssl_ca_location=None), AUTH, r"ssl\.ca\.location", quick=True),
    Case(
        "another CA",
        lambda p: p.connect("TLS", ssl_ca_location=str(p.secured.other_ca.pem)),
        AUTH,
        r"ssl\.ca\.location",
    ),
    Case("broker of another CA", lambda p: p.connect("FOREIGN"), AUTH, r"ssl\.ca\.location"),
    Case("expired", lambda p: p.connect("EXPIRED"), AUTH, r"its dates", quick=True),
    Case("not yet valid", lambda p: p.connect("FUTURE"), AUTH, r"its dates"),
    Case("wrong host", lambda p: p.connect("ELSEWHERE"), AUTH, r"host name", quick=True),
    Case("unknown CA with SASL", lambda p: p.connect("SASL_TLS", ssl_ca_location=None), AUTH, r"ssl\.ca\.location"),
    # TLS: clients that the broker does not trust
    Case("client certificate missing", lambda p: p.connect("MUTUAL"), AUTH, r"ssl\.certificate\.location", quick=True),
    Case(
        "client certificate of another CA",
        lambda p: p.connect("MUTUAL", **client(p, "stranger", "other")),
        AUTH,
        r"ssl\.certificate\.location",
    ),
    Case(
        "client certificate expired",
        lambda p: p.connect("MUTUAL", **client(p, "old", days=(-3, -1))),
        AUTH,
        r"ssl\.certificate\.location",
    ),
    Case(
        "client certificate not yet valid",
        lambda p: p.connect("MUTUAL", **client(p, "young", days=(1, 3))),
        AUTH,
        r"ssl\.certificate\.location",
    ),
    # files and texts
    Case(
        "CA file missing", lambda p: p.connect("TLS", ssl_ca_location="/nowhere/ca.pem"), CONFIG, r"ssl\.ca\.location"
    ),
    Case(
        "CA text is none",
        lambda p: p.connect("TLS", ssl_ca_location=None, ssl_ca_pem="not a certificate"),
        CONFIG,
        r"ssl\.ca\.pem",
    ),
    Case(
        "key file missing",
        lambda p: p.connect("MUTUAL", **{**client(p, "a1"), "ssl_key_location": "/nowhere/key"}),
        CONFIG,
        r"ssl\.key\.location",
    ),
    Case(
        "certificate file missing",
        lambda p: p.connect("MUTUAL", **{**client(p, "a2"), "ssl_certificate_location": "/nowhere/c"}),
        CONFIG,
        r"ssl\.certificate\.location",
    ),
    Case(
        "key of another certificate",
        lambda p: p.connect("MUTUAL", **{**client(p, "a3"), "ssl_key_location": client(p, "a4")["ssl_key_location"]}),
        CONFIG,
        r"(?i)key",
    ),
    Case(
        "wrong key password",
        lambda p: p.connect(
            "MUTUAL", **{**client(p, "a5", password="hunter2hunter2"), "ssl_key_password": "wrongwrong1"}
        ),
        CONFIG,
        r"ssl\.key",
    ),
    Case(
        "key password missing",
        lambda p: p.connect("MUTUAL", **{**client(p, "a6", password="hunter2hunter2"), "ssl_key_password": None}),
        CONFIG,
        r"ssl\.key",
    ),
    Case(
        "PKCS#12 file missing",
        lambda p: p.connect("MUTUAL", ssl_keystore_location="/nowhere.p12", ssl_keystore_password="hunter2hunter2"),
        CONFIG,
        r"ssl\.keystore\.location",
    ),
    Case(
        "Java keystore",
        lambda p: p.connect("MUTUAL", **{"ssl_keystore_location": "/x.jks", "ssl_keystore_type": "JKS"}),
        CONFIG,
        r"PKCS#12",
    ),
    # a different protocol than the listener's
    Case("plaintext at a TLS port", lambda p: bare(p, "TLS"), CONNECTION, r"security\.protocol=SSL", quick=True),
    Case("plaintext at a SASL_SSL port", lambda p: bare(p, "SASL_TLS"), CONNECTION, r"SASL_SSL"),
    Case("plaintext at a SASL port", lambda p: bare(p, "SASL"), CONNECTION, r"SASL_PLAINTEXT", quick=True),
    Case(
        "TLS at a plaintext port",
        lambda p: bare(p, "OPEN", security_protocol="SSL"),
        CONNECTION,
        r"security\.protocol=PLAINTEXT",
    ),
    Case(
        "TLS at a SASL_PLAINTEXT port",
        lambda p: bare(p, "SASL", security_protocol="SSL"),
        CONNECTION,
        r"does not speak TLS",
    ),
    Case(
        "TLS without SASL at a SASL_SSL port",
        lambda p: p.connect(
            "SASL_TLS", security_protocol="SSL", sasl_mechanism=None, sasl_username=None, sasl_password=None
        ),
        (CONNECTION, AUTH),
        r"(?i)SASL",
    ),  # type: ignore[arg-type]
    Case(
        "SASL_PLAINTEXT at a SASL_SSL port",
        lambda p: bayou.connect(
            {**p.secured.properties("SASL_TLS"), "security.protocol": "SASL_PLAINTEXT"}, **PLAINTEXT_PASSWORD
        ),
        CONNECTION,
        r"security\.protocol=SASL_SSL",
    ),  # type: ignore[arg-type]
    Case(
        "SASL_SSL at a SASL_PLAINTEXT port",
        lambda p: bayou.connect({**p.secured.properties("SASL"), "security.protocol": "SASL_SSL"}),
        CONNECTION,
        r"security\.protocol=SASL_PLAINTEXT",
    ),
    Case(
        "SASL at a port without it",
        lambda p: bayou.connect(
            {**p.secured.properties("SASL"), "bootstrap.servers": p.secured.plain}, **PLAINTEXT_PASSWORD
        ),
        (AUTH, CONNECTION),
        r"(?i)security\.protocol|SASL",
    ),  # type: ignore[arg-type]
    Case("a web server", lambda p: bayou.connect(p.web), CONNECTION, r"HTTP"),
    # logins
    Case("wrong password, PLAIN", login("PLAIN", sasl_password="wrong-password"), AUTH, r"sasl\.password", quick=True),
    Case(
        "wrong password, SCRAM-SHA-256", login("SCRAM-SHA-256", sasl_password="wrong-password"), AUTH, r"sasl\.password"
    ),
    Case(
        "wrong password, SCRAM-SHA-512", login("SCRAM-SHA-512", sasl_password="wrong-password"), AUTH, r"sasl\.password"
    ),
    Case("unknown user, PLAIN", login("PLAIN", sasl_username="nobody"), AUTH, r"sasl\.username"),
    Case("unknown user, SCRAM", login("SCRAM-SHA-512", sasl_username="nobody"), AUTH, r"sasl\.username"),
    Case(
        "a mechanism that the broker has not",
        lambda p: p.connect("SASL_TLS", "alice", "GSSAPI"),
        (CONFIG, AUTH),
        r"(?i)mechanism|GSSAPI",
    ),  # type: ignore[arg-type]
    Case("a mechanism that nobody has", login("AWS_MSK_IAM"), (CONFIG, AUTH), r"(?i)mechanism"),  # type: ignore[arg-type]
    Case("no mechanism", login("PLAIN", sasl_mechanism=None), CONFIG, r"sasl\.mechanism is missing"),
    Case("the password of another user", login("PLAIN", sasl_username="bob"), AUTH, r"sasl\.password"),
    Case("an empty password", login("PLAIN", sasl_password=""), (CONFIG, AUTH), r"sasl\.password"),  # type: ignore[arg-type]
    Case("a password of bytes", login("PLAIN", sasl_password=b"x"), CONFIG, r"sasl\.password.*bytes"),
    Case("a number as password", login("PLAIN", sasl_password=12345678), CONFIG, r"sasl\.password.*int"),
    Case(
        "PLAIN in the clear", lambda p: bayou.connect(p.secured.properties("SASL")), CONFIG, r"allow_plaintext_password"
    ),
    Case(
        "sasl without a SASL protocol",
        lambda p: bayou.connect({**p.secured.properties("SASL"), "security.protocol": "PLAINTEXT"}),
        CONFIG,
        r"security\.protocol",
    ),
    # addresses
    Case("a closed port", lambda p: bayou.connect("127.0.0.1:1"), CONNECTION, r"(?i)refused", quick=True),
    Case("a name that is not known", lambda p: bayou.connect("no.such.host.invalid:9092"), CONNECTION, r"(?i)resolve"),
    Case("accepts and never answers", lambda p: bayou.connect(p.silent), CONNECTION, r"cannot be reached"),
    Case(
        "accepts and never answers, TLS",
        lambda p: bayou.connect({"bootstrap.servers": p.silent, "security.protocol": "SSL"}),
        CONNECTION,
        r"cannot be reached",
    ),
    Case(
        "the advertised address, collect",
        lambda p: collect(bayou.connect(p.secured.address("AWAY"))),
        CONNECTION,
        r"(?i)advertised",
    ),
    Case(
        "the advertised address, produce",
        lambda p: send(bayou.connect({"bootstrap.servers": p.secured.address("AWAY"), "message.timeout.ms": 8000})),
        CONNECTION,
        r"(?i)advertised",
    ),
    Case(
        "an address with a password",
        lambda p: bayou.connect("alice:hunter2hunter2@kafka:9092"),
        CONNECTION,
        r"sasl\.username",
    ),
    # rights
    Case(
        "no right at all, collect", lambda p: collect(allowed("carol")(p)), ACL, r"no DESCRIBE permission", quick=True
    ),
    Case(
        "no READ, collect", lambda p: collect(allowed("carol", ("DESCRIBE", T))(p)), ACL, r"(?i)read.*case|case.*READ"
    ),
    Case(
        "no READ, write_delta",
        lambda p: (
            allowed("carol", ("DESCRIBE", T))(p)
            .read_stream("case", schema="a INT")
            .write_delta(p.folder / "acl", progress=False)
        ),
        ACL,
        r"(?i)case",
    ),
    Case("no WRITE", lambda p: send(allowed("carol", ("READ", T))(p)), ACL, r"WRITE"),
    Case("no WRITE, acks=1", lambda p: send(allowed("carol", ("READ", T))(p), acks="1"), ACL, r"WRITE"),
    Case(
        "WRITE elsewhere",
        lambda p: send(allowed("carol", ("READ", T), ("WRITE", {"topic": "other"}))(p)),
        ACL,
        r"WRITE",
    ),
    Case("no CREATE", lambda p: allowed("carol", ("READ", T))(p).create_topic("new-one"), ACL, r"(?i)authoriz|CREATE"),
    Case("no DELETE", lambda p: allowed("carol", ("READ", T))(p).delete_topic("case"), ACL, r"(?i)authoriz|DELETE"),
    Case(
        "no ALTER_CONFIGS",
        lambda p: allowed("carol", ("READ", T), ("DESCRIBE_CONFIGS", T))(p).alter_config(
            "case", {"retention.ms": 1000}
        ),
        ACL,
        r"(?i)authoriz|ALTER",
    ),
    Case(
        "no READ on the group",
        lambda p: list(allowed("carol", ("READ", T))(p).read_stream("case", schema="a INT").batches(group_id="g")),
        ACL,
        r"READ.*group|group.*READ",
    ),
    Case(
        "no right on the transactional id",
        lambda p: send(allowed("carol", ("WRITE", T))(p), transaction=True, transactional_id="tx"),
        ACL,
        r"'tx'",
    ),
    Case("no DESCRIBE on the group", lambda p: allowed("carol", ("READ", T))(p).lag("nobody"), ACL, r"DESCRIBE"),
    Case(
        "no DESCRIBE on the cluster", lambda p: allowed("carol", ("READ", T))(p).acls(), ACL, r"DESCRIBE on the cluster"
    ),
    Case(
        "read-only user, denied host",
        lambda p: collect(allowed("carol", ("READ", T), ("READ", {**T, "permission": "deny", "host": "127.0.0.1"}))(p)),
        ACL,
        r"(?i)case",
    ),
]


@contextlib.contextmanager
def at_a_secured_broker(folder: pathlib.Path) -> Iterator[Place]:
    silent, web = silent_server(), web_server()
    with Secured() as secured:
        root = bayou.connect(secured.plain)
        for topic in ("case", "other"):
            root.create_topic(topic)
        root.produce("case", [{"a": 1}], progress=False)
        yield Place(
            secured,
            folder,
            f"127.0.0.1:{silent.getsockname()[1]}",
            f"127.0.0.1:{web.server_port}",
            root,
        )
    silent.close()
    web.shutdown()


def check(case: Case, place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """The exception, its text, its time, and no secret anywhere."""
    began = time.monotonic()
    with caplog.at_level(logging.DEBUG, logger="bayou"), pytest.raises(case.error, match=case.says) as raised:
        case.call(place)
    assert time.monotonic() - began < 150, "promised: within 15 seconds"
    told = f"{raised.value!s} {raised.value!r} {caplog.text}"
    for secret in [*place.secured.passwords.values(), "hunter2hunter2", "wrong-password", "wrongwrong1"]:
        assert secret not in told, secret
    traceback = str(raised.getrepr(style="long"))
    assert not any(password in traceback for password in place.secured.passwords.values())
