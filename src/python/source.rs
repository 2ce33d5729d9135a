//! Sources of streams: topics, or rows or messages in memory.

use super::arguments::Arguments;
use super::convert;
use super::door;
use super::spark_options::SparkOptions;
use super::stream::PyStream;
use super::value_functions::values_function;
use crate::batch::{Message, Messages};
use crate::decode::json::{self, Inferred, TimestampUnit};
use crate::decode::{DecodeOptions, Decrypt, Format, Given, OnTombstone};
use crate::expr::to_ddl;
use crate::flow::Stream;
use crate::flow::source::{KafkaSource, MAX_TRIGGER_DELAY, MessagesSource, Offsets, OnMalformed, RowsSource};
use crate::flow::subscription::{Subscription, TopicPattern};
use crate::kafka::Connection;
use crate::position::TopicPartition;
use crate::{Error, Result};
use arrow::datatypes::SchemaRef;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;

/// The number of messages that `schema="infer"` looks at.
pub(super) const INFER_SAMPLE: usize = 1000;

const UNITS: [(&str, TimestampUnit); 4] =
    [("s", TimestampUnit::S), ("ms", TimestampUnit::Ms), ("us", TimestampUnit::Us), ("ns", TimestampUnit::Ns)];

/// The options of formats.
pub(super) fn given(arguments: &mut Arguments<'_, '_>) -> PyResult<Given> {
    let mut given = Given { timezone: arguments.text("timezone")?, ..Given::default() };
    let unit = |text: &str| match UNITS.iter().find(|(word, _)| *word == text) {
        Some((_, unit)) => Ok(*unit),
        None => Err(Error::config(format!("timestamp_unit='{text}': use \"s\", \"ms\", \"us\" or \"ns\""))),
    };
    match arguments.any("timestamp_unit")?.map(|v| (v.extract::<String>(), v)) {
        None => {}
        Some((Ok(text), _)) => given.timestamp_unit = Some(unit(&text)?),
        Some((Err(_), units)) => {
            for (column, text) in convert::string_map(Some(&units), "timestamp_unit")? {
                given.timestamp_units.insert(column, unit(&text)?);
            }
        }
    }
    given.allow_quoted_numbers = arguments.flag("allow_quoted_numbers")?.unwrap_or(false);
    given.allow_nan = arguments.flag("allow_nan")?.unwrap_or(false);
    given.missing_is_malformed = arguments.word("missing", &[("null", false), ("malformed", true)])?.unwrap_or(false);
    Ok(given)
}

/// How messages become rows: the arguments that `read_stream` and `from_messages` have in common.
pub(super) struct Decoding {
    pub schema: Option<SchemaRef>,
    pub decode: DecodeOptions,
    pub on_malformed: Option<OnMalformed>,
}

