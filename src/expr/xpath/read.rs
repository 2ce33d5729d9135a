//! The grammar of XPath 1.0.

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Path {
    Binary(&'static str, Box<Path>, Box<Path>),
    Negative(Box<Path>),
    Text(String),
    Number(f64),
    Call(String, Vec<Path>),
    /// From the root, from the context, or from the nodes of an expression with its predicates.
    Steps {
        from: From,
        steps: Vec<Step>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum From {
    Root,
    Context,
    Of(Box<Path>, Vec<Path>),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    pub axis: Axis,
    pub test: Test,
    pub predicates: Vec<Path>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Axis {
    Child,
    Descendant,
    DescendantOrSelf,
    Parent,
    Ancestor,
    AncestorOrSelf,
    FollowingSibling,
    PrecedingSibling,
    Following,
    Preceding,
    Attribute,
    Itself,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    /// Any element, or attribute.
    Star,
    Name(String),
    Text,
    Node,
    /// A comment or a processing instruction, of which there are none here.
    Nothing,
}

const AXES: &[(&str, Axis)] = &[
    ("child", Axis::Child),
    ("descendant", Axis::Descendant),
    ("descendant-or-self", Axis::DescendantOrSelf),
    ("parent", Axis::Parent),
    ("ancestor", Axis::Ancestor),
    ("ancestor-or-self", Axis::AncestorOrSelf),
    ("following-sibling", Axis::FollowingSibling),
    ("preceding-sibling", Axis::PrecedingSibling),
    ("following", Axis::Following),
    ("preceding", Axis::Preceding),
    ("attribute", Axis::Attribute),
    ("self", Axis::Itself),
];
/// Names and the number of arguments: at least, at most.
const FUNCTIONS: &[(&str, usize, usize)] = &[
    ("last", 0, 0),
    ("position", 0, 0),
    ("count", 1, 1),
    ("local-name", 0, 1),
    ("name", 0, 1),
    ("string", 0, 1),
    ("concat", 2, 1000),
    ("starts-with", 2, 2),
    ("contains", 2, 2),
    ("substring-before", 2, 2),
    ("substring-after", 2, 2),
    ("substring", 2, 3),
    ("string-length", 0, 1),
    ("normalize-space", 0, 1),
    ("translate", 3, 3),
    ("boolean", 1, 1),
    ("not", 1, 1),
    ("true", 0, 0),
    ("false", 0, 0),
    ("number", 0, 1),
    ("sum", 1, 1),
    ("floor", 1, 1),
    ("ceiling", 1, 1),
    ("round", 1, 1),
];
const LEVELS: &[&[&str]] =
    &[&["or"], &["and"], &["=", "!="], &["<=", ">=", "<", ">"], &["+", "-"], &["*", "div", "mod"]];
const MAX_DEPTH: usize = 64;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Symbol(&'static str),
    /// An operator, among them `*`, `and`, `or`, `div`, `mod` if an operand is in front.
    Operator(&'static str),
    Name(String),
    Text(String),
    Number(f64),
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    const SYMBOLS: &[&str] = &["::", "//", "..", "(", ")", "[", "]", "@", ",", "/", "."];
    const OPERATORS: &[&str] = &["!=", "<=", ">=", "=", "<", ">", "+", "-", "|"];
    let mut out: Vec<Token> = vec![];
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let operand = match out.last() {
            None | Some(Token::Operator(_)) => false,
            Some(Token::Symbol(s)) => matches!(*s, ")" | "]" | ".." | "."),
            _ => true,
        };
        let first = rest.chars().next()?;
        let number = first.is_ascii_digit() || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit()));
        if number {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            out.push(Token::Number(rest[..end].parse().ok()?));
            rest = &rest[end..];
        } else if first == '"' || first == '\'' {
            let (inner, after) = rest[1..].split_once(first)?;
            out.push(Token::Text(inner.to_string()));
            rest = after;
        } else if let Some(symbol) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
            out.push(Token::Symbol(symbol));
            rest = &rest[symbol.len()..];
        } else if let Some(operator) = OPERATORS.iter().find(|s| rest.starts_with(**s)) {
            out.push(Token::Operator(operator));
            rest = &rest[operator.len()..];
        } else if first == '*' {
            out.push(if operand { Token::Operator("*") } else { Token::Symbol("*") });
            rest = &rest[1..];
        } else {
            let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
            let mut end = rest.find(|c| !part(c)).unwrap_or(rest.len());
            // A prefix, but not an axis.
            if rest[end..].starts_with(':') && !rest[end..].starts_with("::") {
                end += 1;
                let more = &rest[end..];
                end += if more.starts_with('*') { 1 } else { more.find(|c| !part(c)).unwrap_or(more.len()) };
            }
            let name = &rest[..end];
            if !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
                return None;
            }
            rest = &rest[end..];
            match ["and", "or", "div", "mod"].iter().find(|w| operand && **w == name) {
                Some(operator) => out.push(Token::Operator(operator)),
                None => out.push(Token::Name(name.to_string())),
            }
        }
        rest = rest.trim_start();
    }
    Some(out)
}

