"""Looking after a cluster: brokers, settings, partitions, offsets, groups and ACLs, compared with confluent-kafka and Kafka's own tools."""

from __future__ import annotations

import contextlib
import pathlib
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import bayou
import confluent_kafka
import pytest
from confluent_kafka import admin as kadmin

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "kafka"))
from secured import Secured, kafka_tool

Topic = Callable[..., str]


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    with Secured() as server:
        yield server


@pytest.fixture(scope="module")
def root(secured: Secured) -> bayou.Connection:
    """Connected as the super user."""
    return bayou.connect(secured.plain)


def rows(table: bayou.Table) -> list[dict[str, Any]]:
    return table.to_dicts()


def send(address: str, topic: str, count: int, partition: int = 0, at: int = 0) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": address})
    for i in range(count):
        producer.produce(topic, str(i).encode(), partition=partition, timestamp=at + i)
    assert producer.flush(30) == 0


@contextlib.contextmanager
def member(address: str, group: str, topic: str, **more: object) -> Iterator[confluent_kafka.Consumer]:
    """A consumer of a group that has read and committed everything, and stays."""
    settings = {
        "bootstrap.servers": address,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "client.id": "other",
        "session.timeout.ms": 6000,
    }
    consumer = confluent_kafka.Consumer({**settings, **{k.replace("_", "."): v for k, v in more.items()}})
    consumer.subscribe([topic])
    try:
        yield consumer
    finally:
        consumer.close()


def read(consumer: confluent_kafka.Consumer, count: int) -> list[confluent_kafka.Message]:
    out: list[confluent_kafka.Message] = []
    deadline = datetime.now(timezone.utc) + timedelta(seconds=60)
    while len(out) < count and datetime.now(timezone.utc) < deadline:
        out += [m for m in consumer.consume(count - len(out), 1.0) if m.error() is None]
    assert len(out) == count
    return out


def test_the_cluster_shows_its_brokers(root: bayou.Connection, secured: Secured) -> None:
    [broker] = rows(root.cluster())
    assert broker == {
        "broker": 1,
        "host": "localhost",
        "port": secured.ports["OPEN"],
        "rack": "rack-a",
        "is_controller": True,
        "version": "4.3",
    }
    over_tls = bayou.connect(secured.properties("TLS"))
    [other] = rows(over_tls.cluster())
    assert other["port"] == secured.ports["TLS"] and other["version"] is None


def test_settings_are_shown_changed_and_set_back(kafka: bayou.Connection, topic: Topic) -> None:
    t = topic()
    kafka.alter_config(t, {"retention.ms": 3_600_000, "cleanup.policy": "compact"})
    found = {r["name"]: r for r in rows(kafka.describe_config(t))}
    assert found["retention.ms"]["value"] == "3600000" and not found["retention.ms"]["is_default"]
    assert found["retention.ms"]["source"] == "topic" and found["max.message.bytes"]["is_default"]
    kafka.alter_config(t, {"cleanup.policy": None})
    found = {r["name"]: r for r in rows(kafka.describe_config(t))}
    assert found["cleanup.policy"]["value"] == "delete", "one setting was set back"
    assert found["retention.ms"]["value"] == "3600000", "the other stays"
    assert kafka.describe_topic(t)["config"] == {"retention.ms": "3600000"}
    with pytest.raises(bayou.ConfigError, match=r"retention\.msec.*Did you mean 'retention\.ms'"):
        kafka.alter_config(t, {"retention.msec": 1})
    with pytest.raises(bayou.ConfigError, match=r"(?i)invalid value.*retention\.ms"):
        kafka.alter_config(t, {"retention.ms": "soon"})
    with pytest.raises(bayou.TopicError, match="does not exist"):
        kafka.describe_config("nowhere")
    broker = {r["name"]: r for r in rows(kafka.describe_config(broker=1))}
    assert broker["node.id"]["value"] == "1" and broker["node.id"]["is_read_only"]
    hidden = broker["listener.name.sasl_ssl.ssl.keystore.password"]
    assert hidden["is_sensitive"] and hidden["value"] is None
    with pytest.raises(bayou.ConfigError, match="no broker 7"):
        kafka.describe_config(broker=7)


def test_partitions_are_added_and_never_taken_away(kafka: bayou.Connection, topic: Topic) -> None:
    t = topic(2)
    kafka.create_partitions(t, 5)
    kafka.create_partitions(t, 5)
    assert len(kafka.describe_topic(t)["partitions"]) == 5
    with pytest.raises(bayou.TopicError, match="has 5 partitions"):
        kafka.create_partitions(t, 3)


