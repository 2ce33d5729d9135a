//! The places of tables and checkpoints: a folder on local disk or in a cloud store, and the few operations that the
//! protocol needs.

mod azure;
pub(crate) mod crash;
mod guard;
mod later;
pub(crate) mod local;
mod mounts;
mod options;
mod provider;
mod recent;
mod registry;
mod remember;
mod renew;
mod routed;

use crate::{Error, Kind, Result};
use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use futures::{StreamExt, TryStreamExt};
use guard::Guard;
pub(crate) use mounts::treat_as_mount;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{GetResultPayload, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
pub(crate) use options::Mounts;
pub use options::StorageOptions;
use options::open_store;
pub(crate) use registry::{About, Registered, Registry};
pub(crate) use renew::{Answer, Credentials, Giver};
use renew::{Renewed, Renewing};
pub(crate) use routed::routed;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Whether the store does not accept the credentials. S3 says with status 400 that they have expired, and a refused
/// listing has no variant of its own in object_store.
pub(crate) fn refused(e: &object_store::Error) -> bool {
    use object_store::Error::{Generic, PermissionDenied, Unauthenticated};
    const SIGNS: [&str; 7] = [
        "<Code>ExpiredToken</Code>",
        "<Code>TokenRefreshRequired</Code>",
        "<Code>RequestExpired</Code>",
        "<Code>InvalidToken</Code>",
        "<Code>AuthenticationFailed</Code>",
        "status code: 401 ",
        "status code: 403 ",
    ];
    match e {
        PermissionDenied { .. } | Unauthenticated { .. } => true,
        Generic { source, .. } => {
            let text = source.to_string();
            SIGNS.iter().any(|sign| text.contains(sign))
        }
        _ => false,
    }
}

/// The kind and the text of a store's error.
pub(crate) fn failure(e: &object_store::Error) -> Error {
    if let Some(none) = renew::NoCredentials::within(e) {
        return none;
    }
    let kind = if refused(e) { Kind::Auth } else { Kind::Storage };
    Error::new(kind, explained(&e.to_string()))
}

/// Whether the store says that the credentials are good, and do not allow this.
fn denied(e: &object_store::Error) -> bool {
    let text = e.to_string();
    ["<Code>AccessDenied</Code>", "<Code>AuthorizationPermissionMismatch</Code>", "<Code>AuthorizationFailure</Code>"]
        .iter()
        .any(|code| text.contains(code))
}

/// A folder in a store.
#[derive(Clone)]
pub struct Location {
    url: Url,
    /// The root of the store is the bucket, or `/`.
    root: Arc<dyn ObjectStore>,
    /// The store itself, without a time limit.
    bare: Arc<dyn ObjectStore>,
    path: Path,
    timeout: Duration,
    /// The table of a catalog whose folder this is.
    entry: Option<Arc<dyn Registry>>,
    /// The credentials reach this folder only, and nothing above it.
    bounded: bool,
    /// The kind of the mount that the folder is on, if the mount has no put-if-absent.
    mount: Option<&'static str>,
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.display())
    }
}

/// The time limit of each call to a store. A hang becomes an error, and the caller finds out what happened.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Whether a text reports a full disk or quota: ENOSPC and EDQUOT.
pub(crate) fn is_full(text: &str) -> bool {
    ["(os error 28)", "(os error 122)"].iter().any(|code| text.contains(code))
}

/// A text of a store or of deltalake, with the remedy if it is known, and without the XML of a cloud's answer.
pub(crate) fn explained(text: &str) -> String {
    let any = |codes: &[&str]| codes.iter().any(|code| text.contains(code));
    let short = match (text.find("<?xml").or_else(|| text.find("<Error>")), text.rfind("</Error>")) {
        (Some(from), Some(to)) if from < to => {
            let code = text[from..to].split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
            format!("{}{}{}", &text[..from], code.map_or("", |(code, _)| code), &text[to + "</Error>".len()..])
        }
        _ => text.to_string(),
    };
    let remedy = if is_full(text) {
        "Nothing is lost. Free some space and run the query again."
    } else if any(&["NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist"]) {
        "The bucket does not exist. Create it, or correct its name in the URL."
    } else if any(&["169.254.169.254", "/latest/api/token", "/latest/meta-data", "metadata.google.internal"]) {
        "No credentials were given, and this machine does not have any. Give storage_options={\"aws_access_key_id\": \
         …, \"aws_secret_access_key\": …}, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the equivalents \
         for other clouds)."
    } else if any(&["InvalidAccessKeyId", "SignatureDoesNotMatch"]) {
        "The store does not accept these credentials. Check storage_options= and AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    } else {
        return short;
    };
    if short.contains(remedy) {
        return short;
    }
    format!("{}. {remedy}", short.trim_end().trim_end_matches('.'))
}

