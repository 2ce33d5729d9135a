//! Computes the windows of an event time. Pure.

use super::calendar::{Calendar, Unit};
use crate::calendar::{self, DAY};
use crate::time::{Span, format_duration, parse_duration, parse_span};
use crate::{Error, Result};
use std::fmt;
use std::time::Duration;

/// Windows over a column: of a fixed length, or by the calendar of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowSpec {
    pub column: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fixed(Fixed),
    Calendar(Calendar),
}

/// Windows of one size. A new window starts every `slide`, counted from `offset` after 1970-01-01 UTC. All values are in
/// microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fixed {
    size: i64,
    slide: i64,
    offset: i64,
}

impl Fixed {
    #[inline]
    fn last_start(&self, time: i64) -> i64 {
        let since = time.saturating_sub(self.offset);
        time.saturating_sub(since.rem_euclid(self.slide))
    }
}

impl WindowSpec {
    /// `size` and `slide` as people write them: "1 minute", "1 day", "1 month". Days and weeks belong to `timezone`; in
    /// UTC they have a fixed length, as in Spark. Months, quarters and years follow the calendar in any zone.
    pub fn new(column: &str, size: &str, slide: Option<&str>, offset: Option<&str>, timezone: &str) -> Result<Self> {
        let read = |what: &str, text: &str| parse_span(text).map_err(|e| Error::config(format!("window {what}: {e}")));
        let zone = calendar::named(timezone)?;
        let size = read("size", size)?;
        let slide = slide.map_or(Ok(size), |s| read("slide", s))?;
        let offset = offset.map_or(Ok(Duration::ZERO), |o| {
            parse_duration(o).map_err(|e| Error::config(format!("window offset: {e}")))
        })?;
        let offset = crate::time::micros(offset);
        let kind = match (size, zone) {
            (Span::Months(_), _) | (Span::Days(_), Some(_)) => {
                let zone = zone.unwrap_or(chrono_tz::Tz::UTC);
                let (unit, size, slide) = match (size, slide) {
                    (Span::Days(size), Span::Days(slide)) => (Unit::Days, size, slide),
                    (Span::Months(size), Span::Months(slide)) => (Unit::Months, size, slide),
                    (Span::Days(_), _) => return Err(other_kind("days or weeks")),
                    _ => return Err(other_kind("months, quarters or years")),
                };
                if offset >= 365 * DAY {
                    return Err(Error::config("window offset: it must be shorter than a year"));
                }
                Kind::Calendar(Calendar { unit, size: size.into(), slide: slide.into(), offset, zone })
            }
            (Span::Fixed(size), Some(zone)) => return Err(not_of_a_calendar(size, zone.name())),
            (Span::Fixed(_) | Span::Days(_), None) => {
                let fixed = |span: Span| match span {
                    Span::Fixed(d) => Ok(crate::time::micros(d)),
                    Span::Days(n) => Ok(i64::from(n) * DAY),
                    Span::Months(_) => Err(other_kind("a fixed length, such as \"1 hour\" or \"1 day\"")),
                };
                Kind::Fixed(Fixed { size: fixed(size)?, slide: fixed(slide)?, offset })
            }
        };
        let (size, slide) = match &kind {
            Kind::Fixed(w) => (w.size, w.slide),
            Kind::Calendar(w) => (w.size, w.slide),
        };
        if size <= 0 || slide <= 0 {
            return Err(Error::config("the size and the slide of a window must be longer than zero"));
        }
        if slide > size {
            return Err(Error::config(
                "the slide of a window must not be longer than its size, because rows between windows would be lost",
            ));
        }
        if size / slide > 10_000 {
            return Err(Error::config("each row would belong to more than 10,000 windows. Use a longer slide."));
        }
        Ok(Self { column: column.into(), kind })
    }

    pub fn is_tumbling(&self) -> bool {
        match &self.kind {
            Kind::Fixed(w) => w.size == w.slide,
            Kind::Calendar(w) => w.size == w.slide,
        }
    }

