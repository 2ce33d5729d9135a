//! The functions that `bayou.testing` needs from the core.

use crate::storage::crash;
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

#[pyfunction]
fn _crash_at(point: &str, nth: u64) {
    crash::at(point, nth, crash::What::Crash);
}

#[pyfunction]
fn _pause_at(point: &str, nth: u64) {
    crash::at(point, nth, crash::What::Pause);
}

#[pyfunction]
fn _slow_at(point: &str, seconds: f64) {
    crash::slow_at(point, Duration::from_secs_f64(seconds));
}

#[pyfunction]
fn _treat_as_mount(folder: std::path::PathBuf) {
    crate::storage::treat_as_mount(folder);
}

#[pyfunction]
fn _crash_points() -> BTreeMap<String, u64> {
    crash::seen()
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_crash_at, m)?)?;
    m.add_function(wrap_pyfunction!(_pause_at, m)?)?;
    m.add_function(wrap_pyfunction!(_slow_at, m)?)?;
    m.add_function(wrap_pyfunction!(_treat_as_mount, m)?)?;
    m.add_function(wrap_pyfunction!(_crash_points, m)?)
}
