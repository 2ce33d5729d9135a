"""Records a checkpoint with every kind of stateful operator, as the last version wrote it that named state by hashes of Rust's debug text.

    python tests/kafka/server.py run -- python tests/python/golden/record_operators.py

Recorded once, and never again: the test must read files that an old version wrote.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import bayou
import record

TOPIC = "golden-operators"
FIRST, RECORDED, LATER = 40, 60, 140
TABLES = ["even", "odd", "sessions", "joined", "distinct", "filled", "plain"]


def define(address: str, root: pathlib.Path, epoch: int | None, filled: bool = True) -> bayou.Pipeline:
    kafka = bayou.connect(address)
    raw = kafka.read_stream(
        TOPIC,
        schema="n INT, k STRING, s TIMESTAMP",
        timestamp_unit={"s": "s"},
        timezone="Europe/Berlin",
        on_tombstone="quarantine",
        include_metadata=True,
        max_offsets_per_trigger=epoch,
    )
    clean = (
        raw.expect_or_drop("n is not 7", "n <> 7")
        .with_watermark("s", "10 seconds", idle_timeout="1000 days")
        .named("clean")
    )
    lake = bayou.Pipeline("golden", root)
    # Two operators with the same signature: only the steps before them distinguish the two.
    for name, rest in (("even", 0), ("odd", 1)):
        lake.table(name, clean.where(f"n % 2 = {rest}").group_by("k").agg("count(*) AS c", "sum(n) AS n"))
    lake.table("sessions", clean.group_by(bayou.session_window("s", "30 seconds"), "k").agg("count(*) AS c"))
    left = clean.select("n", "s", "n % 10 AS d")
    right = clean.select("n AS m", "s AS at", "n % 10 AS d")
    # Each message is five seconds after the previous message. So each message is joined with itself and with the ten messages before it.
    lake.table("joined", left.join(right, on="d", how="left", within=("50 seconds", "0 seconds")))
    lake.table("distinct", clean.select("n DIV 3 AS third", "s").drop_duplicates(["third"], within="10 minutes"))
    lake.table("plain", clean.select("n", "_topic", "_offset"))
    if filled:
        minutes = clean.group_by(bayou.window("s", "1 minute")).agg("count(*) AS c", "sum(n) AS n")
        lake.table("filled", minutes, start="earliest")
    return lake


def publish(address: str, numbers: range) -> None:
    """In order, so that the same message is at the same offset each time. Some are tombstones."""
    producer = record.confluent_kafka.Producer({"bootstrap.servers": address, "enable.idempotence": True})
    for n in numbers:
        value = None if n % 17 == 16 else record.value(n)
        time = (record.START + 5 * n) * 1000
        producer.produce(TOPIC, value, key=b"key", partition=n % record.PARTITIONS, timestamp=time)
    assert producer.flush(30) == 0


def main() -> None:
    address = os.environ["BAYOU_TEST_KAFKA"]
    if sys.argv[1:2] == ["cut off"]:
        # Two epochs fill the new table; the one after them, which all tables share, is sealed and in no table.
        bayou.testing.crash_at("seal.after", nth=3)
        define(address, pathlib.Path(sys.argv[2]), 20).run(progress=False)
        return
    record.new_topic(address, TOPIC)
    publish(address, range(FIRST))
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder, "lake")
        define(address, root, 20, filled=False).run(progress=False)
        publish(address, range(FIRST, RECORDED))
        died = subprocess.run([sys.executable, __file__, "cut off", str(root)])
        assert died.returncode < 0, "it is to die"
        # Nothing of this machine.
        (root / "_bayou/golden/heartbeat.json").unlink()
        for file in root.rglob("*.json"):
            file.write_text(file.read_text().replace(str(root), "/lake"))
        target = record.HERE / "v1-operators"
        shutil.copytree(root, target)
    files = [f for f in target.rglob("*") if f.is_file()]
    print(f"{len(files)} files, {sum(f.stat().st_size for f in files)} bytes")


if __name__ == "__main__":
    main()
