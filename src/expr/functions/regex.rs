//! Regular expressions, with Java's meaning (see `java_regex`).

use super::strings::lists;
use super::{Call, Spec, get, spec};
use crate::Result;
use crate::expr::coerce::Param::{Int, Text};
use crate::expr::compare::{self, RegexCache, constant_regex};
use crate::expr::ddl::list_of;
use crate::expr::evaluate::row_error;
use crate::expr::java_regex::{Found, JavaRegex};
use crate::expr::kernel::{nums, strings};
use crate::expr::node::Typed;
use arrow::datatypes::{DataType, Int32Type};
use std::sync::Arc;

pub(super) const LIST: &[Spec] = &[
    spec("rlike", "rlike(str, regex)", rlike),
    spec("regexp", "regexp(str, regex)", rlike),
    spec("regexp_like", "regexp_like(str, regex)", rlike),
    spec("like", "like(str, pattern)", |c| like("LIKE", c)),
    spec("ilike", "ilike(str, pattern)", |c| like("ILIKE", c)),
    spec("regexp_extract", "regexp_extract(str, regex[, group])", extract),
    spec("regexp_substr", "regexp_substr(str, regex)", |c| {
        let c = c.take(&[Text, Text], 2)?;
        let constant = constant_regex(c.name, &c.args[1])?;
        c.build_nullable(DataType::Utf8, move |a| {
            let (s, p) = (a.str(0)?, a.str(1)?);
            let mut cache = Pattern::new(&constant);
            strings(a.rows, |i| {
                let (s, p) = (get!(s.get(i)), get!(p.get(i)));
                // As in Spark, the result is NULL where nothing matches, and also for an empty match.
                let found = cache.get(p)?.find_at(s, 0);
                Ok(found.map(|f| part(s, &f, 0)).filter(|text| !text.is_empty()))
            })
        })
    }),
    spec("regexp_count", "regexp_count(str, regex)", |c| {
        let c = c.take(&[Text, Text], 2)?;
        let constant = constant_regex(c.name, &c.args[1])?;
        c.build(DataType::Int32, move |a| {
            let (s, p) = (a.str(0)?, a.str(1)?);
            let mut cache = Pattern::new(&constant);
            nums::<Int32Type>(a.rows, |i| {
                let (s, p) = (get!(s.get(i)), get!(p.get(i)));
                Ok(Some(matches(&*cache.get(p)?, s).len() as i32))
            })
        })
    }),
    spec("regexp_extract_all", "regexp_extract_all(str, regex[, group])", extract_all),
    spec("regexp_instr", "regexp_instr(str, regex)", |mut c| {
        if c.args.len() == 2 {
            c.sql = format!("regexp_instr({}, {}, 0)", c.args[0].sql, c.args[1].sql);
        }
        let c = c.take(&[Text, Text, Int], 2)?;
        let constant = constant_regex(c.name, &c.args[1])?;
        c.build(DataType::Int32, move |a| {
            let (s, p) = (a.str(0)?, a.str(1)?);
            let group = if a.len() > 2 { Some(a.num::<Int32Type>(2)?) } else { None };
            let mut cache = Pattern::new(&constant);
            nums::<Int32Type>(a.rows, |i| {
                let (s, p) = (get!(s.get(i)), get!(p.get(i)));
                // As in Spark, the group changes nothing.
                if let Some(group) = &group {
                    get!(group.get(i));
                }
                let found = cache.get(p)?.find_at(s, 0).and_then(|f| f[0]);
                Ok(Some(found.map_or(0, |(from, _)| s[..from].chars().count() as i32 + 1)))
            })
        })
    }),
    spec("regexp_replace", "regexp_replace(str, regex, replacement[, pos])", replace),
];

/// The pattern: a constant, or one for each row.
struct Pattern<'a> {
    constant: &'a Option<Arc<JavaRegex>>,
    cache: RegexCache,
}

