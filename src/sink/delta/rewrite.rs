//! The changes that a commit in mode update makes to the table's files. It finds the files that can contain one of the keys
//! (`prune`) and reads their key columns. Files that do contain one of the keys are replaced by files with their other
//! rows and the new rows. Rows are written in key order (`sorted`), and each new file covers the keys of its neighbours
//! only (`units`). So the ranges of keys stay narrow, and later epochs find few files.

use super::Table;
use super::files::{Properties, read_columns};
use super::fit::{find, relaxed_schema};
use super::listed::remove;
use super::merge::{Merge, bytes, codec, conform, encode};
use super::prune::{Prune, spans};
use super::sorted::{Upserts, write};
use super::units::{Around, units};
use crate::state::KeyCodec;
use crate::storage::Location;
use crate::{Error, Result};
use arrow::array::*;
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::*;
use arrow::row::Rows;
use bytes::Bytes;
use deltalake::kernel::{Action, Add};
use deltalake::logstore::ObjectStoreRef;
use futures::{StreamExt, TryStreamExt};
use hashbrown::HashMap;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// At most this many files are read at the same time.
const READS: usize = 8;
/// This many bytes of files may stay in memory between the check of their keys and the rewriting.
const HELD: usize = 64 << 20;
/// Rewriting holds about this many bytes of files.
pub(super) const MEMORY: usize = 128 << 20;
/// A table in mode update has about this many files, unless the files would be smaller than `LEAST` or larger than
/// `MOST` bytes.
const FILES: u64 = 128;
const LEAST: u64 = 1 << 20;
/// The largest size of such a file.
const MOST: u64 = 64 << 20;
/// The number of rows that are read at a time to look at keys.
const ROWS: usize = 1 << 16;

/// The size of a file of a table of this many bytes, whose files are rewritten for a single key. An epoch rewrites
/// whole files, so files are smaller than in a table that only grows.
pub(super) fn file_size(table: u64) -> u64 {
    (table / FILES).clamp(LEAST, MOST)
}

/// The key columns of a table: those that are partition columns first, so that files of different partitions are apart.
pub(super) struct Keys {
    /// The columns of the table, everything nullable.
    pub schema: SchemaRef,
    /// The places of the key columns.
    pub at: Vec<usize>,
    pub of: SchemaRef,
    pub codec: KeyCodec,
    pub partitions: Vec<String>,
    /// The place among the keys of the start of the window, or of a different time that is the first key.
    pub window: Option<usize>,
}

impl Keys {
    pub(super) fn new(place: &str, existing: &Schema, names: &[String], partitions: Vec<String>) -> Result<Self> {
        // Rows were checked before the seal. For a deleted row, only the keys are set.
        let schema = relaxed_schema(existing);
        let index = |k: &String| {
            let found = find(schema.fields(), k).and_then(|f| schema.index_of(f.name()).ok());
            found.ok_or_else(|| Error::schema(format!("{place}: the key column '{k}' is not in the table")))
        };
        let mut at: Vec<usize> = names.iter().map(index).collect::<Result<_>>()?;
        let is_time = |k: &usize| matches!(schema.field(*k).data_type(), DataType::Timestamp(TimeUnit::Microsecond, _));
        let first = at.first().copied().filter(is_time);
        at.sort_by_key(|k| !partitions.contains(schema.field(*k).name()));
        let window = first.and_then(|first| at.iter().position(|k| *k == first));
        let of: SchemaRef = Arc::new(schema.project(&at)?);
        let codec = codec(&schema, &at)?;
        Ok(Self { schema, at, of, codec, partitions, window })
    }

    /// The keys of a batch of key columns.
    pub(super) fn encode(&self, keys: &RecordBatch) -> Result<Option<Rows>> {
        encode(&self.codec, keys, &(0..self.at.len()).collect::<Vec<_>>())
    }

    /// The keys of a batch of the table's columns.
    pub(super) fn encode_rows(&self, rows: &RecordBatch) -> Result<Option<Rows>> {
        encode(&self.codec, rows, &self.at)
    }

    /// The start of the window of a row of key columns.
    pub(super) fn window_of(&self, keys: &RecordBatch, row: usize) -> Option<i64> {
        let column = keys.column(self.window?).as_primitive::<TimestampMicrosecondType>();
        column.is_valid(row).then(|| column.value(row))
    }
}

/// The changed keys, each with whether its row is deleted.
pub(super) type Merged = HashMap<Vec<u8>, bool>;

/// A file whose keys were read.
pub(super) struct Scanned {
    pub file: Add,
    /// Its bytes, if they were kept.
    pub data: Option<Bytes>,
    /// The rows that stay. None: all.
    pub keep: Option<BooleanBuffer>,
    pub rows: u64,
    pub dropped: u64,
    /// The number of dropped rows that get no new row.
    pub deleted: u64,
    /// Whether its rows are in key order.
    pub sorted: bool,
    pub low: Vec<u8>,
    pub high: Vec<u8>,
    pub low_window: Option<i64>,
    pub high_window: Option<i64>,
}

