//! Generators (`explode` and similar functions) in SQL over tables. They make the same rows as in a stream.
//!
//! DataFusion cannot plan generators. So each SELECT with a generator is run separately, the innermost first, without the generator and with the
//! generator's arguments as columns. The generator's rows become a table, and the SELECT reads this table instead. `LATERAL VIEW` does the same for
//! the tables in FROM.

use super::parsed::{Blocks, query_of};
use super::{Rows, plain};
use crate::expr::{Dialect, Generator, bind_selection, is_generator, quoted, value_bytes};
use crate::memory::half_of_memory;
use crate::{Error, Result};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::TableReference;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{
    Cte, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Ident, LateralView, Query,
    Select, SelectItem, SetExpr, Statement as Parsed, TableFactor, Value, Visit, VisitMut, Visitor, VisitorMut, With,
};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The columns with the generator's arguments have names that begin with this text.
const ARGUMENT: &str = "__generator_";
/// One text may have at most this many generators.
const MOST: usize = 100;

/// The function and its name, if the expression calls a generator.
fn generator(expr: &Expr) -> Option<(String, &Function)> {
    let Expr::Function(f) = expr else { return None };
    let name = f.name.to_string().trim_matches('`').to_lowercase();
    is_generator(&name).then_some((name, f))
}

fn of_item(item: &SelectItem) -> Option<(String, &Function)> {
    match item {
        SelectItem::UnnamedExpr(expr)
        | SelectItem::ExprWithAlias { expr, .. }
        | SelectItem::ExprWithAliases { expr, .. } => generator(expr),
        _ => None,
    }
}

fn makes_rows(select: &Select) -> bool {
    !select.lateral_views.is_empty() || select.projection.iter().any(|item| of_item(item).is_some())
}

/// Finds the first SELECT that makes rows, and the tables of WITH that this SELECT can use.
#[derive(Default)]
struct Find {
    with: Blocks,
}

impl Visitor for Find {
    type Break = (Vec<Cte>, Box<Select>);

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        self.with.enter(query);
        ControlFlow::Continue(())
    }
    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Self::Break> {
        self.with.leave();
        ControlFlow::Continue(())
    }
    fn post_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        if !makes_rows(select) {
            return ControlFlow::Continue(());
        }
        let known = self.with.known(|cte| Visit::visit(&cte.query, &mut Find::default()).is_continue());
        ControlFlow::Break((known, Box::new(select.clone())))
    }
}

/// Replaces the SELECT that `Find` finds with a new SELECT, and renames the columns in the ORDER BY of its query.
struct Replace {
    new: Option<Box<Select>>,
    order_by: Option<Unqualify>,
}

impl VisitorMut for Replace {
    type Break = ();

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if makes_rows(select)
            && let Some(new) = self.new.take()
        {
            *select = *new;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if self.new.is_some() {
            return ControlFlow::Continue(());
        }
        // This query contains the SELECT.
        if let (Some(unqualify), Some(order_by)) = (&mut self.order_by, &mut query.order_by) {
            let _ = VisitMut::visit(order_by, unqualify);
        }
        ControlFlow::Break(())
    }
}

/// The statement without its generators, if it has any. The rows of the generators are in tables of the context.
pub(super) async fn without(ctx: &SessionContext, statement: &Parsed) -> Result<Option<Parsed>> {
    let mut now: Option<Parsed> = None;
    for n in 0.. {
        let at = now.as_ref().unwrap_or(statement);
        let ControlFlow::Break((with, select)) = Visit::visit(at, &mut Find::default()) else { return Ok(now) };
        if n == MOST {
            return Err(Error::schema(format!("SQL: more than {MOST} generators in one text")));
        }
        let mut next = at.clone();
        let table = format!("__generated_{n}");
        let (new, order_by) = one(ctx, with, *select, &table).await?;
        let _ = VisitMut::visit(&mut next, &mut Replace { new: Some(Box::new(new)), order_by });
        now = Some(next);
    }
    Ok(now)
}

/// A call with its arguments as columns: the items that compute the columns, and the text of the call over the names of the columns.
struct Call {
    items: Vec<SelectItem>,
    text: String,
}

impl Call {
    /// The error with the arguments in the user's words.
    fn shown(&self, e: Error) -> Error {
        let mut message = e.message;
        for item in &self.items {
            if let SelectItem::ExprWithAlias { expr, alias } = item {
                let text = expr.to_string();
                message = message.replace(&format!("`{}`", alias.value), &text).replace(&alias.value, &text);
            }
        }
        Error { message, ..e }
    }
}

