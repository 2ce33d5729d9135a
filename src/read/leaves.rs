//! The arguments of an expression: its columns, and the aggregates, window functions and subqueries within it.

use super::language::{Place, Speaker, argument, is_word, name_of};
use super::rewrite::is_aggregate;
use super::spoken::Name;
use crate::{Error, Result};
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, OneOrManyWithParens, Value, VisitorMut,
};
use std::ops::ControlFlow;

/// Functions whose first argument may be a unit.
const UNITS: &[&str] = &["timestampdiff", "timestampadd", "dateadd", "datediff", "date_add", "date_diff", "timediff"];

/// An expression that is printed as exactly this text.
fn raw(text: String) -> Expr {
    Expr::value(Value::Placeholder(text))
}

/// Takes the arguments out of an expression.
pub(super) struct Leaves<'a, 'b, 'c> {
    speaker: &'a mut Speaker<'b>,
    place: Place<'c>,
    pub args: Vec<Expr>,
    /// The names of the arguments in the text.
    pub columns: Vec<String>,
    pub names: Vec<Name>,
    /// The variables of the enclosing lambdas, in lower case.
    variables: Vec<String>,
    /// The outermost call is the function itself, and not an argument.
    pub whole: bool,
}

impl<'a, 'b, 'c> Leaves<'a, 'b, 'c> {
    pub(super) fn new(speaker: &'a mut Speaker<'b>, place: Place<'c>) -> Self {
        Self { speaker, place, args: vec![], columns: vec![], names: vec![], variables: vec![], whole: !place.outside }
    }

    fn leaf(&mut self, mut expr: Expr) -> Result<Expr> {
        let name = self.speaker.value(&mut expr, self.place)?;
        let k = match self.args.iter().position(|a| *a == expr) {
            Some(k) => k,
            None => {
                let k = self.args.len();
                self.columns.push(match &name {
                    // A column keeps its name, because a field of a struct gets the name of its column.
                    Name::Plain(name)
                        if matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
                            && !self.columns.iter().any(|c| c.to_lowercase() == name.to_lowercase())
                            && !self.variables.contains(&name.to_lowercase()) =>
                    {
                        name.clone()
                    }
                    _ => argument(k),
                });
                self.args.push(expr);
                self.names.push(name);
                k
            }
        };
        Ok(raw(super::names::ticked(&self.columns[k])))
    }

    /// A column, and the fields within it.
    fn column(&mut self, parts: &[Ident]) -> Result<Expr> {
        let of_table = parts.len() > 1 && self.speaker.is_table(&parts[0]);
        let (column, fields) = parts.split_at(if of_table { 2 } else { 1 });
        let column = match column {
            [one] => Expr::Identifier(one.clone()),
            all => Expr::CompoundIdentifier(all.to_vec()),
        };
        let mut text = self.leaf(column)?.to_string();
        for field in fields {
            text.push_str(&format!(".{}", super::names::ticked(&field.value)));
        }
        Ok(raw(text))
    }

    fn replaced(&mut self, expr: &mut Expr) -> Result<()> {
        if self.place.groups.contains(expr) && !matches!(expr, Expr::Value(_)) {
            *expr = self.leaf(expr.clone())?;
            return Ok(());
        }
        match expr {
            Expr::Identifier(name) => {
                let lower = name.value.to_lowercase();
                if is_word(name) || self.variables.contains(&lower) {
                    return Ok(());
                }
                *expr = self.column(std::slice::from_ref(name))?;
            }
            Expr::CompoundIdentifier(parts) => {
                if self.variables.contains(&parts[0].value.to_lowercase()) {
                    return Ok(());
                }
                *expr = self.column(&parts.clone())?;
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                // The table in front of the column, the column, and the fields before the first bracket.
                if let Expr::Identifier(first) = &**root {
                    let mut parts = vec![first.clone()];
                    let dots =
                        access_chain.iter().take_while(|a| matches!(a, AccessExpr::Dot(Expr::Identifier(_)))).count();
                    for access in access_chain.drain(..dots) {
                        if let AccessExpr::Dot(Expr::Identifier(name)) = access {
                            parts.push(name);
                        }
                    }
                    **root = match self.variables.contains(&parts[0].value.to_lowercase()) {
                        true => raw(parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")),
                        false => self.column(&parts)?,
                    };
                }
                // The names of fields are not columns.
                for access in access_chain.iter_mut() {
                    if let AccessExpr::Dot(Expr::Identifier(name)) = access {
                        *access = AccessExpr::Dot(raw(super::names::ticked(&name.value)));
                    }
                }
            }
            Expr::Lambda(lambda) => match &lambda.params {
                OneOrManyWithParens::One(p) => self.variables.push(p.name.value.to_lowercase()),
                OneOrManyWithParens::Many(all) => {
                    self.variables.extend(all.iter().map(|p| p.name.value.to_lowercase()));
                }
            },
            Expr::Function(f) => {
                let name = name_of(f);
                let grouping = matches!(&*name, "grouping" | "grouping_id");
                if f.over.is_some() || grouping || is_aggregate(f) && !self.whole {
                    *expr = self.leaf(expr.clone())?;
                } else {
                    self.whole = self.whole && !self.place.outside;
                    if UNITS.contains(&&*name)
                        && let FunctionArguments::List(list) = &mut f.args
                        && list.args.len() == 3
                        && let FunctionArg::Unnamed(FunctionArgExpr::Expr(unit @ Expr::Identifier(_))) =
                            &mut list.args[0]
                    {
                        *unit = raw(unit.to_string());
                    }
                }
            }
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => *expr = self.leaf(expr.clone())?,
            _ => {}
        }
        Ok(())
    }
}

impl VisitorMut for Leaves<'_, '_, '_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        match self.replaced(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => ControlFlow::Break(e),
        }
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        if let Expr::Lambda(lambda) = expr {
            let n = match &lambda.params {
                OneOrManyWithParens::One(_) => 1,
                OneOrManyWithParens::Many(all) => all.len(),
            };
            self.variables.truncate(self.variables.len() - n);
        }
        ControlFlow::Continue(())
    }
}
