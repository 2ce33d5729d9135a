//! Functions with a lambda: `transform(a, x -> x + 1)`.
//!
//! The body of a lambda is bound like every other expression. Its variables are slots (`once::Slot`), whose values are columns that are
//! added to the batch. `evaluate` runs the body over the elements of all lists of a batch at once. A variable hides columns, and variables
//! of outer lambdas, of the same name.

mod evaluate;
mod sort;

use super::bind::Binder;
use super::build::condition;
use super::cast::implicit;
use super::coerce::strictly_common;
use super::ddl::{list_of, map_of, type_to_ddl};
use super::functions::{Call, Spec, map_type, spec};
use super::lists::is_ordered;
use super::node::Typed;
use super::once;
use super::parse::{Ast, Function};
use crate::{Error, Result};
use arrow::datatypes::DataType;
pub(super) use evaluate::HigherOrder;
use std::sync::Arc;

pub(super) const LIST: &[Spec] = &[
    spec("aggregate", "aggregate(array, start, (acc, x) -> …[, acc -> …])", needs_lambda),
    spec("exists", "exists(array, x -> condition)", needs_lambda),
    spec("filter", "filter(array, x -> condition), filter(array, (x, i) -> condition)", needs_lambda),
    spec("forall", "forall(array, x -> condition)", needs_lambda),
    spec("map_filter", "map_filter(map, (k, v) -> condition)", needs_lambda),
    spec("map_zip_with", "map_zip_with(a, b, (k, v, w) -> …)", needs_lambda),
    spec("reduce", "reduce(array, start, (acc, x) -> …[, acc -> …])", needs_lambda),
    spec("transform", "transform(array, x -> …), transform(array, (x, i) -> …)", needs_lambda),
    spec("transform_keys", "transform_keys(map, (k, v) -> …)", needs_lambda),
    spec("transform_values", "transform_values(map, (k, v) -> …)", needs_lambda),
    spec("zip_with", "zip_with(a, b, (x, y) -> …)", needs_lambda),
];

fn needs_lambda(c: Call) -> Result<Typed> {
    Err(c.error("a lambda is expected"))
}

/// How the values of the body are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Transform,
    Filter,
    Exists,
    ForAll,
    Aggregate,
    ZipWith,
    MapFilter,
    MapZipWith,
    TransformKeys,
    TransformValues,
    Sort,
}

/// Whether the call has a lambda as an argument at a place where a lambda is allowed.
pub(super) fn takes_lambda(function: &Function) -> bool {
    match function.name.as_str() {
        "array_sort" => function.args.len() == 2,
        name => LIST.iter().any(|s| s.name == name),
    }
}

/// The error for a lambda at a place where a lambda is not allowed.
pub(super) fn misplaced(params: &[String]) -> Error {
    Error::schema(format!(
        "a lambda ({} -> …) goes into transform, filter, exists, forall, aggregate, reduce, zip_with, array_sort, map_filter, \
         map_zip_with, transform_keys and transform_values only",
        params.join(", ")
    ))
}

/// How Spark shows a variable.
const VARIABLE: &str = "namedlambdavariable()";

/// A bound lambda.
struct Lambda {
    body: Typed,
    slots: Vec<String>,
}

impl Lambda {
    fn sql(&self) -> String {
        format!("lambdafunction({}, {})", self.body.sql, vec![VARIABLE; self.slots.len()].join(", "))
    }

    fn bool(mut self, name: &str) -> Result<Self> {
        self.body = condition(self.body).map_err(|e| e.context(name))?;
        Ok(self)
    }
}

