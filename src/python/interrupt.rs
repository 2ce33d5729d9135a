//! Makes sure that no press of the stop button is lost. Python raises KeyboardInterrupt in the code that runs on the main thread at that moment. If
//! that code is a callback of a weak reference (`import` has such callbacks) or a finalizer, the exception ends there and no caller sees it. So while
//! a call waits for a query, a handler in front of Python's own handler records the interrupt.

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};
use std::sync::atomic::{AtomicBool, Ordering};

static HEARD: AtomicBool = AtomicBool::new(false);

/// Records interrupts from `begin` to `end`. It does nothing outside the main thread, or if the program has its own handler.
pub(super) struct Watch {
    previous: Option<Py<PyAny>>,
}

impl Watch {
    pub(super) fn begin(py: Python<'_>) -> PyResult<Self> {
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

    /// Raises an interrupt that was recorded and not seen.
    pub(super) fn check(&self) -> PyResult<()> {
        match self.previous.is_some() && HEARD.swap(false, Ordering::AcqRel) {
            true => Err(PyKeyboardInterrupt::new_err(())),
            false => Ok(()),
        }
    }

    /// Puts Python's own handler back.
    pub(super) fn end(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(previous) = &self.previous {
            let signal = py.import("signal")?;
            signal.call_method1("signal", (signal.getattr("SIGINT")?, previous))?;
        }
        Ok(())
    }
}
