//! The data that flows through the stages: rows, and the messages they came from, while those exist.

use crate::position::{Offset, TopicPartition};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, ListBuilder, RecordBatch, StringBuilder, StructBuilder,
    UInt32Array,
};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Fields, UInt32Type};
use std::sync::Arc;

/// A part of an arena. `NULL` is a null key or value (a tombstone), which differs from an empty one.
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
    /// The part exists and has this size, but it was not copied.
    fn left_out(len: usize) -> Span {
        Span { start: usize::MAX, len: (len as u64).min(u64::from(u32::MAX - 1)) as u32 }
    }
    fn is_left_out(self) -> bool {
        self.start == usize::MAX
    }
}

/// The source of a message's timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(i8)]
pub enum TimestampType {
    #[default]
    NotAvailable = -1,
    CreateTime = 0,
    LogAppendTime = 1,
}

/// The headers of a message, in order. A name can occur several times, and a value can be null.
pub(crate) type Headers = Vec<(String, Option<Vec<u8>>)>;

/// The default limit for a key, a value, or the headers of a message. Larger parts are not copied into memory.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64_000_000;

/// One message. Its bytes are stored elsewhere.
#[derive(Debug, Default)]
pub struct Message<'a> {
    pub source: u32,
    pub offset: i64,
    /// Milliseconds since the epoch. -1 if the message has no timestamp.
    pub timestamp: i64,
    pub timestamp_type: TimestampType,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers,
    /// The size of the headers. If they are too large, they can be left out.
    pub header_bytes: usize,
}

/// A part of a message that is larger than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    pub part: &'static str,
    pub bytes: usize,
}

fn header_fields() -> Fields {
    vec![Field::new("key", DataType::Utf8, true), Field::new("value", DataType::Binary, true)].into()
}

/// `ARRAY<STRUCT<key: STRING, value: BINARY>>`, the type of headers everywhere.
pub(crate) fn headers_type() -> DataType {
    DataType::List(Arc::new(Field::new("element", DataType::Struct(header_fields()), true)))
}

/// The size of names and values in bytes.
pub(crate) fn bytes_of_headers(headers: &Headers) -> usize {
    headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len)).sum()
}

