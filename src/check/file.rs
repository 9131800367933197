//! Checks one file by its kind: a pipeline with everything that it names, or a test case against its pipeline.

use std::path::Path;

use super::{check, check_case};
use crate::config::{self, Sources};
use crate::diagnostic::{Code, Diagnostic};

/// Every mistake of a pipeline or a test case.
pub fn check_file(sources: &Sources, path: &Path) -> Vec<Diagnostic> {
    if config::is_case(path) {
        return case(sources, path);
    }
    match config::load_from(sources, path) {
        Ok(project) => check(&project),
        Err(found) => found,
    }
}

/// Checks a test case against its pipeline. Mistakes of the pipeline itself are left out: they are reported when the
/// pipeline is checked.
fn case(sources: &Sources, path: &Path) -> Vec<Diagnostic> {
    let (document, case) = match config::load_case_from(sources, path) {
        Ok(loaded) => loaded,
        Err(found) => return found,
    };
    let pipeline = path.parent().unwrap_or(Path::new(".")).join(&case.pipeline);
    match config::load_from(sources, &pipeline) {
        Ok(project) => check_case(&document, &case, &project),
        Err(_) if sources.exists(&pipeline) => Vec::new(),
        Err(_) => {
            let message = format!("the pipeline `{}` does not exist", case.pipeline);
            let span = document.spans.value("/pipeline");
            let problem = Diagnostic::error(Code::PipelineNotFound, message).at(&document.file, span);
            vec![problem.help("the path is relative to the test case, as `../default.yaml`")]
        }
    }
}
