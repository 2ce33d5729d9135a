//! Reading for a run: from given positions, up to a bound or without end. The feed keeps the positions itself and updates them with each record.

mod loss;

use crate::batch::{MAX_MESSAGE_BYTES, Messages};
use crate::epoch::LostRange;
use crate::error::Kind;
use crate::flow::source::KafkaSource;
use crate::kafka::{Connection, Event, OffsetSpec, Question, Reader, ReaderOptions};
use crate::position::{Offset, Positions, Topic, TopicPartition};
use crate::time::{EventTime, SharedClock};
use crate::window::Tracker;
use crate::{Error, Result};
use loss::Doubt;
pub(crate) use loss::LastRead;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) enum Fed {
    /// Messages, and the indices of the messages to use.
    Messages(Arc<Messages>, Vec<u32>),
    Nothing,
    /// A bounded run has read everything.
    Finished,
    /// The log is not the one that was read. The run must start again from the newest seal. The text is the reason.
    Again(String),
}

/// What earlier runs recorded.
#[derive(Default)]
pub(crate) struct Before {
    pub positions: Positions,
    /// The last record of each partition. A truncated log is detected by these.
    pub read: BTreeMap<TopicPartition, LastRead>,
    /// Topics that were recreated since then. They are read from their start.
    pub recreated: Vec<Topic>,
}

impl From<Positions> for Before {
    fn from(positions: Positions) -> Self {
        Self { positions, ..Self::default() }
    }
}

/// New partitions are looked for once in this time.
const LOOK: Duration = Duration::from_secs(5);
/// At most this many warnings are kept.
const WARNINGS: usize = 200;

pub(crate) struct Feed {
    clock: SharedClock,
    pub connection: Connection,
    sources: Vec<Arc<KafkaSource>>,
    reader: Option<Reader>,
    options: ReaderOptions,
    /// The next offset of each partition, after the records that were passed on.
    pub positions: Positions,
    /// Where a bounded run ends.
    pub targets: Option<Positions>,
    reached: BTreeSet<TopicPartition>,
    /// The newest known end of each partition.
    pub ends: Positions,
    /// The count of records that were passed on since `take_records`.
    records: BTreeMap<TopicPartition, u64>,
    pub last_timestamp: BTreeMap<TopicPartition, EventTime>,
    last_arrival: BTreeMap<TopicPartition, Instant>,
    pending: Option<(Arc<Messages>, Vec<u32>)>,
    pub lost: Vec<LostRange>,
    pub warnings: Vec<String>,
    looked: Instant,
    looking: Option<Question<Joined>>,
    pub topic_ids: BTreeMap<Topic, Option<String>>,
    confirming: Option<Question<bool>>,
    /// Each partition's last record, and the leader epoch of the records that come next.
    pub read: BTreeMap<TopicPartition, LastRead>,
    leader_epochs: BTreeMap<TopicPartition, Option<i32>>,
    /// Up to this leader epoch, the log is known to agree with the records that were read.
    verified: BTreeMap<TopicPartition, i32>,
    doubt: Option<Doubt>,
    /// Since when brokers have refused the TLS handshake, without a message in between.
    refused_since: Option<Instant>,
    refusal_told: Option<Instant>,
    /// The position of an earlier run, if reading continues a little before it. Between the two are only markers, or records that replaced them.
    passed: Positions,
}

/// Partitions that are not known yet, with their earliest offsets.
fn new_partitions(
    sources: &[Arc<KafkaSource>],
    connection: &Connection,
    known: &BTreeSet<TopicPartition>,
) -> Result<Positions> {
    let mut new = BTreeSet::new();
    for source in sources {
        new.extend(source.partitions()?.into_iter().filter(|tp| !known.contains(tp)));
    }
    connection.list_offsets(&new.into_iter().map(|tp| (tp, OffsetSpec::Earliest)).collect::<Vec<_>>())
}

/// New partitions, and the ids of topics that were not known.
type Joined = (Positions, BTreeMap<Topic, Option<String>>);

fn joined(sources: &[Arc<KafkaSource>], connection: &Connection, known: &BTreeSet<TopicPartition>) -> Result<Joined> {
    let new = new_partitions(sources, connection, known)?;
    let topics: BTreeSet<&Topic> = known.iter().map(|tp| &tp.topic).collect();
    let mut ids = BTreeMap::new();
    for topic in new.keys().map(|tp| &tp.topic).filter(|t| !topics.contains(t)) {
        if !ids.contains_key(topic) {
            ids.insert(topic.clone(), connection.topic_id(topic)?);
        }
    }
    Ok((new, ids))
}

