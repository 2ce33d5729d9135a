//! The end of an epoch: stage, seal, and hand the commit over.

use super::commit::{StagedRows, seal_to_commits};
use super::control::{Stop, TURN};
use super::engine::EpochCounts;
use super::report;
use super::run::{Runner, TableOptions, Work};
use super::start::{Looked, QUARANTINE, Started};
use crate::epoch::*;
use crate::error::Kind;
use crate::progress::RuleTotals;
use crate::sink::delta::{OutputMode, merge_rows, merge_schema, present};
use crate::storage::Location;
use crate::time::{Clock, EventTime, SystemClock};
use crate::{Error, Result, state};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What the last look at the tables before a seal has shown.
enum Looks {
    /// The rows fit; these tables are up to date.
    Fit(Vec<String>),
    /// They do not fit any more, and why.
    Changed(String),
}

/// What staged files say they are.
pub const STAGED: &str = "staged rows";

impl Runner<'_> {
    /// Stage, seal, and hand the commit over. False: what was read is not of the topics that it was to be of.
    pub(super) fn finish(&mut self, mut work: Work, last: bool, read_all: bool) -> Result<bool> {
        let worked = work.began.elapsed();
        let now = SystemClock.now();
        // Everything of this epoch is read: asked now, and answered while the files are written.
        let mut confirmed = self.at.feed.confirm_topics(Duration::ZERO)?;
        {
            let Started { engine, feed, filling, .. } = &mut self.at;
            let close = last && self.spec.close_windows && self.shared.stopping() == Stop::No;
            engine.finish_epoch(&|t, p| feed.is_idle(t, p, now), close, now)?;
            if read_all && filling.is_some() {
                // From here on the tables go by the others' watermark: what that closes is handed out now.
                engine.catch_up(now)?;
            }
        }
        self.stage(&mut work)?;
        let counts = self.at.engine.take_counts();
        let mut totals = self.at.totals.clone();
        totals.add(&counts.rules);

        let rt = self.spec.runtime.clone();
        let staging = Instant::now();
        let mut tables = BTreeMap::new();
        let mut written = BTreeMap::new();
        let mut staged_rows = BTreeMap::new();
        for (i, (t, stager)) in self.spec.tables.iter().zip(std::mem::take(&mut work.stagers)).enumerate() {
            if t.foreach.is_some() || t.mode == OutputMode::Update {
                let held = std::mem::take(&mut work.held[i]);
                let (sealed, rows) = self.stage_whole(i, t, held, work.epoch)?;
                written.insert(t.name.clone(), sealed.rows);
                tables.insert(t.name.clone(), sealed);
                staged_rows.insert(t.name.clone(), rows);
                continue;
            }
            // By its last aggregate: those below it may have changed without any of their windows being closed.
            let updated = self.at.engine.plan.top_operator(i).is_some_and(|o| counts.updated[o] > 0);
            let (adds, rows) = match stager {
                Some(s) => rt.block_on(s.finish())?,
                None => (vec![], 0),
            };
            // A complete result that has become empty must show as such.
            let commit = rows > 0 || (t.mode == OutputMode::Complete && updated);
            written.insert(t.name.clone(), rows);
            tables.insert(
                t.name.clone(),
                sealed(&t.location, t.mode.name(), commit, rows, &adds, self.admitted(&t.name))?,
            );
        }
        self.at.engine.changed.iter_mut().for_each(Vec::clear);
        if let Some(stager) = work.quarantine.take() {
            let (adds, rows) = rt.block_on(stager.finish())?;
            tables.insert(
                QUARANTINE.into(),
                sealed(&self.spec.quarantine, "append", rows > 0, rows, &adds, self.admitted(QUARANTINE))?,
            );
        }
        self.write_state(work.epoch, last)?;
        let staged = staging.elapsed();

        // N+1 is sealed only after N is done.
        self.settle()?;
        let asking = Instant::now();
        let same = loop {
            if !self.spec.patient(asking) {
                return Err(Error::connection(format!(
                    "no broker has said whether the topics are still those that were read, so epoch {} was not sealed. Nothing is lost: run '{}' \
                     again when Kafka answers.",
                    work.epoch, self.spec.name
                )));
            }
            if self.shared.stopping() == Stop::Now {
                return Ok(true); // not sealed: abandoned
            }
            if let Some(same) = confirmed {
                break same;
            }
            confirmed = self.at.feed.confirm_topics(TURN)?;
            self.warn();
        };
        if !same {
            let text = "started again from the last epoch: a topic was deleted and made anew while it was read";
            self.shared.report.lock().warn(text.into());
            return Ok(false);
        }
        let looked = match self.look(&mut tables, &staged_rows) {
            Ok(Looks::Fit(looked)) => looked,
            Ok(Looks::Changed(text)) => {
                self.shared.report.lock().warn(text);
                return Ok(false);
            }
            // Not sealed: abandoned.
            Err(e) if e.kind == Kind::Interrupted => return Ok(true),
            Err(e) => return Err(e),
        };
        let sealing = Instant::now();
        let seal = self.make_seal(&work, &counts, tables, &totals, now);
        let claim = self.at.log_claim(&rt, &seal)?;
        if claim == Claim::Theirs {
            return Err(Error::concurrent_query(format!(
                "another runner of '{}' has sealed epoch {} (checkpoint {}). This one stops; nothing is written twice.",
                self.spec.name,
                seal.epoch,
                self.spec.checkpoint.display()
            )));
        }
        self.at.totals = totals;
        self.run_totals.add(&counts.rules);
        self.at.next_epoch += 1;
        self.at.feed.lost.clear();
        let sealed_in = sealing.elapsed();

        let mut commits = seal_to_commits(&self.spec.tables, &self.at.log, &seal, &staged_rows, Some(&rt))?;
        commits.iter_mut().for_each(|c| c.looked = looked.contains(&c.name));
        let (log, mut committer) = (self.at.log.clone(), self.at.committer.clone());
        let started = Instant::now();
        let report = report::epoch(
            self.spec,
            self.shared,
            &self.at,
            &seal,
            &counts,
            &written,
            report::Durations { worked, staged, sealed: sealed_in, total: work.began.elapsed() },
        );
        report::publish(self.spec, self.shared, &self.at, &counts, &written, report, &self.run_totals, self.began);
        self.committing = Some(rt.spawn(async move {
            let done = committer.commit(&log, &seal, commits, SystemClock.now()).await?;
            log::debug!("epoch {} committed in {:?}", seal.epoch, started.elapsed());
            Ok((committer, done))
        }));
        Ok(true)
    }

    fn admitted(&self, table: &str) -> Option<String> {
        self.at.committer.staging.get(table).map(|s| s.admission.fingerprint.clone())
    }

    /// A last look at the tables before the seal: what others have made of them may be that they no longer take rows that they took when
    /// the epoch began. Such an epoch is not sealed but made anew.
    fn look(
        &mut self,
        tables: &mut BTreeMap<String, SealedTable>,
        staged: &BTreeMap<String, StagedRows>,
    ) -> Result<Looks> {
        let mut jobs = vec![];
        for (name, sealed) in tables.iter().filter(|(n, t)| t.commit && self.at.committer.tables.contains_key(*n)) {
            let table = self.at.committer.tables[name].clone();
            let merged: Vec<RecordBatch> = match sealed.mode.as_str() {
                "update" => staged.get(name).map(|s| s.batches.clone()).unwrap_or_default(),
                _ => vec![],
            };
            jobs.push(async move {
                let mut table = table.lock().await;
                let changed = match table.look().await {
                    Ok(changed) => changed,
                    // The commit tries more often.
                    Err(e) if matches!(e.kind, Kind::Storage | Kind::Connection) => return Ok((name.clone(), None)),
                    Err(e) => return Err(e),
                };
                let staging = table.staging()?;
                if !changed && Some(&staging.admission.fingerprint) == sealed.admitted.as_ref() {
                    return Ok((name.clone(), Some((staging, 0))));
                }
                let mut refused = 0;
                for add in &sealed.adds {
                    let add = serde_json::from_value(add.clone()).map_err(|e| Error::internal(e.to_string()))?;
                    table
                        .judge_file(&add, |_, r| {
                            refused += r.len();
                            Ok(())
                        })
                        .await?;
                }
                for batch in &merged {
                    refused += staging.admission.judge(&present(batch)?)?.len();
                }
                Ok((name.clone(), Some((staging, refused))))
            });
        }
        let looking = futures::future::try_join_all(jobs);
        let found = self.spec.runtime.block_on(self.shared.unless_stopped(Duration::ZERO, looking))?;
        let mut looked = vec![];
        for (name, staging) in found {
            let Some((staging, refused)) = staging else { continue };
            if refused > 0 {
                return Ok(Looks::Changed(format!(
                    "started again from the last epoch: the table '{name}' was changed by somebody else, and does not take {refused} of the \
                     rows that it took before; they go to quarantine"
                )));
            }
            if let Some(sealed) = tables.get_mut(&name) {
                sealed.admitted = Some(staging.admission.fingerprint.clone());
            }
            self.at.committer.staging.insert(name.clone(), staging);
            looked.push(name);
        }
        Ok(Looks::Fit(looked))
    }

    /// Rows that are sealed as a file of ours: those that are merged, or handed to a function.
    fn stage_whole(
        &mut self,
        index: usize,
        t: &TableOptions,
        held: Vec<RecordBatch>,
        epoch: i64,
    ) -> Result<(SealedTable, StagedRows)> {
        let schema = t.stream.schema();
        let (schema, batches, keys): (SchemaRef, _, Vec<String>) = match t.foreach.is_some() {
            true => (schema.clone(), held, vec![]),
            false => {
                let keys = t.stream.merge_columns()?;
                let engine = &self.at.engine;
                let changed = engine.plan.top_operator(index).map(|o| engine.changed[o].as_slice()).unwrap_or_default();
                let batches = merge_rows(schema, &keys, changed, &held)?;
                (merge_schema(schema), batches, keys.iter().map(|k| schema.field(*k).name().clone()).collect())
            }
        };
        let rows = batches.iter().map(|b| b.num_rows() as u64).sum();
        let mut table = sealed(&t.location, t.mode_name(), rows > 0, rows, &[], self.admitted(&t.name))?;
        if rows > 0 {
            let bytes = state::encode(&schema, &batches, STAGED)?;
            let writing = self.at.log.write_file(format!("staged/{}", t.name), epoch, "rows", bytes);
            table.staged = Some(self.spec.runtime.block_on(writing)?);
        }
        table.keys = keys;
        Ok((table, StagedRows { schema, batches }))
    }

    fn make_seal(
        &mut self,
        work: &Work,
        counts: &EpochCounts,
        tables: BTreeMap<String, SealedTable>,
        totals: &RuleTotals,
        now: EventTime,
    ) -> Seal {
        let feed = &mut self.at.feed;
        let mut records = feed.take_records();
        let positions = feed.sealed();
        let ranges = positions.iter().map(|(tp, until)| Range {
            topic: tp.topic.to_string(),
            partition: tp.partition.0,
            from: work.from.get(tp).map_or(until.0, |o| o.0),
            until: until.0,
            records: records.remove(tp).unwrap_or_default(),
            last_timestamp: feed.last_timestamp.get(tp).copied(),
            last_offset: feed.read.get(tp).map(|r| r.offset.0),
            leader_epoch: feed.read.get(tp).and_then(|r| r.leader_epoch),
        });
        let ranges: Vec<Range> = ranges.collect();
        let lost = feed.lost.clone();
        let engine = &self.at.engine;
        let mut seal = Seal {
            format_version: FORMAT_VERSION,
            epoch: work.epoch,
            nonce: uuid::Uuid::new_v4().to_string(),
            definition: self.at.definition.clone(),
            began: work.clock,
            clock: now,
            ranges,
            topic_ids: self.at.new_ids.clone(),
            watermarks_before: work.watermarks_before.clone(),
            watermarks: BTreeMap::new(),
            state: self.at.state.clone(),
            static_versions: engine.static_versions(),
            tables,
            lost,
            backfill: None,
            counts: report::counts(engine, counts, totals),
        };
        match &self.at.filling {
            None => {
                let trackers = engine.plan.trackers.iter().zip(&engine.trackers);
                seal.watermarks = trackers.map(|((n, _), t)| (n.clone(), t.state())).collect();
            }
            Some(filling) => {
                let theirs = std::mem::replace(&mut seal.ranges, filling.ranges.clone());
                let of_query = filling.watermarks.iter().map(|(n, s)| (n.clone(), s.watermark)).collect();
                let before = std::mem::replace(&mut seal.watermarks_before, of_query);
                let (made, watermarks) = filling.seal(theirs, before, &engine.trackers, &engine.plan.trackers);
                (seal.backfill, seal.watermarks) = (Some(made), watermarks);
            }
        }
        seal
    }
}

