"""Changes of other writers to bayou's tables, between runs and during a run: nothing is lost or doubled, or a refusal says why."""

from __future__ import annotations

import pathlib
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import bayou
import deltalake
import pyarrow as pa
import pytest
from lakes import Place, Runner, check, define, publish
from spark_shell import Spark, spark


@pytest.fixture(scope="module")
def shell() -> Iterator[Spark]:
    with spark() as made:
        yield made


def rows(path: str | pathlib.Path) -> list[int]:
    """By the PyPI deltalake, which reads checkpoints too."""
    found = deltalake.DeltaTable(str(path)).to_pyarrow_table()
    return sorted(found.column("i").to_pylist())


FOREIGN = pa.table({"i": pa.array([1000], pa.int32()), "k": pa.array([0], pa.int32())})


def theirs(what: Callable[[deltalake.DeltaTable, str], Any]) -> Callable[[Spark, str], None]:
    return lambda _, path: what(deltalake.DeltaTable(path), path)


def sql(*statements: str) -> Callable[[Spark, str], None]:
    def run(shell: Spark, path: str) -> None:
        for statement in statements:
            shell.sql(statement.format(t=f"delta.`{path}`", path=path))

    return run


def checkpointed(table: deltalake.DeltaTable, path: str) -> None:
    table.create_checkpoint()
    table.cleanup_metadata()


def recreated(_: deltalake.DeltaTable, path: str) -> None:
    shutil.rmtree(pathlib.Path(path, "_delta_log"))
    deltalake.write_deltalake(path, FOREIGN)


@dataclass
class Case:
    act: Callable[[Spark, str], None]
    # The numbers of 0…19 and 1000 that the table has afterwards; None: as before.
    left: list[int] | None = None
    # The words of the refusal; "": none.
    refused: str = ""
    # A refusal that accept_changes=True does not lift.
    final: bool = False


ALL = list(range(20))
# Our own versions: 0 creates, 1 and 2 hold ten rows each.
APPEND: dict[str, Case] = {
    "append": Case(theirs(lambda t, p: deltalake.write_deltalake(p, FOREIGN, mode="append")), [*ALL, 1000]),
    "compact": Case(theirs(lambda t, p: t.optimize.compact())),
    "z-order": Case(theirs(lambda t, p: t.optimize.z_order(["i"]))),
    "vacuum": Case(theirs(lambda t, p: t.vacuum(0, dry_run=False, enforce_retention_duration=False, full=True))),
    "checkpoint": Case(theirs(checkpointed)),
    "delete": Case(theirs(lambda t, p: t.delete("i = 3")), [i for i in ALL if i != 3], r"version 3 was a DELETE"),
    "update": Case(theirs(lambda t, p: t.update({"k": "9"}, predicate="i = 3")), ALL, r"version 3 was a UPDATE"),
    "restore": Case(theirs(lambda t, p: t.restore(1)), ALL[:10], r"version 3 was a RESTORE"),
    "overwrite": Case(
        theirs(lambda t, p: deltalake.write_deltalake(p, FOREIGN, mode="overwrite")), [1000], r"version 3 was a WRITE"
    ),
    "recreated": Case(theirs(recreated), [1000], r"recreated|version 0", final=True),
    "Spark INSERT": Case(sql("INSERT INTO {t} VALUES (1000, 0)"), [*ALL, 1000]),
    "Spark OPTIMIZE and VACUUM": Case(sql("OPTIMIZE {t}", "VACUUM {t} RETAIN 0 HOURS")),
    "Spark ALTER TABLE": Case(
        sql("ALTER TABLE {t} SET TBLPROPERTIES ('delta.logRetentionDuration' = 'interval 40 days')"), ALL
    ),
    "Spark ADD COLUMN": Case(sql("ALTER TABLE {t} ADD COLUMN (more STRING)"), ALL),
    "Spark DELETE": Case(sql("DELETE FROM {t} WHERE i >= 15"), ALL[:15], r"version 3 was a DELETE"),
    "Spark RESTORE": Case(sql("RESTORE TABLE {t} TO VERSION AS OF 1"), ALL[:10], r"version 3 was a RESTORE"),
    "Spark INSERT OVERWRITE": Case(sql("INSERT OVERWRITE {t} VALUES (1000, 0)"), [1000], r"version 3 was a WRITE"),
    "Spark CREATE OR REPLACE": Case(
        sql("CREATE OR REPLACE TABLE {t} USING DELTA AS SELECT 1000 AS i, 0 AS k"),
        [1000],
        r"recreated|REPLACE",
        final=True,
    ),
}


