//! `dialect="datafusion"`: DataFusion's planner and functions. Only the names of columns are looked up as everywhere in bayou.

use super::aggregate::{Finish, Plan};
use super::aggregation::inner_schema;
use super::coerce::canonical;
use super::evaluate::is_deep;
use super::limits;
use super::lookup;
use super::node::Typed;
use super::sorted_rows::{self, Key, Pick, Rows, Skip};
use super::{Aggregate, Bound};
use crate::error::did_you_mean;
use crate::{Error, Result};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column as LogicalColumn, DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::context::ExecutionProps;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, Sort};
use datafusion::logical_expr::{Expr, Volatility};
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

pub(super) static STATE: LazyLock<SessionState> = LazyLock::new(|| {
    let mut config = SessionConfig::new();
    config.options_mut().sql_parser.enable_ident_normalization = false;
    SessionStateBuilder::new().with_config(config).with_default_features().build()
});

/// Whether DataFusion has a function of this name that computes a value for each row.
pub(super) fn has(name: &str) -> bool {
    STATE.scalar_functions().contains_key(name)
}

fn wrong(text: &str, e: DataFusionError) -> Error {
    let root = e.find_root().to_string();
    let message = root.lines().next().unwrap_or_default().to_string();
    Error::schema(format!("'{text}': {message}"))
}

/// The items of a text, with the names of columns as the schema has them.
fn parse(text: &str, schema: &Schema) -> Result<Vec<ExprWithAlias>> {
    let syntax = |e: &dyn std::fmt::Display| Error::schema(format!("'{text}': {e}"));
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text).tokenize().map_err(|e| syntax(&e))?;
    limits::check(&tokens, limits::MOST_OF_AN_EXPRESSION, '"').map_err(|e| syntax(&e))?;
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
                // A keyword is a column only where it is written as one.
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

