//! Column builders that a row can be taken back from: a message that turns out malformed halfway leaves no trace, and of
//! a repeated field the last value replaces the first.

use super::instant;
use super::number::{self, Decimal, Unfit};
use super::scan::{Cursor, Fault, Next, Scan, Text, fault, unescape};
use crate::{Error, Result};
use arrow::array::*;
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::*;
use base64::Engine;
use chrono_tz::Tz;
use std::sync::Arc;

/// The unit of numbers in a TIMESTAMP column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimestampUnit {
    S,
    Ms,
    Us,
    Ns,
}

impl TimestampUnit {
    /// Microseconds are ten to this power of the unit.
    fn scale(self) -> i64 {
        match self {
            Self::S => 6,
            Self::Ms => 3,
            Self::Us => 0,
            Self::Ns => -3,
        }
    }
}

/// One value's NULL mask: nothing is stored until the first NULL.
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

pub struct Column {
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
    Map { offsets: Vec<i32>, keys: Box<Column>, values: Box<Column>, entries: FieldRef, field_names: Vec<Vec<u8>> },
}

/// The columns of an object, by field name.
pub struct Fields {
    pub fields: arrow::datatypes::Fields,
    /// Each name followed by its closing quote, as it stands in the text when it needs no escapes.
    quoted: Vec<Vec<u8>>,
    pub columns: Vec<Column>,
    scratch: Vec<u8>,
}

/// What the columns need to know besides their types.
#[derive(Debug, Clone, Default)]
pub struct ColumnOptions {
    pub zone: Option<Tz>,
    pub unit: Option<TimestampUnit>,
}

impl Fields {
    pub fn new(fields: &arrow::datatypes::Fields, options: &dyn Fn(&str) -> ColumnOptions) -> Result<Self> {
        let columns = fields.iter().map(|f| Column::new(f, &options(f.name()))).collect::<Result<Vec<_>>>()?;
        let quoted = fields.iter().map(|f| [f.name().as_bytes(), b"\""].concat()).collect();
        Ok(Self { fields: fields.clone(), quoted, columns, scratch: Vec::new() })
    }

