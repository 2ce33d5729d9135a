//! Starting: which query this is, what earlier runs left, and what has to be finished before anything is read.

use super::backfill::{Filling, check_start, filling};
use super::changes::{check_identity, check_tables, made_anew, refuse_known_tables, restore};
use super::commit::{Committer, app, seal_to_commits};
use super::compact::FileInfo;
use super::control::Shared;
use super::engine::Engine;
use super::feed::{Before, Feed, LastRead, one_connection};
use super::ownership;
use super::plan::{Plan, Target};
use super::repair;
use super::run::{QuerySpec, TableOptions};
use super::source::{KafkaSource, OnMalformed};
use crate::epoch::*;
use crate::position::{Offset, Positions, TopicPartition};
use crate::progress::{RuleCount, RuleTotals};
use crate::sink::delta::{OutputMode, Table, TableSpec};
use crate::sink::quarantine;
use crate::storage::Put;
use crate::time::{Clock, EventTime, SystemClock};
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
    /// Those of topics that were made anew since the query's first run.
    pub new_ids: BTreeMap<String, String>,
    /// New tables are to be filled first; engine and feed are theirs.
    pub filling: Option<Filling>,
}

/// A moment by both clocks: one stands still while the machine is suspended, the other may be set back.
pub struct Looked(Instant, EventTime);

impl Looked {
    pub fn now() -> Self {
        Self(Instant::now(), SystemClock.now())
    }
    pub fn ago(&self) -> Duration {
        let wall = Duration::from_micros(SystemClock.now().0.saturating_sub(self.1.0).try_into().unwrap_or(0));
        self.0.elapsed().max(wall)
    }
}

/// What is being committed when the user wants to stop gets so long.
pub const GRACE: Duration = Duration::from_millis(900);

pub const QUARANTINE: &str = "_quarantine";

pub fn table_spec(t: &TableOptions) -> TableSpec {
    TableSpec {
        location: t.location.clone(),
        schema: t.stream.schema().clone(),
        declared: t.stream.declared_schema(),
        partition_by: t.partition_by.clone(),
        mode: t.mode,
        name: t.table_name.clone(),
        comment: t.comment.clone(),
        merge_schema: t.merge_schema,
    }
}

pub fn quarantine_spec(spec: &QuerySpec) -> TableSpec {
    quarantine_table(spec.quarantine.clone(), &spec.name)
}

pub fn quarantine_table(location: crate::storage::Location, query: &str) -> TableSpec {
    TableSpec {
        location,
        schema: quarantine::SCHEMA.clone(),
        declared: quarantine::SCHEMA.clone(),
        partition_by: vec![],
        mode: OutputMode::Append,
        name: None,
        comment: Some(format!("What the query {query} set aside: the original messages and why")),
        merge_schema: true,
    }
}

/// The tables that were filled from the earliest offset, or are to be.
fn filled(spec: &QuerySpec, before: Option<&DefinitionFile>) -> HashSet<String> {
    let Some(before) = before else { return HashSet::new() };
    let is = |t: &&TableOptions| match before.tables.get(&t.name) {
        Some(old) => old.filled,
        None => t.start.as_deref() == Some("earliest"),
    };
    spec.tables.iter().filter(is).map(|t| t.name.clone()).collect()
}

fn plan(spec: &QuerySpec, filled: &HashSet<String>) -> Result<Plan> {
    let target = |t: &TableOptions| Target {
        name: t.name.as_str().into(),
        stream: t.stream.clone(),
        mode: t.mode,
        apart: filled.contains(&t.name),
    };
    Plan::new(spec.tables.iter().map(target).collect())
}

