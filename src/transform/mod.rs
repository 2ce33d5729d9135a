//! Rows to rows.
//!
//! ```text
//! (here)          one by one: `select`, `with_columns`, `rename`, `drop`, `where`, `union`
//! explode         several rows of one, with the places of these rows in it
//! map             batches through a function of the user
//! static_join     each row with the rows of a table in memory
//! deduplicate     rows that repeat no earlier row     \  they remember rows between epochs: state::Stateful
//! interval_join   with the rows of a second stream    /
//! join            the common part of both joins: pairs of keys, resulting columns
//! admit, keys     rows that are in time and have keys; keys as bytes, numbered
//! ```

mod admit;
pub(crate) mod deduplicate;
mod explode;
pub(crate) mod interval_join;
pub(crate) mod join;
mod keys;
pub(crate) mod map;
#[cfg(test)]
mod room_test;
pub(crate) mod static_join;
#[cfg(test)]
mod test;

pub(crate) use deduplicate::{DeduplicateSpec, Deduplicator};
pub(crate) use explode::{Explode, Exploding};
pub(crate) use interval_join::{IntervalJoin, IntervalJoinSpec};
pub(crate) use join::{JoinKind, bind_on, join_schema};
pub(crate) use static_join::{StaticJoinSpec, StaticTable};

use crate::Result;
use crate::batch::{Batch, FailedRow};
use crate::expr::{Bound, is_too_large};
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::prep_null_mask_filter;
use arrow::datatypes::{Field, Schema, SchemaRef};
use std::sync::Arc;

/// The result of a stage for a batch: the good rows, and the input rows that failed.
#[derive(Debug)]
pub struct Outcome {
    pub batch: Batch,
    pub failed: Vec<FailedRow>,
}

/// Computes new columns from old ones.
#[derive(Clone)]
pub struct Project {
    pub columns: Vec<Bound>,
    schema: SchemaRef,
}

impl Project {
    pub fn new(columns: Vec<Bound>, input: &Schema) -> Self {
        let field = |b: &Bound| {
            let metadata = b.as_column().map(|i| input.field(i).metadata().clone()).unwrap_or_default();
            Field::new(&b.name, b.data_type.clone(), b.nullable).with_metadata(metadata)
        };
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        Self { columns, schema }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns several parts, each with its input, if the values of a column do not fit into one batch.
    pub fn apply_in_parts(&self, input: &Batch) -> Result<Vec<(Batch, Outcome)>> {
        match self.apply(input) {
            Ok(out) => Ok(vec![(input.clone(), out)]),
            Err(e) if is_too_large(&e) && input.len() > 1 => {
                let half = input.len() / 2;
                let mut out = self.apply_in_parts(&input.slice(0, half))?;
                out.extend(self.apply_in_parts(&input.slice(half, input.len() - half))?);
                Ok(out)
            }
            Err(e) => Err(e),
        }
    }

    pub fn apply(&self, input: &Batch) -> Result<Outcome> {
        let mut failed: Vec<FailedRow> = vec![];
        let mut columns = Vec::with_capacity(self.columns.len());
        for expression in &self.columns {
            if let Some(i) = expression.as_column() {
                columns.push(input.rows.column(i).clone());
                continue;
            }
            let (array, errors) = expression.evaluate_rows(&input.rows)?;
            columns.push(array);
            failed.extend(
                errors.into_iter().map(|(row, e)| FailedRow::new(row, format!("column '{}': {e}", expression.name))),
            );
        }
        if failed.is_empty() {
            let options = RecordBatchOptions::new().with_row_count(Some(input.len()));
            let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
            return Ok(Outcome { batch: input.with_rows(rows), failed });
        }
        // Failed rows have NULLs, also in NOT NULL columns. So they are removed before the schema is checked.
        failed.sort_by_key(|f| f.row);
        failed.dedup_by_key(|f| f.row);
        let keep = keep_mask(input.len(), &failed);
        let kept = input.filter(&keep)?;
        let columns = columns.iter().map(|c| arrow::compute::filter(c, &keep)).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(kept.len()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        Ok(Outcome { batch: kept.with_rows(rows), failed })
    }
}

/// The rows for which a condition is TRUE.
#[derive(Clone)]
pub struct Filter {
    pub condition: Bound,
}

impl Filter {
    pub fn apply(&self, input: &Batch) -> Result<Outcome> {
        let (array, errors) = self.condition.evaluate_rows(&input.rows)?;
        let mask = is_true(array.as_boolean());
        let failed =
            errors.into_iter().map(|(row, e)| FailedRow::new(row, format!("condition '{}': {e}", self.condition.sql)));
        let batch = if mask.true_count() == input.len() { input.clone() } else { input.filter(&mask)? };
        Ok(Outcome { batch, failed: failed.collect() })
    }
}

/// NULL counts as false.
pub(crate) fn is_true(condition: &BooleanArray) -> BooleanArray {
    if condition.null_count() == 0 { condition.clone() } else { prep_null_mask_filter(condition) }
}

fn keep_mask(rows: usize, failed: &[FailedRow]) -> BooleanArray {
    let mut keep = vec![true; rows];
    for f in failed {
        keep[f.row as usize] = false;
    }
    keep.into()
}

/// The same rows with a different schema of the same types (the second input of a union, renamed columns).
pub(crate) fn relabel(input: &Batch, schema: &SchemaRef, columns: &[usize]) -> Result<Batch> {
    let arrays = columns.iter().map(|i| input.rows.column(*i).clone()).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(input.len()));
    Ok(input.with_rows(RecordBatch::try_new_with_options(schema.clone(), arrays, &options)?))
}
