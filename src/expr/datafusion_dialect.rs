//! `dialect="datafusion"`: DataFusion's planner and functions; only names of columns are looked up as everywhere in bayou.

use super::aggregate::Finish;
use super::aggregation::inner_schema;
use super::coerce::canonical;
use super::lookup;
use super::{Aggregate, Aggregation, Bound};
use crate::error::did_you_mean;
use crate::{Error, Result};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column as LogicalColumn, DFSchema};
use datafusion::error::DataFusionError;
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::Expr;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercionRewriter;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;
use datafusion::physical_expr::expressions::CastExpr;
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast::ExprWithAlias;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Word};
use std::sync::{Arc, LazyLock};

static STATE: LazyLock<SessionState> = LazyLock::new(|| {
    let mut config = SessionConfig::new();
    config.options_mut().sql_parser.enable_ident_normalization = false;
    SessionStateBuilder::new().with_config(config).with_default_features().build()
});

fn wrong(text: &str, e: DataFusionError) -> Error {
    let root = e.find_root().to_string();
    let message = root.lines().next().unwrap_or_default().to_string();
    Error::schema(format!("'{text}': {message}"))
}

/// The items with the names of columns as the schema writes them.
fn parse(text: &str, schema: &Schema) -> Result<Vec<ExprWithAlias>> {
    let syntax = |e: &dyn std::fmt::Display| Error::schema(format!("'{text}': {e}"));
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text).tokenize().map_err(|e| syntax(&e))?;
    let tokens: Vec<Token> = tokens.into_iter().filter(|t| !matches!(t, Token::Whitespace(_))).collect();
    let mut out = Vec::with_capacity(tokens.len());
    let mut i = 0;
    while i < tokens.len() {
        let next = tokens.get(i + 1);
        let after_dot = i > 0 && tokens[i - 1] == Token::Period;
        let after_as = matches!(tokens.get(i.wrapping_sub(1)), Some(Token::Word(w)) if w.keyword == Keyword::AS);
        match &tokens[i] {
            Token::Word(word) if next != Some(&Token::LParen) && !after_dot && !after_as => {
                if let (Some(Token::Period), Some(Token::Word(part))) = (next, tokens.get(i + 2)) {
                    let window = lookup::window_field(&format!("{}.{}", word.value, part.value));
                    if let Some(found) = window.map(|w| lookup::find(w, schema)).transpose()?.flatten() {
                        out.push(column(schema.field(found).name()));
                        i += 3;
                        continue;
                    }
                }
                // A word of SQL is a column only when it is written as one.
                let exact = schema.index_of(&word.value).is_ok();
                let plain = word.keyword == Keyword::NoKeyword || word.quote_style.is_some();
                match if exact || plain { lookup::find(&word.value, schema)? } else { None } {
                    Some(found) if plain || exact => out.push(column(schema.field(found).name())),
                    _ => out.push(tokens[i].clone()),
                }
            }
            other => out.push(other.clone()),
        }
        i += 1;
    }
    let mut parser = Parser::new(&dialect).with_tokens(out);
    let items = parser.parse_comma_separated(Parser::parse_expr_with_alias).map_err(|e| syntax(&e))?;
    match parser.peek_token().token {
        Token::EOF => Ok(items),
        other => Err(syntax(&format!("an operator, a comma or the end is expected, not '{other}'"))),
    }
}

fn column(name: &str) -> Token {
    Token::Word(Word { value: name.to_string(), quote_style: Some('"'), keyword: Keyword::NoKeyword })
}

fn logical(text: &str, item: ExprWithAlias, df_schema: &DFSchema) -> Result<(Expr, Option<String>, String)> {
    let alias = item.alias.map(|a| a.value);
    let shown = item.expr.to_string().replace('"', "");
    let bare = ExprWithAlias { expr: item.expr, alias: None };
    let expr = STATE.create_logical_expr_from_sql_expr(bare, df_schema).map_err(|e| {
        let mut e = wrong(text, e);
        let unknown =
            e.message.split("Invalid function '").nth(1).and_then(|r| r.split('\'').next().map(str::to_string));
        if let Some(name) = unknown {
            let known: Vec<&String> =
                STATE.scalar_functions().keys().chain(STATE.aggregate_functions().keys()).collect();
            let suggestion = did_you_mean(&name, known.into_iter().map(String::as_str));
            e.message = format!("'{text}': DataFusion has no function '{name}'.{suggestion}");
        }
        e
    })?;
    Ok((expr, alias, shown))
}

/// The physical expression, with its result as bayou carries it.
fn bound(text: &str, name: String, sql: String, expr: Expr, df_schema: &DFSchema) -> Result<Bound> {
    let physical = STATE.create_physical_expr(expr, df_schema).map_err(|e| wrong(text, e))?;
    let schema = df_schema.as_arrow();
    let data_type = physical.data_type(schema).map_err(|e| wrong(text, e))?;
    let nullable = physical.nullable(schema).map_err(|e| wrong(text, e))?;
    let (physical, data_type) = carried(text, physical, data_type)?;
    Ok(Bound::new(name, sql, data_type, nullable, physical))
}

