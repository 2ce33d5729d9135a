//! Commits what a seal records to the targets.

use super::Job;
use super::looked::Looked;
use crate::epoch::{Done, DoneTable, EpochLog, FORMAT_VERSION, QueryFile, Seal, newest_generation};
use crate::flow::QUARANTINE;
use crate::sink::{Commit, Known, Owner, Staged, StagedRows, Staging, Writer};
use crate::storage::Registered;
use crate::time::SharedClock;
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// The description in the header of staged files.
pub(super) const STAGED: &str = "staged rows";

/// The application id of an output's transactions in the Delta log.
pub(super) fn app(query: &str, output: &str) -> String {
    format!("bayou/{query}/{output}")
}

/// A query's targets. They are shared between the epoch that is being computed and the epoch that is being committed.
#[derive(Clone)]
pub(super) struct Committer {
    query: String,
    pub writers: BTreeMap<String, Arc<Mutex<Box<dyn Writer>>>>,
    pub staging: BTreeMap<String, Arc<dyn Staging>>,
    done: BTreeMap<String, DoneTable>,
    accept_changes: bool,
    /// What the commits of the newest finished epoch did, by output.
    pub metrics: BTreeMap<String, BTreeMap<&'static str, u64>>,
    /// True while users' functions are called.
    pub calling: Arc<AtomicBool>,
}

/// The part of a seal that one target commits.
pub(super) struct OutputCommit {
    pub name: String,
    pub mode: String,
    pub staged: Staged,
    /// As in `Commit`.
    pub admitted: Option<String>,
    pub looked: bool,
    /// When the rows were staged. None: in an earlier run.
    pub staged_at: Option<Looked>,
}

/// How long after staging bayou assumes that the staged files still exist.
const FRESH: Duration = Duration::from_secs(60);

pub(super) async fn read_staged(log: &EpochLog, file: &str) -> Result<StagedRows> {
    let bytes = log.read_file(file).await?.ok_or_else(|| {
        Error::storage(format!(
            "{}{file}: the staged rows of a sealed epoch are gone. Restore the file, or start over with full_refresh=True.",
            log.at.display()
        ))
    })?;
    let (schema, batches) = crate::state::read(&bytes, STAGED, &super::within::shown(file))?;
    Ok(StagedRows { schema, batches })
}

/// Lists what must be committed. Staged rows that are not in memory are read back from the checkpoint.
pub(super) async fn seal_to_commits(
    log: &EpochLog,
    seal: &Seal,
    at_hand: &BTreeMap<String, StagedRows>,
) -> Result<Vec<OutputCommit>> {
    let mut out = vec![];
    for (name, sealed) in seal.tables.iter().filter(|(_, t)| t.commit) {
        let whole = match (&sealed.staged, at_hand.get(name)) {
            (None, _) => None,
            (Some(_), Some(rows)) => Some(rows.clone()),
            (Some(file), None) => Some(read_staged(log, file).await?),
        };
        let staged = Staged { rows: sealed.rows, files: sealed.adds.clone(), whole, keys: sealed.keys.clone() };
        let (mode, admitted) = (sealed.mode.clone(), sealed.admitted.clone());
        out.push(OutputCommit { name: name.clone(), mode, staged, admitted, looked: false, staged_at: None });
    }
    Ok(out)
}

/// The query and its generation, as the checkpoint has them.
async fn owner(job: &Job) -> Result<Option<Owner>> {
    let Some(generation) = newest_generation(&job.flow.checkpoint).await? else { return Ok(None) };
    let log = EpochLog::new(job.flow.checkpoint.join(&generation.to_string()));
    let query: Option<QueryFile> = log.read("query.json").await?;
    Ok(query.map(|q| Owner { query: q.query_name, id: q.query_id, generation: q.generation }))
}

fn undefined(epoch: i64, output: &str) -> Error {
    Error::config(format!(
        "epoch {epoch} is sealed and has rows for the table '{output}', which this query no longer defines. Run the query once more with the table, or start over with full_refresh=True.",
    ))
}

/// Refuses a different table with the name of the table that finished epochs were committed to. A table that was registered again at the same
/// location is the same table.
fn check_registered(place: &str, known: Option<&Registered>, now: Option<&Registered>, accept: bool) -> Result<()> {
    let (Some(known), Some(now)) = (known, now) else { return Ok(()) };
    if known.table_id == now.table_id || known.location == now.location || accept {
        return Ok(());
    }
    Err(Error::data_loss(format!(
        "{place}: this is a different table. Epochs of this query were committed to the table {} at {} in the catalog. The name now belongs to the \
         table {} at {}: the table was dropped and created again. Write to a table with a different name. Or, to empty this table and read \
         everything again from the start, run with full_refresh=True, accept_changes=True.",
        known.table_id, known.location, now.table_id, now.location
    )))
}

