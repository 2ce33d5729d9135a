"""The memory of a run is bounded in bytes: of a message, of an epoch, of waiting rows."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import bayou
import memory
import pytest
from confluent_kafka import Producer


def quarantined(table: pathlib.Path) -> list[dict]:
    rows = bayou.read_delta(f"{table}_quarantine").to_dicts()
    return sorted(rows, key=lambda row: row["offset"])


def test_a_message_that_is_too_large_is_malformed_and_stands_in_quarantine_without_what_is_too_large(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    large = "secret-payload" * 1000
    producer = Producer(broker.client_properties)
    producer.produce("t", json.dumps({"a": 1}), key=b"k")
    producer.produce("t", json.dumps({"a": 2, "s": large}), key=b"k", headers={"h": b"v"})
    producer.produce("t", json.dumps({"a": 3}), key=large.encode())
    producer.produce("t", json.dumps({"a": 4}), key=b"k", headers={"h": large.encode()})
    producer.produce("t", json.dumps({"a": 5}), key=b"k" * 10_000)
    producer.flush()

    for limit in (10_000, "10 KB"):
        stream = broker.read_stream("t", schema="a INT", max_message_bytes=limit, max_malformed=1.0)
        table = tmp_path / f"t{str(limit).replace(' ', '')}"
        query = stream.write_delta(table, progress=False)
        assert sorted(row["a"] for row in bayou.read_delta(table).to_dicts()) == [1, 5], (
            "as large as allowed is not too large"
        )
        value, key, headers = quarantined(table)
        size = len(json.dumps({"a": 2, "s": large}))
        assert value["error"] == f"the value has more bytes than max_message_bytes=10000 ({size} bytes)"
        assert (value["topic"], value["partition"], value["offset"], value["stage"]) == ("t", 0, 1, "decode")
        assert (value["value"], value["key"], [h["key"] for h in value["headers"]]) == (None, b"k", ["h"])
        assert key["error"].startswith("the key has more bytes") and key["key"] is None
        assert json.loads(key["value"]) == {"a": 3}
        assert headers["error"].startswith("the headers have more bytes")
        assert headers["headers"] is None and json.loads(headers["value"]) == {"a": 4}
        assert query.last_progress["numMalformed"] == 3

    with pytest.raises(bayou.MalformedError) as failed:
        stream.collect()
    text = str(failed.value)
    assert "t[0] offset 1: the value has more bytes" in text and str(size) in text and "raise max_message_bytes" in text
    assert "secret" not in text
    again = broker.read_stream("t", schema="a INT", max_message_bytes="1 MB")
    assert [row["a"] for row in again.collect().to_dicts()] == [1, 2, 3, 4, 5], "the advice does what it says"
    dropped = broker.read_stream("t", schema="a INT", max_message_bytes=10_000, on_malformed="drop", max_malformed=1.0)
    assert len(dropped.collect()) == 2
    raw = broker.read_stream("t", format="raw", max_message_bytes=10_000, on_malformed="drop", max_malformed=1.0)
    assert len(raw.collect()) == 2


def test_each_stream_has_its_own_limit_and_messages_at_hand_have_one(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"a": n, "s": "x" * (1000 * n)} for n in range(1, 5)], progress=False)
    lake = bayou.Pipeline("limits", tmp_path)
    for limit in (1_500, 2_500, 10_000):
        stream = broker.read_stream("t", schema="a INT", max_message_bytes=limit, max_malformed=1.0)
        lake.table(f"below_{limit}", stream)
    lake.run(progress=False)
    counts = [len(lake.read(f"below_{limit}")) for limit in (1_500, 2_500, 10_000)]
    assert counts == [1, 2, 4]
    rows = bayou.read_delta(tmp_path / "limits_quarantine").to_dicts()
    assert len(rows) == 3 + 2 and all(row["value"] is None for row in rows)

    at_hand = ['{"a": 1}', '{"a": 2, "s": "' + "x" * 2000 + '"}', b'{"a": 3}']
    with pytest.raises(bayou.MalformedError, match="offset 1: the value has more bytes than max_message_bytes=1000"):
        bayou.from_messages(at_hand, schema="a INT", max_message_bytes=1000).collect()
    found = bayou.from_messages(at_hand, schema="a INT", max_message_bytes=1000, on_malformed="drop").collect()
    assert found.column("a") == [1, 3]
    assert bayou.from_messages(at_hand, schema="a INT").collect().column("a") == [1, 2, 3]
    for wrong in (0, -1, "x", "0 MB", 0.5):
        with pytest.raises(bayou.ConfigError, match="max_message_bytes"):
            bayou.from_messages([], schema="a INT", max_message_bytes=wrong)


@pytest.mark.parametrize("way", ["append", "quarantined", "foreach", "update"])
def test_a_run_over_large_messages_takes_no_more_memory_than_its_bounds(
    way: str, address: str, large_messages: Callable[[bool], str]
) -> None:
    """A slice of what `python tests/python/memory.py` measures in each way, over 1.3 GB."""
    mb = memory.peak(way, address, large_messages(way == "malformed"), MESSAGES)
    # 700 is what is promised; pools of allocators make some of it noise.
    assert mb < 900, f"{way}: {mb:.0f} MB"


def test_a_list_beside_its_elements_takes_no_more_memory_than_the_bounds_of_a_run(address: str) -> None:
    """5.8 GB of rows out of 20 messages of 30 KB. The rows of one more message would be 40 GB: this message goes to quarantine."""
    mb = memory.peak("exploded", address, memory.lists(address), 20 * 6_000)
    assert mb < 900, f"{mb:.0f} MB"


MESSAGES = 400


@pytest.fixture(scope="module")
def large_messages(address: str) -> Callable[[bool], str]:
    made: dict[bool, str] = {}

    def make(malformed: bool) -> str:
        if malformed not in made:
            made[malformed] = f"memory-{'malformed' if malformed else 'good'}-{memory.suffix()}"
            memory.fill(address, made[malformed], MESSAGES, 860_000, malformed)
        return made[malformed]

    return make


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_what_a_small_batch_is_unpacked_to_is_not_copied_when_it_is_too_large(codec: str, address: str) -> None:
    """A message of 300 MB of one letter: a batch of 0.3 MB or so."""
    mb = memory.peak("bomb", address, memory.bomb(address, codec), 2)
    assert mb < 700, f"{codec}: {mb:.0f} MB"
