//! Reads a topic back, as readers of committed messages see it.

use crate::{
    batch::Headers,
    error::{Error, Result},
    kafka::{Connection, Event, OffsetSpec, Reader, ReaderOptions},
    position::{Offset, Positions, Topic, TopicPartition},
};
use rdkafka::{
    admin::{AdminClient, AdminOptions, ConfigEntry, ResourceSpecifier},
    consumer::{BaseConsumer, Consumer},
    types::RDKafkaErrorCode as Code,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// A message that is on the topic.
pub struct Found<'a> {
    pub partition: i32,
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    pub headers: Option<&'a Headers>,
}

/// The messages that a topic accepts.
#[derive(Debug, Clone)]
pub struct TopicLimits {
    pub max_message_bytes: usize,
    /// A compacted topic takes only messages with a key. None: not known.
    pub compacted: Option<bool>,
    /// By how many milliseconds a message's timestamp may be before and after the present time.
    pub earlier: i64,
    pub later: i64,
}

/// How long to wait for an open transaction of a different producer, or for a partition that is silent.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a topic is read again if its beginning has moved meanwhile.
const AGAIN: usize = 10;
const TURN: Duration = Duration::from_millis(100);
/// Kafka's default limit for a message, less what a batch adds.
const MAX_MESSAGE_BYTES: usize = 1_000_000;

enum Read {
    /// The topic was read up to the end. True: no message was missing.
    To(bool),
    /// Messages were deleted before they were read.
    Overtaken,
}

