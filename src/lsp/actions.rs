//! Edits that mend findings: those that `validate --fix` makes.

use std::ops::Range;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Fix, SourceFile, apart};

/// An edit that a person can choose.
#[derive(Debug)]
pub(super) struct CodeAction {
    /// What it does.
    pub(super) title: String,
    /// `quickfix`, or `source.fixAll` for everything at once.
    pub(super) kind: &'static str,
    /// The text that is edited.
    pub(super) file: Arc<SourceFile>,
    /// The edits, apart from one another.
    pub(super) edits: Vec<Fix>,
    /// What they mend.
    pub(super) mends: Vec<Diagnostic>,
}

/// The edits for a range of a text, and the one for the whole of it.
pub(super) fn of(found: &[Diagnostic], text: &str, range: &Range<usize>) -> Vec<CodeAction> {
    // A finding of an older text has its edit in the wrong place.
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
                mends: vec![d.clone()],
            });
        }
    }
    if let Some(file) = all.first().and_then(|(d, _)| d.file.clone()) {
        let title = format!("Mend everything that can be meant in one way only ({})", all.len());
        let (edits, mends) = all.into_iter().map(|(d, fix)| (fix.clone(), d.clone())).unzip();
        actions.push(CodeAction { title, kind: "source.fixAll", file, edits, mends });
    }
    actions
}

fn title(file: &SourceFile, fix: &Fix) -> String {
    match file.text.get(fix.span.clone()).unwrap_or_default() {
        "" => format!("Add `{}`", fix.replacement.trim()),
        old => format!("Change `{old}` to `{}`", fix.replacement),
    }
}
