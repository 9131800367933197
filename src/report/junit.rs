//! The results of test cases as a JUnit report, which most CI systems show.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use crate::model::visible::visible;

/// The result of a test case.
#[derive(Clone, Debug)]
pub struct CaseResult {
    /// The case's file, as messages show it.
    pub name: String,
    /// What was not as expected; empty if the case passed.
    pub wrong: Vec<String>,
    /// How long the case took.
    pub took: Duration,
}

/// Creates the report for these test cases.
///
/// # Errors
/// The texts can't be written as XML. Characters that XML forbids are escaped before.
pub fn junit(results: &[CaseResult]) -> Result<String, SerializeError> {
    let mut suite = TestSuite::new("pipelines");
    for result in results {
        let status = match result.wrong.first() {
            None => TestCaseStatus::success(),
            Some(first) => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(visible(first)).set_description(visible(&result.wrong.join("\n")));
                status
            }
        };
        let mut case = TestCase::new(visible(&result.name), status);
        case.set_time(result.took);
        suite.add_test_case(case);
    }
    let mut report = Report::new("orch");
    report.add_test_suite(suite);
    report.to_string()
}
