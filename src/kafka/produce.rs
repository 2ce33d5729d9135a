//! Arrow rows to Kafka messages.

use super::Connection;
use crate::{
    error::{Error, Result},
    position::Topic,
};
use arrow::array::RecordBatch;

/// How rows become messages.
#[derive(Debug, Clone)]
pub struct ProduceOptions {
    /// The column with the key.
    pub key: Option<String>,
    /// Headers that every message gets.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// A column of headers: a map or a list of structs (key, value).
    pub headers_column: Option<String>,
    /// One partition for all messages.
    pub partition: Option<i32>,
    /// A column of partitions.
    pub partition_column: Option<String>,
    /// The column with the message's timestamp.
    pub timestamp: Option<String>,
    /// A column whose bytes or text are the value as they are; then no JSON is made.
    pub value: Option<String>,
    pub compression: Option<String>,
    /// "all" (the default), "1" or "0"; anything but "all" turns idempotence off.
    pub acks: Option<String>,
    /// Rows per second.
    pub rate: Option<f64>,
    /// Whether the key's column stays in the value; headers, partition and timestamp columns that are only for Kafka leave it.
    pub include_key_in_value: bool,
}

impl Default for ProduceOptions {
    fn default() -> Self {
        Self {
            key: None,
            headers: Vec::new(),
            headers_column: None,
            partition: None,
            partition_column: None,
            timestamp: None,
            value: None,
            compression: None,
            acks: None,
            rate: None,
            include_key_in_value: true,
        }
    }
}

/// What became of the rows.
#[derive(Debug, Clone, Default)]
pub struct ProduceReport {
    pub topic: String,
    /// Rows taken from the source.
    pub rows: u64,
    /// Messages that the broker acknowledged.
    pub delivered: u64,
    pub failed: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
    pub seconds: f64,
    /// The first ten failures.
    pub failures: Vec<String>,
}

impl Connection {
    /// Publishes every row and waits for the acknowledgements. `progress` is called at least every 100 ms; its error stops at once.
    pub fn produce(
        &self,
        _topic: &Topic,
        _batches: &mut dyn Iterator<Item = Result<RecordBatch>>,
        _options: &ProduceOptions,
        _progress: &mut dyn FnMut(&ProduceReport) -> Result<()>,
    ) -> Result<ProduceReport> {
        Err(Error::internal("not written yet"))
    }
}
