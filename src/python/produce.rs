//! Publishing: rows from any Arrow stream, frame or iterable of dicts, and simulated rows.

use super::convert;
use super::table::PyTable;
use super::{door, functions, guard, words};
use crate::kafka::{Connection, ProduceOptions, ProduceReport};
use crate::position::Topic;
use crate::read::Rows;
use crate::simulate::{Fitness, FitnessOptions};
use crate::{Error, Result};
use arrow::array::{RecordBatch, RecordBatchIterator};
use parking_lot::Mutex;
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use pyo3_arrow::PyRecordBatchReader;
use pyo3_arrow::input::AnyRecordBatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[doc = doc!("ProduceReport")]
#[pyclass(frozen, module = "bayou", name = "ProduceReport")]
pub struct PyProduceReport(pub ProduceReport);

#[pymethods]
impl PyProduceReport {
    fn __getattr__(slf: &Bound<'_, Self>, name: &str) -> PyResult<()> {
        Err(words::no_attribute(slf, "ProduceReport", name))
    }
    #[doc = doc!("ProduceReport.topic")]
    #[getter]
    fn topic(&self) -> &str {
        &self.0.topic
    }
    #[doc = doc!("ProduceReport.rows")]
    #[getter]
    fn rows(&self) -> u64 {
        self.0.rows
    }
    #[doc = doc!("ProduceReport.delivered")]
    #[getter]
    fn delivered(&self) -> u64 {
        self.0.delivered
    }
    #[doc = doc!("ProduceReport.failed")]
    #[getter]
    fn failed(&self) -> u64 {
        self.0.failed
    }
    #[doc = doc!("ProduceReport.bytes")]
    #[getter]
    fn bytes(&self) -> u64 {
        self.0.bytes
    }
    #[doc = doc!("ProduceReport.seconds")]
    #[getter]
    fn seconds(&self) -> f64 {
        self.0.seconds
    }
    #[doc = doc!("ProduceReport.deliveries")]
    #[getter]
    fn deliveries(&self) -> PyResult<PyTable> {
        use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray};
        let Some(all) = &self.0.deliveries else {
            return Err(Error::config("the deliveries were not kept. Publish with produce(…, deliveries=True).").into());
        };
        let rows: Int64Array = all.iter().map(|d| Some(d.row as i64)).collect();
        let partitions: Int32Array = all.iter().map(|d| d.partition).collect();
        let offsets: Int64Array = all.iter().map(|d| d.offset).collect();
        let errors: StringArray = all.iter().map(|d| d.error.as_ref()).collect();
        let columns: [(&str, ArrayRef); 4] = [
            ("row", Arc::new(rows)),
            ("partition", Arc::new(partitions)),
            ("offset", Arc::new(offsets)),
            ("error", Arc::new(errors)),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true)))
            .map_err(Error::from)?;
        Ok(PyTable::new(Rows { schema: batch.schema(), batches: vec![batch] }))
    }
    #[doc = doc!("ProduceReport.failures")]
    #[getter]
    fn failures(&self) -> Vec<String> {
        self.0.failures.clone()
    }
    fn __repr__(&self) -> String {
        let r = &self.0;
        let rate = if r.seconds > 0.0 { r.delivered as f64 / r.seconds } else { 0.0 };
        let failed = if r.failed > 0 {
            format!(", {} FAILED (first: {})", r.failed, r.failures.first().map_or("", String::as_str))
        } else {
            String::new()
        };
        format!(
            "{} of {} rows delivered to '{}' in {:.2} s ({:.0} rows/s, {:.1} MB){failed}",
            r.delivered,
            r.rows,
            r.topic,
            r.seconds,
            rate,
            r.bytes as f64 / 1e6
        )
    }
}

