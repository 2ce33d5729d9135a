"""Random queries of analysts, compared with a real Spark 4.0.0: joins, groups, windows, subqueries, sets; tables of `record_spark_queries.py`.

    /tmp/spark/bin/python tests/python/spark_query_check.py        # Java 17, two minutes: records `spark_queries_random.json` next to this file
"""

from __future__ import annotations

import pathlib
import random
import re

NAMED = pathlib.Path(__file__).with_name("spark_queries_random.json")
# Choices by the name of a place in a template.
PARTS: dict[str, list[str]] = {
    # of orders o
    "key": ["status", "customer", "qty", "year(day)", "month(at)", "lower(status)", "day", "amount > 7", "coalesce(status, 'none')", "date_trunc('MONTH', at)", "size(tags)", "id % 3"],
    "value": ["amount", "qty", "amount * qty", "id", "CAST(amount AS DOUBLE)", "qty / 2", "abs(amount)", "length(status)", "datediff(DATE '2024-12-31', day)", "unix_seconds(at)"],
    "agg": ["count(*)", "count({value})", "sum({value})", "avg({value})", "min({value})", "max({value})", "count(DISTINCT {key})", "sum(DISTINCT qty)", "max(at)", "min(status)", "count_if(qty > 2)",
            "max_by(status, id)", "min_by(amount, id)", "sum({value}) FILTER (WHERE {cond})", "round(stddev({value}), 6)", "sort_array(collect_set(status))", "bool_and(qty > 1)", "median(qty)", "percentile(qty, 0.25)", "count(DISTINCT status, qty)",
            "sum(CASE WHEN {cond} THEN 1 ELSE 0 END)", "approx_count_distinct(status)", "any_value(id) IS NOT NULL", "max(struct(qty, id)).id", "try_sum(qty)", "mode(qty, true)"],
    "cond": ["qty > 2", "status = 'paid'", "lower(status) = 'paid'", "amount BETWEEN 0 AND 50", "day >= '2024-01-01'", "at < TIMESTAMP '2024-03-01'", "status IS NULL", "NOT status <=> 'open'", "status LIKE '%a%'", "customer IN (1, 2)", "id % 2 = 1",
             "array_contains(tags, 'gift')", "size(tags) > 0", "coalesce(qty, 0) < 3", "year(day) = 2024 OR day IS NULL", "exists(tags, t -> t = 'new')", "amount > qty", "customer NOT IN (3, 4)"],
    "where": ["", "", " WHERE {cond}", " WHERE {cond} AND {cond}", " WHERE NOT ({cond})"],
    "having": ["", "", " HAVING count(*) > 1", " HAVING sum(qty) IS NOT NULL", " HAVING max(amount) > 5"],
    "sets": ["{key}, status WITH ROLLUP", "status, customer WITH CUBE", "ROLLUP (status, year(day))", "CUBE (status)", "GROUPING SETS ((status), (customer), ())"],
    "over": ["PARTITION BY {key} ORDER BY id", "ORDER BY id", "PARTITION BY status ORDER BY amount DESC, id", "PARTITION BY customer ORDER BY at NULLS LAST, id", "ORDER BY qty DESC NULLS FIRST, id"],
    "frame": ["", " ROWS BETWEEN 1 PRECEDING AND CURRENT ROW", " ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING", " ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING", " RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"],
    "window": ["row_number() OVER ({over})", "rank() OVER ({over})", "dense_rank() OVER ({over})", "lag({value}) OVER ({over})", "lead({value}, 2) OVER ({over})", "sum({value}) OVER ({over}{frame})", "count(*) OVER ({over}{frame})", "max({value}) OVER ({over}{frame})",
               "avg(qty) OVER ({over}{frame})", "first_value(id) OVER ({over})", "last_value(id) OVER ({over}{frame})", "ntile(3) OVER ({over})", "percent_rank() OVER ({over})", "cume_dist() OVER ({over})", "sum(amount) OVER (PARTITION BY {key})", "nth_value(id, 2) OVER ({over}{frame})"],
    "on": ["o.customer = c.id", "o.customer = c.id AND o.qty > 1", "o.customer + 1 = c.id", "year(o.day) = year(c.since) + 4", "o.customer <=> c.id", "o.customer = c.id OR o.qty = c.id", "o.customer = c.id AND c.address.city <> 'Oslo'", "lower(o.status) = lower(substring(c.name, 1, 4))", "o.id = size(c.scores) + c.id"],
    "join": ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "LEFT SEMI JOIN", "LEFT ANTI JOIN"],
    "outer": ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"],
    "of_c": ["c.name", "c.address.city", "c.since", "c.scores['a']", "get_json_object(c.doc, '$.plan')", "upper(c.name)", "c.id", "map_keys(c.scores)"],
    "set": ["UNION", "UNION ALL", "INTERSECT", "EXCEPT", "MINUS"],
    "one": ["id", "customer", "qty", "CAST(qty AS BIGINT)", "qty * 1.0"],
    "sub": ["(SELECT max(qty) FROM orders)", "(SELECT avg(amount) FROM orders WHERE {cond})", "(SELECT count(*) FROM customers)", "(SELECT min(c.id) FROM customers c WHERE c.id = o.customer)", "(SELECT count(*) FROM orders p WHERE p.customer = o.customer)", "(SELECT sum(qty) FROM orders p WHERE p.status = o.status)"],
    "pred": ["o.qty > {sub}", "o.customer IN (SELECT id FROM customers)", "o.customer NOT IN (SELECT id FROM customers WHERE id < 3)", "EXISTS (SELECT 1 FROM customers c WHERE c.id = o.customer)", "NOT EXISTS (SELECT 1 FROM orders p WHERE p.customer = o.customer AND p.id > o.id)",
             "o.status IN (SELECT status FROM orders WHERE {cond})", "o.qty = (SELECT max(qty) FROM orders p WHERE p.customer = o.customer)", "o.amount > (SELECT avg(amount) FROM orders)"],
}
TEMPLATES = [
    "SELECT {key} AS k, {agg} AS a, {agg} AS b FROM orders{where} GROUP BY {k}{having}",
    "SELECT {key} AS k, {agg}, {agg} FROM orders{where} GROUP BY {k}",
    "SELECT {agg}, {agg}, {agg} FROM orders{where}",
    "SELECT {key} AS k, {key} AS l, {agg} AS a FROM orders{where} GROUP BY ALL",
    "SELECT id, {window} AS w, {window} AS x FROM orders{where}",
    "SELECT id, {value} AS v, {window} AS w FROM orders{where} ORDER BY id LIMIT 4",
    "SELECT status, {agg} AS a, grouping_id() AS g FROM orders{where} GROUP BY CUBE (status)",
    "SELECT status, {agg} AS a FROM orders GROUP BY ROLLUP (status, customer)",
    "SELECT customer, status, {agg} AS a, grouping(status) AS g FROM orders{where} GROUP BY GROUPING SETS ((customer), (status), ())",
    "SELECT o.id, {of_c} AS x FROM orders o {outer} customers c ON {on}",
    "SELECT o.id FROM orders o LEFT SEMI JOIN customers c ON {on}",
    "SELECT o.id FROM orders o LEFT ANTI JOIN customers c ON {on}",
    "SELECT {of_c} AS x, count(*) AS n, sum(o.qty) AS q FROM orders o {outer} customers c ON {on} GROUP BY {x}",
    "SELECT o.id, {of_c} AS x FROM orders o, customers c WHERE {on}",
    "SELECT {one} AS x FROM orders{where} {set} SELECT {one} FROM orders{where}",
    "SELECT {one} AS x FROM orders{where} {set} SELECT id FROM customers",
    "SELECT x, count(*) AS n FROM (SELECT {one} AS x FROM orders UNION ALL SELECT {one} FROM orders) GROUP BY x",
    "SELECT o.id, {sub} AS s FROM orders o WHERE {pred}",
    "SELECT o.id FROM orders o WHERE {pred} OR {pred}",
    "SELECT o.id FROM orders o WHERE NOT ({pred})",
    "WITH p AS (SELECT customer, {agg} AS a FROM orders{where} GROUP BY customer) SELECT c.name, p.a FROM customers c {outer} p ON p.customer = c.id",
    "WITH p AS (SELECT id, {window} AS w FROM orders) SELECT w, count(*) AS n FROM p GROUP BY w",
    "SELECT tag, {agg} AS a FROM orders LATERAL VIEW explode(tags) t AS tag{where} GROUP BY tag",
    "SELECT id, pos, tag FROM orders LATERAL VIEW OUTER posexplode(tags) t AS pos, tag{where}",
    "SELECT id, explode_outer(tags) AS tag FROM orders{where}",
    "SELECT DISTINCT {key} AS k, {value} AS v FROM orders{where}",
    "SELECT * FROM (SELECT customer, status, qty FROM orders{where}) PIVOT (sum(qty) AS s, count(*) AS n FOR status IN ('paid', 'open'))",
    "SELECT * FROM (SELECT id, qty, customer FROM orders{where}) UNPIVOT (v FOR m IN (qty, customer))",
    "SELECT id, {value} + {value} AS a, {key} AS k, if({cond}, {value}, NULL) AS b FROM orders{where}",
    "SELECT k, max(v) AS m FROM (SELECT {key} AS k, {value} AS v FROM orders{where}) GROUP BY k HAVING max(v) IS NOT NULL ORDER BY m DESC, k LIMIT 3",
    "SELECT a.id, b.id AS other FROM orders a JOIN orders b ON {key_a} = {key_b} AND a.id < b.id",
]
KEYS = ["{0}.status", "lower({0}.status)", "{0}.customer", "year({0}.day)", "{0}.qty % 3", "size({0}.tags)", "{0}.amount", "CAST({0}.amount AS DOUBLE) * 0"]


def query(rng: random.Random) -> str:
    text = rng.choice(TEMPLATES)
    if "{key_a}" in text:
        key = rng.choice(KEYS)
        text = text.replace("{key_a}", key.format("a")).replace("{key_b}", key.format("b"))
    said: dict[str, str] = {}
    while found := re.search(r"\{(\w+)\}", text):
        name = found[1]
        part = said[name] if name in said else rng.choice(PARTS[name])
        while inner := re.search(r"\{(\w+)\}", part):
            part = part[: inner.start()] + rng.choice(PARTS[inner[1]]) + part[inner.end() :]
        # Columns named k or x are grouped by in the form in which they were selected.
        if name in ("key", "of_c"):
            said.setdefault({"key": "k", "of_c": "x"}[name], part)
        text = text[: found.start()] + part + text[found.end() :]
    return text


def queries(seed: int = 7, count: int = 220) -> list[str]:
    rng = random.Random(seed)
    out: dict[str, None] = {}
    while len(out) < count:
        out[query(rng)] = None
    return [*out]


if __name__ == "__main__":
    import record_spark_queries

    record_spark_queries.record(queries(), NAMED)
