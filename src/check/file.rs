//! Checks one file: a pipeline with all files that it names, or a test case against its pipeline.

use std::path::Path;

use super::suppressions::{SuppressionOptions, apply_to_file};
use super::{Strictness, check_case, check_portability, check_with_suppressions};
use crate::config::{self, Sources};
use crate::diagnostic::{Code, Diagnostic};

/// Checks a pipeline or a test case, and returns all findings.
pub fn check_file(sources: &Sources, path: &Path, strictness: Strictness) -> Vec<Diagnostic> {
    if config::is_case(path) {
        return check_case_file(sources, path, strictness);
    }
    match config::load_from(sources, path) {
        Ok(project) => check_with_suppressions(&project, strictness).0,
        Err(diagnostics) => diagnostics,
    }
}

/// Checks a test case against its pipeline. Omits mistakes of the pipeline itself, which the check of the pipeline
/// reports.
fn check_case_file(sources: &Sources, path: &Path, strictness: Strictness) -> Vec<Diagnostic> {
    let (document, case) = match config::load_case_from(sources, path) {
        Ok(loaded) => loaded,
        Err(diagnostics) => return diagnostics,
    };
    let pipeline = path.parent().unwrap_or(Path::new(".")).join(&case.pipeline);
    let (mut findings, is_loaded) = match config::load_from(sources, &pipeline) {
        Ok(project) => (check_case(&document, &case, &project), true),
        Err(_) if sources.exists(&pipeline) => (Vec::new(), false),
        Err(_) => {
            let message = format!("the pipeline `{}` does not exist", case.pipeline);
            let span = document.spans.value("/pipeline");
            let diagnostic = Diagnostic::error(Code::PipelineNotFound, message).with_span(&document.file, span);
            (vec![diagnostic.with_help("the path is relative to the test case, such as `../default.yaml`")], false)
        }
    };
    if strictness.reports(Code::UnportableYaml) {
        findings.extend(check_portability(&document));
    }
    let has_errors = !is_loaded || findings.iter().any(Diagnostic::is_error);
    apply_to_file(&document, findings, SuppressionOptions { strictness, has_errors })
}
