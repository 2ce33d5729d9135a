"""The cost of an epoch on an object store: the test's own store records every request."""

from __future__ import annotations

import collections
import itertools
import json
import pathlib
import re
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import bayou
import pyarrow as pa
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "s3"))
from stub import BUCKET, Request, Stub, stub

# Epochs within which no checkpoint of a log falls due.
EPOCHS = 45
STATEFUL = [(1, "update"), (3, "update"), (1, "complete"), (3, "complete"), (1, "windows"), (3, "windows")]
SEAL = re.compile(r"/epoch/(\d{20})\.json$")


@pytest.fixture
def store() -> Iterator[Stub]:
    with stub() as made:
        yield made


def row(i: int) -> dict[str, Any]:
    return {"i": i, "k": i % 3, "at": f"2026-01-01T00:{i // 60:02}:{i % 60:02}Z"}


def publish(kafka: bayou.Connection, topic: str, count: int) -> None:
    kafka.create_topic(topic, partitions=1)
    assert kafka.produce(topic, [row(i) for i in range(count)], progress=False).delivered == count


def stream(kafka: bayou.Connection, topic: str, schema: str = "i INT, k INT") -> bayou.Stream:
    return kafka.read_stream(topic, schema=schema, max_offsets_per_trigger=1, starting_offsets="earliest")


def pipeline(kafka: bayou.Connection, topic: str, store: Stub, tables: int, kind: str) -> bayou.Pipeline:
    raw = stream(kafka, topic, "i INT, k INT, at TIMESTAMP" if kind == "windows" else "i INT, k INT")
    if kind == "quarantine":
        raw = raw.expect_or_quarantine("even", "i % 2 = 0").named("even")
    lake = bayou.Pipeline("p", f"s3://{BUCKET}/l", storage_options=store.options)
    for n in range(tables):
        counts = raw.group_by("k").agg("count(*) AS n")
        if kind in ("append", "quarantine"):
            lake.table(f"t{n}", raw)
        elif kind == "windows":
            windows = raw.with_watermark("at", "0 seconds").group_by(bayou.window("at", "1 second"), "k")
            lake.table(f"t{n}", windows.agg("count(*) AS n"))
        else:
            lake.table(f"t{n}", counts, output_mode=kind)
    return lake


def by_epoch(requests: list[Request]) -> list[list[Request]]:
    """The requests between one seal and the next, without those of the run's start and end."""
    epochs: list[list[Request]] = []
    for r in requests:
        if r.kind == "CREATE" and SEAL.search(r.name) and r.status == 200:
            epochs.append([])
        if epochs:
            epochs[-1].append(r)
    return epochs[1:-1]


def is_apart(r: Request) -> bool:
    """Checkpoints of the log, which are reported separately."""
    return "checkpoint" in r.name


def cost(requests: list[Request]) -> tuple[float, dict[str, float]]:
    epochs = by_epoch(requests)
    counted = [r for epoch in epochs for r in epoch if not is_apart(r)]
    kinds = collections.Counter(r.kind for r in counted)
    return len(counted) / len(epochs), {k: round(n / len(epochs), 2) for k, n in sorted(kinds.items())}


