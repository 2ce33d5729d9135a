//! A complete flow as JSON: every step in the user's own words. JSON only names what it cannot hold: functions by their names, rows in memory by
//! schema, count and hash, clusters by address, and locations by URL. The JSON contains no secrets.

use super::output::{Aside, Flow, Output};
use super::said::{Said, SaidAggregate, SaidWindow};
use super::source::{KafkaSource, MAX_TRIGGER_DELAY, MessagesSource, RowsSource, Told};
use super::static_join::{Foreign, StaticSide};
use super::stream::{JoinOptions, Op, Stream};
use super::subscription::Subscription;
use super::trigger::Trigger;
use crate::batch::ValuesFunction;
use crate::decode::{DecodeOptions, Decrypt};
use crate::expr::{AggregateItem, GroupFunction, parse_ddl, to_ddl};
use crate::kafka::Connection;
use crate::sink::delta::DeltaOptions;
use crate::sink::function::{ForEach, FunctionOptions};
use crate::sink::spark::{SparkOptions, SparkTable};
use crate::sink::topic::TopicOptions;
use crate::sink::{OutputMode, To};
use crate::storage::{Location, StorageOptions};
use crate::transform::map::{BatchFunction, Failure};
use crate::window::{SessionSpec, WindowSpec, Windowing};
use crate::{Error, Result};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The version of the JSON.
pub(crate) const FORMAT: u64 = 1;

/// Supplies the parts that JSON only names. The reader of the JSON implements this trait.
pub trait Parts {
    fn connection(&self, address: &str) -> Result<Connection>;

    fn location(&self, url: &str) -> Result<Location> {
        Location::parse(url, &StorageOptions::new())
    }

    /// A table that Spark writes. The default refuses, because only the name of the table is known.
    fn spark_table(&self, name: &str) -> Result<SparkTable> {
        Err(Error::config(format!(
            "only the name of the table {name} is known, and not the Spark session that writes it"
        )))
    }

    /// A joined table that a different engine reads. The default is a table that has only a name and cannot be read.
    fn foreign_table(&self, name: &str) -> Arc<dyn Foreign> {
        Arc::new(Named(name.into()))
    }

    /// A function of `map_batches`. The default is a function that has only a name and cannot be called.
    fn batch_function(&self, name: &str) -> Arc<dyn BatchFunction> {
        Arc::new(Named(name.into()))
    }

    fn group_function(&self, name: &str) -> Arc<dyn GroupFunction> {
        Arc::new(Named(name.into()))
    }

    fn for_each(&self, name: &str) -> Arc<dyn ForEach> {
        Arc::new(Named(name.into()))
    }

    fn values_function(&self, name: &str) -> Arc<dyn ValuesFunction> {
        Arc::new(Named(name.into()))
    }
}

/// A function of which only the name is known.
#[derive(Debug)]
struct Named(String);

impl Named {
    fn missing(&self) -> Error {
        Error::config(format!("only the name of the function '{}' is known, so it cannot be called", self.0))
    }
    fn unread(&self) -> Error {
        Error::config(format!("only the name of the table {} is known, so it cannot be read", self.0))
    }
}

impl BatchFunction for Named {
    fn name(&self) -> &str {
        &self.0
    }
    fn identity(&self) -> String {
        self.0.clone()
    }
    fn call(&self, _rows: &RecordBatch, _schema: &SchemaRef) -> std::result::Result<RecordBatch, Failure> {
        Err(Failure::Stop(self.missing()))
    }
}

impl Foreign for Named {
    fn name(&self) -> &str {
        &self.0
    }
    fn version(&self) -> Result<u64> {
        Err(self.unread())
    }
    fn columns(&self, _version: u64) -> Result<SchemaRef> {
        Err(self.unread())
    }
    fn read(&self, _version: u64, _columns: &[String]) -> Result<Vec<RecordBatch>> {
        Err(self.unread())
    }
}

impl GroupFunction for Named {
    fn name(&self) -> &str {
        &self.0
    }
    fn call(&self, _groups: &[RecordBatch]) -> Result<ArrayRef> {
        Err(self.missing())
    }
}

impl ValuesFunction for Named {
    fn name(&self) -> &str {
        &self.0
    }
    fn call(&self, _values: Vec<Option<Vec<u8>>>) -> Result<Vec<Option<Vec<u8>>>> {
        Err(self.missing())
    }
}

