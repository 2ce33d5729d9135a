//! Writes a time by a pattern.

use super::{DAYS, Field, MONTHS, Part, Pattern};
use crate::calendar::{DAY, civil_from_days, clock, days_from_civil};
use std::io::Write;

struct Time {
    days: i64,
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
}

impl Pattern {
    /// Appends the text of an instant, in UTC.
    pub(crate) fn write(&self, micros: i64, out: &mut Vec<u8>) {
        let days = micros.div_euclid(DAY);
        let (year, month, day) = civil_from_days(days);
        let (hour, minute, second, fraction) = clock(micros.rem_euclid(DAY));
        let time = Time { days, year, month, day, hour, minute, second, micros: fraction };
        write_all(&self.parts, self.era, &time, out);
    }
}

fn write_all(parts: &[Part], era: bool, time: &Time, out: &mut Vec<u8>) {
    for part in parts {
        match part {
            Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
            Part::Optional(parts) => write_all(parts, era, time, out),
            Part::Field(field) => write_field(field, era, time, out),
        }
    }
}

fn write_field(field: &Field, era: bool, t: &Time, out: &mut Vec<u8>) {
    let n = field.count;
    let mut text = |text: &str| out.extend_from_slice(text.as_bytes());
    let value = match field.letter {
        'G' => match (t.year > 0, n) {
            (true, 4) => return text("Anno Domini"),
            (false, 4) => return text("Before Christ"),
            (true, _) => return text("AD"),
            (false, _) => return text("BC"),
        },
        'y' => {
            let year = if era && t.year <= 0 { 1 - t.year } else { t.year };
            if n == 2 {
                year.abs() % 100
            } else {
                // Java's EXCEEDS_PAD: a sign where there are more digits than letters.
                let sign = match year {
                    ..0 => "-",
                    _ if n >= 4 && year >= 10i64.pow(n as u32) => "+",
                    _ => "",
                };
                // Writing to memory does not fail.
                let _ = write!(out, "{sign}{:0n$}", year.abs());
                return;
            }
        }
        'M' | 'L' if n > 2 => {
            let full = MONTHS[(t.month - 1) as usize];
            return text(if n == 3 { &full[..3] } else { full });
        }
        'M' | 'L' => t.month,
        'Q' | 'q' => {
            let quarter = (t.month + 2) / 3;
            match n {
                3 => return text(["Q1", "Q2", "Q3", "Q4"][(quarter - 1) as usize]),
                4 => return text(["1st quarter", "2nd quarter", "3rd quarter", "4th quarter"][(quarter - 1) as usize]),
                _ => quarter,
            }
        }
        'E' => {
            let full = DAYS[(t.days + 4).rem_euclid(7) as usize];
            return text(if n == 4 { full } else { &full[..3] });
        }
        'd' => t.day,
        'D' => t.days - days_from_civil(t.year, 1, 1) + 1,
        'F' => (t.day - 1) % 7 + 1,
        'a' => return text(if t.hour < 12 { "AM" } else { "PM" }),
        'h' => (t.hour + 11) % 12 + 1,
        'K' => t.hour % 12,
        'k' => (t.hour + 23) % 24 + 1,
        'H' => t.hour,
        'm' => t.minute,
        's' => t.second,
        'S' => {
            let digits = t.micros * 1_000;
            let _ = write!(out, "{:0n$}", digits / 10i64.pow(9 - n as u32));
            return;
        }
        'V' => return text("UTC"),
        'z' => return text(if n == 4 { "Coordinated Universal Time" } else { "UTC" }),
        'O' => return text("GMT"),
        'X' => return text("Z"),
        'x' => return text(["+00", "+0000", "+00:00", "+0000", "+00:00"][n - 1]),
        _ => return text(["+0000", "+0000", "+0000", "GMT", "Z"][n - 1]),
    };
    let _ = write!(out, "{value:0n$}");
}