fn definition(spec: &QuerySpec, engine: &Engine, filled: &HashSet<String>) -> DefinitionFile {
    let tables = spec.tables.iter().enumerate().map(|(i, t)| {
        let definition = TableDefinition {
            schema: crate::expr::to_ddl(t.stream.schema()),
            mode: t.mode_name().to_string(),
            partition_by: t.partition_by.clone(),
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
pub fn start(spec: &QuerySpec, shared: &Shared) -> Result<Started> {
    let rt = spec.runtime.clone();
    for t in &spec.tables {
        check_start(t.start.as_deref(), &t.name)?;
        if t.foreach.is_none() {
            table_spec(t).check()?;
        }
    }
    let plan = plan(spec, &HashSet::new())?;
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
    let now = SystemClock.now();
    // Left by reset(), or by a run that was to start over and did not get to it; taken away once the new generation stands.
    let full_refresh = spec.full_refresh || rt.block_on(spec.checkpoint.exists(RESET))?;
    let generation = match full_refresh {
        true => rt.block_on(newest(&spec.checkpoint))?.map(|(generation, _)| generation),
        false => rt.block_on(newest_generation(&spec.checkpoint))?,
    };
    let begin = match generation {
        Some(g) if !full_refresh => Begin::Continue(g),
        Some(g) => Begin::New { generation: g + 1, truncate: true },
        None => Begin::New { generation: 1, truncate: full_refresh },
    };
    let (log, start_file, query_file) = match begin {
        Begin::Continue(g) => {
            let log = EpochLog::new(spec.checkpoint.join(&g.to_string()));
            let query: QueryFile = rt.block_on(log.read("query.json"))?.ok_or_else(|| gone(&log, "query.json"))?;
            check_identity(spec, &query, &cluster_id, &topic_ids)?;
            *shared.id.lock() = query.query_id.clone();
            let start: Option<StartFile> = rt.block_on(log.read("start.json"))?;
            // A run that died between the two files has read nothing yet.
            let start = match start {
                Some(s) => s,
                None => {
                    let (sealed, taken) = rt.block_on(epochs_before(spec, g + 1))?;
                    if taken > sealed {
                        return Err(Error::config(format!(
                            "a table of '{}' holds epoch {taken} of this query, and the checkpoint {} has neither a seal nor a start.json: some of its \
                             files are not there. Restore them; or, to empty the tables and read everything anew, run with full_refresh=True.",
                            spec.name,
                            log.at.display()
                        )));
                    }
                    make_start(spec, shared, &log, &sources, sealed + 1, g > 1, now)?
                }
            };
            (log, start, query)
        }
        Begin::New { generation, truncate } => {
            if truncate {
                rt.block_on(ownership::check_refresh(spec))?;
                // From the fence on there is no way back, and this run may not get to its end.
                rt.block_on(start_over(&spec.checkpoint))?;
            }
            if generation > 1 {
                let old = EpochLog::new(spec.checkpoint.join(&(generation - 1).to_string()));
                rt.block_on(old.fence(now))?;
            }
            let (sealed, taken) = rt.block_on(epochs_before(spec, generation))?;
            let first = sealed.max(taken) + 1;
            if !truncate && first > 0 {
                return Err(Error::config(format!(
                    "a table of '{}' holds epochs up to {} of a query '{0}', and its checkpoint {} is not there. Point checkpoint_location at it. Where \
                     those are another query's, which writes the same table or quarantine table, give this one a name of its own. Or, to \
                     empty the tables and read everything anew, run with full_refresh=True.",
                    spec.name,
                    first - 1,
                    spec.checkpoint.display()
                )));
            }
            let log = EpochLog::new(spec.checkpoint.join(&generation.to_string()));
            let query = QueryFile {
                format_version: FORMAT_VERSION,
                query_name: spec.name.clone(),
                query_id: shared.id.lock().clone(),
                generation,
                cluster_id: cluster_id.clone(),
                topic_ids: topic_ids.clone(),
                created_at: now,
            };
            let (found, put) = rt.block_on(log.create("query.json", &query))?;
            *shared.id.lock() = found.query_id.clone();
            if put == Put::Exists {
                check_identity(spec, &found, &cluster_id, &topic_ids)?;
            }
            let start = make_start(spec, shared, &log, &sources, first, truncate, now)?;
            rt.block_on(spec.checkpoint.delete(RESET))?;
            (log, start, found)
        }
    };
    warn_about_start(&sources, &start_file, shared);
    let looked = Looked::now();
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
                spec.name,
                spec.checkpoint.display()
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
        check_tables(spec, before, shared)?;
    }
    let filled = filled(spec, before.as_ref());
    let plan = if filled.is_empty() { plan } else { self::plan(spec, &filled)? };
    let mut engine = Engine::new(plan, OnMalformed::Quarantine)?;
    let definition = definition(spec, &engine, &filled);
    let bytes = serde_json::to_vec(&definition).map_err(|e| Error::internal(e.to_string()))?;
    let hash: String = Sha256::digest(&bytes).iter().take(16).map(|b| format!("{b:02x}")).collect();

    rt.block_on(log.create(&format!("definition/{hash}.json"), &definition))?;

    // The tables, and what an earlier run left sealed but not done.
    if let Some(n) = newest {
        rt.block_on(refuse_lost_tables(spec, &log, n))?;
    }
    let mut committer = rt.block_on(Committer::open(spec))?;
    committer.calling = shared.calling.clone();
    let mut done = None;
    match newest {
        None => {
            if let Some(txn) = start_file.truncate_txn {
                rt.block_on(committer.truncate(spec, txn))?;
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
                    let commits = seal_to_commits(&spec.tables, &log, seal, &BTreeMap::new(), Some(&rt))?;
                    log::info!("{}: finishing epoch {n}, which an earlier run sealed", spec.name);
                    let finish = committer.commit(&log, seal, commits, now);
                    rt.block_on(shared.unless_stopped(GRACE, finish))?
                }
            });
        }
    }
    committer.known(done.as_ref());
    if let Some(before) = &before {
        rt.block_on(refuse_known_tables(spec, &committer, before, shared))?;
    }
    let last = newest.unwrap_or(start_file.first_epoch - 1);
    rt.block_on(committer.check(spec, last))?;
    rt.block_on(ownership::check_first(spec, &committer, &topic_ids))?;
    // Each run of a job says it; a store is asked once.
    if newest.is_none() || spec.tables.iter().all(|t| t.location.is_local()) {
        let found = rt.block_on(super::places::warnings(spec))?;
        shared.report.lock().warnings.extend(found);
    }
    {
        let mut report = shared.report.lock();
        for table in committer.tables.values() {
            report.notes.extend(rt.block_on(table.lock()).notes.iter().cloned());
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
            if let Some(to_fill) = before.as_ref().and_then(|b| filling(spec, seal, b)) {
                let (mut theirs, from) = to_fill.engine(spec, seal)?;
                let only = spec.only(&to_fill.tables);
                (state_files, files) = restore(&rt, &log, &mut theirs, &from, &only, before.as_ref())?;
                // The others' state stays as it is.
                for (name, kept) in &seal.state {
                    state_files.entry(name.clone()).or_insert_with(|| kept.clone());
                }
                (engine, fill) = (theirs, Some(to_fill));
            } else {
                (state_files, files) = restore(&rt, &log, &mut engine, seal, spec, before.as_ref())?;
            }
        }
    }
    let bounded = spec.trigger == super::Trigger::AvailableNow;
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
            shared.ask(move || fill.feed(sources))?
        }
        None => {
            let mut feed = shared.ask(move || Feed::new(sources, known, bounded))?;
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
        new_ids,
        filling: fill,
    })
}

