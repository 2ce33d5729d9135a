//! Tables that Spark commits to, and not bayou. Managed tables of Unity Catalog are written by Databricks' own engines only, and some tables have
//! features that bayou cannot commit to.
//!
//! An epoch's rows are staged as Parquet files in the checkpoint, and the seal names them. The commit asks Spark to write these files into the table,
//! with the epoch as Delta's `txn`, and with query, epoch and seal in the commit's `userMetadata`. It is exactly once because
//!
//! - Delta itself drops a commit whose `txn` the table has, also one that races with it;
//! - the table's history shows whether an epoch is in the table, after a restart and after a failure whose outcome is unknown: an error never
//!   decides that;
//! - a commit that Delta drops without the history showing the epoch is an error: the checkpoint is older than the table;
//! - each attempt writes exactly the files of the seal.
//!
//! Files are removed after their commit. Those of epochs that were never sealed are removed when they are old (`Upkeep`).
//!
//! The core knows no Spark: `Session` is one function that answers requests in JSON (`python/bayou/_managed.py`).

mod ask;
mod ddl;
mod look;
mod staging;
#[cfg(test)]
mod test;
mod upkeep;

use super::{Commit, Maintain, OutputMode, Rows, Sink, StagedRows, Staging, WaitingFile, Writer, Writers};
use crate::storage::{Location, crash};
use crate::{Error, Kind, Result};
use ask::ask;
use async_trait::async_trait;
use ddl::ddl;
use look::Looked;
use serde_json::{Value, json};
use staging::{SparkStaging, path_of};
use std::sync::Arc;
use upkeep::Upkeep;

/// A Spark session. `ask` is called on a thread of its own, and may take long.
pub trait Session: Send + Sync {
    fn ask(&self, what: &str, request: &Value) -> Result<Value>;
}

/// A table as Spark knows it.
#[derive(Clone)]
pub struct SparkTable {
    /// The last part of the table's name.
    pub name: String,
    /// The table's name in messages.
    pub shown: String,
    /// The table's name in SQL.
    pub sql: String,
    pub session: Arc<dyn Session>,
}

impl SparkTable {
    pub fn describe(&self) -> String {
        format!("{} (through Spark)", self.shown)
    }
}

#[derive(Clone)]
pub struct SparkOptions {
    pub table: SparkTable,
    /// The folder of the checkpoint in which rows wait for their commit.
    pub staged: Location,
    pub partition_by: Vec<String>,
    pub comment: Option<String>,
    /// New columns may be added to a table that exists (`schema_mode="merge"`).
    pub merge_schema: bool,
}

/// The name of this way of writing in seals and definitions. The files of such a seal are not those of a table.
pub(crate) fn mode_name(mode: OutputMode) -> &'static str {
    match mode {
        OutputMode::Append => "spark append",
        OutputMode::Update => "spark update",
        OutputMode::Complete => "spark complete",
    }
}

/// The output mode in the name of a way of writing. A table whose writer changes between bayou and Spark keeps its output mode.
pub(crate) fn plain_mode(mode: &str) -> &str {
    mode.strip_prefix("spark ").unwrap_or(mode)
}

impl SparkOptions {
    pub(super) fn sink(&self, rows: Rows) -> SparkSink {
        SparkSink { options: self.clone(), rows }
    }
}

pub(super) struct SparkSink {
    options: SparkOptions,
    rows: Rows,
}

impl SparkSink {
    fn spec(&self) -> super::delta::TableSpec {
        let Rows { schema, declared, mode, keys, clock, .. } = self.rows.clone();
        super::delta::TableSpec {
            location: self.options.staged.clone(),
            schema,
            declared,
            partition_by: self.options.partition_by.clone(),
            mode,
            keys,
            name: None,
            comment: None,
            merge_schema: self.options.merge_schema,
            clock,
        }
    }

    async fn look(&self) -> Result<Option<Looked>> {
        look::look(&self.options.table, true).await
    }

    async fn create(&self) -> Result<()> {
        let request = json!({
            "columns": ddl(&self.rows.declared),
            "partition_by": self.options.partition_by,
            "comment": self.options.comment,
        });
        ask(&self.options.table, "create", request).await.map(drop)
    }
}

#[async_trait]
impl Sink for SparkSink {
    fn check(&self) -> Result<()> {
        self.spec().check_columns_as(&self.options.table.describe())
    }

