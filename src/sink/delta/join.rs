//! Compacts small files into large ones. Rows do not change, so the commit says that no data changed.

use super::check::{Entry, unwritable};
use super::files::{FileWriter, Properties, null_text, read};
use super::fit::{find, relaxed_schema};
use super::listed::{lines, listed};
use super::merge::conform;
use super::prune::{Span, spans, times};
use super::rewrite::{Keys, Merged, Reader, file_size};
use super::sorted::{Upserts, write};
use super::tail::{Writing, commit_name, put_version};
use super::units::Unit;
use super::{delta_error, open, within};
use crate::storage::Location;
use crate::time::{EventTime, SharedClock};
use crate::{Error, Result};
use arrow::datatypes::DataType;
use deltalake::DeltaTable;
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
    fn actions(&self, millis: i64) -> impl Iterator<Item = Action> {
        let adds = self.adds.iter().map(|a| Action::Add(Add { data_change: false, ..a.clone() }));
        let remove = move |r: &Remove| Remove { deletion_timestamp: Some(millis), ..r.clone() };
        self.removes.iter().map(remove).map(Action::Remove).chain(adds)
    }
}

/// How epochs find the rows of a table in mode update. Such a table is compacted only where later epochs need not read
/// more because of the compaction.
pub(super) struct Layout<'a> {
    pub keys: &'a [String],
    pub watermark: Option<EventTime>,
}

/// Compacts small files if there are at least `every` of them. Returns how many are left. `log`: the same folder; a read
/// of it shows what is there at the moment.
pub(super) async fn join_small(
    location: &Location,
    log: &Location,
    every: usize,
    clock: &SharedClock,
    layout: Option<Layout<'_>>,
) -> Result<usize> {
    let Some(table) = open(location).await? else { return Ok(0) };
    let state = table.snapshot().map_err(delta_error)?.snapshot();
    let features = state.protocol().writer_features().unwrap_or_default();
    let properties = state.metadata().configuration();
    let texts = properties.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    if let Some(what) = unwritable(features.iter().map(AsRef::as_ref), texts) {
        return Err(Error::storage(format!("the table uses {what}, which bayou cannot write")));
    }
    let mut read = Read::of(location, &table).await?;
    let by_key = layout.is_some();
    let (mut done, mut left) = match layout {
        Some(layout) => join_neighbours(location, every, clock, &table, layout).await?,
        None => join_partitions(location, every, clock, &table).await?,
    };
    if done.is_empty() {
        return Ok(left);
    }
    let mut lost = None;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            let wait = (10u64 << attempt) + u64::from(rand::random::<u8>());
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
        left += drop_rewritten(log, &mut read, &mut done).await?;
        match (done.is_empty(), by_key) {
            // Epochs of mode update rewrite files all the time. The files that are left are found by the next count.
            (true, true) => return Ok(left),
            (true, false) => return Err(Error::storage("a different writer has removed files of the compaction")),
            (false, _) => {}
        }
        match commit(log, clock, read.version + 1, &done).await {
            Ok(()) => return Ok(left),
            Err(e) => lost = Some(e),
        }
    }
    let why = lost.map_or(String::new(), |e| format!(" ({})", e.message));
    Err(Error::storage(format!("none of {ATTEMPTS} attempts to commit the compaction succeeded{why}")))
}

/// The newest commit that was read.
struct Read {
    version: u64,
    /// The content of the commit. It distinguishes the commit from the commit with the same version in a table that was
    /// recreated meanwhile.
    commit: Vec<u8>,
}

impl Read {
    /// `location`: the store that the table was opened with. If it remembers commits, it gives the commit that was read.
    async fn of(location: &Location, table: &DeltaTable) -> Result<Self> {
        let version = table.version().unwrap_or_default();
        let commit = location.get(&commit_name(version)).await?;
        let commit =
            commit.ok_or_else(|| Error::storage(format!("the log does not have version {version} any more")))?;
        Ok(Self { version, commit })
    }
}

