//! The parts of Delta for a sink that hands its rows to a different engine: data files in a folder that is not a table,
//! the columns of a table from its JSON, and which tables bayou cannot commit to itself.

use super::check::unwritable;
use super::commit::waiting;
use super::files::{FileWriter, Properties};
use super::stage::{Files, in_columns_of};
use crate::sink::{Part, WaitingFile};
use crate::storage::Location;
use crate::time::SharedClock;
use crate::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use deltalake::kernel::StructType;
use deltalake::kernel::engine::arrow_conversion::TryIntoArrow;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The columns of a table, from the JSON that Delta and Spark have for them.
pub(in crate::sink) fn columns_of(schema: &Value) -> Result<SchemaRef> {
    let kernel: StructType =
        serde_json::from_value(schema.clone()).map_err(|e| Error::schema(format!("the table's columns: {e}")))?;
    let columns: Schema = (&kernel).try_into_arrow()?;
    Ok(Arc::new(columns))
}

fn properties(at: &Location, schema: &SchemaRef, clock: &SharedClock) -> Result<Properties> {
    Properties::new(at.prefixed(), schema.clone(), &[], clock.clone())
}

/// Rows that become data files in the folder `at`, whatever the partitions of the table.
pub(in crate::sink) fn files(
    at: &Location,
    schema: &SchemaRef,
    place: &str,
    clock: &SharedClock,
    runtime: &tokio::runtime::Handle,
) -> Result<Box<dyn Part>> {
    Ok(Box::new(Files::new(properties(at, schema, clock)?, place.into(), runtime.clone())))
}

/// Data files of these rows.
pub(in crate::sink) async fn write(
    at: &Location,
    schema: &SchemaRef,
    clock: &SharedClock,
    rows: &[RecordBatch],
) -> Result<Vec<WaitingFile>> {
    let mut writer = FileWriter::new(properties(at, schema, clock)?);
    for batch in rows.iter().filter(|b| b.num_rows() > 0) {
        writer.write(&in_columns_of(schema, batch)?).await?;
    }
    writer.close().await?.iter().map(waiting).collect()
}

/// The rows of a data file.
pub(in crate::sink) async fn read(at: &Location, name: &str) -> Result<Vec<RecordBatch>> {
    let failed = |e: &dyn std::fmt::Display| Error::storage(format!("{}{name}: {e}", at.display()));
    let bytes = at.get(name).await?.ok_or_else(|| failed(&"the file is gone"))?;
    super::files::read(bytes.into()).map_err(|e| failed(&e))?.map(|b| b.map_err(|e| failed(&e))).collect()
}

/// The feature of a table, found in its features and properties, because of which bayou cannot commit to it.
pub(crate) fn not_by_bayou(features: &[String], properties: &BTreeMap<String, String>) -> Option<String> {
    let pairs = properties.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    unwritable(features.iter().map(String::as_str), pairs)
}
