//! Progress of an epoch, in the words of Spark's StreamingQueryProgress.

use super::Job;
use super::control::Shared;
use super::start::Started;
use crate::engine::{Engine, EpochCounts};
use crate::epoch::{Seal, position_map};
use crate::progress::{Event, RuleTotals, tell};
use crate::time::EventTime;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long an epoch took.
pub(super) struct Durations {
    /// Reading, decoding and computing, without the time in which there was nothing to do.
    pub worked: Duration,
    /// Reading joined Delta tables. None: there are none.
    pub tables: Option<Duration>,
    pub staged: Duration,
    pub sealed: Duration,
    pub waited: Duration,
    /// From the end of the epoch before to the end of this one.
    pub total: Duration,
}

/// The counts that a seal has of its epoch, and of all epochs so far.
pub(super) fn counts(engine: &Engine, c: &EpochCounts, totals: &RuleTotals) -> Value {
    let late: BTreeMap<&str, u64> =
        engine.plan.operators.iter().map(|o| o.name.as_str()).zip(c.operators.iter().map(|o| o.late)).collect();
    json!({
        "messages": c.messages,
        "rows": c.rows,
        "malformed": c.malformed,
        "tombstones": c.tombstones,
        "unknownFields": c.unknown_fields,
        "dropped": c.dropped,
        "filtered": c.filtered,
        "quarantined": c.quarantined,
        "failedRows": c.failed_rows,
        "late": late,
        "rules": totals.list(),
    })
}

fn rate(n: u64, d: Duration) -> f64 {
    let s = d.as_secs_f64();
    if s > 0.0 { n as f64 / s } else { 0.0 }
}

/// For each partition, how many messages are not read yet.
fn behind(at: &Started) -> impl Iterator<Item = u64> {
    let ends = at.feed.targets.as_ref().unwrap_or(&at.feed.ends);
    at.feed.positions.iter().map(|(tp, o)| ends.get(tp).map_or(0, |e| (e.0 - o.0).max(0) as u64))
}

