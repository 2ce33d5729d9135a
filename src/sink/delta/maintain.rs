//! What need not happen: checkpoints of a table's log, and small files made into large ones. It works on a table of its own, opened for
//! it, beside the stream; a failure is only logged.

use super::{open, quiet, within};
use crate::Result;
use crate::storage::Location;
use futures::TryStreamExt;
use std::num::NonZeroU64;

/// A checkpoint is written each time the table has had so many versions.
const CHECKPOINT_EVERY: u64 = 50;
/// Files below this are small; they are made into ones of about this size.
const TARGET: u64 = 128 << 20;

/// Looks at the table at `location` and does what is due.
pub async fn maintain(location: &Location, known_version: u64, optimize_every: Option<usize>) {
    if known_version > 0 && known_version.is_multiple_of(CHECKPOINT_EVERY) {
        said(location, "no checkpoint was written", checkpoint(location).await);
    }
    if let Some(every) = optimize_every {
        said(location, "small files were not joined", optimize(location, every).await);
    }
}

fn said(location: &Location, what: &str, result: Result<()>) {
    if let Err(e) = result {
        log::warn!("{}: {what}: {}", location.display(), e.message);
    }
}

async fn checkpoint(location: &Location) -> Result<()> {
    let Some(table) = open(location).await? else { return Ok(()) };
    within(location, "writing a checkpoint", deltalake::checkpoints::create_checkpoint(&table, None)).await
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
    within(location, "joining small files", async { work.await.map(drop) }).await
}
