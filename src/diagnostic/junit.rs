//! Renders findings as a JUnit report, which most CI systems show: one suite per file, one case per finding.

use std::collections::BTreeMap;

use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use crate::model::visible::{escape_line_breaks, escape_unsafe};

use super::render::render_line;
use super::{Diagnostic, RenderStyle, render};

/// Renders the report of a check: a failed case for each error, a passed case with its text for each warning, and one
/// passed case for each checked file without a finding.
///
/// # Errors
/// The texts can't be written as XML. This function first escapes the characters that XML forbids.
pub fn render_junit(checked_files: &[String], findings: &[Diagnostic]) -> Result<String, SerializeError> {
    let mut files: BTreeMap<&str, Vec<&Diagnostic>> =
        checked_files.iter().map(|path| (path.as_str(), Vec::new())).collect();
    let sanitize = |path: &str| escape_unsafe(&escape_line_breaks(path)).into_owned();
    for finding in findings {
        let path = finding.file.as_ref().map_or("project", |file| file.path.as_str());
        files.entry(path).or_default().push(finding);
    }
    let mut report = Report::new("orch");
    for (path, findings) in files {
        let path = sanitize(path);
        let path = path.as_str();
        let mut suite = TestSuite::new(path);
        if findings.is_empty() {
            suite.add_test_case(test_case(path, "no findings".to_owned(), TestCaseStatus::success()));
        }
        for finding in findings {
            suite.add_test_case(finding_case(path, finding));
        }
        report.add_test_suite(suite);
    }
    report.to_string()
}

fn finding_case(path: &str, finding: &Diagnostic) -> TestCase {
    let position = finding.line_column().map_or_else(String::new, |(line, column)| format!(" at {line}:{column}"));
    let name = format!("{}{position}", finding.code);
    if !finding.is_error() {
        let mut passed = test_case(path, name, TestCaseStatus::success());
        passed.set_system_out(render_line(finding));
        return passed;
    }
    let style = RenderStyle { width: RenderStyle::UNLIMITED_WIDTH, ..RenderStyle::default() };
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status
        .set_message(escape_unsafe(&escape_line_breaks(&finding.message)))
        .set_type(finding.code.as_str())
        .set_description(render(finding, style));
    test_case(path, name, status)
}

fn test_case(path: &str, name: String, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname(path);
    case.extra.insert("file".into(), path.into());
    case
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{Code, SourceFile};

    #[test]
    fn errors_are_failed_cases_and_warnings_are_passed_cases() {
        let file = SourceFile::new("a.yaml", "x: <y>\u{1}");
        let findings = [
            Diagnostic::error(Code::UnknownArtifact, "no step produces `<y>\u{1}`").with_span(&file, 3..6),
            Diagnostic::warning(Code::UnusedInput, "unused").with_span(&file, 0..1),
        ];
        let text = render_junit(&["a.yaml".to_owned(), "b.yaml".to_owned()], &findings).unwrap();
        assert!(text.contains("name=\"orch\" tests=\"3\"") && text.contains("failures=\"1\" errors=\"0\""), "{text}");
        assert!(text.contains("name=\"ORCH0305 at 1:4\"") && text.contains(r"`&lt;y&gt;\u{1}`"), "{text}");
        assert!(text.contains("name=\"b.yaml\"") && text.contains("no findings"), "{text}");
        assert!(!text.contains('\u{1}'), "{text}");
    }
}
