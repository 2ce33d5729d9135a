//! Keys as bytes, numbered.

use crate::expr::{Bound, type_to_ddl};
use crate::state::KeyCodec;
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use rustc_hash::FxHasher;
use std::hash::Hasher;

/// Numbers keys in the order in which they come. Their bytes lie one after the other in an arena: a map from `Vec<u8>` would
/// cost an allocation and three words for each.
///
/// A key stands under a bucket, a piece of time that the caller divides it by: one key with a million times is then a million
/// entries and no chain of a million. Who has no use for it says 0.
#[derive(Default)]
pub(super) struct KeyTable {
    /// Of each entry the bucket's eight bytes, then the key's.
    arena: Vec<u8>,
    ends: Vec<usize>,
    table: HashTable<u32>,
}

const BUCKET: usize = size_of::<i64>();

fn hash(key: &[u8], bucket: i64) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(key);
    hasher.write_i64(bucket);
    hasher.finish()
}

fn record<'a>(arena: &'a [u8], ends: &[usize], id: u32) -> (&'a [u8], i64) {
    let id = id as usize;
    let start = if id == 0 { 0 } else { ends[id - 1] };
    let mut bucket = [0; BUCKET];
    bucket.copy_from_slice(&arena[start..start + BUCKET]);
    (&arena[start + BUCKET..ends[id]], i64::from_le_bytes(bucket))
}

impl KeyTable {
    /// The number that no key has.
    pub const NONE: u32 = u32::MAX;

    pub fn find(&self, key: &[u8], bucket: i64) -> Option<u32> {
        let Self { arena, ends, table } = self;
        table.find(hash(key, bucket), |id| record(arena, ends, *id) == (key, bucket)).copied()
    }

    /// The key's number, and whether it is new.
    pub fn intern(&mut self, key: &[u8], bucket: i64) -> Result<(u32, bool)> {
        let Self { arena, ends, table } = self;
        let entry = table.entry(
            hash(key, bucket),
            |id| record(arena, ends, *id) == (key, bucket),
            |id| {
                let (key, bucket) = record(arena, ends, *id);
                hash(key, bucket)
            },
        );
        match entry {
            Entry::Occupied(found) => Ok((*found.get(), false)),
            Entry::Vacant(room) => {
                let id = number(ends.len())?;
                room.insert(id);
                arena.extend_from_slice(&bucket.to_le_bytes());
                arena.extend_from_slice(key);
                ends.push(arena.len());
                Ok((id, true))
            }
        }
    }

    /// The key is not found any more; its bytes stay until the table is made anew.
    pub fn remove(&mut self, id: u32) {
        let (key, bucket) = record(&self.arena, &self.ends, id);
        if let Ok(found) = self.table.find_entry(hash(key, bucket), |other| *other == id) {
            found.remove();
        }
    }

    pub fn key(&self, id: u32) -> &[u8] {
        record(&self.arena, &self.ends, id).0
    }
    /// Numbers given so far, removed ones included.
    pub fn numbers(&self) -> usize {
        self.ends.len()
    }
    pub fn reserve(&mut self, more: usize) {
        let Self { arena, ends, table } = self;
        ends.reserve(more);
        table.reserve(more, |id| {
            let (key, bucket) = record(arena, ends, *id);
            hash(key, bucket)
        });
    }
    pub fn memory(&self) -> usize {
        self.arena.capacity() + self.ends.capacity() * size_of::<usize>() + self.table.allocation_size()
    }
}

/// A number of 32 bits for the next of something that is numbered from 0.
pub(super) fn number(next: usize) -> Result<u32> {
    match u32::try_from(next) {
        Ok(n) if n != KeyTable::NONE => Ok(n),
        _ => Err(Error::internal(
            "more than four billion rows are remembered; give the query a shorter range of time or more partitions of work",
        )),
    }
}

/// Keys to bytes. `place` says whose keys they are, for errors.
pub(super) fn key_codec(place: &str, keys: &[Bound]) -> Result<KeyCodec> {
    if keys.is_empty() {
        return Err(Error::schema(format!("{place} has no keys; name at least one column")));
    }
    for key in keys {
        if has_map(&key.data_type) {
            return Err(Error::schema(format!(
                "{place}: the key '{}' is {}, and maps cannot be compared; use one of its values, as in element_at({}, 'k')",
                key.name,
                type_to_ddl(&key.data_type),
                key.sql
            )));
        }
    }
    KeyCodec::new(keys.iter().map(|k| &k.data_type))
}

fn has_map(t: &DataType) -> bool {
    match t {
        DataType::Map(..) => true,
        DataType::List(f) | DataType::LargeList(f) | DataType::FixedSizeList(f, _) => has_map(f.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| has_map(f.data_type())),
        _ => false,
    }
}

/// Null for rows that have a NULL in any key; None when there is none.
pub(super) fn null_keys(keys: &[ArrayRef]) -> Option<NullBuffer> {
    let nulls = keys
        .iter()
        .fold(None, |all: Option<NullBuffer>, key| NullBuffer::union(all.as_ref(), key.logical_nulls().as_ref()));
    nulls.filter(|n| n.null_count() > 0)
}
