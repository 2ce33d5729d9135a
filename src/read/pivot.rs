//! `PIVOT` and `UNPIVOT`: each becomes a subquery of plain SQL.

use super::names::ticked;
use super::parsed::{Blocks, expression_of, query_of};
use super::rewrite::{constant_name, is_aggregate, plain_name};
use crate::{Error, Result};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Cte, Expr, ExprWithAlias, NullInclusion, PivotValueSource, Query, Statement as Parsed, TableAlias,
    TableFactor, Visit, VisitMut, Visitor, VisitorMut,
};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// One text may have at most this many PIVOT and UNPIVOT.
const MOST: usize = 100;

/// The statement without PIVOT and UNPIVOT.
pub(super) async fn without(ctx: &SessionContext, statement: &mut Parsed) -> Result<()> {
    for _ in 0..MOST {
        let ControlFlow::Break((with, table)) = Visit::visit(&*statement, &mut Find::default()) else { return Ok(()) };
        let text = match &*table {
            TableFactor::Pivot {
                table: of, aggregate_functions, value_column, value_source, default_on_null, ..
            } => {
                if default_on_null.is_some() {
                    return Err(Error::schema("SQL: PIVOT … DEFAULT ON NULL is not supported. Use coalesce."));
                }
                let (columns, of) = columns(ctx, &with, of).await?;
                pivot(&columns, &of, aggregate_functions, value_column, value_source)?
            }
            TableFactor::Unpivot { table: of, value, name, columns: of_columns, null_inclusion, .. } => {
                let nulls = matches!(null_inclusion, Some(NullInclusion::IncludeNulls));
                let (columns, of) = columns(ctx, &with, of).await?;
                unpivot(&columns, &of, value, &name.value, of_columns, nulls)?
            }
            _ => return Err(Error::internal("neither PIVOT nor UNPIVOT")),
        };
        let _ = VisitMut::visit(statement, &mut Replace(Some(query_of(&text)?)));
    }
    Err(Error::schema(format!("SQL: more than {MOST} PIVOT or UNPIVOT in one text")))
}

/// Finds the innermost PIVOT or UNPIVOT, and the tables of WITH that it can use.
#[derive(Default)]
struct Find {
    with: Blocks,
}

fn is_one(table: &TableFactor) -> bool {
    matches!(table, TableFactor::Pivot { .. } | TableFactor::Unpivot { .. })
}

impl Visitor for Find {
    type Break = (Vec<Cte>, Box<TableFactor>);

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        self.with.enter(query);
        ControlFlow::Continue(())
    }
    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Self::Break> {
        self.with.leave();
        ControlFlow::Continue(())
    }
    fn post_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<Self::Break> {
        if !is_one(table) {
            return ControlFlow::Continue(());
        }
        let known = self.with.known(|cte| Visit::visit(&cte.query, &mut Find::default()).is_continue());
        ControlFlow::Break((known, Box::new(table.clone())))
    }
}

/// Replaces the PIVOT or UNPIVOT that `Find` finds with a subquery.
struct Replace(Option<Box<Query>>);

impl VisitorMut for Replace {
    type Break = ();

    fn post_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        let alias = match table {
            TableFactor::Pivot { alias, table, .. } | TableFactor::Unpivot { alias, table, .. } => {
                alias.take().or_else(|| alias_of(table))
            }
            _ => return ControlFlow::Continue(()),
        };
        if let Some(subquery) = self.0.take() {
            *table = TableFactor::Derived { lateral: false, subquery, alias, sample: None };
        }
        ControlFlow::Break(())
    }
}

/// The name under which the columns of the table are known.
fn alias_of(table: &TableFactor) -> Option<TableAlias> {
    match table {
        // The alias's names of columns are for the table that PIVOT reads, and not for the result.
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
            Some(TableAlias { columns: vec![], ..alias.clone() })
        }
        TableFactor::Table { name, .. } => {
            let name = name.0.last()?.as_ident()?.clone();
            Some(TableAlias { explicit: true, name, columns: vec![], at: None })
        }
        _ => None,
    }
}

