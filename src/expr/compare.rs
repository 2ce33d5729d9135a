//! Comparisons, IN, LIKE and RLIKE.

use super::build;
use super::cast::implicit;
use super::coerce::{Param, common, is_float, is_interval, strictly_common, unify};
use super::ddl::type_to_ddl;
use super::evaluate::row_error;
use super::java_regex::JavaRegex;
use super::kernel::{Args, Kernel, bools};
use super::lists;
use super::node::Typed;
use super::once::once;
use crate::{Error, Result};
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Scalar};
use arrow::compute::kernels::comparison::like as arrow_like;
use arrow::datatypes::{DataType, Float32Type, Float64Type, IntervalUnit, Schema};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, InListExpr};
use std::sync::Arc;

pub(super) fn compare(op: &'static str, left: Typed, right: Typed) -> Result<Typed> {
    let shown = op;
    let sql = format!("({} {shown} {})", left.sql, right.sql).replace("(<>)", "<>");
    let sql = if op == "<>" { format!("(NOT ({} = {}))", left.sql, right.sql) } else { sql };
    let comparable = |to: &DataType| !super::variant::is(to);
    let nested = left.data_type.is_nested() || right.data_type.is_nested();
    let both = if nested { strictly_common } else { common };
    let to = both(&left.data_type, &right.data_type).filter(comparable).ok_or_else(|| {
        Error::schema(format!(
            "({} {op} {}): {} and {} cannot be compared. Use CAST.",
            left.sql,
            right.sql,
            type_to_ddl(&left.data_type),
            type_to_ddl(&right.data_type)
        ))
    })?;
    if !lists::is_ordered(&to) {
        return Err(Error::schema(format!("{sql}: comparing {} is not supported", type_to_ddl(&to))));
    }
    if to == DataType::Null {
        // NULL = NULL is NULL, NULL <=> NULL is true.
        return Ok(match op {
            "<=>" => Typed::literal(true.into(), sql),
            _ => Typed::null(&DataType::Boolean).named(sql),
        });
    }
    let (left, right) = (implicit(left, &to)?, implicit(right, &to)?);
    let same = op == "<=>";
    let nullable = !same && (left.nullable || right.nullable);
    if to.is_nested() {
        let mut typed = Typed::call(vec![left, right], DataType::Boolean, false, sql, by_keys(op));
        typed.nullable = nullable;
        return Ok(typed);
    }
    if is_float(&to) {
        let kernel = if to == DataType::Float64 { floats::<Float64Type>(op) } else { floats::<Float32Type>(op) };
        let mut typed = Typed::call(vec![left, right], DataType::Boolean, false, sql, kernel);
        typed.nullable = nullable;
        return Ok(typed);
    }
    let operator = operator(op).ok_or_else(|| Error::internal(format!("{op} is not a comparison")))?;
    let expr = Arc::new(BinaryExpr::new(left.expr.clone(), operator, right.expr.clone()));
    Ok(Typed::wrap(expr, &[left, right], DataType::Boolean, nullable, sql))
}

/// The planner's operator for a comparison.
pub(super) fn operator(op: &str) -> Option<Operator> {
    Some(match op {
        "=" => Operator::Eq,
        "<>" => Operator::NotEq,
        "<" => Operator::Lt,
        "<=" => Operator::LtEq,
        ">" => Operator::Gt,
        ">=" => Operator::GtEq,
        "<=>" => Operator::IsNotDistinctFrom,
        _ => return None,
    })
}

/// Comparisons of arrays and structs. NULLs within them are equal, and less than anything else.
fn by_keys(op: &'static str) -> Kernel {
    Arc::new(move |a| {
        let (x, y) = (a.full(0)?, a.full(1)?);
        let [p, q] = lists::keys([&x, &y])?;
        bools(a.rows, |i| {
            if op != "<=>" && (x.is_null(i) || y.is_null(i)) {
                return Ok(None);
            }
            let order = p.row(i).cmp(&q.row(i));
            Ok(Some(match op {
                "<>" => order.is_ne(),
                "<" => order.is_lt(),
                "<=" => order.is_le(),
                ">" => order.is_gt(),
                ">=" => order.is_ge(),
                _ => order.is_eq(),
            }))
        })
    })
}

