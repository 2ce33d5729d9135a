//! Sends the messages of an epoch in one transaction, which also commits the epoch's number as an offset of a group.
//!
//! The transaction makes both of these one step: readers of committed messages see all messages of an epoch if and only if the number is
//! committed. A transactional id has one producer: a newer producer ends an open transaction of the older one, which can send nothing afterwards.

use super::{LOOK_ROWS, MessageEncoder, ProduceOptions, columns::Plan};
use crate::{
    error::{Error, Kind, Result},
    kafka::{
        Connection,
        context::{Watch, failed, kind_of, tidy, watched},
    },
    storage::crash,
};
use arrow::array::RecordBatch;
use parking_lot::Mutex;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata},
    error::KafkaError,
    message::{DeliveryResult, Message},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
    types::RDKafkaErrorCode as Code,
};
use std::time::{Duration, Instant};

/// The timeout of one call of librdkafka. After a timeout the call is repeated and continues, until `PATIENCE` is over.
const CALL: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);
/// How long an attempt to end a failed transaction may take. The next producer of the id ends it in any case.
const ABORT: Duration = Duration::from_secs(5);

/// The number of an epoch, as it is committed for a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    pub epoch: i64,
    /// Who has committed the number, in the words of the committer.
    pub metadata: String,
}

/// A transaction that failed, or whose result is not known.
#[derive(Debug)]
pub struct Failed {
    pub error: Error,
    /// A new producer, or simply another attempt, may succeed.
    pub again: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { again: error.kind == Kind::Connection, error }
    }
}

/// Asked while a call waits. An error ends the call.
type GoOn<'a> = &'a dyn Fn() -> Result<()>;

/// A producer of one transactional id, for one topic and one group.
pub struct Transactions {
    connection: Connection,
    topic: String,
    group: String,
    id: String,
    plan: Plan,
    /// `None` only while it is dropped.
    producer: Option<BaseProducer<Sent>>,
    metadata: ConsumerGroupMetadata,
}

/// Counts what was delivered, and keeps the first failure.
#[derive(Default)]
struct Sent {
    watch: Watch,
    failure: Mutex<Option<(Code, i32)>>,
}

watched!(Sent);

impl ProducerContext for Sent {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
            self.failure.lock().get_or_insert((code, message.partition()));
        }
    }
}

impl Drop for Transactions {
    fn drop(&mut self) {
        // A dead broker must not delay the caller while librdkafka closes.
        let producer = self.producer.take();
        std::thread::spawn(move || drop(producer));
    }
}

pub(super) fn is_fenced(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
}

/// Whether a call about a transaction may succeed when it is made again.
pub(super) fn passes(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(e) if e.is_retriable() && !e.is_fatal() && !e.txn_requires_abort())
}

/// The code, and librdkafka's own text where there is one.
pub(super) fn told(error: &KafkaError) -> (Code, String) {
    let text = match error {
        KafkaError::Transaction(e) => e.string(),
        other => other.to_string(),
    };
    (error.rdkafka_error_code().unwrap_or(Code::Unknown), text)
}

