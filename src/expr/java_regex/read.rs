//! Reads Java's grammar, and writes the pattern for Rust's regex crate.

use super::sets::{blanks, posix, property, ranges, vertical, word, write_set};
use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

const MAX_DEPTH: usize = 100;

#[derive(Clone, Copy, Default)]
struct Flags {
    /// (?i): for ASCII only, as Java without (?u).
    insensitive: bool,
    /// (?s)
    dot_all: bool,
    /// (?m)
    lines: bool,
    /// (?x)
    comments: bool,
}

pub(super) struct Reader {
    chars: Vec<char>,
    at: usize,
    flags: Flags,
    /// The number of groups that were written, including our own.
    written: usize,
    pub groups: Vec<usize>,
    pub ends: Vec<usize>,
    names: Vec<String>,
}

const LINE_ENDS: &str = "\\n\\r\\x{85}\\x{2028}\\x{2029}";

/// The rest of a text at a `$`: nothing, or a last line end.
pub(super) fn line_end(newline: bool) -> String {
    format!("((?:\\r\\n|[{}\\r\\x{{85}}\\x{{2028}}\\x{{2029}}])?)\\z", if newline { "\\n" } else { "" })
}

pub(super) type Step<T> = Result<T, String>;

pub(super) fn no<T>(what: &str) -> Step<T> {
    Err(format!("{what} is not supported"))
}

impl Reader {
    pub(super) fn new(source: &str) -> Self {
        Self {
            chars: source.chars().collect(),
            at: 0,
            flags: Flags::default(),
            written: 0,
            groups: vec![],
            ends: vec![],
            names: vec![],
        }
    }

    fn raw(&self, n: usize) -> Option<char> {
        self.chars.get(self.at + n).copied()
    }

