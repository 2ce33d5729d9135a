//! A schema for messages, guessed from a sample. The guessed schema can read every value of the sample exactly: where values have different kinds,
//! the column is a STRING, which accepts any value as its JSON text.

use super::TimestampUnit;
use crate::calendar;
use crate::json::{Cursor, Next, Scan, Text, fault, unescape};
use crate::{Error, Result};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The result for a sample.
#[derive(Debug, Clone)]
pub struct Inferred {
    pub schema: SchemaRef,
    /// The units of numbers that are times, by path.
    pub units: BTreeMap<String, TimestampUnit>,
    /// The sample has NaN or Infinity, so the reader needs `allow_nan=True`.
    pub has_nan: bool,
    pub messages: usize,
    /// How many messages are not JSON objects, and what is wrong with the first of these.
    pub malformed: usize,
    /// Notes for the user about the guess.
    pub notes: Vec<String>,
}

/// An object with more names than this, most of them seldom there, is a map.
const MANY_NAMES: usize = 50;

/// Up to this number, DOUBLE holds every integer exactly.
const EXACT_IN_DOUBLE: i128 = 1 << 53;

/// Values at one place of the messages.
#[derive(Default)]
struct Seen {
    booleans: u64,
    integers: u64,
    least: i128,
    most: i128,
    /// An integer of more than 38 digits.
    huge: bool,
    /// Numbers with a fraction or an exponent.
    fractions: u64,
    /// A number that DOUBLE does not hold.
    beyond_double: bool,
    nan: bool,
    /// Numbers that are a time since 1990 in this unit.
    in_unit: [u64; 4],
    strings: u64,
    timestamps: u64,
    dates: u64,
    quoted_numbers: u64,
    objects: u64,
    names: Names,
    lists: u64,
    item: Option<Box<Seen>>,
}

/// The fields of objects, in the order in which they came.
#[derive(Default)]
struct Names {
    fields: Vec<(String, u64, Seen)>,
    index: HashMap<String, usize>,
}

const UNITS: [(TimestampUnit, i128); 4] = [
    (TimestampUnit::S, 1),
    (TimestampUnit::Ms, 1_000),
    (TimestampUnit::Us, 1_000_000),
    (TimestampUnit::Ns, 1_000_000_000),
];
/// 1990 to 2100, in seconds.
const TIMES: std::ops::Range<i128> = 631_152_000..4_102_444_800;

impl Seen {
    /// Looks at the value at the cursor. `depth` is the number of levels above it.
    fn look(&mut self, cursor: &mut Cursor<'_>, depth: u32) -> Scan<()> {
        match cursor.next()? {
            Next::Null => cursor.word(b"null"),
            Next::True => {
                self.booleans += 1;
                cursor.word(b"true")
            }
            Next::False => {
                self.booleans += 1;
                cursor.word(b"false")
            }
            Next::Number => {
                let text = cursor.number()?;
                self.number(text);
                Ok(())
            }
            Next::String => {
                let text = cursor.string()?;
                self.string(text);
                Ok(())
            }
            Next::Object => {
                self.objects += 1;
                let names = &mut self.names;
                cursor.object(depth, |cursor, key, depth| names.field(key).look(cursor, depth))
            }
            Next::Array => {
                self.lists += 1;
                let item = self.item.get_or_insert_default();
                cursor.array(depth, |cursor, depth| item.look(cursor, depth))
            }
        }
    }

    fn number(&mut self, text: &[u8]) {
        if text.ends_with(b"NaN") || text.ends_with(b"Infinity") {
            self.nan = true;
            self.fractions += 1;
            return;
        }
        let text = std::str::from_utf8(text).unwrap_or_default();
        let value: f64 = text.parse().unwrap_or(f64::INFINITY);
        self.beyond_double |= !value.is_finite();
        let whole = match text.bytes().any(|b| matches!(b, b'.' | b'e' | b'E')) {
            true => {
                self.fractions += 1;
                // Only the size of the number matters here, because seconds may have fractions.
                Some(value as i128)
            }
            false => {
                self.integers += 1;
                let value: Option<i128> = text.parse().ok().filter(|n: &i128| n.unsigned_abs() < 10u128.pow(38));
                match value {
                    Some(n) => {
                        self.least = self.least.min(n);
                        self.most = self.most.max(n);
                    }
                    None => self.huge = true,
                }
                value
            }
        };
        for (count, (_, per_second)) in self.in_unit.iter_mut().zip(UNITS) {
            *count += u64::from(whole.is_some_and(|n| TIMES.contains(&(n / per_second))));
        }
    }

    fn string(&mut self, text: Text<'_>) {
        let mut plain = Vec::new();
        unescape(text, &mut plain);
        self.strings += 1;
        let Ok(text) = std::str::from_utf8(&plain) else { return };
        let b = text.as_bytes();
        let is_date = |b: &[u8]| b.len() >= 10 && b[4] == b'-' && b[7] == b'-';
        if b.len() == 10 && is_date(b) && calendar::iso_date(b).is_some_and(|d| calendar::DAYS.contains(&d.into())) {
            self.dates += 1;
        } else if b.len() >= 16
            && is_date(b)
            && matches!(b[10], b'T' | b' ')
            && calendar::cast_timestamp(text, None).is_some_and(|t| calendar::MICROS.contains(&t))
        {
            self.timestamps += 1;
        } else if !b.is_empty() {
            let mut number = Cursor::new(b);
            let is_number =
                matches!(number.next(), Ok(Next::Number)) && number.number().is_ok() && number.at == b.len();
            self.quoted_numbers += u64::from(is_number);
        }
    }

