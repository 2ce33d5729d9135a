//! Output mode update: rows replace the rows with the same keys.
//!
//! Keys and values are sealed, not files. `rewrite` has the changes that a commit makes to the files. deltalake's MERGE
//! joins with the whole table and compares NULL keys as SQL does; see `docs/decisions/0011-merge-by-rewriting-files.md`.

use super::files::partition_value;
use super::fit::{find, fit};
use crate::Result;
use crate::sink::Staged;
use crate::state::KeyCodec;
use arrow::array::*;
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::*;
use deltalake::protocol::DeltaOperation;
use hashbrown::{HashMap, HashSet};
use std::sync::Arc;

/// The column that marks keys whose row is deleted.
const DELETE: &str = "_bayou_delete";

/// The rows to merge, in the form in which they were staged: `merge_schema`.
#[derive(Clone)]
pub(super) struct Merge {
    pub keys: Vec<String>,
    pub rows: Vec<RecordBatch>,
}

/// The columns of staged rows: the mark, then the columns of the table. If a row is deleted, the table's columns can be
/// NULL.
pub(crate) fn merge_schema(table: &Schema) -> SchemaRef {
    let mark = Arc::new(Field::new(DELETE, DataType::Boolean, false));
    let columns = table.fields().iter().map(|f| Arc::new(f.as_ref().clone().with_nullable(true)));
    Arc::new(Schema::new(std::iter::once(mark).chain(columns).collect::<Vec<_>>()))
}

pub(super) fn codec(schema: &Schema, keys: &[usize]) -> Result<KeyCodec> {
    KeyCodec::new(keys.iter().map(|k| schema.field(*k).data_type()))
}

/// The key of a table without keys. Such a table has at most one row.
const ONE: &[u8] = &[];

pub(super) fn bytes(rows: &Option<arrow::row::Rows>, row: usize) -> &[u8] {
    rows.as_ref().map_or(ONE, |r| r.row(row).data())
}

pub(super) fn encode(codec: &KeyCodec, batch: &RecordBatch, keys: &[usize]) -> Result<Option<arrow::row::Rows>> {
    match keys.is_empty() {
        true => Ok(None),
        false => Ok(Some(codec.encode(&keys.iter().map(|k| batch.column(*k).clone()).collect::<Vec<_>>())?)),
    }
}

/// The result of `merge_rows`, and its entry for the seal.
pub(crate) fn merge_staged(
    schema: &SchemaRef,
    keys: &[usize],
    changed: &[RecordBatch],
    rows: &[RecordBatch],
) -> Result<(Vec<RecordBatch>, Staged)> {
    let merged = merge_rows(schema, keys, changed, rows)?;
    let rows = merged.iter().map(|b| b.num_rows() as u64).sum();
    let keys = keys.iter().map(|k| schema.field(*k).name().clone()).collect();
    Ok((merged, Staged { rows, keys, ..Staged::default() }))
}

/// The staged rows of an epoch: the emitted rows (of several with one key the last one), and a mark for each changed
/// key that has no row any more. `keys` are columns of `schema`. `changed` has only the key columns.
pub(super) fn merge_rows(
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
pub(crate) fn present(staged: &RecordBatch) -> Result<RecordBatch> {
    let columns: Vec<usize> = (1..staged.num_columns()).collect();
    let there = arrow::compute::not(staged.column(0).as_boolean())?;
    Ok(filter_record_batch(staged, &there)?.project(&columns)?)
}

/// The same rows to merge, with the rows in `refused` (places among `present`) marked as deleted.
pub(crate) fn without(staged: &RecordBatch, refused: &[u32]) -> Result<RecordBatch> {
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
