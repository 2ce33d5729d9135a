"""Several rows of one message: explode and its like, where positions, event time, rules and quarantine must hold for every row."""

from __future__ import annotations

import json
import pathlib
import random
from datetime import datetime, timedelta, timezone
from typing import Any

import bayou
import pyarrow as pa
import pytest
from delta_replay import rows

NOW = datetime.now(timezone.utc).replace(microsecond=0)
DELAY, WITHIN, SIZE = 5_000_000, 4_000_000, 20_000_000
SCHEMA = "device STRING, readings ARRAY<STRUCT<time: TIMESTAMP, v: INT>>, tags MAP<STRING, ARRAY<INT>>"


def us(t: datetime) -> int:
    return round(t.timestamp()) * 1_000_000 + t.microsecond


def seals(root: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted(root.glob("_bayou/**/epoch/*.json"))]


def publish(broker: bayou.Connection, topic: str, rng: random.Random, count: int, first: int) -> None:
    """Messages with any number of readings, among them none, NULL, equal ones, late ones, and readings without a time."""
    messages = []
    for n in range(first, first + count):
        readings: list[Any] | None = None
        if rng.random() < 0.9:
            readings = []
            for _ in range(rng.choice([0, 1, 2, 3, 3, 9])):
                when = NOW - timedelta(minutes=50) + timedelta(seconds=n / 4 - rng.randrange(5))
                if rng.random() < 0.05:
                    when -= timedelta(seconds=60)
                time = None if rng.random() < 0.03 else when.strftime("%Y-%m-%dT%H:%M:%SZ")
                readings.append(None if rng.random() < 0.03 else {"time": time, "v": rng.randrange(100)})
        messages.append({"device": rng.choice("abcdefgh"), "readings": readings})
    broker.produce(topic, messages, key="device", progress=False)


def oracle(
    messages: dict[tuple[int, int], dict[str, Any]], epochs: list[dict[str, Any]]
) -> tuple[list[Any], dict[int, tuple[int, int]], list[Any]]:
    """Rows of the table, windows, and what is set aside: (partition, offset, element, stage)."""
    partitions = {r["partition"] for r in epochs[0]["ranges"]}
    highest: dict[int, int | None] = dict.fromkeys(partitions)
    kept: dict[tuple[str, int], list[int]] = {}
    open_: dict[int, list[int]] = {}
    table, aside, windows = [], [], {}
    watermark: int | None = None
    for seal in epochs:
        for r in sorted(seal["ranges"], key=lambda r: r["partition"]):
            for offset in range(r["from"], r["until"]):
                message = messages[r["partition"], offset]
                for place, reading in enumerate(message["readings"] or []):
                    reading = reading or {"time": None, "v": None}
                    at = (r["partition"], offset, place)
                    if reading["v"] is None or reading["v"] >= 90:
                        aside.append((*at, "expectation"))
                        continue
                    if reading["time"] is None:
                        aside.append((*at, "late"))
                        continue
                    time = us(datetime.fromisoformat(reading["time"].replace("Z", "+00:00")))
                    highest[r["partition"]] = max(highest[r["partition"]] or time, time)
                    if watermark is not None and time < watermark:
                        aside.append((*at, "late"))
                        continue
                    times = kept.setdefault((message["device"], reading["v"] % 3), [])
                    if any(abs(t - time) <= WITHIN for t in times):
                        continue
                    times.append(time)
                    table.append((*at, message["device"], reading["v"], time))
                    open_.setdefault(time - time % SIZE, []).append(reading["v"])
        [state] = seal["watermarks"].values()
        # An empty partition is idle at once.
        awake = [highest[p] for p in partitions if not state["partitions"][f"t[{p}]"]["idle"]]
        times_seen = [t for t in highest.values() if t is not None]
        candidate = (None if None in awake else min(t for t in awake if t)) if awake else max(times_seen, default=None)
        if candidate is not None:
            watermark = max(candidate - DELAY, watermark or 0)
        assert state["watermark"] == watermark, f"epoch {seal['epoch']}"
        for start in [s for s in open_ if watermark is not None and s + SIZE <= watermark]:
            vs = open_.pop(start)
            windows[start] = (len(vs), sum(vs))
    return table, windows, aside


