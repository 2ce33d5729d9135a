//! The patterns of `date_format` and `to_timestamp`: the letters of Java's `DateTimeFormatter` that Spark accepts, with its widths, optional
//! sections and quoted text.

mod read;
mod write;

use super::evaluate::row_error;
use datafusion::error::Result as DfResult;

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Literal(String),
    Field(Field),
    /// `[…]`: always written, and read if the text contains it.
    Optional(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq)]
struct Field {
    letter: char,
    /// The number of times that the letter is repeated.
    count: usize,
    number: Option<Number>,
}

/// How the digits of a field are read.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Number {
    least: usize,
    most: usize,
    sign: Sign,
    /// The digits that belong to fields of a fixed width directly behind this one.
    reserved: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sign {
    /// A minus only.
    Minus,
    /// A minus. Also a plus, if there are more digits than letters.
    Exceeding,
    Never,
}

/// A pattern that is understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pattern {
    parts: Vec<Part>,
    /// `y` is the year of the era, and so never negative.
    era: bool,
}

pub(super) const DEFAULT: &str = "yyyy-MM-dd HH:mm:ss";

impl Pattern {
    /// Reads the pattern, for reading texts or for writing them. The error is the reason why Spark refuses it.
    pub(super) fn new(text: &str, reading: bool) -> Result<Self, String> {
        let mut stack: Vec<Vec<Part>> = vec![vec![]];
        // The index, in the open section, of the number field that can reserve digits for the fields of a fixed width directly behind it.
        let mut active: Option<usize> = None;
        let mut chars = text.chars().peekable();
        let mut era = false;
        while let Some(c) = chars.next() {
            let top = stack.len() - 1;
            match c {
                '\'' => {
                    active = None;
                    if chars.next_if_eq(&'\'').is_some() {
                        literal(&mut stack[top], '\'');
                        continue;
                    }
                    loop {
                        match chars.next() {
                            None => return Err("the pattern has an open quote".into()),
                            Some('\'') if chars.next_if_eq(&'\'').is_some() => literal(&mut stack[top], '\''),
                            Some('\'') => break,
                            Some(other) => literal(&mut stack[top], other),
                        }
                    }
                }
                '[' => {
                    stack.push(vec![]);
                    active = None;
                }
                ']' => {
                    let Some(inner) = stack.pop().filter(|_| top > 0) else {
                        return Err("the pattern has a ']' without a '['".into());
                    };
                    stack[top - 1].push(Part::Optional(inner));
                    active = None;
                }
                '{' | '}' | '#' => return Err(format!("'{c}' in the pattern is reserved")),
                c if c.is_ascii_alphabetic() => {
                    let mut count = 1;
                    while chars.next_if_eq(&c).is_some() {
                        count += 1;
                    }
                    era |= c == 'G';
                    let field = field(c, count, reading)?;
                    add(&mut stack[top], field, &mut active);
                }
                c => {
                    literal(&mut stack[top], c);
                    active = None;
                }
            }
        }
        // As in Java, a section may stay open.
        while stack.len() > 1 {
            let inner = stack.pop().unwrap_or_default();
            let top = stack.len() - 1;
            stack[top].push(Part::Optional(inner));
        }
        Ok(Self { parts: stack.pop().unwrap_or_default(), era })
    }
}

fn literal(out: &mut Vec<Part>, c: char) {
    match out.last_mut() {
        Some(Part::Literal(text)) => text.push(c),
        _ => out.push(Part::Literal(c.to_string())),
    }
}

/// Adds a field. A number of fixed width directly behind other numbers gets reserved digits, as `MM` and `dd` in `yyyyMMdd`.
fn add(out: &mut Vec<Part>, field: Field, active: &mut Option<usize>) {
    let Some(number) = field.number else {
        *active = None;
        out.push(Part::Field(field));
        return;
    };
    let fraction = field.letter == 'S' && number.least != number.most;
    let fixed = number.least == number.most && number.sign == Sign::Never;
    match *active {
        _ if fraction => *active = None,
        Some(at) if fixed => {
            if let Some(Part::Field(Field { number: Some(first), .. })) = out.get_mut(at) {
                first.reserved += number.most;
            }
        }
        Some(at) => {
            if let Some(Part::Field(Field { number: Some(first), .. })) = out.get_mut(at) {
                first.reserved = 0;
            }
            *active = Some(out.len());
        }
        None => *active = Some(out.len()),
    }
    out.push(Part::Field(field));
}

/// A letter, or the reason why Spark does not accept it.
fn field(letter: char, count: usize, reading: bool) -> Result<Field, String> {
    let shown = letter.to_string().repeat(count);
    let refused = |why: &str| Err(format!("'{shown}' in the pattern: {why}"));
    let number = |least, most, sign| Ok(Some(Number { least, most, sign, reserved: 0 }));
    let plain = |most: usize| match count {
        1 => number(1, 19, Sign::Minus),
        n if n <= most => number(n, n, Sign::Never),
        _ => Err(format!("'{shown}' in the pattern has too many letters")),
    };
    let most = |most: usize| {
        if count <= most { Ok(None) } else { Err(format!("'{shown}' in the pattern has too many letters")) }
    };
    let kind = match letter {
        'Y' | 'W' | 'w' | 'u' | 'e' | 'c' => {
            return refused(
                "Spark has no pattern letters for weeks. Use extract(WEEK FROM …), dayofweek or weekofyear",
            );
        }
        'E' | 'F' | 'q' | 'Q' if reading => return refused("Spark does not read this letter"),
        'G' | 'E' => most(4)?,
        'y' => match count {
            2 => number(2, 2, Sign::Never)?,
            1 | 3 => number(count, 19, Sign::Minus)?,
            4..=6 => number(count, 19, Sign::Exceeding)?,
            _ => most(6)?,
        },
        'M' | 'L' => match count {
            1 | 2 => plain(2)?,
            _ => most(4)?,
        },
        'Q' | 'q' => match count {
            1 | 2 => plain(2)?,
            _ => most(4)?,
        },
        'd' | 'h' | 'H' | 'k' | 'K' | 'm' | 's' => plain(2)?,
        'D' => match count {
            1 => plain(1)?,
            2 | 3 => number(count, 3, Sign::Never)?,
            _ => most(3)?,
        },
        'F' => plain(1)?,
        'S' if count <= 9 => match reading {
            true => number(1, count, Sign::Never)?,
            false => number(count, count, Sign::Never)?,
        },
        'S' => most(9)?,
        'a' => most(1)?,
        'V' if count == 2 => None,
        'V' => return refused("a zone id is VV"),
        'z' => most(4)?,
        'O' if matches!(count, 1 | 4) => None,
        'O' => return refused("an offset of GMT is O or OOOO"),
        'X' | 'x' | 'Z' => most(5)?,
        _ => return refused("Spark does not have this letter"),
    };
    Ok(Field { letter, count, number: kind })
}

/// The pattern of each row, if the pattern is not a constant. The last pattern is kept.
#[derive(Default)]
pub(super) struct Patterns(Option<(String, Pattern)>);

impl Patterns {
    pub(super) fn get(&mut self, text: &str, reading: bool) -> DfResult<&Pattern> {
        if self.0.as_ref().is_none_or(|(last, _)| last != text) {
            let made = Pattern::new(text, reading)
                .map_err(|_| row_error("a pattern has a part that Spark's patterns do not have"))?;
            self.0 = Some((text.to_string(), made));
        }
        self.0.as_ref().map(|(_, pattern)| pattern).ok_or_else(|| row_error("no pattern"))
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
