//! Checks one file: a pipeline with all files that it names, or a test case against its pipeline.

use std::path::Path;

use super::{check, check_case, suppressions};
use crate::config::{self, Sources};
use crate::diagnostic::{Code, Diagnostic};

/// Checks a pipeline or a test case, and returns all findings.
pub fn check_file(sources: &Sources, path: &Path) -> Vec<Diagnostic> {
    if config::is_case(path) {
        return check_case_file(sources, path);
    }
    match config::load_from(sources, path) {
        Ok(project) => check(&project),
        Err(diagnostics) => diagnostics,
    }
}

/// Checks a test case against its pipeline. Omits mistakes of the pipeline itself, which the check of the pipeline
/// reports.
fn check_case_file(sources: &Sources, path: &Path) -> Vec<Diagnostic> {
    let (document, case) = match config::load_case_from(sources, path) {
        Ok(loaded) => loaded,
        Err(diagnostics) => return diagnostics,
    };
    let pipeline = path.parent().unwrap_or(Path::new(".")).join(&case.pipeline);
    match config::load_from(sources, &pipeline) {
        Ok(project) => suppressions::apply_to_file(&document, check_case(&document, &case, &project)),
        Err(_) if sources.exists(&pipeline) => Vec::new(),
        Err(_) => {
            let message = format!("the pipeline `{}` does not exist", case.pipeline);
            let span = document.spans.value("/pipeline");
            let diagnostic = Diagnostic::error(Code::PipelineNotFound, message).with_span(&document.file, span);
            vec![diagnostic.with_help("the path is relative to the test case, such as `../default.yaml`")]
        }
    }
}
