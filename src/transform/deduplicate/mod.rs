//! Drops rows that repeat an earlier row.
//!
//! A row is a duplicate if a row with the same keys was kept and their event times differ by at most `within`, in
//! either direction. Within an epoch, rows are judged in the order of their origin (topic, partition, offset, and the
//! place in the message where a message has several rows). Rows with the same origin, or without one, are judged by event time and then by the bytes of all their columns. So the
//! kept rows do not depend on the order in which partitions answered. Candidates wait for the end of the epoch. Only a
//! row that repeats a row of an earlier epoch is dropped at once.
//!
//! **What is remembered, and until when.** A kept row is needed as long as a duplicate of it can arrive. A row that is
//! not late has `time >= watermark`. So it is further than `within` from a kept row with `kept + within < watermark`,
//! and that kept row is forgotten. A row that is forgotten at the end of its own epoch is not in an increment either.

mod remembered;
#[cfg(test)]
mod test;

use super::admit::{Admitted, admit, check_time};
use super::keys::{KeyTable, key_codec, number};
use crate::batch::{Batch, Origin};
use crate::expr::{Bound, type_to_ddl};
use crate::position::TopicPartition;
use crate::state::{Finished, KeyCodec, Pushed, Stateful};
use crate::time::{EventTime, Watermark, micros};
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use arrow::row::{RowConverter, SortField};
use remembered::Remembered;
use rustc_hash::FxHashMap;
use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

/// The number of rows in one piece of a snapshot.
const PIECE: usize = 65_536;
/// The partition of rows without origin. They come last.
const NO_ORIGIN: u32 = u32::MAX;

/// The definition of a duplicate.
#[derive(Clone)]
pub struct DeduplicateSpec {
    pub keys: Vec<Bound>,
    /// The index of the event-time column.
    pub time: usize,
    pub within: Duration,
    pub schema: SchemaRef,
}

/// Drops duplicates.
pub(crate) struct Deduplicator {
    spec: DeduplicateSpec,
    codec: KeyCodec,
    state_schema: SchemaRef,
    remembered: Remembered,
    epoch: Epoch,
}

/// Rows that wait for the end of the epoch.
#[derive(Default)]
struct Epoch {
    held: Vec<Batch>,
    held_bytes: usize,
    candidates: Vec<Candidate>,
    keys: KeyTable,
    partitions: FxHashMap<TopicPartition, u32>,
    dropped: u64,
}

#[derive(Clone, Copy)]
struct Candidate {
    key: u32,
    /// The number from `Epoch::partitions`. The numbers are in order only after the epoch has ended.
    partition: u32,
    /// Has no meaning without a partition.
    offset: i64,
    time: EventTime,
    batch: u32,
    row: u32,
}

impl Candidate {
    fn order(&self) -> (u32, u32, i64, EventTime) {
        (self.key, self.partition, self.offset, self.time)
    }
}

/// As `Candidate::order`, with the places of rows in their messages in front of the times.
fn order_in_message(held: &[Batch], a: &Candidate, b: &Candidate) -> Ordering {
    fn element(held: &[Batch], c: Candidate) -> impl Iterator<Item = Option<u32>> {
        let origin = held[c.batch as usize].origin.as_ref();
        origin.into_iter().flat_map(move |o| o.element(c.row as usize))
    }
    let place = |c: &Candidate| (c.key, c.partition, c.offset);
    place(a).cmp(&place(b)).then_with(|| element(held, *a).cmp(element(held, *b))).then_with(|| a.time.cmp(&b.time))
}

impl Deduplicator {
    pub(crate) fn new(spec: DeduplicateSpec) -> Result<Self> {
        let codec = key_codec("drop_duplicates", &spec.keys)?;
        check_time("drop_duplicates", &spec.schema, spec.time)?;
        let mut fields: Vec<Field> = spec.keys.iter().map(|k| Field::new(&k.name, k.data_type.clone(), true)).collect();
        fields.push(Field::new("_time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true));
        let remembered = Remembered::new(spec.within);
        let state_schema = Arc::new(Schema::new(fields));
        Ok(Self { spec, codec, state_schema, remembered, epoch: Epoch::default() })
    }

    /// Keys and times in the form of the state.
    fn state_rows<'a>(&self, rows: impl Iterator<Item = (&'a [u8], EventTime)> + Clone) -> Result<RecordBatch> {
        let times: TimestampMicrosecondArray = rows.clone().map(|(_, time)| Some(time.0)).collect();
        let mut columns = self.codec.decode(rows.map(|(key, _)| key))?;
        columns.push(Arc::new(times.with_timezone("UTC")));
        Ok(RecordBatch::try_new(self.state_schema.clone(), columns)?)
    }
}

