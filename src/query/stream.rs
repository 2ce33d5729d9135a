//! A stream: an immutable, lazy description of where rows come from and what happens to them. Building one reads no
//! messages, and checks what can be checked when the line is typed.

use super::source::{KafkaSource, MessagesSource, RowsSource};
use crate::expect::{Action, Rule};
use crate::expr::{self, Bound, Dialect, GroupItem, bind_aggregation, bind_predicate, bind_select, resolve_column};
use crate::time::{format_duration, parse_duration};
use crate::transform::{Filter, Project};
use crate::window::{AggregateSpec, WatermarkSpec, WindowSpec};
use crate::{Error, Result};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
use sha2::{Digest, Sha256};
use std::sync::Arc;

#[derive(Clone)]
pub struct Stream(pub Arc<Node>);

pub struct Node {
    /// Equal for equal descriptions: equal streams built twice are one stream.
    pub id: String,
    pub op: Op,
    pub inputs: Vec<Stream>,
    pub schema: SchemaRef,
    pub event_time: Option<EventTimeColumn>,
}

/// The column that carries event time, and the watermarks upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct EventTimeColumn {
    pub column: String,
    /// Ids of the `with_watermark` nodes; the lowest watermark counts.
    pub trackers: Vec<String>,
}

#[derive(Clone)]
pub enum Op {
    Kafka(Arc<KafkaSource>),
    Messages(Arc<MessagesSource>),
    Rows(Arc<RowsSource>),
    Union,
    Project(Arc<Project>, String),
    Filter(Arc<Filter>),
    Expect(Arc<Rule>),
    Watermark(WatermarkSpec),
    Aggregate(Arc<AggregateSpec>),
    Named(Arc<str>),
}

fn timestamp(t: &DataType) -> bool {
    matches!(t, DataType::Timestamp(TimeUnit::Microsecond, Some(_)))
}

impl Stream {
    pub fn new(op: Op, inputs: Vec<Stream>, schema: SchemaRef, event_time: Option<EventTimeColumn>) -> Self {
        let mut hash = Sha256::new();
        hash.update(identity(&op));
        hash.update(expr::to_ddl(&schema));
        for input in &inputs {
            hash.update(&input.0.id);
        }
        let id = hash.finalize().iter().take(8).map(|b| format!("{b:02x}")).collect();
        Self(Arc::new(Node { id, op, inputs, schema, event_time }))
    }

    pub fn kafka(source: KafkaSource) -> Result<Self> {
        let schema = source.output_schema()?;
        Ok(Self::new(Op::Kafka(Arc::new(source)), vec![], schema, None))
    }
    pub fn messages(source: MessagesSource) -> Result<Self> {
        let schema = source.output_schema()?;
        Ok(Self::new(Op::Messages(Arc::new(source)), vec![], schema, None))
    }
    pub fn rows(source: RowsSource) -> Self {
        let schema = source.schema.clone();
        Self::new(Op::Rows(Arc::new(source)), vec![], schema, None)
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }
    pub fn id(&self) -> &str {
        &self.0.id
    }

    fn then(&self, op: Op, schema: SchemaRef, event_time: Option<EventTimeColumn>) -> Self {
        Self::new(op, vec![self.clone()], schema, event_time)
    }

    fn project(&self, columns: Vec<Bound>, label: String) -> Result<Self> {
        let project = Project::new(columns, self.schema());
        let schema = project.schema().clone();
        // Event time stays where its column goes through as it is.
        let event_time = self.0.event_time.as_ref().and_then(|e| {
            let old = self.schema().index_of(&e.column).ok()?;
            let new = project.columns.iter().find(|b| b.as_column() == Some(old))?;
            Some(EventTimeColumn { column: new.name.clone(), trackers: e.trackers.clone() })
        });
        Ok(self.then(Op::Project(Arc::new(project), label), schema, event_time))
    }

