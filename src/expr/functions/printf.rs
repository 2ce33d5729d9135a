//! `format_string`: Java's `Formatter` for the values that Spark passes to it.

use super::{Call, Spec, spec};
use crate::Result;
use crate::expr::coerce::Param::Text;
use crate::expr::coerce::is_int;
use crate::expr::evaluate::row_error;
use crate::expr::kernel::{Args, written};
use crate::expr::node::Typed;
use crate::expr::text::{decimal_text, java_double, java_float};
use arrow::array::{Array, AsArray};
use arrow::datatypes::*;
use datafusion::error::Result as DfResult;

pub(super) const LIST: &[Spec] = &[
    spec("format_string", "format_string(format, a, b, …)", printf),
    spec("printf", "printf(format, a, b, …)", printf),
];

enum Value<'a> {
    Null,
    /// The number, and its bits.
    Int(i64, u32),
    Double(f64),
    Float(f32),
    Bool(bool),
    Text(&'a str),
    Decimal(String),
}

fn value(a: &Args, k: usize, row: usize) -> Value<'_> {
    let (array, i) = (a.array(k), row & a.mask(k));
    if array.is_null(i) {
        return Value::Null;
    }
    macro_rules! number {
        ($t:ty) => {
            array.as_primitive::<$t>().value(i)
        };
    }
    match array.data_type() {
        DataType::Int8 => Value::Int(number!(Int8Type).into(), 8),
        DataType::Int16 => Value::Int(number!(Int16Type).into(), 16),
        DataType::Int32 => Value::Int(number!(Int32Type).into(), 32),
        // As in Spark, times are the numbers that they are made of.
        DataType::Date32 => Value::Int(number!(Date32Type).into(), 32),
        DataType::Timestamp(..) => Value::Int(number!(TimestampMicrosecondType), 64),
        DataType::Int64 => Value::Int(number!(Int64Type), 64),
        DataType::Float32 => Value::Float(number!(Float32Type)),
        DataType::Float64 => Value::Double(number!(Float64Type)),
        DataType::Boolean => Value::Bool(array.as_boolean().value(i)),
        DataType::Decimal128(_, s) => Value::Decimal(decimal_text(number!(Decimal128Type), *s)),
        DataType::Utf8 => Value::Text(array.as_string::<i32>().value(i)),
        _ => Value::Null,
    }
}

fn printf(c: Call) -> Result<Typed> {
    if c.args.is_empty() {
        return Err(c.error("a format is expected"));
    }
    let name = c.name;
    let allowed = |t: &DataType| {
        is_int(t)
            || matches!(
                t,
                DataType::Float32
                    | DataType::Float64
                    | DataType::Boolean
                    | DataType::Decimal128(..)
                    | DataType::Utf8
                    | DataType::Date32
                    | DataType::Timestamp(..)
                    | DataType::Null
            )
    };
    if let Some(wrong) = c.args[1..].iter().find(|a| !allowed(&a.data_type)) {
        return Err(c.error(format!("{} has no format. Use CAST(… AS STRING) or hex", wrong.sql)));
    }
    let mut c = c;
    let format = Text.take(name, 0, c.args.remove(0))?;
    let nullable = format.nullable;
    if let Some(why) = format.text().and_then(|f| pieces(f).err()) {
        return Err(c.error(why));
    }
    c.args.insert(0, format);
    let mut typed = c.build(DataType::Utf8, |a| {
        let format = a.str(0)?;
        let mut last: Option<(String, Vec<Piece>)> = None;
        written(a.rows, |row, out| {
            let Some(text) = format.get(row) else { return Ok(false) };
            if last.as_ref().is_none_or(|(t, _)| t != text) {
                last = Some((text.to_string(), pieces(text).map_err(row_error)?));
            }
            let mut next = 0;
            for piece in last.iter().flat_map(|(_, p)| p) {
                match piece {
                    Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                    Piece::Value(spec) => {
                        let k = spec.index.unwrap_or_else(|| {
                            next += 1;
                            next
                        });
                        if k >= a.len() {
                            return Err(row_error("format_string: the format uses more values than the call has"));
                        }
                        out.extend_from_slice(spec.write(&value(a, k, row))?.as_bytes());
                    }
                }
            }
            Ok(true)
        })
    })?;
    typed.nullable = nullable;
    Ok(typed)
}

enum Piece {
    Literal(String),
    Value(Conversion),
}

