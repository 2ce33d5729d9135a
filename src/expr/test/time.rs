//! Times, intervals and the rest of the daily list: where bayou differs from the recorded Spark.

/// As `recorded::DIFFERENT`, for `spark_answers_time.json` and `spark_answers_daily.json`.
pub(super) const DIFFERENT: &[(&str, &str)] = &[
    ("convert_timezone('Europe/Berlin', 'UTC', CAST(s AS TIMESTAMP))", "TIMESTAMP instead of TIMESTAMP_NTZ"),
    ("convert_timezone('UTC', 'Europe/Berlin', ts)", "TIMESTAMP instead of TIMESTAMP_NTZ"),
    ("convert_timezone('Europe/Berlin', ts)", "TIMESTAMP instead of TIMESTAMP_NTZ"),
    (
        "convert_timezone('Europe/Berlin', 'America/New_York', '2024-07-01 12:00:00')",
        "TIMESTAMP instead of TIMESTAMP_NTZ",
    ),
    ("CAST(make_interval(0, 0, 0, n, m) AS STRING)", "the hours of make_interval go up to 292 years"),
    ("CAST(CAST('1' AS INTERVAL DAY) AS STRING)", "a cast to INTERVAL is refused"),
    ("CAST(CAST('1 02:03:04' AS INTERVAL DAY TO SECOND) AS STRING)", "a cast to INTERVAL is refused"),
    ("CAST(CAST(n AS INTERVAL SECOND) AS STRING)", "a cast to INTERVAL is refused"),
    ("CAST(CAST(x AS INTERVAL SECOND) AS STRING)", "a cast to INTERVAL is refused"),
    ("CAST(CAST(l AS INTERVAL HOUR) AS STRING)", "a cast to INTERVAL is refused"),
    ("CAST(CAST('1-2' AS INTERVAL YEAR TO MONTH) AS STRING)", "a cast to INTERVAL is refused"),
    ("not not in (1)", "Spark reads in(…) as a function"),
    ("not in (1, 2)", "Spark reads in(…) as a function"),
    ("format_string('%s', b)", "bytes have no text there"),
    ("format_string('%h', s)", "a hash of Spark's own representation"),
    ("try_to_number(s, '999')", "an empty text does not match; Spark 4.0.0 fails"),
    ("ceil(NULL, 1)", "the type of NULL"),
    ("'x' RLIKE '(?=x)'", "look-around, back-references and possessive quantifiers are refused"),
    ("s RLIKE '(?!H).*'", "look-around, back-references and possessive quantifiers are refused"),
    ("s RLIKE '(?<=o) W'", "look-around, back-references and possessive quantifiers are refused"),
    ("s RLIKE '(?<!o) W'", "look-around, back-references and possessive quantifiers are refused"),
    ("regexp_replace(s, '(?<=o)', '!')", "look-around, back-references and possessive quantifiers are refused"),
    ("regexp_extract(s, '(\\\\w)\\\\1', 0)", "look-around, back-references and possessive quantifiers are refused"),
    ("regexp_replace(s, '(?m)^', '>')", "'^' and '$' with (?m) are refused"),
    ("'a\\nb' RLIKE '(?m)^b'", "'^' and '$' with (?m) are refused"),
    ("'a\\nb' RLIKE '(?m)a$'", "'^' and '$' with (?m) are refused"),
    ("regexp_count('a\\nb\\nc', '(?m)^')", "'^' and '$' with (?m) are refused"),
    ("regexp_replace('aaa', 'a++', 'b')", "look-around, back-references and possessive quantifiers are refused"),
    ("regexp_extract(s, '(?>a|ab)c', 0)", "look-around, back-references and possessive quantifiers are refused"),
    (
        "regexp_replace(s, '(?<!\\\\d)(?=(\\\\d{3})+$)', ',')",
        "look-around, back-references and possessive quantifiers are refused",
    ),
    ("s RLIKE '\\\\p{javaLowerCase}'", "refused"),
    ("s RLIKE '\\\\p{InGreek}'", "refused"),
    ("s RLIKE '(?u)ä'", "refused"),
    ("s RLIKE '(?iu)Ä'", "refused"),
    ("try_avg(l)", "as avg(l)"),
    ("try_sum('x')", "Spark computes constants first, also where there are no rows"),
    ("percentile(j, 0.5, y)", "frequencies are refused"),
    ("mode(NULL)", "it has no type"),
    ("first(i)", "it needs an order"),
    ("try_avg(w)", "refused: there is no room for the digits"),
    ("histogram_numeric(j, 3)", "sketches are refused"),
    ("hll_sketch_agg(j)", "sketches are refused"),
    ("bitmap_construct_agg(j)", "sketches are refused"),
    ("median(ts - us)", "the median of intervals is refused"),
];

use super::*;
use crate::time::EventTime;

#[test]
fn the_moment_is_one_for_all_rows_and_belongs_to_whoever_set_it() {
    let batch = TABLES["time"].clone();
    let all = [
        "now()",
        "current_timestamp",
        "date_trunc('HOUR', now())",
        "current_date() - INTERVAL 1 DAY",
        "now() - ts > INTERVAL 1 DAY",
        "unix_timestamp()",
    ];
    let bound: Vec<_> = all.iter().map(|sql| bind(sql, &batch.schema(), DB).unwrap()).collect();
    // No moment was set: this is an error of the row. The machine's clock is not used.
    let (_, failed) = bound[0].evaluate_rows(&batch).unwrap();
    assert_eq!(failed.len(), batch.num_rows());
    assert!(failed[0].1.contains("current_timestamp()"), "{failed:?}");
    let noon = 1_709_208_000_123_456;
    let _outer = Moment::is(EventTime(noon));
    {
        let _inner = Moment::is(EventTime(0));
        let values = bound[0].evaluate(&batch).unwrap();
        assert_eq!(shown(&values, 3), json!({ "micros": 0 }));
    }
    let at = |k: usize, row: usize| shown(&bound[k].evaluate(&batch).unwrap(), row);
    for row in 0..batch.num_rows() {
        assert_eq!(at(0, row), json!({ "micros": noon }));
        assert_eq!(at(1, row), at(0, row));
        assert_eq!(at(2, row), json!({ "micros": 1_709_208_000_000_000i64 }));
        assert_eq!(at(3, row), json!({ "days": 19_781 }));
        assert_eq!(at(5, row), json!(1_709_208_000));
    }
    assert_eq!((at(4, 1), at(4, 4)), (json!(true), Value::Null));
}

#[test]
fn an_interval_is_no_column_and_the_error_says_what_is() {
    let s = schema("a TIMESTAMP, b TIMESTAMP, now TIMESTAMP");
    for sql in ["a - b", "INTERVAL '1' DAY", "make_interval(1)", "abs(a - b) * 2"] {
        schema_error(bind(sql, &s, DB), &["INTERVAL", "timestampdiff", "CAST("]);
    }
    schema_error(bind_aggregation(&[(None, "max(a - b)".to_string())], &s, DB), &["INTERVAL", "CAST("]);
    schema_error(bind("localtimestamp", &s, DB), &["TIMESTAMP_NTZ"]);
    schema_error(bind("make_timestamp_ntz(2024, 1, 1, 0, 0, 0)", &s, DB), &["TIMESTAMP_NTZ"]);
    // A column of the name comes first.
    assert_eq!(bind("now", &s, DB).unwrap().columns(), [2]);
}
