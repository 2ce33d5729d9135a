//! Optional work: checkpoints of a table's log, and the compaction of small files. It runs in parallel with the stream, on a
//! table that it opens itself. A failure is only reported.

use super::join::{Layout, join_small};
use super::{open, within_time};
use crate::sink::{Maintain, Round};
use crate::storage::Location;
use crate::time::{EventTime, SharedClock};
use crate::{Error, Result};
use async_trait::async_trait;
use std::time::{Duration, Instant};

/// A checkpoint is written when the table has had this many versions since the last checkpoint, and more versions if
/// the last checkpoint has many entries.
const CHECKPOINT_EVERY: u64 = 50;
/// For each of this many entries of the last checkpoint, the next checkpoint is one version later, because every
/// checkpoint contains all entries again. Otherwise the checkpoints of a table with many files would grow with the
/// square of its age. There is an upper limit, because a start reads the commits since the last checkpoint.
const ENTRIES_PER_VERSION: u64 = 20;
const CHECKPOINT_AFTER: u64 = 1000;
/// The log is cleaned at most this often, because each time lists it as a whole.
const CLEAN_EVERY: Duration = Duration::from_secs(3600);
/// Delta's retention of a log, if the table does not set one.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
/// An unfinished file of a killed writer is removed after this time.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 3600);
/// After a failure, the next attempt is this many versions later.
const AGAIN: u64 = 10;

/// The time limit for compaction, or for a checkpoint of a long log. It grows with the table, and nothing waits for it.
const MOST: Duration = Duration::from_secs(3600);

/// The maintenance of one table, and the facts about the table from the previous check.
pub(super) struct Upkeep {
    location: Location,
    clock: SharedClock,
    /// False for a complete result: each epoch writes the whole table, so there are no small files to compact.
    joins: bool,
    /// Mode update: the columns that rows are merged by.
    keys: Option<Vec<String>>,
    /// The version and the number of entries of the last checkpoint, as soon as they are known.
    checkpoint: Option<(u64, u64)>,
    /// When the log was last cleaned.
    cleaned: Option<Instant>,
    /// The version from which on the files are counted again.
    count_from: u64,
}

impl Upkeep {
    pub(super) fn new(location: Location, clock: SharedClock, joins: bool, keys: Option<Vec<String>>) -> Self {
        Self { location, clock, joins, keys, checkpoint: None, cleaned: None, count_from: 0 }
    }
}

#[async_trait]
impl Maintain for Upkeep {
    async fn maintain(&mut self, round: Round<'_>) -> Vec<String> {
        maintain(self, round).await
    }
}

/// Checks a table and does the work that is due. Returns what went wrong.
async fn maintain(upkeep: &mut Upkeep, round: Round<'_>) -> Vec<String> {
    let Round { version, optimize_every, clean_log, watermark, oldest } = round;
    let (location, optimize_every) = (&upkeep.location.remembering(), optimize_every.filter(|_| upkeep.joins));
    let mut wrong = vec![];
    let mut tell = |what: &str, e: Error| {
        wrong.push(format!("{}: {what}, and are tried again: {}", location.display(), e.message));
    };
    // The number of the version alone does not decide, because compaction makes versions too, and a check can be left
    // out.
    let (last, entries) = match upkeep.checkpoint {
        Some(last) => last,
        None => last_checkpoint(location).await,
    };
    upkeep.checkpoint = Some((last, entries));
    let every = (entries / ENTRIES_PER_VERSION).clamp(CHECKPOINT_EVERY, CHECKPOINT_AFTER);
    if version >= last + every {
        let written = checkpoint(location).await;
        upkeep.checkpoint = Some(match written.is_ok() {
            true => last_checkpoint(location).await,
            false => ((version + AGAIN).saturating_sub(every), entries),
        });
        if let Err(e) = written {
            tell("checkpoints of the log were not written", e);
        }
        // After a checkpoint, because a checkpoint must exist before anything is removed.
        if upkeep.cleaned.is_none_or(|at| at.elapsed() >= CLEAN_EVERY)
            && let needed = oldest.await
            && needed > 0
        {
            upkeep.cleaned = Some(Instant::now());
            if let Err(e) = clean(location, version, clean_log, needed, upkeep.clock.now()).await {
                tell("old files of the table's log were not cleaned up", e);
            }
        }
    }
    // Counting opens the table and reads its whole log. If it were done for each version, it would be most of the work
    // of a fast query.
    if let Some(every) = optimize_every.map(|n| n.max(2))
        && version >= upkeep.count_from
    {
        let layout = upkeep.keys.as_ref().map(|keys| Layout { keys, watermark });
        match tokio::time::timeout(MOST, join_small(location, &upkeep.location, every, &upkeep.clock, layout))
            .await
            .unwrap_or_else(|_| Err(Error::storage("it took longer than an hour")))
        {
            Ok(small) => upkeep.count_from = version + until_next_count(every, small),
            Err(e) => tell("small files were not compacted", e),
        }
    }
    wrong
}

