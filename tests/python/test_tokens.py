"""SASL OAUTHBEARER: tokens from functions, OpenID Connect, Amazon's signer and service credentials, against a real listener."""

from __future__ import annotations

import base64
import http.server
import json
import logging
import pathlib
import sys
import threading
import time
import types
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import bayou
import pytest
from bayou import _core

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "kafka"))
from secured import Secured


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    # Clients must log in again after some seconds, with a token that is valid then.
    with Secured(reauth=4) as server:
        yield server


def token(life: float = 3600, principal: str = "admin") -> str:
    """An unsecured JSON Web Token, which the listener accepts."""

    def part(of: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(of).encode()).decode().rstrip("=")

    now = time.time()
    return f"{part({'alg': 'none'})}.{part({'sub': principal, 'iat': now, 'exp': now + life})}."


def bearer(secured: Secured, function: object, listener: str = "SASL", **more: object) -> dict[str, Any]:
    out = secured.properties(listener, mechanism="OAUTHBEARER", oauth_cb=None, **more)
    return {k: v for k, v in out.items() if k not in ("sasl.username", "sasl.password")} | {"oauth_cb": function}


def join(properties: dict[str, Any]) -> bayou.Connection:
    return bayou.connect(properties, allow_plaintext_password=True)


@pytest.fixture(scope="module")
def topic(secured: Secured) -> str:
    kafka = bayou.connect(secured.plain)
    kafka.create_topic("t", partitions=2)
    return "t"


@pytest.mark.parametrize("listener", ["SASL", "SASL_TLS"])
def test_a_function_gives_tokens_to_every_client_of_a_connection(secured: Secured, topic: str, listener: str) -> None:
    calls = []

    def give() -> str:
        calls.append(threading.current_thread().name)
        return token()

    kafka = join(bearer(secured, give, listener))
    before = len(kafka.read_stream(topic, schema="a INT").collect())
    kafka.produce(topic, [{"a": 1}, {"a": 2}], progress=False)
    kafka.produce(topic, [{"a": 3}], transaction=True, progress=False)
    assert len(kafka.read_stream(topic, schema="a INT").collect()) == before + 3
    assert kafka.describe_config(topic).to_dicts() and kafka.topics().column("topic") == [topic]
    assert len(calls) == 1, "one token serves all until most of its life is over"
    assert calls[0] != threading.main_thread().name


def test_a_long_run_renews_its_tokens_and_logs_in_again(secured: Secured, topic: str, tmp_path: pathlib.Path) -> None:
    """Tokens of ten seconds and re-authentication after four, for twenty."""
    calls = []

    def give(config: str) -> tuple[str, float]:  # as confluent-kafka calls it
        calls.append(config)
        return token(10), time.time() + 10

    kafka = join(bearer(secured, give))
    start = kafka.offsets(topic).to_dicts()
    stream = kafka.read_stream(topic, schema="a INT", starting_offsets="latest")
    query = stream.write_delta(tmp_path / "t", trigger="0 seconds", block=False, progress=False)
    sent, began = 0, time.monotonic()
    while time.monotonic() - began < 20:
        kafka.produce(topic, [{"a": sent}], progress=False)
        sent += 1
        time.sleep(0.2)
        assert query.is_active, query.exception()
    deadline = time.monotonic() + 30
    while sum(r["lag"] for r in kafka.lag(query).to_dicts()) and time.monotonic() < deadline:
        time.sleep(0.1)
    query.stop()
    assert len(bayou.read_delta(tmp_path / "t")) == sent and start
    assert 2 <= len(calls) < 60, len(calls)


def test_functions_that_raise_hang_or_return_nonsense_are_told_at_once(
    secured: Secured, caplog: pytest.LogCaptureFixture
) -> None:
    def raises() -> str:
        raise ValueError("the secret is hunter2hunter2")

    def hangs() -> str:
        time.sleep(30)
        return token()

    for function, text in [
        (raises, "the function of 'oauth_cb' raised ValueError"),
        (lambda: None, "returned NoneType instead of a token"),
        (lambda: 7, "returned int instead of a token"),
        (lambda: "abc.def", "does not say when its token expires"),
        (lambda: token(-60), "expired 6. seconds ago"),
        (lambda: (token(), "tomorrow"), "does not say when its token expires"),
        (hangs, "not returned a token within 8 seconds"),
    ]:
        began = time.monotonic()
        with pytest.raises(bayou.AuthError, match=text) as raised:
            join(bearer(secured, function))
        assert time.monotonic() - began < 15 and "hunter2" not in str(raised.value), raised.value
    assert "hunter2" not in caplog.text


