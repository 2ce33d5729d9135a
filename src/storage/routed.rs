//! One bucket whose folders are reached with different credentials.

use super::Location;
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::*;
use std::fmt;
use std::sync::Arc;

/// A store that reaches `location` through that location's own store, and everything else through `otherwise`.
pub(crate) fn routed(location: &Location, otherwise: Option<Arc<dyn ObjectStore>>) -> Arc<dyn ObjectStore> {
    match otherwise {
        Some(otherwise) => Arc::new(Routed { prefix: location.path.clone(), inside: location.root(), otherwise }),
        _ => location.root(),
    }
}

#[derive(Debug)]
struct Routed {
    prefix: Path,
    inside: Arc<dyn ObjectStore>,
    otherwise: Arc<dyn ObjectStore>,
}

impl fmt::Display for Routed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inside.fmt(f)
    }
}

impl Routed {
    fn of(&self, path: &Path) -> &Arc<dyn ObjectStore> {
        if path.prefix_matches(&self.prefix) { &self.inside } else { &self.otherwise }
    }
    fn below(&self, prefix: Option<&Path>) -> &Arc<dyn ObjectStore> {
        prefix.map_or(&self.otherwise, |p| self.of(p))
    }
}

#[async_trait]
impl ObjectStore for Routed {
    async fn put_opts(&self, path: &Path, data: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.of(path).put_opts(path, data, options).await
    }
    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.of(path).put_multipart_opts(path, options).await
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.of(path).get_opts(path, options).await
    }
    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (prefix, inside, otherwise) = (self.prefix.clone(), self.inside.clone(), self.otherwise.clone());
        let delete = move |path: Result<Path>| {
            let store = match &path {
                Ok(path) if path.prefix_matches(&prefix) => &inside,
                _ => &otherwise,
            };
            store.delete_stream(futures::stream::iter([path]).boxed())
        };
        paths.flat_map(delete).boxed()
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.below(prefix).list(prefix)
    }
    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.below(prefix).list_with_offset(prefix, offset)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.below(prefix).list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.of(from).copy_opts(from, to, options).await
    }
}
