//! What changed between runs: which query a checkpoint belongs to, which tables it had, and which state is whose.

use super::compact::{FileInfo, needed_until};
use super::control::Shared;
use super::engine::Engine;
use super::run::QuerySpec;
use super::source::KafkaSource;
use crate::epoch::*;
use crate::position::TopicPartition;
use crate::window::TrackerState;
use crate::{Error, Result, state};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub(super) fn check_identity(
    spec: &QuerySpec,
    found: &QueryFile,
    cluster: &str,
    topic_ids: &BTreeMap<String, Option<String>>,
    sources: &[Arc<KafkaSource>],
) -> Result<()> {
    let place = spec.checkpoint.display();
    let way_out =
        "Use another checkpoint and other tables, or start over with reset(confirm=True) or full_refresh=True.";
    if found.query_name != spec.name {
        return Err(Error::config(format!(
            "{place} is the checkpoint of the query '{}', not of '{}'. {way_out}",
            found.query_name, spec.name
        )));
    }
    if found.cluster_id != cluster {
        let gone = match found.cluster_id.starts_with("embedded") {
            true => " That was an embedded broker, which keeps its data in memory only: it is gone with its last user.",
            false => "",
        };
        return Err(Error::config(format!(
            "{place}: the tables of '{}' were filled from the cluster {}, and this is {cluster}.{gone} {way_out}",
            spec.name, found.cluster_id
        )));
    }
    let before: Vec<&String> = found.topic_ids.keys().collect();
    let now: Vec<&String> = topic_ids.keys().collect();
    if before != now {
        return Err(Error::config(format!(
            "{place}: '{}' read the topics {before:?} before, and reads {now:?} now. {way_out}",
            spec.name
        )));
    }
    for (topic, id) in topic_ids {
        if let (Some(old), Some(new)) = (found.topic_ids.get(topic).and_then(Option::as_ref), id.as_ref())
            && old != new
        {
            let tolerant =
                sources.iter().filter(|s| s.topics.iter().any(|t| t.as_str() == topic)).all(|s| !s.fail_on_data_loss);
            if !tolerant {
                return Err(Error::data_loss(format!(
                    "the topic '{topic}' was deleted and made anew (its id was {old} and is {new}): its offsets start again, and what was not \
                     read is lost. {way_out}"
                )));
            }
        }
    }
    Ok(())
}

/// What changed between the runs, as far as it is allowed.
pub(super) fn check_tables(spec: &QuerySpec, before: &DefinitionFile, shared: &Shared) -> Result<()> {
    let mut notes = vec![];
    for t in &spec.tables {
        let Some(old) = before.tables.get(&t.name) else {
            match t.start.as_deref() {
                Some("now") => notes.push(format!("table '{}' is new and starts now", t.name)),
                Some("earliest") => {
                    notes.push(format!("table '{}' is new and is filled from the earliest offset first", t.name));
                }
                _ => {
                    return Err(Error::config(format!(
                        "table '{}' is new in a pipeline that has run before. Say start=\"now\" (only what comes from now on) or \
                         start=\"earliest\" (it is filled first), or run with full_refresh=True.",
                        t.name
                    )));
                }
            }
            continue;
        };
        let mode = t.mode_name().to_string();
        if old.mode != mode {
            return Err(Error::config(format!(
                "table '{}' was written in output_mode=\"{}\" and is now to be \"{mode}\". Use another table, or full_refresh=True.",
                t.name, old.mode
            )));
        }
        if old.steps != t.stream.steps() {
            notes.push(format!("table '{}': its steps have changed; rows written before stay as they are", t.name));
        }
    }
    for name in before.tables.keys().filter(|n| !spec.tables.iter().any(|t| t.name == **n)) {
        notes.push(format!("table '{name}' is no longer written"));
    }
    shared.report.lock().notes.extend(notes);
    Ok(())
}

