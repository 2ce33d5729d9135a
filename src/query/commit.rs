//! From a seal to committed tables.

use super::run::{ForEach, QuerySpec, TableOptions};
use super::seal::STAGED;
use super::start::{QUARANTINE, ensure, quarantine_spec, table_spec};
use crate::epoch::{Done, DoneTable, EpochLog, FORMAT_VERSION, Seal};
use crate::sink::delta::{Add, Admission, Commit, Merge, OutputMode, Staging, Table, TableSpec};
use crate::storage::crash;
use crate::time::EventTime;
use crate::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use tokio::sync::Mutex;

/// The application id of a table's transactions.
pub fn app(query: &str, table: &str) -> String {
    format!("bayou/{query}/{table}")
}

/// The query's tables, shared between the epoch that is being made and the one that is being committed.
#[derive(Clone)]
pub struct Committer {
    query: String,
    pub tables: BTreeMap<String, Arc<Mutex<Table>>>,
    pub staging: BTreeMap<String, Staging>,
    done: BTreeMap<String, DoneTable>,
    accept_changes: bool,
    /// Set while users' functions are called.
    pub calling: Arc<AtomicBool>,
}

/// What a seal asks of each table.
pub struct TableCommit {
    pub name: String,
    pub epoch: i64,
    pub work: Work,
    /// As in `Commit`.
    pub admitted: Option<String>,
    pub looked: bool,
}

pub enum Work {
    /// As it was sealed, whatever the table is to be in this run.
    Table {
        mode: OutputMode,
        adds: Vec<Add>,
        merge: Option<Merge>,
    },
    Call(Arc<dyn ForEach>, StagedRows),
}

/// Rows that were staged as a file of ours.
#[derive(Clone)]
pub struct StagedRows {
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
}

pub(super) async fn read_staged(log: &EpochLog, file: &str) -> Result<StagedRows> {
    let bytes = log.at.get(file).await?.ok_or_else(|| {
        Error::storage(format!(
            "{}{file}: the staged rows of a sealed epoch are gone. Restore the file; or start over with reset(confirm=True).",
            log.at.display()
        ))
    })?;
    let (schema, batches) = crate::state::read(&bytes, STAGED, file)?;
    Ok(StagedRows { schema, batches })
}

/// What is to be committed. Staged rows are read back where they are not at hand.
pub fn seal_to_commits(
    outputs: &[TableOptions],
    log: &EpochLog,
    seal: &Seal,
    at_hand: &BTreeMap<String, StagedRows>,
    runtime: Option<&tokio::runtime::Handle>,
) -> Result<Vec<TableCommit>> {
    let mut out = vec![];
    let damaged =
        |e: &dyn std::fmt::Display| Error::storage(format!("the seal of epoch {} is damaged: {e}", seal.epoch));
    for (name, table) in seal.tables.iter().filter(|(_, t)| t.commit) {
        let adds = table.adds.iter().map(|a| serde_json::from_value(a.clone())).collect::<Result<_, _>>();
        let adds = adds.map_err(|e| damaged(&e))?;
        let staged = match (&table.staged, at_hand.get(name)) {
            (None, _) => None,
            (Some(_), Some(rows)) => Some(rows.clone()),
            (Some(file), None) => match runtime {
                Some(runtime) => Some(runtime.block_on(read_staged(log, file))?),
                None => return Err(Error::internal(format!("the staged rows {file} are not at hand"))),
            },
        };
        let work = match (OutputMode::parse(&table.mode), staged) {
            (Some(mode), None) => Work::Table { mode, adds, merge: None },
            (Some(mode), Some(rows)) => {
                Work::Table { mode, adds, merge: Some(Merge { keys: table.keys.clone(), rows: rows.batches }) }
            }
            (None, Some(rows)) if table.mode == "foreach" => {
                let function = outputs.iter().find(|t| t.name == *name).and_then(|t| t.foreach.clone());
                Work::Call(function.ok_or_else(|| undefined(seal.epoch, name))?, rows)
            }
            (None, _) => return Err(damaged(&format!("the mode '{}'", table.mode))),
        };
        let admitted = table.admitted.clone();
        out.push(TableCommit { name: name.clone(), epoch: seal.epoch, work, admitted, looked: false });
    }
    Ok(out)
}

fn undefined(epoch: i64, table: &str) -> Error {
    Error::config(format!(
        "epoch {epoch} is sealed and has rows for the table '{table}', which this query no longer defines. Run it once more with the table, or start over with full_refresh=True.",
    ))
}

