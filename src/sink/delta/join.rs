//! Compacts small files into large ones. Rows do not change, so the commit says that no data changed.

use super::files::{FileWriter, Properties, null_text, read};
use super::fit::{find, relaxed_schema};
use super::listed::listed;
use super::merge::conform;
use super::prune::{Span, spans, times};
use super::rewrite::{Keys, Merged, Reader, file_size};
use super::sorted::{Upserts, write};
use super::units::Unit;
use super::{delta_error, open, quiet, within};
use crate::storage::Location;
use crate::time::{EventTime, SharedClock};
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

/// Files, and the files that replace them.
#[derive(Default)]
struct Joined {
    removes: Vec<Remove>,
    adds: Vec<Add>,
}

impl Joined {
    fn actions(&self) -> impl Iterator<Item = Action> {
        let adds = self.adds.iter().map(|a| Action::Add(Add { data_change: false, ..a.clone() }));
        self.removes.iter().cloned().map(Action::Remove).chain(adds)
    }
}

/// How epochs find the rows of a table in mode update. Such a table is compacted only where later epochs need not read
/// more because of the compaction.
pub(super) struct Layout<'a> {
    pub keys: &'a [String],
    pub watermark: Option<EventTime>,
}

/// Compacts small files if there are at least `every` of them. Returns how many are left.
pub(super) async fn join_small(
    location: &Location,
    every: usize,
    clock: &SharedClock,
    layout: Option<Layout<'_>>,
) -> Result<usize> {
    let Some(mut table) = open(location).await? else { return Ok(0) };
    let by_key = layout.is_some();
    let (mut done, mut left) = match layout {
        Some(layout) => join_neighbours(location, every, clock, &table, layout).await?,
        None => join_partitions(location, every, clock, &table).await?,
    };
    if done.is_empty() {
        return Ok(left);
    }
    let state = table.snapshot().map_err(delta_error)?.snapshot();
    let (metadata, protocol) = (identity(state.metadata()), identity(state.protocol()));
    for attempt in 0..ATTEMPTS {
        let state = table.snapshot().map_err(delta_error)?;
        let operation = DeltaOperation::Optimize { predicate: None, target_size: TARGET as i64 };
        let committing = async {
            let prepared = CommitBuilder::from(quiet())
                .with_actions(done.iter().flat_map(Joined::actions).collect())
                .build(Some(state), table.log_store(), operation)
                .into_prepared_commit_future()
                .await?;
            prepared.await.map(drop)
        };
        let Err(lost) = within(location, "compacting small files", committing).await else { return Ok(left) };
        tokio::time::sleep(Duration::from_millis((10u64 << attempt) + u64::from(rand::random::<u8>()))).await;
        // Appends do not affect the compacted files. A change of the table itself does.
        let Some(newer) = open(location).await? else { return Err(lost) };
        let state = newer.snapshot().map_err(delta_error)?.snapshot();
        let log = newer.log_store();
        let views = state.file_views(log.as_ref(), None).try_collect::<Vec<_>>();
        let there: HashSet<String> =
            within(location, "listing the table's files", views).await?.iter().map(|v| v.path().to_string()).collect();
        let same = identity(state.metadata()) == metadata && identity(state.protocol()) == protocol;
        // Compacted files whose sources an epoch has rewritten meanwhile are dropped. The others are committed.
        let before = done.len();
        done.retain(|j| j.removes.iter().all(|r| there.contains(&r.path)));
        left += before - done.len();
        if !same || done.is_empty() && !by_key {
            return Err(lost);
        }
        // Epochs of mode update rewrite files all the time. The files that are left are found by the next count.
        if done.is_empty() {
            return Ok(left);
        }
        table = newer;
    }
    Err(Error::storage("others keep committing"))
}

/// Joins the small files of each partition.
async fn join_partitions(
    location: &Location,
    every: usize,
    clock: &SharedClock,
    table: &DeltaTable,
) -> Result<(Vec<Joined>, usize)> {
    let (groups, small) = small_files(location, table).await?;
    if small < every {
        return Ok((vec![], small));
    }
    let state = table.snapshot().map_err(delta_error)?.snapshot();
    let schema = relaxed_schema(&state.arrow_schema());
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
    let adds = writer.close().await?;
    left += adds.iter().filter(|a| (a.size as u64) < TARGET / 2).count();
    let removes: Vec<Remove> = groups.into_iter().flatten().map(|f| f.remove).collect();
    Ok((vec![Joined { removes, adds }], left))
}

