//! Numbers, dates and timestamps: from the text of a value to the value of a column, exactly or not at all.

use super::number::{self, Decimal, Unfit};
use super::scan::{Cursor, Next, Scan, Text, fault, unescape};
use crate::calendar;
use chrono_tz::Tz;
use num_traits::Float;
use std::borrow::Cow;

/// The unit of numbers in a TIMESTAMP column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimestampUnit {
    S,
    Ms,
    Us,
    Ns,
}

impl TimestampUnit {
    /// One unit is ten to this power microseconds.
    fn scale(self) -> i64 {
        match self {
            Self::S => 6,
            Self::Ms => 3,
            Self::Us => 0,
            Self::Ns => -3,
        }
    }
}

/// Whether the text is NaN or an infinity; the cursor takes them for numbers where they are allowed.
#[inline]
fn is_special(text: &[u8]) -> bool {
    matches!(text, [b'N' | b'I', ..] | [b'-', b'I', ..])
}

#[cold]
pub(super) fn misfit<T>(next: Next, wanted: &str, at: usize) -> Scan<T> {
    fault(format!("{} does not fit {wanted}", next.name()), at)
}

#[inline]
pub(super) fn number<'a>(cursor: &mut Cursor<'a>, next: Next, wanted: &str) -> Scan<&'a [u8]> {
    if next == Next::Number {
        let at = cursor.at;
        let text = cursor.number()?;
        if is_special(text) && !matches!(wanted, "DOUBLE" | "FLOAT") {
            return fault(format!("NaN or Infinity does not fit {wanted}"), at);
        }
        return Ok(text);
    }
    if next == Next::String { quoted_number(cursor, wanted) } else { misfit(next, wanted, cursor.at) }
}

/// The number in a string, where the reader accepts such numbers.
#[cold]
fn quoted_number<'a>(cursor: &mut Cursor<'a>, wanted: &str) -> Scan<&'a [u8]> {
    let (at, taken) = (cursor.at, cursor.taken);
    let text = cursor.string()?.raw;
    let mut inner = Cursor::new(text);
    inner.taken.nan = taken.nan;
    let is_number =
        matches!(inner.next(), Ok(Next::Number)) && inner.at == 0 && inner.number().is_ok() && inner.at == text.len();
    if !is_number {
        return fault(format!("a string that is not a number does not fit {wanted}"), at);
    }
    if is_special(text) && !matches!(wanted, "DOUBLE" | "FLOAT") {
        return fault(format!("NaN or Infinity does not fit {wanted}"), at);
    }
    match (taken.quoted_numbers, taken.named) {
        (true, _) => Ok(text),
        (false, true) => fault(
            format!(
                "a quoted number does not fit {wanted}: allow_quoted_numbers=True takes it, or read it as STRING and CAST it"
            ),
            at,
        ),
        (false, false) => fault(format!("a quoted value does not fit {wanted}: read it as STRING and CAST it"), at),
    }
}

#[inline]
pub(super) fn int<T: TryFrom<i64> + TryFrom<i128>>(
    cursor: &mut Cursor<'_>,
    next: Next,
    wanted: &'static str,
) -> Scan<T> {
    let at = cursor.at;
    let text = number(cursor, next, wanted)?;
    let value = match number::small_integer(text) {
        Some(n) => T::try_from(n).ok(),
        None => match number::integer(text) {
            Ok(n) => T::try_from(n).ok(),
            Err(Unfit::Fraction) => return fault(format!("a number with a fraction does not fit {wanted}"), at),
            Err(Unfit::Range) => None,
        },
    };
    match value {
        Some(v) => Ok(v),
        None => fault(format!("a number out of range for {wanted}"), at),
    }
}

