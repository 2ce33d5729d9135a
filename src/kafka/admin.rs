//! Topics: list, create, describe, delete; partitions and offsets.

use super::Connection;
use crate::{
    error::{Error, Result},
    position::{Offset, Partition, Topic, TopicPartition},
};
use std::collections::BTreeMap;

/// A topic in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSummary {
    pub name: String,
    pub partitions: usize,
}

/// A topic to be made.
#[derive(Debug, Clone)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    /// -1 for the broker's default.
    pub replication_factor: i32,
    pub config: BTreeMap<String, String>,
    /// Not an error when the topic is there already with as many partitions.
    pub exist_ok: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    pub partition: Partition,
    pub leader: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub earliest: Offset,
    /// The last stable offset: what a reader of committed messages can reach.
    pub latest: Offset,
}

#[derive(Debug, Clone)]
pub struct TopicDescription {
    pub name: String,
    /// None where the broker cannot say.
    pub id: Option<String>,
    pub partitions: Vec<PartitionDescription>,
    /// What differs from the broker's defaults; secrets left out.
    pub config: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    Earliest,
    /// The last stable offset.
    Latest,
    /// The first message at or after this many milliseconds since the epoch; the latest when there is none.
    Timestamp(i64),
}

impl Connection {
    pub fn topics(&self) -> Result<Vec<TopicSummary>> {
        Err(Error::internal("not written yet"))
    }
    pub fn create_topic(&self, _new: &NewTopic) -> Result<()> {
        Err(Error::internal("not written yet"))
    }
    pub fn delete_topic(&self, _name: &str) -> Result<()> {
        Err(Error::internal("not written yet"))
    }
    pub fn describe_topic(&self, _name: &str) -> Result<TopicDescription> {
        Err(Error::internal("not written yet"))
    }
    /// A topic's partitions, ascending. A topic that does not exist is an error with the nearest name, and is not made.
    pub fn partitions(&self, _topic: &Topic) -> Result<Vec<Partition>> {
        Err(Error::internal("not written yet"))
    }
    /// What tells a topic from one of the same name made later; None where the broker cannot say (embedded, old brokers).
    pub fn topic_id(&self, _topic: &Topic) -> Result<Option<String>> {
        Err(Error::internal("not written yet"))
    }
    /// Offsets, as a reader of committed messages sees them.
    pub fn list_offsets(&self, _wanted: &[(TopicPartition, OffsetSpec)]) -> Result<BTreeMap<TopicPartition, Offset>> {
        Err(Error::internal("not written yet"))
    }
}
