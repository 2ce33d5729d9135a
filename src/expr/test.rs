//! Expressions against the answers of a real Spark 4.0.0 (`tests/python/record_spark_answers.py` records them).

use super::*;
use crate::{Kind, Result};
use arrow::array::*;
use arrow::compute::filter_record_batch;
use arrow::datatypes::*;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

static ANSWERS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../tests/python/spark_answers.json")).unwrap());

const DB: Dialect = Dialect::Databricks;

/// What Spark does and bayou refuses, or does otherwise on purpose; docs/sql.md says so too.
const DIFFERENT: &[(&str, &str)] = &[
    ("-w", "Spark 4.0.0 fails for DECIMAL of more than 28 digits, and gives another scale"),
    ("s RLIKE '(?=a)'", "look-around is refused"),
    ("i = 5 OR 1 / 0 = 1", "Spark computes constants first and fails for every row"),
    ("pmod(-7.5, 2.0)", "refused"),
    ("CAST(d AS TIMESTAMP)", "refused"),
    ("CAST(1.5 AS TIMESTAMP)", "refused"),
    ("CAST(ts AS TINYINT)", "refused"),
    ("CAST(ts AS DECIMAL(20,6))", "refused"),
    ("bit_count(b)", "refused"),
    ("overlay('a', 'b', 1)", "refused: not in the list"),
    ("soundex('x')", "refused: not in the list"),
    ("ts - INTERVAL '1-2' YEAR TO MONTH", "refused"),
    ("from_unixtime(1.9)", "refused"),
    ("nullif(n, s)", "where the left side is NULL, Spark does not look at the right one, which fails"),
    ("to_date('366 2024', 'DDD yyyy')", "refused"),
    ("CAST('2024-01-01 00:00:00 PST' AS TIMESTAMP)", "abbreviations of time zones are not read"),
    ("avg(l)", "the sum of doubles of such different sizes depends on their order, in Spark as well"),
    ("avg(DISTINCT l)", "as avg(l)"),
    ("avg(w)", "refused: there is no room for the digits"),
    ("max_by(NULL, i)", "refused: it has no type"),
    ("max_by(i, a)", "refused: arrays are not compared"),
    ("max_by(i, '5')", "of equal ones Spark gives the last it saw"),
    ("corr(y, 1)", "Spark 4.0.0 divides by zero where one side does not vary"),
    ("corr(1, y)", "Spark 4.0.0 divides by zero where one side does not vary"),
];

fn batch_of(columns: &[Value], rows: &[Value]) -> RecordBatch {
    let names: Vec<&str> = columns.iter().map(|c| c[0].as_str().unwrap()).collect();
    let texts: Vec<ArrayRef> = (0..names.len())
        .map(|k| Arc::new(rows.iter().map(|r| r[k].as_str()).collect::<StringArray>()) as ArrayRef)
        .collect();
    let text_schema =
        Arc::new(Schema::new(names.iter().map(|n| Field::new(*n, DataType::Utf8, true)).collect::<Vec<_>>()));
    let raw = RecordBatch::try_new(text_schema.clone(), texts).unwrap();
    let casts: Vec<String> = columns
        .iter()
        .map(|c| format!("CAST({0} AS {1}) AS {0}", c[0].as_str().unwrap(), c[1].as_str().unwrap()))
        .collect();
    select(&raw, &casts)
}

