//! A stream: an immutable, lazy description of the source of rows and of the steps that follow. Building a stream reads no
//! messages. Every check that is possible is made when the line is typed.

mod aggregate;
mod declared;
mod decode;
pub(super) mod describe;
mod join;

use super::said::Said;
use super::source::{KafkaSource, MessagesSource, OnMalformed, RowsSource};
use super::static_join::StaticJoin;
use crate::expect::{Action, Rule};
use crate::expr::{
    self, Bound, Dialect, Generator, Selected, bind_predicate, bind_select, bind_selection, resolve_column,
};
use crate::hash::hex;
use crate::time::parse_duration;
use crate::transform::map::{BatchFunction, MapBatches};
use crate::transform::{DeduplicateSpec, Explode, Filter, IntervalJoinSpec, Project};
use crate::window::{AggregateSpec, OnIdle, WatermarkSpec};
use crate::{Error, Result};
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit};
pub(crate) use decode::DecodeColumn;
use describe::{describe, identity};
pub use join::{JoinOptions, parse_how};
use sha2::{Digest, Sha256};
use std::sync::Arc;

#[derive(Clone)]
pub struct Stream(pub Arc<Node>);

pub struct Node {
    /// Equal for equal descriptions: the same stream, built twice, is one stream.
    pub id: String,
    pub op: Op,
    /// The step in the user's words.
    pub said: Said,
    pub inputs: Vec<Stream>,
    pub schema: SchemaRef,
    pub event_time: Option<EventTimeColumn>,
    /// For the rows of an aggregate: the present name of each column of `AggregateSpec::merge_keys`. None: the column was dropped.
    pub merge_keys: Option<Vec<Option<String>>>,
}

/// The column that carries event time, and the watermarks upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct EventTimeColumn {
    pub column: String,
    /// Microseconds to add to the column's value to get the event time. The rows of a window have −1: their event time is just before the window's end.
    pub shift: i64,
    /// Ids of the `with_watermark` nodes. The lowest watermark counts.
    pub trackers: Vec<String>,
}

#[derive(Clone)]
pub enum Op {
    Kafka(Arc<KafkaSource>),
    Messages(Arc<MessagesSource>),
    Rows(Arc<RowsSource>),
    Union,
    Project(Arc<Project>),
    /// A select list with a generator.
    Explode(Arc<Explode>),
    /// A column is decoded as if its values were messages.
    Decode(Arc<DecodeColumn>),
    Filter(Arc<Filter>),
    Expect(Arc<Rule>),
    Watermark(WatermarkSpec),
    Aggregate(Arc<AggregateSpec>),
    Named(Arc<str>),
    /// The rows that the pipeline's table of this name accepts.
    Table(Arc<str>),
    Map(Arc<MapBatches>),
    Deduplicate(Arc<DeduplicateSpec>),
    IntervalJoin(Arc<IntervalJoinSpec>),
    StaticJoin(Arc<StaticJoin>),
}

fn timestamp(t: &DataType) -> bool {
    matches!(t, DataType::Timestamp(TimeUnit::Microsecond, Some(_)))
}

impl Stream {
    fn new(op: Op, said: Said, inputs: Vec<Stream>, schema: SchemaRef, event_time: Option<EventTimeColumn>) -> Self {
        let mut hash = Sha256::new();
        hash.update(identity(&op, &said));
        hash.update(expr::to_ddl(&schema));
        for input in &inputs {
            hash.update(&input.0.id);
        }
        let id = hex(hash.finalize(), 8);
        // Steps that keep the columns keep the merge keys. Other steps set the merge keys themselves.
        let merge_keys = match &op {
            Op::Filter(_) | Op::Expect(_) | Op::Named(_) | Op::Table(_) | Op::Watermark(_) => {
                inputs[0].0.merge_keys.clone()
            }
            _ => None,
        };
        Self(Arc::new(Node { id, op, said, inputs, schema, event_time, merge_keys }))
    }

    /// The same stream with a different event time and different merge keys. The id does not change.
    fn with(self, event_time: Option<EventTimeColumn>, merge_keys: Option<Vec<Option<String>>>) -> Self {
        let Node { id, op, said, inputs, schema, .. } = &*self.0;
        Self(Arc::new(Node {
            id: id.clone(),
            op: op.clone(),
            said: said.clone(),
            inputs: inputs.clone(),
            schema: schema.clone(),
            event_time,
            merge_keys,
        }))
    }