def pipeline(broker: bayou.Connection, topic: str, root: pathlib.Path, cut: int) -> bayou.Pipeline:
    raw = broker.read_stream(topic, schema=SCHEMA, include_metadata=True, max_offsets_per_trigger=cut)
    clean = (
        raw.select("_partition AS p", "_offset AS o", "device", "posexplode(readings) AS (place, r)")
        .expect_or_quarantine("small", "r.v < 90")
        .select("p", "o", "place", "device", "r.v AS v", "r.time AS time")
        .with_watermark("time", f"{DELAY // 1_000_000} seconds", idle_timeout="1 day")
        .drop_duplicates(["device", "v % 3"], within=f"{WITHIN // 1_000_000} seconds")
        .named("clean")
    )
    lake = bayou.Pipeline("q", root)
    lake.table("flat", clean)
    lake.table(
        "windows",
        clean.group_by(bayou.window("time", f"{SIZE // 1_000_000} seconds")).agg("count(*) AS n", "sum(v) AS s"),
    )
    return lake


@pytest.mark.parametrize("seed", range(6))
def test_rows_of_messages_equal_the_oracle_for_random_cuts_stops_and_starts(
    broker: bayou.Connection, tmp_path: pathlib.Path, seed: int
) -> None:
    rng = random.Random(seed)
    broker.create_topic("t", partitions=2)
    for run in range(3):
        publish(broker, "t", rng, rng.randrange(30, 200), run * 200)
        lake = pipeline(broker, "t", tmp_path / "lake", rng.choice([3, 17, 50, 1000]))
        if run == 1:
            query = lake.run(trigger="0 seconds", block=False, progress=False)
            while not query.recent_progress:
                query.await_termination(0.01)
            query.stop()
        else:
            lake.run(progress=False)
    pipeline(broker, "t", tmp_path / "lake", 11).run(progress=False)
    raw = broker.read_stream("t", format="raw").collect().to_dicts()
    messages = {(r["partition"], r["offset"]): json.loads(r["value"]) for r in raw}
    bytes_of = {(r["partition"], r["offset"]): r["value"] for r in raw}
    table, windows, aside = oracle(messages, seals(tmp_path / "lake"))
    got = [(r["p"], r["o"], r["place"], r["device"], r["v"], us(r["time"])) for r in rows(tmp_path / "lake/flat")]
    assert sorted(got) == sorted(table)
    found = {us(r["window_start"]): (r["n"], r["s"]) for r in rows(tmp_path / "lake/windows")}
    assert found == windows
    quarantine = []
    for r in rows(tmp_path / "lake/q_quarantine"):
        element = json.loads(r["row"])
        assert bytes(r["value"]) == bytes_of[r["partition"], r["offset"]]
        assert r["topic"] == "t" and r["key"] is not None and element["device"] == element["device"]
        [place] = element["_element"]
        assert element["place"] == place
        quarantine.append((r["partition"], r["offset"], place, r["stage"]))
    assert sorted(quarantine) == sorted(aside)


def of(value: Any, ddl: str) -> bayou.Stream:
    return bayou.from_messages([json.dumps(v) for v in value], schema=ddl)


