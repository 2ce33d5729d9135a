//! Results over the list of all values of a group: percentiles, and the most frequent value. They do not depend on the order of the list.

use super::cast::implicit;
use super::float_order::{self, normalize};
use super::node::Typed;
use crate::{Error, Result};
use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Float64Builder, ListArray, ListBuilder, UInt32Builder, make_comparator,
};
use arrow::compute::{SortOptions, sort_to_indices, take};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::ScalarValue;
use std::sync::Arc;

/// The shares of `percentile` and similar aggregates.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shares {
    pub values: Vec<f64>,
    /// The shares were written as an array, so the result is an array.
    pub list: bool,
    /// WITHIN GROUP (ORDER BY x DESC).
    pub descending: bool,
    /// The result is a value of the group, and never a value between two of them.
    pub discrete: bool,
}

impl Shares {
    pub(super) fn one(value: f64) -> Self {
        Self { values: vec![value], list: false, descending: false, discrete: false }
    }

    /// From lists of doubles.
    pub(super) fn doubles(&self, list: &ListArray) -> Result<ArrayRef> {
        let mut sorted: Vec<f64> = vec![];
        let mut groups = |i: usize| -> Option<Vec<f64>> {
            if list.is_null(i) || list.value_length(i) == 0 || self.values.is_empty() {
                return None;
            }
            let values = list.value(i);
            sorted.clear();
            sorted.extend(values.as_primitive::<Float64Type>().iter().flatten());
            sorted.sort_by_key(|v| float_order::bits(*v));
            if self.descending {
                sorted.reverse();
            }
            Some(self.values.iter().map(|p| self.at(&sorted, *p)).collect())
        };
        if !self.list {
            let value = |i| groups(i).and_then(|all| all.first().copied());
            return Ok(Arc::new((0..list.len()).map(value).collect::<Float64Array>()));
        }
        let DataType::List(field) = super::ddl::list_of(DataType::Float64) else {
            return Err(Error::internal("no list type"));
        };
        let mut out = ListBuilder::new(Float64Builder::new()).with_field(field);
        for i in 0..list.len() {
            match groups(i) {
                Some(all) => {
                    out.values().append_slice(&all);
                    out.append(true);
                }
                None => out.append_null(),
            }
        }
        Ok(Arc::new(out.finish()))
    }

    fn at(&self, sorted: &[f64], share: f64) -> f64 {
        let n = sorted.len();
        if self.discrete {
            let rank = (share * n as f64).ceil() as usize;
            return sorted[rank.clamp(1, n) - 1];
        }
        let position = (n as f64 - 1.0) * share;
        let (low, high) = (position.floor(), position.ceil());
        if low == high {
            return sorted[low as usize];
        }
        (high - position) * sorted[low as usize] + (position - low) * sorted[high as usize]
    }

    /// From lists of values of any type with an order: the least value with at least this share of the values up to it.
    pub(super) fn picked(&self, list: &ListArray, field: Option<&arrow::datatypes::FieldRef>) -> Result<ArrayRef> {
        let mut picked = UInt32Builder::with_capacity(list.len() * self.values.len());
        let mut some = vec![];
        for i in 0..list.len() {
            let empty = list.is_null(i) || list.value_length(i) == 0 || self.values.is_empty();
            some.push(!empty);
            if empty {
                if field.is_none() {
                    picked.append_null();
                }
                continue;
            }
            let order = sort_to_indices(&normalize(&list.value(i)), None, None)?;
            let n = order.len();
            for p in &self.values {
                let rank = ((*p * n as f64).ceil() as usize).clamp(1, n);
                picked.append_value(list.value_offsets()[i] as u32 + order.value(rank - 1));
            }
        }
        let values = take(list.values(), &picked.finish(), None)?;
        let Some(field) = field else { return Ok(values) };
        let values = arrow::compute::cast(&values, field.data_type())?;
        let lengths = some.iter().map(|s| if *s { self.values.len() } else { 0 });
        let offsets = arrow::buffer::OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(ListArray::try_new(field.clone(), offsets, values, Some(some.into()))?))
    }
}

/// The most frequent value of each list. If there are several, the least or the greatest of them.
pub(super) fn mode(list: &ListArray, greatest: bool) -> Result<ArrayRef> {
    let mut picked = UInt32Builder::with_capacity(list.len());
    for i in 0..list.len() {
        if list.is_null(i) || list.value_length(i) == 0 {
            picked.append_null();
            continue;
        }
        // As in Spark, -0.0 and 0.0 are two values here.
        let values = list.value(i);
        let options = SortOptions { descending: greatest, nulls_first: true };
        let order = sort_to_indices(&values, Some(options), None)?;
        let compare = make_comparator(&values, &values, SortOptions::default())?;
        let (mut best, mut most, mut run) = (order.value(0), 0, 0);
        for k in 0..order.len() {
            let same = k > 0 && compare(order.value(k - 1) as usize, order.value(k) as usize).is_eq();
            run = if same { run + 1 } else { 1 };
            if run > most {
                (best, most) = (order.value(k), run);
            }
        }
        picked.append_value(list.value_offsets()[i] as u32 + best);
    }
    Ok(take(list.values(), &picked.finish(), None)?)
}

/// The shares that a call was given.
pub(super) fn percentages(all: &[Typed], wrong: &dyn Fn(String) -> Error) -> Result<Vec<f64>> {
    all.iter().map(|one| percentage(std::slice::from_ref(one), wrong)).collect()
}

pub(super) fn percentage(rest: &[Typed], wrong: &dyn Fn(String) -> Error) -> Result<f64> {
    let constant =
        rest.first().and_then(|p| implicit(p.clone(), &DataType::Float64).ok()).and_then(|p| p.constant().cloned());
    match constant {
        Some(ScalarValue::Float64(Some(p))) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err(wrong("the percentage must be a constant between 0 and 1".into())),
    }
}
