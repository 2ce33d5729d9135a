//! Windows that follow a time zone's calendar: days that have 23 or 25 hours, months. Pure.
//!
//! A window starts where a local date (and perhaps a time of day) begins, and ends where another one does. Both are found the same way:
//! the first instant at which the zone's clocks show that local time or a later one. As that never goes back while local times go
//! on, windows tile time without hole or overlap, whatever the clocks do. Which window an instant is in is found by comparing
//! instants, not local times: those repeat when clocks are put back.

use crate::error::did_you_mean;
use crate::{Error, Result};
use chrono::{DateTime, Datelike, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone};
use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};

/// What the calendar counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Days,
    Months,
}

/// Windows of `size` units of a zone's calendar that start every `slide` units from 1970-01-01, `offset` µs into that day by the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calendar {
    pub unit: Unit,
    pub size: i64,
    pub slide: i64,
    pub offset: i64,
    pub zone: Tz,
}

/// Days from the year 1 to 1970-01-01, as chrono counts them.
const EPOCH: i64 = 719_163;

/// Times further away than this are taken for it: 200,000 years in microseconds. chrono's calendar ends soon after.
const FAR: i64 = 200_000 * 31_556_952 * 1_000_000;

impl Calendar {
    /// When the local time `units` after 1970-01-01 begins. Beyond what chrono can tell it is never, or always was.
    pub fn at(&self, units: i64) -> i64 {
        let beyond = if units < 0 { i64::MIN } else { i64::MAX };
        self.local(units).and_then(|local| self.instant(local)).unwrap_or(beyond)
    }

    fn local(&self, units: i64) -> Option<NaiveDateTime> {
        let date = match self.unit {
            Unit::Days => NaiveDate::from_num_days_from_ce_opt(i32::try_from(EPOCH.checked_add(units)?).ok()?)?,
            Unit::Months => {
                let year = i32::try_from(1970 + units.div_euclid(12)).ok()?;
                NaiveDate::from_ymd_opt(year, units.rem_euclid(12) as u32 + 1, 1)?
            }
        };
        date.and_time(NaiveTime::MIN).checked_add_signed(TimeDelta::microseconds(self.offset))
    }

    /// The first instant at which clocks show this local time or a later one.
    fn instant(&self, local: NaiveDateTime) -> Option<i64> {
        let instant = match self.zone.from_local_datetime(&local) {
            LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => instant,
            // Clocks were put forward over it.
            LocalResult::None => GapInfo::new(&local, &self.zone)?.end?,
        };
        Some(instant.timestamp_micros())
    }

    /// The last window that starts at `time` or before, counted from the one at 1970-01-01.
    pub fn index(&self, time: i64) -> i64 {
        let time = time.clamp(-FAR, FAR);
        // A guess by the clock, which is a window off at most where clocks were changed.
        let local = DateTime::from_timestamp_micros(time)
            .map(|t| self.zone.from_utc_datetime(&t.naive_utc()).naive_local())
            .and_then(|local| local.checked_sub_signed(TimeDelta::microseconds(self.offset)));
        let units = match (local, self.unit) {
            (Some(local), Unit::Days) => i64::from(local.num_days_from_ce()) - EPOCH,
            (Some(local), Unit::Months) => (i64::from(local.year()) - 1970) * 12 + i64::from(local.month0()),
            (None, _) => 0,
        };
        let mut k = units.div_euclid(self.slide);
        while self.at((k + 1) * self.slide) <= time {
            k += 1;
        }
        while self.at(k * self.slide) > time {
            k -= 1;
        }
        k
    }

    /// The start of the last window that `time` belongs to.
    pub fn last_start(&self, time: i64) -> i64 {
        self.at(self.index(time) * self.slide)
    }

    /// The end of the window with this start. Of windows that start at the same instant (a day that a zone left out) the last counts.
    pub fn end_of(&self, start: i64) -> i64 {
        self.at(self.index(start) * self.slide + self.size)
    }

    /// The start of the window before, of those that hold `time`; `k` is the one to look at first.
    pub fn before(&self, k: &mut i64, last: Option<i64>, time: i64) -> Option<i64> {
        loop {
            let start = self.at(*k * self.slide);
            let end = self.at(*k * self.slide + self.size);
            if end <= time || start > time {
                return None;
            }
            *k -= 1;
            if last != Some(start) {
                return Some(start);
            }
        }
    }

    /// "1 day", "3 months".
    pub fn text(&self, units: i64) -> String {
        let (n, unit) = match self.unit {
            Unit::Days if units % 7 == 0 => (units / 7, "week"),
            Unit::Days => (units, "day"),
            Unit::Months if units % 12 == 0 => (units / 12, "year"),
            Unit::Months if units % 3 == 0 => (units / 3, "quarter"),
            Unit::Months => (units, "month"),
        };
        format!("{n} {unit}{}", if n == 1 { "" } else { "s" })
    }
}

/// The zone of that name; None is UTC, whose days are all alike.
pub fn zone(name: &str) -> Result<Option<Tz>> {
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
