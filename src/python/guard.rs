//! Calls of Python code on bayou's threads. The interpreter may end during such a call.
//!
//! Before Python 3.14, a thread that asks for the GIL while the interpreter ends is ended by `pthread_exit`, which
//! unwinds its stack. The process aborts when the unwinding reaches a Rust frame that does not allow it. So, when bayou
//! calls Python code that is not its own, no frame is between CPython's frames and a guard in this file. The guard
//! stops the unwinding by parking the thread forever. Python 3.14 does the same. The process then ends while the thread
//! is parked.

#![allow(unsafe_code)]

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::atomic::{AtomicBool, Ordering};

/// True when the interpreter no longer waits for users' functions.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

pub(super) fn give_up() {
    GIVEN_UP.store(true, Ordering::Release);
}

fn stay() -> ! {
    loop {
        std::thread::park();
    }
}

/// Parks the thread if it is dropped while Python code runs, which means that the stack unwinds.
#[cfg(unix)]
struct Stay(bool);

#[cfg(unix)]
impl Drop for Stay {
    fn drop(&mut self) {
        if self.0 {
            stay()
        }
    }
}

#[cfg(unix)]
mod raw {
    use pyo3::ffi::PyObject;
    unsafe extern "C-unwind" {
        // Part of the stable ABI. pyo3 declares it as a function that never unwinds.
        pub(super) fn PyObject_Call(
            callable: *mut PyObject,
            args: *mut PyObject,
            kwargs: *mut PyObject,
        ) -> *mut PyObject;
    }
}

/// `callable(*args)`, on any thread, including a Python daemon thread that the interpreter leaves behind.
#[cfg(unix)]
#[inline(never)]
pub(super) fn call_here<'py>(callable: &Bound<'py, PyAny>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    let py = callable.py();
    let mut guard = Stay(true);
    // SAFETY: both objects live during the call, and this thread is attached.
    let made = unsafe { raw::PyObject_Call(callable.as_ptr(), args.as_ptr(), std::ptr::null_mut()) };
    guard.0 = false;
    // SAFETY: the result is a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, made) }
}

#[cfg(not(unix))]
pub fn call_here<'py>(callable: &Bound<'py, PyAny>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    callable.call1(args)
}

/// `callable(*args)` on a thread of bayou. The call does not return if the interpreter has given up waiting.
pub(super) fn call<'py>(callable: &Bound<'py, PyAny>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    let made = call_here(callable, args);
    if GIVEN_UP.load(Ordering::Acquire) {
        // SAFETY: this thread is attached. It releases the GIL and never runs anything again.
        unsafe { pyo3::ffi::PyEval_SaveThread() };
        stay();
    }
    made
}

/// `object.name(*args)`, with the guard of `call_here`.
pub(super) fn method<'py, A>(object: &Bound<'py, PyAny>, name: &str, args: A) -> PyResult<Bound<'py, PyAny>>
where
    A: IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>,
{
    call_here(&object.getattr(name)?, &args.into_pyobject(object.py()).map_err(Into::into)?)
}

/// Imports a module. The import may run the module's code.
pub(super) fn import<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    method(py.import("importlib")?.as_any(), "import_module", (name,))
}

/// Raises `SystemExit` in the thread of this number (`threading.get_ident()`), as soon as the thread runs Python code.
pub(super) fn raise_exit(py: Python<'_>, thread: u64) {
    let exit = py.get_type::<pyo3::exceptions::PySystemExit>();
    // SAFETY: this thread is attached. A number that belongs to no thread is ignored.
    unsafe { pyo3::ffi::PyThreadState_SetAsyncExc(thread as std::ffi::c_long, exit.as_ptr()) };
}
