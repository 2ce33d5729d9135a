//! `date_format` and related functions, with the letters of Java's patterns that are common in practice.

use super::time::{MONTHS, day_of_year, plain_cast};
use super::{Call, Spec, get, spec};
use crate::Result;
use crate::calendar::{self, DAY, civil_from_days, clock};
use crate::expr::coerce::Param::{Big, Text, Time};
use crate::expr::coerce::is_timestamp;
use crate::expr::evaluate::row_error;
use crate::expr::kernel::{nums, nums_as, strings};
use crate::expr::node::Typed;
use crate::time::timestamp_type;
use arrow::datatypes::{DataType, Date32Type, Int64Type, TimestampMicrosecondType};

const DEFAULT: &str = "yyyy-MM-dd HH:mm:ss";

pub(super) const LIST: &[Spec] = &[
    spec("date_format", "date_format(timestamp, pattern)", |c| {
        let c = c.take(&[Time, Text], 2)?;
        let pattern = pattern(&c, 1, false)?;
        c.build(DataType::Utf8, move |a| {
            let t = a.num::<TimestampMicrosecondType>(0)?;
            strings(a.rows, |i| Ok(t.get(i).map(|t| write(&pattern, t))))
        })
    }),
    spec("from_unixtime", "from_unixtime(seconds[, pattern])", |mut c| {
        if c.args.len() == 1 {
            c.sql = format!("from_unixtime({}, {DEFAULT})", c.args[0].sql);
        }
        let c = c.take(&[Big, Text], 1)?;
        let pattern = pattern(&c, 1, false)?;
        c.build(DataType::Utf8, move |a| {
            let n = a.num::<Int64Type>(0)?;
            strings(a.rows, |i| {
                let t = get!(n.get(i)).checked_mul(1_000_000);
                t.map(|t| Some(write(&pattern, t))).ok_or_else(|| row_error("a value is out of range for TIMESTAMP"))
            })
        })
    }),
    spec("to_date", "to_date(expr[, pattern])", |c| {
        let c = c.count(1, 2)?;
        if c.args.len() == 1 {
            return plain_cast(c, DataType::Date32);
        }
        let c = c.take(&[Text, Text], 2)?;
        let pattern = pattern(&c, 1, true)?;
        c.build(DataType::Date32, move |a| {
            let s = a.str(0)?;
            nums::<Date32Type>(a.rows, |i| {
                let t = read(&pattern, get!(s.get(i))).ok_or_else(|| row_error(MISMATCH))?;
                Ok(Some(t.div_euclid(DAY) as i32))
            })
        })
    }),
    spec("to_timestamp", "to_timestamp(expr[, pattern])", |c| {
        let c = c.count(1, 2)?;
        if c.args.len() == 1 {
            return plain_cast(c, timestamp_type());
        }
        let c = c.take(&[Text, Text], 2)?;
        let pattern = pattern(&c, 1, true)?;
        c.build(timestamp_type(), move |a| {
            let s = a.str(0)?;
            nums_as::<TimestampMicrosecondType>(a.rows, &timestamp_type(), |i| {
                read(&pattern, get!(s.get(i))).map(Some).ok_or_else(|| row_error(MISMATCH))
            })
        })
    }),
    spec("unix_timestamp", "unix_timestamp(expr[, pattern])", seconds),
    spec("to_unix_timestamp", "to_unix_timestamp(expr[, pattern])", seconds),
];

const FULL_MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const FULL_DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

const MISMATCH: &str = "a value does not match the pattern";

#[derive(Clone, Debug, PartialEq)]
enum Part {
    /// A letter, and the number of times that it is repeated.
    Field(char, usize),
    Literal(String),
}

