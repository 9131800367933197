//! Formats the results of test cases as a JUnit report, which most CI systems can show.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use crate::model::visible::escape_unsafe;

/// The result of a test case.
#[derive(Clone, Debug)]
pub struct CaseResult {
    /// The path of the test case's file, relative to the current folder if possible.
    pub name: String,
    /// The differences from the expected result. Empty if the test case passed.
    pub problems: Vec<String>,
    /// The duration of the test case.
    pub duration: Duration,
}

/// Creates the report for these results, as XML. Escapes the characters that XML forbids.
///
/// # Errors
/// The XML writer failed.
pub fn junit_report(results: &[CaseResult]) -> Result<String, SerializeError> {
    let mut suite = TestSuite::new("pipelines");
    for result in results {
        let status = match result.problems.first() {
            None => TestCaseStatus::success(),
            Some(first) => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(escape_unsafe(first)).set_description(escape_unsafe(&result.problems.join("\n")));
                status
            }
        };
        let mut case = TestCase::new(escape_unsafe(&result.name), status);
        case.set_time(result.duration);
        suite.add_test_case(case);
    }
    let mut report = Report::new("orch");
    report.add_test_suite(suite);
    report.to_string()
}