    pub fn select(&self, items: &[String], dialect: Dialect) -> Result<Self> {
        if items.is_empty() {
            return Err(Error::schema("select() needs at least one column or expression"));
        }
        let columns = bind_select(items, self.schema(), dialect)?;
        self.project(columns, format!("select {}", items.join(", ")))
    }

    /// Adds columns, or replaces those of the same name.
    pub fn with_columns(&self, items: &[String], dialect: Dialect) -> Result<Self> {
        let new = bind_select(items, self.schema(), dialect)?;
        let mut columns = bind_select(&["*".into()], self.schema(), dialect)?;
        for column in new {
            match columns.iter_mut().find(|c| c.name.eq_ignore_ascii_case(&column.name)) {
                Some(old) => *old = column,
                None => columns.push(column),
            }
        }
        self.project(columns, format!("with columns {}", items.join(", ")))
    }

    pub fn rename(&self, names: &[(String, String)]) -> Result<Self> {
        let mut columns = bind_select(&["*".into()], self.schema(), Dialect::default())?;
        for (old, new) in names {
            let i = resolve_column(old, self.schema())?;
            columns[i].name = new.clone();
        }
        for (i, c) in columns.iter().enumerate() {
            if columns[..i].iter().any(|d| d.name.eq_ignore_ascii_case(&c.name)) {
                return Err(Error::schema(format!("rename() makes two columns named '{}'", c.name)));
            }
        }
        let label: Vec<_> = names.iter().map(|(a, b)| format!("{a} to {b}")).collect();
        self.project(columns, format!("rename {}", label.join(", ")))
    }

