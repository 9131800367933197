//! The modules that log, and what orch says about a filter that names another one.

use std::collections::BTreeSet;

use crate::model::most_similar_name;

use super::filter::{LOGGED_CRATES, OWN_CRATE, VARIABLE};

/// The modules of orch that log. A test compares them with the source.
const LOGGING_MODULES: [&str; 13] = [
    "orch::engine::interpret",
    "orch::engine::mcp_answerer",
    "orch::engine::step_execution",
    "orch::network::logged_request",
    "orch::runner::message_handler",
    "orch::runner::run_log",
    "orch::store::approval",
    "orch::store::call_log",
    "orch::store::calls",
    "orch::store::pause",
    "orch::store::wait_log",
    "orch::store::writer",
    "orch::tool::mcp::server_log",
];

/// The warning about a target of a filter that no record has; `None` if there may be such records. Only the modules of
/// orch are known.
pub(super) fn unknown_target_warning(target: &str) -> Option<String> {
    let is_own = target.split("::").next() == Some(OWN_CRATE);
    let known = known_targets();
    if !is_own || known.contains(target) {
        return None;
    }
    let advice =
        most_similar_name(target, known.iter().copied()).map(|similar| format!("; did you mean `{}`?", similar.name));
    let mut modules: Vec<&str> = known.into_iter().filter(|target| target.matches("::").count() == 1).collect();
    modules.extend(LOGGED_CRATES.iter().filter(|name| **name != OWN_CRATE));
    Some(format!(
        "`{target}` in the variable {VARIABLE} matches no record of the log{} The modules that log are {}",
        advice.unwrap_or_else(|| ".".to_owned()),
        modules.join(", ")
    ))
}

/// The modules that log, and the modules that contain them.
fn known_targets() -> BTreeSet<&'static str> {
    let mut targets = BTreeSet::new();
    for module in LOGGING_MODULES {
        let ends = module.match_indices("::").map(|(end, _)| end).chain([module.len()]);
        targets.extend(ends.filter_map(|end| module.get(..end)));
    }
    targets
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The modules below a folder of the source that import a macro of the log.
    fn logging_modules(folder: &Path, module: &str, found: &mut Vec<String>) {
        const MACROS: [&str; 9] =
            ["debug", "debug_span", "error", "error_span", "info", "info_span", "trace", "warn", "warn_span"];
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let inner = if name == "mod" { module.to_owned() } else { format!("{module}::{name}") };
            if path.is_dir() {
                logging_modules(&path, &inner, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let imports = text.lines().filter_map(|line| line.strip_prefix("use tracing::"));
            let mut words = imports.flat_map(|names| names.split(|c: char| !c.is_alphanumeric() && c != '_'));
            if words.any(|word| MACROS.contains(&word)) {
                found.push(inner);
            }
        }
    }

    #[test]
    fn the_list_has_all_modules_that_log() {
        let mut found = Vec::new();
        logging_modules(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), OWN_CRATE, &mut found);
        found.sort();
        assert_eq!(found, LOGGING_MODULES);
    }

    #[test]
    fn a_mistyped_module_is_reported_with_the_nearest_one() {
        for known in ["orch", "orch::store", "orch::store::calls", "orch::tool::mcp", "hyper_util::client"] {
            assert_eq!(unknown_target_warning(known), None, "{known}");
        }
        let warning = unknown_target_warning("orch::stor").unwrap();
        let expected = "`orch::stor` in the variable ORCH_LOG matches no record of the log; did you mean `orch::store`? \
                        The modules that log are orch::engine, orch::network, orch::runner, orch::store, orch::tool, \
                        hyper_util";
        assert_eq!(warning, expected);
        let warning = unknown_target_warning("orch::provider::openai").unwrap();
        assert!(warning.contains("of the log. The modules that log are orch::engine"), "{warning}");
        assert!(unknown_target_warning("orch::store::calls::inner").is_some());
    }
}
