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
use std::ops::Range;

/// Keys as bytes, one for each row, with their hashes. Empty if there are no key columns.
pub(crate) struct KeyBytes {
    bytes: Bytes,
    hashes: Vec<u64>,
}

enum Bytes {
    None,
    Rows(arrow::row::Rows),
    Array(BinaryArray),
}

impl KeyBytes {
    pub(crate) fn new(
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
    pub(crate) fn from_array(array: BinaryArray, hasher: &DefaultHashBuilder) -> Self {
        let hashes = (0..array.len()).map(|i| hash_of(hasher, array.value(i))).collect();
        Self { bytes: Bytes::Array(array), hashes }
    }
    #[inline]
    pub(crate) fn get(&self, row: usize) -> &[u8] {
        match &self.bytes {
            Bytes::None => &[],
            Bytes::Rows(rows) => rows.row(row).data(),
            Bytes::Array(array) => array.value(row),
        }
    }
    #[inline]
    pub(crate) fn hash(&self, row: usize) -> u64 {
        self.hashes[row]
    }
}

/// The groups and their partial states.
pub(crate) struct Table {
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    arena: Vec<u8>,
    /// The end of each key in the arena.
    ends: Vec<usize>,
    states: Columns,
    /// For aggregates that hold values: the partial states that came since the last merge, oldest first. If a group's values
    /// were merged in each epoch, the cost would depend on all values of the group, and not on those that the epoch adds.
    pending: Vec<Pending>,
}

/// Partial states of one aggregate that are not merged yet.
struct Pending {
    /// The number of the aggregate.
    aggregate: usize,
    slots: Vec<u32>,
    states: Vec<ArrayRef>,
    bytes: usize,
}

/// The columns of each aggregate's state.
fn columns(aggregates: &[Aggregate]) -> Result<Vec<Range<usize>>> {
    let mut at = 0;
    let mut of = |a: &Aggregate| {
        let from = at;
        at += a.state_fields()?.len();
        Ok(from..at)
    };
    aggregates.iter().map(&mut of).collect()
}

/// Fewer pending bytes than this are no reason to merge.
const PENDING: usize = 256 << 10;
/// This many pending epochs are merged, also if they are small: each epoch is an array of its own.
const PENDINGS: usize = 1024;

impl Table {
    pub(crate) fn new(state_schema: &SchemaRef, hasher: &DefaultHashBuilder) -> Self {
        Self {
            index: HashTable::new(),
            hasher: hasher.clone(),
            arena: vec![],
            ends: vec![],
            states: Columns::new(state_schema),
            pending: vec![],
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
    pub(crate) fn memory(&self) -> usize {
        self.index.allocation_size()
            + self.arena.capacity()
            + self.ends.capacity() * 8
            + self.states.memory()
            + self.pending()
    }

    fn pending(&self) -> usize {
        self.pending.iter().map(|p| p.bytes + p.slots.capacity() * 4).sum()
    }

    pub(crate) fn key(&self, slot: u32) -> &[u8] {
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
    pub(crate) fn merge(
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
            let mut held = 0;
            for (i, (aggregate, columns)) in aggregates.iter().zip(columns(aggregates)?).enumerate() {
                let theirs = &states[columns.clone()];
                let theirs = theirs.iter().map(|s| take(s, &rows, None)).collect::<Result<Vec<_>, _>>()?;
                if aggregate.grows {
                    held += self.states.memory_of(columns);
                    let bytes = theirs.iter().map(|s| s.get_buffer_memory_size()).sum();
                    self.pending.push(Pending { aggregate: i, slots: old_slots.clone(), states: theirs, bytes });
                    continue;
                }
                let ours = self.states.gather_of(&old_slots, columns.clone())?;
                let merged = combine(aggregate, &ours, &theirs, old_slots.len())?;
                self.states.scatter_of(&old_slots, &merged, columns)?;
            }
            // Merged values double in size before they are merged again. So each value is merged a few times in all, and
            // pending values take at most as much memory as the merged ones.
            if self.pending.len() >= PENDINGS || self.pending() > PENDING.max(held) {
                self.settle(aggregates)?;
            }
        }
        Ok(slots)
    }

    /// Merges the pending states.
    pub(crate) fn settle(&mut self, aggregates: &[Aggregate]) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut slots: Vec<u32> = self.pending.iter().flat_map(|p| p.slots.iter().copied()).collect();
        slots.sort_unstable();
        slots.dedup();
        for (i, columns) in columns(aggregates)?.into_iter().enumerate() {
            if self.pending.iter().any(|p| p.aggregate == i) {
                let merged = self.with_pending(i, &aggregates[i], columns.clone(), &slots)?;
                self.states.scatter_of(&slots, &merged, columns)?;
            }
        }
        self.pending.clear();
        Ok(())
    }

    /// The states of one aggregate in `slots`, which are all different, with the pending states for them.
    fn with_pending(
        &self,
        number: usize,
        aggregate: &Aggregate,
        columns: Range<usize>,
        slots: &[u32],
    ) -> Result<Vec<ArrayRef>> {
        let n = slots.len();
        let ours = self.states.gather_of(slots, columns)?;
        let mut acc = aggregate.accumulator()?;
        acc.merge_batch(&ours, &(0..n).collect::<Vec<_>>(), n)?;
        drop(ours);
        let mut groups = vec![u32::MAX; self.len()];
        slots.iter().enumerate().for_each(|(i, slot)| groups[*slot as usize] = i as u32);
        for pending in self.pending.iter().filter(|p| p.aggregate == number) {
            let group = |slot: &u32| groups[*slot as usize];
            if pending.slots.iter().all(|s| group(s) != u32::MAX) {
                let groups: Vec<usize> = pending.slots.iter().map(|s| group(s) as usize).collect();
                acc.merge_batch(&pending.states, &groups, n)?;
                continue;
            }
            let some: Vec<u32> =
                (0..pending.slots.len() as u32).filter(|r| group(&pending.slots[*r as usize]) != u32::MAX).collect();
            if some.is_empty() {
                continue;
            }
            let groups: Vec<usize> = some.iter().map(|r| group(&pending.slots[*r as usize]) as usize).collect();
            let some = UInt32Array::from(some);
            let states = pending.states.iter().map(|s| take(s, &some, None)).collect::<Result<Vec<_>, _>>()?;
            acc.merge_batch(&states, &groups, n)?;
        }
        Ok(acc.state(EmitTo::All)?)
    }

    /// The partial states in `slots`, which are all different.
    pub(crate) fn states(&self, aggregates: &[Aggregate], slots: &[u32]) -> Result<Vec<ArrayRef>> {
        if self.pending.is_empty() || slots.is_empty() {
            return self.states.gather(slots);
        }
        let mut out = vec![];
        for (i, columns) in columns(aggregates)?.into_iter().enumerate() {
            out.extend(match self.pending.iter().any(|p| p.aggregate == i) {
                true => self.with_pending(i, &aggregates[i], columns, slots)?,
                false => self.states.gather_of(slots, columns)?,
            });
        }
        Ok(out)
    }

    pub(crate) fn all(&self) -> Vec<u32> {
        (0..self.len() as u32).collect()
    }

    /// The keys of all slots, in order.
    pub(crate) fn keys(&self) -> BinaryArray {
        BinaryArray::from_iter_values((0..self.len() as u32).map(|s| self.key(s)))
    }

    /// The same groups in `n` tables, by the `part` of their hash.
    pub(crate) fn split(
        mut self,
        aggregates: &[Aggregate],
        schema: &SchemaRef,
        n: usize,
        part: impl Fn(u64) -> usize,
    ) -> Result<Vec<Self>> {
        self.settle(aggregates)?;
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
fn combine(aggregate: &Aggregate, a: &[ArrayRef], b: &[ArrayRef], n: usize) -> Result<Vec<ArrayRef>> {
    let groups: Vec<usize> = (0..n).collect();
    let mut acc = aggregate.accumulator()?;
    acc.merge_batch(a, &groups, n)?;
    acc.merge_batch(b, &groups, n)?;
    Ok(acc.state(EmitTo::All)?)
}

/// The results of partial states, one row for each.
pub(crate) fn results(aggregates: &[Aggregate], states: &[ArrayRef], n: usize) -> Result<Vec<ArrayRef>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::{Dialect, bind_aggregation};
    use crate::state::Groups;
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Schema};
    use rand::{Rng, RngExt, SeedableRng};
    use std::sync::Arc;

    /// An epoch's partial states of random values: keys as bytes, and states.
    fn epoch(
        rng: &mut impl Rng,
        schema: &SchemaRef,
        aggregates: &[Aggregate],
        rows: usize,
    ) -> (Vec<ArrayRef>, Vec<ArrayRef>) {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(|_| rng.random_range(0..5i64))));
        let values: ArrayRef =
            Arc::new((0..rows).map(|_| Some(rng.random_range(0..50i64)).filter(|v| *v > 0)).collect::<Int64Array>());
        let batch = arrow::array::RecordBatch::try_new(schema.clone(), vec![keys.clone(), values]).unwrap();
        let key_schema = Arc::new(schema.project(&[0]).unwrap());
        let mut groups = Groups::new(&key_schema, aggregates).unwrap();
        let (arguments, filters) =
            aggregates.iter().map(|a| a.evaluate(&batch).unwrap()).unzip::<_, _, Vec<_>, Vec<_>>();
        groups.update(&[keys], &arguments, &filters, rows).unwrap();
        groups.into_states().unwrap()
    }

