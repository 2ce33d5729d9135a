//! A store on local disk that spoils one of its calls, and records all of them.

use async_trait::async_trait;
use bayou::testing::storage::local::LocalStore;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::*;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The kinds of calls to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    /// A put that only creates a file that does not exist.
    Create,
    Put,
    Multipart,
    Part,
    Complete,
    Get,
    Head,
    List,
    Folders,
    Delete,
    Copy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An error, and the call has no effect.
    Before,
    /// An error, although the call has its effect. A read ends in the middle.
    After,
    /// No answer, and the call has no effect.
    Hang,
    /// No answer, although the call has its effect. A read hangs in the middle.
    HangAfter,
    /// The answer is slow.
    Slow,
    /// The answer to three calls in a row is "try again later".
    Throttled,
    /// The store says that a different writer was first, which is not true.
    Conflict,
    Precondition,
    /// The store accepts only a part of the file.
    Short,
    /// The store says that an existing file does not exist.
    Missing,
    /// An error, although the call has its effect, and the next check of it fails, too.
    Blind,
    BlindHang,
    /// An error, although the call has its effect, and nothing works after it.
    Gone,
}

pub(crate) const ALL: [Fault; 13] = [
    Fault::Before,
    Fault::After,
    Fault::Hang,
    Fault::HangAfter,
    Fault::Slow,
    Fault::Throttled,
    Fault::Conflict,
    Fault::Precondition,
    Fault::Short,
    Fault::Missing,
    Fault::Blind,
    Fault::BlindHang,
    Fault::Gone,
];

impl Call {
    pub(crate) fn reads(self) -> bool {
        matches!(self, Call::Get | Call::Head | Call::List | Call::Folders)
    }
}

impl Fault {
    /// Whether a store could fail this call in this way.
    pub(crate) fn applies(self, (call, file): &Seen) -> bool {
        match self {
            Fault::Before | Fault::Hang | Fault::Slow | Fault::Throttled => true,
            Fault::After | Fault::HangAfter => !matches!(call, Call::Head | Call::Folders | Call::Multipart),
            Fault::Conflict | Fault::Precondition => matches!(call, Call::Create | Call::Put | Call::Complete),
            // A file that is created by put-if-absent is never torn: a cloud store shows an object only when it is
            // complete, and on local disk it is written under a different name and linked into place. A file that
            // readers find by its name, for example a log's checkpoint, is not torn either, because it is renamed into
            // place. Files whose names no reader knows yet can be torn, as in other stores.
            Fault::Short => matches!(call, Call::Put | Call::Complete) && !file.starts_with('_'),
            Fault::Missing => matches!(call, Call::Get | Call::Head),
            Fault::Blind | Fault::BlindHang => matches!(call, Call::Create | Call::Put | Call::Complete),
            Fault::Gone => !call.reads(),
        }
    }
}

/// A call, and the kind of its file: `epoch/*.json`.
pub(crate) type Seen = (Call, String);

#[derive(Default)]
struct State {
    calls: Vec<Seen>,
    shots: usize,
    hit: Vec<Seen>,
    /// The next reads of this folder fail or hang.
    blind: Option<(Path, bool)>,
    gone: bool,
}

