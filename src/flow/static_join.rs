//! Static joins: the tables that a stream's rows are joined with, as the user named them.

use super::source::Told;
use crate::storage::Location;
use crate::transform::StaticJoinSpec;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

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
}

impl StaticSide {
    pub fn describe(&self) -> String {
        match self {
            Self::Rows { rows, told, .. } => {
                format!("{} rows at hand", told.as_ref().map_or(rows.num_rows(), |t| t.rows))
            }
            Self::Delta(at) => format!("the Delta table {}", at.display()),
        }
    }
    /// The location of a Delta table. Rows in memory have no location.
    pub fn place(&self) -> Option<&str> {
        match self {
            Self::Rows { .. } => None,
            Self::Delta(at) => Some(at.url().as_str()),
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
    /// The table's columns when the stream was written.
    pub table: SchemaRef,
}
