//! The binder: from Spark's grammar to typed expressions.

use super::arith;
use super::bits::{self, Shift};
use super::build::{all_of, choose, condition, is_null, logic, not};
use super::coerce::{canonical, is_interval};
use super::compare;
use super::ddl::type_to_ddl;
use super::functions;
use super::generate::{self, Selected, Selection};
use super::json_path;
use super::lambda;
use super::literal;
use super::lookup;
use super::node::Typed;
use super::once::once;
use super::parse::{self, Ast, Function, Item};
use super::{Bound, Dialect, cast, datafusion_dialect, nested, variant};
use crate::stack::with_room;
use crate::{Error, Kind, Result};
use arrow::datatypes::{DataType, IntervalUnit, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::expressions::Column;
use std::collections::HashMap;

/// Binds "expr" or "expr AS alias".
pub(crate) fn bind(text: &str, schema: &SchemaRef, dialect: Dialect) -> Result<Bound> {
    with_room(|| bind_one(text, schema, dialect)).map_err(|e| hint(e, text, schema))
}

fn bind_one(text: &str, schema: &SchemaRef, dialect: Dialect) -> Result<Bound> {
    match dialect {
        Dialect::Databricks => bind_item(parse::item(text)?, schema).map_err(|e| place(e, text)),
        Dialect::DataFusion => {
            let mut all = datafusion_dialect::bind_all(text, schema)?;
            match (all.len(), all.pop()) {
                (1, Some(one)) => Ok(one),
                (n, _) => Err(Error::schema(format!("'{text}' has {n} expressions; exactly one is expected"))),
            }
        }
    }
}

/// Binds a condition.
pub(crate) fn bind_predicate(text: &str, schema: &SchemaRef, dialect: Dialect) -> Result<Bound> {
    let bound = bind(text, schema, dialect)?;
    match bound.data_type {
        DataType::Boolean => Ok(bound),
        // A NULL alone is a condition that is never true.
        DataType::Null => bind(&format!("CAST(({text}) AS BOOLEAN)"), schema, dialect),
        _ => Err(Error::schema(format!(
            "'{text}' is {}, and a condition must be BOOLEAN. Compare it with a value.",
            type_to_ddl(&bound.data_type)
        ))),
    }
}

/// Binds a select list without generators. A text may hold several items, separated by commas, and `*`.
pub(crate) fn bind_select(items: &[String], schema: &SchemaRef, dialect: Dialect) -> Result<Vec<Bound>> {
    let selection = bind_selection(items, schema, dialect)?;
    let column = |item| match (item, &selection.generator) {
        (Selected::Column(bound), _) => Ok(bound),
        (Selected::Generated(_), Some(g)) => Err(generate::misplaced(g.sql.split('(').next().unwrap_or_default())),
        (Selected::Generated(_), None) => Err(Error::internal("a column that no generator makes")),
    };
    selection.items.into_iter().map(column).collect()
}

/// Binds a select list, which may have one generator. A text may hold several items, separated by commas, and `*`.
pub(crate) fn bind_selection(items: &[String], schema: &SchemaRef, dialect: Dialect) -> Result<Selection> {
    let mut out = Selection { items: vec![], generator: None };
    for text in items {
        let bound = with_room(|| match dialect {
            Dialect::DataFusion => {
                let bound = datafusion_dialect::bind_all(text, schema)?;
                out.items.extend(bound.into_iter().map(Selected::Column));
                Ok(())
            }
            Dialect::Databricks => bind_items(text, schema, &mut out),
        });
        bound.map_err(|e| hint(e, text, schema))?;
    }
    // Columns of the stream that differ in case only stay as they are.
    let is_column = |name: &str| schema.fields().iter().any(|f| f.name() == name);
    let mut seen: HashMap<String, String> = HashMap::new();
    for name in out.items.iter().map(|item| out.name(item)) {
        let Some(other) = seen.insert(name.to_lowercase(), name.clone()) else { continue };
        if other == name || !is_column(&other) || !is_column(&name) {
            return Err(Error::schema(format!(
                "two columns would be named '{name}' (upper and lower case are the same). Give one of them an alias with AS.",
            )));
        }
    }
    Ok(out)
}

fn bind_items(text: &str, schema: &SchemaRef, out: &mut Selection) -> Result<()> {
    for item in parse::items(text)? {
        if item.alias.is_none()
            && let Some(all) = several(&item.ast, schema).map_err(|e| place(e, text))?
        {
            out.items.extend(without(all, &item.except)?.into_iter().map(Selected::Column));
            continue;
        }
        match &item.ast {
            Ast::Function(function) if generate::is_generator(&function.name) => {
                let names: Vec<String> = item.columns.iter().chain(&item.alias).cloned().collect();
                let made = generate::bind(function, &names, schema).map_err(|e| place(e, text))?;
                if let Some(other) = &out.generator {
                    return Err(generate::twice(&other.sql, &made.sql));
                }
                out.items.extend((0..made.fields.len()).map(Selected::Generated));
                out.generator = Some(made);
            }
            _ => out.items.push(Selected::Column(bind_item(item, schema).map_err(|e| place(e, text))?)),
        }
    }
    Ok(())
}

/// The columns of `*`, and of `struct.*`.
fn several(ast: &Ast, schema: &SchemaRef) -> Result<Option<Vec<Bound>>> {
    let operand = match ast {
        Ast::Star => return star(schema).map(Some),
        Ast::Fields(operand) => operand,
        _ => return Ok(None),
    };
    let whole = Binder::new(schema).expr(operand)?;
    let DataType::Struct(fields) = whole.data_type.clone() else {
        return Err(Error::schema(format!(
            "{}.*: {} is {}, not a STRUCT. Of an ARRAY, explode or inline makes rows.",
            whole.sql,
            whole.sql,
            type_to_ddl(&whole.data_type)
        )));
    };
    let one =
        |f: &std::sync::Arc<arrow::datatypes::Field>| finish(f.name().clone(), nested::field(whole.clone(), f.name())?);
    fields.iter().map(one).collect::<Result<_>>().map(Some)
}

/// All columns except the ones that EXCEPT names.
fn without(mut all: Vec<Bound>, except: &[String]) -> Result<Vec<Bound>> {
    for name in except {
        let lower = name.to_lowercase();
        let Some(at) = all.iter().position(|b| b.name.to_lowercase() == lower) else {
            let names: Vec<&str> = all.iter().map(|b| b.name.as_str()).collect();
            return Err(Error::schema(format!(
                "EXCEPT: there is no column '{name}'.{}",
                crate::error::did_you_mean(name, names)
            )));
        };
        all.remove(at);
    }
    Ok(all)
}

/// Adds a hint to an error, if the user seems to mean a column that must be in backticks.
fn hint(e: Error, text: &str, schema: &SchemaRef) -> Error {
    if e.kind != Kind::Schema || e.message.contains("in backticks, `") {
        return e;
    }
    let meant = lookup::meant(text, schema).or_else(|| lookup::meant_within(text, schema));
    match meant {
        Some(meant) => Error { message: format!("{} {meant}", e.message.trim_end()), ..e },
        None => e,
    }
}

/// Every column.
pub(super) fn star(schema: &SchemaRef) -> Result<Vec<Bound>> {
    (0..schema.fields().len())
        .map(|i| finish(schema.field(i).name().clone(), Binder::new(schema).column_at(i)?))
        .collect()
}

/// Names the text in an error that does not name it yet.
fn place(e: Error, text: &str) -> Error {
    if e.message.contains(text) { e } else { e.context(format!("'{text}'")) }
}

fn bind_item(item: Item, schema: &SchemaRef) -> Result<Bound> {
    if let [first, ..] = &item.columns[..] {
        return Err(Error::schema(format!(
            "only a generator such as explode has several columns: AS ({first}, …) cannot name one value"
        )));
    }
    let typed = Binder::new(schema).expr(&item.ast)?;
    let name = item.alias.unwrap_or_else(|| output_name(&item.ast, &typed));
    finish(name, typed)
}

/// The name that Spark gives to a column without an alias.
pub(super) fn output_name(ast: &Ast, typed: &Typed) -> String {
    match ast {
        Ast::Column(path) if path.len() > 1 && typed.expr.downcast_ref::<Column>().is_none() => {
            path.last().cloned().unwrap_or_default()
        }
        // As in Databricks, a path has the name of its last field.
        Ast::Path(_, path) => json_path::last_name(path).map_or_else(|| typed.sql.clone(), str::to_string),
        // A cast of a column has the name of the column.
        Ast::Cast { operand, .. } => match (cast_of(operand), &**operand) {
            (Some(path), _) => path.last().cloned().unwrap_or_default(),
            (None, Ast::Path(_, path)) => json_path::last_name(path).map_or_else(|| typed.sql.clone(), str::to_string),
            // A cast to an ARRAY, MAP or STRUCT has the name of its operand.
            (None, _) if typed.data_type.is_nested() => {
                let cast = format!(" AS {})", type_to_ddl(&typed.data_type));
                let bare = typed.sql.strip_prefix("TRY_").unwrap_or(&typed.sql);
                let bare = bare.strip_prefix("CAST(").and_then(|s| s.strip_suffix(&cast));
                bare.unwrap_or(&typed.sql).to_string()
            }
            (None, _) => typed.sql.clone(),
        },
        _ => typed.sql.clone(),
    }
}

fn cast_of(ast: &Ast) -> Option<&Vec<String>> {
    match ast {
        Ast::Cast { operand, .. } => cast_of(operand),
        Ast::Column(path) => Some(path),
        _ => None,
    }
}

pub(super) fn finish(name: String, typed: Typed) -> Result<Bound> {
    if is_interval(&typed.data_type) {
        return Err(Error::schema(format!(
            "{0} is an INTERVAL, which no column can hold. Use timestampdiff(SECOND, from, to), unix_micros(b) - unix_micros(a), or CAST({0} AS STRING).",
            typed.sql
        )));
    }
    if variant::is(&typed.data_type) {
        return Err(variant::no_column(&typed.sql));
    }
    Ok(Bound::new(name, typed.sql, typed.data_type, typed.nullable, typed.expr))
}

/// The most bytes of the name of a column without an alias.
const LONGEST_NAME: usize = 1 << 20;

/// Binds the expressions over one schema.
pub(super) struct Binder<'a> {
    pub schema: &'a SchemaRef,
    /// Where the expression is over aggregates: replaces an aggregate in it by the column of its result.
    pub aggregates: Option<&'a mut dyn FnMut(&Function) -> Result<Typed>>,
    /// The variables of the lambdas around the expression, by their names in lower case. The last one counts.
    pub scope: Vec<(String, Typed)>,
    /// How many lambdas are around the expression.
    pub depth: usize,
}

