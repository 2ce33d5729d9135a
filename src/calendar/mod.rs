//! The proleptic Gregorian calendar, time zones, and the texts of dates and timestamps.
//!
//! JSON decoding, SQL, windows and publishing share this module. Days count from 1970-01-01. Times are microseconds: an instant counts
//! from the epoch in UTC, a local time from 1970-01-01 00:00 on the wall clock. Functions return `None` where the calendar has no such date or
//! time. Which spellings a caller accepts is decided by the function that it calls: `iso_…` reads the spellings of ISO 8601, `cast_…` what
//! Spark's CAST reads.
//!
//! This is own code where chrono would be slow: JSON decoding and publishing read and write a date for every row. For the same reason the
//! small functions are always inlined.

#[cfg(test)]
mod test;
mod text;
mod zone;

pub(crate) use text::{
    cast_date, cast_timestamp, date_text, iso_date, iso_timestamp, put_date, put_time, timestamp_text, trim_all,
};
pub(crate) use zone::{Zone, first_moment, named, to_local};

use std::ops::RangeInclusive;

/// Microseconds in a second and in a day of 24 hours.
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const DAY: i64 = 86_400 * SECOND;

/// The years 0001 to 9999, in days and in microseconds since the epoch. Python, Delta's readers and RFC 3339 have no other years.
pub(crate) const DAYS: RangeInclusive<i64> = -719_162..=2_932_896;
pub(crate) const MICROS: RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// Added to years, so that all divisions are of unsigned numbers, which are faster. A multiple of 400.
const BEFORE: i64 = 4_000_000_000;
/// Days from 1 March of the year −`BEFORE` to 1970-01-01.
const DAYS_BEFORE: i64 = BEFORE / 400 * 146_097 + 719_468;

/// The days since 1970-01-01 of a date that exists, for years of 32 bits.
#[inline(always)]
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    // A year begins in March here, so that a leap day is its last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let year = (year + BEFORE) as u64;
    let century = year / 100;
    let days = year * 365 + year / 4 - century + century / 4 + (153 * month as u64 + 2) / 5;
    days as i64 + day - 1 - DAYS_BEFORE
}

/// Year, month and day (Howard Hinnant's `civil_from_days`).
#[inline]
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z - era * 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[inline(always)]
fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// The number of days in a month.
#[inline(always)]
pub(crate) fn month_length(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap(year)),
        _ => 31,
    }
}

/// The days since 1970-01-01 of a date.
#[inline(always)]
pub(crate) fn date(year: i64, month: i64, day: i64) -> Option<i64> {
    let exists = (1..=12).contains(&month) && (1..=month_length(year, month)).contains(&day);
    if exists { Some(days_from_civil(year, month, day)) } else { None }
}

/// The microseconds since midnight of a time of day. No day has an hour 24 and no minute a second 60.
#[inline(always)]
pub(crate) fn time_of_day(hour: i64, minute: i64, second: i64, micros: i64) -> Option<i64> {
    let exists = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..60).contains(&second);
    if exists { Some((hour * 3600 + minute * 60 + second) * SECOND + micros) } else { None }
}

/// Hour, minute, second and microsecond of the microseconds since midnight.
#[inline]
pub(crate) fn clock(since_midnight: i64) -> (i64, i64, i64, i64) {
    let seconds = since_midnight / SECOND;
    (seconds / 3600, seconds / 60 % 60, seconds % 60, since_midnight % SECOND)
}

/// The same day of the month `months` later, or the last day of a month that is too short.
pub(crate) fn add_months(days: i64, months: i64) -> i64 {
    let (year, month, day) = civil_from_days(days);
    let total = year * 12 + month - 1 + months;
    let (year, month) = (total.div_euclid(12), total.rem_euclid(12) + 1);
    days_from_civil(year, month, day.min(month_length(year, month)))
}
