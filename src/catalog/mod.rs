//! Unity Catalog: tables by name, with credentials from the catalog for each table.
//!
//! A name becomes a `Location`, with the entry of the catalog behind it (`storage::Registry`). All that follows works as for a path: the location's
//! store asks the catalog for credentials and renews them, and a sink registers the table that it has created. So the order is: version 0 of the
//! table, then its entry, then epochs. If a run is killed in between, the next run finds the table, and registers it.

mod columns;
mod denied;
mod entry;
mod identity;
mod name;
mod rest;
mod vended;

pub(crate) use identity::{AskHeaders, Identity};
pub(crate) use name::{SchemaName, TableName};

use crate::storage::{self, Credentials, Giver, Location, Mounts, StorageOptions};
use crate::time::SharedClock;
use crate::{Error, Kind, Result};
use denied::{Asked, denied};
use entry::Entry;
use reqwest::Method;
use rest::{Answer, Repeat, Rest, segment};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// Tables, schemas and external locations.
const ROOT: &str = "/api/2.1/unity-catalog";
/// databricks-sdk asks for credentials at this path. A server has the request for credentials at this path or at
/// `ROOT`.
const OLDER: &str = "/api/2.0/unity-catalog";
/// How long to wait for facts that only make an error more helpful.
const ASIDE: Duration = Duration::from_secs(5);

/// A catalog, and how its tables' stores are opened.
pub(crate) struct Catalog {
    rest: Rest,
    /// Options of the stores that are not credentials: region, endpoint.
    fixed: BTreeMap<String, String>,
    mounts: Mounts,
    /// The user's own credentials of the store. If there are any, the catalog is not asked for credentials.
    own: Option<StorageOptions>,
    clock: SharedClock,
    runtime: Handle,
    /// The credentials are at `OLDER`.
    older: AtomicBool,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Catalog({:?})", self.rest.identity)
    }
}

/// A table as the catalog has it.
#[derive(Debug, Clone)]
struct Found {
    id: String,
    kind: String,
    format: String,
    /// In the form that `normal` returns.
    location: String,
    columns: Value,
}

/// The kinds of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// Its files are the catalog's own, and only Databricks' engines commit to it.
    Managed,
    External,
    /// A view, or not Delta.
    Other,
}

/// Where a new table goes.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// `location=`
    At(String),
    /// A folder with the table's name in this one.
    Below(String),
    /// Next to the table of the query, or next to the place of a new table of that name.
    Beside(Location),
    /// In the schema's storage root.
    Root,
}

impl Catalog {
    pub(crate) fn new(
        identity: Identity,
        storage: &StorageOptions,
        clock: SharedClock,
        runtime: Handle,
    ) -> Result<Arc<Self>> {
        let is_ours = |name: &str| {
            let name = name.to_lowercase();
            name.starts_with("databricks_") || name.starts_with("unity_")
        };
        let fixed = storage.fixed().iter().filter(|(name, _)| !is_ours(name));
        let own = storage.has_credentials().then(|| storage.clone());
        let mounts = storage.mounts();
        let fixed = fixed.map(|(k, v)| (k.clone(), v.clone())).collect();
        let rest = Rest::new(identity)?;
        Ok(Arc::new(Self { rest, fixed, mounts, own, clock, runtime, older: AtomicBool::new(false) }))
    }

    /// `None`: the catalog has no object of this name.
    async fn get(&self, path: &str, asked: Asked<'_>) -> Result<Option<Value>> {
        match self.rest.ask(Method::GET, path, None, Repeat::Safe).await? {
            Answer::Good { body, .. } => Ok(Some(body)),
            Answer::Refused { status: 404, code, .. } if !code.is_empty() => Ok(None),
            Answer::Refused { status, code, message } => Err(self.refused(asked, status, &code, &message).await),
        }
    }

    async fn refused(&self, asked: Asked<'_>, status: u16, code: &str, message: &str) -> Error {
        if status == 403 {
            let (who, location) = tokio::join!(self.who(), async {
                match asked.url() {
                    Some(url) => self.external_location(&url).await,
                    None => None,
                }
            });
            return denied(asked, code, message, who.as_deref(), location.as_deref());
        }
        let host = self.rest.identity.host.host_str().unwrap_or_default();
        if code.is_empty() && message.is_empty() {
            return Error::config(format!(
                "{host} answered {status} to a request for Unity Catalog: this server does not look like a Databricks workspace or a Unity Catalog server. \
                 Check DATABRICKS_HOST (or databricks_host in storage_options=)."
            ));
        }
        let advice = match code.contains("OVERLAP") || message.to_lowercase().contains("overlap") {
            true => ". Give the table a location= of its own, below an external location and outside other tables",
            false => "",
        };
        let message = message.trim_end_matches('.');
        Error::config(format!("{asked}: {message} ({status} {code}){advice}"))
    }

