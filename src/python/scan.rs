//! The rows of a table batch by batch, as they are read.

use super::door;
use super::table::{PyBatch, batch};
use super::words;
use crate::read::{BATCH_ROWS, Batches, Rows, Scan};
use crate::{Error, Result};
use arrow::array::RecordBatch;
use parking_lot::Mutex;
use pyo3::prelude::*;
use std::sync::Arc;

enum Source {
    Read(Box<Batches>),
    Rows(std::vec::IntoIter<RecordBatch>),
    Ended,
}

/// Where the next rows come from, and the rest of the last batch.
struct Inner {
    source: Source,
    rest: Option<RecordBatch>,
}

#[doc = doc!("TableBatches")]
#[pyclass(frozen, module = "bayou", name = "TableBatches")]
pub struct PyTableBatches {
    /// None while a call reads.
    inner: Arc<Mutex<Option<Inner>>>,
    most: usize,
}

impl PyTableBatches {
    pub fn of_scan(scan: &Arc<Scan>, most: Option<usize>) -> PyResult<Self> {
        // The plan starts its tasks on the runtime.
        let runtime = door::runtime()?;
        let _inside = runtime.enter();
        Self::new(Source::Read(Box::new(scan.batches()?)), most)
    }

    pub fn of_rows(rows: Option<Rows>, most: Option<usize>) -> PyResult<Self> {
        Self::new(Source::Rows(rows.map(|r| r.batches).unwrap_or_default().into_iter()), most)
    }

    fn new(source: Source, most: Option<usize>) -> PyResult<Self> {
        if most == Some(0) {
            return Err(Error::config("batch_rows must be at least 1").into());
        }
        let inner = Arc::new(Mutex::new(Some(Inner { source, rest: None })));
        Ok(Self { inner, most: most.unwrap_or(BATCH_ROWS) })
    }
}

async fn next(inner: &mut Inner, most: usize) -> Result<Option<RecordBatch>> {
    loop {
        let batch = match inner.rest.take() {
            Some(rest) => Some(rest),
            None => match &mut inner.source {
                Source::Read(batches) => batches.next().await?,
                Source::Rows(batches) => batches.next(),
                Source::Ended => None,
            },
        };
        let Some(batch) = batch else {
            // Files and buffers are freed at the end.
            inner.source = Source::Ended;
            return Ok(None);
        };
        if batch.num_rows() > most {
            inner.rest = Some(batch.slice(most, batch.num_rows() - most));
            return Ok(Some(batch.slice(0, most)));
        }
        if batch.num_rows() > 0 {
            return Ok(Some(batch));
        }
    }
}

#[pymethods]
impl PyTableBatches {
    fn __getattr__(slf: &Bound<'_, Self>, name: &str) -> PyResult<()> {
        Err(words::no_attribute(slf, "TableBatches", name))
    }
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyBatch>>> {
        let taken = self.inner.lock().take();
        let Some(mut taken) = taken else {
            return Err(Error::config(
                "a different thread is reading these batches. Give each thread an iterator of its own",
            )
            .into());
        };
        let (inner, most) = (self.inner.clone(), self.most);
        // After an interrupt, the call continues and puts the iterator back.
        let rows = door::run_async(py, async move {
            let rows = next(&mut taken, most).await;
            if rows.is_err() {
                taken.source = Source::Ended;
            }
            *inner.lock() = Some(taken);
            rows
        })?;
        rows.map(|rows| batch(py, rows)).transpose()
    }
    fn __repr__(&self) -> &'static str {
        "TableBatches: use it in a for loop"
    }
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyTableBatches>()
}