/// The pattern, which must be a constant. Letters that are not supported are refused.
fn pattern(c: &Call, k: usize, reading: bool) -> Result<Vec<Part>> {
    let text = match c.args.get(k) {
        None => DEFAULT,
        Some(arg) => arg.text().ok_or_else(|| c.error("the pattern must be a constant"))?,
    };
    let mut out: Vec<Part> = vec![];
    let literal = |out: &mut Vec<Part>, c: char| match out.last_mut() {
        Some(Part::Literal(text)) => text.push(c),
        _ => out.push(Part::Literal(c.to_string())),
    };
    let mut chars = text.chars().peekable();
    while let Some(ch) = chars.next() {
        if ch == '\'' {
            if chars.next_if_eq(&'\'').is_some() {
                literal(&mut out, '\'');
                continue;
            }
            loop {
                match chars.next() {
                    None => return Err(c.error("the pattern has an open quote")),
                    Some('\'') if chars.next_if_eq(&'\'').is_some() => literal(&mut out, '\''),
                    Some('\'') => break,
                    Some(other) => literal(&mut out, other),
                }
            }
        } else if ch.is_ascii_alphabetic() {
            let mut n = 1;
            while chars.next_if_eq(&ch).is_some() {
                n += 1;
            }
            let known = match ch {
                'y' => n == 1 || n == 2 || n == 4,
                'M' => n <= 4,
                'd' | 'H' | 'h' | 'm' | 's' => n <= 2,
                'S' => n <= 6,
                'a' => n == 1,
                'D' => !reading && (n == 1 || n == 3),
                'E' => !reading && n <= 4,
                _ => false,
            };
            if !known {
                return Err(c.error(format!(
                    "'{}' in the pattern is not supported; those are y yy yyyy M MM MMM MMMM d dd H HH h hh m mm s ss S… a D DDD E EEEE (the last four not for reading)",
                    ch.to_string().repeat(n)
                )));
            }
            out.push(Part::Field(ch, n));
        } else if matches!(ch, '[' | ']' | '{' | '}' | '#') {
            return Err(c.error(format!("'{ch}' in the pattern is not supported")));
        } else {
            literal(&mut out, ch);
        }
    }
    Ok(out)
}

fn write(parts: &[Part], t: i64) -> String {
    let days = t.div_euclid(DAY);
    let (y, mo, d) = civil_from_days(days);
    let (h, mi, s, us) = clock(t.rem_euclid(DAY));
    let mut out = String::new();
    for part in parts {
        let (letter, n) = match part {
            Part::Literal(text) => {
                out.push_str(text);
                continue;
            }
            Part::Field(letter, n) => (*letter, *n),
        };
        let value = match letter {
            'y' if n == 2 => y.abs() % 100,
            'y' => {
                // Java's EXCEEDS_PAD: a sign where there are more digits than letters.
                let sign = match y {
                    ..0 => "-",
                    10_000.. if n == 4 => "+",
                    _ => "",
                };
                out.push_str(&format!("{sign}{:0n$}", y.abs()));
                continue;
            }
            'M' if n == 4 => {
                out.push_str(FULL_MONTHS[(mo - 1) as usize]);
                continue;
            }
            'E' if n == 4 => {
                out.push_str(FULL_DAYS[(days + 4).rem_euclid(7) as usize]);
                continue;
            }
            'M' if n == 3 => {
                out.push_str(MONTHS[(mo - 1) as usize]);
                continue;
            }
            'M' => mo,
            'd' => d,
            'H' => h,
            'h' => (h + 11) % 12 + 1,
            'm' => mi,
            's' => s,
            'D' => day_of_year(days),
            'a' => {
                out.push_str(if h < 12 { "AM" } else { "PM" });
                continue;
            }
            'E' => {
                out.push_str(["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"][(days + 4).rem_euclid(7) as usize]);
                continue;
            }
            _ => {
                out.push_str(&format!("{us:06}")[..n]);
                continue;
            }
        };
        out.push_str(&format!("{value:0n$}"));
    }
    out
}