    /// The login's name, for GRANT.
    async fn who(&self) -> Option<String> {
        let asking = self.rest.ask(Method::GET, "/api/2.0/preview/scim/v2/Me", None, Repeat::Safe);
        match tokio::time::timeout(ASIDE, asking).await {
            Ok(Ok(Answer::Good { body, .. })) => Some(body["userName"].as_str()?.to_string()),
            _ => None,
        }
    }

    /// The external location that contains the URL.
    async fn external_location(&self, url: &str) -> Option<String> {
        let path = format!("{ROOT}/external-locations");
        let asking = self.rest.ask(Method::GET, &path, None, Repeat::Safe);
        let Ok(Ok(Answer::Good { body, .. })) = tokio::time::timeout(ASIDE, asking).await else { return None };
        let within = |place: &&Value| place["url"].as_str().is_some_and(|at| contains(&normal(at), &normal(url)));
        let longest = |place: &&Value| place["url"].as_str().map_or(0, str::len);
        let found = body["external_locations"].as_array()?.iter().filter(within).max_by_key(longest)?;
        Some(found["name"].as_str()?.to_string())
    }

    async fn find(&self, name: &TableName) -> Result<Option<Found>> {
        let path = format!("{ROOT}/tables/{}", segment(&name.dotted()));
        let Some(body) = self.get(&path, Asked::Table(name)).await? else { return Ok(None) };
        Ok(Some(found(&body)))
    }

    async fn schema(&self, name: &SchemaName) -> Result<Value> {
        let path = format!("{ROOT}/schemas/{}", segment(&format!("{}.{}", name.catalog, name.schema)));
        self.get(&path, Asked::Schema(name)).await?.ok_or_else(|| {
            Error::config(format!(
                "there is no schema {name} in Unity Catalog at {}. Create it: CREATE SCHEMA {}.{};",
                self.rest.identity.host.host_str().unwrap_or_default(),
                name::quoted(&name.catalog),
                name::quoted(&name.schema)
            ))
        })
    }

    /// The names of the schema's Delta tables.
    pub(crate) async fn tables(&self, name: &SchemaName) -> Result<Vec<String>> {
        let (mut out, mut page) = (vec![], String::new());
        loop {
            let path = format!(
                "{ROOT}/tables?catalog_name={}&schema_name={}{page}",
                segment(&name.catalog),
                segment(&name.schema)
            );
            let Some(body) = self.get(&path, Asked::Schema(name)).await? else {
                return self.schema(name).await.map(|_| vec![]);
            };
            let tables = body["tables"].as_array().map(Vec::as_slice).unwrap_or_default();
            let delta = tables.iter().filter(|t| t["data_source_format"].as_str() == Some("DELTA"));
            out.extend(delta.filter_map(|t| t["name"].as_str()).map(str::to_string));
            match body["next_page_token"].as_str().filter(|t| !t.is_empty()) {
                Some(token) => page = format!("&page_token={}", segment(token)),
                None => return Ok(out),
            }
        }
    }

    /// The table, for reading.
    pub(crate) async fn to_read(self: &Arc<Self>, name: &TableName) -> Result<Location> {
        let Some(found) = self.find(name).await? else {
            self.schema(&name.schema).await?;
            let known = self.tables(&name.schema).await.unwrap_or_default();
            let hint = crate::error::did_you_mean(&name.table, known.iter().map(String::as_str));
            return Err(Error::storage(format!("{name}: there is no such table in Unity Catalog.{hint}")));
        };
        if found.format != "DELTA" || found.location.is_empty() {
            return Err(Error::config(format!(
                "{name} is not a Delta table: Unity Catalog says {} {}. bayou reads Delta tables only. Read it through Spark.",
                found.kind, found.format
            )));
        }
        Entry::open(self, name, found.location.clone(), Some(found), entry::Use::Read)
    }