impl Decoding {
    /// `infer` looks at messages, for `schema="infer"`. `format` is used where none was given.
    pub(super) fn read(
        arguments: &mut Arguments<'_, '_>,
        format: Option<&str>,
        infer: impl FnOnce() -> PyResult<Inferred>,
    ) -> PyResult<Self> {
        let schema = arguments.any("schema")?;
        let named = arguments.text("format")?;
        let on_malformed = arguments.word(
            "on_malformed",
            &[("fail", OnMalformed::Fail), ("drop", OnMalformed::Drop), ("quarantine", OnMalformed::Quarantine)],
        )?;
        let on_tombstone = arguments.word(
            "on_tombstone",
            &[("skip", OnTombstone::Skip), ("null_row", OnTombstone::NullRow), ("quarantine", OnTombstone::Quarantine)],
        )?;
        let mut given = given(arguments)?;
        let include_metadata = arguments.flag("include_metadata")?.unwrap_or(false);
        let decrypt = arguments.any("decrypt")?.map(|f| values_function(&f, "decrypt")).transpose()?;
        let max_message_bytes = convert::bytes(arguments.any("max_message_bytes")?.as_ref(), "max_message_bytes", 1)?;

        let is_infer = schema
            .as_ref()
            .is_some_and(|s| s.extract::<String>().is_ok_and(|s| s.trim().eq_ignore_ascii_case("infer")));
        let format = named.as_deref().or_else(|| format.filter(|_| schema.is_none())).unwrap_or("json");
        let schema = if is_infer {
            if !format.eq_ignore_ascii_case("json") {
                return Err(Error::config(
                    "schema=\"infer\" looks at JSON messages. Give a schema, or say format=\"json\".",
                )
                .into());
            }
            if decrypt.is_some() {
                return Err(
                    Error::config("schema=\"infer\" cannot look into encrypted messages. Give a schema.").into()
                );
            }
            let found = infer()?;
            for (path, unit) in found.units {
                given.timestamp_units.entry(path).or_insert(unit);
            }
            given.allow_nan |= found.has_nan;
            Some(found.schema)
        } else {
            let (schema, whole) = convert::document(schema.as_ref())?;
            given.whole = whole;
            schema
        };
        let mut decode = DecodeOptions {
            format: Format::read(format, given)?,
            on_tombstone: on_tombstone.unwrap_or_default(),
            include_metadata,
            decrypt: decrypt.map(Decrypt),
            ..DecodeOptions::default()
        };
        if let Some(bytes) = max_message_bytes {
            decode.max_message_bytes = bytes;
        }
        // The decoder refuses types and time zones that it does not support.
        crate::decode::Decoder::new(schema.as_ref(), &decode)?;
        Ok(Self { schema, decode, on_malformed })
    }
}

/// Checks the list of topics. A text that cannot name a topic gets its own error, instead of "the topic does not exist".
fn check_topics(topics: &[String]) -> Result<()> {
    if topics.is_empty() || topics.iter().any(|t| t.is_empty()) {
        return Err(Error::config("read_stream needs a topic"));
    }
    for (i, topic) in topics.iter().enumerate() {
        if topics[..i].contains(topic) {
            return Err(Error::config(format!("read_stream names the topic '{topic}' twice. Leave one out.")));
        }
        if topic.contains(',') {
            let each: Vec<String> = topic.split(',').map(|t| format!("\"{}\"", t.trim())).collect();
            return Err(Error::config(format!(
                "read_stream: '{topic}' is not a topic name. For several topics give a list: read_stream([{}]).",
                each.join(", ")
            )));
        }
        if topic.contains(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
            let pattern = topic.contains(|c| "*^$[]()|+?\\".contains(c));
            return Err(Error::config(match pattern {
                true => format!(
                    "read_stream: '{topic}' is not a topic name. For all topics that match a pattern, write read_stream(subscribe_pattern=\"{topic}\")."
                ),
                false => format!(
                    "read_stream: '{topic}' is not a topic name. A topic name has only letters, digits, dots, underscores and hyphens."
                ),
            }));
        }
    }
    Ok(())
}