    /// The start of the last window that contains `time`.
    #[inline]
    pub fn last_start(&self, time: i64) -> i64 {
        match &self.kind {
            Kind::Fixed(w) => w.last_start(time),
            Kind::Calendar(w) => w.last_start(time),
        }
    }

    /// The end of the window that starts at `start`.
    #[inline]
    pub fn end_of(&self, start: i64) -> i64 {
        match &self.kind {
            Kind::Fixed(w) => start.saturating_add(w.size),
            Kind::Calendar(w) => w.end_of(start),
        }
    }

    /// The starts of all windows that contain `time`, latest first.
    pub fn starts(&self, time: i64) -> impl Iterator<Item = i64> + '_ {
        let mut next = match &self.kind {
            Kind::Fixed(w) => Some(w.last_start(time)),
            Kind::Calendar(w) => Some(w.index(time)),
        };
        let mut last = None;
        std::iter::from_fn(move || match &self.kind {
            Kind::Fixed(w) => {
                let start = next.filter(|s| s.saturating_add(w.size) > time && *s <= time)?;
                next = start.checked_sub(w.slide);
                Some(start)
            }
            Kind::Calendar(w) => {
                last = w.before(next.as_mut()?, last, time);
                last
            }
        })
    }

    /// The text that identifies the state: windows with the same text are the same windows.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Fixed(w) => format!("window({}, {} µs, {} µs, {} µs)", self.column, w.size, w.slide, w.offset),
            Kind::Calendar(w) => {
                let unit = match w.unit {
                    Unit::Days => "days",
                    Unit::Months => "months",
                };
                let Calendar { size, slide, offset, zone, .. } = w;
                format!("window({}, {size} {unit}, {slide} {unit}, {offset} µs, {})", self.column, zone.name())
            }
        }
    }

    /// "1 minute", "1 month".
    pub fn size_text(&self) -> String {
        match &self.kind {
            Kind::Fixed(w) => length(w.size),
            Kind::Calendar(w) => w.text(w.size),
        }
    }

    /// None if it equals the size.
    pub fn slide_text(&self) -> Option<String> {
        match &self.kind {
            _ if self.is_tumbling() => None,
            Kind::Fixed(w) => Some(length(w.slide)),
            Kind::Calendar(w) => Some(w.text(w.slide)),
        }
    }

    /// None if there is no offset.
    pub fn offset_text(&self) -> Option<String> {
        let (Kind::Fixed(Fixed { offset, .. }) | Kind::Calendar(Calendar { offset, .. })) = &self.kind;
        (*offset != 0).then(|| length(*offset))
    }

    /// None in UTC.
    pub fn timezone(&self) -> Option<&'static str> {
        match &self.kind {
            Kind::Calendar(w) if w.zone != chrono_tz::Tz::UTC => Some(w.zone.name()),
            _ => None,
        }
    }
}

fn length(micros: i64) -> String {
    format_duration(Duration::from_micros(micros.unsigned_abs()))
}

/// For people: "1 minute", "10 minutes, 5 minutes", "1 day in Europe/Berlin".
impl fmt::Display for WindowSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.size_text())?;
        if let Some(slide) = self.slide_text() {
            write!(f, ", {slide}")?;
        }
        if let Some(zone) = self.timezone() {
            write!(f, " in {zone}")?;
        }
        if let Some(offset) = self.offset_text() {
            write!(f, ", offset {offset}")?;
        }
        Ok(())
    }
}

fn other_kind(wanted: &str) -> Error {
    Error::config(format!("the slide of a window must be of the same kind as its size. Write it as {wanted}."))
}