    #[test]
    fn values_are_merged_when_they_are_read_or_have_doubled_and_the_results_are_those_of_merging_at_once() {
        let schema: SchemaRef =
            Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true), Field::new("v", DataType::Int64, true)]));
        let items = ["percentile(v, 0.5)", "count(*)", "count(DISTINCT v)", "sum(v)", "size(collect_list(v))"];
        let items: Vec<(Option<String>, String)> = items.iter().map(|i| (None, i.to_string())).collect();
        let aggregates = bind_aggregation(&items, &schema, Dialect::Databricks).unwrap().aggregates;
        let fields: Vec<_> = aggregates.iter().flat_map(|a| a.state_fields().unwrap()).collect();
        let partials: SchemaRef = Arc::new(Schema::new(fields));
        let hasher = DefaultHashBuilder::default();
        let codec = KeyCodec::new([&DataType::Int64]).unwrap();
        for seed in 0..40 {
            let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
            let (mut lazy, mut eager) = (Table::new(&partials, &hasher), Table::new(&partials, &hasher));
            let mut waited = false;
            for _ in 0..30 {
                let rows = rng.random_range(1..40);
                let (keys, states) = epoch(&mut rng, &schema, &aggregates, rows);
                let n = keys[0].len();
                let keys = KeyBytes::new(Some(&codec), &keys, n, &hasher).unwrap();
                let all: Vec<u32> = (0..n as u32).collect();
                lazy.merge(&aggregates, &keys, &states, &all).unwrap();
                eager.merge(&aggregates, &keys, &states, &all).unwrap();
                eager.settle(&aggregates).unwrap();
                waited |= !lazy.pending.is_empty();
                if rng.random_bool(0.2) {
                    // Reading some groups does not change the others.
                    let some: Vec<u32> = lazy.all().into_iter().filter(|_| rng.random_bool(0.5)).collect();
                    let of =
                        |t: &Table| results(&aggregates, &t.states(&aggregates, &some).unwrap(), some.len()).unwrap();
                    assert_eq!(of(&lazy), of(&eager), "seed {seed}");
                }
                if rng.random_bool(0.1) {
                    lazy.settle(&aggregates).unwrap();
                }
            }
            assert!(waited);
            let of = |t: &Table| results(&aggregates, &t.states(&aggregates, &t.all()).unwrap(), t.len()).unwrap();
            assert_eq!((of(&lazy), lazy.keys()), (of(&eager), eager.keys()), "seed {seed}");
            let parts = lazy.split(&aggregates, &partials, 3, |hash| hash as usize % 3).unwrap();
            let sum = |t: &Table| of(t)[1].as_primitive::<arrow::datatypes::Int64Type>().iter().flatten().sum::<i64>();
            assert_eq!(parts.iter().map(sum).sum::<i64>(), sum(&eager), "seed {seed}");
        }
    }

    #[test]
    fn a_group_that_grows_takes_about_twice_its_values_in_memory_at_most_and_is_merged_a_few_times() {
        let schema: SchemaRef =
            Arc::new(Schema::new(vec![Field::new("k", DataType::Int64, true), Field::new("v", DataType::Int64, true)]));
        let aggregates = bind_aggregation(&[(None, "percentile(v, 0.5)".to_string())], &schema, Dialect::Databricks)
            .unwrap()
            .aggregates;
        let partials: SchemaRef = Arc::new(Schema::new(aggregates[0].state_fields().unwrap()));
        let hasher = DefaultHashBuilder::default();
        let mut table = Table::new(&partials, &hasher);
        let mut settled = 0;
        let epochs = 600;
        for at in 0..epochs {
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values(at * 1000..(at + 1) * 1000));
            let keys: ArrayRef = Arc::new(Int64Array::from(vec![1; 1000]));
            let batch = arrow::array::RecordBatch::try_new(schema.clone(), vec![keys, values]).unwrap();
            let mut groups = Groups::new(&Arc::new(Schema::empty()), &aggregates).unwrap();
            let (arguments, filter) = aggregates[0].evaluate(&batch).unwrap();
            groups.update(&[], &[arguments], &[filter], 1000).unwrap();
            let (_, states) = groups.into_states().unwrap();
            let keys = KeyBytes::new(None, &[], 1, &hasher).unwrap();
            table.merge(&aggregates, &keys, &states, &[0]).unwrap();
            settled += usize::from(table.pending.is_empty());
            let held = 8 * 1000 * (at as usize + 1);
            assert!(table.memory() < 5 * held / 2 + 2 * PENDING, "{} bytes for {held} at {at}", table.memory());
        }
        assert!(settled < 10, "merged {settled} times in {epochs} epochs");
    }
}
