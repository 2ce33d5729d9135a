//! A store that fails its k-th call, for every k of a five-epoch run, in each way that stores fail. After each the run ends exact or with an
//! error that has a kind, and is exact after a restart.

use crate::exactly_once::{check, publish, run, runtime, spec};
use crate::support::{kafka, topic};
use async_trait::async_trait;
use bayou::Kind;
use bayou::query::run::QuerySpec;
use bayou::storage::Location;
use bayou::storage::local::LocalStore;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::*;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const ROWS: i64 = 1500; // five epochs of 300

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// An error, and nothing has happened.
    Before,
    /// An error, although it has happened.
    After,
    /// No answer, and nothing has happened.
    Hang,
    /// No answer, although it has happened.
    HangAfter,
    /// The answer takes its time.
    Slow,
    /// Somebody else was there first, says the store; nobody was.
    Conflict,
    Precondition,
    /// Three calls in a row are told to come back later.
    Throttled,
    /// The disk takes a part of the file and no more.
    Short,
}

const ALL: [Fault; 9] = [
    Fault::Before,
    Fault::After,
    Fault::Hang,
    Fault::HangAfter,
    Fault::Slow,
    Fault::Conflict,
    Fault::Precondition,
    Fault::Throttled,
    Fault::Short,
];

/// Counts the calls that change something (all but heartbeats), and spoils the k-th.
struct Faulty {
    inner: Arc<LocalStore>,
    calls: AtomicUsize,
    at: usize,
    fault: Fault,
    hit: parking_lot::Mutex<String>,
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}
impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store with faults")
    }
}

fn generic(text: &str) -> Error {
    Error::Generic { store: "faulty", source: text.to_string().into() }
}

impl Faulty {
    fn next(&self, path: &Path) -> Option<Fault> {
        if path.as_ref().ends_with("heartbeat.json") {
            return None;
        }
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let last = if self.fault == Fault::Throttled { self.at + 2 } else { self.at };
        (self.at..=last).contains(&call).then(|| {
            self.hit.lock().push_str(path.filename().unwrap_or_default());
            self.fault
        })
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, data: PutPayload, options: PutOptions) -> Result<PutResult> {
        let there = || Error::AlreadyExists { path: path.to_string(), source: "somebody else".into() };
        match self.next(path) {
            None => self.inner.put_opts(path, data, options).await,
            Some(Fault::Before) => Err(generic("before")),
            Some(Fault::Throttled) => Err(generic("503 SlowDown: please reduce your request rate")),
            Some(Fault::Precondition) => Err(Error::Precondition { path: path.to_string(), source: "412".into() }),
            Some(Fault::Conflict) => Err(there()),
            Some(Fault::After) => {
                self.inner.put_opts(path, data, options).await?;
                Err(generic("after"))
            }
            Some(Fault::Hang) => futures::future::pending().await,
            Some(Fault::HangAfter) => {
                self.inner.put_opts(path, data, options).await?;
                futures::future::pending().await
            }
            Some(Fault::Slow) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                self.inner.put_opts(path, data, options).await
            }
            Some(Fault::Short) => {
                // What is left of it lies under a name that is no file's: only whole files are put into their place.
                let all: Vec<u8> = data.iter().flat_map(|b| b.to_vec()).collect();
                let part = Path::from(format!("{path}#{}", self.at));
                self.inner.put(&part, all[..all.len() / 2].to_vec().into()).await?;
                Err(generic("No space left on device (os error 28)"))
            }
        }
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        match self.next(path) {
            None | Some(Fault::After | Fault::Slow) => self.inner.put_multipart_opts(path, options).await,
            Some(Fault::Hang | Fault::HangAfter) => futures::future::pending().await,
            Some(_) => Err(generic("no upload")),
        }
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(path, options).await
    }
    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Where syncs cost nothing: what is tested is what the protocol does, not the disk.
fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    match memory.is_dir() {
        true => tempfile::tempdir_in(memory).unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

#[test]
fn whatever_way_a_store_fails_the_run_ends_exact_or_with_a_typed_error_and_is_exact_after_a_restart() {
    let (connection, rt) = (kafka(), runtime());
    let topic = topic(&connection, "storage", 1);
    publish(&connection, &topic, 0, ROWS);
    // All of them in a campaign; else each call in one way, another one each time around.
    let every: bool = std::env::var("BAYOU_TEST_FAULTS").is_ok_and(|v| v == "all");
    let (mut tried, mut failed) = (0, 0);
    for (turn, fault) in ALL.into_iter().enumerate() {
        for k in 0.. {
            if !every && k % ALL.len() != turn {
                // Still count the calls once, to know where to end.
                if k > 200 {
                    break;
                }
                continue;
            }
            let dir = folder();
            let store = Arc::new(Faulty {
                inner: LocalStore::shared(),
                calls: AtomicUsize::new(0),
                at: k,
                fault,
                hit: Default::default(),
            });
            let url = url::Url::from_directory_path(dir.path()).unwrap();
            // Longer than `Slow`, and than any honest call here.
            let root = Location::local(url.clone(), store.clone()).unwrap().with_timeout(Duration::from_millis(1500));
            let first = run(spec(&connection, &topic, &root, &rt));
            if store.calls.load(Ordering::Relaxed) <= k {
                first.unwrap();
                assert!(k > 60, "a run in five epochs makes more than 60 calls, and {k} were seen");
                break;
            }
            let what = format!("{fault:?} call {k} ({})", store.hit.lock());
            match &first {
                Ok(()) => check(dir.path(), ROWS, &what),
                Err((kind, message)) => {
                    failed += 1;
                    let typed = [Kind::Storage, Kind::ConcurrentQuery, Kind::DataLoss, Kind::Config].contains(kind);
                    assert!(typed && !message.is_empty(), "{what}: {kind:?}: {message}");
                }
            }
            let honest = Location::local(url, LocalStore::shared()).unwrap();
            let again: QuerySpec = spec(&connection, &topic, &honest, &rt);
            run(again).unwrap_or_else(|e| panic!("{what}: the restart failed: {e:?}; the first run: {first:?}"));
            check(dir.path(), ROWS, &what);
            tried += 1;
        }
    }
    println!("{tried} faults, {failed} of which ended the run with an error");
    assert!(tried > 60);
}
