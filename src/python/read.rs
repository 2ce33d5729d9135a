//! Reading tables and SQL over them.

use super::convert;
use super::door;
use super::table::PyTable;
use crate::expr::{Listed, Role};
use crate::flow::QUARANTINE;
use crate::flow::places::is_quarantine;
use crate::progress::RuleCount;
use crate::read::{self, Rows, Source};
use crate::storage::Location;
use crate::{Error, Result};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::BTreeMap;
use std::sync::Arc;

#[doc = doc!("read_delta")]
#[pyfunction]
#[pyo3(signature = (target, *, version=None, storage_options=None))]
fn read_delta(
    py: Python<'_>,
    target: &Bound<'_, PyAny>,
    version: Option<u64>,
    storage_options: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTable> {
    let at = Location::parse(&convert::path(target)?, &super::storage::options(storage_options)?)?;
    Ok(PyTable::new(door::run_async(py, read::table(at, version))?))
}

#[doc = doc!("sql")]
#[pyfunction]
#[pyo3(signature = (query, *, storage_options=None, **tables))]
fn sql(
    py: Python<'_>,
    query: String,
    storage_options: Option<&Bound<'_, PyAny>>,
    tables: Option<&Bound<'_, PyDict>>,
) -> PyResult<PyTable> {
    let storage = super::storage::options(storage_options)?;
    let mut sources = BTreeMap::new();
    for (name, value) in tables.into_iter().flat_map(|t| t.iter()) {
        let name: String = name.extract()?;
        let source = if value.extract::<String>().is_ok() || value.hasattr("__fspath__")? {
            let path = convert::path(&value)?;
            Source::Delta(Location::parse(&path, &storage)?, None)
        } else {
            let rows = super::functions::rows_of(&value)?;
            Source::Rows(rows.schema, rows.batches)
        };
        sources.insert(name, source);
    }
    Ok(PyTable::new(door::run_async(py, async move { read::sql(&query, sources).await })?))
}

/// A pipeline's tables below `root`, each at the version of the newest finished epoch.
async fn pipeline_tables(root: &Location, checkpoint: &Location) -> Result<BTreeMap<String, (Location, Option<u64>)>> {
    let done = read::newest_done(checkpoint).await?;
    let mut out = BTreeMap::new();
    for name in root.folders("").await? {
        if name.starts_with(['_', '.']) {
            continue;
        }
        let at = root.join(&name);
        if at.folders("").await?.iter().any(|f| f == "_delta_log") {
            let version = done.as_ref().and_then(|d| {
                // Quarantine tables of other pipelines may lie below the same root. They are read at their newest version.
                let key = if is_quarantine(&name, &checkpoint.name()) { QUARANTINE } else { &name };
                d.tables.get(key).map(|t| t.version)
            });
            out.insert(name, (at, version));
        }
    }
    Ok(out)
}

fn locations(
    py: Python<'_>,
    root: &str,
    checkpoint: &str,
    storage: Option<&Bound<'_, PyAny>>,
) -> PyResult<(Location, Location)> {
    let _ = py;
    let storage = super::storage::options(storage)?;
    Ok((Location::parse(root, &storage)?, Location::parse(checkpoint, &storage)?))
}

#[pyfunction]
fn _pipeline_tables(
    py: Python<'_>,
    root: &str,
    checkpoint: &str,
    storage: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<(String, String, Option<u64>)>> {
    let (root, checkpoint) = locations(py, root, checkpoint, storage)?;
    let found = door::run_async(py, async move { pipeline_tables(&root, &checkpoint).await })?;
    Ok(found.into_iter().map(|(n, (at, v))| (n, at.display(), v)).collect())
}

#[pyfunction]
fn _pipeline_sql(
    py: Python<'_>,
    query: String,
    root: &str,
    checkpoint: &str,
    storage: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTable> {
    let (root, checkpoint) = locations(py, root, checkpoint, storage)?;
    let rows = door::run_async(py, async move {
        let tables = pipeline_tables(&root, &checkpoint).await?;
        if tables.is_empty() {
            return Err(Error::storage(format!("{}: there are no tables here yet", root.display())));
        }
        let sources = tables.into_iter().map(|(n, (at, v))| (n, Source::Delta(at, v))).collect();
        read::sql(&query, sources).await
    })?;
    Ok(PyTable::new(rows))
}

#[pyfunction]
fn _pipeline_read(
    py: Python<'_>,
    name: String,
    root: &str,
    checkpoint: &str,
    storage: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyTable> {
    let (root, checkpoint) = locations(py, root, checkpoint, storage)?;
    let rows = door::run_async(py, async move {
        let tables = pipeline_tables(&root, &checkpoint).await?;
        let Some((at, version)) = tables.get(&name).cloned() else {
            let hint = crate::error::did_you_mean(&name, tables.keys().map(String::as_str));
            let known: Vec<_> = tables.keys().cloned().collect();
            return Err(Error::storage(format!(
                "{}: there is no table '{name}'.{hint} The tables are: {}.",
                root.display(),
                known.join(", ")
            )));
        };
        read::table(at, version).await
    })?;
    Ok(PyTable::new(rows))
}

/// The counts of all runs, from the newest finished epoch.
#[pyfunction]
fn _pipeline_expectations(py: Python<'_>, checkpoint: &str, storage: Option<&Bound<'_, PyAny>>) -> PyResult<PyTable> {
    let storage = super::storage::options(storage)?;
    let at = Location::parse(checkpoint, &storage)?;
    let done = door::run_async(py, async move { read::newest_done(&at).await })?;
    let rules: Vec<RuleCount> = done
        .and_then(|d| d.counts.get("rules").cloned())
        .and_then(|r| serde_json::from_value(r).ok())
        .unwrap_or_default();
    Ok(PyTable::new(super::iterate::expectations(&rules)?))
}

#[doc = doc!("functions")]
#[pyfunction]
#[pyo3(signature = (like=None))]
fn functions(like: Option<&str>) -> PyResult<PyTable> {
    let part = like.unwrap_or_default().to_lowercase();
    let listed: Vec<_> = crate::expr::listed().into_iter().filter(|l| l.usage.to_lowercase().contains(&part)).collect();
    let text = |of: fn(&Listed) -> &'static str| {
        Arc::new(listed.iter().map(|l| Some(of(l))).collect::<StringArray>()) as ArrayRef
    };
    let kind = |l: &Listed| match l.role {
        Role::Scalar => "function",
        Role::Aggregate => "aggregate",
        Role::Generator => "generator",
    };
    let columns = [("name", text(|l| l.name)), ("kind", text(kind)), ("usage", text(|l| l.usage))];
    let batch = RecordBatch::try_from_iter(columns).map_err(Error::from)?;
    Ok(PyTable::new(Rows { schema: batch.schema(), batches: vec![batch] }))
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(read_delta, m)?)?;
    m.add_function(wrap_pyfunction!(sql, m)?)?;
    m.add_function(wrap_pyfunction!(functions, m)?)?;
    m.add_function(wrap_pyfunction!(_pipeline_tables, m)?)?;
    m.add_function(wrap_pyfunction!(_pipeline_sql, m)?)?;
    m.add_function(wrap_pyfunction!(_pipeline_read, m)?)?;
    m.add_function(wrap_pyfunction!(_pipeline_expectations, m)?)
}
