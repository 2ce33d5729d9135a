"""Records what a real Spark 4.0.0 answers about times, intervals and the rest of the daily list: `spark_answers_time.json`,
`spark_answers_daily.json` and `spark_answers_names.json` next to this file.

It is run as `record_spark_answers.py` is, whose tables it shares.
"""

import json
import pathlib

import record_spark_answers as base
from record_spark_answers import TABLES

TABLES["stamps"] = (
    dict(s="STRING", z="STRING", q="DOUBLE", x="DECIMAL(20,8)", n="BIGINT", b="BINARY"),
    [
        ["2024-02-29 12:34:56.789", "Europe/Berlin", "1.5", "1.12345678", "1706702400", "abc"],
        ["2024-2-9 1:2:3", "UTC", "-1.5", "-1.99999999", "-1", ""],
        ["2024-02-29T12:34:56+01:00", "America/Los_Angeles", "0.0", "0", "0", "ÄÖ"],
        ["29/Feb/2024:12:34:56 +0100", "+05:30", "1e-7", "12345678901.5", "253402300799", "x"],
        ["2024-11", "Asia/Kathmandu", "NaN", "-12345678901.5", "1706702400123", "1"],
        ["20240229123456", "Z", "Infinity", "0.00000049", "1706702400123456", "\\"],
        ["02/29/24 11:59 PM", "GMT+2", "1e20", "999999999999.99999999", "9223372036854775807", "'"],
        [None, None, None, None, None, None],
        ["", "nowhere", "253402300800", "0.5", "7", "7"],
        ["2024-03-31 02:30:00 Europe/Berlin", "Pacific/Apia", "-0.0", "-0.5", "60", "60"],
    ],
)
TABLES["spans"] = (
    dict(
        n="INT",
        m="INT",
        l="BIGINT",
        d="DOUBLE",
        x="DECIMAL(10,3)",
        ts="TIMESTAMP",
        us="TIMESTAMP",
        dt="DATE",
        du="DATE",
    ),
    [
        [
            "1",
            "2",
            "3",
            "1.5",
            "2.500",
            "2024-02-29 12:34:56.789012",
            "2024-01-31 00:00:00",
            "2024-02-29",
            "2023-02-28",
        ],
        [
            "-1",
            "0",
            "-7",
            "-0.5",
            "-0.001",
            "1970-01-01 00:00:00",
            "1969-12-31 23:59:59.999999",
            "1970-01-01",
            "1969-12-31",
        ],
        [
            "13",
            "30",
            "86400",
            "1e10",
            "0.000",
            "2023-12-31 23:59:59.999999",
            "2024-01-01 00:00:00",
            "2023-12-31",
            "2024-01-01",
        ],
        [
            "0",
            "7",
            "0",
            "0.0",
            "1.000",
            "0001-01-01 00:00:00",
            "9999-12-31 23:59:59.999999",
            "0001-01-01",
            "9999-12-31",
        ],
        [
            "2147483647",
            "-2147483648",
            "9223372036854775807",
            "NaN",
            "9999999.999",
            "2000-02-29 00:00:00",
            "2000-02-29 00:00:00",
            "2000-02-29",
            "2000-02-29",
        ],
        [None, None, None, None, None, None, None, None, None],
    ],
)
TABLES["words"] = (
    dict(s="STRING", t="STRING", n="INT", b="BINARY", d="DOUBLE", x="DECIMAL(12,4)", l="BIGINT"),
    [
        ["Hello World", "o", "1", "abc", "1234567.891", "1234.5678", "255"],
        ["AbCD123-@$#", "b", "-3", "", "-0.5", "-0.0001", "-1"],
        ["", "", "0", "é", "0.0", "0", "0"],
        ["ÄÖü ß straße 日本", "ß", "2", "xyz", "NaN", "99999999.9999", "9223372036854775807"],
        ["a=1,b=2,c", ",", "3", "a b", "Infinity", "-12.5", "-9223372036854775808"],
        [None, None, None, None, None, None, None],
        ["100", "0", "5", "\\0", "1e17", "0.5000", "100"],
        ["-12,345.67", "-", "-1", "%", "-1e-7", "2.5", "1"],
        ["x1y22z333", "[0-9]+", "7", "z", "-0.0", "3.5000", "64"],
        ["Robert", "Rupert", "4", "R", "2.5", "1.005", "7"],
        ["https://user:pw@example.com:8080/a/b.html?x=1&y=a%20b&x=2#frag", "x", "10", "u", "0.1", "10", "31"],
        ["%41+b%C3%A9", "y", "36", "v", "3.999", "-3.9999", "-128"],
    ],
)

