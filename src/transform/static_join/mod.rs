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
use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::{DataType, SchemaRef};
use std::collections::BTreeSet;

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

/// The table, indexed by key. Rows can be added at the end.
pub(crate) struct StaticTable {
    how: JoinKind,
    schema: SchemaRef,
    stream_keys: Vec<Bound>,
    table_keys: Vec<Bound>,
    codec: KeyCodec,
    /// Where the kept columns are in the table. None: the query does not use the column.
    right_columns: Vec<Option<usize>>,
    /// The kept columns, piece by piece: one array cannot have more than 2 GiB of text.
    chunks: Vec<Chunk>,
    rows: u32,
    keys: KeyTable,
    /// By the number of a key: its first and its last row.
    ends: Vec<(u32, u32)>,
    /// The next row with the same key. Rows of one key are in the order of the table.
    next: Vec<u32>,
}

struct Chunk {
    /// The number of the chunk's first row.
    start: u32,
    columns: Vec<ArrayRef>,
    rows: usize,
    bytes: usize,
}

/// The rows that are added next go into the last chunk if that has fewer rows and bytes than this.
const CHUNK_ROWS: usize = if cfg!(test) { 4 } else { 1 << 16 };
const CHUNK_BYTES: usize = 16 << 20;
const NONE: u32 = u32::MAX;

impl StaticTable {
    pub(crate) fn build(spec: &StaticJoinSpec, table: &RecordBatch) -> Result<Self> {
        let mut out = Self::new(spec, None)?;
        out.add(table)?;
        Ok(out)
    }

    /// An empty table. `used`: which columns of the result the query uses. None: all.
    pub(crate) fn new(spec: &StaticJoinSpec, used: Option<&BTreeSet<usize>>) -> Result<Self> {
        let (stream_keys, table_keys) = split_on("the join with a table", &spec.on)?;
        let codec = key_codec("the join with a table", &table_keys)?;
        let first = spec.schema.fields().len() - spec.right_columns.len();
        let kept = |(i, column): (usize, &usize)| {
            // A column that cannot be NULL needs its values.
            let needed = used.is_none_or(|u| u.contains(&(first + i))) || !spec.schema.field(first + i).is_nullable();
            needed.then_some(*column)
        };
        Ok(Self {
            how: spec.how,
            schema: spec.schema.clone(),
            stream_keys,
            table_keys,
            codec,
            right_columns: spec.right_columns.iter().enumerate().map(kept).collect(),
            chunks: vec![],
            rows: 0,
            keys: KeyTable::default(),
            ends: vec![],
            next: vec![],
        })
    }

    /// Adds rows of the table.
    pub(crate) fn add(&mut self, table: &RecordBatch) -> Result<()> {
        if table.num_rows() == 0 {
            return Ok(());
        }
        number(self.rows as usize + table.num_rows())?;
        let columns: Vec<ArrayRef> = self.table_keys.iter().map(|k| k.evaluate(table)).collect::<Result<_>>()?;
        let bytes = self.codec.encode(&columns)?;
        let nulls = null_keys(&columns);
        self.next.resize(self.rows as usize + table.num_rows(), NONE);
        for row in 0..table.num_rows() {
            // NULL keys do not match anything, so they are not indexed.
            if nulls.as_ref().is_some_and(|n| n.is_null(row)) {
                continue;
            }
            let at = self.rows + row as u32;
            let (key, new) = self.keys.intern(bytes.row(row).data(), 0)?;
            if new {
                self.ends.push((at, at));
                continue;
            }
            let (_, last) = &mut self.ends[key as usize];
            self.next[*last as usize] = at;
            *last = at;
        }
        let kept = self.right_columns.iter().flatten();
        let mut columns: Vec<ArrayRef> = kept.map(|i| table.column(*i).clone()).collect();
        let (mut start, mut rows) = (self.rows, table.num_rows());
        let size = |columns: &[ArrayRef]| columns.iter().map(|c| c.get_buffer_memory_size()).sum::<usize>();
        // Rows that are added one by one become one chunk.
        if let Some(last) = self.chunks.last()
            && last.rows + rows <= CHUNK_ROWS
            && last.bytes + size(&columns) <= CHUNK_BYTES
        {
            let both = last.columns.iter().zip(&columns).map(|(a, b)| concat(&[a.as_ref(), b.as_ref()]));
            columns = both.collect::<Result<_, _>>()?;
            (start, rows) = (last.start, last.rows + rows);
            self.chunks.pop();
        }
        let bytes = size(&columns);
        self.chunks.push(Chunk { start, columns, rows, bytes });
        self.rows += table.num_rows() as u32;
        Ok(())
    }

    /// About the bytes of the table in memory.
    pub(crate) fn memory(&self) -> usize {
        self.chunks.iter().map(|c| c.bytes).sum::<usize>()
            + self.keys.memory()
            + self.ends.capacity() * 8
            + self.next.capacity() * 4
    }

    /// The values of the kept column with this number, among those that are held. NULL for rows without a match.
    fn column(&self, held: usize, right: &UInt32Array, data_type: &DataType) -> Result<ArrayRef> {
        match &self.chunks[..] {
            [] => Ok(new_null_array(data_type, right.len())),
            [one] => Ok(take(&one.columns[held], right, None)?),
            chunks => {
                let null = new_null_array(data_type, 1);
                let arrays: Vec<&dyn Array> =
                    chunks.iter().map(|c| c.columns[held].as_ref()).chain([null.as_ref()]).collect();
                let place = |row: Option<u32>| match row {
                    None => (chunks.len(), 0),
                    Some(row) => {
                        let chunk = chunks.partition_point(|c| c.start <= row) - 1;
                        (chunk, (row - chunks[chunk].start) as usize)
                    }
                };
                let places: Vec<(usize, usize)> = right.iter().map(place).collect();
                Ok(interleave(&arrays, &places)?)
            }
        }
    }

    /// A row that matches k rows is emitted k times, each time with its origin.
    pub(crate) fn apply(&self, input: &Batch) -> Result<Outcome> {
        let (good, columns, failed) = computed(input, &self.stream_keys)?;
        let bytes = self.codec.encode(&columns)?;
        let rows = good.len();
        let mut left: Vec<u32> = Vec::with_capacity(rows);
        let mut right: Vec<Option<u32>> = Vec::with_capacity(rows);
        for row in 0..rows {
            // Keys of the table with NULL are not indexed, so a row with NULL in its key finds nothing.
            let mut found = self.keys.find(bytes.row(row).data(), 0).map_or(NONE, |key| self.ends[key as usize].0);
            if found == NONE && self.how == JoinKind::Left {
                left.push(row as u32);
                right.push(None);
            }
            while found != NONE {
                left.push(row as u32);
                right.push(Some(found));
                found = self.next[found as usize];
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
        let mut held = 0;
        for column in &self.right_columns {
            let data_type = self.schema.field(columns.len()).data_type();
            columns.push(match column {
                Some(_) => {
                    held += 1;
                    self.column(held - 1, &right, data_type)?
                }
                None => new_null_array(data_type, right.len()),
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(right.len()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        Ok(Outcome { batch: batch.with_rows(rows), failed })
    }
}