fn select(batch: &RecordBatch, items: &[String]) -> RecordBatch {
    let bound = bind_select(items, &batch.schema(), DB).unwrap();
    let fields: Vec<Field> = bound.iter().map(|b| Field::new(&b.name, b.data_type.clone(), true)).collect();
    let arrays = bound.iter().map(|b| b.evaluate(batch).unwrap()).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

static TABLES: LazyLock<HashMap<String, RecordBatch>> = LazyLock::new(|| {
    let mut out = HashMap::new();
    for (name, table) in ANSWERS["tables"].as_object().unwrap() {
        let batch = batch_of(table["columns"].as_array().unwrap(), table["rows"].as_array().unwrap());
        out.insert(name.clone(), batch);
    }
    let nested = &ANSWERS["nested"];
    let schema = Arc::new(parse_ddl(nested["ddl"].as_str().unwrap()).unwrap());
    let mut decoder = arrow::json::ReaderBuilder::new(schema).build_decoder().unwrap();
    decoder.serialize(nested["rows"].as_array().unwrap()).unwrap();
    out.insert("nested".into(), decoder.flush().unwrap().unwrap());
    out
});

pub(super) fn shown(array: &dyn Array, i: usize) -> Value {
    if array.is_null(i) {
        return Value::Null;
    }
    macro_rules! number {
        ($t:ty) => {
            array.as_primitive::<$t>().value(i)
        };
    }
    match array.data_type() {
        DataType::Boolean => json!(array.as_boolean().value(i)),
        DataType::Int8 => json!(number!(Int8Type)),
        DataType::Int16 => json!(number!(Int16Type)),
        DataType::Int32 => json!(number!(Int32Type)),
        DataType::Int64 => json!(number!(Int64Type)),
        DataType::Float32 => json!({ "float": f64::from(number!(Float32Type)).to_string() }),
        DataType::Float64 => json!({ "float": number!(Float64Type).to_string() }),
        DataType::Utf8 => json!(array.as_string::<i32>().value(i)),
        DataType::Decimal128(_, s) => json!({ "decimal": text::decimal_text(number!(Decimal128Type), *s) }),
        DataType::Date32 => json!({ "days": number!(Date32Type) }),
        DataType::Timestamp(..) => json!({ "micros": number!(TimestampMicrosecondType) }),
        DataType::Binary => {
            let hex: String = array.as_binary::<i32>().value(i).iter().map(|b| format!("{b:02x}")).collect();
            json!({ "hex": hex })
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(i);
            json!({ "list": (0..items.len()).map(|k| shown(&items, k)).collect::<Vec<_>>() })
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(i);
            let pair = |k| json!([shown(entries.column(0), k), shown(entries.column(1), k)]);
            json!({ "map": (0..entries.len()).map(pair).collect::<Vec<_>>() })
        }
        DataType::Struct(_) => {
            let parts: Vec<Value> = array.as_struct().columns().iter().map(|c| shown(c, i)).collect();
            json!({ "struct": parts })
        }
        DataType::Null => Value::Null,
        other => panic!("{other}"),
    }
}

fn float_of(v: &Value) -> Option<f64> {
    let text = v.get("float")?.as_str()?;
    Some(match text {
        "nan" | "NaN" => f64::NAN,
        "inf" => f64::INFINITY,
        "-inf" => f64::NEG_INFINITY,
        text => text.parse().unwrap(),
    })
}

pub(super) fn same(ours: &Value, theirs: &Value, tolerance: f64) -> bool {
    if let (Some(a), Some(b)) = (float_of(ours), float_of(theirs)) {
        let close = (a - b).abs() <= tolerance * b.abs().max(if tolerance > 0.0 { 1e-3 } else { 0.0 });
        return (a.is_nan() && b.is_nan()) || a.to_bits() == b.to_bits() || (tolerance > 0.0 && (a == b || close));
    }
    if let (Some(a), Some(b)) = (ours.get("decimal"), theirs.get("decimal")) {
        // The scale is in the type; Python's text of it is not always.
        let plain = |v: &Value| v.as_str().unwrap().trim_end_matches('0').trim_end_matches('.').to_string();
        return a == b || (b.as_str().unwrap().contains('.') && plain(a) == plain(b));
    }
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w, tolerance)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(v, w)| same(v, w, tolerance)),
        _ => ours == theirs,
    }
}

/// What is wrong with our answer, if anything.
fn check_type(answer: &Value, data_type: &DataType) -> Option<String> {
    let wanted = answer["type"].as_str().unwrap();
    let ours = type_to_ddl(data_type).to_lowercase().replace(": ", ":").replace(", ", ",");
    (ours != wanted.to_lowercase()).then(|| format!("type {ours}, Spark {wanted}"))
}

fn scalar_problem(answer: &Value) -> Option<String> {
    let batch = &TABLES[answer["table"].as_str().unwrap()];
    let bound = bind(answer["sql"].as_str().unwrap(), &batch.schema(), DB);
    let refused = answer.get("refused");
    let bound = match (bound, refused) {
        (Err(e), Some(_)) => return (e.kind != Kind::Schema).then(|| format!("a {:?} error: {e}", e.kind)),
        (Ok(b), Some(why)) => return Some(format!("bound as {b:?}, Spark refuses: {why}")),
        (Err(e), None) => {
            let values = answer["values"].as_array().unwrap();
            let failed = values.iter().any(|v| v.get("error").is_some());
            let all = failed && values.iter().all(|v| v.is_null() || v.get("error").is_some());
            return (!all).then(|| format!("refused: {e}"));
        }
        (Ok(b), None) => b,
    };
    let mut problems: Vec<String> = check_type(answer, &bound.data_type).into_iter().collect();
    if bound.name != answer["name"].as_str().unwrap() {
        problems.push(format!("name {:?}, Spark {}", bound.name, answer["name"]));
    }
    let (array, failed) = match bound.evaluate_rows(batch) {
        Ok(out) => out,
        Err(e) => return Some(format!("failed as a whole: {e}")),
    };
    if array.data_type() != &bound.data_type {
        problems.push(format!("evaluates to {}, bound as {}", array.data_type(), bound.data_type));
        return Some(problems.join("; "));
    }
    if array.len() != batch.num_rows() {
        problems.push(format!("{} values for {} rows", array.len(), batch.num_rows()));
        return Some(problems.join("; "));
    }
    if !bound.nullable && array.null_count() > failed.len() {
        problems.push("NULL in what is not nullable".into());
    }
    let failed: HashMap<u32, String> = failed.into_iter().collect();
    let tolerance = answer["tolerance"].as_f64().unwrap_or(0.0);
    for (i, theirs) in answer["values"].as_array().unwrap().iter().enumerate() {
        // Python's dates end where Spark's do not: that answer could not be recorded.
        if theirs.get("error").and_then(Value::as_str) == Some("ValueError") {
            continue;
        }
        match (failed.get(&(i as u32)), theirs.get("error")) {
            (Some(_), Some(_)) => {}
            (Some(e), None) => problems.push(format!("row {i}: fails ({e}), Spark {theirs}")),
            (None, Some(e)) => problems.push(format!("row {i}: {}, Spark fails with {e}", shown(&array, i))),
            (None, None) => {
                let ours = shown(&array, i);
                if !same(&ours, theirs, tolerance) {
                    problems.push(format!("row {i}: {ours}, Spark {theirs}"));
                }
            }
        }
    }
    (!problems.is_empty()).then(|| problems.join("; "))
}

