"""Records what a real Spark 4.0.0 answers, as the tests of bayou's SQL: `spark_answers.json` next to this file.

    python -m venv /tmp/spark && /tmp/spark/bin/pip install pyspark==4.0.0
    /tmp/spark/bin/python tests/python/record_spark_answers.py        # Java 17, a few minutes

ANSI mode is on and the session's time zone is UTC. Rows for which an expression fails are found one by one.
"""

import datetime
import decimal
import json
import logging
import os
import pathlib
import time

os.environ["TZ"] = "UTC"
time.tzset()

# name -> ({column: type}, rows of strings); a string is cast to its column's type.
TABLES = {
    "nums": (
        dict(i="INT", j="INT", l="BIGINT", s="SMALLINT", y="TINYINT", d="DOUBLE", e="DOUBLE", f="FLOAT",
             x="DECIMAL(10,2)", z="DECIMAL(20,5)", w="DECIMAL(38,10)", b="BOOLEAN", c="BOOLEAN"),
        [
            ["5", "2", "7", "3", "1", "2.5", "0.5", "1.5", "12.34", "1.00001", "3.3333333333", "true", "true"],
            ["-7", "2", "-9", "-3", "-1", "-2.5", "-1.0", "-1.5", "-12.35", "-2.50000", "-1.5", "false", "true"],
            ["0", "0", "0", "0", "0", "0.0", "0.0", "0.0", "0.00", "0.00000", "0", "true", "false"],
            ["2147483647", "1", "9223372036854775807", "32767", "127", "1e300", "1e10", "3.4e38", "99999999.99",
             "999999999999999.99999", "9999999999999999999999999999.9999999999", "false", "false"],
            ["-2147483648", "-1", "-9223372036854775808", "-32768", "-128", "NaN", "NaN", "NaN", "-99999999.99",
             "0.00001", "0.0000000001", None, "true"],
            [None, None, None, None, None, None, None, None, None, None, None, None, None],
            ["3", "0", "4", "5", "2", "Infinity", "-0.0", "0.1", "2.50", "123.45678", "7.7", "true", None],
            ["100", "7", "123456789012", "200", "64", "0.1", "0.2", "2.675", "0.05", "0.5", "-0.5", "false", None],
            ["17", "-5", "-1", "-200", "-64", "3.5", "-2.0", "-0.0", "1.00", "-0.5", "1000000", None, None],
        ],
    ),
    "text": (
        dict(s="STRING", t="STRING", n="INT", m="INT"),
        [
            ["Hello World", "o", "1", "3"],
            ["  padded\t", " ", "-3", "2"],
            ["", "", "0", "0"],
            ["ÄÖü ß straße", "ß", "2", "100"],
            ["a,b,,c,", ",", "3", "-1"],
            [None, "x", "1", "1"],
            ["abc", None, "5", "2"],
            ["100%_sure", "0%", None, "4"],
            ["aaa", "aa", "-2", "-2"],
            ["日本語テキスト", "語", "4", "6"],
            ["x1y22z333", "[0-9]+", "2", "1"],
            ["O'Neil \"q\" \\ back", "\\", "7", "2"],
        ],
    ),
    "time": (
        dict(ts="TIMESTAMP", us="TIMESTAMP", dt="DATE", du="DATE", n="INT", u="STRING"),
        [
            ["2024-02-29 12:34:56.789012", "2024-01-31 00:00:00", "2024-02-29", "2023-02-28", "1", "MONTH"],
            ["1970-01-01 00:00:00", "1969-12-31 23:59:59.999999", "1970-01-01", "1969-12-31", "-1", "YEAR"],
            ["1950-06-15 03:04:05.000001", "2000-02-29 13:00:00", "1950-06-15", "2000-02-29", "12", "WEEK"],
            ["2023-12-31 23:59:59.999999", "2024-01-01 00:00:00", "2023-12-31", "2024-01-01", "13", "QUARTER"],
            [None, None, None, None, None, None],
            ["2021-01-03 12:00:00", "2021-03-31 11:59:59", "2021-01-03", "2021-03-31", "-14", "DAY"],
            ["1582-10-20 10:00:00", "9999-12-31 23:59:59", "1582-10-20", "9999-12-31", "0", "HOUR"],
            ["2024-03-31 02:30:00", "2024-10-27 01:30:00", "2024-03-30", "2024-10-27", "366", "nonsense"],
        ],
    ),
    "casts": (
        dict(s="STRING"),
        [[v] for v in [
            "1", " 42 ", "-7", "+3", "1.5", "-0", "300", "40000", "3000000000", "99999999999999999999", "abc", "", " ", "1e3", "1E-2", ".5", "5.",
            "NaN", "inf", "-Infinity", "infinity", "1d", "1.0f", "0x10", "true", "FALSE", "t", "yes", "N", "on", "1_000",
            "12345678901234567890.123456789", "0.005", "-0.005", "2024", "2024-1", "2024-02-30", "2024-2-3", "2024-02-29",
            "2024-02-29T", "2024-02-29 x", "2024-02-29T12:34", "2024-02-29 12:34:56", "2024-02-29T12:34:56.1Z",
            "2024-02-29 12:34:56.123456789", "2024-02-29 12:34:56+02:00", "2024-02-29 12:34:56 Europe/Berlin",
            "2024-02-29T12:34:56-0800", "2024-02-29 25:00:00", "2024-02-29 12:60:00", "2024-02-29 1:2:3",
            "2024-02-29 12:34:56.", "0000-01-01", "-0001-01-01", "20240229", "2024/02/29", "2024-02-29 12:34:56 UTC", "2024-02-29 12:34:56GMT+1",
            "2024-02-29 12", "2024-03-31 02:30:00 Europe/Berlin", "epoch", "now", "1 2", None,
        ]],
    ),
    "json": (
        dict(j="STRING", f="STRING", n="INT"),
        [
            ['{"a":1,"b":"x","c":[1,2,3],"d":{"e":{"f":[{"g":1},{"g":2}]}},"n":null}', "a", "0"],
            ['{ "a" : 1.50 , "b" : "q\\"\\u00e9\\n/", "c" : [ ], "d" : { } }', "b", "1"],
            ['{"a":-0,"b":1e3,"c":[null,{"x":[1,[2,3]]},"s"],"d":{"e":null},"a":"again"}', "c", "2"],
            ['[{"a":1},{"a":2,"b":[3]},{"b":null},5,"t",[6,7]]', "d", "3"],
            ["[]", "", "-1"],
            ["{}", "a", "0"],
            ["null", "a", "0"],
            ["5", "a", "0"],
            ['"text"', "a", "0"],
            ["", "a", "0"],
            ["  ", "a", "0"],
            ["not json", "a", "0"],
            ['{"a":1', "a", "0"],
            ['{"a":1} trailing', "a", "0"],
            ['{"a":{"b":1}, "b" broken}', "a", "0"],
            ["{'a':'single','b':1}", "a", "0"],
            ['{"a":123456789012345678901234567890,"b":12345678901234567890.123456789,"c":true,"d":false}', "c", "0"],
            ['{"a b":1,"a.b":2,"A":3,"":4,"é":5,"b":[[1,2],[3,[4]]]}', "a b", "0"],
            ['{"a":[{"b":[1,2]},{"b":[3]},{"c":4}],"b":[{"a":"x"},{"a":"y"}],"c":[[{"d":1}],[{"d":2},{"d":3}]]}', None, None],
            [None, "a", "0"],
        ],
    ),
}
NESTED = (
    "a ARRAY<INT>, t ARRAY<STRING>, m MAP<STRING, INT>, st STRUCT<x: INT, Y: STRING, deep: STRUCT<z: DOUBLE>>, k STRING, i INT, "
    "ss ARRAY<STRUCT<x: INT, y: STRING>>, nn ARRAY<ARRAY<INT>>, mm MAP<STRING, ARRAY<STRUCT<v: INT>>>",
    [
        {"a": [1, 2, 3], "t": ["x", "y"], "m": {"p": 1, "q": 2}, "st": {"x": 1, "Y": "one", "deep": {"z": 1.5}}, "k": "p", "i": 1,
         "ss": [{"x": 1, "y": "a"}, {"x": 2, "y": None}], "nn": [[1, 2], [], [3]], "mm": {"p": [{"v": 1}, {"v": 2}], "q": []}},
        {"a": [], "t": [], "m": {}, "st": {"x": None, "Y": None, "deep": None}, "k": "p", "i": 0,
         "ss": [], "nn": [], "mm": {}},
        {"a": None, "t": None, "m": None, "st": None, "k": None, "i": None,
         "ss": None, "nn": None, "mm": None},
        {"a": [5, None], "t": [None, "z"], "m": {"p": None}, "st": {"x": 7, "Y": "seven", "deep": {"z": None}}, "k": "q", "i": -1,
         "ss": [None, {"x": None, "y": "b"}], "nn": [None, [None, 4]], "mm": {"p": None}},
        {"a": [9], "t": ["only"], "m": {"z": 26}, "st": {"x": 9, "Y": "", "deep": {"z": -2.0}}, "k": "z", "i": 5,
         "ss": [{"x": 9, "y": "z"}], "nn": [[5]], "mm": {"z": [None]}},
    ],
)

