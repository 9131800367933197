//! The files that a command or a CLI agent changed, as recordings contain them.

use serde::{Deserialize, Serialize};

use super::RecordingContext;
use super::paths::RunPaths;
use crate::files::{ChangeSet, Content, FileChange, FileState, check_path, repository_files};
use crate::model::AgentActivity;

/// Folders of caches, whose files no later step needs.
const CACHE_FOLDERS: &[&str] = &[
    "__pycache__",
    ".cache",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".tox",
    ".venv",
    "venv",
    ".gradle",
    ".next",
];

/// The maximum number of files that a message lists.
const MAX_LISTED_FILES: usize = 5;

/// The changes of files in a recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct RecordedChanges {
    /// The files, with their contents before and after.
    #[serde(default)]
    pub(super) files: Vec<FileChange>,
    /// The folders that did not exist before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    new_folders: Vec<String>,
    /// Changed files that the recording lacks: they are too large, not regular files, or contain a secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
    /// Whether changes may be missing, because the workspace has too many files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

impl RecordedChanges {
    /// The changes that a program made, without secrets and independent of the folders of the run.
    pub(super) fn new(activity: &AgentActivity, context: &RecordingContext<'_>) -> Self {
        let activity = context.redactor.redact_activity(activity.clone());
        let record = activity.files.map(serde_json::from_value::<ChangeSet>).transpose();
        let partial = activity.partial || record.is_err();
        let record = record.ok().flatten().unwrap_or_default();
        let refused_files = repository_files(&record);
        let ChangeSet { files, new_folders } = record;
        let (files, refused): (Vec<FileChange>, Vec<FileChange>) = files
            .into_iter()
            .filter(|change| !is_in_cache(&change.path))
            .partition(|change| check_path(&change.path).is_ok() && !refused_files.contains(&change.path));
        let files: Vec<FileChange> = files
            .into_iter()
            .map(|change| FileChange {
                before: change.before.map(|state| FileState { mode: None, ..portable_state(state, context.paths) }),
                after: change.after.map(|state| portable_state(state, context.paths)),
                path: change.path,
            })
            .collect();
        let contains_file = |folder: &String| {
            let is_inside = |path: &str| path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'));
            files.iter().any(|change| is_inside(&change.path))
        };
        let new_folders = new_folders.into_iter().filter(contains_file).collect();
        let left_out = activity.left_out.into_iter().chain(refused.into_iter().map(|change| change.path));
        let left_out = left_out.filter(|path| !is_in_cache(path)).collect();
        Self { files, new_folders, left_out, partial }
    }

    /// What a replay of these changes lacks; `None` if they are complete.
    pub(super) fn omission(&self) -> Option<String> {
        let listed: Vec<String> = self.left_out.iter().take(MAX_LISTED_FILES).map(|path| format!("`{path}`")).collect();
        let more_count = self.left_out.len() - listed.len();
        let more = if more_count > 0 { format!(" and {more_count} more files") } else { String::new() };
        let listed = listed.join(", ");
        match (self.left_out.is_empty(), self.partial) {
            (true, false) => None,
            (false, false) => Some(format!("the recording lacks the changes of {listed}{more}")),
            (false, true) => {
                Some(format!("the recording lacks the changes of {listed}{more}, and may lack changes of other files"))
            }
            (true, true) => Some("the recording may lack changes of files".to_owned()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.left_out.is_empty() && !self.partial
    }

    /// The changes with the folders of this run; `None` if there are none.
    pub(super) fn change_set(&self, paths: &RunPaths) -> Option<ChangeSet> {
        let fill = |state: &FileState| map_text(state.clone(), |text| paths.fill_placeholders(text));
        let files: Vec<FileChange> = self
            .files
            .iter()
            .map(|change| FileChange {
                path: change.path.clone(),
                before: change.before.as_ref().map(fill),
                after: change.after.as_ref().map(fill),
            })
            .collect();
        (!files.is_empty()).then(|| ChangeSet { files, new_folders: self.new_folders.clone() })
    }
}

fn is_in_cache(path: &str) -> bool {
    path.split('/').any(|name| CACHE_FOLDERS.contains(&name))
}

/// A state for a recording. Of its mode, only the right to execute the file does not depend on the user.
fn portable_state(state: FileState, paths: &RunPaths) -> FileState {
    let mode = state.mode.filter(|mode| mode & 0o111 != 0).map(|_| 0o755);
    map_text(FileState { mode, ..state }, |text| paths.to_placeholders(text))
}

/// Changes the content of a state if it is a text.
fn map_text(state: FileState, change: impl Fn(&str) -> String) -> FileState {
    match state.content.text() {
        Some(text) => FileState { content: Content::from(change(text).into_bytes()), mode: state.mode },
        None => state,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::secret::Redactor;

    fn recorded(activity: &AgentActivity) -> RecordedChanges {
        let (redactor, paths) = (Redactor::default(), RunPaths::default());
        RecordedChanges::new(activity, &RecordingContext { redactor: &redactor, paths: &paths })
    }

    #[test]
    fn a_recording_lacks_the_files_of_a_new_repository() {
        let state = || FileState { content: Content::from(b"x".to_vec()), mode: None };
        let file = |path: &str| FileChange { path: path.to_owned(), before: None, after: Some(state()) };
        let change_set = ChangeSet {
            files: ["a.txt", "x.git/HEAD", "x.git/config"].map(file).into(),
            new_folders: ["x.git", "x.git/objects", "x.git/refs"].map(str::to_owned).into(),
        };
        let files = serde_json::to_value(&change_set).unwrap();
        let changes = recorded(&AgentActivity { files: Some(files), ..AgentActivity::default() });
        let paths: Vec<&str> = changes.files.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["a.txt"]);
        assert_eq!(changes.left_out, ["x.git/HEAD", "x.git/config"]);
        assert!(changes.new_folders.is_empty());
    }

    #[test]
    fn what_a_recording_lacks_is_described() {
        let activity = |count: usize, partial: bool| AgentActivity {
            left_out: (1..=count).map(|number| format!("file {number}")).collect(),
            partial,
            ..AgentActivity::default()
        };
        let omission = |count: usize, partial: bool| recorded(&activity(count, partial)).omission();
        assert_eq!(omission(0, false), None);
        assert_eq!(omission(0, true).unwrap(), "the recording may lack changes of files");
        assert_eq!(omission(1, false).unwrap(), "the recording lacks the changes of `file 1`");
        let text = omission(7, true).unwrap();
        assert!(text.contains("`file 5` and 2 more files, and may lack changes of other files"), "{text}");
    }

    #[test]
    fn a_record_that_cannot_be_read_is_not_recorded_as_no_changes() {
        let files = Some(json!({ "files": "no list" }));
        let recorded = recorded(&AgentActivity { files, ..AgentActivity::default() });
        assert!(!recorded.is_empty() && recorded.omission().is_some(), "{recorded:?}");
    }
}
