//! URLs, as Java's `URI` takes them apart, and their encoding.

use super::{Call, Spec, get, spec};
use crate::Result;
use crate::expr::coerce::Param::Text;
use crate::expr::evaluate::row_error;
use crate::expr::kernel::{Args, strings, written};
use crate::expr::node::Typed;
use arrow::datatypes::DataType;

pub(super) const LIST: &[Spec] = &[
    spec("parse_url", "parse_url(url, part[, key])", |c| parse(c, false)),
    spec("try_parse_url", "try_parse_url(url, part[, key])", |c| parse(c, true)),
    spec("url_encode", "url_encode(str)", |c| {
        c.take(&[Text], 1)?.build(DataType::Utf8, |a| {
            let s = a.str(0)?;
            written(a.rows, |i, out| {
                let Some(text) = s.get(i) else { return Ok(false) };
                for b in text.bytes() {
                    match b {
                        b' ' => out.push(b'+'),
                        b if b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'*' | b'_') => out.push(b),
                        b => {
                            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                            out.extend([b'%', DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]);
                        }
                    }
                }
                Ok(true)
            })
        })
    }),
    spec("url_decode", "url_decode(str)", |c| decode(c, false)),
    spec("try_url_decode", "try_url_decode(str)", |c| decode(c, true)),
];

fn hex(b: Option<&u8>) -> Option<u8> {
    char::from(*b?).to_digit(16).map(|d| d as u8)
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'+' => out.push(b' '),
            b'%' => {
                out.push(hex(bytes.get(at + 1))? * 16 + hex(bytes.get(at + 2))?);
                at += 2;
            }
            b => out.push(b),
        }
        at += 1;
    }
    Some(out)
}

