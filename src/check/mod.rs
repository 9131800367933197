//! Static checks over a loaded project: does it fit together?
//!
//! One file a concern; all of them run, and everything that they find is reported. What
//! passes does not fail at run time for anything that a file could have told. Refuses to
//! read files or to run anything.

mod agents;
mod facts;
mod filters;
mod flow;
mod infer;
mod names;
mod operators;
mod properties;
mod schemas;
mod scope;
mod statements;
mod texts;
mod types;

use crate::config::Project;
use crate::diagnostic::{Diagnostic, sort};

/// Everything that is wrong, or likely not meant, in a project; sorted by file and place.
pub fn check(project: &Project) -> Vec<Diagnostic> {
    let mut found = project.problems.clone();
    found.extend(names::check(project));
    found.extend(agents::check(project));
    found.extend(flow::check(project));
    found.extend(schemas::check(project));
    found.extend(texts::check(project));
    sort(&mut found);
    found
}
