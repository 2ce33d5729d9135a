//! Rules for the project as a whole, checked in its sources. docs/architecture.md states the rules in words.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const STAGES: [&str; 6] = ["kafka", "decode", "transform", "expect", "window", "sink"];
/// The shared modules of the stages. They import each other and nothing else.
const SHARED: [&str; 12] =
    ["error", "batch", "position", "time", "calendar", "hash", "json", "expr", "state", "storage", "stack", "memory"];
/// The modules that each of the others may import besides the shared modules.
const OTHERS: [(&str, &[&str]); 10] = [
    ("allocator", &[]),
    // Other modules use the catalog through a trait of `storage`.
    ("catalog", &[]),
    // A seal keeps the state of a watermark, which `window` defines. Progress keeps the counts of rules.
    ("epoch", &["window"]),
    ("progress", &["expect"]),
    ("read", &["epoch", "sink"]),
    ("simulate", &[]),
    // The description of a query: the stages' options and schemas, no active client and no runtime.
    ("flow", &["kafka", "decode", "transform", "expect", "window", "sink"]),
    // The computation, pure.
    ("engine", &["decode", "transform", "expect", "window", "sink", "flow"]),
    // The durable run.
    ("run", &["kafka", "decode", "window", "transform", "sink", "flow", "engine", "epoch", "progress", "read"]),
    (
        "python",
        &[
            "kafka",
            "decode",
            "transform",
            "expect",
            "window",
            "sink",
            "catalog",
            "epoch",
            "progress",
            "read",
            "simulate",
            "flow",
            "engine",
            "run",
        ],
    ),
];
/// Heavy crates and the modules that may name them.
const HOMES: [(&str, &[&str]); 7] = [
    ("rdkafka", &["kafka"]),
    ("deltalake", &["sink/delta", "storage", "read"]),
    // `error` converts DataFusion's errors.
    ("datafusion", &["expr", "window/session", "state", "read", "error"]),
    ("object_store", &["sink/delta", "storage"]),
    ("parquet", &["sink/delta"]),
    ("pyo3", &["python"]),
    ("reqwest", &["catalog"]),
];
const UNSAFE: [&str; 5] =
    ["src/allocator.rs", "src/kafka/ffi/", "src/kafka/consume/native.rs", "src/memory.rs", "src/python/guard.rs"];
const MOST_LINES: usize = 650;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut folders = vec![root().join(folder)];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).unwrap_or_else(|e| panic!("{}: {e}", at.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if endings.iter().any(|e| path.to_string_lossy().ends_with(e)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn named(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_string_lossy().into_owned()
}

/// The source without comments. This is good enough for the sources of this project: no path of `use` contains `//`.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|l| l.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn word(text: &str) -> &str {
    &text[..text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())]
}

/// Top-level names behind `crate::`, in paths and in groups such as `crate::{batch::Batch, error::{Error, Result}}`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, start) in code.match_indices("crate::") {
        let rest = &code[at + start.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(word(rest).to_string());
            continue;
        };
        let (mut depth, mut item) = (1, 0);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 || depth == 1 && c == ',' {
                found.insert(word(group[item..i].trim_start()).to_string());
                item = i + 1;
            }
            if depth == 0 {
                break;
            }
        }
    }
    // `crate::Error` and similar names are re-exports of `error`. `pub(crate)` and macros leave empty names.
    found.retain(|n| !n.is_empty() && n.chars().all(|c| c.is_lowercase() || c == '_' || c.is_numeric()));
    found
}

/// For each module of `src/lib.rs`, the modules of this crate that its files import.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let mut out: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in files("src", &[".rs"]) {
        let name = named(&path);
        // The build script is a program of its own.
        if name == "src/lib.rs" || name == "src/build.rs" {
            continue;
        }
        let module = word(&name["src/".len()..]).to_string();
        out.entry(module.clone()).or_default().extend(imports(&code(&path)).into_iter().filter(|n| *n != module));
    }
    out
}

fn check(module: &str, imported: &BTreeSet<String>) -> Vec<String> {
    let allowed: &[&str] = OTHERS.iter().find(|(m, _)| *m == module).map_or(&[], |(_, more)| more);
    imported
        .iter()
        .filter(|i| !SHARED.contains(&i.as_str()) && !allowed.contains(&i.as_str()))
        .map(|i| format!("{module} imports {i}"))
        .collect()
}

