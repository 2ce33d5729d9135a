//! Paths into JSON text: those of `get_json_object` (`$.a[0].b[*]`, as in Hive), and those behind a colon (`text:a.b[0]`).

use super::json_text::{copy, copy_plain, ends_well, reader};
use crate::json::{Cursor, Next, Scan, unescape};

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// The field of this name; `exact`: upper and lower case are not the same.
    Field {
        name: String,
        exact: bool,
    },
    Index(u64),
    /// Each element.
    Elements,
    /// Hive's `.*`, which finds nothing.
    Nothing,
}

/// Reads a path of `get_json_object`. None: the text is not a path, so it finds nothing.
pub(super) fn parse(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$')?;
    let mut out = vec![];
    while !rest.is_empty() {
        // Spark's parser skips blanks in front of names, positions and quotes.
        let near = rest.trim_start();
        let (step, after) = if let Some(after) = near.strip_prefix("['*']").or_else(|| near.strip_prefix(".*")) {
            (Step::Nothing, after)
        } else if let Some(after) = near.strip_prefix("['") {
            let after = after.trim_start();
            let end = after.find(['\'', '?'])?;
            (field(&after[..end])?, after[end..].trim_start().strip_prefix("']")?)
        } else if let Some(after) = rest.strip_prefix("[*]") {
            (Step::Elements, after)
        } else if let Some(after) = rest.strip_prefix('[') {
            let end = after.find(']')?;
            let digits = after[..end].trim_start();
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            (Step::Index(digits.parse().ok()?), &after[end + 1..])
        } else {
            let after = rest.strip_prefix('.')?.trim_start();
            let end = after.find(['.', '[']).unwrap_or(after.len());
            (field(&after[..end])?, &after[end..])
        };
        out.push(step);
        rest = after;
    }
    Some(out)
}

/// A step as it is written behind a colon.
pub(super) fn shown(step: &Step) -> String {
    match step {
        Step::Field { name, exact: false } => format!(".{}", super::lookup::quoted(name)),
        Step::Field { name, exact: true } => format!("['{}']", name.replace('\'', "\\'")),
        Step::Index(i) => format!("[{i}]"),
        Step::Elements => "[*]".into(),
        Step::Nothing => ".*".into(),
    }
}

/// The name of the last field, if the path ends with one.
pub(super) fn last_name(path: &[Step]) -> Option<&str> {
    match path.last() {
        Some(Step::Field { name, .. }) => Some(name),
        _ => None,
    }
}

fn field(name: &str) -> Option<Step> {
    (!name.is_empty()).then(|| Step::Field { name: name.into(), exact: true })
}

/// How Hive writes what it finds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// A string without quotes.
    Raw,
    Quoted,
    /// Arrays are taken apart.
    Flat,
}

/// A part of an array that is being written: values are separated by commas.
struct Out<'a> {
    text: &'a mut Vec<u8>,
    /// Within an array, whether it has had a value.
    listed: Option<bool>,
}

impl Out<'_> {
    fn value(&mut self) -> &mut Vec<u8> {
        if let Some(before) = &mut self.listed
            && std::mem::replace(before, true)
        {
            self.text.push(b',');
        }
        self.text
    }
}

/// Writes the values that the path leads to, as `get_json_object` does. False: there is no such value.
pub(super) fn get(json: &str, path: &[Step], text: &mut Vec<u8>) -> bool {
    let start = text.len();
    let mut cursor = reader(json.as_bytes());
    let found = find(&mut cursor, 0, path, Style::Raw, &mut Out { text, listed: None });
    let found = matches!(found, Ok(true)) && ends_well(json, &cursor);
    if !found {
        text.truncate(start);
    }
    found
}