/// The connection of a query. A query reads one cluster, because its positions are stored by topic and partition.
pub(crate) fn one_connection(sources: &[Arc<KafkaSource>]) -> Result<Connection> {
    let first = sources.first().ok_or_else(|| Error::config("this query does not read from Kafka"))?;
    match sources.iter().find(|s| s.connection.identity() != first.connection.identity()) {
        Some(other) => Err(Error::config(format!(
            "one query reads one cluster, and the streams of this query read {} and {}. Write two pipelines.",
            first.connection.describe(),
            other.connection.describe()
        ))),
        None => Ok(first.connection.clone()),
    }
}

/// The positions of each topic, from the streams that read it. Streams that read the same partition must agree.
fn resolve(
    sources: &[Arc<KafkaSource>],
    what: &str,
    pick: impl Fn(&KafkaSource) -> Option<crate::flow::source::Offsets>,
) -> Result<Positions> {
    let mut out = Positions::new();
    for source in sources {
        let Some(offsets) = pick(source) else { continue };
        for (tp, offset) in source.resolve(&offsets, what)? {
            if let Some(before) = out.insert(tp.clone(), offset)
                && before != offset
            {
                return Err(Error::config(format!(
                    "two streams read {tp} with different {what}. Use the same {what} for both."
                )));
            }
        }
    }
    Ok(out)
}

impl Feed {
    pub(crate) fn starts(sources: &[Arc<KafkaSource>]) -> Result<Positions> {
        resolve(sources, "starting_offsets", |s| Some(s.starting.clone()))
    }
    pub(crate) fn starts_at(sources: &[Arc<KafkaSource>], offsets: &crate::flow::source::Offsets) -> Result<Positions> {
        resolve(sources, "start", |_| Some(offsets.clone()))
    }

    /// A feed of only these partitions, up to these offsets.
    pub(crate) fn up_to(
        sources: Vec<Arc<KafkaSource>>,
        positions: Positions,
        targets: &Positions,
        clock: SharedClock,
    ) -> Result<Self> {
        let mut feed = Self::new(sources, positions.clone().into(), true, clock)?;
        feed.positions.retain(|tp, _| positions.contains_key(tp));
        let positions = feed.positions.clone();
        let bound = |tp: &TopicPartition| targets.get(tp).copied().unwrap_or(positions[tp]);
        feed.targets = Some(positions.keys().map(|tp| (tp.clone(), bound(tp))).collect());
        feed.reached = positions.iter().filter(|(tp, at)| **at >= bound(tp)).map(|(tp, _)| tp.clone()).collect();
        Ok(feed)
    }

    /// A bounded feed reads up to the records that are committed in Kafka now, or up to `ending_offsets`.
    pub(crate) fn new(
        sources: Vec<Arc<KafkaSource>>,
        before: Before,
        bounded: bool,
        clock: SharedClock,
    ) -> Result<Self> {
        let connection = one_connection(&sources)?;
        let mut feed = Self {
            connection,
            clock,
            reader: None,
            options: ReaderOptions {
                // A bounded run needs its last end-of-partition event soon. A live run need not ask 100 times a second.
                properties: (!bounded)
                    .then(|| ("fetch.wait.max.ms".to_string(), "250".to_string()))
                    .into_iter()
                    .collect(),
                // A message that is too large for all streams that read it is not loaded into memory.
                max_message_bytes: sources
                    .iter()
                    .map(|s| s.decode.max_message_bytes)
                    .max()
                    .unwrap_or(MAX_MESSAGE_BYTES),
                ..ReaderOptions::default()
            },
            sources,
            positions: before.positions,
            targets: None,
            reached: BTreeSet::new(),
            ends: Positions::new(),
            records: BTreeMap::new(),
            last_timestamp: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            pending: None,
            lost: vec![],
            warnings: vec![],
            looked: Instant::now(),
            looking: None,
            topic_ids: BTreeMap::new(),
            confirming: None,
            read: before.read,
            leader_epochs: BTreeMap::new(),
            verified: BTreeMap::new(),
            doubt: None,
            refused_since: None,
            refusal_told: None,
            passed: Positions::new(),
        };
        if !bounded && feed.sources.iter().any(|s| s.ending.is_some()) {
            return Err(Error::config(
                "ending_offsets needs trigger=\"available_now\": a run on an interval has no end",
            ));
        }
        feed.restart_topics(&before.recreated)?;
        feed.find_partitions()?;
        feed.look_at_ends()?;
        if bounded {
            let mut targets = feed.ends.clone();
            for (tp, target) in resolve(&feed.sources, "ending_offsets", |s| s.ending.clone())? {
                if let Some(end) = targets.get(&tp).filter(|end| target > **end) {
                    return Err(Error::config(format!(
                        "ending_offsets: {tp} ends at {}, and must be read up to {}. A bounded run would wait for ever. Give an offset up to {0}.",
                        end.0, target.0
                    )));
                }
                targets.insert(tp, target);
            }
            for (tp, target) in &targets {
                if feed.positions.get(tp).is_some_and(|p| p >= target) {
                    feed.reached.insert(tp.clone());
                }
            }
            feed.targets = Some(targets);
        }
        Ok(feed)
    }

