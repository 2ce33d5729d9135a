//! The durable run: epochs from work to done, on a thread of its own.

use super::commit::{Committer, seal_to_commits};
use super::control::{Query, Shared, Stop, let_go, take_over};
use super::engine::{Engine, EpochCounts};
use super::feed::Fed;
use super::heartbeat::{self, Heartbeat};
use super::report;
use super::start::{self, QUARANTINE, Started};
use super::stream::{Stream, check_name};
use super::trigger::Trigger;
use crate::epoch::*;
use crate::position::Positions;
use crate::progress::RuleTotals;
use crate::sink::delta::{OutputMode, Stager};
use crate::sink::quarantine;
use crate::storage::Location;
use crate::time::{Clock, EventTime, SystemClock};
use crate::{Error, Result, state};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An epoch ends at the first of these.
const MAX_EPOCH_ROWS: u64 = 5_000_000;
const MAX_EPOCH_TIME: Duration = Duration::from_secs(60);
/// How long one wait for messages may be: also how soon a stop is seen.
const TURN: Duration = Duration::from_millis(25);

#[derive(Clone)]
pub struct TableOptions {
    pub name: String,
    pub stream: Stream,
    pub mode: OutputMode,
    pub location: Location,
    pub partition_by: Vec<String>,
    pub table_name: Option<String>,
    pub comment: Option<String>,
    pub merge_schema: bool,
    /// Where a table begins that is new in a query that has run before.
    pub start: Option<String>,
}

#[derive(Clone)]
pub struct QuerySpec {
    pub name: String,
    pub tables: Vec<TableOptions>,
    pub quarantine: Location,
    /// `_bayou/<query name>`
    pub checkpoint: Location,
    pub trigger: Trigger,
    pub full_refresh: bool,
    pub accept_changes: bool,
    pub close_windows: bool,
    pub runtime: tokio::runtime::Handle,
}

impl Query {
    /// Starts the query's thread. What can be wrong before any I/O is said at once.
    pub fn start(spec: QuerySpec) -> Result<Query> {
        check_name(&spec.name, "a query")?;
        for (i, t) in spec.tables.iter().enumerate() {
            check_name(&t.name, "a table")?;
            if spec.tables[..i].iter().any(|u| u.name == t.name || u.location.url() == t.location.url()) {
                return Err(Error::config(format!(
                    "two tables are named '{}' or lie at {}",
                    t.name,
                    t.location.display()
                )));
            }
            start::table_spec(t).check()?;
        }
        let query = Query(Arc::new(Shared::new(&spec.name, uuid::Uuid::new_v4().to_string())));
        let thread = query.clone();
        std::thread::Builder::new()
            .name(format!("bayou {}", spec.name))
            .spawn(move || {
                let checkpoint = spec.checkpoint.url().to_string();
                let run = || take_over(&checkpoint, &thread).and_then(|()| Runner::run(&spec, &thread.0));
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
                    let text =
                        panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
                    Err(Error::internal(format!("a fault in bayou: {}", text.unwrap_or("no message"))))
                });
                let_go(&checkpoint, &thread);
                thread.0.end(result);
            })
            .map_err(|e| Error::internal(format!("no thread: {e}")))?;
        Ok(query)
    }
}

struct Runner<'a> {
    spec: &'a QuerySpec,
    shared: &'a Shared,
    at: Started,
    /// The commit of the epoch before, at work beside this one's reading.
    committing: Option<tokio::task::JoinHandle<Result<(Committer, Done)>>>,
    run_totals: RuleTotals,
    began: Instant,
}

/// An epoch while it is being made.
struct Work {
    epoch: i64,
    from: Positions,
    watermarks_before: BTreeMap<String, Option<EventTime>>,
    stagers: Vec<Option<Stager>>,
    quarantine: Option<Stager>,
    messages: u64,
    rows: u64,
    began: Instant,
    clock: EventTime,
}

enum Worked {
    /// The epoch is to be sealed.
    Full,
    /// A bounded run has read everything; the epoch may be empty.
    Last,
    Abandoned,
}

impl<'a> Runner<'a> {
    fn run(spec: &QuerySpec, shared: &Shared) -> Result<()> {
        spec.runtime.block_on(heartbeat::check(&spec.checkpoint, &spec.name))?;
        let _beat = Heartbeat::start(&spec.checkpoint, &shared.run_id, &spec.runtime);
        let at = start::start(spec, shared)?;
        let mut runner =
            Runner { spec, shared, at, committing: None, run_totals: RuleTotals::default(), began: Instant::now() };
        {
            let mut report = shared.report.lock();
            report.status = "running".into();
            report.warnings.append(&mut runner.at.feed.warnings);
        }
        for t in &spec.tables {
            runner.report_version(&t.name, 0);
        }
        for (name, version) in runner.at.committer.versions() {
            runner.report_version(name, version);
        }
        let result = runner.epochs();
        runner.at.feed.stop();
        // A put in flight gets a second when the user wants out; otherwise the commit is waited for.
        let patience = if shared.stopping() == Stop::Now { Duration::from_secs(1) } else { Duration::from_secs(3600) };
        let settled = runner.settle(patience);
        result.and(settled)
    }

