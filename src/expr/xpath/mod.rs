//! XPath 1.0 over XML text, without namespaces and variables.

mod read;
mod xml;

pub(super) use read::{Path, read};

use read::{Axis, From, Step, Test};
use xml::{Kind, Node, below, text_of};

/// The result of an expression.
pub(super) enum Found {
    Nodes(Vec<usize>),
    Text(String),
    Number(f64),
    Bool(bool),
}

/// A document of one row.
pub(super) struct Document(Vec<Node>);

impl Document {
    pub(super) fn read(text: &str) -> Option<Self> {
        xml::read(text).map(Self)
    }

    pub(super) fn find(&self, path: &Path) -> Found {
        Place { nodes: &self.0, at: 0, position: 1, size: 1 }.value(path)
    }

    pub(super) fn text(&self, found: Found) -> String {
        text(&self.0, found)
    }

    pub(super) fn number(&self, found: Found) -> f64 {
        number(&self.0, found)
    }

    pub(super) fn truth(found: &Found) -> bool {
        match found {
            Found::Nodes(nodes) => !nodes.is_empty(),
            Found::Text(text) => !text.is_empty(),
            Found::Number(n) => *n != 0.0 && !n.is_nan(),
            Found::Bool(b) => *b,
        }
    }

    /// As in Spark, an element has no value of its own.
    pub(super) fn value(&self, node: usize) -> Option<&str> {
        match &self.0[node].kind {
            Kind::Text(text) | Kind::Attribute(_, text) => Some(text),
            _ => None,
        }
    }
}

fn text(nodes: &[Node], found: Found) -> String {
    match found {
        Found::Nodes(all) => all.first().map(|n| text_of(nodes, *n)).unwrap_or_default(),
        Found::Text(text) => text,
        Found::Number(n) if n.is_nan() => "NaN".into(),
        Found::Number(n) if n.is_infinite() => if n > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        Found::Number(n) => (n + 0.0).to_string(),
        Found::Bool(b) => b.to_string(),
    }
}

fn number_of(text: &str) -> f64 {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') && digits.bytes().any(|b| b.is_ascii_digit());
    if plain { text.parse().unwrap_or(f64::NAN) } else { f64::NAN }
}

fn number(nodes: &[Node], found: Found) -> f64 {
    match found {
        Found::Number(n) => n,
        Found::Bool(b) => f64::from(u8::from(b)),
        other => number_of(&text(nodes, other)),
    }
}

#[derive(Clone, Copy)]
struct Place<'a> {
    nodes: &'a [Node],
    at: usize,
    position: usize,
    size: usize,
}

