//! Names to columns.

use crate::error::did_you_mean;
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Fields, Schema};

/// The column with this name. An exact match wins; otherwise case does not matter. Backticks are allowed.
/// `window.start` is `window_start` if there is such a column.
pub(crate) fn resolve_column(name: &str, schema: &Schema) -> Result<usize> {
    let trimmed = name.trim();
    let bare = match trimmed.strip_prefix('`').and_then(|n| n.strip_suffix('`')) {
        Some(quoted) => quoted.replace("``", "`"),
        None => trimmed.to_string(),
    };
    if let Some(found) = find(&bare, schema)? {
        return Ok(found);
    }
    if let Some(found) = window_field(&bare).map(|n| find(n, schema)).transpose()?.flatten() {
        return Ok(found);
    }
    Err(unknown(&bare, schema))
}

/// The field within a struct that a path such as "after.ts" leads to: the indices on the way, its name as the schema has it, and its type.
/// Also a column, which has one index.
pub(crate) fn nested_field(path: &str, schema: &Schema) -> Option<(Vec<usize>, String, DataType)> {
    if let Ok(index) = resolve_column(path, schema) {
        let field = schema.field(index);
        return Some((vec![index], field.name().clone(), field.data_type().clone()));
    }
    let (mut indices, mut names) = (vec![], vec![]);
    let mut fields = schema.fields().clone();
    let mut data_type = DataType::Null;
    for part in path.trim().split('.') {
        let bare = part.trim_matches('`');
        let index = find(bare, &Schema::new(fields.clone())).ok()??;
        names.push(fields[index].name().clone());
        indices.push(index);
        data_type = fields[index].data_type().clone();
        fields = match &data_type {
            DataType::Struct(inner) => inner.clone(),
            _ => Fields::empty(),
        };
    }
    Some((indices, names.join("."), data_type))
}

/// The values of such a field, NULL where a struct around it is NULL.
pub(crate) fn nested_values(rows: &RecordBatch, path: &str) -> Option<ArrayRef> {
    if let Ok(index) = rows.schema_ref().index_of(path) {
        return Some(rows.column(index).clone());
    }
    let (indices, ..) = nested_field(path, rows.schema_ref())?;
    let (first, rest) = indices.split_first()?;
    let mut array = rows.column(*first).clone();
    for index in rest {
        let outer = array.as_struct_opt()?;
        let inner = outer.column(*index);
        array = match outer.nulls() {
            Some(_) => arrow::compute::nullif(inner, &arrow::compute::is_null(&array).ok()?).ok()?,
            None => inner.clone(),
        };
    }
    Some(array)
}

/// `window.start` and `window.end` are the columns `window_start` and `window_end`.
pub(super) fn window_field(name: &str) -> Option<&'static str> {
    match name.to_ascii_lowercase().as_str() {
        "window.start" | "session_window.start" => Some("window_start"),
        "window.end" | "session_window.end" => Some("window_end"),
        _ => None,
    }
}

pub(super) fn find(name: &str, schema: &Schema) -> Result<Option<usize>> {
    let fields = schema.fields();
    let mut exact = fields.iter().enumerate().filter(|(_, f)| f.name() == name).map(|(i, _)| i);
    if let Some(i) = exact.next() {
        return match exact.next() {
            None => Ok(Some(i)),
            Some(_) => Err(Error::schema(format!("column '{name}' is ambiguous: it occurs more than once"))),
        };
    }
    let lower = name.to_lowercase();
    let found: Vec<usize> =
        fields.iter().enumerate().filter(|(_, f)| f.name().to_lowercase() == lower).map(|(i, _)| i).collect();
    match found[..] {
        [] => Ok(None),
        [i] => Ok(Some(i)),
        _ => {
            let names: Vec<_> = found.iter().map(|&i| format!("'{}'", fields[i].name())).collect();
            Err(Error::schema(format!(
                "column '{name}' is ambiguous: it may be {}. Write it exactly, in backticks.",
                names.join(" or ")
            )))
        }
    }
}

/// Whether the name needs no backticks in SQL.
pub(super) fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c == '_' || c.is_alphabetic()) && name.chars().all(|c| c == '_' || c.is_alphanumeric())
}

/// The name for SQL, in backticks where it needs them.
pub(crate) fn quoted(name: &str) -> String {
    if is_plain(name) { name.to_string() } else { format!("`{}`", name.replace('`', "``")) }
}

/// Advice where the text is the name of a column that must be in backticks.
pub(super) fn meant(text: &str, schema: &Schema) -> Option<String> {
    let lower = text.trim().to_lowercase();
    let found = schema.fields().iter().find(|f| !is_plain(f.name()) && f.name().to_lowercase() == lower)?;
    Some(format!("There is a column of this name: write it in backticks, {}.", quoted(found.name())))
}

/// The same where the name of such a column is somewhere in the text.
pub(super) fn meant_within(text: &str, schema: &Schema) -> Option<String> {
    let lower = text.to_lowercase();
    let odd = schema.fields().iter().filter(|f| !is_plain(f.name()) && f.name().len() > 1 && !text.contains('`'));
    let found = odd.filter(|f| lower.contains(&f.name().to_lowercase())).max_by_key(|f| f.name().len())?;
    Some(format!("If column '{}' is meant, write it in backticks: {}.", found.name(), quoted(found.name())))
}

pub(super) fn unknown(name: &str, schema: &Schema) -> Error {
    if let Some(meant) = meant(name, schema) {
        return Error::schema(format!("there is no field '{name}'. {meant}"));
    }
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let shown: Vec<String> = names.iter().map(|n| quoted(n)).collect();
    let mut suggestion = did_you_mean(name, shown.iter().map(String::as_str));
    if suggestion.is_empty() {
        // Two swapped letters in a short name: "bmp".
        let lower = name.to_lowercase();
        let near = names.iter().find(|n| name.len() > 1 && strsim::osa_distance(&lower, &n.to_lowercase()) == 1);
        suggestion = near.map(|n| format!(" Did you mean '{n}'?")).unwrap_or_default();
    }
    let shown = if names.len() > 30 {
        format!("{}, and {} more", names[..30].join(", "), names.len() - 30)
    } else {
        names.join(", ")
    };
    Error::schema(format!("there is no column '{name}'.{suggestion} The columns are: {shown}."))
}