/// The names of the result's columns, from the names of the table's columns.
pub(super) fn outputs(columns: &[String], table: &TableFactor) -> Vec<String> {
    let others = |used: HashSet<String>| columns.iter().filter(move |c| !used.contains(&c.to_lowercase())).cloned();
    match table {
        TableFactor::Pivot { aggregate_functions, value_column, value_source, .. } => {
            let mut names = used(value_column);
            names.extend(used(aggregate_functions.iter().map(|a| &a.expr)));
            let PivotValueSource::List(values) = value_source else { return vec![] };
            let made =
                values.iter().flat_map(|v| aggregate_functions.iter().map(|a| made(v, a, aggregate_functions.len())));
            others(names).chain(made).collect()
        }
        TableFactor::Unpivot { value, name, columns: of, .. } => {
            let values = parts(value).into_iter().filter_map(|v| plain_name(&v));
            others(used(of.iter().map(|c| &c.expr))).chain([name.value.clone()]).chain(values).collect()
        }
        _ => vec![],
    }
}

/// The name of the column for a value and an aggregate.
fn made(value: &ExprWithAlias, aggregate: &ExprWithAlias, aggregates: usize) -> String {
    let shown = value.alias.as_ref().map_or_else(|| constant_name(&value.expr), |a| a.value.clone());
    match (&aggregate.alias, aggregates) {
        (_, 1) => shown,
        (Some(alias), _) => format!("{shown}_{}", alias.value),
        (None, _) => format!("{shown}_{}", aggregate.expr),
    }
}

fn parts(e: &Expr) -> Vec<Expr> {
    match e {
        Expr::Tuple(all) => all.clone(),
        Expr::Nested(one) => vec![(**one).clone()],
        one => vec![one.clone()],
    }
}

/// The names of a table's columns, and the table under these names.
async fn columns(ctx: &SessionContext, with: &[Cte], table: &TableFactor) -> Result<(Vec<String>, String)> {
    let with: Vec<String> = with.iter().map(ToString::to_string).collect();
    let with = if with.is_empty() { String::new() } else { format!("WITH {} ", with.join(", ")) };
    let query = query_of(&format!("{with}SELECT * FROM {table}"))?;
    let (plan, spoken) = super::plan_of(ctx, Parsed::Query(query)).await?;
    let mut unnamed = false;
    let name = |f: &arrow::datatypes::FieldRef| {
        let shown = spoken.shown(f.name());
        unnamed |= shown != *f.name();
        shown
    };
    let names: Vec<String> = plan.schema().fields().iter().map(name).collect();
    let table = match (unnamed, alias_of(table)) {
        // Expressions without an alias do not have a name yet that a text could use.
        (true, alias) => {
            let alias = alias.map_or("`__of__`".into(), |a| ticked(&a.name.value));
            let names: Vec<String> = names.iter().map(|n| ticked(n)).collect();
            format!("(SELECT * FROM {table}) AS {alias}({})", names.join(", "))
        }
        (false, _) => table.to_string(),
    };
    Ok((names, table))
}