struct Conversion {
    index: Option<usize>,
    left: bool,
    plus: bool,
    blank: bool,
    zero: bool,
    group: bool,
    brackets: bool,
    width: usize,
    precision: Option<usize>,
    upper: bool,
    kind: char,
}

/// `%[index$][flags][width][.precision]conversion`. The error says what Java refuses.
fn pieces(format: &str) -> Result<Vec<Piece>, &'static str> {
    let mut out = vec![];
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        if at > 0 {
            out.push(Piece::Literal(rest[..at].to_string()));
        }
        rest = &rest[at + 1..];
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let mut index = None;
        let n = digits(rest);
        if n > 0 && rest[n..].starts_with('$') {
            index = Some(rest[..n].parse().map_err(|_| "an index in the format is too large")?);
            rest = &rest[n + 1..];
        }
        let mut c = Conversion {
            index,
            left: false,
            plus: false,
            blank: false,
            zero: false,
            group: false,
            brackets: false,
            width: 0,
            precision: None,
            upper: false,
            kind: ' ',
        };
        while let Some(flag) = rest.chars().next() {
            match flag {
                '-' => c.left = true,
                '+' => c.plus = true,
                ' ' => c.blank = true,
                '0' => c.zero = true,
                ',' => c.group = true,
                '(' => c.brackets = true,
                _ => break,
            }
            rest = &rest[1..];
        }
        let n = digits(rest);
        if n > 0 {
            c.width = rest[..n].parse().ok().filter(|w| *w <= 1_000_000).ok_or("a width in the format is too large")?;
            rest = &rest[n..];
        }
        if let Some(after) = rest.strip_prefix('.') {
            let n = digits(after);
            c.precision =
                Some(after[..n].parse().ok().filter(|p| *p <= 1000).ok_or("the format has a wrong precision")?);
            rest = &after[n..];
        }
        let kind = rest.chars().next().ok_or("the format ends with a %")?;
        rest = &rest[kind.len_utf8()..];
        c.upper = kind.is_ascii_uppercase();
        c.kind = kind.to_ascii_lowercase();
        match kind {
            '%' => out.push(Piece::Literal(format!("{:>1$}", "%", c.width))),
            'n' => out.push(Piece::Literal("\n".into())),
            's' | 'S' | 'd' | 'x' | 'X' | 'o' | 'f' | 'e' | 'E' | 'g' | 'G' | 'b' | 'B' | 'c' | 'C' => {
                if c.left && (c.zero || c.width == 0) || c.plus && c.blank {
                    return Err("the format has flags that cannot be combined");
                }
                out.push(Piece::Value(c));
            }
            _ => return Err("the format has a conversion that is not supported"),
        }
    }
    if !rest.is_empty() {
        out.push(Piece::Literal(rest.to_string()));
    }
    Ok(out)
}

