//! A Delta table as a sink.

use super::commit::{Commit as TableCommit, add_of};
use super::maintain::Upkeep;
use super::merge::{Merge, present};
use super::writers::writers;
use super::{DeltaOptions, Table, TableSpec, delta_error, exists, open};
use crate::sink::{Commit, Maintain, OutputMode, Rows, Sink, StagedRows, Staging, WaitingFile, Writer, Writers};
use crate::storage::{Location, Registered};
use crate::{Error, Kind, Result};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;

impl DeltaOptions {
    pub(in crate::sink) fn spec(&self, rows: Rows) -> TableSpec {
        TableSpec {
            location: self.location.clone(),
            schema: rows.schema,
            declared: rows.declared,
            partition_by: self.partition_by.clone(),
            mode: rows.mode,
            keys: rows.keys,
            name: self.table_name.clone(),
            comment: self.comment.clone(),
            merge_schema: self.merge_schema,
            clock: rows.clock,
        }
    }
}

#[async_trait]
impl Sink for TableSpec {
    fn check(&self) -> Result<()> {
        self.check_columns()
    }

    async fn open(&self) -> Result<Box<dyn Writer>> {
        Ok(Box::new(Table::ensure(self.clone()).await?.0))
    }

    async fn exists(&self) -> Result<bool> {
        exists(&self.location).await
    }

    async fn newest_epoch(&self, app: &str) -> Result<Option<i64>> {
        let Some(table) = open(&self.location).await? else { return Ok(None) };
        let state = table.snapshot().map_err(delta_error)?;
        state.transaction_version(table.log_store().as_ref(), app).await.map_err(delta_error)
    }

    async fn writers(&self) -> Result<Writers> {
        writers(&self.location).await
    }

    fn upkeep(&self) -> Option<Box<dyn Maintain>> {
        let names = || self.keys.iter().map(|k| self.schema.field(*k).name().clone()).collect();
        let keys = (self.mode == OutputMode::Update).then(names);
        Some(Box::new(Upkeep::new(self.location.clone(), self.clock.clone(), self.mode != OutputMode::Complete, keys)))
    }
}

#[async_trait]
impl Writer for Table {
    fn staging(&self) -> Result<Arc<dyn Staging>> {
        Ok(Arc::new(self.delta_staging()?))
    }

    fn version(&self) -> Result<Option<(String, u64)>> {
        Ok(Some((self.id()?, Table::version(self))))
    }

    fn describe(&self) -> String {
        self.spec.location.display()
    }

    fn registered(&self) -> Option<Registered> {
        self.spec.location.entry().and_then(|entry| entry.registered())
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn metrics(&self) -> BTreeMap<&'static str, u64> {
        self.metrics.clone()
    }

    async fn newest_epoch(&self, app: &str) -> Result<Option<i64>> {
        self.transaction(app).await
    }

    async fn check_since(&self, version: u64, epoch: Option<i64>, app: &str, accept: bool) -> Result<()> {
        self.check_others(version, epoch, app, accept).await
    }

    async fn has_rows(&self) -> Result<bool> {
        self.any_rows().await
    }

    async fn empty(&mut self, app: &str, epoch: i64) -> Result<()> {
        let emptied = TableSpec { mode: OutputMode::Complete, ..self.spec.clone() };
        let mut table = Table::ensure(emptied).await?.0;
        let commit = TableCommit {
            app: app.into(),
            epoch,
            mode: OutputMode::Complete,
            adds: vec![],
            merge: None,
            table_id: table.id()?,
            known_version: Table::version(&table),
            committed_after: 0,
            known_txn: None,
            accept_changes: true,
            nonce: String::new(),
            admitted: None,
            looked: false,
            fresh: false,
        };
        table.commit_once(&commit).await?;
        self.refresh().await
    }

    async fn look(
        &mut self,
        files: &[WaitingFile],
        whole: Option<&StagedRows>,
        admitted: Option<&str>,
    ) -> Result<Option<(Arc<dyn Staging>, usize)>> {
        let changed = match self.catch_up().await {
            Ok(changed) => changed,
            // The commit tries more often.
            Err(e) if matches!(e.kind, Kind::Storage | Kind::Connection) => return Ok(None),
            Err(e) => return Err(e),
        };
        let staging = self.staging()?;
        let mut refused = 0;
        if changed || staging.fingerprint().as_deref() != admitted {
            for file in files {
                self.judge_file(file, |_, r| {
                    refused += r.len();
                    Ok(())
                })
                .await?;
            }
            for batch in whole.iter().flat_map(|w| &w.batches) {
                refused += staging.judge(&present(batch)?)?.len();
            }
        }
        Ok(Some((staging, refused)))
    }

    async fn commit(&mut self, commit: Commit) -> Result<Option<u64>> {
        let mode = OutputMode::parse(&commit.mode).ok_or_else(|| {
            Error::storage(format!("the seal of epoch {} is damaged: the mode '{}'", commit.epoch, commit.mode))
        })?;
        let (id, version) = (self.id()?, Table::version(self));
        let known = commit.known.as_ref();
        let merge = commit.staged.whole.map(|w| Merge { keys: commit.staged.keys.clone(), rows: w.batches });
        let commit = TableCommit {
            app: commit.app,
            epoch: commit.epoch,
            mode,
            adds: commit.staged.files.iter().map(add_of).collect::<Result<_>>()?,
            merge,
            table_id: known.map_or(id, |k| k.id.clone()),
            known_version: known.map_or(version, |k| k.version),
            committed_after: known.map_or(0, |k| k.version),
            known_txn: known.and_then(|k| k.epoch),
            accept_changes: commit.accept_changes,
            nonce: commit.nonce,
            admitted: commit.admitted,
            looked: commit.looked,
            fresh: commit.fresh,
        };
        Ok(Some(self.commit_once(&commit).await?.version))
    }
}

/// A table that is only read: its version and columns; `None` where there is none.
pub(crate) async fn look_up(location: &Location) -> Result<Option<(Option<u64>, SchemaRef)>> {
    let Some(table) = open(location).await? else { return Ok(None) };
    let schema = table.snapshot().map_err(delta_error)?.snapshot().arrow_schema();
    Ok(Some((table.version(), schema)))
}
