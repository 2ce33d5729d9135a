//! The rows of one side: columns in chunks. Rows are found by key and time, and forgotten by time.

use super::super::keys::{KeyTable, number};
use crate::time::{EventTime, Watermark};
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef};
use arrow::compute::interleave;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// For fewer dead rows than this, the live rows are not copied.
const FEW: usize = if cfg!(test) { 8 } else { 1024 };

#[derive(Clone, Copy)]
struct Row {
    time: EventTime,
    id: i64,
    /// The number of its key in `keys`. NONE for a row with NULL in its keys.
    key: u32,
    /// The previous row with the same key and bucket.
    next: u32,
    chunk: u32,
    at: u32,
    matched: bool,
    alive: bool,
}

struct Chunk {
    columns: Vec<ArrayRef>,
    /// The rows of the chunk are `rows[first..]`, up to the first row of the next chunk.
    first: usize,
    alive: usize,
    bytes: usize,
}

/// Rows are numbered in the order in which they arrived, and their ids have the same order. A number stays the same
/// until `settle`.
pub(super) struct Side {
    /// One more than the length of the other side's ranges, so that a range touches at most two buckets.
    bucket_us: i64,
    /// A row cannot match a row that still arrives when its time plus this is below the watermark.
    reach: Duration,
    width: usize,
    /// The most rows in a chunk after the end of the epoch.
    chunk_rows: usize,
    rows: Vec<Row>,
    chunks: Vec<Chunk>,
    keys: KeyTable,
    /// The newest row for each key and bucket.
    heads: Vec<u32>,
    /// The live rows, earliest first.
    queue: BinaryHeap<Reverse<(EventTime, u32)>>,
    /// The first row that this epoch has added.
    epoch_row: usize,
    epoch_chunk: usize,
    /// Rows of earlier epochs that matched first in this one.
    marked: Vec<u32>,
}

