//! Strings, hashes and encodings.

use super::more_strings::{cut_bytes, of_bytes, pad_bytes};
use super::{Call, Spec, get, spec};
use crate::Result;
use crate::expr::coerce::Param::{Any, Big, Bytes, Int, Text, TextOrBytes};
use crate::expr::ddl::list_of;
use crate::expr::evaluate::row_error;
use crate::expr::kernel::{binaries, bools, nums, room, strings};
use crate::expr::node::Typed;
use arrow::array::{ArrayBuilder, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type};
use base64::Engine;
use datafusion::error::Result as DfResult;
use std::sync::Arc;

const STRING: DataType = DataType::Utf8;
const INT: DataType = DataType::Int32;

pub(super) const LIST: &[Spec] = &[
    spec("upper", "upper(str)", |c| map(c, |s| s.to_uppercase())),
    spec("ucase", "ucase(str)", |c| map(c, |s| s.to_uppercase())),
    spec("lower", "lower(str)", |c| map(c, |s| s.to_lowercase())),
    spec("lcase", "lcase(str)", |c| map(c, |s| s.to_lowercase())),
    spec("reverse", "reverse(strOrArray)", |c| match c.args.first().map(|a| &a.data_type) {
        Some(DataType::List(_)) => super::arrays::reverse_array(c),
        _ => map(c, |s| s.chars().rev().collect()),
    }),
    spec("initcap", "initcap(str)", |c| map(c, initcap)),
    spec("length", "length(str)", length),
    spec("len", "len(str)", length),
    spec("char_length", "char_length(str)", length),
    spec("character_length", "character_length(str)", length),
    spec("octet_length", "octet_length(str)", |c| bytes_length(c, 1)),
    spec("bit_length", "bit_length(str)", |c| bytes_length(c, 8)),
    spec("ascii", "ascii(str)", |c| {
        c.take(&[Text], 1)?.build(INT, |a| {
            let s = a.str(0)?;
            nums::<Int32Type>(a.rows, |i| Ok(s.get(i).map(|s| s.chars().next().map_or(0, |c| c as i32))))
        })
    }),
    spec("chr", "chr(n)", chr),
    spec("char", "char(n)", chr),
    spec("space", "space(n)", |c| {
        c.take(&[Int], 1)?.build(STRING, |a| {
            let n = a.num::<Int32Type>(0)?;
            strings(a.rows, |i| n.get(i).map(|n| repeated(" ", n)).transpose())
        })
    }),
    spec("repeat", "repeat(str, n)", |c| {
        c.take(&[Text, Int], 2)?.build(STRING, |a| {
            let (s, n) = (a.str(0)?, a.num::<Int32Type>(1)?);
            strings(a.rows, |i| repeated(get!(s.get(i)), get!(n.get(i))).map(Some))
        })
    }),
    spec("trim", "trim(str), trim([BOTH | LEADING | TRAILING] [chars] FROM str)", |c| trim(c, true, true)),
    spec("ltrim", "ltrim([chars,] str)", |c| one_side(c, "trim_leading")),
    spec("rtrim", "rtrim([chars,] str)", |c| one_side(c, "trim_trailing")),
    spec("btrim", "btrim(str[, chars])", |c| trim_chars(c, true, true)),
    spec("trim_both", "trim(BOTH chars FROM str)", |c| trim_chars(c, true, true)),
    spec("trim_leading", "trim(LEADING chars FROM str)", |c| trim_chars(c, true, false)),
    spec("trim_trailing", "trim(TRAILING chars FROM str)", |c| trim_chars(c, false, true)),
    spec("substring", "substring(str, pos[, len])", substring),
    spec("substr", "substr(str, pos[, len])", substring),
    spec("left", "left(str, len)", |c| {
        if of_bytes(&c) {
            return cut_bytes(c.count(2, 2)?, |n| (1, n[0].unwrap_or(0)));
        }
        c.take(&[Text, Int], 2)?.build(STRING, |a| {
            let (s, n) = (a.str(0)?, a.num::<Int32Type>(1)?);
            strings(a.rows, |i| Ok(Some(slice(get!(s.get(i)), 1, get!(n.get(i))))))
        })
    }),
    spec("right", "right(str, len)", |c| {
        c.take(&[Text, Int], 2)?.build(STRING, |a| {
            let (s, n) = (a.str(0)?, a.num::<Int32Type>(1)?);
            strings(a.rows, |i| {
                let (s, n) = (get!(s.get(i)), get!(n.get(i)));
                Ok(Some(if n <= 0 { "" } else { slice(s, n.saturating_neg(), i32::MAX) }))
            })
        })
    }),
    spec("lpad", "lpad(str, len[, pad])", |c| pad(c, true)),
    spec("rpad", "rpad(str, len[, pad])", |c| pad(c, false)),
    spec("concat", "concat(a, b, …)", concat),
    spec("concat_ws", "concat_ws(sep, a, b, …)", concat_ws),
    spec("replace", "replace(str, search[, replace])", |mut c| {
        if c.args.len() == 2 {
            c.sql = format!("replace({}, {}, )", c.args[0].sql, c.args[1].sql);
        }
        c.take(&[Text, Text, Text], 2)?.build(STRING, |a| {
            let (s, from) = (a.str(0)?, a.str(1)?);
            let to = if a.len() > 2 { Some(a.str(2)?) } else { None };
            strings(a.rows, |i| {
                let (s, from) = (get!(s.get(i)), get!(from.get(i)));
                let to = match &to {
                    Some(to) => get!(to.get(i)),
                    None => "",
                };
                Ok(Some(if from.is_empty() { s.to_string() } else { s.replace(from, to) }))
            })
        })
    }),
    spec("translate", "translate(str, from, to)", |c| {
        c.take(&[Text, Text, Text], 3)?.build(STRING, |a| {
            let (s, from, to) = (a.str(0)?, a.str(1)?, a.str(2)?);
            strings(a.rows, |i| {
                let (s, from) = (get!(s.get(i)), get!(from.get(i)));
                let to: Vec<char> = get!(to.get(i)).chars().collect();
                let out: String = s
                    .chars()
                    .filter_map(|c| match from.chars().position(|f| f == c) {
                        None => Some(c),
                        Some(k) => to.get(k).copied(),
                    })
                    .collect();
                Ok(Some(out))
            })
        })
    }),
    spec("contains", "contains(str, part)", |c| test(c, |s, p| s.contains(p))),
    spec("startswith", "startswith(str, part)", |c| test(c, |s, p| s.starts_with(p))),
    spec("endswith", "endswith(str, part)", |c| test(c, |s, p| s.ends_with(p))),
    spec("instr", "instr(str, part)", |c| {
        c.take(&[Text, Text], 2)?.build(INT, |a| {
            let (s, p) = (a.str(0)?, a.str(1)?);
            nums::<Int32Type>(a.rows, |i| Ok(Some(find(get!(p.get(i)), get!(s.get(i)), 1))))
        })
    }),
    spec("locate", "locate(part, str[, pos])", locate),
    spec("position", "position(part IN str), position(part, str[, pos])", locate),
    spec("split", "split(str, regex[, limit])", super::regex::split),
    spec("split_part", "split_part(str, delimiter, n)", |c| {
        c.take(&[Text, Text, Int], 3)?.build(STRING, |a| {
            let (s, d, n) = (a.str(0)?, a.str(1)?, a.num::<Int32Type>(2)?);
            strings(a.rows, |i| {
                let (s, d, n) = (get!(s.get(i)), get!(d.get(i)), get!(n.get(i)));
                if n == 0 {
                    return Err(row_error("split_part counts from 1: 0 is not a part"));
                }
                let parts: Vec<&str> = if d.is_empty() { vec![s] } else { s.split(d).collect() };
                let k = if n > 0 { i64::from(n) - 1 } else { parts.len() as i64 + i64::from(n) };
                Ok(Some(usize::try_from(k).ok().and_then(|k| parts.get(k)).copied().unwrap_or("")))
            })
        })
    }),
    spec("substring_index", "substring_index(str, delimiter, count)", |c| {
        c.take(&[Text, Text, Int], 3)?.build(STRING, |a| {
            let (s, d, n) = (a.str(0)?, a.str(1)?, a.num::<Int32Type>(2)?);
            strings(a.rows, |i| Ok(Some(before_nth(get!(s.get(i)), get!(d.get(i)), get!(n.get(i))))))
        })
    }),
    spec("levenshtein", "levenshtein(a, b[, most])", |c| {
        c.take(&[Text, Text, Int], 2)?.build(INT, |a| {
            let (x, y) = (a.str(0)?, a.str(1)?);
            let most = if a.len() > 2 { Some(a.num::<Int32Type>(2)?) } else { None };
            nums::<Int32Type>(a.rows, |i| {
                let (x, y) = (get!(x.get(i)), get!(y.get(i)));
                let distance = strsim::levenshtein(x, y) as i32;
                match &most {
                    Some(most) if distance > get!(most.get(i)) => Ok(Some(-1)),
                    _ => Ok(Some(distance)),
                }
            })
        })
    }),
    spec("hex", "hex(expr)", hex),
    spec("md5", "md5(expr)", |c| {
        c.take(&[Bytes], 1)?.build(STRING, |a| {
            let b = a.full(0)?;
            let args = datafusion::logical_expr::ScalarFunctionArgs {
                args: vec![datafusion::logical_expr::ColumnarValue::Array(b)],
                arg_fields: vec![Arc::new(Field::new("a", DataType::Binary, true))],
                number_rows: a.rows,
                return_field: Arc::new(Field::new("md5", DataType::Utf8View, true)),
                config_options: Arc::new(datafusion::config::ConfigOptions::default()),
            };
            let out = datafusion::functions::crypto::md5().invoke_with_args(args)?.into_array(a.rows)?;
            Ok(arrow::compute::cast(&out, &STRING)?)
        })
    }),
    spec("sha2", "sha2(expr, bits)", sha2),
    spec("crc32", "crc32(expr)", |c| {
        c.take(&[Bytes], 1)?.build(DataType::Int64, |a| {
            let b = a.bytes(0)?;
            nums::<Int64Type>(a.rows, |i| Ok(b.get(i).map(|b| i64::from(crc32fast::hash(b)))))
        })
    }),
    spec("base64", "base64(binary)", |c| {
        c.take(&[Bytes], 1)?.build(STRING, |a| {
            let b = a.bytes(0)?;
            strings(a.rows, |i| Ok(b.get(i).map(|b| chunked(&base64::engine::general_purpose::STANDARD.encode(b)))))
        })
    }),
    spec("unhex", "unhex(str)", |c| {
        c.take(&[Text], 1)?.build_nullable(DataType::Binary, |a| {
            let s = a.str(0)?;
            binaries(a.rows, |i| {
                let s = get!(s.get(i));
                let padded = if s.len() % 2 == 1 { format!("0{s}") } else { s.to_string() };
                let bytes: Option<Vec<u8>> = padded
                    .as_bytes()
                    .chunks(2)
                    .map(|d| Some((char::from(d[0]).to_digit(16)? * 16 + char::from(d[1]).to_digit(16)?) as u8))
                    .collect();
                Ok(bytes)
            })
        })
    }),
];

