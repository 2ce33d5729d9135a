//! Floats as whole numbers of the same order as Spark's: NaN is the greatest, -0.0 is 0.0.

use super::kernel::nums;
use super::node::Typed;
use crate::Result;
use arrow::array::{ArrayRef, AsArray, Float32Array, Float64Array};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type};
use std::sync::Arc;

/// Negative numbers have their other bits turned round, so that the order of bits is the order of numbers.
pub(super) fn bits(x: f64) -> i64 {
    let bits = (if x.is_nan() { f64::NAN.abs() } else { x + 0.0 }).to_bits() as i64;
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

fn bits32(x: f32) -> i32 {
    let bits = (if x.is_nan() { f32::NAN.abs() } else { x + 0.0 }).to_bits() as i32;
    if bits < 0 { bits ^ i32::MAX } else { bits }
}

pub(super) fn key(arg: Typed) -> Typed {
    let sql = arg.sql.clone();
    if arg.data_type == DataType::Float32 {
        return Typed::call(
            vec![arg],
            DataType::Int32,
            false,
            sql,
            Arc::new(|a| {
                let x = a.num::<Float32Type>(0)?;
                nums::<Int32Type>(a.rows, |i| Ok(x.get(i).map(bits32)))
            }),
        );
    }
    Typed::call(
        vec![arg],
        DataType::Int64,
        false,
        sql,
        Arc::new(|a| {
            let x = a.num::<Float64Type>(0)?;
            nums::<Int64Type>(a.rows, |i| Ok(x.get(i).map(bits)))
        }),
    )
}

pub(super) fn value(keys: &ArrayRef) -> Result<ArrayRef> {
    if let Some(keys) = keys.as_primitive_opt::<Int32Type>() {
        let back = |k: i32| f32::from_bits((if k < 0 { k ^ i32::MAX } else { k }) as u32);
        return Ok(Arc::new(keys.iter().map(|k| k.map(back)).collect::<Float32Array>()));
    }
    let back = |k: i64| f64::from_bits((if k < 0 { k ^ i64::MAX } else { k }) as u64);
    Ok(Arc::new(keys.as_primitive::<Int64Type>().iter().map(|k| k.map(back)).collect::<Float64Array>()))
}

/// NaNs and zeros in one form, so that they are equal to DISTINCT.
pub(super) fn normalised(arg: Typed) -> Typed {
    let sql = arg.sql.clone();
    match arg.data_type {
        DataType::Float64 => Typed::call(
            vec![arg],
            DataType::Float64,
            false,
            sql,
            Arc::new(|a| {
                let x = a.num::<Float64Type>(0)?;
                nums::<Float64Type>(a.rows, |i| Ok(x.get(i).map(|x| if x.is_nan() { f64::NAN } else { x + 0.0 })))
            }),
        ),
        DataType::Float32 => Typed::call(
            vec![arg],
            DataType::Float32,
            false,
            sql,
            Arc::new(|a| {
                let x = a.num::<Float32Type>(0)?;
                nums::<Float32Type>(a.rows, |i| Ok(x.get(i).map(|x| if x.is_nan() { f32::NAN } else { x + 0.0 })))
            }),
        ),
        _ => arg,
    }
}
