//! Streams to a plan: each step once, however many tables share it.

use crate::expect::{Rule, RuleSet};
use crate::flow::identity;
use crate::flow::mode::check_mode;
use crate::flow::source::{KafkaSource, MessagesSource, OnMalformed, RowsSource};
use crate::flow::static_join::StaticJoin;
use crate::flow::stream::{DecodeColumn, Op, Stream};
use crate::sink::OutputMode;
use crate::state::Stateful;
use crate::time::Watermark;
use crate::transform::map::MapBatches;
use crate::transform::{DeduplicateSpec, Deduplicator, Explode, Filter, IntervalJoin, IntervalJoinSpec, Project};
use crate::window::{self, AggregateSpec, Emit, WatermarkSpec};
use crate::{Error, Result};
use arrow::datatypes::SchemaRef;
use std::collections::HashMap;
use std::sync::Arc;

/// One result that a plan must produce.
#[derive(Clone)]
pub(crate) struct Target {
    pub name: Arc<str>,
    pub stream: Stream,
    pub mode: OutputMode,
    /// The table does not share operators with tables that have the same steps, because it began at a different offset.
    pub apart: bool,
}

pub(crate) enum Step {
    Kafka(Arc<KafkaSource>),
    Messages(Arc<MessagesSource>),
    Rows(Arc<RowsSource>),
    Union(Vec<Vec<usize>>),
    Project(Arc<Project>),
    Explode(Arc<Explode>),
    Decode(Arc<DecodeColumn>),
    Filter(Arc<Filter>),
    Map(Arc<MapBatches>),
    StaticJoin(Arc<StaticJoin>),
    Expect(RuleSet),
    /// The rows that the table of this name accepts.
    Table(Arc<str>),
    Watermark {
        tracker: usize,
    },
    Stateful {
        operator: usize,
    },
}

/// The kind of a stateful step.
#[derive(Clone)]
pub(crate) enum OperatorKind {
    Aggregate(Arc<AggregateSpec>, Emit),
    Deduplicate(Arc<DeduplicateSpec>),
    IntervalJoin(Arc<IntervalJoinSpec>),
}

impl OperatorKind {
    pub(crate) fn build(&self) -> Result<Box<dyn Stateful>> {
        match self {
            Self::Aggregate(spec, emit) => window::operator((**spec).clone(), *emit),
            Self::Deduplicate(spec) => Ok(Box::new(Deduplicator::new((**spec).clone())?)),
            Self::IntervalJoin(spec) => Ok(Box::new(IntervalJoin::new((**spec).clone())?)),
        }
    }

    /// The watermark of the rows that the operator emits.
    pub(crate) fn output_watermark(&self, input: Option<Watermark>) -> Option<Watermark> {
        match self {
            Self::Aggregate(..) | Self::Deduplicate(_) => input,
            Self::IntervalJoin(spec) => spec.output_watermark(input),
        }
    }

    /// When the operator emits groups. None for operators without groups.
    fn emit(&self) -> Option<Emit> {
        match self {
            Self::Aggregate(_, emit) => Some(*emit),
            _ => None,
        }
    }

    /// Whether the operator emits all of its groups in each epoch.
    pub(crate) fn is_complete(&self) -> bool {
        matches!(self, Self::Aggregate(_, Emit::Complete))
    }

    pub(crate) fn why_late(&self) -> &'static str {
        match self {
            Self::Aggregate(..) => "its windows are closed",
            Self::Deduplicate(_) | Self::IntervalJoin(_) => "the watermark has passed it",
        }
    }

    /// Whether the operator waits for windows to close.
    pub(crate) fn waits(&self) -> bool {
        match self {
            Self::Aggregate(spec, emit) => spec.is_windowed() && *emit == Emit::OnClose,
            Self::Deduplicate(_) | Self::IntervalJoin(_) => false,
        }
    }
}

pub(crate) struct Operator {
    /// The name of the operator's state in seals.
    pub name: String,
    /// The name in seals of older versions.
    pub name_before: String,
    /// The stateful steps that lead to the operator.
    pub signature: String,
    pub node: usize,
    pub kind: OperatorKind,
}

pub(crate) struct PlanNode {
    pub step: Step,
    pub inputs: Vec<usize>,
    pub schema: SchemaRef,
    /// The name under which rules and rejects are reported.
    pub dataset: Arc<str>,
    /// The stream's id.
    pub stream: String,
    pub on_malformed: Option<OnMalformed>,
    /// The watermarks upstream of this node.
    pub trackers: Vec<usize>,
}

pub(crate) struct Plan {
    /// Inputs before their users.
    pub nodes: Vec<PlanNode>,
    /// For each target, the index of its node.
    pub outputs: Vec<usize>,
    pub targets: Vec<Target>,
    /// The watermarks, each with its name in seals.
    pub trackers: Vec<(String, WatermarkSpec)>,
    /// The topics that each watermark covers.
    pub tracker_sources: Vec<Vec<Arc<KafkaSource>>>,
    pub operators: Vec<Operator>,
}