/// Aggregates all rows into one group; in two parts whose states are merged when `split`.
fn run_aggregation(aggregation: &Aggregation, batch: &RecordBatch, split: bool) -> Result<Vec<ArrayRef>> {
    let mut inner = vec![];
    for aggregate in &aggregation.aggregates {
        if batch.num_rows() == 0 {
            inner.push(aggregate.over_nothing()?);
            continue;
        }
        let feed = |batch: &RecordBatch| -> Result<_> {
            let mut accumulator = aggregate.accumulator()?;
            let (arguments, filter) = aggregate.evaluate(batch)?;
            accumulator.update_batch(&arguments, &vec![0; batch.num_rows()], filter.as_ref(), 1)?;
            Ok(accumulator)
        };
        let mut accumulator = if split {
            let half = batch.num_rows() / 2;
            let mut whole = aggregate.accumulator()?;
            for part in [batch.slice(0, half), batch.slice(half, batch.num_rows() - half)] {
                if part.num_rows() == 0 {
                    continue;
                }
                let state = feed(&part)?.state(datafusion::logical_expr::EmitTo::All)?;
                let fields = aggregate.state_fields()?;
                assert_eq!(fields.len(), state.len(), "{}", aggregate.sql);
                whole.merge_batch(&state, &[0], 1)?;
            }
            whole
        } else {
            feed(batch)?
        };
        let out = aggregate.finish(accumulator.evaluate(datafusion::logical_expr::EmitTo::All)?)?;
        assert_eq!(out.data_type(), &aggregate.data_type, "{}", aggregate.sql);
        inner.push(out);
    }
    aggregation.project(&inner, 1)
}

fn aggregate_problem(answer: &Value) -> Option<String> {
    let batch = &TABLES[answer["table"].as_str().unwrap()];
    let schema = batch.schema();
    let keep = bind_predicate(answer["where"].as_str().unwrap(), &schema, DB).unwrap().evaluate(batch).unwrap();
    let batch = filter_record_batch(batch, keep.as_boolean()).unwrap();
    let bound = bind_aggregation(&[(None, answer["sql"].as_str().unwrap().to_string())], &schema, DB);
    let bound = match (bound, answer.get("refused")) {
        (Err(_), Some(_)) => return None,
        (Ok(_), Some(why)) => return Some(format!("bound, Spark refuses: {why}")),
        (Err(e), None) => return Some(format!("refused: {e}")),
        (Ok(b), None) => b,
    };
    let outputs = bound.outputs();
    let mut problems: Vec<String> = check_type(answer, outputs[0].data_type()).into_iter().collect();
    if outputs[0].name() != answer["name"].as_str().unwrap() {
        problems.push(format!("name {:?}, Spark {}", outputs[0].name(), answer["name"]));
    }
    let theirs = &answer["values"][0];
    let tolerance = answer["tolerance"].as_f64().unwrap_or(0.0);
    for split in [false, true] {
        match (run_aggregation(&bound, &batch, split), theirs.get("error")) {
            (Err(_), Some(_)) => {}
            (Err(e), None) => problems.push(format!("fails ({e:?}), Spark {theirs}")),
            (Ok(ours), Some(e)) => problems.push(format!("{}, Spark fails with {e}", shown(&ours[0], 0))),
            (Ok(ours), None) => {
                let ours = shown(&ours[0], 0);
                if !same(&ours, theirs, tolerance) {
                    problems.push(format!("split {split}: {ours}, Spark {theirs}"));
                }
            }
        }
    }
    (!problems.is_empty()).then(|| problems.join("; "))
}

