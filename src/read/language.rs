//! One language: the expressions of a query over tables have the same meaning as in a stream.
//!
//! The planner has its own functions, operators and types. So each expression is taken out of the parsed query before planning. An expression
//! becomes a call of one function (`scalar`). The text of the function is the expression in Spark's words, with arguments instead of columns,
//! aggregates, window functions and subqueries. A call of an aggregate becomes a call of one aggregate (`aggregates`) in the same way. bayou's
//! binder binds the texts as soon as the planner knows the types of the arguments.

use super::aggregates::Aggregated;
use super::clauses::{Had, asks, groups_of, is_long, keys_of, names_of, split};
use super::leaves::Leaves;
use super::rewrite::is_aggregate;
use super::scalar::Scalar;
use super::spoken::{Name, Spoken};
use crate::{Error, Result};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Distinct, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
    GroupByExpr, Ident, JoinConstraint, JoinOperator, NamedWindowExpr, NullTreatment, ObjectName, OrderBy, OrderByKind,
    Query, Select, SelectItem, SetExpr, Statement, TableFactor, Value, VisitMut, WindowSpec, WindowType,
};
use std::collections::HashMap;
use std::ops::ControlFlow;

/// Functions of the planner that are called with OVER, and have the same meaning as in Spark.
const WINDOWS: &[&str] = &[
    "row_number",
    "rank",
    "dense_rank",
    "percent_rank",
    "cume_dist",
    "ntile",
    "lag",
    "lead",
    "first_value",
    "last_value",
    "nth_value",
    "first",
    "last",
    "any_value",
];
/// For these functions, the planner returns unsigned integers.
const COUNTS: &[&str] = &["row_number", "rank", "dense_rank", "ntile"];
/// The name of an argument in the text of an expression.
pub(super) fn argument(k: usize) -> String {
    format!("__arg{k}__")
}

/// Takes the expressions out of the statement, and registers the functions that they become.
pub(super) fn speak(ctx: &SessionContext, statement: &mut Statement) -> Result<Spoken> {
    let mut speaker = Speaker {
        ctx,
        spoken: Spoken::new(),
        tables: vec![],
        keys: vec![],
        scalars: HashMap::new(),
        aggregates: HashMap::new(),
    };
    let mut inner = statement;
    while let Statement::Explain { statement, .. } = inner {
        inner = statement;
    }
    if let Statement::Query(query) = inner {
        speaker.query(query)?;
    }
    Ok(speaker.spoken)
}

pub(super) struct Speaker<'a> {
    ctx: &'a SessionContext,
    spoken: Spoken,
    /// The names of the tables of the enclosing SELECTs, in lower case, the innermost last.
    tables: Vec<Vec<String>>,
    /// The keys of GROUP BY of the enclosing SELECTs, the innermost last.
    keys: Vec<Vec<Expr>>,
    /// The functions by their texts.
    scalars: HashMap<String, Scalar>,
    aggregates: HashMap<String, Aggregated>,
}

/// The place of an expression in a query.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// The expressions of GROUP BY. Each of them is an argument as a whole.
    pub groups: &'a [Expr],
    /// Aggregates are arguments of the expression, and not part of it.
    pub outside: bool,
}

const PLAIN: Place<'static> = Place { groups: &[], outside: true };

pub(super) fn name_of(function: &Function) -> String {
    function.name.to_string().trim_matches('`').to_lowercase()
}

fn is_count_of_rows(function: &Function) -> bool {
    let FunctionArguments::List(list) = &function.args else { return false };
    let one = |a: &FunctionArg| match a {
        FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => true,
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(v))) => matches!(v.value, Value::Number(..)),
        _ => false,
    };
    name_of(function) == "count"
        && function.filter.is_none()
        && list.duplicate_treatment.is_none()
        && matches!(&list.args[..], [a] if one(a))
}

fn call(name: &str, args: Vec<Expr>) -> Function {
    let args = args.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
    Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    }
}

