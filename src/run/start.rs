//! Starting: which query this is, what earlier runs left, and what has to be finished before anything is read.

use super::Job;
use super::backfill::{Filling, check_start, filling};
use super::changes::{check_identity, check_tables, made_anew, refuse_known_tables, restore};
use super::commit::{Committer, app, seal_to_commits};
use super::compact::FileInfo;
use super::control::Shared;
use super::feed::{Before, Feed, LastRead, one_connection};
use super::ownership;
use super::repair;
use crate::engine::Engine;
use crate::engine::plan::{Plan, Target};
use crate::epoch::*;
use crate::flow::source::{KafkaSource, OnMalformed};
use crate::flow::{Output, QUARANTINE};
use crate::position::{Offset, Positions, TopicPartition};
use crate::progress::{RuleCount, RuleTotals};
use crate::storage::Put;
use crate::time::{EventTime, SharedClock};
use crate::{Error, Result, state};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a run begins with.
pub struct Started {
    pub log: EpochLog,
    pub engine: Engine,
    pub feed: Feed,
    pub committer: Committer,
    pub definition: String,
    pub next_epoch: i64,
    pub state: BTreeMap<String, StateFiles>,
    /// What is known of the state files, by name.
    pub files: HashMap<String, FileInfo>,
    pub totals: RuleTotals,
    pub topic_ids: BTreeMap<String, Option<String>>,
    /// When it was last known which seal is the newest.
    pub looked: Looked,
    pub clock: SharedClock,
    /// Those of topics that were made anew since the query's first run.
    pub new_ids: BTreeMap<String, String>,
    /// New tables are to be filled first; engine and feed are theirs.
    pub filling: Option<Filling>,
}

/// A moment by both clocks: one stands still while the machine is suspended, the other may be set back.
pub struct Looked(Instant, EventTime);

impl Looked {
    pub fn now(clock: &SharedClock) -> Self {
        Self(Instant::now(), clock.now())
    }
    pub fn ago(&self, clock: &SharedClock) -> Duration {
        let wall = Duration::from_micros(clock.now().0.saturating_sub(self.1.0).try_into().unwrap_or(0));
        self.0.elapsed().max(wall)
    }
}

/// What is being committed when the user wants to stop gets so long.
pub const GRACE: Duration = Duration::from_millis(900);

/// The tables that were filled from the earliest offset, or are to be.
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

fn topics(sources: &[Arc<KafkaSource>]) -> Vec<String> {
    let mut out: Vec<String> = sources.iter().flat_map(|s| s.topics.iter().map(|t| t.to_string())).collect();
    out.sort();
    out.dedup();
    out
}

