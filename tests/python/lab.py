"""JupyterLab in a headless Chromium, as a user has it: cells are run by keys, buttons are clicked, outputs are read from the page."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import nbformat
from playwright.sync_api import Locator, Page, sync_playwright

SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    raise AssertionError("no Chromium is installed: scripts/setup.sh installs it")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Notebook:
    """A notebook that is open in a tab."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def cell(self, index: int) -> Locator:
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def output(self, index: int) -> Locator:
        return self.cell(index).locator(".jp-OutputArea")

    def start(self, index: int) -> None:
        """Shift+Enter in a cell."""
        self.cell(index).locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")

    def run(self, index: int, seconds: float = 60) -> str:
        """Runs a cell, waits until it has ended, and returns the text of its output."""
        self.start(index)
        # A key that is pressed while JupyterLab still arranges the page is lost: the prompt stays empty.
        prompt = self.cell(index).locator(".jp-InputPrompt")
        for _ in range(5):
            for _ in range(40):
                if prompt.inner_text().strip(" []:"):
                    break
                self.page.wait_for_timeout(50)
            else:
                self.start(index)
                continue
            break
        self.wait(index, seconds)
        return self.text(index)

    def wait(self, index: int, seconds: float = 60) -> None:
        prompt = self.cell(index).locator(".jp-InputPrompt")
        end = time.monotonic() + seconds
        while not prompt.inner_text().strip(" []:").isdigit():
            assert time.monotonic() < end, f"cell {index} does not end: {prompt.inner_text()} {self.text(index)}"
            self.page.wait_for_timeout(50)

    def text(self, index: int) -> str:
        return self.output(index).inner_text() if self.output(index).count() else ""

    def until(self, index: int, text: str, seconds: float = 30) -> str:
        """Waits until the output of a cell has a text, without running anything."""
        end = time.monotonic() + seconds
        while text not in self.text(index):
            assert time.monotonic() < end, f"cell {index} does not show {text!r}: {self.text(index)}"
            self.page.wait_for_timeout(50)
        return self.text(index)

    def stop(self) -> None:
        """The Stop button of the toolbar."""
        self.page.locator('.jp-NotebookPanel-toolbar [data-command="notebook:interrupt-kernel"]').click()

    def style(self, locator: Locator, name: str) -> str:
        return str(locator.evaluate(f"e => getComputedStyle(e).getPropertyValue({name!r})"))

    def picture(self, locator: Locator, path: pathlib.Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        locator.scroll_into_view_if_needed()
        locator.screenshot(path=str(path))


class Lab:
    def __init__(self, folder: pathlib.Path, url: str, page: Page) -> None:
        self.folder = folder
        self.url = url
        self.page = page

    def open(self, name: str, cells: list[str]) -> Notebook:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.folder / name)
        return self.show(name, len(cells))

    def show(self, name: str, cells: int) -> Notebook:
        self.page.goto(f"{self.url}/lab/tree/{name}?reset", wait_until="load")
        self.page.locator(".jp-Notebook .jp-Cell").nth(cells - 1).wait_for(timeout=60_000)
        # The kernel is ready when its indicator says so.
        idle = self.page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
        idle.first.wait_for(timeout=60_000)
        return Notebook(self.page)


@contextlib.contextmanager
def lab(folder: pathlib.Path, theme: str = "JupyterLab Light", width: int = 1280, height: int = 1400) -> Iterator[Lab]:
    """A JupyterLab server on loopback with settings of its own, and a browser that shows it."""
    settings = folder / ".settings"
    for plugin, values in {**SETTINGS, "@jupyterlab/apputils-extension/themes": {"theme": theme}}.items():
        path = settings / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    port = free_port()
    own = {
        name: str(folder / f".{name.lower()}") for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    }
    environment = {
        **os.environ,
        **own,
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / ".w"),
    }
    with (folder / ".server.log").open("w") as log:
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}"),
                *("--ip=127.0.0.1", "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}"),
            ],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 90
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/api", timeout=1).close()
                break
            assert server.poll() is None and time.monotonic() < end, (folder / ".server.log").read_text()
            time.sleep(0.1)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": width, "height": height})
            # On a busy machine JupyterLab may put a question over the page, which takes all clicks.
            question = page.locator(".jp-Dialog .jp-mod-accept").first
            page.add_locator_handler(question, lambda button: button.click())
            try:
                yield Lab(folder, url, page)
            finally:
                browser.close()
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
