//! Sources of rows: topics, or messages or rows in memory.

use super::subscription::Subscription;
use crate::batch::Messages;
use crate::decode::{DecodeOptions, output_schema};
use crate::expr;
use crate::hash::hex;
use crate::kafka::{Connection, OffsetSpec};
use crate::position::{Offset, Partition, Positions, Topic, TopicPartition};
use crate::time::EventTime;
use crate::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// What happens to a message that cannot be decoded, or a row that cannot be computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMalformed {
    Fail,
    Drop,
    Quarantine,
}

/// The offsets where reading starts or ends, as users write them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Offsets {
    Earliest,
    Latest,
    Time(EventTime),
    /// Each partition's time.
    Times(BTreeMap<String, BTreeMap<i32, EventTime>>),
    /// Each partition's offset; −2 is earliest, −1 latest.
    Exact(BTreeMap<String, BTreeMap<i32, i64>>),
}

/// Rounded up, so that no message from before the time is read.
fn at_time(t: EventTime) -> OffsetSpec {
    OffsetSpec::Timestamp(t.0.div_euclid(1000) + i64::from(t.0.rem_euclid(1000) > 0))
}

#[derive(Clone)]
pub struct KafkaSource {
    pub connection: Connection,
    pub topics: Subscription,
    pub schema: Option<SchemaRef>,
    pub decode: DecodeOptions,
    pub on_malformed: Option<OnMalformed>,
    pub max_malformed: f64,
    pub starting: Offsets,
    pub ending: Option<Offsets>,
    pub max_offsets_per_trigger: Option<u64>,
    /// On an interval, an epoch waits for so many messages, but not longer than `max_trigger_delay`.
    pub min_offsets_per_trigger: Option<u64>,
    pub max_trigger_delay: Duration,
    pub fail_on_data_loss: bool,
    /// A start by time fails in partitions that have no message at or after the time.
    pub fail_without_message: bool,
}

/// As in Spark.
pub const MAX_TRIGGER_DELAY: Duration = Duration::from_secs(15 * 60);

impl KafkaSource {
    pub fn output_schema(&self) -> Result<SchemaRef> {
        output_schema(self.schema.as_ref(), &self.decode)
    }

    pub fn describe(&self) -> String {
        format!("read {} as {}", self.topics.describe(), self.decode.format.name())
    }

    pub fn identity(&self) -> String {
        let schema = self.schema.as_ref().map(|s| expr::to_ddl(s)).unwrap_or_default();
        format!(
            "kafka {} {} {schema} {} {:?} {} {:?} {:?} {:?} {:?} {:?} {} {}",
            self.connection.identity(),
            self.topics.to_json(),
            self.decode.identity(),
            self.on_malformed,
            self.max_malformed,
            self.starting,
            self.ending,
            self.max_offsets_per_trigger,
            self.min_offsets_per_trigger,
            self.max_trigger_delay,
            self.fail_on_data_loss,
            self.fail_without_message
        )
    }

    /// All partitions that exist now.
    pub fn partitions(&self) -> Result<Vec<TopicPartition>> {
        self.topics.partitions(&self.connection)
    }

    /// Resolves the user's offsets to the offsets that they mean at this moment.
    pub fn resolve(&self, offsets: &Offsets, what: &str) -> Result<Positions> {
        let partitions = self.partitions()?;
        let wanted: Vec<(TopicPartition, OffsetSpec)> = match offsets {
            Offsets::Earliest => partitions.into_iter().map(|p| (p, OffsetSpec::Earliest)).collect(),
            Offsets::Latest => partitions.into_iter().map(|p| (p, OffsetSpec::Latest)).collect(),
            Offsets::Time(t) => partitions.into_iter().map(|p| (p, at_time(*t))).collect(),
            Offsets::Times(map) => {
                self.check_named(map.iter().flat_map(|(t, ps)| ps.keys().map(move |p| (t, *p))), &partitions, what)?;
                let time = |tp: &TopicPartition| map.get(tp.topic.as_str())?.get(&tp.partition.0);
                partitions.into_iter().filter_map(|tp| time(&tp).map(|t| (tp.clone(), at_time(*t)))).collect()
            }
            Offsets::Exact(map) => return self.exact(map, &partitions, what),
        };
        if self.fail_without_message && what == "starting_offsets" {
            return self.connection.list_offsets_of_messages(&wanted);
        }
        self.connection.list_offsets(&wanted)
    }

    /// Refuses a dict that does not name every partition, or names others.
    fn check_named<'a>(
        &self,
        named: impl Iterator<Item = (&'a String, i32)>,
        partitions: &[TopicPartition],
        what: &str,
    ) -> Result<()> {
        let mut missing: BTreeSet<&TopicPartition> = partitions.iter().collect();
        for (topic, partition) in named {
            let tp = TopicPartition { topic: Topic::new(topic), partition: Partition(partition) };
            if !self.topics.reads(&tp.topic) {
                return Err(Error::config(format!(
                    "{what} names the topic '{topic}', and this stream does not read that topic"
                )));
            }
            if !missing.remove(&tp) {
                return Err(Error::config(format!(
                    "{what} names {tp}, and that partition does not exist or is not read"
                )));
            }
        }
        match missing.first() {
            Some(missing) => Err(Error::config(format!(
                "{what} must name every partition, and {missing} is missing. Give {missing} an offset, or −2 (earliest) or −1 (latest)."
            ))),
            None => Ok(()),
        }
    }

