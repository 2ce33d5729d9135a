//! librdkafka's mock cluster answers every request of bayou with every error that makes sense. After each error, a
//! bounded run ends and is exact, or it ends with an error that has a kind and is exact after a restart. It never
//! hangs, and it never skips anything silently.
//!
//! By default each request meets a few errors. `BAYOU_TEST_FAULTS=all` answers every request with every error, once and
//! many times.

use crate::exactly_once::{ROWS, check, job, publish, run, runtime};
use crate::support::{from_start, read};
use bayou::Kind;
use bayou::testing::kafka::{Connection, Target};
use bayou::testing::storage::Location;
use bayou::testing::storage::local::LocalStore;
use rdkafka::bindings::rd_kafka_resp_err_t::{self as Code, *};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaApiKey as Api;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// No run may take longer, whatever the brokers answer.
const LIMIT: Duration = Duration::from_secs(60);
const TOPIC: &str = "t";

/// Temporary errors: brokers that move, are late, or disappear.
const PASSING: [Code; 16] = [
    RD_KAFKA_RESP_ERR__TRANSPORT,
    RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
    RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
    RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE,
    RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE,
    RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION,
    RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
    RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
    RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
    RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE,
    RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
    RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
    RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
    RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
    RD_KAFKA_RESP_ERR_NOT_CONTROLLER,
];
/// Errors that need a person.
const LASTING: [Code; 8] = [
    RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
    RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED,
    RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION,
    RD_KAFKA_RESP_ERR_INVALID_REQUEST,
    RD_KAFKA_RESP_ERR_UNKNOWN,
    RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
    RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE,
    RD_KAFKA_RESP_ERR_INVALID_MSG,
];
const READING: [Api; 6] =
    [Api::ApiVersion, Api::Metadata, Api::ListOffsets, Api::Fetch, Api::FindCoordinator, Api::OffsetForLeaderEpoch];

struct Case {
    api: Api,
    code: Code,
    times: usize,
}

fn cases(apis: &[Api]) -> Vec<Case> {
    let all = std::env::var("BAYOU_TEST_FAULTS").is_ok_and(|v| v == "all");
    let mut cases = vec![];
    for (i, api) in apis.iter().enumerate() {
        for (k, code) in PASSING.into_iter().chain(LASTING).enumerate() {
            for times in [1, 4] {
                // A diagonal of all combinations: each request and each error occurs.
                if all || (times == 4 && (k + i) % apis.len() == 0) || code == RD_KAFKA_RESP_ERR__TRANSPORT {
                    cases.push(Case { api: *api, code, times });
                }
            }
        }
    }
    cases
}

fn cluster() -> (MockCluster<'static, DefaultProducerContext>, Connection) {
    let mock = MockCluster::new(3).unwrap();
    mock.create_topic(TOPIC, 1, 3).unwrap();
    let connection = Connection::open(Target::Address(mock.bootstrap_servers())).unwrap();
    (mock, connection)
}

fn location(dir: &Path) -> Location {
    Location::local(url::Url::from_directory_path(dir).unwrap(), LocalStore::shared()).unwrap()
}

/// Eight at the same time, because most of the time is waiting.
fn each(cases: Vec<Case>, one: impl Fn(&Case) -> String + Sync) {
    let began = Instant::now();
    let (count, left) = (cases.len(), Mutex::new(cases));
    let said = Mutex::new(vec![]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let Some(case) = left.lock().unwrap().pop() else { return };
                    let outcome = one(&case);
                    said.lock().unwrap().push(format!("{:?} {:?} {}×: {outcome}", case.api, case.code, case.times));
                }
            });
        }
    });
    let said = said.into_inner().unwrap();
    eprintln!("{count} cases in {:.1} s", began.elapsed().as_secs_f64());
    said.iter().filter(|s| !s.ends_with("exact")).for_each(|s| eprintln!("  {s}"));
}