fn map(c: Call, f: fn(&str) -> String) -> Result<Typed> {
    c.take(&[Text], 1)?.build(STRING, move |a| {
        let s = a.str(0)?;
        strings(a.rows, |i| Ok(s.get(i).map(f)))
    })
}

fn test(c: Call, f: fn(&str, &str) -> bool) -> Result<Typed> {
    c.take(&[Text, Text], 2)?.build(DataType::Boolean, move |a| {
        let (s, p) = (a.str(0)?, a.str(1)?);
        bools(a.rows, |i| Ok(Some(f(get!(s.get(i)), get!(p.get(i))))))
    })
}

/// The first letter of each word in upper case, the others in lower case. Only blanks separate words.
fn initcap(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    let mut first = true;
    // The whole word is converted at once, because a sigma at the end of a word has a different lower case.
    for c in s.to_lowercase().chars() {
        if first {
            title(c, &mut out)
        } else {
            out.push(c)
        }
        first = c == ' ';
    }
    out
}

/// Title case: that of ß is Ss, and a character that stands for two letters has its own title case.
fn title(c: char, out: &mut String) {
    match c {
        '\u{1c6}' => out.push('\u{1c5}'),
        '\u{1c9}' => out.push('\u{1c8}'),
        '\u{1cc}' => out.push('\u{1cb}'),
        '\u{1f3}' => out.push('\u{1f2}'),
        // Georgian has upper case, but no title case.
        '\u{10d0}'..='\u{10ff}' => out.push(c),
        // Greek with an iota below.
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => {
            out.extend(char::from_u32(c as u32 + 8));
        }
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => out.extend(char::from_u32(c as u32 + 9)),
        _ => {
            let mut large = c.to_uppercase();
            out.extend(large.next());
            out.extend(large.flat_map(char::to_lowercase));
        }
    }
}

