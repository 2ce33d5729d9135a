//! Runs the bodies of lambdas over the elements of a whole batch: the columns that a body uses are repeated for the elements of their
//! row, and its variables are additional columns. Nothing is allocated for each row or each list.
//!
//! If an element fails, the call fails, and `Bound` finds the row. `exists` and `forall` look at no element behind the one that decides:
//! where the body fails, they run again, position by position. `aggregate` always goes by position: the k-th elements of all lists at once.

use super::Kind;
use super::sort;
use crate::expr::kernel::{is_true, spread};
use crate::expr::lists::{Picker, check_elements, compact, keys, list, map, map_of_entries, owners};
use crate::expr::once;
use arrow::array::{
    Array, ArrayBuilder, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, NullArray, UInt32Array, UInt32Builder,
    new_empty_array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{concat, filter, filter_record_batch, is_not_null, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A body runs over at most this many elements at once, so that repeated columns do not need memory without limit.
const CHUNK: usize = if cfg!(test) { 1 << 10 } else { 1 << 16 };

#[derive(Debug, PartialEq, Eq, Hash)]
pub(in crate::expr) struct HigherOrder {
    kind: Kind,
    /// The arguments, then the bodies.
    parts: Vec<Arc<dyn PhysicalExpr>>,
    /// The variables of each body.
    slots: Vec<Vec<String>>,
    data_type: DataType,
    uses: Vec<Uses>,
}

/// The values of the batch that a body uses.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Uses {
    columns: Vec<usize>,
    /// Operands and variables of outer expressions.
    slots: Vec<String>,
}

impl HigherOrder {
    pub(crate) fn new(
        kind: Kind,
        args: Vec<Arc<dyn PhysicalExpr>>,
        bodies: Vec<Arc<dyn PhysicalExpr>>,
        slots: Vec<Vec<String>>,
        data_type: DataType,
    ) -> Self {
        let uses = bodies
            .iter()
            .map(|body| {
                let mut columns: Vec<usize> = collect_columns(body).iter().map(|c| c.index()).collect();
                columns.sort_unstable();
                columns.dedup();
                Uses { columns, slots: once::slots_of(body) }
            })
            .collect();
        Self { kind, parts: args.into_iter().chain(bodies).collect(), slots, data_type, uses }
    }

    fn bodies(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.parts[self.parts.len() - self.slots.len()..]
    }

    fn arg(&self, k: usize, batch: &RecordBatch) -> Result<ArrayRef> {
        spread(&self.parts[k].evaluate(batch)?, batch.num_rows())
    }

    /// The values of body `k`: element `i` belongs to row `owners[i]`, and `variables` has its values.
    pub(super) fn run(
        &self,
        k: usize,
        batch: &RecordBatch,
        owners: &UInt32Array,
        variables: &[ArrayRef],
    ) -> Result<ArrayRef> {
        let (body, uses, slots) = (&self.bodies()[k], &self.uses[k], &self.slots[k]);
        let count = owners.len();
        let mut pieces: Vec<ArrayRef> = vec![];
        let mut from = 0;
        while from < count || pieces.is_empty() {
            let rows = CHUNK.min(count - from);
            let owners = owners.slice(from, rows);
            let mut fields: Vec<FieldRef> = Vec::with_capacity(batch.num_columns() + slots.len());
            let mut columns: Vec<ArrayRef> = Vec::with_capacity(fields.capacity());
            for (at, (field, column)) in batch.schema_ref().fields().iter().zip(batch.columns()).enumerate() {
                if uses.columns.contains(&at) || uses.slots.contains(field.name()) {
                    fields.push(field.clone());
                    columns.push(take(column, &owners, None)?);
                } else {
                    fields.push(Arc::new(Field::new(field.name(), DataType::Null, true)));
                    columns.push(Arc::new(NullArray::new(rows)));
                }
            }
            for (slot, values) in slots.iter().zip(variables) {
                fields.push(Arc::new(Field::new(slot, values.data_type().clone(), true)));
                columns.push(values.slice(from, rows));
            }
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            let elements = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?;
            pieces.push(spread(&body.evaluate(&elements)?, rows)?);
            from += rows;
            if count == 0 {
                break;
            }
        }
        if pieces.len() == 1 {
            return Ok(pieces.remove(0));
        }
        check_elements(count)?;
        Ok(concat(&pieces.iter().map(AsRef::as_ref).collect::<Vec<_>>())?)
    }

    /// As `run`, over all elements of these lists. The type of an element is that of the body, also if there is none.
    fn over(&self, batch: &RecordBatch, lists: &ListArray, variables: &[ArrayRef], to: &DataType) -> Result<ArrayRef> {
        if lists.values().is_empty() {
            return Ok(new_empty_array(to));
        }
        self.run(0, batch, &owners(lists.value_offsets()), variables)
    }

    /// The variables of an element: its value, and its position.
    fn element(&self, lists: &ListArray) -> Vec<ArrayRef> {
        let mut out = vec![lists.values().clone()];
        if self.slots[0].len() > 1 {
            let positions = lists.value_offsets().windows(2).flat_map(|pair| 0..pair[1] - pair[0]);
            out.push(Arc::new(positions.collect::<Int32Array>()));
        }
        out
    }

    fn transform(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let lists = compact(&self.arg(0, batch)?)?;
        let DataType::List(item) = &self.data_type else {
            return Ok(new_null_array(&self.data_type, batch.num_rows()));
        };
        let values = self.over(batch, &lists, &self.element(&lists), item.data_type())?;
        list(lists.offsets().clone(), values, lists.nulls().cloned())
    }

    /// The offsets of the lists of kept elements, and which elements are kept.
    fn kept(&self, batch: &RecordBatch, lists: &ListArray, variables: &[ArrayRef]) -> Result<(Vec<i32>, BooleanArray)> {
        let keep = self.over(batch, lists, variables, &DataType::Boolean)?;
        let keep = is_true(keep.as_boolean());
        let mut end = 0;
        let mut offsets = Vec::with_capacity(lists.len() + 1);
        offsets.push(0);
        for pair in lists.value_offsets().windows(2) {
            end += keep.values().slice(pair[0] as usize, (pair[1] - pair[0]) as usize).count_set_bits() as i32;
            offsets.push(end);
        }
        Ok((offsets, keep))
    }

    fn filter(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let lists = compact(&self.arg(0, batch)?)?;
        let (offsets, keep) = self.kept(batch, &lists, &self.element(&lists))?;
        list(OffsetBuffer::new(offsets.into()), filter(lists.values(), &keep)?, lists.nulls().cloned())
    }

    /// `exists` looks for TRUE, `forall` for FALSE. A result of NULL leaves the answer open.
    fn any(&self, batch: &RecordBatch, wanted: bool) -> Result<ArrayRef> {
        let lists = compact(&self.arg(0, batch)?)?;
        let decide = |some: bool, unknown: bool| match (some, unknown) {
            (true, _) => Some(wanted),
            (false, true) => None,
            (false, false) => Some(!wanted),
        };
        let Ok(holds) = self.over(batch, &lists, &[lists.values().clone()], &DataType::Boolean) else {
            return self.any_by_position(batch, &lists, wanted, decide);
        };
        let holds = holds.as_boolean();
        let answer = |(row, pair): (usize, &[i32])| {
            if lists.is_null(row) {
                return None;
            }
            let range = pair[0] as usize..pair[1] as usize;
            let some = range.clone().any(|i| holds.is_valid(i) && holds.value(i) == wanted);
            decide(some, !some && holds.null_count() > 0 && range.clone().any(|i| holds.is_null(i)))
        };
        Ok(Arc::new(lists.value_offsets().windows(2).enumerate().map(answer).collect::<BooleanArray>()))
    }

    fn any_by_position(
        &self,
        batch: &RecordBatch,
        lists: &ListArray,
        wanted: bool,
        decide: impl Fn(bool, bool) -> Option<bool>,
    ) -> Result<ArrayRef> {
        let offsets = lists.value_offsets();
        let (mut some, mut unknown) = (vec![false; lists.len()], vec![false; lists.len()]);
        let mut open: Vec<u32> = (0..lists.len() as u32).collect();
        for k in 0.. {
            open.retain(|row| {
                let row = *row as usize;
                !some[row] && offsets[row] + k < offsets[row + 1]
            });
            if open.is_empty() {
                break;
            }
            let at: UInt32Array = open.iter().map(|row| (offsets[*row as usize] + k) as u32).collect();
            let holds = self.run(0, batch, &UInt32Array::from(open.clone()), &[take(lists.values(), &at, None)?])?;
            for (row, holds) in open.iter().zip(holds.as_boolean()) {
                match holds {
                    Some(holds) => some[*row as usize] = holds == wanted,
                    None => unknown[*row as usize] = true,
                }
            }
        }
        let answer = |row: usize| lists.is_valid(row).then(|| decide(some[row], unknown[row])).flatten();
        Ok(Arc::new((0..lists.len()).map(answer).collect::<BooleanArray>()))
    }

    fn aggregate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let lists = compact(&self.arg(0, batch)?)?;
        let rows = lists.len();
        let offsets = lists.value_offsets();
        let length = |row: u32| offsets[row as usize + 1] - offsets[row as usize];
        // The longest first: the rows that still have an element are always in front.
        let mut order: Vec<u32> = (0..rows as u32).filter(|row| lists.is_valid(*row as usize)).collect();
        order.sort_by_key(|row| std::cmp::Reverse(length(*row)));
        if order.is_empty() {
            return Ok(new_null_array(&self.data_type, rows));
        }
        let start = match order.len() == rows {
            true => self.arg(1, batch)?,
            // As in Spark, the start of a NULL list is not computed.
            false => {
                let present = is_not_null(&lists)?;
                let some = filter_record_batch(batch, &present)?;
                let start = spread(&self.parts[1].evaluate(&some)?, some.num_rows())?;
                datafusion::physical_expr_common::utils::scatter(&present, &start)?
            }
        };
        let mut acc = take(&start, &UInt32Array::from(order.clone()), None)?;
        let mut done: Vec<ArrayRef> = vec![];
        let mut active = order.len();
        for k in 0.. {
            let still = order[..active].partition_point(|row| length(*row) > k);
            if still < active {
                done.push(acc.slice(still, active - still));
                acc = acc.slice(0, still);
                active = still;
            }
            if active == 0 {
                break;
            }
            let at: UInt32Array = order[..active].iter().map(|row| (offsets[*row as usize] + k) as u32).collect();
            let x = take(lists.values(), &at, None)?;
            acc = self.run(0, batch, &UInt32Array::from(order[..active].to_vec()), &[acc, x])?;
        }
        done.reverse();
        let acc = concat(&done.iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
        let out = self.run(1, batch, &UInt32Array::from(order.clone()), &[acc])?;
        let mut place = vec![None; rows];
        order.iter().enumerate().for_each(|(k, row)| place[*row as usize] = Some(k as u32));
        Ok(take(&out, &UInt32Array::from(place), None)?)
    }

    fn zip_with(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let (x, y) = (compact(&self.arg(0, batch)?)?, compact(&self.arg(1, batch)?)?);
        let (mut p, mut q) = (UInt32Builder::new(), UInt32Builder::new());
        let mut offsets = vec![0];
        let nulls = arrow::buffer::NullBuffer::union(x.nulls(), y.nulls());
        for row in 0..x.len() {
            let ends = |l: &ListArray| (l.value_offsets()[row] as u32, l.value_offsets()[row + 1] as u32);
            let ((a, b), (c, d)) = (ends(&x), ends(&y));
            if x.is_valid(row) && y.is_valid(row) {
                for k in 0..(b - a).max(d - c) {
                    p.append_option((a + k < b).then_some(a + k));
                    q.append_option((c + k < d).then_some(c + k));
                }
            }
            check_elements(p.len())?;
            offsets.push(p.len() as i32);
        }
        let variables = [take(x.values(), &p.finish(), None)?, take(y.values(), &q.finish(), None)?];
        let DataType::List(item) = &self.data_type else { return Ok(new_null_array(&self.data_type, x.len())) };
        let offsets = OffsetBuffer::new(offsets.into());
        let values = match variables[0].is_empty() {
            true => new_empty_array(item.data_type()),
            false => self.run(0, batch, &owners(&offsets), &variables)?,
        };
        list(offsets, values, nulls)
    }

    /// The functions of one map.
    fn entries(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let maps = compact(&self.arg(0, batch)?)?;
        let kv = maps.values().as_struct();
        let variables = [kv.column(0).clone(), kv.column(1).clone()];
        let [k, v] = &variables;
        let Some((key, value)) = crate::expr::lists::key_value(&self.data_type) else {
            return Ok(new_null_array(&self.data_type, maps.len()));
        };
        let (offsets, nulls) = (maps.offsets().clone(), maps.nulls().cloned());
        match self.kind {
            Kind::MapFilter => {
                let (offsets, keep) = self.kept(batch, &maps, &variables)?;
                let offsets = OffsetBuffer::new(offsets.into());
                map_of_entries(&self.data_type, offsets, filter(k, &keep)?, filter(v, &keep)?, nulls)
            }
            Kind::TransformKeys => {
                let made = self.over(batch, &maps, &variables, &key)?;
                map(&self.data_type, offsets, made, v.clone(), nulls)
            }
            _ => {
                let made = self.over(batch, &maps, &variables, &value)?;
                map_of_entries(&self.data_type, offsets, k.clone(), made, nulls)
            }
        }
    }

    fn map_zip_with(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let (x, y) = (compact(&self.arg(0, batch)?)?, compact(&self.arg(1, batch)?)?);
        let (left, right) = (x.values().as_struct(), y.values().as_struct());
        let [p, q] = keys([left.column(0), right.column(0)])?;
        let nulls = arrow::buffer::NullBuffer::union(x.nulls(), y.nulls());
        let mut key = Picker::new(x.len(), p.num_rows());
        let (mut v, mut w) = (UInt32Builder::new(), UInt32Builder::new());
        let mut places = HashMap::new();
        let mut used = vec![false; q.num_rows()];
        for row in 0..x.len() {
            let ends = |l: &ListArray| l.value_offsets()[row] as usize..l.value_offsets()[row + 1] as usize;
            let valid = x.is_valid(row) && y.is_valid(row);
            if valid {
                places.clear();
                places.extend(ends(&y).map(|j| (q.row(j), j)));
                for i in ends(&x) {
                    let other = places.get(&p.row(i)).copied();
                    other.iter().for_each(|j| used[*j] = true);
                    key.push(i);
                    v.append_value(i as u32);
                    w.append_option(other.map(|j| j as u32));
                }
                for j in ends(&y).filter(|j| !used[*j]) {
                    key.push(p.num_rows() + j);
                    v.append_null();
                    w.append_value(j as u32);
                }
            }
            key.end(valid)?;
        }
        let all = concat(&[left.column(0).as_ref(), right.column(0).as_ref()])?;
        let lists = key.list(&all)?;
        let lists = lists.as_list::<i32>();
        let (v, w) = (take(left.column(1), &v.finish(), None)?, take(right.column(1), &w.finish(), None)?);
        let Some((_, value)) = crate::expr::lists::key_value(&self.data_type) else {
            return Ok(new_null_array(&self.data_type, x.len()));
        };
        let made = self.over(batch, lists, &[lists.values().clone(), v, w], &value)?;
        map(&self.data_type, lists.offsets().clone(), lists.values().clone(), made, nulls)
    }
}

impl fmt::Display for HigherOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.parts.iter().map(ToString::to_string).collect();
        write!(f, "{:?}({})", self.kind, parts.join(", "))
    }
}