def test_every_generator_has_spark_s_names_and_rules_of_null() -> None:
    lists = of([{"n": 1, "a": [1, None]}, {"n": 2, "a": []}, {"n": 3, "a": None}], "n INT, a ARRAY<INT>")
    assert lists.select("n", "explode(a)").collect().to_dicts() == [{"n": 1, "col": 1}, {"n": 1, "col": None}]
    outer = lists.with_columns("posexplode_outer(a)").drop("a").collect().to_dicts()
    assert outer == [
        {"n": 1, "pos": 0, "col": 1},
        {"n": 1, "pos": 1, "col": None},
        {"n": 2, "pos": None, "col": None},
        {"n": 3, "pos": None, "col": None},
    ]
    # A column of the same name is replaced, in its place.
    assert lists.with_columns(a="explode(a)").collect().columns == ["n", "a"]
    assert str(lists.with_columns("posexplode(a) AS (i, a)").schema) == "n INT, a INT, i INT NOT NULL"
    maps = of([{"m": {"x": [1, 2], "y": []}}], "m MAP<STRING, ARRAY<INT>>")
    twice = maps.select("explode(m) AS (k, v)").select("k", "explode_outer(v) AS e")
    assert twice.collect().to_dicts() == [{"k": "x", "e": 1}, {"k": "x", "e": 2}, {"k": "y", "e": None}]
    structs = of([{"s": [{"p": 1, "q": "a"}, None]}], "s ARRAY<STRUCT<p: INT, q: STRING>>")
    assert structs.select("inline(s)").collect().to_dicts() == [{"p": 1, "q": "a"}, {"p": None, "q": None}]
    pairs = of([{"a": 1, "b": 2}], "a INT, b INT").select("stack(2, 'a', a, 'b', b) AS (name, value)")
    assert pairs.collect().to_dicts() == [{"name": "a", "value": 1}, {"name": "b", "value": 2}]
    text = of([{"j": '{"a":{"b":1.50},"c":"x"}'}, {"j": "no"}], "j STRING").select("json_tuple(j, 'a', 'c', 'd')")
    assert text.collect().to_dicts() == [
        {"c0": '{"b":1.5}', "c1": "x", "c2": None},
        {"c0": None, "c1": None, "c2": None},
    ]


def test_rows_at_hand_and_tables_explode_too(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    frame = pa.table({"n": [1, 2], "a": pa.array([[1, 2], [3]], pa.large_list(pa.int64()))})
    stream = bayou.from_batches(frame).select("n", "explode(a) AS x")
    assert stream.collect().to_dicts() == [{"n": 1, "x": 1}, {"n": 1, "x": 2}, {"n": 2, "x": 3}]
    judged = stream.expect_or_quarantine("small", "x < 3").validate()
    assert judged.expectations.to_dicts()[0]["failed_records"] == 1
    broker.create_topic("t")
    broker.produce("t", [{"a": [1, 2]}, {"a": [3]}], progress=False)
    broker.read_stream("t", schema="a ARRAY<INT>").write_delta(str(tmp_path / "t"), progress=False)
    again = bayou.from_batches(bayou.read_delta(str(tmp_path / "t"))).select("posexplode(a) AS (i, x)")
    assert again.collect().to_dicts() == [{"i": 0, "x": 1}, {"i": 1, "x": 2}, {"i": 0, "x": 3}]


def test_an_element_that_fails_later_is_told_with_its_message_and_place(broker: bayou.Connection) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"a": [1, 2]}, {"a": [3, 0]}], progress=False)
    raw = broker.read_stream("t", schema="a ARRAY<INT>").select("explode(a) AS x")
    with pytest.raises(bayou.MalformedError, match=r"t\[0\] offset 1 element 1: .*division by zero"):
        raw.select("6 / x AS q").collect()
    with pytest.raises(bayou.ExpectationError, match=r"t\[0\] offset 0 element 1"):
        raw.expect_or_fail("one", "x <> 2").collect()


