//! What the tools that work on files of the workspace need, for use on another thread.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::files::{
    ApplyReport, ChangeSet, FileEntry, PathIndex, ReadPathError, ReservedFiles, Tree, WorkspaceBaseline, fold_path,
};
use crate::model::visible::escape_line_breaks;
use crate::model::{Failure, FailureClass};
use crate::secret::Redactor;

use super::RecordStart;
use super::change_gate::ChangeGate;
use super::paths::{DESCRIBE_CHANGE, PathAccess, is_in, relative_path};

/// The beginning of the message of a list of files that can't be written.
const REFUSED_FILES: &str = "the files can't be written:";
/// The minimum similarity of a name that a message suggests, from 0 to 1.
const MIN_SIMILARITY: f64 = 0.75;
/// The maximum number of suggested names.
const MAX_SUGGESTIONS: usize = 3;

/// Why a tool did not do what the model asked for.
#[derive(Debug)]
pub(super) enum ToolError {
    /// A sentence for the model, which can do something else.
    Refused(String),
    /// The call can't be performed, so the step fails.
    Failed(Failure),
}

impl From<String> for ToolError {
    fn from(message: String) -> Self {
        Self::Refused(message)
    }
}

impl From<Failure> for ToolError {
    /// A failure about a path is for the model. A full disk is not.
    fn from(failure: Failure) -> Self {
        match failure.class {
            FailureClass::PathRefused | FailureClass::OutputTooLarge => Self::Refused(failure.message),
            _ => Self::Failed(failure),
        }
    }
}

/// The paths of the workspace that a tool may not change.
#[derive(Clone, Debug, Default)]
pub(super) struct ReservedPaths {
    /// The files of artifacts.
    pub(super) artifacts: Vec<String>,
    /// The files that git or orch reads or runs later, such as those that define the run.
    pub(super) protected: Vec<String>,
}

impl ReservedPaths {
    /// Whether a path is reserved, or in a reserved folder.
    fn contains(&self, path: &str) -> bool {
        let folded = fold_path(path);
        self.artifacts.iter().chain(&self.protected).any(|reserved| is_in(&folded, &fold_path(reserved)))
    }
}

/// A call of a tool that works on files.
pub(super) struct FileJob {
    pub(super) tree: Tree,
    /// The path of the workspace.
    pub(super) workspace: PathBuf,
    pub(super) access: PathAccess,
    pub(super) reserved: ReservedPaths,
    pub(super) redactor: Arc<Redactor>,
    pub(super) record_start: RecordStart,
    /// Whether the call has been interrupted or has reached its time limit.
    pub(super) is_cancelled: Arc<AtomicBool>,
    /// Whether the call may change files.
    pub(super) change_gate: Arc<ChangeGate>,
}

impl FileJob {
    /// Whether the call should end as soon as possible.
    pub(super) fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    /// The path in the arguments relative to the workspace, without links, if the tool may read it.
    ///
    /// # Errors
    /// A sentence for the model.
    pub(super) fn readable_path(&self, text: &str) -> Result<String, String> {
        let path = relative_path(&self.workspace, text)?;
        // Also check the path itself, so that the message about a missing file says nothing about a denied folder.
        self.check_not_denied(&path)?;
        let resolved = self.tree.resolve(&path).map_err(|error| self.describe_error(&path, &error))?;
        self.check_not_denied(&resolved)?;
        Ok(resolved)
    }

    fn check_not_denied(&self, path: &str) -> Result<(), String> {
        if self.access.is_denied(path) { self.access.check_reading(path) } else { Ok(()) }
    }

    /// An error about a path as a sentence for the model. For a missing file, suggests similar names.
    pub(super) fn describe_error(&self, path: &str, error: &ReadPathError) -> String {
        let suggestions = match error {
            ReadPathError::NotFound => self.similar_paths(path),
            ReadPathError::Refused(_) => Vec::new(),
        };
        let path = escape_line_breaks(path);
        match error {
            ReadPathError::NotFound if suggestions.is_empty() => {
                format!("`{path}` {error}; check the path, which is relative to the workspace")
            }
            ReadPathError::NotFound => format!("`{path}` {error}; similar paths: {}", suggestions.join(", ")),
            ReadPathError::Refused(_) => format!("`{path}` {error}; choose another path"),
        }
    }