impl<'a> Pattern<'a> {
    fn new(constant: &'a Option<Arc<JavaRegex>>) -> Self {
        Self { constant, cache: RegexCache::default() }
    }
    fn get(&mut self, text: &str) -> datafusion::error::Result<Arc<JavaRegex>> {
        match self.constant {
            Some(regex) => Ok(regex.clone()),
            None => self.cache.get(text),
        }
    }
}

fn rlike(c: Call) -> Result<Typed> {
    let mut c = c.take(&[Text, Text], 2)?;
    let pattern = c.args.remove(1);
    let text = c.args.remove(0);
    let sql = format!("{}({}, {})", c.name.to_uppercase(), text.sql, pattern.sql);
    compare::rlike(text, pattern, sql)
}

fn like(kind: &'static str, c: Call) -> Result<Typed> {
    let mut c = c.count(2, 2)?;
    let pattern = c.args.remove(1);
    compare::like(kind, c.args.remove(0), pattern, None)
}

fn extract(mut c: Call) -> Result<Typed> {
    if c.args.len() == 2 {
        c.sql = format!("regexp_extract({}, {}, 1)", c.args[0].sql, c.args[1].sql);
    }
    let c = c.take(&[Text, Text, Int], 2)?;
    let constant = constant_regex(c.name, &c.args[1])?;
    c.build(DataType::Utf8, move |a| {
        let (s, p) = (a.str(0)?, a.str(1)?);
        let group = if a.len() > 2 { Some(a.num::<Int32Type>(2)?) } else { None };
        let mut cache = Pattern::new(&constant);
        strings(a.rows, |i| {
            let (s, p) = (get!(s.get(i)), get!(p.get(i)));
            let group = match &group {
                Some(group) => get!(group.get(i)),
                None => 1,
            };
            let regex = cache.get(p)?;
            let Some(found) = regex.find_at(s, 0) else { return Ok(Some("")) };
            let k = usize::try_from(group).ok().filter(|k| *k < regex.groups());
            let Some(k) = k else { return Err(row_error("the regular expression does not have that group")) };
            Ok(Some(part(s, &found, k)))
        })
    })
}

/// The text of a group. It is empty for a group that took no part in the match.
fn part<'s>(s: &'s str, found: &Found, group: usize) -> &'s str {
    found.get(group).copied().flatten().map_or("", |(from, to)| &s[from..to])
}

/// All matches in the way of Java: an empty match may follow a match directly. Rust's iterators skip such a match.
fn matches(regex: &JavaRegex, s: &str) -> Vec<Found> {
    let mut out = vec![];
    let mut at = 0;
    while let Some(found) = regex.find_at(s, at) {
        let Some((from, to)) = found[0] else { break };
        at = if from < to { to } else { to + s[to..].chars().next().map_or(1, char::len_utf8) };
        out.push(found);
        if at > s.len() {
            break;
        }
    }
    out
}

/// Java's replacement text: `$1` is a group, and a backslash makes the next character literal.
fn expand(replacement: &str, s: &str, found: &Found, out: &mut String) -> Result<(), &'static str> {
    let mut chars = replacement.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().ok_or("the replacement ends with a backslash")?),
            '$' => {
                let first =
                    chars.next().and_then(|c| c.to_digit(10)).ok_or("the replacement has a $ without a group")?;
                let mut group = first as usize;
                if group >= found.len() {
                    return Err("the regular expression does not have that group");
                }
                while let Some(d) = chars.peek().and_then(|c| c.to_digit(10)) {
                    let wider = group * 10 + d as usize;
                    if wider >= found.len() {
                        break;
                    }
                    group = wider;
                    chars.next();
                }
                out.push_str(part(s, found, group));
            }
            c => out.push(c),
        }
    }
    Ok(())
}

