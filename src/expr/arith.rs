//! Arithmetic on numbers, as in Spark's ANSI mode: overflow and division by zero are errors, `/` never truncates.

use super::cast::implicit;
use super::coerce::{common, decimal_of_operand, is_decimal, is_float, is_int, is_interval, is_number};
use super::ddl::type_to_ddl;
use super::decimal;
use super::evaluate::{OVERFLOW, ZERO, row_error};
use super::kernel::{Args, Kernel, nums, nums_as};
use super::node::Typed;
use crate::{Error, Result};
use arrow::array::{ArrayRef, ArrowPrimitiveType, Datum};
use arrow::compute::kernels::numeric;
use arrow::datatypes::*;
use arrow::error::ArrowError;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::ColumnarValue;
use num_traits::{
    CheckedAdd, CheckedDiv, CheckedMul, CheckedNeg, CheckedRem, CheckedSub, Float, PrimInt, WrappingAdd, Zero,
};
use std::sync::Arc;

/// An operator on two numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    Add,
    Subtract,
    Multiply,
    Divide,
    /// `%`, with the sign of the left side.
    Remainder,
    /// `div`, truncated towards zero.
    IntegralDivide,
}

impl Op {
    pub(super) fn of(symbol: &str) -> Option<Self> {
        Some(match symbol {
            "+" => Self::Add,
            "-" => Self::Subtract,
            "*" => Self::Multiply,
            "/" => Self::Divide,
            "%" => Self::Remainder,
            "div" => Self::IntegralDivide,
            _ => return None,
        })
    }
}

/// The whole numbers of Spark: TINYINT to BIGINT.
pub(super) trait Int: PrimInt + CheckedNeg + CheckedRem {}
impl<T: PrimInt + CheckedNeg + CheckedRem> Int for T {}

/// The error of two operands that an operator does not take together.
pub(super) fn mismatch(sql: &str, left: &Typed, right: &Typed) -> Error {
    Error::schema(format!(
        "{sql}: {} and {} cannot be used with this operator. Use CAST.",
        type_to_ddl(&left.data_type),
        type_to_ddl(&right.data_type)
    ))
}

