//! Writes Python's own values as JSON text, with the same writers as for Arrow columns. Used for published dicts and for results of functions.

use super::guard;
use super::values::{self, Misfit};
use crate::kafka::encode::{self, text};
use crate::{Error, Result};
use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// Values may be nested at most this deep. The reader has the same limit.
const DEPTH: usize = 128;

/// The reason why a value cannot be written, and the path where the value is nested.
pub(super) struct Unfit {
    path: Vec<String>,
    why: String,
    /// The Python exception, if it was not about the value.
    raised: Option<PyErr>,
}

impl Unfit {
    fn new(why: impl Into<String>) -> Self {
        Self { path: vec![], why: why.into(), raised: None }
    }
    fn below(mut self, name: impl Into<String>) -> Self {
        self.path.insert(0, name.into());
        self
    }
}

type Written<T = ()> = std::result::Result<T, Unfit>;

/// Writes values. `bayou._rows.scalar` names the types that JSON does not have.
pub(super) struct Writer<'py> {
    scalar: Bound<'py, PyAny>,
    /// Whether NaN and Infinity are written as numbers. They are within the process, and not on a topic.
    nan: bool,
}

impl<'py> Writer<'py> {
    pub(super) fn new(py: Python<'py>, nan: bool) -> PyResult<Self> {
        static SCALAR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let find = || Ok::<_, PyErr>(guard::import(py, "bayou._rows")?.getattr("scalar")?.unbind());
        Ok(Self { scalar: SCALAR.get_or_try_init(py, find)?.bind(py).clone(), nan })
    }

    /// Writes one value. `target` is the type that the text is for, if it is known. Then a loss that the text would hide is refused.
    pub(super) fn write(&self, value: &Bound<'py, PyAny>, target: Option<&DataType>, out: &mut Vec<u8>) -> Written {
        self.at(value, target, 0, out)
    }

    fn at(&self, value: &Bound<'py, PyAny>, target: Option<&DataType>, depth: usize, out: &mut Vec<u8>) -> Written {
        if value.is_none() {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        if let Ok(text) = value.cast_exact::<PyString>() {
            return self.string(text, out);
        }
        if let Ok(truth) = value.cast_exact::<PyBool>() {
            out.extend_from_slice(if truth.is_true() { b"true" } else { b"false" });
            return Ok(());
        }
        if let Ok(whole) = value.cast_exact::<PyInt>() {
            return self.whole(whole, target, out);
        }
        if let Ok(float) = value.cast_exact::<PyFloat>() {
            return self.float(float.value(), false, out);
        }
        if depth >= DEPTH {
            return Err(Unfit::new("more than 128 levels"));
        }
        if let Ok(dict) = value.cast_exact::<PyDict>() {
            return self.object(dict, target, depth, out);
        }
        if let Ok(list) = value.cast_exact::<PyList>() {
            return self.array(list.iter(), target, depth, out);
        }
        if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            return self.array(tuple.iter(), target, depth, out);
        }
        self.other(value, target, depth, out)
    }

    fn string(&self, value: &Bound<'py, PyString>, out: &mut Vec<u8>) -> Written {
        match value.to_cow() {
            Ok(plain) => text::string(&plain, out),
            Err(_) => return Err(Unfit::new("a text with a lone surrogate, which UTF-8 cannot write")),
        }
        Ok(())
    }

    fn whole(&self, value: &Bound<'py, PyInt>, target: Option<&DataType>, out: &mut Vec<u8>) -> Written {
        let bits = match target {
            Some(DataType::Float64) => Some(("DOUBLE", 53)),
            Some(DataType::Float32) => Some(("FLOAT", 24)),
            _ => None,
        };
        if let Ok(small) = value.extract::<i64>() {
            if let Some((name, bits)) = bits {
                let odd = if small == 0 { 0 } else { small.unsigned_abs() >> small.trailing_zeros() };
                if odd >> bits != 0 {
                    return Err(Unfit::new(format!("a whole number that {name} cannot hold exactly")));
                }
            }
            out.extend_from_slice(small.to_string().as_bytes());
            return Ok(());
        }
        if matches!(target, Some(DataType::Float64 | DataType::Float32))
            && !value.extract::<f64>().is_ok_and(|d| value.as_any().eq(d).unwrap_or(false))
        {
            return Err(Unfit::new("a whole number that DOUBLE cannot hold exactly"));
        }
        match value.str() {
            Ok(digits) => out.extend_from_slice(digits.to_string_lossy().as_bytes()),
            Err(_) => return Err(Unfit::new("a whole number of thousands of digits")),
        }
        Ok(())
    }