impl ForEach for Named {
    fn call(&self, _schema: &SchemaRef, _rows: &[RecordBatch], _epoch: i64) -> Result<()> {
        Err(self.missing())
    }
    fn name(&self) -> &str {
        &self.0
    }
}

fn damaged(what: impl std::fmt::Display) -> Error {
    Error::config(format!("the JSON of a flow is damaged: {what}"))
}

fn value<T: serde::Serialize>(of: &T) -> Result<Value> {
    serde_json::to_value(of).map_err(|e| Error::internal(e.to_string()))
}

/// Reads a field of the JSON in its type.
fn field<T: DeserializeOwned>(of: &Value, name: &str) -> Result<T> {
    serde_json::from_value(of.get(name).cloned().unwrap_or_default()).map_err(|e| damaged(format!("{name}: {e}")))
}

fn optional_ddl(of: &Value, name: &str) -> Result<Option<SchemaRef>> {
    let text: Option<String> = field(of, name)?;
    text.map(|t| parse_ddl(&t).map(Arc::new)).transpose()
}

fn ddl(of: &Value, name: &str) -> Result<SchemaRef> {
    optional_ddl(of, name)?.ok_or_else(|| damaged(format!("there is no {name}")))
}

/// The streams that are written so far. A step that several outputs share is written once.
#[derive(Default)]
struct Writer {
    steps: Vec<Value>,
    places: HashMap<*const super::stream::Node, usize>,
}

impl Writer {
    fn add(&mut self, stream: &Stream) -> Result<usize> {
        let key = Arc::as_ptr(&stream.0);
        if let Some(place) = self.places.get(&key) {
            return Ok(*place);
        }
        let inputs = stream.0.inputs.iter().map(|i| self.add(i)).collect::<Result<Vec<_>>>()?;
        let mut step = value(&stream.0.said)?;
        step["inputs"] = json!(inputs);
        step["schema"] = to_ddl(stream.schema()).into();
        let (name, more) = match &stream.0.op {
            Op::Kafka(s) => ("kafka", kafka(s)?),
            Op::Messages(s) => ("messages", messages(s)?),
            Op::Rows(s) => ("rows", json!({ "schema": to_ddl(&s.schema), "told": s.told()? })),
            Op::StaticJoin(j) => ("table", side(&j.side, &j.table)?),
            _ => ("", Value::Null),
        };
        if !more.is_null() {
            step[name] = more;
        }
        self.steps.push(step);
        self.places.insert(key, self.steps.len() - 1);
        Ok(self.steps.len() - 1)
    }
}

fn kafka(s: &KafkaSource) -> Result<Value> {
    Ok(json!({
        "cluster": s.connection.address(),
        "topics": s.topics.to_json(),
        "schema": s.schema.as_ref().map(|s| to_ddl(s)),
        "decode": value(&s.decode)?,
        "decrypt": s.decode.decrypt.as_ref().map(|d| d.0.name()),
        "on_malformed": value(&s.on_malformed)?,
        "max_malformed": s.max_malformed,
        "starting_offsets": value(&s.starting)?,
        "ending_offsets": value(&s.ending)?,
        "max_offsets_per_trigger": s.max_offsets_per_trigger,
        "min_offsets_per_trigger": s.min_offsets_per_trigger,
        "max_trigger_delay": s.max_trigger_delay.as_secs_f64(),
        "fail_without_message": s.fail_without_message,
        "fail_on_data_loss": s.fail_on_data_loss,
    }))
}

