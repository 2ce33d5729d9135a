//! Rows to a Kafka topic, exactly once.
//!
//! An epoch's rows are staged as messages in a file of the query's own, before the seal. After the seal they are sent in one transaction, which
//! also commits the number of the epoch as the offset of the group `bayou.<query>.<output>` on partition 0 of the topic. So readers of committed
//! messages see all messages of an epoch if and only if the number is committed. The argument, by the place of a crash:
//!
//! 1. Before the seal nothing is sent. The epoch is abandoned.
//! 2. Between the seal and the end of the transaction: the next run creates a producer with the same transactional id. This ends the open
//!    transaction, as an abort, and fences the producer of the run that was left behind. Only then is the committed number read, so that it is
//!    final. The number is below the epoch, so the staged messages are sent.
//! 3. Between the end of the transaction and `done`: the committed number is the epoch's. Nothing is sent.
//! 4. An error of a transaction never decides whether it was committed. A new producer is created, and the number is read: the case is 2 or 3.
//! 5. Kafka forgets the offsets of a group that is not used. If the number is gone, the topic itself is read, committed messages only: each one
//!    has its epoch as a header. If the topic has also deleted messages of that time, the answer is not known, and the run is refused.
//! 6. The number carries the id of the query. The number of a different query with the same name is refused. A new generation takes the number
//!    over, because epoch numbers never restart.
//!
//! If this run already has a producer, the number need not be read: as long as no other producer has fenced this producer, no other run can have
//! sent an epoch that was sealed after its creation.

mod keys;
mod stage;
mod writer;

use super::{OutputMode, Owner, Rows, Sink, Writer};
use crate::batch::Headers;
use crate::{Error, Result};
use arrow::array::{BinaryArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use writer::TopicWriter;

/// The header with the number of the epoch.
pub(crate) const EPOCH: &str = "bayou-epoch";
/// The header that says which output of which query has sent the message: `<query name>/<output>/<query id>`.
pub(crate) const QUERY: &str = "bayou-query";

/// The value of the first header of this name. bayou's own headers come first; rows may have headers of other queries.
fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a [u8]> {
    headers.iter().find(|(n, _)| n == name)?.1.as_deref()
}

/// In a seal: the topic that the epoch is for.
const TOPIC: &str = "topic";

/// A topic that is created if it does not exist.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Create {
    pub partitions: i32,
    /// -1 is the default of the broker.
    pub replication_factor: i32,
    pub config: BTreeMap<String, String>,
}

#[derive(Clone)]
pub struct TopicOptions {
    pub cluster: Arc<dyn Cluster>,
    pub topic: String,
    /// The columns of the key. In the modes update and complete: the keys of the groups, if it is empty.
    pub key: Vec<String>,
    pub headers_column: Option<String>,
    pub partition_column: Option<String>,
    pub timestamp: Option<String>,
    pub create: Option<Create>,
}

