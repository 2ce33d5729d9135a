//! The facts in a table's log about the table and its versions, for people.

use super::{no_table, open_at, within};
use crate::storage::Location;
use crate::{Error, Result};
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use std::collections::BTreeMap;

/// The facts that DESCRIBE shows.
pub(crate) struct About {
    pub version: u64,
    pub name: Option<String>,
    pub comment: Option<String>,
    pub schema: SchemaRef,
    /// By column.
    pub comments: BTreeMap<String, String>,
    pub partition_by: Vec<String>,
    pub properties: BTreeMap<String, String>,
}

/// A commit, as its own commitInfo describes it.
pub(crate) struct CommitOf {
    pub version: u64,
    pub millis: Option<i64>,
    pub operation: Option<String>,
    pub parameters: BTreeMap<String, String>,
    pub read_version: Option<i64>,
    pub isolation_level: Option<String>,
    pub is_blind_append: Option<bool>,
    pub metrics: BTreeMap<String, String>,
    pub user_metadata: Option<String>,
    pub engine: Option<String>,
}

/// The number in the name of a commit's file.
fn version_of(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".json")?;
    if number.len() == 20 { number.parse().ok() } else { None }
}

pub(crate) async fn about(location: &Location, version: Option<u64>) -> Result<About> {
    let table = open_at(location, version).await?;
    let snapshot = table.snapshot().map_err(|e| Error::storage(format!("{}: {e}", location.display())))?;
    let metadata = snapshot.metadata();
    let comments = snapshot.schema();
    let comments = comments.fields().filter_map(|f| {
        let comment = f.metadata().get("comment")?.to_string();
        Some((f.name().clone(), comment.trim_matches('"').to_string()))
    });
    Ok(About {
        version: table.version().unwrap_or_default(),
        name: metadata.name().map(str::to_string),
        comment: metadata.description().map(str::to_string),
        comments: comments.collect(),
        schema: snapshot.snapshot().arrow_schema(),
        partition_by: metadata.partition_columns().to_vec(),
        properties: metadata.configuration().iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
    })
}

/// The commits that the log still has, the newest first.
pub(crate) async fn history(location: &Location) -> Result<Vec<CommitOf>> {
    if !super::exists(location).await? {
        return Err(no_table(location));
    }
    let mut versions: Vec<u64> = location.list("_delta_log").await?.iter().filter_map(|n| version_of(n)).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    let mut out = Vec::with_capacity(versions.len());
    for version in versions {
        let file = format!("_delta_log/{version:020}.json");
        // The log may be cleaned meanwhile.
        let Some(bytes) = location.get(&file).await? else { continue };
        let info = bytes
            .split(|b| *b == b'\n')
            .filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok())
            .find_map(|action| action.get("commitInfo").cloned())
            .unwrap_or_default();
        let text = |name: &str| info.get(name).and_then(|v| v.as_str()).map(str::to_string);
        let map = |name: &str| -> BTreeMap<String, String> {
            let shown = |v: &serde_json::Value| v.as_str().map_or_else(|| v.to_string(), str::to_string);
            let fields = info.get(name).and_then(|v| v.as_object());
            fields.into_iter().flatten().map(|(k, v)| (k.clone(), shown(v))).collect()
        };
        out.push(CommitOf {
            version,
            millis: info.get("inCommitTimestamp").or_else(|| info.get("timestamp")).and_then(|v| v.as_i64()),
            operation: text("operation"),
            parameters: map("operationParameters"),
            read_version: info.get("readVersion").and_then(|v| v.as_i64()),
            isolation_level: text("isolationLevel"),
            is_blind_append: info.get("isBlindAppend").and_then(|v| v.as_bool()),
            metrics: map("operationMetrics"),
            user_metadata: text("userMetadata"),
            engine: text("engineInfo"),
        });
    }
    Ok(out)
}

/// The newest version at a time in microseconds. As in Spark, the time of a version is that of its file, and never
/// before the time of the previous version.
pub(crate) async fn version_at(location: &Location, micros: i64) -> Result<u64> {
    if about(location, None).await?.properties.get("delta.enableInCommitTimestamps").is_some_and(|v| v == "true") {
        return Err(Error::schema("the table has in-commit timestamps, which are not read. Say VERSION AS OF"));
    }
    let store = location.prefixed();
    let folder = object_store::path::Path::from("_delta_log");
    let files = within(location, "listing the log", async {
        store.list(Some(&folder)).try_collect::<Vec<_>>().await.map_err(Into::into)
    });
    let mut commits: Vec<(u64, i64)> = files
        .await?
        .into_iter()
        .filter_map(|f| Some((version_of(f.location.filename()?)?, f.last_modified.timestamp_millis())))
        .collect();
    commits.sort_unstable();
    for i in 1..commits.len() {
        commits[i].1 = commits[i].1.max(commits[i - 1].1 + 1);
    }
    let (Some((first, oldest)), Some((last, newest))) = (commits.first(), commits.last()) else {
        return Err(no_table(location));
    };
    let shown = |millis: i64| crate::calendar::timestamp_text(millis * 1000);
    if micros < oldest * 1000 {
        return Err(Error::schema(format!(
            "the time is before the oldest version that the log still has (version {first}, {} UTC)",
            shown(*oldest)
        )));
    }
    if micros > newest * 1000 {
        return Err(Error::schema(format!(
            "the time is after the newest version (version {last}, {} UTC). Leave TIMESTAMP AS OF out to read the newest version",
            shown(*newest)
        )));
    }
    let until = commits.partition_point(|(_, millis)| millis * 1000 <= micros);
    Ok(commits[until - 1].0)
}