fn read_kafka(of: &Value, parts: &dyn Parts) -> Result<KafkaSource> {
    let topics: Value = field(of, "topics")?;
    let delay: Option<f64> = field(of, "max_trigger_delay")?;
    let decrypt: Option<String> = field(of, "decrypt")?;
    let mut decode: DecodeOptions = field(of, "decode")?;
    decode.decrypt = decrypt.map(|name| Decrypt(parts.values_function(&name)));
    Ok(KafkaSource {
        connection: parts.connection(&field::<String>(of, "cluster")?)?,
        topics: Subscription::from_json(&topics)?,
        schema: optional_ddl(of, "schema")?,
        decode,
        on_malformed: field(of, "on_malformed")?,
        max_malformed: field(of, "max_malformed")?,
        starting: field(of, "starting_offsets")?,
        ending: field(of, "ending_offsets")?,
        max_offsets_per_trigger: field(of, "max_offsets_per_trigger")?,
        min_offsets_per_trigger: field(of, "min_offsets_per_trigger")?,
        max_trigger_delay: delay.map_or(MAX_TRIGGER_DELAY, Duration::from_secs_f64),
        fail_without_message: field::<Option<bool>>(of, "fail_without_message")?.unwrap_or(false),
        fail_on_data_loss: field(of, "fail_on_data_loss")?,
    })
}

fn messages(s: &MessagesSource) -> Result<Value> {
    Ok(json!({
        "schema": s.schema.as_ref().map(|s| to_ddl(s)),
        "decode": value(&s.decode)?,
        "on_malformed": value(&s.on_malformed)?,
        "told": s.told(),
    }))
}

fn side(side: &StaticSide, table: &SchemaRef) -> Result<Value> {
    Ok(match side {
        StaticSide::Rows { rows, identity, told } => json!({
            "schema": to_ddl(table),
            "told": match told {
                Some(told) => told.clone(),
                None => Told { rows: rows.num_rows(), hash: identity.clone() },
            },
        }),
        StaticSide::Delta(at) => json!({ "schema": to_ddl(table), "location": at.address() }),
        StaticSide::Foreign(of) => json!({ "schema": to_ddl(table), "foreign": of.name() }),
    })
}

fn read_side(of: &Value, parts: &dyn Parts) -> Result<(StaticSide, SchemaRef)> {
    let schema = ddl(of, "schema")?;
    let side = match (of.get("location"), of.get("foreign")) {
        (Some(at), _) => StaticSide::Delta(parts.location(at.as_str().unwrap_or_default())?),
        (None, Some(name)) => StaticSide::Foreign(parts.foreign_table(name.as_str().unwrap_or_default())),
        (None, None) => {
            let told: Told = field(of, "told")?;
            let rows = RecordBatch::new_empty(schema.clone());
            StaticSide::Rows { rows, identity: told.hash.clone(), told: Some(told) }
        }
    };
    Ok((side, schema))
}

fn to(to: &To) -> Value {
    match to {
        To::Delta(o) => json!({ "delta": {
            "location": o.location.address(),
            "partition_by": o.partition_by,
            "table_name": o.table_name,
            "comment": o.comment,
            "schema_mode": o.merge_schema.then_some("merge"),
        }}),
        To::Function(o) => json!({ "function": { "name": o.function.name() } }),
        To::Spark(o) => json!({ "spark": spark(o) }),
        To::Topic(o) => json!({ "topic": {
            "cluster": o.cluster.address(),
            "topic": o.topic,
            "key": o.key,
            "headers_column": o.headers_column,
            "partition_column": o.partition_column,
            "timestamp": o.timestamp,
            "create": o.create,
        }}),
    }
}

fn spark(o: &SparkOptions) -> Value {
    json!({
        "table": o.table.shown,
        "staged": o.staged.address(),
        "partition_by": o.partition_by,
        "comment": o.comment,
        "schema_mode": o.merge_schema.then_some("merge"),
    })
}

fn read_spark(o: &Value, parts: &dyn Parts) -> Result<SparkOptions> {
    Ok(SparkOptions {
        table: parts.spark_table(&field::<String>(o, "table")?)?,
        staged: parts.location(&field::<String>(o, "staged")?)?,
        partition_by: field(o, "partition_by")?,
        comment: field(o, "comment")?,
        merge_schema: field::<Option<String>>(o, "schema_mode")?.is_some(),
    })
}

fn aside(aside: &Aside) -> Value {
    match aside {
        Aside::At(at) => at.address().into(),
        Aside::Spark(o) => json!({ "spark": spark(o) }),
    }
}

fn read_aside(of: &Value, parts: &dyn Parts) -> Result<Aside> {
    match of.get("spark") {
        Some(o) => Ok(Aside::Spark(read_spark(o, parts)?)),
        None => Ok(Aside::At(parts.location(of.as_str().unwrap_or_default())?)),
    }
}

