//! The end of a table's log. A commit needs the version, our own transaction, and the table's requirements for rows.
//! These are remembered from what was read and written, and only newer commits are read, each by its name. So the cost
//! of a commit does not depend on the length of the log.

use super::check::Entry;
use super::listed::Listed;
use super::{Table, within};
use crate::storage::{Location, Put};
use crate::time::SharedClock;
use crate::{Error, Result};
use deltalake::kernel::Action;
use deltalake::protocol::DeltaOperation;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};

/// This many entries are kept, to find out what others did since.
const KEPT: usize = 64;

#[derive(Default)]
pub(super) struct Tail {
    /// The newest version that was read, or written by us.
    pub version: u64,
    /// Distinguishes the commit of that version from a different one with the same number. None: not checked yet.
    mark: Option<[u8; 32]>,
    /// By application id, in that version. None: the table does not have one.
    txns: HashMap<String, Option<i64>>,
    entries: BTreeMap<u64, Entry>,
    /// The files of that version. None: not loaded. An append needs no list of files, and never loads one.
    files: Option<Listed>,
}

pub(super) fn commit_name(version: u64) -> String {
    format!("_delta_log/{version:020}.json")
}

fn digest(commit: &[u8]) -> [u8; 32] {
    Sha256::digest(commit).into()
}

impl Tail {
    pub(super) fn new(version: u64) -> Self {
        Self { version, ..Self::default() }
    }

    fn take(&mut self, entry: Entry, mark: [u8; 32]) {
        self.version += 1;
        self.mark = Some(mark);
        for (app, txn) in &entry.txns {
            self.txns.insert(app.clone(), Some(*txn));
        }
        self.entries.insert(self.version, entry);
        while self.entries.len() > KEPT {
            self.entries.pop_first();
        }
    }
}

impl Table {
    /// Advances to the newest version by reading only the commits since. Everything is read again after a change of the
    /// table itself, and if the newest known commit is gone or different.
    pub(crate) async fn advance(&mut self) -> Result<()> {
        let location = self.spec.location.clone();
        let (known, newer) = (commit_name(self.tail.version), commit_name(self.tail.version + 1));
        // Also if the table has no new versions: it can have been deleted, or recreated with as many versions as
        // before.
        let (there, next) = (location.get(&known), location.get(&newer));
        let (there, mut next) = match futures::future::try_join(there, next).await {
            Ok(found) => found,
            Err(_) => return self.refresh().await,
        };
        let Some(mark) = there.map(|commit| digest(&commit)) else { return self.refresh().await };
        if *self.tail.mark.get_or_insert(mark) != mark {
            return self.refresh().await;
        }
        while let Some(bytes) = next {
            let entry = Entry::parse(&bytes);
            // For an empty or truncated commit, the code that reads the whole log decides.
            if entry.is_new_table || entry.is_damaged {
                return self.refresh().await;
            }
            // A list that cannot follow the commit is loaded again, by the code that reads the whole log.
            if self.tail.files.as_mut().is_some_and(|files| files.take_commit(&bytes).is_err()) {
                self.tail.files = None;
            }
            self.tail.take(entry, digest(&bytes));
            next = location.get(&commit_name(self.tail.version + 1)).await?;
        }
        Ok(())
    }

    /// The newest epoch that `app` has committed to this table, in the version of the last check.
    pub(crate) async fn transaction(&self, app: &str) -> Result<Option<i64>> {
        if let Some(known) = self.tail.txns.get(app) {
            return Ok(*known);
        }
        let log = self.table.log_store();
        let reading = self.snapshot()?.transaction_version(log.as_ref(), app);
        within(&self.spec.location, "reading the table's txn", reading).await
    }

    /// Like `transaction`, and remembered for the next time.
    pub(super) async fn know_transaction(&mut self, app: &str) -> Result<Option<i64>> {
        let found = self.transaction(app).await?;
        self.tail.txns.insert(app.to_string(), found);
        Ok(found)
    }

    /// What the commit of a version did. None if its entry is not in the log any more.
    pub(super) async fn entry(&self, version: u64) -> Result<Option<Entry>> {
        if let Some(entry) = self.tail.entries.get(&version) {
            return Ok(Some(entry.clone()));
        }
        let bytes = self.spec.location.get(&commit_name(version)).await?;
        Ok(bytes.map(|bytes| Entry::parse(&bytes)))
    }

