//! Arithmetic, as Spark's ANSI mode has it: overflow and division by zero are errors, `/` never truncates.

use super::cast::implicit;
use super::coerce::{common, decimal_of_operand, is_decimal, is_float, is_int, is_interval, is_number, is_timestamp};
use super::ddl::{timestamp, type_to_ddl};
use super::decimal;
use super::evaluate::row_error;
use super::kernel::{Args, Kernel, nums, nums_as};
use super::node::Typed;
use crate::calendar::{DAY, add_months};
use crate::{Error, Result};
use arrow::array::{ArrayRef, ArrowPrimitiveType, Datum};
use arrow::compute::kernels::numeric;
use arrow::datatypes::*;
use arrow::error::ArrowError;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::ColumnarValue;
use std::sync::Arc;

pub(super) const ZERO: &str = "division by zero";
pub(super) const OVERFLOW: &str = "arithmetic overflow";

fn mismatch(sql: &str, left: &Typed, right: &Typed) -> Error {
    Error::schema(format!(
        "{sql}: {} and {} do not go with this operator; use CAST",
        type_to_ddl(&left.data_type),
        type_to_ddl(&right.data_type)
    ))
}

pub(super) fn binary(op: &'static str, left: Typed, right: Typed) -> Result<Typed> {
    let sql = format!("({} {op} {})", left.sql, right.sql);
    if let ("+" | "-", Some(typed)) = (op, time(op, &left, &right, &sql)?) {
        return Ok(typed);
    }
    match op {
        "&" | "|" | "^" => bits(op, left, right, sql),
        "<<" | ">>" | ">>>" => shift(op, left, right, sql),
        _ => numbers(op, left, right, sql, false),
    }
}

/// A number as it is; a string or a NULL as what goes with the other side.
fn operands(left: Typed, right: Typed, sql: &str) -> Result<(Typed, Typed)> {
    use DataType as T;
    // As Spark: of two strings it cannot be said which number they are.
    if left.data_type == T::Utf8 && right.data_type == T::Utf8 {
        return Err(mismatch(sql, &left, &right));
    }
    let as_number = |t: &T, other: &T| match t {
        t if is_number(t) => Some(t.clone()),
        T::Utf8 if is_int(other) => Some(T::Int64),
        T::Utf8 if is_number(other) || *other == T::Null => Some(T::Float64),
        T::Null if is_number(other) => Some(other.clone()),
        T::Null => Some(T::Float64),
        _ => None,
    };
    let (l, r) = (as_number(&left.data_type, &right.data_type), as_number(&right.data_type, &left.data_type));
    match (l, r) {
        (Some(l), Some(r)) => Ok((implicit(left, &l)?, implicit(right, &r)?)),
        _ => Err(mismatch(sql, &left, &right)),
    }
}

