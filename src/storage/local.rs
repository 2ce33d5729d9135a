//! Our own store for `file:`. object_store's local store never syncs, so a power cut can leave an empty newest commit.
//! This store writes each durable file, syncs it, hard-links it into place, and syncs its directories. Tests inject
//! faults here.

use super::later::later;
use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::*;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use tokio::sync::Semaphore;

/// What a fault hook can do to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and has no effect.
    Before,
    /// The call fails, but has its effect.
    After,
    /// The call never returns.
    Hang,
}

/// Called with the operation ("create", "put", "multipart") and the path. For tests.
pub type Hook = Arc<dyn Fn(&str, &Path) -> Option<Fault> + Send + Sync>;

/// Durable files below `/`.
pub struct LocalStore {
    inner: LocalFileSystem,
    hook: Option<Hook>,
    /// Whether a file is created by a hard link, which fails if it exists. Mounts without links have one writer.
    links: bool,
}

impl LocalStore {
    pub fn shared() -> Arc<Self> {
        static STORE: LazyLock<Arc<LocalStore>> =
            LazyLock::new(|| Arc::new(LocalStore { inner: LocalFileSystem::new(), hook: None, links: true }));
        STORE.clone()
    }
    /// For mounts without hard links. Only this process writes there: a file is created by looking, and then renaming.
    pub fn of_single_writer() -> Arc<Self> {
        static STORE: LazyLock<Arc<LocalStore>> =
            LazyLock::new(|| Arc::new(LocalStore { inner: LocalFileSystem::new(), hook: None, links: false }));
        STORE.clone()
    }
    pub fn with_hook(hook: Hook) -> Arc<Self> {
        Arc::new(Self { inner: LocalFileSystem::new(), hook: Some(hook), links: true })
    }
    fn fault(&self, operation: &str, path: &Path) -> Option<Fault> {
        self.hook.as_ref().and_then(|h| h(operation, path))
    }
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalStore")
    }
}
impl fmt::Display for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("local disk")
    }
}

fn failed(source: std::io::Error) -> Error {
    Error::Generic { store: "local disk", source: Box::new(source) }
}

fn injected(when: &str) -> Error {
    failed(std::io::Error::other(format!("injected fault {when} the effect")))
}

fn sync_dir(dir: &std::path::Path) -> std::io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

/// At most this many directories are remembered.
const KNOWN: usize = 10_000;

/// Directories whose entry in their parent is known to be on disk.
static SYNCED: LazyLock<Mutex<HashSet<PathBuf>>> = LazyLock::new(Mutex::default);

/// Creates `dir`, and syncs the directories that lead to it. An existing directory can be one that a different thread,
/// or a process that died, created a moment ago and whose parent is not synced yet. So each directory is synced once by
/// this process.
fn make_dirs(dir: &std::path::Path) -> std::io::Result<()> {
    let Some(parent) = dir.parent() else { return Ok(()) };
    let there = dir.is_dir();
    if there && SYNCED.lock().contains(dir) {
        return Ok(());
    }
    make_dirs(parent)?;
    if !there {
        match fs::create_dir(dir) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
    }
    // An existing directory can belong to a different user, be read-only, or be on a file system that cannot sync
    // directories (an automounter's). It then existed long before.
    let synced = sync_dir(parent);
    if !there {
        synced?;
    }
    let mut known = SYNCED.lock();
    // A table can have a folder for each hour of several years. A forgotten directory is synced once more.
    if known.len() >= KNOWN {
        known.clear();
    }
    known.insert(dir.to_path_buf());
    Ok(())
}

/// One creation at a time, where looking and renaming are two steps.
static CREATING: Mutex<()> = Mutex::new(());

fn create_without_links(temporary: &std::path::Path, path: &std::path::Path) -> std::io::Result<()> {
    let _one = CREATING.lock();
    match path.try_exists()? {
        true => Err(std::io::ErrorKind::AlreadyExists.into()),
        false => fs::rename(temporary, path),
    }
}

fn hard_link(temporary: &std::path::Path, path: &std::path::Path) -> std::io::Result<()> {
    if super::mounts::has_no_links(path) {
        return Err(std::io::Error::from_raw_os_error(libc::ENOSYS));
    }
    fs::hard_link(temporary, path)
}

fn durable(path: PathBuf, data: &PutPayload, create: bool, links: bool) -> Result<()> {
    let dir = path.parent().map(PathBuf::from).unwrap_or_default();
    let made = make_dirs(&dir);
    // Such a mount syncs no directories, and keeps files elsewhere.
    if links || !dir.is_dir() {
        made.map_err(failed)?;
    }
    // LocalFileSystem::list hides names that end in "#<digits>".
    // The number is random and not a counter: two containers can have the same pids, and two writers must never use the
    // same name.
    let temporary = PathBuf::from(format!("{}#{}", path.display(), uuid::Uuid::new_v4().as_u128()));
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        for piece in data.iter() {
            file.write_all(piece)?;
        }
        file.sync_all()
    };
    let place = || -> std::io::Result<()> {
        match (create, links) {
            (true, true) => hard_link(&temporary, &path),
            (true, false) => create_without_links(&temporary, &path),
            (false, _) => fs::rename(&temporary, &path),
        }
    };
    let result = write().and_then(|()| place());
    if create && links || result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    match result {
        Err(e) if create && e.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Error::AlreadyExists { path: path.display().to_string(), source: Box::new(e) })
        }
        Err(e) => Err(failed(e)),
        Ok(()) if !links => Ok(()),
        Ok(()) => sync_dir(&dir).map_err(failed),
    }
}

