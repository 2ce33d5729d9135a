"""Kafka topics as outputs: exactly once, as seen by readers of committed messages that are not bayou's."""

from __future__ import annotations

import html
import json
import os
import pathlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import bayou
import confluent_kafka
import confluent_kafka.admin
import pytest
from topics import Lake, Message, committed, configure, content, forget, java_values, number, reader, server

Topic = Callable[..., str]


@pytest.fixture
def lake(kafka: bayou.Connection, topic: Topic, tmp_path: pathlib.Path) -> Lake:
    topics = {"rows": topic(3), "changed": topic(2), "whole": topic(2)}
    return Lake(kafka, tmp_path / "lake", topic(2), topics)


def test_rows_become_messages_as_produce_makes_them(
    kafka: bayou.Connection, topic: Topic, tmp_path: pathlib.Path
) -> None:
    source, by_sink, by_produce = topic(1), topic(5), topic(5)
    rows: list[dict[str, Any]] = [
        {"id": i, "ip": f"h{i % 40}", "at": f"2024-05-01T00:00:{i % 60:02d}Z", "h": {"from": f"h{i}", "none": None}}
        for i in range(200)
    ]
    rows[7]["ip"], rows[8]["p"], rows[9]["h"] = None, 3, None
    kafka.produce(source, rows)
    stream = kafka.read_stream(source, schema="id BIGINT, ip STRING, at TIMESTAMP, p INT, h MAP<STRING, STRING>")
    options = {"key": "ip", "headers_column": "h", "partition_column": "p", "timestamp": "at"}
    query = stream.write_kafka(by_sink, query_name="q", checkpoint_location=tmp_path, progress=False, **options)
    assert query.last_progress["sink"] == {
        "description": f"topic '{by_sink}' on {kafka.address}",
        "table": "q",
        "numOutputRows": 200,
        "metrics": {"mode": "topic:append", "numOutputRows": "200"},
    }
    assert query.last_progress["sinks"] == [query.last_progress["sink"]]
    for shown in (repr(query), query._repr_html_()):
        assert f"topic '{by_sink}' on {kafka.address}" in html.unescape(shown)
    kafka.produce(by_produce, stream.collect(), **options)
    plain = {m.value: m for m in committed(kafka.address, by_produce)}
    sent = committed(kafka.address, by_sink)
    assert len(sent) == len(plain) == 200
    for m in sent:
        other = plain[m.value]
        ours = tuple(h for h in m.headers if not h[0].startswith("bayou-"))
        assert (m.key, ours, m.timestamp) == (other.key, other.headers, other.timestamp)
        # Without a key the producer chooses the partition.
        assert m.key is None or m.partition == other.partition
        assert m.epoch == 0 and set(m.row) == {"id", "ip", "at"}
    assert {m.partition for m in sent if m.row["id"] == 8} == {3}
    assert sorted(java_values(kafka.address, by_sink)) == sorted(m.value or "" for m in sent)


POINTS = [f"{step}:rows.{when}" for step in ("staged", "send", "commit") for when in ("before", "after")] + [
    "seal.before",
    "seal.after",
    "done.before",
    "done.after",
]


def test_a_run_that_is_killed_at_any_step_sends_each_epoch_once(lake: Lake) -> None:
    for point in POINTS:
        lake.publish(120)
        lake.crash(point, 2)
    lake.publish(30)
    lake.finish()
    found = lake.check_rows()
    lake.check_upserts("changed")
    lake.check_upserts("whole")
    # An epoch that was cut off after its seal is complete: no row of it is in a different epoch.
    assert len({m.epoch for m in found}) > len(POINTS)
    assert sorted(java_values(lake.address, lake.topics["rows"])) == sorted(m.value or "" for m in found)
    epoch, by = number(lake.address, lake.group("rows"), lake.topics["rows"]) or (None, {})
    assert epoch == max(m.epoch for m in found)
    assert by["generation"] == 1 and {dict(m.headers)["bayou-query"] for m in found} == {
        f"topics/rows/{by['queryId']}".encode()
    }
    # Some of the kills left messages of transactions that were aborted.
    assert len(committed(lake.address, lake.topics["rows"], "read_uncommitted")) > len(found)


