"""Tokens for SASL OAUTHBEARER: a function of the user, OpenID Connect's client credentials, Amazon MSK's IAM, service credentials of Databricks."""

from __future__ import annotations

import base64
import inspect
import json
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from bayou import _core, _notebook

# The value, the name of its principal, and its end in milliseconds since the Unix epoch.
Token = tuple[str, str, int]

_WANTED = "It returns a token, or (token, seconds since the Unix epoch when it expires)."
# A clock that is this far ahead gives milliseconds where seconds are meant.
_MILLISECONDS = 100_000_000_000


class NoToken(Exception):
    """Why there is no token. The text has no secret."""


def _claims(token: str) -> dict[str, Any]:
    """The claims of a JSON Web Token (RFC 7519). Its signature is not checked."""
    try:
        part = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, because a redirect would send the secret to a different server."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Tokens:
    """Calls a user's function, and converts its result to a Token. Error texts never contain texts of the function."""

    def __init__(self, function: Callable[..., Any], what: str = "the function of 'oauth_cb'") -> None:
        self._function = function
        self._what = what
        # confluent-kafka's functions take the text of sasl.oauthbearer.config.
        try:
            inspect.signature(function).bind()
            self._given: tuple[str, ...] = ()
        except (TypeError, ValueError):
            self._given = ("",)

    def __repr__(self) -> str:
        return f"<tokens of {self._what}>"

    def __call__(self) -> Token:
        try:
            made = self._function(*self._given)
        except NoToken:
            raise
        except Exception as error:
            raise NoToken(f"{self._what} raised {type(error).__name__}") from None
        value, expires, principal = (*made, None, None)[:3] if isinstance(made, (tuple, list)) else (made, None, None)
        if isinstance(value, bytes):
            value = value.decode("ascii", "replace")
        if not isinstance(value, str) or not value:
            raise NoToken(f"{self._what} returned {type(value).__name__} instead of a token. {_WANTED}")
        if re.search(r"[\x00-\x1f\x7f]", value):
            raise NoToken(f"{self._what} returned a token with a line end or another control character")
        claims = _claims(value)
        if expires is None:
            expires = claims.get("exp")
        if isinstance(expires, bool) or not isinstance(expires, (int, float)):
            raise NoToken(f"{self._what} does not say when its token expires. {_WANTED}")
        millis = int(expires) if expires > _MILLISECONDS else int(expires * 1000)
        return value, str(principal or claims.get("sub") or "bayou"), millis


def oidc(properties: dict[str, Any]) -> Callable[[], Token]:
    """Client credentials of OpenID Connect (RFC 6749, section 4.4), by librdkafka's properties, which are removed."""
    take = {
        name: properties.pop(f"sasl.oauthbearer.{name}", None)
        for name in ("client.id", "client.secret", "token.endpoint.url")
    }
    properties.pop("sasl.oauthbearer.method", None)
    scope = properties.pop("sasl.oauthbearer.scope", None)
    authority = properties.pop("https.ca.location", None)
    if properties.pop("sasl.oauthbearer.extensions", None):
        raise _core.ConfigError(
            "connect: sasl.oauthbearer.extensions is not supported. Use API keys (PLAIN), or a cluster without extensions."
        )
    missing = [f"sasl.oauthbearer.{name}" for name, value in take.items() if not value]
    if missing:
        raise _core.ConfigError(f"connect: sasl.oauthbearer.method is oidc, and {', '.join(missing)} is missing")
    url = str(take["token.endpoint.url"])
    parsed = urllib.parse.urlsplit(url)
    if parsed.scheme != "https" and parsed.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise _core.ConfigError(
            "connect: sasl.oauthbearer.token.endpoint.url must begin with https://, because the secret is sent there"
        )
    place = f"{parsed.scheme}://{parsed.hostname}"
    context = ssl.create_default_context(cafile=str(authority) if authority else None)
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=context))
    login = base64.b64encode(
        f"{urllib.parse.quote(str(take['client.id']), safe='')}:{urllib.parse.quote(str(take['client.secret']), safe='')}".encode()
    ).decode()

    def ask() -> tuple[str, float]:
        body = {"grant_type": "client_credentials", **({"scope": str(scope)} if scope else {})}
        request = urllib.request.Request(
            url,
            urllib.parse.urlencode(body).encode(),
            {"Authorization": f"Basic {login}", "Accept": "application/json"},
        )
        began = time.time()
        try:
            with opener.open(request, timeout=6) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            # RFC 6749, section 5.2: "error" is a word such as invalid_client.
            try:
                word = json.load(error).get("error", "")
            except (ValueError, AttributeError):
                word = ""
            word = f", {word}" if re.fullmatch(r"[\w-]{1,40}", str(word)) else ""
            raise NoToken(
                f"the token endpoint {place} answered {error.code}{word}. Check sasl.oauthbearer.client.id, .client.secret and .scope"
            ) from None
        except (OSError, ValueError) as error:
            why = getattr(error, "reason", None) or type(error).__name__
            raise NoToken(f"the token endpoint {place} cannot be asked: {why}") from None
        if not isinstance(found, dict) or not isinstance(found.get("access_token"), str):
            raise NoToken(f"the token endpoint {place} answered without an access_token")
        life = found.get("expires_in")
        expires = began + float(life) if isinstance(life, (int, float, str)) and str(life).isdigit() else None
        return found["access_token"], expires  # type: ignore[return-value]

    return Tokens(ask, f"the token endpoint {place}")


