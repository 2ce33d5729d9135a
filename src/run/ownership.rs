//! Whose a table's rows are: a query does not take those of others for its own, nor read a topic into a table a second time under another
//! name, unless the user says so.

use super::Job;
use super::commit::Committer;
use crate::epoch::{EpochLog, QueryFile, newest_generation};
use crate::flow::QUARANTINE;
use crate::sink::OutputMode;
use crate::storage::Location;
use crate::{Error, Result};
use std::collections::BTreeMap;

/// The query and the table of a transaction of bayou's.
fn of_bayou(app: &str) -> Option<(&str, &str)> {
    app.strip_prefix("bayou/")?.split_once('/')
}

/// Tables that this query writes for the first time.
pub(super) async fn check_first(
    job: &Job,
    committer: &Committer,
    topics: &BTreeMap<String, Option<String>>,
) -> Result<()> {
    if job.flow.accept_changes {
        return Ok(());
    }
    for (t, location) in job.flow.places() {
        if committer.knows(&t.name) || committer.newest_txn(&t.name).await?.is_some() {
            continue;
        }
        let Some(writer) = committer.writers.get(&t.name) else { continue };
        if !writer.lock().await.has_rows().await? {
            continue;
        }
        let place = location.display();
        if t.mode != OutputMode::Append {
            let does = match t.mode {
                OutputMode::Complete => "would remove them",
                _ => "would replace those with the keys of its groups",
            };
            return Err(Error::config(format!(
                "{place}: the table has rows that '{}' has not written, and output_mode=\"{}\" {does}. Write to another table; or say \
                 accept_changes=True to take it over as it is, or full_refresh=True with accept_changes=True to empty it first.",
                job.flow.name,
                t.mode.name()
            )));
        }
        for app in t.sink(&job.clock)?.writers().await?.apps {
            let Some((query, name)) = of_bayou(&app) else { continue };
            if query == job.flow.name || name == QUARANTINE {
                continue;
            }
            let read = match read_by(job, location, query).await? {
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
                "{place}: the table was filled by the query '{query}', {read}, and '{}' would write the same messages once more. If it is the same \
                 query under another name, give it its old one (query_name=\"{query}\", or the pipeline's name); where two queries share a table \
                 on purpose, say accept_changes=True.",
                job.flow.name
            )));
        }
    }
    Ok(())
}

/// The topics of another query, by its checkpoint in one of the places where it may be.
async fn read_by(job: &Job, table: &Location, query: &str) -> Result<Option<Vec<String>>> {
    let beside = |l: &Location| l.parent().map(|p| p.join(query));
    let places = [
        Some(table.join("_bayou").join(query)),
        table.parent().map(|p| p.join("_bayou").join(query)),
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

/// The one table of `write_delta` is called after its folder. Where the folder was moved, with the checkpoint in it, the query goes on with
/// the table under the name that it has in the checkpoint.
pub(super) async fn under_its_old_name(job: &Job) -> Result<Option<Job>> {
    let [output] = &job.flow.outputs[..] else { return Ok(None) };
    let Some(place) = output.to.place() else { return Ok(None) };
    if !job.flow.checkpoint.url().path().starts_with(place.url().path()) {
        return Ok(None);
    }
    let Some((generation, true)) = crate::epoch::newest(&job.flow.checkpoint).await? else { return Ok(None) };
    let log = EpochLog::new(job.flow.checkpoint.join(&generation.to_string()));
    let Some(newest) = log.newest_seal().await? else { return Ok(None) };
    let Some(seal) = log.read_seal(newest).await? else { return Ok(None) };
    let mut names = seal.tables.keys().filter(|n| *n != QUARANTINE);
    let (Some(old), None) = (names.next(), names.next()) else { return Ok(None) };
    if *old == output.name {
        return Ok(None);
    }
    let mut job = job.clone();
    job.flow.outputs[0].name = old.clone();
    Ok(Some(job))
}

/// Tables that are about to be emptied.
pub(super) async fn check_refresh(job: &Job) -> Result<()> {
    if job.flow.accept_changes {
        return Ok(());
    }
    let mut all = vec![(QUARANTINE, &job.flow.quarantine, job.flow.quarantine_sink(&job.clock))];
    for (output, location) in job.flow.places() {
        all.push((output.name.as_str(), location, output.sink(&job.clock)?));
    }
    for (name, location, sink) in all {
        if !sink.exists().await? {
            continue;
        }
        let own = super::commit::app(&job.flow.name, name);
        let found = sink.writers().await?;
        let theirs = found.apps.iter().find(|a| a.starts_with("bayou/") && **a != own);
        let who = match (theirs.and_then(|a| of_bayou(a)), found.others) {
            (Some((query, _)), _) => format!("the query '{query}'"),
            (None, true) => "another writer".into(),
            (None, false) => continue,
        };
        return Err(Error::config(format!(
            "{}: full_refresh empties the table, and {who} has written rows to it as well. To empty it all the same, say \
             full_refresh=True, accept_changes=True; or write to a table of its own.",
            location.display()
        )));
    }
    Ok(())
}
