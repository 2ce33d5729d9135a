//! The durable run: epochs from work to done, on a thread of its own.

use super::Job;
use super::commit::Committer;
use super::compact::Compactor;
use super::control::{Query, Shared, Stop, TURN, let_go, take_over};
use super::feed::Fed;
use super::heartbeat::{self, Heartbeat};
use super::maintain::{self, Maintenance};
use super::publish::Publisher;
use super::start::{self, GRACE, Started};
use crate::epoch::*;
use crate::error::Kind;
use crate::flow::source::KafkaSource;
use crate::flow::stream::check_name;
use crate::flow::trigger::Trigger;
use crate::flow::{Flow, Output, QUARANTINE};
use crate::position::{Offset, Positions, TopicPartition};
use crate::progress::{self, Event, RuleTotals};
use crate::sink::quarantine;
use crate::sink::{OutputMode, Part, Staging};
use crate::storage::Location;
use crate::time::EventTime;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An epoch ends at the first of these.
const MAX_EPOCH_ROWS: u64 = 5_000_000;
/// The bytes of keys and values as they came.
const MAX_EPOCH_BYTES: u64 = 256 << 20;
/// The bytes of rows that are held until the epoch's end. The real use of memory is higher: these rows are also in
/// memory as the staged file, and so are the rows of the previous epoch while that epoch is committed.
const MAX_HELD_BYTES: usize = 64 << 20;
const MAX_EPOCH_TIME: Duration = Duration::from_secs(60);

/// How long Kafka does not answer before a bounded run ends with an error. A run on an interval continues to wait.
const PATIENCE: Duration = Duration::from_secs(600);

impl Job {
    /// Whether to continue to wait for Kafka, which has not answered since `since`.
    pub(super) fn patient(&self, since: Instant) -> bool {
        let come_back = |s: Arc<KafkaSource>| s.connection.check_alive().is_ok();
        (self.flow.trigger != Trigger::AvailableNow || since.elapsed() < PATIENCE)
            && self.flow.outputs.iter().flat_map(|t| t.stream.kafka_sources()).all(come_back)
    }
}

impl Query {
    /// Starts the query's thread. Errors that show before any I/O are returned at once.
    pub fn start(job: Job) -> Result<Query> {
        let flow = &job.flow;
        check_name(&flow.name, "a query")?;
        for (i, o) in flow.outputs.iter().enumerate() {
            check_name(&o.name, "a table")?;
            let place = o.to.place().map(Location::url);
            let same = |u: &Output| u.name == o.name || place.is_some() && u.to.place().map(Location::url) == place;
            if flow.outputs[..i].iter().any(same) {
                return Err(Error::config(format!("two tables are named '{}' or are at {}", o.name, o.to.describe())));
            }
            let address = o.to.address();
            if address.is_some() && address == Some(flow.quarantine.address()) {
                return Err(Error::config(format!(
                    "the table '{}' would have the same place as the quarantine of '{}' ({}): rows that are set aside would be among its rows. Give \
                     the table a different name.",
                    o.name,
                    flow.name,
                    flow.quarantine.describe()
                )));
            }
            o.sink(&job.clock)?.check()?;
        }
        if flow.commit_to_group.is_some() {
            for source in flow.outputs.iter().flat_map(|t| t.stream.kafka_sources()) {
                source.connection.check_groups()?;
            }
        }
        let query = Query(Arc::new(Shared::new(&flow.name, uuid::Uuid::new_v4().to_string())));
        let thread = query.clone();
        std::thread::Builder::new()
            .name(format!("bayou {}", job.flow.name))
            .spawn(move || {
                let checkpoint = job.flow.checkpoint.url().to_string();
                let run = || take_over(&checkpoint, &thread).and_then(|()| Runner::run(&job, &thread.0));
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
                    let text =
                        panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
                    Err(Error::internal(format!("a fault in bayou: {}", text.unwrap_or("no message"))))
                });
                let_go(&checkpoint, &thread);
                crate::kafka::embedded::remove_what_is_left();
                thread.0.end(result);
            })
            .map_err(|e| Error::internal(format!("no thread: {e}")))?;
        Ok(query)
    }
}

