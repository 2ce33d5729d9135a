//! Staging: an epoch's rows become data files in the table's folder that no version names yet.

use super::{Table, delta_error, writer_schema};
use crate::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use deltalake::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake::kernel::Add;
use deltalake::logstore::ObjectStoreRef;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Encodes and writes beside the stages; `send` waits when it falls behind.
pub struct Stager {
    batches: mpsc::Sender<RecordBatch>,
    task: JoinHandle<Result<Vec<Add>>>,
    schema: SchemaRef,
    pub rows: u64,
}

/// What staging needs of a table; apart from the table, which may be busy with a commit.
#[derive(Clone)]
pub struct Staging {
    schema: SchemaRef,
    store: ObjectStoreRef,
    partitions: Vec<String>,
    place: String,
}

impl Table {
    pub fn staging(&self) -> Staging {
        Staging {
            schema: writer_schema(&self.spec),
            store: self.table.log_store().object_store(None),
            partitions: self.spec.partition_by.clone(),
            place: self.spec.location.display(),
        }
    }
}

impl Stager {
    pub fn start(staging: &Staging, runtime: &tokio::runtime::Handle) -> Self {
        let Staging { schema, store, partitions, place } = staging.clone();
        let (batches, queue) = mpsc::channel(4);
        let task = runtime.spawn({
            let schema = schema.clone();
            async move {
                stage(store, schema, partitions, queue)
                    .await
                    .map_err(|e| e.context(format!("{place}: writing data files")))
            }
        });
        Self { batches, task, schema, rows: 0 }
    }

    /// Hands rows over; called from the stages' thread.
    pub fn send(&mut self, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let rows = RecordBatch::try_new(self.schema.clone(), rows.columns().to_vec())?;
        self.rows += rows.num_rows() as u64;
        // A closed queue means that the writer has failed; `finish` tells why.
        let _ = self.batches.blocking_send(rows);
        Ok(())
    }

    /// The files, written and flushed to disk.
    pub async fn finish(self) -> Result<(Vec<Add>, u64)> {
        drop(self.batches);
        let adds = self.task.await.map_err(|e| Error::internal(format!("the writer of data files ended: {e}")))??;
        Ok((adds, self.rows))
    }

    /// Gives the epoch up.
    pub fn abort(self) {
        self.task.abort();
    }
}

async fn stage(
    store: ObjectStoreRef,
    schema: SchemaRef,
    partitions: Vec<String>,
    mut queue: mpsc::Receiver<RecordBatch>,
) -> Result<Vec<Add>> {
    let mut writer = writer(store, schema, partitions);
    while let Some(batch) = queue.recv().await {
        writer.write(&batch).await.map_err(delta_error)?;
    }
    writer.close().await.map_err(delta_error)
}

pub(super) fn writer(store: ObjectStoreRef, schema: SchemaRef, partitions: Vec<String>) -> DeltaWriter {
    let properties = WriterProperties::builder()
        .set_created_by(concat!("bayou ", env!("CARGO_PKG_VERSION")).into())
        .set_compression(Compression::SNAPPY)
        // Smaller than the default of a million rows: bounds the memory of a writer.
        .set_max_row_group_row_count(Some(256 * 1024))
        .build();
    // Batches come in chunks that are large enough; slicing them into 1,024 rows (the default) costs a third more.
    let config = WriterConfig::new(schema, partitions, Some(properties), None, Some(8192), Default::default(), None);
    DeltaWriter::new(store, config)
}
