//! Dates and timestamps from text and to text.

use super::zone::{Zone, offset, to_utc};
use super::{DAY, DAYS, civil_from_days, clock, date, time_of_day};
use chrono_tz::Tz;

/// Spark trims blanks and control characters before it reads a value.
pub(crate) fn trim_all(text: &str) -> &str {
    text.trim_matches(|c: char| c <= ' ' || c == '\u{7f}')
}

/// A time without an offset in the text is a time in the session's zone. Without a zone, it is UTC.
#[inline]
fn in_session(local: i64, session: Option<Tz>) -> Option<i64> {
    match session {
        None => Some(local),
        Some(zone) => to_utc(zone, local),
    }
}

#[inline(always)]
fn two(b: &[u8], at: usize) -> Option<i64> {
    let (h, l) = (b.get(at)?.wrapping_sub(b'0'), b.get(at + 1)?.wrapping_sub(b'0'));
    (h < 10 && l < 10).then_some(i64::from(h) * 10 + i64::from(l))
}

/// "yyyy-MM-dd" at the start, in days since the epoch.
#[inline(never)]
fn leading_date(b: &[u8]) -> Option<i64> {
    let year = two(b, 0)? * 100 + two(b, 2)?;
    let (month, day) = (two(b, 5)?, two(b, 8)?);
    if b[4] != b'-' || b[7] != b'-' {
        return None;
    }
    date(year, month, day)
}

/// "yyyy-MM-dd" and nothing else, in days since the epoch.
#[inline]
pub(crate) fn iso_date(text: &[u8]) -> Option<i32> {
    if text.len() != 10 {
        return None;
    }
    leading_date(text).and_then(|days| i32::try_from(days).ok())
}

/// The spellings of ISO 8601 and RFC 3339 that producers use: "yyyy-MM-dd", then "T" or a blank, "HH:mm", ":ss", a fraction behind
/// "." or ",", and "Z" or an offset. Digits finer than a microsecond are cut.
pub(crate) fn iso_timestamp(b: &[u8], session: Option<Tz>) -> Option<i64> {
    let midnight = b.get(..10).and_then(leading_date)? * DAY;
    if b.len() == 10 {
        return in_session(midnight, session);
    }
    if !matches!(b[10], b'T' | b't' | b' ') || b.get(13) != Some(&b':') {
        return None;
    }
    let (hour, minute) = (two(b, 11)?, two(b, 14)?);
    let mut at = 16;
    let mut second = 0;
    let mut micros = 0;
    if b.get(at) == Some(&b':') {
        second = two(b, at + 1)?;
        at += 3;
        if let Some(b'.' | b',') = b.get(at) {
            let start = at + 1;
            at = start;
            while let Some(digit @ b'0'..=b'9') = b.get(at) {
                if at - start < 6 {
                    micros = micros * 10 + i64::from(digit - b'0');
                }
                at += 1;
            }
            if at == start {
                return None;
            }
            micros *= 10i64.pow(6u32.saturating_sub((at - start) as u32));
        }
    }
    let local = midnight + time_of_day(hour, minute, second, micros)?;
    match b.get(at) {
        None => in_session(local, session),
        Some(b'Z' | b'z') if at + 1 == b.len() => Some(local),
        Some(sign @ (b'+' | b'-')) => {
            let hours = two(b, at + 1)?;
            let minutes = match b.len() - at {
                3 => 0,
                5 => two(b, at + 3)?,
                6 if b[at + 3] == b':' => two(b, at + 4)?,
                _ => return None,
            };
            let offset = offset(hours, minutes, 0)?;
            Some(if *sign == b'+' { local - offset } else { local + offset })
        }
        Some(_) => None,
    }
}

/// Takes `min` to `max` digits.
pub(super) fn take_digits(text: &str, min: usize, max: usize) -> Option<(i64, &str)> {
    let n = text.bytes().take_while(u8::is_ascii_digit).count();
    if n < min || n > max {
        return None;
    }
    Some((text[..n].parse().ok()?, &text[n..]))
}