pub(super) struct Runner<'a> {
    pub(super) job: &'a Job,
    pub(super) shared: &'a Shared,
    pub(super) at: Started,
    pub(super) compactor: Compactor,
    pub(super) maintenance: Maintenance,
    pub(super) memory_limit: usize,
    /// The commit of the previous epoch, which runs while this epoch is read.
    pub(super) committing: Option<tokio::task::JoinHandle<Result<(Committer, Done)>>>,
    pub(super) run_totals: RuleTotals,
    /// The newest epoch of this run that is in every table.
    pub(super) last_done: Option<i64>,
    pub(super) began: Instant,
    publisher: Option<Publisher>,
    /// The position of the epoch that is being committed.
    pub(super) sealed: Positions,
}

/// An epoch while it is being made.
pub(super) struct Work {
    pub epoch: i64,
    pub from: Positions,
    pub watermarks_before: BTreeMap<String, Option<EventTime>>,
    /// By output, from its first rows on.
    pub parts: Vec<Option<Box<dyn Part>>>,
    pub quarantine: Option<Box<dyn Part>>,
    pub messages: u64,
    pub bytes: u64,
    pub rows: u64,
    /// Bytes of rows that are held until the epoch's end.
    pub held_bytes: usize,
    /// How long the epoch had nothing to do: it waited for messages or for its interval's end.
    pub waited: Duration,
    /// How long joined tables were read.
    pub tables: Duration,
    pub began: Instant,
    pub clock: EventTime,
}

enum Worked {
    /// The epoch must be sealed.
    Full,
    /// A bounded run has read everything; the epoch may be empty.
    Last,
    Abandoned,
    /// The log is not the one that was read: start again from the newest seal.
    Again,
}

enum Ended {
    Finished,
    Again,
}

/// How many times in a row a run may start again without a new seal.
const RESTARTS: usize = 10;

impl<'a> Runner<'a> {
    fn run(job: &Job, shared: &Shared) -> Result<()> {
        let check = async {
            start::probe(job).await?;
            heartbeat::check(&job.flow.checkpoint, &job.flow.name, &job.clock).await
        };
        job.runtime.block_on(shared.unless_stopped(Duration::ZERO, check))?;
        let _beat = Heartbeat::start(&job.flow.checkpoint, &shared.run_id, job);
        let renamed = job.runtime.block_on(super::ownership::under_its_old_name(job))?;
        let job = renamed.as_ref().unwrap_or(job);
        let (mut restarts, mut newest) = (0, None);
        let (mut totals, began) = (RuleTotals::default(), Instant::now());
        // A run that starts again continues; only its first start empties the tables.
        let again = Job { flow: Flow { full_refresh: false, ..job.flow.clone() }, ..job.clone() };
        let (mut job, mut down) = (job, None);
        loop {
            let at = match start::start(job, shared) {
                // The event that made the run start again may also have stopped brokers. Wait until they are back, or until the user stops the run.
                Err(e)
                    if restarts > 0
                        && e.kind == Kind::Connection
                        && job.patient(*down.get_or_insert_with(Instant::now)) =>
                {
                    log::warn!("{}", e.message);
                    shared.report.lock().warn(e.message);
                    if shared.wait_for_stop(Duration::from_secs(1)) {
                        return Ok(());
                    }
                    continue;
                }
                at => at?,
            };
            (job, down) = (&again, None);
            restarts = if newest.replace(at.next_epoch) == Some(at.next_epoch) { restarts } else { 0 };
            // New tables that begin at the earliest offset are filled first, then the query starts with all of them.
            let filling = at.filling.as_ref().map(|f| job.only(&f.tables));
            let (ended, counted) = Self::run_from(filling.as_ref().unwrap_or(job), shared, at, totals, began)?;
            if shared.stopping() != Stop::No || matches!(ended, Ended::Finished) && filling.is_none() {
                return Ok(());
            }
            let once_more = matches!(ended, Ended::Again);
            restarts += usize::from(once_more);
            totals = if once_more { counted } else { RuleTotals::default() };
            // From the second restart in a row on, the cluster gets time to become stable.
            if restarts > 1 && shared.wait_for_stop(Duration::from_secs(restarts as u64)) {
                return Ok(());
            }
            if restarts > RESTARTS {
                return Err(Error::connection(format!(
                    "'{}' has started again {RESTARTS} times because the topic's log changed while it was read, and the log still changes. Look at \
                     the cluster, then run the query again: nothing is written twice.",
                    job.flow.name
                )));
            }
        }
    }

