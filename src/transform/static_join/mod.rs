//! Joins rows with a table in memory.

#[cfg(test)]
mod test;

use super::Outcome;
use super::admit::computed;
use super::join::{JoinKind, split_on};
use super::keys::{KeyTable, key_codec, null_keys, number};
use crate::batch::Batch;
use crate::expr::Bound;
use crate::state::KeyCodec;
use crate::{Error, Result};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;

/// A join with a table.
#[derive(Clone)]
pub struct StaticJoinSpec {
    /// Pairs (stream, table) with the same type.
    pub on: Vec<(Bound, Bound)>,
    pub how: JoinKind,
    /// The kept columns of the table.
    pub right_columns: Vec<usize>,
    /// The columns of the stream, then the kept ones. In a left join the kept ones can be NULL.
    pub schema: SchemaRef,
}

/// The table, indexed by key.
pub struct StaticTable {
    how: JoinKind,
    schema: SchemaRef,
    stream_keys: Vec<Bound>,
    codec: KeyCodec,
    columns: Vec<ArrayRef>,
    keys: KeyTable,
    /// The rows of the key with number `k` are `rows[starts[k]..starts[k + 1]]`, in the order of the table.
    starts: Vec<u32>,
    rows: Vec<u32>,
}

impl StaticTable {
    pub fn build(spec: &StaticJoinSpec, table: &RecordBatch) -> Result<Self> {
        let (stream_keys, table_keys) = split_on("the join with a table", &spec.on)?;
        let codec = key_codec("the join with a table", &table_keys)?;
        number(table.num_rows())?;
        let columns: Vec<ArrayRef> = table_keys.iter().map(|k| k.evaluate(table)).collect::<Result<_>>()?;
        let bytes = codec.encode(&columns)?;
        let nulls = null_keys(&columns);
        let mut keys = KeyTable::default();
        // The number of each row's key, and how many rows each key has. NULL keys do not match anything, so they are
        // not indexed.
        let (mut of_row, mut counts) = (vec![KeyTable::NONE; table.num_rows()], vec![]);
        for (row, of_row) in of_row.iter_mut().enumerate() {
            if nulls.as_ref().is_none_or(|n| n.is_valid(row)) {
                let (key, new) = keys.intern(bytes.row(row).data(), 0)?;
                if new {
                    counts.push(0u32);
                }
                counts[key as usize] += 1;
                *of_row = key;
            }
        }
        let mut starts = Vec::with_capacity(counts.len() + 1);
        let mut total = 0;
        starts.push(0);
        for count in &counts {
            total += count;
            starts.push(total);
        }
        let (mut rows, mut next) = (vec![0; total as usize], starts.clone());
        for (row, key) in of_row.iter().enumerate().filter(|(_, key)| **key != KeyTable::NONE) {
            let place = &mut next[*key as usize];
            rows[*place as usize] = row as u32;
            *place += 1;
        }
        let columns = spec.right_columns.iter().map(|i| table.column(*i).clone()).collect();
        let (how, schema) = (spec.how, spec.schema.clone());
        Ok(Self { how, schema, stream_keys, codec, columns, keys, starts, rows })
    }

    fn matches(&self, key: &[u8]) -> &[u32] {
        match self.keys.find(key, 0) {
            Some(key) => &self.rows[self.starts[key as usize] as usize..self.starts[key as usize + 1] as usize],
            None => &[],
        }
    }

    /// A row that matches k rows is emitted k times, each time with its origin.
    pub fn apply(&self, input: &Batch) -> Result<Outcome> {
        let (good, columns, failed) = computed(input, &self.stream_keys)?;
        let bytes = self.codec.encode(&columns)?;
        let rows = good.len();
        let mut left: Vec<u32> = Vec::with_capacity(rows);
        let mut right: Vec<Option<u32>> = Vec::with_capacity(rows);
        for row in 0..rows {
            // Keys of the table with NULL are not indexed, so a row with NULL in its key finds nothing.
            let found = self.matches(bytes.row(row).data());
            left.extend(std::iter::repeat_n(row as u32, found.len()));
            right.extend(found.iter().copied().map(Some));
            if found.is_empty() && self.how == JoinKind::Left {
                left.push(row as u32);
                right.push(None);
            }
        }
        number(left.len()).map_err(|_| {
            Error::schema(format!(
                "the join with a table gives {} rows for {rows} input rows. Its keys do not identify the rows of the table.",
                left.len()
            ))
        })?;
        let once = left.len() == rows && left.iter().enumerate().all(|(i, row)| i == *row as usize);
        let batch = if once { good } else { good.take(&UInt32Array::from(left))? };
        let right = UInt32Array::from(right);
        let mut columns = batch.rows.columns().to_vec();
        for column in &self.columns {
            columns.push(take(column, &right, None)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(right.len()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        Ok(Outcome { batch: batch.with_rows(rows), failed })
    }
}