/// The kinds of errors that can result from an error of a broker.
const KINDS: [Kind; 5] = [Kind::Connection, Kind::Auth, Kind::Acl, Kind::Topic, Kind::Config];

/// The outcome of a run under a fault: exact, or an error with a kind, and always exact after running it again. At most
/// `left` answers can still be errors, and each failed run has met at least one of them.
fn outcome(
    first: Result<(), (Kind, String)>,
    began: Instant,
    left: usize,
    believed: bool,
    again: impl Fn() -> Result<(), (Kind, String)>,
    what: &str,
) -> String {
    assert!(began.elapsed() < LIMIT, "{what}: took {:?}", began.elapsed());
    // No data is lost, and no other runner is active. A broker that calls its own record damaged is believed; this is by
    // design.
    let typed = |kind: Kind, message: &str| {
        let allowed = KINDS.contains(&kind) || kind == Kind::DataLoss && believed && message.contains("damaged");
        assert!(allowed && !message.is_empty(), "{what}: {kind:?}: {message}");
    };
    let Err((kind, message)) = first else { return "exact".into() };
    typed(kind, &message);
    for n in 0.. {
        match again() {
            Ok(()) => break,
            Err((kind, text)) => {
                typed(kind, &text);
                assert!(n < left, "{what}: the restart failed: {kind:?}: {text}; the first run: {message}");
            }
        }
    }
    format!("{kind:?}: {message}")
}

#[test]
fn every_error_of_every_request_leaves_a_bounded_run_exact_or_ended_with_a_kind_and_exact_after_a_restart() {
    let rt = runtime();
    each(cases(&READING), |case| {
        let (mock, connection) = cluster();
        publish(&connection, TOPIC, 0, ROWS / 2);
        let dir = tempfile::tempdir().unwrap();
        let root = location(dir.path());
        let what = format!("{:?} {:?} {}×", case.api, case.code, case.times);
        run(job(&connection, TOPIC, &root, &rt)).unwrap_or_else(|e| panic!("{what}: before: {e:?}"));
        // A new leader: the read offset is checked by its leader epoch.
        mock.partition_leader(TOPIC, 0, Some(2)).unwrap();
        publish(&connection, TOPIC, ROWS / 2, ROWS - ROWS / 2);
        mock.request_errors(case.api, &vec![case.code; case.times]);
        let began = Instant::now();
        let first = run(job(&connection, TOPIC, &root, &rt));
        // The remaining errors are met by the following runs.
        let again = || run(job(&connection, TOPIC, &root, &rt));
        let believed = case.api == Api::Fetch && case.code == RD_KAFKA_RESP_ERR_INVALID_MSG;
        let said = outcome(first, began, case.times, believed, again, &what);
        check(dir.path(), ROWS, &what);
        said
    });
}

#[test]
fn every_error_while_producing_ends_with_each_row_once_or_an_error_with_a_kind() {
    each(cases(&[Api::Produce, Api::InitProducerId, Api::Metadata]), |case| {
        let (mock, connection) = cluster();
        let what = format!("producing, {:?} {:?} {}×", case.api, case.code, case.times);
        mock.request_errors(case.api, &vec![case.code; case.times]);
        let began = Instant::now();
        // In at least three requests, so that some rows can be accepted and others not.
        let mut rows = (0..3).map(|third| {
            std::thread::sleep(Duration::from_millis(60 * third as u64));
            Ok(crate::exactly_once::numbered(third * ROWS / 3, ROWS / 3))
        });
        let options = bayou::testing::kafka::ProduceOptions::default();
        let to = bayou::testing::position::Topic::new(TOPIC);
        let mut known = 0;
        let mut count = |report: &bayou::testing::kafka::ProduceReport| {
            known = report.delivered;
            Ok(())
        };
        let produced = connection.produce(&to, &mut rows, &options, &mut count);
        assert!(began.elapsed() < LIMIT + Duration::from_secs(10), "{what}: took {:?}", began.elapsed());
        mock.clear_request_errors(case.api);
        let there = read_back(&connection, &what);
        match produced {
            Err(e) => {
                assert!(KINDS.contains(&e.kind), "{what}: {:?}: {e}", e.kind);
                assert!(there.len() as u64 >= known, "{what}: {known} rows were delivered, {} are there", there.len());
                format!("{:?}: {}; {} rows are there", e.kind, e.message, there.len())
            }
            // Rows that were not accepted are counted, and reported to the user.
            Ok(report) => {
                assert_eq!(report.delivered + report.failed, ROWS as u64, "{what}");
                // The mock accepts nothing that it answers with an error. So a row is in the topic, or it has failed.
                assert_eq!(there.len() as u64, report.delivered, "{what}: {report:?}");
                match report.failed {
                    0 => "exact".into(),
                    n => format!("{n} of {ROWS} rows failed: {:?}", report.failures.first()),
                }
            }
        }
    });
}

