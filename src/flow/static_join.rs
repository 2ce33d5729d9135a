//! Static joins: the tables that a stream's rows are joined with, as the user named them.

use super::source::Told;
use crate::Result;
use crate::storage::Location;
use crate::transform::StaticJoinSpec;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::sync::Arc;

/// A joined table that a different engine reads, because bayou may not read the table itself.
pub trait Foreign: Send + Sync {
    /// The table's name in its catalog.
    fn name(&self) -> &str;

    fn version(&self) -> Result<u64>;

    /// The columns of a version.
    fn columns(&self, version: u64) -> Result<SchemaRef>;

    /// The rows of a version, with these columns.
    fn read(&self, version: u64, columns: &[String]) -> Result<Vec<RecordBatch>>;
}

/// Where a joined table comes from.
#[derive(Clone)]
pub enum StaticSide {
    Rows {
        rows: RecordBatch,
        identity: String,
        /// The count and hash of the rows, when the rows themselves are no longer in memory.
        told: Option<Told>,
    },
    Delta(Location),
    Foreign(Arc<dyn Foreign>),
}

impl StaticSide {
    pub fn describe(&self) -> String {
        match self {
            Self::Rows { rows, told, .. } => {
                format!("{} rows at hand", told.as_ref().map_or(rows.num_rows(), |t| t.rows))
            }
            Self::Delta(at) => format!("the Delta table {}", at.display()),
            Self::Foreign(table) => format!("the table {} (read by Spark)", table.name()),
        }
    }
    /// The location of a Delta table, or the name of a table that a different engine reads. Rows in memory have neither.
    pub fn place(&self) -> Option<&str> {
        match self {
            Self::Rows { .. } => None,
            Self::Delta(at) => Some(at.url().as_str()),
            Self::Foreign(table) => Some(table.name()),
        }
    }
    pub fn identity(&self) -> &str {
        match self {
            Self::Rows { identity, .. } => identity,
            Self::Delta(at) => at.url().as_str(),
            Self::Foreign(table) => table.name(),
        }
    }
    /// Whether the rows can change while a query runs.
    pub(crate) fn is_looked_up(&self) -> bool {
        !matches!(self, Self::Rows { .. })
    }
}

pub struct StaticJoin {
    pub spec: StaticJoinSpec,
    pub side: StaticSide,
    /// The table's columns when the stream was written.
    pub table: SchemaRef,
}
