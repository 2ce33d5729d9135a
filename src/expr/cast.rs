//! Casts, with the meaning of Spark's ANSI mode.

use super::cast_nested;
use super::coerce::{is_decimal, is_float, is_int, is_interval, is_number};
use super::ddl::type_to_ddl;
use super::evaluate::row_error;
use super::kernel::{Args, Kernel, binaries, bools, nums_as, strings};
use super::node::Typed;
use super::text;
use super::variant;
use crate::calendar::{DAY, SECOND, cast_date, cast_timestamp, date_text, timestamp_text};
use crate::time::timestamp_type;
use crate::{Error, Result};
use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::compute::CastOptions;
use arrow::datatypes::*;
use datafusion::error::Result as DfResult;
use num_traits::Zero;
use std::sync::Arc;

/// `CAST(x AS t)` and `TRY_CAST(x AS t)` as the user writes them.
pub(super) fn explicit(arg: Typed, to: &DataType, r#try: bool) -> Result<Typed> {
    let sql = format!("{}({} AS {})", if r#try { "TRY_CAST" } else { "CAST" }, arg.sql, type_to_ddl(to));
    if variant::is(&arg.data_type) {
        let Some(kernel) = variant::cast_kernel(to, r#try) else {
            return Err(Error::schema(format!("{sql}: a cast from VARIANT to {} is not supported", type_to_ddl(to))));
        };
        // A JSON null is NULL. As in Spark, a cast to an ARRAY, MAP or STRUCT has no name of its own.
        let name = if to.is_nested() { arg.sql.clone() } else { sql.clone() };
        return Ok(Typed::call(vec![arg], to.clone(), true, sql, kernel).named(name));
    }
    if is_interval(&arg.data_type) && arg.data_type != *to {
        let typed = if *to == DataType::Utf8 {
            super::functions::to_text(arg)
        } else {
            super::functions::to_number(arg, to, r#try)?
        };
        return Ok(typed.named(sql));
    }
    // A cast of a literal to its own type is not a literal: Spark narrows the type of a literal, but not that of a cast.
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
    if arg.is_null_literal() {
        return Ok(Typed::null(to).named(arg.sql));
    }
    // NULL for every row, or its error: `raise_error`.
    if arg.data_type == DataType::Null {
        let (sql, of) = (arg.sql.clone(), to.clone());
        let kernel: Kernel = Arc::new(move |a: &Args| Ok(arrow::array::new_null_array(&of, a.rows)));
        return Ok(Typed::call(vec![arg], to.clone(), true, format!("CAST({sql}: void AS {to})"), kernel).named(sql));
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
    let lossy = is_float(&arg.data_type) && is_decimal(to);
    Ok(Typed::call(vec![arg], to.clone(), r#try || lossy, label, kernel).named(sql))
}

const INVALID: &str = "a value cannot be read as";
const OUT_OF_RANGE: &str = "a value is out of range for";

/// The result for a value that does not fit: NULL or an error.
struct Misfit {
    r#try: bool,
    name: String,
}

impl Misfit {
    /// The value, if there is one. Otherwise NULL or an error.
    #[inline]
    fn check<T>(&self, value: Option<T>, reason: &str) -> DfResult<Option<T>> {
        if value.is_some() || self.r#try { Ok(value) } else { Err(row_error(format!("{reason} {}", self.name))) }
    }
}

/// A cast from a number to a number of the type `data_type`.
fn each<S: ArrowPrimitiveType, T: ArrowPrimitiveType>(
    data_type: &DataType,
    r#try: bool,
    f: impl Fn(S::Native) -> Option<T::Native> + Send + Sync + 'static,
) -> Option<Kernel> {
    let misfit = Misfit { r#try, name: type_to_ddl(data_type) };
    let data_type = data_type.clone();
    Some(Arc::new(move |a: &Args| {
        let x = a.num::<S>(0)?;
        nums_as::<T>(a.rows, &data_type, |row| match x.get(row) {
            None => Ok(None),
            Some(v) => misfit.check(f(v), OUT_OF_RANGE),
        })
    }))
}

/// A cast from a text to a number of the type `data_type`.
fn parsed<T: ArrowPrimitiveType>(
    data_type: &DataType,
    r#try: bool,
    f: impl Fn(&str) -> Option<T::Native> + Send + Sync + 'static,
) -> Option<Kernel> {
    let misfit = Misfit { r#try, name: type_to_ddl(data_type) };
    let data_type = data_type.clone();
    Some(Arc::new(move |a: &Args| {
        let s = a.str(0)?;
        nums_as::<T>(a.rows, &data_type, |row| match s.get(row) {
            None => Ok(None),
            Some(text) => misfit.check(f(text), INVALID),
        })
    }))
}

/// A cast from a number to its text.
fn shown<S: ArrowPrimitiveType>(f: impl Fn(S::Native) -> String + Send + Sync + 'static) -> Option<Kernel> {
    Some(Arc::new(move |a: &Args| {
        let x = a.num::<S>(0)?;
        strings(a.rows, |row| Ok(x.get(row).map(&f)))
    }))
}

/// A cast from a number to BOOLEAN: whether it is not zero.
fn truth<S: ArrowPrimitiveType>() -> Option<Kernel>
where
    S::Native: Zero,
{
    Some(Arc::new(|a: &Args| {
        let x = a.num::<S>(0)?;
        bools(a.rows, |row| Ok(x.get(row).map(|v| !Zero::is_zero(&v))))
    }))
}

/// `None` where the cast is refused.
pub(super) fn kernel(from: &DataType, to: &DataType, r#try: bool) -> Option<Kernel> {
    use DataType as T;
    match (from, to) {
        (from, T::Utf8) if from.is_nested() => cast_nested::text(from),
        (from, to) if from.is_nested() && same_layout(from) => {
            cast_nested::kernel(from, to, r#try).or_else(|| by_arrow(from, to, r#try))
        }
        (T::Utf8, to) => from_text(to, r#try),
        (from, T::Utf8) if !is_int(from) => to_text(from, r#try),
        (from, T::Boolean) => to_truth(from, r#try),
        (T::Timestamp(..) | T::Date32, _) => from_time(from, to, r#try),
        (T::Int64, t) if *t == timestamp_type() => {
            each::<Int64Type, TimestampMicrosecondType>(t, r#try, |v| v.checked_mul(SECOND))
        }
        (T::Int8 | T::Int16 | T::Int32, t) if *t == timestamp_type() => via(from, &T::Int64, to, r#try),
        (T::Float64, t) if *t == timestamp_type() => {
            // As in Spark, digits finer than a microsecond are cut.
            each::<Float64Type, TimestampMicrosecondType>(t, r#try, |v| {
                Some(ranged(v * SECOND as f64, i64::MIN as f64, i64::MAX as f64)? as i64)
            })
        }
        (T::Float32, t) if *t == timestamp_type() => via(from, &T::Float64, to, r#try),
        (T::Decimal128(_, s), t) if *t == timestamp_type() => {
            let unit = 10i128.pow(u32::from(s.max(&0).unsigned_abs()));
            each::<Decimal128Type, TimestampMicrosecondType>(t, r#try, move |v| {
                i64::try_from(v.checked_mul(i128::from(SECOND))? / unit).ok()
            })
        }
        (T::Float32 | T::Float64 | T::Decimal128(..), _) if is_number(to) => from_fraction(from, to, r#try),
        (T::Boolean, T::Decimal128(..)) => via(from, &T::Int32, to, r#try),
        _ => by_arrow(from, to, r#try),
    }
}

/// A cast of texts.
pub(super) fn text_kernel(to: &DataType, r#try: bool) -> Option<Kernel> {
    if *to == DataType::Utf8 {
        return Some(Arc::new(|a: &Args| a.full(0)));
    }
    from_text(to, r#try)
}

/// A cast of texts that are numbers, where it differs from that of other texts: a fraction is cut, and a number is true unless it is 0.
pub(super) fn number_kernel(to: &DataType, r#try: bool) -> Option<Kernel> {
    fn whole<T: ArrowPrimitiveType>(to: &DataType, r#try: bool) -> Option<Kernel>
    where
        T::Native: TryFrom<i64>,
    {
        parsed::<T>(to, r#try, |t| {
            let value = match t.split_once('.').map_or(t, |(whole, _)| whole).parse::<i64>() {
                Ok(v) if !t.contains(['e', 'E']) => v,
                _ => ranged(text::parse_double(t)?, i64::MIN as f64, i64::MAX as f64)? as i64,
            };
            value.try_into().ok()
        })
    }
    match to {
        DataType::Int8 => whole::<Int8Type>(to, r#try),
        DataType::Int16 => whole::<Int16Type>(to, r#try),
        DataType::Int32 => whole::<Int32Type>(to, r#try),
        DataType::Int64 => whole::<Int64Type>(to, r#try),
        DataType::Boolean => Some(Arc::new(|a: &Args| {
            let s = a.str(0)?;
            bools(a.rows, |row| Ok(s.get(row).and_then(text::parse_double).map(|v| v != 0.0)))
        })),
        _ => None,
    }
}

fn from_text(to: &DataType, r#try: bool) -> Option<Kernel> {
    use DataType as T;
    fn whole<T: ArrowPrimitiveType>(to: &DataType, r#try: bool) -> Option<Kernel>
    where
        T::Native: TryFrom<i64>,
    {
        parsed::<T>(to, r#try, |t| text::parse_whole(t).and_then(|v| v.try_into().ok()))
    }
    match to {
        T::Int8 => whole::<Int8Type>(to, r#try),
        T::Int16 => whole::<Int16Type>(to, r#try),
        T::Int32 => whole::<Int32Type>(to, r#try),
        T::Int64 => whole::<Int64Type>(to, r#try),
        T::Float32 => parsed::<Float32Type>(to, r#try, parse_float),
        T::Float64 => parsed::<Float64Type>(to, r#try, text::parse_double),
        T::Decimal128(p, s) => {
            let (p, s) = (*p, *s);
            parsed::<Decimal128Type>(to, r#try, move |t| text::parse_decimal(t, p, s))
        }
        T::Date32 => parsed::<Date32Type>(to, r#try, cast_date),
        t if *t == timestamp_type() => parsed::<TimestampMicrosecondType>(to, r#try, |t| cast_timestamp(t, None)),
        T::Boolean => {
            let misfit = Misfit { r#try, name: type_to_ddl(to) };
            Some(Arc::new(move |a: &Args| {
                let s = a.str(0)?;
                bools(a.rows, |row| match s.get(row) {
                    None => Ok(None),
                    Some(t) => misfit.check(text::parse_bool(t), INVALID),
                })
            }))
        }
        T::Binary => Some(Arc::new(|a: &Args| {
            let s = a.str(0)?;
            binaries(a.rows, |row| Ok(s.get(row)))
        })),
        _ => by_arrow(&T::Utf8, to, r#try),
    }
}

fn to_text(from: &DataType, r#try: bool) -> Option<Kernel> {
    use DataType as T;
    match from {
        T::Float32 => shown::<Float32Type>(text::java_float),
        T::Float64 => shown::<Float64Type>(text::java_double),
        T::Date32 => shown::<Date32Type>(date_text),
        T::Timestamp(..) => shown::<TimestampMicrosecondType>(timestamp_text),
        T::Decimal128(_, s) => {
            let s = *s;
            shown::<Decimal128Type>(move |v| text::decimal_text(v, s))
        }
        T::Binary => Some(Arc::new(|a: &Args| {
            let s = a.bytes(0)?;
            strings(a.rows, |row| Ok(s.get(row).map(String::from_utf8_lossy)))
        })),
        _ => by_arrow(from, &T::Utf8, r#try),
    }
}

fn to_truth(from: &DataType, r#try: bool) -> Option<Kernel> {
    match from {
        DataType::Int8 => truth::<Int8Type>(),
        DataType::Int16 => truth::<Int16Type>(),
        DataType::Int32 => truth::<Int32Type>(),
        DataType::Int64 => truth::<Int64Type>(),
        DataType::Float32 => truth::<Float32Type>(),
        DataType::Float64 => truth::<Float64Type>(),
        DataType::Decimal128(..) => truth::<Decimal128Type>(),
        _ => by_arrow(from, &DataType::Boolean, r#try),
    }
}

/// From DOUBLE, FLOAT or DECIMAL to a number: whole numbers are truncated, and checked.
fn from_fraction(from: &DataType, to: &DataType, r#try: bool) -> Option<Kernel> {
    use DataType as T;
    fn cut<T: ArrowPrimitiveType>(to: &DataType, unit: i128, r#try: bool) -> Option<Kernel>
    where
        T::Native: TryFrom<i128>,
    {
        each::<Decimal128Type, T>(to, r#try, move |v| (v / unit).try_into().ok())
    }
    match (from, to) {
        (T::Float64, T::Int8) => each::<Float64Type, Int8Type>(to, r#try, |v| Some(ranged(v, -128.0, 127.0)? as i8)),
        (T::Float64, T::Int16) => {
            each::<Float64Type, Int16Type>(to, r#try, |v| Some(ranged(v, -32768.0, 32767.0)? as i16))
        }
        (T::Float64, T::Int32) => each::<Float64Type, Int32Type>(to, r#try, |v| {
            Some(ranged(v, f64::from(i32::MIN), f64::from(i32::MAX))? as i32)
        }),
        (T::Float64, T::Int64) => {
            each::<Float64Type, Int64Type>(to, r#try, |v| Some(ranged(v, i64::MIN as f64, i64::MAX as f64)? as i64))
        }
        (T::Float64, T::Decimal128(p, s)) => {
            let (p, s, data_type) = (*p, *s, to.clone());
            let misfit = Misfit { r#try, name: type_to_ddl(to) };
            Some(Arc::new(move |a: &Args| {
                let x = a.num::<Float64Type>(0)?;
                nums_as::<Decimal128Type>(a.rows, &data_type, |row| match x.get(row) {
                    // As in Spark: NaN and the infinities are no error here, but NULL.
                    Some(v) if v.is_finite() => misfit.check(double_to_decimal(v, p, s), OUT_OF_RANGE),
                    _ => Ok(None),
                })
            }))
        }
        (T::Float32, t) if is_int(t) || is_decimal(t) => via(from, &T::Float64, to, r#try),
        (T::Decimal128(_, s), t) if is_int(t) => {
            let unit = 10i128.pow(u32::from(s.max(&0).unsigned_abs()));
            match t {
                T::Int8 => cut::<Int8Type>(to, unit, r#try),
                T::Int16 => cut::<Int16Type>(to, unit, r#try),
                T::Int32 => cut::<Int32Type>(to, unit, r#try),
                _ => cut::<Int64Type>(to, unit, r#try),
            }
        }
        (T::Decimal128(_, s), T::Float64) => {
            let s = *s;
            each::<Decimal128Type, Float64Type>(to, r#try, move |v| decimal_to_double(v, s))
        }
        (T::Decimal128(_, s), T::Float32) => {
            let s = *s;
            each::<Decimal128Type, Float32Type>(to, r#try, move |v| text::decimal_text(v, s).parse().ok())
        }
        _ => by_arrow(from, to, r#try),
    }
}

fn from_time(from: &DataType, to: &DataType, r#try: bool) -> Option<Kernel> {
    use DataType as T;
    type Micros = TimestampMicrosecondType;
    match (from, to) {
        (T::Timestamp(..), T::Date32) => each::<Micros, Date32Type>(to, r#try, |v| v.div_euclid(DAY).try_into().ok()),
        (T::Timestamp(..), T::Int64) => each::<Micros, Int64Type>(to, r#try, |v| Some(v.div_euclid(SECOND))),
        (T::Timestamp(..), T::Int32) => each::<Micros, Int32Type>(to, r#try, |v| v.div_euclid(SECOND).try_into().ok()),
        (T::Timestamp(..), T::Int16) => each::<Micros, Int16Type>(to, r#try, |v| v.div_euclid(SECOND).try_into().ok()),
        (T::Timestamp(..), T::Int8) => each::<Micros, Int8Type>(to, r#try, |v| v.div_euclid(SECOND).try_into().ok()),
        (T::Timestamp(..), T::Float64) => each::<Micros, Float64Type>(to, r#try, |v| Some(v as f64 / SECOND as f64)),
        (T::Timestamp(..), T::Float32) => {
            each::<Micros, Float32Type>(to, r#try, |v| Some((v as f64 / SECOND as f64) as f32))
        }
        (T::Timestamp(..), T::Decimal128(p, s)) => {
            let (p, s) = (*p, *s);
            each::<Micros, Decimal128Type>(to, r#try, move |v| double_to_decimal(v as f64 / SECOND as f64, p, s))
        }
        (T::Date32, t) if *t == timestamp_type() => {
            each::<Date32Type, Micros>(to, r#try, |v| i64::from(v).checked_mul(DAY))
        }
        _ => by_arrow(from, to, r#try),
    }
}

/// Casts that Arrow does as Spark does them.
fn by_arrow(from: &DataType, to: &DataType, r#try: bool) -> Option<Kernel> {
    if !arrow_does(from, to) {
        return None;
    }
    let (to, name) = (to.clone(), type_to_ddl(to));
    let options = CastOptions { safe: r#try, ..CastOptions::default() };
    // Every BIGINT fits into this type. Arrow would multiply each value.
    let has_room = *from == DataType::Int64 && matches!(to, DataType::Decimal128(19.., 0));
    Some(Arc::new(move |a: &Args| {
        if has_room && let Some(longs) = a.array(0).as_primitive_opt::<Int64Type>() {
            let wide = longs.unary::<_, Decimal128Type>(i128::from).with_data_type(to.clone());
            return Ok(Arc::new(wide) as ArrayRef);
        }
        arrow::compute::cast_with_options(a.array(0), &to, &options)
            .map_err(|_| row_error(format!("{OUT_OF_RANGE} {name}")))
    }))
}

fn arrow_does(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    match (from, to) {
        (f, t) if is_int(f) && is_number(t) => true,
        (f, t) if is_float(f) && is_float(t) => true,
        (f, T::Utf8) => is_int(f) || *f == T::Boolean,
        (T::Boolean, t) => is_number(t),
        (T::Decimal128(..), T::Decimal128(..)) => true,
        (T::List(a), T::List(b)) => same_shape(a.data_type(), b.data_type()),
        (T::Struct(a), T::Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(x, y)| same_shape(x.data_type(), y.data_type()))
        }
        // The types differ in the names of their parts only, or one of them is a type that Spark does not have.
        (f, t) => same_shape(f, t),
    }
}

/// Whether the type has the layout that bayou uses for nested types. Others (views, wide offsets) are cast by Arrow first.
fn same_layout(t: &DataType) -> bool {
    match t {
        DataType::List(of) => same_layout(of.data_type()),
        DataType::Struct(fields) => fields.iter().all(|f| same_layout(f.data_type())),
        DataType::Map(entries, _) => same_layout(entries.data_type()),
        t => *t == super::coerce::canonical(t),
    }
}

/// Whether two types differ only where Spark has no difference: names of list elements, widths of offsets, units of time.
fn same_shape(a: &DataType, b: &DataType) -> bool {
    a == b || super::coerce::canonical(a) == super::coerce::canonical(b)
}

/// Two casts, one after the other.
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

fn parse_float(text: &str) -> Option<f32> {
    let wide = text::parse_double(text)?;
    let trimmed = text::trim_all(text).trim_end_matches(['d', 'D', 'f', 'F']);
    Some(trimmed.parse::<f32>().unwrap_or(wide as f32))
}

/// Truncates a number if the result is in range, as Java's checked casts do.
fn ranged(v: f64, min: f64, max: f64) -> Option<f64> {
    // i64::MAX as f64 is one too large. Spark's check has the same gap, and its cast saturates.
    (v.floor() <= max && v.ceil() >= min).then(|| v.trunc())
}

pub(super) fn decimal_to_double(v: i128, scale: i8) -> Option<f64> {
    text::decimal_text(v, scale).parse().ok()
}

/// As Scala's BigDecimal(double): through the shortest decimal that reads back as the same double.
pub(super) fn double_to_decimal(v: f64, precision: u8, scale: i8) -> Option<i128> {
    if !v.is_finite() {
        return None;
    }
    text::parse_decimal(&format!("{v:e}"), precision, scale)
}
