//! Arrow rows to Kafka messages.

mod columns;
mod deliveries;
mod encoder;
mod idle;
mod read_back;
mod run;
mod transaction;

use super::Connection;
use crate::{
    batch::ValuesFunction,
    error::{Error, Kind, Result},
    position::Topic,
};
use arrow::array::RecordBatch;
use deliveries::Deliveries;
pub(super) use deliveries::Delivery;
pub(crate) use encoder::{MessageEncoder, MessageOptions};
pub(super) use idle::Producers;
use rdkafka::producer::{BaseProducer, Producer};
pub(crate) use read_back::TopicLimits;
use run::{Run, Stage};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
pub(crate) use transaction::{Failed, Number, Transactions};

/// The options for turning rows into messages.
#[derive(Debug, Clone)]
pub struct ProduceOptions {
    /// The column of the key.
    pub key: Option<String>,
    /// Headers for every message.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// A column of headers: a map, or a list of structs (key, value). It is removed from the value.
    pub headers_column: Option<String>,
    /// One partition for all messages.
    pub partition: Option<i32>,
    /// A column of partitions. For NULL the key decides. It is removed from the value.
    pub partition_column: Option<String>,
    /// The column of the message's timestamp (a number is milliseconds). NULL is now. It stays in the value.
    pub timestamp: Option<String>,
    /// A column whose bytes or text become the value, unchanged and without JSON. NULL is a tombstone.
    pub value: Option<String>,
    /// none, gzip, snappy, lz4 or zstd.
    pub compression: Option<String>,
    /// "all" (the default), "1" or "0". Anything except "all" turns idempotence off.
    pub acks: Option<String>,
    /// Rows per second.
    pub rate: Option<f64>,
    /// Whether the key column stays in the value.
    pub include_key_in_value: bool,
    /// How long messages are gathered into a batch, and how large a batch grows.
    pub linger: Option<Duration>,
    pub batch_bytes: Option<usize>,
    /// One of librdkafka's partitioners.
    pub partitioner: Option<String>,
    /// All rows or none, in one transaction of this id.
    pub transactional_id: Option<String>,
    /// Whether the report has each message's offset.
    pub deliveries: bool,
    /// A function that is applied to the values before they are sent.
    pub encrypt: Option<Arc<dyn ValuesFunction>>,
}

/// librdkafka's partitioners.
const PARTITIONERS: [&str; 7] =
    ["murmur2_random", "murmur2", "consistent_random", "consistent", "fnv1a_random", "fnv1a", "random"];
/// The timeout of a transaction in milliseconds. If its producer is gone, readers of committed messages are delayed until this timeout.
const TRANSACTION: &str = "300000";

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
            linger: None,
            batch_bytes: None,
            partitioner: None,
            transactional_id: None,
            deliveries: false,
            encrypt: None,
        }
    }
}

/// The result of publishing rows.
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
    /// Each message's result, by row, if the caller asked for it.
    pub deliveries: Option<Vec<Delivery>>,
}

/// `progress` must be called at least every 100 ms. This interval is a little shorter.
const PROGRESS_EVERY: Duration = Duration::from_millis(80);
/// At most this many rows are encoded at a time, so that a large batch is not in memory twice.
const ENCODE_ROWS: usize = 4096;
/// After this many rows, deliveries, clock and progress are checked.
const LOOK_ROWS: usize = 512;

impl Connection {
    /// Publishes every row and waits for the acknowledgements. Calls `progress` at least every 100 ms. An error of
    /// `progress` stops at once.
    pub fn produce(
        &self,
        topic: &Topic,
        batches: &mut dyn Iterator<Item = Result<RecordBatch>>,
        options: &ProduceOptions,
        progress: &mut dyn FnMut(&ProduceReport) -> Result<()>,
    ) -> Result<ProduceReport> {
        let partitions = self.partitions(topic)?.len();
        if let Some(p) = options.partition.filter(|p| usize::try_from(*p).map_or(true, |p| p >= partitions)) {
            return Err(Error::config(format!(
                "topic '{topic}' has no partition {p}. It has {partitions}, counted from 0."
            )));
        }
        if let Some(rate) = options.rate.filter(|r| !(r.is_finite() && *r > 0.0)) {
            return Err(Error::config(format!("rate must be a positive number of rows per second, not {rate}")));
        }
        let report = ProduceReport { topic: topic.to_string(), ..ProduceReport::default() };
        // Checks for an interrupt before the first send. A user who interrupted while the broker did not answer does
        // not want the rows to be published later.
        progress(&report)?;
        let (producer, settings) = self.producer(options)?;
        let now = Instant::now();
        producer.context().keep_deliveries(options.deliveries);
        let mut run = Run {
            connection: self,
            topic,
            options,
            producer,
            report,
            progress,
            start: now,
            told: now,
            stage: Stage::Open,
        };
        let result = run.all(batches);
        match result {
            Ok(()) => {
                let report = run.last_report();
                if report.failed == 0 && options.transactional_id.is_none() {
                    self.producers().keep(settings, run.producer);
                }
                Ok(report)
            }
            Err(mut error) => {
                if error.kind == Kind::Interrupted {
                    error.message = run.stopped();
                }
                // Queued messages are discarded. A dead broker must not delay the caller while librdkafka closes.
                std::thread::spawn(move || run::close(run.producer));
                Err(error)
            }
        }
    }

