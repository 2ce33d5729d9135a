//! Calls: arguments, ORDER BY, FILTER, and the functions with words between their arguments.

use super::{Ast, Function, Order, Parser};
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
            if self.peek() == &Token::Symbol("=>") {
                return Err(Error::schema(format!("'{}': named arguments (=>) are not supported", self.text)));
            }
            self.expect(",")?;
        }
    }

    /// A call behind its name: a special form, or arguments and the clauses that may follow them.
    pub(super) fn call(&mut self, name: &str) -> Result<Ast> {
        self.expect("(")?;
        let lower = name.to_ascii_lowercase();
        if let Some(special) = self.special(&lower)? {
            return Ok(special);
        }
        let distinct = !self.bare(1, true) && self.word("distinct");
        if !distinct && !self.bare(1, true) {
            self.word("all");
        }
        let mut function = Function { name: lower, distinct, ..Function::default() };
        if !self.symbol(")") {
            loop {
                function.args.push(self.expression()?);
                if self.symbol(",") {
                    continue;
                }
                self.null_treatment(&mut function)?;
                if self.is_word(0, "order") {
                    function.order_by = self.order_by()?;
                }
                self.expect(")")?;
                break;
            }
        }
        if self.is_word(0, "within") && self.is_word(1, "group") {
            self.at += 2;
            self.expect("(")?;
            if !function.order_by.is_empty() {
                return Err(Error::schema(format!(
                    "'{}': the order is given twice. Leave out the ORDER BY before WITHIN GROUP.",
                    self.text
                )));
            }
            function.order_by = self.order_by()?;
            function.within_group = true;
            self.expect(")")?;
        }
        self.null_treatment(&mut function)?;
        if self.is_word(0, "filter") && self.ahead(1) == &Token::Symbol("(") {
            self.next();
            self.next();
            self.expect_word("where")?;
            function.filter = Some(Box::new(self.expression()?));
            self.expect(")")?;
        }
        self.null_treatment(&mut function)?;
        if self.word("over") {
            return Err(Error::schema(format!("'{}': window functions (OVER) are not supported", self.text)));
        }
        Ok(Ast::Function(function))
    }

    /// `IGNORE NULLS`, `RESPECT NULLS`.
    fn null_treatment(&mut self, function: &mut Function) -> Result<()> {
        let ignore = self.is_word(0, "ignore");
        if (!ignore && !self.is_word(0, "respect")) || !self.is_word(1, "nulls") {
            return Ok(());
        }
        if function.ignore_nulls.is_some() {
            return Err(Error::schema(format!("'{}': IGNORE NULLS or RESPECT NULLS is given twice", self.text)));
        }
        self.at += 2;
        function.ignore_nulls = Some(ignore);
        Ok(())
    }

    /// `ORDER BY expr [ASC | DESC] [NULLS FIRST | LAST], …`.
    fn order_by(&mut self) -> Result<Vec<Order>> {
        self.expect_word("order")?;
        self.expect_word("by")?;
        let mut out = vec![];
        loop {
            let ast = self.expression()?;
            let descending = self.word("desc");
            if !descending {
                self.word("asc");
            }
            let nulls_first = if !self.word("nulls") {
                None
            } else if self.word("first") {
                Some(true)
            } else if self.word("last") {
                Some(false)
            } else {
                return Err(self.wrong("FIRST or LAST"));
            };
            out.push(Order { ast, descending, nulls_first });
            if !self.symbol(",") {
                return Ok(out);
            }
        }
    }

    /// Functions with words between their arguments.
    fn special(&mut self, name: &str) -> Result<Option<Ast>> {
        let start = self.at;
        match name {
            "struct" => {
                let mut items = vec![];
                while !self.symbol(")") {
                    if !items.is_empty() {
                        self.expect(",")?;
                    }
                    let ast = self.expression()?;
                    // As in Spark, AS may be left out.
                    let named = self.word("as") || matches!(self.peek(), Token::Word(_) | Token::Quoted(_));
                    let alias = if named { Some(self.name()?) } else { None };
                    items.push((ast, alias));
                }
                return Ok(Some(Ast::Struct { items, tuple: false }));
            }
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
            "overlay" => {
                let text = self.expression()?;
                if self.word("placing") {
                    let mut args = vec![text, self.expression()?];
                    self.expect_word("from")?;
                    args.push(self.expression()?);
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
