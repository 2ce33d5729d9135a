//! The files that a table gained between two of its versions, for readers that hold the older version.

use super::files::{Batches, read_columns};
use super::fit::find;
use super::merge::conform;
use super::tail::commit_name;
use crate::storage::Location;
use crate::{Error, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use deltalake::kernel::Add;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde::Deserialize;
use std::sync::Arc;

/// More commits than this are not read one by one.
const COMMITS: u64 = 200;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    add: Option<Add>,
    remove: Option<Removed>,
    meta_data: Option<serde::de::IgnoredAny>,
    protocol: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Removed {
    data_change: bool,
}

/// A file that a commit added.
pub(crate) struct Added(Add);

/// The files that were added since `from`, if nothing else has changed the rows since. The rows of `to` are then the rows of
/// `from` and the rows of these files. None: the whole table must be read again. Compaction changes no rows.
pub(crate) async fn added(location: &Location, from: u64, to: u64) -> Result<Option<Vec<Added>>> {
    if to <= from || to - from > COMMITS {
        return Ok(None);
    }
    let mut out = vec![];
    for version in from + 1..=to {
        let Some(bytes) = location.get(&commit_name(version)).await? else { return Ok(None) };
        for line in serde_json::Deserializer::from_slice(&bytes).into_iter::<Line>() {
            let Ok(line) = line else { return Ok(None) };
            if line.meta_data.is_some() || line.protocol.is_some() || line.remove.is_some_and(|r| r.data_change) {
                return Ok(None);
            }
            if let Some(add) = line.add.filter(|a| a.data_change) {
                if add.deletion_vector.is_some() {
                    return Ok(None);
                }
                out.push(Added(add));
            }
        }
    }
    Ok(Some(out))
}

/// The rows of a file of a table.
pub(crate) struct AddedRows {
    batches: Batches,
    schema: SchemaRef,
    file: Add,
    place: String,
}

/// Opens a file, to read some of its table's columns.
pub(crate) async fn read_added(location: &Location, file: &Added, columns: &Schema) -> Result<AddedRows> {
    let file = &file.0;
    let place = format!("{}: reading {}", location.display(), file.path);
    let path = Path::parse(&file.path).unwrap_or_else(|_| Path::from(file.path.as_str()));
    let store = location.log_store().object_store(None);
    let reading = async { store.get(&path).await?.bytes().await };
    let bytes = match tokio::time::timeout(location.timeout(), reading).await {
        Ok(bytes) => bytes.map_err(|e| Error::storage(format!("{place}: {e}")))?,
        Err(_) => return Err(Error::storage(format!("{place}: it took too long"))),
    };
    let wanted = |name: &str| find(columns.fields(), name).is_some();
    let batches = read_columns(bytes, 1 << 16, wanted).map_err(|e| Error::storage(format!("{place}: {e}")))?;
    let fields: Vec<Field> = columns.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    Ok(AddedRows { batches, schema: Arc::new(Schema::new(fields)), file: file.clone(), place })
}

impl Iterator for AddedRows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        let batch = self.batches.next()?.map_err(|e| Error::storage(format!("{}: {e}", self.place)));
        Some(batch.and_then(|b| conform(&b, &self.schema, &self.file.partition_values)))
    }
}
