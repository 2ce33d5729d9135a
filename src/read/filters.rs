//! The conditions of one filter. The planner joins the filters of a query and of its outer queries into one AND. Then each condition must be
//! computed only for the rows that pass the other conditions: `WHERE a <> 0` in a subquery guards `10 / a > 1` in the outer query.

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr, split_conjunction};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use std::fmt;
use std::sync::Arc;

/// The plan, with filters whose conditions guard each other.
pub(super) fn guarded(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let Some(filter) = node.downcast_ref::<FilterExec>() else { return Ok(Transformed::no(node)) };
        let parts: Vec<_> = split_conjunction(filter.predicate()).into_iter().cloned().collect();
        let (may_fail, plain): (Vec<_>, Vec<_>) = parts.into_iter().partition(may_fail);
        if may_fail.is_empty() || may_fail.len() + plain.len() < 2 {
            return Ok(Transformed::no(node));
        }
        let predicate: Arc<dyn PhysicalExpr> = Arc::new(All { plain, may_fail });
        Ok(Transformed::yes(Arc::new(FilterExecBuilder::from(filter).with_predicate(predicate).build()?)))
    })
    .data()
}

/// Whether the expression can fail for some values. The planner's own comparisons cannot fail.
fn may_fail(expr: &Arc<dyn PhysicalExpr>) -> bool {
    expr.exists(|e| Ok(e.downcast_ref::<ScalarFunctionExpr>().is_some())).unwrap_or(true)
}

/// TRUE for the rows for which all conditions are TRUE, and FALSE for the others.
#[derive(Debug, PartialEq, Eq, Hash)]
struct All {
    plain: Vec<Arc<dyn PhysicalExpr>>,
    may_fail: Vec<Arc<dyn PhysicalExpr>>,
}

impl fmt::Display for All {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.plain.iter().chain(&self.may_fail).enumerate() {
            write!(f, "{}{part}", if i > 0 { " AND " } else { "" })?;
        }
        Ok(())
    }
}

/// The rows of `left` for which the condition is TRUE. `all`: the condition is computed for all rows, and not only for those of `left`.
fn narrowed(part: &Arc<dyn PhysicalExpr>, batch: &RecordBatch, left: &[bool], all: bool) -> Result<Vec<bool>> {
    let mut out = left.to_vec();
    let some;
    let rows = match all {
        true => batch,
        false => {
            some = filter_record_batch(batch, &BooleanArray::from(left.to_vec()))?;
            &some
        }
    };
    let values = part.evaluate(rows)?.into_array(rows.num_rows())?;
    let values = values.as_boolean();
    let mut at = 0;
    for (row, left) in out.iter_mut().enumerate() {
        if all {
            at = row;
        }
        if *left {
            *left = values.is_valid(at) && values.value(at);
            at += usize::from(!all);
        }
    }
    Ok(out)
}

impl PhysicalExpr for All {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }
    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(false)
    }
    fn return_field(&self, _: &Schema) -> Result<FieldRef> {
        Ok(Arc::new(Field::new("condition", DataType::Boolean, false)))
    }
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let mut left = vec![true; batch.num_rows()];
        for part in &self.plain {
            left = narrowed(part, batch, &left, true)?;
        }
        let mut waiting: Vec<&Arc<dyn PhysicalExpr>> = self.may_fail.iter().collect();
        while !waiting.is_empty() && left.contains(&true) {
            let mut failed = vec![];
            let mut first = None;
            let before = waiting.len();
            for part in waiting {
                // It is quicker to compute the condition for all rows, unless it fails for one of them.
                match narrowed(part, batch, &left, true).or_else(|_| narrowed(part, batch, &left, false)) {
                    Ok(narrower) => left = narrower,
                    Err(e) => {
                        failed.push(part);
                        first.get_or_insert(e);
                    }
                }
            }
            // A condition that failed is tried again, because the other conditions may have removed the rows for which it failed.
            if let Some(e) = first.filter(|_| failed.len() == before) {
                return Err(e);
            }
            waiting = failed;
        }
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::from(left))))
    }
    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.plain.iter().chain(&self.may_fail).collect()
    }
    fn with_new_children(self: Arc<Self>, mut parts: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let may_fail = parts.split_off(self.plain.len().min(parts.len()));
        Ok(Arc::new(Self { plain: parts, may_fail }))
    }
    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
