//! Joined Delta tables. A table is read again when its version has changed.
//!
//! The version is looked up when an epoch begins. It is used for the whole epoch and is recorded in the epoch's seal.

use crate::engine::{Engine, Held, Step};
use crate::flow::static_join::{StaticJoin, StaticSide};
use crate::sink::delta;
use crate::storage::Location;
use crate::transform::StaticTable;
use crate::{Error, Result, read};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;

fn gone(at: &Location) -> Error {
    Error::storage(format!("{}: the join needs a Delta table here, and there is none", at.display()))
}

/// The columns of a joined Delta table.
pub async fn delta_schema(at: Location) -> Result<SchemaRef> {
    let (_, schema) = delta::look_up(&at).await?.ok_or_else(|| gone(&at))?;
    Ok(read::plain(&schema, vec![])?.schema)
}

/// Reads the Delta tables whose version has changed.
pub fn refresh(engine: &mut Engine, runtime: &tokio::runtime::Handle) -> Result<()> {
    for node in 0..engine.plan.nodes.len() {
        let Step::StaticJoin(join) = &engine.plan.nodes[node].step else { continue };
        let StaticSide::Delta(at) = &join.side else { continue };
        let (join, at) = (join.clone(), at.clone());
        let (version, _) = runtime.block_on(delta::look_up(&at))?.ok_or_else(|| gone(&at))?;
        if engine.statics[node].as_ref().is_some_and(|h| h.version == version) {
            continue;
        }
        let rows = runtime.block_on(read::table(at.clone(), version))?;
        let table = StaticTable::build(&join.spec, &conform(&join, &rows, &at)?)?;
        engine.statics[node] = Some(Held { table, version });
    }
    Ok(())
}

/// The table's rows, in the columns that the join was written for.
fn conform(join: &StaticJoin, rows: &read::Rows, at: &Location) -> Result<RecordBatch> {
    let all = concat_batches(&rows.schema, &rows.batches)?;
    let column = |f: &arrow::datatypes::FieldRef| match all.column_by_name(f.name()) {
        Some(c) if c.data_type() == f.data_type() => Ok(c.clone()),
        found => Err(Error::schema(format!(
            "{}: the joined table's column '{}' was {} when the stream was written, and is {} now. Write the join again for the new column.",
            at.display(),
            f.name(),
            crate::expr::type_to_ddl(f.data_type()),
            found.map_or("gone".into(), |c| crate::expr::type_to_ddl(c.data_type()))
        ))),
    };
    let columns = join.table.fields().iter().map(column).collect::<Result<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(all.num_rows()));
    Ok(RecordBatch::try_new_with_options(join.table.clone(), columns, &options)?)
}
