//! Iterators, and the calls that are built on them: batches, collect, preview, validate.

use super::arguments::Arguments;
use super::convert::{self, Count, PathText};
use super::door;
use super::guard;
use super::table::{PyTable, batch};
use super::words;
use crate::expect::{Action, Counts};
use crate::flow::source::OnMalformed;
use crate::flow::{Stream, Trigger};
use crate::progress::{RuleCount, RuleTotals};
use crate::read::Rows;
use crate::run::iterate::{BatchIterator, IterateOptions, Polled};
use crate::sink::quarantine;
use crate::storage::Location;
use crate::{Error, Result};
use arrow::array::*;
use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn trigger(value: Option<&Bound<'_, PyAny>>) -> PyResult<Trigger> {
    match value.filter(|v| !v.is_none()) {
        None => Ok(Trigger::AvailableNow),
        Some(v) => Ok(convert::duration(v, "trigger")?.parse::<Trigger>()?),
    }
}

/// The arguments of `batches`.
pub(super) fn options(mut arguments: Arguments<'_, '_>) -> PyResult<IterateOptions> {
    let when = trigger(arguments.any("trigger")?.as_ref())?;
    let batch_rows = arguments.any("batch_rows")?.map(|n| n.extract::<Count>()).transpose()?.map(|n| n.0);
    if batch_rows == Some(0) {
        return Err(Error::config("batch_rows must be at least 1").into());
    }
    let storage = super::storage::options(arguments.any("storage_options")?.as_ref())?;
    let at = arguments.any("checkpoint_location")?.map(|at| at.extract::<PathText>()).transpose()?;
    let checkpoint = match (arguments.text("name")?, at) {
        (None, None) => None,
        (Some(name), Some(at)) => {
            crate::flow::stream::check_name(&name, "an iterator")?;
            Some((Location::parse(&at.0, &storage)?, name))
        }
        _ => {
            return Err(Error::config(
                "an iterator that remembers its position needs both name= and checkpoint_location=",
            )
            .into());
        }
    };
    let limit = arguments.any("limit")?.map(|n| n.extract::<Count>()).transpose()?;
    let group = arguments.text("group_id")?;
    Ok(IterateOptions { trigger: when, batch_rows, checkpoint, group, ..bounds(arguments, limit)? })
}

/// The arguments of `collect`.
pub(super) fn bounds(mut arguments: Arguments<'_, '_>, limit: Option<Count>) -> PyResult<IterateOptions> {
    let options = IterateOptions {
        output_mode: arguments.text("output_mode")?,
        limit: limit.map(|n| n.0),
        timeout: arguments.any("timeout")?.map(|t| convert::span(&t, "timeout")).transpose()?,
        close_windows: arguments.flag("close_windows")?.unwrap_or(false),
        ..IterateOptions::default()
    };
    arguments.end()?;
    Ok(options)
}

#[doc = doc!("BatchIterator")]
#[pyclass(frozen, module = "bayou", name = "BatchIterator")]
pub struct PyBatchIterator {
    inner: Mutex<Inner>,
    /// Signals that a call has put the iterator back.
    back: Condvar,
    pandas: bool,
}

struct Inner {
    /// None while a call uses the iterator.
    it: Option<BatchIterator>,
    /// A call of `next` is running, in any thread.
    read: bool,
    closed: bool,
}

/// The right to read. Only one thread has it at a time.
struct Turn<'a>(&'a PyBatchIterator);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.inner.lock().read = false;
    }
}

pub(super) fn start(
    py: Python<'_>,
    stream: &Stream,
    options: IterateOptions,
    pandas: bool,
) -> PyResult<PyBatchIterator> {
    if pandas {
        py.import("bayou._frames")?.call_method0("need_pandas")?;
    }
    let (stream, rt) = (stream.clone(), door::runtime()?);
    let inner = door::run(py, move || BatchIterator::new(&stream, options, rt, door::clock()))?;
    let inner = Mutex::new(Inner { it: Some(inner), read: false, closed: false });
    Ok(PyBatchIterator { inner, back: Condvar::new(), pandas })
}

