//! The stages at work: messages in, rows out, epoch by epoch. No I/O: a durable query, an iterator and data at hand are
//! all driven through here.

mod decode;
mod reject;

use super::plan::{Plan, Step};
use super::source::OnMalformed;
use super::statics::Held;
use crate::batch::{Batch, Origin};
use crate::decode::Decoder;
use crate::expect::{Action, Counts};
use crate::position::TopicPartition;
use crate::sink::quarantine::Reject;
use crate::state::Stateful;
use crate::time::{EventTime, Watermark};
use crate::transform::relabel;
use crate::window::Tracker;
use crate::{Error, Kind, Result};
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
    pub metrics: Vec<BTreeMap<&'static str, u64>>,
    pub event_time_min: Option<EventTime>,
    pub event_time_max: Option<EventTime>,
}

impl EpochCounts {
    fn new(operators: usize) -> Self {
        Self {
            late: vec![0; operators],
            updated: vec![0; operators],
            metrics: vec![BTreeMap::new(); operators],
            ..Self::default()
        }
    }
}

pub struct Engine {
    pub plan: Plan,
    default_policy: OnMalformed,
    decoders: Vec<Option<Decoder>>,
    pub trackers: Vec<Tracker>,
    pub operators: Vec<Box<dyn Stateful>>,
    /// The watermark behind each node when the epoch began.
    before: Vec<Option<Watermark>>,
    recent: Vec<VecDeque<bool>>,
    errors: BTreeMap<String, u64>,
    /// Steps whose rules and rejects were counted and kept aside already.
    silent: Vec<bool>,
    /// By node, the tables that rows are joined with.
    pub statics: Vec<Option<Held>>,
    /// The epoch that is being made, where epochs are counted: for errors.
    pub epoch: Option<i64>,
    /// Rows for each target since they were last taken.
    pub outputs: Vec<Vec<RecordBatch>>,
    pub rejects: Vec<Reject>,
    pub counts: EpochCounts,
    /// The operators' increments of the epoch that has just ended.
    pub increments: Vec<Vec<RecordBatch>>,
    /// The keys that changed in operators that hand out changed groups.
    pub changed: Vec<Vec<RecordBatch>>,
}

/// No partition of a topic: rows at hand.
pub fn at_hand() -> TopicPartition {
    TopicPartition::new("rows at hand", 0)
}

impl Engine {
    pub fn new(plan: Plan, default_policy: OnMalformed) -> Result<Self> {
        let mut decoders = vec![];
        for node in &plan.nodes {
            decoders.push(match &node.step {
                Step::Kafka(s) => Some(Decoder::new(s.schema.as_ref(), &s.decode)?),
                Step::Messages(s) => Some(Decoder::new(s.schema.as_ref(), &s.decode)?),
                _ => None,
            });
        }
        let at_hand = |node: &super::plan::PlanNode| match &node.step {
            Step::StaticJoin(join) => join.at_hand(),
            _ => Ok(None),
        };
        let statics = plan.nodes.iter().map(at_hand).collect::<Result<_>>()?;
        let trackers = plan.trackers.iter().map(|(_, spec)| Tracker::new(spec.clone())).collect();
        let operators = plan.operators.iter().map(|o| o.kind.build()).collect::<Result<Vec<_>>>()?;
        let mut engine = Self {
            default_policy,
            decoders,
            trackers,
            recent: plan.nodes.iter().map(|_| VecDeque::new()).collect(),
            errors: BTreeMap::new(),
            outputs: plan.targets.iter().map(|_| vec![]).collect(),
            rejects: vec![],
            counts: EpochCounts::new(operators.len()),
            increments: vec![vec![]; operators.len()],
            changed: vec![vec![]; operators.len()],
            before: vec![],
            epoch: None,
            silent: vec![false; plan.nodes.len()],
            statics,
            operators,
            plan,
        };
        engine.begin();
        Ok(engine)
    }

