//! Arrow rows to Kafka messages.

mod columns;
mod encoder;
mod idle;
mod read_back;
mod transaction;

use super::{
    Connection,
    context::{Watch, failed, tidy},
};
use crate::{
    error::{Error, Kind, Result},
    position::Topic,
};
use arrow::array::RecordBatch;
use columns::Plan;
pub use encoder::{MessageEncoder, MessageOptions};
pub(super) use idle::Producers;
use parking_lot::Mutex;
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::{DeliveryResult, Message},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
    types::RDKafkaErrorCode as Code,
};
pub use read_back::TopicLimits;
use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};
pub use transaction::{Failed, Number, Transactions};

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
}

const KEPT_FAILURES: usize = 10;
/// The interval at which `progress` must be called is 100 ms.
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
        let mut run = Run { connection: self, topic, options, producer, report, progress, start: now, told: now };
        let result = run.all(batches);
        match result {
            Ok(()) => {
                let report = run.report();
                if report.failed == 0 {
                    self.producers().keep(settings, run.producer);
                }
                Ok(report)
            }
            Err(error) => {
                // Queued messages are discarded. A dead broker must not hold the caller while librdkafka closes.
                let producer = run.producer;
                std::thread::spawn(move || drop(producer));
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
            // The same as in Java's producers, so that a key is always in the same partition, whoever writes it.
            ("partitioner", "murmur2_random"),
        ];
        let mut over = vec![("acks", acks), ("enable.idempotence", if acks == "all" { "true" } else { "false" })];
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

/// Counts librdkafka's delivery reports.
#[derive(Default)]
struct Deliveries {
    watch: Watch,
    delivered: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<String>>,
    /// The partition of a batch that the embedded broker refused.
    full: Mutex<Option<i32>>,
    refused: AtomicBool,
    /// The topic's ACL does not allow writing.
    forbidden: AtomicBool,
}

impl Deliveries {
    /// As new, for the next call.
    fn forget(&self) {
        self.watch.forget();
        self.delivered.store(0, Ordering::Relaxed);
        self.failed.store(0, Ordering::Relaxed);
        self.failures.lock().clear();
        *self.full.lock() = None;
        self.refused.store(false, Ordering::Relaxed);
        self.forbidden.store(false, Ordering::Relaxed);
    }

    fn fail(&self, text: impl FnOnce() -> String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures.lock();
        if failures.len() < KEPT_FAILURES {
            failures.push(text());
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        self.watch.log(level, fac, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.watch.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => drop(self.delivered.fetch_add(1, Ordering::Relaxed)),
            Err((error, message)) => {
                if error.rdkafka_error_code() == Some(super::embedded::FULL) {
                    self.full.lock().get_or_insert(message.partition());
                    self.refused.store(true, Ordering::Relaxed);
                }
                if error.rdkafka_error_code() == Some(Code::TopicAuthorizationFailed) {
                    self.forbidden.store(true, Ordering::Relaxed);
                }
                self.fail(|| format!("partition {}: {}", message.partition(), tidy(&error.to_string())));
            }
        }
    }
}

/// One call of `produce`.
struct Run<'a> {
    connection: &'a Connection,
    topic: &'a Topic,
    options: &'a ProduceOptions,
    producer: BaseProducer<Deliveries>,
    report: ProduceReport,
    progress: &'a mut dyn FnMut(&ProduceReport) -> Result<()>,
    start: Instant,
    told: Instant,
}

impl Run<'_> {
    fn all(&mut self, batches: &mut dyn Iterator<Item = Result<RecordBatch>>) -> Result<()> {
        let bad = self.send_all(batches)?;
        while self.producer.in_flight_count() > 0 {
            // Do not linger any longer. `flush` itself would not call `progress`.
            let _ = self.producer.flush(Duration::from_millis(1));
            self.look(Duration::from_millis(20))?;
        }
        self.look(Duration::ZERO)?;
        let report = self.report();
        (self.progress)(&report)?;
        if bad.is_none() {
            self.check_allowed(&report)?;
        }
        // The rows taken before have arrived by now, and the error says how many: a topic cannot take messages back.
        match bad {
            None => Ok(()),
            Some(mut error) if report.rows > 0 => {
                let text = error.message.trim_end_matches('.');
                error.message = format!(
                    "{text}. {} rows were taken before, and {} of them are on the topic '{}'.",
                    report.rows, report.delivered, self.topic
                );
                Err(error)
            }
            Some(error) => Err(error),
        }
    }

    /// A report that nothing arrived would be easy to overlook. If it is a matter of permissions or credentials, it is an error.
    fn check_allowed(&self, report: &ProduceReport) -> Result<()> {
        if report.failed == 0 || report.delivered > 0 {
            return Ok(());
        }
        let deliveries = self.producer.context();
        if deliveries.forbidden.load(Ordering::Relaxed) {
            return Err(Error::acl(format!(
                "publishing to '{}' on {}: these credentials have no WRITE permission on the topic. Nothing was published.",
                self.topic,
                self.connection.address()
            ))
            .in_topic(self.topic.as_str()));
        }
        match deliveries.watch.seen().auth {
            Some(_) => Err(deliveries.watch.seen().unreachable(self.connection.address())),
            None => Ok(()),
        }
    }

    /// Sends every row. An error in the rows themselves is returned and ends the loop.
    fn send_all(&mut self, batches: &mut dyn Iterator<Item = Result<RecordBatch>>) -> Result<Option<Error>> {
        let mut plan: Option<Plan> = None;
        for batch in batches {
            let batch = match batch {
                Ok(batch) => batch,
                Err(e) => return Ok(Some(e)),
            };
            if plan.as_ref().is_none_or(|p| p.schema() != batch.schema().as_ref()) {
                match Plan::new(&batch.schema(), self.options) {
                    Ok(made) => plan = Some(made),
                    Err(e) => return Ok(Some(e)),
                }
            }
            let Some(plan) = &plan else { continue };
            for from in (0..batch.num_rows()).step_by(ENCODE_ROWS) {
                let some = batch.slice(from, ENCODE_ROWS.min(batch.num_rows() - from));
                if let Some(bad) = self.rows(plan, &some)? {
                    return Ok(Some(bad));
                }
            }
            self.look(Duration::ZERO)?;
        }
        Ok(None)
    }

    fn rows(&mut self, plan: &Plan, batch: &RecordBatch) -> Result<Option<Error>> {
        macro_rules! good {
            ($made:expr) => {
                match $made {
                    Ok(made) => made,
                    Err(e) => return Ok(Some(e)),
                }
            };
        }
        let messages = good!(plan.messages(batch, self.report.rows));
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for row in 0..batch.num_rows() {
            if self.options.rate.is_some() {
                self.keep_pace()?;
            }
            let mut record = BaseRecord::<[u8], [u8]>::to(self.topic.as_str());
            record.key = good!(messages.key(row, &mut key));
            record.payload = good!(messages.value(row, &mut value));
            record.partition = messages.partition(row).or(self.options.partition);
            record.timestamp = messages.timestamp(row);
            record.headers = good!(messages.headers(row, &self.options.headers));
            self.report.rows += 1;
            self.report.bytes += (record.key.map_or(0, <[u8]>::len) + record.payload.map_or(0, <[u8]>::len)) as u64;
            self.send(record)?;
            if self.report.rows.is_multiple_of(LOOK_ROWS as u64) {
                self.look(Duration::ZERO)?;
            }
        }
        Ok(None)
    }

    fn send(&mut self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                    record = back;
                    self.look(Duration::from_millis(5))?;
                }
                Err((error, _)) => {
                    let row = self.report.rows;
                    let code = error.rdkafka_error_code();
                    if code == Some(Code::Fatal) {
                        return Err(self.connection.error(&format!("publishing to '{}'", self.topic), &error));
                    }
                    let advice = match code {
                        Some(Code::MessageSizeTooLarge) => {
                            " (raise message.max.bytes here, on the topic and on the broker)"
                        }
                        Some(Code::UnknownPartition) => " (the partition does not exist)",
                        _ => "",
                    };
                    let text = self.connection.secrets().scrub(&error.to_string());
                    self.producer.context().fail(|| format!("row {row}: {}{advice}", tidy(&text)));
                    return Ok(());
                }
            }
        }
    }

    /// Waits until the next row is due.
    fn keep_pace(&mut self) -> Result<()> {
        let Some(rate) = self.options.rate else { return Ok(()) };
        if self.told.elapsed() >= PROGRESS_EVERY {
            self.look(Duration::ZERO)?;
        }
        loop {
            let due = Duration::from_secs_f64(self.report.rows as f64 / rate);
            let early = due.saturating_sub(self.start.elapsed());
            if early.is_zero() {
                return Ok(());
            }
            // A difference of a few milliseconds is steady enough. Sleeping for microseconds costs more than it gains.
            if early < Duration::from_millis(2) {
                std::thread::sleep(early);
                return Ok(());
            }
            self.look(early.min(Duration::from_millis(50)))?;
        }
    }

    /// Serves delivery reports for up to `wait`, and reports progress to the caller.
    fn look(&mut self, wait: Duration) -> Result<()> {
        self.producer.poll(wait);
        let deliveries = self.producer.context();
        if deliveries.refused.load(Ordering::Relaxed) {
            return Err(self.full());
        }
        if let Some((code, text)) = self.producer.client().fatal_error() {
            let text = self.connection.secrets().scrub(&text);
            return Err(failed(&format!("publishing to '{}'", self.topic), code, &text));
        }
        let seen = deliveries.watch.seen();
        if let (Some(reason), 0) = (seen.auth, deliveries.delivered.load(Ordering::Relaxed)) {
            return Err(Error::new(Kind::Auth, format!("publishing to '{}': {reason}", self.topic)));
        }
        // A real broker can come back. An embedded broker that is gone has lost everything.
        if let (true, Some(broker)) = (seen.all_down, self.connection.embedded()) {
            deliveries.watch.forget();
            broker.check()?;
        }
        if self.told.elapsed() >= PROGRESS_EVERY {
            self.told = Instant::now();
            let report = self.report();
            (self.progress)(&report)?;
        }
        Ok(())
    }

    /// The embedded broker refused more messages, because it must not lose those that it has.
    fn full(&self) -> Error {
        let deliveries = self.producer.context();
        let partition = deliveries.full.lock().unwrap_or_default();
        let delivered = deliveries.delivered.load(Ordering::Relaxed);
        match self.connection.embedded() {
            Some(broker) => broker.full(self.topic, partition, delivered, self.report.rows),
            None => Error::config(format!(
                "publishing to '{}': the broker does not support this message format. bayou needs Kafka 0.11 or later.",
                self.topic
            )),
        }
    }

    fn report(&self) -> ProduceReport {
        let deliveries = self.producer.context();
        ProduceReport {
            delivered: deliveries.delivered.load(Ordering::Relaxed),
            failed: deliveries.failed.load(Ordering::Relaxed),
            failures: deliveries.failures.lock().clone(),
            seconds: self.start.elapsed().as_secs_f64(),
            ..self.report.clone()
        }
    }
}
