//! One table in the catalog, and the credentials that reach it.

use super::denied::Asked;
use super::name::TableName;
use super::rest::{Answer, Repeat};
use super::{Catalog, Found, ROOT, columns, found, is_cloud};
use crate::storage::{self, About, Location, Registered, Registry, crash};
use crate::{Error, Kind, Result};
use async_trait::async_trait;
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;

/// How often a table is registered if the outcome is not known. After each attempt, the catalog is asked whether it has the table.
const TRIES: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    Write,
}

pub(super) struct Entry {
    catalog: Arc<Catalog>,
    name: TableName,
    /// In the form that `normal` returns.
    location: String,
    what: Use,
    /// `None`: the catalog does not have the table yet.
    known: Mutex<Option<Found>>,
}

impl Entry {
    /// The table's location. Its store asks for the credentials when the store is first used.
    pub(super) fn open(
        catalog: &Arc<Catalog>,
        name: &TableName,
        location: String,
        known: Option<Found>,
        what: Use,
    ) -> Result<Location> {
        let entry = Arc::new(Self {
            catalog: catalog.clone(),
            name: name.clone(),
            location: location.clone(),
            what,
            known: Mutex::new(known),
        });
        let place = |e: Error| e.context(name);
        let at = match &catalog.own {
            Some(own) => Location::parse(&location, own).map_err(place)?,
            None if !is_cloud(&location) => Location::parse(&location, &catalog.local()).map_err(place)?,
            None => {
                let asking = entry.clone();
                let ask = move || asking.catalog.runtime.block_on(asking.credentials());
                catalog.vended(&location, Box::new(ask)).map_err(place)?
            }
        };
        Ok(at.entered(entry))
    }

    /// The credentials for the path of a table that is not registered yet.
    async fn credentials(&self) -> Result<storage::Answer> {
        let id = self.known.lock().as_ref().map(|k| k.id.clone());
        match id {
            Some(id) => {
                let (operation, asked) = match self.what {
                    Use::Read => ("READ", Asked::Read(&self.name)),
                    Use::Write => ("READ_WRITE", Asked::Write(&self.name)),
                };
                let body = json!({ "table_id": id, "operation": operation });
                self.catalog.vend("temporary-table-credentials", &body, asked).await
            }
            None => {
                let body = json!({ "url": self.location, "operation": "PATH_CREATE_TABLE" });
                let asked = Asked::Path { url: &self.location, new: true };
                self.catalog.vend("temporary-path-credentials", &body, asked).await
            }
        }
    }

    fn body(&self, about: &About) -> Value {
        let mut out = json!({
            "name": self.name.table,
            "catalog_name": self.name.schema.catalog,
            "schema_name": self.name.schema.schema,
            "table_type": "EXTERNAL",
            "data_source_format": "DELTA",
            "storage_location": self.location,
            "columns": columns::columns(&about.schema, &about.partition_by),
            "properties": about.properties,
        });
        if let Some(comment) = &about.comment {
            out["comment"] = comment.as_str().into();
        }
        out
    }

    /// Accepts the catalog's table, if it is this query's table.
    fn adopt(&self, body: Found) -> Result<()> {
        body.check_writable(&self.name)?;
        if body.location != self.location {
            return Err(Error::config(format!(
                "{}: a different client has created the table at {} meanwhile, and this query's table is at {}. Write to a table with a different \
                 name, or drop one of the two tables.",
                self.name, body.location, self.location
            )));
        }
        *self.known.lock() = Some(body);
        Ok(())
    }

    /// Notes about an entry that does not show all of the table.
    fn notes(&self, about: &About) -> Vec<String> {
        let known = self.known.lock().as_ref().map(|k| k.columns.clone()).unwrap_or_default();
        let missing = columns::missing(&known, &about.schema);
        match missing.is_empty() {
            true => vec![],
            false => vec![format!(
                "{}: Unity Catalog does not show the column{} {} yet. On Databricks, this statement adds them: MSCK REPAIR TABLE {} SYNC METADATA;",
                self.name,
                if missing.len() == 1 { "" } else { "s" },
                missing.join(", "),
                self.name.sql()
            )],
        }
    }
}

#[async_trait]
impl Registry for Entry {
    fn name(&self) -> String {
        self.name.to_string()
    }

    fn registered(&self) -> Option<Registered> {
        let known = self.known.lock();
        let known = known.as_ref()?;
        Some(Registered { name: self.name.dotted(), table_id: known.id.clone(), location: known.location.clone() })
    }

    async fn register(&self, about: About) -> Result<Vec<String>> {
        if self.what == Use::Read || self.registered().is_some() {
            return Ok(self.notes(&about));
        }
        let (path, body) = (format!("{ROOT}/tables"), self.body(&about));
        let mut last = None;
        for _ in 0..TRIES {
            crash::pass(&format!("register:{}", self.name.table), "before");
            let asked = Asked::Create(&self.name, &self.location);
            match self.catalog.rest.ask(Method::POST, &path, Some(&body), Repeat::No).await {
                Ok(Answer::Good { body, .. }) => {
                    crash::pass(&format!("register:{}", self.name.table), "after");
                    self.adopt(found(&body))?;
                    return Ok(vec![]);
                }
                Ok(Answer::Refused { status, code, message }) if status == 409 || code.contains("ALREADY_EXISTS") => {
                    let e = Error::config(format!("{}: {message} ({status} {code})", self.name));
                    last = Some(e);
                }
                Ok(Answer::Refused { status, code, message }) => {
                    return Err(self.catalog.refused(asked, status, &code, &message).await);
                }
                // The table may have been registered.
                Err(e) if e.kind == Kind::Connection => last = Some(e),
                Err(e) => return Err(e),
            }
            if let Some(there) = self.catalog.find(&self.name).await? {
                self.adopt(there)?;
                return Ok(self.notes(&about));
            }
        }
        Err(last.unwrap_or_else(|| Error::storage(format!("{}: Unity Catalog did not create the table", self.name))))
    }
}
