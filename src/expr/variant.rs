//! VARIANT: any JSON value. It exists within expressions only, as JSON text. No column has it, because tables must stay readable by Spark 3.5.
//!
//! ```text
//! parse_json(text)      VARIANT: the text in one form (no blanks, fields by name, numbers as they are kept by Spark)
//! v:a.b[0]              VARIANT: the value that the path leads to. Names are case-sensitive, and a null stays a VARIANT
//! variant_get(v, '$.a')  the same by a text, and with a type in one step
//! text:a.b[0]           STRING: the same of a text
//! v::INT, v:a::INT      a value; null is NULL
//! ```
//!
//! Its type within a bound expression is `LargeUtf8`. No column is of this type there, because `canonical` makes STRING of it.

use super::cast;
use super::ddl::type_to_ddl;
use super::evaluate::row_error;
use super::json_path::{self, Step};
use super::json_text::{self, copy_plain, put_string, reader};
use super::kernel::{Args, Kernel, room, written};
use super::node::Typed;
use crate::json::{Cursor, Next, Scan, Taken, fault, unescape};
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, LargeStringArray, LargeStringBuilder, StringArray};
use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::ColumnarValue;
use std::sync::Arc;

pub(super) const VARIANT: DataType = DataType::LargeUtf8;

pub(super) fn is(t: &DataType) -> bool {
    *t == VARIANT
}

/// The error for a column of this type.
pub(super) fn no_column(sql: &str) -> Error {
    Error::schema(format!(
        "{sql} is VARIANT, which no column can hold: tables stay readable by Spark 3.5. to_json(…) converts it to text, and a cast converts it to a \
         value, as in v:a.b::INT"
    ))
}

/// `parse_json`, and `try_parse_json`: NULL instead of an error.
pub(super) fn parse(args: Vec<Typed>, sql: String, r#try: bool) -> Typed {
    let kernel: Kernel = Arc::new(move |a: &Args| {
        let text = a.str(0)?;
        let mut out = LargeStringBuilder::with_capacity(a.rows, a.rows * 32);
        let mut json = Vec::new();
        for row in 0..a.rows {
            let Some(text) = text.get(row) else {
                out.append_null();
                continue;
            };
            json.clear();
            match document(text, &mut json) {
                Ok(()) => out.append_value(String::from_utf8_lossy(&json)),
                Err(_) if r#try => out.append_null(),
                Err(f) => return Err(row_error(format!("parse_json: {}", f.what))),
            }
        }
        Ok(Arc::new(out.finish()) as ArrayRef)
    });
    Typed::call(args, VARIANT, r#try, sql, kernel)
}

/// One document. As in Spark, text after the document is ignored.
fn document(text: &str, out: &mut Vec<u8>) -> Scan<()> {
    let mut cursor = Cursor::new(text.as_bytes());
    cursor.taken = Taken::UNNAMED;
    canonical(&mut cursor, 0, out)?;
    if json_text::ends_well(text, &cursor) { Ok(()) } else { fault("a broken number", cursor.at) }
}

/// Writes the value at the cursor in the one form of its value.
fn canonical(cursor: &mut Cursor<'_>, depth: u32, out: &mut Vec<u8>) -> Scan<()> {
    match cursor.next()? {
        Next::Object => {
            // The parts of the object, each with its name in front.
            let mut fields: Vec<(Vec<u8>, Vec<u8>)> = vec![];
            cursor.object(depth, |cursor, key, depth| {
                let (mut name, mut value) = (vec![], vec![]);
                unescape(key, &mut name);
                canonical(cursor, depth, &mut value)?;
                fields.push((name, value));
                Ok(())
            })?;
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            if fields.windows(2).any(|two| two[0].0 == two[1].0) {
                return fault("a field occurs twice in one object, which no VARIANT can hold", cursor.at);
            }
            out.push(b'{');
            for (i, (name, value)) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                put_string(name, out);
                out.push(b':');
                out.extend_from_slice(value);
            }
            out.push(b'}');
            Ok(())
        }
        Next::Array => json_text::array(cursor, depth, out, canonical),
        Next::Number => {
            let text = cursor.number()?;
            put_number(text, out);
            Ok(())
        }
        _ => json_text::copy(cursor, depth, out),
    }
}

