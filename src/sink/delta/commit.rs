//! The commit: compare-and-set on a loaded snapshot, with the epoch as `txn`, repeated until the outcome is known.

use super::listed::remove;
use super::merge::{conform, present};
use super::tail::Writing;
use super::{Merge, Table};
use crate::sink::{OutputMode, Refused, WaitingFile};
use crate::storage::is_full;
use crate::{Error, Kind, Result};
use arrow::array::RecordBatch;
use deltalake::kernel::{Action, Add, Transaction};
use deltalake::protocol::{DeltaOperation, SaveMode};
use futures::StreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The content of a commit: exactly what the seal says.
#[derive(Clone)]
pub(super) struct Commit {
    /// `bayou/<query name>/<table>`
    pub app: String,
    pub epoch: i64,
    pub mode: OutputMode,
    pub adds: Vec<Add>,
    /// The rows that mode update merges.
    pub merge: Option<Merge>,
    /// The id, the version and our newest epoch of the table when we last knew them.
    pub table_id: String,
    pub known_version: u64,
    /// A commit of this epoch can only be after this version. 0 if the version is not known.
    pub committed_after: u64,
    pub known_txn: Option<i64>,
    pub accept_changes: bool,
    /// The nonce of the seal. It distinguishes the commit from that of a different query with the same name.
    pub nonce: String,
    /// The state of the table's requirements (`Admission`) against which the rows were checked. None if it is not
    /// known.
    pub admitted: Option<String>,
    /// The table was loaded a moment ago.
    pub looked: bool,
    /// The files were staged a moment ago.
    pub fresh: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Committed {
    pub version: u64,
}

/// Delta's action for a file that a seal names.
pub(super) fn add_of(file: &WaitingFile) -> Result<Add> {
    Add::deserialize(file).map_err(|e| Error::storage(format!("a file in a seal is damaged: {e}")))
}

/// The part of a file's entry that a seal keeps.
pub(super) fn waiting(add: &Add) -> Result<WaitingFile> {
    serde_json::to_value(add).map_err(|e| Error::internal(e.to_string()))
}

const ATTEMPTS: u32 = 20;
/// The key in `commitInfo` of the nonce of the seal.
pub(super) const NONCE: &str = "bayouSeal";
/// At most this many files are looked up at the same time.
const LOOKS: usize = 32;

/// The metrics of a commit without keys, with the names of Delta's WRITE.
fn of_write(actions: &[Action]) -> BTreeMap<&'static str, u64> {
    let mut out = BTreeMap::from([("numFiles", 0), ("numOutputBytes", 0)]);
    let mut count = |files, bytes, size: i64| {
        *out.entry(files).or_default() += 1;
        *out.entry(bytes).or_default() += size.max(0) as u64;
    };
    for action in actions {
        match action {
            Action::Add(add) => count("numFiles", "numOutputBytes", add.size),
            Action::Remove(remove) => count("numRemovedFiles", "numRemovedBytes", remove.size.unwrap_or_default()),
            _ => {}
        }
    }
    out
}

