//! Sources of streams: topics, or rows or messages in memory.

use super::convert;
use super::door;
use super::stream::PyStream;
use crate::batch::{Message, Messages};
use crate::decode::json::TimestampUnit;
use crate::decode::{DecodeOptions, Format, Given, OnTombstone};
use crate::flow::Stream;
use crate::flow::source::{KafkaSource, MessagesSource, Offsets, OnMalformed, RowsSource};
use crate::kafka::Connection;
use crate::position::{Topic, TopicPartition};
use crate::{Error, Result};
use pyo3::prelude::*;
use std::sync::Arc;

pub struct Asked<'a, 'py> {
    pub topics: Option<&'a Bound<'py, PyAny>>,
    pub schema: Option<&'a Bound<'py, PyAny>>,
    pub format: Option<String>,
    pub starting_offsets: Option<&'a Bound<'py, PyAny>>,
    pub ending_offsets: Option<&'a Bound<'py, PyAny>>,
    pub max_offsets_per_trigger: Option<u64>,
    pub fail_on_data_loss: Option<bool>,
    pub on_malformed: Option<&'a str>,
    pub max_malformed: f64,
    pub on_tombstone: Option<&'a str>,
    pub timezone: Option<String>,
    pub timestamp_unit: Option<&'a Bound<'py, PyAny>>,
    pub include_metadata: bool,
    pub max_message_bytes: Option<&'a Bound<'py, PyAny>>,
    pub options: Option<&'a Bound<'py, PyAny>>,
}

fn on_malformed(text: Option<&str>) -> Result<Option<OnMalformed>> {
    match text {
        None => Ok(None),
        Some("fail") => Ok(Some(OnMalformed::Fail)),
        Some("drop") => Ok(Some(OnMalformed::Drop)),
        Some("quarantine") => Ok(Some(OnMalformed::Quarantine)),
        Some(other) => Err(Error::config(format!("on_malformed='{other}': use \"fail\", \"drop\" or \"quarantine\""))),
    }
}

fn unit(text: &str) -> Result<TimestampUnit> {
    match text {
        "s" => Ok(TimestampUnit::S),
        "ms" => Ok(TimestampUnit::Ms),
        "us" => Ok(TimestampUnit::Us),
        "ns" => Ok(TimestampUnit::Ns),
        other => Err(Error::config(format!("timestamp_unit='{other}': use \"s\", \"ms\", \"us\" or \"ns\""))),
    }
}

pub fn decode_options(
    format: Option<&str>,
    whole: bool,
    timezone: Option<String>,
    timestamp_unit: Option<&Bound<'_, PyAny>>,
    on_tombstone: Option<&str>,
    include_metadata: bool,
    max_message_bytes: Option<&Bound<'_, PyAny>>,
) -> PyResult<DecodeOptions> {
    let mut out = DecodeOptions { include_metadata, ..DecodeOptions::default() };
    if let Some(bytes) = convert::bytes(max_message_bytes, "max_message_bytes", 1)? {
        out.max_message_bytes = bytes;
    }
    out.on_tombstone = match on_tombstone {
        None | Some("skip") => OnTombstone::Skip,
        Some("null_row") => OnTombstone::NullRow,
        Some("quarantine") => OnTombstone::Quarantine,
        Some(other) => {
            return Err(
                Error::config(format!("on_tombstone='{other}': use \"skip\", \"null_row\" or \"quarantine\"")).into()
            );
        }
    };
    let mut given = Given { timezone, whole, ..Given::default() };
    match timestamp_unit.map(|v| (v, v.extract::<String>())) {
        None => {}
        Some((_, Ok(text))) => given.timestamp_unit = Some(unit(&text)?),
        Some((v, Err(_))) => {
            for (column, text) in convert::string_map(Some(v), "timestamp_unit")? {
                given.timestamp_units.insert(column, unit(&text)?);
            }
        }
    }
    out.format = Format::read(format.unwrap_or("json"), given)?;
    Ok(out)
}

