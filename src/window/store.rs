//! Live groups by window, in memory and, above a limit, on local disk.
//!
//! The groups of a window are one table until there are many. Then they are divided into shards by the hash of their
//! key. So a whole window is never moved to disk and back at once. A shard on disk is a list of runs: partial states
//! that were moved there at different times. They add up like increments. So a run is read again only when its window
//! is emitted, or when groups must be looked up (output mode update).

use super::spec::AggregateSpec;
use crate::expr::Aggregate;
use crate::state::{KeyBytes, KeyCodec, Table};
use crate::{Error, Result};
use arrow::array::*;
use arrow::datatypes::*;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use hashbrown::DefaultHashBuilder;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The number of groups from which on the table of a window is divided, and the number of shards.
const SPLIT: usize = 1 << 18;
const SHARDS: usize = 16;
/// The number of rows in one piece of a run.
const PIECE: usize = 1 << 16;

fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

struct Shard {
    table: Table,
    runs: Vec<Run>,
    /// The time of its last change.
    touched: u64,
}

struct Run {
    file: tempfile::TempPath,
    rows: usize,
}

/// Some groups as columns.
pub(super) struct Piece {
    pub start: i64,
    pub keys: Vec<ArrayRef>,
    pub states: Vec<ArrayRef>,
    pub rows: usize,
}

pub(super) struct Store {
    aggregates: Vec<Aggregate>,
    codec: Option<KeyCodec>,
    hasher: DefaultHashBuilder,
    partials: SchemaRef,
    windows: BTreeMap<i64, Vec<Shard>>,
    clock: u64,
    folder: Option<Arc<tempfile::TempDir>>,
}

impl Store {
    pub(super) fn new(spec: &AggregateSpec) -> Result<Self> {
        let fields = spec.key_fields();
        let codec = match fields.is_empty() {
            true => None,
            false => Some(KeyCodec::new(fields.iter().map(Field::data_type))?),
        };
        Ok(Self {
            aggregates: spec.aggregates().to_vec(),
            codec,
            hasher: DefaultHashBuilder::default(),
            partials: Arc::new(Schema::new(spec.partials()?)),
            windows: BTreeMap::new(),
            clock: 0,
            folder: None,
        })
    }

    pub(super) fn key_bytes(&self, keys: &[ArrayRef], rows: usize) -> Result<KeyBytes> {
        KeyBytes::new(self.codec.as_ref(), keys, rows, &self.hasher)
    }

    pub(super) fn has(&self, start: i64) -> bool {
        self.windows.contains_key(&start)
    }
    pub(super) fn starts(&self) -> impl DoubleEndedIterator<Item = i64> + '_ {
        self.windows.keys().copied()
    }
    pub(super) fn groups_of(&self, start: i64) -> usize {
        let of = |s: &Shard| s.table.len() + s.runs.iter().map(|r| r.rows).sum::<usize>();
        self.windows.get(&start).map_or(0, |shards| shards.iter().map(of).sum())
    }
    pub(super) fn groups(&self) -> usize {
        self.starts().map(|s| self.groups_of(s)).sum()
    }
    pub(super) fn memory(&self) -> usize {
        self.windows.values().flatten().map(|s| s.table.memory()).sum()
    }

    /// Merges the rows `rows` of some partial states into a window. With `read`, it returns the new states of these
    /// rows, and the rows they belong to (in a different order).
    pub(super) fn merge(
        &mut self,
        start: i64,
        keys: &KeyBytes,
        states: &[ArrayRef],
        rows: Vec<u32>,
        read: bool,
    ) -> Result<Vec<(Vec<u32>, Vec<ArrayRef>)>> {
        self.clock += 1;
        let Self { aggregates, hasher, partials, windows, clock, .. } = self;
        let shards = windows.entry(start).or_insert_with(|| vec![shard(Table::new(partials, hasher))]);
        let parts = match shards.len() {
            1 => vec![rows],
            n => {
                let mut parts = vec![vec![]; n];
                rows.into_iter().for_each(|r| parts[shard_of(keys.hash(r as usize))].push(r));
                parts
            }
        };
        let mut out = vec![];
        for (shard, rows) in shards.iter_mut().zip(parts).filter(|(_, rows)| !rows.is_empty()) {
            shard.touched = *clock;
            if read {
                load(shard, aggregates, hasher)?;
            }
            let slots = shard.table.merge(aggregates, keys, states, &rows)?;
            if read {
                shard.table.settle(aggregates)?;
                out.push((rows, shard.table.states(aggregates, &slots)?));
            }
        }
        if shards.len() == 1 && shards[0].runs.is_empty() && shards[0].table.len() > SPLIT {
            if let Some(one) = shards.pop() {
                shards.extend(one.table.split(aggregates, partials, SHARDS, shard_of)?.into_iter().map(shard));
            }
        }
        Ok(out)
    }

    /// The groups of a window, shard by shard. They are forgotten.
    pub(super) fn take(&mut self, start: i64, each: &mut dyn FnMut(Piece) -> Result<()>) -> Result<()> {
        for mut shard in self.windows.remove(&start).unwrap_or_default() {
            load(&mut shard, &self.aggregates, &self.hasher)?;
            shard.table.settle(&self.aggregates)?;
            self.hand_out(start, &shard.table, each)?;
        }
        Ok(())
    }

    pub(super) fn forget(&mut self, start: i64) {
        self.windows.remove(&start);
    }

    /// All groups of a window, shard by shard. They stay.
    pub(super) fn read(&self, start: i64, each: &mut dyn FnMut(Piece) -> Result<()>) -> Result<()> {
        for shard in self.windows.get(&start).into_iter().flatten() {
            if shard.runs.is_empty() {
                self.hand_out(start, &shard.table, each)?;
                continue;
            }
            let mut whole = Table::new(&self.partials, &self.hasher);
            for run in &shard.runs {
                read_run(run, &mut whole, &self.aggregates, &self.hasher)?;
            }
            let table = &shard.table;
            let keys = KeyBytes::from_array(table.keys(), &self.hasher);
            let states = table.states(&self.aggregates, &table.all())?;
            whole.merge(&self.aggregates, &keys, &states, &table.all())?;
            self.hand_out(start, &whole, each)?;
        }
        Ok(())
    }

    fn hand_out(&self, start: i64, table: &Table, each: &mut dyn FnMut(Piece) -> Result<()>) -> Result<()> {
        if table.is_empty() {
            return Ok(());
        }
        let keys = match &self.codec {
            Some(codec) => codec.decode((0..table.len() as u32).map(|s| table.key(s)))?,
            None => vec![],
        };
        each(Piece { start, keys, states: table.states(&self.aggregates, &table.all())?, rows: table.len() })
    }

    /// Moves shards to disk until `to` bytes are left. Shards that were not changed for the longest time come first.
    pub(super) fn shrink(&mut self, to: usize) -> Result<()> {
        let mut left = self.memory();
        if left <= to {
            return Ok(());
        }
        let folder = match &self.folder {
            Some(folder) => folder.clone(),
            None => {
                let made = tempfile::Builder::new().prefix("bayou-state-").tempdir().map_err(|e| spill_error(&e))?;
                self.folder.insert(Arc::new(made)).clone()
            }
        };
        let mut all: Vec<&mut Shard> = self.windows.values_mut().flatten().filter(|s| !s.table.is_empty()).collect();
        all.sort_by_key(|s| (s.touched, usize::MAX - s.table.memory()));
        for shard in all {
            if left <= to {
                break;
            }
            let freed = shard.table.memory();
            let mut table = std::mem::replace(&mut shard.table, Table::new(&self.partials, &self.hasher));
            table.settle(&self.aggregates)?;
            shard.runs.push(write_run(&table, &self.aggregates, &self.partials, folder.path())?);
            left = left.saturating_sub(freed) + shard.table.memory();
        }
        Ok(())
    }
}

