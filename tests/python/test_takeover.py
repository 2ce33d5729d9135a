"""The same query run twice: at the same time, and by a runner that was paused while a different runner continued. On local disk and on an S3 API."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable, Iterator

import bayou
import pytest
from lakes import NAME, Place, Runner, check, define, publish
from s3 import Bucket, bucket

# More epochs than clean-up keeps.
MANY = 125
WEEK = 8 * 86_400_000_000


@pytest.fixture(scope="module")
def store() -> Iterator[Bucket]:
    with bucket() as made:
        yield made


def beaten(said: str) -> bool:
    return said.startswith("ConcurrentQueryError: another runner of 'q'")


def test_of_two_runners_that_start_at_once_one_wins_and_the_other_is_told(
    address: str, topic: Callable[..., str], store: Bucket, tmp_path: pathlib.Path
) -> None:
    told = 0
    for turn in range(12):
        name = topic(1)
        publish(address, name, 0, 200)
        place = Place(tmp_path / str(turn), store if turn % 2 else None, f"at-once-{turn}")
        both = [
            Runner.start(address, name, place, epoch=20),
            Runner.start(address, name, place, epoch=20, elsewhere=True),
        ]
        said = [r.end() for r in [r.go() for r in both]]
        assert all(s == "finished" or s.startswith("ConcurrentQueryError: ") for s in said), said
        assert "finished" in said, said
        told += sum(s != "finished" for s in said)
        check(place.files(), 200)
        # On a busy machine, one may be done before the other begins.
        if told and turn >= 3:
            break
    assert told, "the runners never met"


PAUSES = [
    # Where the first runner is paused, whether the store is S3, whether clean-up removes the seal that its put would collide with.
    ("seal.before", False, True),
    ("commit:by_k.before", False, False),
    ("done.before", False, False),
    ("seal.before", True, False),
    ("commit:rows.before", True, False),
]
# `make chaos` has them all.
MORE = [
    ("seal.after", False, True),
    ("done.before", False, True),
    ("commit:rows.before", False, False),
    ("commit:all.after", False, False),
    ("done.after", False, False),
    ("data:rows.before", False, False),
    ("staged:by_k.before", False, False),
    ("commit:by_k.before", True, False),
    ("done.before", True, False),
    ("seal.before", True, True),
]


def test_a_runner_that_was_paused_while_another_went_on_is_beaten_and_nothing_is_written_twice(
    address: str, topic: Callable[..., str], store: Bucket, tmp_path: pathlib.Path
) -> None:
    """All runners are paused together, because a runner looks for a removed seal only if it was away for longer than a minute."""
    pauses = PAUSES + (MORE if os.environ.get("BAYOU_TEST_PAUSES") == "all" else [])
    began = time.monotonic()
    paused = []
    try:
        for n, (point, on_s3, cleaned) in enumerate(pauses):
            name = topic(1)
            publish(address, name, 0, 80)
            place = Place(tmp_path / f"{n}", store if on_s3 else None, f"paused-{n}")
            first = Runner.start(address, name, place, epoch=20, pause={point: 2}).go()
            paused.append((first, name, place, cleaned))
        for first, *_ in paused:
            first.wait_until_paused()
        counts = []
        for n, (first, name, place, cleaned) in enumerate(paused):
            if n:
                # The first one's successor waits for two beats that do not come; for the others the heart stopped long ago.
                place.change(f"_bayou/{NAME}/heartbeat.json", at=int(time.time() * 1e6) - 120_000_000)
            count = 80
            for more in (40, 4 * MANY) if cleaned else (40,):
                publish(address, name, count, count + more)
                count += more
                second = Runner.start(address, name, place, epoch=4, elsewhere=True).go()
                # A hundred epochs on an S3 server in Python take their time.
                assert second.end(600) == "finished", f"the second runner, at {first.job['pause']}"
                if cleaned:
                    # As if the pause had begun more than a week ago: then these epochs are not kept for their age.
                    for file in place.names(f"_bayou/{NAME}/1/epoch"):
                        place.change(file, clock=int(time.time() * 1e6) - WEEK)
            counts.append(count)
            epochs = [int(pathlib.Path(f).name[:20]) for f in place.names(f"_bayou/{NAME}/1/epoch")]
            assert (min(epochs) > 2) == cleaned, f"{first.job['pause']}: epochs from {min(epochs)} on are kept"
        time.sleep(max(0.0, 62 - (time.monotonic() - began)))  # what is awaited is the time itself
        for (first, name, place, _), count in zip(paused, counts, strict=True):
            publish(address, name, count, count + 10)
            said = first.resume().end()
            assert beaten(said), f"resumed at {first.job['pause']} on {place.root}: {said}"
            check(place.files(), count)
            # And the next runner continues from there.
            third = Runner.start(address, name, place, epoch=100).go()
            assert third.end() == "finished", f"after {first.job['pause']}"
            check(place.files(), count + 10)
    finally:
        for first, *_ in paused:
            first.kill()


def test_a_pipeline_on_s3_is_exact_over_crashes_and_a_failing_store(
    address: str, kafka: bayou.Connection, topic: Callable[..., str], store: Bucket, tmp_path: pathlib.Path
) -> None:
    name = topic(1)
    publish(address, name, 0, 400)
    place = Place(tmp_path, store, "crashes")
    points = [
        "start.after",
        "create:rows.after",
        "seal.after",
        "commit:rows.after",
        "commit:by_k.before",
        "done.before",
    ]
    points += ["data:rows.after", "commit:all.after", "seal.before", "staged:by_k.after"]
    for n, point in enumerate(points):
        said = Runner.start(address, name, place, epoch=20, crash={point: 1 if n < 2 else 2}).go().end()
        assert said == "code -6", f"{point}: {said}"
    store.faults(seed=3, rate=0.16)
    try:
        define(kafka, name, place.root, 20, place.options).run(progress=False)
        seen = store.faults_seen()
    finally:
        store.faults(seed=0, rate=0)
    assert sum(seen.values()) >= 10 and len(seen) == 4, seen
    check(place.files(), 400)
    # A client that is not bayou's reads the same from the store itself.
    import deltalake

    theirs = deltalake.DeltaTable(f"{place.root}/rows", storage_options=place.options).to_pyarrow_table()
    assert sorted(theirs.column("i").to_pylist()) == [i for i in range(400) if i % 10 != 9]


def test_a_store_without_put_if_absent_is_refused_before_anything_is_written(
    address: str, kafka: bayou.Connection, topic: Callable[..., str], tmp_path: pathlib.Path
) -> None:
    name = topic(1)
    publish(address, name, 0, 10)
    with bucket("--no-conditions") as careless:
        place = Place(tmp_path, careless, "refused")
        with pytest.raises(bayou.StorageError, match=r"s3://lake/refused/.*put-if-absent"):
            define(kafka, name, place.root, 20, place.options).run(progress=False)
        assert careless.names() == []
        # Nor are tables there with the checkpoint elsewhere: their logs rest on it as much.
        apart = str(tmp_path / "checkpoint")
        with pytest.raises(bayou.StorageError, match=r"s3://lake/refused/.*put-if-absent"):
            define(kafka, name, place.root, 20, place.options, apart).run(progress=False)
        assert careless.names() == []


def test_no_error_of_a_store_shows_its_secret(
    address: str, kafka: bayou.Connection, topic: Callable[..., str], store: Bucket, tmp_path: pathlib.Path
) -> None:
    name = topic(1)
    publish(address, name, 0, 10)
    with pytest.raises(bayou.StorageError) as caught:
        define(kafka, name, "s3://no-such-bucket/lake", 20, store.options).run(progress=False)
    assert "no-such-bucket" in str(caught.value) and "sesame" not in str(caught.value)
