//! Where tables and checkpoints live: a folder on local disk or in a cloud store, and the few operations that the
//! protocol needs of it.

pub mod crash;
mod guard;
mod later;
pub mod local;

use crate::{Error, Kind, Result};
use deltalake::logstore::{LogStoreRef, StorageConfig, default_logstore};
use futures::TryStreamExt;
use guard::Guard;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{GetResultPayload, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

pub type StorageOptions = BTreeMap<String, String>;

/// A folder in a store.
#[derive(Clone)]
pub struct Location {
    url: Url,
    /// Rooted at the bucket, or at `/`.
    root: Arc<dyn ObjectStore>,
    /// The store itself, without a limit on time.
    bare: Arc<dyn ObjectStore>,
    path: Path,
    timeout: Duration,
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.display())
    }
}

/// No call to a store may take longer; a hang becomes an error that is looked into.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What to do about an error of the system that a store or deltalake tells of in its text.
pub fn hint(text: &str) -> &'static str {
    // ENOSPC and EDQUOT.
    match ["(os error 28)", "(os error 122)"].iter().any(|code| text.contains(code)) {
        true => ". Nothing is lost: free some space and run the query again.",
        false => "",
    }
}

/// What `put_new` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    Created,
    Exists,
}

impl Location {
    /// A path or a URL (s3://, gs://, abfss://, az://, file://) with the store's options.
    pub fn parse(target: &str, options: &StorageOptions) -> Result<Self> {
        if target.trim().is_empty() {
            return Err(Error::config(
                "the target is empty. Name a folder, as in \"lake/bpm_cleansed\", or a cloud URL.",
            ));
        }
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
        for (mount, what) in [("/Volumes", "Unity Catalog volumes"), ("/dbfs", "the DBFS mount")] {
            if absolute.starts_with(mount) {
                return Err(Error::storage(format!(
                    "{}: {what} cannot create a file only if it is absent, so a Delta table there is not safe. \
                     Use a cloud URL (s3://, abfss://, gs://) instead.",
                    absolute.display()
                )));
            }
        }
        let url = Url::from_directory_path(normalize(&absolute))
            .map_err(|()| Error::config(format!("'{target}' is not a usable path")))?;
        Self::local(url, local::LocalStore::shared())
    }

    /// A folder on local disk through a given store; tests inject faults here.
    pub fn local(url: Url, store: Arc<dyn ObjectStore>) -> Result<Self> {
        let path =
            Path::from_url_path(url.path()).map_err(|e| Error::config(format!("'{url}' is not a usable path: {e}")))?;
        Ok(Self { url, root: Guard::new(store.clone(), TIMEOUT), bare: store, path, timeout: TIMEOUT })
    }

    fn cloud(target: &str, options: &StorageOptions) -> Result<Self> {
        // What was typed may hold a signature or a key: errors name it without.
        let shown = target.split(['?', '#']).next().unwrap_or_default();
        let shown = shown.rsplit_once('@').map_or(shown.to_string(), |(before, rest)| {
            format!("{}://…@{rest}", before.split("://").next().unwrap_or_default())
        });
        let mut url = Url::parse(target).map_err(|e| Error::config(format!("'{shown}' is not a URL: {e}")))?;
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        // As delta-rs does: the environment first, what is said wins.
        let mut all: BTreeMap<String, String> = std::env::vars()
            .filter(|(k, _)| ["AWS_", "AZURE_", "GOOGLE_"].iter().any(|p| k.starts_with(p)))
            .map(|(k, v)| (k.to_lowercase(), v))
            .collect();
        all.extend(options.iter().map(|(k, v)| (k.to_lowercase(), v.clone())));
        // object_store's errors name the option, never its value; builders' Debug would print secrets and is not used.
        let (store, path) = object_store::parse_url_opts(&url, all)
            .map_err(|e| Error::config(format!("'{shown}' cannot be opened as a store: {e}")))?;
        let store: Arc<dyn ObjectStore> = Arc::from(store);
        Ok(Self { url, root: Guard::new(store.clone(), TIMEOUT), bare: store, path, timeout: TIMEOUT })
    }

    /// The same folder, with another limit on the time that a call may take.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { root: Guard::new(self.bare.clone(), timeout), timeout, ..self }
    }
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
    pub fn url(&self) -> &Url {
        &self.url
    }
    /// The store that this is a folder of: its scheme, host and port.
    pub fn store(&self) -> String {
        self.url[..url::Position::BeforePath].to_string()
    }
    pub fn is_local(&self) -> bool {
        self.url.scheme() == "file"
    }
    pub fn root(&self) -> Arc<dyn ObjectStore> {
        self.root.clone()
    }
    /// As users name it: a plain path for local disk, the URL otherwise. Never holds credentials.
    pub fn display(&self) -> String {
        match self.url.to_file_path() {
            Ok(p) if self.is_local() => p.display().to_string(),
            _ => {
                let mut url = self.url.clone();
                let _ = url.set_password(None);
                url.set_query(None);
                url.to_string()
            }
        }
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
        let path = name.split('/').fold(self.path.clone(), |p, part| p.join(part));
        Self { url, root: self.root.clone(), bare: self.bare.clone(), path, timeout: self.timeout }
    }
    pub fn object(&self, name: &str) -> Path {
        name.split('/').fold(self.path.clone(), |p, part| p.join(part))
    }
    /// A store rooted at this folder.
    pub fn prefixed(&self) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(self.root.clone(), self.path.clone()))
    }

    pub fn log_store(&self) -> LogStoreRef {
        default_logstore(self.prefixed(), self.root.clone(), &self.url, &StorageConfig::default())
    }

    fn error(&self, doing: &str, name: &str, e: object_store::Error) -> Error {
        let kind = match e {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => Kind::Auth,
            _ => Kind::Storage,
        };
        Error::new(kind, format!("{doing} {}{name}: {e}{}", self.display(), hint(&e.to_string()))).with_source(e)
    }

    /// Writes `name` unless it exists. An error does not mean that nothing was written: read it back.
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
                // A file on disk is open by now, and read past the guard.
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

    /// Names of the files below `folder`, relative to it, sorted.
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

    /// Whether there is a file below `folder` whose name is one of those.
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

    /// Names of the folders directly below `folder`.
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

    /// Whether the store creates a file only if it is absent: two creates of one name, the second must fail.
    pub async fn probe(&self, name: &str) -> Result<()> {
        let nonce = uuid::Uuid::new_v4();
        let name = format!("{name}-{nonce}");
        let first = self.put_new(&name, b"probe".to_vec()).await?;
        let second = self.put_new(&name, b"probe".to_vec()).await;
        let _ = self.delete(&name).await;
        match (first, second) {
            (Put::Created, Ok(Put::Exists)) => Ok(()),
            (Put::Created, Ok(Put::Created)) => Err(Error::storage(format!(
                "{}: this store overwrites a file that was to be created only if absent (put-if-absent), so exactly-once \
                 is not possible on it. Use local disk, S3, Azure or Google storage, or a store with conditional writes.",
                self.display()
            ))),
            (_, Err(e)) => Err(e.context("checking that the store has put-if-absent")),
            (Put::Exists, _) => {
                Err(Error::storage(format!("{}: the store says that a new name exists", self.display())))
            }
        }
    }
}

fn shellexpand_home(path: &str) -> String {
    match (path.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(rest), Ok(home)) => format!("{home}/{rest}"),
        _ => path.to_string(),
    }
}

/// Resolves `.` and `..` by name only, so that one table has one name.
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