    pub fn drop(&self, names: &[String]) -> Result<Self> {
        let gone = names.iter().map(|n| resolve_column(n, self.schema())).collect::<Result<Vec<_>>>()?;
        let columns = bind_select(&["*".into()], self.schema(), Dialect::default())?;
        let kept: Vec<_> = columns.into_iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, c)| c).collect();
        if kept.is_empty() {
            return Err(Error::schema("drop() leaves no column"));
        }
        self.project(kept, format!("drop {}", names.join(", ")))
    }

    pub fn filter(&self, condition: &str, dialect: Dialect) -> Result<Self> {
        let condition = bind_predicate(condition, self.schema(), dialect)?;
        Ok(self.then(Op::Filter(Arc::new(Filter { condition })), self.schema().clone(), self.0.event_time.clone()))
    }

    pub fn expect(&self, name: &str, condition: &str, action: Action, dialect: Dialect) -> Result<Self> {
        if name.trim().is_empty() {
            return Err(Error::config("an expectation needs a name"));
        }
        if self.adjacent_rules().any(|r| &*r.name == name) {
            return Err(Error::config(format!(
                "there is an expectation named '{name}' already; each needs a name of its own"
            )));
        }
        let condition = bind_predicate(condition, self.schema(), dialect)
            .map_err(|e| e.context(format!("expectation '{name}'")))?;
        let rule = Rule { name: name.into(), condition, action };
        Ok(self.then(Op::Expect(Arc::new(rule)), self.schema().clone(), self.0.event_time.clone()))
    }

    fn adjacent_rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        let mut at = Some(self);
        std::iter::from_fn(move || match at.map(|s| (&s.0.op, s)) {
            Some((Op::Expect(rule), s)) => {
                at = s.0.inputs.first();
                Some(rule)
            }
            _ => None,
        })
    }

    pub fn named(&self, name: &str) -> Result<Self> {
        check_name(name, "a stream")?;
        Ok(self.then(Op::Named(name.into()), self.schema().clone(), self.0.event_time.clone()))
    }

    pub fn name(&self) -> Option<&str> {
        match &self.0.op {
            Op::Named(name) => Some(name),
            _ => None,
        }
    }

    pub fn with_watermark(&self, spec: WatermarkSpec) -> Result<Self> {
        let index = resolve_column(&spec.column, self.schema())?;
        let field = self.schema().field(index);
        if !timestamp(field.data_type()) {
            return Err(Error::schema(format!(
                "with_watermark needs a TIMESTAMP column, and '{}' is {}. Convert it, as in with_columns(\"to_timestamp({}) AS {}\").",
                field.name(),
                expr::type_to_ddl(field.data_type()),
                field.name(),
                field.name()
            )));
        }
        if self.0.event_time.is_some() {
            return Err(Error::config("this stream has a watermark already; a stream has one event time"));
        }
        if self.has_aggregate() {
            return Err(Error::config("with_watermark belongs before the aggregation"));
        }
        let column = field.name().clone();
        let spec = WatermarkSpec { column: column.clone(), ..spec };
        let made = self.then(Op::Watermark(spec), self.schema().clone(), None);
        let event_time = EventTimeColumn { column, trackers: vec![made.0.id.clone()] };
        let Node { id, op, inputs, schema, .. } = &*made.0;
        Ok(Self(Arc::new(Node {
            id: id.clone(),
            op: op.clone(),
            inputs: inputs.clone(),
            schema: schema.clone(),
            event_time: Some(event_time),
        })))
    }

    pub fn aggregate(
        &self,
        window: Option<WindowSpec>,
        keys: &[String],
        aggregates: &[(Option<String>, String)],
        dialect: Dialect,
    ) -> Result<Self> {
        if self.has_aggregate() {
            return Err(Error::config(
                "this stream is aggregated already; an aggregate over aggregates needs a second query over the first one's table",
            ));
        }
        if aggregates.is_empty() {
            return Err(Error::schema("agg() needs at least one aggregate, as in agg(\"count(*) AS n\")"));
        }
        let mut window = window;
        let mut bound = vec![];
        for key in keys {
            match expr::parse_group_item(key, self.schema(), dialect)? {
                GroupItem::Key(b) => bound.push(b),
                GroupItem::Window { column, size, slide, offset } if window.is_none() => {
                    window = Some(WindowSpec::new(&column, &size, slide.as_deref(), offset.as_deref())?);
                }
                GroupItem::Window { .. } => return Err(Error::config("group_by takes one window")),
                GroupItem::Session { .. } => {
                    return Err(Error::config("session windows are not in this version; use window(column, size)"));
                }
            }
        }
        let window = match window {
            None => None,
            Some(w) => {
                let index = resolve_column(&w.column, self.schema())?;
                let field = self.schema().field(index);
                if !timestamp(field.data_type()) {
                    return Err(Error::schema(format!(
                        "window() needs a TIMESTAMP column, and '{}' is {}",
                        field.name(),
                        expr::type_to_ddl(field.data_type())
                    )));
                }
                if let Some(e) = &self.0.event_time
                    && e.column != *field.name()
                {
                    return Err(Error::config(format!(
                        "the window is over '{}' and the watermark over '{}'; both must be over one column",
                        field.name(),
                        e.column
                    )));
                }
                Some((WindowSpec { column: field.name().clone(), ..w }, index))
            }
        };
        let aggregation = bind_aggregation(aggregates, self.schema(), dialect)?;
        let spec = AggregateSpec::new(window, bound, aggregation)?;
        let schema = spec.schema.clone();
        Ok(self.then(Op::Aggregate(Arc::new(spec)), schema, None))
    }

    pub fn union(&self, other: &Stream) -> Result<Self> {
        if self.has_aggregate() || other.has_aggregate() {
            return Err(Error::config("union() joins rows, not aggregates: union the streams first, then group_by"));
        }
        let (a, b) = (self.schema(), other.schema());
        let mut fields = vec![];
        for field in a.fields() {
            let i = resolve_column(field.name(), b).map_err(|e| e.context("union"))?;
            let theirs = b.field(i);
            if theirs.data_type() != field.data_type() {
                return Err(Error::schema(format!(
                    "union: column '{}' is {} in the first stream and {} in the second",
                    field.name(),
                    expr::type_to_ddl(field.data_type()),
                    expr::type_to_ddl(theirs.data_type())
                )));
            }
            fields.push(field.as_ref().clone().with_nullable(field.is_nullable() || theirs.is_nullable()));
        }
        if let Some(extra) = b.fields().iter().find(|f| resolve_column(f.name(), a).is_err()) {
            return Err(Error::schema(format!(
                "union: the second stream has a column '{}' that the first has not",
                extra.name()
            )));
        }
        let event_time = match (&self.0.event_time, &other.0.event_time) {
            (Some(x), Some(y)) if x.column.eq_ignore_ascii_case(&y.column) => Some(EventTimeColumn {
                column: x.column.clone(),
                trackers: x.trackers.iter().chain(&y.trackers).cloned().collect(),
            }),
            _ => None,
        };
        Ok(Self::new(Op::Union, vec![self.clone(), other.clone()], Arc::new(Schema::new(fields)), event_time))
    }

    pub fn has_aggregate(&self) -> bool {
        matches!(self.0.op, Op::Aggregate(_)) || self.0.inputs.iter().any(Stream::has_aggregate)
    }

    /// The aggregation's input, if the stream is an aggregate.
    pub fn aggregate_node(&self) -> Option<(&Arc<AggregateSpec>, &Stream)> {
        match &self.0.op {
            Op::Aggregate(spec) => Some((spec, &self.0.inputs[0])),
            _ => self.0.inputs.iter().find_map(Stream::aggregate_node),
        }
    }

    pub fn kafka_sources(&self) -> Vec<Arc<KafkaSource>> {
        match &self.0.op {
            Op::Kafka(s) => vec![s.clone()],
            _ => self.0.inputs.iter().flat_map(Stream::kafka_sources).collect(),
        }
    }

    pub fn rules(&self) -> Vec<Arc<Rule>> {
        let mut out: Vec<_> = self.0.inputs.iter().flat_map(Stream::rules).collect();
        if let Op::Expect(r) = &self.0.op {
            out.push(r.clone());
        }
        out
    }

    /// One line per step, source first.
    pub fn steps(&self) -> Vec<String> {
        let mut out: Vec<String> = vec![];
        for (i, input) in self.0.inputs.iter().enumerate() {
            if i > 0 {
                out.push("union with".into());
            }
            out.extend(input.steps());
        }
        match &self.0.op {
            Op::Union => {}
            other => out.push(describe(other)),
        }
        out
    }
}