fn emit(mode: OutputMode) -> Emit {
    match mode {
        OutputMode::Append => Emit::OnClose,
        OutputMode::Update => Emit::Update,
        OutputMode::Complete => Emit::Complete,
    }
}

struct Builder<'a> {
    plan: Plan,
    /// By the stream's id and, if the stream has an aggregate, the time at which the aggregate emits groups.
    made: HashMap<(String, Option<Emit>, Option<Arc<str>>), usize>,
    users: HashMap<String, usize>,
    names: HashMap<String, Arc<str>>,
    /// The names among `names` that were given with .named().
    named: std::collections::HashSet<String>,
    target: &'a Target,
}

impl Plan {
    pub(crate) fn new(targets: Vec<Target>) -> Result<Self> {
        Self::beside(targets, &[])
    }

    /// A plan with the same steps as a plan of these targets together with `others`.
    pub(crate) fn beside(targets: Vec<Target>, others: &[Target]) -> Result<Self> {
        let Some(first) = targets.first() else { return Err(Error::config("there is no table to write")) };
        let mut b = Builder {
            plan: Plan {
                nodes: vec![],
                outputs: vec![],
                targets: targets.clone(),
                trackers: vec![],
                tracker_sources: vec![],
                operators: vec![],
            },
            made: HashMap::new(),
            users: HashMap::new(),
            names: HashMap::new(),
            named: std::collections::HashSet::new(),
            target: first,
        };
        let mut seen = std::collections::HashSet::new();
        for t in &targets {
            check_mode(t.mode, &t.stream).map_err(|e| e.context(format!("table '{}'", t.name)))?;
            *b.users.entry(t.stream.id().into()).or_default() += 1;
            b.count_users(&t.stream, &mut seen);
        }
        for t in others {
            *b.users.entry(t.stream.id().into()).or_default() += 1;
            b.count_users(&t.stream, &mut seen);
        }
        // Names given with .named() win over those of tables.
        for t in &targets {
            b.name_steps(&t.stream, None);
        }
        b.named = b.names.keys().cloned().collect();
        for t in &targets {
            b.name_steps(&t.stream, Some(&t.name));
        }
        for t in &targets {
            b.target = t;
            let node = b.build(&t.stream, emit(t.mode))?;
            b.plan.outputs.push(node);
        }
        Ok(b.plan)
    }

    /// The stateful operators that a target's rows come from.
    pub(crate) fn operators_of(&self, target: usize) -> Vec<usize> {
        let mut found = vec![];
        let mut ahead = vec![self.outputs[target]];
        while let Some(node) = ahead.pop() {
            if let Step::Stateful { operator } = &self.nodes[node].step {
                found.push(*operator);
            }
            ahead.extend(&self.nodes[node].inputs);
        }
        found
    }

    /// The watermarks upstream of a target's rows.
    pub(crate) fn trackers_of(&self, target: usize) -> &[usize] {
        &self.nodes[self.outputs[target]].trackers
    }

    /// The last stateful operator that a target's rows come from.
    pub(crate) fn top_operator(&self, target: usize) -> Option<usize> {
        let mut node = self.outputs[target];
        loop {
            if let Step::Stateful { operator } = &self.nodes[node].step {
                return Some(*operator);
            }
            node = *self.nodes[node].inputs.first()?;
        }
    }

    pub(crate) fn kafka_sources(&self) -> Vec<Arc<KafkaSource>> {
        self.nodes
            .iter()
            .filter_map(|n| match &n.step {
                Step::Kafka(s) => Some(s.clone()),
                _ => None,
            })
            .collect()
    }
}

