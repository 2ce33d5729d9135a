//! Literals: numbers with Spark's types, dates, timestamps, intervals.

use super::lex::Token;
use super::parse::{Ast, Parser};
use crate::calendar::{cast_date, cast_timestamp, date_text, timestamp_text};
use crate::time::timestamp_type;
use crate::{Error, Result};
use datafusion::common::ScalarValue;

/// A number with Spark's type: INT, or BIGINT, or DECIMAL, whichever fits first; with a point DECIMAL; with an exponent DOUBLE; or by
/// its suffix.
pub(super) fn number(text: &str) -> Result<(ScalarValue, String)> {
    let wrong = || Error::schema(format!("'{text}' is not a number"));
    let out_of_range = |t: &str| Error::schema(format!("'{text}' is out of range for {t}"));
    let upper = text.to_ascii_uppercase();
    if let Some(digits) = upper.strip_suffix("BD") {
        return decimal(digits).ok_or_else(|| out_of_range("DECIMAL(38, s)"));
    }
    let double = |body: &str| {
        let v: f64 = body.parse().map_err(|_| wrong())?;
        if v.is_infinite() { Err(out_of_range("DOUBLE")) } else { Ok(v) }
    };
    let exponent = upper.contains('E');
    let (body, suffix) = match upper.chars().last() {
        Some(c @ ('L' | 'S' | 'Y' | 'F' | 'D')) => (&upper[..upper.len() - 1], Some(c)),
        _ => (upper.as_str(), None),
    };
    let whole = !exponent && !body.contains('.');
    Ok(match suffix {
        Some('L') if whole => (body.parse::<i64>().map_err(|_| out_of_range("BIGINT"))?.into(), body.to_string()),
        Some('S') if whole => (body.parse::<i16>().map_err(|_| out_of_range("SMALLINT"))?.into(), body.to_string()),
        Some('Y') if whole => (body.parse::<i8>().map_err(|_| out_of_range("TINYINT"))?.into(), body.to_string()),
        Some('F') => {
            let v: f32 = body.parse().map_err(|_| wrong())?;
            if v.is_infinite() {
                return Err(out_of_range("FLOAT"));
            }
            (v.into(), super::text::java_float(v))
        }
        Some('D') => {
            let v = double(body)?;
            (v.into(), super::text::java_double(v))
        }
        Some(_) => return Err(wrong()),
        None if exponent => {
            let v = double(body)?;
            (v.into(), super::text::java_double(v))
        }
        None if whole => match (body.parse::<i32>(), body.parse::<i64>()) {
            (Ok(v), _) => (v.into(), v.to_string()),
            (_, Ok(v)) => (v.into(), v.to_string()),
            _ => return decimal(body).ok_or_else(|| out_of_range("DECIMAL(38, 0)")),
        },
        None => return decimal(body).ok_or_else(|| out_of_range("DECIMAL(38, s)")),
    })
}

/// As `BigDecimal.toString`: small numbers have an exponent.
fn java_decimal(value: i128, scale: i32) -> String {
    let digits = value.unsigned_abs().to_string();
    let exponent = digits.len() as i32 - 1 - scale;
    if exponent >= -6 {
        return super::text::decimal_text(value, scale as i8);
    }
    let sign = if value < 0 { "-" } else { "" };
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{point}{rest}E{exponent}")
}

fn decimal(text: &str) -> Option<(ScalarValue, String)> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (mantissa, exponent) = match digits.split_once('E') {
        Some((m, e)) => (m, e.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (int, frac) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut scale = frac.len() as i32 - exponent;
    let mut value: i128 = format!("{int}{frac}").trim_start_matches('0').parse().unwrap_or(0);
    if value == 0 && !format!("{int}{frac}").bytes().all(|b| b == b'0') {
        return None;
    }
    while scale < 0 {
        value = value.checked_mul(10)?;
        scale += 1;
    }
    let digits = value.to_string().len() as i32;
    let precision = if value == 0 { scale.max(1) } else { digits.max(scale) };
    if precision > 38 {
        return None;
    }
    let value = sign * value;
    let shown = java_decimal(value, scale);
    Some((ScalarValue::Decimal128(Some(value), precision as u8, scale as i8), shown))
}

/// DATE '…', TIMESTAMP '…', X'…'.
pub(super) fn typed(kind: &str, text: &str) -> Result<(ScalarValue, String)> {
    match kind {
        "date" => {
            let days = cast_date(text).ok_or_else(|| Error::schema(format!("'{text}' is not a DATE")))?;
            Ok((ScalarValue::Date32(Some(days)), format!("DATE '{}'", date_text(days))))
        }
        "timestamp" | "timestamp_ltz" => {
            let micros =
                cast_timestamp(text, None).ok_or_else(|| Error::schema(format!("'{text}' is not a TIMESTAMP")))?;
            let value = ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()));
            debug_assert_eq!(value.data_type(), timestamp_type());
            Ok((value, format!("TIMESTAMP '{}'", timestamp_text(micros))))
        }
        "x" => {
            let padded = if text.len() % 2 == 1 { format!("0{text}") } else { text.to_string() };
            let bytes: Option<Vec<u8>> = (0..padded.len() / 2)
                .map(|i| padded.get(2 * i..2 * i + 2).and_then(|b| u8::from_str_radix(b, 16).ok()))
                .collect();
            let bytes = bytes.ok_or_else(|| Error::schema(format!("X'{text}' is not hexadecimal")))?;
            let shown = format!("X'{}'", padded.to_uppercase());
            Ok((ScalarValue::Binary(Some(bytes)), shown))
        }
        _ => Err(Error::schema(format!("{} literals are not supported. Use TIMESTAMP.", kind.to_uppercase()))),
    }
}