NUMS = """
i + j | i - j | i * j | i / j | i % j | i div j | l + 1 | l - 1 | l * 2 | l div j | y + y | s + s | y * y | s - 1S | y + 1Y | -i | -l | -y | +i | - d | ~i
5/2 | 5 div 2 | -5 div 2 | -5 % 3 | 5 % -3 | 1/0 | 1 % 0 | 2147483647 + 1 | 9223372036854775807L + 1 | 1e308 * 10 | 0.1 + 0.2 | 1.10 + 2.205 | 10 / 4.0 | 3 * 1.5 | 1.0 / 3 | 5.0 div 2
i + l | i + y | i + d | i + f | f + f | d + f | l + d | d / e | d % e | f / 2 | f * f | d * e | d - e | i / 2 | l / 2 | i % 3 | l % 3 | y % 2Y | d % 2
x + z | x - z | x * z | x / z | x % z | z / x | w + w | w * w | w / x | x + 1 | x * 2 | x / 3 | i + x | l * x | i * x | x + d | x / 2.5 | w + 0.00001 | w * 1.5 | x div z | w - z | z % 3 | -x | -w | x * i | l + x | l / x | w / w
i + '1' | '5' * 2 | '1.5' + 1 | '1.5' + 1.5 | '2' / '4' | i + NULL | NULL + NULL | d + '0.5'
i & j | i | j | i ^ j | l & 255 | i << 2 | i >> 1 | i >>> 1 | l << 3 | l >>> 60 | y & 15Y | shiftleft(i, 33) | shiftright(l, 2) | shiftrightunsigned(i, 4) | bit_count(i) | bit_count(l) | bit_count(y)
i = j | i <> j | i < j | i <= j | i > j | i >= j | i <=> j | d = e | d < e | d > e | d >= e | d <= e | d <> e | d <=> e | f = f | d = 'NaN' | d > 1e300 | d >= double('NaN') | f < 'NaN' | e = 0.0 | e >= 0.0 | e < 0
i = 5.0 | i = '5' | x = 12.34 | x > z | x = z | d > x | l = i | i != j | i == j | b = true | b = c | b < c | b <=> c | i = 2147483648 | f = 0.1 | f = 1.5 | x < 2 | x >= '1.5' | NOT i > 3 | ! b
b AND c | b OR c | NOT b | b AND NULL | b OR NULL | b IS TRUE | b IS FALSE | b IS NOT TRUE | b IS NOT FALSE | b IS NULL | b IS NOT NULL | b IS UNKNOWN | i IS DISTINCT FROM j | i IS NOT DISTINCT FROM j
j <> 0 AND i / j > 1 | j = 0 OR i / j > 1 | CASE WHEN j <> 0 THEN i / j END | CASE WHEN j <> 0 THEN i / j ELSE -1 END | if(j = 0, 0, i % j) | coalesce(try_divide(i, j), i / 2) | coalesce(i, 1 / 0)
i IN (5, 0, 17) | i NOT IN (5, 0) | i IN (5, NULL) | i NOT IN (5, NULL) | d IN (2.5, 0.0) | d IN (double('NaN')) | e IN (0.0) | i IN (j, 5) | i IN ('5', '0') | i IN (5L, 6) | x IN (12.34, 0) | i BETWEEN j AND 10 | i NOT BETWEEN 0 AND 10 | d BETWEEN 0 AND 3 | i BETWEEN '1' AND '9'
CASE i WHEN 5 THEN 'five' WHEN 0 THEN 'zero' ELSE 'other' END | CASE WHEN i > 0 THEN 1 WHEN i < 0 THEN 2.5 END | CASE WHEN b THEN i ELSE l END | CASE WHEN b THEN i ELSE d END | CASE WHEN b THEN '1' ELSE 2 END | CASE WHEN b THEN x ELSE z END | CASE WHEN b THEN NULL ELSE NULL END
if(b, i, j) | coalesce(i, j, 0) | coalesce(i, l) | coalesce(d, 0) | coalesce(NULL, i) | coalesce(x, 0) | nvl(i, -1) | ifnull(i, 2.5) | nvl2(i, 'set', 'unset') | nullif(i, 5) | nullif(d, 0) | nullifzero(i) | zeroifnull(i) | isnull(i) | isnotnull(i) | equal_null(i, j) | equal_null(d, e)
abs(i) | abs(l) | abs(d) | abs(x) | abs(y) | abs(f) | negative(i) | negative(d) | positive(i) | sign(i) | sign(d) | signum(x) | sign(f) | mod(i, j) | pmod(i, j) | pmod(l, 5) | pmod(d, e) | pmod(-7, 3) | pmod(7, -3) | pmod(-7, -3) | pmod(y, 7Y)
ceil(d) | ceil(i) | ceil(x) | ceil(f) | ceiling(d) | ceil(w) | ceil(z) | floor(d) | floor(x) | floor(l) | floor(z) | floor(f) | ceil(-0.5) | floor(-0.5) | ceil(2.0)
round(d) | round(d, 1) | round(2.5) | round(-2.5) | round(3.5) | round(2.675, 2) | round(double(2.675), 2) | round(double(0.285), 2) | round(double(1.005), 2) | round(x, 1) | round(x) | round(x, -1) | round(x, 5) | round(i, -1) | round(l, -2) | round(i) | round(f, 2) | round(f) | round(z, 3) | round(w, 2) | round(e, 3) | round(y, -1) | round(d, -1) | round(double(123456789.987654321), 4) | round(double(5e-324), 2) | round(double(-0.04), 1)
bround(d) | bround(2.5) | bround(3.5) | bround(double(2.5)) | bround(double(-0.5)) | bround(x, 1) | bround(i, -1) | bround(double(2.675), 2) | bround(double(0.125), 2) | rint(d) | rint(e) | rint(double(2.5))
sqrt(d) | sqrt(i) | cbrt(d) | cbrt(-8) | exp(e) | exp(1) | expm1(e) | ln(d) | ln(i) | ln(0) | log(d) | log(2, 8) | log(10, d) | log(0, 5) | log(1, 5) | log2(d) | log2(8) | log10(d) | log10(1000) | log1p(e) | log1p(-1) | pow(d, 2) | power(i, j) | pow(2, 10) | pow(0, 0) | pow(-8, 1.0/3) | pow(1, double('NaN')) | pow(double('NaN'), 0)
sin(e) | cos(e) | tan(e) | asin(e) | acos(e) | atan(e) | sinh(e) | cosh(e) | tanh(e) | atan2(e, d) | atan2(0, -1) | hypot(3, 4) | hypot(d, e) | degrees(e) | radians(d) | e() | pi()
greatest(i, j) | greatest(i, l, 3) | least(i, j) | greatest(d, e) | least(d, e) | greatest(i, NULL) | greatest(x, z) | least(x, 1) | greatest(i, d) | least('a', 'B') | greatest(f, d) | abs(w) | sqrt(4) | (i + j) * 2 - l / 4 | i > 3 AND NOT b OR c | CAST(i AS STRING) || 'x' | upper(string(i)) | -(-i) | i * 1.0 | x + 0.5 + i | CASE WHEN i IS NULL THEN 'none' WHEN i IN (1, 5) THEN 'some' END | CASE l WHEN 7 THEN i END | round(i / j, 2) | if(i > 0 AND d > 0, d, e) | coalesce(nullif(i, 0), j) | i = 5 OR 1 / 0 = 1 | false AND 1 / 0 = 1
factorial(i) | factorial(5) | factorial(20) | factorial(21) | factorial(-1) | isnan(d) | isnan(f) | isnan(i) | nanvl(d, 1) | nanvl(d, e) | nanvl(f, 2) | bin(i) | bin(l) | hex(i) | hex(l) | hex(y)
try_add(i, 1) | try_add(i, j) | try_subtract(i, 1) | try_multiply(i, 2) | try_multiply(l, 2) | try_divide(i, j) | try_divide(d, e) | try_mod(i, j) | try_add(x, 1) | try_divide(x, 0) | try_add(d, 1) | try_divide(1, 0) | try_divide(x, z)
CAST(i AS BIGINT) | CAST(i AS TINYINT) | CAST(i AS SMALLINT) | CAST(l AS INT) | CAST(l AS DOUBLE) | CAST(i AS FLOAT) | CAST(d AS INT) | CAST(d AS BIGINT) | CAST(d AS TINYINT) | CAST(f AS INT) | CAST(f AS BIGINT) | CAST(d AS FLOAT) | CAST(f AS DOUBLE) | CAST(d AS DECIMAL(10,2)) | CAST(f AS DECIMAL(10,3)) | CAST(d AS STRING) | CAST(f AS STRING) | CAST(i AS STRING) | CAST(x AS STRING) | CAST(w AS STRING) | CAST(z AS STRING) | CAST(b AS STRING)
CAST(x AS INT) | CAST(x AS BIGINT) | CAST(x AS TINYINT) | CAST(x AS DOUBLE) | CAST(z AS FLOAT) | CAST(x AS DECIMAL(10,1)) | CAST(x AS DECIMAL(4,1)) | CAST(w AS DECIMAL(10,2)) | CAST(z AS INT) | CAST(i AS DECIMAL(10,2)) | CAST(i AS DECIMAL(5,2)) | CAST(l AS DECIMAL(38,2)) | CAST(b AS INT) | CAST(b AS DOUBLE) | CAST(b AS DECIMAL(5,2)) | CAST(i AS BOOLEAN) | CAST(d AS BOOLEAN) | CAST(x AS BOOLEAN) | CAST(i AS TIMESTAMP) | CAST(x AS STRING) | TRY_CAST(l AS INT) | TRY_CAST(d AS INT) | TRY_CAST(x AS TINYINT) | TRY_CAST(d AS DECIMAL(5,2)) | i::STRING | i::BIGINT | int(d) | bigint(x) | string(i) | double(x) | float(i) | boolean(i) | smallint(l) | tinyint(i) | CAST(NULL AS INT) | CAST(i AS INT)
CAST(double(1e7) AS STRING) | CAST(double(12345678.9) AS STRING) | CAST(double(0.001) AS STRING) | CAST(double(0.0001) AS STRING) | CAST(double(1e-10) AS STRING) | CAST(double(123456.789) AS STRING) | CAST(float(1e10) AS STRING) | CAST(double(9999999.999) AS STRING) | CAST(1e21 AS STRING) | CAST(1.50 AS STRING) | CAST(0.000000001 AS STRING)
1 | 1L | 1S | 1Y | 1.5 | 1.5D | 1.5F | 1.50BD | 1e3 | -1 | -1.5 | 0.0 | 100000000000 | 99999999999999999999 | 'it''s' | "double" | 'a' 'b' | NULL | TRUE | X'1f' | 'tab\\there' | r'raw\\n' | 'uni\\u00e9' | 2147483648 | -2147483648 | 1.0e2 | .5
1 + 2 * 3 | (1 + 2) * 3 | 10 - 4 - 3 | 2 + 3 || 'x' | NOT TRUE AND FALSE | TRUE OR FALSE AND FALSE | 1 + 1 = 2 | 5 & 3 | 4 ^ 1 | 1 << 2 + 1 | -2 * -3 | 1 = 1 = TRUE | NOT 1 = 2 | 7 - -2 | 6 & 3 = 2 | 10 % 4 * 2 | 10 div 3 * 2
i + y * 2L | l % 7 | -l % 3 | x - 100 | x * x * x | w * z | z * z | (x + z) / w | x / 0 | w / 0.0000000001 | z div 0.5 | x % 0.7 | 1.5 % 0.4 | -1.5 % 0.4 | 7.5 div 2 | 0.1 * 3 | 1 / 3.0 | 1.23456789012345678901234567890 * 9.87654321 | 12345678901234567890 + 1 | 12345678901234567890 * 12345678901234567890
i > '3' | d > '1.5' | x = '12.34' | '10' < i | b = 'true' | i = 5.0D | f = 1.5D | f = d | l = d | 9223372036854775807L = d | y = 1 | s < l | x = 12.34D | NULL = 1 | NULL <=> NULL | i <=> NULL | NULL IS NULL | NULL AND false | NULL OR true | NOT NULL
i IN (1.5, 5) | x IN (1, 12.34) | i IN (5, '17') | d IN (1, 2.5) | NULL IN (1) | i IN (NULL) | b IN (true) | i BETWEEN NULL AND 10 | x BETWEEN 0 AND 12.5 | d BETWEEN -1 AND double('NaN') | 2 BETWEEN 1 AND 3 AND true
if(b, 1, 2.5) | if(b, i, NULL) | if(NULL, 1, 2) | if(b, x, d) | if(b, 'a', 1) | CASE WHEN b THEN true ELSE c END | nvl(x, 1.234) | coalesce(y, s, i) | coalesce(f, d) | coalesce(x, d) | coalesce(x, i) | nullif(x, 1) | nullif(1, 1) | nullif(i, '5') | nvl2(NULL, 1, 'x') | zeroifnull(d) | zeroifnull(x) | nullifzero(x) | greatest(1, 2.5) | greatest('1', 2) | least(x, z, w) | greatest(b, c)
round(-2.675, 2) | round(w) | round(l, -18) | round(9223372036854775807L, -1) | round(127Y, -1) | round(double(1e300), 2) | round(double(0.5)) | round(double(1.5)) | round(double(-1.5)) | round(double(2.5), 0) | round(float(0.45), 1) | ceil(z) + 1 | floor(-x) | ceil(l) | floor(double(1e19)) | ceil(NULL) | round(NULL) | abs(-5) | abs(NULL) | abs('-3') | sqrt('4') | pow('2', 3) | sign(-3) | sign('x') | pmod(10, 0) | pmod(-7L, 5) | mod(7.5, 2) | pmod(-7.5, 2.0)
CAST('12' AS INT) + i | CAST(d AS STRING) || 'x' | CAST(CAST(x AS DOUBLE) AS DECIMAL(12,4)) | CAST(1e20 AS DECIMAL(38,2)) | CAST(-0.5 AS INT) | CAST(2.9D AS INT) | CAST(-2.9D AS INT) | CAST(2147483647.9D AS INT) | CAST(9.3e18 AS BIGINT) | CAST(127.9F AS TINYINT) | CAST(TRUE AS STRING) | CAST(0.1F AS DOUBLE) | CAST(16777217 AS FLOAT) | CAST(0.1F AS DECIMAL(5,3)) | CAST(1.005 AS DECIMAL(5,2)) | CAST(-1.005 AS DECIMAL(5,2)) | CAST(999.995 AS DECIMAL(5,2)) | CAST('' AS INT) | CAST(123.456 AS STRING) | CAST(1234567890123456789 AS DOUBLE) | CAST(i AS BINARY) | CAST(b AS TIMESTAMP) | CAST(i AS DATE) | CAST(d AS TIMESTAMP) | CAST(x AS DATE)
NOT b = c | b = c AND i > 3 | - 2 + 3 | 2 * - 3 | - - 2 | ~ 5 & 3 | 1 + 1 || 2 | 'a' || 1 + 2 | true = 1 < 2 | 5 IN (1, 5) AND true | NOT 5 IN (1) | 1 IS NULL = false | i IS NOT NULL AND i > 3 OR b | 1 < 2 AND 3 > 2 = true | 10 / 2 / 5 | 10 - 2 * 3 % 4 | 1 | 2 ^ 3 & 4 | CASE WHEN i > 3 AND b OR c THEN 1 ELSE 0 END + 1
hypot(NULL, 1) | try_divide(l, 0) | try_divide(NULL, 1) | try_add(2147483647, 1) | try_add(1.5, 2) | try_multiply(x, w) | try_subtract(l, 1) | try_mod(x, 0) | bit_count(-1) | bit_count(b) | shiftleft(1L, 65) | i << NULL | 1Y + 127Y | 1S * 32767S | -(-128Y) | abs(-128Y) | - 9223372036854775808 | l * -1 | l div -1 | i % -1 | i div 0
x / (24 * 60) | x / CAST(1440 AS INT) | x + bigint(3) | x / abs(-3) | x / length('abc') | x * (60 * 60) | x + -(1) | x + -1 | x / 3L | x * if(true, 3, 4) | x / int('7') | x - 2Y | x * (1 + 2) | 2 * x | (2) * x | x % (1 + 1) | w / CAST(2 AS INT)
coalesce(w, CAST(i AS DECIMAL(38,0))) | greatest(w, CAST(1 AS DECIMAL(38,0))) | w = CAST(i AS DECIMAL(38,0)) | nullif(w, CAST(i AS DECIMAL(38,0))) | if(b, w, CAST(1 AS DECIMAL(38,0))) | w IN (CAST(5 AS DECIMAL(38,0))) | w BETWEEN 0 AND CAST(5 AS DECIMAL(38,0))
i < 1e400 | i < 1e-400 | d > 1e40F | d < 1e400D | f = 1e-50F | 1e38F | 1.7976931348623157e308
CAST(402491.125F AS STRING) | CAST(double(5e-324) AS STRING) | CAST(2.0E-3D AS STRING) | CAST(9.5E-44F AS STRING) | CAST(float(1.4E-45) AS STRING) | CAST(5.0E-324D AS STRING) | CAST(33554436F AS STRING)
CAST(1.00000017881393432617187499BD AS FLOAT) | CAST(CAST(1.00000017881393432617187499 AS DECIMAL(38,30)) AS FLOAT) | nanvl(f, f) | nanvl(f, d) | nanvl(f, CAST(1 AS FLOAT)) | nanvl(d, f) | nanvl(i, f) | nanvl(d, 1 / j)
greatest(i, j, y, s) | least(i, j, y, s) | greatest(i, NULL, j) | least(d, e, f) | greatest(x, z, w) | greatest(e, -0.0D) | least(e, 0.0D) | greatest(b, c, false)
(i BETWEEN 0 AND 9) BETWEEN false AND true | nullif(nullif(i + 1, 6), j) | CASE i + 1 WHEN 6 THEN 'six' WHEN 1 THEN 'one' ELSE 'no' END | CASE CASE i + 1 WHEN 6 THEN 1 ELSE 2 END WHEN 1 THEN 'a' WHEN 2 THEN 'b' END | i + 1 IN (j, 6, l) | d * 2 IN (5.0D, double('NaN')) | nullifzero(i + 7) | CASE i + 1 WHEN 6 THEN j WHEN 1 THEN 1 / j END | CASE WHEN i > 0 THEN CASE j + 1 WHEN 3 THEN i ELSE l END ELSE 0 END | nanvl(d + 1, e) | i + 1 BETWEEN j AND l
b AND c AND i > 0 AND j <> 0 AND i / j > 1 | j = 0 OR i / j > 1 OR b OR c | b OR c OR NULL | b AND NULL AND c
i + i + i + i + i + i | 1d | 1f | 7L | 3e5 | 3E5 | 1.5BD | 1e+5 | 1e-5D | 10s | 1y | .5e1
"""