fn extract_all(mut c: Call) -> Result<Typed> {
    if c.args.len() == 2 {
        c.sql = format!("regexp_extract_all({}, {}, 1)", c.args[0].sql, c.args[1].sql);
    }
    let c = c.take(&[Text, Text, Int], 2)?;
    let constant = constant_regex(c.name, &c.args[1])?;
    c.build(list_of(DataType::Utf8), move |a| {
        let (s, p) = (a.str(0)?, a.str(1)?);
        let group = if a.len() > 2 { Some(a.num::<Int32Type>(2)?) } else { None };
        let mut cache = Pattern::new(&constant);
        lists(a.rows, |i| {
            let (s, p) = (get!(s.get(i)), get!(p.get(i)));
            let group = match &group {
                Some(group) => get!(group.get(i)),
                None => 1,
            };
            let regex = cache.get(p)?;
            let mut out = vec![];
            for found in matches(&regex, s) {
                let k = usize::try_from(group).ok().filter(|k| *k < regex.groups());
                let Some(k) = k else { return Err(row_error("the regular expression does not have that group")) };
                out.push(part(s, &found, k));
            }
            Ok(Some(out))
        })
    })
}

fn replace(mut c: Call) -> Result<Typed> {
    if c.args.len() == 3 {
        c.sql = format!("regexp_replace({}, {}, {}, 1)", c.args[0].sql, c.args[1].sql, c.args[2].sql);
    }
    let c = c.take(&[Text, Text, Text, Int], 3)?;
    let constant = constant_regex(c.name, &c.args[1])?;
    let position = c.constant_int(3, 1)?;
    if position < 1 {
        return Err(c.error("the position counts from 1"));
    }
    let skip = position as usize - 1;
    c.build(DataType::Utf8, move |a| {
        let (s, p, r) = (a.str(0)?, a.str(1)?, a.str(2)?);
        let mut cache = Pattern::new(&constant);
        strings(a.rows, |i| {
            let (s, p, r) = (get!(s.get(i)), get!(p.get(i)), get!(r.get(i)));
            let regex = cache.get(p)?;
            // Java looks at a region: there `^` is at its start.
            let head = if skip == 0 { 0 } else { s.char_indices().nth(skip).map_or(s.len(), |(i, _)| i) };
            if skip > 0 && head == s.len() {
                return Ok(Some(s.to_string()));
            }
            let mut out = String::with_capacity(s.len());
            out.push_str(&s[..head]);
            let s = &s[head..];
            let mut at = 0;
            for found in matches(&regex, s) {
                let Some((from, to)) = found[0] else { continue };
                out.push_str(&s[at..from]);
                expand(r, s, &found, &mut out).map_err(row_error)?;
                at = to;
            }
            out.push_str(&s[at..]);
            Ok(Some(out))
        })
    })
}

/// As Java's `String.split`: an empty match at the start makes no part.
pub(super) fn parts<'s>(s: &'s str, regex: &JavaRegex, limit: i32) -> Vec<&'s str> {
    let mut out = vec![];
    let mut at = 0;
    for found in matches(regex, s) {
        let Some((from, to)) = found[0] else { continue };
        if limit > 0 && out.len() as i32 == limit - 1 {
            break;
        }
        // Spark has its own way to split by the empty pattern, without an empty part at the end.
        if to == 0 || (regex.source.is_empty() && from == s.len()) {
            continue;
        }
        out.push(&s[at..from]);
        at = to;
    }
    out.push(&s[at..]);
    out
}

pub(super) fn split(mut c: Call) -> Result<Typed> {
    if c.args.len() == 2 {
        c.sql = format!("split({}, {}, -1)", c.args[0].sql, c.args[1].sql);
    }
    let c = c.take(&[Text, Text, Int], 2)?;
    let constant = constant_regex(c.name, &c.args[1])?;
    c.build(list_of(DataType::Utf8), move |a| {
        let (s, p) = (a.str(0)?, a.str(1)?);
        let limit = if a.len() > 2 { Some(a.num::<Int32Type>(2)?) } else { None };
        let mut cache = Pattern::new(&constant);
        lists(a.rows, |i| {
            let (s, p) = (get!(s.get(i)), get!(p.get(i)));
            let limit = match &limit {
                Some(limit) => get!(limit.get(i)),
                None => -1,
            };
            Ok(Some(parts(s, &*cache.get(p)?, limit)))
        })
    })
}
