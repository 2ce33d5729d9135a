//! Running: one table or several, watched and stopped.

use super::convert::{PathText, neighbour};
use super::door;
use super::errors::BayouError;
use super::functions::{self, Function};
use super::guard;
use super::interrupt::Watch;
use super::iterate::{expectations, raise_for};
use super::stream::PyStream;
use super::table::PyTable;
use crate::epoch::{newest, start_over};
use crate::error::clean;
use crate::flow::Stream;
use crate::flow::Trigger;
use crate::flow::mode::parse_mode;
use crate::flow::{Flow, Output};
use crate::progress::OpenWindow;
use crate::read::Rows;
use crate::run::Job;
use crate::run::control::{Query, Stop};
use crate::sink::To;
use crate::sink::delta::DeltaOptions;
use crate::sink::function::{ForEach, FunctionOptions};
use crate::sink::topic::TopicOptions;
use crate::storage::{Location, StorageOptions};
use crate::time::EventTime;
use crate::{Error, Result};
use arrow::array::*;
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A running or ended query.
#[pyclass(frozen, module = "bayou", name = "Query")]
pub struct PyQuery(pub Query);

#[derive(Clone)]
pub struct WriteOptions {
    pub query_name: Option<String>,
    pub trigger: Trigger,
    pub checkpoint_location: Option<String>,
    pub storage_options: StorageOptions,
    pub full_refresh: bool,
    pub accept_changes: bool,
    pub close_windows: bool,
    pub memory_limit: Option<usize>,
    pub optimize_every: Option<usize>,
    pub clean_log: Option<bool>,
}

#[derive(Default)]
pub struct TableArgs {
    pub output_mode: Option<String>,
    pub partition_by: Vec<String>,
    pub table_name: Option<String>,
    pub comment: Option<String>,
    pub schema_mode: Option<String>,
    pub start: Option<String>,
    pub foreach: Option<Arc<dyn ForEach>>,
    pub topic: Option<TopicOptions>,
}

