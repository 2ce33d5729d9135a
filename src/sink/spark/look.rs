//! A table as Spark describes it, and its requirements for rows.

use super::ask::ask;
use super::{SparkOptions, SparkTable};
use crate::sink::Rows;
use crate::sink::delta::{Admission, Beside, Check, checks, columns_of, fingerprint};
use crate::{Error, Result};
use arrow::datatypes::SchemaRef;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
pub(super) struct Looked {
    /// The id of the Delta table.
    pub id: String,
    /// 0 where only the columns were asked for.
    pub version: u64,
    pub schema: SchemaRef,
    pub partition_by: Vec<String>,
    /// By application id, the newest epoch that the history shows.
    pub apps: BTreeMap<String, i64>,
    /// The history shows rows that no query of bayou wrote.
    pub others: bool,
    /// Columns and properties as Delta's metadata has them.
    pub metadata: Value,
    pub fingerprint: String,
}

#[derive(Deserialize)]
struct Answer {
    id: String,
    schema: Value,
    partition_by: Vec<String>,
    properties: BTreeMap<String, String>,
    features: Vec<String>,
    apps: BTreeMap<String, i64>,
    others: bool,
    #[serde(default)]
    version: u64,
}

/// `None`: there is no such table. `history`: also finds the writers of the table, which reads its whole history.
pub(super) async fn look(table: &SparkTable, history: bool) -> Result<Option<Looked>> {
    let found = ask(table, "look", json!({ "history": history })).await?;
    if found["exists"] != true {
        return Ok(None);
    }
    let place = table.describe();
    let a: Answer = serde_json::from_value(found).map_err(|e| Error::internal(format!("{place}: {e}")))?;
    let schema = columns_of(&a.schema).map_err(|e| e.context(&place))?;
    let text = a.schema.to_string();
    let properties: Vec<String> = a.properties.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let fingerprint = fingerprint(&[&text, &a.partition_by.join(","), &properties.join("\n"), &a.features.join(",")]);
    Ok(Some(Looked {
        id: a.id,
        version: a.version,
        schema,
        partition_by: a.partition_by,
        apps: a.apps,
        others: a.others,
        metadata: json!({ "schemaString": text, "configuration": a.properties }),
        fingerprint,
    }))
}

impl Looked {
    pub(super) fn beside<'a>(&'a self, rows: &'a Rows, options: &'a SparkOptions, place: &'a str) -> Beside<'a> {
        Beside {
            place,
            stream: &rows.schema,
            table: &self.schema,
            partitions: &self.partition_by,
            partition_by: &options.partition_by,
            merge_schema: options.merge_schema,
        }
    }

    /// The requirements of the table for rows.
    pub(super) fn admission(&self, rows: &Rows, place: &str) -> Result<Admission> {
        let checks: Vec<Check> = checks(&self.metadata);
        Admission::new(place, &rows.schema, &self.schema, &self.partition_by, &checks, self.fingerprint.clone())
    }
}
