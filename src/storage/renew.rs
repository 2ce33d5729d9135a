//! Credentials that expire. The user's function, or a catalog, gives the options of a store, and the time at which they
//! expire. They are asked for again before that time, and once more if the store refuses them. No call is made with
//! credentials that are known to have expired: a store asks for its credentials again with each request (`provider`),
//! so the later parts of an upload and the later pages of a listing are also sent with valid credentials.

use super::{denied, refused};
use crate::{Error, Kind, Result};
use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::*;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Credentials are renewed this long before they expire, but never in the first three quarters of their life.
const AHEAD: Duration = Duration::from_secs(300);
/// How long to wait for the answer of the function.
const PATIENCE: Duration = Duration::from_secs(60);
/// If the store refuses credentials that are younger than this, no other credentials are requested, because the store
/// would refuse them too.
const NEW: Duration = Duration::from_secs(1);
/// If credentials that were renewed because of a refusal were refused as well, a refusal does not count as the end of
/// the credentials for this long.
const HELPLESS: Duration = Duration::from_secs(60);

/// The answer to the question for credentials.
pub struct Answer {
    pub options: BTreeMap<String, String>,
    /// How long the credentials are valid from now on. None: not known.
    pub life: Option<Duration>,
}

/// Asks the user or the catalog. It is called on a thread of its own, and may take as long as it wants.
pub(super) type Ask = Box<dyn Fn() -> Result<Answer> + Send + Sync>;

/// The source of the credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Giver {
    /// The function that the user gave as `storage_options=`.
    Function,
    /// A catalog, whose errors say already what they are about.
    Catalog,
}

impl Giver {
    fn called(self) -> &'static str {
        match self {
            Self::Function => "the function given as storage_options=",
            Self::Catalog => "the catalog",
        }
    }
    fn failed(self, e: Error) -> Error {
        match self {
            // Whatever went wrong in the function, the function has given no credentials.
            Self::Function => Error::auth(format!("{} failed: {}", self.called(), e.message)),
            Self::Catalog => e,
        }
    }
}

pub(super) struct Held {
    pub options: BTreeMap<String, String>,
    expires_at: Option<Instant>,
    /// From this time on, new credentials are requested.
    renew_at: Option<Instant>,
    since: Instant,
    number: u64,
}

#[derive(Default)]
struct State {
    held: Option<Arc<Held>>,
    /// Changes when the function has answered. None: the function is not being called.
    asking: Option<watch::Receiver<bool>>,
    /// The last answer was an error.
    failed: Option<(Kind, String)>,
    tried: Option<Instant>,
    /// The number of credentials that came because of a refusal and were refused as well, and when.
    helpless: Option<(u64, Instant)>,
}

/// The credentials of one `storage_options=`, shared by all stores that are opened with it.
pub struct Credentials {
    ask: Ask,
    giver: Giver,
    state: Mutex<State>,
    patience: Duration,
}

/// The error of a call for which there are no credentials.
#[derive(Debug)]
pub(super) struct NoCredentials {
    kind: Kind,
    text: String,
}

impl fmt::Display for NoCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl std::error::Error for NoCredentials {}

impl NoCredentials {
    /// The error below an error of a store.
    pub(super) fn within(e: &object_store::Error) -> Option<Error> {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(e);
        while let Some(at) = source {
            if let Some(none) = at.downcast_ref::<Self>() {
                return Some(Error::new(none.kind, none.text.clone()));
            }
            source = at.source();
        }
        None
    }
}

