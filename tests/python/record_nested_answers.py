"""Records what a real Spark 4.0.0 answers to expressions that build and change arrays, maps and structs: `spark_answers_nested.json`.

See `record_spark_answers.py`, which says how to run it.
"""

import json
import pathlib

from record_spark_answers import expressions, record_aggregate, record_scalar, session

DDL = (
    "i INT, l BIGINT, d DOUBLE, k STRING, u STRING, x DECIMAL(10,2), b BOOLEAN, dt DATE, ts TIMESTAMP, bin BINARY, a ARRAY<INT>, c ARRAY<INT>, "
    "f ARRAY<DOUBLE>, s ARRAY<STRING>, q ARRAY<BOOLEAN>, dd ARRAY<DATE>, tt ARRAY<TIMESTAMP>, xx ARRAY<DECIMAL(10,2)>, nn ARRAY<ARRAY<INT>>, "
    "ss ARRAY<STRUCT<x: INT, y: STRING>>, st STRUCT<x: INT, y: STRING>, su STRUCT<x: INT, y: STRING>, m MAP<STRING, INT>, n MAP<STRING, INT>, "
    "im MAP<INT, STRING>, h ARRAY<STRUCT<key: STRING, value: STRING>>, mm MAP<STRING, ARRAY<INT>>"
)
ROWS = [
    {
        "i": 1,
        "l": 3,
        "d": 1.5,
        "k": "p",
        "u": ",",
        "x": "12.34",
        "b": True,
        "dt": "2024-02-28",
        "ts": "2024-02-29T12:34:56.789Z",
        "bin": "YWI=",
        "a": [3, 1, 2, 3],
        "c": [2, 5, 2],
        "f": [1.5, "NaN", -0.0, 0.0, "NaN"],
        "s": ["b", "a", "", "é"],
        "q": [True, False],
        "dd": ["2024-01-31", "1969-12-31"],
        "tt": ["2024-01-31T01:02:03.5Z"],
        "xx": ["1.50", "-2.00"],
        "nn": [[1, 2], [], [3]],
        "ss": [{"x": 2, "y": "b"}, {"x": 1, "y": None}],
        "st": {"x": 1, "y": "one"},
        "su": {"x": 1, "y": "two"},
        "m": {"p": 1, "q": 2},
        "n": {"z": 9},
        "im": {"1": "one", "-1": "minus"},
        "h": [{"key": "trace", "value": "t1"}, {"key": "other", "value": None}],
        "mm": {"p": [1, 2], "q": []},
    },
    {
        "i": 0,
        "l": 0,
        "d": 0.0,
        "k": "",
        "u": "",
        "x": "0.00",
        "b": False,
        "dt": "1970-01-01",
        "ts": "1970-01-01T00:00:00Z",
        "bin": "",
        "a": [],
        "c": [],
        "f": [],
        "s": [],
        "q": [],
        "dd": [],
        "tt": [],
        "xx": [],
        "nn": [],
        "ss": [],
        "st": {"x": None, "y": None},
        "su": {"x": None, "y": None},
        "m": {},
        "n": {},
        "im": {},
        "h": [],
        "mm": {},
    },
    {},
    {
        "i": -1,
        "l": -2,
        "d": "NaN",
        "k": "q",
        "u": "-",
        "x": "-0.05",
        "b": None,
        "dt": "2024-03-31",
        "ts": "1969-12-31T23:59:59.999999Z",
        "bin": "/w==",
        "a": [None, 5, None, -7],
        "c": [None, 5],
        "f": [None, 0.0, "Infinity", "-Infinity"],
        "s": [None, "x", "x"],
        "q": [None, True],
        "dd": [None, "2024-12-31"],
        "tt": [None],
        "xx": [None, "0.05"],
        "nn": [None, [None, 4], [1, 2]],
        "ss": [None, {"x": None, "y": "b"}, {"x": 2, "y": "b"}],
        "st": {"x": 2, "y": None},
        "su": None,
        "m": {"p": None, "r": 5},
        "n": {"p": 4},
        "im": {"0": None},
        "h": [{"key": "trace", "value": "a"}, {"key": "trace", "value": "b"}],
        "mm": {"p": None, "z": [None]},
    },
    {
        "i": 2,
        "l": 5,
        "d": -0.0,
        "k": "z",
        "u": "; ",
        "x": "99999999.99",
        "b": True,
        "dt": "2023-01-31",
        "ts": "2023-12-31T22:00:00Z",
        "bin": "AA==",
        "a": [9],
        "c": [9, 9],
        "f": [2.5],
        "s": ["only"],
        "q": [False],
        "dd": ["9999-12-31"],
        "tt": ["9999-12-31T23:59:59.999999Z"],
        "xx": ["99999999.99"],
        "nn": [[5]],
        "ss": [{"x": 9, "y": "z"}],
        "st": {"x": 1, "y": "one"},
        "su": {"x": 1, "y": "one"},
        "m": {"z": 26},
        "n": {"z": 26, "a": 0},
        "im": {"2": "two"},
        "h": [None],
        "mm": {"z": [3, 4, 5]},
    },
    {
        "i": -3,
        "l": 2147483648,
        "d": 1e300,
        "k": "p",
        "u": "p",
        "x": "1.00",
        "b": False,
        "dt": "2024-01-01",
        "ts": "2024-01-01T00:00:00Z",
        "bin": "Yg==",
        "a": [2147483647, 1, -2147483648],
        "c": [1],
        "f": [1e300, -1e300, 0.1],
        "s": ["a,b", "NULL", "null"],
        "q": [True, True, None],
        "dd": ["2024-02-29", "2024-02-29"],
        "tt": ["2024-02-29T00:00:00Z", "1969-12-31T23:59:59.999999Z"],
        "xx": ["1.00", "1.00"],
        "nn": [[2147483647], [1], [1, 0], None],
        "ss": [{"x": 1, "y": "a"}, {"x": 1, "y": "a"}],
        "st": {"x": -5, "y": ""},
        "su": {"x": 5, "y": ""},
        "m": {"p": 7, "": 0},
        "n": {"q": None},
        "im": {"7": "p"},
        "h": [{"key": None, "value": "v"}],
        "mm": {"p": [7]},
    },
]

