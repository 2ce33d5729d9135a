//! The stages at work: messages in, rows out, epoch by epoch. No I/O. Durable queries, iterators and data in memory all
//! use this module.

mod decode;
mod flow_down;
pub(crate) mod plan;
mod reject;
mod set_aside;
mod statics;
mod used;
mod watch;

use crate::batch::{Batch, Origin};
use crate::decode::Decoder;
use crate::expect::{Action, Counts};
use crate::expr::{Moment, nested_values};
use crate::flow::source::OnMalformed;
use crate::position::TopicPartition;
use crate::sink::quarantine::Reject;
use crate::sink::{Refused, Staging};
use crate::state::Stateful;
use crate::time::{EventTime, Watermark};
use crate::transform::{Exploding, relabel};
use crate::window::Tracker;
use crate::{Error, Kind, Result};
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

pub(crate) use plan::{Plan, Step};
pub(crate) use set_aside::SetAside;
pub(crate) use statics::Held;

/// The counts of an epoch.
#[derive(Debug, Clone, Default)]
pub(crate) struct EpochCounts {
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
    /// By operator, in the order of the plan.
    pub operators: Vec<OperatorCounts>,
    pub event_time_min: Option<EventTime>,
    pub event_time_max: Option<EventTime>,
    pub event_time_sum: i128,
    pub event_times: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct OperatorCounts {
    pub late: u64,
    /// Groups that changed.
    pub updated: u64,
    pub metrics: BTreeMap<&'static str, u64>,
}

impl EpochCounts {
    fn new(operators: usize) -> Self {
        Self { operators: vec![OperatorCounts::default(); operators], ..Self::default() }
    }
}

/// How an epoch ends.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct End {
    /// Windows that are open are closed too: for backfills.
    pub close: bool,
    /// Watermarks with a limit advance to the limit. This is the end of filling a new output.
    pub catch_up: bool,
}

/// The result of the end of an epoch, besides the rows for the outputs.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// By operator, in the order of the plan.
    pub operators: Vec<OperatorOutcome>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct OperatorOutcome {
    /// The changes of the operator's state in the epoch.
    pub increment: Vec<RecordBatch>,
    /// The keys of the groups that changed, of an operator that hands out changed groups.
    pub changed: Vec<RecordBatch>,
}

pub(crate) struct Engine {
    pub plan: Plan,
    default_policy: OnMalformed,
    decoders: Vec<Option<Decoder>>,
    pub trackers: Vec<Tracker>,
    pub operators: Vec<Box<dyn Stateful>>,
    /// The watermark behind each node when the epoch began.
    before: Vec<Level>,
    /// By operator, the highest watermark that its input has had.
    floors: Vec<Option<Watermark>>,
    recent: Vec<VecDeque<bool>>,
    errors: BTreeMap<String, u64>,
    /// By step, and by rule of a step: how many of the last rows failed.
    failing: Vec<watch::Recent>,
    failing_rules: BTreeMap<(usize, usize), watch::Recent>,
    /// Steps whose rules and rejects are not counted: an earlier run counted them.
    silent: Vec<bool>,
    /// By node, the tables that rows are joined with.
    pub statics: Vec<Option<Held>>,
    /// By table, its requirements: a stream that reads a table gets only rows that the table accepts. Tables that are not written have no entry.
    pub admissions: HashMap<Arc<str>, Arc<dyn Staging>>,
    /// When the current epoch began. `current_timestamp()` is this time. None: it is the time of each call.
    pub began: Option<EventTime>,
    /// The number of the current epoch, where epochs are counted. Errors show it.
    pub epoch: Option<i64>,
    /// Rows for each output since they were last taken.
    outputs: Vec<Vec<Batch>>,
    /// Rows that are still to make from pushed rows, by node; the last entry continues first.
    unfinished: Vec<(usize, Exploding, EventTime)>,
    /// An epoch is ending: all rows are made at once.
    ending: bool,
    rejects: Vec<Reject>,
    /// Rows of complete results that were set aside.
    pub set_aside: SetAside,
    pub counts: EpochCounts,
}

/// The watermark behind a node, and whether all the partitions that it comes from are idle.
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    at: Option<Watermark>,
    idle: bool,
}

impl Level {
    fn of(tracker: &Tracker) -> Self {
        Self { at: tracker.watermark, idle: tracker.is_idle() }
    }
}

/// The rows that are not refused.
fn kept(rows: usize, refused: &[Refused]) -> BooleanArray {
    let mut keep = vec![true; rows];
    refused.iter().for_each(|r| keep[r.row as usize] = false);
    keep.into()
}

/// The partition of rows in memory, which is not a partition of a topic. Seals have this name.
pub(crate) fn at_hand() -> TopicPartition {
    TopicPartition::new("rows at hand", 0)
}

