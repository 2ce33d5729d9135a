//! Rows in memory, cut into batches for iterators, previews and `collect`.

use crate::Result;
use crate::expr::{MOST_BYTES, text_bytes};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use std::collections::VecDeque;

/// Cuts rows into batches of at most `batch_rows`. Joins small batches if requested.
#[derive(Debug)]
pub(super) struct Rebatch {
    schema: SchemaRef,
    batch_rows: Option<usize>,
    waiting: VecDeque<RecordBatch>,
    rows: usize,
}

impl Rebatch {
    pub(super) fn new(schema: SchemaRef, batch_rows: Option<usize>) -> Self {
        Self { schema, batch_rows, waiting: VecDeque::new(), rows: 0 }
    }

    pub(super) fn push(&mut self, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.rows += batch.num_rows();
            self.waiting.push_back(batch);
        }
    }

    /// A full batch. With `flush`, also the rest. A smaller batch if its text does not fit into one.
    pub(super) fn pop(&mut self, flush: bool) -> Result<Option<RecordBatch>> {
        let wanted = match self.batch_rows {
            _ if self.rows == 0 => return Ok(None),
            Some(wanted) if flush || self.rows >= wanted => wanted.min(self.rows),
            None if flush => self.rows,
            _ => return Ok(None),
        };
        let mut pieces = vec![];
        let mut bytes = vec![0usize; self.schema.fields().len()];
        let mut left = wanted;
        while left > 0
            && let Some(batch) = self.waiting.pop_front()
        {
            let n = batch.num_rows().min(left);
            let piece = batch.slice(0, n);
            bytes.iter_mut().zip(piece.columns()).for_each(|(all, column)| *all += text_bytes(column));
            if !pieces.is_empty() && bytes.iter().any(|all| *all > MOST_BYTES) {
                self.waiting.push_front(batch);
                break;
            }
            pieces.push(piece);
            if n < batch.num_rows() {
                self.waiting.push_front(batch.slice(n, batch.num_rows() - n));
            }
            left -= n;
        }
        self.rows -= wanted - left;
        Ok(Some(concat_batches(&self.schema, &pieces)?))
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, StringArray};
    use std::sync::Arc;

    #[test]
    fn rows_whose_text_has_no_room_in_one_batch_come_in_several() {
        let long: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(MOST_BYTES / 10); 3]));
        let batch = RecordBatch::try_from_iter([("s", long)]).unwrap();
        for batch_rows in [None, Some(100), Some(4)] {
            let mut out = Rebatch::new(batch.schema(), batch_rows);
            (0..5).for_each(|_| out.push(batch.clone()));
            let mut sizes = vec![];
            while let Some(made) = out.pop(true).unwrap() {
                sizes.push(made.num_rows());
            }
            assert_eq!(sizes.iter().sum::<usize>(), 15, "{sizes:?}");
            assert!(sizes.iter().all(|n| *n <= 10) && out.rows() == 0, "{sizes:?}");
        }
    }
}
