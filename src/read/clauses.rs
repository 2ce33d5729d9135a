//! The contents of the clauses of a SELECT: tables, groups, conditions, and the names of a select list.

use super::language::is_word;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, Select, SelectItem, TableFactor, UnaryOperator, Value, Visit, Visitor,
};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// Whether the expression is a predicate over a subquery, or contains such a predicate below AND, OR and NOT.
pub(super) fn asks(expr: &Expr) -> bool {
    match expr {
        Expr::InSubquery { .. } | Expr::Exists { .. } => true,
        Expr::Nested(inner) | Expr::UnaryOp { op: UnaryOperator::Not, expr: inner } => asks(inner),
        Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, right } => asks(left) || asks(right),
        _ => false,
    }
}

/// Whether the condition is a chain of AND or OR that is too long for one expression.
pub(super) fn is_long(expr: &Expr) -> bool {
    let (mut n, mut at) = (0, expr);
    while let Expr::BinaryOp { left, op: BinaryOperator::And | BinaryOperator::Or, .. } = at {
        (n, at) = (n + 1, left);
    }
    n > 400
}

/// Splits the sides of an AND into equalities of two expressions with columns, and other conditions.
pub(super) fn split(expr: Expr, equal: &mut Vec<Expr>, rest: &mut Vec<Expr>) {
    let mut waiting = vec![expr];
    while let Some(expr) = waiting.pop() {
        match expr {
            Expr::Nested(inner) if matches!(*inner, Expr::BinaryOp { .. } | Expr::Nested(_)) => waiting.push(*inner),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => waiting.extend([*right, *left]),
            Expr::BinaryOp { ref left, op: BinaryOperator::Eq, ref right } if has_column(left) && has_column(right) => {
                equal.push(expr);
            }
            other => rest.push(Expr::Nested(Box::new(other))),
        }
    }
}

fn has_column(expr: &Expr) -> bool {
    struct Find;
    impl Visitor for Find {
        type Break = ();
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        }
    }
    Visit::visit(expr, &mut Find).is_break()
}

/// The names of a select list so far.
pub(super) struct Had {
    all: bool,
    columns: HashSet<String>,
    names: HashSet<String>,
    aliases: HashSet<String>,
}

impl Had {
    pub(super) fn new(select: &Select) -> Self {
        let star = |i: &SelectItem| matches!(i, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
        let all = select.projection.iter().any(star);
        Self { all, columns: HashSet::new(), names: HashSet::new(), aliases: HashSet::new() }
    }

    /// The name of the item, if there is a column of that name already.
    pub(super) fn again(&mut self, item: &SelectItem) -> Option<String> {
        match item {
            SelectItem::ExprWithAlias { alias, .. } => {
                let again = self.names.contains(&alias.value) || !self.aliases.insert(alias.value.clone());
                again.then(|| alias.value.clone())
            }
            SelectItem::UnnamedExpr(expr @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_))) => {
                let name = match expr {
                    Expr::Identifier(name) if is_word(name) => return None,
                    Expr::Identifier(name) => name.value.clone(),
                    Expr::CompoundIdentifier(parts) => parts.last()?.value.clone(),
                    _ => return None,
                };
                let seen = self.aliases.contains(&name) || !self.columns.insert(expr.to_string());
                self.names.insert(name.clone());
                (seen || self.all).then_some(name)
            }
            _ => None,
        }
    }
}

/// The names that can be written in front of the table's columns.
pub(super) fn names_of(table: &TableFactor) -> Vec<String> {
    let (name, alias) = match table {
        TableFactor::Table { name, alias, .. } => (name.0.last().and_then(|p| p.as_ident()), alias),
        TableFactor::Derived { alias, .. } | TableFactor::TableFunction { alias, .. } => (None, alias),
        TableFactor::NestedJoin { table_with_joins: t, .. } => {
            let joins = t.joins.iter().flat_map(|j| names_of(&j.relation));
            return names_of(&t.relation).into_iter().chain(joins).collect();
        }
        _ => return vec![],
    };
    match alias {
        Some(alias) => vec![alias.name.value.to_lowercase()],
        None => name.map(|n| n.value.to_lowercase()).into_iter().collect(),
    }
}

/// The expressions of GROUP BY. For an alias also the expression that it names, and for the number of a column the column's expression.
pub(super) fn groups_of(select: &Select) -> Vec<Expr> {
    let GroupByExpr::Expressions(all, _) = &select.group_by else { return vec![] };
    let mut out = vec![];
    let mut add = |expr: &Expr| match expr {
        Expr::Identifier(name) => {
            for item in &select.projection {
                if let SelectItem::ExprWithAlias { expr, alias } = item
                    && alias.value.eq_ignore_ascii_case(&name.value)
                {
                    out.push(expr.clone());
                }
            }
            out.push(expr.clone());
        }
        Expr::Value(v) => {
            if let Value::Number(n, _) = &v.value
                && let Some(item) = n.parse::<usize>().ok().and_then(|n| select.projection.get(n.wrapping_sub(1)))
                && let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item
            {
                out.push(expr.clone());
            }
        }
        other => out.push(other.clone()),
    };
    for expr in all {
        match expr {
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                sets.iter().flatten().for_each(&mut add)
            }
            one => add(one),
        }
    }
    out
}

/// The keys of GROUP BY, each once. An alias or the number of a column is replaced by its expression.
pub(super) fn keys_of(select: &Select) -> Vec<Expr> {
    let GroupByExpr::Expressions(all, _) = &select.group_by else { return vec![] };
    let mut out = vec![];
    let meant = |expr: &Expr| {
        let item = match expr {
            Expr::Identifier(name) => select.projection.iter().find(|item| {
                matches!(item, SelectItem::ExprWithAlias { alias, .. } if alias.value.eq_ignore_ascii_case(&name.value))
            }),
            Expr::Value(v) => match &v.value {
                Value::Number(n, _) => n.parse::<usize>().ok().and_then(|n| select.projection.get(n.wrapping_sub(1))),
                _ => None,
            },
            _ => None,
        };
        match item {
            Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => expr.clone(),
            _ => expr.clone(),
        }
    };
    for expr in all {
        let each: Vec<&Expr> = match expr {
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => sets.iter().flatten().collect(),
            one => vec![one],
        };
        for key in each.into_iter().map(meant) {
            if !out.contains(&key) {
                out.push(key);
            }
        }
    }
    out
}