/// A table that this query has written and that is not there any more: one that is made in its place would be in the way of a copy of it.
async fn refuse_lost_tables(spec: &QuerySpec, log: &EpochLog, newest: i64) -> Result<()> {
    let done = match log.read_done(newest).await? {
        Some(done) => Some(done),
        None => log.read_done(newest - 1).await?,
    };
    let Some(done) = done else { return Ok(()) };
    let known = spec.tables.iter().filter(|t| t.foreach.is_none() && done.tables.contains_key(&t.name));
    let look = known.map(|t| async move { Ok::<_, Error>((t, crate::sink::delta::exists(&t.location).await?)) });
    for (t, exists) in futures::future::try_join_all(look).await? {
        if !exists {
            let place = t.location.display();
            return Err(Error::data_loss(format!(
                "{place}: the table, which epoch {newest} of '{}' has written or is to write, is gone: there is no _delta_log. Restore the folder \
                 from a copy; or, to make the table again and read everything anew, run with full_refresh=True.",
                spec.name
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
async fn epochs_before(spec: &QuerySpec, generation: u64) -> Result<(i64, i64)> {
    let (mut sealed, mut taken) = (-1, -1);
    for g in 1..generation {
        let log = EpochLog::new(spec.checkpoint.join(&g.to_string()));
        sealed = sealed.max(log.newest_seal().await?.unwrap_or(-1));
    }
    let locations = spec.tables.iter().map(|t| (t.name.as_str(), &t.location)).chain([(QUARANTINE, &spec.quarantine)]);
    for (name, location) in locations {
        if let Some(table) = crate::sink::delta::open(location).await? {
            let state = table.snapshot().map_err(|e| Error::storage(e.to_string()))?;
            let txn = state.transaction_version(table.log_store().as_ref(), app(&spec.name, name)).await;
            taken = taken.max(txn.map_err(|e| Error::storage(e.to_string()))?.unwrap_or(-1));
        }
    }
    Ok((sealed, taken))
}

/// Says no, before anything is written, to a store without put-if-absent: that of a new checkpoint, and those of tables elsewhere, whose
/// logs rest on it as much. Local disks have ours.
pub async fn probe(spec: &QuerySpec) -> Result<()> {
    static PROBED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if newest(&spec.checkpoint).await?.is_none() {
        spec.checkpoint.probe("probe").await?;
    }
    let tables = spec.tables.iter().filter(|t| t.foreach.is_none()).map(|t| &t.location);
    for location in tables.chain([&spec.quarantine]).filter(|l| !l.is_local()) {
        let store = location.store();
        if store != spec.checkpoint.store() && !PROBED.lock().contains(&store) {
            location.probe("_delta_log/_bayou_probe").await?;
            PROBED.lock().insert(store);
        }
    }
    Ok(())
}

#[allow(clippy::too_many_arguments)]
fn make_start(
    spec: &QuerySpec,
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
    Ok(spec.runtime.block_on(log.create("start.json", &start))?.0)
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

/// Opens or makes one table; says which one when it cannot.
pub async fn ensure(spec: TableSpec) -> Result<Table> {
    Ok(Table::ensure(spec).await?.0)
}