/// The columns that expressions use.
fn used<'a>(all: impl IntoIterator<Item = &'a Expr>) -> HashSet<String> {
    struct Names(HashSet<String>);
    impl Visitor for Names {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(name) => drop(self.0.insert(name.value.to_lowercase())),
                Expr::CompoundIdentifier(parts) => self.0.extend(parts.iter().map(|p| p.value.to_lowercase())),
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = Names(HashSet::new());
    for expr in all {
        let _ = Visit::visit(expr, &mut names);
    }
    names.0
}

fn text(literal: &str) -> String {
    format!("'{}'", literal.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Rows are grouped by the columns that PIVOT does not use. As in Spark, a group without rows for a value has NULL in the value's columns, also for
/// a count.
fn pivot(
    columns: &[String],
    table: &str,
    aggregates: &[ExprWithAlias],
    of: &[Expr],
    source: &PivotValueSource,
) -> Result<String> {
    let PivotValueSource::List(values) = source else {
        return Err(Error::schema(
            "SQL: PIVOT takes a list of values: FOR column IN ('a', 'b'). Values of a query or ANY are not supported.",
        ));
    };
    let mut names = used(of);
    names.extend(used(aggregates.iter().map(|a| &a.expr)));
    let by: Vec<String> = columns.iter().filter(|c| !names.contains(&c.to_lowercase())).map(|c| ticked(c)).collect();
    let mut items = by.clone();
    for value in values {
        let parts: Vec<&Expr> = match (&value.expr, of.len()) {
            (Expr::Tuple(parts), n) if parts.len() == n => parts.iter().collect(),
            (one, 1) => vec![one],
            (other, n) => {
                return Err(Error::schema(format!(
                    "SQL: PIVOT: {other} is not {n} values, one for each column after FOR"
                )));
            }
        };
        let same: Vec<String> = of.iter().zip(&parts).map(|(c, v)| format!("({c} IS NOT DISTINCT FROM {v})")).collect();
        let same = same.join(" AND ");
        for aggregate in aggregates {
            let name = made(value, aggregate, aggregates.len());
            items.push(format!(
                "CASE WHEN count(*) FILTER (WHERE {same}) > 0 THEN {} END AS {}",
                filtered(&aggregate.expr, &same)?,
                ticked(&name)
            ));
        }
    }
    let group = if by.is_empty() { String::new() } else { format!(" GROUP BY {}", by.join(", ")) };
    Ok(format!("SELECT {} FROM {table}{group}", items.join(", ")))
}

/// The expression over only the rows that meet the condition.
fn filtered(expr: &Expr, condition: &str) -> Result<Expr> {
    struct Filter(Expr, bool);
    impl VisitorMut for Filter {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Function(f) = expr
                && is_aggregate(f)
            {
                self.1 = true;
                let both = |own: Box<Expr>| Expr::BinaryOp {
                    left: Box::new(Expr::Nested(own)),
                    op: BinaryOperator::And,
                    right: Box::new(self.0.clone()),
                };
                f.filter = Some(Box::new(f.filter.take().map_or_else(|| self.0.clone(), both)));
            }
            ControlFlow::Continue(())
        }
    }
    let parsed = expression_of(condition).ok_or_else(|| Error::internal("a text that is not a condition"))?;
    let mut out = expr.clone();
    let mut filter = Filter(Expr::Nested(Box::new(parsed)), false);
    let _ = VisitMut::visit(&mut out, &mut filter);
    match filter.1 {
        true => Ok(out),
        false => Err(Error::schema(format!("SQL: PIVOT takes aggregate functions, not {expr}"))),
    }
}

/// Makes one row for each listed column. Rows with NULL are left out, unless the statement asks for them.
fn unpivot(
    columns: &[String],
    table: &str,
    value: &Expr,
    name: &str,
    of: &[ExprWithAlias],
    nulls: bool,
) -> Result<String> {
    let plain = |e: &Expr| plain_name(e).ok_or_else(|| Error::schema(format!("SQL: UNPIVOT takes columns, not {e}")));
    let values: Vec<String> = parts(value).iter().map(plain).collect::<Result<_>>()?;
    let names = used(of.iter().map(|c| &c.expr));
    let others: Vec<String> =
        columns.iter().filter(|c| !names.contains(&c.to_lowercase())).map(|c| ticked(c)).collect();
    let (mut rows, mut cases) = (vec![], vec![String::new(); values.len()]);
    for (k, column) in of.iter().enumerate() {
        let from = parts(&column.expr);
        if from.len() != values.len() {
            return Err(Error::schema(format!(
                "SQL: UNPIVOT: {} has {} columns, and {value} has {}",
                column.expr,
                from.len(),
                values.len()
            )));
        }
        from.iter().map(plain).collect::<Result<Vec<_>>>()?;
        let shown = column.alias.as_ref().map(|a| a.value.clone()).unwrap_or_default();
        rows.push(format!("({k}, {})", text(&shown)));
        for (case, e) in cases.iter_mut().zip(&from) {
            case.push_str(&format!(" WHEN {k} THEN {e}"));
        }
    }
    // The input is read once, and each row is joined with each name.
    let cases: Vec<String> = cases.iter().map(|c| format!("CASE `__place__`{c} END")).collect();
    let mut items = others;
    items.push(format!("`__name__` AS {}", ticked(name)));
    items.extend(cases.iter().zip(&values).map(|(c, v)| format!("{c} AS {}", ticked(v))));
    let there: Vec<String> = cases.iter().map(|c| format!("{c} IS NOT NULL")).collect();
    let only = if nulls { String::new() } else { format!(" WHERE {}", there.join(" OR ")) };
    Ok(format!(
        "SELECT {} FROM (VALUES {}) AS `__names__`(`__place__`, `__name__`) CROSS JOIN {table}{only}",
        items.join(", "),
        rows.join(", ")
    ))
}
