//! A store fails its k-th call, for every k of a run with five epochs, including reads, in each way in which stores
//! fail. After each failure the run ends and is exact, or it ends with an error that has a kind and is exact after a
//! restart.
//!
//! By default each kind of call meets some of the faults. `BAYOU_TEST_FAULTS=all` tries every call.

use crate::exactly_once::{check, job, longs, publish, rows, run, runtime};
use crate::faulty_store::{ALL, Call, Fault, Faulty, INJECTED, Seen};
use crate::support::{kafka, topic};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bayou::Kind;
use bayou::testing::flow::Stream;
use bayou::testing::flow::source::{KafkaSource, MAX_TRIGGER_DELAY, Offsets};
use bayou::testing::flow::subscription::Subscription;
use bayou::testing::kafka::{Connection, ProduceOptions};
use bayou::testing::position::Topic;
use bayou::testing::run::Job;
use bayou::testing::storage::Location;
use bayou::testing::storage::local::LocalStore;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const ROWS: i64 = 1500; // five epochs of 300
/// Longer than `Slow`, and longer than any normal call here.
const LIMIT: Duration = Duration::from_millis(1500);

fn every() -> bool {
    std::env::var("BAYOU_TEST_FAULTS").is_ok_and(|v| v == "all")
}

/// On a file system where syncs cost nothing, because the test is about the protocol and not the disk.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

fn location(dir: &Path, store: Arc<dyn object_store::ObjectStore>) -> Location {
    Location::local(url::Url::from_directory_path(dir).unwrap(), store).unwrap()
}

fn failing(dir: &Path, store: &Faulty) -> Location {
    location(dir, Arc::new(store.clone())).with_timeout(LIMIT)
}

fn honest(dir: &Path) -> Location {
    location(dir, LocalStore::shared())
}

fn any(_: &Seen) -> bool {
    true
}

/// Every call in all ways in which it can fail. Or, for each kind of call, one call in each `nth` of the ways.
fn cases(calls: &[Seen], nth: usize) -> Vec<(usize, Fault)> {
    let mut by_kind: BTreeMap<&Seen, Vec<usize>> = BTreeMap::new();
    calls.iter().enumerate().for_each(|(k, seen)| by_kind.entry(seen).or_default().push(k));
    let mut cases = vec![];
    for (i, (seen, at)) in by_kind.into_iter().enumerate() {
        // Frequent reads that are similar each time fail in a third of the ways each time.
        let often = seen.0.reads() && at.len() > 40;
        for (j, fault) in ALL.into_iter().filter(|f| f.applies(seen)).enumerate() {
            match every() {
                true => cases.extend(at.iter().filter(|k| !often || (*k + j) % 3 == 0).map(|k| (*k, fault))),
                false if (i + j) % nth == 0 => cases.push((at[(7 * i + 3 * j) % at.len()], fault)),
                false => {}
            }
        }
    }
    cases
}

/// Several at the same time, because much of each is waiting.
fn each<T: Send>(cases: Vec<T>, one: impl Fn(T) + Sync) {
    let left = parking_lot::Mutex::new(cases);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let Some(case) = left.lock().pop() else { return };
                    one(case);
                }
            });
        }
    });
}

/// The failure in words. A run that ends for a reason other than the fault is a failure of the test.
const REASONS: [&str; 9] = [
    INJECTED,
    "did not answer within",
    "took longer than",
    " is gone",
    "is missing, but other files of the checkpoint exist",
    "File not found",
    "says that a new name exists",
    // deltalake's text if a different writer has created the table in the same moment.
    "Invalid table version",
    // object_store's text if aborting an upload fails after the upload has ended.
    "Upload aborted",
];

/// Counts what was tried, and prints it.
#[derive(Default)]
struct Tally {
    tried: AtomicUsize,
    failed: AtomicUsize,
}

