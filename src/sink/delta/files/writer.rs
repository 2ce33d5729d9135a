//! Writes rows to data files: one at a time for each partition, of limited size, in row groups of limited size.

use super::partition::Partitions;
use super::stats::{self, Floats};
use crate::time::SharedClock;
use crate::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use deltalake::kernel::Add;
use deltalake::logstore::ObjectStoreRef;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::AsyncArrowWriter;
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use std::collections::HashMap;
use tokio::io::AsyncWriteExt;

/// A file has at most about this many bytes.
const FILE: usize = 128 << 20;
/// A row group is in memory while it is written.
const GROUP_BYTES: usize = 32 << 20;
const GROUP_ROWS: usize = 256 * 1024;
/// The rows of a partition wait for this many bytes before its file is opened. An open file needs memory of its own,
/// and each row can have a different partition.
const WAIT: usize = 1 << 20;
/// The limit in bytes for all waiting rows and all open files. Above it, the file of the largest partition is opened or
/// ended.
const OPEN: usize = 128 << 20;
/// This many bytes are sent to the store at a time.
const PART: usize = 5 << 20;
/// At most this many files are ended at the same time.
const ENDS: usize = 4;

/// The common part of the files of one table.
#[derive(Clone)]
pub(crate) struct Properties {
    pub store: ObjectStoreRef,
    pub schema: SchemaRef,
    pub partitions: Partitions,
    file_schema: SchemaRef,
    parquet: WriterProperties,
    floats: Floats,
    clock: SharedClock,
}

impl Properties {
    pub(crate) fn new(
        store: ObjectStoreRef,
        schema: SchemaRef,
        partition_by: &[String],
        clock: SharedClock,
    ) -> Result<Self> {
        let partitions = Partitions::new(&schema, partition_by)?;
        let file_schema = partitions.file_schema(&schema)?;
        let parquet = WriterProperties::builder()
            .set_created_by(concat!("bayou ", env!("CARGO_PKG_VERSION")).into())
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_max_row_group_bytes(Some(GROUP_BYTES));
        let parquet = stats::without_floats(parquet, &file_schema).build();
        let floats = Floats::new(&file_schema);
        Ok(Self { store, schema, partitions, file_schema, parquet, floats, clock })
    }

    /// Marks compacted files, so that a person who looks at a file can see it.
    pub(crate) fn joining(mut self) -> Self {
        let made_by = concat!("bayou ", env!("CARGO_PKG_VERSION"), " (joined)");
        self.parquet = self.parquet.into_builder().set_created_by(made_by.into()).build();
        self
    }
}

/// Sends to the store without one more copy.
struct Upload(BufWriter);

impl AsyncFileWriter for Upload {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, parquet::errors::Result<()>> {
        Box::pin(async move { self.0.put(bytes).await.map_err(|e| ParquetError::External(Box::new(e))) })
    }
    fn complete(&mut self) -> BoxFuture<'_, parquet::errors::Result<()>> {
        Box::pin(async move { self.0.shutdown().await.map_err(|e| ParquetError::External(Box::new(e))) })
    }
}

struct OpenFile {
    path: String,
    writer: AsyncArrowWriter<Upload>,
    floats: Floats,
}

/// One partition: waiting rows, and the file for them.
struct Partition {
    values: Vec<Option<String>>,
    waiting: Vec<RecordBatch>,
    bytes: usize,
    file: Option<OpenFile>,
}

impl Partition {
    fn held(&self) -> usize {
        self.bytes + self.file.as_ref().map_or(0, |f| f.writer.memory_size())
    }
}

pub(crate) struct FileWriter {
    properties: Properties,
    partitions: HashMap<Vec<Option<String>>, usize>,
    all: Vec<Partition>,
    /// The size of the waiting rows in bytes.
    waiting: usize,
    adds: Vec<Add>,
    id: uuid::Uuid,
    count: usize,
    /// A file ends when it has about this many bytes.
    limit: usize,
}

fn failed(e: ParquetError) -> Error {
    // A store's error arrives inside a Parquet error, which contains an I/O error.
    let inner = match e {
        ParquetError::External(inner) => inner,
        other => return Error::storage(other.to_string()).with_source(other),
    };
    let inner = match inner.downcast::<std::io::Error>() {
        Ok(io) if io.get_ref().is_some() => match io.into_inner() {
            Some(inner) => inner,
            None => return Error::storage("the store does not accept the file"),
        },
        Ok(io) => return super::super::store_error(object_store::Error::Generic { store: "store", source: io }),
        Err(inner) => inner,
    };
    match inner.downcast::<object_store::Error>() {
        Ok(store) => super::super::store_error(*store),
        Err(inner) => Error::storage(inner.to_string()),
    }
}

impl FileWriter {
    pub(crate) fn new(properties: Properties) -> Self {
        Self {
            properties,
            partitions: HashMap::new(),
            all: vec![],
            waiting: 0,
            adds: vec![],
            id: uuid::Uuid::new_v4(),
            count: 0,
            limit: FILE,
        }
    }

