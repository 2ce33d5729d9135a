//! Streams to a plan: each step once, however many tables share it.

use super::source::{KafkaSource, MessagesSource, OnMalformed, RowsSource};
use super::statics::StaticJoin;
use super::stream::{Op, Stream};
use crate::expect::{Rule, RuleSet};
use crate::position::Topic;
use crate::sink::delta::OutputMode;
use crate::state::Stateful;
use crate::time::Watermark;
use crate::transform::map::MapBatches;
use crate::transform::{DeduplicateSpec, Deduplicator, Filter, IntervalJoin, IntervalJoinSpec, Project};
use crate::window::{self, AggregateSpec, Emit, WatermarkSpec};
use crate::{Error, Result};
use arrow::datatypes::SchemaRef;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;

/// One result that is wanted of a plan.
#[derive(Clone)]
pub struct Target {
    pub name: Arc<str>,
    pub stream: Stream,
    pub mode: OutputMode,
    /// Its operators are its own also where another table has the same: the other began elsewhere.
    pub apart: bool,
}

pub enum Step {
    Kafka(Arc<KafkaSource>),
    Messages(Arc<MessagesSource>),
    Rows(Arc<RowsSource>),
    Union(Vec<Vec<usize>>),
    Project(Arc<Project>),
    Filter(Arc<Filter>),
    Map(Arc<MapBatches>),
    StaticJoin(Arc<StaticJoin>),
    Expect(RuleSet),
    /// What the table of this name takes.
    Table(Arc<str>),
    Watermark {
        spec: WatermarkSpec,
        tracker: usize,
    },
    Stateful {
        operator: usize,
    },
}

/// What a stateful step is.
#[derive(Clone)]
pub enum OperatorKind {
    Aggregate(Arc<AggregateSpec>, Emit),
    Deduplicate(Arc<DeduplicateSpec>),
    IntervalJoin(Arc<IntervalJoinSpec>),
}

impl OperatorKind {
    pub fn build(&self) -> Result<Box<dyn Stateful>> {
        match self {
            Self::Aggregate(spec, emit) => window::operator((**spec).clone(), *emit),
            Self::Deduplicate(spec) => Ok(Box::new(Deduplicator::new((**spec).clone())?)),
            Self::IntervalJoin(spec) => Ok(Box::new(IntervalJoin::new((**spec).clone())?)),
        }
    }

    /// How far event time has come in what it hands out.
    pub fn output_watermark(&self, input: Option<Watermark>) -> Option<Watermark> {
        match self {
            Self::Aggregate(..) | Self::Deduplicate(_) => input,
            Self::IntervalJoin(spec) => spec.output_watermark(input),
        }
    }

    fn mode(&self) -> String {
        match self {
            Self::Aggregate(_, emit) => format!("{emit:?}"),
            _ => String::new(),
        }
    }

    /// Whether it hands out all of its groups in each epoch.
    pub fn is_complete(&self) -> bool {
        matches!(self, Self::Aggregate(_, Emit::Complete))
    }

    pub fn why_late(&self) -> &'static str {
        match self {
            Self::Aggregate(..) => "its windows are closed",
            Self::Deduplicate(_) | Self::IntervalJoin(_) => "the watermark has passed it",
        }
    }

    /// Whether it waits for windows to close.
    pub fn waits(&self) -> bool {
        match self {
            Self::Aggregate(spec, emit) => spec.is_windowed() && *emit == Emit::OnClose,
            Self::Deduplicate(_) | Self::IntervalJoin(_) => false,
        }
    }
}

pub struct Operator {
    /// As seals call its state: the table that it was first made for, and a hash of the steps that lead to it.
    pub name: String,
    /// The stateful steps that lead to it, without the others: those may change between runs.
    pub signature: String,
    pub node: usize,
    pub kind: OperatorKind,
}

pub struct PlanNode {
    pub step: Step,
    pub inputs: Vec<usize>,
    pub schema: SchemaRef,
    /// Under which name rules and rejects are reported.
    pub dataset: Arc<str>,
    /// The stream's id.
    pub stream: String,
    pub on_malformed: Option<OnMalformed>,
    /// The watermarks that it lies behind.
    pub trackers: Vec<usize>,
}

pub struct Plan {
    /// Inputs before their users.
    pub nodes: Vec<PlanNode>,
    /// For each target its node.
    pub outputs: Vec<usize>,
    pub targets: Vec<Target>,
    /// Names of the watermarks, as the seals call them, with the topics that each covers.
    pub trackers: Vec<(String, WatermarkSpec)>,
    /// The topics that each watermark covers.
    pub tracker_topics: Vec<Vec<Topic>>,
    pub operators: Vec<Operator>,
}

/// Append unless the stream is an aggregate without a window.
pub fn default_mode(stream: &Stream) -> OutputMode {
    match stream.top_aggregate() {
        Some((spec, _)) if !spec.is_windowed() => OutputMode::Complete,
        _ => OutputMode::Append,
    }
}

pub fn parse_mode(text: Option<&str>, stream: &Stream) -> Result<OutputMode> {
    let mode = match text {
        None => default_mode(stream),
        Some("overwrite") => {
            return Err(Error::config(
                "output_mode=\"overwrite\" is no output mode. To replace the whole result each time: \"complete\".",
            ));
        }
        Some("upsert" | "merge") => {
            return Err(Error::config("to merge changed groups into the table by their keys: output_mode=\"update\""));
        }
        Some(other) => OutputMode::parse(other).ok_or_else(|| {
            let hint = crate::error::did_you_mean(other, ["append", "complete", "update"]);
            Error::config(format!("output_mode='{other}' is no output mode.{hint}"))
        })?,
    };
    check_mode(mode, stream)?;
    Ok(mode)
}