/// At most this many files are opened at a time. A table's log is opened all at once, and each file would have a thread
/// of its own.
static READS: Semaphore = Semaphore::const_new(16);

async fn blocking<T: Send + 'static>(f: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(f).await.map_err(|source| Error::JoinError { source })?
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put_opts(&self, path: &Path, data: PutPayload, options: PutOptions) -> Result<PutResult> {
        let create = match options.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "put (update)".into(),
                    implementer: "LocalStore".into(),
                });
            }
        };
        let operation = if create { "create" } else { "put" };
        let fault = self.fault(operation, path);
        match fault {
            Some(Fault::Before) => return Err(injected("before")),
            Some(Fault::Hang) => futures::future::pending::<()>().await,
            _ => {}
        }
        let target = self.inner.path_to_filesystem(path)?;
        let links = self.links;
        blocking(move || durable(target, &data, create, links)).await?;
        if fault == Some(Fault::After) {
            return Err(injected("after"));
        }
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        if self.fault("multipart", path) == Some(Fault::Before) {
            return Err(injected("before"));
        }
        let target = self.inner.path_to_filesystem(path)?;
        let dir = target.parent().map(PathBuf::from).unwrap_or_default();
        let links = self.links;
        let made = move || match make_dirs(&dir) {
            Err(_) if !links && dir.is_dir() => Ok(()),
            made => made.map_err(failed),
        };
        blocking(made).await?;
        let inner = self.inner.put_multipart_opts(path, options).await?;
        Ok(Box::new(Upload { inner, target, syncs: self.links }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let _turn = READS.acquire().await;
        self.inner.get_opts(path, options).await
    }
    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let folder = prefix.map(|p| self.inner.path_to_filesystem(p)).transpose();
        let (Some(prefix), Ok(Some(folder))) = (prefix.cloned(), folder) else {
            return self.inner.list_with_offset(prefix, offset);
        };
        let (inner, offset) = (self.inner.clone(), offset.clone());
        let listing = async move {
            let (at, from) = (prefix.clone(), offset.clone());
            Ok::<_, Error>(match blocking(move || later(&folder, &at, &from)).await? {
                Some(found) => stream::iter(found).map(Ok).boxed(),
                None => inner.list_with_offset(Some(&prefix), &offset),
            })
        };
        stream::once(listing).try_flatten().boxed()
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await?;
        let target = self.inner.path_to_filesystem(to)?;
        blocking(move || sync_file_and_dir(&target).map_err(failed)).await
    }
}

fn sync_file_and_dir(path: &std::path::Path) -> std::io::Result<()> {
    fs::File::open(path)?.sync_all()?;
    path.parent().map_or(Ok(()), sync_dir)
}

#[derive(Debug)]
struct Upload {
    inner: Box<dyn MultipartUpload>,
    target: PathBuf,
    syncs: bool,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.inner.put_part(data)
    }
    async fn complete(&mut self) -> Result<PutResult> {
        let done = self.inner.complete().await?; // renames the staged file into place, without a sync
        if !self.syncs {
            return Ok(done);
        }
        let target = self.target.clone();
        blocking(move || sync_file_and_dir(&target).map_err(failed)).await?;
        Ok(done)
    }
    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_there_may_lie_in_one_that_cannot_be_synced() {
        // The process file system does not sync its directories, even for root.
        let parent = std::path::Path::new("/proc/self");
        if parent.is_dir() {
            assert!(sync_dir(parent).is_err());
            make_dirs(&parent.join("task")).unwrap();
        }
    }

    #[test]
    fn a_thousand_files_are_opened_at_once_by_a_few_threads() {
        let dir = tempfile::tempdir().unwrap();
        let root = Path::from_filesystem_path(dir.path()).unwrap();
        for n in 0..1000 {
            fs::write(dir.path().join(format!("f{n}")), n.to_string()).unwrap();
        }
        // The result is the same with fewer threads than concurrent reads.
        for threads in [2, 64] {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .max_blocking_threads(threads)
                .enable_all()
                .build()
                .unwrap();
            let all = (0..1000).map(|n| {
                let at = root.clone().join(format!("f{n}"));
                async move { LocalStore::shared().get(&at).await?.bytes().await }
            });
            let read = runtime.block_on(futures::future::try_join_all(all)).unwrap();
            assert!(read.iter().enumerate().all(|(n, bytes)| bytes[..] == *n.to_string().as_bytes()));
            let listed = runtime.block_on(LocalStore::shared().list(Some(&root)).try_collect::<Vec<_>>()).unwrap();
            assert_eq!(listed.len(), 1000);
        }
    }
}