def test_offsets_are_looked_up_by_place_and_time(kafka: bayou.Connection, topic: Topic, address: str) -> None:
    t, base = topic(2), 1_700_000_000_000
    send(address, t, 10, partition=0, at=base)
    send(address, t, 3, partition=1, at=base + 5)
    assert [r["offset"] for r in rows(kafka.offsets(t))] == [10, 3]
    assert [r["offset"] for r in rows(kafka.offsets([t], at="earliest"))] == [0, 0]
    at = datetime.fromtimestamp(base / 1000, timezone.utc) + timedelta(milliseconds=6)
    assert [r["offset"] for r in rows(kafka.offsets(t, at=at))] == [6, 1]
    assert rows(kafka.offsets(t, at={t: {1: -2}})) == [{"topic": t, "partition": 1, "offset": 0}]
    assert rows(kafka.offsets(t, at={t: {1: at}})) == [{"topic": t, "partition": 1, "offset": 1}]
    kafka.reset_group(f"g-{uuid.uuid4().hex[:8]}", t, to="earliest", confirm=True)
    names = kafka.topics(internal=True).column("topic")
    assert t in names and [n for n in names if n.startswith("__")], names
    assert not [n for n in kafka.topics().column("topic") if n.startswith("__")]


def test_old_messages_are_deleted_only_when_confirmed(kafka: bayou.Connection, topic: Topic, address: str) -> None:
    t = topic(2)
    send(address, t, 10, partition=0)
    send(address, t, 10, partition=1)
    with pytest.raises(bayou.ConfigError, match=r"up to 4 messages.*confirm=True"):
        kafka.delete_records(t, {0: 4})
    assert rows(kafka.offsets(t, at="earliest"))[0]["offset"] == 0
    assert rows(kafka.delete_records(t, {0: 4}, confirm=True)) == [{"topic": t, "partition": 0, "earliest": 4}]
    assert [r["offset"] for r in rows(kafka.offsets(t, at="earliest"))] == [4, 0]
    with pytest.raises(bayou.ConfigError, match=r"ends at 10"):
        kafka.delete_records(t, {0: 11}, confirm=True)
    other, now = topic(2), datetime.now(timezone.utc)
    with pytest.raises(bayou.ConfigError, match="names the topic"):
        kafka.delete_records(t, {other: {0: now}}, confirm=True)
    kafka.delete_records(t, "latest", confirm=True)
    assert [r["offset"] for r in rows(kafka.offsets(t, at="earliest"))] == [10, 10]


def test_groups_of_other_clients_are_seen_with_their_lag(kafka: bayou.Connection, topic: Topic, address: str) -> None:
    t, group = topic(2), f"g-{uuid.uuid4().hex[:8]}"
    send(address, t, 10, partition=0)
    with member(address, group, t, group_instance_id="desk") as consumer:
        assert len(read(consumer, 10)) == 10
        consumer.commit(asynchronous=False)
        send(address, t, 4, partition=0)
        [found] = [r for r in rows(kafka.consumer_groups()) if r["group"] == group]
        assert found == {"group": group, "state": "Stable", "type": "Classic", "members": 1}
        [one] = rows(kafka.describe_group(group))
        assert (one["client_id"], one["instance_id"], one["coordinator"]) == ("other", "desk", 1)
        assert one["partitions"] == [f"{t}[0]", f"{t}[1]"] and one["host"] == "127.0.0.1" and one["assignor"] == "range"
        lag = {r["partition"]: r for r in rows(kafka.lag(group))}
        assert (lag[0]["position"], lag[0]["latest"], lag[0]["lag"], lag[0]["client_id"]) == (10, 14, 4, "other")
        assert lag[1]["position"] in (None, 0) and lag[1]["client_id"] == "other"
        with pytest.raises(bayou.ConfigError, match="has members that read now"):
            kafka.reset_group(group, to="earliest", confirm=True)
        with pytest.raises(bayou.ConfigError, match="has members that read now"):
            kafka.delete_group(group, confirm=True)
    # A static member does not leave: its session ends.
    deadline = datetime.now(timezone.utc) + timedelta(seconds=60)
    while [r["state"] for r in rows(kafka.consumer_groups()) if r["group"] == group] != ["Empty"]:
        assert datetime.now(timezone.utc) < deadline
    assert rows(kafka.describe_group(group)) == []


