//! Spark's expression grammar (`SqlBaseParser.g4`), with its precedences.
//!
//! This is not sqlparser, because errors here say which token is expected after which text, and refuse constructs by name. The
//! precedences of NOT, `||`, the bit operators and DIV, and the rules of strings, are Spark's, which differ from sqlparser's.

mod ast;
mod call;
mod item;

use super::ddl;
use super::lex::{Spanned, Token, tokens};
use crate::{Error, Result};
pub(super) use ast::{Ast, Function, Order};
pub(super) use item::{Item, item, items};

const MAX_DEPTH: usize = 128;
/// At most this many operators in one expression: `a AND b AND …` is parsed as deep as it is long.
const MAX_OPERATORS: usize = 1000;

pub(super) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Spanned>,
    at: usize,
    depth: usize,
    operators: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Result<Self> {
        let tokens = tokens(text).map_err(|e| e.context(format!("'{text}'")))?;
        Ok(Self { text, tokens, at: 0, depth: 0, operators: 0 })
    }

    pub(super) fn peek(&self) -> &Token {
        self.ahead(0)
    }

    fn ahead(&self, n: usize) -> &Token {
        &self.tokens[(self.at + n).min(self.tokens.len() - 1)].token
    }

    pub(super) fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if self.at < self.tokens.len() - 1 {
            self.at += 1;
        }
        token
    }

    pub(super) fn symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Token::Symbol(s) if *s == symbol);
        if found {
            self.next();
        }
        found
    }

    /// Takes a `>`, also the first half of `>>`.
    pub(super) fn split_angle(&mut self) -> bool {
        let rest = match self.peek() {
            Token::Symbol(">") => {
                self.next();
                return true;
            }
            Token::Symbol(">>") => ">",
            Token::Symbol(">>>") => ">>",
            Token::Symbol(">=") => "=",
            _ => return false,
        };
        self.tokens[self.at].token = Token::Symbol(rest);
        self.tokens[self.at].start += 1;
        true
    }

    fn is_word(&self, n: usize, word: &str) -> bool {
        matches!(self.ahead(n), Token::Word(w) if w.eq_ignore_ascii_case(word))
    }

    pub(super) fn word(&mut self, word: &str) -> bool {
        let found = self.is_word(0, word);
        if found {
            self.next();
        }
        found
    }

    pub(super) fn wrong(&self, wanted: &str) -> Error {
        let token = &self.tokens[self.at];
        let before = self.text[..token.start].trim_end();
        let place = if before.is_empty() { "at the start".to_string() } else { format!("after '{}'", tail(before)) };
        Error::schema(format!("'{}': {wanted} is expected {place}, not {}", self.text, token.token.describe()))
    }

    pub(super) fn expect(&mut self, symbol: &'static str) -> Result<()> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.wrong(&format!("'{symbol}'"))) }
    }

    fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.word(word) { Ok(()) } else { Err(self.wrong(word)) }
    }

    pub(super) fn end(&mut self) -> Result<()> {
        if self.peek() == &Token::End {
            return Ok(());
        }
        if self.is_word(0, "over") {
            return Err(Error::schema(format!("'{}': window functions (OVER) are not supported", self.text)));
        }
        Err(self.wrong("an operator, a comma or the end"))
    }

    pub(super) fn name(&mut self) -> Result<String> {
        match self.peek() {
            Token::Word(w) | Token::Quoted(w) => {
                let name = w.clone();
                self.next();
                Ok(name)
            }
            _ => Err(self.wrong("a name")),
        }
    }

    /// Goes one level deeper. Text that nests too deep is an error instead of an overflow of the stack.
    pub(super) fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            Err(Error::schema(format!("the text is nested more than {MAX_DEPTH} levels deep")))
        } else {
            Ok(())
        }
    }

    pub(super) fn back(&mut self) {
        self.depth -= 1;
    }

    pub(super) fn expression(&mut self) -> Result<Ast> {
        self.deeper()?;
        if let Some(params) = self.lambda_params() {
            self.operator()?;
            let body = Box::new(self.expression()?);
            self.back();
            return Ok(Ast::Lambda(params, body));
        }
        let mut left = self.conjunction()?;
        while self.word("or") {
            self.operator()?;
            left = Ast::Binary("OR", Box::new(left), Box::new(self.conjunction()?));
        }
        self.back();
        Ok(left)
    }

    /// Takes `x ->` or `(x, y) ->`, if it is there.
    fn lambda_params(&mut self) -> Option<Vec<String>> {
        let name = |token: &Token| match token {
            Token::Word(w) | Token::Quoted(w) => Some(w.clone()),
            _ => None,
        };
        if let Some(one) = name(self.peek()) {
            let found = self.ahead(1) == &Token::Symbol("->");
            self.at += if found { 2 } else { 0 };
            return found.then(|| vec![one]);
        }
        if self.peek() != &Token::Symbol("(") {
            return None;
        }
        let (mut params, mut at) = (vec![], 1);
        loop {
            params.push(name(self.ahead(at))?);
            at += 2;
            match self.ahead(at - 1) {
                Token::Symbol(",") => {}
                Token::Symbol(")") if self.ahead(at) == &Token::Symbol("->") => {
                    self.at += at + 1;
                    return Some(params);
                }
                _ => return None,
            }
        }
    }

    fn operator(&mut self) -> Result<()> {
        self.operators += 1;
        if self.operators > MAX_OPERATORS {
            return Err(Error::schema(format!("the expression has more than {MAX_OPERATORS} operators")));
        }
        Ok(())
    }

    fn conjunction(&mut self) -> Result<Ast> {
        let mut left = self.negation()?;
        while self.word("and") {
            self.operator()?;
            left = Ast::Binary("AND", Box::new(left), Box::new(self.negation()?));
        }
        Ok(left)
    }

    fn negation(&mut self) -> Result<Ast> {
        let mut count = 0;
        while self.symbol("!") || (!self.bare(1, true) && self.word("not")) {
            count += 1;
        }
        if count > MAX_DEPTH {
            return Err(Error::schema(format!("the expression has more than {MAX_DEPTH} NOTs in a row")));
        }
        let mut ast = self.predicate()?;
        for _ in 0..count {
            ast = Ast::Unary("NOT", Box::new(ast));
        }
        Ok(ast)
    }

    fn predicate(&mut self) -> Result<Ast> {
        let mut left = self.comparison()?;
        loop {
            let operand = |left: &Ast| Box::new(left.clone());
            if self.word("is") {
                self.operator()?;
                let negated = self.word("not");
                left = if self.word("null") || self.word("unknown") {
                    Ast::IsNull(operand(&left), negated)
                } else if self.word("true") {
                    Ast::IsBool { operand: operand(&left), value: true, negated }
                } else if self.word("false") {
                    Ast::IsBool { operand: operand(&left), value: false, negated }
                } else if self.word("distinct") {
                    self.expect_word("from")?;
                    let same = Ast::Binary("<=>", operand(&left), Box::new(self.comparison()?));
                    if negated { same } else { Ast::Unary("NOT", Box::new(same)) }
                } else {
                    return Err(self.wrong("NULL, TRUE, FALSE or DISTINCT FROM"));
                };
                continue;
            }
            let not = usize::from(self.is_word(0, "not"));
            let negated = not == 1;
            let keyword = match self.ahead(not) {
                Token::Word(keyword) => keyword.to_ascii_lowercase(),
                _ => return Ok(left),
            };
            if !matches!(keyword.as_str(), "between" | "in" | "like" | "ilike" | "rlike" | "regexp") {
                return Ok(left);
            }
            self.at += not + 1;
            self.operator()?;
            left = match keyword.as_str() {
                "between" => {
                    let low = Box::new(self.comparison()?);
                    self.expect_word("and")?;
                    Ast::Between { operand: operand(&left), low, high: Box::new(self.comparison()?), negated }
                }
                "in" => {
                    self.expect("(")?;
                    if self.is_word(0, "select") {
                        return Err(Error::schema(format!("'{}': subqueries are not supported", self.text)));
                    }
                    let list = self.arguments()?;
                    if list.is_empty() {
                        return Err(self.wrong("a list of values for IN"));
                    }
                    Ast::In { operand: operand(&left), list, negated }
                }
                kind => self.like(kind, left, negated)?,
            };
        }
    }

    fn like(&mut self, kind: &str, left: Ast, negated: bool) -> Result<Ast> {
        let kind = match kind {
            "like" => "LIKE",
            "ilike" => "ILIKE",
            _ => "RLIKE",
        };
        let several = ["any", "all", "some"].iter().any(|w| self.is_word(0, w));
        if several && self.ahead(1) == &Token::Symbol("(") {
            let all = self.is_word(0, "all");
            if kind == "RLIKE" {
                return Err(Error::schema(format!("'{}': RLIKE has no ANY and ALL. Use OR and AND.", self.text)));
            }
            self.next();
            self.expect("(")?;
            let patterns = self.arguments()?;
            if patterns.is_empty() {
                return Err(self.wrong("a list of patterns"));
            }
            return Ok(Ast::LikeSome { kind, operand: Box::new(left), patterns, all, negated });
        }
        let pattern = Box::new(self.comparison()?);
        let escape = if kind != "RLIKE" && self.word("escape") {
            let Token::Text(text) = self.next() else { return Err(self.wrong("the ESCAPE character as a string")) };
            let mut chars = text.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) => Some(c),
                _ => return Err(Error::schema(format!("'{}': ESCAPE takes one character", self.text))),
            }
        } else {
            None
        };
        Ok(Ast::Like { kind, operand: Box::new(left), pattern, escape, negated })
    }

    fn comparison(&mut self) -> Result<Ast> {
        let mut left = self.binary(0)?;
        loop {
            let op = match self.peek() {
                Token::Symbol(s @ ("=" | "<" | "<=" | ">" | ">=" | "<=>")) => *s,
                Token::Symbol("==") => "=",
                Token::Symbol("<>" | "!=") => "<>",
                _ => return Ok(left),
            };
            self.next();
            self.operator()?;
            left = Ast::Binary(op, Box::new(left), Box::new(self.binary(0)?));
        }
    }

    /// The levels from the weakest: `|`, `^`, `&`, shifts, `+ - ||`, `* / % DIV`.
    fn binary(&mut self, level: usize) -> Result<Ast> {
        const LEVELS: [&[&str]; 6] =
            [&["|"], &["^"], &["&"], &["<<", ">>", ">>>"], &["+", "-", "||"], &["*", "/", "%"]];
        if level == LEVELS.len() {
            return self.unary();
        }
        let mut left = self.binary(level + 1)?;
        loop {
            let op = match self.peek() {
                Token::Symbol(s) => match LEVELS[level].iter().find(|l| *l == s) {
                    Some(op) => *op,
                    None => return Ok(left),
                },
                Token::Word(w) if level == 5 && w.eq_ignore_ascii_case("div") => "div",
                _ => return Ok(left),
            };
            self.next();
            self.operator()?;
            left = Ast::Binary(op, Box::new(left), Box::new(self.binary(level + 1)?));
        }
    }

    fn unary(&mut self) -> Result<Ast> {
        let op = match self.peek() {
            Token::Symbol(s @ ("-" | "+" | "~")) => *s,
            _ => return self.postfix(),
        };
        self.next();
        self.deeper()?;
        // `-1` is a literal, `-(1)` an operation.
        let literal = matches!(self.peek(), Token::Number(_));
        let ast = match (op, self.unary()?) {
            ("-", Ast::Number(n)) if literal => Ast::Number(format!("-{n}")),
            (op, operand) => Ast::Unary(op, Box::new(operand)),
        };
        self.back();
        Ok(ast)
    }

    fn postfix(&mut self) -> Result<Ast> {
        let mut ast = self.primary()?;
        loop {
            if matches!(self.peek(), Token::Symbol("[" | "::" | "." | ":")) {
                self.operator()?;
            }
            if self.symbol("[") {
                let index = self.expression()?;
                self.expect("]")?;
                ast = Ast::Subscript(Box::new(ast), Box::new(index));
            } else if self.symbol("::") {
                ast = Ast::Cast { operand: Box::new(ast), to: ddl::data_type(self)?, r#try: false };
            } else if self.symbol(":") {
                ast = Ast::Path(Box::new(ast), self.path()?);
            } else if self.peek() == &Token::Symbol(".") && self.ahead(1) == &Token::Symbol("*") {
                self.at += 2;
                return Ok(Ast::Fields(Box::new(ast)));
            } else if self.symbol(".") {
                let name = self.name()?;
                ast = match ast {
                    Ast::Column(mut path) => {
                        path.push(name);
                        Ast::Column(path)
                    }
                    other => Ast::Field(Box::new(other), name),
                };
            } else {
                return Ok(ast);
            }
        }
    }

    fn primary(&mut self) -> Result<Ast> {
        match self.peek().clone() {
            Token::Number(n) => {
                self.next();
                Ok(Ast::Number(n))
            }
            Token::Text(_) => {
                let mut all = String::new();
                while let Token::Text(text) = self.peek() {
                    all.push_str(text);
                    self.next();
                }
                Ok(Ast::Text(all))
            }
            Token::Symbol("(") => {
                self.next();
                if self.is_word(0, "select") {
                    return Err(Error::schema(format!("'{}': subqueries are not supported", self.text)));
                }
                let ast = self.expression()?;
                if self.peek() == &Token::Symbol(",") {
                    let mut items = vec![(ast, None)];
                    while self.symbol(",") {
                        items.push((self.expression()?, None));
                    }
                    self.expect(")")?;
                    return Ok(Ast::Struct { items, tuple: true });
                }
                self.expect(")")?;
                Ok(ast)
            }
            Token::Symbol("*") => {
                self.next();
                Ok(Ast::Star)
            }
            Token::Quoted(name) => {
                self.next();
                if self.peek() == &Token::Symbol("(") {
                    return self.call(&name);
                }
                Ok(Ast::Column(vec![name]))
            }
            Token::Word(word) => self.keyword(&word),
            _ => Err(self.wrong("an expression")),
        }
    }

    fn keyword(&mut self, word: &str) -> Result<Ast> {
        let lower = word.to_ascii_lowercase();
        let called = self.ahead(1) == &Token::Symbol("(");
        let text = matches!(self.ahead(1), Token::Text(_));
        match lower.as_str() {
            "null" if !called => {
                self.next();
                Ok(Ast::Null)
            }
            "true" | "false" if !called => {
                self.next();
                Ok(Ast::Bool(lower == "true"))
            }
            "case" if !self.bare(1, true) => {
                let (at, depth) = (self.at, self.depth);
                let parsed = self.case();
                if parsed.is_err() && self.bare_at(at + 1) {
                    // As in Spark, if the text is not a CASE expression, `case` may be the name of a column.
                    (self.at, self.depth) = (at + 1, depth);
                    self.operator()?;
                    return Ok(Ast::Column(vec![word.to_string()]));
                }
                parsed
            }
            "cast" | "try_cast" if called => self.cast(lower == "try_cast"),
            "date" | "timestamp" | "timestamp_ntz" | "timestamp_ltz" | "x" if text => {
                self.next();
                match self.next() {
                    Token::Text(value) => Ok(Ast::Typed(lower, value)),
                    _ => Err(self.wrong("a string")),
                }
            }
            "interval" if text || matches!(self.ahead(1), Token::Number(_) | Token::Symbol("-")) => {
                self.next();
                super::literal::interval(self)
            }
            "then" | "when" | "else" | "end" | "and" | "or" | "from" | "as" | "between" | "in" | "like"
                if !self.bare(1, false) && (!called || lower != "like") =>
            {
                Err(self.wrong("an expression"))
            }
            _ if called => {
                self.next();
                self.call(word)
            }
            _ => {
                self.next();
                Ok(Ast::Column(vec![word.to_string()]))
            }
        }
    }

    /// Whether the word before token `n` is a column: as in Spark, a column may be named `end` or `case`. `opens` means that an expression
    /// may follow the keyword.
    fn bare(&self, n: usize, opens: bool) -> bool {
        match self.ahead(n) {
            Token::End => true,
            Token::Symbol("(") => false,
            Token::Symbol(s) => !opens || !matches!(*s, "-" | "+" | "~" | "!" | "*"),
            Token::Word(w) => {
                let follows = [
                    "when", "then", "else", "end", "is", "as", "and", "or", "between", "in", "like", "ilike", "rlike",
                    "regexp", "div", "asc", "desc",
                ];
                // In `CASE WHEN` the word is the keyword.
                follows.iter().skip(usize::from(opens)).any(|f| w.eq_ignore_ascii_case(f))
            }
            _ => false,
        }
    }

    /// Whether the word before the token at a place may be a column after all.
    fn bare_at(&self, place: usize) -> bool {
        matches!(self.tokens.get(place).map(|t| &t.token), Some(Token::Symbol(s)) if *s != "(")
    }

    fn case(&mut self) -> Result<Ast> {
        self.next();
        let (at, depth) = (self.at, self.depth);
        let mut operand = if self.is_word(0, "when") { None } else { Some(Box::new(self.expression()?)) };
        if operand.is_some()
            && !self.is_word(0, "when")
            && matches!(&self.tokens[at].token, Token::Word(w) if w.eq_ignore_ascii_case("case"))
        {
            // CASE case WHEN …: the inner one is a column.
            (self.at, self.depth) = (at + 1, depth);
            self.operator()?;
            operand = Some(Box::new(Ast::Column(vec!["case".into()])));
        }
        let mut branches = vec![];
        while self.word("when") {
            let when = self.expression()?;
            self.expect_word("then")?;
            branches.push((when, self.expression()?));
        }
        if branches.is_empty() {
            return Err(self.wrong("WHEN"));
        }
        let otherwise = if self.word("else") { Some(Box::new(self.expression()?)) } else { None };
        self.expect_word("end")?;
        Ok(Ast::Case { operand, branches, otherwise })
    }

    fn cast(&mut self, r#try: bool) -> Result<Ast> {
        self.next();
        self.expect("(")?;
        let operand = Box::new(self.expression()?);
        self.expect_word("as")?;
        let to = ddl::data_type(self)?;
        self.expect(")")?;
        Ok(Ast::Cast { operand, to, r#try })
    }
}

fn tail(text: &str) -> &str {
    let skip = text.chars().count().saturating_sub(24);
    text.char_indices().nth(skip).map_or(text, |(i, _)| &text[i..])
}