BUILD = """
struct(i, k) | struct(i) | struct(1, 'x') | struct(i + 1, k AS name, st.y) | struct(st.x, a) | struct() | struct(NULL) | struct(i AS q, 1 AS w).q | struct(a[0] AS first, m['p']) | struct(st.*) | struct(i, i) | named_struct('a', i, 'b', k) | named_struct('a', 1).a | named_struct('a') | named_struct(k, 1) | named_struct() | named_struct('a', NULL) | named_struct('A', i, 'b', st).b.y | named_struct('a', 1, 'a', 2) | (i, k) | (i, k).col1 | named_struct(NULL, 1) | named_struct('a b', 1)
array(i, 2) | array(i, l) | array(i, d) | array(k, i) | array(1, NULL) | array() | array(NULL) | array('a', 1) | array(a, c) | array(a, array(1L)) | array(st, su) | array(x, i) | array(dt, ts) | array(i, b) | array(m, n) | array(st, named_struct('x', 1L, 'y', 'b')) | array(named_struct('a', 1), named_struct('b', 2)) | array(array()) | array(struct(1), struct(2)) | array(1.5, 2) | array(i / i) | array(NULL, k) | array(dt, '2024-01-01') | array(i, '5')
map('a', 1) | map(k, i) | map(k, i, 'p', 2) | map('a', 1, 'a', 2) | map() | map('a') | map(i, l, 2, 3) | map('a', i, 'b', d) | map(1, 'a', 2L, 'b') | map(NULL, 1) | map('a', NULL) | map(st, 1) | map(a, i) | map(m, 1) | map(d, 1) | map(d, 1, 0.0D, 2) | map('a', 1, 2, 3) | map(k, a) | map(k, i)['p'] | map(k, st).p.x | map('a', 1).a
map_from_arrays(array('a', 'b'), array(1, 2)) | map_from_arrays(s, a) | map_from_arrays(a, s) | map_from_arrays(array(1), array(1, 2)) | map_from_arrays(NULL, a) | map_from_arrays(c, c) | map_from_arrays(array(k), array(i)) | map_from_arrays(array(1, NULL), array(1, 2)) | map_from_arrays(i, a) | map_from_arrays(array(st), array(1)) | map_from_arrays(array(1, 1), array(1, 2))
map_from_entries(h) | map_from_entries(ss) | map_from_entries(array(struct(1, 'a'), struct(2, 'b'))) | map_from_entries(array(struct(1, 'a'), NULL)) | map_from_entries(array(struct(1, 'a'), struct(1, 'b'))) | map_from_entries(a) | map_from_entries(array(struct(1))) | map_from_entries(NULL) | map_from_entries(map_entries(m)) | map_from_entries(array(struct(k, i))) | element_at(map_from_entries(h), 'trace') | map_from_entries(filter(h, e -> e.key = 'trace')) | map_from_entries(map_entries(map(NULL, 1)))
map_entries(m) | map_entries(im) | map_entries(mm) | map_entries(map()) | map_entries(a) | map_keys(m) | map_values(mm) | map_keys(map('a', 1)) | map_entries(NULL) | map_concat(m, n) | map_concat(m, map('new', 1)) | map_concat(m) | map_concat() | map_concat(m, NULL) | map_concat(m, im) | map_concat(map('a', 1), map('b', 2L)) | map_concat(m, a) | map_concat(map('a', 1), map('b', 2), map('c', NULL)) | map_contains_key(m, 'p') | map_contains_key(m, k) | map_contains_key(im, 1) | map_contains_key(im, 1L) | map_contains_key(m, NULL) | map_contains_key(m, 1) | map_contains_key(a, 1) | map_contains_key(map(st, 1), struct(1 AS x, 'one' AS y)) | map_contains_key(map(d, 1), double('NaN'))
element_at(a, 2) | element_at(a, -2) | element_at(a, 0) | element_at(a, i) | element_at(a, NULL) | element_at(a, l) | element_at(m, 'p') | element_at(m, k) | element_at(im, i) | element_at(im, 1L) | element_at(map(st, k), su) | element_at(m, NULL) | element_at(nn, 1) | element_at(ss, 1).y | element_at(nn, 1)[0] | try_element_at(a, 3) | try_element_at(a, 0) | try_element_at(a, i) | try_element_at(m, k) | try_element_at(nn, -1) | a[0] | a[i] | a[-1] | a[l] | nn[0][0] | ss[0].x | ss[0] | mm['p'][0] | m[k] | m['p'] | im[1] | im[i] | m[NULL] | get(a, 0) | get(a, i) | get(a, -1) | get(nn, 0) | get(a, NULL) | get(m, 'p') | array(1, 2, 3)[i] | map('x', 1)['x'] | map(1, 'a')['1'] | array(1, 2)['1'] | im['1'] | element_at(im, '1')
"""
ARRAYS = """
sort_array(a) | sort_array(a, false) | sort_array(a, true) | sort_array(f) | sort_array(f, false) | sort_array(s) | sort_array(s, false) | sort_array(nn) | sort_array(ss) | sort_array(ss, false) | sort_array(q) | sort_array(dd) | sort_array(xx, false) | sort_array(a, b) | sort_array(array()) | sort_array(NULL) | sort_array(array(NULL, 1)) | sort_array(i) | sort_array(array(m)) | sort_array(array(struct(a, i), struct(c, i)))
array_sort(a) | array_sort(f) | array_sort(s) | array_sort(nn) | array_sort(ss) | array_sort(q) | array_sort(tt) | array_sort(array(m)) | array_sort(NULL) | array_sort(array()) | array_sort(i) | array_sort(array(NULL, NULL, 2, 1))
array_sort(a, (p, q) -> q - p) | array_sort(c, (p, q) -> CASE WHEN p < q THEN 1 WHEN p > q THEN -1 ELSE 0 END) | array_sort(s, (p, q) -> length(p) - length(q)) | array_sort(coalesce(s, array()), (p, q) -> CASE WHEN p IS NULL AND q IS NULL THEN 0 WHEN p IS NULL THEN 1 WHEN q IS NULL THEN -1 WHEN p < q THEN -1 WHEN p > q THEN 1 ELSE 0 END) | array_sort(ss, (p, q) -> coalesce(p.x, 0) - coalesce(q.x, 0)) | array_sort(a, (p, q) -> 0) | array_sort(a, (p, q) -> p < q) | array_sort(a, (p, q) -> 1L) | array_sort(a, p -> 1) | array_sort(array(3, 1, 2), (p, q) -> NULL) | array_sort(array(3, 1, 2), (p, q) -> i * (p - q)) | array_sort(array(1, 0), (p, q) -> 1 / (p * q)) | array_sort(nn, (p, q) -> size(p) - size(q)) | array_sort(array('bc', 'ab', 'dc'), (left, right) -> case when left < right then -1 when left > right then 1 else 0 end)
array_join(s, ',') | array_join(s, ',', '-') | array_join(s, u) | array_join(s, u, k) | array_join(a, ',') | array_join(s, NULL) | array_join(s, ',', NULL) | array_join(array('a', 'b'), '') | array_join(array(), ',') | array_join(NULL, ',') | array_join(dd, ';') | array_join(s, 1) | array_join(s) | array_join(xx, ',') | array_join(array(1, 'a'), '')
concat(a, c) | concat(a, array(1)) | concat(a, array(1L)) | concat(a, NULL) | concat(s, array('z')) | concat(nn, nn) | concat(a, s) | concat(a) | concat(a, 'x') | concat(array(), a) | concat(ss, array(st)) | concat(f, array(1)) | a || c | a || array(9) || c | concat(s, a)
concat_ws(',', s) | concat_ws(',', s, 'x') | concat_ws(u, s, k, array('q')) | concat_ws(NULL, s) | concat_ws(',') | concat_ws(',', a) | concat_ws(',', array('a', NULL, 'b'), NULL, 'c') | concat_ws(',', array()) | concat_ws('-', s, s) | concat_ws(',', nn)
array_contains(a, 3) | array_contains(a, i) | array_contains(a, NULL) | array_contains(f, double('NaN')) | array_contains(f, 0.0D) | array_contains(nn, array(1, 2)) | array_contains(ss, struct(1 AS x, 'a' AS y)) | array_contains(ss, st) | array_contains(s, k) | array_contains(a, 3L) | array_contains(a, 3.0) | array_contains(a, 'x') | array_contains(s, 1) | array_contains(nn, array()) | array_contains(array(), 1) | array_contains(array(m), m) | array_contains(array(1L), i) | array_contains(i, 1) | array_contains(dd, dt) | array_contains(xx, 1.5) | array_contains(xx, 1)
array_distinct(a) | array_distinct(c) | array_distinct(f) | array_distinct(s) | array_distinct(nn) | array_distinct(ss) | array_distinct(q) | array_distinct(array(m)) | array_distinct(NULL) | array_distinct(array()) | array_distinct(i) | array_distinct(array(NULL, NULL, 1)) | array_distinct(concat(nn, nn))
array_max(a) | array_max(f) | array_max(s) | array_max(nn) | array_max(ss) | array_max(q) | array_max(dd) | array_max(xx) | array_max(array(m)) | array_max(i) | array_max(array()) | array_max(array(NULL)) | array_min(a) | array_min(f) | array_min(s) | array_min(nn) | array_min(ss) | array_min(q) | array_min(tt) | array_min(xx) | array_min(array(0.0D, -0.0D)) | array_max(array(d, 1)) | array_min(NULL)
array_position(a, 3) | array_position(a, i) | array_position(a, NULL) | array_position(f, double('NaN')) | array_position(s, 'x') | array_position(nn, array(1, 2)) | array_position(ss, st) | array_position(a, 3L) | array_position(a, '3') | array_position(s, 1) | array_position(array(), 1) | array_position(NULL, 1) | array_position(array(m), m) | array_position(array(1L, 2L), i)
array_remove(a, 3) | array_remove(a, i) | array_remove(a, NULL) | array_remove(f, double('NaN')) | array_remove(f, 0.0D) | array_remove(s, 'x') | array_remove(nn, array(1, 2)) | array_remove(ss, named_struct('x', 1, 'y', 'a')) | array_remove(a, 3L) | array_remove(s, 1) | array_remove(array(), 1) | array_remove(NULL, 1) | array_remove(array(1L), i)
array_union(a, c) | array_union(a, a) | array_union(f, array(0.0D, -0.0D, double('NaN'))) | array_union(s, array('x')) | array_union(nn, array(array(1, 2))) | array_union(ss, array(st)) | array_union(a, NULL) | array_union(a, array(1L)) | array_union(a, s) | array_union(array(m), array(n)) | array_union(array(), a) | array_union(a, array(NULL)) | array_intersect(a, c) | array_intersect(c, a) | array_intersect(f, array(0.0D, double('NaN'))) | array_intersect(s, array('x', NULL)) | array_intersect(nn, array(array(1, 2), NULL)) | array_intersect(ss, ss) | array_intersect(a, NULL) | array_intersect(a, array()) | array_intersect(a, array(3L)) | array_except(a, c) | array_except(c, a) | array_except(f, array(0.0D)) | array_except(s, array('x')) | array_except(nn, array(array(1, 2))) | array_except(ss, array(st)) | array_except(a, NULL) | array_except(a, array(NULL)) | array_except(a, array()) | array_except(a, array(3L)) | array_except(concat(a, a), c)
array_append(a, 1) | array_append(a, NULL) | array_append(a, i) | array_append(NULL, 1) | array_append(a, 1L) | array_append(s, k) | array_append(nn, a) | array_append(ss, st) | array_append(a, 'x') | array_append(array(), 1) | array_append(i, 1) | array_append(s, 1) | array_append(a, 1.5) | array_prepend(a, 1) | array_prepend(a, NULL) | array_prepend(s, k) | array_prepend(nn, c) | array_prepend(a, i) | array_prepend(a, 1L) | array_prepend(array(), 1) | array_prepend(NULL, 'a')
array_insert(a, 1, 7) | array_insert(a, 2, 7) | array_insert(a, 6, 7) | array_insert(a, -1, 7) | array_insert(a, -2, 7) | array_insert(a, -6, 7) | array_insert(a, 0, 7) | array_insert(a, i, 7) | array_insert(a, NULL, 7) | array_insert(a, 1, NULL) | array_insert(NULL, 1, 7) | array_insert(s, 2, k) | array_insert(nn, 1, a) | array_insert(a, l, 7) | array_insert(a, 1, 7L) | array_insert(a, 1, 'x') | array_insert(a, 1) | array_insert(a, 10, i)
array_compact(a) | array_compact(s) | array_compact(nn) | array_compact(ss) | array_compact(f) | array_compact(array(NULL)) | array_compact(NULL) | array_compact(i) | array_repeat(i, 3) | array_repeat(k, i) | array_repeat(a, 2) | array_repeat(st, 2) | array_repeat(NULL, 2) | array_repeat(i, 0) | array_repeat(i, -5) | array_repeat(i, NULL) | array_repeat('x', l) | array_repeat(1, 2L) | array_repeat(1, '2') | array_size(a) | array_size(nn) | array_size(m) | array_size(NULL) | size(a) | size(m) | size(NULL) | cardinality(nn) | size(array()) | size(map()) | size(st)
arrays_overlap(a, c) | arrays_overlap(a, array(100)) | arrays_overlap(a, array(NULL)) | arrays_overlap(a, array()) | arrays_overlap(a, NULL) | arrays_overlap(f, array(double('NaN'))) | arrays_overlap(f, array(0.0D)) | arrays_overlap(s, array('x', 'y')) | arrays_overlap(nn, array(array(1, 2))) | arrays_overlap(ss, ss) | arrays_overlap(a, array(3L)) | arrays_overlap(a, s) | arrays_overlap(array(m), array(m)) | arrays_overlap(array(NULL), array(NULL)) | arrays_overlap(ss, array(su))
arrays_zip(a, c) | arrays_zip(a, s, f) | arrays_zip(a) | arrays_zip(a, NULL) | arrays_zip(array(1, 2), array('a')) | arrays_zip(a, array(9)) | arrays_zip(st.x) | arrays_zip() | arrays_zip(ss.x, ss.y) | arrays_zip(nn[0], c) | arrays_zip(m['p']) | arrays_zip(mm['p'], c) | arrays_zip(a, c).a | arrays_zip(a, a) | arrays_zip(a, c)[0].c
slice(a, 1, 2) | slice(a, 2, 10) | slice(a, -2, 2) | slice(a, -10, 2) | slice(a, 0, 1) | slice(a, 1, -1) | slice(a, 1, 0) | slice(a, i, 2) | slice(a, 1, i) | slice(a, NULL, 1) | slice(a, 1, NULL) | slice(NULL, 1, 1) | slice(s, 2, 1) | slice(nn, 1, 1) | slice(a, 100, 1) | slice(array(), 1, 1) | slice(a, 1L, 2L) | slice(ss, -1, 1) | slice(a, 1) | slice(array(1, 2, 3, 4), l, 2)
flatten(nn) | flatten(array(a, c)) | flatten(array(nn, nn)) | flatten(a) | flatten(NULL) | flatten(array()) | flatten(array(array(), a)) | flatten(array(array(), array())) | flatten(array(s, array('z'))) | flatten(flatten(array(nn))) | flatten(map_values(mm)) | reverse(a) | reverse(s) | reverse(nn) | reverse(ss) | reverse(k) | reverse(i) | reverse(NULL) | reverse(array()) | reverse(m) | shuffle(a)
sequence(1, 5) | sequence(5, 1) | sequence(1, 10, 3) | sequence(10, 1, -4) | sequence(1, 5, -1) | sequence(5, 1, 1) | sequence(1, 1) | sequence(1, 1, 0) | sequence(1, 2, 0) | sequence(i, 3) | sequence(i, l) | sequence(1, NULL) | sequence(NULL, 1) | sequence(1, 5, NULL) | sequence(1Y, 3Y) | sequence(1, 3L) | sequence(1S, 3) | sequence(i, 5, i) | sequence(1.5, 3) | sequence('1', 3) | sequence(1, 2147483647) | sequence(9223372036854775806, 9223372036854775807) | sequence(-128Y, 127Y, 100Y) | sequence(k, 'z') | sequence(0, 10, 2L) | sequence(1)
sequence(dt, date'2024-03-02') | sequence(dt, date'2024-06-01', interval 1 month) | sequence(date'2024-01-31', date'2024-05-31', interval 1 month) | sequence(date'2024-01-31', date'2023-10-01', interval -1 month) | sequence(date'2024-01-01', date'2024-01-10', interval 3 days) | sequence(date'2024-01-01', date'2024-01-02', interval 1 hour) | sequence(date'2024-01-10', date'2024-01-01') | sequence(date'2024-01-10', date'2024-01-01', interval 1 day) | sequence(date'2020-02-29', date'2024-02-29', interval 1 year) | sequence(ts, ts + interval 1 hour, interval 20 minutes) | sequence(ts, ts) | sequence(timestamp'2024-01-01 00:00:00', timestamp'2024-01-01 00:00:01', interval 250 milliseconds) | sequence(timestamp'2024-01-31 10:00:00', timestamp'2024-04-30 10:00:00', interval 1 month) | sequence(timestamp'2024-01-02 00:00:00', timestamp'2024-01-01 00:00:00', interval -6 hours) | sequence(timestamp'2024-01-02 00:00:00', timestamp'2024-01-04 00:00:00') | sequence(dt, ts) | sequence(date'2024-01-01', date'2024-03-01', interval 1 week) | sequence(date'2024-01-01', date'2024-01-03', 1) | sequence(1, 5, interval 1 day) | sequence(date'2024-01-01', timestamp'2024-01-02 12:00:00', interval 12 hours) | sequence(date'2024-01-01', date'2024-01-05', interval 0 days) | sequence(date'2024-01-01', '2024-01-03') | sequence(dt, dt, interval 1 month)
"""
CASTS = """
CAST(a AS STRING) | CAST(f AS STRING) | CAST(s AS STRING) | CAST(nn AS STRING) | CAST(ss AS STRING) | CAST(st AS STRING) | CAST(m AS STRING) | CAST(im AS STRING) | CAST(mm AS STRING) | CAST(dd AS STRING) | CAST(tt AS STRING) | CAST(xx AS STRING) | CAST(q AS STRING) | CAST(array() AS STRING) | CAST(map() AS STRING) | CAST(array(NULL) AS STRING) | CAST(struct(i, NULL, a) AS STRING) | CAST(array(bin) AS STRING) | a::STRING | string(a) | string(m) | CAST(h AS STRING) | CAST(array(m) AS STRING)
CAST(a AS ARRAY<BIGINT>) | CAST(a AS ARRAY<STRING>) | CAST(a AS ARRAY<TINYINT>) | TRY_CAST(a AS ARRAY<TINYINT>) | CAST(s AS ARRAY<INT>) | TRY_CAST(s AS ARRAY<INT>) | CAST(f AS ARRAY<INT>) | TRY_CAST(f AS ARRAY<INT>) | CAST(nn AS ARRAY<ARRAY<DOUBLE>>) | CAST(st AS STRUCT<p: BIGINT, q: STRING>) | CAST(st AS STRUCT<p: STRING, q: INT>) | TRY_CAST(st AS STRUCT<p: STRING, q: INT>) | CAST(st AS STRUCT<p: INT>) | CAST(ss AS ARRAY<STRUCT<p: DOUBLE, q: STRING>>) | CAST(m AS MAP<STRING, STRING>) | CAST(m AS MAP<STRING, DOUBLE>) | CAST(im AS MAP<STRING, STRING>) | CAST(im AS MAP<BIGINT, INT>) | TRY_CAST(im AS MAP<BIGINT, INT>) | CAST(m AS MAP<INT, INT>) | CAST(mm AS MAP<STRING, ARRAY<STRING>>) | CAST(a AS INT) | CAST(a AS MAP<INT, INT>) | CAST(k AS ARRAY<INT>) | CAST(array() AS ARRAY<INT>) | CAST(NULL AS ARRAY<INT>) | CAST(NULL AS STRUCT<a: INT>) | CAST(xx AS ARRAY<DECIMAL(5,1)>) | CAST(dd AS ARRAY<TIMESTAMP>) | CAST(tt AS ARRAY<DATE>) | CAST(array(1, 2) AS ARRAY<DECIMAL(3,1)>) | CAST(map() AS MAP<STRING, INT>) | CAST(struct(1, 'a') AS STRUCT<x: INT, y: STRING>)
st = su | st <> su | st < su | st <= su | st > su | st >= su | st <=> su | su <=> NULL | a = c | a <> c | a < c | a <= c | a > c | a >= c | a <=> c | a = a | nn < nn | nn = array(array(5)) | f = f | f < array(0.0D) | f = array(-0.0D) | array(0.0D) = array(-0.0D) | ss = ss | ss < array(st) | st = named_struct('x', 1, 'y', 'one') | st = struct(1, 'one') | struct(i, k) = struct(1, 'p') | (i, k) = (1, 'p') | st = struct(1L, 'one') | m = n | m <=> n | array(m) = array(n) | a = s | a = array(1L) | st = a | struct(i) < struct(l) | struct(d) = struct(d) | struct(1, NULL) = struct(1, NULL) | struct(NULL) < struct(1) | array(NULL) < array(1) | array(NULL) = array(NULL) | array(1, 2) < array(1, 2, 0) | array() < array(1) | s < array('b') | tt > array(timestamp'2024-01-01 00:00:00') | bin = bin
st IN (su, named_struct('x', 1, 'y', 'one')) | (i, k) IN ((1, 'p'), (2, 'z')) | a IN (c, array(9)) | a NOT IN (c) | st IN (NULL) | (i, k) IN ((1L, 'p')) | a BETWEEN array(1) AND array(4) | st IS NULL | st IS NOT NULL | su IS DISTINCT FROM st | greatest(a, c) | least(a, c) | greatest(st, su) | least(st, su) | nullif(st, su) | nullif(a, c) | coalesce(su, st) | coalesce(a, array()) | coalesce(a, array(1L)) | if(b, a, c) | if(b, st, su) | CASE WHEN i > 0 THEN a ELSE array(0) END | CASE st WHEN su THEN 'same' ELSE 'other' END | nvl(m, map()) | coalesce(m, map('a', 1L)) | if(b, st, named_struct('x', 1L, 'y', 'z')) | if(b, st, named_struct('p', 1, 'y', 'z')) | if(b, array(i), array(d)) | equal_null(st, su) | equal_null(a, c) | nvl2(a, st, su) | ifnull(ss, array()) | if(b, ss, array(struct(1, 'a'))) | array_contains(array(st), su)
"""
LAMBDAS = """
transform(a, x -> x + 1) | transform(a, x -> x * i) | transform(a, (x, j) -> x + j) | transform(a, (x, j) -> j) | transform(a, x -> 1) | transform(a, x -> NULL) | transform(a, x -> k) | transform(s, x -> upper(x)) | transform(s, x -> x || k) | transform(nn, x -> size(x)) | transform(nn, x -> transform(x, y -> y * 2)) | transform(nn, x -> transform(x, (y, j) -> y + j + size(x) + i)) | transform(ss, e -> e.x) | transform(ss, e -> struct(e.y, e.x + 1 AS n)) | transform(a, i -> i + 1) | transform(a, x -> x + x) | transform(a, X -> x) | transform(a, x -> 10 / x) | transform(c, x -> 10 / (x - i)) | transform(a, x -> x IS NULL) | transform(a, x -> coalesce(x, 0)) | transform(NULL, x -> x) | transform(array(), x -> x) | transform(array(1, 2, 3), x -> x * 2) | transform(i, x -> x) | transform(a) | transform(a, i) | transform(m, x -> x) | transform(a, (x, y, z) -> x) | transform(a, (x, x) -> x) | transform(a, x -> struct(x, i)) | transform(a, x -> array(x, i)) | transform(a, x -> map('v', x)) | transform(a, x -> CASE WHEN x > 2 THEN 'big' WHEN x IS NULL THEN 'none' ELSE k END) | transform(a, x -> CASE x + 1 WHEN 2 THEN 'two' WHEN i THEN 'i' END) | transform(a, x -> x BETWEEN i AND 3) | transform(a, x -> x + 1 BETWEEN i AND 3) | transform(a, x -> x IN (1, i)) | transform(a, x -> x + 1 IN (2, i, 4)) | transform(a, x -> if(x = 0, 0, 6 / x)) | transform(f, x -> round(x, 1)) | transform(f, x -> nanvl(x, 0.0D)) | transform(a, x -> unknown + 1) | transform(a, x -> y) | transform(a, x -> CAST(x AS STRING)) | transform(s, x -> CAST(x AS INT)) | transform(s, x -> TRY_CAST(x AS INT)) | transform(a, `my var` -> `my var` + 1) | transform(dd, x -> year(x)) | transform(tt, x -> date_trunc('DAY', x)) | transform(a, x -> x > 0 AND b) | transform(s, x -> x LIKE 'a%') | transform(s, x -> x RLIKE '^[a-z]$') | transform(s, x -> x LIKE k || '%') | transform(a, x -> nullif(x, i)) | transform(split(k || ',b', ','), x -> length(x)) | transform(st.x, x -> x) | transform(a, x -> a[0]) | transform(a, x -> size(a) + x) | transform(a, x -> get(c, x)) | transform(filter(a, x -> x > 1), x -> x - 1)[0] | transform(a, x -> x -> x) | x -> x | (x -> x) | upper(x -> x) | coalesce(x -> x, 1) | transform(x -> x, a) | size(x -> 1) | transform(ss, x -> x.nope) | transform(a, x -> x.y)
transform(nn, x -> filter(x, y -> y > i)) | transform(nn, x -> aggregate(x, 0, (acc, y) -> acc + y)) | transform(nn, x -> exists(x, y -> y = size(nn))) | transform(nn, x -> array_sort(x, (p, q) -> (q - p) * i)) | transform(nn, x -> zip_with(x, c, (p, q) -> coalesce(p, 0) + coalesce(q, i))) | transform(nn, x -> transform(x, x -> x + 1)) | transform(a, x -> transform(c, y -> x + y)) | transform(array(1, 2), x -> transform(array(10, 20), y -> transform(array(100), z -> x + y + z + i))) | transform(a, x -> CASE WHEN exists(c, y -> y = x) THEN 1 ELSE 0 END) | transform(nn, x -> if(size(x) > 0, transform(x, y -> y + 1), array(i))) | transform(map_entries(m), e -> e.key || '=' || e.value) | transform(a, x -> coalesce(nullif(x, 3), i)) | transform(nn, (x, j) -> transform(x, (y, j) -> y + j)) | transform(nn, (x, j) -> transform(x, (y, k2) -> y + j + k2)) | transform(a, x -> map(x, i)) | transform(a, x -> struct(x AS v, struct(x, k) AS w).w.k) | transform(nn, x -> x[0]) | transform(nn, x -> element_at(x, 1)) | transform(ss, x -> x.y IS NULL AND i > 0)
filter(a, x -> x > 1) | filter(a, x -> x > i) | filter(a, (x, j) -> j > 0) | filter(a, (x, j) -> j % 2 = 0 AND x > i) | filter(s, x -> x LIKE 'a%') | filter(s, x -> x IS NOT NULL) | filter(nn, x -> size(x) > 1) | filter(ss, e -> e.x = 1) | filter(a, x -> NULL) | filter(a, x -> true) | filter(a, x -> x) | filter(a, x -> 1 / x > 0) | filter(q, x -> x) | filter(NULL, x -> true) | filter(array(), x -> true) | filter(m, (k, v) -> v > 1) | filter(h, e -> e.key = 'trace') | filter(h, e -> e.key = 'trace')[0].value | filter(a, x -> x > 1 OR b) | filter(map_entries(m), e -> e.value > 1) | filter(nn, x -> exists(x, y -> y > 2)) | filter(a, x -> array_contains(c, x)) | size(filter(a, x -> x > 1)) | filter(a)
exists(a, x -> x > 2) | exists(a, x -> x > 100) | exists(a, x -> NULL) | exists(a, x -> x IS NULL) | exists(a, x -> 6 / x > 3) | exists(array(1, 0), x -> 1 / x > 0) | exists(array(0, 1), x -> 1 / x > 0) | exists(c, x -> x = i) | exists(q, x -> x) | exists(NULL, x -> true) | exists(array(), x -> true) | exists(a, (x, j) -> true) | exists(a, x -> x) | exists(s, x -> x = k) | exists(nn, x -> exists(x, y -> y = 4)) | forall(a, x -> x > 0) | forall(a, x -> x > -100) | forall(a, x -> NULL) | forall(a, x -> x IS NOT NULL) | forall(array(0, 1), x -> x <> 0 AND 1 / x > 0) | forall(array(1, 0), x -> 1 / x > 1) | forall(array(-1, 0), x -> 1 / x > 0) | forall(c, x -> x >= i) | forall(q, x -> x) | forall(NULL, x -> false) | forall(array(), x -> false) | forall(ss, e -> e.y = 'a') | exists(split(k, ''), x -> x = 'p') | exists(m, x -> true)
aggregate(a, 0, (acc, x) -> acc + x) | aggregate(a, 0, (acc, x) -> acc + coalesce(x, 0)) | aggregate(a, 0L, (acc, x) -> acc + x) | aggregate(a, 0, (acc, x) -> acc + x, acc -> acc * 10) | aggregate(a, i, (acc, x) -> acc + x + i, acc -> acc || k) | aggregate(f, 0.0D, (acc, x) -> acc + x) | aggregate(f, 0, (acc, x) -> acc + x) | aggregate(s, '', (acc, x) -> acc || coalesce(x, '-')) | aggregate(s, k, (acc, x) -> concat_ws(',', acc, x)) | aggregate(nn, 0, (acc, x) -> acc + coalesce(size(x), 0)) | aggregate(a, array(0), (acc, x) -> concat(acc, array(x))) | aggregate(a, named_struct('s', 0L, 'n', 0), (acc, x) -> named_struct('s', acc.s + coalesce(x, 0), 'n', acc.n + 1), acc -> acc.s / acc.n) | aggregate(a, struct(0 AS s, 0 AS n), (acc, x) -> struct(acc.s + 1 AS s, acc.n + 2 AS n)) | aggregate(a, 0, (acc, x) -> acc + 1L) | aggregate(a, NULL, (acc, x) -> x) | aggregate(a, CAST(NULL AS INT), (acc, x) -> coalesce(acc, x)) | aggregate(NULL, 0, (acc, x) -> acc) | aggregate(array(), 5, (acc, x) -> acc + x) | aggregate(array(1, 2, 3), 100, (acc, x) -> acc - x, acc -> acc + 0.5) | aggregate(a, 1, (acc, x) -> acc * 10 / x) | aggregate(a, 1, (acc, x) -> greatest(acc, x)) | reduce(a, 0, (acc, x) -> acc + 1) | reduce(a, 0, (acc, x) -> acc + 1, acc -> -acc) | aggregate(a, 0, acc -> acc) | aggregate(a, 0, (acc, x, y) -> acc) | aggregate(c, 1, (acc, x) -> acc + aggregate(c, 0, (p, q) -> p + coalesce(q, 0)) + i) | aggregate(a, x, (acc, y) -> acc + 1) | aggregate(xx, CAST(0 AS DECIMAL(10,2)), (acc, y) -> acc + y) | aggregate(xx, CAST(0 AS DECIMAL(38,2)), (acc, y) -> CAST(acc + y AS DECIMAL(38,2))) | aggregate(a, '', (acc, y) -> acc || y) | aggregate(array(1, 2), 0, (acc, x) -> acc + x) + i | aggregate(i, 0, (acc, x) -> acc) | aggregate(nn, array(), (acc, x) -> concat(acc, x)) | aggregate(a, true, (acc, x) -> acc AND x > 0) | aggregate(a, 2147483647, (acc, x) -> acc + x)
zip_with(a, c, (x, y) -> x + y) | zip_with(a, c, (x, y) -> coalesce(x, 0) * 10 + coalesce(y, 0) + i) | zip_with(a, s, (x, y) -> struct(x, y)) | zip_with(a, s, (x, y) -> y || x) | zip_with(a, NULL, (x, y) -> x) | zip_with(a, array(), (x, y) -> y) | zip_with(array(1, 2), array(0, 1), (x, y) -> x / y) | zip_with(a, c, x -> x) | zip_with(a, c, (x, y, z) -> x) | zip_with(nn, nn, (x, y) -> concat(x, y)) | zip_with(a, c, (x, y) -> x IS NULL OR y IS NULL) | zip_with(a, i, (x, y) -> x) | zip_with(array('a', 'b'), array(1), (x, y) -> x || y)
map_filter(m, (k, v) -> v > 1) | map_filter(m, (key, v) -> key = k) | map_filter(m, (k, v) -> NULL) | map_filter(im, (x, y) -> x > 0) | map_filter(m, (x, v) -> v > i) | map_filter(NULL, (k, v) -> true) | map_filter(map(), (k, v) -> true) | map_filter(mm, (x, v) -> size(v) > 0) | map_filter(m, x -> true) | map_filter(a, (k, v) -> true) | map_filter(m, (k, v) -> v) | map_filter(im, (x, y) -> 1 / x > 0)
map_zip_with(m, n, (k, v, w) -> v + w) | map_zip_with(m, n, (k, v, w) -> concat_ws('-', k, v, w)) | map_zip_with(m, n, (x, v, w) -> coalesce(v, 0) + coalesce(w, 0) + i) | map_zip_with(m, im, (k, v, w) -> v) | map_zip_with(m, NULL, (k, v, w) -> v) | map_zip_with(m, mm, (k, v, w) -> size(w)) | map_zip_with(m, n, (k, v) -> v) | map_zip_with(im, im, (k, v, w) -> v || w) | map_zip_with(im, map(1L, 'x'), (k, v, w) -> concat(v, w)) | map_zip_with(map('a', 1), map('b', 2), (k, v, w) -> k) | map_zip_with(map(d, 1), map(double('NaN'), 2), (k, v, w) -> coalesce(v, 0) + w)
transform_keys(m, (k, v) -> upper(k)) | transform_keys(m, (x, v) -> x || i) | transform_keys(m, (x, v) -> v) | transform_keys(m, (x, v) -> 1) | transform_keys(m, (x, v) -> NULL) | transform_keys(im, (x, v) -> x + 1) | transform_keys(im, (x, v) -> 10 / x) | transform_keys(NULL, (k, v) -> k) | transform_keys(m, x -> x) | transform_keys(a, (k, v) -> k) | transform_keys(m, (x, v) -> struct(x, v)) | transform_keys(m, (x, v) -> m) | transform_keys(map(), (k, v) -> k) | transform_values(m, (k, v) -> v + 1) | transform_values(m, (x, v) -> v + i) | transform_values(m, (k, v) -> k) | transform_values(im, (x, v) -> v || x) | transform_values(mm, (x, v) -> transform(v, e -> e + 1)) | transform_values(m, (k, v) -> 1 / v) | transform_values(NULL, (k, v) -> v) | transform_values(map(), (k, v) -> 1) | transform_values(m, x -> x) | transform_values(m, (k, v) -> NULL) | transform_values(m, (x, v) -> struct(v, x, k))
to_json(transform(a, x -> x + 1)) | to_json(struct(i, a, m)) | to_json(map('a', i)) | to_json(named_struct('x', i, 'y', transform(s, e -> upper(e)))) | from_json('[1,2,3]', 'ARRAY<INT>')[1] | transform(from_json('[1,2,3]', 'ARRAY<INT>'), x -> x * i) | aggregate(from_json('{"v":[1.5,2]}', 'v ARRAY<DOUBLE>').v, 0D, (acc, x) -> acc + x) | map_keys(map_filter(m, (x, v) -> v IS NOT NULL)) | array_max(transform(a, x -> abs(x + 0L))) | a[0] + aggregate(c, 0, (acc, x) -> acc + coalesce(x, 0)) > 3 | element_at(transform(a, x -> x), -1) IS NULL
"""
AGGREGATES = """
max(struct(i, k)) | min(struct(i, k)) | max(struct(d, k)).k | max(a) | min(a) | max(f) | min(s) | max(st) | min(su) | max(nn) | max(m) | max_by(k, struct(i, l)) | min_by(k, struct(d, i)) | max_by(i, a) | max_by(st, i) | max_by(k, st) | min_by(k, s) | count(DISTINCT st) | count(DISTINCT a) | count(DISTINCT struct(i, k)) | count(DISTINCT m) | array_sort(collect_set(st)) | array_sort(collect_list(i)) | sort_array(collect_list(struct(i, k))) | transform(array_sort(collect_list(i)), x -> x * 2) | aggregate(collect_list(i), 0, (acc, x) -> acc + x) | sum(aggregate(a, 0L, (acc, x) -> acc + coalesce(x, 0))) | max(size(filter(a, x -> x > 1))) | array_join(array_sort(collect_set(k)), ',') | struct(max(i), min(k)) | map('n', count(*), 'm', sum(l)) | max(array(d, 1)) | count(a) | count(struct(i)) | sum(exists(a, x -> x > 1)::INT) | collect_list(struct(i, k))[0].k IS NULL | transform(a, x -> sum(x)) | transform(array_sort(collect_list(i)), x -> x + max(i)) | size(collect_set(a)) | size(array_distinct(collect_list(nn))) | max(struct(i, k)) IS NULL | any_value(struct(1, 2)) | filter(array_sort(collect_list(l)), x -> x > 1) | array_max(collect_list(d)) | count_if(exists(c, x -> x = 9))
"""
FILTERS = ["true", "i = 1", "i = 77", "i > 0"]


