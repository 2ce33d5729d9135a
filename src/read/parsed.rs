//! Pieces of parsed queries, for the passes that rewrite them.

use crate::{Error, Result};
use datafusion::sql::sqlparser::ast::{Cte, Query, Statement};
use datafusion::sql::sqlparser::dialect::DatabricksDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// The query of a text that a pass has written.
pub fn query_of(text: &str) -> Result<Box<Query>> {
    let parsed = Parser::parse_sql(&DatabricksDialect {}, text).map_err(|e| Error::internal(e.to_string()))?.pop();
    match parsed {
        Some(Statement::Query(query)) => Ok(query),
        _ => Err(Error::internal("a query that is none")),
    }
}

/// The blocks of WITH around a place, the innermost last.
#[derive(Default)]
pub struct Blocks(Vec<Vec<Cte>>);

impl Blocks {
    pub fn enter(&mut self, query: &Query) {
        self.0.push(query.with.as_ref().map(|w| w.cte_tables.clone()).unwrap_or_default());
    }

    pub fn leave(&mut self) {
        self.0.pop();
    }

    /// The tables that WITH gives the place. What it defines later than the place is not there for it. Passes go from the front to the back, so
    /// the tables before the place are those that are plain already.
    pub fn known(&self, is_plain: impl Fn(&Cte) -> bool) -> Vec<Cte> {
        self.0.iter().flat_map(|block| block.iter().take_while(|cte| is_plain(cte))).cloned().collect()
    }
}
