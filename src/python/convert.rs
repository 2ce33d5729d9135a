//! Converts the values that users write to those of the core. Many forms are accepted. An error names the right form.

use super::spark_schema;
use crate::expr::{Dialect, parse_ddl, parse_type};
use crate::flow::source::Offsets;
use crate::time::EventTime;
use crate::{Error, Result};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDateTime, PyDelta, PyDeltaAccess, PyDict, PyList, PyString, PyTuple, PyTzInfoAccess};
use pyo3_arrow::PySchema;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads the schema of messages. True: the schema is one type, an ARRAY or a MAP, for the document as a whole, and its one column is `value`.
pub(super) fn document(value: Option<&Bound<'_, PyAny>>) -> PyResult<(Option<SchemaRef>, bool)> {
    let Some(value) = value.filter(|v| !v.is_none()) else { return Ok((None, false)) };
    if let Some(text) = text_of_schema(value)?
        && let Ok(of) = parse_type(&text)
    {
        match of {
            DataType::List(_) | DataType::Map(..) => {
                return Ok((Some(Arc::new(Schema::new(vec![Field::new("value", of, true)]))), true));
            }
            DataType::Struct(fields) => return Ok((Some(Arc::new(Schema::new(fields))), false)),
            _ => {}
        }
    }
    Ok((Some(schema(value)?), false))
}

/// The DDL of a schema that is text: DDL, Spark's JSON, or a type of PySpark.
fn text_of_schema(value: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    match value.extract::<String>() {
        Ok(json) if json.trim_start().starts_with('{') => Ok(Some(spark_schema::ddl_of_json(&json)?)),
        Ok(text) => Ok(Some(text)),
        Err(_) => spark_schema::ddl_of(value),
    }
}

/// Reads a schema: a DDL string, an Arrow schema, {name: type}, or a StructType of PySpark.
pub(super) fn schema(value: &Bound<'_, PyAny>) -> PyResult<SchemaRef> {
    if let Some(text) = text_of_schema(value)? {
        return Ok(Arc::new(parse_ddl(&text)?));
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        let mut fields = vec![];
        for (name, data_type) in dict.iter() {
            let name: String = name.extract()?;
            let text = text_of_schema(&data_type)?.ok_or_else(|| {
                Error::schema(format!("schema: the type of '{name}' must be a string such as \"INT\" or \"TIMESTAMP\""))
            })?;
            fields.push(Field::new(&name, parse_type(&text).map_err(|e| e.context(format!("column '{name}'")))?, true));
        }
        return Ok(Arc::new(parse_ddl(&crate::expr::to_ddl(&Schema::new(fields)))?));
    }
    match value.extract::<PySchema>() {
        // The schema goes through DDL and back. So the types are those that bayou returns, whatever the widths and zones of the original are.
        Ok(s) => {
            let plain = crate::read::plain(&s.into_inner(), vec![])?;
            Ok(Arc::new(parse_ddl(&crate::expr::to_ddl(&plain.schema))?))
        }
        Err(_) => Err(Error::schema(
            "schema= takes a DDL string such as \"time TIMESTAMP, bpm INT\", an Arrow schema, a StructType of PySpark, or a dict {\"bpm\": \"INT\"}",
        )
        .into()),
    }
}

/// Reads a path or a URL: a string, or anything that `os.fspath` accepts.
pub(super) fn path(value: &Bound<'_, PyAny>) -> PyResult<String> {
    if let Ok(text) = value.extract::<String>() {
        return Ok(text);
    }
    match value.py().import("os")?.call_method1("fspath", (value,)) {
        Ok(text) => text.extract(),
        Err(_) => Err(Error::config(format!("a path or URL is needed, not {}", value.get_type().name()?)).into()),
    }
}

pub(super) fn dialect(text: Option<&str>) -> Result<Dialect> {
    match text {
        None | Some("databricks" | "spark") => Ok(Dialect::Databricks),
        Some("datafusion") => Ok(Dialect::DataFusion),
        Some(other) => Err(Error::config(format!("dialect='{other}': use \"databricks\" or \"datafusion\""))),
    }
}

/// Reads a duration: "10 seconds", a timedelta, or a number of seconds.
pub(super) fn duration(value: &Bound<'_, PyAny>, what: &str) -> PyResult<String> {
    if let Ok(text) = value.extract::<String>() {
        return Ok(text);
    }
    if let Ok(delta) = value.cast::<PyDelta>() {
        let us = (i64::from(delta.get_days()) * 86_400 + i64::from(delta.get_seconds())) * 1_000_000
            + i64::from(delta.get_microseconds());
        if us < 0 {
            return Err(Error::config(format!("{what} must not be negative")).into());
        }
        return Ok(format!("{us} us"));
    }
    if let Ok(seconds) = value.extract::<f64>()
        // True is a number to Python.
        && !value.is_instance_of::<PyBool>()
        && seconds >= 0.0
    {
        return Ok(format!("{} us", (seconds * 1e6).round()));
    }
    Err(Error::config(format!("{what}: write it as \"10 seconds\" or a timedelta")).into())
}

