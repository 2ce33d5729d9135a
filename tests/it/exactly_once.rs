//! The protocol under faults of the store. Every durable call of a run fails once, before and after its effect, and the
//! tables are exact after a restart. A replay of the Delta log reads the tables; it does not share code with the
//! product.

use crate::support::{kafka, name, topic};
use arrow::array::{ArrayRef, Int64Array};
use arrow::array::{AsArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::Int64Type;
use bayou::Kind;
use bayou::testing::decode::DecodeOptions;
use bayou::testing::expect::Action;
use bayou::testing::expr::{Dialect, parse_ddl};
use bayou::testing::flow::source::{KafkaSource, MAX_TRIGGER_DELAY, Offsets};
use bayou::testing::flow::stream::watermark_spec;
use bayou::testing::flow::subscription::Subscription;
use bayou::testing::flow::{Flow, Output, Stream, Trigger};
use bayou::testing::kafka::{Connection, ProduceOptions};
use bayou::testing::position::Topic;
use bayou::testing::run::Job;
use bayou::testing::run::control::Query;
use bayou::testing::sink::delta::DeltaOptions;
use bayou::testing::sink::{OutputMode, To};
use bayou::testing::storage::Location;
use bayou::testing::storage::local::{Fault, Hook, LocalStore};
use bayou::testing::time::{Clock, EventTime, SharedClock};
use bayou::testing::window::{WindowSpec, Windowing};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

pub(crate) const ROWS: i64 = 900;
pub(crate) const EPOCH: u64 = 300;

/// Row n: one for each second from a fixed time on, model m{n % 3}. Every tenth model is 'undef'.
pub(crate) fn numbered(from: i64, rows: i64) -> RecordBatch {
    let n: Vec<i64> = (from..from + rows).collect();
    let model: StringArray =
        n.iter().map(|i| Some(if i % 10 == 0 { "undef".into() } else { format!("m{}", i % 3) })).collect();
    let time = TimestampMicrosecondArray::from_iter_values(n.iter().map(|i| 1_700_000_000_000_000 + i * 1_000_000));
    RecordBatch::try_from_iter([
        ("n", Arc::new(Int64Array::from(n)) as ArrayRef),
        ("time", Arc::new(time.with_timezone("UTC"))),
        ("model", Arc::new(model)),
    ])
    .unwrap()
}

pub(crate) fn publish(connection: &Connection, topic: &str, from: i64, rows: i64) {
    let batch = numbered(from, rows);
    let report = connection
        .produce(&Topic::new(topic), &mut std::iter::once(Ok(batch)), &ProduceOptions::default(), &mut |_| Ok(()))
        .unwrap();
    assert_eq!(report.delivered, rows as u64);
}

fn streams(connection: &Connection, topic: &str) -> (Stream, Stream, Stream) {
    let source = KafkaSource {
        connection: connection.clone(),
        topics: Subscription::named([topic]),
        schema: Some(Arc::new(parse_ddl("n BIGINT, time TIMESTAMP, model STRING").unwrap())),
        decode: DecodeOptions::default(),
        on_malformed: None,
        max_malformed: 0.5,
        starting: Offsets::Earliest,
        ending: None,
        max_offsets_per_trigger: Some(EPOCH),
        min_offsets_per_trigger: None,
        max_trigger_delay: MAX_TRIGGER_DELAY,
        fail_without_message: false,
        fail_on_data_loss: true,
    };
    let d = Dialect::Databricks;
    let clean = Stream::kafka(source).unwrap().expect("valid", "model <> 'undef'", Action::Quarantine, d).unwrap();
    let windows = clean
        .with_watermark(watermark_spec("time", "0 seconds", "5 minutes", "1 hour", "hold", "quarantine").unwrap())
        .unwrap()
        .aggregate(
            Windowing::Fixed(WindowSpec::new("time", "1 minute", None, None, "UTC").unwrap()),
            &["model".into()],
            &[(Some("events".into()), "count(*)".into()), (Some("total".into()), "sum(n)".into())],
            d,
        )
        .unwrap();
    let totals = clean
        .aggregate(
            Windowing::None,
            &[],
            &[(Some("events".into()), "count(*)".into()), (Some("total".into()), "sum(n)".into())],
            d,
        )
        .unwrap();
    (clean, windows, totals)
}

#[allow(clippy::disallowed_methods, reason = "tests run by the machine's clock, but for those that hold it")]
pub(crate) fn job(connection: &Connection, topic: &str, root: &Location, runtime: &tokio::runtime::Runtime) -> Job {
    let (clean, windows, totals) = streams(connection, topic);
    let counts = [(Some("events".to_string()), "count(*)".to_string()), (Some("total".into()), "sum(n)".into())];
    let by_model = clean.aggregate(Windowing::None, &["model".into()], &counts, Dialect::Databricks).unwrap();
    let table = |name: &str, stream: Stream, mode| Output {
        name: name.into(),
        stream,
        mode,
        start: None,
        to: To::Delta(DeltaOptions {
            location: root.join(name),
            partition_by: vec![],
            table_name: None,
            comment: None,
            merge_schema: false,
        }),
    };
    let flow = Flow {
        name: "q".into(),
        outputs: vec![
            table("clean", clean, OutputMode::Append),
            table("windows", windows, OutputMode::Append),
            table("totals", totals, OutputMode::Complete),
            table("by_model", by_model, OutputMode::Update),
        ],
        quarantine: root.join("q_quarantine").into(),
        checkpoint: root.join("_bayou").join("q"),
        trigger: Trigger::AvailableNow,
        full_refresh: false,
        accept_changes: false,
        close_windows: false,
        optimize_every: None,
        clean_log: None,
        start: None,
        commit_to_group: None,
        memory_limit: None,
    };
    Job { flow, runtime: runtime.handle().clone(), clock: SharedClock::system() }
}

pub(crate) fn run(job: Job) -> Result<(), (Kind, String)> {
    let query = Query::start(job).map_err(|e| (e.kind, e.message))?;
    assert!(query.wait(Duration::from_secs(120)), "the query ends");
    query.exception().map_or(Ok(()), |f| Err((f.kind, f.message)))
}

/// The files that the log names: adds minus removes, in the order of versions.
fn live_files(table: &Path) -> BTreeSet<String> {
    let mut versions: Vec<_> = std::fs::read_dir(table.join("_delta_log"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    versions.sort();
    let mut live = BTreeSet::new();
    for version in versions {
        for line in std::fs::read_to_string(version).unwrap().lines() {
            let action: serde_json::Value = serde_json::from_str(line).unwrap();
            let path = |a: &serde_json::Value| a["path"].as_str().unwrap().to_string();
            if let Some(add) = action.get("add") {
                assert!(live.insert(path(add)), "added twice: {}", path(add));
            }
            if let Some(remove) = action.get("remove") {
                assert!(live.remove(&path(remove)), "removed but not there: {}", path(remove));
            }
        }
    }
    live
}

pub(crate) fn rows(table: &Path) -> Vec<RecordBatch> {
    let read = |file: String| {
        let file = std::fs::File::open(table.join(file)).unwrap();
        // With the types of the file, not those of the writer's memory: compacted files were views of text there.
        let plain = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        ParquetRecordBatchReaderBuilder::try_new_with_options(file, plain).unwrap().build().unwrap()
    };
    live_files(table).into_iter().flat_map(read).map(Result::unwrap).collect()
}

pub(crate) fn longs(batches: &[RecordBatch], column: &str) -> Vec<i64> {
    batches
        .iter()
        .flat_map(|b| b.column_by_name(column).unwrap().as_primitive::<Int64Type>().values().to_vec())
        .collect()
}

/// The result by the definitions, from the row numbers alone.
pub(crate) fn check(root: &Path, rows_published: i64, what: &str) {
    let good: Vec<i64> = (0..rows_published).filter(|n| n % 10 != 0).collect();
    let mut clean = longs(&rows(&root.join("clean")), "n");
    clean.sort_unstable();
    assert_eq!(clean, good, "{what}: every good row once");
    assert_eq!(
        rows(&root.join("q_quarantine")).iter().map(RecordBatch::num_rows).sum::<usize>() as i64,
        rows_published / 10,
        "{what}"
    );
    let totals = rows(&root.join("totals"));
    assert_eq!(longs(&totals, "events"), [good.len() as i64], "{what}");
    assert_eq!(longs(&totals, "total"), [good.iter().sum::<i64>()], "{what}");
    let mut by_model = BTreeMap::new();
    for b in rows(&root.join("by_model")) {
        for i in 0..b.num_rows() {
            let model = b.column_by_name("model").unwrap().as_string::<i32>().value(i).to_string();
            let value = (longs(std::slice::from_ref(&b), "events")[i], longs(std::slice::from_ref(&b), "total")[i]);
            assert!(by_model.insert(model, value).is_none(), "{what}: a group is there twice");
        }
    }
    let mut want: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for n in &good {
        let entry = want.entry(format!("m{}", n % 3)).or_default();
        *entry = (entry.0 + 1, entry.1 + n);
    }
    assert_eq!(by_model, want, "{what}: merged groups");
    // The windows whose end the watermark (the highest good event time) has reached.
    let second = |n: i64| 1_700_000_000 + n;
    let watermark = second(*good.last().unwrap());
    let mut want: BTreeMap<(i64, String), (i64, i64)> = BTreeMap::new();
    for n in &good {
        let start = second(*n) - second(*n) % 60;
        if start + 60 <= watermark {
            let entry = want.entry((start, format!("m{}", n % 3))).or_default();
            entry.0 += 1;
            entry.1 += n;
        }
    }
    let mut got = BTreeMap::new();
    for b in rows(&root.join("windows")) {
        let start = arrow::compute::cast(b.column_by_name("window_start").unwrap(), &arrow::datatypes::DataType::Int64)
            .unwrap();
        for i in 0..b.num_rows() {
            let key = (
                start.as_primitive::<Int64Type>().value(i) / 1_000_000,
                b.column_by_name("model").unwrap().as_string::<i32>().value(i).to_string(),
            );
            let value = (longs(std::slice::from_ref(&b), "events")[i], longs(std::slice::from_ref(&b), "total")[i]);
            assert!(got.insert(key.clone(), value).is_none(), "{what}: the window {key:?} is there twice");
        }
    }
    assert_eq!(got, want, "{what}: windows");
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn location(dir: &Path, hook: Option<Hook>) -> Location {
    let store = hook.map_or_else(LocalStore::shared, LocalStore::with_hook);
    Location::local(url::Url::from_directory_path(dir).unwrap(), store).unwrap()
}

#[test]
fn a_run_in_three_epochs_and_a_second_run_write_every_row_once() {
    let (connection, rt) = (kafka(), runtime());
    let topic = topic(&connection, "plain", 1);
    let dir = tempfile::tempdir().unwrap();
    let root = location(dir.path(), None);
    publish(&connection, &topic, 0, ROWS);
    run(job(&connection, &topic, &root, &rt)).unwrap();
    check(dir.path(), ROWS, "first run");
    let before = live_files(&dir.path().join("clean"));
    run(job(&connection, &topic, &root, &rt)).unwrap();
    assert_eq!(live_files(&dir.path().join("clean")), before, "a run without news writes nothing");
    publish(&connection, &topic, ROWS, 450);
    run(job(&connection, &topic, &root, &rt)).unwrap();
    check(dir.path(), ROWS + 450, "second run");
    let seals = std::fs::read_dir(dir.path().join("_bayou/q/1/epoch")).unwrap().count();
    let done = std::fs::read_dir(dir.path().join("_bayou/q/1/done")).unwrap().count();
    assert_eq!((seals, done), (5, 5));
}

#[test]
fn every_durable_call_may_fail_before_or_after_its_effect_and_a_restart_makes_the_tables_exact() {
    let (connection, rt) = (kafka(), runtime());
    let topic = topic(&connection, "faults", 1);
    publish(&connection, &topic, 0, ROWS);
    let mut tried = 0;
    for fault in [Fault::Before, Fault::After] {
        for k in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let calls = Arc::new(AtomicUsize::new(0));
            let counted = calls.clone();
            let hit: Arc<parking_lot::Mutex<String>> = Arc::default();
            let seen = hit.clone();
            let hook: Hook = Arc::new(move |operation, path| {
                // Heartbeats follow their own clock, and a lost heartbeat has no effect.
                if path.as_ref().ends_with("heartbeat.json") {
                    return None;
                }
                let here = counted.fetch_add(1, Ordering::Relaxed) == k;
                here.then(|| {
                    *seen.lock() = format!("{operation} {}", path.filename().unwrap_or_default());
                    fault
                })
            });
            let first = run(job(&connection, &topic, &location(dir.path(), Some(hook)), &rt));
            if calls.load(Ordering::Relaxed) <= k {
                first.unwrap();
                assert!(k > 30, "a run in three epochs makes more than 30 durable calls, and {k} were seen");
                break;
            }
            let what = format!("{fault:?} call {k} ({})", hit.lock());
            if let Err((kind, message)) = &first {
                assert!(*kind != Kind::Internal, "{what}: an error without words: {message}");
            }
            let again = run(job(&connection, &topic, &location(dir.path(), None), &rt));
            again.unwrap_or_else(|e| panic!("{what}: the restart failed: {e:?}; the first run: {first:?}"));
            check(dir.path(), ROWS, &what);
            tried += 1;
        }
    }
    println!("{tried} faults");
}

#[test]
fn a_checkpoint_is_refused_by_another_topic_and_a_lost_one_shows() {
    let (connection, rt) = (kafka(), runtime());
    let (one, two) = (topic(&connection, "one", 1), topic(&connection, "two", 1));
    publish(&connection, &one, 0, 50);
    let dir = tempfile::tempdir().unwrap();
    let root = location(dir.path(), None);
    run(job(&connection, &one, &root, &rt)).unwrap();
    let (kind, message) = run(job(&connection, &two, &root, &rt)).unwrap_err();
    assert!(kind == Kind::Config && message.contains(&one) && message.contains(&two), "{message}");
    std::fs::remove_dir_all(dir.path().join("_bayou")).unwrap();
    let (kind, message) = run(job(&connection, &one, &root, &rt)).unwrap_err();
    assert!(kind == Kind::Config && message.contains("full_refresh"), "{message}");
    let mut refreshed = job(&connection, &one, &root, &rt);
    refreshed.flow.full_refresh = true;
    run(refreshed).unwrap();
    check(dir.path(), 50, "after full_refresh");
    let epochs: Vec<_> =
        std::fs::read_dir(dir.path().join("_bayou/q/1/epoch")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(epochs.len(), 1);
    assert!(!epochs[0].to_string_lossy().ends_with("00000.json"), "epoch numbers never restart");
}

#[test]
fn a_topic_that_was_recreated_is_data_loss_with_the_way_out() {
    let (connection, rt) = (kafka(), runtime());
    let topic_name = topic(&connection, "anew", 1);
    publish(&connection, &topic_name, 0, 50);
    let dir = tempfile::tempdir().unwrap();
    let root = location(dir.path(), None);
    run(job(&connection, &topic_name, &root, &rt)).unwrap();
    connection.delete_topic(&topic_name).unwrap();
    let made = || connection.create_topic(&crate::support::new_topic(&topic_name, 1));
    let begin = std::time::Instant::now();
    while made().is_err() && begin.elapsed() < Duration::from_secs(20) {}
    publish(&connection, &topic_name, 0, 80);
    let (kind, message) = run(job(&connection, &topic_name, &root, &rt)).unwrap_err();
    assert!(
        kind == Kind::DataLoss && message.contains(&topic_name) && message.contains("full_refresh=True"),
        "{message}"
    );
    let _ = name("unused");
}

struct Held(EventTime);

impl Clock for Held {
    fn now(&self) -> EventTime {
        self.0
    }
}

#[test]
fn a_run_goes_by_the_clock_that_it_is_given() {
    let (connection, rt) = (kafka(), runtime());
    let topic = topic(&connection, "clock", 1);
    publish(&connection, &topic, 0, 50);
    let dir = tempfile::tempdir().unwrap();
    let held = EventTime(1_900_000_000_123_456);
    let mut job = job(&connection, &topic, &location(dir.path(), None), &rt);
    job.clock = SharedClock::new(Held(held));
    run(job).unwrap();
    check(dir.path(), 50, "by a held clock");
    let read = |file: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(dir.path().join(file)).unwrap()).unwrap()
    };
    let seal = read("_bayou/q/1/epoch/00000000000000000000.json");
    assert_eq!((seal["began"].as_i64(), seal["clock"].as_i64()), (Some(held.0), Some(held.0)));
    assert_eq!(read("_bayou/q/1/done/00000000000000000000.json")["clock"].as_i64(), Some(held.0));
    assert_eq!(read("_bayou/q/1/query.json")["createdAt"].as_i64(), Some(held.0));
    let log = std::fs::read_to_string(dir.path().join("clean/_delta_log/00000000000000000001.json")).unwrap();
    for action in log.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()) {
        for (action, field) in [("add", "modificationTime"), ("commitInfo", "timestamp")].map(|(a, f)| (&action[a], f))
        {
            assert!(action.is_null() || action[field] == held.0 / 1000, "{action}");
        }
    }
}
