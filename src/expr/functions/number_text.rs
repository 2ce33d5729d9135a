//! Numbers as text by a format, and back: `format_number`, `to_char`, `to_number`, `conv`. (`format_string` is in `printf`.)

use super::{Call, Spec, get, spec};
use crate::Result;
use crate::expr::cast::{explicit, implicit};
use crate::expr::coerce::Param::{Int, Number, Text};
use crate::expr::coerce::{decimal_of, is_float, is_int, is_timestamp};
use crate::expr::evaluate::{OVERFLOW, row_error};
use crate::expr::kernel::{Args, nums_as, strings};
use crate::expr::node::Typed;
use crate::expr::text::decimal_text;
use arrow::datatypes::*;
use datafusion::error::Result as DfResult;

pub(super) const LIST: &[Spec] = &[
    spec("format_number", "format_number(number, digits), format_number(number, pattern)", format_number),
    spec("to_number", "to_number(str, format)", |c| to_number(c, false)),
    spec("try_to_number", "try_to_number(str, format)", |c| to_number(c, true)),
    spec("to_char", "to_char(numberOrTimeOrBinary, format)", to_char),
    spec("to_varchar", "to_varchar(numberOrTimeOrBinary, format)", to_char),
    spec("conv", "conv(str, fromBase, toBase)", |c| {
        c.take(&[Text, Int, Int], 3)?.build_nullable(DataType::Utf8, |a| {
            let (s, from, to) = (a.str(0)?, a.num::<Int32Type>(1)?, a.num::<Int32Type>(2)?);
            strings(a.rows, |i| convert(get!(s.get(i)), get!(from.get(i)), get!(to.get(i))))
        })
    }),
];

/// A number of a row, as it is formatted.
enum Value {
    Double(f64),
    Decimal(i128, i8),
}

fn number<'a>(a: &'a Args, scale: i8) -> DfResult<Box<dyn Fn(usize) -> Option<Value> + 'a>> {
    Ok(if a.array(0).data_type() == &DataType::Float64 {
        let x = a.num::<Float64Type>(0)?;
        Box::new(move |i| x.get(i).map(Value::Double))
    } else {
        let x = a.num::<Decimal128Type>(0)?;
        Box::new(move |i| x.get(i).map(|v| Value::Decimal(v, scale)))
    })
}

/// The sign, and the digits with at most `most` behind the point; a half goes to the even digit, as in Java's DecimalFormat.
fn rounded(value: &Value, most: usize) -> (bool, String) {
    match value {
        Value::Double(x) => {
            // As in Java, the digits are those of the shortest text of the number, followed by zeros.
            let mut text = x.abs().to_string();
            let have = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            if have > most {
                return (x.is_sign_negative(), format!("{:.most$}", x.abs()));
            }
            if have == 0 && most > 0 {
                text.push('.');
            }
            text.extend(std::iter::repeat_n('0', most - have));
            (x.is_sign_negative(), text)
        }
        Value::Decimal(v, scale) => {
            let cut = (*scale as i32 - most as i32).max(0) as u32;
            let unit = 10u128.pow(cut);
            let (q, r) = (v.unsigned_abs() / unit, v.unsigned_abs() % unit);
            let up = r * 2 > unit || r * 2 == unit && q % 2 == 1;
            let kept = (*scale as i32).min(most as i32);
            let mut text = decimal_text((q + u128::from(up)) as i128, kept as i8);
            if kept < most as i32 {
                if kept == 0 {
                    text.push('.');
                }
                text.extend(std::iter::repeat_n('0', most - kept as usize));
            }
            (*v < 0, text)
        }
    }
}

struct Layout {
    /// Digits in front of the point, at least.
    whole: usize,
    /// Digits behind the point: at least, at most.
    fraction: (usize, usize),
    grouping: Option<usize>,
}

impl Layout {
    fn of_digits(n: usize) -> Self {
        Self { whole: 1, fraction: (n, n), grouping: Some(3) }
    }

