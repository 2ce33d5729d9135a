//! The stop button is never lost. Python raises KeyboardInterrupt in whatever runs on the main thread at that moment, and where that is a callback
//! (of a weak reference, as `import` has them, or a finalizer) the exception ends there, unseen. While a query is waited for, a handler in
//! front of Python's own remembers that it was called.

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use std::sync::atomic::{AtomicBool, Ordering};

static HEARD: AtomicBool = AtomicBool::new(false);

/// From here to `end`, interrupts are remembered. Not off the main thread, nor where the program has a handler of its own.
pub struct Watch {
    previous: Option<Py<PyAny>>,
}

impl Watch {
    pub fn begin(py: Python<'_>) -> PyResult<Self> {
        let threading = py.import("threading")?;
        let here = threading.call_method0("current_thread")?;
        if !here.is(&threading.call_method0("main_thread")?) {
            return Ok(Self { previous: None });
        }
        let signal = py.import("signal")?;
        let (number, own) = (signal.getattr("SIGINT")?, signal.getattr("default_int_handler")?);
        let previous = signal.call_method1("getsignal", (&number,))?;
        if !previous.is(&own) {
            return Ok(Self { previous: None });
        }
        HEARD.store(false, Ordering::Release);
        let own = own.unbind();
        let handler = move |args: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| -> PyResult<Py<PyAny>> {
            HEARD.store(true, Ordering::Release);
            own.call1(args.py(), args.clone())
        };
        let handler = PyCFunction::new_closure(py, Some(c"bayou_interrupt"), None, handler)?;
        signal.call_method1("signal", (number, handler))?;
        Ok(Self { previous: Some(previous.unbind()) })
    }

    /// An interrupt that came and was not raised where it could be seen.
    pub fn check(&self) -> PyResult<()> {
        match self.previous.is_some() && HEARD.swap(false, Ordering::AcqRel) {
            true => Err(PyKeyboardInterrupt::new_err(())),
            false => Ok(()),
        }
    }

    /// Puts Python's own handler back.
    pub fn end(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(previous) = &self.previous {
            let signal = py.import("signal")?;
            signal.call_method1("signal", (signal.getattr("SIGINT")?, previous))?;
        }
        Ok(())
    }
}