    fn run_from(
        job: &Job,
        shared: &Shared,
        at: Started,
        totals: RuleTotals,
        began: Instant,
    ) -> Result<(Ended, RuleTotals)> {
        let mut runner = Runner {
            job,
            shared,
            at,
            compactor: Compactor::default(),
            maintenance: Maintenance::default(),
            memory_limit: job.flow.memory_limit.unwrap_or_else(crate::memory::half_of_memory),
            committing: None,
            run_totals: totals,
            last_done: None,
            began,
            publisher: None,
            sealed: Positions::new(),
        };
        if let Some(group) = &job.flow.commit_to_group {
            runner.publisher = Some(Publisher::new(runner.at.feed.connection.clone(), group));
            runner.publish(runner.at.feed.sealed());
        }
        {
            runner.run_totals.add(&runner.at.engine.counts.rules);
            let mut report = shared.report.lock();
            report.rules = runner.run_totals.clone();
            report.status = "running".into();
            report.positions = runner.at.feed.sealed();
            runner.at.feed.warnings.drain(..).for_each(|text| report.warn(text));
        }
        for t in &job.flow.outputs {
            runner.report_version(&t.name, 0);
        }
        for (name, version) in runner.at.committer.versions() {
            runner.report_version(name, version);
        }
        runner.at.engine.limit(runner.memory_limit);
        let result = runner.epochs();
        runner.at.feed.stop();
        let settled = runner.settle();
        if let Some(warning) = runner.publisher.take().and_then(Publisher::finish) {
            shared.report.lock().warn(warning);
        }
        let (maintenance, at) = (&mut runner.maintenance, &runner.at);
        let watermark = watermark(at);
        let of = maintain::Of { job, shared, log: &at.log, committer: &at.committer, watermark };
        maintenance.at_end(&of, runner.last_done);
        let ended = result?;
        settled.map(|()| (ended, runner.run_totals))
    }

    fn epochs(&mut self) -> Result<Ended> {
        loop {
            let mut work = self.begin();
            super::statics::refresh(&mut self.at.engine, &self.job.runtime, self.memory_limit, Some(self.shared))?;
            work.tables = work.began.elapsed();
            self.at.engine.epoch = Some(work.epoch);
            self.at.engine.began = Some(work.clock);
            self.at.engine.admissions = self.at.committer.admissions();
            let worked = self.work(&mut work);
            let worked = match worked {
                Ok(w) => w,
                Err(e) => {
                    let epoch = work.epoch;
                    work.abort();
                    return Err(e.in_epoch(epoch));
                }
            };
            let read_all = matches!(worked, Worked::Last);
            let last = read_all || self.shared.stopping() == Stop::AfterEpoch;
            if matches!(worked, Worked::Abandoned | Worked::Again) {
                work.abort();
                return Ok(if matches!(worked, Worked::Again) { Ended::Again } else { Ended::Finished });
            }
            // The end of a backfill is sealed in any case, because only the seal shows that the backfill has ended.
            let must_seal = self.at.topics_changed || last && self.at.filling.is_some();
            if work.messages > 0 || self.has_news(last) || must_seal {
                self.at.topics_changed = false;
                if !self.finish(work, last, read_all)? {
                    return Ok(Ended::Again);
                }
                self.at.engine.keep_within(self.memory_limit)?;
            } else {
                work.abort();
            }
            if last {
                if self.at.filling.is_none() {
                    self.say_what_is_open();
                }
                return Ok(Ended::Finished);
            }
        }
    }

