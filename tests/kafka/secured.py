"""One Kafka broker with listeners as companies have them: TLS, mutual TLS, SASL, an authorizer. Further listeners have one error each.

    with Secured() as secured:
        bayou.connect(secured.plain_text("alice"))     # or secured.properties("TLS"), secured.address("EXPIRED"), …

| listener | speaks |
|---|---|
| OPEN | PLAINTEXT; every client is the super user ANONYMOUS |
| SASL | SASL_PLAINTEXT: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER with unsecured tokens |
| TLS, SASL_TLS | TLS with a certificate of the test CA for localhost, without and with SASL |
| MUTUAL | TLS that requires a certificate of the test CA from clients |
| EXPIRED, FUTURE, ELSEWHERE, FOREIGN | TLS with a certificate that has expired, is not valid yet, is for a different host, is of a different CA |
| AWAY | PLAINTEXT whose advertised address cannot be reached |
| GATED | PLAINTEXT whose advertised address is the port `gate` (gate.py) |
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import pathlib
import secrets
import subprocess
import tempfile
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from server import Server, free_ports

DAY = datetime.timedelta(days=1)
USERS = ("admin", "alice", "bob", "carol")
LISTENERS = {
    "OPEN": "PLAINTEXT",
    "SASL": "SASL_PLAINTEXT",
    "TLS": "SSL",
    "SASL_TLS": "SASL_SSL",
    "MUTUAL": "SSL",
    "EXPIRED": "SSL",
    "FUTURE": "SSL",
    "ELSEWHERE": "SSL",
    "FOREIGN": "SSL",
    "AWAY": "PLAINTEXT",
    "GATED": "PLAINTEXT",
}
Key = ec.EllipticCurvePrivateKey


class Authority:
    """A certificate authority with its PEM file."""

    def __init__(self, folder: pathlib.Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.timezone.utc)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.pem = folder / f"{name}.pem"
        self.pem.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str, *, host: str = "localhost", days: tuple[float, float] = (-1, 1), password: str | None = None
    ) -> tuple[pathlib.Path, pathlib.Path]:
        """A certificate that is valid between two days, counted from now, and its key: PEM files `name.pem` and `name.key`."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.timezone.utc)
        names: list[x509.GeneralName] = [x509.DNSName(host)]
        if host == "localhost":
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + days[0] * DAY)
            .not_valid_after(now + days[1] * DAY)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        pem, at = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        hidden: Any = (
            serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
        )
        form = serialization.PrivateFormat.PKCS8
        at.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, hidden))
        return pem, at


