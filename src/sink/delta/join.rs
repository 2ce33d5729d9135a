//! Compacts small files into large ones. Rows do not change, so the commit says that no data changed.

use super::files::{FileWriter, Properties, null_text, read};
use super::fit::relaxed_schema;
use super::merge::conform;
use super::{delta_error, open, quiet, within};
use crate::storage::Location;
use crate::time::SharedClock;
use crate::{Error, Result};
use arrow::datatypes::DataType;
use deltalake::DeltaTable;
use deltalake::kernel::transaction::CommitBuilder;
use deltalake::kernel::{Action, Add, Remove};
use deltalake::protocol::DeltaOperation;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// A file below half of this size is small. Compacted files have about this size.
const TARGET: u64 = 128 << 20;
/// A commit that loses a race is repeated on the newer version, at most this many times.
const ATTEMPTS: u32 = 10;

/// A small file that can be compacted with others.
struct Small {
    path: Path,
    partition: HashMap<String, Option<String>>,
    remove: Remove,
}

/// Compacts small files if there are at least `every` of them. Returns how many are left.
pub(super) async fn join_small(location: &Location, every: usize, clock: &SharedClock) -> Result<usize> {
    let Some(mut table) = open(location).await? else { return Ok(0) };
    let (groups, small) = small_files(location, &table).await?;
    if small < every {
        return Ok(small);
    }
    let state = table.snapshot().map_err(delta_error)?.snapshot();
    let schema = relaxed_schema(&state.arrow_schema());
    let (metadata, protocol) = (identity(state.metadata()), identity(state.protocol()));
    let store = table.log_store().object_store(None);
    let partitions = state.metadata().partition_columns().to_vec();
    let mut writer =
        FileWriter::new(Properties::new(store.clone(), schema.clone(), &partitions, clock.clone())?.joining());
    let mut left = small;
    for file in groups.iter().flatten() {
        let failed = |e: &dyn std::fmt::Display| Error::storage(format!("reading {}: {e}", file.path));
        let reading = async { store.get(&file.path).await?.bytes().await };
        let bytes = tokio::time::timeout(location.timeout(), reading).await;
        let bytes = bytes.map_err(|_| failed(&"it took too long"))?.map_err(|e| failed(&e))?;
        for batch in read(bytes).map_err(|e| failed(&e))? {
            writer.write(&conform(&batch.map_err(|e| failed(&e))?, &schema, &file.partition)?).await?;
        }
        left -= 1;
    }
    let adds: Vec<Add> = writer.close().await?.into_iter().map(|a| Add { data_change: false, ..a }).collect();
    left += adds.iter().filter(|a| (a.size as u64) < TARGET / 2).count();
    let removes: Vec<Remove> = groups.into_iter().flatten().map(|f| f.remove).collect();
    let mut actions: Vec<Action> = removes.iter().cloned().map(Action::Remove).collect();
    actions.extend(adds.into_iter().map(Action::Add));
    for attempt in 0..ATTEMPTS {
        let state = table.snapshot().map_err(delta_error)?;
        let operation = DeltaOperation::Optimize { predicate: None, target_size: TARGET as i64 };
        let committing = async {
            let prepared = CommitBuilder::from(quiet())
                .with_actions(actions.clone())
                .build(Some(state), table.log_store(), operation)
                .into_prepared_commit_future()
                .await?;
            prepared.await.map(drop)
        };
        let Err(lost) = within(location, "compacting small files", committing).await else { return Ok(left) };
        tokio::time::sleep(Duration::from_millis((10u64 << attempt) + u64::from(rand::random::<u8>()))).await;
        // Appends do not affect the compacted files. A change of these files, or of the table itself, does.
        let Some(newer) = open(location).await? else { return Err(lost) };
        let state = newer.snapshot().map_err(delta_error)?.snapshot();
        let log = newer.log_store();
        let views = state.file_views(log.as_ref(), None).try_collect::<Vec<_>>();
        let there: HashSet<String> =
            within(location, "listing the table's files", views).await?.iter().map(|v| v.path().to_string()).collect();
        let same = identity(state.metadata()) == metadata && identity(state.protocol()) == protocol;
        if !same || removes.iter().any(|r| !there.contains(&r.path)) {
            return Err(lost);
        }
        table = newer;
    }
    Err(Error::storage("others keep committing"))
}

fn identity(of: &impl serde::Serialize) -> String {
    serde_json::to_string(of).unwrap_or_default()
}

/// The small files by partition, and how many there are.
async fn small_files(location: &Location, table: &DeltaTable) -> Result<(Vec<Vec<Small>>, usize)> {
    let log = table.log_store();
    let state = table.snapshot().map_err(delta_error)?.snapshot();
    let schema = state.arrow_schema();
    let views = state.file_views(log.as_ref(), None).try_collect::<Vec<_>>();
    let views = within(location, "listing the table's files", views).await?;
    let mut groups: BTreeMap<Vec<(String, Option<String>)>, Vec<Small>> = BTreeMap::new();
    for view in &views {
        // Rows that a deletion vector removes would come back.
        if view.size() as u64 >= TARGET / 2 || view.deletion_vector_descriptor().is_some() {
            continue;
        }
        let partition = view.partition_values_map();
        // Readers disagree about these values, so the file stays as its writer left it.
        let is_text = |name: &String| schema.field_with_name(name).is_ok_and(|f| *f.data_type() == DataType::Utf8);
        if partition.iter().any(|(name, value)| is_text(name) && value.as_deref().is_some_and(null_text)) {
            continue;
        }
        let mut key: Vec<_> = partition.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        key.sort();
        let file = Small { path: view.object_store_path(), partition, remove: view.remove_action(false) };
        groups.entry(key).or_default().push(file);
    }
    // A single file of a partition cannot be compacted.
    let groups: Vec<Vec<Small>> = groups.into_values().filter(|g| g.len() > 1).collect();
    let small = groups.iter().map(Vec::len).sum();
    Ok((groups, small))
}
