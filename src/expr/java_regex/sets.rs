//! Sets of characters, with Java's meaning.

use super::read::{Step, no};
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

/// The characters of `\p{name}`. With (?i), a class of one case has the letters of all cases.
pub(super) fn property(name: &str, any: bool) -> Step<ClassUnicode> {
    const CASES: [&str; 3] = ["Lu", "Ll", "Lt"];
    const POSIX: [&str; 14] = [
        "ASCII", "Alnum", "Alpha", "Blank", "Cntrl", "Digit", "Graph", "Lower", "Print", "Punct", "Space", "Upper",
        "XDigit", "L1",
    ];
    const CATEGORIES: [&str; 37] = [
        "Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Me", "Mc", "Nd", "Nl", "No", "Zs", "Zl", "Zp", "Cc", "Cf", "Co",
        "Pd", "Ps", "Pe", "Pc", "Po", "Sm", "Sc", "Sk", "So", "Pi", "Pf", "L", "M", "N", "Z", "C", "P", "S", "LC",
    ];
    if POSIX.contains(&name) {
        return Ok(if any && matches!(name, "Lower" | "Upper") { posix("Alpha") } else { posix(name) });
    }
    let short = name.strip_prefix("Is").unwrap_or(name);
    // In Java, half of a surrogate pair is one of them.
    if matches!(short, "C" | "Cn") {
        return no(&format!("\\p{{{name}}}"));
    }
    if CATEGORIES.contains(&short) {
        let names = match short {
            "LC" => CASES.to_vec(),
            s if any && CASES.contains(&s) => CASES.to_vec(),
            s => vec![s],
        };
        let mut out = ClassUnicode::empty();
        for n in names {
            out.union(&unicode(n)?);
        }
        return Ok(out);
    }
    if name.starts_with("Is") {
        let found = match short.to_ascii_uppercase().as_str() {
            "ALPHABETIC" => "Alphabetic",
            "LETTER" => "L",
            "IDEOGRAPHIC" => "Ideographic",
            "LOWERCASE" if !any => "Lowercase",
            "UPPERCASE" if !any => "Uppercase",
            "DIGIT" => "Nd",
            "PUNCTUATION" => "P",
            "WHITE_SPACE" | "WHITESPACE" => "White_Space",
            "LATIN" | "GREEK" | "CYRILLIC" | "HAN" | "HIRAGANA" | "KATAKANA" | "HANGUL" | "ARABIC" | "HEBREW"
            | "THAI" | "DEVANAGARI" | "ARMENIAN" | "GEORGIAN" => short,
            _ => return no(&format!("\\p{{{name}}}")),
        };
        return unicode(found);
    }
    no(&format!("\\p{{{name}}}"))
}

pub(super) fn ranges(all: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(all.iter().map(|(a, b)| ClassUnicodeRange::new(*a, *b)))
}

/// `\w`
pub(super) fn word() -> ClassUnicode {
    ranges(&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')])
}

/// `\h`
pub(super) fn blanks() -> ClassUnicode {
    ranges(&[
        ('\t', '\t'),
        (' ', ' '),
        ('\u{a0}', '\u{a0}'),
        ('\u{1680}', '\u{1680}'),
        ('\u{180e}', '\u{180e}'),
        ('\u{2000}', '\u{200a}'),
        ('\u{202f}', '\u{202f}'),
        ('\u{205f}', '\u{205f}'),
        ('\u{3000}', '\u{3000}'),
    ])
}

/// `\v`
pub(super) fn vertical() -> ClassUnicode {
    ranges(&[('\n', '\r'), ('\u{85}', '\u{85}'), ('\u{2028}', '\u{2029}')])
}

/// The classes of POSIX, which are ASCII in Java.
pub(super) fn posix(name: &str) -> ClassUnicode {
    ranges(match name {
        "ASCII" => &[('\0', '\u{7f}')],
        "L1" => &[('\0', '\u{ff}')],
        "Alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "Alpha" => &[('A', 'Z'), ('a', 'z')],
        "Blank" => &[('\t', '\t'), (' ', ' ')],
        "Cntrl" => &[('\0', '\u{1f}'), ('\u{7f}', '\u{7f}')],
        "Digit" => &[('0', '9')],
        "Graph" => &[('!', '~')],
        "Lower" => &[('a', 'z')],
        "Print" => &[(' ', '~')],
        "Punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "Space" => &[('\t', '\r'), (' ', ' ')],
        "Upper" => &[('A', 'Z')],
        _ => &[('0', '9'), ('A', 'F'), ('a', 'f')],
    })
}

fn unicode(name: &str) -> Step<ClassUnicode> {
    let parsed = regex_syntax::parse(&format!("\\p{{{name}}}")).map_err(|_| format!("\\p{{{name}}} is not known"))?;
    match parsed.into_kind() {
        HirKind::Class(Class::Unicode(set)) => Ok(set),
        _ => no(&format!("\\p{{{name}}}")),
    }
}

pub(super) fn write_set(set: &ClassUnicode, out: &mut String) {
    let code = |c: char| format!("\\x{{{:x}}}", c as u32);
    if let [one] = set.ranges()
        && one.start() == one.end()
    {
        out.push_str(&code(one.start()));
        return;
    }
    if set.ranges().is_empty() {
        // The empty set.
        out.push_str("[^\\x{0}-\\x{10ffff}]");
        return;
    }
    out.push('[');
    for r in set.ranges() {
        out.push_str(&format!("{}-{}", code(r.start()), code(r.end())));
    }
    out.push(']');
}
