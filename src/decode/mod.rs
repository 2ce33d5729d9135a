//! Bytes to Arrow: one file per format, and the factory.
//!
//! One message, one row, or none. A message that cannot be decoded never changes its neighbours: it is reported with its
//! place, and what is to become of it (`on_malformed`) is the query's to say.

pub mod json;
pub mod raw;

use crate::batch::{Batch, Messages, Origin};
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

impl Decoder {
    pub fn new(schema: Option<&SchemaRef>, options: &DecodeOptions) -> Result<Self> {
        let output = output_schema(schema, options)?;
        let zone = match options.timezone.as_deref() {
            None | Some("UTC" | "utc" | "Z") => None,
            Some(name) => Some(name.parse::<chrono_tz::Tz>().map_err(|_| {
                let all = chrono_tz::TZ_VARIANTS.iter().map(|z| z.name());
                let hint = crate::error::did_you_mean(name, all);
                Error::config(format!("timezone='{name}' is not a time zone such as 'Europe/Berlin'.{hint}"))
            })?),
        };
        for column in options.timestamp_units.keys() {
            if schema.is_none_or(|s| s.column_with_name(column).is_none()) {
                return Err(Error::config(format!(
                    "timestamp_unit names the column '{column}', which the schema has not."
                )));
            }
        }
        let format = match (options.format, schema) {
            (Format::Json, Some(schema)) => {
                let column_options = |name: &str| ColumnOptions {
                    zone,
                    unit: options.timestamp_units.get(name).copied().or(options.timestamp_unit),
                };
                Inner::Json(Box::new(JsonDecoder::new(schema, &column_options)?))
            }
            _ => Inner::Raw,
        };
        Ok(Self { schema: output, format, options: options.clone() })
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Decodes the messages at `wanted`, in that order.
    pub fn decode(&mut self, messages: &Arc<Messages>, wanted: &[u32]) -> Result<Decoded> {
        let null_rows = self.options.on_tombstone == OnTombstone::NullRow;
        let out = match &mut self.format {
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
        let origin = Origin { messages: messages.clone(), rows: UInt32Array::from(out.messages) };
        Ok(Decoded {
            batch: Batch::new(rows, Some(origin)),
            malformed: out.malformed,
            tombstones: out.tombstones,
            unknown_fields: out.unknown_fields,
        })
    }
}