    /// The files in the version of the last check, for operations that remove files. They are loaded once, and then kept
    /// from what was read and written.
    pub(super) async fn files(&mut self) -> Result<&Listed> {
        if self.tail.files.is_none() {
            if self.table.version() != Some(self.tail.version) {
                let version = self.tail.version;
                self.refresh().await?;
                if self.tail.version != version {
                    let place = self.spec.location.display();
                    return Err(Error::storage(format!("{place}: other writers are committing at the moment")));
                }
            }
            self.tail.files = Some(Listed::load(self).await?);
        }
        self.tail.files.as_ref().ok_or_else(|| Error::internal("the table's files are not loaded"))
    }

    /// Writes the commit after the version of the last check, unless a different writer has written that version.
    pub(super) async fn put_commit(&mut self, commit: &Writing<'_>) -> Result<u64> {
        let version = self.tail.version + 1;
        let written = put_version(&self.spec.location, &self.spec.clock, version, commit).await?;
        let mut entry = Entry::default();
        if let Some(files) = &mut self.tail.files {
            files.take(commit.actions.iter().cloned());
        }
        for action in commit.actions {
            if let Action::Txn(txn) = action {
                entry.txns.push((txn.app_id.clone(), txn.version));
                entry.apps.push(txn.app_id.clone());
            }
        }
        self.tail.take(entry, written);
        Ok(version)
    }
}

/// A commit, without the number of its version.
pub(super) struct Writing<'a> {
    pub actions: &'a [Action],
    pub operation: &'a DeltaOperation,
    pub blind: bool,
    /// The nonce of the seal. Empty: the commit is not from a seal.
    pub nonce: &'a str,
    pub metrics: &'a BTreeMap<&'static str, u64>,
}

/// Writes a version of a table, unless a different writer has written it. Returns the digest of the commit.
pub(super) async fn put_version(
    location: &Location,
    clock: &SharedClock,
    version: u64,
    commit: &Writing<'_>,
) -> Result<[u8; 32]> {
    let parameters = commit.operation.operation_parameters().unwrap_or_default();
    // A compaction does not change rows, so it may have read an older version.
    let isolation = match commit.operation {
        DeltaOperation::Optimize { .. } => "SnapshotIsolation",
        _ => "Serializable",
    };
    let mut info = json!({
        "timestamp": clock.now().0 / 1000,
        "operation": commit.operation.name(),
        "operationParameters": parameters,
        "readVersion": version - 1,
        "isolationLevel": isolation,
        "isBlindAppend": commit.blind,
        "engineInfo": concat!("bayou/", env!("CARGO_PKG_VERSION")),
        // Other writers also write these numbers as texts.
        "operationMetrics": commit.metrics.iter().map(|(k, v)| (*k, v.to_string())).collect::<BTreeMap<_, _>>(),
    });
    // A put that failed can have been written all the same. The nonce identifies ours.
    let mark = uuid::Uuid::new_v4().to_string();
    info["txnId"] = mark.clone().into();
    if !commit.nonce.is_empty() {
        info[super::commit::NONCE] = commit.nonce.into();
    }
    let mut lines = json!({ "commitInfo": info }).to_string();
    for action in commit.actions {
        lines.push('\n');
        lines.push_str(&serde_json::to_string(action).map_err(|e| Error::internal(e.to_string()))?);
    }
    let name = commit_name(version);
    let written = digest(lines.as_bytes());
    let put = location.put_new(&name, lines.into_bytes()).await;
    match put {
        Ok(Put::Created) => {}
        Ok(Put::Exists) | Err(_) => {
            let found = location.get(&name).await;
            let ours = matches!(&found, Ok(Some(bytes)) if is_ours(bytes, &mark));
            match put {
                _ if ours => {}
                Err(e) if !matches!(found, Ok(Some(_))) => return Err(e),
                _ => {
                    return Err(Error::storage(format!("a different writer has just committed version {version}")));
                }
            }
        }
    }
    Ok(written)
}

fn is_ours(commit: &[u8], mark: &str) -> bool {
    let first = serde_json::Deserializer::from_slice(commit).into_iter::<Value>().next();
    first.and_then(Result::ok).is_some_and(|v| v["commitInfo"]["txnId"] == mark)
}
