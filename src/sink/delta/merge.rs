//! Output mode update: rows take the place of those with the same keys.
//!
//! What is sealed are keys and values, not files. A commit finds the data files that may hold one of the keys (by the
//! statistics of the window's start; partition values are not looked at), and writes their other rows anew together with the
//! rows that are merged. Files whose windows are closed are not touched. deltalake's MERGE joins with the whole table and compares NULL
//! keys as SQL does; see `docs/decisions/0011-merge-by-rewriting-files.md`.

use super::stage::writer;
use super::{Table, delta_error, within};
use crate::state::KeyCodec;
use crate::{Error, Result};
use arrow::array::*;
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch, take_record_batch};
use arrow::datatypes::*;
use deltalake::kernel::Action;
use deltalake::protocol::DeltaOperation;
use futures::TryStreamExt;
use hashbrown::{HashMap, HashSet};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::sync::Arc;

/// The column that marks keys whose row is to go.
const DELETE: &str = "_bayou_delete";

/// Rows to be merged, as they were staged: `merge_schema`.
#[derive(Clone)]
pub struct Merge {
    pub keys: Vec<String>,
    pub rows: Vec<RecordBatch>,
}

/// The columns of staged rows: the mark, then the table's, all of which may be NULL where a row is to go.
pub fn merge_schema(table: &Schema) -> SchemaRef {
    let mark = Arc::new(Field::new(DELETE, DataType::Boolean, false));
    let columns = table.fields().iter().map(|f| Arc::new(f.as_ref().clone().with_nullable(true)));
    Arc::new(Schema::new(std::iter::once(mark).chain(columns).collect::<Vec<_>>()))
}

fn codec(schema: &Schema, keys: &[usize]) -> Result<KeyCodec> {
    KeyCodec::new(keys.iter().map(|k| schema.field(*k).data_type()))
}

/// The key of a table without keys: it has one row at most.
const ONE: &[u8] = &[];

fn bytes(rows: &Option<arrow::row::Rows>, row: usize) -> &[u8] {
    rows.as_ref().map_or(ONE, |r| r.row(row).data())
}

fn encode(codec: &KeyCodec, batch: &RecordBatch, keys: &[usize]) -> Result<Option<arrow::row::Rows>> {
    match keys.is_empty() {
        true => Ok(None),
        false => Ok(Some(codec.encode(&keys.iter().map(|k| batch.column(*k).clone()).collect::<Vec<_>>())?)),
    }
}

/// What an epoch stages: the rows that came out (of several with one key the last), and a mark for each key that changed and
/// has no row any more. `keys` are columns of `schema`; `changed` has just those.
pub fn merge_rows(
    schema: &SchemaRef,
    keys: &[usize],
    changed: &[RecordBatch],
    rows: &[RecordBatch],
) -> Result<Vec<RecordBatch>> {
    let codec = codec(schema, keys)?;
    let staged = merge_schema(schema);
    let mut last: HashMap<Vec<u8>, (usize, u32)> = HashMap::new();
    for (b, batch) in rows.iter().enumerate() {
        let encoded = encode(&codec, batch, keys)?;
        for row in 0..batch.num_rows() {
            last.insert(bytes(&encoded, row).to_vec(), (b, row as u32));
        }
    }
    let mut wanted: Vec<Vec<u32>> = vec![vec![]; rows.len()];
    last.values().for_each(|(batch, row)| wanted[*batch].push(*row));
    let mut out = vec![];
    for (batch, mut wanted) in rows.iter().zip(wanted).filter(|(_, w)| !w.is_empty()) {
        wanted.sort_unstable();
        let batch = match wanted.len() == batch.num_rows() {
            true => batch.clone(),
            false => take_record_batch(batch, &UInt32Array::from(wanted))?,
        };
        let mark: ArrayRef = Arc::new(BooleanArray::from(vec![false; batch.num_rows()]));
        let columns = std::iter::once(mark).chain(batch.columns().iter().cloned()).collect();
        out.push(RecordBatch::try_new(staged.clone(), columns)?);
    }
    let all: Vec<usize> = (0..keys.len()).collect();
    let mut gone: HashSet<Vec<u8>> = HashSet::new();
    for batch in changed {
        let encoded = encode(&codec, batch, &all)?;
        let rows = (0..batch.num_rows()).filter(|r| !last.contains_key(bytes(&encoded, *r)));
        let rows: Vec<u32> = rows.filter(|r| gone.insert(bytes(&encoded, *r).to_vec())).map(|r| r as u32).collect();
        if rows.is_empty() {
            continue;
        }
        let n = rows.len();
        let batch = take_record_batch(batch, &UInt32Array::from(rows))?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(BooleanArray::from(vec![true; n]))];
        columns.extend(schema.fields().iter().enumerate().map(|(i, f)| match keys.iter().position(|k| *k == i) {
            Some(k) => batch.column(k).clone(),
            None => new_null_array(f.data_type(), n),
        }));
        out.push(RecordBatch::try_new(staged.clone(), columns)?);
    }
    Ok(out)
}

