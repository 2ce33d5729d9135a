//! Tests of expressions: against the recorded answers of a real Spark (`recorded`), of names, types and refusals (`binding`), of
//! limits and precision (`edge`), of nested values and lambdas (`nested`), of generators against Spark's rows (`generators`), and of aggregates whose rows are cut and merged (`aggregates`).

mod aggregates;
mod binding;
mod edge;
mod generators;
mod nested;
mod recorded;
mod time;

use super::*;
use crate::{Kind, Result};
use arrow::array::*;
use arrow::datatypes::*;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// Files with more answers.
const MORE: &[&str] = &[
    include_str!("../../../tests/python/spark_answers_time.json"),
    include_str!("../../../tests/python/spark_answers_daily.json"),
    include_str!("../../../tests/python/spark_answers_names.json"),
    include_str!("../../../tests/python/spark_answers_more.json"),
];

static ANSWERS: LazyLock<Value> = LazyLock::new(|| {
    let mut all: Value = serde_json::from_str(include_str!("../../../tests/python/spark_answers.json")).unwrap();
    for more in MORE {
        let more: Value = serde_json::from_str(more).unwrap();
        for (kind, values) in more.as_object().unwrap() {
            match (&mut all[kind], values) {
                (Value::Array(all), Value::Array(values)) => all.extend(values.iter().cloned()),
                (Value::Object(all), Value::Object(values)) => {
                    all.extend(values.iter().map(|(k, v)| (k.clone(), v.clone())))
                }
                (other, _) => panic!("{kind}: {other}"),
            }
        }
    }
    all
});

const DB: Dialect = Dialect::Databricks;

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
        .map(|c| format!("CAST(`{0}` AS {1}) AS `{0}`", c[0].as_str().unwrap(), c[1].as_str().unwrap()))
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
    out.insert("built".into(), nested::table());
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
        // The type has the scale. Python's text of a decimal does not always show it.
        let plain = |v: &Value| v.as_str().unwrap().trim_end_matches('0').trim_end_matches('.').to_string();
        return a == b || (b.as_str().unwrap().contains('.') && plain(a) == plain(b));
    }
    if let (Some(Value::Array(a)), Some(Value::Array(b))) = (ours.get("map"), theirs.get("map")) {
        // The order of entries is lost in Python.
        let sorted = |v: &[Value]| {
            let mut v = v.to_vec();
            v.sort_by_key(|e| float_of(&e[0]).map_or_else(|| e[0].to_string(), |f| f.to_string()));
            v
        };
        return a.len() == b.len() && sorted(a).iter().zip(&sorted(b)).all(|(v, w)| same(v, w, tolerance));
    }
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) if a.contains_key("map") && b.contains_key("map") => {
            // Spark's maps come to Python in no order.
            let entries = |v: &Value| {
                let mut all = v["map"].as_array().unwrap().clone();
                all.sort_by_key(ToString::to_string);
                all
            };
            let (a, b) = (entries(ours), entries(theirs));
            a.len() == b.len() && a.iter().zip(&b).all(|(v, w)| same(v, w, tolerance))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w, tolerance)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(v, w)| same(v, w, tolerance)),
        _ => ours == theirs,
    }
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