/// Spoils the first call, starting at the `at`-th, that can fail in this way. Only calls that are `among` these are
/// counted and spoiled.
#[derive(Clone)]
pub(crate) struct Faulty {
    inner: Arc<LocalStore>,
    fault: Fault,
    at: usize,
    among: fn(&Seen) -> bool,
    state: Arc<Mutex<State>>,
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

/// Every error from here contains this text.
pub(crate) const INJECTED: &str = "injected:";

fn generic(text: &str) -> Error {
    Error::Generic { store: "faulty", source: format!("{INJECTED} {text}").into() }
}

/// The kind of a file: its name. If names are numbers, its folder and its extension.
fn family(path: &Path) -> String {
    let name = path.filename().unwrap_or_default();
    if !name.contains(|c: char| c.is_ascii_digit()) {
        return name.into();
    }
    let parts: Vec<_> = path.parts().collect();
    let folder = parts.len().checked_sub(2).map_or("", |i| parts[i].as_ref());
    format!("{folder}/*{}", name.find('.').map_or("", |dot| &name[dot..]))
}

/// The same, by content: files of the compaction are distinguished from files of the stream.
fn family_of(path: &Path, data: &PutPayload) -> String {
    let contains = |text: &str| data.iter().any(|b| b.windows(text.len()).any(|w| w == text.as_bytes()));
    let family = family(path);
    match () {
        () if family == "_delta_log/*.json" && contains("\"OPTIMIZE\"") => format!("{family} (joining)"),
        () if family.ends_with(".parquet") && !family.starts_with("_delta_log") && contains("(joined)") => {
            format!("{family} (joined)")
        }
        () if family.ends_with(".arrow") && path.as_ref().contains("-base-") => format!("{family} (compacted)"),
        () => family,
    }
}

async fn enter(fault: Option<Fault>, path: String) -> Result<()> {
    match fault {
        Some(Fault::Before) => Err(generic("before")),
        Some(Fault::Throttled) => Err(generic("503 SlowDown: please reduce your request rate")),
        Some(Fault::Precondition) => Err(Error::Precondition { path, source: format!("{INJECTED} 412").into() }),
        Some(Fault::Conflict) => {
            Err(Error::AlreadyExists { path, source: format!("{INJECTED} somebody else was first").into() })
        }
        Some(Fault::Missing) => Err(Error::NotFound { path, source: format!("{INJECTED} 404").into() }),
        Some(Fault::Hang) => futures::future::pending().await,
        Some(Fault::Slow) => {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(())
        }
        _ => Ok(()),
    }
}

async fn leave<T>(fault: Option<Fault>, done: T) -> Result<T> {
    match fault {
        Some(Fault::After | Fault::Blind | Fault::BlindHang | Fault::Gone) => Err(generic("after")),
        Some(Fault::HangAfter) => futures::future::pending().await,
        _ => Ok(done),
    }
}

/// A call that is read piece by piece, and ends or hangs after the first piece.
fn pieces<T: Send + 'static>(
    fault: Option<Fault>,
    path: String,
    items: BoxStream<'static, Result<T>>,
) -> BoxStream<'static, Result<T>> {
    let items = match fault {
        Some(Fault::After) => items.take(1).chain(stream::once(async { Err(generic("in the middle")) })).boxed(),
        Some(Fault::HangAfter) => items.take(1).chain(stream::pending()).boxed(),
        _ => items,
    };
    stream::once(async move { enter(fault, path).await.map(|()| items) }).try_flatten().boxed()
}

impl Faulty {
    pub(crate) fn new(fault: Fault, at: usize, among: fn(&Seen) -> bool) -> Self {
        let state = State { shots: if fault == Fault::Throttled { 3 } else { 1 }, ..State::default() };
        Self { inner: LocalStore::shared(), fault, at, among, state: Arc::new(Mutex::new(state)) }
    }
    /// Only records calls.
    pub(crate) fn honest(among: fn(&Seen) -> bool) -> Self {
        Self::new(Fault::Before, usize::MAX, among)
    }
    /// All calls that were counted.
    pub(crate) fn calls(&self) -> Vec<Seen> {
        self.state.lock().calls.clone()
    }
    /// The spoiled call. None if the run ended before it.
    pub(crate) fn hit(&self) -> Vec<Seen> {
        self.state.lock().hit.clone()
    }

    fn next(&self, call: Call, path: &Path, family: String) -> Option<Fault> {
        // Heartbeats follow their own clock, and a lost heartbeat has no effect.
        if path.as_ref().ends_with("heartbeat.json") {
            return None;
        }
        let mut state = self.state.lock();
        if state.gone {
            return Some(Fault::Before);
        }
        if call.reads()
            && let Some((_, hang)) =
                state.blind.take_if(|(folder, _)| path.prefix_matches(folder) || folder.prefix_matches(path))
        {
            return Some(if hang { Fault::Hang } else { Fault::Before });
        }
        let seen = (call, family);
        if !(self.among)(&seen) {
            return None;
        }
        let n = state.calls.len();
        state.calls.push(seen.clone());
        if n < self.at || state.shots == 0 || !self.fault.applies(&seen) {
            return None;
        }
        state.shots -= 1;
        state.hit.push(seen);
        state.gone = self.fault == Fault::Gone;
        if matches!(self.fault, Fault::Blind | Fault::BlindHang) {
            let mut parts: Vec<_> = path.parts().collect();
            parts.pop();
            state.blind = Some((Path::from_iter(parts), self.fault == Fault::BlindHang));
        }
        Some(self.fault)
    }
    fn next_of(&self, call: Call, path: &Path) -> Option<Fault> {
        self.next(call, path, family(path))
    }