TEXT = """
upper(s) | lower(s) | ucase(s) | lcase(s) | length(s) | len(s) | char_length(s) | character_length(s) | octet_length(s) | bit_length(s) | reverse(s) | initcap(s) | ascii(s) | ascii(t) | chr(n) | chr(65) | char(233) | chr(256) | chr(-1) | chr(1000)
trim(s) | ltrim(s) | rtrim(s) | btrim(s) | btrim(s, 'a') | trim(BOTH 'ac' FROM s) | trim(LEADING 'a' FROM s) | trim(TRAILING ',' FROM s) | trim('a' FROM s) | trim(BOTH FROM s) | btrim(s, t)
substring(s, 2) | substring(s, 2, 3) | substring(s, n, m) | substr(s, -3) | substr(s, -5, 2) | substring(s, 0, 2) | substring(s FROM 2 FOR 3) | substring(s, -100, 99) | substring(s, 100) | left(s, 3) | right(s, 3) | left(s, n) | right(s, n) | left(s, m)
lpad(s, 5) | lpad(s, 8, 'xy') | rpad(s, 5, '.') | rpad(s, m, 'ab') | lpad(s, n, '') | lpad(s, m, t) | rpad(s, 15)
concat(s, t) | concat(s, NULL) | concat('a', 1, true) | s || t || 'x' | s || n | concat_ws('-', s, t) | concat_ws(t, s, 'x') | concat_ws(',', s, NULL, 'z') | concat_ws(NULL, s) | repeat(s, 2) | repeat(t, n) | space(3) | space(n) | concat() | concat(s)
replace(s, 'a', 'b') | replace(s, 'a') | replace(s, t, '#') | replace(s, '', 'x') | translate(s, 'abc', 'xy') | translate(s, 'lo', '01') | translate(s, t, '*') | contains(s, t) | contains(s, '') | startswith(s, 'a') | startswith(s, t) | endswith(s, 'c') | endswith(s, t)
instr(s, t) | instr(s, 'l') | instr(s, '') | locate('l', s) | locate('l', s, 5) | locate(t, s, n) | locate('', s, 3) | position('o' IN s) | position('o', s, 6) | locate('a', s, 0) | locate('a', s, NULL) | locate('', s, 100)
split(s, ',') | split(s, '') | split(s, '[0-9]+') | split(s, ',', 2) | split(s, 'a', -1) | split(s, ',', 0) | split(s, 'x*') | split_part(s, ',', 2) | split_part(s, ',', -1) | split_part(s, t, 1) | split_part(s, ',', 0) | split_part(s, '', 1) | split_part(s, 'l', 10) | substring_index(s, ',', 2) | substring_index(s, ',', -2) | substring_index(s, t, n) | substring_index(s, 'a', 1) | substring_index(s, '', 1) | substring_index(s, 'aa', 1) | substring_index(s, 'aa', -1)
s LIKE 'a%' | s LIKE '%o%' | s LIKE '_____ World' | s LIKE '100\\\\%%' | s LIKE '%!%%' ESCAPE '!' | s NOT LIKE 'a%' | s ILIKE 'HELLO%' | s LIKE '' | s LIKE NULL | s LIKE '%' | s LIKE '日_語%' | s LIKE t | s ILIKE '%STRASSE' | s LIKE 'a\\\\bc' | s LIKE 'abc\\\\' | s LIKE '%\\\\_%' | like(s, 'a%') | ilike(s, 'A%')
s RLIKE '^a' | s RLIKE '[0-9]+' | s RLIKE '\\\\d{2}' | s REGEXP 'o W' | rlike(s, 'b$') | regexp_like(s, 'L') | regexp(s, '(?i)hello') | s RLIKE '\\\\w+\\\\s\\\\w+' | s NOT RLIKE 'a' | s RLIKE '' | s RLIKE '^.{5}$' | s RLIKE '[a' | s RLIKE '(?=a)'
regexp_extract(s, '([a-z]+)([0-9]+)', 1) | regexp_extract(s, '([a-z]+)([0-9]+)', 2) | regexp_extract(s, '[0-9]+', 0) | regexp_extract(s, '(o)') | regexp_extract(s, '(a)(x)?', 2) | regexp_extract(s, 'a', 1) | regexp_substr(s, '[0-9]+') | regexp_substr(s, 'nothing') | regexp_count(s, '[a-z]') | regexp_count(s, 'a') | regexp_count(s, t) | regexp_replace(s, '[0-9]+', '#') | regexp_replace(s, '([a-z])([0-9])', '$2$1') | regexp_replace(s, 'a', '\\\\$') | regexp_replace(s, '', '-') | regexp_replace(s, 'a*', 'x') | regexp_replace(s, '(a)', '$3') | regexp_replace(s, 'l', '')
md5(s) | sha2(s, 256) | sha2(s, 0) | sha2(s, 224) | sha2(s, 384) | sha2(s, 512) | sha2(s, 100) | crc32(s) | hex(s) | base64(s) | base64(repeat('x', 100)) | unhex('4D79') | unhex('f') | unhex('xy') | unhex(s) | levenshtein(s, t) | levenshtein('kitten', 'sitting') | CAST(s AS BINARY) | CAST(CAST(s AS BINARY) AS STRING) | length(CAST(s AS BINARY)) | hex(CAST(s AS BINARY)) | binary(s) | s RLIKE '[\\\\w.]+@' | s RLIKE '\\\\bWorld\\\\b' | split(s, '\\\\s+') | s LIKE concat(t, '%') | s RLIKE t | regexp_replace(s, t, '_')
s = t | s < t | s > 'a' | s <=> t | s IN ('abc', 'aaa') | s IN ('abc', NULL) | s BETWEEN 'a' AND 'b' | coalesce(s, t) | nullif(s, 'abc') | nvl(s, 'none') | greatest(s, t) | least(s, t) | CASE WHEN s = 'abc' THEN t ELSE s END | CASE s WHEN 'abc' THEN 1 WHEN 'aaa' THEN 2 END | s IS NULL | s IS NOT NULL | isnull(s) | upper(n) | length(n) | n = '1' | upper(NULL) | concat(n, m)
initcap('hello wORLD-foo_bar  x') | initcap('o''neil') | lower('İ') | upper('ﬁ') | length('a😀b') | substring('a😀b', 2, 1) | reverse('a😀b') | lpad('😀', 3, 'é') | instr('a😀b', 'b') | left('日本', 1) | right('日本語', 2) | ascii('é') | ascii('😀') | octet_length('é') | repeat('ab', 0) | repeat('ab', -1) | substring('hello', -2) | substring('hello', -7, 3) | substring('hello', 2, -1) | substring('hello', '2') | left('abc', -1) | space(-1)
concat('a', NULL, 'b') | concat_ws('', 'a', 'b') | concat_ws(',') | concat_ws('/', 'a', NULL) | replace('abcabc', 'bc', 'x') | translate('AaBbCc', 'abc', '12') | split('a.b.c', '.') | split('a.b.c', '[.]') | split('', ',') | split('abc', '') | split('aXbXc', 'X', 1) | split('oneAtwoBthree', '[AB]', 2) | split_part('a.b.c', '.', 3) | split_part('a.b.c', '.', 4) | substring_index('www.apache.org', '.', 2) | substring_index('www.apache.org', '.', -1) | regexp_replace('100-200', '(\\\\d+)', 'num') | regexp_replace('aaa', 'a', 'b') | regexp_replace('x', 'x', '\\\\\\\\') | regexp_extract('100-200', '(\\\\d+)-(\\\\d+)', 2) | regexp_extract('abc', 'x(y)?', 1) | regexp_extract('abc', 'a(y)?', 1) | regexp_extract('abc', 'a', -1) | regexp_count('banana', 'ana') | regexp_count('', 'x*') | locate('b', 'abcb', 3) | locate('b', 'abc', -1) | position('', 'abc') | levenshtein('', 'abc') | overlay('a', 'b', 1) | soundex('x') | md5('') | crc32('') | hex('') | unhex('') | base64('') | sha2('', 256) | hex(-1) | chr(0) | chr(128)
'a' = 'a ' | 'a' < 'B' | 'Z' < 'a' | '' < 'a' | 'ä' > 'z' | s = 'ABC' | 'abc' LIKE 'a_c' | 'a\\nc' LIKE 'a_c' | 'abc' LIKE 'ABC' | 'abc' ILIKE 'A_C' | 'a%c' LIKE 'a\\\\%c' | 'aXc' LIKE 'aX%c' | 'abc' RLIKE 'B' | 'a\\nb' RLIKE 'a.b' | 'a\\nb' RLIKE '^b' | 'é' RLIKE '\\\\w' | '٣' RLIKE '\\\\d' | 'ab' RLIKE '[^a]b' | 'ab ' RLIKE '\\\\s$' | '1' + 1 | '1' = 1 | '1.0' = 1 | 'a' = 1 | upper(true) | length(12345) | concat(1.5, DATE '2024-01-01', true) | upper(1.0e10) | trim(5) | n || m | s > 5 | s AND true | NOT s | CASE WHEN s THEN 1 END | if(s, 1, 2) | s || NULL | coalesce(s, n) | CASE WHEN n > 0 THEN s ELSE n END | s IN ('1', 2) | concat(s) = s | nvl(s, 1) | nullif(n, s)
regexp_replace('a<b>', '\\\\<', '#') | regexp_replace('a<b>', '\\\\>', '#') | 'abc\\n' RLIKE 'c$' | 'abc\\r\\n' RLIKE 'c$' | 'abc\\n\\n' RLIKE 'c$' | 'a\\rb' RLIKE 'a.b' | 'a\\u2028b' RLIKE 'a.b' | 'a\\nb' RLIKE '(?s)a.b' | 'Ä' RLIKE '(?i)ä' | 'A' RLIKE '(?i)a' | 'k' RLIKE '(?i)\\u212a' | 'é' RLIKE '\\\\p{Alpha}' | 'é' RLIKE '\\\\p{Lower}' | 'É' RLIKE '\\\\p{Upper}' | '٣' RLIKE '\\\\p{Digit}' | '\\u00a0' RLIKE '\\\\p{Space}' | '<' RLIKE '\\\\p{Punct}' | 'é' RLIKE '\\\\p{L}' | 'é' RLIKE '\\\\p{IsLatin}'
'é' RLIKE '^[^\\\\W]$' | 'é' RLIKE '^[\\\\W]$' | '٣' RLIKE '^[\\\\D]$' | 'b' RLIKE '[[:alpha:]]' | 'a' RLIKE '[[:alpha:]]' | regexp_replace('2024-01-02', '[+--]', '#') | regexp_replace('a~b', '[~~]', '#') | regexp_replace('abcd', '[a-z&&[^bc]]', '#') | regexp_replace('a[b]c', '[]\\\\[]', '#') | regexp_replace('a\\u000bb', '\\\\v', '#') | regexp_replace('a\\nb', '\\\\v', '#') | regexp_replace('a\\r\\nb', '\\\\R', '#') | regexp_replace('a\\tb c', '\\\\h', '#') | regexp_replace('a.b+', '\\\\Q.\\\\E', '#') | regexp_extract('abc\\n', '(.*)$', 1) | regexp_replace('abc\\n', '.*$', '#') | regexp_replace('abc\\n', '$', '#') | regexp_count('abc\\n', '$') | split('a\\n', '$') | split('a.b', '.') | regexp_replace('a\\rb', '.*', '-')
regexp_substr(s, 'z*') | regexp_substr(s, 'a*') | regexp_extract('foo.bar', '(?<n>o+)', 1) | 'a+' RLIKE 'a\\\\+' | 'a_b' RLIKE 'a\\\\_b' | '\\u0001' RLIKE '\\\\cA' | 'A' RLIKE '\\\\x41' | 'A' RLIKE '\\\\0101' | 'é' RLIKE '\\\\x{e9}' | '😀' RLIKE '^.$' | 'ab' RLIKE '(?x) a b # both' | 'x' RLIKE 'a|' | s RLIKE '(^|,)c?,' | s RLIKE '(World|e)$' | regexp_replace(s, '\\\\s+$', '') | regexp_replace(s, '^\\\\s+|\\\\s+$', '') | s RLIKE '(?i)WORLD' | s RLIKE '(?i:hello) W' | 'a1' RLIKE '^\\\\w\\\\d\\\\z' | s RLIKE 'a{2,3}' | s RLIKE '\\\\bWorld\\\\b'
'İstanbul' ILIKE 'i%' | 'ΑΣ' ILIKE 'ασ' | 'ΑΣ' ILIKE 'ας' | 'STRASSE' ILIKE 'straße' | 'aB' ILIKE 'A_' | s ILIKE concat(t, '%') | initcap('ΑΣ') | initcap('ǆ x') | initcap('ǆǅ ΑΣ ΑΣΑ') | initcap('ßA') | initcap('ა') | lower('ΑΣ ΣΑ')
TRY_CAST('2024-01-01 12:00+01:00' AS TIMESTAMP) | TRY_CAST('2024-01-01 12:00:56z' AS TIMESTAMP) | TRY_CAST('2024-01-01T12Z' AS TIMESTAMP) | TRY_CAST('2024-01-01 12:00' AS TIMESTAMP) | TRY_CAST('2024-01-01 12:00:00+01:00' AS TIMESTAMP) | TRY_CAST('2024-01-01 12:00:00.5Z' AS TIMESTAMP) | TRY_CAST('2024-01-01 12:00:00 UTC+1' AS TIMESTAMP) | TRY_CAST('-NaN' AS DOUBLE) | TRY_CAST('+NaN' AS DOUBLE) | TRY_CAST('-nan' AS DOUBLE) | TRY_CAST('0x1p3' AS DOUBLE) | TRY_CAST('0x1.8p1' AS DOUBLE) | TRY_CAST('-0X.8P-1d' AS DOUBLE) | TRY_CAST('0x1' AS DOUBLE) | TRY_CAST('0x1.fffffffffffff8p0' AS DOUBLE) | TRY_CAST('0x1p3' AS FLOAT)
"""