pub(super) fn read_stream(
    py: Python<'_>,
    connection: &Connection,
    topics: Option<&Bound<'_, PyAny>>,
    mut arguments: Arguments<'_, '_>,
) -> PyResult<PyStream> {
    let options = arguments.any("options")?;
    let spark = SparkOptions::read(py, options.as_ref(), connection)?;
    let pattern = arguments.text("subscribe_pattern")?;
    let named = match topics.filter(|t| !t.is_none()) {
        Some(t) => {
            let names = match t.extract::<String>() {
                Ok(one) => vec![one],
                Err(_) => t
                    .extract::<Vec<String>>()
                    .map_err(|_| Error::config("read_stream takes a topic's name or a list of names"))?,
            };
            check_topics(&names)?;
            Some(Subscription::named(names.iter().map(String::as_str)))
        }
        None => None,
    };
    let by_pattern =
        pattern.map(|p| Ok::<_, Error>(Subscription::Pattern(TopicPattern::new(&p)?.into()))).transpose()?;
    let asked = [named, by_pattern, spark.subscription];
    if asked.iter().flatten().count() > 1 {
        return Err(Error::config(
            "read_stream takes only one of topics, subscribe_pattern= and the topics of options=",
        )
        .into());
    }
    let subscription = asked.into_iter().flatten().next().ok_or_else(|| Error::config("read_stream needs a topic"))?;
    if let Subscription::Topics(topics) = &subscription {
        check_topics(&topics.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    }
    let side = |value: Option<Bound<'_, PyAny>>, other, what| {
        value.map_or(Ok(other), |v| convert::offsets(&v, what).map(Some))
    };
    let starting = side(arguments.any("starting_offsets")?, spark.starting, "starting_offsets")?;
    let starting = starting.unwrap_or(Offsets::Earliest);
    let ending = side(arguments.any("ending_offsets")?, spark.ending, "ending_offsets")?;
    let max_offsets_per_trigger = arguments.count("max_offsets_per_trigger")?.or(spark.max_offsets);
    let min_offsets_per_trigger = arguments.count("min_offsets_per_trigger")?.or(spark.min_offsets);
    let delay = match arguments.any("max_trigger_delay")? {
        Some(given) => Some(convert::span(&given, "max_trigger_delay")?),
        None => spark.max_delay,
    };
    if let (Some(min), Some(max)) = (min_offsets_per_trigger, max_offsets_per_trigger)
        && min > max
    {
        return Err(Error::config(format!(
            "min_offsets_per_trigger is {min}, and max_offsets_per_trigger is {max}: an epoch cannot have both"
        ))
        .into());
    }
    let fail_on_data_loss = arguments.flag("fail_on_data_loss")?.or(spark.fail_on_data_loss).unwrap_or(true);
    let max_malformed = arguments.number("max_malformed")?.unwrap_or(0.5);
    let infer = || {
        let (c, subscription) = (connection.clone(), subscription.clone());
        door::run(py, move || {
            let topics: Vec<String> = subscription.topics(&c)?.iter().map(ToString::to_string).collect();
            crate::run::sample::infer(&c, &topics, INFER_SAMPLE)
        })
    };
    // As in Spark, whose options= know no schema, the rows are raw then.
    let decoding = Decoding::read(&mut arguments, options.is_some().then_some("raw"), infer)?;
    arguments.end()?;
    if ending == Some(Offsets::Earliest) {
        return Err(Error::config(
            "ending_offsets=\"earliest\" would read nothing. Use \"latest\", a datetime or offsets.",
        )
        .into());
    }
    if max_offsets_per_trigger == Some(0) {
        return Err(Error::config("max_offsets_per_trigger must be at least 1").into());
    }
    if !(0.0..=1.0).contains(&max_malformed) {
        return Err(Error::config("max_malformed must be a share between 0 and 1").into());
    }
    let source = KafkaSource {
        connection: connection.clone(),
        topics: subscription,
        schema: decoding.schema,
        decode: decoding.decode,
        on_malformed: decoding.on_malformed,
        max_malformed,
        starting,
        ending,
        max_offsets_per_trigger,
        min_offsets_per_trigger,
        max_trigger_delay: delay.unwrap_or(MAX_TRIGGER_DELAY),
        fail_on_data_loss,
        fail_without_message: spark.fail_without_message,
    };
    // The broker refuses topics and partitions that do not exist.
    let check = source.clone();
    door::run(py, move || match check.partitions()? {
        none if none.is_empty() => Err(Error::topic(format!(
            "no topic of {} matches {}. kafka.topics() lists them.",
            check.connection.address(),
            check.topics.describe()
        ))),
        _ => Ok(()),
    })?;
    Ok(PyStream(Stream::kafka(source)?))
}

#[doc = doc!("from_batches")]
#[pyfunction]
fn from_batches(rows: &Bound<'_, PyAny>) -> PyResult<PyStream> {
    let plain = super::functions::rows_of(rows)?;
    Ok(PyStream(Stream::rows(RowsSource::new(plain.schema, plain.batches))))
}

