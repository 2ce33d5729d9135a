//! Expressions that mean the same to DataFusion's planner: comparisons of a column with a constant or a column, IN, BETWEEN, IS NULL, and AND, OR
//! and NOT of such. The planner uses these expressions to skip files, and to make joins that look rows up.
//!
//! Expressions of floats are excluded: the planner's order has two zeros, and NaNs below all numbers.

use super::bind::{Binder, finish};
use super::cast::implicit;
use super::coerce::{canonical, common, is_float, is_int, is_interval};
use super::compare::operator;
use super::float_order::normalised;
use super::parse::{self, Ast};
use super::{Bound, variant};
use crate::Result;
use crate::stack::with_room;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, Operator, binary_expr, cast, in_list, lit, not};

/// The part of an expression that the planner can use.
pub(crate) struct Native {
    pub expr: Expr,
    /// True: the part is the whole expression. False: the expression is TRUE only where this part is TRUE.
    pub whole: bool,
}

/// The expression over these arguments, which are the columns of the schema.
pub(crate) fn native(text: &str, schema: &SchemaRef, args: &[Expr]) -> Option<Native> {
    with_room(|| {
        let item = parse::item(text).ok()?;
        Lower { schema, args }.some(&item.ast)
    })
}

/// The type in which two expressions are compared, if values that are equal in it can be given one form.
pub(crate) fn key_type(left: &str, right: &str, schema: &SchemaRef) -> Option<DataType> {
    with_room(|| {
        let of = |text: &str| Binder::new(schema).expr(&parse::item(text).ok()?.ast).ok();
        let (left, right) = (of(left)?, of(right)?);
        let to = common(&left.data_type, &right.data_type)?;
        let plain = !to.is_nested() && !is_interval(&to) && !variant::is(&to) && to != DataType::Null;
        plain.then_some(to)
    })
}

/// Binds an expression as a value of this type. Equal values have one form: all NaNs, and 0.0 and -0.0.
pub(crate) fn bind_key(text: &str, to: &DataType, schema: &SchemaRef) -> Result<Bound> {
    with_room(|| {
        let typed = Binder::new(schema).expr(&parse::item(text)?.ast)?;
        let sql = typed.sql.clone();
        finish(sql, normalised(implicit(typed, to)?))
    })
}

struct Lower<'a> {
    schema: &'a SchemaRef,
    args: &'a [Expr],
}

impl Lower<'_> {
    /// For an AND, the sides that the planner can use.
    fn some(&self, ast: &Ast) -> Option<Native> {
        if let Some(expr) = self.all(ast) {
            return Some(Native { expr, whole: true });
        }
        let Ast::Binary("AND", left, right) = ast else { return None };
        let expr = match (self.some(left), self.some(right)) {
            (Some(a), Some(b)) => a.expr.and(b.expr),
            (Some(one), None) | (None, Some(one)) => one.expr,
            (None, None) => return None,
        };
        Some(Native { expr, whole: false })
    }

    fn all(&self, ast: &Ast) -> Option<Expr> {
        match ast {
            Ast::Binary(op @ ("AND" | "OR"), left, right) => {
                let (left, right) = (self.all(left)?, self.all(right)?);
                Some(if *op == "AND" { left.and(right) } else { left.or(right) })
            }
            Ast::Unary("NOT", operand) => Some(not(self.all(operand)?)),
            Ast::IsNull(operand, negated) => {
                let (column, _) = self.column(operand)?;
                Some(if *negated { column.is_not_null() } else { column.is_null() })
            }
            Ast::Binary(op, left, right) => {
                let op = operator(op)?;
                self.compared(op, left, right).or_else(|| self.compared(op.swap()?, right, left))
            }
            Ast::In { operand, list, negated } => {
                let (column, t) = self.column(operand)?;
                let list = list.iter().map(|v| Some(lit(self.constant(v, &t)?))).collect::<Option<Vec<_>>>()?;
                Some(in_list(column, list, *negated))
            }
            Ast::Between { operand, low, high, negated } => {
                let from = self.compared(Operator::GtEq, operand, low)?;
                let to = self.compared(Operator::LtEq, operand, high)?;
                let both = from.and(to);
                Some(if *negated { not(both) } else { both })
            }
            Ast::Column(_) => {
                let (column, t) = self.column(ast)?;
                (t == DataType::Boolean).then_some(column)
            }
            _ => None,
        }
    }

    /// An argument whose values bayou and the planner compare in the same way.
    fn column(&self, ast: &Ast) -> Option<(Expr, DataType)> {
        let Ast::Column(path) = ast else { return None };
        let [name] = &path[..] else { return None };
        let (index, field) = self.schema.column_with_name(name)?;
        let t = match field.data_type() {
            DataType::Dictionary(_, value) => value.as_ref(),
            t => t,
        };
        let same = canonical(t) == *t && !t.is_nested() && !is_float(t) && !is_interval(t);
        same.then(|| (self.args[index].clone(), t.clone()))
    }

    fn compared(&self, op: Operator, left: &Ast, right: &Ast) -> Option<Expr> {
        let (column, t) = self.column(left)?;
        if let Some((other, of)) = self.column(right) {
            let wide = if of.primitive_width() > t.primitive_width() { &of } else { &t };
            return match of == t || is_int(&of) && is_int(&t) {
                true => Some(binary_expr(widened(column, &t, wide), op, widened(other, &of, wide))),
                false => None,
            };
        }
        Some(binary_expr(column, op, lit(self.constant(right, &t)?)))
    }

    /// A constant as a value of the type of the column that it is compared with, if that is how Spark compares them.
    fn constant(&self, ast: &Ast, t: &DataType) -> Option<ScalarValue> {
        let typed = Binder::new(self.schema).expr(ast).ok()?;
        let value = typed.constant()?.clone();
        let of = value.data_type();
        if value.is_null() {
            return None;
        }
        if of == *t {
            return Some(value);
        }
        let converts = is_int(&of) && is_int(t)
            || of == DataType::Utf8 && matches!(t, DataType::Date32 | DataType::Timestamp(..))
            || of == DataType::Date32 && matches!(t, DataType::Timestamp(..))
            || is_int(&of) && matches!(t, DataType::Decimal128(..))
            || matches!((&of, t), (DataType::Decimal128(_, a), DataType::Decimal128(_, b)) if a <= b);
        if !converts {
            return None;
        }
        let value = implicit(typed, t).ok()?.constant()?.clone();
        (!value.is_null() && value.data_type() == *t).then_some(value)
    }
}

fn widened(column: Expr, of: &DataType, to: &DataType) -> Expr {
    if of == to { column } else { cast(column, to.clone()) }
}
