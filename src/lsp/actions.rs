//! Code actions that fix findings, with the same edits as `orch validate --fix`.

use std::ops::Range;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Fix, SourceFile, non_overlapping_fixes};

/// A code action that the user can choose.
#[derive(Debug)]
pub(super) struct CodeAction {
    /// A sentence that describes the edits.
    pub(super) title: String,
    /// `quickfix`, or `source.fixAll` for the action with all edits.
    pub(super) kind: &'static str,
    /// The file that the edits change.
    pub(super) file: Arc<SourceFile>,
    /// The edits, which do not overlap or touch one another.
    pub(super) edits: Vec<Fix>,
    /// The findings that the edits fix.
    pub(super) fixed_findings: Vec<Diagnostic>,
}

/// Returns the code actions for a range of a text, and one code action for all safe fixes of the text.
pub(super) fn code_actions(findings: &[Diagnostic], text: &str, range: &Range<usize>) -> Vec<CodeAction> {
    // A finding from an older version of the text has its edit at the wrong position.
    let is_current = |finding: &&Diagnostic| {
        finding.file.as_ref().is_some_and(|file| file.text == text.trim_start_matches('\u{feff}'))
    };
    let safe_fixes = non_overlapping_fixes(findings.iter().filter(is_current));
    let touches_range = |finding: &Diagnostic| {
        finding.span.as_ref().is_none_or(|span| span.start <= range.end && range.start <= span.end)
    };
    let mut actions = Vec::new();
    for finding in findings.iter().filter(is_current).filter(|finding| touches_range(finding)) {
        if let (Some(file), Some(fix)) = (&finding.file, &finding.fix) {
            let (title, file) = (edit_title(file, fix), Arc::clone(file));
            actions.push(CodeAction {
                title,
                kind: "quickfix",
                file,
                edits: vec![fix.clone()],
                fixed_findings: vec![finding.clone()],
            });
        }
    }
    if let Some(file) = safe_fixes.first().and_then(|(finding, _)| finding.file.clone()) {
        let title = format!("Apply all unambiguous fixes ({})", safe_fixes.len());
        let (edits, fixed_findings) =
            safe_fixes.into_iter().map(|(finding, fix)| (fix.clone(), finding.clone())).unzip();
        actions.push(CodeAction { title, kind: "source.fixAll", file, edits, fixed_findings });
    }
    actions
}

fn edit_title(file: &SourceFile, fix: &Fix) -> String {
    match file.text.get(fix.span.clone()).unwrap_or_default() {
        "" => format!("Add `{}`", fix.replacement.trim()),
        original => format!("Change `{original}` to `{}`", fix.replacement),
    }
}
