//! Output mode update: rows replace the rows with the same keys.
//!
//! Keys and values are sealed, not files. A commit finds the data files that can contain one of the keys, by the
//! statistics of the start of the window and by partition values. It writes the other rows of these files again,
//! together with the merged rows. Files whose windows are closed are not touched. deltalake's MERGE joins with the
//! whole table and compares NULL keys as SQL does; see `docs/decisions/0011-merge-by-rewriting-files.md`.

use super::Table;
use super::files::{FileWriter, partition_value};
use super::fit::{find, fit, relaxed_schema};
use super::listed::remove;
use crate::state::KeyCodec;
use crate::{Error, Result};
use arrow::array::*;
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::*;
use deltalake::kernel::{Action, Add};
use deltalake::protocol::DeltaOperation;
use hashbrown::{HashMap, HashSet};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::sync::Arc;

/// The column that marks keys whose row is deleted.
const DELETE: &str = "_bayou_delete";

/// The rows to merge, in the form in which they were staged: `merge_schema`.
#[derive(Clone)]
pub struct Merge {
    pub keys: Vec<String>,
    pub rows: Vec<RecordBatch>,
}

/// The columns of staged rows: the mark, then the columns of the table. If a row is deleted, the table's columns can be
/// NULL.
pub fn merge_schema(table: &Schema) -> SchemaRef {
    let mark = Arc::new(Field::new(DELETE, DataType::Boolean, false));
    let columns = table.fields().iter().map(|f| Arc::new(f.as_ref().clone().with_nullable(true)));
    Arc::new(Schema::new(std::iter::once(mark).chain(columns).collect::<Vec<_>>()))
}

fn codec(schema: &Schema, keys: &[usize]) -> Result<KeyCodec> {
    KeyCodec::new(keys.iter().map(|k| schema.field(*k).data_type()))
}

/// The key of a table without keys. Such a table has at most one row.
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

/// The staged rows of an epoch: the emitted rows (of several with one key the last one), and a mark for each changed
/// key that has no row any more. `keys` are columns of `schema`. `changed` has only the key columns.
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

/// The existing rows to merge, without the marks for deleted rows, and without the mark column.
pub fn present(staged: &RecordBatch) -> Result<RecordBatch> {
    let columns: Vec<usize> = (1..staged.num_columns()).collect();
    let there = arrow::compute::not(staged.column(0).as_boolean())?;
    Ok(filter_record_batch(staged, &there)?.project(&columns)?)
}

/// The same rows to merge, with the rows in `refused` (places among `present`) marked as deleted.
pub fn without(staged: &RecordBatch, refused: &[u32]) -> Result<RecordBatch> {
    let gone = staged.column(0).as_boolean();
    let mut place = 0;
    let mark: BooleanArray = (0..staged.num_rows())
        .map(|row| {
            let was = gone.value(row);
            let now = !was && refused.binary_search(&place).is_ok();
            place += u32::from(!was);
            Some(was || now)
        })
        .collect();
    let columns = std::iter::once(Arc::new(mark) as ArrayRef).chain(staged.columns()[1..].iter().cloned()).collect();
    Ok(RecordBatch::try_new(staged.schema(), columns)?)
}

/// Some writers cut the timestamps of a file's statistics to milliseconds.
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