    /// A part of the file exists under its name, and the store says that it could not accept the rest.
    async fn tear(&self, path: &Path, bytes: &[u8]) -> Result<PutResult> {
        self.inner.put(path, bytes[..bytes.len() / 2].to_vec().into()).await?;
        Err(generic("the rest of the file was not taken"))
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, data: PutPayload, options: PutOptions) -> Result<PutResult> {
        let call = if matches!(options.mode, PutMode::Create) { Call::Create } else { Call::Put };
        let fault = self.next(call, path, family_of(path, &data));
        enter(fault, path.to_string()).await?;
        if fault == Some(Fault::Short) {
            let bytes: Vec<u8> = data.iter().flat_map(|b| b.to_vec()).collect();
            return self.tear(path, &bytes).await;
        }
        leave(fault, self.inner.put_opts(path, data, options).await?).await
    }
    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let fault = self.next_of(Call::Multipart, path);
        enter(fault, path.to_string()).await?;
        let inner = leave(fault, self.inner.put_multipart_opts(path, options).await?).await?;
        Ok(Box::new(Upload { inner, store: self.clone(), path: path.clone(), first: PutPayload::default() }))
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let fault = self.next_of(if options.head { Call::Head } else { Call::Get }, path);
        enter(fault, path.to_string()).await?;
        let got = self.inner.get_opts(path, options).await?;
        if !matches!(fault, Some(Fault::After | Fault::HangAfter)) {
            return Ok(got);
        }
        let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
        // Cut in two pieces, so that it can break off in the middle.
        let bytes = got.bytes().await?;
        let halves = [bytes.slice(..bytes.len() / 2), bytes.slice(bytes.len() / 2..)];
        let payload = GetResultPayload::Stream(pieces(fault, path.to_string(), stream::iter(halves.map(Ok)).boxed()));
        Ok(GetResult { payload, meta, range, attributes })
    }
    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        paths
            .and_then(move |path| {
                let store = store.clone();
                async move {
                    let fault = store.next_of(Call::Delete, &path);
                    enter(fault, path.to_string()).await?;
                    store.inner.delete(&path).await?;
                    leave(fault, path).await
                }
            })
            .boxed()
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let at = prefix.cloned().unwrap_or_default();
        pieces(self.next_of(Call::List, &at), at.to_string(), self.inner.list(prefix))
    }
    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let at = prefix.cloned().unwrap_or_default();
        pieces(self.next_of(Call::List, &at), at.to_string(), self.inner.list_with_offset(prefix, offset))
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let at = prefix.cloned().unwrap_or_default();
        enter(self.next_of(Call::Folders, &at), at.to_string()).await?;
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let fault = self.next_of(Call::Copy, to);
        enter(fault, to.to_string()).await?;
        leave(fault, self.inner.copy_opts(from, to, options).await?).await
    }
}

#[derive(Debug)]
struct Upload {
    inner: Box<dyn MultipartUpload>,
    store: Faulty,
    path: Path,
    first: PutPayload,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let fault = self.store.next_of(Call::Part, &self.path);
        if self.first.content_length() == 0 {
            self.first = data.clone();
        }
        let (part, path) = (self.inner.put_part(data), self.path.to_string());
        Box::pin(async move {
            enter(fault, path).await?;
            part.await?;
            leave(fault, ()).await
        })
    }
    async fn complete(&mut self) -> Result<PutResult> {
        let fault = self.store.next_of(Call::Complete, &self.path);
        enter(fault, self.path.to_string()).await?;
        if fault == Some(Fault::Short) {
            let bytes: Vec<u8> = self.first.iter().flat_map(|b| b.to_vec()).collect();
            return self.store.tear(&self.path, &bytes).await;
        }
        leave(fault, self.inner.complete().await?).await
    }
    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