fn none(e: Error) -> object_store::Error {
    let source = Box::new(NoCredentials { kind: e.kind, text: e.message });
    object_store::Error::Unauthenticated { path: String::new(), source }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Credentials {
    pub fn new(giver: Giver, ask: Ask) -> Arc<Self> {
        Arc::new(Self { ask, giver, state: Mutex::default(), patience: PATIENCE })
    }

    /// Asks on a thread of its own, unless a question is open. The function may need Python, and must not stop the
    /// runtime.
    fn begin(self: &Arc<Self>, state: &mut State) -> watch::Receiver<bool> {
        if let Some(asking) = &state.asking {
            return asking.clone();
        }
        state.tried = Some(Instant::now());
        state.failed = None;
        let (done, asking) = watch::channel(false);
        let this = self.clone();
        let asked = std::thread::Builder::new().name("bayou-credentials".into()).spawn(move || {
            let call = std::panic::AssertUnwindSafe(|| (this.ask)());
            let answer = std::panic::catch_unwind(call).unwrap_or_else(|_| Err(Error::internal("it panicked")));
            this.take(answer);
            let _ = done.send(true);
        });
        match asked {
            Ok(_) => state.asking = Some(asking.clone()),
            Err(e) => state.failed = Some((Kind::Internal, format!("no thread could be started ({e})"))),
        }
        asking
    }

    fn take(&self, answer: Result<Answer>) {
        let mut state = self.state.lock();
        state.asking = None;
        let answer = match answer {
            Ok(answer) => answer,
            Err(e) => {
                state.failed = Some((e.kind, e.message));
                return;
            }
        };
        let now = Instant::now();
        // A life whose end is too far away for the clock has no end.
        let left = answer.life.filter(|left| now.checked_add(*left).is_some());
        if left.is_some_and(|left| left.is_zero()) {
            let text = match self.giver {
                Giver::Function => "it returned credentials that have expired already (expires_at)",
                Giver::Catalog => "the catalog gave credentials that have expired already",
            };
            state.failed = Some((Kind::Auth, text.into()));
            return;
        }
        super::options::learn_passing(&answer.options);
        let number = state.held.as_ref().map_or(0, |h| h.number) + 1;
        state.failed = None;
        state.held = Some(Arc::new(Held {
            options: answer.options,
            expires_at: left.map(|left| now + left),
            renew_at: left.map(|left| now + (left - AHEAD.min(left / 4))),
            since: now,
            number,
        }));
    }

    /// Credentials that have not expired, and not those of number `refused`.
    pub(super) async fn get(self: &Arc<Self>, refused: Option<u64>) -> object_store::Result<Arc<Held>> {
        let deadline = tokio::time::Instant::now() + self.patience;
        for attempt in 0..3 {
            let mut asking = {
                let mut state = self.state.lock();
                let now = Instant::now();
                let usable = |h: &&Arc<Held>| h.expires_at.is_none_or(|at| now < at) && Some(h.number) != refused;
                if let Some(held) = state.held.as_ref().filter(usable).cloned() {
                    // In parallel with the call, because the credentials are still valid. After a failure, not again at once.
                    if let (Some(at), Some(until)) = (held.renew_at, held.expires_at)
                        && now >= at
                        && state.tried.is_none_or(|t| t.elapsed() >= until.duration_since(at) / 8)
                    {
                        self.begin(&mut state);
                    }
                    return Ok(held);
                }
                if attempt > 0
                    && let Some((kind, why)) = state.failed.clone()
                {
                    return Err(none(self.giver.failed(Error::new(kind, why))));
                }
                self.begin(&mut state)
            };
            let answered = tokio::time::timeout_at(deadline, async {
                while !*asking.borrow() && asking.changed().await.is_ok() {}
            });
            if answered.await.is_err() {
                return Err(none(Error::auth(format!(
                    "{} has not answered for {} seconds",
                    self.giver.called(),
                    self.patience.as_secs()
                ))));
            }
        }
        Err(none(Error::auth(format!("{} gives credentials that expire at once", self.giver.called()))))
    }

    /// Whether a refusal of the credentials of this number can mean that the credentials have expired. A store also
    /// refuses calls that the credentials do not allow, and newer credentials would not help.
    fn may_be_over(&self, number: u64) -> bool {
        let held = |(helpless, at): (u64, Instant)| helpless == number && at.elapsed() < HELPLESS;
        !self.state.lock().helpless.is_some_and(held)
    }

    /// The credentials of this number came because of a refusal, and the same call was refused with them.
    fn did_not_help(&self, number: u64) {
        self.state.lock().helpless = Some((number, Instant::now()));
    }
}

/// Opens the store with these options.
pub(super) type Open =
    Box<dyn Fn(&BTreeMap<String, String>) -> object_store::Result<Arc<dyn ObjectStore>> + Send + Sync>;

/// A store whose credentials are renewed.
pub(super) struct Renewed {
    credentials: Arc<Credentials>,
    open: Open,
    store: Mutex<Option<(u64, Arc<dyn ObjectStore>)>>,
}

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewed")
    }
}
impl fmt::Display for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewed")
    }
}

