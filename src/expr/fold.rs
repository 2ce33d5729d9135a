//! Sums of whole numbers, and the least and the greatest float, of groups straight from the values.
//!
//! DataFusion's accumulators need an array of wider numbers, or of keys, for each batch (see `spark_aggregates`). These accumulators widen each
//! value as it comes. Their states and results are the same, so either kind merges what the other kind left.

use super::float_order::{bits, bits32};
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::NullState;
use std::sync::Arc;

#[derive(Clone, Copy, Debug)]
pub(super) enum Fold {
    Sum,
    Least,
    Greatest,
}

/// Calls the function for the types of the values and of the state, with the first state, and how a value joins it.
macro_rules! of_types {
    ($call:ident, $fold:expr, $from:expr, $to:expr, $($first:expr),*) => {{
        use DataType as T;
        match ($fold, $from, $to) {
            // 64 bits have room for four billion times the largest INT. For BIGINT, the overflow shows at the end.
            (Fold::Sum, T::Int8, T::Int64) => $call::<Int8Type, Int64Type>($($first,)* $to, 0, i64::from, i64::wrapping_add),
            (Fold::Sum, T::Int16, T::Int64) => $call::<Int16Type, Int64Type>($($first,)* $to, 0, i64::from, i64::wrapping_add),
            (Fold::Sum, T::Int32, T::Int64) => $call::<Int32Type, Int64Type>($($first,)* $to, 0, i64::from, i64::wrapping_add),
            (Fold::Sum, T::Int64, T::Decimal128(_, 0)) => {
                $call::<Int64Type, Decimal128Type>($($first,)* $to, 0, i128::from, i128::wrapping_add)
            }
            (Fold::Least, T::Float32, T::Int32) => {
                $call::<Float32Type, Int32Type>($($first,)* $to, i32::MAX, bits32, i32::min)
            }
            (Fold::Least, T::Float64, T::Int64) => {
                $call::<Float64Type, Int64Type>($($first,)* $to, i64::MAX, bits, i64::min)
            }
            (Fold::Greatest, T::Float32, T::Int32) => {
                $call::<Float32Type, Int32Type>($($first,)* $to, i32::MIN, bits32, i32::max)
            }
            (Fold::Greatest, T::Float64, T::Int64) => {
                $call::<Float64Type, Int64Type>($($first,)* $to, i64::MIN, bits, i64::max)
            }
            (fold, from, to) => return Err(Error::internal(format!("{fold:?} of {from} as {to}"))),
        }
    }};
}

/// The accumulator of values of the type `from`, with a state of the type `to`.
pub(super) fn accumulator(fold: Fold, from: &DataType, to: &DataType) -> Result<Box<dyn GroupsAccumulator>> {
    Ok(of_types!(folded, fold, from, to,))
}

/// The state of all values together, as an array of one.
pub(super) fn state(fold: Fold, values: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    Ok(of_types!(all, fold, values.data_type(), to, values)?)
}

fn all<S: ArrowPrimitiveType, T: ArrowPrimitiveType>(
    values: &ArrayRef,
    to: &DataType,
    start: T::Native,
    widen: impl Fn(S::Native) -> T::Native,
    fold: impl Fn(T::Native, T::Native) -> T::Native,
) -> DfResult<ArrayRef> {
    let values = primitive::<S>(values)?;
    let one = match values.null_count() {
        0 => values.values().iter().fold(start, |all, v| fold(all, widen(*v))),
        _ => values.iter().flatten().fold(start, |all, v| fold(all, widen(v))),
    };
    let some = values.null_count() < values.len();
    Ok(Arc::new(PrimitiveArray::<T>::from_iter([some.then_some(one)]).with_data_type(to.clone())))
}

fn folded<S: ArrowPrimitiveType + Send, T: ArrowPrimitiveType + Send>(
    to: &DataType,
    start: T::Native,
    widen: impl Fn(S::Native) -> T::Native + Copy + Send + Sync + 'static,
    fold: impl Fn(T::Native, T::Native) -> T::Native + Copy + Send + Sync + 'static,
) -> Box<dyn GroupsAccumulator> {
    let from = std::marker::PhantomData::<S>;
    Box::new(Folded::<S, T, _, _> { values: vec![], seen: NullState::new(), start, to: to.clone(), widen, fold, from })
}

struct Folded<S, T: ArrowPrimitiveType, W, F> {
    /// By group.
    values: Vec<T::Native>,
    /// Which groups have had a value.
    seen: NullState,
    start: T::Native,
    to: DataType,
    widen: W,
    fold: F,
    from: std::marker::PhantomData<S>,
}