/// The expression. `None`: the text is not an expression, or uses unsupported parts (variables, namespaces).
pub(crate) fn read(text: &str) -> Option<Path> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let path = parser.expression(0)?;
    (parser.at == parser.tokens.len()).then_some(path)
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self, n: usize) -> Option<&Token> {
        self.tokens.get(self.at + n)
    }

    fn is(&self, n: usize, symbol: &str) -> bool {
        matches!(self.peek(n), Some(Token::Symbol(s)) if *s == symbol)
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        let found = self.is(0, symbol);
        self.at += usize::from(found);
        found
    }

    fn operator(&mut self, among: &[&'static str]) -> Option<&'static str> {
        match self.peek(0) {
            Some(Token::Operator(o)) if among.contains(o) => {
                let found = *o;
                self.at += 1;
                Some(found)
            }
            _ => None,
        }
    }

    fn expression(&mut self, level: usize) -> Option<Path> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        self.depth += 1;
        (self.depth <= MAX_DEPTH * LEVELS.len()).then_some(())?;
        let mut left = self.expression(level + 1)?;
        while let Some(operator) = self.operator(operators) {
            left = Path::Binary(operator, Box::new(left), Box::new(self.expression(level + 1)?));
        }
        self.depth -= 1;
        Some(left)
    }

    fn unary(&mut self) -> Option<Path> {
        let mut negative = false;
        while self.operator(&["-"]).is_some() {
            negative = !negative;
        }
        let mut left = self.path()?;
        while self.operator(&["|"]).is_some() {
            left = Path::Binary("|", Box::new(left), Box::new(self.path()?));
        }
        Some(if negative { Path::Negative(Box::new(left)) } else { left })
    }

    fn predicates(&mut self) -> Option<Vec<Path>> {
        let mut out = vec![];
        while self.symbol("[") {
            out.push(self.expression(0)?);
            self.symbol("]").then_some(())?;
        }
        Some(out)
    }

    fn path(&mut self) -> Option<Path> {
        let mut steps = vec![];
        let from = if self.symbol("//") {
            steps.push(any());
            steps.push(self.step()?);
            From::Root
        } else if self.symbol("/") {
            if !self.begins_step() {
                return Some(Path::Steps { from: From::Root, steps });
            }
            steps.push(self.step()?);
            From::Root
        } else if let Some(primary) = self.primary()? {
            let predicates = self.predicates()?;
            if predicates.is_empty() && !self.is(0, "/") && !self.is(0, "//") {
                return Some(primary);
            }
            From::Of(Box::new(primary), predicates)
        } else {
            steps.push(self.step()?);
            From::Context
        };
        loop {
            if self.symbol("//") {
                steps.push(any());
            } else if !self.symbol("/") {
                return Some(Path::Steps { from, steps });
            }
            steps.push(self.step()?);
        }
    }

    fn begins_step(&self) -> bool {
        matches!(self.peek(0), Some(Token::Name(_) | Token::Symbol("." | ".." | "@" | "*")))
    }

    /// A literal, a call or parentheses, if the next token begins one.
    fn primary(&mut self) -> Option<Option<Path>> {
        Some(Some(match self.peek(0)?.clone() {
            Token::Text(text) => {
                self.at += 1;
                Path::Text(text)
            }
            Token::Number(n) => {
                self.at += 1;
                Path::Number(n)
            }
            Token::Symbol("(") => {
                self.at += 1;
                let inner = self.expression(0)?;
                self.symbol(")").then_some(())?;
                inner
            }
            Token::Name(name) if self.is(1, "(") && !is_kind(&name) => {
                self.at += 2;
                let mut args = vec![];
                if !self.symbol(")") {
                    loop {
                        args.push(self.expression(0)?);
                        if self.symbol(")") {
                            break;
                        }
                        self.symbol(",").then_some(())?;
                    }
                }
                let good =
                    |(n, least, most): &(&str, usize, usize)| *n == name && (*least..=*most).contains(&args.len());
                FUNCTIONS.iter().any(good).then_some(())?;
                Path::Call(name, args)
            }
            _ => return Some(None),
        }))
    }

    fn step(&mut self) -> Option<Step> {
        let plain = |axis| Step { axis, test: Test::Node, predicates: vec![] };
        if self.symbol("..") {
            return Some(plain(Axis::Parent));
        }
        if self.symbol(".") {
            return Some(plain(Axis::Itself));
        }
        let axis = match self.peek(0)? {
            Token::Symbol("@") => {
                self.at += 1;
                Axis::Attribute
            }
            Token::Name(name) if self.is(1, "::") => {
                let axis = AXES.iter().find(|(n, _)| n == name)?.1;
                self.at += 2;
                axis
            }
            _ => Axis::Child,
        };
        let test = match self.peek(0)?.clone() {
            Token::Symbol("*") => {
                self.at += 1;
                Test::Star
            }
            Token::Name(name) if self.is(1, "(") && is_kind(&name) => {
                self.at += 2;
                if name == "processing-instruction" && matches!(self.peek(0), Some(Token::Text(_))) {
                    self.at += 1;
                }
                self.symbol(")").then_some(())?;
                match name.as_str() {
                    "text" => Test::Text,
                    "node" => Test::Node,
                    _ => Test::Nothing,
                }
            }
            // A prefix would need a namespace.
            Token::Name(name) if !name.contains(':') => {
                self.at += 1;
                Test::Name(name)
            }
            _ => return None,
        };
        Some(Step { axis, test, predicates: self.predicates()? })
    }
}

fn is_kind(name: &str) -> bool {
    matches!(name, "text" | "node" | "comment" | "processing-instruction")
}

fn any() -> Step {
    Step { axis: Axis::DescendantOrSelf, test: Test::Node, predicates: vec![] }
}