/// The store, the number of its credentials, and since when they are held.
type Now = (Arc<dyn ObjectStore>, u64, Instant);

impl Renewed {
    pub(super) fn new(credentials: Arc<Credentials>, open: Open) -> Arc<Self> {
        Arc::new(Self { credentials, open, store: Mutex::new(None) })
    }

    async fn now(&self, refused: Option<u64>) -> object_store::Result<Now> {
        let held = self.credentials.get(refused).await?;
        let mut store = self.store.lock();
        if let Some((number, store)) = store.as_ref().filter(|(number, _)| *number == held.number) {
            return Ok((store.clone(), *number, held.since));
        }
        let opened = (self.open)(&held.options)?;
        *store = Some((held.number, opened.clone()));
        Ok((opened, held.number, held.since))
    }

    /// After an error that says that the credentials are not valid: the store with newer credentials, and their number.
    /// None if newer credentials would be refused as well.
    async fn again(
        &self,
        e: &object_store::Error,
        used: (u64, Instant),
    ) -> object_store::Result<Option<(Arc<dyn ObjectStore>, u64)>> {
        let is_of_store = NoCredentials::within(e).is_none();
        if !is_of_store || !refused(e) || denied(e) || used.1.elapsed() < NEW || !self.credentials.may_be_over(used.0) {
            return Ok(None);
        }
        match self.now(Some(used.0)).await {
            Ok((store, number, _)) => Ok(Some((store, number))),
            Err(no) => {
                let no = super::failure(&no);
                let text = format!(
                    "{}. The store had refused the credentials before: {}",
                    no.message,
                    super::failure(e).message
                );
                Err(none(Error::new(no.kind, text)))
            }
        }
    }

    /// The result of the second try. If newer credentials did not help, the first error says more than the second.
    fn after<T>(
        &self,
        number: u64,
        first: object_store::Error,
        second: object_store::Result<T>,
    ) -> object_store::Result<T> {
        match second {
            Err(e) if refused(&e) && NoCredentials::within(&e).is_none() => {
                self.credentials.did_not_help(number);
                Err(first)
            }
            second => second,
        }
    }
}

/// Calls a method of the store, and once more with newer credentials if these are refused.
macro_rules! call {
    ($self:ident, $store:ident => $call:expr) => {{
        let ($store, number, since) = $self.now(None).await?;
        match $call.await {
            Ok(done) => Ok(done),
            Err(e) => match $self.again(&e, (number, since)).await? {
                Some(($store, newer)) => {
                    let second = $call.await;
                    $self.after(newer, e, second)
                }
                None => Err(e),
            },
        }
    }};
}

/// Renewed behind an Arc, because streams outlive the call that made them.
#[derive(Debug)]
pub(super) struct Renewing(pub Arc<Renewed>);

impl fmt::Display for Renewing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewing")
    }
}

impl Renewing {
    fn listing(
        &self,
        list: impl Fn(&dyn ObjectStore) -> BoxStream<'static, object_store::Result<ObjectMeta>> + Send + 'static,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let this = self.0.clone();
        let begin = async move {
            let (store, number, since) = this.now(None).await?;
            // An empty listing is polled again after its end.
            let mut items = list(&*store).fuse();
            let first = items.next().await;
            if let Some(Err(e)) = &first
                && let Some((store, _)) = this.again(e, (number, since)).await?
            {
                return Ok(list(&*store));
            }
            Ok::<_, object_store::Error>(stream::iter(first).chain(items).boxed())
        };
        stream::once(begin).try_flatten().boxed()
    }
}