/// After INTERVAL: `5 MINUTES`, `'5' MINUTE`, `1 DAY 2 HOURS`, `'1 day 2 hours'`.
pub(super) fn interval(parser: &mut Parser<'_>) -> Result<Ast> {
    let mut parts: Vec<(String, String)> = vec![];
    let mut negative = false;
    loop {
        match parser.peek().clone() {
            Token::Symbol("-") if parts.is_empty() || negative => {
                parser.next();
                negative = true;
                continue;
            }
            Token::Number(n) => {
                parser.next();
                let unit = parser.name().map_err(|_| parser.wrong("a unit such as MINUTES"))?;
                parts.push((format!("{}{n}", if negative { "-" } else { "" }), unit));
            }
            Token::Text(text) => {
                parser.next();
                match parser.peek().clone() {
                    Token::Word(unit) if micros_or_months(&unit).is_some() => {
                        parser.next();
                        if parser.word("to") {
                            let last = parser.name()?;
                            return from_to(&text, &unit, &last, negative);
                        }
                        let sign = if negative { "-" } else { "" };
                        parts.push((format!("{sign}{}", text.trim()), unit));
                    }
                    _ => parts.extend(words(&text)?),
                }
            }
            _ => break,
        }
        negative = false;
    }
    let (mut months, mut micros) = (0i64, 0i64);
    for (number, unit) in &parts {
        let wrong = || Error::schema(format!("INTERVAL '{number}' {unit} is not an interval"));
        let (is_month, factor) = micros_or_months(unit).ok_or_else(wrong)?;
        let value = scaled(number, factor, is_month).ok_or_else(wrong)?;
        let sum = if is_month { &mut months } else { &mut micros };
        *sum = sum.checked_add(value).ok_or_else(wrong)?;
    }
    if parts.is_empty() {
        return Err(parser.wrong("an interval such as INTERVAL 5 MINUTES"));
    }
    if months != 0 && micros != 0 {
        return Err(Error::schema(
            "an INTERVAL of both months and days is not supported; add them one after the other",
        ));
    }
    let units: Vec<usize> = parts.iter().map(|(_, unit)| field_of(unit)).collect();
    let (first, last) = (units.iter().min().copied().unwrap_or(0), units.iter().max().copied().unwrap_or(0));
    Ok(made(months, micros, first, last))
}

fn made(months: i64, micros: i64, first: usize, last: usize) -> Ast {
    let sql = format!("INTERVAL '{}' {}", digits_of(months, micros, first, last), pair(first, last));
    Ast::Interval { months, micros, units: (first as u8, last as u8), sql }
}