def test_nested_places_stand_in_the_row_of_the_quarantine(broker: bayou.Connection, tmp_path: pathlib.Path) -> None:
    broker.create_topic("t")
    broker.produce("t", [{"m": {"p": [[1, 9], None], "q": None}}], progress=False)
    flat = (
        broker.read_stream("t", schema="m MAP<STRING, ARRAY<ARRAY<INT>>>")
        .select("explode(m) AS (k, v)")
        .select("k", "explode_outer(v) AS v")
        .select("k", "explode_outer(v) AS v")
        .expect_or_quarantine("few", "v < 5")
    )
    flat.write_delta(str(tmp_path / "t"), progress=False)
    aside = [json.loads(r["row"]) for r in rows(tmp_path / "t_quarantine")]
    assert sorted(aside, key=str) == sorted(
        [
            {"k": "p", "v": 9, "_element": [0, 0, 1]},
            {"k": "p", "_element": [0, 1, None]},
            {"k": "q", "_element": [1, None, None]},
        ],
        key=str,
    )
    assert [r["v"] for r in rows(tmp_path / "t")] == [1]


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (["explode(a) + 1"], "explode makes several rows of one: it must be alone"),
        (["explode(a)", "explode(a) AS y"], "one select can make rows only once"),
        (["explode(n)"], "n is INT, not an ARRAY or a MAP"),
        (["inline(a)"], "the elements are INT, not structs"),
        (["posexplode(a) AS x"], r"makes 2 columns \(pos, col\), and 1 is named. Write AS \(name1, name2\)"),
        (["n AS (x, y)"], "only a generator such as explode has several columns"),
        (["abs(n) AS (x, y)"], "only a generator such as explode has several columns"),
        (["stack(n, 1)"], "the number of rows must be a constant above 0"),
        (["stack(2, 1, 'x')"], "column 1 would be INT and STRING. Use CAST"),
        (["a", "explode(a) AS a"], "two columns would be named 'a'"),
        (["json_tuple(n, 'x')"], "n is INT, not STRING"),
    ],
)
def test_a_generator_that_cannot_be_is_refused_when_it_is_typed(items: list[str], words: str) -> None:
    stream = bayou.from_messages([], schema="n INT, a ARRAY<INT>")
    with pytest.raises(bayou.SchemaError, match=words):
        stream.select(*items)


def test_generators_are_refused_where_rows_cannot_be_made() -> None:
    stream = bayou.from_messages([], schema="n INT, a ARRAY<INT>")
    for refused in (
        lambda: stream.where("explode(a) > 1"),
        lambda: stream.expect("x", "explode(a) > 1"),
        lambda: stream.group_by("explode(a)").count(),
        lambda: stream.group_by().agg("sum(explode(a))"),
    ):
        with pytest.raises(bayou.SchemaError, match="explode makes several rows of one"):
            refused()
    totals = stream.group_by("n").agg("collect_list(n) AS all").select("n", "explode(all) AS one")
    with pytest.raises(bayou.ConfigError, match="after a join or explode one group may have several rows"):
        totals.write_delta("nowhere", output_mode="update")