    fn producer(&self, options: &ProduceOptions) -> Result<(BaseProducer<Deliveries>, idle::Settings)> {
        let acks = match options.acks.as_deref().or(self.property(&["acks", "request.required.acks"])) {
            None | Some("all" | "-1") => "all",
            Some(acks @ ("0" | "1")) => acks,
            Some(other) => {
                return Err(Error::config(format!(
                    "acks must be \"all\" (every replica in sync has it), \"1\" (the leader has it) or \"0\", not \"{other}\""
                )));
            }
        };
        let embedded = self.is_embedded();
        let defaults = [
            // The embedded broker keeps batches as they arrive. Small batches fill it more slowly.
            ("compression.type", if embedded { "zstd" } else { "lz4" }),
            // Many small batches fill the embedded broker by their number.
            ("linger.ms", if options.rate.is_some() && embedded { "200" } else { "20" }),
            ("queue.buffering.max.messages", "300000"),
            ("queue.buffering.max.kbytes", "131072"),
            ("message.timeout.ms", "60000"),
            // The same as in Java's producers, so that a key is always in the same partition, whichever client writes it.
            ("partitioner", "murmur2_random"),
            // Without idempotence, a message that is sent again would come after later messages that were in flight at the same time.
            ("max.in.flight.requests.per.connection", if acks == "all" { "5" } else { "1" }),
        ];
        let mut over = vec![("acks", acks), ("enable.idempotence", if acks == "all" { "true" } else { "false" })];
        let (linger, batch);
        if let Some(time) = options.linger {
            linger = time.as_millis().to_string();
            over.push(("linger.ms", &linger));
        }
        if let Some(bytes) = options.batch_bytes {
            batch = bytes.to_string();
            over.push(("batch.size", &batch));
        }
        if let Some(partitioner) = options.partitioner.as_deref() {
            if !PARTITIONERS.contains(&partitioner) {
                return Err(Error::config(format!(
                    "partitioner='{partitioner}' does not exist.{} The partitioners are {}.",
                    crate::error::did_you_mean(partitioner, PARTITIONERS),
                    PARTITIONERS.join(", ")
                )));
            }
            over.push(("partitioner", partitioner));
        }
        if let Some(id) = options.transactional_id.as_deref() {
            if let Some(broker) = self.embedded() {
                return Err(broker.cannot("do transactions", "leave transaction= out"));
            }
            if acks != "all" {
                return Err(Error::config(format!("a transaction needs acks=\"all\", not \"{acks}\"")));
            }
            let timeout = self.property(&["transaction.timeout.ms"]).unwrap_or(TRANSACTION);
            // A message may not wait longer than its transaction.
            over.extend([
                ("transactional.id", id),
                ("transaction.timeout.ms", timeout),
                ("message.timeout.ms", timeout),
            ]);
        }
        if let Some(compression) = options.compression.as_deref() {
            if !["none", "gzip", "snappy", "lz4", "zstd"].contains(&compression) {
                return Err(Error::config(format!(
                    "compression must be none, gzip, snappy, lz4 or zstd, not '{compression}'"
                )));
            }
            over.push(("compression.type", compression));
        }
        let settings: idle::Settings =
            defaults.iter().chain(&over).map(|(name, value)| (name.to_string(), value.to_string())).collect();
        if let Some(producer) = self.producers().take(&settings) {
            return Ok((producer, settings));
        }
        let deliveries = Deliveries { watch: self.watch(), ..Deliveries::default() };
        let made = self
            .config_with_defaults(&defaults, &over)
            .create_with_context(deliveries)
            .map_err(|e| self.error(&format!("publishing to {}", self.address()), &e))?;
        Ok((made, settings))
    }
}