@pytest.mark.parametrize(
    ("tables", "kind"), [(1, "append"), (3, "append"), (10, "append"), (2, "quarantine"), *STATEFUL]
)
def test_an_epoch_of_k_tables_costs_at_most_4_k_requests_and_3_more(
    tables: int, kind: str, store: Stub, broker: bayou.Connection
) -> None:
    publish(broker, "t", EPOCHS)
    lake = pipeline(broker, "t", store, tables, kind)
    lake.run(progress=False)
    found, kinds = cost(store.requests)
    # Of two epochs, one has a row for the quarantine and none for the tables.
    assert len(by_epoch(store.requests)) == EPOCHS - 2
    assert found <= 3 + 4 * tables, (found, kinds)
    assert "HEAD" not in kinds or kinds["HEAD"] < 0.5, kinds
    epochs = by_epoch(store.requests)
    early, late = (sum(map(len, part)) / len(part) for part in (epochs[:15], epochs[-15:]))
    assert late <= early + 1, (early, late)
    if (tables, kind) not in STATEFUL:
        return
    logs = [r for e in epochs for r in e if "_delta_log" in r.name and not is_apart(r)]
    assert len(logs) <= 3.1 * tables * EPOCHS, collections.Counter(r.kind for r in logs)
    # Small state and small staged rows stand in the seals. A second run goes on from there.
    assert not store.names("l/_bayou/p/1/state/") and not store.names("l/_bayou/p/1/staged/")
    seal = json.loads(store.objects[f"l/_bayou/p/1/epoch/{EPOCHS - 1:020}.json"].content)
    assert seal["formatVersion"] == 2
    more = [row(i) for i in range(EPOCHS, EPOCHS + 30)]
    assert broker.produce("t", more, progress=False).delivered == 30
    pipeline(broker, "t", store, tables, kind).run(progress=False)
    for n in range(tables):
        rows = pa.table(lake.read(f"t{n}")).to_pylist()
        if kind == "windows":
            # The newest window is open.
            assert sorted((r["window_start"].second + 60 * r["window_start"].minute, r["k"]) for r in rows) == [
                (i, i % 3) for i in range(EPOCHS + 29)
            ]
        else:
            assert sorted(rows, key=lambda r: r["k"]) == [{"k": k, "n": (EPOCHS + 30) // 3} for k in range(3)]


def foreign(store: Stub, table: str, actions: list[dict[str, Any]]) -> int:
    """A commit of a different writer, at the next version."""
    log = f"{table}/_delta_log/"
    version = max(int(n[len(log) :][:20]) for n in store.names(log) if n.endswith(".json")) + 1
    body = "\n".join(json.dumps(a) for a in [{"commitInfo": {"operation": "WRITE"}}, *actions]).encode()
    name = urllib.request.quote(f"/{BUCKET}/{log}{version:020}.json")
    asked = urllib.request.Request(f"{store.endpoint}{name}", body, {"If-None-Match": "*"}, method="PUT")
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert answer.status == 200
    return version


def test_commits_of_others_in_between_are_read_once_each(store: Stub, broker: bayou.Connection) -> None:
    publish(broker, "t", EPOCHS)
    store.latency = 0.002
    query = pipeline(broker, "t", store, 1, "append").run(block=False, progress=False)
    theirs, until = [], time.monotonic() + 20
    while query.is_active and len(theirs) < 15 and time.monotonic() < until:
        if store.names("l/t0/_delta_log/0"):
            try:
                theirs.append(foreign(store, "l/t0", [{"txn": {"appId": "other", "version": len(theirs)}}]))
            except urllib.error.HTTPError as e:
                assert e.code == 412
        time.sleep(0.01)
    query.await_termination()
    assert theirs
    log = [n for n in store.names("l/t0/_delta_log/") if n.endswith(".json")]
    assert len(log) == 1 + EPOCHS + len(theirs)
    rows = bayou.read_delta(f"s3://{BUCKET}/l/t0", storage_options=store.options)
    assert sorted(pa.table(rows).to_pydict()["i"]) == list(range(EPOCHS))
    found, kinds = cost(store.requests)
    # A look that finds a commit reads it, looks for the next one, and may lose its own put before.
    assert found <= 7 + 6 * len(theirs) / EPOCHS, (found, kinds, len(theirs))


def many_files(store: Stub, table: str, count: int) -> None:
    """A table whose log is one checkpoint with `count` files."""
    import io

    import pyarrow.parquet as pq

    schema = {
        "type": "struct",
        "fields": [{"name": n, "type": "integer", "nullable": True, "metadata": {}} for n in ("i", "k")],
    }
    nothing: dict[str, Any] = {"protocol": None, "metaData": None, "add": None}
    rows = [
        {**nothing, "protocol": {"minReaderVersion": 1, "minWriterVersion": 2}},
        {
            **nothing,
            "metaData": {
                "id": "11111111-2222-3333-4444-555555555555",
                "format": {"provider": "parquet", "options": []},
                "schemaString": json.dumps(schema),
                "partitionColumns": [],
                "configuration": [],
                "createdTime": 0,
            },
        },
    ]
    stats = json.dumps({"numRecords": 1})
    for n in range(count):
        add = {
            "path": f"part-{n:08}.parquet",
            "partitionValues": [],
            "size": 700,
            "modificationTime": 0,
            "dataChange": False,
            "stats": stats,
        }
        rows.append({**nothing, "add": add})
    text = pa.string()
    texts = pa.map_(text, text)
    columns = pa.schema(
        [
            ("protocol", pa.struct([("minReaderVersion", pa.int32()), ("minWriterVersion", pa.int32())])),
            (
                "metaData",
                pa.struct(
                    [
                        ("id", text),
                        ("format", pa.struct([("provider", text), ("options", texts)])),
                        ("schemaString", text),
                        ("partitionColumns", pa.list_(text)),
                        ("configuration", texts),
                        ("createdTime", pa.int64()),
                    ]
                ),
            ),
            (
                "add",
                pa.struct(
                    [
                        ("path", text),
                        ("partitionValues", texts),
                        ("size", pa.int64()),
                        ("modificationTime", pa.int64()),
                        ("dataChange", pa.bool_()),
                        ("stats", text),
                    ]
                ),
            ),
        ]
    )
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=columns), out)
    log = f"{table}/_delta_log"
    lines = [rows[0], rows[1]]
    lines[1]["metaData"].update(format={"provider": "parquet", "options": {}}, configuration={})
    first = [json.dumps({k: v for k, v in line.items() if v is not None}) for line in lines]
    store.put(f"{log}/{0:020}.json", "\n".join(first).encode())
    store.put(f"{log}/{0:020}.checkpoint.parquet", out.getvalue())
    store.put(f"{log}/_last_checkpoint", json.dumps({"version": 0, "size": count + 2}).encode())