    fn begin(&self) -> Work {
        let trackers = self.at.engine.plan.trackers.iter().zip(&self.at.engine.trackers);
        // Each range begins where the previous range ended, so lost offsets are within a range.
        let mut from = self.at.feed.sealed();
        for lost in self.at.feed.lost.iter().rev() {
            from.insert(TopicPartition::new(&lost.topic, lost.partition), Offset(lost.from));
        }
        Work {
            epoch: self.at.next_epoch,
            from,
            watermarks_before: trackers.map(|((n, _), t)| (n.clone(), t.watermark)).collect(),
            parts: self.job.flow.outputs.iter().map(|_| None).collect(),
            quarantine: None,
            messages: 0,
            bytes: 0,
            rows: 0,
            held_bytes: 0,
            waited: Duration::ZERO,
            tables: Duration::ZERO,
            began: Instant::now(),
            clock: self.job.clock.now(),
        }
    }

    /// Whether an epoch without messages has something to seal: windows that time has closed, or a recorded loss.
    fn has_news(&self, last: bool) -> bool {
        let now = self.job.clock.now();
        let feed = &self.at.feed;
        let close = last && self.job.flow.close_windows && self.at.engine.would_close(now);
        close || !feed.lost.is_empty() || self.at.engine.would_emit(&|t, p| feed.is_idle(t, p, now), now)
    }

    /// Reads until the epoch is full.
    fn work(&mut self, work: &mut Work) -> Result<Worked> {
        let limit = self.at.feed.max_offsets_per_trigger();
        let (min, max_delay) = self.at.feed.min_offsets_per_trigger();
        loop {
            match self.shared.stopping() {
                Stop::Now => return Ok(Worked::Abandoned),
                Stop::AfterEpoch if !self.at.engine.is_unfinished() => return Ok(Worked::Full),
                Stop::AfterEpoch | Stop::No => {}
            }
            if self.at.engine.go_on()? {
                self.stage(work)?;
                continue;
            }
            // This also happens while messages keep coming. Otherwise retention may remove messages of a new partition before they are read.
            let new = self.at.feed.rediscover()?;
            if !new.is_empty() {
                self.at.engine.know(new.keys());
                self.know_topics(&new);
            }
            // A commit that failed is known before more is read.
            if self.committing.as_ref().is_some_and(|c| c.is_finished()) {
                self.settle()?;
            }
            let elapsed = work.began.elapsed();
            // A joined table can take longer to look up than the interval. Messages are read in any case.
            let reads = elapsed.saturating_sub(work.tables);
            let waits_for_more = min.is_some_and(|min| work.messages < min);
            let full = match self.job.flow.trigger {
                Trigger::AvailableNow => elapsed >= MAX_EPOCH_TIME && work.messages > 0,
                Trigger::Interval(_) if waits_for_more => elapsed >= max_delay && reads >= max_delay / 2,
                Trigger::Interval(every) => {
                    let every = if every.is_zero() { MAX_EPOCH_TIME } else { every.min(MAX_EPOCH_TIME) };
                    elapsed >= every && reads >= every / 2
                }
            };
            // The groups of an epoch cannot be moved to disk, so an epoch that is too large for memory is cut into two.
            let memory = self.at.engine.memory() + work.held_bytes;
            let heavy = work.messages > 0 && memory > self.memory_limit / 4 * 5;
            // As fast as possible: an epoch ends as soon as the previous epoch is committed and there are messages.
            let at_once = self.job.flow.trigger == Trigger::Interval(Duration::ZERO) && self.committing.is_none();
            let large = work.bytes >= MAX_EPOCH_BYTES || work.held_bytes >= MAX_HELD_BYTES;
            if full
                || heavy
                || large
                || at_once && work.messages > 0 && !waits_for_more
                || work.rows >= MAX_EPOCH_ROWS
                || limit.is_some_and(|l| work.messages >= l)
            {
                // An interval's epoch that is cut by its size still waits for the interval's end.
                if let Trigger::Interval(every) = self.job.flow.trigger
                    && limit.is_some_and(|l| work.messages >= l)
                    && elapsed < every
                {
                    let rest = TURN.min(every - elapsed);
                    std::thread::sleep(rest);
                    work.waited += rest;
                    continue;
                }
                return Ok(Worked::Full);
            }
            let most = limit.map(|l| (l - work.messages) as usize);
            // If messages wait for the commit to end, check soon again whether it has ended.
            let turn = if work.messages > 0 && self.committing.is_some() { TURN / 10 } else { TURN };
            let mut fed = self.at.feed.next(Duration::ZERO, most)?;
            if matches!(fed, Fed::Nothing) {
                let asked = Instant::now();
                fed = self.at.feed.next(turn, most)?;
                work.waited += asked.elapsed();
            }
            self.warn();
            match fed {
                Fed::Messages(messages, wanted) => {
                    if work.messages == 0 {
                        // The epoch's time is when its first message was taken, however long the epoch has waited for this message.
                        work.clock = self.job.clock.now();
                        self.at.engine.began = Some(work.clock);
                    }
                    work.messages += wanted.len() as u64;
                    work.bytes += (messages.bytes() as u64 * wanted.len() as u64) / messages.len().max(1) as u64;
                    self.at.engine.push_messages(&messages, &wanted, work.clock)?;
                    self.stage(work)?;
                }
                Fed::Nothing => {
                    if at_once && self.has_news(false) {
                        return Ok(Worked::Full);
                    }
                }
                Fed::Finished => return Ok(Worked::Last),
                Fed::Again(why) => {
                    log::warn!("{}: starting again from the last epoch: {why}", self.job.flow.name);
                    self.shared.report.lock().warn(format!("started again from the last epoch: {why}"));
                    return Ok(Worked::Again);
                }
            }
        }
    }

