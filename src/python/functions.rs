//! Users' functions: `map_batches`, `foreach_batch`, `bayou.aggregate`. A function runs on the query's own thread, or on a thread that is made
//! for the call. It never runs on a thread of librdkafka or tokio.

use super::table::{PyTable, batch as py_batch};
use super::{guard, objects, values};
use crate::expr::GroupFunction;
use crate::read::Rows;
use crate::sink::function::ForEach;
use crate::transform::map::{BatchFunction, Failure};
use crate::{Error, Kind, Result};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parking_lot::{Condvar, Mutex};
use pyo3::BoundObject;
use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PyMemoryError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use pyo3_arrow::input::AnyRecordBatch;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The type of the rows that the function gets: "arrow" (pyarrow), "pandas", "polars" or "bayou".
fn check_kind(kind: &str, call: &str) -> Result<()> {
    match kind {
        "arrow" | "pandas" | "polars" | "bayou" => Ok(()),
        other => {
            let hint = crate::error::did_you_mean(other, ["arrow", "pandas", "polars", "bayou"]);
            Err(Error::config(format!(
                "{call}: input='{other}': use \"arrow\", \"pandas\", \"polars\" or \"bayou\".{hint}"
            )))
        }
    }
}

/// The name of a function in errors.
pub(super) fn name_of(callable: &Bound<'_, PyAny>) -> String {
    callable.getattr("__name__").and_then(|n| n.extract()).unwrap_or_else(|_| "function".to_string())
}

/// A Python callable of the user.
pub(super) struct Function {
    callable: Py<PyAny>,
    kind: String,
    name: String,
}

impl Function {
    pub(super) fn new(callable: &Bound<'_, PyAny>, kind: &str, call: &str) -> PyResult<Self> {
        check_kind(kind, call)?;
        if !callable.is_callable() {
            let what = callable.get_type().name()?;
            return Err(Error::config(format!("{call} takes a function, not {what}")).into());
        }
        let name = name_of(callable);
        // A missing package is reported now, when the line is typed.
        callable.py().import("bayou._frames")?.call_method1("check_input", (kind, call))?;
        Ok(Self { callable: callable.clone().unbind(), kind: kind.into(), name })
    }

    /// Runs the Python part in one call: `bayou._frames.<how>(function, rows, kind, …)`.
    fn call<'py>(
        &self,
        py: Python<'py>,
        how: &str,
        rows: impl IntoPyObject<'py>,
        more: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let how = guard::import(py, "bayou._frames")?.getattr(how)?;
        let rows = rows.into_pyobject(py).map_err(Into::into)?.into_bound().into_any();
        let mut given = vec![self.callable.bind(py).clone(), rows, self.kind.as_str().into_pyobject(py)?.into_any()];
        given.extend(more);
        guard::call(&how, &PyTuple::new(py, given)?)
    }
}

/// The calls of Python code that are running on bayou's threads.
struct Calls {
    closed: bool,
    next: u64,
    /// For each call, by a number of bayou's: the Python id of its thread.
    running: BTreeMap<u64, Option<u64>>,
}

static CALLS: Mutex<Calls> = Mutex::new(Calls { closed: false, next: 0, running: BTreeMap::new() });
static ENDED: Condvar = Condvar::new();

struct Running(u64);

impl Drop for Running {
    fn drop(&mut self) {
        CALLS.lock().running.remove(&self.0);
        ENDED.notify_all();
    }
}

