//! `to_json`: values as JSON text, as Spark writes it. NULL fields of a struct are left out, NULL elements and values of maps are written.

use super::ddl::type_to_ddl;
use super::json_text::put_string;
use super::text::{decimal_text, enclosed, java_double, java_float, span};
use super::variant;
use crate::calendar::{date_text, put_date, put_time};
use crate::{Error, Result};
use arrow::array::{Array, AsArray};
use arrow::datatypes::*;
use base64::Engine;
use std::io::Write;

/// Refuses types that Spark has no JSON for.
pub(super) fn check(place: &str, t: &DataType) -> Result<()> {
    match t {
        DataType::Struct(fields) => fields.iter().try_for_each(|f| check(place, f.data_type())),
        DataType::List(item) => check(place, item.data_type()),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => {
                let key = kv[0].data_type();
                if !matches!(key, DataType::Utf8 | DataType::Boolean) && !super::coerce::is_int(key) {
                    return Err(Error::schema(format!(
                        "{place}: the keys of a MAP in JSON are STRING, whole numbers or BOOLEAN, not {}",
                        type_to_ddl(key)
                    )));
                }
                check(place, kv[1].data_type())
            }
            _ => Err(Error::schema(format!("{place}: the entries of this MAP are not key and value"))),
        },
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
        | DataType::Null => Ok(()),
        t if variant::is(t) => Ok(()),
        other => Err(Error::schema(format!("{place}: {} has no JSON", type_to_ddl(other)))),
    }
}

/// Writes the value of a row, which is not NULL.
pub(super) fn put(array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    macro_rules! number {
        ($t:ty) => {
            array.as_primitive::<$t>().value(row)
        };
    }
    // Writing to memory does not fail.
    macro_rules! text {
        ($v:expr) => {
            drop(write!(out, "{}", $v))
        };
    }
    match array.data_type() {
        DataType::Boolean => text!(array.as_boolean().value(row)),
        DataType::Int8 => text!(number!(Int8Type)),
        DataType::Int16 => text!(number!(Int16Type)),
        DataType::Int32 => text!(number!(Int32Type)),
        DataType::Int64 => text!(number!(Int64Type)),
        DataType::Float32 => float(f64::from(number!(Float32Type)), java_float(number!(Float32Type)), out),
        DataType::Float64 => float(number!(Float64Type), java_double(number!(Float64Type)), out),
        DataType::Decimal128(_, scale) => out.extend_from_slice(decimal(number!(Decimal128Type), *scale).as_bytes()),
        DataType::Utf8 => put_string(array.as_string::<i32>().value(row).as_bytes(), out),
        DataType::LargeUtf8 => out.extend_from_slice(array.as_string::<i64>().value(row).as_bytes()),
        DataType::Binary => {
            let text = base64::engine::general_purpose::STANDARD.encode(array.as_binary::<i32>().value(row));
            put_string(text.as_bytes(), out);
        }
        DataType::Date32 => text!(format_args!("\"{}\"", date_text(number!(Date32Type)))),
        DataType::Timestamp(..) => timestamp(number!(TimestampMicrosecondType), out),
        DataType::Struct(fields) => {
            out.push(b'{');
            let mut first = true;
            for (field, column) in fields.iter().zip(array.as_struct().columns()) {
                // An array of the type VOID has no bitmap of NULLs.
                if column.is_null(row) || *column.data_type() == DataType::Null {
                    continue;
                }
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                put_string(field.name().as_bytes(), out);
                out.push(b':');
                put(column, row, out);
            }
            out.push(b'}');
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            enclosed(out, ["[", ",", "]"], span(list.value_offsets(), row), |at, out| {
                put_or_null(list.values(), at, out)
            });
        }
        DataType::Map(..) => {
            let map = array.as_map();
            enclosed(out, ["{", ",", "}"], span(map.value_offsets(), row), |at, out| {
                match map.keys().data_type() {
                    DataType::Utf8 => put_string(map.keys().as_string::<i32>().value(at).as_bytes(), out),
                    _ => {
                        out.push(b'"');
                        put(map.keys(), at, out);
                        out.push(b'"');
                    }
                }
                out.push(b':');
                put_or_null(map.values(), at, out);
            });
        }
        _ => out.extend_from_slice(b"null"),
    }
}

fn put_or_null(array: &dyn Array, row: usize, out: &mut Vec<u8>) {
    if array.is_null(row) { out.extend_from_slice(b"null") } else { put(array, row, out) }
}

fn float(value: f64, text: String, out: &mut Vec<u8>) {
    if value.is_finite() { out.extend_from_slice(text.as_bytes()) } else { put_string(text.as_bytes(), out) }
}

/// As Java's BigDecimal writes itself: numbers below a millionth with an exponent.
fn decimal(value: i128, scale: i8) -> String {
    let digits = value.unsigned_abs().to_string();
    let exponent = digits.len() as i32 - 1 - i32::from(scale);
    if scale <= 0 || exponent >= -6 {
        return decimal_text(value, scale);
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    format!("{}{first}{point}{rest}E{exponent}", if value < 0 { "-" } else { "" })
}

/// To the millisecond, in UTC.
fn timestamp(micros: i64, out: &mut Vec<u8>) {
    const DAY: i64 = 86_400_000_000;
    let mut text = *b"\"0000-00-00T00:00:00.000";
    let (days, since) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let mut time = *b"00:00:00.000000";
    put_time(since, &mut time);
    text[12..24].copy_from_slice(&time[..12]);
    if put_date(days, &mut text[1..11]).is_none() {
        // Beyond the years of four digits.
        let date = date_text(days.try_into().unwrap_or(i32::MAX));
        drop(write!(out, "\"{date}T{}Z\"", String::from_utf8_lossy(&time[..12])));
        return;
    }
    out.extend_from_slice(&text);
    out.extend_from_slice(b"Z\"");
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int32Array, NullArray, StructArray};
    use std::sync::Arc;

    #[test]
    fn a_field_of_the_type_void_is_left_out_as_other_nulls_are() {
        let field = |name: &str, t| Arc::new(Field::new(name, t, true));
        let values = |n: Option<i32>| Arc::new(Int32Array::from(vec![n])) as ArrayRef;
        let of = StructArray::from(vec![
            (field("v", DataType::Null), Arc::new(NullArray::new(1)) as ArrayRef),
            (field("a", DataType::Int32), values(Some(1))),
            (field("b", DataType::Int32), values(None)),
        ]);
        let mut out = vec![];
        put(&of, 0, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "{\"a\":1}");
    }
}