def test_a_group_is_moved_and_its_members_go_on_there(kafka: bayou.Connection, topic: Topic, address: str) -> None:
    t, group, base = topic(), f"g-{uuid.uuid4().hex[:8]}", 1_700_000_000_000
    send(address, t, 20, at=base)
    with member(address, group, t) as consumer:
        read(consumer, 20)
        consumer.commit(asynchronous=False)
    place = {"topic": t, "partition": 0}
    assert rows(kafka.group_offsets(group)) == [{**place, "offset": 20}]
    with pytest.raises(bayou.ConfigError, match=rf"{t}\[0\] from 20 to 0.*confirm=True"):
        kafka.reset_group(group, to="earliest")
    assert rows(kafka.group_offsets(group)) == [{**place, "offset": 20}]
    assert rows(kafka.reset_group(group, to={t: {0: 15}}, confirm=True)) == [{**place, "before": 20, "after": 15}]
    with member(address, group, t) as consumer:
        assert [m.offset() for m in read(consumer, 5)] == [15, 16, 17, 18, 19]
    at = datetime.fromtimestamp(base / 1000, timezone.utc) + timedelta(milliseconds=7)
    assert rows(kafka.reset_group(group, t, to=at, confirm=True))[0]["after"] == 7
    assert rows(kafka.reset_group(group, to="latest", confirm=True))[0]["after"] == 20
    with pytest.raises(bayou.ConfigError, match="ends at 20"):
        kafka.reset_group(group, to={t: {0: 21}}, confirm=True)
    new = f"{group}-new"
    with pytest.raises(bayou.ConfigError, match=rf"'{new}' does not exist.*Did you mean '{group}'"):
        kafka.reset_group(new, to="earliest", confirm=True)
    assert rows(kafka.reset_group(new, t, to="earliest", confirm=True)) == [{**place, "before": None, "after": 0}]
    with pytest.raises(bayou.ConfigError, match=r"offsets of 1 partitions.*confirm=True"):
        kafka.delete_group(group)
    kafka.delete_group(group, confirm=True)
    with pytest.raises(bayou.ConfigError, match="does not exist"):
        kafka.delete_group(group, confirm=True)
    with pytest.raises(bayou.ConfigError, match="does not exist"):
        kafka.describe_group(group)


def test_a_querys_position_is_published_for_lag_tools(
    kafka: bayou.Connection, topic: Topic, address: str, tmp_path: Any
) -> None:
    t, group = topic(2), f"g-{uuid.uuid4().hex[:8]}"
    kafka.produce(t, [{"a": i} for i in range(50)])
    stream = kafka.read_stream(t, schema="a INT", max_offsets_per_trigger=20)
    query = stream.write_delta(tmp_path / "t", commit_to_group=group, progress=False)
    committed = {r["partition"]: r["offset"] for r in rows(kafka.group_offsets(group))}
    assert sum(committed.values()) == 50 and not query.warnings
    assert [r["lag"] for r in rows(kafka.lag(group))] == [0, 0]
    kafka.produce(t, [{"a": i} for i in range(7)])
    assert sum(r["lag"] for r in rows(kafka.lag(query))) == 7
    # The published position is never read back.
    kafka.reset_group(group, to="earliest", confirm=True)
    again = stream.write_delta(tmp_path / "t", commit_to_group=group, progress=False)
    assert again.last_progress["numInputRows"] == 7
    assert sum(r["lag"] for r in rows(kafka.lag(group))) == 0
    # A group that cannot take the position causes a warning, and nothing else.
    kafka.produce(t, [{"a": 1}])
    with member(address, group, t) as consumer:
        read(consumer, 1)
        third = stream.write_delta(tmp_path / "t", commit_to_group=group, progress=False)
    assert third.last_progress["numInputRows"] == 1
    assert any(f"not published to the group '{group}'" in w for w in third.warnings), third.warnings


