//! Rows on their way to Spark: Parquet files in the checkpoint, in the columns and types of the table.

use super::SparkOptions;
use super::ddl::ddl;
use super::look::Looked;
use crate::sink::delta::{
    Admission, files_part, in_columns_of, merge_schema, merge_staged, present, read_file, write_files,
};
use crate::sink::{Changes, HeldRows, OutputMode, Part, Refused, Rows, Staged, Staging, WaitingFile};
use crate::storage::Location;
use crate::time::SharedClock;
use crate::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use std::sync::Arc;

#[derive(Clone)]
pub(super) struct SparkStaging {
    /// The columns of the stream in the spelling and types of the table.
    pub written: SchemaRef,
    place: String,
    staged: Location,
    rows: Rows,
    admission: Arc<Admission>,
    id: String,
}

impl SparkStaging {
    pub(super) fn new(looked: &Looked, rows: &Rows, options: &SparkOptions) -> Result<Self> {
        let place = options.table.describe();
        Ok(Self {
            written: looked.beside(rows, options, &place).written()?,
            admission: Arc::new(looked.admission(rows, &place)?),
            place,
            staged: options.staged.clone(),
            rows: rows.clone(),
            id: looked.id.clone(),
        })
    }

    /// Whether the table still has the same requirements for rows.
    pub(super) fn is_of(&self, looked: &Looked) -> bool {
        self.id == looked.id && self.admission.fingerprint == looked.fingerprint
    }

    /// The columns of staged files.
    pub(super) fn staged_columns(&self, mode: OutputMode) -> SchemaRef {
        if mode == OutputMode::Update { merge_schema(&self.written) } else { self.written.clone() }
    }

    /// A column of the stream as the table spells it.
    pub(super) fn name_of(&self, column: &str) -> Result<String> {
        let at = self
            .rows
            .schema
            .index_of(column)
            .ok()
            .or_else(|| self.written.fields().iter().position(|f| f.name().eq_ignore_ascii_case(column)));
        let at = at.ok_or_else(|| Error::schema(format!("{}: the key column '{column}' is gone", self.place)))?;
        Ok(self.written.field(at).name().clone())
    }

    /// A folder for the files of one epoch. Its name begins with the time, by which leftovers are recognised.
    fn folder(&self) -> String {
        format!("{:020}-{}", self.rows.clock.now().0, &uuid::Uuid::new_v4().simple().to_string()[..8])
    }

    /// A file with one row of NULLs, and its columns.
    pub(super) async fn probe(&self) -> Result<(Vec<WaitingFile>, String)> {
        let schema = parse("probe INT")?;
        let row =
            RecordBatch::try_new(schema.clone(), vec![arrow::array::new_null_array(schema.field(0).data_type(), 1)])?;
        let folder = self.folder();
        let files = write_files(&self.staged.join(&folder), &schema, &self.rows.clock, &[row]).await?;
        Ok((in_folder(&folder, files)?, ddl(&schema)))
    }

    /// How many of the staged rows the table does not accept any more.
    pub(super) async fn refused(&self, files: &[WaitingFile]) -> Result<usize> {
        let mut count = 0;
        for file in files {
            for batch in read_file(&self.staged, &path_of(file)?).await? {
                let batch = if self.rows.mode == OutputMode::Update { present(&batch)? } else { batch };
                count += self.admission.judge(&batch)?.len();
            }
        }
        Ok(count)
    }
}

fn parse(ddl: &str) -> Result<SchemaRef> {
    Ok(Arc::new(crate::expr::parse_ddl(ddl)?))
}

/// The name of a staged file below the folder of the output.
pub(super) fn path_of(file: &WaitingFile) -> Result<String> {
    let path = file["path"].as_str();
    path.map(str::to_string).ok_or_else(|| Error::storage("a file in a seal is damaged: it has no path"))
}

fn in_folder(folder: &str, mut files: Vec<WaitingFile>) -> Result<Vec<WaitingFile>> {
    for file in &mut files {
        file["path"] = format!("{folder}/{}", path_of(file)?).into();
    }
    Ok(files)
}

impl Staging for SparkStaging {
    fn judge(&self, rows: &RecordBatch) -> Result<Vec<Refused>> {
        self.admission.judge(rows)
    }

    fn fingerprint(&self) -> Option<String> {
        Some(self.admission.fingerprint.clone())
    }

    fn begin(&self, runtime: &tokio::runtime::Handle) -> Box<dyn Part> {
        let folder = self.folder();
        if self.rows.mode == OutputMode::Update {
            return Box::new(Merging { staging: self.clone(), folder, held: HeldRows::default() });
        }
        let at = self.staged.join(&folder);
        let inner = files_part(&at, &self.written, &self.place, &self.rows.clock, runtime);
        Box::new(Files { inner, folder })
    }
}

/// Files that are written as the rows come.
struct Files {
    /// An error is returned when the first rows come.
    inner: Result<Box<dyn Part>>,
    folder: String,
}

#[async_trait]
impl Part for Files {
    fn push(&mut self, rows: RecordBatch) -> Result<()> {
        match &mut self.inner {
            Ok(part) => part.push(rows),
            Err(e) => Err(std::mem::replace(e, Error::internal("the rows are not staged"))),
        }
    }

    async fn finish(self: Box<Self>, changes: Changes<'_>) -> Result<Staged> {
        let staged = self.inner?.finish(changes).await?;
        Ok(Staged { files: in_folder(&self.folder, staged.files)?, ..staged })
    }

    fn abort(self: Box<Self>) {
        if let Ok(part) = self.inner {
            part.abort();
        }
    }
}

/// Rows that are merged by their keys, held until the epoch's end.
struct Merging {
    staging: SparkStaging,
    folder: String,
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
        let SparkStaging { rows, staged, .. } = &self.staging;
        let (merged, out) = merge_staged(&rows.schema, &rows.keys, changes.keys, &self.held.batches)?;
        let schema = self.staging.staged_columns(OutputMode::Update);
        let files = write(&staged.join(&self.folder), &schema, &rows.clock, &merged).await?;
        Ok(Staged { files: in_folder(&self.folder, files)?, ..out })
    }
}

async fn write(
    at: &Location,
    schema: &SchemaRef,
    clock: &SharedClock,
    rows: &[RecordBatch],
) -> Result<Vec<WaitingFile>> {
    let rows = rows.iter().map(|b| in_columns_of(schema, b)).collect::<Result<Vec<_>>>()?;
    write_files(at, schema, clock, &rows).await
}
