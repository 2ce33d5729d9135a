//! The aggregates of one `agg(...)`: the distinct aggregates in it, and the expressions over them.

use super::aggregate::Finish;
use super::arith;
use super::bind::{self, Binder};
use super::coerce::is_interval;
use super::functions;
use super::node::Typed;
use super::parse::{self, Function};
use super::{Aggregate, AggregateItem, Bound, Dialect, datafusion_dialect, group_function, spark_aggregates};
use crate::stack::with_room;
use crate::{Error, Result};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::physical_expr::expressions::Column;
use std::sync::Arc;

/// The items of one `agg(...)`. Each of them may be an expression over aggregates.
#[derive(Clone, Debug)]
pub struct Aggregation {
    /// The distinct aggregates: `sum(a) / count(*)` has two.
    pub aggregates: Vec<Aggregate>,
    pub(super) inner: SchemaRef,
    pub(super) outer: Vec<Bound>,
}

impl Aggregation {
    /// The output columns.
    pub fn outputs(&self) -> Vec<Field> {
        self.outer.iter().map(|b| Field::new(&b.name, b.data_type.clone(), b.nullable)).collect()
    }

    /// From the finished results, in the order of `aggregates`, to the output columns.
    pub fn project(&self, inner: &[ArrayRef], rows: usize) -> Result<Vec<ArrayRef>> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.inner.clone(), inner.to_vec(), &options)?;
        self.outer.iter().map(|b| b.evaluate(&batch)).collect()
    }

    /// Whether user functions are among them. They are called with the rows of each group when the group is finished.
    pub fn has_functions(&self) -> bool {
        self.aggregates.iter().any(|a| matches!(a.finish, Finish::Function(_)))
    }

    /// Distinguishes the user functions in it from others of the same names.
    pub fn functions(&self) -> Vec<String> {
        let identity = |a: &Aggregate| match &a.finish {
            Finish::Function(called) => Some(called.identity()),
            _ => None,
        };
        self.aggregates.iter().filter_map(identity).collect()
    }

    /// The functions' own names.
    pub fn function_names(&self) -> Vec<String> {
        let name = |a: &Aggregate| match &a.finish {
            Finish::Function(called) => Some(called.name().to_string()),
            _ => None,
        };
        self.aggregates.iter().filter_map(name).collect()
    }

    fn check_names(self) -> Result<Self> {
        let mut seen = std::collections::HashSet::new();
        for bound in &self.outer {
            if !seen.insert(bound.name.to_lowercase()) {
                return Err(Error::schema(format!(
                    "two aggregates would be named '{}'. Give one of them an alias with AS.",
                    bound.name
                )));
            }
        }
        Ok(self)
    }
}

pub(super) fn inner_schema(aggregates: &[Aggregate]) -> SchemaRef {
    let field = |(i, a): (usize, &Aggregate)| Field::new(format!("{i}: {}", a.name), a.data_type.clone(), a.nullable);
    Arc::new(Schema::new(aggregates.iter().enumerate().map(field).collect::<Vec<_>>()))
}

/// Binds the items of `agg(...)`; (alias, text) is an item of SQL.
pub(crate) fn bind_aggregation<I: Clone + Into<AggregateItem>>(
    items: &[I],
    schema: &SchemaRef,
    dialect: Dialect,
) -> Result<Aggregation> {
    let items: Vec<AggregateItem> = items.iter().cloned().map(Into::into).collect();
    let texts: Vec<(Option<&str>, &str)> = items
        .iter()
        .filter_map(|item| match item {
            AggregateItem::Sql { alias, text } => Some((alias.as_deref(), text.as_str())),
            AggregateItem::Function { .. } => None,
        })
        .collect();
    let mut aggregates: Vec<Aggregate> = vec![];
    let bound = with_room(|| match dialect {
        Dialect::DataFusion => datafusion_dialect::bind_aggregates(&texts, schema, &mut aggregates),
        Dialect::Databricks => bind_aggregates(&texts, schema, &mut aggregates),
    })?;
    let mut bound = bound.into_iter();
    let mut outer = vec![];
    for item in items {
        match item {
            AggregateItem::Sql { .. } => outer.extend(bound.next().unwrap_or_default()),
            AggregateItem::Function { alias, function, columns, data_type, order_by } => {
                let order_by = order_by.as_deref();
                outer.push(group_function::bind(
                    alias,
                    function,
                    &columns,
                    data_type,
                    order_by,
                    schema,
                    &mut aggregates,
                )?);
            }
        }
    }
    Aggregation { inner: inner_schema(&aggregates), aggregates, outer }.check_names()
}

