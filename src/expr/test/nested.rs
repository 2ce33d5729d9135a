//! Arrays, maps, structs and lambdas, against the answers of a real Spark 4.0.0 (`tests/python/record_nested_answers.py` records them).

use super::recorded::{aggregate_problem, check, scalar_problem};
use super::*;

pub(super) static ANSWERS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../tests/python/spark_answers_nested.json")).unwrap());

/// Expressions that bayou refuses, or whose result differs from Spark's on purpose.
const DIFFERENT: &[(&str, &str)] = &[
    ("struct()", "refused: no table can hold a struct without fields"),
    ("named_struct()", "as struct()"),
    ("arrays_zip()", "as struct()"),
    ("map_concat()", "refused: it has no type"),
    ("map(k, i)['p']", "Spark's optimizer does not build the map, and so finds no NULL among its keys"),
    ("map(k, st).p.x", "as map(k, i)['p']"),
    ("array(1, 2, 3)[i]", "of an index that is NULL Spark's optimizer makes an error"),
    ("arrays_zip(a, c).a", "Spark shows the names of the fields as arguments"),
    ("shuffle(a)", "refused: its result is not the same every time"),
    ("aggregate(a, array(0), (acc, x) -> concat(acc, array(x)))", "Spark 4.0.0 makes 0 of NULL"),
    (
        "map_zip_with(map(d, 1), map(double('NaN'), 2), (k, v, w) -> coalesce(v, 0) + w)",
        "Spark 4.0.0 makes two entries for NaN",
    ),
];

/// The rows of the recorded answers.
pub(super) fn table() -> RecordBatch {
    let built = &ANSWERS["built"];
    // Arrow's reader of JSON wants maps by text, as Spark's.
    let ddl = built["ddl"].as_str().unwrap();
    let read = ddl.replace("im MAP<INT, STRING>", "im MAP<STRING, STRING>").replace("bin BINARY", "bin STRING");
    let mut decoder = arrow::json::ReaderBuilder::new(schema(&read)).build_decoder().unwrap();
    for row in built["rows"].as_array().unwrap() {
        decoder.decode(row.as_str().unwrap().as_bytes()).unwrap();
    }
    let raw = decoder.flush().unwrap().unwrap();
    let names = raw.schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
    let item = |name: &String| match name.as_str() {
        "im" => "CAST(im AS MAP<INT, STRING>) AS im".to_string(),
        "bin" => "unbase64(bin) AS bin".to_string(),
        other => other.to_string(),
    };
    select(&raw, &names.iter().map(item).collect::<Vec<_>>())
}

#[test]
fn nested_expressions_answer_as_spark_does() {
    check(&ANSWERS["answers"], DIFFERENT, scalar_problem);
}

#[test]
fn aggregates_of_nested_values_answer_as_spark_does_also_when_their_states_are_merged() {
    check(&ANSWERS["aggregates"], DIFFERENT, aggregate_problem);
}
