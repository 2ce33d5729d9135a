//! Scalars as JSON text, without allocating.

use crate::calendar::{DAY, put_date, put_time};
use base64::{Engine, engine::general_purpose::STANDARD};

/// For each byte: 0 if it is copied, 'u' for \u00XX, or the letter behind the backslash.
const ESCAPES: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut i = 0;
    while i < 0x20 {
        table[i] = b'u';
        i += 1;
    }
    table[8] = b'b';
    table[9] = b't';
    table[10] = b'n';
    table[12] = b'f';
    table[13] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

pub(crate) fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    inside_string(text, out);
    out.push(b'"');
}

#[inline]
fn inside_string(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[byte as usize];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&bytes[copied..i]);
        out.extend_from_slice(&[b'\\', escape]);
        if escape == b'u' {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(&[b'0', b'0', HEX[(byte >> 4) as usize], HEX[(byte & 15) as usize]]);
        }
        copied = i + 1;
    }
    out.extend_from_slice(&bytes[copied..]);
}

pub(crate) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The slice has exactly the length that base64 needs, so this cannot fail.
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

/// Appends `text`, the shortest that reads back as the same number. JSON has no NaN and no infinity.
pub(crate) fn float(value: f64, text: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    if !value.is_finite() {
        return Err(format!(
            "{value} has no JSON form. Replace it, for example with NULL, or publish the column as STRING."
        ));
    }
    out.extend_from_slice(text);
    Ok(())
}

/// Appends `digits`, which may have a sign, times ten to the power of minus `scale`, as a number without an exponent.
pub(crate) fn decimal(digits: &str, scale: i8, out: &mut Vec<u8>) {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |d| ("-", d));
    out.extend_from_slice(sign.as_bytes());
    if scale <= 0 {
        out.extend_from_slice(digits.as_bytes());
        if digits != "0" {
            out.resize(out.len() + usize::from(scale.unsigned_abs()), b'0');
        }
        return;
    }
    let scale = scale as usize;
    if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        out.extend_from_slice(whole.as_bytes());
        out.push(b'.');
        out.extend_from_slice(fraction.as_bytes());
    } else {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + scale - digits.len(), b'0');
        out.extend_from_slice(digits.as_bytes());
    }
}

/// Appends "2024-01-31T23:59:59.123456Z" with its quotes.
pub(crate) fn timestamp(micros: i64, out: &mut Vec<u8>) -> Result<(), String> {
    let mut text = *b"\"0000-00-00T00:00:00.000000Z\"";
    put_date(micros.div_euclid(DAY), &mut text[1..11]).ok_or_else(beyond)?;
    put_time(micros.rem_euclid(DAY), &mut text[12..27]);
    out.extend_from_slice(&text);
    Ok(())
}

pub(crate) fn date(days: i64, out: &mut Vec<u8>) -> Result<(), String> {
    let mut text = *b"\"0000-00-00\"";
    put_date(days, &mut text[1..11]).ok_or_else(beyond)?;
    out.extend_from_slice(&text);
    Ok(())
}

/// Appends "23:59:59.123456" with its quotes.
pub(crate) fn time_of_day(micros: i64, out: &mut Vec<u8>) -> Result<(), String> {
    if !(0..DAY).contains(&micros) {
        return Err(format!("{micros} microseconds is not a time of day"));
    }
    let mut text = *b"\"00:00:00.000000\"";
    put_time(micros, &mut text[1..16]);
    out.extend_from_slice(&text);
    Ok(())
}

fn beyond() -> String {
    "the time is outside the years 0001 to 9999, and readers can read no other".into()
}

/// Appends a number of 64 bits, or of 32 bits with `single`, as the shortest text that reads back as the same number.
pub(crate) fn shortest(value: f64, single: bool, out: &mut Vec<u8>) -> Result<(), String> {
    let mut buffer = [0; lexical_core::BUFFER_SIZE];
    if single {
        float(value, lexical_core::write(value as f32, &mut buffer), out)
    } else {
        float(value, lexical_core::write(value, &mut buffer), out)
    }
}