impl Builder<'_> {
    fn count_users(&mut self, stream: &Stream, seen: &mut std::collections::HashSet<String>) {
        if !seen.insert(stream.id().into()) {
            return;
        }
        for input in &stream.0.inputs {
            *self.users.entry(input.id().into()).or_default() += 1;
            self.count_users(input, seen);
        }
    }

    fn name_steps(&mut self, stream: &Stream, name: Option<&Arc<str>>) {
        let own = match &stream.0.op {
            Op::Named(n) => Some(n.clone()),
            _ => None,
        };
        let name = own.as_ref().or(name);
        if let Some(name) = name {
            self.names.entry(stream.id().into()).or_insert_with(|| name.clone());
        }
        for input in &stream.0.inputs {
            // A name given further down stands for all steps up to the next name.
            self.name_steps(input, name);
        }
    }

    fn build(&mut self, stream: &Stream, emit: Emit) -> Result<usize> {
        let apart = (self.target.apart && stream.has_state()).then(|| self.target.name.clone());
        let key = (stream.id().to_string(), stream.has_aggregate().then_some(emit), apart);
        if let Some(node) = self.made.get(&key) {
            return Ok(*node);
        }
        let node = self.build_new(stream, emit)?;
        self.made.insert(key, node);
        Ok(node)
    }

    fn build_new(&mut self, stream: &Stream, emit: Emit) -> Result<usize> {
        // The steps below an aggregate emit only final rows.
        let below = if matches!(stream.0.op, Op::Aggregate(_)) { Emit::OnClose } else { emit };
        let inputs: Vec<usize> = match &stream.0.op {
            Op::Expect(_) => vec![],
            _ => stream.0.inputs.iter().map(|i| self.build(i, below)).collect::<Result<_>>()?,
        };
        let step = match &stream.0.op {
            Op::Kafka(s) => Step::Kafka(s.clone()),
            Op::Messages(s) => Step::Messages(s.clone()),
            Op::Rows(s) => Step::Rows(s.clone()),
            Op::Named(_) => return Ok(inputs[0]),
            Op::Table(name) => Step::Table(name.clone()),
            Op::Project(p) => Step::Project(p.clone()),
            Op::Explode(e) => Step::Explode(e.clone()),
            Op::Decode(d) => Step::Decode(d.clone()),
            Op::Filter(f) => Step::Filter(f.clone()),
            Op::Map(m) => Step::Map(m.clone()),
            Op::StaticJoin(j) => Step::StaticJoin(j.clone()),
            Op::Deduplicate(spec) => self.operator(stream, OperatorKind::Deduplicate(spec.clone())),
            Op::IntervalJoin(spec) => self.operator(stream, OperatorKind::IntervalJoin(spec.clone())),
            Op::Union => {
                let columns = |i: &Stream| -> Result<Vec<usize>> {
                    stream.schema().fields().iter().map(|f| crate::expr::resolve_column(f.name(), i.schema())).collect()
                };
                Step::Union(stream.0.inputs.iter().map(columns).collect::<Result<_>>()?)
            }
            Op::Expect(rule) => return self.build_rules(stream, rule, emit),
            Op::Watermark(spec) => {
                let sources = stream.kafka_sources();
                let topics: Vec<String> = sources.iter().flat_map(|s| s.topics.labels()).collect();
                let mut name = identity::watermark(spec, &topics);
                while self.plan.trackers.iter().any(|(n, _)| *n == name) {
                    name.push('\'');
                }
                let tracker = self.plan.trackers.len();
                self.plan.trackers.push((name, spec.clone()));
                self.plan.tracker_sources.push(sources);
                Step::Watermark { tracker }
            }
            Op::Aggregate(spec) => self.operator(stream, OperatorKind::Aggregate(spec.clone(), emit)),
        };
        Ok(self.push(stream, step, inputs))
    }

    /// A stateful step; its node is the next one.
    fn operator(&mut self, stream: &Stream, kind: OperatorKind) -> Step {
        let mut name = identity::operator(&self.target.name, stream, kind.emit());
        let mut name_before = identity::operator_before(&self.target.name, stream, kind.emit());
        while self.plan.operators.iter().any(|o| o.name == name) {
            name.push('x');
            name_before.push('x');
        }
        let operator = self.plan.operators.len();
        let signature = identity::signature(stream);
        self.plan.operators.push(Operator { name, name_before, signature, node: self.plan.nodes.len(), kind });
        Step::Stateful { operator }
    }

    /// Adjacent expectations are one set, unless a different step uses the rows in between.
    fn build_rules(&mut self, stream: &Stream, rule: &Arc<Rule>, emit: Emit) -> Result<usize> {
        let mut rules = vec![(**rule).clone()];
        let mut at = &stream.0.inputs[0];
        while let Op::Expect(r) = &at.0.op
            && self.users.get(at.id()).copied().unwrap_or_default() <= 1
        {
            rules.push((**r).clone());
            at = &at.0.inputs[0];
        }
        rules.reverse();
        let input = self.build(at, emit)?;
        Ok(self.push(stream, Step::Expect(RuleSet { rules }), vec![input]))
    }

    fn push(&mut self, stream: &Stream, step: Step, inputs: Vec<usize>) -> usize {
        // An aggregate has a node for each mode that it is written in, made for the first table of that mode.
        let apart = self.target.apart && stream.has_state();
        let own = (stream.has_aggregate() || apart) && !self.named.contains(stream.id());
        let known = self.names.get(stream.id()).filter(|_| !own);
        let dataset = known.unwrap_or(&self.target.name).clone();
        let on_malformed = match &step {
            Step::Kafka(s) => s.on_malformed,
            Step::Messages(s) => s.on_malformed,
            _ => inputs.first().and_then(|i| self.plan.nodes[*i].on_malformed),
        };
        let mut trackers: Vec<usize> = match &step {
            Step::Watermark { tracker, .. } => vec![*tracker],
            _ => inputs.iter().flat_map(|i| self.plan.nodes[*i].trackers.iter().copied()).collect(),
        };
        trackers.sort_unstable();
        trackers.dedup();
        let schema = stream.schema().clone();
        self.plan.nodes.push(PlanNode {
            step,
            inputs,
            schema,
            dataset,
            stream: stream.id().into(),
            on_malformed,
            trackers,
        });
        self.plan.nodes.len() - 1
    }
}
