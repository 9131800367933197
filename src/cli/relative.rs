//! Paths of findings as the programs that read them want them: relative to the root of the git repository.
//!
//! Messages for people name files as seen from the current folder. A code host that shows a finding beside a changed
//! line knows files by their path in the repository, wherever in it orch was started.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, SourceFile};

use crate::session::SessionError;

/// The folder that paths are relative to, and the one that they are relative to now.
pub(super) struct Base {
    root: PathBuf,
    here: PathBuf,
}

impl Base {
    /// A folder that the user named.
    pub(super) fn named(folder: &Path, here: &Path) -> Result<Self, SessionError> {
        let shown = folder.display();
        let root = here
            .join(folder)
            .canonicalize()
            .map_err(|error| SessionError::usage(format!("`--relative-to {shown}` is no folder to go by: {error}")))?;
        if !root.is_dir() {
            return Err(SessionError::usage(format!("`--relative-to {shown}` is a file, not a folder")));
        }
        Ok(Self { root, here: real(here) })
    }

    /// The root of the git repository that a folder lies in.
    pub(super) fn repository(here: &Path) -> Option<Self> {
        let here = real(here);
        // A worktree and a submodule have a file of this name.
        let root = here.ancestors().find(|folder| folder.join(".git").exists())?.to_owned();
        Some(Self { root, here })
    }

    /// A path as seen from the root; as it was for one outside of it.
    pub(super) fn path(&self, shown: &str) -> String {
        let whole = plain(&self.here.join(shown));
        match whole.strip_prefix(&self.root) {
            Ok(inside) if !inside.as_os_str().is_empty() => inside.to_string_lossy().replace('\\', "/"),
            Ok(_) | Err(_) => shown.to_owned(),
        }
    }

    /// Findings with their files under these paths.
    pub(super) fn findings(&self, found: &mut [Diagnostic]) {
        let mut moved: HashMap<Arc<str>, Arc<SourceFile>> = HashMap::new();
        let mut place = |file: &mut Arc<SourceFile>| {
            let key: Arc<str> = file.path.as_str().into();
            let made = moved.entry(key).or_insert_with(|| SourceFile::new(self.path(&file.path), file.text.as_str()));
            *file = Arc::clone(made);
        };
        for finding in found {
            let labels = finding.labels.iter_mut().map(|label| &mut label.file);
            for file in finding.file.iter_mut().chain(labels) {
                place(file);
            }
        }
    }
}

/// A folder without links, so that it begins as its repository does; as it is where that can't be told.
fn real(folder: &Path) -> PathBuf {
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
}

/// A path without `.` and `..`, by its names alone: what it leads to need not be there.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_seen_from_the_root_and_others_stay() {
        let base = Base { root: "/repo".into(), here: "/repo/sub".into() };
        for (shown, wanted) in [
            ("pipelines/a.yaml", "sub/pipelines/a.yaml"),
            ("./a.yaml", "sub/a.yaml"),
            ("../b/a.yaml", "b/a.yaml"),
            ("/repo/sub/a.yaml", "sub/a.yaml"),
            ("../../a.yaml", "../../a.yaml"),
            ("/elsewhere/a.yaml", "/elsewhere/a.yaml"),
            ("..", ".."),
        ] {
            assert_eq!(base.path(shown), wanted, "{shown}");
        }
    }
}