fn call(function: &Function, name: &str, names: &[Ident], outer: bool) -> Result<Call> {
    let wrong = || Error::schema(format!("SQL: {name} takes arguments without names, DISTINCT or other clauses"));
    let args = match &function.args {
        FunctionArguments::List(list) if list.clauses.is_empty() && list.duplicate_treatment.is_none() => &list.args,
        FunctionArguments::None => &vec![],
        _ => return Err(wrong()),
    };
    let (mut items, mut shown) = (vec![], vec![]);
    for arg in args {
        let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg else { return Err(wrong()) };
        shown.push(match expr {
            Expr::Value(v) => match &v.value {
                Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => {
                    format!("'{text}'")
                }
                other => other.to_string(),
            },
            _ => {
                let alias = format!("{ARGUMENT}{}", items.len());
                items.push(SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('`', &alias) });
                format!("`{alias}`")
            }
        });
    }
    if items.is_empty() {
        // This item marks the place of the generator's columns.
        let expr = Expr::value(Value::Boolean(true));
        items.push(SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('`', format!("{ARGUMENT}0")) });
    }
    // stack and json_tuple make rows from every row, with or without `outer`.
    let outer = if outer && matches!(name, "explode" | "posexplode" | "inline") { "_outer" } else { "" };
    let names: Vec<String> = names.iter().map(|n| quoted(&n.value)).collect();
    let names = if names.is_empty() { String::new() } else { format!(" AS ({})", names.join(", ")) };
    Ok(Call { items, text: format!("{name}{outer}({}){names}", shown.join(", ")) })
}

/// Runs one SELECT up to its generator, and returns the SELECT that reads the rows.
async fn one(
    ctx: &SessionContext,
    with: Vec<Cte>,
    mut select: Select,
    table: &str,
) -> Result<(Select, Option<Unqualify>)> {
    let mut unqualify = None;
    let now = alias_of(&select);
    let mut inner = select.clone();
    inner.distinct = None;
    inner.lateral_views = vec![];
    let call = if select.lateral_views.is_empty() {
        let mut calls = vec![];
        inner.projection = vec![];
        for item in &select.projection {
            let Some((name, function)) = of_item(item) else {
                inner.projection.push(item.clone());
                continue;
            };
            let names = match item {
                SelectItem::ExprWithAlias { alias, .. } => vec![alias.clone()],
                SelectItem::ExprWithAliases { aliases, .. } => aliases.clone(),
                _ => vec![],
            };
            let call = call(function, &name, &names, false)?;
            inner.projection.extend(call.items.iter().cloned());
            calls.push(call);
        }
        if calls.len() > 1 {
            return Err(Error::schema(
                "SQL: one SELECT can make rows only once, so it cannot have two generators. Put one of them into a subquery or a LATERAL VIEW.",
            ));
        }
        select.projection = vec![SelectItem::Wildcard(Default::default())];
        select.selection = None;
        select.group_by = GroupByExpr::Expressions(vec![], vec![]);
        select.having = None;
        select.qualify = None;
        calls.pop()
    } else {
        let view = select.lateral_views.remove(0);
        let LateralView { lateral_view, lateral_col_alias, outer, .. } = &view;
        let Some((name, function)) = generator(lateral_view) else {
            return Err(Error::schema(format!(
                "SQL: LATERAL VIEW takes a generator such as explode, not {lateral_view}"
            )));
        };
        let call = call(function, &name, lateral_col_alias, *outer)?;
        inner.projection = vec![SelectItem::Wildcard(Default::default())];
        inner.projection.extend(call.items.iter().cloned());
        inner.selection = None;
        inner.group_by = GroupByExpr::Expressions(vec![], vec![]);
        inner.having = None;
        inner.qualify = None;
        // All columns are now columns of one table, so the names in front of them are removed.
        let mut tables: Vec<String> = select.from.iter().flat_map(|f| names_of(&f.relation)).collect();
        tables.extend(select.from.iter().flat_map(|f| f.joins.iter().flat_map(|j| names_of(&j.relation))));
        let view_name = view.lateral_view_name.to_string().trim_matches('`').to_string();
        let made = view.lateral_col_alias.iter().map(|c| c.value.clone()).collect();
        let table = now.clone().unwrap_or_else(|| table.to_string());
        let mut names = Unqualify { tables, view: (view_name, made), table, inner: vec![] };
        let _ = VisitMut::visit(&mut select, &mut names);
        unqualify = Some(names);
        Some(call)
    };
    let call = call.ok_or_else(|| Error::internal("a SELECT without a generator"))?;
    let rows = run(ctx, with, inner).await?;
    if let Some(names) = &unqualify {
        check_names(&rows.schema)?;
        let later: Vec<String> = select
            .lateral_views
            .iter()
            .map(|v| v.lateral_view_name.to_string().trim_matches('`').to_string())
            .collect();
        select.projection = expand(select.projection, names, now.is_some(), &later, &rows.schema, &call)?;
    }
    let made = make(&rows, &call.text).map_err(|e| call.shown(e))?;
    let memory = MemTable::try_new(made.schema, vec![made.batches])?;
    ctx.register_table(TableReference::bare(table), Arc::new(memory))?;
    select.from = from(table, now)?;
    Ok((select, unqualify))
}