impl Scanned {
    /// About the bytes that are in memory while the file is rewritten.
    pub(super) fn memory(&self) -> usize {
        let size = self.file.size.max(0) as usize;
        if self.sorted { size + (1 << 20) } else { 6 * size }
    }
}

/// Reads the data files of a table.
pub(super) struct Reader<'a> {
    pub store: ObjectStoreRef,
    pub location: &'a Location,
    pub keys: &'a Keys,
    /// The bytes of files that are kept in memory.
    pub held: AtomicUsize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(store: ObjectStoreRef, location: &'a Location, keys: &'a Keys) -> Self {
        Self { store, location, keys, held: AtomicUsize::new(0) }
    }

    pub(super) fn failed(&self, file: &Add, e: &dyn std::fmt::Display) -> Error {
        Error::storage(format!("{}: reading {}: {e}", self.location.display(), file.path))
    }

    pub(super) async fn bytes(&self, file: &Add) -> Result<Bytes> {
        // The spelling of the log, if the store accepts it.
        let path = Path::parse(&file.path).unwrap_or_else(|_| Path::from(file.path.as_str()));
        let reading = async { self.store.get(&path).await?.bytes().await };
        match tokio::time::timeout(self.location.timeout(), reading).await {
            Ok(data) => data.map_err(|e| self.failed(file, &e)),
            Err(_) => {
                Err(self.failed(file, &format!("it took longer than {} seconds", self.location.timeout().as_secs())))
            }
        }
    }

    /// Reads the key columns of a file.
    pub(super) async fn scan(&self, file: Add, merged: &Merged) -> Result<Scanned> {
        let data = self.bytes(&file).await?;
        let wanted = |name: &str| find(self.keys.of.fields(), name).is_some();
        let reader = read_columns(data.clone(), ROWS, wanted).map_err(|e| self.failed(&file, &e))?;
        let mut keep = BooleanBufferBuilder::new(0);
        let mut out = Scanned {
            data: None,
            keep: None,
            rows: 0,
            dropped: 0,
            deleted: 0,
            sorted: true,
            low: vec![],
            high: vec![],
            low_window: None,
            high_window: None,
            file,
        };
        let mut last: Vec<u8> = vec![];
        for batch in reader {
            let batch = batch.map_err(|e| self.failed(&out.file, &e))?;
            let keys = conform(&batch, &self.keys.of, &out.file.partition_values)?;
            let encoded = self.keys.encode(&keys)?;
            for row in 0..keys.num_rows() {
                let key = bytes(&encoded, row);
                let hit = if merged.is_empty() { None } else { merged.get(key) };
                keep.append(hit.is_none());
                out.dropped += u64::from(hit.is_some());
                out.deleted += u64::from(hit == Some(&true));
                let before = if row == 0 { last.as_slice() } else { bytes(&encoded, row - 1) };
                let first = out.rows == 0 && row == 0;
                out.sorted &= first || before <= key;
                if first || key < out.low.as_slice() {
                    (out.low, out.low_window) = (key.to_vec(), self.keys.window_of(&keys, row));
                }
            }
            // In order, the last row is the highest.
            let highest = match out.sorted {
                true => keys.num_rows().checked_sub(1),
                false => (0..keys.num_rows()).max_by_key(|row| bytes(&encoded, *row)),
            };
            if let Some(row) = highest.filter(|row| out.rows == 0 || bytes(&encoded, *row) > out.high.as_slice()) {
                (out.high, out.high_window) = (bytes(&encoded, row).to_vec(), self.keys.window_of(&keys, row));
            }
            if keys.num_rows() > 0 {
                last = bytes(&encoded, keys.num_rows() - 1).to_vec();
            }
            out.rows += keys.num_rows() as u64;
        }
        if out.dropped > 0 {
            out.keep = Some(keep.finish());
        }
        let size = data.len();
        if out.dropped > 0 && self.held.fetch_add(size, Ordering::Relaxed) + size <= HELD {
            out.data = Some(data);
        }
        Ok(out)
    }
}

/// What an epoch did to the files of a table, with the names of Delta's MERGE metrics.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rewritten {
    files_before: u64,
    files_scanned: u64,
    bytes_scanned: u64,
    files_removed: u64,
    bytes_removed: u64,
    files_added: u64,
    bytes_added: u64,
    rows_copied: u64,
    rows_inserted: u64,
    rows_updated: u64,
    rows_deleted: u64,
    scan_millis: u64,
    rewrite_millis: u64,
}

impl Rewritten {
    pub(super) fn metrics(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([
            ("numTargetFilesBeforeSkipping", self.files_before),
            ("numTargetFilesAfterSkipping", self.files_scanned),
            ("numTargetBytesAfterSkipping", self.bytes_scanned),
            ("numTargetFilesRemoved", self.files_removed),
            ("numTargetBytesRemoved", self.bytes_removed),
            ("numTargetFilesAdded", self.files_added),
            ("numTargetBytesAdded", self.bytes_added),
            ("numTargetRowsCopied", self.rows_copied),
            ("numTargetRowsInserted", self.rows_inserted),
            ("numTargetRowsUpdated", self.rows_updated),
            ("numTargetRowsDeleted", self.rows_deleted),
            ("scanTimeMs", self.scan_millis),
            ("rewriteTimeMs", self.rewrite_millis),
        ])
    }
}

