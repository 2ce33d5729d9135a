//! Event time, watermarks and clocks. All times are microseconds since the epoch, in UTC.

use arrow::datatypes::{DataType, TimeUnit};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The Arrow type of a TIMESTAMP.
pub(crate) fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// When something happened, in microseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventTime(pub i64);

impl EventTime {
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1000))
    }
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(micros(by)))
    }
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(micros(by)))
    }
    /// RFC 3339 with as many digits as needed; the number of microseconds where the calendar does not reach that far.
    pub fn rfc3339(self) -> String {
        chrono::DateTime::from_timestamp_micros(self.0)
            .map(|t| t.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
            .unwrap_or_else(|| format!("{} µs", self.0))
    }
}

pub(crate) fn micros(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

/// No event before this time is expected any more. A watermark never goes back.
pub(crate) type Watermark = EventTime;

/// The current time, passed in so that tests can hold it still.
pub trait Clock: Send + Sync {
    fn now(&self) -> EventTime;
}

/// A clock that is handed on.
#[derive(Clone)]
pub struct SharedClock(Arc<dyn Clock>);

impl SharedClock {
    pub fn new(clock: impl Clock + 'static) -> Self {
        Self(Arc::new(clock))
    }

    /// The machine's clock. Only the boundary and tests ask for it: `clippy.toml` bans it elsewhere.
    pub fn system() -> Self {
        Self::new(SystemClock)
    }

    pub fn now(&self) -> EventTime {
        self.0.now()
    }
}

impl fmt::Debug for SharedClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedClock")
    }
}

struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // besides kafka/token.rs, the one place that reads the clock
    fn now(&self) -> EventTime {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        EventTime(micros(since))
    }
}

/// Reads "10 seconds", "1 minute 30 seconds", "500 ms", "2h" and the like.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut total = 0f64;
    let mut rest = text.trim();
    if let Some(r) = rest.strip_prefix("INTERVAL ").or_else(|| rest.strip_prefix("interval ")) {
        rest = r.trim();
    }
    let wrong = || {
        format!(
            "'{text}' is not a duration. Write a number and a unit, as in \"10 seconds\", \"1 minute\" or \"500 milliseconds\"."
        )
    };
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = rest[digits..].trim_start();
        let end = rest.find(|c: char| !(c.is_alphabetic() || c == 'µ')).unwrap_or(rest.len());
        let seconds = match rest[..end].to_lowercase().as_str() {
            "us" | "µs" | "microsecond" | "microseconds" => 1e-6,
            "ms" | "milli" | "millisecond" | "milliseconds" => 1e-3,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86400.0,
            "w" | "week" | "weeks" => 604_800.0,
            _ => return Err(wrong()),
        };
        total += number * seconds;
        rest = rest[end..].trim_start();
    }
    if !(0.0..1e12).contains(&total) {
        return Err(wrong());
    }
    Ok(Duration::from_micros((total * 1e6).round() as u64))
}

/// A length of time: fixed, or counted by the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    Fixed(Duration),
    Days(u32),
    Months(u32),
}

/// Reads what `parse_duration` reads. Whole days and weeks, and whole months, quarters and years, are counted by the calendar.
pub(crate) fn parse_span(text: &str) -> Result<Span, String> {
    let (mut days, mut months, mut others) = (None, None, false);
    let mut rest = text.trim();
    if let Some(r) = rest.strip_prefix("INTERVAL ").or_else(|| rest.strip_prefix("interval ")) {
        rest = r.trim();
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let after = rest[digits..].trim_start();
        let end = after.find(|c: char| !(c.is_alphabetic() || c == 'µ')).unwrap_or(after.len());
        let (count, each) = match after[..end].to_lowercase().as_str() {
            "d" | "day" | "days" => (&mut days, 1),
            "w" | "week" | "weeks" => (&mut days, 7),
            "month" | "months" => (&mut months, 1),
            "quarter" | "quarters" => (&mut months, 3),
            "year" | "years" => (&mut months, 12),
            _ => {
                others = true;
                break;
            }
        };
        match rest[..digits].parse::<u32>() {
            Ok(n) => *count = Some(count.unwrap_or(0) + u64::from(n) * each),
            Err(_) => {
                others = true;
                break;
            }
        }
        rest = after[end..].trim_start();
    }
    let whole = |n: u64| u32::try_from(n).map_err(|_| format!("'{text}' is too long"));
    match (days, months, others) {
        (_, Some(_), true) | (Some(_), Some(_), _) => Err(format!(
            "'{text}' mixes months, whose length differs, with other lengths. Write whole months, quarters and years, as in \"3 months\"."
        )),
        (None, Some(months), false) => Ok(Span::Months(whole(months)?)),
        (Some(days), None, false) => Ok(Span::Days(whole(days)?)),
        _ => parse_duration(text).map(Span::Fixed),
    }
}

/// A duration in the largest unit that divides it.
pub(crate) fn format_duration(d: Duration) -> String {
    let us = d.as_micros();
    for (name, unit) in [
        ("day", 86_400_000_000u128),
        ("hour", 3_600_000_000),
        ("minute", 60_000_000),
        ("second", 1_000_000),
        ("millisecond", 1_000),
    ] {
        if us >= unit && us.is_multiple_of(unit) {
            let n = us / unit;
            return format!("{n} {name}{}", if n == 1 { "" } else { "s" });
        }
    }
    if us == 0 { "0 seconds".into() } else { format!("{us} microseconds") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(parse_duration("10 seconds").unwrap(), Duration::from_secs(10));
        assert_eq!(parse_duration("1 minute 30s").unwrap(), Duration::from_secs(90));
        assert_eq!(parse_duration("500 ms").unwrap(), Duration::from_millis(500));
        assert_eq!(format_duration(Duration::from_secs(90)), "90 seconds");
        assert!(parse_duration("soon").unwrap_err().contains("10 seconds"));
        assert!(parse_duration("10").is_err());
    }

    #[test]
    fn days_and_months_are_lengths_of_the_calendar() {
        assert_eq!(parse_span("1 day"), Ok(Span::Days(1)));
        assert_eq!(parse_span("INTERVAL 1 week 2 days"), Ok(Span::Days(9)));
        assert_eq!(parse_span("1 year 2 Quarters 1 month"), Ok(Span::Months(19)));
        assert_eq!(parse_span("1.5 days"), Ok(Span::Fixed(Duration::from_secs(129_600))));
        assert_eq!(parse_span("1 day 12 hours"), Ok(Span::Fixed(Duration::from_secs(129_600))));
        assert_eq!(parse_span("5 m"), Ok(Span::Fixed(Duration::from_secs(300))));
        assert!(parse_span("1 month 1 hour").unwrap_err().contains("3 months"));
        assert!(parse_span("1.5 months").unwrap_err().contains("1.5 months"));
        assert!(parse_span("").unwrap_err().contains("10 seconds"));
        assert!(parse_span("9999999999 days").is_err());
        assert!(parse_span("4000000000 years").unwrap_err().contains("too long"));
    }
}
