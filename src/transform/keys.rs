//! Keys as bytes, with numbers.

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

/// Numbers keys in the order in which they arrive. Their bytes are stored one after the other in an arena. A map from
/// `Vec<u8>` would need an allocation and three words for each key.
///
/// A key is stored under a bucket, a piece of time that the caller chooses. So one key with a million times is a
/// million entries, and not a chain of a million rows. A caller that does not need buckets uses 0.
#[derive(Default)]
pub(super) struct KeyTable {
    /// For each entry: the eight bytes of the bucket, then the bytes of the key.
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
    /// A number that no key has.
    pub(super) const NONE: u32 = u32::MAX;

    pub(super) fn find(&self, key: &[u8], bucket: i64) -> Option<u32> {
        let Self { arena, ends, table } = self;
        table.find(hash(key, bucket), |id| record(arena, ends, *id) == (key, bucket)).copied()
    }

    /// The number of the key, and whether it is new.
    pub(super) fn intern(&mut self, key: &[u8], bucket: i64) -> Result<(u32, bool)> {
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

    /// The key cannot be found any more. Its bytes stay until the table is rebuilt.
    pub(super) fn remove(&mut self, id: u32) {
        let (key, bucket) = record(&self.arena, &self.ends, id);
        if let Ok(found) = self.table.find_entry(hash(key, bucket), |other| *other == id) {
            found.remove();
        }
    }

    pub(super) fn key(&self, id: u32) -> &[u8] {
        record(&self.arena, &self.ends, id).0
    }
    /// The count of numbers given so far, including removed ones.
    pub(super) fn numbers(&self) -> usize {
        self.ends.len()
    }
    pub(super) fn reserve(&mut self, more: usize) {
        let Self { arena, ends, table } = self;
        ends.reserve(more);
        table.reserve(more, |id| {
            let (key, bucket) = record(arena, ends, *id);
            hash(key, bucket)
        });
    }
    pub(super) fn memory(&self) -> usize {
        self.arena.capacity() + self.ends.capacity() * size_of::<usize>() + self.table.allocation_size()
    }
}

/// A 32-bit number for the next item of a sequence that starts at 0.
pub(super) fn number(next: usize) -> Result<u32> {
    match u32::try_from(next) {
        Ok(n) if n != KeyTable::NONE => Ok(n),
        _ => Err(Error::internal(
            "more than four billion rows are remembered. Use a shorter range of time, or divide the work into several queries.",
        )),
    }
}

/// Converts keys to bytes. `place` names the step, for errors.
pub(super) fn key_codec(place: &str, keys: &[Bound]) -> Result<KeyCodec> {
    if keys.is_empty() {
        return Err(Error::schema(format!("{place} has no keys. Name at least one column.")));
    }
    for key in keys {
        if has_map(&key.data_type) {
            return Err(Error::schema(format!(
                "{place}: the key '{}' is {}, and maps cannot be compared. Use one of its values, for example element_at({}, 'k').",
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

/// Null for rows with NULL in any key. None if there are no such rows.
pub(super) fn null_keys(keys: &[ArrayRef]) -> Option<NullBuffer> {
    let nulls = keys
        .iter()
        .fold(None, |all: Option<NullBuffer>, key| NullBuffer::union(all.as_ref(), key.logical_nulls().as_ref()));
    nulls.filter(|n| n.null_count() > 0)
}