#[test]
fn stages_import_only_what_all_share_and_no_arrow_runs_back_up() {
    let arrows = arrows();
    let wrong: Vec<String> = arrows.iter().flat_map(|(m, imported)| check(m, imported)).collect();
    assert!(wrong.is_empty(), "docs/architecture.md forbids: {}", wrong.join(", "));
    let known: BTreeSet<&str> = STAGES.iter().chain(&SHARED).copied().chain(OTHERS.iter().map(|(m, _)| *m)).collect();
    let unknown: Vec<&String> = arrows.keys().filter(|m| !known.contains(m.as_str())).collect();
    assert!(unknown.is_empty(), "modules without a place in the rule: {unknown:?}");
}

#[test]
fn the_three_floors_name_every_stage() {
    let arrows = arrows();
    let named = |stage: &str| ["flow", "engine", "run"].iter().any(|floor| arrows[*floor].contains(stage));
    let missing: Vec<_> = STAGES.iter().filter(|s| !named(s)).collect();
    assert!(missing.is_empty(), "no floor names {missing:?}");
}

#[test]
fn the_reader_of_imports_finds_what_it_must() {
    let found =
        imports("use crate::{batch::{A, B}, Result,\n sink};\nfn f() { crate::kafka::g() } pub(crate) fn h() {}");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["batch", "kafka", "sink"]);
    assert_eq!(check("decode", &["sink".to_string(), "error".to_string()].into()), ["decode imports sink"]);
    assert_eq!(check("flow", &["engine".to_string()].into()), ["flow imports engine"]);
    assert_eq!(check("engine", &["run".to_string(), "flow".to_string()].into()), ["engine imports run"]);
    assert_eq!(check("run", &["python".to_string()].into()), ["run imports python"]);
}

