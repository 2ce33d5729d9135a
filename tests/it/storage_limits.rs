//! No call to a store takes longer than its limit. Here each of them hangs, and each ends in time with an error that
//! says so.

use async_trait::async_trait;
use bayou::Kind;
use bayou::testing::storage::Location;
use futures::future::pending;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::*;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_millis(50);

/// Answers nothing. Or, after `begun`, it begins to answer and hangs.
#[derive(Debug, Clone)]
struct Hanging {
    begun: bool,
}

impl fmt::Display for Hanging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store that hangs")
    }
}

fn meta(name: &str) -> ObjectMeta {
    ObjectMeta { location: name.into(), last_modified: Default::default(), size: 10, e_tag: None, version: None }
}

#[async_trait]
impl ObjectStore for Hanging {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        pending().await
    }
    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        if self.begun { Ok(Box::new(self.clone())) } else { pending().await }
    }
    async fn get_opts(&self, path: &Path, _: GetOptions) -> Result<GetResult> {
        if !self.begun {
            return pending().await;
        }
        let some = stream::once(async { Ok("some".into()) }).chain(stream::pending()).boxed();
        let payload = GetResultPayload::Stream(some);
        Ok(GetResult { payload, meta: meta(path.as_ref()), range: 0..10, attributes: Default::default() })
    }
    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if self.begun { paths.take(1).chain(stream::pending()).boxed() } else { stream::pending().boxed() }
    }
    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let begun = stream::iter(self.begun.then(|| Ok(meta("lake/first"))));
        begun.chain(stream::pending()).boxed()
    }
    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        pending().await
    }
    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        pending().await
    }
}

#[async_trait]
impl MultipartUpload for Hanging {
    fn put_part(&mut self, _: PutPayload) -> UploadPart {
        Box::pin(pending())
    }
    async fn complete(&mut self) -> Result<PutResult> {
        pending().await
    }
    async fn abort(&mut self) -> Result<()> {
        pending().await
    }
}

fn lake(begun: bool) -> Location {
    let url = url::Url::parse("file:///lake/").unwrap();
    Location::local(url, Arc::new(Hanging { begun })).unwrap().with_timeout(LIMIT)
}

/// The call ends, not before the limit, with an error that says what to check.
async fn late<T>(what: &str, call: impl Future<Output = Result<T>>) {
    let began = Instant::now();
    let ended = tokio::time::timeout(Duration::from_secs(10), call).await;
    let error = ended.unwrap_or_else(|_| panic!("{what} hangs")).err().unwrap_or_else(|| panic!("{what} succeeds"));
    assert!(error.to_string().contains("did not answer within"), "{what}: {error}");
    assert!(began.elapsed() >= LIMIT, "{what}");
}

/// The same for the calls of the protocol: the error is a storage error and names the file.
async fn typed<T>(what: &str, call: impl Future<Output = bayou::Result<T>>) {
    let ended = tokio::time::timeout(Duration::from_secs(10), call).await;
    let error = ended.unwrap_or_else(|_| panic!("{what} hangs")).err().unwrap_or_else(|| panic!("{what} succeeds"));
    assert_eq!(error.kind, Kind::Storage, "{what}: {error}");
    for part in ["did not answer within", "/lake/some"] {
        assert!(error.message.contains(part), "{what}: {error}");
    }
}

#[test]
fn the_limit_is_two_minutes() {
    let root = Location::parse("/lake", &Default::default()).unwrap();
    assert_eq!(root.timeout(), Duration::from_secs(120));
    assert_eq!(root.join("table").timeout(), Duration::from_secs(120));
    let cloud = Location::parse(
        "s3://bucket/lake",
        &std::collections::BTreeMap::from([("aws_region".to_string(), "eu".to_string())]).into(),
    )
    .unwrap();
    assert_eq!(cloud.timeout(), Duration::from_secs(120));
}

#[tokio::test]
async fn a_call_that_hangs_ends_with_an_error_within_the_limit() {
    let (root, path) = (lake(false).root(), Path::from("lake/some"));
    late("a put", root.put(&path, "x".into())).await;
    let create = PutOptions { mode: PutMode::Create, ..Default::default() };
    late("a create", root.put_opts(&path, "x".into(), create)).await;
    late("the begin of an upload", root.put_multipart(&path)).await;
    late("a get", root.get(&path)).await;
    late("a head", root.head(&path)).await;
    late("a range", root.get_range(&path, 0..5)).await;
    late("ranges", root.get_ranges(&path, &[0..5, 7..9])).await;
    late("a delete", root.delete(&path)).await;
    late("a list", root.list(None).try_collect::<Vec<_>>()).await;
    late("a list from a name on", root.list_with_offset(None, &path).try_collect::<Vec<_>>()).await;
    late("a list of folders", root.list_with_delimiter(None)).await;
    late("a copy", root.copy(&path, &Path::from("lake/other"))).await;
    late("a rename", root.rename(&path, &Path::from("lake/other"))).await;
}

#[tokio::test]
async fn an_answer_that_stands_still_ends_with_an_error_within_the_limit() {
    let (root, path) = (lake(true).root(), Path::from("lake/some"));
    late("the bytes of a get", async { root.get(&path).await?.bytes().await }).await;
    late("the bytes of a range", root.get_range(&path, 0..5)).await;
    late("a list", root.list(None).try_collect::<Vec<_>>()).await;
    let paths = stream::iter(["lake/a", "lake/b"].map(|p| Ok(Path::from(p)))).boxed();
    let removed = root.delete_stream(paths).collect::<Vec<_>>().await;
    assert!(removed.len() == 2 && removed[0].is_ok() && removed[1].is_err(), "{removed:?}");
    let mut upload = root.put_multipart(&path).await.unwrap();
    late("a part of an upload", upload.put_part("x".into())).await;
    late("the end of an upload", upload.complete()).await;
    late("giving an upload up", upload.abort()).await;
}

#[tokio::test]
async fn what_the_protocol_asks_of_a_store_that_hangs_is_an_error_of_the_store_that_names_the_file() {
    for begun in [false, true] {
        let at = lake(begun);
        typed("put_new", at.put_new("some", vec![])).await;
        typed("put", at.put("some", vec![])).await;
        typed("get", at.get("some")).await;
        typed("list", at.list("some")).await;
        typed("folders", at.folders("some")).await;
        typed("has_any", at.has_any("some", |_| false)).await;
    }
    typed("exists", lake(false).exists("some")).await;
    typed("delete", lake(false).delete("some")).await;
}
