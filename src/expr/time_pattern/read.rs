//! Reads a time by a pattern, as strictly as Spark does (`ResolverStyle.STRICT`).

use super::{Field, MONTHS, Number, Part, Pattern, Sign};
use crate::calendar::{self, DAY, SECOND, Zone, days_from_civil, named, time_of_day};
use chrono_tz::Tz;

/// The fields that a text has given.
#[derive(Clone, Copy, Default)]
struct Parsed {
    year: Option<i64>,
    era: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    half: Option<i64>,
    /// H, and k with 24 as 0.
    hour: Option<i64>,
    /// K, and h with 12 as 0.
    hour_of_half: Option<i64>,
    minute: Option<i64>,
    second: Option<i64>,
    nanos: Option<i64>,
    /// In seconds.
    offset: Option<i64>,
    zone: Option<Zone>,
}

impl Pattern {
    /// The instant; without a zone in the text it is one of UTC.
    pub(crate) fn read(&self, text: &str) -> Option<i64> {
        let mut parsed = Parsed::default();
        let rest = read_all(&self.parts, text, &mut parsed)?;
        if rest.is_empty() { parsed.resolve(self.era) } else { None }
    }
}

fn read_all<'t>(parts: &[Part], mut rest: &'t str, to: &mut Parsed) -> Option<&'t str> {
    for part in parts {
        rest = match part {
            Part::Literal(text) => without_prefix(rest, text)?,
            Part::Optional(parts) => {
                let mut tried = *to;
                match read_all(parts, rest, &mut tried) {
                    Some(after) => {
                        *to = tried;
                        after
                    }
                    None => rest,
                }
            }
            Part::Field(field) => read_field(field, rest, to)?,
        };
    }
    Some(rest)
}

/// The text behind a prefix, whatever the case of its letters.
fn without_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let head = text.get(..prefix.len())?;
    (head == prefix || head.eq_ignore_ascii_case(prefix)).then(|| &text[prefix.len()..])
}

/// A field is given once, or twice with the same value.
fn set(field: &mut Option<i64>, value: i64) -> Option<()> {
    match field.replace(value) {
        Some(before) if before != value => None,
        _ => Some(()),
    }
}

fn read_field<'t>(field: &Field, text: &'t str, to: &mut Parsed) -> Option<&'t str> {
    let Field { letter, count, number } = *field;
    let word = |words: &mut dyn Iterator<Item = &'static str>| -> Option<(i64, &'t str)> {
        let found = words.enumerate().filter_map(|(i, w)| Some((i as i64, without_prefix(text, w)?)));
        found.min_by_key(|(_, rest)| rest.len())
    };
    let Some(number) = number else {
        let rest = match letter {
            'M' | 'L' => {
                let (month, rest) = word(&mut MONTHS.iter().map(|m| if count == 3 { &m[..3] } else { *m }))?;
                set(&mut to.month, month + 1)?;
                rest
            }
            'a' => {
                let (half, rest) = word(&mut ["AM", "PM"].into_iter())?;
                set(&mut to.half, half)?;
                rest
            }
            'G' => {
                let names = if count == 4 { ["Before Christ", "Anno Domini"] } else { ["BC", "AD"] };
                let (era, rest) = word(&mut names.into_iter())?;
                set(&mut to.era, era)?;
                rest
            }
            'V' | 'z' => {
                let (zone, rest) = zone(text, letter == 'z')?;
                if to.zone.replace(zone).is_some_and(|before| before != zone) {
                    return None;
                }
                rest
            }
            _ => {
                let (offset, rest) = match (letter, count) {
                    ('O', _) | ('Z', 4) => localized(text, count == 4)?,
                    ('X', n) => offset(text, "Z", [(false, 0), (false, 1), (true, 1), (false, 2), (true, 2)][n - 1])?,
                    ('x', n) => {
                        let none = ["+00", "+0000", "+00:00", "+0000", "+00:00"][n - 1];
                        offset(text, none, [(false, 0), (false, 1), (true, 1), (false, 2), (true, 2)][n - 1])?
                    }
                    ('Z', 5) => offset(text, "Z", (true, 2))?,
                    _ => offset(text, "+0000", (false, 1))?,
                };
                set(&mut to.offset, offset)?;
                rest
            }
        };
        return Some(rest);
    };
    if letter == 'S' {
        let digits = text.bytes().take(number.most).take_while(u8::is_ascii_digit).count();
        if digits < number.least {
            return None;
        }
        let value: i64 = text[..digits].parse().ok()?;
        set(&mut to.nanos, value * 10i64.pow(9 - digits as u32))?;
        return Some(&text[digits..]);
    }
    let (value, rest) = digits(number, text)?;
    let within = |low: i64, high: i64| (low..=high).contains(&value).then_some(value);
    match letter {
        'y' if count == 2 => set(&mut to.year, 2000 + value)?,
        'y' => set(&mut to.year, value)?,
        'M' | 'L' => set(&mut to.month, value)?,
        'd' => set(&mut to.day, value)?,
        'D' => set(&mut to.day_of_year, value)?,
        'H' => set(&mut to.hour, within(0, 23)?)?,
        'k' => set(&mut to.hour, within(1, 24)? % 24)?,
        'h' => set(&mut to.hour_of_half, within(1, 12)? % 12)?,
        'K' => set(&mut to.hour_of_half, within(0, 11)?)?,
        'm' => set(&mut to.minute, within(0, 59)?)?,
        _ => set(&mut to.second, within(0, 59)?)?,
    }
    Some(rest)
}