/// Reads the source's options in Spark's spelling.
fn spark_options(asked: &mut SparkAsked, options: Option<&Bound<'_, PyAny>>, connection: &Connection) -> PyResult<()> {
    for (key, value) in convert::string_map(options, "options=")? {
        let wrong = |what: &str| Error::config(format!("options: {key}='{value}' is not {what}"));
        match key.as_str() {
            "kafka.bootstrap.servers" => {
                if value != connection.address() {
                    return Err(Error::config(format!("options: kafka.bootstrap.servers is '{value}', and this connection is to '{}'. Connect to it with bayou.connect(\"{value}\").", connection.address())).into());
                }
            }
            "subscribe" => asked.topics = Some(value.split(',').map(|t| t.trim().to_string()).collect()),
            "startingOffsets" => asked.starting = Some(value),
            "endingOffsets" => asked.ending = Some(value),
            "maxOffsetsPerTrigger" => asked.max = Some(value.parse().map_err(|_| wrong("a number"))?),
            "failOnDataLoss" => asked.fail = Some(value.to_lowercase().parse().map_err(|_| wrong("true or false"))?),
            "includeHeaders" => {}
            "startingTimestamp" => {
                asked.starting_ms = Some(value.parse().map_err(|_| wrong("a number of milliseconds"))?)
            }
            "endingTimestamp" => asked.ending_ms = Some(value.parse().map_err(|_| wrong("a number of milliseconds"))?),
            "subscribePattern" | "assign" => {
                return Err(Error::config(format!(
                    "options: '{key}' is not in this version. Use subscribe with topic names."
                ))
                .into());
            }
            "startingOffsetsByTimestamp" | "endingOffsetsByTimestamp" => {
                let which = if key.starts_with("starting") { "starting" } else { "ending" };
                return Err(Error::config(format!(
                    "options: '{key}' is not in this version: one time counts for all partitions. Write {{\"{which}Timestamp\": 1700000000000}} \
                     (milliseconds), or {which}_offsets=datetime(2024, 1, 31, tzinfo=timezone.utc)."
                ))
                .into());
            }
            "startingOffsetsByTimestampStrategy"
            | "minPartitions"
            | "fetchOffset.numRetries"
            | "fetchOffset.retryIntervalMs"
            | "minOffsetsPerTrigger"
            | "maxTriggerDelay"
            | "kafkaConsumer.pollTimeoutMs" => {
                return Err(Error::config(format!("options: '{key}' has no counterpart here. Leave it out.")).into());
            }
            "kafka.group.id" | "groupIdPrefix" => {
                return Err(Error::config(format!("options: '{key}' has no counterpart here: bayou keeps positions in its checkpoint and joins no consumer group. Leave it out.")).into());
            }
            k if k.starts_with("kafka.") => {
                if let Some(advice) = crate::kafka::advice(&k[6..]) {
                    return Err(Error::config(format!("options: '{k}': {advice}.")).into());
                }
                return Err(Error::config(format!(
                    "options: '{k}' belongs to the connection. Write bayou.connect({{\"{}\": …}}).",
                    &k[6..]
                ))
                .into());
            }
            k => {
                let known = [
                    "kafka.bootstrap.servers",
                    "subscribe",
                    "startingOffsets",
                    "endingOffsets",
                    "maxOffsetsPerTrigger",
                    "failOnDataLoss",
                    "includeHeaders",
                    "startingTimestamp",
                    "endingTimestamp",
                ];
                return Err(Error::config(format!(
                    "options: '{k}' is not an option of Spark's Kafka source that bayou takes.{}",
                    crate::error::did_you_mean(k, known)
                ))
                .into());
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct SparkAsked {
    topics: Option<Vec<String>>,
    starting: Option<String>,
    ending: Option<String>,
    max: Option<u64>,
    fail: Option<bool>,
    starting_ms: Option<i64>,
    ending_ms: Option<i64>,
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
                    "read_stream: '{topic}' is not a topic name, and patterns are not in this version. Pick the names: \
                     read_stream([t[\"topic\"] for t in kafka.topics().to_dicts() if re.match(\"…\", t[\"topic\"])])"
                ),
                false => format!(
                    "read_stream: '{topic}' is not a topic name. A topic name has only letters, digits, dots, underscores and hyphens."
                ),
            }));
        }
    }
    Ok(())
}