fn shard(table: Table) -> Shard {
    Shard { table, runs: vec![], touched: 0 }
}

/// Reads the runs of a shard back into memory.
fn load(shard: &mut Shard, aggregates: &[Aggregate], hasher: &DefaultHashBuilder) -> Result<()> {
    for run in std::mem::take(&mut shard.runs) {
        read_run(&run, &mut shard.table, aggregates, hasher)?;
    }
    Ok(())
}

fn spill_error(e: &dyn std::fmt::Display) -> Error {
    Error::storage(format!(
        "state beyond memory_limit could not be moved to local disk ({}): {e}. Free some space there, set TMPDIR to a different folder, or increase memory_limit.",
        std::env::temp_dir().display()
    ))
}

fn write_run(table: &Table, aggregates: &[Aggregate], partials: &SchemaRef, folder: &std::path::Path) -> Result<Run> {
    let mut fields = vec![Arc::new(Field::new("key", DataType::Binary, false))];
    fields.extend(partials.fields().iter().cloned());
    let schema = Arc::new(Schema::new(fields));
    let file = tempfile::NamedTempFile::new_in(folder).map_err(|e| spill_error(&e))?;
    let mut writer = FileWriter::try_new_buffered(file.as_file(), &schema).map_err(|e| spill_error(&e))?;
    for slots in table.all().chunks(PIECE) {
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(BinaryArray::from_iter_values(slots.iter().map(|s| table.key(*s))))];
        columns.extend(table.states(aggregates, slots)?);
        writer.write(&RecordBatch::try_new(schema.clone(), columns)?).map_err(|e| spill_error(&e))?;
    }
    writer.finish().map_err(|e| spill_error(&e))?;
    drop(writer);
    Ok(Run { file: file.into_temp_path(), rows: table.len() })
}

fn read_run(run: &Run, into: &mut Table, aggregates: &[Aggregate], hasher: &DefaultHashBuilder) -> Result<()> {
    let file = std::fs::File::open(&run.file).map_err(|e| spill_error(&e))?;
    let reader = FileReader::try_new_buffered(file, None).map_err(|e| spill_error(&e))?;
    for batch in reader {
        let batch = batch.map_err(|e| spill_error(&e))?;
        let keys = KeyBytes::from_array(batch.column(0).as_binary::<i32>().clone(), hasher);
        let rows: Vec<u32> = (0..batch.num_rows() as u32).collect();
        into.merge(aggregates, &keys, &batch.columns()[1..], &rows)?;
    }
    Ok(())
}
