//! Column builders whose last row can be removed: a message that turns out to be malformed halfway leaves no trace. The last value
//! of a repeated field replaces the first.

use super::number::{Decimal, Unfit};
use super::scalar::{TimestampUnit, date, float, int, misfit, number, timestamp};
use super::scan::{Cursor, Fault, Next, Scan, Text, fault, unescape};
use crate::{Error, Result};
use arrow::array::*;
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::*;
use base64::Engine;
use chrono_tz::Tz;
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// The NULL mask of a column. Nothing is stored until the first NULL.
#[derive(Default)]
struct Validity {
    bits: Vec<bool>,
    len: usize,
}

impl Validity {
    #[inline]
    fn push(&mut self, valid: bool) {
        if !valid && self.bits.is_empty() {
            self.bits.resize(self.len, true);
        }
        if !valid || !self.bits.is_empty() {
            self.bits.push(valid);
        }
        self.len += 1;
    }
    fn truncate(&mut self, len: usize) {
        self.bits.truncate(len);
        self.len = len;
    }
    fn finish(&mut self) -> Option<NullBuffer> {
        self.len = 0;
        let bits = std::mem::take(&mut self.bits);
        bits.contains(&false).then(|| NullBuffer::from(bits))
    }
}

pub(crate) struct Column {
    validity: Validity,
    nullable: bool,
    values: Values,
}

enum Values {
    Boolean(Vec<bool>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal { values: Vec<i128>, precision: u8, scale: i8 },
    Date(Vec<i32>),
    Timestamp { values: Vec<i64>, unit: Option<TimestampUnit>, zone: Option<Tz> },
    Text { offsets: Vec<i32>, data: Vec<u8> },
    Binary { offsets: Vec<i32>, data: Vec<u8>, scratch: Vec<u8> },
    Struct(Fields),
    List { offsets: Vec<i32>, item: Box<Column>, field: FieldRef },
    Map { offsets: Vec<i32>, keys: Box<Column>, values: Box<Column>, entries: FieldRef, names: Names },
}

/// The keys of one map, each of them once, with the place of its last value.
#[derive(Default)]
struct Names {
    text: Vec<u8>,
    entries: Vec<Entry>,
    /// Indices of entries, used from `MANY` entries on: a message may hold an object with very many keys. The hash is seeded, so that
    /// no producer can choose keys that collide.
    index: HashTable<usize>,
    seed: RandomState,
}

struct Entry {
    start: usize,
    end: usize,
    value: usize,
}

/// Below this many keys, a linear search is faster than the index.
const MANY: usize = 16;

impl Names {
    fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
        self.index.clear();
    }

    fn name(&self, index: usize) -> &[u8] {
        let Entry { start, end, .. } = self.entries[index];
        &self.text[start..end]
    }

    fn put(&mut self, key: Text<'_>, value: usize) {
        let start = self.text.len();
        unescape(key, &mut self.text);
        let name = |e: &Entry| &self.text[e.start..e.end];
        let new = &self.text[start..];
        let found = if self.entries.len() < MANY {
            self.entries.iter().position(|e| name(e) == new)
        } else {
            if self.index.is_empty() {
                for (i, e) in self.entries.iter().enumerate() {
                    let again = |i: &usize| self.seed.hash_one(name(&self.entries[*i]));
                    self.index.insert_unique(self.seed.hash_one(name(e)), i, again);
                }
            }
            self.index.find(self.seed.hash_one(new), |i| name(&self.entries[*i]) == new).copied()
        };
        if let Some(i) = found {
            self.entries[i].value = value;
            self.text.truncate(start);
            return;
        }
        self.entries.push(Entry { start, end: self.text.len(), value });
        let last = self.entries.len() - 1;
        if last >= MANY {
            let hash = |i: &usize| self.seed.hash_one(&self.text[self.entries[*i].start..self.entries[*i].end]);
            self.index.insert_unique(hash(&last), last, hash);
        }
    }
}

