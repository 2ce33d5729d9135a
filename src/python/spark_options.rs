//! `read_stream(options=)`: the options of Spark's Kafka source, as a pasted cell has them.

use super::convert;
use crate::flow::source::Offsets;
use crate::flow::subscription::{Subscription, TopicPattern};
use crate::kafka::Connection;
use crate::time::{EventTime, parse_duration};
use crate::{Error, Result};
use pyo3::exceptions::PyUserWarning;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::collections::BTreeMap;
use std::time::Duration;

/// Options that are not needed here, and why.
const NOT_NEEDED: [(&str, &str); 8] = [
    ("minPartitions", "one process reads all partitions"),
    ("maxRecordsPerPartition", "one process reads all partitions"),
    ("includeHeaders", "raw rows always have their headers"),
    ("fetchOffset.numRetries", "questions to brokers are repeated by themselves"),
    ("fetchOffset.retryIntervalMs", "questions to brokers are repeated by themselves"),
    ("kafkaConsumer.pollTimeoutMs", "reading waits for brokers by itself"),
    ("groupIdPrefix", "queries keep positions in their checkpoint; batches(group_id=) joins a consumer group"),
    ("kafka.group.id", "queries keep positions in their checkpoint; batches(group_id=) joins a consumer group"),
];

const KNOWN: [&str; 17] = [
    "kafka.bootstrap.servers",
    "subscribe",
    "subscribePattern",
    "assign",
    "startingOffsets",
    "endingOffsets",
    "startingTimestamp",
    "endingTimestamp",
    "startingOffsetsByTimestamp",
    "endingOffsetsByTimestamp",
    "startingOffsetsByTimestampStrategy",
    "maxOffsetsPerTrigger",
    "minOffsetsPerTrigger",
    "maxTriggerDelay",
    "failOnDataLoss",
    "minPartitions",
    "includeHeaders",
];

/// The values of the options.
#[derive(Default)]
pub(super) struct SparkOptions {
    pub subscription: Option<Subscription>,
    pub starting: Option<Offsets>,
    pub ending: Option<Offsets>,
    pub max_offsets: Option<u64>,
    pub min_offsets: Option<u64>,
    pub max_delay: Option<Duration>,
    pub fail_on_data_loss: Option<bool>,
    pub fail_without_message: bool,
}

impl SparkOptions {
    pub(super) fn read(py: Python<'_>, options: Option<&Bound<'_, PyAny>>, connection: &Connection) -> PyResult<Self> {
        let mut out = Self::default();
        let mut not_needed = vec![];
        let of_connection = PyDict::new(py);
        let mut starts: BTreeMap<u8, Offsets> = BTreeMap::new();
        let mut ends: BTreeMap<u8, Offsets> = BTreeMap::new();
        let mut subscribed = vec![];
        for (key, value) in convert::string_map(options, "options=")? {
            // Spark's names are the same in any case.
            let known = KNOWN.iter().chain(NOT_NEEDED.iter().map(|(n, _)| n)).find(|k| k.eq_ignore_ascii_case(&key));
            let name = known.map_or(key.as_str(), |k| *k);
            let number = |what: &str| value.trim().parse().map_err(|_| wrong(name, &value, what));
            let offsets = || convert::offsets(PyString::new(py, &value).as_any(), name);
            match name {
                _ if name != "includeHeaders" && NOT_NEEDED.iter().any(|(n, _)| *n == name) => {
                    not_needed.push(name.to_string())
                }
                "includeHeaders" => {
                    if !value.eq_ignore_ascii_case("true") {
                        not_needed.push(name.to_string());
                    }
                }
                "subscribe" => {
                    let topics: Vec<&str> = value.split(',').map(str::trim).collect();
                    out.subscription = Some(Subscription::named(topics));
                    subscribed.push(name.to_string());
                }
                "subscribePattern" => {
                    out.subscription = Some(Subscription::Pattern(TopicPattern::new(&value)?.into()));
                    subscribed.push(name.to_string());
                }
                "assign" => {
                    let json =
                        serde_json::from_str(&value).map_err(|_| wrong(name, &value, "JSON as {\"topic\": [0, 1]}"))?;
                    out.subscription = Some(Subscription::assigned(&json)?);
                    subscribed.push(name.to_string());
                }
                // As in Spark, the first of several start options counts.
                "startingTimestamp" => drop(starts.insert(0, at(number("a number of milliseconds")?))),
                "startingOffsetsByTimestamp" => drop(starts.insert(1, times(name, &value)?)),
                "startingOffsets" => drop(starts.insert(2, offsets()?)),
                "endingTimestamp" => drop(ends.insert(0, at(number("a number of milliseconds")?))),
                "endingOffsetsByTimestamp" => drop(ends.insert(1, times(name, &value)?)),
                "endingOffsets" => drop(ends.insert(2, offsets()?)),
                "startingOffsetsByTimestampStrategy" => {
                    out.fail_without_message = match value.to_lowercase().as_str() {
                        "error" => true,
                        "latest" => false,
                        _ => return Err(wrong(name, &value, "\"error\" or \"latest\"").into()),
                    }
                }
                "maxOffsetsPerTrigger" => out.max_offsets = Some(count(name, &value)?),
                "minOffsetsPerTrigger" => out.min_offsets = Some(count(name, &value)?),
                "maxTriggerDelay" => {
                    out.max_delay =
                        Some(parse_duration(&value).map_err(|_| wrong(name, &value, "a time such as 15m"))?);
                }
                "failOnDataLoss" => {
                    let flag = value.to_lowercase().parse().map_err(|_| wrong(name, &value, "true or false"))?;
                    out.fail_on_data_loss = Some(flag);
                }
                k if k.starts_with("kafka.") => of_connection.set_item(k, &value)?,
                k => {
                    return Err(Error::config(format!(
                        "options: '{k}' is not an option of Spark's Kafka source that bayou takes.{}",
                        crate::error::did_you_mean(k, KNOWN)
                    ))
                    .into());
                }
            }
        }
        if subscribed.len() > 1 {
            return Err(Error::config(format!("options: give one of {}", subscribed.join(", "))).into());
        }
        (out.starting, out.ending) = (starts.into_values().next(), ends.into_values().next());
        check_connection(py, &of_connection, connection)?;
        for name in not_needed {
            let why = NOT_NEEDED.iter().find(|(n, _)| *n == name).map_or("", |(_, why)| *why);
            let text = std::ffi::CString::new(format!("options: {name} is not needed here, and has no effect: {why}"))?;
            PyErr::warn(py, &py.get_type::<PyUserWarning>(), &text, 1)?;
        }
        Ok(out)
    }
}

