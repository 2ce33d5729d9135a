//! `join`: with a second stream, with rows in memory, or with a Delta table.

use super::functions::rows_of;
use super::read::by_spark_if_need_be;
use super::spark::Reader;
use super::stream::PyStream;
use super::{catalog, convert, door};
use crate::flow::Stream;
use crate::flow::static_join::StaticSide;
use crate::flow::stream::{JoinOptions, parse_how};
use crate::hash::hex;
use crate::run::statics::delta_schema;
use crate::{Error, Result};
use arrow::compute::concat_batches;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use sha2::{Digest, Sha256};

/// Reads `on=`: "k", ["k", ("left", "right")] or {"left": "right"}.
fn pairs(on: &Bound<'_, PyAny>) -> PyResult<Vec<(String, String)>> {
    let wrong =
        || Error::config("join: on= takes a column, a list of columns or (left, right) pairs, or a dict {left: right}");
    if let Ok(one) = on.extract::<String>() {
        return Ok(vec![(one.clone(), one)]);
    }
    if let Ok(dict) = on.cast::<PyDict>() {
        let pair = |(l, r): (Bound<'_, PyAny>, Bound<'_, PyAny>)| Ok((l.extract()?, r.extract()?));
        return dict.iter().map(pair).collect::<PyResult<_>>().map_err(|_| wrong().into());
    }
    let mut out = vec![];
    for item in on.try_iter().map_err(|_| PyErr::from(wrong()))? {
        let item = item?;
        match item.extract::<String>() {
            Ok(one) => out.push((one.clone(), one)),
            Err(_) => out.push(item.extract::<(String, String)>().map_err(|_| PyErr::from(wrong()))?),
        }
    }
    Ok(out)
}

/// Reads `within=`: "10 minutes" in both directions, or (before, after).
fn reach(within: &Bound<'_, PyAny>) -> PyResult<(std::time::Duration, std::time::Duration)> {
    if let Ok(pair) = within.cast::<PyTuple>() {
        if pair.len() != 2 {
            return Err(Error::config("join: within= takes one duration, or a pair (before, after)").into());
        }
        return Ok((convert::span(&pair.get_item(0)?, "within")?, convert::span(&pair.get_item(1)?, "within")?));
    }
    let both = convert::span(within, "within")?;
    Ok((both, both))
}

#[allow(clippy::too_many_arguments)]
pub(super) fn join(
    py: Python<'_>,
    stream: &Stream,
    other: &Bound<'_, PyAny>,
    on: &Bound<'_, PyAny>,
    how: &str,
    within: Option<&Bound<'_, PyAny>>,
    suffix: &str,
    storage_options: Option<&Bound<'_, PyAny>>,
    spark: Option<&Bound<'_, PyAny>>,
) -> PyResult<Stream> {
    let options = JoinOptions { on: pairs(on)?, how: parse_how(how)?, suffix: suffix.into() };
    let within = within.filter(|w| !w.is_none());
    if let Ok(other) = other.extract::<PyRef<'_, PyStream>>() {
        let within = within.ok_or_else(|| {
            Error::config(
                "join: two streams need a range of time, or all rows of both would be kept for ever. Use within=\"10 minutes\", or \
                 within=(before, after) as seen from the left rows.",
            )
        })?;
        let (before, after) = reach(within)?;
        return Ok(stream.join_stream(&other.0, &options, before, after)?);
    }
    if within.is_some() {
        return Err(Error::config("join: within= is only for a join with a stream: a table has no event time").into());
    }
    let is_path = other.extract::<String>().is_ok() || other.hasattr("__fspath__")?;
    let (side, schema) = if is_path {
        let storage = super::storage::reading(storage_options)?;
        let own = || {
            let at = catalog::to_read(py, other, &storage)?;
            let opened = at.clone();
            Ok((StaticSide::Delta(at), door::run_async(py, delta_schema(opened))?))
        };
        match catalog::named_anywhere(other)? {
            None => own()?,
            Some(name) => {
                let only = catalog::only_by_spark(py, &name.schema, spark.is_some(), &storage)?;
                let through = |spark: &Reader<'_>| {
                    let (table, schema) = spark.joined(&name)?;
                    Ok((StaticSide::Foreign(table), schema))
                };
                by_spark_if_need_be(py, spark, only, own, through)?
            }
        }
    } else {
        let rows = rows_of(other)?;
        let schema = rows.schema.clone();
        let rows = concat_batches(&schema, &rows.batches).map_err(super::table::arrow_error)?;
        (StaticSide::Rows { identity: identity(&rows)?, rows, told: None }, schema)
    };
    Ok(stream.join_table(side, &schema, &options)?)
}

/// The identity of a table of rows. Equal rows have the same identity, also when the cell is run again.
fn identity(rows: &arrow::array::RecordBatch) -> Result<String> {
    let bytes = crate::state::encode(&rows.schema(), std::slice::from_ref(rows), "rows")?;
    Ok(hex(Sha256::digest(&bytes), 8))
}