impl Table {
    /// The Remove actions of files that contain one of the keys, and the Add actions of the files that replace them.
    pub(super) async fn merge_actions(&mut self, merge: &Merge) -> Result<(Vec<Action>, Rewritten)> {
        let began = Instant::now();
        let place = self.spec.location.display();
        let existing = self.arrow_schema()?;
        let keys = Keys::new(&place, &existing, &merge.keys, self.partition_columns()?)?;
        let (mut merged, mut upserts, mut of_all) = (Merged::new(), vec![], vec![]);
        for staged in &merge.rows {
            let rows = conform(staged, &keys.of, &Default::default())?;
            let encoded = keys.encode(&rows)?;
            let gone = staged.column(0).as_boolean();
            merged.extend((0..rows.num_rows()).map(|r| (bytes(&encoded, r).to_vec(), gone.value(r))));
            let present = arrow::compute::not(gone)?;
            let present = filter_record_batch(staged, &present)?;
            if present.num_rows() > 0 {
                upserts.push(conform(&present, &keys.schema, &Default::default())?);
            }
            of_all.push(rows);
        }
        let upserts = Upserts::new(&keys, upserts)?;
        let prune = Prune::new(&keys.of, &keys.partitions, &of_all)?;
        let mut done = Rewritten::default();
        let (mut candidates, mut others, mut size) = (vec![], vec![], 0);
        for file in self.files().await?.iter() {
            size += file.size.max(0) as u64;
            match prune.may_hold(file)? {
                true => candidates.push(file.clone()),
                false => others.push(file.clone()),
            }
        }
        done.files_before = (candidates.len() + others.len()) as u64;
        done.files_scanned = candidates.len() as u64;
        done.bytes_scanned = candidates.iter().map(|f| f.size.max(0) as u64).sum();
        let reader = Reader::new(self.table.log_store().object_store(None), &self.spec.location, &keys);
        let scans = candidates.into_iter().map(|file| reader.scan(file, &merged));
        let scanned: Vec<Scanned> = futures::stream::iter(scans).buffer_unordered(READS).try_collect().await?;
        let (found, missed): (Vec<Scanned>, Vec<Scanned>) = scanned.into_iter().partition(|s| s.dropped > 0);
        others.extend(missed.into_iter().map(|s| s.file));
        if let Some(s) = found.iter().find(|s| s.file.deletion_vector.is_some()) {
            return Err(Error::storage(format!(
                "{place}: rows of {} were deleted by a deletion vector, which output_mode=\"update\" does not \
                 read. Let Spark rewrite the file (REORG TABLE … APPLY (PURGE)), then run the query again.",
                s.file.path
            )));
        }
        done.scan_millis = began.elapsed().as_millis() as u64;
        let began = Instant::now();
        let now = self.spec.clock.now().0 / 1000;
        let mut actions = vec![];
        for s in &found {
            done.files_removed += 1;
            done.bytes_removed += s.file.size.max(0) as u64;
            done.rows_copied += s.rows - s.dropped;
            done.rows_deleted += s.deleted;
            done.rows_updated += s.dropped - s.deleted;
            actions.push(Action::Remove(remove(&s.file, now)));
        }
        done.rows_inserted = (upserts.len() as u64).saturating_sub(done.rows_updated);
        // The keys of the other files matter only where rows of different origins could be written into one file.
        let others: Vec<&Add> = others.iter().collect();
        let around = Around::new(spans(&keys.of, &keys.partitions, &others)?);
        let target = self.file_size(size)?;
        let units = units(found, &upserts, &around, keys.window.is_some(), target);
        let adds = write_units(&reader, &self.properties(keys.schema.clone())?, units, &upserts, target).await?;
        done.files_added = adds.len() as u64;
        done.bytes_added = adds.iter().map(|a| a.size.max(0) as u64).sum();
        done.rewrite_millis = began.elapsed().as_millis() as u64;
        actions.extend(adds.into_iter().map(Action::Add));
        Ok((actions, done))
    }

    /// The size of files, from the table's property, or else from the size of the table.
    fn file_size(&self, table: u64) -> Result<u64> {
        let properties = self.snapshot()?.table_config();
        Ok(properties.target_file_size.map_or_else(|| file_size(table), |size| size.get().clamp(LEAST, 1 << 30)))
    }
}

/// Writes the units, several at the same time as far as memory allows.
pub(super) async fn write_units(
    reader: &Reader<'_>,
    properties: &Properties,
    units: Vec<super::units::Unit>,
    upserts: &Upserts,
    target: u64,
) -> Result<Vec<Add>> {
    let most = units.iter().map(|u| u.memory).max().unwrap_or(0);
    let at_once = (MEMORY / most.max(1)).clamp(1, READS);
    let writes = units.into_iter().map(|unit| write(reader, properties.clone(), unit, upserts, target));
    let adds: Vec<Vec<Add>> = futures::stream::iter(writes).buffered(at_once).try_collect().await?;
    Ok(adds.into_iter().flatten().collect())
}