/// The same as `duration`, as a `Duration`.
pub(super) fn span(value: &Bound<'_, PyAny>, what: &str) -> PyResult<std::time::Duration> {
    let text = duration(value, what)?;
    Ok(crate::time::parse_duration(&text).map_err(|e| Error::config(format!("{what}: {e}")))?)
}

/// A count. A negative number gives bayou's own error, because Python's error is about unsigned integers.
pub(super) struct Count(pub usize);

/// A path or URL as an argument: text, or anything with `__fspath__`.
pub(super) struct PathText(pub String);

impl<'py> FromPyObject<'_, 'py> for PathText {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        path(&value).map(Self)
    }
}

impl<'py> FromPyObject<'_, 'py> for Count {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match value.extract::<i128>() {
            Ok(n) => usize::try_from(n).map(Self).map_err(|_| {
                Error::config(format!("{n} is not a number of rows. Give 0 or more, or leave it out for no limit."))
                    .into()
            }),
            Err(_) => Err(pyo3::exceptions::PyTypeError::new_err(format!(
                "a number of rows is needed, not {}",
                value.get_type().name()?
            ))),
        }
    }
}

/// Reads a number of bytes, at least `least`: "2 GB", "512 MiB", or an integer.
pub(super) fn bytes(value: Option<&Bound<'_, PyAny>>, what: &str, least: usize) -> PyResult<Option<usize>> {
    let Some(value) = value.filter(|v| !v.is_none()) else { return Ok(None) };
    let wrong = || Error::config(format!("{what}: write it as \"2 GB\", \"512 MiB\" or a number of bytes"));
    let bytes = match value.extract::<String>() {
        Err(_) => value.extract::<u64>().map_err(|_| wrong())? as f64,
        Ok(text) => {
            let text = text.trim().to_lowercase();
            let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
            let unit = match text[digits..].trim() {
                "" | "b" => 1.0,
                "kb" | "k" => 1e3,
                "mb" | "m" => 1e6,
                "gb" | "g" => 1e9,
                "tb" | "t" => 1e12,
                "kib" => 1024.0,
                "mib" => 1_048_576.0,
                "gib" => 1_073_741_824.0,
                _ => return Err(wrong().into()),
            };
            text[..digits].parse::<f64>().map_err(|_| wrong())? * unit
        }
    };
    if bytes < least as f64 {
        let least = if least == 1 { "1 byte" } else { "1 MiB" };
        return Err(Error::config(format!("{what} must be at least {least}")).into());
    }
    Ok(Some(bytes as usize))
}

/// Reads an aware datetime as event time.
fn instant(value: &Bound<'_, PyDateTime>, what: &str) -> PyResult<EventTime> {
    if value.get_tzinfo().is_none() {
        return Err(Error::config(format!(
            "{what}: the datetime has no time zone. Write it as datetime(2024, 1, 31, tzinfo=timezone.utc)."
        ))
        .into());
    }
    let seconds: f64 = value.call_method0("timestamp")?.extract()?;
    let micros: i64 = value.getattr("microsecond")?.extract()?;
    Ok(EventTime((seconds.floor() as i64) * 1_000_000 + micros))
}

pub(super) fn event_time(value: &Bound<'_, PyAny>, what: &str) -> PyResult<EventTime> {
    match value.cast::<PyDateTime>() {
        Ok(d) => instant(d, what),
        Err(_) => Err(Error::config(format!("{what} takes an aware datetime")).into()),
    }
}