    fn exact(
        &self,
        map: &BTreeMap<String, BTreeMap<i32, i64>>,
        partitions: &[TopicPartition],
        what: &str,
    ) -> Result<Positions> {
        self.check_named(map.iter().flat_map(|(t, ps)| ps.keys().map(move |p| (t, *p))), partitions, what)?;
        let mut out = Positions::new();
        let mut ask = vec![];
        for (topic, offsets) in map {
            for (partition, offset) in offsets {
                let tp = TopicPartition { topic: Topic::new(topic), partition: Partition(*partition) };
                match offset {
                    -2 => ask.push((tp, OffsetSpec::Earliest)),
                    -1 => ask.push((tp, OffsetSpec::Latest)),
                    n if *n >= 0 => {
                        out.insert(tp, Offset(*n));
                    }
                    n => {
                        return Err(Error::config(format!(
                            "{what}: {tp}: {n} is not an offset (−2 is earliest, −1 is latest)"
                        )));
                    }
                }
            }
        }
        // Ending offsets are checked elsewhere, against the end at that time.
        if what != "ending_offsets" {
            self.check_not_behind_the_end(&out, what)?;
        }
        if !ask.is_empty() {
            out.extend(self.connection.list_offsets(&ask)?);
        }
        Ok(out)
    }
}

impl KafkaSource {
    /// Refuses a start behind the end. Such a first run would look like a run whose log was truncated.
    fn check_not_behind_the_end(&self, given: &Positions, what: &str) -> Result<()> {
        if given.is_empty() {
            return Ok(());
        }
        let ask: Vec<_> = given.keys().map(|tp| (tp.clone(), OffsetSpec::Latest)).collect();
        for (tp, end) in self.connection.list_offsets(&ask)? {
            if given[&tp] > end {
                return Err(Error::config(format!(
                    "{what}: {tp} ends at {}, and reading is to start at {}. Give an offset up to {}, or -1 for messages that come from now on.",
                    end.0, given[&tp].0, end.0
                )));
            }
        }
        Ok(())
    }
}

/// Messages in memory, decoded as if they came from a topic.
pub struct MessagesSource {
    pub messages: Arc<Messages>,
    pub schema: Option<SchemaRef>,
    pub decode: DecodeOptions,
    pub on_malformed: Option<OnMalformed>,
    /// The count and hash of the messages, when the messages themselves are no longer in memory.
    pub told: Option<Told>,
}

/// The count of rows or messages, and a hash of their contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub rows: usize,
    pub hash: String,
}

impl Told {
    fn new(rows: usize, hash: Sha256) -> Self {
        Self { rows, hash: hex(hash.finalize(), 16) }
    }
}

impl MessagesSource {
    pub fn count(&self) -> usize {
        self.told.as_ref().map_or(self.messages.len(), |t| t.rows)
    }

    pub fn told(&self) -> Told {
        self.told.clone().unwrap_or_else(|| {
            let (mut hash, all) = (Sha256::new(), &self.messages);
            for i in 0..all.len() {
                let place = format!("{} {} {}", all.source(i), all.offsets[i], all.timestamps[i]);
                for part in [Some(place.as_bytes()), all.key(i), all.value(i)] {
                    hash.update(part.map_or(-1, |p| p.len() as i64).to_le_bytes());
                    hash.update(part.unwrap_or_default());
                }
            }
            Told::new(self.count(), hash)
        })
    }

    pub fn output_schema(&self) -> Result<SchemaRef> {
        output_schema(self.schema.as_ref(), &self.decode)
    }
}

/// Rows in memory.
pub struct RowsSource {
    pub id: u64,
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    /// The count and hash of the rows, when the rows themselves are no longer in memory.
    told: Option<Told>,
}

impl RowsSource {
    pub fn count(&self) -> usize {
        let at_hand = || self.batches.iter().map(RecordBatch::num_rows).sum();
        self.told.as_ref().map_or_else(at_hand, |t| t.rows)
    }

    /// Rows of which only the count and the hash are known.
    pub fn known(schema: SchemaRef, told: Told) -> Self {
        Self { told: Some(told), ..Self::new(schema, vec![]) }
    }

    pub fn told(&self) -> Result<Told> {
        if let Some(told) = &self.told {
            return Ok(told.clone());
        }
        let mut hash = Sha256::new();
        for batch in &self.batches {
            hash.update(crate::state::encode(&self.schema, std::slice::from_ref(batch), "rows")?);
        }
        Ok(Told::new(self.count(), hash))
    }

    pub fn new(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        Self { id: NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed), schema, batches, told: None }
    }
}
