"""Servers that speak Kafka's protocol and are not Apache Kafka: one like Azure Event Hubs, behind a gate."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator

import bayou
import deltalake
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "kafka"))
from gate import EVENT_HUBS, Gate
from secured import Secured
from server import free_ports


@pytest.fixture(scope="module")
def gate() -> Iterator[Gate]:
    [port] = free_ports(1)
    with Secured(gate=port) as secured, Gate(port, ("127.0.0.1", secured.ports["GATED"]), EVENT_HUBS, 100) as gate:
        bayou.connect(secured.plain).create_topic("hub", partitions=2)
        yield gate


@pytest.fixture(scope="module")
def kafka(gate: Gate) -> bayou.Connection:
    return bayou.connect(f"localhost:{gate.listener.getsockname()[1]}")


def test_tables_are_exact_without_topic_ids_and_under_throttling(
    kafka: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    assert kafka.topics().column("topic") == ["hub"] and kafka.describe_topic("hub")["id"] is None
    raw = kafka.read_stream("hub", schema="a INT", max_offsets_per_trigger=500)
    sent = 0
    for _ in range(3):
        report = kafka.produce("hub", [{"a": i} for i in range(sent, sent + 1000)], key="a", progress=False)
        assert report.delivered == 1000
        sent += 1000
        raw.write_delta(tmp_path / "t", progress=False)
    found = deltalake.DeltaTable(str(tmp_path / "t")).to_pyarrow_table().column("a").to_pylist()
    assert sorted(found) == list(range(sent))
    assert [n for b in raw.batches(group_id="g") for n in b.column("a")].__len__() == sent


def test_what_the_server_does_not_offer_is_told(kafka: bayou.Connection) -> None:
    for call in (kafka.acls, lambda: kafka.create_partitions("hub", 3)):
        with pytest.raises(bayou.ConfigError, match=r"(?i)not supported|unsupported|not support"):
            call()