fn emit(mode: OutputMode) -> Emit {
    match mode {
        OutputMode::Append => Emit::OnClose,
        OutputMode::Update => Emit::Update,
        OutputMode::Complete => Emit::Complete,
    }
}

fn check_mode(mode: OutputMode, stream: &Stream) -> Result<()> {
    if mode == OutputMode::Append {
        return check_append(stream);
    }
    let name = mode.name();
    let Some((spec, _)) = stream.top_aggregate() else {
        return Err(Error::config(format!(
            "output_mode=\"{name}\" needs an aggregation as its last step but for row by row ones; rows are appended (output_mode=\"append\")"
        )));
    };
    if spec.aggregation.has_functions() {
        return Err(Error::config(format!(
            "output_mode=\"{name}\": a Python aggregate is computed once, when its window is closed: use output_mode=\"append\""
        )));
    }
    if mode == OutputMode::Update {
        stream.merge_columns()?;
    }
    Ok(())
}

/// What is appended must be final: each aggregate in the stream needs a window and a watermark that closes it.
fn check_append(stream: &Stream) -> Result<()> {
    if let Op::Aggregate(spec) = &stream.0.op {
        match spec.window_column() {
            None => {
                return Err(Error::config(
                    "output_mode=\"append\" needs a window: a running aggregate changes with every row. Use output_mode=\"complete\", or \"update\".",
                ));
            }
            Some(column) if stream.0.inputs[0].0.event_time.is_none() => {
                return Err(Error::config(format!(
                    "a window is appended when it closes, and only a watermark tells when: put with_watermark(\"{column}\", \"10 seconds\") \
                     before group_by, or use output_mode=\"complete\" or \"update\"."
                )));
            }
            Some(_) => {}
        }
    }
    stream.0.inputs.iter().try_for_each(check_append)
}

struct Builder<'a> {
    plan: Plan,
    /// By the stream's id and what its aggregate hands out, where it has one.
    made: HashMap<(String, Option<Emit>, Option<Arc<str>>), usize>,
    users: HashMap<String, usize>,
    names: HashMap<String, Arc<str>>,
    /// Those of `names` that were given with .named().
    named: std::collections::HashSet<String>,
    target: &'a Target,
}

impl Plan {
    pub fn new(targets: Vec<Target>) -> Result<Self> {
        Self::beside(targets, &[])
    }

    /// A plan whose steps are those that it would have together with `others`.
    pub fn beside(targets: Vec<Target>, others: &[Target]) -> Result<Self> {
        let Some(first) = targets.first() else { return Err(Error::config("there is no table to write")) };
        let mut b = Builder {
            plan: Plan {
                nodes: vec![],
                outputs: vec![],
                targets: targets.clone(),
                trackers: vec![],
                tracker_topics: vec![],
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
    pub fn operators_of(&self, target: usize) -> Vec<usize> {
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

    /// The watermarks that a target's rows lie behind.
    pub fn trackers_of(&self, target: usize) -> &[usize] {
        &self.nodes[self.outputs[target]].trackers
    }

    /// The last stateful operator that a target's rows come from.
    pub fn top_operator(&self, target: usize) -> Option<usize> {
        let mut node = self.outputs[target];
        loop {
            if let Step::Stateful { operator } = &self.nodes[node].step {
                return Some(*operator);
            }
            node = *self.nodes[node].inputs.first()?;
        }
    }

    pub fn kafka_sources(&self) -> Vec<Arc<KafkaSource>> {
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
        // What lies below an aggregate hands out only what is final.
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
            Op::Project(p, _) => Step::Project(p.clone()),
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
                let topics: Vec<String> = stream
                    .kafka_sources()
                    .iter()
                    .flat_map(|s| s.topics.iter().map(|t| t.to_string()).collect::<Vec<_>>())
                    .collect();
                // By what it is, never by where it stands in the plan: tables come, go and change places.
                let after = crate::time::format_duration(spec.delay);
                let mut name = format!("{}@{} after {after}", spec.column, topics.join("+"));
                while self.plan.trackers.iter().any(|(n, _)| *n == name) {
                    name.push('\'');
                }
                let tracker = self.plan.trackers.len();
                self.plan.trackers.push((name, spec.clone()));
                self.plan.tracker_topics.push(topics.iter().map(Topic::new).collect());
                Step::Watermark { spec: spec.clone(), tracker }
            }
            Op::Aggregate(spec) => self.operator(stream, OperatorKind::Aggregate(spec.clone(), emit)),
        };
        Ok(self.push(stream, step, inputs))
    }

    /// A stateful step; its node is the next one. Its name says whose it is and, by a hash of the steps that lead to it, which
    /// of that table's: it does not depend on the plan around it.
    fn operator(&mut self, stream: &Stream, kind: OperatorKind) -> Step {
        let steps = format!("{:?} {}", stream.identities(), kind.mode());
        let hash: String = Sha256::digest(steps.as_bytes()).iter().take(4).map(|b| format!("{b:02x}")).collect();
        // '+' stands in no table's name.
        let mut name = format!("{}+{hash}", self.target.name);
        while self.plan.operators.iter().any(|o| o.name == name) {
            name.push('x');
        }
        let operator = self.plan.operators.len();
        let signature = stream.signature();
        self.plan.operators.push(Operator { name, signature, node: self.plan.nodes.len(), kind });
        Step::Stateful { operator }
    }

    /// Adjacent expectations are one set, unless somebody uses the rows in between.
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
