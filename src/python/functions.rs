//! Users' functions: `map_batches`, `foreach_batch`, `bayou.aggregate`. They run on a query's own thread, or on one made for
//! the call, never on one of librdkafka's or tokio's.

use super::table::{PyTable, batch as py_batch};
use crate::expr::GroupFunction;
use crate::query::run::ForEach;
use crate::read::{Rows, plain};
use crate::transform::map::{BatchFunction, Failure};
use crate::{Error, Kind, Result};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use pyo3::exceptions::{PyException, PyMemoryError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use pyo3_arrow::input::AnyRecordBatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the function is given: "arrow" (pyarrow), "pandas", "polars", "bayou".
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

/// A callable of the user's.
pub struct Function {
    callable: Py<PyAny>,
    kind: String,
    name: String,
}

impl Function {
    pub fn new(callable: &Bound<'_, PyAny>, kind: &str, call: &str) -> PyResult<Self> {
        check_kind(kind, call)?;
        if !callable.is_callable() {
            let what = callable.get_type().name()?;
            return Err(Error::config(format!("{call} takes a function, not {what}")).into());
        }
        let name = callable.getattr("__name__").and_then(|n| n.extract()).unwrap_or_else(|_| "function".to_string());
        // What is missing is said when the line is typed.
        callable.py().import("bayou._frames")?.call_method1("check_input", (kind, call))?;
        Ok(Self { callable: callable.clone().unbind(), kind: kind.into(), name })
    }

    fn input<'py>(&self, py: Python<'py>, rows: &RecordBatch) -> PyResult<Bound<'py, PyAny>> {
        let rows = py_batch(py, rows.clone())?;
        py.import("bayou._frames")?.call_method1("as_input", (rows, self.kind.as_str()))
    }
}

static CLOSED: AtomicBool = AtomicBool::new(false);

/// The interpreter is about to end: no function is called any more. A thread that asked for it then would never come back.
pub fn close() {
    CLOSED.store(true, Ordering::Release);
}

fn attach<T>(call: impl FnOnce(Python<'_>) -> std::result::Result<T, Failure>) -> std::result::Result<T, Failure> {
    if CLOSED.load(Ordering::Acquire) {
        return Err(Failure::Stop(Error::new(Kind::Interrupted, "the interpreter is ending")));
    }
    Python::attach(call)
}

/// What an exception means: one that is no `Exception` (the stop button, an exit), or no memory, is not about rows.
fn failure(py: Python<'_>, e: &PyErr) -> Failure {
    let text = text_of(py, e);
    let about_rows = e.is_instance_of::<PyException>(py) && !e.is_instance_of::<PyMemoryError>(py);
    match about_rows {
        true => Failure::Rows(text),
        false if e.is_instance_of::<PyMemoryError>(py) => Failure::Stop(Error::internal(text)),
        false => Failure::Stop(Error::new(Kind::Interrupted, text)),
    }
}

/// An exception as one line: its type and its text.
fn text_of(py: Python<'_>, e: &PyErr) -> String {
    let kind = e.get_type(py).name().map_or_else(|_| "Exception".into(), |n| n.to_string());
    let text = e.value(py).str().map_or_else(|_| String::new(), |s| s.to_string());
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() { kind } else { format!("{kind}: {line}") }
}

fn traceback(py: Python<'_>, e: &PyErr) -> String {
    let lines = py.import("traceback").and_then(|t| t.call_method1("format_exception", (e.value(py),)));
    let text = lines.and_then(|l| l.extract::<Vec<String>>()).map(|l| l.concat());
    text.unwrap_or_else(|_| text_of(py, e))
}

/// Anything that holds rows, as Arrow: an Arrow object, a pandas frame, a list of dicts, a dict of lists.
pub fn rows_of(rows: &Bound<'_, PyAny>) -> PyResult<Rows> {
    let py = rows.py();
    let is_arrow = rows.hasattr("__arrow_c_stream__")? || rows.hasattr("__arrow_c_array__")?;
    let arrow = if !is_arrow && rows.hasattr("iloc")? {
        py.import("bayou._frames")?.call_method1("from_pandas", (rows,))?
    } else if is_arrow {
        rows.clone()
    } else {
        py.import("bayou._frames")?.call_method1("from_python", (rows,))?
    };
    let reader = arrow.extract::<AnyRecordBatch>()?.into_reader()?;
    let schema = reader.schema();
    let batches: Vec<RecordBatch> = reader.collect::<std::result::Result<_, _>>().map_err(super::table::arrow_error)?;
    Ok(plain(&schema, batches)?)
}

/// What a function returned, in the columns that were announced: by name, cast where nothing is lost.
fn conform(rows: &Rows, schema: &SchemaRef) -> std::result::Result<RecordBatch, String> {
    let all = concat_batches(&rows.schema, &rows.batches).map_err(|e| e.to_string())?;
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let column = |field: &arrow::datatypes::FieldRef| -> std::result::Result<ArrayRef, String> {
        let found = all.column_by_name(field.name()).ok_or_else(|| {
            let has: Vec<&str> = rows.schema.fields().iter().map(|f| f.name().as_str()).collect();
            format!("it returned no column '{}' (schema= announces it); it returned {has:?}", field.name())
        })?;
        if found.data_type() == field.data_type() {
            return Ok(found.clone());
        }
        cast_with_options(found, field.data_type(), &options).map_err(|_| {
            format!(
                "its column '{}' is {} and does not fit {}, as schema= announces",
                field.name(),
                crate::expr::type_to_ddl(found.data_type()),
                crate::expr::type_to_ddl(field.data_type())
            )
        })
    };
    let columns = schema.fields().iter().map(column).collect::<std::result::Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(all.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(|e| e.to_string())
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
            let run = || -> PyResult<Rows> {
                let made = self.callable.bind(py).call1((self.input(py, rows)?,))?;
                if made.is_none() {
                    return Err(Error::malformed("it returned None; return the rows").into());
                }
                rows_of(&made)
            };
            let made = run().map_err(|e| failure(py, &e))?;
            conform(&made, schema).map_err(Failure::Rows)
        })
    }
}