impl Table {
    /// Commits exactly once. An error from a commit never decides anything. The table is loaded again, and its `txn` is
    /// read from the snapshot on which the next attempt is based.
    pub(super) async fn commit_once(&mut self, commit: &Commit) -> Result<Committed> {
        let place = self.spec.location.display();
        let mut checked = commit.known_version;
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            if attempt == 0 && commit.looked {
                // If a different writer commits in between, this attempt fails.
            } else if attempt == 0 {
                self.advance().await?;
            } else {
                // Jitter, so that two writers do not collide again.
                let wait = (10u64 << attempt.min(6)) + u64::from(rand::random::<u8>());
                tokio::time::sleep(Duration::from_millis(wait)).await;
                // The newer commits show who won. From time to time everything is read, because anything can have gone
                // wrong.
                if attempt % 4 == 0 { self.refresh().await? } else { self.advance().await? }
            }
            if self.id()? != commit.table_id {
                return Err(Error::data_loss(format!(
                    "{place}: the table was recreated by a different program (its id changed). Write to a different table. Or, to empty this table \
                     and read everything again, run with full_refresh=True, accept_changes=True."
                )));
            }
            self.check_others(checked, commit.known_txn, &commit.app, commit.accept_changes).await?;
            checked = self.version().max(checked);
            let done = self.know_transaction(&commit.app).await?;
            if done.is_some_and(|n| n >= commit.epoch) {
                self.refuse_namesake(commit, done).await?;
                return Ok(Committed { version: self.version() });
            }
            self.learn()?;
            if commit.admitted.as_deref() != Some(self.admission.fingerprint.as_str()) {
                self.verify_rows(commit).await?;
            }
            // In a store, each check of a file is a request. On disk it costs almost nothing.
            if attempt > 0 || !commit.fresh || self.spec.location.is_local() {
                self.verify(commit).await?;
            }
            match self.try_commit(commit).await {
                Ok(version) => return Ok(Committed { version }),
                // A full disk stays full for longer than all attempts. An error that is not from the store is the same
                // each time.
                Err(e) if is_full(&e.message) || !matches!(e.kind, Kind::Storage | Kind::Connection) => {
                    last = Some(e);
                    break;
                }
                Err(e) => last = Some(e),
            }
        }
        // The outcome of the last attempt is not known yet either.
        self.refresh().await?;
        let done = self.transaction(&commit.app).await?;
        if done.is_some_and(|n| n >= commit.epoch) {
            self.refuse_namesake(commit, done).await?;
            return Ok(Committed { version: self.version() });
        }
        let why = last.unwrap_or_else(|| Error::storage("no attempt was made"));
        let way = match why.kind {
            Kind::Storage | Kind::Connection | Kind::Auth | Kind::Acl => "Run the query again to commit it".to_string(),
            _ => "repair() lists the rows that the table refuses, and repair(confirm=True) commits the others".into(),
        };
        let text = format!(
            "{place}: epoch {} could not be committed: {}. Nothing is lost, because the epoch is sealed. {way}.",
            commit.epoch, why.message
        );
        Err(Error { place: why.place, ..Error::new(why.kind, text) })
    }

    /// If the table has taken this epoch already, it was for this seal, and not for a different query with the same
    /// name and a different checkpoint.
    async fn refuse_namesake(&self, commit: &Commit, done: Option<i64>) -> Result<()> {
        let mut foreign = !commit.nonce.is_empty();
        for version in (commit.committed_after + 1..=self.version()).rev() {
            // A commit that was cleaned away is old, and belongs to this query.
            let entry = if foreign { self.entry(version).await? } else { break };
            let Some(found) = entry else {
                foreign = false;
                break;
            };
            if found.txns.iter().any(|(app, epoch)| *app == commit.app && *epoch == commit.epoch) {
                // Commits of older versions of bayou do not name their seal.
                foreign = found.nonce.is_some_and(|n| n != commit.nonce);
                break;
            }
        }
        if !foreign {
            return Ok(());
        }
        Err(Error::concurrent_query(format!(
            "{}: a different query writes this table under the same name (transaction {} is at epoch {}), with a \
             different checkpoint. Nothing of epoch {} was written to the table, and nothing is lost. Give one of \
             the queries a different name (query_name=, or the name of the pipeline), and run it again.",
            self.spec.location.display(),
            commit.app,
            done.unwrap_or_default(),
            commit.epoch
        )))
    }

    /// Checks rows again that were sealed under earlier requirements of the table.
    async fn verify_rows(&self, commit: &Commit) -> Result<()> {
        let (mut count, mut first) = (0, None);
        let mut note = |refused: &[Refused]| {
            count += refused.len();
            if first.is_none() {
                first = refused.first().map(|r| r.error.clone());
            }
        };
        for add in &commit.adds {
            self.judge_add(add, |_, refused| {
                note(refused);
                Ok(())
            })
            .await?;
        }
        if let Some(merge) = &commit.merge {
            for staged in &merge.rows {
                note(&self.admission.judge(&present(staged)?)?);
            }
        }
        let Some(why) = first else { return Ok(()) };
        Err(Error::schema(format!(
            "{}: the table has changed since epoch {} was sealed, and does not accept {count} of its rows ({why}). \
             Nothing is lost. repair() lists these rows, and repair(confirm=True) moves them to quarantine and \
             commits the others. Or undo the change of the table and run the query again.",
            self.spec.location.display(),
            commit.epoch
        )))
    }

    /// The rows of a staged file in the written columns, batch by batch, with the rows that the table refuses.
    pub(super) async fn judge_add(
        &self,
        add: &Add,
        mut each: impl FnMut(&RecordBatch, &[Refused]) -> Result<()>,
    ) -> Result<()> {
        let failed = |e: &dyn std::fmt::Display| {
            Error::storage(format!("{}: reading {}: {e}", self.spec.location.display(), add.path))
        };
        let store = self.table.log_store().object_store(None);
        let path = Path::parse(&add.path).map_err(|e| failed(&e))?;
        let reading = async { store.get(&path).await?.bytes().await };
        let bytes = tokio::time::timeout(self.spec.location.timeout(), reading).await;
        let bytes = bytes.map_err(|_| failed(&"it took too long"))?.map_err(|e| failed(&e))?;
        for batch in super::files::read(bytes).map_err(|e| failed(&e))? {
            let batch = conform(&batch.map_err(|e| failed(&e))?, &self.written, &add.partition_values)?;
            each(&batch, &self.admission.judge(&batch)?)?;
        }
        Ok(())
    }

    /// As `judge_add`, for a file in the form that a seal keeps.
    pub(crate) async fn judge_file(
        &self,
        file: &WaitingFile,
        each: impl FnMut(&RecordBatch, &[Refused]) -> Result<()>,
    ) -> Result<()> {
        self.judge_add(&add_of(file)?, each).await
    }

    /// Advances to the newest version. Returns true if the requirements of the table have changed.
    pub(super) async fn catch_up(&mut self) -> Result<bool> {
        self.advance().await?;
        self.learn()
    }

    async fn try_commit(&mut self, commit: &Commit) -> Result<u64> {
        // `Transaction::new` does not set lastUpdated: with it, retention could expire the transaction.
        let mut actions = vec![Action::Txn(Transaction::new(&commit.app, commit.epoch))];
        if commit.mode == OutputMode::Complete {
            let now = self.spec.clock.now().0 / 1000;
            actions.extend(self.files().await?.iter().map(|f| Action::Remove(remove(f, now))));
        }
        actions.extend(commit.adds.iter().cloned().map(Action::Add));
        let mut metrics = None;
        let operation = match (&commit.merge, commit.mode) {
            (Some(merge), _) => {
                let (made, rewritten) = self.merge_actions(merge).await?;
                actions.extend(made);
                metrics = Some(rewritten.metrics());
                merge.operation()
            }
            (None, mode) => {
                let mode = if mode == OutputMode::Append { SaveMode::Append } else { SaveMode::Overwrite };
                let partition_by = (!self.spec.partition_by.is_empty()).then(|| self.spec.partition_by.clone());
                DeltaOperation::Write { mode, partition_by, predicate: None }
            }
        };
        let blind = commit.mode == OutputMode::Append;
        let metrics = metrics.unwrap_or_else(|| of_write(&actions));
        let writing =
            Writing { actions: &actions, operation: &operation, blind, nonce: &commit.nonce, metrics: &metrics };
        let committing = self.put_commit(&writing);
        let most = Duration::from_secs(3600);
        let committed = tokio::time::timeout(most, committing).await;
        let version = committed.unwrap_or_else(|_| Err(Error::storage("the commit took too long")))?;
        self.metrics = metrics;
        Ok(version)
    }

    /// Checks that the staged files still exist. Between the seal and now, there can have been a VACUUM with a short
    /// retention, or a long pause.
    async fn verify(&self, commit: &Commit) -> Result<()> {
        let store = self.table.log_store().object_store(None);
        let gone = |add: &Add| {
            let path = Path::parse(&add.path).unwrap_or_else(|_| Path::from(add.path.as_str()));
            let (store, shown) = (store.clone(), add.path.clone());
            async move { matches!(store.head(&path).await, Err(object_store::Error::NotFound { .. })).then_some(shown) }
        };
        let looks: Vec<_> = commit.adds.iter().map(gone).collect();
        let mut looked = futures::stream::iter(looks).buffer_unordered(LOOKS);
        while let Some(found) = looked.next().await {
            let Some(file) = found else { continue };
            return Err(Error::storage(format!(
                "{}: the staged data file {file} is gone (VACUUM with a short retention?), so epoch {} cannot be committed. \
                 If the messages are still in Kafka, full_refresh=True reads them again.",
                self.spec.location.display(),
                commit.epoch
            )));
        }
        Ok(())
    }
}