impl Tally {
    /// Checks the error of the first run: it must be an error of the store, because nothing else is wrong. No other process
    /// runs the query, no table was recreated, and no message is lost.
    fn look(&self, first: &Result<(), (Kind, String)>, what: &str) {
        self.tried.fetch_add(1, Ordering::Relaxed);
        if let Err((kind, message)) = first {
            self.failed.fetch_add(1, Ordering::Relaxed);
            assert_eq!(*kind, Kind::Storage, "{what}: {message}");
            assert!(REASONS.iter().any(|r| message.contains(r)), "{what}: {message}");
            if every() {
                eprintln!("  {what}: {message}");
            }
        }
    }
    fn say(&self, seen: &[Seen], began: Instant) -> usize {
        let (tried, failed) = (self.tried.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed));
        eprintln!(
            "{} calls: {tried} faults, {failed} of which ended the run with an error, in {:.0} s",
            seen.len(),
            began.elapsed().as_secs_f64()
        );
        tried
    }
}

/// The run after a run with a fault.
fn restart(job: Job, first: &Result<(), (Kind, String)>, what: &str) {
    run(job).unwrap_or_else(|e| panic!("{what}: the restart failed: {e:?}; the first run: {first:?}"));
}

#[test]
fn whatever_way_a_store_fails_the_run_ends_exact_or_with_a_typed_error_and_is_exact_after_a_restart() {
    let (connection, rt, began) = (kafka(), runtime(), Instant::now());
    let topic = topic(&connection, "storage", 1);
    publish(&connection, &topic, 0, ROWS);
    let seen = {
        let (dir, store) = (folder(), Faulty::honest(any));
        run(job(&connection, &topic, &failing(dir.path(), &store), &rt)).unwrap();
        check(dir.path(), ROWS, "without a fault");
        store.calls()
    };
    let tally = Tally::default();
    each(cases(&seen, 2), |(k, fault)| {
        let (dir, store) = (folder(), Faulty::new(fault, k, any));
        let first = run(job(&connection, &topic, &failing(dir.path(), &store), &rt));
        if store.hit().is_empty() {
            return first.unwrap();
        }
        let what = format!("{fault:?} call {k} ({:?})", store.hit());
        tally.look(&first, &what);
        // A put with an unknown outcome is read back, except the probe, which only tests the store.
        let settled = matches!(fault, Fault::After | Fault::HangAfter)
            && store.hit().iter().all(|(call, file)| *call == Call::Create && file != "q/*");
        assert!(first.is_ok() || !settled && fault != Fault::Slow, "{what}: {first:?}");
        if first.is_ok() {
            check(dir.path(), ROWS, &what);
        }
        restart(job(&connection, &topic, &honest(dir.path()), &rt), &first, &what);
        check(dir.path(), ROWS, &what);
    });
    assert!(tally.say(&seen, began) > 60);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn optimizing(mut job: Job) -> Job {
    job.flow.optimize_every = Some(2);
    job
}

/// Work in parallel with the stream: checkpoints of tables' logs, compaction of small files and of state files, deletion of old
/// files.
fn beside((call, file): &Seen) -> bool {
    let named = ["_last_checkpoint", "checkpoint.parquet", "(joining)", "(joined)", "(compacted)"];
    *call == Call::Delete
        || !matches!(call, Call::Get | Call::Head | Call::List) && named.iter().any(|n| file.contains(n))
}

/// The rows of twenty epochs. At the twentieth, old files are cleaned up.
const OLD: i64 = 20 * 300;

/// A lake in which all of this work is due in the next epoch.
fn old_lake(connection: &Connection, topic: &str, rt: &tokio::runtime::Runtime) -> tempfile::TempDir {
    let dir = folder();
    let at = honest(dir.path());
    publish(connection, topic, 0, 13 * 300);
    run(job(connection, topic, &at, rt)).unwrap();
    // In runs of one epoch each, because the next run does not use the compaction of the previous one.
    for n in 13..20 {
        publish(connection, topic, n * 300, 300);
        run(job(connection, topic, &at, rt)).unwrap();
    }
    // After fifty versions a checkpoint is due. The other versions belong to a different writer, and change nothing.
    let log = dir.path().join("clean/_delta_log");
    for version in 0..50 {
        let file = log.join(format!("{version:020}.json"));
        if !file.exists() {
            std::fs::write(file, "{\"commitInfo\":{\"timestamp\":0,\"operation\":\"NOTHING\"}}\n").unwrap();
        }
    }
    publish(connection, topic, OLD, ROWS);
    dir
}

#[test]
fn whatever_way_work_beside_the_stream_fails_the_stream_goes_on_and_is_exact() {
    let (connection, rt, began) = (kafka(), runtime(), Instant::now());
    let topic = topic(&connection, "beside", 1);
    let lake = old_lake(&connection, &topic, &rt);
    let total = OLD + ROWS;
    let seen = {
        let (dir, store) = (folder(), Faulty::honest(beside));
        copy(lake.path(), dir.path());
        run(optimizing(job(&connection, &topic, &failing(dir.path(), &store), &rt))).unwrap();
        check(dir.path(), total, "without a fault");
        store.calls()
    };
    for kind in ["_last_checkpoint", "checkpoint.parquet", "(joining)", "(joined)", "(compacted)"] {
        assert!(seen.iter().any(|(_, file)| file.contains(kind)), "none of {kind}: {seen:?}");
    }
    assert!(seen.iter().any(|(call, _)| *call == Call::Delete), "nothing is cleaned up: {seen:?}");
    let tally = Tally::default();
    // If nothing works after the fault, the stream does not work either, and the stream can be the first to notice.
    let theirs = |fault: &Fault| matches!(fault, Fault::Gone | Fault::Blind | Fault::BlindHang);
    let cases = cases(&seen, 3).into_iter().filter(|(_, fault)| !theirs(fault)).collect();
    each(cases, |(k, fault): (usize, Fault)| {
        let (dir, store) = (folder(), Faulty::new(fault, k, beside));
        copy(lake.path(), dir.path());
        let first = run(optimizing(job(&connection, &topic, &failing(dir.path(), &store), &rt)));
        if store.hit().is_empty() {
            return first.unwrap();
        }
        let what = format!("{fault:?} call {k} beside the stream ({:?})", store.hit());
        tally.look(&first, &what);
        first.unwrap_or_else(|e| panic!("{what}: the stream failed: {e:?}"));
        check(dir.path(), total, &what);
        run(optimizing(job(&connection, &topic, &honest(dir.path()), &rt)))
            .unwrap_or_else(|e| panic!("{what}: the restart failed: {e:?}"));
        check(dir.path(), total, &what);
    });
    assert!(tally.say(&seen, began) > 10);
}

const LARGE: usize = 64;

/// Rows whose file is too large for one put.
fn publish_large(connection: &Connection, topic: &str) {
    let mut seed = 1u64;
    let mut text = || -> String {
        // Content that compression does not make small.
        let mut next = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            format!("{:08x}", seed >> 32)
        };
        (0..14_000).map(|_| next()).collect()
    };
    let texts: StringArray = (0..LARGE).map(|_| Some(text())).collect();
    let n = Int64Array::from_iter_values(0..LARGE as i64);
    let batch = RecordBatch::try_from_iter([("n", Arc::new(n) as ArrayRef), ("text", Arc::new(texts))]).unwrap();
    let sent = connection
        .produce(&Topic::new(topic), &mut std::iter::once(Ok(batch)), &ProduceOptions::default(), &mut |_| Ok(()))
        .unwrap();
    assert_eq!(sent.delivered, LARGE as u64);
}