STAMPS = """
date_format(ts, 'yyyy-MM-dd HH:mm:ss.SSSSSSSSS') | date_format(ts, 'G GGGG yyyy') | date_format(ts, 'yyy yyyyy yyyyyy') | date_format(ts, 'L LL LLL LLLL') | date_format(ts, 'M MM MMM MMMM') | date_format(ts, 'Q QQ QQQ QQQQ') | date_format(ts, 'q qq qqq qqqq') | date_format(ts, 'D DD DDD') | date_format(ts, 'E EE EEE EEEE') | date_format(ts, 'F') | date_format(ts, 'a') | date_format(ts, 'h hh') | date_format(ts, 'H HH') | date_format(ts, 'k kk') | date_format(ts, 'K KK') | date_format(ts, 'VV') | date_format(ts, 'z zz zzz zzzz') | date_format(ts, 'O OOOO') | date_format(ts, 'X XX XXX XXXX XXXXX') | date_format(ts, 'x xx xxx xxxx xxxxx') | date_format(ts, 'Z ZZ ZZZ ZZZZ ZZZZZ') | date_format(ts, 'yyyy[-MM][-dd]') | date_format(ts, "yyyy-MM-dd'T'HH:mm:ss[.SSS]XXX") | date_format(ts, 'S SS SSS SSSS SSSSS')
date_format(ts, 'w') | date_format(ts, 'W') | date_format(ts, 'Y') | date_format(ts, 'u') | date_format(ts, 'e') | date_format(ts, 'c') | date_format(ts, 'A') | date_format(ts, 'n') | date_format(ts, 'N') | date_format(ts, 'p') | date_format(ts, 'B') | date_format(ts, 'MMMMM') | date_format(ts, 'EEEEE') | date_format(ts, 'GGGGG') | date_format(ts, 'yyyyyyy') | date_format(ts, 'ddd') | date_format(ts, 'HHH') | date_format(ts, 'aa') | date_format(ts, 'V') | date_format(ts, 'VVV') | date_format(ts, 'OO') | date_format(ts, 'XXXXXX') | date_format(ts, 'ZZZZZZ') | date_format(ts, 'zzzzz') | date_format(ts, 'SSSSSSSSSS') | date_format(ts, 'QQQQQ') | date_format(ts, 'DDDD') | date_format(ts, 'FF') | date_format(ts, 'j') | date_format(ts, '#') | date_format(ts, '{') | date_format(ts, '[yyyy') | date_format(ts, 'yyyy]') | date_format(ts, "'open") | date_format(ts, '') | date_format(ts, NULL) | date_format(dt, 'yyyy-MM-dd HH:mm z') | date_format(ts, u) | date_format(n, 'yyyy') | date_format('2024-02-29 01:02:03', "d. MMMM yyyy, HH 'Uhr'") | date_format(us, 'G y') | date_format(ts, 'B b') | date_format(ts, 'T') | date_format(ts, 'GG yyyy u')
from_unixtime(n, 'yyyy-MM-dd EEEE') | from_unixtime(1.9) | from_unixtime(0, 'z VV X') | from_unixtime(n, u) | from_unixtime('12') | from_unixtime(1.5D) | from_unixtime(NULL) | to_unix_timestamp(ts) | to_unix_timestamp('2024-01-01', 'yyyy-MM-dd') | unix_timestamp(ts, 'yyyy') | unix_timestamp(dt, 'x')
"""
PARSED = """
to_timestamp(s) | try_to_timestamp(s) | CAST(s AS TIMESTAMP) | TRY_CAST(s AS TIMESTAMP) | TRY_CAST(s AS DATE) | to_timestamp(s, 'yyyy-MM-dd HH:mm:ss.SSS') | try_to_timestamp(s, "yyyy-MM-dd'T'HH:mm:ssXXX") | try_to_timestamp(s, 'dd/MMM/yyyy:HH:mm:ss Z') | try_to_timestamp(s, 'yyyyMMddHHmmss') | try_to_timestamp(s, 'MM/dd/yy hh:mm a') | try_to_timestamp(s, 'yyyy-MM-dd HH:mm:ss VV') | try_to_timestamp(s, 'yyyy-MM') | try_to_timestamp(s, "yyyy-MM-dd[' ']['T']HH:mm:ss[.SSS][XXX]") | to_unix_timestamp(s, 'yyyyMMddHHmmss') | to_timestamp_ltz(s) | to_timestamp_ltz('2024-01-01', 'yyyy-MM-dd')
to_timestamp('2024-02-29 12:34:56Z', 'yyyy-MM-dd HH:mm:ssX') | to_timestamp('2024-02-29 12:34:56+01', 'yyyy-MM-dd HH:mm:ssX') | to_timestamp('2024-02-29 12:34:56+0130', 'yyyy-MM-dd HH:mm:ssX') | to_timestamp('2024-02-29 12:34:56+0130', 'yyyy-MM-dd HH:mm:ssXX') | to_timestamp('2024-02-29 12:34:56+01:30', 'yyyy-MM-dd HH:mm:ssXXX') | to_timestamp('2024-02-29 12:34:56+01:30:15', 'yyyy-MM-dd HH:mm:ssXXXXX') | to_timestamp('2024-02-29 12:34:56+013015', 'yyyy-MM-dd HH:mm:ssXXXX') | to_timestamp('2024-02-29 12:34:56+00', 'yyyy-MM-dd HH:mm:ssx') | to_timestamp('2024-02-29 12:34:56-0800', 'yyyy-MM-dd HH:mm:ssxx') | to_timestamp('2024-02-29 12:34:56-08:00', 'yyyy-MM-dd HH:mm:ssxxx') | to_timestamp('2024-02-29 12:34:56Z', 'yyyy-MM-dd HH:mm:ssx') | to_timestamp('2024-02-29 12:34:56-0800', 'yyyy-MM-dd HH:mm:ssZ') | to_timestamp('2024-02-29 12:34:56 -0800', 'yyyy-MM-dd HH:mm:ss Z') | to_timestamp('2024-02-29 12:34:56-08:00', 'yyyy-MM-dd HH:mm:ssZ') | to_timestamp('2024-02-29 12:34:56-08:00', 'yyyy-MM-dd HH:mm:ssZZZZZ') | to_timestamp('2024-02-29 12:34:56Z', 'yyyy-MM-dd HH:mm:ssZZZZZ') | to_timestamp('2024-02-29 12:34:56 GMT+1', 'yyyy-MM-dd HH:mm:ss O') | to_timestamp('2024-02-29 12:34:56 GMT+01:00', 'yyyy-MM-dd HH:mm:ss OOOO') | to_timestamp('2024-02-29 12:34:56 GMT', 'yyyy-MM-dd HH:mm:ss O') | to_timestamp('2024-02-29 12:34:56 GMT-08:00', 'yyyy-MM-dd HH:mm:ss ZZZZ')
to_timestamp('2024-02-29 12:34:56 Europe/Berlin', 'yyyy-MM-dd HH:mm:ss VV') | to_timestamp('2024-02-29 12:34:56 europe/berlin', 'yyyy-MM-dd HH:mm:ss VV') | to_timestamp('2024-02-29 12:34:56 UTC', 'yyyy-MM-dd HH:mm:ss VV') | to_timestamp('2024-02-29 12:34:56 Z', 'yyyy-MM-dd HH:mm:ss VV') | to_timestamp('2024-02-29 12:34:56 +01:00', 'yyyy-MM-dd HH:mm:ss VV') | to_timestamp('2024-02-29 12:34:56 UTC+1', 'yyyy-MM-dd HH:mm:ss VV') | to_timestamp('2024-02-29 12:34:56 UTC', 'yyyy-MM-dd HH:mm:ss z') | to_timestamp('2024-02-29 12:34:56 GMT', 'yyyy-MM-dd HH:mm:ss z') | to_timestamp('2024-02-29 12:34:56 PST', 'yyyy-MM-dd HH:mm:ss z') | to_timestamp('2024-07-29 12:34:56 PDT', 'yyyy-MM-dd HH:mm:ss z') | to_timestamp('2024-02-29 12:34:56 CET', 'yyyy-MM-dd HH:mm:ss z') | to_timestamp('2024-07-29 12:34:56 CEST', 'yyyy-MM-dd HH:mm:ss z') | to_timestamp('2024-02-29 12:34:56 EST', 'yyyy-MM-dd HH:mm:ss z') | to_timestamp('2024-02-29 12:34:56 America/New_York', 'yyyy-MM-dd HH:mm:ss z') | to_timestamp('2024-02-29 12:34:56 Pacific Standard Time', 'yyyy-MM-dd HH:mm:ss zzzz') | to_timestamp('Thu Feb 29 12:34:56 UTC 2024', 'E MMM dd HH:mm:ss z yyyy') | to_timestamp('2024-03-31 02:30:00 Europe/Berlin', 'yyyy-MM-dd HH:mm:ss VV') | to_timestamp('2024-10-27 02:30:00 Europe/Berlin', 'yyyy-MM-dd HH:mm:ss VV') | to_timestamp('2024-02-29 12:34:56 nowhere', 'yyyy-MM-dd HH:mm:ss VV')
to_timestamp('2024-02-29 3 PM', 'yyyy-MM-dd h a') | to_timestamp('2024-02-29 12 am', 'yyyy-MM-dd hh a') | to_timestamp('2024-02-29 0 PM', 'yyyy-MM-dd K a') | to_timestamp('2024-02-29 24', 'yyyy-MM-dd k') | to_timestamp('2024-02-29 24', 'yyyy-MM-dd HH') | to_timestamp('2024-02-29 13 PM', 'yyyy-MM-dd HH a') | to_timestamp('2024-02-29 13 AM', 'yyyy-MM-dd HH a') | to_timestamp('2024-02-29 PM', 'yyyy-MM-dd a') | to_timestamp('2024-02-29 11', 'yyyy-MM-dd K') | to_timestamp('2024-02-29 12', 'yyyy-MM-dd K') | to_timestamp('2024-02-29 0', 'yyyy-MM-dd h') | to_timestamp('2024-02-29 11', 'yyyy-MM-dd h') | to_timestamp('12:34', 'HH:mm') | to_timestamp('34', 'mm') | to_timestamp('56.7', 'ss.S') | to_timestamp('2024 060', 'yyyy DDD') | to_timestamp('2024 60', 'yyyy D') | to_timestamp('2023 366', 'yyyy DDD') | to_timestamp('2024 60', 'yyyy DD') | to_timestamp('060', 'DDD') | to_timestamp('2024-02-29 060', 'yyyy-MM-dd DDD') | to_timestamp('2024-02-29 061', 'yyyy-MM-dd DDD') | to_timestamp('AD 2024', 'G yyyy') | to_timestamp('BC 0044', 'G yyyy') | to_timestamp('2024 AD 02', 'yyyy G MM') | to_timestamp('Anno Domini 2024', 'GGGG yyyy')
to_timestamp('20240229', 'yyyyMMdd') | to_timestamp('20240229123456', 'yyyyMMddHHmmss') | to_timestamp('20240229123456789', 'yyyyMMddHHmmssSSS') | to_timestamp('2024229', 'yyyyMdd') | to_timestamp('24229', 'yyMdd') | to_timestamp('240229', 'yyMMdd') | to_timestamp('1234', 'HHmm') | to_timestamp('134', 'Hmm') | to_timestamp('2024-123-1', 'yyyy-M-d') | to_timestamp('2024-012-1', 'yyyy-M-d') | to_timestamp('2024-02-29', 'yyyy-MM-dd[ HH:mm]') | to_timestamp('2024-02-29 12:34', 'yyyy-MM-dd[ HH:mm]') | to_timestamp('2024-02-29 12', 'yyyy-MM-dd[ HH:mm]') | to_timestamp('2024-02-29T12:34', "yyyy-MM-dd'T'HH:mm") | to_timestamp("2024 o'clock 12", "yyyy 'o''clock' HH") | to_timestamp('2024-february-29', 'yyyy-MMMM-dd') | to_timestamp('2024-FEB-29', 'yyyy-LLL-dd') | to_timestamp('2024-2-29', 'yyyy-L-dd') | to_timestamp('2024-Sept-29', 'yyyy-MMM-dd') | to_timestamp('29 May 2024', 'd MMM yyyy') | to_timestamp('29 May 2024', 'd MMMM yyyy') | to_timestamp(' 2024', 'yyyy') | to_timestamp('2024 ', 'yyyy') | to_timestamp('2024', 'y') | to_timestamp('12024', 'y') | to_timestamp('+12024', 'yyyy') | to_timestamp('-2024', 'y') | to_timestamp('-0', 'y') | to_timestamp('202', 'yyy') | to_timestamp('2024', 'yyy')
to_timestamp('2024-02-29 12:34:56.123456789', 'yyyy-MM-dd HH:mm:ss.SSSSSSSSS') | to_timestamp('2024-02-29 12:34:56.1', 'yyyy-MM-dd HH:mm:ss.SSSSSSSSS') | to_timestamp('2024-02-29 12:34:56,12', 'yyyy-MM-dd HH:mm:ss,SSS') | to_timestamp('Q1', 'QQQ') | to_timestamp('1', 'Q') | to_timestamp('1', 'F') | to_timestamp('1', 'w') | to_timestamp('2024', 'Y') | to_timestamp('Thu', 'E') | to_timestamp('2024-01-01', 'nonsense') | to_timestamp('x', '') | to_timestamp('', '') | to_timestamp('2024', NULL) | to_timestamp(NULL, 'yyyy') | to_timestamp(s, z) | to_timestamp('2024', concat('yy', 'yy')) | to_date('2024-02-29 12:34', 'yyyy-MM-dd HH:mm') | to_date('060 2024', 'DDD yyyy') | to_date('2024', 'yyyy') | to_date('Feb 2024', 'MMM yyyy') | to_date(s, 'yyyyMMddHHmmss') | try_to_date(s) | try_to_date(s, 'yyyy-MM') | try_to_date('2024-13', 'yyyy-MM') | unix_timestamp('2024-02-29 12:00 +0100', 'yyyy-MM-dd HH:mm Z') | unix_timestamp('2024', 'yyyy') | to_date('2024-02-29+01:00', 'yyyy-MM-ddXXX') | to_date('2024-02-29 23:30 -0800', 'yyyy-MM-dd HH:mm Z') | to_timestamp(n, 'yyyy') | to_timestamp(n) | to_timestamp(q) | to_timestamp(x) | to_date(n) | try_to_timestamp(n) | try_to_timestamp(NULL) | try_to_timestamp('2024-01-01', 'yyyy-MM-dd')
CAST('2024-02-29 UTC' AS TIMESTAMP) | CAST('2024-02-29T12Z' AS TIMESTAMP) | CAST('2024-02-29 12:34:56.1234567Z' AS TIMESTAMP) | CAST('2024-02-29 12:34:56 +01:00' AS TIMESTAMP) | CAST('2024-02-29 12:34:56+0100' AS TIMESTAMP) | CAST('2024-02-29 12:34:56 -8' AS TIMESTAMP) | CAST('2024-02-29 12:34:56 utc' AS TIMESTAMP) | CAST('2024-02-29 12:34:56z' AS TIMESTAMP) | CAST('2024-02-29 12:34:56 Etc/GMT+5' AS TIMESTAMP) | CAST('2024-02-29 12:34:56 America/New_York' AS TIMESTAMP) | CAST('2024-11' AS TIMESTAMP) | CAST('2024' AS TIMESTAMP) | CAST('2024-1-6 1:02:03' AS TIMESTAMP) | CAST('2024-1-6 1:2' AS TIMESTAMP) | CAST('2024-02-29 12:34:56 CET' AS TIMESTAMP) | CAST('2024-02-29 12:34:56 EST' AS TIMESTAMP) | CAST('2024-02-29 12:34:56 MST' AS TIMESTAMP) | CAST('2024-02-29 12:34:56 HST' AS TIMESTAMP) | CAST('2024-02-29 12:34:56 Zulu' AS TIMESTAMP) | CAST('2024-02-29 12:34:56 GMT0' AS TIMESTAMP) | CAST('2024-02-29 12:34:56 UTC+01:30' AS TIMESTAMP) | CAST('2024-02-29 12:34:56 +1:2:3' AS TIMESTAMP) | CAST('2024-02-29 12:34:56 UT' AS TIMESTAMP) | CAST('2024-02-29 12:34:56.7 Asia/Tokyo' AS TIMESTAMP) | CAST('2024-02-29 12:34:56Asia/Tokyo' AS TIMESTAMP) | CAST('2024-02-29T12:34:56.789012+01:00' AS DATE) | CAST('2024-02-29 nonsense' AS DATE) | CAST('294247-01-10T04:00:54.775807Z' AS TIMESTAMP) | CAST('294247-01-10T04:00:54.775808Z' AS TIMESTAMP)
timestamp_seconds(q) | timestamp_seconds(x) | timestamp_seconds(n) | timestamp_seconds(1.5) | timestamp_seconds(1.5D) | timestamp_seconds(1.5F) | timestamp_seconds(1.1234567) | timestamp_seconds(NULL) | timestamp_seconds('1') | timestamp_millis(n) | timestamp_micros(n) | timestamp_millis(1.5) | CAST(q AS TIMESTAMP) | CAST(x AS TIMESTAMP) | CAST(n AS TIMESTAMP) | TRY_CAST(q AS TIMESTAMP) | TRY_CAST(x AS TIMESTAMP) | CAST(1.5F AS TIMESTAMP) | CAST(-0.5D AS TIMESTAMP) | CAST(0.0000005D AS TIMESTAMP) | CAST(1.9999999D AS TIMESTAMP) | CAST(-1.9999999D AS TIMESTAMP) | CAST(1.9999999 AS TIMESTAMP) | CAST(-1.9999999 AS TIMESTAMP) | CAST(1706702400.123456D AS TIMESTAMP) | timestamp_seconds(1706702400.123456D) | timestamp_seconds(-1.9999999)
convert_timezone('Europe/Berlin', 'UTC', CAST(s AS TIMESTAMP)) | from_utc_timestamp(TIMESTAMP '2024-07-01 12:00:00', z) | to_utc_timestamp(TIMESTAMP '2024-07-01 12:00:00', z) | from_utc_timestamp(TIMESTAMP '2024-07-01 12:00:00', 'EST') | current_timezone()
"""
TIMES = """
CAST(ts AS FLOAT) | CAST(ts AS DOUBLE) | CAST(ts AS DECIMAL(20,6)) | CAST(ts AS DECIMAL(20,3)) | CAST(ts AS DECIMAL(10,0)) | CAST(ts AS DECIMAL(5,0)) | CAST(ts AS SMALLINT) | CAST(ts AS TINYINT) | TRY_CAST(ts AS TINYINT) | TRY_CAST(ts AS INT) | TRY_CAST(ts AS DECIMAL(5,0)) | CAST(dt AS DOUBLE) | CAST(dt AS BIGINT) | CAST(ts AS BOOLEAN) | CAST(dt AS BOOLEAN)
make_timestamp(2024, 2, 29, 12, 34, 56.789) | make_timestamp(2024, 2, 30, 0, 0, 0) | make_timestamp(2024, 2, 29, 24, 0, 0) | make_timestamp(2024, 2, 29, 23, 59, 60) | make_timestamp(2024, 2, 29, 23, 59, 60.5) | make_timestamp(2024, 2, 29, 0, 0, 59.999999) | make_timestamp(2024, 2, 29, 0, 0, 59.9999999) | make_timestamp(2024, 2, 29, 0, 0, 1.5, 'Europe/Berlin') | make_timestamp(2024, 2, 29, 0, 0, 0, 'nowhere') | make_timestamp(n, 1, 1, 0, 0, 0) | make_timestamp(year(ts), month(ts), day(ts), hour(ts), minute(ts), second(ts)) | make_timestamp(2024, 1, 1, 0, 0, NULL) | make_timestamp_ltz(2024, 2, 29, 12, 34, 56) | make_timestamp_ltz(2024, 2, 29, 12, 34, 56, 'UTC') | try_make_timestamp(2024, 2, 30, 0, 0, 0) | try_make_timestamp(2024, 2, 29, 1, 2, 3.5) | try_make_timestamp_ltz(2024, 13, 1, 0, 0, 0) | make_timestamp(2024, 2, 29, 12, 34) | make_timestamp('2024', '2', '29', '1', '2', '3') | make_timestamp(2024, 2, 29, 0, 0, -1) | make_date(n, 2, 1) | make_date(2024, n, 1) | make_date(2024, 2, NULL) | make_date('2024', '2', '3')
extract(CENTURY FROM ts) | extract(DECADE FROM ts) | extract(MILLENNIUM FROM ts) | extract(YEAROFWEEK FROM ts) | extract(DOW_ISO FROM ts) | extract(DAYOFWEEK FROM dt) | extract(ISODOW FROM ts) | extract(EPOCH FROM ts) | extract(S FROM ts) | extract(MSECONDS FROM ts) | date_part('YEAROFWEEK', dt) | date_part('dow_iso', dt) | date_part('s', ts) | date_part(NULL, ts) | date_part('doy', '2024-02-29') | datepart('QTR', ts) | datepart('w', ts) | date_part(u, ts) | dayofweek(ts) | weekday(ts) | dayofyear(ts) | weekofyear(ts) | weekofyear(NULL) | quarter(ts) | dayname(NULL) | monthname(ts) | last_day('2024-02-10') | last_day(NULL) | second(dt) | minute('2024-01-01 10:11:12') | hour(NULL)
months_between(ts, us) | months_between(ts, us, false) | months_between(dt, du) | months_between(us, ts, true) | months_between(dt, '2024-01-31') | months_between(ts, NULL) | trunc(dt, 'MONTH') | trunc(dt, 'Year') | trunc(dt, 'Q') | trunc(dt, 'MON') | trunc(dt, NULL) | trunc(NULL, 'MM') | date_trunc('QUARTER', dt) | date_trunc('WEEK', ts) | date_trunc('YY', ts) | date_trunc('MON', ts) | date_trunc(NULL, ts) | date_trunc('MILLISECOND', us) | next_day(dt, 'FR') | next_day(dt, 'Friday') | next_day(dt, 'xx') | next_day(dt, u) | next_day(dt, NULL) | next_day('2024-01-01', 'mo') | add_months(dt, -1) | add_months(ts, 1) | add_months(dt, NULL) | add_months(dt, '2') | date_add(dt, NULL) | date_sub(dt, -1) | dateadd(DAY, 1, dt) | date_add(dt, 2S) | datediff(ts, '2024-01-01') | date_diff(HOUR, ts, us) | unix_date(ts) | unix_seconds(dt) | unix_millis(dt) | unix_micros('2024-01-01') | date_from_unix_date(2932897) | date_from_unix_date(NULL) | timestampadd(SECOND, n, ts) | timestampadd(MICROSECOND, n, us) | timestampdiff(MILLISECOND, us, ts)
convert_timezone('UTC', 'Europe/Berlin', ts) | convert_timezone('Europe/Berlin', ts) | convert_timezone('Europe/Berlin', 'America/New_York', '2024-07-01 12:00:00') | date_format(convert_timezone('UTC', 'Asia/Tokyo', ts), 'yyyy-MM-dd HH:mm')
"""
SPANS = """
CAST(ts - us AS STRING) | CAST(us - ts AS STRING) | CAST(dt - du AS STRING) | CAST(ts - dt AS STRING) | CAST(dt - ts AS STRING) | ts - us > INTERVAL 1 DAY | ts - us = us - ts | ts - us <= INTERVAL '1' HOUR | ts - us BETWEEN INTERVAL 0 SECONDS AND INTERVAL 30 DAYS | dt - du > INTERVAL 300 DAYS | ts - us IN (INTERVAL '0' SECOND, INTERVAL '1' DAY) | ts - us <=> NULL | (ts - us) IS NULL | us + (ts - us) = ts | ts - (ts - us) | dt + (ts - us) | dt - (ts - us) | ts - '2024-01-01' > INTERVAL 1 DAY | CAST(ts - '2024-01-01' AS STRING) | CASE WHEN n > 0 THEN ts - us ELSE INTERVAL '1' DAY END > INTERVAL '1' HOUR | if(ts > us, ts - us, us - ts) > INTERVAL '1' DAY | coalesce(ts - us, INTERVAL '1' DAY) = INTERVAL '1' DAY | greatest(ts - us, INTERVAL '1' DAY) > INTERVAL '1' DAY | abs(ts - us) > INTERVAL '1' DAY | CAST(abs(us - ts) AS STRING) | CAST(abs(INTERVAL '-1-2' YEAR TO MONTH) AS STRING) | CAST(-(ts - us) AS STRING) | CAST(negative(ts - us) AS STRING) | CAST(+(ts - us) AS STRING) | sign(ts - us) | signum(INTERVAL '-5' DAY) | isnull(ts - us)
CAST(INTERVAL '1' DAY AS STRING) | CAST(INTERVAL '1' DAY * 2 AS STRING) | CAST(n * INTERVAL '1' DAY AS STRING) | CAST(INTERVAL '1' SECOND * d AS STRING) | CAST(INTERVAL '1' SECOND * x AS STRING) | CAST(INTERVAL '1' HOUR * l AS STRING) | CAST(INTERVAL '1' MONTH * n AS STRING) | CAST(INTERVAL '1' MONTH * d AS STRING) | CAST(INTERVAL '1' MONTH * 1.5 AS STRING) | CAST(INTERVAL '1' DAY / 2 AS STRING) | CAST(INTERVAL '1' DAY / n AS STRING) | CAST(INTERVAL '1' DAY / d AS STRING) | CAST(INTERVAL '1' DAY / x AS STRING) | CAST(INTERVAL '5' MONTH / 2 AS STRING) | CAST(INTERVAL '5' MONTH / n AS STRING) | CAST(INTERVAL '5' MONTH / d AS STRING) | CAST(INTERVAL '1' DAY * '2' AS STRING) | CAST(INTERVAL '1' DAY + INTERVAL '2' HOUR AS STRING) | CAST(INTERVAL '1' DAY - INTERVAL '2' HOUR AS STRING) | CAST(INTERVAL '1' YEAR + INTERVAL '2' MONTH AS STRING) | CAST(INTERVAL '1' HOUR + INTERVAL '30' MINUTE AS STRING) | CAST(INTERVAL '1' YEAR - INTERVAL '14' MONTH AS STRING) | INTERVAL '1' YEAR + INTERVAL '1' DAY | ts + INTERVAL '1' HOUR * n | ts + n * INTERVAL '1' DAY | ts - INTERVAL '1' MINUTE * 90 | dt + INTERVAL '1' DAY * 2 | dt + INTERVAL '1' MONTH * n | ts + INTERVAL '1' MONTH * n | INTERVAL '1' DAY * INTERVAL '1' DAY | 2 / INTERVAL '1' DAY | INTERVAL '1' DAY > INTERVAL '23' HOUR | INTERVAL '1' YEAR = INTERVAL '12' MONTH | INTERVAL '1' MONTH > INTERVAL '1' DAY | INTERVAL '1' DAY = '1' | try_multiply(INTERVAL '1' DAY, 2) > INTERVAL '1' DAY | CAST(try_divide(INTERVAL '1' DAY, 0) AS STRING) | CAST(try_add(INTERVAL '1' DAY, INTERVAL '1' DAY) AS STRING) | try_add(ts, INTERVAL '1' DAY) | try_subtract(ts, INTERVAL '1' DAY) | try_add(dt, 1) | try_add(ts, INTERVAL '1' MONTH) | CAST(try_subtract(ts, us) AS STRING)
CAST(INTERVAL '01:30' HOUR TO MINUTE AS STRING) | CAST(INTERVAL '1-2' YEAR TO MONTH AS STRING) | CAST(INTERVAL '1 2' DAY TO HOUR AS STRING) | CAST(INTERVAL '1 02:03' DAY TO MINUTE AS STRING) | CAST(INTERVAL '1 02:03:04.5' DAY TO SECOND AS STRING) | CAST(INTERVAL '02:03:04' HOUR TO SECOND AS STRING) | CAST(INTERVAL '03:04.123456' MINUTE TO SECOND AS STRING) | CAST(INTERVAL '-1 02:03:04' DAY TO SECOND AS STRING) | CAST(INTERVAL -'1 02:03:04' DAY TO SECOND AS STRING) | CAST(INTERVAL '-1-2' YEAR TO MONTH AS STRING) | CAST(INTERVAL -'1-2' YEAR TO MONTH AS STRING) | CAST(INTERVAL '+1' DAY AS STRING) | CAST(INTERVAL '1' YEAR AS STRING) | CAST(INTERVAL '13' MONTH AS STRING) | CAST(INTERVAL '90' MINUTE AS STRING) | CAST(INTERVAL '100' SECOND AS STRING) | CAST(INTERVAL '1.5' SECOND AS STRING) | CAST(INTERVAL 1 DAY 2 HOURS AS STRING) | CAST(INTERVAL '1' WEEK AS STRING) | CAST(INTERVAL '5' MILLISECOND AS STRING) | CAST(INTERVAL 1 YEAR 2 MONTHS AS STRING) | ts + INTERVAL '01:30' HOUR TO MINUTE | ts - INTERVAL '1-2' YEAR TO MONTH | ts + INTERVAL '1 02:03:04.5' DAY TO SECOND | dt + INTERVAL '1 00' DAY TO HOUR | INTERVAL '1:70' HOUR TO MINUTE | INTERVAL '1-12' YEAR TO MONTH | INTERVAL '25' DAY TO HOUR | INTERVAL '1 25' DAY TO HOUR | INTERVAL '1' MINUTE TO HOUR | INTERVAL '01:30' DAY TO MINUTE | CAST(INTERVAL '99:30' HOUR TO MINUTE AS STRING) | ts + INTERVAL '1 day 2 hours' | ts + INTERVAL '1 month 2 days' | ts + INTERVAL 1 MONTH 2 DAYS | dt + INTERVAL 1 MONTH 2 DAYS | CAST(INTERVAL '1 month 2 days 3.5 seconds' AS STRING) | INTERVAL '1 fortnight' | ts + INTERVAL -1 DAY | ts + INTERVAL '-1' DAY | ts - INTERVAL - '1' DAY | ts + -INTERVAL '1' DAY
ts + make_interval(1, 2, 3, 4, 5, 6, 7.5) | dt + make_interval(0, 1) | dt + make_interval(0, 0, 0, 0, 5) | ts - make_interval(0, n) | ts + make_interval() | ts + make_interval(0, 0, 1) | CAST(make_interval(1, 2, 3, 4, 5, 6, 7.008009) AS STRING) | CAST(make_interval(0, 0, 0, n, m) AS STRING) | CAST(make_interval(1) AS STRING) | CAST(make_interval() AS STRING) | CAST(make_interval(-1, 2, 0, -3) AS STRING) | CAST(make_interval(0, 0, 0, 0, 0, 0, 1.5) * 2 AS STRING) | CAST(make_interval(0, 1, 0, 1) + make_interval(0, 1) AS STRING) | CAST(try_make_interval(2147483647) AS STRING) | make_interval(0, 1) > make_interval(0, 0, 0, 1) | CAST(make_dt_interval(1, 2, 3, 4.5) AS STRING) | CAST(make_dt_interval() AS STRING) | CAST(make_dt_interval(n, m) AS STRING) | CAST(make_dt_interval(0, 0, 0, x) AS STRING) | ts + make_dt_interval(1, 2) | make_dt_interval(1) > INTERVAL '23' HOUR | CAST(make_ym_interval(1, 2) AS STRING) | CAST(make_ym_interval(n) AS STRING) | CAST(make_ym_interval(0, n) AS STRING) | dt + make_ym_interval(1, 2) | ts + make_ym_interval(0, m) | make_ym_interval(1) = INTERVAL '12' MONTH | CAST(make_ym_interval() AS STRING)
extract(DAY FROM ts - us) | extract(HOUR FROM ts - us) | extract(MINUTE FROM ts - us) | extract(SECOND FROM ts - us) | extract(DAY FROM dt - du) | extract(YEAR FROM INTERVAL '1-2' YEAR TO MONTH) | extract(MONTH FROM INTERVAL '-1-2' YEAR TO MONTH) | extract(MONTHS FROM make_interval(1, 2)) | extract(DAYS FROM make_interval(0, 0, 1, 2)) | extract(HOURS FROM make_interval(0, 0, 0, 0, 25)) | extract(SECOND FROM make_interval(0, 0, 0, 0, 0, 1, 2.5)) | extract(YEAR FROM make_interval(1, 14)) | extract(MINUTE FROM make_interval(0, 0, 0, 0, 0, 90)) | extract(YEAR FROM ts - us) | extract(WEEK FROM ts - us) | date_part('hour', ts - us) | date_part('seconds', INTERVAL '1 02:03:04.5' DAY TO SECOND) | CAST(INTERVAL '10' SECOND AS INT) | CAST(INTERVAL '10' SECOND AS BIGINT) | CAST(INTERVAL '1' DAY AS INT) | CAST(INTERVAL '90' MINUTE AS BIGINT) | CAST(INTERVAL '13' MONTH AS INT) | CAST(INTERVAL '1.5' SECOND AS DECIMAL(10,3)) | CAST(INTERVAL '1' YEAR AS INT) | CAST(INTERVAL '1 2' DAY TO HOUR AS INT) | CAST(ts - us AS BIGINT) | CAST(INTERVAL '3' HOUR AS DECIMAL(5,1)) | CAST(INTERVAL '200' SECOND AS TINYINT) | CAST(CAST('1' AS INTERVAL DAY) AS STRING) | CAST(CAST('1 02:03:04' AS INTERVAL DAY TO SECOND) AS STRING) | CAST(CAST(n AS INTERVAL SECOND) AS STRING) | CAST(CAST(x AS INTERVAL SECOND) AS STRING) | CAST(CAST(l AS INTERVAL HOUR) AS STRING) | CAST(CAST('1-2' AS INTERVAL YEAR TO MONTH) AS STRING) | CAST(CAST('x' AS INTERVAL DAY) AS STRING) | (ts - us)::STRING | concat(ts - us, 'x') | (ts - us) || '' | length(ts - us) | hash(ts - us) | typeof(ts - us) | typeof(INTERVAL '1' DAY) | typeof(INTERVAL '1-2' YEAR TO MONTH) | typeof(make_interval(1)) | typeof(dt - du) | ts - us + INTERVAL '1' DAY > INTERVAL '1' DAY | (ts - us) / 2 > INTERVAL '1' DAY | (ts - us) * 2 > INTERVAL '1' DAY | width_bucket(ts - us, INTERVAL '0' DAY, INTERVAL '10' DAY, 5) | (ts - us) div INTERVAL '1' HOUR | (ts - us) / INTERVAL '1' HOUR | INTERVAL '5' MONTH div INTERVAL '1' MONTH | to_json(ts - us)
"""
DAILY = """
format_number(d, 2) | format_number(x, 0) | format_number(n, 3) | format_number(l, 1) | format_number(d, 0) | format_number(1234567.891, 2) | format_number(12345.6789D, '#,###.##') | format_number(x, '0000.000') | format_number(d, '#.##') | format_number(1234.5, -1) | format_number(NULL, 2) | format_number(0.005D, 2) | format_number(0.015D, 2) | format_number(2.5, 0) | format_number(3.5, 0) | format_number('12', 2) | format_number(-0.001, 2) | format_number(12, '') | format_number(1e20D, 2)
format_string('%s-%s', s, n) | printf('%d|%5d|%-5d|%05d|%+d', n, n, n, n, n) | format_string('%.2f', d) | format_string('%10.3f|%-10.3f|%010.2f', d, d, d) | format_string('%,d', l) | format_string('%x %X %o', n, n, n) | format_string('%e', d) | format_string('%s', x) | format_string('%s', b) | format_string('%5s|%-5s|%.3s', s, s, s) | format_string('%S', s) | format_string('%c', 65) | format_string('%b %B', true, false) | format_string('%%') | format_string('%n') | format_string('%2$s %1$s', s, t) | format_string('%s') | format_string('%d', d) | format_string('%d', s) | format_string('%f', x) | format_string('%.1f', x) | format_string('%s', NULL) | format_string(NULL, s) | format_string(s, n) | format_string('plain') | format_string('%g', d) | format_string('%h', s) | format_string('%q', s) | format_string('%,.2f', d) | format_string('%(d', n) | format_string('% d', n) | printf('%s %s', s) | format_string('%s', DATE '2024-01-01') | format_string('%s', true) | format_string('%08X', l) | format_string('%s', 1.50) | format_string('%d%%', n) | format_string('%-8s|', t) | format_string('%s', d) | format_string('%<s', s)
s LIKE ANY ('%a%', 'H%') | s LIKE ALL ('%o%', 'H%') | s LIKE SOME ('x%', NULL) | s NOT LIKE ANY ('%a%', 'H%') | s NOT LIKE ALL ('%a%', 'H%') | s LIKE ANY (t, '%z') | s ILIKE ANY ('h%', 'R%') | s NOT ILIKE ALL ('h%', 'r%') | s LIKE ALL ('%', NULL) | s LIKE ANY ()
regexp_extract_all(s, '([a-z])([0-9]+)') | regexp_extract_all(s, '([a-z])([0-9]+)', 2) | regexp_extract_all(s, '[0-9]+', 0) | regexp_extract_all(s, 'x*', 0) | regexp_extract_all(s, t, 0) | regexp_extract_all(s, '([a-z])', 5) | regexp_extract_all(s, '[0-9]+') | regexp_extract_all(NULL, 'a') | regexp_instr(s, '[0-9]+') | regexp_instr(s, t) | regexp_instr(s, '([a-z])([0-9]+)', 2) | regexp_instr(s, '') | regexp_instr(s, 'nothing') | regexp_instr(NULL, 'a') | regexp_instr('日本1', '[0-9]') | regexp_replace(s, '[0-9]', '#', 3) | regexp_replace(s, 'o', '0', 6) | regexp_replace(s, 'o', '0', 1) | regexp_replace(s, 'o', '0', 100) | regexp_replace(s, 'o', '0', 0) | regexp_replace(s, 'o', '0', -1) | regexp_replace(s, '^', '>', 3) | regexp_replace('日本語本', '本', '#', 3) | regexp_replace(s, 'o', '0', n) | regexp_replace(s, '', '-', 2)
sha(s) | sha1(s) | sha1(b) | sha1('') | sha(NULL) | sha2(b, 256) | hash(s) | hash(s, t) | hash(n) | hash(l) | hash(d) | hash(x) | hash(b) | hash(NULL) | hash(n, l, d) | hash(true) | hash(1Y, 2S) | hash(CAST(1.5 AS FLOAT)) | hash(DATE '2024-01-01', TIMESTAMP '2024-01-01 01:02:03') | hash(CAST(1.5 AS DECIMAL(38,10))) | hash(-0.0D) | hash(double('NaN')) | hash('') | hash('abcdefghij') | hash() | xxhash64(s) | xxhash64(s, t) | xxhash64(n) | xxhash64(l) | xxhash64(d) | xxhash64(x) | xxhash64(b) | xxhash64(NULL) | xxhash64(n, l, d) | xxhash64(repeat(s, 5)) | xxhash64(true, 1Y) | xxhash64(CAST(1.5 AS DECIMAL(38,10))) | xxhash64('') | hash(d, d) | xxhash64(-0.0D, 0.0F) | crc32(s)
parse_url(s, 'HOST') | parse_url(s, 'PATH') | parse_url(s, 'QUERY') | parse_url(s, 'QUERY', 'x') | parse_url(s, 'QUERY', 'y') | parse_url(s, 'REF') | parse_url(s, 'PROTOCOL') | parse_url(s, 'FILE') | parse_url(s, 'AUTHORITY') | parse_url(s, 'USERINFO') | parse_url(s, 'host') | parse_url(s, 'HOST', 'x') | try_parse_url(s, 'HOST') | try_parse_url(s, 'QUERY', 'y') | try_parse_url('http://a b.com/', 'HOST') | parse_url('http://a b.com/', 'HOST') | parse_url('http://ex.com', 'PATH') | parse_url('http://ex.com/p?', 'QUERY') | parse_url('http://ex.com/p?a', 'FILE') | parse_url('mailto:a@b.c', 'PROTOCOL') | parse_url('mailto:a@b.c', 'HOST') | parse_url('//ex.com/p', 'HOST') | parse_url('/p?q=1', 'QUERY', 'q') | parse_url('http://[::1]:80/p', 'HOST') | parse_url('http://ex.com/ü?ö=1', 'PATH') | parse_url('http://EX.com:99/%41?a=%42#%43', 'PATH') | parse_url('http://ex.com/?a=1&b=&c', 'QUERY', 'b') | parse_url('http://ex.com/?a=1&b=&c', 'QUERY', 'c') | parse_url('http://ex.com/?xa=1&a=2', 'QUERY', 'a') | parse_url(NULL, 'HOST') | parse_url('', 'HOST') | parse_url('http://ex_ample.com/p', 'HOST') | parse_url('http://ex.com:port/p', 'HOST') | parse_url('http://u@ex.com', 'USERINFO') | parse_url(s, t)
url_encode(s) | url_encode('a b&c=d/é~*-._') | url_decode(s) | url_decode(url_encode(s)) | try_url_decode(s) | url_decode('%4') | try_url_decode('%zz') | url_decode('a+b%20c') | url_decode('%C3%A9') | url_encode(NULL) | url_decode('%ff') | try_url_decode('%4')
str_to_map(s) | str_to_map(s, ',', '=') | str_to_map('a:1,b:2') | str_to_map('a=1;b', ';', '=') | str_to_map('') | str_to_map(NULL) | str_to_map('a:1,a:2') | str_to_map(s, '', '') | str_to_map('a:b:c,d') | str_to_map('a1b2', '[0-9]', ':') | str_to_map(s, t)
mask(s) | mask(s, 'Q') | mask(s, 'Q', 'q') | mask(s, 'Q', 'q', 'd') | mask(s, 'Q', 'q', 'd', 'o') | mask(s, NULL, NULL, NULL, '*') | mask(s, NULL) | mask(NULL) | mask(s, 'QQ') | mask('Äß9_') | soundex(s) | soundex('Tymczak') | soundex('Pfister') | soundex('') | soundex('123') | soundex('Ashcraft') | soundex('É') | soundex(NULL) | overlay(s PLACING '_' FROM 3) | overlay(s PLACING 'abc' FROM 2 FOR 1) | overlay(s, '#', n) | overlay(s, '##', 2, 0) | overlay(b, X'00', 2) | overlay(s, 'x', 100) | overlay(s, 'x', -2) | overlay(s, t, 1, -1) | overlay('Spark SQL', 'CORE', 7) | overlay('a', 'b', 0)
elt(n, s, t) | elt(1, 'a', 'b') | elt(2, 'a', b) | elt(0, 'a') | elt(3, 'a', 'b') | elt(n, 1, 2) | elt(NULL, 'a') | elt(1) | elt(1, NULL, 'a') | find_in_set(s, 'a,b,Robert') | find_in_set('b', s) | find_in_set('', 'a,,b') | find_in_set('a,b', 'a,b') | find_in_set(t, 'o,b,ß') | find_in_set('', '') | find_in_set(NULL, 'a')
to_number('1,234.56', '9,999.99') | to_number('$78.12', '$99.99') | to_number('-12', 'S99') | to_number('12-', '99S') | to_number('454', '000') | to_number('<12>', '99PR') | to_number(s, '999') | to_number('1234', '999') | to_number('', '999') | to_number('12', '99.9') | to_number('.5', '9.9') | to_number('+5', 'S9') | to_number(' 5', '9') | to_number('5', s) | try_to_number(s, '999') | try_to_number(s, 'S99,999.99') | try_to_number('x', '9') | try_to_number('1.5', '9.9') | to_number('5-', '9MI') | to_number('5', '9MI') | to_number('1', '9D9') | to_number('1', '') | to_number('1G2', '9G9') | to_number(NULL, '9')
to_char(x, '99999.9999') | to_char(d, '9') | to_char(n, '999') | to_char(n, '000') | to_char(x, '$99,999.99') | to_char(x, 'S99,999.99') | to_char(n, '99MI') | to_char(n, '99PR') | to_char(454, '999') | to_char(454.00, '000D00') | to_char(12454, '99G999') | to_char(78.12, '$99.99') | to_char(-12454.8, '99G999D9S') | to_varchar(12.5, '99.9') | to_char(DATE '2024-02-29', 'yyyy/MM') | to_char(TIMESTAMP '2024-02-29 01:02:03', 'HH:mm') | to_varchar(TIMESTAMP '2024-02-29 01:02:03', 'E') | to_char(b, 'hex') | to_char(b, 'base64') | to_char(b, 'utf-8') | to_char(X'41', 'nope') | to_char(0, '9') | to_char(0.5, '9.9') | to_char(0.05, '9.9') | to_char(1234, '999') | to_char(x, s) | to_char(l, '9999999999999999999') | to_char(NULL, '9') | to_char('12', '99') | to_char(-0.5, 'S0.0') | to_char(5, 'x')
conv('100', 2, 10) | conv(s, 10, 16) | conv(s, 16, 10) | conv(l, 10, 16) | conv(l, 10, -16) | conv(n, 10, 2) | conv(-10, 16, -10) | conv('ff', 16, 10) | conv('FFFFFFFFFFFFFFFF', 16, 10) | conv('FFFFFFFFFFFFFFFF', 16, -10) | conv('FFFFFFFFFFFFFFFFF', 16, 10) | conv('', 10, 2) | conv('12x', 10, 16) | conv('x', 10, 16) | conv('10', 1, 10) | conv('10', 37, 10) | conv('10', 10, 99) | conv('-1', 10, 16) | conv('-1', 10, -16) | conv(' 11', 10, 2) | conv('1.5', 10, 2) | conv(NULL, 10, 2) | conv('z', 36, 10) | conv('99999999999999999999', 10, 16)
width_bucket(d, 0, 10, 5) | width_bucket(5.3, 0.2, 10.6, 5) | width_bucket(n, 10, 0, 5) | width_bucket(d, 0, 0, 5) | width_bucket(d, 0, 10, 0) | width_bucket(10, 0, 10, 5) | width_bucket(0, 0, 10, 5) | width_bucket(-1, 0, 10, 5) | width_bucket(n, 0, 10, l) | width_bucket(double('NaN'), 0, 10, 5) | width_bucket(5, NULL, 10, 5) | width_bucket(0, 10, 0, 4) | width_bucket(10, 10, 0, 4) | width_bucket(11, 10, 0, 4) | getbit(n, 0) | bit_get(l, 63) | bit_get(n, 31) | bit_get(n, 32) | bit_get(5Y, 2) | bit_get(n, -1) | bit_get(NULL, 1) | bit_get(l, n) | bit_get(5, 1) | bit_count(true) | bit_count(l) | bitmap_bit_position(l) | bitmap_bucket_number(l) | bitmap_bit_position(n) | bitmap_count(b) | bitmap_bucket_number(1) | bitmap_bucket_number(32768) | bitmap_bucket_number(32769) | bitmap_bit_position(32769)
typeof(s) | typeof(n) | typeof(d) | typeof(x) | typeof(b) | typeof(l) | typeof(NULL) | typeof(1.5) | typeof(DATE '2024-01-01') | typeof(now()) | typeof(true) | typeof(1Y) | typeof(n + l)
ceil(d, 1) | ceil(x, 2) | ceil(x, -1) | ceil(n, -1) | ceil(d, 0) | floor(d, 1) | floor(x, 2) | floor(x, -2) | floor(l, -1) | floor(d, 2) | ceiling(x, 1) | ceil(2.345, 1) | floor(-2.345, 1) | ceil(1.5, n) | ceil(x, 5) | floor(n, 0) | ceil(NULL, 1) | ceil(9223372036854775807, -1) | floor(127Y, -1) | ceil(1.1F, 0)
try_add(DATE '2024-01-01', 1) | try_subtract(DATE '2024-01-01', 1) | try_mod(n, 0) | try_mod(d, 0) | try_divide(l, 0) | try_multiply(l, l) | mod(x, 3) | pmod(x, 3) | pmod(-7.5, 2.0) | pmod(x, x) | pmod(x, 0) | log(10, 100) | log(d) | log(2, d) | log(0.5, 2) | sec(d) | csc(d) | cot(d) | cot(0) | csc(0) | asinh(d) | acosh(d) | atanh(d) | acosh(0.5) | atanh(1) | asinh(0) | sec(NULL) | decimal(d) | decimal('12') | decimal(x) | negative(x) | sqrt(x) | nullif(s, t) | nvl(s, t) | nvl2(n, s, t) | ifnull(n, 0) | isnull(s) | isnotnull(s) | equal_null(s, t) | if(n > 0, s, t) | nullif(n, 1) | coalesce(s, t, 'x') | zeroifnull(n) | nullifzero(n)
bin(d) | chr(65.7) | space(2.5D) | substring(s, 2.9, 2) | left(s, 1.5) | repeat(t, 1.9D) | hex(d) | hex(x) | factorial(3.0) | make_date(2024.0, 1, 1) | lpad(t, 3.5, 'x') | elt(1.5, s, t) | bit_get(5, 1.5) | add_months(DATE '2024-01-01', 1.5) | date_add(DATE '2024-01-01', 1.5) | timestamp_millis(1.5) | locate(t, s, 1.5) | overlay(s, 'x', 2147483647) | pmod(-0.25, 3) | pmod(-0.5, x) | conv('1', 10.5, 2) | left(s, 3000000000L)
to_binary('616263') | to_binary('616263', 'hex') | to_binary(s, 'utf-8') | to_binary('YWJj', 'base64') | to_binary(s) | to_binary('abc', 'utf8') | to_binary('zz', 'hex') | to_binary('abc', 'nope') | try_to_binary('zz', 'hex') | try_to_binary(s, 'base64') | try_to_binary('a!', 'base64') | to_binary(NULL) | to_binary('616', 'hex') | try_to_binary('616263') | btrim(s, 'Ho') | btrim(s) | ltrim('He', s) | rtrim('Ld', s) | ltrim(t, s) | trim(t FROM s) | replace(s, 'o', '0') | replace(s, t, '') | left(s, 2) | right(s, 2) | char(n + 64) | chr(l) | ascii(s) | char_length(s) | character_length(b) | substr(b, 2) | substring(b, 1, 2) | lpad(b, 5) | lpad(b, 5, X'00') | rpad(b, 3, X'ff') | reverse(s) | left(b, 1) | length(b) | concat(b, b) | contains(b, X'61') | startswith(b, X'61') | endswith(b, X'7a') | levenshtein(s, t, 2) | levenshtein('kitten', 'sitting', 2) | levenshtein('kitten', 'sitting', 3) | levenshtein('a', NULL, 1) | luhn_check('79927398713') | luhn_check('79927398714') | luhn_check(s) | luhn_check('') | luhn_check('0') | is_valid_utf8(s) | is_valid_utf8(X'ff') | make_valid_utf8(s) | make_valid_utf8(X'41ff42') | validate_utf8(s) | validate_utf8(X'ff') | try_validate_utf8(X'ff') | try_validate_utf8(s) | split_part(s, t, 1) | concat_ws(',', s, t) | space(n) | repeat(t, n) | initcap(s) | position(t IN s) | instr(s, t) | locate(t, s) | encode(s, 'UTF-8') | decode(b, 'UTF-8') | decode(n, 1, 'one', 2, 'two', 'many') | bit_length(b) | octet_length(s) | hex(b) | unhex(s) | md5(s) | base64(b) | string(b)
'x' RLIKE '(?=x)' | s RLIKE '(?!H).*' | s RLIKE '(?<=o) W' | s RLIKE '(?<!o) W' | regexp_replace(s, '(?<=o)', '!') | regexp_extract(s, '(\\\\w)\\\\1', 0) | regexp_replace(s, '(?m)^', '>') | 'a\\nb' RLIKE '(?m)^b' | 'a\\nb' RLIKE '(?m)a$' | regexp_count('a\\nb\\nc', '(?m)^') | regexp_replace('aaa', 'a++', 'b') | regexp_extract(s, '(?>a|ab)c', 0) | regexp_replace(s, '(?<!\\\\d)(?=(\\\\d{3})+$)', ',') | s RLIKE '\\\\p{javaLowerCase}' | s RLIKE '\\\\p{InGreek}' | s RLIKE '(?u)ä' | s RLIKE '(?iu)Ä'
"""
NAMES = """
end | from | case | when | in | like | between | not | as | all | distinct | 24h_volume | 5xx | end - from | end + 1 | from > 1 | case + 1 | when + 1 | in + 1 | like + 1 | between + 1 | not + 1 | as + 1 | all + 1 | distinct + 1 | 24h_volume * 2 | 5xx + 5xx | in in (1, 5) | like like 'x' | between between 1 and 5 | not not in (1) | not in (1, 2) | not between 1 and 2 | CASE WHEN end > 1 THEN from ELSE case END | CASE case WHEN 1 THEN end END | CASE WHEN when > 1 THEN when END | coalesce(end, from) | (end) | -end | sum | count + 1 | max(end) | timestamp | date | interval | interval + 1 | select | select + 1 | order | group + 1 | where | limit | table | values | if | left | left + 1 | right | string | int | null_ | true_ | is | is is null | or | and | then | else | then + 1 | else + 1 | or + 1 | and + 1 | is + 1 | CASE WHEN then > 1 THEN then ELSE else END | end IS NULL | end AS x | from AS `select` | end BETWEEN from AND case | from IN (end, case) | distinct AS d | all AS a | as AS b | end::STRING | cast(end AS STRING) | abs(end) | abs(from) | abs(case) | abs(not) | abs(all) | abs(distinct) | rlike | rlike + 1 | ilike | filter | over | exists | cross | join | on | using | union | minus | with | window | lateral | natural | inner | full | outer | anti | semi | escape | div | div + 1 | current_date | current_timestamp | user | any | some | both | leading | trailing | for | fetch | having | create | unique | then IS NULL AND else IS NULL
"""
WORDS_NAMES = [
    "end",
    "from",
    "case",
    "when",
    "in",
    "like",
    "between",
    "not",
    "as",
    "all",
    "distinct",
    "24h_volume",
    "5xx",
    "sum",
    "count",
    "timestamp",
    "date",
    "interval",
    "select",
    "order",
    "group",
    "where",
    "limit",
    "table",
    "values",
    "if",
    "left",
    "right",
    "string",
    "int",
    "null_",
    "true_",
    "is",
    "or",
    "and",
    "then",
    "else",
    "rlike",
    "ilike",
    "filter",
    "over",
    "exists",
    "cross",
    "join",
    "on",
    "using",
    "union",
    "minus",
    "with",
    "window",
    "lateral",
    "natural",
    "inner",
    "full",
    "outer",
    "anti",
    "semi",
    "escape",
    "div",
    "current_date",
    "current_timestamp",
    "user",
    "any",
    "some",
    "both",
    "leading",
    "trailing",
    "for",
    "fetch",
    "having",
    "create",
    "unique",
]
TABLES["names"] = (
    dict.fromkeys(WORDS_NAMES, "INT"),
    [
        [str(k + 1) for k in range(len(WORDS_NAMES))],
        [None] * len(WORDS_NAMES),
        [str(5 - k) for k in range(len(WORDS_NAMES))],
    ],
)