/// Numbers without an exponent are DECIMAL where they have at most 38 digits, and DOUBLE otherwise.
fn put_number(number: &[u8], out: &mut Vec<u8>) {
    let digits = number.iter().filter(|b| b.is_ascii_digit()).count();
    let exponent = number.iter().any(|b| matches!(b, b'e' | b'E'));
    if exponent || digits > 38 {
        let value: f64 = std::str::from_utf8(number).ok().and_then(|t| t.parse().ok()).unwrap_or(f64::NAN);
        out.extend_from_slice(super::text::java_double(value).as_bytes());
        return;
    }
    let mut text = number;
    if number.contains(&b'.') {
        let end = number.iter().rposition(|b| *b != b'0').map_or(0, |i| i + 1);
        text = &number[..end];
        text = text.strip_suffix(b".").unwrap_or(text);
    }
    out.extend_from_slice(if text == b"-0" { b"0" } else { text });
}

/// `operand:path`.
pub(super) fn at(operand: Typed, path: Vec<Step>, sql: String) -> Result<Typed> {
    let variant = is(&operand.data_type);
    if !variant && operand.data_type != DataType::Utf8 {
        return Err(Error::schema(format!(
            "{sql}: a path behind a colon goes into JSON text or a VARIANT, and {} is {}. Fields of a STRUCT follow a point.",
            operand.sql,
            type_to_ddl(&operand.data_type)
        )));
    }
    if variant {
        return inside(operand, path, sql);
    }
    let kernel: Kernel = Arc::new(move |a: &Args| {
        let texts = a.str(0)?;
        written(a.rows, |row, out| Ok(texts.get(row).is_some_and(|t| json_path::value_at(t, &path, true, out))))
    });
    Ok(Typed::call(vec![operand], DataType::Utf8, true, sql, kernel))
}

/// The value of a VARIANT that a path leads to.
pub(super) fn inside(operand: Typed, path: Vec<Step>, sql: String) -> Result<Typed> {
    if path.iter().any(|step| matches!(step, Step::Elements | Step::Nothing)) {
        return Err(Error::schema(format!(
            "{sql}: a path into a VARIANT leads to one value. For each element: transform(v::ARRAY<…>, x -> …)"
        )));
    }
    let kernel: Kernel = Arc::new(move |a: &Args| {
        let mut found = Vec::new();
        let array = a.full(0)?;
        let texts = array.as_string::<i64>();
        let mut out = LargeStringBuilder::with_capacity(a.rows, a.rows * 8);
        for row in 0..a.rows {
            found.clear();
            let any = texts.is_valid(row)
                && matches!(descend(&mut Cursor::new(texts.value(row).as_bytes()), 0, &path, &mut found), Ok(true));
            out.append_option(any.then(|| String::from_utf8_lossy(&found)));
        }
        Ok(Arc::new(out.finish()) as ArrayRef)
    });
    Ok(Typed::call(vec![operand], VARIANT, true, sql, kernel))
}

/// Writes the value that a path leads to. The cursor is in front of a value in the one form. False: there is no such
/// value.
fn descend(cursor: &mut Cursor<'_>, depth: u32, path: &[Step], out: &mut Vec<u8>) -> Scan<bool> {
    cursor.taken = Taken::UNNAMED;
    let next = cursor.next()?;
    let Some((step, rest)) = path.split_first() else {
        let from = cursor.at;
        cursor.skip_value(depth)?;
        out.extend_from_slice(&cursor.bytes[from..cursor.at]);
        return Ok(true);
    };
    let mut found = false;
    match (next, step) {
        (Next::Object, Step::Field { name, .. }) => {
            let mut text = Vec::new();
            cursor.object(depth, |cursor, key, depth| {
                text.clear();
                unescape(key, &mut text);
                if text == name.as_bytes() {
                    found = descend(cursor, depth, rest, out)?;
                    return Ok(());
                }
                cursor.skip_value(depth)
            })?;
        }
        (Next::Array, Step::Index(index)) => {
            let mut at = 0;
            cursor.array(depth, |cursor, depth| {
                at += 1;
                if at - 1 == *index {
                    found = descend(cursor, depth, rest, out)?;
                    return Ok(());
                }
                cursor.skip_value(depth)
            })?;
        }
        _ => cursor.skip_value(depth)?,
    }
    Ok(found)
}