/// Runs Python code on a thread of bayou. Refused when the interpreter is about to end.
pub(super) fn enter<T>(call: impl FnOnce(Python<'_>) -> T) -> Result<T> {
    let running = {
        let mut calls = CALLS.lock();
        if calls.closed {
            return Err(Error::new(Kind::Interrupted, "the interpreter is ending"));
        }
        calls.next += 1;
        let number = calls.next;
        calls.running.insert(number, None);
        Running(number)
    };
    Ok(Python::attach(|py| {
        let thread = py.import("threading").and_then(|t| t.call_method0("get_ident")).and_then(|i| i.extract());
        if let Some(of) = CALLS.lock().running.get_mut(&running.0) {
            *of = thread.ok();
        }
        let made = call(py);
        drop(running);
        made
    }))
}

/// The interpreter is about to end. From now on no function is called.
pub(super) fn close() {
    CALLS.lock().closed = true;
}

pub(super) fn are_running() -> bool {
    !CALLS.lock().running.is_empty()
}

/// Waits for the calls that are running, at most `at_most`.
pub(super) fn wait(at_most: Duration) {
    let deadline = Instant::now() + at_most;
    let mut calls = CALLS.lock();
    while !calls.running.is_empty() && !ENDED.wait_until(&mut calls, deadline).timed_out() {}
}

/// Raises `SystemExit` in the functions that are still running.
pub(super) fn interrupt(py: Python<'_>) {
    let running: Vec<u64> = CALLS.lock().running.values().flatten().copied().collect();
    running.into_iter().for_each(|thread| guard::raise_exit(py, thread));
}

fn attach<T>(call: impl FnOnce(Python<'_>) -> std::result::Result<T, Failure>) -> std::result::Result<T, Failure> {
    enter(call).unwrap_or_else(|e| Err(Failure::Stop(e)))
}

/// Translates a Python exception. An exception that is not an `Exception` (the stop button, an exit) is not about rows. A MemoryError is not
/// about rows either.
fn failure(py: Python<'_>, e: &PyErr) -> Failure {
    let text = text_of(py, e);
    let about_rows = e.is_instance_of::<PyException>(py) && !e.is_instance_of::<PyMemoryError>(py);
    match about_rows {
        true if is_about_result(py, e) => Failure::Rows(Error::malformed(text)),
        true => Failure::Rows(Error::function(text).with_source(e.clone_ref(py))),
        false if e.is_instance_of::<PyMemoryError>(py) => Failure::Stop(Error::internal(text)),
        // The stop button; or the interpreter's end, which raises SystemExit in functions that are still running.
        false if e.is_instance_of::<PyKeyboardInterrupt>(py) || CALLS.lock().closed => {
            Failure::Stop(Error::new(Kind::Interrupted, text))
        }
        // sys.exit() and similar calls: the function ended itself, and the user did not ask for a stop.
        false => Failure::Stop(
            Error::function(format!("a function ended with {text}. To end a function early, raise an Exception."))
                .with_source(e.clone_ref(py)),
        ),
    }
}

/// Whether the exception is bayou's own, about what a function returned. A function can also call bayou, and that call can fail.
fn is_about_result(py: Python<'_>, e: &PyErr) -> bool {
    e.is_instance_of::<super::errors::BayouError>(py) && e.value(py).hasattr("_of_result").unwrap_or(false)
}

/// Marks an error about what a function returned.
fn about_result(py: Python<'_>, e: PyErr) -> PyErr {
    let _ = e.value(py).setattr("_of_result", true);
    e
}

/// An exception as one line: its type and its text.
pub(super) fn text_of(py: Python<'_>, e: &PyErr) -> String {
    let kind = e.get_type(py).name().map_or_else(|_| "Exception".into(), |n| n.to_string());
    let text = e.value(py).str().map_or_else(|_| String::new(), |s| s.to_string());
    let line = text.lines().next().unwrap_or_default();
    // An error of bayou about the values is not an exception of the user's code.
    if e.is_instance_of::<super::errors::BayouError>(py) {
        return line.to_string();
    }
    if line.is_empty() { kind } else { format!("{kind}: {line}") }
}

/// The traceback of a user's function goes to the log: the error of a query is one line, and rows in quarantine have one line each. A function
/// that fails for row after row logs one traceback each `AGAIN`.
fn tell(py: Python<'_>, function: &str, e: &PyErr) {
    const AGAIN: Duration = Duration::from_secs(10);
    static TOLD: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());
    if is_about_result(py, e) {
        return;
    }
    let mut told = TOLD.lock();
    // A corrected function has the same name and a different error.
    let what = format!("{function}: {}", text_of(py, e));
    if told.get(&what).is_some_and(|t| t.elapsed() < AGAIN) {
        return;
    }
    told.retain(|_, t| t.elapsed() < AGAIN);
    told.insert(what, Instant::now());
    drop(told);
    log::error!(target: "bayou::functions", "the function '{function}' failed: {}", traceback(py, e));
}

pub(super) fn traceback(py: Python<'_>, e: &PyErr) -> String {
    // For an exception that was caught in Rust, pyo3 keeps the traceback separately.
    if let Some(traceback) = e.traceback(py) {
        let _ = e.value(py).setattr("__traceback__", traceback);
    }
    let lines = py.import("traceback").and_then(|t| t.call_method1("format_exception", (e.value(py),)));
    let text = lines.and_then(|l| l.extract::<Vec<String>>()).map(|l| l.concat());
    text.unwrap_or_else(|_| text_of(py, e))
}

/// Reads rows in any form (an Arrow object, a pandas frame, a list of dicts, a dict of lists) into the types that bayou returns.
pub(super) fn rows_of(rows: &Bound<'_, PyAny>) -> PyResult<Rows> {
    let py = rows.py();
    let arrow = py.import("bayou._frames")?.call_method1("as_arrow", (rows,))?;
    Ok(values::plain(arrow_rows(&arrow)?)?)
}

fn arrow_rows(arrow: &Bound<'_, PyAny>) -> PyResult<Rows> {
    let no_rows = |e: PyErr| {
        let kind = arrow.get_type().name().map_or_else(|_| "this".into(), |n| n.to_string());
        let why = e.value(arrow.py()).to_string();
        Error::schema(format!(
            "{kind} does not hold rows with named columns ({why}). Use a table, a frame or a list of dicts."
        ))
    };
    let reader = arrow.extract::<AnyRecordBatch>().map_err(no_rows)?.into_reader()?;
    let schema = reader.schema();
    let batches = reader.collect::<std::result::Result<_, _>>().map_err(super::table::arrow_error)?;
    Ok(Rows { schema, batches })
}

/// Reads the result of a function (see `bayou._frames.columns`) into the announced columns. Columns are matched by name, and values must fit
/// exactly.
fn conform(made: &Bound<'_, PyAny>, schema: &SchemaRef) -> PyResult<RecordBatch> {
    let (arrow, lists): (Bound<'_, PyAny>, Option<Bound<'_, PyDict>>) = made.extract()?;
    if arrow.is_none() && lists.is_none() {
        return Ok(RecordBatch::new_empty(schema.clone()));
    }
    let rows = if arrow.is_none() { None } else { Some(arrow_rows(&arrow)?) };
    let mut columns = vec![];
    for field in schema.fields() {
        if let Some(list) = lists.as_ref().map(|l| l.get_item(field.name())).transpose()?.flatten() {
            columns.push(objects::column(list.cast::<PyList>()?, field)??);
            continue;
        }
        let found = rows.as_ref().and_then(|rows| values::announced(rows, field));
        columns.push(found.ok_or_else(|| {
            let has = rows.iter().flat_map(|r| r.schema.fields().iter().map(|f| f.name().as_str()));
            let has: Vec<&str> = has.collect();
            let name = field.name();
            Error::malformed(format!("it returned no column '{name}' (schema= announces it). It returned {has:?}."))
        })??);
    }
    let count = columns.first().map_or(0, |c| c.len());
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(Error::from)?)
}