    /// Files end when they have about this many bytes.
    pub(crate) fn ending_at(mut self, bytes: usize) -> Self {
        self.limit = bytes.min(FILE);
        self
    }

    /// The rows with their columns in the order of the schema.
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        for part in self.properties.partitions.split(batch)? {
            let next = self.all.len();
            let at = match self.partitions.get(&part.values) {
                Some(at) => *at,
                None => {
                    self.partitions.insert(part.values.clone(), next);
                    self.all.push(Partition { values: part.values, waiting: vec![], bytes: 0, file: None });
                    next
                }
            };
            let bytes = part.rows.get_array_memory_size();
            let partition = &mut self.all[at];
            partition.waiting.push(part.rows);
            partition.bytes += bytes;
            self.waiting += bytes;
            if partition.bytes >= WAIT || partition.file.is_some() {
                self.flush(at).await?;
            }
        }
        while self.held() > OPEN {
            let largest = (0..self.all.len()).max_by_key(|i| self.all[*i].held()).unwrap_or(0);
            self.flush(largest).await?;
            self.end(largest).await?;
        }
        Ok(())
    }

    fn held(&self) -> usize {
        // The sizes of waiting rows are added as they arrive. For open files, of which there are few with many
        // partitions, the sizes are computed each time.
        self.waiting + self.all.iter().filter_map(|p| p.file.as_ref()).map(|f| f.writer.memory_size()).sum::<usize>()
    }

    /// Writes the waiting rows to the file of the partition. Ends a file that is large enough.
    async fn flush(&mut self, at: usize) -> Result<()> {
        let partition = &mut self.all[at];
        let rows = std::mem::take(&mut partition.waiting);
        self.waiting -= std::mem::take(&mut partition.bytes);
        if rows.is_empty() {
            return Ok(());
        }
        if partition.file.is_none() {
            let path = format!(
                "{}part-{:05}-{}-c000.snappy.parquet",
                self.properties.partitions.folder(&partition.values),
                self.count,
                self.id
            );
            self.count += 1;
            partition.file = Some(OpenFile::begin(&self.properties, path)?);
        }
        let Some(file) = &mut partition.file else { return Ok(()) };
        for batch in rows {
            file.floats.see(&batch);
            file.writer.write(&batch).await.map_err(failed)?;
        }
        if file.writer.bytes_written() + file.writer.in_progress_size() >= self.limit {
            self.end(at).await?;
        }
        Ok(())
    }

    async fn end(&mut self, at: usize) -> Result<()> {
        if let Some(file) = self.all[at].file.take() {
            let add = file.end(&self.properties, &self.all[at].values).await?;
            self.adds.push(add);
        }
        Ok(())
    }

    /// Ends all files. Returns their entries for the log, in the order in which the files were opened.
    pub(crate) async fn close(mut self) -> Result<Vec<Add>> {
        let (properties, id) = (&self.properties, self.id);
        let mut count = self.count;
        let mut ends = vec![];
        for mut partition in std::mem::take(&mut self.all) {
            if partition.file.is_none() && partition.waiting.is_empty() {
                continue;
            }
            let number = count;
            count += usize::from(partition.file.is_none());
            ends.push(async move {
                let mut file = match partition.file.take() {
                    Some(file) => file,
                    None => {
                        let folder = properties.partitions.folder(&partition.values);
                        OpenFile::begin(properties, format!("{folder}part-{number:05}-{id}-c000.snappy.parquet"))?
                    }
                };
                for batch in &partition.waiting {
                    file.floats.see(batch);
                    file.writer.write(batch).await.map_err(failed)?;
                }
                file.end(properties, &partition.values).await
            });
        }
        let ended: Vec<Add> = futures::stream::iter(ends).buffered(ENDS).try_collect().await?;
        self.adds.extend(ended);
        Ok(self.adds)
    }
}

impl OpenFile {
    fn begin(properties: &Properties, path: String) -> Result<Self> {
        let at = Path::parse(&path).map_err(|e| Error::internal(format!("the name of a data file: {e}")))?;
        let upload = Upload(BufWriter::with_capacity(properties.store.clone(), at, PART).with_max_concurrency(4));
        let writer =
            AsyncArrowWriter::try_new(upload, properties.file_schema.clone(), Some(properties.parquet.clone()))
                .map_err(failed)?;
        Ok(Self { path, writer, floats: properties.floats.clone() })
    }

    async fn end(mut self, properties: &Properties, values: &[Option<String>]) -> Result<Add> {
        let metadata = self.writer.finish().await.map_err(failed)?;
        let stats = stats::stats(&metadata, &self.floats);
        let names = properties.partitions.names().iter().cloned();
        Ok(Add {
            path: self.path,
            partition_values: names.zip(values.iter().cloned()).collect(),
            size: self.writer.bytes_written() as i64,
            modification_time: properties.clock.now().0 / 1000,
            data_change: true,
            stats: Some(stats),
            tags: None,
            deletion_vector: None,
            base_row_id: None,
            default_row_commit_version: None,
            clustering_provider: None,
        })
    }
}
