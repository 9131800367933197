//! The files that no list of entries may write, and what a refusal says about them.

use std::sync::LazyLock;

use super::path::fold_path;
use super::path_index::PathIndex;
use super::problem::escaped_path;

/// Files that no list may write, as paths relative to the workspace.
#[derive(Clone, Copy, Debug)]
pub struct ReservedFiles<'a> {
    /// The files of the run's artifacts.
    pub artifacts: &'a PathIndex,
    /// The project files that this run uses.
    pub project: &'a PathIndex,
    /// Files and folders that git or orch reads or runs later. Only the tools of models refuse them.
    pub protected: &'a PathIndex,
}

static NO_PATHS: LazyLock<PathIndex> = LazyLock::new(PathIndex::default);

impl Default for ReservedFiles<'_> {
    fn default() -> Self {
        Self { artifacts: &NO_PATHS, project: &NO_PATHS, protected: &NO_PATHS }
    }
}

impl<'a> ReservedFiles<'a> {
    /// The first reserved file that is the same as the path with the folded form `key`, contains it, or lies in it.
    pub(super) fn overlapping(self, key: &str) -> Option<ReservedFile<'a>> {
        let find = |index: &'a PathIndex, kind| {
            let path = index.overlapping(key)?;
            Some(ReservedFile { folded: fold_path(path), path, kind })
        };
        find(self.artifacts, ReservedKind::Artifact)
            .or_else(|| find(self.project, ReservedKind::Project))
            .or_else(|| find(self.protected, ReservedKind::Protected))
    }
}

/// Why a file is reserved.
#[derive(Clone, Copy)]
enum ReservedKind {
    Artifact,
    Project,
    Protected,
}

/// A file or folder that no list may write.
pub(super) struct ReservedFile<'a> {
    /// The path in the form in which paths are compared.
    folded: String,
    path: &'a str,
    kind: ReservedKind,
}

impl ReservedFile<'_> {
    /// Why `path`, whose folded form (see `fold_path`) is `key`, may not be written, as the end of a sentence that
    /// begins with the path.
    pub(super) fn refusal(&self, path: &str, key: &str) -> String {
        let (is_same, reserved) = (path == self.path, escaped_path(self.path));
        match self.kind {
            ReservedKind::Artifact if is_same => "is kept for the artifact that orch writes there".to_owned(),
            ReservedKind::Artifact => format!("is kept for the artifact in `{reserved}`"),
            ReservedKind::Project if is_same => "is kept, since it defines this run".to_owned(),
            ReservedKind::Project => format!("is kept, since this run itself is made of `{reserved}`"),
            ReservedKind::Protected => {
                let place = if is_same {
                    String::new()
                } else if key == self.folded {
                    format!("is another spelling of `{reserved}`, which ")
                } else if key.len() > self.folded.len() {
                    format!("lies in `{reserved}`, which ")
                } else {
                    format!("is a folder with `{reserved}`, which ")
                };
                format!("{place}is protected, because git, GitHub or orch reads or runs it later")
            }
        }
    }
}
