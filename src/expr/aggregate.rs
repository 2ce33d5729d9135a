//! One bound aggregate over groups.

use super::evaluate::{guarded, is_deep};
use super::float_order;
use super::fold::{self, Fold};
use super::group_function::Called;
use super::kernel::{is_true, spread};
use super::node::Typed;
use super::shares::{self, Shares};
use super::sorted_rows::{Rows, Sorted};
use crate::{Error, Kind, Result};
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Decimal128Array, Float64Array, ListArray,
    RecordBatch, StringBuilder, UInt32Array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch, take};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, FieldRef, Int64Type, SchemaRef, i256};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{AggregateUDF, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_expr_common::utils::scatter;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// One bound aggregate over groups, such as `count(bpm)`, `avg(x) FILTER (WHERE y > 1)`, `count(DISTINCT model)`.
#[derive(Clone)]
pub struct Aggregate {
    /// The name that Spark gives it.
    pub name: String,
    pub sql: String,
    /// The type of what `finish` returns.
    pub data_type: DataType,
    pub nullable: bool,
    pub function: Arc<AggregateFunctionExpr>,
    pub arguments: Vec<Arc<dyn PhysicalExpr>>,
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// The order of the rows for the result. The arguments contain it already (see `sorted_rows`), so accumulators do not need it.
    pub order_by: Vec<PhysicalSortExpr>,
    /// Whether the state grows with the values (DISTINCT, median, lists).
    pub grows: bool,
    /// Its arguments are so deep that they are evaluated on a larger stack.
    pub(super) deep: bool,
    pub(super) finish: Finish,
    /// The original values, from which `arguments` makes wider numbers or keys, and their type.
    pub(super) fold: Option<(Fold, Arc<dyn PhysicalExpr>, DataType)>,
}

/// How the accumulator's output becomes the result.
#[derive(Clone, Debug)]
pub(super) enum Finish {
    /// A checked cast to the type of the aggregate. A value out of range is an error.
    Cast,
    /// An empty list instead of the NULL of an empty group (collect_list, collect_set).
    EmptyList,
    /// As `Cast`, but a value out of range is NULL.
    Try,
    /// The values at these shares of each sorted list.
    Percentile(Shares),
    /// The bitmap of a list of positions, or of bitmaps.
    Bitmap,
    /// The most frequent value of each list. If there are several, the least or the greatest of them.
    Mode { greatest: bool },
    /// The mean of each list of whole numbers.
    Mean,
    /// As `Percentile`, but interpolated where the share falls between two values.
    Interpolated(Shares),
    /// From keys whose order is Spark's order of floats back to floats.
    Ordered,
    /// From a row as bytes to its value.
    Row(Arc<Sorted>),
    /// From lists of rows as bytes to the result.
    Rows(Arc<Sorted>, Rows),
    /// From lists of rows as bytes, through a function, to the result.
    Function(Arc<Called>),
}

/// An aggregate before it is built.
pub(super) struct Plan {
    pub udaf: Arc<AggregateUDF>,
    pub args: Vec<Typed>,
    pub data_type: DataType,
    pub nullable: bool,
    pub finish: Finish,
    pub grows: bool,
    pub distinct: bool,
    pub ignore_nulls: bool,
    pub order_by: Vec<PhysicalSortExpr>,
    pub fold: Option<(Fold, Typed)>,
}

impl Plan {
    pub(super) fn new(udaf: Arc<AggregateUDF>, args: Vec<Typed>, data_type: DataType) -> Self {
        Self {
            udaf,
            args,
            data_type,
            nullable: true,
            finish: Finish::Cast,
            grows: false,
            distinct: false,
            ignore_nulls: false,
            order_by: vec![],
            fold: None,
        }
    }
    /// Groups may take the value itself in place of the argument.
    pub(super) fn folds(mut self, fold: Fold, value: Typed) -> Self {
        self.fold = Some((fold, value));
        self
    }
    pub(super) fn not_null(mut self) -> Self {
        self.nullable = false;
        self
    }
    pub(super) fn grows(mut self) -> Self {
        self.grows = true;
        self
    }
    pub(super) fn ignore_nulls(mut self) -> Self {
        self.ignore_nulls = true;
        self
    }
    pub(super) fn finish(mut self, finish: Finish) -> Self {
        self.finish = finish;
        self
    }

    pub(super) fn build(
        self,
        sql: String,
        filter: Option<Arc<dyn PhysicalExpr>>,
        schema: &SchemaRef,
    ) -> Result<Aggregate> {
        let arguments: Vec<_> = self.args.iter().map(|a| a.expr.clone()).collect();
        let built = AggregateExprBuilder::new(self.udaf, arguments.clone())
            .schema(schema.clone())
            .alias(&sql)
            .with_distinct(self.distinct)
            .with_ignore_nulls(self.ignore_nulls)
            .build()
            .map_err(|e| Error::schema(format!("{sql}: {}", e.find_root())))?;
        let deep = is_deep(&arguments) || filter.as_ref().is_some_and(|f| is_deep(std::slice::from_ref(f)));
        Ok(Aggregate {
            deep,
            name: sql.clone(),
            sql,
            data_type: self.data_type,
            nullable: self.nullable,
            function: Arc::new(built),
            arguments,
            filter,
            order_by: self.order_by,
            grows: self.grows || self.distinct,
            finish: self.finish,
            fold: self.fold.filter(|_| !self.distinct).map(|(fold, value)| (fold, value.expr, value.data_type)),
        })
    }
}

impl fmt::Debug for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.sql, self.data_type)
    }
}