/// The cursor is before a value.
fn find(cursor: &mut Cursor<'_>, depth: u32, path: &[Step], style: Style, out: &mut Out<'_>) -> Scan<bool> {
    let next = cursor.next()?;
    let Some((step, rest)) = path.split_first() else {
        if next == Next::Array && style == Style::Flat {
            let mut any = false;
            cursor.array(depth, |cursor, depth| {
                any |= find(cursor, depth, path, style, out)?;
                Ok(())
            })?;
            return Ok(any);
        }
        let to = out.value();
        if style == Style::Raw {
            copy_plain(cursor, depth, to)?
        } else {
            copy(cursor, depth, to)?
        }
        return Ok(true);
    };
    match (next, step) {
        (Next::Object, Step::Field { name, exact }) => {
            let (mut found, mut key_text) = (false, Vec::new());
            cursor.object(depth, |cursor, key, depth| {
                if found {
                    return cursor.skip_value(depth);
                }
                let key = if key.escaped {
                    key_text.clear();
                    unescape(key, &mut key_text);
                    &key_text[..]
                } else {
                    key.raw
                };
                let same = key == name.as_bytes()
                    || !exact && String::from_utf8_lossy(key).to_lowercase() == name.to_lowercase();
                if same && cursor.next()? != Next::Null {
                    found = find(cursor, depth, rest, style, out)?;
                    return Ok(());
                }
                cursor.skip_value(depth)
            })?;
            Ok(found)
        }
        (Next::Array, Step::Index(index)) => {
            // The rest of the path may have several results.
            let style = if rest.first() == Some(&Step::Elements) { Style::Quoted } else { style };
            let (mut at, mut found) = (0, false);
            cursor.array(depth, |cursor, depth| {
                at += 1;
                if at - 1 == *index {
                    found = find(cursor, depth, rest, style, out)?;
                    return Ok(());
                }
                cursor.skip_value(depth)
            })?;
            Ok(found)
        }
        (Next::Array, Step::Elements) => elements(cursor, depth, rest, style, out),
        _ => {
            cursor.skip_value(depth)?;
            Ok(false)
        }
    }
}

fn elements(cursor: &mut Cursor<'_>, depth: u32, rest: &[Step], style: Style, out: &mut Out<'_>) -> Scan<bool> {
    let mut each = |rest: &[Step], style, text: &mut Vec<u8>| -> Scan<usize> {
        let (mut found, mut inner) = (0, Out { text, listed: Some(false) });
        cursor.array(depth, |cursor, depth| {
            found += usize::from(find(cursor, depth, rest, style, &mut inner)?);
            Ok(())
        })?;
        Ok(found)
    };
    match (rest.first(), style) {
        // Hive does not keep the structure of `[*][*]`.
        (Some(Step::Elements), _) => {
            let to = out.value();
            to.push(b'[');
            let found = each(&rest[1..], Style::Flat, to)?;
            to.push(b']');
            Ok(found > 0)
        }
        (_, Style::Quoted) => {
            let to = out.value();
            to.push(b'[');
            let found = each(rest, Style::Quoted, to)?;
            to.push(b']');
            Ok(found > 0)
        }
        // One result is written without the array around it.
        (_, style) => {
            let inner = if style == Style::Raw { Style::Quoted } else { Style::Flat };
            let mut text = Vec::new();
            let found = each(rest, inner, &mut text)?;
            if found == 0 {
                return Ok(false);
            }
            let to = out.value();
            if found > 1 {
                to.push(b'[');
            }
            to.extend_from_slice(&text);
            if found > 1 {
                to.push(b']');
            }
            Ok(true)
        }
    }
}

/// Writes the value that a path behind a colon leads to: with `plain`, a string is written without its quotes. False:
/// there is no such value, or the value is null.
pub(super) fn value_at(json: &str, path: &[Step], plain: bool, text: &mut Vec<u8>) -> bool {
    let start = text.len();
    let mut cursor = reader(json.as_bytes());
    let style = if plain { Style::Raw } else { Style::Quoted };
    let null = |cursor: &mut Cursor<'_>| matches!(cursor.next(), Ok(Next::Null));
    let found = !(path.is_empty() && null(&mut cursor))
        && matches!(find(&mut cursor, 0, path, style, &mut Out { text, listed: None }), Ok(true))
        && ends_well(json, &cursor);
    if !found {
        text.truncate(start);
    }
    found
}