fn large(connection: &Connection, topic: &str, root: &Location, rt: &tokio::runtime::Runtime) -> Job {
    let source = KafkaSource {
        connection: connection.clone(),
        topics: Subscription::named([topic]),
        schema: Some(Arc::new(bayou::testing::expr::parse_ddl("n BIGINT, text STRING").unwrap())),
        decode: Default::default(),
        on_malformed: None,
        max_malformed: 0.5,
        starting: Offsets::Earliest,
        ending: None,
        max_offsets_per_trigger: None,
        min_offsets_per_trigger: None,
        max_trigger_delay: MAX_TRIGGER_DELAY,
        fail_without_message: false,
        fail_on_data_loss: true,
    };
    let mut job = job(connection, topic, root, rt);
    job.flow.outputs.truncate(1);
    job.flow.outputs[0].stream = Stream::kafka(source).unwrap();
    job
}

#[test]
fn whatever_way_the_upload_of_a_large_file_fails_the_table_is_exact_after_a_restart() {
    let (connection, rt, began) = (kafka(), runtime(), Instant::now());
    let topic = topic(&connection, "large", 1);
    publish_large(&connection, &topic);
    let uploads = |seen: &Seen| matches!(seen.0, Call::Multipart | Call::Part | Call::Complete);
    let exact = |dir: &Path, what: &str| {
        let mut found = longs(&rows(&dir.join("clean")), "n");
        found.sort_unstable();
        assert_eq!(found, (0..LARGE as i64).collect::<Vec<_>>(), "{what}");
    };
    let seen = {
        let (dir, store) = (folder(), Faulty::honest(uploads));
        run(large(&connection, &topic, &failing(dir.path(), &store), &rt)).unwrap();
        exact(dir.path(), "without a fault");
        store.calls()
    };
    let kinds: Vec<Call> = seen.iter().map(|s| s.0).collect();
    assert_eq!(kinds, [Call::Multipart, Call::Part, Call::Part, Call::Complete], "one file in two parts");
    let tally = Tally::default();
    each(cases(&seen, 2), |(k, fault)| {
        let (dir, store) = (folder(), Faulty::new(fault, k, uploads));
        let first = run(large(&connection, &topic, &failing(dir.path(), &store), &rt));
        if store.hit().is_empty() {
            return first.unwrap();
        }
        let what = format!("{fault:?} call {k} of an upload ({:?})", store.hit());
        tally.look(&first, &what);
        assert_eq!(first.is_ok(), fault == Fault::Slow, "{what}: {first:?}");
        restart(large(&connection, &topic, &honest(dir.path()), &rt), &first, &what);
        exact(dir.path(), &what);
    });
    assert!(tally.say(&seen, began) > 8);
}