impl ForEach for Function {
    fn call(&self, schema: &SchemaRef, rows: &[RecordBatch], epoch: i64) -> std::result::Result<(), String> {
        let called = attach(|py| {
            let run = || -> PyResult<()> {
                let rows = Rows { schema: schema.clone(), batches: rows.to_vec() };
                let table = Bound::new(py, PyTable::new(rows))?;
                let input = py.import("bayou._frames")?.call_method1("as_input", (table, self.kind.as_str()))?;
                self.callable.bind(py).call1((input, epoch)).map(drop)
            };
            run().map_err(|e| {
                // Where it happened is for the log; the query's error is one line.
                log::error!("foreach_batch: {}", traceback(py, &e));
                failure(py, &e)
            })
        });
        called.map_err(|f| match f {
            Failure::Rows(text) => text,
            Failure::Stop(e) => e.message,
        })
    }
}

/// A function over the rows of a group, for `agg`.
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
            let run = || -> PyResult<Rows> {
                let values = PyList::empty(py);
                for rows in groups {
                    values.append(self.0.callable.bind(py).call1((self.0.input(py, rows)?,))?)?;
                }
                let column = PyDict::new(py);
                column.set_item("value", values)?;
                rows_of(column.as_any())
            };
            run().map_err(|e| failure(py, &e))
        });
        let made = made.and_then(|rows| conform(&rows, &self.1).map_err(Failure::Rows));
        let batch = made.map_err(|f| match f {
            Failure::Rows(text) => Error::malformed(text),
            Failure::Stop(e) => e,
        })?;
        Ok(batch.column(0).clone())
    }
}

#[pymethods]
impl PyAggregate {
    fn __repr__(&self) -> String {
        format!("aggregate({}, {})", self.function.name(), self.columns.join(", "))
    }
}

/// `bayou.aggregate(fn, returns="DOUBLE", columns=["bpm"])`
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
    let columns = match columns.filter(|c| !c.is_none()) {
        None => vec![],
        Some(one) => match one.extract::<String>() {
            Ok(one) => vec![one],
            Err(_) => one
                .extract()
                .map_err(|_| PyErr::from(Error::config("aggregate: columns= takes a column or a list of columns")))?,
        },
    };
    let value = Arc::new(Schema::new(vec![Field::new("value", data_type.clone(), true)]));
    Ok(PyAggregate { function: Arc::new(OfGroup(function, value)), columns, data_type })
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyAggregate>()?;
    m.add_function(wrap_pyfunction!(aggregate, m)?)
}