def test_a_function_that_fails_later_is_a_warning_while_the_token_counts(
    secured: Secured, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    state = {"fail": False}

    def give() -> str:
        if state["fail"]:
            raise OSError("the identity provider is down")
        return token(8)

    kafka = join(bearer(secured, give))
    state["fail"] = True
    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        # librdkafka asks when four fifths of the life are over.
        while "The last token still counts" not in caplog.text and time.monotonic() - began < 7.5:
            kafka.topics()
            time.sleep(0.1)
    assert "raised OSError" in caplog.text and "identity provider" not in caplog.text
    # Then the broker refuses the token, or the function is called again: whichever comes first.
    with pytest.raises(bayou.AuthError, match="raised OSError|what oauth_cb returns"):
        while time.monotonic() - began < 40:
            kafka.topics()
            time.sleep(0.2)
    state["fail"] = False
    deadline = time.monotonic() + 40
    while True:
        try:
            kafka.topics()
            break
        except bayou.BayouError:
            assert time.monotonic() < deadline
            time.sleep(0.5)


def test_a_token_that_the_broker_refuses_is_an_auth_error(secured: Secured) -> None:
    with pytest.raises(bayou.AuthError, match=r"(?i)token"):
        join(bearer(secured, lambda: ("this.is.not a token", time.time() + 600)))


@pytest.fixture
def provider() -> Iterator[Any]:
    """A token endpoint as RFC 6749 describes it."""
    seen: list[tuple[str, dict[str, list[str]]]] = []
    answer: dict[str, Any] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            seen.append((self.headers["Authorization"], urllib.parse.parse_qs(body)))
            status, content = (
                answer.get("status", 200),
                answer.get("body") or {"access_token": token(), "expires_in": 3600},
            )
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield types.SimpleNamespace(url=f"http://127.0.0.1:{server.server_port}/token", seen=seen, answer=answer)
    server.shutdown()


def by_oidc(secured: Secured, url: str, **more: object) -> dict[str, Any]:
    out = bearer(secured, None)
    del out["oauth_cb"]
    return out | {
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.token.endpoint.url": url,
        "sasl.oauthbearer.client.id": "bayou app",
        "sasl.oauthbearer.client.secret": "s3cret/&value",
        "sasl.oauthbearer.scope": "kafka",
        **more,
    }


def test_client_credentials_of_openid_connect(secured: Secured, topic: str, provider: Any) -> None:
    kafka = join(by_oidc(secured, provider.url))
    assert kafka.topics().column("topic") == [topic]
    [(login, body)] = provider.seen
    assert base64.b64decode(login.removeprefix("Basic ")).decode() == "bayou%20app:s3cret%2F%26value"
    assert body == {"grant_type": ["client_credentials"], "scope": ["kafka"]}
    provider.answer |= {"status": 401, "body": {"error": "invalid_client", "error_description": "s3cret/&value"}}
    with pytest.raises(bayou.AuthError, match="answered 401, invalid_client") as raised:
        join(by_oidc(secured, provider.url))
    assert "s3cret" not in str(raised.value)
    provider.answer |= {"status": 200, "body": {"token": "x"}}
    with pytest.raises(bayou.AuthError, match="without an access_token"):
        join(by_oidc(secured, provider.url))
    with pytest.raises(bayou.AuthError, match="cannot be asked"):
        join(by_oidc(secured, "http://127.0.0.1:1/token"))
    for change, text in [
        ({"sasl.oauthbearer.client.secret": ""}, r"client\.secret"),
        ({"sasl.oauthbearer.token.endpoint.url": "http://login.example.com/token"}, "https"),
        ({"sasl.oauthbearer.extensions": "logicalCluster=x"}, "extensions is not supported"),
        ({"oauth_cb": token}, "both given"),
    ]:
        with pytest.raises(bayou.ConfigError, match=text):
            join(by_oidc(secured, provider.url, **change))


def test_librdkafkas_unsecured_tokens_still_work(secured: Secured, topic: str) -> None:
    out = bearer(secured, None)
    del out["oauth_cb"]
    unsecured = {"enable.sasl.oauthbearer.unsecure.jwt": "true", "sasl.oauthbearer.config": "principal=admin"}
    kafka = bayou.connect(out | unsecured)
    kafka.produce(topic, [{"a": 1}], progress=False)
    assert kafka.read_stream(topic, schema="a INT").collect()
    with pytest.raises(bayou.AuthError, match="its text is not shown") as raised:
        bayou.connect(out | unsecured | {"sasl.oauthbearer.config": "extensionX=SECRETOAUTH bad"})
    assert "SECRETOAUTH" not in str(raised.value)


def test_what_is_missing_or_does_not_fit_is_told_before_anything_is_sent() -> None:
    sasl = {"bootstrap.servers": "a:1", "security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER"}
    for given, text in [
        (sasl, "nothing says where tokens come from"),
        ({**sasl, "oauth_cb": "a token"}, "oauth_cb is a function"),
        (
            {**sasl, "sasl.mechanism": "PLAIN", "oauth_cb": token},
            "needs security.protocol=SASL_SSL and sasl.mechanism=OAUTHBEARER",
        ),
        ({"bootstrap.servers": "a:1", "oauth_cb": token}, "needs security.protocol"),
        ({**sasl, "security.protocol": "SASL_PLAINTEXT", "oauth_cb": token}, "allow_plaintext_password"),
    ]:
        with pytest.raises(bayou.ConfigError, match=text):
            bayou.connect(given)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    seen: list[Any] = []
    monkeypatch.setattr(_core, "_connect", lambda target, name, tokens: seen.append((target, tokens)))
    return seen


def test_amazons_signer_signs_with_the_login_of_the_machine(sent: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    bayou.connect.msk_iam("b-1.c.kafka.eu-central-1.amazonaws.com:9098", "eu-central-1", client_id="etl")
    [(target, tokens)] = sent
    assert (
        target["security.protocol"] == "SASL_SSL"
        and target["sasl.mechanism"] == "OAUTHBEARER"
        and target["client.id"] == "etl"
    )
    value, _, expires = tokens()
    url = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode()
    assert (
        url.startswith("https://kafka.eu-central-1.amazonaws.com/?Action=kafka-cluster%3AConnect")
        and "X-Amz-Signature=" in url
    )
    assert 0 < expires / 1000 - time.time() <= 901
    monkeypatch.setitem(sys.modules, "aws_msk_iam_sasl_signer", None)
    with pytest.raises(bayou.ConfigError, match="pip install aws-msk-iam-sasl-signer-python"):
        bayou.connect.msk_iam("b:9098", "eu-central-1")


def in_a_notebook(monkeypatch: pytest.MonkeyPatch, provide: Callable[[str], Any]) -> None:
    """A dbutils as Databricks' notebooks have it."""
    credentials = types.SimpleNamespace(getServiceCredentialsProvider=provide)
    from bayou import _tokens

    monkeypatch.setattr(_tokens, "_dbutils", lambda: types.SimpleNamespace(credentials=credentials))


def test_a_service_credential_opens_event_hubs_and_msk(sent: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Azure:
        def get_token(self, scope: str) -> Any:
            asked.append(scope)
            return types.SimpleNamespace(token="azure-token", expires_on=2_000_000_000)

    class Amazon:
        def get_credentials(self) -> Any:
            from botocore.credentials import Credentials

            return Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "session")

    in_a_notebook(monkeypatch, lambda name: {"hubs": Azure(), "msk": Amazon()}[name])
    bayou.connect("ns.servicebus.windows.net:9093", service_credential="hubs")
    target, tokens = sent[-1]
    assert target["sasl.mechanism"] == "OAUTHBEARER" and tokens() == ("azure-token", "bayou", 2_000_000_000_000)
    assert asked == ["https://ns.servicebus.windows.net/.default"]
    bayou.connect({"bootstrap.servers": "b-1.x.c2.kafka.us-east-1.amazonaws.com:9098"}, service_credential="msk")
    value, _, _ = sent[-1][1]()
    url = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode()
    assert "us-east-1" in url and "X-Amz-Security-Token=session" in url
    with pytest.raises(bayou.ConfigError, match="address of neither"):
        bayou.connect("kafka.example.com:9092", service_credential="hubs")
    monkeypatch.undo()
    with pytest.raises(bayou.ConfigError, match="needs a notebook or job of Databricks"):
        bayou.connect("ns.servicebus.windows.net:9093", service_credential="hubs")
