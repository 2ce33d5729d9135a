//! Checks before writing: features that bayou cannot write, and changes of others since the last commit.

use super::admission::Check;
use super::commit::NONCE;
use super::schema::checks;
use super::{OutputMode, Table};
use crate::{Error, Result};
use serde_json::Value;

/// Writer features that a commit of plain Add and Remove actions respects.
const WRITABLE: [&str; 9] = [
    "appendOnly",
    // Evaluated for each row before the seal.
    "checkConstraints",
    "deletionVectors",
    "v2Checkpoint",
    "vacuumProtocolCheck",
    "timestampNtz",
    "changeDataFeed",
    "invariants",
    "domainMetadata",
];

/// The feature of a table that bayou cannot commit to, as messages name it.
pub(super) fn unwritable<'a>(
    mut features: impl Iterator<Item = &'a str>,
    mut properties: impl Iterator<Item = (&'a str, &'a str)>,
) -> Option<String> {
    if let Some(feature) = features.find(|f| !WRITABLE.contains(f)) {
        return Some(format!("the Delta feature '{feature}'"));
    }
    let is_mapped = |(key, value): (&str, &str)| {
        key == "delta.columnMapping.mode" && !value.eq_ignore_ascii_case("false") && value != "none"
    };
    properties.any(is_mapped).then(|| "column mapping".into())
}

/// The remedy for a table that bayou cannot commit to.
const THROUGH_SPARK: &str = "Write to a table without it. Or give the table a name in Unity Catalog, and let Spark write it: \
     write_delta(\"catalog.schema.table\", spark=spark, …).";

impl Table {
    /// Refuses tables with a feature that a plain commit would violate, with the name of the feature. Returns the
    /// constraints for rows.
    pub(super) fn check_usable(&self) -> Result<Vec<Check>> {
        let place = self.spec.location.display();
        let snapshot = self.snapshot()?;
        let protocol = serde_json::to_value(snapshot.protocol()).unwrap_or_default();
        let features = protocol.get("writerFeatures").and_then(Value::as_array).cloned().unwrap_or_default();
        let refused = |what: String, instead: &str| {
            Err(Error::storage(format!("{place}: the table uses {what}, which bayou cannot write. {instead}")))
        };
        let metadata = serde_json::to_value(snapshot.metadata()).unwrap_or_default();
        let configuration = metadata.get("configuration").and_then(Value::as_object).cloned().unwrap_or_default();
        let texts = configuration.iter().filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)));
        if let Some(what) = unwritable(features.iter().filter_map(Value::as_str), texts) {
            return refused(what, THROUGH_SPARK);
        }
        for (key, value) in &configuration {
            let on = value.as_str().is_some_and(|v| !v.eq_ignore_ascii_case("false") && v != "none");
            if key == "delta.enableDeletionVectors" && on && self.spec.mode == OutputMode::Update {
                return refused("deletion vectors".into(), "Use a different table for output_mode=\"update\".");
            }
            if key == "delta.appendOnly"
                && value.as_str().is_some_and(|v| v.eq_ignore_ascii_case("true"))
                && self.spec.mode != OutputMode::Append
            {
                return refused("delta.appendOnly".into(), "Use output_mode=\"append\".");
            }
        }
        let schema = metadata.get("schemaString").and_then(Value::as_str).unwrap_or_default();
        for (key, what) in
            [("delta.generationExpression", "generated columns"), ("delta.identity.start", "identity columns")]
        {
            if schema.contains(&format!("\"{key}\"")) {
                return refused(what.into(), "Write to a table without them.");
            }
        }
        let checks = checks(&metadata);
        // The invariants of nested fields are not among these checks.
        if schema.matches("\"delta.invariants\"").count()
            > checks.iter().filter(|c| c.name.starts_with("invariant of ")).count()
        {
            return refused("column invariants".into(), "Write to a table without them.");
        }
        Ok(checks)
    }

    /// Reads the commits after `known` up to the loaded version. Refuses changes that would make the table disagree
    /// with the log of epochs. `app` marks our own commits; epoch `txn` of them is known to be in the table.
    pub(super) async fn check_others(&self, known: u64, txn: Option<i64>, app: &str, accept: bool) -> Result<()> {
        let place = self.spec.location.display();
        let now = self.version();
        if now < known {
            return Err(Error::data_loss(format!(
                "{place}: the table is at version {now}, but bayou has committed version {known}. The table was \
                 recreated, or its log was truncated. Use a different table, or start over with full_refresh=True."
            )));
        }
        if accept {
            return Ok(());
        }
        let held = self.transaction(app).await?;
        if held < txn {
            return Err(Error::data_loss(format!(
                "{place}: epoch {} had been committed, but the table's log now has {}: its newest commits are empty \
                 or truncated (a power cut?), or an older copy replaced it. Restore the newer log, or start over \
                 with full_refresh=True, or run with accept_changes=True to continue without what is missing.",
                txn.unwrap_or_default(),
                held.map_or("none".to_string(), |n| format!("epoch {n}")),
            )));
        }
        for version in known + 1..=now {
            let Some(found) = self.entry(version).await? else {
                return Err(Error::data_loss(format!(
                    "{place}: version {version} of the table's log was cleaned up before this query has seen it, so bayou does not know whether this \
                     version changed rows that bayou had written. If the version did not change such rows, run with accept_changes=True."
                )));
            };
            if found.apps.iter().any(|a| a == app) {
                continue;
            }
            let harmless = match self.spec.mode {
                OutputMode::Append => !found.removes_data,
                OutputMode::Update | OutputMode::Complete => !found.removes_data && !found.adds_data,
            };
            if !harmless {
                let owner = match self.spec.mode {
                    OutputMode::Append => "which removed rows that bayou had written",
                    OutputMode::Update | OutputMode::Complete => "and in this mode only bayou may write to the table",
                };
                return Err(Error::data_loss(format!(
                    "{place}: version {version} was a {} by a different writer, {owner}. Undo that change, or run with accept_changes=True to \
                     continue with the table as it is, or start over with full_refresh=True.",
                    found.operation
                )));
            }
        }
        Ok(())
    }
}

