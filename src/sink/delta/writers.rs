//! Finds the writers of a table: the transactions in its log, and commits of rows that no query of bayou made.

use super::check::Entry;
use super::{Table, within};
use crate::sink::Writers;
use crate::storage::Location;
use crate::{Error, Result};
use arrow::array::{Array, AsArray};
use bytes::Bytes;
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

impl Table {
    /// Whether the table has any rows in the version of the last check.
    pub(super) async fn any_rows(&self) -> Result<bool> {
        let state = self.snapshot()?;
        let log = self.table.log_store();
        let mut files = state.snapshot().file_views(log.as_ref(), None);
        Ok(within(&self.spec.location, "listing the table's files", files.try_next()).await?.is_some())
    }
}

/// Reads the whole existing log: for a first run, and before a table is emptied.
pub(super) async fn writers(location: &Location) -> Result<Writers> {
    let mut out = Writers::default();
    let names = location.list("_delta_log").await?;
    let version = |name: &str| name.get(..20)?.parse::<u64>().ok();
    let checkpoints =
        || names.iter().filter(|n| n.contains(".checkpoint.") && n.ends_with(".parquet") && !n.contains('/'));
    let newest = checkpoints().filter_map(|n| version(n)).max();
    for name in checkpoints().filter(|n| version(n) == newest) {
        let file = format!("_delta_log/{name}");
        let Some(bytes) = location.get(&file).await? else { continue };
        let apps = apps_of(bytes.into()).map_err(|e| Error::storage(format!("{}{file}: {e}", location.display())))?;
        out.apps.extend(apps);
    }
    for name in names.iter().filter(|n| n.ends_with(".json") && n.len() == 25) {
        let Some(bytes) = location.get(&format!("_delta_log/{name}")).await? else { continue };
        let found = Entry::parse(&bytes);
        out.others |= found.adds_data && !found.apps.iter().any(|a| a.starts_with("bayou/"));
        out.apps.extend(found.apps);
    }
    Ok(out)
}

/// The application ids in a checkpoint of the log. Only that column is read.
fn apps_of(file: Bytes) -> std::result::Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let Some(txn) = builder.schema().fields().iter().position(|f| f.name() == "txn") else { return Ok(vec![]) };
    let mask = ProjectionMask::roots(builder.parquet_schema(), [txn]);
    let mut out = vec![];
    for batch in builder.with_projection(mask).build()? {
        let batch = batch?;
        let Some(txn) = batch.column(0).as_struct_opt() else { continue };
        let Some(ids) = txn.column_by_name("appId").and_then(|c| c.as_string_opt::<i32>().cloned()) else { continue };
        out.extend((0..ids.len()).filter(|i| txn.is_valid(*i) && ids.is_valid(*i)).map(|i| ids.value(i).to_string()));
    }
    Ok(out)
}
