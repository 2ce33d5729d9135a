//! UNION, INTERSECT, EXCEPT, USING and IN combine rows of two queries. Their values get the type that Spark gives them. The planner has different
//! rules: it reads a number as a string if the other value is a string.

use super::floats::{has_floats, one_form};
use super::plain_type;
use super::scalar::Scalar;
use super::spoken::Spoken;
use crate::Error;
use crate::expr::{common_type, type_to_ddl};
use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::{
    Distinct, Expr, ExprSchemable, Join, JoinConstraint, LogicalPlan, Projection, ScalarUDF, Subquery, Union,
};
use std::sync::Arc;

/// The plan in which values that are combined or compared have one type.
pub(super) fn agree(plan: LogicalPlan, spoken: &Spoken) -> Result<LogicalPlan> {
    let agreed = plan.transform_up_with_subqueries(|node| {
        // The types below the node may have changed.
        let node = node.recompute_schema()?;
        Ok(Transformed::yes(match node {
            LogicalPlan::Union(u) => LogicalPlan::Union(union(u, spoken)?),
            LogicalPlan::Join(j) => LogicalPlan::Join(join(j, spoken)?),
            other => {
                let inputs = other.inputs();
                let mut schema = DFSchema::empty();
                inputs.iter().for_each(|i| schema.merge(i.schema()));
                other.map_expressions(|e| e.transform_up(|e| in_subquery(e, &schema, spoken)))?.data
            }
        }))
    });
    agreed.map(|t| t.data)
}

/// The common type of both. `None`: both have the same type already.
fn both(place: &str, a: &DataType, b: &DataType) -> Result<Option<DataType>> {
    let (a, b) = (plain_type(a), plain_type(b));
    if a == b {
        return Ok(None);
    }
    common_type(&a, &b).map(Some).ok_or_else(|| {
        DataFusionError::External(Box::new(Error::schema(format!(
            "{place}: {} and {} have no type in common. Use CAST.",
            type_to_ddl(&a),
            type_to_ddl(&b)
        ))))
    })
}

fn cast(expr: Expr, from: &DataType, to: &DataType, spoken: &Spoken) -> Expr {
    match plain_type(from) == *to {
        true => expr,
        false => {
            let name = spoken.shown(&expr.qualified_name().1);
            ScalarUDF::from(Scalar::cast(to, name, spoken.moment)).call(vec![expr])
        }
    }
}

/// A value as a key: of one type, and in one form.
fn key(expr: Expr, from: &DataType, to: Option<&DataType>, spoken: &Spoken) -> Expr {
    let to = to.unwrap_or(from);
    let expr = cast(expr, from, to, spoken);
    if has_floats(to) { one_form(expr) } else { expr }
}

fn union(u: Union, spoken: &Spoken) -> Result<Union> {
    let mut types: Vec<DataType> = u.schema.fields().iter().map(|_| DataType::Null).collect();
    let mut mixed = false;
    for input in &u.inputs {
        for (to, f) in types.iter_mut().zip(input.schema().fields()) {
            if *to == DataType::Null {
                *to = plain_type(f.data_type());
            } else if let Some(wider) = both(&format!("UNION: {}", spoken.shown(f.name())), to, f.data_type())? {
                *to = wider;
            }
        }
    }
    let mut inputs = vec![];
    for input in &u.inputs {
        let columns = input.schema().iter().zip(&types).map(|((table, f), to)| {
            let column = Expr::Column(Column::from((table, f)));
            if plain_type(f.data_type()) == *to {
                return column;
            }
            mixed = true;
            cast(column, f.data_type(), to, spoken).alias_qualified(table.cloned(), f.name())
        });
        let columns = columns.collect();
        inputs.push(Arc::new(LogicalPlan::Projection(Projection::try_new(columns, input.clone())?)));
    }
    if mixed { Union::try_new_with_loose_types(inputs) } else { Ok(u) }
}

/// Gives common types to the columns of USING, and to the columns of both sides of INTERSECT and EXCEPT.
fn join(mut j: Join, spoken: &Spoken) -> Result<Join> {
    // The planner turns INTERSECT and EXCEPT into joins over all columns. The rows of the result have the common types.
    let fields = j.left.schema().fields().len();
    if j.null_equality == NullEquality::NullEqualsNull
        && matches!(j.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && j.on.len() == fields
        && j.filter.is_none()
    {
        let mut types = vec![];
        for (a, b) in j.left.schema().fields().iter().zip(j.right.schema().fields()) {
            types.push(both(&spoken.shown(a.name()), a.data_type(), b.data_type())?);
        }
        if types.iter().any(Option::is_some) {
            let (rows, distinct) = match &*j.left {
                LogicalPlan::Distinct(Distinct::All(rows)) => (rows.clone(), true),
                _ => (j.left.clone(), false),
            };
            let columns = rows.schema().iter().zip(&types).map(|((table, f), to)| {
                let column = Expr::Column(Column::from((table, f)));
                match to {
                    Some(to) => cast(column, f.data_type(), to, spoken).alias_qualified(table.cloned(), f.name()),
                    None => column,
                }
            });
            let columns: Vec<Expr> = columns.collect();
            let cast = Arc::new(LogicalPlan::Projection(Projection::try_new(columns, rows)?));
            let left = if distinct { Arc::new(LogicalPlan::Distinct(Distinct::All(cast))) } else { cast };
            j = Join { schema: left.schema().clone(), left, ..j };
        }
    }
    let mut on = vec![];
    for (left, right) in &j.on {
        let (a, b) = (left.get_type(j.left.schema())?, right.get_type(j.right.schema())?);
        let to = both(&format!("{left} = {right}"), &a, &b)?;
        on.push((key(left.clone(), &a, to.as_ref(), spoken), key(right.clone(), &b, to.as_ref(), spoken)));
    }
    match on == j.on {
        true => Ok(j),
        false => Ok(Join { on, join_constraint: JoinConstraint::On, ..j }),
    }
}

fn in_subquery(e: Expr, schema: &DFSchema, spoken: &Spoken) -> Result<Transformed<Expr>> {
    let Expr::InSubquery(InSubquery { expr, subquery, negated }) = e else { return Ok(Transformed::no(e)) };
    let column = subquery.subquery.schema().iter().next().map(|(table, f)| (table.cloned(), f.clone()));
    let (table, field): (_, Arc<Field>) = match column {
        Some(column) => column,
        None => return Ok(Transformed::no(Expr::InSubquery(InSubquery { expr, subquery, negated }))),
    };
    let a = expr.get_type(schema)?;
    let to = both("IN (SELECT …)", &a, field.data_type())?;
    let own = key((*expr).clone(), &a, to.as_ref(), spoken);
    let column = Expr::Column(Column::from((table.as_ref(), &field)));
    let theirs = key(column.clone(), field.data_type(), to.as_ref(), spoken);
    if own == *expr && theirs == column {
        return Ok(Transformed::no(Expr::InSubquery(InSubquery { expr, subquery, negated })));
    }
    let plan = Projection::try_new(vec![theirs.alias(field.name())], subquery.subquery.clone())?;
    let subquery = Subquery { subquery: Arc::new(LogicalPlan::Projection(plan)), ..subquery };
    Ok(Transformed::yes(Expr::InSubquery(InSubquery { expr: Box::new(own), subquery, negated })))
}