    /// A pattern of `#`, `0`, `,` and one point.
    fn read(pattern: &str) -> Option<Self> {
        if pattern.is_empty() {
            return Some(Self { whole: 1, fraction: (0, 0), grouping: Some(3) });
        }
        let (whole, fraction) = pattern.split_once('.').unwrap_or((pattern, ""));
        let digits: String = whole.chars().filter(|c| *c != ',').collect();
        let good = |text: &str, first: char| {
            let rest = text.trim_start_matches(first);
            rest.chars().all(|c| matches!(c, '0' | '#') && c != first)
        };
        if !good(&digits, '#') || !good(fraction, '0') || digits.is_empty() && fraction.is_empty() {
            return None;
        }
        let zeros = |text: &str| text.chars().filter(|c| *c == '0').count();
        let mut counts = (zeros(&digits), zeros(fraction));
        if counts == (0, 0) && pattern.contains('.') {
            // As in Java, at least one digit is written: in front of the point or behind it.
            counts = if digits.is_empty() { (0, 1) } else { (1, 0) };
        }
        let grouping = whole.rfind(',').map(|at| whole.len() - at - 1).filter(|n| *n > 0);
        Some(Self { whole: counts.0, fraction: (counts.1, fraction.len()), grouping })
    }

    fn write(&self, value: &Value) -> String {
        if let Value::Double(x) = value {
            if x.is_nan() {
                return "NaN".into();
            }
            if x.is_infinite() {
                return if *x > 0.0 { "∞" } else { "-∞" }.into();
            }
        }
        let (negative, digits) = rounded(value, self.fraction.1);
        let (whole, fraction) = digits.split_once('.').unwrap_or((&digits, ""));
        let whole = format!("{:0>1$}", whole.trim_start_matches('0'), self.whole);
        let mut fraction = fraction;
        while fraction.len() > self.fraction.0 && fraction.ends_with('0') {
            fraction = &fraction[..fraction.len() - 1];
        }
        let whole = if whole.is_empty() && fraction.is_empty() { "0".into() } else { whole };
        let mut out = String::from(if negative { "-" } else { "" });
        for (i, c) in whole.chars().enumerate() {
            if let Some(n) = self.grouping
                && i > 0
                && (whole.len() - i) % n == 0
            {
                out.push(',');
            }
            out.push(c);
        }
        if !fraction.is_empty() {
            out.push('.');
            out.push_str(fraction);
        }
        out
    }
}

fn format_number(c: Call) -> Result<Typed> {
    let mut c = c.count(2, 2)?;
    let name = c.name;
    let second = c.args.remove(1);
    let first = c.args.remove(0);
    if first.data_type == DataType::Utf8 {
        return Err(c.error("a number is expected"));
    }
    let first = Number.take(name, 0, first)?;
    let first = match (is_float(&first.data_type), decimal_of(&first.data_type)) {
        (false, Some((p, s))) => implicit(first, &DataType::Decimal128(p, s))?,
        _ => implicit(first, &DataType::Float64)?,
    };
    let scale = match first.data_type {
        DataType::Decimal128(_, s) => s,
        _ => 0,
    };
    if second.data_type == DataType::Utf8 {
        if let Some(pattern) = second.text().filter(|p| Layout::read(p).is_none()) {
            return Err(
                c.error(format!("the pattern '{pattern}' has characters other than #, 0, the comma and one point"))
            );
        }
        c.args = vec![first, second];
        return c.build(DataType::Utf8, move |a| {
            let (x, pattern) = (number(a, scale)?, a.str(1)?);
            strings(a.rows, |i| {
                let (x, pattern) = (get!(x(i)), get!(pattern.get(i)));
                let layout =
                    Layout::read(pattern).ok_or_else(|| row_error("format_number: a pattern is not supported"))?;
                Ok(Some(layout.write(&x)))
            })
        });
    }
    c.args = vec![first, Int.take(name, 1, second)?];
    c.build_nullable(DataType::Utf8, move |a| {
        let (x, n) = (number(a, scale)?, a.num::<Int32Type>(1)?);
        strings(a.rows, |i| {
            let (x, n) = (get!(x(i)), get!(n.get(i)));
            match usize::try_from(n) {
                Ok(n) if n <= 340 => Ok(Some(Layout::of_digits(n).write(&x))),
                Ok(_) => Err(row_error("format_number: more than 340 digits")),
                Err(_) => Ok(None),
            }
        })
    })
}