impl Committer {
    pub(super) async fn open(job: &Job) -> Result<Self> {
        let sinks =
            job.flow.outputs.iter().map(|o| Ok((o.name.clone(), o.sink(&job.clock)?))).collect::<Result<Vec<_>>>()?;
        let opening =
            sinks.iter().map(|(name, sink)| async move { Ok::<_, Error>((name.clone(), sink.open().await?)) });
        let mut writers: BTreeMap<_, _> = futures::future::try_join_all(opening).await?.into_iter().collect();
        // The quarantine table is created when it is first needed.
        let quarantine = job.flow.quarantine_sink(&job.clock);
        if quarantine.exists().await? {
            writers.insert(QUARANTINE.into(), quarantine.open().await?);
        }
        if let Some(owner) = owner(job).await? {
            writers.values_mut().for_each(|w| w.belongs_to(&owner));
        }
        let mut out = Self::of(&job.flow.name, writers)?;
        out.accept_changes = job.flow.accept_changes;
        Ok(out)
    }

    /// A committer of targets that are open already.
    pub(super) fn of(query: &str, writers: BTreeMap<String, Box<dyn Writer>>) -> Result<Self> {
        let staging = writers.iter().map(|(n, w)| Ok((n.clone(), w.staging()?))).collect::<Result<_>>()?;
        Ok(Self {
            query: query.into(),
            writers: writers.into_iter().map(|(n, w)| (n, Arc::new(Mutex::new(w)))).collect(),
            staging,
            done: BTreeMap::new(),
            accept_changes: false,
            metrics: BTreeMap::new(),
            calling: Arc::default(),
        })
    }

    /// The staging of the quarantine table. The table is created now if it does not exist.
    pub(super) async fn quarantine(&mut self, job: &Job) -> Result<Arc<dyn Staging>> {
        if let Some(staging) = self.staging.get(QUARANTINE) {
            return Ok(staging.clone());
        }
        let writer = job.flow.quarantine_sink(&job.clock).open().await?;
        let staging = writer.staging()?;
        // The table has a new id, even if a different program has deleted an older quarantine table.
        self.done.remove(QUARANTINE);
        self.staging.insert(QUARANTINE.into(), staging.clone());
        self.writers.insert(QUARANTINE.into(), Arc::new(Mutex::new(writer)));
        Ok(staging)
    }

    /// Adds targets that the newer copy has opened meanwhile.
    pub(super) fn take_on(&mut self, newer: Self) {
        for (name, writer) in newer.writers {
            if let std::collections::btree_map::Entry::Vacant(e) = self.writers.entry(name) {
                self.done.remove(e.key());
                e.insert(writer);
            }
        }
        for (name, staging) in newer.staging {
            self.staging.entry(name).or_insert(staging);
        }
    }

    /// For each output, the staging, which knows the rows that its target accepts.
    pub(super) fn admissions(&self) -> HashMap<Arc<str>, Arc<dyn Staging>> {
        self.staging.iter().map(|(name, s)| (name.as_str().into(), s.clone())).collect()
    }

    /// Each target's version in the newest finished epoch.
    pub(super) fn versions(&self) -> impl Iterator<Item = (&str, u64)> {
        self.done.iter().map(|(n, t)| (n.as_str(), t.version))
    }

    /// Whether a finished epoch of this query has committed to the table.
    pub(super) fn knows(&self, table: &str) -> bool {
        self.done.get(table).is_some_and(|d| d.txn.is_some())
    }

    pub(super) fn known(&mut self, done: Option<&Done>) {
        if let Some(done) = done {
            self.done = done.tables.clone();
        }
    }

    /// Refuses targets that are newer than this checkpoint, or that were changed or recreated by others.
    pub(super) async fn check(&mut self, job: &Job, newest: i64) -> Result<()> {
        for (name, writer) in &self.writers {
            let writer = writer.lock().await;
            if writer.version()?.is_none() {
                continue;
            }
            let place = writer.describe();
            let app = app(&self.query, name);
            let epoch = writer.newest_epoch(&app).await?;
            let Some((id, version)) = writer.version()? else { continue };
            if epoch.is_some_and(|e| e > newest) {
                return Err(Error::config(format!(
                    "{place}: the target holds epoch {} of '{}', and the checkpoint {} ends at {newest}: this checkpoint is an older copy. Restore the newer checkpoint, or start over with full_refresh=True.",
                    epoch.unwrap_or_default(),
                    job.flow.name,
                    job.flow.checkpoint.display()
                )));
            }
            let Some(done) = self.done.get_mut(name) else { continue };
            check_registered(&place, done.catalog.as_ref(), writer.registered().as_ref(), self.accept_changes)?;
            writer.check_id(&done.id, self.accept_changes)?;
            (done.id, done.catalog) = (id, writer.registered());
            writer.check_since(done.version, done.txn, &app, self.accept_changes).await?;
            // Changes that were seen or accepted are not reported again, even if this target gets no rows.
            (done.version, done.txn) = (version, epoch);
        }
        Ok(())
    }