    /// Topics of a pattern that have joined the run: the seals record their ids from now on.
    fn know_topics(&mut self, new: &Positions) {
        for tp in new.keys() {
            let name = tp.topic.to_string();
            if self.at.topic_ids.contains_key(&name) {
                continue;
            }
            let id = self.at.feed.topic_ids.get(&tp.topic).cloned().flatten();
            if let Some(id) = &id {
                self.at.new_ids.insert(name.clone(), id.clone());
            }
            self.at.topic_ids.insert(name.clone(), id);
            self.shared.report.lock().notes.push(format!("the topic '{name}' has joined"));
        }
    }

    /// Shows the warnings of the feed at once, because no epoch ends and shows them while brokers are gone.
    pub(super) fn warn(&mut self) {
        if !self.at.feed.warnings.is_empty() {
            let mut report = self.shared.report.lock();
            self.at.feed.warnings.drain(..).for_each(|text| report.warn(text));
        }
    }

    /// Hands the rows made so far to the writers of data files.
    pub(super) fn stage(&mut self, work: &mut Work) -> Result<()> {
        let runtime = &self.job.runtime;
        let _moment = crate::expr::Moment::is(work.clock);
        for (i, t) in self.job.flow.outputs.iter().enumerate() {
            let batches = self.at.engine.take_rows(i);
            if batches.is_empty() {
                continue;
            }
            let staging = self.staging(&t.name)?;
            let part = work.parts[i].get_or_insert_with(|| staging.begin(runtime));
            let before = part.held();
            for batch in batches {
                // Rows that the target does not accept go to quarantine, because every sealed row must be committed.
                let refused = staging.judge(&batch.rows)?;
                let batch = match refused.is_empty() {
                    true => batch,
                    false => self.at.engine.refuse(&t.name, t.mode == OutputMode::Complete, &batch, refused)?,
                };
                work.rows += batch.len() as u64;
                part.push(batch.rows)?;
            }
            work.held_bytes += part.held() - before;
        }
        let rejects = self.at.engine.take_rejects();
        if !rejects.is_empty() {
            if work.quarantine.is_none() {
                let staging = runtime.block_on(self.at.committer.quarantine(self.job))?;
                work.quarantine = Some(staging.begin(runtime));
            }
            if let Some(part) = &mut work.quarantine {
                part.push(quarantine::rows(&rejects, work.epoch)?)?;
            }
        }
        Ok(())
    }

