//! Joins two streams on keys and a range of time. A pair matches if its keys are equal and the time of the right row is
//! in `[left − before, left + after]`.
//!
//! A pair is emitted in the epoch in which the later of its rows arrives. A left row of a left join that never matched
//! is emitted when no match can arrive any more. Let `W` be the lower of the watermarks of both inputs at the end of an
//! epoch. A row of a later epoch whose time is below `W` is late, on either side, and does not take part. So **a row
//! that can still arrive has `time >= W`.**
//!
//! **What can be forgotten, and when.** A left row at `l` matches right times up to `l + after`. Such a right row can
//! still arrive only if `l + after >= W`. So the left row is forgotten when `l + after < W`. If it never matched, a
//! left join emits it at that time. A right row at `r` matches left times from `r − after` to `r + before`. Such a left
//! row can still arrive only if `r + before >= W`. So the right row is forgotten when `r + before < W`. (A match below
//! `W` has arrived already, or is late.)
//!
//! **The output watermark is `W − max(before, after)`.** No row of an epoch is below the output watermark with which
//! the epoch began, `W₀ − max(before, after)`. In a pair, one row belongs to this epoch. If it is the left row, `l >=
//! W₀`. If it is the right row, `r >= W₀` and `l >= r − after >= W₀ − after`. A left row without a match was not
//! forgotten at the end of the previous epoch, so `l + after >= W₀`; or it arrived in this epoch, so `l >= W₀`. For the
//! left row's time, `W − after` would be enough. With the larger of the two, the same holds for the right row's time:
//! if the left row belongs to this epoch, `r >= l − before >= W₀ − before`. So either time can be the event time in
//! later steps.
//!
//! A row with NULL in its keys does not match anything. It is not kept, except a left row of a left join, which waits
//! like the others. The origin of rows ends here, because a pair has two.

mod side;
mod state;
#[cfg(test)]
mod test;

