//! Arrays, maps, structs and lambdas, against the answers of a real Spark 4.0.0 (`tests/python/record_nested_answers.py` records them).

use super::recorded::{aggregate_problem, check, scalar_problem};
use super::*;
use arrow::buffer::{BooleanBuffer, NullBuffer};

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

/// More answers, from a file that the environment names, as `record_scalar` writes them.
#[test]
#[ignore = "not a test: compares the answers of a file, BAYOU_ANSWERS"]
fn answers_of_a_file() {
    let text = std::fs::read_to_string(std::env::var("BAYOU_ANSWERS").unwrap()).unwrap();
    check(&serde_json::from_str(&text).unwrap(), &[], scalar_problem);
}

/// The rows of `table()` many times, so that a lambda runs over several chunks, and with gaps before, behind and within the lists.
#[test]
fn many_rows_slices_and_hidden_values_give_what_each_row_gives_by_itself() {
    let one = table();
    let rows = one.num_rows() as u32;
    // NULL lists with values below them: every third row of a copy is made NULL without a change of the values.
    let masked = one.columns().iter().map(|c| {
        let hole = BooleanBuffer::from_iter((0..one.num_rows()).map(|i| i % 3 != 1));
        let nulls = NullBuffer::union(c.nulls(), Some(&NullBuffer::new(hole)));
        match c.data_type() {
            DataType::Null => c.clone(),
            _ => make_array(c.to_data().into_builder().nulls(nulls).build().unwrap()),
        }
    });
    let masked = RecordBatch::try_new(one.schema(), masked.collect()).unwrap();
    let both = arrow::compute::concat_batches(&one.schema(), [&one, &masked]).unwrap();
    let times = 120;
    let at: UInt32Array = (0..times).flat_map(|_| 0..2 * rows).collect();
    let many = arrow::compute::take_record_batch(&both, &at).unwrap();
    let mut seen = 0;
    for answer in ANSWERS["answers"].as_array().unwrap() {
        let sql = answer["sql"].as_str().unwrap();
        let Ok(bound) = bind(sql, &one.schema(), DB) else { continue };
        let (small, failed) = bound.evaluate_rows(&both).unwrap();
        let (part, failed_part) = bound.evaluate_rows(&both.slice(3, 5)).unwrap();
        for i in 0..5 {
            assert_eq!(shown(&part, i), shown(&small, i + 3), "{sql}");
        }
        let within: Vec<u32> = failed.iter().map(|f| f.0).filter(|r| (3..8).contains(r)).map(|r| r - 3).collect();
        assert_eq!(failed_part.iter().map(|f| f.0).collect::<Vec<_>>(), within, "{sql}");
        assert!(failed.iter().all(|(_, why)| why != "it cannot be computed"), "{sql}: a reason is missing");
        // A batch with failing rows is cut again and again, which is tested above.
        if !failed.is_empty() {
            continue;
        }
        let large = match bound.evaluate(&many) {
            // Fewer rows at once would fit.
            Err(e) if is_too_large(&e) => continue,
            large => large.unwrap(),
        };
        for i in (0..large.len()).step_by(7) {
            let (ours, theirs) = (shown(&large, i), shown(&small, i % both.num_rows()));
            assert!(same(&ours, &theirs, 0.0), "{sql}, row {i}: {ours}, by itself {theirs}");
        }
        seen += 1;
    }
    assert!(seen > 400);
}

fn values(sql: &str, batch: &RecordBatch) -> (Vec<Value>, Vec<(u32, String)>) {
    let bound = bind(sql, &batch.schema(), DB).unwrap();
    let (array, failed) = bound.evaluate_rows(batch).unwrap();
    ((0..array.len()).map(|i| shown(&array, i)).collect(), failed)
}