fn carried(
    text: &str,
    physical: Arc<dyn PhysicalExpr>,
    data_type: DataType,
) -> Result<(Arc<dyn PhysicalExpr>, DataType)> {
    let wanted = canonical(&data_type);
    if matches!(wanted, DataType::Interval(_) | DataType::Duration(_) | DataType::Time32(_) | DataType::Time64(_)) {
        return Err(Error::schema(format!("'{text}' is {wanted}, which no column can hold; cast it")));
    }
    if wanted == data_type {
        return Ok((physical, data_type));
    }
    Ok((Arc::new(CastExpr::new(physical, wanted.clone(), None)), wanted))
}

/// Every item of the text.
pub(super) fn bind_all(text: &str, schema: &SchemaRef) -> Result<Vec<Bound>> {
    if text.trim() == "*" {
        return super::bind::star(schema);
    }
    let df_schema = DFSchema::try_from(schema.as_ref().clone()).map_err(|e| wrong(text, e))?;
    parse(text, schema)?
        .into_iter()
        .map(|item| {
            let (expr, alias, shown) = logical(text, item, &df_schema)?;
            if expr.exists(|e| Ok(matches!(e, Expr::AggregateFunction(_)))).unwrap_or(false) {
                return Err(Error::schema(format!(
                    "'{text}' has an aggregate function: it goes into agg(…), not here"
                )));
            }
            bound(text, alias.unwrap_or_else(|| shown.clone()), shown, expr, &df_schema)
        })
        .collect()
}

pub(super) fn bind_aggregation(items: &[(Option<String>, String)], schema: &SchemaRef) -> Result<Aggregation> {
    let mut aggregates: Vec<Aggregate> = vec![];
    let mut exprs = vec![];
    for (alias, text) in items {
        let df_schema = DFSchema::try_from(schema.as_ref().clone()).map_err(|e| wrong(text, e))?;
        for item in parse(text, schema)? {
            let (expr, own, shown) = logical(text, item, &df_schema)?;
            let name = alias.clone().or(own).unwrap_or_else(|| shown.clone());
            let expr = expr.rewrite(&mut TypeCoercionRewriter::new(&df_schema)).map_err(|e| wrong(text, e))?.data;
            let mut failed = None;
            let outer = expr.transform_down(|e| {
                if !matches!(e, Expr::AggregateFunction(_)) {
                    return Ok(Transformed::no(e));
                }
                match aggregate(text, &e, &df_schema, &mut aggregates) {
                    Ok(name) => Ok(Transformed::new(
                        Expr::Column(LogicalColumn::new_unqualified(name)),
                        true,
                        datafusion::common::tree_node::TreeNodeRecursion::Jump,
                    )),
                    Err(e) => {
                        failed = Some(e);
                        Err(DataFusionError::Plan("an aggregate".into()))
                    }
                }
            });
            match (outer, failed) {
                (_, Some(e)) => return Err(e),
                (Err(e), None) => return Err(wrong(text, e)),
                (Ok(outer), None) => exprs.push((text, name, shown, outer.data)),
            }
        }
    }
    let inner = inner_schema(&aggregates);
    let df_inner = DFSchema::try_from(inner.as_ref().clone()).map_err(|e| wrong("agg", e))?;
    let outer = exprs
        .into_iter()
        .map(|(text, name, shown, expr)| {
            if let Some(column) = expr.column_refs().iter().find(|c| inner.index_of(&c.name).is_err()) {
                return Err(Error::schema(format!(
                    "'{text}': column '{}' stands outside of an aggregate function; aggregate it, or put it in group_by",
                    column.name
                )));
            }
            bound(text, name, shown, expr, &df_inner)
        })
        .collect::<Result<_>>()?;
    Ok(Aggregation { aggregates, inner, outer })
}

/// The inner column of this aggregate; an equal one is shared.
fn aggregate(text: &str, expr: &Expr, df_schema: &DFSchema, all: &mut Vec<Aggregate>) -> Result<String> {
    let sql = expr.schema_name().to_string();
    if let Some(index) = all.iter().position(|a| a.sql == sql) {
        return Ok(format!("{index}: {sql}"));
    }
    let Expr::AggregateFunction(function) = expr else { return Err(Error::internal("not an aggregate")) };
    if !function.params.order_by.is_empty() {
        return Err(Error::schema(format!("'{text}': ORDER BY within an aggregate is not supported")));
    }
    let name = function.func.name();
    if matches!(name, "first_value" | "last_value" | "nth_value" | "any_value" | "string_agg" | "grouping") {
        return Err(Error::schema(format!(
            "'{text}': the result of {name} depends on the order of the rows, which a stream does not have"
        )));
    }
    let props = ExecutionProps::new();
    let context = Default::default();
    let lowered = LoweredAggregateBuilder::new(expr, df_schema, df_schema.as_arrow(), &props, &context)
        .with_name(sql.clone())
        .build()
        .map_err(|e| wrong(text, e))?;
    let field = lowered.aggregate.field();
    let grows = function.params.distinct || matches!(name, "median" | "percentile_cont" | "array_agg");
    all.push(Aggregate {
        name: sql.clone(),
        sql: sql.clone(),
        data_type: canonical(field.data_type()),
        nullable: field.is_nullable(),
        arguments: lowered.aggregate.expressions(),
        function: lowered.aggregate,
        filter: lowered.filter,
        order_by: vec![],
        grows,
        finish: Finish::Cast,
    });
    Ok(format!("{}: {sql}", all.len() - 1))
}