    /// Writes a floating-point number. `single` means 32 bits, whose shortest text is shorter.
    fn float(&self, value: f64, single: bool, out: &mut Vec<u8>) -> Written {
        if self.nan && !value.is_finite() {
            let word: &[u8] = match value {
                v if v.is_nan() => b"NaN",
                v if v > 0.0 => b"Infinity",
                _ => b"-Infinity",
            };
            out.extend_from_slice(word);
            return Ok(());
        }
        text::shortest(value, single, out).map_err(Unfit::new)
    }

    fn array(
        &self,
        items: impl Iterator<Item = Bound<'py, PyAny>>,
        target: Option<&DataType>,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Written {
        let item = match target {
            Some(DataType::List(f)) => Some(f.data_type()),
            _ => None,
        };
        out.push(b'[');
        for (i, value) in items.enumerate() {
            if i > 0 {
                out.push(b',');
            }
            self.at(&value, item, depth + 1, out).map_err(|u| u.below(i.to_string()))?;
        }
        out.push(b']');
        Ok(())
    }

    fn object(&self, dict: &Bound<'py, PyDict>, target: Option<&DataType>, depth: usize, out: &mut Vec<u8>) -> Written {
        let member = |name: &str| match target {
            Some(DataType::Struct(fields)) => fields.find(name).map(|(_, f)| f.data_type()),
            Some(DataType::Map(entries, _)) => match entries.data_type() {
                DataType::Struct(kv) => kv.get(1).map(|f| f.data_type()),
                _ => None,
            },
            _ => None,
        };
        out.push(b'{');
        for (i, (key, value)) in dict.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            let name = self.name(&key)?;
            if let Some(DataType::Struct(fields)) = target
                && fields.find(&name).is_none()
            {
                let has: Vec<&String> = fields.iter().map(|f| f.name()).collect();
                return Err(Unfit::new(format!(
                    "the STRUCT that schema= announces has no field '{name}' (its fields are {has:?})"
                )));
            }
            text::string(&name, out);
            out.push(b':');
            self.at(&value, member(&name), depth + 1, out).map_err(|u| u.below(name))?;
        }
        out.push(b'}');
        Ok(())
    }

    /// A field's name: text, or a whole number as in Arrow maps.
    fn name(&self, key: &Bound<'py, PyAny>) -> Written<String> {
        let mut name = vec![];
        if key.cast_exact::<PyString>().is_err() && key.cast_exact::<PyInt>().is_err() {
            match self.told(key)? {
                (tag, payload) if tag == "text" || tag == "int" => return self.name(&payload),
                _ => return Err(Unfit::new(format!("a field's name must be text, not {}", type_name(key)))),
            }
        }
        match key.cast_exact::<PyString>() {
            Ok(text) => match text.to_cow() {
                Ok(text) => return Ok(text.into_owned()),
                Err(_) => return Err(Unfit::new("a field's name with a lone surrogate, which UTF-8 cannot write")),
            },
            Err(_) => self.at(key, None, 0, &mut name)?,
        }
        String::from_utf8(name).map_err(|_| Unfit::new("a field's name that is not UTF-8"))
    }

    /// Describes a value of any other type by a tag, with the value in a type that is known here.
    fn told(&self, value: &Bound<'py, PyAny>) -> Written<(String, Bound<'py, PyAny>)> {
        let py = value.py();
        let call = || -> PyResult<(String, Bound<'py, PyAny>)> {
            guard::call_here(&self.scalar, &PyTuple::new(py, [value])?)?.extract()
        };
        call().map_err(|e| {
            let about_it = e.is_instance_of::<pyo3::exceptions::PyTypeError>(py)
                || e.is_instance_of::<pyo3::exceptions::PyValueError>(py);
            match about_it {
                true => Unfit::new(e.value(py).to_string()),
                false => Unfit { path: vec![], why: "it cannot be read".into(), raised: Some(e) },
            }
        })
    }

