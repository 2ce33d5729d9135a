//! Names in any upper and lower case, as in Spark. The planner compares names exactly. So each name in the statement is looked up in its scope, and
//! is replaced by the name that the table has. Columns of a result have the names as the user typed them.

use super::pivot;
use crate::{Error, Result};
use arrow::datatypes::{DataType, Schema};
use datafusion::sql::sqlparser::ast::{
    Cte, Expr, FunctionArguments, Ident, Join, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetQuantifier, Statement, TableAlias, TableFactor, VisitMut,
    VisitorMut, WildcardAdditionalOptions, With,
};
use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

/// The name in backticks.
pub(super) fn ticked(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Gives tables the names under which they are known. Where a name of WITH is known, it comes before the name of a table.
pub(super) fn of_tables<'a>(statement: &mut Statement, known: impl Iterator<Item = &'a str>) {
    let tables = known.map(str::to_string).collect();
    let _ = VisitMut::visit(statement, &mut Tables { tables, with: Known::default() });
}

struct Tables {
    tables: Vec<String>,
    with: Known<String>,
}

/// The tables of WITH, by block, the innermost last. Before a query is visited, its WITH is taken out and visited separately, because each table of
/// a WITH knows only the tables before it.
struct Known<T> {
    blocks: Vec<Vec<T>>,
    taken: Vec<Option<With>>,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { blocks: vec![], taken: vec![] }
    }
}

impl<T> Known<T> {
    /// Begins a block. Returns the WITH of the query, to which the block belongs.
    fn enter(&mut self, query: &mut Query) -> Option<With> {
        self.blocks.push(vec![]);
        query.with.take()
    }

    fn add(&mut self, table: T) {
        if let Some(block) = self.blocks.last_mut() {
            block.push(table);
        }
    }

    fn leave(&mut self, query: &mut Query) {
        query.with = self.taken.pop().flatten();
        self.blocks.pop();
    }
}

impl VisitorMut for Tables {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let mut with = self.with.enter(query);
        if let Some(with) = &mut with {
            for cte in &mut with.cte_tables {
                let name = cte.alias.name.value.clone();
                if with.recursive {
                    self.with.add(name.clone());
                }
                VisitMut::visit(&mut *cte.query, self)?;
                self.with.add(name.clone());
            }
        }
        self.with.taken.push(with);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.with.leave(query);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name: ObjectName(parts), alias, .. } = table else { return ControlFlow::Continue(()) };
        let [ObjectNamePart::Identifier(name)] = &mut parts[..] else { return ControlFlow::Continue(()) };
        let blocks = self.with.blocks.iter().rev().chain([&self.tables]);
        let Some(real) = blocks.filter_map(|names| spelled(&name.value, names.iter())).next() else {
            return ControlFlow::Continue(());
        };
        if real != name.value {
            // The name may be in front of columns, in the same spelling as here.
            if alias.is_none() {
                *alias = Some(TableAlias { explicit: true, name: name.clone(), columns: vec![], at: None });
            }
            name.value = real;
        }
        ControlFlow::Continue(())
    }
}

/// Gives columns and fields the names that they have in the tables, and columns of results the names that were typed.
pub(super) fn of_columns(statement: &mut Statement, tables: &HashMap<String, Schema>) -> Result<()> {
    let mut resolve = Resolve { tables, with: Known::default(), levels: vec![] };
    match VisitMut::visit(statement, &mut resolve) {
        ControlFlow::Break(what) => Err(Error::schema(format!("SQL: {what}"))),
        ControlFlow::Continue(()) => Ok(()),
    }
}

/// A table in FROM: the name in front of its columns, and its columns as far as they are known.
#[derive(Debug, Clone)]
struct Named {
    name: Option<String>,
    columns: Vec<String>,
    /// The types of the columns of a table, for the names of fields. For the columns of a subquery, the types are not known here.
    types: Option<Schema>,
    /// The columns can be named, and are not in `*`. These are the columns that PIVOT and UNPIVOT read.
    hidden: bool,
}