impl PyBatchIterator {
    fn turn(&self) -> Result<Turn<'_>> {
        let mut inner = self.inner.lock();
        if std::mem::replace(&mut inner.read, true) {
            return Err(Error::config(
                "a different thread is reading this iterator. Read it in one thread, which passes the batches on. Or give each thread its \
                 own iterator (each iterator reads all rows).",
            ));
        }
        Ok(Turn(self))
    }

    fn poll(&self, turn: Duration) -> Result<Option<Polled>> {
        // The iterator is taken out during the call, so that `close` need not wait for a lock while it holds the GIL.
        let mut it = {
            let mut inner = self.inner.lock();
            match inner.it.take() {
                Some(it) if !inner.closed => it,
                _ => return Ok(Some(Polled::Done)),
            }
        };
        let polled = it.poll(turn);
        let ended = matches!(&polled, Ok(Polled::Done) | Err(_));
        let mut inner = self.inner.lock();
        let closed = inner.closed;
        if ended || closed {
            inner.closed = true;
            drop(inner);
            it.close();
        } else {
            inner.it = Some(it);
        }
        self.back.notify_all();
        match polled? {
            _ if closed => Ok(Some(Polled::Done)),
            Polled::Pending => Ok(None),
            other => Ok(Some(other)),
        }
    }

    /// Closes the iterator. If a different thread uses the iterator, that thread closes it at the end of its call, and this call waits until then.
    fn end(&self) {
        let taken = {
            let mut inner = self.inner.lock();
            let was_open = !std::mem::replace(&mut inner.closed, true);
            if inner.it.is_none() && was_open && inner.read {
                self.back.wait_for(&mut inner, Duration::from_secs(2));
            }
            inner.it.take()
        };
        if let Some(mut it) = taken {
            it.close();
        }
    }
}

#[pymethods]
impl PyBatchIterator {
    fn __getattr__(slf: &Bound<'_, Self>, name: &str) -> PyResult<()> {
        Err(words::no_attribute(slf, "BatchIterator", name))
    }
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }
    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        let _mine = this.turn()?;
        match door::wait(py, |turn| this.poll(turn))? {
            Polled::Batch(rows) => {
                let made = batch(py, rows)?;
                if slf.get().pandas {
                    let frames = guard::import(py, "bayou._frames")?;
                    return Ok(Some(guard::method(&frames, "to_pandas", (made,))?.unbind()));
                }
                Ok(Some(made.into_any()))
            }
            _ => Ok(None),
        }
    }
    #[doc = doc!("BatchIterator.close")]
    fn close(&self, py: Python<'_>) {
        if door::check_fork().is_err() {
            return; // only the parent process may release it
        }
        py.detach(|| self.end());
    }
    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }
    #[pyo3(signature = (*_args))]
    fn __exit__(&self, py: Python<'_>, _args: &Bound<'_, pyo3::types::PyTuple>) {
        self.close(py);
    }
    fn __repr__(&self) -> String {
        let open = door::check_fork().is_ok() && !self.inner.lock().closed;
        let state = if open { "open" } else { "closed" };
        format!("BatchIterator ({state}): use it in a for loop")
    }
}

impl Drop for PyBatchIterator {
    /// Closes an iterator that was left without `close`, for example by `break`. The GIL is held here, so this must not wait for Kafka.
    fn drop(&mut self) {
        let Some(it) = self.inner.get_mut().it.take() else { return };
        if door::check_fork().is_err() {
            let _never_closed = std::mem::ManuallyDrop::new(it);
            return;
        }
        // If the thread cannot be started, the iterator is closed here.
        let _ = std::thread::Builder::new().name("bayou-close".into()).spawn(move || drop(it));
    }
}

struct Ran {
    rows: Rows,
    counts: crate::engine::EpochCounts,
    rejects: Vec<quarantine::Reject>,
    hints: Vec<String>,
}

/// Runs an iterator to its end. The steps are short, so that the stop button is noticed.
fn run_all(py: Python<'_>, stream: &Stream, options: IterateOptions) -> PyResult<Ran> {
    let (stream, rt) = (stream.clone(), door::runtime()?);
    let mut it = door::run(py, move || BatchIterator::new(&stream, options, rt, door::clock()))?;
    let mut batches = vec![];
    let result = door::wait(py, |turn| match it.poll(turn)? {
        Polled::Batch(b) => {
            batches.push(b);
            Ok(None)
        }
        Polled::Pending => Ok(None),
        Polled::Done => Ok(Some(())),
    });
    py.detach(|| it.close());
    result?;
    let rows = Rows { schema: it.schema(), batches };
    let hints = it.engine.hints();
    Ok(Ran { rows, counts: it.engine.take_counts(), rejects: it.engine.take_rejects(), hints })
}

