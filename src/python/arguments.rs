//! Keyword arguments that are read by name. Each option is written twice: where it is read, and in the text signature that `help()` shows.

use super::convert::refuse_unknown;
use crate::Error;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// The keyword arguments of one call. Reading an argument makes its name known; `end` refuses the names that were not read.
pub(super) struct Arguments<'a, 'py> {
    call: &'static str,
    given: Option<&'a Bound<'py, PyDict>>,
    known: Vec<&'static str>,
}

impl<'a, 'py> Arguments<'a, 'py> {
    /// `read`: the arguments that the call reads itself.
    pub(super) fn new(call: &'static str, read: &[&'static str], given: Option<&'a Bound<'py, PyDict>>) -> Self {
        Self { call, given, known: read.to_vec() }
    }

    /// The argument's value. None: it was not given, or is None.
    pub(super) fn any(&mut self, name: &'static str) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.known.push(name);
        let value = self.given.map(|g| g.get_item(name)).transpose()?.flatten();
        Ok(value.filter(|v| !v.is_none()))
    }

    /// The argument's value, which must be `wanted`, as in "a str".
    pub(super) fn typed<T: for<'x> FromPyObject<'x, 'py>>(
        &mut self,
        name: &'static str,
        wanted: &str,
    ) -> PyResult<Option<T>> {
        let Some(value) = self.any(name)? else { return Ok(None) };
        let found = || value.get_type().name().map_or("another type".to_string(), |n| n.to_string());
        match value.extract() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(pyo3::exceptions::PyTypeError::new_err(format!(
                "{}(): {name} must be {wanted}, not {}",
                self.call,
                found()
            ))),
        }
    }

    pub(super) fn text(&mut self, name: &'static str) -> PyResult<Option<String>> {
        self.typed(name, "a str")
    }

    pub(super) fn flag(&mut self, name: &'static str) -> PyResult<Option<bool>> {
        self.typed(name, "True or False")
    }

    pub(super) fn number(&mut self, name: &'static str) -> PyResult<Option<f64>> {
        self.typed(name, "a number")
    }

    /// A count, at least 1.
    pub(super) fn count(&mut self, name: &'static str) -> PyResult<Option<u64>> {
        match self.typed(name, "a positive int")? {
            Some(0) => Err(Error::config(format!("{name} must be at least 1")).into()),
            count => Ok(count),
        }
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> PyResult<Option<T>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let Some((_, value)) = words.iter().find(|(word, _)| *word == text) else {
            let mut all: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let last = all.pop().unwrap_or_default();
            return Err(Error::config(format!("{name}='{text}': use {} or {last}", all.join(", "))).into());
        };
        Ok(Some(*value))
    }

    /// Refuses the arguments that the call does not have.
    pub(super) fn end(self) -> PyResult<()> {
        let Some(given) = self.given else { return Ok(()) };
        let unknown = PyDict::new(given.py());
        for (name, value) in given.iter() {
            if !name.extract::<String>().is_ok_and(|n| self.known.contains(&n.as_str())) {
                unknown.set_item(name, value)?;
            }
        }
        refuse_unknown(Some(&unknown), self.call, &self.known)
    }
}
