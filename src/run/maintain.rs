//! Maintenance in parallel with the stream: it writes checkpoints of the tables' logs, joins small files and cleans up old epochs. Its errors
//! never fail the query.

use super::Job;
use super::commit::Committer;
use super::control::{Shared, Stop};
use crate::epoch::EpochLog;
use crate::flow::QUARANTINE;
use crate::memory::{self, GiveBack};
use crate::sink::{Maintain, Round};
use crate::time::EventTime;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::task::JoinHandle;

/// The epoch log is cleaned once in this many epochs.
const CLEAN_EVERY: i64 = 20;

/// A run that has ended waits at most this long for its maintenance.
const PATIENCE: Duration = Duration::from_secs(60);

/// The result of a round: its errors, the upkeep of each table, and the oldest epoch that is kept.
type Ended = (Vec<String>, BTreeMap<String, Box<dyn Maintain>>, Option<i64>);

/// One round at a time.
#[derive(Default)]
pub(super) struct Maintenance {
    round: Option<JoinHandle<Ended>>,
    told: BTreeSet<String>,
    /// By output. Empty while a round is running.
    upkeep: BTreeMap<String, Box<dyn Maintain>>,
    /// The epoch of the last clean-up; before the first clean-up, the epoch before this run.
    cleaned: Option<i64>,
    /// The oldest epoch that is kept.
    oldest: Option<i64>,
    give_back: GiveBack,
}

impl Maintenance {
    pub(super) fn is_idle(&self) -> bool {
        self.round.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Adds errors to the query's warnings. Each text is added once, because a failing store would cause the same error in each epoch.
    fn tell(&mut self, shared: &Shared, wrong: Vec<String>) {
        for text in wrong {
            log::warn!("{text}");
            if self.told.len() < 20 && self.told.insert(text.clone()) {
                shared.report.lock().warnings.push(text);
            }
        }
    }

    /// Waits for the round that is running, at most `patience`, and takes its result.
    pub(super) fn settle(&mut self, job: &Job, shared: &Shared, patience: Duration) {
        if let Some(task) = self.round.take()
            && let Ok(ended) = job.runtime.block_on(async { tokio::time::timeout(patience, task).await })
        {
            match ended {
                Ok((wrong, upkeep, oldest)) => {
                    self.upkeep = upkeep;
                    self.oldest = oldest;
                    self.tell(shared, wrong);
                }
                Err(e) => self.tell(
                    shared,
                    vec![format!("{}: the maintenance in parallel with the stream ended: {e}", job.flow.name)],
                ),
            }
        }
    }
}

/// The parts of a run that a round works on.
pub(super) struct Of<'a> {
    pub job: &'a Job,
    pub shared: &'a Shared,
    pub log: &'a EpochLog,
    pub committer: &'a Committer,
    /// The lowest watermark of the query.
    pub watermark: Option<EventTime>,
}

impl Maintenance {
    /// Maintains the tables at a run's end. Earlier rounds may have been skipped because the round before them was still running.
    pub(super) fn at_end(&mut self, of: &Of<'_>, last_done: Option<i64>) {
        let patience = if of.shared.stopping() == Stop::Now { Duration::ZERO } else { PATIENCE };
        self.settle(of.job, of.shared, patience);
        let due = |last: i64| self.cleaned.is_some_and(|c| last / CLEAN_EVERY > c / CLEAN_EVERY);
        if let Some(last) = last_done.filter(|last| due(*last))
            && !patience.is_zero()
        {
            self.after(of, last);
            self.settle(of.job, of.shared, patience);
        }
    }

    /// Starts a round after an epoch is done, unless the last round is still running.
    pub(super) fn after(&mut self, of: &Of<'_>, epoch: i64) {
        if !self.is_idle() {
            return;
        }
        self.settle(of.job, of.shared, Duration::from_secs(1));
        let (optimize_every, clean_log) = (of.job.flow.optimize_every, of.job.flow.clean_log);
        let due = of.committer.at_versions();
        for (name, _) in due.iter().filter(|(name, _)| !self.upkeep.contains_key(name)).collect::<Vec<_>>() {
            let sink = match of.job.flow.outputs.iter().find(|o| o.name == *name) {
                Some(output) => output.sink(&of.job.clock).ok(),
                None if name == QUARANTINE => Some(of.job.flow.quarantine_sink(&of.job.clock)),
                None => None,
            };
            if let Some(upkeep) = sink.and_then(|s| s.upkeep()) {
                self.upkeep.insert(name.clone(), upkeep);
            }
        }
        let (log, name): (EpochLog, String) = (of.log.clone(), of.job.flow.name.clone());
        // The number of the epoch alone does not decide, because a round may be skipped while the round before it is still running.
        let cleaned = self.cleaned.get_or_insert(epoch - 1);
        let clean = epoch / CLEAN_EVERY > *cleaned / CLEAN_EVERY;
        if clean {
            *cleaned = epoch;
        }
        let clock = of.job.clock.clone();
        let give_back = self.give_back.is_due();
        let watermark = of.watermark;
        let mut upkeep = std::mem::take(&mut self.upkeep);
        let mut oldest = self.oldest;
        self.round = Some(of.job.runtime.spawn(async move {
            let mut wrong = vec![];
            if clean {
                match log.clean(epoch, clock.now(), oldest).await {
                    Ok(cleaned) => oldest = cleaned.oldest,
                    Err(e) => wrong.push(format!(
                        "{name}: old epochs were not cleaned up, which is tried again later: {}",
                        e.message
                    )),
                }
            }
            for (name, version) in due {
                let Some(known) = upkeep.get_mut(&name) else { continue };
                let oldest = Box::pin(oldest_version(&log, oldest, &name));
                wrong.extend(known.maintain(Round { version, optimize_every, clean_log, watermark, oldest }).await);
            }
            if give_back {
                memory::give_back();
            }
            (wrong, upkeep, oldest)
        }));
    }
}

/// The table's version at the oldest epoch that is kept. 0 if the version is not known.
async fn oldest_version(log: &EpochLog, oldest: Option<i64>, table: &str) -> u64 {
    let Some(oldest) = oldest else { return 0 };
    let done = log.read_done(oldest).await.ok().flatten();
    done.and_then(|d| d.tables.get(table).map(|t| t.version)).unwrap_or(0)
}
