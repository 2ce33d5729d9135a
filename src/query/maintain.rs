//! What happens beside the stream and never fails it: checkpoints of the tables' logs, small files joined, old epochs cleaned up.

use super::control::Shared;
use super::memory::{self, GiveBack};
use super::run::{QuerySpec, Runner};
use super::start::QUARANTINE;
use crate::epoch::EpochLog;
use crate::sink::delta;
use crate::sink::delta::{OutputMode, Upkeep};
use crate::storage::Location;
use crate::time::{Clock, SystemClock};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Every so many epochs the epoch log is looked at.
const CLEAN_EVERY: i64 = 20;

/// What a round hands back: what went wrong, and what is known of the tables.
type Round = (Vec<String>, BTreeMap<String, Upkeep>);

/// One round at a time.
#[derive(Default)]
pub struct Maintenance {
    round: Option<JoinHandle<Round>>,
    told: BTreeSet<String>,
    /// By table's location.
    upkeep: BTreeMap<String, Upkeep>,
    /// The epoch at which old ones were cleaned up last, or before which this run began.
    cleaned: Option<i64>,
    give_back: GiveBack,
}

impl Maintenance {
    pub fn is_idle(&self) -> bool {
        self.round.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// What went wrong is a warning of the query, each once: a store that is ill would repeat it with each epoch.
    fn tell(&mut self, shared: &Shared, wrong: Vec<String>) {
        for text in wrong {
            log::warn!("{text}");
            if self.told.len() < 20 && self.told.insert(text.clone()) {
                shared.report.lock().warnings.push(text);
            }
        }
    }

    /// At a run's end: what is at work may end.
    pub fn settle(&mut self, spec: &QuerySpec, shared: &Shared, patience: Duration) {
        if let Some(task) = self.round.take()
            && let Ok(ended) = spec.runtime.block_on(async { tokio::time::timeout(patience, task).await })
        {
            match ended {
                Ok((wrong, upkeep)) => {
                    self.upkeep = upkeep;
                    self.tell(shared, wrong);
                }
                Err(e) => self.tell(shared, vec![format!("{}: what happens beside the stream ended: {e}", spec.name)]),
            }
        }
    }
}

impl Runner<'_> {
    /// After an epoch is done, unless the round before is still at work.
    pub(super) fn maintain(&mut self, epoch: i64) {
        if !self.maintenance.is_idle() {
            return;
        }
        self.maintenance.settle(self.spec, self.shared, Duration::from_secs(1));
        let every = self.spec.optimize_every;
        let due: Vec<(Location, u64, Option<usize>)> = self
            .at
            .committer
            .places()
            .into_iter()
            .filter_map(|(name, version)| match self.spec.tables.iter().find(|t| t.name == name) {
                // A complete table is written anew each time.
                Some(t) => Some((t.location.clone(), version, every.filter(|_| t.mode != OutputMode::Complete))),
                None if name == QUARANTINE => Some((self.spec.quarantine.clone(), version, every)),
                None => None,
            })
            .collect();
        let (log, name): (EpochLog, String) = (self.at.log.clone(), self.spec.name.clone());
        // Not by the epoch's number alone: a round may be left out because the one before is still at work.
        let cleaned = self.maintenance.cleaned.get_or_insert(epoch - 1);
        let clean = epoch / CLEAN_EVERY > *cleaned / CLEAN_EVERY;
        if clean {
            *cleaned = epoch;
        }
        let give_back = self.maintenance.give_back.is_due();
        let mut upkeep = self.maintenance.upkeep.clone();
        self.maintenance.round = Some(self.spec.runtime.spawn(async move {
            let mut wrong = vec![];
            for (location, version, every) in due {
                let known = upkeep.entry(location.display()).or_default();
                wrong.extend(delta::maintain(&location, version, every, known).await);
            }
            if clean && let Err(e) = log.clean(epoch, SystemClock.now()).await {
                wrong.push(format!("{name}: old epochs were not cleaned up, and are tried again: {}", e.message));
            }
            if give_back {
                memory::give_back();
            }
            (wrong, upkeep)
        }));
    }
}
