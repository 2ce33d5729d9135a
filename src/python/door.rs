//! The only door for blocking work. It releases the GIL, checks for signals every 50 ms, and refuses calls after a fork.

use super::{functions, logging};
use crate::{Error, Result};
use pyo3::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};

pub(super) const TURN: Duration = Duration::from_millis(50);

static PID: AtomicU32 = AtomicU32::new(0);

// The runtime is never dropped. A runtime that is dropped while the interpreter ends would wait for threads that wait for the GIL.
static RUNTIME: LazyLock<Result<Runtime, String>> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(2)
        // A large stack, because SQL over tables is planned and run by recursion.
        .thread_stack_size(16 << 20)
        .thread_name("bayou-io")
        .enable_all()
        .build()
        .map_err(|e| e.to_string())
});

pub(super) fn runtime() -> Result<Handle> {
    check_fork()?;
    match &*RUNTIME {
        Ok(rt) => Ok(rt.handle().clone()),
        Err(e) => Err(Error::internal(format!("no runtime: {e}"))),
    }
}

/// The machine's clock. Everything that is started from Python uses it.
#[expect(clippy::disallowed_methods, reason = "the one place that asks for it")]
pub(super) fn clock() -> crate::time::SharedClock {
    crate::time::SharedClock::system()
}

pub(super) fn check_fork() -> Result<()> {
    let now = std::process::id();
    match PID.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire) {
        Err(pid) if pid != now => Err(Error::config(
            "this process was forked from one that used bayou, and Kafka clients and threads do not survive a fork. Start \
             processes with multiprocessing's \"spawn\", or import bayou in the child only.",
        )),
        _ => Ok(()),
    }
}

/// Turns a panic into an ordinary error. Otherwise Python would get a BaseException, which `except Exception` does not catch. The text of the panic
/// is not repeated, because it may quote a value.
fn calm<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    let fault =
        |_| Err(Error::internal("a fault of bayou ended the call. The details are on the process's standard error."));
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(fault)
}

/// Repeats steps of at most 50 ms until one step returns a result.
pub(super) fn wait<T: Send>(py: Python<'_>, mut step: impl FnMut(Duration) -> Result<Option<T>> + Send) -> PyResult<T> {
    check_fork()?;
    logging::take_levels(py);
    loop {
        if let Some(done) = py.detach(|| calm(|| step(TURN)))? {
            return Ok(done);
        }
        py.check_signals()?;
    }
}

/// Runs a call that cannot be cut into steps on a new thread. After an interrupt the call is left to end by itself.
pub(super) fn run<T: Send + 'static>(py: Python<'_>, call: impl FnOnce() -> Result<T> + Send + 'static) -> PyResult<T> {
    check_fork()?;
    let (say, hear) = channel();
    std::thread::Builder::new()
        .name("bayou-call".into())
        .stack_size(64 << 20)
        .spawn(move || {
            let _ = say.send(calm(call));
        })
        .map_err(|e| Error::internal(format!("no thread could be started: {e}")))?;
    // `detach` may take a receiver by move, but may not share it.
    let hear = std::sync::Mutex::new(hear);
    wait(py, |turn| {
        let hear = hear.lock().map_err(|_| Error::internal("a call ended badly"))?;
        match hear.recv_timeout(turn) {
            Ok(result) => result.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Error::internal("a call ended without an answer")),
        }
    })
}

/// Runs an asynchronous call.
pub(super) fn run_async<T: Send + 'static>(
    py: Python<'_>,
    call: impl Future<Output = Result<T>> + Send + 'static,
) -> PyResult<T> {
    let rt = runtime()?;
    run(py, move || rt.block_on(call))
}

/// Called at the interpreter's exit. Stops queries and waits for running work, for a bounded time.
#[pyfunction]
fn _shutdown(py: Python<'_>) {
    // A child of a fork has none of bayou's threads, so there is nothing to end.
    if check_fork().is_err() {
        return;
    }
    logging::give(py);
    functions::close();
    py.detach(|| {
        crate::run::control::stop_all(Duration::from_millis(1000));
        functions::wait(Duration::from_millis(500));
    });
    // A function that is still running gets SystemExit. A function that does not notice it, because it waits for something else, is abandoned.
    functions::interrupt(py);
    py.detach(|| functions::wait(Duration::from_millis(1500)));
    logging::give(py);
    super::guard::give_up();
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_shutdown, m)?)
}