/// Intervals of months, days and microseconds have no order.
pub(super) fn is_unordered(t: &DataType) -> bool {
    *t == DataType::Interval(IntervalUnit::MonthDayNano)
}

trait Spark: Copy {
    /// Equality as in Spark: NaN equals NaN, and 0.0 equals -0.0.
    fn same(self, other: Self) -> bool;
    /// NaN is greater than everything else.
    fn less(self, other: Self) -> bool;
}
macro_rules! spark_floats {
    ($($t:ty),*) => { $(impl Spark for $t {
        #[inline]
        fn same(self, other: Self) -> bool {
            (self == other) | (self.is_nan() & other.is_nan())
        }
        #[inline]
        fn less(self, other: Self) -> bool {
            (self < other) | (!self.is_nan() & other.is_nan())
        }
    })* };
}
spark_floats!(f32, f64);

/// Comparisons of floats in Spark's order. Arrow compares their bits, so that -0.0 is less than 0.0.
fn floats<T: ArrowPrimitiveType>(op: &'static str) -> Kernel
where
    T::Native: Spark,
{
    fn run<T: ArrowPrimitiveType>(a: &Args, f: impl Fn(T::Native, T::Native) -> bool) -> DfResult<BooleanArray> {
        let (x, y) = (a.num::<T>(0)?, a.num::<T>(1)?);
        let scalar = |k: usize| a.mask(k) == 0;
        Ok(match (scalar(0), scalar(1)) {
            (false, true) => match y.get(0) {
                Some(y) => BooleanArray::from_unary(x.array, |x| f(x, y)),
                None => BooleanArray::new_null(a.rows),
            },
            (true, false) => match x.get(0) {
                Some(x) => BooleanArray::from_unary(y.array, |y| f(x, y)),
                None => BooleanArray::new_null(a.rows),
            },
            _ => BooleanArray::from_binary(x.array, y.array, f),
        })
    }
    Arc::new(move |a| {
        let out = match op {
            "=" => run::<T>(a, Spark::same)?,
            "<>" => run::<T>(a, |x, y| !x.same(y))?,
            "<" => run::<T>(a, Spark::less)?,
            "<=" => run::<T>(a, |x, y| !y.less(x))?,
            ">" => run::<T>(a, |x, y| y.less(x))?,
            ">=" => run::<T>(a, |x, y| !x.less(y))?,
            _ => {
                let (x, y) = (a.num::<T>(0)?, a.num::<T>(1)?);
                return bools(a.rows, |i| {
                    Ok(Some(match (x.get(i), y.get(i)) {
                        (Some(x), Some(y)) => x.same(y),
                        (None, None) => true,
                        _ => false,
                    }))
                });
            }
        };
        Ok(Arc::new(out) as ArrayRef)
    })
}

/// Whether the left value of each pair is less; NULL where one of the two is NULL.
pub(super) fn less(left: &ArrayRef, right: &ArrayRef) -> DfResult<BooleanArray> {
    match left.data_type() {
        DataType::Float64 => Ok(BooleanArray::from_binary(
            left.as_primitive::<Float64Type>(),
            right.as_primitive::<Float64Type>(),
            Spark::less,
        )),
        DataType::Float32 => Ok(BooleanArray::from_binary(
            left.as_primitive::<Float32Type>(),
            right.as_primitive::<Float32Type>(),
            Spark::less,
        )),
        t if t.is_nested() => {
            let [p, q] = lists::keys([left, right])?;
            let less = |i: usize| (left.is_valid(i) && right.is_valid(i)).then(|| p.row(i) < q.row(i));
            Ok((0..left.len()).map(less).collect())
        }
        _ => Ok(arrow::compute::kernels::cmp::lt(left, right)?),
    }
}

pub(super) fn in_list(operand: Typed, list: Vec<Typed>, negated: bool) -> Result<Typed> {
    let shown: Vec<&str> = list.iter().map(|l| l.sql.as_str()).collect();
    let sql = format!("({} IN ({}))", operand.sql, shown.join(", "));
    let mut all = vec![operand];
    all.extend(list);
    // The names of the fields of structs do not count.
    let first = all[0].data_type.clone();
    if first.is_nested() {
        let cast = |t: Typed| match strictly_common(&first, &t.data_type) {
            Some(to) if to == first => implicit(t, &first),
            _ => Ok(t),
        };
        all = all.into_iter().map(cast).collect::<Result<_>>()?;
    }
    let (mut list, to) = unify(&sql, all)?;
    let operand = list.remove(0);
    if !lists::is_ordered(&to) {
        return Err(Error::schema(format!("{sql}: comparing {} is not supported", type_to_ddl(&to))));
    }
    let found = if to == DataType::Null {
        Typed::null(&DataType::Boolean)
    } else if is_float(&to) || to.is_nested() || is_interval(&to) || !list.iter().all(|l| l.constant().is_some()) {
        once(operand, |operand| {
            let tests = list.into_iter().map(|l| compare("=", operand.clone(), l).map(|t| t.named("")));
            build::all_of(false, tests.collect::<Result<_>>()?)
        })?
    } else {
        let nullable = operand.nullable || list.iter().any(|l| l.nullable);
        // `InListExpr` asks for the type of the operand, and a call knows it without a schema.
        let label = operand.sql.clone();
        let known = Typed::call(vec![operand.clone()], to.clone(), false, label, Arc::new(|a| Ok(a.array(0).clone())));
        let values = list.iter().map(|l| l.expr.clone()).collect();
        let expr = InListExpr::try_new(known.expr, values, false, &Schema::empty())?;
        list.push(operand);
        Typed::wrap(Arc::new(expr), &list, DataType::Boolean, nullable, sql.clone())
    };
    let found = found.named(sql);
    if negated { build::not(found) } else { Ok(found) }
}

/// The pattern with a backslash as its escape character, or the reason why it is wrong.
fn backslashed(pattern: &str, escape: char) -> Result<String, &'static str> {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c == escape {
            match chars.next() {
                Some(next) if next == escape => {
                    if next == '\\' || next == '%' || next == '_' {
                        out.push('\\');
                    }
                    out.push(next);
                }
                Some(next @ ('%' | '_')) => {
                    out.push('\\');
                    out.push(next);
                }
                Some(_) => return Err("the escape character is before a character that needs no escape"),
                None => return Err("it ends with the escape character"),
            }
        } else if c == '\\' {
            out.push_str("\\\\");
        } else {
            out.push(c);
        }
    }
    Ok(out)
}