#[inline]
pub(super) fn float<T: lexical_core::FromLexical + Float>(
    cursor: &mut Cursor<'_>,
    next: Next,
    wanted: &'static str,
) -> Scan<T> {
    let at = cursor.at;
    let text = number(cursor, next, wanted)?;
    if is_special(text) {
        return Ok(match text {
            b"NaN" => T::nan(),
            b"Infinity" => T::infinity(),
            _ => T::neg_infinity(),
        });
    }
    match lexical_core::parse::<T>(text) {
        Ok(v) if v.is_finite() => Ok(v),
        Ok(_) => fault(format!("a number out of range for {wanted}"), at),
        Err(_) => fault("a broken number", at),
    }
}

/// With a unit, a number in quotes counts as a number too.
pub(super) fn timestamp(
    cursor: &mut Cursor<'_>,
    next: Next,
    unit: Option<TimestampUnit>,
    zone: Option<Tz>,
) -> Scan<i64> {
    let at = cursor.at;
    let micros = match (next, unit) {
        (Next::String, _) => {
            let text = plain(cursor.string()?);
            match unit.and_then(|unit| quoted(&text, unit)) {
                Some(number) => number,
                None => instant(&text, zone).map_or_else(
                    || fault("not a timestamp such as 2024-01-31T12:00:00.000Z", at),
                    |us| Ok(i128::from(us)),
                )?,
            }
        }
        (Next::Number, Some(unit)) => number_in(cursor.number()?, unit, at)?,
        (Next::Number, None) => {
            return fault("a number in a TIMESTAMP column: say timestamp_unit=\"s\", \"ms\", \"us\" or \"ns\"", at);
        }
        _ => return misfit(next, "TIMESTAMP", at),
    };
    match i64::try_from(micros) {
        Ok(us) if calendar::MICROS.contains(&us) => Ok(us),
        _ if unit.is_some() => fault("out of range for TIMESTAMP; is timestamp_unit right?", at),
        _ => fault("out of range for TIMESTAMP, which is from the year 0001 to 9999", at),
    }
}

fn number_in(text: &[u8], unit: TimestampUnit, at: usize) -> Scan<i128> {
    if is_special(text) {
        return fault("NaN or Infinity does not fit TIMESTAMP", at);
    }
    // A number of more than 38 digits is too large for a timestamp.
    Ok(Decimal::parse(text).cut(unit.scale()).unwrap_or(i128::MAX))
}

/// The microseconds of a text that is nothing but a JSON number.
fn quoted(text: &[u8], unit: TimestampUnit) -> Option<i128> {
    let mut cursor = Cursor::new(text);
    let number = cursor.number().ok()?;
    if cursor.at == text.len() { number_in(number, unit, 0).ok() } else { None }
}

pub(super) fn date(cursor: &mut Cursor<'_>, next: Next) -> Scan<i32> {
    let at = cursor.at;
    if next != Next::String {
        return misfit(next, "DATE", at);
    }
    match day(&plain(cursor.string()?)) {
        Some(days) if calendar::DAYS.contains(&days.into()) => Ok(days),
        Some(_) => fault("out of range for DATE, which is from the year 0001 to 9999", at),
        None => fault("not a date such as 2024-01-31", at),
    }
}

/// Reads the spellings of ISO 8601 fast, and otherwise what Spark's CAST reads. Without an offset the text is a local time of `zone`.
/// As in Spark, the earlier of two possible instants counts, and a time that the clock skips is moved on.
#[inline]
fn instant(text: &[u8], zone: Option<Tz>) -> Option<i64> {
    calendar::iso_timestamp(text, zone).or_else(|| calendar::cast_timestamp(std::str::from_utf8(text).ok()?, zone))
}

#[inline]
fn day(text: &[u8]) -> Option<i32> {
    calendar::iso_date(text).or_else(|| calendar::cast_date(std::str::from_utf8(text).ok()?))
}

/// The value of a string.
fn plain(text: Text<'_>) -> Cow<'_, [u8]> {
    if !text.escaped {
        return Cow::Borrowed(text.raw);
    }
    let mut plain = Vec::new();
    unescape(text, &mut plain);
    Cow::Owned(plain)
}
