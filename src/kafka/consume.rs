//! Messages from given offsets on, a batch at a time, on a thread of its own.

use super::Connection;
use crate::{
    batch::Messages,
    error::{Error, Result},
    position::{Offset, Positions, TopicPartition},
};
use std::{collections::BTreeMap, time::Duration};

#[derive(Debug, Clone)]
pub struct ReaderOptions {
    /// At most so many messages in one `Event::Messages`.
    pub chunk_messages: usize,
    /// A chunk is handed on when it holds so many bytes.
    pub chunk_bytes: usize,
    /// So many chunks wait for the reader's user; then the thread waits.
    pub queue_chunks: usize,
    /// librdkafka properties over those of the connection and of the reader.
    pub properties: BTreeMap<String, String>,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self { chunk_messages: 16_384, chunk_bytes: 8 << 20, queue_chunks: 8, properties: BTreeMap::new() }
    }
}

#[derive(Debug)]
pub enum Event {
    Messages(Messages),
    /// All there is for now has been handed out; `next` is the offset to read next, transaction markers included.
    EndOfPartition {
        partition: TopicPartition,
        next: Offset,
    },
    /// The offset to be read does not exist (any more): retention, a truncated log, a recreated topic.
    OutOfRange {
        partition: TopicPartition,
        wanted: Offset,
    },
    /// Something a person may want to know; reading goes on.
    Warning(String),
}

/// Reads partitions from given offsets. Dropping it stops it, without waiting for a dead broker.
pub struct Reader {}

impl Reader {
    pub fn start(_connection: &Connection, _from: &Positions, _options: &ReaderOptions) -> Result<Self> {
        Err(Error::internal("not written yet"))
    }
    /// What came within `wait`; None when nothing did. Keeps the order within a partition.
    pub fn next(&mut self, _wait: Duration) -> Result<Option<Event>> {
        Err(Error::internal("not written yet"))
    }
    /// Reads these partitions as well; one that is read already is left as it is.
    pub fn assign(&mut self, _positions: &Positions) -> Result<()> {
        Err(Error::internal("not written yet"))
    }
    pub fn stop(self) {}
}
