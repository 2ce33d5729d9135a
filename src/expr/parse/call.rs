//! Calls: arguments, FILTER, and the functions with words between their arguments.

use super::{Ast, Function, Parser};
use crate::expr::lex::Token;
use crate::{Error, Result};

impl Parser<'_> {
    pub(super) fn arguments(&mut self) -> Result<Vec<Ast>> {
        let mut out = vec![];
        if self.symbol(")") {
            return Ok(out);
        }
        loop {
            out.push(self.expression()?);
            if self.symbol(")") {
                return Ok(out);
            }
            if self.peek() == &Token::Symbol("->") {
                return Err(Error::schema(format!("'{}': lambdas (->) are not supported", self.text)));
            }
            if self.peek() == &Token::Symbol("=>") {
                return Err(Error::schema(format!("'{}': named arguments (=>) are not supported", self.text)));
            }
            self.expect(",")?;
        }
    }

    /// After the name: special forms, then arguments, FILTER and what is refused.
    pub(super) fn call(&mut self, name: &str) -> Result<Ast> {
        self.expect("(")?;
        let lower = name.to_ascii_lowercase();
        if let Some(special) = self.special(&lower)? {
            return Ok(special);
        }
        let distinct = self.word("distinct");
        if !distinct {
            self.word("all");
        }
        let mut refused = None;
        let mut args = vec![];
        if !self.symbol(")") {
            loop {
                args.push(self.expression()?);
                if self.symbol(",") {
                    continue;
                }
                if self.peek() == &Token::Symbol("->") {
                    return Err(Error::schema(format!("'{}': lambdas (->) are not supported", self.text)));
                }
                if self.is_word(0, "ignore") || self.is_word(0, "respect") {
                    refused = Some("IGNORE NULLS");
                    self.next();
                    self.expect_word("nulls")?;
                }
                if self.word("order") {
                    self.expect_word("by")?;
                    refused = Some("ORDER BY");
                    loop {
                        self.expression()?;
                        let _ = self.word("asc") || self.word("desc");
                        if self.word("nulls") {
                            self.name()?;
                        }
                        if !self.symbol(",") {
                            break;
                        }
                    }
                }
                self.expect(")")?;
                break;
            }
        }
        if self.word("within") {
            return Err(Error::schema(format!("'{}': WITHIN GROUP is not supported", self.text)));
        }
        let mut filter = None;
        if self.is_word(0, "filter") && self.ahead(1) == &Token::Symbol("(") {
            self.next();
            self.next();
            self.expect_word("where")?;
            filter = Some(Box::new(self.expression()?));
            self.expect(")")?;
        }
        if self.word("over") {
            refused = Some("OVER");
        }
        Ok(Ast::Function(Function { name: lower, args, distinct, filter, refused }))
    }

    /// Functions with words between their arguments.
    fn special(&mut self, name: &str) -> Result<Option<Ast>> {
        let start = self.at;
        match name {
            "extract" => {
                let field = self.name()?;
                if self.word("from") {
                    let source = self.expression()?;
                    self.expect(")")?;
                    return Ok(Some(Function::plain(name, vec![Ast::Text(field), source])));
                }
            }
            "position" => {
                let what = self.binary(0)?;
                if self.word("in") {
                    let whole = self.expression()?;
                    self.expect(")")?;
                    return Ok(Some(Function::plain("locate", vec![what, whole])));
                }
            }
            "substring" | "substr" => {
                let text = self.expression()?;
                if self.word("from") {
                    let mut args = vec![text, self.expression()?];
                    if self.word("for") {
                        args.push(self.expression()?);
                    }
                    self.expect(")")?;
                    return Ok(Some(Function::plain(name, args)));
                }
            }
            "trim" => {
                let side = ["both", "leading", "trailing"].into_iter().find(|s| self.is_word(0, s));
                if side.is_some() && self.ahead(1) != &Token::Symbol(",") && self.ahead(1) != &Token::Symbol(")") {
                    self.next();
                }
                let what = if self.is_word(0, "from") { None } else { Some(self.expression()?) };
                if self.word("from") {
                    let text = self.expression()?;
                    self.expect(")")?;
                    let name = match side {
                        Some("leading") => "trim_leading",
                        Some("trailing") => "trim_trailing",
                        _ => "trim_both",
                    };
                    return Ok(Some(Function::plain(name, std::iter::once(text).chain(what).collect())));
                }
            }
            // The unit is a word, not a column.
            "timestampdiff" | "timestampadd" | "dateadd" | "datediff" | "date_add" | "date_diff"
                if matches!(self.peek(), Token::Word(_)) && self.ahead(1) == &Token::Symbol(",") =>
            {
                let Token::Word(unit) = self.next() else { return Ok(None) };
                self.next();
                let rest = self.arguments()?;
                if rest.len() == 2 {
                    let name = if name.contains("diff") { "timestampdiff" } else { "timestampadd" };
                    return Ok(Some(Function::plain(name, std::iter::once(Ast::Text(unit)).chain(rest).collect())));
                }
            }
            _ => {}
        }
        self.at = start;
        Ok(None)
    }
}
