//! Events of queries, for functions of the user: `bayou.on_progress`, alerts.
//!
//! A query's thread does not take the GIL: it puts the event into a queue, and a thread of this module calls the functions one after the other.

use super::{door, functions, guard};
use crate::progress::Event;
use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The queue keeps this many events. When it is full, the oldest are dropped, and a warning says so.
const MOST: usize = 10_000;
/// The end of a run waits at most this long for the functions, so that they have seen its last epoch.
const PATIENCE: Duration = Duration::from_secs(5);

struct Listener {
    number: u64,
    /// "progress", or "done" when an epoch is in all tables.
    kind: String,
    function: Py<PyAny>,
}

struct Queue {
    events: VecDeque<Event>,
    /// How many events were put into the queue, and how many are handled or dropped.
    put: u64,
    done: u64,
}

static LISTENERS: Mutex<Vec<Listener>> = Mutex::new(vec![]);
static LISTENING: AtomicBool = AtomicBool::new(false);
static QUEUE: Mutex<Queue> = Mutex::new(Queue { events: VecDeque::new(), put: 0, done: 0 });
static ARRIVED: Condvar = Condvar::new();
static DEALT_WITH: Condvar = Condvar::new();
static STARTED: AtomicBool = AtomicBool::new(false);

fn heard(event: Event) {
    if !LISTENING.load(Ordering::Acquire) || door::check_fork().is_err() {
        return;
    }
    let mut queue = QUEUE.lock();
    if queue.events.len() >= MOST {
        queue.events.pop_front();
        queue.done += 1;
        log::warn!(target: "bayou::run", "a function of on_progress is slower than the epochs: an event was dropped");
    }
    queue.events.push_back(event);
    queue.put += 1;
    drop(queue);
    ARRIVED.notify_one();
    if !STARTED.swap(true, Ordering::AcqRel) {
        let _ = std::thread::Builder::new().name("bayou-events".into()).spawn(tell_for_ever);
    }
}

thread_local! {
    /// True on the thread of this module.
    static HERE: Cell<bool> = const { Cell::new(false) };
}

fn tell_for_ever() {
    HERE.set(true);
    loop {
        let mut queue = QUEUE.lock();
        while queue.events.is_empty() {
            ARRIVED.wait(&mut queue);
        }
        let event = queue.events.pop_front();
        drop(queue);
        let told = event.map_or(Ok(()), |event| functions::enter(|py| tell(py, &event)));
        QUEUE.lock().done += 1;
        DEALT_WITH.notify_all();
        if told.is_err() {
            return; // the interpreter is ending
        }
    }
}

fn tell(py: Python<'_>, event: &Event) {
    let (kind, value) = match event {
        Event::Progress(value) => ("progress", value.clone()),
        Event::Done { name, run_id, epoch } => {
            ("done", serde_json::json!({"name": name, "runId": run_id, "batchId": epoch}))
        }
    };
    let called: Vec<Py<PyAny>> = {
        let all = LISTENERS.lock();
        all.iter().filter(|l| l.kind == kind).map(|l| l.function.clone_ref(py)).collect()
    };
    for function in called {
        let call = || -> PyResult<()> {
            let given = py.import("json")?.call_method1("loads", (value.to_string(),))?;
            guard::call(function.bind(py), &PyTuple::new(py, [given])?).map(drop)
        };
        if let Err(e) = call() {
            log::warn!(target: "bayou::functions", "a function of on_progress failed: {}", functions::traceback(py, &e));
        }
    }
}

/// Waits until the functions have got all events so far.
pub(super) fn settle(py: Python<'_>) -> PyResult<()> {
    // A run within a function of on_progress cannot wait for that function.
    if !LISTENING.load(Ordering::Acquire) || HERE.get() {
        return Ok(());
    }
    let (until, wanted) = (Instant::now() + PATIENCE, QUEUE.lock().put);
    door::wait(py, |turn| {
        let mut queue = QUEUE.lock();
        if queue.done < wanted && Instant::now() < until {
            DEALT_WITH.wait_for(&mut queue, turn);
        }
        Ok((queue.done >= wanted || Instant::now() >= until).then_some(()))
    })
}

/// Calls the function with each event of a kind from now on. Returns the number for `_unlisten`.
#[pyfunction]
fn _listen(kind: &str, function: Py<PyAny>) -> u64 {
    static NEXT: Mutex<u64> = Mutex::new(0);
    let mut next = NEXT.lock();
    *next += 1;
    LISTENERS.lock().push(Listener { number: *next, kind: kind.into(), function });
    LISTENING.store(true, Ordering::Release);
    *next
}

#[pyfunction]
fn _unlisten(number: u64) {
    let removed: Vec<Listener> = {
        let mut all = LISTENERS.lock();
        let at = all.iter().position(|l| l.number == number);
        let removed = at.map(|at| all.remove(at)).into_iter().collect();
        LISTENING.store(!all.is_empty(), Ordering::Release);
        removed
    };
    // Python objects are dropped without the lock: their destructors may run code.
    drop(removed);
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    crate::progress::listen(heard);
    m.add_function(wrap_pyfunction!(_listen, m)?)?;
    m.add_function(wrap_pyfunction!(_unlisten, m)?)
}
