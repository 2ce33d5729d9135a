//! Reading for a run: from positions, up to a bound or on and on. Keeps the positions itself, from the entries that come.

use super::source::KafkaSource;
use crate::batch::Messages;
use crate::epoch::LostRange;
use crate::kafka::{Connection, Event, OffsetSpec, Reader, ReaderOptions};
use crate::position::{Offset, Positions, Topic, TopicPartition};
use crate::time::EventTime;
use crate::window::Tracker;
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

pub enum Fed {
    /// Messages, and which of them count.
    Messages(Arc<Messages>, Vec<u32>),
    Nothing,
    /// A bounded run has everything.
    Finished,
}

pub struct Feed {
    pub connection: Connection,
    sources: Vec<Arc<KafkaSource>>,
    reader: Option<Reader>,
    options: ReaderOptions,
    /// The next offset of each partition, after what was handed out.
    pub positions: Positions,
    /// Where a bounded run ends.
    pub targets: Option<Positions>,
    reached: BTreeSet<TopicPartition>,
    /// The newest end of each partition that we know of.
    pub ends: Positions,
    /// Records handed out since `take_records`.
    records: BTreeMap<TopicPartition, u64>,
    pub last_timestamp: BTreeMap<TopicPartition, EventTime>,
    last_arrival: BTreeMap<TopicPartition, Instant>,
    pending: Option<(Arc<Messages>, Vec<u32>)>,
    pub lost: Vec<LostRange>,
    pub warnings: Vec<String>,
    looked: Instant,
    /// A look at the topics that is under way.
    looking: Option<Receiver<Result<Positions>>>,
    pub topic_ids: BTreeMap<Topic, Option<String>>,
}

/// One cluster per query: its positions go by topic and partition.
pub fn one_connection(sources: &[Arc<KafkaSource>]) -> Result<Connection> {
    let first = sources.first().ok_or_else(|| Error::config("nothing is read from Kafka here"))?;
    match sources.iter().find(|s| s.connection.identity() != first.connection.identity()) {
        Some(other) => Err(Error::config(format!(
            "one query reads one cluster, and these streams read {} and {}. Write two pipelines.",
            first.connection.describe(),
            other.connection.describe()
        ))),
        None => Ok(first.connection.clone()),
    }
}

/// What each topic's positions are, by the streams that read it; they must agree.
fn resolve(
    sources: &[Arc<KafkaSource>],
    what: &str,
    pick: impl Fn(&KafkaSource) -> Option<super::source::Offsets>,
) -> Result<Positions> {
    let mut out = Positions::new();
    for source in sources {
        let Some(offsets) = pick(source) else { continue };
        for (tp, offset) in source.resolve(&offsets, what)? {
            if let Some(before) = out.insert(tp.clone(), offset)
                && before != offset
            {
                return Err(Error::config(format!("two streams read {tp} with different {what}")));
            }
        }
    }
    Ok(out)
}

fn fails_on_loss(sources: &[Arc<KafkaSource>], topic: &Topic) -> bool {
    sources.iter().filter(|s| s.topics.contains(topic)).any(|s| s.fail_on_data_loss)
}

/// Partitions that are not known yet; they start at their earliest.
fn new_partitions(
    connection: &Connection,
    sources: &[Arc<KafkaSource>],
    known: &BTreeSet<TopicPartition>,
) -> Result<Positions> {
    let mut new = vec![];
    for source in sources {
        for tp in source.partitions()? {
            if !known.contains(&tp) && !new.contains(&(tp.clone(), OffsetSpec::Earliest)) {
                new.push((tp, OffsetSpec::Earliest));
            }
        }
    }
    if new.is_empty() { Ok(Positions::new()) } else { connection.list_offsets(&new) }
}

/// A topic made anew under the same name would be read on silently where its offsets have grown past ours.
fn check_topics(
    connection: &Connection,
    sources: &[Arc<KafkaSource>],
    ids: &BTreeMap<Topic, Option<String>>,
) -> Result<()> {
    for (topic, id) in ids {
        let now = connection.topic_id(topic)?;
        if now.is_some() && id.is_some() && now != *id && fails_on_loss(sources, topic) {
            return Err(Error::data_loss(format!(
                "the topic '{topic}' was deleted and made anew while it was read: what was not read is lost. Start over with reset(confirm=True)."
            )));
        }
    }
    Ok(())
}

impl Feed {
    pub fn starts(sources: &[Arc<KafkaSource>]) -> Result<Positions> {
        resolve(sources, "starting_offsets", |s| Some(s.starting.clone()))
    }
    pub fn starts_at(sources: &[Arc<KafkaSource>], offsets: &super::source::Offsets) -> Result<Positions> {
        resolve(sources, "start", |_| Some(offsets.clone()))
    }

