"""Tries an installed wheel, as a user does in a first cell. `make wheel-check` runs it in clean environments."""

import platform
import sys
import tempfile

import bayou

assert "site-packages" in bayou.__file__, bayou.__file__
with bayou.testing.broker() as kafka, tempfile.TemporaryDirectory() as folder:
    kafka.create_topic("fitness-tracker", partitions=3)
    report = kafka.produce("fitness-tracker", bayou.simulate("fitness", rows=20_000), key="ip", progress=False)
    assert report.delivered == 20_000
    raw = kafka.read_stream("fitness-tracker", schema="time TIMESTAMP, model STRING, heart_bpm INT")
    clean = (
        raw.select("time", "heart_bpm AS bpm", "model").expect_or_drop("human has a pulse", "bpm > 0").named("clean")
    )
    per_minute = clean.with_watermark("time", "10 seconds").group_by(bayou.window("time", "1 minute"), "model").count()
    lake = bayou.Pipeline("tried", folder)
    lake.table("clean", clean)
    lake.table("per_minute", per_minute)
    query = lake.run(progress=False)
    again = lake.run(progress=False)
    assert query.status == "finished" and again.recent_progress == []
    table = lake.sql("SELECT model, count(*) AS n, avg(bpm) AS average FROM clean GROUP BY model ORDER BY model")
    rows = table.to_dicts()
    assert sum(r["n"] for r in rows) == lake.sql("SELECT count(*) AS n FROM clean").row(0)["n"] > 15_000
    said = [f"Python {platform.python_version()}", platform.libc_ver()[1]]
    try:
        import pandas
        import pyarrow
    except ImportError:
        said.append("without pandas and pyarrow")
    else:
        said.append(f"pandas {pandas.__version__}, pyarrow {pyarrow.__version__}")
        frame = table.to_pandas()
        assert list(frame.columns) == ["model", "n", "average"] and frame.n.sum() == sum(r["n"] for r in rows)
        assert str(clean.collect(limit=10).to_pandas().dtypes["time"]).startswith("datetime64[")
        assert table.to_arrow().num_rows == len(rows)
        sums = [batch.bpm.sum() for batch in clean.pandas_batches(limit=1000)]
        assert sum(sums) > 0
        mapped = clean.map_batches(lambda df: df.assign(zone=df.bpm // 40), "bpm INT, zone INT", input="pandas")
        assert len(mapped.collect(limit=100)) == 100
        assert len(bayou.from_batches(frame).collect()) == len(frame)
print("tried:", "; ".join(said), file=sys.stderr)
