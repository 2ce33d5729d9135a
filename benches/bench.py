"""How fast bayou is, and how much memory it takes, compared with librdkafka and with code that is written by hand.

    python benches/bench.py                  # 2,000,000 events, three rounds
    python benches/bench.py --smoke          # 20,000 events, one round: only checks that the benchmark runs
    python benches/bench.py --json out.json

One topic of a real Kafka (BAYOU_TEST_KAFKA, or one that is started here): fitness events of about 145 bytes in 4
partitions.
Each round runs the following, one after the other, so that other load on the machine affects all of them. Each one has its own process:

    a  librdkafka alone, by its batch call and with bayou's consumer properties; the messages are not used (consume.c)
    b  the cleaned append to Delta, written by hand with confluent-kafka, json, pandas and deltalake
    c  bayou: the cleaned append
    d  bayou: counts and averages per minute and model
    e  bayou: hourly windows by 10 keys           (count, sum, min and max, as in f to i)
    f  bayou: hourly windows by 100,000 keys
    g  bayou: hourly windows by 1,000,000 keys
    h  bayou: windows of 10 minutes that slide by 1 minute, by 10 keys: 10 panes a row
    i  bayou: sessions of 100,000 keys
    j  librdkafka's transactional producer alone: as many messages as (k), with the size, headers and producer properties of (k) (produce.c)
    k  bayou: the cleaned append to a topic, exactly once

e to i read topics with the same events, in which the ip has as many values as there are keys. The clock of (a) runs from the first message to the
last end-of-partition. The clocks of the others run from the call to the finished table. Imports do not count. Different machines and different
times of the day give different numbers. So compare the ratios, which are computed within a round.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid

HERE = pathlib.Path(__file__).resolve().parent
PARTITIONS = 4
COLUMNS = "ip STRING, time TIMESTAMP, version STRING, model STRING, color STRING, heart_bpm INT, kcal INT"

# As in src/kafka/consume/native.rs: (a) is the upper bound for exactly this configuration.
CONSUMER = {
    "socket.timeout.ms": "10000",
    "group.id": "bayou",
    "queued.max.messages.kbytes": "32768",
    "queued.min.messages": "100000",
    "fetch.message.max.bytes": "1048576",
    "receive.message.max.bytes": "536870912",
    "fetch.wait.max.ms": "10",
    "fetch.error.backoff.ms": "100",
    "fetch.queue.backoff.ms": "5",
    "reconnect.backoff.max.ms": "1000",
    "socket.nagle.disable": "true",
    "topic.metadata.propagation.max.ms": "10000",
    "allow.auto.create.topics": "false",
    "auto.offset.reset": "error",
    "check.crcs": "true",
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "enable.partition.eof": "true",
    "isolation.level": "read_committed",
}


# As in src/kafka/produce/transaction.rs.
PRODUCER = {
    "compression.type": "lz4",
    "linger.ms": "20",
    "queue.buffering.max.messages": "300000",
    "queue.buffering.max.kbytes": "131072",
    "partitioner": "murmur2_random",
    "acks": "all",
    "enable.idempotence": "true",
}

KEYS = (10, 100_000, 1_000_000)


def publish(address: str, topic: str, table: str, events: int) -> dict:
    """Publishes the events as they are generated, and again for each number of keys, with an ip that has as many values."""
    import bayou
    import numpy as np
    import pyarrow as pa

    kafka = bayou.connect(address)
    kafka.create_topic(topic, partitions=PARTITIONS, replication_factor=1)
    report = kafka.produce(
        topic, bayou.simulate("fitness", rows=events, columns=7, lazy=True), key="ip", progress=False
    )
    assert report.delivered == events, report
    made = pa.table(bayou.simulate("fitness", rows=events, columns=7))
    for keys in KEYS:
        number = np.random.default_rng(keys).integers(0, keys, events)
        ip = pa.array([f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in number])
        again = made.set_column(made.schema.get_field_index("ip"), "ip", ip)
        kafka.create_topic(f"{topic}-{keys}", partitions=PARTITIONS, replication_factor=1)
        assert kafka.produce(f"{topic}-{keys}", again, progress=False).delivered == events
    return {"events": report.delivered, "bytes": report.bytes}


def by_hand(address: str, topic: str, table: str, events: int) -> dict:
    """Careful code without bayou: batches, and one commit for 100,000 messages."""
    import pandas as pd
    import pyarrow as pa
    from confluent_kafka import Consumer, TopicPartition
    from deltalake import write_deltalake

    schema = pa.schema([("time", pa.timestamp("us", "UTC")), ("bpm", pa.int32()), ("model", pa.string())])

    def append(values: list[bytes]) -> int:
        frame = pd.DataFrame([json.loads(v) for v in values], columns=["time", "heart_bpm", "model"])
        frame = frame.rename(columns={"heart_bpm": "bpm"})
        frame["time"] = pd.to_datetime(frame["time"], utc=True, format="ISO8601")
        keep = frame["bpm"].notna() & frame["time"].notna() & (frame["bpm"] > 0) & (frame["model"] != "undef")
        clean = frame[keep].astype({"bpm": "int32"})
        write_deltalake(table, pa.Table.from_pandas(clean, schema=schema, preserve_index=False), mode="append")
        return len(clean)

    began = time.perf_counter()
    consumer = Consumer(
        {"bootstrap.servers": address, "group.id": f"hand-{uuid.uuid4().hex}", "auto.offset.reset": "earliest",
         "enable.auto.commit": False}
    )  # fmt: skip
    parts = [TopicPartition(topic, p, 0) for p in range(PARTITIONS)]
    left = sum(consumer.get_watermark_offsets(p)[1] for p in parts)
    consumer.assign(parts)
    values, seen, rows = [], 0, 0
    while seen < left:
        for message in consumer.consume(10_000, timeout=1.0):
            if message.error():
                raise RuntimeError(message.error())
            values.append(message.value())
            seen += 1
        if len(values) >= 100_000 or (seen == left and values):
            rows += append(values)
            consumer.commit(asynchronous=False, offsets=consumer.position(parts))
            values = []
    seconds = time.perf_counter() - began
    return {"events": seen, "seconds": seconds, "rows": rows}


def cleaned(kafka, topic: str):
    raw = kafka.read_stream(topic, schema=COLUMNS, starting_offsets="earliest")
    return raw.select("time", "heart_bpm AS bpm", "model").expect_all_or_drop(
        {
            "heart rate is set": "bpm IS NOT NULL",
            "time is set": "time IS NOT NULL",
            "human has a pulse": "bpm > 0",
            "tracker is valid": "model <> 'undef'",
        }
    )


def run_bayou(address: str, topic: str, table: str, windows: bool) -> dict:
    import bayou

    began = time.perf_counter()
    stream = cleaned(bayou.connect(address), topic)
    if windows:
        minutes = stream.with_watermark("time", "10 seconds").group_by(bayou.window("time", "1 minute"), "model")
        stream = minutes.agg("count(bpm) AS events", "avg(bpm) AS average")
    query = stream.write_delta(table, close_windows=windows, progress=False)
    seconds = time.perf_counter() - began
    events = sum(p["numInputRows"] for p in query.recent_progress)
    rows = len(bayou.read_delta(table)) if windows else count_rows(table)
    return {"events": events, "seconds": seconds, "rows": rows, "epochs": len(query.recent_progress)}


def count_rows(table: str) -> int:
    from deltalake import DeltaTable

    return sum(DeltaTable(table).get_add_actions(flatten=True).column("num_records").to_pylist())


def cleaned_append(address: str, topic: str, table: str, events: int) -> dict:
    return run_bayou(address, topic, table, windows=False)


def per_minute(address: str, topic: str, table: str, events: int) -> dict:
    return run_bayou(address, topic, table, windows=True)


def by_keys(address: str, topic: str, table: str, keys: int, window) -> dict:
    """Writes all windows into the table: closed windows while it reads, and open windows at the end."""
    import bayou

    began = time.perf_counter()
    raw = bayou.connect(address).read_stream(f"{topic}-{keys}", schema=COLUMNS, starting_offsets="earliest")
    timed = raw.select("time", "heart_bpm AS bpm", "ip").with_watermark("time", "1 minute")
    groups = timed.group_by(window(bayou), "ip").agg(
        "count(*) AS events", "sum(bpm) AS total", "min(bpm) AS low", "max(bpm) AS high"
    )
    query = groups.write_delta(table, close_windows=True, progress=False)
    seconds = time.perf_counter() - began
    events = sum(p["numInputRows"] for p in query.recent_progress)
    late = sum(o["numRowsDroppedByWatermark"] for p in query.recent_progress for o in p["stateOperators"])
    return {"events": events, "seconds": seconds, "rows": count_rows(table), "late": late}


def tumbling(keys: int):
    return lambda address, topic, table, events: by_keys(
        address, topic, table, keys, lambda bayou: bayou.window("time", "1 hour")
    )


def sliding(address: str, topic: str, table: str, events: int) -> dict:
    return by_keys(address, topic, table, 10, lambda bayou: bayou.window("time", "10 minutes", slide="1 minute"))


def sessions(address: str, topic: str, table: str, events: int) -> dict:
    return by_keys(address, topic, table, 100_000, lambda bayou: bayou.session_window("time", "20 minutes"))


def cleaned_topic(address: str, topic: str, table: str, events: int) -> dict:
    import bayou

    out = f"{topic}-out-{uuid.uuid4().hex[:8]}"
    kafka = bayou.connect(address)
    kafka.create_topic(out, partitions=PARTITIONS, replication_factor=1)
    began = time.perf_counter()
    at = {"query_name": "bench", "checkpoint_location": table}
    query = cleaned(bayou.connect(address), topic).write_kafka(out, progress=False, **at)
    seconds = time.perf_counter() - began
    rows = sum(p["sink"]["numOutputRows"] for p in query.recent_progress)
    events = sum(p["numInputRows"] for p in query.recent_progress)
    kafka.delete_topic(out)
    return {"events": events, "seconds": seconds, "rows": rows, "epochs": len(query.recent_progress)}


JOBS = {"publish": publish, "b": by_hand, "c": cleaned_append, "d": per_minute}
JOBS |= {
    "e": tumbling(KEYS[0]),
    "f": tumbling(KEYS[1]),
    "g": tumbling(KEYS[2]),
    "h": sliding,
    "i": sessions,
    "k": cleaned_topic,
}
NAMES = {
    "a": "librdkafka alone",
    "b": "by hand, cleaned append",
    "c": "bayou, cleaned append",
    "d": "bayou, per-minute windows",
    "e": "windows, 10 keys",
    "f": "windows, 100,000 keys",
    "g": "windows, 1,000,000 keys",
    "h": "sliding, 10 panes",
    "i": "sessions, 100,000 keys",
    "j": "librdkafka, transactions",
    "k": "bayou, append to a topic",
}


def compiled(source: str, folder: pathlib.Path) -> pathlib.Path:
    """Compiles consume.c or produce.c, linked to the librdkafka inside the confluent-kafka wheel, which (b) also uses."""
    import importlib.util

    package = pathlib.Path(importlib.util.find_spec("confluent_kafka").origin).parent
    found = sorted((package.parent / "confluent_kafka.libs").glob("librdkafka*.so*"))
    if not found:
        raise SystemExit("benches/bench.py: the installed confluent-kafka carries no librdkafka; install its wheel")
    program = folder / source.removesuffix(".c")
    link = [str(found[0]), f"-Wl,-rpath,{found[0].parent}"]
    command = ["cc", "-O2", "-std=c11", "-Wall", "-o", str(program), str(HERE / source), *link]
    subprocess.run(command, check=True)
    return program


def run_child(command: list[str]) -> tuple[str, float]:
    """The output of the command, and its peak of resident memory in MB."""
    with tempfile.TemporaryFile("w+") as out:
        # Not subprocess.run: only wait4 returns the resources of this one child.
        child = subprocess.Popen(command, stdout=out)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"benches/bench.py: {' '.join(command[:4])} … ended with {child.returncode}")
        out.seek(0)
        return out.read(), usage.ru_maxrss / 1024


def measure(
    what: str, programs: list[pathlib.Path], address: str, topic: str, folder: pathlib.Path, events: int
) -> dict:
    table = folder / f"{what}-{uuid.uuid4().hex[:8]}"
    if what == "a":
        properties = [f"{k}={v}" for k, v in {"bootstrap.servers": address, **CONSUMER}.items()]
        text, peak = run_child([str(programs[0]), topic, str(PARTITIONS), *properties])
        count, seconds, version = text.split()
        done = {"events": int(count), "seconds": float(seconds), "librdkafka": version}
    elif what == "j":
        import bayou

        out, kafka = f"{topic}-out-{uuid.uuid4().hex[:8]}", bayou.connect(address)
        kafka.create_topic(out, partitions=PARTITIONS, replication_factor=1)
        properties = [
            f"{k}={v}" for k, v in {"bootstrap.servers": address, "transactional.id": out, **PRODUCER}.items()
        ]
        text, peak = run_child([str(programs[1]), out, str(events), *properties])
        kafka.delete_topic(out)
        count, seconds, version = text.split()
        done = {"events": int(count), "seconds": float(seconds), "librdkafka": version}
    else:
        text, peak = run_child([sys.executable, __file__, "--job", what, address, topic, str(table), str(events)])
        done = json.loads(text.splitlines()[-1])
    shutil.rmtree(table, ignore_errors=True)
    if done["events"] != events:
        raise SystemExit(f"benches/bench.py: ({what}) saw {done['events']} of {events} events")
    return {"what": what, "events_per_second": events / done["seconds"], "peak_mb": peak, **done}


def summary(rounds: list[dict[str, dict]]) -> dict:
    """Ratios are computed within each round, because the speed of the machine changes from minute to minute."""
    speed = {w: [r[w]["events_per_second"] for r in rounds] for w in NAMES}
    ratios = {
        f"{x}/{y}": statistics.median(r[x]["events_per_second"] / r[y]["events_per_second"] for r in rounds)
        for x, y in [("c", "b"), ("c", "a"), *((w, "c") for w in "defghi"), ("k", "j")]
    }
    return {
        "events_per_second": {
            w: {"min": min(s), "median": statistics.median(s), "max": max(s)} for w, s in speed.items()
        },
        "peak_mb": {w: max(r[w]["peak_mb"] for r in rounds) for w in NAMES},
        "ratios": ratios,
    }


def show(found: dict, events: int, size: float, rounds: int) -> None:
    print(f"\n{events:,} events of {size:.0f} bytes in {PARTITIONS} partitions, {rounds} round(s)\n")
    print(f"{'':30}{'events/s: min':>16}{'median':>12}{'max':>12}{'peak MB':>10}")
    for what, name in NAMES.items():
        s = found["events_per_second"][what]
        print(
            f"({what}) {name:26}{s['min']:16,.0f}{s['median']:12,.0f}{s['max']:12,.0f}{found['peak_mb'][what]:10,.0f}"
        )
    r = found["ratios"]
    print(f"\nc/b {r['c/b']:.2f} (expected: at least 5)")
    print(f"c/a {r['c/a']:.2f} (expected: at least 0.25)")
    expected = {"e": " (expected: at least 0.8)", "g": " (expected: at least 0.35)"}
    for what in "defghi":
        print(f"{what}/c {r[what + '/c']:.2f}  {NAMES[what]}{expected.get(what, '')}")
    print(f"k/j {r['k/j']:.2f}  an append to a topic, to transactions by librdkafka alone (expected: at least 0.5)")
    print(f"peak of (c) {found['peak_mb']['c']:,.0f} MB (expected: under 500)")


def bench(address: str, events: int, rounds: int, out: str | None) -> None:
    topic = f"bench-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory(prefix="bayou-bench-") as name:
        folder = pathlib.Path(name)
        programs = [compiled(source, folder) for source in ("consume.c", "produce.c")]
        text, _ = run_child([sys.executable, __file__, "--job", "publish", address, topic, "-", str(events)])
        published = json.loads(text.splitlines()[-1])
        try:
            done: list[dict[str, dict]] = []
            for n in range(rounds):
                done.append({})
                for what in NAMES:
                    one = done[-1][what] = measure(what, programs, address, topic, folder, events)
                    speed, peak = one["events_per_second"], one["peak_mb"]
                    print(
                        f"round {n + 1} ({what}) {one['seconds']:8.2f} s {speed:12,.0f}/s {peak:6,.0f} MB", flush=True
                    )
                if len({done[-1][w]["rows"] for w in "bck"}) > 1:
                    raise SystemExit(f"benches/bench.py: (b), (c) and (k) wrote different rows: {done[-1]}")
        finally:
            forget = "import bayou, sys; k = bayou.connect(sys.argv[1]); [k.delete_topic(t) for t in sys.argv[2:]]"
            topics = [topic, *(f"{topic}-{keys}" for keys in KEYS)]
            subprocess.run([sys.executable, "-c", forget, address, *topics], check=False)
    found = summary(done)
    show(found, events, published["bytes"] / events, rounds)
    if out:
        pathlib.Path(out).write_text(json.dumps({**found, "events": events, "rounds": done}, indent=1) + "\n")


def main() -> int:
    if sys.argv[1:2] == ["--job"]:
        what, address, topic, table, events = sys.argv[2:7]
        print(json.dumps(JOBS[what](address, topic, table, int(events))))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="20,000 events, one round")
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    given = parser.parse_args()
    events, rounds = (20_000, 1) if given.smoke else (given.events, given.rounds)
    with contextlib.ExitStack() as stack:
        address = os.environ.get("BAYOU_TEST_KAFKA")
        if not address:
            sys.path.insert(0, str(HERE.parent / "tests" / "kafka"))
            from server import Server

            address = stack.enter_context(Server()).plain
        # The peak of a child starts at the size of its parent, so this process must stay small. The ru_maxrss of this process does not show its
        # size, because it starts at the size of this process's parent.
        status = pathlib.Path("/proc/self/status").read_text()
        assert int(status.split("VmHWM:")[1].split()[0]) < 60 * 1024, status
        bench(address, events, rounds, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