/// What the sink needs of a Kafka cluster. It is passed in, because stages do not import each other. All methods block.
pub trait Cluster: Send + Sync {
    fn address(&self) -> &str;
    /// The reason if the cluster cannot take an epoch in one transaction.
    fn unfit(&self) -> Option<String>;
    /// The topic, which is created if `create` is given and it does not exist.
    fn topic(&self, name: &str, create: Option<&Create>) -> Result<Facts>;
    fn encoder(&self, schema: &SchemaRef, facts: &Facts, shape: &Shape) -> Result<Arc<dyn Encoder>>;
    /// A message for each key, which deletes the earlier messages with this key.
    fn tombstones(&self, keys: &BinaryArray) -> Result<RecordBatch>;
    /// The number that is committed for the group. `settled`: waits until open transactions have ended.
    fn number(&self, group: &str, topic: &str, settled: bool, go_on: GoOn<'_>) -> Result<Option<Number>>;
    /// A new producer. Earlier producers of the same id can send nothing from now on, and their open transaction is aborted.
    fn producer(&self, of: &ProducerOf<'_>, go_on: GoOn<'_>) -> Result<Box<dyn Producer>, Failed>;
    /// The id of the topic as it is now. None if the broker has no ids.
    fn id(&self, topic: &str) -> Result<Option<String>>;
    /// Reads the topic as readers of committed messages see it, from a time in milliseconds on, or from its beginning. `each` returns false to
    /// stop. Returns whether all messages since then are still there. From the beginning, a message may come twice.
    fn read_back(
        &self,
        topic: &str,
        since: Option<i64>,
        go_on: GoOn<'_>,
        each: &mut dyn FnMut(Sent<'_>) -> Result<bool>,
    ) -> Result<bool>;
}

/// Asked while a call waits. An error ends the call.
pub(crate) type GoOn<'a> = &'a dyn Fn() -> Result<()>;

pub trait Encoder: Send + Sync {
    /// The first row that cannot be a message is an error. `now` is in milliseconds.
    fn encode(&self, rows: &RecordBatch, now: i64) -> Result<Vec<RecordBatch>>;
    /// The rows that cannot be messages, with the reasons.
    fn refused(&self, rows: &RecordBatch, now: i64) -> Vec<(u32, String)>;
    /// The keys of rows that have only the columns of the key, in its order. NULL is a key that no message can have.
    fn keys(&self, rows: &RecordBatch) -> Result<BinaryArray>;
}

pub trait Producer: Send {
    /// Sends the messages and the number in one transaction. `name` is for crash points.
    fn send(
        &self,
        messages: &[RecordBatch],
        number: &Number,
        headers: &[(String, Option<Vec<u8>>)],
        name: &str,
        go_on: GoOn<'_>,
    ) -> Result<(), Failed>;
}

/// A topic as it was found.
#[derive(Debug, Clone)]
pub struct Facts {
    pub name: String,
    /// None if the broker has no ids of topics.
    pub id: Option<String>,
    pub partitions: usize,
    pub max_message_bytes: usize,
    pub compacted: Option<bool>,
    /// By how many milliseconds timestamps may be before and after the present.
    pub earlier: i64,
    pub later: i64,
}

impl Facts {
    /// Distinguishes the topic from other topics, and from a later topic with the same name. A name cannot contain a
    /// slash. An id can.
    fn identity(&self) -> String {
        format!("{}/{}", self.name, self.id.as_deref().unwrap_or_default())
    }
}

/// How rows become messages.
#[derive(Debug, Clone)]
pub struct Shape {
    pub keys: Vec<String>,
    /// Each message has a key, and replaces the earlier message with the same key.
    pub upsert: bool,
    pub headers_column: Option<String>,
    pub partition_column: Option<String>,
    pub timestamp: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    pub epoch: i64,
    pub metadata: String,
}

pub struct ProducerOf<'a> {
    pub id: &'a str,
    pub group: &'a str,
    pub topic: &'a Facts,
    pub timeout: Duration,
}

/// A message that is on the topic.
pub struct Sent<'a> {
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    pub headers: Option<&'a Headers>,
}

/// A transaction that failed, or whose result is not known.
#[derive(Debug)]
pub struct Failed {
    pub error: Error,
    /// A new attempt with a new producer may succeed.
    pub again: bool,
}

impl TopicOptions {
    pub(super) fn sink(&self, rows: Rows) -> TopicSink {
        TopicSink { options: self.clone(), rows }
    }

    pub(super) fn describe(&self) -> String {
        format!("topic '{}' on {}", self.topic, self.cluster.address())
    }
}

/// The names of the modes in seals and definitions. A table's modes have other names, because only the mode in a seal shows the kind of target.
pub(super) fn mode_name(mode: OutputMode) -> &'static str {
    match mode {
        OutputMode::Append => "topic:append",
        OutputMode::Update => "topic:update",
        OutputMode::Complete => "topic:complete",
    }
}

fn is_upsert(mode: &str) -> bool {
    mode != mode_name(OutputMode::Append)
}

/// The group of an application id.
fn group(app: &str) -> String {
    app.replace('/', ".")
}

/// The beginning of the header `QUERY` of an output, in any generation.
fn sender(owner: &Owner, output: &str) -> String {
    format!("{}/{output}/", owner.query)
}

/// The facts about the query that are committed with the number of an epoch.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    query_id: String,
    generation: u64,
}

#[derive(Clone)]
pub(super) struct TopicSink {
    options: TopicOptions,
    rows: Rows,
}

