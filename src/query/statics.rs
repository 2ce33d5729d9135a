//! Tables that rows are joined with: at hand, or Delta tables that are read again when their version has changed.
//!
//! A version is looked up when an epoch begins, holds for the whole epoch, and is sealed with it.

use super::engine::Engine;
use super::plan::Step;
use crate::sink::delta;
use crate::storage::Location;
use crate::transform::{StaticJoinSpec, StaticTable};
use crate::{Error, Result, read};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use std::collections::BTreeMap;

/// Where a joined table comes from.
#[derive(Clone)]
pub enum StaticSide {
    Rows { rows: RecordBatch, identity: String },
    Delta(Location),
}

impl StaticSide {
    pub fn describe(&self) -> String {
        match self {
            Self::Rows { rows, .. } => format!("{} rows at hand", rows.num_rows()),
            Self::Delta(at) => format!("the Delta table {}", at.display()),
        }
    }
    pub fn identity(&self) -> &str {
        match self {
            Self::Rows { identity, .. } => identity,
            Self::Delta(at) => at.url().as_str(),
        }
    }
}

pub struct StaticJoin {
    pub spec: StaticJoinSpec,
    pub side: StaticSide,
    /// The table's columns when the join was written down.
    pub table: SchemaRef,
}

/// A joined table as it is now.
pub struct Held {
    pub table: StaticTable,
    pub version: Option<u64>,
}

impl StaticJoin {
    /// None while a Delta table was not read yet.
    pub fn at_hand(&self) -> Result<Option<Held>> {
        match &self.side {
            StaticSide::Rows { rows, .. } => {
                Ok(Some(Held { table: StaticTable::build(&self.spec, rows)?, version: None }))
            }
            StaticSide::Delta(_) => Ok(None),
        }
    }

    /// The rows in the columns that the join was written for.
    fn conform(&self, rows: &read::Rows, at: &Location) -> Result<RecordBatch> {
        let all = concat_batches(&rows.schema, &rows.batches)?;
        let column = |f: &arrow::datatypes::FieldRef| match all.column_by_name(f.name()) {
            Some(c) if c.data_type() == f.data_type() => Ok(c.clone()),
            found => Err(Error::schema(format!(
                "{}: the joined table's column '{}' was {} when the stream was written, and is {} now. Write the join anew.",
                at.display(),
                f.name(),
                crate::expr::type_to_ddl(f.data_type()),
                found.map_or("gone".into(), |c| crate::expr::type_to_ddl(c.data_type()))
            ))),
        };
        let columns = self.table.fields().iter().map(column).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(all.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.table.clone(), columns, &options)?)
    }
}

fn gone(at: &Location) -> Error {
    Error::storage(format!("{}: there is no Delta table here to join with", at.display()))
}

/// The columns of a Delta table that is to be joined.
pub async fn delta_schema(at: Location) -> Result<SchemaRef> {
    let table = delta::open(&at).await?.ok_or_else(|| gone(&at))?;
    let state = table.snapshot().map_err(|e| Error::storage(e.to_string()))?;
    Ok(read::plain(&state.snapshot().arrow_schema(), vec![])?.schema)
}

/// Reads the Delta tables whose version has changed.
pub fn refresh(engine: &mut Engine, runtime: &tokio::runtime::Handle) -> Result<()> {
    for node in 0..engine.plan.nodes.len() {
        let Step::StaticJoin(join) = &engine.plan.nodes[node].step else { continue };
        let StaticSide::Delta(at) = &join.side else { continue };
        let (join, at) = (join.clone(), at.clone());
        let found = runtime.block_on(delta::open(&at))?.ok_or_else(|| gone(&at))?;
        let version = found.version();
        if engine.statics[node].as_ref().is_some_and(|h| h.version == version) {
            continue;
        }
        let rows = runtime.block_on(read::table(at.clone(), version))?;
        let table = StaticTable::build(&join.spec, &join.conform(&rows, &at)?)?;
        engine.statics[node] = Some(Held { table, version });
    }
    Ok(())
}

impl Engine {
    /// The versions of joined tables, as this epoch has seen them.
    pub fn static_versions(&self) -> BTreeMap<String, u64> {
        let mut out = BTreeMap::new();
        for (node, held) in self.plan.nodes.iter().zip(&self.statics) {
            if let (Step::StaticJoin(join), Some(Held { version: Some(v), .. })) = (&node.step, held)
                && let StaticSide::Delta(at) = &join.side
            {
                out.insert(at.display(), *v);
            }
        }
        out
    }
}