TIME = """
year(ts) | quarter(ts) | month(ts) | day(ts) | dayofmonth(dt) | dayofweek(dt) | weekday(dt) | dayofyear(dt) | weekofyear(dt) | hour(ts) | minute(ts) | second(ts) | hour(dt) | year('2024-05-06') | hour('2024-05-06 07:08:09') | year(dt) | month(dt) | quarter(dt)
extract(YEAR FROM ts) | extract(MONTH FROM dt) | extract(WEEK FROM dt) | extract(DOW FROM dt) | extract(DOY FROM dt) | extract(HOUR FROM ts) | extract(MINUTE FROM ts) | extract(SECOND FROM ts) | extract(YEAROFWEEK FROM dt) | extract(QUARTER FROM ts) | extract(DAY FROM ts) | date_part('year', ts) | date_part('seconds', ts) | datepart('dow', dt) | extract(DAYOFWEEK_ISO FROM dt) | date_part('hour', ts)
dayname(dt) | monthname(dt) | dayname(ts) | date_add(dt, n) | date_add(dt, 30) | dateadd(dt, 1) | date_sub(dt, n) | dt + n | dt - 1 | n + dt | date_add('2024-02-28', 2) | date_add(ts, 1) | datediff(dt, du) | date_diff(dt, du) | datediff(ts, us) | datediff('2024-03-01', '2024-02-01') | add_months(dt, n) | add_months(dt, 1) | add_months('2024-01-31', 1) | last_day(dt) | last_day(ts) | next_day(dt, 'MON') | next_day(dt, 'su') | next_day(dt, 'friday') | next_day(dt, 'xx') | next_day(dt, u)
months_between(ts, us) | months_between(ts, us, false) | months_between(dt, du) | months_between('2024-03-31', '2024-02-29') | make_date(2024, 2, 29) | make_date(2023, 2, 29) | make_date(2024, 13, 1) | make_date(year(dt), 1, 1)
date_trunc('YEAR', ts) | date_trunc('quarter', ts) | date_trunc('MONTH', ts) | date_trunc('week', ts) | date_trunc('DAY', ts) | date_trunc('dd', ts) | date_trunc('HOUR', ts) | date_trunc('minute', ts) | date_trunc('SECOND', ts) | date_trunc('MILLISECOND', ts) | date_trunc('MICROSECOND', ts) | date_trunc('mon', ts) | date_trunc('yyyy', ts) | date_trunc('nonsense', ts) | date_trunc(u, ts) | date_trunc('MONTH', dt) | date_trunc('decade', ts) | trunc(dt, 'YEAR') | trunc(dt, 'MM') | trunc(dt, 'WEEK') | trunc(dt, 'quarter') | trunc(dt, 'day') | trunc(dt, u) | trunc(ts, 'MONTH')
ts + INTERVAL 1 DAY | ts - INTERVAL 1 HOUR | ts + INTERVAL '5' MINUTE | ts + INTERVAL 30 SECONDS | ts + INTERVAL '1.5' SECOND | ts + INTERVAL 1 MONTH | ts - INTERVAL 1 YEAR | dt + INTERVAL 1 DAY | dt + INTERVAL 1 MONTH | dt - INTERVAL 1 YEAR | dt + INTERVAL 12 HOURS | ts + INTERVAL '1 day 2 hours' | ts + INTERVAL 2 WEEKS | INTERVAL 1 DAY + ts | ts + INTERVAL -3 DAYS | ts + INTERVAL 1 DAY 2 HOURS | dt + INTERVAL 1 WEEK | ts > us - INTERVAL 10 MINUTES | ts + INTERVAL 1 MILLISECOND | ts + INTERVAL 5 MICROSECONDS
timestampadd(HOUR, 5, ts) | timestampadd(MONTH, 1, ts) | timestampadd(YEAR, -1, ts) | timestampadd(QUARTER, 1, ts) | timestampadd(DAY, n, ts) | dateadd(WEEK, 2, ts) | date_add(MINUTE, 90, ts) | timestampadd(MILLISECOND, 5, ts) | timestampdiff(HOUR, us, ts) | timestampdiff(MONTH, us, ts) | timestampdiff(YEAR, us, ts) | timestampdiff(DAY, us, ts) | timestampdiff(SECOND, us, ts) | datediff(DAY, us, ts) | timestampdiff(QUARTER, us, ts) | timestampdiff(WEEK, us, ts) | timestampdiff(MICROSECOND, us, ts) | date_diff(MINUTE, us, ts)
unix_date(dt) | date_from_unix_date(n) | unix_seconds(ts) | unix_millis(ts) | unix_micros(ts) | timestamp_seconds(n) | timestamp_seconds(1700000000) | timestamp_millis(1700000000123) | timestamp_micros(-1) | timestamp_millis(n) | timestamp_seconds(9223372036854775807) | unix_timestamp(ts) | to_unix_timestamp(ts) | unix_timestamp(dt) | unix_timestamp('2024-01-02 03:04:05') | unix_timestamp('2024-01-02', 'yyyy-MM-dd') | from_unixtime(0) | from_unixtime(n) | from_unixtime(1700000000, 'yyyy/MM/dd') | unix_timestamp('nope')
date_format(ts, 'yyyy-MM-dd') | date_format(ts, 'yyyy-MM-dd HH:mm:ss.SSS') | date_format(ts, 'yy/M/d h:mm a') | date_format(ts, 'D') | date_format(ts, 'DDD') | date_format(ts, "yyyy 'at' HH") | date_format(ts, 'E, d MMM yyyy') | date_format(dt, 'MM/dd/yyyy') | date_format(ts, 'H:m:s') | date_format(ts, 'hh:mm') | date_format(ts, 'SSSSSS') | date_format(ts, 'EEE') | date_format(ts, "''yy''") | date_format(ts, 'y') | date_format(ts, 'yyyyMMdd')
to_date('2024-02-29') | to_date('29/02/2024', 'dd/MM/yyyy') | to_date('2024-2-9', 'yyyy-M-d') | to_date('2024-02-30', 'yyyy-MM-dd') | to_date('nope') | to_date(ts) | to_date('20240229', 'yyyyMMdd') | to_date('2024-02-29x', 'yyyy-MM-dd') | to_date('Feb 3 2024', 'MMM d yyyy') | to_timestamp('2024-02-29 01:02:03') | to_timestamp('29.02.2024 13:14', 'dd.MM.yyyy HH:mm') | to_timestamp('2024-02-29T01:02:03.123', "yyyy-MM-dd'T'HH:mm:ss.SSS") | to_timestamp('01:02 PM 2024-01-01', 'hh:mm a yyyy-MM-dd') | to_timestamp('2024-1-1', 'yyyy-MM-dd') | to_timestamp('2024-02-29 12', 'yyyy-MM-dd hh') | to_timestamp(dt) | to_timestamp('2024-13-01', 'yyyy-MM-dd') | to_date('24-01-02', 'yy-MM-dd')
from_utc_timestamp(ts, 'Europe/Berlin') | to_utc_timestamp(ts, 'Europe/Berlin') | from_utc_timestamp(ts, '+05:30') | to_utc_timestamp(ts, 'America/Los_Angeles') | from_utc_timestamp(ts, 'nowhere') | from_utc_timestamp(us, 'Europe/Berlin') | to_utc_timestamp(ts, 'UTC')
CAST(ts AS DATE) | CAST(dt AS TIMESTAMP) | CAST(ts AS STRING) | CAST(dt AS STRING) | CAST(ts AS BIGINT) | CAST(ts AS DOUBLE) | CAST(ts AS INT) | CAST(0 AS TIMESTAMP) | date(ts) | timestamp(dt) | DATE '2024-01-02' | TIMESTAMP '2024-01-02 03:04:05' | TIMESTAMP '2024-01-02T03:04:05+01:00' | string(ts)
ts = us | ts < us | dt < ts | dt = '2024-02-29' | ts >= '2024-01-01' | dt <= du | ts BETWEEN '2023-01-01' AND '2024-12-31' | dt IN ('2024-02-29', '1970-01-01') | ts IN (TIMESTAMP '1970-01-01 00:00:00') | greatest(dt, du) | least(ts, us) | coalesce(dt, ts) | CASE WHEN n > 0 THEN dt ELSE ts END | nullif(dt, du) | ts > DATE '2000-01-01'
date_add('2024-02-28', '2') | date_add(dt, 1L) | date_sub('2024-03-01', 1) | datediff(dt, '2024-01-01') | add_months('2024-02-29', 12) | add_months('2023-02-28', 1) | add_months('2024-01-31', -2) | months_between('2024-02-29 12:00:00', '2024-01-29 06:00:00') | last_day('2023-02-01') | next_day('2024-01-01', 'MONDAY') | make_date(0, 1, 1) | year('0044-03-15') | dayofweek('2024-01-07') | weekofyear('2021-01-01') | weekofyear('2020-12-31') | quarter('2024-12-31') | dayofyear('2024-12-31') | extract(WEEK FROM TIMESTAMP '2024-12-30 00:00:00') | extract(YEAROFWEEK FROM DATE '2024-12-30') | extract(CENTURY FROM ts) | extract(MILLISECOND FROM ts)
DATE '2024-01-31' + INTERVAL 1 MONTH | TIMESTAMP '2024-01-31 10:00:00' + INTERVAL 1 MONTH | TIMESTAMP '2024-03-31 10:00:00' - INTERVAL 1 MONTH | ts + INTERVAL '1' DAY + INTERVAL '2' HOUR | ts - INTERVAL '1-2' YEAR TO MONTH | dt + 1 + 1 | dt - n | dt > '2024' | ts = '2024-02-29 12:34:56.789012' | ts < DATE '2024-03-01' | dt < TIMESTAMP '2024-02-29 00:00:01' | ts = dt | dt = 'nope' | dt IN ('2024-02-29', DATE '1969-12-31') | ts IS NULL | coalesce(ts, TIMESTAMP '2020-01-01 00:00:00') | greatest(dt, DATE '2000-01-01') | if(n > 0, dt, NULL) | CASE WHEN n > 0 THEN dt ELSE '2000-01-01' END | date_trunc('HOUR', '2024-05-06 07:08:09') | date_trunc('DAY', dt) | trunc('2024-05-06', 'Q') | trunc(dt, 'yy') | hour(TIMESTAMP '2024-01-01 05:06:07') | second('2024-01-01 00:00:59.9') | timestamp_millis(-1) | timestamp_micros(9223372036854775807) | unix_millis(TIMESTAMP '1969-12-31 23:59:59.999') | unix_seconds(TIMESTAMP '1969-12-31 23:59:59.5') | CAST(TIMESTAMP '1969-12-31 23:59:59.5' AS BIGINT) | CAST(TIMESTAMP '1969-12-31 23:59:59.5' AS DOUBLE) | CAST('2024-01-01T00:00:00Z' AS TIMESTAMP) | CAST(1.5 AS TIMESTAMP) | CAST(ts AS TINYINT) | CAST(dt AS INT) | CAST(ts AS DECIMAL(20,6)) | CAST(ts AS BOOLEAN) | length(dt) | concat(dt, ' ', ts) | upper(ts) | dt + '1' | ts + 1 | date_format('2024-01-02', 'MM-dd') | date_format(dt, 'hh a') | date_format(ts, 'EEEE') | date_format(ts, 'd MMMM yyyy') | to_date('3 February 2024', 'd MMMM yyyy') | to_date('3 february 2024', 'd MMMM yyyy') | to_date('3 feb 2024', 'd MMM yyyy') | to_timestamp('2024-01-02 03:04:05.6', 'yyyy-MM-dd HH:mm:ss.S') | to_date('2024 1 2', 'y M d') | date_format(ts, 'MMM') | to_timestamp('10:11 pm', 'hh:mm a') | to_date('366 2024', 'DDD yyyy') | CAST('2024-01-01 00:00:00+5' AS TIMESTAMP) | CAST('2024-01-01 00:00:00 +05:30' AS TIMESTAMP) | CAST('2024-01-01 00:00:00Z ' AS TIMESTAMP) | CAST('2024-01-01 00:00:00 PST' AS TIMESTAMP) | CAST('2024-01-01 00:00:00+19:00' AS TIMESTAMP) | CAST('2024-01-01 12Z' AS TIMESTAMP) | CAST('2024-01-01 24:00:00' AS TIMESTAMP) | CAST('+2024-01-01' AS DATE) | CAST('02024-01-01' AS DATE) | CAST('2024-01-01T' AS TIMESTAMP) | to_date('2024-01-02 03:04:05') | to_date(NULL) | to_timestamp('2024-01-02') | to_timestamp('12/31/2024 23:59', 'MM/dd/yyyy HH:mm') | unix_timestamp('2024-01-02 03:04:05.5') | from_unixtime(-1) | from_unixtime(1.9) | timestampdiff(MONTH, DATE '2024-01-31', DATE '2024-02-29') | timestampdiff(DAY, '2024-01-01', '2024-01-02 12:00:00') | timestampadd(MONTH, 1, TIMESTAMP '2024-01-31 00:00:00') | timestampadd(DAY, 1, dt) | from_utc_timestamp('2024-07-01 00:00:00', 'America/New_York') | to_utc_timestamp('2024-03-10 02:30:00', 'America/New_York') | to_utc_timestamp('2024-11-03 01:30:00', 'America/New_York')
timestampdiff(MONTH, TIMESTAMP '2024-01-31 10:00:00', TIMESTAMP '2024-03-01 09:00:00') | timestampdiff(MONTH, TIMESTAMP '2024-03-31 12:00:00', TIMESTAMP '2024-02-29 13:00:00') | timestampdiff(QUARTER, TIMESTAMP '2023-11-30 10:00:00', TIMESTAMP '2024-03-01 09:00:00') | timestampdiff(YEAR, TIMESTAMP '2020-02-29 10:00:00', TIMESTAMP '2021-03-01 09:00:00') | timestampdiff(MONTH, ts, us) | timestampdiff(QUARTER, ts, us) | timestampdiff(YEAR, ts, us) | timestampdiff(MONTH, TIMESTAMP '2024-03-31 12:00:00', TIMESTAMP '2024-02-29 12:00:00') | timestampdiff(WEEK, ts, us) | timestampdiff(DAY, ts, us)
to_timestamp('2024-02-29 12:34:56.789', 'yyyy-MM-dd HH:mm:ss.SSSSSS') | to_timestamp('2024-02-29 12:34:56.7', 'yyyy-MM-dd HH:mm:ss.SSS') | to_timestamp('2024-02-29 12:34:56.7891', 'yyyy-MM-dd HH:mm:ss.SSS') | to_timestamp('2024-02-29 12:34:56.', 'yyyy-MM-dd HH:mm:ss.SSS') | to_date('+10000-01-31', 'yyyy-MM-dd') | to_date('10000-01-31', 'yyyy-MM-dd') | to_date('-0044-03-15', 'yyyy-MM-dd') | to_date('+2024-01-31', 'yyyy-MM-dd') | to_date('24-01-31', 'yy-MM-dd')
date_format(TIMESTAMP '+10000-01-31 00:00:00', 'yyyy-MM-dd') | date_format(TIMESTAMP '+10000-01-31 00:00:00', 'y yy') | date_format(TIMESTAMP '-0044-03-15 00:00:00', 'yyyy yy y') | date_format(TIMESTAMP '0000-03-15 00:00:00', 'yyyy') | from_unixtime(253405238400) | from_unixtime(253405238400, 'yyyy')
"""

