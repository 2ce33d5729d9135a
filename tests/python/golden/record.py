"""Records a checkpoint and its tables, from which later versions must continue: tests/python/golden/v<format version>.

    python tests/kafka/server.py run -- python tests/python/golden/record.py

Recorded once for each format version, and never again: the test must read files that an old version wrote.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import bayou
import confluent_kafka
import confluent_kafka.admin

HERE = pathlib.Path(__file__).parent
TOPIC = "golden"
PARTITIONS = 2
RECORDED, LATER = 60, 140
START = 1_704_067_200


def value(n: int) -> bytes:
    if n % 13 == 12:
        return b"{"
    return b'{"n":%d,"k":"k%d","s":%d}' % (n, n % 5, START + 5 * n)


def new_topic(address: str, name: str) -> None:
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": address})
    for done in admin.create_topics([confluent_kafka.admin.NewTopic(name, PARTITIONS, 1)]).values():
        done.result(30)


def publish(address: str, name: str, numbers: range) -> None:
    """In order, so that the same message is at the same offset each time."""
    producer = confluent_kafka.Producer({"bootstrap.servers": address, "enable.idempotence": True})
    for n in numbers:
        producer.produce(name, value(n), partition=n % PARTITIONS, timestamp=(START + 5 * n) * 1000)
    assert producer.flush(30) == 0


def define(address: str, root: pathlib.Path, epoch: int | None) -> bayou.Pipeline:
    raw = bayou.connect(address).read_stream(TOPIC, schema="n INT, k STRING, s BIGINT", max_offsets_per_trigger=epoch)
    clean = (
        raw.with_columns("timestamp_seconds(s) AS t")
        .expect_or_drop("n is not 7", "n <> 7")
        .with_watermark("t", "10 seconds", idle_timeout="1000 days")
        .named("clean")
    )
    lake = bayou.Pipeline("golden", root)
    lake.table("clean", clean)
    lake.table("by_k", clean.group_by("k").agg("count(*) AS c", "sum(n) AS n"), output_mode="update")
    lake.table("total", clean.group_by().agg("count(*) AS c", "avg(n) AS mean"))
    lake.table("minutes", clean.group_by(bayou.window("t", "1 minute")).agg("count(*) AS c", "sum(n) AS n"))
    return lake


def main() -> None:
    address = os.environ["BAYOU_TEST_KAFKA"]
    if sys.argv[1:2] == ["cut off"]:
        # The third epoch is sealed and in no table: the next version finishes it.
        bayou.testing.crash_at("seal.after", nth=3)
        define(address, pathlib.Path(sys.argv[2]), 20).run(progress=False)
        return
    new_topic(address, TOPIC)
    publish(address, TOPIC, range(RECORDED))
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder, "lake")
        died = subprocess.run([sys.executable, __file__, "cut off", str(root)])
        assert died.returncode < 0, "it is to die"
        # Nothing of this machine.
        (root / "_bayou/golden/heartbeat.json").unlink()
        for file in root.rglob("*.json"):
            file.write_text(file.read_text().replace(str(root), "/lake"))
        target = HERE / "v1"
        shutil.copytree(root, target)
    files = [f for f in target.rglob("*") if f.is_file()]
    print(f"{len(files)} files, {sum(f.stat().st_size for f in files)} bytes")


if __name__ == "__main__":
    main()