/// The kind of a value, for a cast.
enum Kind {
    Null,
    Text,
    Number,
    Other,
}

/// The kernel of a cast of a VARIANT. Numbers are cut to whole numbers, as other casts of numbers do; a string is cast as a string is; arrays
/// and objects become ARRAY, MAP and STRUCT as `from_json` reads them.
pub(super) fn cast_kernel(to: &DataType, r#try: bool) -> Option<Kernel> {
    if is(to) {
        return None;
    }
    if matches!(to, DataType::Struct(_) | DataType::List(_) | DataType::Map(..)) {
        let reader = super::from_json::Reader::new(to.clone(), super::from_json::Options::of_values(r#try)).ok()?;
        return Some(Arc::new(move |a: &Args| {
            let array = a.full(0)?;
            let texts = array.as_string::<i64>();
            reader.read(a.rows, |row| texts.is_valid(row).then(|| texts.value(row)))
        }));
    }
    let from_text = cast::text_kernel(to, r#try)?;
    let from_number = cast::number_kernel(to, r#try);
    let to = to.clone();
    Some(Arc::new(move |a: &Args| {
        let array = a.full(0)?;
        let variants = array.as_string::<i64>();
        convert(variants, &from_text, from_number.as_ref(), &to, r#try)
    }))
}

fn kind(json: &str) -> Kind {
    match Cursor::new(json.as_bytes()).next() {
        Ok(Next::Null) | Err(_) => Kind::Null,
        Ok(Next::String) => Kind::Text,
        Ok(Next::Number) => Kind::Number,
        Ok(_) => Kind::Other,
    }
}

fn convert(
    variants: &LargeStringArray,
    from_text: &Kernel,
    from_number: Option<&Kernel>,
    to: &DataType,
    r#try: bool,
) -> DfResult<ArrayRef> {
    let rows = variants.len();
    let (mut texts, mut numbers) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    let (mut plain, mut any_number) = (Vec::new(), false);
    for row in 0..rows {
        let json = if variants.is_valid(row) { variants.value(row) } else { "null" };
        let kind = kind(json);
        let number = matches!(kind, Kind::Number) && from_number.is_some();
        any_number |= number;
        let number_of_truth = matches!(kind, Kind::Other) && super::coerce::is_number(to);
        let text = match kind {
            Kind::Null => None,
            _ if number_of_truth && json == "true" => Some("1".to_string()),
            _ if number_of_truth && json == "false" => Some("0".to_string()),
            // A text that is not a value of the type stays a text: `{"a":1}` is not an INT.
            _ => {
                plain.clear();
                drop(copy_plain(&mut reader(json.as_bytes()), 0, &mut plain));
                Some(String::from_utf8_lossy(&plain).into_owned())
            }
        };
        numbers.push(text.clone().filter(|_| number));
        texts.push(text.filter(|_| !number));
    }
    let run = |kernel: &Kernel, texts: Vec<Option<String>>| -> DfResult<ArrayRef> {
        room(0, texts.iter().flatten().map(String::len).sum())?;
        kernel(&Args::new(vec![ColumnarValue::Array(Arc::new(StringArray::from(texts)))], rows)?)
    };
    let is_number: arrow::array::BooleanArray = numbers.iter().map(|n| Some(n.is_some())).collect();
    let out = run(from_text, texts)?;
    match from_number.filter(|_| any_number) {
        None => Ok(out),
        Some(kernel) => {
            let numbers = run(kernel, numbers)?;
            debug_assert!(r#try || numbers.data_type() == to);
            Ok(arrow::compute::kernels::zip::zip(&is_number, &numbers, &out)?)
        }
    }
}
