//! Running: one table or several, watched and stopped.

use super::door;
use super::errors::BayouError;
use super::functions;
use super::guard;
use super::interrupt::Watch;
use super::iterate::{expectations, raise_for};
use super::table::PyTable;
use super::{events, logging, words};
use crate::Result;
use crate::epoch::{newest, start_over};
use crate::error::clean;
use crate::flow::Flow;
use crate::progress::OpenWindow;
use crate::read::Rows;
use crate::run::Job;
use crate::run::control::{Query, Stop};
use crate::time::EventTime;
use arrow::array::*;
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[doc = doc!("Query")]
#[pyclass(frozen, module = "bayou", name = "Query")]
pub struct PyQuery(pub Query);

/// What a call does after it has started a query.
pub(super) struct Shown {
    pub block: bool,
    pub progress: bool,
    /// The run ends after this time, and how the user wrote the time.
    pub timeout: Option<(Duration, String)>,
}

/// Starts a query, shows it, and waits for its end if `block` is set.
pub(super) fn start(py: Python<'_>, flow: Flow, shown: Shown) -> PyResult<Py<PyQuery>> {
    logging::take_levels(py);
    let job = Job { flow, runtime: door::runtime()?, clock: door::clock() };
    let watch = Watch::begin(py)?;
    let started = watched(py, job, shown, &watch);
    watch.end(py)?;
    let query = started?;
    match watch.check() {
        Ok(()) => Ok(query),
        Err(interrupt) => Err(interrupted(py, &query, interrupt)),
    }
}

fn watched(py: Python<'_>, job: Job, shown: Shown, watch: &Watch) -> PyResult<Py<PyQuery>> {
    let Shown { block, progress, timeout } = shown;
    let runtime = job.runtime.clone();
    let query = Py::new(py, PyQuery(Query::start(job)?))?;
    if let Some((timeout, text)) = timeout {
        query.get().0.end_after(timeout, text, &runtime);
    }
    let panel = if progress {
        Some(guard::method(&guard::import(py, "bayou._display")?, "Panel", (&query, block))?)
    } else {
        None
    };
    if block {
        follow(py, &query, panel.as_ref(), watch)?
    } else {
        begin(py, &query)?
    }
    Ok(query)
}

/// Waits until the query has started, so that an error at the start is raised in the cell that started the query, also with block=False.
fn begin(py: Python<'_>, query: &Py<PyQuery>) -> PyResult<()> {
    let q = query.get().0.clone();
    let deadline = Instant::now() + Duration::from_secs(30);
    let waited = door::wait(py, |_| {
        let started =
            q.wait(Duration::from_millis(20)) || q.0.report.lock().status != "starting" || Instant::now() > deadline;
        Ok(started.then_some(()))
    });
    match waited {
        Ok(()) => raise(py, query),
        Err(interrupt) => Err(interrupted(py, query, interrupt)),
    }
}

fn raise(py: Python<'_>, query: &Py<PyQuery>) -> PyResult<()> {
    if let Some(f) = query.get().0.exception() {
        let error = PyErr::from(f.to_error());
        if error.is_instance_of::<BayouError>(py) {
            error.value(py).setattr("query", query)?;
        }
        return Err(error);
    }
    Ok(())
}

/// After the stop button, the call waits at most this long for the query to end. Work that is still running then ends by itself: a put to a slow
/// store (within `GRACE`), a user's function, a half-written file, a request to a broker that does not answer. Such work commits nothing of an epoch
/// that is not sealed.
const PATIENCE: Duration = Duration::from_millis(150);
/// The wait while a user's function runs. It is shorter, because the time of a function is not bounded, and the function may hold the GIL.
const PATIENCE_FOR_A_FUNCTION: Duration = Duration::from_millis(40);

