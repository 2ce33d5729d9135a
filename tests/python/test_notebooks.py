"""The notebooks run: each by itself, all three at once, and on a real cluster; and they find what they should."""

import base64
import io
import os
import pathlib
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import bayou
import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = pathlib.Path(__file__).parents[2] / "notebooks"
GENERATE, CLEAN, ANALYSE = "1_generate_events.ipynb", "2_clean_and_aggregate.ipynb", "3_analytics.ipynb"
PORT, OPERATE = "4_port_a_dlt_notebook.ipynb", "5_operate.ipynb"
STORY = [GENERATE, CLEAN, ANALYSE]
ALL = [*STORY, PORT, OPERATE]
EVENTS = 40_000
# Most of it is for kernels to start on a busy machine.
TIMEOUT = 120

Run = Callable[..., nbformat.NotebookNode]


def execute(name: str, environment: dict[str, str], also: str = "") -> nbformat.NotebookNode:
    """Runs a notebook in a kernel of its own, from its own folder; `also` is a cell more."""
    notebook = nbformat.read(FOLDER / name, as_version=4)
    if also:
        notebook.cells.append(nbformat.v4.new_code_cell(also, id="also"))
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BAYOU_")}
    client = NotebookClient(
        notebook, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    )
    return client.execute(env=clean | {"BAYOU_EVENTS": str(EVENTS)} | environment)


def said(notebook: nbformat.NotebookNode, cell_id: str) -> str:
    """The text that a cell printed or showed."""
    (cell,) = (c for c in notebook.cells if c.id == cell_id)
    texts = [o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell.outputs]
    return "\n".join(texts).strip()


def pictures(notebook: nbformat.NotebookNode) -> dict[str, bytes]:
    return {
        cell.id: base64.b64decode(output.data["image/png"])
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    }


def colours(png: bytes) -> set[tuple[int, int, int]]:
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    assert image.width > 600 and image.height > 200
    return {colour for count, colour in image.getcolors(image.width * image.height) if count > 50}


@pytest.fixture
def broker() -> str:
    return f"notebooks-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def kafka(broker: str) -> bayou.Connection:
    """An embedded broker for one test; held, so that it outlives each notebook's kernel."""
    return bayou.connect(name=broker)


@pytest.fixture
def run(broker: str, kafka: bayou.Connection) -> Run:
    def run(name: str, also: str = "", **environment: str) -> nbformat.NotebookNode:
        return execute(name, {"BAYOU_BROKER": broker} | environment, also)

    return run


def published(kafka: bayou.Connection, topic: str = "fitness-tracker") -> int:
    return sum(p["latest"] - p["earliest"] for p in kafka.describe_topic(topic)["partitions"])


@pytest.mark.parametrize("name", ALL)
def test_no_output_is_committed(name: str) -> None:
    notebook = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert code and all(c.outputs == [] and c.execution_count is None and c.metadata == {} for c in code)


@pytest.mark.parametrize("name", ALL)
def test_every_variable_that_is_read_is_documented(name: str) -> None:
    notebook = nbformat.read(FOLDER / name, as_version=4)
    text = {kind: "".join(c.source for c in notebook.cells if c.cell_type == kind) for kind in ("code", "markdown")}
    read = set(re.findall(r"BAYOU_\w+", text["code"]))
    assert read and read <= set(re.findall(r"BAYOU_\w+", text["markdown"]))


def test_the_first_notebook_alone_publishes_a_burst_and_four_broken_messages(kafka: bayou.Connection, run: Run) -> None:
    notebook = run(GENERATE)
    assert published(kafka) == EVENTS + 4
    assert f"{EVENTS + 4:,} messages in 6 partitions" in said(notebook, "count")


def test_the_second_notebook_alone_on_an_empty_broker_makes_its_events(kafka: bayou.Connection, run: Run) -> None:
    notebook = run(CLEAN)
    assert published(kafka) == EVENTS
    for table in [
        "events_raw",
        "events_decoded",
        "bpm_cleansed",
        "bpm_global",
        "bpm_per_minute_by_model",
        "bpm_per_minute_by_region",
    ]:
        assert table in said(notebook, "tables")
    assert f"{EVENTS:,} rows  {kafka.scratch_dir}" in said(notebook, "tables")


def test_the_third_notebook_alone_on_an_empty_broker_finds_the_outbreak(run: Run) -> None:
    notebook = run(ANALYSE)
    assert "heart_stream_essence" in said(notebook, "compact")
    assert "outbreak in Bayern" in said(notebook, "rule")