    pub fn kafka(source: KafkaSource) -> Result<Self> {
        let schema = source.output_schema()?;
        Ok(Self::new(Op::Kafka(Arc::new(source)), Said::Source, vec![], schema, None))
    }
    pub fn messages(source: MessagesSource) -> Result<Self> {
        let schema = source.output_schema()?;
        Ok(Self::new(Op::Messages(Arc::new(source)), Said::Source, vec![], schema, None))
    }
    pub fn rows(source: RowsSource) -> Self {
        let schema = source.schema.clone();
        Self::new(Op::Rows(Arc::new(source)), Said::Source, vec![], schema, None)
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }
    pub fn id(&self) -> &str {
        &self.0.id
    }

    fn then(&self, op: Op, said: Said, schema: SchemaRef, event_time: Option<EventTimeColumn>) -> Self {
        Self::new(op, said, vec![self.clone()], schema, event_time)
    }

    /// The event time is kept if its column is passed on unchanged.
    fn event_time_in<'a>(&self, columns: impl IntoIterator<Item = &'a Bound>) -> Option<EventTimeColumn> {
        let e = self.0.event_time.as_ref()?;
        let (old, within) = match self.schema().index_of(&e.column) {
            Ok(old) => (old, None),
            Err(_) => {
                let (path, ..) = expr::nested_field(&e.column, self.schema())?;
                (*path.first()?, e.column.split_once('.').map(|(_, rest)| rest))
            }
        };
        let columns: Vec<&Bound> = columns.into_iter().collect();
        // A field within a struct may become a column, or be passed on with its struct.
        let field = columns.iter().find(|b| within.is_some() && b.sql == e.column).map(|b| b.name.clone());
        let whole = columns.iter().find(|b| b.as_column() == Some(old)).map(|b| match within {
            Some(rest) => format!("{}.{rest}", b.name),
            None => b.name.clone(),
        });
        Some(EventTimeColumn { column: field.or(whole)?, ..e.clone() })
    }

    fn project(&self, columns: Vec<Bound>, said: Said) -> Result<Self> {
        let project = Project::new(columns, self.schema());
        let schema = project.schema().clone();
        let event_time = self.event_time_in(&project.columns);
        let now = |name: &Option<String>| {
            let old = self.schema().index_of(name.as_ref()?).ok()?;
            project.columns.iter().find(|b| b.as_column() == Some(old)).map(|b| b.name.clone())
        };
        let merge_keys = self.0.merge_keys.as_ref().map(|keys| keys.iter().map(now).collect());
        Ok(self.then(Op::Project(Arc::new(project)), said, schema, event_time.clone()).with(event_time, merge_keys))
    }

    /// A select list; with a generator, several rows come of one.
    fn selected(&self, items: Vec<Selected>, generator: Option<Generator>, said: Said) -> Result<Self> {
        let columns = items.iter().filter_map(|item| match item {
            Selected::Column(bound) => Some(bound),
            Selected::Generated(_) => None,
        });
        let Some(generator) = generator else { return self.project(columns.cloned().collect(), said) };
        let event_time = self.event_time_in(columns);
        let explode = Explode::new(items, generator, self.schema());
        let schema = explode.schema().clone();
        Ok(self.then(Op::Explode(Arc::new(explode)), said, schema, event_time))
    }

    pub fn select(&self, items: &[String], dialect: Dialect) -> Result<Self> {
        if items.is_empty() {
            return Err(Error::schema("select() needs at least one column or expression"));
        }
        let selection = bind_selection(items, self.schema(), dialect)?;
        self.selected(selection.items, selection.generator, Said::Select { items: items.to_vec(), dialect })
    }

    /// Adds columns, or replaces columns of the same name.
    pub fn with_columns(&self, items: &[String], dialect: Dialect) -> Result<Self> {
        let new = bind_selection(items, self.schema(), dialect)?;
        let mut columns = bind_selection(&["*".into()], self.schema(), dialect)?.items;
        let old = columns.len();
        for column in &new.items {
            let name = new.name(column);
            let at = |same: &dyn Fn(&str) -> bool| {
                columns[..old].iter().position(|c| matches!(c, Selected::Column(c) if same(&c.name)))
            };
            match at(&|c| c == name).or_else(|| at(&|c| c.to_lowercase() == name.to_lowercase())) {
                Some(old) => columns[old] = column.clone(),
                None => columns.push(column.clone()),
            }
        }
        self.selected(columns, new.generator, Said::WithColumns { items: items.to_vec(), dialect })
    }

    pub fn rename(&self, names: &[(String, String)]) -> Result<Self> {
        let mut columns = bind_select(&["*".into()], self.schema(), Dialect::default())?;
        for (old, new) in names {
            let i = resolve_column(old, self.schema())?;
            columns[i].name = new.clone();
        }
        for (i, c) in columns.iter().enumerate() {
            let is_new = |name: &str| names.iter().any(|(_, new)| new == name);
            let clash = |d: &Bound| {
                d.name.eq_ignore_ascii_case(&c.name) && (d.name == c.name || is_new(&d.name) || is_new(&c.name))
            };
            if columns[..i].iter().any(clash) {
                return Err(Error::schema(format!("rename() makes two columns named '{}'", c.name)));
            }
        }
        self.project(columns, Said::Rename { names: names.to_vec() })
    }

    pub fn drop(&self, names: &[String]) -> Result<Self> {
        let gone = names.iter().map(|n| resolve_column(n, self.schema())).collect::<Result<Vec<_>>>()?;
        let columns = bind_select(&["*".into()], self.schema(), Dialect::default())?;
        let kept: Vec<_> = columns.into_iter().enumerate().filter(|(i, _)| !gone.contains(i)).map(|(_, c)| c).collect();
        if kept.is_empty() {
            return Err(Error::schema("drop() leaves no column"));
        }
        self.project(kept, Said::Drop { names: names.to_vec() })
    }

    pub fn filter(&self, condition: &str, dialect: Dialect) -> Result<Self> {
        let said = Said::Where { condition: condition.into(), dialect };
        let condition = bind_predicate(condition, self.schema(), dialect)?;
        Ok(self.then(
            Op::Filter(Arc::new(Filter { condition })),
            said,
            self.schema().clone(),
            self.0.event_time.clone(),
        ))
    }

    pub fn expect(&self, name: &str, condition: &str, action: Action, dialect: Dialect) -> Result<Self> {
        if name.trim().is_empty() {
            return Err(Error::config("an expectation needs a name"));
        }
        if self.adjacent_rules().any(|r| &*r.name == name) {
            return Err(Error::config(format!(
                "an expectation named '{name}' exists already. Give each expectation a different name."
            )));
        }
        let said = Said::Expect { name: name.into(), condition: condition.into(), action, dialect };
        let condition = bind_predicate(condition, self.schema(), dialect)
            .map_err(|e| e.context(format!("expectation '{name}'")))?;
        let rule = Rule { name: name.into(), condition, action };
        Ok(self.then(Op::Expect(Arc::new(rule)), said, self.schema().clone(), self.0.event_time.clone()))
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

    /// Passes batches through a function. If `schema` is None, the columns do not change.
    pub fn map_batches(&self, function: Arc<dyn BatchFunction>, schema: Option<SchemaRef>) -> Result<Self> {
        if self.is_running() {
            return Err(Error::config(
                "map_batches needs final rows, and a running aggregate changes with every row. Put map_batches before group_by, or give the aggregate a window and a watermark.",
            ));
        }
        let said = Said::MapBatches {
            function: function.name().to_string(),
            schema: schema.as_ref().map(|s| expr::to_ddl(s)),
        };
        let schema = schema.unwrap_or_else(|| self.schema().clone());
        // The event time is kept if its column is kept.
        let event_time = self
            .0
            .event_time
            .clone()
            .filter(|e| schema.field_with_name(&e.column).is_ok_and(|f| timestamp(f.data_type())));
        Ok(self.then(Op::Map(Arc::new(MapBatches { function, schema: schema.clone() })), said, schema, event_time))
    }

    fn has_map(&self) -> bool {
        matches!(self.0.op, Op::Map(_)) || self.0.inputs.iter().any(Stream::has_map)
    }

    pub fn named(&self, name: &str) -> Result<Self> {
        check_name(name, "a stream")?;
        Ok(self.then(
            Op::Named(name.into()),
            Said::Named { name: name.into() },
            self.schema().clone(),
            self.0.event_time.clone(),
        ))
    }

    /// The rows of this stream that the table of this name accepts. Rows that the table refuses go to quarantine and no further.
    pub fn of_table(&self, name: &str) -> Result<Self> {
        check_name(name, "a table")?;
        Ok(self.then(
            Op::Table(name.into()),
            Said::Table { name: name.into() },
            self.schema().clone(),
            self.0.event_time.clone(),
        ))
    }

    pub fn name(&self) -> Option<&str> {
        match &self.0.op {
            Op::Named(name) | Op::Table(name) => Some(name),
            _ => None,
        }
    }

    pub fn with_watermark(&self, spec: WatermarkSpec) -> Result<Self> {
        let Some((_, column, data_type)) = expr::nested_field(&spec.column, self.schema()) else {
            resolve_column(&spec.column, self.schema())?;
            return Err(Error::schema(format!("there is no column '{}'", spec.column)));
        };
        if !timestamp(&data_type) {
            return Err(Error::schema(format!(
                "with_watermark needs a TIMESTAMP column, and '{column}' is {}. Convert it, as in with_columns(\"to_timestamp({column}) AS {}\").",
                expr::type_to_ddl(&data_type),
                column.rsplit('.').next().unwrap_or(&column)
            )));
        }
        if self.0.event_time.is_some() {
            return Err(Error::config("this stream has a watermark already (a stream has one event time)"));
        }
        if self.has_aggregate() {
            return Err(Error::config("with_watermark belongs before the aggregation"));
        }
        if self.has_map() && !self.kafka_sources().is_empty() {
            return Err(Error::config(
                "with_watermark belongs before map_batches: the rows that a function returns do not show their partition, and a watermark is computed from \
                 partitions. Rows that select(\"explode(…)\") makes of a list keep their partition.",
            ));
        }
        let spec = WatermarkSpec { column: column.clone(), ..spec };
        let said = Said::Watermark { spec: spec.clone() };
        let made = self.then(Op::Watermark(spec), said, self.schema().clone(), None);
        let event_time = EventTimeColumn { column, shift: 0, trackers: vec![made.0.id.clone()] };
        Ok(made.with(Some(event_time), None))
    }

    pub fn union(&self, other: &Stream) -> Result<Self> {
        if let Some(running) = [self, other].iter().find(|s| s.is_running()) {
            return Err(Error::config(format!(
                "union() needs final rows, and a running aggregate changes with every row ({}). Union the streams first, then group_by.",
                running.steps().last().cloned().unwrap_or_default()
            )));
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
                "union: the second stream has a column '{}' that the first stream does not have",
                extra.name()
            )));
        }
        let event_time = match (&self.0.event_time, &other.0.event_time) {
            (Some(x), Some(y)) if x.column.eq_ignore_ascii_case(&y.column) && x.shift == y.shift => {
                Some(EventTimeColumn {
                    column: x.column.clone(),
                    shift: x.shift,
                    trackers: x.trackers.iter().chain(&y.trackers).cloned().collect(),
                })
            }
            _ => None,
        };
        Ok(Self::new(
            Op::Union,
            Said::Union,
            vec![self.clone(), other.clone()],
            Arc::new(Schema::new(fields)),
            event_time,
        ))
    }

    /// Whether the stream's rows can change later: it has an aggregate without a window, or without a watermark that closes the window.
    pub fn is_running(&self) -> bool {
        match &self.0.op {
            Op::Aggregate(spec) => !spec.is_windowed() || self.0.inputs[0].0.event_time.is_none(),
            _ => self.0.inputs.iter().any(Stream::is_running),
        }
    }

    /// Whether a step of the stream has state.
    pub fn has_state(&self) -> bool {
        matches!(self.0.op, Op::Aggregate(_) | Op::Deduplicate(_) | Op::IntervalJoin(_))
            || self.0.inputs.iter().any(Stream::has_state)
    }

    pub fn has_aggregate(&self) -> bool {
        matches!(self.0.op, Op::Aggregate(_)) || self.0.inputs.iter().any(Stream::has_aggregate)
    }

    /// The last aggregation and its input, if only row by row steps follow the aggregation.
    pub fn top_aggregate(&self) -> Option<(&Arc<AggregateSpec>, &Stream)> {
        match &self.0.op {
            Op::Aggregate(spec) => Some((spec, &self.0.inputs[0])),
            Op::Project(_)
            | Op::Explode(_)
            | Op::Decode(_)
            | Op::Filter(_)
            | Op::Expect(_)
            | Op::Watermark(_)
            | Op::Named(_)
            | Op::Table(_)
            | Op::StaticJoin(_) => self.0.inputs[0].top_aggregate(),
            _ => None,
        }
    }

    /// The indices of the key columns of an aggregate's rows. Mode update merges by these columns.
    pub fn merge_columns(&self) -> Result<Vec<usize>> {
        let (spec, _) = self.top_aggregate().ok_or_else(|| Error::config("only an aggregate's rows have keys"))?;
        let Some(merge_keys) = &self.0.merge_keys else {
            return Err(Error::config(
                "output_mode=\"update\" merges rows by the keys of their groups, and after a join or explode one group may have several rows. Put \
                 the join or explode before group_by, or use output_mode=\"complete\".",
            ));
        };
        let names = spec.merge_keys().into_iter().map(|i| spec.schema.field(i).name().clone());
        let found = names.zip(merge_keys).map(|(name, now)| match now {
            Some(now) => Ok(self.schema().index_of(now)?),
            None => Err(Error::config(format!(
                "output_mode=\"update\" merges rows by the keys of their groups, and the key '{name}' is no longer among the columns. Keep '{name}' in select(), or use output_mode=\"complete\"."
            ))),
        });
        found.collect()
    }

    pub fn kafka_sources(&self) -> Vec<Arc<KafkaSource>> {
        match &self.0.op {
            Op::Kafka(s) => vec![s.clone()],
            _ => self.0.inputs.iter().flat_map(Stream::kafka_sources).collect(),
        }
    }

    /// The ids of all steps of the stream.
    pub fn ids(&self) -> Vec<String> {
        let mut out: Vec<String> = self.0.inputs.iter().flat_map(Stream::ids).collect();
        out.push(self.0.id.clone());
        out
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
                let join = matches!(self.0.op, Op::IntervalJoin(_));
                out.push(if join { "with" } else { "union with" }.into());
            }
            out.extend(input.steps());
        }
        match &self.0.op {
            // A table's steps are the steps that lead to it, so the table itself is not a step.
            Op::Union | Op::Table(_) => {}
            other => out.push(describe(other, &self.0.said)),
        }
        out
    }
}