    /// How rows go to an output's target.
    pub(super) fn staging(&self, name: &str) -> Result<Arc<dyn Staging>> {
        let staging = self.at.committer.staging.get(name).cloned();
        staging.ok_or_else(|| Error::internal(format!("the target of '{name}' is not open")))
    }

    /// Waits until the commit of the previous epoch ends, or until `GRACE` after the user's stop. There is no other limit: it is not known how long a
    /// function or a merge takes, and the next epoch must not be sealed before this one is done.
    pub(super) fn settle(&mut self) -> Result<()> {
        let Some(mut task) = self.committing.take() else { return Ok(()) };
        let mut until: Option<Instant> = None;
        let waited = loop {
            if self.shared.stopping() == Stop::Now {
                until.get_or_insert_with(|| Instant::now() + GRACE);
            }
            let turn = until.map_or(TURN, |u| TURN.min(u.saturating_duration_since(Instant::now())));
            let waited = self.job.runtime.block_on(async { tokio::time::timeout(turn, &mut task).await });
            // A stop does not wait for a function: the next start calls it again.
            let given_up = self.shared.stopping() == Stop::Now && self.shared.is_calling();
            if waited.is_ok() || given_up || until.is_some_and(|u| Instant::now() >= u) {
                break waited;
            }
        };
        match waited {
            Err(_) => Ok(()), // The next start finishes the sealed epoch.
            Ok(Err(e)) => Err(Error::internal(format!("the commit ended: {e}"))),
            Ok(Ok(Err(e))) => Err(e),
            Ok(Ok(Ok((committer, done)))) => {
                for (name, table) in &done.tables {
                    self.report_version(name, table.version);
                }
                let epoch = done.epoch;
                self.last_done = Some(epoch);
                let sealed = std::mem::take(&mut self.sealed);
                self.publish(sealed);
                let (name, run_id) = (self.shared.name.clone(), self.shared.run_id.clone());
                progress::tell(|| Event::Done { name, run_id, epoch });
                self.shared.report.lock().committed(epoch, &committer.metrics);
                // A quarantine table may have been made meanwhile.
                let newer = std::mem::replace(&mut self.at.committer, committer);
                self.at.committer.take_on(newer);
                let of = maintain::Of {
                    job: self.job,
                    shared: self.shared,
                    log: &self.at.log,
                    committer: &self.at.committer,
                    watermark: watermark(&self.at),
                };
                self.maintenance.after(&of, epoch);
                Ok(())
            }
        }
    }

    fn publish(&mut self, at: Positions) {
        if let Some(warning) = self.publisher.as_mut().and_then(|p| p.publish(at)) {
            log::warn!("{}: {warning}", self.job.flow.name);
            self.shared.report.lock().warn(warning);
        }
    }

    fn report_version(&self, name: &str, version: u64) {
        let mut report = self.shared.report.lock();
        let (name, location, mode) = match self.job.flow.outputs.iter().find(|t| t.name == name) {
            Some(t) => (t.name.clone(), t.to.describe(), t.mode_name().to_string()),
            None if name == QUARANTINE => {
                (self.job.flow.quarantine.name(), self.job.flow.quarantine.describe(), "append".into())
            }
            None => return,
        };
        let entry = report.tables.entry(name).or_default();
        entry.version = version;
        entry.location = location;
        entry.mode = mode;
    }
}

/// The lowest watermark: windows that end at or before it are closed for every table. None if one watermark has no value yet.
fn watermark(at: &Started) -> Option<EventTime> {
    let all: Option<Vec<EventTime>> = at.engine.trackers.iter().map(|t| t.watermark).collect();
    all.and_then(|all| all.into_iter().min())
}

impl Work {
    fn abort(self) {
        self.parts.into_iter().flatten().chain(self.quarantine).for_each(|part| part.abort());
    }
}