/// Brings watermarks and groups back to where the seal left them.
pub(super) fn restore(
    rt: &tokio::runtime::Handle,
    log: &EpochLog,
    engine: &mut Engine,
    seal: &Seal,
    spec: &QuerySpec,
    before: Option<&DefinitionFile>,
) -> Result<(BTreeMap<String, StateFiles>, HashMap<String, FileInfo>)> {
    let partitions: Vec<TopicPartition> =
        seal.ranges.iter().map(|r| TopicPartition::new(&r.topic, r.partition)).collect();
    let trackers = engine.plan.trackers.iter().zip(&engine.plan.tracker_topics);
    for (tracker, ((name, watermark), topics)) in engine.trackers.iter_mut().zip(trackers) {
        let partitions: Vec<&TopicPartition> = partitions.iter().filter(|p| topics.contains(&p.topic)).collect();
        if let Some(state) = tracker_state(&seal.watermarks, name) {
            tracker.restore(watermark.clone(), state, |n| {
                partitions.iter().find(|p| p.to_string() == n).map(|p| (*p).clone())
            });
        }
    }
    let (mut kept, mut infos) = (BTreeMap::new(), HashMap::new());
    engine.begin();
    for operator in 0..engine.operators.len() {
        let name = engine.plan.operators[operator].name.clone();
        let Some(found) = earlier_name(engine, operator, seal, spec, before) else {
            refuse_lost_state(engine, operator, seal, spec, before)?;
            continue;
        };
        let files = &seal.state[&found];
        kept.insert(name, files.clone());
        let watermark = engine.watermark_of(operator);
        let op = &mut engine.operators[operator];
        let (description, schema) = (op.description(), op.state_schema());
        for file in files.base.iter().chain(&files.increments) {
            let bytes = rt.block_on(log.at.get(file))?.ok_or_else(|| {
                Error::storage(format!(
                    "the state file {}{file} of '{}' is gone. Restore it, or start over with reset(confirm=True).",
                    log.at.display(),
                    spec.name
                ))
            })?;
            let batches = state::decode(&bytes, &description, &schema, file)?;
            batches.iter().try_for_each(|b| op.restore(b))?;
            let rows = batches.iter().map(|b| b.num_rows()).sum();
            infos.insert(file.clone(), FileInfo { rows, needed_until: needed_until(&**op, &batches) });
        }
        op.forget(watermark)?;
    }
    Ok((kept, infos))
}

/// A watermark's state by its name; else by that of another over the same column and topics: without any, windows that were
/// closed would be open again.
pub(super) fn tracker_state<'a>(all: &'a BTreeMap<String, TrackerState>, name: &str) -> Option<&'a TrackerState> {
    fn base(name: &str) -> &str {
        name.split(['#', '\'']).next().unwrap_or(name)
    }
    all.get(name).or_else(|| all.iter().find(|(n, _)| base(n) == base(name)).map(|(_, state)| state))
}

/// The state of a table that goes on must go on as well.
fn refuse_lost_state(
    engine: &Engine,
    operator: usize,
    seal: &Seal,
    spec: &QuerySpec,
    before: Option<&DefinitionFile>,
) -> Result<()> {
    let Some(before) = before else { return Ok(()) };
    let uses = |i: usize| engine.plan.operators_of(i).contains(&operator);
    let known = |(i, t): &(usize, &super::run::TableOptions)| before.tables.contains_key(&t.name) && uses(*i);
    let Some((_, table)) = spec.tables.iter().enumerate().find(known) else { return Ok(()) };
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
        "the aggregation of table '{}' is another one than before, and its state cannot be carried over: it was \"{}\" and is \"{}\". \
         Write it to a new table, or start over with full_refresh=True.",
        table.name,
        had.join("\" and \""),
        engine.operators[operator].description()
    )))
}

/// Under which name the seal keeps an operator's state: an operator is called after the first table that uses it, and tables
/// come, go and change places.
fn earlier_name(
    engine: &Engine,
    operator: usize,
    seal: &Seal,
    spec: &QuerySpec,
    before: Option<&DefinitionFile>,
) -> Option<String> {
    let description = engine.operators[operator].description();
    let same = |name: &&String| {
        seal.state.contains_key(*name)
            && before.is_none_or(|b| b.operators.get(*name).is_none_or(|d| *d == description))
    };
    let own = &engine.plan.operators[operator].name;
    let users: Vec<&str> = spec
        .tables
        .iter()
        .enumerate()
        .filter(|(i, _)| engine.plan.operators_of(*i).contains(&operator))
        .map(|(_, t)| t.name.as_str())
        .collect();
    let table_of = |name: &str| name.split('+').next().unwrap_or_default().to_string();
    if users.contains(&table_of(own).as_str()) && same(&own) {
        return Some(own.clone());
    }
    let of_users = seal.state.keys().filter(|n| users.contains(&table_of(n).as_str()));
    of_users.into_iter().find(|n| same(n)).cloned().or_else(|| {
        // Its table is gone, and another one uses it still.
        let gone = |n: &&String| !spec.tables.iter().any(|t| t.name == table_of(n));
        let used_before = users.iter().any(|u| before.is_some_and(|b| b.tables.contains_key(*u)));
        let named = |n: &&String| before.is_some_and(|b| b.operators.get(*n) == Some(&description));
        seal.state.keys().filter(gone).find(|n| used_before && named(n)).cloned()
    })
}