/// Calls a user's function on a thread of its own: it may take long, and must not do so on one that storage needs.
/// One call at a time: one that a stopped run has left at work ends before the next run's begins.
async fn call(function: Arc<dyn ForEach>, rows: StagedRows, name: String, epoch: i64, place: String) -> Result<()> {
    static AT_WORK: LazyLock<parking_lot::Mutex<HashMap<String, Arc<Mutex<()>>>>> = LazyLock::new(Default::default);
    let turn = AT_WORK.lock().entry(format!("{place}/{name}")).or_default().clone();
    let turn = turn.lock_owned().await;
    let (say, hear) = tokio::sync::oneshot::channel();
    let what = format!("foreach:{name}");
    std::thread::Builder::new()
        .name("bayou-foreach".into())
        .spawn(move || {
            crash::pass(&what, "before");
            let said = function.call(&rows.schema, &rows.batches, epoch);
            crash::pass(&what, "after");
            drop(turn);
            let _ = say.send(said);
        })
        .map_err(|e| Error::internal(format!("no thread: {e}")))?;
    match hear.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(Error {
            source: e.source,
            ..Error::function(format!(
                "the function of '{name}' failed for epoch {epoch}: {}. The epoch is sealed: running the query again calls it with the same rows.",
                e.message
            ))
        }),
        Err(_) => Err(Error::internal(format!("the function of '{name}' ended without an answer"))),
    }
}

impl Committer {
    pub async fn open(spec: &QuerySpec) -> Result<Self> {
        let tables = spec.tables.iter().filter(|t| t.foreach.is_none());
        let specs = tables.map(|t| (t.name.clone(), table_spec(t)));
        let opened =
            futures::future::try_join_all(specs.map(|(name, s)| async move { ensure(s).await.map(|t| (name, t)) }))
                .await?;
        let mut staging =
            opened.iter().map(|(n, t)| Ok((n.clone(), t.staging()?))).collect::<Result<BTreeMap<_, _>>>()?;
        let mut tables: BTreeMap<_, _> = opened.into_iter().map(|(n, t)| (n, Arc::new(Mutex::new(t)))).collect();
        // The quarantine table is made when it is first needed.
        if crate::sink::delta::open(&spec.quarantine).await?.is_some() {
            let table = ensure(quarantine_spec(spec)).await?;
            staging.insert(QUARANTINE.into(), table.staging()?);
            tables.insert(QUARANTINE.into(), Arc::new(Mutex::new(table)));
        }
        Ok(Self {
            query: spec.name.clone(),
            tables,
            done: BTreeMap::new(),
            staging,
            accept_changes: spec.accept_changes,
            calling: Arc::default(),
        })
    }

    /// Of tables that are open already.
    pub fn of(query: &str, tables: BTreeMap<String, Table>) -> Result<Self> {
        let staging = tables.iter().map(|(n, t)| Ok((n.clone(), t.staging()?))).collect::<Result<_>>()?;
        Ok(Self {
            query: query.into(),
            tables: tables.into_iter().map(|(n, t)| (n, Arc::new(Mutex::new(t)))).collect(),
            staging,
            done: BTreeMap::new(),
            accept_changes: false,
            calling: Arc::default(),
        })
    }

    /// The quarantine table, made now if it was not there.
    pub async fn quarantine(&mut self, spec: &QuerySpec) -> Result<Staging> {
        if let Some(staging) = self.staging.get(QUARANTINE) {
            return Ok(staging.clone());
        }
        let table = ensure(quarantine_spec(spec)).await?;
        let staging = table.staging()?;
        // Its id is a new one, also where somebody took an older one away.
        self.done.remove(QUARANTINE);
        self.staging.insert(QUARANTINE.into(), staging.clone());
        self.tables.insert(QUARANTINE.into(), Arc::new(Mutex::new(table)));
        Ok(staging)
    }

    /// Takes on tables that the newer copy has made meanwhile.
    pub fn take_on(&mut self, newer: Self) {
        for (name, table) in newer.tables {
            if let std::collections::btree_map::Entry::Vacant(e) = self.tables.entry(name) {
                self.done.remove(e.key());
                e.insert(table);
            }
        }
        for (name, staging) in newer.staging {
            self.staging.entry(name).or_insert(staging);
        }
    }

    /// By table, what it takes.
    pub fn admissions(&self) -> HashMap<Arc<str>, Arc<Admission>> {
        self.staging.iter().map(|(name, s)| (name.as_str().into(), s.admission.clone())).collect()
    }

    /// Each table's version, as the newest finished epoch has it.
    pub fn versions(&self) -> impl Iterator<Item = (&str, u64)> {
        self.done.iter().map(|(n, t)| (n.as_str(), t.version))
    }

    /// Whether a finished epoch of this query names the table.
    pub fn knows(&self, table: &str) -> bool {
        self.done.get(table).is_some_and(|d| d.txn.is_some())
    }

    pub fn known(&mut self, done: Option<&Done>) {
        if let Some(done) = done {
            self.done = done.tables.clone();
        }
    }

