"""Records what a real Spark 4.0.0 answers to queries over tables, as the tests of `bayou.sql`: `spark_queries.json` beside this file.

    python -m venv /tmp/spark && /tmp/spark/bin/pip install pyspark==4.0.0
    /tmp/spark/bin/python tests/python/record_spark_queries.py        # Java 17, a minute

ANSI mode is on and the session's time zone is UTC. A query that Spark refuses is recorded as refused.
"""

import datetime
import decimal
import json
import pathlib

# name -> (schema, rows)
TABLES = {
    "sales": (
        "Region STRING, quarter STRING, Amount INT, price DOUBLE, item STRUCT<Name: STRING, size: INT>",
        [
            ["north", "q1", 10, 1.5, ["a", 1]],
            ["north", "q1", 5, 2.5, ["b", 2]],
            ["north", "q2", None, None, None],
            ["south", "q1", 7, 0.5, ["a", 3]],
            ["south", "q3", 1, None, [None, None]],
            [None, "q2", 4, 4.0, ["c", 4]],
            ["east", None, 3, 3.0, ["c", None]],
        ],
    ),
    "Stores": (
        "id INT, REGION STRING, city STRING",
        [[1, "north", "Oslo"], [2, "south", "Rome"], [3, "west", "Brest"], [4, None, "Nowhere"]],
    ),
    "wide": (
        "id INT, jan INT, feb INT, mar BIGINT, note STRING",
        [[1, 10, None, 30, "x"], [2, None, None, None, "y"], [3, 1, 2, 3, None]],
    ),
}

