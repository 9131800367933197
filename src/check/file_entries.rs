//! Checks the entries that the value of `write` lists literally: their modes, unknown keys, and two entries for one path.

use std::collections::BTreeMap;
use std::ops::Range;

use minijinja::machinery::ast::{Expr, Map};
use serde_json::json;

use crate::config::{Project, child_pointer, steps_with_pointers};
use crate::diagnostic::{Code, Diagnostic};
use crate::files;
use crate::model::{StepAction, most_similar_name};
use crate::template::walk::{Visit, walk_expr};
use crate::template::{expr_range, parse_expression};

/// The keys of an entry.
const ENTRY_KEYS: &[&str] = &["path", "content", "mode", "delete"];

pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (pointer, step) in steps_with_pointers(&project.pipeline) {
        let Some(StepAction::Write(text)) = step.action() else { continue };
        // Another check reports an expression that can't be parsed.
        let Ok(parsed) = parse_expression(text) else { continue };
        let pointer = child_pointer(&pointer, "write");
        let mut search = EntrySearch { project, pointer: &pointer, diagnostics: Vec::new() };
        walk_expr(&parsed, &mut search);
        diagnostics.extend(search.diagnostics);
    }
    diagnostics
}

/// Finds the mistakes in the entries of an expression.
struct EntrySearch<'p> {
    project: &'p Project,
    /// The location of the expression in the pipeline file.
    pointer: &'p str,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Visit<'a> for EntrySearch<'_> {
    fn visit_expr(&mut self, expr: &Expr<'a>) {
        match expr {
            Expr::Map(map) if member(map, "path").is_some() => {
                self.check_mode(map);
                self.check_keys(map);
            }
            Expr::List(list) => self.check_repetitions(&list.items),
            _ => {}
        }
    }
}

impl EntrySearch<'_> {
    fn located(&self, diagnostic: Diagnostic, range: Range<usize>) -> Diagnostic {
        let document = &self.project.document;
        diagnostic.with_span(&document.file, document.span_in_value(self.pointer, range))
    }

    /// Reports a constant mode that `write` refuses.
    fn check_mode(&mut self, entry: &Map<'_>) {
        let Some(mode) = member(entry, "mode") else { return };
        let Expr::Const(constant) = mode else { return };
        let value = match constant.value.as_str() {
            Some(text) => json!(text),
            None if constant.value.is_number() => json!(0),
            None => return,
        };
        let Some(problem) = files::mode_problem(&value) else { return };
        let diagnostic = Diagnostic::error(Code::NotFileList, format!("the file {problem}"));
        let help = "a mode is a string of octal digits, such as `'0644'`, or `'0755'` for a program";
        self.diagnostics.push(self.located(diagnostic, expr_range(mode)).with_help(help));
    }

    /// Reports a key that is probably a misspelt one. `write` ignores other keys.
    fn check_keys(&mut self, entry: &Map<'_>) {
        for key in &entry.keys {
            let Expr::Const(constant) = key else { continue };
            let Some(name) = constant.value.as_str().filter(|name| !ENTRY_KEYS.contains(name)) else { continue };
            if most_similar_name(name, ENTRY_KEYS.iter().copied()).is_none() {
                continue;
            }
            let message =
                format!("`{name}` of a file has no effect: it has only `path`, `content`, `mode` and `delete`");
            let diagnostic = self.located(Diagnostic::warning(Code::NotFileList, message), expr_range(key));
            self.diagnostics.push(diagnostic.with_suggestion(name, ENTRY_KEYS.iter().copied()));
        }
    }

    /// Reports constant entries of one list for the same path that `write` refuses because they differ.
    fn check_repetitions(&mut self, items: &[Expr<'_>]) {
        let mut first_by_path: BTreeMap<String, &Map<'_>> = BTreeMap::new();
        for item in items {
            let Expr::Map(entry) = item else { continue };
            let entry: &Map<'_> = entry;
            let Some((path, range)) =
                member(entry, "path").and_then(|path| Some((constant_text(path)?, expr_range(path))))
            else {
                continue;
            };
            let normalized = path.trim_start_matches("./").to_owned();
            let Some(first) = first_by_path.get(&normalized) else {
                first_by_path.insert(normalized, entry);
                continue;
            };
            let difference = ["content", "mode"].into_iter().find(|key| {
                let texts = [*first, entry].map(|entry| member(entry, key).and_then(constant_text));
                matches!(texts, [Some(first), Some(second)] if first != second)
            });
            if let Some(key) = difference {
                let message = format!("`{path}` is listed twice, with different {key}s");
                let diagnostic = Diagnostic::error(Code::RefusedPath, message);
                self.diagnostics.push(self.located(diagnostic, range).with_help("list each file once"));
            }
        }
    }
}

/// The value of a key of a map.
fn member<'e, 'a>(map: &'e Map<'a>, name: &str) -> Option<&'e Expr<'a>> {
    let mut members = map.keys.iter().zip(&map.values);
    members.find(|(key, _)| constant_text(key) == Some(name)).map(|(_, value)| value)
}

/// The text of a constant.
fn constant_text<'e>(expr: &'e Expr<'_>) -> Option<&'e str> {
    match expr {
        Expr::Const(constant) => constant.value.as_str(),
        _ => None,
    }
}