/// The columns of an object, by field name.
pub(crate) struct Fields {
    pub fields: arrow::datatypes::Fields,
    /// Each name followed by its closing quote, as the text of a message has it where it needs no escapes.
    quoted: Vec<Vec<u8>>,
    pub columns: Vec<Column>,
    scratch: Vec<u8>,
    /// Which columns have had a value so far, and how many have had none.
    seen: Vec<bool>,
    unseen: usize,
    /// For a column without a value: a field that differs from its name in case only.
    spelt: Vec<Option<String>>,
    /// A message without one of the fields is malformed.
    all_required: bool,
}

/// The options of a column besides its type.
#[derive(Debug, Clone, Default)]
pub(crate) struct ColumnOptions {
    pub zone: Option<Tz>,
    pub unit: Option<TimestampUnit>,
    /// A struct without one of its fields is malformed.
    pub all_required: bool,
}

impl Fields {
    /// `options` takes the path of a field, such as "a.b"; `above` is the path of the struct, with a dot at its end.
    pub(crate) fn new(
        fields: &arrow::datatypes::Fields,
        above: &str,
        options: &dyn Fn(&str) -> ColumnOptions,
    ) -> Result<Self> {
        let column = |f: &FieldRef| Column::new(f, &format!("{above}{}", f.name()), options);
        let columns = fields.iter().map(column).collect::<Result<Vec<_>>>()?;
        let quoted = fields.iter().map(|f| [f.name().as_bytes(), b"\""].concat()).collect();
        let n = columns.len();
        let (seen, spelt) = (vec![false; n], vec![None; n]);
        let all_required = options(above).all_required;
        Ok(Self { fields: fields.clone(), quoted, columns, scratch: Vec::new(), seen, unseen: n, spelt, all_required })
    }

    /// Decodes the object at the cursor as row `row`. Returns the number of fields that the schema does not have.
    #[inline]
    pub(crate) fn read(&mut self, cursor: &mut Cursor<'_>, row: usize, depth: u32) -> Scan<u64> {
        let mut unknown = 0;
        let mut expected = 0;
        let mut faults: Vec<(usize, Box<Fault>)> = Vec::new(); // allocates only where there is a fault
        let Self { fields, quoted, columns, scratch, seen, unseen, spelt, all_required } = self;
        cursor.object(depth, |cursor, key, depth| {
            let found = find(quoted, &mut expected, key, scratch);
            let Some(index) = found else {
                unknown += 1;
                if *unseen > 0 {
                    note_case(fields, seen, spelt, key);
                }
                return cursor.skip_value(depth);
            };
            let column = &mut columns[index];
            if column.validity.len > row {
                column.truncate(row); // the last value of a repeated field counts
            }
            if !faults.is_empty() {
                faults.retain(|(i, _)| *i != index);
            }
            let start = cursor.at;
            match column.read(cursor, depth) {
                Ok(()) => Ok(()),
                Err(f) => {
                    // The value may still be correct JSON, and the field may come again: only its last value counts.
                    column.truncate(row);
                    cursor.at = start;
                    cursor.skip_value(depth).map_err(|f| within(f, fields[index].name()))?;
                    faults.push((index, within(f, fields[index].name())));
                    Ok(())
                }
            }
        })?;
        if let Some((_, fault)) = faults.into_iter().next() {
            return Err(fault);
        }
        for (column, field) in columns.iter_mut().zip(fields.iter()) {
            if column.validity.len == row {
                if !column.nullable {
                    return fault(format!("field '{}' is NOT NULL and missing", field.name()), cursor.at);
                }
                if *all_required {
                    return fault(
                        format!("field '{}' is missing: missing=\"null\" takes such messages", field.name()),
                        cursor.at,
                    );
                }
                column.push_null();
            }
        }
        Ok(unknown)
    }

