//! Text to tokens, as in Spark's lexer: both kinds of quotes are strings, backticks are names, backslashes escape.

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
    /// The token in the words of an error message.
    pub(super) fn describe(&self) -> String {
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

/// The symbols, the longest first.
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
            '.' if after_name(&out, at) => (Token::Symbol("."), 1),
            c if part_of_name(c) || c == '.' => {
                // As in Spark's lexer, the longer of the two counts: `2fa` and `0x1F` are names, `2f` and `3e5` are numbers.
                let (number, name) = (number(rest), rest.find(|c| !part_of_name(c)).unwrap_or(rest.len()));
                match () {
                    () if number >= name && number > 0 => (Token::Number(rest[..number].to_string()), number),
                    () if name > 0 => (Token::Word(rest[..name].to_string()), name),
                    () => (Token::Symbol("."), 1),
                }
            }
            _ => match SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
                Some(s) => (Token::Symbol(s), s.len()),
                None => {
                    return Err(Error::schema(format!(
                        "'{c}' has no place here; a name with such a character goes in backticks, as in `{}`",
                        named(text, at)
                    )));
                }
            },
        };
        out.push(Spanned { token, start: at, end: at + len });
        at += len;
    }
}

fn part_of_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// The word around a character, up to blanks and the characters that separate expressions.
fn named(text: &str, at: usize) -> &str {
    let apart = |c: char| c.is_whitespace() || matches!(c, ',' | '(' | ')' | '<' | '>' | '=' | '`' | '\'' | '"');
    let from = text[..at].rfind(apart).map_or(0, |i| i + text[i..].chars().next().map_or(1, char::len_utf8));
    let to = text[at..].find(apart).map_or(text.len(), |i| at + i);
    &text[from..to.max(from)]
}

/// `a.1` is a field, ` .1` a number.
fn after_name(out: &[Spanned], at: usize) -> bool {
    out.last().is_some_and(|t| t.end == at && matches!(t.token, Token::Word(_) | Token::Quoted(_)))
}

/// The text between the single quotes of a string, its escapes read.
pub(crate) fn string_of(typed: &str) -> Option<String> {
    match string(&format!("'{typed}'"), '\'').ok()? {
        (Token::Text(text), _) => Some(text),
        _ => None,
    }
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

/// Spark's escapes. `\%` and `\_` are not changed, because LIKE needs them.
fn string(rest: &str, quote: char) -> Result<(Token, usize)> {
    let mut value = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((i, c)) = chars.next() {
        if c == quote {
            // As in Spark 4.0, two quotes end a string and begin the next one: 'it''s' is its.
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

/// The length of the number at the start of the text; 0 where there is none. A number with a point must not be followed by a
/// letter: `1.5x` is not the number `1.5`.
fn number(rest: &str) -> usize {
    let digits = |from: usize| rest[from..].bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(0);
    let exponent = |from: usize| {
        if !rest[from..].starts_with(['e', 'E']) {
            return 0;
        }
        let sign = usize::from(rest[from + 1..].starts_with(['+', '-']));
        match digits(from + 1 + sign) {
            0 => 0,
            n => 1 + sign + n,
        }
    };
    let ends = |at: usize| !rest[at..].starts_with(part_of_name);
    let longest = |body: usize, suffixes: &[&str], must_end: bool| {
        let suffix = suffixes.iter().map(|s| s.len()).filter(|n| {
            let found = rest.get(body..body + n);
            found.is_some_and(|f| suffixes.iter().any(|s| s.eq_ignore_ascii_case(f)))
        });
        let with = suffix.map(|n| body + n).filter(|at| !must_end || ends(*at)).max();
        with.or_else(|| (!must_end || ends(body)).then_some(body)).unwrap_or(0)
    };
    let point = rest[whole..].starts_with('.').then(|| whole + 1 + digits(whole + 1)).filter(|at| *at > 1);
    let decimal = point.map_or(0, |at| longest(at + exponent(at), &["F", "D", "BD"], true));
    let plain = match whole {
        0 => 0,
        at => match exponent(at) {
            0 => longest(at, &["L", "S", "Y", "F", "D", "BD"], false),
            n => longest(at + n, &["F", "D", "BD"], false),
        },
    };
    decimal.max(plain)
}