impl Table {
    /// The Remove actions of files that contain one of the keys, and the Add actions of the files that replace them.
    pub(super) async fn merge_actions(&mut self, merge: &Merge) -> Result<Vec<Action>> {
        let place = self.spec.location.display();
        let existing = self.arrow_schema()?;
        // Rows were checked before the seal. For a deleted row, only the keys are set.
        let schema = relaxed_schema(&existing);
        let index = |k: &String| {
            let found = find(schema.fields(), k).and_then(|f| schema.index_of(f.name()).ok());
            found.ok_or_else(|| Error::schema(format!("{place}: the key column '{k}' is not in the table")))
        };
        let keys: Vec<usize> = merge.keys.iter().map(index).collect::<Result<_>>()?;
        let codec = codec(&schema, &keys)?;
        let of_keys: SchemaRef = Arc::new(schema.project(&keys)?);
        let mut merged: HashSet<Vec<u8>> = HashSet::new();
        let mut upserts = vec![];
        let mut starts = keys.first().filter(|k| is_time(&schema, **k)).map(|k| Starts::new(schema.field(*k).name()));
        let partitions = self.partition_columns()?;
        let mut folders = vec![];
        for (at, key) in keys.iter().enumerate().filter(|(_, k)| partitions.contains(schema.field(**k).name())) {
            folders.push(Folders { at, name: schema.field(*key).name().clone(), ..Folders::of(schema.field(*key))? });
        }
        for staged in &merge.rows {
            let rows = conform(staged, &of_keys, &Default::default())?;
            let encoded = encode(&codec, &rows, &(0..keys.len()).collect::<Vec<_>>())?;
            merged.extend((0..rows.num_rows()).map(|r| bytes(&encoded, r).to_vec()));
            if let Some(starts) = &mut starts {
                starts.add(rows.column(0));
            }
            folders.iter_mut().try_for_each(|f| f.add(rows.column(f.at)))?;
            let present = arrow::compute::not(staged.column(0).as_boolean())?;
            upserts.push(conform(&filter_record_batch(staged, &present)?, &schema, &Default::default())?);
        }
        if let Some(starts) = &mut starts {
            starts.values.sort_unstable();
        }
        let mut writer = FileWriter::new(self.properties(schema.clone())?);
        let mut candidates = vec![];
        for file in self.files().await?.iter() {
            let in_partition = folders.iter().map(|f| f.may_hold(file)).collect::<Result<Vec<_>>>()?;
            let by_start = starts.as_ref().filter(|s| !file.partition_values.contains_key(&s.name));
            if !in_partition.contains(&false) && by_start.is_none_or(|s| s.may_be_in(file.stats.as_deref())) {
                candidates.push(file.clone());
            }
        }
        let mut actions = vec![];
        let store = self.table.log_store().object_store(None);
        let now = self.spec.clock.now().0 / 1000;
        for file in &candidates {
            let (kept, any) = self.rows_without(file, &store, &schema, &codec, &keys, &merged).await?;
            if !any {
                continue;
            }
            if file.deletion_vector.is_some() {
                return Err(Error::storage(format!(
                    "{place}: rows of {} were deleted by a deletion vector, which output_mode=\"update\" does not \
                     read. Let Spark rewrite the file (REORG TABLE … APPLY (PURGE)), then run the query again.",
                    file.path
                )));
            }
            for batch in kept {
                writer.write(&batch).await?;
            }
            actions.push(Action::Remove(remove(file, now)));
        }
        for batch in upserts.iter().filter(|b| b.num_rows() > 0) {
            writer.write(batch).await?;
        }
        let adds = writer.close().await?;
        actions.extend(adds.into_iter().map(Action::Add));
        Ok(actions)
    }