/// The output columns of each text.
fn bind_aggregates(
    texts: &[(Option<&str>, &str)],
    schema: &SchemaRef,
    aggregates: &mut Vec<Aggregate>,
) -> Result<Vec<Vec<Bound>>> {
    let mut out = vec![];
    for (alias, text) in texts {
        let place = |e: Error| if e.message.contains(text) { e } else { e.context(format!("'{text}'")) };
        let parsed = parse::items(text)?;
        if parsed.len() > 1 && alias.is_some() {
            return Err(Error::schema(format!("'{text}' has {} aggregates; exactly one is expected", parsed.len())));
        }
        let mut outer = vec![];
        for item in parsed {
            if !item.columns.is_empty() {
                return Err(place(Error::schema("an aggregate has one name: AS name")));
            }
            let mut take = |function: &Function| take_aggregate(function, schema, aggregates);
            let mut binder = Binder::over_aggregates(schema, &mut take);
            let typed = binder.expr(&item.ast).map_err(place)?;
            let name = alias.map(str::to_string).or(item.alias).unwrap_or_else(|| bind::output_name(&item.ast, &typed));
            outer.push(bind::finish(name, typed)?);
        }
        out.push(outer);
    }
    Ok(out)
}

/// The column of the finished results that holds this aggregate. Equal aggregates share a column.
fn take_aggregate(function: &Function, schema: &SchemaRef, all: &mut Vec<Aggregate>) -> Result<Typed> {
    if function.name == "regr_r2" {
        let mut part = |name: &str| {
            let part = Function { name: name.into(), ..function.clone() };
            take_aggregate(&part, schema, all)
        };
        return Ok(spark_aggregates::r2([part("regr_sxx")?, part("regr_syy")?, part("regr_sxy")?]));
    }
    if function.name == "corr" {
        // `corr` is checked and named as the user wrote it, and computed from its parts.
        spark_aggregates::check_clauses(function)?;
        spark_aggregates::check_count(function, 2)?;
        let mut part = |name: &str| {
            let part = Function { name: name.into(), ..function.clone() };
            take_aggregate(&part, schema, all)
        };
        let parts = [part("regr_sxx")?, part("regr_syy")?, part("regr_sxy")?];
        let sql = parts[2].sql.replacen("regr_sxy", "corr", 1);
        return Ok(spark_aggregates::corr(parts, sql));
    }
    if let Some(typed) = of_intervals(function, schema, all)? {
        return Ok(typed);
    }
    let aggregate = spark_aggregates::bind(function, schema)?;
    Ok(shared(aggregate, all))
}

/// Intervals are aggregated as whole numbers, because accumulators and their state files have whole numbers and no
/// intervals.
fn of_intervals(function: &Function, schema: &SchemaRef, all: &mut Vec<Aggregate>) -> Result<Option<Typed>> {
    let name = match function.name.as_str() {
        name @ ("min" | "max" | "sum" | "try_sum") => name,
        "avg" | "mean" => "sum",
        "try_avg" => "try_sum",
        _ => return Ok(None),
    };
    let [argument] = &function.args[..] else { return Ok(None) };
    let Ok(interval) = Binder::new(schema).expr(argument) else { return Ok(None) };
    if !is_interval(&interval.data_type) {
        return Ok(None);
    }
    spark_aggregates::check_clauses(function)?;
    let number = functions::number_of(interval.clone())?;
    let part = |name: &str, all: &mut Vec<Aggregate>| -> Result<Typed> {
        let part = Function { name: name.into(), ..function.clone() };
        Ok(shared(spark_aggregates::bind_over(&part, vec![number.clone()], None, schema)?, all))
    };
    let result = functions::of_number(part(name, all)?, &interval);
    if name == function.name {
        return Ok(Some(result));
    }
    let sql = result.sql.replacen(name, &function.name, 1);
    let count = part("count", all)?;
    functions::scaled(arith::Op::Divide, &result.with_units(None), &count, &sql, name == "try_sum")
}

fn shared(aggregate: Aggregate, all: &mut Vec<Aggregate>) -> Typed {
    // The text alone does not decide: Spark prints min(a) and min('a') alike.
    let same =
        |a: &Aggregate| a.sql == aggregate.sql && a.arguments == aggregate.arguments && a.filter == aggregate.filter;
    let index = match all.iter().position(same) {
        Some(index) => index,
        None => {
            all.push(aggregate);
            all.len() - 1
        }
    };
    let a = &all[index];
    let column = Arc::new(Column::new(&format!("{index}: {}", a.name), index));
    Typed::other(column, a.data_type.clone(), a.nullable, a.sql.clone())
}
