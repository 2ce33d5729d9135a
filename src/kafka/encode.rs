//! Rows to JSON, as our own reader reads it back.

use crate::error::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;

/// One JSON object per row, from the columns that are not skipped.
pub struct JsonEncoder {}

impl JsonEncoder {
    pub fn new(_schema: &Schema, _skip_columns: &[usize]) -> Result<Self> {
        Err(Error::internal("not written yet"))
    }
    /// Appends every row's object to `out`; `ends[i]` is where row i ends.
    pub fn encode(&self, _batch: &RecordBatch, _out: &mut Vec<u8>, _ends: &mut Vec<usize>) -> Result<()> {
        Err(Error::internal("not written yet"))
    }
}