def test_the_notebooks_build_on_each_other(kafka: bayou.Connection, run: Run) -> None:
    run(GENERATE)
    cleaned = run(CLEAN)
    assert published(kafka) == EVENTS + 4
    rows = {line.split("/")[-1]: int(line.split()[0].replace(",", "")) for line in said(cleaned, "tables").splitlines()}
    assert rows["events_raw"] == EVENTS + 4
    # Words for a pulse, and half a document.
    assert rows["events_decoded"] == EVENTS + 2
    assert "decode" in said(cleaned, "quarantine")
    analysed = run(ANALYSE)
    assert "essence" not in said(analysed, "compact")
    readings = run(CLEAN, also='print(lake.read("bpm_global").row(0)["events"])')
    # A second run of the second notebook adds nothing.
    assert int(said(readings, "also")) == rows["bpm_cleansed"]


def test_three_kernels_at_once_publish_write_and_look(kafka: bayou.Connection, run: Run) -> None:
    rate, seconds = 2000, 15
    flow = {"BAYOU_RATE": str(rate), "BAYOU_SECONDS": str(seconds)}
    # The same number twice: each message is there, and once.
    count = """
once = lake.sql("SELECT count(*) AS n FROM (SELECT DISTINCT partition, offset FROM events_raw)")
print(len(lake.read("events_raw")), once.row(0)["n"])
"""
    with ThreadPoolExecutor(3) as kernels:
        look = kernels.submit(run, ANALYSE, **flow)
        write = kernels.submit(run, CLEAN, **flow)
        publish = kernels.submit(run, GENERATE, **flow)
        publish.result()
        write.result()
        looked = look.result()
    assert published(kafka) == rate * seconds + 4
    assert "essence" not in said(looked, "compact")
    assert "plot-live" in pictures(looked)
    # Messages that came after the last look are read by the next run; then each message is there once.
    written = run(CLEAN, also=count)
    assert said(written, "also").split() == [str(rate * seconds + 4)] * 2
    assert "outbreak in Bayern" in said(run(ANALYSE), "rule")


@pytest.mark.parametrize("fever", ["Sachsen", "Nordrhein-Westfalen", None])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_rule_finds_the_region_with_the_fever_and_no_other(
    kafka: bayou.Connection, run: Run, fever: str | None, seed: int
) -> None:
    kafka.create_topic("fitness-tracker", partitions=6)
    interval = timedelta(minutes=100) / EVENTS
    events = bayou.simulate("fitness", rows=EVENTS, interval=interval, seed=seed, fever_region=fever)
    kafka.produce("fitness-tracker", events, key="ip")
    notebook = run(ANALYSE, also='print(found.index[found["outbreak"]].tolist())')
    assert said(notebook, "also") == str([fever] if fever else [])
    red = (209, 54, 47)
    assert (red in colours(pictures(notebook)["plot-regions"])) == (fever is not None)


def test_a_heat_wave_in_all_regions_and_a_short_history_are_no_outbreak() -> None:
    """The rule by itself, on made-up windows."""
    import pandas as pd

    notebook = nbformat.read(FOLDER / ANALYSE, as_version=4)
    (rule,) = (c.source for c in notebook.cells if c.id == "rule")
    names: dict = {"pd": pd, "timedelta": timedelta}
    exec(rule[: rule.index("def by_region")], names)

    def rows(minutes: int, rise: Callable[[int, str], float]) -> pd.DataFrame:
        start = pd.Timestamp("2026-01-01", tz="UTC")
        made = [
            (start + pd.Timedelta(minutes=m), region, 100, 80 + 2 * n + ((m * 7 + n * 3) % 5) / 5 + rise(m, region))
            for m in range(minutes)
            for n, region in enumerate("ABCDEF")
        ]
        frame = pd.DataFrame(made, columns=["window_start", "region", "events", "average"])
        return frame.assign(window_end=frame["window_start"] + pd.Timedelta(minutes=1))

    def sick(frame: pd.DataFrame) -> list[str]:
        found = names["outbreaks"](frame)
        return found.index[found["outbreak"].astype(bool)].tolist()

    assert sick(rows(90, lambda m, region: 10 if m > 70 and region == "C" else 0)) == ["C"]
    assert sick(rows(90, lambda m, region: 10 if m > 70 else 0)) == []
    assert sick(rows(90, lambda m, region: 3 if m > 70 and region == "C" else 0)) == []
    assert sick(rows(90, lambda m, region: 0)) == []
    assert sick(rows(40, lambda m, region: 10 if m > 20 and region == "C" else 0)) == []


