//! Several rows of one: a select list with a generator.
//!
//! The other columns, and the arguments of the generator, are computed once for each input row. If one of them fails, the input row fails as a
//! whole. The rows that are made of an input row keep its origin, and get their place in the input row. They are in the order of their places,
//! so the rows of an input row stay in order wherever batches are cut.
//!
//! If a select list has a list and its elements, the size of the rows grows with the square of the list's length. So a small message can make
//! more rows than memory holds. Therefore the rows are made one batch at a time, and an input row fails if its rows would be longer than 512 MiB.

#[cfg(test)]
mod test;

use super::{Project, keep_mask};
use crate::Result;
use crate::batch::{Batch, FailedRow, Origin};
use crate::expr::{Generator, MOST_BYTES, Selected, value_bytes};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema, SchemaRef};
use std::collections::VecDeque;
use std::sync::Arc;

/// At most this many rows are made as one batch.
const ROWS: usize = if cfg!(test) { 100 } else { 1 << 17 };
/// At most about this many bytes are made as one batch: a long value may be repeated for many rows.
const BYTES: usize = MOST_BYTES / 32;
/// At most this many bytes may be repeated in the rows of one input row: an epoch cannot be cut within a message.
const REPEATED: usize = MOST_BYTES / 4;

/// A select list with a generator.
#[derive(Clone)]
pub struct Explode {
    pub items: Vec<Selected>,
    pub generator: Generator,
    /// The columns that are computed for each input row: the columns of `items`, then the arguments of the generator.
    before: Project,
    schema: SchemaRef,
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

    /// Prepares the rows of a batch, which `Exploding` makes. Input rows that fail come with the part of the batch that they are in.
    pub fn begin(self: &Arc<Self>, input: &Batch) -> Result<(Exploding, Failed)> {
        let (mut parts, mut failed) = (VecDeque::new(), vec![]);
        for (part, computed) in self.before.apply_in_parts(input)? {
            let mut rows = computed.failed;
            parts.push_back(self.part(part.len(), computed.batch, &mut rows)?);
            failed.push((part, rows));
        }
        Ok((Exploding { step: self.clone(), parts }, failed))
    }

    /// The rows of `before` whose rows can be made. `failed` has the rows of `all` that are not in `before`; rows that fail here are added.
    fn part(&self, all: usize, before: Batch, failed: &mut Vec<FailedRow>) -> Result<Part> {
        let columns = before.rows.columns();
        let (others, args) = columns.split_at(columns.len() - self.generator.args.len());
        let mut lengths = self.generator.lengths(args, before.len());
        let weights = self.weights(others, args, &lengths);
        if let Some(weights) = &weights {
            let place = keep_mask(all, failed);
            let mut places = (0..all as u32).filter(|i| place.value(*i as usize));
            for (length, weight) in lengths.iter_mut().zip(weights) {
                let row = places.next().unwrap_or_default();
                if length.unwrap_or(1) as usize > REPEATED / weight.max(&1) {
                    *length = Some(0);
                    failed.push(FailedRow::new(row, format!("{}: {TOO_MUCH}", self.generator.sql)));
                }
            }
        }
        Ok(Part { before, lengths, weights, row: 0, place: 0 })
    }

    /// The bytes of each row that are repeated in each row that is made of it. None if all of them together are few.
    fn weights(&self, others: &[ArrayRef], args: &[ArrayRef], lengths: &[Option<u32>]) -> Option<Vec<usize>> {
        // The values that a generator takes apart are not repeated. For a stack, one value goes into each row.
        let stacked = if args.len() > 1 { args } else { &[] };
        let columns = || others.iter().chain(stacked);
        let longest = lengths.iter().flatten().max().copied().unwrap_or(1) as usize;
        let whole: usize = columns().map(|c| value_bytes(c)).sum();
        if whole.saturating_mul(longest) < BYTES {
            return None;
        }
        let of_row = |row: usize| columns().map(|c| value_bytes(&c.slice(row, 1))).sum();
        Some((0..lengths.len()).map(of_row).collect())
    }
}

/// Rows that are being made of a batch.
pub struct Exploding {
    step: Arc<Explode>,
    parts: VecDeque<Part>,
}

/// Input rows from which no row is made, with the batch that they are in.
type Failed = Vec<(Batch, Vec<FailedRow>)>;

struct Part {
    /// The columns of the items, then the arguments of the generator.
    before: Batch,
    /// For each input row: how many rows are made of it, or None for one row without an element.
    lengths: Vec<Option<u32>>,
    /// For each input row: how many bytes are repeated in each row that is made of it.
    weights: Option<Vec<usize>>,
    /// The next row to make: the input row, and the place in it.
    row: usize,
    place: u32,
}

impl Exploding {
    /// The next rows, not more than a batch should have.
    pub fn next(&mut self) -> Result<Option<Batch>> {
        while let Some(part) = self.parts.front_mut() {
            let next = part.next(&self.step)?;
            if part.row == part.lengths.len() {
                self.parts.pop_front();
            }
            if next.is_some() {
                return Ok(next);
            }
        }
        Ok(None)
    }

    pub fn is_done(&self) -> bool {
        self.parts.is_empty()
    }
}

impl Part {
    fn next(&mut self, step: &Explode) -> Result<Option<Batch>> {
        let left = self.lengths[self.row..].iter().map(|n| n.map_or(1, |n| n as usize)).sum::<usize>().min(ROWS);
        let (mut parents, mut places) = (Vec::with_capacity(left), Vec::with_capacity(left));
        let (mut missing, mut bytes) = (false, 0);
        while self.row < self.lengths.len() && parents.len() < ROWS && bytes < BYTES {
            let weight = self.weights.as_ref().map_or(0, |w| w[self.row]);
            let many = match self.lengths[self.row] {
                None => {
                    missing = true;
                    parents.push(self.row as u32);
                    places.push(NOWHERE);
                    bytes += weight;
                    0
                }
                Some(n) => n,
            };
            // As many rows of this input row as there is room for.
            let room = (ROWS - parents.len()).min((BYTES - bytes.min(BYTES)).div_ceil(weight.max(1)));
            let until = (self.place as usize + room).min(many as usize) as u32;
            parents.extend((self.place..until).map(|_| self.row as u32));
            places.extend(self.place..until);
            bytes += weight * (until - self.place) as usize;
            self.place = until;
            if until >= many {
                (self.row, self.place) = (self.row + 1, 0);
            }
        }
        if parents.is_empty() { Ok(None) } else { self.batch(step, parents, places, missing).map(Some) }
    }

    fn batch(&self, step: &Explode, parents: Vec<u32>, places: Vec<u32>, missing: bool) -> Result<Batch> {
        let Explode { items, generator, schema, .. } = step;
        let columns = self.before.rows.columns();
        let (others, args) = columns.split_at(columns.len() - generator.args.len());
        let parents = UInt32Array::from(parents);
        let places: UInt32Array = match missing {
            false => places.into(),
            true => places.into_iter().map(|p| (p != NOWHERE).then_some(p)).collect(),
        };
        let generated = generator.columns(args, &parents, &places)?;
        let mut others = others.iter();
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
        Ok(Batch::new(rows, origin))
    }
}

/// The place of a row that is made of no element.
const NOWHERE: u32 = u32::MAX;
/// Why an input row fails.
const TOO_MUCH: &str = "the rows that it makes of one row would be longer than 512 MiB. Leave the list itself and long columns out of this select";