    pub(crate) fn push_null(&mut self) {
        self.columns.iter_mut().for_each(Column::push_null);
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        // Unconditionally: a column without the row may still hold pieces of it.
        self.columns.iter_mut().for_each(|c| c.truncate(rows));
    }

    pub(crate) fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        let arrays: Vec<ArrayRef> = self.columns.iter_mut().map(Column::finish).collect::<Result<_>>()?;
        for (seen, array) in self.seen.iter_mut().zip(&arrays) {
            if !*seen && array.null_count() < array.len() {
                *seen = true;
                self.unseen -= 1;
            }
        }
        Ok(arrays)
    }

    /// Columns without a value so far for which the messages have a field that differs in case only: (column, field), as paths.
    pub(crate) fn misspelt(&self, above: &str, out: &mut Vec<(String, String)>) {
        for (i, field) in self.fields.iter().enumerate() {
            if let (false, Some(other)) = (self.seen[i], &self.spelt[i]) {
                out.push((format!("{above}{}", field.name()), format!("{above}{other}")));
            }
            self.columns[i].misspelt(&format!("{above}{}.", field.name()), out);
        }
    }
}

#[cold]
fn note_case(fields: &arrow::datatypes::Fields, seen: &[bool], spelt: &mut [Option<String>], key: Text<'_>) {
    let found = fields.iter().position(|f| f.name().as_bytes().eq_ignore_ascii_case(key.raw));
    if let Some(i) = found
        && !seen[i]
        && spelt[i].is_none()
        && !key.escaped
    {
        spelt[i] = std::str::from_utf8(key.raw).ok().map(str::to_string);
    }
}

#[cold]
fn within(mut f: Box<Fault>, field: &str) -> Box<Fault> {
    f.field = if f.field.is_empty() { field.to_string() } else { format!("{field}.{}", f.field) };
    f
}

/// The column of a key. Producers write the fields of all messages in the same order, so the next column is tried first.
#[inline]
fn find(quoted: &[Vec<u8>], expected: &mut usize, key: Text<'_>, scratch: &mut Vec<u8>) -> Option<usize> {
    let raw = if key.escaped {
        scratch.clear();
        unescape(key, scratch);
        &scratch[..]
    } else {
        key.raw
    };
    let is = |q: &Vec<u8>| q.len() == raw.len() + 1 && q[..raw.len()] == *raw;
    let index = match quoted.get(*expected) {
        Some(q) if is(q) => *expected,
        _ => quoted.iter().position(is)?,
    };
    *expected = index + 1;
    Some(index)
}