/// Headers as an Arrow array. `None` is NULL.
pub(crate) fn headers_array<'a>(all: impl Iterator<Item = Option<&'a Headers>>) -> ArrayRef {
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

/// Messages as they came from Kafka, in columns, with payloads and keys in one arena.
#[derive(Debug, Default)]
pub struct Messages {
    pub arena: Vec<u8>,
    pub values: Vec<Span>,
    pub keys: Vec<Span>,
    /// The index into `partitions`.
    pub sources: Vec<u32>,
    pub offsets: Vec<i64>,
    /// Milliseconds since the epoch. -1 if the message has no timestamp.
    pub timestamps: Vec<i64>,
    pub timestamp_types: Vec<TimestampType>,
    /// Sparse: (message index, headers), ascending by index.
    pub headers: Vec<(u32, Headers)>,
    /// Sparse, ascending: messages whose headers were not copied, and the size of these headers.
    large_headers: Vec<(u32, usize)>,
    /// The size of all headers.
    header_bytes: usize,
    /// The size of the largest key, value or headers of any message, copied or not.
    largest: usize,
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
    /// The size of payloads, keys and headers.
    pub fn bytes(&self) -> usize {
        self.arena.len() + self.header_bytes
    }
    fn slice(&self, span: Span) -> Option<&[u8]> {
        (!span.is_null() && !span.is_left_out()).then(|| &self.arena[span.start..span.start + span.len as usize])
    }
    /// Whether any message has a part that is larger than `limit` bytes.
    pub fn any_above(&self, limit: usize) -> bool {
        self.largest > limit
    }
    /// The part of a message that is larger than `limit` bytes.
    pub fn above(&self, i: usize, limit: usize) -> Option<TooLarge> {
        let of = |part, span: Span| {
            let bytes = if span.is_null() { 0 } else { span.len as usize };
            (bytes > limit).then_some(TooLarge { part, bytes })
        };
        let headers = || {
            let bytes = self.header_bytes_of(i);
            (bytes > limit).then_some(TooLarge { part: "headers", bytes })
        };
        of("value", self.values[i]).or_else(|| of("key", self.keys[i])).or_else(headers)
    }
    /// The size of a message's headers, copied or not.
    pub fn header_bytes_of(&self, i: usize) -> usize {
        match self.large_headers.binary_search_by_key(&(i as u32), |(k, _)| *k) {
            Ok(at) => self.large_headers[at].1,
            Err(_) => self.headers(i).map_or(0, bytes_of_headers),
        }
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
    /// The error, with the place of the message as facts.
    pub fn locate(&self, i: usize, error: crate::Error) -> crate::Error {
        let TopicPartition { topic, partition } = self.source(i);
        error.at_offset(topic.as_str(), partition.0, self.offsets[i])
    }
    /// "topic[partition] offset n", for error messages.
    pub fn place(&self, i: usize) -> String {
        format!("{} offset {}", self.source(i), self.offsets[i])
    }
    /// Appends one message and copies its bytes into the arena. A key or value larger than `limit` bytes is left out.
    #[inline]
    pub fn push(&mut self, message: Message<'_>, limit: usize) {
        let value = self.copy(message.value, limit);
        let key = self.copy(message.key, limit);
        if message.header_bytes > 0 || !message.headers.is_empty() {
            self.push_headers(message.headers, message.header_bytes);
        }
        self.values.push(value);
        self.keys.push(key);
        self.sources.push(message.source);
        self.offsets.push(message.offset);
        self.timestamps.push(message.timestamp);
        self.timestamp_types.push(message.timestamp_type);
    }
    fn push_headers(&mut self, headers: Headers, bytes: usize) {
        let at = self.offsets.len() as u32;
        self.largest = self.largest.max(bytes);
        if headers.is_empty() {
            self.large_headers.push((at, bytes));
        } else {
            self.header_bytes += bytes;
            self.headers.push((at, headers));
        }
    }
    #[inline]
    fn copy(&mut self, bytes: Option<&[u8]>, limit: usize) -> Span {
        self.largest = self.largest.max(bytes.map_or(0, <[u8]>::len));
        match bytes {
            None => Span::NULL,
            Some(b) if b.len() > limit => Span::left_out(b.len()),
            Some(b) => {
                let start = self.arena.len();
                self.arena.extend_from_slice(b);
                Span { start, len: b.len() as u32 }
            }
        }
    }
}

/// The messages from which rows came: row `i` is message `rows[i]` of `messages`.
#[derive(Debug, Clone)]
pub struct Origin {
    pub messages: Arc<Messages>,
    pub rows: UInt32Array,
    /// The place of each row within its message. There is one column for each step that made several rows of one row. NULL where the step made
    /// a row without an element (`explode_outer`). Without such a step there are no columns, and there is no cost.
    pub elements: Vec<UInt32Array>,
}

impl Origin {
    pub fn new(messages: Arc<Messages>, rows: UInt32Array) -> Self {
        Self { messages, rows, elements: vec![] }
    }
    pub fn message(&self, row: usize) -> usize {
        self.rows.value(row) as usize
    }
    /// The place of the row within its message, the outermost step first.
    pub fn element(&self, row: usize) -> impl Iterator<Item = Option<u32>> {
        self.elements.iter().map(move |e| e.is_valid(row).then(|| e.value(row)))
    }
    /// The origins of other rows: for each column, `pick` returns the values of the wanted rows.
    pub fn pick(&self, pick: impl Fn(&UInt32Array) -> crate::Result<ArrayRef>) -> crate::Result<Self> {
        let of = |column: &UInt32Array| -> crate::Result<UInt32Array> {
            Ok(AsArray::as_primitive::<UInt32Type>(&*pick(column)?).clone())
        };
        let elements = self.elements.iter().map(of).collect::<crate::Result<_>>()?;
        Ok(Self { messages: self.messages.clone(), rows: of(&self.rows)?, elements })
    }
}

/// Rows, with the origin of each row while it exists (not after an aggregate, and not for rows in memory).
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
    /// The same rows with different columns.
    pub fn with_rows(&self, rows: RecordBatch) -> Self {
        Self::new(rows, self.origin.clone())
    }
    /// The rows for which `keep` is true.
    pub fn filter(&self, keep: &BooleanArray) -> crate::Result<Self> {
        let origin = self.origin.as_ref().map(|o| o.pick(|c| Ok(arrow::compute::filter(c, keep)?))).transpose()?;
        Ok(Self::new(filter_record_batch(&self.rows, keep)?, origin))
    }
    /// `len` rows, starting at `from`.
    pub fn slice(&self, from: usize, len: usize) -> Self {
        let part = |o: &Origin| Origin {
            messages: o.messages.clone(),
            rows: o.rows.slice(from, len),
            elements: o.elements.iter().map(|e| e.slice(from, len)).collect(),
        };
        Self::new(self.rows.slice(from, len), self.origin.as_ref().map(part))
    }
    /// The rows at `indices`, in that order.
    pub fn take(&self, indices: &UInt32Array) -> crate::Result<Self> {
        let origin =
            self.origin.as_ref().map(|o| o.pick(|c| Ok(arrow::compute::take(c, indices, None)?))).transpose()?;
        Ok(Self::new(take_record_batch(&self.rows, indices)?, origin))
    }
}

/// A function of users over the bytes of messages' values, such as encryption. None is a message without a value, which the function does not see.
pub trait ValuesFunction: Send + Sync + std::fmt::Debug {
    /// The name that the user gave the function.
    fn name(&self) -> &str;
    fn call(&self, values: Vec<Option<Vec<u8>>>) -> crate::Result<Vec<Option<Vec<u8>>>>;
}

/// A row for which an expression failed, and the reason. The text does not contain values of the row.
#[derive(Debug, Clone)]
pub struct FailedRow {
    pub row: u32,
    pub error: String,
    /// The exception, if a user's function failed.
    pub cause: Option<crate::error::Source>,
}

impl FailedRow {
    pub fn new(row: u32, error: impl Into<String>) -> Self {
        Self { row, error: error.into(), cause: None }
    }
}

/// A row that is late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LateRow {
    pub row: u32,
    /// How far the row is behind the watermark. None if its event time is NULL.
    pub behind: Option<std::time::Duration>,
}