impl Engine {
    pub(crate) fn new(plan: Plan, default_policy: OnMalformed) -> Result<Self> {
        let mut decoders = vec![];
        for node in &plan.nodes {
            decoders.push(match &node.step {
                Step::Kafka(s) => Some(Decoder::new(s.schema.as_ref(), &s.decode)?),
                Step::Messages(s) => Some(Decoder::new(s.schema.as_ref(), &s.decode)?),
                Step::Decode(d) => Some(Decoder::new(d.declared.as_ref(), &d.options)?),
                _ => None,
            });
        }
        let at_hand = |node: &plan::PlanNode| match &node.step {
            Step::StaticJoin(join) => Held::at_hand(join),
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
            failing: plan.nodes.iter().map(|_| watch::Recent::default()).collect(),
            failing_rules: BTreeMap::new(),
            outputs: plan.targets.iter().map(|_| vec![]).collect(),
            unfinished: vec![],
            ending: false,
            rejects: vec![],
            set_aside: SetAside::default(),
            counts: EpochCounts::new(operators.len()),
            before: vec![],
            floors: vec![None; operators.len()],
            began: None,
            epoch: None,
            silent: vec![false; plan.nodes.len()],
            admissions: HashMap::new(),
            statics,
            operators,
            plan,
        };
        engine.counts = engine.no_counts();
        engine.begin();
        Ok(engine)
    }

    /// The rows for an output since they were last taken.
    pub(crate) fn take_rows(&mut self, output: usize) -> Vec<Batch> {
        std::mem::take(&mut self.outputs[output])
    }

    /// The rejects since they were last taken.
    pub(crate) fn take_rejects(&mut self) -> Vec<Reject> {
        std::mem::take(&mut self.rejects)
    }

    /// Keeps the first `most` rejects that are not taken yet.
    pub(crate) fn keep_rejects(&mut self, most: usize) {
        self.rejects.truncate(most);
    }