    /// Refuses tables that have gone on, or elsewhere, without this checkpoint.
    pub async fn check(&mut self, spec: &QuerySpec, newest: i64) -> Result<()> {
        for (name, table) in &self.tables {
            let table = table.lock().await;
            let place = table.spec.location.display();
            let app = app(&self.query, name);
            let txn = table.transaction(&app).await?;
            if txn.is_some_and(|t| t > newest) {
                return Err(Error::config(format!(
                    "{place}: the table holds epoch {} of '{}', and the checkpoint {} ends at {newest}: it is an older copy. Restore the newer one, or start over with full_refresh=True.",
                    txn.unwrap_or_default(),
                    spec.name,
                    spec.checkpoint.display()
                )));
            }
            let Some(done) = self.done.get_mut(name) else { continue };
            if table.id()? != done.id {
                return Err(Error::data_loss(format!(
                    "{place}: the table was recreated by somebody else (its id was {}, and is {}). Write to another table; or, to empty this one and read everything anew, run with full_refresh=True, accept_changes=True.",
                    done.id,
                    table.id()?
                )));
            }
            table.check_since(done.version, done.txn, &app, self.accept_changes).await?;
            // What was seen, or accepted, is not asked for again, also where this table gets no rows.
            (done.version, done.txn) = (table.version(), txn);
        }
        Ok(())
    }

    /// Empties the tables at the start of a new generation; `txn` makes it happen once.
    pub async fn truncate(&mut self, spec: &QuerySpec, txn: i64) -> Result<()> {
        for (name, table) in &self.tables {
            let table = table.lock().await;
            let emptied = TableSpec { mode: OutputMode::Complete, ..table.spec.clone() };
            drop(table);
            let mut table = ensure(emptied).await?;
            let commit = Commit {
                app: app(&spec.name, name),
                epoch: txn,
                mode: OutputMode::Complete,
                adds: vec![],
                merge: None,
                table_id: table.id()?,
                known_version: table.version(),
                committed_after: 0,
                known_txn: None,
                accept_changes: true,
                nonce: String::new(),
                admitted: None,
                looked: false,
            };
            table.commit(&commit).await?;
        }
        for table in self.tables.values() {
            table.lock().await.refresh().await?;
        }
        Ok(())
    }

    /// Commits what is sealed to every table, then writes `done`.
    pub async fn commit(
        &mut self,
        log: &EpochLog,
        seal: &Seal,
        commits: Vec<TableCommit>,
        now: EventTime,
    ) -> Result<Done> {
        let mut jobs = vec![];
        let mut calls = vec![];
        for c in commits {
            let (mode, adds, merge) = match c.work {
                Work::Table { mode, adds, merge } => (mode, adds, merge),
                Work::Call(function, rows) => {
                    calls.push(call(function, rows, c.name, c.epoch, log.at.display()));
                    continue;
                }
            };
            let table = self.tables.get(&c.name).cloned().ok_or_else(|| undefined(seal.epoch, &c.name))?;
            let known = self.done.get(&c.name).cloned();
            let app = app(&self.query, &c.name);
            let accept_changes = self.accept_changes;
            let nonce = seal.nonce.clone();
            jobs.push(async move {
                let mut table = table.lock().await;
                let table_id = known.as_ref().map_or_else(|| table.id(), |k| Ok(k.id.clone()))?;
                let known_txn = known.as_ref().and_then(|k| k.txn);
                let committed_after = known.as_ref().map_or(0, |k| k.version);
                let known_version = known.map_or_else(|| table.version(), |k| k.version);
                let commit = Commit {
                    app,
                    epoch: c.epoch,
                    mode,
                    adds,
                    merge,
                    table_id: table_id.clone(),
                    known_version,
                    committed_after,
                    known_txn,
                    accept_changes,
                    nonce,
                    admitted: c.admitted,
                    looked: c.looked,
                };
                let done = table.commit(&commit).await?;
                Ok::<_, Error>((c.name, DoneTable { id: table_id, version: done.version, txn: Some(c.epoch) }))
            });
        }
        let committed: BTreeMap<String, DoneTable> = futures::future::try_join_all(jobs).await?.into_iter().collect();
        // After the tables: what a function does may rest on them.
        if !calls.is_empty() {
            self.calling.store(true, Ordering::Release);
            let called = futures::future::try_join_all(calls).await;
            self.calling.store(false, Ordering::Release);
            called?;
        }
        let mut tables = self.done.clone();
        for (name, table) in &self.tables {
            if !tables.contains_key(name) && !committed.contains_key(name) {
                let table = table.lock().await;
                tables.insert(name.clone(), DoneTable { id: table.id()?, version: table.version(), txn: None });
            }
        }
        tables.extend(committed);
        let done = Done {
            format_version: FORMAT_VERSION,
            epoch: seal.epoch,
            nonce: seal.nonce.clone(),
            clock: now,
            tables,
            counts: seal.counts.clone(),
        };
        log.done(&done).await?;
        self.done = done.tables.clone();
        Ok(done)
    }

    /// The newest epoch of this query that a table has taken.
    pub async fn newest_txn(&self, name: &str) -> Result<Option<i64>> {
        match self.tables.get(name) {
            Some(table) => table.lock().await.transaction(&app(&self.query, name)).await,
            None => Ok(None),
        }
    }

    /// The tables, with the version that each is at.
    pub fn places(&self) -> Vec<(String, u64)> {
        self.done.iter().map(|(n, t)| (n.clone(), t.version)).collect()
    }
}
