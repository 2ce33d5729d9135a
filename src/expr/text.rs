//! Numbers and booleans to text and back, as Spark and Java write them. Dates and timestamps are in `calendar`.

pub(super) use crate::calendar::trim_all;
use std::ops::Range;

fn java_digits(shortest: String, negative: bool) -> String {
    // `shortest` is the absolute value as Rust's "{:e}" writes it: "1.234e5".
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let digits = match digits.trim_end_matches('0') {
        "" => "0",
        digits => digits,
    };
    let body = if (-3..7).contains(&exponent) {
        if exponent < 0 {
            format!("0.{}{digits}", "0".repeat((-exponent - 1) as usize))
        } else {
            let whole = exponent as usize + 1;
            if digits.len() <= whole {
                format!("{digits}{}.0", "0".repeat(whole - digits.len()))
            } else {
                format!("{}.{}", &digits[..whole], &digits[whole..])
            }
        }
    } else {
        let rest = if digits.len() > 1 { &digits[1..] } else { "0" };
        format!("{}.{rest}E{exponent}", &digits[..1])
    };
    if negative { format!("-{body}") } else { body }
}

/// The digits that Java since 19 writes: as many as distinguish the number from its neighbours, and at least two. Of the numbers with
/// this many digits, Java writes the nearest one. If two are equally near, it writes the even one. Rust may choose the other one, and
/// writes 5e-324 instead of 4.9e-324.
macro_rules! shortest {
    ($v:expr, $t:ty) => {{
        let v: $t = $v;
        let short = format!("{v:e}");
        let digits = short.find('e').unwrap_or(short.len()).saturating_sub(1).max(2);
        let near = format!("{v:.*e}", digits - 1);
        if near.parse::<$t>() == Ok(v) { near } else { short }
    }};
}

/// `Double.toString`.
pub(super) fn java_double(v: f64) -> String {
    match v {
        v if v.is_nan() => "NaN".into(),
        f64::INFINITY => "Infinity".into(),
        f64::NEG_INFINITY => "-Infinity".into(),
        0.0 => if v.is_sign_negative() { "-0.0" } else { "0.0" }.into(),
        v => java_digits(shortest!(v.abs(), f64), v < 0.0),
    }
}

/// `Float.toString`.
pub(super) fn java_float(v: f32) -> String {
    match v {
        v if v.is_nan() => "NaN".into(),
        f32::INFINITY => "Infinity".into(),
        f32::NEG_INFINITY => "-Infinity".into(),
        0.0 => if v.is_sign_negative() { "-0.0" } else { "0.0" }.into(),
        v => java_digits(shortest!(v.abs(), f32), v < 0.0),
    }
}

/// `BigDecimal.toPlainString`.
pub(super) fn decimal_text(value: i128, scale: i8) -> String {
    let scale = scale.max(0) as usize;
    let digits = value.unsigned_abs().to_string();
    let sign = if value < 0 { "-" } else { "" };
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (int, frac) = padded.split_at(padded.len() - scale);
    format!("{sign}{int}.{frac}")
}

/// A whole number. It may have a sign, and blanks around it.
pub(super) fn parse_whole(text: &str) -> Option<i64> {
    let text = trim_all(text);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// `Double.parseDouble`, and Spark's words for NaN and the infinities.
pub(super) fn parse_double(text: &str) -> Option<f64> {
    let text = trim_all(text);
    let number =
        text.strip_suffix(['d', 'D', 'f', 'F']).filter(|t| t.ends_with(|c: char| c.is_ascii_digit() || c == '.'));
    let number = number.unwrap_or(text);
    if number.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'+' | b'-' | b'e' | b'E')) {
        return number.parse().ok();
    }
    match text.to_ascii_lowercase().as_str() {
        "-nan" | "+nan" if text.ends_with("NaN") => Some(f64::NAN),
        "inf" | "+inf" | "infinity" | "+infinity" => Some(f64::INFINITY),
        "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
        "nan" => Some(f64::NAN),
        _ => hexadecimal(text),
    }
}