pub(super) fn headers(value: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<(String, Option<Vec<u8>>)>> {
    let Some(value) = value.filter(|v| !v.is_none()) else { return Ok(vec![]) };
    let wrong = || Error::config("headers= takes a dict {\"name\": \"value\"}. Values are str, bytes or None.");
    let mut out = vec![];
    for (k, v) in value.cast::<PyDict>().map_err(|_| wrong())?.iter() {
        let bytes = if v.is_none() {
            None
        } else if let Ok(s) = v.extract::<String>() {
            Some(s.into_bytes())
        } else {
            Some(v.extract::<Vec<u8>>().map_err(|_| wrong())?)
        };
        out.push((k.extract::<String>().map_err(|_| wrong())?, bytes));
    }
    Ok(out)
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// Reads rows as batches, from Arrow (PyCapsule), a pandas frame, or an iterable of dicts.
pub(super) fn batches(py: Python<'_>, rows: &Bound<'_, PyAny>, options: &mut ProduceOptions) -> PyResult<Batches> {
    let frames = py.import("bayou._frames")?;
    let arrow = frames.call_method1("handed_out", (rows,))?;
    if arrow.hasattr("__arrow_c_stream__")? || arrow.hasattr("__arrow_c_array__")? {
        let reader = arrow.extract::<AnyRecordBatch>()?.into_reader()?;
        return Ok(Box::new(reader.map(|b| b.map_err(|e| Error::schema(format!("the rows to be published: {e}"))))));
    }
    // Dicts are encoded one batch at a time. The encoded values are published unchanged.
    if options.headers_column.is_some() {
        return Err(Error::config(
            "headers_column= needs an Arrow table. For dicts use headers=, which every message gets.",
        )
        .into());
    }
    let chunks: Py<PyAny> = py
        .import("bayou._rows")?
        .call_method1(
            "encoded",
            (
                rows,
                options.key.clone(),
                options.timestamp.clone(),
                options.partition_column.clone(),
                options.include_key_in_value,
                options.rate,
                options.value.clone(),
            ),
        )?
        .unbind();
    options.value = Some("value".into());
    options.key = options.key.as_ref().map(|_| "key".to_string());
    options.timestamp = options.timestamp.as_ref().map(|_| "timestamp".to_string());
    options.partition_column = options.partition_column.as_ref().map(|_| "partition".to_string());
    Ok(Box::new(std::iter::from_fn(move || {
        let next = functions::enter(|py| {
            let next = chunks.bind(py).getattr("__next__");
            match next.and_then(|next| guard::call(&next, &PyTuple::empty(py))) {
                Ok(columns) => Some(encoded_batch(&columns)),
                Err(e) if e.is_instance_of::<pyo3::exceptions::PyStopIteration>(py) => None,
                Err(e) => Some(Err(failure(py, e))),
            }
        });
        next.unwrap_or_else(|e| Some(Err(e)))
    })))
}

/// The error that ended the rows: a row that cannot be published, or an exception of the user's own iterator. That exception is kept as the cause.
fn failure(py: Python<'_>, e: PyErr) -> Error {
    use super::errors::{BayouError, MalformedError};
    let text = e.value(py).to_string();
    if e.is_instance_of::<MalformedError>(py) {
        return Error::malformed(text);
    }
    if e.is_instance_of::<BayouError>(py) {
        return Error::schema(format!("the rows to be published: {text}"));
    }
    match e.cause(py) {
        Some(raised) if e.get_type(py).name().is_ok_and(|n| n == "SourceFailed") => {
            let what = functions::text_of(py, &raised);
            Error::function(format!("the rows to be published ended at {text}: {what}")).with_source(raised)
        }
        _ => Error::schema(format!("the rows to be published: {}", functions::text_of(py, &e))).with_source(e),
    }
}

fn encoded_batch(columns: &Bound<'_, PyAny>) -> Result<RecordBatch> {
    use arrow::array::{ArrayRef, BinaryArray, Int32Array, TimestampMicrosecondArray};
    let get = |name: &str| columns.get_item(name).map_err(|e| Error::internal(e.to_string()));
    let wrong = |e: PyErr| Error::schema(format!("the rows to be published: {e}"));
    let bytes = |found: Bound<'_, PyAny>| -> Result<BinaryArray> {
        let list: Vec<Option<Bound<'_, PyBytes>>> = found.extract().map_err(wrong)?;
        Ok(list.iter().map(|v| v.as_ref().map(|v| v.as_bytes())).collect())
    };
    let given = |name: &str| get(name).map(|found| Some(found).filter(|f| !f.is_none()));
    let mut out: Vec<(&str, ArrayRef, bool)> = vec![("value", Arc::new(bytes(get("value")?)?), true)];
    if let Some(keys) = given("key")? {
        out.push(("key", Arc::new(bytes(keys)?), true));
    }
    if let Some(times) = given("timestamp")? {
        let times: Vec<Option<i64>> = times.extract().map_err(wrong)?;
        out.push(("timestamp", Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")), true));
    }
    if let Some(partitions) = given("partition")? {
        let partitions: Vec<Option<i32>> = partitions.extract().map_err(wrong)?;
        out.push(("partition", Arc::new(Int32Array::from(partitions)), true));
    }
    Ok(RecordBatch::try_from_iter_with_nullable(out)?)
}

/// Publishes on a new thread. The calling thread shows progress and answers the stop button.
pub(super) fn produce(
    py: Python<'_>,
    connection: &Connection,
    topic: &str,
    rows: &Bound<'_, PyAny>,
    mut options: ProduceOptions,
    show: bool,
) -> PyResult<PyProduceReport> {
    door::check_fork()?;
    let mut source = batches(py, rows, &mut options)?;
    let (c, t) = (connection.clone(), Topic::new(topic));
    let seen = Arc::new(Mutex::new(ProduceReport { topic: topic.into(), ..ProduceReport::default() }));
    let stop = Arc::new(AtomicBool::new(false));
    let (say, hear) = std::sync::mpsc::channel();
    let (their_seen, their_stop) = (seen.clone(), stop.clone());
    std::thread::Builder::new()
        .name("bayou-produce".into())
        .spawn(move || {
            let mut progress = |r: &ProduceReport| {
                *their_seen.lock() = r.clone();
                if their_stop.load(Ordering::Relaxed) { Err(Error::interrupted("stopped")) } else { Ok(()) }
            };
            let result = c.produce(&t, &mut *source, &options, &mut progress);
            // The source may hold Python objects. These are dropped while the interpreter runs, or not at all.
            let mut source = Some(source);
            if functions::enter(|_| drop(source.take())).is_err() {
                let _left_alone = std::mem::ManuallyDrop::new(source);
            }
            let _ = say.send(result);
        })
        .map_err(|e| Error::internal(format!("no thread could be started: {e}")))?;
    let hear = std::sync::Mutex::new(hear);
    let display = if show {
        Some(guard::method(&guard::import(py, "bayou._display")?, "Progress", (format!("publishing to '{topic}'"),))?)
    } else {
        None
    };
    let began = std::time::Instant::now();
    loop {
        let got = py.detach(|| hear.lock().ok().map(|h| h.recv_timeout(door::TURN)));
        match got {
            Some(Ok(result)) => {
                if let Some(d) = &display {
                    d.call_method0("close")?;
                }
                return Ok(PyProduceReport(result?));
            }
            Some(Err(std::sync::mpsc::RecvTimeoutError::Timeout)) => {}
            _ => return Err(Error::internal("publishing ended without an answer").into()),
        }
        if let Err(interrupt) = py.check_signals() {
            stop.store(true, Ordering::Relaxed);
            // The thread waits for messages on their way, and says what has arrived.
            let told = py.detach(|| hear.lock().ok().map(|h| h.recv_timeout(std::time::Duration::from_millis(1500))));
            return Err(match told {
                Some(Ok(Err(stopped))) if interrupt.is_instance_of::<PyKeyboardInterrupt>(py) => {
                    PyKeyboardInterrupt::new_err(stopped.message)
                }
                _ => interrupt,
            });
        }
        if let Some(d) = &display
            && began.elapsed().as_secs_f64() > 2.0
        {
            let r = seen.lock().clone();
            // The stop button may also be pressed while the progress is drawn.
            let drawn = guard::method(d, "update", (r.delivered, began.elapsed().as_secs_f64()));
            drawn.inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
        }
    }
}

#[pyfunction]
#[pyo3(signature = (rows, seed, start, interval, disorder, late, late_by, fever_region, fever_start, undef, zero, columns, lazy))]
#[allow(clippy::too_many_arguments)]
pub(super) fn _simulate_fitness<'py>(
    py: Python<'py>,
    rows: u64,
    seed: u64,
    start: Option<&Bound<'py, PyAny>>,
    interval: Option<&Bound<'py, PyAny>>,
    disorder: Option<&Bound<'py, PyAny>>,
    late: f64,
    late_by: Option<&Bound<'py, PyAny>>,
    fever_region: Option<String>,
    fever_start: f64,
    undef: f64,
    zero: f64,
    columns: Option<usize>,
    lazy: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let mut options = FitnessOptions::new(rows, seed, door::clock().now());
    let read = |value: Option<&Bound<'py, PyAny>>, what: &str| -> PyResult<Option<std::time::Duration>> {
        value.map(|v| convert::span(v, what)).transpose()
    };
    if let Some(i) = read(interval, "interval")? {
        options.interval = i;
        options.start = door::clock().now().minus(i.saturating_mul(u32::try_from(rows).unwrap_or(u32::MAX)));
    }
    if let Some(s) = start {
        options.start = convert::event_time(s, "start")?;
    }
    options.disorder = read(disorder, "disorder")?.unwrap_or_default();
    options.late_fraction = late;
    options.late_by = read(late_by, "late_by")?.unwrap_or(options.late_by);
    options.fever_region = fever_region;
    options.fever_start = fever_start;
    options.undef_fraction = undef;
    options.zero_fraction = zero;
    let schema = Fitness::schema();
    let wanted: Vec<usize> = (0..columns.unwrap_or(schema.fields().len()).min(schema.fields().len())).collect();
    let made = Fitness::new(options)?;
    let out = Arc::new(schema.project(&wanted).map_err(super::table::arrow_error)?);
    if lazy {
        let failed = |e| arrow::error::ArrowError::ExternalError(Box::new(e));
        let batches = made.map(move |b| b.map_err(failed)?.project(&wanted));
        let reader = PyRecordBatchReader::new(Box::new(RecordBatchIterator::new(batches, out)));
        return Ok(Bound::new(py, reader)?.into_any());
    }
    let (mut made, mut batches) = (made, vec![]);
    // In steps, so that the stop button is noticed.
    door::wait(py, |_| {
        let Some(batch) = made.next() else { return Ok(Some(())) };
        batches.push(batch?.project(&wanted)?);
        Ok(None)
    })?;
    Ok(Bound::new(py, PyTable::new(Rows { schema: out, batches }))?.into_any())
}