fn check(answers: &Value, problem: fn(&Value) -> Option<String>) {
    let mut wrong = vec![];
    let mut total = 0;
    for answer in answers.as_array().unwrap() {
        let sql = answer["sql"].as_str().unwrap();
        total += 1;
        let known = DIFFERENT.iter().any(|(s, _)| *s == sql);
        match problem(answer) {
            Some(_) if known => {}
            Some(p) => wrong.push(format!("{sql} [{}]: {p}", answer["where"].as_str().unwrap_or("-"))),
            None if known && answer.get("where").is_none() => {
                wrong.push(format!("{sql}: is listed as different but is the same"))
            }
            None => {}
        }
    }
    assert!(wrong.is_empty(), "{} of {total} differ from Spark:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn scalar_expressions_answer_as_spark_does() {
    check(&ANSWERS["answers"], scalar_problem);
}

#[test]
fn aggregates_answer_as_spark_does_also_when_their_states_are_merged() {
    check(&ANSWERS["aggregates"], aggregate_problem);
}

#[test]
fn every_listed_function_is_among_the_recorded_answers() {
    let mut asked: Vec<String> = vec![];
    for answer in ANSWERS["answers"].as_array().unwrap().iter().chain(ANSWERS["aggregates"].as_array().unwrap()) {
        if answer.get("refused").is_none() {
            asked.push(answer["sql"].as_str().unwrap().to_lowercase());
        }
    }
    let called = |name: &str| {
        let call = format!("{name}(");
        asked.iter().any(|sql| {
            sql.match_indices(&call).any(|(i, _)| !sql[..i].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        })
    };
    // With an ORDER BY in the call they are not Spark's: aggregate_test asks its own oracle.
    let ours = ["first", "first_value", "last", "last_value", "nth_value"];
    let missing: Vec<_> = listed().iter().map(|l| l.name).filter(|n| !called(n) && !ours.contains(n)).collect();
    assert!(missing.is_empty(), "no answers are recorded for {missing:?}");
    assert!(listed().iter().filter(|l| !l.aggregate).count() >= 80);
}

#[test]
fn the_documentation_lists_exactly_the_functions_there_are() {
    let doc = include_str!("../../docs/sql.md");
    let shown: Vec<&str> =
        doc.lines().filter_map(|l| l.strip_prefix("- `")?.split('`').next()).filter(|u| u.contains('(')).collect();
    let functions = doc.split("## Functions").nth(1).unwrap().split("## Types").next().unwrap();
    let documented: Vec<&str> = functions.lines().filter_map(|l| l.strip_prefix("- `")?.strip_suffix('`')).collect();
    let mut ours: Vec<&str> = listed().iter().map(|l| l.usage).collect();
    let mut theirs = documented.clone();
    ours.sort_unstable();
    theirs.sort_unstable();
    assert_eq!(ours, theirs);
    assert!(shown.len() >= documented.len());
}

pub(super) fn schema_error<T: std::fmt::Debug>(result: Result<T>, parts: &[&str]) {
    let e = result.unwrap_err();
    assert_eq!(e.kind, Kind::Schema, "{e}");
    for part in parts {
        assert!(e.message.contains(part), "'{part}' is not in: {e}");
    }
}

pub(super) fn schema(ddl: &str) -> SchemaRef {
    Arc::new(parse_ddl(ddl).unwrap())
}

#[test]
fn ddl_is_read_as_spark_reads_it_and_written_back() {
    let ddl = "ip STRING, time TIMESTAMP, a INT NOT NULL COMMENT 'it\\'s', m MAP<STRING, INT>, \
               s STRUCT<a: INT, b: ARRAY<STRUCT<c: DECIMAL(10,2)>>>, `odd name` BINARY, z ARRAY<ARRAY<DATE>>";
    let schema = parse_ddl(ddl).unwrap();
    assert_eq!(to_ddl(&schema), ddl);
    assert_eq!(parse_ddl(&to_ddl(&schema)).unwrap(), schema);
    assert_eq!(schema.field(1).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert_eq!(schema.field(2).metadata()["comment"], "it's");
    assert!(!schema.field(2).is_nullable());
    assert_eq!(parse_type("decimal").unwrap(), DataType::Decimal128(10, 0));
    assert_eq!(parse_type("varchar(10)").unwrap(), DataType::Utf8);
    assert_eq!(parse_type("long").unwrap(), DataType::Int64);
    assert_eq!(to_ddl(&parse_ddl("x: int, y real").unwrap()), "x INT, y FLOAT");
}

#[test]
fn ddl_errors_say_what_is_wrong_and_what_was_meant() {
    schema_error(parse_ddl("a STRNG"), &["column 'a'", "'STRNG'", "Did you mean 'STRING'?"]);
    schema_error(parse_ddl("a INT, A STRING"), &["'A' occurs twice"]);
    schema_error(parse_ddl("a INT b STRING"), &["a comma", "'b'"]);
    schema_error(parse_ddl("a"), &["column 'a' has no type"]);
    schema_error(parse_ddl(""), &["empty"]);
    schema_error(parse_ddl("a INT,"), &["a column name"]);
    schema_error(parse_ddl("a TIMESTAMP_NTZ"), &["table feature", "TIMESTAMP"]);
    schema_error(parse_ddl("a DECIMAL(39, 2)"), &["1 to 38"]);
    schema_error(parse_ddl("a MAP<STRING>"), &["','"]);
    schema_error(parse_ddl("a ARRAY<INT"), &["'>'"]);
    schema_error(parse_ddl("a STRUCT<x: INT, X: INT>"), &["'X' occurs twice"]);
    schema_error(parse_ddl("1d INT"), &["backticks"]);
}

#[test]
fn columns_are_found_whatever_their_case_and_an_exact_match_wins() {
    let schema = parse_ddl("bpm INT, Model STRING, window_start TIMESTAMP, `a.b` INT").unwrap();
    assert_eq!(resolve_column("BPM", &schema).unwrap(), 0);
    assert_eq!(resolve_column("`model`", &schema).unwrap(), 1);
    assert_eq!(resolve_column("window.start", &schema).unwrap(), 2);
    assert_eq!(resolve_column("a.b", &schema).unwrap(), 3);
    schema_error(resolve_column("bmp", &schema), &["'bmp'", "Did you mean 'bpm'?", "Model"]);
    let twice = Schema::new(vec![Field::new("x", DataType::Int32, true), Field::new("X", DataType::Int32, true)]);
    assert_eq!(resolve_column("X", &twice).unwrap(), 1);
    let twice = Schema::new(vec![Field::new("xX", DataType::Int32, true), Field::new("Xx", DataType::Int32, true)]);
    schema_error(resolve_column("xx", &twice), &["ambiguous", "'xX' or 'Xx'"]);
}

#[test]
fn a_select_list_keeps_names_and_refuses_doubles() {
    let schema = schema("time TIMESTAMP, heart_bpm INT, Model STRING");
    let bound = bind_select(&["TIME, heart_bpm AS eventsTotal".into(), "model".into()], &schema, DB).unwrap();
    let names: Vec<_> = bound.iter().map(|b| b.name.as_str()).collect();
    assert_eq!(names, ["time", "eventsTotal", "Model"]);
    assert_eq!(bound[1].as_column(), Some(1));
    assert_eq!(bind_select(&["*".into(), "heart_bpm + 1 AS more".into()], &schema, DB).unwrap().len(), 4);
    schema_error(bind_select(&["time".into(), "heart_bpm AS Time".into()], &schema, DB), &["two columns", "'Time'"]);
    schema_error(bind_select(&["heart_bpm,".into()], &schema, DB), &["an expression"]);
    let sum = bind("(heart_bpm + 1) * 2 total", &schema, DB).unwrap();
    assert_eq!((sum.name.as_str(), sum.columns()), ("total", &[1usize][..]));
    assert_eq!(bind("`Model`", &schema, DB).unwrap().as_column(), Some(2));
}

#[test]
fn what_is_refused_is_named_with_a_reason() {
    let schema = schema("time TIMESTAMP, bpm INT, model STRING, a ARRAY<INT>");
    let refused = |text: &str, parts: &[&str]| schema_error(bind(text, &schema, DB), parts);
    refused("uppr(model)", &["'uppr'", "Did you mean 'upper'?"]);
    refused("rand()", &["'rand'", "not the same every time"]);
    refused("first(bpm)", &["first is an aggregate function"]);
    refused("mode(bpm)", &["'mode'", "no such aggregate"]);
    refused("count(bpm)", &["count is an aggregate", "agg("]);
    refused("row_number() OVER (ORDER BY bpm)", &["OVER"]);
    refused("bmp + 1", &["'bmp'", "Did you mean 'bpm'?"]);
    refused("bpm +", &["an expression is expected after 'bpm +'"]);
    refused("(SELECT 1)", &["subqueries"]);
    refused("upper(model, 1)", &["upper", "2 arguments", "upper(str)"]);
    refused("model + 1 + a", &["ARRAY<INT>"]);
    refused("time - time", &["INTERVAL", "timestampdiff"]);
    refused("INTERVAL 1 DAY", &["INTERVAL"]);
    refused("model RLIKE '(?<=a)b'", &["look-around"]);
    refused("bpm = time", &["INT and TIMESTAMP", "CAST"]);
    refused("CAST(bpm AS NUMERC)", &["'NUMERC'", "Did you mean 'NUMERIC'?"]);
    refused("upper(DISTINCT model)", &["DISTINCT"]);
    refused("'abc", &["not closed"]);
    refused("", &["empty"]);
    refused(&"(".repeat(500), &["128"]);
    refused(&vec!["bpm > 1"; 2000].join(" AND "), &["1000 operators"]);
    refused("date_format(time, 'GGGG')", &["'GGGG'", "yyyy"]);
    schema_error(bind_predicate("bpm", &schema, DB), &["'bpm' is INT", "BOOLEAN"]);
    assert_eq!(bind_predicate("NULL", &schema, DB).unwrap().data_type, DataType::Boolean);
}

#[test]
fn rows_that_fail_are_found_and_their_values_are_not_told() {
    let schema = schema("s STRING, n INT");
    let texts: Vec<Option<String>> =
        (0..1000).map(|i| Some(if i % 97 == 5 { format!("secret{i}") } else { i.to_string() })).collect();
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![Arc::new(StringArray::from(texts)), Arc::new(Int32Array::from_iter_values((0..1000).map(|i| i % 10)))],
    )
    .unwrap();
    let bound = bind("CAST(s AS INT) + 1 AS m", &schema, DB).unwrap();
    let (array, failed) = bound.evaluate_rows(&batch).unwrap();
    let wanted: Vec<u32> = (0..1000).filter(|i| i % 97 == 5).collect();
    assert_eq!(failed.iter().map(|f| f.0).collect::<Vec<_>>(), wanted);
    assert_eq!(array.null_count(), wanted.len());
    assert_eq!(array.as_primitive::<Int32Type>().value(999), 1000);
    assert!(failed.iter().all(|(_, text)| !text.contains("secret") && text.contains("INT")), "{:?}", failed[0]);
    let e = bound.evaluate(&batch).unwrap_err();
    assert_eq!(e.kind, Kind::Malformed);
    assert!(!e.message.contains("secret") && e.message.contains("CAST(s AS INT)"), "{e}");
    let (_, failed) = bind("100 / n", &schema, DB).unwrap().evaluate_rows(&batch).unwrap();
    assert_eq!(failed.len(), 100);
    assert!(failed[0].1.contains("division by zero"));
    // Whatever the other row says, this one does not divide.
    let safe = bind("n <> 0 AND 100 / n > 20", &schema, DB).unwrap().evaluate(&batch).unwrap();
    assert_eq!(safe.as_boolean().true_count(), 400);
    let empty = batch.slice(0, 0);
    assert_eq!(bind("1 / 0", &schema, DB).unwrap().evaluate_rows(&empty).unwrap().0.len(), 0);
    assert_eq!(bind("1 / 0", &schema, DB).unwrap().evaluate_rows(&batch).unwrap().1.len(), 1000);
}

#[test]
fn no_failure_of_a_recorded_expression_tells_a_value() {
    for answer in ANSWERS["answers"].as_array().unwrap() {
        let batch = &TABLES[answer["table"].as_str().unwrap()];
        let Ok(bound) = bind(answer["sql"].as_str().unwrap(), &batch.schema(), DB) else { continue };
        for (row, text) in bound.evaluate_rows(batch).unwrap().1 {
            for column in batch.columns().iter().filter(|c| *c.data_type() == DataType::Utf8) {
                let value = column.as_string::<i32>();
                let value = if value.is_null(row as usize) { "" } else { value.value(row as usize).trim() };
                assert!(value.len() < 2 || !text.contains(value), "{}: {text}", bound.sql);
            }
            assert!(text != "it cannot be computed", "{}: a reason is missing", bound.sql);
        }
    }
}

#[test]
fn group_items_are_keys_and_windows() {
    let schema = schema("time TIMESTAMP, model STRING, n INT");
    let item = |text: &str| parse_group_item(text, &schema, DB);
    assert!(matches!(item("upper(MODEL) AS m").unwrap(), GroupItem::Key(b) if b.name == "m"));
    match item("window(TIME, '10 minutes', '5 minutes')").unwrap() {
        GroupItem::Window { column, size, slide, offset } => {
            assert_eq!((column.as_str(), size.as_str()), ("time", "10 minutes"));
            assert_eq!((slide.as_deref(), offset), (Some("5 minutes"), None));
        }
        other => panic!("{other:?}"),
    }
    assert!(
        matches!(item("session_window(time, '5 minutes')").unwrap(), GroupItem::Session { gap, .. } if gap == "5 minutes")
    );
    assert!(matches!(item("window(time, '1 month')").unwrap(), GroupItem::Window { size, .. } if size == "1 month"));
    schema_error(item("window(time, '1 month', '1 month', '1 month')"), &["'1 month'", "10 seconds"]);
    schema_error(item("window(n, '1 minute')"), &["'n' is INT", "TIMESTAMP"]);
    schema_error(item("window(time, 'soon')"), &["'soon'", "10 seconds"]);
    schema_error(item("window(time)"), &["window(time, '1 minute')"]);
    schema_error(item("session_window(time, '1 minute', '2 minutes')"), &["session_window(time, '5 minutes')"]);
}

#[test]
fn aggregations_share_equal_aggregates_and_name_their_columns() {
    let schema = schema("bpm INT, model STRING");
    let item = |alias: Option<&str>, text: &str| (alias.map(str::to_string), text.to_string());
    let items = [item(None, "sum(bpm) / COUNT(*) AS ratio"), item(Some("highest"), "max(BPM)"), item(None, "count(*)")];
    let bound = bind_aggregation(&items, &schema, DB).unwrap();
    assert_eq!(bound.aggregates.len(), 3);
    let names: Vec<String> = bound.outputs().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, ["ratio", "highest", "count(1)"]);
    assert!(!bound.outputs()[2].is_nullable());
    assert!(bind_aggregation(&[item(None, "count(DISTINCT model)")], &schema, DB).unwrap().aggregates[0].grows);
    let refused = |text: &str, parts: &[&str]| {
        let result = bind_aggregation(&[item(None, text)], &schema, DB);
        schema_error(result.map(|a| a.outputs()), parts);
    };
    refused("bpm + count(*)", &["'bpm'", "outside of an aggregate"]);
    refused("sum(count(bpm))", &["count is an aggregate"]);
    refused("sum(a)", &["'a'"]);
    refused("min(*)", &["only count"]);
    refused("first(bpm)", &["have no order", "first(bpm ORDER BY bpm)"]);
    refused("sum(bpm ORDER BY model)", &["ORDER BY changes nothing"]);
    let alike = bind_aggregation(&[item(Some("a"), "min('bpm')"), item(Some("b"), "min(bpm)")], &schema, DB).unwrap();
    assert_eq!(alike.aggregates.len(), 2, "a string and a column are written the same");
    let twice = bind_aggregation(&[item(Some("x"), "sum(bpm)"), item(Some("X"), "min(bpm)")], &schema, DB);
    schema_error(twice.map(|a| a.outputs()), &["two aggregates"]);
}

#[test]
fn datafusions_dialect_has_its_own_meaning_and_our_columns() {
    let schema = schema("heartBpm INT, model STRING, window_start TIMESTAMP, time TIMESTAMP");
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::new(Int32Array::from(vec![5, 8])),
            Arc::new(StringArray::from(vec!["a", "b"])),
            Arc::new(TimestampMicrosecondArray::from(vec![0, 1]).with_timezone("UTC")),
            Arc::new(TimestampMicrosecondArray::from(vec![0, 1]).with_timezone("UTC")),
        ],
    )
    .unwrap();
    let df = Dialect::DataFusion;
    let half = bind("HEARTBPM / 2 AS halfBpm", &schema, df).unwrap();
    assert_eq!(half.name, "halfBpm");
    assert_eq!(half.evaluate(&batch).unwrap().as_primitive::<Int64Type>().values(), &[2, 4]);
    assert_eq!(bind("window.start", &schema, df).unwrap().as_column(), Some(2));
    assert_eq!(bind("time", &schema, df).unwrap().as_column(), Some(3));
    assert_eq!(bind("md5(model)", &schema, df).unwrap().data_type, DataType::Utf8);
    let all = bind_select(&["*".into(), "heartBpm + 1 AS a, upper(model) AS b".into()], &schema, df).unwrap();
    assert_eq!(all.len(), 6);
    schema_error(bind("nothing(model)", &schema, df), &["nothing"]);
    schema_error(bind("hartBpm", &schema, df), &["hartBpm"]);
    schema_error(bind_predicate("heartBpm", &schema, df), &["BOOLEAN"]);
    let items =
        [(None, "sum(HeartBpm) / count(*) AS ratio".to_string()), (Some("m".into()), "median(heartBpm)".into())];
    let bound = bind_aggregation(&items, &schema, df).unwrap();
    assert_eq!(bound.aggregates.len(), 3);
    assert!(bound.aggregates[2].grows);
    for split in [false, true] {
        let out = run_aggregation(&bound, &batch, split).unwrap();
        assert_eq!(shown(&out[0], 0), json!(6));
        assert_eq!(shown(&out[1], 0), json!({ "float": "6.5" }));
    }
    let outside = bind_aggregation(&[(None, "heartBpm + count(*)".into())], &schema, df);
    schema_error(outside.map(|a| a.outputs()), &["outside of an aggregate"]);
}