pub(super) fn collect(py: Python<'_>, stream: &Stream, options: IterateOptions) -> PyResult<(PyTable, RuleTotals)> {
    let ran = run_all(py, stream, options)?;
    let mut totals = RuleTotals::default();
    totals.add(&ran.counts.rules);
    Ok((PyTable::new(ran.rows), totals))
}

/// `dataset, name, action, passed_records, failed_records`
pub(super) fn expectations(rules: &[RuleCount]) -> Result<Rows> {
    let text = |pick: fn(&RuleCount) -> &str| {
        Arc::new(rules.iter().map(|r| Some(pick(r))).collect::<StringArray>()) as ArrayRef
    };
    let number = |pick: fn(&RuleCount) -> u64| {
        Arc::new(rules.iter().map(|r| Some(pick(r) as i64)).collect::<Int64Array>()) as ArrayRef
    };
    let batch = RecordBatch::try_from_iter([
        ("dataset", text(|r| &r.dataset)),
        ("name", text(|r| &r.name)),
        ("action", text(|r| r.action.name())),
        ("passed_records", number(|r| r.counts.passed)),
        ("failed_records", number(|r| r.counts.failed)),
    ])?;
    Ok(Rows { schema: batch.schema(), batches: vec![batch] })
}

/// Raises an error for rules that too many rows break. If no names are given, all rules count.
pub(super) fn raise_for(rules: &[RuleCount], names: &[String], max_ratio: f64) -> Result<()> {
    for name in names {
        if !rules.iter().any(|r| r.name == *name) {
            let hint = crate::error::did_you_mean(name, rules.iter().map(|r| r.name.as_str()));
            return Err(Error::config(format!("there is no expectation '{name}' in this run.{hint}")));
        }
    }
    let broken: Vec<String> = rules
        .iter()
        .filter(|r| (names.is_empty() || names.contains(&r.name)) && r.counts.failed_ratio() > max_ratio)
        .map(|r| {
            let Counts { passed, failed } = r.counts;
            format!(
                "'{}' of '{}': {failed} of {} records ({:.2} %)",
                r.name,
                r.dataset,
                passed + failed,
                r.counts.failed_ratio() * 100.0
            )
        })
        .collect();
    match broken.is_empty() {
        true => Ok(()),
        false => Err(Error::expectation(format!(
            "expectations failed for more than {max_ratio} of the records: {}",
            broken.join("; ")
        ))),
    }
}

#[doc = doc!("Validation")]
#[pyclass(frozen, module = "bayou", name = "Validation")]
pub struct PyValidation {
    rules: Vec<RuleCount>,
    rows_in: u64,
    rows_out: u64,
    malformed: u64,
}

#[pymethods]
impl PyValidation {
    #[doc = doc!("Validation.expectations")]
    #[getter]
    fn expectations(&self) -> PyResult<PyTable> {
        Ok(PyTable::new(expectations(&self.rules)?))
    }
    #[doc = doc!("Validation.passed")]
    #[getter]
    fn passed(&self) -> bool {
        self.malformed == 0 && self.rules.iter().all(|r| r.counts.failed == 0)
    }
    #[doc = doc!("Validation.rows_in")]
    #[getter]
    fn rows_in(&self) -> u64 {
        self.rows_in
    }
    #[doc = doc!("Validation.rows_out")]
    #[getter]
    fn rows_out(&self) -> u64 {
        self.rows_out
    }
    #[doc = doc!("Validation.malformed")]
    #[getter]
    fn malformed(&self) -> u64 {
        self.malformed
    }
    #[doc = doc!("Validation.raise_for_expectations")]
    #[pyo3(signature = (*names, max_ratio=0.0))]
    fn raise_for_expectations(&self, names: Vec<String>, max_ratio: f64) -> PyResult<()> {
        Ok(raise_for(&self.rules, &names, max_ratio)?)
    }
    fn __repr__(&self) -> String {
        let rules: Vec<String> = self
            .rules
            .iter()
            .map(|r| {
                format!("  {} ({}): {} passed, {} failed", r.name, r.action.name(), r.counts.passed, r.counts.failed)
            })
            .collect();
        format!("{} rows in, {} out, {} malformed\n{}", self.rows_in, self.rows_out, self.malformed, rules.join("\n"))
    }
    fn _repr_html_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let table = Bound::new(py, slf.get().expectations()?)?;
        py.import("bayou._display")?.call_method1("table_html", (table,))
    }
}

