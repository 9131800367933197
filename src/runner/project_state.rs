//! Finds the project of the current folder, and its journal.

use std::path::{Path, PathBuf};

use crate::check::load_valid_settings;
use crate::config::{self, Settings, Sources};
use crate::diagnostic::Diagnostic;
use crate::model::RunStatus;
use crate::report::SuggestedCommands;
use crate::store::{Journal, RunRow};

use super::error::RunnerError;
use super::execute::resolve_path;

/// The folder that contains orch's journal.
#[derive(Clone, Debug, Default)]
pub struct StateFolder(Option<PathBuf>);

impl StateFolder {
    /// Creates the state folder at `path`, which is absolute or relative to the process's current folder. If `path` is
    /// `None`, the folder is `.orch` in the project's root.
    pub fn new(path: Option<PathBuf>) -> Self {
        Self(path)
    }

    /// Whether the user chose the folder.
    pub(crate) fn is_explicit(&self) -> bool {
        self.0.is_some()
    }

    /// The path of the state folder for a project's root. orch follows a link only if the user chose the folder,
    /// because a project could contain a link named `.orch`.
    pub(crate) fn path_for(&self, root: &Path) -> PathBuf {
        self.0.clone().map_or_else(|| root.join(".orch"), resolve_link)
    }

    /// Opens the existing journal of a project.
    pub(crate) fn open_journal(&self, root: &Path) -> Result<Journal, RunnerError> {
        let folder = self.path_for(root);
        Journal::open_existing(&folder)?.ok_or_else(|| {
            RunnerError::usage(format!("there are no runs in `{}`", folder.display()))
                .with_hint("change to the project's folder, or name the folder of its journal with --state")
        })
    }
}

/// Resolves a folder that the user chose, if the folder is a link.
pub(crate) fn resolve_link(path: PathBuf) -> PathBuf {
    if path.is_symlink() { path.canonicalize().unwrap_or(path) } else { path }
}

/// The settings of the project in `root`. `current_dir` determines how findings show the path of the file.
///
/// # Errors
/// Every mistake of `orch.yaml`.
pub(crate) fn project_settings(root: &Path, current_dir: &Path) -> Result<Settings, Vec<Diagnostic>> {
    load_valid_settings(&Sources::default(), &resolve_path(root, current_dir))
}

/// Finds the root of the project that contains a folder.
pub(crate) fn project_root(folder: &Path) -> PathBuf {
    // A broken link also counts as a `pipelines` folder, so that orch reports the error when it reads the folder.
    let has_pipelines = |folder: &Path| match std::fs::metadata(folder.join("pipelines")) {
        Ok(metadata) => metadata.is_dir(),
        Err(_) => folder.join("pipelines").is_symlink(),
    };
    let root = folder.ancestors().find(|folder| config::has_settings_file(folder) || has_pipelines(folder));
    root.map_or_else(|| config::find_root(&folder.join("pipeline.yaml")), Path::to_owned)
}

/// Lists the absolute paths of a project's pipeline files. Also returns a diagnostic for each unreadable file or folder
/// in `pipelines/`.
pub(crate) fn pipeline_files(root: &Path, current_dir: &Path) -> (Vec<PathBuf>, Vec<Diagnostic>) {
    let pipelines = config::pipeline_listing(&resolve_path(root, current_dir));
    (pipelines.names.iter().map(|name| root.join(name)).collect(), pipelines.into_diagnostics())
}

/// Finds the run whose id is `name` or starts with `name`.
pub(crate) fn find_run(journal: &Journal, name: &str) -> Result<RunRow, RunnerError> {
    let mut rows = journal.find_runs(name)?;
    match rows.len() {
        1 => Ok(rows.remove(0)),
        0 => Err(RunnerError::usage(format!("there is no run `{name}`")).with_hint("`orch runs list` shows past runs")),
        _ => {
            let ids: Vec<String> = rows.iter().map(|row| row.run.to_string()).collect();
            let error = RunnerError::usage(format!("`{name}` matches several runs: {}", ids.join(", ")));
            Err(error.with_hint("use more digits of the id"))
        }
    }
}

/// Finds the run with this id, or the latest run that did not complete.
pub(crate) fn find_run_or_latest_incomplete(journal: &Journal, name: Option<&str>) -> Result<RunRow, RunnerError> {
    if let Some(name) = name {
        find_run(journal, name)
    } else {
        let latest = journal.runs(1000)?.into_iter().find(|row| row.status != RunStatus::Completed);
        if latest.is_none() && journal.runs(1)?.is_empty() {
            return Err(RunnerError::usage("there are no runs yet").with_hint("`orch pipeline run` starts one"));
        }
        latest.ok_or_else(|| {
            RunnerError::usage("every run is completed")
                .with_hint("name a run to repeat its changed steps: `orch runs list` shows all runs")
        })
    }
}

/// Adds `--state` to the suggested commands if they need it to find the journal from the current folder.
pub(crate) fn commands_for_journal(
    journal: &Path,
    current_dir: &Path,
    commands: &SuggestedCommands,
) -> SuggestedCommands {
    let default_folder = project_root(current_dir).join(".orch");
    let is_default = default_folder == journal
        || default_folder.canonicalize().is_ok_and(|path| Some(path) == journal.canonicalize().ok());
    commands.clone().with_state((!is_default).then(|| journal.strip_prefix(current_dir).unwrap_or(journal)))
}
