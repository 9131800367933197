//! The files that a command or a CLI agent changed, as recordings contain them.

use serde::{Deserialize, Serialize};

use super::RecordingContext;
use super::paths::RunPaths;
use crate::files::{ChangeSet, Content, FileChange, FileState, check_path, repository_files};
use crate::model::{AgentActivity, describe_partial};

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
    /// Whether changes may be missing, because orch could not compare all files of the workspace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
    /// Why orch could not compare them; may be empty in a recording of an earlier version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    partial_reasons: Vec<String>,
}

impl RecordedChanges {
    /// The changes that a program made, without secrets and independent of the folders of the run.
    pub(super) fn new(activity: &AgentActivity, context: &RecordingContext<'_>) -> Self {
        let mut activity = context.redactor.redact_activity(activity.clone());
        let record = activity.files.take().map(serde_json::from_value::<ChangeSet>).transpose();
        let record = record.unwrap_or_else(|error| {
            activity.add_partial_reason(format!("the record of the changes can't be read: {error}"));
            None
        });
        let record = record.unwrap_or_default();
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
        let reasons = activity.partial_reasons.iter().map(|reason| context.paths.to_placeholders(reason));
        Self { files, new_folders, left_out, partial: activity.partial, partial_reasons: reasons.collect() }
    }

    /// What a replay of these changes lacks, or may lack, with `it` for the recording; `None` if they are complete.
    pub(super) fn omission(&self, paths: &RunPaths) -> Option<String> {
        let listed: Vec<String> = self.left_out.iter().take(MAX_LISTED_FILES).map(|path| format!("`{path}`")).collect();
        let more = match self.left_out.len() - listed.len() {
            0 => String::new(),
            1 => " and 1 more file".to_owned(),
            count => format!(" and {count} more files"),
        };
        let left_out = (!listed.is_empty()).then(|| format!("it lacks the changes of {}{more}", listed.join(", ")));
        let reasons: Vec<String> = self.partial_reasons.iter().map(|reason| paths.fill_placeholders(reason)).collect();
        let partial = self.partial.then(|| describe_partial(&reasons));
        let phrases: Vec<String> = left_out.into_iter().chain(partial).collect();
        (!phrases.is_empty()).then(|| phrases.join("; "))
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
        let omission = |activity: &AgentActivity| {
            let json = serde_json::to_value(recorded(activity)).unwrap();
            serde_json::from_value::<RecordedChanges>(json).unwrap().omission(&RunPaths::default())
        };
        let mut activity = AgentActivity::default();
        assert_eq!(omission(&activity), None);
        activity.left_out = ["a", "b", ".venv/x"].map(str::to_owned).to_vec();
        assert_eq!(omission(&activity).unwrap(), "it lacks the changes of `a`, `b`", "no later step needs a cache");
        activity.left_out.extend(["c", "d", "e", "f"].map(str::to_owned));
        let listed = "it lacks the changes of `a`, `b`, `c`, `d`, `e` and 1 more file";
        assert_eq!(omission(&activity).unwrap(), listed);
        activity.add_partial_reason("`sub` can't be read");
        let partial = "orch could not compare everything: `sub` can't be read";
        assert_eq!(omission(&activity).unwrap(), format!("{listed}; {partial}"));
        activity.left_out.clear();
        assert_eq!(omission(&activity).unwrap(), partial);
        let old: RecordedChanges = serde_json::from_value(json!({ "partial": true })).unwrap();
        assert_eq!(old.omission(&RunPaths::default()).unwrap(), "orch could not compare everything");
    }

    #[test]
    fn a_record_that_cannot_be_read_is_not_recorded_as_no_changes() {
        let files = Some(json!({ "files": "no list" }));
        let recorded = recorded(&AgentActivity { files, ..AgentActivity::default() });
        let omission = recorded.omission(&RunPaths::default()).unwrap();
        assert!(!recorded.is_empty() && omission.contains("the record of the changes can't be read"), "{omission}");
    }
}