fn decode(c: Call, r#try: bool) -> Result<Typed> {
    let kernel = move |a: &Args| {
        let s = a.str(0)?;
        strings(a.rows, |i| match decoded(get!(s.get(i))) {
            Some(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            None if r#try => Ok(None),
            None => Err(row_error("url_decode: a text is not a valid encoding")),
        })
    };
    let c = c.take(&[Text], 1)?;
    if r#try { c.build_nullable(DataType::Utf8, kernel) } else { c.build(DataType::Utf8, kernel) }
}

/// The parts of a URI, as they are in the text.
#[derive(Default)]
struct Parts<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    user: Option<&'a str>,
    host: Option<&'a str>,
    path: Option<&'a str>,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

/// Whether all characters are letters, digits, `_-!.~'()*`, escapes, characters beyond ASCII, or among `more`.
fn legal(text: &str, more: &str) -> bool {
    let bytes = text.as_bytes();
    text.char_indices().all(|(i, c)| match c {
        '%' => hex(bytes.get(i + 1)).is_some() && hex(bytes.get(i + 2)).is_some(),
        c if c.is_ascii() => c.is_ascii_alphanumeric() || "_-!.~'()*".contains(c) || more.contains(c),
        c => !c.is_whitespace() && !c.is_control(),
    })
}

/// The parts as `java.net.URI` finds them. `None`: the text is not a URI.
fn parts(url: &str) -> Option<Parts<'_>> {
    const URIC: &str = ";/?:@&=+$,[]";
    let mut out = Parts::default();
    let (rest, fragment) = match url.split_once('#') {
        Some((rest, fragment)) => (rest, Some(fragment)),
        None => (url, None),
    };
    if fragment.is_some_and(|f| !legal(f, URIC)) {
        return None;
    }
    out.fragment = fragment;
    let mut rest = rest;
    let end = rest.find([':', '/', '?']).filter(|at| rest.as_bytes()[*at] == b':');
    if let Some(at) = end {
        let scheme = &rest[..at];
        let good =
            |(i, c): (usize, char)| c.is_ascii_alphabetic() || i > 0 && (c.is_ascii_digit() || "+-.".contains(c));
        if scheme.is_empty() || !scheme.char_indices().all(good) {
            return None;
        }
        out.scheme = Some(scheme);
        rest = &rest[at + 1..];
        if !rest.starts_with('/') {
            // Opaque, as mailto:a@b.c.
            return (!rest.is_empty() && legal(rest, URIC)).then_some(out);
        }
    }
    let (mut rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    if query.is_some_and(|q| !legal(q, URIC)) {
        return None;
    }
    out.query = query;
    if let Some(behind) = rest.strip_prefix("//") {
        let end = behind.find('/').unwrap_or(behind.len());
        let authority = &behind[..end];
        rest = &behind[end..];
        if authority.is_empty() {
            if rest.is_empty() && query.is_none() && fragment.is_none() {
                return None;
            }
        } else {
            if !legal(authority, ";:@&=+$,[]") {
                return None;
            }
            out.authority = Some(authority);
            if let Some((user, host)) = server(authority) {
                (out.user, out.host) = (user, Some(host));
            }
        }
    }
    if !legal(rest, ":@&=+$,/;") {
        return None;
    }
    out.path = Some(rest);
    Some(out)
}

/// User and host, if the authority is that of a server.
fn server(authority: &str) -> Option<(Option<&str>, &str)> {
    let (user, rest) = match authority.rsplit_once('@') {
        Some((user, rest)) => (Some(user), rest),
        None => (None, authority),
    };
    let (host, port) = match rest.strip_prefix('[') {
        Some(inner) => {
            let end = inner.find(']')? + 2;
            (&rest[..end], &rest[end..])
        }
        None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
    };
    let digits = port.strip_prefix(':').unwrap_or("");
    if !port.is_empty() && !port.starts_with(':') || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    if host.starts_with('[') {
        return Some((user, host));
    }
    let labels: Vec<&str> = host.strip_suffix('.').unwrap_or(host).split('.').collect();
    let label = |l: &&str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let number = |l: &&str| l.parse::<u8>().is_ok();
    let address = labels.len() == 4 && labels.iter().all(number);
    let named = labels.last().is_some_and(|l| l.starts_with(|c: char| c.is_ascii_alphabetic()));
    (labels.iter().all(label) && (address || named)).then_some((user, host))
}

fn value<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

fn parse(c: Call, r#try: bool) -> Result<Typed> {
    c.take(&[Text, Text, Text], 2)?.build_nullable(DataType::Utf8, move |a| {
        let (url, part) = (a.str(0)?, a.str(1)?);
        let key = if a.len() > 2 { Some(a.str(2)?) } else { None };
        let mut file = String::new();
        written(a.rows, |i, out| {
            let (Some(url), Some(part)) = (url.get(i), part.get(i)) else { return Ok(false) };
            let key = match &key {
                Some(key) => match key.get(i) {
                    Some(key) => Some(key),
                    None => return Ok(false),
                },
                None => None,
            };
            if key.is_some() && part != "QUERY" {
                return Ok(false);
            }
            let Some(p) = parts(url) else {
                return if r#try { Ok(false) } else { Err(row_error("a text is not a URL")) };
            };
            let found = match (part, key) {
                ("QUERY", Some(key)) => p.query.and_then(|q| value(q, key)),
                (_, Some(_)) => None,
                ("HOST", _) => p.host,
                ("PATH", _) => p.path,
                ("QUERY", _) => p.query,
                ("REF", _) => p.fragment,
                ("PROTOCOL", _) => p.scheme,
                ("AUTHORITY", _) => p.authority,
                ("USERINFO", _) => p.user,
                ("FILE", _) => match (p.path, p.query) {
                    (Some(path), Some(query)) => {
                        file.clear();
                        file.extend([path, "?", query]);
                        Some(file.as_str())
                    }
                    (path, _) => path,
                },
                _ => None,
            };
            out.extend_from_slice(found.unwrap_or_default().as_bytes());
            Ok(found.is_some())
        })
    })
}