/// Timestamps of a file's statistics are cut to milliseconds by some writers.
const SLACK: i64 = 1000;

impl Merge {
    pub(super) fn operation(&self) -> DeltaOperation {
        let condition: Vec<String> = self.keys.iter().map(|k| format!("target.{k} <=> source.{k}")).collect();
        DeltaOperation::Merge {
            predicate: None,
            merge_predicate: Some(condition.join(" AND ")),
            matched_predicates: vec![],
            not_matched_predicates: vec![],
            not_matched_by_source_predicates: vec![],
        }
    }
}

/// A data file of the table.
struct DataFile {
    path: Path,
    partition: std::collections::HashMap<String, Option<String>>,
}

impl Table {
    /// Removes of the files that hold one of the keys, and adds of what takes their place.
    pub(super) async fn merge_actions(&self, merge: &Merge) -> Result<Vec<Action>> {
        let place = self.spec.location.display();
        let schema = self.arrow_schema()?;
        let keys: Vec<usize> =
            merge.keys.iter().map(|k| schema.index_of(k)).collect::<Result<_, _>>().map_err(|e| {
                Error::schema(format!("{place}: a column that rows are merged by is not in the table: {e}"))
            })?;
        let codec = codec(&schema, &keys)?;
        let mut merged: HashSet<Vec<u8>> = HashSet::new();
        let mut upserts = vec![];
        let mut starts: Vec<i64> = vec![];
        let by_start = merge.keys.first().is_some_and(|k| is_time(&schema, k));
        for staged in &merge.rows {
            // Where a row is to go only its keys are there, and other columns may not be NULL in the table.
            let of_keys: SchemaRef = Arc::new(schema.project(&keys)?);
            let rows = conform(staged, &of_keys, &Default::default())?;
            let encoded = encode(&codec, &rows, &(0..keys.len()).collect::<Vec<_>>())?;
            merged.extend((0..rows.num_rows()).map(|r| bytes(&encoded, r).to_vec()));
            if by_start {
                let column = rows.column(0).as_primitive::<TimestampMicrosecondType>();
                starts.extend(column.iter().flatten());
            }
            let present = arrow::compute::not(staged.column(0).as_boolean())?;
            upserts.push(conform(&filter_record_batch(staged, &present)?, &schema, &Default::default())?);
        }
        starts.sort_unstable();
        let state = self.snapshot()?;
        let log = self.table.log_store();
        let views = state.snapshot().file_views(log.as_ref(), None);
        let views: Vec<_> = within(&self.spec.location, "listing the table's files", views.try_collect()).await?;
        let mut actions = vec![];
        let store = log.object_store(None);
        let mut writer = writer(store.clone(), schema.clone(), self.spec.partition_by.clone());
        for view in &views {
            if by_start && !may_hold(view.stats(), &merge.keys[0], &starts) {
                continue;
            }
            let file = DataFile { path: view.object_store_path(), partition: view.partition_values_map() };
            let (kept, any) = self.rows_without(&file, &store, &schema, &codec, &keys, &merged).await?;
            if !any {
                continue;
            }
            for batch in kept {
                writer.write(&batch).await.map_err(delta_error)?;
            }
            actions.push(Action::Remove(view.remove_action(true)));
        }
        for batch in upserts.iter().filter(|b| b.num_rows() > 0) {
            writer.write(batch).await.map_err(delta_error)?;
        }
        let adds = writer.close().await.map_err(delta_error)?;
        actions.extend(adds.into_iter().map(Action::Add));
        Ok(actions)
    }