pub fn check_name(name: &str, what: &str) -> Result<()> {
    let good = !name.is_empty()
        && name.len() <= 200
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
        && !name.starts_with(['.', '_']);
    if good {
        return Ok(());
    }
    Err(Error::config(format!(
        "'{name}' cannot name {what}: use letters, digits, '_', '-' and '.', and start with a letter or digit"
    )))
}

fn describe(op: &Op) -> String {
    match op {
        Op::Kafka(s) => s.describe(),
        Op::Messages(s) => format!("{} messages at hand", s.messages.len()),
        Op::Rows(s) => format!("{} rows at hand", s.batches.iter().map(|b| b.num_rows()).sum::<usize>()),
        Op::Union => "union".into(),
        Op::Project(_, label) => label.clone(),
        Op::Filter(f) => format!("where {}", f.condition.sql),
        Op::Expect(r) => format!("expect '{}': {} (else {})", r.name, r.condition.sql, r.action.name()),
        Op::Watermark(w) => format!("watermark {} after {}", w.column, format_duration(w.delay)),
        Op::Aggregate(a) => {
            let mut by: Vec<String> = vec![];
            if let Some((w, _)) = &a.window {
                let size = format_duration(std::time::Duration::from_micros(w.size as u64));
                by.push(match w.is_tumbling() {
                    true => format!("window({}, {size})", w.column),
                    false => format!(
                        "window({}, {size}, {})",
                        w.column,
                        format_duration(std::time::Duration::from_micros(w.slide as u64))
                    ),
                });
            }
            by.extend(a.keys.iter().map(|k| k.sql.clone()));
            let aggregates: Vec<_> = a.aggregation.outputs().iter().map(|f| f.name().clone()).collect();
            let by = if by.is_empty() { "everything".into() } else { by.join(", ") };
            format!("aggregate by {by}: {}", aggregates.join(", "))
        }
        Op::Named(name) => format!("named {name}"),
    }
}

