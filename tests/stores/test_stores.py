"""bayou on real object stores: kills, a failing store, two runners, throttling, credentials that expire. Run by `make stores`."""

from __future__ import annotations

import pathlib
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import bayou
import pyarrow as pa
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "unity"))
sys.path.insert(0, str(pathlib.Path(__file__).parent))
from lakes import Runner, check, publish
from servers import SERVERS, Place, Store, sas
from unity_server import unity

COUNT = 200
EPOCH = 25
CRASHES = [
    *("create:rows.after", "data:rows.after", "staged:by_k.before", "seal.before", "seal.after"),
    *("commit:rows.before", "commit:rows.after", "commit:by_k.before", "done.before", "done.after"),
]


@pytest.fixture(scope="module", params=SERVERS)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as made:
        yield made


@pytest.fixture
def place(store: Store, tmp_path: pathlib.Path) -> Place:
    return Place(store, f"lake-{uuid.uuid4().hex[:8]}", tmp_path)


def run(place: Place, address: str, topic: str, **more: Any) -> str:
    return Runner.start(address, topic, place, epoch=EPOCH, **more).go().end()  # type: ignore[arg-type]


def test_a_pipeline_that_is_killed_at_every_kind_of_step_is_exact(place: Place, address: str, topic: Any) -> None:
    name = topic()
    publish(address, name, 0, COUNT)
    for point in CRASHES:
        said = run(place, address, name, crash={point: 1})
        assert said.startswith("code -"), (point, said)
    assert run(place, address, name) == "finished"
    check(place.files(), COUNT)
    assert run(place, address, name) == "finished"
    check(place.files(), COUNT)


def test_a_store_that_fails_in_one_of_twenty_changes_is_exact(place: Place, address: str, topic: Any) -> None:
    name, proxy = topic(), place.store.proxy
    assert proxy
    seen = 0
    for seed in range(3):
        publish(address, name, seed * COUNT // 4, (seed + 1) * COUNT // 4)
        proxy.random.seed(seed)
        proxy.rate = 0.05
        proxy.faults.clear()
        said = run(place, address, name)
        proxy.rate = 0.0
        seen += sum(proxy.faults.values())
        assert said == "finished" or "StorageError" in said, said
    assert seen > 0
    assert run(place, address, name) == "finished"
    check(place.files(), 3 * COUNT // 4)


def test_of_two_runners_at_a_time_each_epoch_is_written_by_one(place: Place, address: str, topic: Any) -> None:
    name = topic()
    publish(address, name, 0, COUNT)
    runners = [Runner.start(address, name, place, epoch=10, elsewhere=e) for e in (False, True)]  # type: ignore[arg-type]
    for runner in runners:
        runner.go()
    said = [runner.end() for runner in runners]
    assert all(s == "finished" or "ConcurrentQueryError" in s for s in said), said
    assert run(place, address, name) == "finished"
    check(place.files(), COUNT)


def test_a_store_that_throttles_is_waited_for_as_it_asks(place: Place, address: str, topic: Any) -> None:
    name, proxy = topic(), place.store.proxy
    assert proxy
    publish(address, name, 0, 50)
    proxy.throttled, proxy.retry_after = 4, 1
    assert run(place, address, name) == "finished"
    assert proxy.throttled == 0
    check(place.files(), 50)


def test_signatures_of_azure_that_live_for_seconds_are_renewed(
    place: Place, kafka: bayou.Connection, topic: Any
) -> None:
    if place.store.name != "azurite":
        return  # for the credentials of other stores, see tests/python/test_credentials.py
    name, asked = topic(), []
    # One epoch for each message: enough epochs for several lives of a signature.
    kafka.produce(name, pa.table({"i": list(range(120))}), progress=False)
    plain = {k: v for k, v in place.options.items() if k != "azure_storage_account_key"}

    def provider() -> dict[str, object]:
        asked.append(1)
        # The store counts whole seconds.
        at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
        return {**plain, "azure_storage_sas_key": sas(3), "expires_at": at - timedelta(seconds=1)}

    raw = kafka.read_stream(name, schema="i INT", max_offsets_per_trigger=1)
    begun = len(place.store.proxy.requests) if place.store.proxy else 0
    raw.write_delta(place.root, storage_options=provider, progress=False)
    assert len(asked) >= 2
    assert place.store.proxy and not [r for r in place.store.proxy.requests[begun:] if r[2] in (401, 403)]
    rows = bayou.read_delta(place.root, storage_options=provider)
    assert sorted(pa.table(rows).to_pydict()["i"]) == list(range(120))


def test_unity_catalog_gives_signatures_of_azure(place: Place, kafka: bayou.Connection, topic: Any) -> None:
    if place.store.name != "azurite":
        return
    name = topic()
    kafka.produce(name, pa.table({"i": list(range(10))}), progress=False)
    plain = {k: v for k, v in place.options.items() if k != "azure_storage_account_key"}
    with unity(None, cloud="azure") as uc:
        uc.sas = lambda: sas(60)
        uc.add_schema("main.heart", place.root)
        uc.locations = {"lake": place.store.root("")}
        options = uc.login | plain
        raw = kafka.read_stream(name, schema="i INT")
        for _ in range(2):
            raw.write_delta(
                "main.heart.bpm", storage_options=options, checkpoint_location=f"{place.root}/c", progress=False
            )
        assert sorted(pa.table(bayou.read_delta("main.heart.bpm", storage_options=options)).to_pydict()["i"]) == list(
            range(10)
        )