pub(super) fn validate(py: Python<'_>, stream: &Stream) -> PyResult<PyValidation> {
    let named = stream.rules();
    let mut stream = stream.clone();
    // A rule that would stop the run is only counted here, so that the user sees all broken rules.
    if stream.rules().iter().any(|r| r.action == Action::Fail) {
        stream = stream.without_failing();
    }
    let options = IterateOptions { on_malformed: OnMalformed::Drop, close_windows: true, ..IterateOptions::default() };
    let ran = run_all(py, &stream, options)?;
    let mut totals = RuleTotals::default();
    totals.add(&ran.counts.rules);
    let rows_out = ran.rows.batches.iter().map(|b| b.num_rows() as u64).sum();
    let fatal: Vec<_> = named.iter().filter(|r| r.action == Action::Fail).map(|r| r.name.to_string()).collect();
    let mut rules = totals.list();
    rules.iter_mut().filter(|r| fatal.contains(&r.name)).for_each(|r| r.action = Action::Fail);
    Ok(PyValidation { rules, rows_in: ran.counts.rows, rows_out, malformed: ran.counts.malformed })
}

#[doc = doc!("Preview")]
#[pyclass(frozen, module = "bayou", name = "Preview")]
pub struct PyPreview {
    rows: Rows,
    malformed: Rows,
    reasons: Rows,
    rules: Vec<RuleCount>,
    messages: u64,
    notes: Vec<String>,
}

#[pymethods]
impl PyPreview {
    fn __getattr__(slf: &Bound<'_, Self>, name: &str) -> PyResult<()> {
        Err(words::no_attribute(slf, "Preview", name))
    }
    #[doc = doc!("Preview.rows")]
    #[getter]
    fn rows(&self) -> PyTable {
        PyTable::new(self.rows.clone())
    }
    #[doc = doc!("Preview.malformed")]
    #[getter]
    fn malformed(&self) -> PyTable {
        PyTable::new(self.malformed.clone())
    }
    #[doc = doc!("Preview.reasons")]
    #[getter]
    fn reasons(&self) -> PyTable {
        PyTable::new(self.reasons.clone())
    }
    #[doc = doc!("Preview.expectations")]
    #[getter]
    fn expectations(&self) -> PyResult<PyTable> {
        Ok(PyTable::new(expectations(&self.rules)?))
    }
    #[doc = doc!("Preview.messages")]
    #[getter]
    fn messages(&self) -> u64 {
        self.messages
    }
    #[doc = doc!("Preview.notes")]
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
    fn __len__(&self) -> usize {
        self.rows.batches.iter().map(|b| b.num_rows()).sum()
    }
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut text = Bound::new(py, self.rows())?.repr()?.to_string();
        text += &format!("\nlooked at {}", counted(self.messages, "message"));
        for rule in self.rules.iter().filter(|r| r.counts.failed > 0) {
            let of = rule.counts.failed + rule.counts.passed;
            let what = match rule.action {
                Action::Keep => "break it and stay",
                Action::Drop => "are dropped",
                Action::Quarantine => "go to quarantine",
                Action::Fail => "would stop the query",
            };
            text += &format!("\n'{}': {} of {of} rows {what}", crate::error::printable(&rule.name), rule.counts.failed);
        }
        for note in &self.notes {
            text = format!("{text}\n{}", crate::error::clean(note));
        }
        if self.reasons.batches.iter().all(|b| b.num_rows() == 0) {
            return Ok(text);
        }
        Ok(format!("{text}\nmalformed or set aside:\n{}", Bound::new(py, self.reasons())?.repr()?))
    }
    fn _repr_html_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("bayou._display")?.call_method1("preview_html", (slf,))
    }
}

/// A preview keeps at most this many messages and rows that were set aside.
const MOST_REJECTS: usize = 1000;

