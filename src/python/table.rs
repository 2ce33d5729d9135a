//! The rows that every call returns. They are passed on by Arrow's PyCapsule protocol, or as Python values.

use super::convert::Count;
use super::guard;
use super::scan::PyTableBatches;
use super::slices;
use super::text::shown;
use super::{door, words};
use crate::calendar::{DAYS, MICROS};
use crate::expr::to_ddl;
use crate::read::{Rows, Scan};
use arrow::array::*;
use arrow::datatypes::*;
use pyo3::exceptions::{PyIndexError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PySlice};
use pyo3_arrow::ffi::to_schema_pycapsule;
use pyo3_arrow::{PyRecordBatch, PyRecordBatchReader};
use std::sync::{Arc, OnceLock};

#[doc = doc!("Schema")]
#[pyclass(frozen, module = "bayou", name = "Schema")]
pub struct PyBayouSchema(pub SchemaRef);

#[pymethods]
impl PyBayouSchema {
    fn __getattr__(slf: &Bound<'_, Self>, name: &str) -> PyResult<()> {
        Err(words::no_attribute(slf, "Schema", name))
    }
    #[doc = doc!("Schema.names")]
    #[getter]
    fn names(&self) -> Vec<String> {
        self.0.fields().iter().map(|f| f.name().clone()).collect()
    }
    #[doc = doc!("Schema.ddl")]
    #[getter]
    fn ddl(&self) -> String {
        to_ddl(&self.0)
    }
    #[doc = doc!("Schema.types")]
    #[getter]
    fn types(&self) -> Vec<String> {
        self.0.fields().iter().map(|f| crate::expr::type_to_ddl(f.data_type())).collect()
    }
    #[doc = doc!("Schema.to_arrow")]
    fn to_arrow<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let empty = PyTable::new(Rows { schema: slf.get().0.clone(), batches: vec![] });
        Bound::new(slf.py(), empty)?.call_method0("to_arrow")?.getattr("schema")
    }
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(to_schema_pycapsule(py, self.0.as_ref()).map_err(arrow_error)?.into_any())
    }
    fn __len__(&self) -> usize {
        self.0.fields().len()
    }
    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        match other.extract::<PyRef<'_, Self>>() {
            Ok(o) => to_ddl(&self.0) == to_ddl(&o.0),
            Err(_) => other.extract::<String>().is_ok_and(|t| t == to_ddl(&self.0)),
        }
    }
    fn __str__(&self) -> String {
        to_ddl(&self.0)
    }
    fn __repr__(&self) -> String {
        format!("Schema({:?})", to_ddl(&self.0))
    }
}

pub(super) fn arrow_error(e: impl std::fmt::Display) -> PyErr {
    super::errors::to_python(crate::Kind::Internal, format!("Arrow: {e}"))
}

#[doc = doc!("Table")]
#[pyclass(frozen, subclass, module = "bayou", name = "Table")]
pub struct PyTable {
    rows: OnceLock<Rows>,
    /// The rows of a Delta table, which are read when they are first used.
    scan: Option<Arc<Scan>>,
}

#[doc = doc!("Batch")]
#[pyclass(frozen, extends = PyTable, module = "bayou", name = "Batch")]
pub struct PyBatch;

impl PyTable {
    pub fn new(rows: Rows) -> Self {
        Self { rows: OnceLock::from(rows), scan: None }
    }

    pub fn scanning(scan: Scan) -> Self {
        Self { rows: OnceLock::new(), scan: Some(Arc::new(scan)) }
    }

    /// The rows. The first call of a table that is not read yet reads it.
    pub fn rows(&self, py: Python<'_>) -> PyResult<&Rows> {
        if let Some(rows) = self.rows.get() {
            return Ok(rows);
        }
        let Some(scan) = self.scan.clone() else {
            return Err(crate::Error::internal("a table without rows").into());
        };
        let rows = door::run_async(py, async move { scan.collect().await })?;
        // Of two threads, the first one's rows stay.
        Ok(self.rows.get_or_init(|| rows))
    }

