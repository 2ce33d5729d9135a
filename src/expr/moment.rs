//! The moment that `current_timestamp()` and similar functions return. It is the same for all rows of an epoch.
//!
//! Expressions are evaluated deep within the stages, and no expression has a clock. So the engine sets the moment before it runs the stages (for
//! an epoch, a batch of an iterator, or rows in memory). The moment counts for the engine's thread until the stages have run. A stage never waits
//! for a different thread, so the moment cannot be that of a different query. Without a moment, the expression is an error. It never uses the
//! machine's clock.

use super::evaluate::row_error;
use super::node::Typed;
use crate::time::{EventTime, timestamp_type};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

thread_local! {
    static MOMENT: Cell<Option<i64>> = const { Cell::new(None) };
}

/// While it lives, `current_timestamp()` has a value on this thread.
#[must_use]
pub(crate) struct Moment {
    before: Option<i64>,
}

impl Moment {
    pub(crate) fn is(at: EventTime) -> Self {
        Self { before: MOMENT.replace(Some(at.0)) }
    }
}

impl Drop for Moment {
    fn drop(&mut self) {
        MOMENT.set(self.before);
    }
}

/// `current_timestamp()`.
pub(super) fn now(sql: &str) -> Typed {
    Typed::other(Arc::new(Now), timestamp_type(), false, sql.into())
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Now;

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("current_timestamp()")
    }
}

impl PhysicalExpr for Now {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(timestamp_type())
    }
    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(false)
    }
    fn evaluate(&self, _: &RecordBatch) -> Result<ColumnarValue> {
        let at =
            MOMENT.get().ok_or_else(|| row_error("there is no epoch here, so current_timestamp() has no value"))?;
        Ok(ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(Some(at), Some("UTC".into()))))
    }
    fn return_field(&self, _: &Schema) -> Result<FieldRef> {
        Ok(Arc::new(Field::new("current_timestamp()", timestamp_type(), false)))
    }
    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![]
    }
    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(self)
    }
    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