impl<S, T, W, F> Folded<S, T, W, F>
where
    S: ArrowPrimitiveType + Send,
    T: ArrowPrimitiveType + Send,
    W: Fn(S::Native) -> T::Native + Copy + Send + Sync + 'static,
    F: Fn(T::Native, T::Native) -> T::Native + Copy + Send + Sync + 'static,
{
    fn take<A: ArrowPrimitiveType + Send>(
        &mut self,
        values: &ArrayRef,
        groups: &[usize],
        only: Option<&BooleanArray>,
        total: usize,
        widen: impl Fn(A::Native) -> T::Native + Send + Sync,
    ) -> DfResult<()> {
        let values = primitive::<A>(values)?;
        self.values.resize(total, self.start);
        let (all, fold) = (&mut self.values, self.fold);
        self.seen.accumulate(groups, values, only, total, |group, value| {
            if let Some(old) = all.get_mut(group) {
                *old = fold(*old, widen(value));
            }
        });
        Ok(())
    }
}

fn primitive<A: ArrowPrimitiveType>(values: &ArrayRef) -> DfResult<&PrimitiveArray<A>> {
    let wrong = || datafusion::error::DataFusionError::Internal(format!("an accumulator got {}", values.data_type()));
    values.as_primitive_opt::<A>().ok_or_else(wrong)
}

fn first(values: &[ArrayRef]) -> DfResult<&ArrayRef> {
    let none = || datafusion::error::DataFusionError::Internal("an accumulator got no argument".into());
    values.first().ok_or_else(none)
}

