//! Staging and commits with a Spark in memory. What Spark itself does is tested with a real one (tests/python/test_managed.py).

use super::*;
use crate::sink::{Changes, Commit, Known, Round, Staged, To, make};
use crate::storage::StorageOptions;
use crate::time::{Clock, EventTime, SharedClock};
use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

#[derive(Default)]
struct Fake {
    requests: Mutex<Vec<(String, Value)>>,
    made: Mutex<bool>,
    /// A CHECK constraint that the table has by now.
    check: Mutex<Option<String>>,
    /// The next commit fails.
    fails: Mutex<bool>,
}

impl Session for Fake {
    fn ask(&self, what: &str, request: &Value) -> Result<Value> {
        self.requests.lock().push((what.into(), request.clone()));
        match what {
            "look" if !*self.made.lock() => Ok(json!({ "exists": false })),
            "look" => {
                let column = |name: &str| json!({ "name": name, "type": "long", "nullable": true, "metadata": {} });
                let properties = match self.check.lock().clone() {
                    Some(check) => json!({ "delta.constraints.c": check }),
                    None => json!({}),
                };
                Ok(json!({
                    "exists": true, "id": "the-id", "version": 0, "partition_by": [], "properties": properties, "features": [],
                    "apps": {}, "others": false, "schema": { "type": "struct", "fields": [column("ID"), column("more")] },
                }))
            }
            "create" => {
                *self.made.lock() = true;
                Ok(json!({}))
            }
            "commit" if std::mem::take(&mut *self.fails.lock()) => Err(Error::storage("a fault of the test")),
            "commit" => Ok(json!({ "version": request["epoch"].as_i64().unwrap() + 1 })),
            _ => Ok(json!({})),
        }
    }
}

/// A clock that always shows the time that was set.
#[derive(Clone, Default)]
struct At(Arc<AtomicI64>);

impl Clock for At {
    fn now(&self) -> EventTime {
        EventTime(self.0.load(Ordering::Relaxed))
    }
}

struct Place {
    fake: Arc<Fake>,
    at: At,
    staged: Location,
    _folder: tempfile::TempDir,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let staged = Location::parse(&folder.path().join("a b/staged").to_string_lossy(), &StorageOptions::new()).unwrap();
    Place { fake: Arc::default(), at: At::default(), staged, _folder: folder }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]))
}

fn sink(place: &Place, mode: OutputMode) -> Box<dyn Sink> {
    let options = SparkOptions {
        table: SparkTable {
            name: "t".into(),
            shown: "c.s.t".into(),
            sql: "`c`.`s`.`t`".into(),
            session: place.fake.clone(),
        },
        staged: place.staged.clone(),
        partition_by: vec![],
        comment: None,
        merge_schema: false,
    };
    let rows = Rows {
        name: "t".into(),
        schema: schema(),
        declared: schema(),
        mode,
        keys: if mode == OutputMode::Update { vec![0] } else { vec![] },
        clock: SharedClock::new(place.at.clone()),
    };
    make(&To::Spark(options), rows)
}

/// Stages rows as an epoch does.
async fn stage(writer: &dyn Writer, ids: &[i64]) -> Staged {
    let mut part = writer.staging().unwrap().begin(&tokio::runtime::Handle::current());
    let rows = RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(ids.to_vec()))]).unwrap();
    let part = tokio::task::spawn_blocking(move || part.push(rows).map(|()| part)).await.unwrap().unwrap();
    part.finish(Changes::default()).await.unwrap()
}

fn commit(epoch: i64, mode: &str, staged: Staged) -> Commit {
    Commit {
        name: "t".into(),
        app: "bayou/q/t".into(),
        log: String::new(),
        epoch,
        sealed: EventTime(0),
        mode: mode.into(),
        staged,
        nonce: "n".into(),
        admitted: None,
        looked: false,
        fresh: false,
        known: Some(Known { id: "the-id".into(), version: 7, epoch: None }),
        accept_changes: false,
    }
}

