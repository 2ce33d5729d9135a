"""`storage_options=` as a function: credentials that expire, and functions that fail."""

from __future__ import annotations

import itertools
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import bayou
import pyarrow as pa
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "s3"))
from stub import BUCKET, Stub, stub

TARGET = f"s3://{BUCKET}/t"


@pytest.fixture
def store() -> Iterator[Stub]:
    with stub() as made:
        made.accepts = {}
        yield made


class Provider:
    """Gives tokens with this life, and registers them at the store."""

    def __init__(self, store: Stub, life: float, says: bool = True) -> None:
        self.store, self.life, self.says = store, life, says
        self.numbers = itertools.count()
        self.threads: set[str] = set()
        self.asked = 0

    def __call__(self) -> dict[str, Any]:
        self.asked += 1
        self.threads.add(threading.current_thread().name)
        token = f"token-number-{next(self.numbers)}"
        assert self.store.accepts is not None
        self.store.accepts[token] = time.time() + self.life
        options: dict[str, Any] = {**self.store.options, "aws_session_token": token}
        if self.says:
            options["expires_at"] = datetime.now(UTC) + timedelta(seconds=self.life)
        return options


def publish(kafka: bayou.Connection, count: int) -> bayou.Stream:
    kafka.create_topic("t", partitions=1)
    kafka.produce("t", pa.table({"i": list(range(count))}), progress=False)
    return kafka.read_stream("t", schema="i INT", max_offsets_per_trigger=1, starting_offsets="earliest")


def under_way(store: Stub, request: Any) -> bool:
    """Whether the token ended while the request was under way: on a busy machine a request takes its time."""
    return 0 <= request.at - (store.accepts or {}).get(request.who, 0) < 0.5


def refused(store: Stub) -> list[Any]:
    return [r for r in store.requests if r.status in (401, 403) and not under_way(store, r)]


def test_credentials_of_one_second_are_renewed_under_a_running_query(store: Stub, broker: bayou.Connection) -> None:
    raw = publish(broker, 30)
    provider = Provider(store, 1.0)
    store.latency = 0.03
    raw.write_delta(TARGET, storage_options=provider, progress=False)
    assert provider.asked >= 4
    # No call goes out with a token that is known to be expired, unless it was under way.
    assert not refused(store), refused(store)[:3]
    rows = bayou.read_delta(TARGET, storage_options=provider)
    assert sorted(pa.table(rows).to_pydict()["i"]) == list(range(30))
    counted = bayou.sql("SELECT count(*) AS n FROM t", t=TARGET, storage_options=provider)
    assert pa.table(counted).to_pydict()["n"] == [30]


def test_without_expires_at_a_refused_token_is_renewed_once(store: Stub, broker: bayou.Connection) -> None:
    raw = publish(broker, 40)
    provider = Provider(store, 1.5, says=False)
    store.latency = 0.03
    raw.write_delta(TARGET, storage_options=provider, progress=False)
    assert provider.asked >= 2
    assert [r for r in store.requests if r.status == 403]
    rows = bayou.read_delta(TARGET, storage_options=provider)
    assert sorted(pa.table(rows).to_pydict()["i"]) == list(range(40))


def test_a_static_join_reads_with_renewed_credentials(store: Stub, broker: bayou.Connection) -> None:
    provider = Provider(store, 1.0)
    raw = publish(broker, 10)
    raw.write_delta(TARGET, storage_options=provider, progress=False)
    store.latency = 0.03
    joined = raw.join(TARGET, on="i", storage_options=provider)
    joined.write_delta(f"s3://{BUCKET}/joined", storage_options=provider, progress=False)
    assert not refused(store), refused(store)[:3]
    assert len(bayou.read_delta(f"s3://{BUCKET}/joined", storage_options=provider)) == 10


def raises() -> Mapping[str, object]:
    raise RuntimeError("the vault is closed")


NAIVE = datetime(2999, 1, 1)
BROKEN: list[tuple[Callable[[], Any], str]] = [
    (raises, "RuntimeError: the vault is closed"),
    (lambda: None, "it returned NoneType, and must return a dict"),
    (lambda: ["a"], "it returned list|not a dict"),
    (lambda: {1: "a"}, "names that are not strings"),
    (lambda: {"expires_at": NAIVE}, "time zone"),
    (lambda: {"expires_at": "tomorrow"}, "time zone"),
    (lambda: {"expires_at": datetime(2000, 1, 1, tzinfo=UTC)}, "expired already"),
]


@pytest.mark.parametrize(("function", "said"), BROKEN)
def test_a_function_that_fails_is_an_auth_error_that_says_why(
    function: Callable[[], Any], said: str, broker: bayou.Connection
) -> None:
    raw = publish(broker, 1)
    with pytest.raises(bayou.AuthError, match=said):
        raw.write_delta(TARGET, storage_options=function, progress=False)
    with pytest.raises(bayou.AuthError, match=said):
        bayou.read_delta(TARGET, storage_options=function)