fn is_number(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(v) if matches!(v.value, Value::Number(..)))
}

/// Whether the word is not a column, but a function without parentheses such as `current_date`, or a number with the letter of its type.
pub(super) fn is_word(name: &Ident) -> bool {
    let lower = name.value.to_lowercase();
    let number = lower.trim_end_matches(['l', 's', 'y', 'd', 'f', 'b']);
    let is_number = lower.starts_with(|c: char| c.is_ascii_digit())
        && matches!(&lower[number.len()..], "l" | "s" | "y" | "d" | "f" | "bd")
        && number.parse::<f64>().is_ok();
    name.quote_style.is_none() && (is_number || crate::expr::is_bare(&name.value))
}

impl Speaker<'_> {
    fn query(&mut self, query: &mut Query) -> Result<()> {
        for cte in query.with.iter_mut().flat_map(|w| &mut w.cte_tables) {
            self.query(&mut cte.query)?;
        }
        let (mut groups, mut tables, mut keys) = (vec![], vec![], vec![]);
        if let SetExpr::Select(select) = &*query.body {
            groups = groups_of(select);
            keys = keys_of(select);
            tables = select
                .from
                .iter()
                .flat_map(|f| {
                    names_of(&f.relation).into_iter().chain(f.joins.iter().flat_map(|j| names_of(&j.relation)))
                })
                .collect();
        }
        self.body(&mut query.body)?;
        self.tables.push(tables);
        self.keys.push(keys);
        let place = Place { groups: &groups, outside: true };
        if let Some(OrderBy { kind: OrderByKind::Expressions(all), .. }) = &mut query.order_by {
            for key in all.iter_mut().filter(|k| !is_number(&k.expr)) {
                self.value(&mut key.expr, place)?;
            }
        }
        self.tables.pop();
        self.keys.pop();
        Ok(())
    }

    fn body(&mut self, body: &mut SetExpr) -> Result<()> {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left)?;
                self.body(right)
            }
            SetExpr::Values(values) => {
                for row in &mut values.rows {
                    for value in &mut row.content {
                        self.value(value, PLAIN)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn factor(&mut self, table: &mut TableFactor) -> Result<()> {
        match table {
            TableFactor::Derived { subquery, .. } => self.query(subquery),
            TableFactor::NestedJoin { table_with_joins, .. } => {
                self.factor(&mut table_with_joins.relation)?;
                for join in &mut table_with_joins.joins {
                    self.join(join)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn join(&mut self, join: &mut datafusion::sql::sqlparser::ast::Join) -> Result<()> {
        self.factor(&mut join.relation)?;
        match &mut join.join_operator {
            JoinOperator::Join(JoinConstraint::On(on))
            | JoinOperator::Inner(JoinConstraint::On(on))
            | JoinOperator::Left(JoinConstraint::On(on))
            | JoinOperator::LeftOuter(JoinConstraint::On(on))
            | JoinOperator::Right(JoinConstraint::On(on))
            | JoinOperator::RightOuter(JoinConstraint::On(on))
            | JoinOperator::FullOuter(JoinConstraint::On(on))
            | JoinOperator::CrossJoin(JoinConstraint::On(on))
            | JoinOperator::Semi(JoinConstraint::On(on))
            | JoinOperator::LeftSemi(JoinConstraint::On(on))
            | JoinOperator::RightSemi(JoinConstraint::On(on))
            | JoinOperator::Anti(JoinConstraint::On(on))
            | JoinOperator::LeftAnti(JoinConstraint::On(on))
            | JoinOperator::RightAnti(JoinConstraint::On(on)) => self.join_condition(on),
            _ => Ok(()),
        }
    }

    /// Each equality becomes a separate condition: the planner uses it to look rows up, whatever expressions its sides are.
    fn join_condition(&mut self, on: &mut Expr) -> Result<()> {
        let (mut equal, mut rest) = (vec![], vec![]);
        if !asks(on) {
            split(on.clone(), &mut equal, &mut rest);
        }
        if equal.is_empty() {
            return self.condition(on, PLAIN);
        }
        let both =
            |left, right| Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) };
        // The other conditions guard each other, so they stay one expression.
        let rest = rest.into_iter().reduce(both);
        let mut all: Vec<Expr> = equal.into_iter().chain(rest).collect();
        for part in &mut all {
            self.condition(part, PLAIN)?;
        }
        if let Some(all) = all.into_iter().reduce(both) {
            *on = all;
        }
        Ok(())
    }

    fn select(&mut self, select: &mut Select) -> Result<()> {
        let groups = groups_of(select);
        let place = Place { groups: &groups, outside: true };
        self.keys.push(keys_of(select));
        self.tables.push(
            select
                .from
                .iter()
                .flat_map(|f| {
                    names_of(&f.relation).into_iter().chain(f.joins.iter().flat_map(|j| names_of(&j.relation)))
                })
                .collect(),
        );
        for from in &mut select.from {
            self.factor(&mut from.relation)?;
            for join in &mut from.joins {
                self.join(join)?;
            }
        }
        let mut had = Had::new(select);
        for item in &mut select.projection {
            // The planner accepts each name only once.
            if let Some(name) = had.again(item) {
                let (SelectItem::ExprWithAlias { expr, .. } | SelectItem::UnnamedExpr(expr)) = item else { continue };
                self.value(expr, place)?;
                let alias = Ident::with_quote('`', self.spoken.add(Name::Plain(name)));
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                continue;
            }
            match item {
                SelectItem::ExprWithAlias { expr, .. } => drop(self.value(expr, place)?),
                SelectItem::UnnamedExpr(expr) => {
                    let name = self.value(expr, place)?;
                    if !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
                        let alias = Ident::with_quote('`', self.spoken.add(name));
                        *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                    }
                }
                _ => {}
            }
        }
        if let Some(Distinct::On(all)) = &mut select.distinct {
            for expr in all {
                self.value(expr, place)?;
            }
        }
        let joins = select.from.len() > 1;
        match &mut select.selection {
            Some(selection) if joins => self.join_condition(selection)?,
            Some(selection) => self.condition(selection, PLAIN)?,
            None => {}
        }
        if let GroupByExpr::Expressions(all, _) = &mut select.group_by {
            for expr in all {
                let mut each: Vec<&mut Expr> = match expr {
                    Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                        sets.iter_mut().flatten().collect()
                    }
                    one => vec![one],
                };
                for expr in each.iter_mut().filter(|e| !is_number(e)) {
                    self.value(expr, PLAIN)?;
                }
            }
        }
        for condition in [&mut select.having, &mut select.qualify].into_iter().flatten() {
            self.condition(condition, place)?;
        }
        for window in &mut select.named_window {
            if let NamedWindowExpr::WindowSpec(spec) = &mut window.1 {
                self.window(spec, place)?;
            }
        }
        self.tables.pop();
        self.keys.pop();
        Ok(())
    }

    /// A condition. AND, OR and NOT above a subquery are left to the planner, which makes joins of such conditions.
    fn condition(&mut self, expr: &mut Expr, place: Place) -> Result<()> {
        if !asks(expr) && !is_long(expr) {
            self.value(expr, place)?;
            return Ok(());
        }
        match expr {
            Expr::Nested(inner) | Expr::UnaryOp { expr: inner, .. } => self.condition(inner, place),
            Expr::BinaryOp { left, right, .. } => {
                self.condition(left, place)?;
                self.condition(right, place)
            }
            other => drop_name(self.value(other, place)),
        }
    }

    fn window(&mut self, spec: &mut WindowSpec, place: Place) -> Result<String> {
        let mut shown = vec![];
        let mut all = vec![];
        for expr in &mut spec.partition_by {
            all.push(self.value(expr, place)?.shown());
        }
        if !all.is_empty() {
            shown.push(format!("PARTITION BY {}", all.join(", ")));
        }
        let mut keys = vec![];
        for key in &mut spec.order_by {
            let name = self.value(&mut key.expr, place)?.shown();
            let descending = key.options.asc == Some(false);
            let first = key.options.nulls_first.unwrap_or(!descending);
            keys.push(format!(
                "{name} {} NULLS {}",
                if descending { "DESC" } else { "ASC" },
                if first { "FIRST" } else { "LAST" }
            ));
        }
        if !keys.is_empty() {
            shown.push(format!("ORDER BY {}", keys.join(", ")));
        }
        shown.push(match &spec.window_frame {
            Some(f) => format!(
                "{} BETWEEN {} AND {}",
                f.units,
                f.start_bound,
                f.end_bound.as_ref().map_or("CURRENT ROW".into(), ToString::to_string)
            ),
            None if keys.is_empty() => "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING".into(),
            None => "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW".into(),
        });
        Ok(shown.join(" "))
    }

    /// Turns an expression into a call, and returns the name that Spark gives to the expression's column.
    pub(super) fn value(&mut self, expr: &mut Expr, place: Place) -> Result<Name> {
        let place = if place.groups.contains(expr) { Place { groups: &[], ..place } } else { place };
        match expr {
            Expr::Nested(inner) => {
                let name = self.value(inner, place)?;
                *expr = (**inner).clone();
                return Ok(name);
            }
            Expr::Identifier(name) if !is_word(name) => {
                return Ok(Name::Plain(name.value.clone()));
            }
            Expr::CompoundIdentifier(parts) if parts.len() == 2 && self.is_table(&parts[0]) => {
                return Ok(Name::Plain(parts[1].value.clone()));
            }
            Expr::Function(f) if f.over.is_some() => return self.over(expr, place),
            Expr::Function(f) if is_aggregate(f) && place.outside => return self.aggregate(expr),
            Expr::Function(f) if matches!(&*name_of(f), "grouping" | "grouping_id") => return self.grouping(expr),
            Expr::Subquery(query) => {
                self.query(query)?;
                return Ok(Name::Plain("scalarsubquery()".into()));
            }
            Expr::Exists { subquery, .. } => {
                self.query(subquery)?;
                return Ok(Name::Plain("exists()".into()));
            }
            Expr::InSubquery { expr, subquery, .. } => {
                self.query(subquery)?;
                self.value(expr, place)?;
                return Ok(Name::Plain("in()".into()));
            }
            Expr::GroupingSets(_)
            | Expr::Cube(_)
            | Expr::Rollup(_)
            | Expr::Wildcard(_)
            | Expr::QualifiedWildcard(..) => {
                return Ok(Name::Plain(expr.to_string()));
            }
            _ => {}
        }
        let mut leaves = Leaves::new(self, place);
        let mut text = expr.clone();
        if let ControlFlow::Break(e) = VisitMut::visit(&mut text, &mut leaves) {
            return Err(e);
        }
        let (args, columns, names) = (leaves.args, leaves.columns, leaves.names);
        let sides = match &text {
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => Some((left.to_string(), right.to_string())),
            _ => None,
        };
        let text = text.to_string();
        let key = Self::key(&text, &names);
        let made = match self.scalars.get(&key) {
            Some(made) => made.clone(),
            None => {
                let name = format!("__value_{}", self.scalars.len());
                let made = Scalar::new(name, text, columns, &names, self.spoken.moment, sides);
                self.ctx.register_udf(ScalarUDF::from(made.clone()));
                self.scalars.insert(key, made.clone());
                made
            }
        };
        *expr = Expr::Function(call(made.called(), args));
        Ok(Name::Value(made, names))
    }

    /// `grouping(key)`, and `grouping_id(keys…)`: one bit for each key. The first key has the highest bit.
    fn grouping(&mut self, expr: &mut Expr) -> Result<Name> {
        let shown = Name::Plain(expr.to_string());
        let Expr::Function(function) = &*expr else { return Err(Error::internal("a grouping that is not a function")) };
        let mut keys = vec![];
        if let FunctionArguments::List(list) = &function.args {
            for arg in &list.args {
                if let FunctionArg::Unnamed(FunctionArgExpr::Expr(key)) = arg {
                    keys.push(key.clone());
                }
            }
        }
        let several = name_of(function) == "grouping_id";
        if several {
            let all = self.keys.last().cloned().unwrap_or_default();
            if !keys.is_empty() && keys != all {
                return Err(Error::schema(format!(
                    "SQL: {expr}: grouping_id takes all keys of GROUP BY in their order, or no keys"
                )));
            }
            keys = all;
        }
        if keys.is_empty() || keys.len() > 62 || (!several && keys.len() > 1) {
            return Err(Error::schema(format!("SQL: {expr} takes keys of GROUP BY")));
        }
        let mut sum: Option<Expr> = None;
        for mut key in keys {
            self.value(&mut key, PLAIN)?;
            let bit = Expr::Function(call("grouping", vec![key]));
            let both = |op, left, right| Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) };
            sum = Some(match sum {
                None => bit,
                Some(sum) => {
                    let two = Expr::value(Value::Number("2".into(), false));
                    both(BinaryOperator::Plus, both(BinaryOperator::Multiply, sum, two), bit)
                }
            });
        }
        let (Some(sum), kind) = (sum, datafusion::sql::sqlparser::ast::CastKind::Cast) else { return Ok(shown) };
        let data_type = match several {
            true => datafusion::sql::sqlparser::ast::DataType::BigInt(None),
            false => datafusion::sql::sqlparser::ast::DataType::TinyInt(None),
        };
        *expr = Expr::Cast { kind, expr: Box::new(sum), data_type, array: false, format: None };
        Ok(shown)
    }

    /// A call of an aggregate, without OVER.
    fn aggregate(&mut self, expr: &mut Expr) -> Result<Name> {
        let Expr::Function(function) = expr else { return Err(Error::internal("an aggregate that is not a function")) };
        if is_count_of_rows(function) {
            return Ok(Name::Plain("count(1)".into()));
        }
        let (new, name) = self.aggregated(function)?;
        *expr = Expr::Function(new);
        Ok(name)
    }

    fn aggregated(&mut self, function: &Function) -> Result<(Function, Name)> {
        let mut leaves = Leaves::new(self, Place { groups: &[], outside: false });
        let mut text = Expr::Function(function.clone());
        if let ControlFlow::Break(e) = VisitMut::visit(&mut text, &mut leaves) {
            return Err(e);
        }
        let (args, columns, names) = (leaves.args, leaves.columns, leaves.names);
        let (function, made) = self.aggregate_of(text.to_string(), args, columns, &names);
        Ok((function, Name::Aggregate(made, names)))
    }

    /// Errors show the names of columns, so functions with different names are different functions.
    fn key(text: &str, names: &[Name]) -> String {
        format!("{text} {:?}", names.iter().map(Name::shown).collect::<Vec<_>>())
    }

    fn aggregate_of(
        &mut self,
        text: String,
        mut args: Vec<Expr>,
        columns: Vec<String>,
        names: &[Name],
    ) -> (Function, Aggregated) {
        let key = Self::key(&text, names);
        let made = match self.aggregates.get(&key) {
            Some(made) => made.clone(),
            None => {
                let name = format!("__aggregate_{}", self.aggregates.len());
                let made = Aggregated::new(name, text, columns, names, self.spoken.moment);
                self.ctx.register_udaf(AggregateUDF::from(made.clone()));
                self.aggregates.insert(key, made.clone());
                made
            }
        };
        if args.is_empty() {
            // The argument carries the number of rows.
            args.push(Expr::value(Value::Number("1".into(), false)));
        }
        (call(made.called(), args), made)
    }

    /// A window function.
    fn over(&mut self, expr: &mut Expr, place: Place) -> Result<Name> {
        let Expr::Function(function) = expr else {
            return Err(Error::internal("a window function that is not a function"));
        };
        let name = name_of(function);
        let Some(over) = &mut function.over else { return Err(Error::internal("a window function without OVER")) };
        let shown = match over {
            WindowType::WindowSpec(spec) => self.window(spec, place)?,
            WindowType::NamedWindow(name) => name.value.clone(),
        };
        let over = over.clone();
        if WINDOWS.contains(&&*name) {
            if function.filter.is_some() {
                return Err(Error::schema(format!("SQL: {name}(…) OVER takes no FILTER. Use CASE WHEN … END within.")));
            }
            let mut names = vec![];
            if let FunctionArguments::List(list) = &mut function.args {
                // The second argument may say whether NULLs are ignored.
                if matches!(&*name, "first" | "last" | "any_value" | "first_value" | "last_value")
                    && let [_, FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(v)))] = &list.args[..]
                    && let Value::Boolean(ignore) = v.value
                {
                    list.args.pop();
                    function.null_treatment = ignore.then_some(NullTreatment::IgnoreNulls);
                }
                for arg in &mut list.args {
                    if let FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)) = arg {
                        let literal = matches!(arg, Expr::Value(_))
                            || matches!(arg, Expr::UnaryOp { expr, .. } if matches!(**expr, Expr::Value(_)));
                        names.push(arg.to_string());
                        if !literal {
                            self.value(arg, place)?;
                        }
                    }
                }
            }
            let plain = match &*name {
                "first" | "any_value" => "first_value",
                "last" => "last_value",
                other => other,
            };
            function.name = ObjectName::from(vec![Ident::new(plain)]);
            let upper =
                if COUNTS.contains(&&*name) || name.ends_with("_rank") { name.to_uppercase() } else { name.clone() };
            let shown = Name::Plain(format!("{upper}({}) OVER ({shown})", names.join(", ")));
            if COUNTS.contains(&&*name) {
                *expr = Expr::Cast {
                    kind: datafusion::sql::sqlparser::ast::CastKind::Cast,
                    expr: Box::new(expr.clone()),
                    data_type: datafusion::sql::sqlparser::ast::DataType::Int(None),
                    array: false,
                    format: None,
                };
            }
            return Ok(shown);
        }
        if !is_aggregate(function) {
            return Err(Error::schema(format!("SQL: {name} is not a window function and cannot be used with OVER")));
        }
        let distinct = matches!(&function.args, FunctionArguments::List(list) if list.duplicate_treatment.is_some_and(|d| d == datafusion::sql::sqlparser::ast::DuplicateTreatment::Distinct));
        if distinct {
            return Err(Error::schema(format!("SQL: {name}(DISTINCT …) OVER is not supported, as in Spark")));
        }
        if is_count_of_rows(function) {
            return Ok(Name::Plain(format!("count(1) OVER ({shown})")));
        }
        let inner = Function { over: None, ..function.clone() };
        // Within OVER, an aggregate of the grouped rows is an argument.
        let mut leaves = Leaves::new(self, place);
        leaves.whole = true;
        let mut text = Expr::Function(inner);
        if let ControlFlow::Break(e) = VisitMut::visit(&mut text, &mut leaves) {
            return Err(e);
        }
        let (args, columns, names) = (leaves.args, leaves.columns, leaves.names);
        let (new, made) = self.aggregate_of(text.to_string(), args, columns, &names);
        *expr = Expr::Function(Function { over: Some(over), ..new });
        Ok(Name::Over(made, names, shown))
    }

    pub(super) fn is_table(&self, name: &Ident) -> bool {
        let lower = name.value.to_lowercase();
        self.tables.iter().flatten().any(|t| *t == lower)
    }
}

fn drop_name(name: Result<Name>) -> Result<()> {
    name.map(|_| ())
}