/// Everything before the first read. Kafka's answers are awaited on this thread; storage's on the runtime.
pub fn start(job: &Job, shared: &Shared) -> Result<Started> {
    let rt = job.runtime.clone();
    for t in &job.flow.outputs {
        check_start(t.start.as_deref(), &t.name)?;
        t.sink(&job.clock)?.check()?;
    }
    let plan = plan(job, &HashSet::new())?;
    let sources = plan.kafka_sources();
    let connection = one_connection(&sources)?;
    let names = topics(&sources);
    let (cluster_id, topic_ids) = shared.ask(move || {
        let cluster_id = connection.cluster_id()?;
        let mut topic_ids = BTreeMap::new();
        for topic in names {
            let id = connection.topic_id(&crate::position::Topic::new(&topic))?;
            topic_ids.insert(topic, id);
        }
        Ok((cluster_id, topic_ids))
    })?;
    let now = job.clock.now();
    // Left by reset(), or by a run that was to start over and did not get to it; taken away once the new generation stands.
    let full_refresh = job.flow.full_refresh || rt.block_on(job.flow.checkpoint.exists(RESET))?;
    let generation = match full_refresh {
        true => rt.block_on(newest(&job.flow.checkpoint))?.map(|(generation, _)| generation),
        false => rt.block_on(newest_generation(&job.flow.checkpoint))?,
    };
    let begin = match generation {
        Some(g) if !full_refresh => Begin::Continue(g),
        Some(g) => Begin::New { generation: g + 1, truncate: true },
        None => Begin::New { generation: 1, truncate: full_refresh },
    };
    let (log, start_file, query_file) = match begin {
        Begin::Continue(g) => {
            let log = EpochLog::new(job.flow.checkpoint.join(&g.to_string()));
            let query: QueryFile = rt.block_on(log.read("query.json"))?.ok_or_else(|| gone(&log, "query.json"))?;
            check_identity(job, &query, &cluster_id, &topic_ids)?;
            *shared.id.lock() = query.query_id.clone();
            let start: Option<StartFile> = rt.block_on(log.read("start.json"))?;
            // A run that died between the two files has read nothing yet.
            let start = match start {
                Some(s) => s,
                None => {
                    let (sealed, taken) = rt.block_on(epochs_before(job, g + 1))?;
                    if taken > sealed {
                        return Err(Error::config(format!(
                            "a table of '{}' holds epoch {taken} of this query, and the checkpoint {} has neither a seal nor a start.json: some of its \
                             files are not there. Restore them; or, to empty the tables and read everything anew, run with full_refresh=True.",
                            job.flow.name,
                            log.at.display()
                        )));
                    }
                    make_start(job, shared, &log, &sources, sealed + 1, g > 1, now)?
                }
            };
            (log, start, query)
        }
        Begin::New { generation, truncate } => {
            if truncate {
                rt.block_on(ownership::check_refresh(job))?;
                // From the fence on there is no way back, and this run may not get to its end.
                rt.block_on(start_over(&job.flow.checkpoint))?;
            }
            if generation > 1 {
                let old = EpochLog::new(job.flow.checkpoint.join(&(generation - 1).to_string()));
                rt.block_on(old.fence(now))?;
            }
            let (sealed, taken) = rt.block_on(epochs_before(job, generation))?;
            let first = sealed.max(taken) + 1;
            if !truncate && first > 0 {
                return Err(Error::config(format!(
                    "a table of '{}' holds epochs up to {} of a query '{0}', and its checkpoint {} is not there. Point checkpoint_location at it. Where \
                     those are another query's, which writes the same table or quarantine table, give this one a name of its own. Or, to \
                     empty the tables and read everything anew, run with full_refresh=True.",
                    job.flow.name,
                    first - 1,
                    job.flow.checkpoint.display()
                )));
            }
            let log = EpochLog::new(job.flow.checkpoint.join(&generation.to_string()));
            let query = QueryFile {
                format_version: FORMAT_VERSION,
                query_name: job.flow.name.clone(),
                query_id: shared.id.lock().clone(),
                generation,
                cluster_id: cluster_id.clone(),
                topic_ids: topic_ids.clone(),
                created_at: now,
            };
            let (found, put) = rt.block_on(log.create("query.json", &query))?;
            *shared.id.lock() = found.query_id.clone();
            if put == Put::Exists {
                check_identity(job, &found, &cluster_id, &topic_ids)?;
            }
            let start = make_start(job, shared, &log, &sources, first, truncate, now)?;
            rt.block_on(job.flow.checkpoint.delete(RESET))?;
            (log, start, found)
        }
    };
    warn_about_start(&sources, &start_file, shared);
    let looked = Looked::now(&job.clock);
    let newest = rt.block_on(log.newest_seal())?;
    let seal: Option<Seal> = match newest {
        Some(n) => rt.block_on(log.read_seal(n))?,
        None => None,
    };
    let before = match &seal {
        Some(seal) if seal.definition == FENCE => {
            return Err(Error::concurrent_query(format!(
                "'{}' was started over by another runner at this moment (checkpoint {}). Run it again; if it says so again, the other \
                 one has not come to its end: run with full_refresh=True.",
                job.flow.name,
                job.flow.checkpoint.display()
            )));
        }
        Some(seal) => Some(rt.block_on(read_definition(&log, &seal.definition))?),
        None => None,
    };
    let positions: Positions = match &seal {
        None => positions(&start_file.positions),
        Some(seal) => {
            seal.ranges.iter().map(|r| (TopicPartition::new(&r.topic, r.partition), Offset(r.until))).collect()
        }
    };
    let anew = made_anew(&query_file, seal.as_ref(), &topic_ids, &positions, &sources)?;
    let other = |(topic, id): (&String, &Option<String>)| {
        let id = id.as_ref().filter(|id| query_file.topic_ids.get(topic).and_then(Option::as_ref) != Some(*id))?;
        Some((topic.clone(), id.clone()))
    };
    let new_ids = topic_ids.iter().filter_map(other).collect();
    if let Some(before) = &before {
        check_tables(job, before, shared)?;
    }
    let filled = filled(job, before.as_ref());
    let plan = if filled.is_empty() { plan } else { self::plan(job, &filled)? };
    let mut engine = Engine::new(plan, OnMalformed::Quarantine)?;
    let definition = definition(job, &engine, &filled);
    let bytes = serde_json::to_vec(&definition).map_err(|e| Error::internal(e.to_string()))?;
    let hash: String = Sha256::digest(&bytes).iter().take(16).map(|b| format!("{b:02x}")).collect();

    // What is not understood is left as it is: nothing is written before that is known.
    if let Some(n) = newest {
        rt.block_on(refuse_lost_tables(job, &log, n))?;
    }
    rt.block_on(log.create(&format!("definition/{hash}.json"), &definition))?;

    // The tables, and what an earlier run left sealed but not done.
    let mut committer = rt.block_on(Committer::open(job))?;
    committer.calling = shared.calling.clone();
    let mut done = None;
    match newest {
        None => {
            if let Some(txn) = start_file.truncate_txn {
                rt.block_on(committer.empty(job, txn))?;
            }
        }
        Some(n) => {
            let seal = seal.as_ref().ok_or_else(|| gone(&log, &format!("the seal of epoch {n}")))?;
            let found = rt.block_on(log.read_done(n))?;
            done = Some(match found {
                Some(d) => d,
                None => {
                    let before = rt.block_on(log.read_done(n - 1))?;
                    committer.known(before.as_ref());
                    let seal = &rt.block_on(repair::effective(&log, seal.clone()))?;
                    let commits = rt.block_on(seal_to_commits(&log, seal, &BTreeMap::new()))?;
                    log::info!("{}: finishing epoch {n}, which an earlier run sealed", job.flow.name);
                    let finish = committer.commit(&log, seal, commits, now);
                    rt.block_on(shared.unless_stopped(GRACE, finish))?
                }
            });
        }
    }
    committer.known(done.as_ref());
    if let Some(before) = &before {
        rt.block_on(refuse_known_tables(job, &committer, before, shared))?;
    }
    let last = newest.unwrap_or(start_file.first_epoch - 1);
    rt.block_on(committer.check(job, last))?;
    rt.block_on(ownership::check_first(job, &committer, &topic_ids))?;
    // Each run of a job says it; a store is asked once.
    if newest.is_none() || job.flow.places().all(|(_, at)| at.is_local()) {
        let found = rt.block_on(super::places::warnings(job))?;
        shared.report.lock().warnings.extend(found);
    }
    {
        let mut report = shared.report.lock();
        for writer in committer.writers.values() {
            report.notes.extend(rt.block_on(writer.lock()).notes());
        }
    }

    let mut totals = RuleTotals::default();
    let mut fill = None;
    let mut state_files = BTreeMap::new();
    let mut files = HashMap::new();
    let mut known = Before { positions, anew, ..Before::default() };
    let mut last_timestamps: BTreeMap<TopicPartition, EventTime> = BTreeMap::new();
    match &seal {
        None => {}
        Some(seal) => {
            for r in &seal.ranges {
                let tp = TopicPartition::new(&r.topic, r.partition);
                if let Some(t) = r.last_timestamp {
                    last_timestamps.insert(tp.clone(), t);
                }
                if let Some(offset) = r.last_offset {
                    known.read.insert(tp, LastRead { offset: Offset(offset), leader_epoch: r.leader_epoch });
                }
            }
            if let Some(list) = seal.counts.get("rules").cloned()
                && let Ok(list) = serde_json::from_value::<Vec<RuleCount>>(list)
            {
                totals = RuleTotals::from_list(list);
            }
            if let Some(to_fill) = before.as_ref().and_then(|b| filling(job, seal, b)) {
                let (mut theirs, from) = to_fill.engine(job, seal)?;
                let only = job.only(&to_fill.tables);
                (state_files, files) = restore(&rt, &log, &mut theirs, &from, &only, before.as_ref())?;
                // The others' state stays as it is.
                for (name, kept) in &seal.state {
                    state_files.entry(name.clone()).or_insert_with(|| kept.clone());
                }
                (engine, fill) = (theirs, Some(to_fill));
            } else {
                (state_files, files) = restore(&rt, &log, &mut engine, seal, job, before.as_ref())?;
            }
        }
    }
    let clock = job.clock.clone();
    let bounded = job.flow.trigger == crate::flow::Trigger::AvailableNow;
    let mut feed = match &fill {
        Some(_) if !known.anew.is_empty() => {
            return Err(Error::data_loss(format!(
                "the topic '{}' was deleted and made anew while a new table was to be filled from its earliest offset. Leave the table out, or \
                 start over with full_refresh=True.",
                known.anew[0]
            )));
        }
        Some(fill) => {
            let (fill, sources) = (fill.clone(), engine.plan.kafka_sources());
            shared.ask(move || fill.feed(sources, clock))?
        }
        None => {
            let mut feed = shared.ask(move || Feed::new(sources, known, bounded, clock))?;
            feed.last_timestamp = last_timestamps;
            feed
        }
    };
    feed.topic_ids = topic_ids.iter().map(|(t, id)| (crate::position::Topic::new(t), id.clone())).collect();
    engine.know(feed.positions.keys());
    engine.begin();
    Ok(Started {
        log,
        engine,
        feed,
        committer,
        definition: hash,
        next_epoch: last + 1,
        state: state_files,
        files,
        totals,
        topic_ids,
        looked,
        clock: job.clock.clone(),
        new_ids,
        filling: fill,
    })
}

