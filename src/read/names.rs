//! Names whatever their upper and lower case, as in Spark. The planner compares names exactly, so the statement is given the names that the tables
//! have: each name is looked up in the scope that it stands in. Columns of a result have the names as the user typed them.

use super::pivot;
use arrow::datatypes::{DataType, Schema};
use datafusion::sql::sqlparser::ast::{
    Cte, Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, Statement, TableAlias, TableFactor, Visit, VisitMut, Visitor, VisitorMut,
    WildcardAdditionalOptions,
};
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

/// The name in backticks.
pub fn ticked(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Gives tables the names under which they are known. Names of WITH come before those of tables.
pub fn of_tables<'a>(statement: &mut Statement, known: impl Iterator<Item = &'a str>) {
    let mut names = Names::default();
    known.for_each(|name| names.add(name));
    struct Ctes(Vec<String>);
    impl Visitor for Ctes {
        type Break = ();
        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            self.0.extend(query.with.iter().flat_map(|w| &w.cte_tables).map(|c| c.alias.name.value.clone()));
            ControlFlow::Continue(())
        }
    }
    let mut ctes = Ctes(vec![]);
    let _ = Visit::visit(&*statement, &mut ctes);
    let mut of_with = Names::default();
    ctes.0.iter().for_each(|name| of_with.add(name));
    struct Relations(Names, Names);
    impl VisitorMut for Relations {
        type Break = ();
        fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
            if let TableFactor::Table { name: ObjectName(parts), alias, .. } = table
                && let [ObjectNamePart::Identifier(name)] = &mut parts[..]
                && let Some(real) = self.1.real(&name.value).or_else(|| self.0.real(&name.value))
            {
                // Columns may have the name in front of them as it is typed here.
                if alias.is_none() {
                    let typed = name.clone();
                    *alias = Some(TableAlias { explicit: true, name: typed, columns: vec![], at: None });
                }
                name.value = real;
            }
            ControlFlow::Continue(())
        }
    }
    let _ = VisitMut::visit(statement, &mut Relations(names, of_with));
}

/// Gives columns and fields the names that they have in the tables, and columns of results the names that were typed.
pub fn of_columns(statement: &mut Statement, tables: &HashMap<String, Schema>) {
    let mut fields = Names::default();
    for schema in tables.values() {
        schema.fields().iter().for_each(|f| fields.add_fields(f.data_type()));
    }
    let _ = VisitMut::visit(statement, &mut Resolve { tables, fields, with: vec![], scopes: vec![] });
}

/// Names, and how they are written.
#[derive(Default, Debug)]
struct Names {
    exact: HashSet<String>,
    lower: HashMap<String, Vec<String>>,
}

impl Names {
    fn add(&mut self, name: &str) {
        if self.exact.insert(name.to_string()) {
            self.lower.entry(name.to_lowercase()).or_default().push(name.to_string());
        }
    }

    fn add_fields(&mut self, data_type: &DataType) {
        match data_type {
            DataType::Struct(fields) => {
                for f in fields {
                    self.add(f.name());
                    self.add_fields(f.data_type());
                }
            }
            DataType::List(f) | DataType::Map(f, _) => self.add_fields(f.data_type()),
            _ => {}
        }
    }

    /// The real name, if it differs from the typed one and there is exactly one.
    fn real(&self, typed: &str) -> Option<String> {
        if self.exact.contains(typed) {
            return None;
        }
        match self.lower.get(&typed.to_lowercase()).map(Vec::as_slice) {
            Some([one]) => Some(one.clone()),
            _ => None,
        }
    }
}

/// A table in FROM: the name in front of its columns, and its columns as far as they are known.
#[derive(Debug, Clone)]
struct Named {
    name: Option<String>,
    columns: Vec<String>,
    /// They can be named, and are not in `*`: what PIVOT and UNPIVOT take.
    hidden: bool,
}

/// What can be named at a place. What stands first is looked at first.
type Scope = Vec<Named>;

