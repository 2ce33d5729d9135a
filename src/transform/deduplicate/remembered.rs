//! The keys and times of kept rows, as long as they are needed.

use super::super::keys::KeyTable;
use crate::Result;
use crate::time::{EventTime, Watermark, micros};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// For fewer dead keys than this, the table is not rebuilt.
const FEW: usize = if cfg!(test) { 8 } else { 1024 };

/// A key can be kept again when the distance in time is more than `within`. So it has at most one time in each bucket
/// of `within` + 1 µs. A time that makes a row a duplicate is in the row's bucket or in one of the two neighbours. So
/// three look-ups are enough, for any number of times of a key.
///
/// Each entry needs about 60 bytes and the bytes of the key.
pub(super) struct Remembered {
    within: Duration,
    within_us: i64,
    bucket_us: i64,
    keys: KeyTable,
    /// Indexed by the numbers of `keys`.
    times: Vec<EventTime>,
    /// The live entries, earliest first.
    queue: BinaryHeap<Reverse<(EventTime, u32)>>,
}

impl Remembered {
    pub(super) fn new(within: Duration) -> Self {
        let within_us = micros(within);
        Self {
            within,
            within_us,
            bucket_us: within_us.saturating_add(1),
            keys: KeyTable::default(),
            times: vec![],
            queue: BinaryHeap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    fn bucket(&self, time: EventTime) -> i64 {
        time.0.div_euclid(self.bucket_us)
    }

    /// Whether a row with this key and this time is a duplicate.
    pub(super) fn holds(&self, key: &[u8], time: EventTime) -> bool {
        if self.queue.is_empty() {
            return false;
        }
        let bucket = self.bucket(time);
        [bucket, bucket.saturating_sub(1), bucket.saturating_add(1)].into_iter().any(|bucket| {
            self.keys
                .find(key, bucket)
                .is_some_and(|id| self.times[id as usize].0.abs_diff(time.0) <= self.within_us.unsigned_abs())
        })
    }

    /// Remembers a row that is not a duplicate.
    pub(super) fn insert(&mut self, key: &[u8], time: EventTime) -> Result<()> {
        let (id, new) = self.keys.intern(key, self.bucket(time))?;
        // The existing entry is the same row, read from two state files.
        if new {
            self.times.push(time);
            self.queue.push(Reverse((time, id)));
        }
        Ok(())
    }

    /// Whether no row that can still arrive is a duplicate of a row with this time.
    pub(super) fn is_over(&self, time: EventTime, watermark: Option<Watermark>) -> bool {
        watermark.is_some_and(|w| time.plus(self.within) < w)
    }

    pub(super) fn forget(&mut self, watermark: Option<Watermark>) -> Result<()> {
        while let Some(Reverse((time, id))) = self.queue.peek().copied() {
            if !self.is_over(time, watermark) {
                break;
            }
            self.queue.pop();
            self.keys.remove(id);
        }
        let dead = self.keys.numbers() - self.queue.len();
        if dead > FEW && dead > self.queue.len() { self.compact() } else { Ok(()) }
    }

    fn compact(&mut self) -> Result<()> {
        let mut new = Self::new(self.within);
        new.reserve(self.queue.len());
        for (key, time) in self.iter() {
            new.insert(key, time)?;
        }
        *self = new;
        Ok(())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], EventTime)> {
        self.queue.iter().map(|Reverse((time, id))| (self.keys.key(*id), *time))
    }

    pub(super) fn reserve(&mut self, more: usize) {
        self.keys.reserve(more);
        self.times.reserve(more);
        self.queue.reserve(more);
    }

    pub(super) fn memory(&self) -> usize {
        self.keys.memory()
            + self.times.capacity() * size_of::<EventTime>()
            + self.queue.capacity() * size_of::<Reverse<(EventTime, u32)>>()
    }
}