/// Stops the query and returns the error that ends the call. The error has the query as an attribute.
fn interrupted(py: Python<'_>, query: &Py<PyQuery>, interrupt: PyErr) -> PyErr {
    let q = query.get().0.clone();
    q.stop(Stop::Now);
    py.detach(|| {
        let began = Instant::now();
        while !q.wait(Duration::from_millis(5)) {
            let most = if functions::are_running() { PATIENCE_FOR_A_FUNCTION } else { PATIENCE };
            if began.elapsed() >= most {
                break;
            }
        }
    });
    let _ = interrupt.value(py).setattr("query", query);
    interrupt
}

/// Waits for the end, shows progress, and turns the stop button into a clean stop.
fn follow(py: Python<'_>, query: &Py<PyQuery>, panel: Option<&Bound<'_, PyAny>>, watch: &Watch) -> PyResult<()> {
    let q = query.get().0.clone();
    let mut shown = Instant::now();
    let close = || panel.map_or(Ok(()), |p| guard::method(p, "close", ()).map(drop));
    loop {
        let ended = py.detach(|| q.wait(door::TURN));
        let mut heard = py.check_signals().and_then(|()| watch.check());
        if ended && heard.is_ok() {
            break;
        }
        if let Some(p) = panel
            && heard.is_ok()
            && shown.elapsed() >= Duration::from_millis(500)
        {
            shown = Instant::now();
            // The stop button may also be pressed while the panel is drawn.
            heard = guard::method(p, "update", ()).map(drop);
        }
        if let Err(interrupt) = heard {
            let interrupt = interrupted(py, query, interrupt);
            // An error of the panel must not hide the interrupt.
            let _ = close();
            return Err(interrupt);
        }
    }
    let settled = events::settle(py);
    let closed = close();
    raise(py, query)?;
    settled.and(closed)
}

impl PyQuery {
    /// The query, in the process that runs it. Refused in a child of a fork, where threads that do not exist may hold its locks.
    pub fn here(&self) -> Result<&Query> {
        door::check_fork()?;
        Ok(&self.0)
    }
}

fn shown(texts: &[String]) -> Vec<String> {
    texts.iter().map(|t| clean(t).into_owned()).collect()
}

/// Removes credentials and terminal control characters from all texts. Warnings, too, may contain texts from other systems.
fn clean_all(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = clean(text).into_owned(),
        serde_json::Value::Array(items) => items.iter_mut().for_each(clean_all),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(clean_all),
        _ => {}
    }
}