def test_kills_at_any_moment_show_a_reader_each_row_once(lake: Lake) -> None:
    seen: Counter[int] = Counter()
    stop = threading.Event()
    consumer = reader(lake.address, lake.topics["rows"])

    def read() -> None:
        while not stop.is_set():
            m = consumer.poll(0.1)
            if m is not None and not m.error():
                seen[json.loads(m.value())["id"]] += 1

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for _ in range(9):
            lake.publish(400)
            process = lake.start()
            time.sleep(lake.rng.uniform(0.1, 1.2))  # the moment of the kill
            process.kill()
            lake.end(process)
        lake.finish()
        until = time.monotonic() + 30
        while len(seen) < lake.sent and time.monotonic() < until:
            time.sleep(0.1)
    finally:
        stop.set()
        thread.join()
        consumer.close()
    assert seen == Counter(range(lake.sent))
    lake.check_rows()
    lake.check_upserts("changed")
    lake.check_upserts("whole")


def test_update_and_complete_send_tombstones_for_what_leaves_the_result(lake: Lake) -> None:
    for _ in range(4):
        lake.publish(60)
        lake.finish()
        for output in ("changed", "whole"):
            lake.check_upserts(output)
    for output in ("changed", "whole"):
        found = lake.check_upserts(output)
        assert sum(m.value is None for m in found) > 3
        # The key is the group's, as it is.
        assert all(m.key.startswith("10.0.0.") for m in found if m.key)
    # A complete result sends only the changes.
    by_key: dict[Any, Any] = {}
    for m in committed(lake.address, lake.topics["whole"]):
        assert m.key not in by_key or by_key[m.key] != m.value
        by_key[m.key] = m.value


def test_a_complete_result_that_becomes_empty_leaves_only_tombstones(
    kafka: bayou.Connection, topic: Topic, tmp_path: pathlib.Path
) -> None:
    source, out = topic(1), topic(1)
    stream = kafka.read_stream(source, schema="k STRING, n BIGINT").group_by("k").agg("sum(n) AS n").where("n > 0")

    def run() -> list[Message]:
        stream.write_kafka(out, query_name="q", checkpoint_location=tmp_path, progress=False)
        return committed(kafka.address, out)

    kafka.produce(source, [{"k": "a", "n": 1}, {"k": "b", "n": 2}, {"k": None, "n": 3}])
    assert content(run()) == {"a": {"k": "a", "n": 1}, "b": {"k": "b", "n": 2}, '{"k":null}': {"k": None, "n": 3}}
    kafka.produce(source, [{"k": "a", "n": -1}, {"k": "b", "n": -2}, {"k": None, "n": -3}])
    found = run()
    assert content(found) == {} and [m.value for m in found[-3:]] == [None] * 3
    # A key that cannot be distinguished from the key of NULL is set aside.
    kafka.produce(source, [{"k": "b", "n": 5}, {"k": '{"k":null}', "n": 6}])
    assert content(run()) == {"b": {"k": "b", "n": 5}}


