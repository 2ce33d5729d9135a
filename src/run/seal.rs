//! The end of an epoch: stage, seal, and hand the commit over.

use super::commit::{STAGED, seal_to_commits};
use super::control::{Stop, TURN};
use super::looked::Looked;
use super::report;
use super::runner::{Runner, Work};
use super::start::{GRACE, Started};
use crate::engine::{End, EpochCounts};
use crate::epoch::*;
use crate::error::Kind;
use crate::flow::QUARANTINE;
use crate::progress::RuleTotals;
use crate::sink::{Changes, OutputMode, Part, Staged, StagedRows};
use crate::time::EventTime;
use crate::{Error, Result, state};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The result of the last look at the tables before a seal.
enum Looks {
    /// The rows fit; these tables are up to date.
    Fit(Vec<String>),
    /// The rows do not fit any more, and why.
    Changed(String),
}

/// An output's target in the seal.
struct Target<'a> {
    name: &'a str,
    location: String,
    mode: &'a str,
    /// The target gets a commit also without rows.
    emptied: bool,
}

impl Runner<'_> {
    /// Stages and seals the epoch, and starts its commit. Returns false if a topic was recreated while it was read.
    pub(super) fn finish(&mut self, mut work: Work, last: bool, read_all: bool) -> Result<bool> {
        let worked = work.began.elapsed();
        let now = self.job.clock.now();
        // All messages of this epoch are read. Kafka is asked now, and answers while the files are written.
        let mut confirmed = self.at.feed.confirm_topics(Duration::ZERO)?;
        let outcome = {
            let Started { engine, feed, filling, .. } = &mut self.at;
            let close = last && self.job.flow.close_windows && self.shared.stopping() == Stop::No;
            // When a new table is filled, it gets the watermark of the other tables. Windows that this watermark closes are emitted now.
            let end = End { close, catch_up: read_all && filling.is_some() };
            engine.finish_epoch(&|t, p| feed.is_idle(t, p, now), end, now)?
        };
        self.stage(&mut work)?;
        let counts = self.at.engine.take_counts();
        let mut totals = self.at.totals.clone();
        totals.add(&counts.rules);

        let rt = self.job.runtime.clone();
        let staging = Instant::now();
        // The first large file may have been written when the epoch began.
        let staged_at = Looked::at(work.began, work.clock);
        // All files at the same time: in a store, each file takes the time of a request.
        let mut staging_all = vec![];
        for (i, (t, part)) in self.job.flow.outputs.iter().zip(std::mem::take(&mut work.parts)).enumerate() {
            let part = match part {
                Some(part) => part,
                None => self.staging(&t.name)?.begin(&rt),
            };
            let engine = &self.at.engine;
            // Only the last aggregate counts. An aggregate before it may have changed without closing a window.
            let top = engine.plan.top_operator(i);
            let changed = top.map(|o| outcome.operators[o].changed.as_slice()).unwrap_or_default();
            let any = top.is_some_and(|o| counts.operators[o].updated > 0);
            // A complete result that has become empty must show as such.
            let emptied = t.mode == OutputMode::Complete && any && t.to.is_table();
            let location = t.to.address().unwrap_or_else(|| self.job.flow.checkpoint.address());
            let to = Target { name: &t.name, location, mode: t.mode_name(), emptied };
            staging_all.push(self.finish_part(part, Changes { any, keys: changed }, to, work.epoch));
        }
        if let Some(part) = work.quarantine.take() {
            let quarantine = &self.job.flow.quarantine;
            let (location, mode) = (quarantine.address(), quarantine.mode_name());
            let to = Target { name: QUARANTINE, location, mode, emptied: false };
            staging_all.push(self.finish_part(part, Changes::default(), to, work.epoch));
        }
        // A target may have to be read first, which can take long.
        let staging_all = futures::future::try_join_all(staging_all);
        let staged_all = match rt.block_on(self.shared.unless_stopped(GRACE, staging_all)) {
            Err(e) if e.kind == Kind::Interrupted => return Ok(true),
            staged => staged?,
        };
        let mut tables = BTreeMap::new();
        let mut written = BTreeMap::new();
        let mut staged_rows = BTreeMap::new();
        for (name, sealed, whole) in staged_all {
            if name != QUARANTINE {
                written.insert(name.clone(), sealed.rows);
                staged_rows.extend(whole.map(|rows| (name.clone(), rows)));
            }
            tables.insert(name, sealed);
        }
        self.compactor.write_state(&mut self.at, self.job, self.memory_limit, work.epoch, last, outcome)?;
        let staged = staging.elapsed();

        // N+1 is sealed only after N is done.
        self.settle()?;
        let asking = Instant::now();
        let same = loop {
            if !self.job.patient(asking) {
                return Err(Error::connection(format!(
                    "no broker has said whether the topics are still those that were read, so epoch {} was not sealed. Nothing is lost: run '{}' \
                     again when Kafka answers.",
                    work.epoch, self.job.flow.name
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
            let text = "started again from the last epoch: a topic was deleted and recreated while it was read";
            self.shared.report.lock().warn(text.into());
            return Ok(false);
        }
        let looked = match self.look(&mut tables, &staged_rows) {
            Ok(Looks::Fit(looked)) => looked,
            Ok(Looks::Changed(text)) => {
                self.shared.report.lock().warn(text);
                return Ok(false);
            }
            // The epoch is not sealed, so it is abandoned.
            Err(e) if e.kind == Kind::Interrupted => return Ok(true),
            Err(e) => return Err(e),
        };
        let sealing = Instant::now();
        let seal = self.make_seal(&work, &counts, tables, &totals, now);
        let claim = self.at.log_claim(&rt, &seal)?;
        if claim == Claim::Theirs {
            return Err(Error::concurrent_query(format!(
                "another runner of '{}' has sealed epoch {} (checkpoint {}). This runner stops; nothing is written twice.",
                self.job.flow.name,
                seal.epoch,
                self.job.flow.checkpoint.display()
            )));
        }
        self.at.totals = totals;
        self.run_totals.add(&counts.rules);
        self.at.next_epoch += 1;
        self.at.feed.lost.clear();
        let sealed_in = sealing.elapsed();

        let mut commits = rt.block_on(seal_to_commits(&self.at.log, &seal, &staged_rows))?;
        for c in &mut commits {
            (c.looked, c.staged_at) = (looked.contains(&c.name), Some(staged_at));
        }
        let (log, mut committer) = (self.at.log.clone(), self.at.committer.clone());
        let clock = self.job.clock.clone();
        let started = Instant::now();
        let report = report::epoch(
            self.job,
            self.shared,
            &self.at,
            &seal,
            &counts,
            &written,
            report::Durations {
                worked: worked.saturating_sub(work.waited + work.tables),
                tables: super::statics::any(&self.at.engine).then_some(work.tables),
                staged,
                sealed: sealed_in,
                waited: work.waited,
                total: work.began.elapsed(),
            },
        );
        report::publish(self.job, self.shared, &self.at, &counts, &written, report, &self.run_totals, self.began);
        self.sealed = self.at.feed.sealed();
        self.committing = Some(rt.spawn(async move {
            let done = committer.commit(&log, &seal, commits, &clock).await.map_err(|e| e.in_epoch(seal.epoch))?;
            log::debug!("epoch {} committed in {:?}", seal.epoch, started.elapsed());
            Ok((committer, done))
        }));
        Ok(true)
    }

    /// Finishes one output's part, and returns what the seal says of it. Rows that the query keeps are written to a separate file, and
    /// handed back.
    async fn finish_part(
        &self,
        part: Box<dyn Part>,
        changes: Changes<'_>,
        to: Target<'_>,
        epoch: i64,
    ) -> Result<(String, SealedTable, Option<StagedRows>)> {
        let staged = part.finish(changes).await.map_err(|e| e.in_table(&*to.location))?;
        let Staged { rows, files, whole, keys } = staged;
        let mut file = None;
        if let Some(StagedRows { schema, batches }) = whole.as_ref().filter(|_| rows > 0) {
            let bytes = state::encode(schema, batches, STAGED)?;
            let folder = format!("staged/{}", to.name);
            // Seals are kept for longer than staged rows. Merged rows are in the state too, but messages and the rows of functions are not.
            let room = if to.mode == OutputMode::Update.name() { usize::MAX } else { 0 };
            file = Some(self.at.log.keep_file(folder, epoch, "rows", bytes, room).await?);
        }
        let admitted = self.staging(to.name)?.fingerprint();
        let (mode, commit) = (to.mode.into(), rows > 0 || to.emptied);
        let sealed =
            SealedTable { location: to.location, mode, commit, rows, adds: files, staged: file, keys, admitted };
        Ok((to.name.to_string(), sealed, whole))
    }

    /// A last look at the targets before the seal: after changes by other writers, a target may refuse rows that it accepted when the epoch
    /// began. Such an epoch is not sealed but computed again.
    fn look(
        &mut self,
        tables: &mut BTreeMap<String, SealedTable>,
        whole: &BTreeMap<String, StagedRows>,
    ) -> Result<Looks> {
        let mut jobs = vec![];
        for (name, sealed) in tables.iter().filter(|(_, t)| t.commit) {
            let Some(writer) = self.at.committer.writers.get(name).cloned() else { continue };
            let whole = whole.get(name);
            jobs.push(async move {
                let found = writer.lock().await.look(&sealed.adds, whole, sealed.admitted.as_deref()).await?;
                Ok::<_, Error>((name.clone(), found))
            });
        }
        let looking = futures::future::try_join_all(jobs);
        let found = self.job.runtime.block_on(self.shared.unless_stopped(Duration::ZERO, looking))?;
        let mut looked = vec![];
        for (name, found) in found {
            let Some((staging, refused)) = found else { continue };
            if refused > 0 {
                return Ok(Looks::Changed(format!(
                    "started again from the last epoch: the table '{name}' was changed by a different program, and does not accept {refused} of the \
                     rows that it accepted before; these rows go to quarantine"
                )));
            }
            if let Some(sealed) = tables.get_mut(&name) {
                sealed.admitted = staging.fingerprint();
            }
            self.at.committer.staging.insert(name.clone(), staging);
            looked.push(name);
        }
        Ok(Looks::Fit(looked))
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
            left: self.at.left.clone(),
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
        seal.with_format()
    }
}

impl Started {
    fn log_claim(&mut self, rt: &tokio::runtime::Handle, seal: &Seal) -> Result<Claim> {
        // A runner that was suspended for more than a minute looks for a newer seal first. Without this look, its put
        // could succeed although a different runner has sealed this epoch: clean-up may have removed the seal of this
        // number.
        const AWAY: Duration = Duration::from_secs(60);
        let away = self.looked.ago(&self.clock) > AWAY;
        self.looked = Looked::now(&self.clock);
        if away && rt.block_on(self.log.newest_seal())?.is_some_and(|newest| newest >= seal.epoch) {
            return Ok(Claim::Theirs);
        }
        let claim = rt.block_on(self.log.seal(seal))?;
        // The runner may also be suspended between the look and the answer. A different runner may have continued from our seal, or removed its own
        // seal of this number before ours was put. In both cases that runner commits. The next clean-up removes our file.
        if claim == Claim::Ours && self.looked.ago(&self.clock) > AWAY {
            self.looked = Looked::now(&self.clock);
            if rt.block_on(self.log.newest_seal())?.is_some_and(|newest| newest > seal.epoch) {
                return Ok(Claim::Theirs);
            }
        }
        Ok(claim)
    }
}