@pytest.mark.parametrize("name", APPEND)
def test_an_append_table_takes_what_others_do_or_says_why_not(
    broker: bayou.Connection, shell: Spark, tmp_path: pathlib.Path, name: str
) -> None:
    case = APPEND[name]
    path = str(tmp_path / "t")
    broker.create_topic("t")
    stream = broker.read_stream("t", schema="i INT, k INT")
    for start in (0, 10):
        broker.produce("t", [{"i": i, "k": 0} for i in range(start, start + 10)], progress=False)
        stream.write_delta(path, progress=False)
    case.act(shell, path)
    left = ALL if case.left is None else case.left
    assert rows(path) == left, "the test's own idea of what was done"
    broker.produce("t", [{"i": i, "k": 0} for i in range(20, 30)], progress=False)
    if case.refused:
        for _ in range(2):
            with pytest.raises(bayou.DataLossError, match=case.refused) as caught:
                stream.write_delta(path, progress=False)
            assert path in str(caught.value) and ("accept_changes" in str(caught.value) or case.final)
            assert rows(path) == left, "a refusal has changed the table"
        if case.final:
            # The way out that the error names.
            assert "full_refresh=True, accept_changes=True" in str(caught.value)
            with pytest.raises(bayou.ConfigError, match="a different writer has written rows"):
                stream.write_delta(path, progress=False, full_refresh=True)
            stream.write_delta(path, progress=False, full_refresh=True, accept_changes=True)
            assert rows(path) == list(range(30))
            return
    stream.write_delta(path, progress=False, accept_changes=bool(case.refused))
    assert rows(path) == sorted([*left, *range(20, 30)])
    # Changes that were accepted are known from now on.
    broker.produce("t", [{"i": 30, "k": 0}], progress=False)
    stream.write_delta(path, progress=False)
    assert rows(path) == sorted([*left, *range(20, 31)])


@pytest.mark.parametrize("mode", ["update", "complete"])
def test_a_table_that_is_bayous_alone_takes_only_what_leaves_its_rows_alone(
    broker: bayou.Connection, shell: Spark, tmp_path: pathlib.Path, mode: Any
) -> None:
    path = str(tmp_path / "t")
    broker.create_topic("t")
    counts = broker.read_stream("t", schema="i INT, k INT").group_by("k").agg("count(*) AS i")
    allowed = ["compact", "vacuum", "checkpoint", "Spark OPTIMIZE and VACUUM", "Spark ALTER TABLE"]
    refused = {
        "append": sql("INSERT INTO {t} (k, i) VALUES (1000, 1)"),
        "delete": sql("DELETE FROM {t} WHERE k = 1"),
        "restore": theirs(lambda t, p: t.restore(t.version() - 1)),
    }

    def more() -> None:
        broker.produce("t", [{"i": i, "k": i % 3} for i in range(9)], progress=False)

    def held() -> dict[int, int]:
        return {r["k"]: r["i"] for r in deltalake.DeltaTable(path).to_pyarrow_table().to_pylist()}

    for _ in range(3):
        more()
        counts.write_delta(path, output_mode=mode, progress=False)
    for turn, name in enumerate(allowed, 4):
        APPEND[name].act(shell, path)
        more()
        counts.write_delta(path, output_mode=mode, progress=False)
        assert held() == {k: 3 * turn for k in range(3)}, name
    for turn, (name, act) in enumerate(refused.items(), 4 + len(allowed)):
        act(shell, path)
        more()
        with pytest.raises(bayou.DataLossError, match=r"accept_changes=True"):
            counts.write_delta(path, output_mode=mode, progress=False)
        counts.write_delta(path, output_mode=mode, progress=False, accept_changes=True)
        found = held()
        # All groups have changed, so each group is written again. Mode update keeps the foreign rows, and mode complete removes them.
        assert found.pop(1000, None) == (1 if mode == "update" else None)
        assert found == {k: 3 * turn for k in range(3)}, name