impl<S, T, W, F> GroupsAccumulator for Folded<S, T, W, F>
where
    S: ArrowPrimitiveType + Send,
    T: ArrowPrimitiveType + Send,
    W: Fn(S::Native) -> T::Native + Copy + Send + Sync + 'static,
    F: Fn(T::Native, T::Native) -> T::Native + Copy + Send + Sync + 'static,
{
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        only: Option<&BooleanArray>,
        total: usize,
    ) -> DfResult<()> {
        self.take::<S>(first(values)?, groups, only, total, self.widen)
    }
    fn evaluate(&mut self, emit: EmitTo) -> DfResult<ArrayRef> {
        let values = emit.take_needed(&mut self.values);
        let nulls = self.seen.build(emit);
        Ok(Arc::new(PrimitiveArray::<T>::try_new(values.into(), nulls)?.with_data_type(self.to.clone())))
    }
    fn state(&mut self, emit: EmitTo) -> DfResult<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit)?])
    }
    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> DfResult<()> {
        self.take::<T>(first(values)?, groups, None, total, |v| v)
    }
    fn convert_to_state(&self, values: &[ArrayRef], only: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        let widened = primitive::<S>(first(values)?)?.unary::<_, T>(self.widen);
        let (_, values, nulls) = widened.into_parts();
        let kept = only.map(|only| {
            let valid = only.nulls().map_or_else(|| only.values().clone(), |nulls| nulls.inner() & only.values());
            NullBuffer::new(valid)
        });
        let nulls = NullBuffer::union(nulls.as_ref(), kept.as_ref());
        Ok(vec![Arc::new(PrimitiveArray::<T>::try_new(values, nulls)?.with_data_type(self.to.clone()))])
    }
    fn size(&self) -> usize {
        self.values.capacity() * size_of::<T::Native>() + self.seen.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::{Aggregate, Dialect, bind_aggregation};
    use arrow::array::{
        Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, RecordBatch, UInt32Array,
    };
    use arrow::compute::{concat, take_record_batch};
    use rand::{RngExt, SeedableRng};

    /// Rows whose values are often NULL, or where an order or a width ends.
    fn rows(n: usize) -> RecordBatch {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(11);
        let mut some = |k: usize| rng.random_range(0..5_usize) * usize::from(k > 0);
        let odd = [f64::NAN, -f64::NAN, -0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY, 1.5, -2.5, f64::MIN_POSITIVE];
        // The first rows are NULL, and so is each fifth value after them.
        let mut at = |i: usize, of: usize| (i >= 9 && some(i) > 0).then(|| (i * 7 + some(i)) % of);
        let doubles: Vec<Option<f64>> = (0..n).map(|i| at(i, odd.len()).map(|k| odd[k])).collect();
        let longs: Vec<Option<i64>> =
            (0..n).map(|i| at(i, 4).map(|k| [i64::MAX, i64::MIN, 3, i64::MIN + 1][k])).collect();
        let keep = (0..n).map(|i| at(i, 3).map(|k| k > 0)).collect::<BooleanArray>();
        let column = |name: &str, array: ArrayRef| (name.to_string(), array, true);
        RecordBatch::try_from_iter_with_nullable([
            column("f", Arc::new(doubles.iter().map(|v| v.map(|v| v as f32)).collect::<Float32Array>())),
            column("d", Arc::new(Float64Array::from(doubles))),
            column("t", Arc::new(longs.iter().map(|v| v.map(|v| v as i8)).collect::<Int8Array>())),
            column("s", Arc::new(longs.iter().map(|v| v.map(|v| (v >> 48) as i16)).collect::<Int16Array>())),
            column("i", Arc::new(longs.iter().map(|v| v.map(|v| (v >> 32) as i32)).collect::<Int32Array>())),
            column("b", Arc::new(Int64Array::from(longs))),
            column("keep", Arc::new(keep)),
        ])
        .unwrap()
    }

    fn bits_of(array: &ArrayRef) -> Vec<String> {
        // In this text, NaN equals itself, and -0.0 is not 0.0.
        (0..array.len()).map(|i| format!("{:?}", array.slice(i, 1))).collect()
    }

    type Made = fn(&Aggregate) -> Result<Box<dyn GroupsAccumulator>>;
    type Evaluated = fn(&Aggregate, &RecordBatch) -> Result<(Vec<ArrayRef>, Option<BooleanArray>)>;

    /// The results of up to seven groups. `how` has a letter for each third of the rows. `u`: the accumulator is updated with the rows. `c`: the rows
    /// are converted to state, and the state is merged. `m` and `v`: a second accumulator (`m`: `accumulator`, `v`: `accumulator_of_values`) merges
    /// the state of the rows first, and then the state of the second accumulator is merged.
    fn results(a: &Aggregate, rows: &RecordBatch, how: &str, made: Made, evaluated: Evaluated) -> ArrayRef {
        let groups: Vec<usize> = (0..rows.num_rows()).map(|i| i % 7).collect();
        let mut whole = made(a).unwrap();
        let step = rows.num_rows() / 3;
        for (k, how) in how.chars().enumerate() {
            let from = k * step;
            let (part, groups) = (rows.slice(from, step), &groups[from..from + step]);
            let (args, only) = evaluated(a, &part).unwrap();
            match how {
                'u' => whole.update_batch(&args, groups, only.as_ref(), 7).unwrap(),
                'c' => {
                    let state = whole.convert_to_state(&args, only.as_ref()).unwrap();
                    whole.merge_batch(&state, groups, 7).unwrap();
                }
                _ => {
                    // The second accumulator can be of the other kind: it merges the state of this kind.
                    let mut fresh = made(a).unwrap();
                    fresh.update_batch(&args, groups, only.as_ref(), 7).unwrap();
                    let first = fresh.state(EmitTo::First(3)).unwrap();
                    let rest = fresh.state(EmitTo::All).unwrap();
                    let state: Vec<ArrayRef> =
                        first.iter().zip(&rest).map(|(a, b)| concat(&[a.as_ref(), b.as_ref()]).unwrap()).collect();
                    for (s, f) in state.iter().zip(a.state_fields().unwrap()) {
                        assert_eq!(s.data_type(), f.data_type(), "{}", a.sql);
                    }
                    let mut other = if how == 'm' { a.accumulator() } else { a.accumulator_of_values() }.unwrap();
                    other.merge_batch(&state, &[0, 1, 2, 3, 4, 5, 6], 7).unwrap();
                    whole.merge_batch(&other.state(EmitTo::All).unwrap(), &[0, 1, 2, 3, 4, 5, 6], 7).unwrap();
                }
            }
        }
        whole.evaluate(EmitTo::All).unwrap()
    }

    #[test]
    fn values_and_their_wider_numbers_have_the_same_results_whatever_is_merged_with_what() {
        let all = rows(630);
        let reversed = take_record_batch(&all, &UInt32Array::from_iter_values((0..630).rev())).unwrap();
        let mut folds = 0;
        for text in [
            "sum(t)",
            "sum(s)",
            "sum(i)",
            "sum(b)",
            "try_sum(b)",
            "sum(i % 5)",
            "min(f)",
            "max(f)",
            "min(d)",
            "max(d)",
            "min(d * 2)",
            "max(DISTINCT d)",
            "count(b)",
            "avg(d)",
            "sum(DISTINCT b)",
            "min(b)",
            "max(keep)",
        ] {
            for filter in ["", " FILTER (WHERE keep)", " FILTER (WHERE i > 0)", " FILTER (WHERE false)"] {
                let items = [(None, format!("{text}{filter}"))];
                let bound = bind_aggregation(&items, &all.schema(), Dialect::Databricks).unwrap();
                let a = &bound.aggregates[0];
                folds += usize::from(a.fold.is_some());
                for rows in [&all, &reversed] {
                    for how in ["uuu", "umv", "ccc", "vcu", "mmm"] {
                        let wanted = results(a, rows, how, Aggregate::accumulator, Aggregate::evaluate);
                        let found = results(a, rows, how, Aggregate::accumulator_of_values, Aggregate::evaluate_values);
                        assert_eq!(bits_of(&wanted), bits_of(&found), "{}: {how}", a.sql);
                    }
                }
            }
        }
        // All but DISTINCT and those that take their values as they are.
        assert_eq!(folds, 12 * 4);
    }
}
