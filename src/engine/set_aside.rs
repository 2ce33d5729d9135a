//! Which rows of complete results were set aside: a complete result has its rows again in each epoch, and each row goes to quarantine once.
//! The rows are remembered by a hash, over restarts too.

use crate::{Error, Result};
use arrow::array::{Array, AsArray, FixedSizeBinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

/// At most this many rows are remembered. Then all rows are forgotten, and are set aside once more.
const MOST: usize = 100_000;
const BYTES: usize = 16;

static SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(Schema::new(vec![Field::new("row", DataType::FixedSizeBinary(BYTES as i32), false)])));

#[derive(Debug, Default)]
pub(crate) struct SetAside {
    seen: HashSet<[u8; BYTES]>,
    /// The rows that came since the last call of `take`.
    new: Vec<[u8; BYTES]>,
    /// The rows in earlier files do not count any more.
    forgot: bool,
}

/// The rows that an epoch writes.
#[derive(Debug)]
pub(crate) struct Written {
    pub rows: RecordBatch,
    /// These rows replace the rows of earlier files.
    pub whole: bool,
}

impl SetAside {
    /// The description in the header of these files.
    pub(crate) const DESCRIPTION: &str = "rows that were set aside";

    pub(crate) fn schema() -> SchemaRef {
        SCHEMA.clone()
    }

    /// Returns false if the row was set aside before.
    pub(crate) fn add(&mut self, table: &str, row: &str) -> bool {
        let mut hash = Sha256::new();
        hash.update(table);
        hash.update([0]);
        hash.update(row);
        let mut short = [0; BYTES];
        short.copy_from_slice(&hash.finalize()[..BYTES]);
        if self.seen.contains(&short) {
            return false;
        }
        if self.seen.len() >= MOST {
            self.seen.clear();
            self.new.clear();
            self.forgot = true;
        }
        self.seen.insert(short);
        self.new.push(short);
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.seen.len()
    }

    /// The rows that have come since the last call. `whole`: all rows that are remembered.
    pub(crate) fn take(&mut self, whole: bool) -> Result<Option<Written>> {
        if self.new.is_empty() {
            return Ok(None);
        }
        let whole = whole || std::mem::take(&mut self.forgot);
        let new = std::mem::take(&mut self.new);
        let rows = match whole {
            true => FixedSizeBinaryArray::try_from_iter(self.seen.iter()),
            false => FixedSizeBinaryArray::try_from_iter(new.iter()),
        };
        let rows = RecordBatch::try_new(SCHEMA.clone(), vec![Arc::new(rows?)])?;
        Ok(Some(Written { rows, whole }))
    }

    pub(crate) fn restore(&mut self, rows: &RecordBatch) -> Result<()> {
        let column = rows.column(0).as_fixed_size_binary_opt();
        let column = column.ok_or_else(|| Error::internal("not the rows that were set aside"))?;
        for i in 0..column.len() {
            if let Ok(row) = column.value(i).try_into() {
                self.seen.insert(row);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_set_aside_once_also_after_a_restart() {
        let mut before = SetAside::default();
        assert!(before.add("t", "{}") && before.add("u", "{}") && !before.add("t", "{}"));
        let written = before.take(false).unwrap().unwrap();
        assert!(!written.whole && written.rows.num_rows() == 2 && before.take(true).unwrap().is_none());
        let mut after = SetAside::default();
        after.restore(&written.rows).unwrap();
        assert!(!after.add("u", "{}") && after.add("u", "{\"a\":1}") && after.len() == 3);
        assert_eq!(after.take(true).unwrap().unwrap().rows.num_rows(), 3);
    }

    #[test]
    fn what_is_too_much_to_remember_is_forgotten_and_written_whole() {
        let mut all = SetAside::default();
        (0..MOST).for_each(|i| assert!(all.add("t", &i.to_string())));
        all.take(false).unwrap();
        assert!(all.add("t", "one more"));
        let written = all.take(false).unwrap().unwrap();
        assert!(written.whole && written.rows.num_rows() == 1 && all.add("t", "7"));
    }
}