use super::admit::{admit, check_time};
use super::join::{JoinKind, split_on};
use super::keys::{key_codec, null_keys};
use crate::batch::Batch;
use crate::expr::{Bound, to_ddl, type_to_ddl};
use crate::state::{Finished, KeyCodec, Pushed, Stateful};
use crate::time::{EventTime, Watermark, micros};
use crate::{Error, Result};
use arrow::array::{ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::datatypes::{Schema, SchemaRef};
use side::Side;
use std::time::Duration;

const PLACE: &str = "the join of two streams";
/// The number of rows in a chunk, and in an emitted batch. A chunk of this size has no more text than 32-bit offsets
/// can address, unless the average text is longer than 250 kB.
const CHUNK: usize = 8192;

/// A join of two streams.
#[derive(Clone)]
pub struct IntervalJoinSpec {
    /// Pairs (left, right) with the same type.
    pub on: Vec<(Bound, Bound)>,
    pub how: JoinKind,
    /// The indices of the event-time columns.
    pub left_time: usize,
    pub right_time: usize,
    /// The right time is in `[left − before, left + after]`.
    pub before: Duration,
    pub after: Duration,
    pub left_schema: SchemaRef,
    pub right_schema: SchemaRef,
    /// The right columns that are kept.
    pub right_columns: Vec<usize>,
    /// The left columns, then the kept right columns. In a left join the right columns can be NULL.
    pub schema: SchemaRef,
}

impl IntervalJoinSpec {
    /// The output watermark for the lower of both input watermarks.
    pub fn output_watermark(&self, input: Option<Watermark>) -> Option<Watermark> {
        input.map(|w| w.minus(self.before.max(self.after)))
    }
}

/// A running join. Input 0 is the left stream.
pub(crate) struct IntervalJoin {
    spec: IntervalJoinSpec,
    keys: [Vec<Bound>; 2],
    codec: KeyCodec,
    layout: state::Layout,
    sides: [Side; 2],
    /// Matching left and right rows of this epoch.
    pairs: Vec<(u32, u32)>,
    /// Rows of this epoch that were not kept and did not match anything, by side.
    unmatched: [u64; 2],
    next_id: i64,
    chunk_rows: usize,
    /// The bytes that the rows of one epoch may take in memory.
    limit: usize,
}

/// The memory of the pairs is checked after this many rows, and after a row with more matches than this.
const MANY_PAIRS: usize = 1024;
const LEFT: usize = 0;
const RIGHT: usize = 1;

impl IntervalJoin {
    pub(crate) fn new(spec: IntervalJoinSpec) -> Result<Self> {
        Self::with_chunks(spec, CHUNK)
    }

    fn with_chunks(spec: IntervalJoinSpec, chunk_rows: usize) -> Result<Self> {
        let (left, right) = split_on(PLACE, &spec.on)?;
        let codec = key_codec(PLACE, &left)?;
        check_time(PLACE, &spec.left_schema, spec.left_time)?;
        check_time(PLACE, &spec.right_schema, spec.right_time)?;
        if let Some(column) = spec.right_columns.iter().find(|i| **i >= spec.right_schema.fields().len()) {
            return Err(Error::internal(format!("{PLACE}: there is no right column {column}")));
        }
        let range = micros(spec.before).saturating_add(micros(spec.after));
        let sides = [
            Side::new(range, spec.after, spec.left_schema.fields().len(), chunk_rows),
            Side::new(range, spec.before, spec.right_columns.len(), chunk_rows),
        ];
        let layout = state::Layout::new(&spec, &right);
        let keys = [left, right];
        Ok(Self {
            spec,
            keys,
            codec,
            layout,
            sides,
            pairs: vec![],
            unmatched: [0; 2],
            next_id: 0,
            chunk_rows,
            limit: usize::MAX,
        })
    }

    /// Every left row of a key can match every right row of the key. An epoch ends before its pairs take more than its memory,
    /// unless the rows that are read together make too many pairs already.
    fn check_pairs(&self) -> Result<()> {
        if self.of_pairs() / 2 <= self.limit {
            return Ok(());
        }
        Err(Error::storage(format!(
            "{PLACE} makes {} rows of the rows that were read last, which takes more than the {} MB that memory_limit allows: many rows have \
             the same key. Join by more columns or within a shorter time, read less at a time (max_offsets_per_trigger), or raise memory_limit.",
            self.pairs.len(),
            self.limit / 1_000_000
        )))
    }

    /// About the bytes of the rows that the pairs of this epoch become.
    fn of_pairs(&self) -> usize {
        let row: usize = self.sides.iter().map(Side::row_bytes).sum();
        self.pairs.len().saturating_mul(size_of::<(u32, u32)>() + row)
    }

    /// The times of the other side that match a row at `time`.
    fn range(&self, input: usize, time: EventTime) -> (EventTime, EventTime) {
        match input {
            LEFT => (time.minus(self.spec.before), time.plus(self.spec.after)),
            _ => (time.minus(self.spec.after), time.plus(self.spec.before)),
        }
    }

    /// The kept columns of a side.
    fn kept(&self, input: usize, rows: &RecordBatch) -> Vec<ArrayRef> {
        match input {
            LEFT => rows.columns().to_vec(),
            _ => self.spec.right_columns.iter().map(|i| rows.column(*i).clone()).collect(),
        }
    }

    fn output(&self, left: Vec<ArrayRef>, right: Vec<ArrayRef>) -> Result<Batch> {
        let columns = left.into_iter().chain(right).collect();
        Ok(Batch::new(RecordBatch::try_new(self.spec.schema.clone(), columns)?, None))
    }

    fn null_right(&self, rows: usize) -> Vec<ArrayRef> {
        let fields = &self.spec.schema.fields()[self.spec.left_schema.fields().len()..];
        fields.iter().map(|f| new_null_array(f.data_type(), rows)).collect()
    }

    /// The state rows: rows that the epoch added and that are still needed, and marks for earlier rows that matched
    /// first in this epoch.
    fn increment(&self) -> Result<Option<RecordBatch>> {
        let mut parts = vec![];
        for (input, side) in self.sides.iter().enumerate() {
            parts.push(self.layout.rows(input, side, &side.added(), &self.codec)?);
        }
        let marks: Vec<_> = self.sides.iter().flat_map(Side::marked).collect();
        parts.push(self.layout.marks(&marks)?);
        parts.retain(|part| part.num_rows() > 0);
        match parts.len() {
            0 => Ok(None),
            _ => Ok(Some(arrow::compute::concat_batches(self.layout.schema(), &parts)?)),
        }
    }
}

impl Stateful for IntervalJoin {
    fn push(&mut self, input: usize, batch: &Batch, before: Option<Watermark>) -> Result<Pushed> {
        let time = match input {
            LEFT => self.spec.left_time,
            RIGHT => self.spec.right_time,
            _ => return Err(Error::internal(format!("{PLACE} has no input {input}"))),
        };
        let admitted = admit(batch, time, &self.keys[input], before)?;
        let keys = self.codec.encode(&admitted.keys)?;
        let nulls = null_keys(&admitted.keys);
        let has_key = |row: usize| nulls.as_ref().is_none_or(|n| n.is_valid(row));
        let waits = input == LEFT && self.spec.how == JoinKind::Left;
        let rows: Vec<u32> = (0..admitted.batch.len()).filter(|r| waits || has_key(*r)).map(|r| r as u32).collect();
        self.unmatched[input] += (admitted.batch.len() - rows.len()) as u64;
        if rows.is_empty() {
            return Ok(admitted.pushed);
        }
        let mut columns = self.kept(input, &admitted.batch.rows);
        if rows.len() < admitted.batch.len() {
            let rows = UInt32Array::from(rows.clone());
            columns = columns.iter().map(|c| arrow::compute::take(c, &rows, None)).collect::<Result<_, _>>()?;
        }
        let chunk = self.sides[input].add_chunk(columns)?;
        let mut found = vec![];
        for (at, row) in rows.into_iter().enumerate() {
            let row = row as usize;
            let time = admitted.time(row);
            let key = has_key(row).then(|| keys.row(row).data());
            let own = self.sides[input].insert((chunk, at as u32), self.next_id, time, key, false)?;
            self.next_id += 1;
            let Some(key) = key else { continue };
            found.clear();
            self.sides[1 - input].find(key, self.range(input, time), &mut found);
            if !found.is_empty() {
                self.sides[input].mark(own);
            }
            for &other in &found {
                self.sides[1 - input].mark(other);
                self.pairs.push(if input == LEFT { (own, other) } else { (other, own) });
            }
            if found.len() > MANY_PAIRS || at % MANY_PAIRS == 0 {
                self.check_pairs()?;
            }
        }
        Ok(admitted.pushed)
    }

    fn finish_epoch(&mut self, _before: Option<Watermark>, after: Option<Watermark>) -> Result<Finished> {
        let mut out = Finished::default();
        for pairs in std::mem::take(&mut self.pairs).chunks(self.chunk_rows) {
            let (left, right): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
            out.batches.push(self.output(self.sides[LEFT].gather(&left)?, self.sides[RIGHT].gather(&right)?)?);
        }
        let mut unmatched = std::mem::take(&mut self.unmatched);
        for input in [LEFT, RIGHT] {
            let closed = self.sides[input].close(after);
            unmatched[input] += closed.len() as u64;
            if input == LEFT && self.spec.how == JoinKind::Left {
                for rows in closed.chunks(self.chunk_rows) {
                    out.batches.push(self.output(self.sides[LEFT].gather(rows)?, self.null_right(rows.len()))?);
                }
            }
        }
        out.increment = self.increment()?;
        out.updated = out.increment.as_ref().map_or(0, RecordBatch::num_rows);
        out.metrics = vec![("numUnmatchedLeft", unmatched[LEFT]), ("numUnmatchedRight", unmatched[RIGHT])];
        self.sides.iter_mut().try_for_each(Side::settle)?;
        Ok(out)
    }

    fn description(&self) -> String {
        let spec = &self.spec;
        let on: Vec<_> =
            spec.on.iter().map(|(l, r)| format!("{} = {} {}", l.sql, r.sql, type_to_ddl(&l.data_type))).collect();
        let kept: Vec<_> = spec.right_columns.iter().map(|i| spec.right_schema.field(*i).clone()).collect();
        format!(
            "{} join on {}; {} from {} − {} µs to + {} µs; left {}; right {}",
            spec.how,
            on.join(", "),
            spec.right_schema.field(spec.right_time).name(),
            spec.left_schema.field(spec.left_time).name(),
            micros(spec.before),
            micros(spec.after),
            to_ddl(&spec.left_schema),
            to_ddl(&Schema::new(kept))
        )
    }

    fn state_schema(&self) -> SchemaRef {
        self.layout.schema().clone()
    }

    fn restore(&mut self, state: &RecordBatch) -> Result<()> {
        for input in [LEFT, RIGHT] {
            let rows = self.layout.read(input, state, &self.keys[LEFT])?;
            if rows.ids.is_empty() {
                continue;
            }
            let keys = self.codec.encode(&rows.keys)?;
            let nulls = null_keys(&rows.keys);
            let chunk = self.sides[input].add_chunk(rows.columns)?;
            for (row, id) in rows.ids.iter().enumerate() {
                let key = nulls.as_ref().is_none_or(|n| n.is_valid(row)).then(|| keys.row(row).data());
                let time = EventTime(rows.times[row]);
                self.sides[input].insert((chunk, row as u32), *id, time, key, rows.matched.value(row))?;
                self.next_id = self.next_id.max(id.saturating_add(1));
            }
        }
        for id in self.layout.read_marks(state)? {
            self.sides.iter_mut().for_each(|side| side.mark_id(id));
        }
        self.sides.iter_mut().try_for_each(Side::settle)
    }

    fn forget(&mut self, watermark: Option<Watermark>) -> Result<()> {
        for side in &mut self.sides {
            side.close(watermark);
            side.settle()?;
        }
        Ok(())
    }

    fn snapshot(&mut self, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        for (input, side) in self.sides.iter().enumerate() {
            for rows in side.alive().chunks(self.chunk_rows) {
                each(self.layout.rows(input, side, rows, &self.codec)?)?;
            }
        }
        Ok(())
    }

    fn fresh(&self) -> Result<Box<dyn Stateful>> {
        Ok(Box::new(Self::with_chunks(self.spec.clone(), self.chunk_rows)?))
    }

    /// A mark is needed as long as its row, and does not say to which side the row belongs.
    fn needed_until(&self, state: &RecordBatch) -> Option<EventTime> {
        let [left, right, mark] = self.layout.latest(state)?;
        let (before, after) = (self.spec.before, self.spec.after);
        let latest =
            [left.map(|t| t.plus(after)), right.map(|t| t.plus(before)), mark.map(|t| t.plus(before.max(after)))];
        latest.into_iter().flatten().max().map(|last| last.plus(Duration::from_micros(1)))
    }

    fn groups(&self) -> usize {
        self.sides.iter().map(Side::len).sum()
    }
    fn memory(&self) -> usize {
        self.sides.iter().map(Side::memory).sum::<usize>() + self.of_pairs()
    }

    fn limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }

    /// The time of the last left row that can still be emitted without a match.
    fn last_window(&self, until: EventTime) -> Option<EventTime> {
        if self.spec.how != JoinKind::Left {
            return None;
        }
        let left = &self.sides[LEFT];
        let alone = left.alive().into_iter().filter(|r| !left.is_matched(*r)).map(|r| left.time(r));
        let last = alone.filter(|t| *t <= until).max()?;
        Some(last.plus(self.spec.after).plus(Duration::from_micros(1)))
    }

    fn waiting_rows(&self) -> u64 {
        if self.spec.how != JoinKind::Left {
            return 0;
        }
        let left = &self.sides[LEFT];
        left.alive().into_iter().filter(|r| !left.is_matched(*r)).count() as u64
    }

    /// Left rows of a left join that can be emitted without a match now.
    fn would_emit(&self, after: Option<Watermark>) -> bool {
        self.spec.how == JoinKind::Left && self.sides[LEFT].would_close(after)
    }
}
