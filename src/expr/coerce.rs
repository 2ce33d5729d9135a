//! The common type of two types, as in Spark's ANSI mode (`AnsiTypeCoercion`).

use super::cast::{self, implicit};
use super::ddl::{list_of, map_of, type_to_ddl};
use super::lists::key_value;
use super::node::Typed;
use super::variant;
use crate::time::timestamp_type;
use crate::{Error, Result};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use datafusion::common::ScalarValue;
use std::sync::Arc;

/// The type that bayou uses for a type: Utf8, microseconds in UTC, signed integers, Decimal128.
pub(super) fn canonical(t: &DataType) -> DataType {
    use DataType as T;
    match t {
        T::LargeUtf8 | T::Utf8View => T::Utf8,
        T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => T::Binary,
        T::Date64 => T::Date32,
        T::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC" => t.clone(),
        T::Timestamp(_, _) => timestamp_type(),
        T::UInt8 => T::Int16,
        T::UInt16 => T::Int32,
        T::UInt32 => T::Int64,
        T::UInt64 => T::Decimal128(20, 0),
        T::Float16 => T::Float32,
        T::Decimal32(p, s) | T::Decimal64(p, s) => T::Decimal128(*p, *s),
        T::Decimal128(p, s) if *s < 0 => T::Decimal128((*p as i16 - i16::from(*s)).min(38) as u8, 0),
        T::Dictionary(_, value) => canonical(value),
        T::List(f) | T::LargeList(f) | T::FixedSizeList(f, _) | T::ListView(f) | T::LargeListView(f) => {
            list_of(canonical(f.data_type()))
        }
        T::Struct(fields) => T::Struct(
            fields.iter().map(|f| Arc::new(Field::new(f.name(), canonical(f.data_type()), f.is_nullable()))).collect(),
        ),
        T::Map(entries, _) => match entries.data_type() {
            T::Struct(kv) if kv.len() == 2 => map_of(canonical(kv[0].data_type()), canonical(kv[1].data_type())),
            _ => t.clone(),
        },
        other => other.clone(),
    }
}

pub(super) fn is_int(t: &DataType) -> bool {
    matches!(t, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64)
}
pub(super) fn is_float(t: &DataType) -> bool {
    matches!(t, DataType::Float32 | DataType::Float64)
}
pub(super) fn is_decimal(t: &DataType) -> bool {
    matches!(t, DataType::Decimal128(..))
}
pub(super) fn is_number(t: &DataType) -> bool {
    is_int(t) || is_float(t) || is_decimal(t)
}
pub(super) fn is_timestamp(t: &DataType) -> bool {
    matches!(t, DataType::Timestamp(..))
}
pub(super) fn is_interval(t: &DataType) -> bool {
    matches!(t, DataType::Duration(_) | DataType::Interval(_))
}

/// Precision and scale of the type as a DECIMAL.
pub(super) fn decimal_of(t: &DataType) -> Option<(u8, i8)> {
    Some(match t {
        DataType::Int8 => (3, 0),
        DataType::Int16 => (5, 0),
        DataType::Int32 => (10, 0),
        DataType::Int64 => (20, 0),
        DataType::Decimal128(p, s) => (*p, *s),
        _ => return None,
    })
}

/// As `decimal_of`, but the precision of a literal whole number is the number of its digits. That of a literal TINYINT is 3 in any case, as in Spark.
pub(super) fn decimal_of_operand(typed: &Typed) -> Option<(u8, i8)> {
    let digits = |v: i64| (v.unsigned_abs().to_string().len() as u8, 0);
    match typed.constant().filter(|_| typed.literal) {
        Some(ScalarValue::Int16(Some(v))) => Some(digits(i64::from(*v))),
        Some(ScalarValue::Int32(Some(v))) => Some(digits(i64::from(*v))),
        Some(ScalarValue::Int64(Some(v))) => Some(digits(*v)),
        _ => decimal_of(&typed.data_type),
    }
}

fn rank(t: &DataType) -> Option<u8> {
    Some(match t {
        DataType::Int8 => 0,
        DataType::Int16 => 1,
        DataType::Int32 => 2,
        DataType::Int64 => 3,
        DataType::Float32 => 4,
        DataType::Float64 => 5,
        _ => return None,
    })
}

