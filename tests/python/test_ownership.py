"""Other people's rows, renamed queries, shared quarantines: exact or refused, with a way out that works."""

from __future__ import annotations

import os
import pathlib
import shutil

import bayou
import deltalake
import pyarrow as pa
import pytest


def put(broker: bayou.Connection, count: int, topic: str = "t") -> bayou.Stream:
    broker.create_topic(topic, exist_ok=True)
    broker.produce(topic, [{"a": i, "k": "x"} for i in range(count)], progress=False)
    return broker.read_stream(topic, schema="a INT, k STRING")


@pytest.mark.parametrize("mode", ["update", "complete"])
def test_a_first_run_does_not_take_the_rows_of_others_for_its_own(
    broker: bayou.Connection, tmp_path: pathlib.Path, mode: str
) -> None:
    path = str(tmp_path / "t")
    deltalake.write_deltalake(path, pa.table({"k": ["x", "y"], "n": [100, 200]}))
    totals = put(broker, 3).group_by("k").agg("count(*) AS n")
    for _ in range(2):
        with pytest.raises(
            bayou.ConfigError, match=r"has rows that 't' did not write.*accept_changes=True.*full_refresh"
        ):
            totals.write_delta(path, output_mode=mode, progress=False)
        assert deltalake.DeltaTable(path).to_pyarrow_table().num_rows == 2
    taken = str(tmp_path / "taken")
    shutil.copytree(path, taken)
    totals.write_delta(path, output_mode=mode, accept_changes=True, progress=False)
    left = {r["k"]: r["n"] for r in bayou.read_delta(path).to_dicts()}
    assert left == ({"x": 3, "y": 200} if mode == "update" else {"x": 3})
    with pytest.raises(bayou.ConfigError, match="a different writer has written rows"):
        totals.write_delta(taken, output_mode=mode, full_refresh=True, progress=False)
    totals.write_delta(taken, output_mode=mode, full_refresh=True, accept_changes=True, progress=False)
    assert bayou.read_delta(taken).to_dicts() == [{"k": "x", "n": 3}]


