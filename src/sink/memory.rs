//! Rows that stay in memory: what iterators, previews and `collect` hand out.

use crate::Result;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use std::collections::VecDeque;

/// Cuts rows into batches of at most `batch_rows`, joining small ones when asked to.
#[derive(Debug)]
pub struct Rebatch {
    schema: SchemaRef,
    batch_rows: Option<usize>,
    waiting: VecDeque<RecordBatch>,
    rows: usize,
}

impl Rebatch {
    pub fn new(schema: SchemaRef, batch_rows: Option<usize>) -> Self {
        Self { schema, batch_rows, waiting: VecDeque::new(), rows: 0 }
    }

    pub fn push(&mut self, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.rows += batch.num_rows();
            self.waiting.push_back(batch);
        }
    }

    /// A full batch; or, when `flush` is set, what there is.
    pub fn pop(&mut self, flush: bool) -> Result<Option<RecordBatch>> {
        let Some(wanted) = self.batch_rows else {
            if !flush || self.waiting.is_empty() {
                return Ok(None);
            }
            let all: Vec<_> = self.waiting.drain(..).collect();
            self.rows = 0;
            return Ok(Some(concat_batches(&self.schema, &all)?));
        };
        if self.rows == 0 || (self.rows < wanted && !flush) {
            return Ok(None);
        }
        let mut pieces = vec![];
        let mut left = wanted;
        while left > 0
            && let Some(batch) = self.waiting.pop_front()
        {
            let n = batch.num_rows().min(left);
            pieces.push(batch.slice(0, n));
            if n < batch.num_rows() {
                self.waiting.push_front(batch.slice(n, batch.num_rows() - n));
            }
            left -= n;
        }
        self.rows -= wanted - left;
        Ok(Some(concat_batches(&self.schema, &pieces)?))
    }

    pub fn rows(&self) -> usize {
        self.rows
    }
}
