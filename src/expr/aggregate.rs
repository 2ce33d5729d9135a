//! One bound aggregate over groups.

use super::evaluate::failure;
use super::ordered;
use crate::{Error, Result};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, ListArray, RecordBatch, UInt32Array, UInt32Builder,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{CastOptions, cast_with_options, sort_to_indices, take};
use arrow::datatypes::{DataType, Decimal128Type, FieldRef, Float64Type};
use datafusion::logical_expr::GroupsAccumulator;
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
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
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Finish {
    /// A checked cast to the aggregate's type: out of range is an error.
    Cast,
    /// NULL for the empty group is an empty list (collect_list, collect_set).
    EmptyList,
    /// The value of each list that stands at this share of it.
    Percentile(f64),
    /// As `Percentile`, but between two values where it falls between them.
    Interpolated(f64),
    /// Keys whose order is Spark's order of floats, back to floats.
    Ordered,
}

impl fmt::Debug for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.sql, self.data_type)
    }
}

impl Aggregate {
    /// The native groups accumulator, or DataFusion's adapter when the aggregate has none.
    ///
    /// DataFusion takes every group below `total_num_groups` for seen: give it the number of groups that had a row so far, no more,
    /// or a sum over no rows is 0 instead of NULL. (So a part of the rows numbers its groups by itself; `merge_batch` renumbers.)
    pub fn accumulator(&self) -> Result<Box<dyn GroupsAccumulator>> {
        if self.function.groups_accumulator_supported() {
            return Ok(self.function.create_groups_accumulator()?);
        }
        let function = self.function.clone();
        Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
    }

    /// The finished result over no rows at all, as an array of one. A groups accumulator cannot tell it: to DataFusion a group
    /// begins with its first row (an average of DECIMAL even panics).
    pub fn over_nothing(&self) -> Result<ArrayRef> {
        let value = self.function.create_accumulator()?.evaluate()?;
        self.finish(value.to_array()?)
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
        match self.finish {
            Finish::Cast => self.cast(array),
            Finish::EmptyList => {
                let list = list_array(&array, &self.sql)?;
                let lengths = (0..list.len()).map(|i| if list.is_null(i) { 0 } else { list.value_length(i) as usize });
                let DataType::List(field) = &self.data_type else { return Ok(array) };
                let offsets = OffsetBuffer::from_lengths(lengths);
                // A NULL list has no elements of its own, so that the values stay where they are.
                let values = present_values(list)?;
                let values = arrow::compute::cast(&values, field.data_type())?;
                Ok(Arc::new(ListArray::try_new(field.clone(), offsets, values, None)?))
            }
            Finish::Ordered => ordered::value(&array),
            Finish::Interpolated(p) => {
                let list = list_array(&array, &self.sql)?;
                let value = |i: usize| {
                    let values = list.value(i);
                    let mut values: Vec<f64> = values.as_primitive::<Float64Type>().iter().flatten().collect();
                    values.sort_by_key(|v| ordered::bits(*v));
                    let position = (values.len() as f64 - 1.0) * p;
                    let (low, high) = (position.floor(), position.ceil());
                    if low == high {
                        return values[low as usize];
                    }
                    (high - position) * values[low as usize] + (position - low) * values[high as usize]
                };
                let some = |i: usize| list.is_valid(i) && list.value_length(i) > 0;
                Ok(Arc::new((0..list.len()).map(|i| some(i).then(|| value(i))).collect::<Float64Array>()))
            }
            Finish::Percentile(p) => {
                let list = list_array(&array, &self.sql)?;
                let mut picked = UInt32Builder::with_capacity(list.len());
                for i in 0..list.len() {
                    if list.is_null(i) || list.value_length(i) == 0 {
                        picked.append_null();
                        continue;
                    }
                    let order = sort_to_indices(&list.value(i), None, None)?;
                    let n = order.len();
                    let rank = ((p * n as f64).ceil() as usize).clamp(1, n);
                    picked.append_value(list.value_offsets()[i] as u32 + order.value(rank - 1));
                }
                self.cast(take(list.values(), &picked.finish(), None)?)
            }
        }
    }

    fn cast(&self, array: ArrayRef) -> Result<ArrayRef> {
        let overflow = || Error::malformed(super::arith::OVERFLOW).context(&self.sql);
        if let (DataType::Decimal128(p, _), Some(d)) = (&self.data_type, array.as_primitive_opt::<Decimal128Type>()) {
            if *d.data_type() == self.data_type && d.iter().flatten().any(|v| super::text::fits(v, *p).is_none()) {
                return Err(overflow());
            }
        }
        if *array.data_type() == self.data_type {
            return Ok(array);
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(&array, &self.data_type, &options).map_err(|_| overflow())
    }

    fn failed(&self, e: &datafusion::error::DataFusionError) -> Error {
        Error::malformed(failure(e)).context(&self.sql)
    }
}

fn list_array<'a>(array: &'a ArrayRef, sql: &str) -> Result<&'a ListArray> {
    array.as_list_opt::<i32>().ok_or_else(|| Error::internal(format!("{sql}: its result is {}", array.data_type())))
}

/// The elements of all lists that are not NULL, in order.
fn present_values(list: &ListArray) -> Result<ArrayRef> {
    let offsets = list.value_offsets();
    let wanted: UInt32Array =
        (0..list.len()).filter(|&i| list.is_valid(i)).flat_map(|i| offsets[i] as u32..offsets[i + 1] as u32).collect();
    Ok(take(list.values(), &wanted, None)?)
}
