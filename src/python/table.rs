//! The rows that every call returns. They are passed on by Arrow's PyCapsule protocol, or as Python values.

use super::convert::Count;
use super::door;
use crate::calendar::{DAYS, MICROS};
use crate::error::printable;
use crate::expr::to_ddl;
use crate::read::Rows;
use arrow::array::*;
use arrow::datatypes::*;
use pyo3::exceptions::{PyIndexError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use pyo3_arrow::PyRecordBatchReader;
use pyo3_arrow::ffi::to_schema_pycapsule;

/// An Arrow schema that prints as DDL.
#[pyclass(frozen, module = "bayou", name = "Schema")]
pub struct PyBayouSchema(pub SchemaRef);

#[pymethods]
impl PyBayouSchema {
    #[getter]
    fn names(&self) -> Vec<String> {
        self.0.fields().iter().map(|f| f.name().clone()).collect()
    }
    #[getter]
    fn ddl(&self) -> String {
        to_ddl(&self.0)
    }
    /// The DDL type of each column.
    #[getter]
    fn types(&self) -> Vec<String> {
        self.0.fields().iter().map(|f| crate::expr::type_to_ddl(f.data_type())).collect()
    }
    fn to_arrow<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("pyarrow")?.call_method1("schema", (slf,))
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

pub fn arrow_error(e: impl std::fmt::Display) -> PyErr {
    super::errors::to_python(crate::Kind::Internal, format!("Arrow: {e}"))
}

/// Rows in memory.
#[pyclass(frozen, subclass, module = "bayou", name = "Table")]
pub struct PyTable {
    pub rows: Rows,
}

/// One batch of an iterator.
#[pyclass(frozen, extends = PyTable, module = "bayou", name = "Batch")]
pub struct PyBatch;

impl PyTable {
    pub fn new(rows: Rows) -> Self {
        Self { rows }
    }
    fn count(&self) -> usize {
        self.rows.batches.iter().map(|b| b.num_rows()).sum()
    }
}

pub fn batch(py: Python<'_>, rows: RecordBatch) -> PyResult<Py<PyBatch>> {
    let rows = Rows { schema: rows.schema(), batches: vec![rows] };
    Py::new(py, PyClassInitializer::from(PyTable::new(rows)).add_subclass(PyBatch))
}

#[pymethods]
impl PyTable {
    #[getter]
    fn columns(&self) -> Vec<String> {
        self.rows.schema.fields().iter().map(|f| f.name().clone()).collect()
    }
    #[getter]
    fn schema(&self) -> PyBayouSchema {
        PyBayouSchema(self.rows.schema.clone())
    }
    #[getter]
    fn num_rows(&self) -> usize {
        self.count()
    }
    fn __len__(&self) -> usize {
        self.count()
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let batches = self.rows.batches.clone().into_iter().map(Ok);
        let reader = RecordBatchIterator::new(batches, self.rows.schema.clone());
        let reader = Bound::new(py, PyRecordBatchReader::new(Box::new(reader)))?;
        reader.call_method1("__arrow_c_stream__", (requested_schema,))
    }
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(to_schema_pycapsule(py, self.rows.schema.as_ref()).map_err(arrow_error)?.into_any())
    }

    fn to_arrow<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("bayou._frames")?.call_method1("to_arrow", (slf,))
    }
    fn to_pandas<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("bayou._frames")?.call_method1("to_pandas", (slf,))
    }
    fn to_polars<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("bayou._frames")?.call_method1("to_polars", (slf,))
    }

    /// At most `limit` rows, as dicts.
    #[pyo3(signature = (limit=None))]
    fn to_dicts<'py>(&self, py: Python<'py>, limit: Option<Count>) -> PyResult<Bound<'py, PyList>> {
        let out = PyList::empty(py);
        let mut left = limit.map_or(usize::MAX, |l| l.0);
        for b in &self.rows.batches {
            for row in 0..b.num_rows().min(left) {
                let dict = PyDict::new(py);
                for (field, column) in self.rows.schema.fields().iter().zip(b.columns()) {
                    dict.set_item(field.name(), value(py, column, row)?)?;
                }
                out.append(dict)?;
            }
            left -= b.num_rows().min(left);
        }
        Ok(out)
    }

    /// The values of a column, as a list.
    fn column<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyList>> {
        let index = crate::expr::resolve_column(name, &self.rows.schema)?;
        let out = PyList::empty(py);
        for b in &self.rows.batches {
            for row in 0..b.num_rows() {
                out.append(value(py, b.column(index), row)?)?;
            }
        }
        Ok(out)
    }

    fn __getitem__<'py>(&self, py: Python<'py>, name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        match name.extract::<String>() {
            Ok(name) => self.column(py, &name),
            Err(_) => Err(PyTypeError::new_err(
                "table[…] takes a column's name. For one row use table.row(0). For rows use table.to_dicts(), table.to_pandas() or table.to_arrow().",
            )),
        }
    }
    fn __iter__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a table cannot be iterated. Write `for row in table.to_dicts():`, or `for name in table.columns:`.",
        ))
    }
    fn __contains__(&self, what: &Bound<'_, PyAny>) -> PyResult<bool> {
        let what = what.repr()?;
        Err(PyTypeError::new_err(format!(
            "write `{what} in table.columns`, or `{what} in table[\"…\"]` for a column's values"
        )))
    }

    /// One row. Rows are counted from 0, or from the end with a negative number.
    fn row<'py>(&self, py: Python<'py>, index: isize) -> PyResult<Bound<'py, PyAny>> {
        let count = self.count();
        let at = if index < 0 { count.checked_add_signed(index) } else { Some(index as usize) };
        let Some(mut at) = at.filter(|at| *at < count) else {
            return Err(PyIndexError::new_err(format!("there is no row {index}: the table has {count} rows")));
        };
        let mut batches = self.rows.batches.iter();
        let batch = batches.find(|b| {
            let here = at < b.num_rows();
            at -= if here { 0 } else { b.num_rows() };
            here
        });
        let batches = batch.map(|b| b.slice(at, 1)).into_iter().collect();
        PyTable::new(Rows { schema: self.rows.schema.clone(), batches }).to_dicts(py, None)?.get_item(0)
    }

    fn __repr__(&self) -> String {
        let mut left = 20;
        let mut shown = vec![];
        for b in &self.rows.batches {
            let n = b.num_rows().min(left);
            shown.push(readable(&b.slice(0, n)));
            left -= n;
        }
        let schema = shown.first().map_or_else(|| names(&self.rows.schema), |b| b.schema());
        let text = arrow::util::pretty::pretty_format_batches_with_schema(schema, &shown);
        let more = self.count().saturating_sub(20);
        let more = if more > 0 { format!("\n… and {more} more rows") } else { String::new() };
        text.map_or_else(|e| e.to_string(), |t| format!("{t}{more}"))
    }
    fn _repr_html_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        door::check_fork()?;
        slf.py().import("bayou._display")?.call_method1("table_html", (slf,))
    }
}

