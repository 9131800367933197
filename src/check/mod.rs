//! Static checks of a loaded project: do its parts fit together?
//!
//! Each file checks one concern. All checks run, and everything that they find is reported. A project that passes does
//! not fail at run time for a reason that its files could have shown. Checks read files only through `config`, and
//! start no processes.

mod agents;
mod case;
mod contradictions;
mod endpoints;
mod facts;
mod file;
mod filters;
mod flow;
mod infer;
mod joined;
mod kinds;
mod members;
mod models;
mod names;
mod narrow;
mod operators;
mod placeholders;
mod probe;
mod program_usage;
mod programs;
mod properties;
mod schemas;
mod scope;
mod sites;
mod statements;
mod texts;
mod types;

pub use self::case::check_case;
pub use self::file::check_file;
pub use self::models::models;
pub use self::probe::{MARK, NameOrigin, ProbedText, Sight, VisibleName, look, visible};
use self::sites::Sites;
pub use self::texts::check_prompt;
use crate::config::Project;
use crate::diagnostic::{Diagnostic, sort};

/// Everything in a project that is wrong or probably unintended, sorted by file and position.
pub fn check(project: &Project) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (place, project) in project.with_called().into_iter().enumerate() {
        let new = one(project);
        if place == 0 {
            found = new;
        } else {
            // Called pipelines share prompts, schemas and settings with their callers, which would be reported twice.
            found.extend(new.into_iter().filter(|problem| !found.contains(problem)).collect::<Vec<_>>());
        }
    }
    sort(&mut found);
    found
}

/// The findings about one pipeline and the files that it names.
fn one(project: &Project) -> Vec<Diagnostic> {
    let sites = Sites::of(project);
    let mut found = project.problems.clone();
    found.extend(kinds::check(project));
    found.extend(names::check(project));
    found.extend(agents::check(project));
    found.extend(models::check(project));
    found.extend(programs::check(project));
    found.extend(endpoints::check(project));
    found.extend(flow::check(project, &sites));
    found.extend(schemas::check(project));
    found.extend(texts::check(project, &sites));
    found
}