impl PhysicalExpr for HigherOrder {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.data_type.clone())
    }
    fn nullable(&self, _: &Schema) -> Result<bool> {
        Ok(true)
    }
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if batch.num_rows() == 0 {
            return Ok(ColumnarValue::Array(new_empty_array(&self.data_type)));
        }
        let array = match self.kind {
            Kind::Transform => self.transform(batch)?,
            Kind::Filter => self.filter(batch)?,
            Kind::Exists => self.any(batch, true)?,
            Kind::ForAll => self.any(batch, false)?,
            Kind::Aggregate => self.aggregate(batch)?,
            Kind::ZipWith => self.zip_with(batch)?,
            Kind::MapFilter | Kind::TransformKeys | Kind::TransformValues => self.entries(batch)?,
            Kind::MapZipWith => self.map_zip_with(batch)?,
            Kind::Sort => {
                let lists = compact(&self.arg(0, batch)?)?;
                sort::by_comparison(&lists, |owners, left, right| self.run(0, batch, owners, &[left, right]))?
            }
        };
        debug_assert_eq!(array.data_type(), &self.data_type, "{self}");
        Ok(ColumnarValue::Array(array))
    }
    fn return_field(&self, _: &Schema) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(format!("{:?}", self.kind), self.data_type.clone(), true)))
    }
    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.parts.iter().collect()
    }
    fn with_new_children(self: Arc<Self>, mut parts: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let bodies = parts.split_off(parts.len() - self.slots.len());
        Ok(Arc::new(Self::new(self.kind, parts, bodies, self.slots.clone(), self.data_type.clone())))
    }
    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
