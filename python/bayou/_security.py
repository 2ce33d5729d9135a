"""Properties of a connection as users write them: secrets that are functions, lists of addresses, Spark's and Java's spelling."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from bayou import _core

# A property whose name has one of these endings has a value that must never be shown.
_SECRET = re.compile(r"(password|secret|\.pem|passphrase|token|jaas\.config)$")
_LOGIN = re.compile(
    r"(?:\w+\.)*(PlainLoginModule|ScramLoginModule|OAuthBearerLoginModule|Krb5LoginModule|\w+)\s+(?:required|requisite|sufficient|optional)\b(.*)",
    re.S,
)
_PAIR = re.compile(r"""([\w.]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s;]+))""")

# Java's names, and librdkafka's.
_JAVA = {
    "ssl.truststore.certificates": "ssl.ca.pem",
    "ssl.keystore.certificate.chain": "ssl.certificate.pem",
    "ssl.keystore.key": "ssl.key.pem",
    "ssl.protocol": None,
    "ssl.enabled.protocols": None,
    "sasl.login.callback.handler.class": None,
    "sasl.client.callback.handler.class": None,
    "security.providers": None,
}


def translated(properties: Mapping[str, object]) -> dict[str, object]:
    """Converts Spark's and Java's properties to librdkafka's. Properties of librdkafka stay as they are."""
    given = {k[6:] if k.startswith("kafka.") else k: v for k, v in properties.items()}
    if len(given) != len(properties):
        twice = sorted(k for k in properties if f"kafka.{k}" in properties)
        raise _core.ConfigError(f"connect: {', '.join(twice)} is given twice, with and without 'kafka.' in front")
    out: dict[str, object] = {}
    jaas = given.pop("sasl.jaas.config", None)
    kind = str(given.pop("ssl.truststore.type", "JKS")).upper()
    if "ssl.truststore.location" in given:
        if kind != "PEM":
            raise _core.ConfigError(
                f"connect: ssl.truststore.location is a Java keystore ({kind}), which librdkafka cannot read. Export it as PEM "
                "(keytool -exportcert -rfc), and give ssl.ca.location; or set ssl.truststore.type=PEM if it is PEM already."
            )
        out["ssl.ca.location"] = given.pop("ssl.truststore.location")
        given.pop("ssl.truststore.password", None)
    kind = str(given.pop("ssl.keystore.type", "PKCS12")).upper()
    if "ssl.keystore.location" in given and kind == "PEM":
        out["ssl.certificate.location"] = given["ssl.keystore.location"]
        out["ssl.key.location"] = given.pop("ssl.keystore.location")
    elif "ssl.keystore.location" in given and kind == "JKS":
        raise _core.ConfigError(
            "connect: ssl.keystore.location is a Java keystore (JKS), which librdkafka cannot read. Convert it to PKCS#12 "
            "(keytool -importkeystore -deststoretype pkcs12)."
        )
    if str(given.get("ssl.endpoint.identification.algorithm", "https")) == "":
        given["ssl.endpoint.identification.algorithm"] = "none"
    if given.get("client.dns.lookup") == "default":  # Java's word, which librdkafka does not have
        given.pop("client.dns.lookup")
    for name, value in given.items():
        right = _JAVA.get(name, name)
        if right is not None:
            out[right] = value
    if jaas is not None:
        for name, value in _of_jaas(str(_value("sasl.jaas.config", jaas)), out).items():
            out.setdefault(name, value)
    return out


def _of_jaas(text: str, given: Mapping[str, object]) -> dict[str, object]:
    found = _LOGIN.match(text.strip())
    if found is None:
        raise _core.ConfigError(
            "connect: sasl.jaas.config cannot be read (its text is not shown). It has the form "
            'org.apache.kafka.common.security.plain.PlainLoginModule required username="…" password="…";'
        )
    module = found.group(1)
    pairs = {k: re.sub(r"\\(.)", r"\1", a or b) if a or b else c for k, a, b, c in _PAIR.findall(found.group(2))}
    if module in ("PlainLoginModule", "ScramLoginModule"):
        missing = [k for k in ("username", "password") if k not in pairs]
        if missing:
            raise _core.ConfigError(f"connect: sasl.jaas.config of {module} has no {' and no '.join(missing)}")
        default = "PLAIN" if module == "PlainLoginModule" else "SCRAM-SHA-512"
        named = {} if {"sasl.mechanism", "sasl.mechanisms"} & set(given) else {"sasl.mechanism": default}
        return {**named, "sasl.username": pairs["username"], "sasl.password": pairs["password"]}
    if module == "OAuthBearerLoginModule":
        oidc = {
            "clientId": "sasl.oauthbearer.client.id",
            "clientSecret": "sasl.oauthbearer.client.secret",
            "scope": "sasl.oauthbearer.scope",
        }
        return {
            "sasl.mechanism": "OAUTHBEARER",
            "sasl.oauthbearer.method": "oidc",
            **{oidc[k]: v for k, v in pairs.items() if k in oidc},
        }
    raise _core.ConfigError(
        f"connect: the login module {module} of sasl.jaas.config is not one that bayou can translate"
    )


