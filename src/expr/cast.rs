//! Casts, as Spark's ANSI mode has them.

use super::ddl::{timestamp, type_to_ddl};
use super::evaluate::row_error;
use super::kernel::{Args, Kernel, binaries, bools, nums, nums_as, strings};
use super::node::Typed;
use super::text;
use crate::calendar::{DAY, cast_date, cast_timestamp, date_text, timestamp_text};
use crate::{Error, Result};
use arrow::array::{ArrayRef, ArrowPrimitiveType};
use arrow::compute::CastOptions;
use arrow::datatypes::*;
use datafusion::error::Result as DfResult;
use std::sync::Arc;

/// `CAST(x AS t)` and `TRY_CAST(x AS t)` as the user writes them.
pub(super) fn explicit(arg: Typed, to: &DataType, r#try: bool) -> Result<Typed> {
    let sql = format!("{}({} AS {})", if r#try { "TRY_CAST" } else { "CAST" }, arg.sql, type_to_ddl(to));
    // Also of a literal to its own type: Spark narrows what is written, not what a cast says.
    Ok(Typed { literal: false, ..convert(arg, to, r#try)?.named(sql) })
}

/// A cast that coercion adds: Spark does not show it in names.
pub(super) fn implicit(arg: Typed, to: &DataType) -> Result<Typed> {
    convert(arg, to, false)
}

fn convert(arg: Typed, to: &DataType, r#try: bool) -> Result<Typed> {
    if &arg.data_type == to {
        return Ok(arg);
    }
    if arg.is_null_literal() || arg.data_type == DataType::Null {
        return Ok(Typed::null(to).named(arg.sql));
    }
    let Some(kernel) = kernel(&arg.data_type, to, r#try) else {
        return Err(Error::schema(format!(
            "{}: a cast from {} to {} is not supported",
            arg.sql,
            type_to_ddl(&arg.data_type),
            type_to_ddl(to)
        )));
    };
    let sql = arg.sql.clone();
    let label = format!("CAST({sql}: {} AS {to}){}", arg.data_type, if r#try { "?" } else { "" });
    let lossy = is_float(&arg.data_type) && matches!(to, DataType::Decimal128(..));
    Ok(Typed::call(vec![arg], to.clone(), r#try || lossy, label, kernel).named(sql))
}

fn is_float(t: &DataType) -> bool {
    matches!(t, DataType::Float32 | DataType::Float64)
}

fn is_int(t: &DataType) -> bool {
    matches!(t, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64)
}

/// Nothing where the cast is refused.
fn kernel(from: &DataType, to: &DataType, r#try: bool) -> Option<Kernel> {
    use DataType as T;
    let name = type_to_ddl(to);
    // What becomes of a value that does not fit.
    let fail =
        move |reason: &str| -> DfResult<()> { if r#try { Ok(()) } else { Err(row_error(format!("{reason} {name}"))) } };
    let fail = Arc::new(fail);
    macro_rules! or_fail {
        ($reason:literal, $value:expr) => {
            match $value {
                Some(v) => Ok(Some(v)),
                None => fail($reason).map(|()| None),
            }
        };
    }
    const INVALID: &str = "a value cannot be read as";
    macro_rules! from_str {
        ($parse:expr, $build:expr) => {{
            Some(Arc::new(move |a: &Args| {
                let s = a.str(0)?;
                $build(a.rows, &|row| match s.get(row) {
                    None => Ok(None),
                    Some(text) => match $parse(text) {
                        Some(v) => Ok(Some(v)),
                        None => fail(INVALID).map(|()| None),
                    },
                })
            }) as Kernel)
        }};
    }
    macro_rules! each {
        ($source:ty, $target:ty, $reason:literal, $f:expr) => {{
            let data_type = to.clone();
            Some(Arc::new(move |a: &Args| {
                let x = a.num::<$source>(0)?;
                nums_as::<$target>(a.rows, &data_type, |row| match x.get(row) {
                    None => Ok(None),
                    Some(v) => or_fail!($reason, $f(v)),
                })
            }) as Kernel)
        }};
    }
    macro_rules! show {
        ($source:ty, $f:expr) => {
            Some(Arc::new(|a: &Args| {
                let x = a.num::<$source>(0)?;
                strings(a.rows, |row| Ok(x.get(row).map($f)))
            }) as Kernel)
        };
    }
    macro_rules! truth {
        ($source:ty, $zero:expr) => {
            Some(Arc::new(|a: &Args| {
                let x = a.num::<$source>(0)?;
                bools(a.rows, |row| Ok(x.get(row).map(|v| v != $zero)))
            }) as Kernel)
        };
    }
    match (from, to) {
        // Strings.
        (T::Utf8, T::Int8) => {
            from_str!(|t: &str| text::parse_whole(t).and_then(|v| i8::try_from(v).ok()), nums_ref::<Int8Type>)
        }
        (T::Utf8, T::Int16) => {
            from_str!(|t: &str| text::parse_whole(t).and_then(|v| i16::try_from(v).ok()), nums_ref::<Int16Type>)
        }
        (T::Utf8, T::Int32) => {
            from_str!(|t: &str| text::parse_whole(t).and_then(|v| i32::try_from(v).ok()), nums_ref::<Int32Type>)
        }
        (T::Utf8, T::Int64) => from_str!(text::parse_whole, nums_ref::<Int64Type>),
        (T::Utf8, T::Float32) => from_str!(parse_float, nums_ref::<Float32Type>),
        (T::Utf8, T::Float64) => from_str!(text::parse_double, nums_ref::<Float64Type>),
        (T::Utf8, T::Boolean) => from_str!(text::parse_bool, bools_ref),
        (T::Utf8, T::Date32) => from_str!(cast_date, nums_ref::<Date32Type>),
        (T::Utf8, t) if *t == timestamp() => {
            let t = t.clone();
            from_str!(|t: &str| cast_timestamp(t, None), |rows, f: &dyn Fn(usize) -> DfResult<Option<i64>>| {
                nums_as::<TimestampMicrosecondType>(rows, &t, f)
            })
        }
        (T::Utf8, T::Decimal128(p, s)) => {
            let (p, s, t) = (*p, *s, to.clone());
            from_str!(|v: &str| text::parse_decimal(v, p, s), |rows, f: &dyn Fn(usize) -> DfResult<Option<i128>>| {
                nums_as::<Decimal128Type>(rows, &t, f)
            })
        }
        (T::Utf8, T::Binary) => Some(Arc::new(|a: &Args| {
            let s = a.str(0)?;
            binaries(a.rows, |row| Ok(s.get(row)))
        })),
        (T::Binary, T::Utf8) => Some(Arc::new(|a: &Args| {
            let s = a.bytes(0)?;
            strings(a.rows, |row| Ok(s.get(row).map(String::from_utf8_lossy)))
        })),
        (T::Float32, T::Utf8) => show!(Float32Type, text::java_float),
        (T::Float64, T::Utf8) => show!(Float64Type, text::java_double),
        (T::Date32, T::Utf8) => show!(Date32Type, date_text),
        (T::Timestamp(..), T::Utf8) => show!(TimestampMicrosecondType, timestamp_text),
        (T::Decimal128(_, s), T::Utf8) => {
            let s = *s;
            Some(Arc::new(move |a: &Args| {
                let x = a.num::<Decimal128Type>(0)?;
                strings(a.rows, |row| Ok(x.get(row).map(|v| text::decimal_text(v, s))))
            }))
        }
        // Truth.
        (T::Int8, T::Boolean) => truth!(Int8Type, 0),
        (T::Int16, T::Boolean) => truth!(Int16Type, 0),
        (T::Int32, T::Boolean) => truth!(Int32Type, 0),
        (T::Int64, T::Boolean) => truth!(Int64Type, 0),
        (T::Float32, T::Boolean) => truth!(Float32Type, 0.0),
        (T::Float64, T::Boolean) => truth!(Float64Type, 0.0),
        (T::Decimal128(..), T::Boolean) => truth!(Decimal128Type, 0),
        // Truncated, and checked.
        (T::Float64, T::Int8) => {
            each!(Float64Type, Int8Type, "a value is out of range for", |v: f64| ranged(v, -128.0, 127.0)
                .map(|v| v as i8))
        }
        (T::Float64, T::Int16) => {
            each!(Float64Type, Int16Type, "a value is out of range for", |v: f64| ranged(v, -32768.0, 32767.0)
                .map(|v| v as i16))
        }
        (T::Float64, T::Int32) => each!(Float64Type, Int32Type, "a value is out of range for", |v: f64| ranged(
            v,
            f64::from(i32::MIN),
            f64::from(i32::MAX)
        )
        .map(|v| v as i32)),
        (T::Float64, T::Int64) => each!(Float64Type, Int64Type, "a value is out of range for", |v: f64| ranged(
            v,
            i64::MIN as f64,
            i64::MAX as f64
        )
        .map(|v| v as i64)),
        (T::Float32, t) if is_int(t) => via(from, &T::Float64, to, r#try),
        (T::Decimal128(_, s), t) if is_int(t) => {
            let unit = 10i128.pow(u32::from(s.max(&0).unsigned_abs()));
            match t {
                T::Int8 => {
                    each!(Decimal128Type, Int8Type, "a value is out of range for", |v: i128| i8::try_from(v / unit)
                        .ok())
                }
                T::Int16 => {
                    each!(Decimal128Type, Int16Type, "a value is out of range for", |v: i128| i16::try_from(v / unit)
                        .ok())
                }
                T::Int32 => {
                    each!(Decimal128Type, Int32Type, "a value is out of range for", |v: i128| i32::try_from(v / unit)
                        .ok())
                }
                _ => each!(Decimal128Type, Int64Type, "a value is out of range for", |v: i128| i64::try_from(v / unit)
                    .ok()),
            }
        }
        (T::Decimal128(_, s), T::Float64) => {
            let s = *s;
            each!(Decimal128Type, Float64Type, "a value is out of range for", |v: i128| decimal_to_double(v, s))
        }
        (T::Decimal128(_, s), T::Float32) => {
            let s = *s;
            each!(Decimal128Type, Float32Type, "a value is out of range for", |v: i128| text::decimal_text(v, s)
                .parse()
                .ok())
        }
        (T::Float64, T::Decimal128(p, s)) => {
            let (p, s, data_type) = (*p, *s, to.clone());
            Some(Arc::new(move |a: &Args| {
                let x = a.num::<Float64Type>(0)?;
                nums_as::<Decimal128Type>(a.rows, &data_type, |row| match x.get(row) {
                    // As Spark: no number is no error here, but NULL.
                    Some(v) if v.is_finite() => or_fail!("a value is out of range for", double_to_decimal(v, p, s)),
                    _ => Ok(None),
                })
            }))
        }
        (T::Boolean, T::Decimal128(..)) => via(from, &T::Int32, to, r#try),
        (T::Float32, T::Decimal128(..)) => via(from, &T::Float64, to, r#try),
        // Time.
        (T::Timestamp(..), T::Date32) => {
            each!(TimestampMicrosecondType, Date32Type, "a value is out of range for", |v: i64| i32::try_from(
                v.div_euclid(DAY)
            )
            .ok())
        }
        (T::Date32, t) if *t == timestamp() => {
            each!(Date32Type, TimestampMicrosecondType, "a value is out of range for", |v: i32| i64::from(v)
                .checked_mul(DAY))
        }
        (T::Timestamp(..), T::Int64) => {
            each!(TimestampMicrosecondType, Int64Type, "a value is out of range for", |v: i64| Some(
                v.div_euclid(1_000_000)
            ))
        }
        (T::Timestamp(..), T::Int32) => {
            each!(TimestampMicrosecondType, Int32Type, "a value is out of range for", |v: i64| i32::try_from(
                v.div_euclid(1_000_000)
            )
            .ok())
        }
        (T::Timestamp(..), T::Float64) => {
            each!(TimestampMicrosecondType, Float64Type, "a value is out of range for", |v: i64| Some(
                v as f64 / 1_000_000.0
            ))
        }
        (T::Int64, t) if *t == timestamp() => {
            each!(Int64Type, TimestampMicrosecondType, "a value is out of range for", |v: i64| v.checked_mul(1_000_000))
        }
        (T::Int8 | T::Int16 | T::Int32, t) if *t == timestamp() => via(from, &T::Int64, to, r#try),
        // What Arrow does as Spark does.
        (f, t) if arrow_does(f, t) => {
            let (t, name) = (t.clone(), type_to_ddl(t));
            let options = CastOptions { safe: r#try, ..CastOptions::default() };
            Some(Arc::new(move |a: &Args| {
                arrow::compute::cast_with_options(a.array(0), &t, &options)
                    .map_err(|_| row_error(format!("a value is out of range for {name}")))
            }))
        }
        _ => None,
    }
}

fn arrow_does(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    let float = |t: &T| matches!(t, T::Float32 | T::Float64);
    let number = |t: &T| is_int(t) || float(t) || matches!(t, T::Decimal128(..));
    match (from, to) {
        (f, t) if is_int(f) && number(t) => true,
        (f, t) if float(f) && float(t) => true,
        (f, T::Utf8) => is_int(f) || *f == T::Boolean,
        (T::Boolean, t) => number(t),
        (T::Decimal128(..), T::Decimal128(..)) => true,
        (T::List(a), T::List(b)) => same_shape(a.data_type(), b.data_type()),
        (T::Struct(a), T::Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(x, y)| same_shape(x.data_type(), y.data_type()))
        }
        // Other names of the parts, or a type that Spark does not have.
        (f, t) => same_shape(f, t),
    }
}

/// Whether two types differ only in what Spark does not see: the names of list elements, widths of offsets, units of time.
fn same_shape(a: &DataType, b: &DataType) -> bool {
    a == b || super::coerce::canonical(a) == super::coerce::canonical(b)
}

/// Two casts in a row.
fn via(from: &DataType, middle: &DataType, to: &DataType, r#try: bool) -> Option<Kernel> {
    let (first, second) = (kernel(from, middle, r#try)?, kernel(middle, to, r#try)?);
    let scalar = |a: &Args| a.mask(0) == 0;
    Some(Arc::new(move |a: &Args| {
        let array = first(a)?;
        let value = if scalar(a) {
            datafusion::logical_expr::ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&array, 0)?)
        } else {
            datafusion::logical_expr::ColumnarValue::Array(array)
        };
        second(&Args::new(vec![value], a.rows)?)
    }))
}

fn nums_ref<T: ArrowPrimitiveType>(
    rows: usize,
    f: &dyn Fn(usize) -> DfResult<Option<T::Native>>,
) -> DfResult<ArrayRef> {
    nums::<T>(rows, f)
}

fn bools_ref(rows: usize, f: &dyn Fn(usize) -> DfResult<Option<bool>>) -> DfResult<ArrayRef> {
    bools(rows, f)
}

fn parse_float(text: &str) -> Option<f32> {
    let wide = text::parse_double(text)?;
    let trimmed = text::trim_all(text).trim_end_matches(['d', 'D', 'f', 'F']);
    Some(trimmed.parse::<f32>().unwrap_or(wide as f32))
}

/// Truncates when the result is in range, as Java's checked casts do.
fn ranged(v: f64, min: f64, max: f64) -> Option<f64> {
    // i64::MAX as f64 is one too many, but Spark's check has the same hole: it saturates.
    (v.floor() <= max && v.ceil() >= min).then(|| v.trunc())
}

pub(super) fn decimal_to_double(v: i128, scale: i8) -> Option<f64> {
    text::decimal_text(v, scale).parse().ok()
}

/// Through the shortest decimal that reads back as the same double, as Scala's BigDecimal(double).
pub(super) fn double_to_decimal(v: f64, precision: u8, scale: i8) -> Option<i128> {
    if !v.is_finite() {
        return None;
    }
    text::parse_decimal(&format!("{v:e}"), precision, scale)
}