pub(crate) fn check_name(name: &str, what: &str) -> Result<()> {
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

/// Reads the texts of a watermark's options, such as "10 seconds".
pub fn watermark_spec(
    column: &str,
    delay: &str,
    idle_timeout: &str,
    max_future: &str,
    on_idle: &str,
    late: &str,
) -> Result<WatermarkSpec> {
    let read = |what: &str, text: &str| parse_duration(text).map_err(|e| Error::config(format!("{what}: {e}")));
    let quarantine_late = match late {
        "quarantine" => true,
        "drop" => false,
        other => return Err(Error::config(format!("late='{other}': use \"quarantine\" or \"drop\""))),
    };
    let on_idle = match on_idle {
        "hold" => OnIdle::Hold,
        "advance" => OnIdle::Advance,
        other => return Err(Error::config(format!("on_idle='{other}': use \"hold\" or \"advance\""))),
    };
    Ok(WatermarkSpec {
        on_idle,
        column: column.into(),
        delay: read("delay", delay)?,
        idle_timeout: read("idle_timeout", idle_timeout)?,
        max_future: read("max_future", max_future)?,
        quarantine_late,
    })
}

impl Stream {
    fn rebuild(&self, change: &dyn Fn(&Op, &Said) -> Option<(Op, Said)>) -> Stream {
        let inputs = self.0.inputs.iter().map(|i| i.rebuild(change)).collect();
        let (op, said) = change(&self.0.op, &self.0.said).unwrap_or_else(|| (self.0.op.clone(), self.0.said.clone()));
        // Ids do not change, because watermarks are found by their ids.
        Stream(Arc::new(Node {
            id: self.0.id.clone(),
            op,
            said,
            inputs,
            schema: self.0.schema.clone(),
            event_time: self.0.event_time.clone(),
            merge_keys: self.0.merge_keys.clone(),
        }))
    }

    /// The same stream without rules that stop the run. Such a rule drops its rows instead, and counts them.
    pub fn without_failing(&self) -> Stream {
        self.rebuild(&|op, said| match (op, said) {
            (Op::Expect(r), Said::Expect { name, condition, dialect, .. }) if r.action == Action::Fail => {
                let (name, condition) = (name.clone(), condition.clone());
                let said = Said::Expect { name, condition, action: Action::Drop, dialect: *dialect };
                Some((Op::Expect(Arc::new(Rule { action: Action::Drop, ..(**r).clone() })), said))
            }
            _ => None,
        })
    }

    /// The same stream with a different policy for malformed messages.
    pub fn with_policy(&self, policy: OnMalformed) -> Stream {
        self.rebuild(&|op, said| match op {
            Op::Kafka(s) => {
                let source = KafkaSource { on_malformed: Some(policy), max_malformed: 1.0, ..(**s).clone() };
                Some((Op::Kafka(Arc::new(source)), said.clone()))
            }
            _ => None,
        })
    }
}