/// The result of `put_new`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    Created,
    Exists,
}

impl Location {
    /// A path or a URL (s3://, gs://, abfss://, az://, file://), with the options of the store.
    pub fn parse(target: &str, options: &StorageOptions) -> Result<Self> {
        if target.trim().is_empty() {
            return Err(Error::config(
                "the target is empty. Name a folder, for example \"lake/bpm_cleansed\", or a cloud URL.",
            ));
        }
        refuse_other_spellings(target)?;
        if target.contains("://") && !target.starts_with("file://") {
            return Self::cloud(target, options);
        }
        let plain = match target.strip_prefix("file://") {
            Some(_) => Url::parse(target)
                .ok()
                .and_then(|u| u.to_file_path().ok())
                .ok_or_else(|| Error::config(format!("'{target}' is not a file URL")))?,
            None => std::path::PathBuf::from(shellexpand_home(target)),
        };
        let absolute =
            std::path::absolute(&plain).map_err(|e| Error::storage(format!("'{target}' is not a usable path: {e}")))?;
        let mount = mounts::find(&absolute, options.mounts)?;
        if let Some(file) = absolute.ancestors().find(|a| a.exists()).filter(|a| !a.is_dir()) {
            let what = if file == absolute { "it" } else { "its parent" };
            return Err(Error::config(format!(
                "'{target}' cannot contain a table: {what} is a file ({}), and a table is a folder. Name a different folder.",
                file.display()
            )));
        }
        let url = Url::from_directory_path(normalize(&absolute))
            .map_err(|()| Error::config(format!("'{target}' is not a usable path")))?;
        match mount {
            None => Self::local(url, local::LocalStore::shared()),
            Some(_) => Self::local(url, local::LocalStore::of_single_writer()),
        }
        .map(|at| Self { mount, ..at })
    }

    /// A folder on local disk, accessed through a given store. Tests inject faults here.
    pub fn local(url: Url, store: Arc<dyn ObjectStore>) -> Result<Self> {
        let path =
            Path::from_url_path(url.path()).map_err(|e| Error::config(format!("'{url}' is not a usable path: {e}")))?;
        Ok(Self::over(url, store, path))
    }

    /// A store that is not a disk, for tests.
    #[cfg(test)]
    pub fn in_memory() -> Result<Self> {
        let url = Url::parse("memory:///").map_err(|e| Error::internal(e.to_string()))?;
        Self::local(url, Arc::new(object_store::memory::InMemory::new()))
    }

    fn over(url: Url, store: Arc<dyn ObjectStore>, path: Path) -> Self {
        let root = Guard::new(store.clone(), TIMEOUT);
        Self { url, root, bare: store, path, timeout: TIMEOUT, entry: None, bounded: false, mount: None }
    }

    fn cloud(target: &str, options: &StorageOptions) -> Result<Self> {
        // The target as the user wrote it can contain a signature or a key. No text shows it, whichever code writes the
        // text.
        crate::error::learn_url(target);
        let shown = crate::error::clean(target);
        let mut url = Url::parse(target).map_err(|e| Error::config(format!("'{shown}' is not a URL: {e}")))?;
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        let wrong = |e| Error::config(format!("'{shown}' cannot be opened as a store: {e}"));
        let (store, path) = match &options.renewed {
            None => open_store(&url, &options.fixed, None).map_err(wrong)?,
            Some(credentials) => {
                let (_, path) = object_store::ObjectStoreScheme::parse(&url).map_err(|e| wrong(e.into()))?;
                let at = url.clone();
                let given = credentials.clone();
                let open = Box::new(move |options: &_| Ok(open_store(&at, options, Some(&given))?.0));
                let store: Arc<dyn ObjectStore> = Arc::new(Renewing(Renewed::new(credentials.clone(), open)));
                (store, path)
            }
        };
        Ok(Self::over(url, recent::Recent::new(store, &path), path))
    }