fn length(c: Call) -> Result<Typed> {
    let c = c.take(&[TextOrBytes], 1)?;
    if c.args[0].data_type == DataType::Binary {
        return c.build(INT, |a| {
            let b = a.bytes(0)?;
            nums::<Int32Type>(a.rows, |i| Ok(b.get(i).map(|b| b.len() as i32)))
        });
    }
    c.build(INT, |a| {
        let s = a.str(0)?;
        nums::<Int32Type>(a.rows, |i| Ok(s.get(i).map(|s| s.chars().count() as i32)))
    })
}

fn bytes_length(c: Call, factor: i32) -> Result<Typed> {
    let c = c.take(&[TextOrBytes], 1)?;
    let binary = c.args[0].data_type == DataType::Binary;
    c.build(INT, move |a| {
        if binary {
            let b = a.bytes(0)?;
            return nums::<Int32Type>(a.rows, |i| Ok(b.get(i).map(|b| b.len() as i32 * factor)));
        }
        let s = a.str(0)?;
        nums::<Int32Type>(a.rows, |i| Ok(s.get(i).map(|s| s.len() as i32 * factor)))
    })
}

fn chr(c: Call) -> Result<Typed> {
    c.take(&[Big], 1)?.build(STRING, |a| {
        let n = a.num::<Int64Type>(0)?;
        strings(a.rows, |i| {
            let n = get!(n.get(i));
            Ok(Some(if n < 0 { String::new() } else { char::from((n & 0xff) as u8).to_string() }))
        })
    })
}

