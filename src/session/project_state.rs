//! Finds the project and its journal from the current folder.

use std::path::{Path, PathBuf};

use crate::config;
use crate::diagnostic::Diagnostic;
use crate::report::PrintedCommands;
use crate::store::{Journal, RunRow};

use super::error::SessionError;
use super::execute::short_path;

/// The folder in which orch keeps its journal.
#[derive(Clone, Debug, Default)]
pub struct StateFolder(Option<PathBuf>);

impl StateFolder {
    /// The folder that the user names, which is absolute or relative to the process's current folder; if `None`,
    /// `.orch` in the project's root.
    pub fn new(named: Option<PathBuf>) -> Self {
        Self(named)
    }

    /// Whether the user named it.
    pub(crate) fn is_named(&self) -> bool {
        self.0.is_some()
    }

    /// The folder for a project's root. A folder that the user names may be a link; `.orch` must not be, since the
    /// project could contain it.
    pub(crate) fn folder(&self, root: &Path) -> PathBuf {
        self.0.clone().map_or_else(|| root.join(".orch"), without_link)
    }

    /// The journal of a project, which must exist.
    pub(crate) fn journal(&self, root: &Path) -> Result<Journal, SessionError> {
        let folder = self.folder(root);
        Journal::open_existing(&folder)?.ok_or_else(|| {
            SessionError::usage(format!("there are no runs in `{}`", folder.display()))
                .hint("go to the project's folder, or give its journal with --state")
        })
    }
}

/// Resolves a folder that the user named if it is a link; a link from the user may be followed.
pub(crate) fn without_link(named: PathBuf) -> PathBuf {
    if named.is_symlink() { named.canonicalize().unwrap_or(named) } else { named }
}

/// The root of the project that a folder belongs to.
pub(crate) fn project_root(here: &Path) -> PathBuf {
    // A folder that can't be read counts too: reading it later reports the reason.
    let has_pipelines = |folder: &Path| match std::fs::metadata(folder.join("pipelines")) {
        Ok(about) => about.is_dir(),
        Err(_) => folder.join("pipelines").is_symlink(),
    };
    let marked = here.ancestors().find(|folder| folder.join("orch.yaml").is_file() || has_pipelines(folder));
    marked.map_or_else(|| config::find_root(&here.join("pipeline.yaml")), Path::to_owned)
}

/// The absolute paths of the pipeline files in a root, and the problems that kept parts of `pipelines/` from being
/// searched.
pub(crate) fn pipeline_files(root: &Path, here: &Path) -> (Vec<PathBuf>, Vec<Diagnostic>) {
    let found = config::look_for_pipelines(&short_path(root, here));
    (found.names.iter().map(|name| root.join(name)).collect(), found.into_problems())
}

/// The only run with this name: its id or the start of it.
pub(crate) fn find_run(journal: &Journal, name: &str) -> Result<RunRow, SessionError> {
    let mut rows = journal.find(name)?;
    match rows.len() {
        1 => Ok(rows.remove(0)),
        0 => Err(SessionError::usage(format!("there is no run `{name}`")).hint("`orch runs list` shows past runs")),
        _ => {
            let names: Vec<String> = rows.iter().map(|row| row.run.to_string()).collect();
            Err(SessionError::usage(format!("`{name}` may be {}", names.join(" or "))).hint("give more of the id"))
        }
    }
}

/// The commands for messages about the runs of a journal, with the options that they need in the current folder.
pub(crate) fn printed_commands(journal: &Path, here: &Path, given: &PrintedCommands) -> PrintedCommands {
    let found = project_root(here).join(".orch");
    let same =
        found == journal || found.canonicalize().ok().is_some_and(|found| Some(found) == journal.canonicalize().ok());
    given.clone().in_state((!same).then(|| journal.strip_prefix(here).unwrap_or(journal)))
}
