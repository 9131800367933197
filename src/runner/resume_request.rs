//! The request to resume a run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::model::budget::Budget;

use super::artifact_drift::ChangedFilesPolicy;
use super::project_state::StateFolder;

/// The run to resume with [`Runner::resume`](super::Runner::resume), and the options of the resume.
#[derive(Clone, Debug, Default)]
pub struct ResumeRequest {
    /// The run's id or the start of its id. If `None`, orch resumes the latest run that did not complete.
    pub run: Option<String>,
    /// The workspace. Required if the user copied the run's journal from another machine or folder. If `None`, orch
    /// uses the recorded workspace.
    pub workspace: Option<PathBuf>,
    /// The folder of the journal.
    pub state: StateFolder,
    /// The model that replaces the model of every agent, also in later resumes.
    pub model: Option<String>,
    /// The models and CLI agents that replace single agents from now on; see [`RunRequest`](super::RunRequest).
    pub agents: BTreeMap<String, String>,
    /// Whether steps that do not depend on a failed step still run.
    pub continue_on_error: bool,
    /// A step that runs again even if orch could reuse its result.
    pub from_step: Option<String>,
    /// What orch does with files that the user changed or removed since the run wrote them.
    pub changed_files: ChangedFilesPolicy,
    /// Whether orch may download the embedded model without asking the user.
    pub may_download: bool,
    /// The budget that replaces the budget in the pipeline file, also in later resumes.
    pub budget: Option<Budget>,
    /// The folder into which orch writes each exchange with a model.
    pub recording_folder: Option<PathBuf>,
    /// The folder of the recordings that a run replays, if it is not the recorded folder.
    pub replay_folder: Option<PathBuf>,
    /// The digest that `orch trust` prints, if the user agreed to what orch.yaml sends to other machines.
    pub trusted_digest: Option<String>,
}