/// Joins small neighbours in the order of the keys. Files whose windows can still change are joined only if they have a
/// window in common.
async fn join_neighbours(
    location: &Location,
    every: usize,
    clock: &SharedClock,
    table: &DeltaTable,
    layout: Layout<'_>,
) -> Result<(Vec<Joined>, usize)> {
    let log = table.log_store();
    let state = table.snapshot().map_err(delta_error)?.snapshot();
    let views = state.file_views(log.as_ref(), None).try_collect::<Vec<_>>();
    let views = within(location, "listing the table's files", views).await?;
    let partitions = state.metadata().partition_columns().to_vec();
    let existing = state.arrow_schema();
    let keys = Keys::new(&location.display(), &existing, layout.keys, partitions.clone())?;
    let files: Vec<Add> = views.iter().map(listed).collect();
    let target = file_size(files.iter().map(|f| f.size.max(0) as u64).sum());
    let spans = spans(&keys.of, &partitions, &files.iter().collect::<Vec<_>>())?;
    let end = find(existing.fields(), "window_end");
    let mut all: Vec<Neighbour> = vec![];
    for (at, (file, span)) in files.iter().zip(spans).enumerate() {
        let text_null = |v: &Option<String>| v.as_deref().is_some_and(null_text);
        let window = keys.window.and_then(|w| times(file, keys.of.field(w)));
        let end = end.and_then(|end| times(file, end)).map(|(_, high)| high);
        all.push(Neighbour {
            at,
            span,
            // Rows that a deletion vector removes would come back. Readers disagree about the values of texts.
            small: (file.size.max(0) as u64) < target / 2
                && file.deletion_vector.is_none()
                && !file.partition_values.values().any(text_null),
            window,
            closed: layout.watermark.is_some_and(|w| end.is_some_and(|end| end <= w.0)),
        });
    }
    all.sort_by(|a, b| a.span.low.cmp(&b.span.low));
    let runs = runs(&all, &files, keys.window.is_some(), target);
    let small: usize = runs.iter().map(Vec::len).sum();
    if small < every {
        return Ok((vec![], small));
    }
    let store = log.object_store(None);
    let properties = Properties::new(store.clone(), keys.schema.clone(), &partitions, clock.clone())?.joining();
    let reader = Reader::new(store, location, &keys);
    let (mut out, mut left) = (vec![], 0);
    for run in runs {
        let removes = run.iter().map(|at| views[*at].remove_action(false)).collect();
        let mut unit: Option<Unit> = None;
        for at in run {
            let scanned = Unit::of(reader.scan(files[at].clone(), &Merged::new()).await?);
            match &mut unit {
                Some(unit) => unit.take(scanned),
                None => unit = Some(scanned),
            }
        }
        let Some(unit) = unit else { continue };
        let adds = write(&reader, properties.clone(), unit, &Upserts::none(), target).await?;
        left += adds.len();
        out.push(Joined { removes, adds });
    }
    Ok((out, left))
}

/// A file in the order of the keys.
struct Neighbour {
    at: usize,
    span: Span,
    small: bool,
    /// The starts of its first and last window, if they are known.
    window: Option<(i64, i64)>,
    /// No later epoch changes its windows.
    closed: bool,
}

/// The files that are joined, run by run.
fn runs(all: &[Neighbour], files: &[Add], windowed: bool, target: u64) -> Vec<Vec<usize>> {
    let (mut out, mut run, mut bytes): (Vec<Vec<usize>>, Vec<&Neighbour>, u64) = (vec![], vec![], 0);
    let mut end = |run: &mut Vec<&Neighbour>| {
        if run.len() > 1 {
            out.push(run.iter().map(|n| n.at).collect());
        }
        run.clear();
    };
    for file in all {
        let size = files[file.at].size.max(0) as u64;
        let joins = file.small
            && bytes + size <= target
            && run.last().is_some_and(|last| {
                let meet = match (last.window, file.window) {
                    (Some((_, high)), Some((low, _))) => high >= low,
                    // Without statistics, an epoch that reads one of the files reads the other one too.
                    (None, None) => true,
                    _ => false,
                };
                files[last.at].partition_values == files[file.at].partition_values
                    && (!windowed || meet || last.closed && file.closed)
            });
        if !joins {
            end(&mut run);
            bytes = 0;
        }
        if file.small {
            run.push(file);
            bytes += size;
        }
    }
    end(&mut run);
    out
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_joined_in_key_order_and_never_across_windows_that_can_change() {
        let size = |size: i64| Add { size, ..Add::default() };
        let at = |at: usize, low: u8, small: bool, window: Option<(i64, i64)>, closed: bool| Neighbour {
            at,
            span: Span { low: vec![low], high: vec![low] },
            small,
            window,
            closed,
        };
        let files: Vec<Add> = (0..6).map(|_| size(10)).collect();
        let open = |n: usize, w: i64| at(n, n as u8, true, Some((w, w)), false);
        let all = vec![open(0, 1), open(1, 1), open(2, 2), open(3, 2), open(4, 3), open(5, 4)];
        assert_eq!(runs(&all, &files, true, 100), [vec![0, 1], vec![2, 3]]);
        let closed = |n: usize, w: i64| at(n, n as u8, true, Some((w, w)), true);
        let all = vec![closed(0, 1), closed(1, 1), closed(2, 2), open(3, 3), open(4, 4), open(5, 4)];
        assert_eq!(runs(&all, &files, true, 100), [vec![0, 1, 2], vec![4, 5]]);
        assert_eq!(runs(&all, &files, true, 25), [vec![0, 1], vec![4, 5]], "by size");
        let mut all: Vec<Neighbour> = (0..6).map(|n| at(n, n as u8, true, None, false)).collect();
        assert_eq!(runs(&all, &files, false, 100), [vec![0, 1, 2, 3, 4, 5]]);
        all[2].small = false;
        assert_eq!(runs(&all, &files, false, 100), [vec![0, 1], vec![3, 4, 5]], "not over a large file");
        let mut files = files;
        files[4].partition_values = HashMap::from([("p".into(), Some("x".into()))]);
        assert_eq!(runs(&all, &files, false, 100), [vec![0, 1]], "not across partitions");
    }
}
