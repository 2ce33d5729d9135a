//! Several rows of one: a select list with a generator.
//!
//! The other columns, and what the generator takes, are computed once for each row that comes in. If one of them fails, the row fails as a
//! whole. The rows that are made of a row keep its origin, and get their place in it. They follow each other in the order of their places,
//! so a row's rows stay in order wherever batches are cut.

#[cfg(test)]
mod test;

use super::Project;
use crate::Result;
use crate::batch::{Batch, FailedRow, Origin};
use crate::expr::{Generator, MOST_BYTES, Selected};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;

/// At most this many rows are made as one batch.
const ROWS: usize = if cfg!(test) { 100 } else { 1 << 17 };
/// At most about this many bytes are made as one batch: a long value may be repeated for many rows.
const BYTES: usize = MOST_BYTES / 8;

/// A select list with a generator.
#[derive(Clone)]
pub struct Explode {
    pub items: Vec<Selected>,
    pub generator: Generator,
    /// What is computed of each row that comes in: the columns of `items`, then the arguments of the generator.
    before: Project,
    schema: SchemaRef,
}

/// The rows that were made, and input rows that failed with the batch that they are in.
pub struct Exploded {
    pub batches: Vec<Batch>,
    pub failed: Vec<(Batch, Vec<FailedRow>)>,
}

impl Explode {
    pub fn new(items: Vec<Selected>, generator: Generator, input: &Schema) -> Self {
        let column = |item: &Selected| match item {
            Selected::Column(bound) => Some(bound.clone()),
            Selected::Generated(_) => None,
        };
        let before: Vec<_> = items.iter().filter_map(column).chain(generator.args.iter().cloned()).collect();
        let before = Project::new(before, input);
        let mut others = before.schema().fields().iter();
        let field = |item: &Selected| match item {
            Selected::Column(_) => others.next().map(|f| f.as_ref().clone()),
            Selected::Generated(k) => generator.fields.get(*k).cloned(),
        };
        let fields: Vec<Field> = items.iter().filter_map(field).collect();
        Self { items, generator, before, schema: Arc::new(Schema::new(fields)) }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn apply(&self, input: &Batch) -> Result<Exploded> {
        let mut out = Exploded { batches: vec![], failed: vec![] };
        for (part, computed) in self.before.apply_in_parts(input)? {
            self.rows(&computed.batch, &mut out.batches)?;
            out.failed.push((part, computed.failed));
        }
        Ok(out)
    }

    /// The rows that are made of the rows of `before`.
    fn rows(&self, before: &Batch, out: &mut Vec<Batch>) -> Result<()> {
        let all = before.rows.columns();
        let (others, args) = all.split_at(all.len() - self.generator.args.len());
        let lengths = self.generator.lengths(args, before.len());
        let weights = self.weights(others, args, &lengths);
        let rows = lengths.iter().map(|n| n.map_or(1, |n| n as usize)).sum::<usize>().min(ROWS);
        let (parents, places) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        let mut made = Made { step: self, before, others, args, parents, places, missing: false, bytes: 0, out };
        for (row, length) in lengths.iter().enumerate() {
            let weight = weights.as_ref().map_or(0, |w| w[row]);
            match length {
                Some(n) => (0..*n).try_for_each(|place| made.push(row as u32, place, weight))?,
                None => {
                    made.missing = true;
                    made.push(row as u32, NOWHERE, weight)?;
                }
            }
        }
        made.flush()
    }

    /// The bytes of each row that are repeated in each row that is made of it. None if all of them together are few.
    fn weights(&self, others: &[ArrayRef], args: &[ArrayRef], lengths: &[Option<u32>]) -> Option<Vec<usize>> {
        // What a generator takes apart is not repeated; of a stack, one value goes into each row.
        let stacked = if args.len() > 1 { args } else { &[] };
        let columns = || others.iter().chain(stacked);
        let longest = lengths.iter().flatten().max().copied().unwrap_or(1) as usize;
        let whole: usize = columns().map(|c| weight(c)).sum();
        if whole.saturating_mul(longest.min(ROWS)) < BYTES {
            return None;
        }
        let of_row = |row: usize| columns().map(|c| weight(&c.slice(row, 1))).sum();
        Some((0..lengths.len()).map(of_row).collect())
    }
}

/// Rows that are being made.
struct Made<'a> {
    step: &'a Explode,
    before: &'a Batch,
    others: &'a [ArrayRef],
    args: &'a [ArrayRef],
    /// Of each row of the next batch: the row that it is made of, and its place in it.
    parents: Vec<u32>,
    places: Vec<u32>,
    /// One of the places is NOWHERE.
    missing: bool,
    bytes: usize,
    out: &'a mut Vec<Batch>,
}

impl Made<'_> {
    #[inline]
    fn push(&mut self, parent: u32, place: u32, weight: usize) -> Result<()> {
        self.parents.push(parent);
        self.places.push(place);
        self.bytes += weight;
        if self.parents.len() >= ROWS || self.bytes >= BYTES { self.flush() } else { Ok(()) }
    }

    /// Makes a batch of the rows that have come together, and begins the next one.
    fn flush(&mut self) -> Result<()> {
        if self.parents.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        let parents = UInt32Array::from(std::mem::take(&mut self.parents));
        let places = std::mem::take(&mut self.places);
        let places: UInt32Array = match std::mem::take(&mut self.missing) {
            false => places.into(),
            true => places.into_iter().map(|p| (p != NOWHERE).then_some(p)).collect(),
        };
        let Explode { items, generator, schema, .. } = self.step;
        let generated = generator.columns(self.args, &parents, &places)?;
        let mut others = self.others.iter();
        let mut columns = Vec::with_capacity(items.len());
        for item in items {
            match item {
                Selected::Generated(k) => columns.push(generated[*k].clone()),
                Selected::Column(_) => {
                    if let Some(column) = others.next() {
                        columns.push(take(column, &parents, None)?);
                    }
                }
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(parents.len()));
        let rows = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
        let origin = match &self.before.origin {
            None => None,
            Some(origin) => {
                let mut origin: Origin = origin.pick(|c| Ok(take(c, &parents, None)?))?;
                if generator.has_places() {
                    origin.elements.push(places);
                }
                Some(origin)
            }
        };
        self.out.push(Batch::new(rows, origin));
        Ok(())
    }
}

/// The place of a row that is made of no element.
const NOWHERE: u32 = u32::MAX;

/// About the bytes of the values.
fn weight(array: &dyn Array) -> usize {
    let span = |offsets: &[i32]| (offsets[0] as usize, (offsets[offsets.len() - 1] - offsets[0]) as usize);
    match array.data_type() {
        DataType::Utf8 => span(array.as_string::<i32>().value_offsets()).1,
        DataType::Binary => span(array.as_binary::<i32>().value_offsets()).1,
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (from, len) = span(list.value_offsets());
            len * size_of::<i32>() + weight(&list.values().slice(from, len))
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let (from, len) = span(map.value_offsets());
            len * size_of::<i32>() + weight(&map.entries().slice(from, len))
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(|c| weight(c)).sum(),
        other => array.len() * other.primitive_width().unwrap_or(1),
    }
}