/// ILIKE as in Spark: LIKE on the lower case of both texts. The lower case of a letter may depend on its neighbours.
fn lower_like(text: &ArrayRef, pattern: &Scalar<arrow::array::StringArray>) -> DfResult<BooleanArray> {
    Ok(arrow_like(&lower(text)?, pattern)?)
}

fn lower(text: &ArrayRef) -> DfResult<ArrayRef> {
    let text = text.as_string::<i32>();
    super::kernel::strings(text.len(), |i| Ok(text.is_valid(i).then(|| text.value(i).to_lowercase())))
}

pub(super) fn like(kind: &'static str, operand: Typed, pattern: Typed, escape: Option<char>) -> Result<Typed> {
    let operand = Param::Text.take(kind, 0, operand)?;
    let pattern = Param::Text.take(kind, 1, pattern)?;
    let sql = match kind {
        "RLIKE" => format!("RLIKE({}, {})", operand.sql, pattern.sql),
        "ILIKE" => format!("ilike({}, {})", operand.sql, pattern.sql),
        _ => format!("{} LIKE {}", operand.sql, pattern.sql),
    };
    let sql = match escape {
        Some(c) if c != '\\' => format!("{sql} ESCAPE '{c}'"),
        _ => sql,
    };
    if kind == "RLIKE" {
        return rlike(operand, pattern, sql);
    }
    let escape = escape.unwrap_or('\\');
    let insensitive = kind == "ILIKE";
    if let Some(text) = pattern.text() {
        let text = if insensitive { text.to_lowercase() } else { text.to_string() };
        let text = backslashed(&text, escape)
            .map_err(|e| Error::schema(format!("{sql}: the pattern is wrong: {e} ('{escape}')")))?;
        let scalar = Scalar::new(arrow::array::StringArray::from(vec![text]));
        let kernel: Kernel = Arc::new(move |a| {
            let out = if insensitive { lower_like(a.array(0), &scalar)? } else { arrow_like(a.array(0), &scalar)? };
            Ok(Arc::new(out))
        });
        return Ok(Typed::call(vec![operand], DataType::Boolean, false, sql, kernel));
    }
    let kernel: Kernel = Arc::new(move |a| {
        let pattern = a.str(1)?;
        let patterns = super::kernel::strings(a.rows, |i| match pattern.get(i) {
            None => Ok(None),
            Some(p) => backslashed(p, escape).map(Some).map_err(|e| row_error(format!("the pattern is wrong: {e}"))),
        })?;
        let text = a.full(0)?;
        let out =
            if insensitive { arrow_like(&lower(&text)?, &lower(&patterns)?)? } else { arrow_like(&text, &patterns)? };
        Ok(Arc::new(out))
    });
    Ok(Typed::call(vec![operand, pattern], DataType::Boolean, false, sql, kernel))
}