def test_a_running_query_and_others_that_append_join_files_and_check_point_do_not_disturb_each_other(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    path = str(tmp_path / "t")
    broker.create_topic("t")
    stream = broker.read_stream("t", schema="i INT, k INT")
    stream.write_delta(path, progress=False)
    query = stream.write_delta(path, trigger="0 seconds", block=False, progress=False)
    rng = random.Random(4)
    done: Counter[str] = Counter()
    foreign = 0
    total = 0
    stop = threading.Event()

    def produce() -> None:
        nonlocal total
        while not stop.is_set():
            broker.produce("t", [{"i": i, "k": 0} for i in range(total, total + 5)], progress=False)
            total += 5

    publishing = threading.Thread(target=produce)
    publishing.start()
    try:
        while sum(done.values()) < 60:
            act = rng.choice(["append", "compact", "vacuum", "checkpoint"])
            table = deltalake.DeltaTable(path)
            try:
                if act == "append":
                    row = pa.table({"i": pa.array([-1 - foreign], pa.int32()), "k": pa.array([1], pa.int32())})
                    deltalake.write_deltalake(table, row, mode="append")
                    foreign += 1
                elif act == "compact":
                    table.optimize.compact()
                elif act == "vacuum":
                    table.vacuum(168, dry_run=False)
                else:
                    table.create_checkpoint()
            except deltalake.exceptions.CommitFailedError:
                continue  # theirs has lost a race
            done[act] += 1
            assert query.is_active, query.exception()
    finally:
        stop.set()
        publishing.join()
    deadline = time.monotonic() + 30
    while len(rows(path)) < total + foreign and time.monotonic() < deadline:
        time.sleep(0.05)
    query.stop()
    assert query.exception() is None and len(done) == 4
    assert rows(path) == [*range(-foreign, 0), *range(total)]


def test_a_restore_beside_a_running_query_ends_it_and_nothing_is_doubled(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    path = str(tmp_path / "t")
    broker.create_topic("t")
    stream = broker.read_stream("t", schema="i INT, k INT")
    for start in (0, 10):
        broker.produce("t", [{"i": i, "k": 0} for i in range(start, start + 10)], progress=False)
        stream.write_delta(path, progress=False)
    query = stream.write_delta(path, trigger="0 seconds", block=False, progress=False)
    deltalake.DeltaTable(path).restore(1)
    broker.produce("t", [{"i": i, "k": 0} for i in range(20, 30)], progress=False)
    with pytest.raises(bayou.DataLossError, match="RESTORE"):
        query.await_termination("60 seconds")
    assert rows(path) == list(range(10))
    with pytest.raises(bayou.DataLossError, match="RESTORE"):
        stream.write_delta(path, progress=False)
    stream.write_delta(path, progress=False, accept_changes=True)
    assert rows(path) == [*range(10), *range(20, 30)]


@pytest.mark.parametrize("mode", ["append", "update", "complete"])
def test_a_table_recreated_while_a_query_runs_is_noticed_however_many_versions_it_has(
    mode: str, broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    path, other = str(tmp_path / "t"), str(tmp_path / "other")
    broker.create_topic("t")
    stream = broker.read_stream("t", schema="i INT, k INT")
    wanted = stream if mode == "append" else stream.group_by("i", "k").count()
    broker.produce("t", [{"i": 0, "k": 0}], progress=False)
    query = wanted.write_delta(path, output_mode=mode, trigger="0 seconds", block=False, progress=False)  # type: ignore[arg-type]
    deadline = time.monotonic() + 30
    while query.last_progress is None and time.monotonic() < deadline:
        time.sleep(0.05)
    while not deltalake.DeltaTable.is_deltatable(path) or not rows(path):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    theirs = bayou.read_delta(path).to_arrow()
    # As many versions, and more.
    for _ in range(5):
        deltalake.write_deltalake(other, theirs, mode="append")
    for file in pathlib.Path(other).glob("*.parquet"):
        shutil.copy(file, path)
    pathlib.Path(path, "_delta_log").rename(tmp_path / "gone")
    pathlib.Path(other, "_delta_log").rename(pathlib.Path(path, "_delta_log"))
    broker.produce("t", [{"i": 1, "k": 0}], progress=False)
    with pytest.raises(bayou.DataLossError, match="recreated"):
        query.await_termination("60 seconds")
    assert rows(path) == [0] * 5


def test_staged_files_that_a_vacuum_took_are_named_and_a_reset_reads_them_again(
    address: str, kafka: bayou.Connection, topic: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    name = topic(1)
    publish(address, name, 0, 80)
    place = Place(tmp_path / "lake")
    said = Runner.start(address, name, place, epoch=20, crash={"seal.after": 2}).go().end()
    assert said == "code -6"
    table = deltalake.DeltaTable(str(place.folder / "rows"))
    assert table.vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)
    lake = define(kafka, name, place.root, 20, None)
    for _ in range(2):
        with pytest.raises(
            bayou.StorageError, match=r"/rows/?: the staged data file part-\S+ is gone .*epoch 1 .*full_refresh=True"
        ):
            lake.run(progress=False)
    lake.reset(confirm=True)
    lake.run(progress=False)
    found = deltalake.DeltaTable(str(place.folder / "rows")).to_pyarrow_table().column("i").to_pylist()
    assert sorted(found) == [i for i in range(80) if i % 10 != 9]


def test_a_vacuum_leaves_the_checkpoint_below_the_table_alone(
    broker: bayou.Connection, shell: Spark, tmp_path: pathlib.Path
) -> None:
    path = str(tmp_path / "t")
    broker.create_topic("t")
    counts = broker.read_stream("t", schema="i INT, k INT").group_by("k").agg("count(*) AS i")
    for _ in range(2):
        broker.produce("t", [{"i": 1, "k": 1}], progress=False)
        counts.write_delta(path, output_mode="update", progress=False)
    before = sorted(p for p in pathlib.Path(path, "_bayou").rglob("*") if p.is_file())
    table = deltalake.DeltaTable(path)
    table.vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)
    shell.sql(f"VACUUM delta.`{path}` RETAIN 0 HOURS")
    assert sorted(p for p in pathlib.Path(path, "_bayou").rglob("*") if p.is_file()) == before


def test_the_lake_of_other_tests_is_exact_to_begin_with(
    address: str, kafka: bayou.Connection, topic: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    name = topic(1)
    publish(address, name, 0, 100)
    define(kafka, name, str(tmp_path), 30, None).run(progress=False)
    check(tmp_path, 100)
