//! Constructors of typed expressions that the binder, functions and aggregates use: conditions, logic, choices.

use super::cast;
use super::coerce::unify;
use super::ddl::type_to_ddl;
use super::node::{Coalesce, Logic, Typed};
use super::once::{self, Choose};
use crate::{Error, Result};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CaseExpr, IsNotNullExpr, IsNullExpr, NotExpr};
use std::sync::Arc;

/// The expression as a BOOLEAN, which it must be already, or NULL.
pub(super) fn condition(typed: Typed) -> Result<Typed> {
    match typed.data_type {
        DataType::Boolean => Ok(typed),
        DataType::Null => cast::implicit(typed, &DataType::Boolean),
        _ => Err(Error::schema(format!(
            "{} is {}, and a condition must be BOOLEAN",
            typed.sql,
            type_to_ddl(&typed.data_type)
        ))),
    }
}

/// The expression as an operand of AND, OR and NOT. As in Spark, these also take a string; CASE and if do not.
fn truth(typed: Typed) -> Result<Typed> {
    if typed.data_type == DataType::Utf8 { cast::implicit(typed, &DataType::Boolean) } else { condition(typed) }
}

pub(super) fn not(operand: Typed) -> Result<Typed> {
    let operand = truth(operand)?;
    let sql = format!("(NOT {})", operand.sql);
    let expr = Arc::new(NotExpr::new(operand.expr.clone()));
    let nullable = operand.nullable;
    Ok(Typed::wrap(expr, &[operand], DataType::Boolean, nullable, sql))
}

/// AND or OR of several conditions. As in Spark's parser they form a balanced tree, which is less deep than the chain is long.
pub(super) fn all_of(and: bool, mut all: Vec<Typed>) -> Result<Typed> {
    match all.len() {
        0 => Err(Error::internal("a condition without parts")),
        1 => Ok(all.remove(0)),
        n => {
            let right = all.split_off(n.div_ceil(2));
            logic(and, all_of(and, all)?, all_of(and, right)?)
        }
    }
}

pub(super) fn logic(and: bool, left: Typed, right: Typed) -> Result<Typed> {
    let (left, right) = (truth(left)?, truth(right)?);
    let sql = format!("({} {} {})", left.sql, if and { "AND" } else { "OR" }, right.sql);
    let nullable = left.nullable || right.nullable;
    let expr = Arc::new(Logic { and, sides: [left.expr.clone(), right.expr.clone()] });
    Ok(Typed::wrap(expr, &[left, right], DataType::Boolean, nullable, sql))
}

pub(super) fn is_null(operand: Typed, negated: bool) -> Typed {
    let sql = format!("({} IS {}NULL)", operand.sql, if negated { "NOT " } else { "" });
    let expr: Arc<dyn PhysicalExpr> = if negated {
        Arc::new(IsNotNullExpr::new(operand.expr.clone()))
    } else {
        Arc::new(IsNullExpr::new(operand.expr.clone()))
    };
    Typed::wrap(expr, &[operand], DataType::Boolean, false, sql)
}

/// The first value whose condition is true. `values` may have one more, for the rows where no condition is true.
pub(super) fn choose(whens: Vec<Typed>, values: Vec<Typed>, sql: String) -> Result<Typed> {
    let (mut values, data_type) = unify(&sql, values)?;
    if data_type == DataType::Null {
        return Ok(Typed::literal(ScalarValue::Null, sql));
    }
    let nullable = values.len() == whens.len() || values.iter().any(|v| v.nullable);
    let otherwise = if values.len() > whens.len() { values.pop() } else { None };
    if whens.iter().chain(&values).chain(&otherwise).any(once::uses_operand) {
        let pairs = whens.iter().zip(&values).flat_map(|(w, v)| [w.expr.clone(), v.expr.clone()]);
        let parts = pairs.chain(otherwise.map(|o| o.expr)).collect();
        let expr = Arc::new(Choose { parts, data_type: data_type.clone(), nullable });
        return Ok(Typed::other(expr, data_type, nullable, sql));
    }
    let mut args = whens.clone();
    args.extend(values.iter().cloned());
    args.extend(otherwise.clone());
    let pairs = whens.into_iter().zip(values).map(|(w, v)| (w.expr, v.expr)).collect();
    let expr = CaseExpr::try_new(None, pairs, otherwise.map(|o| o.expr))?;
    Ok(Typed::wrap(Arc::new(expr), &args, data_type, nullable, sql))
}

/// The first value that is not NULL.
pub(super) fn coalesce(args: Vec<Typed>, sql: String) -> Result<Typed> {
    let (args, data_type) = unify(&sql, args)?;
    if data_type == DataType::Null {
        return Ok(Typed::literal(ScalarValue::Null, sql));
    }
    let nullable = args.iter().all(|a| a.nullable);
    let expr = Arc::new(Coalesce { args: args.iter().map(|a| a.expr.clone()).collect(), data_type: data_type.clone() });
    Ok(Typed::wrap(expr, &args, data_type, nullable, sql))
}