/// Refuses a join whose tables have columns with the same name: these columns could not be distinguished in the generated rows.
fn check_names(schema: &Schema) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    match schema.fields().iter().find(|f| !seen.insert(f.name().to_lowercase())) {
        None => Ok(()),
        Some(f) => Err(Error::schema(format!(
            "SQL: LATERAL VIEW together with a join is not supported if its tables both have a column '{0}'. Join in a subquery that names the columns: FROM (SELECT \
             t.*, u.{0} AS other FROM t JOIN u …) LATERAL VIEW …",
            f.name()
        ))),
    }
}

/// `t.*` and `v.*` as the columns of the table and of the view.
fn expand(
    items: Vec<SelectItem>,
    names: &Unqualify,
    alone: bool,
    later: &[String],
    schema: &SchemaRef,
    call: &Call,
) -> Result<Vec<SelectItem>> {
    let mut out = vec![];
    for item in items {
        let SelectItem::QualifiedWildcard(kind, options) = &item else {
            out.push(item);
            continue;
        };
        let name = kind.to_string().trim_end_matches(".*").trim_matches('`').to_string();
        let same = |a: &str| a.eq_ignore_ascii_case(&name);
        if later.iter().any(|v| same(v)) {
            out.push(item);
            continue;
        }
        let columns: Vec<String> = if alone && names.tables.iter().any(|t| same(t)) {
            schema.fields().iter().map(|f| f.name().clone()).filter(|n| !n.starts_with(ARGUMENT)).collect()
        } else if same(&names.view.0) {
            let made = bind_selection(std::slice::from_ref(&call.text), schema, Dialect::Databricks);
            let made = made.map_err(|e| call.shown(e.context("SQL")))?;
            made.generator.map(|g| g.fields.iter().map(|f| f.name().clone()).collect()).unwrap_or_default()
        } else {
            return Err(Error::schema(format!(
                "SQL: {item} together with LATERAL VIEW and a join is not supported. Name the columns."
            )));
        };
        if options.to_string() != "" {
            return Err(Error::schema(format!(
                "SQL: {item} together with LATERAL VIEW is not supported. Name the columns."
            )));
        }
        let one = |name: String| SelectItem::UnnamedExpr(Expr::Identifier(Ident::with_quote('`', name)));
        out.extend(columns.into_iter().map(one));
    }
    Ok(out)
}

/// The name of the table in FROM, if there is only one.
fn alias_of(select: &Select) -> Option<String> {
    match &select.from[..] {
        [one] if one.joins.is_empty() => names_of(&one.relation).pop(),
        _ => None,
    }
}

/// The names of a table, the alias last.
fn names_of(table: &TableFactor) -> Vec<String> {
    let (name, alias) = match table {
        TableFactor::Table { name, alias, .. } => (Some(name.to_string()), alias),
        TableFactor::Derived { alias, .. } => (None, alias),
        _ => return vec![],
    };
    let plain = |n: String| n.trim_matches('`').to_string();
    let alias = alias.as_ref().map(|a| a.name.value.clone());
    name.into_iter().chain(alias).map(plain).collect()
}

/// Removes the names of tables in front of columns, and the name of the view in front of its columns. In a subquery, these names are replaced by
/// the name of the generated rows, unless the subquery has its own table with the removed name.
struct Unqualify {
    tables: Vec<String>,
    /// The name of the view, and the names of its columns, if the text gives them.
    view: (String, Vec<String>),
    /// The name of the generated rows.
    table: String,
    /// The tables of the subqueries that contain an expression.
    inner: Vec<Vec<String>>,
}

impl Unqualify {
    fn is_left_out(&self, parts: &[Ident]) -> bool {
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        let (view, made) = &self.view;
        // A view often has the same name as its column. Then item.price is a field of the column.
        let of_view = same(view, &parts[0].value) && (made.is_empty() || made.iter().any(|c| same(c, &parts[1].value)));
        of_view || self.tables.iter().any(|t| same(t, &parts[0].value))
    }
}