#[test]
fn an_element_that_fails_fails_its_row_only_and_no_element_computes_nothing() {
    let a: ListArray = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), Some(2)]),
        Some(vec![]),
        None,
        Some(vec![Some(4), Some(0), Some(4)]),
        Some(vec![Some(8)]),
    ]);
    let a = arrow::compute::cast(&a, &parse_type("ARRAY<INT>").unwrap()).unwrap();
    let i = Int32Array::from(vec![1, 0, 0, 1, 0]);
    let batch = RecordBatch::try_new(schema("a ARRAY<INT>, i INT"), vec![a, Arc::new(i)]).unwrap();
    let failing = |sql: &str| values(sql, &batch).1.into_iter().map(|f| f.0).collect::<Vec<_>>();
    assert_eq!(failing("transform(a, x -> 8 / x)"), [3]);
    assert_eq!(failing("transform(a, x -> x / i)"), [4]);
    assert_eq!(failing("aggregate(a, 0.0D, (acc, x) -> acc + 8 / x)"), [3]);
    assert_eq!(failing("aggregate(a, 1 / i, (acc, x) -> acc + x)"), [1, 4]);
    assert_eq!(failing("zip_with(a, a, (x, y) -> 8 / y)"), [3]);
    assert_eq!(failing("exists(a, x -> 8 / x > 100)"), [3]);
    assert_eq!(failing("exists(a, x -> 8 / x > 1)"), [0u32; 0]);
    assert_eq!(failing("forall(a, x -> 8 / x > 1)"), [3]);
    assert_eq!(failing("array_sort(a, (x, y) -> CAST(x / i AS INT) - y)"), [0u32; 0]);
    assert_eq!(failing("map_filter(map(1, a), (k, v) -> v[1] = 0)"), [1, 4]);
    assert_eq!(values("filter(a, x -> 8 / x > 2)", &batch).1[0].1, "division by zero");
    // The rows that do not fail have their values.
    assert_eq!(values("transform(a, x -> 8 / x)[0]::INT", &batch).0[..1], [json!(8)]);
}

#[test]
fn an_array_that_would_be_too_long_is_an_error_of_its_row() {
    let batch =
        RecordBatch::try_new(schema("i INT"), vec![Arc::new(Int32Array::from(vec![2, 2_000_000_000, 3]))]).unwrap();
    for sql in ["size(sequence(1, i))", "size(array_repeat(1, i))", "size(array_insert(array(1), i, 1))"] {
        let (all, failed) = values(sql, &batch);
        assert_eq!((all[0].clone(), all[2].clone()), (json!(2), json!(3)), "{sql}");
        assert_eq!(failed.len(), 1, "{sql}");
        assert!(failed[0].0 == 1 && failed[0].1.contains("more than 10000000 elements"), "{sql}: {failed:?}");
    }
    let days = "size(sequence(date'1900-01-01', date'1999-12-31', INTERVAL 1 DAY))";
    assert_eq!(values(days, &batch).0[0], json!(36_524));
    let micros = "sequence(timestamp'2024-01-01 00:00:00', timestamp'2024-01-02 00:00:00', INTERVAL 1 MICROSECOND)";
    assert_eq!(values(micros, &batch).1.len(), 3);
}

#[test]
fn lambdas_that_differ_in_their_variables_differ_on_disk() {
    let schema = schema("a ARRAY<INT>, c ARRAY<INT>, i INT");
    let name = |sql: &str| bind(sql, &schema, DB).unwrap().identity();
    let minus = "zip_with(a, c, (x, y) -> x - y)";
    assert_eq!(name(minus), name("zip_with(a, c, (p, q) -> p - q)"));
    assert_ne!(name(minus), name("zip_with(a, c, (x, y) -> y - x)"));
    assert_ne!(name("transform(a, x -> transform(c, y -> x))"), name("transform(a, x -> transform(c, y -> y))"));
    // Spark shows all of them alike.
    assert_eq!(
        bind(minus, &schema, DB).unwrap().sql,
        bind("zip_with(a, c, (x, y) -> y - x)", &schema, DB).unwrap().sql
    );
    // Two aggregates over different lambdas are two.
    let texts = ["sum(aggregate(a, 0, (x, y) -> x))", "sum(aggregate(a, 0, (x, y) -> y)) AS other"];
    let all = bind_aggregation(&texts.map(|t| (None, t.to_string())), &schema, DB).unwrap();
    assert_eq!(all.aggregates.len(), 2);
    let twice = ["sum(aggregate(a, 0, (x, y) -> y))", "sum(aggregate(a, 0, (x, y) -> y)) + 1 AS more"];
    assert_eq!(bind_aggregation(&twice.map(|t| (None, t.to_string())), &schema, DB).unwrap().aggregates.len(), 1);
}

