//! The raw format: the row of Spark's Kafka source. Nothing is decoded.

use super::json::JsonOptions;
use super::{Decode, FormatOptions, Given, Rows, Setup};
use crate::batch::{Messages, headers_array, headers_type};
use crate::{Error, Result};
use arrow::array::*;
use arrow::datatypes::*;
use std::sync::Arc;

/// The columns of Spark's Kafka source with `includeHeaders`.
pub(crate) fn raw_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, true),
        Field::new("topic", DataType::Utf8, true),
        Field::new("partition", DataType::Int32, true),
        Field::new("offset", DataType::Int64, true),
        Field::new("timestamp", crate::time::timestamp_type(), true),
        Field::new("timestampType", DataType::Int32, true),
        Field::new("headers", headers_type(), true),
    ]))
}

/// The columns that `include_metadata=True` appends.
pub(crate) fn metadata_fields() -> Vec<FieldRef> {
    let raw = raw_schema();
    [("_topic", 2), ("_partition", 3), ("_offset", 4), ("_timestamp", 5), ("_key", 0), ("_headers", 7)]
        .into_iter()
        .map(|(name, i)| Arc::new(raw.field(i).clone().with_name(name)))
        .collect()
}

pub(crate) fn keys(m: &Messages, rows: &[u32]) -> ArrayRef {
    Arc::new(rows.iter().map(|i| m.key(*i as usize)).collect::<BinaryArray>())
}
pub(crate) fn values(m: &Messages, rows: &[u32]) -> ArrayRef {
    Arc::new(rows.iter().map(|i| m.value(*i as usize)).collect::<BinaryArray>())
}
pub(crate) fn topics(m: &Messages, rows: &[u32]) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(|i| m.source(*i as usize).topic.as_str())))
}
pub(crate) fn partitions(m: &Messages, rows: &[u32]) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(rows.iter().map(|i| m.source(*i as usize).partition.0)))
}
pub(crate) fn offsets(m: &Messages, rows: &[u32]) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(rows.iter().map(|i| m.offsets[*i as usize])))
}
pub(crate) fn timestamps(m: &Messages, rows: &[u32]) -> ArrayRef {
    let micros = |i: &u32| {
        let ms = m.timestamps[*i as usize];
        (ms >= 0).then(|| ms.saturating_mul(1000))
    };
    Arc::new(rows.iter().map(micros).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}
pub(crate) fn timestamp_types(m: &Messages, rows: &[u32]) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(rows.iter().map(|i| m.timestamp_types[*i as usize] as i32)))
}

pub(crate) fn headers(m: &Messages, rows: &[u32]) -> ArrayRef {
    headers_array(rows.iter().map(|i| m.headers(*i as usize)))
}

/// Raw rows need no options.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RawOptions {
    /// These have no effect, but they are checked, and they are part of the identity that names state on disk.
    pub unused: JsonOptions,
}

impl FormatOptions for RawOptions {
    fn names() -> &'static [&'static str] {
        &["raw", "binary", "kafka"]
    }

    fn about() -> &'static str {
        "key and value as bytes"
    }

    fn read(given: Given) -> Result<Self> {
        let of_json = [
            (given.allow_quoted_numbers, "allow_quoted_numbers"),
            (given.allow_nan, "allow_nan"),
            (given.missing_is_malformed, "missing"),
        ];
        if let Some((_, name)) = of_json.iter().find(|(set, _)| *set) {
            return Err(Error::config(format!("{name}= is an option of format=\"json\". Leave it out for raw bytes.")));
        }
        Ok(Self { unused: JsonOptions::read(given)? })
    }

    fn schema(&self, declared: Option<&SchemaRef>) -> Result<SchemaRef> {
        match declared {
            None => Ok(raw_schema()),
            Some(_) => Err(Error::config(
                "format=\"raw\" has its own columns (key, value, topic, …). Leave schema= out, or say format=\"json\".",
            )),
        }
    }

    fn decoder(&self, setup: Setup<'_>) -> Result<Box<dyn Decode>> {
        self.unused.check(setup.declared)?;
        Ok(Box::new(RawDecoder { schema: raw_schema() }))
    }

    fn identity(&self) -> String {
        self.unused.identity_of("Raw")
    }
}

struct RawDecoder {
    schema: SchemaRef,
}

impl Decode for RawDecoder {
    fn decode(&mut self, m: &Messages, wanted: &[u32]) -> Result<Rows> {
        let columns = vec![
            keys(m, wanted),
            values(m, wanted),
            topics(m, wanted),
            partitions(m, wanted),
            offsets(m, wanted),
            timestamps(m, wanted),
            timestamp_types(m, wanted),
            headers(m, wanted),
        ];
        Ok(Rows::new(RecordBatch::try_new(self.schema.clone(), columns)?, wanted.to_vec()))
    }
}

/// The metadata columns for the rows that came from `rows`.
pub(crate) fn metadata(m: &Messages, rows: &[u32]) -> Vec<ArrayRef> {
    vec![topics(m, rows), partitions(m, rows), offsets(m, rows), timestamps(m, rows), keys(m, rows), headers(m, rows)]
}