/// Reads a column or a list of columns.
pub fn columns(value: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<String>> {
    match value.filter(|v| !v.is_none()) {
        None => Ok(vec![]),
        Some(v) => match v.extract::<String>() {
            Ok(one) => Ok(vec![one]),
            Err(_) => v
                .extract::<Vec<String>>()
                .map_err(|_| Error::config("partition_by takes a column or a list of columns").into()),
        },
    }
}

fn is_catalog(target: &str) -> bool {
    !target.contains(['/', '\\', ':']) && target.split('.').count() == 3 && target.split('.').all(|p| !p.is_empty())
}

fn no_catalog(target: &str) -> Result<()> {
    match is_catalog(target) {
        true => Err(Error::config(format!(
            "'{target}' names a Unity Catalog table, which this version does not write. Use a path or a cloud URL. For a folder of that name write \"./{target}\"."
        ))),
        false => Ok(()),
    }
}

fn output(name: &str, stream: &Stream, location: Option<Location>, args: TableArgs) -> Result<Output> {
    let merge_schema = match args.schema_mode.as_deref() {
        None => false,
        Some("merge") => true,
        Some(other) => {
            return Err(Error::config(format!(
                "schema_mode='{other}': the only mode is \"merge\" (new columns are added)"
            )));
        }
    };
    let mode = parse_mode(args.output_mode.as_deref(), stream).map_err(|e| e.context(format!("table '{name}'")))?;
    if stream.kafka_sources().is_empty() {
        return Err(Error::config(format!(
            "table '{name}': rows in memory have no position to continue from. Write them with deltalake, or use collect() and validate()."
        )));
    }
    let partition_by = args
        .partition_by
        .iter()
        .map(|c| crate::expr::resolve_column(c, stream.schema()).map(|i| stream.schema().field(i).name().clone()))
        .collect::<Result<_>>()
        .map_err(|e| e.context("partition_by"))?;
    let to = match (args.topic, args.foreach, location) {
        (Some(topic), ..) => To::Topic(topic),
        (None, Some(function), _) => To::Function(FunctionOptions { function }),
        (None, None, Some(location)) => To::Delta(DeltaOptions {
            location,
            partition_by,
            table_name: args.table_name,
            comment: args.comment,
            merge_schema,
        }),
        (None, None, None) => return Err(Error::internal(format!("the output '{name}' has no location"))),
    };
    Ok(Output { name: name.into(), stream: stream.clone(), mode, start: args.start, to })
}

/// The locations of the files that `write_delta` keeps for a table.
pub struct Places {
    pub name: String,
    pub checkpoint: Location,
    pub quarantine: Location,
}

pub fn places(at: &Location, options: &WriteOptions) -> Result<Places> {
    let name = options.query_name.clone().unwrap_or_else(|| at.name());
    crate::flow::stream::check_name(&name, "a query").map_err(|e| match options.query_name {
        Some(_) => e.context("query_name"),
        None => Error::config(format!(
            "{}. A query is named after its target unless query_name= gives it a different name. Set query_name= for this query.",
            e.message
        )),
    })?;
    let checkpoint = match &options.checkpoint_location {
        Some(c) => Location::parse(c, &options.storage_options)?.join(&name),
        None => at.join("_bayou").join(&name),
    };
    let aside = format!("{}_quarantine", at.name());
    // A table at the root of a bucket has no folder beside it, so its quarantine lies below it.
    let quarantine = at.parent().map_or_else(|| at.join("_bayou").join(&aside), |parent| parent.join(&aside));
    Ok(Places { name, checkpoint, quarantine })
}

pub fn write_delta(
    py: Python<'_>,
    stream: &Stream,
    target: &str,
    args: TableArgs,
    options: WriteOptions,
    block: bool,
    progress: bool,
) -> PyResult<Py<PyQuery>> {
    no_catalog(target)?;
    let at = Location::parse(target, &options.storage_options)?;
    let Places { name, checkpoint, quarantine } = places(&at, &options)?;
    let table = output(&at.name(), stream, Some(at), args)?;
    start(py, name, vec![table], quarantine, checkpoint, options, block, progress)
}

/// Writes to a target that has no folder: each epoch's rows go to a function or to a topic.
pub fn write_elsewhere(
    py: Python<'_>,
    stream: &Stream,
    call: &str,
    args: TableArgs,
    options: WriteOptions,
    block: bool,
    progress: bool,
) -> PyResult<Py<PyQuery>> {
    let missing = || {
        Error::config(format!(
            "{call} needs query_name= and checkpoint_location=. The checkpoint keeps the position, and the rows of an epoch until they are delivered."
        ))
    };
    let name = options.query_name.clone().ok_or_else(missing)?;
    let at = Location::parse(&options.checkpoint_location.clone().ok_or_else(missing)?, &options.storage_options)?;
    let checkpoint = at.join(&name);
    let table = output(&name, stream, None, args)?;
    let quarantine = at.join(&format!("{name}_quarantine"));
    start(py, name, vec![table], quarantine, checkpoint, options, block, progress)
}

#[allow(clippy::too_many_arguments)]
fn start(
    py: Python<'_>,
    name: String,
    outputs: Vec<Output>,
    quarantine: Location,
    checkpoint: Location,
    options: WriteOptions,
    block: bool,
    progress: bool,
) -> PyResult<Py<PyQuery>> {
    let flow = Flow {
        name,
        outputs,
        quarantine,
        checkpoint,
        trigger: options.trigger,
        full_refresh: options.full_refresh,
        accept_changes: options.accept_changes,
        close_windows: options.close_windows,
        memory_limit: options.memory_limit,
        optimize_every: options.optimize_every,
        clean_log: options.clean_log,
    };
    let job = Job { flow, runtime: door::runtime()?, clock: door::clock() };
    let watch = Watch::begin(py)?;
    let started = watched(py, job, block, progress, &watch);
    watch.end(py)?;
    let query = started?;
    match watch.check() {
        Ok(()) => Ok(query),
        Err(interrupt) => Err(interrupted(py, &query, interrupt)),
    }
}

fn watched(py: Python<'_>, job: Job, block: bool, progress: bool, watch: &Watch) -> PyResult<Py<PyQuery>> {
    let query = Py::new(py, PyQuery(Query::start(job)?))?;
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
    close()?;
    raise(py, query)
}

impl PyQuery {
    /// The query, in the process that runs it. Refused in a child of a fork, where threads that do not exist may hold its locks.
    fn here(&self) -> Result<&Query> {
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
    #[getter]
    fn name(&self) -> &str {
        &self.0.0.name
    }
    #[getter]
    fn id(&self) -> PyResult<String> {
        Ok(self.here()?.0.id.lock().clone())
    }
    #[getter]
    fn run_id(&self) -> &str {
        &self.0.0.run_id
    }
    #[getter]
    fn is_active(&self) -> PyResult<bool> {
        Ok(self.here()?.is_active())
    }
    #[getter]
    fn status(&self) -> PyResult<String> {
        let q = self.here()?;
        let status = q.0.report.lock().status.clone();
        let stopping = q.is_active() && q.0.stopping() == Stop::Now;
        Ok(if stopping { "stopping".into() } else { status })
    }
    fn exception<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let query = slf.clone().unbind();
        Ok(slf.get().here()?.exception().map(|f| {
            let value = PyErr::from(f.to_error()).value(py).clone().into_any();
            let _ = value.setattr("query", query);
            value
        }))
    }
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        let q = self.here()?.clone();
        q.stop(Stop::Now);
        let deadline = Instant::now() + Duration::from_secs(3);
        door::wait(py, |turn| Ok((q.wait(turn) || Instant::now() > deadline).then_some(())))
    }
    #[pyo3(signature = (timeout=None))]
    fn await_termination(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let py = slf.py();
        let q = slf.get().0.clone();
        let deadline = match timeout.filter(|t| !t.is_none()) {
            None => None,
            Some(t) => {
                let d = crate::time::parse_duration(&super::convert::duration(t, "timeout")?).map_err(Error::config)?;
                Some(Instant::now() + d)
            }
        };
        let ended = door::wait(py, |turn| {
            if q.wait(turn) {
                return Ok(Some(true));
            }
            Ok(deadline.is_some_and(|d| Instant::now() >= d).then_some(false))
        })?;
        raise(py, &slf.clone().unbind())?;
        Ok(ended)
    }
    #[getter]
    fn last_progress<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let last = self.here()?.0.report.lock().recent.back().cloned();
        last.map(|v| loads(py, &v)).transpose()
    }
    #[getter]
    fn recent_progress<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let all: Vec<_> = self.here()?.0.report.lock().recent.iter().cloned().collect();
        PyList::new(py, all.iter().map(|v| loads(py, v)).collect::<PyResult<Vec<_>>>()?)
    }
    #[getter]
    fn expectations(&self) -> PyResult<PyTable> {
        let rules = self.here()?.0.report.lock().rules.list();
        Ok(PyTable::new(expectations(&rules)?))
    }
    fn open_windows(&self) -> PyResult<PyTable> {
        Ok(PyTable::new(open_windows(&self.here()?.0.report.lock().open_windows)?))
    }
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
    #[getter]
    fn warnings(&self) -> PyResult<Vec<String>> {
        Ok(shown(&self.here()?.0.report.lock().warnings))
    }
    #[getter]
    fn notes(&self) -> PyResult<Vec<String>> {
        Ok(shown(&self.here()?.0.report.lock().notes))
    }
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
    fn __getattr__(&self, name: &str) -> PyResult<()> {
        let hint = neighbour(name).map(|n| format!(" Here it is called {n}.")).unwrap_or_default();
        Err(PyAttributeError::new_err(format!("'Query' has no attribute '{name}'.{hint}")))
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

/// Runs a pipeline: `tables` are dicts with name, stream and options.
#[pyfunction]
#[pyo3(signature = (name, root, tables, *, trigger, checkpoint_location, storage_options, full_refresh, accept_changes, close_windows, memory_limit, optimize_every, clean_log, block, progress))]
#[allow(clippy::too_many_arguments)]
fn _run_pipeline(
    py: Python<'_>,
    name: String,
    root: &str,
    tables: &Bound<'_, PyList>,
    trigger: Option<&Bound<'_, PyAny>>,
    checkpoint_location: Option<PathText>,
    storage_options: Option<&Bound<'_, PyAny>>,
    full_refresh: bool,
    accept_changes: bool,
    close_windows: bool,
    memory_limit: Option<&Bound<'_, PyAny>>,
    optimize_every: Option<usize>,
    clean_log: Option<bool>,
    block: bool,
    progress: bool,
) -> PyResult<Py<PyQuery>> {
    let storage_options = super::convert::string_map(storage_options, "storage_options")?;
    no_catalog(root)?;
    let at = Location::parse(root, &storage_options)?;
    let checkpoint = match &checkpoint_location {
        Some(c) => Location::parse(&c.0, &storage_options)?.join(&name),
        None => at.join("_bayou").join(&name),
    };
    let mut specs = vec![];
    for entry in tables.iter() {
        let entry = entry.cast::<PyDict>()?;
        let get = |key: &str| entry.get_item(key).map(|v| v.filter(|v| !v.is_none()));
        let text = |key: &str| -> PyResult<Option<String>> { get(key)?.map(|v| v.extract()).transpose() };
        let table_name: String = text("name")?.unwrap_or_default();
        let stream = entry.get_item("stream")?.ok_or_else(|| Error::internal("a table without a stream"))?;
        let stream = stream.extract::<PyRef<'_, PyStream>>()?.0.clone();
        let args = TableArgs {
            output_mode: text("output_mode")?,
            partition_by: columns(get("partition_by")?.as_ref())?,
            table_name: text("table_name")?.or(Some(table_name.clone())),
            comment: text("comment")?,
            schema_mode: text("schema_mode")?,
            start: text("start")?,
            foreach: match get("foreach")? {
                None => None,
                Some(function) => {
                    let input = text("input")?.unwrap_or_else(|| "arrow".into());
                    Some(Arc::new(Function::new(&function, &input, "foreach_batch")?) as Arc<dyn ForEach>)
                }
            },
            topic: match get("topic")? {
                None => None,
                Some(given) => Some(super::topic::options(given.cast::<PyDict>()?, &stream)?),
            },
        };
        crate::flow::stream::check_name(&table_name, "a table")?;
        specs.push(output(&table_name, &stream, Some(at.join(&table_name)), args)?);
    }
    let quarantine = at.join(&format!("{name}_quarantine"));
    let trigger = super::iterate::trigger(trigger)?;
    let options = WriteOptions {
        query_name: Some(name.clone()),
        trigger,
        checkpoint_location: checkpoint_location.map(|c| c.0),
        storage_options,
        full_refresh,
        accept_changes,
        close_windows,
        memory_limit: super::convert::bytes(memory_limit, "memory_limit", 1 << 20)?,
        optimize_every,
        clean_log,
    };
    start(py, name, specs, quarantine, checkpoint, options, block, progress)
}

/// Makes the next run of a query start a new generation, which empties the tables. Returns whether there was a checkpoint.
#[pyfunction]
fn _reset(py: Python<'_>, checkpoint: &str, storage_options: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
    let storage = super::convert::string_map(storage_options, "storage_options")?;
    let at = Location::parse(checkpoint, &storage)?;
    door::run_async(py, async move {
        let had = newest(&at).await?.is_some();
        start_over(&at).await?;
        Ok(had)
    })
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyQuery>()?;
    m.add_function(wrap_pyfunction!(_run_pipeline, m)?)?;
    m.add_function(wrap_pyfunction!(_reset, m)?)
}
