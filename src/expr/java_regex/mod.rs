//! Regular expressions as Java reads them (`java.util.regex`, without flags), on Rust's engine.
//!
//! A pattern is read by Java's grammar and written for Rust with nothing left to Rust's defaults: each character and class becomes the set
//! of characters that Java means. `$` also matches before a last line end; it becomes a group that takes the line end, which
//! `find` then leaves out. Constructs that cannot be written in this way are refused by name.

mod read;
mod sets;

use read::{Reader, line_end};
use regex::{CaptureLocations, Regex};
use std::sync::OnceLock;

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct JavaRegex {
    /// The pattern as it was typed.
    pub source: String,
    regex: Regex,
    /// For a text that ends with \r\n, where a line does not end between the two.
    crlf: OnceLock<Option<Regex>>,
    /// The pattern in Rust's grammar.
    written: String,
    /// Where the pattern's groups are among those of `regex`.
    groups: Vec<usize>,
    /// The groups of line ends that `$` took.
    ends: Vec<usize>,
}

/// Where a match and its groups are.
pub(super) type Found = Vec<Option<(usize, usize)>>;

impl JavaRegex {
    pub(crate) fn new(source: &str) -> Result<Self, String> {
        let mut reader = Reader::new(source);
        let mut out = String::new();
        reader.alternatives(&mut out, 0)?;
        if reader.peek().is_some() {
            return Err("a ')' has no '('".into());
        }
        let regex = Regex::new(&out).map_err(|e| match e {
            regex::Error::CompiledTooBig(_) => "it is too large".to_string(),
            _ => "it is not valid".to_string(),
        })?;
        Ok(Self {
            source: source.into(),
            regex,
            crlf: OnceLock::new(),
            written: out,
            groups: reader.groups,
            ends: reader.ends,
        })
    }

    fn regex(&self, s: &str) -> &Regex {
        if self.ends.is_empty() || !s.ends_with("\r\n") {
            return &self.regex;
        }
        let made = || Regex::new(&self.written.replace(&line_end(true), &line_end(false))).ok();
        self.crlf.get_or_init(made).as_ref().unwrap_or(&self.regex)
    }

    pub(crate) fn is_match(&self, s: &str) -> bool {
        self.regex(s).is_match(s)
    }

    /// How many groups there are, and one for the whole.
    pub(crate) fn groups(&self) -> usize {
        self.groups.len() + 1
    }

    /// The first match from `at` on.
    pub(crate) fn find_at(&self, s: &str, at: usize) -> Option<Found> {
        let regex = self.regex(s);
        if self.groups.is_empty() && self.ends.is_empty() {
            return regex.find_at(s, at).map(|m| vec![Some((m.start(), m.end()))]);
        }
        let mut places: CaptureLocations = regex.capture_locations();
        let whole = regex.captures_read_at(&mut places, s, at)?;
        let line_end = self.ends.iter().filter_map(|g| places.get(*g)).filter(|(from, to)| from < to).min();
        let end = line_end.map_or(whole.end(), |(from, _)| from);
        let clamp = |(from, to): (usize, usize)| (from.min(end), to.min(end));
        let groups = self.groups.iter().map(|g| places.get(*g).map(clamp));
        Some(std::iter::once(Some((whole.start(), end))).chain(groups).collect())
    }
}