/// A table that this query has written and that is not there any more: one that is made in its place would be in the way of a copy of it.
async fn refuse_lost_tables(job: &Job, log: &EpochLog, newest: i64) -> Result<()> {
    let done = match log.read_done(newest).await? {
        Some(done) => Some(done),
        None => log.read_done(newest - 1).await?,
    };
    let Some(done) = done else { return Ok(()) };
    let known = job.flow.places().filter(|(o, _)| done.tables.contains_key(&o.name));
    for (output, location) in known {
        if !output.sink(&job.clock)?.exists().await? {
            let place = location.display();
            return Err(Error::data_loss(format!(
                "{place}: the table, which epoch {newest} of '{}' has written or is to write, is gone: there is no _delta_log. Restore the folder \
                 from a copy; or, to make the table again and read everything anew, run with full_refresh=True.",
                job.flow.name
            )));
        }
    }
    Ok(())
}

enum Begin {
    Continue(u64),
    New { generation: u64, truncate: bool },
}

pub(super) async fn read_definition(log: &EpochLog, hash: &str) -> Result<DefinitionFile> {
    let name = format!("definition/{hash}.json");
    log.read(&name).await?.ok_or_else(|| gone(log, &name))
}

fn gone(log: &EpochLog, what: &str) -> Error {
    Error::storage(format!(
        "{what} is gone from the checkpoint {}. Restore it from a copy; or start over with full_refresh=True.",
        log.at.display()
    ))
}