impl Connection {
    /// A new producer of the transactional id. An open transaction of an earlier producer is ended.
    pub fn transactions(
        &self,
        id: &str,
        group: &str,
        topic: &str,
        timeout: Duration,
        max_message_bytes: usize,
        go_on: GoOn<'_>,
    ) -> Result<Transactions, Failed> {
        self.check_fork()?;
        let millis = timeout.as_millis().to_string();
        let millis = self.property(&["transaction.timeout.ms"]).unwrap_or(&millis);
        // librdkafka's bounds. The topic itself refuses messages that are too large for it.
        let most = max_message_bytes.clamp(1000, 1_000_000_000).to_string();
        let defaults = [
            ("compression.type", "lz4"),
            ("linger.ms", "20"),
            ("queue.buffering.max.messages", "300000"),
            ("queue.buffering.max.kbytes", "131072"),
            ("message.max.bytes", most.as_str()),
            // The same as in Java's producers, so that a key is always in the same partition, whichever client writes it.
            ("partitioner", "murmur2_random"),
        ];
        let over = [
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("transactional.id", id),
            ("transaction.timeout.ms", millis),
            // A message may not wait longer than its transaction.
            ("message.timeout.ms", millis),
        ];
        let what = format!("transactions for the topic '{topic}' on {}", self.address());
        let sent = Sent { watch: self.watch(), ..Sent::default() };
        let producer: BaseProducer<Sent> =
            self.config_with_defaults(&defaults, &over).create_with_context(sent).map_err(|e| {
                let text = self.secrets().scrub(&e.to_string());
                Error::config(format!("{what}: librdkafka refuses the properties: {text}"))
            })?;
        let metadata = self.in_group(group, true, |c| {
            c.group_metadata().ok_or_else(|| Error::internal(format!("{what}: librdkafka has no group '{group}'")))
        })?;
        let options = ProduceOptions {
            key: Some("key".into()),
            value: Some("value".into()),
            partition_column: Some("partition".into()),
            timestamp: Some("timestamp".into()),
            headers_column: Some("headers".into()),
            ..ProduceOptions::default()
        };
        let plan = Plan::new(&MessageEncoder::schema(), &options)?;
        let out = Transactions {
            connection: self.clone(),
            topic: topic.into(),
            group: group.into(),
            id: id.into(),
            plan,
            producer: Some(producer),
            metadata,
        };
        out.until("beginning", go_on, || out.producer()?.init_transactions(CALL).map_err(Into::into))?;
        Ok(out)
    }