/// The names of columns, safe to print on a terminal.
fn names(schema: &Schema) -> SchemaRef {
    let shown = |f: &FieldRef| Field::new(printable(f.name()), DataType::Utf8, true);
    std::sync::Arc::new(Schema::new(schema.fields().iter().map(shown).collect::<Vec<_>>()))
}

/// Every cell as text that is safe to print on a terminal, without control characters. Bytes that are UTF-8 text become text.
fn readable(batch: &RecordBatch) -> RecordBatch {
    let cell = |c: &ArrayRef, row: usize| -> Option<String> {
        if c.is_null(row) {
            return None;
        }
        let text = match c.data_type() {
            DataType::Binary => {
                let bytes = c.as_binary::<i32>().value(row);
                std::str::from_utf8(bytes).map_or_else(|_| format!("0x{}", hex(bytes)), str::to_string)
            }
            _ => shown(c, row),
        };
        Some(printable(&text).into_owned())
    };
    let column =
        |c: &ArrayRef| std::sync::Arc::new((0..c.len()).map(|row| cell(c, row)).collect::<StringArray>()) as ArrayRef;
    let columns: Vec<ArrayRef> = batch.columns().iter().map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(names(&batch.schema()), columns, &options).unwrap_or_else(|_| batch.clone())
}

/// A value as text. Dates and times outside the calendar of the formatting library are numbers.
fn shown(array: &dyn Array, row: usize) -> String {
    arrow::util::display::array_value_to_string(array, row).unwrap_or_else(|_| match array.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            format!("{} microseconds since 1970", array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        DataType::Date32 => format!("{} days since 1970", array.as_primitive::<Date32Type>().value(row)),
        other => format!("a value of type {other}"),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(64).map(|b| format!("{b:02x}")).collect()
}

/// One value as a Python object.
pub fn value<'py>(py: Python<'py>, array: &dyn Array, row: usize) -> PyResult<Bound<'py, PyAny>> {
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
            let dict = PyDict::new(py);
            for i in 0..entries.len() {
                dict.set_item(value(py, entries.column(0), i)?, value(py, entries.column(1), i)?)?;
            }
            dict.into_any()
        }
        _ => shown(array, row).into_pyobject(py)?.into_any(),
    })
}

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyBayouSchema>()?;
    m.add_class::<PyTable>()?;
    m.add_class::<PyBatch>()
}
