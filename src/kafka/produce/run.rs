//! One call of `produce`.

use super::columns::Plan;
use super::deliveries::Deliveries;
use super::transaction::{explained, is_fenced, passes, told};
use super::{ENCODE_ROWS, LOOK_ROWS, PROGRESS_EVERY, ProduceOptions, ProduceReport};
use crate::error::{Error, Kind, Result};
use crate::kafka::context::{failed, tidy};
use crate::kafka::{Connection, OffsetSpec};
use crate::position::{Topic, TopicPartition};
use arrow::array::RecordBatch;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};
use rdkafka::types::RDKafkaErrorCode as Code;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The timeout of one call about a transaction. After a timeout the call is repeated and continues, until `PATIENCE` is over.
const CALL: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait for the markers of a transaction. An open transaction of a different producer may delay them.
const SEEN: Duration = Duration::from_secs(2);
/// How long to wait for messages in flight after an interrupt.
const LAST: Duration = Duration::from_secs(1);

const UNKNOWN: &str = "It is not known whether the rows were published: check the topic before you send them again.";

/// The stage of a transaction.
pub(super) enum Stage {
    Open,
    Committing,
    Committed,
}

/// Closes a producer whose call has failed. An open transaction is ended first: readers of committed messages wait for that.
pub(super) fn close(producer: BaseProducer<Deliveries>) {
    producer.purge(PurgeConfig::default().queue().inflight());
    let _ = producer.abort_transaction(Duration::from_secs(5));
}

pub(super) struct Run<'a> {
    pub connection: &'a Connection,
    pub topic: &'a Topic,
    pub options: &'a ProduceOptions,
    pub producer: BaseProducer<Deliveries>,
    pub report: ProduceReport,
    pub progress: &'a mut dyn FnMut(&ProduceReport) -> Result<()>,
    pub start: Instant,
    pub told: Instant,
    pub stage: Stage,
}