/// As Java's `NumberPrinterParser` in strict mode.
fn digits(number: Number, text: &str) -> Option<(i64, &str)> {
    let sign = text.bytes().next().filter(|b| matches!(b, b'+' | b'-'));
    match (sign, number.sign) {
        (None, _) | (Some(b'-'), Sign::Minus) | (Some(_), Sign::Exceeding) => {}
        _ => return None,
    }
    let body = &text[usize::from(sign.is_some())..];
    let have = body.bytes().take(number.most + number.reserved).take_while(u8::is_ascii_digit).count();
    let take = match number.reserved {
        0 => have,
        reserved => have.saturating_sub(reserved).max(number.least).min(number.most.max(number.least)),
    };
    if take < number.least || take > have || take > 18 {
        return None;
    }
    let value: i64 = body[..take].parse().ok()?;
    let value = match sign {
        Some(b'-') if value == 0 => return None,
        Some(b'-') => -value,
        Some(_) if take <= number.least => return None,
        None if number.sign == Sign::Exceeding && take > number.least => return None,
        _ => value,
    };
    Some((value, &body[take..]))
}

/// An offset such as "+0130": whether there are colons, and how much is required: hours, minutes, or minutes with seconds possible.
fn offset<'t>(text: &'t str, none: &str, (colons, parts): (bool, u8)) -> Option<(i64, &'t str)> {
    if let Some(rest) = without_prefix(text, none) {
        return Some((0, rest));
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let two = |at: &'t str| -> Option<(i64, &'t str)> {
        let digits = at.get(..2).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
        Some((digits.parse().ok()?, &at[2..]))
    };
    let next = |at: &'t str| two(if colons { at.strip_prefix(':')? } else { at });
    let (hours, mut rest) = two(&text[1..])?;
    let (mut minutes, mut seconds) = (0, 0);
    match (next(rest), parts) {
        (Some((value, after)), _) => (minutes, rest) = (value, after),
        (None, 0) => {}
        (None, _) => return None,
    }
    if parts == 2
        && let Some((value, after)) = next(rest)
    {
        (seconds, rest) = (value, after);
    }
    (hours <= 18 && minutes < 60 && seconds < 60).then_some((sign * (hours * 3600 + minutes * 60 + seconds), rest))
}

/// "GMT", "GMT+1" and "GMT+01:00".
fn localized(text: &str, full: bool) -> Option<(i64, &str)> {
    let rest = without_prefix(text, "GMT")?;
    let sign = match rest.as_bytes().first() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return Some((0, rest)),
    };
    let rest = &rest[1..];
    let hours = rest.bytes().take(2).take_while(u8::is_ascii_digit).count();
    if hours == 0 || full && hours < 2 {
        return None;
    }
    let mut total = rest[..hours].parse::<i64>().ok()? * 3600;
    let mut rest = &rest[hours..];
    for unit in [60, 1] {
        let part = rest.strip_prefix(':').and_then(|r| r.get(..2)).and_then(|d| d.parse::<i64>().ok());
        match part {
            Some(value) if (0..60).contains(&value) => {
                total += value * unit;
                rest = &rest[3..];
            }
            _ if full && unit == 60 => return None,
            _ => break,
        }
    }
    (total <= 18 * 3600).then_some((sign * total, rest))
}

/// Abbreviations that Java's formatter reads, with the region that it takes them for.
const ABBREVIATIONS: &[(&str, Tz)] = &[
    ("PST", Tz::America__Los_Angeles),
    ("PDT", Tz::America__Los_Angeles),
    ("MST", Tz::America__Denver),
    ("MDT", Tz::America__Denver),
    ("CST", Tz::America__Chicago),
    ("CDT", Tz::America__Chicago),
    ("EST", Tz::America__New_York),
    ("EDT", Tz::America__New_York),
    ("AKST", Tz::America__Anchorage),
    ("AKDT", Tz::America__Anchorage),
    ("HST", Tz::Pacific__Honolulu),
    ("CET", Tz::Europe__Paris),
    ("CEST", Tz::Europe__Paris),
    ("WET", Tz::Europe__Lisbon),
    ("WEST", Tz::Europe__Lisbon),
    ("BST", Tz::Europe__London),
    ("MSK", Tz::Europe__Moscow),
    ("JST", Tz::Asia__Tokyo),
    ("KST", Tz::Asia__Seoul),
    ("AEST", Tz::Australia__Sydney),
    ("AEDT", Tz::Australia__Sydney),
    ("Pacific Standard Time", Tz::America__Los_Angeles),
    ("Pacific Daylight Time", Tz::America__Los_Angeles),
    ("Mountain Standard Time", Tz::America__Denver),
    ("Mountain Daylight Time", Tz::America__Denver),
    ("Central Standard Time", Tz::America__Chicago),
    ("Central Daylight Time", Tz::America__Chicago),
    ("Eastern Standard Time", Tz::America__New_York),
    ("Eastern Daylight Time", Tz::America__New_York),
    ("Central European Standard Time", Tz::Europe__Paris),
    ("Central European Summer Time", Tz::Europe__Paris),
    ("Greenwich Mean Time", Tz::Europe__London),
    ("Coordinated Universal Time", Tz::UTC),
];