impl<'a> Binder<'a> {
    pub(super) fn new(schema: &'a SchemaRef) -> Self {
        Self { schema, aggregates: None, scope: vec![], depth: 0 }
    }

    pub(super) fn over_aggregates(schema: &'a SchemaRef, take: &'a mut dyn FnMut(&Function) -> Result<Typed>) -> Self {
        Self { schema, aggregates: Some(take), scope: vec![], depth: 0 }
    }

    pub(super) fn column_at(&self, index: usize) -> Result<Typed> {
        let typed = Typed::column(self.schema, index);
        let wanted = canonical(&typed.data_type);
        cast::implicit(typed, &wanted)
    }

    pub(super) fn exprs(&mut self, asts: &[Ast]) -> Result<Vec<Typed>> {
        asts.iter().map(|a| self.expr(a)).collect()
    }

    pub(super) fn expr(&mut self, ast: &Ast) -> Result<Typed> {
        match ast {
            Ast::Column(path) => self.column(path),
            Ast::Star => Err(Error::schema("'*' must be alone or in count(*)")),
            Ast::Fields(_) => Err(Error::schema("'.*' must be alone in select(…), as in \"after.*\"")),
            Ast::Null => Ok(Typed::literal(ScalarValue::Null, "NULL")),
            Ast::Bool(value) => Ok(Typed::literal((*value).into(), value.to_string())),
            Ast::Text(text) => Ok(Typed::literal(text.as_str().into(), text.clone())),
            Ast::Number(text) => literal::number(text).map(|(value, sql)| Typed::literal(value, sql)),
            Ast::Typed(kind, text) => literal::typed(kind, text).map(|(value, sql)| Typed::literal(value, sql)),
            Ast::Interval { months, micros, units, sql } => Ok(interval(*months, *micros, *units, sql)),
            Ast::Unary(op, operand) => {
                let operand = self.expr(operand)?;
                match *op {
                    "NOT" => not(operand),
                    "~" => bits::complement(operand),
                    "+" => arith::plus(operand),
                    _ => arith::negate(operand),
                }
            }
            Ast::Binary(op, left, right) => self.binary(op, left, right),
            Ast::IsNull(operand, negated) => Ok(is_null(self.expr(operand)?, *negated)),
            Ast::IsBool { operand, value, negated } => {
                let operand = condition(self.expr(operand)?)?;
                let same = compare::compare("<=>", operand, Typed::literal((*value).into(), value.to_string()))?;
                if *negated { not(same) } else { Ok(same) }
            }
            Ast::In { operand, list, negated } => {
                let operand = self.expr(operand)?;
                compare::in_list(operand, self.exprs(list)?, *negated)
            }
            Ast::Between { operand, low, high, negated } => {
                let (x, low, high) = (self.expr(operand)?, self.expr(low)?, self.expr(high)?);
                let sql = format!("between({}, {}, {})", x.sql, low.sql, high.sql);
                let both = once(x, |x| {
                    logic(true, compare::compare(">=", x.clone(), low)?, compare::compare("<=", x, high)?)
                })?
                .named(sql);
                if *negated { not(both) } else { Ok(both) }
            }
            Ast::Like { kind, operand, pattern, escape, negated } => {
                let (operand, pattern) = (self.expr(operand)?, self.expr(pattern)?);
                let like = compare::like(kind, operand, pattern, *escape)?;
                if *negated { not(like) } else { Ok(like) }
            }
            Ast::LikeSome { kind, operand, patterns, all, negated } => {
                let (operand, patterns) = (self.expr(operand)?, self.exprs(patterns)?);
                compare::like_some(kind, operand, patterns, *all, *negated)
            }
            Ast::Case { operand, branches, otherwise } => self.case(operand.as_deref(), branches, otherwise.as_deref()),
            Ast::Cast { operand, to, r#try } => cast::explicit(self.expr(operand)?, to, *r#try),
            Ast::Path(operand, path) => {
                let operand = self.expr(operand)?;
                let shown: String = path.iter().map(json_path::shown).collect();
                let sql = format!("{}:{}", operand.sql, shown.trim_start_matches('.'));
                variant::at(operand, path.clone(), sql)
            }
            Ast::Field(operand, name) => nested::field(self.expr(operand)?, name),
            Ast::Subscript(operand, index) => {
                let (operand, index) = (self.expr(operand)?, self.expr(index)?);
                nested::subscript(operand, index)
            }
            Ast::Function(function) => self.function(function),
            Ast::Lambda(params, _) => Err(lambda::misplaced(params)),
            Ast::Struct { items, tuple } => self.record(items, *tuple),
        }
    }

    fn column(&mut self, path: &[String]) -> Result<Typed> {
        let (first, rest) = path.split_first().ok_or_else(|| Error::internal("a column without a name"))?;
        let lower = first.to_lowercase();
        if let Some((_, variable)) = self.scope.iter().rev().find(|(name, _)| *name == lower) {
            return rest.iter().try_fold(variable.clone(), |typed, name| nested::field(typed, name));
        }
        if self.aggregates.is_some() {
            return Err(Error::schema(format!(
                "column '{}' is outside of an aggregate function; aggregate it, or put it in group_by",
                path.join(".")
            )));
        }
        if let Some(found) = lookup::find(first, self.schema)? {
            let mut typed = self.column_at(found)?;
            for name in rest {
                typed = nested::field(typed, name)?;
            }
            return Ok(typed);
        }
        let dotted = path.join(".");
        if functions::is_bare(&dotted) {
            return functions::call(&dotted.to_lowercase(), vec![]);
        }
        if let Some(window) = lookup::window_field(&dotted) {
            if let Some(found) = lookup::find(window, self.schema)? {
                return self.column_at(found);
            }
        }
        Err(lookup::unknown(&dotted, self.schema))
    }

    fn binary(&mut self, op: &'static str, left: &Ast, right: &Ast) -> Result<Typed> {
        if matches!(op, "AND" | "OR") {
            // A chain of the same operator, from the left. The bound expression is less deep than the chain is long.
            let (mut chain, mut first) = (vec![right], left);
            while let Ast::Binary(also, l, r) = first
                && *also == op
            {
                chain.push(r);
                first = l;
            }
            chain.push(first);
            let all = chain.into_iter().rev().map(|a| self.expr(a)).collect::<Result<Vec<_>>>()?;
            return all_of(op == "AND", all);
        }
        let (left, right) = (self.expr(left)?, self.expr(right)?);
        match op {
            "=" | "<>" | "<" | "<=" | ">" | ">=" | "<=>" => compare::compare(op, left, right),
            "||" => functions::call("concat", vec![left, right]),
            _ => operation(op, left, right),
        }
    }

    fn case(&mut self, operand: Option<&Ast>, branches: &[(Ast, Ast)], otherwise: Option<&Ast>) -> Result<Typed> {
        let operand = operand.map(|o| self.expr(o)).transpose()?;
        let (mut whens, mut thens) = (vec![], vec![]);
        for (when, then) in branches {
            let when = self.expr(when)?;
            whens.push(if operand.is_some() { when } else { condition(when)? });
            thens.push(self.expr(then)?);
        }
        if let Some(otherwise) = otherwise {
            thens.push(self.expr(otherwise)?);
        }
        let written = |whens: &[Typed], thens: &[Typed]| {
            let mut sql = String::from("CASE");
            for (when, then) in whens.iter().zip(thens) {
                sql.push_str(&format!(" WHEN {} THEN {}", when.sql, then.sql));
            }
            if thens.len() > whens.len() {
                sql.push_str(&format!(" ELSE {}", thens[whens.len()].sql));
            }
            sql + " END"
        };
        let Some(operand) = operand else {
            let sql = written(&whens, &thens);
            return choose(whens, thens, sql);
        };
        once(operand, |operand| {
            let equal = |when| compare::compare("=", operand.clone(), when);
            let whens: Vec<Typed> = whens.into_iter().map(equal).collect::<Result<_>>()?;
            // Spark writes the operand into each condition.
            let sql = written(&whens, &thens);
            if sql.len() > LONGEST_NAME {
                return Err(Error::schema(
                    "the expression is too long: a CASE with a CASE before its WHEN grows with each",
                ));
            }
            choose(whens, thens, sql)
        })
    }

    fn function(&mut self, function: &Function) -> Result<Typed> {
        if functions::is_aggregate(&function.name) {
            return match &mut self.aggregates {
                Some(take) => take(function),
                None => Err(Error::schema(format!(
                    "{} is an aggregate function: it goes into agg(…), not here",
                    function.name
                ))),
            };
        }
        functions::check_listed(&function.name)?;
        if lambda::takes_lambda(function) {
            return lambda::bind(self, function);
        }
        if let Some(clause) = function.aggregate_clause() {
            return Err(Error::schema(format!("{}: {clause} is only for aggregate functions", function.name)));
        }
        if functions::takes_options(&function.name)
            && let Some((Ast::Function(map), args)) = function.args.split_last()
            && !args.is_empty()
            && map.name == "map"
        {
            let options = options(map)?;
            return functions::call_with_options(&function.name, self.exprs(args)?, options);
        }
        let args = self.exprs(&function.args)?;
        if function.name == "arrays_zip" {
            let name = |(k, ast)| (String::new(), functions::name_of(ast).unwrap_or_else(|| usize::to_string(&k)));
            let names = function.args.iter().enumerate().map(name).collect();
            return functions::call_with_options(&function.name, args, names);
        }
        functions::call(&function.name, args)
    }

    /// `struct(a, b AS name)`, and `(a, b)`.
    fn record(&mut self, items: &[(Ast, Option<String>)], tuple: bool) -> Result<Typed> {
        let (mut names, mut values, mut shown) = (vec![], vec![], vec![]);
        for (ast, alias) in items {
            let all = match ast {
                Ast::Star => (0..self.schema.fields().len())
                    .map(|i| Ok((self.schema.field(i).name().clone(), self.column_at(i)?)))
                    .collect::<Result<Vec<_>>>()?,
                Ast::Fields(operand) => {
                    let whole = self.expr(operand)?;
                    let DataType::Struct(fields) = whole.data_type.clone() else {
                        return Err(Error::schema(format!("{}.*: this is not a STRUCT", whole.sql)));
                    };
                    let one = |f: &std::sync::Arc<arrow::datatypes::Field>| {
                        let typed = nested::field(whole.clone(), f.name())?;
                        Ok((f.name().clone(), Typed { sql: format!("{} AS {}", typed.sql, f.name()), ..typed }))
                    };
                    fields.iter().map(one).collect::<Result<_>>()?
                }
                _ => {
                    let typed = self.expr(ast)?;
                    let name = alias.clone().or_else(|| functions::name_of(ast));
                    vec![(name.unwrap_or_else(|| format!("col{}", names.len() + 1)), typed)]
                }
            };
            for (name, value) in all {
                shown.push(match (tuple, alias) {
                    (true, _) => format!("{name}, {}", value.sql),
                    (false, Some(alias)) => format!("{} AS {alias}", value.sql),
                    (false, None) => value.sql.clone(),
                });
                names.push(name);
                values.push(value);
            }
        }
        let sql = format!("{}({})", if tuple { "named_struct" } else { "struct" }, shown.join(", "));
        functions::build_struct(names, values, sql)
    }
}

/// The options of a call: `map('name', 'value', …)`.
fn options(map: &Function) -> Result<Vec<(String, String)>> {
    let text = |ast: &Ast| match ast {
        Ast::Text(text) => Ok(text.clone()),
        Ast::Bool(value) => Ok(value.to_string()),
        _ => Err(Error::schema("options are constants: map('name', 'value', …)")),
    };
    if map.args.len() % 2 == 1 {
        return Err(Error::schema("options are pairs: map('name', 'value', …)"));
    }
    map.args.chunks(2).map(|pair| Ok((text(&pair[0])?, text(&pair[1])?))).collect()
}

/// An operator on numbers, on their bits, or on times.
fn operation(op: &'static str, left: Typed, right: Typed) -> Result<Typed> {
    if matches!(op, "+" | "-")
        && let Some(moved) = functions::moved(op, &left, &right, None)?
    {
        return Ok(moved);
    }
    let sql = format!("({} {op} {})", left.sql, right.sql);
    match op {
        "&" => bits::binary(bits::Op::And, left, right, sql),
        "|" => bits::binary(bits::Op::Or, left, right, sql),
        "^" => bits::binary(bits::Op::Xor, left, right, sql),
        "<<" => bits::shift(Shift::Left, left, right, sql),
        ">>" => bits::shift(Shift::Right, left, right, sql),
        ">>>" => bits::shift(Shift::UnsignedRight, left, right, sql),
        _ => {
            let op = arith::Op::of(op).ok_or_else(|| Error::internal(format!("the operator '{op}' has no meaning")))?;
            if let Some(scaled) = functions::scaled(op, &left, &right, &sql, false)? {
                return Ok(scaled);
            }
            arith::numbers(op, left, right, sql, false)
        }
    }
}

fn interval(months: i64, micros: i64, units: (u8, u8), sql: &str) -> Typed {
    let value = if units.1 < 2 {
        ScalarValue::IntervalYearMonth(i32::try_from(months).ok())
    } else {
        ScalarValue::DurationMicrosecond(Some(micros))
    };
    debug_assert!(matches!(
        value.data_type(),
        DataType::Interval(IntervalUnit::YearMonth) | DataType::Duration(TimeUnit::Microsecond)
    ));
    Typed::literal(value, sql).with_units(Some(units))
}