impl Stateful for Deduplicator {
    fn push(&mut self, _input: usize, batch: &Batch, before: Option<Watermark>) -> Result<Pushed> {
        let admitted = admit(batch, self.spec.time, &self.spec.keys, before)?;
        if admitted.batch.is_empty() {
            return Ok(admitted.pushed);
        }
        let keys = self.codec.encode(&admitted.keys)?;
        let mut rows: Vec<u32> = Vec::with_capacity(admitted.batch.len());
        for row in 0..admitted.batch.len() {
            if !self.remembered.holds(keys.row(row).data(), admitted.time(row)) {
                rows.push(row as u32);
            }
        }
        self.epoch.dropped += (admitted.batch.len() - rows.len()) as u64;
        if !rows.is_empty() {
            self.epoch.hold(&admitted, rows, |row| keys.row(row).data())?;
        }
        Ok(admitted.pushed)
    }

    fn finish_epoch(&mut self, _before: Option<Watermark>, after: Option<Watermark>) -> Result<Finished> {
        let mut epoch = std::mem::take(&mut self.epoch);
        epoch.sort()?;
        let mut kept: Vec<Vec<u32>> = epoch.held.iter().map(|b| Vec::with_capacity(b.len())).collect();
        let mut added: Vec<(u32, EventTime)> = Vec::with_capacity(epoch.keys.numbers());
        let lasting = epoch.candidates.iter().filter(|row| !self.remembered.is_over(row.time, after)).count();
        self.remembered.reserve(lasting.min(epoch.keys.numbers()));
        for same in epoch.candidates.chunk_by(|a, b| a.key == b.key) {
            let key = epoch.keys.key(same[0].key);
            for (i, row) in same.iter().enumerate() {
                // When the first row arrived, it was compared with all rows that earlier epochs kept.
                if i > 0 && self.remembered.holds(key, row.time) {
                    epoch.dropped += 1;
                    continue;
                }
                kept[row.batch as usize].push(row.row);
                let over = self.remembered.is_over(row.time, after);
                if !over {
                    added.push((row.key, row.time));
                }
                if !over || same.len() > 1 {
                    self.remembered.insert(key, row.time)?;
                }
            }
        }
        let increment = match added.is_empty() {
            true => None,
            false => Some(self.state_rows(added.iter().map(|(key, time)| (epoch.keys.key(*key), *time)))?),
        };
        let mut out = Finished { increment, updated: added.len(), ..Finished::default() };
        out.metrics.push(("numDroppedDuplicateRows", epoch.dropped));
        for (batch, mut rows) in epoch.held.into_iter().zip(kept) {
            if rows.len() == batch.len() {
                out.batches.push(batch);
            } else if !rows.is_empty() {
                rows.sort_unstable();
                out.batches.push(batch.take(&UInt32Array::from(rows))?);
            }
        }
        self.remembered.forget(after)?;
        Ok(out)
    }

    fn description(&self) -> String {
        let keys: Vec<_> = self.spec.keys.iter().map(|k| format!("{} {}", k.sql, type_to_ddl(&k.data_type))).collect();
        let time = self.spec.schema.field(self.spec.time).name();
        format!("duplicates by {}; {time} within {} µs", keys.join(", "), micros(self.spec.within))
    }

    fn state_schema(&self) -> SchemaRef {
        self.state_schema.clone()
    }

    fn restore(&mut self, state: &RecordBatch) -> Result<()> {
        let damaged = || {
            Error::storage(
                "a state file of drop_duplicates has a row without event time; it is damaged. Start over with full_refresh=True.",
            )
        };
        let (times, keys) = state.columns().split_last().ok_or_else(damaged)?;
        let times = times.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(damaged)?;
        if times.null_count() > 0 {
            return Err(damaged());
        }
        let keys = self.codec.encode(keys)?;
        self.remembered.reserve(state.num_rows());
        for (row, time) in times.values().iter().enumerate() {
            self.remembered.insert(keys.row(row).data(), EventTime(*time))?;
        }
        Ok(())
    }

    fn forget(&mut self, watermark: Option<Watermark>) -> Result<()> {
        self.remembered.forget(watermark)
    }