pub fn read_stream(py: Python<'_>, connection: &Connection, asked: Asked<'_, '_>) -> PyResult<PyStream> {
    let mut spark = SparkAsked::default();
    spark_options(&mut spark, asked.options, connection)?;
    let topics: Vec<String> = match asked.topics.filter(|t| !t.is_none()) {
        Some(t) => match t.extract::<String>() {
            Ok(one) => vec![one],
            Err(_) => t
                .extract::<Vec<String>>()
                .map_err(|_| Error::config("read_stream takes a topic's name or a list of names"))?,
        },
        None => spark.topics.clone().unwrap_or_default(),
    };
    check_topics(&topics)?;
    let side = |value: Option<&Bound<'_, PyAny>>,
                text: Option<String>,
                ms: Option<i64>,
                what: &str|
     -> PyResult<Option<Offsets>> {
        if let Some(v) = value.filter(|v| !v.is_none()) {
            return Ok(Some(convert::offsets(v, what)?));
        }
        if let Some(ms) = ms {
            return Ok(Some(Offsets::Time(crate::time::EventTime::from_millis(ms))));
        }
        text.map(|t| convert::offsets(pyo3::types::PyString::new(py, &t).as_any(), what)).transpose()
    };
    let starting = side(asked.starting_offsets, spark.starting, spark.starting_ms, "starting_offsets")?
        .unwrap_or(Offsets::Earliest);
    let ending = side(asked.ending_offsets, spark.ending, spark.ending_ms, "ending_offsets")?;
    if ending == Some(Offsets::Earliest) {
        return Err(Error::config(
            "ending_offsets=\"earliest\" would read nothing. Use \"latest\", a datetime or offsets.",
        )
        .into());
    }
    if asked.max_offsets_per_trigger.or(spark.max) == Some(0) {
        return Err(Error::config("max_offsets_per_trigger must be at least 1").into());
    }
    if !(0.0..=1.0).contains(&asked.max_malformed) {
        return Err(Error::config("max_malformed must be a share between 0 and 1").into());
    }
    let format = asked.format.or_else(|| (asked.schema.is_none() && asked.options.is_some()).then(|| "raw".into()));
    let (schema, whole) = convert::document(asked.schema)?;
    let source = KafkaSource {
        connection: connection.clone(),
        topics: topics.iter().map(Topic::new).collect(),
        schema,
        decode: decode_options(
            format.as_deref(),
            whole,
            asked.timezone,
            asked.timestamp_unit,
            asked.on_tombstone,
            asked.include_metadata,
            asked.max_message_bytes,
        )?,
        on_malformed: on_malformed(asked.on_malformed)?,
        max_malformed: asked.max_malformed,
        starting,
        ending,
        max_offsets_per_trigger: asked.max_offsets_per_trigger.or(spark.max),
        fail_on_data_loss: asked.fail_on_data_loss.or(spark.fail).unwrap_or(true),
    };
    // The decoder refuses types and time zones that it does not support. The broker refuses topics that do not exist.
    crate::decode::Decoder::new(source.schema.as_ref(), &source.decode)?;
    let check = (connection.clone(), source.topics.clone());
    door::run(py, move || check.1.iter().try_for_each(|t| check.0.partitions(t).map(drop)))?;
    Ok(PyStream(Stream::kafka(source)?))
}

/// A stream of rows in memory.
#[pyfunction]
fn from_batches(rows: &Bound<'_, PyAny>) -> PyResult<PyStream> {
    let plain = super::functions::rows_of(rows)?;
    Ok(PyStream(Stream::rows(RowsSource::new(plain.schema, plain.batches))))
}

/// A stream of messages in memory, decoded as if they came from a topic.
#[pyfunction]
#[pyo3(signature = (messages, *, schema=None, format=None, on_malformed=None, on_tombstone=None, timezone=None, timestamp_unit=None, include_metadata=false, max_message_bytes=None))]
#[allow(clippy::too_many_arguments)]
fn from_messages(
    messages: &Bound<'_, PyAny>,
    schema: Option<&Bound<'_, PyAny>>,
    format: Option<&str>,
    on_malformed: Option<&str>,
    on_tombstone: Option<&str>,
    timezone: Option<String>,
    timestamp_unit: Option<&Bound<'_, PyAny>>,
    include_metadata: bool,
    max_message_bytes: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyStream> {
    let (schema, whole) = convert::document(schema)?;
    let decode =
        decode_options(format, whole, timezone, timestamp_unit, on_tombstone, include_metadata, max_message_bytes)?;
    crate::decode::Decoder::new(schema.as_ref(), &decode)?;
    let mut all = Messages::new(vec![TopicPartition::new("messages at hand", 0)].into());
    for (i, item) in messages.try_iter()?.enumerate() {
        let item = item?;
        let value: Option<Vec<u8>> = if item.is_none() {
            None
        } else if let Ok(text) = item.extract::<String>() {
            Some(text.into_bytes())
        } else {
            Some(
                item.extract::<Vec<u8>>()
                    .map_err(|_| Error::schema(format!("from_messages: item {i} is neither bytes, str nor None")))?,
            )
        };
        let message = Message { offset: i as i64, timestamp: -1, value: value.as_deref(), ..Message::default() };
        all.push(message, decode.max_message_bytes);
    }
    let source = MessagesSource {
        messages: Arc::new(all),
        schema,
        decode,
        on_malformed: self::on_malformed(on_malformed)?,
        told: None,
    };
    Ok(PyStream(Stream::messages(source)?))
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(from_batches, m)?)?;
    m.add_function(wrap_pyfunction!(from_messages, m)?)
}
