"""The output of a query while it runs: in a notebook, and in a scheduled job."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import textwrap

import bayou
import pytest
from bayou._display.panel import History, ago

CELLS = [
    """
    import bayou, time
    kafka = bayou.testing.broker().__enter__()
    kafka.create_topic("fit", partitions=1, replication_factor=1)
    send = lambda values: kafka.produce("fit", [{"bpm": v} for v in values], progress=False)
    send([60] * 500)
    raw = kafka.read_stream("fit", schema="bpm INT")
    lake = bayou.Pipeline("pulses", kafka.scratch_dir)
    lake.table("clean", raw.expect_or_fail("positive", "bpm > 0"))
    """,
    "query = lake.run(trigger='100 milliseconds', block=False)\nquery",
    "while query.last_progress is None or query.last_progress['batchId'] < 1:\n    send([61]); time.sleep(0.2)\nquery",
    "send([-1])\nwhile query.is_active: time.sleep(0.1)\ntime.sleep(2.5)",
    "lake.tables()",
    "lake.tables()",
    "done = raw.where('bpm > 0').write_delta(kafka.scratch_dir / 'done')\ndone",
    "done",
]


def text_of(html: str) -> str:
    return re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", html))


def test_a_panel_is_alive_behind_its_cell_and_says_that_its_query_died() -> None:
    import nbclient
    import nbformat

    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(textwrap.dedent(c)) for c in CELLS])
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    shown = [[o for o in cell.outputs if "data" in o] for cell in book.cells]
    said = ["".join(o.text for o in cell.outputs if o.output_type == "stream") for cell in book.cells]
    # One panel in the cell of the run, although the query is its last expression, and one in the next cell. Both went on.
    for cell in (1, 2):
        assert len(shown[cell]) == 1, book.cells[cell].outputs
        panel = shown[cell][0].data["text/html"]
        assert "tag failed" in panel and "expectation 'positive'" in text_of(panel).replace("&#x27;", "'")
        # Front ends without HTML, and saved notebooks, have a line.
        assert shown[cell][0].data["text/plain"].startswith("pulses: failed, ")
    # The log says it once, where the query died, and so does the next call of the pipeline.
    assert said[3].count("pulses: failed") == 1
    assert "RuntimeWarning: the run of the pipeline 'pulses' in the background has failed" in said[4]
    assert said[5] == ""
    # A query that was waited for is shown in its cell, and again in the next one.
    assert [len(shown[cell]) for cell in (6, 7)] == [1, 1]
    assert all("tag good" in shown[cell][0].data["text/html"] for cell in (6, 7))


JOB = """
import sys, bayou
kafka = bayou.testing.broker().__enter__()
kafka.create_topic("fit", partitions=1, replication_factor=1)
kafka.produce("fit", [{"bpm": v} for v in range(-1, 99)], progress=False)
raw = kafka.read_stream("fit", schema="bpm INT")
rule = raw.expect_or_fail if "fail" in sys.argv else raw.expect_or_drop
query = rule("positive", "bpm >= 0").write_delta(kafka.scratch_dir / "clean", trigger="100 milliseconds", timeout="2 seconds")
print(query.result())
"""


@pytest.fixture
def job(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "job.py"
    path.write_text(JOB)
    return path


def run(job: pathlib.Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    # A job on a cluster: a home that cannot be written, and a different working directory.
    odd = job.parent / "a folder with ümlauts"
    odd.mkdir(exist_ok=True)
    home = job.parent / "home"
    home.mkdir(exist_ok=True)
    home.chmod(0o500)
    environment = {**os.environ, "HOME": str(home), **env}
    return subprocess.run(
        [sys.executable, str(job), *args], capture_output=True, text=True, cwd=odd, env=environment, timeout=120
    )


def test_a_job_ends_after_its_time_and_its_result_is_json(job: pathlib.Path) -> None:
    done = run(job, DATABRICKS_RUNTIME_VERSION="16.4")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["status"] == "stopped" and result["numInputRows"] == 100
    assert result["tables"]["clean"]["rowsWritten"] == 99
    assert [(rule["name"], rule["failedRecords"]) for rule in result["brokenRules"]] == [("positive", 1)]
    assert result["notes"] == ["the run ended because of timeout=2 seconds. The next run goes on where it stopped."]
    # Visible although logging is not configured.
    assert done.stderr.strip().splitlines()[-1].startswith("clean: stopped, 100 messages in 1 epoch, ")


def test_a_job_that_fails_says_so_in_its_last_lines_and_its_exit_code(job: pathlib.Path) -> None:
    done = run(job, "fail")
    assert done.returncode == 1 and done.stdout == ""
    assert "clean: failed, " in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("bayou.ExpectationError: expectation 'positive'")


def test_rates_are_of_the_last_seconds_and_fall_to_nothing() -> None:
    history = History()
    for second in range(60):
        history.add(float(second), min(second, 30) * 1000, 0)
    assert history.rate() == 0.0
    assert [round(rate) for _, rate, _ in history.points][5:25] == [1000] * 20
    assert history.points[-1][1] == 0.0
    assert bayou.Query.result.__name__ == "result"


def test_a_watermark_is_told_by_its_age() -> None:
    import datetime

    now = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.timezone.utc)
    assert ago("2026-01-01T11:59:48Z", now) == "12 s ago"
    assert ago("2026-01-01 11:40:00+00:00", now) == "20 min ago"
    assert ago("2025-12-01T00:00:00", now) == "32 days ago"
    assert ago("2026-01-01T13:00:00Z", now) == "60 min ahead"
    assert ago("no time", now) == "" and ago(None, now) == ""