/// `LIKE ANY (…)` and `LIKE ALL (…)`, with Spark's names for them.
pub(super) fn like_some(
    kind: &'static str,
    operand: Typed,
    patterns: Vec<Typed>,
    all: bool,
    negated: bool,
) -> Result<Typed> {
    let constant = patterns.iter().all(|p| p.text().is_some());
    let shown = if kind == "ILIKE" { format!("lower({})", operand.sql) } else { operand.sql.clone() };
    let name = format!("{}like{}({shown})", if negated { "not" } else { "" }, if all { "all" } else { "any" });
    let made = once(operand, |operand| {
        let mut out: Option<Typed> = None;
        for pattern in patterns {
            let like = like(kind, operand.clone(), pattern, None)?;
            let like = if negated { build::not(like)? } else { like };
            out = Some(match out {
                Some(before) => build::logic(all, before, like)?,
                None => like,
            });
        }
        out.ok_or_else(|| Error::internal("LIKE without patterns"))
    })?;
    Ok(if constant { made.named(name) } else { made })
}

/// The compiled pattern, if it is a constant; it is checked while binding.
pub(super) fn constant_regex(place: &str, pattern: &Typed) -> Result<Option<Arc<JavaRegex>>> {
    match pattern.text() {
        None => Ok(None),
        Some(text) => match JavaRegex::new(text) {
            Ok(regex) => Ok(Some(Arc::new(regex))),
            Err(why) => Err(Error::schema(format!("{place}: the regular expression '{text}' cannot be used: {why}"))),
        },
    }
}

/// For patterns that differ by row: it remembers the last one.
#[derive(Default)]
pub(super) struct RegexCache(Option<(String, Arc<JavaRegex>)>);

impl RegexCache {
    pub(super) fn get(&mut self, pattern: &str) -> DfResult<Arc<JavaRegex>> {
        if let Some((text, regex)) = &self.0 {
            if text == pattern {
                return Ok(regex.clone());
            }
        }
        let made =
            Arc::new(JavaRegex::new(pattern).map_err(|why| row_error(format!("the regular expression: {why}")))?);
        self.0 = Some((pattern.to_string(), made.clone()));
        Ok(made)
    }
}

pub(super) fn rlike(operand: Typed, pattern: Typed, sql: String) -> Result<Typed> {
    let constant = constant_regex(&sql, &pattern)?;
    let kernel: Kernel = Arc::new(move |a| {
        let (text, pattern) = (a.str(0)?, a.str(1)?);
        let mut cache = RegexCache::default();
        bools(a.rows, |i| match (text.get(i), pattern.get(i)) {
            (Some(text), Some(pattern)) => match &constant {
                Some(regex) => Ok(Some(regex.is_match(text))),
                None => Ok(Some(cache.get(pattern)?.is_match(text))),
            },
            _ => Ok(None),
        })
    });
    Ok(Typed::call(vec![operand, pattern], DataType::Boolean, false, sql, kernel))
}
