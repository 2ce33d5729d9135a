//! Rows as messages in columns: what is staged before an epoch is sealed, and sent after it.
//!
//! The rule by which rows become messages is that of `produce`. The columns of the messages are `key`, `value`, `partition`, `timestamp` and
//! `headers`. A NULL value is a tombstone.

use super::{ENCODE_ROWS, ProduceOptions, TopicLimits, columns::Plan};
use crate::{
    batch::{Headers, bytes_of_headers, headers_array, headers_type},
    error::{Error, Result, did_you_mean},
    kafka::encode::{BytesColumn, JsonEncoder},
};
use arrow::{
    array::{Array, ArrayRef, BinaryArray, BinaryBuilder, Int32Array, Int64Array, RecordBatch},
    buffer::{Buffer, OffsetBuffer},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use std::sync::{Arc, LazyLock};

/// The most bytes that a message needs besides its key, value and headers: its part of a batch, and the batch's own fields.
const OVERHEAD: usize = 512;
/// By how many milliseconds the broker's clock may be behind.
const CLOCKS: i64 = 60_000;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Binary, true),
        Field::new("value", DataType::Binary, true),
        Field::new("partition", DataType::Int32, true),
        Field::new("timestamp", DataType::Int64, true),
        Field::new("headers", headers_type(), true),
    ]))
});

/// How rows become messages of one topic.
#[derive(Debug, Clone)]
pub(crate) struct MessageOptions {
    pub topic: String,
    /// The columns of the key. One column is the key as it is, several are a JSON object.
    pub keys: Vec<String>,
    /// Each message replaces the one with the same key. So each message has a key, also without key columns, or if the column is NULL.
    pub upsert: bool,
    pub headers_column: Option<String>,
    pub partition_column: Option<String>,
    pub timestamp: Option<String>,
    pub partitions: usize,
    pub limits: TopicLimits,
}

enum Key {
    None,
    /// The column, the encoder for NULL, and the text of NULL.
    Column(usize, JsonEncoder, Vec<u8>),
    Object(Vec<usize>, JsonEncoder),
}

/// Encodes rows of one schema.
pub(crate) struct MessageEncoder {
    plan: Plan,
    key: Key,
    options: MessageOptions,
}

impl MessageEncoder {
    pub(crate) fn new(schema: &SchemaRef, options: MessageOptions) -> Result<Self> {
        let produce = ProduceOptions {
            headers_column: options.headers_column.clone(),
            partition_column: options.partition_column.clone(),
            timestamp: options.timestamp.clone(),
            ..ProduceOptions::default()
        };
        let plan = Plan::new(schema, &produce)?;
        let mut keys = vec![];
        for name in &options.keys {
            keys.push(schema.index_of(name).map_err(|_| {
                let names = || schema.fields().iter().map(|f| f.name().as_str());
                let all = names().collect::<Vec<_>>().join(", ");
                let hint = did_you_mean(name, names());
                Error::schema(format!("there is no column '{name}' for the key.{hint} The columns are {all}."))
            })?);
        }
        let of_keys = schema.project(&keys)?;
        let json = JsonEncoder::new(&of_keys, &[])?;
        let key = match &keys[..] {
            [] if !options.upsert => Key::None,
            [one] => {
                let null = RecordBatch::try_new(
                    Arc::new(Schema::new(vec![of_keys.field(0).clone().with_nullable(true)])),
                    vec![arrow::array::new_null_array(of_keys.field(0).data_type(), 1)],
                )?;
                let mut text = vec![];
                json.encode(&null, 0, &mut text, &mut vec![])?;
                Key::Column(*one, json, text)
            }
            _ => Key::Object(keys, json),
        };
        let out = Self { plan, key, options };
        // An encoding of no rows finds wrong types of the other columns.
        out.encode(&RecordBatch::new_empty(schema.clone()), 0)?;
        Ok(out)
    }

    /// The columns of the messages.
    pub(crate) fn schema() -> SchemaRef {
        SCHEMA.clone()
    }

    /// The messages of the rows, in their order. The first row that cannot be a message of the topic is an error. `now` is in milliseconds.
    pub(crate) fn encode(&self, rows: &RecordBatch, now: i64) -> Result<Vec<RecordBatch>> {
        let mut out = vec![];
        for from in (0..rows.num_rows().max(1)).step_by(ENCODE_ROWS) {
            out.push(self.some(&rows.slice(from, ENCODE_ROWS.min(rows.num_rows() - from)), now)?);
        }
        Ok(out)
    }