    fn epochs(&mut self) -> Result<()> {
        loop {
            let mut work = self.begin();
            let worked = self.work(&mut work);
            let worked = match worked {
                Ok(w) => w,
                Err(e) => {
                    work.abort();
                    return Err(e);
                }
            };
            let last = matches!(worked, Worked::Last) || self.shared.stopping() == Stop::AfterEpoch;
            if matches!(worked, Worked::Abandoned) {
                work.abort();
                return Ok(());
            }
            if work.messages > 0 || self.has_news(last) {
                self.finish(work, last)?;
            } else {
                work.abort();
            }
            if last {
                self.say_what_is_open();
                return Ok(());
            }
        }
    }

    fn begin(&self) -> Work {
        let trackers = self.at.engine.plan.trackers.iter().zip(&self.at.engine.trackers);
        Work {
            epoch: self.at.next_epoch,
            from: self.at.feed.positions.clone(),
            watermarks_before: trackers.map(|((n, _), t)| (n.clone(), t.watermark)).collect(),
            stagers: self.spec.tables.iter().map(|_| None).collect(),
            quarantine: None,
            messages: 0,
            rows: 0,
            began: Instant::now(),
            clock: SystemClock.now(),
        }
    }

    /// Whether an epoch without messages has something to tell: windows that time has closed, or a recorded loss.
    fn has_news(&self, last: bool) -> bool {
        let now = SystemClock.now();
        let feed = &self.at.feed;
        let close =
            last && self.spec.close_windows && self.at.engine.aggregators.iter().any(|a| !a.open_windows().is_empty());
        close || !feed.lost.is_empty() || self.at.engine.would_emit(&|t, p| feed.is_idle(t, p, now))
    }

    /// Reads until the epoch is full.
    fn work(&mut self, work: &mut Work) -> Result<Worked> {
        let limit = self.at.feed.max_offsets_per_trigger();
        loop {
            match self.shared.stopping() {
                Stop::Now => return Ok(Worked::Abandoned),
                Stop::AfterEpoch => return Ok(Worked::Full),
                Stop::No => {}
            }
            // A commit that failed is known before more is read.
            if self.committing.as_ref().is_some_and(|c| c.is_finished()) {
                self.settle(Duration::from_secs(3600))?;
            }
            let elapsed = work.began.elapsed();
            let full = match self.spec.trigger {
                Trigger::AvailableNow => elapsed >= MAX_EPOCH_TIME && work.messages > 0,
                Trigger::Interval(every) => {
                    elapsed >= every.min(MAX_EPOCH_TIME) && !every.is_zero() || elapsed >= MAX_EPOCH_TIME
                }
            };
            if full || work.rows >= MAX_EPOCH_ROWS || limit.is_some_and(|l| work.messages >= l) {
                // An interval's epoch that is cut by its size still waits for the interval's end.
                if let Trigger::Interval(every) = self.spec.trigger
                    && limit.is_some_and(|l| work.messages >= l)
                    && elapsed < every
                {
                    std::thread::sleep(TURN.min(every - elapsed));
                    continue;
                }
                return Ok(Worked::Full);
            }
            let most = limit.map(|l| (l - work.messages) as usize);
            match self.at.feed.next(TURN, most)? {
                Fed::Messages(messages, wanted) => {
                    work.messages += wanted.len() as u64;
                    self.at.engine.push_messages(&messages, &wanted, work.clock)?;
                    self.stage(work)?;
                }
                Fed::Nothing => {
                    let as_fast_as_possible = self.spec.trigger == Trigger::Interval(Duration::ZERO);
                    if as_fast_as_possible && (work.messages > 0 || self.has_news(false)) {
                        return Ok(Worked::Full);
                    }
                    let new = self.at.feed.rediscover()?;
                    self.at.engine.know(new.keys());
                }
                Fed::Finished => return Ok(Worked::Last),
            }
        }
    }