pub(super) const MAX_TEXT: usize = 64 << 20;

fn repeated(s: &str, n: i32) -> DfResult<String> {
    let n = usize::try_from(n).unwrap_or(0);
    if s.len().saturating_mul(n) > MAX_TEXT {
        return Err(row_error("the string would be longer than 64 MiB"));
    }
    Ok(s.repeat(n))
}

/// `ltrim(str)` and `ltrim(chars, str)`.
fn one_side(mut c: Call, name: &str) -> Result<Typed> {
    if c.args.len() == 2 {
        c.args.swap(0, 1);
        return super::call(name, c.args);
    }
    trim(c, name == "trim_leading", name == "trim_trailing")
}

/// Trims blanks only, as in Spark: tabs and line ends are kept.
fn trim(c: Call, start: bool, end: bool) -> Result<Typed> {
    c.take(&[Text], 1)?.build(STRING, move |a| {
        let s = a.str(0)?;
        strings(a.rows, |i| {
            let mut s = get!(s.get(i));
            if start {
                s = s.trim_start_matches(' ');
            }
            if end {
                s = s.trim_end_matches(' ');
            }
            Ok(Some(s))
        })
    })
}

fn trim_chars(mut c: Call, start: bool, end: bool) -> Result<Typed> {
    let name = match (start, end) {
        (true, true) => "BOTH",
        (true, false) => "LEADING",
        _ => "TRAILING",
    };
    if c.name.starts_with("trim_") {
        c.sql = match &c.args[..] {
            [s] if name == "BOTH" => format!("trim({})", s.sql),
            [s] => format!("{}({})", if start { "ltrim" } else { "rtrim" }, s.sql),
            [s, chars] => format!("TRIM({name} {} FROM {})", chars.sql, s.sql),
            _ => c.sql,
        };
    }
    c.take(&[Text, Text], 1)?.build(STRING, move |a| {
        let s = a.str(0)?;
        let chars = if a.len() > 1 { Some(a.str(1)?) } else { None };
        strings(a.rows, |i| {
            let mut s = get!(s.get(i));
            let chars = match &chars {
                Some(chars) => get!(chars.get(i)),
                None => " ",
            };
            if start {
                s = s.trim_start_matches(|c| chars.contains(c));
            }
            if end {
                s = s.trim_end_matches(|c| chars.contains(c));
            }
            Ok(Some(s))
        })
    })
}

