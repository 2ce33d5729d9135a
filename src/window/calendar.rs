//! Windows that follow a time zone's calendar: days that have 23 or 25 hours, months. Pure.
//!
//! A window starts where a local date (and perhaps a time of day) begins, and ends where a later one begins. Both are found the same way:
//! the first instant at which the zone's clock shows that local time or a later one. SQL moves a time that the clock skips on by the
//! length of the gap. Windows cannot do this, because a boundary after the gap would then come before the moved boundary. The first
//! instant never goes back while local times go on, so windows cover all time without gaps or overlaps, whatever the clock does. The
//! window of an instant is found by comparing instants, and not local times: local times repeat when the clock is put back.

use crate::calendar::{DAY, civil_from_days, days_from_civil, first_moment, to_local};
use chrono_tz::Tz;

/// The unit that the calendar counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Days,
    Months,
}

/// Windows of `size` units of a zone's calendar. They start every `slide` units from 1970-01-01, `offset` microseconds after midnight by
/// the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Calendar {
    pub unit: Unit,
    pub size: i64,
    pub slide: i64,
    pub offset: i64,
    pub zone: Tz,
}

/// Times further away than 200,000 years, in microseconds, count as that far away. chrono's calendar ends soon after.
const FAR: i64 = 200_000 * 31_556_952 * 1_000_000;

impl Calendar {
    /// When the local time `units` after 1970-01-01 begins. Beyond chrono's calendar, such a time never begins, or has always begun.
    pub(crate) fn at(&self, units: i64) -> i64 {
        let beyond = if units < 0 { i64::MIN } else { i64::MAX };
        self.local(units).and_then(|local| first_moment(self.zone, local)).unwrap_or(beyond)
    }

    fn local(&self, units: i64) -> Option<i64> {
        let days = match self.unit {
            Unit::Days => units,
            Unit::Months => {
                let year = i32::try_from(1970 + units.div_euclid(12)).ok()?;
                days_from_civil(year.into(), units.rem_euclid(12) + 1, 1)
            }
        };
        days.checked_mul(DAY)?.checked_add(self.offset)
    }

    /// The last window that starts at `time` or before. The window at 1970-01-01 is number 0.
    pub(crate) fn index(&self, time: i64) -> i64 {
        let time = time.clamp(-FAR, FAR);
        // A guess by the clock. It is at most one window off, where the clock was changed.
        let local = to_local(self.zone, time).and_then(|local| local.checked_sub(self.offset));
        let days = local.map_or(0, |local| local.div_euclid(DAY));
        let units = match self.unit {
            Unit::Days => days,
            Unit::Months => {
                let (year, month, _) = civil_from_days(days);
                (year - 1970) * 12 + month - 1
            }
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
    pub(crate) fn last_start(&self, time: i64) -> i64 {
        self.at(self.index(time) * self.slide)
    }

    /// The end of the window with this start. If a zone left out a day, several windows start at the same instant; then the last window counts.
    pub(crate) fn end_of(&self, start: i64) -> i64 {
        self.at(self.index(start) * self.slide + self.size)
    }

    /// The start of the previous window that holds `time`, searched from window `k` on.
    pub(crate) fn before(&self, k: &mut i64, last: Option<i64>, time: i64) -> Option<i64> {
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
    pub(crate) fn text(&self, units: i64) -> String {
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
