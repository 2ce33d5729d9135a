//! Facts about state files: their size, and until when they are needed.

use crate::state::Stateful;
use crate::time::EventTime;
use arrow::array::RecordBatch;

/// The name of `SetAside` among the state of a seal. No operator has this name, because the name of an operator begins with the name of a table.
pub(super) const SET_ASIDE: &str = "+set-aside";

/// Facts about one state file.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FileInfo {
    /// The size is in bytes and not in rows, because a single group can hold a million values.
    pub bytes: usize,
    /// The watermark from which on nothing in the file is needed.
    pub needed_until: Option<EventTime>,
}

/// The watermark from which on no batch is needed. None if one batch is always needed.
pub(super) fn needed_until(op: &dyn Stateful, batches: &[RecordBatch]) -> Option<EventTime> {
    batches.iter().try_fold(EventTime(i64::MIN), |all, b| latest(Some(all), op.needed_until(b)))
}

pub(super) fn latest(all: Option<EventTime>, one: Option<EventTime>) -> Option<EventTime> {
    Some(all?.max(one?))
}