/// All that tells two steps apart.
fn identity(op: &Op) -> String {
    match op {
        Op::Kafka(s) => s.identity(),
        Op::Messages(s) => format!("messages {:p}", Arc::as_ptr(&s.messages)),
        Op::Rows(s) => format!("rows {}", s.id),
        Op::Project(p, _) => format!("project {:?}", p.columns.iter().map(|c| (&c.name, &c.sql)).collect::<Vec<_>>()),
        Op::Filter(f) => format!("where {}", f.condition.sql),
        Op::Expect(r) => format!("expect {:?} {:?} {:?}", r.name, r.condition.sql, r.action),
        Op::Watermark(w) => format!("watermark {w:?}"),
        Op::Aggregate(a) => format!("aggregate {} {:?}", a.description(), a.schema),
        Op::Union | Op::Named(_) => describe(op),
    }
}

/// "10 seconds" and the like for watermarks.
pub fn watermark_spec(
    column: &str,
    delay: &str,
    idle_timeout: &str,
    max_future: &str,
    late: &str,
) -> Result<WatermarkSpec> {
    let read = |what: &str, text: &str| parse_duration(text).map_err(|e| Error::config(format!("{what}: {e}")));
    let quarantine_late = match late {
        "quarantine" => true,
        "drop" => false,
        other => return Err(Error::config(format!("late='{other}': use \"quarantine\" or \"drop\""))),
    };
    Ok(WatermarkSpec {
        column: column.into(),
        delay: read("delay", delay)?,
        idle_timeout: read("idle_timeout", idle_timeout)?,
        max_future: read("max_future", max_future)?,
        quarantine_late,
    })
}

impl Stream {
    fn rebuild(&self, change: &dyn Fn(&Op) -> Option<Op>) -> Stream {
        let inputs = self.0.inputs.iter().map(|i| i.rebuild(change)).collect();
        let op = change(&self.0.op).unwrap_or_else(|| self.0.op.clone());
        // Ids stay: watermarks are found by them.
        Stream(Arc::new(Node {
            id: self.0.id.clone(),
            op,
            inputs,
            schema: self.0.schema.clone(),
            event_time: self.0.event_time.clone(),
        }))
    }

    /// The same stream, with rules that would stop it only counted and their rows dropped.
    pub fn without_failing(&self) -> Stream {
        self.rebuild(&|op| match op {
            Op::Expect(r) if r.action == Action::Fail => {
                Some(Op::Expect(Arc::new(Rule { action: Action::Drop, ..(**r).clone() })))
            }
            _ => None,
        })
    }

    /// The same stream with another rule for what is malformed.
    pub fn with_policy(&self, policy: super::source::OnMalformed) -> Stream {
        self.rebuild(&|op| match op {
            Op::Kafka(s) => Some(Op::Kafka(Arc::new(KafkaSource {
                connection: s.connection.clone(),
                topics: s.topics.clone(),
                schema: s.schema.clone(),
                decode: s.decode.clone(),
                on_malformed: Some(policy),
                max_malformed: 1.0,
                starting: s.starting.clone(),
                ending: s.ending.clone(),
                max_offsets_per_trigger: s.max_offsets_per_trigger,
                fail_on_data_loss: s.fail_on_data_loss,
            }))),
            _ => None,
        })
    }
}