/// INTERVAL '1 02:03:04' DAY TO SECOND.
fn from_to(text: &str, first: &str, last: &str, negative: bool) -> Result<Ast> {
    let wrong = || Error::schema(format!("INTERVAL '{text}' {first} TO {last} is not an interval"));
    let place = |unit: &str| FIELDS.iter().position(|f| f.eq_ignore_ascii_case(unit)).ok_or_else(wrong);
    let (from, to) = (place(first)?, place(last)?);
    if from >= to || (from < 2) != (to < 2) {
        return Err(wrong());
    }
    let trimmed = text.trim();
    let (signed, body) = match trimmed.as_bytes().first() {
        Some(b'-') => (true, &trimmed[1..]),
        Some(b'+') => (false, &trimmed[1..]),
        _ => (false, trimmed),
    };
    let mut rest = body;
    let (mut months, mut micros) = (0i64, 0i64);
    for field in from..=to {
        if field > from {
            rest = rest.strip_prefix(["", "-", "", " ", ":", ":"][field]).ok_or_else(wrong)?;
        }
        let n = rest.bytes().take_while(u8::is_ascii_digit).count();
        let value: i64 = rest[..n].parse().map_err(|_| wrong())?;
        rest = &rest[n..];
        let most = [i64::MAX, 11, i64::MAX, 23, 59, 59][field];
        if field > from && value > most {
            return Err(wrong());
        }
        let sum = if field < 2 { &mut months } else { &mut micros };
        let unit = [12, 1, 86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000][field];
        *sum = value.checked_mul(unit).and_then(|v| sum.checked_add(v)).ok_or_else(wrong)?;
    }
    if to == 5
        && let Some(fraction) = rest.strip_prefix('.')
    {
        let n = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if n == 0 || n > 9 {
            return Err(wrong());
        }
        let cut = &fraction[..n.min(6)];
        micros += format!("{cut:0<6}").parse::<i64>().map_err(|_| wrong())?;
        rest = &fraction[n..];
    }
    if !rest.is_empty() {
        return Err(wrong());
    }
    let sign = if signed != negative { -1 } else { 1 };
    Ok(made(sign * months, sign * micros, from, to))
}

const FIELDS: [&str; 6] = ["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"];

/// The field of Spark's intervals that a unit belongs to.
fn field_of(unit: &str) -> usize {
    let unit = unit.to_ascii_uppercase();
    let unit = if unit.starts_with("WEEK") { "DAY" } else { unit.as_str() };
    FIELDS.iter().position(|f| unit.starts_with(f)).unwrap_or(5)
}

/// As Spark prints it: INTERVAL '1 02' DAY TO HOUR.
pub(super) fn written(months: i64, micros: i64, first: usize, last: usize) -> String {
    format!("INTERVAL '{}' {}", digits_of(months, micros, first, last), pair(first, last))
}

fn pair(first: usize, last: usize) -> String {
    let to = if last > first { format!(" TO {}", FIELDS[last]) } else { String::new() };
    format!("{}{to}", FIELDS[first])
}

fn digits_of(months: i64, micros: i64, first: usize, last: usize) -> String {
    let sign = if months < 0 || micros < 0 { "-" } else { "" };
    let (months, micros) = (months.unsigned_abs(), micros.unsigned_abs());
    let unit = [12, 1, 86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000];
    let total = if last < 2 { months } else { micros };
    let mut rest = total;
    let mut text = String::new();
    for field in first..=last {
        let value = rest / unit[field];
        rest %= unit[field];
        if field > first {
            text.push_str(["", "-", "", " ", ":", ":"][field]);
        }
        text.push_str(&if field > 2 { format!("{value:02}") } else { value.to_string() });
    }
    if last == 5 && rest > 0 {
        text.push_str(format!(".{rest:06}").trim_end_matches('0'));
    }
    format!("{sign}{text}")
}

fn words(text: &str) -> Result<Vec<(String, String)>> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.is_empty() || words.len() % 2 == 1 {
        return Err(Error::schema(format!("INTERVAL '{text}' is not an interval. Write INTERVAL '1 day 2 hours'.")));
    }
    Ok(words.chunks(2).map(|w| (w[0].to_string(), w[1].to_string())).collect())
}

/// Whether the unit is counted in months, and its number of months or microseconds.
fn micros_or_months(unit: &str) -> Option<(bool, i64)> {
    Some(match unit.to_ascii_lowercase().as_str() {
        "year" | "years" => (true, 12),
        "month" | "months" => (true, 1),
        "week" | "weeks" => (false, 7 * 86_400_000_000),
        "day" | "days" => (false, 86_400_000_000),
        "hour" | "hours" => (false, 3_600_000_000),
        "minute" | "minutes" => (false, 60_000_000),
        "second" | "seconds" => (false, 1_000_000),
        "millisecond" | "milliseconds" => (false, 1_000),
        "microsecond" | "microseconds" => (false, 1),
        _ => return None,
    })
}

fn scaled(number: &str, factor: i64, is_month: bool) -> Option<i64> {
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(factor);
    }
    // Only seconds have a fraction in Spark.
    if is_month || factor != 1_000_000 {
        return None;
    }
    let (int, frac) = number.split_once('.')?;
    if frac.is_empty() || frac.len() > 6 || !frac.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let negative = int.starts_with('-');
    let int: i64 = if int.is_empty() || int == "-" { 0 } else { int.parse().ok()? };
    let frac: i64 = format!("{frac:0<6}").parse().ok()?;
    int.checked_mul(factor)?.checked_add(if negative { -frac } else { frac })
}
