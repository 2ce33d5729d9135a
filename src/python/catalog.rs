//! Targets that are names of Unity Catalog, and the login for requests to the catalog.

use super::{convert, door, functions, guard};
use crate::catalog::{AskHeaders, Catalog, Identity, SchemaName, TableName};
use crate::storage::{Location, StorageOptions};
use crate::{Error, Result};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;

/// The table that a target names. Only a text can be a name: a `pathlib.Path` is always a path.
pub(super) fn named(target: &Bound<'_, PyAny>) -> PyResult<Option<TableName>> {
    let found = named_anywhere(target)?;
    if let Some(name) = &found {
        name.schema.check_inside(name)?;
    }
    Ok(found)
}

/// As `named`, also of a table outside Unity Catalog, which only Spark knows.
pub(super) fn named_anywhere(target: &Bound<'_, PyAny>) -> PyResult<Option<TableName>> {
    match target.extract::<String>() {
        Ok(text) => Ok(TableName::parse(&text)?),
        Err(_) => Ok(None),
    }
}

/// The catalog, if there is a login.
pub(super) fn connect_if(py: Python<'_>, storage: &StorageOptions) -> PyResult<Option<Arc<Catalog>>> {
    let identity = match Identity::find(storage.fixed())? {
        Some(identity) => Some(identity),
        None => login(py, storage).ok().flatten(),
    };
    let open = |identity| Catalog::new(identity, storage, door::clock(), door::runtime()?);
    Ok(identity.map(open).transpose()?)
}

/// The catalog, by the login of `storage_options=`, of the environment, or of databricks-sdk. `what`: the name that the user gave, for errors.
pub(super) fn connect(py: Python<'_>, storage: &StorageOptions, what: &str) -> PyResult<Arc<Catalog>> {
    let nobody = |why: &str| {
        let folder = match what.contains("schema=") {
            true => String::new(),
            false => format!(" For a folder of that name write \"./{what}\"."),
        };
        Error::config(format!(
            "'{what}' is in Unity Catalog, and there is no login. Set DATABRICKS_HOST and DATABRICKS_TOKEN (or DATABRICKS_CLIENT_ID and \
             DATABRICKS_CLIENT_SECRET), or give storage_options={{\"databricks_host\": …, \"databricks_token\": …}}, or install databricks-sdk \
             and configure it{why}.{folder}"
        ))
    };
    let identity = match Identity::find(storage.fixed())? {
        Some(identity) => identity,
        None => match login(py, storage) {
            Ok(Some(identity)) => identity,
            Ok(None) => return Err(nobody("").into()),
            Err(e) => {
                let said = e.value(py).to_string();
                let said = said.lines().next().unwrap_or_default().trim_end_matches('.');
                return Err(nobody(&format!(" (databricks-sdk has no login: {said})")).into());
            }
        },
    };
    Ok(Catalog::new(identity, storage, door::clock(), door::runtime()?)?)
}

/// The login of databricks-sdk; in a notebook, the notebook's own.
fn login(py: Python<'_>, storage: &StorageOptions) -> PyResult<Option<Identity>> {
    let host =
        storage.fixed().iter().find(|(name, _)| name.eq_ignore_ascii_case("databricks_host")).map(|(_, v)| v.clone());
    let found = guard::method(&guard::import(py, "bayou._databricks")?, "login", (host,))?;
    if found.is_none() {
        return Ok(None);
    }
    let (host, authenticate) = found.extract::<(String, Py<PyAny>)>()?;
    let ask: AskHeaders = Arc::new(move || {
        functions::enter(|py| {
            let failed = |e: PyErr| Error::auth(format!("the login of databricks-sdk failed: {}", e.value(py)));
            let headers = guard::call(authenticate.bind(py), &pyo3::types::PyTuple::empty(py)).map_err(failed)?;
            let dict = PyDict::new(py);
            dict.update(headers.cast::<pyo3::types::PyMapping>().map_err(|e| Error::auth(e.to_string()))?)
                .map_err(failed)?;
            convert::string_map(Some(dict.as_any()), "headers").map_err(failed)
        })
        .and_then(|headers| headers)
    });
    Ok(Some(Identity::asked(&host, ask)?))
}

/// Whether only Spark knows the schema, or can be asked for it: it is outside Unity Catalog, or a session is given and there is no login.
pub(super) fn only_by_spark(
    py: Python<'_>,
    name: &SchemaName,
    given: bool,
    storage: &StorageOptions,
) -> PyResult<bool> {
    Ok(name.is_outside() || given && connect_if(py, storage)?.is_none())
}

/// A table for reading: a name, a path or a URL.
pub(super) fn to_read(py: Python<'_>, target: &Bound<'_, PyAny>, storage: &StorageOptions) -> PyResult<Location> {
    match named(target)? {
        None => Ok(Location::parse(&convert::path(target)?, storage)?),
        Some(name) => {
            let catalog = connect(py, storage, &name.to_string())?;
            door::run_async(py, async move { catalog.to_read(&name).await })
        }
    }
}

/// The schema of a pipeline.
pub(super) fn schema(py: Python<'_>, text: &str, storage: &StorageOptions) -> PyResult<(SchemaName, Arc<Catalog>)> {
    let name = SchemaName::parse(text)?;
    name.check_inside(text)?;
    let catalog = connect(py, storage, &format!("schema=\"{name}\""))?;
    Ok((name, catalog))
}

/// The checkpoint of a query whose tables are in a catalog.
pub(super) fn checkpoint(
    catalog: Option<&Arc<Catalog>>,
    given: Option<&str>,
    tables: &[&Location],
    storage: &StorageOptions,
) -> Result<Location> {
    let given = given.ok_or_else(|| {
        Error::config(
            "a query that writes to Unity Catalog needs checkpoint_location=: a folder of its own, outside the tables, for example \
             checkpoint_location=\"s3://bucket/checkpoints\" (below an external location)",
        )
    })?;
    match catalog {
        Some(catalog) => catalog.folder(given, tables),
        None => Location::parse(given, storage),
    }
}
