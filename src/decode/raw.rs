//! The raw format: Spark's Kafka row, nothing decoded.

use super::Rows;
use crate::Result;
use crate::batch::{Headers, Messages};
use arrow::array::*;
use arrow::datatypes::*;
use std::sync::Arc;

fn header_fields() -> Fields {
    vec![Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Binary, true)].into()
}

/// `ARRAY<STRUCT<key: STRING, value: BINARY>>`, the type of headers everywhere.
pub fn headers_type() -> DataType {
    DataType::List(Arc::new(Field::new("element", DataType::Struct(header_fields()), true)))
}

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

/// Headers as an Arrow array; `None` is NULL.
pub fn headers_array<'a>(all: impl Iterator<Item = Option<&'a Headers>>) -> ArrayRef {
    let fields = header_fields();
    let pairs =
        StructBuilder::new(fields.clone(), vec![Box::new(StringBuilder::new()), Box::new(BinaryBuilder::new())]);
    let mut list = ListBuilder::new(pairs).with_field(Arc::new(Field::new("element", DataType::Struct(fields), true)));
    for headers in all {
        for (name, value) in headers.into_iter().flatten() {
            let pair = list.values();
            if let Some(b) = pair.field_builder::<StringBuilder>(0) {
                b.append_value(name);
            }
            if let Some(b) = pair.field_builder::<BinaryBuilder>(1) {
                b.append_option(value.as_deref());
            }
            pair.append(true);
        }
        list.append(headers.is_some());
    }
    Arc::new(list.finish())
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