def test_generators_and_lateral_views_make_the_same_rows_of_tables() -> None:
    table = pa.table(
        {
            "id": [1, 2, 3],
            "a": pa.array([[1, 2], [], None], pa.list_(pa.int32())),
            "m": pa.array([[("x", 1)], [], None], pa.map_(pa.string(), pa.int32())),
            "s": pa.array(
                [[{"p": 1, "q": "u"}], None, []], pa.list_(pa.struct([("p", pa.int32()), ("q", pa.string())]))
            ),
            "j": ['{"k":1}', None, "no"],
        }
    )

    def sql(text: str) -> list[tuple[Any, ...]]:
        return [tuple(r.values()) for r in bayou.sql(text, t=table).to_dicts()]

    assert sql("SELECT id, explode(a) AS x FROM t WHERE id < 3") == [(1, 1), (1, 2)]
    outer = sql("SELECT explode_outer(a), id FROM t ORDER BY id DESC, col")
    assert outer == [(None, 3), (None, 2), (1, 1), (2, 1)]
    assert sql("SELECT posexplode(m) AS (i, k, v) FROM t") == [(0, "x", 1)]
    assert bayou.sql("SELECT id, inline(s), j FROM t", t=table).columns == ["id", "p", "q", "j"]
    assert sql("SELECT x, count(*) AS n FROM (SELECT explode(a) AS x FROM t) GROUP BY x ORDER BY x") == [(1, 1), (2, 1)]
    assert sql("SELECT t.id, v.x FROM t LATERAL VIEW explode(a) v AS x WHERE v.x > 1") == [(1, 2)]
    views = "SELECT id, x, k FROM t LATERAL VIEW OUTER explode(a) v AS x LATERAL VIEW explode(m) w AS k, val ORDER BY x"
    assert sql(views) == [(1, 1, "x"), (1, 2, "x")]
    nested = "WITH e AS (SELECT id, explode(a) AS x FROM t), f AS (SELECT stack(2, x, x) AS y FROM e) SELECT y FROM f ORDER BY y"
    assert sql(nested) == [(1,), (1,), (2,), (2,)]
    assert sql("SELECT json_tuple(j, 'k') AS k FROM t") == [("1",), (None,), (None,)]
    assert sql("SELECT DISTINCT stack(2, 'it\\'s', 'b') AS o FROM t ORDER BY o") == [("b",), ("it's",)]
    # Names in ORDER BY, of all columns, and in subqueries.
    assert sql("SELECT t.id, v.x FROM t LATERAL VIEW explode(a) v AS x ORDER BY v.x DESC") == [(1, 2), (1, 1)]
    everything = bayou.sql("SELECT t.*, v.* FROM t LATERAL VIEW posexplode(a) v AS i, x", t=table)
    assert everything.columns == ["id", "a", "m", "s", "j", "i", "x"]
    both = "SELECT w.*, v.x FROM t LATERAL VIEW explode(a) v AS x LATERAL VIEW explode(m) w AS k, val ORDER BY v.x, w.k"
    assert sql(both) == [("x", 1, 1), ("x", 1, 2)]
    correlated = "SELECT v.x FROM t LATERAL VIEW explode(a) v AS x WHERE EXISTS (SELECT 1 FROM u WHERE u.n = v.x AND u.id = t.id)"
    assert [r["x"] for r in bayou.sql(correlated, t=table, u=pa.table({"id": [1, 3], "n": [2, 1]})).to_dicts()] == [2]
    shadowed = "SELECT v.x FROM t LATERAL VIEW explode(a) v AS x WHERE 2 IN (SELECT v.n FROM u AS v) ORDER BY x"
    assert [r["x"] for r in bayou.sql(shadowed, t=table, u=pa.table({"n": [2]})).to_dicts()] == [1, 2]
    joined = "SELECT u.n, v.x FROM t JOIN u ON t.id = u.other LATERAL VIEW explode(t.a) v AS x ORDER BY v.x"
    assert [tuple(r.values()) for r in bayou.sql(joined, t=table, u=pa.table({"other": [1], "n": [7]})).to_dicts()] == [
        (7, 1),
        (7, 2),
    ]
    for text in (joined.replace("u.other", "u.id"), joined.replace("u.n", "u.*")):
        with pytest.raises(
            bayou.SchemaError, match=r"both have a column 'id'|u\.\* together with LATERAL VIEW and a join"
        ):
            bayou.sql(
                text, t=table, u=pa.table({"id": [1], "other": [1], "n": [7]} if "u.id" in text else {"other": [1]})
            )
    for text, words in [
        ("SELECT explode(a), explode(a) FROM t", "one SELECT can make rows only once"),
        ("SELECT explode(id + 1) FROM t", r"id \+ 1 is BIGINT, not an ARRAY or a MAP"),
        ("SELECT posexplode(a) AS x FROM t", "makes 2 columns"),
        ("SELECT explode(nope) FROM t", "nope"),
        ("SELECT id FROM t LATERAL VIEW upper(j) v AS x", "LATERAL VIEW takes a generator"),
    ]:
        with pytest.raises(bayou.SchemaError, match=words):
            bayou.sql(text, t=table)


def test_all_rows_of_a_message_have_one_moment_however_many_batches_they_are_in() -> None:
    messages = [json.dumps({"id": 1, "xs": list(range(300_000))})]
    rows = bayou.from_messages(messages, schema="id INT, xs ARRAY<INT>").select("explode(xs) AS x")
    found = rows.with_columns("current_timestamp() AS at").collect().to_arrow()
    assert found.num_rows == 300_000 and len(found.column("at").unique()) == 1


def test_the_rows_of_large_messages_come_in_batches_also_from_an_iterator_on_an_interval(
    broker: bayou.Connection,
) -> None:
    broker.create_topic("large")
    broker.produce("large", [{"id": k, "xs": list(range(70_000))} for k in range(6)], progress=False)
    rows = broker.read_stream("large", schema="id INT, xs ARRAY<INT>").select("id", "explode(xs) AS x")
    rows = rows.with_columns("current_timestamp() AS at")
    seen, most = 0, 0
    for batch in rows.batches(trigger="10 milliseconds", timeout=60):
        seen, most = seen + batch.num_rows, max(most, batch.num_rows)
        if seen == 420_000:
            break
    assert seen == 420_000 and most <= 1 << 18
