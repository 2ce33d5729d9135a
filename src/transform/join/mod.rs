//! The common part of both joins: pairs of keys, and the resulting columns.

#[cfg(test)]
mod test;

use crate::expr::{Bound, Dialect, bind, resolve_column, type_to_ddl};
use crate::{Error, Result};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The rows that a join emits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinKind {
    /// Pairs.
    Inner,
    /// Pairs, and left rows without a match, with NULLs in the right columns.
    Left,
}

impl fmt::Display for JoinKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inner => "inner",
            Self::Left => "left",
        })
    }
}

/// Resolves pairs of (left, right) column names. If the two are of one kind and differ in width, one side is cast,
/// because the bytes of keys are equal only for equal types.
pub(crate) fn bind_on(pairs: &[(String, String)], left: &SchemaRef, right: &SchemaRef) -> Result<Vec<(Bound, Bound)>> {
    if pairs.is_empty() {
        return Err(Error::schema("a join needs keys: name at least one column in on="));
    }
    pairs.iter().map(|(l, r)| bind_pair(l, r, left, right)).collect()
}

fn bind_pair(left: &str, right: &str, left_schema: &SchemaRef, right_schema: &SchemaRef) -> Result<(Bound, Bound)> {
    let at = |side: &str, name: &str, schema: &SchemaRef| {
        let i = resolve_column(name, schema).map_err(|e| e.context(format!("the join's {side} side")))?;
        Ok::<_, Error>(schema.field(i).clone())
    };
    let (l, r) = (at("left", left, left_schema)?, at("right", right, right_schema)?);
    let Some(to) = wider(l.data_type(), r.data_type()) else {
        let (lt, rt) = (type_to_ddl(l.data_type()), type_to_ddl(r.data_type()));
        return Err(Error::schema(format!(
            "the join's key '{}' is {lt} on the left and '{}' is {rt} on the right, and these types cannot be \
             compared. Cast one of them before the join: with_columns(\"CAST({} AS {lt}) AS {}\") on the right, or \
             with_columns(\"CAST({} AS {rt}) AS {}\") on the left.",
            l.name(),
            r.name(),
            quoted(r.name()),
            quoted(r.name()),
            quoted(l.name()),
            quoted(l.name()),
        )));
    };
    let bound = |field: &Field, schema: &SchemaRef| {
        let name = quoted(field.name());
        let text = match field.data_type() == to {
            true => name,
            false => format!("CAST({name} AS {}) AS {name}", type_to_ddl(to)),
        };
        bind(&text, schema, Dialect::Databricks)
    };
    Ok((bound(&l, left_schema)?, bound(&r, right_schema)?))
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// The wider of two types that differ only in width.
fn wider<'a>(a: &'a DataType, b: &'a DataType) -> Option<&'a DataType> {
    use DataType as T;
    let rank = |t: &T| match t {
        T::Int8 => Some((0, 0)),
        T::Int16 => Some((0, 1)),
        T::Int32 => Some((0, 2)),
        T::Int64 => Some((0, 3)),
        T::Float32 => Some((1, 0)),
        T::Float64 => Some((1, 1)),
        _ => None,
    };
    if a == b {
        return Some(a);
    }
    let ((kind_a, width_a), (kind_b, width_b)) = (rank(a)?, rank(b)?);
    match kind_a == kind_b {
        true => Some(if width_a >= width_b { a } else { b }),
        false => None,
    }
}

/// Checks that the keys of the two sides have the same types, pair by pair.
pub(super) fn split_on(place: &str, on: &[(Bound, Bound)]) -> Result<(Vec<Bound>, Vec<Bound>)> {
    for (l, r) in on {
        if l.data_type != r.data_type {
            return Err(Error::schema(format!(
                "{place}: the key '{}' is {} on the left and '{}' is {} on the right. CAST one of them before the join.",
                l.name,
                type_to_ddl(&l.data_type),
                r.name,
                type_to_ddl(&r.data_type)
            )));
        }
    }
    Ok(on.iter().cloned().unzip())
}

/// The kept right columns, and the resulting columns: the left ones, then the kept right ones. A right column gets
/// `suffix` if the left side has the same name. A key with the same name on both sides is emitted once.
pub(crate) fn join_schema(
    left: &Schema,
    right: &Schema,
    on: &[(Bound, Bound)],
    how: JoinKind,
    suffix: &str,
) -> Result<(Vec<usize>, SchemaRef)> {
    let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
    // Expressions are not columns, even if they use just one column. Their names distinguish them.
    let is_key = |i: usize| {
        on.iter().any(|(l, r)| {
            r.columns() == [i] && r.name == *right.field(i).name() && l.columns().len() == 1 && same(&l.name, &r.name)
        })
    };
    let kept: Vec<usize> = (0..right.fields().len()).filter(|i| !is_key(*i)).collect();
    let mut fields: Vec<Field> = left.fields().iter().map(|f| f.as_ref().clone()).collect();
    let width = fields.len();
    for &i in &kept {
        let field = right.field(i);
        let taken = |name: &str, fields: &[Field]| fields.iter().any(|f| same(f.name(), name));
        let name = match taken(field.name(), &fields[..width]) {
            true => format!("{}{suffix}", field.name()),
            false => field.name().clone(),
        };
        if taken(&name, &fields) {
            return Err(Error::schema(format!(
                "the join would have two columns '{name}' (upper and lower case are the same), so the right column \
                 '{}' cannot have that name. Rename one of them before the join with rename(), or give a different \
                 suffix.",
                field.name()
            )));
        }
        let nullable = field.is_nullable() || how == JoinKind::Left;
        fields.push(Field::new(name, field.data_type().clone(), nullable).with_metadata(field.metadata().clone()));
    }
    Ok((kept, Arc::new(Schema::new(fields))))
}
