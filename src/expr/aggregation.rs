//! The aggregates of one `agg(...)`: the distinct inner ones, and the expressions over them.

use super::{Aggregate, Bound, Dialect};
use crate::Result;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use std::sync::Arc;

/// A list of aggregates as the user typed it, each possibly an expression over aggregates.
pub struct Aggregation {
    /// The distinct inner ones: `sum(a) / count(*)` has two.
    pub aggregates: Vec<Aggregate>,
    inner: SchemaRef,
    outer: Vec<Bound>,
}

impl Aggregation {
    /// The output columns.
    pub fn outputs(&self) -> Vec<Field> {
        self.outer.iter().map(|b| Field::new(&b.name, b.data_type.clone(), b.nullable)).collect()
    }

    /// From the finished inner results (in order of `aggregates`) to the output columns.
    pub fn project(&self, inner: &[ArrayRef], rows: usize) -> Result<Vec<ArrayRef>> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.inner.clone(), inner.to_vec(), &options)?;
        self.outer.iter().map(|b| b.evaluate(&batch)).collect()
    }
}

/// Binds `agg(...)`'s items: (alias, text). Those without an alias are named as Spark names them.
pub fn bind_aggregation(
    items: &[(Option<String>, String)],
    schema: &SchemaRef,
    dialect: Dialect,
) -> Result<Aggregation> {
    let _ = (items, schema, dialect, Schema::empty(), Arc::new(()));
    todo!()
}
pub(super) fn finish(_: &Aggregate, _: ArrayRef) -> Result<ArrayRef> {
    todo!()
}