    /// The next character that counts: with (?x) blanks and comments do not.
    pub(super) fn peek(&mut self) -> Option<char> {
        while self.flags.comments {
            match self.raw(0) {
                Some(' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r') => self.at += 1,
                Some('#') => {
                    let line_end = |c: char| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
                    while self.raw(0).is_some_and(|c| !line_end(c)) {
                        self.at += 1;
                    }
                }
                _ => break,
            }
        }
        self.raw(0)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    /// `a|b|c`, up to the end or a `)`.
    pub(super) fn alternatives(&mut self, out: &mut String, depth: usize) -> Step<()> {
        if depth > MAX_DEPTH {
            return Err(format!("it is nested more than {MAX_DEPTH} levels deep"));
        }
        loop {
            self.sequence(out, depth)?;
            if !self.eat('|') {
                return Ok(());
            }
            out.push('|');
        }
    }

    fn sequence(&mut self, out: &mut String, depth: usize) -> Step<()> {
        // Nothing behind a `$` may take a character. So the `$` is at the end of the match.
        let mut dollars = false;
        while let Some(c) = self.peek() {
            if matches!(c, '|' | ')') {
                break;
            }
            let start = out.len();
            let ends = self.ends.len();
            let takes = self.one(out, depth)?;
            if dollars && takes {
                return no("'$' (or \\Z) with something behind it");
            }
            let repeated = self.repetition(out, start)?;
            if self.ends.len() > ends {
                if repeated {
                    return no("a '$' (or \\Z) that is repeated");
                }
                dollars = true;
            }
        }
        Ok(())
    }

    /// The quantifier behind an atom. Returns whether the atom may be repeated.
    fn repetition(&mut self, out: &mut String, start: usize) -> Step<bool> {
        if out.len() == start {
            return match self.peek() {
                Some('?' | '*' | '+') => no("a repetition of nothing"),
                _ => Ok(false),
            };
        }
        let (text, more) = match self.peek() {
            Some(c @ ('?' | '*' | '+')) => {
                self.at += 1;
                (c.to_string(), c != '?')
            }
            Some('{') => {
                self.at += 1;
                let first = self.number()?.ok_or("a '{' without a number")?;
                let mut most = Some(first);
                let mut text = format!("{{{first}");
                if self.eat(',') {
                    most = self.number()?;
                    text.push(',');
                    text.extend(most.map(|m| m.to_string()));
                }
                if !self.eat('}') {
                    return Err("a '{' is not closed".into());
                }
                if most.is_some_and(|m| m < first) {
                    return Err("a repetition ends before it begins".into());
                }
                (text + "}", most != Some(1) && most != Some(0))
            }
            _ => return Ok(false),
        };
        // The atom may have several characters.
        out.insert_str(start, "(?:");
        out.push(')');
        out.push_str(&text);
        if self.eat('?') {
            out.push('?');
        } else if self.peek() == Some('+') {
            return no("a possessive quantifier");
        }
        match self.peek() {
            Some('?' | '*' | '+') => Err("a quantifier follows a quantifier".into()),
            _ => Ok(more),
        }
    }

    fn number(&mut self) -> Step<Option<u32>> {
        let mut value = None::<u32>;
        while let Some(d) = self.peek().and_then(|c| c.to_digit(10)) {
            self.at += 1;
            let next = value.unwrap_or(0).checked_mul(10).and_then(|v| v.checked_add(d));
            value = Some(next.filter(|v| *v <= 100_000).ok_or("a repetition has a count above 100,000")?);
        }
        Ok(value)
    }

    /// One atom. Returns whether it may take a character.
    fn one(&mut self, out: &mut String, depth: usize) -> Step<bool> {
        match self.next() {
            Some('(') => self.group(out, depth),
            Some('[') => {
                let set = self.class(depth)?;
                write_set(&set, out);
                Ok(true)
            }
            Some('\\') => self.escaped(out),
            Some('^') if self.flags.lines => no("'^' with (?m)"),
            Some('^') => {
                out.push_str("\\A");
                Ok(false)
            }
            Some('$') if self.flags.lines => no("'$' with (?m)"),
            Some('$') => {
                self.line_end(out);
                Ok(false)
            }
            Some('.') => {
                if self.flags.dot_all {
                    out.push_str("(?s:.)")
                } else {
                    out.push_str(&format!("[^{LINE_ENDS}]"))
                }
                Ok(true)
            }
            Some('?' | '*' | '+') => no("a repetition of nothing"),
            Some('{') => Err("a '{' is at a place where nothing can be repeated; write \\{".into()),
            Some(c) => {
                self.literal(c, out);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// The end of the text, or the place in front of a last line end.
    fn line_end(&mut self, out: &mut String) {
        self.written += 1;
        self.ends.push(self.written);
        out.push_str(&line_end(true));
    }

    fn literal(&self, c: char, out: &mut String) {
        write_set(&self.cased(ClassUnicode::new([ClassUnicodeRange::new(c, c)])), out);
    }

    /// With (?i), also the letter in the other case; for ASCII only.
    fn cased(&self, mut set: ClassUnicode) -> ClassUnicode {
        if self.flags.insensitive {
            let mut ascii = set.clone();
            ascii.intersect(&ranges(&[('a', 'z'), ('A', 'Z')]));
            let turn = |c: char| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            for r in ascii.ranges() {
                for c in r.start()..=r.end() {
                    set.push(ClassUnicodeRange::new(turn(c), turn(c)));
                }
            }
        }
        set
    }

    fn group(&mut self, out: &mut String, depth: usize) -> Step<bool> {
        let before = self.flags;
        let open = match (self.raw(0), self.raw(1), self.raw(2)) {
            (Some('?'), Some('='), _) | (Some('?'), Some('!'), _) => return no("look-around (?=…)"),
            (Some('?'), Some('<'), Some('=' | '!')) => return no("look-around (?<=…)"),
            (Some('?'), Some('>'), _) => return no("an atomic group (?>…)"),
            (Some('?'), Some(':'), _) => {
                self.at += 2;
                "(?:"
            }
            (Some('?'), Some('<'), _) => {
                self.at += 2;
                let from = self.at;
                while self.raw(0).is_some_and(|c| c.is_ascii_alphanumeric()) {
                    self.at += 1;
                }
                let name: String = self.chars[from..self.at].iter().collect();
                if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || self.raw(0) != Some('>') {
                    return Err("a group's name is wrong".into());
                }
                if self.names.contains(&name) {
                    return Err("two groups have the same name".into());
                }
                self.names.push(name);
                self.at += 1;
                "("
            }
            (Some('?'), ..) => {
                self.at += 1;
                match self.change_flags()? {
                    // To the end of the group around it.
                    ')' => return Ok(false),
                    _ => "(?:",
                }
            }
            _ => "(",
        };
        if open == "(" {
            self.written += 1;
            self.groups.push(self.written);
        }
        out.push_str(open);
        self.alternatives(out, depth + 1)?;
        if self.next() != Some(')') {
            return Err("a '(' is not closed".into());
        }
        out.push(')');
        self.flags = before;
        Ok(true)
    }

    fn change_flags(&mut self) -> Step<char> {
        let mut on = true;
        loop {
            let Some(c) = self.raw(0) else { return Err("a '(' is not closed".into()) };
            self.at += 1;
            match c {
                ')' | ':' => return Ok(c),
                '-' if on => on = false,
                'i' => self.flags.insensitive = on,
                's' => self.flags.dot_all = on,
                'm' => self.flags.lines = on,
                'x' => self.flags.comments = on,
                'd' | 'u' | 'U' if !on => {}
                'd' | 'u' | 'U' => return no(&format!("(?{c})")),
                _ => return Err(format!("(?{c} is not known")),
            }
        }
    }

    fn escaped(&mut self, out: &mut String) -> Step<bool> {
        let Some(c) = self.raw(0) else { return Err("it ends with a backslash".into()) };
        match c {
            'A' => out.push_str("\\A"),
            'z' => out.push_str("\\z"),
            'Z' => self.line_end(out),
            'b' if self.raw(1) == Some('{') => return no("\\b{…}"),
            'b' => out.push_str("\\b"),
            'B' => out.push_str("\\B"),
            'Q' => {
                self.at += 1;
                let mut some = false;
                while let Some(c) = self.quoted() {
                    self.literal(c, out);
                    some = true;
                }
                // A quantifier would apply to the last character only.
                let repeated = matches!(self.peek(), Some('?' | '*' | '+' | '{'));
                return if repeated && some { no("a quantifier behind \\Q…\\E") } else { Ok(some) };
            }
            'R' => {
                self.at += 1;
                out.push_str("(?:\\r\\n|[\\n\\x0B\\f\\r\\x{85}\\x{2028}\\x{2029}])");
                return Ok(true);
            }
            'G' | 'X' => return no(&format!("\\{c}")),
            'k' | '1'..='9' => return no("a back-reference"),
            _ => {
                match self.escape(false)? {
                    Item::Char(c) => self.literal(c, out),
                    Item::Set(set) => write_set(&set, out),
                }
                return Ok(true);
            }
        }
        self.at += 1;
        Ok(false)
    }

    /// The next character up to \E.
    fn quoted(&mut self) -> Option<char> {
        if self.raw(0) == Some('\\') && self.raw(1) == Some('E') {
            self.at += 2;
            return None;
        }
        let c = self.raw(0)?;
        self.at += 1;
        Some(c)
    }

    fn hex(&mut self, digits: usize) -> Step<u32> {
        let text: String = (0..digits).filter_map(|n| self.raw(n)).collect();
        self.at += digits;
        let all = text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
        u32::from_str_radix(&text, 16).ok().filter(|_| all).ok_or_else(|| "an escape with digits is wrong".into())
    }

    /// The escape behind a backslash: one character or a set of characters.
    fn escape(&mut self, end_of_range: bool) -> Step<Item> {
        let Some(c) = self.raw(0) else { return Err("it ends with a backslash".into()) };
        self.at += 1;
        let set = |set: ClassUnicode| Ok(Item::Set(set));
        let not = |mut set: ClassUnicode| {
            set.negate();
            Ok(Item::Set(set))
        };
        let code = |code: u32| char::from_u32(code).map(Item::Char).ok_or_else(|| "it names no character".to_string());
        match c {
            'd' => set(posix("Digit")),
            'D' => not(posix("Digit")),
            's' => set(posix("Space")),
            'S' => not(posix("Space")),
            'w' => set(word()),
            'W' => not(word()),
            'h' => set(blanks()),
            'H' => not(blanks()),
            'v' if end_of_range || (self.raw(0) == Some('-') && !matches!(self.raw(1), Some('[' | ']') | None)) => {
                Ok(Item::Char('\u{b}'))
            }
            'v' => set(vertical()),
            'V' => not(vertical()),
            'p' | 'P' => {
                let found = self.property()?;
                if c == 'p' { set(found) } else { not(found) }
            }
            't' => Ok(Item::Char('\t')),
            'n' => Ok(Item::Char('\n')),
            'r' => Ok(Item::Char('\r')),
            'f' => Ok(Item::Char('\u{c}')),
            'a' => Ok(Item::Char('\u{7}')),
            'e' => Ok(Item::Char('\u{1b}')),
            'c' => {
                let c = self.raw(0).ok_or("\\c names no character")?;
                self.at += 1;
                code(c as u32 ^ 64)
            }
            '0' => {
                let digit = |c: Option<char>| c.and_then(|c| c.to_digit(8));
                let first = digit(self.raw(0)).ok_or("an escape with digits is wrong")?;
                self.at += 1;
                let mut value = first;
                for n in 0..2 {
                    if n == 1 && first > 3 {
                        break;
                    }
                    let Some(d) = digit(self.raw(0)) else { break };
                    self.at += 1;
                    value = value * 8 + d;
                }
                code(value)
            }
            'x' if self.raw(0) == Some('{') => {
                let close = self.chars[self.at..].iter().position(|c| *c == '}').ok_or("a '{' is not closed")?;
                self.at += 1;
                let value = self.hex(close - 1)?;
                self.at += 1;
                code(value)
            }
            'x' => {
                let value = self.hex(2)?;
                code(value)
            }
            'u' => {
                let value = self.hex(4)?;
                if (0xd800..0xdc00).contains(&value) && self.raw(0) == Some('\\') && self.raw(1) == Some('u') {
                    self.at += 2;
                    let low = self.hex(4)?;
                    return if (0xdc00..0xe000).contains(&low) {
                        code(0x10000 + ((value - 0xd800) << 10) + (low - 0xdc00))
                    } else {
                        Err("half a surrogate pair".into())
                    };
                }
                code(value)
            }
            'N' => no("\\N{…}"),
            c if c.is_ascii_alphanumeric() => Err(format!("\\{c} is not known here")),
            c => Ok(Item::Char(c)),
        }
    }

    /// `{Name}` or one letter.
    fn property(&mut self) -> Step<ClassUnicode> {
        let name: String = match self.raw(0) {
            Some('{') => {
                let close = self.chars[self.at..].iter().position(|c| *c == '}').ok_or("a '{' is not closed")?;
                let name = self.chars[self.at + 1..self.at + close].iter().collect();
                self.at += close + 1;
                name
            }
            Some(c) => {
                self.at += 1;
                c.to_string()
            }
            None => return Err("it ends with \\p".into()),
        };
        property(&name, self.flags.insensitive)
    }

    /// After `[`, up to and with its `]`.
    fn class(&mut self, depth: usize) -> Step<ClassUnicode> {
        let negated = self.raw(0) == Some('^');
        self.at += usize::from(negated);
        let mut set = self.items(depth, true)?;
        self.at += 1;
        if negated {
            set.negate();
        }
        Ok(set)
    }

    /// The items of a class up to its `]`. With `first`, a `]` at the start is a character.
    fn items(&mut self, depth: usize, first: bool) -> Step<ClassUnicode> {
        if depth > MAX_DEPTH {
            return Err(format!("it is nested more than {MAX_DEPTH} levels deep"));
        }
        let mut set = ClassUnicode::empty();
        let mut some = false;
        loop {
            let Some(c) = self.peek() else { return Err("a '[' is not closed".into()) };
            match c {
                ']' if some || !first => return Ok(set),
                '[' => {
                    self.at += 1;
                    let inner = self.class(depth + 1)?;
                    set.union(&inner);
                }
                '&' if self.raw(1) == Some('&') => {
                    self.at += 2;
                    let right = match self.peek() {
                        Some('[') => {
                            self.at += 1;
                            let right = self.class(depth + 1)?;
                            if !matches!(self.peek(), Some(']' | '&')) {
                                return no("'&&' before a class and more");
                            }
                            right
                        }
                        Some(']' | '&') | None => return no("'&&' with nothing behind it"),
                        _ => self.items(depth + 1, false)?,
                    };
                    if !some {
                        return no("'&&' with nothing before it");
                    }
                    set.intersect(&right);
                }
                _ => self.range(&mut set)?,
            }
            some = true;
        }
    }

    fn range(&mut self, set: &mut ClassUnicode) -> Step<()> {
        let first = match self.next() {
            Some('\\') if self.raw(0) == Some('Q') => {
                self.at += 1;
                while let Some(c) = self.quoted() {
                    let one = self.cased(ranges(&[(c, c)]));
                    set.union(&one);
                }
                return match self.raw(0) {
                    Some('-') => no("a range behind \\Q…\\E"),
                    _ => Ok(()),
                };
            }
            Some('\\') => match self.escape(false)? {
                Item::Set(found) => {
                    set.union(&found);
                    return Ok(());
                }
                Item::Char(c) => c,
            },
            Some(c) => c,
            None => return Err("a '[' is not closed".into()),
        };
        let mut last = first;
        if self.peek() == Some('-') && !matches!(self.raw(1), Some('[' | ']') | None) {
            self.at += 1;
            last = match self.next() {
                Some('\\') => match self.escape(true)? {
                    Item::Char(c) => c,
                    Item::Set(_) => return Err("a range ends with a class".into()),
                },
                Some(c) => c,
                None => return Err("a '[' is not closed".into()),
            };
            if last < first {
                return Err("a range ends before it begins".into());
            }
        }
        let found = self.cased(ranges(&[(first, last)]));
        set.union(&found);
        Ok(())
    }
}

enum Item {
    Char(char),
    Set(ClassUnicode),
}