QUERIES = [
    # Names
    "SELECT region, AMOUNT FROM SALES ORDER BY amount",
    "SELECT s.REGION, Stores.City FROM sales s JOIN stores ON s.region = STORES.region ORDER BY s.amount, city",
    "SELECT Item.NAME AS n, item.SIZE FROM sales ORDER BY n, 2",
    "SELECT REGION, sum(AMOUNT) AS Total FROM sales GROUP BY region HAVING total > 3 ORDER BY TOTAL",
    "WITH Per AS (SELECT region, count(*) AS N FROM sales GROUP BY Region) SELECT n FROM per ORDER BY n",
    "SELECT x.amt FROM (SELECT amount AS Amt FROM sales) x ORDER BY AMT",
    "SELECT QUARTER FROM sales UNION SELECT city FROM stores ORDER BY 1",
    "SELECT `region` FROM sales WHERE `AMOUNT` = 10",
    "SELECT * EXCEPT (REGION, item) FROM sales ORDER BY amount",
    "SELECT t.* FROM STORES t ORDER BY ID",
    "SELECT count(*) AS n FROM sales a JOIN (SELECT * FROM SALES) b USING (QUARTER)",
    # Grouping
    "SELECT region, count(*) AS n FROM sales GROUP BY region WITH ROLLUP",
    "SELECT region, quarter, sum(amount) AS s FROM sales GROUP BY region, quarter WITH ROLLUP",
    "SELECT region, quarter, sum(amount) AS s FROM sales GROUP BY region, quarter WITH CUBE",
    "SELECT region, quarter, count(*) AS s FROM sales GROUP BY ROLLUP (region, quarter)",
    "SELECT region, quarter, sum(amount) AS s FROM sales GROUP BY GROUPING SETS ((region), (quarter), ())",
    "SELECT region, quarter, sum(amount) AS s FROM sales GROUP BY region, quarter GROUPING SETS ((region), (quarter))",
    "SELECT region, count(*) AS n FROM sales GROUP BY ALL",
    "SELECT count(DISTINCT region, quarter) AS n FROM sales",
    "SELECT region, count(DISTINCT quarter, amount) AS n, count(quarter, amount) AS m FROM sales GROUP BY region",
    "SELECT count(DISTINCT region, item) AS n FROM sales",
    # Sets
    "SELECT quarter FROM sales MINUS SELECT 'q1'",
    "SELECT quarter FROM sales EXCEPT SELECT 'q1'",
    "SELECT region FROM sales MINUS SELECT region FROM stores MINUS SELECT 'east'",
    "SELECT region FROM sales INTERSECT SELECT region FROM stores",
    "SELECT * FROM (SELECT region FROM stores MINUS SELECT region FROM sales)",
    # PIVOT
    "SELECT * FROM (SELECT region, quarter, amount FROM sales) PIVOT (sum(amount) FOR quarter IN ('q1', 'q2', 'q4'))",
    "SELECT * FROM (SELECT region, quarter, amount FROM sales) PIVOT (count(*) FOR quarter IN ('q1' AS first, 'q2' AS `second one`))",
    "SELECT * FROM (SELECT region, quarter, amount FROM sales) PIVOT (sum(amount) AS s, max(amount) AS m FOR quarter IN ('q1', 'q2'))",
    "SELECT * FROM (SELECT quarter, amount FROM sales) PIVOT (sum(amount) FOR quarter IN ('q1', 'q2'))",
    "SELECT north_total + 1 AS x FROM (SELECT region, amount FROM sales) PIVOT (sum(amount) FOR region IN ('north' AS north_total))",
    "SELECT * FROM (SELECT region, quarter, amount, price FROM sales) PIVOT (sum(amount) AS a, avg(price) AS p FOR region IN ('north' AS n, 'south' AS s)) ORDER BY quarter",
    "SELECT * FROM (SELECT id, region, city FROM stores) PIVOT (max(city) FOR (id, region) IN ((1, 'north') AS one, (2, 'south') AS two))",
    "SELECT q1 FROM (SELECT region, quarter, amount FROM sales) PIVOT (sum(amount) FOR quarter IN ('q1')) ORDER BY region",
    "WITH s AS (SELECT region, quarter, amount FROM sales) SELECT * FROM s PIVOT (max(amount) FOR quarter IN ('q1', 'q3'))",
    "SELECT * FROM (SELECT id, jan FROM wide) PIVOT (max(jan) FOR id IN (1, 2, 3))",
    "SELECT * FROM (SELECT region, quarter FROM sales) PIVOT (count(quarter) FOR QUARTER IN ('q1'))",
    # UNPIVOT
    "SELECT * FROM wide UNPIVOT (amount FOR month IN (jan, feb, mar))",
    "SELECT * FROM wide UNPIVOT INCLUDE NULLS (amount FOR month IN (jan, feb))",
    "SELECT id, month, amount FROM wide UNPIVOT (amount FOR month IN (jan AS `January`, feb AS `February`))",
    "SELECT * FROM wide UNPIVOT ((a, b) FOR half IN ((jan, feb) AS first, (feb, mar) AS second))",
    "SELECT * FROM wide UNPIVOT INCLUDE NULLS ((a, b) FOR half IN ((jan, feb), (feb, mar)))",
    "SELECT u.month, sum(u.amount) AS s FROM wide UNPIVOT (amount FOR month IN (JAN, FEB)) AS u GROUP BY u.month",
    "SELECT month FROM (SELECT id, jan, feb FROM wide) UNPIVOT (amount FOR month IN (jan, feb)) WHERE amount > 1",
    # Refused by Spark or by name
    "SELECT * FROM (SELECT region, quarter, amount FROM sales) PIVOT (sum(amount) FOR quarter IN (SELECT 'q1'))",
    "SELECT * FROM wide UNPIVOT (amount FOR month IN (jan, (feb, mar)))",
    "SELECT nothing FROM sales",
    "SELECT a.nothing FROM sales a",
    # NULL order and limits
    "SELECT amount FROM sales ORDER BY amount",
    "SELECT amount FROM sales ORDER BY amount DESC LIMIT 3",
    "SELECT amount FROM sales ORDER BY amount DESC NULLS FIRST LIMIT 2",
    "SELECT amount, row_number() OVER (ORDER BY amount DESC) AS n FROM sales ORDER BY n",
    "SELECT amount FROM sales ORDER BY amount LIMIT 2 OFFSET 1",
    # Joins
    "SELECT s.amount, t.city FROM sales s LEFT JOIN stores t ON s.Region = t.Region ORDER BY s.amount",
    "SELECT amount FROM sales s LEFT SEMI JOIN stores t ON s.region = t.region ORDER BY amount",
    "SELECT amount FROM sales s LEFT ANTI JOIN stores t ON s.region = t.region ORDER BY amount",
    "SELECT amount FROM sales s WHERE EXISTS (SELECT 1 FROM stores t WHERE t.REGION = s.region) ORDER BY AMOUNT",
    "SELECT amount FROM sales WHERE region IN (SELECT region FROM stores) ORDER BY amount",
    "SELECT city, (SELECT max(amount) FROM sales s WHERE s.region = t.region) AS m FROM stores t ORDER BY city",
]


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    return value


def main() -> None:
    # Imported here: it sets the time zone of the process.
    from record_spark_answers import session

    spark = session()
    for name, (schema, rows) in TABLES.items():
        spark.createDataFrame(
            [tuple(tuple(v) if isinstance(v, list) else v for v in r) for r in rows], schema
        ).createOrReplaceTempView(name)
    answers = []
    for query in QUERIES:
        try:
            frame = spark.sql(query)
            rows = [
                plain(r.asDict(recursive=True)) if len(set(frame.columns)) == len(frame.columns) else None
                for r in frame.collect()
            ]
            rows = [list(r.values()) for r in rows]
            types = [f.dataType.simpleString() for f in frame.schema.fields]
            answers.append({"query": query, "names": frame.columns, "types": types, "rows": rows})
        except Exception as e:
            answers.append({"query": query, "refused": str(e).splitlines()[0][:150]})
    out = pathlib.Path(__file__).with_name("spark_queries.json")
    out.write_text("[\n" + ",\n".join(json.dumps(a, ensure_ascii=False) for a in answers) + "\n]\n")


if __name__ == "__main__":
    main()
