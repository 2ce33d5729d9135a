"""What a stream costs on S3 in a month, by bayou and by Spark, with the requests counted by one proxy.

    python benches/bill.py --jars FOLDER        # 60 epochs of one message into 1 and 3 tables
    python benches/bill.py --jars FOLDER --epochs 20 --json out.json

Both read one topic of a real Kafka, one message an epoch, and append it to Delta tables in a bucket (moto), through tests/stores/proxy.py. The
first tenth of the epochs is not counted, because it is the cost of a start. bayou writes all tables by one query. Spark Structured Streaming
has a query for each table, with its checkpoint in the bucket, as it is by default. Spark's jars are those of benches/pom.xml:

    mvn -f benches/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DexcludeArtifactIds=scala-library -DoutputDirectory=FOLDER

A month is 43,200 epochs, one a minute. The prices are those of S3 in us-east-1: 0.005 dollars for 1,000 PUT, COPY, POST or LIST, 0.0004 for 1,000 GET
or HEAD, nothing for DELETE. bayou's heartbeat, a PUT every 15 seconds, is added, because the epochs here follow each other without a pause.
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import sys
import tempfile
import urllib.parse
import uuid

from store import dollars

HERE = pathlib.Path(__file__).resolve().parent
for folder in ("tests/stores", "tests/python", "tests/spark"):
    sys.path.insert(0, str(HERE.parent / folder))


def kind(method: str, target: str) -> str:
    url = urllib.parse.urlsplit(target)
    asked = urllib.parse.parse_qs(url.query, keep_blank_values=True)
    if method == "POST" and "delete" in asked:
        return "DELETE"
    if method == "GET" and ("list-type" in asked or "prefix" in asked or url.path.strip("/").count("/") == 0):
        return "LIST"
    return method


def figures(requests: list, epochs: int, tables: int) -> dict:
    """`requests`: those of the epochs that count. `epochs`: the number of these epochs."""
    kinds = collections.Counter(kind(method, target) for method, target, _, _ in requests)
    each = {k: n / epochs for k, n in sorted(kinds.items())}
    paid = {k: n for k, n in each.items() if k != "DELETE"}
    return {"tables": tables, "requests": sum(each.values()), "by_kind": each, "dollars_a_month": dollars(paid)}


def bayou_side(address: str, topic: str, tables: int, epochs: int, bucket, proxy) -> dict:
    import bayou

    options = {**bucket.options, "aws_endpoint": f"http://127.0.0.1:{proxy.port}"}
    raw = bayou.connect(address).read_stream(
        topic, schema="i INT", max_offsets_per_trigger=1, starting_offsets="earliest"
    )
    lake = bayou.Pipeline("bill", f"s3://lake/bayou{tables}", storage_options=options)
    for n in range(tables):
        lake.table(f"t{n}", raw)
    before = len(proxy.requests)
    lake.run(progress=False)
    done = proxy.requests[before:]
    seals = [
        n
        for n, (m, target, status, _) in enumerate(done)
        if m == "PUT" and "/epoch/" in target and "done" not in target
    ]
    skipped = epochs // 10
    assert len(seals) >= epochs, (len(seals), epochs)
    found = figures(done[seals[skipped] : seals[epochs - 1]], epochs - 1 - skipped, tables)
    found["dollars_a_month"] += dollars({"PUT": 4})
    return found


def spark_side(session, address: str, topic: str, tables: int, epochs: int, proxy) -> dict:
    skipped = epochs // 10
    requests: list = []
    for n in range(tables):
        at = f"s3a://lake/spark{tables}/t{n}"
        frame = session.readStream.format("kafka").option("kafka.bootstrap.servers", address).option("subscribe", topic)
        frame = frame.option("startingOffsets", "earliest").option("maxOffsetsPerTrigger", 1).load()
        rows = frame.selectExpr("get_json_object(CAST(value AS STRING), '$.i') AS i")
        before = len(proxy.requests)
        writer = (
            rows.writeStream.format("delta").option("checkpointLocation", f"{at}_checkpoint").trigger(availableNow=True)
        )
        writer.start(at).awaitTermination()
        done = proxy.requests[before:]
        # A commit of the table, which only S3's put or Spark's rename makes once an epoch.
        commits = [
            i
            for i, (m, target, _, _) in enumerate(done)
            if m == "PUT" and target.split("?")[0].endswith(".json") and "_delta_log/0" in target
        ]
        assert len(commits) >= epochs, (len(commits), epochs)
        requests += done[commits[skipped] : commits[epochs - 1]]
    return figures(requests, epochs - 1 - skipped, tables)


def spark_session(jars: pathlib.Path, endpoint: str, work: str):
    from spark_server import LIGHT, start

    java = "spark.driver.extraJavaOptions"
    more = {
        "spark.hadoop.fs.s3a.endpoint": endpoint,
        "spark.hadoop.fs.s3a.endpoint.region": "us-east-1",
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
        "spark.hadoop.fs.s3a.access.key": "test-key",
        "spark.hadoop.fs.s3a.secret.key": "test-secret-sesame",
        java: f"{LIGHT[java]} -Daws.requestChecksumCalculation=when_required -Daws.responseChecksumValidation=when_required",
    }
    return start("local[1]", work, more, jars)


def main() -> int:
    import bayou
    from proxy import proxy as in_front
    from s3 import bucket as s3

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--jars",
        type=pathlib.Path,
        help="the folder with the jars of benches/pom.xml; without it only bayou is counted",
    )
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    given = parser.parse_args()
    found = []
    with contextlib.ExitStack() as stack:
        address = os.environ.get("BAYOU_TEST_KAFKA")
        if not address:
            # tests/s3 has a server.py too, and the proxy has put that folder first.
            sys.path.insert(0, str(HERE.parent / "tests/kafka"))
            from server import Server

            address = stack.enter_context(Server()).plain
        bucket = stack.enter_context(s3())
        proxy = stack.enter_context(in_front(int(bucket.endpoint.rsplit(":", 1)[1])))
        work = stack.enter_context(tempfile.TemporaryDirectory())
        kafka, topic = bayou.connect(address), f"bill-{uuid.uuid4().hex[:8]}"
        kafka.create_topic(topic, partitions=1, replication_factor=1)
        kafka.produce(topic, [{"i": i} for i in range(given.epochs)], progress=False)
        session = spark_session(given.jars, f"http://127.0.0.1:{proxy.port}", work) if given.jars else None
        print(f"\n{'':8}{'tables':>7}{'requests':>10}{'$/month':>9}  an epoch, by kind")
        for tables in (1, 3):
            sides = {"bayou": bayou_side(address, topic, tables, given.epochs, bucket, proxy)}
            if session:
                sides["Spark"] = spark_side(session, address, topic, tables, given.epochs, proxy)
            for name, one in sides.items():
                found.append({"by": name, **one})
                kinds = ", ".join(f"{k} {n:.1f}" for k, n in one["by_kind"].items())
                print(f"{name:8}{tables:7}{one['requests']:10.1f}{one['dollars_a_month']:9.2f}  {kinds}", flush=True)
        if session:
            session.stop()
    if given.json:
        pathlib.Path(given.json).write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