/// `[+-]yyyy[y…]`, `-[m]m`, `-[d]d`: the date and the rest of the text.
fn take_date(text: &str) -> Option<(i64, &str)> {
    let (sign, body) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let (year, mut rest) = take_digits(body, 4, 7)?;
    let (mut month, mut day) = (1, 1);
    if let Some(r) = rest.strip_prefix('-') {
        (month, rest) = take_digits(r, 1, 2)?;
        if let Some(r) = rest.strip_prefix('-') {
            (day, rest) = take_digits(r, 1, 2)?;
        } else if !rest.is_empty() {
            return None;
        }
    } else if !rest.is_empty() {
        return None;
    }
    Some((date(sign * year, month, day)?, rest))
}

/// A date as Spark casts a string to DATE: parts may be short or absent, and what follows a blank or a "T" is ignored.
pub(crate) fn cast_date(text: &str) -> Option<i32> {
    let (days, rest) = take_date(trim_all(text))?;
    if !rest.is_empty() && !rest.starts_with([' ', 'T']) {
        return None;
    }
    i32::try_from(days).ok()
}

/// A timestamp as Spark casts a string to TIMESTAMP. Digits finer than a microsecond are cut.
pub(crate) fn cast_timestamp(text: &str, session: Option<Tz>) -> Option<i64> {
    let (days, rest) = take_date(trim_all(text))?;
    let midnight = days.checked_mul(DAY)?;
    if rest.is_empty() {
        return in_session(midnight, session);
    }
    let (hour, rest) = take_digits(rest.strip_prefix([' ', 'T'])?, 1, 2)?;
    let (mut minute, mut second, mut micros, mut zone) = (0, 0, 0, rest);
    if let Some(r) = rest.strip_prefix(':') {
        (minute, zone) = take_digits(r, 1, 2)?;
    }
    // A zone may follow the seconds only.
    if !zone.is_empty() && !zone.starts_with(':') {
        return None;
    }
    if let Some(r) = zone.strip_prefix(':') {
        (second, zone) = take_digits(r, 1, 2)?;
        if let Some(fraction) = zone.strip_prefix('.') {
            let n = fraction.bytes().take_while(u8::is_ascii_digit).count();
            micros = format!("{:0<6}", &fraction[..n.min(6)]).parse().ok()?;
            zone = &fraction[n..];
        }
    }
    let local = midnight.checked_add(time_of_day(hour, minute, second, micros)?)?;
    let zone = zone.trim();
    if zone.is_empty() { in_session(local, session) } else { Zone::parse(zone)?.to_utc(local) }
}

fn year_text(year: i64) -> String {
    match year {
        0..=9999 => format!("{year:04}"),
        10_000.. => format!("+{year}"),
        _ => format!("-{:04}", -year),
    }
}

/// "2024-01-02", as Spark casts a DATE to a string.
pub(crate) fn date_text(days: i32) -> String {
    let (y, m, d) = civil_from_days(i64::from(days));
    format!("{}-{m:02}-{d:02}", year_text(y))
}

/// "2024-01-02 03:04:05.6", as Spark casts a TIMESTAMP to a string: the fraction has no trailing zeros.
pub(crate) fn timestamp_text(micros: i64) -> String {
    let (y, mo, d) = civil_from_days(micros.div_euclid(DAY));
    let (h, mi, s, fraction) = clock(micros.rem_euclid(DAY));
    let mut out = format!("{}-{mo:02}-{d:02} {h:02}:{mi:02}:{s:02}", year_text(y));
    if fraction != 0 {
        out.push('.');
        out.push_str(format!("{fraction:06}").trim_end_matches('0'));
    }
    out
}

/// Writes "yyyy-MM-dd" over the digits of `text`. `None` outside of the years 0001 to 9999, whose years have four digits.
#[inline]
pub(crate) fn put_date(days: i64, text: &mut [u8]) -> Option<()> {
    if !DAYS.contains(&days) {
        return None;
    }
    let (year, month, day) = civil_from_days(days);
    put(year, &mut text[0..4]);
    put(month, &mut text[5..7]);
    put(day, &mut text[8..10]);
    Some(())
}

/// Writes "HH:mm:ss.SSSSSS" over the digits of `text`.
#[inline]
pub(crate) fn put_time(since_midnight: i64, text: &mut [u8]) {
    let (hour, minute, second, micros) = clock(since_midnight);
    put(hour, &mut text[0..2]);
    put(minute, &mut text[3..5]);
    put(second, &mut text[6..8]);
    put(micros, &mut text[9..15]);
}

/// Writes the number's decimal digits over the whole of `text`, with zeros in front.
#[inline]
fn put(mut number: i64, text: &mut [u8]) {
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}