CASTS = """
CAST(s AS INT) | CAST(s AS TINYINT) | CAST(s AS SMALLINT) | CAST(s AS BIGINT) | CAST(s AS DOUBLE) | CAST(s AS FLOAT) | CAST(s AS BOOLEAN) | CAST(s AS DATE) | CAST(s AS TIMESTAMP) | CAST(s AS DECIMAL(10,2)) | CAST(s AS DECIMAL(38,18)) | TRY_CAST(s AS INT) | TRY_CAST(s AS DOUBLE) | TRY_CAST(s AS DATE) | TRY_CAST(s AS TIMESTAMP) | TRY_CAST(s AS DECIMAL(5,1)) | TRY_CAST(s AS BOOLEAN)
"""

NESTED_EXPRESSIONS = """
a[0] | a[i] | t[1] | m['p'] | m[k] | m.p | st.x | st.y | st.Y | st.deep.z | st.deep | size(a) | size(m) | cardinality(t) | array_size(a) | array_contains(a, 2) | array_contains(a, 5) | array_contains(t, 'x') | array_contains(t, k) | array_contains(a, i)
element_at(a, 1) | element_at(a, -1) | element_at(a, 0) | element_at(a, i) | element_at(m, 'p') | element_at(m, k) | try_element_at(a, 3) | try_element_at(m, 'q') | try_element_at(a, i) | get(a, 0) | get(a, i) | map_keys(m) | map_values(m) | a IS NULL | st IS NULL | coalesce(st.x, 0) + 1 | a[0] + a[1] | upper(st.Y) | st.x > 5 | a | m | st | split(k, '') | CASE WHEN i > 0 THEN a[0] ELSE 0 END
array_contains(split('', ''), '') | size(split(k, ',')) | element_at(split('a\\nb', '$'), 1)
"""

