//! JSON: each message is one object and becomes one row.
//!
//! This is own code because arrow-json decodes a byte stream: it can merge two messages into one row, one bad message spoils its
//! neighbours, 1.9 becomes 1, and a deeply nested value ends the process.

mod column;
mod number;
mod options;
mod scalar;
mod scan;
#[cfg(test)]
mod test;

pub use column::ColumnOptions;
pub use options::JsonOptions;
pub use scalar::TimestampUnit;

use super::{Decode, Malformed, Rows};
use crate::Result;
use crate::batch::Messages;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, SchemaRef};
use column::{Column, Fields};
use scan::{Cursor, Fault, Next, Scan, fault};

/// Decodes messages that hold one JSON object each.
pub struct JsonDecoder {
    schema: SchemaRef,
    fields: Fields,
    null_rows: bool,
}

impl JsonDecoder {
    /// `options` takes the path of a field. With `null_rows`, messages with a null value become rows of NULLs.
    pub fn new(schema: &SchemaRef, options: &dyn Fn(&str) -> ColumnOptions, null_rows: bool) -> Result<Self> {
        Ok(Self { schema: schema.clone(), fields: Fields::new(schema.fields(), "", options)?, null_rows })
    }

    #[inline]
    fn document(&mut self, value: &[u8], row: usize) -> Scan<u64> {
        if value.is_empty() {
            return fault("an empty value", 0);
        }
        if let Err(e) = simdutf8::basic::from_utf8(value) {
            let at = simdutf8::compat::from_utf8(value).err().map_or(0, |e| e.valid_up_to());
            return if value.starts_with(&[0x1f, 0x8b]) {
                fault("compressed with gzip, not JSON: format=\"raw\" gives the bytes", 0)
            } else {
                fault(format!("not UTF-8 ({e})"), at)
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

impl Decode for JsonDecoder {
    fn decode(&mut self, messages: &Messages, wanted: &[u32]) -> Result<Rows> {
        let mut rows = Vec::with_capacity(wanted.len());
        let (mut malformed, mut tombstones, mut unknown_fields) = (vec![], vec![], 0);
        for i in wanted.iter().map(|i| *i as usize) {
            let row = rows.len();
            let Some(value) = messages.value(i) else {
                if self.null_rows {
                    self.fields.push_null();
                    rows.push(i as u32);
                }
                tombstones.push(i as u32);
                continue;
            };
            match self.document(value, row) {
                Ok(unknown) => {
                    unknown_fields += unknown;
                    rows.push(i as u32);
                }
                Err(f) => {
                    self.fields.truncate(row);
                    malformed.push(Malformed { message: i as u32, error: describe(&f) });
                }
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), self.fields.finish()?, &options)?;
        Ok(Rows { malformed, tombstones, unknown_fields, ..Rows::new(batch, rows) })
    }

    /// Names the columns without a value so far for which the messages have a field that differs in case only.
    fn hints(&self) -> Vec<String> {
        let mut misspelt = vec![];
        self.fields.misspelt("", &mut misspelt);
        let text = |(column, field)| {
            format!(
                "no message had a value for '{column}'; they have '{field}': fields match exactly, upper and lower case too"
            )
        };
        misspelt.into_iter().map(text).collect()
    }
}

/// A column from the JSON text of its values; the value of row i ends at `ends[i]`. NaN and Infinity are numbers here. The error names
/// the row of the first value that does not fit and, where the value is nested, its path.
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
