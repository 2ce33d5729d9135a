"""Documentation where notebook users look: `?`, Shift+Tab, `help()`. One text, from the stubs; and examples that run."""

from __future__ import annotations

import ast
import contextlib
import doctest
import inspect
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import bayou
import deltalake
import pyarrow as pa
import pytest
from bayou import dlt

STUBS = sorted((pathlib.Path(bayou.__file__).parent / "_core").glob("_*.pyi"))
CLASSES = [c for n in bayou.__all__ if inspect.isclass(c := getattr(bayou, n))]


def members(of: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class, as they are found on it."""
    for name in dir(of):
        if not name.startswith("_") and not issubclass(of, BaseException):
            yield name, inspect.getattr_static(of, name)


def public() -> Iterator[tuple[str, Any]]:
    """Every public name with its object: "Stream", "Stream.select", "connect", "dlt.table"."""
    for name in bayou.__all__:
        found = getattr(bayou, name)
        if inspect.ismodule(found) or isinstance(found, str):
            continue
        yield name, found
        if inspect.isclass(found):
            for member, at in members(found):
                yield f"{name}.{member}", at
    for module in (dlt, bayou.testing):
        for name in module.__all__:
            yield f"{module.__name__.split('.')[1]}.{name}", getattr(module, name)


def is_compiled(what: object) -> bool:
    return not isinstance(what, (property, type(lambda: 0), type(bayou.connect)))


def test_every_public_name_has_a_docstring_with_types_and_an_example() -> None:
    missing = []
    for name, what in public():
        doc = inspect.getdoc(what) or ""
        if not doc or ">>>" not in doc:
            missing.append(name)
            continue
        first = doc.split("\n\n")[0]
        if is_compiled(what) and not inspect.isclass(what):
            short = name.split(".")[-1]
            # "name: type" of a property; "name(argument: type = default) -> type" of a method.
            assert first.startswith((f"{short}: ", f"{short}(")), (name, first)
            assert "->" in first or first.startswith(f"{short}: "), (name, first)
    assert not missing, missing


def test_signatures_are_real_and_show_no_objects() -> None:
    checked = 0
    for name, what in public():
        if inspect.isclass(what) or not callable(what):
            continue
        signature = inspect.signature(what)
        for parameter in signature.parameters.values():
            assert parameter.default is not ..., (name, parameter)
            shown = repr(parameter.default)
            assert " object at 0x" not in shown and "<object" not in shown, (name, parameter)
        if is_compiled(what):
            # The names in the first lines of the docstring are those of the signature.
            typed = ast.parse(f"def {(inspect.getdoc(what) or '').split(chr(10) + chr(10))[0]}: ...").body[0]
            assert isinstance(typed, ast.FunctionDef)
            named = [a.arg for a in [*typed.args.posonlyargs, *typed.args.args, *typed.args.kwonlyargs]]
            named += [a.arg for a in (typed.args.vararg, typed.args.kwarg) if a]
            given = [p for p in signature.parameters if p != "self"]
            assert sorted(named) == sorted(given), (name, named, given)
            defaults = {
                p.name: repr(p.default)
                for p in signature.parameters.values()
                if p.default is not inspect.Parameter.empty
            }
            stubbed = dict(zip(reversed([a.arg for a in typed.args.args]), reversed(typed.args.defaults), strict=False))
            stubbed |= {a.arg: d for a, d in zip(typed.args.kwonlyargs, typed.args.kw_defaults, strict=True) if d}
            assert defaults == {n: repr(ast.literal_eval(d)) for n, d in stubbed.items()}, name
        checked += 1
    assert checked > 90, checked


def test_the_text_is_that_of_the_stub() -> None:
    texts = 0
    for path in STUBS:
        for item in ast.parse(path.read_text()).body:
            if not isinstance(item, ast.ClassDef) or item.name.startswith("_"):
                continue
            owner = getattr(bayou, item.name, None)
            if owner is None:
                continue
            assert ast.get_docstring(item) == inspect.getdoc(owner), item.name
            for inner in item.body:
                if isinstance(inner, ast.FunctionDef) and (text := ast.get_docstring(inner)):
                    shown = inspect.getdoc(inspect.getattr_static(owner, inner.name)) or ""
                    assert shown.endswith(text), f"{item.name}.{inner.name}"
                    texts += 1
    assert texts > 100, texts


def test_help_shows_the_text() -> None:
    script = "import bayou; help(bayou.Stream.with_watermark); help(bayou.Query)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "with_watermark(" in shown and "delay: str | timedelta | float" in shown and "The open windows" in shown
    assert repr(inspect.signature(bayou.connect).parameters["target"].default) == "EMBEDDED"


def test_importing_is_quick() -> None:
    script = "import time; t = time.perf_counter(); import bayou; print(time.perf_counter() - t)"
    times = [float(subprocess.check_output([sys.executable, "-c", script])) for _ in range(3)]
    assert min(times) < 1.0, times  # promised: 0.1 s


def test_the_table_of_functions_has_their_usage() -> None:
    table = bayou.functions()
    assert table.columns == ["name", "kind", "usage"] and len(table) > 350
    assert {"function", "aggregate", "generator", "window function", "operator"} == set(table["kind"])
    found = bayou.functions("Date_")
    assert 3 < len(found) < len(table) and all("date_" in usage.lower() for usage in found["usage"])
    with pytest.raises(bayou.SchemaError, match=r"bayou\.functions\(\) lists them"):
        bayou.from_batches({"a": [1]}).select("nonsense(a)")


# Examples that a test of this kind cannot run, each with the test that runs the same calls.
ELSEWHERE = {
    "Stream.pandas_batches": "runs until it is stopped (test_windows)",
    "Stream.write_kafka": "needs a real broker (test_topic)",
    "Pipeline.topic": "needs a real broker (test_topic)",
    "testing.crash_at": "ends the process (test_chaos)",
    "testing.pause_at": "suspends the process (test_takeover)",
    "testing.slow_at": "is slow (test_stop)",
    "Connection.client_properties": "needs confluent_kafka (test_api)",
    "AuthError": "needs a broker with users (test_kafka_faults)",
    "Connection.delete_topic": "the embedded broker has no deletion (test_kafka_faults)",
    "Connection": "needs a real broker (test_kafka_faults)",
    "Connection.create_partitions": "needs a real broker (test_administer)",
    "Connection.describe_config": "needs a real broker (test_administer)",
    "Connection.alter_config": "needs a real broker (test_administer)",
    "Connection.delete_records": "needs a real broker (test_administer)",
    "Connection.cluster": "needs a real broker (test_administer)",
    "Connection.consumer_groups": "needs a real broker (test_administer)",
    "Connection.describe_group": "needs a real broker (test_administer)",
    "Connection.group_offsets": "needs a real broker (test_administer)",
    "Connection.lag": "needs a real broker (test_administer)",
    "Connection.reset_group": "needs a real broker (test_administer)",
    "Connection.delete_group": "needs a real broker (test_administer)",
    "Connection.acls": "needs a real broker (test_administer)",
    "Connection.add_acl": "needs a real broker (test_administer)",
    "Connection.remove_acl": "needs a real broker (test_administer)",
    "dlt.apply_changes": "needs a topic of changes (test_dlt)",
}
SCHEMA = "ip STRING, time TIMESTAMP, version STRING, model STRING, color STRING, heart_bpm INT, kcal INT"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The names that the examples assume."""
    here = tmp_path_factory.mktemp("examples")
    with contextlib.chdir(here) if sys.version_info >= (3, 11) else pytest.MonkeyPatch.context() as patch:
        if patch is not None:
            patch.chdir(here)
        with bayou.testing.broker() as kafka:
            for topic in ("fitness-tracker", "alerts", "t", "a", "b"):
                kafka.create_topic(topic, partitions=6)
            kafka.produce("fitness-tracker", bayou.simulate("fitness", rows=2000, columns=7), key="ip")
            kafka.produce("t", [{"a": 1, "s": "x"}])
            raw = kafka.read_stream("fitness-tracker", schema=SCHEMA)
            clean = (
                raw.select("time", "heart_bpm AS bpm", "model", "ip").expect("plausible", "bpm < 250").named("clean")
            )
            deltalake.write_deltalake("lake/devices", pa.table({"model": ["Pulse 3"], "maker": ["A"]}))
            query = clean.write_delta("lake/bpm_cleansed", query_name="clean", progress=False)
            lake = bayou.Pipeline("given", "lake/given")
            lake.table("bpm_cleansed", clean)
            lake.run(progress=False)
            timed = clean.with_watermark("time", "10 seconds")
            yield {
                "bayou": bayou,
                "dlt": dlt,
                "shutil": shutil,
                "json": json,
                "kafka": kafka,
                "raw": raw,
                "clean": clean,
                "stream": clean,
                "alerts": clean.where("bpm > 180"),
                "clicks": timed.rename({"ip": "user"}),
                "orders": timed.rename({"ip": "customer", "bpm": "amount", "model": "item"}),
                "per_minute": timed.group_by(bayou.window("time", "1 minute")).count(),
                "ddl": "a INT, s STRING",
                "rows": [{"a": 1}],
                "frame": clean.collect().to_pandas(),
                "table": lake.sql("SELECT model, count(*) AS n FROM bpm_cleansed GROUP BY model"),
                "totals": lake.sql("SELECT count(*) AS eventsTotal FROM bpm_cleansed"),
                "query": query,
                "report": kafka.produce("fitness-tracker", [{"ip": "x"}]),
                "checked": bayou.from_batches({"bpm": [70]}).expect("set", "bpm IS NOT NULL").validate(),
                "batches": clean.batches(),
                "user": "u",
                "old": "secret",
                "post": lambda rows: None,
                "send": lambda rows: None,
                "rows_of_mine": lambda: [{"a": 1}],
                "p95": lambda rows: 0.0,
                "draw": lambda frame: None,
            }


# Code that an example needs before it.
BEFORE = {
    "Stream.decode": "raw = raw.with_columns(after='\\'{\"id\": 1, \"amount\": 2.5}\\'')",
    "Stream.select": (
        "raw = raw.with_columns(device='ip', readings=\"array(named_struct('time', time, 'value', heart_bpm))\")"
    ),
    "BayouError": "clean = clean.named('other')",
    "Stream.write_delta": "shutil.rmtree('lake/bpm_cleansed')",
    "Stream.expect_or_drop": "raw = raw.rename({'heart_bpm': 'bpm'})",
    "Stream.expect": "raw = raw.rename({'heart_bpm': 'bpm'})",
    "Stream.expect_all": "raw = raw.rename({'heart_bpm': 'bpm'})",
    "Stream.expect_all_or_drop": "raw = raw.rename({'heart_bpm': 'bpm'})",
    "Stream.named": "raw = raw.rename({'heart_bpm': 'bpm'})",
    "testing.crash_points": "kafka.produce('fitness-tracker', [{'ip': 'x', 'heart_bpm': 60}])",
    "Pipeline": "shutil.rmtree('lake/heart_stream', ignore_errors=True)",
    "dlt.table": "lake = dlt.pipeline('p1', 'lake/p1')",
    "dlt.view": "dlt.pipeline('p2', 'lake/p2')",
    "dlt.expect": "dlt.pipeline('p3', 'lake/p3')",
    "dlt.read_stream": "dlt.pipeline('p4', 'lake/p4').table('events_raw', raw)",
    "dlt.read": "dlt.pipeline('p5', 'lake/p5').table('bpm_cleansed', clean)",
}


def test_an_example_of_every_public_name_runs(names: dict[str, Any]) -> None:
    ran, failed = 0, []
    for name, what in public():
        if name in ELSEWHERE:
            continue
        given = dict(names)
        # A pipeline of its own, which has run once.
        lake = given["lake"] = bayou.Pipeline(f"given-{ran}", f"lake/given-{ran}")
        lake.table("bpm_cleansed", given["clean"])
        if re.search(r"\blake\b", f"{inspect.getdoc(what)} {BEFORE.get(name)}"):
            lake.run(progress=False)
        exec(BEFORE.get(name, ""), given)
        for example in doctest.DocTestParser().get_examples(inspect.getdoc(what) or ""):
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(example.source, name, "single" if example.source.count("\n") == 1 else "exec"), given)
                if example.exc_msg is not None:
                    failed.append(f"{name}: {example.source!r} raises nothing")
            except Exception as error:
                # There is no broker at the usual address, and no OpenTelemetry in the venv.
                absent = "localhost:9092" in str(error) or "opentelemetry-api" in str(error)
                if example.exc_msg is None and not absent:
                    failed.append(f"{name}: {example.source!r} {type(error).__name__}: {error}")
        ran += 1
    assert not failed, "\n".join(failed)
    assert ran > 130, ran
