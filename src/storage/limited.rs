//! A time limit on every call to a store: a hang becomes an error that is looked into. That the time ran out does not mean that
//! nothing happened.

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::*;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub struct Limited {
    inner: Arc<dyn ObjectStore>,
    most: Duration,
}

impl Limited {
    pub fn new(inner: Arc<dyn ObjectStore>, most: Duration) -> Arc<Self> {
        Arc::new(Self { inner, most })
    }
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

async fn within<T>(most: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(most, call).await.unwrap_or_else(|_| {
        let text =
            format!("the store did not answer within {:.0} seconds; check that it can be reached", most.as_secs_f64());
        Err(Error::Generic { store: "store", source: text.into() })
    })
}

#[async_trait]
impl ObjectStore for Limited {
    async fn put_opts(&self, path: &Path, data: PutPayload, options: PutOptions) -> Result<PutResult> {
        within(self.most, self.inner.put_opts(path, data, options)).await
    }
    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let inner = within(self.most, self.inner.put_multipart_opts(path, options)).await?;
        Ok(Box::new(Upload { inner, most: self.most }))
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        within(self.most, self.inner.get_opts(path, options)).await
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
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (part, most) = (self.inner.put_part(data), self.most);
        Box::pin(within(most, part))
    }
    async fn complete(&mut self) -> Result<PutResult> {
        within(self.most, self.inner.complete()).await
    }
    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
