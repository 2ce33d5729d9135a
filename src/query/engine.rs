//! The stages at work: messages in, rows out, epoch by epoch. No I/O: a durable query, an iterator and data at hand are
//! all driven through here.

use super::plan::{Plan, Step};
use super::source::OnMalformed;
use crate::batch::{Batch, FailedRow, Messages, Origin};
use crate::decode::{Decoder, OnTombstone};
use crate::expect::{Action, Counts};
use crate::position::TopicPartition;
use crate::sink::quarantine::{Reject, RejectSource, Stage, row_as_json};
use crate::time::{EventTime, Watermark};
use crate::transform::relabel;
use crate::window::{Aggregator, Emit, Tracker};
use crate::{Error, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What an epoch did, counted.
#[derive(Debug, Clone, Default)]
pub struct EpochCounts {
    pub messages: u64,
    pub rows: u64,
    pub malformed: u64,
    pub tombstones: u64,
    pub unknown_fields: u64,
    pub dropped: u64,
    pub filtered: u64,
    pub quarantined: u64,
    pub failed_rows: u64,
    /// By dataset and rule.
    pub rules: BTreeMap<(Arc<str>, Arc<str>), (Action, Counts)>,
    /// By operator.
    pub late: Vec<u64>,
    pub updated: Vec<u64>,
    pub event_time_min: Option<EventTime>,
    pub event_time_max: Option<EventTime>,
}

pub struct Engine {
    pub plan: Plan,
    default_policy: OnMalformed,
    decoders: Vec<Option<Decoder>>,
    pub trackers: Vec<Tracker>,
    pub aggregators: Vec<Aggregator>,
    recent: Vec<VecDeque<bool>>,
    errors: BTreeMap<String, u64>,
    /// Rows for each target since they were last taken.
    pub outputs: Vec<Vec<RecordBatch>>,
    pub rejects: Vec<Reject>,
    pub counts: EpochCounts,
    /// The operators' increments of the epoch that has just ended.
    pub increments: Vec<Option<RecordBatch>>,
}

/// No partition of a topic: rows at hand.
pub fn at_hand() -> TopicPartition {
    TopicPartition::new("rows at hand", 0)
}

impl Engine {
    pub fn new(plan: Plan, default_policy: OnMalformed) -> Result<Self> {
        let mut decoders = vec![];
        let mut aggregators = vec![];
        for node in &plan.nodes {
            decoders.push(match &node.step {
                Step::Kafka(s) => Some(Decoder::new(s.schema.as_ref(), &s.decode)?),
                Step::Messages(s) => Some(Decoder::new(s.schema.as_ref(), &s.decode)?),
                _ => None,
            });
            if let Step::Aggregate { spec, emit, .. } = &node.step {
                aggregators.push(Aggregator::new((**spec).clone(), *emit)?);
            }
        }
        let trackers = plan.trackers.iter().map(|(_, spec)| Tracker::new(spec.clone())).collect();
        let operators = aggregators.len();
        Ok(Self {
            default_policy,
            decoders,
            trackers,
            recent: plan.nodes.iter().map(|_| VecDeque::new()).collect(),
            errors: BTreeMap::new(),
            outputs: plan.targets.iter().map(|_| vec![]).collect(),
            rejects: vec![],
            counts: EpochCounts { late: vec![0; operators], updated: vec![0; operators], ..EpochCounts::default() },
            increments: vec![None; operators],
            aggregators,
            plan,
        })
    }

    /// These partitions belong to the streams of their topics, whether or not they have said anything yet.
    pub fn know<'a>(&mut self, partitions: impl Iterator<Item = &'a TopicPartition> + Clone) {
        for (tracker, topics) in self.trackers.iter_mut().zip(&self.plan.tracker_topics) {
            partitions.clone().filter(|p| topics.contains(&p.topic)).for_each(|p| tracker.know(p));
        }
    }

    fn policy(&self, node: usize) -> OnMalformed {
        self.plan.nodes[node].on_malformed.unwrap_or(self.default_policy)
    }

    /// Messages `wanted` of a chunk, in order; each goes to the sources that read its topic.
    pub fn push_messages(&mut self, messages: &Arc<Messages>, wanted: &[u32], now: EventTime) -> Result<()> {
        self.counts.messages += wanted.len() as u64;
        for node in 0..self.plan.nodes.len() {
            let Step::Kafka(source) = &self.plan.nodes[node].step else { continue };
            let reads: Vec<bool> = messages.partitions.iter().map(|p| source.topics.contains(&p.topic)).collect();
            if reads.iter().all(|r| *r) {
                self.decode_into(node, messages, wanted, now)?;
            } else {
                let mine: Vec<u32> =
                    wanted.iter().copied().filter(|i| reads[messages.sources[*i as usize] as usize]).collect();
                self.decode_into(node, messages, &mine, now)?;
            }
        }
        Ok(())
    }

    /// Feeds everything that is at hand.
    pub fn push_at_hand(&mut self, now: EventTime) -> Result<()> {
        for node in 0..self.plan.nodes.len() {
            match &self.plan.nodes[node].step {
                Step::Messages(source) => {
                    let messages = source.messages.clone();
                    let all: Vec<u32> = (0..messages.len() as u32).collect();
                    self.counts.messages += all.len() as u64;
                    for part in all.chunks(16_384) {
                        self.decode_into(node, &messages, part, now)?;
                    }
                }
                Step::Rows(source) => {
                    for batch in source.batches.clone() {
                        self.counts.rows += batch.num_rows() as u64;
                        self.run(node, Batch::new(batch, None), now)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn decode_into(&mut self, node: usize, messages: &Arc<Messages>, wanted: &[u32], now: EventTime) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let Some(decoder) = &mut self.decoders[node] else { return Err(Error::internal("a source without a decoder")) };
        let decoded = decoder.decode(messages, wanted)?;
        self.counts.rows += decoded.batch.len() as u64;
        self.counts.unknown_fields += decoded.unknown_fields;
        self.counts.tombstones += decoded.tombstones.len() as u64;
        self.counts.malformed += decoded.malformed.len() as u64;
        let dataset = self.plan.nodes[node].dataset.clone();
        let (tombstone_policy, limit) = match &self.plan.nodes[node].step {
            Step::Kafka(s) => (s.decode.on_tombstone, s.max_malformed),
            Step::Messages(s) => (s.decode.on_tombstone, 1.0),
            _ => (OnTombstone::Skip, 1.0),
        };
        if tombstone_policy == OnTombstone::Quarantine {
            for i in &decoded.tombstones {
                self.reject(
                    Stage::Decode,
                    &dataset,
                    vec![],
                    "a tombstone (null value)".into(),
                    RejectSource::Message(messages.clone(), *i),
                );
            }
        }
        if let Some(first) = decoded.malformed.first() {
            if self.policy(node) == OnMalformed::Fail {
                return Err(Error::malformed(format!(
                    "{}: {}. Nothing of it was skipped; to go on without such messages say on_malformed=\"drop\", or \"quarantine\" where a table is written.",
                    messages.place(first.message as usize),
                    first.error
                )));
            }
            let keep = self.policy(node) == OnMalformed::Quarantine;
            for m in &decoded.malformed {
                *self.errors.entry(without_place(&m.error)).or_default() += 1;
                if keep {
                    self.reject(
                        Stage::Decode,
                        &dataset,
                        vec![],
                        m.error.as_str().into(),
                        RejectSource::Message(messages.clone(), m.message),
                    );
                }
            }
        }
        self.watch_malformed(node, wanted, &decoded.malformed, limit, messages)?;
        self.run(node, decoded.batch, now)
    }

    /// Stops when too many of the last 1,000 messages are malformed: then the schema is wrong, not the messages.
    fn watch_malformed(
        &mut self,
        node: usize,
        wanted: &[u32],
        malformed: &[crate::decode::Malformed],
        limit: f64,
        messages: &Messages,
    ) -> Result<()> {
        if limit >= 1.0 {
            return Ok(());
        }
        let recent = &mut self.recent[node];
        let tail = &wanted[wanted.len().saturating_sub(1000)..];
        let mut bad = malformed.iter().map(|m| m.message).peekable();
        for i in tail {
            while bad.peek().is_some_and(|b| b < i) {
                bad.next();
            }
            recent.push_back(bad.peek() == Some(i));
        }
        while recent.len() > 1000 {
            recent.pop_front();
        }
        let failed = recent.iter().filter(|b| **b).count();
        if recent.len() >= 100 && failed as f64 > limit * recent.len() as f64 {
            let (commonest, times) =
                self.errors.iter().max_by_key(|(_, n)| **n).map(|(e, n)| (e.as_str(), *n)).unwrap_or(("", 0));
            let place = tail.last().map(|i| messages.place(*i as usize)).unwrap_or_default();
            return Err(Error::schema(format!(
                "{failed} of the last {} messages up to {place} are malformed, more than max_malformed={limit}. The commonest error \
                 ({times} times): {commonest}. Correct the schema; to go on regardless say max_malformed=1.0.",
                recent.len()
            )));
        }
        Ok(())
    }

    fn reject(&mut self, stage: Stage, dataset: &Arc<str>, rules: Vec<Arc<str>>, error: Arc<str>, from: RejectSource) {
        self.counts.quarantined += 1;
        self.rejects.push(Reject { stage, dataset: dataset.clone(), rules, error, from });
    }

    fn source_of(batch: &Batch, row: u32) -> RejectSource {
        match &batch.origin {
            Some(o) => RejectSource::Message(o.messages.clone(), o.message(row as usize) as u32),
            None => RejectSource::Row(row_as_json(&batch.rows, row as usize)),
        }
    }

    fn place(batch: &Batch, row: u32) -> String {
        match &batch.origin {
            Some(o) => o.messages.place(o.message(row as usize)),
            None => format!("row {row}"),
        }
    }

    fn failed_rows(&mut self, node: usize, batch: &Batch, failed: &[FailedRow]) -> Result<()> {
        let Some(first) = failed.first() else { return Ok(()) };
        self.counts.failed_rows += failed.len() as u64;
        match self.policy(node) {
            OnMalformed::Fail => Err(Error::malformed(format!(
                "{}: {}. To go on without such rows say on_malformed=\"drop\", or \"quarantine\" where a table is written.",
                Self::place(batch, first.row),
                first.error
            ))),
            OnMalformed::Drop => Ok(()),
            OnMalformed::Quarantine => {
                let dataset = self.plan.nodes[node].dataset.clone();
                for f in failed {
                    self.reject(
                        Stage::Transform,
                        &dataset,
                        vec![],
                        f.error.as_str().into(),
                        Self::source_of(batch, f.row),
                    );
                }
                Ok(())
            }
        }
    }

    /// Sends a batch down from `from`; every node's output is computed once.
    fn run(&mut self, from: usize, batch: Batch, now: EventTime) -> Result<()> {
        let mut values: Vec<Vec<Batch>> = self.plan.nodes.iter().map(|_| vec![]).collect();
        values[from].push(batch);
        self.run_from(from + 1, values, now)
    }

    fn run_from(&mut self, start: usize, mut values: Vec<Vec<Batch>>, now: EventTime) -> Result<()> {
        for node in start..self.plan.nodes.len() {
            let inputs = self.plan.nodes[node].inputs.clone();
            for (which, input) in inputs.iter().enumerate() {
                for batch in values[*input].clone() {
                    if batch.is_empty() {
                        continue;
                    }
                    if let Some(out) = self.step(node, which, batch, now)? {
                        values[node].push(out);
                    }
                }
            }
        }
        for (target, node) in self.plan.outputs.iter().enumerate() {
            for batch in &values[*node] {
                if !batch.is_empty() {
                    self.outputs[target].push(batch.rows.clone());
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, node: usize, which: usize, batch: Batch, now: EventTime) -> Result<Option<Batch>> {
        match &self.plan.nodes[node].step {
            Step::Kafka(_) | Step::Messages(_) | Step::Rows(_) => Ok(Some(batch)),
            Step::Union(columns) => Ok(Some(relabel(&batch, &self.plan.nodes[node].schema, &columns[which])?)),
            Step::Project(p) => {
                let out = p.clone().apply(&batch)?;
                self.failed_rows(node, &batch, &out.failed)?;
                Ok(Some(out.batch))
            }
            Step::Filter(f) => {
                let out = f.clone().apply(&batch)?;
                self.counts.filtered += (batch.len() - out.batch.len() - out.failed.len()) as u64;
                self.failed_rows(node, &batch, &out.failed)?;
                Ok(Some(out.batch))
            }
            Step::Expect(_) => self.judge(node, batch).map(Some),
            Step::Watermark { tracker, .. } => {
                let tracker = *tracker;
                self.observe(tracker, &batch, now)?;
                Ok(Some(batch))
            }
            Step::Aggregate { operator, trackers, .. } => {
                let (operator, trackers) = (*operator, trackers.clone());
                let watermark = self.watermark_of(&trackers);
                let out = self.aggregators[operator].push(&batch, watermark)?;
                self.counts.late[operator] += out.late.len() as u64;
                self.failed_rows(node, &batch, &out.failed)?;
                if trackers.iter().any(|t| self.trackers[*t].spec.quarantine_late) {
                    let dataset = self.plan.nodes[node].dataset.clone();
                    for late in &out.late {
                        let why: Arc<str> = match late.behind {
                            None => "the event time is NULL".into(),
                            Some(d) => format!("late by {:.3} s: its windows are closed", d.as_secs_f64()).into(),
                        };
                        self.reject(Stage::Late, &dataset, vec![], why, Self::source_of(&batch, late.row));
                    }
                }
                Ok(None)
            }
        }
    }

    fn judge(&mut self, node: usize, batch: Batch) -> Result<Batch> {
        let Step::Expect(set) = &self.plan.nodes[node].step else { return Ok(batch) };
        let set = set.clone();
        let dataset = self.plan.nodes[node].dataset.clone();
        let judged = set.judge(&batch)?;
        if let Some((row, rule)) = judged.fatal {
            let rule = &set.rules[rule];
            return Err(Error::expectation(format!(
                "expectation '{}' of '{dataset}' failed: {} does not hold for {}. Nothing of this epoch is written.",
                rule.name,
                rule.condition.sql,
                Self::place(&batch, row)
            )));
        }
        for (rule, counts) in set.rules.iter().zip(&judged.counts) {
            let key = (dataset.clone(), rule.name.clone());
            self.counts.rules.entry(key).or_insert((rule.action, Counts::default())).1.add(*counts);
        }
        self.counts.dropped += judged.dropped;
        for (row, broken) in &judged.quarantined {
            let rules = broken.iter().map(|i| set.rules[*i].name.clone()).collect::<Vec<_>>();
            let error = format!("breaks {}", rules.iter().map(|r| format!("'{r}'")).collect::<Vec<_>>().join(", "));
            self.reject(Stage::Expectation, &dataset, rules, error.into(), Self::source_of(&batch, *row));
        }
        Ok(judged.batch)
    }

    fn observe(&mut self, tracker: usize, batch: &Batch, now: EventTime) -> Result<()> {
        let t = &mut self.trackers[tracker];
        let column = batch.rows.schema().index_of(&t.spec.column)?;
        let times = batch.rows.column(column).as_primitive::<TimestampMicrosecondType>();
        let limit = t.future_limit(now).0;
        let (mut low, mut high) = (i64::MAX, i64::MIN);
        match &batch.origin {
            Some(Origin { messages, rows }) => {
                let mut highest = vec![i64::MIN; messages.partitions.len()];
                for (i, message) in rows.values().iter().enumerate() {
                    let time = times.value(i);
                    if times.is_valid(i) {
                        low = low.min(time);
                        high = high.max(time);
                        let of = &mut highest[messages.sources[*message as usize] as usize];
                        if time > *of && time <= limit {
                            *of = time;
                        }
                    }
                }
                for (partition, time) in messages.partitions.iter().zip(highest) {
                    if time > i64::MIN {
                        t.see(partition, EventTime(time));
                    }
                }
            }
            None => {
                let counted = times.iter().flatten().inspect(|t| {
                    low = low.min(*t);
                    high = high.max(*t);
                });
                if let Some(time) = counted.filter(|t| *t <= limit).max() {
                    t.see(&at_hand(), EventTime(time));
                }
            }
        }
        if low <= high {
            let c = &mut self.counts;
            c.event_time_min = Some(c.event_time_min.map_or(EventTime(low), |m| m.min(EventTime(low))));
            c.event_time_max = Some(c.event_time_max.map_or(EventTime(high), |m| m.max(EventTime(high))));
        }
        Ok(())
    }

    /// The lowest of some watermarks; none while one of them is missing.
    pub fn watermark_of(&self, trackers: &[usize]) -> Option<Watermark> {
        trackers.iter().map(|t| self.trackers[*t].watermark).min().flatten()
    }

    /// Ends an epoch: watermarks advance, aggregates hand out what is due, and that flows on to the targets.
    pub fn finish_epoch(
        &mut self,
        is_idle: &dyn Fn(&Tracker, &TopicPartition) -> bool,
        close: bool,
        now: EventTime,
    ) -> Result<()> {
        for t in &mut self.trackers {
            let view = t.clone();
            t.advance(|p| is_idle(&view, p));
        }
        if close {
            self.close_windows();
        }
        let mut values: Vec<Vec<Batch>> = self.plan.nodes.iter().map(|_| vec![]).collect();
        let mut first = self.plan.nodes.len();
        for node in 0..self.plan.nodes.len() {
            let Step::Aggregate { operator, trackers, .. } = &self.plan.nodes[node].step else { continue };
            let watermark = self.watermark_of(trackers);
            let operator = *operator;
            let out = self.aggregators[operator].finish_epoch(watermark)?;
            self.counts.updated[operator] += out.updated_groups as u64;
            self.increments[operator] = out.increment;
            values[node].push(Batch::new(out.rows, None));
            first = first.min(node);
        }
        if first < self.plan.nodes.len() {
            self.run_from(first + 1, values, now)?;
        }
        Ok(())
    }

    /// For backfills: time passes the end of every open window.
    fn close_windows(&mut self) {
        for node in &self.plan.nodes {
            if let Step::Aggregate { operator, trackers, .. } = &node.step
                && let Some(last) = self.aggregators[*operator].last_window()
            {
                for t in trackers {
                    let w = &mut self.trackers[*t].watermark;
                    *w = (*w).max(Some(last));
                }
            }
        }
    }

    /// Whether ending an epoch now, without new rows, would hand anything out.
    pub fn would_emit(&self, is_idle: &dyn Fn(&Tracker, &TopicPartition) -> bool) -> bool {
        self.plan.nodes.iter().any(|node| {
            let Step::Aggregate { operator, trackers, emit: Emit::OnClose, .. } = &node.step else {
                return false; // a complete result changes by rows only
            };
            let after = trackers
                .iter()
                .map(|t| {
                    let mut copy = self.trackers[*t].clone();
                    let view = copy.clone();
                    copy.advance(|p| is_idle(&view, p))
                })
                .min()
                .flatten();
            let first = self.aggregators[*operator].open_windows().into_iter().next();
            matches!((first, after), (Some(end), Some(w)) if end <= w)
        })
    }

    pub fn take_counts(&mut self) -> EpochCounts {
        let operators = self.aggregators.len();
        let fresh = EpochCounts { late: vec![0; operators], updated: vec![0; operators], ..EpochCounts::default() };
        std::mem::replace(&mut self.counts, fresh)
    }
}

/// An error's text without the byte position, so that equal errors are counted together.
fn without_place(error: &str) -> String {
    error.rfind(" (byte ").map_or(error, |at| &error[..at]).to_string()
}
