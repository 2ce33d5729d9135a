//! JSON: one message is one object is one row.
//!
//! Own code instead of arrow-json, because that decodes a byte stream: two messages can melt into one row, one bad message
//! spoils its neighbours, 1.9 becomes 1, and a deeply nested value ends the process.

mod column;
mod number;
mod scalar;
mod scan;
#[cfg(test)]
mod test;

pub use column::ColumnOptions;
pub use scalar::TimestampUnit;

use super::{Malformed, Rows};
use crate::Result;
use crate::batch::Messages;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, SchemaRef};
use column::{Column, Fields};
use scan::{Cursor, Fault, Next, Scan, fault};

pub struct JsonDecoder {
    schema: SchemaRef,
    fields: Fields,
}

impl JsonDecoder {
    pub fn new(schema: &SchemaRef, options: &dyn Fn(&str) -> ColumnOptions) -> Result<Self> {
        Ok(Self { schema: schema.clone(), fields: Fields::new(schema.fields(), "", options)? })
    }

    /// Columns without a value so far, and a field that differs from them in case alone.
    pub fn misspelt(&self) -> Vec<(String, String)> {
        let mut out = vec![];
        self.fields.misspelt("", &mut out);
        out
    }

    /// Decodes the messages at `wanted`; null values become rows of NULLs if `null_rows` says so.
    pub fn decode(&mut self, messages: &Messages, wanted: &[u32], null_rows: bool) -> Result<Rows> {
        let mut out = Rows::with_capacity(wanted.len());
        for i in wanted.iter().map(|i| *i as usize) {
            let row = out.messages.len();
            let Some(value) = messages.value(i) else {
                if null_rows {
                    self.fields.push_null();
                    out.messages.push(i as u32);
                }
                out.tombstones.push(i as u32);
                continue;
            };
            match self.document(value, row) {
                Ok(unknown) => {
                    out.unknown_fields += unknown;
                    out.messages.push(i as u32);
                }
                Err(f) => {
                    self.fields.truncate(row);
                    out.malformed.push(Malformed { message: i as u32, error: describe(&f) });
                }
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(out.messages.len()));
        out.rows = Some(RecordBatch::try_new_with_options(self.schema.clone(), self.fields.finish()?, &options)?);
        Ok(out)
    }

    #[inline]
    fn document(&mut self, value: &[u8], row: usize) -> Scan<u64> {
        if value.is_empty() {
            return fault("an empty value", 0);
        }
        if let Err(e) = simdutf8::basic::from_utf8(value) {
            let at = simdutf8::compat::from_utf8(value).err().map_or(0, |e| e.valid_up_to());
            return match value.starts_with(&[0x1f, 0x8b]) {
                true => fault("compressed with gzip, not JSON: format=\"raw\" hands out the bytes", 0),
                false => fault(format!("not UTF-8 ({e})"), at),
            };
        }
        let mut cursor = Cursor::new(value);
        let next = match cursor.next() {
            Err(_) if value[0] == 0 && value.len() > 5 => {
                return fault("a schema registry's framing (a zero byte and an id) instead of JSON", 0);
            }
            Err(_) if value.starts_with("\u{feff}".as_bytes()) => {
                return fault("a byte order mark in front of the JSON", 0);
            }
            next => next?,
        };
        match next {
            Next::Object => {}
            Next::Array => {
                let how = "an array instead of an object: format=\"raw\" and map_batches take it apart";
                return fault(how, cursor.at);
            }
            other => return fault(format!("{} instead of an object", other.name()), cursor.at),
        }
        let unknown = self.fields.read(&mut cursor, row, 0)?;
        cursor.skip_space();
        if cursor.at != value.len() {
            return fault("more than one JSON document in one message", cursor.at);
        }
        Ok(unknown)
    }
}

/// One value of a column, as JSON text: of row i it ends at `ends[i]`. NaN and Infinity are numbers here. The first that does not fit
/// is named by its row and, where it is nested, its path.
pub fn column(field: &Field, text: &[u8], ends: &[usize]) -> Result<std::result::Result<ArrayRef, (usize, String)>> {
    let mut column = Column::new(field, "", &|_| ColumnOptions::default())?;
    let mut start = 0;
    for (row, end) in ends.iter().enumerate() {
        let mut cursor = Cursor::new(&text[start..*end]);
        cursor.nan = true;
        if let Err(f) = column.read(&mut cursor, 0) {
            let place = if f.field.is_empty() { String::new() } else { format!("{}: ", f.field) };
            return Ok(Err((row, format!("{place}{}", f.what))));
        }
        start = *end;
    }
    Ok(Ok(column.finish()?))
}

#[cold]
fn describe(f: &Fault) -> String {
    if f.field.is_empty() {
        format!("{} (byte {})", f.what, f.at)
    } else {
        format!("field '{}': {} (byte {})", f.field, f.what, f.at)
    }
}
