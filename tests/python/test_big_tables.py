"""Big tables: an epoch of mode update rewrites the files that hold its keys and no others, and rows are found again by ranges of keys."""

from __future__ import annotations

import itertools
import pathlib
import random
from collections import Counter
from datetime import datetime, timedelta, timezone
from typing import Any

import bayou
import deltalake
import pytest

START = datetime(2024, 1, 1, tzinfo=timezone.utc)


def put(broker: bayou.Connection, rows: list[dict[str, Any]]) -> None:
    broker.produce("t", rows, progress=False)


def files(path: pathlib.Path) -> list[dict[str, Any]]:
    """The files of the table: sizes, partition values and statistics, from the log as an independent reader has it."""
    actions = deltalake.DeltaTable(str(path)).get_add_actions(flatten=True)
    return bayou.from_batches(actions).collect().to_dicts()


def cost(query: bayou.Query) -> dict[str, int]:
    metrics = query.last_progress["sinks"][0]["metrics"]
    return {name.removeprefix("numTarget"): int(metrics[name]) for name in metrics if name.startswith("numTarget")}


@pytest.mark.parametrize("keys", ["INT", "STRING", "DATE", "DECIMAL(20,2)"])
def test_an_epoch_reads_and_rewrites_only_the_files_that_can_hold_its_keys_and_says_what_it_cost(
    broker: bayou.Connection, tmp_path: pathlib.Path, keys: str
) -> None:
    broker.create_topic("t")
    day = lambda n: str((START + timedelta(days=n)).date())  # noqa: E731
    key = {"INT": int, "STRING": "k{:05d}".format, "DATE": day, "DECIMAL(20,2)": lambda n: n}[keys]
    for at in range(0, 2000, 100):
        put(broker, [{"k": key(k)} for k in range(at, at + 100)])
    stream = broker.read_stream("t", schema=f"k {keys}", max_offsets_per_trigger=100)
    counts = stream.group_by("k").agg("count(*) AS n")
    write = lambda: counts.write_delta(tmp_path / "t", output_mode="update", progress=False)  # noqa: E731
    write()
    # Each epoch had new keys only, so each made a file and rewrote none.
    assert len(files(tmp_path / "t")) == 20
    put(broker, [{"k": key(k)} for k in (105, 106, 1950, 2500)])
    query = write()
    of = cost(query)
    assert (of["FilesBeforeSkipping"], of["FilesAfterSkipping"], of["FilesRemoved"], of["FilesAdded"]) == (20, 2, 2, 2)
    assert (of["RowsCopied"], of["RowsUpdated"], of["RowsInserted"], of["RowsDeleted"]) == (197, 3, 1, 0)
    assert of["BytesAdded"] > 0 and of["BytesRemoved"] == of["BytesAfterSkipping"] > 0
    newest = bayou.sql("DESCRIBE HISTORY t", t=tmp_path / "t").to_dicts()[0]
    assert dict(newest["operationMetrics"])["numTargetFilesRemoved"] == "2"
    counts = Counter(str(r["k"]) for r in bayou.read_delta(tmp_path / "t").to_dicts())
    assert len(counts) == 2001 and set(counts.values()) == {1}
    assert bayou.sql("SELECT sum(n) AS n, max(n) AS m FROM t", t=tmp_path / "t").to_dicts() == [{"n": 2004, "m": 2}]
    # The ranges of the files still do not overlap.
    spans = sorted((f["min.k"], f["max.k"]) for f in files(tmp_path / "t"))
    assert all(a[1] < b[0] for a, b in itertools.pairwise(spans)), spans