impl Named {
    fn new(name: Option<String>, columns: Vec<String>) -> Self {
        Self { name, columns, types: None, hidden: false }
    }
}

type Scope = Vec<Named>;

/// The type of a column, if it is known.
fn type_of(scope: &[Named], column: &str) -> Option<DataType> {
    let field = |table: &Named| Some(table.types.as_ref()?.field_with_name(column).ok()?.data_type().clone());
    scope.iter().find_map(field)
}

/// The scopes of one query, in the order in which names are looked up. But a name with exactly this spelling comes before a name in a different
/// case.
type Level = Vec<Scope>;

/// The name in the list that a typed name means: the name with the same spelling, or else the only name that differs just in case.
fn spelled<'a>(typed: &str, all: impl Iterator<Item = &'a String>) -> Option<String> {
    let mut found: Option<&String> = None;
    let lower = typed.to_lowercase();
    for name in all.filter(|n| n.to_lowercase() == lower) {
        match found {
            _ if name == typed => return Some(name.clone()),
            Some(other) if other != name => return None,
            _ => found = Some(name),
        }
    }
    found.cloned()
}

struct Resolve<'a> {
    tables: &'a HashMap<String, Schema>,
    with: Known<Named>,
    levels: Vec<Level>,
}

fn plain_name(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(parts) => parts.last(),
        _ => None,
    }
}