    /// A file's rows without those whose key is merged; and whether there were any of those.
    async fn rows_without(
        &self,
        file: &DataFile,
        store: &deltalake::logstore::ObjectStoreRef,
        schema: &SchemaRef,
        codec: &KeyCodec,
        keys: &[usize],
        merged: &HashSet<Vec<u8>>,
    ) -> Result<(Vec<RecordBatch>, bool)> {
        let place = self.spec.location.display();
        let failed = |e: &dyn std::fmt::Display| Error::storage(format!("{place}: reading {}: {e}", file.path));
        let reading = async { store.get(&file.path).await?.bytes().await };
        let bytes_read = tokio::time::timeout(self.spec.location.timeout(), reading).await;
        let data = match bytes_read {
            Ok(data) => data.map_err(|e| failed(&e))?,
            Err(_) => {
                return Err(failed(&format!("it took longer than {} seconds", self.spec.location.timeout().as_secs())));
            }
        };
        let reader = ParquetRecordBatchReaderBuilder::try_new(data).map_err(|e| failed(&e))?;
        let reader = reader.with_batch_size(1 << 16).build().map_err(|e| failed(&e))?;
        let (mut out, mut any) = (vec![], false);
        for batch in reader {
            let batch = conform(&batch.map_err(|e| failed(&e))?, schema, &file.partition)?;
            let encoded = encode(codec, &batch, keys)?;
            let keep: Vec<bool> = (0..batch.num_rows()).map(|r| !merged.contains(bytes(&encoded, r))).collect();
            let keep = BooleanArray::from(keep);
            match keep.true_count() {
                n if n == batch.num_rows() => out.push(batch),
                n => {
                    any = true;
                    if n > 0 {
                        out.push(filter_record_batch(&batch, &keep)?);
                    }
                }
            }
        }
        Ok((out, any))
    }
}

fn is_time(schema: &Schema, name: &str) -> bool {
    schema.field_with_name(name).is_ok_and(|f| matches!(f.data_type(), DataType::Timestamp(..)))
}

/// Whether a file may hold a row with one of the (sorted) window starts. Without statistics it may.
fn may_hold(stats: Option<String>, column: &str, starts: &[i64]) -> bool {
    let stats = stats.as_deref().and_then(|s| serde_json::from_str::<serde_json::Value>(s).ok());
    let bound = |which: &str| -> Option<i64> {
        let text = stats.as_ref()?.get(which)?.get(column)?.as_str()?;
        chrono::DateTime::parse_from_rfc3339(text).ok().map(|t| t.timestamp_micros())
    };
    let (Some(low), Some(high)) = (bound("minValues"), bound("maxValues")) else { return true };
    let first = starts.partition_point(|s| *s < low.saturating_sub(SLACK));
    starts.get(first).is_some_and(|s| *s <= high.saturating_add(SLACK))
}

/// Rows in the table's columns: by name, NULL where they have none, partition values from the file's entry in the log.
fn conform(
    batch: &RecordBatch,
    schema: &SchemaRef,
    partition: &std::collections::HashMap<String, Option<String>>,
) -> Result<RecordBatch> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let column = |field: &FieldRef| -> Result<ArrayRef> {
        let rows = batch.num_rows();
        let array: ArrayRef = match (batch.column_by_name(field.name()), partition.get(field.name())) {
            (Some(array), _) => array.clone(),
            (None, Some(Some(value))) => Arc::new(StringArray::from(vec![value.as_str(); rows])),
            (None, _) => new_null_array(field.data_type(), rows),
        };
        match array.data_type() == field.data_type() {
            true => Ok(array),
            false => Ok(cast_with_options(&array, field.data_type(), &options)?),
        }
    };
    let columns = schema.fields().iter().map(column).collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}
