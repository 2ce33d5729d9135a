//! Texts of dates and timestamps to days and microseconds: ISO 8601 / RFC 3339 fast, and whatever else Spark's CAST reads.

use chrono::{Offset, TimeZone};
use chrono_tz::Tz;

fn two(b: &[u8], at: usize) -> Option<u32> {
    let (h, l) = (b.get(at)?.wrapping_sub(b'0'), b.get(at + 1)?.wrapping_sub(b'0'));
    (h < 10 && l < 10).then_some(u32::from(h) * 10 + u32::from(l))
}

/// Days since 1970-01-01 of a proleptic Gregorian date (Howard Hinnant's days_from_civil).
fn days_from_civil(y: i64, m: u32, d: u32) -> i64 {
    let y = if m <= 2 { y - 1 } else { y };
    let era = y.div_euclid(400);
    let yoe = y - era * 400;
    let doy = i64::from((153 * (if m > 2 { m - 3 } else { m + 9 }) + 2) / 5 + d - 1);
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

fn month_length(y: u32, m: u32) -> u32 {
    match m {
        4 | 6 | 9 | 11 => 30,
        2 if y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

/// The years 0001 to 9999, in days and in microseconds since the epoch: what Python, Delta's readers and RFC 3339 can say.
pub const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;
pub const MICROS: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// A date as days since the epoch; not checked to be within the years above.
pub fn date(text: &[u8]) -> Option<i32> {
    if text.len() == 10
        && let Some(days) = leading_date(text)
    {
        return Some(days as i32);
    }
    crate::expr::parse_date(std::str::from_utf8(text).ok()?)
}

fn leading_date(b: &[u8]) -> Option<i64> {
    let year = two(b, 0)? * 100 + two(b, 2)?;
    let (month, day) = (two(b, 5)?, two(b, 8)?);
    let good = b[4] == b'-'
        && b[7] == b'-'
        && year >= 1
        && (1..=12).contains(&month)
        && (1..=month_length(year, month)).contains(&day);
    good.then(|| days_from_civil(year.into(), month, day))
}

/// A timestamp in microseconds UTC; not checked to be within the years above. Digits finer than a microsecond are cut. Without an
/// offset it is read in `zone`; of two possible readings (clocks went back) the earlier counts, and one that the clock skips is moved
/// on, as in Spark.
pub fn timestamp(b: &[u8], zone: Option<Tz>) -> Option<i64> {
    iso(b, zone).or_else(|| crate::expr::parse_timestamp_in(std::str::from_utf8(b).ok()?, zone))
}

/// The spellings that producers use.
fn iso(b: &[u8], zone: Option<Tz>) -> Option<i64> {
    let days = b.get(..10).and_then(leading_date)?;
    if b.len() == 10 {
        return localize(days * 86_400_000_000, zone);
    }
    if !matches!(b[10], b'T' | b't' | b' ') {
        return None;
    }
    let clock = || Some((two(b, 11)?, two(b, 14)?, (*b.get(13)? == b':').then_some(())?));
    let (hour, minute, ()) = clock()?;
    let mut at = 16;
    let mut second = 0;
    let mut micros = 0i64;
    if b.get(at) == Some(&b':') {
        second = two(b, at + 1)?;
        at += 3;
        if let Some(b'.' | b',') = b.get(at) {
            let start = at + 1;
            at = start;
            while let Some(d @ b'0'..=b'9') = b.get(at) {
                if at - start < 6 {
                    micros = micros * 10 + i64::from(d - b'0');
                }
                at += 1;
            }
            if at == start {
                return None;
            }
            micros *= 10i64.pow(6u32.saturating_sub((at - start) as u32));
        }
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let local = days * 86_400_000_000 + i64::from(hour * 3600 + minute * 60 + second) * 1_000_000 + micros;
    match b.get(at) {
        None => localize(local, zone),
        Some(b'Z' | b'z') if at + 1 == b.len() => Some(local),
        Some(sign @ (b'+' | b'-')) => {
            let hours = two(b, at + 1)?;
            let minutes = match b.len() - at {
                3 => 0,
                5 => two(b, at + 3)?,
                6 if b[at + 3] == b':' => two(b, at + 4)?,
                _ => return None,
            };
            if hours * 60 + minutes > 18 * 60 || minutes > 59 {
                return None;
            }
            let offset = i64::from(hours * 3600 + minutes * 60) * 1_000_000;
            Some(if *sign == b'+' { local - offset } else { local + offset })
        }
        Some(_) => None,
    }
}

fn localize(local: i64, zone: Option<Tz>) -> Option<i64> {
    let Some(zone) = zone else { return Some(local) };
    let naive = chrono::DateTime::from_timestamp_micros(local)?.naive_utc();
    match zone.offset_from_local_datetime(&naive) {
        chrono::LocalResult::Single(o) | chrono::LocalResult::Ambiguous(o, _) => {
            Some(local - i64::from(o.fix().local_minus_utc()) * 1_000_000)
        }
        // The clock skips it: Spark's own reading moves it on.
        chrono::LocalResult::None => {
            let text = naive.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
            crate::expr::parse_timestamp_in(&text, Some(zone))
        }
    }
}

/// "2024-01-31" and the like.
#[cfg(test)]
fn format_date(days: i32) -> String {
    chrono::NaiveDate::from_epoch_days(days).map(|d| d.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ts(text: &str) -> Option<i64> {
        timestamp(text.as_bytes(), None)
    }

    #[test]
    fn timestamps_agree_with_chrono_over_many_days() {
        for day in (-700_000..700_000).step_by(911) {
            let us = i64::from(day) * 86_400_000_000 + 45_296_123_456;
            let text = chrono::DateTime::from_timestamp_micros(us).unwrap().to_rfc3339();
            assert_eq!(ts(&text), Some(us), "{text}");
            assert_eq!(date(format_date(day).as_bytes()), Some(day));
        }
    }

    #[test]
    fn timestamps_take_every_spelling_that_casts_take_and_refuse_the_rest() {
        let noon = 1_704_110_400_000_000;
        for good in [
            "2024-01-01T12:00:00Z",
            "2024-01-01 12:00:00",
            "2024-01-01T12:00",
            "2024-01-01T13:00:00+01:00",
            "2024-01-01T13:00:00+0100",
            "2024-01-01T11:00:00.000000000-01",
            "2024-01-01T12:00:00.000000999Z",
            "2024-01-01 12:00:00 UTC",
            "2024-01-01 13:00:00 +0100",
            "2024-1-1 12:0:0",
            "2024-01-01T12",
            "2024-01-01T17:30:00+5:30",
            "2024-01-01 13:00:00 Europe/Berlin",
            " 2024-01-01T12:00:00Z ",
        ] {
            assert_eq!(ts(good), Some(noon), "{good}");
        }
        assert_eq!(ts("2024"), Some(1_704_067_200_000_000));
        assert_eq!(ts("1969-12-31T23:59:59.9999999Z"), Some(-1), "cut, not rounded");
        for bad in [
            "",
            "2024-02-30",
            "2024-01-01T24:00:00Z",
            "2024-01-01T12:00:60Z",
            "2024-01-01T12:00:00X",
            "2024-01-01T12:00:00+18:30",
            "2024-01-01T12:00:00+01:00[Europe/Berlin]",
            "12/31/2024",
        ] {
            assert_eq!(ts(bad), None, "{bad}");
        }
        assert_eq!(date(b"2026-11-26T00:00:00Z"), date(b"2026-11-26"));
        assert_eq!(date(b"2026-11"), date(b"2026-11-01"));
        assert_eq!(date(b"26.11.2026"), None);
    }

    #[test]
    fn local_times_follow_the_zone_and_its_daylight_saving() {
        let zone = Some(chrono_tz::Europe::Berlin);
        assert_eq!(timestamp(b"2024-07-01T12:00:00", zone), ts("2024-07-01T10:00:00Z"));
        assert_eq!(timestamp(b"2024-07-01 12:00:0", zone), ts("2024-07-01T10:00:00Z"));
        assert_eq!(timestamp(b"2024-01-01T12:00:00", zone), ts("2024-01-01T11:00:00Z"));
        assert_eq!(timestamp(b"2024-03-31T02:30:00", zone), ts("2024-03-31T01:30:00Z"), "the clock skips it");
        assert_eq!(timestamp(b"2024-10-27T02:30:00", zone), ts("2024-10-27T00:30:00Z"));
        assert_eq!(timestamp(b"2024-07-01T12:00:00Z", zone), ts("2024-07-01T12:00:00Z"));
    }
}