def test_a_token_that_stays_refused_is_an_auth_error_and_no_secret_shows(
    store: Stub, broker: bayou.Connection, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = publish(broker, 1)

    def provider() -> dict[str, object]:
        return {**store.options, "aws_session_token": "token-that-nobody-knows"}

    lake = bayou.Pipeline("p", f"s3://{BUCKET}/l", storage_options=provider)
    lake.table("t", raw)
    with pytest.raises(bayou.AuthError) as e:
        lake.run(progress=False)
    shown = f"{e.value!r} {e.value} {lake!r} {''.join(capfd.readouterr())}"
    assert "token-that-nobody-knows" not in shown
    assert "test-secret-sesame" not in shown


def test_no_credentials_are_in_the_checkpoint(store: Stub, broker: bayou.Connection) -> None:
    provider = Provider(store, 60)
    publish(broker, 3).write_delta(TARGET, storage_options=provider, progress=False)
    for name in store.names():
        content = store.objects[name].content
        assert b"token-number" not in content, name
        assert b"test-secret" not in content, name


def test_a_token_for_google_storage_is_renewed(store: Stub, broker: bayou.Connection) -> None:
    numbers = itertools.count()

    def provider() -> dict[str, object]:
        token = f"token-number-{next(numbers)}"
        assert store.accepts is not None
        store.accepts[token] = time.time() + 1
        at = datetime.now(UTC) + timedelta(seconds=1)
        return {"google_base_url": store.endpoint, "allow_http": "true", "google_bearer_token": token, "expires_at": at}

    raw = publish(broker, 20)
    store.latency = 0.03
    raw.write_delta(f"gs://{BUCKET}/t", storage_options=provider, progress=False)
    assert next(numbers) >= 3
    assert not refused(store), refused(store)[:3]
    assert len(bayou.read_delta(f"gs://{BUCKET}/t", storage_options=provider)) == 20


def test_later_pages_of_a_listing_come_with_renewed_credentials(store: Stub, broker: bayou.Connection) -> None:
    raw = publish(broker, 1)
    provider = Provider(store, 1.0)
    for n in range(40):
        store.put(f"t/notes-{n}.txt", b"of somebody else")
    # A new table is created only in a folder without Parquet files. So the folder is listed, here in 40 requests.
    store.page, store.latency = 1, 0.06
    raw.write_delta(TARGET, storage_options=provider, checkpoint_location=f"s3://{BUCKET}/c", progress=False)
    pages = [r for r in store.requests if r.kind == "LIST" and r.name == "t/"]
    assert len(pages) >= 40 and len({r.who for r in pages}) >= 3
    assert not refused(store), refused(store)[:3]


def test_what_the_credentials_do_not_allow_is_not_taken_for_their_end(store: Stub, broker: bayou.Connection) -> None:
    raw = publish(broker, 1)
    provider = Provider(store, 60, says=False)
    raw.write_delta(TARGET, storage_options=provider, progress=False)
    assert provider.asked == 1
    # The store says AccessDenied: newer credentials would not be allowed more.
    store.scopes = {f"token-number-{n}": ("elsewhere", True) for n in (1, 2)}
    other = Provider(store, 60, says=False)
    next(other.numbers)
    for _ in range(2):
        with pytest.raises(bayou.AuthError, match="AccessDenied"):
            bayou.read_delta(TARGET, storage_options=other)
        time.sleep(1.1)  # younger credentials are not renewed in any case
    assert other.asked == 2, "one for each call, and none for a refusal"


def test_the_stores_own_error_is_kept_when_newer_credentials_do_not_help(store: Stub, broker: bayou.Connection) -> None:
    raw = publish(broker, 3)
    asked = []

    def provider() -> dict[str, Any]:
        asked.append(1)
        token = f"token-number-{len(asked)}"
        assert store.accepts is not None
        # The first token is valid for a moment, and the later tokens never are.
        store.accepts[token] = time.time() + (1.3 if len(asked) == 1 else -1)
        return {**store.options, "aws_session_token": token}

    query = raw.write_delta(TARGET, storage_options=provider, trigger="0 seconds", block=False, progress=False)
    until = time.monotonic() + 30
    while query.is_active and time.monotonic() < until:
        broker.produce("t", pa.table({"i": [0]}), progress=False)
        time.sleep(0.2)
    error = query.exception()
    assert isinstance(error, bayou.AuthError) and "ExpiredToken" in str(error)
    # One renewal for the refusal; the heartbeat and the next calls know that the renewal did not help.
    assert len(asked) <= 3, len(asked)

    def fails_later() -> dict[str, Any]:
        if asked:
            raise RuntimeError("the vault is closed")
        return provider()

    asked.clear()
    with pytest.raises(bayou.AuthError) as e:
        lake = bayou.Pipeline("p", f"s3://{BUCKET}/l", storage_options=fails_later)
        lake.table("t", raw)
        store.latency = 0.15
        lake.run(progress=False)
    assert "the vault is closed" in str(e.value) and "ExpiredToken" in str(e.value)


def test_credentials_come_whole_from_one_place(
    store: Stub, broker: bayou.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session token of the environment does not belong to keys that are given."""
    assert store.accepts is not None
    store.accepts["test-key"] = float("inf")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-another-login")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-another-key")
    publish(broker, 3).write_delta(TARGET, storage_options=store.options, progress=False)
    assert len(bayou.read_delta(TARGET, storage_options=store.options)) == 3
    assert {r.who for r in store.requests} == {"test-key"}