def _signer() -> Any:
    try:
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        raise _core.ConfigError(
            "connect.msk_iam signs with Amazon's library, which is not installed: %pip install aws-msk-iam-sasl-signer-python"
        ) from None
    return MSKAuthTokenProvider


def msk_iam(region: str, credential: str | None = None) -> Callable[[], Token]:
    """Tokens that Amazon's library signs, with the login of the machine, or a service credential of Databricks."""
    signer = _signer()

    def ask() -> tuple[str, float]:
        if credential is None:
            value, millis = signer.generate_auth_token(region)
        else:
            provider = _Botocore(service_credential(credential))
            value, millis = signer.generate_auth_token_from_credentials_provider(region, provider)
        return value, millis / 1000

    return Tokens(ask, "Amazon's signer (aws-msk-iam-sasl-signer-python)")


class _Botocore:
    """The object that the signer asks for credentials."""

    def __new__(cls, credentials: Any) -> Any:
        from botocore.credentials import CredentialProvider  # type: ignore[import-not-found,import-untyped,unused-ignore]

        class Provider(CredentialProvider):  # type: ignore[misc]
            METHOD = CANONICAL_NAME = "bayou"

            def load(self) -> Any:
                # Databricks returns a session of botocore, or its credentials.
                found = credentials
                return found.get_credentials() if hasattr(found, "get_credentials") else found

        return Provider()


def service_credential(name: str) -> Any:
    """A service credential of Unity Catalog, as the notebook's dbutils hands it out."""
    dbutils = _dbutils()
    if dbutils is None:
        raise _core.ConfigError(
            f"connect: service_credential={name!r} needs a notebook or job of Databricks, whose dbutils hands it out"
        )
    return dbutils.credentials.getServiceCredentialsProvider(name)


def _dbutils() -> Any:
    found = _notebook.named("dbutils")
    if found is None:
        try:
            from databricks.sdk.runtime import dbutils as found  # type: ignore[import-not-found,no-redef,unused-ignore]
        except Exception:
            return None
    return found


def of_service_credential(name: str, properties: Mapping[str, Any]) -> tuple[dict[str, Any], Callable[[], Token]]:
    """The properties and tokens for a cluster of Amazon or Azure that a service credential opens."""
    servers = str(properties.get("bootstrap.servers", ""))
    first = servers.split(",")[0].strip().rsplit("://", 1)[-1].rsplit(":", 1)[0].lower()
    bearer = {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}
    if amazon := re.search(r"\.kafka(?:-serverless)?\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?$", first):
        return bearer, msk_iam(amazon.group(1), name)
    if first.endswith(".servicebus.windows.net"):
        credential = service_credential(name)

        def ask() -> tuple[str, float]:
            made = credential.get_token(f"https://{first}/.default")
            return made.token, float(made.expires_on)

        return bearer, Tokens(ask, f"the service credential '{name}'")
    raise _core.ConfigError(
        f"connect: service_credential= opens clusters of Amazon MSK and Azure Event Hubs, and {first!r} is the address of neither"
    )