    fn schema_ref(&self) -> SchemaRef {
        match (self.rows.get(), &self.scan) {
            (Some(rows), _) => rows.schema.clone(),
            (None, Some(scan)) => scan.schema().clone(),
            (None, None) => Arc::new(Schema::empty()),
        }
    }

    fn count(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.rows(py)?.batches.iter().map(|b| b.num_rows()).sum())
    }
}

pub(super) fn batch(py: Python<'_>, rows: RecordBatch) -> PyResult<Py<PyBatch>> {
    let rows = Rows { schema: rows.schema(), batches: vec![rows] };
    Py::new(py, PyClassInitializer::from(PyTable::new(rows)).add_subclass(PyBatch))
}

#[pymethods]
impl PyBatch {
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        slf: PyRef<'py, Self>,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let rows = slf.as_super().rows(py)?;
        let batch = rows.batches.first().cloned().unwrap_or_else(|| RecordBatch::new_empty(rows.schema.clone()));
        Bound::new(py, PyRecordBatch::new(batch))?.call_method1("__arrow_c_array__", (requested_schema,))
    }
}

#[pymethods]
impl PyTable {
    fn __getattr__(slf: &Bound<'_, Self>, name: &str) -> PyResult<()> {
        Err(words::no_attribute(slf, "Table", name))
    }
    #[doc = doc!("Table.columns")]
    #[getter]
    fn columns(&self) -> Vec<String> {
        self.schema_ref().fields().iter().map(|f| f.name().clone()).collect()
    }
    #[doc = doc!("Table.schema")]
    #[getter]
    fn schema(&self) -> PyBayouSchema {
        PyBayouSchema(self.schema_ref())
    }
    #[doc = doc!("Table.num_rows")]
    #[getter]
    fn num_rows(&self, py: Python<'_>) -> PyResult<usize> {
        self.count(py)
    }
    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.count(py)
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let rows = self.rows(py)?;
        let reader = RecordBatchIterator::new(rows.batches.clone().into_iter().map(Ok), rows.schema.clone());
        let reader = Bound::new(py, PyRecordBatchReader::new(Box::new(reader)))?;
        reader.call_method1("__arrow_c_stream__", (requested_schema,))
    }
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(to_schema_pycapsule(py, self.schema_ref().as_ref()).map_err(arrow_error)?.into_any())
    }

    #[doc = doc!("Table.to_arrow")]
    fn to_arrow<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("bayou._frames")?.call_method1("to_arrow", (slf,))
    }
    #[doc = doc!("Table.to_pandas")]
    fn to_pandas<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("bayou._frames")?.call_method1("to_pandas", (slf,))
    }
    #[doc = doc!("Table.to_polars")]
    fn to_polars<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("bayou._frames")?.call_method1("to_polars", (slf,))
    }

    #[doc = doc!("Table.to_dicts")]
    #[pyo3(signature = (limit=None))]
    fn to_dicts<'py>(&self, py: Python<'py>, limit: Option<Count>) -> PyResult<Bound<'py, PyList>> {
        let out = PyList::empty(py);
        let mut left = limit.map_or(usize::MAX, |l| l.0);
        for b in &self.rows(py)?.batches {
            for row in 0..b.num_rows().min(left) {
                out.append(row_of(py, b, row)?)?;
            }
            left -= b.num_rows().min(left);
        }
        Ok(out)
    }

    #[doc = doc!("Table.column")]
    fn column<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyList>> {
        let index = crate::expr::resolve_column(name, &self.schema_ref())?;
        let out = PyList::empty(py);
        for b in &self.rows(py)?.batches {
            for row in 0..b.num_rows() {
                out.append(value(py, b.column(index), row)?)?;
            }
        }
        Ok(out)
    }

    fn __getitem__<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(name) = key.extract::<String>() {
            return Ok(self.column(py, &name)?.into_any());
        }
        if let Ok(slice) = key.cast::<PySlice>() {
            let at = slice.indices(self.count(py)? as isize)?;
            return Ok(
                Bound::new(py, Self::new(slices::pick(self.rows(py)?, at.start, at.step, at.slicelength)?))?.into_any()
            );
        }
        if let Ok(index) = key.extract::<isize>() {
            return self.row(py, index);
        }
        if let Ok(names) = key.extract::<Vec<String>>() {
            return Ok(Bound::new(py, Self::new(slices::columns(self.rows(py)?, &names)?))?.into_any());
        }
        Err(PyTypeError::new_err(
            "table[…] takes a column's name, a list of names, the number of a row, or a slice of rows, as in table[:10]",
        ))
    }
    fn __iter__(&self, py: Python<'_>) -> PyResult<slices::PyRowIterator> {
        Ok(slices::PyRowIterator::new(self.rows(py)?.clone()))
    }
    #[doc = doc!("Table.batches")]
    #[pyo3(signature = (batch_rows=None))]
    fn batches(&self, batch_rows: Option<Count>) -> PyResult<PyTableBatches> {
        let most = batch_rows.map(|n| n.0);
        match (self.rows.get(), &self.scan) {
            (None, Some(scan)) => PyTableBatches::of_scan(scan, most),
            (rows, _) => PyTableBatches::of_rows(rows.cloned(), most),
        }
    }
    #[doc = doc!("Table.head")]
    #[pyo3(signature = (n=None), text_signature = "($self, n=5)")]
    fn head(&self, py: Python<'_>, n: Option<Count>) -> PyResult<Self> {
        Ok(Self::new(slices::pick(self.rows(py)?, 0, 1, n.map_or(5, |n| n.0).min(self.count(py)?))?))
    }
    #[doc = doc!("Table.show")]
    #[pyo3(signature = (n=None), text_signature = "($self, n=20)")]
    fn show(slf: &Bound<'_, Self>, n: Option<Count>) -> PyResult<()> {
        let n = n.map_or(20, |n| n.0);
        let text = super::text::table(slf.get().rows(slf.py())?, n);
        guard::method(&guard::import(slf.py(), "bayou._display")?, "show_table", (slf, n, text))?;
        Ok(())
    }
    // A Table never changes, so a copy is the table itself.
    fn __copy__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }
    fn __deepcopy__<'py>(slf: Bound<'py, Self>, _memo: &Bound<'py, PyAny>) -> Bound<'py, Self> {
        slf
    }
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Bound<'py, PyBytes>, bool))> {
        let py = slf.py();
        let made = py.import("bayou._core")?.getattr("_table_of")?;
        let bytes = PyBytes::new(py, &slices::to_ipc(slf.get().rows(py)?)?);
        Ok((made, (bytes, slf.is_instance_of::<PyBatch>())))
    }
    fn __contains__(&self, what: &Bound<'_, PyAny>) -> PyResult<bool> {
        let what = what.repr()?;
        Err(PyTypeError::new_err(format!(
            "write `{what} in table.columns`, or `{what} in table[\"…\"]` for a column's values"
        )))
    }

    #[doc = doc!("Table.row")]
    fn row<'py>(&self, py: Python<'py>, index: isize) -> PyResult<Bound<'py, PyAny>> {
        let rows = self.rows(py)?;
        let count = self.count(py)?;
        let at = if index < 0 { count.checked_add_signed(index) } else { Some(index as usize) };
        let Some(mut at) = at.filter(|at| *at < count) else {
            return Err(PyIndexError::new_err(format!("there is no row {index}: the table has {count} rows")));
        };
        let mut batches = rows.batches.iter();
        let batch = batches.find(|b| {
            let here = at < b.num_rows();
            at -= if here { 0 } else { b.num_rows() };
            here
        });
        let batches = batch.map(|b| b.slice(at, 1)).into_iter().collect();
        PyTable::new(Rows { schema: rows.schema.clone(), batches }).to_dicts(py, None)?.get_item(0)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(super::text::table(self.rows(py)?, 20))
    }
    fn _repr_html_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        door::check_fork()?;
        slf.py().import("bayou._display")?.call_method1("table_html", (slf,))
    }
}