/// `cargo test --release … -- --ignored --nocapture speed`
#[test]
#[ignore = "not a test: prints speeds"]
fn speed_of_the_hot_path() {
    let schema = schema("bpm INT, kcal DOUBLE, model STRING");
    let n = 65_536;
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::new(Int32Array::from_iter((0..n).map(|i| (i % 13 != 0).then_some(i % 200)))),
            Arc::new(Float64Array::from_iter_values((0..n).map(f64::from))),
            Arc::new(StringArray::from_iter_values((0..n).map(|i| format!("model{}", i % 5)))),
        ],
    )
    .unwrap();
    for text in [
        "bpm",
        "bpm > 0",
        "bpm IS NOT NULL",
        "model <> 'undef'",
        "kcal > 1.5",
        "bpm BETWEEN 30 AND 220",
        "bpm + 1",
        "bpm / 2",
        "upper(model)",
        "model LIKE 'model1%'",
        "CAST(bpm AS STRING)",
        "CASE WHEN bpm > 100 THEN 'high' ELSE 'low' END",
        "bpm IN (1, 2, 3)",
        "concat(model, '-', bpm)",
        "round(kcal, 1)",
    ] {
        let bound = bind(text, &schema, DB).unwrap();
        let start = std::time::Instant::now();
        for _ in 0..100 {
            std::hint::black_box(bound.evaluate(&batch).unwrap());
        }
        let ns = start.elapsed().as_nanos() as f64 / (100.0 * f64::from(n));
        println!("{text:50} {ns:8.2} ns/row");
    }
}