/// "1 message", "5 messages"
fn counted(n: u64, of: &str) -> String {
    format!("{n} {of}{}", if n == 1 { "" } else { "s" })
}

/// Groups quarantined rows by their reason: `count, stage, dataset, error`, and the first of them: `topic, partition, offset, value`.
fn reasons(rejects: &RecordBatch) -> Result<Rows> {
    let column = |name: &str| {
        let found = rejects.column_by_name(name);
        found.ok_or_else(|| Error::internal(format!("quarantined rows have no column {name}")))
    };
    let (stage, dataset, error) = (
        column("stage")?.as_string::<i32>(),
        column("dataset")?.as_string::<i32>(),
        column("error")?.as_string::<i32>(),
    );
    let (value, row) = (column("value")?.as_binary::<i32>(), column("row")?.as_string::<i32>());
    let mut found: std::collections::BTreeMap<(&str, &str, &str), (i64, usize)> = Default::default();
    for i in 0..rejects.num_rows() {
        let reason = (stage.value(i), dataset.value(i), without_byte(error.value(i)));
        found.entry(reason).or_insert((0, i)).0 += 1;
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|(_, (count, first))| (-count, *first));
    let first: UInt32Array = found.iter().map(|(_, (_, first))| Some(*first as u32)).collect();
    let of_first = |name: &str| -> Result<ArrayRef> { Ok(arrow::compute::take(column(name)?, &first, None)?) };
    // For a row without a message, the row itself.
    let example = found.iter().map(|(_, (_, i))| match (row.is_valid(*i), value.is_valid(*i)) {
        (true, _) => Some(row.value(*i).to_string()),
        (false, true) => Some(String::from_utf8_lossy(value.value(*i)).into_owned()),
        (false, false) => None,
    });
    let batch = RecordBatch::try_from_iter([
        ("count", Arc::new(found.iter().map(|(_, (n, _))| *n).collect::<Int64Array>()) as ArrayRef),
        ("stage", Arc::new(found.iter().map(|((s, _, _), _)| Some(*s)).collect::<StringArray>())),
        ("dataset", Arc::new(found.iter().map(|((_, d, _), _)| Some(*d)).collect::<StringArray>())),
        ("error", Arc::new(found.iter().map(|((_, _, e), _)| Some(*e)).collect::<StringArray>())),
        ("topic", of_first("topic")?),
        ("partition", of_first("partition")?),
        ("offset", of_first("offset")?),
        ("value", Arc::new(example.collect::<StringArray>())),
    ])?;
    Ok(Rows { schema: batch.schema(), batches: vec![batch] })
}

/// An error of the decoder without the place in its message.
fn without_byte(error: &str) -> &str {
    error.rfind(" (byte ").map_or(error, |at| &error[..at])
}

pub(super) fn preview(
    py: Python<'_>,
    stream: &Stream,
    n: usize,
    timeout: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyPreview> {
    let timeout = timeout.filter(|t| !t.is_none()).map(|t| convert::span(t, "timeout")).transpose()?;
    let options = IterateOptions {
        limit: Some(n),
        timeout: timeout.or(Some(Duration::from_secs(10))),
        close_windows: true,
        on_malformed: OnMalformed::Quarantine,
        keep_rejects: MOST_REJECTS,
        ..IterateOptions::default()
    };
    let ran = run_all(py, &stream.with_policy(OnMalformed::Quarantine), options)?;
    let all = quarantine::rows(&ran.rejects, 0)?;
    let reasons = reasons(&all)?;
    let all = all.slice(0, all.num_rows().min(100));
    let names = ["topic", "partition", "offset", "stage", "rules", "error"];
    let indices: Vec<usize> =
        names.iter().map(|n| all.schema().index_of(n)).collect::<Result<_, _>>().map_err(super::table::arrow_error)?;
    let malformed = all.project(&indices).map_err(super::table::arrow_error)?;
    let malformed = Rows { schema: malformed.schema(), batches: vec![malformed] };
    let mut totals = RuleTotals::default();
    totals.add(&ran.counts.rules);
    let (messages, rules) = (ran.counts.messages, totals.list());
    Ok(PyPreview { rows: ran.rows, malformed, reasons, rules, messages, notes: ran.hints })
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyBatchIterator>()?;
    m.add_class::<PyValidation>()?;
    m.add_class::<PyPreview>()
}
