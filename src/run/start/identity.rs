//! The identity of a query: its cluster, its topics, and the generation of its checkpoint, which is continued or created.

use crate::epoch::*;
use crate::flow::QUARANTINE;
use crate::flow::source::KafkaSource;
use crate::position::Topic;
use crate::run::changes::{check_identity, gone};
use crate::run::commit::app;
use crate::run::control::Shared;
use crate::run::feed::{Feed, one_connection};
use crate::run::{Job, ownership};
use crate::storage::Put;
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The ids of the cluster and of the topics that are read.
pub(super) struct Cluster {
    pub id: String,
    pub topic_ids: BTreeMap<String, Option<String>>,
}

/// The generation that this run continues.
pub(super) struct Generation {
    pub log: EpochLog,
    pub start: StartFile,
    pub query: QueryFile,
}

fn topics(sources: &[Arc<KafkaSource>]) -> Result<BTreeSet<Topic>> {
    let mut out = BTreeSet::new();
    for source in sources {
        out.extend(source.topics.topics(&source.connection)?);
    }
    Ok(out)
}

pub(super) fn ask(sources: &[Arc<KafkaSource>], shared: &Shared) -> Result<Cluster> {
    let connection = one_connection(sources)?;
    let sources = sources.to_vec();
    shared.ask(move || {
        let id = connection.cluster_id()?;
        let mut topic_ids = BTreeMap::new();
        for topic in topics(&sources)? {
            topic_ids.insert(topic.to_string(), connection.topic_id(&topic)?);
        }
        Ok(Cluster { id, topic_ids })
    })
}

pub(super) fn find(job: &Job, shared: &Shared, sources: &[Arc<KafkaSource>], cluster: &Cluster) -> Result<Generation> {
    let rt = &job.runtime;
    // The RESET file is left by reset(), or by a full refresh that did not finish. It is deleted when the new generation exists.
    let full_refresh = job.flow.full_refresh || rt.block_on(job.flow.checkpoint.exists(RESET))?;
    let generation = match full_refresh {
        true => rt.block_on(newest(&job.flow.checkpoint))?.map(|(generation, _)| generation),
        false => rt.block_on(newest_generation(&job.flow.checkpoint))?,
    };
    match generation {
        Some(g) if !full_refresh => go_on(job, shared, sources, cluster, g),
        Some(g) => begin(job, shared, sources, cluster, g + 1, true),
        None => begin(job, shared, sources, cluster, 1, full_refresh),
    }
}

/// Continues the generation that earlier runs created.
fn go_on(job: &Job, shared: &Shared, sources: &[Arc<KafkaSource>], cluster: &Cluster, g: u64) -> Result<Generation> {
    let rt = &job.runtime;
    let log = EpochLog::new(job.flow.checkpoint.join(&g.to_string()));
    let query: QueryFile = rt.block_on(log.read("query.json"))?.ok_or_else(|| gone(&log, "query.json"))?;
    check_identity(job, &query, &cluster.id)?;
    *shared.id.lock() = query.query_id.clone();
    let start: Option<StartFile> = rt.block_on(log.read("start.json"))?;
    // If start.json is missing, a run died between the two files. Such a run has read nothing yet.
    let start = match start {
        Some(s) => s,
        None => {
            let (sealed, taken) = rt.block_on(epochs_before(job, g + 1))?;
            if taken > sealed {
                return Err(Error::config(format!(
                    "a table of '{}' holds epoch {taken} of this query, and the checkpoint {} has neither a seal nor a start.json: some of its \
                     files are missing. Restore these files. Or, to empty the tables and read everything again from the start, run with full_refresh=True.",
                    job.flow.name,
                    log.at.display()
                )));
            }
            make_start(job, shared, &log, sources, sealed + 1, g > 1)?
        }
    };
    Ok(Generation { log, start, query })
}