def _value(name: str, value: object) -> object:
    """A property's value. A secret may be a function without arguments, which is called here."""
    if callable(value):
        try:
            value = value()
        except Exception as error:
            # The text of the exception may have the secret, so the exception is not the cause.
            raise _core.FunctionError(
                f"connect: the function of '{name}' raised {type(error).__name__}. Nothing was sent."
            ) from None
    if _SECRET.search(name) and not isinstance(value, str):
        raise _core.ConfigError(
            f"connect: '{name}' must be text, or a function that returns text, and not {type(value).__name__}. Nothing was sent."
        )
    if value is None:
        raise _core.ConfigError(
            f"connect: '{name}' is None. Leave it out, or give a value: an unset variable must not change a connection."
        )
    return value


def checked(
    properties: Mapping[str, object], allow_plaintext_password: bool, credential: str | None = None
) -> tuple[dict[str, object], Callable[[], tuple[str, str, int]] | None]:
    """The properties with all values and the source of tokens, or an error that says what is wrong before anything is sent."""
    given = translated(properties)
    function = given.pop("oauth_cb", None)
    out = {name: _value(name, value) for name, value in given.items()}
    if credential is not None:
        from bayou import _tokens

        more, function = _tokens.of_service_credential(credential, out)
        out |= more
    for name in ("bootstrap.servers", "metadata.broker.list"):
        if isinstance(servers := out.get(name), (list, tuple, set)):
            if not all(isinstance(s, str) for s in servers):
                raise _core.ConfigError(f"connect: '{name}' is a list with something that is not text")
            out[name] = ",".join(servers)
    # librdkafka ignores a server whose scheme is not the security protocol.
    servers = str(out.get("bootstrap.servers", out.get("metadata.broker.list", "")))
    schemes = {s.split("://")[0].strip().upper() for s in servers.split(",") if "://" in s}
    if len(schemes) == 1 and "security.protocol" not in out:
        out["security.protocol"] = next(iter(schemes))
    protocol = str(out.get("security.protocol", "PLAINTEXT")).upper()
    if schemes - {protocol}:
        raise _core.ConfigError(
            f"connect: an address begins with {sorted(schemes)[0]}://, and security.protocol is {protocol}. Leave one of the two out."
        )
    for name in ("sasl.mechanism", "sasl.mechanisms"):
        if isinstance(mechanism := out.get(name), str):
            out[name] = mechanism.upper()
    mechanism = out.get("sasl.mechanism", out.get("sasl.mechanisms"))
    sasl = sorted(n for n in out if n in ("sasl.username", "sasl.password", "sasl.mechanism", "sasl.mechanisms"))
    if sasl and not protocol.startswith("SASL_"):
        raise _core.ConfigError(
            f"connect: '{sasl[0]}' is set, but security.protocol is {protocol}, which does not log in. "
            "Set security.protocol to SASL_SSL (or SASL_PLAINTEXT)."
        )
    if protocol.startswith("SASL_") and mechanism is None and function is None:
        raise _core.ConfigError(
            f"connect: security.protocol is {protocol}, and sasl.mechanism is missing. Set it: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, or what the "
            "cluster offers."
        )
    if protocol == "SASL_PLAINTEXT" and mechanism == "PLAIN" and not allow_plaintext_password:
        raise _core.ConfigError(
            "connect: PLAIN over SASL_PLAINTEXT sends the password so that anyone on the network can read it. Use SASL_SSL, or SCRAM. "
            "On a network that you trust: allow_plaintext_password=True."
        )
    tokens = _tokens_of(out, function, protocol, mechanism)
    if tokens is not None and protocol == "SASL_PLAINTEXT" and not allow_plaintext_password:
        raise _core.ConfigError(
            "connect: OAUTHBEARER over SASL_PLAINTEXT sends the token so that anyone on the network can use it. Use SASL_SSL. "
            "On a network that you trust: allow_plaintext_password=True."
        )
    return out, tokens


def _tokens_of(
    out: dict[str, object], function: object, protocol: str, mechanism: object
) -> Callable[[], tuple[str, str, int]] | None:
    """The source of tokens. Properties that librdkafka does not know are removed."""
    from bayou import _tokens

    by_oidc = str(out.get("sasl.oauthbearer.method", "")).lower() == "oidc"
    if function is None and not by_oidc:
        # librdkafka makes unsecured tokens for tests of clusters itself.
        if mechanism == "OAUTHBEARER" and str(out.get("enable.sasl.oauthbearer.unsecure.jwt")).lower() != "true":
            raise _core.ConfigError(
                'connect: sasl.mechanism is OAUTHBEARER, and nothing says where tokens come from. Give "oauth_cb", a function that returns a token; '
                "or sasl.oauthbearer.method=oidc with .client.id, .client.secret and .token.endpoint.url; or use connect.msk_iam for Amazon MSK."
            )
        return None
    if function is not None and by_oidc:
        raise _core.ConfigError(
            "connect: oauth_cb and sasl.oauthbearer.method=oidc are both given. Leave one of the two out."
        )
    if function is not None and not callable(function):
        raise _core.ConfigError(
            f"connect: oauth_cb is a function that returns a token, and not {type(function).__name__}"
        )
    if mechanism is None:
        out["sasl.mechanism"] = mechanism = "OAUTHBEARER"
    if mechanism != "OAUTHBEARER" or not protocol.startswith("SASL_"):
        what = "oauth_cb" if function is not None else "sasl.oauthbearer.method=oidc"
        raise _core.ConfigError(f"connect: {what} needs security.protocol=SASL_SSL and sasl.mechanism=OAUTHBEARER")
    if by_oidc:
        return _tokens.oidc(out)
    return function if isinstance(function, _tokens.Tokens) else _tokens.Tokens(function)  # type: ignore[arg-type]