    /// The rows of a file without those whose key is merged, and whether there were any of those.
    async fn rows_without(
        &self,
        file: &Add,
        store: &deltalake::logstore::ObjectStoreRef,
        schema: &SchemaRef,
        codec: &KeyCodec,
        keys: &[usize],
        merged: &HashSet<Vec<u8>>,
    ) -> Result<(Vec<RecordBatch>, bool)> {
        let place = self.spec.location.display();
        let failed = |e: &dyn std::fmt::Display| Error::storage(format!("{place}: reading {}: {e}", file.path));
        // The letters of the log where they can be kept.
        let path = Path::parse(&file.path).unwrap_or_else(|_| Path::from(file.path.as_str()));
        let reading = async { store.get(&path).await?.bytes().await };
        let bytes_read = tokio::time::timeout(self.spec.location.timeout(), reading).await;
        let data = match bytes_read {
            Ok(data) => data.map_err(|e| failed(&e))?,
            Err(_) => {
                return Err(failed(&format!("it took longer than {} seconds", self.spec.location.timeout().as_secs())));
            }
        };
        let reader = super::files::read(data).map_err(|e| failed(&e))?;
        let (mut out, mut any) = (vec![], false);
        for batch in reader {
            let batch = conform(&batch.map_err(|e| failed(&e))?, schema, &file.partition_values)?;
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

fn is_time(schema: &Schema, column: usize) -> bool {
    matches!(schema.field(column).data_type(), DataType::Timestamp(TimeUnit::Microsecond, _))
}

/// The values of the first key, a time. With them, files are selected by their statistics.
struct Starts {
    name: String,
    values: Vec<i64>,
    null: bool,
}

impl Starts {
    fn new(name: &str) -> Self {
        Self { name: name.to_string(), values: vec![], null: false }
    }

    fn add(&mut self, column: &ArrayRef) {
        let column = column.as_primitive::<TimestampMicrosecondType>();
        self.null |= column.null_count() > 0;
        self.values.extend(column.iter().flatten());
    }

    /// Whether a file can contain a row with one of the (sorted) values. Without statistics, it can.
    fn may_be_in(&self, stats: Option<&str>) -> bool {
        let stats = stats.and_then(|s| serde_json::from_str::<serde_json::Value>(s).ok());
        let of = |which: &str| stats.as_ref()?.get(which)?.get(&self.name);
        if self.null && of("nullCount").and_then(|n| n.as_u64()) != Some(0) {
            return true;
        }
        let bound = |which: &str| -> Option<i64> {
            chrono::DateTime::parse_from_rfc3339(of(which)?.as_str()?).ok().map(|t| t.timestamp_micros())
        };
        let (Some(low), Some(high)) = (bound("minValues"), bound("maxValues")) else { return true };
        let first = self.values.partition_point(|s| *s < low.saturating_sub(SLACK));
        self.values.get(first).is_some_and(|s| *s <= high.saturating_add(SLACK))
    }
}

/// The values of a key that is a partition column.
struct Folders {
    at: usize,
    name: String,
    data_type: DataType,
    codec: KeyCodec,
    values: HashSet<Vec<u8>>,
}

impl Folders {
    fn of(field: &Field) -> Result<Self> {
        let data_type = field.data_type().clone();
        let codec = KeyCodec::new([&data_type])?;
        Ok(Self { at: 0, name: String::new(), data_type, codec, values: HashSet::new() })
    }

    fn add(&mut self, column: &ArrayRef) -> Result<()> {
        let encoded = self.codec.encode(std::slice::from_ref(column))?;
        for row in 0..column.len() {
            let value = encoded.row(row);
            if !self.values.contains(value.data()) {
                self.values.insert(value.data().to_vec());
            }
        }
        Ok(())
    }

    /// By value and not by text, because other writers spell times and numbers differently.
    fn may_hold(&self, file: &Add) -> Result<bool> {
        let Some(text) = file.partition_values.get(&self.name) else { return Ok(true) };
        let value = partition_value(text.as_deref(), &self.data_type, 1)?;
        Ok(self.values.contains(self.codec.encode(&[value])?.row(0).data()))
    }
}

/// The rows in the columns of the table: by name, NULL for missing columns, partition values from the file's entry in
/// the log.
pub(super) fn conform(
    batch: &RecordBatch,
    schema: &SchemaRef,
    partition: &std::collections::HashMap<String, Option<String>>,
) -> Result<RecordBatch> {
    let from = batch.schema();
    let column = |field: &FieldRef| -> Result<ArrayRef> {
        let rows = batch.num_rows();
        match (find(from.fields(), field.name()), partition.get(field.name())) {
            (_, Some(text)) => partition_value(text.as_deref(), field.data_type(), rows),
            (Some(f), None) => fit(batch.column(from.index_of(f.name())?), field.data_type()),
            (None, None) => Ok(new_null_array(field.data_type(), rows)),
        }
    };
    let columns = schema.fields().iter().map(column).collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_looked_into_where_it_may_hold_a_start_or_a_null() {
        let file = |nulls: u64| {
            let stats = r#"{"numRecords":3,"minValues":{"ts":"2024-01-01T00:00:00.000Z"},"maxValues":{"ts":"2024-01-02T00:00:00.000Z"},"nullCount":{"ts":N}}"#;
            Some(stats.replace('N', &nulls.to_string()))
        };
        let starts = |values: &[i64], null: bool| Starts { name: "ts".into(), values: values.to_vec(), null };
        let day = 1_704_067_200_000_000;
        assert!(starts(&[day], false).may_be_in(file(0).as_deref()));
        assert!(!starts(&[day - 2_000], false).may_be_in(file(1).as_deref()));
        // NULL is not between the bounds.
        assert!(starts(&[day - 2_000], true).may_be_in(file(1).as_deref()));
        assert!(!starts(&[day - 2_000], true).may_be_in(file(0).as_deref()));
        assert!(starts(&[], true).may_be_in(None));
        assert!(starts(&[], true).may_be_in(Some("{}")));
    }
}
