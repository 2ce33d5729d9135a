//! JSON text as Spark's functions of JSON read and write it. They read a little more than JSON (strings in single quotes, control characters
//! in strings), look no further than the value that they want, and write values without blanks.

use super::text::java_double;
use crate::json::{Cursor, Next, Scan, Taken, Text, unescape};

/// A reader of a text that a user calls JSON.
pub(super) fn reader(text: &[u8]) -> Cursor<'_> {
    let mut cursor = Cursor::new(text);
    cursor.taken = Taken { lenient: true, ..Taken::UNNAMED };
    cursor
}

/// Whether the first value of a text ends as Spark's parser wants it: behind a number there is a blank, or the end.
pub(super) fn ends_well(json: &str, cursor: &Cursor<'_>) -> bool {
    let number = json.trim_start().starts_with(|c: char| c == '-' || c.is_ascii_digit());
    !number || cursor.bytes.get(cursor.at).is_none_or(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'))
}

/// Writes the value at the cursor without blanks. Numbers with a fraction or an exponent are written as DOUBLE.
pub(super) fn copy(cursor: &mut Cursor<'_>, depth: u32, out: &mut Vec<u8>) -> Scan<()> {
    match cursor.next()? {
        Next::String => {
            let text = cursor.string()?;
            put(text, out);
        }
        Next::Number => put_number(cursor.number()?, out),
        Next::True => word(cursor, b"true", out)?,
        Next::False => word(cursor, b"false", out)?,
        Next::Null => word(cursor, b"null", out)?,
        Next::Object => {
            out.push(b'{');
            let mut first = true;
            cursor.object(depth, |cursor, key, depth| {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                put(key, out);
                out.push(b':');
                copy(cursor, depth, out)
            })?;
            out.push(b'}');
        }
        Next::Array => array(cursor, depth, out, copy)?,
    }
    Ok(())
}

/// Writes the array at the cursor, each value of it with `each`.
pub(super) fn array<'a>(
    cursor: &mut Cursor<'a>,
    depth: u32,
    out: &mut Vec<u8>,
    each: impl Fn(&mut Cursor<'a>, u32, &mut Vec<u8>) -> Scan<()>,
) -> Scan<()> {
    out.push(b'[');
    let mut first = true;
    cursor.array(depth, |cursor, depth| {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        each(cursor, depth, out)
    })?;
    out.push(b']');
    Ok(())
}

/// As `copy`, but a string is written without its quotes.
pub(super) fn copy_plain(cursor: &mut Cursor<'_>, depth: u32, out: &mut Vec<u8>) -> Scan<()> {
    if cursor.next()? != Next::String {
        return copy(cursor, depth, out);
    }
    let text = cursor.string()?;
    unescape(text, out);
    Ok(())
}

fn word(cursor: &mut Cursor<'_>, word: &'static [u8], out: &mut Vec<u8>) -> Scan<()> {
    cursor.word(word)?;
    out.extend_from_slice(word);
    Ok(())
}

fn put_number(number: &[u8], out: &mut Vec<u8>) {
    if number == b"-0" {
        out.push(b'0');
        return;
    }
    if !number.iter().any(|b| matches!(b, b'.' | b'e' | b'E')) {
        out.extend_from_slice(number);
        return;
    }
    match std::str::from_utf8(number).ok().and_then(|t| t.parse::<f64>().ok()) {
        Some(v) if v.is_finite() => out.extend_from_slice(java_double(v).as_bytes()),
        Some(v) => out.extend_from_slice(if v > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" }),
        None => out.extend_from_slice(number),
    }
}

/// Writes a string that was read, in quotes.
fn put(text: Text<'_>, out: &mut Vec<u8>) {
    let mut plain = Vec::new();
    let bytes = if text.escaped {
        unescape(text, &mut plain);
        &plain[..]
    } else {
        text.raw
    };
    put_string(bytes, out);
}

/// Writes a string in quotes, with Jackson's escapes.
pub(super) fn put_string(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push(b'"');
    let mut from = 0;
    for (at, b) in text.iter().enumerate() {
        let short = match b {
            b'"' | b'\\' => *b,
            0x08 => b'b',
            0x09 => b't',
            0x0A => b'n',
            0x0C => b'f',
            0x0D => b'r',
            0..0x20 => 0,
            _ => continue,
        };
        out.extend_from_slice(&text[from..at]);
        from = at + 1;
        match short {
            0 => out.extend_from_slice(&[b'\\', b'u', b'0', b'0', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]),
            short => out.extend_from_slice(&[b'\\', short]),
        }
    }
    out.extend_from_slice(&text[from..]);
    out.push(b'"');
}
