//! `lake.repair()` and `bayou.repair()`.

use super::convert::{self, PathText};
use super::door;
use super::query::{Places, WriteOptions, places};
use super::table::PyTable;
use crate::Error;
use crate::flow::Trigger;
use crate::read::Rows;
use crate::run::repair;
use crate::storage::Location;
use arrow::array::*;
use pyo3::prelude::*;
use std::sync::Arc;

/// The rows of a sealed epoch that its tables refuse. `root` is the root of a pipeline. `target` is the target of a single table.
#[pyfunction]
#[pyo3(signature = (root, target, query_name, checkpoint_location, storage_options, confirm))]
fn _repair(
    py: Python<'_>,
    root: Option<String>,
    target: Option<&Bound<'_, PyAny>>,
    query_name: Option<String>,
    checkpoint_location: Option<PathText>,
    storage_options: Option<&Bound<'_, PyAny>>,
    confirm: bool,
) -> PyResult<PyTable> {
    let storage = convert::string_map(storage_options, "storage_options")?;
    let options = WriteOptions {
        query_name,
        trigger: Trigger::AvailableNow,
        checkpoint_location: checkpoint_location.map(|c| c.0),
        storage_options: storage.clone(),
        full_refresh: false,
        accept_changes: false,
        close_windows: false,
        memory_limit: None,
        optimize_every: None,
        clean_log: None,
    };
    let places = match (root, target) {
        (Some(root), _) => {
            let at = Location::parse(&root, &storage)?;
            let name = options.query_name.clone().unwrap_or_default();
            let checkpoint = match &options.checkpoint_location {
                Some(c) => Location::parse(c, &storage)?.join(&name),
                None => at.join("_bayou").join(&name),
            };
            let quarantine = at.join(&format!("{name}_quarantine"));
            Places { name, checkpoint, quarantine }
        }
        (None, Some(target)) => places(&Location::parse(&convert::path(target)?, &storage)?, &options)?,
        (None, None) => return Err(Error::config("repair() needs the target").into()),
    };
    let Places { name, checkpoint, quarantine } = places;
    let place = repair::Place { checkpoint, quarantine, name, options: storage };
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

pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(_repair, m)?)
}