    async fn open(&self) -> Result<Box<dyn Writer>> {
        self.check()?;
        let mut looked = self.look().await?;
        if looked.is_none() {
            self.create().await?;
            looked = self.look().await?;
        }
        let place = self.options.table.describe();
        let mut looked = looked.ok_or_else(|| Error::storage(format!("{place}: the table appears and disappears")))?;
        let wanted = looked.beside(&self.rows, &self.options, &place).compare()?;
        if self.options.merge_schema && !wanted.is_empty() {
            looked = self.evolve(&wanted, &looked).await?;
        }
        let mut table = Table {
            options: self.options.clone(),
            rows: self.rows.clone(),
            staging: Arc::new(SparkStaging::new(&looked, &self.rows, &self.options)?),
            notes: looked.beside(&self.rows, &self.options, &place).notes(&wanted),
            looked,
        };
        table.reach().await?;
        Ok(Box::new(table))
    }

    async fn exists(&self) -> Result<bool> {
        Ok(look::look(&self.options.table, false).await?.is_some())
    }

    async fn newest_epoch(&self, app: &str) -> Result<Option<i64>> {
        Ok(self.look().await?.and_then(|l| l.apps.get(app).copied()))
    }

    async fn writers(&self) -> Result<Writers> {
        let Some(looked) = self.look().await? else { return Ok(Writers::default()) };
        Ok(Writers { apps: looked.apps.into_keys().collect(), others: looked.others })
    }

    fn upkeep(&self) -> Option<Box<dyn Maintain>> {
        Some(Box::new(Upkeep::new(self.options.staged.clone(), self.rows.clock.clone())))
    }
}

impl SparkSink {
    /// Adds columns and fields, and lets columns be NULL, where the stream needs it.
    async fn evolve(&self, wanted: &super::delta::Wanted, looked: &Looked) -> Result<Looked> {
        let relaxed = super::delta::relaxed_schema(&self.rows.schema);
        let more = !wanted.columns.is_empty() || !wanted.wider.is_empty();
        let nullable: Vec<&String> = wanted.nullable.iter().chain(&wanted.missing).collect();
        let request = json!({ "columns": more.then(|| ddl(&relaxed)), "nullable": nullable });
        ask(&self.options.table, "evolve", request).await?;
        let place = self.options.table.describe();
        let now = self.look().await?.ok_or_else(|| Error::storage(format!("{place}: the table disappeared")))?;
        if now.id != looked.id {
            return Err(Error::data_loss(format!(
                "{place}: the table was recreated at this moment. Run the query again."
            )));
        }
        Ok(now)
    }
}

/// The table, open.
struct Table {
    options: SparkOptions,
    rows: Rows,
    looked: Looked,
    staging: Arc<SparkStaging>,
    notes: Vec<String>,
}

impl Table {
    fn place(&self) -> String {
        self.options.table.describe()
    }

    /// Checks that Spark can read staged files. Called before the first epoch is sealed, because sealed rows must be committed.
    async fn reach(&mut self) -> Result<()> {
        if !self.looked.apps.is_empty() {
            return Ok(());
        }
        let (files, columns) = self.staging.probe().await?;
        let urls: Vec<String> = files.iter().map(|f| self.url(f)).collect::<Result<_>>()?;
        let asked = ask(&self.options.table, "reach", json!({ "files": urls, "columns": columns })).await;
        self.options.staged.delete_all(files.iter().filter_map(|f| path_of(f).ok())).await?;
        asked.map(drop)
    }

    /// Where Spark finds a staged file.
    fn url(&self, file: &WaitingFile) -> Result<String> {
        let staged = &self.options.staged;
        let path = path_of(file)?;
        // Spark takes names as they are, and a URL would have its letters escaped.
        Ok(match staged.is_local() {
            true => format!("file://{}/{path}", staged.address().trim_end_matches('/')),
            false => format!("{}/{path}", staged.unescaped()),
        })
    }

    fn request(&self, commit: &Commit, mode: OutputMode) -> Result<Value> {
        let known = commit.known.as_ref();
        Ok(json!({
            "app": commit.app,
            "epoch": commit.epoch,
            "seal": commit.nonce,
            "mode": mode.name(),
            "files": commit.staged.files.iter().map(|f| self.url(f)).collect::<Result<Vec<_>>>()?,
            "columns": ddl(&self.staging.staged_columns(mode)),
            "names": self.staging.written.fields().iter().map(|f| f.name()).collect::<Vec<_>>(),
            "keys": commit.staged.keys.iter().map(|k| self.staging.name_of(k)).collect::<Result<Vec<_>>>()?,
            "id": known.map(|k| k.id.as_str()).or(Some(self.looked.id.as_str())),
            // If true, `look` has seen the table's id a moment ago.
            "looked": commit.looked,
            // A commit of the epoch is after this version. If no version is known, the commit can be at any version.
            "since": known.map_or(-1, |k| k.version as i64),
            "accept_changes": commit.accept_changes || known.is_none(),
        }))
    }
}

#[async_trait]
impl Writer for Table {
    fn staging(&self) -> Result<Arc<dyn Staging>> {
        Ok(self.staging.clone())
    }