impl Run<'_> {
    pub(super) fn all(&mut self, batches: &mut dyn Iterator<Item = Result<RecordBatch>>) -> Result<()> {
        let is_transaction = self.options.transactional_id.is_some();
        if is_transaction {
            self.producer.context().keep_highest();
            self.until("beginning", |producer| producer.init_transactions(CALL))?;
            self.until("beginning", |producer| producer.begin_transaction())?;
        }
        let bad = self.send_all(batches)?;
        while self.producer.in_flight_count() > 0 {
            // Do not linger any longer. `flush` itself would not call `progress`.
            let _ = self.producer.flush(Duration::from_millis(1));
            self.look(Duration::from_millis(20))?;
        }
        self.look(Duration::ZERO)?;
        if is_transaction {
            return self.end(bad);
        }
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

    /// Commits the transaction if every row has arrived. Otherwise readers of committed messages see none of them.
    fn end(&mut self, bad: Option<Error>) -> Result<()> {
        let report = self.report();
        let failure = *self.producer.context().failure.lock();
        let mut error = match (bad, failure) {
            (Some(bad), _) => bad,
            (None, Some(code)) => self.explained("sending", code, report.failures.first().map_or("", |f| f)),
            (None, None) if report.failed > 0 => {
                Error::config(report.failures.first().cloned().unwrap_or_else(|| "a row cannot be sent".into()))
            }
            (None, None) => {
                self.stage = Stage::Committing;
                self.until("committing", |producer| producer.commit_transaction(CALL)).map_err(|mut e| {
                    e.message = format!("{} {UNKNOWN}", e.message);
                    e
                })?;
                self.stage = Stage::Committed;
                self.wait_until_seen();
                let report = self.report();
                return (self.progress)(&report);
            }
        };
        let text = error.message.trim_end_matches('.');
        error.message = format!("{text}. Nothing was published to '{}': the transaction was ended.", self.topic);
        Err(error)
    }

    /// A committed transaction is seen a moment later, when its markers are written. The next line of a notebook finds it.
    fn wait_until_seen(&self) {
        let highest = self.producer.context().highest.lock().take().unwrap_or_default();
        let asked: Vec<_> =
            highest.keys().map(|p| (TopicPartition::new(self.topic.as_str(), *p), OffsetSpec::Latest)).collect();
        let began = Instant::now();
        while began.elapsed() < SEEN {
            // The rows are published, whatever the answer is.
            let Ok(ends) = self.connection.list_offsets(&asked) else { return };
            if ends.iter().all(|(tp, end)| highest.get(&tp.partition.0).is_none_or(|at| end.0 > *at)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Repeats a call about a transaction. After a timeout, the next call continues where the last call was.
    fn until(
        &mut self,
        doing: &str,
        call: impl Fn(&BaseProducer<Deliveries>) -> rdkafka::error::KafkaResult<()>,
    ) -> Result<()> {
        let began = Instant::now();
        loop {
            let Err(error) = call(&self.producer) else { return Ok(()) };
            self.look(Duration::ZERO)?;
            if !passes(&error) || began.elapsed() >= PATIENCE {
                let (code, text) = told(&error);
                return Err(self.explained(doing, code, &text));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn explained(&self, doing: &str, code: Code, text: &str) -> Error {
        let id = self.options.transactional_id.as_deref().unwrap_or_default();
        let what = format!("{doing} a transaction for the topic '{}' on {}", self.topic, self.connection.address());
        let text = tidy(&self.connection.secrets().scrub(text));
        if is_fenced(code) {
            return Error::concurrent_query(format!(
                "{what}: a different producer now has the transactional id '{id}', or the transaction took longer than transaction.timeout.ms \
                 ({text})"
            ));
        }
        explained(&what, code, &text, self.topic.as_str(), "", id)
    }

    /// After an interrupt: discards the messages in the queue, and waits for those in flight, but not for long. Says how many have arrived.
    pub(super) fn stopped(&mut self) -> String {
        let what = format!("publishing to '{}' was stopped", self.topic);
        if self.options.transactional_id.is_some() {
            return match self.stage {
                Stage::Open => format!("{what}. Nothing was published: the transaction was ended."),
                Stage::Committing => format!("{what}. {UNKNOWN}"),
                Stage::Committed => format!("{what} when all {} rows were published.", self.report.rows),
            };
        }
        self.producer.purge(PurgeConfig::default().queue());
        let deadline = Instant::now() + LAST;
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            self.producer.poll(Duration::from_millis(10));
        }
        let (report, open) = (self.report(), self.producer.in_flight_count());
        let more = if open > 0 { format!(", and perhaps {open} more") } else { String::new() };
        format!("{what}: {} of {} rows that were taken are on the topic{more}.", report.delivered, report.rows)
    }

    fn no_write(&self, or: &str) -> Error {
        Error::acl(format!(
            "publishing to '{}' on {}: these credentials have no WRITE permission on the topic{or}. Nothing was published.",
            self.topic,
            self.connection.address()
        ))
        .in_topic(self.topic.as_str())
    }

    /// A report that nothing arrived would be easy to overlook. If it is a matter of permissions, credentials or an absent cluster, it is an error.
    fn check_allowed(&self, report: &ProduceReport) -> Result<()> {
        if report.failed == 0 || report.delivered > 0 {
            return Ok(());
        }
        let deliveries = self.producer.context();
        if deliveries.forbidden.load(Ordering::Relaxed) {
            return Err(self.no_write(""));
        }
        let seen = deliveries.watch.seen();
        let address = self.connection.address();
        if seen.auth.is_some() {
            return Err(seen.unreachable(address));
        }
        if deliveries.timed_out.load(Ordering::Relaxed) < report.failed {
            return Ok(());
        }
        let causes = seen.causes();
        let last = match causes.is_empty() {
            true => report.failures.first().map_or_else(String::new, |first| format!(" ({first})")),
            false => {
                format!(". Last reported: {}", causes.iter().rev().take(3).copied().collect::<Vec<_>>().join("; "))
            }
        };
        Err(Error::connection(format!(
            "publishing to '{}': Kafka at {address} confirmed no row (of {}) in the time that message.timeout.ms gives{last}.{} The cluster may be \
             away, the partition may have no leader, or fewer replicas may be in sync than min.insync.replicas asks for. A row that was on its way \
             may have arrived nevertheless.",
            self.topic,
            report.failed,
            seen.elsewhere(address)
        ))
        .in_topic(self.topic.as_str()))
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
        let hidden = match &self.options.encrypt {
            None => None,
            Some(function) => {
                let values = (0..batch.num_rows()).map(|row| Ok(messages.value(row, &mut value)?.map(<[u8]>::to_vec)));
                let values = good!(values.collect::<Result<Vec<_>>>());
                Some(good!(function.call(values)))
            }
        };
        for row in 0..batch.num_rows() {
            if self.options.rate.is_some() {
                self.keep_pace()?;
            }
            let at = usize::try_from(self.report.rows).unwrap_or(usize::MAX);
            let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(self.topic.as_str(), at);
            record.key = good!(messages.key(row, &mut key));
            record.payload = match &hidden {
                Some(hidden) => hidden[row].as_deref(),
                None => good!(messages.value(row, &mut value)),
            };
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

    fn send(&mut self, mut record: BaseRecord<'_, [u8], [u8], usize>) -> Result<()> {
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                    record = back;
                    self.look(Duration::from_millis(5))?;
                }
                Err((error, _)) => {
                    let row = usize::try_from(self.report.rows - 1).unwrap_or_default();
                    let code = error.rdkafka_error_code();
                    if code == Some(Code::Fatal) {
                        // The client says what the error was.
                        self.look(Duration::ZERO)?;
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
                    self.producer.context().refuse(row, format!("{}{advice}", tidy(&text)));
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
            if self.options.transactional_id.is_some() {
                return Err(self.explained("sending", code, &text));
            }
            // Idempotence needs a producer id, and a user without WRITE on any topic does not get one.
            if code == Code::ClusterAuthorizationFailed {
                return Err(self.no_write(" (or, before Kafka 2.8, no IDEMPOTENT_WRITE permission on the cluster)"));
            }
            return Err(failed(&format!("publishing to '{}'", self.topic), code, &text));
        }
        let seen = deliveries.watch.seen();
        if let (Some(_), 0) = (seen.auth.as_ref(), deliveries.delivered.load(Ordering::Relaxed)) {
            let refused = deliveries.watch.seen().unreachable(self.connection.address());
            return Err(Error::new(Kind::Auth, format!("publishing to '{}': {}", self.topic, refused.message)));
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

    /// The report at the end, with each message's result.
    pub(super) fn last_report(&self) -> ProduceReport {
        ProduceReport { deliveries: self.producer.context().take_all(), ..self.report() }
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