/// The type that both can be cast to, if there is one.
pub(super) fn common(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as T;
    if a == b {
        return Some(a.clone());
    }
    match (a, b) {
        (T::Null, t) | (t, T::Null) => return Some(t.clone()),
        (T::Utf8, t) | (t, T::Utf8) => return with_string(t),
        (T::Date32, t) | (t, T::Date32) if is_timestamp(t) => return Some(t.clone()),
        (T::List(x), T::List(y)) => return common(x.data_type(), y.data_type()).map(list_of),
        (T::Map(..), T::Map(..)) => {
            let ((k1, v1), (k2, v2)) = (key_value(a)?, key_value(b)?);
            return Some(map_of(common(&k1, &k2)?, common(&v1, &v2)?));
        }
        (T::Struct(x), T::Struct(y)) => {
            if x.len() != y.len() {
                return None;
            }
            let both = |(x, y): (&FieldRef, &FieldRef)| {
                let same = x.name().to_lowercase() == y.name().to_lowercase();
                let t = if same { common(x.data_type(), y.data_type()) } else { None };
                t.map(|t| Arc::new(Field::new(x.name(), t, x.is_nullable() || y.is_nullable())))
            };
            return x.iter().zip(y).map(both).collect::<Option<Fields>>().map(T::Struct);
        }
        _ => {}
    }
    if !is_number(a) || !is_number(b) {
        return None;
    }
    if is_decimal(a) || is_decimal(b) {
        if is_float(a) || is_float(b) {
            return Some(T::Float64);
        }
        let ((p1, s1), (p2, s2)) = (decimal_of(a)?, decimal_of(b)?);
        let scale = s1.max(s2);
        let whole = (p1 as i8 - s1).max(p2 as i8 - s2);
        // If there are too many digits, the digits in front of the point are kept.
        let scale = scale.min(38 - whole);
        return Some(T::Decimal128((whole + scale) as u8, scale));
    }
    if is_int(a) != is_int(b) && (*a == T::Float32 || *b == T::Float32) {
        return Some(T::Float64);
    }
    Some(if rank(a)? > rank(b)? { a.clone() } else { b.clone() })
}

/// The type of rows of both types, where UNION or IN puts them together.
pub(crate) fn common_type(a: &DataType, b: &DataType) -> Option<DataType> {
    common(&canonical(a), &canonical(b))
}

/// As `common`, but a string is not read as a different type. Where Spark compares values within arrays and structs, it
/// does not cast strings.
pub(super) fn strictly_common(a: &DataType, b: &DataType) -> Option<DataType> {
    fn mixes(a: &DataType, b: &DataType) -> bool {
        use DataType as T;
        match (a, b) {
            (T::Null, _) | (_, T::Null) => false,
            (T::List(x), T::List(y)) => mixes(x.data_type(), y.data_type()),
            (T::Map(x, _), T::Map(y, _)) => mixes(x.data_type(), y.data_type()),
            (T::Struct(x), T::Struct(y)) => x.iter().zip(y).any(|(x, y)| mixes(x.data_type(), y.data_type())),
            (a, b) => (*a == T::Utf8) != (*b == T::Utf8),
        }
    }
    if mixes(a, b) { None } else { common(a, b).or_else(|| alike(a, b).then(|| a.clone())) }
}

/// Whether two types differ in the names of fields only.
fn alike(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::List(x), DataType::List(y)) => alike(x.data_type(), y.data_type()),
        (DataType::Struct(x), DataType::Struct(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| alike(x.data_type(), y.data_type()))
        }
        (a, b) => a == b,
    }
}

/// In ANSI mode a string is read as the type of the other side: BIGINT for whole numbers, DOUBLE for other numbers.
fn with_string(t: &DataType) -> Option<DataType> {
    match t {
        t if is_int(t) => Some(DataType::Int64),
        t if is_float(t) || is_decimal(t) => Some(DataType::Float64),
        DataType::Boolean | DataType::Date32 | DataType::Binary | DataType::Timestamp(..) => Some(t.clone()),
        _ => None,
    }
}

