//! The project files that lie inside the workspace, which no step may overwrite.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::Project;
use crate::engine::Plan;

use super::error::SessionError;

/// The project files in a workspace, relative to it; `workspace` is absolute, with links resolved.
fn files(project: &Project, here: &Path, workspace: &Path) -> Vec<String> {
    let inside = |path: PathBuf| {
        let relative = real(&here.join(path))?.strip_prefix(workspace).ok()?.to_path_buf();
        let names = relative.components().map(|name| name.as_os_str().to_string_lossy());
        Some(names.collect::<Vec<_>>().join("/"))
    };
    project.files().into_iter().filter_map(inside).collect::<BTreeSet<_>>().into_iter().collect()
}

/// A path with links resolved. If it does not exist, links in its nearest existing parent are resolved.
fn real(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok().or_else(|| Some(real(path.parent()?)?.join(path.file_name()?)))
}

/// The plan for a run in the default workspace.
pub(crate) fn beside(plan: Plan, project: &Project, here: &Path) -> Plan {
    let workspace = super::execute::workspace(None, here);
    match real(&workspace) {
        Some(workspace) => plan.beside(files(project, here, &workspace)),
        None => plan,
    }
}

/// Refuses a plan with an artifact file that would replace a project file.
fn check(plan: &Plan, own: &[String]) -> Result<(), SessionError> {
    let Some(path) = plan.paths().into_iter().find(|path| own.contains(path)) else { return Ok(()) };
    Err(SessionError::usage(format!("the artifact file `{path}` would take the place of a file of the project"))
        .hint("give another --workspace, or another name to the `output:`"))
}

/// Checks a plan against the project files in its workspace. Returns the plan with these files protected, and the
/// files.
pub(crate) fn checked(
    plan: Plan,
    project: &Project,
    here: &Path,
    workspace: &Path,
) -> Result<(Plan, Vec<String>), SessionError> {
    let own = files(project, here, workspace);
    check(&plan, &own)?;
    Ok((plan.beside(own.clone()), own))
}
