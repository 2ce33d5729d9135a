"""Mounts without put-if-absent, such as /Volumes: refused, or written by a single writer."""

from __future__ import annotations

import pathlib

import bayou
import delta_replay
import pyarrow as pa
import pytest
from bayou import _core


@pytest.fixture
def mount(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder in which hard links fail, as they do on /Volumes."""
    folder = tmp_path / "volumes"
    folder.mkdir()
    _core._treat_as_mount(folder)
    return folder


def publish(kafka: bayou.Connection, start: int, stop: int) -> bayou.Stream:
    kafka.create_topic("t", partitions=1, exist_ok=True)
    kafka.produce("t", pa.table({"i": list(range(start, stop))}), progress=False)
    return kafka.read_stream("t", schema="i INT", max_offsets_per_trigger=10)


def test_a_mount_is_written_only_by_a_single_writer_who_says_so(mount: pathlib.Path, broker: bayou.Connection) -> None:
    raw = publish(broker, 0, 40)
    at = str(mount / "t")
    for call in (
        lambda: raw.write_delta(at, progress=False),
        lambda: raw.write_delta("/dbfs/t", progress=False),
        lambda: raw.write_delta("/Volumes/main/heart/v/t", progress=False),
        lambda: raw.foreach_batch(print, query_name="f", checkpoint_location=at, progress=False),
    ):
        with pytest.raises(bayou.StorageError, match=r"put-if-absent.*catalog\.schema\.table.*single_writer=True"):
            call()
    assert list(mount.iterdir()) == []
    good = raw.expect_or_quarantine("even", "i % 2 = 0")
    for start in (40, 60):
        query = good.write_delta(at, single_writer=True, optimize_every=4, progress=False)
        assert query.status == "finished"
        publish(broker, start, start + 20)
    assert any("single_writer=True promises that no other run" in w for w in query.warnings)
    good.write_delta(at, single_writer=True, progress=False)
    assert sorted(r["i"] for r in delta_replay.rows(mount / "t")) == list(range(0, 80, 2))
    assert sorted(r["offset"] for r in delta_replay.rows(mount / "t_quarantine")) == list(range(1, 80, 2))
    # Reading needs no permission.
    assert len(bayou.read_delta(at)) == 40
    assert bayou.sql("SELECT count(*) AS n FROM t", t=at).to_dicts() == [{"n": 40}]
    assert raw.join(at, on="i").collect().to_arrow().num_rows == 40
    # No unfinished file is left.
    assert not [p for p in mount.rglob("*") if "#" in p.name]


def test_a_pipeline_on_a_mount_is_reset_read_and_run_again(mount: pathlib.Path, broker: bayou.Connection) -> None:
    raw = publish(broker, 0, 30)
    lake = bayou.Pipeline("p", mount / "lake")
    lake.table("rows", raw)
    lake.table("by", raw.group_by("i % 3 AS k").agg("count(*) AS n"), output_mode="update")
    with pytest.raises(bayou.StorageError, match="single_writer=True"):
        lake.run(progress=False)
    lake.run(single_writer=True, progress=False)
    lake.reset(confirm=True)
    lake.run(single_writer=True, progress=False)
    assert lake.tables() == ["by", "rows"]
    assert lake.sql("SELECT sum(n) AS n FROM by").to_dicts() == [{"n": 30}]
    assert len(lake.read("rows")) == 30
    assert len(lake.repair()) == 0