#[test]
fn heavy_crates_are_named_only_in_their_homes() {
    let mut wrong = vec![];
    for path in files("src", &[".rs"]) {
        let (name, code) = (named(&path), code(&path));
        for (heavy, homes) in HOMES {
            // Sub-crates too: datafusion_functions, pyo3_arrow.
            let uses = code.match_indices(heavy).any(|(at, _)| {
                let before = code[..at].chars().next_back();
                let rest = &code[at..];
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"')
                    && rest[word(rest).len()..].starts_with("::")
            });
            let home = homes.iter().any(|h| name.starts_with(&format!("src/{h}/")) || name == format!("src/{h}.rs"));
            if uses && !home {
                wrong.push(format!("{name} names {heavy}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join(", "));
}

/// deltalake's types are passed on by inference too, so their methods are looked for, and the function that hands out a table.
#[test]
fn no_table_of_deltalake_leaves_its_homes() {
    let homes = HOMES.iter().find(|(name, _)| *name == "deltalake").map(|(_, homes)| *homes).unwrap_or_default();
    let signs =
        ["DeltaTable", "delta::open(", ".log_store()", ".transaction_version(", ".file_views(", ".arrow_schema()"];
    let mut wrong = vec![];
    for path in files("src", &[".rs"]) {
        let (name, code) = (named(&path), code(&path));
        let home = homes.iter().any(|h| name.starts_with(&format!("src/{h}/")) || name == format!("src/{h}.rs"));
        wrong.extend(signs.iter().filter(|s| !home && code.contains(**s)).map(|s| format!("{name} has {s}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join(", "));
}

#[test]
fn unsafe_code_stays_in_the_files_that_are_named_here() {
    let has = |path: &PathBuf| code(path).split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe");
    let found: Vec<String> = files("src", &[".rs"]).iter().filter(|p| has(p)).map(|p| named(p)).collect();
    let wrong: Vec<_> = found.iter().filter(|f| !UNSAFE.iter().any(|u| f.starts_with(u))).collect();
    assert!(wrong.is_empty(), "unsafe in {wrong:?}");
}

#[test]
fn no_file_is_longer_than_one_can_read() {
    let mut wrong = vec![];
    for folder in ["src", "tests", "python", "scripts"] {
        for path in files(folder, &[".rs", ".py", ".pyi", ".sh"]) {
            let (name, lines) = (named(&path), fs::read_to_string(&path).unwrap().lines().count());
            if lines > MOST_LINES {
                wrong.push(format!("{name}: {lines} lines"));
            }
        }
    }
    assert!(wrong.is_empty(), "over {MOST_LINES} lines: {}", wrong.join(", "));
}

#[test]
fn the_readme_names_both_commands_and_its_links_lead_somewhere() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for command in ["make demo", "make test"] {
        assert!(readme.contains(command), "README.md does not name `{command}`");
    }
    for (at, _) in readme.match_indices("](") {
        let target = readme[at + 2..].split(')').next().unwrap();
        assert!(target.contains("://") || root().join(target).exists(), "README.md links {target}, which is not there");
    }
}

/// The crates and features of a build, one "name version [features]" in each line.
fn crates(more: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root()).args([
        "tree",
        "--locked",
        "--offline",
        "-e",
        "normal",
        "--prefix",
        "none",
        "-f",
        "{p} [{f}]",
    ]);
    let out = cargo.args(more).output().unwrap();
    assert!(out.status.success(), "cargo tree: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().map(|l| l.trim_end_matches(" (*)").to_string()).filter(|l| !l.starts_with("bayou ")).collect()
}

#[test]
fn the_feature_python_changes_nothing_in_the_crates_it_does_not_bring() {
    let (core, with_python) = (crates(&[]), crates(&["--features", "python"]));
    let changed: Vec<&String> = core.difference(&with_python).collect();
    assert!(changed.is_empty(), "these would be compiled twice; name their features in Cargo.toml: {changed:?}");
    assert!(with_python.iter().any(|c| c.starts_with("pyo3 ")) && !core.iter().any(|c| c.starts_with("pyo3 ")));
}

/// The file of a path such as `crate::run::feed::Fed` or, in a file of `src/run/start/`, `super::Started`. None: a different crate or floor.
fn file_of(from: &str, path: &str) -> Option<String> {
    let mut at: Vec<String> = match path.strip_prefix("crate::") {
        Some(rest) => rest.split("::").map(str::to_string).collect(),
        None => {
            let mut folder: Vec<&str> =
                from.trim_end_matches(".rs").trim_end_matches("/mod").split('/').skip(1).collect();
            let mut rest = path;
            while let Some(after) = rest.strip_prefix("super::") {
                folder.pop();
                rest = after;
            }
            folder.into_iter().chain(rest.split("::")).map(str::to_string).collect()
        }
    };
    while !at.is_empty() {
        let stem = format!("src/{}", at.join("/"));
        for file in [format!("{stem}.rs"), format!("{stem}/mod.rs")] {
            if root().join(&file).is_file() {
                return Some(file);
            }
        }
        at.pop();
    }
    None
}

/// What the `use` lines of a file name, groups written out.
fn used(code: &str) -> Vec<String> {
    fn spread(prefix: &str, rest: &str, out: &mut Vec<String>) {
        let Some((head, group)) = rest.split_once('{') else {
            let name = rest.split(" as ").next().unwrap_or_default().trim();
            out.push(format!("{prefix}{}", name.trim_end_matches("::self").trim_end_matches("self")));
            return;
        };
        let group = group.trim_end().strip_suffix('}').unwrap_or(group);
        let (mut depth, mut item) = (0, 0);
        for (i, c) in group.char_indices().chain([(group.len(), ',')]) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    let one = group[item..i].trim();
                    if !one.is_empty() {
                        spread(&format!("{prefix}{}", head.trim()), one, out);
                    }
                    item = i + 1;
                }
                _ => {}
            }
        }
    }
    let mut out = vec![];
    for (at, _) in code.match_indices("use ") {
        let whole = code[at + 4..].split(';').next().unwrap_or_default();
        if whole.starts_with("crate::") || whole.starts_with("super::") {
            spread("", whole, &mut out);
        }
    }
    out
}

#[test]
fn no_files_of_flow_engine_and_run_import_each_other_in_a_circle() {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for floor in ["src/flow", "src/engine", "src/run"] {
        for path in files(floor, &[".rs"]) {
            let (name, text) = (named(&path), code(&path));
            // Tests import the modules that they test, and a module imports its own parts.
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            let own = name.trim_end_matches("mod.rs").to_string();
            let inside = |other: &String| name.ends_with("/mod.rs") && other.starts_with(&own);
            let above = |other: &String| other.strip_suffix("mod.rs").is_some_and(|folder| name.starts_with(folder));
            let found = used(text).into_iter().filter_map(|p| file_of(&name, &p));
            let found = found.filter(|o| *o != name && !inside(o) && !above(o)).collect();
            imports.insert(name, found);
        }
    }
    assert!(imports["src/run/runner.rs"].contains("src/run/compact.rs"), "{:?}", imports["src/run/runner.rs"]);
    // Removes files that import no remaining file. The files that remain at the end are in a circle, or above one.
    loop {
        let left: BTreeSet<String> = imports.keys().cloned().collect();
        let free: Vec<String> =
            imports.iter().filter(|(_, to)| to.iter().all(|t| !left.contains(t))).map(|(n, _)| n.clone()).collect();
        if free.is_empty() {
            break;
        }
        free.iter().for_each(|n| drop(imports.remove(n)));
    }
    let left: Vec<String> = imports
        .iter()
        .map(|(n, to)| format!("{n} -> {:?}", to.iter().filter(|t| imports.contains_key(*t)).collect::<Vec<_>>()))
        .collect();
    assert!(left.is_empty(), "in a circle, or above one:\n{}", left.join("\n"));
}
