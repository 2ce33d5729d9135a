//! What need not happen: checkpoints of a table's log, and small files made into large ones. It works on a table of its own, opened for
//! it, beside the stream; a failure is only told.

use super::{open, quiet, within, within_time};
use crate::Result;
use crate::storage::Location;
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

/// Looks at the table at `location` and does what is due; returns what went wrong. `checkpointed`: the version of its last checkpoint,
/// once it is known.
pub async fn maintain(
    location: &Location,
    known_version: u64,
    optimize_every: Option<usize>,
    checkpointed: &mut Option<u64>,
) -> Vec<String> {
    let mut wrong = vec![];
    let mut tell = |what: &str, result: Result<()>| {
        if let Err(e) = result {
            wrong.push(format!("{}: {what}, and are tried again: {}", location.display(), e.message));
        }
    };
    // Not by the version's number: joining files takes versions, too, and a round may be left out.
    let last = match *checkpointed {
        Some(last) => last,
        None => last_checkpoint(location).await,
    };
    *checkpointed = Some(last);
    if known_version >= last + CHECKPOINT_EVERY {
        let written = checkpoint(location).await;
        *checkpointed = Some(if written.is_ok() { known_version } else { known_version + AGAIN - CHECKPOINT_EVERY });
        tell("checkpoints of the log were not written", written);
    }
    if let Some(every) = optimize_every {
        tell("small files were not joined", optimize(location, every).await);
    }
    wrong
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

/// Joins small files once there are `every` of them. Rows stay the same, so the commit says that no data changed; one that loses a race is
/// given up, and comes again later.
async fn optimize(location: &Location, every: usize) -> Result<()> {
    let Some(table) = open(location).await? else { return Ok(()) };
    let log = table.log_store();
    let state = table.snapshot().map_err(super::delta_error)?;
    let files = state.snapshot().file_views(log.as_ref(), None).try_collect::<Vec<_>>();
    let files = within(location, "listing the table's files", files).await?;
    let small = files.iter().filter(|f| (f.size() as u64) < TARGET / 2).count();
    if small < every.max(2) {
        return Ok(());
    }
    let work = table
        .optimize()
        .with_target_size(NonZeroU64::new(TARGET).unwrap_or(NonZeroU64::MIN))
        .with_max_concurrent_tasks(1)
        .with_commit_properties(quiet());
    within_time(MOST, location, "joining small files", async { work.await.map(drop) }).await
}
