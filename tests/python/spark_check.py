"""Random typed expressions, compared with a real Spark 4.0.0.

    /tmp/spark/bin/python tests/python/spark_check.py --count 5000 --seed 1 --out answers.json      # Java 17, about ten minutes
    python tests/python/spark_check.py --compare --out answers.json

`make spark-check` does both. Without arguments, it records the slice that is in the repository: `spark_answers_random.jsonl` next to this file.
"""

from __future__ import annotations

import argparse
import datetime
import decimal
import json
import pathlib
import random
import re
import subprocess
import sys
from typing import Any

SLICE = pathlib.Path(__file__).with_name("spark_answers_random.jsonl")
# The cases in which bayou deliberately differs (docs/sql.md, "Known differences").
FIRST, REFUSED = "Spark computes constants first", "Spark refuses what has one meaning"
DIFFERENT = {
    "((-1Y) + y) + 3Y": FIRST,
    "(y + (-1Y)) + coalesce(3Y, y)": FIRST,
    "((-y) IS DISTINCT FROM ceil(0.01, 1)) IS NOT FALSE": "Spark does not compute a comparison whose result is known",
    "c AND (('') = y)": "a constant that fails does so for the rows that need it",
    "CAST(xxhash64(s, (-0.25D)) AS FLOAT) * nanvl(CAST(i AS DOUBLE), d) + CAST(0.01 AS DOUBLE)": "Spark leaves out a FLOAT between BIGINT and DOUBLE",
    "CAST(CAST(i AS BIGINT) AS FLOAT) / CAST(1.5 AS FLOAT)": "as above",
    "md5(NULL) IN (ltrim(('Hello')), 'a') IS TRUE": REFUSED,
    "struct(5L, right(NULL, year(dt))) = struct(if(true, x, (-1Y)), element_at(split(t, ''), 1))": REFUSED,
    "struct((((-0.0F) * (-1Y)) % (-0.0F)), concat_ws('-', nullif(s, s), split(s, ','))) = struct(try_divide((-x), abs(year(dt))), concat(q, 100.00))": REFUSED,
    "pmod(1, nullif(aggregate(array(i, j), 0, (acc, v) -> acc + coalesce(v, 1)), (i >> 2)))": REFUSED,
    "array_insert(array_intersect(array_sort(array(i)), zip_with(sequence(1, 3), array(i, j), (p, r) -> p + r)), 1, (10 >> 2))": REFUSED,
    "if((if(false, du, CAST(ts AS DATE)) = s), CAST(i AS DOUBLE) * abs(1.5D), round(least(CAST(i AS DOUBLE), (-0.0F)), 2))": "where one side is NULL, Spark does not compute the other",
}
TABLE = {
    "mixed": (
        dict(i="INT", j="INT", l="BIGINT", y="TINYINT", d="DOUBLE", f="FLOAT", x="DECIMAL(10,2)", z="DECIMAL(20,5)", b="BOOLEAN",
             c="BOOLEAN", s="STRING", t="STRING", q="STRING", ts="TIMESTAMP", us="TIMESTAMP", dt="DATE", du="DATE"),
        [
            ["5", "2", "7", "3", "2.5", "1.5", "12.34", "1.00001", "true", "false", "Hello World", "o", "42",
             "2024-02-29 12:34:56.789012", "2024-01-31 00:00:00", "2024-02-29", "2023-02-28"],
            ["-7", "3", "-9", "-1", "-2.5", "-1.5", "-12.35", "-2.5", "false", "true", "  padded ", " ", "-7",
             "1969-12-31 23:59:59.999999", "1970-01-01 00:00:00", "1969-12-31", "1970-01-01"],
            ["0", "0", "0", "0", "0.0", "-0.0", "0.00", "0", "true", "true", "", "", "0",
             "2000-01-01 00:00:00", "1999-12-31 23:59:59", "2000-01-01", "1999-12-31"],
            ["2147483647", "-2147483648", "9223372036854775807", "127", "1e300", "3.4e38", "99999999.99", "999999999999999.99999",
             "false", "false", "a,b,,c", ",", "9223372036854775807", "9999-12-31 23:59:59.999999", "0001-01-01 00:00:00",
             "9999-12-31", "0001-01-01"],
            ["-2147483648", "1", "-9223372036854775808", "-128", "NaN", "NaN", "-99999999.99", "0.00001", None, "true", "ÄÖü ß 日本語",
             "ß", "1.5", "1950-06-15 03:04:05.000001", "2000-02-29 13:00:00", "1950-06-15", "2000-02-29"],
            [None] * 17,
            ["3", None, "4", None, "Infinity", "0.1", None, "123.45678", "true", None, "abc", None, "abc", None, "2021-03-31 11:59:59",
             "2021-01-03", None],
            ["100", "7", "123456789012", "64", "0.1", "2.675", "0.05", "0.5", None, None, "x1y22z333", "1", None,
             "2024-03-31 02:30:00", "2024-10-27 01:30:00", "2024-03-30", "2024-10-27"],
            ["17", "-5", "-1", "-64", "3.5", "16777216", "1.00", "-0.5", "false", "true", "O'Neil", "'", " 8 ",
             "2023-12-31 23:59:59.5", "2024-01-01 00:00:00", "2023-12-31", "2024-01-01"],
        ],
    ),
}
INTS, FLOATS, DECIMALS = ["INT", "BIG", "TINY"], ["DOUBLE", "FLOAT"], ["DEC"]
NUMBERS = INTS + FLOATS + DECIMALS
LEAVES = {
    "INT": ["i", "j", "1", "2", "-3", "10", "0", "length(s)", "year(dt)", "2147483647"],
    "BIG": ["l", "5L", "CAST(i AS BIGINT)", "1000000000000"],
    "TINY": ["y", "3Y", "-1Y"],
    "DOUBLE": ["d", "1.5D", "-0.25D", "CAST(i AS DOUBLE)", "double('NaN')", "0.0D"],
    "FLOAT": ["f", "2.5F", "-0.0F"],
    "DEC": ["x", "z", "1.5", "0.01", "-12.345", "100.00"],
    "BOOL": ["b", "c", "true", "false", "i > 2", "s = 'abc'"],
    "STR": ["s", "t", "q", "'a'", "''", "'Hello'", "'1'", "'%o%'", "CAST(i AS STRING)", "NULL"],
    "TS": ["ts", "us", "TIMESTAMP '2024-02-29 01:02:03'", "CAST(dt AS TIMESTAMP)"],
    "DATE": ["dt", "du", "DATE '2024-12-31'", "CAST(ts AS DATE)"],
    "INTS": ["array(i, j)", "array(1, 2, NULL)", "array(i)", "sequence(1, 3)", "transform(split(s, ','), p -> length(p))"],
    "STRS": ["split(s, ',')", "array(s, t)", "array('a', NULL, 'b')", "split(t, '')"],
}
FORMS = {
    "INT": ["{INT} + {INT}", "{INT} - {INT}", "{INT} * {INT}", "{INT} % {INT}", "pmod({INT}, {INT})", "abs({INT})", "-{INT}", "{INT} & {INT}", "{INT} | {INT}",
            "{INT} ^ {INT}", "~{INT}", "shiftleft({INT}, {TINY})", "{INT} >> 2", "length({STR})", "instr({STR}, {STR})", "locate({STR}, {STR})", "locate({STR}, {STR}, {INT})", "ascii({STR})",
            "year({DATE})", "month({TS})", "dayofyear({DATE})", "dayofweek({DATE})", "weekday({DATE})", "weekofyear({DATE})", "quarter({DATE})", "hour({TS})", "minute({TS})",
            "second({TS})", "datediff({DATE}, {DATE})", "size({INTS})", "size({STRS})", "levenshtein({STR}, {STR})", "bit_count({INT})", "bit_length({STR})", "octet_length({STR})",
            "array_max({INTS})", "array_min({INTS})", "get({INTS}, {INT})", "try_element_at({INTS}, {INT})", "aggregate({INTS}, 0, (acc, v) -> acc + coalesce(v, 1))",
            "if({BOOL}, {INT}, {INT})", "coalesce({INT}, {INT})", "nullif({INT}, {INT})", "greatest({INT}, {INT})", "least({INT}, {INT}, {INT})", "CASE WHEN {BOOL} THEN {INT} ELSE {INT} END",
            "CASE {INT} WHEN {INT} THEN {INT} END", "CAST({BIG} AS INT)", "TRY_CAST({STR} AS INT)", "TRY_CAST({DOUBLE} AS INT)", "CAST({BOOL} AS INT)", "CAST({DEC} AS INT)", "try_add({INT}, {INT})",
            "try_multiply({INT}, {INT})", "hash({N}, {STR})", "crc32({STR}) % 100", "find_in_set({STR}, {STR})", "extract(MONTH FROM {DATE})", "date_part('DOW', {DATE})", "sign({INT})", "width_bucket({DOUBLE}, 0.0D, 10.0D, 5)",
            "nvl({INT}, {INT})", "nvl2({STR}, {INT}, {INT})", "zeroifnull({INT})", "nullifzero({INT})", "regexp_count({STR}, '[a-z]')", "regexp_instr({STR}, '[0-9]+')", "array_position({INTS}, {INT})", "months_between({DATE}, {DATE})"],
    "BIG": ["{BIG} + {INT}", "{BIG} - {BIG}", "{BIG} * {TINY}", "{I} div {I}", "{BIG} % {INT}", "abs({BIG})", "-{BIG}", "CAST({DOUBLE} AS BIGINT)", "CAST({STR} AS BIGINT)", "TRY_CAST({STR} AS BIGINT)", "unix_micros({TS})",
            "unix_seconds({TS})", "unix_date({DATE})", "timestampdiff(DAY, {TS}, {TS})", "timestampdiff(MONTH, {TS}, {TS})", "timestampdiff(SECOND, {DATE}, {TS})", "ceil({DOUBLE})", "floor({DEC})", "xxhash64({STR}, {N})", "coalesce({BIG}, {INT})",
            "greatest({BIG}, {INT})", "if({BOOL}, {BIG}, {INT})", "try_subtract({BIG}, {BIG})", "bit_count({BIG})", "factorial({INT})", "CAST({TS} AS BIGINT)", "element_at(array({BIG}, {INT}), 1)", "unix_timestamp({TS})"],
    "TINY": ["{TINY} + {TINY}", "-{TINY}", "CAST({INT} AS TINYINT)", "TRY_CAST({INT} AS TINYINT)", "abs({TINY})", "coalesce({TINY}, {TINY})", "{TINY} & {TINY}"],
    "DOUBLE": ["{N} / {F}", "{F} + {N}", "{F} * {DOUBLE}", "{DOUBLE} - {N}", "{DOUBLE} % {F}", "sqrt({N})", "abs({DOUBLE})", "-{DOUBLE}", "round({DOUBLE}, 2)", "bround({DOUBLE}, 1)", "try_divide({DOUBLE}, {N})", "CAST({STR} AS DOUBLE)",
               "TRY_CAST({STR} AS DOUBLE)", "CAST({DEC} AS DOUBLE)", "CAST({FLOAT} AS DOUBLE)", "greatest({DOUBLE}, {N})", "least({DOUBLE}, {F})", "coalesce({DOUBLE}, {N})", "nanvl({DOUBLE}, {DOUBLE})", "if({BOOL}, {DOUBLE}, {N})", "signum({N})", "rint({DOUBLE})",
               "pmod({DOUBLE}, {F})", "degrees({DOUBLE})", "hypot({DOUBLE}, {INT})", "CAST({BOOL} AS DOUBLE)", "{STR} + {DOUBLE}", "{I} / {I}", "nullif({DOUBLE}, {N})", "CAST({TS} AS DOUBLE)"],
    "FLOAT": ["CAST({N} AS FLOAT)", "{FLOAT} + {FLOAT}", "{FLOAT} * {TINY}", "-{FLOAT}", "abs({FLOAT})", "{FLOAT} % {FLOAT}", "coalesce({FLOAT}, {FLOAT})", "greatest({FLOAT}, {FLOAT})", "TRY_CAST({STR} AS FLOAT)"],
    "DEC": ["{DEC} + {D}", "{DEC} - {D}", "{DEC} * {D}", "{DEC} / {D}", "{DEC} % {D}", "-{DEC}", "abs({DEC})", "round({DEC}, 1)", "round({DEC})", "ceil({DEC}, 1)", "floor({DEC}, 1)", "bround({DEC}, 2)", "CAST({I} AS DECIMAL(12,2))",
            "CAST({F} AS DECIMAL(10,3))", "TRY_CAST({STR} AS DECIMAL(10,2))", "TRY_CAST({DEC} AS DECIMAL(6,1))", "coalesce({DEC}, {D})", "greatest({DEC}, {D})", "if({BOOL}, {DEC}, {D})", "try_divide({DEC}, {D})", "try_add({DEC}, {DEC})", "nullif({DEC}, {D})", "pmod({DEC}, {D})", "sign({DEC})"],
    "BOOL": ["{N} = {N}", "{N} < {N}", "{N} <= {N}", "{N} <> {N}", "{N} <=> {N}", "{N} > {STR}", "{STR} = {STR}", "{STR} < {STR}", "{STR} = {N}", "{TS} < {TS}", "{DATE} >= {TS}", "{DATE} = {STR}", "{BOOL} AND {BOOL}", "{BOOL} OR {BOOL}", "NOT {BOOL}",
             "{BOOL} <=> {BOOL}", "{N} IS NULL", "{STR} IS NOT NULL", "{BOOL} IS TRUE", "{BOOL} IS NOT FALSE", "{N} IN ({N}, {N})", "{STR} IN ({STR}, 'a')", "{N} NOT IN ({N}, {N})", "{N} BETWEEN {N} AND {N}", "{DATE} NOT BETWEEN {DATE} AND {DATE}",
             "{STR} LIKE {STR}", "{STR} LIKE '%l%'", "{STR} ILIKE 'h%'", "{STR} RLIKE '[a-z]+'", "contains({STR}, {STR})", "startswith({STR}, {STR})", "endswith({STR}, {STR})", "isnan({F})", "array_contains({INTS}, {INT})", "arrays_overlap({INTS}, {INTS})",
             "exists({INTS}, v -> v > 1)", "forall({STRS}, v -> v <> '')", "{N} IS DISTINCT FROM {N}", "{INTS} = {INTS}", "{STRS} < {STRS}", "equal_null({N}, {N})", "CAST({I} AS BOOLEAN)", "TRY_CAST({STR} AS BOOLEAN)", "CAST({DOUBLE} AS BOOLEAN)", "struct({N}, {STR}) = struct({N}, {STR})", "if({BOOL}, {BOOL}, {BOOL})", "coalesce({BOOL}, {BOOL})"],
    "STR": ["{STR} || {STR}", "concat({STR}, {N})", "concat({STR}, {DATE})", "concat_ws('-', {STR}, {STRS})", "upper({STR})", "lower({STR})", "trim({STR})", "ltrim({STR})", "rtrim('o', {STR})", "initcap({STR})", "reverse({STR})", "substring({STR}, {INT})", "substring({STR}, {INT}, {INT})",
            "left({STR}, {INT})", "right({STR}, {INT})", "lpad({STR}, 5, {STR})", "rpad({STR}, {TINY}, '*')", "repeat({STR}, 2)", "replace({STR}, {STR}, {STR})", "translate({STR}, {STR}, {STR})", "split_part({STR}, ',', 2)", "substring_index({STR}, {STR}, {INT})", "regexp_replace({STR}, '[0-9]+', '#')",
            "regexp_extract({STR}, '([a-z])(.)', 2)", "regexp_substr({STR}, '[a-z]+')", "CAST({N} AS STRING)", "CAST({TS} AS STRING)", "CAST({DATE} AS STRING)", "CAST({BOOL} AS STRING)", "CAST({INTS} AS STRING)", "md5({STR})", "sha2({STR}, 256)", "hex({STR})", "hex({I})", "base64({STR})", "soundex({STR})", "date_format({TS}, 'yyyy-MM-dd HH:mm')", "date_format({DATE}, 'E d MMM')",
            "array_join({STRS}, '/')", "array_join({STRS}, '/', '?')", "element_at({STRS}, 1)", "get({STRS}, {INT})", "coalesce({STR}, {STR})", "if({BOOL}, {STR}, {STR})", "nullif({STR}, {STR})", "greatest({STR}, {STR})", "CASE WHEN {BOOL} THEN {STR} WHEN {BOOL} THEN {STR} ELSE {STR} END", "format_number({DOUBLE}, 2)", "overlay({STR}, '#', 2)",
            "to_json(struct({N} AS a, {STR} AS b))", "to_json({INTS})", "conv({STR}, 10, 16)", "bin({BIG})", "mask({STR})", "url_encode({STR})", "char({INT})", "dayname({DATE})", "typeof({N} + {N})", "typeof(coalesce({N}, {N}))", "trim(BOTH 'a' FROM {STR})", "array_max({STRS})", "get_json_object('{{\"a\":[1,{{\"b\":2}}]}}', {STR})", "elt({INT}, {STR}, {STR})", "nvl({STR}, {N})"],
    "TS": ["{TS} + INTERVAL 1 DAY", "{TS} - INTERVAL 90 MINUTES", "{DATE} + INTERVAL 3 HOURS", "date_trunc('HOUR', {TS})", "date_trunc('MONTH', {TS})", "date_trunc('WEEK', {TS})", "timestampadd(MONTH, 1, {TS})", "timestampadd(MINUTE, {TINY}, {TS})", "CAST({DATE} AS TIMESTAMP)", "coalesce({TS}, {DATE})", "greatest({TS}, {TS})", "if({BOOL}, {TS}, {DATE})",
           "to_timestamp({STR})", "try_to_timestamp({STR})", "TRY_CAST({STR} AS TIMESTAMP)", "timestamp_seconds({INT})", "timestamp_millis({INT})", "from_utc_timestamp({TS}, 'Europe/Berlin')", "to_utc_timestamp({TS}, 'America/New_York')", "make_timestamp(2024, {TINY}, 3, 4, 5, 6.5)", "{TS} + make_dt_interval(0, {TINY}, 0, 0)", "TRY_CAST({DOUBLE} AS TIMESTAMP)", "{TS} - INTERVAL '1-2' YEAR TO MONTH"],
    "DATE": ["date_add({DATE}, {TINY})", "date_sub({DATE}, 3)", "add_months({DATE}, {TINY})", "last_day({DATE})", "next_day({DATE}, 'MON')", "trunc({DATE}, 'MM')", "trunc({DATE}, 'YEAR')", "make_date(2024, {TINY}, {TINY})", "to_date({STR})", "TRY_CAST({STR} AS DATE)", "CAST({TS} AS DATE)", "{DATE} + INTERVAL 1 MONTH", "{DATE} + 1", "{DATE} - {TINY}", "coalesce({DATE}, {DATE})",
             "least({DATE}, {DATE})", "if({BOOL}, {DATE}, {DATE})", "nullif({DATE}, {DATE})", "date_from_unix_date({INT})", "{DATE} - INTERVAL 2 WEEKS"],
    "INTS": ["array({INT}, {INT})", "array({INT}, {TINY}, NULL)", "array_distinct({INTS})", "array_sort({INTS})", "sort_array({INTS}, false)", "array_union({INTS}, {INTS})", "array_intersect({INTS}, {INTS})", "array_except({INTS}, {INTS})", "array_append({INTS}, {INT})", "array_remove({INTS}, {INT})", "filter({INTS}, v -> v % 2 = 0)",
             "transform({INTS}, v -> v + 1)", "transform({INTS}, (v, k) -> v * k)", "slice({INTS}, 1, 2)", "reverse({INTS})", "array_repeat({INT}, 2)", "concat({INTS}, {INTS})", "flatten(array({INTS}, {INTS}))", "array_compact({INTS})", "array_insert({INTS}, 1, {INT})", "zip_with({INTS}, {INTS}, (p, r) -> p + r)", "array_prepend({INTS}, {INT})", "map_values(map('a', {INT}, 'b', {INT}))", "if({BOOL}, {INTS}, {INTS})", "coalesce({INTS}, {INTS})"],
    "STRS": ["split({STR}, ',')", "split({STR}, '[0-9]')", "array({STR}, {STR})", "array_sort({STRS})", "array_distinct({STRS})", "transform({STRS}, v -> upper(v))", "filter({STRS}, v -> v IS NOT NULL)", "concat({STRS}, {STRS})", "array_union({STRS}, {STRS})", "reverse({STRS})", "regexp_extract_all({STR}, '([a-z])')", "slice({STRS}, 1, 1)", "array_remove({STRS}, {STR})"],
}
# What may be NULL for rows without NULL.
NULLS = ["NULL", "TRY_CAST", "try_", "nullif", "nullifzero", "get(", "array_position(", "factorial(", "elt(", "array_max(", "array_min(", "next_day("]
GROUPS = {"N": NUMBERS, "I": INTS, "F": FLOATS, "D": INTS + DECIMALS}