AGGREGATES = """
percentile_cont(0.5) WITHIN GROUP (ORDER BY j) | percentile_cont(0.25) WITHIN GROUP (ORDER BY j DESC) | percentile_cont(0.9) WITHIN GROUP (ORDER BY d) | percentile_disc(0.5) WITHIN GROUP (ORDER BY j) | percentile_disc(0.25) WITHIN GROUP (ORDER BY j DESC) | percentile_disc(0.9) WITHIN GROUP (ORDER BY d) | percentile_disc(0.5) WITHIN GROUP (ORDER BY x) | percentile_cont(0.5) WITHIN GROUP (ORDER BY x) | percentile_cont(array(0.25, 0.5)) WITHIN GROUP (ORDER BY j) | percentile_disc(array(0.25, 0.5)) WITHIN GROUP (ORDER BY j) | percentile_cont(1.5) WITHIN GROUP (ORDER BY j) | percentile_cont(0.5) WITHIN GROUP (ORDER BY j) FILTER (WHERE b) | percentile_cont(0.5) | percentile_disc(0.0) WITHIN GROUP (ORDER BY y) | percentile_disc(1.0) WITHIN GROUP (ORDER BY y)
percentile(j, array(0.25, 0.5, 0.75)) | percentile(j, 0.5, y) | percentile(y, array(0.1)) | percentile(j, array()) | percentile(d, array(0.0, 1.0)) | percentile(j, 0.5) FILTER (WHERE b) | percentile_approx(j, array(0.25, 0.5, 0.75)) | percentile_approx(j, array(0.25, 0.5), 100) | approx_percentile(x, array(0.0, 1.0)) | percentile_approx(y, array(0.5, 2)) | percentile_approx(d, 0.5) | percentile_approx(j, 0.5, 1000)
median(j) | median(d) | median(y) | median(z) | mode(j) FILTER (WHERE j = 2) | mode(b) FILTER (WHERE NOT b) | mode(NULL) | mode(j * 0) | mode() WITHIN GROUP (ORDER BY j) | mode() WITHIN GROUP (ORDER BY j DESC) | mode(j, true) | mode(y, true) | mode(e) WITHIN GROUP (ORDER BY j) | mode() WITHIN GROUP (ORDER BY e)
skewness(j) | skewness(y) | skewness(e) | skewness(x) | skewness(1) | kurtosis(j) | kurtosis(y) | kurtosis(s) | kurtosis(x) | kurtosis(1) | skewness('1') | kurtosis(d) | skewness(j) FILTER (WHERE b)
try_sum(i) | try_sum(l) | try_sum(y) | try_sum(x) | try_sum(w) | try_sum(d) | try_sum(j) | try_avg(i) | try_avg(l) | try_avg(x) | try_avg(d) | try_avg(w) | try_sum('x') | try_avg(j) | try_sum(CAST(w AS DECIMAL(38,10))) | try_sum(l) FILTER (WHERE l > 0) | try_sum(l + 0)
approx_count_distinct(i, 0.01) | approx_count_distinct(x, 0.05) | approx_count_distinct(b) | approx_count_distinct(y, 0.1) | approx_count_distinct(i, 0.5) | approx_count_distinct(CAST(i AS STRING)) | approx_count_distinct(z)
bool_and(i > 0) | bool_or(i > 0) | every(b) | some(b) | any(c) | count_if(i > 0) | bit_and(l) | bit_or(y) | bit_xor(s) | regr_r2(j, y) | std(j) | stddev_samp(y) | var_samp(j) | mean(j) | product(j) | histogram_numeric(j, 3) | hll_sketch_agg(j) | bitmap_construct_agg(j) | count_min_sketch(j, 0.1, 0.9, 1) | approx_top_k(j) | grouping(j)
max(i - j) | sum(i * 1.5) | listagg(CAST(j AS STRING), ',') WITHIN GROUP (ORDER BY i) | string_agg(CAST(y AS STRING), '-') WITHIN GROUP (ORDER BY y DESC) | listagg(DISTINCT CAST(j AS STRING)) WITHIN GROUP (ORDER BY CAST(j AS STRING)) | first(i) | sum(DISTINCT y) | count(DISTINCT i, l) | any_value(j * 0) | max_by(y, j) | collect_set(b) FILTER (WHERE b) | try_sum(DISTINCT y) | try_avg(DISTINCT y)
"""
AGGREGATE_SPANS = """
CAST(max(ts - us) AS STRING) | CAST(min(ts - us) AS STRING) | CAST(sum(ts - us) AS STRING) | CAST(avg(ts - us) AS STRING) | CAST(sum(INTERVAL '1' MONTH * m) AS STRING) | CAST(avg(INTERVAL '1' MONTH * m) AS STRING) | max(ts - us) > INTERVAL '1' DAY | extract(DAY FROM max(ts - us)) | avg(ts - us) > INTERVAL '1' SECOND | max(ts) - min(ts) > INTERVAL '1' DAY | CAST(max(ts) - min(ts) AS STRING) | mode(dt) FILTER (WHERE n = 1) | percentile_disc(0.5) WITHIN GROUP (ORDER BY ts) | median(ts - us) | count(ts - us) | count(DISTINCT ts - us) | CAST(try_sum(ts - us) AS STRING) | CAST(try_avg(ts - us) AS STRING) | max_by(n, ts - us) | min_by(n, dt - du)
"""
FILTERS = {
    "nums": ["true", "i = 5", "i = 123456", "j BETWEEN -5 AND 7 AND e < 100"],
    "spans": ["true", "n = 1", "n = 99"],
}