/// All expressions, cast to their common type.
pub(super) fn unify(place: &str, all: Vec<Typed>) -> Result<(Vec<Typed>, DataType)> {
    let mut to = DataType::Null;
    // As in Spark, strings come last, so that ('1', 2, 3) is BIGINT in any order.
    for strings in [false, true] {
        for t in all.iter().filter(|t| (t.data_type == DataType::Utf8) == strings) {
            to = common(&to, &t.data_type).ok_or_else(|| {
                Error::schema(format!(
                    "{place}: {} is {}, which has no type in common with {}. Use CAST.",
                    t.sql,
                    type_to_ddl(&t.data_type),
                    type_to_ddl(&to)
                ))
            })?;
        }
    }
    let all = all.into_iter().map(|t| implicit(t, &to)).collect::<Result<_>>()?;
    Ok((all, to))
}

/// The type of a parameter of a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Param {
    Text,
    /// INT. Other numbers and strings are cast, and checked; as in Spark, a fraction is cut.
    Int,
    Big,
    Double,
    /// Any number, which is not cast; strings become DOUBLE.
    Number,
    Bool,
    Date,
    Time,
    Bytes,
    /// STRING or BINARY, which are not cast; other types become STRING.
    TextOrBytes,
    Any,
}

impl Param {
    fn describe(self) -> &'static str {
        match self {
            Self::Text => "STRING",
            Self::Int => "INT",
            Self::Big => "BIGINT",
            Self::Double => "DOUBLE",
            Self::Number => "a number",
            Self::Bool => "BOOLEAN",
            Self::Date => "DATE",
            Self::Time => "TIMESTAMP",
            Self::Bytes => "BINARY",
            Self::TextOrBytes => "STRING or BINARY",
            Self::Any => "a value",
        }
    }

    /// The implicit cast of an argument, as in Spark.
    pub(super) fn take(self, function: &str, position: usize, arg: Typed) -> Result<Typed> {
        use DataType as T;
        let atomic = !arg.data_type.is_nested() && !is_interval(&arg.data_type) && !variant::is(&arg.data_type);
        let text = arg.data_type == T::Utf8;
        let null = arg.data_type == T::Null;
        if matches!(self, Self::Text | Self::TextOrBytes) && is_interval(&arg.data_type) {
            return Ok(super::functions::to_text(arg));
        }
        if self == Self::Text && variant::is(&arg.data_type) {
            let sql = arg.sql.clone();
            return Ok(cast::explicit(arg, &T::Utf8, false)?.named(sql));
        }
        let to = match self {
            Self::Any => return Ok(arg),
            Self::Text if atomic => Some(T::Utf8),
            Self::Int if is_number(&arg.data_type) || text || null => Some(T::Int32),
            Self::Big if is_number(&arg.data_type) || text || null => Some(T::Int64),
            Self::Double if is_number(&arg.data_type) || text || null => Some(T::Float64),
            Self::Number if is_number(&arg.data_type) => Some(arg.data_type.clone()),
            Self::Number if text || null => Some(T::Float64),
            Self::Bool if arg.data_type == T::Boolean || text || null => Some(T::Boolean),
            Self::Date if matches!(arg.data_type, T::Date32 | T::Utf8 | T::Null) || is_timestamp(&arg.data_type) => {
                Some(T::Date32)
            }
            Self::Time if matches!(arg.data_type, T::Date32 | T::Utf8 | T::Null) || is_timestamp(&arg.data_type) => {
                Some(timestamp_type())
            }
            Self::Bytes if matches!(arg.data_type, T::Binary | T::Utf8 | T::Null) => Some(T::Binary),
            Self::TextOrBytes if arg.data_type == T::Binary => Some(T::Binary),
            Self::TextOrBytes if atomic => Some(T::Utf8),
            _ => None,
        };
        match to {
            Some(to) => implicit(arg, &to),
            None => Err(Error::schema(format!(
                "{function}: argument {} ({}) must be {}, not {}. Use CAST.",
                position + 1,
                arg.sql,
                self.describe(),
                if variant::is(&arg.data_type) { "VARIANT".into() } else { type_to_ddl(&arg.data_type) }
            ))),
        }
    }
}