#[async_trait]
impl ObjectStore for Renewing {
    async fn put_opts(&self, path: &Path, data: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        let this = &self.0;
        call!(this, store => store.put_opts(path, data.clone(), options.clone()))
    }
    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        let this = &self.0;
        call!(this, store => store.put_multipart_opts(path, options.clone()))
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let this = &self.0;
        call!(this, store => store.get_opts(path, options.clone()))
    }
    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let this = self.0.clone();
        let begin = async move { Ok::<_, object_store::Error>(this.now(None).await?.0.delete_stream(paths)) };
        stream::once(begin).try_flatten().boxed()
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let prefix = prefix.cloned();
        self.listing(move |store| store.list(prefix.as_ref()))
    }
    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let (prefix, offset) = (prefix.cloned(), offset.clone());
        self.listing(move |store| store.list_with_offset(prefix.as_ref(), &offset))
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        let this = &self.0;
        call!(this, store => store.list_with_delimiter(prefix))
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        let this = &self.0;
        call!(this, store => store.copy_opts(from, to, options.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Credentials with this life, and how often they were asked for. `each`: the result of the n-th question.
    fn asked(
        life: Option<Duration>,
        each: impl Fn(usize) -> Result<()> + Send + Sync + 'static,
    ) -> (Arc<Credentials>, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let ask = move || {
            let n = counted.fetch_add(1, Ordering::SeqCst);
            each(n)?;
            Ok(Answer { options: BTreeMap::new(), life })
        };
        let ask: Ask = Box::new(ask);
        let patience = Duration::from_millis(300);
        (Arc::new(Credentials { ask, giver: Giver::Function, state: Mutex::default(), patience }), count)
    }

    fn store(credentials: &Arc<Credentials>) -> Renewing {
        let held: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        Renewing(Renewed::new(credentials.clone(), Box::new(move |_| Ok(held.clone()))))
    }

    async fn call(store: &Renewing) -> object_store::Result<PutResult> {
        store.put_opts(&Path::from("a"), "x".into(), PutOptions::default()).await
    }

    #[tokio::test]
    async fn credentials_are_asked_for_once_and_again_before_they_expire() {
        let (credentials, count) = asked(None, |_| Ok(()));
        let (first, second) = (store(&credentials), store(&credentials));
        for _ in 0..5 {
            call(&first).await.unwrap();
            call(&second).await.unwrap();
        }
        assert_eq!(count.load(Ordering::SeqCst), 1, "two stores of one storage_options=");
        let (credentials, count) = asked(Some(Duration::from_millis(400)), |_| Ok(()));
        let store = store(&credentials);
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            let held = credentials.get(None).await.unwrap();
            assert!(held.expires_at.unwrap() > Instant::now());
            call(&store).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let count = count.load(Ordering::SeqCst);
        assert!((4..12).contains(&count), "{count}");
    }

    #[tokio::test]
    async fn a_function_that_fails_or_hangs_ends_the_call_only_when_the_old_credentials_have_expired() {
        let fails = |n: usize| if n == 0 { Ok(()) } else { Err(Error::config("no luck")) };
        let (credentials, _) = asked(Some(Duration::from_millis(500)), fails);
        let store = store(&credentials);
        let began = Instant::now();
        let e = loop {
            match call(&store).await {
                Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(e) => break e,
            }
        };
        assert!(began.elapsed() >= Duration::from_millis(490), "{:?}", began.elapsed());
        assert!(refused(&e) && e.to_string().contains("no luck"), "{e}");
    }

    #[tokio::test]
    async fn a_function_that_hangs_is_asked_once_and_not_waited_for_without_end() {
        let (credentials, count) = asked(None, |_| {
            std::thread::sleep(Duration::from_secs(3));
            Ok(())
        });
        let store = store(&credentials);
        for _ in 0..3 {
            let e = call(&store).await.unwrap_err();
            assert!(refused(&e) && e.to_string().contains("has not answered"), "{e}");
        }
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}
