//! Functions for alerts, for the Python part of bayou: small texts next to a checkpoint, and durations.

use super::door;
use crate::Error;
use pyo3::prelude::*;

/// The text of a name below a folder, or None.
#[pyfunction]
#[pyo3(signature = (schema, folder, name, storage_options=None))]
fn _read_note(
    py: Python<'_>,
    schema: Option<&str>,
    folder: &str,
    name: String,
    storage_options: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<String>> {
    let at = super::read::checkpoint_of(py, schema, folder, storage_options)?;
    door::run_async(py, async move {
        let Some(bytes) = at.get(&name).await? else { return Ok(None) };
        let damaged = |_| Error::storage(format!("{}/{name} is not text", at.display()));
        String::from_utf8(bytes).map(Some).map_err(damaged)
    })
}

#[pyfunction]
#[pyo3(signature = (schema, folder, name, text, storage_options=None))]
fn _write_note(
    py: Python<'_>,
    schema: Option<&str>,
    folder: &str,
    name: String,
    text: String,
    storage_options: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let at = super::read::checkpoint_of(py, schema, folder, storage_options)?;
    door::run_async(py, async move { at.put(&name, text.into_bytes()).await })
}

/// A duration in seconds.
#[pyfunction]
fn _duration(value: &Bound<'_, PyAny>, what: &str) -> PyResult<f64> {
    Ok(super::convert::span(value, what)?.as_secs_f64())
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_duration, m)?)?;
    m.add_function(wrap_pyfunction!(_read_note, m)?)?;
    m.add_function(wrap_pyfunction!(_write_note, m)?)
}
