//! Static checks over a loaded project: whatever files can tell, told before anything is paid for.
//!
//! One file a concern; every finding is collected, none stops the others.

mod agents;
mod data_flow;
mod schemas;
mod templates;

use crate::config::Project;
use crate::diagnostic::{Code, Diagnostic};

/// Every finding of a project, those of loading included, in the order of files and places.
pub fn check(project: &Project) -> Vec<Diagnostic> {
    let mut findings = project.findings.clone();
    data_flow::check(project, &mut findings);
    agents::check(project, &mut findings);
    schemas::check(project, &mut findings);
    templates::check(project, &mut findings);
    let place = |finding: &Diagnostic| {
        (finding.source.path.clone(), finding.span.as_ref().map_or(0, |span| span.start), finding.code)
    };
    findings.sort_by_key(place);
    findings.dedup();
    findings
}

/// A finding at the value of a JSON pointer into the pipeline file.
fn at(project: &Project, code: Code, message: impl Into<String>, pointer: &str) -> Diagnostic {
    Diagnostic::new(code, message, &project.document.source, project.document.value_span(pointer))
}

/// The same at the key.
fn at_key(project: &Project, code: Code, message: impl Into<String>, pointer: &str) -> Diagnostic {
    Diagnostic::new(code, message, &project.document.source, project.document.key_span(pointer))
}
