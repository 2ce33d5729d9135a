//! The commit: compare-and-set on a loaded snapshot, with the epoch as `txn`, until it is known what became of it.

use super::{Merge, OutputMode, Table, delta_error, quiet, within};
use crate::storage::hint;
use crate::{Error, Result};
use deltalake::kernel::transaction::CommitBuilder;
use deltalake::kernel::{Action, Add, Transaction};
use deltalake::protocol::{DeltaOperation, SaveMode};
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::time::Duration;

/// What is to be committed: exactly what the seal says.
#[derive(Clone)]
pub struct Commit {
    /// `bayou/<query name>/<table>`
    pub app: String,
    pub epoch: i64,
    pub mode: OutputMode,
    pub adds: Vec<Add>,
    /// What mode update merges.
    pub merge: Option<Merge>,
    /// The table's id, version and newest epoch of ours when we last knew it.
    pub table_id: String,
    pub known_version: u64,
    pub known_txn: Option<i64>,
    pub accept_changes: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub version: u64,
    /// It had been committed before, by us or by another runner of the same sealed epoch.
    pub already: bool,
}

const ATTEMPTS: u32 = 20;
/// So many files are looked for at once.
const LOOKS: usize = 32;

impl Table {
    /// Commits once and only once. An error from a commit never settles anything: the table is loaded again and its `txn`
    /// read from the snapshot that the next attempt is based on.
    pub async fn commit(&mut self, commit: &Commit) -> Result<Committed> {
        let place = self.spec.location.display();
        let mut checked = commit.known_version;
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            if attempt == 0 {
                self.advance().await?;
            } else {
                // Jitter, so that two writers do not meet again.
                let wait = (10u64 << attempt.min(6)) + u64::from(rand::random::<u8>());
                tokio::time::sleep(Duration::from_millis(wait)).await;
                self.refresh().await?;
            }
            if self.id()? != commit.table_id {
                return Err(Error::data_loss(format!(
                    "{place}: the table was recreated by somebody else (its id changed). Start over with reset(confirm=True), or write to another table."
                )));
            }
            self.check_since(checked, commit.known_txn, &commit.app, commit.accept_changes).await?;
            checked = self.version().max(checked);
            let done = self.transaction(&commit.app).await?;
            if done.is_some_and(|n| n >= commit.epoch) {
                return Ok(Committed { version: self.version(), already: true });
            }
            self.verify(commit).await?;
            match self.try_commit(commit).await {
                Ok(version) => {
                    // Load what was committed, so that the next epoch starts from it; an error here changes nothing.
                    let _ = self.advance().await;
                    return Ok(Committed { version, already: false });
                }
                // A full disk stays full for longer than all attempts take.
                Err(e) if !hint(&e.message).is_empty() => {
                    last = Some(e);
                    break;
                }
                Err(e) => last = Some(e),
            }
        }
        // The last attempt's outcome is not known yet either.
        self.refresh().await?;
        if self.transaction(&commit.app).await?.is_some_and(|n| n >= commit.epoch) {
            return Ok(Committed { version: self.version(), already: true });
        }
        let why = last.unwrap_or_else(|| Error::storage("no attempt was made"));
        // deltalake looks for the commit of the version that it adds to.
        let missing = if why.message.contains("Invalid table version") {
            ", once the commit of that version, which is missing in the table's log, is restored. Without it, move the table away and start \
             over with reset(confirm=True)"
        } else {
            ""
        };
        Err(Error::new(
            why.kind,
            format!(
                "{place}: epoch {} could not be committed: {}. Nothing is lost: the epoch is sealed, and running the query again commits it{}.",
                commit.epoch, why.message, missing
            ),
        ))
    }

    async fn try_commit(&self, commit: &Commit) -> Result<u64> {
        let state = self.snapshot()?;
        let log = self.table.log_store();
        let mut actions: Vec<Action> = Vec::with_capacity(commit.adds.len() + 1);
        if commit.mode == OutputMode::Complete {
            let files = state.snapshot().file_views(log.as_ref(), None);
            let files: Vec<_> = within(&self.spec.location, "listing the table's files", files.try_collect()).await?;
            actions.extend(files.iter().map(|f| Action::Remove(f.remove_action(true))));
        }
        actions.extend(commit.adds.iter().cloned().map(Action::Add));
        let operation = match (&commit.merge, commit.mode) {
            (Some(merge), _) => {
                actions.extend(self.merge_actions(merge).await?);
                merge.operation()
            }
            (None, mode) => {
                let mode = if mode == OutputMode::Append { SaveMode::Append } else { SaveMode::Overwrite };
                let partition_by = (!self.spec.partition_by.is_empty()).then(|| self.spec.partition_by.clone());
                DeltaOperation::Write { mode, partition_by, predicate: None }
            }
        };
        // `Transaction::new` sets no lastUpdated: with one, retention might expire it.
        let properties = quiet().with_application_transaction(Transaction::new(&commit.app, commit.epoch));
        let committing = async {
            let prepared = CommitBuilder::from(properties)
                .with_actions(actions)
                .build(Some(state), log, operation)
                .into_prepared_commit_future()
                .await?;
            // The version is durable here; what is dropped with the result are hooks that we do not want.
            Ok(prepared.await?.version)
        };
        match tokio::time::timeout(self.spec.location.timeout(), committing).await {
            Ok(Ok(version)) => Ok(version),
            Ok(Err(e)) => Err(delta_error(e)),
            Err(_) => Err(Error::storage(format!(
                "the commit took longer than {} seconds",
                self.spec.location.timeout().as_secs()
            ))),
        }
    }

    /// The staged files are still there. Between the seal and now a VACUUM with a short retention may have been, or a long pause.
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
                 If the messages are still in Kafka, reset(confirm=True) reads them again.",
                self.spec.location.display(),
                commit.epoch
            )));
        }
        Ok(())
    }
}