    /// Hands the rows made so far to the writers of data files.
    fn stage(&mut self, work: &mut Work) -> Result<()> {
        let runtime = &self.spec.runtime;
        for (i, t) in self.spec.tables.iter().enumerate() {
            for batch in std::mem::take(&mut self.at.engine.outputs[i]) {
                if work.stagers[i].is_none() {
                    let staging =
                        self.at.committer.staging.get(&t.name).ok_or_else(|| Error::internal("a table is missing"))?;
                    work.stagers[i] = Some(Stager::start(staging, runtime));
                }
                work.rows += batch.num_rows() as u64;
                if let Some(stager) = &mut work.stagers[i] {
                    stager.send(&batch)?;
                }
            }
        }
        let rejects = std::mem::take(&mut self.at.engine.rejects);
        if !rejects.is_empty() {
            if work.quarantine.is_none() {
                let staging = runtime.block_on(self.at.committer.quarantine(self.spec))?;
                work.quarantine = Some(Stager::start(&staging, runtime));
            }
            if let Some(stager) = &mut work.quarantine {
                stager.send(&quarantine::rows(&rejects, work.epoch)?)?;
            }
        }
        Ok(())
    }

    /// Stage, seal, and hand the commit over.
    fn finish(&mut self, mut work: Work, last: bool) -> Result<()> {
        let worked = work.began.elapsed();
        let now = SystemClock.now();
        {
            let Started { engine, feed, .. } = &mut self.at;
            let close = last && self.spec.close_windows && self.shared.stopping() == Stop::No;
            engine.finish_epoch(&|t, p| feed.is_idle(t, p, now), close, now)?;
        }
        self.stage(&mut work)?;
        let counts = self.at.engine.take_counts();
        let mut totals = self.at.totals.clone();
        totals.add(&counts.rules);

        let rt = self.spec.runtime.clone();
        let staging = Instant::now();
        let mut tables = BTreeMap::new();
        let mut written = BTreeMap::new();
        for (i, (t, stager)) in self.spec.tables.iter().zip(std::mem::take(&mut work.stagers)).enumerate() {
            let updated = self.at.engine.plan.operators_of(i).into_iter().any(|o| counts.updated[o] > 0);
            let (adds, rows) = match stager {
                Some(s) => rt.block_on(s.finish())?,
                None => (vec![], 0),
            };
            // A complete result that has become empty must show as such.
            let commit = rows > 0 || (t.mode == OutputMode::Complete && updated);
            written.insert(t.name.clone(), rows);
            tables.insert(
                t.name.clone(),
                sealed(&t.location, &format!("{:?}", t.mode).to_lowercase(), commit, rows, &adds)?,
            );
        }
        if let Some(stager) = work.quarantine.take() {
            let (adds, rows) = rt.block_on(stager.finish())?;
            tables.insert(QUARANTINE.into(), sealed(&self.spec.quarantine, "append", rows > 0, rows, &adds)?);
        }
        self.write_state(work.epoch)?;
        let staged = staging.elapsed();

        // N+1 is sealed only after N is done.
        self.settle(Duration::from_secs(3600))?;
        if self.shared.stopping() == Stop::Now {
            return Ok(()); // not sealed: abandoned
        }
        let sealing = Instant::now();
        let seal = self.make_seal(&work, &counts, tables, &totals, now);
        if self.at.log_claim(&rt, &seal, worked)? == Claim::Theirs {
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

        let commits = seal_to_commits(self.spec, &seal, false)?;
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
            committer.maintain(&log, seal.epoch, SystemClock.now()).await;
            Ok((committer, done))
        }));
        Ok(())
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
        let ranges = feed.positions.iter().map(|(tp, until)| Range {
            topic: tp.topic.to_string(),
            partition: tp.partition.0,
            from: work.from.get(tp).map_or(until.0, |o| o.0),
            until: until.0,
            records: records.remove(tp).unwrap_or_default(),
            last_timestamp: feed.last_timestamp.get(tp).copied(),
        });
        let ranges = ranges.collect();
        let engine = &self.at.engine;
        let trackers = engine.plan.trackers.iter().zip(&engine.trackers);
        Seal {
            format_version: FORMAT_VERSION,
            epoch: work.epoch,
            nonce: uuid::Uuid::new_v4().to_string(),
            definition: self.at.definition.clone(),
            began: work.clock,
            clock: now,
            ranges,
            watermarks_before: work.watermarks_before.clone(),
            watermarks: trackers.map(|((n, _), t)| (n.clone(), t.state())).collect(),
            state: self.at.state.clone(),
            static_versions: BTreeMap::new(),
            tables,
            lost: self.at.feed.lost.clone(),
            counts: report::counts(engine, counts, totals),
        }
    }

    /// Writes what the epoch added to each operator's state; now and then all of it.
    fn write_state(&mut self, epoch: i64) -> Result<()> {
        for operator in 0..self.at.engine.aggregators.len() {
            let name = self.at.engine.plan.operators[operator].clone();
            let increment = self.at.engine.increments[operator].take();
            let aggregator = &mut self.at.engine.aggregators[operator];
            let description = aggregator.spec.description();
            let files = self.at.state.entry(name.clone()).or_default();
            files.groups = aggregator.groups() as u64;
            if files.groups == 0 && increment.is_none() {
                *files = StateFiles::default();
                continue;
            }
            let Some(increment) = increment else { continue };
            let log = &self.at.log;
            if files.increments.len() >= 8 || (files.base.is_some() && increment.num_rows() as u64 * 2 > files.groups) {
                let bytes = state::encode(&aggregator.base()?, &description)?;
                let base = self.spec.runtime.block_on(log.write_state(&name, epoch, "base", bytes))?;
                *files = StateFiles { base: Some(base), increments: vec![], groups: files.groups };
            } else {
                let bytes = state::encode(&increment, &description)?;
                let file = self.spec.runtime.block_on(log.write_state(&name, epoch, "increment", bytes))?;
                files.increments.push(file);
            }
        }
        Ok(())
    }

    /// Waits for the commit of the epoch before.
    fn settle(&mut self, patience: Duration) -> Result<()> {
        let Some(task) = self.committing.take() else { return Ok(()) };
        let waited = self.spec.runtime.block_on(async { tokio::time::timeout(patience, task).await });
        match waited {
            Err(_) => Ok(()), // left to the next start, which finishes what is sealed
            Ok(Err(e)) => Err(Error::internal(format!("the commit ended: {e}"))),
            Ok(Ok(Err(e))) => Err(e),
            Ok(Ok(Ok((committer, done)))) => {
                for (name, table) in &done.tables {
                    self.report_version(name, table.version);
                }
                // A quarantine table may have been made meanwhile.
                let newer = std::mem::replace(&mut self.at.committer, committer);
                self.at.committer.take_on(newer);
                Ok(())
            }
        }
    }

    fn report_version(&self, name: &str, version: u64) {
        let mut report = self.shared.report.lock();
        let (name, location, mode) = match self.spec.tables.iter().find(|t| t.name == name) {
            Some(t) => (t.name.clone(), &t.location, format!("{:?}", t.mode).to_lowercase()),
            None if name == QUARANTINE => (self.spec.quarantine.name(), &self.spec.quarantine, "append".into()),
            None => return,
        };
        let entry = report.tables.entry(name).or_default();
        entry.version = version;
        entry.location = location.display();
        entry.mode = mode;
    }

    /// A bounded run ends by saying which windows it leaves open, and which partition holds them.
    fn say_what_is_open(&mut self) {
        let engine: &Engine = &self.at.engine;
        let open: usize = engine
            .aggregators
            .iter()
            .filter(|a| a.emit == crate::window::Emit::OnClose)
            .map(|a| a.open_windows().len())
            .sum();
        if open == 0 {
            return;
        }
        let holder = engine.trackers.iter().find_map(|t| {
            let (partition, highest) = t.holder()?;
            let seen = highest
                .map_or("has no event time yet".into(), |h| format!("its highest event time is {}", h.rfc3339()));
            Some(format!(" {partition} holds the watermark: {seen}."))
        });
        let watermark = engine.trackers.iter().filter_map(|t| t.watermark).min();
        let at = watermark.map_or("there is no watermark yet".into(), |w| format!("the watermark is {}", w.rfc3339()));
        let text = format!(
            "{open} window{} still open: {at}.{} Later events close them; close_windows=True closes them now.",
            if open == 1 { " is" } else { "s are" },
            holder.unwrap_or_default()
        );
        self.shared.report.lock().notes.push(text);
    }
}

impl Started {
    fn log_claim(&self, rt: &tokio::runtime::Handle, seal: &Seal, away: Duration) -> Result<Claim> {
        // A runner that was away longer than a minute looks first: clean-up may have taken the seal that it would collide with.
        if away > Duration::from_secs(60)
            && let Some(newest) = rt.block_on(self.log.newest_seal())?
            && newest >= seal.epoch
        {
            return Ok(Claim::Theirs);
        }
        rt.block_on(self.log.seal(seal))
    }
}

impl Work {
    fn abort(self) {
        self.stagers.into_iter().flatten().chain(self.quarantine).for_each(Stager::abort);
    }
}

fn sealed(
    location: &Location,
    mode: &str,
    commit: bool,
    rows: u64,
    adds: &[crate::sink::delta::Add],
) -> Result<SealedTable> {
    let adds = adds.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>();
    let adds = adds.map_err(|e| Error::internal(e.to_string()))?;
    Ok(SealedTable { location: location.display(), mode: mode.into(), commit, rows, adds })
}
