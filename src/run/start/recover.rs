//! Recovery of what earlier runs left: the newest seal, its epoch if that is not done yet, and the saved state.

use super::identity::{Cluster, Generation};
use crate::engine::Engine;
use crate::epoch::*;
use crate::flow::source::KafkaSource;
use crate::position::{Offset, Positions, Topic, TopicPartition};
use crate::progress::{RuleCount, RuleTotals};
use crate::run::backfill::{Filling, filling};
use crate::run::changes::{gone, read_definition, recreated_topics, restore};
use crate::run::commit::{Committer, seal_to_commits};
use crate::run::control::Shared;
use crate::run::files::FileInfo;
use crate::run::topics::TopicChange;
use crate::run::{Job, repair};
use crate::time::EventTime;
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The newest seal, with its definition and positions.
pub(super) struct Found {
    pub newest: Option<i64>,
    pub seal: Option<Seal>,
    pub definition: Option<DefinitionFile>,
    /// The positions where reading continues.
    pub positions: Positions,
    /// The topics that the query reads now and did not read before, and the other way round.
    pub topics: TopicChange,
    /// Partitions that were read before and are not read now.
    pub left: Vec<Range>,
    /// Topics that were recreated since they were last read.
    pub recreated: Vec<Topic>,
    /// The ids of topics that were recreated since the query's first run.
    pub new_ids: BTreeMap<String, String>,
}

impl Found {
    /// The newest epoch that is sealed. If none is sealed, the last epoch before this generation.
    pub(super) fn last(&self, start: &StartFile) -> i64 {
        self.newest.unwrap_or(start.first_epoch - 1)
    }
}

pub(super) fn look(
    job: &Job,
    generation: &Generation,
    cluster: &Cluster,
    sources: &[Arc<KafkaSource>],
) -> Result<Found> {
    let (rt, log, topic_ids) = (&job.runtime, &generation.log, &cluster.topic_ids);
    let newest = rt.block_on(log.newest_seal())?;
    let seal: Option<Seal> = match newest {
        Some(n) => rt.block_on(log.read_seal(n))?,
        None => None,
    };
    let definition = match &seal {
        Some(seal) if seal.definition == FENCE => {
            return Err(Error::concurrent_query(format!(
                "'{}' was started over by a different runner at this moment (checkpoint {}). Run the query again. If this error comes again, the \
                 other runner did not finish its start: run with full_refresh=True.",
                job.flow.name,
                job.flow.checkpoint.display()
            )));
        }
        Some(seal) => Some(rt.block_on(read_definition(log, &seal.definition))?),
        None => None,
    };
    let mut positions: Positions = match &seal {
        None => positions(&generation.start.positions),
        Some(seal) => seal.ranges.iter().map(|r| (r.place(), Offset(r.until))).collect(),
    };
    let is_read =
        |tp: &TopicPartition| sources.iter().any(|s| s.topics.has(tp)) && topic_ids.contains_key(tp.topic.as_str());
    // A partition that was left out and is back continues where it was.
    let (back, left): (Vec<Range>, Vec<Range>) =
        seal.iter().flat_map(|s| s.ranges.iter().chain(&s.left)).cloned().partition(|r| is_read(&r.place()));
    positions.extend(back.iter().map(|r| (r.place(), Offset(r.until))));
    let topics = TopicChange::between(job, &positions, topic_ids, sources)?;
    positions.retain(|tp, _| is_read(tp));
    let known = topic_ids.iter().filter(|(t, _)| !topics.added.contains(&Topic::new(t)));
    let known = known.map(|(t, id)| (t.clone(), id.clone())).collect();
    let recreated = recreated_topics(&generation.query, seal.as_ref(), &known, &positions, sources)?;
    let other = |(topic, id): (&String, &Option<String>)| {
        let id =
            id.as_ref().filter(|id| generation.query.topic_ids.get(topic).and_then(Option::as_ref) != Some(*id))?;
        Some((topic.clone(), id.clone()))
    };
    let new_ids = topic_ids.iter().filter_map(other).collect();
    Ok(Found { newest, seal, definition, positions, topics, left, recreated, new_ids })
}

/// Opens the targets. If an earlier run left an epoch that is sealed and not done, that epoch is committed first.
pub(super) fn finish(job: &Job, shared: &Shared, generation: &Generation, found: &Found) -> Result<Committer> {
    let (rt, log) = (&job.runtime, &generation.log);
    let mut committer = rt.block_on(Committer::open(job))?;
    committer.calling = shared.calling.clone();
    let mut done = None;
    match found.newest {
        None => {
            if let Some(txn) = generation.start.truncate_txn {
                rt.block_on(shared.unless_stopped(super::GRACE, committer.empty(job, txn)))?;
            }
        }
        Some(n) => {
            let seal = found.seal.as_ref().ok_or_else(|| gone(log, &format!("the seal of epoch {n}")))?;
            done = Some(match rt.block_on(log.read_done(n))? {
                Some(d) => d,
                None => {
                    let before = rt.block_on(log.read_done(n - 1))?;
                    committer.known(before.as_ref());
                    let seal = &rt.block_on(repair::effective(log, seal.clone()))?;
                    let commits = rt.block_on(seal_to_commits(log, seal, &BTreeMap::new()))?;
                    log::info!("{}: finishing epoch {n}, which an earlier run sealed", job.flow.name);
                    let finish = committer.commit(log, seal, commits, &job.clock);
                    rt.block_on(shared.unless_stopped(super::GRACE, finish))?
                }
            });
        }
    }
    committer.known(done.as_ref());
    Ok(committer)
}

/// An engine with the state of the newest seal.
pub(super) struct Restored {
    pub engine: Engine,
    pub state: BTreeMap<String, StateFiles>,
    pub files: HashMap<String, FileInfo>,
    pub totals: RuleTotals,
    /// A backfill of new outputs that comes first. If there is one, the engine is that of the backfill.
    pub filling: Option<Filling>,
}

pub(super) fn state(job: &Job, log: &EpochLog, mut engine: Engine, found: &Found) -> Result<Restored> {
    let mut out_totals = RuleTotals::default();
    let before = found.definition.as_ref();
    let Some(seal) = &found.seal else {
        let (state, files) = (BTreeMap::new(), HashMap::new());
        return Ok(Restored { engine, state, files, totals: out_totals, filling: None });
    };
    if let Some(list) = seal.counts.get("rules").cloned()
        && let Ok(list) = serde_json::from_value::<Vec<RuleCount>>(list)
    {
        out_totals = RuleTotals::from_list(list);
    }
    let Some(to_fill) = before.and_then(|b| filling(job, seal, b)) else {
        let (state, files) = restore(&job.runtime, log, &mut engine, seal, job, before, &found.topics)?;
        return Ok(Restored { engine, state, files, totals: out_totals, filling: None });
    };
    let (mut theirs, from) = to_fill.engine(job, seal)?;
    let only = job.only(&to_fill.tables);
    let (mut state, files) = restore(&job.runtime, log, &mut theirs, &from, &only, before, &found.topics)?;
    // The state of the other tables is kept unchanged.
    for (name, kept) in &seal.state {
        state.entry(name.clone()).or_insert_with(|| kept.clone());
    }
    Ok(Restored { engine: theirs, state, files, totals: out_totals, filling: Some(to_fill) })
}

/// For each partition, the timestamp of the last record so far.
pub(super) fn last_timestamps(seal: &Seal) -> BTreeMap<TopicPartition, EventTime> {
    let each = |r: &Range| Some((r.place(), r.last_timestamp?));
    seal.ranges.iter().filter_map(each).collect()
}