    fn numbers(&self) -> u64 {
        self.integers + self.fractions
    }

    /// The unit of these numbers, if they are times by their name and their size.
    fn unit(&self, path: &str) -> Option<TimestampUnit> {
        let all = |(i, _): &(usize, &(TimestampUnit, i128))| self.in_unit[*i] == self.numbers();
        let (_, (unit, _)) = UNITS.iter().enumerate().find(all)?;
        is_time_name(path.rsplit('.').next().unwrap_or(path)).then_some(*unit)
    }

    /// The values of all fields together, for a map.
    fn merge(&mut self, other: Seen) {
        self.booleans += other.booleans;
        self.integers += other.integers;
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
        self.huge |= other.huge;
        self.fractions += other.fractions;
        self.beyond_double |= other.beyond_double;
        self.nan |= other.nan;
        self.in_unit.iter_mut().zip(other.in_unit).for_each(|(a, b)| *a += b);
        self.strings += other.strings;
        self.timestamps += other.timestamps;
        self.dates += other.dates;
        self.quoted_numbers += other.quoted_numbers;
        self.objects += other.objects;
        for (name, count, seen) in other.names.fields {
            let at = self.names.at(name);
            let (_, n, mine) = &mut self.names.fields[at];
            *n += count;
            mine.merge(seen);
        }
        self.lists += other.lists;
        if let Some(item) = other.item {
            self.item.get_or_insert_default().merge(*item);
        }
    }
}

impl Names {
    fn at(&mut self, name: String) -> usize {
        if let Some(i) = self.index.get(&name) {
            return *i;
        }
        let i = self.fields.len();
        self.index.insert(name.clone(), i);
        self.fields.push((name, 0, Seen::default()));
        i
    }

    fn field(&mut self, key: Text<'_>) -> &mut Seen {
        let mut name = Vec::new();
        unescape(key, &mut name);
        let at = self.at(String::from_utf8_lossy(&name).into_owned());
        let (_, count, seen) = &mut self.fields[at];
        *count += 1;
        seen
    }
}