def test_events_that_break_no_rule_and_fill_no_minute_are_no_trouble(kafka: bayou.Connection, run: Run) -> None:
    kafka.create_topic("fitness-tracker")
    kafka.produce("fitness-tracker", bayou.simulate("fitness", rows=1, undef=0.0, zero=0.0))
    assert "nothing was put into quarantine" in said(run(CLEAN), "quarantine")
    assert "no verdict" in said(run(ANALYSE), "rule")


def test_tables_of_a_broker_that_is_gone_do_not_get_in_the_way(tmp_path: pathlib.Path) -> None:
    for _ in range(2):
        broker = f"notebooks-{uuid.uuid4().hex[:8]}"
        execute(CLEAN, {"BAYOU_BROKER": broker, "BAYOU_LAKE": str(tmp_path), "BAYOU_EVENTS": "2000"})
    assert len(list(tmp_path.glob("*/heart_stream/bpm_global"))) == 2


def test_the_plots_are_pictures_of_something(run: Run) -> None:
    made = pictures(run(ANALYSE))
    assert set(made) == {"plot-models", "plot-minutes", "plot-regions"}
    for name, png in made.items():
        assert len(png) > 8_000, name
        assert len(colours(png)) > 5, name


def test_the_demo_says_what_it_wrote_and_where(tmp_path: pathlib.Path) -> None:
    command = [sys.executable, FOLDER / "demo.py", tmp_path / "lake"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "outbreak in Bayern" in done.stdout
    for line in done.stdout.splitlines():
        if "/" in line:
            assert pathlib.Path(line.split()[-1]).exists(), line
    assert done.stdout.count(".png") == 3
    assert len(bayou.read_delta(str(next((tmp_path / "lake").glob("*/heart_stream/bpm_global"))))) == 1


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "sasl_ssl"])
def test_the_notebooks_run_on_a_real_cluster(tmp_path: pathlib.Path, encrypted: bool) -> None:
    if not os.environ.get("BAYOU_TEST_KAFKA"):
        pytest.fail("BAYOU_TEST_KAFKA is not set: run the tests with `python tests/kafka/server.py run -- pytest`")
    environment = {
        "BAYOU_BOOTSTRAP_SERVERS": os.environ["BAYOU_TEST_KAFKA"],
        "BAYOU_TOPIC": f"notebooks-{uuid.uuid4().hex[:8]}",
        "BAYOU_LAKE": str(tmp_path),
    }
    if encrypted:
        environment |= {
            "BAYOU_BOOTSTRAP_SERVERS": os.environ["BAYOU_TEST_KAFKA_SASL"],
            "BAYOU_SASL_USERNAME": os.environ["BAYOU_TEST_KAFKA_USER"],
            "BAYOU_SASL_PASSWORD": os.environ["BAYOU_TEST_KAFKA_PASSWORD"],
            "BAYOU_SSL_CA": os.environ["BAYOU_TEST_KAFKA_CA"],
        }
    for name in STORY:
        notebook = execute(name, environment)
    assert "outbreak in Bayern" in said(notebook, "rule")
    # The embedded broker has no transactions: only here alerts are sent.
    assert published(bayou.connect(os.environ["BAYOU_TEST_KAFKA"]), f"{environment['BAYOU_TOPIC']}-alerts") > 10
    assert "bpm_global" in bayou.Pipeline("heart_stream", str(tmp_path / "heart_stream")).tables()


def test_the_fourth_notebook_ports_a_pipeline_of_delta_live_tables(kafka: bayou.Connection, run: Run) -> None:
    notebook = run(PORT)
    assert published(kafka) == EVENTS
    assert "finished" in said(notebook, "run") and "human has a pulse" in said(notebook, "rules")
    assert "runner-1" in said(notebook, "result")
    tables = bayou.Pipeline("ported", f"{kafka.scratch_dir}/ported")
    assert {"events_raw", "bpm_cleansed", "bpm_per_minute", "events_by_model"} <= set(tables.tables())
    assert tables.sql("SELECT sum(n) AS n FROM events_by_model").row(0) == tables.sql(
        "SELECT count(*) AS n FROM bpm_cleansed"
    ).row(0)


def test_the_fifth_notebook_looks_after_a_pipeline(kafka: bayou.Connection, run: Run) -> None:
    notebook = run(OPERATE)
    assert "lag 0" in said(notebook, "lag") and "the alert was told" in said(notebook, "alert")
    assert "held_by" in said(notebook, "open") and "rule_failed" in said(notebook, "metrics")
    assert '"status":"stopped"' in said(notebook, "stop").replace(" ", "")
    assert "tracker is valid" in said(notebook, "late")
    assert "unknown" in said(notebook, "replay") and " rows" in said(notebook, "replay")
    assert "WRITE" in said(notebook, "reset")
