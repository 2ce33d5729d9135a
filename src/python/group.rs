//! Windows and grouped streams.

use super::convert::{self, dialect, strings};
use super::functions::PyAggregate;
use super::stream::PyStream;
use super::words;
use crate::Error;
use crate::expr::AggregateItem;
use crate::flow::Stream;
use crate::window::{SessionSpec, WindowSpec, Windowing};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

#[doc = doc!("Window")]
#[pyclass(frozen, module = "bayou", name = "Window")]
pub struct PyWindow(pub Windowing);

#[doc = doc!("GroupedStream")]
#[pyclass(frozen, module = "bayou", name = "GroupedStream")]
pub struct PyGrouped {
    pub stream: Stream,
    pub window: Windowing,
    pub keys: Vec<String>,
}

#[pymethods]
impl PyWindow {
    fn __repr__(&self) -> String {
        let d = |us: i64| crate::time::format_duration(std::time::Duration::from_micros(us.unsigned_abs()));
        match &self.0 {
            Windowing::None => "window()".into(),
            Windowing::Fixed(w) => {
                let timezone = w.timezone().map(str::to_string);
                let options = [("slide", w.slide_text()), ("offset", w.offset_text()), ("timezone", timezone)];
                let options: String =
                    options.into_iter().filter_map(|(k, v)| v.map(|v| format!(", {k}={v:?}"))).collect();
                format!("window({:?}, {:?}{options})", w.column, w.size_text())
            }
            Windowing::Session(s) => format!("session_window({:?}, {:?})", s.column, d(s.gap)),
        }
    }
}

#[doc = doc!("session_window")]
#[pyfunction]
#[pyo3(signature = (column, gap))]
fn session_window(column: &str, gap: &Bound<'_, PyAny>) -> PyResult<PyWindow> {
    Ok(PyWindow(Windowing::Session(SessionSpec::new(column, &convert::duration(gap, "gap")?)?)))
}

#[doc = doc!("window")]
#[pyfunction]
#[pyo3(signature = (column, size, slide=None, offset=None, timezone="UTC"))]
fn window(
    column: &str,
    size: &Bound<'_, PyAny>,
    slide: Option<&Bound<'_, PyAny>>,
    offset: Option<&Bound<'_, PyAny>>,
    timezone: &str,
) -> PyResult<PyWindow> {
    let size = convert::duration(size, "size")?;
    let slide = slide.map(|s| convert::duration(s, "slide")).transpose()?;
    let offset = offset.map(|o| convert::duration(o, "offset")).transpose()?;
    let spec = WindowSpec::new(column, &size, slide.as_deref(), offset.as_deref(), timezone)?;
    Ok(PyWindow(Windowing::Fixed(spec)))
}

/// Reads aggregates: SQL texts, and functions that `bayou.aggregate` made.
fn aggregate_items(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Vec<AggregateItem>> {
    let function = |value: &Bound<'_, PyAny>, alias: Option<String>| {
        let a = value.extract::<PyRef<'_, PyAggregate>>().ok()?;
        Some(AggregateItem::Function {
            alias,
            function: a.function.clone(),
            columns: a.columns.clone(),
            data_type: a.data_type.clone(),
            order_by: None,
        })
    };
    let mut out = vec![];
    for arg in args.iter() {
        match function(&arg, None) {
            Some(item) => out.push(item),
            None => {
                let texts = strings(&PyTuple::new(arg.py(), [arg])?, "agg")?;
                out.extend(texts.into_iter().map(|text| AggregateItem::Sql { alias: None, text }));
            }
        }
    }
    for (name, value) in kwargs.into_iter().flat_map(|k| k.iter()) {
        let name: String = name.extract()?;
        out.push(match (function(&value, Some(name.clone())), value.extract::<String>()) {
            (Some(item), _) => item,
            (None, Ok(text)) => AggregateItem::Sql { alias: Some(name), text },
            (None, Err(_)) => {
                return Err(Error::schema(format!(
                    "agg: {name} must be a SQL aggregate as a string, or bayou.aggregate(function, returns=…)"
                ))
                .into());
            }
        });
    }
    Ok(out)
}

#[pymethods]
impl PyGrouped {
    fn __getattr__(slf: &Bound<'_, Self>, name: &str) -> PyResult<()> {
        Err(words::no_attribute(slf, "GroupedStream", name))
    }
    #[doc = doc!("GroupedStream.agg")]
    #[pyo3(signature = (*aggregates, dialect=None, **named))]
    fn agg(
        &self,
        aggregates: &Bound<'_, PyTuple>,
        dialect: Option<&str>,
        named: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyStream> {
        let items = aggregate_items(aggregates, named)?;
        Ok(PyStream(self.stream.aggregate(self.window.clone(), &self.keys, &items, self::dialect(dialect)?)?))
    }
    #[doc = doc!("GroupedStream.count")]
    fn count(&self) -> PyResult<PyStream> {
        let items = [(Some("count".to_string()), "count(*)".to_string())];
        Ok(PyStream(self.stream.aggregate(
            self.window.clone(),
            &self.keys,
            &items,
            crate::expr::Dialect::Databricks,
        )?))
    }
    fn __repr__(&self) -> String {
        let window = match &self.window {
            Windowing::None => String::new(),
            Windowing::Fixed(w) => format!("window({}), ", w.column),
            Windowing::Session(s) => format!("session_window({}), ", s.column),
        };
        format!("GroupedStream by {window}{}: call .agg(\"count(*) AS n\")", self.keys.join(", "))
    }
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyGrouped>()?;
    m.add_class::<PyWindow>()?;
    m.add_function(wrap_pyfunction!(window, m)?)?;
    m.add_function(wrap_pyfunction!(session_window, m)?)
}