SCALARS = [("time", STAMPS), ("stamps", PARSED), ("time", TIMES), ("spans", SPANS), ("words", DAILY), ("names", NAMES)]
NEW_AGGREGATES = [("nums", AGGREGATES), ("spans", AGGREGATE_SPANS)]
TOLERANT = [
    *base.TOLERANT,
    "sec(",
    "csc(",
    "cot(",
    "sinh(",
    "acosh(",
    "kurtosis",
    "skewness",
    "percentile",
    "median",
    "try_avg",
    "try_sum(d",
    "avg(",
]


def main():
    spark = base.session()
    frames = base.frames(spark)
    answers = []
    for table, block in SCALARS:
        answers += [base.record_scalar(frames, table, text) for text in base.expressions(block)]
        print(table, len(answers), flush=True)
    aggregates = []
    for table, block in NEW_AGGREGATES:
        for text in base.expressions(block):
            aggregates += [base.record_aggregate(frames, table, where, text) for where in FILTERS[table]]
    print("aggregates", len(aggregates), flush=True)
    for answer in answers + aggregates:
        if any(t in answer["sql"] for t in TOLERANT):
            answer["tolerance"] = 1e-12
    for name, tables, spans in [
        ("time", ["stamps", "spans"], True),
        ("daily", ["words"], False),
        ("names", ["names"], False),
    ]:
        mine = [a for a in answers if a["table"] in tables or (a["table"] == "time" and spans)]
        its = [a for a in aggregates if (a["table"] == "spans") == spans and name != "names"]
        out = {
            "tables": {n: {"columns": list(TABLES[n][0].items()), "rows": TABLES[n][1]} for n in tables},
            "answers": mine,
            "aggregates": its,
        }
        path = pathlib.Path(__file__).with_name(f"spark_answers_{name}.json")
        lines = json.dumps(out, ensure_ascii=False, separators=(",", ":")).replace('},{"table"', '},\n{"table"')
        path.write_text(lines + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