/// As `UTF8String.substringSQL`: positions count from 1, and negative positions from the end.
pub(super) fn slice(s: &str, position: i32, len: i32) -> &str {
    let (position, len) = (i64::from(position), i64::from(len));
    if len <= 0 {
        return "";
    }
    let start = match position {
        0 => 0,
        p if p > 0 => p - 1,
        p => s.chars().count() as i64 + p,
    };
    let end = start.saturating_add(len);
    let start = start.max(0);
    if end <= start {
        return "";
    }
    let at = |n: i64| {
        if s.is_ascii() {
            return usize::try_from(n).unwrap_or(usize::MAX).min(s.len());
        }
        s.char_indices().nth(usize::try_from(n).unwrap_or(usize::MAX)).map_or(s.len(), |(i, _)| i)
    };
    &s[at(start)..at(end)]
}

fn substring(mut c: Call) -> Result<Typed> {
    // Spark prints the default of the length.
    if c.args.len() == 2 {
        c.sql = format!("{}({}, {}, 2147483647)", c.name, c.args[0].sql, c.args[1].sql);
    }
    if of_bytes(&c) {
        return cut_bytes(c.count(2, 3)?, |n| (n[0].unwrap_or(0), n.get(1).copied().flatten().unwrap_or(i32::MAX)));
    }
    c.take(&[Text, Int, Int], 2)?.build(STRING, |a| {
        let (s, p) = (a.str(0)?, a.num::<Int32Type>(1)?);
        let n = if a.len() > 2 { Some(a.num::<Int32Type>(2)?) } else { None };
        strings(a.rows, |i| {
            let n = match &n {
                Some(n) => get!(n.get(i)),
                None => i32::MAX,
            };
            Ok(Some(slice(get!(s.get(i)), get!(p.get(i)), n)))
        })
    })
}

fn pad(mut c: Call, left: bool) -> Result<Typed> {
    if of_bytes(&c) {
        if c.args.len() == 2 {
            c.args.push(Typed::literal(datafusion::common::ScalarValue::Binary(Some(vec![0])), "X'00'"));
            c.sql = format!("{}({}, {}, X'00')", c.name, c.args[0].sql, c.args[1].sql);
        }
        return pad_bytes(c, left);
    }
    if c.args.len() == 2 {
        c.sql = format!("{}({}, {},  )", c.name, c.args[0].sql, c.args[1].sql);
    }
    c.take(&[Text, Int, Text], 2)?.build(STRING, move |a| {
        let (s, n) = (a.str(0)?, a.num::<Int32Type>(1)?);
        let fill = if a.len() > 2 { Some(a.str(2)?) } else { None };
        strings(a.rows, |i| {
            let (s, n) = (get!(s.get(i)), get!(n.get(i)));
            let fill = match &fill {
                Some(fill) => get!(fill.get(i)),
                None => " ",
            };
            let wanted = usize::try_from(n).unwrap_or(0);
            if wanted > MAX_TEXT {
                return Err(row_error("the string would be longer than 64 MiB"));
            }
            let have = s.chars().count();
            if have >= wanted || fill.is_empty() {
                return Ok(Some(s.chars().take(wanted).collect::<String>()));
            }
            let padding: String = fill.chars().cycle().take(wanted - have).collect();
            Ok(Some(if left { padding + s } else { s.to_string() + &padding }))
        })
    })
}

