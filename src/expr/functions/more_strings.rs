//! The less common functions of strings.

use super::strings::slice;
use super::{Call, Spec, get, spec};
use crate::Result;
use crate::expr::coerce::Param::{Bytes, Int, Text, TextOrBytes};
use crate::expr::compare::{RegexCache, constant_regex};
use crate::expr::ddl::map_of;
use crate::expr::evaluate::row_error;
use crate::expr::kernel::{Args, binaries, bools, nums, strings, written};
use crate::expr::node::Typed;
use arrow::array::{ArrayRef, MapBuilder, MapFieldNames, StringBuilder};
use arrow::datatypes::{DataType, Int32Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use std::sync::Arc;

const STRING: DataType = DataType::Utf8;

pub(super) const LIST: &[Spec] = &[
    spec("mask", "mask(str[, upper[, lower[, digit[, other]]]])", mask),
    spec("soundex", "soundex(str)", |c| {
        c.take(&[Text], 1)?.build(STRING, |a| {
            let s = a.str(0)?;
            strings(a.rows, |i| Ok(s.get(i).map(soundex)))
        })
    }),
    spec("overlay", "overlay(str PLACING new FROM pos [FOR len]), overlay(str, new, pos[, len])", overlay),
    spec("elt", "elt(n, a, b, …)", elt),
    spec("find_in_set", "find_in_set(str, commaSeparated)", |c| {
        c.take(&[Text, Text], 2)?.build(DataType::Int32, |a| {
            let (s, list) = (a.str(0)?, a.str(1)?);
            nums::<Int32Type>(a.rows, |i| {
                let (s, list) = (get!(s.get(i)), get!(list.get(i)));
                if s.contains(',') {
                    return Ok(Some(0));
                }
                Ok(Some(list.split(',').position(|part| part == s).map_or(0, |k| k as i32 + 1)))
            })
        })
    }),
    spec("luhn_check", "luhn_check(str)", |c| {
        c.take(&[Text], 1)?.build(DataType::Boolean, |a| {
            let s = a.str(0)?;
            bools(a.rows, |i| Ok(s.get(i).map(luhn)))
        })
    }),
    spec("is_valid_utf8", "is_valid_utf8(str)", |c| {
        c.take(&[Bytes], 1)?.build(DataType::Boolean, |a| {
            let b = a.bytes(0)?;
            bools(a.rows, |i| Ok(b.get(i).map(|b| std::str::from_utf8(b).is_ok())))
        })
    }),
    spec("make_valid_utf8", "make_valid_utf8(str)", |c| {
        c.take(&[Bytes], 1)?.build(STRING, |a| {
            let b = a.bytes(0)?;
            strings(a.rows, |i| Ok(b.get(i).map(String::from_utf8_lossy)))
        })
    }),
    spec("validate_utf8", "validate_utf8(str)", |c| utf8(c, false)),
    spec("try_validate_utf8", "try_validate_utf8(str)", |c| utf8(c, true)),
    spec("to_binary", "to_binary(str[, format])", |c| to_binary(c, false)),
    spec("try_to_binary", "try_to_binary(str[, format])", |c| to_binary(c, true)),
    spec("str_to_map", "str_to_map(str[, pairDelimiter[, keyValueDelimiter]])", str_to_map),
    spec("charindex", "charindex(part, str[, pos])", |c| {
        let sql = c.sql.clone();
        super::call("locate", c.args).map(|t| t.named(sql))
    }),
];

fn utf8(c: Call, r#try: bool) -> Result<Typed> {
    let kernel = move |a: &Args| {
        let b = a.bytes(0)?;
        strings(a.rows, |i| match std::str::from_utf8(get!(b.get(i))) {
            Ok(text) => Ok(Some(text)),
            Err(_) if r#try => Ok(None),
            Err(_) => Err(row_error("a value is not UTF-8")),
        })
    };
    let c = c.take(&[Bytes], 1)?;
    if r#try { c.build_nullable(STRING, kernel) } else { c.build(STRING, kernel) }
}

/// Each letter and digit becomes the character of its kind; NULL keeps it.
fn mask(mut c: Call) -> Result<Typed> {
    c = c.count(1, 5)?;
    let defaults = [Some("X"), Some("x"), Some("n"), None];
    while c.args.len() < 5 {
        c.args.push(match defaults[c.args.len() - 1] {
            Some(text) => Typed::literal(text.into(), text),
            None => Typed::literal(ScalarValue::Utf8(None), "NULL"),
        });
    }
    let shown: Vec<&str> = c.args.iter().map(|a| a.sql.as_str()).collect();
    c.sql = format!("mask({})", shown.join(", "));
    if let Some(wrong) = c.args[1..].iter().find_map(|a| a.text().filter(|t| t.chars().count() != 1)) {
        return Err(c.error(format!("'{wrong}' is not one character")));
    }
    // Only a NULL text gives NULL.
    let nullable = c.args[0].nullable;
    let mut typed = c.take(&[Text; 5], 5)?.build(STRING, |a| {
        let s = a.str(0)?;
        let by = (1..5).map(|k| a.str(k)).collect::<DfResult<Vec<_>>>()?;
        written(a.rows, |i, out| {
            let Some(text) = s.get(i) else { return Ok(false) };
            let mut to = [None; 4];
            for (to, by) in to.iter_mut().zip(&by) {
                if let Some(by) = by.get(i) {
                    let mut chars = by.chars();
                    let (Some(one), None) = (chars.next(), chars.next()) else {
                        return Err(row_error("mask: a replacement is not one character"));
                    };
                    *to = Some(one);
                }
            }
            for c in text.chars() {
                let kind = match c {
                    c if c.is_uppercase() => 0,
                    c if c.is_lowercase() => 1,
                    c if c.is_ascii_digit() => 2,
                    _ => 3,
                };
                out.extend_from_slice(to[kind].unwrap_or(c).encode_utf8(&mut [0; 4]).as_bytes());
            }
            Ok(true)
        })
    })?;
    typed.nullable = nullable;
    Ok(typed)
}

fn soundex(s: &str) -> String {
    // H and W do not separate equal codes. Other letters without a code do separate them.
    const CODES: &[u8; 26] = b"01230127022455012623017202";
    let mut bytes = s.bytes().map(|b| b.to_ascii_uppercase());
    let Some(first) = bytes.next().filter(u8::is_ascii_uppercase) else { return s.to_string() };
    let mut out = String::with_capacity(4);
    out.push(char::from(first));
    let mut last = CODES[usize::from(first - b'A')];
    for b in bytes {
        if !b.is_ascii_uppercase() {
            last = b'0';
            continue;
        }
        let code = CODES[usize::from(b - b'A')];
        if code == b'7' {
            continue;
        }
        if code != b'0' && code != last {
            out.push(char::from(code));
            if out.len() == 4 {
                break;
            }
        }
        last = code;
    }
    while out.len() < 4 {
        out.push('0');
    }
    out
}

fn luhn(s: &str) -> bool {
    let digits = s.bytes().rev().enumerate().map(|(i, b)| match b {
        b'0'..=b'9' if i % 2 == 1 => Some(u32::from(b - b'0') * 2).map(|d| if d > 9 { d - 9 } else { d }),
        b'0'..=b'9' => Some(u32::from(b - b'0')),
        _ => None,
    });
    !s.is_empty() && digits.sum::<Option<u32>>().is_some_and(|sum| sum % 10 == 0)
}

/// As `UTF8String.substringSQL` for bytes.
pub(super) fn bytes_slice(b: &[u8], position: i32, len: i32) -> &[u8] {
    let (position, len) = (i64::from(position), i64::from(len));
    if len <= 0 {
        return &[];
    }
    let start = match position {
        0 => 0,
        p if p > 0 => p - 1,
        p => b.len() as i64 + p,
    };
    let end = start.saturating_add(len).clamp(0, b.len() as i64);
    let start = start.clamp(0, b.len() as i64);
    if end <= start { &[] } else { &b[start as usize..end as usize] }
}

/// As in Java, positions wrap around.
fn overlay(mut c: Call) -> Result<Typed> {
    c = c.count(3, 4)?;
    if c.args.len() == 3 {
        c.args.push(Typed::literal((-1i32).into(), "-1"));
        c.sql = format!("overlay({}, {}, {}, -1)", c.args[0].sql, c.args[1].sql, c.args[2].sql);
    }
    let binary = c.args[0].data_type == DataType::Binary && c.args[1].data_type == DataType::Binary;
    if binary {
        return c.take(&[Bytes, Bytes, Int, Int], 4)?.build(DataType::Binary, |a| {
            let (s, new) = (a.bytes(0)?, a.bytes(1)?);
            let (pos, len) = (a.num::<Int32Type>(2)?, a.num::<Int32Type>(3)?);
            binaries(a.rows, |i| {
                let (s, new, pos, len) = (get!(s.get(i)), get!(new.get(i)), get!(pos.get(i)), get!(len.get(i)));
                let len = if len < 0 { new.len() as i32 } else { len };
                let head = bytes_slice(s, 1, pos.wrapping_sub(1));
                let tail = bytes_slice(s, pos.wrapping_add(len), i32::MAX);
                Ok(Some([head, new, tail].concat()))
            })
        });
    }
    c.take(&[Text, Text, Int, Int], 4)?.build(STRING, |a| {
        let (s, new) = (a.str(0)?, a.str(1)?);
        let (pos, len) = (a.num::<Int32Type>(2)?, a.num::<Int32Type>(3)?);
        written(a.rows, |i, out| {
            let (Some(s), Some(new), Some(pos), Some(len)) = (s.get(i), new.get(i), pos.get(i), len.get(i)) else {
                return Ok(false);
            };
            let len = if len < 0 { new.chars().count() as i32 } else { len };
            out.extend_from_slice(slice(s, 1, pos.wrapping_sub(1)).as_bytes());
            out.extend_from_slice(new.as_bytes());
            out.extend_from_slice(slice(s, pos.wrapping_add(len), i32::MAX).as_bytes());
            Ok(true)
        })
    })
}

fn elt(c: Call) -> Result<Typed> {
    let most = c.args.len();
    if most < 2 {
        return Err(c.error("a number and values are expected"));
    }
    let binary = c.args[1..].iter().all(|a| a.data_type == DataType::Binary);
    let mut params = vec![if binary { Bytes } else { Text }; most];
    params[0] = Int;
    let c = c.take(&params, most)?;
    fn pick(n: i32, count: usize) -> DfResult<usize> {
        usize::try_from(n).ok().filter(|n| (1..count).contains(n)).ok_or_else(|| row_error("there is no such argument"))
    }
    if binary {
        return c.build_nullable(DataType::Binary, |a| {
            let n = a.num::<Int32Type>(0)?;
            let values = (1..a.len()).map(|k| a.bytes(k)).collect::<DfResult<Vec<_>>>()?;
            binaries(a.rows, |i| Ok(values[pick(get!(n.get(i)), a.len())? - 1].get(i)))
        });
    }
    c.build_nullable(STRING, |a| {
        let n = a.num::<Int32Type>(0)?;
        let values = (1..a.len()).map(|k| a.str(k)).collect::<DfResult<Vec<_>>>()?;
        strings(a.rows, |i| Ok(values[pick(get!(n.get(i)), a.len())? - 1].get(i)))
    })
}

fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine;
    use base64::engine::{DecodePaddingMode, GeneralPurposeConfig, general_purpose::GeneralPurpose};
    const LOOSE: GeneralPurpose = GeneralPurpose::new(
        &base64::alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    let plain: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    LOOSE.decode(plain).ok()
}

fn to_binary(mut c: Call, r#try: bool) -> Result<Typed> {
    c = c.count(1, 2)?;
    if c.args.len() == 1 {
        c.args.push(Typed::literal("hex".into(), "hex"));
    }
    if c.args[1].is_null_literal() {
        return Ok(Typed::null(&DataType::Binary).named(c.sql));
    }
    let Some(format) = c.args[1].text().map(str::to_lowercase) else {
        return Err(c.error("the format must be a constant"));
    };
    if !matches!(format.as_str(), "hex" | "utf-8" | "utf8" | "base64") {
        return Err(c.error(format!("the format is 'hex', 'utf-8' or 'base64', not '{format}'")));
    }
    let kernel = move |a: &Args| {
        let s = a.str(0)?;
        binaries(a.rows, |i| {
            let text = get!(s.get(i));
            let bytes = match format.as_str() {
                "hex" => {
                    let padded = if text.len() % 2 == 1 { format!("0{text}") } else { text.to_string() };
                    let digit = |d: u8| char::from(d).to_digit(16);
                    let pair = |d: &[u8]| Some((digit(d[0])? * 16 + digit(d[1])?) as u8);
                    padded.as_bytes().chunks(2).map(pair).collect()
                }
                "base64" => base64(text),
                _ => Some(text.as_bytes().to_vec()),
            };
            match bytes {
                None if !r#try => Err(row_error("a text is not in this format")),
                bytes => Ok(bytes),
            }
        })
    };
    let c = c.take(&[Text, Text], 2)?;
    if r#try { c.build_nullable(DataType::Binary, kernel) } else { c.build(DataType::Binary, kernel) }
}

fn str_to_map(mut c: Call) -> Result<Typed> {
    c = c.count(1, 3)?;
    for default in [",", ":"].iter().skip(c.args.len() - 1) {
        c.args.push(Typed::literal((*default).into(), *default));
    }
    c.sql = format!("str_to_map({}, {}, {})", c.args[0].sql, c.args[1].sql, c.args[2].sql);
    let c = c.take(&[Text, Text, Text], 3)?;
    let (pairs, values) = (constant_regex(c.name, &c.args[1])?, constant_regex(c.name, &c.args[2])?);
    c.build(map_of(STRING, STRING), move |a| -> DfResult<ArrayRef> {
        let (s, pair, value) = (a.str(0)?, a.str(1)?, a.str(2)?);
        let (mut pair_cache, mut value_cache) = (RegexCache::default(), RegexCache::default());
        let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
        let mut out = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
        for i in 0..a.rows {
            let (Some(s), Some(pair), Some(value)) = (s.get(i), pair.get(i), value.get(i)) else {
                out.append(false)?;
                continue;
            };
            let pair = match &pairs {
                Some(regex) => regex.clone(),
                None => pair_cache.get(pair)?,
            };
            let value = match &values {
                Some(regex) => regex.clone(),
                None => value_cache.get(value)?,
            };
            let mut seen: Vec<&str> = vec![];
            for one in super::regex::parts(s, &pair, -1) {
                let both = super::regex::parts(one, &value, 2);
                if seen.contains(&both[0]) {
                    return Err(row_error("str_to_map: a key comes twice"));
                }
                seen.push(both[0]);
                out.keys().append_value(both[0]);
                out.values().append_option(both.get(1));
            }
            out.append(true)?;
        }
        let made: ArrayRef = Arc::new(out.finish());
        Ok(arrow::compute::cast(&made, &map_of(STRING, STRING))?)
    })
}

/// Whether the call is about bytes, for functions that take bytes and texts: `substring(binary, …)`, `left`, `lpad`.
pub(super) fn of_bytes(c: &Call) -> bool {
    c.args.first().is_some_and(|a| a.data_type == DataType::Binary)
}

/// `lpad` and `rpad` of bytes.
pub(super) fn pad_bytes(c: Call, left: bool) -> Result<Typed> {
    c.take(&[Bytes, Int, Bytes], 3)?.build(DataType::Binary, move |a| {
        let (b, n, fill) = (a.bytes(0)?, a.num::<Int32Type>(1)?, a.bytes(2)?);
        binaries(a.rows, |i| {
            let (b, n, fill) = (get!(b.get(i)), get!(n.get(i)), get!(fill.get(i)));
            let wanted = usize::try_from(n).unwrap_or(0);
            if wanted > super::strings::MAX_TEXT {
                return Err(row_error("the bytes would be longer than 64 MiB"));
            }
            if b.len() >= wanted || fill.is_empty() {
                return Ok(Some(b[..wanted.min(b.len())].to_vec()));
            }
            let padding: Vec<u8> = fill.iter().copied().cycle().take(wanted - b.len()).collect();
            Ok(Some(if left { [&padding, b].concat() } else { [b, &padding].concat() }))
        })
    })
}

/// `left`, `right` and `substring` of bytes: the position and the length of each row.
pub(super) fn cut_bytes(c: Call, at: fn(&[Option<i32>]) -> (i32, i32)) -> Result<Typed> {
    let rest = c.args.len();
    let params: Vec<_> = std::iter::once(TextOrBytes).chain(std::iter::repeat_n(Int, rest - 1)).collect();
    c.take(&params, rest)?.build(DataType::Binary, move |a| {
        let b = a.bytes(0)?;
        let numbers = (1..a.len()).map(|k| a.num::<Int32Type>(k)).collect::<DfResult<Vec<_>>>()?;
        binaries(a.rows, |i| {
            let bytes = get!(b.get(i));
            let given: Vec<Option<i32>> = numbers.iter().map(|n| n.get(i)).collect();
            if given.contains(&None) {
                return Ok(None);
            }
            let (position, len) = at(&given);
            Ok(Some(bytes_slice(bytes, position, len)))
        })
    })
}
