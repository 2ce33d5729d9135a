//! Tables that rows are joined with, as an epoch sees them.

use super::{Engine, Step};
use crate::Result;
use crate::flow::static_join::{StaticJoin, StaticSide};
use crate::transform::StaticTable;
use std::collections::BTreeMap;

/// A joined table as it is now.
pub(crate) struct Held {
    pub table: StaticTable,
    pub version: Option<u64>,
}

impl Held {
    /// The table if its rows are in memory. None for a table that is looked up when an epoch begins.
    pub(crate) fn at_hand(join: &StaticJoin) -> Result<Option<Self>> {
        match &join.side {
            StaticSide::Rows { rows, .. } => {
                Ok(Some(Self { table: StaticTable::build(&join.spec, rows)?, version: None }))
            }
            StaticSide::Delta(_) | StaticSide::Foreign(_) => Ok(None),
        }
    }
}

impl Engine {
    /// The versions of joined tables, as this epoch has seen them.
    pub(crate) fn static_versions(&self) -> BTreeMap<String, u64> {
        let mut out = BTreeMap::new();
        for (node, held) in self.plan.nodes.iter().zip(&self.statics) {
            if let (Step::StaticJoin(join), Some(Held { version: Some(v), .. })) = (&node.step, held) {
                match &join.side {
                    StaticSide::Delta(at) => out.insert(at.address(), *v),
                    StaticSide::Foreign(table) => out.insert(table.name().to_string(), *v),
                    StaticSide::Rows { .. } => None,
                };
            }
        }
        out
    }
}