/// A number does not change; a string or a NULL gets the type that goes with the other side.
fn operands(left: Typed, right: Typed, sql: &str) -> Result<(Typed, Typed)> {
    use DataType as T;
    // As in Spark: two strings do not say which type of number they are.
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

/// `left op right`; with `r#try` an error is NULL.
pub(super) fn numbers(op: Op, left: Typed, right: Typed, sql: String, r#try: bool) -> Result<Typed> {
    let (left, right) = operands(left, right, &sql)?;
    let (a, b) = (&left.data_type, &right.data_type);
    if (is_decimal(a) || is_decimal(b)) && !is_float(a) && !is_float(b) {
        return decimals(op, left, right, sql, r#try);
    }
    let to = match op {
        Op::Divide => DataType::Float64,
        Op::IntegralDivide if is_int(a) && is_int(b) => DataType::Int64,
        Op::IntegralDivide => {
            return Err(Error::schema(format!("{sql}: div is only for whole numbers and decimals. Use CAST.")));
        }
        _ => common(a, b).ok_or_else(|| mismatch(&sql, &left, &right))?,
    };
    let (left, right) = (implicit(left, &to)?, implicit(right, &to)?);
    let kernel = match &to {
        DataType::Int8 => ints::<Int8Type>(op, r#try),
        DataType::Int16 => ints::<Int16Type>(op, r#try),
        DataType::Int32 => ints::<Int32Type>(op, r#try),
        DataType::Int64 => ints::<Int64Type>(op, r#try),
        DataType::Float32 => floats::<Float32Type>(op, r#try),
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

/// Arrow's checked kernels. They are several times as fast as `rows`, but fail as a whole.
fn arrow_numeric(kernel: Numeric) -> Kernel {
    Arc::new(move |a: &Args| {
        let out = kernel(&*datum(&a.values[0])?, &*datum(&a.values[1])?);
        out.map_err(|e| match e {
            ArrowError::DivideByZero => row_error(ZERO),
            _ => row_error(OVERFLOW),
        })
    })
}

/// Row by row; with `r#try` an error is NULL. Each operator has a loop of its own.
pub(super) fn rows<T: ArrowPrimitiveType>(
    r#try: bool,
    f: impl Fn(T::Native, T::Native) -> Result<T::Native, &'static str> + Send + Sync + 'static,
) -> Kernel {
    Arc::new(move |a| {
        let (x, y) = (a.num::<T>(0)?, a.num::<T>(1)?);
        nums::<T>(a.rows, |i| {
            let (Some(x), Some(y)) = (x.get(i), y.get(i)) else { return Ok(None) };
            match f(x, y) {
                Ok(v) => Ok(Some(v)),
                Err(_) if r#try => Ok(None),
                Err(e) => Err(row_error(e)),
            }
        })
    })
}

/// As in Java, the least number % -1 is 0.
fn remainder<N: Int>(x: N, y: N) -> Result<N, &'static str> {
    if y.is_zero() { Err(ZERO) } else { Ok(x.checked_rem(&y).unwrap_or_else(N::zero)) }
}

/// `abs(x)`, which the least number does not have.
pub(super) fn absolute<N: Int>(x: N) -> Option<N> {
    if x < N::zero() { x.checked_neg() } else { Some(x) }
}

fn ints<T: ArrowPrimitiveType>(op: Op, r#try: bool) -> Kernel
where
    T::Native: Int,
{
    match (op, r#try) {
        (Op::Add, false) => arrow_numeric(numeric::add),
        (Op::Subtract, false) => arrow_numeric(numeric::sub),
        (Op::Multiply, false) => arrow_numeric(numeric::mul),
        (Op::Add, true) => rows::<T>(true, |x, y| x.checked_add(&y).ok_or(OVERFLOW)),
        (Op::Subtract, true) => rows::<T>(true, |x, y| x.checked_sub(&y).ok_or(OVERFLOW)),
        (Op::Multiply, true) => rows::<T>(true, |x, y| x.checked_mul(&y).ok_or(OVERFLOW)),
        (Op::Remainder, r#try) => rows::<T>(r#try, remainder),
        (Op::Divide | Op::IntegralDivide, r#try) => {
            rows::<T>(r#try, |x, y| if y.is_zero() { Err(ZERO) } else { x.checked_div(&y).ok_or(OVERFLOW) })
        }
    }
}

fn floats<T: ArrowPrimitiveType>(op: Op, r#try: bool) -> Kernel
where
    T::Native: Float,
{
    match op {
        Op::Add => arrow_numeric(numeric::add),
        Op::Subtract => arrow_numeric(numeric::sub),
        Op::Multiply => arrow_numeric(numeric::mul),
        Op::Remainder => rows::<T>(r#try, |x, y| if y.is_zero() { Err(ZERO) } else { Ok(x % y) }),
        Op::Divide | Op::IntegralDivide => {
            let by_row = rows::<T>(r#try, |x, y| if y.is_zero() { Err(ZERO) } else { Ok(x / y) });
            let at_once = arrow_numeric(numeric::div);
            // Most divisors are not zero, and then Arrow's kernel cannot fail.
            Arc::new(move |a| {
                let zero = a.num::<T>(1)?.array.values().iter().any(Zero::is_zero);
                if zero { by_row(a) } else { at_once(a) }
            })
        }
    }
}

fn decimals(op: Op, left: Typed, right: Typed, sql: String, r#try: bool) -> Result<Typed> {
    let (Some(x), Some(y)) = (decimal_of_operand(&left), decimal_of_operand(&right)) else {
        return Err(mismatch(&sql, &left, &right));
    };
    let as_decimal = |(p, s): (u8, i8)| DataType::Decimal128(p, s);
    let (left, right) = (implicit(left, &as_decimal(x))?, implicit(right, &as_decimal(y))?);
    let result = decimal::result_type(op, x, y);
    let (data_type, whole) =
        if op == Op::IntegralDivide { (DataType::Int64, true) } else { (as_decimal(result), false) };
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

/// `pmod` of DECIMAL: the remainder, and once more with the divisor added where it is negative.
fn positive(left: Typed, right: Typed, sql: String) -> Result<Typed> {
    let (Some(x), Some(y)) = (decimal_of_operand(&left), decimal_of_operand(&right)) else {
        return Err(mismatch(&sql, &left, &right));
    };
    let as_decimal = |(p, s): (u8, i8)| DataType::Decimal128(p, s);
    let (left, right) = (implicit(left, &as_decimal(x))?, implicit(right, &as_decimal(y))?);
    let result = decimal::result_type(Op::Remainder, x, y);
    let to = as_decimal(result);
    let out = to.clone();
    let scale = x.1.max(y.1);
    let kernel: Kernel = Arc::new(move |a| {
        let (l, r) = (a.num::<Decimal128Type>(0)?, a.num::<Decimal128Type>(1)?);
        nums_as::<Decimal128Type>(a.rows, &out, |i| {
            let (Some(l), Some(r)) = (l.get(i), r.get(i)) else { return Ok(None) };
            if r == 0 {
                return Err(row_error(ZERO));
            }
            let wide = |v: i128, s: i8| v.checked_mul(10i128.pow((scale - s).unsigned_abs().into()));
            let (Some(l), Some(r)) = (wide(l, x.1), wide(r, y.1)) else { return Err(row_error(OVERFLOW)) };
            let rest = l % r;
            let rest = if rest < 0 { rest.checked_add(r).map_or(rest, |v| v % r) } else { rest };
            let down = 10i128.pow((scale - result.1).max(0).unsigned_abs().into());
            // The type is that of `%`, and the sum of the remainder and the divisor may not fit into it.
            super::text::fits(rest / down, result.0).map(Some).ok_or_else(|| row_error(OVERFLOW))
        })
    });
    Ok(Typed::call(vec![left, right], to, false, sql, kernel))
}

/// `pmod(a, b)`: never negative for a positive b.
pub(super) fn pmod(left: Typed, right: Typed, sql: String) -> Result<Typed> {
    let (left, right) = operands(left, right, &sql)?;
    let (a, b) = (&left.data_type, &right.data_type);
    if (is_decimal(a) || is_decimal(b)) && !is_float(a) && !is_float(b) {
        return positive(left, right, sql);
    }
    let to = common(&left.data_type, &right.data_type).ok_or_else(|| mismatch(&sql, &left, &right))?;
    let (left, right) = (implicit(left, &to)?, implicit(right, &to)?);
    fn ints<T: ArrowPrimitiveType>() -> Kernel
    where
        T::Native: Int,
    {
        rows::<T>(false, |x, y| {
            let rest = remainder(x, y)?;
            let zero = T::Native::zero();
            // A negative remainder of a positive divisor has room for one more divisor.
            Ok(if rest < zero && y > zero { rest + y } else { rest })
        })
    }
    /// As in Java, the sum of a negative remainder and a divisor that is far below 0 wraps around.
    fn wide<T: ArrowPrimitiveType>() -> Kernel
    where
        T::Native: Int + WrappingAdd,
    {
        rows::<T>(false, |x, y| {
            let rest = remainder(x, y)?;
            Ok(if rest < T::Native::zero() { rest.wrapping_add(&y) % y } else { rest })
        })
    }
    fn floats<T: ArrowPrimitiveType>() -> Kernel
    where
        T::Native: Float,
    {
        rows::<T>(false, |x, y| {
            if y.is_zero() {
                return Err(ZERO);
            }
            let rest = x % y;
            Ok(if rest < T::Native::zero() { (rest + y) % y } else { rest })
        })
    }
    let kernel = match &to {
        DataType::Int8 => ints::<Int8Type>(),
        DataType::Int16 => ints::<Int16Type>(),
        DataType::Int32 => wide::<Int32Type>(),
        DataType::Int64 => wide::<Int64Type>(),
        DataType::Float32 => floats::<Float32Type>(),
        DataType::Float64 => floats::<Float64Type>(),
        _ => return Err(mismatch(&sql, &left, &right)),
    };
    Ok(Typed::call(vec![left, right], to, false, sql, kernel))
}

/// The operand of a unary operator as a number: a string is a DOUBLE, and so is NULL.
fn operand_of(operand: Typed, sql: &str) -> Result<Typed> {
    let operand = match operand.data_type {
        DataType::Utf8 | DataType::Null => implicit(operand, &DataType::Float64)?,
        _ => operand,
    };
    if is_number(&operand.data_type) { Ok(operand) } else { Err(wrong_operand(sql, &operand)) }
}

/// The error of an operand that a unary operator does not take.
pub(super) fn wrong_operand(sql: &str, operand: &Typed) -> Error {
    let data_type = type_to_ddl(&operand.data_type);
    Error::schema(format!("{sql}: {data_type} cannot be used with this operator. Use CAST."))
}

/// `+ x`.
pub(super) fn plus(operand: Typed) -> Result<Typed> {
    let sql = format!("(+ {})", operand.sql);
    if is_interval(&operand.data_type) {
        return Ok(operand.named(sql));
    }
    Ok(operand_of(operand, &sql)?.named(sql))
}

/// `- x`.
pub(super) fn negate(operand: Typed) -> Result<Typed> {
    let sql = format!("(- {})", operand.sql);
    if is_interval(&operand.data_type) {
        return Ok(super::functions::turned(operand, false, sql));
    }
    let operand = operand_of(operand, &sql)?;
    let t = operand.data_type.clone();
    fn ints<T: ArrowPrimitiveType>() -> Kernel
    where
        T::Native: Int,
    {
        Arc::new(|a| {
            let x = a.num::<T>(0)?;
            nums::<T>(a.rows, |i| x.get(i).map(|x| x.checked_neg().ok_or_else(|| row_error(OVERFLOW))).transpose())
        })
    }
    let kernel: Kernel = match &t {
        DataType::Int8 => ints::<Int8Type>(),
        DataType::Int16 => ints::<Int16Type>(),
        DataType::Int32 => ints::<Int32Type>(),
        DataType::Int64 => ints::<Int64Type>(),
        DataType::Float32 => Arc::new(|a| {
            let x = a.num::<Float32Type>(0)?;
            nums::<Float32Type>(a.rows, |i| Ok(x.get(i).map(|x| -x)))
        }),
        DataType::Float64 => Arc::new(|a| {
            let x = a.num::<Float64Type>(0)?;
            nums::<Float64Type>(a.rows, |i| Ok(x.get(i).map(|x| -x)))
        }),
        _ => {
            let to = t.clone();
            Arc::new(move |a| {
                let x = a.num::<Decimal128Type>(0)?;
                nums_as::<Decimal128Type>(a.rows, &to, |i| Ok(x.get(i).map(|x| -x)))
            })
        }
    };
    Ok(Typed::call(vec![operand], t, false, sql, kernel))
}
