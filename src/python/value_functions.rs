//! Users' functions over the bytes of values: `encrypt=` and `decrypt=`.

use super::{functions, guard};
use crate::batch::ValuesFunction;
use crate::{Error, Kind, Result};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyTuple};
use std::fmt;
use std::sync::Arc;

/// A callable that takes a list of bytes and returns a list of bytes of the same length.
struct Values {
    callable: Py<PyAny>,
    name: String,
    /// The argument that the callable was given for.
    argument: &'static str,
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.argument, self.name)
    }
}

pub(super) fn values_function(
    callable: &Bound<'_, PyAny>,
    argument: &'static str,
) -> PyResult<Arc<dyn ValuesFunction>> {
    if !callable.is_callable() {
        let what = callable.get_type().name()?;
        return Err(Error::config(format!(
            "{argument}= takes a function from a list of bytes to a list of bytes, not {what}"
        ))
        .into());
    }
    let name = functions::name_of(callable);
    Ok(Arc::new(Values { callable: callable.clone().unbind(), name, argument }))
}

impl Values {
    fn wrong(&self, what: &str) -> Error {
        Error::function(format!(
            "{}={}: {what}. The function takes a list of bytes, and returns a list of as many bytes.",
            self.argument, self.name
        ))
    }

    fn ask(&self, py: Python<'_>, given: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
        let failed = |e: PyErr| {
            // The text of the exception may have a part of a value or of a key.
            let kind = e.get_type(py).name().map_or_else(|_| "an exception".into(), |n| n.to_string());
            let text = format!("{}={}: it raised {kind}", self.argument, self.name);
            match e.is_instance_of::<PyException>(py) {
                // If a key service does not answer, the values are not wrong.
                true if e.is_instance_of::<super::errors::ConnectionError>(py) => {
                    Error::connection(text).with_source(e)
                }
                true => Error::function(text).with_source(e),
                false => Error::new(Kind::Interrupted, text),
            }
        };
        let list = PyList::new(py, given.iter().map(|v| PyBytes::new(py, v))).map_err(failed)?;
        let arguments = PyTuple::new(py, [list]).map_err(failed)?;
        let made = guard::call(self.callable.bind(py), &arguments).map_err(failed)?;
        let made: Vec<Bound<'_, PyAny>> =
            made.extract().map_err(|_| self.wrong(&format!("it returned {}", name_of(&made))))?;
        if made.len() != given.len() {
            return Err(self.wrong(&format!("it got {} values and returned {}", given.len(), made.len())));
        }
        let bytes = |value: &Bound<'_, PyAny>| {
            if let Ok(bytes) = value.cast::<PyBytes>() {
                return Ok(bytes.as_bytes().to_vec());
            }
            match value.cast::<PyByteArray>() {
                Ok(bytes) => Ok(bytes.to_vec()),
                Err(_) => Err(self.wrong(&format!("it returned a list with {}", name_of(value)))),
            }
        };
        made.iter().map(bytes).collect()
    }
}

fn name_of(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "something else".into(), |n| n.to_string())
}

impl ValuesFunction for Values {
    fn name(&self) -> &str {
        &self.name
    }

    fn call(&self, values: Vec<Option<Vec<u8>>>) -> Result<Vec<Option<Vec<u8>>>> {
        let there: Vec<bool> = values.iter().map(Option::is_some).collect();
        let given: Vec<Vec<u8>> = values.into_iter().flatten().collect();
        if given.is_empty() {
            return Ok(there.iter().map(|_| None).collect());
        }
        let mut made = functions::enter(|py| self.ask(py, &given))??.into_iter();
        Ok(there.into_iter().map(|there| if there { made.next() } else { None }).collect())
    }
}