    /// The table as the catalog describes it. `None`: the catalog has no such table.
    pub(crate) async fn kind(&self, name: &TableName) -> Result<Option<Of>> {
        Ok(self.find(name).await?.map(|found| match (found.kind.as_str(), found.format.as_str()) {
            ("MANAGED", "DELTA") => Of::Managed,
            ("EXTERNAL", "DELTA") => Of::External,
            _ => Of::Other,
        }))
    }

    /// The table, for writing. It need not exist.
    pub(crate) async fn to_write(self: &Arc<Self>, name: &TableName, place: Place) -> Result<Location> {
        let Some(found) = self.find(name).await? else {
            let at = match place {
                Place::At(url) => url,
                Place::Below(url) => format!("{}/{}", url.trim_end_matches('/'), name.table),
                Place::Beside(table) if let Some(folder) = table.parent() => folder.join(&name.table).unescaped(),
                Place::Beside(_) | Place::Root => {
                    format!("{}/{}", vended::root_of(&self.schema(&name.schema).await?, &name.schema)?, name.table)
                }
            };
            return Entry::open(self, name, normal(&at), None, entry::Use::Write);
        };
        found.check_writable(name)?;
        if let Place::At(url) = &place
            && normal(url) != found.location
        {
            return Err(Error::config(format!(
                "{name} is at {}, and location= says {url}. Leave location= out, or write to a table with a different name.",
                found.location
            )));
        }
        Entry::open(self, name, found.location.clone(), Some(found), entry::Use::Write)
    }

    /// A folder that is not a table, such as a checkpoint: with the user's own credentials, with those of the table that contains the folder, or
    /// with credentials for the path.
    pub(crate) fn folder(self: &Arc<Self>, target: &str, tables: &[&Location]) -> Result<Location> {
        if let Some(own) = &self.own {
            return Location::parse(target, own);
        }
        if !is_cloud(target) {
            return Location::parse(target, &self.local());
        }
        let url = normal(target);
        if let Some((table, rest)) = tables.iter().find_map(|t| Some((*t, below(&normal(&t.unescaped()), &url)?))) {
            return Ok(table.join(rest));
        }
        let this = self.clone();
        let at = url.clone();
        let ask = move || {
            let operation = json!({ "url": at, "operation": "PATH_READ_WRITE" });
            let asked = Asked::Path { url: &at, new: false };
            this.runtime.block_on(this.vend("temporary-path-credentials", &operation, asked))
        };
        self.vended(&url, Box::new(ask))
    }

    /// The options of local disks.
    fn local(&self) -> StorageOptions {
        StorageOptions::from(self.fixed.clone()).on_mounts(self.mounts)
    }

    fn vended(&self, url: &str, ask: Box<dyn Fn() -> Result<storage::Answer> + Send + Sync>) -> Result<Location> {
        let options = StorageOptions::renewed(Credentials::new(Giver::Catalog, ask));
        Ok(Location::parse(url, &options)?.bounded())
    }

    /// Credentials, as options of the store.
    async fn vend(&self, what: &str, body: &Value, asked: Asked<'_>) -> Result<storage::Answer> {
        for _ in 0..2 {
            let older = self.older.load(Ordering::Relaxed);
            let path = format!("{}/{what}", if older { OLDER } else { ROOT });
            // Asking twice gives two sets of credentials, which does no harm.
            match self.rest.ask(Method::POST, &path, Some(body), Repeat::Safe).await? {
                Answer::Good { body, at } => return vended::answer(&body, &self.fixed, &self.clock, at),
                Answer::Refused { status: 404, code, message } if is_endpoint(&code, &message) => {
                    self.older.store(!older, Ordering::Relaxed);
                }
                Answer::Refused { status: 404, .. } => {
                    return Err(Error::data_loss(format!(
                        "{asked}: the table is not in Unity Catalog any more. It was dropped, or dropped and created again."
                    )));
                }
                Answer::Refused { status, code, message } => {
                    return Err(self.refused(asked, status, &code, &message).await);
                }
            }
        }
        Err(Error::config(format!(
            "Unity Catalog at {} gives no credentials ({what} is not known there). Give the store's own credentials in storage_options=.",
            self.rest.identity.host.host_str().unwrap_or_default()
        )))
    }
}

/// Whether a 404 is about the question and not about the table.
fn is_endpoint(code: &str, message: &str) -> bool {
    code.is_empty() || code == "ENDPOINT_NOT_FOUND" || message.to_lowercase().contains("no api found")
}

