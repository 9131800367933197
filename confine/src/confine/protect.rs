//! The paths of a workspace that orch protects by default, and the detection of changes where the kernel can't protect
//! them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::git_protection::protected_repositories;
use super::policy::{Mask, Policy, Protected};
use super::repository::GIT_ENTRY;
use super::stored_path;

/// The lock files of orch in a workspace. If a program removed them, a second run could start in the workspace.
const LOCK_FILES: &[&str] = &[".orch.lock", ".orch.programs.lock"];
/// The folder in which orch stores its journal by default.
pub(super) const STATE_FOLDER: &str = ".orch";
/// The file by which [`Seal`] recognizes a folder that orch itself changes all the time.
const JOURNAL_FILE: &str = "journal.db";

/// The paths that orch protects in a workspace by default: the files through which git can run programs, `.orch`, the
/// lock files of orch, `orch.yaml` and `.github`. The caller adds the pipelines, prompts and schemas of the run.
///
/// If the workspace has no git folder, the program can't create one. For a program that must create one, remove `.git`
/// from the result.
pub fn usually_protected(workspace: &Path) -> Vec<Protected> {
    let protected = |name: &str, mask| Protected { path: workspace.join(name), mask };
    let git = workspace.join(GIT_ENTRY);
    let mut paths = protected_repositories(workspace);
    if git.is_file() {
        // In a worktree, the file refers to a folder elsewhere.
        paths.push(protected(GIT_ENTRY, Mask::Nothing));
    } else if !git.is_dir() {
        paths.push(protected(GIT_ENTRY, Mask::Folder));
    }
    paths.push(protected(STATE_FOLDER, Mask::Folder));
    // A lock file exists as long as a run uses the workspace. Another run would take a placeholder for its own file.
    paths.extend(LOCK_FILES.iter().map(|name| protected(name, Mask::Nothing)));
    // The placeholder must be valid, because another orch process may read it in the meantime.
    paths.push(protected("orch.yaml", Mask::File("{}\n".to_owned())));
    paths.push(protected(".github", Mask::Folder));
    paths
}

/// Whether a path is that of a lock file of orch, which each orch process in the workspace writes.
pub fn is_lock_file(path: &Path) -> bool {
    LOCK_FILES.iter().any(|name| path.ends_with(name))
}

/// A snapshot of the protected paths before a program starts. At `basic` the kernel can't protect a path inside a
/// writable folder, so orch detects changes afterwards.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seal {
    #[serde(with = "stored_path::paths")]
    paths: Vec<PathBuf>,
    #[serde(with = "stored_path::map")]
    state: BTreeMap<PathBuf, Fingerprint>,
}

/// The inode, mode, size and `ctime` of a file or folder. Every change updates `ctime`, which a program can't set.
type Fingerprint = (u64, u32, u64, (i64, i64));

impl Seal {
    /// Takes the snapshot of the protected paths that the program can change.
    pub fn take(policy: &Policy) -> Self {
        let is_writable = |path: &PathBuf| policy.writable().any(|folder| path.starts_with(folder));
        let protected = policy.protect.iter().map(|protected| protected.path.clone());
        let paths: Vec<PathBuf> = protected.filter(is_writable).collect();
        let state = read_state(&paths);
        Self { paths, state }
    }

    /// The paths that a program created, changed or removed since the snapshot.
    pub fn broken(&self) -> Vec<PathBuf> {
        let now = read_state(&self.paths);
        let changed =
            now.iter().filter(|(path, fingerprint)| self.state.get(*path) != Some(fingerprint)).map(|(path, _)| path);
        let removed = self.state.keys().filter(|path| !now.contains_key(*path));
        changed.chain(removed).cloned().collect()
    }
}

/// Reads the fingerprints of all files and folders at and below some paths, without following links.
fn read_state(paths: &[PathBuf]) -> BTreeMap<PathBuf, Fingerprint> {
    let mut state = BTreeMap::new();
    let mut remaining = paths.to_vec();
    while let Some(path) = remaining.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() && path.join(JOURNAL_FILE).exists() {
            // orch itself changes this folder in the meantime, so only its identity can be compared.
            state.insert(path, (metadata.ino(), metadata.mode(), 0, (0, 0)));
            continue;
        }
        if metadata.is_dir() {
            remaining.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        state.insert(path, (metadata.ino(), metadata.mode(), metadata.size(), changed));
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "`ctime` has a limited resolution")]
    fn a_seal_detects_created_and_changed_paths() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join(".git/hooks")).unwrap();
        fs::write(root.join(".git/config"), "a").unwrap();
        let write = vec![root.to_owned()];
        let policy = Policy { write, protect: usually_protected(root), ..Policy::default() };
        let seal = Seal::take(&policy);
        assert_eq!(seal.broken(), Vec::<PathBuf>::new());
        std::thread::sleep(std::time::Duration::from_millis(10));
        fs::write(root.join(".git/config"), "b").unwrap();
        fs::write(root.join(".git/hooks/pre-commit"), "").unwrap();
        fs::write(root.join("orch.yaml"), "").unwrap();
        let broken = seal.broken();
        for path in [".git/config", ".git/hooks", ".git/hooks/pre-commit", "orch.yaml"] {
            assert!(broken.contains(&root.join(path)), "{path}");
        }
        assert_eq!(broken.len(), 4);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "`ctime` has a limited resolution")]
    fn a_seal_ignores_what_orch_changes_and_what_the_program_cannot_change() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in ["ws/.orch/locks", "elsewhere"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("ws/.orch/journal.db"), "a").unwrap();
        fs::write(root.join("ws/.orch.lock"), "a").unwrap();
        let mut protect = usually_protected(&root.join("ws"));
        protect.push(Protected { path: root.join("elsewhere"), mask: Mask::Nothing });
        let seal = Seal::take(&Policy { write: vec![root.join("ws")], protect, ..Policy::default() });
        std::thread::sleep(std::time::Duration::from_millis(10));
        fs::write(root.join("ws/.orch/locks/run.lock"), "").unwrap();
        fs::write(root.join("elsewhere/file"), "").unwrap();
        assert_eq!(seal.broken(), Vec::<PathBuf>::new());
        fs::remove_file(root.join("ws/.orch.lock")).unwrap();
        fs::rename(root.join("ws/.orch"), root.join("ws/away")).unwrap();
        assert_eq!(seal.broken(), [root.join("ws/.orch"), root.join("ws/.orch.lock")]);
    }

    #[test]
    fn git_is_protected_as_a_folder_as_a_file_and_if_missing() {
        let folder = tempfile::tempdir().unwrap();
        let git = folder.path().join(".git");
        let paths =
            |root: &Path| usually_protected(root).into_iter().map(|protected| protected.path).collect::<Vec<_>>();
        assert!(paths(folder.path()).contains(&git));
        fs::create_dir(&git).unwrap();
        assert!(paths(folder.path()).contains(&git.join("commondir")) && !paths(folder.path()).contains(&git));
        fs::remove_dir(&git).unwrap();
        fs::write(&git, "gitdir: /elsewhere\n").unwrap();
        assert!(paths(folder.path()).contains(&git));
    }
}
