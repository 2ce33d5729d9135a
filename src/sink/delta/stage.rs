//! Staging: the rows of an epoch become data files in the folder of the table. No version refers to them yet.

use super::commit::waiting;
use super::files::{FileWriter, Properties};
use super::fit::fit;
use super::merge::{merge_schema, merge_staged};
use super::{Admission, Table};
use crate::sink::{Changes, HeldRows, OutputMode, Part, Refused, Staged, StagedRows, Staging};
use crate::{Error, Result};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use deltalake::kernel::Add;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The facts about a table that staging needs. They are separate from the table, which may be busy with a commit.
#[derive(Clone)]
pub(super) struct DeltaStaging {
    properties: Properties,
    place: String,
    /// The requirements of the table for a row.
    admission: Arc<Admission>,
    /// Mode update: the stream's columns, and which of them rows are merged by.
    merge: Option<(SchemaRef, Vec<usize>)>,
}

impl Table {
    pub(super) fn delta_staging(&self) -> Result<DeltaStaging> {
        Ok(DeltaStaging {
            properties: self.properties(self.written.clone())?,
            place: self.spec.location.display(),
            admission: self.admission.clone(),
            merge: (self.spec.mode == OutputMode::Update).then(|| (self.spec.schema.clone(), self.spec.keys.clone())),
        })
    }

    /// The properties of data files with these columns.
    pub(super) fn properties(&self, schema: SchemaRef) -> Result<Properties> {
        Properties::new(
            self.table.log_store().object_store(None),
            schema,
            &self.partition_columns()?,
            self.spec.clock.clone(),
        )
    }
}

impl Staging for DeltaStaging {
    fn judge(&self, rows: &RecordBatch) -> Result<Vec<Refused>> {
        self.admission.judge(rows)
    }

    fn fingerprint(&self) -> Option<String> {
        Some(self.admission.fingerprint.clone())
    }

    fn begin(&self, runtime: &tokio::runtime::Handle) -> Box<dyn Part> {
        match &self.merge {
            Some((schema, keys)) => {
                Box::new(Merging { schema: schema.clone(), keys: keys.clone(), held: HeldRows::default() })
            }
            None => Box::new(Files::new(self.properties.clone(), self.place.clone(), runtime.clone())),
        }
    }
}

/// Rows that become data files. They are encoded and written in parallel with the stages; `push` waits if the writer falls behind.
pub(super) struct Files {
    properties: Properties,
    place: String,
    runtime: tokio::runtime::Handle,
    /// From the first row on.
    writing: Option<(mpsc::Sender<RecordBatch>, JoinHandle<Result<Vec<Add>>>)>,
    rows: u64,
}

impl Files {
    pub(super) fn new(properties: Properties, place: String, runtime: tokio::runtime::Handle) -> Self {
        Self { properties, place, runtime, writing: None, rows: 0 }
    }

    fn start(&self) -> (mpsc::Sender<RecordBatch>, JoinHandle<Result<Vec<Add>>>) {
        let (properties, place) = (self.properties.clone(), self.place.clone());
        let (batches, queue) = mpsc::channel(2);
        let task = self.runtime.spawn(async move {
            stage(properties, queue).await.map_err(|e| e.context(format!("{place}: writing data files")))
        });
        (batches, task)
    }
}

#[async_trait]
impl Part for Files {
    fn push(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let rows = in_columns_of(&self.properties.schema, &rows)?;
        self.rows += rows.num_rows() as u64;
        if self.writing.is_none() {
            self.writing = Some(self.start());
        }
        if let Some((batches, _)) = &self.writing {
            // A closed queue means that the writer has failed; `finish` returns the reason.
            let _ = batches.blocking_send(rows);
        }
        Ok(())
    }

    /// The files, written and flushed to disk.
    async fn finish(self: Box<Self>, _changes: Changes<'_>) -> Result<Staged> {
        let mut out = Staged { rows: self.rows, ..Staged::default() };
        if let Some((batches, task)) = self.writing {
            drop(batches);
            let adds = task.await.map_err(|e| Error::internal(format!("the writer of data files ended: {e}")))??;
            out.files = adds.iter().map(waiting).collect::<Result<_>>()?;
        }
        Ok(out)
    }

    fn abort(self: Box<Self>) {
        if let Some((_, task)) = self.writing {
            task.abort();
        }
    }
}

/// Rows that are merged by their keys, held until the epoch's end.
struct Merging {
    schema: SchemaRef,
    keys: Vec<usize>,
    held: HeldRows,
}

#[async_trait]
impl Part for Merging {
    fn push(&mut self, rows: RecordBatch) -> Result<()> {
        self.held.push(rows);
        Ok(())
    }

    fn held(&self) -> usize {
        self.held.bytes
    }

    async fn finish(self: Box<Self>, changes: Changes<'_>) -> Result<Staged> {
        let (batches, staged) = merge_staged(&self.schema, &self.keys, changes.keys, &self.held.batches)?;
        let whole = Some(StagedRows { schema: merge_schema(&self.schema), batches });
        Ok(Staged { whole, ..staged })
    }
}

/// The rows of a stream in the written columns, which have the same order.
pub(in crate::sink) fn in_columns_of(schema: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch> {
    let columns = rows.columns().iter().zip(schema.fields()).map(|(c, f)| fit(c, f.data_type()));
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns.collect::<Result<_>>()?, &options)?)
}

async fn stage(properties: Properties, mut queue: mpsc::Receiver<RecordBatch>) -> Result<Vec<Add>> {
    let mut writer = FileWriter::new(properties);
    while let Some(batch) = queue.recv().await {
        writer.write(&batch).await?;
    }
    writer.close().await
}
