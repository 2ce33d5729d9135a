//! Casts of arrays, maps and structs, part by part, and their text as Spark writes it.

use super::cast;
use super::evaluate::row_error;
use super::kernel::{Args, Kernel, written};
use super::lists::{compact, field_of, key_value, map, map_of_entries, record};
use super::text::{decimal_text, enclosed, java_double, java_float, span};
use crate::calendar::{date_text, timestamp_text};
use arrow::array::{Array, ArrayRef, AsArray, ListArray, new_null_array};
use arrow::datatypes::*;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use std::io::Write;
use std::sync::Arc;

type Part = Arc<dyn Fn(&ArrayRef) -> Result<ArrayRef> + Send + Sync>;

/// The cast of a part, which may be of no type at all (`array()`).
fn part(from: &DataType, to: &DataType, r#try: bool) -> Option<Part> {
    if from == to {
        return Some(Arc::new(|array| Ok(array.clone())));
    }
    let to = to.clone();
    if *from == DataType::Null {
        return Some(Arc::new(move |array| Ok(new_null_array(&to, array.len()))));
    }
    let kernel = cast::kernel(from, &to, r#try)?;
    Some(Arc::new(move |array| kernel(&Args::new(vec![ColumnarValue::Array(array.clone())], array.len())?)))
}

/// `None` where the types have different shapes.
pub(super) fn kernel(from: &DataType, to: &DataType, r#try: bool) -> Option<Kernel> {
    match (from, to) {
        (DataType::List(x), DataType::List(y)) => {
            let (each, field) = (part(x.data_type(), y.data_type(), r#try)?, y.clone());
            Some(Arc::new(move |a| {
                let lists = compact(&a.full(0)?)?;
                let values = each(lists.values())?;
                Ok(Arc::new(ListArray::try_new(
                    field.clone(),
                    lists.offsets().clone(),
                    values,
                    lists.nulls().cloned(),
                )?))
            }))
        }
        (DataType::Map(..), DataType::Map(..)) => {
            let ((k1, v1), (k2, v2)) = (key_value(from)?, key_value(to)?);
            let make = if k1 == k2 { map_of_entries } else { map };
            let (keys, values, to) = (part(&k1, &k2, r#try)?, part(&v1, &v2, r#try)?, to.clone());
            Some(Arc::new(move |a| {
                let maps = compact(&a.full(0)?)?;
                let kv = maps.values().as_struct();
                let (keys, values) = (keys(kv.column(0))?, values(kv.column(1))?);
                make(&to, maps.offsets().clone(), keys, values, maps.nulls().cloned())
            }))
        }
        (DataType::Struct(x), DataType::Struct(y)) if x.len() == y.len() => {
            let parts: Vec<Part> =
                x.iter().zip(y).map(|(x, y)| part(x.data_type(), y.data_type(), r#try)).collect::<Option<_>>()?;
            let fields = y.clone();
            Some(Arc::new(move |a| {
                let array = a.full(0)?;
                let parent = array.as_struct();
                let columns =
                    parts.iter().enumerate().map(|(k, part)| part(&field_of(parent, k)?)).collect::<Result<_>>()?;
                record(&fields, columns, parent.nulls().cloned(), a.rows)
                    .map_err(|_| row_error("a field that is NOT NULL would be NULL"))
            }))
        }
        _ => None,
    }
}

/// Whether the type has a text.
fn has_text(t: &DataType) -> bool {
    match t {
        DataType::List(of) => has_text(of.data_type()),
        DataType::Map(..) => key_value(t).is_some_and(|(k, v)| has_text(&k) && has_text(&v)),
        DataType::Struct(fields) => fields.iter().all(|f| has_text(f.data_type())),
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Timestamp(TimeUnit::Microsecond, Some(_))
        | DataType::Null => true,
        _ => false,
    }
}

/// `[1, 2]`, `{a -> 1}`, `{1, x}`.
pub(super) fn text(from: &DataType) -> Option<Kernel> {
    if !has_text(from) {
        return None;
    }
    Some(Arc::new(|a| {
        let array = a.full(0)?;
        written(a.rows, |row, out| {
            let valid = array.is_valid(row);
            if valid {
                put(&array, row, out);
            }
            Ok(valid)
        })
    }))
}

fn put(array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    macro_rules! text {
        ($v:expr) => {
            drop(write!(out, "{}", $v))
        };
    }
    macro_rules! number {
        ($t:ty) => {
            array.as_primitive::<$t>().value(row)
        };
    }
    if array.is_null(row) {
        out.extend_from_slice(b"null");
        return;
    }
    match array.data_type() {
        DataType::Boolean => text!(array.as_boolean().value(row)),
        DataType::Int8 => text!(number!(Int8Type)),
        DataType::Int16 => text!(number!(Int16Type)),
        DataType::Int32 => text!(number!(Int32Type)),
        DataType::Int64 => text!(number!(Int64Type)),
        DataType::Float32 => text!(java_float(number!(Float32Type))),
        DataType::Float64 => text!(java_double(number!(Float64Type))),
        DataType::Decimal128(_, scale) => text!(decimal_text(number!(Decimal128Type), *scale)),
        DataType::Utf8 => text!(array.as_string::<i32>().value(row)),
        DataType::Binary => text!(String::from_utf8_lossy(array.as_binary::<i32>().value(row))),
        DataType::Date32 => text!(date_text(number!(Date32Type))),
        DataType::Timestamp(..) => text!(timestamp_text(number!(TimestampMicrosecondType))),
        DataType::Struct(_) => {
            let columns = array.as_struct().columns();
            enclosed(out, ["{", ", ", "}"], 0..columns.len(), |k, out| put(&columns[k], row, out));
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            enclosed(out, ["[", ", ", "]"], span(list.value_offsets(), row), |at, out| put(list.values(), at, out));
        }
        DataType::Map(..) => {
            let map = array.as_map();
            enclosed(out, ["{", ", ", "}"], span(map.value_offsets(), row), |at, out| {
                put(map.keys(), at, out);
                out.extend_from_slice(b" -> ");
                put(map.values(), at, out);
            });
        }
        _ => out.extend_from_slice(b"null"),
    }
}
