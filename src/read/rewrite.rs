//! Clauses that Spark has and DataFusion's planner does not have. They are replaced by other clauses in the parsed tree. Clauses that cannot be
//! replaced are refused by name, because the planner ignores some clauses without an error.

use crate::{Error, Result};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, GroupByWithModifier, Ident, Select,
    SetExpr, SetOperator, SetQuantifier, Statement, TableAlias, TableAliasColumnDef, TableFactor, Value, VisitMut,
    VisitorMut,
};
use std::ops::ControlFlow;

/// Rewrites the statement in place.
pub(super) fn rewrite(statement: &mut Statement) -> Result<()> {
    match VisitMut::visit(statement, &mut Clauses) {
        ControlFlow::Break(what) => Err(Error::schema(format!("SQL: {what}"))),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Clauses;

impl VisitorMut for Clauses {
    /// The reason why the statement is refused.
    type Break = String;

    fn pre_visit_query(&mut self, query: &mut datafusion::sql::sqlparser::ast::Query) -> ControlFlow<String> {
        if !query.locks.is_empty() {
            return ControlFlow::Break("FOR UPDATE and FOR SHARE are not supported: only reading is possible.".into());
        }
        sets(&mut query.body)
    }

    fn post_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<String> {
        range(table);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<String> {
        match table {
            TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. } => {
                ControlFlow::Break(
                    "TABLESAMPLE is not supported. To read some of the rows, use LIMIT, or WHERE with a condition on a key."
                        .into(),
                )
            }
            TableFactor::Unpivot { columns, .. } => {
                // The rows contain the names as they are typed.
                for column in columns.iter_mut().filter(|c| c.alias.is_none()) {
                    column.alias = plain_name(&column.expr).map(Ident::new);
                }
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<String> {
        match grouping(&mut select.group_by) {
            Err(why) => ControlFlow::Break(why),
            Ok(()) => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<String> {
        match expr {
            // The planner would ignore the clause.
            Expr::Function(f) if f.filter.is_some() && !is_aggregate(f) => ControlFlow::Break(format!(
                "FILTER is only for aggregate functions, and {} is not one. Write FILTER after the aggregate function inside it.",
                f.name
            )),
            Expr::Function(function) => count_distinct(function),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// The column of `range(…)` is called id.
fn range(table: &mut TableFactor) {
    let TableFactor::Table { name, alias, args: Some(_), .. } = table else { return };
    if !name.to_string().eq_ignore_ascii_case("range") {
        return;
    }
    let mut of = alias.take().unwrap_or_else(|| TableAlias {
        explicit: true,
        name: Ident::new("range"),
        columns: vec![],
        at: None,
    });
    if of.columns.is_empty() {
        of.columns = vec![TableAliasColumnDef { name: Ident::new("id"), data_type: None }];
    }
    *alias = Some(of);
}

/// `MINUS` becomes `EXCEPT`. ALL is refused, because the planner would not count how often a row occurs.
fn sets(body: &mut SetExpr) -> ControlFlow<String> {
    let SetExpr::SetOperation { op, left, right, set_quantifier } = body else { return ControlFlow::Continue(()) };
    if *op != SetOperator::Union && matches!(set_quantifier, SetQuantifier::All | SetQuantifier::AllByName) {
        return ControlFlow::Break(format!(
            "{op} ALL is not supported. {op} without ALL returns each row once. To count rows, use GROUP BY."
        ));
    }
    if *op == SetOperator::Minus {
        *op = SetOperator::Except;
    }
    sets(left)?;
    sets(right)
}

/// `GROUP BY a, b WITH ROLLUP` becomes `GROUP BY ROLLUP (a, b)`.
fn grouping(by: &mut GroupByExpr) -> Result<(), String> {
    let (all, with) = match by {
        GroupByExpr::All(with) if with.is_empty() => return Ok(()),
        GroupByExpr::All(_) => return Err("GROUP BY ALL WITH … is not supported. Name the columns.".into()),
        GroupByExpr::Expressions(all, with) => (all, with),
    };
    let sets = |all: &mut Vec<Expr>| std::mem::take(all).into_iter().map(|e| vec![e]).collect();
    match &with[..] {
        [] => {}
        [GroupByWithModifier::Rollup] => *all = vec![Expr::Rollup(sets(all))],
        [GroupByWithModifier::Cube] => *all = vec![Expr::Cube(sets(all))],
        // The expressions in front only repeat the expressions of the sets.
        [GroupByWithModifier::GroupingSets(of)] => *all = vec![of.clone()],
        _ => return Err("GROUP BY … WITH TOTALS is not supported. Say GROUP BY … WITH ROLLUP.".into()),
    }
    with.clear();
    Ok(())
}

/// Whether the function makes one value from many rows.
pub(super) fn is_aggregate(function: &Function) -> bool {
    crate::expr::is_aggregate(&function.name.to_string().trim_matches('`').to_lowercase())
}

/// Refuses `count(DISTINCT *)`: if a join has a column twice, it is not clear which one is meant.
fn count_distinct(function: &Function) -> ControlFlow<String> {
    let FunctionArguments::List(list) = &function.args else { return ControlFlow::Continue(()) };
    let all = |a: &FunctionArg| {
        let FunctionArg::Unnamed(a) = a else { return false };
        matches!(a, FunctionArgExpr::Wildcard | FunctionArgExpr::QualifiedWildcard(_))
    };
    if list.duplicate_treatment.is_some() && list.args.iter().any(all) {
        return ControlFlow::Break("count(DISTINCT *) is not supported. Name the columns.".into());
    }
    ControlFlow::Continue(())
}

/// The name of a column. Several names are joined as in Spark.
pub(super) fn plain_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(name.value.clone()),
        Expr::CompoundIdentifier(path) => path.last().map(|p| p.value.clone()),
        Expr::Nested(one) => plain_name(one),
        Expr::Tuple(all) => Some(all.iter().map(plain_name).collect::<Option<Vec<_>>>()?.join("_")),
        _ => None,
    }
}

/// The text of a constant, as Spark writes it in the name of a column.
pub(super) fn constant_name(expr: &Expr) -> String {
    match expr {
        Expr::Value(v) => match &v.value {
            Value::SingleQuotedString(text) => super::parsed::shown(text),
            Value::Null => "null".into(),
            other => other.to_string(),
        },
        Expr::Tuple(all) => format!("{{{}}}", all.iter().map(constant_name).collect::<Vec<_>>().join(", ")),
        Expr::Nested(inner) => constant_name(inner),
        other => other.to_string(),
    }
}
