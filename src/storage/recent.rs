//! A store that keeps in memory the small files that were written a moment ago and never change. Mode update reads
//! again the files that the previous epoch has written, and the state of an aggregate is merged from the increments
//! of the last epochs. In a store, each of these reads is a request.

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::*;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// A file larger than this is read again, because the request is then a small part of the time.
const LARGEST: usize = 2 << 20;
/// The bytes that are kept for one location.
const MOST: usize = 16 << 20;

#[derive(Debug)]
pub(super) struct Recent {
    inner: Arc<dyn ObjectStore>,
    /// The location, if its name has letters that a URL escapes.
    escaped: Option<Path>,
    files: InMemory,
    order: Mutex<(VecDeque<(Path, usize)>, usize)>,
}

impl Recent {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, location: &Path) -> Arc<Self> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
        let escaped = (!location.as_ref().chars().all(is_plain)).then(|| location.clone());
        Arc::new(Self { inner, escaped, files: InMemory::new(), order: Mutex::default() })
    }

    /// The Delta kernel takes the path of one file, `_last_checkpoint`, from a URL with its escapes, and escapes these
    /// again. The path that the kernel then asks for is outside the folder that the credentials allow.
    fn meant(&self, path: &Path) -> Path {
        let mut at = path.clone();
        for _ in 0..2 {
            match &self.escaped {
                Some(location) if !at.prefix_matches(location) => match Path::from_url_path(at.as_ref()) {
                    Ok(decoded) => at = decoded,
                    Err(_) => return path.clone(),
                },
                _ => return at,
            }
        }
        if self.escaped.as_ref().is_none_or(|location| at.prefix_matches(location)) { at } else { path.clone() }
    }

    async fn keep(&self, path: &Path, data: PutPayload) {
        let size = data.content_length();
        if self.files.put(path, data).await.is_err() {
            return;
        }
        let mut gone = vec![];
        {
            let mut order = self.order.lock();
            order.0.push_back((path.clone(), size));
            order.1 += size;
            while order.1 > MOST {
                let Some((oldest, size)) = order.0.pop_front() else { break };
                order.1 -= size;
                gone.push(oldest);
            }
        }
        for path in gone {
            let _ = self.files.delete(&path).await;
        }
    }
}

impl fmt::Display for Recent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// Data files and state have a random part in their names. Files of a log do not.
fn never_changes(path: &Path) -> bool {
    let name = path.filename().unwrap_or_default();
    (name.ends_with(".parquet") && name.starts_with("part-") || name.ends_with(".arrow"))
        && !path.parts().any(|part| part.as_ref() == "_delta_log")
}

#[async_trait]
impl ObjectStore for Recent {
    async fn put_opts(&self, path: &Path, data: PutPayload, options: PutOptions) -> Result<PutResult> {
        if data.content_length() > LARGEST || !never_changes(path) {
            return self.inner.put_opts(path, data, options).await;
        }
        let put = self.inner.put_opts(path, data.clone(), options).await?;
        self.keep(path, data).await;
        Ok(put)
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        // Whether a file exists is asked of the store.
        if !options.head && never_changes(path) {
            let range = options.range.clone();
            if let Ok(found) = self.files.get_opts(path, GetOptions { range, ..GetOptions::default() }).await {
                return Ok(found);
            }
        }
        self.inner.get_opts(&self.meant(path), options).await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_that_never_change_are_read_from_memory_within_the_limit_and_no_others() {
        let behind = Arc::new(InMemory::new());
        let store = Recent::new(behind.clone(), &Path::from("t"));
        let at = |n: usize| Path::from(format!("t/part-{n}.parquet"));
        let kept = MOST / LARGEST;
        for n in 0..kept + 3 {
            store.put(&at(n), vec![n as u8; LARGEST].into()).await.unwrap();
        }
        let others = ["t/_delta_log/00000000000000000001.checkpoint.parquet", "c/epoch/1.json", "t/user.parquet"]
            .map(Path::from);
        for path in &others {
            store.put(path, "x".into()).await.unwrap();
        }
        store.put(&Path::from("t/part-large.parquet"), vec![0; LARGEST + 1].into()).await.unwrap();
        // A file that is still found after the store has lost everything was kept in memory.
        let all: Vec<Path> = (0..kept + 3).map(at).chain(others).chain([Path::from("t/part-large.parquet")]).collect();
        for path in &all {
            behind.delete(path).await.unwrap();
        }
        let mut found = vec![];
        for (n, path) in all.iter().enumerate() {
            if let Ok(got) = store.get(path).await {
                assert_eq!(got.bytes().await.unwrap()[0], n as u8);
                found.push(n);
            }
            assert!(store.head(path).await.is_err(), "existence is asked of the store");
        }
        assert_eq!(found, (3..kept + 3).collect::<Vec<_>>());
        let range = store.get_range(&at(5), 10..12).await.unwrap();
        assert_eq!(range[..], [5, 5]);
    }

    #[tokio::test]
    async fn a_path_that_was_escaped_twice_is_the_one_that_was_meant() {
        let location = Path::parse("a/schläge").unwrap();
        let behind = Arc::new(InMemory::new());
        let store = Recent::new(behind.clone(), &location);
        behind.put(&location.clone().join("x"), "x".into()).await.unwrap();
        for path in ["a/schläge/x", "a/schl%C3%A4ge/x", "a/schl%25C3%25A4ge/x"] {
            assert!(store.get(&Path::parse(path).unwrap()).await.is_ok(), "{path}");
        }
        assert!(store.get(&Path::parse("a/schl%C3%B6ge/x").unwrap()).await.is_err());
    }
}
