//! Pieces of parsed queries, for the passes that rewrite them.

use crate::{Error, Result};
use datafusion::sql::sqlparser::ast::{BinaryOperator, Cte, Expr, Query, Statement};
use datafusion::sql::sqlparser::dialect::{DatabricksDialect, Dialect};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError, ParserOptions};
use std::any::TypeId;

/// The grammar of Databricks, with the strings of Spark: a backslash is an escape.
#[derive(Debug)]
struct Spark;

macro_rules! as_databricks {
    ($($method:ident),*) => {
        $(fn $method(&self) -> bool {
            DatabricksDialect.$method()
        })*
    };
}

impl Dialect for Spark {
    fn dialect(&self) -> TypeId {
        DatabricksDialect.dialect()
    }
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        DatabricksDialect.is_delimited_identifier_start(ch)
    }
    fn is_identifier_start(&self, ch: char) -> bool {
        DatabricksDialect.is_identifier_start(ch) || ch.is_alphabetic()
    }
    fn is_identifier_part(&self, ch: char) -> bool {
        DatabricksDialect.is_identifier_part(ch) || ch.is_alphanumeric()
    }
    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }
    /// `a DIV b`.
    fn parse_infix(
        &self,
        parser: &mut Parser,
        left: &Expr,
        precedence: u8,
    ) -> Option<std::result::Result<Expr, ParserError>> {
        parser.parse_keyword(Keyword::DIV).then(|| {
            let (left, right) = (Box::new(left.clone()), Box::new(parser.parse_subexpr(precedence)?));
            Ok(Expr::BinaryOp { left, op: BinaryOperator::MyIntegerDivide, right })
        })
    }
    as_databricks!(
        supports_numeric_prefix,
        supports_filter_during_aggregation,
        supports_group_by_expr,
        supports_table_versioning,
        supports_lambda_functions,
        supports_select_wildcard_except,
        require_interval_qualifier,
        supports_struct_literal,
        supports_nested_comments,
        supports_group_by_with_modifier,
        supports_values_as_table_factor,
        supports_optimize_table,
        supports_bang_not_operator,
        supports_cte_without_as,
        supports_select_item_multi_column_alias
    );
}

/// The parser of a text. Strings stay as they are typed: their escapes are read where they are bound.
fn parser(text: &str) -> std::result::Result<Parser<'static>, ParserError> {
    let options = ParserOptions { unescape: false, trailing_commas: false, ..ParserOptions::default() };
    Parser::new(&Spark).with_options(options).try_with_sql(text)
}

/// The one statement of a text.
pub fn statement_of(text: &str) -> std::result::Result<Statement, ParserError> {
    let mut all = parser(text)?.parse_statements()?;
    match (all.len(), all.pop()) {
        (1, Some(one)) => Ok(one),
        (0, _) => Err(ParserError::ParserError("the text is empty".into())),
        (n, _) => Err(ParserError::ParserError(format!("{n} statements: exactly one is expected"))),
    }
}

/// An expression of a text that a pass has written.
pub fn expression_of(text: &str) -> Option<Expr> {
    parser(text).ok()?.parse_expr().ok()
}

/// The query of a text that a pass has written.
pub fn query_of(text: &str) -> Result<Box<Query>> {
    match statement_of(text).map_err(|e| Error::internal(e.to_string()))? {
        Statement::Query(query) => Ok(query),
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
