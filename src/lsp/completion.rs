//! The completions that an editor offers.

use std::ops::Range;

/// The kind of a completion, which determines its icon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CompletionKind {
    Key,
    Value,
    Variable,
    Property,
    Agent,
    File,
    Function,
    Keyword,
}

/// A completion that the user can choose.
#[derive(Clone, Debug)]
pub(super) struct Completion {
    pub(super) label: String,
    pub(super) kind: CompletionKind,
    /// A short note that the editor shows next to the label.
    pub(super) detail: String,
    /// A description in sentences.
    pub(super) documentation: Option<String>,
    /// The text that replaces `replace_range`.
    pub(super) insert_text: String,
    pub(super) replace_range: Range<usize>,
}

/// A completion that inserts its label.
pub(super) fn new_completion(
    label: &str,
    kind: CompletionKind,
    detail: &str,
    description: Option<&str>,
    replaced_range: &Range<usize>,
) -> Completion {
    let (label, detail, documentation) = (label.to_owned(), detail.to_owned(), description.map(str::to_owned));
    Completion { insert_text: label.clone(), label, kind, detail, documentation, replace_range: replaced_range.clone() }
}