impl BatchFunction for Function {
    fn name(&self) -> &str {
        &self.name
    }

    fn identity(&self) -> String {
        format!("{} {:p} {}", self.name, self.callable.as_ptr(), self.kind)
    }

    fn call(&self, rows: &RecordBatch, schema: &SchemaRef) -> std::result::Result<RecordBatch, Failure> {
        attach(|py| {
            let run = || -> PyResult<RecordBatch> {
                let names = PyList::new(py, schema.fields().iter().map(|f| f.name()))?.into_any();
                let made = self.call(py, "call", py_batch(py, rows.clone())?, Some(names))?;
                conform(&made, schema).map_err(|e| about_result(py, e))
            };
            run().map_err(|e| {
                tell(py, &self.name, &e);
                failure(py, &e)
            })
        })
    }
}

impl ForEach for Function {
    fn name(&self) -> &str {
        &self.name
    }

    fn call(&self, schema: &SchemaRef, rows: &[RecordBatch], epoch: i64) -> Result<()> {
        let called = enter(|py| {
            let run = || -> PyResult<()> {
                let rows = Rows { schema: schema.clone(), batches: rows.to_vec() };
                let table = Bound::new(py, PyTable::new(rows))?;
                let epoch = epoch.into_pyobject(py)?.into_any();
                self.call(py, "call_epoch", table, Some(epoch)).map(drop)
            };
            run().map_err(|e| {
                tell(py, &self.name, &e);
                Error::function(text_of(py, &e)).with_source(e)
            })
        });
        called?
    }
}

