//! Parts of a table: slices, columns, rows one by one, and the bytes of a pickle.

use super::table::{PyTable, row_of};
use crate::read::Rows;
use crate::{Error, Result};
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `count` rows: the row at `start`, and then each row that is `step` further.
pub(super) fn pick(rows: &Rows, start: isize, step: isize, count: usize) -> Result<Rows> {
    if step == 1 {
        let (mut skip, mut left) = (start.unsigned_abs(), count);
        let mut batches = vec![];
        for b in &rows.batches {
            let here = b.num_rows().saturating_sub(skip).min(left);
            if here > 0 {
                batches.push(b.slice(skip, here));
            }
            skip = skip.saturating_sub(b.num_rows());
            left -= here;
        }
        return Ok(Rows { schema: rows.schema.clone(), batches });
    }
    let all = concat_batches(&rows.schema, &rows.batches)?;
    let too_many = || Error::config("a slice with a step takes at most 4,294,967,295 rows");
    let at = (0..count as isize).map(|k| u32::try_from(start + k * step).map_err(|_| too_many()));
    let picked = take_record_batch(&all, &at.collect::<Result<UInt32Array>>()?)?;
    Ok(Rows { schema: rows.schema.clone(), batches: vec![picked] })
}

/// Some columns, in the given order.
pub(super) fn columns(rows: &Rows, names: &[String]) -> Result<Rows> {
    let at = names.iter().map(|n| crate::expr::resolve_column(n, &rows.schema)).collect::<Result<Vec<_>>>()?;
    let batches = rows.batches.iter().map(|b| Ok(b.project(&at)?)).collect::<Result<_>>()?;
    Ok(Rows { schema: Arc::new(rows.schema.project(&at)?), batches })
}

pub(super) fn to_ipc(rows: &Rows) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(vec![], &rows.schema)?;
    for batch in &rows.batches {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?)
}

/// Makes a table from the bytes of a pickle.
#[pyfunction]
fn _table_of(py: Python<'_>, bytes: &[u8], is_batch: bool) -> PyResult<Py<PyAny>> {
    let read = || -> Result<Rows> {
        let reader = StreamReader::try_new(bytes, None)?;
        let schema = reader.schema();
        Ok(Rows { schema, batches: reader.collect::<std::result::Result<Vec<RecordBatch>, _>>()? })
    };
    let mut rows = read()?;
    if is_batch {
        let one = rows.batches.pop().unwrap_or_else(|| RecordBatch::new_empty(rows.schema.clone()));
        return Ok(super::table::batch(py, one)?.into_any());
    }
    Ok(Py::new(py, PyTable::new(rows))?.into_any())
}

/// The rows of a table one by one, as dicts.
#[pyclass(frozen, module = "bayou", name = "_RowIterator")]
pub struct PyRowIterator {
    rows: Rows,
    next: AtomicUsize,
    /// The number of rows up to the end of each batch.
    ends: Vec<usize>,
}

impl PyRowIterator {
    pub fn new(rows: Rows) -> Self {
        let mut total = 0;
        let mut end = |b: &RecordBatch| {
            total += b.num_rows();
            total
        };
        let ends = rows.batches.iter().map(&mut end).collect();
        Self { rows, next: AtomicUsize::new(0), ends }
    }
}

#[pymethods]
impl PyRowIterator {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }
    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        let of = self.ends.partition_point(|end| *end <= at);
        let Some(batch) = self.rows.batches.get(of) else { return Ok(None) };
        let row = at - (self.ends[of] - batch.num_rows());
        row_of(py, batch, row).map(Some)
    }
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_table_of, m)?)
}
