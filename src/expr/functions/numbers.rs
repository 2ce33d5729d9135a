//! The less common functions of numbers: buckets, bits, bitmaps, and hyperbolic inverses.

use super::{Call, Spec, get, spec};
use crate::Result;
use crate::expr::coerce::Param::{Big, Bytes, Double, Int};
use crate::expr::coerce::{is_int, is_interval};
use crate::expr::evaluate::row_error;
use crate::expr::kernel::nums;
use crate::expr::node::Typed;
use arrow::datatypes::*;

pub(super) const LIST: &[Spec] = &[
    spec("width_bucket", "width_bucket(value, min, max, buckets)", |mut c| {
        c = c.count(4, 4)?;
        for arg in &mut c.args[..3] {
            if is_interval(&arg.data_type) {
                *arg = super::number_of(arg.clone())?;
            }
        }
        c.take(&[Double, Double, Double, Big], 4)?.build_nullable(DataType::Int64, |a| {
            let (x, low, high) = (a.num::<Float64Type>(0)?, a.num::<Float64Type>(1)?, a.num::<Float64Type>(2)?);
            let n = a.num::<Int64Type>(3)?;
            nums::<Int64Type>(a.rows, |i| {
                Ok(bucket(get!(x.get(i)), get!(low.get(i)), get!(high.get(i)), get!(n.get(i))))
            })
        })
    }),
    spec("getbit", "getbit(n, position)", bit_get),
    spec("bit_get", "bit_get(n, position)", bit_get),
    spec("bitmap_bit_position", "bitmap_bit_position(n)", |c| {
        of_long(c, |n| if n > 0 { (n - 1) % BITMAP } else { n.unsigned_abs() as i64 % BITMAP })
    }),
    spec("bitmap_bucket_number", "bitmap_bucket_number(n)", |c| {
        of_long(c, |n| if n > 0 { 1 + (n - 1) / BITMAP } else { n / BITMAP })
    }),
    spec("bitmap_count", "bitmap_count(binary)", |c| {
        c.take(&[Bytes], 1)?.build(DataType::Int64, |a| {
            let b = a.bytes(0)?;
            nums::<Int64Type>(a.rows, |i| Ok(b.get(i).map(|b| b.iter().map(|b| i64::from(b.count_ones())).sum())))
        })
    }),
];

/// The number of bits of one of Spark's bitmaps.
const BITMAP: i64 = 8 * 4 * 1024;

fn of_long(c: Call, f: fn(i64) -> i64) -> Result<Typed> {
    c.take(&[Big], 1)?.build(DataType::Int64, move |a| {
        let n = a.num::<Int64Type>(0)?;
        nums::<Int64Type>(a.rows, |i| Ok(n.get(i).map(f)))
    })
}

fn bucket(x: f64, low: f64, high: f64, n: i64) -> Option<i64> {
    if n <= 0 || n == i64::MAX || x.is_nan() || !low.is_finite() || !high.is_finite() || low == high {
        return None;
    }
    let count = n as f64;
    Some(match low < high {
        true if x < low => 0,
        true if x >= high => n + 1,
        true => (count * (x - low) / (high - low)) as i64 + 1,
        false if x > low => 0,
        false if x <= high => n + 1,
        false => (count * (low - x) / (low - high)) as i64 + 1,
    })
}

fn bit_get(c: Call) -> Result<Typed> {
    let c = c.count(2, 2)?;
    let width = match c.args[0].data_type {
        DataType::Int8 => 8,
        DataType::Int16 => 16,
        DataType::Int32 => 32,
        ref t if is_int(t) => 64,
        DataType::Null => 32,
        _ => return Err(c.error("a whole number is expected")),
    };
    c.take(&[Big, Int], 2)?.build(DataType::Int8, move |a| {
        let (n, at) = (a.num::<Int64Type>(0)?, a.num::<Int32Type>(1)?);
        nums::<Int8Type>(a.rows, |i| {
            let (n, at) = (get!(n.get(i)), get!(at.get(i)));
            if !(0..width).contains(&at) {
                return Err(row_error("the number does not have this bit"));
            }
            Ok(Some((n >> at & 1) as i8))
        })
    })
}