#[pymethods]
impl PyQuery {
    #[doc = doc!("Query.name")]
    #[getter]
    fn name(&self) -> &str {
        &self.0.0.name
    }
    #[doc = doc!("Query.id")]
    #[getter]
    fn id(&self) -> PyResult<String> {
        Ok(self.here()?.0.id.lock().clone())
    }
    #[doc = doc!("Query.run_id")]
    #[getter]
    fn run_id(&self) -> &str {
        &self.0.0.run_id
    }
    #[doc = doc!("Query.is_active")]
    #[getter]
    fn is_active(&self) -> PyResult<bool> {
        Ok(self.here()?.is_active())
    }
    #[doc = doc!("Query.status")]
    #[getter]
    fn status(&self) -> PyResult<String> {
        let q = self.here()?;
        let status = q.0.report.lock().status.clone();
        let stopping = q.is_active() && q.0.stopping() == Stop::Now;
        Ok(if stopping { "stopping".into() } else { status })
    }
    #[doc = doc!("Query.exception")]
    fn exception<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let query = slf.clone().unbind();
        Ok(slf.get().here()?.exception().map(|f| {
            let value = PyErr::from(f.to_error()).value(py).clone().into_any();
            let _ = value.setattr("query", query);
            value
        }))
    }
    #[doc = doc!("Query.stop")]
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        let q = self.here()?.clone();
        q.stop(Stop::Now);
        let deadline = Instant::now() + Duration::from_secs(3);
        door::wait(py, |turn| Ok((q.wait(turn) || Instant::now() > deadline).then_some(())))
    }
    #[doc = doc!("Query.await_termination")]
    #[pyo3(signature = (timeout=None))]
    fn await_termination(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let py = slf.py();
        let q = slf.get().0.clone();
        let timeout = timeout.filter(|t| !t.is_none()).map(|t| super::convert::span(t, "timeout")).transpose()?;
        let deadline = timeout.map(|t| Instant::now() + t);
        let ended = door::wait(py, |turn| {
            if q.wait(turn) {
                return Ok(Some(true));
            }
            Ok(deadline.is_some_and(|d| Instant::now() >= d).then_some(false))
        })?;
        raise(py, &slf.clone().unbind())?;
        Ok(ended)
    }
    #[doc = doc!("Query.last_progress")]
    #[getter]
    fn last_progress<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let last = self.here()?.0.report.lock().recent.back().cloned();
        last.map(|v| loads(py, &v)).transpose()
    }
    #[doc = doc!("Query.recent_progress")]
    #[getter]
    fn recent_progress<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let all: Vec<_> = self.here()?.0.report.lock().recent.iter().cloned().collect();
        PyList::new(py, all.iter().map(|v| loads(py, v)).collect::<PyResult<Vec<_>>>()?)
    }
    #[doc = doc!("Query.expectations")]
    #[getter]
    fn expectations(&self) -> PyResult<PyTable> {
        let rules = self.here()?.0.report.lock().rules.list();
        Ok(PyTable::new(expectations(&rules)?))
    }
    #[doc = doc!("Query.open_windows")]
    fn open_windows(&self) -> PyResult<PyTable> {
        Ok(PyTable::new(open_windows(&self.here()?.0.report.lock().open_windows)?))
    }
    #[doc = doc!("Query.raise_for_expectations")]
    #[pyo3(signature = (*names, max_ratio=0.0))]
    fn raise_for_expectations(slf: &Bound<'_, Self>, names: Vec<String>, max_ratio: f64) -> PyResult<()> {
        let rules = slf.get().here()?.0.report.lock().rules.list();
        if let Err(e) = raise_for(&rules, &names, max_ratio) {
            let error = PyErr::from(e);
            if error.is_instance_of::<BayouError>(slf.py()) {
                error.value(slf.py()).setattr("query", slf)?;
            }
            return Err(error);
        }
        Ok(())
    }
    #[doc = doc!("Query.warnings")]
    #[getter]
    fn warnings(&self) -> PyResult<Vec<String>> {
        Ok(shown(&self.here()?.0.report.lock().warnings))
    }
    #[doc = doc!("Query.notes")]
    #[getter]
    fn notes(&self) -> PyResult<Vec<String>> {
        Ok(shown(&self.here()?.0.report.lock().notes))
    }
    #[doc = doc!("Query.to_json")]
    fn to_json(&self) -> PyResult<String> {
        let mut all = self.here()?.0.report.lock().to_json();
        if let Some(o) = all.as_object_mut() {
            o.insert("name".into(), self.0.0.name.clone().into());
            o.insert("id".into(), self.0.0.id.lock().clone().into());
            o.insert("runId".into(), self.0.0.run_id.clone().into());
        }
        clean_all(&mut all);
        Ok(all.to_string())
    }
    // IPython calls this for a Query that is the last expression of a cell. HTML alone could not be updated.
    fn _ipython_display_(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().here()?;
        guard::method(&guard::import(slf.py(), "bayou._display")?, "show_again", (slf,))?;
        Ok(())
    }
    #[doc = doc!("Query.show")]
    fn show(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().here()?;
        guard::method(&guard::import(slf.py(), "bayou._display")?, "show", (slf,))?;
        Ok(())
    }
    #[doc = doc!("Query.metrics")]
    fn metrics<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().here()?;
        guard::method(&guard::import(slf.py(), "bayou._metrics")?, "prometheus", (slf,))
    }
    #[doc = doc!("Query.result")]
    fn result(&self) -> PyResult<String> {
        let q = self.here()?;
        let report = q.0.report.lock();
        let mut all = serde_json::json!({
            "query": self.0.0.name,
            "status": report.status,
            "epochs": report.epochs,
            "numInputRows": report.messages,
            "numMalformed": report.malformed,
            "numQuarantined": report.quarantined,
            "numRowsDroppedByWatermark": report.late,
            "lag": report.lag,
            "seconds": report.seconds,
            "tables": report.tables,
            "brokenRules": report.rules.list().into_iter().filter(|r| r.counts.failed > 0).collect::<Vec<_>>(),
            "warnings": report.warnings,
            "notes": report.notes,
        });
        drop(report);
        if let (Some(o), Some(failure)) = (all.as_object_mut(), q.exception()) {
            o.insert("error".into(), failure.message.into());
        }
        clean_all(&mut all);
        Ok(all.to_string())
    }
    fn __repr__(&self) -> String {
        if door::check_fork().is_err() {
            return format!("Query '{}' of the parent process, which was forked", self.0.0.name);
        }
        let r = self.0.0.report.lock();
        let mut out = format!("Query '{}': {}", self.0.0.name, r.status);
        if !r.message.is_empty() {
            out += &format!(" ({})", r.message);
        }
        out += &format!("\n  {} messages in {} epochs, {:.1} s", r.messages, r.epochs, r.seconds);
        for (name, t) in &r.tables {
            out += &format!("\n  {name}: {} rows written, version {} at {}", t.rows_written, t.version, t.location);
        }
        for note in r.notes.iter().chain(&r.warnings) {
            out += &format!("\n  note: {note}");
        }
        clean(&out).into_owned()
    }
    fn _repr_html_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.get().here()?;
        slf.py().import("bayou._display")?.call_method1("query_html", (slf,))
    }
    fn __getattr__(slf: &Bound<'_, Self>, name: &str) -> PyResult<()> {
        Err(words::no_attribute(slf, "Query", name))
    }
}