impl Place<'_> {
    fn value(self, path: &Path) -> Found {
        match path {
            Path::Text(text) => Found::Text(text.clone()),
            Path::Number(n) => Found::Number(*n),
            Path::Negative(inner) => Found::Number(-self.number(inner)),
            Path::Binary(operator, left, right) => self.binary(operator, left, right),
            Path::Call(name, args) => self.call(name, args),
            Path::Steps { from, steps } => {
                let mut now = match from {
                    From::Root => vec![0],
                    From::Context => vec![self.at],
                    From::Of(inner, predicates) => {
                        let all = self.node_set(inner);
                        predicates.iter().fold(all, |all, p| self.kept(all, p))
                    }
                };
                for step in steps {
                    let mut next: Vec<usize> = now.iter().flat_map(|n| self.step(*n, step)).collect();
                    next.sort_unstable();
                    next.dedup();
                    now = next;
                }
                Found::Nodes(now)
            }
        }
    }

    fn node_set(self, path: &Path) -> Vec<usize> {
        match self.value(path) {
            Found::Nodes(all) => all,
            _ => vec![],
        }
    }

    fn number(self, path: &Path) -> f64 {
        number(self.nodes, self.value(path))
    }

    fn text(self, path: &Path) -> String {
        text(self.nodes, self.value(path))
    }

    /// The nodes for which the predicate is true; a number is a position.
    fn kept(self, all: Vec<usize>, predicate: &Path) -> Vec<usize> {
        let size = all.len();
        let keep = |(i, at): (usize, usize)| {
            let place = Place { nodes: self.nodes, at, position: i + 1, size };
            let found = match place.value(predicate) {
                Found::Number(n) => n == (i + 1) as f64,
                other => Document::truth(&other),
            };
            found.then_some(at)
        };
        all.into_iter().enumerate().filter_map(keep).collect()
    }

    fn step(self, at: usize, step: &Step) -> Vec<usize> {
        let nodes = self.nodes;
        let attribute = |n: &usize| matches!(nodes[*n].kind, Kind::Attribute(..));
        let children = |of: usize| below(nodes, of).filter(move |n| nodes[*n].parent == of);
        let ancestors = |of: usize| {
            std::iter::successors(Some(of), |n| (*n != 0).then(|| nodes[*n].parent)).skip(1).collect::<Vec<_>>()
        };
        // The nodes are in the order of the axis. On an axis that goes backwards, the nearest node is the first.
        let all: Vec<usize> = match step.axis {
            Axis::Child => children(at).filter(|n| !attribute(n)).collect(),
            Axis::Attribute => children(at).filter(attribute).collect(),
            Axis::Descendant => below(nodes, at).filter(|n| !attribute(n)).collect(),
            Axis::DescendantOrSelf => std::iter::once(at).chain(below(nodes, at).filter(|n| !attribute(n))).collect(),
            Axis::Itself => vec![at],
            Axis::Parent => ancestors(at).into_iter().take(1).collect(),
            Axis::Ancestor => ancestors(at),
            Axis::AncestorOrSelf => std::iter::once(at).chain(ancestors(at)).collect(),
            Axis::FollowingSibling | Axis::PrecedingSibling if at == 0 || attribute(&at) => vec![],
            Axis::FollowingSibling => children(nodes[at].parent).filter(|n| *n > at && !attribute(n)).collect(),
            Axis::PrecedingSibling => {
                let mut all: Vec<usize> = children(nodes[at].parent).filter(|n| *n < at && !attribute(n)).collect();
                all.reverse();
                all
            }
            Axis::Following => (nodes[at].end..nodes.len()).filter(|n| !attribute(n)).collect(),
            Axis::Preceding => {
                let around = ancestors(at);
                (0..at).rev().filter(|n| !attribute(n) && !around.contains(n)).collect()
            }
        };
        let is = |n: &usize| match (&step.test, &nodes[*n].kind) {
            (Test::Node, _) | (Test::Text, Kind::Text(_)) => true,
            (Test::Star, Kind::Attribute(..)) => step.axis == Axis::Attribute,
            (Test::Star, Kind::Element(_)) => step.axis != Axis::Attribute,
            (Test::Name(name), Kind::Attribute(own, _)) => step.axis == Axis::Attribute && name == own,
            (Test::Name(name), Kind::Element(own)) => step.axis != Axis::Attribute && name == own,
            _ => false,
        };
        let all = all.into_iter().filter(is).collect();
        step.predicates.iter().fold(all, |all, p| self.kept(all, p))
    }

    fn binary(self, operator: &str, left: &Path, right: &Path) -> Found {
        let arithmetic = |f: fn(f64, f64) -> f64| Found::Number(f(self.number(left), self.number(right)));
        match operator {
            "or" => Found::Bool(Document::truth(&self.value(left)) || Document::truth(&self.value(right))),
            "and" => Found::Bool(Document::truth(&self.value(left)) && Document::truth(&self.value(right))),
            "+" => arithmetic(|a, b| a + b),
            "-" => arithmetic(|a, b| a - b),
            "*" => arithmetic(|a, b| a * b),
            "div" => arithmetic(|a, b| a / b),
            "mod" => arithmetic(|a, b| a % b),
            "|" => {
                let mut all = self.node_set(left);
                all.extend(self.node_set(right));
                all.sort_unstable();
                all.dedup();
                Found::Nodes(all)
            }
            _ => Found::Bool(self.compared(operator, self.value(left), self.value(right))),
        }
    }

    /// A set of nodes is compared as each of its nodes: one of them is enough.
    fn compared(self, operator: &str, left: Found, right: Found) -> bool {
        use Found::{Bool, Nodes, Number, Text};
        let texts = |all: &[usize]| all.iter().map(|n| text_of(self.nodes, *n)).collect::<Vec<_>>();
        let numbers = |a: f64, b: f64| match operator {
            "=" => a == b,
            "!=" => a != b,
            "<" => a < b,
            "<=" => a <= b,
            ">" => a > b,
            _ => a >= b,
        };
        let equality = matches!(operator, "=" | "!=");
        let plain = |a: &str, b: &str| match operator {
            "=" => a == b,
            "!=" => a != b,
            _ => numbers(number_of(a), number_of(b)),
        };
        match (left, right) {
            (Nodes(a), Nodes(b)) => {
                let (a, b) = (texts(&a), texts(&b));
                a.iter().any(|a| b.iter().any(|b| plain(a, b)))
            }
            (a @ (Nodes(_) | Bool(_)), b @ Bool(_)) | (a @ Bool(_), b @ (Nodes(_) | Number(_) | Text(_)))
                if equality =>
            {
                (Document::truth(&a) == Document::truth(&b)) == (operator == "=")
            }
            (Nodes(a), Number(n)) => texts(&a).iter().any(|a| numbers(number_of(a), n)),
            (Number(n), Nodes(b)) => texts(&b).iter().any(|b| numbers(n, number_of(b))),
            (Nodes(a), Text(t)) => texts(&a).iter().any(|a| plain(a, &t)),
            (Text(t), Nodes(b)) => texts(&b).iter().any(|b| plain(&t, b)),
            (Text(a), Text(b)) => plain(&a, &b),
            (a, b @ Bool(_)) if equality => (Document::truth(&a) == Document::truth(&b)) == (operator == "="),
            (a, b) => numbers(number(self.nodes, a), number(self.nodes, b)),
        }
    }

    fn call(self, name: &str, args: &[Path]) -> Found {
        let first = || args.first().map_or_else(|| text_of(self.nodes, self.at), |a| self.text(a));
        let second = || args.get(1).map(|a| self.text(a)).unwrap_or_default();
        let named = || {
            let node = match args.first() {
                None => Some(self.at),
                Some(a) => self.node_set(a).first().copied(),
            };
            match node.map(|n| &self.nodes[n].kind) {
                Some(Kind::Element(name) | Kind::Attribute(name, _)) => name.clone(),
                _ => String::new(),
            }
        };
        let numeric = || match args.first() {
            Some(a) => self.number(a),
            None => number_of(&text_of(self.nodes, self.at)),
        };
        match name {
            "last" => Found::Number(self.size as f64),
            "position" => Found::Number(self.position as f64),
            "count" => Found::Number(self.node_set(&args[0]).len() as f64),
            "name" => Found::Text(named()),
            "local-name" => Found::Text(named().rsplit(':').next().unwrap_or_default().to_string()),
            "string" => Found::Text(first()),
            "concat" => Found::Text(args.iter().map(|a| self.text(a)).collect()),
            "starts-with" => Found::Bool(first().starts_with(&second())),
            "contains" => Found::Bool(first().contains(&second())),
            "substring-before" => {
                Found::Text(first().split_once(&second()).map(|(before, _)| before.to_string()).unwrap_or_default())
            }
            "substring-after" => {
                Found::Text(first().split_once(&second()).map(|(_, after)| after.to_string()).unwrap_or_default())
            }
            "substring" => {
                // Positions are rounded numbers, which may be outside of the text.
                let from = round(self.number(&args[1]));
                let to = args.get(2).map_or(f64::INFINITY, |n| from + round(self.number(n)));
                let within = |i: usize| (i + 1) as f64 >= from && ((i + 1) as f64) < to;
                Found::Text(first().chars().enumerate().filter(|(i, _)| within(*i)).map(|(_, c)| c).collect())
            }
            "string-length" => Found::Number(first().chars().count() as f64),
            "normalize-space" => {
                let text = first();
                let words = text.split([' ', '\t', '\r', '\n']).filter(|w| !w.is_empty());
                Found::Text(words.collect::<Vec<_>>().join(" "))
            }
            "translate" => {
                let (from, to): (Vec<char>, Vec<char>) =
                    (second().chars().collect(), self.text(&args[2]).chars().collect());
                let one = |c: char| match from.iter().position(|f| *f == c) {
                    Some(k) => to.get(k).copied(),
                    None => Some(c),
                };
                Found::Text(first().chars().filter_map(one).collect())
            }
            "boolean" => Found::Bool(Document::truth(&self.value(&args[0]))),
            "not" => Found::Bool(!Document::truth(&self.value(&args[0]))),
            "true" => Found::Bool(true),
            "false" => Found::Bool(false),
            "number" => Found::Number(numeric()),
            "sum" => {
                let all = self.node_set(&args[0]);
                Found::Number(all.into_iter().fold(0.0, |sum, n| sum + number_of(&text_of(self.nodes, n))))
            }
            "floor" => Found::Number(numeric().floor()),
            "ceiling" => Found::Number(numeric().ceil()),
            _ => Found::Number(round(numeric())),
        }
    }
}

/// A half goes up.
fn round(x: f64) -> f64 {
    (x + 0.5).floor()
}