JSON = """
get_json_object(j, '$') | get_json_object(j, '$.a') | get_json_object(j, '$.b') | get_json_object(j, '$.c') | get_json_object(j, '$.d') | get_json_object(j, '$.n') | get_json_object(j, '$.c[0]') | get_json_object(j, '$.c[1]') | get_json_object(j, '$.c[-1]') | get_json_object(j, '$.c[*]') | get_json_object(j, '$.d.e.f[0].g') | get_json_object(j, '$.d.e.f[*].g') | get_json_object(j, '$.d.e.f') | get_json_object(j, '$.d.*') | get_json_object(j, '$.*') | get_json_object(j, '$[0]') | get_json_object(j, '$[1].b[0]') | get_json_object(j, '$[*].a') | get_json_object(j, '$[*]') | get_json_object(j, '$[*].b[*]')
get_json_object(j, '$[''a'']') | get_json_object(j, '$["a"]') | get_json_object(j, "$['a b']") | get_json_object(j, '$.a b') | get_json_object(j, "$['a.b']") | get_json_object(j, "$['']") | get_json_object(j, "$['a']['b']") | get_json_object(j, '$.A') | get_json_object(j, '$.é') | get_json_object(j, '$.b[0][1]') | get_json_object(j, '$.b[*][0]') | get_json_object(j, '$.b[*][*]') | get_json_object(j, '$.c[*][*].d') | get_json_object(j, '$.c[*].d') | get_json_object(j, '$.c[1][*].d') | get_json_object(j, '$.a[*].b') | get_json_object(j, '$.a[*].b[*]') | get_json_object(j, '$.a[0].b[*]') | get_json_object(j, '$.b[*].a') | get_json_object(j, '$.a[*]')
get_json_object(j, 'a') | get_json_object(j, '') | get_json_object(j, '$.') | get_json_object(j, '$a') | get_json_object(j, '$.a.') | get_json_object(j, '$..a') | get_json_object(j, '$[a]') | get_json_object(j, '$.c[') | get_json_object(j, ' $.a') | get_json_object(j, '$ .a') | get_json_object(j, '$. a') | get_json_object(j, '$.a ') | get_json_object(j, NULL) | get_json_object(NULL, '$.a') | get_json_object(j, concat('$.', f)) | get_json_object(j, f) | get_json_object('{"a":{"b":[1,"x",null]}}', '$.a.b') | get_json_object('{"a":"\\\\u0041\\\\ud83d\\\\ude00"}', '$.a') | get_json_object(5, '$') | get_json_object('{"a":1.0,"b":1e400,"c":-1E-7,"d":100000000.5}', '$') | get_json_object(j, '$.c[99999999999]') | get_json_object('[1,[2],{"a":[3]}]', '$[2].a') | get_json_object('{"a":"x\\\\ty"}', '$')
get_json_object('12{}', '$') | get_json_object('12 {}', '$') | get_json_object('-1}', '$') | get_json_object('"x"{}', '$') | get_json_object('1.5,2', '$') | to_json(parse_json('true{}')) | to_json(try_parse_json('12{}')) | to_json(parse_json('{"a":1} x')) | schema_of_json('{"":1,"a":{"":2},"b":[{"":3}]}')
json_array_length(j) | json_array_length(get_json_object(j, '$.c')) | json_array_length('[1,[2,3],{"a":[4]}]') | json_array_length('[1,') | json_array_length('[1] x') | json_array_length(NULL) | json_array_length('{"a":[1]}') | json_array_length(5) | json_object_keys(j) | json_object_keys(get_json_object(j, '$.d')) | json_object_keys('{"a":1,"b":{"c":2},"a":3}') | json_object_keys('{"a":1') | json_object_keys('{} x') | json_object_keys('[1]') | json_object_keys(NULL) | json_object_keys('{"\\\\u0041":1}')
schema_of_json('{"a":1}') | schema_of_json('{"b":[1,2.5],"a":{"x":"y","t":true,"n":null}}') | schema_of_json('[{"a":1},{"b":"x"}]') | schema_of_json('5') | schema_of_json('"x"') | schema_of_json('null') | schema_of_json('[]') | schema_of_json('{}') | schema_of_json('{"a":12345678901234567890,"b":1e400,"c":1.5e3,"d":"2024-01-01"}') | schema_of_json('{"a":[1,"x"],"b":[{"c":1},{"c":2.5}],"e":[[1],[2.0]]}') | schema_of_json('{"a b":1,"A":2}') | schema_of_json(j) | schema_of_json('not json') | schema_of_json('{"a":1,"a":"x"}')
unbase64('aGVsbG8=') | unbase64('aGVsbG8') | unbase64('') | unbase64(NULL) | unbase64('a') | unbase64('aGVs bG8=') | unbase64('!!!!') | unbase64(base64(j)) | CAST(unbase64('w6k=') AS STRING) | decode(X'c3a9', 'UTF-8') | decode(X'e9', 'ISO-8859-1') | decode(X'c3a9', 'utf-8') | decode(X'ff41', 'UTF-8') | decode(X'41ff', 'US-ASCII') | decode(X'004100e9', 'UTF-16BE') | decode(X'4100e900', 'UTF-16LE') | decode(X'feff0041', 'UTF-16') | decode(CAST(j AS BINARY), 'UTF-8') | decode(NULL, 'UTF-8') | decode(X'41', NULL) | decode(X'41', 'klingon') | decode('abc', 'UTF-8') | encode('é', 'UTF-8') | encode('é', 'ISO-8859-1') | encode('é', 'UTF-16') | encode('é', 'UTF-16LE') | encode(j, 'utf-8') | encode('é', 'US-ASCII') | encode(NULL, 'UTF-8') | encode('a', 'klingon') | encode('😀', 'UTF-16BE')
decode(n, 0, 'zero', 1, 'one') | decode(n, 0, 'zero', 1, 'one', 'more') | decode(n, NULL, 'null', 'other') | decode(f, 'a', n, -1)
"""
NESTED_JSON = """
ss.x | ss.y | ss.Y | ss.x[0] | size(ss.x) | mm['p'].v | array_contains(ss.x, 2) | ss.nope | nn.x | a.x
to_json(st) | to_json(m) | to_json(a) | to_json(t) | to_json(ss) | to_json(nn) | to_json(mm) | to_json(i) | to_json(k) | to_json(NULL) | get_json_object(to_json(st), '$.deep.z') | json_array_length(to_json(a)) | to_json(from_json('{"a":1,"t":"2024-02-29T12:34:56.789Z","d":"2024-02-29","x":1.50,"n":null,"b":"aGk="}', 'a INT, t TIMESTAMP, d DATE, x DECIMAL(5,2), n INT, b BINARY')) | to_json(from_json('{"x":0.1,"y":1.0,"z":1e10,"s":"q\\\\"\\\\u0007/é","l":9007199254740993,"o":true,"f":0.1}', 'x DOUBLE, y DOUBLE, z DOUBLE, s STRING, l BIGINT, o BOOLEAN, f FLOAT')) | to_json(from_json('[1,null]', 'ARRAY<INT>')) | to_json(from_json('{"a":null,"b":{"c":null}}', 'a INT, b STRUCT<c: INT>')) | to_json(from_json('{"a":null}', 'MAP<STRING, INT>')) | to_json(from_json('{"t":"2024-02-29T12:34:56.789012Z","u":"1969-12-31T23:59:59Z"}', 't TIMESTAMP, u TIMESTAMP'))
from_json('{"a":1,"b":"x"}', 'a INT, b STRING') | from_json('{"a":1}', 'a INT, b STRING') | from_json('[1,2,3]', 'ARRAY<INT>') | from_json('{"k":1}', 'MAP<STRING, INT>') | from_json('[{"a":1},{"a":2}]', 'ARRAY<STRUCT<a: INT>>') | from_json('{"a":{"b":[1.5,2]}}', 'a STRUCT<b: ARRAY<DOUBLE>>') | from_json(k, 'a INT') | from_json(NULL, 'a INT') | from_json('{"a":"2024-02-29","b":"2024-02-29T01:02:03Z"}', 'a DATE, b TIMESTAMP') | from_json('{"a":1.25}', 'a DECIMAL(5,2)') | from_json('{"a":1}', 'STRUCT<a: BIGINT>') | from_json('{"a":{"x":1}}', 'a STRING') | from_json('{"a":true}', 'a BOOLEAN').a | from_json('{"a":[1,2]}', 'a ARRAY<INT>').a[1] | from_json('{"a":1}', schema_of_json('{"a":1}')) | from_json(to_json(st), 'x INT, Y STRING') | from_json(to_json(ss), 'ARRAY<STRUCT<x: INT, y: STRING>>') | from_json('{"a":1}', 'a INT', map('mode', 'PERMISSIVE')) | from_json('{"a":1}', 'a INT', map('mode', 'FAILFAST')) | from_json('{"a":1}', k) | from_json('{"a":1}', 'a NOPE') | from_json(i, 'a INT')
to_json(parse_json('{"b":[1,2.50,1e3,null,true],"a":{"z":"q\\\\u0041","y":-0}}')) | to_json(parse_json('5')) | to_json(parse_json('1.0')) | to_json(parse_json('123456789012345678901234567890.5')) | to_json(parse_json('1e400')) | to_json(parse_json('{}')) | to_json(parse_json('null')) | to_json(parse_json('"x"')) | to_json(parse_json(k)) | to_json(try_parse_json(k)) | to_json(try_parse_json('[1')) | to_json(parse_json(NULL)) | to_json(parse_json('{"a":1,"a":2}')) | to_json(parse_json('[0.10,100,1.50e2,12345678901234567890123456789012345678901234567890]'))
CAST(parse_json('5') AS INT) | CAST(parse_json('5.9') AS INT) | CAST(parse_json('-5.9') AS BIGINT) | CAST(parse_json('"5"') AS INT) | CAST(parse_json('"x"') AS INT) | TRY_CAST(parse_json('"x"') AS INT) | CAST(parse_json('300') AS TINYINT) | TRY_CAST(parse_json('300') AS TINYINT) | CAST(parse_json('null') AS INT) | CAST(parse_json('true') AS BOOLEAN) | CAST(parse_json('true') AS INT) | CAST(parse_json('1') AS BOOLEAN) | CAST(parse_json('"true"') AS BOOLEAN) | CAST(parse_json('1.5') AS DOUBLE) | CAST(parse_json('1e3') AS INT) | CAST(parse_json('1.005') AS DECIMAL(5,2)) | CAST(parse_json('"x"') AS STRING) | CAST(parse_json('{"a":1}') AS STRING) | CAST(parse_json('1.50') AS STRING) | CAST(parse_json('true') AS STRING) | CAST(parse_json('[1,2]') AS ARRAY<INT>) | CAST(parse_json('{"a":1,"b":"x"}') AS STRUCT<a: INT, b: STRING>) | CAST(parse_json('{"a":1}') AS MAP<STRING, INT>) | CAST(parse_json('{"a":1}') AS INT) | TRY_CAST(parse_json('{"a":1}') AS INT) | CAST(parse_json('"2024-02-29"') AS DATE) | CAST(parse_json('"2024-02-29T01:02:03Z"') AS TIMESTAMP) | CAST(parse_json('[1,"2"]') AS ARRAY<INT>) | parse_json('1') + 1 | parse_json('1') = parse_json('1') | upper(parse_json('"x"')) | parse_json('{"a":1}').a
variant_get(parse_json('{"a":1,"b":{"c":[1,"x",null]}}'), '$.a', 'int') | to_json(variant_get(parse_json('{"a":1,"b":{"c":[1,"x",null]}}'), '$.b.c')) | to_json(variant_get(parse_json('{"a":1.50,"b":{"c":[1,"x",null]}}'), '$')) | variant_get(parse_json('{"b":{"c":[1,"x",null]}}'), '$.b.c[1]', 'string') | variant_get(parse_json('{"b":{"c":[1,"x",null]}}'), '$["b"].c[0]', 'bigint') | variant_get(parse_json('{"a":1}'), '$.A', 'int') | variant_get(parse_json('{"a":"x"}'), '$.a', 'int') | try_variant_get(parse_json('{"a":"x"}'), '$.a', 'int') | try_variant_get(parse_json('{"a":[1,2]}'), '$.a', 'array<int>') | variant_get(parse_json('{"a":[1,2]}'), '$.a[5]', 'int') | variant_get(parse_json('{"a":[1,2]}'), 'a', 'int') | variant_get(parse_json('{"a":[1,2]}'), '$.a[*]', 'int') | variant_get(parse_json('[1,2]'), '$[1]', 'INT') | variant_get(parse_json('1'), '$', 'foo') | variant_get(parse_json('{"a":1.5}'), '$.a', 'int') | variant_get(parse_json('{"a":300}'), '$.a', 'tinyint') | try_variant_get(parse_json('{"a":300}'), '$.a', 'tinyint') | variant_get(k, '$.a', 'int') | variant_get(NULL, '$.a', 'int') | variant_get(parse_json('{"a b":{"é":true}}'), '$["a b"].é', 'boolean') | variant_get(parse_json('{"t":"2024-02-29T01:02:03Z"}'), '$.t', 'timestamp') | variant_get(parse_json('{"a":null}'), '$.a') IS NULL | variant_get(parse_json('{"a":null}'), '$.b') IS NULL
is_variant_null(parse_json('null')) | is_variant_null(parse_json('0')) | is_variant_null(variant_get(parse_json('{"a":null}'), '$.a')) | is_variant_null(variant_get(parse_json('{"a":null}'), '$.b')) | is_variant_null(parse_json(NULL)) | is_variant_null(NULL) | is_variant_null(k) | schema_of_variant(parse_json('{"b":1,"a":"x","c":[1,2.5],"d":null,"e":[],"f":{},"g":1e3,"h":true,"i":[{"x":1},{"y":2}],"j":[1,"a"],"k":12345678901,"l":123456789012345678901234567890,"m":1.50}')) | schema_of_variant(parse_json('null')) | schema_of_variant(parse_json('[null,1]')) | schema_of_variant(parse_json('[1,100000000000000000000]')) | schema_of_variant(parse_json('[0.1, 100]')) | schema_of_variant(parse_json('[0.1, 1e3]')) | schema_of_variant(parse_json('[9223372036854775807, 0.001]')) | schema_of_variant(parse_json('{"a b":1,"A":2,"a":3}')) | schema_of_variant(parse_json(to_json(st))) | schema_of_variant(NULL) | schema_of_variant(k) | schema_of_variant(parse_json('[12345678901234567890123456789012345678, 0.5]')) | schema_of_variant(parse_json('[0.05, -0.05, 10.0]')) | schema_of_variant(parse_json('[[1],["x"],[null]]'))
raise_error('boom') | raise_error(NULL) | raise_error(k) | CASE WHEN i IS NULL OR i IS NOT NULL THEN 5 ELSE raise_error('no') END | CASE WHEN i > 0 THEN i ELSE raise_error(concat('i is ', i)) END | coalesce(i, raise_error('no')) | if(i > 0, k, raise_error('no')) | nvl(k, raise_error('no')) | assert_true(i > 0) | assert_true(i > 0 OR i IS NULL, 'i') | assert_true(NULL) | assert_true(true) | i > 0 AND raise_error('no') IS NULL | typeof(raise_error('x')) | typeof(assert_true(true)) | CAST(raise_error('x') AS INT) | array(1, raise_error('x')) | upper(raise_error('x'))
from_csv('1,a', 'x INT, y STRING') | from_csv('1, a ', 'x INT, y STRING') | from_csv(' 1 ,a', 'x INT, y STRING', map('mode','PERMISSIVE')) | from_csv('1', 'x INT, y STRING', map('mode','PERMISSIVE')) | from_csv('1,a,2', 'x INT, y STRING', map('mode','PERMISSIVE')) | from_csv('q,a', 'x INT, y STRING', map('mode','PERMISSIVE')) | from_csv('', 'x INT, y STRING', map('mode','PERMISSIVE')) | from_csv(NULL, 'x INT, y STRING') | from_csv('1,', 'x INT, y STRING') | from_csv('1,""', 'x INT, y STRING') | from_csv('1,"a,b"', 'x INT, y STRING') | from_csv('1,"a""b"', 'x INT, y STRING') | from_csv('1,"a\\"b"', 'x INT, y STRING') | from_csv('1,a"b"', 'x INT, y STRING') | from_csv('1,"a"b', 'x INT, y STRING') | from_csv('1,"ab', 'x INT, y STRING') | from_csv('1,"a,b"x', 'x INT, y STRING, z STRING', map('mode','PERMISSIVE')) | from_csv('"a"x,b,c', 'x STRING, y STRING, z STRING') | from_csv('1;a', 'x INT, y STRING', map('sep',';')) | from_csv('1||a', 'x INT, y STRING', map('delimiter','||')) | from_csv('1|a', 'x INT, y STRING', map('sep','|','nullValue','a')) | from_csv('NA,"",,"NA"', 'x STRING, y STRING, z STRING, w STRING', map('nullValue','NA')) | from_csv("1,'a,b'", 'x INT, y STRING', map('quote',"'"))
from_csv('1.5,true,2024-01-02,2024-01-02 03:04:05,1e3,1.25', 'a DOUBLE, b BOOLEAN, c DATE, d TIMESTAMP, e FLOAT, f DECIMAL(5,1)') | from_csv('NaN,Infinity,-Infinity', 'a DOUBLE, b DOUBLE, c DOUBLE') | from_csv('1,a\n', 'x INT, y STRING') | from_csv('1', 'x ARRAY<INT>') | from_csv('q,a', 'x INT, y STRING', map('mode','FAILFAST')) | from_csv('1', 'x INT, y STRING', map('mode','FAILFAST')) | from_csv('1,a,b', 'x INT, y STRING', map('mode','FAILFAST')) | from_csv('# x', 'x STRING') | from_csv('TRUE,t', 'x BOOLEAN, y BOOLEAN', map('mode','PERMISSIVE')) | from_csv('300,1', 'x TINYINT, y INT', map('mode','PERMISSIVE')) | from_csv('+1,-0', 'x INT, y INT') | from_csv('1d,0x10', 'x DOUBLE, y DOUBLE', map('mode','PERMISSIVE')) | from_csv('99999999999,1', 'x INT, y BIGINT', map('mode','PERMISSIVE')) | from_csv('1.234,12345.6', 'x DECIMAL(4,2), y DECIMAL(4,2)', map('mode','PERMISSIVE')) | from_csv('2024-01-02T03:04:05.123456Z,2024-1-2', 'x TIMESTAMP, y DATE', map('mode','PERMISSIVE')) | from_csv(concat(i, ',', k), 'x INT, y STRING', map('mode','PERMISSIVE')).x | from_csv(k, 'a INT', map('mode','FAILFAST')) | from_csv('1,2', k) | from_csv(i, 'a INT')
schema_of_csv('1,abc') | schema_of_csv('1|2.5|2024-01-01|2024-01-01 00:00:00|true||12345678901|1e3|x', map('sep','|')) | schema_of_csv('-1,+2,007, 5,1.,.5,TRUE,t,NaN,Infinity,1_0') | schema_of_csv('123456789012345678901234567890,2024-01-01T01:02:03Z,12:30,2024/01/01,1f') | to_csv(named_struct('a',1,'b','x,y','c',CAST(NULL AS INT),'d','','e','q"r','f',1.5,'g',DATE'2024-01-02','h',TIMESTAMP'2024-01-02 03:04:05.123','i',true,'j',' s ','k','a\nb')) | to_csv(named_struct('a',1,'b',CAST(NULL AS STRING)), map('sep',';','nullValue','NA')) | to_csv(named_struct('a',double('NaN'),'b',float(1.5),'c',X'4142','d',double(1e10))) | to_csv(1) | to_csv(st) | to_csv(named_struct('a','"x"','b','a\\b','c','#x','d',"it's",'e','a\tb','f','é','g','a;b')) | to_csv(named_struct('a','x\\"y','b','"','c',',')) | to_csv(named_struct('a',-0.0D,'b',0.1F,'c',CAST(1.50 AS DECIMAL(5,2)),'d',CAST(5 AS TINYINT)))
"""
GENERATORS = """
explode(a) | explode(t) | explode(m) | explode(ss) | explode(nn) | explode(mm) | explode_outer(a) | explode_outer(m) | explode_outer(nn) | posexplode(a) | posexplode(m) | posexplode_outer(t) | posexplode_outer(m) | posexplode_outer(ss) | inline(ss) | inline_outer(ss) | inline(mm['p']) | explode(a) AS x | explode(m) AS (x, y) | posexplode(a) AS (at, x) | posexplode_outer(m) AS (at, x, y) | inline(ss) AS (p, q) | explode(split(k, '')) | explode(map_keys(m)) | explode(nn[0]) | explode_outer(nn[0]) | explode(ss.x) | posexplode(mm['p'].v)
explode(m) AS x | posexplode(a) AS x | explode(a) AS (x, y) | inline(ss) AS p | explode(i) | explode(st) | explode(k) | explode(NULL) | explode() | explode(a, t) | inline(a) | inline(m) | explode(explode(nn)) | explode(a) + 1 | upper(explode(t)) | posexplode(i) | explode(DISTINCT a)
stack(2, i, 1, 2, 3) | stack(2, i, 1, 2) | stack(3, i) | stack(1, i, k) | stack(2, k, i, 'x', 5) AS (s, n) | stack(2, i, k) | stack(2, NULL, i) | stack(2, i, NULL) | stack(0, i) | stack(-1, i) | stack(i, 1) | stack(2) | stack(2, a, NULL) | stack(2, 1, 1.5) | stack(2, 1, 1L) | stack(2, i, i / 1) | stack(1, NULL) | stack('2', i, 1)
"""
GENERATORS_JSON = """
json_tuple(j, 'a') | json_tuple(j, 'a', 'b') | json_tuple(j, 'a', 'b', 'c', 'd', 'n') | json_tuple(j, f) | json_tuple(j, f, 'b', f) | json_tuple(j, 'a', 'a') AS (x, y) | json_tuple(j, 'A', 'a b', 'a.b', '', 'é') | json_tuple(j, NULL, 'a') | json_tuple(NULL, 'a') | json_tuple('{"a":{"b":[1,{"c":"x"}]}}', 'a') | json_tuple(j) | json_tuple() | json_tuple(j, n) | json_tuple(5, 'a') | json_tuple(j, 'a', 'b') AS x
explode(json_object_keys(j)) | posexplode_outer(json_object_keys(j)) AS (at, k)
"""
AGGREGATES = """
count(*) | count(i) | count(1) | count(i, d) | count(DISTINCT i) | count(DISTINCT d) | count(DISTINCT e) | count_if(i > 0) | count_if(b) | sum(i) | sum(y) | sum(s) | sum(x) | sum(z) | sum(d) | sum(e) | sum(f) | sum(DISTINCT j) | sum(l) | avg(i) | avg(l) | avg(d) | avg(e) | avg(x) | avg(z) | avg(f) | mean(y) | avg(DISTINCT j)
min(i) | max(i) | min(d) | max(d) | min(e) | max(e) | min(f) | max(f) | min(x) | max(w) | min(b) | max(b) | min(l) | max(y) | stddev(i) | stddev(j) | std(y) | stddev_samp(s) | stddev_pop(j) | variance(y) | var_samp(s) | var_pop(j) | covar_pop(j, y) | covar_samp(j, y) | corr(j, y) | corr(j, s)
bool_and(b) | bool_or(b) | every(c) | some(c) | any(b) | bit_and(i) | bit_or(j) | bit_xor(i) | median(i) | median(j) | median(x) | percentile(j, 0.25) | percentile(y, 0.9) | approx_percentile(j, 0.5) | percentile_approx(i, 0.25) | percentile_approx(x, 0.9) | approx_percentile(d, 0.0) | approx_percentile(j, 1.0, 100) | approx_count_distinct(i) | approx_count_distinct(x)
count(i) FILTER (WHERE i > 0) | sum(j) FILTER (WHERE b) | avg(j) FILTER (WHERE j > 100) | count(*) FILTER (WHERE i IS NULL) | sum(j) / count(*) | round(avg(j), 1) | sum(i) + sum(j) | max(i) - min(i) | sum(j) * 1.5 | coalesce(sum(j) FILTER (WHERE false), 0) | avg(j) > 1 | count(*) * 2 | sum(i + j) | sum(x * 2) | count(DISTINCT b) | min(i + 0L) | sum('1') | 100 * count_if(b) / count(*) | CASE WHEN count(*) > 5 THEN 'many' ELSE 'few' END | 1
sum(l + 0) | sum(w) | avg(w)
max_by(j, i) | min_by(j, i) | max_by(d, l) | min_by(b, l) | max_by(i, d) | min_by(i, d) | max_by(i, e) | min_by(i, e) | max_by(s, x) | min_by(y, f) | max_by(x, w) | min_by(b, s) | max_by(j, i) FILTER (WHERE b) | max_by(j, i) + 1 | max_by(i, i + 0L) | max_by(NULL, i) | max_by(i, NULL) | max_by(i, '5') | min_by('a', i) | max_by(f, l) | max_by(i + 1, -l)
regr_count(j, y) | regr_avgx(j, y) | regr_avgy(j, y) | regr_slope(j, y) | regr_intercept(j, y) | regr_r2(j, y) | regr_sxx(j, y) | regr_syy(j, y) | regr_sxy(j, y) | regr_slope(y, j) | regr_intercept(y, s) | regr_r2(y, s) | regr_sxy(y, s) | regr_avgx(s, x) | regr_avgy(x, s) | regr_slope(x, j) | regr_slope('1', j) | regr_count('1', j) | regr_slope(j, 1) | regr_slope(1, j) | regr_intercept(j, 1) | regr_intercept(1, j) | regr_r2(j, 1) | regr_r2(1, j) | regr_sxx(j, 1) | regr_syy(1, j) | regr_sxy(j, 1) | regr_slope(j, y) FILTER (WHERE b) | regr_r2(j, y) FILTER (WHERE j = 2) | regr_count(j, y) FILTER (WHERE c) | round(regr_slope(j, y), 3) | regr_count(NULL, j) | regr_slope(NULL, j) | regr_avgx(b, j) | regr_r2(y, j) * 2
count(DISTINCT i, j) | count(DISTINCT b, c) | count(DISTINCT c, j) | count(DISTINCT e, b) | count(DISTINCT j, 1) | count(DISTINCT d, e, f) | count(DISTINCT j, b) FILTER (WHERE i > 0) | count(DISTINCT j, NULL) | count(DISTINCT x, 'a')
any_value(1) | any_value(j * 0) | any_value('x') | any_value(i * 0) FILTER (WHERE i IS NULL) | any_value(j * 0, true) | any_value(j * 0) IGNORE NULLS | any_value(j = j)
avg(DISTINCT l) | avg(DISTINCT e) | sum(DISTINCT e) | avg(DISTINCT f) | sum(DISTINCT w) | sum(DISTINCT x) | approx_count_distinct(f) | approx_count_distinct(d) | approx_count_distinct(b) | approx_count_distinct(l)
max(i / j) FILTER (WHERE j <> 0) | sum(i + j) FILTER (WHERE false) | sum(1 / j) FILTER (WHERE j <> 0 AND b) | count(*) FILTER (WHERE j <> 0) | max(i div j) FILTER (WHERE j <> 0) | sum(CAST(w AS DECIMAL(38,18))) | sum(CAST(i AS DECIMAL(38,0))) | sum(z * z) | max(e) | min(e)
corr(y, s) | corr(y, 1) | corr(1, y) | corr(d, e) | corr(i, i) | corr(x, z) | corr(y, e) | corr(NULL, y)
"""
AGGREGATE_TEXT = """
count(s) | min(s) | max(s) | count(DISTINCT t) | sum(n) | avg(m) | min(n) | max(m) | collect_list(n) | array_agg(t) | median(n) | count_if(s LIKE 'a%') | min(length(s)) | stddev(n) | percentile(n, 0.5) | approx_count_distinct(s) | size(collect_set(m))
max_by(s, n) | min_by(s, n) | min_by(t, s) | max_by(n, s) | max_by(t, m) | count(DISTINCT s, t) | count(DISTINCT t, m) | any_value(s) FILTER (WHERE s = 'abc') | sum(n) FILTER (WHERE t IS NULL)
listagg(s) WITHIN GROUP (ORDER BY s) | listagg(s, ',') WITHIN GROUP (ORDER BY n, s) | listagg(s, ', ') WITHIN GROUP (ORDER BY s DESC) | string_agg(t, '-') WITHIN GROUP (ORDER BY s) | string_agg(t) WITHIN GROUP (ORDER BY s DESC NULLS FIRST) | listagg(t, ';') WITHIN GROUP (ORDER BY m ASC NULLS LAST, s) | listagg(t, ';') WITHIN GROUP (ORDER BY n DESC, s) | listagg(DISTINCT t, '|') WITHIN GROUP (ORDER BY t) | listagg(DISTINCT t) WITHIN GROUP (ORDER BY t DESC) | listagg(DISTINCT t, ',') WITHIN GROUP (ORDER BY s) | listagg(n, ';') WITHIN GROUP (ORDER BY n) | listagg(n, ';') WITHIN GROUP (ORDER BY s) | listagg(DISTINCT n, ';') WITHIN GROUP (ORDER BY n) | listagg(s, NULL) WITHIN GROUP (ORDER BY s) | listagg(s, '') WITHIN GROUP (ORDER BY length(s), s) | listagg(s, ',') WITHIN GROUP (ORDER BY s) FILTER (WHERE n > 1) | length(listagg(s, ',') WITHIN GROUP (ORDER BY s)) | listagg(s, t) WITHIN GROUP (ORDER BY s) | listagg(CAST(t AS BINARY), X'2c') WITHIN GROUP (ORDER BY s) | listagg(s, 1) WITHIN GROUP (ORDER BY s) | listagg(upper(s), concat(',', ' ')) WITHIN GROUP (ORDER BY upper(s)) | listagg(true, ',') WITHIN GROUP (ORDER BY s) | listagg(NULL, ',') WITHIN GROUP (ORDER BY s)
sum(CAST(s AS INT)) FILTER (WHERE s RLIKE '^[0-9]+$') | count(DISTINCT s) FILTER (WHERE s RLIKE 'a$') | avg(DISTINCT '9007199254740993') | avg(DISTINCT n)
"""
AGGREGATE_TIME = """
min(ts) | max(ts) | min(dt) | max(dt) | count(DISTINCT dt) | approx_percentile(dt, 0.5) | approx_percentile(ts, 0.5) | count(ts) | max(ts) FILTER (WHERE n > 0) | datediff(max(dt), min(dt)) | collect_list(dt)
max_by(n, ts) | min_by(n, ts) | min_by(ts, n) | max_by(dt, ts) | min_by(dt, us) | max_by(u, dt) | count(DISTINCT dt, n) | listagg(u, ',') WITHIN GROUP (ORDER BY ts) | listagg(u, ',') WITHIN GROUP (ORDER BY dt DESC NULLS LAST) | listagg(dt, ',') WITHIN GROUP (ORDER BY dt) | regr_slope(n, day(dt))
"""
AGGREGATE_NESTED = """
max_by(a, i) | min_by(a, i) | max_by(st, i) | min_by(st, i) | max_by(m, i) | max_by(t, k) | count(DISTINCT k, i) | listagg(k, '+') WITHIN GROUP (ORDER BY i DESC) | max_by(i, a)
"""
# Aggregates run over the rows for which this holds: all, one, none, and none that is NULL.
FILTERS = {
    "nums": ["true", "i = 5", "i = 123456", "j BETWEEN -5 AND 7 AND e < 100"],
    "text": ["true", "s = 'abc'", "s = 'none'"],
    "time": ["true", "n = 1", "n = 1000"],
    "nested": ["true", "i = 1", "i = 77"],
}
TOLERANT = ["sin", "cos", "tan", "exp", "ln(", "log", "pow", "cbrt", "hypot", "atan", "degrees", "radians",
            "std", "var", "corr", "avg(", "mean(", "months_between", "sum(d", "sum(e", "sum(f", "percentile(", "median(", "regr_"]