/// The one spelling of a name among several.
fn spelled<'a>(typed: &str, all: impl Iterator<Item = &'a String>) -> Option<String> {
    let mut found: Option<&String> = None;
    for name in all.filter(|n| n.eq_ignore_ascii_case(typed) || n.to_lowercase() == typed.to_lowercase()) {
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
    /// The names of fields within columns.
    fields: Names,
    /// The tables of WITH, the innermost last.
    with: Vec<Vec<Named>>,
    scopes: Vec<Scope>,
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
            None => Named { name, columns, hidden: false },
            Some(alias) if alias.columns.is_empty() => {
                Named { name: Some(alias.name.value.clone()), columns, hidden: false }
            }
            Some(alias) => {
                let columns = alias.columns.iter().map(|c| c.name.value.clone()).collect();
                Named { name: Some(alias.name.value.clone()), columns, hidden: false }
            }
        }
    }

    fn factor(&self, table: &TableFactor) -> Vec<Named> {
        vec![match table {
            TableFactor::Table { name, alias, .. } => {
                let Some(name) = name.0.last().and_then(|p| p.as_ident()) else { return vec![] };
                let cte =
                    self.with.iter().rev().flat_map(|w| w.iter().rev()).find(|c| c.name.as_ref() == Some(&name.value));
                let columns = match (cte, self.tables.get(&name.value)) {
                    (Some(cte), _) => cte.columns.clone(),
                    (None, Some(schema)) => schema.fields().iter().map(|f| f.name().clone()).collect(),
                    (None, None) => vec![],
                };
                Self::alias(alias, Some(name.value.clone()), columns)
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
                return vec![made, Named { name: None, columns, hidden: true }];
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
            all.push(Named {
                name: view.lateral_view_name.0.last().and_then(|p| p.as_ident()).map(|n| n.value.clone()),
                columns: view.lateral_col_alias.iter().map(|c| c.value.clone()).collect(),
                hidden: false,
            });
        }
        all
    }

    /// The names of a query's columns, as far as they are known.
    fn outputs(&self, query: &Query) -> Vec<String> {
        let of_with: Vec<Named> = query.with.iter().flat_map(|w| &w.cte_tables).map(|c| self.cte(c)).collect();
        let inner = Resolve {
            tables: self.tables,
            fields: Names::default(),
            with: self.with.iter().cloned().chain([of_with]).collect(),
            scopes: vec![],
        };
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

    fn column(&self, name: &mut Ident) {
        for scope in self.scopes.iter().rev() {
            let all = || scope.iter().flat_map(|t| &t.columns);
            if let Some(real) = spelled(&name.value, all()) {
                name.value = real;
                return;
            }
            // Two spellings: the planner says what is wrong.
            if all().any(|c| c.eq_ignore_ascii_case(&name.value)) {
                return;
            }
        }
    }

    fn field(&self, name: &mut Ident) {
        if let Some(real) = self.fields.real(&name.value) {
            name.value = real;
        }
    }

    fn path(&self, parts: &mut [Ident]) {
        let [first, rest @ ..] = parts else { return };
        if let [column, fields @ ..] = &mut *rest {
            for scope in self.scopes.iter().rev() {
                let Some(name) = spelled(&first.value, scope.iter().filter_map(|t| t.name.as_ref())) else { continue };
                let of = scope.iter().filter(|t| t.name.as_ref() == Some(&name)).flat_map(|t| &t.columns);
                if let Some(real) = spelled(&column.value, of) {
                    column.value = real;
                }
                first.value = name;
                fields.iter_mut().for_each(|f| self.field(f));
                return;
            }
        }
        self.column(first);
        rest.iter_mut().for_each(|f| self.field(f));
    }

    fn joined(&self, join: &mut Join) {
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
            _ => return,
        };
        let JoinConstraint::Using(columns) = of else { return };
        for part in columns.iter_mut().flat_map(|c| &mut c.0) {
            if let ObjectNamePart::Identifier(name) = part {
                self.column(name);
            }
        }
    }

    /// Columns of results keep the name that was typed.
    fn keep_typed(&self, item: &mut SelectItem) {
        let SelectItem::UnnamedExpr(expr) = item else { return };
        let mut typed = match expr {
            Expr::Identifier(name) => vec![name.clone()],
            Expr::CompoundIdentifier(parts) => parts.clone(),
            _ => return,
        };
        let Some(alias) = typed.last().cloned() else { return };
        self.path(&mut typed);
        if typed.last().is_some_and(|real| real.value != alias.value) {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
}

impl VisitorMut for Resolve<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.with.push(vec![]);
        for cte in query.with.iter().flat_map(|w| &w.cte_tables) {
            let named = self.cte(cte);
            if let Some(block) = self.with.last_mut() {
                block.push(named);
            }
        }
        // ORDER BY stands outside of the SELECT: it sees the columns of the result, and then those of FROM.
        self.scopes.push(match &*query.body {
            SetExpr::Select(select) => self.from(select),
            _ => vec![],
        });
        self.scopes.push(vec![Named { name: None, columns: self.of_body(&query.body), hidden: false }]);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.with.pop();
        self.scopes.pop();
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        let mut names = self.from(select);
        // HAVING, GROUP BY and QUALIFY may name columns of the result.
        let outputs = select.projection.iter().flat_map(|item| Self::of_item(item, &names)).collect();
        self.scopes.push(vec![Named { name: None, columns: outputs, hidden: false }]);
        self.scopes.push(std::mem::take(&mut names));
        for item in &mut select.projection {
            self.keep_typed(item);
            let (SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options)) = item else { continue };
            let Some(except) = &mut options.opt_except else { continue };
            self.column(&mut except.first_element);
            except.additional_elements.iter_mut().for_each(|name| self.column(name));
        }
        for item in &mut select.projection {
            let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item else {
                continue;
            };
            if let [ObjectNamePart::Identifier(name)] = &mut name.0[..]
                && let Some(scope) = self.scopes.last()
                && let Some(real) = spelled(&name.value, scope.iter().filter_map(|t| t.name.as_ref()))
            {
                name.value = real;
            }
        }
        for table in &mut select.from {
            table.joins.iter_mut().for_each(|join| self.joined(join));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> ControlFlow<()> {
        self.scopes.pop();
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) => self.path(std::slice::from_mut(name)),
            Expr::CompoundIdentifier(parts) => self.path(parts),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
