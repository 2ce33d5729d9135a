//! Items of a select list, and paths behind a colon.

use super::{Ast, Parser};
use crate::expr::json_path::Step;
use crate::expr::lex::Token;
use crate::{Error, Result};

/// One item with its alias.
#[derive(Clone, Debug)]
pub(in crate::expr) struct Item {
    pub ast: Ast,
    pub alias: Option<String>,
    /// `AS (a, b)`: the names of a generator's columns.
    pub columns: Vec<String>,
    /// `* EXCEPT (a, b)`: the columns that are left out.
    pub except: Vec<String>,
}

/// "expr", "expr AS alias" and lists of them.
pub(in crate::expr) fn items(text: &str) -> Result<Vec<Item>> {
    let mut parser = Parser::new(text)?;
    if parser.peek() == &Token::End {
        return Err(Error::schema("the expression is empty"));
    }
    let mut out = vec![parser.item()?];
    while parser.symbol(",") {
        out.push(parser.item()?);
    }
    parser.end()?;
    Ok(out)
}

/// Exactly one.
pub(in crate::expr) fn item(text: &str) -> Result<Item> {
    let mut all = items(text)?;
    match (all.len(), all.pop()) {
        (1, Some(item)) => Ok(item),
        (n, _) => Err(Error::schema(format!("'{text}' has {n} expressions; exactly one is expected"))),
    }
}

impl Parser<'_> {
    fn item(&mut self) -> Result<Item> {
        let ast = self.expression()?;
        if matches!(ast, Ast::Star | Ast::Fields(_)) && self.is_word(0, "except") {
            self.next();
            self.expect("(")?;
            let except = self.names()?;
            return Ok(Item { ast, alias: None, columns: vec![], except });
        }
        let named = match self.peek() {
            Token::Word(w) => !w.eq_ignore_ascii_case("over"),
            other => matches!(other, Token::Quoted(_)),
        };
        let said = self.word("as");
        if self.peek() == &Token::Symbol("(") && (said || matches!(ast, Ast::Function(_))) {
            self.next();
            let columns = self.names()?;
            return Ok(Item { ast, alias: None, columns, except: vec![] });
        }
        let alias = if said || named { Some(self.name()?) } else { None };
        Ok(Item { ast, alias, columns: vec![], except: vec![] })
    }

    /// Names up to the closing parenthesis.
    fn names(&mut self) -> Result<Vec<String>> {
        let mut out = vec![self.name()?];
        while self.symbol(",") {
            out.push(self.name()?);
        }
        self.expect(")")?;
        Ok(out)
    }

    /// `a.b[0]['c']` behind a colon.
    pub(super) fn path(&mut self) -> Result<Vec<Step>> {
        let mut out = vec![];
        if self.peek() != &Token::Symbol("[") {
            out.push(Step::Field { name: self.name()?, exact: false });
        }
        loop {
            if self.symbol("[") {
                out.push(match self.next() {
                    Token::Text(name) => Step::Field { name, exact: true },
                    Token::Symbol("*") => Step::Elements,
                    Token::Number(n) => match n.parse() {
                        Ok(index) => Step::Index(index),
                        Err(_) => return Err(self.wrong("a position from 0")),
                    },
                    _ => return Err(self.wrong("a position from 0, or a name in quotes,")),
                });
                self.expect("]")?;
            } else if self.symbol(".") {
                out.push(Step::Field { name: self.name()?, exact: false });
            } else {
                return Ok(out);
            }
            self.operator()?;
        }
    }
}
