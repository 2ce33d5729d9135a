//! Rounding: half up by the decimal digits, whatever the binary fraction is.

use super::{Call, Spec, get, spec};
use crate::expr::coerce::Param::{Int, Number};
use crate::expr::evaluate::{OVERFLOW, row_error};
use crate::expr::kernel::{nums, nums_as};
use crate::expr::node::Typed;
use crate::expr::text;
use crate::{Error, Result};
use arrow::datatypes::*;

pub(super) const LIST: &[Spec] = &[
    spec("round", "round(expr[, digits])", |c| round(c, false)),
    spec("bround", "bround(expr[, digits])", |c| round(c, true)),
    spec("ceil", "ceil(expr[, digits])", |c| whole(c, true)),
    spec("ceiling", "ceiling(expr[, digits])", |c| whole(c, true)),
    spec("floor", "floor(expr[, digits])", |c| whole(c, false)),
];

/// `v / unit`, rounded to the nearest number. A half is rounded away from zero, or to the even number.
fn nearest(v: i128, unit: i128, even: bool) -> i128 {
    let (q, r) = (v / unit, (v % unit).abs());
    let up = match r.cmp(&(unit - r)) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => !even || q % 2 != 0,
    };
    if up { q + v.signum() } else { q }
}

/// Rounds the digits that `Double.toString` writes, not the binary value: round(2.675, 2) is 2.68.
fn round_double(v: f64, digits: i32, even: bool) -> f64 {
    // Java's BigDecimal does not have -0.0.
    if !v.is_finite() || digits > 300 {
        return v;
    }
    if v == 0.0 {
        return 0.0;
    }
    if (0..=15).contains(&digits) {
        let unit = 10f64.powi(digits);
        let scaled = v * unit;
        // Far from a half, rounding the binary value has the same result.
        if scaled.abs() < 1e15 && ((scaled - scaled.trunc()).abs() - 0.5).abs() > 1e-4 {
            return scaled.round() / unit + 0.0;
        }
    }
    let written = format!("{v:e}");
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let negative = mantissa.starts_with('-');
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let all: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    // The value is 0.all * 10^(exponent + 1), and `keep` of its digits remain.
    let keep = exponent + 1 + digits;
    if keep >= all.len() as i32 {
        return v;
    }
    let value: i128 = all.parse().unwrap_or(0);
    let rounded = if keep < 0 {
        0
    } else {
        let cut = (all.len() as i32 - keep) as u32;
        nearest(value, 10i128.pow(cut), even)
    };
    format!("{}{rounded}e{}", if negative { "-" } else { "" }, -digits).parse::<f64>().unwrap_or(v) + 0.0
}

fn round(mut c: Call, even: bool) -> Result<Typed> {
    if c.args.len() == 1 {
        c.sql = format!("{}({}, 0)", c.name, c.args[0].sql);
    }
    let c = c.take(&[Number, Int], 1)?;
    let digits = c.constant_int(1, 0)?;
    let t = c.args[0].data_type.clone();
    macro_rules! ints {
        ($t:ty, $native:ty) => {
            c.build(t, move |a| {
                let x = a.num::<$t>(0)?;
                let unit = 10i128.checked_pow(digits.min(0).unsigned_abs());
                nums::<$t>(a.rows, |i| {
                    let x = get!(x.get(i));
                    match unit {
                        _ if digits >= 0 => Ok(Some(x)),
                        Some(unit) => <$native>::try_from(nearest(i128::from(x), unit, even) * unit)
                            .map(Some)
                            .map_err(|_| row_error(OVERFLOW)),
                        None => Ok(Some(0)),
                    }
                })
            })
        };
    }
    match t {
        DataType::Int8 => ints!(Int8Type, i8),
        DataType::Int16 => ints!(Int16Type, i16),
        DataType::Int32 => ints!(Int32Type, i32),
        DataType::Int64 => ints!(Int64Type, i64),
        DataType::Float32 => c.build(t, move |a| {
            let x = a.num::<Float32Type>(0)?;
            nums::<Float32Type>(a.rows, |i| {
                let x = get!(x.get(i));
                Ok(Some(round_double(f64::from(x), digits, even) as f32))
            })
        }),
        DataType::Float64 => c.build(t, move |a| {
            let x = a.num::<Float64Type>(0)?;
            nums::<Float64Type>(a.rows, |i| Ok(x.get(i).map(|x| round_double(x, digits, even))))
        }),
        DataType::Decimal128(p, s) => {
            let least = i32::from(p) - i32::from(s) + 1;
            let (precision, scale) = if digits < 0 {
                (least.max(1 - digits).min(38), 0)
            } else {
                let scale = i32::from(s).min(digits);
                ((least + scale).min(38), scale)
            };
            let to = DataType::Decimal128(precision as u8, scale as i8);
            let cut = i32::from(s) - digits;
            let out = to.clone();
            c.build(to, move |a| {
                let x = a.num::<Decimal128Type>(0)?;
                nums_as::<Decimal128Type>(a.rows, &out, |i| {
                    let x = get!(x.get(i));
                    let v = if cut <= 0 {
                        Some(x)
                    } else {
                        let unit = 10i128.checked_pow(cut as u32);
                        let back = 10i128.checked_pow(digits.min(0).unsigned_abs());
                        match unit.zip(back) {
                            None => Some(0),
                            Some((unit, back)) => nearest(x, unit, even).checked_mul(back),
                        }
                    };
                    v.and_then(|v| text::fits(v, precision as u8)).map(Some).ok_or_else(|| row_error(OVERFLOW))
                })
            })
        }
        _ => Err(c.error("a number is expected")),
    }
}