fn read_to(of: &Value, parts: &dyn Parts) -> Result<To> {
    if let Some(o) = of.get("delta") {
        return Ok(To::Delta(DeltaOptions {
            location: parts.location(&field::<String>(o, "location")?)?,
            partition_by: field(o, "partition_by")?,
            table_name: field(o, "table_name")?,
            comment: field(o, "comment")?,
            merge_schema: field::<Option<String>>(o, "schema_mode")?.is_some(),
        }));
    }
    if let Some(o) = of.get("function") {
        return Ok(To::Function(FunctionOptions { function: parts.for_each(&field::<String>(o, "name")?) }));
    }
    if let Some(o) = of.get("spark") {
        return Ok(To::Spark(read_spark(o, parts)?));
    }
    if let Some(o) = of.get("topic") {
        return Ok(To::Topic(TopicOptions {
            cluster: Arc::new(parts.connection(&field::<String>(o, "cluster")?)?),
            topic: field(o, "topic")?,
            key: field(o, "key")?,
            headers_column: field(o, "headers_column")?,
            partition_column: field(o, "partition_column")?,
            timestamp: field(o, "timestamp")?,
            create: field(o, "create")?,
        }));
    }
    Err(damaged("the target of an output is of an unknown kind"))
}

fn window(said: &SaidWindow) -> Result<Windowing> {
    Ok(match said {
        SaidWindow::None => Windowing::None,
        SaidWindow::Fixed { column, size, slide, offset, timezone } => Windowing::Fixed(WindowSpec::new(
            column,
            size,
            slide.as_deref(),
            offset.as_deref(),
            timezone.as_deref().unwrap_or("UTC"),
        )?),
        SaidWindow::Session { column, gap } => Windowing::Session(SessionSpec::new(column, gap)?),
    })
}

fn item(said: &SaidAggregate, parts: &dyn Parts) -> Result<AggregateItem> {
    Ok(match said {
        SaidAggregate::Sql { alias, text } => AggregateItem::Sql { alias: alias.clone(), text: text.clone() },
        SaidAggregate::Function { alias, function, columns, data_type, order_by } => AggregateItem::Function {
            alias: alias.clone(),
            function: parts.group_function(function),
            columns: columns.clone(),
            data_type: crate::expr::parse_type(data_type)?,
            order_by: order_by.clone(),
        },
    })
}

/// Builds one step again from the user's words.
fn read_step(step: &Value, done: &[Stream], parts: &dyn Parts) -> Result<Stream> {
    let said: Said = serde_json::from_value(step.clone()).map_err(damaged)?;
    let places: Vec<usize> = field(step, "inputs")?;
    let input = |i: usize| {
        let found = places.get(i).and_then(|place| done.get(*place));
        found.ok_or_else(|| damaged(format!("an input of {} is missing", step["step"])))
    };
    match &said {
        Said::Source => {
            if let Some(s) = step.get("kafka") {
                return Stream::kafka(read_kafka(s, parts)?);
            }
            if let Some(s) = step.get("messages") {
                return Stream::messages(MessagesSource {
                    messages: Arc::default(),
                    schema: optional_ddl(s, "schema")?,
                    decode: field(s, "decode")?,
                    on_malformed: field(s, "on_malformed")?,
                    told: Some(field(s, "told")?),
                });
            }
            let s = step.get("rows").ok_or_else(|| damaged("a source is of an unknown kind"))?;
            Ok(Stream::rows(RowsSource::known(ddl(s, "schema")?, field(s, "told")?)))
        }
        Said::Union => input(0)?.union(input(1)?),
        Said::Select { items, dialect } => input(0)?.select(items, *dialect),
        Said::WithColumns { items, dialect } => input(0)?.with_columns(items, *dialect),
        Said::Rename { names } => input(0)?.rename(names),
        Said::Drop { names } => input(0)?.drop(names),
        Said::Decode { column, values, format, into } => {
            let schema = values.as_deref().map(|t| parse_ddl(t).map(Arc::new)).transpose()?;
            input(0)?.decode(column, schema, format.clone(), into.as_deref())
        }
        Said::Where { condition, dialect } => input(0)?.filter(condition, *dialect),
        Said::Expect { name, condition, action, dialect } => input(0)?.expect(name, condition, *action, *dialect),
        Said::Watermark { spec } => input(0)?.with_watermark(spec.clone()),
        Said::Aggregate { window: over, keys, aggregates, dialect } => {
            let items = aggregates.iter().map(|a| item(a, parts)).collect::<Result<Vec<_>>>()?;
            input(0)?.aggregate(window(over)?, keys, &items, *dialect)
        }
        Said::Named { name } => input(0)?.named(name),
        Said::Table { name } => input(0)?.of_table(name),
        Said::MapBatches { function, schema } => {
            let schema = schema.as_deref().map(|t| parse_ddl(t).map(Arc::new)).transpose()?;
            input(0)?.map_batches(parts.batch_function(function), schema)
        }
        Said::DropDuplicates { keys, within } => input(0)?.drop_duplicates(keys, *within),
        Said::JoinStream { on, how, suffix, before, after } => {
            let options = JoinOptions { on: on.clone(), how: *how, suffix: suffix.clone() };
            input(0)?.join_stream(input(1)?, &options, *before, *after)
        }
        Said::JoinTable { on, how, suffix } => {
            let (side, table) = read_side(&step["table"], parts)?;
            let options = JoinOptions { on: on.clone(), how: *how, suffix: suffix.clone() };
            input(0)?.join_table(side, &table, &options)
        }
    }
}

