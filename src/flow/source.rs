//! Sources of rows: topics, or messages or rows in memory.

use super::subscription::Subscription;
use crate::batch::Messages;
use crate::decode::{DecodeOptions, output_schema};
use crate::expr;
use crate::hash::hex;
use crate::kafka::{Connection, OffsetSpec};
use crate::position::{Offset, Positions, TopicPartition};
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

/// Offsets that are known, and those that Kafka is asked for.
pub(crate) type KnownAndAsked = (Positions, Vec<(TopicPartition, OffsetSpec)>);

impl Offsets {
    /// The partitions that a dict names.
    pub fn named(&self) -> Vec<TopicPartition> {
        fn all<T>(map: &BTreeMap<String, BTreeMap<i32, T>>) -> Vec<TopicPartition> {
            map.iter().flat_map(|(t, ps)| ps.keys().map(move |p| TopicPartition::new(t, *p))).collect()
        }
        match self {
            Self::Times(map) => all(map),
            Self::Exact(map) => all(map),
            Self::Earliest | Self::Latest | Self::Time(_) => vec![],
        }
    }

    /// The offsets for these partitions. A dict has them for each partition that it names; the other variants hold for all partitions.
    pub fn of<'a>(&self, all: impl IntoIterator<Item = &'a TopicPartition>, what: &str) -> Result<KnownAndAsked> {
        // Rounded up, so that no message from before the time is meant.
        let at = |t: &EventTime| OffsetSpec::Timestamp(t.0.div_euclid(1000) + i64::from(t.0.rem_euclid(1000) > 0));
        let every = |spec| all.into_iter().map(|tp| (tp.clone(), spec)).collect();
        let (mut known, mut asked) = (Positions::new(), vec![]);
        match self {
            Self::Earliest => asked = every(OffsetSpec::Earliest),
            Self::Latest => asked = every(OffsetSpec::Latest),
            Self::Time(t) => asked = every(at(t)),
            Self::Times(map) => {
                let times = map.values().flat_map(BTreeMap::values).map(at);
                asked = self.named().into_iter().zip(times).collect();
            }
            Self::Exact(map) => {
                for (tp, offset) in self.named().into_iter().zip(map.values().flat_map(BTreeMap::values)) {
                    match *offset {
                        -2 => asked.push((tp, OffsetSpec::Earliest)),
                        -1 => asked.push((tp, OffsetSpec::Latest)),
                        n if n >= 0 => drop(known.insert(tp, Offset(n))),
                        n => {
                            return Err(Error::config(format!(
                                "{what}: {tp}: {n} is not an offset (−2 is earliest, −1 is latest)"
                            )));
                        }
                    }
                }
            }
        }
        Ok((known, asked))
    }
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
    /// An epoch on an interval waits for this many messages, but not longer than `max_trigger_delay`.
    pub min_offsets_per_trigger: Option<u64>,
    pub max_trigger_delay: Duration,
    pub fail_on_data_loss: bool,
    /// A start by time fails in partitions that have no message at or after the time.
    pub fail_without_message: bool,
}

/// Spark has the same default.
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
        if matches!(offsets, Offsets::Times(_) | Offsets::Exact(_)) {
            self.check_named(offsets.named(), &partitions, what)?;
        }
        let (mut out, asked) = offsets.of(&partitions, what)?;
        // Ending offsets are checked elsewhere, against the end at that time.
        if what != "ending_offsets" {
            self.check_not_behind_the_end(&out, what)?;
        }
        out.extend(match self.fail_without_message && what == "starting_offsets" {
            true => self.connection.list_offsets_of_messages(&asked)?,
            false => self.connection.list_offsets(&asked)?,
        });
        Ok(out)
    }

    /// Refuses a dict that does not name every partition, or names others.
    fn check_named(&self, named: Vec<TopicPartition>, partitions: &[TopicPartition], what: &str) -> Result<()> {
        let mut missing: BTreeSet<&TopicPartition> = partitions.iter().collect();
        for tp in named {
            if !self.topics.reads(&tp.topic) {
                return Err(Error::config(format!(
                    "{what} names the topic '{}', and this stream does not read that topic",
                    tp.topic
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

    /// Refuses a start after the end of the log. Such a first run would look like a run whose log was truncated.
    fn check_not_behind_the_end(&self, given: &Positions, what: &str) -> Result<()> {
        if given.is_empty() {
            return Ok(());
        }
        let ask: Vec<_> = given.keys().map(|tp| (tp.clone(), OffsetSpec::Latest)).collect();
        for (tp, end) in self.connection.list_offsets(&ask)? {
            if given[&tp] > end {
                return Err(Error::config(format!(
                    "{what}: {tp} ends at {}, and reading would start at {}. Give an offset up to {}, or -1 for messages that come from now on.",
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
