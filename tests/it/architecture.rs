//! The architecture of the code: imports point down, and only the modules that ARCHITECTURE.md names import a crate.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, out: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                out.push((path.strip_prefix("src").unwrap().to_owned(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut out = Vec::new();
    walk(Path::new("src"), &mut out);
    out
}

/// The module of a file: its folder, or its name at the top level.
fn module_of(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules that code names after `crate::`, without comments and tests.
fn imported_modules(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut found = Vec::new();
    for line in lines {
        for part in line.split("crate::").skip(1) {
            found.push(part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect());
        }
    }
    found
}

/// The modules that each folder of `src/` may import, beside itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &["model"]),
    ("diagnostic", &["diagnostic", "model"]),
    ("clock", &["clock"]),
    ("offload", &["offload", "clock"]),
    ("durable", &["durable", "model"]),
    ("history", &["durable", "history", "model"]),
    ("accounts", &["accounts", "durable", "files", "model"]),
    ("schema", &["schema", "model"]),
    ("template", &["template", "model", "diagnostic"]),
    ("secret", &["secret", "model"]),
    ("extract", &["extract", "schema", "model"]),
    ("crash", &["crash"]),
    ("files", &["crash", "files", "folder", "model"]),
    ("folder", &["crash", "folder"]),
    ("config", &["config", "diagnostic", "model", "schema", "template"]),
    ("catalog", &["catalog", "model"]),
    ("check", &["catalog", "check", "config", "diagnostic", "files", "model", "schema", "template", "tool"]),
    ("graph", &["graph", "config", "model"]),
    ("lsp", &["lsp", "check", "config", "diagnostic", "model", "template"]),
    ("network", &["network", "model"]),
    ("provider", &["provider", "catalog", "clock", "model", "network", "secret"]),
    ("store", &["store", "clock", "crash", "durable", "folder", "history", "model", "offload"]),
    ("report", &["report", "durable", "model"]),
    ("track", &["track", "durable", "model", "network", "secret", "store"]),
    (
        "agent",
        &[
            "agent", "catalog", "config", "files", "folder", "model", "network", "offload", "process", "provider",
            "secret",
        ],
    ),
    ("process", &["clock", "model", "offload", "process"]),
    ("tool", &["tool", "extract", "files", "folder", "model", "network", "offload", "process", "schema", "secret"]),
    (
        "runner",
        &[
            "runner",
            "accounts",
            "agent",
            "check",
            "clock",
            "config",
            "diagnostic",
            "durable",
            "engine",
            "files",
            "folder",
            "model",
            "network",
            "process",
            "provider",
            "report",
            "schema",
            "secret",
            "store",
            "template",
            "tool",
            "track",
            "trust",
        ],
    ),
    (
        "cli",
        &[
            "cli",
            "agent",
            "catalog",
            "check",
            "clock",
            "config",
            "crash",
            "diagnostic",
            "durable",
            "engine",
            "extract",
            "files",
            "folder",
            "graph",
            "lsp",
            "model",
            "network",
            "process",
            "provider",
            "report",
            "schema",
            "secret",
            "runner",
            "store",
            "template",
            "tool",
            "track",
            "trust",
        ],
    ),
    ("main", &[]),
    ("lib", &[]),
    ("trust", &["trust", "config", "model", "provider"]),
    (
        "engine",
        &[
            "engine", "accounts", "agent", "clock", "durable", "extract", "files", "folder", "model", "network",
            "offload", "process", "provider", "schema", "secret", "template", "tool",
        ],
    ),
];

#[test]
fn imports_point_down() {
    let below: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(allowed) = below.get(module_of(&path).as_str()) else {
            wrong.push(format!("src/{} is in no layer: list its folder here", path.display()));
            continue;
        };
        if text.contains("super::super::") {
            wrong.push(format!("src/{} uses super::super: name the module from the crate", path.display()));
        }
        for name in imported_modules(&text) {
            if name.chars().next().is_some_and(char::is_lowercase) && !allowed.contains(&name.as_str()) {
                wrong.push(format!("src/{} imports crate::{name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The texts in backticks in a cell of a table.
fn backticked(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Whether code names an item of a crate.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let rest = &code[at + name.len()..];
        let own = before.is_none_or(|c| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
        own && (rest.starts_with("::") || rest.starts_with(" as "))
    })
}

#[test]
fn crates_are_imported_only_where_the_architecture_says() {
    let text = fs::read_to_string("ARCHITECTURE.md").unwrap();
    let table = text.lines().skip_while(|line| *line != "| crate | importer |").skip(2);
    let rows: Vec<&str> = table.take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 10, "ARCHITECTURE.md has no table of crates");
    let code: Vec<(String, String)> = sources()
        .into_iter()
        .map(|(path, text)| {
            let code = text.split("#[cfg(test)]").next().unwrap().lines();
            let code: Vec<&str> = code.filter(|line| !line.trim_start().starts_with("//")).collect();
            (path.to_string_lossy().replace('\\', "/"), code.join("\n"))
        })
        .collect();
    let mut wrong = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').collect();
        let owners: Vec<&str> =
            backticked(cells[2]).into_iter().filter(|owner| !owner.starts_with("local-llm")).collect();
        let is_of = |path: &str, owner: &str| path == owner || (owner.ends_with('/') && path.starts_with(owner));
        let names: Vec<String> =
            backticked(cells[1]).iter().map(|name| name.replace("rustls-webpki", "webpki").replace('-', "_")).collect();
        let users = code.iter().filter(|(_, code)| names.iter().any(|name| names_crate(code, name)));
        let users: Vec<&str> = users.map(|(path, _)| path.as_str()).collect();
        for path in users.iter().filter(|path| !owners.iter().any(|owner| is_of(path, owner))) {
            wrong.push(format!("src/{path} imports {}", names.join(" or ")));
        }
        for owner in owners.iter().filter(|owner| !users.iter().any(|path| is_of(path, owner))) {
            wrong.push(format!("ARCHITECTURE.md says that {owner} imports {}, and it does not", names.join(" or ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_rules_of_a_history_are_pure() {
    let modules: Vec<(PathBuf, String)> =
        sources().into_iter().filter(|(path, _)| module_of(path) == "history").collect();
    assert!(modules.len() > 5, "src/history/ is not where this test expects it");
    for (path, text) in modules {
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in ["tokio", "futures_util", "rusqlite", "std::fs", "std::thread", "::now()", "async ", "Mutex"] {
            assert!(!code.contains(word), "src/{} has {word}", path.display());
        }
    }
}

#[test]
fn library_code_neither_prints_nor_exits_nor_reads_the_environment() {
    for (path, text) in sources() {
        // This file alone reads the environment of the process, for programs that run pipelines.
        if ["cli", "main"].contains(&module_of(&path).as_str()) || path == Path::new("runner/environment.rs") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap();
        for word in ["println!", "eprintln!", "process::exit", "env::var", "todo!", "dbg!"] {
            assert!(!code.contains(word), "src/{} has {word}", path.display());
        }
    }
}