    fn snapshot(&mut self, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()> {
        let all: Vec<_> = self.remembered.iter().collect();
        all.chunks(PIECE).try_for_each(|piece| each(self.state_rows(piece.iter().copied())?))
    }

    fn fresh(&self) -> Result<Box<dyn Stateful>> {
        Ok(Box::new(Self::new(self.spec.clone())?))
    }

    /// Increments only add rows, and no two kept rows of one key are close to each other. So every order gives the same
    /// state.
    fn merges_anywhere(&self) -> bool {
        true
    }

    fn needed_until(&self, state: &RecordBatch) -> Option<EventTime> {
        let times = state.columns().last()?.as_primitive_opt::<TimestampMicrosecondType>()?;
        arrow::compute::max(times).map(|t| EventTime(t).plus(self.spec.within).plus(Duration::from_micros(1)))
    }

    fn groups(&self) -> usize {
        self.remembered.len()
    }
    fn memory(&self) -> usize {
        let epoch = &self.epoch;
        self.remembered.memory()
            + epoch.held_bytes
            + epoch.keys.memory()
            + epoch.candidates.capacity() * size_of::<Candidate>()
    }
}

impl Epoch {
    /// Keeps `rows` of the batch.
    fn hold<'a>(&mut self, admitted: &Admitted, rows: Vec<u32>, key: impl Fn(usize) -> &'a [u8]) -> Result<()> {
        let number_of_batch = number(self.held.len())?;
        let partitions = self.partitions_of(&admitted.batch)?;
        // The whole batch is kept, unless only a small part of it is needed.
        let compact = rows.len() * 2 <= admitted.batch.len();
        self.candidates.reserve(rows.len());
        for (at, row) in rows.iter().enumerate() {
            let from = *row as usize;
            let (partition, offset) = match &admitted.batch.origin {
                Some(origin) => {
                    let message = origin.message(from);
                    (partitions[origin.messages.sources[message] as usize], origin.messages.offsets[message])
                }
                None => (NO_ORIGIN, 0),
            };
            let (key, _) = self.keys.intern(key(from), 0)?;
            let row = if compact { at as u32 } else { *row };
            let time = admitted.time(from);
            self.candidates.push(Candidate { key, partition, offset, time, batch: number_of_batch, row });
        }
        let batch = match compact {
            true => admitted.batch.take(&UInt32Array::from(rows))?,
            false => admitted.batch.clone(),
        };
        self.held_bytes += batch.rows.get_array_memory_size();
        self.held.push(batch);
        Ok(())
    }

    /// The numbers of the partitions in the messages of the batch.
    fn partitions_of(&mut self, batch: &Batch) -> Result<Vec<u32>> {
        let Some(Origin { messages, .. }) = &batch.origin else { return Ok(vec![]) };
        let mut numbers = Vec::with_capacity(messages.partitions.len());
        for partition in messages.partitions.iter() {
            let next = number(self.partitions.len())?;
            numbers.push(*self.partitions.entry(partition.clone()).or_insert(next));
        }
        Ok(numbers)
    }

    /// Sorts the candidates in the order in which they are judged, key by key.
    fn sort(&mut self) -> Result<()> {
        let mut partitions: Vec<(&TopicPartition, u32)> = self.partitions.iter().map(|(p, n)| (p, *n)).collect();
        partitions.sort_unstable();
        let mut ranks = vec![0; partitions.len()];
        for (rank, (_, number)) in partitions.iter().enumerate() {
            ranks[*number as usize] = rank as u32;
        }
        for row in &mut self.candidates {
            row.partition = ranks.get(row.partition as usize).copied().unwrap_or(NO_ORIGIN);
        }
        if self.held.iter().any(|b| b.origin.as_ref().is_some_and(|o| !o.elements.is_empty())) {
            let Self { held, candidates, .. } = self;
            candidates.sort_unstable_by(|a, b| order_in_message(held, a, b));
        } else {
            self.candidates.sort_unstable_by_key(Candidate::order);
        }
        self.break_ties()
    }

    /// Rows that do not differ in anything else are sorted by the bytes of their columns.
    fn break_ties(&mut self) -> Result<()> {
        let (mut tied, mut runs, mut at) = (vec![], vec![], 0);
        let held = &self.held;
        let tie = |a: &Candidate, b: &Candidate| a.order() == b.order() && order_in_message(held, a, b).is_eq();
        for run in self.candidates.chunk_by(tie) {
            if run.len() > 1 {
                runs.push((at, run.len()));
                tied.extend(run.iter().map(|row| (row.batch as usize, row.row as usize)));
            }
            at += run.len();
        }
        let Some(first) = self.held.first() else { return Ok(()) };
        if tied.is_empty() {
            return Ok(());
        }
        let mut columns: Vec<ArrayRef> = vec![];
        for column in 0..first.rows.num_columns() {
            let arrays: Vec<&dyn Array> = self.held.iter().map(|b| b.rows.column(column).as_ref()).collect();
            columns.push(interleave(&arrays, &tied)?);
        }
        let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
        let bytes = RowConverter::new(fields)?.convert_columns(&columns)?;
        let mut from = 0;
        for (at, len) in runs {
            let mut order: Vec<usize> = (0..len).collect();
            order.sort_by(|a, b| bytes.row(from + a).cmp(&bytes.row(from + b)));
            let run = self.candidates[at..at + len].to_vec();
            for (row, old) in self.candidates[at..].iter_mut().zip(order) {
                *row = run[old];
            }
            from += len;
        }
        Ok(())
    }
}
