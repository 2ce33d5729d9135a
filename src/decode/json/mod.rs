//! JSON: one message is one object is one row.
//!
//! Own code instead of arrow-json, because that decodes a byte stream: two messages can melt into one row, one bad message
//! spoils its neighbours, 1.9 becomes 1, and a deeply nested value ends the process.

mod column;
mod instant;
mod number;
mod scan;
#[cfg(test)]
mod test;

pub use column::{ColumnOptions, TimestampUnit};

use super::{Malformed, Rows};
use crate::Result;
use crate::batch::Messages;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use column::Fields;
use scan::{Cursor, Fault, Next, Scan, fault};

pub struct JsonDecoder {
    schema: SchemaRef,
    fields: Fields,
}

impl JsonDecoder {
    pub fn new(schema: &SchemaRef, options: &dyn Fn(&str) -> ColumnOptions) -> Result<Self> {
        Ok(Self { schema: schema.clone(), fields: Fields::new(schema.fields(), options)? })
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
            return fault(format!("not UTF-8 ({e})"), at);
        }
        let mut cursor = Cursor::new(value);
        match cursor.next()? {
            Next::Object => {}
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

#[cold]
fn describe(f: &Fault) -> String {
    if f.field.is_empty() {
        format!("{} (byte {})", f.what, f.at)
    } else {
        format!("field '{}': {} (byte {})", f.field, f.what, f.at)
    }
}