impl VisitorMut for Unqualify {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let mut names = vec![];
        if let SetExpr::Select(select) = &*query.body {
            let tables = select
                .from
                .iter()
                .flat_map(|f| std::iter::once(&f.relation).chain(f.joins.iter().map(|j| &j.relation)));
            names.extend(tables.flat_map(names_of));
        }
        self.inner.push(names);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.inner.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(parts) = expr
            && parts.len() > 1
            && self.is_left_out(parts)
        {
            if !self.inner.is_empty() {
                let hidden = self.inner.iter().flatten().any(|t| t.eq_ignore_ascii_case(&parts[0].value));
                if !hidden {
                    parts[0] = Ident::with_quote('`', self.table.clone());
                }
                return ControlFlow::Continue(());
            }
            parts.remove(0);
            if let [one] = &parts[..] {
                *expr = Expr::Identifier(one.clone());
            }
        }
        ControlFlow::Continue(())
    }
}

fn from(table: &str, alias: Option<String>) -> Result<Vec<datafusion::sql::sqlparser::ast::TableWithJoins>> {
    let alias = alias.map(|a| format!(" AS {}", quoted(&a))).unwrap_or_default();
    match *query_of(&format!("SELECT * FROM {table}{alias}"))?.body {
        SetExpr::Select(select) => Ok(select.from),
        _ => Err(Error::internal("a query that is not a SELECT")),
    }
}

async fn run(ctx: &SessionContext, with: Vec<Cte>, select: Select) -> Result<Rows> {
    let mut query = query_of("SELECT 1")?;
    query.body = Box::new(SetExpr::Select(Box::new(select)));
    if !with.is_empty() {
        query.with = Some(With {
            with_token: datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken::empty(),
            recursive: false,
            cte_tables: with,
        });
    }
    super::rows_of(ctx, Parsed::Query(query)).await
}

/// The rows that the generator makes from each row.
fn make(rows: &Rows, text: &str) -> Result<Rows> {
    let Rows { schema, batches } = plain(&rows.schema, rows.batches.clone())?;
    let selection = bind_selection(&[text.to_string()], &schema, Dialect::Databricks).map_err(|e| e.context("SQL"))?;
    let generator = selection.generator.ok_or_else(|| Error::internal("a call that is not a generator"))?;
    let is_argument = |f: &Field| f.name().starts_with(ARGUMENT);
    let place = schema.fields().iter().position(|f| is_argument(f)).unwrap_or(schema.fields().len());
    let others: Vec<usize> = (0..schema.fields().len()).filter(|i| !is_argument(schema.field(*i))).collect();
    let mut fields: Vec<Field> = others.iter().map(|i| schema.field(*i).clone()).collect();
    let place = place.min(fields.len());
    fields.splice(place..place, generator.fields.iter().cloned());
    let out: SchemaRef = Arc::new(Schema::new(fields));
    // All these rows are in memory at the same time.
    let mut left = half_of_memory();
    let one = |b| rows_of_batch(b, &generator, &others, place, &out, &mut left);
    let made = batches.iter().map(one).collect::<Result<_>>()?;
    Ok(Rows { schema: out, batches: made })
}

fn rows_of_batch(
    batch: &RecordBatch,
    generator: &Generator,
    others: &[usize],
    place: usize,
    schema: &SchemaRef,
    left: &mut usize,
) -> Result<RecordBatch> {
    let args: Vec<ArrayRef> = generator.args.iter().map(|a| a.evaluate(batch)).collect::<Result<_>>()?;
    let (mut parents, mut places) = (vec![], vec![]);
    let lengths = generator.lengths(&args, batch.num_rows());
    let of_row = |row: usize| others.iter().map(|i| value_bytes(&batch.column(*i).slice(row, 1))).sum::<usize>();
    let repeated = |(row, n): (usize, &Option<u32>)| n.map_or(1, |n| n as usize).saturating_mul(of_row(row));
    *left = left.checked_sub(lengths.iter().enumerate().map(repeated).sum()).ok_or_else(|| {
        Error::schema(format!(
            "SQL: the rows that {} makes would take more than half of the memory. Leave the list itself and long columns out of this SELECT.",
            generator.sql
        ))
    })?;
    for (row, length) in lengths.into_iter().enumerate() {
        for at in 0..length.unwrap_or(1) {
            parents.push(row as u32);
            places.push(length.map(|_| at));
        }
    }
    let (parents, places) = (UInt32Array::from(parents), UInt32Array::from(places));
    let mut columns = others.iter().map(|i| Ok(take(batch.column(*i), &parents, None)?)).collect::<Result<Vec<_>>>()?;
    columns.splice(place..place, generator.columns(&args, &parents, &places)?);
    let options = RecordBatchOptions::new().with_row_count(Some(parents.len()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}