    fn fails_on_loss(&self, topic: &Topic) -> bool {
        self.sources.iter().filter(|s| s.topics.reads(topic)).any(|s| s.fail_on_data_loss)
    }

    /// Adds partitions that are new since the positions were recorded. They start at their earliest offset.
    fn find_partitions(&mut self) -> Result<()> {
        let known = self.positions.keys().cloned().collect();
        self.positions.extend(new_partitions(&self.sources, &self.connection, &known)?);
        Ok(())
    }

    /// Adds a warning. The same text is added once.
    pub(super) fn warn(&mut self, text: String) {
        log::warn!("{text}");
        if !self.warnings.contains(&text) && self.warnings.len() < WARNINGS {
            self.warnings.push(text);
        }
    }

    /// The present ids of the topics. Topics that are gone are left out.
    pub(crate) fn ask_topic_ids(&self) -> Result<BTreeMap<Topic, Option<String>>> {
        let topics: BTreeSet<&Topic> = self.positions.keys().map(|tp| &tp.topic).collect();
        let mut ids = BTreeMap::new();
        for topic in topics {
            match self.connection.topic_id(topic) {
                Err(e) if e.kind == Kind::Topic => {}
                id => drop(ids.insert(topic.clone(), id?)),
            }
        }
        Ok(ids)
    }

    /// For a reader without a seal to start again from: checks the logs again at the present positions. Returns the topics that were recreated.
    pub(crate) fn look_again(&mut self) -> Result<Vec<Topic>> {
        self.stop();
        self.doubt = None;
        let ids = self.ask_topic_ids()?;
        let other = |(t, id): (&Topic, &Option<String>)| {
            let before = self.topic_ids.get(t).and_then(Option::as_ref);
            before.is_some_and(|before| Some(before) != id.as_ref()).then(|| t.clone())
        };
        let recreated: Vec<Topic> = ids.iter().filter_map(other).collect();
        self.restart_topics(&recreated)?;
        self.topic_ids.extend(ids);
        let is_recreated = |tp: &TopicPartition| recreated.contains(&tp.topic);
        self.leader_epochs.retain(|tp, _| !is_recreated(tp));
        self.verified.retain(|tp, _| !is_recreated(tp));
        self.passed.retain(|tp, _| !is_recreated(tp));
        if !recreated.is_empty() {
            self.find_partitions()?;
        }
        self.look_at_ends()?;
        if let Some(targets) = self.targets.as_mut().filter(|_| !recreated.is_empty()) {
            targets.retain(|tp, _| !is_recreated(tp));
            targets.extend(self.ends.iter().filter(|(tp, _)| is_recreated(tp)).map(|(tp, end)| (tp.clone(), *end)));
            let reached = |tp: &TopicPartition| self.positions.get(tp).is_none_or(|at| *at >= targets[tp]);
            self.reached.retain(|tp| !is_recreated(tp));
            self.reached.extend(targets.keys().filter(|tp| is_recreated(tp) && reached(tp)).cloned());
        }
        Ok(recreated)
    }

    fn start_reader(&mut self) -> Result<&mut Reader> {
        if self.reader.is_none() {
            let from: Positions = self
                .positions
                .iter()
                .filter(|(tp, _)| !self.reached.contains(tp))
                .map(|(k, v)| (k.clone(), *v))
                .collect();
            self.reader = Some(Reader::start(&self.connection, &from, &self.options)?);
        }
        self.reader.as_mut().ok_or_else(|| Error::internal("no reader"))
    }

    fn is_finished(&self) -> bool {
        self.pending.is_none() && self.targets.as_ref().is_some_and(|t| t.keys().all(|tp| self.reached.contains(tp)))
    }

