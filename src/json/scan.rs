//! The lexer: it walks over JSON text and checks its grammar (RFC 8259), without building anything.
//!
//! The text has already been checked to be UTF-8. Every value is checked, also that of a field that the schema does not have: a
//! message is either correct as a whole or malformed.

use std::borrow::Cow;

/// A message with more levels is malformed. Without this limit a message could overflow the stack.
pub(super) const MAX_DEPTH: u32 = 128;

/// Why a message is malformed. It never contains any of the message's text.
#[derive(Debug)]
pub(crate) struct Fault {
    pub what: Cow<'static, str>,
    pub at: usize,
    /// The path of the field, such as "a.b"; empty where the fault is in the message as a whole.
    pub field: String,
}

pub(crate) type Scan<T> = Result<T, Box<Fault>>;

#[cold]
#[inline(never)]
pub(crate) fn fault<T>(what: impl Into<Cow<'static, str>>, at: usize) -> Scan<T> {
    Err(Box::new(Fault { what: what.into(), at, field: String::new() }))
}

/// The kind of the next value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

impl Next {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Next::Object => "an object",
            Next::Array => "an array",
            Next::String => "a string",
            Next::Number => "a number",
            Next::True | Next::False => "a boolean",
            Next::Null => "null",
        }
    }
}

/// The text between the quotes of a string.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a> {
    pub raw: &'a [u8],
    pub escaped: bool,
}

pub(crate) struct Cursor<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
    pub taken: Taken,
}

/// The texts that are accepted besides standard JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// NaN, Infinity and -Infinity are numbers, as Python's json module writes them.
    pub nan: bool,
    /// In columns of numbers, a string that holds a number is read as that number.
    pub quoted_numbers: bool,
    /// Strings may be in single quotes and hold control characters, as in Spark's functions of JSON text.
    pub lenient: bool,
    /// These are options of the reader, so that an error can name them.
    pub named: bool,
}

impl Taken {
    /// The texts that the reader of messages accepts without options.
    pub(crate) const STANDARD: Self = Self { nan: false, quoted_numbers: false, lenient: false, named: true };
    /// JSON that is not read from messages.
    pub(crate) const UNNAMED: Self = Self { named: false, ..Self::STANDARD };
}

