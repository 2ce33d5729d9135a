//! What flows through the stages: rows, and the messages they came from while those exist.

use crate::position::{Offset, TopicPartition};
use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanArray, ListBuilder, RecordBatch, StringBuilder, StructBuilder, UInt32Array,
};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Fields};
use std::sync::Arc;

/// A piece of an arena. `NULL` stands for a null key or value (a tombstone), which is not an empty one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub len: u32,
}

impl Span {
    pub const NULL: Span = Span { start: 0, len: u32::MAX };
    pub fn is_null(self) -> bool {
        self.len == u32::MAX
    }
}

/// Where a message's timestamp comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i8)]
pub enum TimestampType {
    #[default]
    NotAvailable = -1,
    CreateTime = 0,
    LogAppendTime = 1,
}

/// A message's headers, in order; a name may repeat and a value may be null.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

fn header_fields() -> Fields {
    vec![Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Binary, true)].into()
}

/// `ARRAY<STRUCT<key: STRING, value: BINARY>>`, the type of headers everywhere.
pub fn headers_type() -> DataType {
    DataType::List(Arc::new(Field::new("element", DataType::Struct(header_fields()), true)))
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

/// Messages as they came from Kafka, column by column, payloads and keys in one arena.
#[derive(Debug, Default)]
pub struct Messages {
    pub arena: Vec<u8>,
    pub values: Vec<Span>,
    pub keys: Vec<Span>,
    /// Index into `partitions`.
    pub sources: Vec<u32>,
    pub offsets: Vec<i64>,
    /// Milliseconds since the epoch; -1 where there is none.
    pub timestamps: Vec<i64>,
    pub timestamp_types: Vec<TimestampType>,
    /// Sparse: (message index, headers), ascending by index.
    pub headers: Vec<(u32, Headers)>,
    pub partitions: Arc<[TopicPartition]>,
}

impl Messages {
    pub fn new(partitions: Arc<[TopicPartition]>) -> Self {
        Self { partitions, ..Self::default() }
    }
    pub fn len(&self) -> usize {
        self.offsets.len()
    }
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }
    /// Bytes of payloads and keys.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }
    fn slice(&self, span: Span) -> Option<&[u8]> {
        (!span.is_null()).then(|| &self.arena[span.start..span.start + span.len as usize])
    }
    pub fn value(&self, i: usize) -> Option<&[u8]> {
        self.slice(self.values[i])
    }
    pub fn key(&self, i: usize) -> Option<&[u8]> {
        self.slice(self.keys[i])
    }
    pub fn source(&self, i: usize) -> &TopicPartition {
        &self.partitions[self.sources[i] as usize]
    }
    pub fn offset(&self, i: usize) -> Offset {
        Offset(self.offsets[i])
    }
    pub fn headers(&self, i: usize) -> Option<&Headers> {
        self.headers.binary_search_by_key(&(i as u32), |(k, _)| *k).ok().map(|k| &self.headers[k].1)
    }
    /// "topic[partition] offset n", for error messages.
    pub fn place(&self, i: usize) -> String {
        format!("{} offset {}", self.source(i), self.offsets[i])
    }
    /// Appends one message, copying its bytes into the arena.
    #[allow(clippy::too_many_arguments)]
    pub fn push(
        &mut self,
        source: u32,
        offset: i64,
        timestamp: i64,
        timestamp_type: TimestampType,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Headers,
    ) {
        let value = self.copy(value);
        let key = self.copy(key);
        if !headers.is_empty() {
            self.headers.push((self.offsets.len() as u32, headers));
        }
        self.values.push(value);
        self.keys.push(key);
        self.sources.push(source);
        self.offsets.push(offset);
        self.timestamps.push(timestamp);
        self.timestamp_types.push(timestamp_type);
    }
    #[inline]
    fn copy(&mut self, bytes: Option<&[u8]>) -> Span {
        match bytes {
            None => Span::NULL,
            Some(b) => {
                let start = self.arena.len();
                self.arena.extend_from_slice(b);
                Span { start, len: b.len() as u32 }
            }
        }
    }
}

/// The messages that rows came from: row `i` is message `rows[i]` of `messages`.
#[derive(Debug, Clone)]
pub struct Origin {
    pub messages: Arc<Messages>,
    pub rows: UInt32Array,
}

impl Origin {
    pub fn message(&self, row: usize) -> usize {
        self.rows.value(row) as usize
    }
}

/// Rows, with where each came from while that exists (not after an aggregate, nor for data at hand).
#[derive(Debug, Clone)]
pub struct Batch {
    pub rows: RecordBatch,
    pub origin: Option<Origin>,
}

impl Batch {
    pub fn new(rows: RecordBatch, origin: Option<Origin>) -> Self {
        debug_assert!(origin.as_ref().is_none_or(|o| o.rows.len() == rows.num_rows()));
        Self { rows, origin }
    }
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The same rows with other columns.
    pub fn with_rows(&self, rows: RecordBatch) -> Self {
        Self::new(rows, self.origin.clone())
    }
    /// Rows for which `keep` is true.
    pub fn filter(&self, keep: &BooleanArray) -> crate::Result<Self> {
        let origin = match &self.origin {
            Some(o) => Some(Origin {
                messages: o.messages.clone(),
                rows: arrow::array::AsArray::as_primitive(&*arrow::compute::filter(&o.rows, keep)?).clone(),
            }),
            None => None,
        };
        Ok(Self::new(filter_record_batch(&self.rows, keep)?, origin))
    }
    /// The rows at `indices`, in that order.
    pub fn take(&self, indices: &UInt32Array) -> crate::Result<Self> {
        let origin = match &self.origin {
            Some(o) => Some(Origin {
                messages: o.messages.clone(),
                rows: arrow::array::AsArray::as_primitive(&*arrow::compute::take(&o.rows, indices, None)?).clone(),
            }),
            None => None,
        };
        Ok(Self::new(take_record_batch(&self.rows, indices)?, origin))
    }
}

/// A row for which an expression failed, and why; the text holds none of the row's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRow {
    pub row: u32,
    pub error: String,
}

/// A row for which it is too late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateRow {
    pub row: u32,
    /// How far behind the watermark; None when the event time is NULL.
    pub behind: Option<std::time::Duration>,
}