impl Aggregate {
    /// The input columns that the aggregate reads.
    pub fn columns(&self) -> Vec<usize> {
        let value = self.fold.iter().map(|(_, value, _)| value);
        let all = self.arguments.iter().chain(&self.filter).chain(value);
        all.flat_map(|e| collect_columns(e).into_iter().map(|c| c.index())).collect()
    }

    /// Distinguishes the aggregate from other aggregates.
    pub fn identity(&self) -> String {
        let exprs: Vec<_> = self.arguments.iter().chain(&self.filter).cloned().collect();
        super::evaluate::identity(&self.sql, &exprs)
    }

    /// The native groups accumulator, or DataFusion's adapter when the aggregate has none.
    ///
    /// DataFusion assumes that every group below `total_num_groups` has had a row. Pass the number of groups that had a row so far and no
    /// more, or a sum over no rows is 0 instead of NULL. (So each part of the rows numbers its own groups, and `merge_batch` renumbers.)
    pub fn accumulator(&self) -> Result<Box<dyn GroupsAccumulator>> {
        if self.function.groups_accumulator_supported() {
            return Ok(self.function.create_groups_accumulator()?);
        }
        let function = self.function.clone();
        Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
    }

    /// As `accumulator`, over the arguments of `evaluate_values`. The states are the same.
    pub fn accumulator_of_values(&self) -> Result<Box<dyn GroupsAccumulator>> {
        let Some((fold, _, from)) = &self.fold else { return self.accumulator() };
        let state = self.state_fields()?;
        let to = state.first().ok_or_else(|| Error::internal(format!("{}: it has no state", self.sql)))?;
        fold::accumulator(*fold, from, to.data_type())
    }

    /// The state of all rows together, of the arguments of `evaluate_values`, for `merge_batch`. `None`: the accumulator takes them itself.
    pub fn state_of_values(&self, values: &[ArrayRef]) -> Result<Option<ArrayRef>> {
        let (Some((fold, _, _)), [values]) = (&self.fold, values) else { return Ok(None) };
        let state = self.state_fields()?;
        let to = state.first().ok_or_else(|| Error::internal(format!("{}: it has no state", self.sql)))?;
        fold::state(*fold, values, to.data_type()).map(Some)
    }

    /// The finished result over no rows at all, as an array of one. A groups accumulator does not have it, because a group of
    /// DataFusion's begins with its first row (an average of DECIMAL even panics).
    pub fn over_nothing(&self) -> Result<ArrayRef> {
        let value = self.function.create_accumulator()?.evaluate()?;
        self.finish(value.to_array()?)
    }

    pub fn state_fields(&self) -> Result<Vec<FieldRef>> {
        Ok(self.function.state_fields()?)
    }

