//! JSON: each message is one object and becomes one row.
//!
//! This is own code because arrow-json decodes a byte stream: it can merge two messages into one row, one bad message spoils its
//! neighbours, 1.9 becomes 1, and a deeply nested value ends the process.

mod infer;
#[cfg(test)]
mod infer_test;
mod options;
#[cfg(test)]
mod test;

pub(crate) use crate::json::{ColumnOptions, TimestampUnit, column};
pub(crate) use infer::{Inferred, infer};
pub(crate) use options::JsonOptions;

use super::{Decode, Malformed, Rows};
use crate::Result;
use crate::batch::Messages;
use crate::json::{Cursor, Fault, Fields, Next, Scan, Taken, fault};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

/// Decodes messages that hold one JSON object each.
pub(crate) struct JsonDecoder {
    schema: SchemaRef,
    fields: Fields,
    /// The document as a whole is the one column.
    whole: bool,
    null_rows: bool,
    taken: Taken,
}

impl JsonDecoder {
    /// `options` takes the path of a field. With `null_rows`, messages with a null value become rows of NULLs.
    pub(crate) fn new(
        schema: &SchemaRef,
        options: &dyn Fn(&str) -> ColumnOptions,
        null_rows: bool,
        taken: Taken,
    ) -> Result<Self> {
        let fields = Fields::new(schema.fields(), "", options)?;
        Ok(Self { schema: schema.clone(), fields, whole: false, null_rows, taken })
    }

    /// For messages whose document is a list or a map: the one column of the schema.
    pub(crate) fn of_whole(
        schema: &SchemaRef,
        options: &dyn Fn(&str) -> ColumnOptions,
        null_rows: bool,
        taken: Taken,
    ) -> Result<Self> {
        Ok(Self { whole: true, ..Self::new(schema, options, null_rows, taken)? })
    }

    #[inline]
    fn document(&mut self, value: &[u8], row: usize) -> Scan<u64> {
        check_text(value)?;
        let mut cursor = Cursor::new(value);
        cursor.taken = self.taken;
        let next = match cursor.next() {
            Err(_) if value[0] == 0 && value.len() > 5 => {
                return fault("a schema registry's framing (a zero byte and an id) instead of JSON", 0);
            }
            Err(_) if value.starts_with("\u{feff}".as_bytes()) => {
                return fault("a byte order mark in front of the JSON", 0);
            }
            next => next?,
        };
        let unknown = match next {
            Next::Null if self.whole => return fault("null instead of a document", cursor.at),
            _ if self.whole => {
                self.fields.columns[0].read(&mut cursor, 0)?;
                0
            }
            Next::Object => self.fields.read(&mut cursor, row, 0)?,
            Next::Array => {
                let how = "an array instead of an object: schema=\"ARRAY<STRUCT<…>>\" reads it as one column, which explode takes apart";
                return fault(how, cursor.at);
            }
            other => return fault(format!("{} instead of an object", other.name()), cursor.at),
        };
        cursor.skip_space();
        if cursor.at != value.len() {
            let how = "more than one JSON document in one message: format=\"jsonl\" reads them as a list";
            return fault(how, cursor.at);
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
                    malformed.push(malformed_message(i as u32, &f));
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
                "no message had a value for '{column}'; the messages have '{field}': fields match exactly, upper and lower case too"
            )
        };
        misspelt.into_iter().map(text).collect()
    }
}

/// Text that can be JSON: not empty, and UTF-8.
#[inline]
pub(super) fn check_text(value: &[u8]) -> Scan<()> {
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
    Ok(())
}

#[cold]
pub(super) fn malformed_message(message: u32, f: &Fault) -> Malformed {
    let field = (!f.field.is_empty()).then(|| f.field.to_string());
    Malformed { message, error: describe(f), field }
}

pub(super) fn describe(f: &Fault) -> String {
    if f.field.is_empty() {
        format!("{} (byte {})", f.what, f.at)
    } else {
        format!("field '{}': {} (byte {})", f.field, f.what, f.at)
    }
}
