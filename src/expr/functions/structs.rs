//! Structs: `struct(a, b AS name)`, `(a, b)` and `named_struct('a', x)`.

use super::{Call, Spec, spec};
use crate::expr::lists::record;
use crate::expr::node::Typed;
use crate::expr::parse::Ast;
use crate::{Error, Result};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::error::Result as DfResult;
use std::sync::Arc;

pub(super) const LIST: &[Spec] = &[
    spec("named_struct", "named_struct(name, value, …)", named_struct),
    spec("struct", "struct(a, b AS name, …)", |c| Err(c.error("it needs a value"))),
];

fn named_struct(mut c: Call) -> Result<Typed> {
    if c.args.is_empty() || c.args.len() % 2 == 1 {
        return Err(c.error("names and values come in pairs"));
    }
    let (mut names, mut values) = (vec![], vec![]);
    let mut args = std::mem::take(&mut c.args).into_iter();
    while let (Some(name), Some(value)) = (args.next(), args.next()) {
        match name.text() {
            Some(name) => names.push(name.to_string()),
            None => return Err(c.error("a name must be a constant string")),
        }
        values.push(value);
    }
    build(names, values, c.sql)
}

/// A struct of these values.
pub(in crate::expr) fn build(names: Vec<String>, values: Vec<Typed>, sql: String) -> Result<Typed> {
    if values.is_empty() {
        return Err(Error::schema(format!("{sql}: a STRUCT needs a field")));
    }
    if let Some(v) = values.iter().find(|v| crate::expr::coerce::is_interval(&v.data_type)) {
        return Err(Error::schema(format!("{sql}: {} is an INTERVAL, which no STRUCT can hold", v.sql)));
    }
    let field = |(name, value): (String, &Typed)| Field::new(name, value.data_type.clone(), true);
    let fields: Fields = names.into_iter().zip(&values).map(field).collect::<Vec<_>>().into();
    let to = DataType::Struct(fields.clone());
    let mut typed = Typed::call(
        values,
        to,
        false,
        sql,
        Arc::new(move |a| {
            let columns = (0..a.len()).map(|k| a.full(k)).collect::<DfResult<Vec<_>>>()?;
            record(&fields, columns, None, a.rows)
        }),
    );
    typed.nullable = false;
    Ok(typed)
}

/// The name that Spark takes from an expression for a field, if it has one.
pub(in crate::expr) fn name_of(ast: &Ast) -> Option<String> {
    match ast {
        Ast::Column(path) => path.last().cloned(),
        Ast::Field(_, name) => Some(name.clone()),
        Ast::Subscript(_, key) => match &**key {
            Ast::Text(name) => Some(name.clone()),
            _ => None,
        },
        _ => None,
    }
}