impl Connection {
    /// Reads the topic from the time `since` on (milliseconds; None: from its beginning) up to its present end. `each`
    /// returns false to stop. Returns whether all of these messages still existed. The result is false if the topic has
    /// deleted messages that may be from after `since`. If retention deletes messages that are about to be read, the
    /// topic is read from its new beginning, so that a message may come twice. `go_on` is called during each wait for
    /// the brokers; its error ends the call.
    pub fn read_back(
        &self,
        topic: &str,
        since: Option<i64>,
        go_on: &dyn Fn() -> Result<()>,
        each: &mut dyn FnMut(Found<'_>) -> Result<bool>,
    ) -> Result<bool> {
        for _ in 0..AGAIN {
            match self.read_once(topic, since, go_on, each)? {
                Read::To(whole) => return Ok(whole),
                Read::Overtaken if since.is_some() => return Ok(false),
                Read::Overtaken => {}
            }
        }
        Err(Error::connection(format!(
            "the topic '{topic}' on {}: retention deletes its messages faster than they are read",
            self.address()
        )))
    }

    fn read_once(
        &self,
        topic: &str,
        since: Option<i64>,
        go_on: &dyn Fn() -> Result<()>,
        each: &mut dyn FnMut(Found<'_>) -> Result<bool>,
    ) -> Result<Read> {
        let partitions = self.partitions(&Topic::new(topic))?;
        let all: Vec<TopicPartition> = partitions.iter().map(|p| TopicPartition::new(topic, p.0)).collect();
        let at = |spec| self.list_offsets(&all.iter().map(|tp| (tp.clone(), spec)).collect::<Vec<_>>());
        let earliest = at(OffsetSpec::Earliest)?;
        let from = match since {
            None => earliest.clone(),
            Some(millis) => at(OffsetSpec::Timestamp(millis))?,
        };
        // Deletion takes the oldest messages. If a message before the first wanted message still exists, no wanted message is deleted.
        let whole = earliest.iter().all(|(tp, first)| first.0 == 0 || from.get(tp).is_some_and(|o| o > first));
        let ends = self.ends_of_all(topic, &all)?;
        let began = Instant::now();
        // Messages behind an open transaction of a different producer are not visible yet.
        while at(OffsetSpec::Latest)?.iter().any(|(tp, end)| ends.get(tp).is_some_and(|all| all > end)) {
            if began.elapsed() >= PATIENCE {
                return Err(Error::connection(format!(
                    "the topic '{topic}' on {}: a different producer has an open transaction, and the messages after its beginning cannot be read. \
                     Run the query again when the transaction has ended.",
                    self.address()
                )));
            }
            go_on()?;
            std::thread::sleep(TURN);
        }
        let mut open: BTreeMap<TopicPartition, Offset> =
            ends.into_iter().filter(|(tp, end)| from.get(tp).is_some_and(|o| o < end)).collect();
        let positions: Positions =
            from.into_iter().filter(|(tp, _)| open.contains_key(tp)).collect::<BTreeMap<_, _>>().into_iter().collect();
        if open.is_empty() {
            return Ok(Read::To(whole));
        }
        let mut reader = Reader::start(self, &positions, &ReaderOptions::default())?;
        let mut heard = Instant::now();
        while !open.is_empty() {
            go_on()?;
            match reader.next(TURN)? {
                Some(Event::Messages(messages)) => {
                    heard = Instant::now();
                    for i in 0..messages.len() {
                        let tp = messages.source(i);
                        let found = Found {
                            partition: tp.partition.0,
                            key: messages.key(i),
                            value: messages.value(i),
                            headers: messages.headers(i),
                        };
                        if !each(found)? {
                            return Ok(Read::To(whole));
                        }
                        if open.get(tp).is_some_and(|end| messages.offset(i).0 + 1 >= end.0) {
                            open.remove(tp);
                        }
                    }
                }
                Some(Event::EndOfPartition { partition, next }) => {
                    heard = Instant::now();
                    if open.get(&partition).is_some_and(|end| next >= *end) {
                        open.remove(&partition);
                    }
                }
                // Retention was faster.
                Some(Event::OutOfRange { .. }) => return Ok(Read::Overtaken),
                Some(Event::LeaderEpoch { .. } | Event::Warning(_) | Event::Refused(_)) => {}
                None if heard.elapsed() >= PATIENCE => {
                    return Err(Error::connection(format!(
                        "reading the topic '{topic}' on {}: the broker does not answer",
                        self.address()
                    )));
                }
                None => {}
            }
        }
        Ok(Read::To(whole))
    }

    /// The ends of the partitions, with the messages of open transactions.
    fn ends_of_all(&self, topic: &str, all: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, Offset>> {
        let what = format!("looking up the end of '{topic}' on {}", self.address());
        let over = [("isolation.level", "read_uncommitted")];
        let consumer: BaseConsumer<_> =
            self.config(&over).create_with_context(self.watch()).map_err(|e| self.error(&what, &e))?;
        let mut out = BTreeMap::new();
        for tp in all {
            let (_, end) = consumer
                .fetch_watermarks(topic, tp.partition.0, Duration::from_secs(10))
                .map_err(|e| self.error(&what, &e))?;
            out.insert(tp.clone(), Offset(end));
        }
        std::thread::spawn(move || drop(consumer));
        Ok(out)
    }

    /// The messages that the topic accepts. If the credentials may not ask: Kafka's defaults.
    pub fn topic_limits(&self, topic: &str) -> Result<TopicLimits> {
        let what = format!("the configuration of '{topic}' on {}", self.address());
        // librdkafka's mock does not have the request, and does not say so.
        if self.cluster_id()?.starts_with("mockCluster") {
            return Ok(self.limits_of(&[]));
        }
        let admin: AdminClient<_> =
            self.config(&[]).create_with_context(self.watch()).map_err(|e| self.error(&what, &e))?;
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
        let asked = [ResourceSpecifier::Topic(topic)];
        let answer = futures::executor::block_on(admin.describe_configs(asked.iter(), &options));
        let unknown = [Some(Code::UnsupportedFeature), Some(Code::UnsupportedVersion)];
        let entries = match answer {
            Ok(found) => found.into_iter().next().and_then(Result::ok).map_or_else(Vec::new, |found| found.entries),
            Err(e) if unknown.contains(&e.rdkafka_error_code()) => vec![],
            Err(e) => return Err(self.error(&what, &e)),
        };
        Ok(self.limits_of(&entries))
    }

    fn limits_of(&self, entries: &[ConfigEntry]) -> TopicLimits {
        let of = |name: &str| entries.iter().find(|e| e.name == name).and_then(|e| e.value.as_deref());
        let number = |name: &str| of(name).and_then(|v| v.parse::<i64>().ok());
        let ours = self.property(&["message.max.bytes"]).and_then(|v| v.parse().ok()).unwrap_or(usize::MAX);
        let there = number("max.message.bytes").and_then(|n| usize::try_from(n).ok()).unwrap_or(MAX_MESSAGE_BYTES);
        let as_written = of("message.timestamp.type") != Some("LogAppendTime");
        // Brokers before 3.6 have one limit for both directions.
        let both = number("message.timestamp.difference.max.ms");
        let most = |name: &str| number(name).into_iter().chain(both).min().filter(|_| as_written).unwrap_or(i64::MAX);
        TopicLimits {
            max_message_bytes: there.min(ours),
            compacted: of("cleanup.policy").map(|p| p.split(',').any(|p| p.trim() == "compact")),
            earlier: most("message.timestamp.before.max.ms"),
            later: most("message.timestamp.after.max.ms"),
        }
    }
}