    /// The folder as the table of a catalog.
    pub fn entered(self, entry: Arc<dyn Registry>) -> Self {
        Self { entry: Some(entry), ..self }
    }
    pub fn entry(&self) -> Option<&Arc<dyn Registry>> {
        self.entry.as_ref()
    }
    /// The folder with credentials that reach nothing above it.
    pub fn bounded(self) -> Self {
        Self { bounded: true, ..self }
    }
    pub fn is_bounded(&self) -> bool {
        self.bounded
    }
    /// The kind of the mount, if it has no put-if-absent.
    pub fn mount(&self) -> Option<&'static str> {
        self.mount
    }

    /// The same folder with a different time limit for calls.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { root: Guard::new(self.bare.clone(), timeout), timeout, ..self }
    }
    /// The same folder, for one round of work that reads the commits of a log several times. On disk that costs nothing.
    pub fn remembering(&self) -> Self {
        let root = if self.is_local() { self.root.clone() } else { remember::Remembering::new(self.root.clone()) };
        Self { root, ..self.clone() }
    }
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
    pub fn url(&self) -> &Url {
        &self.url
    }
    /// The store that contains this folder: its scheme, host and port.
    pub fn store(&self) -> String {
        self.url[..url::Position::BeforePath].to_string()
    }
    pub fn is_local(&self) -> bool {
        self.url.scheme() == "file"
    }
    pub fn root(&self) -> Arc<dyn ObjectStore> {
        self.root.clone()
    }
    /// For messages: the form that users write, with the name in a catalog if there is one. Never contains credentials.
    pub fn display(&self) -> String {
        match &self.entry {
            Some(entry) => format!("{} ({})", entry.name(), self.address()),
            None => self.address(),
        }
    }
    /// A plain path for local disk, otherwise the URL, without credentials: `parse` reads it back.
    pub fn address(&self) -> String {
        match self.url.to_file_path() {
            Ok(p) if self.is_local() => p.display().to_string(),
            _ => {
                let mut url = self.url.clone();
                url.set_query(None);
                url.set_fragment(None);
                crate::error::clean(url.as_str()).into_owned()
            }
        }
    }
    /// The URL with its letters as they are, and without a slash at the end: as a catalog writes locations.
    pub fn unescaped(&self) -> String {
        format!("{}/{}", &self.url[..url::Position::BeforePath], self.path)
    }
    /// The last part of the path.
    pub fn name(&self) -> String {
        self.path.filename().unwrap_or("table").to_string()
    }
    pub fn join(&self, name: &str) -> Self {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty();
            segments.extend(name.split('/'));
            segments.push("");
        }
        Self { url, path: self.object(name), entry: None, ..self.clone() }
    }
    /// The folder that contains this one. None at the root of a store.
    pub fn parent(&self) -> Option<Self> {
        let mut parts: Vec<_> = self.path.parts().collect();
        parts.pop()?;
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().pop().push("");
        }
        Some(Self { url, path: Path::from_iter(parts), entry: None, ..self.clone() })
    }
    /// This is the only place that makes paths below a location. Letters stay as the user wrote them. object_store's
    /// own `join` would spell letters outside ASCII differently from the URL.
    pub fn object(&self, name: &str) -> Path {
        let whole = format!("{}/{name}", self.path);
        Path::parse(&whole).unwrap_or_else(|_| name.split('/').fold(self.path.clone(), |p, part| p.join(part)))
    }
    /// A store rooted at this folder.
    pub fn prefixed(&self) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(self.root.clone(), self.path.clone()))
    }

    pub fn log_store(&self) -> LogStoreRef {
        default_logstore(self.prefixed(), self.root.clone(), &self.url, &StorageConfig::default())
    }

    fn error(&self, doing: &str, name: &str, e: object_store::Error) -> Error {
        let told = failure(&e);
        Error::new(told.kind, format!("{doing} {}{name}: {}", self.display(), told.message)).with_source(e)
    }

    /// Writes `name` unless it exists. After an error, the file can exist: read it back.
    pub async fn put_new(&self, name: &str, bytes: Vec<u8>) -> Result<Put> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let object = self.object(name);
        match self.root.put_opts(&object, bytes.into(), options).await {
            Ok(_) => Ok(Put::Created),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Put::Exists)
            }
            Err(e) => Err(self.error("writing", name, e)),
        }
    }

    pub async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        let object = self.object(name);
        let put = self.root.put(&object, bytes.into()).await;
        put.map(drop).map_err(|e| self.error("writing", name, e))
    }

    pub async fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let object = self.object(name);
        let reading = async {
            let got = self.root.get(&object).await?;
            match got.payload {
                GetResultPayload::Stream(_) => got.bytes().await,
                // A file on disk is already open here, and reading it does not pass the guard.
                GetResultPayload::File(..) => guard::within(self.timeout, got.bytes()).await,
            }
        };
        match reading.await {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.error("reading", name, e)),
        }
    }

    pub async fn exists(&self, name: &str) -> Result<bool> {
        let object = self.object(name);
        match self.root.head(&object).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(self.error("reading", name, e)),
        }
    }

    /// The names of the files below `folder`, relative to it, sorted.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let prefix = self.object(folder);
        let listing = self.root.list(Some(&prefix)).try_collect::<Vec<_>>();
        let found = match listing.await {
            Ok(f) => f,
            Err(object_store::Error::NotFound { .. }) => vec![],
            Err(e) => return Err(self.error("listing", folder, e)),
        };
        let mut names: Vec<String> = found
            .iter()
            .filter_map(|m| m.location.prefix_match(&prefix))
            .map(|parts| parts.map(|p| p.as_ref().to_string()).collect::<Vec<_>>().join("/"))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Whether a file below `folder` has one of these names.
    pub async fn has_any(&self, folder: &str, is_one: impl Fn(&str) -> bool) -> Result<bool> {
        let prefix = self.object(folder);
        let mut listing = self.root.list(Some(&prefix));
        loop {
            match listing.try_next().await {
                Ok(Some(found)) if found.location.filename().is_some_and(&is_one) => return Ok(true),
                Ok(Some(_)) => {}
                Ok(None) | Err(object_store::Error::NotFound { .. }) => return Ok(false),
                Err(e) => return Err(self.error("listing", folder, e)),
            }
        }
    }

    /// On local disk, removes unfinished files of killed writers that are older than this age. No listing shows them.
    pub async fn sweep(&self, age: Duration) -> Result<()> {
        let Some(folder) = self.url.to_file_path().ok().filter(|_| self.is_local()) else { return Ok(()) };
        let swept = tokio::task::spawn_blocking(move || later::sweep(&folder, age)).await;
        swept.map(drop).map_err(|e| Error::internal(format!("removing unfinished files of killed writers: {e}")))
    }

    /// The names of the folders directly below `folder`.
    pub async fn folders(&self, folder: &str) -> Result<Vec<String>> {
        let prefix = if folder.is_empty() { self.path.clone() } else { self.object(folder) };
        match self.root.list_with_delimiter(Some(&prefix)).await {
            Ok(found) => Ok(found.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_string)).collect()),
            Err(object_store::Error::NotFound { .. }) => Ok(vec![]),
            Err(e) => Err(self.error("listing", folder, e)),
        }
    }

    pub async fn delete(&self, name: &str) -> Result<()> {
        let object = self.object(name);
        match self.root.delete(&object).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.error("deleting", name, e)),
        }
    }

    /// Removes many files, in as few requests as the store allows.
    pub async fn delete_all(&self, names: impl IntoIterator<Item = String>) -> Result<()> {
        let objects: Vec<_> = names.into_iter().map(|name| Ok(self.object(&name))).collect();
        if objects.is_empty() {
            return Ok(());
        }
        let mut removed = self.root.delete_stream(futures::stream::iter(objects).boxed());
        while let Some(one) = removed.next().await {
            match one {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(self.error("deleting files in", "", e)),
            }
        }
        Ok(())
    }

    /// Whether the store has put-if-absent: in five races of eight creates of one name, exactly one create succeeds, and
    /// the file has its content. Some stores look first and write then. Two creates one after the other would not
    /// show this.
    pub async fn probe(&self, name: &str) -> Result<()> {
        // bayou has a put-if-absent of its own for disks; there, one race shows that the folder takes files.
        let (races, count) = if self.is_local() { (1, 2) } else { (5, 8) };
        for _ in 0..races {
            let name = format!("{name}-{}", uuid::Uuid::new_v4());
            let content = |i: usize| format!("probe {i}").into_bytes();
            let creates = (0..count).map(|i| self.put_new(&name, content(i)));
            let puts = futures::future::join_all(creates).await;
            let found = self.get(&name).await;
            let _ = self.delete(&name).await;
            let checking = |e: Error| e.context("checking that the store has put-if-absent");
            let found = found.map_err(checking)?;
            let created: Vec<usize> =
                puts.iter().enumerate().filter(|(_, put)| matches!(put, Ok(Put::Created))).map(|(i, _)| i).collect();
            let lies = match &created[..] {
                // The answer to the create that succeeded was lost, and the repetition of this create found the file.
                [] if puts.iter().all(Result::is_ok) && (0..count).any(|i| found == Some(content(i))) => false,
                [] => match puts.into_iter().find_map(|put| put.err()) {
                    Some(e) => return Err(checking(e)),
                    None => {
                        return Err(Error::storage(format!(
                            "{}: the store says that a new name exists",
                            self.display()
                        )));
                    }
                },
                // A file that is not visible at once does not count against the store: bayou reads its files back where this matters.
                [one] => found.is_some_and(|found| found != content(*one)),
                _ => true,
            };
            if lies {
                return Err(Error::storage(format!(
                    "{}: this store overwrites a file that must be created only if absent (put-if-absent), so \
                     exactly-once is not possible on it. Use local disk, S3, Azure or Google storage, or a store with \
                     conditional writes.",
                    self.display()
                )));
            }
        }
        Ok(())
    }
}

