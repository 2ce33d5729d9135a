//! The user's handle of a query: it can be watched, awaited and stopped.

use crate::error::{Place, Source};
use crate::kafka::Question;
use crate::progress::Report;
use crate::{Error, Kind, Result};
use parking_lot::{Condvar, Mutex};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// The way in which a query is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stop {
    No = 0,
    /// Finish the current epoch.
    AfterEpoch = 1,
    /// Abandon everything that is not sealed.
    Now = 2,
}

pub struct Shared {
    pub name: String,
    /// The query's id, the same in all its runs. Before the checkpoint is read, it is a new id.
    pub id: Mutex<String>,
    pub run_id: String,
    stop: AtomicU8,
    /// The timeout that ends the run, as the user wrote it.
    time_is_over: Mutex<Option<String>>,
    /// True while a user's function has the sealed rows. The time that a function takes is not bounded.
    pub calling: Arc<AtomicBool>,
    pub report: Mutex<Report>,
    /// The earlier run of the same query that this run waits for. A run that gives up leaves the earlier run to the next one.
    before: Mutex<Option<Query>>,
    ended: Mutex<Option<Result<(), Failure>>>,
    changed: Condvar,
}

/// An error that can be raised more than once.
#[derive(Debug, Clone)]
pub struct Failure {
    pub kind: Kind,
    pub message: String,
    /// The exception that a user's function raised.
    pub source: Option<Source>,
    pub place: Option<Box<Place>>,
}

impl Failure {
    pub fn to_error(&self) -> Error {
        let (source, place) = (self.source.clone(), self.place.clone());
        Error { source, place, ..Error::new(self.kind, self.message.clone()) }
    }
}

impl Shared {
    pub fn new(name: &str, id: String) -> Self {
        Self {
            name: name.into(),
            id: Mutex::new(id),
            run_id: uuid::Uuid::new_v4().to_string(),
            stop: AtomicU8::new(0),
            time_is_over: Mutex::new(None),
            calling: Arc::default(),
            report: Mutex::new(Report { status: "starting".into(), ..Report::default() }),
            before: Mutex::new(None),
            ended: Mutex::new(None),
            changed: Condvar::new(),
        }
    }
    pub fn stopping(&self) -> Stop {
        match self.stop.load(Ordering::Acquire) {
            0 => Stop::No,
            1 => Stop::AfterEpoch,
            _ => Stop::Now,
        }
    }
    pub fn request(&self, stop: Stop) {
        self.stop.fetch_max(stop as u8, Ordering::AcqRel);
    }
    pub fn is_calling(&self) -> bool {
        self.calling.load(Ordering::Acquire)
    }

    /// Asks Kafka on a separate thread and waits for the answer, so that a stop does not wait for a dead broker.
    pub fn ask<T: Send + 'static>(&self, question: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        self.ask_of("Kafka", Duration::MAX, question)
    }

    /// Asks on a separate thread and waits for the answer. A stop that lets the epoch end waits at most for `patience`.
    pub(crate) fn ask_of<T: Send + 'static>(
        &self,
        whom: &str,
        patience: Duration,
        question: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (question, began) = (Question::ask(question)?, Instant::now());
        loop {
            let stop = self.stopping();
            if stop == Stop::Now || stop == Stop::AfterEpoch && began.elapsed() >= patience {
                return Err(Error::interrupted(format!("stopped while waiting for {whom}")));
            }
            if let Some(answer) = question.answer(TURN) {
                return answer;
            }
        }
    }

    /// Runs `work` until it is done, or until a stop is requested and `grace` has passed. Work that is given up may have taken effect nevertheless.
    pub async fn unless_stopped<T>(&self, grace: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        let stopped = async {
            while self.stopping() != Stop::Now {
                tokio::time::sleep(TURN).await;
            }
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            done = work => done,
            () = stopped => Err(Error::interrupted("stopped")),
        }
    }

    /// Returns true when a stop is requested, and false after `at_most`.
    pub fn wait_for_stop(&self, at_most: Duration) -> bool {
        let began = Instant::now();
        while self.stopping() == Stop::No && began.elapsed() < at_most {
            std::thread::sleep(Duration::from_millis(25));
        }
        self.stopping() != Stop::No
    }
    pub fn end(&self, result: Result<()>) {
        let mut report = self.report.lock();
        let stopped = self.stopping() != Stop::No;
        // An interruption by a stop is not a failure.
        let result = match result {
            Err(e) if stopped && e.kind == Kind::Interrupted => Ok(()),
            other => other,
        };
        report.status = match &result {
            Err(_) => "failed".into(),
            Ok(()) if stopped => "stopped".into(),
            Ok(()) => "finished".into(),
        };
        if let (Ok(()), Some(shown)) = (&result, self.time_is_over.lock().take()) {
            report
                .notes
                .push(format!("the run ended because of timeout={shown}. The next run goes on where it stopped."));
        }
        if let Err(e) = &result {
            report.message = e.message.clone();
        }
        drop(report);
        *self.ended.lock() =
            Some(result.map_err(|e| Failure { kind: e.kind, message: e.message, source: e.source, place: e.place }));
        self.changed.notify_all();
    }
}