#[allow(clippy::too_many_arguments)]
pub(super) fn epoch(
    job: &Job,
    shared: &Shared,
    at: &Started,
    seal: &Seal,
    c: &EpochCounts,
    written: &BTreeMap<String, u64>,
    d: Durations,
) -> Value {
    let by = |pick: fn(&crate::epoch::Range) -> i64| {
        let mut out: BTreeMap<&str, BTreeMap<i32, i64>> = BTreeMap::new();
        for r in &seal.ranges {
            out.entry(r.topic.as_str()).or_default().insert(r.partition, pick(r));
        }
        out
    };
    let ms = |d: Duration| d.as_millis() as u64;
    // As in Spark, a trigger's execution does not include the wait for the trigger: the rate shows how much more the query could do.
    let busy = d.total.saturating_sub(d.waited);
    let (input_rate, processed_rate) = (rate(c.messages, d.total), rate(c.messages, busy));
    let engine = &at.engine;
    let mut event_time = serde_json::Map::new();
    if let Some(w) = engine.trackers.iter().filter_map(|t| t.watermark).min() {
        event_time.insert("watermark".into(), w.rfc3339().into());
    }
    if let (Some(low), Some(high)) = (c.event_time_min, c.event_time_max) {
        event_time.insert("min".into(), low.rfc3339().into());
        event_time.insert("max".into(), high.rfc3339().into());
        event_time.insert(
            "avg".into(),
            EventTime((c.event_time_sum / i128::from(c.event_times.max(1))) as i64).rfc3339().into(),
        );
    }
    let operators: Vec<Value> = engine
        .plan
        .operators
        .iter()
        .zip(&engine.operators)
        .enumerate()
        .map(|(i, (operator, state))| {
            json!({
                "operatorName": operator.name.split('+').next(),
                "numRowsTotal": state.groups(),
                "numRowsUpdated": c.operators[i].updated,
                "numRowsDroppedByWatermark": c.operators[i].late,
                "memoryUsedBytes": state.memory(),
                "customMetrics": c.operators[i].metrics,
            })
        })
        .collect();
    // The ends that the broker reported last may be below the records that were read since.
    let mut latest = at.feed.targets.as_ref().unwrap_or(&at.feed.ends).clone();
    for (tp, read) in &at.feed.positions {
        let end = latest.entry(tp.clone()).or_insert(*read);
        *end = (*end).max(*read);
    }
    let behind: Vec<u64> = behind(at).collect();
    let lag: u64 = behind.iter().sum();
    let sinks: Vec<Value> = job
        .flow
        .outputs
        .iter()
        .map(|t| {
            let rows = written.get(&t.name);
            json!({
                "description": t.to.describe(),
                "table": t.name,
                "numOutputRows": rows,
                "metrics": {"mode": t.mode_name(), "numOutputRows": rows.copied().unwrap_or(0).to_string()},
            })
        })
        .collect();
    let mut durations = json!({"addBatch": ms(d.worked), "stage": ms(d.staged), "walCommit": ms(d.sealed), "triggerExecution": ms(busy)});
    if let Some(tables) = d.tables {
        durations["readTables"] = ms(tables).into();
    }
    json!({
        "id": *shared.id.lock(),
        "runId": shared.run_id,
        "name": shared.name,
        "timestamp": at.clock.now().rfc3339(),
        "batchId": seal.epoch,
        "batchDuration": ms(d.total),
        "numInputRows": c.messages,
        "inputRowsPerSecond": input_rate,
        "processedRowsPerSecond": processed_rate,
        "durationMs": durations,
        "waitMs": ms(d.waited),
        "eventTime": event_time,
        "stateOperators": operators,
        "sources": [{
            "description": format!("KafkaV2[{}]", at.topic_ids.keys().cloned().collect::<Vec<_>>().join(", ")),
            "startOffset": by(|r| r.from),
            "endOffset": by(|r| r.until),
            "latestOffset": position_map(&latest),
            "numInputRows": c.messages,
            "inputRowsPerSecond": input_rate,
            "processedRowsPerSecond": processed_rate,
            "metrics": {
                "avgOffsetsBehindLatest": (lag as f64 / behind.len().max(1) as f64).to_string(),
                "maxOffsetsBehindLatest": behind.iter().max().unwrap_or(&0).to_string(),
                "minOffsetsBehindLatest": behind.iter().min().unwrap_or(&0).to_string(),
            },
            "lag": lag,
        }],
        "sink": sinks.first(),
        "sinks": sinks,
        "observedMetrics": observed(c),
        "numMalformed": c.malformed,
        "numTombstones": c.tombstones,
        "numUnknownFields": c.unknown_fields,
        "numDropped": c.dropped,
        "numQuarantined": c.quarantined,
    })
}

/// The counts of the rules in this epoch: by dataset and rule.
fn observed(c: &EpochCounts) -> Value {
    let mut by_dataset: BTreeMap<&str, BTreeMap<&str, Value>> = BTreeMap::new();
    for ((dataset, rule), (action, counts)) in &c.rules {
        let of_rule = json!({"action": action.name(), "passedRecords": counts.passed, "failedRecords": counts.failed});
        by_dataset.entry(dataset).or_default().insert(rule, of_rule);
    }
    json!(by_dataset)
}

#[allow(clippy::too_many_arguments)]
pub(super) fn publish(
    job: &Job,
    shared: &Shared,
    at: &Started,
    c: &EpochCounts,
    written: &BTreeMap<String, u64>,
    progress: Value,
    totals: &RuleTotals,
    began: Instant,
) {
    let mut r = shared.report.lock();
    r.epochs += 1;
    r.messages += c.messages;
    r.rows += c.rows;
    r.malformed += c.malformed;
    r.quarantined += c.quarantined;
    r.dropped += c.dropped;
    r.late += c.operators.iter().map(|o| o.late).sum::<u64>();
    r.lag = Some(behind(at).sum());
    r.positions = at.feed.sealed();
    r.watermark = at.engine.trackers.iter().filter_map(|t| t.watermark).min().map(|w| w.rfc3339());
    r.seconds = began.elapsed().as_secs_f64();
    r.rules = totals.clone();
    for (name, rows) in written {
        r.tables.entry(name.clone()).or_default().rows_written += rows;
    }
    if c.quarantined > 0 {
        r.tables.entry(job.flow.quarantine.name()).or_default().rows_written += c.quarantined;
    }
    r.open_windows = super::open::open_windows(job, at);
    r.push(progress.clone());
    drop(r);
    tell(|| Event::Progress(progress));
}
