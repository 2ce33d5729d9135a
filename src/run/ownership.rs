//! Which query wrote a table's rows. Without the user's consent a query does not take over rows of other writers, and does not read a topic into
//! the same table a second time under a different name.

use super::Job;
use super::commit::Committer;
use crate::epoch::{EpochLog, QueryFile, newest_generation};
use crate::flow::QUARANTINE;
use crate::flow::places::checkpoint_in;
use crate::sink::OutputMode;
use crate::storage::Location;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// The query and the table of a transaction that bayou wrote.
fn of_bayou(app: &str) -> Option<(&str, &str)> {
    app.strip_prefix("bayou/")?.split_once('/')
}

/// Checks tables that this query writes for the first time.
pub(super) async fn check_first(
    job: &Job,
    committer: &Committer,
    topics: &BTreeMap<String, Option<String>>,
) -> Result<()> {
    if job.flow.accept_changes {
        return Ok(());
    }
    for t in job.flow.outputs.iter().filter(|t| t.to.is_table()) {
        if committer.knows(&t.name) || committer.newest_txn(&t.name).await?.is_some() {
            continue;
        }
        let Some(writer) = committer.writers.get(&t.name) else { continue };
        if !writer.lock().await.has_rows().await? {
            continue;
        }
        let place = t.to.describe();
        if t.mode != OutputMode::Append {
            let does = match t.mode {
                OutputMode::Complete => "would remove them",
                _ => "would replace the rows that have the keys of its groups",
            };
            return Err(Error::config(format!(
                "{place}: the table has rows that '{}' did not write, and output_mode=\"{}\" {does}. Write to a different table. Or use \
                 accept_changes=True to take the table over unchanged, or full_refresh=True with accept_changes=True to empty it first.",
                job.flow.name,
                t.mode.name()
            )));
        }
        for app in t.sink(&job.clock)?.writers().await?.apps {
            let Some((query, name)) = of_bayou(&app) else { continue };
            if query == job.flow.name || name == QUARANTINE {
                continue;
            }
            let read = match read_by(job, t.to.place(), query).await? {
                Some(theirs) => {
                    let same: Vec<&String> = topics.keys().filter(|t| theirs.contains(*t)).collect();
                    if same.is_empty() {
                        continue;
                    }
                    format!("which reads {same:?} as well")
                }
                None => "whose checkpoint is not found here".into(),
            };
            return Err(Error::config(format!(
                "{place}: the table was filled by the query '{query}', {read}, and '{}' would write the same messages once more. If this is the same \
                 query under a different name, use its old name (query_name=\"{query}\", or the pipeline's name). If two queries share the table \
                 on purpose, use accept_changes=True.",
                job.flow.name
            )));
        }
    }
    Ok(())
}

/// The topics of a different query. They are read from its checkpoint, which is searched in the usual locations.
async fn read_by(job: &Job, table: Option<&Location>, query: &str) -> Result<Option<Vec<String>>> {
    let beside = |l: &Location| l.parent().map(|p| p.join(query));
    let places = [
        table.map(|table| checkpoint_in(table, query)),
        table.and_then(Location::parent).map(|p| checkpoint_in(&p, query)),
        beside(&job.flow.checkpoint),
    ];
    for place in places.into_iter().flatten() {
        let Some(generation) = newest_generation(&place).await? else { continue };
        let log = EpochLog::new(place.join(&generation.to_string()));
        if let Some(file) = log.read::<QueryFile>("query.json").await? {
            return Ok(Some(file.topic_ids.into_keys().collect()));
        }
    }
    Ok(None)
}

/// The single table of `write_delta` is named after its folder. If the folder was moved together with the checkpoint in it, the query continues
/// with the table's name from the checkpoint.
pub(super) async fn under_its_old_name(job: &Job) -> Result<Option<Job>> {
    let [output] = &job.flow.outputs[..] else { return Ok(None) };
    let Some(place) = output.to.place() else { return Ok(None) };
    if !job.flow.checkpoint.url().path().starts_with(place.url().path()) {
        return Ok(None);
    }
    let Some((generation, true)) = crate::epoch::newest(&job.flow.checkpoint).await? else { return Ok(None) };
    let log = EpochLog::new(job.flow.checkpoint.join(&generation.to_string()));
    let Some(newest) = log.newest_seal().await? else { return Ok(None) };
    let seal = match job.flow.full_refresh {
        true => log.readable_seal(newest).await?,
        false => log.read_seal(newest).await?,
    };
    let Some(seal) = seal else { return Ok(None) };
    let mut names = seal.tables.keys().filter(|n| *n != QUARANTINE);
    let (Some(old), None) = (names.next(), names.next()) else { return Ok(None) };
    if *old == output.name {
        return Ok(None);
    }
    let mut job = job.clone();
    job.flow.outputs[0].name = old.clone();
    Ok(Some(job))
}

/// Checks tables that are about to be emptied.
pub(super) async fn check_refresh(job: &Job) -> Result<()> {
    if job.flow.accept_changes {
        return Ok(());
    }
    let mut all = vec![(QUARANTINE, job.flow.quarantine.describe(), job.flow.quarantine_sink(&job.clock))];
    for output in job.flow.outputs.iter().filter(|o| o.to.is_table()) {
        all.push((output.name.as_str(), output.to.describe(), output.sink(&job.clock)?));
    }
    for (name, place, sink) in all {
        if !sink.exists().await? {
            continue;
        }
        let own = super::commit::app(&job.flow.name, name);
        let found = sink.writers().await?;
        let theirs = found.apps.iter().find(|a| a.starts_with("bayou/") && **a != own);
        let who = match (theirs.and_then(|a| of_bayou(a)), found.others) {
            (Some((query, _)), _) => format!("the query '{query}'"),
            (None, true) => "a different writer".into(),
            (None, false) => continue,
        };
        return Err(Error::config(format!(
            "{place}: full_refresh empties the table, and {who} has written rows to it as well. To empty the table anyway, use \
             full_refresh=True, accept_changes=True. Or write to a different table."
        )));
    }
    Ok(())
}