/// Reads the newer commits, and drops the compacted files whose sources an epoch has rewritten meanwhile. Returns the
/// number of these sources. The table is not loaded again, because an attempt that takes longer than an epoch of a fast
/// stream would lose every time.
async fn drop_rewritten(log: &Location, read: &mut Read, done: &mut Vec<Joined>) -> Result<usize> {
    let changed = |version| Error::storage(format!("version {version} has changed the table itself"));
    // If the newest known commit is missing, the missing file of the next version does not show that the next version
    // is not written yet.
    if log.get(&commit_name(read.version)).await?.is_none_or(|bytes| bytes != read.commit) {
        return Err(changed(read.version));
    }
    let mut dropped = 0;
    while let Some(newer) = log.get(&commit_name(read.version + 1)).await? {
        let entry = Entry::parse(&newer);
        // Appends do not affect the compacted files. A change of the table itself does.
        if entry.is_new_table || entry.is_damaged {
            return Err(changed(read.version + 1));
        }
        let gone = removed(&newer)?;
        done.retain(|joined| {
            let all = joined.removes.iter().all(|r| !gone.contains(&r.path));
            dropped += if all { 0 } else { joined.removes.len() };
            all
        });
        *read = Read { version: read.version + 1, commit: newer };
    }
    Ok(dropped)
}

/// Writes the compaction as a version of the table, unless a different writer has written that version.
async fn commit(log: &Location, clock: &SharedClock, version: u64, done: &[Joined]) -> Result<()> {
    let now = clock.now().0 / 1000;
    let actions: Vec<Action> = done.iter().flat_map(|joined| joined.actions(now)).collect();
    let count = |of: &dyn Fn(&Joined) -> u64| done.iter().map(of).sum::<u64>();
    let bytes = |size: Option<i64>| size.unwrap_or_default().max(0) as u64;
    let metrics = BTreeMap::from([
        ("numAddedFiles", count(&|j| j.adds.len() as u64)),
        ("numAddedBytes", count(&|j| j.adds.iter().map(|a| bytes(Some(a.size))).sum())),
        ("numRemovedFiles", count(&|j| j.removes.len() as u64)),
        ("numRemovedBytes", count(&|j| j.removes.iter().map(|r| bytes(r.size)).sum())),
    ]);
    let operation = DeltaOperation::Optimize { predicate: None, target_size: TARGET as i64 };
    let writing = Writing { actions: &actions, operation: &operation, blind: false, nonce: "", metrics: &metrics };
    put_version(log, clock, version, &writing).await.map(drop)
}

