//! Spark's order of floats as an order of whole numbers: NaN is the greatest, and -0.0 is just below 0.0. And one form for floats
//! that are equal.

use super::node::Typed;
use crate::Result;
use arrow::array::{Array, ArrayRef, AsArray, make_array};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type};
use std::sync::Arc;

/// The bits of a float as a number. The lower bits of negative floats are inverted, so that the order of bits is the order of floats.
pub(super) fn bits(x: f64) -> i64 {
    let bits = (if x.is_nan() { f64::NAN.abs() } else { x }).to_bits() as i64;
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

pub(super) fn bits32(x: f32) -> i32 {
    let bits = (if x.is_nan() { f32::NAN.abs() } else { x }).to_bits() as i32;
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
            Arc::new(|a| Ok(Arc::new(a.full(0)?.as_primitive::<Float32Type>().unary::<_, Int32Type>(bits32)))),
        );
    }
    Typed::call(
        vec![arg],
        DataType::Int64,
        false,
        sql,
        Arc::new(|a| Ok(Arc::new(a.full(0)?.as_primitive::<Float64Type>().unary::<_, Int64Type>(bits)))),
    )
}

pub(super) fn value(keys: &ArrayRef) -> Result<ArrayRef> {
    if let Some(keys) = keys.as_primitive_opt::<Int32Type>() {
        let back = |k: i32| f32::from_bits((if k < 0 { k ^ i32::MAX } else { k }) as u32);
        return Ok(Arc::new(keys.unary::<_, Float32Type>(back)));
    }
    let back = |k: i64| f64::from_bits((if k < 0 { k ^ i64::MAX } else { k }) as u64);
    Ok(Arc::new(keys.as_primitive::<Int64Type>().unary::<_, Float64Type>(back)))
}

/// All NaNs and all zeros in one form, so that DISTINCT sees them as equal.
pub(super) fn normalised(arg: Typed) -> Typed {
    if !has_floats(&arg.data_type) {
        return arg;
    }
    let (sql, data_type, nullable) = (arg.sql.clone(), arg.data_type.clone(), arg.nullable);
    Typed::call(vec![arg], data_type, nullable, sql, Arc::new(|a| Ok(normalize(&a.full(0)?))))
}

fn has_floats(t: &DataType) -> bool {
    match t {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => true,
        DataType::Struct(fields) => fields.iter().any(|f| has_floats(f.data_type())),
        DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) | DataType::Map(f, _) => {
            has_floats(f.data_type())
        }
        DataType::Dictionary(_, value) => has_floats(value),
        _ => false,
    }
}

/// All NaNs become one value and -0.0 becomes 0.0, also within structs, arrays and maps.
pub(crate) fn normalize(array: &ArrayRef) -> ArrayRef {
    if !has_floats(array.data_type()) {
        return array.clone();
    }
    match array.data_type() {
        DataType::Float64 => {
            let a = array.as_primitive::<Float64Type>();
            Arc::new(a.unary::<_, Float64Type>(|v| if v.is_nan() { f64::NAN } else { v + 0.0 }))
        }
        DataType::Float32 => {
            let a = array.as_primitive::<Float32Type>();
            Arc::new(a.unary::<_, Float32Type>(|v| if v.is_nan() { f32::NAN } else { v + 0.0 }))
        }
        _ => {
            // The parts are normalized in place: offsets and NULLs do not change.
            let data = array.to_data();
            let parts = data.child_data().iter().map(|part| normalize(&make_array(part.clone())).to_data()).collect();
            match data.into_builder().child_data(parts).build() {
                Ok(data) => make_array(data),
                Err(_) => array.clone(),
            }
        }
    }
}
