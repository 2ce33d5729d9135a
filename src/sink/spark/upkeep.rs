//! Removes staged files that no run will commit: those of epochs that a killed run had staged and not sealed.

use crate::sink::{Maintain, Round};
use crate::storage::Location;
use crate::time::SharedClock;
use async_trait::async_trait;

/// An epoch that is not sealed after this time never will be, in microseconds. Sealed epochs of earlier runs are committed before upkeep begins.
const OLD: i64 = 7 * 86_400_000_000;

pub(super) struct Upkeep {
    staged: Location,
    clock: SharedClock,
    /// Once in a run.
    done: bool,
}

impl Upkeep {
    pub(super) fn new(staged: Location, clock: SharedClock) -> Self {
        Self { staged, clock, done: false }
    }
}

#[async_trait]
impl Maintain for Upkeep {
    async fn maintain(&mut self, _round: Round<'_>) -> Vec<String> {
        if std::mem::replace(&mut self.done, true) {
            return vec![];
        }
        let before = self.clock.now().0 - OLD;
        let swept = async {
            let names = self.staged.list("").await?;
            let is_old =
                |name: &String| name.split('-').next().and_then(|t| t.parse::<i64>().ok()).is_some_and(|t| t < before);
            self.staged.delete_all(names.into_iter().filter(is_old)).await
        };
        match swept.await {
            Ok(()) => vec![],
            Err(e) => vec![format!("{}: old staged files were not removed: {}", self.staged.display(), e.message)],
        }
    }
}