/// Reads offsets: earliest, latest, an aware datetime, {"topic": {0: 42}}, or Spark's JSON text of such a dict.
pub(super) fn offsets(value: &Bound<'_, PyAny>, what: &str) -> PyResult<Offsets> {
    if let Ok(text) = value.cast::<PyString>() {
        let text = text.to_string();
        return match text.trim() {
            "earliest" => Ok(Offsets::Earliest),
            "latest" => Ok(Offsets::Latest),
            json if json.starts_with('{') => {
                let map: BTreeMap<String, BTreeMap<i32, i64>> = serde_json::from_str(json)
                    .map_err(|e| Error::config(format!("{what}: {e}. Write it as {{\"topic\": {{\"0\": 42}}}}.")))?;
                Ok(Offsets::Exact(map))
            }
            other => {
                let hint = crate::error::did_you_mean(other, ["earliest", "latest"]);
                Err(Error::config(format!("{what}='{other}': use \"earliest\", \"latest\", an aware datetime, or {{\"topic\": {{0: 42}}}}.{hint}")).into())
            }
        };
    }
    if let Ok(d) = value.cast::<PyDateTime>() {
        return Ok(Offsets::Time(instant(d, what)?));
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        let (mut exact, mut times) = (BTreeMap::new(), BTreeMap::new());
        let wrong = || {
            Error::config(format!(
                "{what}: write offsets as {{\"topic\": {{0: 42, 1: -2}}}}, or an aware datetime for each partition"
            ))
        };
        for (topic, partitions) in dict.iter() {
            let topic: String = topic.extract()?;
            for (p, o) in partitions.cast::<PyDict>().map_err(|_| wrong())?.iter() {
                let p: i32 =
                    p.extract().or_else(|_| p.extract::<String>()?.parse().map_err(|_| PyErr::from(wrong())))?;
                match o.cast::<PyDateTime>() {
                    Ok(time) => {
                        let of: &mut BTreeMap<_, _> = times.entry(topic.clone()).or_default();
                        of.insert(p, instant(time, what)?);
                    }
                    Err(_) => {
                        let of: &mut BTreeMap<_, _> = exact.entry(topic.clone()).or_default();
                        of.insert(p, o.extract::<i64>().map_err(|_| wrong())?);
                    }
                }
            }
        }
        return match (exact.is_empty(), times.is_empty()) {
            (_, true) => Ok(Offsets::Exact(exact)),
            (true, false) => Ok(Offsets::Times(times)),
            (false, false) => Err(wrong().into()),
        };
    }
    Err(Error::config(format!("{what} takes \"earliest\", \"latest\", an aware datetime, or {{\"topic\": {{0: 42}}}}"))
        .into())
}

/// A column or a list of columns. `what`: the argument, as its error names it.
pub(super) fn columns(value: &Bound<'_, PyAny>, what: &str) -> PyResult<Vec<String>> {
    match value.extract::<String>() {
        Ok(one) => Ok(vec![one]),
        Err(_) => value.extract().map_err(|_| no_columns(what).into()),
    }
}

pub(super) fn no_columns(what: &str) -> Error {
    Error::config(format!("{what} takes a column or a list of columns"))
}

/// Flattens positional arguments and lists of strings.
pub(super) fn strings(args: &Bound<'_, PyTuple>, what: &str) -> PyResult<Vec<String>> {
    let mut out = vec![];
    for arg in args.iter() {
        if let Ok(list) = arg.cast::<PyList>() {
            for item in list.iter() {
                out.push(one_string(&item, what)?);
            }
        } else {
            out.push(one_string(&arg, what)?);
        }
    }
    Ok(out)
}

fn one_string(value: &Bound<'_, PyAny>, what: &str) -> PyResult<String> {
    value.extract::<String>().map_err(|_| {
        let kind = value.get_type().name().map(|n| n.to_string()).unwrap_or_default();
        if what == "agg" && value.is_instance_of::<PyDict>() {
            let text = "agg takes SQL expressions as strings, not dict. Write agg(\"sum(n) AS n\"), or agg(n=\"sum(n)\").";
            return Error::schema(text).into();
        }
        Error::schema(format!("{what} takes SQL expressions as strings, not {kind}. Write \"heart_bpm AS bpm\" instead of col(\"heart_bpm\").")).into()
    })
}

pub(super) fn string_map(value: Option<&Bound<'_, PyAny>>, what: &str) -> PyResult<BTreeMap<String, String>> {
    let Some(value) = value.filter(|v| !v.is_none()) else { return Ok(BTreeMap::new()) };
    let dict = value.cast::<PyDict>().map_err(|_| Error::config(format!("{what} takes a dict")))?;
    let mut out = BTreeMap::new();
    for (k, v) in dict.iter() {
        let text = match v.extract::<bool>() {
            Ok(b) => b.to_string(),
            Err(_) => v.str()?.to_string(),
        };
        out.insert(k.extract::<String>().map_err(|_| Error::config(format!("{what}: names must be strings")))?, text);
    }
    Ok(out)
}

/// Refuses arguments that a call does not have. The error names the argument that the call does have.
pub(super) fn refuse_unknown(unknown: Option<&Bound<'_, PyDict>>, call: &str, known: &[&str]) -> PyResult<()> {
    let Some((name, value)) = unknown.and_then(|u| u.iter().next()) else { return Ok(()) };
    let name: String = name.extract()?;
    let value = value.extract::<String>().unwrap_or_default();
    let hint = match super::words::neighbour(&name) {
        // The user writes Spark's or deltalake's words: mode="overwrite".
        _ if matches!(name.as_str(), "mode" | "outputMode") && value == "overwrite" => {
            " To write everything again from the start, use full_refresh=True. To keep only the latest result, use output_mode=\"complete\".".into()
        }
        _ if name == "mode" && matches!(value.as_str(), "ignore" | "error" | "errorifexists") => {
            " There is no such mode here: a run continues where the last one stopped.".into()
        }
        Some(right) => format!(" Here it is called {right}."),
        None => crate::error::did_you_mean(&name, known.iter().copied()),
    };
    Err(pyo3::exceptions::PyTypeError::new_err(format!("{call}() has no argument '{name}'.{hint}")))
}
