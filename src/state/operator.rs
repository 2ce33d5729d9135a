//! The interface between stateful steps and the query.

use crate::batch::{Batch, FailedRow, LateRow};
use crate::time::{EventTime, Watermark};
use crate::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

/// The result of one batch, as far as it is known before the end of the epoch.
#[derive(Debug, Default)]
pub(crate) struct Pushed {
    pub late: Vec<LateRow>,
    pub failed: Vec<FailedRow>,
}

/// The result of the end of an epoch.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    /// The emitted rows.
    pub batches: Vec<Batch>,
    /// The changes of the state in the epoch, in `state_schema`. None without changes.
    pub increment: Option<RecordBatch>,
    /// The number of state rows that were added or changed.
    pub updated: usize,
    /// Rows that are known to be late only at the end of the epoch.
    pub late: Vec<(Batch, LateRow)>,
    /// Groups whose result cannot be computed: one row for each, with its window and keys, and the reason.
    pub failed: Vec<(Batch, Error)>,
    /// In update mode, the keys that changed, in the columns by which rows are merged. Keys without a row in `batches`
    /// are deleted.
    pub changed: Vec<RecordBatch>,
    /// Counts of the operator, with the names that progress shows.
    pub metrics: Vec<(&'static str, u64)>,
}

/// A window that waits for its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenWindow {
    /// The start of the window.
    pub start: EventTime,
    pub end: EventTime,
    pub groups: usize,
}

/// A step that remembers rows between epochs. It is pure: it does no I/O on tables or Kafka and does not read a clock.
///
/// Within an epoch, rows are judged by the watermark with which the epoch began (`before`). At the end of the epoch the
/// watermark has advanced (`after`), and the groups that it has closed are emitted. The result of an epoch must not
/// depend on the order of the calls of `push`.
pub(crate) trait Stateful: Send {
    /// Adds rows of input `input` (0 except for joins).
    fn push(&mut self, input: usize, batch: &Batch, before: Option<Watermark>) -> Result<Pushed>;
    /// Ends the epoch.
    fn finish_epoch(&mut self, before: Option<Watermark>, after: Option<Watermark>) -> Result<Finished>;

    /// What the state contains. Two operators with the same text can read each other's state.
    fn description(&self) -> String;
    /// The columns of increments and snapshots.
    fn state_schema(&self) -> SchemaRef;
    /// Applies an increment or a snapshot. Called in the order in which they were written.
    fn restore(&mut self, state: &RecordBatch) -> Result<()>;
    /// Forgets state that `watermark` has closed. Called after the last `restore`.
    fn forget(&mut self, watermark: Option<Watermark>) -> Result<()>;
    /// Hands out all of the state, piece by piece: the state can be as large as memory allows. The state does not change.
    fn snapshot(&mut self, each: &mut dyn FnMut(RecordBatch) -> Result<()>) -> Result<()>;
    /// An empty operator of the same kind. If some files are restored into it in order, its snapshot can replace these
    /// files.
    fn fresh(&self) -> Result<Box<dyn Stateful>>;
    /// Whether a snapshot can replace any consecutive increments, or only increments that start at the oldest one.
    fn merges_anywhere(&self) -> bool {
        false
    }

    /// The watermark from which on nothing in this increment or snapshot is needed. None: it can always be needed.
    fn needed_until(&self, _state: &RecordBatch) -> Option<EventTime> {
        None
    }

    /// The number of groups, keys or rows in the state.
    fn groups(&self) -> usize;
    /// The approximate size of the state in bytes.
    fn memory(&self) -> usize;
    /// The windows that wait for their end, earliest first.
    fn open_windows(&self) -> Vec<OpenWindow> {
        vec![]
    }
    /// The number of rows that can still get a match. Asked when a run ends.
    fn waiting_rows(&self) -> u64 {
        0
    }
    /// The end of the last window that has rows and begins at or before `until`. Asked at the end of an epoch.
    fn last_window(&self, _until: EventTime) -> Option<EventTime> {
        None
    }
    /// Whether an epoch that ends now, at this watermark and without new rows, would emit anything.
    fn would_emit(&self, _after: Option<Watermark>) -> bool {
        false
    }
    /// Sets the bytes that an epoch may take in memory. Above this limit, an operator whose rows multiply within an epoch fails with an error.
    fn limit(&mut self, _bytes: usize) {}
    /// Moves state to local disk until at most `to` bytes are in memory. False if the operator cannot do this.
    fn shrink(&mut self, _to: usize) -> Result<bool> {
        Ok(false)
    }
}

#[cfg(test)]
impl dyn Stateful + '_ {
    /// All of the state at once.
    pub(crate) fn whole(&mut self) -> Result<Vec<RecordBatch>> {
        let mut all = vec![];
        self.snapshot(&mut |piece| {
            all.push(piece);
            Ok(())
        })?;
        Ok(all)
    }
}