/// Refuses functions whose result is not the same every time: a row that is computed again after a failure could differ.
fn check_repeatable(text: &str, expr: &Expr) -> Result<()> {
    let mut found = None;
    let looked = expr.apply(|e| {
        if let Expr::ScalarFunction(f) = e
            && f.func.signature().volatility != Volatility::Immutable
        {
            found = Some(f.func.name().to_string());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    looked.map_err(|e| wrong(text, e))?;
    match found {
        None => Ok(()),
        Some(name) => Err(Error::schema(format!(
            "'{text}': the result of '{name}' is not the same every time, so a row that is computed again after a failure could differ"
        ))),
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
    check_repeatable(text, &expr)?;
    Ok((expr, alias, shown))
}

/// The physical expression, with its result cast to the type that bayou uses.
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
        return Err(Error::schema(format!("'{text}' is {wanted}, which no column can hold. Cast it.")));
    }
    if wanted == data_type {
        return Ok((physical, data_type));
    }
    Ok((Arc::new(CastExpr::new(physical, wanted.clone(), None)), wanted))
}

/// Binds every item of the text.
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

/// The output columns of each text.
pub(super) fn bind_aggregates(
    texts: &[(Option<&str>, &str)],
    schema: &SchemaRef,
    aggregates: &mut Vec<Aggregate>,
) -> Result<Vec<Vec<Bound>>> {
    let mut exprs = vec![];
    for (alias, text) in texts {
        let df_schema = DFSchema::try_from(schema.as_ref().clone()).map_err(|e| wrong(text, e))?;
        let mut items = vec![];
        for item in parse(text, schema)? {
            let (expr, own, shown) = logical(text, item, &df_schema)?;
            let name = alias.map(str::to_string).or(own).unwrap_or_else(|| shown.clone());
            let expr = expr.rewrite(&mut TypeCoercionRewriter::new(&df_schema)).map_err(|e| wrong(text, e))?.data;
            let mut failed = None;
            let outer = expr.transform_down(|e| {
                if !matches!(e, Expr::AggregateFunction(_)) {
                    return Ok(Transformed::no(e));
                }
                match aggregate(text, &e, &df_schema, schema, aggregates) {
                    Ok(name) => Ok(Transformed::new(
                        Expr::Column(LogicalColumn::new_unqualified(name)),
                        true,
                        TreeNodeRecursion::Jump,
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
                (Ok(outer), None) => items.push((name, shown, outer.data)),
            }
        }
        exprs.push((text, items));
    }
    let inner = inner_schema(aggregates);
    let df_inner = DFSchema::try_from(inner.as_ref().clone()).map_err(|e| wrong("agg", e))?;
    let outer = |text: &str, (name, shown, expr): (String, String, Expr)| {
        if let Some(column) = expr.column_refs().iter().find(|c| inner.index_of(&c.name).is_err()) {
            return Err(Error::schema(format!(
                "'{text}': column '{}' is outside of an aggregate function; aggregate it, or put it in group_by",
                column.name
            )));
        }
        bound(text, name, shown, expr, &df_inner)
    };
    exprs.into_iter().map(|(text, items)| items.into_iter().map(|item| outer(text, item)).collect()).collect()
}

/// The column of the finished results that holds this aggregate. Equal aggregates share a column.
fn aggregate(
    text: &str,
    expr: &Expr,
    df_schema: &DFSchema,
    schema: &SchemaRef,
    all: &mut Vec<Aggregate>,
) -> Result<String> {
    let sql = expr.schema_name().to_string();
    if let Some(index) = all.iter().position(|a| a.sql == sql) {
        return Ok(format!("{index}: {sql}"));
    }
    let Expr::AggregateFunction(function) = expr else { return Err(Error::internal("not an aggregate")) };
    let made = match over_order(function, df_schema).map_err(|e| e.context(format!("'{text}'")))? {
        Some(plan) => {
            let filter = function.params.filter.as_ref();
            let filter = filter.map(|f| STATE.create_physical_expr(f.as_ref().clone(), df_schema)).transpose();
            plan.build(sql.clone(), filter.map_err(|e| wrong(text, e))?, schema)?
        }
        None => of_datafusion(text, expr, function, df_schema, sql.clone())?,
    };
    made.check_state().map_err(|_| {
        Error::schema(format!(
            "'{text}': what {} has computed so far cannot be kept between two runs, so a stream cannot use it",
            function.func.name()
        ))
    })?;
    all.push(made);
    Ok(format!("{}: {sql}", all.len() - 1))
}

/// Aggregates that need an order of the rows. DataFusion's own would depend on which row came first (see `sorted_rows`).
fn over_order(function: &AggregateFunction, df_schema: &DFSchema) -> Result<Option<Plan>> {
    let (name, params) = (function.func.name(), &function.params);
    let needed = matches!(name, "first_value" | "last_value" | "nth_value" | "string_agg");
    if params.order_by.is_empty() && needed {
        return Err(Error::schema(format!(
            "the result of {name} depends on the order of the rows, which a stream does not have. Give the call an order, as in \
             {name}({} ORDER BY time).",
            params.args.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        )));
    }
    let may_be = name == "any_value" || (name == "array_agg" && !params.order_by.is_empty());
    if !needed && !may_be {
        return Ok(None);
    }
    let typed = |expr: &Expr| -> Result<Typed> {
        let expr = STATE.create_physical_expr(expr.clone(), df_schema)?;
        let schema = df_schema.as_arrow();
        let (data_type, nullable, sql) = (expr.data_type(schema)?, expr.nullable(schema)?, expr.to_string());
        Ok(Typed::other(expr, data_type, nullable, sql))
    };
    let key = |sort: &Sort| {
        let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
        Ok(Key { by: typed(&sort.expr)?, options })
    };
    let keys: Vec<Key> = params.order_by.iter().map(key).collect::<Result<_>>()?;
    let args: Vec<Typed> = params.args.iter().map(typed).collect::<Result<_>>()?;
    let mut args = args.into_iter();
    let value = args.next().ok_or_else(|| Error::schema(format!("{name} needs an argument")))?;
    let second = args.next();
    let mut skip = match params.null_treatment {
        Some(NullTreatment::IgnoreNulls) => Skip::NullValue,
        _ => Skip::Nothing,
    };
    let pick = match name {
        "last_value" => Pick::Last,
        "array_agg" => Pick::Rows(Rows::List { or_null: true }),
        "nth_value" => match second.as_ref().and_then(Typed::constant).map(|n| n.cast_to(&DataType::Int64)) {
            Some(Ok(ScalarValue::Int64(Some(n)))) if n != 0 => Pick::Rows(Rows::Nth(n)),
            _ => return Err(Error::schema("nth_value: n must be a constant other than 0")),
        },
        "string_agg" => {
            skip = Skip::NullValue;
            let between = match second.as_ref().map(|s| s.constant().map(ScalarValue::try_as_str)) {
                None => "",
                Some(Some(Some(text))) => text.unwrap_or_default(),
                Some(Some(None)) if second.as_ref().is_some_and(Typed::is_null_literal) => "",
                _ => return Err(Error::schema("string_agg: the separator must be a constant")),
            };
            Pick::Rows(Rows::Joined(between.as_bytes().to_vec()))
        }
        // Any value is correct. The smallest value is always the same.
        "any_value" => {
            skip = Skip::NullValue;
            Pick::First
        }
        _ => Pick::First,
    };
    sorted_rows::plan(pick, value, keys, skip, params.distinct).map(Some).map_err(|e| e.context(name))
}

/// An aggregate on DataFusion's own accumulators.
fn of_datafusion(
    text: &str,
    expr: &Expr,
    function: &AggregateFunction,
    df_schema: &DFSchema,
    sql: String,
) -> Result<Aggregate> {
    let name = function.func.name();
    if name == "grouping" {
        return Err(Error::schema(format!("'{text}': grouping needs GROUPING SETS, which group_by does not have")));
    }
    // WITHIN GROUP names the value that is aggregated. For other aggregates the rows would need an order.
    if !function.params.order_by.is_empty() && !function.func.supports_within_group_clause() {
        return Err(Error::schema(format!("'{text}': ORDER BY changes nothing in {name}. Leave it out.")));
    }
    let props = ExecutionProps::new();
    let context = Default::default();
    let lowered = LoweredAggregateBuilder::new(expr, df_schema, df_schema.as_arrow(), &props, &context)
        .with_name(sql.clone())
        .build()
        .map_err(|e| wrong(text, e))?;
    let field = lowered.aggregate.field();
    let grows = function.params.distinct || matches!(name, "median" | "percentile_cont" | "array_agg");
    let arguments = lowered.aggregate.expressions();
    let deep = is_deep(&arguments) || lowered.filter.as_ref().is_some_and(|f| is_deep(std::slice::from_ref(f)));
    Ok(Aggregate {
        deep,
        name: sql.clone(),
        sql,
        data_type: canonical(field.data_type()),
        nullable: field.is_nullable(),
        arguments,
        function: lowered.aggregate,
        filter: lowered.filter,
        order_by: vec![],
        grows,
        finish: Finish::Cast,
        fold: None,
    })
}
