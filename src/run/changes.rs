//! What changed since the last run: the identity of the query, its tables, and the mapping of saved state to operators.

use super::Job;
use super::commit::Committer;
use super::control::Shared;
use super::files::{FileInfo, SET_ASIDE, latest};
use super::topics::TopicChange;
use super::within::shown;
use crate::engine::{Engine, SetAside};
use crate::epoch::*;
use crate::flow::Output;
use crate::flow::source::KafkaSource;
use crate::position::{Positions, Topic, TopicPartition};
use crate::sink::spark::plain_mode;
use crate::time::EventTime;
use crate::window::TrackerState;
use crate::{Error, Result, state};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(super) fn check_identity(job: &Job, found: &QueryFile, cluster: &str) -> Result<()> {
    let place = job.flow.checkpoint.display();
    let way_out = "Use a different checkpoint and different tables, or start over with full_refresh=True.";
    if found.query_name != job.flow.name {
        return Err(Error::config(format!(
            "{place} is the checkpoint of the query '{}', not of '{}'. {way_out}",
            found.query_name, job.flow.name
        )));
    }
    if found.cluster_id != cluster {
        let gone = match found.cluster_id.starts_with("embedded") {
            true => {
                " The old cluster was an embedded broker. Its data was only in memory and was lost when the last user of the broker ended."
            }
            false => "",
        };
        return Err(Error::config(format!(
            "{place}: the tables of '{}' were filled from the cluster {}, and this is {cluster}.{gone} {way_out}",
            job.flow.name, found.cluster_id
        )));
    }
    Ok(())
}

/// Topics that were deleted and recreated under the same name since they were last read.
pub(super) fn recreated_topics(
    known: &QueryFile,
    seal: Option<&Seal>,
    now: &BTreeMap<String, Option<String>>,
    positions: &Positions,
    sources: &[Arc<KafkaSource>],
) -> Result<Vec<Topic>> {
    let mut recreated = vec![];
    for (topic, id) in now {
        let before = seal.and_then(|s| s.topic_ids.get(topic)).or(known.topic_ids.get(topic).and_then(Option::as_ref));
        let (Some(old), Some(new)) = (before, id) else { continue };
        if old == new {
            continue;
        }
        let tolerant = sources.iter().filter(|s| s.topics.reads(&Topic::new(topic))).all(|s| !s.fail_on_data_loss);
        if !tolerant {
            let lost = positions.iter().filter(|(tp, _)| tp.topic.as_str() == topic);
            let lost: Vec<_> = lost.map(|(tp, at)| format!("{tp} from offset {} on", at.0)).collect();
            return Err(Error::data_loss(format!(
                "the topic '{topic}' was deleted and recreated (its id was {old} and is {new}). Its offsets start again, and messages that were not \
                 read are lost: {}. To read the new topic from its start and have the loss recorded, use fail_on_data_loss=False. To empty the \
                 tables and start over, run with full_refresh=True.",
                lost.join(", ")
            )));
        }
        recreated.push(Topic::new(topic));
    }
    Ok(recreated)
}

pub(super) async fn read_definition(log: &EpochLog, hash: &str) -> Result<DefinitionFile> {
    let name = format!("definition/{hash}.json");
    log.read(&name).await?.ok_or_else(|| gone(log, &name))
}

pub(super) fn gone(log: &EpochLog, what: &str) -> Error {
    Error::storage(format!(
        "{what} is gone from the checkpoint {}. Restore it from a copy, or start over with full_refresh=True.",
        log.at.display()
    ))
}