fn found(body: &Value) -> Found {
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_string();
    Found {
        id: text("table_id"),
        kind: text("table_type"),
        format: text("data_source_format"),
        location: normal(&text("storage_location")),
        columns: body["columns"].clone(),
    }
}

impl Found {
    fn check_writable(&self, name: &TableName) -> Result<()> {
        let other = "Write to a new table: give it a different name and its own location= below an external location";
        match self.kind.as_str() {
            "EXTERNAL" => {}
            "MANAGED" => {
                return Err(Error::config(format!(
                    "{name} is a MANAGED table. Databricks allows only its own engines to write this table, and there is no Spark session. Give \
                     spark=spark: the session of the notebook (on Databricks, bayou finds this session by itself), or \
                     DatabricksSession.builder.getOrCreate() of databricks-connect. {other}, for example write_delta(\"{}\", \
                     location=\"s3://bucket/folder\", …).",
                    name.beside("_external")
                )));
            }
            kind => {
                return Err(Error::config(format!(
                    "{name} is a {kind}, and bayou writes external Delta tables. {other}."
                )));
            }
        }
        if self.format != "DELTA" {
            return Err(Error::config(format!(
                "{name} is a table of {}, and bayou writes Delta tables. {other}.",
                self.format
            )));
        }
        if self.location.is_empty() || self.id.is_empty() {
            return Err(Error::new(
                Kind::Storage,
                format!("{name}: Unity Catalog does not return the location or the id of the table"),
            ));
        }
        Ok(())
    }
}

fn is_cloud(target: &str) -> bool {
    target.contains("://") && !target.starts_with("file:")
}

/// A location in one spelling: `s3a` is `s3`, `file:/x` is `file:///x`, and there is no slash at the end.
fn normal(location: &str) -> String {
    let location = location.trim_end_matches('/');
    for (theirs, ours) in [("s3a://", "s3://"), ("s3n://", "s3://"), ("gcs://", "gs://")] {
        if let Some(rest) = location.strip_prefix(theirs) {
            return format!("{ours}{rest}");
        }
    }
    match location.strip_prefix("file:") {
        Some(path) => format!("file:///{}", path.trim_start_matches('/')),
        None if location.starts_with('/') => format!("file://{location}"),
        None => location.to_string(),
    }
}

/// Whether `inner` is `outer` or a folder inside `outer`.
fn contains(outer: &str, inner: &str) -> bool {
    below(outer, inner).is_some()
}

fn below<'a>(outer: &str, inner: &'a str) -> Option<&'a str> {
    let rest = inner.strip_prefix(outer)?;
    match rest.strip_prefix('/') {
        Some(rest) => Some(rest),
        None => (rest.is_empty() || outer.ends_with('/')).then_some(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_has_one_spelling() {
        for (text, wanted) in [
            ("s3a://b/x/", "s3://b/x"),
            ("s3://b/x", "s3://b/x"),
            ("file:/tmp/x", "file:///tmp/x"),
            ("file:///tmp/x/", "file:///tmp/x"),
            ("/tmp/x", "file:///tmp/x"),
            ("abfss://c@a.dfs.core.windows.net/x/", "abfss://c@a.dfs.core.windows.net/x"),
        ] {
            assert_eq!(normal(text), wanted);
        }
        assert_eq!(below("s3://b/x", "s3://b/x/y/z"), Some("y/z"));
        assert_eq!(below("s3://b/x", "s3://b/xy"), None);
        assert_eq!(below("s3://b", "s3://b"), Some(""));
    }

    #[test]
    fn a_table_that_bayou_cannot_commit_to_is_refused_with_what_to_do() {
        let name = TableName::parse("main.heart.bpm").unwrap().unwrap();
        let of = |kind: &str, format: &str| {
            let body = json!({"table_id": "1", "table_type": kind, "data_source_format": format, "storage_location": "s3a://b/t/"});
            found(&body).check_writable(&name).map_err(|e| e.message)
        };
        of("EXTERNAL", "DELTA").unwrap();
        for (kind, format, said) in [
            ("MANAGED", "DELTA", "main.heart.bpm_external"),
            ("VIEW", "", "is a VIEW"),
            ("STREAMING_TABLE", "DELTA", "is a STREAMING_TABLE"),
            ("EXTERNAL", "PARQUET", "is a table of PARQUET"),
        ] {
            let e = of(kind, format).unwrap_err();
            assert!(e.contains(said) && e.contains("location="), "{e}");
        }
    }
}