/// The effects of a commit that matter here.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    pub operation: String,
    pub apps: Vec<String>,
    pub txns: Vec<(String, i64)>,
    /// It changes the schema, the properties or the protocol of the table.
    pub is_new_table: bool,
    /// It is empty, or ends in the middle.
    pub is_damaged: bool,
    pub adds_data: bool,
    pub removes_data: bool,
    /// The nonce of the seal that it commits.
    pub nonce: Option<String>,
}

impl Entry {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut out = Self { operation: "change".into(), ..Self::default() };
        out.is_damaged = bytes.iter().all(u8::is_ascii_whitespace);
        for action in serde_json::Deserializer::from_slice(bytes).into_iter::<Value>() {
            let Ok(action) = action else {
                out.is_damaged = true;
                break;
            };
            let changes = |a: &Value| a.get("dataChange").and_then(Value::as_bool).unwrap_or(true);
            if let Some(info) = action.get("commitInfo") {
                if let Some(op) = info.get("operation").and_then(Value::as_str) {
                    out.operation = op.to_string();
                }
                out.nonce = info.get(NONCE).and_then(Value::as_str).map(str::to_string);
            } else if let Some(txn) = action.get("txn") {
                let app = txn.get("appId").and_then(Value::as_str).unwrap_or_default();
                out.apps.push(app.to_string());
                out.txns.extend(txn.get("version").and_then(Value::as_i64).map(|v| (app.to_string(), v)));
            } else if action.get("metaData").is_some() || action.get("protocol").is_some() {
                out.is_new_table = true;
            } else if let Some(add) = action.get("add") {
                out.adds_data |= changes(add);
            } else if let Some(remove) = action.get("remove") {
                out.removes_data |= changes(remove);
            }
        }
        // RESTORE adds old files and removes newer ones, or does only one of the two.
        if out.operation.eq_ignore_ascii_case("RESTORE") {
            out.removes_data = true;
        }
        out
    }
}