/// `ceil(x, n)`: DECIMAL, whatever the number is.
fn to_digits(c: Call, up: bool) -> Result<Typed> {
    let name = c.name;
    let mut c = c.take(&[Number, Int], 2)?;
    let digits = c.constant_int(1, 0)?;
    let first = c.args.remove(0);
    c.args.clear();
    let (p, s) = match &first.data_type {
        DataType::Float32 => (14, 7),
        DataType::Float64 => (30, 15),
        t => {
            crate::expr::coerce::decimal_of(t).ok_or_else(|| Error::schema(format!("{name}: a number is expected")))?
        }
    };
    let wide = DataType::Decimal128(p, s);
    c.args.push(crate::expr::cast::implicit(first, &wide)?);
    let least = i32::from(p) - i32::from(s) + 1;
    let (precision, scale) = if digits < 0 {
        (least.max(1 - digits).min(38), 0)
    } else {
        let scale = i32::from(s).min(digits);
        ((least + scale).min(38), scale)
    };
    let to = DataType::Decimal128(precision as u8, scale as i8);
    let cut = (i32::from(s) - digits).max(0) as u32;
    let out = to.clone();
    c.build_nullable(to, move |a| {
        let x = a.num::<Decimal128Type>(0)?;
        let unit = 10i128.checked_pow(cut);
        let back = 10i128.checked_pow(digits.min(0).unsigned_abs());
        nums_as::<Decimal128Type>(a.rows, &out, |i| {
            let x = get!(x.get(i));
            let (Some(unit), Some(back)) = (unit, back) else { return Err(row_error(OVERFLOW)) };
            let v = (x.div_euclid(unit) + i128::from(up && x.rem_euclid(unit) != 0)).checked_mul(back);
            v.and_then(|v| text::fits(v, precision as u8)).map(Some).ok_or_else(|| row_error(OVERFLOW))
        })
    })
}

fn whole(mut c: Call, up: bool) -> Result<Typed> {
    if c.args.len() == 2 {
        return to_digits(c, up);
    }
    let name = c.name;
    if !c.args.is_empty() {
        c.sql = format!(
            "{}({})",
            if name == "ceiling" {
                "ceiling"
            } else if up {
                "CEIL"
            } else {
                "FLOOR"
            },
            c.args[0].sql
        );
    }
    let c = c.take(&[Number], 1)?;
    match c.args[0].data_type {
        DataType::Decimal128(p, s) => {
            let to = DataType::Decimal128((i32::from(p) - i32::from(s) + 1).min(38) as u8, 0);
            let unit = 10i128.pow(u32::from(s.unsigned_abs()));
            let out = to.clone();
            c.build(to, move |a| {
                let x = a.num::<Decimal128Type>(0)?;
                nums_as::<Decimal128Type>(a.rows, &out, |i| {
                    let x = get!(x.get(i));
                    Ok(Some(x.div_euclid(unit) + i128::from(up && x.rem_euclid(unit) != 0)))
                })
            })
        }
        DataType::Float32 | DataType::Float64 => {
            let c = c.retake(crate::expr::coerce::Param::Double)?;
            c.build(DataType::Int64, move |a| {
                let x = a.num::<Float64Type>(0)?;
                // As in Java, Rust's conversion saturates, and NaN becomes 0.
                nums::<Int64Type>(a.rows, |i| Ok(x.get(i).map(|x| if up { x.ceil() } else { x.floor() } as i64)))
            })
        }
        _ => {
            let sql = c.sql.clone();
            Ok(c.retake(crate::expr::coerce::Param::Big)?.args.remove(0).named(sql))
        }
    }
}