/// Refuses changes of the tables that are not allowed, and adds notes about the others to the report.
pub(super) fn check_tables(job: &Job, before: &DefinitionFile, shared: &Shared) -> Result<()> {
    let mut notes = vec![];
    for t in &job.flow.outputs {
        let Some(old) = before.tables.get(&t.name) else {
            match t.start.as_deref() {
                Some("now") => notes.push(format!("table '{}' is new and starts now", t.name)),
                Some("earliest") => {
                    notes.push(format!("table '{}' is new and is filled from the earliest offset first", t.name));
                }
                _ => {
                    return Err(Error::config(format!(
                        "table '{}' is new in a pipeline that has run before. Use start=\"now\" (only messages that come from now on) or \
                         start=\"earliest\" (the table is filled first), or run with full_refresh=True.",
                        t.name
                    )));
                }
            }
            continue;
        };
        let mode = t.mode_name().to_string();
        if plain_mode(&old.mode) != plain_mode(&mode) {
            return Err(Error::config(format!(
                "table '{}' was written in output_mode=\"{}\", and now output_mode is \"{mode}\". Use a different table, or full_refresh=True.",
                t.name, old.mode
            )));
        }
        check_keys(t, old)?;
        if old.steps != t.stream.steps() {
            notes.push(format!(
                "table '{}': its steps have changed. Rows that were written before do not change",
                t.name
            ));
        }
    }
    for name in before.tables.keys().filter(|n| !job.flow.outputs.iter().any(|t| t.name == **n)) {
        notes.push(format!("table '{name}' is no longer written"));
    }
    shared.report.lock().notes.extend(notes);
    Ok(())
}

/// In mode update, rows are found by their key columns. If a key column had a different name, no row would be found, and each group would get a
/// second row.
fn check_keys(t: &Output, old: &TableDefinition) -> Result<()> {
    if t.mode != crate::sink::OutputMode::Update || !t.to.keeps_rows() {
        return Ok(());
    }
    let known = crate::expr::parse_ddl(&old.schema)?;
    for key in t.stream.merge_columns()? {
        let name = t.stream.schema().field(key).name();
        if crate::expr::resolve_column(&crate::expr::quoted(name), &known).is_err() {
            return Err(Error::config(format!(
                "table '{}': its rows are merged by the key '{name}', which the table did not have before ({}). Existing rows would not be found, \
                 and would stay in the table together with the new rows. Keep the key's old name, write to a different table, or run with \
                 full_refresh=True.",
                t.name, old.schema
            )));
        }
    }
    Ok(())
}

/// Refuses a table, or warns about a table, that this query wrote before, that was then left out of the query, and that is now back.
pub(super) async fn refuse_known_tables(
    job: &Job,
    committer: &Committer,
    before: &DefinitionFile,
    shared: &Shared,
) -> Result<()> {
    for t in job.flow.outputs.iter().filter(|t| !before.tables.contains_key(&t.name)) {
        let Some(epoch) = committer.newest_txn(&t.name).await? else { continue };
        if t.start.as_deref() == Some("earliest") {
            return Err(Error::config(format!(
                "table '{}' was written by this query up to epoch {epoch} and then left out. Filling the table from the earliest offset would write \
                 those rows twice. Give the table a different name, or delete {} first, or run with full_refresh=True.",
                t.name,
                t.to.describe()
            )));
        }
        if t.mode != crate::sink::OutputMode::Append && t.to.keeps_rows() {
            return Err(Error::config(format!(
                "table '{}' was written by this query up to epoch {epoch} and then left out. In output_mode=\"{}\" the table would start again from \
                 nothing, and its earlier totals would be lost. Give the table a different name with start=\"earliest\", or run with full_refresh=True.",
                t.name,
                t.mode.name()
            )));
        }
        let text =
            format!("table '{}' was left out after epoch {epoch}: messages that came since then are not in it", t.name);
        shared.report.lock().warnings.push(text);
    }
    Ok(())
}