/// The newest epoch that earlier generations sealed, and the newest that a table has taken; −1 where there is none.
async fn epochs_before(job: &Job, generation: u64) -> Result<(i64, i64)> {
    let (mut sealed, mut taken) = (-1, -1);
    for g in 1..generation {
        let log = EpochLog::new(job.flow.checkpoint.join(&g.to_string()));
        sealed = sealed.max(log.newest_seal().await?.unwrap_or(-1));
    }
    let mut sinks = vec![(QUARANTINE, job.flow.quarantine_sink(&job.clock))];
    for output in &job.flow.outputs {
        sinks.push((&output.name, output.sink(&job.clock)?));
    }
    for (name, sink) in sinks {
        taken = taken.max(sink.newest_epoch(&app(&job.flow.name, name)).await?.unwrap_or(-1));
    }
    Ok((sealed, taken))
}

/// Says no, before anything is written, to a store without put-if-absent: that of a new checkpoint, and those of tables elsewhere, whose
/// logs rest on it as much. Local disks have ours.
pub async fn probe(job: &Job) -> Result<()> {
    static PROBED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if newest(&job.flow.checkpoint).await?.is_none() {
        job.flow.checkpoint.probe("probe").await?;
    }
    let tables = job.flow.places().map(|(_, location)| location);
    for location in tables.chain([&job.flow.quarantine]).filter(|l| !l.is_local()) {
        let store = location.store();
        if store != job.flow.checkpoint.store() && !PROBED.lock().contains(&store) {
            location.probe("_delta_log/_bayou_probe").await?;
            PROBED.lock().insert(store);
        }
    }
    Ok(())
}

#[allow(clippy::too_many_arguments)]
fn make_start(
    job: &Job,
    shared: &Shared,
    log: &EpochLog,
    sources: &[Arc<KafkaSource>],
    first: i64,
    truncate: bool,
    now: EventTime,
) -> Result<StartFile> {
    let of = sources.to_vec();
    let positions = shared.ask(move || Feed::starts(&of))?;
    let start = StartFile {
        format_version: FORMAT_VERSION,
        // The emptying of the tables takes a number of its own.
        first_epoch: first + i64::from(truncate),
        positions: position_map(&positions),
        starting_offsets: starting(sources),
        clock: now,
        truncate_txn: truncate.then_some(first),
    };
    Ok(job.runtime.block_on(log.create("start.json", &start))?.0)
}

fn starting(sources: &[Arc<KafkaSource>]) -> serde_json::Value {
    sources.iter().map(|s| serde_json::to_value(&s.starting).unwrap_or_default()).collect()
}

fn warn_about_start(sources: &[Arc<KafkaSource>], start: &StartFile, shared: &Shared) {
    if starting(sources) != start.starting_offsets {
        let text = "starting_offsets differs from the first run's and is ignored: the query goes on where it stopped. To start over: reset(confirm=True).";
        log::warn!("{text}");
        shared.report.lock().warnings.push(text.into());
    }
}