fn not_of_a_calendar(size: Duration, zone: &str) -> Error {
    let size = format_duration(size);
    if size.ends_with("day") || size.ends_with("days") {
        return Error::config(format!(
            "a window of {size} given as a fixed length does not follow the calendar of {zone}, whose days have 23 \
             to 25 hours. Write it as text in days, weeks or months, for example \"1 day\""
        ));
    }
    Error::config(format!(
        "windows of {size} do not depend on the time zone. Leave timezone=\"{zone}\" out, and use offset= to move \
         their starts. Days, weeks, months, quarters and years follow a zone's calendar."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{DateTime, Datelike, NaiveDate, TimeZone};
    use chrono_tz::Tz;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn every_window_that_holds_the_time_is_found_and_no_other() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for _ in 0..2000 {
            let slide = rng.random_range(1..20i64);
            let size = slide + rng.random_range(0..50i64);
            let offset = rng.random_range(0..30);
            let spec = WindowSpec { column: "t".into(), kind: Kind::Fixed(Fixed { size, slide, offset }) };
            let time = rng.random_range(-500..500i64);
            // All starts that are a multiple of the slide from the offset, tried one by one.
            let want: Vec<i64> = (time - size - slide..=time)
                .rev()
                .filter(|s| (s - offset).rem_euclid(slide) == 0 && *s <= time && time < s + size)
                .collect();
            assert_eq!(spec.starts(time).collect::<Vec<_>>(), want, "{spec:?} {time}");
        }
    }

    /// The first minute at which the zone's clocks show `local` or later, looked for minute by minute.
    fn first_minute(zone: Tz, local: chrono::NaiveDateTime) -> i64 {
        let mut minute = local.and_utc().timestamp() / 60 - 27 * 60;
        loop {
            let utc = DateTime::from_timestamp(minute * 60, 0).unwrap().naive_utc();
            if zone.from_utc_datetime(&utc).naive_local() >= local {
                return minute * 60_000_000;
            }
            minute += 1;
        }
    }

    /// Starts and ends from the year before to the year after, by counting units from 1970.
    fn enumerated(spec: &Calendar, around: i64) -> Vec<(i64, i64)> {
        let year = DateTime::from_timestamp_micros(around).unwrap().year();
        let local = |units: i64| {
            let date = match spec.unit {
                Unit::Days => NaiveDate::from_ymd_opt(1970, 1, 1).unwrap() + chrono::TimeDelta::days(units),
                Unit::Months => {
                    let (y, m) = (1970 + units.div_euclid(12), units.rem_euclid(12));
                    NaiveDate::from_ymd_opt(y as i32, m as u32 + 1, 1).unwrap()
                }
            };
            date.and_hms_opt(0, 0, 0).unwrap() + chrono::TimeDelta::microseconds(spec.offset)
        };
        let per_year = if spec.unit == Unit::Days { 365.2425 } else { 12.0 };
        let first = ((f64::from(year - 1970) * per_year) as i64 - spec.size - 2 * spec.slide).div_euclid(spec.slide);
        let count = (per_year as i64 + 2 * spec.size) / spec.slide + 6;
        let at = |units: i64| first_minute(spec.zone, local(units));
        (first..first + count).map(|k| (at(k * spec.slide), at(k * spec.slide + spec.size))).collect()
    }

    fn calendar(spec: &WindowSpec) -> Calendar {
        match spec.kind {
            Kind::Calendar(w) => w,
            Kind::Fixed(_) => panic!("{spec}"),
        }
    }

    #[test]
    fn calendar_windows_are_those_that_counting_from_1970_gives() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut specs: Vec<(WindowSpec, i32)> = vec![];
        for (zone, years) in [
            ("Europe/Berlin", vec![2024, 1980, 1945]),
            ("America/New_York", vec![2024, 2007]),
            // Clocks were put forward at midnight.
            ("America/Sao_Paulo", vec![2017, 2018, 1999]),
            ("Asia/Kolkata", vec![2024]),
            // Half an hour.
            ("Australia/Lord_Howe", vec![2024]),
            // Put back at 00:01, to the day before.
            ("America/St_Johns", vec![2006, 2010]),
            // 2011-12-30 was left out.
            ("Pacific/Apia", vec![2011, 2012]),
            ("America/Havana", vec![2024]),
            ("UTC", vec![2024]),
        ] {
            for year in years {
                for (size, slide, offset) in [
                    ("1 day", None, None),
                    ("1 day", None, Some("6 hours")),
                    ("1 day", None, Some("2 hours 30 minutes")),
                    ("3 days", Some("1 day"), None),
                    ("1 week", None, None),
                    ("1 month", None, None),
                    ("1 quarter", Some("1 month"), Some("1 day 30 minutes")),
                ] {
                    if zone == "UTC" && (size.contains("day") || size.contains("week")) {
                        continue;
                    }
                    specs.push((WindowSpec::new("t", size, slide, offset, zone).unwrap(), year));
                }
            }
        }
        for (spec, year) in specs {
            let begin =
                NaiveDate::from_ymd_opt(year, 1, 1).unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc().timestamp();
            let begin = begin * 1_000_000;
            let windows = enumerated(&calendar(&spec), begin + 180 * DAY);
            let holding = |time: i64| -> Vec<i64> {
                let mut starts: Vec<i64> =
                    windows.iter().filter(|(s, e)| *s <= time && time < *e).map(|(s, _)| *s).rev().collect();
                starts.dedup();
                starts
            };
            let mut times: Vec<i64> = (0..300).map(|_| begin + rng.random_range(0..365 * DAY)).collect();
            // The edges themselves, and the hours around those where clocks may change.
            for (start, end) in &windows {
                times.extend([-2 * HOUR, -HOUR, -30 * 60_000_000, -1, 0, 1, 30 * 60_000_000, HOUR].map(|d| start + d));
                times.extend([end - 1, *end]);
            }
            for time in times.into_iter().filter(|t| (begin..begin + 365 * DAY).contains(t)) {
                let want = holding(time);
                assert_eq!(spec.starts(time).collect::<Vec<_>>(), want, "{spec} {time}");
                assert_eq!(spec.last_start(time), want[0], "{spec} {time}");
                for start in want {
                    // If several windows have the same start, the last one counts.
                    let end = windows.iter().rev().find(|(s, _)| *s == start).unwrap().1;
                    assert_eq!(spec.end_of(start), end, "{spec} {start}");
                }
            }
        }
    }

    #[test]
    fn calendar_windows_tile_time_without_hole_or_overlap() {
        let zones = [
            "Europe/Berlin",
            "America/Sao_Paulo",
            "Australia/Lord_Howe",
            "Pacific/Apia",
            "America/St_Johns",
            "Asia/Kathmandu",
        ];
        for zone in zones {
            for size in ["1 day", "2 weeks", "1 month", "1 year"] {
                let spec = WindowSpec::new("t", size, None, None, zone).unwrap();
                let mut start = spec.last_start(-40 * 365 * DAY);
                let until = 60 * 365 * DAY;
                while start < until {
                    let end = spec.end_of(start);
                    assert!(end > start, "{spec} {start}");
                    assert_eq!(spec.last_start(end - 1), start, "{spec} {start}");
                    assert_eq!(spec.last_start(start), start, "{spec} {start}");
                    assert_eq!(spec.last_start(end), end, "{spec} {end}");
                    start = end;
                }
            }
        }
    }

    #[test]
    fn days_have_as_many_hours_as_the_zone_gives_them() {
        let spec = WindowSpec::new("t", "1 day", None, None, "europe/berlin").unwrap();
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros();
        let hours = |time: &str| (spec.end_of(spec.last_start(at(time))) - spec.last_start(at(time))) / HOUR;
        assert_eq!(hours("2024-03-30T12:00:00Z"), 24);
        assert_eq!(hours("2024-03-31T12:00:00Z"), 23);
        assert_eq!(hours("2024-10-27T12:00:00Z"), 25);
        assert_eq!(spec.last_start(at("2024-07-01T21:59:59Z")), at("2024-06-30T22:00:00Z"));
        assert_eq!(spec.last_start(at("2024-07-01T22:00:00Z")), at("2024-07-01T22:00:00Z"));
        // Midnight did not exist.
        let gap = WindowSpec::new("t", "1 day", None, None, "America/Sao_Paulo").unwrap();
        assert_eq!(gap.last_start(at("2018-11-04T12:00:00Z")), at("2018-11-04T03:00:00Z"));
        // In UTC a month is one of the calendar, a week a fixed length from a Thursday on.
        let month = WindowSpec::new("t", "1 month", None, None, "UTC").unwrap();
        assert_eq!(month.end_of(month.last_start(at("2024-02-29T23:00:00Z"))), at("2024-03-01T00:00:00Z"));
        let week = WindowSpec::new("t", "1 week", None, None, "UTC").unwrap();
        assert_eq!(week.describe(), "window(t, 604800000000 µs, 604800000000 µs, 0 µs)");
        // At the limits of a timestamp, the functions only promise to return.
        for spec in [&spec, &month, &week] {
            for time in [i64::MIN, i64::MIN + 1, -8_000_000_000_000_000_000, 8_000_000_000_000_000_000, i64::MAX] {
                assert!(spec.end_of(spec.last_start(time)) >= spec.last_start(time), "{spec} {time}");
                assert!(spec.starts(time).count() <= 1);
            }
        }
    }

    #[test]
    fn windows_are_described_for_people_and_told_apart_for_state() {
        let spec = |size, slide, offset, zone| WindowSpec::new("t", size, slide, offset, zone).unwrap();
        let minute = spec("1 minute 30 seconds", None, None, "utc");
        assert_eq!(
            (minute.to_string(), minute.describe().as_str()),
            ("90 seconds".into(), "window(t, 90000000 µs, 90000000 µs, 0 µs)")
        );
        assert_eq!(spec("10 minutes", Some("5 minutes"), None, "UTC").to_string(), "10 minutes, 5 minutes");
        let day = spec("1 day", None, Some("6 hours"), "Europe/Berlin");
        assert_eq!(day.to_string(), "1 day in Europe/Berlin, offset 6 hours");
        assert_eq!(day.describe(), "window(t, 1 days, 1 days, 21600000000 µs, Europe/Berlin)");
        assert_eq!(spec("6 months", Some("1 month"), None, "Z").to_string(), "2 quarters, 1 month");
        assert_eq!(spec("1 year 6 months", None, None, "UTC").describe(), "window(t, 18 months, 18 months, 0 µs, UTC)");
        assert_eq!(spec("1 week", None, None, "Asia/Tokyo").to_string(), "1 week in Asia/Tokyo");
    }

    #[test]
    fn what_makes_no_window_says_what_to_write() {
        let refused = |size: &str, slide: Option<&str>, zone: &str, parts: &[&str]| {
            let e = WindowSpec::new("t", size, slide, None, zone).unwrap_err();
            assert_eq!(e.kind, crate::Kind::Config);
            assert!(parts.iter().all(|p| e.message.contains(p)), "{e}");
        };
        refused("1 day", None, "Europe/Berln", &["'Europe/Berln'", "Did you mean 'Europe/Berlin'?"]);
        refused("10 minutes", None, "Europe/Berlin", &["10 minutes", "do not depend", "offset="]);
        refused("86400000000 us", None, "Europe/Berlin", &["1 day", "fixed length", "\"1 day\""]);
        refused("1 month", Some("1 day"), "UTC", &["same kind", "months"]);
        refused("1 day", Some("1 hour"), "Asia/Tokyo", &["same kind", "days"]);
        refused("1 hour", Some("1 month"), "UTC", &["same kind", "1 hour"]);
        refused("1 day", Some("2 days"), "Asia/Tokyo", &["slide", "longer than its size"]);
        refused("1 month 2 days", None, "UTC", &["1 month 2 days", "months"]);
        refused("0 days", None, "Asia/Tokyo", &["longer than zero"]);
        refused("soon", None, "UTC", &["'soon'", "10 seconds"]);
    }
}
