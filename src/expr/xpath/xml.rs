//! XML text as nodes in the order of the document.

use std::ops::Range;

#[derive(Debug)]
pub(super) enum Kind {
    Root,
    Element(String),
    Attribute(String, String),
    Text(String),
}

#[derive(Debug)]
pub(super) struct Node {
    pub kind: Kind,
    pub parent: usize,
    /// Its attributes and all that is below it: the nodes from the next one up to this one.
    pub end: usize,
}

/// The nodes; the first one is the root of the document. `None`: the text is not well-formed, or has a DTD.
pub(super) fn read(text: &str) -> Option<Vec<Node>> {
    let mut reader = Reader { rest: text, nodes: vec![Node { kind: Kind::Root, parent: 0, end: 0 }], open: vec![0] };
    reader.document()?;
    let count = reader.nodes.len();
    reader.nodes[0].end = count;
    Some(reader.nodes)
}

struct Reader<'a> {
    rest: &'a str,
    nodes: Vec<Node>,
    /// The elements around the place, the root first.
    open: Vec<usize>,
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, ':' | '_' | '-' | '.')
}

impl<'a> Reader<'a> {
    fn until(&mut self, end: &str) -> Option<&'a str> {
        let (inner, rest) = self.rest.split_once(end)?;
        self.rest = rest;
        Some(inner)
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.rest.strip_prefix(word);
        if let Some(rest) = found {
            self.rest = rest;
        }
        found.is_some()
    }

    fn blank(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
    }

    fn name(&mut self) -> Option<&'a str> {
        let end = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name.starts_with(|c: char| c.is_alphabetic() || matches!(c, '_' | ':')).then_some(name)
    }

    fn add(&mut self, kind: Kind) -> usize {
        let parent = self.open.last().copied().unwrap_or(0);
        let at = self.nodes.len();
        self.nodes.push(Node { kind, parent, end: at + 1 });
        at
    }

    /// Adds text. As in XPath, CDATA and the text next to it are one node.
    fn text(&mut self, text: String, joins: bool) -> Option<()> {
        if self.open.len() == 1 {
            return text.trim_matches([' ', '\t', '\r', '\n']).is_empty().then_some(());
        }
        if text.is_empty() {
            return Some(());
        }
        if joins && let Some(Node { kind: Kind::Text(before), .. }) = self.nodes.last_mut() {
            before.push_str(&text);
            return Some(());
        }
        self.add(Kind::Text(text));
        Some(())
    }

    fn document(&mut self) -> Option<()> {
        let mut roots = 0;
        // Whether the last thing was text of the same element.
        let mut joins = false;
        while !self.rest.is_empty() {
            if self.take("<!--") {
                self.until("-->")?;
                joins = false;
            } else if self.take("<![CDATA[") {
                let inner = self.until("]]>")?.to_string();
                (self.open.len() > 1).then_some(())?;
                self.text(inner, joins)?;
                joins = true;
            } else if self.take("<?") {
                self.until("?>")?;
                joins = false;
            } else if self.take("</") {
                let name = self.name()?;
                self.blank();
                self.take(">").then_some(())?;
                let at = self.open.pop().filter(|at| *at != 0)?;
                matches!(&self.nodes[at].kind, Kind::Element(open) if open == name).then_some(())?;
                self.nodes[at].end = self.nodes.len();
                joins = false;
            } else if self.take("<") {
                roots += usize::from(self.open.len() == 1);
                (roots < 2).then_some(())?;
                self.element()?;
                joins = false;
            } else {
                let end = self.rest.find('<').unwrap_or(self.rest.len());
                let (inner, rest) = self.rest.split_at(end);
                self.rest = rest;
                self.text(plain(&inner.replace("\r\n", "\n"))?, joins)?;
                joins = true;
            }
        }
        (roots == 1 && self.open.len() == 1).then_some(())
    }

    fn element(&mut self) -> Option<()> {
        let name = self.name()?.to_string();
        let at = self.add(Kind::Element(name));
        self.open.push(at);
        loop {
            let before = self.rest.len();
            self.blank();
            if self.take(">") {
                return Some(());
            }
            if self.take("/>") {
                self.open.pop();
                self.nodes[at].end = self.nodes.len();
                return Some(());
            }
            (self.rest.len() < before).then_some(())?;
            let name = self.name()?.to_string();
            self.blank();
            self.take("=").then_some(())?;
            self.blank();
            let quote = if self.take("\"") { "\"" } else { self.take("'").then_some("'")? };
            let value = self.until(quote)?;
            (!value.contains('<')).then_some(())?;
            let twice = |n: &Node| matches!(&n.kind, Kind::Attribute(other, _) if *other == name);
            (!self.nodes[at + 1..].iter().any(twice)).then_some(())?;
            let value = plain(&value.replace(['\t', '\r', '\n'], " "))?;
            // A namespace is no attribute.
            if name != "xmlns" && !name.starts_with("xmlns:") {
                self.add(Kind::Attribute(name, value));
            }
        }
    }
}

/// The text with its references resolved.
fn plain(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let (name, behind) = after.split_once(';')?;
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let code = name.strip_prefix('#')?;
                let code = match code.strip_prefix('x') {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None => code.parse().ok()?,
                };
                char::from_u32(code)?
            }
        });
        rest = behind;
    }
    out.push_str(rest);
    Some(out)
}

/// The attributes of a node and what is below it.
pub(super) fn below(nodes: &[Node], at: usize) -> Range<usize> {
    at + 1..nodes[at].end
}

/// The text of a node: that of all text below it.
pub(super) fn text_of(nodes: &[Node], at: usize) -> String {
    match &nodes[at].kind {
        Kind::Text(text) | Kind::Attribute(_, text) => text.clone(),
        _ => nodes[below(nodes, at)]
            .iter()
            .filter_map(|n| match &n.kind {
                Kind::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect(),
    }
}