/// Binds a lambda whose variables have these types. At least `least` of them must be named.
fn lambda(binder: &mut Binder, name: &str, ast: &Ast, types: &[DataType], least: usize) -> Result<Lambda> {
    let hidden = Ast::Lambda(vec![], Box::new(ast.clone()));
    let (params, body) = match ast {
        Ast::Lambda(params, body) => (&params[..], &**body),
        // As in Spark, an expression is a lambda that does not look at the element.
        _ => match &hidden {
            Ast::Lambda(_, body) => (&[][..], &**body),
            _ => return Err(Error::internal("a lambda without a body")),
        },
    };
    if !params.is_empty() && !(least..=types.len()).contains(&params.len()) {
        let wanted = if least == types.len() { least.to_string() } else { format!("{least} or {}", types.len()) };
        return Err(Error::schema(format!(
            "{name}: its lambda has {} variables, and {wanted} are expected",
            params.len()
        )));
    }
    for (k, param) in params.iter().enumerate() {
        if params[..k].iter().any(|p| p.to_lowercase() == param.to_lowercase()) {
            return Err(Error::schema(format!("{name}: two variables of its lambda are named '{param}'")));
        }
    }
    let count = if params.is_empty() { least } else { params.len() };
    let depth = binder.depth;
    let slots: Vec<String> = (0..count).map(|k| once::variable_name(depth, k)).collect();
    let before = binder.scope.len();
    for ((param, slot), data_type) in params.iter().zip(&slots).zip(types) {
        let typed = once::slot(slot.clone(), data_type.clone(), VARIABLE);
        binder.scope.push((param.to_lowercase(), typed));
    }
    binder.depth += 1;
    let body = binder.expr(body);
    binder.depth -= 1;
    binder.scope.truncate(before);
    let body = body?;
    if super::coerce::is_interval(&body.data_type) || super::variant::is(&body.data_type) {
        let t = if super::variant::is(&body.data_type) { "VARIANT".into() } else { type_to_ddl(&body.data_type) };
        return Err(Error::schema(format!("{name}: {t} cannot be a value of a lambda")));
    }
    Ok(Lambda { body, slots })
}