/// Every recorded aggregate over several groups at once, against each group by itself.
#[test]
fn groups_do_not_mix() {
    use datafusion::logical_expr::EmitTo;
    let mut seen = std::collections::BTreeSet::new();
    for answer in ANSWERS["aggregates"].as_array().unwrap() {
        let (table, sql) = (answer["table"].as_str().unwrap(), answer["sql"].as_str().unwrap());
        if answer.get("refused").is_some() || !seen.insert((table, sql)) {
            continue;
        }
        let batch = &TABLES[table];
        let items = [(None, sql.to_string())];
        let Ok(bound) = bind_aggregation(&items, &batch.schema(), DB) else { continue };
        // The rows of the two groups in turns; a third group has only the row of NULLs.
        let groups: Vec<usize> =
            (0..batch.num_rows()).map(|i| if batch.column(0).is_null(i) { 2 } else { i % 2 }).collect();
        let count = groups.iter().max().unwrap() + 1;
        let run = |parts: &[std::ops::Range<usize>]| -> Result<(Vec<ArrayRef>, Vec<usize>)> {
            let (mut inner, mut order) = (vec![], vec![]);
            for aggregate in &bound.aggregates {
                let mut whole = aggregate.accumulator()?;
                // A part numbers only the groups it has seen, as accumulators want it.
                let mut merged: Vec<usize> = vec![];
                for part in parts {
                    let rows = batch.slice(part.start, part.len());
                    let mut here: Vec<usize> = vec![];
                    let number = |seen: &mut Vec<usize>, g: usize| match seen.iter().position(|s| *s == g) {
                        Some(k) => k,
                        None => {
                            seen.push(g);
                            seen.len() - 1
                        }
                    };
                    let local: Vec<usize> = groups[part.clone()].iter().map(|g| number(&mut here, *g)).collect();
                    let mut fresh = aggregate.accumulator()?;
                    let filter = aggregate.evaluate_filter(&rows)?;
                    fresh.update_batch(&aggregate.evaluate_arguments(&rows)?, &local, filter.as_ref(), here.len())?;
                    let state = fresh.state(EmitTo::All)?;
                    let into: Vec<usize> = here.iter().map(|g| number(&mut merged, *g)).collect();
                    whole.merge_batch(&state, &into, merged.len())?;
                }
                order = merged;
                inner.push(aggregate.finish(whole.evaluate(EmitTo::All)?)?);
            }
            Ok((bound.project(&inner, count)?, order))
        };
        let tolerance = answer["tolerance"].as_f64().map_or(0.0, |_| 1e-9);
        let half = batch.num_rows() / 2;
        let results = [run(std::slice::from_ref(&(0..batch.num_rows()))), run(&[0..half, half..batch.num_rows()])];
        for together in results {
            let Ok((together, order)) = together else { continue };
            for (at, group) in order.into_iter().enumerate() {
                let keep: BooleanArray = groups.iter().map(|g| Some(*g == group)).collect();
                let alone = run_aggregation(&bound, &filter_record_batch(batch, &keep).unwrap(), false).unwrap();
                let (ours, theirs) = (shown(&together[0], at), shown(&alone[0], 0));
                assert!(same(&ours, &theirs, tolerance), "{sql}, group {group}: {ours}, by itself {theirs}");
            }
        }
    }
    assert!(seen.len() > 100);
}