class Secured(Server):
    """The broker. `more`: lines for its properties. `reauth`: seconds after which SASL clients must log in again. `gate`: the port of a gate."""

    # Only the first compiler, because none lives long.
    options = ("-XX:TieredStopAtLevel=1",)

    def __init__(self, more: str = "", reauth: float = 0, gate: int = 1) -> None:
        self.gate = gate
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bayou-secured-"))
        self.passwords = {user: secrets.token_urlsafe(12) for user in USERS}
        self.format_options = [
            f"--add-scram=SCRAM-SHA-{bits}=[name={user},password={password}]"
            for user, password in self.passwords.items()
            for bits in (256, 512)
        ]
        self.ports = dict(zip(LISTENERS, free_ports(len(LISTENERS) + 1), strict=False))
        controller = free_ports(1)[0]
        self.plain = f"127.0.0.1:{self.ports['OPEN']}"
        self.ca, self.other_ca = Authority(self.folder, "ca"), Authority(self.folder, "other-ca")
        stores = {
            "TLS": self.ca.issue("broker"),
            "EXPIRED": self.ca.issue("expired", days=(-3, -1)),
            "FUTURE": self.ca.issue("future", days=(1, 3)),
            "ELSEWHERE": self.ca.issue("elsewhere", host="kafka.example.org"),
            "FOREIGN": self.other_ca.issue("foreign"),
        }
        stores["SASL_TLS"] = stores["MUTUAL"] = stores["TLS"]
        jaas = "org.apache.kafka.common.security"
        users = " ".join(f'user_{u}="{p}"' for u, p in self.passwords.items())
        lines = [
            "process.roles=broker,controller",
            "node.id=1",
            "broker.rack=rack-a",
            f"controller.quorum.voters=1@127.0.0.1:{controller}",
            "controller.listener.names=CONTROLLER",
            "inter.broker.listener.name=OPEN",
            "listeners="
            + ",".join(f"{n}://127.0.0.1:{p}" for n, p in self.ports.items())
            + f",CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners=" + ",".join(f"{n}://{self.advertised(n)}" for n in LISTENERS),
            "listener.security.protocol.map="
            + ",".join(f"{n}:{p}" for n, p in LISTENERS.items())
            + ",CONTROLLER:PLAINTEXT",
            f"log.dirs={self.folder}/data",
            "auto.create.topics.enable=false",
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users=User:ANONYMOUS;User:admin;User:CN=client",
            "offsets.topic.replication.factor=1",
            "offsets.topic.num.partitions=1",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1",
            "transaction.state.log.num.partitions=1",
            "group.initial.rebalance.delay.ms=0",
            "log.retention.ms=-1",
            # Quotas are counted over short windows, so that throttling begins immediately and ends soon.
            "quota.window.num=3",
            "quota.window.size.seconds=1",
        ]
        for name in ("SASL", "SASL_TLS"):
            here = f"listener.name.{name.lower()}"
            lines += [
                f"{here}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
                f"{here}.plain.sasl.jaas.config={jaas}.plain.PlainLoginModule required {users};",
                f"{here}.scram-sha-256.sasl.jaas.config={jaas}.scram.ScramLoginModule required;",
                f"{here}.scram-sha-512.sasl.jaas.config={jaas}.scram.ScramLoginModule required;",
                f"{here}.oauthbearer.sasl.jaas.config={jaas}.oauthbearer.OAuthBearerLoginModule required "
                'unsecuredLoginStringClaim_sub="admin";',
            ]
            if reauth:
                lines.append(f"{here}.connections.max.reauth.ms={int(reauth * 1000)}")
        for name, (pem, key) in stores.items():
            here = f"listener.name.{name.lower()}"
            store = self.folder / f"{name.lower()}.store.pem"
            store.write_bytes(key.read_bytes() + pem.read_bytes())
            lines += [f"{here}.ssl.keystore.type=PEM", f"{here}.ssl.keystore.location={store}"]
        lines += [
            "listener.name.mutual.ssl.client.auth=required",
            "listener.name.mutual.ssl.truststore.type=PEM",
            f"listener.name.mutual.ssl.truststore.location={self.ca.pem}",
        ]
        (self.folder / "server.properties").write_text("\n".join([*lines, more, ""]))
        self.log = self.folder / "kafka.log"
        self.process: subprocess.Popen[bytes] | None = None

    def advertised(self, listener: str) -> str:
        # No process listens on port 1.
        return f"localhost:{ {'AWAY': 1, 'GATED': self.gate}.get(listener, self.ports[listener]) }"

    def address(self, listener: str) -> str:
        return f"localhost:{self.ports[listener]}"

    def properties(
        self, listener: str, user: str | None = None, mechanism: str = "PLAIN", **more: object
    ) -> dict[str, Any]:
        """librdkafka's properties for a listener. The names of further properties have underscores instead of dots. None removes a property."""
        protocol = LISTENERS[listener]
        out: dict[str, Any] = {"bootstrap.servers": self.address(listener), "security.protocol": protocol}
        if protocol.endswith("SSL"):
            out["ssl.ca.location"] = str(self.ca.pem)
        if protocol.startswith("SASL"):
            user = user or "admin"
            out |= {"sasl.mechanism": mechanism, "sasl.username": user, "sasl.password": self.passwords[user]}
        out |= {name.replace("_", "."): value for name, value in more.items()}
        return {name: value for name, value in out.items() if value is not None}


def kafka_tool(server: Server, main: str, *arguments: str) -> str:
    """Runs one of Kafka's own command line tools, and returns what it prints."""
    done = subprocess.run(
        server.java(main, *arguments), capture_output=True, text=True, timeout=120, env=os.environ | {"TZ": "UTC"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
