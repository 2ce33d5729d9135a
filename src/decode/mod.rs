//! Bytes to Arrow: one file per format, and the factory.
//!
//! One message, one row, or none. A message that cannot be decoded never changes its neighbours: it is reported with its
//! place, and what is to become of it (`on_malformed`) is the query's to say.

pub mod json;
pub mod raw;

use crate::batch::{Batch, MAX_MESSAGE_BYTES, Messages, Origin, TooLarge};
use crate::{Error, Result};
use arrow::array::{RecordBatch, UInt32Array};
use arrow::datatypes::{Schema, SchemaRef};
use json::{ColumnOptions, JsonDecoder, TimestampUnit};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Json,
    Raw,
}

impl std::str::FromStr for Format {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.to_lowercase().as_str() {
            "json" => Ok(Self::Json),
            "raw" | "binary" | "kafka" => Ok(Self::Raw),
            other => Err(Error::config(format!(
                "format='{other}' is not a format that this version reads. Use format=\"json\" or format=\"raw\" (key and value as bytes)."
            ))),
        }
    }
}

/// What becomes of a message with a null value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnTombstone {
    #[default]
    Skip,
    NullRow,
    Quarantine,
}

/// How messages become rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecodeOptions {
    pub format: Format,
    pub timezone: Option<String>,
    pub timestamp_unit: Option<TimestampUnit>,
    pub timestamp_units: BTreeMap<String, TimestampUnit>,
    pub on_tombstone: OnTombstone,
    pub include_metadata: bool,
    /// A message whose value, key or headers have more is malformed.
    pub max_message_bytes: usize,
}

impl DecodeOptions {
    /// What tells them from others: as older versions wrote it, where nothing newer is said.
    pub fn identity(&self) -> String {
        format!("{self:?}").replace(&format!(", max_message_bytes: {MAX_MESSAGE_BYTES}"), "")
    }
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            format: Format::Json,
            timezone: None,
            timestamp_unit: None,
            timestamp_units: BTreeMap::new(),
            on_tombstone: OnTombstone::default(),
            include_metadata: false,
            max_message_bytes: MAX_MESSAGE_BYTES,
        }
    }
}

/// A message that could not be decoded, and why; the text never holds any of the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    pub message: u32,
    pub error: String,
}

/// What a format makes of some messages.
#[derive(Debug, Default)]
pub struct Rows {
    pub rows: Option<RecordBatch>,
    /// The message of each row.
    pub messages: Vec<u32>,
    pub malformed: Vec<Malformed>,
    pub tombstones: Vec<u32>,
    pub unknown_fields: u64,
}

impl Rows {
    fn with_capacity(n: usize) -> Self {
        Self { messages: Vec::with_capacity(n), ..Self::default() }
    }
}

/// Decoded messages.
#[derive(Debug)]
pub struct Decoded {
    pub batch: Batch,
    pub malformed: Vec<Malformed>,
    pub tombstones: Vec<u32>,
    pub unknown_fields: u64,
}

pub struct Decoder {
    schema: SchemaRef,
    format: Inner,
    options: DecodeOptions,
}

enum Inner {
    Json(Box<JsonDecoder>),
    Raw,
}

