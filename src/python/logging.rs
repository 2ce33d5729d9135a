//! Rust's log, in Python's `logging`.
//!
//! A thread that logs takes no GIL: it puts the record into a queue. A thread of this module gives the records to the loggers "bayou.kafka",
//! "bayou.run" and so on, so a handler of the user that is slow or blocks delays only the log.

use super::{door, functions};
use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::{Condvar, Mutex};
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The queue keeps this many records. When it is full, the oldest records are dropped, and counted.
const MOST: usize = 10_000;
/// The loggers whose levels decide what is logged. A level of "bayou" counts for all of them.
const LOGGERS: [&str; 7] =
    ["bayou", "bayou.functions", "bayou.kafka", "bayou.read", "bayou.run", "bayou.sink", "bayou.storage"];
/// The levels of the loggers are asked for at most this often.
const AGAIN: Duration = Duration::from_millis(100);

struct Line {
    level: Level,
    logger: String,
    text: String,
}

struct Queue {
    lines: VecDeque<Line>,
    dropped: usize,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue { lines: VecDeque::new(), dropped: 0 });
static ARRIVED: Condvar = Condvar::new();
static STARTED: AtomicBool = AtomicBool::new(false);
static ASKED: Mutex<Option<Instant>> = Mutex::new(None);

struct Bridge;

impl Log for Bridge {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The libraries below bayou log many details that help only the developers of these libraries.
        let ours = metadata.target().starts_with("bayou") || metadata.target().contains("rdkafka");
        metadata.level() <= log::max_level() && (ours || metadata.level() <= Level::Warn)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) || door::check_fork().is_err() {
            return;
        }
        let text = crate::error::clean(&record.args().to_string()).into_owned();
        let line = Line { level: record.level(), logger: logger(record.target()), text };
        let mut queue = QUEUE.lock();
        if queue.lines.len() >= MOST {
            queue.lines.pop_front();
            queue.dropped += 1;
        }
        queue.lines.push_back(line);
        drop(queue);
        ARRIVED.notify_one();
        if !STARTED.swap(true, Ordering::AcqRel) {
            // Without the thread, the records are given at the next call and at the exit.
            let _ = std::thread::Builder::new().name("bayou-log".into()).spawn(give_for_ever);
        }
    }

    fn flush(&self) {}
}

/// "bayou::kafka::consume" goes to the logger "bayou.kafka".
fn logger(target: &str) -> String {
    if target.contains("rdkafka") {
        return "bayou.kafka".into();
    }
    let mut parts = target.split("::");
    match (parts.next(), parts.next()) {
        (Some("bayou"), Some(part)) => format!("bayou.{part}"),
        (Some("bayou") | None, _) => "bayou".into(),
        (Some(library), _) => format!("bayou.{library}"),
    }
}

fn give_for_ever() {
    loop {
        let mut queue = QUEUE.lock();
        while queue.lines.is_empty() {
            ARRIVED.wait(&mut queue);
        }
        drop(queue);
        // Refused when the interpreter is about to end.
        if functions::enter(give).is_err() {
            return;
        }
    }
}

/// Gives the records to Python's loggers.
pub(super) fn give(py: Python<'_>) {
    let (lines, dropped) = {
        let mut queue = QUEUE.lock();
        (std::mem::take(&mut queue.lines), std::mem::take(&mut queue.dropped))
    };
    for Line { level, logger, text } in lines {
        say(py, level, &logger, &text);
    }
    if dropped > 0 {
        say(
            py,
            Level::Warn,
            "bayou",
            &format!("{dropped} records of the log were dropped, because the handlers of `logging` are slower"),
        );
    }
}

fn say(py: Python<'_>, level: Level, logger: &str, text: &str) {
    let number = match level {
        Level::Error => 40,
        Level::Warn => 30,
        Level::Info => 20,
        Level::Debug => 10,
        Level::Trace => 5,
    };
    let said = super::guard::import(py, "logging")
        .and_then(|logging| super::guard::method(&logging, "getLogger", (logger,)))
        // The text may have a percent sign.
        .and_then(|logger| super::guard::method(&logger, "log", (number, "%s", text)));
    // A handler that raises must not end this thread.
    drop(said);
}

/// Asks Python's loggers for their levels, so that records below these levels cost nothing. Called whenever Python calls bayou.
pub(super) fn take_levels(py: Python<'_>) {
    {
        let mut asked = ASKED.lock();
        if asked.is_some_and(|a| a.elapsed() < AGAIN) {
            return;
        }
        *asked = Some(Instant::now());
    }
    let level = |logger: &str| -> PyResult<i64> {
        py.import("logging")?.call_method1("getLogger", (logger,))?.call_method0("getEffectiveLevel")?.extract()
    };
    let lowest = LOGGERS.iter().filter_map(|l| level(l).ok()).min().unwrap_or(30);
    log::set_max_level(match lowest {
        ..10 => LevelFilter::Trace,
        10..20 => LevelFilter::Debug,
        20..30 => LevelFilter::Info,
        30..40 => LevelFilter::Warn,
        40..=50 => LevelFilter::Error,
        _ => LevelFilter::Off,
    });
}

pub(super) fn register(py: Python<'_>) {
    // A second import in one process finds the logger set.
    let _ = log::set_logger(&Bridge);
    take_levels(py);
}