def test_a_table_of_many_files_costs_an_epoch_as_little_as_a_new_one(store: Stub, broker: bayou.Connection) -> None:
    many_files(store, "l/t0", 20_000)
    publish(broker, "t", EPOCHS)
    began = time.process_time()
    pipeline(broker, "t", store, 1, "append").run(progress=False)
    took = time.process_time() - began
    found, kinds = cost(store.requests)
    assert found <= 7, (found, kinds)
    assert took < 8, took
    checkpoint = len(store.objects[f"l/t0/_delta_log/{0:020}.checkpoint.parquet"].content)
    read = sum(r.size for e in by_epoch(store.requests) for r in e)
    assert read < checkpoint / 2 + EPOCHS * 20_000, (read, checkpoint)


def test_an_epoch_of_three_tables_takes_less_than_400_ms_at_50_ms_a_request(
    store: Stub, broker: bayou.Connection
) -> None:
    publish(broker, "t", 14)
    store.latency = 0.05
    pipeline(broker, "t", store, 3, "append").run(progress=False)
    sealed = [r.at for r in store.requests if r.kind == "CREATE" and SEAL.search(r.name)]
    each = sorted(b - a for a, b in itertools.pairwise(sealed))
    assert each[len(each) // 2] < 0.4, each


def test_a_store_whose_put_if_absent_is_a_lie_under_a_race_is_refused(store: Stub, broker: bayou.Connection) -> None:
    publish(broker, "t", 1)
    store.lies = True
    with pytest.raises(bayou.StorageError, match="put-if-absent"):
        pipeline(broker, "t", store, 1, "append").run(progress=False)
    assert not [n for n in store.names() if "epoch/" in n or n.endswith(".parquet")]


def test_a_store_that_throttles_is_waited_for(store: Stub, broker: bayou.Connection) -> None:
    publish(broker, "t", 5)
    query = pipeline(broker, "t", store, 2, "append").run(block=False, progress=False)
    for _ in range(3):
        store.throttled = 2
        time.sleep(0.05)
    query.await_termination()
    for t in ("t0", "t1"):
        rows = bayou.read_delta(f"s3://{BUCKET}/l/{t}", storage_options=store.options)
        assert sorted(pa.table(rows).to_pydict()["i"]) == list(range(5))


def test_google_storage_is_asked_in_its_own_words(store: Stub, broker: bayou.Connection) -> None:
    publish(broker, "t", 10)
    raw = stream(broker, "t").expect_or_quarantine("even", "i % 2 = 0")
    options = {"google_base_url": store.endpoint, "google_bearer_token": "any-token-will-do", "allow_http": "true"}
    lake = bayou.Pipeline("p", f"gs://{BUCKET}/g", storage_options=options)
    lake.table("rows", raw)
    lake.table("all", raw.group_by().agg("count(*) AS n"))
    lake.run(progress=False)
    assert sorted(pa.table(lake.read("rows")).to_pydict()["i"]) == [0, 2, 4, 6, 8]
    assert pa.table(lake.read("all")).to_pydict()["n"] == [5]
    assert [r for r in store.requests if r.kind == "CREATE" and SEAL.search(r.name)]
    store.lies = True
    other = bayou.Pipeline("other", f"gs://{BUCKET}/h", storage_options=options)
    other.table("rows", raw)
    with pytest.raises(bayou.StorageError, match="put-if-absent"):
        other.run(progress=False)