const SPECIAL: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
const NOT_JSON: &str = "NaN or Infinity, which JSON does not have: allow_nan=True takes it in FLOAT and DOUBLE columns, or the producer writes null";
const NOT_JSON_HERE: &str = "NaN or Infinity, which JSON does not have";

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, taken: Taken::STANDARD }
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    pub(crate) fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let hit = self.peek() == Some(byte);
        self.at += usize::from(hit);
        hit
    }

    /// Looks at the first byte of the next value.
    #[inline]
    pub(crate) fn next(&mut self) -> Scan<Next> {
        self.skip_space();
        Ok(match self.peek() {
            Some(b'"') => Next::String,
            Some(b'-' | b'0'..=b'9') => Next::Number,
            Some(b'{') => Next::Object,
            Some(b'[') => Next::Array,
            Some(b't') => Next::True,
            Some(b'f') => Next::False,
            Some(b'n') => Next::Null,
            None => return fault("the JSON text ends too early", self.at),
            Some(b'\'') if self.taken.lenient => Next::String,
            Some(b'N' | b'I') if self.special().is_some() => {
                if self.taken.nan {
                    Next::Number
                } else {
                    return fault(self.not_json(), self.at);
                }
            }
            Some(_) => return fault("not JSON", self.at),
        })
    }

    /// Reads `true`, `false` or `null`.
    #[inline]
    pub(crate) fn word(&mut self, word: &'static [u8]) -> Scan<()> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            fault("not JSON", self.at)
        }
    }

    /// Reads a string; the cursor is at its opening quote. Escapes are checked but not decoded.
    #[inline]
    pub(crate) fn string(&mut self) -> Scan<Text<'a>> {
        if self.taken.lenient {
            return self.lenient_string();
        }
        let start = self.at + 1;
        let mut at = start;
        let mut escaped = false;
        loop {
            at = plain_run(self.bytes, at);
            match self.bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(Text { raw: &self.bytes[start..at], escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    at = self.escape(at)?;
                }
                Some(_) => return fault("a control character in a string", at),
                None => return fault("the JSON text ends within a string", at),
            }
        }
    }

    fn lenient_string(&mut self) -> Scan<Text<'a>> {
        let quote = self.bytes.get(self.at).copied().unwrap_or(b'"');
        let start = self.at + 1;
        let (mut at, mut escaped) = (start, false);
        loop {
            match self.bytes.get(at) {
                Some(b) if *b == quote => {
                    self.at = at + 1;
                    return Ok(Text { raw: &self.bytes[start..at], escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    at = self.escape(at)?;
                }
                Some(_) => at += 1,
                None => return fault("the JSON text ends within a string", at),
            }
        }
    }

    /// Checks the escape whose backslash is at `at`, and returns the position behind it.
    fn escape(&self, at: usize) -> Scan<usize> {
        match self.bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 2),
            Some(b'u') => match self.hex4(at + 2) {
                None => fault("a broken \\u escape", at),
                Some(0xD800..=0xDBFF) => match (self.bytes.get(at + 6..at + 8), self.hex4(at + 8)) {
                    (Some(b"\\u"), Some(0xDC00..=0xDFFF)) => Ok(at + 12),
                    _ => fault("a lone surrogate", at),
                },
                Some(0xDC00..=0xDFFF) => fault("a lone surrogate", at),
                Some(_) => Ok(at + 6),
            },
            _ => fault("a broken escape", at),
        }
    }

    fn hex4(&self, at: usize) -> Option<u32> {
        hex4(self.bytes, at)
    }

    #[cold]
    fn not_json(&self) -> &'static str {
        if self.taken.named { NOT_JSON } else { NOT_JSON_HERE }
    }

    #[cold]
    fn special(&self) -> Option<&'static [u8]> {
        SPECIAL.into_iter().find(|word| self.bytes[self.at..].starts_with(word))
    }

    /// NaN, Infinity or -Infinity at the cursor.
    #[cold]
    fn other_number(&mut self, start: usize) -> Scan<&'a [u8]> {
        match self.special() {
            Some(word) if self.taken.nan => {
                self.at += word.len();
                Ok(&self.bytes[start..self.at])
            }
            Some(_) => fault(self.not_json(), start),
            None => fault("a broken number", start),
        }
    }

    /// Reads a number and returns its text.
    #[inline]
    pub(crate) fn number(&mut self) -> Scan<&'a [u8]> {
        let start = self.at;
        let bytes = self.bytes;
        let mut at = start;
        let digits = |mut at: usize| {
            while let Some(b'0'..=b'9') = bytes.get(at) {
                at += 1;
            }
            at
        };
        if bytes.get(at) == Some(&b'-') {
            at += 1;
        }
        match bytes.get(at) {
            Some(b'0') => at += 1,
            Some(b'1'..=b'9') => at = digits(at + 1),
            _ => return self.other_number(start),
        }
        if bytes.get(at) == Some(&b'.') {
            let end = digits(at + 1);
            if end == at + 1 {
                return fault("a broken number", start);
            }
            at = end;
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            at += 1;
            if let Some(b'+' | b'-') = bytes.get(at) {
                at += 1;
            }
            let end = digits(at);
            if end == at {
                return fault("a broken number", start);
            }
            at = end;
        }
        self.at = at;
        Ok(&bytes[start..at])
    }

    /// Reads and checks any value; `depth` is the number of levels above it.
    pub(crate) fn skip_value(&mut self, depth: u32) -> Scan<()> {
        match self.next()? {
            Next::String => self.string().map(drop),
            Next::Number => self.number().map(drop),
            Next::True => self.word(b"true"),
            Next::False => self.word(b"false"),
            Next::Null => self.word(b"null"),
            Next::Object => self.object(depth, |cursor, _, depth| cursor.skip_value(depth)),
            Next::Array => self.array(depth, |cursor, depth| cursor.skip_value(depth)),
        }
    }

    /// Reads an object. `each` is called with each key, while the cursor is at its value.
    #[inline]
    pub(crate) fn object(
        &mut self,
        depth: u32,
        mut each: impl FnMut(&mut Self, Text<'a>, u32) -> Scan<()>,
    ) -> Scan<()> {
        let depth = self.enter(depth)?;
        self.skip_space();
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') && !(self.taken.lenient && self.peek() == Some(b'\'')) {
                return self.no_name();
            }
            let key = self.string()?;
            self.skip_space();
            if !self.eat(b':') {
                return fault("a colon is missing", self.at);
            }
            each(self, key, depth)?;
            self.skip_space();
            if self.eat(b',') {
                continue;
            }
            return if self.eat(b'}') { Ok(()) } else { self.unclosed("object") };
        }
    }

    /// Reads an array. `each` is called while the cursor is at each value.
    pub(crate) fn array(&mut self, depth: u32, mut each: impl FnMut(&mut Self, u32) -> Scan<()>) -> Scan<()> {
        let depth = self.enter(depth)?;
        self.skip_space();
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            each(self, depth)?;
            self.skip_space();
            if self.eat(b',') {
                continue;
            }
            return if self.eat(b']') { Ok(()) } else { self.unclosed("array") };
        }
    }

    fn enter(&mut self, depth: u32) -> Scan<u32> {
        if depth >= MAX_DEPTH {
            return fault("more than 128 levels", self.at);
        }
        self.at += 1;
        Ok(depth + 1)
    }

    #[cold]
    fn no_name(&self) -> Scan<()> {
        match self.peek() {
            Some(b'\'') => fault(
                "a field name is missing: JSON has no single quotes (json.dumps writes JSON, str does not)",
                self.at,
            ),
            _ => fault("a field name is missing", self.at),
        }
    }

    #[cold]
    fn unclosed(&self, what: &'static str) -> Scan<()> {
        if self.at >= self.bytes.len() {
            fault(format!("the JSON text ends within an {what}"), self.at)
        } else {
            fault(format!("a comma or the end of an {what} is missing"), self.at)
        }
    }
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.iter().try_fold(0, |n, b| Some(n * 16 + (*b as char).to_digit(16)?))
}

