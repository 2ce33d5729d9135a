//! The start of a run: the identity of the query (`identity`), the recovery of what earlier runs left (`recover`), and the opening of targets and
//! reader (`open`).

mod identity;
mod open;
mod recover;

use super::Job;
use super::backfill::{Filling, check_start};
use super::changes::check_tables;
use super::commit::Committer;
use super::control::Shared;
use super::feed::Feed;
use super::files::FileInfo;
use super::looked::Looked;
use crate::engine::Engine;
use crate::engine::plan::{Plan, Target};
use crate::epoch::*;
use crate::flow::Output;
use crate::flow::source::OnMalformed;
use crate::hash::hex;
use crate::progress::RuleTotals;
use crate::time::SharedClock;
use crate::{Error, Result, state};
pub(super) use open::probe;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// Everything that a run needs after its start.
pub(super) struct Started {
    pub log: EpochLog,
    pub engine: Engine,
    pub feed: Feed,
    pub committer: Committer,
    pub definition: String,
    pub next_epoch: i64,
    pub state: BTreeMap<String, StateFiles>,
    /// Facts about the state files, by name.
    pub files: HashMap<String, FileInfo>,
    pub totals: RuleTotals,
    pub topic_ids: BTreeMap<String, Option<String>>,
    /// The last moment at which the newest seal was known for certain.
    pub looked: Looked,
    pub clock: SharedClock,
    /// The ids of topics that were recreated since the query's first run.
    pub new_ids: BTreeMap<String, String>,
    /// A backfill that comes first. If there is one, engine and feed are those of the backfill.
    pub filling: Option<Filling>,
    /// The topics have changed since the newest seal, so the next epoch is sealed in any case.
    pub topics_changed: bool,
    /// Partitions that were read before and are not read now.
    pub left: Vec<Range>,
}

/// A commit that is running when the user stops the query may take at most this long.
pub(super) const GRACE: Duration = Duration::from_millis(900);

/// Does everything that comes before the first read. Answers of Kafka are awaited on this thread, answers of the storage on the runtime.
pub(super) fn start(job: &Job, shared: &Shared) -> Result<Started> {
    check_start(job.flow.start.as_deref(), &job.flow.name)?;
    for output in &job.flow.outputs {
        check_start(output.start.as_deref(), &output.name)?;
        output.sink(&job.clock)?.check()?;
    }
    let plan = plan(job, &HashSet::new())?;
    let sources = plan.kafka_sources();
    let cluster = identity::ask(&sources, shared)?;
    let generation = identity::find(job, shared, &sources, &cluster)?;
    identity::warn_about_start(&sources, &generation.start, shared);
    let looked = Looked::now(&job.clock);
    let found = recover::look(job, &generation, &cluster, &sources)?;
    if let Some(before) = &found.definition {
        check_tables(job, before, shared)?;
    }
    shared.report.lock().notes.extend(found.topics.notes());
    let filled = filled(job, found.definition.as_ref());
    let plan = if filled.is_empty() { plan } else { self::plan(job, &filled)? };
    let engine = Engine::new(plan, OnMalformed::Quarantine)?;
    // Nothing is written before all checks of the identity and the definition have passed. A query that is not understood is not changed.
    if let Some(n) = found.newest {
        job.runtime.block_on(open::refuse_lost_tables(job, &generation.log, n))?;
    }
    let definition = define(job, &generation.log, &engine, &filled)?;
    let mut committer = recover::finish(job, shared, &generation, &found)?;
    let last = found.last(&generation.start);
    open::check(job, shared, &mut committer, &found, last, &cluster)?;
    let mut restored = recover::state(job, &generation.log, engine, &found)?;
    let feed = open::feed(job, shared, &restored, &found, &cluster)?;
    restored.engine.know(feed.positions.keys());
    restored.engine.begin();
    Ok(Started {
        log: generation.log,
        engine: restored.engine,
        feed,
        committer,
        definition,
        next_epoch: last + 1,
        state: restored.state,
        files: restored.files,
        totals: restored.totals,
        topic_ids: cluster.topic_ids,
        looked,
        clock: job.clock.clone(),
        new_ids: found.new_ids,
        left: found.left,
        topics_changed: restored.filling.is_none() && found.topics.is_change(),
        filling: restored.filling,
    })
}

/// The tables that were backfilled from the earliest offset, or that must be backfilled.
fn filled(job: &Job, before: Option<&DefinitionFile>) -> HashSet<String> {
    let Some(before) = before else { return HashSet::new() };
    let is = |t: &&Output| match before.tables.get(&t.name) {
        Some(old) => old.filled,
        None => t.start.as_deref() == Some("earliest"),
    };
    job.flow.outputs.iter().filter(is).map(|t| t.name.clone()).collect()
}

fn plan(job: &Job, filled: &HashSet<String>) -> Result<Plan> {
    let target = |t: &Output| Target {
        name: t.name.as_str().into(),
        stream: t.stream.clone(),
        mode: t.mode,
        apart: filled.contains(&t.name),
    };
    Plan::new(job.flow.outputs.iter().map(target).collect())
}

/// Writes the definition of this run. The name of the file is the hash of its contents.
fn define(job: &Job, log: &EpochLog, engine: &Engine, filled: &HashSet<String>) -> Result<String> {
    let definition = definition(job, engine, filled);
    let bytes = serde_json::to_vec(&definition).map_err(|e| Error::internal(e.to_string()))?;
    let hash: String = hex(Sha256::digest(&bytes), 16);
    job.runtime.block_on(log.create(&format!("definition/{hash}.json"), &definition))?;
    Ok(hash)
}

fn definition(job: &Job, engine: &Engine, filled: &HashSet<String>) -> DefinitionFile {
    let tables = job.flow.outputs.iter().enumerate().map(|(i, t)| {
        let definition = TableDefinition {
            schema: crate::expr::to_ddl(t.stream.schema()),
            mode: t.mode_name().to_string(),
            partition_by: t.to.partition_by().to_vec(),
            steps: t.stream.steps(),
            watermarks: engine.plan.trackers_of(i).iter().map(|t| engine.plan.trackers[*t].0.clone()).collect(),
            filled: filled.contains(&t.name),
        };
        (t.name.clone(), definition)
    });
    let operators =
        engine.plan.operators.iter().zip(&engine.operators).map(|(o, state)| (o.name.clone(), state.description()));
    DefinitionFile {
        format_version: FORMAT_VERSION,
        tables: tables.collect(),
        operators: operators.collect(),
        signatures: engine.plan.operators.iter().map(|o| (o.name.clone(), o.signature.clone())).collect(),
        state_version: state::STATE_VERSION.into(),
    }
}
