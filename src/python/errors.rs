//! bayou's exceptions, and the only match from error kinds to exception classes.

use crate::error::Place;
use crate::{Error, Kind};
use pyo3::create_exception;
use pyo3::exceptions::{PyBaseException, PyException, PyKeyboardInterrupt, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

create_exception!(bayou, BayouError, PyException, doc!("BayouError"));
create_exception!(bayou, ConnectionError, BayouError, doc!("ConnectionError"));
create_exception!(bayou, AuthError, BayouError, doc!("AuthError"));
create_exception!(bayou, AclError, BayouError, doc!("AclError"));
create_exception!(bayou, TopicError, BayouError, doc!("TopicError"));
create_exception!(bayou, SchemaError, BayouError, doc!("SchemaError"));
create_exception!(bayou, MalformedError, BayouError, doc!("MalformedError"));
create_exception!(bayou, ExpectationError, BayouError, doc!("ExpectationError"));
create_exception!(bayou, DataLossError, BayouError, doc!("DataLossError"));
create_exception!(bayou, ConcurrentQueryError, BayouError, doc!("ConcurrentQueryError"));
create_exception!(bayou, StorageError, BayouError, doc!("StorageError"));
create_exception!(bayou, ConfigError, BayouError, doc!("ConfigError"));
create_exception!(bayou, FunctionError, BayouError, doc!("FunctionError"));

/// Makes an exception. Credentials are removed from the message once more, because parts may have been added since the last time.
pub(super) fn to_python(kind: Kind, message: String) -> PyErr {
    let message = crate::error::clean(&message).into_owned();
    match kind {
        Kind::Connection => ConnectionError::new_err(message),
        Kind::Auth => AuthError::new_err(message),
        Kind::Acl => AclError::new_err(message),
        Kind::Topic => TopicError::new_err(message),
        Kind::Schema => SchemaError::new_err(message),
        Kind::Malformed => MalformedError::new_err(message),
        Kind::Expectation => ExpectationError::new_err(message),
        Kind::DataLoss => DataLossError::new_err(message),
        Kind::ConcurrentQuery => ConcurrentQueryError::new_err(message),
        Kind::Storage => StorageError::new_err(message),
        Kind::Config => ConfigError::new_err(message),
        Kind::Function => FunctionError::new_err(message),
        Kind::Interrupted => PyKeyboardInterrupt::new_err(message),
        Kind::Internal => BayouError::new_err(message),
    }
}

impl From<Error> for PyErr {
    fn from(e: Error) -> Self {
        let cause = e.source.as_deref().and_then(|source| cause(source, &e.message));
        let retryable = e.is_retryable();
        let made = to_python(e.kind, e.message);
        Python::attach(|py| {
            if let Some(cause) = cause {
                made.set_cause(py, Some(cause));
            }
            // KeyboardInterrupt is not one of bayou's exceptions.
            if made.is_instance_of::<BayouError>(py) {
                // An attribute that cannot be set must not hide the error.
                let _ = add_facts(made.value(py), e.place.as_deref(), retryable);
            }
        });
        made
    }
}

/// The attributes that an exception has for programs. The class has None for each.
fn add_facts(value: &Bound<'_, PyBaseException>, place: Option<&Place>, retryable: bool) -> PyResult<()> {
    if retryable {
        value.setattr("retryable", true)?;
    }
    let Some(place) = place else { return Ok(()) };
    let clean = |text: &Option<String>| text.as_deref().map(|t| crate::error::clean(t).into_owned());
    value.setattr("topic", clean(&place.topic))?;
    value.setattr("partition", place.partition)?;
    value.setattr("offset", place.offset)?;
    value.setattr("field", clean(&place.field))?;
    value.setattr("table", clean(&place.table))?;
    value.setattr("epoch", place.epoch)?;
    let ranges: Vec<_> = place.ranges.iter().map(|r| (r.topic.as_str(), r.partition, r.from, r.until)).collect();
    value.setattr("ranges", ranges)
}

/// The `__cause__` of an exception: the exception that a user's function raised, or the error of a library, where it says more than `message`.
fn cause(source: &(dyn std::error::Error + 'static), message: &str) -> Option<PyErr> {
    if let Some(raised) = source.downcast_ref::<PyErr>() {
        return Some(Python::attach(|py| raised.clone_ref(py)));
    }
    let text = crate::error::clean(&source.to_string()).into_owned();
    let below = source.source().and_then(|below| cause(below, &text));
    if message.contains(&text) {
        return below;
    }
    let made = PyRuntimeError::new_err(text);
    if below.is_some() {
        Python::attach(|py| made.set_cause(py, below));
    }
    Some(made)
}

/// Removes credentials from a text. The Python part of bayou calls this for texts that contain what users typed.
#[pyfunction]
fn _clean(text: &str) -> String {
    crate::error::clean(text).into_owned()
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    m.add_function(wrap_pyfunction!(_clean, m)?)?;
    m.add("BayouError", py.get_type::<BayouError>())?;
    let base = py.get_type::<BayouError>();
    // `query` is set on an error that ended a query, the others where they are known.
    for name in ["query", "topic", "partition", "offset", "field", "table", "epoch"] {
        base.setattr(name, py.None())?;
    }
    base.setattr("ranges", PyTuple::empty(py))?;
    base.setattr("retryable", false)?;
    m.add("ConnectionError", py.get_type::<ConnectionError>())?;
    m.add("AuthError", py.get_type::<AuthError>())?;
    m.add("AclError", py.get_type::<AclError>())?;
    m.add("TopicError", py.get_type::<TopicError>())?;
    m.add("SchemaError", py.get_type::<SchemaError>())?;
    m.add("MalformedError", py.get_type::<MalformedError>())?;
    m.add("ExpectationError", py.get_type::<ExpectationError>())?;
    m.add("DataLossError", py.get_type::<DataLossError>())?;
    m.add("ConcurrentQueryError", py.get_type::<ConcurrentQueryError>())?;
    m.add("StorageError", py.get_type::<StorageError>())?;
    m.add("FunctionError", py.get_type::<FunctionError>())?;
    m.add("ConfigError", py.get_type::<ConfigError>())
}