/// The values at the ends of every type, through every recorded expression: errors are fine, panics are not.
#[test]
fn extreme_values_never_panic() {
    let extreme = |t: &DataType| -> Option<ArrayRef> {
        Some(match t {
            DataType::Int8 => Arc::new(Int8Array::from(vec![i8::MIN, i8::MAX, 0])) as ArrayRef,
            DataType::Int16 => Arc::new(Int16Array::from(vec![i16::MIN, i16::MAX, 0])),
            DataType::Int32 => Arc::new(Int32Array::from(vec![i32::MIN, i32::MAX, 1000])),
            DataType::Int64 => Arc::new(Int64Array::from(vec![i64::MIN, i64::MAX, 0])),
            DataType::Float32 => Arc::new(Float32Array::from(vec![f32::MIN, f32::MAX, f32::MIN_POSITIVE])),
            DataType::Float64 => Arc::new(Float64Array::from(vec![f64::MIN, f64::MAX, f64::MIN_POSITIVE])),
            DataType::Date32 => Arc::new(Date32Array::from(vec![i32::MIN, i32::MAX, 0])),
            DataType::Timestamp(..) => {
                Arc::new(TimestampMicrosecondArray::from(vec![i64::MIN, i64::MAX, 0]).with_timezone("UTC"))
            }
            DataType::Decimal128(p, _) => {
                let most = 10i128.pow(u32::from(*p)) - 1;
                Arc::new(Decimal128Array::from(vec![-most, most, 1]).with_data_type(t.clone()))
            }
            DataType::Utf8 => Arc::new(StringArray::from(vec!["\u{10ffff}\0é", "9999999-12-31 23:59:59+18:00", "-"])),
            _ => return None,
        })
    };
    for answer in ANSWERS["answers"].as_array().unwrap().iter().chain(ANSWERS["aggregates"].as_array().unwrap()) {
        let (table, sql) = (&TABLES[answer["table"].as_str().unwrap()], answer["sql"].as_str().unwrap());
        let columns = table.columns().iter().map(|c| extreme(c.data_type()).unwrap_or_else(|| c.slice(0, 3))).collect();
        let batch = RecordBatch::try_new(table.schema(), columns).unwrap();
        if answer.get("where").is_some() {
            if let Ok(bound) = bind_aggregation(&[(None, sql.to_string())], &table.schema(), DB) {
                let _ = run_aggregation(&bound, &batch, true);
            }
        } else if let Ok(bound) = bind(sql, &table.schema(), DB) {
            assert_eq!(bound.evaluate_rows(&batch).unwrap().0.len(), 3, "{sql}");
        }
    }
}