def test_acls_are_listed_added_and_removed_as_kafkas_own_tool_sees_them(
    root: bayou.Connection, secured: Secured
) -> None:
    alice = bayou.connect(secured.properties("SASL", "alice"), allow_plaintext_password=True)
    root.create_topic("ledger", exist_ok=True)
    root.produce("ledger", [{"a": 1}], progress=False)
    with pytest.raises(bayou.AclError, match="no DESCRIBE permission") as unseen:
        alice.peek("ledger")
    assert "create_topic" not in str(unseen.value)
    added = root.add_acl("User:alice", ["read", "describe"], topic="ledger")
    assert [r["operation"] for r in rows(added)] == ["READ", "DESCRIBE"]
    assert alice.read_stream("ledger", schema="a INT").collect().to_dicts() == [{"a": 1}]
    root.add_acl("User:alice", "WRITE", topic="led", pattern="prefixed")
    alice.produce("ledger", [{"a": 2}], progress=False)
    found = rows(root.acls(topic="ledger", principal="User:alice"))
    assert [(r["operation"], r["resource"], r["pattern"]) for r in found] == [
        ("DESCRIBE", "ledger", "LITERAL"),
        ("READ", "ledger", "LITERAL"),
        ("WRITE", "led", "PREFIXED"),
    ]
    shown = kafka_tool(secured, "org.apache.kafka.tools.AclCommand", "--bootstrap-server", secured.plain, "--list")
    assert shown.count("principal=User:alice") == 3
    with pytest.raises(bayou.AclError, match="DESCRIBE on the cluster"):
        alice.acls()
    with pytest.raises(bayou.AclError, match="ALTER on the cluster"):
        alice.add_acl("User:alice", "ALL", topic="*")
    with pytest.raises(bayou.ConfigError, match=r"removes 3 ACLs: .*ALLOW User:alice.*confirm=True"):
        root.remove_acl("User:alice")
    assert len(rows(root.remove_acl("User:alice", "READ", topic="ledger", confirm=True))) == 1
    assert len(rows(root.remove_acl("User:alice", confirm=True))) == 2
    assert rows(root.acls(principal="User:alice")) == []
    for kind in ({"group": "g"}, {"transactional_id": "t"}, {"cluster": True}):
        [acl] = rows(root.add_acl("User:bob", "DESCRIBE", **kind, permission="deny", host="10.0.0.1"))  # type: ignore[arg-type]
        assert (acl["permission"], acl["host"]) == ("DENY", "10.0.0.1")
        assert rows(root.acls(principal="User:bob", **kind)) == [acl]  # type: ignore[arg-type]
    assert {r["resource_type"] for r in rows(root.acls(principal="User:bob"))} == {
        "GROUP",
        "TRANSACTIONAL_ID",
        "CLUSTER",
    }
    root.remove_acl("User:bob", confirm=True)


def test_wrong_words_of_acls_are_told_before_anything_is_sent(root: bayou.Connection, kafka: bayou.Connection) -> None:
    with pytest.raises(bayou.ConfigError, match="REED.*Did you mean 'READ'"):
        root.add_acl("User:alice", "REED", topic="t")
    with pytest.raises(bayou.ConfigError, match="User:alice"):
        root.add_acl("alice", "READ", topic="t")
    with pytest.raises(bayou.ConfigError, match="what the ACL is about"):
        root.add_acl("User:alice", "READ")
    with pytest.raises(bayou.ConfigError, match="one of topic="):
        root.add_acl("User:alice", "READ", topic="t", group="g")
    with pytest.raises(bayou.ConfigError, match="every ACL"):
        root.remove_acl(confirm=True)
    with pytest.raises(bayou.ConfigError, match="no authorizer"):
        kafka.acls()


def test_what_credentials_may_not_do_names_the_right_that_is_missing(secured: Secured, root: bayou.Connection) -> None:
    bob = bayou.connect(secured.properties("SASL", "bob"), allow_plaintext_password=True)
    root.create_topic("vault", exist_ok=True)
    root.add_acl("User:bob", "DESCRIBE", topic="vault")
    for call, right in [
        (lambda: bob.describe_config("vault"), "DESCRIBE_CONFIGS"),
        (lambda: bob.describe_config(broker=1), "DESCRIBE_CONFIGS"),
        (lambda: bob.describe_group("g"), "DESCRIBE"),
        (lambda: bob.reset_group("g", "vault", to="earliest", confirm=True), "READ"),
        (lambda: bob.create_partitions("vault", 9), "(?i)authorization"),
        (lambda: bob.delete_records("vault", "latest", confirm=True), "(?i)authorization"),
    ]:
        with pytest.raises(bayou.AclError, match=right):
            call()
    root.remove_acl("User:bob", confirm=True)


def test_the_embedded_broker_says_what_it_does_not_have(broker: bayou.Connection) -> None:
    broker.create_topic("t")
    assert rows(broker.offsets("t")) == [{"topic": "t", "partition": 0, "offset": 0}]
    for call in (
        broker.cluster,
        broker.consumer_groups,
        broker.acls,
        lambda: broker.describe_config("t"),
        lambda: broker.create_partitions("t", 2),
        lambda: broker.delete_records("t", "latest", confirm=True),
        lambda: broker.lag("g"),
    ):
        with pytest.raises(bayou.ConfigError, match="embedded broker"):
            call()
    with pytest.raises(bayou.ConfigError, match="embedded broker"):
        broker.read_stream("t", format="raw").write_delta("never", commit_to_group="g", progress=False)


def test_kafka_admin_of_another_client_agrees(kafka: bayou.Connection, topic: Topic, address: str) -> None:
    t = topic(3)
    client = kadmin.AdminClient({"bootstrap.servers": address})
    [wanted] = client.describe_configs([kadmin.ConfigResource(kadmin.ConfigResource.Type.TOPIC, t)]).values()
    theirs = {n: e.value for n, e in wanted.result(10).items()}
    ours = {r["name"]: r["value"] for r in rows(kafka.describe_config(t))}
    assert ours == theirs