    /// Decodes the object that the cursor stands on as row `row`. Returns how many fields nobody asked for.
    #[inline]
    pub fn read(&mut self, cursor: &mut Cursor<'_>, row: usize, depth: u32) -> Scan<u64> {
        let mut unknown = 0;
        let mut expected = 0;
        let mut faults: Vec<(usize, Box<Fault>)> = Vec::new(); // allocates only when there is one
        let Self { fields, quoted, columns, scratch } = self;
        cursor.object(depth, |cursor, key, depth| {
            let found = find(quoted, &mut expected, key, scratch);
            let Some(index) = found else {
                unknown += 1;
                return cursor.skip_value(depth);
            };
            let column = &mut columns[index];
            if column.validity.len > row {
                column.truncate(row); // of a repeated field the last counts
            }
            if !faults.is_empty() {
                faults.retain(|(i, _)| *i != index);
            }
            let start = cursor.at;
            match column.read(cursor, depth) {
                Ok(()) => Ok(()),
                Err(f) => {
                    // JSON it may be all the same, and the field may come again: only the last counts.
                    column.truncate(row);
                    cursor.at = start;
                    cursor.skip_value(depth)?;
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
                column.push_null();
            }
        }
        Ok(unknown)
    }

    pub fn push_null(&mut self) {
        self.columns.iter_mut().for_each(Column::push_null);
    }

    pub fn truncate(&mut self, rows: usize) {
        // Unconditionally: a column that has not taken the row may hold pieces of it all the same.
        self.columns.iter_mut().for_each(|c| c.truncate(rows));
    }

    pub fn finish(&mut self) -> Result<Vec<ArrayRef>> {
        self.columns.iter_mut().map(Column::finish).collect()
    }
}

#[cold]
fn within(mut f: Box<Fault>, field: &str) -> Box<Fault> {
    f.field = if f.field.is_empty() { field.to_string() } else { format!("{field}.{}", f.field) };
    f
}

/// The column of a key. Producers write the fields of every message in one order: the next one is tried first.
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
    pub fn new(field: &Field, options: &ColumnOptions) -> Result<Self> {
        let with = |f: &Field| Column::new(f, options);
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
                Values::Timestamp { values: vec![], unit: options.unit, zone: options.zone }
            }
            DataType::Utf8 => Values::Text { offsets: vec![0], data: vec![] },
            DataType::Binary => Values::Binary { offsets: vec![0], data: vec![], scratch: vec![] },
            DataType::Struct(fields) => Values::Struct(Fields::new(fields, &|_| options.clone())?),
            DataType::List(item) => Values::List { offsets: vec![0], item: Box::new(with(item)?), field: item.clone() },
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(kv) if kv.len() == 2 && *kv[0].data_type() == DataType::Utf8 => Values::Map {
                    offsets: vec![0],
                    keys: Box::new(with(&kv[0])?),
                    values: Box::new(with(&kv[1])?),
                    entries: entries.clone(),
                    field_names: vec![],
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

    fn push_null(&mut self) {
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

    fn truncate(&mut self, rows: usize) {
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

    /// Decodes the value that the cursor stands on as one more row. On a fault the caller truncates.
    #[inline]
    fn read(&mut self, cursor: &mut Cursor<'_>, depth: u32) -> Scan<()> {
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
            Values::Date(v) => {
                if next != Next::String {
                    return misfit(next, "DATE", at);
                }
                match instant::date(cursor.string()?.raw) {
                    Some(days) => v.push(days),
                    None => return fault("not a date such as 2024-01-31", at),
                }
            }
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
            Values::Map { offsets, keys, values, field_names, .. } => {
                if next != Next::Object {
                    return misfit(next, "MAP", at);
                }
                // Rows of a map are few; the last of a repeated key counts, so values are found first and read then.
                let start = keys.validity.len;
                let mut places: Vec<usize> = vec![];
                field_names.clear();
                cursor.object(depth, |cursor, key, depth| {
                    let mut name = Vec::new();
                    unescape(key, &mut name);
                    cursor.skip_space();
                    let place = cursor.at;
                    cursor.skip_value(depth)?;
                    match field_names.iter().position(|n| *n == name) {
                        Some(i) => places[i] = place,
                        None => {
                            field_names.push(name);
                            places.push(place);
                        }
                    }
                    Ok(())
                })?;
                let end = cursor.at;
                for (name, place) in field_names.iter().zip(places) {
                    keys.push_text(name);
                    cursor.at = place;
                    values.read(cursor, depth + 1)?;
                }
                cursor.at = end;
                debug_assert!(keys.validity.len >= start);
                offsets.push(keys.validity.len as i32);
            }
        }
        self.validity.push(true);
        Ok(())
    }

    fn push_text(&mut self, text: &[u8]) {
        if let Values::Text { offsets, data } = &mut self.values {
            data.extend_from_slice(text);
            offsets.push(data.len() as i32);
            self.validity.push(true);
        }
    }

    fn finish(&mut self) -> Result<ArrayRef> {
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
            // SAFETY-free construction would validate UTF-8 a second time; `try_new` does that at memcpy-like speed.
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

#[cold]
fn misfit<T>(next: Next, wanted: &str, at: usize) -> Scan<T> {
    fault(format!("{} does not fit {wanted}", next.name()), at)
}

#[inline]
fn number<'a>(cursor: &mut Cursor<'a>, next: Next, wanted: &str) -> Scan<&'a [u8]> {
    if next == Next::Number {
        return cursor.number();
    }
    if next == Next::String {
        return fault(format!("a quoted value does not fit {wanted}"), cursor.at);
    }
    misfit(next, wanted, cursor.at)
}

#[inline]
fn int<T: TryFrom<i64> + TryFrom<i128>>(cursor: &mut Cursor<'_>, next: Next, wanted: &'static str) -> Scan<T> {
    let at = cursor.at;
    let text = number(cursor, next, wanted)?;
    let value = match number::small_integer(text) {
        Some(n) => T::try_from(n).ok(),
        None => match number::integer(text) {
            Ok(n) => T::try_from(n).ok(),
            Err(Unfit::Fraction) => return fault(format!("a number with a fraction does not fit {wanted}"), at),
            Err(Unfit::Range) => None,
        },
    };
    match value {
        Some(v) => Ok(v),
        None => fault(format!("a number out of range for {wanted}"), at),
    }
}

trait Float: lexical_core::FromLexical {
    fn finite(self) -> bool;
}
impl Float for f64 {
    fn finite(self) -> bool {
        self.is_finite()
    }
}
impl Float for f32 {
    fn finite(self) -> bool {
        self.is_finite()
    }
}

#[inline]
fn float<T: Float>(cursor: &mut Cursor<'_>, next: Next, wanted: &'static str) -> Scan<T> {
    let at = cursor.at;
    match lexical_core::parse::<T>(number(cursor, next, wanted)?) {
        Ok(v) if v.finite() => Ok(v),
        Ok(_) => fault(format!("a number out of range for {wanted}"), at),
        Err(_) => fault("a broken number", at),
    }
}

fn timestamp(cursor: &mut Cursor<'_>, next: Next, unit: Option<TimestampUnit>, zone: Option<Tz>) -> Scan<i64> {
    let at = cursor.at;
    match (next, unit) {
        (Next::String, _) => {
            let text = cursor.string()?;
            let read = if text.escaped {
                let mut plain = Vec::new();
                unescape(text, &mut plain);
                instant::timestamp(&plain, zone)
            } else {
                instant::timestamp(text.raw, zone)
            };
            read.or_else(|e| fault(e.text(), at))
        }
        (Next::Number, Some(unit)) => match Decimal::parse(cursor.number()?).scaled(unit.scale()) {
            Ok(us) => i64::try_from(us).or_else(|_| fault("a number out of range for TIMESTAMP", at)),
            Err(Unfit::Fraction) => fault(instant::NoTimestamp::SubMicrosecond.text(), at),
            Err(Unfit::Range) => fault("a number out of range for TIMESTAMP", at),
        },
        (Next::Number, None) => {
            fault("a number in a TIMESTAMP column: say timestamp_unit=\"s\", \"ms\", \"us\" or \"ns\"", at)
        }
        _ => misfit(next, "TIMESTAMP", at),
    }
}
