//! Decimal arithmetic with Spark's result types and rounding (half up), `spark.sql.decimalOperations.allowPrecisionLoss=true`.

use super::arith::Op;
use super::evaluate::{OVERFLOW, ZERO};
use super::text::fits;
use arrow::datatypes::i256;

/// The precision and scale of the result.
pub(super) fn result_type(op: Op, (p1, s1): (u8, i8), (p2, s2): (u8, i8)) -> (u8, i8) {
    let (p1, s1, p2, s2) = (i32::from(p1), i32::from(s1), i32::from(p2), i32::from(s2));
    let (p, s) = match op {
        Op::Add | Op::Subtract => {
            let s = s1.max(s2);
            ((p1 - s1).max(p2 - s2) + s + 1, s)
        }
        Op::Multiply => (p1 + p2 + 1, s1 + s2),
        Op::Divide => {
            let s = 6.max(s1 + p2 + 1);
            (p1 - s1 + s2 + s, s)
        }
        Op::Remainder => {
            let s = s1.max(s2);
            ((p1 - s1).min(p2 - s2) + s, s)
        }
        Op::IntegralDivide => ((p1 - s1 + s2).max(1), 0),
    };
    if p <= 38 {
        return (p as u8, s as i8);
    }
    let whole = p - s;
    (38, (38 - whole).max(s.min(6)) as i8)
}

fn ten(n: u32) -> i256 {
    i256::from_i128(10).wrapping_pow(n)
}

/// `v` at scale `from`, at scale `to`, rounded half up.
fn rescale(v: i256, from: i32, to: i32) -> Option<i256> {
    if to >= from {
        return if to - from > 76 { None } else { v.checked_mul(ten((to - from) as u32)) };
    }
    if from - to > 76 {
        return Some(i256::ZERO);
    }
    let unit = ten((from - to) as u32);
    let (q, r) = (v.checked_div(unit)?, v.checked_rem(unit)?);
    let r = r.wrapping_abs();
    // r >= unit - r is 2r >= unit without the overflow.
    let away = r >= unit.wrapping_sub(r);
    let one = if v.is_negative() { i256::MINUS_ONE } else { i256::ONE };
    Some(if away { q.wrapping_add(one) } else { q })
}

pub(super) fn compute(
    op: Op,
    (a, s1): (i128, i8),
    (b, s2): (i128, i8),
    (p, s): (u8, i8),
) -> Result<i128, &'static str> {
    let (s1, s2, s) = (i32::from(s1), i32::from(s2), i32::from(s));
    let max = s1.max(s2);
    let wide = i256::from_i128;
    let out = match op {
        Op::Add | Op::Subtract => {
            // The common case: the scales are equal, and the sum fits.
            if max == s && s1 == s2 {
                let sum = if op == Op::Add { a.checked_add(b) } else { a.checked_sub(b) };
                if let Some(sum) = sum {
                    return fits(sum, p).ok_or(OVERFLOW);
                }
            }
            let (x, y) = (rescale(wide(a), s1, max), rescale(wide(b), s2, max));
            let (x, y) = x.zip(y).ok_or(OVERFLOW)?;
            let sum = if op == Op::Add { x.checked_add(y) } else { x.checked_sub(y) };
            rescale(sum.ok_or(OVERFLOW)?, max, s)
        }
        Op::Multiply => rescale(wide(a).checked_mul(wide(b)).ok_or(OVERFLOW)?, s1 + s2, s),
        Op::Divide | Op::IntegralDivide | Op::Remainder if b == 0 => return Err(ZERO),
        Op::Remainder => {
            let (x, y) = (rescale(wide(a), s1, max), rescale(wide(b), s2, max));
            let (x, y) = x.zip(y).ok_or(OVERFLOW)?;
            rescale(x.checked_rem(y).ok_or(OVERFLOW)?, max, s)
        }
        Op::IntegralDivide => {
            let (x, y) = (rescale(wide(a), s1, max), rescale(wide(b), s2, max));
            let (x, y) = x.zip(y).ok_or(OVERFLOW)?;
            x.checked_div(y)
        }
        Op::Divide => divide(a, b, s + s2 - s1),
    };
    let out = out.and_then(i256::to_i128).ok_or(OVERFLOW)?;
    if op == Op::IntegralDivide { Ok(out) } else { fits(out, p).ok_or(OVERFLOW) }
}

/// `a * 10^shift / b`, rounded half up. It is computed digit by digit, because `a * 10^shift` may not fit.
fn divide(a: i128, b: i128, shift: i32) -> Option<i256> {
    let negative = (a < 0) != (b < 0);
    let (a, b) = (i256::from_i128(a).wrapping_abs(), i256::from_i128(b).wrapping_abs());
    let (b, shift) = if shift < 0 { (b.checked_mul(ten(shift.unsigned_abs()))?, 0) } else { (b, shift) };
    let mut q = a.checked_div(b)?;
    let mut r = a.checked_rem(b)?;
    let base = i256::from_i128(10);
    for _ in 0..shift {
        let next = r.checked_mul(base)?;
        q = q.checked_mul(base)?.checked_add(next.checked_div(b)?)?;
        r = next.checked_rem(b)?;
    }
    if r >= b.wrapping_sub(r) {
        q = q.wrapping_add(i256::ONE);
    }
    Some(if negative { q.wrapping_neg() } else { q })
}