def test_a_group_whose_key_cannot_be_that_of_a_message_goes_to_quarantine_in_both_modes(
    kafka: bayou.Connection, topic: Topic, tmp_path: pathlib.Path
) -> None:
    source, changed, whole = topic(1), topic(1), topic(1)
    rows = [{"k": "a", "x": 1.0}, {"k": '{"k":null}', "x": 2.0}, {"k": "nan", "x": 0.0}]
    kafka.produce(source, rows)
    raw = kafka.read_stream(source, schema="k STRING, x DOUBLE")
    nan = raw.with_columns("CASE WHEN x = 0 THEN CAST('NaN' AS DOUBLE) ELSE x END AS x")
    lake = bayou.Pipeline("keys", tmp_path)
    lake.topic("changed", nan.group_by("k").agg("count(*) AS n"), topic=changed, output_mode="update")
    lake.topic("whole", nan.group_by("x").agg("count(*) AS n"), topic=whole)
    lake.topic(
        "pairs", nan.group_by("k", "x").agg("count(*) AS n"), topic=f"{whole}-2", create={}, output_mode="update"
    )
    lake.run(progress=False)
    kafka.produce(source, rows)
    lake.run(progress=False)
    assert content(committed(kafka.address, changed)) == {k: {"k": k, "n": 2} for k in ("a", "nan")}
    assert {k: r["n"] for k, r in content(committed(kafka.address, whole)).items()} == {"1.0": 2, "2.0": 2}
    assert len(content(committed(kafka.address, f"{whole}-2"))) == 2
    aside = lake.read("keys_quarantine").to_arrow().to_pylist()
    assert Counter(r["stage"] for r in aside)["table"] == len(aside) >= 3, aside


def test_keys_of_several_columns_and_of_windows_are_objects(
    kafka: bayou.Connection, topic: Topic, tmp_path: pathlib.Path
) -> None:
    source, out, total = topic(1), topic(1), topic(1)
    kafka.produce(source, [{"t": f"2024-05-01T00:0{i % 3}:00Z", "k": "ab"[i % 2], "n": i} for i in range(12)])
    raw = kafka.read_stream(source, schema="t TIMESTAMP, k STRING, n BIGINT").with_watermark("t", "1 minute")
    per = raw.group_by(bayou.window("t", "1 minute"), "k").agg("sum(n) AS n")
    lake = bayou.Pipeline("several", tmp_path)
    lake.topic("per", per, topic=out, output_mode="update")
    lake.topic("total", raw.group_by().agg("sum(n) AS n"), topic=total)
    lake.table("per_table", per, output_mode="update")
    lake.run(progress=False)
    found = committed(kafka.address, out)
    assert len(found) == 6
    for m in found:
        assert json.loads(m.key or "") == {"window_start": m.row["window_start"], "k": m.row["k"]}
    assert [(m.key, m.row) for m in committed(kafka.address, total)] == [("{}", {"n": 66})]


def test_a_query_knows_what_it_sent_when_kafka_has_forgotten_the_number(lake: Lake) -> None:
    lake.topics = {"rows": lake.topics["rows"]}
    group = lake.group("rows")
    for point in ("done.before", "send.before", "commit.after", "commit.before"):
        lake.publish(120)
        lake.crash(point if point == "done.before" else point.replace(".", ":rows."), 2)
        forget(lake.address, group)
        lake.finish()
        lake.check_rows()
    # The same without a crash: the later epochs are new in any case.
    forget(lake.address, group)
    lake.publish(60)
    lake.finish()
    lake.check_rows()


# This test waits for minutes. The test above deletes the number instead.
if os.environ.get("BAYOU_TEST_FAULTS") == "all":

    def test_a_pause_longer_than_kafka_keeps_offsets_loses_nothing_and_repeats_nothing(tmp_path: pathlib.Path) -> None:
        with server.Server("offsets.retention.minutes=1\noffsets.retention.check.interval.ms=1000") as broker:
            kafka = bayou.connect(broker.plain)
            for name in ("source", "rows"):
                kafka.create_topic(name, partitions=2)
            lake = Lake(kafka, tmp_path / "lake", "source", {"rows": "rows"})
            for point in ("done.before", "send:rows.before"):
                lake.publish(120)
                lake.crash(point, 2)
                until = time.monotonic() + 150
                while number(lake.address, lake.group("rows"), "rows"):
                    assert time.monotonic() < until, "Kafka still has the offset"
                    time.sleep(1)
                lake.finish()
                lake.check_rows()