#[doc = doc!("from_messages")]
#[pyfunction]
#[pyo3(signature = (messages, **options))]
#[pyo3(
    text_signature = "(messages, *, schema=None, format=None, on_malformed=None, on_tombstone=None, timezone=None, timestamp_unit=None, \
allow_quoted_numbers=False, allow_nan=False, missing='null', include_metadata=False, max_message_bytes=None, decrypt=None)"
)]
fn from_messages(messages: &Bound<'_, PyAny>, options: Option<&Bound<'_, PyDict>>) -> PyResult<PyStream> {
    let mut arguments = Arguments::new("from_messages", &["messages"], options);
    let mut values: Vec<Option<Vec<u8>>> = vec![];
    for (i, item) in messages.try_iter()?.enumerate() {
        let item = item?;
        values.push(if item.is_none() {
            None
        } else if let Ok(text) = item.extract::<String>() {
            Some(text.into_bytes())
        } else {
            Some(
                item.extract::<Vec<u8>>()
                    .map_err(|_| Error::schema(format!("from_messages: item {i} is neither bytes, str nor None")))?,
            )
        });
    }
    let infer = || Ok(json::infer(values.iter().flatten().map(Vec::as_slice))?);
    let Decoding { schema, decode, on_malformed } = Decoding::read(&mut arguments, None, infer)?;
    arguments.end()?;
    let mut all = Messages::new(vec![TopicPartition::new("messages at hand", 0)].into());
    for (i, value) in values.iter().enumerate() {
        let message = Message { offset: i as i64, timestamp: -1, value: value.as_deref(), ..Message::default() };
        all.push(message, decode.max_message_bytes);
    }
    let source = MessagesSource { messages: Arc::new(all), schema, decode, on_malformed, told: None };
    Ok(PyStream(Stream::messages(source)?))
}

#[doc = doc!("InferredSchema")]
#[pyclass(frozen, module = "bayou", name = "InferredSchema")]
pub struct PyInferredSchema(pub Inferred);

#[pymethods]
impl PyInferredSchema {
    #[doc = doc!("InferredSchema.ddl")]
    #[getter]
    fn ddl(&self) -> String {
        to_ddl(&self.0.schema)
    }

    #[doc = doc!("InferredSchema.options")]
    #[getter]
    fn options<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let out = PyDict::new(py);
        out.set_item("schema", self.ddl())?;
        if !self.0.units.is_empty() {
            let units = PyDict::new(py);
            for (path, unit) in &self.0.units {
                let name = UNITS.iter().find(|(_, u)| u == unit).map_or("", |(name, _)| *name);
                units.set_item(path, name)?;
            }
            out.set_item("timestamp_unit", units)?;
        }
        if self.0.has_nan {
            out.set_item("allow_nan", true)?;
        }
        Ok(out)
    }

    #[doc = doc!("InferredSchema.messages")]
    #[getter]
    fn messages(&self) -> usize {
        self.0.messages
    }

    #[doc = doc!("InferredSchema.malformed")]
    #[getter]
    fn malformed(&self) -> usize {
        self.0.malformed
    }

    #[doc = doc!("InferredSchema.notes")]
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.0.notes.clone()
    }

    fn __str__(&self) -> String {
        self.ddl()
    }

    // A call that the user can paste, and the facts about the messages.
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut lines = vec![format!("# from {} messages", self.0.messages)];
        for (name, value) in self.options(py)?.iter() {
            lines.push(format!("{name}={},", value.repr()?));
        }
        lines.extend(self.0.notes.iter().map(|n| format!("# {n}")));
        Ok(lines.join("\n"))
    }
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyInferredSchema>()?;
    m.add_function(wrap_pyfunction!(from_batches, m)?)?;
    m.add_function(wrap_pyfunction!(from_messages, m)?)
}
