//! Text to tokens, as Spark's lexer sees it: both kinds of quotes are strings, backticks are names, backslashes escape.

use crate::{Error, Result};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name or a keyword, as it was typed.
    Word(String),
    /// A name in backticks.
    Quoted(String),
    Text(String),
    /// A number with its suffix, as it was typed.
    Number(String),
    Symbol(&'static str),
    End,
}

impl Token {
    /// For messages.
    pub fn describe(&self) -> String {
        match self {
            Self::Word(w) => format!("'{w}'"),
            Self::Quoted(w) => format!("`{w}`"),
            Self::Text(_) => "a string".into(),
            Self::Number(n) => format!("'{n}'"),
            Self::Symbol(s) => format!("'{s}'"),
            Self::End => "the end".into(),
        }
    }
}

/// A token and where it is, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Spanned {
    pub token: Token,
    pub start: usize,
    pub end: usize,
}

/// Longest first.
const SYMBOLS: &[&str] = &[
    "<=>", ">>>", "<=", ">=", "<>", "!=", "==", "||", "::", "->", "=>", "<<", ">>", "&&", "<", ">", "=", "(", ")", "[",
    "]", ",", ".", "+", "-", "*", "/", "%", "&", "^", "|", "~", "!", ":", ";", "?", "@", "{", "}",
];

pub(super) fn tokens(text: &str) -> Result<Vec<Spanned>> {
    let mut out = vec![];
    let mut at = 0;
    loop {
        at = skip_blank(text, at)?;
        let rest = &text[at..];
        let Some(c) = rest.chars().next() else {
            out.push(Spanned { token: Token::End, start: at, end: at });
            return Ok(out);
        };
        let (token, len) = match c {
            '\'' | '"' => string(rest, c)?,
            '`' => quoted(rest)?,
            'r' | 'R' if rest[1..].starts_with(['\'', '"']) => raw_string(rest)?,
            c if c.is_ascii_digit() => number(rest),
            '.' if rest[1..].starts_with(|d: char| d.is_ascii_digit()) && !after_name(&out, at) => number(rest),
            c if c == '_' || c.is_alphabetic() => {
                let len = rest.find(|c: char| !(c == '_' || c.is_alphanumeric())).unwrap_or(rest.len());
                (Token::Word(rest[..len].to_string()), len)
            }
            _ => match SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
                Some(s) => (Token::Symbol(s), s.len()),
                None => return Err(Error::schema(format!("'{c}' has no place in an expression"))),
            },
        };
        out.push(Spanned { token, start: at, end: at + len });
        at += len;
    }
}

/// `a.1` is a field, ` .1` a number.
fn after_name(out: &[Spanned], at: usize) -> bool {
    out.last().is_some_and(|t| t.end == at && matches!(t.token, Token::Word(_) | Token::Quoted(_)))
}

fn skip_blank(text: &str, mut at: usize) -> Result<usize> {
    loop {
        let rest = &text[at..];
        if let Some(c) = rest.chars().next().filter(|c| c.is_whitespace()) {
            at += c.len_utf8();
        } else if rest.starts_with("--") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += rest.find("*/").ok_or_else(|| Error::schema("a comment is not closed: '*/' is missing"))? + 2;
        } else {
            return Ok(at);
        }
    }
}

fn quoted(rest: &str) -> Result<(Token, usize)> {
    let mut name = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((i, c)) = chars.next() {
        if c != '`' {
            name.push(c);
        } else if chars.next_if(|(_, c)| *c == '`').is_some() {
            name.push('`');
        } else {
            return Ok((Token::Quoted(name), i + 1));
        }
    }
    Err(Error::schema("a name in backticks is not closed"))
}

fn raw_string(rest: &str) -> Result<(Token, usize)> {
    let quote = &rest[1..2];
    let end = rest[2..].find(quote).ok_or_else(|| Error::schema("a string is not closed"))?;
    Ok((Token::Text(rest[2..2 + end].to_string()), end + 3))
}

/// Spark's escapes; `\%` and `\_` stay, for LIKE.
fn string(rest: &str, quote: char) -> Result<(Token, usize)> {
    let mut value = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((i, c)) = chars.next() {
        if c == quote {
            // As in Spark 4.0 two quotes end a string and begin another one: 'it''s' is its.
            return Ok((Token::Text(value), i + 1));
        }
        if c != '\\' {
            value.push(c);
            continue;
        }
        let Some((at, escaped)) = chars.next() else { break };
        let mut code = |digits: usize, radix: u32, from: usize| {
            let text = rest.get(from..from + digits)?;
            let value = u32::from_str_radix(text, radix).ok()?;
            let c = char::from_u32(value)?;
            for _ in 0..(from + digits - at - 1) {
                chars.next();
            }
            Some(c)
        };
        match escaped {
            '0'..='3' if rest.get(at..at + 3).is_some_and(|d| d.bytes().all(|b| (b'0'..=b'7').contains(&b))) => {
                value.extend(code(3, 8, at));
            }
            '0' => value.push('\0'),
            'b' => value.push('\u{8}'),
            'n' => value.push('\n'),
            'r' => value.push('\r'),
            't' => value.push('\t'),
            'Z' => value.push('\u{1a}'),
            '%' => value.push_str("\\%"),
            '_' => value.push_str("\\_"),
            'u' => value.push(code(4, 16, at + 1).unwrap_or('u')),
            'U' => value.push(code(8, 16, at + 1).unwrap_or('U')),
            other => value.push(other),
        }
    }
    Err(Error::schema("a string is not closed"))
}

fn number(rest: &str) -> (Token, usize) {
    let digits = |from: usize| rest[from..].bytes().take_while(u8::is_ascii_digit).count();
    let mut len = digits(0);
    if rest[len..].starts_with('.') {
        len += 1 + digits(len + 1);
    }
    if rest[len..].starts_with(['e', 'E']) {
        let sign = usize::from(rest[len + 1..].starts_with(['+', '-']));
        let exponent = digits(len + 1 + sign);
        if exponent > 0 {
            len += 1 + sign + exponent;
        }
    }
    let suffix = rest[len..].bytes().take_while(u8::is_ascii_alphanumeric).count();
    if matches!(rest[len..len + suffix].to_ascii_uppercase().as_str(), "L" | "S" | "Y" | "F" | "D" | "BD") {
        len += suffix;
    }
    (Token::Number(rest[..len].to_string()), len)
}