/// Reads a text, which must match as a whole. Two letters or more take exactly that number of digits, and one letter takes one or two.
/// The letters of a fraction take from one digit up to their number. As in Java's formatter, a year of more than four digits has a sign.
fn read(parts: &[Part], text: &str) -> Option<i64> {
    let mut rest = text;
    let (mut y, mut mo, mut d, mut h, mut mi, mut s, mut us) = (1970, 1, 1, 0, 0, 0, 0);
    let (mut half, mut twelve) = (None, None);
    for part in parts {
        let (letter, n) = match part {
            Part::Literal(text) => {
                rest = rest.strip_prefix(text.as_str())?;
                continue;
            }
            Part::Field(letter, n) => (*letter, *n),
        };
        if letter == 'a' {
            let word = rest.get(..2)?;
            half = Some(match word.to_ascii_uppercase().as_str() {
                "AM" => 0,
                "PM" => 12,
                _ => return None,
            });
            rest = &rest[2..];
            continue;
        }
        if letter == 'M' && n == 4 {
            let here = |m: &&str| rest.get(..m.len()).is_some_and(|r| r.eq_ignore_ascii_case(m));
            let found = FULL_MONTHS.iter().position(here)?;
            mo = found as i64 + 1;
            rest = &rest[FULL_MONTHS[found].len()..];
            continue;
        }
        if letter == 'M' && n == 3 {
            let word = rest.get(..3)?;
            mo = MONTHS.iter().position(|m| m.eq_ignore_ascii_case(word))? as i64 + 1;
            rest = &rest[3..];
            continue;
        }
        let signed =
            if letter == 'y' && n != 2 { rest.bytes().next().filter(|b| matches!(b, b'+' | b'-')) } else { None };
        rest = &rest[usize::from(signed.is_some())..];
        let have = rest.bytes().take_while(u8::is_ascii_digit).count();
        let take = match (letter, n) {
            ('S', n) => have.min(n),
            ('y', 4) if signed == Some(b'+') && have < 5 => return None,
            ('y', 1) if signed == Some(b'+') => return None,
            ('y', 4) if signed.is_some() => have.clamp(4, 6),
            ('y', 1) => have.min(6),
            (_, 1) => have.min(2),
            (_, n) => n,
        };
        if take == 0 || take > have {
            return None;
        }
        let value: i64 = rest[..take].parse().ok()?;
        rest = &rest[take..];
        match letter {
            'y' if n == 2 => y = 2000 + value,
            'y' => y = if signed == Some(b'-') { -value } else { value },
            'M' => mo = value,
            'd' => d = value,
            'H' => h = value,
            'h' => twelve = Some(value),
            'm' => mi = value,
            's' => s = value,
            'S' => us = value * 10i64.pow(6 - take as u32),
            _ => return None,
        }
    }
    if let Some(twelve) = twelve {
        if !(1..=12).contains(&twelve) {
            return None;
        }
        h = twelve % 12 + half.unwrap_or(0);
    }
    let midnight = calendar::date(y, mo, d).filter(|_| rest.is_empty())?.checked_mul(DAY)?;
    midnight.checked_add(calendar::time_of_day(h, mi, s, us)?)
}

fn seconds(mut c: Call) -> Result<Typed> {
    let text = c.args.first().is_some_and(|a| !is_timestamp(&a.data_type) && a.data_type != DataType::Date32);
    if c.args.len() == 1 {
        c.sql = format!("{}({}, {DEFAULT})", c.name, c.args[0].sql);
    }
    if c.args.is_empty() {
        return Err(c.error("without an argument its result is not the same every time"));
    }
    if !text {
        let c = c.count(1, 2)?;
        let mut c = c;
        c.args.truncate(1);
        return c.take(&[Time], 1)?.build(DataType::Int64, |a| {
            let t = a.num::<TimestampMicrosecondType>(0)?;
            nums::<Int64Type>(a.rows, |i| Ok(t.get(i).map(|t| t / 1_000_000)))
        });
    }
    let c = c.take(&[Text, Text], 1)?;
    let pattern = pattern(&c, 1, true)?;
    c.build(DataType::Int64, move |a| {
        let s = a.str(0)?;
        nums::<Int64Type>(a.rows, |i| {
            let t = read(&pattern, get!(s.get(i))).ok_or_else(|| row_error(MISMATCH))?;
            Ok(Some(t.div_euclid(1_000_000)))
        })
    })
}
