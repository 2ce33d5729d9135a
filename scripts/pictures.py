"""The pictures of the manual: the page "Ten minutes" in JupyterLab, in a real browser. `make pictures` runs it."""

import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "python"))

from lab import Notebook, lab  # noqa: E402

FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# The blocks of the page, and the pictures with their output.
PICTURES = {
    "peek": "kafka.peek",
    "preview": "clean.preview",
    "panel": "query = lake.run()",
    "table": "models = lake.sql",
}


def main() -> None:
    blocks = FENCE.findall((ROOT / "docs" / "ten-minutes.md").read_text())
    # A separate broker, so that the pictures do not depend on messages that were published before.
    cells = [b.strip().replace("bayou.connect()", 'bayou.connect(name="pictures")') for b in blocks]
    with tempfile.TemporaryDirectory() as folder, lab(pathlib.Path(folder), width=1180, height=1600) as jupyter:
        notebook: Notebook = jupyter.open("ten-minutes.ipynb", cells)
        for i, cell in enumerate(cells):
            notebook.run(i, 120)
            assert "Traceback" not in notebook.text(i), notebook.text(i)
            for name, begins in PICTURES.items():
                if begins in cell and "trigger" not in cell:
                    jupyter.page.wait_for_timeout(300)
                    notebook.picture(notebook.cell(i), ROOT / "docs" / "pictures" / f"{name}.png")
        print("pictures:", ", ".join(sorted(PICTURES)))


if __name__ == "__main__":
    main()
