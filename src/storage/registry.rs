//! The name of a store's folder in a catalog. The catalog itself is a different module, which implements the trait.

use crate::Result;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A table as a catalog knows it. The checkpoint keeps it, so that a different table of the same name is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    pub name: String,
    pub table_id: String,
    pub location: String,
}

/// The facts about a table that a catalog gets.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// `schemaString` of Delta's metadata.
    pub schema: serde_json::Value,
    pub partition_by: Vec<String>,
    pub comment: Option<String>,
    pub properties: BTreeMap<String, String>,
}

/// The entry of a table in a catalog.
#[async_trait]
pub trait Registry: Send + Sync {
    /// The table's name, as users write it.
    fn name(&self) -> String;

    /// `None`: the catalog does not have the table yet.
    fn registered(&self) -> Option<Registered>;

    /// Registers the table, which exists in the store by now. Returns notes for the user. An entry that exists already is no error if it belongs to
    /// this table.
    async fn register(&self, about: About) -> Result<Vec<String>>;
}
