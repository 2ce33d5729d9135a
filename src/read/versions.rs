//! `FROM t VERSION AS OF 3` and `FROM t TIMESTAMP AS OF '2026-01-31'`: for the planner, each such table is a separate table.

use super::{Source, register};
use crate::expr::{Dialect, bind};
use crate::sink::delta;
use crate::{Error, Result};
use arrow::array::{AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, TimestampMicrosecondType};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Statement, TableAlias, TableFactor, TableVersion, VisitMut, VisitorMut,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// A table and its version, as in the text.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    table: String,
    version: TableVersion,
}

/// Registers the tables that the statement reads at a version, and puts the registered names into the statement.
pub(super) async fn pin(
    ctx: &SessionContext,
    statement: &mut Statement,
    tables: &BTreeMap<String, Source>,
) -> Result<()> {
    let mut found = Found { asked: vec![] };
    if let ControlFlow::Break(what) = VisitMut::visit(statement, &mut found) {
        return Err(Error::schema(format!("SQL: {what} is not supported. Say VERSION AS OF or TIMESTAMP AS OF.")));
    }
    for (k, Asked { table, version }) in found.asked.iter().enumerate() {
        let source = table_of(tables, table).ok_or_else(|| {
            Error::schema(format!("SQL: {version}: there is no table '{table}', or there are several tables whose names differ only in upper and lower case"))
        })?;
        let Source::Delta(location, _) = source else {
            return Err(Error::schema(format!("SQL: '{table}' {version}: only Delta tables have versions")));
        };
        let number = match version {
            TableVersion::VersionAsOf(n) => n.to_string().parse::<u64>().map_err(|_| {
                Error::schema(format!("SQL: VERSION AS OF {n}: a version is a whole number, from 0 on"))
            })?,
            TableVersion::TimestampAsOf(time) => {
                let found = delta::version_at(location, moment(time)?).await;
                found.map_err(|e| e.context(format!("SQL: '{table}' {version}")))?
            }
            other => return Err(Error::internal(format!("{other} was let through"))),
        };
        register(ctx, &of(k), Source::Delta(location.clone(), Some(number))).await?;
    }
    Ok(())
}

/// The table with exactly this name, or else the only table whose name differs just in case.
pub(super) fn table_of<'a>(tables: &'a BTreeMap<String, Source>, name: &str) -> Option<&'a Source> {
    tables.get(name).or_else(|| {
        let mut same = tables.iter().filter(|(n, _)| n.to_lowercase() == name.to_lowercase());
        same.next().filter(|_| same.next().is_none()).map(|(_, source)| source)
    })
}

fn of(k: usize) -> String {
    format!("__version_{k}")
}

/// The value of a constant expression, in microseconds.
#[allow(clippy::disallowed_methods, reason = "a query over tables is no run: it has the time of the machine")]
fn moment(expr: &Expr) -> Result<i64> {
    let text = format!("CAST({expr} AS TIMESTAMP)");
    let none = Arc::new(Schema::empty());
    let bound = bind(&text, &none, Dialect::Databricks).map_err(|e| e.context("SQL: TIMESTAMP AS OF"))?;
    let one = RecordBatch::try_new_with_options(none, vec![], &RecordBatchOptions::new().with_row_count(Some(1)))?;
    // As in any query, the current time is one value for the whole call.
    let _moment = crate::expr::Moment::is(crate::time::SharedClock::system().now());
    let value = bound.evaluate(&one).map_err(|e| Error::schema(format!("SQL: TIMESTAMP AS OF: {}", e.message)))?;
    let value = value.as_primitive_opt::<TimestampMicrosecondType>().and_then(|times| times.iter().next().flatten());
    value.ok_or_else(|| Error::schema(format!("SQL: TIMESTAMP AS OF {expr}: the time is NULL")))
}

/// Takes the versions out of the statement, and collects them.
struct Found {
    asked: Vec<Asked>,
}

impl VisitorMut for Found {
    type Break = String;

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<String> {
        let TableFactor::Table { name, alias, version, .. } = table else { return ControlFlow::Continue(()) };
        match version {
            None => return ControlFlow::Continue(()),
            Some(TableVersion::VersionAsOf(_) | TableVersion::TimestampAsOf(_)) => {}
            Some(other) => return ControlFlow::Break(other.to_string()),
        }
        let [ObjectNamePart::Identifier(plain)] = &name.0[..] else {
            return ControlFlow::Break(format!("a version of {name}, a name of several parts,"));
        };
        let Some(version) = version.take() else { return ControlFlow::Continue(()) };
        let asked = Asked { table: plain.value.clone(), version };
        let k = self.asked.iter().position(|a| *a == asked).unwrap_or_else(|| {
            self.asked.push(asked);
            self.asked.len() - 1
        });
        if alias.is_none() {
            *alias = Some(TableAlias { explicit: true, name: plain.clone(), columns: vec![], at: None });
        }
        *name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(of(k)))]);
        ControlFlow::Continue(())
    }
}