    async fn commit(&mut self, commit: Commit) -> Result<Option<u64>> {
        let mode = commit.mode.strip_prefix("spark ").and_then(OutputMode::parse).ok_or_else(|| {
            Error::config(format!(
                "{}: epoch {} was sealed while bayou wrote the table by itself, and its rows wait in the table's folder. Run the query once more as \
                 it was then, without spark=.",
                self.place(),
                commit.epoch
            ))
        })?;
        let request = self.request(&commit, mode)?;
        let name = &commit.name;
        crash::pass(&format!("spark:{name}"), "before");
        let answer = ask::in_turn(&self.options.table, "commit", request).await?;
        crash::pass(&format!("spark:{name}"), "after");
        let version = answer["version"].as_u64().ok_or_else(|| Error::internal("a commit without a version"))?;
        self.looked.version = self.looked.version.max(version);
        self.looked.apps.insert(commit.app, commit.epoch);
        // The history says that the rows are in the table. Files that stay here only use space.
        let files: Vec<String> = commit.staged.files.iter().filter_map(|f| path_of(f).ok()).collect();
        if let Err(e) = self.options.staged.delete_all(files).await {
            log::warn!(
                "{}: the files of epoch {} are committed and were not removed: {}",
                self.place(),
                commit.epoch,
                e.message
            );
        }
        Ok(Some(version))
    }

    fn version(&self) -> Result<Option<(String, u64)>> {
        Ok(Some((self.looked.id.clone(), self.looked.version)))
    }

    fn describe(&self) -> String {
        self.place()
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    async fn newest_epoch(&self, app: &str) -> Result<Option<i64>> {
        Ok(self.looked.apps.get(app).copied())
    }

    async fn check_since(&self, version: u64, _epoch: Option<i64>, app: &str, accept: bool) -> Result<()> {
        if self.looked.version < version {
            return Err(Error::data_loss(format!(
                "{}: the table is at version {}, and epochs of this query went up to version {version}. The table was recreated, or an older copy \
                 replaced it. Use a different table, or start over with full_refresh=True.",
                self.place(),
                self.looked.version
            )));
        }
        let mode = self.rows.mode.name();
        let request = json!({ "since": version, "app": app, "mode": mode, "accept_changes": accept });
        ask(&self.options.table, "changes", request).await.map(drop)
    }

    async fn has_rows(&self) -> Result<bool> {
        Ok(ask(&self.options.table, "rows", json!({})).await?["any"] == true)
    }

    async fn empty(&mut self, app: &str, epoch: i64) -> Result<()> {
        let request = json!({
            "app": app,
            "epoch": epoch,
            "seal": "",
            "mode": "complete",
            "files": [],
            "columns": ddl(&self.staging.written),
            "id": self.looked.id,
            "looked": false,
            "since": -1,
            "accept_changes": true,
        });
        ask::in_turn(&self.options.table, "commit", request).await?;
        self.again().await.map(drop)
    }

    async fn look(
        &mut self,
        files: &[WaitingFile],
        _whole: Option<&StagedRows>,
        admitted: Option<&str>,
    ) -> Result<Option<(Arc<dyn Staging>, usize)>> {
        match self.again().await {
            Ok(()) => {}
            // The commit tries again.
            Err(e) if matches!(e.kind, Kind::Storage | Kind::Connection) => return Ok(None),
            Err(e) => return Err(e),
        }
        let mut refused = 0;
        if self.staging.fingerprint().as_deref() != admitted {
            refused = self.staging.refused(files).await?;
        }
        Ok(Some((self.staging.clone(), refused)))
    }
}

impl Table {
    /// Looks at the table once more. Other writers may have changed its requirements for rows.
    async fn again(&mut self) -> Result<()> {
        let place = self.place();
        let Some(now) = look::look(&self.options.table, false).await? else {
            return Err(Error::data_loss(format!(
                "{place}: the table is gone. On Databricks, UNDROP TABLE {} brings it back within 7 days.",
                self.options.table.sql
            )));
        };
        if now.id != self.looked.id {
            return Err(Error::data_loss(format!(
                "{place}: the table was recreated by a different program (its id was {}, and is {}). Write to a different table. Or, to empty this \
                 table and read everything again, run with full_refresh=True, accept_changes=True.",
                self.looked.id, now.id
            )));
        }
        let (version, apps) = (self.looked.version.max(now.version), std::mem::take(&mut self.looked.apps));
        self.looked = Looked { version, apps, others: self.looked.others, ..now };
        if self.staging.is_of(&self.looked) {
            return Ok(());
        }
        self.staging = Arc::new(SparkStaging::new(&self.looked, &self.rows, &self.options)?);
        Ok(())
    }
}
