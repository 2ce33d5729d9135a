"""The three notebooks' work without a browser: events, tables, an answer, pictures.

    python notebooks/demo.py [FOLDER]        # default: lake/demo beside the notebooks' folder

It runs the notebooks themselves, each in a kernel, on a private embedded broker. So the demo always does what the
notebooks do. The folder is emptied first, because its tables were filled from a broker that does not exist any more.
"""

import base64
import os
import pathlib
import shutil
import sys
import time

import bayou
import nbformat
from nbclient import NotebookClient

HERE = pathlib.Path(__file__).resolve().parent
NOTEBOOKS = ["1_generate_events.ipynb", "2_clean_and_aggregate.ipynb", "3_analytics.ipynb"]


def run(name: str, environment: dict[str, str]) -> nbformat.NotebookNode:
    notebook = nbformat.read(HERE / name, as_version=4)
    # The kernel's warning about its own transport is not ours to tell.
    settings = {"resources": {"metadata": {"path": str(HERE)}}, "extra_arguments": ["--log-level=ERROR"]}
    return NotebookClient(notebook, timeout=100, kernel_name="python3", **settings).execute(env=environment)


def pictures(notebook: nbformat.NotebookNode, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes the plots, named after their cells."""
    made = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                made.append(folder / f"{cell.id}.png")
                made[-1].write_bytes(base64.b64decode(png))
    return made


def said(notebook: nbformat.NotebookNode, cell_id: str) -> str:
    (cell,) = (c for c in notebook.cells if c.get("id") == cell_id)
    return "".join(o["text"] for o in cell.outputs if o.output_type == "stream").strip()


def shown(notebook: nbformat.NotebookNode, cell_id: str) -> str:
    (cell,) = (c for c in notebook.cells if c.get("id") == cell_id)
    return next(o.data["text/plain"] for o in cell.outputs if o.output_type == "execute_result")


def main() -> None:
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else HERE.parent / "lake" / "demo").absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    broker = f"demo-{os.getpid()}"
    # A burst on an embedded broker. BAYOU_ variables of this shell have no effect, except BAYOU_EVENTS.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BAYOU_") or k == "BAYOU_EVENTS"}
    environment |= {"BAYOU_BROKER": broker, "BAYOU_LAKE": str(folder)}

    began = time.monotonic()
    kafka = bayou.connect(name=broker)  # held until the end: the broker goes with its last user
    done = {}
    for name in NOTEBOOKS:
        start = time.monotonic()
        done[name] = run(name, environment)
        print(f"{name:30}{time.monotonic() - start:6.1f} s", flush=True)

    root = folder / kafka.cluster_id / "heart_stream"
    lake = bayou.Pipeline("heart_stream", str(root))
    print(f"\nRead:    {said(done[NOTEBOOKS[0]], 'count')}")
    print("\nWritten:")
    for table in lake.tables():
        rows = lake.sql(f"SELECT count(*) AS n FROM {table}").row(0)["n"]
        print(f"{rows:>10,} rows  {root / table}")
    print("\nRules:")
    print(lake.expectations())
    print("\nHeart rate by region, before and in the last 15 minutes (beats per minute):")
    print(shown(done[NOTEBOOKS[2]], "rule"))
    print(f"\nAnswer:  {said(done[NOTEBOOKS[2]], 'rule')}")
    print("\nPlots:")
    for picture in pictures(done[NOTEBOOKS[2]], folder):
        print(f"  {picture}")
    print(f"\n{time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
