//! What happens beside the stream and never fails it: checkpoints of the tables' logs, small files joined, old epochs cleaned up.

use super::run::{QuerySpec, Runner};
use super::start::QUARANTINE;
use crate::epoch::EpochLog;
use crate::sink::delta;
use crate::sink::delta::OutputMode;
use crate::storage::Location;
use crate::time::{Clock, SystemClock};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Every so many epochs the epoch log is looked at.
const CLEAN_EVERY: i64 = 20;

/// One round at a time.
#[derive(Default)]
pub struct Maintenance(Option<JoinHandle<()>>);

impl Maintenance {
    pub fn is_idle(&self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// At a run's end: what is at work may end.
    pub fn settle(&mut self, spec: &QuerySpec, patience: Duration) {
        if let Some(task) = self.0.take() {
            let _ = spec.runtime.block_on(async { tokio::time::timeout(patience, task).await });
        }
    }
}

impl Runner<'_> {
    /// After an epoch is done, unless the round before is still at work.
    pub(super) fn maintain(&mut self, epoch: i64) {
        if !self.maintenance.is_idle() {
            return;
        }
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
        self.maintenance.0 = Some(self.spec.runtime.spawn(async move {
            for (location, version, every) in due {
                delta::maintain(&location, version, every).await;
            }
            if epoch % CLEAN_EVERY == 0
                && let Err(e) = log.clean(epoch, SystemClock.now()).await
            {
                log::warn!("{name}: old epochs were not cleaned up: {}", e.message);
            }
        }));
    }
}
