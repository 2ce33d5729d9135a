//! One bound aggregate over groups.

use super::evaluate::failure;
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::logical_expr::GroupsAccumulator;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::GroupsAccumulatorAdapter;
use std::fmt;
use std::sync::Arc;

/// One bound aggregate over groups, such as `count(bpm)`, `avg(x) FILTER (WHERE y > 1)`, `count(DISTINCT model)`.
#[derive(Clone)]
pub struct Aggregate {
    /// As Spark names it.
    pub name: String,
    pub sql: String,
    /// What `finish` gives.
    pub data_type: DataType,
    pub nullable: bool,
    pub function: Arc<AggregateFunctionExpr>,
    pub arguments: Vec<Arc<dyn PhysicalExpr>>,
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// Always empty so far: aggregates whose result depends on the order of rows are refused.
    pub order_by: Vec<PhysicalSortExpr>,
    /// Whether the state grows with the values (DISTINCT, median, lists).
    pub grows: bool,
    pub(super) finish: Finish,
}

/// What becomes of the accumulator's output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Finish {
    AsIs,
    /// A checked cast to the aggregate's type: out of range is an error.
    Cast,
    /// NULL for the empty group is an empty list (collect_list, collect_set).
    EmptyList,
}

impl fmt::Debug for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.sql, self.data_type)
    }
}

impl Aggregate {
    /// The native groups accumulator, or DataFusion's adapter when the aggregate has none.
    pub fn accumulator(&self) -> Result<Box<dyn GroupsAccumulator>> {
        if self.function.groups_accumulator_supported() {
            return Ok(self.function.create_groups_accumulator()?);
        }
        let function = self.function.clone();
        Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
    }

    pub fn state_fields(&self) -> Result<Vec<FieldRef>> {
        Ok(self.function.state_fields()?)
    }

    pub fn evaluate_arguments(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let rows = batch.num_rows();
        let evaluate = |e: &Arc<dyn PhysicalExpr>| e.evaluate(batch).and_then(|v| v.into_array(rows));
        self.arguments.iter().map(|e| evaluate(e).map_err(|e| self.failed(&e))).collect()
    }

    pub fn evaluate_filter(&self, batch: &RecordBatch) -> Result<Option<BooleanArray>> {
        let Some(filter) = &self.filter else { return Ok(None) };
        let array = filter.evaluate(batch).and_then(|v| v.into_array(batch.num_rows())).map_err(|e| self.failed(&e))?;
        let array = array
            .as_boolean_opt()
            .ok_or_else(|| Error::internal(format!("{}: its filter is {}", self.sql, array.data_type())))?;
        Ok(Some(array.clone()))
    }

    /// The accumulator's output as Spark types it.
    pub fn finish(&self, array: ArrayRef) -> Result<ArrayRef> {
        super::aggregation::finish(self, array)
    }

    pub(super) fn failed(&self, e: &datafusion::error::DataFusionError) -> Error {
        Error::malformed(failure(e)).context(&self.sql)
    }
}