/// A number to another base, as Hive does it: with a negative base the result has a sign, and otherwise it is the
/// number as 64 bits without a sign.
fn convert(text: &str, from: i32, to: i32) -> DfResult<Option<String>> {
    let base = |b: u32| (2..=36).contains(&b);
    let text = text.trim_matches(' ');
    if !base(from.unsigned_abs()) || from < 0 || !base(to.unsigned_abs()) || text.is_empty() {
        return Ok(None);
    }
    let (mut negative, digits) = text.strip_prefix('-').map_or((false, text), |d| (true, d));
    let mut value = 0u64;
    for digit in digits.chars().map_while(|c| c.to_digit(from as u32)) {
        value = value
            .checked_mul(from as u64)
            .and_then(|v| v.checked_add(u64::from(digit)))
            .ok_or_else(|| row_error(OVERFLOW))?;
    }
    if negative && to > 0 {
        value = if (value as i64) < 0 { u64::MAX } else { (value as i64).wrapping_neg() as u64 };
    }
    if to < 0 && (value as i64) < 0 {
        value = value.wrapping_neg();
        negative = true;
    }
    let mut out = vec![];
    let to_base = u64::from(to.unsigned_abs());
    while value > 0 || out.is_empty() {
        out.push(char::from_digit((value % to_base) as u32, to.unsigned_abs()).unwrap_or('0').to_ascii_uppercase());
        value /= to_base;
    }
    if negative && to < 0 {
        out.push('-');
    }
    Ok(Some(out.into_iter().rev().collect()))
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Sign {
    None,
    /// S: + or -.
    Always,
    /// MI: a minus, or a blank.
    Minus,
    /// PR: in angle brackets.
    Angle,
}

/// A format of `to_number` and `to_char`.
#[derive(Clone, Debug)]
struct Format {
    /// The signs in front, and behind.
    signs: [Sign; 2],
    dollar: bool,
    /// `0`, `9` and `,`.
    whole: Vec<char>,
    point: bool,
    fraction: usize,
}

impl Format {
    fn read(text: &str) -> Result<Self, String> {
        let upper = text.to_uppercase();
        let mut rest = upper.as_str();
        let mut out = Self { signs: [Sign::None; 2], dollar: false, whole: vec![], point: false, fraction: 0 };
        let sign = |rest: &mut &str| {
            for (word, sign) in [("S", Sign::Always), ("MI", Sign::Minus), ("PR", Sign::Angle)] {
                if let Some(after) = rest.strip_prefix(word) {
                    *rest = after;
                    return sign;
                }
            }
            Sign::None
        };
        out.signs[0] = sign(&mut rest);
        if let Some(after) = rest.strip_prefix('$') {
            (out.dollar, rest) = (true, after);
        }
        while let Some(c) = rest.chars().next().filter(|c| matches!(c, '0' | '9' | ',' | 'G')) {
            out.whole.push(if c == 'G' { ',' } else { c });
            rest = &rest[1..];
        }
        if rest.starts_with(['.', 'D']) {
            out.point = true;
            rest = &rest[1..];
            out.fraction = rest.chars().take_while(|c| matches!(c, '0' | '9')).count();
            rest = &rest[out.fraction..];
        }
        out.signs[1] = sign(&mut rest);
        let digits = out.digits() + out.fraction;
        if !rest.is_empty() || out.signs[0] == Sign::Angle || out.signs[0] != Sign::None && out.signs[1] != Sign::None {
            return Err(format!("the format '{text}' has a character that Spark's formats do not have at this place"));
        }
        if digits == 0 || digits > 38 || out.whole.first() == Some(&',') || out.whole.last() == Some(&',') {
            return Err(format!(
                "the format '{text}' has no digits, or too many, or a comma without a digit on both sides"
            ));
        }
        Ok(out)
    }

    fn digits(&self) -> usize {
        self.whole.iter().filter(|c| **c != ',').count()
    }

    fn sign(&self) -> Sign {
        if self.signs[0] == Sign::None { self.signs[1] } else { self.signs[0] }
    }

    /// The number in units of the last digit.
    fn parse(&self, text: &str) -> Option<i128> {
        let mut rest = text.trim_start_matches(' ');
        let mut negative = false;
        let mut take_sign = |rest: &mut &str, sign: Sign| -> Option<()> {
            let plus = sign == Sign::Always;
            match (sign, rest.as_bytes().first()) {
                (Sign::Always | Sign::Minus, Some(b'-')) => (negative, *rest) = (true, &rest[1..]),
                (_, Some(b'+')) if plus => *rest = &rest[1..],
                _ => {}
            }
            Some(())
        };
        take_sign(&mut rest, self.signs[0])?;
        let angle = self.signs[1] == Sign::Angle && rest.starts_with('<');
        if angle {
            rest = rest[1..].strip_suffix('>')?;
        }
        if self.dollar {
            rest = rest.strip_prefix('$')?;
        }
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(rest.len());
        let (whole, behind) = rest.split_at(end);
        rest = behind;
        let digits: String = whole.chars().filter(char::is_ascii_digit).collect();
        let fixed = self.whole.first() == Some(&'0');
        if digits.len() > self.digits() || fixed && digits.len() != self.digits() {
            return None;
        }
        // Commas must be where the format has them, counted from the right.
        let places = |text: &mut dyn Iterator<Item = char>| {
            let mut seen = 0;
            text.filter_map(|c| {
                if c == ',' {
                    Some(seen)
                } else {
                    seen += 1;
                    None
                }
            })
            .collect::<Vec<usize>>()
        };
        let allowed = places(&mut self.whole.iter().rev().copied());
        if places(&mut whole.chars().rev()).iter().any(|p| !allowed.contains(p)) {
            return None;
        }
        let mut fraction = "";
        if self.point && rest.starts_with('.') {
            let n = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
            (fraction, rest) = rest[1..].split_at(n);
        }
        // As in Spark, no digits at all are 0 where the format has digits behind the point.
        if fraction.len() > self.fraction || digits.is_empty() && self.fraction == 0 {
            return None;
        }
        take_sign(&mut rest, self.signs[1])?;
        if !rest.is_empty() {
            return None;
        }
        let value: i128 = format!("{digits}{fraction:0<0$}", self.fraction).parse().ok()?;
        Some(if negative || angle { -value } else { value })
    }

    /// `value` has `scale` digits behind the point.
    fn write(&self, value: i128, scale: usize) -> String {
        let text = decimal_text(value.unsigned_abs() as i128, scale as i8);
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        let too_long = whole.len() > self.digits() || fraction.len() > self.fraction;
        let sign = self.sign();
        let negative = value < 0;
        let mut body = String::new();
        if too_long {
            body.extend(self.whole.iter().map(|c| if *c == ',' { ' ' } else { '#' }));
        } else {
            let mut missing = self.digits() - whole.len();
            let mut digits = whole.chars();
            let mut begun = false;
            for c in &self.whole {
                match c {
                    ',' => body.push(if begun { ',' } else { ' ' }),
                    _ if missing > 0 => {
                        missing -= 1;
                        begun |= *c == '0' || begun;
                        body.push(if begun { '0' } else { ' ' });
                    }
                    _ => {
                        begun = true;
                        body.extend(digits.next());
                    }
                }
            }
        }
        // A sign is written directly in front of the first digit.
        let front = match (sign, negative) {
            (Sign::Always, _) if self.signs[0] == Sign::Always => Some(if negative { '-' } else { '+' }),
            (Sign::Minus, _) if self.signs[0] == Sign::Minus => Some(if negative { '-' } else { ' ' }),
            (Sign::Angle, true) => Some('<'),
            _ => None,
        };
        if let Some(front) = front {
            let blanks = body.len() - body.trim_start_matches(' ').len();
            body.insert(blanks, front);
        }
        if self.point {
            if body.ends_with(' ') {
                body.pop();
                body.push('0');
            }
            body.push('.');
            match too_long {
                true => body.extend(std::iter::repeat_n('#', self.fraction)),
                false => body.push_str(&format!("{fraction:0<0$}", self.fraction)),
            }
        }
        let behind = match (sign, negative) {
            (Sign::Always, _) if self.signs[1] == Sign::Always => {
                if negative {
                    "-"
                } else {
                    "+"
                }
            }
            (Sign::Minus, _) if self.signs[1] == Sign::Minus => {
                if negative {
                    "-"
                } else {
                    " "
                }
            }
            (Sign::Angle, true) => ">",
            (Sign::Angle, false) => "  ",
            _ => "",
        };
        format!("{}{body}{behind}", if self.dollar { "$" } else { "" })
    }
}

fn constant_format(c: &Call) -> Result<Format> {
    let Some(text) = c.args[1].text() else { return Err(c.error("the format must be a constant")) };
    Format::read(text).map_err(|why| c.error(why))
}

fn to_number(c: Call, r#try: bool) -> Result<Typed> {
    let c = c.take(&[Text, Text], 2)?;
    let format = constant_format(&c)?;
    let to = DataType::Decimal128((format.digits() + format.fraction) as u8, format.fraction as i8);
    let out = to.clone();
    let kernel = move |a: &Args| {
        let s = a.str(0)?;
        nums_as::<Decimal128Type>(a.rows, &out, |i| match format.parse(get!(s.get(i))) {
            None if !r#try => Err(row_error("a text does not match the format")),
            value => Ok(value),
        })
    };
    if r#try { c.build_nullable(to, kernel) } else { c.build(to, kernel) }
}

fn to_char(mut c: Call) -> Result<Typed> {
    c = c.count(2, 2)?;
    let t = c.args[0].data_type.clone();
    if t == DataType::Date32 || is_timestamp(&t) {
        return super::call("date_format", c.args);
    }
    if t == DataType::Binary {
        let format = c.args[1].text().map(str::to_lowercase).unwrap_or_default();
        let name = match format.as_str() {
            "hex" => "hex",
            "base64" => "base64",
            "utf-8" => return super::call("decode", c.args),
            _ => return Err(c.error("the format of bytes is 'base64', 'hex' or 'utf-8'")),
        };
        c.args.truncate(1);
        return super::call(name, c.args);
    }
    c.sql = format!("to_char({}, {})", c.args[0].sql, c.args[1].sql);
    let format = constant_format(&c)?;
    let first = c.args.remove(0);
    let to = match &t {
        t if is_int(t) => decimal_of(t).map_or(DataType::Decimal128(20, 0), |(p, s)| DataType::Decimal128(p, s)),
        DataType::Decimal128(..) => t.clone(),
        DataType::Float32 => DataType::Decimal128(14, 7),
        DataType::Float64 => DataType::Decimal128(30, 15),
        DataType::Utf8 | DataType::Null => DataType::Decimal128(38, 18),
        _ => return Err(c.error("a number, a time or bytes are expected")),
    };
    let DataType::Decimal128(_, scale) = to else { return Err(c.error("a number is expected")) };
    let shown = first.sql.clone();
    c.args.insert(0, explicit(first, &to, false)?.named(shown));
    c.build_nullable(DataType::Utf8, move |a| {
        let x = a.num::<Decimal128Type>(0)?;
        strings(a.rows, |i| Ok(x.get(i).map(|v| format.write(v, scale.unsigned_abs().into()))))
    })
}