/// Restores watermarks and state from the seal.
pub(super) fn restore(
    rt: &tokio::runtime::Handle,
    log: &EpochLog,
    engine: &mut Engine,
    seal: &Seal,
    job: &Job,
    before: Option<&DefinitionFile>,
    topics: &TopicChange,
) -> Result<(BTreeMap<String, StateFiles>, HashMap<String, FileInfo>)> {
    let partitions: Vec<TopicPartition> = seal.ranges.iter().map(|r| r.place()).collect();
    for tracker in 0..engine.trackers.len() {
        let (name, watermark) = engine.plan.trackers[tracker].clone();
        let sources = &engine.plan.tracker_sources[tracker];
        let reads = |p: &&TopicPartition| sources.iter().any(|s| s.topics.has(p));
        let partitions: Vec<&TopicPartition> = partitions.iter().filter(reads).collect();
        let users: Vec<&str> = job
            .flow
            .outputs
            .iter()
            .enumerate()
            .filter(|(i, _)| engine.plan.trackers_of(*i).contains(&tracker))
            .map(|(_, t)| t.name.as_str())
            .collect();
        let found = earlier_tracker(&seal.watermarks, &name, &users, before, topics);
        match found {
            Some((same_column, state)) => engine.trackers[tracker].restore(watermark, &state, |n| {
                let known = partitions.iter().find(|p| p.to_string() == n).map(|p| (*p).clone());
                // If the watermark was over a different column, only its value is kept.
                known.filter(|_| same_column)
            }),
            None => continue,
        }
    }
    let (mut kept, mut infos) = (BTreeMap::new(), HashMap::new());
    let memory_limit = job.flow.memory_limit.unwrap_or_else(crate::memory::half_of_memory);
    engine.begin();
    for operator in 0..engine.operators.len() {
        let name = engine.plan.operators[operator].name.clone();
        let Some(found) = earlier_name(engine, operator, seal, job, before, topics) else {
            refuse_lost_state(engine, operator, seal, job, before)?;
            continue;
        };
        let files = &seal.state[&found];
        kept.insert(name, files.clone());
        // The operator's own watermark from the seal. The plan's watermark may be ahead of it, and windows between the two were not emitted yet.
        let watermark = files.watermark.or_else(|| engine.watermark_of(operator));
        engine.known_before(operator, watermark);
        let op = &mut engine.operators[operator];
        let (description, schema) = (op.description(), op.state_schema());
        for file in files.names() {
            let bytes = rt.block_on(log.read_file(file))?.ok_or_else(|| state_gone(log, file, job))?;
            let size = bytes.len();
            let mut needed = Some(EventTime(i64::MIN));
            for batch in state::decode(&bytes, &description, &schema, &shown(file))? {
                let batch = batch?;
                op.restore(&batch)?;
                needed = latest(needed, op.needed_until(&batch));
                if op.memory() > memory_limit {
                    op.shrink(memory_limit / 4 * 3)?;
                }
            }
            infos.insert(file.clone(), FileInfo { bytes: size, needed_until: needed });
        }
        op.forget(watermark)?;
    }
    if let Some(files) = seal.state.get(SET_ASIDE) {
        for file in files.names() {
            let bytes = rt.block_on(log.read_file(file))?.ok_or_else(|| state_gone(log, file, job))?;
            for batch in state::decode(&bytes, SetAside::DESCRIPTION, &SetAside::schema(), &shown(file))? {
                engine.set_aside.restore(&batch?)?;
            }
        }
        kept.insert(SET_ASIDE.into(), files.clone());
    }
    Ok((kept, infos))
}

fn state_gone(log: &EpochLog, file: &str, job: &Job) -> Error {
    Error::storage(format!(
        "the state file {}{file} of '{}' is gone. Restore the file, or start over with full_refresh=True.",
        log.at.display(),
        job.flow.name
    ))
}

/// The part of a watermark's name that has the column and the topics.
fn base(name: &str) -> &str {
    name.split([' ', '#', '\'']).next().unwrap_or(name)
}

/// The saved state of a watermark. First choice: the state of that name, if its tables had it. Otherwise: the furthest watermark that its tables
/// had, because a closed window must not open again. The flag says whether the found watermark is over the same column.
fn earlier_tracker(
    all: &BTreeMap<String, TrackerState>,
    name: &str,
    users: &[&str],
    before: Option<&DefinitionFile>,
    topics: &TopicChange,
) -> Option<(bool, TrackerState)> {
    let base = |name: &str| topics.masked(base(name));
    let of_users: Vec<&String> = users
        .iter()
        .filter_map(|u| before?.tables.get(*u))
        .flat_map(|t| &t.watermarks)
        .filter(|n| all.contains_key(*n))
        .collect();
    if of_users.is_empty() {
        // The tables are new, or the definition does not list watermarks.
        let silent =
            before.is_none_or(|b| users.iter().any(|u| b.tables.get(*u).is_some_and(|t| t.watermarks.is_empty())));
        let other =
            || all.iter().filter(|(n, _)| silent && base(n) == base(name)).map(|(_, s)| s).max_by_key(|s| s.watermark);
        return all.get(name).or_else(other).map(|s| (true, s.clone()));
    }
    if of_users.iter().any(|n| *n == name) {
        return all.get(name).map(|s| (true, s.clone()));
    }
    let furthest = |same: bool| {
        let theirs = of_users.iter().filter(|n| !same || base(n) == base(name)).filter_map(|n| all.get(*n));
        theirs.max_by_key(|s| s.watermark).cloned().map(|s| (same, s))
    };
    furthest(true).or_else(|| furthest(false))
}