def expressions(block):
    out = []
    for line in block.strip().splitlines():
        # Items are separated by " | ". In "i | j" and "1 | 2 ^" the " | " is an operator, so these two are protected.
        out += [e.strip() for e in line.replace("i | j", "i \0 j").replace("1 | 2 ^", "1 \0 2 ^").split(" | ")]
    return [e.replace("\0", "|") for e in out if e]


def encode(value):
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return {"float": repr(value)}
    if isinstance(value, decimal.Decimal):
        return {"decimal": format(value, "f")}
    if isinstance(value, datetime.datetime):
        since = value - datetime.datetime(1970, 1, 1)
        return {"micros": (since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds}
    if isinstance(value, datetime.date):
        return {"days": (value - datetime.date(1970, 1, 1)).days}
    if isinstance(value, (bytes, bytearray)):
        return {"hex": bytes(value).hex()}
    if isinstance(value, dict):
        return {"map": [[encode(k), encode(v)] for k, v in value.items()]}
    if hasattr(value, "asDict"):
        return {"struct": [encode(v) for v in value]}
    if isinstance(value, list):
        return {"list": [encode(v) for v in value]}
    raise TypeError(type(value))


def error_of(e):
    condition = getattr(e, "getCondition", lambda: None)()
    return condition or type(e).__name__


def record_scalar(frames, table, text):
    whole, rows = frames[table]
    answer = {"table": table, "sql": text}
    try:
        selected = whole.selectExpr("__row", text)
        answer["name"] = selected.columns[1]
        answer["type"] = selected.schema[1].dataType.simpleString()
    except Exception as e:
        return answer | {"refused": error_of(e)}
    try:
        answer["values"] = [encode(r[1]) for r in sorted(selected.collect(), key=lambda r: r[0])]
    except Exception:
        answer["values"] = []
        for row in rows:
            try:
                answer["values"].append(encode(row.selectExpr(text).collect()[0][0]))
            except Exception as e:
                answer["values"].append({"error": error_of(e)})
    return answer


def record_generator(frames, table, text):
    """For each row, the rows that are made of it."""
    whole, rows = frames[table]
    answer = {"table": table, "sql": text}
    try:
        selected = whole.selectExpr("__row", text)
        answer["names"] = selected.columns[1:]
        answer["types"] = [f.dataType.simpleString() for f in selected.schema][1:]
    except Exception as e:
        return answer | {"refused": error_of(e)}
    answer["rows"] = []
    for row in rows:
        try:
            answer["rows"].append([[encode(v) for v in r] for r in row.selectExpr(text).collect()])
        except Exception as e:
            answer["rows"].append({"error": error_of(e)})
    return answer


def record_aggregate(frames, table, where, text):
    from pyspark.sql.functions import expr

    answer = {"table": table, "where": where, "sql": text}
    try:
        grouped = frames[table][0].where(where).agg(expr(text))
        answer["name"] = grouped.columns[0]
        answer["type"] = grouped.schema[0].dataType.simpleString()
    except Exception as e:
        return answer | {"refused": error_of(e)}
    try:
        answer["values"] = [encode(r[0]) for r in grouped.collect()]
    except Exception as e:
        answer["values"] = [{"error": error_of(e)}]
    return answer


def session():
    from pyspark.sql import SparkSession

    logging.getLogger("SQLQueryContextLogger").disabled = True

    spark = (
        SparkSession.builder.master("local[1]")
        .config("spark.sql.ansi.enabled", "true")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", "1")
        .config("spark.driver.extraJavaOptions", "-Duser.timezone=UTC")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("OFF")
    return spark


def frames(spark):
    """By table: all rows, and each row alone."""
    out = {}
    for name, (columns, rows) in TABLES.items():
        ddl = ", ".join(f"`{c}` STRING" for c in columns) + ", __row INT"
        data = [tuple(r) + (k,) for k, r in enumerate(rows)]
        raw = spark.createDataFrame(data, ddl).coalesce(1)
        casts = [f"CAST(`{c}` AS {t}) AS `{c}`" for c, t in columns.items()] + ["__row"]
        whole = raw.selectExpr(*casts).cache()
        whole.count()
        out[name] = (whole, [whole.where(f"__row = {k}") for k in range(len(rows))])
    ddl, rows = NESTED
    whole = spark.createDataFrame([{**r, "__row": k} for k, r in enumerate(rows)], ddl + ", __row INT").coalesce(1).cache()
    out["nested"] = (whole, [whole.where(f"__row = {k}") for k in range(len(rows))])
    return out


def main():
    import pyspark

    all_frames = frames(session())
    answers, aggregates = [], []
    for table, block in [("nums", NUMS), ("text", TEXT), ("time", TIME), ("casts", CASTS), ("nested", NESTED_EXPRESSIONS),
                         ("json", JSON), ("nested", NESTED_JSON)]:
        for text in expressions(block):
            answers.append(record_scalar(all_frames, table, text))
        print(table, len(answers), flush=True)
    for table, block in [("nums", AGGREGATES), ("text", AGGREGATE_TEXT), ("time", AGGREGATE_TIME), ("nested", AGGREGATE_NESTED)]:
        for text in expressions(block):
            for where in FILTERS[table]:
                aggregates.append(record_aggregate(all_frames, table, where, text))
    print("aggregates", len(aggregates), flush=True)
    generators = []
    for table, block in [("nested", GENERATORS), ("json", GENERATORS_JSON)]:
        generators += [record_generator(all_frames, table, text) for text in expressions(block)]
    print("generators", len(generators), flush=True)
    for answer in answers + aggregates:
        if any(t in answer["sql"] for t in TOLERANT):
            answer["tolerance"] = 1e-12
    out = {
        "spark": pyspark.__version__,
        "tables": {n: {"columns": list(c.items()), "rows": r} for n, (c, r) in TABLES.items()},
        "nested": {"ddl": NESTED[0], "rows": NESTED[1]},
        "answers": answers,
        "aggregates": aggregates,
        "generators": generators,
    }
    path = pathlib.Path(__file__).with_name("spark_answers.json")
    lines = json.dumps(out, ensure_ascii=False, separators=(",", ":")).replace('},{"table"', '},\n{"table"')
    path.write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
