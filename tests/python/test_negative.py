"""Clusters that refuse: the right exception, the setting and the remedy, in time, the same each time, and never a secret."""

from __future__ import annotations

import pathlib
import sys
import time
from collections.abc import Iterator

import bayou
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "kafka"))
sys.path.insert(0, str(pathlib.Path(__file__).parent))
from negative import CASES, Case, Place, at_a_secured_broker, check, collect, send
from secured import kafka_tool


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with at_a_secured_broker(tmp_path_factory.mktemp("negative")) as place:
        yield place


@pytest.mark.parametrize("case", [c for c in CASES if c.quick], ids=lambda c: c.name)
def test_a_refusal_names_the_setting_and_the_remedy(case: Case, place: Place, caplog: pytest.LogCaptureFixture) -> None:
    check(case, place, caplog)


def test_rights_that_change_end_a_running_query_or_let_it_go_on(place: Place, tmp_path: pathlib.Path) -> None:
    place.root.remove_acl("User:bob", confirm=True)
    place.root.add_acl("User:bob", ["READ", "WRITE"], topic="case")
    bob = place.connect("SASL", "bob")
    query = bob.read_stream("case", schema="a INT").write_delta(
        tmp_path / "t", trigger="0 seconds", block=False, progress=False
    )
    deadline = time.monotonic() + 30
    while query.last_progress is None:
        assert time.monotonic() < deadline and query.is_active
        time.sleep(0.05)
    assert not query.warnings, "without a right on groups, a query has nothing to warn about"
    place.root.remove_acl("User:bob", "READ", confirm=True)
    place.root.produce("case", [{"a": 2}], progress=False)
    while query.is_active:
        assert time.monotonic() < deadline + 30
        time.sleep(0.05)
    assert isinstance(query.exception(), bayou.AclError)
    # When the user has the right again, the next run continues, exactly.
    place.root.add_acl("User:bob", "READ", topic="case")
    again = bob.read_stream("case", schema="a INT").write_delta(tmp_path / "t", progress=False)
    rows = len(collect(place.root))
    assert again.status == "finished" and len(bayou.read_delta(tmp_path / "t")) == rows


def test_a_quota_slows_down_and_ends_nothing(place: Place, tmp_path: pathlib.Path) -> None:
    def quota(*what: str) -> None:
        kafka_tool(
            place.secured, "kafka.admin.ConfigCommand", "--bootstrap-server", place.secured.plain, "--alter", *what,
            "--entity-type", "users", "--entity-name", "alice",
        )  # fmt: skip

    place.root.add_acl("User:alice", ["READ", "WRITE"], topic="case")
    alice = place.connect("SASL", "alice")
    quota("--add-config", "consumer_byte_rate=30000,producer_byte_rate=30000")
    try:
        rows = [{"a": i, "pad": "x" * 1000} for i in range(60)]
        report = alice.produce("case", rows, compression="none", progress=False)
        assert report.delivered == 60
        query = alice.read_stream("case", schema="a INT").write_delta(tmp_path / "q", progress=False)
        assert query.status == "finished" and len(bayou.read_delta(tmp_path / "q")) == len(collect(place.root))
    finally:
        quota("--delete-config", "consumer_byte_rate,producer_byte_rate")


def test_what_is_right_is_not_refused(place: Place) -> None:
    for listener, mechanism in [
        ("TLS", ""),
        ("SASL_TLS", "PLAIN"),
        ("SASL_TLS", "SCRAM-SHA-256"),
        ("SASL_TLS", "scram-sha-512"),
        ("SASL", "SCRAM-SHA-512"),
    ]:
        kafka = place.connect(listener, "admin", mechanism)
        send(kafka)
        assert collect(kafka)
    pem, key = place.secured.ca.issue("client", password="hunter2hunter2")
    mutual = place.connect(
        "MUTUAL",
        ssl_certificate_location=str(pem),
        ssl_key_location=str(key),
        ssl_key_password=lambda: "hunter2hunter2",
    )
    assert send(mutual).delivered == 1


def test_a_changed_certificate_is_taken_up_by_the_next_client_and_its_refusal_ends_bounded_runs(
    place: Place, tmp_path: pathlib.Path
) -> None:
    good, stranger = place.secured.ca.issue("client"), place.secured.other_ca.issue("stranger-2")
    pem, key = tmp_path / "client.pem", tmp_path / "client.key"

    def install(files: tuple[pathlib.Path, pathlib.Path]) -> None:
        pem.write_bytes(files[0].read_bytes())
        key.write_bytes(files[1].read_bytes())

    install(good)
    mutual = place.connect("MUTUAL", ssl_certificate_location=str(pem), ssl_key_location=str(key))
    rows = len(collect(mutual))
    install(stranger)
    began = time.monotonic()
    with pytest.raises(bayou.AuthError, match=r"ssl\.certificate\.location"):
        collect(mutual)
    with pytest.raises(bayou.AuthError, match=r"ssl\.certificate\.location"):
        send(mutual)
    assert time.monotonic() - began < 150, "promised: 15 seconds each"
    install(good)
    assert send(mutual).delivered == 1 and len(collect(mutual)) == rows + 1


def test_secrets_are_found_nowhere(place: Place, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    import logging
    import pickle

    with caplog.at_level(logging.DEBUG):
        password = place.secured.passwords["alice"]
        place.root.add_acl("User:alice", ["READ", "WRITE"], topic="case")
        kafka = bayou.connect(
            {
                **place.secured.properties("SASL_TLS", "alice", "SCRAM-SHA-512", sasl_password=lambda: password),
                "debug": "all",
            }
        )
        query = kafka.read_stream("case", schema="a INT").write_delta(tmp_path / "t", progress=False)
        send(kafka, transaction=False)
        shown = [repr(kafka), str(kafka), kafka._repr_html_(), repr(query), query.to_json(), str(query.last_progress)]
        with pytest.raises(Exception) as raised:
            pickle.dumps(kafka)
        shown.append(str(raised.value))
    texts = [*shown, caplog.text]
    texts += [p.read_bytes().decode("latin-1") for p in tmp_path.rglob("*") if p.is_file()]
    assert "SASL" in caplog.text, "librdkafka's own debug log is there"
    for text in texts:
        assert password not in text
