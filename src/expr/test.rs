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
    ("round(double(5e-324), 2)", "only its name: Java writes 4.9E-324"),
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

fn shown(array: &dyn Array, i: usize) -> Value {
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

fn same(ours: &Value, theirs: &Value, tolerance: f64) -> bool {
    if let (Some(a), Some(b)) = (float_of(ours), float_of(theirs)) {
        let close = (a - b).abs() <= tolerance * b.abs().max(if tolerance > 0.0 { 1e-3 } else { 0.0 });
        return (a.is_nan() && b.is_nan()) || a.to_bits() == b.to_bits() || (tolerance > 0.0 && (a == b || close));
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
            let arguments = aggregate.evaluate_arguments(batch)?;
            let filter = aggregate.evaluate_filter(batch)?;
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