/// Binds a call of a function with a lambda.
pub(super) fn bind(binder: &mut Binder, function: &Function) -> Result<Typed> {
    let name = function.name.as_str();
    let usage = LIST.iter().find(|s| s.name == name).map_or("array_sort(array, (a, b) -> comparison)", |s| s.usage);
    let wrong = |why: String| Error::schema(format!("{name}: {why}. Call it as {usage}."));
    let counts = match name {
        "aggregate" | "reduce" => 3..=4,
        "zip_with" | "map_zip_with" => 3..=3,
        _ => 2..=2,
    };
    if !counts.contains(&function.args.len()) {
        return Err(wrong(format!("{} arguments given", function.args.len())));
    }
    let values = match name {
        "aggregate" | "reduce" | "zip_with" | "map_zip_with" => 2,
        _ => 1,
    };
    if let Some(Ast::Lambda(..)) = function.args[..values].iter().find(|a| matches!(a, Ast::Lambda(..))) {
        return Err(wrong("its first argument is not a lambda".into()));
    }
    let mut args = binder.exprs(&function.args[..values])?;
    let item = |typed: &Typed| match &typed.data_type {
        DataType::List(of) => Ok(of.data_type().clone()),
        t => Err(wrong(format!("{} is {}, not an ARRAY", typed.sql, type_to_ddl(t)))),
    };
    let entry = |typed: &Typed| {
        super::lists::key_value(&typed.data_type)
            .ok_or_else(|| wrong(format!("{} is {}, not a MAP", typed.sql, type_to_ddl(&typed.data_type))))
    };
    let ast = &function.args[values];
    let int = DataType::Int32;
    let (kind, lambdas, data_type) = match name {
        "transform" => {
            let made = lambda(binder, name, ast, &[item(&args[0])?, int], 1)?;
            let to = list_of(made.body.data_type.clone());
            (Kind::Transform, vec![made], to)
        }
        "filter" => {
            let made = lambda(binder, name, ast, &[item(&args[0])?, int], 1)?.bool(name)?;
            (Kind::Filter, vec![made], args[0].data_type.clone())
        }
        "exists" | "forall" => {
            let kind = if name == "exists" { Kind::Exists } else { Kind::ForAll };
            (kind, vec![lambda(binder, name, ast, &[item(&args[0])?], 1)?.bool(name)?], DataType::Boolean)
        }
        "array_sort" => {
            let of = item(&args[0])?;
            let made = lambda(binder, name, ast, &[of.clone(), of], 2)?;
            if made.body.data_type != DataType::Int32 {
                let t = type_to_ddl(&made.body.data_type);
                return Err(wrong(format!("its comparison must be INT (less than 0, 0, or greater than 0), not {t}")));
            }
            (Kind::Sort, vec![made], args[0].data_type.clone())
        }
        "aggregate" | "reduce" => {
            let (of, start) = (item(&args[0])?, args[1].data_type.clone());
            let mut merge = lambda(binder, name, ast, &[start.clone(), of], 2)?;
            if strictly_common(&start, &merge.body.data_type) != Some(start.clone())
                || !same_type(&start, &merge.body.data_type)
            {
                let t = type_to_ddl(&merge.body.data_type);
                return Err(wrong(format!(
                    "it starts with {} and its lambda makes {t}. Begin with CAST({} AS {t}), or CAST the value of the lambda",
                    type_to_ddl(&start),
                    args[1].sql
                )));
            }
            merge.body = implicit(merge.body, &start)?;
            let finish = match function.args.get(3) {
                Some(ast) => lambda(binder, name, ast, std::slice::from_ref(&start), 1)?,
                None => {
                    let slot = once::variable_name(binder.depth, 0);
                    Lambda { body: once::slot(slot.clone(), start, VARIABLE), slots: vec![slot] }
                }
            };
            let to = finish.body.data_type.clone();
            (Kind::Aggregate, vec![merge, finish], to)
        }
        "zip_with" => {
            let made = lambda(binder, name, ast, &[item(&args[0])?, item(&args[1])?], 2)?;
            let to = list_of(made.body.data_type.clone());
            (Kind::ZipWith, vec![made], to)
        }
        "map_filter" => {
            let (k, v) = entry(&args[0])?;
            let made = lambda(binder, name, ast, &[k, v], 2)?.bool(name)?;
            (Kind::MapFilter, vec![made], args[0].data_type.clone())
        }
        "map_zip_with" => {
            let ((k1, v1), (k2, v2)) = (entry(&args[0])?, entry(&args[1])?);
            let Some(key) = strictly_common(&k1, &k2).filter(is_ordered) else {
                return Err(wrong(format!(
                    "keys of {} and of {} do not go together",
                    type_to_ddl(&k1),
                    type_to_ddl(&k2)
                )));
            };
            args[0] = implicit(args[0].clone(), &map_of(key.clone(), v1.clone()))?;
            args[1] = implicit(args[1].clone(), &map_of(key.clone(), v2.clone()))?;
            let made = lambda(binder, name, ast, &[key.clone(), v1, v2], 3)?;
            let to = map_of(key, made.body.data_type.clone());
            (Kind::MapZipWith, vec![made], to)
        }
        "transform_keys" => {
            let (k, v) = entry(&args[0])?;
            let made = lambda(binder, name, ast, &[k, v.clone()], 2)?;
            let to = map_type(name, made.body.data_type.clone(), v)?;
            (Kind::TransformKeys, vec![made], to)
        }
        _ => {
            let (k, v) = entry(&args[0])?;
            let made = lambda(binder, name, ast, &[k.clone(), v], 2)?;
            let to = map_of(k, made.body.data_type.clone());
            (Kind::TransformValues, vec![made], to)
        }
    };
    let shown: Vec<String> = args.iter().map(|a| a.sql.clone()).chain(lambdas.iter().map(Lambda::sql)).collect();
    let sql = format!("{}({})", if name == "reduce" { "reduce" } else { name }, shown.join(", "));
    let slots = lambdas.iter().map(|l| l.slots.clone()).collect();
    let bodies = lambdas.iter().map(|l| l.body.expr.clone()).collect();
    let args = args.into_iter().map(|a| a.expr).collect();
    let expr = HigherOrder::new(kind, args, bodies, slots, data_type.clone());
    Ok(Typed::other(Arc::new(expr), data_type, true, sql))
}

/// Whether two types differ at most in which of their fields may be NULL.
fn same_type(a: &DataType, b: &DataType) -> bool {
    type_to_ddl(a).replace(" NOT NULL", "") == type_to_ddl(b).replace(" NOT NULL", "")
}