/// The index of the next quote, backslash or control character at or after `at`, or the length of the text. Eight bytes per step.
#[inline]
fn plain_run(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    while let Some(eight) = bytes.get(at..at + 8) {
        let x = u64::from_le_bytes(eight.try_into().unwrap_or_default());
        let quote = x ^ (ONES * b'"' as u64);
        let slash = x ^ (ONES * b'\\' as u64);
        // The high bit of a byte is set where the byte is zero. Borrows can only be wrong in bytes after the first hit.
        let hit =
            (quote.wrapping_sub(ONES) & !quote | slash.wrapping_sub(ONES) & !slash | x.wrapping_sub(ONES * 0x20) & !x)
                & HIGH;
        if hit != 0 {
            return at + (hit.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(b) = bytes.get(at) {
        if *b == b'"' || *b == b'\\' || *b < 0x20 {
            break;
        }
        at += 1;
    }
    at
}

/// Appends the value of a string to `out`. Its escapes are decoded; they were checked when the string was read.
pub(crate) fn unescape(text: Text<'_>, out: &mut Vec<u8>) {
    if !text.escaped {
        out.extend_from_slice(text.raw);
        return;
    }
    let raw = text.raw;
    let mut at = 0;
    while at < raw.len() {
        let run = memchr::memchr(b'\\', &raw[at..]).map_or(raw.len(), |n| at + n);
        out.extend_from_slice(&raw[at..run]);
        at = run;
        let Some(kind) = raw.get(at + 1) else { break };
        let plain = match kind {
            b'b' => 0x08,
            b'f' => 0x0C,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let mut code = hex4(raw, at + 2).unwrap_or(0xFFFD);
                at += 6;
                if (0xD800..0xDC00).contains(&code) {
                    let low = hex4(raw, at + 2).unwrap_or(0xDC00);
                    code = 0x10000 + ((code - 0xD800) << 10) + (low.wrapping_sub(0xDC00) & 0x3FF);
                    at += 6;
                }
                let c = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            other => *other,
        };
        out.push(plain);
        at += 2;
    }
}
