//! Finds values that orch reads and other YAML tools refuse. Such values are no mistakes of a pipeline, so only
//! `validate --strict` and `validate --fix` look for them.

use crate::config::{Document, Project};
use crate::diagnostic::{Code, Diagnostic};

/// Checks the pipeline file and `orch.yaml`.
pub(super) fn check(project: &Project) -> Vec<Diagnostic> {
    let documents = std::iter::once(&project.document).chain(&project.settings_document);
    documents.flat_map(check_portability).collect()
}

/// Returns a warning for each plain scalar between brackets or braces that contains a `?`. YAML 1.1 parsers such as
/// PyYAML end the scalar there, so that they refuse `inputs: [plan, code?]`.
pub fn check_portability(document: &Document) -> Vec<Diagnostic> {
    let spans = document.spans.unportable_scalars().iter();
    let diagnostics = spans.map(|span| {
        let text = document.file.text.get(span.clone()).unwrap_or_default();
        if text.contains('\n') {
            let message = "other YAML tools cannot read this value without quotes";
            let diagnostic = Diagnostic::warning(Code::UnportableYaml, message).with_span(&document.file, span.clone());
            return diagnostic.with_help("put quotes around it: other tools read `?` between brackets as syntax");
        }
        let message = format!("other YAML tools cannot read `{text}` without quotes");
        let quoted = quote(text);
        Diagnostic::warning(Code::UnportableYaml, message)
            .with_span(&document.file, span.clone())
            .with_help(format!("write `{quoted}`: other tools read `?` between brackets as syntax"))
            .with_replacement(text, Some(&quoted))
    });
    diagnostics.collect()
}

/// Puts quotes around a plain scalar, so that YAML reads the same text.
fn quote(text: &str) -> String {
    if text.contains(['"', '\\']) { format!("'{}'", text.replace('\'', "''")) } else { format!("\"{text}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::diagnostic::SourceFile;

    /// The text with all fixes applied.
    fn fixed(text: &str) -> String {
        let document = parse(&SourceFile::new("p.yaml", text)).unwrap();
        let mut out = text.to_owned();
        for finding in check_portability(&document).into_iter().rev() {
            let fix = finding.fix.unwrap();
            out.replace_range(fix.span, &fix.replacement);
        }
        out
    }

    #[test]
    fn plain_scalars_with_a_question_mark_between_brackets_get_quotes() {
        for (text, expected) in [
            ("inputs: [plan, code?]\n", "inputs: [plan, \"code?\"]\n"),
            ("- { ask: Really? , b?: c }\n", "- { ask: \"Really?\" , \"b?\": c }\n"),
            ("a: [ it's \"x\"? ]\n", "a: [ 'it''s \"x\"?' ]\n"),
            ("a: [ \\d? ]\n", "a: [ '\\d?' ]\n"),
        ] {
            assert_eq!(fixed(text), expected);
            let value = |text: &str| parse(&SourceFile::new("p.yaml", text)).unwrap().value;
            assert_eq!(value(text), value(expected), "{text}");
        }
    }

    #[test]
    fn quoted_scalars_and_block_style_are_portable() {
        let text = "a: [\"b?\", 'c?']\nd:\n  - e?\nf: g?\nh: |\n  [i?]\n";
        assert_eq!(fixed(text), text);
    }
}
