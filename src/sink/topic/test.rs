//! The protocol of the writer against a broker in memory that fails in every way that Kafka can.

use super::*;
use crate::sink::{Commit, Known, Owner, Staged, StagedRows, make};
use crate::sink::{To, WaitingFile};
use crate::time::{EventTime, SharedClock};
use arrow::array::{Array, AsArray, BinaryArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const APP: &str = "bayou/q/out";

#[derive(Default)]
struct Broker {
    /// Committed messages: epoch, query, id.
    messages: Vec<(String, String, i64)>,
    number: Option<Number>,
    /// The newest producer. Older ones are fenced.
    newest: u64,
    /// What happens to the next transactions.
    faults: Vec<Fault>,
    deleted: bool,
    /// The topic was recreated.
    recreated: bool,
    /// A topic that takes hours to read.
    endless: bool,
    read_back: usize,
    producers: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The transaction is aborted.
    Aborted,
    /// The transaction is committed, and the answer is lost.
    Unknown,
    /// No producer can be made.
    NoProducer,
    /// An error that a second attempt does not change.
    Lasting,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Broker>>);

struct FakeProducer(Fake, u64);

fn failed(again: bool) -> Failed {
    Failed { error: Error::connection("a fault of the test"), again }
}

fn text(bytes: &Option<Vec<u8>>) -> String {
    String::from_utf8(bytes.clone().unwrap()).unwrap()
}

impl Producer for FakeProducer {
    fn send(
        &self,
        messages: &[RecordBatch],
        number: &Number,
        headers: &[(String, Option<Vec<u8>>)],
        _name: &str,
        go_on: GoOn<'_>,
    ) -> Result<(), Failed> {
        go_on()?;
        let mut broker = self.0.0.lock();
        if self.1 != broker.newest {
            return Err(failed(true));
        }
        let fault = broker.faults.pop().unwrap_or(Fault::None);
        match fault {
            Fault::Aborted => return Err(failed(true)),
            Fault::Lasting => return Err(failed(false)),
            _ => {}
        }
        let (epoch, query) = (text(&headers[0].1), text(&headers[1].1));
        for batch in messages {
            let ids = batch.column(0).as_primitive::<Int64Type>();
            broker.messages.extend(ids.values().iter().map(|id| (epoch.clone(), query.clone(), *id)));
        }
        broker.number = Some(number.clone());
        if fault == Fault::Unknown { Err(failed(true)) } else { Ok(()) }
    }
}

struct NoEncoder;

impl Encoder for NoEncoder {
    fn encode(&self, rows: &RecordBatch, _now: i64) -> Result<Vec<RecordBatch>> {
        Ok(vec![rows.clone()])
    }
    fn refused(&self, _rows: &RecordBatch, _now: i64) -> Vec<(u32, String)> {
        vec![]
    }
    fn keys(&self, rows: &RecordBatch) -> Result<BinaryArray> {
        Ok(BinaryArray::new_null(rows.num_rows()))
    }
}

impl Cluster for Fake {
    fn address(&self) -> &str {
        "memory"
    }
    fn unfit(&self) -> Option<String> {
        None
    }
    fn topic(&self, name: &str, _create: Option<&Create>) -> Result<Facts> {
        let (most, any) = (usize::MAX, i64::MAX);
        let id = Some("i/d".into());
        Ok(Facts {
            name: name.into(),
            id,
            partitions: 1,
            max_message_bytes: most,
            compacted: None,
            earlier: any,
            later: any,
        })
    }
    fn encoder(&self, _schema: &SchemaRef, _facts: &Facts, _shape: &Shape) -> Result<Arc<dyn Encoder>> {
        Ok(Arc::new(NoEncoder))
    }
    fn tombstones(&self, keys: &BinaryArray) -> Result<RecordBatch> {
        Ok(rows(&vec![-1; keys.len()]))
    }
    fn number(&self, group: &str, topic: &str, _settled: bool, _go_on: GoOn<'_>) -> Result<Option<Number>> {
        assert_eq!((group, topic), ("bayou.q.out", "t"));
        Ok(self.0.lock().number.clone())
    }
    fn producer(&self, of: &ProducerOf<'_>, _go_on: GoOn<'_>) -> Result<Box<dyn Producer>, Failed> {
        assert_eq!((of.id, of.group), ("bayou.q.out.t", "bayou.q.out"));
        let mut broker = self.0.lock();
        if broker.faults.last() == Some(&Fault::NoProducer) {
            broker.faults.pop();
            return Err(failed(true));
        }
        broker.newest += 1;
        broker.producers += 1;
        Ok(Box::new(FakeProducer(self.clone(), broker.newest)))
    }
    fn id(&self, _topic: &str) -> Result<Option<String>> {
        Ok(Some(if self.0.lock().recreated { "new" } else { "i/d" }.into()))
    }
    fn read_back(
        &self,
        _topic: &str,
        _since: Option<i64>,
        go_on: GoOn<'_>,
        each: &mut dyn FnMut(Sent<'_>) -> Result<bool>,
    ) -> Result<bool> {
        let mut broker = self.0.lock();
        broker.read_back += 1;
        while broker.endless {
            // A different thread must be able to lock the broker.
            parking_lot::MutexGuard::unlocked(&mut broker, std::thread::yield_now);
            go_on()?;
        }
        for (epoch, query, _) in broker.messages.iter().filter(|_| !broker.deleted) {
            let headers = vec![
                (EPOCH.into(), Some(epoch.clone().into_bytes())),
                (QUERY.into(), Some(query.clone().into_bytes())),
            ];
            if !each(Sent { key: None, value: Some(b"{}"), headers: Some(&headers) })? {
                break;
            }
        }
        Ok(!broker.deleted)
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]))
}

