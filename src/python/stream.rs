//! The Python class of streams.

use super::arguments::Arguments;
use super::convert::{self, Count, dialect, strings};
use super::functions::Function;
use super::group::{PyGrouped, PyWindow};
use super::iterate::{self, PyBatchIterator};
use super::query::PyQuery;
use super::table::{PyBayouSchema, PyTable};
use super::{words, write};
use crate::Error;
use crate::decode::{Format, Given};
use crate::expect::Action;
use crate::flow::Stream;
use crate::flow::stream::watermark_spec;
use crate::window::Windowing;
use pyo3::exceptions::{PyAttributeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

#[doc = doc!("Stream")]
#[pyclass(frozen, module = "bayou", name = "Stream")]
pub struct PyStream(pub Stream);

fn named_items(
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
    what: &str,
) -> PyResult<Vec<(Option<String>, String)>> {
    let mut out: Vec<(Option<String>, String)> = strings(args, what)?.into_iter().map(|t| (None, t)).collect();
    for (name, text) in kwargs.into_iter().flat_map(|k| k.iter()) {
        let text: String = text
            .extract()
            .map_err(|_| Error::schema(format!("{what}: {name} must be a SQL expression as a string")))?;
        out.push((Some(name.extract()?), text));
    }
    Ok(out)
}

fn as_items(items: Vec<(Option<String>, String)>) -> Vec<String> {
    let quote = |n: String| format!("`{}`", n.replace('`', "``"));
    items.into_iter().map(|(name, text)| name.map_or(text.clone(), |n| format!("{text} AS {}", quote(n)))).collect()
}

impl PyStream {
    fn expect_one(&self, name: &str, condition: &str, action: Action, d: Option<&str>) -> PyResult<Self> {
        Ok(Self(self.0.expect(name, condition, action, dialect(d)?)?))
    }
    fn expect_many(&self, rules: &Bound<'_, PyDict>, action: Action, d: Option<&str>) -> PyResult<Self> {
        let mut at = self.0.clone();
        for (name, condition) in rules.iter() {
            at = at.expect(&name.extract::<String>()?, &condition.extract::<String>()?, action, dialect(d)?)?;
        }
        Ok(Self(at))
    }

    /// `with_columns("x", "bpm * 2")` has the form of Spark's withColumn. The error then says what to write.
    fn as_name_and_expression(&self, columns: &Bound<'_, PyTuple>, e: Error) -> Error {
        let Ok((name, expression)) = columns.extract::<(String, String)>() else { return e };
        let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
        if !is_name || self.0.schema().index_of(&name).is_ok() {
            return e;
        }
        let hint = format!(" To make a column {name}, write with_columns({name}=\"{expression}\").");
        Error { message: format!("{}{hint}", e.message), ..e }
    }
}

#[pymethods]
impl PyStream {
    #[doc = doc!("Stream.columns")]
    #[getter]
    fn columns(&self) -> Vec<String> {
        self.0.schema().fields().iter().map(|f| f.name().clone()).collect()
    }
    #[doc = doc!("Stream.schema")]
    #[getter]
    fn schema(&self) -> PyBayouSchema {
        PyBayouSchema(self.0.schema().clone())
    }
    #[doc = doc!("Stream.name")]
    #[getter]
    fn name(&self) -> Option<&str> {
        self.0.name()
    }
    #[doc = doc!("Stream.explain")]
    fn explain(&self) -> String {
        let steps = self.0.steps();
        let lines: Vec<_> = steps.iter().enumerate().map(|(i, s)| format!("{:>3}. {s}", i + 1)).collect();
        let mut from: Vec<String> = self.0.kafka_sources().iter().map(|s| s.connection.describe()).collect();
        from.dedup();
        let from = if from.is_empty() { String::new() } else { format!("from {}\n", from.join(", ")) };
        format!("{from}{}\n  -> {}", lines.join("\n"), crate::expr::to_ddl(self.0.schema()))
    }
    fn __repr__(&self) -> String {
        format!("Stream{}\n{}", self.0.name().map(|n| format!(" '{n}'")).unwrap_or_default(), self.explain())
    }
    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.extract::<PyRef<'_, Self>>().is_ok_and(|o| o.0.id() == self.0.id())
    }
    fn __hash__(&self) -> u64 {
        u64::from_str_radix(self.0.id(), 16).unwrap_or_default()
    }
    fn __iter__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "a Stream is a description and cannot be iterated. Write `for batch in stream.batches():`.",
        ))
    }
    fn __getattr__(slf: &Bound<'_, Self>, name: &str) -> PyResult<()> {
        let columns = slf.get().0.schema();
        if !name.starts_with('_') && columns.fields().iter().any(|f| f.name() == name) {
            return Err(PyAttributeError::new_err(format!(
                "'Stream' has no attribute '{name}'. Columns are named in SQL: select(\"{name}\"), where(\"{name} IS NOT NULL\")."
            )));
        }
        Err(words::no_attribute(slf, "Stream", name))
    }
    fn __len__(&self) -> PyResult<usize> {
        Err(PyTypeError::new_err(
            "a stream has no length. Use group_by().agg(\"count(*) AS n\"), or len(stream.collect()).",
        ))
    }
    /// Without this method, Python would ask for the length of a Stream, which does not have one.
    fn __bool__(&self) -> bool {
        true
    }
    fn __getitem__(&self, name: &Bound<'_, PyAny>) -> PyResult<()> {
        let what = name.repr()?;
        Err(PyTypeError::new_err(format!(
            "stream[{what}] is not possible: columns are named in SQL, as in select(\"a\", \"b + 1 AS c\") and where(\"a > 0\")."
        )))
    }

    #[doc = doc!("Stream.select")]
    #[pyo3(signature = (*columns, dialect=None, **named))]
    fn select(
        &self,
        columns: &Bound<'_, PyTuple>,
        dialect: Option<&str>,
        named: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let items = as_items(named_items(columns, named, "select")?);
        Ok(Self(self.0.select(&items, self::dialect(dialect)?)?))
    }
    #[doc = doc!("Stream.with_columns")]
    #[pyo3(signature = (*columns, dialect=None, **named))]
    fn with_columns(
        &self,
        columns: &Bound<'_, PyTuple>,
        dialect: Option<&str>,
        named: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let items = as_items(named_items(columns, named, "with_columns")?);
        let made = self.0.with_columns(&items, self::dialect(dialect)?);
        Ok(Self(made.map_err(|e| self.as_name_and_expression(columns, e))?))
    }
    #[doc = doc!("Stream.where")]
    #[pyo3(signature = (condition, dialect=None))]
    fn r#where(&self, condition: &str, dialect: Option<&str>) -> PyResult<Self> {
        Ok(Self(self.0.filter(condition, self::dialect(dialect)?)?))
    }
    #[doc = doc!("Stream.rename")]
    #[pyo3(signature = (names))]
    fn rename(&self, names: &Bound<'_, PyDict>) -> PyResult<Self> {
        let pairs =
            names.iter().map(|(a, b)| Ok((a.extract()?, b.extract()?))).collect::<PyResult<Vec<(String, String)>>>()?;
        Ok(Self(self.0.rename(&pairs)?))
    }
    #[doc = doc!("Stream.drop")]
    #[pyo3(signature = (*columns))]
    fn drop(&self, columns: &Bound<'_, PyTuple>) -> PyResult<Self> {
        Ok(Self(self.0.drop(&strings(columns, "drop")?)?))
    }
    #[doc = doc!("Stream.drop_duplicates")]
    #[pyo3(signature = (keys=None, *, within))]
    fn drop_duplicates(&self, keys: Option<&Bound<'_, PyAny>>, within: &Bound<'_, PyAny>) -> PyResult<Self> {
        let keys = match keys.filter(|k| !k.is_none()) {
            None => vec![],
            Some(keys) => strings(&PyTuple::new(keys.py(), [keys])?, "drop_duplicates")?,
        };
        let within = convert::span(within, "within")?;
        Ok(Self(self.0.drop_duplicates(&keys, within)?))
    }
    #[doc = doc!("Stream.join")]
    #[pyo3(signature = (other, on, how="inner", *, within=None, suffix="_right", storage_options=None, spark=None))]
    #[allow(clippy::too_many_arguments)]
    fn join(
        &self,
        py: Python<'_>,
        other: &Bound<'_, PyAny>,
        on: &Bound<'_, PyAny>,
        how: &str,
        within: Option<&Bound<'_, PyAny>>,
        suffix: &str,
        storage_options: Option<&Bound<'_, PyAny>>,
        spark: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        super::join::join(py, &self.0, other, on, how, within, suffix, storage_options, spark).map(Self)
    }
    #[doc = doc!("Stream.map_batches")]
    #[pyo3(signature = (function, schema=None, *, input="arrow"))]
    fn map_batches(
        &self,
        function: &Bound<'_, PyAny>,
        schema: Option<&Bound<'_, PyAny>>,
        input: &str,
    ) -> PyResult<Self> {
        let function = Function::new(function, input, "map_batches")?;
        let schema = schema.filter(|s| !s.is_none()).map(convert::schema).transpose()?;
        Ok(Self(self.0.map_batches(std::sync::Arc::new(function), schema)?))
    }
    #[pyo3(signature = (column, *, schema, **options))]
    #[pyo3(
        text_signature = "($self, column, *, schema, format='json', into=None, timezone=None, timestamp_unit=None, allow_quoted_numbers=False, allow_nan=False, missing='null')"
    )]
    #[doc = doc!("Stream.decode")]
    fn decode(&self, column: &str, schema: &Bound<'_, PyAny>, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let mut arguments = Arguments::new("decode", &["column", "schema"], options);
        let (schema, whole) = convert::document(Some(schema))?;
        let format = arguments.text("format")?;
        let into = arguments.text("into")?;
        let given = Given { whole, ..super::source::given(&mut arguments)? };
        arguments.end()?;
        let format = Format::read(format.as_deref().unwrap_or("json"), given)?;
        Ok(Self(self.0.decode(column, schema, format, into.as_deref())?))
    }
    #[doc = doc!("Stream.union")]
    fn union(&self, other: &Self) -> PyResult<Self> {
        Ok(Self(self.0.union(&other.0)?))
    }
    #[doc = doc!("Stream.named")]
    fn named(&self, name: &str) -> PyResult<Self> {
        Ok(Self(self.0.named(name)?))
    }
    #[doc = doc!("Stream.expect")]
    #[pyo3(signature = (name, condition, dialect=None))]
    fn expect(&self, name: &str, condition: &str, dialect: Option<&str>) -> PyResult<Self> {
        self.expect_one(name, condition, Action::Keep, dialect)
    }
    #[doc = doc!("Stream.expect_or_drop")]
    #[pyo3(signature = (name, condition, dialect=None))]
    fn expect_or_drop(&self, name: &str, condition: &str, dialect: Option<&str>) -> PyResult<Self> {
        self.expect_one(name, condition, Action::Drop, dialect)
    }
    #[doc = doc!("Stream.expect_or_quarantine")]
    #[pyo3(signature = (name, condition, dialect=None))]
    fn expect_or_quarantine(&self, name: &str, condition: &str, dialect: Option<&str>) -> PyResult<Self> {
        self.expect_one(name, condition, Action::Quarantine, dialect)
    }
    #[doc = doc!("Stream.expect_or_fail")]
    #[pyo3(signature = (name, condition, dialect=None))]
    fn expect_or_fail(&self, name: &str, condition: &str, dialect: Option<&str>) -> PyResult<Self> {
        self.expect_one(name, condition, Action::Fail, dialect)
    }
    #[doc = doc!("Stream.expect_all")]
    #[pyo3(signature = (rules, dialect=None))]
    fn expect_all(&self, rules: &Bound<'_, PyDict>, dialect: Option<&str>) -> PyResult<Self> {
        self.expect_many(rules, Action::Keep, dialect)
    }
    #[doc = doc!("Stream.expect_all_or_drop")]
    #[pyo3(signature = (rules, dialect=None))]
    fn expect_all_or_drop(&self, rules: &Bound<'_, PyDict>, dialect: Option<&str>) -> PyResult<Self> {
        self.expect_many(rules, Action::Drop, dialect)
    }
    #[doc = doc!("Stream.expect_all_or_quarantine")]
    #[pyo3(signature = (rules, dialect=None))]
    fn expect_all_or_quarantine(&self, rules: &Bound<'_, PyDict>, dialect: Option<&str>) -> PyResult<Self> {
        self.expect_many(rules, Action::Quarantine, dialect)
    }
    #[doc = doc!("Stream.expect_all_or_fail")]
    #[pyo3(signature = (rules, dialect=None))]
    fn expect_all_or_fail(&self, rules: &Bound<'_, PyDict>, dialect: Option<&str>) -> PyResult<Self> {
        self.expect_many(rules, Action::Fail, dialect)
    }

    #[doc = doc!("Stream.with_watermark")]
    #[pyo3(signature = (column, delay, *, idle_timeout=None, max_future=None, on_idle="hold", late="quarantine"))]
    fn with_watermark(
        &self,
        column: &str,
        delay: &Bound<'_, PyAny>,
        idle_timeout: Option<&Bound<'_, PyAny>>,
        max_future: Option<&Bound<'_, PyAny>>,
        on_idle: &str,
        late: &str,
    ) -> PyResult<Self> {
        let text = |v: Option<&Bound<'_, PyAny>>, what: &str, default: &str| {
            v.map_or(Ok(default.to_string()), |v| convert::duration(v, what))
        };
        let spec = watermark_spec(
            column,
            &convert::duration(delay, "delay")?,
            &text(idle_timeout, "idle_timeout", "5 minutes")?,
            &text(max_future, "max_future", "1 hour")?,
            on_idle,
            late,
        )?;
        Ok(Self(self.0.with_watermark(spec)?))
    }

    #[doc = doc!("Stream.group_by")]
    #[pyo3(signature = (*keys))]
    fn group_by(&self, keys: &Bound<'_, PyTuple>) -> PyResult<PyGrouped> {
        let mut window = Windowing::None;
        let mut texts = vec![];
        for key in keys.iter() {
            if let Ok(w) = key.extract::<PyRef<'_, PyWindow>>() {
                if std::mem::replace(&mut window, w.0.clone()) != Windowing::None {
                    return Err(Error::config("group_by takes one window").into());
                }
            } else {
                let one = PyTuple::new(keys.py(), [key])?;
                texts.extend(strings(&one, "group_by")?);
            }
        }
        // A trial aggregation checks names and functions when the line is typed.
        let probe = [(None, "count(*)".to_string())];
        self.0.aggregate(window.clone(), &texts, &probe, crate::expr::Dialect::Databricks)?;
        Ok(PyGrouped { stream: self.0.clone(), window, keys: texts })
    }

    #[pyo3(signature = (**options))]
    #[pyo3(
        text_signature = "($self, *, trigger=None, output_mode=None, limit=None, timeout=None, batch_rows=None, close_windows=False, name=None, checkpoint_location=None, storage_options=None, group_id=None)"
    )]
    #[doc = doc!("Stream.batches")]
    fn batches(&self, py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<PyBatchIterator> {
        iterate::start(py, &self.0, iterate::options(Arguments::new("batches", &[], options))?, false)
    }

    #[pyo3(signature = (**options))]
    #[pyo3(
        text_signature = "($self, *, trigger=None, output_mode=None, limit=None, timeout=None, batch_rows=None, close_windows=False, name=None, checkpoint_location=None, storage_options=None, group_id=None)"
    )]
    #[doc = doc!("Stream.pandas_batches")]
    fn pandas_batches(&self, py: Python<'_>, options: Option<&Bound<'_, PyDict>>) -> PyResult<PyBatchIterator> {
        iterate::start(py, &self.0, iterate::options(Arguments::new("pandas_batches", &[], options))?, true)
    }

    #[pyo3(
        signature = (limit=None, **options),
        text_signature = "($self, limit=None, *, timeout=None, output_mode=None, close_windows=False)"
    )]
    #[doc = doc!("Stream.collect")]
    fn collect(&self, py: Python<'_>, limit: Option<Count>, options: Option<&Bound<'_, PyDict>>) -> PyResult<PyTable> {
        let options = iterate::bounds(Arguments::new("collect", &["limit"], options), limit)?;
        Ok(iterate::collect(py, &self.0, options)?.0)
    }

    #[doc = doc!("Stream.preview")]
    #[pyo3(signature = (n=Count(20), *, timeout=None), text_signature = "($self, n=20, *, timeout=None)")]
    fn preview(&self, py: Python<'_>, n: Count, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<iterate::PyPreview> {
        iterate::preview(py, &self.0, n.0, timeout)
    }

    #[doc = doc!("Stream.validate")]
    fn validate(&self, py: Python<'_>) -> PyResult<iterate::PyValidation> {
        iterate::validate(py, &self.0)
    }

    #[pyo3(
        signature = (target, **options),
        text_signature = "($self, target, *, query_name=None, output_mode=None, trigger=None, checkpoint_location=None, partition_by=None, storage_options=None, table_name=None, comment=None, schema_mode=None, start=None, location=None, spark=None, full_refresh=False, accept_changes=False, close_windows=False, memory_limit=None, optimize_every=None, clean_log=None, commit_to_group=None, single_writer=False, timeout=None, block=True, progress=True)"
    )]
    #[doc = doc!("Stream.write_delta")]
    fn write_delta(
        &self,
        py: Python<'_>,
        target: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyQuery>> {
        write::write_delta(py, &self.0, target, Arguments::new("write_delta", &["target"], options))
    }

    #[pyo3(
        signature = (function, **options),
        text_signature = "($self, function, *, query_name=None, checkpoint_location=None, input='arrow', output_mode=None, trigger=None, start=None, storage_options=None, single_writer=False, full_refresh=False, close_windows=False, memory_limit=None, commit_to_group=None, timeout=None, block=True, progress=True)"
    )]
    #[doc = doc!("Stream.foreach_batch")]
    fn foreach_batch(
        &self,
        py: Python<'_>,
        function: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyQuery>> {
        write::foreach_batch(py, &self.0, function, Arguments::new("foreach_batch", &["function"], options))
    }

    #[pyo3(
        signature = (topic, **options),
        text_signature = "($self, topic, *, query_name=None, checkpoint_location=None, to=None, key=None, headers_column=None, partition_column=None, timestamp=None, format='json', create=None, output_mode=None, trigger=None, start=None, storage_options=None, single_writer=False, full_refresh=False, accept_changes=False, close_windows=False, memory_limit=None, commit_to_group=None, timeout=None, block=True, progress=True)"
    )]
    #[doc = doc!("Stream.write_kafka")]
    fn write_kafka(&self, py: Python<'_>, topic: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Py<PyQuery>> {
        write::write_kafka(py, &self.0, topic, Arguments::new("write_kafka", &["topic"], options))
    }
}

/// Refuses a name that a table cannot have.
#[pyfunction]
fn _check_table_name(name: &str) -> PyResult<()> {
    Ok(crate::flow::stream::check_name(name, "a table")?)
}

/// The rows of a stream that the pipeline's table of this name accepts.
#[pyfunction]
fn _of_table(stream: PyRef<'_, PyStream>, name: &str) -> PyResult<PyStream> {
    Ok(PyStream(stream.0.of_table(name)?))
}

/// Whether a stream's default output mode is complete.
#[pyfunction]
fn _is_complete(stream: PyRef<'_, PyStream>) -> bool {
    crate::flow::mode::default_mode(&stream.0) == crate::sink::OutputMode::Complete
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyStream>()?;
    m.add_function(wrap_pyfunction!(_is_complete, m)?)?;
    m.add_function(wrap_pyfunction!(_check_table_name, m)?)?;
    m.add_function(wrap_pyfunction!(_of_table, m)?)
}