def test_a_run_is_refused_if_nobody_knows_any_more_what_was_sent(lake: Lake) -> None:
    lake.topics = {"rows": lake.topics["rows"]}
    lake.publish(120)
    lake.crash("send:rows.before", 2)
    forget(lake.address, lake.group("rows"))
    ends = Counter({p: 0 for p in range(3)})
    first = committed(lake.address, lake.topics["rows"])
    for m in first:
        ends[m.partition] = max(ends[m.partition], m.offset + 1)
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": lake.address})
    gone = [confluent_kafka.TopicPartition(lake.topics["rows"], p, end) for p, end in ends.items() if end]
    for deleted in admin.delete_records(gone).values():
        deleted.result(30)
    said = lake.run()
    assert said["error"] == "DataLossError" and "accept_changes=True" in said["message"], said
    assert "epoch 1" in said["message"] and lake.topics["rows"] in said["message"]
    lake.finish(accept_changes=True)
    rest = [m.row["id"] for m in committed(lake.address, lake.topics["rows"])]
    assert sorted([m.row["id"] for m in first] + rest) == list(range(120)) and len(first) == 50


def test_a_run_that_was_paused_while_another_went_on_sends_nothing_twice(lake: Lake) -> None:
    for point in ("send:rows.before", "send:rows.after", "commit:rows.before", "commit:rows.after"):
        lake.publish(120)
        first = lake.start(pause={point: 2})
        until = time.monotonic() + 60
        while pathlib.Path(f"/proc/{first.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
            assert time.monotonic() < until and first.poll() is None, f"{point}: it is not paused"
            time.sleep(0.05)
        # The last heartbeat of the other runner is long ago, on a different machine.
        heart = lake.root / "_bayou" / lake.name / "heartbeat.json"
        heart.write_text(json.dumps(json.loads(heart.read_text()) | {"ended": True}))
        lake.publish(60)
        lake.finish()
        lake.check_rows()
        os.kill(first.pid, signal.SIGCONT)
        _, said, errors = lake.end(first)
        assert said.get("error") == "ConcurrentQueryError", (point, said, errors)
        lake.check_rows()
        lake.check_upserts("changed")
        lake.check_upserts("whole")


def test_a_second_query_of_the_same_name_is_refused(lake: Lake, tmp_path: pathlib.Path) -> None:
    lake.topics = {"rows": lake.topics["rows"]}
    lake.publish(60)
    lake.finish()
    other = Lake(lake.kafka, tmp_path / "other", lake.source, lake.topics)
    said = other.run()
    assert said["error"] == "ConcurrentQueryError" and "bayou.topics.rows" in said["message"], said
    # The first query continues, and so does the second query under its own name.
    lake.publish(60)
    lake.finish()
    lake.check_rows()
    # A start over takes the output over, and then the first query is refused.
    other.finish(full_refresh=True)
    lake.publish(10)
    assert lake.run()["error"] == "ConcurrentQueryError"


def test_of_two_queries_of_one_name_that_run_at_once_one_goes_on(lake: Lake, tmp_path: pathlib.Path) -> None:
    lake.topics = {"rows": lake.topics["rows"]}
    lake.publish(2000)
    other = Lake(lake.kafka, tmp_path / "other", lake.source, lake.topics)
    ends = [one.end(process) for one, process in [(one, one.start()) for one in (lake, other)]]
    [wrong] = [said for _, said, _ in ends if said.get("error")]
    # A query that begins when the other one has sent its first epoch is refused before it reads.
    late = wrong["error"] == "ConfigError" and "a different name" in wrong["message"]
    assert late or wrong["error"] == "ConcurrentQueryError", ends
    found = committed(lake.address, lake.topics["rows"])
    assert len({dict(m.headers)["bayou-query"] for m in found if m.row["id"] >= 1000}) == 1


def test_a_topic_that_was_recreated_or_is_another_one_is_refused(
    lake: Lake, topic: Topic, tmp_path: pathlib.Path
) -> None:
    lake.topics = {"rows": lake.topics["rows"]}
    name = lake.topics["rows"]
    for cut in (False, True):
        lake.publish(60)
        if cut:
            lake.crash("commit:rows.before")
        else:
            lake.finish()
        lake.kafka.delete_topic(name)
        lake.kafka.create_topic(name, partitions=3)
        lake.publish(20)
        said = lake.run()
        assert said["error"] == "DataLossError" and "recreated" in said["message"], said
        lake.finish(accept_changes=True)
        lake.finish()
    ids = sorted(m.row["id"] for m in committed(lake.address, name))
    assert ids == list(range(80, 160))
    lake.topics = {"rows": topic(1)}
    lake.publish(20)
    said = lake.run()
    assert said["error"] == "ConfigError" and f"'{name}' before" in said["message"], said
    lake.finish(accept_changes=True)
    assert sorted(m.row["id"] for m in committed(lake.address, lake.topics["rows"])) == list(range(160, 180))


def test_a_topic_that_is_recreated_while_a_query_runs_ends_it_before_anything_is_sent_to_the_new_one(
    kafka: bayou.Connection, topic: Topic, tmp_path: pathlib.Path
) -> None:
    source, out = topic(1), topic(2)
    kafka.produce(source, [{"id": i} for i in range(20)])
    at: dict[str, Any] = {"query_name": "q", "checkpoint_location": tmp_path, "progress": False}
    stream = kafka.read_stream(source, schema="id BIGINT")
    query = stream.write_kafka(out, trigger="0 seconds", block=False, **at)
    until = time.monotonic() + 60
    while len(committed(kafka.address, out)) < 20:
        assert time.monotonic() < until and query.is_active
    kafka.delete_topic(out)
    kafka.create_topic(out, partitions=2)
    kafka.produce(source, [{"id": i} for i in range(20, 50)])
    with pytest.raises(bayou.DataLossError, match=f"topic '{out}' .* was deleted and recreated"):
        query.await_termination(60)
    assert committed(kafka.address, out) == []
    stream.write_kafka(out, accept_changes=True, **at)
    assert sorted(m.row["id"] for m in committed(kafka.address, out)) == list(range(20, 50))


def test_upserts_stay_right_when_the_topic_gets_more_partitions(lake: Lake) -> None:
    for partitions in (None, 5, 7):
        if partitions:
            admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": lake.address})
            grown = [confluent_kafka.admin.NewPartitions(lake.topics[name], partitions) for name in lake.topics]
            for done in admin.create_partitions(grown).values():
                done.result(30)
        lake.publish(120)
        lake.finish()
        lake.check_rows()
        for output in ("changed", "whole"):
            # The number of the epoch decides, because a key is in a different partition since the topic has more partitions.
            newest: dict[str | None, Message] = {}
            for m in committed(lake.address, lake.topics[output]):
                if m.key not in newest or newest[m.key].epoch <= m.epoch:
                    newest[m.key] = m
            have = sorted((m.row for m in newest.values() if m.row), key=lambda r: r["ip"])
            assert have == sorted(lake.table(f"{output}_table"), key=lambda r: r["ip"])


def test_headers_that_a_row_brings_from_another_query_do_not_count_as_its_own(
    kafka: bayou.Connection, topic: Topic, tmp_path: pathlib.Path
) -> None:
    source, first, second = topic(1), topic(1), topic(1)
    kafka.produce(source, [{"id": i} for i in range(30)])

    def run(of: str, to: str, name: str, epoch_rows: int) -> None:
        stream = kafka.read_stream(of, schema="id BIGINT", include_metadata=True, max_offsets_per_trigger=epoch_rows)
        columns = stream.select("id", "_headers")
        columns.write_kafka(
            to, headers_column="_headers", query_name=name, checkpoint_location=tmp_path / name, progress=False
        )

    for round_ in range(2):
        run(source, first, "a", 5)
        run(first, second, "b", 40)
        # Without the number, the headers on the topic show which epochs were sent.
        for name in "ab":
            forget(kafka.address, f"bayou.{name}.{name}")
        kafka.produce(source, [{"id": i} for i in range(30 * round_ + 30, 30 * round_ + 60)])
    found = committed(kafka.address, second)
    assert sorted(m.row["id"] for m in found) == list(range(60))
    names = {tuple(n for n, _ in m.headers) for m in found}
    assert names == {("bayou-epoch", "bayou-query") * 2}
    assert all((m.headers[1][1] or b"").startswith(b"b/") and (m.headers[3][1] or b"").startswith(b"a/") for m in found)


def test_starting_over_sends_rows_again_and_takes_groups_away_first(lake: Lake) -> None:
    lake.publish(120)
    lake.finish()
    before = {name: committed(lake.address, t) for name, t in lake.topics.items()}
    for point in ("commit:changed.before", "commit:whole.after"):
        code, _, errors = lake.end(lake.start({point: 1}, full_refresh=True))
        assert code != 0 and point in errors
    lake.finish()
    after = {name: committed(lake.address, t) for name, t in lake.topics.items()}
    assert Counter(m.row["id"] for m in after["rows"]) == Counter({i: 2 for i in range(120)})
    for name in ("changed", "whole"):
        lake.check_upserts(name)
        first = min(m.epoch for m in after[name] if m not in before[name])
        taken = {m.key for m in after[name] if m.epoch == first}
        assert taken == set(content(before[name])) and first > max(m.epoch for m in before[name])


def test_rows_that_cannot_be_messages_go_to_quarantine(
    kafka: bayou.Connection, topic: Topic, tmp_path: pathlib.Path
) -> None:
    source = topic(1)
    out = topic(2)
    configure(kafka.address, out, max_message_bytes="3000", cleanup_policy="compact")
    rows = [
        {"id": 0, "k": "a", "x": 1.0, "p": 0, "t": "2024-01-01T00:00:00Z", "text": "fits"},
        {"id": 1, "k": "a", "x": 0.0, "p": 0, "t": "2024-01-01T00:00:00Z", "text": "is NaN"},
        {"id": 2, "k": "a", "x": 1.0, "p": 2, "t": "2024-01-01T00:00:00Z", "text": "no partition"},
        {"id": 3, "k": "a", "x": 1.0, "p": 0, "t": "2024-01-01T00:00:00Z", "text": "large" * 1000},
        {"id": 4, "k": None, "x": 1.0, "p": 0, "t": "2024-01-01T00:00:00Z", "text": "no key"},
        {"id": 5, "k": "a", "x": 1.0, "p": 0, "t": "2199-01-01T00:00:00Z", "text": "in the future"},
        {"id": 6, "k": "a", "x": 1.0, "p": None, "t": None, "text": "fits too"},
    ]
    kafka.produce(source, rows)
    stream = kafka.read_stream(source, schema="id BIGINT, k STRING, x DOUBLE, p INT, t TIMESTAMP, text STRING")
    lake = bayou.Pipeline("some", tmp_path)
    fit = stream.with_columns("CASE WHEN x = 0 THEN CAST('NaN' AS DOUBLE) ELSE x END AS x")
    lake.topic("out", fit, topic=out, key="k", partition_column="p", timestamp="t")
    lake.run(progress=False)
    assert sorted(m.row["id"] for m in committed(kafka.address, out)) == [0, 6]
    aside = lake.read("some_quarantine").to_arrow().to_pylist()
    reasons = {json.loads(r["value"])["id"]: r["error"] for r in aside}
    assert sorted(reasons) == [1, 2, 3, 4, 5], reasons
    for i, word in {1: "'x'", 2: "no partition 2", 3: "max.message.bytes", 4: "compact", 5: "timestamp"}.items():
        assert word in reasons[i], reasons
    assert not any("large" in r for r in reasons.values())


def test_what_cannot_be_sent_any_more_says_what_to_do_and_is_sent_after_it(lake: Lake) -> None:
    lake.topics = {"rows": lake.topics["rows"]}
    lake.publish(60)
    lake.crash("seal.after")
    configure(lake.address, lake.topics["rows"], max_message_bytes="100")
    said = lake.run()
    assert said["error"] == "ConfigError" and "max.message.bytes" in said["message"], said
    configure(lake.address, lake.topics["rows"], max_message_bytes="1000000")
    lake.finish()
    lake.check_rows()
    lake.publish(10)
    lake.crash("seal.after")
    lake.kafka.delete_topic(lake.topics["rows"])
    said = lake.run()
    assert said["error"] == "TopicError" and lake.topics["rows"] in said["message"], said


def test_a_wrong_definition_is_refused_before_anything_is_written(
    kafka: bayou.Connection, broker: bayou.Connection, topic: Topic, tmp_path: pathlib.Path
) -> None:
    source = topic(1)
    kafka.produce(source, [{"k": "a", "n": 1}])
    raw = kafka.read_stream(source, schema="k STRING, n BIGINT")
    per_k = raw.group_by("k").agg("sum(n) AS n")
    at: dict[str, Any] = {"query_name": "q", "checkpoint_location": tmp_path / "c", "progress": False}
    wrong: list[tuple[bayou.Stream, dict[str, Any], type[Exception], str]] = [
        (raw, {}, bayou.TopicError, "does not exist"),
        (raw, {"to": broker}, bayou.ConfigError, "embedded broker"),
        (raw, {"key": "m"}, bayou.SchemaError, "'m'"),
        (raw, {"key": []}, bayou.ConfigError, "key="),
        (raw, {"headers_column": "k"}, bayou.SchemaError, "headers"),
        (raw, {"partition_column": "k"}, bayou.SchemaError, "whole numbers"),
        (raw, {"timestamp": "k"}, bayou.SchemaError, "TIMESTAMP"),
        (raw, {"format": "avro"}, bayou.ConfigError, "json"),
        (raw, {"create": {"partition": 1}}, bayou.ConfigError, "partitions"),
        (raw, {"create": {"partitions": 0}}, bayou.ConfigError, "at least 1"),
        (raw, {"to": "localhost:9092"}, bayou.ConfigError, "bayou.connect"),
        (raw, {"output_mode": "update"}, bayou.ConfigError, "aggregation"),
        (per_k, {"key": "n"}, bayou.ConfigError, "Leave key= out"),
        (per_k, {"partition_column": "n"}, bayou.ConfigError, "append"),
        (per_k.select("n"), {}, bayou.ConfigError, "'k'"),
    ]
    for stream, options, kind, text in wrong:
        with pytest.raises(kind, match=text.replace("(", "\\(")):
            stream.write_kafka(f"{source}-out", **at, **options)
    with pytest.raises(bayou.ConfigError, match="query_name="):
        raw.write_kafka("out")
    assert not (tmp_path / "c").exists() or not list((tmp_path / "c").rglob("epoch/*"))
    made = f"{source}-made"
    per_k.write_kafka(made, create={"partitions": 2, "config": {"retention.ms": "-1"}}, **at)
    described = kafka.describe_topic(made)
    assert len(described["partitions"]) == 2 and described["config"]["cleanup.policy"] == "compact"
    assert content(committed(kafka.address, made)) == {"a": {"k": "a", "n": 1}}


def test_a_topic_is_read_by_a_second_stream(kafka: bayou.Connection, topic: Topic, tmp_path: pathlib.Path) -> None:
    source, alerts = topic(1), topic(1)
    kafka.produce(source, [{"ip": f"h{i % 3}", "n": i} for i in range(30)])
    lake = bayou.Pipeline("first", tmp_path)
    raw = kafka.read_stream(source, schema="ip STRING, n BIGINT")
    lake.topic(alerts, raw.where("n >= 20"), key="ip")
    lake.table("all", raw)
    lake.run(progress=False)
    assert lake.tables() == ["all"]
    again = kafka.read_stream(alerts, schema="ip STRING, n BIGINT").collect().to_arrow().to_pylist()
    assert sorted(r["n"] for r in again) == list(range(20, 30))
