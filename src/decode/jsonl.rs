//! JSON lines: each message has any number of documents, and becomes one row with the list of all its documents. If one document is malformed, so
//! is the message.

use super::json::{JsonOptions, check_text, malformed_message};
use super::{Decode, FormatOptions, Given, Rows, Setup};
use crate::batch::Messages;
use crate::json::{Column, Cursor, Scan, Taken, fault};
use crate::{Error, Result};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

/// The options of JSON count for each document.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct JsonlOptions {
    pub json: JsonOptions,
}

impl FormatOptions for JsonlOptions {
    fn names() -> &'static [&'static str] {
        &["jsonl", "ndjson"]
    }

    fn about() -> &'static str {
        "several JSON documents in a message"
    }

    fn read(given: Given) -> Result<Self> {
        Ok(Self { json: JsonOptions::read(given)? })
    }

    fn schema(&self, declared: Option<&SchemaRef>) -> Result<SchemaRef> {
        let document = match declared {
            None => {
                return Err(Error::schema(
                    "format=\"jsonl\" needs schema=, the columns of a document, such as \"time TIMESTAMP, bpm INT\"",
                ));
            }
            Some(schema) if self.json.whole => schema.field(0).data_type().clone(),
            Some(schema) => DataType::Struct(schema.fields().clone()),
        };
        let list = DataType::List(Arc::new(Field::new("element", document, true)));
        Ok(Arc::new(Schema::new(vec![Field::new("value", list, true)])))
    }

    fn decoder(&self, setup: Setup<'_>) -> Result<Box<dyn Decode>> {
        let zone = self.json.check(setup.declared)?;
        let schema = self.schema(setup.declared)?;
        let column = Column::new(schema.field(0), "value", &self.json.within(zone))?;
        let (null_rows, taken) = (setup.null_rows, self.json.taken());
        Ok(Box::new(JsonlDecoder { schema, column, null_rows, taken }))
    }

    fn identity(&self) -> String {
        self.json.identity_of("Jsonl")
    }
}

struct JsonlDecoder {
    schema: SchemaRef,
    column: Column,
    null_rows: bool,
    taken: Taken,
}

impl JsonlDecoder {
    fn documents(&mut self, value: &[u8]) -> Scan<()> {
        check_text(value)?;
        let mut cursor = Cursor::new(value);
        cursor.taken = self.taken;
        cursor.skip_space();
        if cursor.at == value.len() {
            return fault("no JSON document", cursor.at);
        }
        self.column.read_documents(&mut cursor)
    }
}

impl Decode for JsonlDecoder {
    fn decode(&mut self, messages: &Messages, wanted: &[u32]) -> Result<Rows> {
        let mut rows = Vec::with_capacity(wanted.len());
        let (mut malformed, mut tombstones) = (vec![], vec![]);
        for i in wanted.iter().map(|i| *i as usize) {
            let row = rows.len();
            let Some(value) = messages.value(i) else {
                if self.null_rows {
                    self.column.push_null();
                    rows.push(i as u32);
                }
                tombstones.push(i as u32);
                continue;
            };
            match self.documents(value) {
                Ok(()) => rows.push(i as u32),
                Err(f) => {
                    self.column.truncate(row);
                    malformed.push(malformed_message(i as u32, &f));
                }
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), vec![self.column.finish()?], &options)?;
        Ok(Rows { malformed, tombstones, ..Rows::new(batch, rows) })
    }
}
