//! Every call to a store passes through this module. It adds a time limit, which turns a hang into an error (after it,
//! the caller must find out whether something happened). It also adds the crash points before and after each durable
//! step.

use super::crash;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::path::Path;
use object_store::*;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Guard {
    inner: Arc<dyn ObjectStore>,
    most: Duration,
}

impl Guard {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, most: Duration) -> Arc<Self> {
        Arc::new(Self { inner, most })
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

fn late(most: Duration) -> Error {
    let text =
        format!("the store did not answer within {:.0} seconds. Check that it can be reached.", most.as_secs_f64());
    Error::Generic { store: "store", source: text.into() }
}

pub(super) async fn within<T>(most: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(most, call).await.unwrap_or_else(|_| Err(late(most)))
}

/// Each item within the time limit, or an error and the end.
fn each_within<T: Send + 'static>(
    most: Duration,
    items: BoxStream<'static, Result<T>>,
) -> BoxStream<'static, Result<T>> {
    let next = move |mut items: BoxStream<'static, Result<T>>| async move {
        match tokio::time::timeout(most, items.next()).await {
            Ok(item) => item.map(|i| (i, items)),
            Err(_) => Some((Err(late(most)), stream::empty().boxed())),
        }
    };
    // The Delta kernel polls again after the end.
    stream::unfold(items, next).fuse().boxed()
}

#[async_trait]
impl ObjectStore for Guard {
    async fn put_opts(&self, path: &Path, data: PutPayload, options: PutOptions) -> Result<PutResult> {
        let operation = if matches!(options.mode, PutMode::Create) { "create" } else { "put" };
        crash::before(operation, path);
        crash::linger(operation, path, "before").await;
        let put = within(self.most, self.inner.put_opts(path, data, options)).await?;
        crash::after(operation, path);
        crash::linger(operation, path, "after").await;
        Ok(put)
    }
    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        crash::before("multipart", path);
        let inner = within(self.most, self.inner.put_multipart_opts(path, options)).await?;
        Ok(Box::new(Upload { inner, most: self.most, path: path.clone() }))
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let mut got = within(self.most, self.inner.get_opts(path, options)).await?;
        if let GetResultPayload::Stream(bytes) = got.payload {
            got.payload = GetResultPayload::Stream(each_within(self.most, bytes));
        }
        Ok(got)
    }
    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let point = |reach: fn(&str, &Path)| {
            move |path: &Result<Path>| {
                if let Ok(path) = path {
                    reach("delete", path);
                }
            }
        };
        let removed = self.inner.delete_stream(paths.inspect(point(crash::before)).boxed());
        each_within(self.most, removed).inspect(point(crash::after)).boxed()
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        each_within(self.most, self.inner.list(prefix))
    }
    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        each_within(self.most, self.inner.list_with_offset(prefix, offset))
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        within(self.most, self.inner.list_with_delimiter(prefix)).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        within(self.most, self.inner.copy_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct Upload {
    inner: Box<dyn MultipartUpload>,
    most: Duration,
    path: Path,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (part, most) = (self.inner.put_part(data), self.most);
        Box::pin(within(most, part))
    }
    async fn complete(&mut self) -> Result<PutResult> {
        let done = within(self.most, self.inner.complete()).await?;
        crash::after("multipart", &self.path);
        Ok(done)
    }
    async fn abort(&mut self) -> Result<()> {
        within(self.most, self.inner.abort()).await
    }
}
