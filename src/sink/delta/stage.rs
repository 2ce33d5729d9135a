//! Staging: the rows of an epoch become data files in the folder of the table. No version refers to them yet.

use super::files::{FileWriter, Properties};
use super::fit::fit;
use super::{Admission, Table};
use crate::{Error, Result};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use deltalake::kernel::Add;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Encodes and writes beside the stages. `send` waits if it is too slow.
pub struct Stager {
    batches: mpsc::Sender<RecordBatch>,
    task: JoinHandle<Result<Vec<Add>>>,
    schema: SchemaRef,
    pub rows: u64,
}

/// The part of a table that staging needs. It is separate from the table, which can be busy with a commit.
#[derive(Clone)]
pub struct Staging {
    properties: Properties,
    place: String,
    /// The requirements of the table for a row.
    pub admission: Arc<Admission>,
}

impl Table {
    pub fn staging(&self) -> Result<Staging> {
        Ok(Staging {
            properties: self.properties(self.written.clone())?,
            place: self.spec.location.display(),
            admission: self.admission.clone(),
        })
    }

    /// For data files with these columns.
    pub(super) fn properties(&self, schema: SchemaRef) -> Result<Properties> {
        Properties::new(self.table.log_store().object_store(None), schema, &self.partition_columns()?)
    }
}

impl Stager {
    pub fn start(staging: &Staging, runtime: &tokio::runtime::Handle) -> Self {
        let Staging { properties, place, .. } = staging.clone();
        let schema = properties.schema.clone();
        let (batches, queue) = mpsc::channel(2);
        let task = runtime.spawn(async move {
            stage(properties, queue).await.map_err(|e| e.context(format!("{place}: writing data files")))
        });
        Self { batches, task, schema, rows: 0 }
    }

    /// Passes rows on. Called from the thread of the stages.
    pub fn send(&mut self, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let rows = in_columns_of(&self.schema, rows)?;
        self.rows += rows.num_rows() as u64;
        // A closed queue means that the writer has failed. `finish` returns its error.
        let _ = self.batches.blocking_send(rows);
        Ok(())
    }

    /// The files, written and flushed to disk.
    pub async fn finish(self) -> Result<(Vec<Add>, u64)> {
        drop(self.batches);
        let adds = self.task.await.map_err(|e| Error::internal(format!("the writer of data files ended: {e}")))??;
        Ok((adds, self.rows))
    }

    /// Abandons the epoch.
    pub fn abort(self) {
        self.task.abort();
    }
}

/// The rows of a stream in the written columns, which have the same order.
pub(super) fn in_columns_of(schema: &SchemaRef, rows: &RecordBatch) -> Result<RecordBatch> {
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