impl Side {
    /// `range_us` is the length of the ranges, from their first to their last time. `width` is the number of columns.
    pub(super) fn new(range_us: i64, reach: Duration, width: usize, chunk_rows: usize) -> Self {
        Self {
            bucket_us: range_us.saturating_add(1),
            reach,
            width,
            chunk_rows,
            rows: vec![],
            chunks: vec![],
            keys: KeyTable::default(),
            heads: vec![],
            queue: BinaryHeap::new(),
            epoch_row: 0,
            epoch_chunk: 0,
            marked: vec![],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// About the bytes of the columns of a row.
    pub(super) fn row_bytes(&self) -> usize {
        self.chunks.iter().map(|c| c.bytes).sum::<usize>() / self.rows.len().max(1)
    }

    pub(super) fn memory(&self) -> usize {
        self.chunks.iter().map(|c| c.bytes).sum::<usize>()
            + self.rows.capacity() * size_of::<Row>()
            + self.queue.capacity() * size_of::<Reverse<(EventTime, u32)>>()
            + self.heads.capacity() * size_of::<u32>()
            + self.keys.memory()
    }

    fn bucket(&self, time: EventTime) -> i64 {
        time.0.div_euclid(self.bucket_us)
    }

    /// The columns whose rows are inserted next.
    pub(super) fn add_chunk(&mut self, columns: Vec<ArrayRef>) -> Result<u32> {
        let n = number(self.chunks.len())?;
        self.chunks.push(Chunk::new(columns, self.rows.len()));
        Ok(n)
    }

    /// Inserts the row at `place` (chunk, row in the chunk).
    pub(super) fn insert(
        &mut self,
        place: (u32, u32),
        id: i64,
        time: EventTime,
        key: Option<&[u8]>,
        matched: bool,
    ) -> Result<u32> {
        let n = number(self.rows.len())?;
        if self.rows.last().is_some_and(|last| last.id >= id) {
            return Err(Error::storage(
                "a state file of a join of two streams is damaged: its rows are not in the order in which they were \
                 written. Start over with full_refresh=True.",
            ));
        }
        let (key, next) = match key {
            None => (KeyTable::NONE, KeyTable::NONE),
            Some(key) => match self.keys.intern(key, self.bucket(time))? {
                (key, true) => {
                    self.heads.push(n);
                    (key, KeyTable::NONE)
                }
                (key, false) => (key, std::mem::replace(&mut self.heads[key as usize], n)),
            },
        };
        let (chunk, at) = place;
        self.rows.push(Row { time, id, key, next, chunk, at, matched, alive: true });
        self.chunks[chunk as usize].alive += 1;
        self.queue.push(Reverse((time, n)));
        Ok(n)
    }

    /// The rows with this key whose time is in the range, including its ends.
    pub(super) fn find(&self, key: &[u8], (from, to): (EventTime, EventTime), found: &mut Vec<u32>) {
        if self.queue.is_empty() {
            return;
        }
        for bucket in self.bucket(from)..=self.bucket(to) {
            let mut next = self.keys.find(key, bucket).map_or(KeyTable::NONE, |key| self.heads[key as usize]);
            while next != KeyTable::NONE {
                let row = &self.rows[next as usize];
                if row.alive && row.time >= from && row.time <= to {
                    found.push(next);
                }
                next = row.next;
            }
        }
    }

    pub(super) fn mark(&mut self, row: u32) {
        let matched = &mut self.rows[row as usize].matched;
        if !std::mem::replace(matched, true) && (row as usize) < self.epoch_row {
            self.marked.push(row);
        }
    }

    /// Applies marks from a file. A row that is not here is forgotten already, or belongs to the other side.
    pub(super) fn mark_id(&mut self, id: i64) {
        if let Ok(row) = self.rows.binary_search_by_key(&id, |row| row.id) {
            self.rows[row].matched = true;
        }
    }

    fn is_over(&self, time: EventTime, watermark: Option<Watermark>) -> bool {
        watermark.is_some_and(|w| time.plus(self.reach) < w)
    }

    /// Forgets the rows that cannot match a row that still arrives. Returns those that never matched; they can be
    /// gathered until `settle`.
    pub(super) fn close(&mut self, watermark: Option<Watermark>) -> Vec<u32> {
        let mut unmatched = vec![];
        while let Some(Reverse((time, n))) = self.queue.peek().copied() {
            if !self.is_over(time, watermark) {
                break;
            }
            self.queue.pop();
            let row = &mut self.rows[n as usize];
            row.alive = false;
            self.chunks[row.chunk as usize].alive -= 1;
            if !row.matched {
                unmatched.push(n);
            }
        }
        unmatched
    }

    /// Whether `close` would return any row. It checks only the rows that `close` would forget, which are the top of a
    /// heap.
    pub(super) fn would_close(&self, watermark: Option<Watermark>) -> bool {
        let heap = self.queue.as_slice();
        let mut open = vec![0];
        while let Some(i) = open.pop() {
            let Some(Reverse((time, n))) = heap.get(i) else { continue };
            if self.is_over(*time, watermark) {
                if !self.rows[*n as usize].matched {
                    return true;
                }
                open.extend([2 * i + 1, 2 * i + 2]);
            }
        }
        false
    }

    /// The live rows that this epoch added.
    pub(super) fn added(&self) -> Vec<u32> {
        self.alive_from(self.epoch_row)
    }
    pub(super) fn alive(&self) -> Vec<u32> {
        self.alive_from(0)
    }
    fn alive_from(&self, first: usize) -> Vec<u32> {
        (first..self.rows.len()).filter(|i| self.rows[*i].alive).map(|i| i as u32).collect()
    }

    /// The ids and times of live rows of earlier epochs that matched first in this epoch.
    pub(super) fn marked(&self) -> impl Iterator<Item = (i64, EventTime)> {
        self.marked.iter().map(|n| &self.rows[*n as usize]).filter(|r| r.alive).map(|r| (r.id, r.time))
    }

    pub(super) fn id(&self, row: u32) -> i64 {
        self.rows[row as usize].id
    }
    pub(super) fn time(&self, row: u32) -> EventTime {
        self.rows[row as usize].time
    }
    pub(super) fn is_matched(&self, row: u32) -> bool {
        self.rows[row as usize].matched
    }
    /// Does nothing for a row with NULL in its keys.
    pub(super) fn key(&self, row: u32) -> Option<&[u8]> {
        let key = self.rows[row as usize].key;
        (key != KeyTable::NONE).then(|| self.keys.key(key))
    }

    /// The columns of some rows.
    pub(super) fn gather(&self, rows: &[u32]) -> Result<Vec<ArrayRef>> {
        let place = |row: &u32| {
            let row = &self.rows[*row as usize];
            (row.chunk as usize, row.at as usize)
        };
        let mut used: Vec<usize> = rows.iter().map(|r| place(r).0).collect();
        used.sort_unstable();
        used.dedup();
        let mut indices = Vec::with_capacity(rows.len());
        for row in rows {
            let (chunk, at) = place(row);
            indices.push((used.partition_point(|u| *u < chunk), at));
        }
        let column = |c: usize| {
            let arrays: Vec<&dyn Array> = used.iter().map(|u| self.chunks[*u].columns[c].as_ref()).collect();
            Ok(interleave(&arrays, &indices)?)
        };
        (0..self.width).map(column).collect()
    }

    /// Ends the epoch. Numbers can change, and dead rows are removed.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.marked.clear();
        let dead = self.rows.len() - self.queue.len();
        if dead > FEW && dead > self.queue.len() {
            self.compact()?;
        } else {
            self.coalesce()?;
            for chunk in self.chunks.iter_mut().filter(|c| c.alive == 0) {
                (chunk.columns, chunk.bytes) = (vec![], 0);
            }
        }
        self.epoch_row = self.rows.len();
        self.epoch_chunk = self.chunks.len();
        Ok(())
    }

    /// Copies the live rows. The rows, keys and columns of dead ones are removed.
    fn compact(&mut self) -> Result<()> {
        let mut new = Self::new(self.bucket_us - 1, self.reach, self.width, self.chunk_rows);
        for part in self.alive().chunks(self.chunk_rows) {
            let chunk = new.add_chunk(self.gather(part)?)?;
            for (at, &n) in part.iter().enumerate() {
                let row = &self.rows[n as usize];
                new.insert((chunk, at as u32), row.id, row.time, self.key(n), row.matched)?;
            }
        }
        *self = new;
        Ok(())
    }

    /// Makes larger chunks from the small chunks of this epoch, and from earlier chunks that are not larger than the
    /// chunks added to them. So a row is copied only a few times, and a stream with ten rows in each epoch does not end
    /// up with a chunk for each epoch.
    fn coalesce(&mut self) -> Result<()> {
        let mut from = self.epoch_chunk;
        let mut total: usize = self.chunks[from..].iter().map(|c| c.alive).sum();
        while let Some(before) = from.checked_sub(1).map(|i| &self.chunks[i]) {
            if total == 0 || before.alive > total || before.alive > self.chunk_rows / 2 {
                break;
            }
            from -= 1;
            total += before.alive;
        }
        let (mut made, mut start): (Vec<Chunk>, usize) = (vec![], from);
        while start < self.chunks.len() {
            let (mut end, mut size) = (start + 1, self.chunks[start].alive);
            while end < self.chunks.len() && size + self.chunks[end].alive <= self.chunk_rows {
                size += self.chunks[end].alive;
                end += 1;
            }
            let first = self.chunks[start].first;
            let rows = first..self.chunks.get(end).map_or(self.rows.len(), |next| next.first);
            let chunk = number(from + made.len())?;
            if end == start + 1 {
                self.rows[rows].iter_mut().for_each(|row| row.chunk = chunk);
                let old = &mut self.chunks[start];
                let columns = std::mem::take(&mut old.columns);
                made.push(Chunk { columns, first, alive: old.alive, bytes: old.bytes });
            } else {
                let alive: Vec<u32> = rows.filter(|i| self.rows[*i].alive).map(|i| i as u32).collect();
                let mut new = Chunk::new(if alive.is_empty() { vec![] } else { self.gather(&alive)? }, first);
                new.alive = alive.len();
                made.push(new);
                for (at, n) in alive.into_iter().enumerate() {
                    let row = &mut self.rows[n as usize];
                    (row.chunk, row.at) = (chunk, at as u32);
                }
            }
            start = end;
        }
        self.chunks.truncate(from);
        self.chunks.append(&mut made);
        Ok(())
    }
}

impl Chunk {
    fn new(columns: Vec<ArrayRef>, first: usize) -> Self {
        let bytes = columns.iter().map(|c| c.get_array_memory_size()).sum();
        Self { columns, first, alive: 0, bytes }
    }
}