/// The newest file in a folder.
fn newest(folder: &Path) -> std::path::PathBuf {
    std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file()).max().unwrap()
}

#[test]
fn a_file_of_the_checkpoint_that_is_torn_all_the_same_is_an_error_that_names_it() {
    let (connection, rt) = (kafka(), runtime());
    let topic = topic(&connection, "torn", 1);
    publish(&connection, &topic, 0, 600);
    let dir = folder();
    let at = honest(dir.path());
    run(job(&connection, &topic, &at, &rt)).unwrap();
    let generation = dir.path().join("_bayou/q/1");
    let mut files = vec![generation.join("query.json"), generation.join("start.json")];
    files.extend(
        ["epoch", "done", "definition", "state/agg1"]
            .map(|f| generation.join(f))
            .iter()
            .filter(|f| f.is_dir())
            .map(|f| newest(f)),
    );
    for file in files {
        let whole = std::fs::read(&file).unwrap();
        for left in [whole.len() / 2, 1, 0] {
            std::fs::write(&file, &whole[..left]).unwrap();
            let what = format!("{} cut to {left} bytes", file.display());
            let (kind, message) = run(job(&connection, &topic, &at, &rt)).expect_err(&what);
            let name = file.file_name().unwrap().to_string_lossy();
            assert!(kind == Kind::Storage && message.contains(&*name), "{what}: {kind:?}: {message}");
        }
        std::fs::write(&file, &whole).unwrap();
    }
    run(job(&connection, &topic, &at, &rt)).unwrap();
    check(dir.path(), 600, "with the files as they were");
}