impl Resolve<'_> {
    fn alias(alias: &Option<TableAlias>, name: Option<String>, columns: Vec<String>) -> Named {
        match alias {
            None => Named::new(name, columns),
            Some(alias) if alias.columns.is_empty() => Named::new(Some(alias.name.value.clone()), columns),
            Some(alias) => {
                let columns = alias.columns.iter().map(|c| c.name.value.clone()).collect();
                Named::new(Some(alias.name.value.clone()), columns)
            }
        }
    }

    fn factor(&self, table: &TableFactor) -> Vec<Named> {
        vec![match table {
            TableFactor::Table { name, alias, .. } => {
                let Some(name) = name.0.last().and_then(|p| p.as_ident()) else { return vec![] };
                let cte = self
                    .with
                    .blocks
                    .iter()
                    .rev()
                    .flat_map(|w| w.iter().rev())
                    .find(|c| c.name.as_ref() == Some(&name.value));
                let schema = self.tables.get(&name.value).filter(|_| cte.is_none());
                let columns = match (cte, schema) {
                    (Some(cte), _) => cte.columns.clone(),
                    (None, Some(schema)) => schema.fields().iter().map(|f| f.name().clone()).collect(),
                    (None, None) => vec![],
                };
                let named = Self::alias(alias, Some(name.value.clone()), columns);
                Named { types: schema.cloned(), ..named }
            }
            TableFactor::Derived { subquery, alias, .. } => Self::alias(alias, None, self.outputs(subquery)),
            TableFactor::NestedJoin { table_with_joins, .. } => {
                let mut all = self.factor(&table_with_joins.relation);
                table_with_joins.joins.iter().for_each(|j| all.extend(self.factor(&j.relation)));
                return all;
            }
            whole @ (TableFactor::Pivot { table, alias, .. } | TableFactor::Unpivot { table, alias, .. }) => {
                let of = self.factor(table).pop();
                let (name, columns) = of.map_or((None, vec![]), |n| (n.name, n.columns));
                let made = Self::alias(alias, name, pivot::outputs(&columns, whole));
                return vec![made, Named { hidden: true, ..Named::new(None, columns) }];
            }
            _ => return vec![],
        }]
    }

    fn from(&self, select: &Select) -> Scope {
        let mut all = vec![];
        for table in &select.from {
            all.extend(self.factor(&table.relation));
            table.joins.iter().for_each(|j| all.extend(self.factor(&j.relation)));
        }
        for view in &select.lateral_views {
            let name = view.lateral_view_name.0.last().and_then(|p| p.as_ident()).map(|n| n.value.clone());
            all.push(Named::new(name, view.lateral_col_alias.iter().map(|c| c.value.clone()).collect()));
        }
        all
    }

    /// The names of a query's columns, as far as they are known.
    fn outputs(&self, query: &Query) -> Vec<String> {
        let mut blocks = self.with.blocks.clone();
        blocks.push(vec![]);
        let mut inner = Resolve { tables: self.tables, with: Known { blocks, taken: vec![] }, levels: vec![] };
        for cte in query.with.iter().flat_map(|w| &w.cte_tables) {
            let named = inner.cte(cte);
            inner.with.add(named);
        }
        inner.of_body(&query.body)
    }

    fn cte(&self, cte: &Cte) -> Named {
        Self::alias(&Some(cte.alias.clone()), None, self.outputs(&cte.query))
    }

    fn of_body(&self, body: &SetExpr) -> Vec<String> {
        match body {
            SetExpr::Query(query) => self.outputs(query),
            SetExpr::SetOperation { left, .. } => self.of_body(left),
            SetExpr::Select(select) => {
                let from = self.from(select);
                select.projection.iter().flat_map(|item| Self::of_item(item, &from)).collect()
            }
            _ => vec![],
        }
    }

    fn of_item(item: &SelectItem, from: &Scope) -> Vec<String> {
        let without = |all: Vec<String>, options: &WildcardAdditionalOptions| {
            let Some(except) = &options.opt_except else { return all };
            let out: Vec<&Ident> = std::iter::once(&except.first_element).chain(&except.additional_elements).collect();
            all.into_iter().filter(|c| !out.iter().any(|n| n.value.eq_ignore_ascii_case(c))).collect()
        };
        match item {
            SelectItem::UnnamedExpr(expr) => plain_name(expr).map(|n| n.value.clone()).into_iter().collect(),
            SelectItem::ExprWithAlias { alias, .. } => vec![alias.value.clone()],
            SelectItem::ExprWithAliases { aliases, .. } => aliases.iter().map(|a| a.value.clone()).collect(),
            SelectItem::Wildcard(options) => {
                without(from.iter().filter(|t| !t.hidden).flat_map(|t| t.columns.clone()).collect(), options)
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                let of = |t: &&Named| t.name.as_ref().is_some_and(|n| n.eq_ignore_ascii_case(&name.to_string()));
                without(from.iter().filter(of).flat_map(|t| t.columns.clone()).collect(), options)
            }
            SelectItem::QualifiedWildcard(..) => vec![],
        }
    }

    fn is_column(&self, name: &Ident) -> bool {
        let mut columns = self.levels.iter().flatten().flatten().flat_map(|t| &t.columns);
        columns.any(|c| c.eq_ignore_ascii_case(&name.value))
    }

    /// Gives a column the name that its table has, and returns its type, if the type is known.
    fn column(&self, name: &mut Ident) -> Option<DataType> {
        for level in self.levels.iter().rev() {
            let all = |scope: &Scope| scope.iter().flat_map(|t| t.columns.clone()).collect::<Vec<String>>();
            if let Some(scope) = level.iter().find(|scope| all(scope).contains(&name.value)) {
                return type_of(scope, &name.value);
            }
            for scope in level {
                let names = all(scope);
                if let Some(real) = spelled(&name.value, names.iter()) {
                    name.value = real;
                    return type_of(scope, &name.value);
                }
                // There are several spellings. The planner reports the error.
                if names.iter().any(|c| c.to_lowercase() == name.value.to_lowercase()) {
                    return None;
                }
            }
        }
        None
    }

    /// Gives fields the names that they have in a column of this type.
    fn fields(fields: &mut [Ident], of: Option<DataType>) {
        let [first, rest @ ..] = fields else { return };
        let inner = match of {
            Some(DataType::List(item)) => return Self::fields(fields, Some(item.data_type().clone())),
            Some(DataType::Struct(inner)) => inner,
            _ => return,
        };
        let names: Vec<String> = inner.iter().map(|f| f.name().clone()).collect();
        if let Some(real) = spelled(&first.value, names.iter()) {
            first.value = real;
        }
        let of = inner.iter().find(|f| *f.name() == first.value).map(|f| f.data_type().clone());
        Self::fields(rest, of);
    }

    fn path(&self, parts: &mut [Ident]) {
        let [first, rest @ ..] = parts else { return };
        if let [column, fields @ ..] = &mut *rest {
            for scope in self.levels.iter().rev().flatten() {
                let Some(name) = spelled(&first.value, scope.iter().filter_map(|t| t.name.as_ref())) else { continue };
                let tables: Scope = scope.iter().filter(|t| t.name.as_ref() == Some(&name)).cloned().collect();
                if let Some(real) = spelled(&column.value, tables.iter().flat_map(|t| &t.columns)) {
                    column.value = real;
                }
                first.value = name;
                Self::fields(fields, type_of(&tables, &column.value));
                return;
            }
        }
        let of = self.column(first);
        Self::fields(rest, of);
    }

    fn joined(&self, join: &mut Join, from: &Scope) -> Result<(), String> {
        let of = match &mut join.join_operator {
            JoinOperator::Join(c)
            | JoinOperator::Inner(c)
            | JoinOperator::Left(c)
            | JoinOperator::LeftOuter(c)
            | JoinOperator::Right(c)
            | JoinOperator::RightOuter(c)
            | JoinOperator::FullOuter(c)
            | JoinOperator::Semi(c)
            | JoinOperator::LeftSemi(c)
            | JoinOperator::Anti(c)
            | JoinOperator::LeftAnti(c) => c,
            _ => return Ok(()),
        };
        let spellings = |name: &str| {
            let all = from.iter().flat_map(|t| &t.columns).filter(|c| c.to_lowercase() == name.to_lowercase());
            all.cloned().collect::<BTreeSet<String>>().into_iter().collect::<Vec<_>>()
        };
        let differ = |all: Vec<String>| {
            format!(
                "the tables of a join spell a column in different ways ({}). Join them ON a.{} = b.{}.",
                all.join(", "),
                all[0],
                all[1]
            )
        };
        match of {
            JoinConstraint::Natural => {
                let names = from.iter().flat_map(|t| &t.columns);
                names.map(|c| spellings(c)).find(|all| all.len() > 1).map_or(Ok(()), |all| Err(differ(all)))
            }
            JoinConstraint::Using(columns) => {
                for part in columns.iter_mut().flat_map(|c| &mut c.0) {
                    let ObjectNamePart::Identifier(name) = part else { continue };
                    let mut all = spellings(&name.value);
                    match all.len() {
                        0 => {}
                        1 => name.value = all.remove(0),
                        _ => return Err(differ(all)),
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Refuses UNION BY NAME if names differ only in case, because the planner compares names exactly.
    fn by_name(&self, body: &SetExpr) -> Result<(), String> {
        let SetExpr::SetOperation { left, right, set_quantifier, .. } = body else { return Ok(()) };
        if matches!(set_quantifier, SetQuantifier::ByName | SetQuantifier::AllByName | SetQuantifier::DistinctByName) {
            let names = self.of_body(left);
            for name in self.of_body(right) {
                if let Some(other) = spelled(&name, names.iter()).filter(|other| *other != name) {
                    return Err(format!(
                        "BY NAME: one query names a column {other}, and the other {name}. Use one spelling."
                    ));
                }
            }
        }
        self.by_name(left)?;
        self.by_name(right)
    }

    /// Columns of results keep the name that the user typed.
    fn keep_typed(&self, item: &mut SelectItem) {
        let SelectItem::UnnamedExpr(expr) = item else { return };
        let mut typed = match expr {
            Expr::Identifier(name) => vec![name.clone()],
            Expr::CompoundIdentifier(parts) => parts.clone(),
            _ => return,
        };
        let Some(alias) = typed.last().cloned() else { return };
        let first = &typed[0].value.to_lowercase();
        let mut tables = self.levels.iter().flatten().flatten().filter_map(|t| t.name.as_ref());
        let of_table = tables.any(|name| name.to_lowercase() == *first);
        // A field of a column has the name of the field.
        let is_field = typed.len() > if of_table { 2 } else { 1 };
        self.path(&mut typed);
        if is_field || typed.last().is_some_and(|real| real.value != alias.value) {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
}

impl VisitorMut for Resolve<'_> {
    /// The reason why the statement is refused.
    type Break = String;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<String> {
        let mut with = self.with.enter(query);
        if let Some(with) = &mut with {
            for cte in &mut with.cte_tables {
                if with.recursive {
                    let columns = cte.alias.columns.iter().map(|c| c.name.value.clone()).collect();
                    let named = Self::alias(&Some(cte.alias.clone()), None, columns);
                    self.with.add(named);
                }
                VisitMut::visit(&mut *cte.query, self)?;
                let named = self.cte(cte);
                self.with.add(named);
            }
        }
        self.with.taken.push(with);
        if let Err(why) = self.by_name(&query.body) {
            return ControlFlow::Break(why);
        }
        // ORDER BY is outside of the SELECT. Its names are looked up in the columns of the result first, and then in the columns of FROM.
        let mut level = vec![vec![Named::new(None, self.of_body(&query.body))]];
        if let SetExpr::Select(select) = &*query.body {
            level.push(self.from(select));
        }
        self.levels.push(level);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<String> {
        self.with.leave(query);
        self.levels.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<String> {
        let from = self.from(select);
        // HAVING, GROUP BY and QUALIFY may name columns of the result.
        let said = select.projection.iter().flat_map(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => vec![alias.value.clone()],
            SelectItem::ExprWithAliases { aliases, .. } => aliases.iter().map(|a| a.value.clone()).collect(),
            _ => vec![],
        });
        let outputs = vec![Named::new(None, said.collect())];
        self.levels.push(vec![from.clone(), outputs]);
        for item in &mut select.projection {
            self.keep_typed(item);
            if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item
                && let [ObjectNamePart::Identifier(name)] = &mut name.0[..]
                && let Some(real) = spelled(&name.value, from.iter().filter_map(|t| t.name.as_ref()))
            {
                name.value = real;
            }
            let (SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options)) = item else { continue };
            let Some(except) = &mut options.opt_except else { continue };
            self.column(&mut except.first_element);
            for name in &mut except.additional_elements {
                self.column(name);
            }
        }
        for join in select.from.iter_mut().flat_map(|t| &mut t.joins) {
            if let Err(why) = self.joined(join, &from) {
                return ControlFlow::Break(why);
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> ControlFlow<String> {
        self.levels.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<String> {
        match expr {
            Expr::Identifier(name) => {
                if name.quote_style.is_none() && crate::expr::is_bare(&name.value) && self.is_column(name) {
                    name.quote_style = Some('`');
                }
                self.path(std::slice::from_mut(name));
            }
            Expr::CompoundIdentifier(parts) => self.path(parts),
            // `current_date` is a column if there is a column of that name.
            Expr::Function(function) if matches!(function.args, FunctionArguments::None) => {
                let quoted = |n: &ObjectNamePart| n.as_ident().map(|n| Ident::with_quote('`', &n.value));
                let mut parts: Vec<Ident> = function.name.0.iter().filter_map(quoted).collect();
                match &mut parts[..] {
                    [name] if self.is_column(name) => {
                        self.path(std::slice::from_mut(name));
                        *expr = Expr::Identifier(name.clone());
                    }
                    [_, _, ..] => {
                        self.path(&mut parts);
                        *expr = Expr::CompoundIdentifier(parts);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
