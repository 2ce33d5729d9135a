//! Kafka topics as outputs.

use super::arguments::Arguments;
use super::connection::PyConnection;
use super::convert;
use crate::flow::Stream;
use crate::sink::topic::{Create, TopicOptions};
use crate::{Error, Result};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;

const CREATE: [&str; 4] = ["partitions", "replication_factor", "config", "exist_ok"];

/// The columns of the key. A list without columns is refused.
fn key(value: Option<Bound<'_, PyAny>>) -> PyResult<Vec<String>> {
    let Some(value) = value else { return Ok(vec![]) };
    let columns = convert::columns(&value, "key=")?;
    if columns.is_empty() { Err(convert::no_columns("key=").into()) } else { Ok(columns) }
}

/// The arguments of `create_topic`, without the name.
fn create(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Create>> {
    let Some(value) = value.filter(|v| !v.is_none()) else { return Ok(None) };
    let wrong = || {
        Error::config(
            "create= takes the arguments of create_topic as a dict: {\"partitions\": 3, \"replication_factor\": 2, \"config\": {…}}",
        )
    };
    let given = value.cast::<PyDict>().map_err(|_| wrong())?;
    for name in given.keys() {
        let name: String = name.extract().map_err(|_| wrong())?;
        if !CREATE.contains(&name.as_str()) {
            let hint = crate::error::did_you_mean(&name, CREATE);
            return Err(Error::config(format!("create= has no '{name}'.{hint} It takes {}.", CREATE.join(", "))).into());
        }
    }
    let number = |name: &str| -> PyResult<Option<i32>> {
        let given = given.get_item(name)?.filter(|v| !v.is_none());
        given
            .map(|v| v.extract::<i32>().map_err(|_| Error::config(format!("create=: {name} is a number")).into()))
            .transpose()
    };
    let partitions = number("partitions")?.unwrap_or(1);
    if partitions < 1 {
        return Err(Error::config("create=: partitions must be at least 1").into());
    }
    Ok(Some(Create {
        partitions,
        replication_factor: number("replication_factor")?.unwrap_or(-1),
        config: convert::string_map(given.get_item("config")?.as_ref(), "create=: config")?,
    }))
}

/// The options of a topic: to, key, headers_column, partition_column, timestamp, format, create.
pub(super) fn options(topic: &str, a: &mut Arguments<'_, '_>, stream: &Stream) -> PyResult<TopicOptions> {
    let mut column = |name: &'static str| -> PyResult<Option<String>> {
        let wrong = |_| Error::config(format!("{name}= takes the name of a column, as text"));
        Ok(a.any(name)?.map(|v| v.extract::<String>().map_err(wrong)).transpose()?)
    };
    let (headers_column, partition_column) = (column("headers_column")?, column("partition_column")?);
    let timestamp = column("timestamp")?;
    match a.text("format")?.as_deref() {
        None | Some("json") => {}
        Some(other) => {
            return Err(Error::config(format!(
                "format='{other}': messages are written as \"json\". For other formats make the value yourself, and use foreach_batch with produce(value=)."
            ))
            .into());
        }
    }
    let connection = match a.any("to")? {
        Some(to) => {
            let wrong = |_| Error::config("to= takes a connection, as bayou.connect returns it");
            to.extract::<PyRef<'_, PyConnection>>().map_err(wrong)?.0.clone()
        }
        None => stream.kafka_sources().first().map(|s| s.connection.clone()).ok_or_else(|| {
            Error::config("rows in memory have no position to continue from. Publish them with produce().")
        })?,
    };
    Ok(TopicOptions {
        cluster: Arc::new(connection),
        topic: topic.into(),
        key: resolved(key(a.any("key")?)?, stream)?,
        headers_column,
        partition_column,
        timestamp,
        create: create(a.any("create")?.as_ref())?,
    })
}

/// The columns as the stream spells them.
fn resolved(columns: Vec<String>, stream: &Stream) -> Result<Vec<String>> {
    let one =
        |c: &String| crate::expr::resolve_column(c, stream.schema()).map(|i| stream.schema().field(i).name().clone());
    columns.iter().map(one).collect::<Result<_>>().map_err(|e| e.context("key"))
}