    /// Checks that the state of the accumulator has the types of `state_fields` and can be merged again.
    pub(super) fn check_state(&self) -> Result<()> {
        let mut accumulator = self.function.create_accumulator()?;
        let state = accumulator.state()?;
        let fields = self.state_fields()?;
        let fits = |(s, f): (&ScalarValue, &FieldRef)| s.data_type().equals_datatype(f.data_type());
        if fields.len() != state.len() || !state.iter().zip(&fields).all(fits) {
            return Err(Error::internal(format!("{}: its state is not as it says", self.sql)));
        }
        let arrays = state.iter().map(|s| s.to_array()).collect::<Result<Vec<_>, _>>()?;
        self.function.create_accumulator()?.merge_batch(&arrays)?;
        self.accumulator()?;
        Ok(())
    }

    /// The arguments of the accumulator for some rows, and the filter. Arguments are not evaluated where the filter is not TRUE:
    /// `sum(a / n) FILTER (WHERE n <> 0)` does not divide by zero.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<(Vec<ArrayRef>, Option<BooleanArray>)> {
        self.evaluate_each(&self.arguments, batch)
    }

    /// As `evaluate`, for `accumulator_of_values`.
    pub fn evaluate_values(&self, batch: &RecordBatch) -> Result<(Vec<ArrayRef>, Option<BooleanArray>)> {
        match &self.fold {
            Some((_, value, _)) => self.evaluate_each(std::slice::from_ref(value), batch),
            None => self.evaluate(batch),
        }
    }

    fn evaluate_each(
        &self,
        arguments: &[Arc<dyn PhysicalExpr>],
        batch: &RecordBatch,
    ) -> Result<(Vec<ArrayRef>, Option<BooleanArray>)> {
        let filter = self.evaluate_filter(batch)?;
        let Some(mask) = &filter else { return Ok((self.arrays(arguments, batch)?, None)) };
        match self.arrays(arguments, batch) {
            Ok(arguments) => Ok((arguments, filter)),
            Err(e) if e.kind == Kind::Malformed => {
                let mask = is_true(mask);
                let some = self.arrays(arguments, &filter_record_batch(batch, &mask)?)?;
                let arguments = some.iter().map(|a| Ok(scatter(&mask, a)?)).collect::<Result<_>>()?;
                Ok((arguments, Some(mask)))
            }
            Err(e) => Err(e),
        }
    }

    pub fn evaluate_arguments(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        self.arrays(&self.arguments, batch)
    }

    fn arrays(&self, arguments: &[Arc<dyn PhysicalExpr>], batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let rows = batch.num_rows();
        let evaluate =
            |e: &Arc<dyn PhysicalExpr>| guarded(self.deep, || e.evaluate(batch).and_then(|v| spread(&v, rows)));
        arguments.iter().map(|e| evaluate(e).map_err(|text| self.failed(text))).collect()
    }

    pub fn evaluate_filter(&self, batch: &RecordBatch) -> Result<Option<BooleanArray>> {
        let Some(filter) = &self.filter else { return Ok(None) };
        let array = guarded(self.deep, || filter.evaluate(batch).and_then(|v| spread(&v, batch.num_rows())));
        let array = array.map_err(|text| self.failed(text))?;
        let array = array
            .as_boolean_opt()
            .ok_or_else(|| Error::internal(format!("{}: its filter is {}", self.sql, array.data_type())))?;
        Ok(Some(array.clone()))
    }

    /// From the output of the accumulator to the result of Spark's type.
    pub fn finish(&self, array: ArrayRef) -> Result<ArrayRef> {
        match &self.finish {
            Finish::Cast => self.cast(array),
            Finish::EmptyList => {
                let list = list_array(&array, &self.sql)?;
                let lengths = (0..list.len()).map(|i| if list.is_null(i) { 0 } else { list.value_length(i) as usize });
                let DataType::List(field) = &self.data_type else { return Ok(array) };
                let offsets = OffsetBuffer::from_lengths(lengths);
                // A NULL list has no elements, so the offsets of the other lists do not change.
                let values = present_values(list)?;
                let values = arrow::compute::cast(&values, field.data_type())?;
                Ok(Arc::new(ListArray::try_new(field.clone(), offsets, values, None)?))
            }
            Finish::Mean => {
                let list = list_array(&array, &self.sql)?;
                let mean = |i: usize| {
                    let values = list.value(i);
                    let mut values: Vec<i64> = values.as_primitive::<Int64Type>().iter().flatten().collect();
                    values.sort_unstable();
                    values.iter().map(|v| *v as f64).sum::<f64>() / values.len() as f64
                };
                let some = |i: usize| list.is_valid(i) && list.value_length(i) > 0;
                Ok(Arc::new((0..list.len()).map(|i| some(i).then(|| mean(i))).collect::<Float64Array>()))
            }
            Finish::Ordered => float_order::value(&array),
            Finish::Interpolated(shares) => shares.doubles(list_array(&array, &self.sql)?),
            Finish::Percentile(shares) => {
                let list = list_array(&array, &self.sql)?;
                match &self.data_type {
                    DataType::List(field) if shares.list => shares.picked(list, Some(field)),
                    _ => self.cast(shares.picked(list, None)?),
                }
            }
            Finish::Bitmap => super::bitmap::of_lists(list_array(&array, &self.sql)?, &self.sql),
            Finish::Mode { greatest } => self.cast(shares::mode(list_array(&array, &self.sql)?, *greatest)?),
            Finish::Try => {
                // Only the failing rows are NULL, and these are found one by one.
                if let Ok(all) = self.cast(array.clone()) {
                    return Ok(all);
                }
                let one = |i| self.cast(array.slice(i, 1)).unwrap_or_else(|_| new_null_array(&self.data_type, 1));
                let all: Vec<ArrayRef> = (0..array.len()).map(one).collect();
                Ok(arrow::compute::concat(&all.iter().map(|a| a.as_ref()).collect::<Vec<_>>())?)
            }
            Finish::Row(sorted) => {
                let rows = array
                    .as_binary_opt::<i32>()
                    .ok_or_else(|| Error::internal(format!("{}: its result is {}", self.sql, array.data_type())))?;
                self.cast(sorted.values_or_null(rows.iter())?)
            }
            Finish::Rows(sorted, made) => self.cast(self.rows(sorted, made, list_array(&array, &self.sql)?)?),
            Finish::Function(called) => {
                let list = list_array(&array, &self.sql)?;
                let (rows, lengths) = in_order(list, &self.sql)?;
                called.call(&rows, &lengths, &self.data_type)
            }
        }
    }

    fn rows(&self, sorted: &Sorted, made: &Rows, list: &ListArray) -> Result<ArrayRef> {
        let (rows, lengths) = in_order(list, &self.sql)?;
        let mut from = 0;
        let groups = lengths.iter().map(|n| {
            from += n;
            from - n..from
        });
        match made {
            Rows::List { or_null } => {
                let DataType::List(field) = &self.data_type else {
                    return Err(Error::internal(format!("{}: a list as {}", self.sql, self.data_type)));
                };
                let values = sorted.values(rows.into_iter())?;
                let values = arrow::compute::cast(&values, field.data_type())?;
                let nulls = or_null.then(|| lengths.iter().map(|n| *n > 0).collect());
                Ok(Arc::new(ListArray::try_new(field.clone(), OffsetBuffer::from_lengths(lengths), values, nulls)?))
            }
            Rows::Nth(n) => {
                let distance = usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX);
                let place = |len: usize| if *n > 0 { distance.checked_sub(1) } else { len.checked_sub(distance) };
                let picked: Vec<Option<&[u8]>> =
                    groups.map(|g| place(g.len()).and_then(|k| rows[g].get(k).copied())).collect();
                sorted.values_or_null(picked.into_iter())
            }
            Rows::Joined(between) => {
                let values = sorted.values(rows.into_iter())?;
                let binary =
                    matches!(values.data_type(), DataType::Binary | DataType::LargeBinary | DataType::BinaryView);
                let values = arrow::compute::cast(&values, if binary { &DataType::Binary } else { &DataType::Utf8 })?;
                joined(&values, groups, between).map_err(|e| e.context(&self.sql))
            }
        }
    }

    fn cast(&self, array: ArrayRef) -> Result<ArrayRef> {
        let overflow = || Error::malformed(super::evaluate::OVERFLOW).context(&self.sql);
        if let (DataType::Decimal128(p, _), Some(d)) = (&self.data_type, array.as_primitive_opt::<Decimal128Type>()) {
            if *d.data_type() == self.data_type && d.iter().flatten().any(|v| super::text::fits(v, *p).is_none()) {
                return Err(overflow());
            }
        }
        if *array.data_type() == self.data_type {
            return Ok(array);
        }
        if let (DataType::Decimal128(p, _), Some(wide)) = (&self.data_type, array.as_primitive_opt::<Decimal256Type>())
        {
            let narrow = |v: i256| v.to_i128().and_then(|v| super::text::fits(v, *p)).ok_or_else(overflow);
            let values = wide.iter().map(|v| v.map(narrow).transpose()).collect::<Result<Decimal128Array>>()?;
            return Ok(Arc::new(values.with_data_type(self.data_type.clone())));
        }
        if let (DataType::Int64, DataType::Decimal128(_, 0)) = (&self.data_type, array.data_type()) {
            let wide = array.as_primitive::<Decimal128Type>();
            return Ok(Arc::new(wide.try_unary::<_, Int64Type, _>(|v| i64::try_from(v).map_err(|_| overflow()))?));
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(&array, &self.data_type, &options).map_err(|_| overflow())
    }

    fn failed(&self, text: String) -> Error {
        Error::malformed(text).context(&self.sql)
    }
}

