"""The first hours of a user in JupyterLab, in a real browser. The tests check text, order and colours of states, not pixels."""

from __future__ import annotations

import pathlib
import re

import pytest
from lab import lab

FIRST = [
    """import bayou
from bayou import testing
kafka = bayou.connect(name="BROKER")
kafka.create_topic("fitness-tracker", partitions=2, exist_ok=True)
kafka.produce("fitness-tracker", bayou.simulate("fitness", rows=20_000, seed=1), key="ip")""",
    """raw = kafka.read_stream("fitness-tracker", schema="time TIMESTAMP, model STRING, heart_bpm INT")
clean = (raw.select("time", "heart_bpm AS bpm", "model")
            .expect_or_drop("human has a pulse", "bpm > 0")
            .named("clean"))
clean.preview(5)""",
    """lake = bayou.Pipeline("first", "lake/first")
lake.table("bpm_cleansed", clean)
query = lake.run()""",
    "query",
    """lake.sql("SELECT model, count(*) AS n FROM bpm_cleansed GROUP BY model ORDER BY model")""",
    "clean.write_delta?",
    """live = clean.write_delta("lake/live", trigger="1 second", block=False)""",
    """kafka.produce("fitness-tracker", [{"time": "2026-01-01T00:00:00Z", "model": "new", "heart_bpm": 60}] * 7)""",
    """clean.named("watched").write_delta("lake/watched", trigger="1 second")""",
    """1 + 1""",
    """dying = (clean.expect_or_fail("known", "model <> 'broken'").named("dying")
         .write_delta("lake/dying", trigger="1 second", block=False, query_name="dying"))""",
    """kafka.produce("fitness-tracker", [{"time": "2026-01-01T00:00:00Z", "model": "broken", "heart_bpm": 60}])""",
    """live.stop(); live.status""",
]


def rgb(text: str) -> tuple[float, float, float]:
    found = [float(n) for n in re.findall(r"[0-9.]+", text)[:3]]
    return found[0], found[1], found[2]


def luminance(colour: tuple[float, float, float]) -> float:
    """WCAG 2.1, relative luminance."""
    parts = [c / 255 for c in colour]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(rgb(one)), luminance(rgb(other))), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_a_first_pipeline_cell_by_cell(theme: str, tmp_path: pathlib.Path) -> None:
    cells = [c.replace("BROKER", f"browser-{tmp_path.parent.name}-{theme[-4:]}".lower()) for c in FIRST]
    with lab(tmp_path, theme) as jupyter:
        notebook = jupyter.open("first.ipynb", cells)
        assert "20000 of 20000 rows delivered" in notebook.run(0).replace(",", "")
        preview = notebook.run(1)
        assert "Looked at" in preview and "human has a pulse" in preview and "TIMESTAMP" in preview
        run = notebook.run(2)
        assert "finished" in run and "20,000" in run and "bpm_cleansed" in run
        again = notebook.run(3)
        assert "finished" in again and "bpm_cleansed" in again, "the query in the cell after its run"
        table = notebook.run(4)
        assert "undef" in table and "BIGINT" in table
        text = notebook.output(4).locator("td").first
        assert notebook.style(text, "text-align") == "left"
        number = notebook.output(4).locator("td.n").first
        assert notebook.style(number, "text-align") == "right"

        # Help in the cell.
        notebook.run(5)
        pager = jupyter.page.locator("text=Write a Delta table, exactly once").first
        pager.wait_for(timeout=20_000)

        # A panel behind its cell is alive: nothing runs, and the numbers change.
        assert "running" in notebook.run(6) or notebook.until(6, "running")
        notebook.until(6, "20,000")
        notebook.run(7)
        notebook.until(6, "20,007")
        good = notebook.output(6).locator(".tag").first
        assert contrast(notebook.style(good, "color"), notebook.style(good, "background-color")) >= 4.5

        # Stop ends the cell, and the next one runs.
        notebook.start(8)
        notebook.until(8, "20,007")
        notebook.stop()
        notebook.wait(8)
        assert "KeyboardInterrupt" in notebook.text(8)
        assert "2" in notebook.run(9)

        # A query that dies turns red, behind its cell.
        notebook.run(10)
        notebook.until(10, "running")
        notebook.run(11)
        assert "dying failed" in notebook.until(10, "does not hold")
        tag = notebook.output(10).locator(".tag").first
        red, green, blue = rgb(notebook.style(tag, "background-color"))
        assert red > 2 * green and red > 2 * blue
        assert contrast(notebook.style(tag, "color"), notebook.style(tag, "background-color")) >= 4.5
        assert "stopped" in notebook.run(12)
        notebook.until(6, "stopped")

        # The theme of the page is the one that is looked at, and the text of panels is readable on it.
        page = jupyter.page.locator(".jp-Notebook").first
        background = notebook.style(page, "background-color")
        assert (luminance(rgb(background)) < 0.2) == (theme == "JupyterLab Dark")
        words = notebook.output(6).locator(".bayou").first
        assert contrast(notebook.style(words, "color"), background) >= 4.5