#[doc = doc!("Aggregate")]
#[pyclass(frozen, module = "bayou", name = "Aggregate")]
pub struct PyAggregate {
    pub function: Arc<dyn GroupFunction>,
    pub columns: Vec<String>,
    pub data_type: DataType,
}

struct OfGroup(Function, SchemaRef);

impl GroupFunction for OfGroup {
    fn name(&self) -> &str {
        &self.0.name
    }
    fn identity(&self) -> String {
        BatchFunction::identity(&self.0)
    }
    fn call(&self, groups: &[RecordBatch]) -> Result<ArrayRef> {
        let made = attach(|py| {
            let run = || -> PyResult<ArrayRef> {
                let rows = groups.iter().map(|g| py_batch(py, g.clone())).collect::<PyResult<Vec<_>>>()?;
                let made = self.0.call(py, "call_groups", PyList::new(py, rows)?, None)?;
                let column =
                    || -> PyResult<ArrayRef> { Ok(objects::column(made.cast::<PyList>()?, self.1.field(0))??) };
                column().map_err(|e| about_result(py, e))
            };
            run().map_err(|e| {
                tell(py, self.name(), &e);
                failure(py, &e)
            })
        });
        made.map_err(|f| match f {
            // The groups are tried one by one: this kind says that the failure may concern only some of the groups.
            Failure::Rows(e) => Error { kind: Kind::Malformed, ..e },
            Failure::Stop(e) => e,
        })
    }
}

#[pymethods]
impl PyAggregate {
    fn __repr__(&self) -> String {
        format!("aggregate({}, {})", self.function.name(), self.columns.join(", "))
    }
}

#[doc = doc!("aggregate")]
#[pyfunction]
#[pyo3(signature = (function, returns, columns=None, *, input="arrow"))]
fn aggregate(
    function: &Bound<'_, PyAny>,
    returns: &str,
    columns: Option<&Bound<'_, PyAny>>,
    input: &str,
) -> PyResult<PyAggregate> {
    let data_type = crate::expr::parse_type(returns).map_err(|e| e.context("aggregate: returns="))?;
    let function = Function::new(function, input, "aggregate")?;
    let columns = columns.filter(|c| !c.is_none());
    let columns = columns.map_or(Ok(vec![]), |c| super::convert::columns(c, "aggregate: columns="))?;
    let value = Arc::new(Schema::new(vec![Field::new("value", data_type.clone(), true)]));
    Ok(PyAggregate { function: Arc::new(OfGroup(function, value)), columns, data_type })
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyAggregate>()?;
    m.add_function(wrap_pyfunction!(aggregate, m)?)
}
