//! Schemas of PySpark: a StructType, or its JSON (`df.schema.json()`). The format is that of Spark's `DataType.fromJson`.

use crate::{Error, Result};
use pyo3::prelude::*;
use serde_json::Value;

/// The DDL of a StructType or a different DataType of PySpark. None: the object is none of them.
pub(super) fn ddl_of(value: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    if !value.hasattr("jsonValue")? || !value.hasattr("simpleString")? {
        return Ok(None);
    }
    let text: String =
        value.py().import("json")?.call_method1("dumps", (value.call_method0("jsonValue")?,))?.extract()?;
    Ok(Some(ddl_of_json(&text)?))
}

/// The DDL of Spark's JSON of a schema. The text begins with a brace.
pub(super) fn ddl_of_json(text: &str) -> Result<String> {
    let not_one = |e: serde_json::Error| {
        Error::schema(format!("schema= begins with {{ but is not Spark's JSON of a schema: {e}"))
    };
    let value: Value = serde_json::from_str(text).map_err(not_one)?;
    match fields(&value)? {
        Some(fields) => Ok(fields),
        None => data_type(&value),
    }
}

fn wrong(value: &Value) -> Error {
    let mut text = value.to_string();
    text.truncate(text.char_indices().nth(100).map_or(text.len(), |(at, _)| at));
    Error::schema(format!("schema=: {text} is not a type in Spark's JSON of a schema"))
}

/// "a INT, b STRING NOT NULL" of a struct type.
fn fields(value: &Value) -> Result<Option<String>> {
    if value["type"] != "struct" {
        return Ok(None);
    }
    let fields = value["fields"].as_array().ok_or_else(|| wrong(value))?;
    let field = |f: &Value| -> Result<String> {
        let name = f["name"].as_str().ok_or_else(|| wrong(f))?.replace('`', "``");
        let of = data_type(&f["type"]).map_err(|e| e.context(format!("column '{name}'")))?;
        Ok(format!("`{name}` {of}{}", if f["nullable"] == false { " NOT NULL" } else { "" }))
    };
    Ok(Some(fields.iter().map(field).collect::<Result<Vec<_>>>()?.join(", ")))
}

fn data_type(value: &Value) -> Result<String> {
    if let Some(name) = value.as_str() {
        return Ok(match name {
            "integer" => "INT".into(),
            "long" => "BIGINT".into(),
            "short" => "SMALLINT".into(),
            "byte" => "TINYINT".into(),
            other => other.to_uppercase(),
        });
    }
    match value["type"].as_str() {
        Some("struct") => Ok(format!("STRUCT<{}>", nested(value)?)),
        Some("array") => Ok(format!("ARRAY<{}>", data_type(&value["elementType"])?)),
        Some("map") => Ok(format!("MAP<{}, {}>", data_type(&value["keyType"])?, data_type(&value["valueType"])?)),
        Some("udt") => data_type(&value["sqlType"]),
        _ => Err(wrong(value)),
    }
}

/// "a: INT, b: STRING" of a struct within a type.
fn nested(value: &Value) -> Result<String> {
    let fields = value["fields"].as_array().ok_or_else(|| wrong(value))?;
    let field = |f: &Value| -> Result<String> {
        let name = f["name"].as_str().ok_or_else(|| wrong(f))?.replace('`', "``");
        Ok(format!("`{name}`: {}{}", data_type(&f["type"])?, if f["nullable"] == false { " NOT NULL" } else { "" }))
    };
    Ok(fields.iter().map(field).collect::<Result<Vec<_>>>()?.join(", "))
}
