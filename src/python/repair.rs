//! `lake.repair()` and `bayou.repair()`.

use super::convert::{self, PathText};
use super::door;
use super::table::PyTable;
use crate::Error;
use crate::flow::places::{Chosen, Places};
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
    let storage = super::storage::options(storage_options)?;
    let at = checkpoint_location.map(|c| c.0);
    let chosen = Chosen { query_name: query_name.as_deref(), checkpoint_location: at.as_deref(), storage: &storage };
    let places = match (root, target) {
        (Some(root), _) => {
            Places::of_pipeline(&Location::parse(&root, &storage)?, chosen.query_name.unwrap_or_default(), &chosen)?
        }
        (None, Some(target)) => Places::of_table(&Location::parse(&convert::path(target)?, &storage)?, &chosen)?,
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