fn concat(c: Call) -> Result<Typed> {
    if c.args.iter().any(|a| matches!(a.data_type, DataType::List(_))) {
        return super::arrays::concat_arrays(c);
    }
    let binary = !c.args.is_empty() && c.args.iter().all(|a| a.data_type == DataType::Binary);
    let params = vec![if binary { Bytes } else { Text }; c.args.len()];
    let required = params.len();
    let c = c.take(&params, required)?;
    if binary {
        return c.build(DataType::Binary, |a| {
            let parts = (0..a.len()).map(|k| a.bytes(k)).collect::<DfResult<Vec<_>>>()?;
            binaries(a.rows, |i| Ok(parts.iter().map(|p| p.get(i)).collect::<Option<Vec<_>>>().map(|p| p.concat())))
        });
    }
    c.build(STRING, |a| {
        let parts = (0..a.len()).map(|k| a.str(k)).collect::<DfResult<Vec<_>>>()?;
        let mut text = String::new();
        let mut out = StringBuilder::with_capacity(a.rows, a.rows * 8);
        for i in 0..a.rows {
            text.clear();
            match parts.iter().try_for_each(|p| p.get(i).map(|p| text.push_str(p))) {
                Some(()) => {
                    room(out.values_slice().len(), text.len())?;
                    out.append_value(&text);
                }
                None => out.append_null(),
            }
        }
        Ok(Arc::new(out.finish()))
    })
}

fn concat_ws(c: Call) -> Result<Typed> {
    if c.args.iter().skip(1).any(|a| matches!(a.data_type, DataType::List(_))) {
        return super::arrays::concat_ws_arrays(c);
    }
    let most = c.args.len().max(1);
    let c = c.take(&vec![Text; most], 1)?;
    let nullable = c.args[0].nullable;
    let mut typed = c.build(STRING, |a| {
        let parts = (0..a.len()).map(|k| a.str(k)).collect::<DfResult<Vec<_>>>()?;
        strings(a.rows, |i| {
            let sep = get!(parts[0].get(i));
            Ok(Some(parts[1..].iter().filter_map(|p| p.get(i)).collect::<Vec<_>>().join(sep)))
        })
    })?;
    typed.nullable = nullable;
    Ok(typed)
}

/// The position of the part, counted from 1; 0 where the text does not contain it.
fn find(part: &str, s: &str, from: i32) -> i32 {
    if from < 1 {
        return 0;
    }
    if part.is_empty() {
        return 1;
    }
    let skip = from as usize - 1;
    let Some(start) = s.char_indices().map(|(i, _)| i).chain([s.len()]).nth(skip) else { return 0 };
    s[start..].find(part).map_or(0, |i| (skip + s[start..start + i].chars().count() + 1) as i32)
}

fn locate(mut c: Call) -> Result<Typed> {
    if c.args.len() == 2 {
        c.sql = format!("{}({}, {}, 1)", c.name, c.args[0].sql, c.args[1].sql);
    }
    c.take(&[Text, Text, Int], 2)?.build(INT, |a| {
        let (p, s) = (a.str(0)?, a.str(1)?);
        let from = if a.len() > 2 { Some(a.num::<Int32Type>(2)?) } else { None };
        nums::<Int32Type>(a.rows, |i| {
            let from = match &from {
                // As in Spark, the result is 0 where the position is NULL.
                Some(from) => match from.get(i) {
                    Some(from) => from,
                    None => return Ok(Some(0)),
                },
                None => 1,
            };
            Ok(Some(find(get!(p.get(i)), get!(s.get(i)), from)))
        })
    })
}