impl Started {
    fn log_claim(&mut self, rt: &tokio::runtime::Handle, seal: &Seal) -> Result<Claim> {
        // A runner that was away longer than a minute looks first: clean-up may have taken the seal that it would collide with.
        const AWAY: Duration = Duration::from_secs(60);
        let away = self.looked.ago() > AWAY;
        self.looked = Looked::now();
        if away && rt.block_on(self.log.newest_seal())?.is_some_and(|newest| newest >= seal.epoch) {
            return Ok(Claim::Theirs);
        }
        let claim = rt.block_on(self.log.seal(seal))?;
        // Away between the look and the answer: others may have gone on, be it from our seal, be it that they cleaned up and ours stands
        // where theirs was. Then it is theirs to commit; the file is one of those that the next clean-up takes.
        if claim == Claim::Ours && self.looked.ago() > AWAY {
            self.looked = Looked::now();
            if rt.block_on(self.log.newest_seal())?.is_some_and(|newest| newest > seal.epoch) {
                return Ok(Claim::Theirs);
            }
        }
        Ok(claim)
    }
}

fn sealed(
    location: &Location,
    mode: &str,
    commit: bool,
    rows: u64,
    adds: &[crate::sink::delta::Add],
    admitted: Option<String>,
) -> Result<SealedTable> {
    let adds = adds.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>();
    let adds = adds.map_err(|e| Error::internal(e.to_string()))?;
    Ok(SealedTable {
        location: location.display(),
        mode: mode.into(),
        commit,
        rows,
        adds,
        staged: None,
        keys: vec![],
        admitted,
    })
}
