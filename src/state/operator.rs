//! What every stateful step is to the query.

use crate::Result;
use crate::batch::{Batch, FailedRow, LateRow};
use crate::time::{EventTime, Watermark};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

/// What became of the rows of one batch, as far as it is known before the epoch's end.
#[derive(Debug, Default)]
pub struct Pushed {
    pub late: Vec<LateRow>,
    pub failed: Vec<FailedRow>,
}

/// The end of an epoch.
#[derive(Debug, Default)]
pub struct Finished {
    /// What is handed out.
    pub batches: Vec<Batch>,
    /// What the epoch did to the state, in `state_schema`; None when nothing.
    pub increment: Option<RecordBatch>,
    /// State rows that were added or changed.
    pub updated: usize,
    /// Rows that are known to be late only now.
    pub late: Vec<(Batch, LateRow)>,
    /// Groups whose result cannot be computed: one row each, its window and keys, and why.
    pub failed: Vec<(Batch, String)>,
    /// In update mode the keys that changed, in the columns that rows are merged by; those without a row in `batches` are gone.
    pub changed: Vec<RecordBatch>,
    /// Counts of its own, by the name that progress shows them under.
    pub metrics: Vec<(&'static str, u64)>,
}

/// A window that waits for its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenWindow {
    /// None for what has no start of its own.
    pub start: EventTime,
    pub end: EventTime,
    pub groups: usize,
}

/// A step that remembers rows between epochs. Pure: it does no I/O on tables or Kafka and knows no clock.
///
/// Within an epoch rows are judged by the watermark with which it began (`before`); at the epoch's end the watermark has
/// advanced (`after`), and what that closes is handed out. The result of an epoch must not depend on the order in which
/// `push` was called.
pub trait Stateful: Send {
    /// Rows of input `input` (0 but for joins).
    fn push(&mut self, input: usize, batch: &Batch, before: Option<Watermark>) -> Result<Pushed>;
    /// Ends the epoch.
    fn finish_epoch(&mut self, before: Option<Watermark>, after: Option<Watermark>) -> Result<Finished>;

    /// What its state is of; two operators with the same text can read each other's.
    fn description(&self) -> String;
    /// The columns of increments and snapshots.
    fn state_schema(&self) -> SchemaRef;
    /// Applies an increment or a snapshot; called in the order in which they were made.
    fn restore(&mut self, state: &RecordBatch) -> Result<()>;
    /// Forgets what `watermark` has closed; called after the last `restore`.
    fn forget(&mut self, watermark: Option<Watermark>) -> Result<()>;
    /// All of its state, in pieces; the state stays as it is.
    fn snapshot(&mut self) -> Result<Vec<RecordBatch>>;
    /// An empty one of the same kind: restored from some files in order it gives the snapshot that replaces them.
    fn fresh(&self) -> Result<Box<dyn Stateful>>;
    /// Whether any run of neighbouring increments may be replaced by its snapshot, or only one that starts at the oldest.
    fn merges_anywhere(&self) -> bool {
        false
    }

    /// The watermark from which on this increment or snapshot holds nothing that is needed; None: it always may.
    fn needed_until(&self, _state: &RecordBatch) -> Option<EventTime> {
        None
    }

    /// Groups, keys or rows that it holds.
    fn groups(&self) -> usize;
    /// Bytes, about.
    fn memory(&self) -> usize;
    /// Windows that wait for their end, earliest first.
    fn open_windows(&self) -> Vec<OpenWindow> {
        vec![]
    }
    /// Rows that wait for what may still match them. Asked when a run ends.
    fn waiting_rows(&self) -> u64 {
        0
    }
    /// The end of the last window that has rows and begins no later than `until`. Asked at an epoch's end.
    fn last_window(&self, _until: EventTime) -> Option<EventTime> {
        None
    }
    /// Whether an epoch that ended now, without new rows, at this watermark, would hand anything out.
    fn would_emit(&self, _after: Option<Watermark>) -> bool {
        false
    }
    /// Puts state on local disk until no more than `to` bytes are left in memory; false where it cannot.
    fn shrink(&mut self, _to: usize) -> Result<bool> {
        Ok(false)
    }
}
