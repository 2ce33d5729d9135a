"""A broker that is upgraded from Kafka 3.9 to Kafka 4 on its data. `make chaos` upgrades three nodes while a pipeline is at work."""

from __future__ import annotations

import pathlib
import sys

import bayou
import deltalake

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "kafka"))
from server import BEFORE, VERSION, Server


def test_queries_groups_and_positions_go_on_after_an_upgrade_from_kafka_3_to_kafka_4(tmp_path: pathlib.Path) -> None:
    with Server(version=BEFORE) as broker:
        kafka = bayou.connect(broker.plain)
        assert [b["version"] for b in kafka.cluster().to_dicts()] == ["3.9"]
        kafka.create_topic("t", partitions=3)
        raw = kafka.read_stream("t", schema="a INT", max_offsets_per_trigger=40)
        counts = raw.group_by("a % 5 AS k").agg("count(*) AS n")
        sent, taken = 0, 0
        for version in (BEFORE, BEFORE, VERSION, VERSION):
            if version != broker.version:
                broker.stop()
                broker.version = version
                broker.start()
                # The connection of before is used: it finds the broker again.
                assert [b["version"] for b in kafka.cluster().to_dicts()] == [".".join(VERSION.split(".")[:2])]
            for transaction in (False, True):
                rows = [{"a": i} for i in range(sent, sent + 100)]
                kafka.produce("t", rows, key="a", transaction=transaction, progress=False)
                sent += 100
            raw.write_delta(tmp_path / "rows", progress=False)
            counts.write_delta(tmp_path / "counts", output_mode="update", progress=False)
            taken += sum(len(b) for b in raw.batches(group_id="g"))
            assert taken == sent, "a group goes on where it was"
            found = deltalake.DeltaTable(str(tmp_path / "rows")).to_pyarrow_table().column("a").to_pylist()
            assert sorted(found) == list(range(sent))
            of = deltalake.DeltaTable(str(tmp_path / "counts")).to_pyarrow_table().to_pylist()
            assert {r["k"]: r["n"] for r in of} == {k: sent // 5 for k in range(5)}
