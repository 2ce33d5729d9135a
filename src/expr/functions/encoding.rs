//! Bytes and text: base64, and the encodings of text.

use super::{Call, Spec, get, spec};
use crate::Result;
use crate::expr::build::choose;
use crate::expr::coerce::Param::{Bytes, Text};
use crate::expr::compare;
use crate::expr::evaluate::row_error;
use crate::expr::kernel::{binaries, strings};
use crate::expr::node::Typed;
use arrow::datatypes::DataType;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

pub(super) const LIST: &[Spec] = &[
    spec("unbase64", "unbase64(text)", unbase64),
    spec("decode", "decode(binary, charset), decode(expr, search, result, …[, default])", |c| {
        if c.args.len() > 2 { choice(c) } else { decode(c) }
    }),
    spec("encode", "encode(text, charset)", encode),
];

/// As Java's decoder of MIME, which skips characters that are not of base64.
fn unbase64(c: Call) -> Result<Typed> {
    const LOOSE: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    c.take(&[Text], 1)?.build(DataType::Binary, |a| {
        let text = a.str(0)?;
        let mut plain = Vec::new();
        binaries(a.rows, |row| {
            let text = get!(text.get(row));
            plain.clear();
            plain.extend(text.bytes().filter(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=')));
            LOOSE.decode(&plain).map(Some).map_err(|_| row_error("unbase64: a text is not base64"))
        })
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Charset {
    Utf8,
    Ascii,
    Latin1,
    Utf16,
    Utf16Be,
    Utf16Le,
    Utf32,
}

impl Charset {
    fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "UTF-8" => Self::Utf8,
            "US-ASCII" => Self::Ascii,
            "ISO-8859-1" => Self::Latin1,
            "UTF-16" => Self::Utf16,
            "UTF-16BE" => Self::Utf16Be,
            "UTF-16LE" => Self::Utf16Le,
            "UTF-32" => Self::Utf32,
            _ => return None,
        })
    }

    /// None: the bytes are no text in this encoding.
    fn decode(self, bytes: &[u8]) -> Option<String> {
        let wide = |bytes: &[u8], big: bool| {
            if !bytes.len().is_multiple_of(2) {
                return None;
            }
            let unit = |two: &[u8]| {
                if big { u16::from_be_bytes([two[0], two[1]]) } else { u16::from_le_bytes([two[0], two[1]]) }
            };
            char::decode_utf16(bytes.chunks_exact(2).map(unit)).collect::<std::result::Result<String, _>>().ok()
        };
        match self {
            Self::Utf8 => std::str::from_utf8(bytes).ok().map(str::to_string),
            Self::Ascii => bytes.is_ascii().then(|| bytes.iter().map(|b| char::from(*b)).collect()),
            Self::Latin1 => Some(bytes.iter().map(|b| char::from(*b)).collect()),
            Self::Utf16Be => wide(bytes, true),
            Self::Utf16Le => wide(bytes, false),
            Self::Utf16 => match bytes {
                [0xff, 0xfe, rest @ ..] => wide(rest, false),
                [0xfe, 0xff, rest @ ..] => wide(rest, true),
                _ => wide(bytes, true),
            },
            Self::Utf32 => {
                if !bytes.len().is_multiple_of(4) {
                    return None;
                }
                bytes.chunks_exact(4).map(|b| char::from_u32(u32::from_be_bytes([b[0], b[1], b[2], b[3]]))).collect()
            }
        }
    }

    /// None: a character is not in this encoding.
    fn encode(self, text: &str) -> Option<Vec<u8>> {
        let wide = |big: bool| {
            text.encode_utf16()
                .flat_map(move |u| if big { u.to_be_bytes() } else { u.to_le_bytes() })
                .collect::<Vec<u8>>()
        };
        match self {
            Self::Utf8 => Some(text.as_bytes().to_vec()),
            Self::Ascii => text.is_ascii().then(|| text.as_bytes().to_vec()),
            Self::Latin1 => text.chars().map(|c| u8::try_from(c as u32).ok()).collect(),
            Self::Utf16Be => Some(wide(true)),
            Self::Utf16Le => Some(wide(false)),
            Self::Utf16 if text.is_empty() => Some(vec![]),
            Self::Utf16 => Some([vec![0xfe, 0xff], wide(true)].concat()),
            Self::Utf32 => Some(text.chars().flat_map(|c| (c as u32).to_be_bytes()).collect()),
        }
    }
}

const NO_CHARSET: &str = "the charset is not one of UTF-8, US-ASCII, ISO-8859-1, UTF-16, UTF-16BE, UTF-16LE and UTF-32";

fn charset(name: &str) -> datafusion::error::Result<Charset> {
    Charset::named(name).ok_or_else(|| row_error(NO_CHARSET))
}

fn decode(c: Call) -> Result<Typed> {
    c.take(&[Bytes, Text], 2)?.build(DataType::Utf8, |a| {
        let (bytes, name) = (a.bytes(0)?, a.str(1)?);
        strings(a.rows, |row| {
            let (bytes, name) = (get!(bytes.get(row)), get!(name.get(row)));
            let text = charset(name)?.decode(bytes);
            text.map(Some).ok_or_else(|| row_error("decode: the bytes are not text in this charset"))
        })
    })
}

fn encode(c: Call) -> Result<Typed> {
    c.take(&[Text, Text], 2)?.build(DataType::Binary, |a| {
        let (text, name) = (a.str(0)?, a.str(1)?);
        binaries(a.rows, |row| {
            let (text, name) = (get!(text.get(row)), get!(name.get(row)));
            let bytes = charset(name)?.encode(text);
            bytes.map(Some).ok_or_else(|| row_error("encode: a character is not in this charset"))
        })
    })
}

/// `decode(expr, search, result, …[, default])`: the result of the first search that is equal; NULL equals NULL.
fn choice(mut c: Call) -> Result<Typed> {
    let subject = c.args.remove(0);
    let (mut whens, mut values) = (vec![], vec![]);
    let mut rest = std::mem::take(&mut c.args).into_iter();
    while let Some(first) = rest.next() {
        match rest.next() {
            Some(result) => {
                whens.push(compare::compare("<=>", subject.clone(), first)?);
                values.push(result);
            }
            None => values.push(first),
        }
    }
    choose(whens, values, c.sql)
}
