"""A pipeline with topics in a process of its own, which a test cuts off. The job is one line of JSON on stdin."""

import json
import sys

import bayou

EVENTS = "id BIGINT, ip STRING, n BIGINT"


def define(job: dict) -> bayou.Pipeline:
    kafka = bayou.connect(job["address"])
    raw = kafka.read_stream(job["source"], schema=EVENTS, max_offsets_per_trigger=job.get("rows", 50))
    lake = bayou.Pipeline(job.get("name", "topics"), job["root"])
    where = job["topics"]
    if "rows" in where:
        lake.topic("rows", raw.where("n >= 0"), topic=where["rows"], key="ip")
        lake.table("rows_table", raw.where("n >= 0"))
    per_ip = raw.group_by("ip").agg("count(*) AS n", "sum(n) AS total")
    # A group leaves the result when its sum is no longer even, and comes back later.
    even = per_ip.where("total % 2 = 0")
    if "changed" in where:
        lake.topic("changed", even, topic=where["changed"], output_mode="update")
        lake.table("changed_table", even, output_mode="update")
    if "whole" in where:
        lake.topic("whole", even, topic=where["whole"], output_mode="complete")
        lake.table("whole_table", even, output_mode="complete")
    return lake


if __name__ == "__main__":
    job = json.loads(sys.stdin.readline())
    lake = define(job)
    for point, nth in job.get("crash", {}).items():
        bayou.testing.crash_at(point, nth)
    for point, nth in job.get("pause", {}).items():
        bayou.testing.pause_at(point, nth)
    print("go", flush=True)
    try:
        query = lake.run(progress=False, **job.get("run", {}))
    except bayou.BayouError as error:
        print(json.dumps({"error": type(error).__name__, "message": str(error)}), flush=True)
    else:
        print(json.dumps({"error": None, "epoch": (query.last_progress or {}).get("batchId")}), flush=True)
