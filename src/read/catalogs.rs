//! `FROM main.heart.bpm`: tables that a text names by catalog and schema. For the passes and the planner, each of these names is one identifier.

use super::parsed::statement_of;
use crate::Result;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Statement, TableAlias, TableFactor, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::DatabricksDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Word};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// The planner's own catalog, for tables that are in no other catalog.
const OWN: &str = "datafusion";

/// The names of the tables that a text names by three parts, with dots and without backticks. Parsing is recursive: it needs a thread with a
/// large stack, as `sql` does.
pub(crate) fn named(text: &str) -> Result<BTreeSet<String>> {
    crate::expr::check_statement(text)?;
    Ok(tables_of(text))
}

fn tables_of(text: &str) -> BTreeSet<String> {
    let tokens = Tokenizer::new(&DatabricksDialect {}, text).tokenize().unwrap_or_default();
    let mut words = tokens.iter().filter(|t| !matches!(t, Token::Whitespace(_)));
    let describes =
        |t: &Token| matches!(t, Token::Word(w) if ["DESCRIBE", "DESC"].iter().any(|d| w.value.eq_ignore_ascii_case(d)));
    if words.next().is_some_and(describes) {
        let dotted = merged(tokens).into_iter().filter_map(|t| match t {
            Token::Word(w) if w.value.contains('.') => Some(w.value),
            _ => None,
        });
        return dotted.collect();
    }
    let mut found = Named::default();
    if let Ok(mut statement) = statement_of(text) {
        let _ = VisitMut::visit(&mut statement, &mut found);
    }
    found.names
}

/// Changes the statement so that it names each of these tables by one part. Returns the tables that it names by three parts.
pub(super) fn shorten(statement: &mut Statement, tables: &BTreeSet<String>) -> BTreeSet<String> {
    let mut found = Named { shorten: Some(tables.clone()), ..Named::default() };
    let _ = VisitMut::visit(statement, &mut found);
    let _ = VisitMut::visit(statement, &mut Columns { tables: &found.names });
    found.names
}

/// Tokens with each name of three parts as one word.
pub(super) fn merged(tokens: Vec<Token>) -> Vec<Token> {
    let mut out: Vec<Token> = vec![];
    for token in tokens {
        out.push(token);
        if let [.., Token::Word(a), Token::Period, Token::Word(b), Token::Period, Token::Word(c)] = &out[..] {
            let value = format!("{}.{}.{}", a.value, b.value, c.value);
            let word = Word {
                value,
                quote_style: Some('`'),
                keyword: datafusion::sql::sqlparser::keywords::Keyword::NoKeyword,
            };
            out.truncate(out.len() - 5);
            out.push(Token::Word(word));
        }
    }
    out
}

#[derive(Default)]
struct Named {
    names: BTreeSet<String>,
    /// The tables that get a name of one part. None: the statement is not changed.
    shorten: Option<BTreeSet<String>>,
}

impl VisitorMut for Named {
    type Break = ();

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name, alias, .. } = table else { return ControlFlow::Continue(()) };
        let [ObjectNamePart::Identifier(a), ObjectNamePart::Identifier(b), ObjectNamePart::Identifier(c)] = &name.0[..]
        else {
            return ControlFlow::Continue(());
        };
        if a.value.eq_ignore_ascii_case(OWN) {
            return ControlFlow::Continue(());
        }
        let whole = format!("{}.{}.{}", a.value, b.value, c.value);
        let last = c.clone();
        if self.shorten.as_ref().is_some_and(|tables| tables.contains(&whole)) {
            // The last part of the table's name may be in front of columns.
            if alias.is_none() {
                *alias = Some(TableAlias { explicit: true, name: last, columns: vec![], at: None });
            }
            *name = ObjectName(vec![ObjectNamePart::Identifier(Ident::with_quote('`', whole.clone()))]);
        }
        self.names.insert(whole);
        ControlFlow::Continue(())
    }
}

/// `main.heart.bpm.model` becomes `bpm.model`.
struct Columns<'a> {
    tables: &'a BTreeSet<String>,
}

impl VisitorMut for Columns<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(parts) = expr
            && let [a, b, c, _, ..] = &parts[..]
        {
            let whole = format!("{}.{}.{}", a.value, b.value, c.value).to_lowercase();
            if self.tables.iter().any(|t| t.to_lowercase() == whole) {
                parts.drain(..2);
            }
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_three_parts_are_found_where_tables_stand() {
        let of = |text: &str| tables_of(text).into_iter().collect::<Vec<_>>();
        assert_eq!(of("SELECT a.b.c FROM main.heart.bpm JOIN t ON t.x.y = 1"), ["main.heart.bpm"]);
        assert_eq!(
            of(
                "WITH w AS (SELECT * FROM `my-cat`.s.a) SELECT (SELECT max(i) FROM c.s.b VERSION AS OF 3) FROM w, datafusion.public.t"
            ),
            ["c.s.b", "my-cat.s.a"]
        );
        assert_eq!(of("DESCRIBE HISTORY main.heart.`bpm`"), ["main.heart.bpm"]);
        assert_eq!(of("desc main.heart.bpm"), ["main.heart.bpm"]);
        assert!(of("SELECT 1 FROM").is_empty() && of("SELECT a.b.c FROM t").is_empty() && of("").is_empty());
    }

    #[test]
    fn a_table_of_three_parts_becomes_one_name_and_its_columns_follow() {
        let mut statement =
            statement_of("SELECT bpm.x, main.heart.bpm.y, o.z FROM main.heart.bpm, main.heart.other AS o").unwrap();
        let tables = ["main.heart.bpm", "main.heart.other"].map(String::from).into();
        assert_eq!(shorten(&mut statement, &tables), tables);
        assert_eq!(
            statement.to_string(),
            "SELECT bpm.x, bpm.y, o.z FROM `main.heart.bpm` AS bpm, `main.heart.other` AS o"
        );
    }
}