fn wrong(name: &str, value: &str, what: &str) -> Error {
    Error::config(format!("options: {name}='{value}' is not {what}"))
}

fn count(name: &str, value: &str) -> Result<u64> {
    value.trim().parse().ok().filter(|n| *n > 0).ok_or_else(|| wrong(name, value, "a number of at least 1"))
}

fn at(ms: i64) -> Offsets {
    Offsets::Time(EventTime::from_millis(ms))
}

/// Milliseconds by partition: {"topic": {"0": 1700000000000}}.
fn times(name: &str, value: &str) -> Result<Offsets> {
    let map: BTreeMap<String, BTreeMap<i32, i64>> = serde_json::from_str(value).map_err(|e| {
        Error::config(format!("options: {name}: {e}. Write it as {{\"topic\": {{\"0\": 1700000000000}}}}."))
    })?;
    let times = |ps: BTreeMap<i32, i64>| ps.into_iter().map(|(p, ms)| (p, EventTime::from_millis(ms))).collect();
    Ok(Offsets::Times(map.into_iter().map(|(topic, ps)| (topic, times(ps))).collect()))
}

/// A pasted cell repeats options of the connection. An option that differs would be ignored, so it is refused. Values are never shown.
fn check_connection(py: Python<'_>, given: &Bound<'_, PyDict>, connection: &Connection) -> PyResult<()> {
    if given.is_empty() {
        return Ok(());
    }
    let translated = py.import("bayou._security")?.call_method1("translated", (given,))?;
    for (name, value) in convert::string_map(Some(&translated), "options=")? {
        if name == "bootstrap.servers" {
            let set = |text: &str| {
                let mut all: Vec<String> = text.split(',').map(|a| a.trim().to_lowercase()).collect();
                all.sort();
                all
            };
            if set(&value) != set(connection.address()) {
                return Err(Error::config(format!(
                    "options: kafka.bootstrap.servers is not the address of this connection, which is '{}'. Connect to the other cluster: \
                     bayou.connect(options=…).",
                    connection.address()
                ))
                .into());
            }
        } else if !connection.has_property(&name, &value) {
            if let Some(advice) = crate::kafka::advice(&name) {
                return Err(Error::config(format!("options: 'kafka.{name}': {advice}.")).into());
            }
            return Err(Error::config(format!(
                "options: 'kafka.{name}' is a property of the connection, and this connection has a different value or no value. Write \
                 bayou.connect(options=…) with the same options, or bayou.connect({{\"{name}\": …}})."
            ))
            .into());
        }
    }
    Ok(())
}