impl Flow {
    pub fn to_json(&self) -> Result<Value> {
        let mut streams = Writer::default();
        let mut outputs = vec![];
        for o in &self.outputs {
            outputs.push(json!({
                "name": o.name,
                "stream": streams.add(&o.stream)?,
                "mode": o.mode.name(),
                "start": o.start,
                "to": to(&o.to),
            }));
        }
        Ok(json!({
            "format": FORMAT,
            "name": self.name,
            "steps": streams.steps,
            "outputs": outputs,
            "quarantine": aside(&self.quarantine),
            "checkpoint": self.checkpoint.address(),
            "trigger": self.trigger.to_string(),
            "full_refresh": self.full_refresh,
            "accept_changes": self.accept_changes,
            "close_windows": self.close_windows,
            "optimize_every": self.optimize_every,
            "clean_log": self.clean_log,
            "start": self.start,
            "commit_to_group": self.commit_to_group,
            "memory_limit": self.memory_limit,
        }))
    }

    /// Reads the flow that `to_json` wrote. Each step is checked again, as when the user typed its line.
    pub fn from_json(of: &Value, parts: &dyn Parts) -> Result<Flow> {
        let format: u64 = field(of, "format")?;
        if format != FORMAT {
            return Err(Error::config(format!(
                "the JSON of a flow has format {format}, and this version reads format {FORMAT}. Write the JSON again with this version."
            )));
        }
        let mut streams: Vec<Stream> = vec![];
        for step in field::<Vec<Value>>(of, "steps")? {
            let made = read_step(&step, &streams, parts)?;
            streams.push(made);
        }
        let output = |o: &Value| {
            let place: usize = field(o, "stream")?;
            let mode: String = field(o, "mode")?;
            Ok(Output {
                name: field(o, "name")?,
                stream: streams.get(place).cloned().ok_or_else(|| damaged("an output has no stream"))?,
                mode: OutputMode::parse(&mode).ok_or_else(|| damaged(format!("'{mode}' is not an output mode")))?,
                start: field(o, "start")?,
                to: read_to(&o["to"], parts)?,
            })
        };
        Ok(Flow {
            name: field(of, "name")?,
            outputs: field::<Vec<Value>>(of, "outputs")?.iter().map(output).collect::<Result<_>>()?,
            quarantine: read_aside(&of["quarantine"], parts)?,
            checkpoint: parts.location(&field::<String>(of, "checkpoint")?)?,
            trigger: field::<String>(of, "trigger")?.parse::<Trigger>()?,
            full_refresh: field(of, "full_refresh")?,
            accept_changes: field(of, "accept_changes")?,
            close_windows: field(of, "close_windows")?,
            optimize_every: field(of, "optimize_every")?,
            clean_log: field(of, "clean_log")?,
            start: field(of, "start")?,
            commit_to_group: field(of, "commit_to_group")?,
            memory_limit: field(of, "memory_limit")?,
        })
    }
}
