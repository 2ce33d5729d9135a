//! Operators on the bits of whole numbers.

use super::arith::{Int, mismatch, rows, wrong_operand};
use super::cast::implicit;
use super::coerce::{Param, common, is_int, is_number};
use super::kernel::{Kernel, nums};
use super::node::Typed;
use crate::Result;
use arrow::array::ArrowPrimitiveType;
use arrow::datatypes::*;
use std::sync::Arc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    And,
    Or,
    Xor,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shift {
    Left,
    Right,
    /// Zeros are shifted in from the left, whatever the sign.
    UnsignedRight,
}

/// `left op right`.
pub(super) fn binary(op: Op, left: Typed, right: Typed, sql: String) -> Result<Typed> {
    let to = common(&left.data_type, &right.data_type).filter(is_int).ok_or_else(|| mismatch(&sql, &left, &right))?;
    let (left, right) = (implicit(left, &to)?, implicit(right, &to)?);
    fn ints<T: ArrowPrimitiveType>(op: Op) -> Kernel
    where
        T::Native: Int,
    {
        match op {
            Op::And => rows::<T>(false, |x, y| Ok(x & y)),
            Op::Or => rows::<T>(false, |x, y| Ok(x | y)),
            Op::Xor => rows::<T>(false, |x, y| Ok(x ^ y)),
        }
    }
    let kernel = match &to {
        DataType::Int8 => ints::<Int8Type>(op),
        DataType::Int16 => ints::<Int16Type>(op),
        DataType::Int32 => ints::<Int32Type>(op),
        _ => ints::<Int64Type>(op),
    };
    Ok(Typed::call(vec![left, right], to, false, sql, kernel))
}

/// As in Java, the count is taken modulo the width.
pub(super) fn shift(op: Shift, left: Typed, right: Typed, sql: String) -> Result<Typed> {
    // As in Spark, a number that is not whole, and a string, become an INT.
    let left = match &left.data_type {
        t if is_number(t) && !is_int(t) || *t == DataType::Utf8 => Param::Int.take("shift", 0, left)?,
        _ => left,
    };
    let wide = left.data_type == DataType::Int64;
    let small = matches!(left.data_type, DataType::Int8 | DataType::Int16 | DataType::Int32);
    let count = is_int(&right.data_type) || right.data_type == DataType::Null;
    if !wide && !small || !count {
        return Err(mismatch(&sql, &left, &right));
    }
    let to = if wide { DataType::Int64 } else { DataType::Int32 };
    let (left, right) = (implicit(left, &to)?, implicit(right, &DataType::Int32)?);
    fn by<T: ArrowPrimitiveType>(f: impl Fn(T::Native, u32) -> T::Native + Send + Sync + 'static) -> Kernel {
        let width = size_of::<T::Native>() as u32 * 8;
        Arc::new(move |a| {
            let (x, n) = (a.num::<T>(0)?, a.num::<Int32Type>(1)?);
            nums::<T>(a.rows, |i| Ok(x.get(i).zip(n.get(i)).map(|(x, n)| f(x, n as u32 & (width - 1)))))
        })
    }
    let kernel = match (op, wide) {
        (Shift::Left, true) => by::<Int64Type>(|x, n| x << n),
        (Shift::Left, false) => by::<Int32Type>(|x, n| x << n),
        (Shift::Right, true) => by::<Int64Type>(|x, n| x >> n),
        (Shift::Right, false) => by::<Int32Type>(|x, n| x >> n),
        (Shift::UnsignedRight, true) => by::<Int64Type>(|x, n| (x as u64 >> n) as i64),
        (Shift::UnsignedRight, false) => by::<Int32Type>(|x, n| (x as u32 >> n) as i32),
    };
    Ok(Typed::call(vec![left, right], to, false, sql, kernel))
}

/// `~x`.
pub(super) fn complement(operand: Typed) -> Result<Typed> {
    let sql = format!("~{}", operand.sql);
    let null = operand.data_type == DataType::Null;
    let operand = if null { implicit(operand, &DataType::Int32)? } else { operand };
    fn ints<T: ArrowPrimitiveType>() -> Kernel
    where
        T::Native: Int,
    {
        Arc::new(|a| {
            let x = a.num::<T>(0)?;
            nums::<T>(a.rows, |i| Ok(x.get(i).map(|x| !x)))
        })
    }
    let to = operand.data_type.clone();
    let kernel = match &to {
        DataType::Int8 => ints::<Int8Type>(),
        DataType::Int16 => ints::<Int16Type>(),
        DataType::Int32 => ints::<Int32Type>(),
        DataType::Int64 => ints::<Int64Type>(),
        _ => return Err(wrong_operand(&sql, &operand)),
    };
    Ok(Typed::call(vec![operand], to, false, sql, kernel))
}
