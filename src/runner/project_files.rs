//! The project files, which no step may overwrite and no confined program may change.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::{self, Project, SETTINGS_FILE};
use crate::engine::Plan;

use super::error::RunnerError;

/// The project files inside `workspace`, as paths relative to it. `workspace` must be an absolute path without links.
fn files_in_workspace(project: &Project, current_dir: &Path, workspace: &Path) -> Vec<String> {
    let relative_path = |path: PathBuf| {
        let relative = path.strip_prefix(workspace).ok()?;
        let components = relative.components().map(|component| component.as_os_str().to_string_lossy());
        Some(components.collect::<Vec<_>>().join("/"))
    };
    let paths = source_paths(project, current_dir).into_iter().filter_map(relative_path);
    paths.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The files of a project, absolute and with links resolved. Some of them may not exist.
pub(crate) fn source_paths(project: &Project, current_dir: &Path) -> Vec<PathBuf> {
    let paths = project.source_paths().into_iter();
    paths.filter_map(|path| resolve_links(&current_dir.join(path))).collect()
}

/// The paths at which a project may have an `orch.yaml`: in the root, and in each folder from a file or a pipeline up to
/// the root. Ignores files outside of the root.
pub(super) fn settings_paths(root: &Path, files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let pipelines = config::list_pipelines(root).into_iter().map(|name| root.join(name));
    let mut folders: BTreeSet<PathBuf> = [root.to_owned()].into();
    for file in files.iter().cloned().chain(pipelines) {
        let parents = file.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
        folders.extend(parents.map(Path::to_owned));
    }
    folders.into_iter().map(|folder| folder.join(SETTINGS_FILE)).collect()
}

/// Resolves the links in a path. If the path does not exist, resolves the links in its nearest existing parent.
pub(super) fn resolve_links(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok().or_else(|| Some(resolve_links(path.parent()?)?.join(path.file_name()?)))
}

/// Protects the project files inside the default workspace from the steps of a plan.
pub(crate) fn protect_project_files(plan: Plan, project: &Project, current_dir: &Path) -> Plan {
    let workspace = super::execute::workspace_path(None, current_dir);
    match resolve_links(&workspace) {
        Some(workspace) => plan.with_project_files(files_in_workspace(project, current_dir, &workspace)),
        None => plan,
    }
}

/// Returns an error if an artifact file of the plan would overwrite a project file.
fn check_artifact_paths(plan: &Plan, project_files: &[String]) -> Result<(), RunnerError> {
    // `files_in_workspace` returns a sorted list.
    let is_project_file = |path: &String| project_files.binary_search(path).is_ok();
    let Some(path) = plan.artifact_paths().into_iter().find(is_project_file) else { return Ok(()) };
    Err(RunnerError::usage(format!("the artifact file `{path}` would overwrite a project file"))
        .with_hint("use another --workspace, or rename the `output:`"))
}

/// Checks that no artifact file of a plan would overwrite a project file, and protects the project files inside the
/// workspace from the plan's steps. Also returns the paths of these files.
pub(crate) fn check_and_protect(
    plan: Plan,
    project: &Project,
    current_dir: &Path,
    workspace: &Path,
) -> Result<(Plan, Vec<String>), RunnerError> {
    let project_files = files_in_workspace(project, current_dir, workspace);
    check_artifact_paths(&plan, &project_files)?;
    Ok((plan.with_project_files(project_files.clone()), project_files))
}