def test_a_key_that_is_between_the_bounds_of_a_file_and_not_in_it_rewrites_nothing(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    counts = broker.read_stream("t", schema="k INT").group_by("k").agg("count(*) AS n")
    found = []
    for ks in ([1, 5, 9], [2, 3], [5]):
        put(broker, [{"k": k} for k in ks])
        query = counts.write_delta(tmp_path / "t", output_mode="update", progress=False)
        of = cost(query)
        found.append((of["FilesAfterSkipping"], of["FilesRemoved"], of["FilesAdded"]))
    # 2 and 3 are between 1 and 9. The file of 2 and 3 cannot hold 5.
    assert found == [(0, 0, 1), (1, 0, 1), (1, 1, 1)]
    assert sorted((r["k"], r["n"]) for r in bayou.read_delta(tmp_path / "t").to_dicts()) == [
        (1, 1),
        (2, 1),
        (3, 1),
        (5, 2),
        (9, 1),
    ]


DAYS = 8


@pytest.mark.parametrize("how", ["plain", "optimize_every", "partition_by"])
def test_windows_stay_in_files_of_their_own_whatever_else_is_asked_for(
    broker: bayou.Connection, tmp_path: pathlib.Path, how: str
) -> None:
    """Before, `optimize_every` joined all windows, and with `partition_by` every file was read."""
    broker.create_topic("t")
    rows = lambda day, keys: [  # noqa: E731
        {"ts": (START + timedelta(days=day, minutes=k)).isoformat(), "k": f"k{k}"} for k in keys
    ]
    stream = broker.read_stream("t", schema="ts TIMESTAMP, k STRING", max_offsets_per_trigger=50)
    daily = stream.with_watermark("ts", "30 days").group_by(bayou.window("ts", "1 day"), "k").agg("count(*) AS n")
    options: dict[str, Any] = {
        "plain": {},
        "optimize_every": {"optimize_every": 2},
        "partition_by": {"partition_by": "window_start"},
    }[how]
    write = lambda: daily.write_delta(tmp_path / "t", output_mode="update", progress=False, **options)  # noqa: E731
    for day in range(DAYS):
        put(broker, rows(day, range(50)))
    write()
    for round_ in range(4):
        put(broker, rows(DAYS - 1, range(round_, 50, 10)))
        query = write()
        of = cost(query)
        assert (of["FilesAfterSkipping"], of["FilesRemoved"]) == (1, 1), (how, round_)
        assert of["RowsCopied"] + of["RowsUpdated"] == 50
    found = files(tmp_path / "t")
    assert len(found) == DAYS
    if how != "partition_by":
        assert all(f["min.window_start"] == f["max.window_start"] for f in found)
    assert bayou.sql("SELECT count(*) AS c, sum(n) AS n FROM t", t=tmp_path / "t").to_dicts() == [
        {"c": DAYS * 50, "n": DAYS * 50 + 20}
    ]


def test_closed_windows_are_joined_and_open_ones_are_not(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t")
    stream = broker.read_stream("t", schema="ts TIMESTAMP, k INT", max_offsets_per_trigger=10)
    hourly = stream.with_watermark("ts", "2 hours").group_by(bayou.window("ts", "1 hour"), "k").agg("count(*) AS n")
    for hour in range(24):
        put(broker, [{"ts": (START + timedelta(hours=hour)).isoformat(), "k": k} for k in range(10)])
        query = hourly.write_delta(tmp_path / "t", output_mode="update", optimize_every=4, progress=False)
        assert not query.warnings
    last = START + timedelta(hours=23 - 2)
    wide = [f for f in files(tmp_path / "t") if f["min.window_start"] != f["max.window_start"]]
    assert wide and all(f["max.window_start"] + timedelta(hours=1) <= last for f in wide), files(tmp_path / "t")
    assert len(files(tmp_path / "t")) < 20
    assert len(bayou.read_delta(tmp_path / "t")) == 240
    assert deltalake.DeltaTable(str(tmp_path / "t")).to_pyarrow_table().num_rows == 240


@pytest.mark.parametrize("seed", range(6))
def test_mode_update_has_the_last_row_of_every_key_for_random_keys_epochs_partitions_and_compaction(
    broker: bayou.Connection, tmp_path: pathlib.Path, seed: int
) -> None:
    rng = random.Random(seed)
    broker.create_topic("t")
    partitioned = rng.choice([None, "p", "g"])
    wanted: Counter[tuple[Any, ...]] = Counter()
    texts = [None, "", "a", "a ", "ä", "z" * 100, "z" * 101, "\u0000", "\U0010ffff" * 20]
    key = lambda: (rng.choice([None, *range(4)]), rng.randrange(60), rng.choice(texts))  # noqa: E731
    kept = lambda k: (k[0], k[1], k[2])  # noqa: E731
    if partitioned == "g":
        texts = [t for t in texts if t]
    for round_ in range(8):
        rows = [key() for _ in range(rng.choice([1, 20, 300]))]
        put(broker, [{"p": p, "n": n, "g": g} for p, n, g in rows])
        wanted.update(map(kept, rows))
        stream = broker.read_stream(
            "t", schema="p INT, n BIGINT, g STRING", max_offsets_per_trigger=rng.choice([7, 50, 1000])
        )
        counts = stream.group_by("p", "n", "g").agg("count(*) AS c")
        query = counts.write_delta(
            tmp_path / "t",
            output_mode="update",
            partition_by=partitioned,
            optimize_every=rng.choice([None, 2, 5]),
            progress=False,
        )
        assert not query.warnings
        found = bayou.read_delta(tmp_path / "t").to_dicts()
        assert Counter({(r["p"], r["n"], r["g"]): r["c"] for r in found}) == wanted, (seed, round_)
        assert len(found) == len(wanted)
    assert deltalake.DeltaTable(str(tmp_path / "t")).to_pyarrow_table().num_rows == len(wanted)


def test_a_table_that_spark_or_an_older_version_wrote_in_any_order_is_merged_and_put_in_order(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    pa = pytest.importorskip("pyarrow")
    broker.create_topic("t")
    ks = list(range(500))
    random.Random(1).shuffle(ks)
    counts = broker.read_stream("t", schema="k BIGINT").group_by("k").agg("count(*) AS n")
    put(broker, [{"k": k} for k in ks])
    counts.write_delta(tmp_path / "t", output_mode="update", progress=False)
    # The same rows in random order, in files that all cover the whole range of keys.
    for part in range(4):
        rows = pa.table({"k": pa.array(ks[part::4], pa.int64()), "n": pa.array([1] * 125, pa.int64())})
        deltalake.write_deltalake(str(tmp_path / "t"), rows, mode="overwrite" if part == 0 else "append")
    put(broker, [{"k": 7}, {"k": 499}, {"k": 1000}])
    counts.write_delta(tmp_path / "t", output_mode="update", accept_changes=True, progress=False)
    found = {r["k"]: r["n"] for r in bayou.read_delta(tmp_path / "t").to_dicts()}
    assert found == {**dict.fromkeys(ks, 1), 7: 2, 499: 2, 1000: 1}
    for name in (f["path"] for f in files(tmp_path / "t")):
        in_file = pa.parquet.read_table(tmp_path / "t" / name) if hasattr(pa, "parquet") else None
        if in_file is not None and in_file.num_rows > 130:
            assert in_file["k"].to_pylist() == sorted(in_file["k"].to_pylist())


def test_read_delta_reads_some_columns_and_rows_and_streams_in_batches(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    put(broker, [{"A": k, "b c": f"x{k % 7}", "d": k / 2} for k in range(1000)])
    stream = broker.read_stream("t", schema="A BIGINT, `b c` STRING, d DOUBLE", max_offsets_per_trigger=300)
    path = tmp_path / "t"
    stream.select("A", "`b c` AS b_c", "d").write_delta(path, progress=False)
    whole = bayou.read_delta(path)
    assert whole.columns == ["A", "b_c", "d"] and len(whole) == 1000
    some = bayou.read_delta(path, columns=["d", "a"], where="b_c = 'x3' AND A < 100 -- a comment", limit=5)
    assert some.columns == ["d", "A"] and len(some) == 5
    assert all(r["A"] % 7 == 3 and r["A"] < 100 and r["d"] == r["A"] / 2 for r in some.to_dicts())
    assert bayou.read_delta(path, columns="A", limit=0).to_dicts() == []
    assert len(bayou.read_delta(path, columns=[])) == 1000
    assert len(bayou.read_delta(path, columns=[], where="A >= 10")) == 990
    assert sorted(bayou.read_delta(path, where="d % 100 = 0")["A"]) == [0, 200, 400, 600, 800]
    # Batches: the same rows, and the table is not in memory afterwards.
    table = bayou.read_delta(path, columns=["A"], where="A >= 500")
    batches = list(table.batches(batch_rows=64))
    assert all(isinstance(b, bayou.Batch) and 0 < len(b) <= 64 for b in batches)
    assert sorted(k for b in batches for k in b["A"]) == list(range(500, 1000))
    assert sorted(table["A"]) == list(range(500, 1000))
    assert sum(len(b) for b in table.batches()) == 500, "also of a table in memory"
    assert [r["A"] for b in bayou.sql("SELECT A FROM t ORDER BY A LIMIT 3", t=path).batches(2) for r in b] == [0, 1, 2]
    for wrong, said in [
        ({"columns": ["nope"]}, "nope"),
        ({"where": "nope = 1"}, "nope"),
        ({"where": "A +"}, "where="),
        ({"where": "A"}, "where="),
        ({"where": "raise_error('x')"}, "."),
    ]:
        with pytest.raises(bayou.SchemaError, match=said):
            len(bayou.read_delta(path, **wrong))
    with pytest.raises(bayou.StorageError):
        bayou.read_delta(tmp_path / "nothing")
    with pytest.raises(bayou.ConfigError, match="batch_rows"):
        whole.batches(0)


def test_a_table_is_read_as_it_was_when_it_was_opened(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t")
    stream = broker.read_stream("t", schema="a INT")
    put(broker, [{"a": 1}])
    stream.write_delta(tmp_path / "t", progress=False)
    table = bayou.read_delta(tmp_path / "t")
    put(broker, [{"a": 2}])
    stream.write_delta(tmp_path / "t", progress=False)
    assert table.to_dicts() == [{"a": 1}]
    assert len(bayou.read_delta(tmp_path / "t")) == 2


def test_groups_that_hold_values_take_the_memory_of_the_values_however_many_epochs_there_were(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    broker.create_topic("t")
    n = 40_000
    put(broker, [{"t": START.isoformat(), "v": v} for v in range(n)])
    stream = broker.read_stream("t", schema="t TIMESTAMP, v BIGINT", max_offsets_per_trigger=n // 100)
    windows = stream.with_watermark("t", "1 minute").group_by(bayou.window("t", "1 day"))
    held = {}
    for name, agg in [
        ("percentile", "percentile(v, 0.5) AS x"),
        ("distinct", "count(DISTINCT v) AS x"),
        ("list", "size(collect_list(v)) AS x"),
    ]:
        query = windows.agg(agg, "count(*) AS c").write_delta(tmp_path / name, progress=False)
        assert query.last_progress["batchId"] >= 99
        held[name] = query.last_progress["stateOperators"][0]["memoryUsedBytes"]
    # Each value takes 8 bytes. What is not merged yet may take as much again, and a part of it until it is dropped.
    assert max(held.values()) < 5 * 8 * n + 400_000, held
    put(broker, [{"t": (START + timedelta(days=3)).isoformat(), "v": 0}])
    wanted = {"percentile": (n - 1) / 2, "distinct": n, "list": n}
    for name, agg in [
        ("percentile", "percentile(v, 0.5) AS x"),
        ("distinct", "count(DISTINCT v) AS x"),
        ("list", "size(collect_list(v)) AS x"),
    ]:
        windows.agg(agg, "count(*) AS c").write_delta(tmp_path / name, progress=False)
        assert [(r["x"], r["c"]) for r in bayou.read_delta(tmp_path / name).to_dicts()] == [(wanted[name], n)]


def test_only_the_new_files_of_a_joined_table_are_read_when_it_grows(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    pa = pytest.importorskip("pyarrow")
    broker.create_topic("t")
    dim = tmp_path / "dim"
    row = lambda k, **more: pa.table({"k": [k], "name": [f"n{k}"], "unused": ["x" * 50], **more})  # noqa: E731
    deltalake.write_deltalake(str(dim), row(1))
    joined = broker.read_stream("t", schema="k BIGINT", max_offsets_per_trigger=1).join(dim, on="k", how="left")
    grow = joined.select("k", "name").batches(trigger="0 seconds", timeout="60 seconds")

    def ask(k: int) -> str | None:
        put(broker, [{"k": k}])
        for batch in grow:
            if len(batch):
                return batch["name"][0]
        raise AssertionError

    with grow:
        assert ask(1) == "n1"
        assert ask(1) == "n1"
        # The old file is gone, so this shows that its rows are not read again.
        for file in dim.glob("*.parquet"):
            file.unlink()
        deltalake.write_deltalake(str(dim), row(2), mode="append")
        # The version is looked up when an epoch begins, and an epoch has begun already.
        for _ in range(20):
            found = ask(2)
            if found:
                break
        assert (found, ask(1), ask(3)) == ("n2", "n1", None)
        # After a change that is more than growth, the whole table is read again.
        deltalake.write_deltalake(str(dim), row(3), mode="overwrite")
        for _ in range(20):
            found = ask(3)
            if found:
                break
        assert (found, ask(1), ask(2)) == ("n3", None, None)


def test_a_joined_table_is_within_memory_limit_and_its_time_is_in_the_progress(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    pa = pytest.importorskip("pyarrow")
    broker.create_topic("t")
    dim = str(tmp_path / "dim")
    ks = list(range(20_000))
    wide = pa.table({"k": ks, "a": ["a" * 200] * len(ks), "b": [str(k) * 40 for k in ks], "c": ks})
    deltalake.write_deltalake(dim, wide)
    put(broker, [{"k": 7}, {"k": 100_000}])
    joined = broker.read_stream("t", schema="k BIGINT").join(dim, on="k")
    query = joined.select("k", "c").write_delta(tmp_path / "narrow", memory_limit="6 MB", progress=False)
    assert bayou.read_delta(tmp_path / "narrow").to_dicts() == [{"k": 7, "c": 7}]
    durations = query.last_progress["durationMs"]
    assert 0 <= durations["readTables"] <= durations["triggerExecution"]
    with pytest.raises(bayou.StorageError, match="joined table takes more than 6 MB") as failed:
        joined.write_delta(tmp_path / "wide", memory_limit="6 MB", progress=False)
    assert "dim" in str(failed.value)
    joined.write_delta(tmp_path / "wide", memory_limit="60 MB", progress=False)
    [row] = bayou.read_delta(tmp_path / "wide").to_dicts()
    assert (row["a"], row["b"], row["c"]) == ("a" * 200, "7" * 40, 7)


def test_rows_of_one_key_that_multiply_beyond_memory_are_an_error_and_not_the_end_of_the_process(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    for topic in ("l", "r"):
        broker.create_topic(topic)
        broker.produce(topic, [{"t": START.isoformat(), "k": 1, "n": n} for n in range(3000)], progress=False)
    side = lambda topic: broker.read_stream(topic, schema="t TIMESTAMP, k INT, n INT").with_watermark("t", "1 hour")  # noqa: E731
    both = side("l").join(side("r"), on="k", within="1 minute")
    with pytest.raises(bayou.StorageError, match="memory_limit"):
        both.write_delta(tmp_path / "t", memory_limit="50 MB", progress=False)


def test_columns_of_a_joined_table_that_nobody_uses_are_left_out_and_nothing_else_changes(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    """Rows in memory are held as a whole, so they are the oracle."""
    pa = pytest.importorskip("pyarrow")
    broker.create_topic("t")
    rows = {"k": [1, 2, 2, 3], "a": [10, 20, None, 30], "b": ["x", "y", "z", None], "c": [1.5, 2.5, 3.5, 4.5]}
    dim = str(tmp_path / "dim")
    deltalake.write_deltalake(dim, pa.table(rows))
    put(broker, [{"k": k, "t": START.isoformat()} for k in (1, 2, 3, 4)])
    stream = broker.read_stream("t", schema="k BIGINT, t TIMESTAMP", on_malformed="drop")
    shapes: list[Any] = [
        lambda s: s,
        lambda s: s.select("k", "b"),
        lambda s: s.where("a > 10").select("k"),
        lambda s: s.with_columns("a + c AS s").select("k", "s"),
        lambda s: s.select("k", "transform(array(a), x -> x + c) AS l"),
        lambda s: s.where("b = 'y' OR c > 3").where("k < 4").select("upper(b) AS u", "k"),
        lambda s: s.group_by("b").agg("sum(a) AS s", "count(*) FILTER (WHERE c > 2) AS n"),
        lambda s: s.select("k", "a").union(s.select("k + 1 AS k", "CAST(c AS BIGINT) AS a")),
        lambda s: s.named("n").select("a AS x", "t").where("x IS NOT NULL").select("x"),
        lambda s: s.expect_or_drop("r", "c < 4").select("k"),
        lambda s: s.drop("a").rename({"b": "bb"}).select("bb"),
        lambda s: s.join([{"b": "x", "z": 1}, {"b": "y", "z": 2}], on="b", how="left").select("k", "z"),
        lambda s: s.with_watermark("t", "1 day").group_by(bayou.window("t", "1 day"), "a").agg("max(b) AS m"),
        lambda s: s.map_batches(lambda t: t.to_pandas()[["k", "c"]], schema="k BIGINT, c DOUBLE"),
        lambda s: s.select("explode(array(a, 1)) AS e", "k"),
    ]
    for number, shape in enumerate(shapes):
        for how in ("inner", "left"):
            # A pandas function needs pandas; everything else is the same.
            of = [shape(stream.join(other, on="k", how=how)) for other in (dim, pa.table(rows))]
            mode = {"output_mode": "complete"} if "group_by" in str(of[0].explain) or number in (6,) else {}
            found = [sorted(map(repr, s.collect(close_windows=True, **mode).to_dicts())) for s in of]
            assert found[0] == found[1], (number, how)
            assert number == 12 or found[0], number