    fn other(&self, value: &Bound<'py, PyAny>, target: Option<&DataType>, depth: usize, out: &mut Vec<u8>) -> Written {
        let (tag, payload) = self.told(value)?;
        let number = || payload.extract::<i64>().map_err(|_| Unfit::new("out of range"));
        match tag.as_str() {
            "none" | "bool" | "int" | "float" | "text" | "list" | "dict" => self.at(&payload, target, depth + 1, out),
            "float32" => self.float(payload.extract().map_err(|_| Unfit::new("no number"))?, true, out),
            "number" => {
                // The digits of a Decimal are written unchanged.
                let digits: String = payload.extract().map_err(|_| Unfit::new("no number"))?;
                out.extend_from_slice(digits.as_bytes());
                Ok(())
            }
            "bytes" if target == Some(&DataType::Utf8) => Err(Unfit::new(values::BYTES_IN_TEXT)),
            "bytes" => {
                let bytes = payload.cast::<PyBytes>().map_err(|_| Unfit::new("no bytes"))?;
                text::base64(bytes.as_bytes(), out);
                Ok(())
            }
            "timestamp" => {
                let micros = number()?;
                if target == Some(&DataType::Date32) && micros % values::DAY != 0 {
                    return Err(Unfit::new(values::TIME_IN_DATE));
                }
                text::timestamp(micros, out).map_err(Unfit::new)
            }
            "date" => text::date(number()?, out).map_err(Unfit::new),
            "time" => text::time_of_day(number()?, out).map_err(Unfit::new),
            other => Err(Unfit::new(format!("{other} is not known"))),
        }
    }

    /// The bytes of a key, the same as for an Arrow column. None for NULL.
    fn key(&self, value: &Bound<'py, PyAny>) -> Written<Option<Vec<u8>>> {
        if value.is_none() {
            return Ok(None);
        }
        if let Ok(text) = value.cast_exact::<PyString>() {
            let plain =
                text.to_cow().map_err(|_| Unfit::new("a text with a lone surrogate, which UTF-8 cannot write"))?;
            return Ok(Some(plain.as_bytes().to_vec()));
        }
        if value.cast_exact::<PyBytes>().is_ok() || !is_plain(value) {
            match self.told(value)? {
                (tag, _) if tag == "none" => return Ok(None),
                (tag, payload) if tag == "text" => return self.key(&payload),
                (tag, payload) if tag == "bytes" => {
                    let bytes = payload.cast::<PyBytes>().map_err(|_| Unfit::new("no bytes"))?;
                    return Ok(Some(bytes.as_bytes().to_vec()));
                }
                _ => {}
            }
        }
        let mut json = vec![];
        self.at(value, None, 0, &mut json)?;
        Ok(Some(encode::bare(&json).to_vec()))
    }
}

fn is_plain(value: &Bound<'_, PyAny>) -> bool {
    value.cast_exact::<PyInt>().is_ok()
        || value.cast_exact::<PyFloat>().is_ok()
        || value.cast_exact::<PyBool>().is_ok()
        || value.cast_exact::<PyDict>().is_ok()
        || value.cast_exact::<PyList>().is_ok()
}

fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "something else".into(), |n| n.to_string())
}

fn error(column: &str, row: u64, unfit: Unfit) -> PyErr {
    if let Some(raised) = unfit.raised {
        return raised;
    }
    let path: Vec<String> = std::iter::once(column.to_string()).chain(unfit.path).collect();
    encode::named(&path.join("."), row, &unfit.why).into()
}

/// Writes a published row, which is a dict, as JSON. `row` is the number of the row.
#[pyfunction]
fn _encode_row<'py>(py: Python<'py>, dict: &Bound<'py, PyDict>, row: u64) -> PyResult<Bound<'py, PyBytes>> {
    let writer = Writer::new(py, false)?;
    let mut out = Vec::with_capacity(128);
    out.push(b'{');
    for (i, (key, value)) in dict.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let name = writer.name(&key).map_err(|u| error("?", row, u))?;
        text::string(&name, &mut out);
        out.push(b':');
        writer.write(&value, None, &mut out).map_err(|u| error(&name, row, u))?;
    }
    out.push(b'}');
    Ok(PyBytes::new(py, &out))
}

/// The key of a published row.
#[pyfunction]
fn _encode_key<'py>(
    py: Python<'py>,
    value: &Bound<'py, PyAny>,
    column: &str,
    row: u64,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let key = Writer::new(py, false)?.key(value).map_err(|u| error(column, row, u))?;
    Ok(key.map(|k| PyBytes::new(py, &k)))
}

/// Converts the values of a list to a column of this type.
pub(super) fn column(list: &Bound<'_, PyList>, field: &Field) -> PyResult<Result<ArrayRef>> {
    let writer = Writer::new(list.py(), true)?;
    let (mut json, mut ends) = (vec![], Vec::with_capacity(list.len()));
    for (row, value) in list.iter().enumerate() {
        if let Err(unfit) = writer.write(&value, Some(field.data_type()), &mut json) {
            return Err(error(field.name(), row as u64, unfit));
        }
        ends.push(json.len());
    }
    let read = values::read(field.data_type(), &json, &ends).and_then(|array| values::exact(&array, field));
    Ok(read.map_err(|m: Misfit| -> Error { m.into_error(field.name(), 0) }))
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_encode_row, m)?)?;
    m.add_function(wrap_pyfunction!(_encode_key, m)?)
}