impl TopicSink {
    fn shape(&self) -> Result<Shape> {
        let TopicOptions { key, headers_column, partition_column, timestamp, .. } = &self.options;
        let upsert = self.rows.mode != OutputMode::Append;
        let names = self.rows.keys.iter().map(|k| self.rows.schema.field(*k).name().clone());
        let of_groups: Vec<String> = names.collect();
        let mut keys = key.clone();
        if upsert {
            if keys.is_empty() {
                keys = of_groups.clone();
            }
            let mut sorted = (keys.clone(), of_groups.clone());
            sorted.0.sort();
            sorted.1.sort();
            if sorted.0 != sorted.1 {
                return Err(Error::config(format!(
                    "output_mode=\"{}\" sends a message for each group that changed, which replaces the previous message. So the key of the messages \
                     is the key of the groups ({}), and key={keys:?} is a different key. Leave key= out.",
                    self.rows.mode.name(),
                    of_groups.join(", ")
                )));
            }
            if partition_column.is_some() {
                return Err(Error::config(format!(
                    "partition_column= needs output_mode=\"append\". In output_mode=\"{}\" all messages of a key are in one partition, which the key \
                     decides.",
                    self.rows.mode.name()
                )));
            }
        }
        Ok(Shape {
            keys,
            upsert,
            headers_column: headers_column.clone(),
            partition_column: partition_column.clone(),
            timestamp: timestamp.clone(),
        })
    }

    fn place(&self) -> String {
        self.options.describe()
    }
}

/// When this value is dropped, the calls that use it stop, because no caller waits for them any more.
#[derive(Default)]
struct Leash(Arc<AtomicBool>);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn go_on(stop: &AtomicBool) -> Result<()> {
    match stop.load(Ordering::Acquire) {
        true => Err(Error::interrupted("the query was stopped while it was busy with a topic")),
        false => Ok(()),
    }
}

/// Runs work that blocks, on a thread that may block. The work is stopped when the caller no longer waits.
async fn on_leash<T: Send + 'static>(work: impl FnOnce(GoOn<'_>) -> Result<T> + Send + 'static) -> Result<T> {
    let leash = Leash::default();
    let stop = leash.0.clone();
    blocking(move || work(&|| go_on(&stop))).await
}

/// Runs work that blocks, on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::internal(format!("a call to Kafka ended: {e}")))?
}

#[async_trait]
impl Sink for TopicSink {
    fn check(&self) -> Result<()> {
        if let Some(why) = self.options.cluster.unfit() {
            return Err(Error::config(format!("output '{}', {}: {why}", self.rows.name, self.place())));
        }
        let shape = self.shape().map_err(|e| e.context(format!("output '{}'", self.rows.name)))?;
        // Checks the columns and their types. The requirements of the topic itself are known when it is opened.
        let any = Facts {
            name: self.options.topic.clone(),
            id: None,
            partitions: usize::MAX,
            max_message_bytes: usize::MAX,
            compacted: None,
            earlier: i64::MAX,
            later: i64::MAX,
        };
        let made = self.options.cluster.encoder(&self.rows.schema, &any, &shape);
        made.map(drop).map_err(|e| e.context(format!("output '{}'", self.rows.name)))
    }

    async fn open(&self) -> Result<Box<dyn Writer>> {
        let sink = self.clone();
        let writer = blocking(move || {
            let TopicOptions { cluster, topic, create, .. } = &sink.options;
            let create = create.clone().map(|mut c| {
                // Of messages that replace each other, only the newest is needed.
                if sink.rows.mode != OutputMode::Append && !c.config.contains_key("cleanup.policy") {
                    c.config.insert("cleanup.policy".into(), "compact".into());
                }
                c
            });
            let facts = cluster.topic(topic, create.as_ref())?;
            let shape = sink.shape()?;
            let encoder = cluster.encoder(&sink.rows.schema, &facts, &shape)?;
            TopicWriter::new(sink, facts, shape, encoder)
        });
        Ok(Box::new(writer.await.map_err(|e| e.context(format!("output '{}'", self.rows.name)))?))
    }

    async fn newest_epoch(&self, app: &str) -> Result<Option<i64>> {
        let (sink, group) = (self.clone(), group(app));
        let number = blocking(move || {
            // Without the topic there is no number.
            match sink.options.cluster.topic(&sink.options.topic, None) {
                Err(e) if e.kind == crate::Kind::Topic => return Ok(None),
                Err(e) => return Err(e),
                Ok(_) => {}
            }
            sink.options.cluster.number(&group, &sink.options.topic, false, &|| Ok(()))
        });
        Ok(number.await?.map(|n| n.epoch))
    }

    async fn refuse_taken(&self, app: &str) -> Result<()> {
        match self.newest_epoch(app).await? {
            None => Ok(()),
            Some(epoch) => Err(writer::not_ours(&self.place(), app, epoch)),
        }
    }
}

#[cfg(test)]
mod test;