    /// Returns at most `most` messages, within `wait`.
    pub(crate) fn next(&mut self, wait: Duration, most: Option<usize>) -> Result<Fed> {
        if let Some(found) = self.take_pending(most) {
            return Ok(found);
        }
        if self.is_finished() {
            return Ok(Fed::Finished);
        }
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(fed) = self.settle_doubt(left)? {
                return Ok(fed);
            }
            match self.start_reader()?.next(left)? {
                None => {
                    self.connection.check_alive()?;
                    return Ok(Fed::Nothing);
                }
                Some(Event::Messages(messages)) => {
                    self.refused_since = None;
                    let wanted = self.sift(&messages);
                    if !wanted.is_empty() {
                        self.pending = Some((Arc::new(messages), wanted));
                        if let Some(found) = self.take_pending(most) {
                            return Ok(found);
                        }
                    }
                }
                Some(Event::EndOfPartition { partition, next }) => self.end_of(&partition, next),
                Some(Event::OutOfRange { partition, truncated: true, .. }) => {
                    return Ok(Fed::Again(format!("{partition}: the log was truncated")));
                }
                Some(Event::OutOfRange { partition, wanted, truncated: false }) => self.doubt_offset(partition, wanted),
                Some(Event::LeaderEpoch { partition, epoch }) => self.doubt_leader(partition, epoch),
                Some(Event::Warning(text)) => self.warn(text),
                Some(Event::Refused(text)) => self.refused(text)?,
            }
            if self.is_finished() {
                return Ok(Fed::Finished);
            }
        }
    }

    /// A running query waits, because a certificate can be replaced. A bounded run ends, because the user would not see that it waits.
    fn refused(&mut self, text: String) -> Result<()> {
        const PATIENCE: Duration = Duration::from_secs(10);
        const AGAIN: Duration = Duration::from_secs(30);
        let is_new = self.refused_since.is_none();
        let since = *self.refused_since.get_or_insert_with(Instant::now);
        if self.targets.is_some() && since.elapsed() >= PATIENCE {
            return Err(Error::auth(format!(
                "reading from {}: {text}. Nothing could be read for {} seconds. Check ssl.ca.location, and ssl.certificate.location and \
                 ssl.key.location if the cluster wants a client certificate: files may have been replaced since connect.",
                self.connection.address(),
                since.elapsed().as_secs()
            )));
        }
        // librdkafka reports the refusal at each attempt to connect, for each broker.
        if is_new || self.refusal_told.is_none_or(|t| t.elapsed() >= AGAIN) {
            self.refusal_told = Some(Instant::now());
            self.warn(text);
        }
        Ok(())
    }

    /// The messages of a chunk that are before the bound. Also records the bounds that are reached.
    fn sift(&mut self, messages: &Messages) -> Vec<u32> {
        let n = messages.len() as u32;
        let Some(targets) = &self.targets else { return (0..n).collect() };
        let bounds: Vec<i64> = messages.partitions.iter().map(|tp| targets.get(tp).map_or(i64::MAX, |o| o.0)).collect();
        let mut over = vec![false; bounds.len()];
        let mut out = Vec::with_capacity(n as usize);
        for i in 0..n {
            let source = messages.sources[i as usize] as usize;
            let offset = messages.offsets[i as usize];
            if offset < bounds[source] {
                out.push(i);
            }
            over[source] |= offset + 1 >= bounds[source];
        }
        for (tp, _) in messages.partitions.iter().zip(over).filter(|(_, over)| *over) {
            self.reached.insert(tp.clone());
        }
        out
    }

    fn end_of(&mut self, tp: &TopicPartition, next: Offset) {
        let end = self.ends.entry(tp.clone()).or_insert(next);
        *end = (*end).max(next);
        let at = match self.targets.as_ref().and_then(|t| t.get(tp)) {
            Some(target) if next >= *target => {
                self.reached.insert(tp.clone());
                *target
            }
            Some(_) => next,
            None => next,
        };
        if let Some(position) = self.positions.get_mut(tp) {
            *position = (*position).max(at);
        }
    }

    fn take_pending(&mut self, most: Option<usize>) -> Option<Fed> {
        let (messages, mut wanted) = self.pending.take()?;
        if let Some(most) = most.filter(|m| *m < wanted.len()) {
            let rest = wanted.split_off(most);
            self.pending = Some((messages.clone(), rest));
        }
        let now = Instant::now();
        let parts = messages.partitions.len();
        let (mut last, mut count, mut newest) = (vec![-1i64; parts], vec![0u64; parts], vec![-1i64; parts]);
        for i in &wanted {
            let i = *i as usize;
            let source = messages.sources[i] as usize;
            if count[source] == 0 && !self.passed.is_empty() {
                self.resume(&messages.partitions[source], Offset(messages.offsets[i]));
            }
            last[source] = messages.offsets[i];
            newest[source] = messages.timestamps[i];
            count[source] += 1;
        }
        for (source, tp) in messages.partitions.iter().enumerate().filter(|(s, _)| count[*s] > 0) {
            // Offsets between the last message and the bound are left to the next run, also if the bound is reached.
            self.positions.insert(tp.clone(), Offset(last[source] + 1));
            *self.records.entry(tp.clone()).or_default() += count[source];
            self.last_arrival.insert(tp.clone(), now);
            let time = match newest[source] {
                ms if ms >= 0 => EventTime::from_millis(ms),
                _ => self.clock.now(),
            };
            self.last_timestamp.insert(tp.clone(), time);
            let leader_epoch = self.leader_epochs.get(tp).copied().flatten();
            self.read.insert(tp.clone(), LastRead { offset: Offset(last[source]), leader_epoch });
        }
        Some(Fed::Messages(messages, wanted))
    }

    pub(crate) fn take_records(&mut self) -> BTreeMap<TopicPartition, u64> {
        std::mem::take(&mut self.records)
    }

    /// Whether a partition is idle: all of it is read, and no message came for the watermark's `idle_timeout`.
    pub(crate) fn is_idle(&self, tracker: &Tracker, tp: &TopicPartition, now: EventTime) -> bool {
        let Some(position) = self.positions.get(tp) else { return false };
        let caught_up = self.reached.contains(tp) || self.ends.get(tp).is_some_and(|end| position >= end);
        if !caught_up || self.pending.as_ref().is_some_and(|(m, w)| w.iter().any(|i| m.source(*i as usize) == tp)) {
            return false;
        }
        let timeout = tracker.spec.idle_timeout;
        match (self.last_timestamp.get(tp), self.last_arrival.get(tp)) {
            (None, _) => true,
            (Some(_), Some(arrival)) if self.targets.is_none() => arrival.elapsed() >= timeout,
            // A timestamp in the future counts as now.
            (Some(last), _) => now.0 - last.0.min(now.0) >= crate::time::micros(timeout),
        }
    }

    /// In a run without end: looks for new partitions at intervals. Kafka is asked in parallel with the loop, because a dead broker answers late,
    /// and neither the records that were read nor a stop may wait for the answer.
    pub(crate) fn rediscover(&mut self) -> Result<Positions> {
        let nothing = Ok(Positions::new());
        if self.targets.is_some() {
            return nothing;
        }
        let Some(looking) = &self.looking else {
            if self.looked.elapsed() >= LOOK {
                let (sources, known) = (self.sources.clone(), self.positions.keys().cloned().collect());
                let connection = self.connection.clone();
                self.looking = Some(Question::ask(move || joined(&sources, &connection, &known))?);
            }
            return nothing;
        };
        let Some(answer) = looking.answer(Duration::ZERO) else { return nothing };
        (self.looking, self.looked) = (None, Instant::now());
        match answer {
            Ok((new, ids)) => {
                self.topic_ids.extend(ids);
                if !new.is_empty() {
                    self.positions.extend(new.clone());
                    self.start_reader()?.assign(&new)?;
                }
                Ok(new)
            }
            // A broker may come back. A topic that is gone is reported by the reader.
            Err(e) if matches!(e.kind, Kind::Connection | Kind::Topic) => {
                self.warn(e.message);
                nothing
            }
            Err(e) => Err(e),
        }
    }

    pub(crate) fn max_offsets_per_trigger(&self) -> Option<u64> {
        self.sources.iter().filter_map(|s| s.max_offsets_per_trigger).min()
    }

    /// For an epoch on an interval: the least number of messages, and the longest wait for them.
    pub(crate) fn min_offsets_per_trigger(&self) -> (Option<u64>, Duration) {
        let waiting = self.sources.iter().filter(|s| s.min_offsets_per_trigger.is_some());
        let delay = waiting.clone().map(|s| s.max_trigger_delay).min().unwrap_or_default();
        (waiting.filter_map(|s| s.min_offsets_per_trigger).min(), delay)
    }

    pub(crate) fn stop(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.stop();
        }
    }
}