fn list_array<'a>(array: &'a ArrayRef, sql: &str) -> Result<&'a ListArray> {
    array.as_list_opt::<i32>().ok_or_else(|| Error::internal(format!("{sql}: its result is {}", array.data_type())))
}

/// The rows of all lists, each list sorted by its bytes, and the number of rows of each list.
fn in_order<'a>(list: &'a ListArray, sql: &str) -> Result<(Vec<&'a [u8]>, Vec<usize>)> {
    let bytes: &BinaryArray = list
        .values()
        .as_binary_opt::<i32>()
        .ok_or_else(|| Error::internal(format!("{sql}: its result is a list of {}", list.value_type())))?;
    let offsets = list.value_offsets();
    let mut rows = Vec::with_capacity(bytes.len());
    let mut lengths = Vec::with_capacity(list.len());
    for i in 0..list.len() {
        let from = rows.len();
        if list.is_valid(i) {
            let elements = offsets[i] as usize..offsets[i + 1] as usize;
            rows.extend(elements.filter(|k| bytes.is_valid(*k)).map(|k| bytes.value(k)));
            rows[from..].sort_unstable();
        }
        lengths.push(rows.len() - from);
    }
    Ok((rows, lengths))
}

/// One text for each group, NULL where it has no values.
fn joined(values: &ArrayRef, groups: impl Iterator<Item = Range<usize>>, between: &[u8]) -> Result<ArrayRef> {
    let too_long = |len: usize| {
        (len > i32::MAX as usize).then(|| Error::malformed("the texts together are longer than 2 GiB; group by more"))
    };
    if let Some(values) = values.as_binary_opt::<i32>() {
        let mut out = BinaryBuilder::new();
        for group in groups {
            if group.is_empty() {
                out.append_null();
                continue;
            }
            let parts: Vec<&[u8]> = group.map(|k| values.value(k)).collect();
            let all = parts.join(between);
            too_long(out.values_slice().len().saturating_add(all.len())).map_or(Ok(()), Err)?;
            out.append_value(all);
        }
        return Ok(Arc::new(out.finish()));
    }
    let (values, between) = (values.as_string::<i32>(), String::from_utf8_lossy(between));
    let mut out = StringBuilder::new();
    for group in groups {
        if group.is_empty() {
            out.append_null();
            continue;
        }
        let parts: Vec<&str> = group.map(|k| values.value(k)).collect();
        let all = parts.join(&*between);
        too_long(out.values_slice().len().saturating_add(all.len())).map_or(Ok(()), Err)?;
        out.append_value(all);
    }
    Ok(Arc::new(out.finish()))
}

/// The elements of all lists in order, without NULLs.
fn present_values(list: &ListArray) -> Result<ArrayRef> {
    let offsets = list.value_offsets();
    let wanted: UInt32Array =
        (0..list.len()).filter(|&i| list.is_valid(i)).flat_map(|i| offsets[i] as u32..offsets[i + 1] as u32).collect();
    Ok(take(list.values(), &wanted, None)?)
}