fn before_nth<'a>(s: &'a str, delimiter: &str, count: i32) -> &'a str {
    if delimiter.is_empty() || count == 0 {
        return "";
    }
    // As in Spark, an occurrence may overlap the previous one.
    let step = |i: usize| s[i..].chars().next().map_or(s.len() + 1, |c| i + c.len_utf8());
    let n = count.unsigned_abs();
    if count > 0 {
        let mut from = 0;
        for k in 1..=n {
            match s.get(from..).and_then(|rest| rest.find(delimiter)) {
                None => return s,
                Some(i) if k == n => return &s[..from + i],
                Some(i) => from = step(from + i),
            }
        }
        return s;
    }
    let mut end = s.len();
    for k in 1..=n {
        match s.get(..end).and_then(|rest| rest.rfind(delimiter)) {
            None => return s,
            Some(i) if k == n => return &s[i + delimiter.len()..],
            // The next occurrence may end just before the end of this one.
            Some(i) => {
                let last = delimiter.chars().next_back().map_or(1, char::len_utf8);
                end = i + delimiter.len() - last;
            }
        }
    }
    s
}

/// As in Spark, with lines of 76 characters (MIME).
fn chunked(text: &str) -> String {
    let lines: Vec<&str> = (0..text.len()).step_by(76).map(|i| &text[i..text.len().min(i + 76)]).collect();
    lines.join("\r\n")
}

fn hex_text(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |d: u8| char::from(DIGITS[usize::from(d)]);
    let mut out = String::with_capacity(bytes.len() * 2);
    bytes.iter().for_each(|b| out.extend([digit(b >> 4), digit(b & 15)]));
    out
}

fn hex(c: Call) -> Result<Typed> {
    let c = c.take(&[Any], 1)?;
    match c.args[0].data_type {
        DataType::Utf8 | DataType::Binary => c.retake(Bytes)?.build(STRING, |a| {
            let b = a.bytes(0)?;
            strings(a.rows, |i| Ok(b.get(i).map(hex_text)))
        }),
        _ => c.retake(Big)?.build(STRING, |a| {
            let n = a.num::<Int64Type>(0)?;
            strings(a.rows, |i| Ok(n.get(i).map(|n| format!("{n:X}"))))
        }),
    }
}

fn sha2(c: Call) -> Result<Typed> {
    use sha2::Digest;
    let c = c.take(&[Bytes, Int], 2)?;
    c.build_nullable(STRING, |a| {
        let (b, n) = (a.bytes(0)?, a.num::<Int32Type>(1)?);
        strings(a.rows, |i| {
            let (b, n) = (get!(b.get(i)), get!(n.get(i)));
            let digest = match n {
                0 | 256 => sha2::Sha256::digest(b).to_vec(),
                224 => sha2::Sha224::digest(b).to_vec(),
                384 => sha2::Sha384::digest(b).to_vec(),
                512 => sha2::Sha512::digest(b).to_vec(),
                _ => return Ok(None),
            };
            Ok(Some(hex_text(&digest).to_lowercase()))
        })
    })
}

impl Call {
    /// Casts the first argument again, to a different parameter type.
    pub(crate) fn retake(mut self, param: crate::expr::coerce::Param) -> Result<Self> {
        let first = self.args.remove(0);
        self.args.insert(0, param.take(self.name, 0, first)?);
        Ok(self)
    }
}

/// A list of strings, row by row.
pub(super) fn lists<'s>(
    rows: usize,
    mut f: impl FnMut(usize) -> DfResult<Option<Vec<&'s str>>>,
) -> DfResult<arrow::array::ArrayRef> {
    let DataType::List(field) = list_of(STRING) else { return Err(row_error("no list type")) };
    let mut out = ListBuilder::new(StringBuilder::new()).with_field(field);
    for i in 0..rows {
        match f(i)? {
            None => out.append_null(),
            Some(items) => {
                let values = out.values();
                room(values.len(), items.len())?;
                for item in items {
                    room(values.values_slice().len(), item.len())?;
                    values.append_value(item);
                }
                out.append(true);
            }
        }
    }
    Ok(Arc::new(out.finish()))
}