/// `table, window_start, window_end, groups, watermark, held_by, highest, held_since, closes`
fn open_windows(all: &[OpenWindow]) -> Result<Rows> {
    let time = |pick: fn(&OpenWindow) -> Option<EventTime>| {
        let times = all.iter().map(|w| pick(w).map(|t| t.0)).collect::<TimestampMicrosecondArray>();
        Arc::new(times.with_timezone("UTC")) as ArrayRef
    };
    let text =
        |pick: fn(&OpenWindow) -> Option<&str>| Arc::new(all.iter().map(pick).collect::<StringArray>()) as ArrayRef;
    let batch = RecordBatch::try_from_iter([
        ("table", text(|w| Some(&w.table))),
        ("window_start", time(|w| Some(w.start))),
        ("window_end", time(|w| Some(w.end))),
        ("groups", Arc::new(all.iter().map(|w| Some(w.groups as i64)).collect::<Int64Array>()) as ArrayRef),
        ("watermark", time(|w| w.watermark)),
        ("held_by", text(|w| w.held_by.as_deref())),
        ("highest", time(|w| w.highest)),
        ("held_since", time(|w| w.held_since)),
        ("closes", text(|w| Some(&w.closes))),
    ])?;
    Ok(Rows { schema: batch.schema(), batches: vec![batch] })
}

fn loads<'py>(py: Python<'py>, value: &serde_json::Value) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?.call_method1("loads", (value.to_string(),))
}

/// Makes the next run of a query start a new generation, which empties the tables. Returns whether there was a checkpoint.
#[pyfunction]
fn _reset(
    py: Python<'_>,
    schema: Option<&str>,
    checkpoint: &str,
    storage_options: Option<&Bound<'_, PyAny>>,
) -> PyResult<bool> {
    let at = super::read::checkpoint_of(py, schema, checkpoint, storage_options)?;
    door::run_async(py, async move {
        let had = newest(&at).await?.is_some();
        start_over(&at).await?;
        Ok(had)
    })
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyQuery>()?;
    m.add_function(wrap_pyfunction!(_reset, m)?)
}