/// A waiting loop checks for a stop after this long.
pub(crate) const TURN: Duration = Duration::from_millis(25);

/// A run whose time is over has this long for its epoch.
const LAST_EPOCH: Duration = Duration::from_secs(60);

/// A running or ended query.
#[derive(Clone)]
pub struct Query(pub Arc<Shared>);

impl Query {
    pub fn is_active(&self) -> bool {
        self.0.ended.lock().is_none()
    }
    pub fn exception(&self) -> Option<Failure> {
        self.0.ended.lock().as_ref().and_then(|r| r.as_ref().err().cloned())
    }
    /// Waits for the end, at most `at_most`. Returns true when the query has ended.
    pub fn wait(&self, at_most: Duration) -> bool {
        let deadline = Instant::now() + at_most;
        let mut ended = self.0.ended.lock();
        while ended.is_none() {
            if self.0.changed.wait_until(&mut ended, deadline).timed_out() {
                return ended.is_some();
            }
        }
        true
    }
    pub fn stop(&self, how: Stop) {
        self.0.request(how);
    }

    /// Ends the run after this time: when its epoch is finished, and at once where that takes longer than `LAST_EPOCH`.
    pub fn end_after(&self, timeout: Duration, shown: String, runtime: &tokio::runtime::Handle) {
        let shared = Arc::downgrade(&self.0);
        let running = move || shared.upgrade().filter(|s| s.ended.lock().is_none());
        runtime.spawn(async move {
            tokio::time::sleep(timeout).await;
            let Some(shared) = running() else { return };
            *shared.time_is_over.lock() = Some(shown);
            shared.request(Stop::AfterEpoch);
            drop(shared);
            tokio::time::sleep(LAST_EPOCH).await;
            if let Some(shared) = running() {
                shared.request(Stop::Now);
            }
        });
    }
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The queries that run in this process, by the location of their checkpoint.
static ACTIVE: LazyLock<Mutex<HashMap<String, Query>>> = LazyLock::new(|| Mutex::new(HashMap::new()));

/// Takes a checkpoint over. Earlier runs with this checkpoint in this process end first, each after its current epoch.
pub(crate) fn take_over(checkpoint: &str, query: &Query) -> Result<()> {
    let mut before = {
        let mut active = ACTIVE.lock();
        let before = active.insert(checkpoint.to_string(), query.clone()).filter(Query::is_active);
        query.0.before.lock().clone_from(&before);
        before
    };
    let began = Instant::now();
    while let Some(old) = before {
        old.stop(Stop::AfterEpoch);
        while !old.wait(Duration::from_millis(50)) {
            let stopped = query.0.stopping() == Stop::Now;
            if !stopped && began.elapsed() < Duration::from_secs(120) {
                continue;
            }
            // The next run has to wait for the old run too. A run that is waiting already finds the old run in `before`.
            let mut active = ACTIVE.lock();
            if active.get(checkpoint).is_some_and(|q| q.is(query)) {
                active.insert(checkpoint.to_string(), old);
            }
            return Err(if stopped {
                Error::interrupted("stopped while waiting for the earlier run of the same query")
            } else {
                Error::concurrent_query(format!(
                    "the query '{}' is running in this process and does not end. Stop the query with query.stop().",
                    query.0.name
                ))
            });
        }
        before = old.0.before.lock().take().filter(Query::is_active);
        query.0.before.lock().clone_from(&before);
    }
    Ok(())
}

pub(crate) fn let_go(checkpoint: &str, query: &Query) {
    let mut active = ACTIVE.lock();
    if active.get(checkpoint).is_some_and(|q| q.is(query)) {
        active.remove(checkpoint);
    }
}

/// Stops all queries of this process and waits at most `at_most`. Used at the interpreter's exit.
pub(crate) fn stop_all(at_most: Duration) {
    let mut all: Vec<Query> = ACTIVE.lock().values().cloned().collect();
    let waited_for: Vec<Query> = all.iter().filter_map(|q| q.0.before.lock().clone()).collect();
    all.extend(waited_for);
    all.iter().for_each(|q| q.stop(Stop::Now));
    let deadline = Instant::now() + at_most;
    for q in all {
        q.wait(deadline.saturating_duration_since(Instant::now()));
    }
}