/// Spellings that would create a folder of that name in the working directory, or that deltalake reads in a different
/// way than it writes them.
fn refuse_other_spellings(target: &str) -> Result<()> {
    let (before, after) = target.split_once(':').unwrap_or(("", target));
    let is_scheme = before.len() > 1 && before.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let rest = after.trim_start_matches('/');
    if is_scheme && !after.starts_with("//") {
        let instead = match before.to_lowercase().as_str() {
            "dbfs" => format!(
                "DBFS does not have put-if-absent (creating a file only if it is absent), so a Delta table there is \
                 not safe. Use a cloud URL (s3://, abfss://, gs://). For a folder on the cluster's own disk, write \
                 \"/{rest}\""
            ),
            "file" => format!("Write the path itself (\"{after}\"), or file:///{rest}"),
            "s3" | "s3a" | "gs" | "gcs" | "az" | "azure" | "abfs" | "abfss" | "adl" | "http" | "https" => {
                format!("Write \"{before}://{rest}\"")
            }
            "hdfs" | "viewfs" | "wasb" | "wasbs" => {
                format!("bayou does not write to {before}. Use local disk or a cloud URL")
            }
            _ => format!("For a folder of that name, write \"./{target}\""),
        };
        return Err(Error::config(format!("'{before}:…' is not a known kind of location. {instead}.")));
    }
    let mut letters = target.chars();
    if letters.next().is_some_and(|c| c.is_ascii_alphabetic()) && letters.next() == Some(':') && cfg!(not(windows)) {
        return Err(Error::config(format!(
            "'{target}' is a Windows path, and this is not a Windows machine. Write a path of this machine."
        )));
    }
    if !target.contains("://") && target.contains('\\') {
        return Err(Error::config(format!(
            "'{target}' has a backslash, which the log of a table cannot contain. Separate folders by \"/\", or rename the folder."
        )));
    }
    let bytes = target.as_bytes();
    let escape = (0..bytes.len())
        .any(|i| bytes[i] == b'%' && bytes.get(i + 1..i + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)));
    // In a URL, it is an escape.
    if escape && !target.contains("://") {
        return Err(Error::config(format!(
            "'{target}' has a per cent sign before two hexadecimal digits, which readers of Delta take for an escape. Rename the folder."
        )));
    }
    Ok(())
}

fn shellexpand_home(path: &str) -> String {
    match (path.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(rest), Ok(home)) => format!("{home}/{rest}"),
        _ => path.to_string(),
    }
}

/// Resolves `.` and `..` by name only, so that each table has exactly one name.
fn normalize(path: &std::path::Path) -> std::path::PathBuf {
    use std::path::Component;
    let mut out = std::path::PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}
