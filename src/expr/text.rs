//! Values to text and back, as Spark (and Java below it) writes them.

/// Spark trims blanks and control characters before it reads a value.
pub(super) fn trim_all(text: &str) -> &str {
    text.trim_matches(|c: char| c <= ' ' || c == '\u{7f}')
}

fn java_digits(shortest: String, negative: bool) -> String {
    // `shortest` is as Rust's "{:e}" writes the absolute value: "1.234e5".
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

/// As many digits as tell the number from its neighbours, and at least two, as in Java since 19: the nearest with so many digits, of
/// two that are equally near the even one. Rust's shortest is another one of the two, and 5e-324 instead of 4.9e-324.
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

/// Days since the epoch of a date of the proleptic Gregorian calendar.
pub(super) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// Year, month, day.
pub(super) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

pub(super) fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub(super) fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

pub(super) const DAY: i64 = 86_400_000_000;

fn year_text(year: i64) -> String {
    match year {
        0..=9999 => format!("{year:04}"),
        10_000.. => format!("+{year}"),
        _ => format!("-{:04}", -year),
    }
}

pub(super) fn date_text(days: i32) -> String {
    let (y, m, d) = civil_from_days(i64::from(days));
    format!("{}-{m:02}-{d:02}", year_text(y))
}

/// "2024-01-02 03:04:05.6": a fraction without trailing zeros.
pub(super) fn timestamp_text(micros: i64) -> String {
    let (days, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let (y, mo, d) = civil_from_days(days);
    let (seconds, fraction) = (rest / 1_000_000, rest % 1_000_000);
    let mut out =
        format!("{}-{mo:02}-{d:02} {:02}:{:02}:{:02}", year_text(y), seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        out.push('.');
        out.push_str(format!("{fraction:06}").trim_end_matches('0'));
    }
    out
}

/// Takes `min..=max` digits.
fn take_digits(text: &str, min: usize, max: usize) -> Option<(i64, &str)> {
    let n = text.bytes().take_while(u8::is_ascii_digit).count();
    if n < min || n > max {
        return None;
    }
    Some((text[..n].parse().ok()?, &text[n..]))
}

/// `[+-]yyyy[y…]`, `-[m]m`, `-[d]d`: the date and what follows it.
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
    let year = sign * year;
    let valid = (1..=12).contains(&month) && (1..=month_days(year, month)).contains(&day);
    valid.then(|| (days_from_civil(year, month, day), rest))
}

/// As Spark casts a string to DATE.
pub fn parse_date(text: &str) -> Option<i32> {
    let (days, rest) = take_date(trim_all(text))?;
    (rest.is_empty() || rest.starts_with([' ', 'T'])).then(|| i32::try_from(days).ok()).flatten()
}

/// As Spark casts a string to TIMESTAMP, in UTC when it names no zone.
pub(super) fn parse_timestamp(text: &str) -> Option<i64> {
    parse_timestamp_in(text, None)
}

/// The same for a session in another zone.
pub fn parse_timestamp_in(text: &str, session: Option<chrono_tz::Tz>) -> Option<i64> {
    let here = |local: i64| session.map_or(Some(local), |tz| Zone::Region(tz).to_utc(local));
    let (days, rest) = take_date(trim_all(text))?;
    let midnight = days.checked_mul(DAY)?;
    if rest.is_empty() {
        return here(midnight);
    }
    let rest = rest.strip_prefix([' ', 'T'])?;
    if rest.is_empty() {
        return None;
    }
    let (hour, rest) = take_digits(rest, 1, 2)?;
    let (mut minute, mut second, mut micros, mut zone) = (0, 0, 0, rest);
    if let Some(r) = rest.strip_prefix(':') {
        (minute, zone) = take_digits(r, 1, 2)?;
    }
    // A zone comes behind seconds only.
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
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let local = midnight.checked_add((hour * 3600 + minute * 60 + second) * 1_000_000 + micros)?;
    let zone = zone.trim();
    if zone.is_empty() { here(local) } else { Zone::parse(zone)?.to_utc(local) }
}

/// An offset or a region.
pub(super) enum Zone {
    Fixed(i64),
    Region(chrono_tz::Tz),
}

impl Zone {
    pub fn parse(text: &str) -> Option<Self> {
        if text == "Z" {
            return Some(Self::Fixed(0));
        }
        let offset = ["UTC", "GMT", "UT"].iter().find_map(|p| text.strip_prefix(p)).unwrap_or(text);
        if offset.is_empty() {
            return Some(Self::Fixed(0));
        }
        if let Some(sign) = match offset.as_bytes()[0] {
            b'+' => Some(1),
            b'-' => Some(-1),
            _ => None,
        } {
            // +hhmm and +hhmmss
            let digits = &offset[1..];
            if matches!(digits.len(), 4 | 6) && digits.bytes().all(|b| b.is_ascii_digit()) {
                let pairs: Vec<&str> = (0..digits.len()).step_by(2).map(|i| &digits[i..i + 2]).collect();
                return Self::parse(&format!("{}{}", &offset[..1], pairs.join(":")));
            }
            let mut parts = [0i64; 3];
            let mut count = 0;
            for (i, part) in offset[1..].split(':').enumerate() {
                let (value, rest) = take_digits(part, 1, 2)?;
                if i > 2 || !rest.is_empty() {
                    return None;
                }
                parts[i] = value;
                count = i;
            }
            let seconds = parts[0] * 3600 + parts[1] * 60 + parts[2];
            if count > 2 || parts[1] > 59 || parts[2] > 59 || seconds > 18 * 3600 {
                return None;
            }
            return Some(Self::Fixed(sign * seconds * 1_000_000));
        }
        text.parse().ok().map(Self::Region)
    }

    /// From the wall clock; in a gap the clock is moved on, of two the earlier counts, as in Java.
    pub fn to_utc(&self, local: i64) -> Option<i64> {
        use chrono::{DateTime, LocalResult, TimeZone};
        match self {
            Self::Fixed(offset) => local.checked_sub(*offset),
            Self::Region(tz) => {
                let naive = DateTime::from_timestamp_micros(local)?.naive_utc();
                match tz.from_local_datetime(&naive) {
                    LocalResult::Single(t) | LocalResult::Ambiguous(t, _) => Some(t.timestamp_micros()),
                    LocalResult::None => {
                        let before = local.checked_sub(DAY)?;
                        let earlier = tz.from_utc_datetime(&DateTime::from_timestamp_micros(before)?.naive_utc());
                        let offset = chrono::Offset::fix(earlier.offset()).local_minus_utc();
                        local.checked_sub(i64::from(offset) * 1_000_000)
                    }
                }
            }
        }
    }

    /// To the wall clock.
    pub fn to_local(&self, utc: i64) -> Option<i64> {
        use chrono::{DateTime, TimeZone};
        match self {
            Self::Fixed(offset) => utc.checked_add(*offset),
            Self::Region(tz) => {
                let there = tz.from_utc_datetime(&DateTime::from_timestamp_micros(utc)?.naive_utc());
                let offset = chrono::Offset::fix(there.offset()).local_minus_utc();
                utc.checked_add(i64::from(offset) * 1_000_000)
            }
        }
    }
}

/// A whole number with blanks around and a sign; nothing else.
pub(super) fn parse_whole(text: &str) -> Option<i64> {
    let text = trim_all(text);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// `Double.parseDouble` and Spark's words for the special values.
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
    // 60 bits and whether any follow: rounding needs no more.
    let (mut value, mut places) = (0u64, 0i64);
    for (i, digit) in int.chars().chain(frac.chars()).enumerate() {
        let digit = u64::from(digit.to_digit(16)?);
        let behind = i64::from(i >= int.len());
        match value < 1 << 56 {
            true => (value, places) = (value * 16 + digit, places - 4 * behind),
            false => (value, places) = (value | u64::from(digit > 0), places + 4 * (1 - behind)),
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

/// A decimal number, rounded half up to the scale. `None`: not a number, or too large for the precision.
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
    // The value is digits * 10^(exponent - frac.len()); wanted are whole units of 10^-scale.
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
