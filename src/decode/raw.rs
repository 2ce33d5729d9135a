//! The raw format: Spark's Kafka row, nothing decoded.

use super::Rows;
use crate::Result;
use crate::batch::{Messages, headers_array, headers_type};
use arrow::array::*;
use arrow::datatypes::*;
use std::sync::Arc;

/// The columns of Spark's Kafka source with `includeHeaders`.
pub fn raw_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, true),
        Field::new("topic", DataType::Utf8, true),
        Field::new("partition", DataType::Int32, true),
        Field::new("offset", DataType::Int64, true),
        Field::new("timestamp", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("timestampType", DataType::Int32, true),
        Field::new("headers", headers_type(), true),
    ]))
}

/// The columns that `include_metadata=True` appends.
pub fn metadata_fields() -> Vec<FieldRef> {
    let raw = raw_schema();
    [("_topic", 2), ("_partition", 3), ("_offset", 4), ("_timestamp", 5), ("_key", 0), ("_headers", 7)]
        .into_iter()
        .map(|(name, i)| Arc::new(raw.field(i).clone().with_name(name)))
        .collect()
}

pub fn keys(m: &Messages, rows: &[u32]) -> ArrayRef {
    Arc::new(rows.iter().map(|i| m.key(*i as usize)).collect::<BinaryArray>())
}
pub fn values(m: &Messages, rows: &[u32]) -> ArrayRef {
    Arc::new(rows.iter().map(|i| m.value(*i as usize)).collect::<BinaryArray>())
}
pub fn topics(m: &Messages, rows: &[u32]) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(|i| m.source(*i as usize).topic.as_str())))
}
pub fn partitions(m: &Messages, rows: &[u32]) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(rows.iter().map(|i| m.source(*i as usize).partition.0)))
}
pub fn offsets(m: &Messages, rows: &[u32]) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(rows.iter().map(|i| m.offsets[*i as usize])))
}
pub fn timestamps(m: &Messages, rows: &[u32]) -> ArrayRef {
    let micros = |i: &u32| {
        let ms = m.timestamps[*i as usize];
        (ms >= 0).then(|| ms.saturating_mul(1000))
    };
    Arc::new(rows.iter().map(micros).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}
pub fn timestamp_types(m: &Messages, rows: &[u32]) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(rows.iter().map(|i| m.timestamp_types[*i as usize] as i32)))
}

pub fn headers(m: &Messages, rows: &[u32]) -> ArrayRef {
    headers_array(rows.iter().map(|i| m.headers(*i as usize)))
}

pub fn decode(messages: &Messages, wanted: &[u32]) -> Result<Rows> {
    let mut out = Rows::with_capacity(wanted.len());
    out.messages.extend_from_slice(wanted);
    let (m, r) = (messages, &out.messages[..]);
    let columns = vec![
        keys(m, r),
        values(m, r),
        topics(m, r),
        partitions(m, r),
        offsets(m, r),
        timestamps(m, r),
        timestamp_types(m, r),
        headers(m, r),
    ];
    out.rows = Some(RecordBatch::try_new(raw_schema(), columns)?);
    Ok(out)
}

/// The metadata columns for the rows that came from `rows`.
pub fn metadata(m: &Messages, rows: &[u32]) -> Vec<ArrayRef> {
    vec![topics(m, rows), partitions(m, rows), offsets(m, rows), timestamps(m, rows), keys(m, rows), headers(m, rows)]
}
