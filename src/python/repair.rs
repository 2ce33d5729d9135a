//! `lake.repair()` and `bayou.repair()`.

use super::catalog;
use super::convert::{self, PathText};
use super::door;
use super::table::PyTable;
use crate::Error;
use crate::catalog::{Catalog, Of, Place, TableName};
use crate::flow::places::{self, Chosen, Places};
use crate::read::Rows;
use crate::run::repair;
use crate::storage::{Location, StorageOptions};
use arrow::array::*;
use pyo3::prelude::*;
use std::sync::Arc;

/// The rows of a sealed epoch that its tables refuse. `root` is the root of a pipeline. `target` is the target of a single table.
#[pyfunction]
#[pyo3(signature = (root, schema, target, query_name, checkpoint_location, storage_options, confirm))]
#[allow(clippy::too_many_arguments)]
fn _repair(
    py: Python<'_>,
    root: Option<String>,
    schema: Option<&str>,
    target: Option<&Bound<'_, PyAny>>,
    query_name: Option<String>,
    checkpoint_location: Option<PathText>,
    storage_options: Option<&Bound<'_, PyAny>>,
    confirm: bool,
) -> PyResult<PyTable> {
    let storage = super::storage::reading(storage_options)?;
    let at = checkpoint_location.map(|c| c.0);
    let chosen = Chosen { query_name: query_name.as_deref(), checkpoint_location: at.as_deref(), storage: &storage };
    let by_path = |storage: &StorageOptions| -> repair::Open {
        let storage = storage.clone();
        Box::new(move |_, at| {
            let storage = storage.clone();
            Box::pin(async move { Location::parse(&at, &storage) })
        })
    };
    let named = target.map(catalog::named).transpose()?.flatten();
    let (places, open) = match (root.clone(), schema, target, named) {
        (_, Some(schema), ..) => {
            let (schema, catalog) = catalog::schema(py, schema, &storage)?;
            let name = chosen.query_name.unwrap_or_default();
            let aside = schema.table(&places::quarantine_name(name))?;
            let place = root.map_or(Place::Root, Place::Below);
            in_catalog(py, catalog, (aside, place), name, chosen.checkpoint_location)?
        }
        (_, _, _, Some(table)) => {
            let catalog = catalog::connect(py, &storage, &table.to_string())?;
            let name = places::query_name(chosen.query_name, table.table.to_lowercase())?;
            let aside = table.beside(places::QUARANTINE_SUFFIX);
            let asked = catalog.clone();
            let at = door::run_async(py, async move { asked.to_write(&table, Place::Root).await })?;
            in_catalog(py, catalog, (aside, Place::Beside(at)), &name, chosen.checkpoint_location)?
        }
        (Some(root), ..) => {
            let root = Location::parse(&root, &storage)?;
            (Places::of_pipeline(&root, chosen.query_name.unwrap_or_default(), &chosen)?, by_path(&storage))
        }
        (_, _, Some(target), _) => {
            let at = Location::parse(&convert::path(target)?, &storage)?;
            (Places::of_table(&at, &chosen)?, by_path(&storage))
        }
        _ => return Err(Error::config("repair() needs the target").into()),
    };
    let Places { name, checkpoint, quarantine } = places;
    let place = repair::Place { checkpoint, quarantine, name, open };
    let clock = door::clock();
    let found = door::run_async(py, async move { repair::repair(&place, confirm, &clock).await })?;
    let text = |of: fn(&repair::RefusedRow) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(found.iter().map(of)))
    };
    let columns: Vec<(&str, ArrayRef)> =
        vec![("table", text(|r| &r.table)), ("error", text(|r| &r.error)), ("row", text(|r| &r.row))];
    let batch = RecordBatch::try_from_iter(columns).map_err(Error::from)?;
    Ok(PyTable::new(Rows { schema: batch.schema(), batches: vec![batch] }))
}

/// The places of a query whose tables are in Unity Catalog, and how they are opened by name.
fn in_catalog(
    py: Python<'_>,
    catalog: Arc<Catalog>,
    (aside, place): (TableName, Place),
    name: &str,
    checkpoint: Option<&str>,
) -> PyResult<(Places, repair::Open)> {
    let checkpoint = catalog::checkpoint(Some(&catalog), checkpoint, &[], &StorageOptions::new())?;
    let (asked, schema) = (catalog.clone(), aside.schema.clone());
    let quarantine = door::run_async(py, async move {
        if asked.kind(&aside).await? == Some(Of::Managed) {
            return Err(Error::config(format!(
                "repair() is for tables that bayou commits to, and {aside} is a MANAGED table, which Spark writes. If a table refuses rows of a sealed \
                 epoch because it was changed, undo that change and run the query again."
            )));
        }
        asked.to_write(&aside, place).await
    })?;
    let open: repair::Open = Box::new(move |name, _| {
        let (catalog, schema) = (catalog.clone(), schema.clone());
        Box::pin(async move { catalog.to_write(&schema.table(&name)?, Place::Root).await })
    });
    Ok((Places::of_catalog(name, &checkpoint, quarantine.into()), open))
}

pub(super) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_repair, m)?)
}