/// Whether a word of the name says that the value is a time: "created_at", "eventTime", "ts".
fn is_time_name(name: &str) -> bool {
    const WORDS: [&str; 16] = [
        "time",
        "timestamp",
        "ts",
        "date",
        "datetime",
        "at",
        "when",
        "epoch",
        "since",
        "until",
        "expires",
        "expiry",
        "created",
        "updated",
        "modified",
        "unix",
    ];
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in name.chars() {
        if !c.is_alphanumeric() || c.is_uppercase() && !before.is_uppercase() {
            words.push(String::new());
        }
        if let (true, Some(word)) = (c.is_alphanumeric(), words.last_mut()) {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    words.iter().any(|w| WORDS.contains(&w.as_str()) || w.ends_with("timestamp"))
}

/// Makes types from the values that were seen, and notes for the user.
#[derive(Default)]
struct Guess {
    units: BTreeMap<String, TimestampUnit>,
    has_nan: bool,
    notes: Vec<String>,
}

impl Guess {
    fn note(&mut self, path: &str, text: &str) {
        self.notes.push(format!("{path}: {text}"));
    }

    fn of(&mut self, seen: Seen, path: &str) -> DataType {
        let kinds = [seen.booleans, seen.numbers(), seen.strings, seen.objects, seen.lists];
        match kinds.iter().filter(|n| **n > 0).count() {
            0 => {
                self.note(path, "no message has a value");
                return DataType::Utf8;
            }
            1 => {}
            _ => {
                self.note(path, "values of different kinds; as STRING they are kept as they are");
                return DataType::Utf8;
            }
        }
        if seen.booleans > 0 {
            DataType::Boolean
        } else if seen.numbers() > 0 {
            self.number(&seen, path)
        } else if seen.strings > 0 {
            self.string(&seen, path)
        } else if seen.objects > 0 {
            self.object(seen.names, seen.objects, path)
        } else {
            let empty =
                seen.item.as_ref().is_none_or(|i| i.booleans + i.numbers() + i.strings + i.objects + i.lists == 0);
            let item = match seen.item {
                Some(item) if !empty => self.of(*item, path),
                _ => {
                    self.note(path, "no list has a value in it");
                    DataType::Utf8
                }
            };
            DataType::List(Arc::new(Field::new("element", item, true)))
        }
    }

    fn number(&mut self, seen: &Seen, path: &str) -> DataType {
        if !seen.nan
            && let Some(unit) = seen.unit(path)
        {
            self.units.insert(path.to_string(), unit);
            return crate::time::timestamp_type();
        }
        let exact = seen.least >= -EXACT_IN_DOUBLE && seen.most <= EXACT_IN_DOUBLE && !seen.huge;
        if seen.fractions > 0 {
            if seen.beyond_double || !exact {
                self.note(path, "numbers that DOUBLE cannot hold exactly; as STRING they are kept as they are");
                return DataType::Utf8;
            }
            self.has_nan |= seen.nan;
            return DataType::Float64;
        }
        if seen.huge {
            self.note(path, "integers of more than 38 digits; as STRING they are kept as they are");
            return DataType::Utf8;
        }
        if i64::try_from(seen.least).is_ok() && i64::try_from(seen.most).is_ok() {
            return DataType::Int64;
        }
        let digits = seen.least.unsigned_abs().max(seen.most.unsigned_abs()).to_string().len();
        DataType::Decimal128(digits.max(20) as u8, 0)
    }

    fn string(&mut self, seen: &Seen, path: &str) -> DataType {
        if seen.dates == seen.strings {
            return DataType::Date32;
        }
        if seen.dates + seen.timestamps == seen.strings {
            return crate::time::timestamp_type();
        }
        if seen.quoted_numbers == seen.strings {
            self.note(
                path,
                "numbers in quotes; to read them as numbers, declare the type and say allow_quoted_numbers=True",
            );
        }
        DataType::Utf8
    }

    fn object(&mut self, names: Names, objects: u64, path: &str) -> DataType {
        let there: u64 = names.fields.iter().map(|(_, count, _)| count).sum();
        // Names that are data: many of them, and most are in less than a quarter of the objects.
        let is_map = names.fields.iter().all(|(name, ..)| name.is_empty())
            || names.fields.len() > MANY_NAMES && there < objects * names.fields.len() as u64 / 4;
        if !is_map || path.is_empty() {
            return DataType::Struct(self.fields(names, path));
        }
        let mut values = Seen::default();
        names.fields.into_iter().for_each(|(_, _, seen)| values.merge(seen));
        let value = self.of(values, path);
        let entries = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)]);
        DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entries), false)), false)
    }

    fn fields(&mut self, names: Names, path: &str) -> Fields {
        let mut out: Vec<Field> = vec![];
        let above = if path.is_empty() { String::new() } else { format!("{path}.") };
        for (name, _, seen) in names.fields {
            let path = format!("{above}{name}");
            if name.is_empty() {
                self.note("a field without a name", "left out");
                continue;
            }
            if let Some(other) = out.iter().find(|f: &&Field| f.name().to_lowercase() == name.to_lowercase()) {
                let text = format!(
                    "differs from '{}' in case only; a table needs a different name for one of them",
                    other.name()
                );
                self.note(&path, &text);
            }
            let t = self.of(seen, &path);
            out.push(Field::new(name, t, true));
        }
        out.into()
    }
}

/// Guesses a schema for messages, each of which holds one JSON object. Messages that are malformed are counted and left out.
pub(crate) fn infer<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Inferred> {
    let (mut messages, mut malformed, mut first) = (0, 0, None);
    let mut seen = Seen::default();
    for value in values {
        messages += 1;
        if let Err(f) = document(value) {
            malformed += 1;
            first.get_or_insert_with(|| super::describe(&f));
            continue;
        }
        let mut cursor = lenient(value);
        // The document was checked before, so there is no fault.
        let _ = seen.look(&mut cursor, 0);
    }
    if messages == 0 {
        return Err(Error::topic("there is no message to infer a schema from. Publish some, or give schema=."));
    }
    if malformed == messages {
        return Err(Error::schema(format!(
            "of {messages} messages none is a JSON object, so there is no schema to infer. The first: {}",
            first.unwrap_or_default()
        )));
    }
    let mut guess = Guess::default();
    let schema = match guess.object(seen.names, seen.objects, "") {
        DataType::Struct(fields) if !fields.is_empty() => Schema::new(fields),
        _ => return Err(Error::schema("the messages are objects without fields, so there is no schema to infer")),
    };
    if malformed > 0 {
        let text = format!(
            "{malformed} of {messages} messages are not JSON objects. The first: {}",
            first.unwrap_or_default()
        );
        guess.notes.insert(0, text);
    }
    let Guess { units, has_nan, notes } = guess;
    Ok(Inferred { schema: Arc::new(schema), units, has_nan, messages, malformed, notes })
}

fn lenient(value: &[u8]) -> Cursor<'_> {
    let mut cursor = Cursor::new(value);
    cursor.taken.nan = true;
    cursor
}

/// Checks that a message is one JSON object.
fn document(value: &[u8]) -> Scan<()> {
    if std::str::from_utf8(value).is_err() {
        return fault("not UTF-8", 0);
    }
    let mut cursor = lenient(value);
    match cursor.next()? {
        Next::Object => {}
        other => return fault(format!("{} instead of an object", other.name()), cursor.at),
    }
    cursor.skip_value(0)?;
    cursor.skip_space();
    if cursor.at != value.len() {
        return fault("more than one JSON document in one message", cursor.at);
    }
    Ok(())
}
