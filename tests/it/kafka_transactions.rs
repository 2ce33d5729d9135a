//! Errors in the answers to the requests of a transaction, on librdkafka's mock cluster. A passing one is survived. Any other ends the run with an
//! error whose kind and text say what to do, and the next run finishes the epoch. The mock does not keep committed offsets and hides no aborted
//! messages, so other tests check the messages on the topic: tests/python/test_topic.py and src/sink/topic/test.rs.

use crate::exactly_once::{job, publish, run, runtime};
use bayou::Kind;
use bayou::testing::flow::Output;
use bayou::testing::kafka::{Connection, Target};
use bayou::testing::sink::topic::TopicOptions;
use bayou::testing::sink::{OutputMode, To};
use bayou::testing::storage::Location;
use bayou::testing::storage::local::LocalStore;
use rdkafka::bindings::rd_kafka_resp_err_t::{self as Code, *};
use rdkafka::mocking::MockCluster;
use rdkafka::types::RDKafkaApiKey as Api;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SOURCE: &str = "t";
const OUT: &str = "out";
/// No run may take longer.
const LIMIT: Duration = Duration::from_secs(60);

fn location(dir: &Path) -> Location {
    Location::local(url::Url::from_directory_path(dir).unwrap(), LocalStore::shared()).unwrap()
}

/// The request, the error, and the kind and a word of the run's error. Without a kind the run must succeed.
type Case = (Api, Code, Option<(Kind, &'static str)>);

const CASES: [Case; 30] = [
    (Api::InitProducerId, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, None),
    (Api::InitProducerId, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, None),
    (Api::InitProducerId, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, None),
    (Api::InitProducerId, RD_KAFKA_RESP_ERR__TRANSPORT, None),
    (
        Api::InitProducerId,
        RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        Some((Kind::Acl, "transactional ids that begin with \"bayou.\"")),
    ),
    (Api::InitProducerId, RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, Some((Kind::Acl, "IdempotentWrite"))),
    (
        Api::InitProducerId,
        RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT,
        Some((Kind::Config, "transaction.max.timeout.ms")),
    ),
    (Api::OffsetFetch, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, None),
    (Api::OffsetFetch, RD_KAFKA_RESP_ERR_NOT_COORDINATOR, None),
    (Api::OffsetFetch, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, Some((Kind::Acl, "groups that begin with"))),
    (Api::AddPartitionsToTxn, RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS, None),
    (Api::AddPartitionsToTxn, RD_KAFKA_RESP_ERR_NOT_COORDINATOR, None),
    (Api::AddPartitionsToTxn, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING, None),
    (Api::AddPartitionsToTxn, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, None),
    (Api::AddPartitionsToTxn, RD_KAFKA_RESP_ERR_PRODUCER_FENCED, None),
    (
        Api::AddPartitionsToTxn,
        RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        Some((Kind::Acl, "Describe, Write and Read on the topic")),
    ),
    (
        Api::AddPartitionsToTxn,
        RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        Some((Kind::Acl, "transactional id")),
    ),
    (Api::Produce, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, None),
    (Api::Produce, RD_KAFKA_RESP_ERR__TRANSPORT, None),
    (Api::Produce, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, None),
    (Api::Produce, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, Some((Kind::Acl, "may not write to the topic 'out'"))),
    (Api::Produce, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, Some((Kind::Config, "max.message.bytes"))),
    (Api::AddOffsetsToTxn, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, None),
    (Api::AddOffsetsToTxn, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, Some((Kind::Acl, "Read on groups"))),
    (Api::TxnOffsetCommit, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS, None),
    (Api::TxnOffsetCommit, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, None),
    (Api::TxnOffsetCommit, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, Some((Kind::Acl, "Read on groups"))),
    (Api::EndTxn, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, None),
    (Api::EndTxn, RD_KAFKA_RESP_ERR__TRANSPORT, None),
    (Api::EndTxn, RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, None),
];

#[test]
fn an_error_of_a_transaction_is_survived_or_says_what_to_do() {
    let rt = runtime();
    let left = Mutex::new(CASES.to_vec());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let Some(case) = left.lock().unwrap().pop() else { return };
                    one(case, &rt);
                }
            });
        }
    });
}

fn one((api, code, wanted): Case, rt: &tokio::runtime::Runtime) {
    let what = format!("{api:?} {code:?}");
    let mock = MockCluster::new(3).unwrap();
    for topic in [SOURCE, OUT] {
        mock.create_topic(topic, 1, 3).unwrap();
    }
    let connection = Connection::open(Target::Address(mock.bootstrap_servers())).unwrap();
    publish(&connection, SOURCE, 0, 300);
    let dir = tempfile::tempdir().unwrap();
    let root = location(dir.path());
    let with_topic = || {
        let mut job = job(&connection, SOURCE, &root, rt);
        job.flow.outputs.push(Output {
            name: "out".into(),
            stream: job.flow.outputs[0].stream.clone(),
            mode: OutputMode::Append,
            start: None,
            to: To::Topic(TopicOptions {
                cluster: Arc::new(connection.clone()),
                topic: OUT.into(),
                key: vec!["model".into()],
                headers_column: None,
                partition_column: None,
                timestamp: None,
                create: None,
            }),
        });
        job
    };
    // Half of the errors are met by the second epoch, when the run already has a producer.
    if code as i32 % 2 == 0 {
        run(with_topic()).unwrap_or_else(|e| panic!("{what}: before: {e:?}"));
        publish(&connection, SOURCE, 300, 300);
    }
    mock.request_errors(api, &[code]);
    let began = Instant::now();
    let first = run(with_topic());
    assert!(began.elapsed() < LIMIT, "{what}: took {:?}", began.elapsed());
    match (&first, wanted) {
        (Ok(()), None) => {}
        (Err((kind, message)), Some((wanted, word))) => {
            assert!(*kind == wanted && message.contains(word), "{what}: {kind:?}: {message}");
            assert!(message.contains("'out'"), "{what}: {message}");
        }
        _ => panic!("{what}: {first:?}"),
    }
    mock.clear_request_errors(api);
    run(with_topic()).unwrap_or_else(|e| panic!("{what}: again: {e:?}"));
}