/// Java's `0x1.8p3`.
fn hexadecimal(text: &str) -> Option<f64> {
    let (sign, body) = match text.as_bytes().first()? {
        b'-' => (-1.0, &text[1..]),
        b'+' => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    let body = body.strip_prefix("0x").or_else(|| body.strip_prefix("0X"))?;
    let (mantissa, exponent) = body.split_once(['p', 'P'])?;
    let exponent: i64 = exponent.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(exponent).parse().ok()?;
    let (int, frac) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if int.len() + frac.len() == 0 || !int.bytes().chain(frac.bytes()).all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    // Rounding needs 60 bits, and whether any bit behind them is set.
    let (mut value, mut places) = (0u64, 0i64);
    for (i, digit) in int.chars().chain(frac.chars()).enumerate() {
        let digit = u64::from(digit.to_digit(16)?);
        let behind = i64::from(i >= int.len());
        if value < 1 << 56 {
            (value, places) = (value * 16 + digit, places - 4 * behind)
        } else {
            (value, places) = (value | u64::from(digit > 0), places + 4 * (1 - behind))
        }
    }
    let mut out = value as f64;
    let mut left = exponent.saturating_add(places).clamp(-5000, 5000);
    while left != 0 {
        let step = left.clamp(-1000, 1000);
        out *= 2f64.powi(step as i32);
        left -= step;
    }
    Some(sign * out)
}

pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match trim_all(text).to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "1" => Some(true),
        "f" | "false" | "n" | "no" | "0" => Some(false),
        _ => None,
    }
}

/// A decimal number, rounded half up to the scale. `None` where it is not a number or is too large for the precision.
pub(super) fn parse_decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let text = trim_all(text);
    let (negative, body) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match body.find(['e', 'E']) {
        Some(i) => (&body[..i], body[i + 1..].parse::<i32>().ok()?),
        None => (body, 0),
    };
    let (int, frac) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if int.len() + frac.len() == 0 || !int.bytes().chain(frac.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = format!("{int}{frac}");
    // The value is digits * 10^(exponent - frac.len()), and the result counts units of 10^-scale.
    let shift = i64::from(exponent) - frac.len() as i64 + i64::from(scale);
    let digits = digits.trim_start_matches('0');
    let value: i128 = if digits.is_empty() {
        0
    } else if shift >= 0 {
        if digits.len() as i64 + shift > 38 {
            return None;
        }
        digits.parse::<i128>().ok()?.checked_mul(10i128.checked_pow(shift as u32)?)?
    } else {
        let cut = -shift;
        let keep = digits.len() as i64 - cut;
        if keep < 0 {
            0
        } else if keep > 38 {
            return None;
        } else {
            let (kept, dropped) = digits.split_at(keep as usize);
            let kept: i128 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
            kept + i128::from(dropped.as_bytes()[0] >= b'5')
        }
    };
    fits(if negative { -value } else { value }, precision)
}

/// The value, unless it has more digits than the precision.
pub(super) fn fits(value: i128, precision: u8) -> Option<i128> {
    (value.unsigned_abs() < 10u128.pow(u32::from(precision))).then_some(value)
}

/// Where the elements of a row begin and end.
pub(super) fn span(offsets: &[i32], row: usize) -> Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

/// Writes an opening, the items with a separator between them, and a closing.
pub(super) fn enclosed(
    out: &mut Vec<u8>,
    [open, separator, close]: [&str; 3],
    items: Range<usize>,
    mut item: impl FnMut(usize, &mut Vec<u8>),
) {
    out.extend_from_slice(open.as_bytes());
    for at in items.clone() {
        if at > items.start {
            out.extend_from_slice(separator.as_bytes());
        }
        item(at, out);
    }
    out.extend_from_slice(close.as_bytes());
}