/// The zone at the start of the text: an offset, "UTC+01:00", or the longest name of a region. With `names`, also an abbreviation.
fn zone(text: &str, names: bool) -> Option<(Zone, &str)> {
    let fixed = |(seconds, rest)| (Zone::Fixed(seconds * SECOND), rest);
    if text.starts_with(['+', '-']) {
        return offset(text, "Z", (true, 2)).map(fixed);
    }
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '+' | '-');
    let mut end = text.find(|c| !part(c)).unwrap_or(text.len());
    if names {
        let found = ABBREVIATIONS.iter().filter_map(|(name, zone)| Some((*zone, without_prefix(text, name)?)));
        let found = found.min_by_key(|(_, rest)| rest.len());
        if let Some((zone, rest)) = found.filter(|(_, rest)| !rest.starts_with(part)) {
            return Some((Zone::Region(zone), rest));
        }
    }
    for prefix in ["UTC", "GMT", "UT"] {
        let Some(rest) = without_prefix(text, prefix) else { continue };
        if rest.starts_with(['+', '-'])
            && let Some(found) = offset(rest, "0", (true, 2))
        {
            return Some(fixed(found));
        }
        if !rest.starts_with(|c: char| part(c) && !matches!(c, '+' | '-')) {
            return Some((Zone::Fixed(0), rest));
        }
    }
    while end > 1 {
        let (name, rest) = text.split_at(end);
        let exact = name.parse::<Tz>().ok().map(Zone::Region);
        let found = exact.or_else(|| named(name).ok().map(|z| z.map_or(Zone::Fixed(0), Zone::Region)));
        if let Some(found) = found {
            return Some((found, rest));
        }
        end -= 1;
    }
    without_prefix(text, "Z").map(|rest| (Zone::Fixed(0), rest))
}

impl Parsed {
    fn resolve(&self, era: bool) -> Option<i64> {
        let year = match (self.year, era) {
            // Java: the year of the era is from 1 on.
            (Some(year), true) if year < 1 => return None,
            (Some(year), true) if self.era == Some(0) => Some(1 - year),
            (year, _) => year,
        };
        let days = match (year, self.month, self.day, self.day_of_year) {
            (Some(y), Some(m), Some(d), _) => calendar::date(y, m, d)?,
            (Some(y), _, _, Some(of_year)) => {
                let first = days_from_civil(y, 1, 1);
                let next = days_from_civil(y + 1, 1, 1);
                (of_year >= 1 && of_year <= next - first).then_some(first + of_year - 1)?
            }
            (None, None, None, Some(of_year)) => (1..=365).contains(&of_year).then_some(of_year - 1)?,
            (y, m, d, _) => {
                if self.day_of_year.is_some_and(|n| !(1..=366).contains(&n)) {
                    return None;
                }
                calendar::date(y.unwrap_or(1970), m.unwrap_or(1), d.unwrap_or(1))?
            }
        };
        // The parts that did not make the date must agree with it.
        let (y, m, d) = calendar::civil_from_days(days);
        let agrees = |given: Option<i64>, made: i64| given.is_none_or(|given| given == made);
        if year.is_some()
            && !(agrees(self.month, m)
                && agrees(self.day, d)
                && agrees(self.day_of_year, days - days_from_civil(y, 1, 1) + 1))
            && self.day_of_year.is_some()
        {
            return None;
        }
        let hour = match (self.hour, self.half, self.hour_of_half) {
            (Some(hour), half, of_half) => {
                if !agrees(half, hour / 12) || !agrees(of_half, hour % 12) {
                    return None;
                }
                hour
            }
            (None, half, Some(of_half)) => half.unwrap_or(0) * 12 + of_half,
            (None, Some(half), None) => half * 12,
            (None, None, None) => 0,
        };
        let time =
            time_of_day(hour, self.minute.unwrap_or(0), self.second.unwrap_or(0), self.nanos.unwrap_or(0) / 1000)?;
        let local = days.checked_mul(DAY)?.checked_add(time)?;
        match (self.zone, self.offset) {
            (_, Some(offset)) => local.checked_sub(offset * SECOND),
            (Some(zone), None) => zone.to_utc(local),
            (None, None) => Some(local),
        }
    }
}
