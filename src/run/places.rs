//! Warnings about the locations that a query writes to.

use super::Job;
use crate::Result;
use crate::storage::Location;

/// At most this many folders above a location are examined.
const LEVELS: usize = 8;

/// Warnings about locations where rows are less safe than the user may think.
pub(super) async fn warnings(job: &Job) -> Result<Vec<String>> {
    let mut out = vec![];
    let tables: Vec<&Location> = job.flow.places().map(|(_, location)| location).collect();
    for (what, location) in tables.iter().map(|l| ("table", *l)).chain([("checkpoint", &job.flow.checkpoint)]) {
        // Nothing above such a folder can be read, and the catalog makes sure that no table is inside a different table.
        if location.is_bounded() {
            continue;
        }
        if let Some(outer) = inside_a_table(location).await? {
            out.push(format!(
                "the {what} {} is inside the folder of the table {outer}. A VACUUM of that table would delete the {what}'s files. Move the {what} \
                 out of that folder.",
                location.display()
            ));
        }
    }
    for location in tables.iter().chain([&&job.flow.checkpoint]) {
        if let Some(what) = location.mount() {
            out.push(format!(
                "{}: {what} does not have put-if-absent. single_writer=True promises that no other run and no other program writes there at the same \
                 time. If one does, rows can be lost or written twice.",
                location.display()
            ));
        }
    }
    // This variable is set on every Databricks cluster.
    if std::env::var_os("DATABRICKS_RUNTIME_VERSION").is_some() {
        for location in tables.iter().filter(|l| l.is_local() && l.mount().is_none()) {
            out.push(format!(
                "{} is on the cluster's own disk. The disk is lost when the cluster ends. Use a cloud URL (s3://, abfss://, gs://).",
                location.display()
            ));
        }
    }
    Ok(out)
}

/// The table whose VACUUM would see the folder. VACUUM does not see names that begin with an underscore or a dot.
async fn inside_a_table(location: &Location) -> Result<Option<String>> {
    let mut at = location.clone();
    for _ in 0..LEVELS {
        let name = at.name();
        let Some(parent) = at.parent() else { return Ok(None) };
        if name.starts_with('_') || name.starts_with('.') {
            at = parent;
            continue;
        }
        if parent.has_any("_delta_log", |n| n.ends_with(".json") || n.ends_with(".parquet")).await.unwrap_or(false) {
            return Ok(Some(parent.display()));
        }
        at = parent;
    }
    Ok(None)
}