/// Refuses a run that would continue a table without the state of its aggregation.
fn refuse_lost_state(
    engine: &Engine,
    operator: usize,
    seal: &Seal,
    job: &Job,
    before: Option<&DefinitionFile>,
) -> Result<()> {
    let Some(before) = before else { return Ok(()) };
    let uses = |i: usize| engine.plan.operators_of(i).contains(&operator);
    let known = |(i, t): &(usize, &Output)| before.tables.contains_key(&t.name) && uses(*i);
    let Some((_, table)) = job.flow.outputs.iter().enumerate().find(known) else { return Ok(()) };
    let own = |n: &&String| n.split('+').next() == Some(&table.name);
    let had: Vec<&str> = before
        .operators
        .iter()
        .filter(|(n, _)| own(n) && seal.state.get(*n).is_some_and(|f| f.groups > 0))
        .map(|(_, description)| description.as_str())
        .collect();
    if had.is_empty() {
        return Ok(());
    }
    Err(Error::config(format!(
        "the aggregation of table '{}' has changed, and its state cannot be carried over: the aggregation was \"{}\" and is \"{}\". \
         Write it to a new table, or start over with full_refresh=True.",
        table.name,
        had.join("\" and \""),
        engine.operators[operator].description()
    )))
}

/// The name under which the seal keeps an operator's state. Candidates, in this order: the operator's own name; the name of the same steps under
/// a different table; and, if rules or columns have changed, the only state of its tables that has the same stateful steps.
fn earlier_name(
    engine: &Engine,
    operator: usize,
    seal: &Seal,
    job: &Job,
    before: Option<&DefinitionFile>,
    topics: &TopicChange,
) -> Option<String> {
    let plan = &engine.plan.operators;
    let description = engine.operators[operator].description();
    let (own, signature) = (&plan[operator].name, &plan[operator].signature);
    let same = |name: &String| {
        seal.state.contains_key(name) && before.is_none_or(|b| b.operators.get(name).is_none_or(|d| *d == description))
    };
    if let Some(known) = [own, &plan[operator].name_before].into_iter().find(|n| same(n)) {
        return Some(known.clone());
    }
    let users: Vec<&str> = job
        .flow
        .outputs
        .iter()
        .enumerate()
        .filter(|(i, _)| engine.plan.operators_of(*i).contains(&operator))
        .map(|(_, t)| t.name.as_str())
        .collect();
    let part = |name: &str, i: usize| name.split('+').nth(i).unwrap_or_default().to_string();
    let known = |table: &str| before.is_some_and(|b| b.tables.contains_key(table));
    let had = |name: &String| {
        // State that belongs to a different operator of this plan is not taken.
        let taken = plan.iter().any(|o| o.name == *name || o.name_before == *name);
        !taken && same(name) && users.iter().any(|u| known(u))
    };
    let hashes = [part(own, 1), part(&plan[operator].name_before, 1)];
    let twin = seal.state.keys().find(|n| hashes.contains(&part(n, 1)) && had(n));
    let alike: Vec<&String> = seal
        .state
        .keys()
        .filter(|n| users.contains(&part(n, 0).as_str()) && had(n))
        .filter(|n| {
            before.is_none_or(|b| {
                b.signatures.get(*n).is_none_or(|s| s == signature || topics.masked(s) == topics.masked(signature))
            })
        })
        .collect();
    match (twin, &alike[..]) {
        (Some(twin), _) => Some(twin.clone()),
        (None, [one]) => Some((*one).clone()),
        // If two operators of the same kind have both changed, their states cannot be distinguished.
        (None, _) => None,
    }
}