/// One row as a dict.
pub(super) fn row_of<'py>(py: Python<'py>, batch: &RecordBatch, row: usize) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        dict.set_item(field.name(), value(py, column, row)?)?;
    }
    Ok(dict)
}

/// One value as a Python object.
pub(super) fn value<'py>(py: Python<'py>, array: &dyn Array, row: usize) -> PyResult<Bound<'py, PyAny>> {
    if array.is_null(row) {
        return Ok(py.None().into_bound(py));
    }
    macro_rules! plain {
        ($t:ty) => {
            array.as_primitive::<$t>().value(row).into_pyobject(py)?.into_any()
        };
    }
    Ok(match array.data_type() {
        DataType::Null => py.None().into_bound(py),
        DataType::Boolean => array.as_boolean().value(row).into_pyobject(py)?.to_owned().into_any(),
        DataType::Int8 => plain!(Int8Type),
        DataType::Int16 => plain!(Int16Type),
        DataType::Int32 => plain!(Int32Type),
        DataType::Int64 => plain!(Int64Type),
        DataType::UInt8 => plain!(UInt8Type),
        DataType::UInt16 => plain!(UInt16Type),
        DataType::UInt32 => plain!(UInt32Type),
        DataType::UInt64 => plain!(UInt64Type),
        DataType::Float32 => plain!(Float32Type),
        DataType::Float64 => plain!(Float64Type),
        DataType::Utf8 => array.as_string::<i32>().value(row).into_pyobject(py)?.into_any(),
        DataType::Binary => PyBytes::new(py, array.as_binary::<i32>().value(row)).into_any(),
        // Python has the years 1 to 9999. Other years are shown as text.
        DataType::Date32 if DAYS.contains(&array.as_primitive::<Date32Type>().value(row).into()) => {
            let days = array.as_primitive::<Date32Type>().value(row);
            let date = py.import("datetime")?.getattr("date")?;
            date.call_method1("fromordinal", (days + 719_163,))?
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone)
            if MICROS.contains(&array.as_primitive::<TimestampMicrosecondType>().value(row)) =>
        {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let datetime = py.import("datetime")?;
            let utc = datetime.getattr("timezone")?.getattr("utc")?;
            let epoch = match zone {
                Some(_) => datetime.getattr("datetime")?.call1((1970, 1, 1, 0, 0, 0, 0, utc))?,
                None => datetime.getattr("datetime")?.call1((1970, 1, 1))?,
            };
            let delta = datetime.getattr("timedelta")?.call1((0, 0, micros))?;
            epoch.call_method1("__add__", (delta,))?
        }
        DataType::Decimal128(_, scale) => {
            let text = Decimal128Type::format_decimal(array.as_primitive::<Decimal128Type>().value(row), 38, *scale);
            py.import("decimal")?.getattr("Decimal")?.call1((text,))?
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let out = PyList::empty(py);
            for i in 0..items.len() {
                out.append(value(py, &items, i)?)?;
            }
            out.into_any()
        }
        DataType::Struct(fields) => {
            let dict = PyDict::new(py);
            for (field, column) in fields.iter().zip(array.as_struct().columns()) {
                dict.set_item(field.name(), value(py, column, row)?)?;
            }
            dict.into_any()
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            if entries.column(0).data_type().is_nested() {
                // Python's dicts have no keys that are dicts or lists.
                let pair = |i| Ok((value(py, entries.column(0), i)?, value(py, entries.column(1), i)?));
                return Ok(PyList::new(py, (0..entries.len()).map(pair).collect::<PyResult<Vec<_>>>()?)?.into_any());
            }
            let dict = PyDict::new(py);
            for i in 0..entries.len() {
                dict.set_item(value(py, entries.column(0), i)?, value(py, entries.column(1), i)?)?;
            }
            dict.into_any()
        }
        _ => shown(array, row).into_pyobject(py)?.into_any(),
    })
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyBayouSchema>()?;
    m.add_class::<PyTable>()?;
    m.add_class::<PyBatch>()
}