/// The shortest digits of a number, rounded half up to some behind the point, as Java's %f does.
fn fixed(x: f64, digits: usize) -> String {
    let short = format!("{x:e}");
    let (mantissa, exponent) = short.split_once('e').unwrap_or((&short, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let all: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).map(|b| b - b'0').collect();
    // The value is 0.all * 10^(exponent + 1).
    let keep = exponent + 1 + digits as i32;
    let mut kept: Vec<u8> = match keep {
        ..0 => vec![],
        _ => all.iter().copied().chain(std::iter::repeat(0)).take(keep as usize).collect(),
    };
    let up = keep >= 0 && all.get(keep as usize).is_some_and(|d| *d >= 5);
    if up {
        let mut at = kept.len();
        loop {
            if at == 0 {
                kept.insert(0, 1);
                break;
            }
            at -= 1;
            if kept[at] == 9 {
                kept[at] = 0;
            } else {
                kept[at] += 1;
                break;
            }
        }
    }
    while kept.len() <= digits {
        kept.insert(0, 0);
    }
    let text: String = kept.iter().map(|d| char::from(b'0' + d)).collect();
    let (whole, fraction) = text.split_at(text.len() - digits);
    if digits == 0 { whole.to_string() } else { format!("{whole}.{fraction}") }
}

/// `1.234568e+06`.
fn scientific(x: f64, digits: usize) -> String {
    if x == 0.0 {
        return format!("{}e+00", fixed(0.0, digits));
    }
    let short = format!("{x:e}");
    let mut exponent: i32 = short.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let mantissa: f64 = short.split_once('e').and_then(|(m, _)| m.parse().ok()).unwrap_or(0.0);
    let mut text = fixed(mantissa, digits);
    if text.starts_with("10") {
        text = fixed(1.0, digits);
        exponent += 1;
    }
    format!("{text}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

impl Conversion {
    fn write(&self, value: &Value<'_>) -> DfResult<String> {
        let wrong = || row_error("format_string: a value does not fit its conversion");
        let (text, number) = match (self.kind, value) {
            ('b', Value::Null) => ("false".to_string(), false),
            (_, Value::Null) => ("null".to_string(), false),
            ('s', Value::Text(s)) => (s.to_string(), false),
            ('s', Value::Int(v, _)) => (v.to_string(), false),
            ('s', Value::Double(v)) => (java_double(*v), false),
            ('s', Value::Float(v)) => (java_float(*v), false),
            ('s' | 'b', Value::Bool(v)) => (v.to_string(), false),
            ('s', Value::Decimal(v)) => (v.clone(), false),
            ('b', _) => ("true".to_string(), false),
            ('d', Value::Int(v, _)) => (self.signed(*v < 0, v.unsigned_abs().to_string()), true),
            ('x' | 'o', Value::Int(v, bits)) => {
                let mask = if *bits == 64 { u64::MAX } else { (1 << bits) - 1 };
                let bits = *v as u64 & mask;
                (if self.kind == 'x' { format!("{bits:x}") } else { format!("{bits:o}") }, true)
            }
            ('c', Value::Int(v, _)) => {
                let c = u32::try_from(*v).ok().and_then(char::from_u32).ok_or_else(wrong)?;
                (c.to_string(), false)
            }
            ('f' | 'e' | 'g', Value::Double(_) | Value::Float(_)) => {
                let x = match value {
                    Value::Double(v) => *v,
                    // As in Java, the digits are those of the float.
                    Value::Float(v) => v.to_string().parse().unwrap_or(f64::from(*v)),
                    _ => 0.0,
                };
                if x.is_nan() {
                    return Ok(self.padded("NaN".into(), false));
                }
                if x.is_infinite() {
                    return Ok(self.padded(self.signed(x < 0.0, "Infinity".into()), false));
                }
                let (negative, x) = (x.is_sign_negative(), x.abs());
                let digits = self.precision.unwrap_or(6);
                let text = match self.kind {
                    'f' => fixed(x, digits),
                    'e' => scientific(x, digits),
                    _ => {
                        let digits = digits.max(1);
                        let rounded: f64 = scientific(x, digits - 1).parse().unwrap_or(x);
                        if x == 0.0 {
                            fixed(0.0, digits - 1)
                        } else if (1e-4..10f64.powi(digits as i32)).contains(&rounded) {
                            let whole = rounded.log10().floor() as i32 + 1;
                            fixed(x, (digits as i32 - whole).max(0) as usize)
                        } else {
                            scientific(x, digits - 1)
                        }
                    }
                };
                (self.signed(negative, text), true)
            }
            _ => return Err(wrong()),
        };
        let text = match self.precision {
            Some(n) if !number && !matches!(self.kind, 'c') => text.chars().take(n).collect(),
            _ => text,
        };
        Ok(self.padded(text, number))
    }

    fn signed(&self, negative: bool, digits: String) -> String {
        let digits = match digits.find(['.', 'e']).unwrap_or(digits.len()) {
            end if self.group && digits.starts_with(|c: char| c.is_ascii_digit()) => {
                let mut out = String::new();
                for (i, c) in digits[..end].chars().enumerate() {
                    if i > 0 && (end - i) % 3 == 0 {
                        out.push(',');
                    }
                    out.push(c);
                }
                out + &digits[end..]
            }
            _ => digits,
        };
        match negative {
            true if self.brackets => format!("({digits})"),
            true => format!("-{digits}"),
            false if self.plus => format!("+{digits}"),
            false if self.blank => format!(" {digits}"),
            false => digits,
        }
    }

    fn padded(&self, text: String, number: bool) -> String {
        let text = if self.upper { text.to_uppercase() } else { text };
        let missing = self.width.saturating_sub(text.chars().count());
        if self.left {
            return text + &" ".repeat(missing);
        }
        if self.zero && number {
            let at = usize::from(text.starts_with(['-', '+', ' ', '(']));
            return format!("{}{}{}", &text[..at], "0".repeat(missing), &text[at..]);
        }
        " ".repeat(missing) + &text
    }
}