    /// Empties the targets at the start of a new generation. The transaction of `epoch` makes sure that this happens once.
    pub(super) async fn empty(&mut self, job: &Job, epoch: i64) -> Result<()> {
        for (name, writer) in &self.writers {
            writer.lock().await.empty(&app(&job.flow.name, name), epoch).await?;
        }
        Ok(())
    }

    /// Commits a sealed epoch to every target, then writes `done`.
    pub(super) async fn commit(
        &mut self,
        log: &EpochLog,
        seal: &Seal,
        commits: Vec<OutputCommit>,
        clock: &SharedClock,
    ) -> Result<Done> {
        let (mut first, mut last) = (vec![], vec![]);
        for c in commits {
            let writer = self.writers.get(&c.name).cloned().ok_or_else(|| undefined(seal.epoch, &c.name))?;
            let mut writer = writer.lock_owned().await;
            let known = self.done.get(&c.name);
            let commit = Commit {
                app: app(&self.query, &c.name),
                name: c.name,
                log: log.at.display(),
                epoch: seal.epoch,
                sealed: seal.clock,
                mode: c.mode,
                staged: c.staged,
                nonce: seal.nonce.clone(),
                admitted: c.admitted,
                looked: c.looked,
                fresh: c.staged_at.is_some_and(|at| at.ago(clock) < FRESH),
                known: known.map(|k| Known { id: k.id.clone(), version: k.version, epoch: k.txn }),
                accept_changes: self.accept_changes,
            };
            let is_last = writer.is_last();
            let table = seal.tables.get(&commit.name).map(|t| t.location.clone()).unwrap_or_default();
            let job = async move {
                let (name, epoch, known) = (commit.name.clone(), commit.epoch, commit.known.clone());
                let before = writer.version()?;
                let committed = writer.commit(commit).await.map_err(|e| e.in_table(table))?;
                let Some(version) = committed else { return Ok(None) };
                let id = known.map(|k| k.id).or(before.map(|b| b.0)).unwrap_or_default();
                let catalog = writer.registered();
                let done = DoneTable { id, version, txn: Some(epoch), catalog };
                Ok::<_, Error>(Some((name, done, writer.metrics())))
            };
            if is_last { last.push(job) } else { first.push(job) }
        }
        let mut all = futures::future::try_join_all(first).await?;
        if !last.is_empty() {
            self.calling.store(true, Ordering::Release);
            let called = futures::future::try_join_all(last).await;
            self.calling.store(false, Ordering::Release);
            all.extend(called?);
        }
        let mut committed: BTreeMap<String, DoneTable> = BTreeMap::new();
        self.metrics.clear();
        for (name, done, metrics) in all.into_iter().flatten() {
            committed.insert(name.clone(), done);
            self.metrics.insert(name, metrics);
        }
        let mut tables = self.done.clone();
        for (name, writer) in &self.writers {
            if !tables.contains_key(name)
                && !committed.contains_key(name)
                && let writer = writer.lock().await
                && let Some((id, version)) = writer.version()?
            {
                tables.insert(name.clone(), DoneTable { id, version, txn: None, catalog: writer.registered() });
            }
        }
        tables.extend(committed);
        let done = Done {
            format_version: FORMAT_VERSION,
            epoch: seal.epoch,
            nonce: seal.nonce.clone(),
            clock: clock.now(),
            tables,
            counts: seal.counts.clone(),
        };
        log.done(&done).await?;
        self.done = done.tables.clone();
        Ok(done)
    }

    /// The newest epoch of this query that a table has committed.
    pub(super) async fn newest_txn(&self, name: &str) -> Result<Option<i64>> {
        match self.writers.get(name) {
            Some(writer) => writer.lock().await.newest_epoch(&app(&self.query, name)).await,
            None => Ok(None),
        }
    }

    /// The targets, each with its present version.
    pub(super) fn at_versions(&self) -> Vec<(String, u64)> {
        self.done.iter().map(|(n, t)| (n.clone(), t.version)).collect()
    }
}