fn asked(fake: &Fake, what: &str) -> Vec<Value> {
    fake.requests.lock().iter().filter(|(w, _)| w == what).map(|(_, r)| r.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_wait_as_files_in_the_columns_of_the_table_until_their_commit() {
    for (mode, name, columns) in [
        (OutputMode::Append, "append", "`ID` BIGINT"),
        (OutputMode::Complete, "complete", "`ID` BIGINT"),
        (OutputMode::Update, "update", "`_bayou_delete` BOOLEAN NOT NULL, `ID` BIGINT"),
    ] {
        let place = place();
        let mut writer = sink(&place, mode).open().await.unwrap();
        assert_eq!(asked(&place.fake, "create")[0]["columns"], "`id` BIGINT");
        // The file that shows whether Spark reaches the folder is gone again.
        assert_eq!(asked(&place.fake, "reach").len(), 1);
        assert_eq!(place.staged.list("").await.unwrap(), Vec::<String>::new());
        let staged = stage(&*writer, &[1, 2]).await;
        assert_eq!((staged.rows, staged.files.len(), staged.whole.is_none()), (2, 1, true));
        let path = path_of(&staged.files[0]).unwrap();
        assert_eq!(place.staged.list("").await.unwrap(), vec![path.clone()]);
        let rows = super::super::delta::read_file(&place.staged, &path).await.unwrap();
        let ids = rows[0].column_by_name("ID").unwrap().as_primitive::<Int64Type>().clone();
        assert_eq!(ids.values(), &[1, 2]);
        // A commit that fails leaves the files to the next one.
        let seal = commit(3, mode_name(mode), staged);
        *place.fake.fails.lock() = true;
        writer.commit(seal.clone()).await.unwrap_err();
        assert_eq!(place.staged.list("").await.unwrap().len(), 1);
        assert_eq!(writer.commit(seal).await.unwrap(), Some(4));
        assert_eq!(place.staged.list("").await.unwrap().len(), 0);
        let requests = asked(&place.fake, "commit");
        assert_eq!(requests[0], requests[1]);
        let request = &requests[0];
        assert_eq!(request["columns"], columns);
        assert_eq!(request["keys"], if mode == OutputMode::Update { json!(["ID"]) } else { json!([]) });
        assert_eq!((&request["mode"], &request["seal"], &request["since"]), (&json!(name), &json!("n"), &json!(7)));
        let url = request["files"][0].as_str().unwrap();
        assert!(url.starts_with("file:///") && url.contains("/a b/staged/") && url.ends_with(&path), "{url}");
        assert_eq!(writer.version().unwrap(), Some(("the-id".into(), 4)));
        assert_eq!(writer.newest_epoch("bayou/q/t").await.unwrap(), Some(3));
        // Rows that bayou has sealed for its own commit wait elsewhere.
        let e = writer.commit(commit(4, name, Staged::default())).await.unwrap_err();
        assert!(e.message.contains("Run the query once more as it was then"), "{e}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_has_changed_before_the_seal_is_seen_with_the_rows_that_it_does_not_take() {
    for mode in [OutputMode::Append, OutputMode::Update] {
        let place = place();
        let mut writer = sink(&place, mode).open().await.unwrap();
        let staged = stage(&*writer, &[1, 5, 9]).await;
        let admitted = writer.staging().unwrap().fingerprint();
        let (same, refused) = writer.look(&staged.files, None, admitted.as_deref()).await.unwrap().unwrap();
        assert_eq!((same.fingerprint(), refused), (admitted.clone(), 0));
        *place.fake.check.lock() = Some("ID < 5".into());
        let (staging, refused) = writer.look(&staged.files, None, admitted.as_deref()).await.unwrap().unwrap();
        assert_eq!(refused, 2);
        assert_ne!(staging.fingerprint(), admitted);
        *place.fake.made.lock() = false;
        let e = writer.look(&[], None, None).await.err().unwrap();
        assert!(e.kind == Kind::DataLoss && e.message.contains("UNDROP TABLE `c`.`s`.`t`"), "{e}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_nobody_will_commit_are_removed_when_they_are_old() {
    const DAY: i64 = 86_400_000_000;
    let place = place();
    let sink = sink(&place, OutputMode::Append);
    let writer = sink.open().await.unwrap();
    let mut kept = vec![];
    for day in [0, 5, 12] {
        place.at.0.store(day * DAY, Ordering::Relaxed);
        let staged = stage(&*writer, &[1]).await;
        kept.push(path_of(&staged.files[0]).unwrap());
    }
    let round =
        || Round { version: 1, optimize_every: None, clean_log: None, watermark: None, oldest: Box::pin(async { 0 }) };
    let mut upkeep = sink.upkeep().unwrap();
    assert_eq!(upkeep.maintain(round()).await, Vec::<String>::new());
    assert_eq!(place.staged.list("").await.unwrap(), kept[1..]);
}
