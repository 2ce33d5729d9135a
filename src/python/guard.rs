//! Calls of Python code on threads of ours, such that the interpreter may end meanwhile.
//!
//! Before Python 3.14 a thread that asks for the GIL while the interpreter ends is ended by `pthread_exit`, which unwinds it; at the
//! first frame of Rust that is not made for that the process aborts. So where Python code runs that we have not written, nothing lies
//! between CPython's frames and a guard here that stops the unwinding by never letting go: the thread stays where it is, as Python
//! 3.14 does it, and the process ends around it.

#![allow(unsafe_code)]

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::atomic::{AtomicBool, Ordering};

/// The interpreter does not wait for users' functions any longer.
static GIVEN_UP: AtomicBool = AtomicBool::new(false);

pub fn give_up() {
    GIVEN_UP.store(true, Ordering::Release);
}

fn stay() -> ! {
    loop {
        std::thread::park();
    }
}

/// Armed while Python code runs.
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
        pub fn PyObject_Call(callable: *mut PyObject, args: *mut PyObject, kwargs: *mut PyObject) -> *mut PyObject;
    }
}

/// `callable(*args)`, on whatever thread: also a daemon's of Python's that the interpreter leaves behind.
#[cfg(unix)]
#[inline(never)]
pub fn call_here<'py>(callable: &Bound<'py, PyAny>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    let py = callable.py();
    let mut guard = Stay(true);
    // SAFETY: both live for the time of the call, and this thread is attached.
    let made = unsafe { raw::PyObject_Call(callable.as_ptr(), args.as_ptr(), std::ptr::null_mut()) };
    guard.0 = false;
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, made) }
}

#[cfg(not(unix))]
pub fn call_here<'py>(callable: &Bound<'py, PyAny>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    callable.call1(args)
}

/// `callable(*args)` on a thread of ours, which does not come back from it when the interpreter has given up waiting.
pub fn call<'py>(callable: &Bound<'py, PyAny>, args: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
    let made = call_here(callable, args);
    if GIVEN_UP.load(Ordering::Acquire) {
        // SAFETY: this thread is attached; it lets go of the GIL, and never runs anything again.
        unsafe { pyo3::ffi::PyEval_SaveThread() };
        stay();
    }
    made
}

/// `object.name(*args)`, as `call_here`.
pub fn method<'py, A>(object: &Bound<'py, PyAny>, name: &str, args: A) -> PyResult<Bound<'py, PyAny>>
where
    A: IntoPyObject<'py, Target = PyTuple, Output = Bound<'py, PyTuple>>,
{
    call_here(&object.getattr(name)?, &args.into_pyobject(object.py()).map_err(Into::into)?)
}

/// Imports a module, which may run its code.
pub fn import<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    method(py.import("importlib")?.as_any(), "import_module", (name,))
}

/// Raises `SystemExit` in a thread of this number (`threading.get_ident()`), as soon as it runs Python code.
pub fn raise_exit(py: Python<'_>, thread: u64) {
    let exit = py.get_type::<pyo3::exceptions::PySystemExit>();
    // SAFETY: attached; a number that is no thread's is ignored.
    unsafe { pyo3::ffi::PyThreadState_SetAsyncExc(thread as std::ffi::c_long, exit.as_ptr()) };
}