    /// The number that is committed for the group on partition 0 of the topic. `settled`: waits until no transaction is open that would commit
    /// a new number.
    pub fn committed_number(&self, group: &str, topic: &str, settled: bool, go_on: GoOn<'_>) -> Result<Option<Number>> {
        self.check_fork()?;
        let what = format!("reading the offset of the group '{group}' for the topic '{topic}' on {}", self.address());
        let began = Instant::now();
        self.in_group(group, settled, |consumer| {
            loop {
                go_on()?;
                let mut wanted = TopicPartitionList::new();
                wanted.add_partition(topic, 0);
                let code = match consumer.committed_offsets(wanted, CALL) {
                    Ok(found) => {
                        let Some(found) = found.find_partition(topic, 0) else { return Ok(None) };
                        match (found.error(), found.offset()) {
                            (Ok(()), Offset::Offset(epoch)) => {
                                return Ok(Some(Number { epoch, metadata: found.metadata().to_string() }));
                            }
                            (Ok(()), _) => return Ok(None),
                            (Err(e), _) => e.rdkafka_error_code().unwrap_or(Code::Unknown),
                        }
                    }
                    Err(e) => e.rdkafka_error_code().unwrap_or(Code::Unknown),
                };
                crate::kafka::connection::drain(consumer);
                if let Some(reason) = consumer.context().seen().auth {
                    return Err(Error::auth(format!("{what}: {reason}")));
                }
                if kind_of(code) != Kind::Connection || began.elapsed() >= PATIENCE {
                    return Err(explained(&what, code, &code.to_string(), topic, group, ""));
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        })
    }

    /// Calls `with` with a consumer of the group. The consumer does not join the group.
    fn in_group<T>(
        &self,
        group: &str,
        settled: bool,
        with: impl FnOnce(&BaseConsumer<Watch>) -> Result<T>,
    ) -> Result<T> {
        let level = if settled { "read_committed" } else { "read_uncommitted" };
        let over = [("group.id", group), ("isolation.level", level), ("enable.auto.commit", "false")];
        let consumer: BaseConsumer<Watch> = self
            .config(&over)
            .create_with_context(self.watch())
            .map_err(|e| self.error(&format!("a client of the group '{group}' on {}", self.address()), &e))?;
        let out = with(&consumer);
        // Closing a consumer waits for its broker, without a deadline.
        std::thread::spawn(move || drop(consumer));
        out
    }
}

/// A code of librdkafka as an error that names what to do.
pub(super) fn explained(what: &str, code: Code, text: &str, topic: &str, group: &str, id: &str) -> Error {
    let advice = match code {
        Code::TransactionalIdAuthorizationFailed => format!(
            "these credentials may not use the transactional id '{id}'. Allow Write and Describe on transactional ids that begin with \"bayou.\""
        ),
        Code::GroupAuthorizationFailed => format!(
            "these credentials may not use the group '{group}', where the number of the epoch is kept. Allow Read on groups that begin with \"bayou.\""
        ),
        Code::TopicAuthorizationFailed => {
            format!(
                "these credentials may not write to the topic '{topic}'. Allow Describe, Write and Read on the topic"
            )
        }
        Code::ClusterAuthorizationFailed => {
            "these credentials may not write idempotently. Allow IdempotentWrite on the cluster (Kafka before 2.8)"
                .into()
        }
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::UnknownTopicId => format!(
            "the topic '{topic}' does not exist any more, or has fewer partitions. Create it again, and run the query again with accept_changes=True"
        ),
        Code::MessageSizeTooLarge | Code::InvalidMessageSize => format!(
            "a message is larger than the topic '{topic}' takes. Raise max.message.bytes of the topic, and run the query again"
        ),
        Code::UnsupportedFeature | Code::UnsupportedVersion => format!(
            "this broker does not offer transactions, which exactly once needs ({text}). Use Kafka 0.11 or later, or foreach_batch with produce, \
             which is at least once"
        ),
        Code::InvalidTransactionTimeout => {
            "the broker does not allow transactions of this length. Lower transaction.timeout.ms here, or raise \
             transaction.max.timeout.ms on the broker"
                .into()
        }
        Code::InvalidTimestamp => format!(
            "the topic '{topic}' refuses the timestamp of a message. Raise message.timestamp.before.max.ms or message.timestamp.after.max.ms of the \
             topic (message.timestamp.difference.max.ms before Kafka 3.6), and run the query again"
        ),
        Code::InvalidRecord => format!(
            "the topic '{topic}' refuses a message ({text}). A compacted topic (cleanup.policy=compact) takes only messages with a key: name the \
             key's column with key="
        ),
        _ => return failed(what, code, text),
    };
    let kind = match code {
        Code::InvalidRecord | Code::InvalidTimestamp | Code::InvalidTransactionTimeout | Code::InvalidMessageSize => {
            Kind::Config
        }
        code => kind_of(code),
    };
    Error::new(kind, format!("{what}: {advice}."))
}

impl Transactions {
    fn producer(&self) -> Result<&BaseProducer<Sent>, Failed> {
        self.producer.as_ref().ok_or_else(|| Error::internal("the producer is closed").into())
    }

    /// Sends the messages and the number in one transaction. `headers` are added to each message. `name` is the output's, for crash points.
    pub fn send(
        &self,
        batches: &[RecordBatch],
        number: &Number,
        headers: &[(String, Option<Vec<u8>>)],
        name: &str,
        go_on: GoOn<'_>,
    ) -> Result<(), Failed> {
        let done = self.transaction(batches, number, headers, name, go_on);
        if done.is_err()
            && let Ok(producer) = self.producer()
            && producer.client().fatal_error().is_none()
        {
            // Readers of committed messages wait for the end of an open transaction.
            let _ = producer.abort_transaction(ABORT);
        }
        done
    }

    fn transaction(
        &self,
        batches: &[RecordBatch],
        number: &Number,
        headers: &[(String, Option<Vec<u8>>)],
        name: &str,
        go_on: GoOn<'_>,
    ) -> Result<(), Failed> {
        let producer = self.producer()?;
        *producer.context().failure.lock() = None;
        let send = format!("send:{name}");
        crash::pass(&send, "before");
        producer.begin_transaction().map_err(|e| self.failed("beginning", &e))?;
        for batch in batches {
            self.rows(batch, headers, go_on)?;
        }
        while producer.in_flight_count() > 0 {
            // Do not linger any longer.
            let _ = producer.flush(Duration::from_millis(20));
            self.look(go_on)?;
        }
        self.look(go_on)?;
        crash::pass(&send, "after");
        let mut offsets = TopicPartitionList::new();
        let mut offset = offsets.add_partition(&self.topic, 0);
        offset.set_offset(Offset::Offset(number.epoch)).map_err(|e| self.failed("numbering", &e))?;
        offset.set_metadata(&number.metadata);
        self.until("numbering", go_on, || {
            producer.send_offsets_to_transaction(&offsets, &self.metadata, CALL).map_err(Into::into)
        })?;
        let commit = format!("commit:{name}");
        crash::pass(&commit, "before");
        self.until("committing", go_on, || producer.commit_transaction(CALL).map_err(Into::into))?;
        crash::pass(&commit, "after");
        Ok(())
    }

    fn rows(&self, batch: &RecordBatch, fixed: &[(String, Option<Vec<u8>>)], go_on: GoOn<'_>) -> Result<(), Failed> {
        let messages = self.plan.messages(batch, 0)?;
        let producer = self.producer()?;
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for row in 0..batch.num_rows() {
            let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic);
            record.key = messages.key(row, &mut key)?;
            record.payload = messages.value(row, &mut value)?;
            record.partition = messages.partition(row);
            record.timestamp = messages.timestamp(row);
            record.headers = messages.headers(row, fixed)?;
            while let Err((error, back)) = producer.send(record) {
                if !matches!(error, KafkaError::MessageProduction(Code::QueueFull)) {
                    return Err(self.failed("sending", &error));
                }
                if producer.in_flight_count() == 0 {
                    return Err(Error::config(format!(
                        "{}: a message does not fit into librdkafka's queue. Raise queue.buffering.max.kbytes in connect().",
                        self.what("sending")
                    ))
                    .into());
                }
                record = back;
                producer.poll(Duration::from_millis(5));
                self.look(go_on)?;
            }
            if row.is_multiple_of(LOOK_ROWS) {
                self.look(go_on)?;
            }
        }
        Ok(())
    }

    /// Serves delivery reports, and returns the first failure.
    fn look(&self, go_on: GoOn<'_>) -> Result<(), Failed> {
        go_on()?;
        let producer = self.producer()?;
        producer.poll(Duration::ZERO);
        // The fatal error is the reason why deliveries fail.
        if let Some((code, text)) = producer.client().fatal_error() {
            return Err(self.of_code("sending", code, &text));
        }
        let failure = *producer.context().failure.lock();
        if let Some((code, partition)) = failure {
            // When a transaction fails, its messages are purged. The refusal to begin a new transaction says why it failed.
            if matches!(code, Code::PurgeQueue | Code::PurgeInflight)
                && let Err(error) = producer.begin_transaction()
            {
                return Err(self.failed("sending", &error));
            }
            return Err(self.of_code(&format!("sending to partition {partition}"), code, &code.to_string()));
        }
        Ok(())
    }

    /// Repeats a call. After a timeout, the next call continues where the last call was.
    fn until(&self, what: &str, go_on: GoOn<'_>, mut call: impl FnMut() -> Result<(), Attempt>) -> Result<(), Failed> {
        let began = Instant::now();
        loop {
            let error = match call() {
                Ok(()) => return Ok(()),
                Err(Attempt::Ended(failed)) => return Err(failed),
                Err(Attempt::Kafka(error)) => error,
            };
            let producer = self.producer()?;
            producer.poll(Duration::ZERO);
            if let Some(reason) = producer.context().watch.seen().auth {
                return Err(Error::auth(format!("{}: {reason}", self.what(what))).into());
            }
            let passing = passes(&error) || matches!(error, KafkaError::Flush(_));
            if !passing || began.elapsed() >= PATIENCE {
                return Err(self.failed(what, &error));
            }
            go_on()?;
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn what(&self, doing: &str) -> String {
        format!("{doing} a transaction for the topic '{}' on {}", self.topic, self.connection.address())
    }

    fn failed(&self, doing: &str, error: &KafkaError) -> Failed {
        // librdkafka hides the first reason behind "the transaction failed".
        if let Ok(producer) = self.producer() {
            producer.poll(Duration::ZERO);
            if let Some((code, text)) = producer.client().fatal_error() {
                return self.of_code(doing, code, &text);
            }
            let failure = *producer.context().failure.lock();
            if let Some((code, _)) = failure.filter(|(code, _)| kind_of(*code) != Kind::Connection) {
                return self.of_code(doing, code, &code.to_string());
            }
        }
        let (code, text) = told(error);
        self.of_code(doing, code, &text)
    }

    fn of_code(&self, doing: &str, code: Code, text: &str) -> Failed {
        let text = tidy(&self.connection.secrets().scrub(text));
        let what = self.what(doing);
        if is_fenced(code) {
            let error = Error::connection(format!(
                "{what}: a newer producer has the transactional id '{}', or the transaction took longer than transaction.timeout.ms ({text})",
                self.id
            ));
            return Failed { error, again: true };
        }
        let error = explained(&what, code, &text, &self.topic, &self.group, &self.id);
        Failed { again: error.kind == Kind::Connection, error }
    }
}

/// Why a call of librdkafka ended.
enum Attempt {
    Kafka(KafkaError),
    Ended(Failed),
}

impl From<KafkaError> for Attempt {
    fn from(error: KafkaError) -> Self {
        Self::Kafka(error)
    }
}

impl From<Failed> for Attempt {
    fn from(failed: Failed) -> Self {
        Self::Ended(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_person_can_change_is_told_with_what_to_do_and_what_passes_is_tried_again() {
        let of = |code| explained("sending", code, "text", "out", "bayou.q.out", "bayou.q.out.out");
        for (code, kind, word) in [
            (Code::UnsupportedFeature, Kind::Config, "does not offer transactions"),
            (Code::UnsupportedVersion, Kind::Config, "does not offer transactions"),
            (Code::InvalidTransactionTimeout, Kind::Config, "transaction.max.timeout.ms"),
            (Code::MessageSizeTooLarge, Kind::Config, "max.message.bytes of the topic"),
            (Code::InvalidRecord, Kind::Config, "key="),
            (Code::UnknownTopicOrPartition, Kind::Topic, "'out' does not exist any more"),
            (Code::TopicAuthorizationFailed, Kind::Acl, "Describe, Write and Read on the topic"),
            (Code::TransactionalIdAuthorizationFailed, Kind::Acl, "'bayou.q.out.out'"),
            (Code::GroupAuthorizationFailed, Kind::Acl, "'bayou.q.out'"),
            (Code::ClusterAuthorizationFailed, Kind::Acl, "IdempotentWrite"),
        ] {
            let error = of(code);
            assert!(error.kind == kind && error.message.contains(word), "{code:?}: {:?}: {error}", error.kind);
            assert!(error.message.starts_with("sending: ") && !Failed::from(error).again, "{code:?}");
        }
        for code in [Code::RequestTimedOut, Code::CoordinatorNotAvailable, Code::BrokerTransportFailure] {
            assert!(Failed::from(of(code)).again, "{code:?}");
        }
        for code in [Code::Fenced, Code::ProducerFenced, Code::InvalidProducerEpoch] {
            assert!(is_fenced(code));
        }
    }
}
