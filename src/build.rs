//! The docstrings of the extension module, from the stubs below python/bayou/_core: `help()`, Shift+Tab and editors show one text.
//!
//! CPython takes the docstring of a compiled method when the method is made, so the texts must be there at compile time. The build writes
//! a macro `doc!("Stream.select")` that expands to the docstring. A name that the stubs do not have is an error of the compiler.
//! The first lines of a docstring are the signature with its types, because `inspect.signature` does not accept types in the signature
//! of a compiled method.

// Cargo reads what a build script prints.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::env::var_os;
use std::error::Error;
use std::fmt::Write as _;
use std::fs::{read_dir, read_to_string, write};
use std::path::{Path, PathBuf};

const STUBS: &str = "python/bayou/_core";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={STUBS}");
    let mut files: Vec<PathBuf> = read_dir(STUBS)?.map(|f| f.map(|f| f.path())).collect::<Result<_, _>>()?;
    files.retain(|f| f.extension().is_some_and(|e| e == "pyi"));
    files.sort();
    let aliases = aliases(&read_to_string(Path::new(STUBS).join("_types.pyi"))?);
    let mut docs = BTreeMap::new();
    for file in &files {
        println!("cargo::rerun-if-changed={}", file.display());
        Stub { lines: &read_to_string(file)?.lines().collect::<Vec<_>>(), aliases: &aliases }.read(&mut docs);
    }
    // The stubs write some methods in classes of their own, which do not exist at run time.
    inherit(&mut docs, "_Outputs.", "Stream.");
    inherit(&mut docs, "_Administration.", "Connection.");
    // A Batch is a Table, and has the methods of a Table.
    inherit(&mut docs, "Table.", "Batch.");
    let mut out = String::from("macro_rules! doc {\n");
    for (name, doc) in &docs {
        writeln!(out, "    ({name:?}) => {{ {doc:?} }};")?;
    }
    out.push_str("}\n");
    let dir = var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    Ok(write(Path::new(&dir).join("docs.rs"), out)?)
}

/// The methods of one class are also methods of the other class, unless the other class has its own docstring for them.
fn inherit(docs: &mut BTreeMap<String, String>, from: &str, to: &str) {
    let all: Vec<_> = docs.iter().filter_map(|(n, d)| Some((n.strip_prefix(from)?.to_owned(), d.clone()))).collect();
    for (name, doc) in all {
        docs.entry(format!("{to}{name}")).or_insert(doc);
    }
}

/// The names of types that only the stubs have (`_Duration`), with their meanings.
fn aliases(types: &str) -> Vec<(String, String)> {
    let alias = |line: &str| {
        let (name, value) = line.split_once(": TypeAlias = ")?;
        Some((name.to_owned(), value.to_owned()))
    };
    let mut all: Vec<_> = types.lines().filter_map(alias).collect();
    all.push(("_ArrowStream".into(), "ArrowStream".into()));
    all.push(("_ArrowArray".into(), "ArrowArray".into()));
    all.push(("_ArrowSchema".into(), "ArrowSchema".into()));
    all.push(("_SparkType".into(), "StructType".into()));
    // An alias may contain a different alias, and its name may begin with the name of a different alias.
    all.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    all
}

struct Stub<'a> {
    lines: &'a [&'a str],
    aliases: &'a [(String, String)],
}

impl Stub<'_> {
    fn read(&self, docs: &mut BTreeMap<String, String>) {
        let mut class = String::new();
        let mut property = false;
        let mut at = 0;
        while at < self.lines.len() {
            let line = self.lines[at];
            let text = line.trim_start();
            let indent = line.len() - text.len();
            if indent == 0 && !text.is_empty() && !text.starts_with([')', '#']) {
                class.clear();
            }
            if let Some(head) = text.strip_prefix("class ") {
                class = head.split(['(', ':']).next().unwrap_or_default().to_owned();
                if let Some(doc) = self.docstring(at + 1) {
                    docs.insert(class.clone(), doc);
                }
            } else if text == "@property" {
                property = true;
            } else if let Some(head) = text.strip_prefix("def ") {
                let name = head.split('(').next().unwrap_or_default();
                let end = (at..self.lines.len())
                    .find(|i| self.lines[*i].ends_with(':') || self.lines[*i].ends_with("..."))
                    .unwrap_or(at);
                if let Some(doc) = self.docstring(end + 1) {
                    let path = if class.is_empty() { name.to_owned() } else { format!("{class}.{name}") };
                    let signature = self.signature(at, end, indent, property);
                    docs.insert(path, format!("{signature}\n\n{doc}"));
                }
                property = false;
                at = end;
            }
            at += 1;
        }
    }

    /// The docstring that begins at a line, without the indentation.
    fn docstring(&self, at: usize) -> Option<String> {
        const QUOTES: &str = "\"\"\"";
        let first = self.lines.get(at)?;
        let begin = first.trim_start().strip_prefix(QUOTES)?;
        let indent = first.len() - first.trim_start().len();
        if let Some(whole) = begin.strip_suffix(QUOTES) {
            return Some(whole.to_owned());
        }
        let mut doc = begin.to_owned();
        for line in &self.lines[at + 1..] {
            let line = line.get(indent..).unwrap_or_default();
            if let Some(last) = line.strip_suffix(QUOTES) {
                doc.push_str(&format!("\n{last}"));
                break;
            }
            doc.push('\n');
            doc.push_str(line);
        }
        Some(doc.trim_end().to_owned())
    }

    /// `select(*columns: str) -> Stream`, on one line where it fits; `columns: list[str]` of a property.
    fn signature(&self, at: usize, end: usize, indent: usize, property: bool) -> String {
        let lines: Vec<&str> = self.lines[at..=end].iter().map(|l| l.get(indent..).unwrap_or_default()).collect();
        let mut whole = lines.join("\n");
        let one_line = whole.replace("(\n    ", "(").replace(",\n)", ")").replace("\n    ", " ").replace('\n', "");
        if one_line.len() <= 110 {
            whole = one_line;
        }
        whole = whole.replacen("def ", "", 1);
        for text in ["    self,\n", "self, ", "self", ", /"] {
            whole = whole.replacen(text, "", 1);
        }
        let whole = whole.trim_end_matches(" ...").trim_end_matches(':');
        let mut whole = if property { whole.replacen("() -> ", ": ", 1) } else { whole.to_owned() };
        for (alias, meaning) in self.aliases {
            whole = whole.replace(alias.as_str(), meaning);
        }
        // The second time for aliases that are made of aliases.
        for (alias, meaning) in self.aliases {
            whole = whole.replace(alias.as_str(), meaning);
        }
        whole
    }
}