/// The columns that a source has, given what the user asked for.
pub fn output_schema(schema: Option<&SchemaRef>, options: &DecodeOptions) -> Result<SchemaRef> {
    let base = match (options.format, schema) {
        (Format::Raw, None) => raw::raw_schema(),
        (Format::Raw, Some(_)) => {
            return Err(Error::config(
                "format=\"raw\" has its own columns (key, value, topic, …): leave schema= out, or say format=\"json\".",
            ));
        }
        (Format::Json, Some(s)) if s.fields().is_empty() => {
            return Err(Error::schema("schema= has no columns. Write it as in schema=\"time TIMESTAMP, bpm INT\"."));
        }
        (Format::Json, Some(s)) => s.clone(),
        (Format::Json, None) => {
            return Err(Error::schema(
                "format=\"json\" needs schema=, a DDL string such as \"time TIMESTAMP, bpm INT\". To look at a topic first: peek(topic).",
            ));
        }
    };
    if !options.include_metadata {
        return Ok(base);
    }
    let mut fields: Vec<_> = base.fields().iter().cloned().collect();
    for extra in raw::metadata_fields() {
        if fields.iter().any(|f| f.name() == extra.name()) {
            return Err(Error::schema(format!(
                "include_metadata=True adds the column {}, which the schema has already. Rename the field in the schema.",
                extra.name()
            )));
        }
        fields.push(extra);
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Whether there is a field of this path, as "a.b"; lists and maps are passed through.
fn has_path(fields: &arrow::datatypes::Fields, path: &str) -> bool {
    use arrow::datatypes::DataType;
    fn inside(t: &DataType) -> Option<&arrow::datatypes::Fields> {
        match t {
            DataType::Struct(fields) => Some(fields),
            DataType::List(item) => inside(item.data_type()),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(kv) => kv.get(1).and_then(|v| inside(v.data_type())),
                _ => None,
            },
            _ => None,
        }
    }
    fields.iter().any(|f| {
        path == f.name()
            || path
                .strip_prefix(f.name().as_str())
                .and_then(|rest| rest.strip_prefix('.'))
                .is_some_and(|rest| inside(f.data_type()).is_some_and(|fields| has_path(fields, rest)))
    })
}

impl Decoder {
    pub fn new(schema: Option<&SchemaRef>, options: &DecodeOptions) -> Result<Self> {
        let output = output_schema(schema, options)?;
        let zone = options.timezone.as_deref().map_or(Ok(None), crate::calendar::named)?;
        for column in options.timestamp_units.keys() {
            if schema.is_none_or(|s| !has_path(s.fields(), column)) {
                return Err(Error::config(format!(
                    "timestamp_unit names the column '{column}', which the schema has not."
                )));
            }
        }
        if options.on_tombstone == OnTombstone::NullRow
            && let Some(set) = schema.and_then(|s| s.fields().iter().find(|f| !f.is_nullable()))
        {
            return Err(Error::config(format!(
                "on_tombstone=\"null_row\" makes a row of NULLs of a tombstone, and column '{}' is NOT NULL. Take NOT NULL off the \
                 schema, or say on_tombstone=\"skip\" or \"quarantine\".",
                set.name()
            )));
        }
        let format = match (options.format, schema) {
            (Format::Json, Some(schema)) => {
                // A struct's unit counts for what is in it, unless that has one of its own.
                let unit_of = |path: &str| {
                    let mut above = Some(path);
                    std::iter::from_fn(move || {
                        let this = above?;
                        above = this.rsplit_once('.').map(|(above, _)| above);
                        Some(this)
                    })
                    .find_map(|p| options.timestamp_units.get(p).copied())
                };
                let column_options =
                    |path: &str| ColumnOptions { zone, unit: unit_of(path).or(options.timestamp_unit) };
                Inner::Json(Box::new(JsonDecoder::new(schema, &column_options)?))
            }
            _ => Inner::Raw,
        };
        Ok(Self { schema: output, format, options: options.clone() })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Columns that no message had, where messages have them in another case: fields match exactly. One text each.
    pub fn hints(&self) -> Vec<String> {
        let Inner::Json(json) = &self.format else { return vec![] };
        let text = |(column, field): (String, String)| {
            format!(
                "no message had a value for '{column}'; they have '{field}': fields match exactly, upper and lower case too"
            )
        };
        json.misspelt().into_iter().map(text).collect()
    }

    /// The messages at `wanted` that are too large to be looked at, and the others.
    fn too_large(&self, messages: &Messages, wanted: &[u32]) -> (Vec<Malformed>, Vec<u32>) {
        let limit = self.options.max_message_bytes;
        let (mut large, mut within) = (vec![], vec![]);
        for message in wanted {
            let Some(TooLarge { part, bytes }) = messages.above(*message as usize, limit) else {
                within.push(*message);
                continue;
            };
            let verb = if part == "headers" { "have" } else { "has" };
            let error = format!("the {part} {verb} more bytes than max_message_bytes={limit} ({bytes} bytes)");
            large.push(Malformed { message: *message, error });
        }
        (large, within)
    }

    /// Decodes the messages at `wanted`, in that order.
    pub fn decode(&mut self, messages: &Arc<Messages>, wanted: &[u32]) -> Result<Decoded> {
        let null_rows = self.options.on_tombstone == OnTombstone::NullRow;
        let mut large = vec![];
        let mut within = vec![];
        let wanted = match messages.any_above(self.options.max_message_bytes) {
            false => wanted,
            true => {
                (large, within) = self.too_large(messages, wanted);
                &within
            }
        };
        let mut out = match &mut self.format {
            Inner::Json(json) => json.decode(messages, wanted, null_rows)?,
            Inner::Raw => raw::decode(messages, wanted)?,
        };
        let base = out.rows.ok_or_else(|| Error::internal("a decoder without rows"))?;
        let rows = if self.options.include_metadata {
            let mut columns = base.columns().to_vec();
            columns.extend(raw::metadata(messages, &out.messages));
            RecordBatch::try_new(self.schema.clone(), columns)?
        } else {
            base
        };
        if !large.is_empty() {
            out.malformed.append(&mut large);
            out.malformed.sort_by_key(|m| m.message);
        }
        let origin = Origin { messages: messages.clone(), rows: UInt32Array::from(out.messages) };
        Ok(Decoded {
            batch: Batch::new(rows, Some(origin)),
            malformed: out.malformed,
            tombstones: out.tombstones,
            unknown_fields: out.unknown_fields,
        })
    }
}
