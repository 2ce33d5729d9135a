//! Errors that the user's own SQL raises. A row for which one is raised is treated as any row for which an expression fails.

use super::{Call, Spec, spec};
use crate::Result;
use crate::expr::coerce::Param::{Bool, Text};
use crate::expr::evaluate::row_error;
use crate::expr::node::Typed;
use arrow::array::{ArrayRef, NullArray};
use arrow::datatypes::DataType;
use std::sync::Arc;

pub(super) const LIST: &[Spec] = &[
    spec("raise_error", "raise_error(message)", raise),
    spec("assert_true", "assert_true(condition[, message])", assert),
];

/// The value is NULL for no row: it fails for each.
fn raise(c: Call) -> Result<Typed> {
    let mut c = c.take(&[Text], 1)?;
    c.sql = format!("raise_error(USER_RAISED_EXCEPTION, map(errorMessage, {}))", c.args[0].sql);
    c.build_nullable(DataType::Null, |a| {
        let text = a.str(0)?;
        if a.rows > 0 {
            return Err(row_error(format!("raised by the query: {}", text.get(0).unwrap_or("null"))));
        }
        Ok(Arc::new(NullArray::new(0)) as ArrayRef)
    })
}

/// NULL where the condition is true.
fn assert(c: Call) -> Result<Typed> {
    let mut c = c.take(&[Bool, Text], 1)?;
    if c.args.len() == 1 {
        let shown = if c.args[0].is_null_literal() { "null" } else { c.args[0].sql.as_str() };
        let message = format!("'{shown}' is not true!");
        c.args.push(Typed::literal(message.as_str().into(), message.clone()));
    }
    c.sql = format!("assert_true({}, {})", c.args[0].sql, c.args[1].sql);
    c.build_nullable(DataType::Null, |a| {
        let (condition, text) = (a.bool(0)?, a.str(1)?);
        match (0..a.rows).find(|row| condition.get(*row) != Some(true)) {
            Some(row) => Err(row_error(format!("raised by the query: {}", text.get(row).unwrap_or("null")))),
            None => Ok(Arc::new(NullArray::new(a.rows)) as ArrayRef),
        }
    })
}
