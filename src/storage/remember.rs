//! A store that reads each commit of a Delta log once. A checkpoint is made in several passes over the commits since the
//! last one, and each pass would read all of them.

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::*;
use std::fmt;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Remembering {
    inner: Arc<dyn ObjectStore>,
    commits: InMemory,
}

impl Remembering {
    pub(super) fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self { inner, commits: InMemory::new() })
    }
}

impl fmt::Display for Remembering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// A commit never changes.
fn is_commit(path: &Path) -> bool {
    let number = path.filename().and_then(|name| name.strip_suffix(".json"));
    number.is_some_and(|n| n.len() == 20 && n.bytes().all(|b| b.is_ascii_digit()))
}

#[async_trait]
impl ObjectStore for Remembering {
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        if options.head || !is_commit(path) {
            return self.inner.get_opts(path, options).await;
        }
        if matches!(self.commits.head(path).await, Err(Error::NotFound { .. })) {
            let bytes = self.inner.get(path).await?.bytes().await?;
            self.commits.put(path, bytes.into()).await?;
        }
        self.commits.get_opts(path, GetOptions { range: options.range, ..GetOptions::default() }).await
    }
    async fn put_opts(&self, path: &Path, data: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(path, data, options).await
    }
    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }
    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
