//! From Spark's grammar to typed expressions.
use super::{Bound, Dialect};
use crate::Result;
use arrow::datatypes::SchemaRef;
pub fn bind(text: &str, schema: &SchemaRef, dialect: Dialect) -> Result<Bound> {
    let _ = (text, schema, dialect);
    todo!()
}
pub fn bind_predicate(text: &str, schema: &SchemaRef, dialect: Dialect) -> Result<Bound> {
    let _ = (text, schema, dialect);
    todo!()
}
pub fn bind_select(items: &[String], schema: &SchemaRef, dialect: Dialect) -> Result<Vec<Bound>> {
    let _ = (items, schema, dialect);
    todo!()
}