    /// These partitions belong to the streams of their topics, whether or not they have had a message yet.
    pub(crate) fn know<'a>(&mut self, partitions: impl Iterator<Item = &'a TopicPartition> + Clone) {
        for (tracker, sources) in self.trackers.iter_mut().zip(&self.plan.tracker_sources) {
            let reads = |p: &&TopicPartition| sources.iter().any(|s| s.topics.has(p));
            partitions.clone().filter(reads).for_each(|p| tracker.know(p));
        }
    }

    /// Counts nothing and sets nothing aside for these steps, because an earlier run has done this.
    pub(crate) fn be_silent_about(&mut self, streams: &std::collections::HashSet<String>) {
        self.silent = self.plan.nodes.iter().map(|n| streams.contains(&n.stream)).collect();
        self.counts = self.no_counts();
    }

    fn policy(&self, node: usize) -> OnMalformed {
        self.plan.nodes[node].on_malformed.unwrap_or(self.default_policy)
    }

    fn step(&mut self, node: usize, which: usize, batch: Batch, now: EventTime, to: &mut Vec<Batch>) -> Result<()> {
        let out = match &self.plan.nodes[node].step {
            Step::Kafka(_) | Step::Messages(_) | Step::Rows(_) => batch,
            Step::Union(columns) => relabel(&batch, &self.plan.nodes[node].schema, &columns[which])?,
            Step::Project(p) => {
                for (part, out) in p.clone().apply_in_parts(&batch)? {
                    self.failed_rows(node, &part, &out.failed)?;
                    to.push(out.batch);
                }
                return Ok(());
            }
            Step::Explode(e) => {
                let (rows, failed) = e.clone().begin(&batch)?;
                for (part, failed) in &failed {
                    self.failed_rows(node, part, failed)?;
                }
                return self.explode(node, rows, now, to);
            }
            Step::Decode(_) => self.decode_column(node, batch)?,
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
            Step::Table(table) => match self.admissions.get(table) {
                None => batch,
                Some(staging) => {
                    let refused = staging.judge(&batch.rows)?;
                    // The refused rows are counted and set aside where the table is written.
                    if refused.is_empty() { batch } else { batch.filter(&kept(batch.len(), &refused))? }
                }
            },
            Step::Watermark { tracker, .. } => {
                let tracker = *tracker;
                self.observe(tracker, &batch, now)?;
                batch
            }
            Step::Stateful { operator } => {
                let operator = *operator;
                let before = self.before_operator(&self.before, operator);
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
        let times = nested_values(&batch.rows, &t.spec.column)
            .ok_or_else(|| Error::internal(format!("the event time '{}' is not there", t.spec.column)))?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let limit = t.future_limit(now).0;
        let (mut low, mut high) = (i64::MAX, i64::MIN);
        match &batch.origin {
            Some(Origin { messages, rows, .. }) => {
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
            c.event_time_sum += times.iter().flatten().map(i128::from).sum::<i128>();
            c.event_times += (times.len() - times.null_count()) as u64;
        }
        Ok(())
    }

    /// The watermark behind each node, from the watermarks of the trackers. A step passes the watermark of its input on.
    fn watermarks(&self, trackers: &[Level]) -> Vec<Level> {
        let mut out: Vec<Level> = Vec::with_capacity(self.plan.nodes.len());
        for (i, node) in self.plan.nodes.iter().enumerate() {
            let input = self.meet(&out, i);
            out.push(match &node.step {
                Step::Watermark { tracker, .. } => trackers[*tracker],
                Step::Stateful { operator } => {
                    let input = Level { at: input.at.max(self.floors[*operator]), ..input };
                    Level { at: self.plan.operators[*operator].kind.output_watermark(input.at), ..input }
                }
                _ => input,
            });
        }
        out
    }

    /// Where inputs meet, the lowest watermark of the inputs that are not idle counts. While one of these inputs has no
    /// watermark, there is no watermark behind them. If all inputs are idle, the highest watermark counts. The result
    /// is the same as for one stream over all topics.
    fn meet(&self, levels: &[Level], node: usize) -> Level {
        let inputs = || self.plan.nodes[node].inputs.iter().map(|i| levels[*i]);
        let awake = inputs().filter(|l| !l.idle).map(|l| l.at).min();
        match awake {
            Some(at) => Level { at, idle: false },
            None => Level { at: inputs().filter_map(|l| l.at).max(), idle: inputs().next().is_some() },
        }
    }

    /// The watermark before an operator. It never goes back, neither when an idle input gets messages again, nor with a restart.
    fn before_operator(&self, levels: &[Level], operator: usize) -> Option<Watermark> {
        self.meet(levels, self.plan.operators[operator].node).at.max(self.floors[operator])
    }

    fn now_watermarks(&self) -> Vec<Level> {
        self.watermarks(&self.trackers.iter().map(Level::of).collect::<Vec<_>>())
    }

    /// The watermark up to which an operator has emitted its rows, in the epoch from which a run continues.
    pub(crate) fn known_before(&mut self, operator: usize, watermark: Option<Watermark>) {
        self.floors[operator] = self.floors[operator].max(watermark);
    }

    /// Must be called when the trackers have the state with which the next epoch begins.
    pub(crate) fn begin(&mut self) {
        self.before = self.now_watermarks();
        for operator in 0..self.operators.len() {
            self.floors[operator] = self.before_operator(&self.before, operator);
        }
    }

    /// The watermark that an operator's rows are judged by.
    pub(crate) fn watermark_of(&self, operator: usize) -> Option<Watermark> {
        self.before_operator(&self.before, operator)
    }

    pub(super) fn moment(&self, now: EventTime) -> Moment {
        Moment::is(self.began.unwrap_or(now))
    }

    /// Ends an epoch: watermarks advance, operators emit the rows that are due, and these rows flow on to the outputs.
    pub(crate) fn finish_epoch(
        &mut self,
        is_idle: &dyn Fn(&Tracker, &TopicPartition) -> bool,
        end: End,
        now: EventTime,
    ) -> Result<Outcome> {
        let _moment = self.moment(now);
        let mut out = Outcome { operators: vec![OperatorOutcome::default(); self.operators.len()] };
        while self.go_on()? {}
        for t in &mut self.trackers {
            let view = t.clone();
            t.advance(|p| is_idle(&view, p), now);
        }
        self.pass(now, &mut out)?;
        if end.close {
            // Rows that one operator emits may open windows of the next operator.
            for _ in 0..=2 * self.operators.len() {
                if !self.raise_watermarks(now) {
                    break;
                }
                self.pass(now, &mut out)?;
            }
        }
        self.begin();
        if end.catch_up {
            self.trackers.iter_mut().for_each(Tracker::catch_up);
            self.pass(now, &mut out)?;
            self.begin();
        }
        Ok(out)
    }

    /// Every operator's end of the epoch, inputs before their users.
    fn pass(&mut self, now: EventTime, ended: &mut Outcome) -> Result<()> {
        self.ending = true;
        let passed = self.pass_down(now, ended);
        self.ending = false;
        passed
    }

    fn pass_down(&mut self, now: EventTime, ended: &mut Outcome) -> Result<()> {
        let after = self.now_watermarks();
        let mut values: Vec<Vec<Batch>> = self.plan.nodes.iter().map(|_| vec![]).collect();
        for node in 0..self.plan.nodes.len() {
            self.feed(node, &mut values, now)?;
            let Step::Stateful { operator } = self.plan.nodes[node].step else { continue };
            let (before, after) =
                (self.before_operator(&self.before, operator), self.before_operator(&after, operator));
            let finished = self.operators[operator].finish_epoch(before, after);
            let mut out = finished.map_err(|e| match (e.kind, self.epoch) {
                (Kind::Malformed, Some(n)) => {
                    e.context(format!("epoch {n}, the groups of '{}'", self.plan.operators[operator].name))
                }
                _ => e,
            })?;
            let counts = &mut self.counts.operators[operator];
            counts.updated += out.updated as u64;
            for (name, n) in out.metrics {
                *counts.metrics.entry(name).or_default() += n;
            }
            self.late_rows(node, operator, &out.late.iter().map(|(b, l)| (b, l)).collect::<Vec<_>>());
            self.failed_groups(node, operator, out.failed)?;
            let of_operator = &mut ended.operators[operator];
            of_operator.increment.extend(out.increment);
            of_operator.changed.append(&mut out.changed);
            values[node].append(&mut out.batches);
        }
        self.collect(&values);
        Ok(())
    }

    /// For backfills: moves watermarks past the end of the open windows, except windows that begin further in the future than
    /// event times may be. Returns whether a watermark moved.
    fn raise_watermarks(&mut self, now: EventTime) -> bool {
        let at = self.now_watermarks();
        let mut moved = false;
        for (operator, state) in self.operators.iter().enumerate() {
            let node = self.plan.operators[operator].node;
            let trackers = &self.plan.nodes[node].trackers;
            let Some(until) = trackers.iter().map(|t| self.trackers[*t].future_limit(now)).max() else { continue };
            let Some(last) = state.last_window(until) else { continue };
            let input = self.before_operator(&at, operator);
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

    /// Whether `close_windows` would emit anything.
    pub(crate) fn would_close(&self, now: EventTime) -> bool {
        let limit = |operator: usize| {
            let trackers = &self.plan.nodes[self.plan.operators[operator].node].trackers;
            trackers.iter().map(|t| self.trackers[*t].future_limit(now)).max()
        };
        let open = |i: usize| limit(i).is_some_and(|until| self.operators[i].last_window(until).is_some());
        (0..self.operators.len()).any(open)
    }

    /// Whether ending an epoch now, without new rows, would emit anything.
    pub(crate) fn would_emit(&self, is_idle: &dyn Fn(&Tracker, &TopicPartition) -> bool, now: EventTime) -> bool {
        let advanced = |t: &Tracker| {
            let mut copy = t.clone();
            copy.advance(|p| is_idle(t, p), now);
            Level::of(&copy)
        };
        let after = self.watermarks(&self.trackers.iter().map(advanced).collect::<Vec<_>>());
        let due = |operator: usize| {
            let input = self.before_operator(&after, operator);
            self.operators[operator].would_emit(input)
        };
        (0..self.operators.len()).any(due)
    }

    /// About the bytes of rows and state in memory.
    pub(crate) fn memory(&self) -> usize {
        self.operators.iter().map(|o| o.memory()).sum()
    }

    /// Sets the bytes that the rows of one epoch may take in memory.
    pub(crate) fn limit(&mut self, bytes: usize) {
        self.operators.iter_mut().for_each(|o| o.limit(bytes));
    }

    /// Moves state to disk until it takes no more than `limit` bytes. If state cannot be moved, this is an error, because
    /// otherwise the process would end.
    pub(crate) fn keep_within(&mut self, limit: usize) -> Result<()> {
        let mut sizes: Vec<(usize, usize)> = self.operators.iter().map(|o| o.memory()).enumerate().collect();
        let total: usize = sizes.iter().map(|s| s.1).sum();
        // Joined tables already use a part of the limit. Their size was checked when they were read.
        let tables: usize = self.statics.iter().flatten().map(|h| h.table.memory()).sum();
        let limit = limit.saturating_sub(tables).max(limit / 8);
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
                "the state of '{}' takes {} KB of the {} KB that memory_limit allows, and this kind of state stays in memory. Raise memory_limit, or \
                 make the state smaller (a shorter within=, gap or delay).",
                self.plan.operators[operator].name.split('+').next().unwrap_or_default(),
                size >> 10,
                limit >> 10
            ))),
            _ => Ok(()),
        }
    }

    pub(crate) fn take_counts(&mut self) -> EpochCounts {
        let fresh = self.no_counts();
        std::mem::replace(&mut self.counts, fresh)
    }

    /// Counts of zero. Each rule has an entry, also a rule that will see no row.
    fn no_counts(&self) -> EpochCounts {
        let mut counts = EpochCounts::new(self.operators.len());
        for (node, silent) in self.plan.nodes.iter().zip(&self.silent) {
            let Step::Expect(set) = &node.step else { continue };
            for rule in set.rules.iter().filter(|_| !silent) {
                let key = (node.dataset.clone(), rule.name.clone());
                counts.rules.insert(key, (rule.action, Counts::default()));
            }
        }
        counts
    }
}