fn rows(ids: &[i64]) -> RecordBatch {
    RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(ids.to_vec()))]).unwrap()
}

#[allow(clippy::disallowed_methods, reason = "only the patience of the writer goes by it")]
fn sink(fake: &Fake) -> Box<dyn Sink> {
    let options = TopicOptions {
        cluster: Arc::new(fake.clone()),
        topic: "t".into(),
        key: vec![],
        headers_column: None,
        partition_column: None,
        timestamp: None,
        create: None,
    };
    let rows = Rows {
        name: "out".into(),
        schema: schema(),
        declared: schema(),
        mode: OutputMode::Append,
        keys: vec![],
        clock: SharedClock::system(),
    };
    make(&To::Topic(options), rows)
}

async fn open(fake: &Fake, id: &str) -> Box<dyn Writer> {
    let mut writer = sink(fake).open().await.unwrap();
    writer.belongs_to(&Owner { query: "q".into(), id: id.into(), generation: 1 });
    writer
}

fn commit(epoch: i64, known: Option<i64>, accept: bool) -> Commit {
    let whole = Some(StagedRows { schema: schema(), batches: vec![rows(&[epoch * 2, epoch * 2 + 1])] });
    let files: Vec<WaitingFile> = vec![serde_json::json!({ "topic": "t/i/d" })];
    Commit {
        name: "out".into(),
        app: APP.into(),
        log: String::new(),
        epoch,
        sealed: EventTime(0),
        mode: "topic:append".into(),
        staged: Staged { rows: 2, files, whole, keys: vec![] },
        nonce: String::new(),
        admitted: None,
        looked: false,
        fresh: false,
        known: known.map(|e| Known { id: "t/i/d".into(), version: e as u64, epoch: Some(e) }),
        accept_changes: accept,
    }
}

fn ids(fake: &Fake) -> Vec<i64> {
    fake.0.lock().messages.iter().map(|m| m.2).collect()
}