impl Column {
    pub(crate) fn new(field: &Field, path: &str, options: &dyn Fn(&str) -> ColumnOptions) -> Result<Self> {
        let with = |f: &Field| Column::new(f, path, options);
        let values = match field.data_type() {
            DataType::Boolean => Values::Boolean(vec![]),
            DataType::Int8 => Values::Int8(vec![]),
            DataType::Int16 => Values::Int16(vec![]),
            DataType::Int32 => Values::Int32(vec![]),
            DataType::Int64 => Values::Int64(vec![]),
            DataType::Float32 => Values::Float32(vec![]),
            DataType::Float64 => Values::Float64(vec![]),
            DataType::Decimal128(p, s) => Values::Decimal { values: vec![], precision: *p, scale: *s },
            DataType::Date32 => Values::Date(vec![]),
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
                let ColumnOptions { unit, zone, .. } = options(path);
                Values::Timestamp { values: vec![], unit, zone }
            }
            DataType::Utf8 => Values::Text { offsets: vec![0], data: vec![] },
            DataType::Binary => Values::Binary { offsets: vec![0], data: vec![], scratch: vec![] },
            DataType::Struct(fields) => Values::Struct(Fields::new(fields, &format!("{path}."), options)?),
            DataType::List(item) => Values::List { offsets: vec![0], item: Box::new(with(item)?), field: item.clone() },
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(kv) if kv.len() == 2 && *kv[0].data_type() == DataType::Utf8 => Values::Map {
                    offsets: vec![0],
                    keys: Box::new(with(&kv[0])?),
                    values: Box::new(with(&kv[1])?),
                    entries: entries.clone(),
                    names: Names::default(),
                },
                _ => {
                    return Err(Error::schema(format!(
                        "column '{}': JSON objects have string keys, so a map must be MAP<STRING, …>",
                        field.name()
                    )));
                }
            },
            other => {
                return Err(Error::schema(format!(
                    "column '{}' has the type {other}, which cannot be read from JSON",
                    field.name()
                )));
            }
        };
        Ok(Self { validity: Validity::default(), nullable: field.is_nullable(), values })
    }

    pub(crate) fn push_null(&mut self) {
        self.validity.push(false);
        match &mut self.values {
            Values::Boolean(v) => v.push(false),
            Values::Int8(v) => v.push(0),
            Values::Int16(v) => v.push(0),
            Values::Int32(v) | Values::Date(v) => v.push(0),
            Values::Int64(v) | Values::Timestamp { values: v, .. } => v.push(0),
            Values::Float32(v) => v.push(0.0),
            Values::Float64(v) => v.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
            Values::Text { offsets, data } | Values::Binary { offsets, data, .. } => offsets.push(data.len() as i32),
            Values::Struct(fields) => fields.push_null(),
            Values::List { offsets, item, .. } => offsets.push(item.validity.len as i32),
            Values::Map { offsets, keys, .. } => offsets.push(keys.validity.len as i32),
        }
    }

    pub(crate) fn truncate(&mut self, rows: usize) {
        self.validity.truncate(rows);
        match &mut self.values {
            Values::Boolean(v) => v.truncate(rows),
            Values::Int8(v) => v.truncate(rows),
            Values::Int16(v) => v.truncate(rows),
            Values::Int32(v) | Values::Date(v) => v.truncate(rows),
            Values::Int64(v) | Values::Timestamp { values: v, .. } => v.truncate(rows),
            Values::Float32(v) => v.truncate(rows),
            Values::Float64(v) => v.truncate(rows),
            Values::Decimal { values, .. } => values.truncate(rows),
            Values::Text { offsets, data } | Values::Binary { offsets, data, .. } => {
                offsets.truncate(rows + 1);
                data.truncate(offsets[rows] as usize);
            }
            Values::Struct(fields) => fields.truncate(rows),
            Values::List { offsets, item, .. } => {
                offsets.truncate(rows + 1);
                item.truncate(offsets[rows] as usize);
            }
            Values::Map { offsets, keys, values, .. } => {
                offsets.truncate(rows + 1);
                keys.truncate(offsets[rows] as usize);
                values.truncate(offsets[rows] as usize);
            }
        }
    }

    /// Decodes the value at the cursor as one more row. After a fault the caller truncates the column.
    #[inline]
    pub(crate) fn read(&mut self, cursor: &mut Cursor<'_>, depth: u32) -> Scan<()> {
        let next = cursor.next()?;
        if next == Next::Null {
            cursor.word(b"null")?;
            if !self.nullable {
                return fault("null in a NOT NULL field", cursor.at);
            }
            self.push_null();
            return Ok(());
        }
        let at = cursor.at;
        match &mut self.values {
            Values::Text { offsets, data } => {
                if next == Next::String {
                    unescape(cursor.string()?, data);
                } else {
                    cursor.skip_value(depth)?;
                    data.extend_from_slice(&cursor.bytes[at..cursor.at]);
                }
                offsets.push(data.len() as i32);
            }
            Values::Int32(v) => v.push(int(cursor, next, "INT")?),
            Values::Int64(v) => v.push(int(cursor, next, "BIGINT")?),
            Values::Int16(v) => v.push(int(cursor, next, "SMALLINT")?),
            Values::Int8(v) => v.push(int(cursor, next, "TINYINT")?),
            Values::Float64(v) => v.push(float(cursor, next, "DOUBLE")?),
            Values::Float32(v) => v.push(float(cursor, next, "FLOAT")?),
            Values::Timestamp { values, unit, zone } => values.push(timestamp(cursor, next, *unit, *zone)?),
            Values::Boolean(v) => match next {
                Next::True => {
                    cursor.word(b"true")?;
                    v.push(true);
                }
                Next::False => {
                    cursor.word(b"false")?;
                    v.push(false);
                }
                _ => return misfit(next, "BOOLEAN", at),
            },
            Values::Decimal { values, precision, scale } => {
                let text = number(cursor, next, "DECIMAL")?;
                let value = match Decimal::parse(text).scaled(i64::from(*scale)) {
                    Ok(v) if v.unsigned_abs() < 10u128.pow(u32::from(*precision)) => v,
                    Err(Unfit::Fraction) => {
                        return fault(
                            format!(
                                "a number with more than {scale} decimals does not fit DECIMAL({precision},{scale})"
                            ),
                            at,
                        );
                    }
                    _ => return fault(format!("a number out of range for DECIMAL({precision},{scale})"), at),
                };
                values.push(value);
            }
            Values::Date(v) => v.push(date(cursor, next)?),
            Values::Binary { offsets, data, scratch } => {
                if next != Next::String {
                    return misfit(next, "BINARY", at);
                }
                scratch.clear();
                unescape(cursor.string()?, scratch);
                if base64::engine::general_purpose::STANDARD.decode_vec(&*scratch, data).is_err() {
                    return fault("not base64", at);
                }
                offsets.push(data.len() as i32);
            }
            Values::Struct(fields) => {
                if next != Next::Object {
                    return misfit(next, "STRUCT", at);
                }
                fields.read(cursor, self.validity.len, depth)?;
            }
            Values::List { offsets, item, .. } => {
                if next != Next::Array {
                    return misfit(next, "ARRAY", at);
                }
                let mut index = 0usize;
                cursor.array(depth, |cursor, depth| {
                    item.read(cursor, depth).map_err(|f| within(f, &index.to_string()))?;
                    index += 1;
                    Ok(())
                })?;
                offsets.push(item.validity.len as i32);
            }
            Values::Map { offsets, keys, values, names, .. } => {
                if next != Next::Object {
                    return misfit(next, "MAP", at);
                }
                // The last value of a repeated key counts, in the place of the first. So all values are located before they are read.
                names.clear();
                cursor.object(depth, |cursor, key, depth| {
                    cursor.skip_space();
                    let place = cursor.at;
                    cursor.skip_value(depth)?;
                    names.put(key, place);
                    Ok(())
                })?;
                let end = cursor.at;
                for index in 0..names.entries.len() {
                    keys.push_text(names.name(index));
                    cursor.at = names.entries[index].value;
                    values.read(cursor, depth + 1)?;
                }
                cursor.at = end;
                offsets.push(keys.validity.len as i32);
            }
        }
        self.validity.push(true);
        Ok(())
    }

    /// Decodes all documents up to the end of the text as the elements of a list. After a fault the caller truncates the column.
    pub(crate) fn read_documents(&mut self, cursor: &mut Cursor<'_>) -> Scan<()> {
        let Values::List { offsets, item, .. } = &mut self.values else { return fault("several documents", cursor.at) };
        let mut index = 0usize;
        loop {
            cursor.skip_space();
            if cursor.at == cursor.bytes.len() {
                break;
            }
            let read = match cursor.next() {
                Ok(Next::Null) => fault("null instead of a document", cursor.at),
                Ok(_) => item.read(cursor, 0),
                Err(f) => Err(f),
            };
            read.map_err(|f| within(f, &index.to_string()))?;
            index += 1;
        }
        offsets.push(item.validity.len as i32);
        self.validity.push(true);
        Ok(())
    }

    fn misspelt(&self, above: &str, out: &mut Vec<(String, String)>) {
        match &self.values {
            Values::Struct(fields) => fields.misspelt(above, out),
            Values::List { item, .. } => item.misspelt(above, out),
            _ => {}
        }
    }

    fn push_text(&mut self, text: &[u8]) {
        if let Values::Text { offsets, data } = &mut self.values {
            data.extend_from_slice(text);
            offsets.push(data.len() as i32);
            self.validity.push(true);
        }
    }

    pub(crate) fn finish(&mut self) -> Result<ArrayRef> {
        let rows = self.validity.len;
        let nulls = self.validity.finish();
        fn primitive<T: ArrowPrimitiveType>(v: &mut Vec<T::Native>, nulls: Option<NullBuffer>) -> PrimitiveArray<T> {
            let capacity = v.len();
            PrimitiveArray::new(ScalarBuffer::from(std::mem::replace(v, Vec::with_capacity(capacity))), nulls)
        }
        fn ends(offsets: &mut Vec<i32>) -> OffsetBuffer<i32> {
            let capacity = offsets.len();
            let done = std::mem::replace(offsets, Vec::with_capacity(capacity));
            offsets.push(0);
            OffsetBuffer::new(ScalarBuffer::from(done))
        }
        fn bytes(data: &mut Vec<u8>) -> Buffer {
            let capacity = data.len();
            Buffer::from(std::mem::replace(data, Vec::with_capacity(capacity)))
        }
        Ok(match &mut self.values {
            Values::Boolean(v) => Arc::new(BooleanArray::new(std::mem::take(v).into(), nulls)),
            Values::Int8(v) => Arc::new(primitive::<Int8Type>(v, nulls)),
            Values::Int16(v) => Arc::new(primitive::<Int16Type>(v, nulls)),
            Values::Int32(v) => Arc::new(primitive::<Int32Type>(v, nulls)),
            Values::Int64(v) => Arc::new(primitive::<Int64Type>(v, nulls)),
            Values::Float32(v) => Arc::new(primitive::<Float32Type>(v, nulls)),
            Values::Float64(v) => Arc::new(primitive::<Float64Type>(v, nulls)),
            Values::Date(v) => Arc::new(primitive::<Date32Type>(v, nulls)),
            Values::Timestamp { values, .. } => {
                Arc::new(primitive::<TimestampMicrosecondType>(values, nulls).with_timezone("UTC"))
            }
            Values::Decimal { values, precision, scale } => {
                Arc::new(primitive::<Decimal128Type>(values, nulls).with_precision_and_scale(*precision, *scale)?)
            }
            // `try_new` validates the UTF-8 a second time, about as fast as it could be copied; skipping that would need `unsafe`.
            Values::Text { offsets, data } => Arc::new(StringArray::try_new(ends(offsets), bytes(data), nulls)?),
            Values::Binary { offsets, data, .. } => Arc::new(BinaryArray::try_new(ends(offsets), bytes(data), nulls)?),
            Values::Struct(fields) => {
                let columns = fields.finish()?;
                Arc::new(StructArray::try_new_with_length(fields.fields.clone(), columns, nulls, rows)?)
            }
            Values::List { offsets, item, field } => {
                Arc::new(ListArray::try_new(field.clone(), ends(offsets), item.finish()?, nulls)?)
            }
            Values::Map { offsets, keys, values, entries, .. } => {
                let DataType::Struct(kv) = entries.data_type() else {
                    return Err(Error::internal("a map without entries"));
                };
                let pairs = StructArray::try_new(kv.clone(), vec![keys.finish()?, values.finish()?], None)?;
                Arc::new(MapArray::try_new(entries.clone(), ends(offsets), pairs, nulls, false)?)
            }
        })
    }
}
