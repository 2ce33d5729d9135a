//! Streams to a plan: each step once, however many tables share it.

use super::source::{KafkaSource, MessagesSource, OnMalformed, RowsSource};
use super::stream::{Op, Stream};
use crate::expect::{Rule, RuleSet};
use crate::position::Topic;
use crate::sink::delta::OutputMode;
use crate::transform::{Filter, Project};
use crate::window::{AggregateSpec, Emit, WatermarkSpec};
use crate::{Error, Result};
use arrow::datatypes::SchemaRef;
use std::collections::HashMap;
use std::sync::Arc;

/// One result that is wanted of a plan.
#[derive(Clone)]
pub struct Target {
    pub name: Arc<str>,
    pub stream: Stream,
    pub mode: OutputMode,
}

pub enum Step {
    Kafka(Arc<KafkaSource>),
    Messages(Arc<MessagesSource>),
    Rows(Arc<RowsSource>),
    Union(Vec<Vec<usize>>),
    Project(Arc<Project>),
    Filter(Arc<Filter>),
    Expect(RuleSet),
    Watermark { spec: WatermarkSpec, tracker: usize },
    Aggregate { spec: Arc<AggregateSpec>, emit: Emit, operator: usize, trackers: Vec<usize> },
}

pub struct PlanNode {
    pub step: Step,
    pub inputs: Vec<usize>,
    pub schema: SchemaRef,
    /// Under which name rules and rejects are reported.
    pub dataset: Arc<str>,
    pub on_malformed: Option<OnMalformed>,
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
    /// Names of the stateful operators.
    pub operators: Vec<String>,
}

/// Append unless the stream is an aggregate without a window.
pub fn default_mode(stream: &Stream) -> OutputMode {
    match stream.aggregate_node() {
        Some((spec, _)) if spec.window.is_none() => OutputMode::Complete,
        _ => OutputMode::Append,
    }
}

pub fn parse_mode(text: Option<&str>, stream: &Stream) -> Result<OutputMode> {
    let mode = match text {
        None => default_mode(stream),
        Some("append") => OutputMode::Append,
        Some("complete") => OutputMode::Complete,
        Some("update") => {
            return Err(Error::config(
                "output_mode=\"update\" is not in this version; use \"append\" (windows when closed) or \"complete\"",
            ));
        }
        Some("overwrite") => {
            return Err(Error::config(
                "output_mode=\"overwrite\" is no output mode. To replace the whole result each time: \"complete\".",
            ));
        }
        Some(other) => {
            let hint = crate::error::did_you_mean(other, ["append", "complete", "update"]);
            return Err(Error::config(format!("output_mode='{other}' is no output mode.{hint}")));
        }
    };
    check_mode(mode, stream)?;
    Ok(mode)
}

fn check_mode(mode: OutputMode, stream: &Stream) -> Result<()> {
    match (mode, stream.aggregate_node()) {
        (OutputMode::Append, Some((spec, input))) => match &spec.window {
            None => Err(Error::config(
                "output_mode=\"append\" needs a window: a running aggregate changes with every row. Use output_mode=\"complete\".",
            )),
            Some((w, _)) if input.0.event_time.is_none() => Err(Error::config(format!(
                "a window is appended when it closes, and only a watermark tells when: put with_watermark(\"{}\", \"10 seconds\") before \
                 group_by, or use output_mode=\"complete\".",
                w.column
            ))),
            Some(_) => Ok(()),
        },
        (OutputMode::Complete, None) => Err(Error::config(
            "output_mode=\"complete\" needs an aggregation; rows are appended (output_mode=\"append\")",
        )),
        _ => Ok(()),
    }
}

struct Builder<'a> {
    plan: Plan,
    /// By the stream's id and the mode, which only matters above an aggregate.
    made: HashMap<(String, Option<OutputMode>), usize>,
    trackers: HashMap<String, usize>,
    users: HashMap<String, usize>,
    names: HashMap<String, Arc<str>>,
    target: &'a Target,
}

