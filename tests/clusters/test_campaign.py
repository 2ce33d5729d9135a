"""`make clusters`: every refusal of a secured cluster, each TLS mistake twenty times, and members that join and leave a group for minutes."""

from __future__ import annotations

import os
import pathlib
import sys
import uuid
from collections.abc import Iterator

import bayou
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "kafka"))
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))
from negative import CASES, Case, Place, at_a_secured_broker, check
from test_groups import churn


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with at_a_secured_broker(tmp_path_factory.mktemp("negative")) as place:
        yield place


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_refusal_names_the_setting_and_the_remedy(case: Case, place: Place, caplog: pytest.LogCaptureFixture) -> None:
    check(case, place, caplog)


@pytest.mark.parametrize("listener", ["EXPIRED", "FUTURE", "ELSEWHERE", "FOREIGN", "MUTUAL"])
def test_each_tls_mistake_is_told_the_same_twenty_times(listener: str, place: Place) -> None:
    told = set()
    for _ in range(20):
        with pytest.raises(bayou.AuthError) as raised:
            place.connect(listener)
        told.add(str(raised.value))
    assert len(told) == 1, told


def test_members_come_and_go_for_five_minutes_and_nothing_is_lost() -> None:
    address = os.environ["BAYOU_TEST_KAFKA"]
    kafka = bayou.connect(address)
    topic = f"churn-{uuid.uuid4().hex[:8]}"
    kafka.create_topic(topic, partitions=6, replication_factor=1)
    churn(address, kafka, topic, f"g-{topic}", float(os.environ.get("BAYOU_CHURN_SECONDS", "300")))