    /// Of just these partitions, up to these offsets.
    pub fn up_to(sources: Vec<Arc<KafkaSource>>, positions: Positions, targets: &Positions) -> Result<Self> {
        let mut feed = Self::new(sources, positions.clone(), true)?;
        feed.positions.retain(|tp, _| positions.contains_key(tp));
        let positions = feed.positions.clone();
        let bound = |tp: &TopicPartition| targets.get(tp).copied().unwrap_or(positions[tp]);
        feed.targets = Some(positions.keys().map(|tp| (tp.clone(), bound(tp))).collect());
        feed.reached = positions.iter().filter(|(tp, at)| **at >= bound(tp)).map(|(tp, _)| tp.clone()).collect();
        Ok(feed)
    }

    /// `bounded`: up to what is committed in Kafka now, or `ending_offsets`.
    pub fn new(sources: Vec<Arc<KafkaSource>>, positions: Positions, bounded: bool) -> Result<Self> {
        let connection = one_connection(&sources)?;
        let mut feed = Self {
            connection,
            sources,
            reader: None,
            options: ReaderOptions {
                // A bounded run wants its last end-of-partition soon; a live one need not ask 100 times a second.
                properties: (!bounded)
                    .then(|| ("fetch.wait.max.ms".to_string(), "250".to_string()))
                    .into_iter()
                    .collect(),
                ..ReaderOptions::default()
            },
            positions,
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
        };
        if !bounded && feed.sources.iter().any(|s| s.ending.is_some()) {
            return Err(Error::config(
                "ending_offsets goes with trigger=\"available_now\" only: a run on an interval has no end",
            ));
        }
        feed.find_partitions()?;
        feed.look_at_ends()?;
        if bounded {
            let mut targets = feed.ends.clone();
            for (tp, target) in resolve(&feed.sources, "ending_offsets", |s| s.ending.clone())? {
                if let Some(end) = targets.get(&tp).filter(|end| target > **end) {
                    return Err(Error::config(format!(
                        "ending_offsets: {tp} ends at {} and is to be read up to {}; a bounded run would wait for ever",
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
        fails_on_loss(&self.sources, topic)
    }

    /// Adds partitions that are new since the positions were made.
    fn find_partitions(&mut self) -> Result<()> {
        let known: BTreeSet<TopicPartition> = self.positions.keys().cloned().collect();
        self.positions.extend(new_partitions(&self.connection, &self.sources, &known)?);
        Ok(())
    }

    /// Looks up the ends, and whether what is to be read still exists.
    fn look_at_ends(&mut self) -> Result<()> {
        let all = |spec: OffsetSpec| self.positions.keys().map(|tp| (tp.clone(), spec)).collect::<Vec<_>>();
        let earliest = self.connection.list_offsets(&all(OffsetSpec::Earliest))?;
        self.ends = self.connection.list_offsets(&all(OffsetSpec::Latest))?;
        let positions: Vec<(TopicPartition, Offset)> = self.positions.iter().map(|(k, v)| (k.clone(), *v)).collect();
        for (tp, at) in positions {
            let (first, end) = (earliest.get(&tp).copied(), self.ends.get(&tp).copied());
            if let (Some(first), Some(end)) = (first, end)
                && (at < first || at > end)
            {
                self.lose(&tp, at, first, end)?;
            }
        }
        Ok(())
    }

    /// The offset `at` cannot be read: an error, or a loss on record and a new position.
    fn lose(&mut self, tp: &TopicPartition, at: Offset, first: Offset, end: Offset) -> Result<()> {
        let (until, why) = if at < first {
            (first, "retention has removed them before they were read")
        } else {
            (end, "the log ends before that: it was cut, or the topic was made anew")
        };
        if self.fails_on_loss(&tp.topic) {
            return Err(Error::data_loss(format!(
                "{tp}: offset {} is to be read next, and the topic holds {} to {}: {why}. To go on at {} and have the gap recorded, say \
                 fail_on_data_loss=False; to read everything anew, reset(confirm=True).",
                at.0, first.0, end.0, until.0
            )));
        }
        self.warnings.push(format!("{tp}: offsets {} to {} are lost: {why}", at.0.min(until.0), at.0.max(until.0)));
        self.lost.push(LostRange {
            topic: tp.topic.to_string(),
            partition: tp.partition.0,
            from: at.0,
            until: until.0,
        });
        self.positions.insert(tp.clone(), until);
        Ok(())
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

    /// At most `most` messages, within `wait`.
    pub fn next(&mut self, wait: Duration, most: Option<usize>) -> Result<Fed> {
        if let Some(found) = self.take_pending(most) {
            return Ok(found);
        }
        if self.is_finished() {
            return Ok(Fed::Finished);
        }
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.start_reader()?.next(left)? {
                None => return Ok(Fed::Nothing),
                Some(Event::Messages(messages)) => {
                    let wanted = self.sift(&messages);
                    if !wanted.is_empty() {
                        self.pending = Some((Arc::new(messages), wanted));
                        if let Some(found) = self.take_pending(most) {
                            return Ok(found);
                        }
                    }
                }
                Some(Event::EndOfPartition { partition, next }) => self.end_of(&partition, next),
                Some(Event::OutOfRange { partition, wanted }) => {
                    let one = |spec| [(partition.clone(), spec)];
                    let first = self.connection.list_offsets(&one(OffsetSpec::Earliest))?.get(&partition).copied();
                    let end = self.connection.list_offsets(&one(OffsetSpec::Latest))?.get(&partition).copied();
                    let (first, end) = (first.unwrap_or(Offset(0)), end.unwrap_or(Offset(0)));
                    // It may be there by now: a leader that was behind.
                    if wanted < first || wanted > end {
                        self.lose(&partition, wanted, first, end)?;
                    }
                    let again = Positions::from([(partition.clone(), self.positions[&partition])]);
                    self.start_reader()?.assign(&again)?;
                }
                Some(Event::Warning(text)) => {
                    log::warn!("{text}");
                    self.warnings.push(text);
                }
            }
            if self.is_finished() {
                return Ok(Fed::Finished);
            }
        }
    }

    /// The messages of a chunk that lie before the bound, and the bounds that they show to be reached.
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
            last[source] = messages.offsets[i];
            newest[source] = messages.timestamps[i];
            count[source] += 1;
        }
        for (source, tp) in messages.partitions.iter().enumerate().filter(|(s, _)| count[*s] > 0) {
            // What lies between here and the bound (if it is reached) is left to the next run.
            self.positions.insert(tp.clone(), Offset(last[source] + 1));
            *self.records.entry(tp.clone()).or_default() += count[source];
            self.last_arrival.insert(tp.clone(), now);
            let time = match newest[source] {
                ms if ms >= 0 => EventTime::from_millis(ms),
                _ => crate::time::Clock::now(&crate::time::SystemClock),
            };
            self.last_timestamp.insert(tp.clone(), time);
        }
        Some(Fed::Messages(messages, wanted))
    }

    pub fn take_records(&mut self) -> BTreeMap<TopicPartition, u64> {
        std::mem::take(&mut self.records)
    }

    /// Whether a partition is caught up and has been silent for the watermark's `idle_timeout`.
    pub fn is_idle(&self, tracker: &Tracker, tp: &TopicPartition, now: EventTime) -> bool {
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

    /// In a run without end: new partitions, every now and then. They are looked for beside: with a broker that is dead the answer
    /// takes its time, and neither what has been read nor a stop waits for it.
    pub fn rediscover(&mut self) -> Result<Positions> {
        if let Some(looking) = &self.looking {
            let answer = match looking.try_recv() {
                Err(TryRecvError::Empty) => return Ok(Positions::new()),
                Err(TryRecvError::Disconnected) => Err(Error::internal("a look at the topics ended without an answer")),
                Ok(answer) => answer,
            };
            (self.looking, self.looked) = (None, Instant::now());
            let new = answer?;
            if !new.is_empty() {
                self.positions.extend(new.clone());
                self.start_reader()?.assign(&new)?;
            }
            return Ok(new);
        }
        if self.targets.is_some() || self.looked.elapsed() < Duration::from_secs(20) {
            return Ok(Positions::new());
        }
        let (connection, sources, ids) = (self.connection.clone(), self.sources.clone(), self.topic_ids.clone());
        let known: BTreeSet<TopicPartition> = self.positions.keys().cloned().collect();
        let (say, hear) = channel();
        std::thread::Builder::new()
            .name("bayou-ask".into())
            .spawn(move || {
                let look = || {
                    check_topics(&connection, &sources, &ids)?;
                    new_partitions(&connection, &sources, &known)
                };
                let _ = say.send(look());
            })
            .map_err(|e| Error::internal(format!("no thread: {e}")))?;
        self.looking = Some(hear);
        Ok(Positions::new())
    }

    pub fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.positions.keys()
    }

    pub fn max_offsets_per_trigger(&self) -> Option<u64> {
        self.sources.iter().filter_map(|s| s.max_offsets_per_trigger).min()
    }

    pub fn stop(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.stop();
        }
    }
}