    /// These partitions belong to the streams of their topics, whether or not they have said anything yet.
    pub fn know<'a>(&mut self, partitions: impl Iterator<Item = &'a TopicPartition> + Clone) {
        for (tracker, topics) in self.trackers.iter_mut().zip(&self.plan.tracker_topics) {
            partitions.clone().filter(|p| topics.contains(&p.topic)).for_each(|p| tracker.know(p));
        }
    }

    /// Nothing of these steps is counted or kept aside: that has been done.
    pub fn be_silent_about(&mut self, streams: &std::collections::HashSet<String>) {
        self.silent = self.plan.nodes.iter().map(|n| streams.contains(&n.stream)).collect();
    }

    fn policy(&self, node: usize) -> OnMalformed {
        self.plan.nodes[node].on_malformed.unwrap_or(self.default_policy)
    }

    /// Sends a batch down from `from`; every node's output is computed once.
    fn run(&mut self, from: usize, batch: Batch, now: EventTime) -> Result<()> {
        let mut values: Vec<Vec<Batch>> = self.plan.nodes.iter().map(|_| vec![]).collect();
        values[from].push(batch);
        for node in from + 1..self.plan.nodes.len() {
            self.feed(node, &mut values, now)?;
        }
        self.collect(&values);
        Ok(())
    }

    /// Runs what has come to a node's inputs through it.
    fn feed(&mut self, node: usize, values: &mut [Vec<Batch>], now: EventTime) -> Result<()> {
        let inputs = self.plan.nodes[node].inputs.clone();
        for (which, input) in inputs.iter().enumerate() {
            for batch in values[*input].clone() {
                if batch.is_empty() {
                    continue;
                }
                self.step(node, which, batch, now, &mut values[node])?;
            }
        }
        Ok(())
    }

    fn collect(&mut self, values: &[Vec<Batch>]) {
        for (target, node) in self.plan.outputs.iter().enumerate() {
            for batch in &values[*node] {
                if !batch.is_empty() {
                    self.outputs[target].push(batch.rows.clone());
                }
            }
        }
    }

    fn step(&mut self, node: usize, which: usize, batch: Batch, now: EventTime, to: &mut Vec<Batch>) -> Result<()> {
        let out = match &self.plan.nodes[node].step {
            Step::Kafka(_) | Step::Messages(_) | Step::Rows(_) => batch,
            Step::Union(columns) => relabel(&batch, &self.plan.nodes[node].schema, &columns[which])?,
            Step::Project(p) => {
                let out = p.clone().apply(&batch)?;
                self.failed_rows(node, &batch, &out.failed)?;
                out.batch
            }
            Step::Filter(f) => {
                let out = f.clone().apply(&batch)?;
                self.counts.filtered += (batch.len() - out.batch.len() - out.failed.len()) as u64;
                self.failed_rows(node, &batch, &out.failed)?;
                out.batch
            }
            Step::StaticJoin(_) => {
                let held = self.statics[node].as_ref().ok_or_else(|| Error::internal("a table was not read"))?;
                let out = held.table.apply(&batch)?;
                self.failed_rows(node, &batch, &out.failed)?;
                out.batch
            }
            Step::Map(m) => {
                let out = m.clone().apply(&batch)?;
                self.failed_rows(node, &batch, &out.failed)?;
                to.extend(out.batches);
                return Ok(());
            }
            Step::Expect(_) => self.judge(node, batch)?,
            Step::Watermark { tracker, .. } => {
                let tracker = *tracker;
                self.observe(tracker, &batch, now)?;
                batch
            }
            Step::Stateful { operator } => {
                let operator = *operator;
                let before = self.input_watermark(&self.before, node);
                let out = self.operators[operator].push(which, &batch, before)?;
                self.failed_rows(node, &batch, &out.failed)?;
                self.late_rows(node, operator, &out.late.iter().map(|l| (&batch, l)).collect::<Vec<_>>());
                return Ok(());
            }
        };
        to.push(out);
        Ok(())
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

    /// The watermark behind each node, from those of the trackers. A step passes its input's on; where inputs meet the lowest
    /// counts, and none while one of them has none.
    fn watermarks(&self, trackers: &[Option<Watermark>]) -> Vec<Option<Watermark>> {
        let mut out: Vec<Option<Watermark>> = Vec::with_capacity(self.plan.nodes.len());
        for (i, node) in self.plan.nodes.iter().enumerate() {
            let input = self.input_watermark(&out, i);
            out.push(match &node.step {
                Step::Watermark { tracker, .. } => trackers[*tracker],
                Step::Stateful { operator } => self.plan.operators[*operator].kind.output_watermark(input),
                _ => input,
            });
        }
        out
    }

    fn input_watermark(&self, watermarks: &[Option<Watermark>], node: usize) -> Option<Watermark> {
        self.plan.nodes[node].inputs.iter().map(|i| watermarks[*i]).min().flatten()
    }

    fn now_watermarks(&self) -> Vec<Option<Watermark>> {
        self.watermarks(&self.trackers.iter().map(|t| t.watermark).collect::<Vec<_>>())
    }

    /// To be called once the trackers are as they were when the next epoch begins.
    pub fn begin(&mut self) {
        self.before = self.now_watermarks();
    }

    /// The watermark that an operator's rows are judged by.
    pub fn watermark_of(&self, operator: usize) -> Option<Watermark> {
        self.input_watermark(&self.before, self.plan.operators[operator].node)
    }

    /// Ends an epoch: watermarks advance, operators hand out what is due, and that flows on to the targets.
    pub fn finish_epoch(
        &mut self,
        is_idle: &dyn Fn(&Tracker, &TopicPartition) -> bool,
        close: bool,
        now: EventTime,
    ) -> Result<()> {
        for t in &mut self.trackers {
            let view = t.clone();
            t.advance(|p| is_idle(&view, p), now);
        }
        self.pass(now)?;
        if close {
            // What one operator hands out may open windows of the next.
            for _ in 0..=2 * self.operators.len() {
                if !self.raise_watermarks(now) {
                    break;
                }
                self.pass(now)?;
            }
        }
        self.begin();
        Ok(())
    }

    /// Brings watermarks to where they are held at.
    pub fn catch_up(&mut self, now: EventTime) -> Result<()> {
        self.trackers.iter_mut().for_each(Tracker::catch_up);
        self.pass(now)?;
        self.begin();
        Ok(())
    }

    /// Every operator's end of the epoch, inputs before their users.
    fn pass(&mut self, now: EventTime) -> Result<()> {
        let after = self.now_watermarks();
        let mut values: Vec<Vec<Batch>> = self.plan.nodes.iter().map(|_| vec![]).collect();
        for node in 0..self.plan.nodes.len() {
            self.feed(node, &mut values, now)?;
            let Step::Stateful { operator } = self.plan.nodes[node].step else { continue };
            let (before, after) = (self.input_watermark(&self.before, node), self.input_watermark(&after, node));
            let finished = self.operators[operator].finish_epoch(before, after);
            let mut out = finished.map_err(|e| match (e.kind, self.epoch) {
                (Kind::Malformed, Some(n)) => {
                    e.context(format!("epoch {n}, the groups of '{}'", self.plan.operators[operator].name))
                }
                _ => e,
            })?;
            self.counts.updated[operator] += out.updated as u64;
            for (name, n) in out.metrics {
                *self.counts.metrics[operator].entry(name).or_default() += n;
            }
            self.late_rows(node, operator, &out.late.iter().map(|(b, l)| (b, l)).collect::<Vec<_>>());
            self.increments[operator].extend(out.increment);
            self.changed[operator].append(&mut out.changed);
            values[node].append(&mut out.batches);
        }
        self.collect(&values);
        Ok(())
    }

    /// For backfills: time passes the end of the open windows, but for those that begin further in the future than event
    /// times may lie. Says whether it moved.
    fn raise_watermarks(&mut self, now: EventTime) -> bool {
        let at = self.now_watermarks();
        let mut moved = false;
        for (operator, state) in self.operators.iter().enumerate() {
            let node = self.plan.operators[operator].node;
            let trackers = &self.plan.nodes[node].trackers;
            let Some(until) = trackers.iter().map(|t| self.trackers[*t].future_limit(now)).max() else { continue };
            let Some(last) = state.last_window(until) else { continue };
            let input = self.input_watermark(&at, node);
            if input.is_some_and(|w| w >= last) {
                continue;
            }
            moved = true;
            // A join on the way holds its output back by its range.
            let behind = input.map_or(0, |w| last.0 - w.0);
            for t in trackers {
                let w = &mut self.trackers[*t].watermark;
                let wanted = w.map_or(last, |w| EventTime(w.0.saturating_add(behind)).max(last));
                *w = (*w).max(Some(wanted));
            }
        }
        moved
    }

    /// Whether `close_windows` would hand anything out.
    pub fn would_close(&self, now: EventTime) -> bool {
        let limit = |operator: usize| {
            let trackers = &self.plan.nodes[self.plan.operators[operator].node].trackers;
            trackers.iter().map(|t| self.trackers[*t].future_limit(now)).max()
        };
        let open = |i: usize| limit(i).is_some_and(|until| self.operators[i].last_window(until).is_some());
        (0..self.operators.len()).any(open)
    }

    /// Whether ending an epoch now, without new rows, would hand anything out.
    pub fn would_emit(&self, is_idle: &dyn Fn(&Tracker, &TopicPartition) -> bool) -> bool {
        let advanced = |t: &Tracker| {
            let mut copy = t.clone();
            copy.advance(|p| is_idle(t, p), EventTime(0))
        };
        let after = self.watermarks(&self.trackers.iter().map(advanced).collect::<Vec<_>>());
        let due = |operator: usize| {
            let input = self.input_watermark(&after, self.plan.operators[operator].node);
            self.operators[operator].would_emit(input)
        };
        (0..self.operators.len()).any(due)
    }

    /// Bytes that rows and state take, about.
    pub fn memory(&self) -> usize {
        self.operators.iter().map(|o| o.memory()).sum()
    }

    /// Moves state to disk until it takes no more than `limit` bytes; what cannot be moved is an error rather than the end of
    /// the process.
    pub fn keep_within(&mut self, limit: usize) -> Result<()> {
        let mut sizes: Vec<(usize, usize)> = self.operators.iter().map(|o| o.memory()).enumerate().collect();
        let total: usize = sizes.iter().map(|s| s.1).sum();
        if total <= limit {
            return Ok(());
        }
        sizes.sort_by_key(|s| std::cmp::Reverse(s.1));
        let mut over = total - limit;
        let mut stuck = None;
        for (operator, size) in sizes {
            if self.operators[operator].shrink(size.saturating_sub(over + limit / 8))? {
                over = over.saturating_sub(size.saturating_sub(self.operators[operator].memory()));
            } else {
                stuck = stuck.or(Some((operator, size)));
            }
            if over == 0 {
                return Ok(());
            }
        }
        match stuck {
            Some((operator, size)) if size > limit / 4 * 3 => Err(Error::storage(format!(
                "the state of '{}' takes {} KB of the {} KB that memory_limit allows, and this kind of state stays in memory. Raise memory_limit, \
                 or have it remember less (a shorter within=, gap or delay).",
                self.plan.operators[operator].name.split('+').next().unwrap_or_default(),
                size >> 10,
                limit >> 10
            ))),
            _ => Ok(()),
        }
    }

    pub fn take_counts(&mut self) -> EpochCounts {
        let fresh = EpochCounts::new(self.operators.len());
        std::mem::replace(&mut self.counts, fresh)
    }
}
