//! `storage_options=`: a dict, or a function that returns one and is called again before its credentials expire.

use super::{convert, door, functions, guard};
use crate::storage::{Answer, Credentials, Giver, Mounts, StorageOptions};
use crate::{Error, Result};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping, PyTuple};
use std::time::Duration;

/// The options of a call that commits nothing: mounts without put-if-absent are allowed.
pub(super) fn reading(value: Option<&Bound<'_, PyAny>>) -> PyResult<StorageOptions> {
    Ok(options(value)?.on_mounts(Mounts::Read))
}

pub(super) fn options(value: Option<&Bound<'_, PyAny>>) -> PyResult<StorageOptions> {
    let Some(function) = value.filter(|v| v.is_callable() && !v.is_instance_of::<PyDict>()) else {
        return Ok(convert::string_map(value, "storage_options")?.into());
    };
    let function = function.clone().unbind();
    // Called on a thread that the store creates for this call.
    let ask = move || functions::enter(|py| answer(py, &function)).and_then(|found| found);
    Ok(StorageOptions::renewed(Credentials::new(Giver::Function, Box::new(ask))))
}

fn answer(py: Python<'_>, function: &Py<PyAny>) -> Result<Answer> {
    let called = guard::call(function.bind(py), &PyTuple::empty(py));
    // The type of the exception and its text: a traceback would print the variables of the function.
    let raised = |e: PyErr| {
        Error::config(format!(
            "{}: {}",
            e.get_type(py).name().map_or_else(|_| "an exception".into(), |n| n.to_string()),
            e.value(py)
        ))
    };
    let value = called.map_err(raised)?;
    let wrong = |what: &str| {
        Error::config(format!(
            "it returned {what}, and must return a dict of options (with \"expires_at\", an aware datetime, if they expire)"
        ))
    };
    let kind = || value.get_type().name().map_or_else(|_| "something".into(), |n| n.to_string());
    let mapping = value.cast::<PyMapping>().map_err(|_| wrong(&kind()))?;
    let dict = PyDict::new(py);
    dict.update(mapping).map_err(raised)?;
    let life = match dict.get_item("expires_at").map_err(raised)?.filter(|v| !v.is_none()) {
        None => None,
        Some(at) => {
            let aware = at.getattr("tzinfo").is_ok_and(|zone| !zone.is_none());
            let seconds = at.call_method0("timestamp").and_then(|s| s.extract::<f64>());
            let seconds = seconds.ok().filter(|s| aware && s.is_finite() && *s >= 0.0);
            let seconds = seconds.ok_or_else(|| wrong("an \"expires_at\" that is not a datetime with a time zone"))?;
            let now = door::clock().now().0 as f64 / 1e6;
            let life = Duration::try_from_secs_f64((seconds - now).max(0.0)).ok();
            Some(life.ok_or_else(|| wrong("an \"expires_at\" that is out of range"))?)
        }
    };
    if dict.contains("expires_at").map_err(raised)? {
        dict.del_item("expires_at").map_err(raised)?;
    }
    let options = convert::string_map(Some(dict.as_any()), "storage_options");
    Ok(Answer { options: options.map_err(|_| wrong("names that are not strings"))?, life })
}
