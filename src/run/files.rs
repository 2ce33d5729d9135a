//! Facts about state files: their rows, and until when they are needed.

use crate::state::Stateful;
use crate::time::EventTime;
use arrow::array::RecordBatch;

/// The name of `SetAside` among the state of a seal; no operator has it, for theirs begin with a table's.
pub const SET_ASIDE: &str = "+set-aside";

/// Facts about one state file.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileInfo {
    pub rows: usize,
    /// The watermark from which on nothing in it is needed.
    pub needed_until: Option<EventTime>,
}

/// None as soon as one of them is always needed.
pub fn needed_until(op: &dyn Stateful, batches: &[RecordBatch]) -> Option<EventTime> {
    batches.iter().map(|b| op.needed_until(b)).try_fold(EventTime(i64::MIN), |max, until| Some(max.max(until?)))
}