#[tokio::test]
async fn every_epoch_is_sent_once_whatever_fails_and_whoever_sends_it() {
    for seed in 0..300 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let fake = Fake::default();
        let mut writer = open(&fake, "me").await;
        assert_eq!(writer.newest_epoch(APP).await.unwrap(), None);
        // A run that is left behind continues with its own producer.
        let mut left_behind: Option<Box<dyn Writer>> = None;
        for epoch in 0..12 {
            let known = (epoch > 0).then_some(epoch - 1);
            for _ in 0..rng.random_range(0..3) {
                let fault = [Fault::Aborted, Fault::Unknown, Fault::NoProducer, Fault::Lasting][rng.random_range(0..4)];
                fake.0.lock().faults.push(fault);
            }
            loop {
                if rng.random_range(0..4) == 0 {
                    fake.0.lock().number = None;
                }
                if rng.random_range(0..4) == 0
                    && let Some(old) = &mut left_behind
                {
                    let _ = old.commit(commit(epoch, known, false)).await;
                }
                if writer.commit(commit(epoch, known, false)).await.is_ok() && rng.random_range(0..3) > 0 {
                    break;
                }
                // The process died, perhaps after the commit and before `done`. The next run begins with the commit.
                left_behind = Some(std::mem::replace(&mut writer, open(&fake, "me").await));
            }
        }
        assert_eq!(ids(&fake), (0..24).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[tokio::test]
async fn an_epoch_of_which_nobody_knows_is_refused_unless_the_user_says_so() {
    let fake = Fake::default();
    let mut writer = open(&fake, "me").await;
    writer.commit(commit(0, None, false)).await.unwrap();
    fake.0.lock().faults.push(Fault::Lasting);
    writer.commit(commit(1, Some(0), false)).await.unwrap_err();
    fake.0.lock().number = None;
    fake.0.lock().deleted = true;
    let mut next = open(&fake, "me").await;
    let error = next.commit(commit(1, Some(0), false)).await.unwrap_err();
    assert!(error.kind == crate::Kind::DataLoss && error.message.contains("epoch 1"), "{error}");
    next.commit(commit(1, Some(0), true)).await.unwrap();
    assert_eq!(ids(&fake), [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_first_epoch_that_fails_is_sent_again_though_the_topic_has_deleted_messages() {
    let fake = Fake::default();
    fake.0.lock().deleted = true;
    let mut writer = open(&fake, "me").await;
    writer.newest_epoch(APP).await.unwrap();
    // Kafka cannot have forgotten the number of a transaction of a moment ago.
    fake.0.lock().faults.extend([Fault::Aborted, Fault::NoProducer, Fault::Aborted]);
    writer.commit(commit(0, None, false)).await.unwrap();
    fake.0.lock().faults.push(Fault::Unknown);
    writer.commit(commit(1, Some(0), false)).await.unwrap();
    assert_eq!(ids(&fake), [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_topic_that_is_recreated_in_a_run_is_found_before_the_next_seal() {
    let fake = Fake::default();
    let mut writer = open(&fake, "me").await;
    writer.commit(commit(0, None, false)).await.unwrap();
    assert!(writer.look(&[], None, None).await.unwrap().is_none());
    fake.0.lock().recreated = true;
    let Err(error) = writer.look(&[], None, None).await else { panic!("it was not found") };
    assert_eq!(error.kind, crate::Kind::DataLoss);
    let told = "output 'out': topic 't' on memory: the topic was deleted and recreated (its id was i/d, and is new).";
    assert!(error.message.starts_with(told), "{error}");
}

#[tokio::test]
async fn nobody_waits_for_a_long_topic_to_be_read_after_a_stop() {
    let fake = Fake::default();
    open(&fake, "me").await.commit(commit(0, None, false)).await.unwrap();
    fake.0.lock().number = None;
    fake.0.lock().endless = true;
    let mut next = open(&fake, "me").await;
    let held = Arc::strong_count(&fake.0);
    let sent = next.commit(commit(1, Some(0), false));
    tokio::select! {
        _ = sent => panic!("the topic ended"),
        () = async { while fake.0.lock().read_back == 0 { tokio::task::yield_now().await } } => {}
    }
    // The thread that reads ends, although no caller waits for its result.
    while Arc::strong_count(&fake.0) > held + 1 {
        tokio::task::yield_now().await;
    }
    drop(next);
}

#[tokio::test]
async fn a_producer_at_hand_needs_no_look_at_the_number() {
    let fake = Fake::default();
    let mut writer = open(&fake, "me").await;
    writer.newest_epoch(APP).await.unwrap();
    for epoch in 0..5 {
        // Also if Kafka forgets the number meanwhile, nothing is read.
        fake.0.lock().number = None;
        writer.commit(commit(epoch, (epoch > 0).then_some(epoch - 1), false)).await.unwrap();
    }
    let broker = fake.0.lock();
    assert_eq!((broker.producers, broker.read_back, broker.messages.len()), (1, 0, 10));
}

#[tokio::test]
async fn the_number_of_another_query_is_refused_before_its_producer_is_fenced() {
    let fake = Fake::default();
    let mut theirs = open(&fake, "they").await;
    theirs.commit(commit(0, None, false)).await.unwrap();
    let mine = open(&fake, "me").await;
    let error = mine.newest_epoch(APP).await.unwrap_err();
    assert!(error.kind == crate::Kind::ConcurrentQuery && error.message.contains("bayou.q.out"), "{error}");
    theirs.commit(commit(1, Some(0), false)).await.unwrap();
    assert_eq!(fake.0.lock().producers, 1);
    // A number that a tool has committed is not ours either.
    fake.0.lock().number = Some(Number { epoch: 1, metadata: String::new() });
    assert_eq!(theirs.newest_epoch(APP).await.unwrap_err().kind, crate::Kind::ConcurrentQuery);
    let error = sink(&fake).refuse_taken(APP).await.unwrap_err();
    assert_eq!(error.kind, crate::Kind::ConcurrentQuery);
}

#[tokio::test]
async fn a_new_generation_takes_the_number_over_once() {
    let fake = Fake::default();
    open(&fake, "they").await.commit(commit(0, None, false)).await.unwrap();
    let mut mine = open(&fake, "me").await;
    fake.0.lock().faults.push(Fault::Unknown);
    mine.empty(APP, 1).await.unwrap();
    let mut again = open(&fake, "me").await;
    again.empty(APP, 1).await.unwrap();
    again.commit(commit(2, None, false)).await.unwrap();
    assert_eq!(again.newest_epoch(APP).await.unwrap(), Some(2));
    assert_eq!(ids(&fake), [0, 1, 4, 5]);
}

#[tokio::test]
async fn an_epoch_goes_to_the_topic_that_it_was_sealed_for() {
    let fake = Fake::default();
    let mut writer = open(&fake, "me").await;
    for (sealed, kind, word) in
        [("t/other", crate::Kind::DataLoss, "recreated"), ("u/i/d", crate::Kind::Config, "to the topic 'u' before")]
    {
        let mut other = commit(0, None, false);
        other.staged.files = vec![serde_json::json!({ "topic": sealed })];
        let error = writer.commit(other.clone()).await.unwrap_err();
        assert!(error.kind == kind && error.message.contains(word), "{error}");
        assert!(ids(&fake).is_empty());
    }
}
