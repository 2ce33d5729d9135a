//! Pieces of parsed queries, for the passes that rewrite them.

use crate::{Error, Result};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Cte, Expr, Query, Statement, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::{DatabricksDialect, Dialect};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError, ParserOptions};
use std::any::TypeId;
use std::ops::ControlFlow;

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

/// The parser of a text. Strings stay as they are typed. The binder reads their escapes.
fn parser(text: &str) -> std::result::Result<Parser<'static>, ParserError> {
    let options = ParserOptions { unescape: false, trailing_commas: false, ..ParserOptions::default() };
    Parser::new(&Spark).with_options(options).try_with_sql(text)
}

/// The one statement of a text.
pub(super) fn statement_of(text: &str) -> std::result::Result<Statement, ParserError> {
    let mut all = parser(text)?.parse_statements()?;
    match (all.len(), all.pop()) {
        (1, Some(mut one)) => {
            let _ = VisitMut::visit(&mut one, &mut Strings);
            Ok(one)
        }
        (0, _) => Err(ParserError::ParserError("the text is empty".into())),
        (n, _) => Err(ParserError::ParserError(format!("{n} statements: exactly one is expected"))),
    }
}

/// An expression of a text that a pass has written.
pub(super) fn expression_of(text: &str) -> Option<Expr> {
    let mut expr = parser(text).ok()?.parse_expr().ok()?;
    let _ = VisitMut::visit(&mut expr, &mut Strings);
    Some(expr)
}

/// Gives all strings one form, in which each quote has a backslash. A tree is printed, and the text is parsed again. For other forms, the printed
/// text depends on the characters around a quote.
struct Strings;

impl VisitorMut for Strings {
    type Break = ();

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        let (text, quote) = match &value.value {
            Value::SingleQuotedString(text) => (text, '\''),
            Value::DoubleQuotedString(text) => (text, '"'),
            _ => return ControlFlow::Continue(()),
        };
        value.value = Value::SingleQuotedString(one_form(text, quote));
        ControlFlow::Continue(())
    }
}

/// The text between single quotes, for a string that was typed between quotes of this kind.
fn one_form(typed: &str, quote: char) -> String {
    let mut out = String::with_capacity(typed.len());
    let mut chars = typed.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                out.push(c);
                out.extend(chars.next());
            }
            // As in Spark, two quotes end a string and begin the next one.
            c if c == quote => drop(chars.next_if_eq(&quote)),
            '\'' => out.push_str("\\'"),
            c => out.push(c),
        }
    }
    out
}

/// The value of a string in this form, for names that show the string.
pub(super) fn shown(typed: &str) -> String {
    crate::expr::string_of(typed).unwrap_or_else(|| typed.to_string())
}

/// The query of a text that a pass has written.
pub(super) fn query_of(text: &str) -> Result<Box<Query>> {
    match statement_of(text).map_err(|e| Error::internal(e.to_string()))? {
        Statement::Query(query) => Ok(query),
        _ => Err(Error::internal("a text that is not a query")),
    }
}

/// The blocks of WITH that enclose a place in the statement, the innermost last.
#[derive(Default)]
pub(super) struct Blocks(Vec<Vec<Cte>>);

impl Blocks {
    pub(super) fn enter(&mut self, query: &Query) {
        self.0.push(query.with.as_ref().map(|w| w.cte_tables.clone()).unwrap_or_default());
    }

    pub(super) fn leave(&mut self) {
        self.0.pop();
    }

    /// The tables of WITH that the place can use. It cannot use tables that are defined after the place. Passes go from the front to the back, so
    /// the tables before the place are those that are plain already.
    pub(super) fn known(&self, is_plain: impl Fn(&Cte) -> bool) -> Vec<Cte> {
        self.0.iter().flat_map(|block| block.iter().take_while(|cte| is_plain(cte))).cloned().collect()
    }
}
