//! What need not happen: checkpoints of a table's log, and small files made into large ones. It works on a table of its own, opened for
//! it, beside the stream; a failure is only told.

use super::{open, quiet, within, within_time};
use crate::storage::Location;
use crate::{Error, Result};
use futures::TryStreamExt;
use std::num::NonZeroU64;
use std::time::Duration;

/// A checkpoint is written when the table has had so many versions since the last one.
const CHECKPOINT_EVERY: u64 = 50;
/// After a failure it is tried again so many versions later.
const AGAIN: u64 = 10;
/// Files below this are small; they are made into ones of about this size.
const TARGET: u64 = 128 << 20;

/// How long joining files, or a checkpoint of a long log, may take: it grows with the table. Nothing waits for it.
const MOST: Duration = Duration::from_secs(3600);

/// What is known of a table from one look to the next.
#[derive(Debug, Clone, Copy, Default)]
pub struct Upkeep {
    /// The version of the last checkpoint, once it is known.
    checkpoint: Option<u64>,
    /// The version from which on its files are counted again.
    count_from: u64,
}

/// Looks at the table at `location`, which is at `version` or beyond, and does what is due; returns what went wrong.
pub async fn maintain(
    location: &Location,
    version: u64,
    optimize_every: Option<usize>,
    upkeep: &mut Upkeep,
) -> Vec<String> {
    let mut wrong = vec![];
    let mut tell = |what: &str, e: Error| {
        wrong.push(format!("{}: {what}, and are tried again: {}", location.display(), e.message));
    };
    // Not by the version's number: joining files takes versions, too, and a round may be left out.
    let last = match upkeep.checkpoint {
        Some(last) => last,
        None => last_checkpoint(location).await,
    };
    upkeep.checkpoint = Some(last);
    if version >= last + CHECKPOINT_EVERY {
        let written = checkpoint(location).await;
        upkeep.checkpoint = Some(if written.is_ok() { version } else { version + AGAIN - CHECKPOINT_EVERY });
        if let Err(e) = written {
            tell("checkpoints of the log were not written", e);
        }
    }
    // Counting opens the table: its whole log, and with each version would be most of what a quick query does.
    if let Some(every) = optimize_every.map(|n| n.max(2))
        && version >= upkeep.count_from
    {
        match optimize(location, every).await {
            Ok(small) => upkeep.count_from = version + until_next_count(every, small),
            Err(e) => tell("small files were not joined", e),
        }
    }
    wrong
}

/// How many versions may go by until small files are counted again, of which there are `small`: with one more by each, the one that makes
/// them `every` is not missed, and there are few counts on the way.
fn until_next_count(every: usize, small: usize) -> u64 {
    every.saturating_sub(small).div_ceil(2).max(1) as u64
}

/// As `_last_checkpoint` has it, which is a hint and may be wrong: then there is one more.
async fn last_checkpoint(location: &Location) -> u64 {
    let hint = location.get("_delta_log/_last_checkpoint").await.ok().flatten();
    let hint = hint.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    hint.and_then(|hint| hint.get("version")?.as_u64()).unwrap_or(0)
}

async fn checkpoint(location: &Location) -> Result<()> {
    let Some(table) = open(location).await? else { return Ok(()) };
    within_time(MOST, location, "writing a checkpoint", deltalake::checkpoints::create_checkpoint(&table, None)).await
}

/// Joins small files once there are `every` of them, and says how many are left. Rows stay the same, so the commit says that no data
/// changed; one that loses a race is given up, and comes again later.
async fn optimize(location: &Location, every: usize) -> Result<usize> {
    let Some(table) = open(location).await? else { return Ok(0) };
    let log = table.log_store();
    let state = table.snapshot().map_err(super::delta_error)?;
    let files = state.snapshot().file_views(log.as_ref(), None).try_collect::<Vec<_>>();
    let files = within(location, "listing the table's files", files).await?;
    let small = files.iter().filter(|f| (f.size() as u64) < TARGET / 2).count();
    if small < every {
        return Ok(small);
    }
    let work = table
        .optimize()
        .with_target_size(NonZeroU64::new(TARGET).unwrap_or(NonZeroU64::MIN))
        .with_max_concurrent_tasks(1)
        .with_commit_properties(quiet());
    within_time(MOST, location, "joining small files", async { work.await.map(|_| 0) }).await
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
