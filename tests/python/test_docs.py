"""The manual: every block of Python runs, every link leads somewhere, every page is in the navigation."""

from __future__ import annotations

import ast
import contextlib
import io
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import bayou
import pytest
import yaml

ROOT = pathlib.Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = [p for p in PAGES if "```python" in p.read_text()]


class Secrets:
    """Stands for Databricks' dbutils."""

    class secrets:
        @staticmethod
        def get(scope: str, key: str) -> str:
            return f"the {key} of {scope}"

    class widgets:
        @staticmethod
        def get(name: str) -> str:
            return {"topic": "fitness-tracker", "target": "lake/from_widget"}.get(name, name)

    class notebook:
        @staticmethod
        def exit(text: str) -> None:
            assert text.startswith("{")


@pytest.fixture
def names(
    broker: bayou.Connection, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """The names that the pages assume, and a `connect` that knows only the broker of the test."""
    monkeypatch.chdir(tmp_path)
    for topic in ("fitness-tracker", "calls", "answers"):
        broker.create_topic(topic, partitions=6)
    broker.produce("fitness-tracker", bayou.simulate("fitness", rows=5000, seed=1), key="ip", progress=False)
    real = bayou.connect

    class Connect(type(real)):  # type: ignore[misc]
        def __call__(self, target: Any = None, *, options: Any = None, **more: Any) -> bayou.Connection:
            target = options or target
            if isinstance(target, dict):
                # The properties of the page are checked by a connection to a port without a listener.
                given = {k: v for k, v in target.items() if "pem" not in k and k.startswith("kafka.") == bool(options)}
                servers = "kafka.bootstrap.servers" if options else "bootstrap.servers"
                with pytest.raises(bayou.ConnectionError):
                    real(**{"options" if options else "target": {**given, servers: "127.0.0.1:1"}}, **more)
            return broker

    monkeypatch.setattr(bayou, "connect", Connect())
    raw = broker.read_stream("fitness-tracker", schema="time TIMESTAMP, model STRING, heart_bpm INT")
    clean = (
        raw.select("time", "heart_bpm AS bpm", "model").expect_or_drop("human has a pulse", "bpm > 0").named("clean")
    )
    lake = bayou.Pipeline("given", tmp_path / "given")
    lake.table("bpm_cleansed", clean)
    yield {
        "bayou": bayou,
        "kafka": broker,
        "raw": raw,
        "clean": clean,
        "stream": clean,
        "lake": lake,
        "dbutils": Secrets,
        **{name: f"a {name}" for name in ("key", "secret", "user", "password")},
        "connection_string": "Endpoint=sb://a.b/;SharedAccessKeyName=k;SharedAccessKey=s",
        **{name: f"a {name}" for name in ("ca_text", "certificate_text", "key_text")},
    }


@pytest.mark.parametrize("page", CODE, ids=lambda p: p.stem)
def test_every_block_of_python_runs(page: pathlib.Path, names: dict[str, Any]) -> None:
    blocks = [m for m in FENCE.finditer(page.read_text()) if m.group(1) == "python"]
    for block in blocks:
        if page.read_text()[: block.start()].endswith(") -->\n"):
            continue  # the comment names the test that runs it
        line = page.read_text()[: block.start()].count("\n") + 1
        source = ast.parse(block.group(2))
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            try:
                exec(compile(source, f"{page.name}:{line}", "exec"), names)
                # The value of the last line is what the cell shows.
                if isinstance(source.body[-1], ast.Expr):
                    shown = eval(compile(ast.Expression(source.body[-1].value), page.name, "eval"), names)
                    repr(shown)
            except Exception as error:
                raise AssertionError(
                    f"{page.name}, the block in line {line}: {type(error).__name__}: {error}"
                ) from error
    query = names.get("query")
    if query is not None and query.is_active:
        query.stop()


def anchors(page: pathlib.Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in heads}


def test_every_link_leads_somewhere() -> None:
    dead = []
    for page in [*PAGES, *ROOT.glob("docs/decisions/*.md")]:
        text = FENCE.sub("", page.read_text())
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"https?://|mailto:", target):
                continue
            path, _, anchor = target.partition("#")
            to = page if not path else page.parent / path
            if not to.exists() or (anchor and to.suffix == ".md" and anchor not in anchors(to)):
                dead.append(f"{page.relative_to(ROOT)}: {target}")
    assert not dead, dead


def test_every_page_is_in_the_navigation() -> None:
    nav = yaml.safe_load((ROOT / "scripts" / "mkdocs.yml").read_text())["nav"]
    listed = {page for group in nav for pages in group.values() for page in pages if isinstance(page, str)}
    assert {p.name for p in ROOT.glob("docs/*.md")} == listed
    for name in (
        "ten-minutes",
        "connect",
        "from-spark",
        "from-pandas",
        "expectations",
        "event-time",
        "joins",
        "exactly-once",
    ):
        assert f"{name}.md" in listed
    for name in ("jobs", "performance", "operations", "troubleshooting", "sql", "api", "comparison"):
        assert f"{name}.md" in listed


def test_the_errors_of_the_troubleshooting_page_are_said_by_bayou() -> None:
    """Each text of the table is a part of a message in the source."""
    source = "".join(
        p.read_text() for p in [*ROOT.glob("src/**/*.rs"), *ROOT.glob("python/**/*.py"), *ROOT.glob("python/**/*.pyi")]
    )
    source = re.sub(r"\\\n\s*", "", source)  # texts that are broken over lines
    table = (ROOT / "docs" / "troubleshooting.md").read_text()
    texts = [t for row in re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE) for t in re.findall(r"`([^`]+)`", row)]
    assert len(texts) > 10
    missing = [t for t in texts for part in re.split(r"'…'|…", t) if (p := part.strip(" ,'")) and p not in source]
    assert not missing, missing


def test_the_api_reference_has_every_public_name() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    inner = {"BayouError", *(n for n in bayou.__all__ if n.endswith("Error")), "testing", "__version__", "_Outputs"}
    missing = [n for n in bayou.__all__ if n not in inner and not re.search(rf"\b{n}\b", text)]
    assert not missing, missing