/// Creates a new generation. With `truncate` the targets are emptied first.
fn begin(
    job: &Job,
    shared: &Shared,
    sources: &[Arc<KafkaSource>],
    cluster: &Cluster,
    generation: u64,
    truncate: bool,
) -> Result<Generation> {
    let (rt, now) = (&job.runtime, job.clock.now());
    if truncate {
        rt.block_on(ownership::check_refresh(job))?;
        // After the fence there is no way back. If this run does not finish, the RESET file makes the next run start over too.
        rt.block_on(start_over(&job.flow.checkpoint))?;
    }
    if generation > 1 {
        let old = EpochLog::new(job.flow.checkpoint.join(&(generation - 1).to_string()));
        let sealed = rt.block_on(sealed_before(job, generation - 1))?;
        rt.block_on(old.fence(now, sealed + 1))?;
    }
    if !truncate {
        for output in &job.flow.outputs {
            rt.block_on(output.sink(&job.clock)?.refuse_taken(&app(&job.flow.name, &output.name)))?;
        }
    }
    let (sealed, taken) = rt.block_on(epochs_before(job, generation))?;
    let first = sealed.max(taken) + 1;
    if !truncate && first > 0 {
        return Err(Error::config(format!(
            "a table of '{}' holds epochs up to {} of a query '{0}', and its checkpoint {} is missing. If the checkpoint is in a different place, \
             set checkpoint_location to that place. If the epochs come from a different query that writes the same table or quarantine table, give \
             this query a different name. Or, to empty the tables and read everything again from the start, run with full_refresh=True.",
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
        cluster_id: cluster.id.clone(),
        topic_ids: cluster.topic_ids.clone(),
        created_at: now,
    };
    let (found, put) = rt.block_on(log.create("query.json", &query))?;
    *shared.id.lock() = found.query_id.clone();
    if put == Put::Exists {
        check_identity(job, &found, &cluster.id)?;
    }
    let start = make_start(job, shared, &log, sources, first, truncate)?;
    rt.block_on(job.flow.checkpoint.delete(RESET))?;
    Ok(Generation { log, start, query: found })
}

/// The newest epoch that earlier generations sealed, and the newest epoch that a table has committed. −1 if there is none.
async fn epochs_before(job: &Job, generation: u64) -> Result<(i64, i64)> {
    let (sealed, mut taken) = (sealed_before(job, generation).await?, -1);
    let mut sinks = vec![(QUARANTINE, job.flow.quarantine_sink(&job.clock))];
    for output in &job.flow.outputs {
        sinks.push((&output.name, output.sink(&job.clock)?));
    }
    for (name, sink) in sinks {
        taken = taken.max(sink.newest_epoch(&app(&job.flow.name, name)).await?.unwrap_or(-1));
    }
    Ok((sealed, taken))
}

/// The newest epoch that earlier generations sealed. −1 if there is none.
async fn sealed_before(job: &Job, generation: u64) -> Result<i64> {
    let mut sealed = -1;
    for g in 1..generation {
        let log = EpochLog::new(job.flow.checkpoint.join(&g.to_string()));
        sealed = sealed.max(log.newest_seal().await?.unwrap_or(-1));
    }
    Ok(sealed)
}

fn make_start(
    job: &Job,
    shared: &Shared,
    log: &EpochLog,
    sources: &[Arc<KafkaSource>],
    first: i64,
    truncate: bool,
) -> Result<StartFile> {
    let of = sources.to_vec();
    let positions = shared.ask(move || Feed::starts(&of))?;
    let start = StartFile {
        format_version: FORMAT_VERSION,
        // Emptying the tables uses up one epoch number.
        first_epoch: first + i64::from(truncate),
        positions: position_map(&positions),
        starting_offsets: starting(sources),
        clock: job.clock.now(),
        truncate_txn: truncate.then_some(first),
    };
    Ok(job.runtime.block_on(log.create("start.json", &start))?.0)
}

fn starting(sources: &[Arc<KafkaSource>]) -> serde_json::Value {
    sources.iter().map(|s| serde_json::to_value(&s.starting).unwrap_or_default()).collect()
}

pub(super) fn warn_about_start(sources: &[Arc<KafkaSource>], start: &StartFile, shared: &Shared) {
    if starting(sources) != start.starting_offsets {
        let text = "starting_offsets differs from the first run's and is ignored: the query continues where it stopped. To start over, run with full_refresh=True.";
        log::warn!("{text}");
        shared.report.lock().warnings.push(text.into());
    }
}