impl Plan {
    pub fn new(targets: Vec<Target>) -> Result<Self> {
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
            trackers: HashMap::new(),
            users: HashMap::new(),
            names: HashMap::new(),
            target: first,
        };
        let mut seen = std::collections::HashSet::new();
        for t in &targets {
            check_mode(t.mode, &t.stream).map_err(|e| e.context(format!("table '{}'", t.name)))?;
            *b.users.entry(t.stream.id().into()).or_default() += 1;
            b.count_users(&t.stream, &mut seen);
        }
        // Names given with .named() win over those of tables.
        for t in &targets {
            b.name_steps(&t.stream, None);
        }
        for t in &targets {
            b.name_steps(&t.stream, Some(&t.name));
        }
        for t in &targets {
            b.target = t;
            let node = b.build(&t.stream)?;
            b.plan.outputs.push(node);
        }
        Ok(b.plan)
    }

    /// The stateful operators that a target's rows come from.
    pub fn operators_of(&self, target: usize) -> Vec<usize> {
        let mut found = vec![];
        let mut ahead = vec![self.outputs[target]];
        while let Some(node) = ahead.pop() {
            if let Step::Aggregate { operator, .. } = &self.nodes[node].step {
                found.push(*operator);
            }
            ahead.extend(&self.nodes[node].inputs);
        }
        found
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

    fn build(&mut self, stream: &Stream) -> Result<usize> {
        let mode = stream.has_aggregate().then_some(self.target.mode);
        let key = (stream.id().to_string(), mode);
        if let Some(node) = self.made.get(&key) {
            return Ok(*node);
        }
        let node = self.build_new(stream)?;
        self.made.insert(key, node);
        Ok(node)
    }

    fn build_new(&mut self, stream: &Stream) -> Result<usize> {
        let inputs: Vec<usize> = match &stream.0.op {
            Op::Expect(_) => vec![],
            _ => stream.0.inputs.iter().map(|i| self.build(i)).collect::<Result<_>>()?,
        };
        let step = match &stream.0.op {
            Op::Kafka(s) => Step::Kafka(s.clone()),
            Op::Messages(s) => Step::Messages(s.clone()),
            Op::Rows(s) => Step::Rows(s.clone()),
            Op::Named(_) => return Ok(inputs[0]),
            Op::Project(p, _) => Step::Project(p.clone()),
            Op::Filter(f) => Step::Filter(f.clone()),
            Op::Union => {
                let columns = |i: &Stream| -> Result<Vec<usize>> {
                    stream.schema().fields().iter().map(|f| crate::expr::resolve_column(f.name(), i.schema())).collect()
                };
                Step::Union(stream.0.inputs.iter().map(columns).collect::<Result<_>>()?)
            }
            Op::Expect(rule) => return self.build_rules(stream, rule),
            Op::Watermark(spec) => {
                let topics: Vec<String> = stream
                    .kafka_sources()
                    .iter()
                    .flat_map(|s| s.topics.iter().map(|t| t.to_string()).collect::<Vec<_>>())
                    .collect();
                let mut name = format!("{}@{}", spec.column, topics.join("+"));
                while self.plan.trackers.iter().any(|(n, _)| *n == name) {
                    name.push('\'');
                }
                let tracker = self.plan.trackers.len();
                self.plan.trackers.push((name, spec.clone()));
                self.plan.tracker_topics.push(topics.iter().map(Topic::new).collect());
                self.trackers.insert(stream.id().into(), tracker);
                Step::Watermark { spec: spec.clone(), tracker }
            }
            Op::Aggregate(spec) => {
                let emit = match self.target.mode {
                    OutputMode::Append => Emit::OnClose,
                    OutputMode::Complete => Emit::Complete,
                };
                let upstream = stream.0.inputs[0].0.event_time.as_ref();
                let trackers = upstream
                    .map_or(vec![], |e| e.trackers.iter().filter_map(|t| self.trackers.get(t).copied()).collect());
                let operator = self.plan.operators.len();
                self.plan.operators.push(self.target.name.to_string());
                Step::Aggregate { spec: spec.clone(), emit, operator, trackers }
            }
        };
        Ok(self.push(stream, step, inputs))
    }

    /// Adjacent expectations are one set, unless somebody uses the rows in between.
    fn build_rules(&mut self, stream: &Stream, rule: &Arc<Rule>) -> Result<usize> {
        let mut rules = vec![(**rule).clone()];
        let mut at = &stream.0.inputs[0];
        while let Op::Expect(r) = &at.0.op
            && self.users.get(at.id()).copied().unwrap_or_default() <= 1
        {
            rules.push((**r).clone());
            at = &at.0.inputs[0];
        }
        rules.reverse();
        let input = self.build(at)?;
        Ok(self.push(stream, Step::Expect(RuleSet { rules }), vec![input]))
    }

    fn push(&mut self, stream: &Stream, step: Step, inputs: Vec<usize>) -> usize {
        let dataset = self.names.get(stream.id()).cloned().unwrap_or_else(|| self.target.name.clone());
        let on_malformed = match &step {
            Step::Kafka(s) => s.on_malformed,
            Step::Messages(s) => s.on_malformed,
            _ => inputs.first().and_then(|i| self.plan.nodes[*i].on_malformed),
        };
        self.plan.nodes.push(PlanNode { step, inputs, schema: stream.schema().clone(), dataset, on_malformed });
        self.plan.nodes.len() - 1
    }
}
