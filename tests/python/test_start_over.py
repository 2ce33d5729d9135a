"""Starting over, and the remains of a checkpoint: never half of it, and never without the user's request."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import bayou
import delta_replay
import pytest
from lakes import NAME, Place, Runner, check, define, publish

# Each step of a run that starts over, up to its first rows.
STEPS = [
    "reset.before",
    "reset.after",
    "seal.before",  # of the fence
    "seal.after",
    "query.before",
    "query.after",
    "start.before",
    "start.after",
    "remove:reset.before",
    "remove:reset.after",
    "commit:rows.before",  # empties the table
    "commit:by_k.after",
    "data:rows.after",
]


def generations(root: pathlib.Path) -> list[int]:
    return sorted(int(p.name) for p in (root / "_bayou" / NAME).iterdir() if p.name.isdigit())


def test_a_full_refresh_that_is_killed_at_any_step_is_exact_after_an_ordinary_run(
    address: str, topic: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    name = topic(1)
    publish(address, name, 0, 60)
    place = Place(tmp_path)
    assert Runner.start(address, name, place, epoch=20).go().end() == "finished"
    count = 60
    for step in STEPS:
        before = generations(tmp_path)[-1]
        said = Runner.start(address, name, place, epoch=20, full_refresh=True, crash={step: 1}).go().end()
        assert said == "code -6", f"{step}: {said}"
        publish(address, name, count, count + 20)
        count += 20
        # An ordinary run, as a scheduled job does it.
        assert Runner.start(address, name, place, epoch=20).go().end() == "finished", step
        check(tmp_path, count)
        # The query starts over once, and not again and again.
        assert (generations(tmp_path)[-1] > before) == (step != "reset.before"), step
        assert not (tmp_path / "_bayou" / NAME / "reset.json").exists(), step
        now = generations(tmp_path)
        assert Runner.start(address, name, place, epoch=20).go().end() == "finished", step
        assert generations(tmp_path) == now, step


Run = Callable[..., bayou.Query]


@pytest.fixture(params=[1, 2], ids=["generation 1", "generation 2"])
def generation(request: pytest.FixtureRequest) -> int:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def name(address: str, topic: Callable[..., str]) -> str:
    made = topic(1)
    publish(address, made, 0, 60)
    return made


@pytest.fixture
def run(kafka: bayou.Connection, name: str, tmp_path: pathlib.Path, generation: int) -> Run:
    """Runs the lake, which has been started over as often as its generation says."""

    def one(**options: Any) -> bayou.Query:
        return define(kafka, name, str(tmp_path), 20, None).run(progress=False, **options)

    for g in range(generation):
        one(full_refresh=g > 0)
    return one


def is_refused(run: Run, root: pathlib.Path, error: type[bayou.BayouError], match: str) -> None:
    """With these words, and no table is touched."""
    snapshot = lambda: {t: len(delta_replay.rows(root / t)) for t in ("rows", "by_k", "all")}  # noqa: E731
    before = snapshot()
    with pytest.raises(error, match=match):
        run()
    assert snapshot() == before


def test_a_checkpoint_without_its_query_json_is_refused_and_a_full_refresh_reads_everything_again(
    address: str, name: str, run: Run, tmp_path: pathlib.Path, generation: int
) -> None:
    (tmp_path / f"_bayou/{NAME}/{generation}/query.json").unlink()
    is_refused(run, tmp_path, bayou.StorageError, rf"{generation}/query\.json is missing.*full_refresh=True")
    publish(address, name, 60, 80)
    query = run(full_refresh=True)
    assert sum(p["numInputRows"] for p in query.recent_progress) == 80
    check(tmp_path, 80)
    assert generations(tmp_path)[-1] == generation + 1


def test_a_checkpoint_that_was_copied_in_part_empties_no_table_unasked(
    run: Run, tmp_path: pathlib.Path, generation: int
) -> None:
    for path in (tmp_path / f"_bayou/{NAME}/{generation}").iterdir():
        if path.name != "query.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    is_refused(run, tmp_path, bayou.ConfigError, r"start\.json.*full_refresh=True")
    run(full_refresh=True)
    check(tmp_path, 60)


def test_a_function_takes_columns_that_delta_would_not(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"i": 1}, {"i": 2}], progress=False)
    raw = broker.read_stream("t", schema="i INT")
    got: list[list[dict[str, object]]] = []
    take = lambda rows, epoch: got.append(rows.to_pylist())  # noqa: E731
    at = {"checkpoint_location": tmp_path / "c", "progress": False}
    raw.select("i AS `a b`").foreach_batch(take, query_name="q1", **at)
    raw.group_by().agg("count(*)").foreach_batch(take, query_name="q2", output_mode="complete", **at)
    lake = bayou.Pipeline("p", tmp_path)
    lake.foreach_batch("x", raw.select("i AS `a;b`"), take)
    query = lake.run(progress=False)
    assert got == [[{"a b": 1}, {"a b": 2}], [{"count(1)": 2}], [{"a;b": 1}, {"a;b": 2}]]
    assert not (tmp_path / "x").exists(), "a function has no folder"
    assert [s["numOutputRows"] for s in query.last_progress["sinks"]] == [2]
    with pytest.raises(bayou.SchemaError, match="a b"):
        raw.select("i AS `a b`").write_delta(tmp_path / "t", progress=False)
