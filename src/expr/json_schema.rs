//! `schema_of_json`: the type of a JSON text as Spark infers it, in DDL.

use super::ddl::{list_of, type_to_ddl};
use super::json_text::reader;
use crate::json::{Cursor, Next, Scan, unescape};
use arrow::datatypes::{DataType, Field, Fields};
use std::sync::Arc;

/// The DDL of the text's type. The error says why the text is not JSON.
pub(super) fn of(text: &str) -> Result<String, String> {
    let mut cursor = reader(text.as_bytes());
    let found = infer(&mut cursor, 0).map_err(|f| f.what.into_owned())?;
    let empty = || DataType::Struct(Fields::empty());
    let settled = match found {
        DataType::Struct(_) => settled(found).unwrap_or_else(empty),
        DataType::List(item) if matches!(item.data_type(), DataType::Struct(_)) => {
            list_of(settled(item.data_type().clone()).unwrap_or_else(empty))
        }
        other => settled(other).unwrap_or(DataType::Utf8),
    };
    Ok(type_to_ddl(&settled))
}

fn infer(cursor: &mut Cursor<'_>, depth: u32) -> Scan<DataType> {
    Ok(match cursor.next()? {
        Next::Null => {
            cursor.word(b"null")?;
            DataType::Null
        }
        Next::String => {
            cursor.string()?;
            DataType::Utf8
        }
        Next::True => {
            cursor.word(b"true")?;
            DataType::Boolean
        }
        Next::False => {
            cursor.word(b"false")?;
            DataType::Boolean
        }
        Next::Number => number(cursor.number()?),
        Next::Array => {
            let mut item = DataType::Null;
            cursor.array(depth, |cursor, depth| {
                let one = infer(cursor, depth)?;
                item = common(std::mem::replace(&mut item, DataType::Null), one);
                Ok(())
            })?;
            list_of(item)
        }
        Next::Object => {
            let mut fields: Vec<Field> = vec![];
            cursor.object(depth, |cursor, key, depth| {
                let mut name = vec![];
                unescape(key, &mut name);
                let of = infer(cursor, depth)?;
                fields.push(Field::new(String::from_utf8_lossy(&name), of, true));
                Ok(())
            })?;
            fields.sort_by(|a, b| a.name().cmp(b.name()));
            DataType::Struct(fields.into())
        }
    })
}

fn number(text: &[u8]) -> DataType {
    if text.iter().any(|b| matches!(b, b'.' | b'e' | b'E')) {
        return DataType::Float64;
    }
    let text = std::str::from_utf8(text).unwrap_or_default();
    let digits = text.trim_start_matches('-').len();
    match text.parse::<i64>() {
        Ok(_) => DataType::Int64,
        Err(_) if digits <= 38 => DataType::Decimal128(digits as u8, 0),
        Err(_) => DataType::Float64,
    }
}

/// The type of two elements of one array.
fn common(a: DataType, b: DataType) -> DataType {
    use DataType as T;
    match (a, b) {
        (a, b) if a == b => a,
        (T::Null, t) | (t, T::Null) => t,
        (T::Int64, T::Float64) | (T::Float64, T::Int64) => T::Float64,
        (T::Decimal128(..), T::Float64) | (T::Float64, T::Decimal128(..)) => T::Float64,
        (T::Decimal128(p, s), T::Decimal128(q, _)) => T::Decimal128(p.max(q), s),
        (T::Int64, T::Decimal128(p, s)) | (T::Decimal128(p, s), T::Int64) => T::Decimal128(p.max(20), s),
        (T::List(a), T::List(b)) => list_of(common(a.data_type().clone(), b.data_type().clone())),
        (T::Struct(a), T::Struct(b)) => {
            let mut fields: Vec<Field> = a.iter().map(|f| f.as_ref().clone()).collect();
            for other in b.iter() {
                match fields.iter_mut().find(|f| f.name() == other.name()) {
                    Some(f) => {
                        let both = common(f.data_type().clone(), other.data_type().clone());
                        *f = f.clone().with_data_type(both);
                    }
                    None => fields.push(other.as_ref().clone()),
                }
            }
            fields.sort_by(|a, b| a.name().cmp(b.name()));
            T::Struct(fields.into())
        }
        _ => T::Utf8,
    }
}

/// Null becomes STRING. None: an object without fields, which is left out.
fn settled(t: DataType) -> Option<DataType> {
    Some(match t {
        DataType::Null => DataType::Utf8,
        DataType::List(item) => list_of(settled(item.data_type().clone())?),
        DataType::Struct(fields) => {
            let one = |f: &Arc<Field>| Some(f.as_ref().clone().with_data_type(settled(f.data_type().clone())?));
            // Spark leaves out fields without a name.
            let fields: Vec<Field> = fields.iter().filter(|f| !f.name().is_empty()).filter_map(one).collect();
            if fields.is_empty() {
                return None;
            }
            DataType::Struct(fields.into())
        }
        other => other,
    })
}