/// The number of versions until small files are counted again, if there are `small` now. If each version adds one, the
/// version that reaches `every` is not missed, and there are few counts before it.
fn until_next_count(every: usize, small: usize) -> u64 {
    every.saturating_sub(small).div_ceil(2).max(1) as u64
}

/// The version and the number of entries in `_last_checkpoint`. This file is a hint and can be wrong; then one more
/// checkpoint is written.
async fn last_checkpoint(location: &Location) -> (u64, u64) {
    let hint = location.get("_delta_log/_last_checkpoint").await.ok().flatten();
    let hint = hint.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    let number = |name: &str| hint.as_ref().and_then(|hint| hint.get(name)?.as_u64()).unwrap_or(0);
    (number("version"), number("size"))
}

/// Removes entries that the table's own retention (`delta.logRetentionDuration`) allows to remove, except those that a
/// kept epoch needs. Also removes unfinished files of killed writers.
async fn clean(location: &Location, version: u64, clean_log: Option<bool>, needed: u64, now: EventTime) -> Result<()> {
    location.sweep(LEFT_BEHIND).await?;
    let Some(table) = open(location).await? else { return Ok(()) };
    let state = table.snapshot().map_err(super::delta_error)?.snapshot();
    let property = state.metadata().configuration().get(super::CLEAN_LOG).map(|v| v.eq_ignore_ascii_case("true"));
    // The property of the table decides, unless this query has an option of its own.
    if clean_log == Some(false) || !property.or(clean_log).unwrap_or(false) {
        return Ok(());
    }
    let properties = table.snapshot().map_err(super::delta_error)?.table_config();
    let retention = properties.log_retention_duration.unwrap_or(RETENTION).as_micros() as i64;
    let before = (now.0 - retention) / 1000;
    let keep = needed.min(version);
    let log = table.log_store();
    let cleaning = deltalake::checkpoints::cleanup_expired_logs_for(keep, log.as_ref(), before, None);
    within_time(MOST, location, "cleaning the log", async { cleaning.await.map(drop) }).await
}

async fn checkpoint(location: &Location) -> Result<()> {
    let Some(table) = open(location).await? else { return Ok(()) };
    within_time(MOST, location, "writing a checkpoint", deltalake::checkpoints::create_checkpoint(&table, None)).await
}

#[cfg(test)]
mod tests {
    use super::until_next_count;

    #[test]
    fn with_a_file_by_each_version_small_files_are_counted_few_times_and_when_there_are_enough() {
        for every in 2..300 {
            let (mut small, mut counts) = (0, 0);
            while small < every {
                small += until_next_count(every, small) as usize;
                counts += 1;
            }
            assert_eq!(small, every);
            assert!(counts <= every.ilog2() + 2, "{every}: {counts}");
        }
    }
}
