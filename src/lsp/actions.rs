//! Code actions that fix findings, with the same edits as `validate --fix`.

use std::ops::Range;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Fix, SourceFile, apart};

/// An edit that the user can choose.
#[derive(Debug)]
pub(super) struct CodeAction {
    /// A sentence that says what the edit does.
    pub(super) title: String,
    /// `quickfix`, or `source.fixAll` for the action with all edits.
    pub(super) kind: &'static str,
    /// The file that the edits change.
    pub(super) file: Arc<SourceFile>,
    /// The edits; no two of them overlap or touch.
    pub(super) edits: Vec<Fix>,
    /// The findings that the edits fix.
    pub(super) fixes: Vec<Diagnostic>,
}

/// Returns the code actions for a range of a text, and one for all certain fixes of the text.
pub(super) fn of(found: &[Diagnostic], text: &str, range: &Range<usize>) -> Vec<CodeAction> {
    // A finding from an older version of the text has its edit in the wrong place.
    let now = |d: &&Diagnostic| d.file.as_ref().is_some_and(|file| file.text == text.trim_start_matches('\u{feff}'));
    let all = apart(found.iter().filter(now));
    let near = |d: &Diagnostic| d.span.as_ref().is_none_or(|span| span.start <= range.end && range.start <= span.end);
    let mut actions = Vec::new();
    for d in found.iter().filter(now).filter(|d| near(d)) {
        if let (Some(file), Some(fix)) = (&d.file, &d.fix) {
            let (title, file) = (title(file, fix), Arc::clone(file));
            actions.push(CodeAction {
                title,
                kind: "quickfix",
                file,
                edits: vec![fix.clone()],
                fixes: vec![d.clone()],
            });
        }
    }
    if let Some(file) = all.first().and_then(|(d, _)| d.file.clone()) {
        let title = format!("Mend everything that can be meant in one way only ({})", all.len());
        let (edits, fixes) = all.into_iter().map(|(d, fix)| (fix.clone(), d.clone())).unzip();
        actions.push(CodeAction { title, kind: "source.fixAll", file, edits, fixes });
    }
    actions
}

fn title(file: &SourceFile, fix: &Fix) -> String {
    match file.text.get(fix.span.clone()).unwrap_or_default() {
        "" => format!("Add `{}`", fix.replacement.trim()),
        old => format!("Change `{old}` to `{}`", fix.replacement),
    }
}