def main():
    import pyspark
    from pyspark.sql.functions import expr

    spark = session()
    texts = spark.sparkContext.parallelize([json.dumps(r | {"__row": k}) for k, r in enumerate(ROWS)], 1)
    ddl = DDL.replace("im MAP<INT, STRING>", "im MAP<STRING, STRING>")
    raw = spark.read.schema(ddl + ", __row INT").option("mode", "FAILFAST").json(texts)
    # Spark's JSON reader reads maps by text only.
    whole = raw.withColumn("im", expr("CAST(im AS MAP<INT, STRING>)")).cache()
    assert whole.where("a = array(3, 1, 2, 3) AND isnan(f[1])").count() == 1
    frames = {"built": (whole, [whole.where(f"__row = {k}").cache() for k in range(len(ROWS))])}
    answers, aggregates = [], []
    for name, block in [("build", BUILD), ("arrays", ARRAYS), ("casts", CASTS), ("lambdas", LAMBDAS)]:
        answers += [record_scalar(frames, "built", text) for text in expressions(block)]
        print(name, len(answers), flush=True)
    for text in expressions(AGGREGATES):
        aggregates += [record_aggregate(frames, "built", where, text) for where in FILTERS]
    print("aggregates", len(aggregates), flush=True)
    out = {
        "spark": pyspark.__version__,
        # As text: the order of the entries of maps counts.
        "built": {"ddl": DDL, "rows": [json.dumps(r, ensure_ascii=False) for r in ROWS]},
        "answers": answers,
        "aggregates": aggregates,
    }
    path = pathlib.Path(__file__).with_name("spark_answers_nested.json")
    lines = json.dumps(out, ensure_ascii=False, separators=(",", ":")).replace('},{"table"', '},\n{"table"')
    path.write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
