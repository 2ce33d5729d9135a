"""`current_timestamp()`: one moment for all rows of an epoch, sealed with the epoch, whenever a run is killed."""

from __future__ import annotations

import datetime
import json
import pathlib
import subprocess
import sys
import textwrap
import uuid

import bayou
import pytest

PROGRAM = """
import sys
import bayou
address, topic, root, point = sys.argv[1:]
rows = bayou.connect(name=address).read_stream(topic, schema="k INT", starting_offsets="earliest", max_offsets_per_trigger=40)
stamped = rows.select("k", "now() AS at", "current_date AS day").expect("not of the future", "at <= current_timestamp()")
lake = bayou.Pipeline("q", root)
lake.table("rows", stamped)
lake.table("seen", stamped.group_by("k % 2 AS odd").agg("max(at) AS newest", "min(at) AS oldest", "count(*) AS n"), output_mode="complete")
if point:
    bayou.testing.crash_at(point, nth=2)
lake.run(progress=False)
"""


def run(*args: str) -> int:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(PROGRAM), *args], check=False).returncode


def micros(at: datetime.datetime) -> int:
    since = at - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


@pytest.mark.parametrize("point", ["", "seal.before", "seal.after", "commit:rows.before", "commit:rows.after"])
def test_every_row_of_an_epoch_has_the_moment_that_its_seal_keeps(tmp_path: pathlib.Path, point: str) -> None:
    address, name, root = f"test-{uuid.uuid4().hex[:12]}", "t", str(tmp_path / "lake")
    kafka = bayou.connect(name=address)
    kafka.create_topic(name, partitions=2)
    kafka.produce(name, [{"k": k} for k in range(100)])
    before = datetime.datetime.now(datetime.timezone.utc)
    died = run(address, name, root, point)
    assert (died != 0) == bool(point)
    if point:
        assert run(address, name, root, "") == 0
    after = datetime.datetime.now(datetime.timezone.utc)
    seals = [json.loads(p.read_text()) for p in (tmp_path / "lake").rglob("epoch/*.json")]
    began = {
        s["began"]: sum(r["records"] for r in s["ranges"]) for s in seals if any(r["records"] for r in s["ranges"])
    }
    assert len(began) >= 3 and sum(began.values()) == 100
    rows = bayou.read_delta(f"{root}/rows").to_dicts()
    assert sorted(r["k"] for r in rows) == list(range(100))
    found: dict[int, int] = {}
    for row in rows:
        assert before <= row["at"] <= after
        assert row["day"] == row["at"].date()
        found[micros(row["at"])] = found.get(micros(row["at"]), 0) + 1
    assert found == began, "each epoch has one moment, which is that of its seal"
    # The values in groups were computed with the moment of their epoch.
    for group in bayou.read_delta(f"{root}/seen").to_dicts():
        assert (micros(group["oldest"]), micros(group["newest"])) == (min(began), max(began))
        assert group["n"] == 50


def test_a_batch_has_one_moment_and_rules_know_it() -> None:
    before = datetime.datetime.now(datetime.timezone.utc)
    stream = bayou.from_batches([{"k": k} for k in range(3)]).with_columns("now() AS at", "unix_timestamp() AS seconds")
    rows = stream.expect("now", "at = current_timestamp() AND current_date() = date(at)").collect().to_dicts()
    after = datetime.datetime.now(datetime.timezone.utc)
    assert len({r["at"] for r in rows}) == 1 and len(rows) == 3
    assert before <= rows[0]["at"] <= after and rows[0]["seconds"] == int(rows[0]["at"].timestamp())
    assert (
        stream.where("at > now() - INTERVAL 1 HOUR AND at + INTERVAL '00:30' HOUR TO MINUTE > now()")
        .collect()
        .to_dicts()
    )
    with pytest.raises(bayou.SchemaError, match="INTERVAL"):
        stream.select("now() - at AS age")


def test_over_tables_a_query_has_one_moment() -> None:
    import polars as pl

    before = datetime.datetime.now(datetime.timezone.utc)
    rows = bayou.sql(
        "SELECT k, now() AS a, current_timestamp() AS b FROM t", t=pl.DataFrame({"k": list(range(5))})
    ).to_dicts()
    assert len({r["a"] for r in rows} | {r["b"] for r in rows}) == 1
    assert before <= rows[0]["a"].replace(tzinfo=datetime.timezone.utc) <= datetime.datetime.now(datetime.timezone.utc)


def test_a_watermark_may_be_over_a_field_of_a_struct() -> None:
    times = ["2024-01-01T00:00:10Z", "2024-01-01T00:01:20Z", None, "2024-01-01T00:05:00Z", "2024-01-01T00:00:30Z"]
    broker = bayou.connect(name=f"test-{uuid.uuid4().hex[:12]}")
    broker.create_topic("t", partitions=1)
    broker.produce("t", [{"k": i, "after": {"ts": t} if t else None} for i, t in enumerate(times)])
    stream = broker.read_stream("t", schema="k INT, after STRUCT<ts: TIMESTAMP>", max_offsets_per_trigger=4)
    assert stream.columns == ["k", "after"]
    timed = stream.with_watermark("after.ts", "10 seconds", late="drop")
    for made in (
        timed.group_by(bayou.window("after.ts", "1 minute")).agg("count(*) AS n"),
        timed.group_by("window(after.ts, '1 minute')").agg("count(*) AS n"),
        timed.select("k", "after.ts AS ts").group_by(bayou.window("ts", "1 minute")).agg("count(*) AS n"),
        timed.select("after AS a").group_by(bayou.window("a.ts", "1 minute")).agg("count(*) AS n"),
    ):
        rows = made.collect().to_dicts()
        assert [(r["window_start"].minute, r["n"]) for r in rows][:2] == [(0, 2), (1, 1)], rows
        assert made.columns == ["window_start", "window_end", "n"]
    with pytest.raises(bayou.SchemaError, match="needs a TIMESTAMP"):
        stream.with_watermark("after", "1 second")
    with pytest.raises(bayou.ConfigError, match="field of a struct"):
        timed.drop_duplicates("k", within="1 minute")