def expression(rng: random.Random, of: str, depth: int) -> str:
    of = rng.choice(GROUPS[of]) if of in GROUPS else of
    if depth == 0 or rng.random() < 0.2:
        return rng.choice(LEAVES[of])
    form = rng.choice(FORMS[of])
    out, rest = [], form
    while "{" in rest:
        if rest.startswith("{{") or ("{{" in rest and rest.index("{{") == rest.index("{")):
            before, rest = rest.split("{{", 1)
            out += [before, "{"]
            continue
        before, rest = rest.split("{", 1)
        name, rest = rest.split("}", 1)
        inner = expression(rng, name, depth - 1)
        call = inner.endswith(")") and "(" in inner and inner.split("(", 1)[0].replace("_", "").isalnum()
        plain = call or inner.replace("_", "").replace(".", "").isalnum()
        out += [before, inner if plain else f"({inner})"]
    return "".join([*out, rest]).replace("}}", "}")


def expressions(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    out: dict[str, None] = {}
    while len(out) < count:
        out[expression(rng, rng.choice([*FORMS]), rng.choice([1, 2, 2, 3]))] = None
    return [*out]


def record(texts: list[str], out: pathlib.Path) -> None:
    """Appends an answer for each text, a line each."""
    # Imported here: it sets the time zone of the process.
    import record_spark_answers as base

    base.TABLES.clear()
    base.TABLES.update(TABLE)
    frames = base.frames(base.session())
    with out.open("a") as file:
        for text in texts:
            answer = base.record_scalar(frames, "mixed", text)
            # These differ in the last digit.
            if any(t in text for t in [*base.TOLERANT, "sqrt", "degrees"]):
                answer["tolerance"] = 1e-12
            file.write(json.dumps(answer, ensure_ascii=False, separators=(",", ":")) + "\n")
            file.flush()


def recorded(texts: list[str], lines: pathlib.Path) -> None:
    """Records all texts. After a process that dies, a new one starts without the text that killed it: some texts kill Spark's JVM."""
    lines.write_text("")
    while True:
        done = len(lines.read_text().splitlines())
        if done >= len(texts):
            return
        worker = subprocess.run([sys.executable, __file__, "--worker", str(lines)], input=json.dumps(texts[done:]), text=True, check=False)
        # An answer after the end of the JVM does not count.
        good = [line for line in lines.read_text().splitlines() if "ConnectionRefusedError" not in line and "Py4JNetworkError" not in line]
        if worker.returncode != 0 or len(good) < len(texts):
            good.append(json.dumps({"table": "mixed", "sql": texts[len(good)], "crashed": True}))
        lines.write_text("".join(line + "\n" for line in good))


def rows_of_one() -> list[Any]:
    """The table, a row at a time."""
    import bayou

    columns, rows = TABLE["mixed"]
    texts = [json.dumps({c: v for c, v in zip(columns, row, strict=True) if v is not None}) for row in rows]
    raw = bayou.from_messages(texts, schema=", ".join(f"{c} STRING" for c in columns))
    whole = raw.select(*(f"CAST({c} AS {t}) AS {c}" for c, t in columns.items())).collect().to_arrow()
    return [whole.slice(k, 1) for k in range(len(rows))]


def shown(value: Any) -> Any:
    """A value of ours as it is recorded."""
    if isinstance(value, list):
        return {"list": [shown(v) for v in value]}
    if isinstance(value, float):
        return {"float": repr(value)}
    if isinstance(value, decimal.Decimal):
        return {"decimal": format(value, "f")}
    if isinstance(value, datetime.datetime):
        since = value - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
        return {"micros": since // datetime.timedelta(microseconds=1)}
    if isinstance(value, datetime.date):
        return {"days": (value - datetime.date(1970, 1, 1)).days}
    return value


def same(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        if "float" in a and "float" in b:
            x, y = float(a["float"]), float(b["float"])
            return str(x) == str(y) or (tolerance > 0 and abs(x - y) <= tolerance * abs(y))
        if "list" in a and "list" in b:
            return len(a["list"]) == len(b["list"]) and all(same(x, y, tolerance) for x, y in zip(a["list"], b["list"], strict=True))
        if "decimal" in a and "decimal" in b:
            return decimal.Decimal(a["decimal"]) == decimal.Decimal(b["decimal"])
    return bool(a == b)


def type_name(t: Any) -> str:
    import pyarrow.types as p

    names = {"int8": "tinyint", "int16": "smallint", "int32": "int", "int64": "bigint", "bool": "boolean", "date32[day]": "date", "null": "void"}
    if p.is_list(t):
        return f"array<{type_name(t.value_type)}>"
    if p.is_decimal(t):
        return f"decimal({t.precision},{t.scale})"
    return "timestamp" if p.is_timestamp(t) else names.get(str(t), str(t))


def problem(answer: dict[str, Any], rows: list[Any]) -> str | None:
    """How our answer differs from Spark's."""
    import bayou

    text, found = answer["sql"], []
    try:
        streams = [bayou.from_batches(row).select(text) for row in rows]
    except bayou.BayouError as e:
        return None if "refused" in answer else f"refused: {str(e)[:200]}"
    if "refused" in answer:
        return f"bound, Spark refuses: {answer['refused']}"
    columns, wanted = TABLE["mixed"][0], answer["values"]
    words = set(re.findall(r"[a-z]+", text))
    for k, stream in enumerate(streams):
        try:
            [column] = stream.collect().to_arrow().columns
        except bayou.BayouError as e:
            if "error" not in (wanted[k] if isinstance(wanted[k], dict) else {}):
                # Where one side is NULL, Spark may not compute the other one.
                null = any(c in words and TABLE["mixed"][1][k][i] is None for i, c in enumerate(columns))
                null |= any(maker in text for maker in NULLS)
                if not (wanted[k] is None and null):
                    found.append(f"row {k}: fails ({str(e)[:150]}), Spark {wanted[k]}")
            continue
        if k == 0 and type_name(column.type) != answer["type"]:
            found.append(f"type {type_name(column.type)}, Spark {answer['type']}")
        try:
            ours = shown(column[0].as_py())
        except (OverflowError, ValueError):
            # Python has no such date.
            continue
        if isinstance(wanted[k], dict) and "error" in wanted[k]:
            # Python has no such date, or Spark itself broke.
            if wanted[k]["error"] not in ("ValueError", "TypeError", "OverflowError", "Py4JJavaError"):
                found.append(f"row {k}: {ours}, Spark fails with {wanted[k]['error']}")
        elif not same(ours, wanted[k], answer.get("tolerance", 0)):
            found.append(f"row {k}: {ours}, Spark {wanted[k]}")
    return "; ".join(found) or None


def compare(answers: list[dict[str, Any]]) -> list[str]:
    rows = rows_of_one()
    problems = ((a["sql"], problem(a, rows)) for a in answers if "crashed" not in a)
    return [f"{sql}: {p}" for sql, p in problems if p and sql not in DIFFERENT]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--out", type=pathlib.Path, default=SLICE, help="the answers, a line each")
    parser.add_argument("--compare", action="store_true", help="compare the answers in --out with those of bayou")
    parser.add_argument("--worker", type=pathlib.Path)
    args = parser.parse_args()
    if args.worker:
        record(json.loads(sys.stdin.read()), args.worker)
    elif args.compare:
        answers = [json.loads(line) for line in args.out.read_text().splitlines()]
        wrong = compare(answers)
        print("\n".join(wrong))
        print(f"{len(wrong)} of {len(answers)} differ")
        sys.exit(bool(wrong))
    else:
        recorded(expressions(args.seed, args.count), args.out)


if __name__ == "__main__":
    main()
