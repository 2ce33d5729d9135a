//! Rows to a user's function: each epoch's, at least once, and the same rows for the same epoch.

use super::{Changes, Commit, HeldRows, Part, Rows, Sink, Staged, StagedRows, Staging, Writer};
use crate::storage::crash;
use crate::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use tokio::sync::Mutex;

/// The name of this way of writing in seals and definitions.
pub(crate) const MODE: &str = "foreach";

/// A function that gets each epoch's rows. The core knows no Python.
pub trait ForEach: Send + Sync {
    /// The text of an error is the user's own. bayou puts the text into a sentence that says where the error happened.
    fn call(&self, schema: &SchemaRef, rows: &[RecordBatch], epoch: i64) -> Result<()>;

    /// The function's own name.
    fn name(&self) -> &str;

    fn describe(&self) -> String {
        format!("the function {}", self.name())
    }
}

#[derive(Clone)]
pub struct FunctionOptions {
    pub function: Arc<dyn ForEach>,
}

impl FunctionOptions {
    pub(super) fn sink(&self, rows: Rows) -> FunctionSink {
        FunctionSink { schema: rows.schema, function: self.function.clone() }
    }
}

#[derive(Clone)]
pub(super) struct FunctionSink {
    schema: SchemaRef,
    function: Arc<dyn ForEach>,
}

#[async_trait]
impl Sink for FunctionSink {
    /// A function accepts any columns.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn open(&self) -> Result<Box<dyn Writer>> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Writer for FunctionSink {
    fn staging(&self) -> Result<Arc<dyn Staging>> {
        Ok(Arc::new(Whole { schema: self.schema.clone() }))
    }

    fn describe(&self) -> String {
        self.function.describe()
    }

    fn is_last(&self) -> bool {
        true
    }

    async fn commit(&mut self, commit: Commit) -> Result<Option<u64>> {
        let Some(rows) = commit.staged.whole else { return Ok(None) };
        call(self.function.clone(), rows, commit.name, commit.epoch, commit.log).await?;
        Ok(None)
    }
}

/// All rows of an epoch, held until its end.
struct Whole {
    schema: SchemaRef,
}

impl Staging for Whole {
    fn begin(&self, _runtime: &tokio::runtime::Handle) -> Box<dyn Part> {
        Box::new(Held { schema: self.schema.clone(), held: HeldRows::default() })
    }
}

struct Held {
    schema: SchemaRef,
    held: HeldRows,
}

#[async_trait]
impl Part for Held {
    fn push(&mut self, rows: RecordBatch) -> Result<()> {
        self.held.push(rows);
        Ok(())
    }

    fn held(&self) -> usize {
        self.held.bytes
    }

    async fn finish(self: Box<Self>, _changes: Changes<'_>) -> Result<Staged> {
        let rows = self.held.batches.iter().map(|b| b.num_rows() as u64).sum();
        let whole = Some(StagedRows { schema: self.schema, batches: self.held.batches });
        Ok(Staged { rows, whole, ..Staged::default() })
    }
}

/// Calls a user's function on a thread of its own, because the call may take long, and must not block a thread that storage needs.
/// One call at a time: a call that a stopped run has left running ends before the next run's call begins.
async fn call(function: Arc<dyn ForEach>, rows: StagedRows, name: String, epoch: i64, place: String) -> Result<()> {
    static AT_WORK: LazyLock<parking_lot::Mutex<HashMap<String, Arc<Mutex<()>>>>> = LazyLock::new(Default::default);
    let turn = AT_WORK.lock().entry(format!("{place}/{name}")).or_default().clone();
    let turn = turn.lock_owned().await;
    let (say, hear) = tokio::sync::oneshot::channel();
    let what = format!("foreach:{name}");
    std::thread::Builder::new()
        .name("bayou-foreach".into())
        .spawn(move || {
            crash::pass(&what, "before");
            let said = function.call(&rows.schema, &rows.batches, epoch);
            crash::pass(&what, "after");
            drop(turn);
            let _ = say.send(said);
        })
        .map_err(|e| Error::internal(format!("no thread: {e}")))?;
    match hear.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => {
            let failed = Error::function(format!(
                "the function of '{name}' failed for epoch {epoch}: {}. The epoch is sealed: running the query again calls it with the same rows.",
                e.message
            ));
            Err(Error { source: e.source, ..failed.in_epoch(epoch) })
        }
        Err(_) => Err(Error::internal(format!("the function of '{name}' ended without an answer"))),
    }
}