def test_a_query_under_another_name_does_not_write_its_topic_twice(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    stream = put(broker, 3)
    one = bayou.Pipeline("one", tmp_path / "lake")
    one.table("x", stream)
    one.run(progress=False)
    two = bayou.Pipeline("two", tmp_path / "lake")
    two.table("x", stream)
    with pytest.raises(bayou.ConfigError, match=r"filled by the query 'one'.*accept_changes=True"):
        two.run(progress=False)
    # It is no mistake to write a different topic into the same append table.
    other = bayou.Pipeline("other", tmp_path / "lake")
    other.table("x", put(broker, 2, "u"))
    other.run(progress=False)
    assert len(bayou.read_delta(tmp_path / "lake" / "x")) == 5
    two.run(progress=False, accept_changes=True)
    assert len(bayou.read_delta(tmp_path / "lake" / "x")) == 8
    path = tmp_path / "t"
    stream.write_delta(path, query_name="q", progress=False)
    with pytest.raises(bayou.ConfigError, match='query_name="q"'):
        stream.write_delta(path, query_name="Q", progress=False)
    # full_refresh of one of them would empty the rows of the other.
    stream.write_delta(path, query_name="Q", accept_changes=True, progress=False)
    with pytest.raises(bayou.ConfigError, match="the query 'Q' has written rows"):
        stream.write_delta(path, query_name="q", full_refresh=True, progress=False)
    assert len(bayou.read_delta(path)) == 6


def test_a_table_that_was_moved_or_copied_goes_on_under_its_old_query(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    stream = put(broker, 2)
    stream.write_delta(tmp_path / "old", progress=False)
    for how in ("renamed", "copied", "linked"):
        new = tmp_path / f"new_{how}"
        if how == "renamed":
            os.rename(tmp_path / "old", new)
        elif how == "copied":
            shutil.copytree(tmp_path / "new_renamed", new)
        else:
            new.symlink_to(tmp_path / "new_renamed")
        with pytest.raises(bayou.ConfigError, match='query_name="old"'):
            stream.write_delta(new, progress=False)
    put(broker, 3)
    for how in ("renamed", "copied"):
        stream.write_delta(tmp_path / f"new_{how}", query_name="old", progress=False)
        stream.write_delta(tmp_path / f"new_{how}", query_name="old", progress=False)
        assert len(bayou.read_delta(tmp_path / f"new_{how}")) == 5


def test_totals_that_come_back_do_not_begin_at_nothing(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    for mode in ("update", "complete"):
        stream = put(broker, 10)

        def lake(with_totals: bool, s: bayou.Stream = stream, m: str = mode, **options: str) -> bayou.Pipeline:
            made = bayou.Pipeline("p", tmp_path / m)
            made.table("rows", s)
            if with_totals:
                made.table("totals", s.group_by("k").agg("count(*) AS n"), output_mode=m, **options)
            return made

        lake(True).run(progress=False)
        put(broker, 1)
        lake(False).run(progress=False)
        with pytest.raises(bayou.ConfigError, match=r"would start again from nothing.*different name"):
            lake(True, start="now").run(progress=False)
        again = lake(False)
        again.table("totals2", stream.group_by("k").agg("count(*) AS n"), output_mode=mode, start="earliest")
        again.run(progress=False)
        assert again.read("totals2").to_dicts() == [{"k": "x", "n": len(again.read("rows"))}]


def test_two_queries_with_one_quarantine_lose_no_row_of_it(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    stream = put(broker, 1).expect_or_quarantine("none", "a < 0")

    def lake(checkpoint: str, table: str) -> bayou.Pipeline:
        made = bayou.Pipeline("p", tmp_path / "lake", checkpoint_location=str(tmp_path / checkpoint))
        made.table(table, stream)
        return made

    for _ in range(3):
        lake("ca", "x").run(progress=False)
        put(broker, 1)
    count = len(bayou.read_delta(tmp_path / "lake" / "p_quarantine"))
    assert count == 3
    # The epochs of the other query would have the same transaction id.
    with pytest.raises(bayou.BayouError, match=r"epochs up to 2 of a query 'p'.*a different name"):
        lake("cb", "y").run(progress=False)
    put(broker, 1)
    lake("ca", "x").run(progress=False)
    assert len(bayou.read_delta(tmp_path / "lake" / "p_quarantine")) == 5


def test_a_table_is_not_where_the_quarantine_is(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    lake = bayou.Pipeline("p", tmp_path)
    lake.table("p_quarantine", put(broker, 1))
    with pytest.raises(bayou.ConfigError, match="quarantine of 'p'.*different name"):
        lake.run(progress=False)


def test_a_pipeline_reads_the_quarantine_of_another_at_its_newest_version(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    for name, runs in (("a", 1), ("b", 4)):
        for _ in range(runs):
            lake = bayou.Pipeline(name, tmp_path)
            lake.table(f"rows_{name}", put(broker, 1, name).expect_or_quarantine("none", "a < 0"))
            lake.run(progress=False)
    a, b = bayou.Pipeline("a", tmp_path), bayou.Pipeline("b", tmp_path)
    assert (len(a.read("b_quarantine")), len(b.read("a_quarantine"))) == (4, 1)
    assert a.sql("SELECT count(*) AS n FROM b_quarantine").to_dicts() == [{"n": 4}]


def test_names_with_letters_outside_ascii_work_everywhere(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    stream = put(broker, 2)
    lake = bayou.Pipeline("wärme", tmp_path / "größe")
    lake.table("küche", stream.expect_or_quarantine("first", "a = 0"))
    lake.table("表", stream.group_by("k").agg("count(*) AS n"), output_mode="update")
    lake.run(progress=False)
    assert lake.tables() == ["küche", "wärme_quarantine", "表"]
    assert [len(lake.read(t)) for t in lake.tables()] == [1, 1, 1]
    assert lake.expectations().to_dicts()[0]["failed_records"] == 1
    assert (tmp_path / "größe" / "_bayou" / "wärme").is_dir()
    lake.reset(confirm=True)
    lake.run(progress=False)
    assert lake.sql("SELECT n FROM `表`").to_dicts() == [{"n": 2}]
    assert len(lake.read("küche")) == 1
    assert [p.name for p in (tmp_path / "größe").iterdir() if "%" in p.name] == []


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("dbfs:/lake/t", "DBFS"),
        ("file:t", "file:///t"),
        ("file:/x/t", "/x/t"),
        ("hdfs:/lake/t", "hdfs"),
        ("hdfs://name/lake/t", "hdfs"),
        ("s3:/bucket/t", "s3://bucket/t"),
        ("abfss:/x", "abfss://x"),
        ("C:\\lake\\t", "Windows"),
        ("lake\\t", "backslash"),
        ("a%20b/t", "per cent"),
        ("foo:bar", "./foo:bar"),
    ],
)
def test_other_spellings_of_places_never_make_a_local_folder(
    broker: bayou.Connection, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, target: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    stream = put(broker, 1)
    with pytest.raises(bayou.BayouError) as caught:
        stream.write_delta(target, progress=False)
    assert said in str(caught.value)
    with pytest.raises(bayou.BayouError):
        bayou.read_delta(target)
    assert list(tmp_path.iterdir()) == []


def test_places_where_rows_are_not_safe_are_warned_about(
    broker: bayou.Connection, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = put(broker, 1)
    outer = stream.write_delta(tmp_path / "t", progress=False)
    assert outer.warnings == []
    inner = stream.write_delta(tmp_path / "t" / "inner", progress=False)
    assert any("inside the folder of the table" in w and "VACUUM" in w for w in inner.warnings), inner.warnings
    kept = stream.write_delta(tmp_path / "u", checkpoint_location=str(tmp_path / "t" / "checkpoint"), progress=False)
    assert any("checkpoint" in w and "VACUUM" in w for w in kept.warnings), kept.warnings
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "16.4")
    lost = stream.write_delta(tmp_path / "v", progress=False)
    assert any("cluster's own disk" in w for w in lost.warnings), lost.warnings


def test_a_key_under_another_name_does_not_give_each_group_a_second_row(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    totals = put(broker, 3).group_by("k").agg("count(*) AS n")
    totals.write_delta(tmp_path / "t", output_mode="update", progress=False)
    put(broker, 1)
    renamed = totals.select("k AS key", "n")
    with pytest.raises(bayou.ConfigError, match="merged by the key 'key', which the table did not have before"):
        renamed.write_delta(tmp_path / "t", output_mode="update", schema_mode="merge", progress=False)
    totals.select("n", "k").write_delta(tmp_path / "t", output_mode="update", progress=False)
    assert bayou.read_delta(tmp_path / "t").to_dicts() == [{"k": "x", "n": 4}]


def test_a_table_whose_log_is_gone_is_not_made_again_but_refused(
    broker: bayou.Connection, tmp_path: pathlib.Path
) -> None:
    stream = put(broker, 3)
    made = tmp_path / "made"
    run = lambda **more: stream.write_delta(made, checkpoint_location=tmp_path / "c", progress=False, **more)  # noqa: E731
    run()
    (made / "_delta_log").rename(tmp_path / "kept")
    put(broker, 2)
    with pytest.raises(bayou.DataLossError, match="there is no _delta_log"):
        run()
    assert not (made / "_delta_log").exists(), "a copy can be put back"
    (tmp_path / "kept").rename(made / "_delta_log")
    run()
    assert bayou.read_delta(made).num_rows == 5
    shutil.rmtree(made)
    with pytest.raises(bayou.DataLossError, match="full_refresh=True"):
        run()
    run(full_refresh=True)
    assert bayou.read_delta(made).num_rows == 5
