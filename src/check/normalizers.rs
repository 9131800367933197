//! Checks the patterns of normalizers, in `orch.yaml` and in test cases.

use crate::config::{Document, Settings, child_pointer, item_pointer};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::Normalizer;

/// Checks the normalizers of `orch.yaml`.
pub(super) fn check(document: &Document, settings: &Settings) -> Vec<Diagnostic> {
    check_list(document, "/recordings/normalize", &settings.recordings.normalize)
}

/// Checks the normalizers of a test case.
pub fn check_case_normalizers(document: &Document, normalizers: &[Normalizer]) -> Vec<Diagnostic> {
    check_list(document, "/normalize", normalizers)
}

fn check_list(document: &Document, list_pointer: &str, normalizers: &[Normalizer]) -> Vec<Diagnostic> {
    let check_normalizer = |(index, normalizer): (usize, &Normalizer)| {
        let error = normalizer.compile().err()?;
        let pointer = child_pointer(&item_pointer(list_pointer, index), "match");
        let span = match error.span {
            Some(range) => document.span_in_value(&pointer, range),
            None => document.spans.value(&pointer),
        };
        let message = format!("`match` is not a usable pattern: {}", error.message);
        let diagnostic = Diagnostic::error(Code::WrongValue, message).with_span(&document.file, span);
        Some(diagnostic.with_help(
            "`match` is a regular expression without look-around and back-references, such as `seed [0-9]+`",
        ))
    };
    normalizers.iter().enumerate().filter_map(check_normalizer).collect()
}