    fn some(&self, rows: &RecordBatch, now: i64) -> Result<RecordBatch> {
        let mut messages = self.plan.messages(rows, 0)?;
        let (json, ends) = messages.take_json();
        let partitions: Int32Array = (0..rows.num_rows()).map(|row| messages.partition(row)).collect();
        let timestamps: Int64Array = (0..rows.num_rows()).map(|row| messages.timestamp(row)).collect();
        let headers: Vec<Option<Headers>> = match messages.has_headers() {
            false => vec![None; rows.num_rows()],
            true => (0..rows.num_rows()).map(|row| messages.own_headers(row)).collect::<Result<_>>()?,
        };
        let keys = match &self.key {
            Key::None => BinaryArray::new_null(rows.num_rows()),
            Key::Column(one, ..) => self.keys(&rows.project(&[*one])?)?,
            Key::Object(columns, _) => self.keys(&rows.project(columns)?)?,
        };
        let offsets = OffsetBuffer::from_lengths(ends.iter().scan(0, |before, end| {
            let len = end - *before;
            *before = *end;
            Some(len)
        }));
        let values = BinaryArray::try_new(offsets, Buffer::from_vec(json), None)?;
        self.check(&keys, &values, &partitions, &headers)?;
        self.check_timestamps(&timestamps, now)?;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(keys),
            Arc::new(values),
            Arc::new(partitions),
            Arc::new(timestamps),
            headers_array(headers.iter().map(Option::as_ref)),
        ];
        Ok(RecordBatch::try_new(SCHEMA.clone(), columns)?)
    }

    fn check(
        &self,
        keys: &BinaryArray,
        values: &BinaryArray,
        partitions: &Int32Array,
        headers: &[Option<Headers>],
    ) -> Result<()> {
        let MessageOptions { topic, partitions: there, limits, .. } = &self.options;
        let most = limits.max_message_bytes;
        for (row, headers) in headers.iter().enumerate() {
            let bytes = values.value(row).len()
                + if keys.is_null(row) { 0 } else { keys.value(row).len() }
                + headers.as_ref().map_or(0, bytes_of_headers);
            if bytes + OVERHEAD > most {
                return Err(Error::malformed(format!(
                    "row {row}: the message has {bytes} bytes, and the topic '{topic}' takes messages of at most {most} bytes, including key, \
                     headers and overhead. Raise max.message.bytes of the topic, or leave columns out."
                )));
            }
            if keys.is_null(row) && self.options.upsert {
                return Err(Error::malformed(format!(
                    "row {row}: the text of the key is the same as the text for a key that is NULL, and the two could not be distinguished"
                )));
            }
            if keys.is_null(row) && limits.compacted == Some(true) {
                return Err(Error::malformed(format!(
                    "row {row}: the message has no key, and the topic '{topic}' is compacted (cleanup.policy=compact): the topic takes only messages \
                     with a key"
                )));
            }
            if partitions.is_valid(row) && usize::try_from(partitions.value(row)).map_or(true, |p| p >= *there) {
                return Err(Error::malformed(format!(
                    "row {row}: topic '{topic}' has no partition {}. It has {there}, counted from 0.",
                    partitions.value(row)
                )));
            }
        }
        Ok(())
    }

    fn check_timestamps(&self, timestamps: &Int64Array, now: i64) -> Result<()> {
        let TopicLimits { earlier, later, .. } = self.options.limits;
        let (first, last) = (now.saturating_sub(earlier).max(0), now.saturating_add(later).saturating_sub(CLOCKS));
        for row in 0..timestamps.len() {
            let at = timestamps.value(row);
            if timestamps.is_valid(row) && !(first..=last).contains(&at) {
                return Err(Error::malformed(format!(
                    "row {row}: the timestamp {at} (milliseconds) is one that the topic '{}' does not accept: at present, the topic accepts {first} \
                     to {last} (message.timestamp.before.max.ms and message.timestamp.after.max.ms)",
                    self.options.topic
                )));
            }
        }
        Ok(())
    }

    /// The keys of rows that have only the key's columns, in the order of the key. In upserts, NULL is a key that no message can have.
    pub(crate) fn keys(&self, rows: &RecordBatch) -> Result<BinaryArray> {
        match &self.key {
            Key::None => Ok(BinaryArray::new_null(rows.num_rows())),
            Key::Column(_, json, null) => {
                let schema = rows.schema();
                let column = BytesColumn::new(rows.column(0), schema.field(0), 0)?;
                let (mut out, mut scratch) = (BinaryBuilder::new(), Vec::new());
                for row in 0..rows.num_rows() {
                    match column.get(row, &mut scratch)? {
                        // This key would be taken for the key of NULL.
                        Some(key) if self.options.upsert && key == null.as_slice() => out.append_null(),
                        Some(key) => out.append_value(key),
                        None if self.options.upsert => {
                            let mut text = vec![];
                            json.encode(&rows.slice(row, 1), row as u64, &mut text, &mut vec![])?;
                            out.append_value(text);
                        }
                        None => out.append_null(),
                    }
                }
                Ok(out.finish())
            }
            Key::Object(_, json) => {
                let (mut text, mut ends) = (vec![], vec![]);
                json.encode(rows, 0, &mut text, &mut ends)?;
                let mut from = 0;
                let mut out = BinaryBuilder::with_capacity(ends.len(), text.len());
                for end in ends {
                    out.append_value(&text[from..end]);
                    from = end;
                }
                Ok(out.finish())
            }
        }
    }

    /// The rows that cannot be messages of the topic, each with the reason. Called only if `encode` has failed.
    pub(crate) fn refused(&self, rows: &RecordBatch, now: i64) -> Vec<(u32, String)> {
        let one = |row: usize| self.encode(&rows.slice(row, 1), now).err();
        let why = |text: String| text.replace(", row 0:", ":").trim_start_matches("row 0: ").to_string();
        (0..rows.num_rows()).filter_map(|row| Some((row as u32, why(one(row)?.message)))).collect()
    }

    /// A message for each key, which deletes the earlier messages with this key.
    pub(crate) fn tombstones(keys: &BinaryArray) -> Result<RecordBatch> {
        let n = keys.len();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(keys.clone()),
            Arc::new(BinaryArray::new_null(n)),
            Arc::new(Int32Array::new_null(n)),
            Arc::new(Int64Array::new_null(n)),
            headers_array((0..n).map(|_| None)),
        ];
        Ok(RecordBatch::try_new(SCHEMA.clone(), columns)?)
    }
}
