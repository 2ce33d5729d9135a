//! Live partial states by key. A group is found by the bytes of its key and changed in place.

use super::columns::Columns;
use super::keys::KeyCodec;
use crate::Result;
use crate::expr::Aggregate;
use arrow::array::{Array, ArrayRef, BinaryArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::EmitTo;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// Keys as bytes, one for each row, with their hashes. Empty if there are no key columns.
pub struct KeyBytes {
    bytes: Bytes,
    hashes: Vec<u64>,
}

enum Bytes {
    None,
    Rows(arrow::row::Rows),
    Array(BinaryArray),
}

impl KeyBytes {
    pub fn new(
        codec: Option<&KeyCodec>,
        columns: &[ArrayRef],
        len: usize,
        hasher: &DefaultHashBuilder,
    ) -> Result<Self> {
        let Some(codec) = codec else { return Ok(Self { bytes: Bytes::None, hashes: vec![0; len] }) };
        let rows = codec.encode(columns)?;
        let hashes = rows.iter().map(|r| hash_of(hasher, r.data())).collect();
        Ok(Self { bytes: Bytes::Rows(rows), hashes })
    }
    pub fn from_array(array: BinaryArray, hasher: &DefaultHashBuilder) -> Self {
        let hashes = (0..array.len()).map(|i| hash_of(hasher, array.value(i))).collect();
        Self { bytes: Bytes::Array(array), hashes }
    }
    #[inline]
    pub fn get(&self, row: usize) -> &[u8] {
        match &self.bytes {
            Bytes::None => &[],
            Bytes::Rows(rows) => rows.row(row).data(),
            Bytes::Array(array) => array.value(row),
        }
    }
    #[inline]
    pub fn hash(&self, row: usize) -> u64 {
        self.hashes[row]
    }
}

/// The groups and their partial states.
pub struct Table {
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    arena: Vec<u8>,
    /// The end of each key in the arena.
    ends: Vec<usize>,
    states: Columns,
}

impl Table {
    pub fn new(state_schema: &SchemaRef, hasher: &DefaultHashBuilder) -> Self {
        Self {
            index: HashTable::new(),
            hasher: hasher.clone(),
            arena: vec![],
            ends: vec![],
            states: Columns::new(state_schema),
        }
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
    pub fn memory(&self) -> usize {
        self.index.allocation_size() + self.arena.capacity() + self.ends.capacity() * 8 + self.states.memory()
    }

    pub fn key(&self, slot: u32) -> &[u8] {
        key_at(&self.arena, &self.ends, slot)
    }

    /// The slot of a key, and whether it was created by this call.
    #[inline]
    fn intern(&mut self, key: &[u8], hash: u64) -> (u32, bool) {
        let Self { index, hasher, arena, ends, .. } = self;
        if let Some(slot) = index.find(hash, |s| key_at(arena, ends, *s) == key) {
            return (*slot, false);
        }
        let slot = ends.len() as u32;
        arena.extend_from_slice(key);
        ends.push(arena.len());
        index.insert_unique(hash, slot, |s| hash_of(hasher, key_at(arena, ends, *s)));
        (slot, true)
    }

    /// Merges partial states: `rows` of `keys` and `states`, whose keys are unique. Returns their slots.
    pub fn merge(
        &mut self,
        aggregates: &[Aggregate],
        keys: &KeyBytes,
        states: &[ArrayRef],
        rows: &[u32],
    ) -> Result<Vec<u32>> {
        let mut slots = Vec::with_capacity(rows.len());
        let (mut new, mut old, mut old_slots) = (vec![], vec![], vec![]);
        for row in rows {
            let (slot, is_new) = self.intern(keys.get(*row as usize), keys.hash(*row as usize));
            slots.push(slot);
            if is_new {
                new.push(*row);
            } else {
                old.push(*row);
                old_slots.push(slot);
            }
        }
        self.states.append(states, &new)?;
        if !old.is_empty() {
            let rows = UInt32Array::from(old);
            let theirs = states.iter().map(|s| take(s, &rows, None)).collect::<Result<Vec<_>, _>>()?;
            let ours = self.states.gather(&old_slots)?;
            let merged = combine(aggregates, &ours, &theirs, old_slots.len())?;
            self.states.scatter(&old_slots, &merged)?;
        }
        Ok(slots)
    }

    /// The partial states in `slots`.
    pub fn states(&self, slots: &[u32]) -> Result<Vec<ArrayRef>> {
        self.states.gather(slots)
    }

    pub fn all(&self) -> Vec<u32> {
        (0..self.len() as u32).collect()
    }

    /// The keys of all slots, in order.
    pub fn keys(&self) -> BinaryArray {
        BinaryArray::from_iter_values((0..self.len() as u32).map(|s| self.key(s)))
    }

    /// The same groups in `n` tables, by the `part` of their hash.
    pub fn split(self, schema: &SchemaRef, n: usize, part: impl Fn(u64) -> usize) -> Result<Vec<Self>> {
        let mut slots = vec![vec![]; n];
        for slot in self.all() {
            slots[part(hash_of(&self.hasher, self.key(slot)))].push(slot);
        }
        let one = |slots: Vec<u32>| {
            let mut table = Self::new(schema, &self.hasher);
            for slot in &slots {
                let key = self.key(*slot);
                table.intern(key, hash_of(&self.hasher, key));
            }
            let states = self.states.gather(&slots)?;
            table.states.append(&states, &(0..slots.len() as u32).collect::<Vec<_>>())?;
            Ok(table)
        };
        slots.into_iter().map(one).collect()
    }
}

#[inline]
fn key_at<'a>(arena: &'a [u8], ends: &[usize], slot: u32) -> &'a [u8] {
    let slot = slot as usize;
    let start = if slot == 0 { 0 } else { ends[slot - 1] };
    &arena[start..ends[slot]]
}

#[inline]
fn hash_of(hasher: &DefaultHashBuilder, key: &[u8]) -> u64 {
    // The same hash as `KeyBytes`; without key columns the key has no bytes.
    if key.is_empty() { 0 } else { hasher.hash_one(key) }
}

/// Merges two partial states for each of `n` groups into one.
fn combine(aggregates: &[Aggregate], a: &[ArrayRef], b: &[ArrayRef], n: usize) -> Result<Vec<ArrayRef>> {
    let groups: Vec<usize> = (0..n).collect();
    let mut out = Vec::with_capacity(a.len());
    let mut at = 0;
    for aggregate in aggregates {
        let width = aggregate.state_fields()?.len();
        let mut acc = aggregate.accumulator()?;
        acc.merge_batch(&a[at..at + width], &groups, n)?;
        acc.merge_batch(&b[at..at + width], &groups, n)?;
        out.extend(acc.state(EmitTo::All)?);
        at += width;
    }
    Ok(out)
}

/// The results of partial states, one row for each.
pub fn results(aggregates: &[Aggregate], states: &[ArrayRef], n: usize) -> Result<Vec<ArrayRef>> {
    let groups: Vec<usize> = (0..n).collect();
    let mut out = Vec::with_capacity(aggregates.len());
    let mut at = 0;
    for aggregate in aggregates {
        let width = aggregate.state_fields()?.len();
        let mut acc = aggregate.accumulator()?;
        acc.merge_batch(&states[at..at + width], &groups, n)?;
        out.push(aggregate.finish(acc.evaluate(EmitTo::All)?)?);
        at += width;
    }
    Ok(out)
}