/// The rows in the topic, by number: each of them once, and none that was not sent.
fn read_back(connection: &Connection, what: &str) -> BTreeSet<i64> {
    let mut found = BTreeSet::new();
    for (_, _, _, value) in read(connection, &from_start(TOPIC, 1)).all() {
        let row: serde_json::Value = serde_json::from_slice(&value.unwrap()).unwrap();
        let n = row["n"].as_i64().unwrap();
        assert!((0..ROWS).contains(&n), "{what}: row {n} was not sent");
        assert!(found.insert(n), "{what}: row {n} is there twice");
    }
    found
}

#[test]
fn brokers_that_go_away_and_come_back_or_answer_late_hold_a_bounded_run_up_and_no_more() {
    let rt = runtime();
    let (mock, connection) = cluster();
    publish(&connection, TOPIC, 0, ROWS);
    for (what, seconds) in [("down", 2), ("slow", 1)] {
        let dir = tempfile::tempdir().unwrap();
        let root = location(dir.path());
        let began = Instant::now();
        std::thread::scope(|scope| {
            let fault = |on: bool| match (what, on) {
                ("down", true) => mock.broker_down(-1).unwrap(),
                ("down", false) => mock.broker_up(-1).unwrap(),
                (_, true) => mock.broker_round_trip_time(-1, Duration::from_millis(700)).unwrap(),
                (_, false) => mock.broker_round_trip_time(-1, Duration::ZERO).unwrap(),
            };
            let first = scope.spawn(|| run(job(&connection, TOPIC, &root, &rt)));
            // In the middle of the run. The exact place does not matter.
            std::thread::sleep(Duration::from_millis(150));
            fault(true);
            std::thread::sleep(Duration::from_secs(seconds));
            fault(false);
            let said =
                outcome(first.join().unwrap(), began, 0, false, || run(job(&connection, TOPIC, &root, &rt)), what);
            eprintln!("{what}: {said} after {:?}", began.elapsed());
        });
        check(dir.path(), ROWS, what);
    }
}

#[test]
fn a_reader_says_that_no_broker_answers() {
    use bayou::testing::kafka::{Event, Reader, ReaderOptions};
    let (mock, connection) = cluster();
    publish(&connection, TOPIC, 0, 10);
    let mut reader = Reader::start(&connection, &from_start(TOPIC, 1), &ReaderOptions::default()).unwrap();
    let began = Instant::now();
    let mut said = vec![];
    let mut down = false;
    while !said.iter().any(|s: &String| s.contains("no broker")) {
        assert!(began.elapsed() < Duration::from_secs(20), "{said:?}");
        match reader.next(Duration::from_millis(100)).unwrap() {
            Some(Event::EndOfPartition { .. }) if !down => {
                down = true;
                mock.broker_down(-1).unwrap();
            }
            Some(Event::Warning(text)) => said.push(text),
            _ => {}
        }
    }
    eprintln!("{said:?} after {:?}", began.elapsed());
}
