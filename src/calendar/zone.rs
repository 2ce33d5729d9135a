//! Time zones: from the wall clock to UTC and back, across the changes of the clock.

use super::SECOND;
use crate::error::did_you_mean;
use crate::{Error, Result};
use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeZone};
use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};

fn naive(micros: i64) -> Option<NaiveDateTime> {
    Some(DateTime::from_timestamp_micros(micros)?.naive_utc())
}

fn micros_of(offset: impl Offset) -> i64 {
    i64::from(offset.fix().local_minus_utc()) * SECOND
}

/// The local time of an instant.
pub(crate) fn to_local(zone: Tz, instant: i64) -> Option<i64> {
    instant.checked_add(micros_of(zone.offset_from_utc_datetime(&naive(instant)?)))
}

/// The instant of a local time, as Java and Spark choose it. Where the clock was put back and shows a time twice, the earlier instant
/// counts. A time that the clock skips is moved on by the length of the gap.
pub(super) fn to_utc(zone: Tz, local: i64) -> Option<i64> {
    let time = naive(local)?;
    let offset = match zone.offset_from_local_datetime(&time) {
        LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => micros_of(offset),
        LocalResult::None => micros_of(GapInfo::new(&time, &zone)?.begin?.1),
    };
    local.checked_sub(offset)
}

/// The first instant at which the clock shows this local time or a later one. If the clock skips the time, this instant is the end of the gap.
pub(crate) fn first_moment(zone: Tz, local: i64) -> Option<i64> {
    let time = naive(local)?;
    match zone.offset_from_local_datetime(&time) {
        LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => local.checked_sub(micros_of(offset)),
        LocalResult::None => Some(GapInfo::new(&time, &zone)?.end?.timestamp_micros()),
    }
}

/// The zone that an option such as `timezone=` names, in any case. `None` is UTC, where every day has 24 hours.
pub(crate) fn named(name: &str) -> Result<Option<Tz>> {
    let name = name.trim();
    let found = match name {
        "Z" | "z" => Some(Tz::UTC),
        _ => name.parse().ok().or_else(|| TZ_VARIANTS.iter().copied().find(|z| z.name().eq_ignore_ascii_case(name))),
    };
    match found {
        Some(Tz::UTC | Tz::Etc__UTC | Tz::UCT | Tz::Etc__UCT | Tz::Zulu | Tz::Etc__Zulu | Tz::GMT | Tz::Etc__GMT) => {
            Ok(None)
        }
        Some(zone) => Ok(Some(zone)),
        None => Err(Error::config(format!(
            "there is no time zone '{name}'.{} Write a region, as in timezone=\"Europe/Berlin\", or \"UTC\".",
            did_you_mean(name, TZ_VARIANTS.iter().map(|z| z.name()))
        ))),
    }
}

/// A zone in the text of a timestamp, or in the argument of an SQL function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zone {
    /// An offset from UTC in microseconds.
    Fixed(i64),
    Region(Tz),
}

impl Zone {
    /// Reads what Spark reads: "Z", "+1", "+01:00", "+0100", "UTC+1", "Europe/Berlin". Java's abbreviations such as "PST" are not read.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "Z" {
            return Some(Self::Fixed(0));
        }
        let rest = ["UTC", "GMT", "UT"].iter().find_map(|p| text.strip_prefix(p)).unwrap_or(text);
        match rest.as_bytes().first() {
            None => Some(Self::Fixed(0)),
            Some(b'+' | b'-') => offset_of(rest).map(Self::Fixed),
            Some(_) => text.parse().ok().map(Self::Region),
        }
    }

    /// From the wall clock to the instant; see [`to_utc`].
    pub(crate) fn to_utc(self, local: i64) -> Option<i64> {
        match self {
            Self::Fixed(offset) => local.checked_sub(offset),
            Self::Region(zone) => to_utc(zone, local),
        }
    }

    /// From the instant to the wall clock.
    pub(crate) fn to_local(self, instant: i64) -> Option<i64> {
        match self {
            Self::Fixed(offset) => instant.checked_add(offset),
            Self::Region(zone) => to_local(zone, instant),
        }
    }
}

/// The size of an offset in microseconds. Java, and so Spark, knows no offset beyond 18 hours.
#[inline(always)]
pub(super) fn offset(hours: i64, minutes: i64, seconds: i64) -> Option<i64> {
    let total = hours * 3600 + minutes * 60 + seconds;
    (minutes < 60 && seconds < 60 && total <= 18 * 3600).then_some(total * SECOND)
}

/// "+h", "+hh:mm", "+h:mm:ss", "+hhmm", "+hhmmss", and the same with a minus sign.
fn offset_of(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('+').map_or((-1, &text[1..]), |digits| (1, digits));
    let mut parts = [0; 3];
    let without_colons = matches!(digits.len(), 4 | 6) && digits.bytes().all(|b| b.is_ascii_digit());
    if without_colons {
        for (i, part) in parts.iter_mut().enumerate().take(digits.len() / 2) {
            *part = digits[2 * i..2 * i + 2].parse().ok()?;
        }
    } else {
        for (i, text) in digits.split(':').enumerate() {
            let (value, rest) = super::text::take_digits(text, 1, 2)?;
            // As in Spark, one digit may be that of the hours, or of the minutes where there are no seconds.
            let short = i > 0 && text.len() == 1 && (i > 1 || digits.matches(':').count() > 1);
            *parts.get_mut(i).filter(|_| rest.is_empty() && !short)? = value;
        }
    }
    offset(parts[0], parts[1], parts[2]).map(|size| sign * size)
}
