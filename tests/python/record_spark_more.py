"""Records what a real Spark 4.0.0 answers about collations and XML: `spark_answers_more.json` next to this file.

It is run as `record_spark_answers.py` is.
"""

import json
import pathlib

import record_spark_answers as base

TABLES = {
    "xml": (
        dict(x="STRING", p="STRING", n="INT"),
        [
            ["<a><b>1</b><b>2.5</b><c k='v'>text</c></a>", "a/b", "1"],
            ["<a/>", "a", "2"],
            ["<r xmlns:n='urn:x'><n:e id='7'>é &amp; &lt;x&gt; &#65;</n:e><!-- no --><![CDATA[<raw>]]></r>", "r/e", "0"],
            ["<a><b><c>deep</c> tail</b><b/><d>NaN</d><d>-3</d><d>99999999999</d><d>1e3</d></a>", "//c", "3"],
            ["not xml", "a", None],
            ["", "a", "1"],
            ["<a><b>x</a>", "a/b", "1"],
            [None, "a", "1"],
            ["<?xml version='1.0'?><a b='1' c=\"2\">  <b> 3 </b>\n<b>4</b></a>", "a/@b", "1"],
        ],
    ),
    "few_words": (dict(s="STRING", n="INT"), [["Hello", "1"], ["", "0"], [None, None], ["ÄÖ", "-1"]]),
}
XML = """
xpath(x, 'a/b/text()') | xpath(x, 'a/b') | xpath(x, '//c/text()') | xpath(x, '/a/b[1]/text()') | xpath(x, 'a/b[last()]/text()') | xpath(x, 'a/@b') | xpath(x, '//@*') | xpath(x, p) | xpath(x, 'a/*/text()') | xpath(x, 'a/b[2]') | xpath(x, 'a/nope') | xpath(x, NULL) | xpath(NULL, 'a') | xpath(x, 'a/b[. > 1]/text()') | xpath(x, 'a/c[@k="v"]/text()') | xpath(x, 'a/b/c/..') | xpath(x, '//b/text() | //c/text()') | xpath(x, 'a/b/') | xpath(x, '')
xpath_string(x, 'a/b') | xpath_string(x, 'a') | xpath_string(x, '//e') | xpath_string(x, 'r') | xpath_string(x, 'a/c/@k') | xpath_string(x, p) | xpath_string(x, 'a/b[2]') | xpath_string(x, 'concat(a/b, "-", a/c)') | xpath_string(x, 'name(a/*[1])') | xpath_string(x, 'normalize-space(a/b)') | xpath_string(x, 'count(a/b)') | xpath_string(x, 'string-length(a/b)') | xpath_string(x, 'substring(a/c, 2)') | xpath_string(x, 'a/b = 1') | xpath_string(x, 'nope') | xpath_string(x, 'translate(a/c, "t", "T")') | xpath_string(x, '1 div 0') | xpath_string(x, '0.1 + 0.2') | xpath_string(x, '//*[local-name()="e"]')
xpath_boolean(x, 'a/b') | xpath_boolean(x, 'a/b = 2.5') | xpath_boolean(x, 'count(a/b) > 1') | xpath_boolean(x, 'not(a)') | xpath_boolean(x, 'contains(a/c, "ex")') | xpath_boolean(x, 'starts-with(a/c, "t") and true()') | xpath_boolean(x, '//@k = "v" or false()') | xpath_boolean(x, '"x"') | xpath_boolean(x, '""') | xpath_boolean(x, p)
xpath_int(x, 'a/b') | xpath_int(x, 'a/d[3]') | xpath_int(x, 'sum(a/b)') | xpath_int(x, 'sum(a/d)') | xpath_int(x, 'a/c') | xpath_int(x, 'count(//*)') | xpath_short(x, 'a/b') | xpath_short(x, 'a/d[2]') | xpath_short(x, '70000') | xpath_long(x, 'a/d[3]') | xpath_long(x, 'a/b[2]') | xpath_long(x, 'nope') | xpath_float(x, 'a/b[2]') | xpath_float(x, 'a/d[4]') | xpath_double(x, 'sum(a/b)') | xpath_double(x, 'a/b') | xpath_double(x, 'a/d[1]') | xpath_double(x, 'a/d[4]') | xpath_number(x, 'a/b[2]') | xpath_number(x, 'floor(2.7) + ceiling(1.2) + round(2.5) + -1 mod 3') | xpath_number(x, 'number(a/@c) * 2') | xpath_double(x, p)
"""
WORDS = """
collate(s, 'UTF8_BINARY') | collate(s, 'utf8_binary') | collation(s) | collation('abc') | collation(NULL) | collation(n) | upper(collate(s, 'UTF8_BINARY')) | collate(s, 'NOPE') | collate(n, 'UTF8_BINARY') | collate(NULL, 'UTF8_BINARY') | collation(collate(s, 'UTF8_BINARY'))
"""
AGGREGATES = """
bitmap_construct_agg(bitmap_bit_position(abs(n) + 1)) | bitmap_construct_agg(40000 * n) | bitmap_construct_agg(NULL) | bitmap_or_agg(CAST(s AS BINARY)) | bitmap_or_agg(s) | bitmap_count(bitmap_construct_agg(bitmap_bit_position(abs(n) + 1))) | bitmap_construct_agg('5')
"""


def main():
    base.TABLES.clear()
    base.TABLES.update(TABLES)
    frames = base.frames(base.session())
    answers = [base.record_scalar(frames, t, e) for t, block in [("xml", XML), ("few_words", WORDS)] for e in base.expressions(block)]
    aggregates = [
        base.record_aggregate(frames, "few_words", where, e) for e in base.expressions(AGGREGATES) for where in ("true", "n = 1", "n = 77")
    ]
    out = {
        "tables": {n: {"columns": list(c.items()), "rows": r} for n, (c, r) in TABLES.items()},
        "answers": answers,
        "aggregates": aggregates,
    }
    lines = json.dumps(out, ensure_ascii=False, separators=(",", ":")).replace('},{"table"', '},\n{"table"')
    pathlib.Path(__file__).with_name("spark_answers_more.json").write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