/// The paths of the files that a commit removes.
fn removed(commit: &[u8]) -> Result<HashSet<String>> {
    lines(commit).filter_map(|line| line.map(|l| l.remove.map(|r| r.path)).transpose()).collect()
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
    use crate::sink::OutputMode;
    use crate::sink::delta::{Table, TableSpec};
    use crate::storage::StorageOptions;
    use crate::time::Clock;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use arrow::datatypes::{Field, Schema};
    use serde_json::{Value, json};
    use std::sync::Arc;

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

    struct Stopped;

    impl Clock for Stopped {
        fn now(&self) -> EventTime {
            EventTime(0)
        }
    }

    fn appended(path: &str, size: u64) -> String {
        let add =
            json!({ "path": path, "partitionValues": {}, "size": size, "modificationTime": 0, "dataChange": true });
        json!({ "add": add }).to_string()
    }

    #[tokio::test]
    async fn a_compaction_is_committed_beside_a_stream_that_commits_faster_than_a_table_can_be_opened() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::parse(&folder.path().to_string_lossy(), &StorageOptions::new()).unwrap();
        let clock = SharedClock::new(Stopped);
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let spec = TableSpec {
            location: location.clone(),
            schema: schema.clone(),
            declared: schema.clone(),
            partition_by: vec![],
            mode: OutputMode::Append,
            keys: vec![],
            name: None,
            comment: None,
            merge_schema: false,
            clock: clock.clone(),
        };
        let (table, _) = Table::ensure(spec).await.unwrap();
        let store = table.table.log_store().object_store(None);
        for version in 1..=2000 {
            let line = if version <= 3 {
                let properties = Properties::new(store.clone(), schema.clone(), &[], clock.clone()).unwrap();
                let mut writer = FileWriter::new(properties);
                let numbers: ArrayRef = Arc::new(Int64Array::from(vec![version]));
                writer.write(&RecordBatch::try_new(schema.clone(), vec![numbers]).unwrap()).await.unwrap();
                json!({ "add": writer.close().await.unwrap().remove(0) }).to_string()
            } else {
                appended(&format!("large-{version}.parquet"), TARGET)
            };
            location.put_new(&commit_name(version as u64), line.into_bytes()).await.unwrap();
        }
        // A commit every five milliseconds; the log takes longer than that to read.
        let stream = {
            let location = location.clone();
            tokio::spawn(async move {
                let mut version = 2000;
                loop {
                    version += 1;
                    let line = appended(&format!("large-{version}.parquet"), TARGET);
                    let _ = location.put_new(&commit_name(version), line.into_bytes()).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        };
        let left = join_small(&location, &location, 3, &clock, None).await.unwrap();
        stream.abort();
        assert_eq!(left, 1, "one file in place of three");
        let (mut adds, mut removes) = (vec![], 0);
        for version in 2001.. {
            let Some(commit) = location.get(&commit_name(version)).await.unwrap() else { break };
            removes += removed(&commit).unwrap().len();
            for action in serde_json::Deserializer::from_slice(&commit).into_iter::<Value>().map(Result::unwrap) {
                let path = action["add"]["path"].as_str().unwrap_or("large-");
                if !path.starts_with("large-") {
                    adds.push((action["add"]["dataChange"].clone(), action["add"]["stats"].to_string()));
                }
            }
        }
        assert_eq!((removes, adds.len()), (3, 1));
        assert!(adds[0].0 == false && adds[0].1.contains("numRecords\\\":3"), "{adds:?}");
    }

    #[tokio::test]
    async fn a_compaction_is_not_committed_over_a_table_that_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::parse(&folder.path().to_string_lossy(), &StorageOptions::new()).unwrap();
        let put = async |version, line: String| {
            location.put_new(&commit_name(version), line.into_bytes()).await.unwrap();
        };
        let joined = |path: &str| Joined {
            removes: vec![Remove { path: path.into(), ..Remove::default() }],
            adds: vec![Add::default()],
        };
        put(0, appended("a", 1)).await;
        put(1, appended("b", 1)).await;
        put(2, json!({ "remove": { "path": "a%20b", "dataChange": true } }).to_string()).await;
        let first = location.get(&commit_name(0)).await.unwrap().unwrap();
        let mut read = Read { version: 0, commit: first.clone() };
        let mut done = vec![joined("a b"), joined("c")];
        assert_eq!(drop_rewritten(&location, &mut read, &mut done).await.unwrap(), 1);
        assert_eq!((read.version, done.len(), done[0].removes[0].path.as_str()), (2, 1, "c"));
        put(3, json!({ "metaData": {} }).to_string()).await;
        let error = drop_rewritten(&location, &mut read, &mut done).await.unwrap_err();
        assert!(error.message.contains("version 3 has changed the table itself"), "{error}");
        // The table was recreated: the known commit is a different one, or is not there.
        for (version, commit) in [(1, first), (9, vec![])] {
            let error = drop_rewritten(&location, &mut Read { version, commit }, &mut done).await.unwrap_err();
            assert!(error.message.contains(&format!("version {version} has changed")), "{error}");
        }
        assert_eq!(done.len(), 1);
    }
}