/// `+ - * / % div`; with `r#try` an error is NULL.
pub(super) fn numbers(op: &'static str, left: Typed, right: Typed, sql: String, r#try: bool) -> Result<Typed> {
    let (left, right) = operands(left, right, &sql)?;
    let (a, b) = (&left.data_type, &right.data_type);
    if (is_decimal(a) || is_decimal(b)) && !is_float(a) && !is_float(b) {
        return decimals(op, left, right, sql, r#try);
    }
    let to = match op {
        "/" => DataType::Float64,
        "div" if is_int(a) && is_int(b) => DataType::Int64,
        "div" => return Err(Error::schema(format!("{sql}: div goes with whole numbers and decimals only; use CAST"))),
        _ => common(a, b).ok_or_else(|| mismatch(&sql, &left, &right))?,
    };
    let (left, right) = (implicit(left, &to)?, implicit(right, &to)?);
    let kernel = match (&to, op) {
        (DataType::Int8, _) => ints::<Int8Type>(op, r#try),
        (DataType::Int16, _) => ints::<Int16Type>(op, r#try),
        (DataType::Int32, _) => ints::<Int32Type>(op, r#try),
        (DataType::Int64, _) => ints::<Int64Type>(op, r#try),
        (DataType::Float32, _) => floats::<Float32Type>(op, r#try),
        _ => floats::<Float64Type>(op, r#try),
    };
    Ok(Typed::call(vec![left, right], to, r#try, sql, kernel))
}

fn datum(value: &ColumnarValue) -> DfResult<Box<dyn Datum>> {
    Ok(match value {
        ColumnarValue::Array(a) => Box::new(a.clone()),
        ColumnarValue::Scalar(s) => Box::new(s.to_scalar()?),
    })
}

type Numeric = fn(&dyn Datum, &dyn Datum) -> Result<ArrayRef, ArrowError>;

/// Arrow's checked kernels; row by row only to turn errors into NULL.
fn arrow_numeric(kernel: Numeric) -> Kernel {
    Arc::new(move |a: &Args| {
        let out = kernel(&*datum(&a.values[0])?, &*datum(&a.values[1])?);
        out.map_err(|e| match e {
            ArrowError::DivideByZero => row_error(ZERO),
            _ => row_error(OVERFLOW),
        })
    })
}

fn ints<T: ArrowPrimitiveType>(op: &'static str, r#try: bool) -> Kernel
where
    T::Native: num_traits_lite::Int,
{
    use num_traits_lite::Int;
    match (op, r#try) {
        ("+", false) => return arrow_numeric(numeric::add),
        ("-", false) => return arrow_numeric(numeric::sub),
        ("*", false) => return arrow_numeric(numeric::mul),
        _ => {}
    }
    Arc::new(move |a| {
        let (x, y) = (a.num::<T>(0)?, a.num::<T>(1)?);
        nums::<T>(a.rows, |i| {
            let (Some(x), Some(y)) = (x.get(i), y.get(i)) else { return Ok(None) };
            let out = match op {
                "+" => x.add(y).ok_or(OVERFLOW),
                "-" => x.sub(y).ok_or(OVERFLOW),
                "*" => x.mul(y).ok_or(OVERFLOW),
                "%" => x.rem(y).ok_or(ZERO),
                _ if Int::is_zero(y) => Err(ZERO),
                _ => x.div(y).ok_or(OVERFLOW),
            };
            match out {
                Ok(v) => Ok(Some(v)),
                Err(_) if r#try => Ok(None),
                Err(e) => Err(row_error(e)),
            }
        })
    })
}

/// The little that is needed of checked integers.
pub(super) mod num_traits_lite {
    pub trait Int: Copy {
        fn add(self, other: Self) -> Option<Self>;
        fn sub(self, other: Self) -> Option<Self>;
        fn mul(self, other: Self) -> Option<Self>;
        fn div(self, other: Self) -> Option<Self>;
        /// Java's: the least number % -1 is 0.
        fn rem(self, other: Self) -> Option<Self>;
        fn is_zero(self) -> bool;
        fn neg(self) -> Option<Self>;
        fn abs(self) -> Option<Self>;
        fn and(self, other: Self) -> Self;
        fn or(self, other: Self) -> Self;
        fn xor(self, other: Self) -> Self;
        fn not(self) -> Self;
        fn positive(self, n: Self) -> Option<Self>;
    }
    macro_rules! ints {
        ($($t:ty),*) => { $(impl Int for $t {
            fn add(self, other: Self) -> Option<Self> { self.checked_add(other) }
            fn sub(self, other: Self) -> Option<Self> { self.checked_sub(other) }
            fn mul(self, other: Self) -> Option<Self> { self.checked_mul(other) }
            fn div(self, other: Self) -> Option<Self> { self.checked_div(other) }
            fn rem(self, other: Self) -> Option<Self> { if other == 0 { None } else { Some(self.wrapping_rem(other)) } }
            fn is_zero(self) -> bool { self == 0 }
            fn neg(self) -> Option<Self> { self.checked_neg() }
            fn abs(self) -> Option<Self> { self.checked_abs() }
            fn and(self, other: Self) -> Self { self & other }
            fn or(self, other: Self) -> Self { self | other }
            fn xor(self, other: Self) -> Self { self ^ other }
            fn not(self) -> Self { !self }
            fn positive(self, n: Self) -> Option<Self> {
                if n == 0 { return None; }
                let r = self.wrapping_rem(n);
                Some(if r < 0 { (i128::from(r) + i128::from(n)).wrapping_rem(i128::from(n)) as $t } else { r })
            }
        })* };
    }
    ints!(i8, i16, i32, i64);

    pub trait Float: Copy {
        fn op(self, op: &str, other: Self) -> Option<Self>;
    }
    macro_rules! floats {
        ($($t:ty),*) => { $(impl Float for $t {
            #[inline]
            fn op(self, op: &str, other: Self) -> Option<Self> {
                Some(match op {
                    "+" => self + other,
                    "-" => self - other,
                    "*" => self * other,
                    _ if other == 0.0 => return None,
                    "/" => self / other,
                    "%" => self % other,
                    _ => {
                        let r = self % other;
                        if r < 0.0 { (r + other) % other } else { r }
                    }
                })
            }
        })* };
    }
    floats!(f32, f64);
}

fn floats<T: ArrowPrimitiveType>(op: &'static str, r#try: bool) -> Kernel
where
    T::Native: num_traits_lite::Float,
{
    use num_traits_lite::Float;
    match op {
        "+" => return arrow_numeric(numeric::add),
        "-" => return arrow_numeric(numeric::sub),
        "*" => return arrow_numeric(numeric::mul),
        _ => {}
    }
    Arc::new(move |a| {
        let (x, y) = (a.num::<T>(0)?, a.num::<T>(1)?);
        // Mostly nothing is divided by zero, and Arrow is several times as fast.
        if op == "/" && !y.array.values().iter().any(|v| v.is_zero()) {
            return arrow_numeric(numeric::div)(a);
        }
        nums::<T>(a.rows, |i| {
            let (Some(x), Some(y)) = (x.get(i), y.get(i)) else { return Ok(None) };
            match x.op(op, y) {
                Some(v) => Ok(Some(v)),
                None if r#try => Ok(None),
                None => Err(row_error(ZERO)),
            }
        })
    })
}

fn decimals(op: &'static str, left: Typed, right: Typed, sql: String, r#try: bool) -> Result<Typed> {
    let (Some(x), Some(y)) = (decimal_of_operand(&left), decimal_of_operand(&right)) else {
        return Err(mismatch(&sql, &left, &right));
    };
    let as_decimal = |(p, s): (u8, i8)| DataType::Decimal128(p, s);
    let (left, right) = (implicit(left, &as_decimal(x))?, implicit(right, &as_decimal(y))?);
    let result = decimal::result_type(op, x, y);
    let (data_type, whole) = if op == "div" { (DataType::Int64, true) } else { (as_decimal(result), false) };
    let to = data_type.clone();
    let kernel: Kernel = Arc::new(move |a| {
        let (l, r) = (a.num::<Decimal128Type>(0)?, a.num::<Decimal128Type>(1)?);
        let one = |i: usize| -> DfResult<Option<i128>> {
            let (Some(l), Some(r)) = (l.get(i), r.get(i)) else { return Ok(None) };
            match decimal::compute(op, (l, x.1), (r, y.1), result) {
                Ok(v) => Ok(Some(v)),
                Err(_) if r#try => Ok(None),
                Err(e) => Err(row_error(e)),
            }
        };
        if whole {
            return nums::<Int64Type>(a.rows, |i| match one(i)? {
                None => Ok(None),
                Some(v) => i64::try_from(v).map(Some).map_err(|_| row_error(OVERFLOW)),
            });
        }
        nums_as::<Decimal128Type>(a.rows, &to, one)
    });
    Ok(Typed::call(vec![left, right], data_type, r#try, sql, kernel))
}

/// `pmod(a, b)`: never negative for a positive b.
pub(super) fn pmod(left: Typed, right: Typed, sql: String) -> Result<Typed> {
    let (left, right) = operands(left, right, &sql)?;
    let to = common(&left.data_type, &right.data_type).ok_or_else(|| mismatch(&sql, &left, &right))?;
    let (left, right) = (implicit(left, &to)?, implicit(right, &to)?);
    fn whole<T: ArrowPrimitiveType>() -> Kernel
    where
        T::Native: num_traits_lite::Int,
    {
        use num_traits_lite::Int;
        Arc::new(|a| {
            let (x, y) = (a.num::<T>(0)?, a.num::<T>(1)?);
            nums::<T>(a.rows, |i| match (x.get(i), y.get(i)) {
                (Some(x), Some(y)) => x.positive(y).map(Some).ok_or_else(|| row_error(ZERO)),
                _ => Ok(None),
            })
        })
    }
    let kernel = match &to {
        DataType::Int8 => whole::<Int8Type>(),
        DataType::Int16 => whole::<Int16Type>(),
        DataType::Int32 => whole::<Int32Type>(),
        DataType::Int64 => whole::<Int64Type>(),
        DataType::Float32 => floats::<Float32Type>("pmod", false),
        DataType::Float64 => floats::<Float64Type>("pmod", false),
        _ => return Err(Error::schema(format!("{sql}: pmod of DECIMAL is not supported; use %"))),
    };
    Ok(Typed::call(vec![left, right], to, false, sql, kernel))
}

fn bits(op: &'static str, left: Typed, right: Typed, sql: String) -> Result<Typed> {
    let to = common(&left.data_type, &right.data_type).filter(is_int).ok_or_else(|| mismatch(&sql, &left, &right))?;
    let (left, right) = (implicit(left, &to)?, implicit(right, &to)?);
    fn run<T: ArrowPrimitiveType>(op: &'static str) -> Kernel
    where
        T::Native: num_traits_lite::Int,
    {
        use num_traits_lite::Int;
        Arc::new(move |a| {
            let (x, y) = (a.num::<T>(0)?, a.num::<T>(1)?);
            nums::<T>(a.rows, |i| {
                let (Some(x), Some(y)) = (x.get(i), y.get(i)) else { return Ok(None) };
                Ok(Some(match op {
                    "&" => x.and(y),
                    "|" => x.or(y),
                    _ => x.xor(y),
                }))
            })
        })
    }
    let kernel = match &to {
        DataType::Int8 => run::<Int8Type>(op),
        DataType::Int16 => run::<Int16Type>(op),
        DataType::Int32 => run::<Int32Type>(op),
        _ => run::<Int64Type>(op),
    };
    Ok(Typed::call(vec![left, right], to, false, sql, kernel))
}

/// Java's: the count is taken modulo the width.
pub(super) fn shift(op: &'static str, left: Typed, right: Typed, sql: String) -> Result<Typed> {
    let wide = left.data_type == DataType::Int64;
    let small = matches!(left.data_type, DataType::Int8 | DataType::Int16 | DataType::Int32);
    let count = is_int(&right.data_type) || right.data_type == DataType::Null;
    if !wide && !small || !count {
        return Err(mismatch(&sql, &left, &right));
    }
    let to = if wide { DataType::Int64 } else { DataType::Int32 };
    let (left, right) = (implicit(left, &to)?, implicit(right, &DataType::Int32)?);
    let kernel: Kernel = if wide {
        Arc::new(move |a| {
            let (x, n) = (a.num::<Int64Type>(0)?, a.num::<Int32Type>(1)?);
            nums::<Int64Type>(a.rows, |i| {
                let (Some(x), Some(n)) = (x.get(i), n.get(i)) else { return Ok(None) };
                let n = (n & 63) as u32;
                Ok(Some(match op {
                    "<<" => x.wrapping_shl(n),
                    ">>" => x.wrapping_shr(n),
                    _ => ((x as u64) >> n) as i64,
                }))
            })
        })
    } else {
        Arc::new(move |a| {
            let (x, n) = (a.num::<Int32Type>(0)?, a.num::<Int32Type>(1)?);
            nums::<Int32Type>(a.rows, |i| {
                let (Some(x), Some(n)) = (x.get(i), n.get(i)) else { return Ok(None) };
                let n = (n & 31) as u32;
                Ok(Some(match op {
                    "<<" => x.wrapping_shl(n),
                    ">>" => x.wrapping_shr(n),
                    _ => ((x as u32) >> n) as i32,
                }))
            })
        })
    };
    Ok(Typed::call(vec![left, right], to, false, sql, kernel))
}

pub(super) fn unary(op: &'static str, operand: Typed) -> Result<Typed> {
    let sql = match op {
        "~" => format!("~{}", operand.sql),
        op => format!("({op} {})", operand.sql),
    };
    let operand = match operand.data_type {
        DataType::Utf8 if op != "~" => implicit(operand, &DataType::Float64)?,
        DataType::Null => implicit(operand, if op == "~" { &DataType::Int32 } else { &DataType::Float64 })?,
        _ => operand,
    };
    let t = operand.data_type.clone();
    let wrong = || Error::schema(format!("{sql}: {} does not go with this operator; use CAST", type_to_ddl(&t)));
    if op == "+" {
        return if is_number(&t) { Ok(operand.named(sql)) } else { Err(wrong()) };
    }
    fn run<T: ArrowPrimitiveType>(op: &'static str) -> Kernel
    where
        T::Native: num_traits_lite::Int,
    {
        use num_traits_lite::Int;
        Arc::new(move |a| {
            let x = a.num::<T>(0)?;
            nums::<T>(a.rows, |i| match x.get(i) {
                None => Ok(None),
                Some(x) if op == "~" => Ok(Some(x.not())),
                Some(x) => x.neg().map(Some).ok_or_else(|| row_error(OVERFLOW)),
            })
        })
    }
    let kernel: Kernel = match &t {
        DataType::Int8 => run::<Int8Type>(op),
        DataType::Int16 => run::<Int16Type>(op),
        DataType::Int32 => run::<Int32Type>(op),
        DataType::Int64 => run::<Int64Type>(op),
        DataType::Float32 if op == "-" => Arc::new(|a| {
            let x = a.num::<Float32Type>(0)?;
            nums::<Float32Type>(a.rows, |i| Ok(x.get(i).map(|x| -x)))
        }),
        DataType::Float64 if op == "-" => Arc::new(|a| {
            let x = a.num::<Float64Type>(0)?;
            nums::<Float64Type>(a.rows, |i| Ok(x.get(i).map(|x| -x)))
        }),
        DataType::Decimal128(..) if op == "-" => {
            let to = t.clone();
            Arc::new(move |a| {
                let x = a.num::<Decimal128Type>(0)?;
                nums_as::<Decimal128Type>(a.rows, &to, |i| Ok(x.get(i).map(|x| -x)))
            })
        }
        _ => return Err(wrong()),
    };
    Ok(Typed::call(vec![operand], t, false, sql, kernel))
}

/// `+` and `-` with dates, timestamps and intervals.
fn time(op: &'static str, left: &Typed, right: &Typed, sql: &str) -> Result<Option<Typed>> {
    let (l, r) = (&left.data_type, &right.data_type);
    let is_time = |t: &DataType| *t == DataType::Date32 || is_timestamp(t);
    if !is_time(l) && !is_time(r) && !is_interval(l) && !is_interval(r) {
        return Ok(None);
    }
    // The point in time first.
    let (point, by) = if is_time(l) { (left.clone(), right.clone()) } else { (right.clone(), left.clone()) };
    if op == "-" && !is_time(l) || !is_time(&point.data_type) {
        return Err(mismatch(sql, left, right));
    }
    if is_time(&by.data_type) {
        return Err(Error::schema(format!(
            "{sql}: the difference of two times is an INTERVAL, which no column can hold; use datediff, \
             timestampdiff(SECOND, from, to) or unix_micros(a) - unix_micros(b)"
        )));
    }
    let sign: i64 = if op == "-" { -1 } else { 1 };
    let date = point.data_type == DataType::Date32;
    if date && is_int(&by.data_type) {
        let name = if sign < 0 { "date_sub" } else { "date_add" };
        return Ok(Some(super::functions::call(name, vec![point, by])?.named(format!(
            "{name}({}, {})",
            if is_time(l) { &left.sql } else { &right.sql },
            if is_time(l) { &right.sql } else { &left.sql }
        ))));
    }
    let overflow = || row_error(OVERFLOW);
    let whole_days = by.sql.ends_with(" DAY");
    let sql = match &by.data_type {
        DataType::Duration(_) if date && whole_days => {
            let name = if sign < 0 { "date_sub" } else { "date_add" };
            &format!("{name}({}, extractansiintervaldays({}))", point.sql, by.sql)
        }
        _ => &format!("{} {op} {}", point.sql, by.sql),
    };
    let out = match &by.data_type {
        DataType::Interval(_) if date => Typed::call(
            vec![point, by],
            DataType::Date32,
            false,
            sql.to_string(),
            Arc::new(move |a| {
                let (d, n) = (a.num::<Date32Type>(0)?, a.num::<IntervalYearMonthType>(1)?);
                nums::<Date32Type>(a.rows, |i| match (d.get(i), n.get(i)) {
                    (Some(d), Some(n)) => {
                        i32::try_from(add_months(i64::from(d), sign * i64::from(n))).map(Some).map_err(|_| overflow())
                    }
                    _ => Ok(None),
                })
            }),
        ),
        DataType::Interval(_) => Typed::call(
            vec![point, by],
            timestamp(),
            false,
            sql.to_string(),
            Arc::new(move |a| {
                let (t, n) = (a.num::<TimestampMicrosecondType>(0)?, a.num::<IntervalYearMonthType>(1)?);
                nums_as::<TimestampMicrosecondType>(a.rows, &timestamp(), |i| match (t.get(i), n.get(i)) {
                    (Some(t), Some(n)) => add_months(t.div_euclid(DAY), sign * i64::from(n))
                        .checked_mul(DAY)
                        .and_then(|d| d.checked_add(t.rem_euclid(DAY)))
                        .map(Some)
                        .ok_or_else(overflow),
                    _ => Ok(None),
                })
            }),
        ),
        DataType::Duration(_) => {
            let point = implicit(point, &timestamp())?;
            let moved = Typed::call(
                vec![point, by],
                timestamp(),
                false,
                sql.to_string(),
                Arc::new(move |a| {
                    let (t, n) = (a.num::<TimestampMicrosecondType>(0)?, a.num::<DurationMicrosecondType>(1)?);
                    nums_as::<TimestampMicrosecondType>(a.rows, &timestamp(), |i| match (t.get(i), n.get(i)) {
                        (Some(t), Some(n)) => t.checked_add(sign * n).map(Some).ok_or_else(overflow),
                        _ => Ok(None),
                    })
                }),
            );
            if date && whole_days { implicit(moved, &DataType::Date32)?.named(sql) } else { moved }
        }
        _ => return Err(mismatch(sql, left, right)),
    };
    Ok(Some(out))
}