    /// The paths in the same folder whose names are similar to that of a missing file.
    fn similar_paths(&self, path: &str) -> Vec<String> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Ok(folder) = self.tree.resolve(folder) else { return Vec::new() };
        let Ok(entries) = self.tree.list_folder(&folder) else { return Vec::new() };
        let paths = entries.into_iter().map(|entry| (join_path(&folder, &entry.name), entry.name));
        let similarity = |other: &str| strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase());
        let scored = paths.filter(|(path, _)| self.access.allows_reading(path));
        let mut scored: Vec<(f64, String)> = scored.map(|(path, other)| (similarity(&other), path)).collect();
        scored.retain(|(score, _)| *score >= MIN_SIMILARITY);
        scored.sort_by(|left, right| right.0.total_cmp(&left.0));
        scored.into_iter().take(MAX_SUGGESTIONS).map(|(_, path)| format!("`{}`", escape_line_breaks(&path))).collect()
    }

    /// The path in the arguments relative to the workspace, if the tool may change it.
    ///
    /// # Errors
    /// A sentence for the model.
    pub(super) fn writable_path(&self, text: &str) -> Result<String, String> {
        let path = relative_path(&self.workspace, text)?;
        if path.is_empty() {
            let shown = escape_line_breaks(text);
            return Err(format!("`{shown}` is the folder of the workspace, not a file; write the path of a file"));
        }
        self.access.check_writing(&path)?;
        Ok(path)
    }

    /// Plans to write a file with this content.
    pub(super) fn plan(&self, path: &str, content: String) -> Result<ChangeSet, ToolError> {
        let entry = FileEntry { path: path.to_owned(), content: Some(content), mode: None };
        let artifacts = PathIndex::new(self.reserved.artifacts.as_slice());
        let protected = PathIndex::new(self.reserved.protected.as_slice());
        let reserved = ReservedFiles { artifacts: &artifacts, protected: &protected, ..ReservedFiles::default() };
        let planned = self.tree.prepare(&[entry], reserved);
        planned.map_err(|failure| match ToolError::from(failure) {
            ToolError::Refused(message) => {
                ToolError::Refused(format!("nothing was changed: {}; {}", reason_of(&message), self.alternative(path)))
            }
            failed @ ToolError::Failed(_) => failed,
        })
    }

    /// What the model can do in place of changing a path: change the file to which a link leads, or another file.
    fn alternative(&self, path: &str) -> String {
        let resolved = self.tree.resolve(path).ok();
        if self.reserved.contains(path) || resolved.as_ref().is_some_and(|resolved| self.reserved.contains(resolved)) {
            return format!("change another file; {DESCRIBE_CHANGE}");
        }
        match resolved {
            Some(resolved) if resolved != path && self.access.check_writing(&resolved).is_ok() => {
                format!("it leads to `{}`, which you can change instead", escape_line_breaks(&resolved))
            }
            Some(_) | None => "choose another path".to_owned(),
        }
    }

    /// Records the planned changes, and then makes them.
    pub(super) fn apply(&self, change_set: &ChangeSet) -> Result<ApplyReport, ToolError> {
        if !self.change_gate.enter() {
            return Err(ToolError::Refused("nothing was changed: the call has ended".to_owned()));
        }
        (self.record_start)(WorkspaceBaseline::Planned(change_set)).map_err(ToolError::Failed)?;
        self.tree.apply(change_set).map_err(|failure| match ToolError::from(failure) {
            ToolError::Refused(message) => {
                ToolError::Refused(format!("nothing was changed: {}; read the file again", reason_of(&message)))
            }
            failed @ ToolError::Failed(_) => failed,
        })
    }
}

/// The message about the only file of a plan, without its beginning, which is about several files.
fn reason_of(message: &str) -> &str {
    message.strip_prefix(REFUSED_FILES).unwrap_or(message).trim_start()
}

/// Reads a file. After the call has been cancelled, the file seems to end.
pub(super) struct CancellableReader<'a> {
    job: &'a FileJob,
    file: File,
}

impl<'a> CancellableReader<'a> {
    pub(super) fn new(job: &'a FileJob, file: File) -> Self {
        Self { job, file }
    }
}

impl Read for CancellableReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.job.is_cancelled() { Ok(0) } else { self.file.read(buffer) }
    }
}

/// Joins a folder and a name; an empty folder is the workspace.
pub(super) fn join_path(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::{BuiltinTool, ToolGrant};
    use crate::process::WorkspaceRules;

    /// A call that may search every file of a folder.
    pub(in crate::tool) fn job_in(workspace: &Path) -> FileJob {
        let grants = [ToolGrant { tool: BuiltinTool::Search, pattern: None }];
        FileJob {
            tree: Tree::open(workspace).unwrap(),
            workspace: workspace.to_owned(),
            access: PathAccess::new(BuiltinTool::Search, &grants, &WorkspaceRules::default()).unwrap(),
            reserved: ReservedPaths::default(),
            redactor: Arc::default(),
            record_start: Arc::new(|_: WorkspaceBaseline<'_>| -> Result<(), Failure> { Ok(()) }),
            is_cancelled: Arc::default(),
            change_gate: Arc::default(),
        }
    }
}