#[test]
fn a_lambda_that_is_wrong_is_told_when_the_line_is_typed() {
    let schema = schema("a ARRAY<INT>, m MAP<STRING, INT>, i INT, f ARRAY<DOUBLE>");
    let refused = |sql: &str, parts: &[&str]| schema_error(bind(sql, &schema, DB), parts);
    refused("x -> x + 1", &["a lambda (x -> …) goes into transform, filter"]);
    refused("upper((x, y) -> x)", &["a lambda (x, y -> …) goes into"]);
    refused("transform(x -> x, a)", &["its first argument is not a lambda", "transform(array, x -> …)"]);
    refused("transform(a, (x, y, z) -> x)", &["3 variables, and 1 or 2 are expected"]);
    refused("transform(a, (x, X) -> x)", &["two variables of its lambda are named 'X'"]);
    refused("transform(m, x -> x)", &["m is MAP<STRING, INT>, not an ARRAY"]);
    refused("map_filter(a, (k, v) -> true)", &["a is ARRAY<INT>, not a MAP"]);
    refused("filter(a, x -> x + 1)", &["must be BOOLEAN"]);
    refused("transform(a, x -> y)", &["there is no column 'y'"]);
    refused("transform(a, x -> x.y)", &["has no fields"]);
    refused("aggregate(f, 0, (acc, x) -> acc + x)", &["Begin with CAST(0 AS DOUBLE)"]);
    refused("array_sort(a, (x, y) -> x < y)", &["must be INT", "not BOOLEAN"]);
    refused("transform(a, x -> rand())", &["'rand' is not one of"]);
    refused("transform(a, x -> explode(a))", &["explode"]);
    refused("transform(a, x -> INTERVAL 1 DAY)", &["cannot be a value of a lambda"]);
    refused("transform_keys(m, (k, v) -> m)", &["a key of a MAP cannot be MAP<STRING, INT>"]);
    let deep = (0..200).fold("x".to_string(), |body, _| format!("transform(a, x -> {body})"));
    refused(&deep, &["nested more than 128 levels"]);
    let long = format!("transform(a, x -> {})", vec!["x"; 1100].join(" + "));
    refused(&long, &["more than 1000 operators"]);
    // As deep as it may be.
    let deep = (0..60).fold("x".to_string(), |body, _| format!("transform(array(1), x -> {body})"));
    assert!(bind(&deep, &schema, DB).is_ok());
}

#[test]
#[ignore = "not a test: prints speeds"]
fn speed_of_lambdas() {
    let rows = 40_000;
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(
        (0..rows).map(|i| Some((0..10).map(move |k| Some((i * 7 + k * 3) % 11)).collect::<Vec<_>>())),
    );
    let a = arrow::compute::cast(&lists, &parse_type("ARRAY<INT>").unwrap()).unwrap();
    let i = Int32Array::from_iter_values((0..rows).map(|i| i % 5));
    let batch = RecordBatch::try_new(schema("a ARRAY<INT>, i INT"), vec![a, Arc::new(i)]).unwrap();
    for text in [
        "transform(a, x -> x * 2)",
        "transform(a, x -> x * i)",
        "filter(a, x -> x > 5)",
        "exists(a, x -> x = 10)",
        "aggregate(a, 0, (acc, x) -> acc + x)",
        "array_sort(a)",
        "array_sort(a, (x, y) -> y - x)",
        "array_distinct(a)",
        "array_contains(a, 10)",
        "CAST(a AS STRING)",
    ] {
        let bound = bind(text, &batch.schema(), DB).unwrap();
        bound.evaluate(&batch).unwrap();
        let start = std::time::Instant::now();
        for _ in 0..20 {
            std::hint::black_box(bound.evaluate(&batch).unwrap());
        }
        println!("{text:45} {:8.2} ms", start.elapsed().as_secs_f64() * 1000.0 / 20.0);
    }
}
