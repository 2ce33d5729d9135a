//! Opens the targets and the reader of a run.

use super::identity::Cluster;
use super::recover::{Found, Restored, last_timestamps};
use crate::epoch::*;
use crate::flow::Output;
use crate::position::{Offset, Topic};
use crate::run::changes::refuse_known_tables;
use crate::run::commit::Committer;
use crate::run::control::Shared;
use crate::run::feed::{Before, Feed, LastRead};
use crate::run::{Job, ownership, places};
use crate::{Error, Result};
use parking_lot::Mutex;
use std::collections::BTreeSet;

/// Refuses a store without put-if-absent, before anything is written. The store of a new checkpoint is probed, and so are the stores of tables in
/// other places, because Delta logs need put-if-absent as well. Local disks are not probed: bayou has its own put-if-absent for them.
pub(crate) async fn probe(job: &Job) -> Result<()> {
    static PROBED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if newest(&job.flow.checkpoint).await?.is_none() {
        job.flow.checkpoint.probe("probe").await?;
    }
    let tables = job.flow.places().map(|(_, location)| location);
    for location in tables.chain(job.flow.quarantine.place()).filter(|l| !l.is_local()) {
        let store = location.store();
        if store != job.flow.checkpoint.store() && !PROBED.lock().contains(&store) {
            location.probe("_delta_log/_bayou_probe").await?;
            PROBED.lock().insert(store);
        }
    }
    Ok(())
}

/// Refuses a run if a table that this query has written is gone. A new table in its place would prevent the user from restoring a copy.
pub(super) async fn refuse_lost_tables(job: &Job, log: &EpochLog, newest: i64) -> Result<()> {
    let done = match log.read_done(newest).await? {
        Some(done) => Some(done),
        None => log.read_done(newest - 1).await?,
    };
    let Some(done) = done else { return Ok(()) };
    let known = |o: &&Output| o.to.is_table() && done.tables.contains_key(&o.name);
    for output in job.flow.outputs.iter().filter(known) {
        let Some(location) = output.to.place() else {
            refuse_lost_by_spark(job, output, newest).await?;
            continue;
        };
        let was_entered = done.tables.get(&output.name).is_some_and(|t| t.catalog.is_some());
        let why = match location.entry() {
            _ if !output.sink(&job.clock)?.exists().await? => Some("there is no _delta_log"),
            Some(entry) if was_entered && entry.registered().is_none() => Some(
                "Unity Catalog does not have the table any more, because the table was dropped or renamed; its files still exist",
            ),
            _ => None,
        };
        if let Some(why) = why {
            let place = location.display();
            let restore = match location.entry() {
                Some(entry) => format!(
                    "Register the table again: CREATE TABLE {} USING DELTA LOCATION '{}'",
                    entry.name(),
                    location.address().trim_end_matches('/')
                ),
                None => "Restore the folder from a copy".into(),
            };
            return Err(Error::data_loss(format!(
                "{place}: the table is gone: {why}, and epoch {newest} of '{}' has written to the table or must write to it. {restore}. Or, to \
                 create the table again and read everything again from the start, run with full_refresh=True.",
                job.flow.name
            )));
        }
    }
    Ok(())
}

async fn refuse_lost_by_spark(job: &Job, output: &Output, newest: i64) -> Result<()> {
    if output.sink(&job.clock)?.exists().await? {
        return Ok(());
    }
    Err(Error::data_loss(format!(
        "{}: the table is gone: Spark does not find it, and epoch {newest} of '{}' has written to the table or must write to it. Restore the table: \
         on Databricks, UNDROP TABLE restores it within 7 days. Or, to create the table again and read everything again from the start, run with \
         full_refresh=True.",
        output.to.describe(),
        job.flow.name
    )))
}

/// Refuses targets that disagree with the checkpoint, and adds notes and warnings about the others to the report.
pub(super) fn check(
    job: &Job,
    shared: &Shared,
    committer: &mut Committer,
    found: &Found,
    last: i64,
    cluster: &Cluster,
) -> Result<()> {
    let rt = &job.runtime;
    if let Some(before) = &found.definition {
        rt.block_on(refuse_known_tables(job, committer, before, shared))?;
    }
    rt.block_on(committer.check(job, last))?;
    rt.block_on(ownership::check_first(job, committer, &cluster.topic_ids))?;
    // On local disks each run warns. On a store only the first run asks, because the requests cost time.
    if found.newest.is_none() || job.flow.places().all(|(_, at)| at.is_local()) {
        let warnings = rt.block_on(places::warnings(job))?;
        shared.report.lock().warnings.extend(warnings);
    }
    let mut report = shared.report.lock();
    for writer in committer.writers.values() {
        report.notes.extend(rt.block_on(writer.lock()).notes());
    }
    Ok(())
}

/// The reader. A topic that is new to the query starts where the user says. Otherwise it starts where the newest seal ends.
pub(super) fn feed(job: &Job, shared: &Shared, restored: &Restored, found: &Found, cluster: &Cluster) -> Result<Feed> {
    let (clock, sources) = (job.clock.clone(), restored.engine.plan.kafka_sources());
    let mut feed = match &restored.filling {
        Some(_) if !found.recreated.is_empty() => {
            return Err(Error::data_loss(format!(
                "the topic '{}' was deleted and recreated before a new table was filled from its earliest offset. Leave the table out, or \
                 start over with full_refresh=True.",
                found.recreated[0]
            )));
        }
        Some(filling) => {
            let filling = filling.clone();
            shared.ask(move || filling.feed(sources, clock))?
        }
        None => {
            let mut known =
                Before { positions: found.positions.clone(), recreated: found.recreated.clone(), ..Before::default() };
            for r in found.seal.iter().flat_map(|s| &s.ranges) {
                if let Some(offset) = r.last_offset {
                    let read = LastRead { offset: Offset(offset), leader_epoch: r.leader_epoch };
                    known.read.insert(r.place(), read);
                }
            }
            let bounded = job.flow.trigger == crate::flow::Trigger::AvailableNow;
            let change = found.topics.clone();
            let mut feed = shared.ask(move || {
                known.positions.extend(change.starts(&sources)?);
                Feed::new(sources, known, bounded, clock)
            })?;
            feed.last_timestamp = found.seal.as_ref().map(last_timestamps).unwrap_or_default();
            feed
        }
    };
    feed.topic_ids = cluster.topic_ids.iter().map(|(t, id)| (Topic::new(t), id.clone())).collect();
    Ok(feed)
}
