//! The paths of a workspace that orch protects by default, and the detection of changes where the kernel can't protect
//! them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::policy::{Mask, Policy, Protected};

/// Folders of a git folder through which a later `git` command can run programs.
const GIT_FOLDERS: &[&str] = &["hooks"];
/// Files of a git folder through which a later `git` command can run programs.
const GIT_FILES: &[&str] = &["config"];
/// The name and the content of a file that could redirect git to another folder, with other hooks and settings. This
/// content refers to the same folder.
const GIT_COMMON_DIR: (&str, &str) = ("commondir", ".\n");
/// Paths that git uses only if `config` refers to them, so they need no placeholder.
const GIT_IF_PRESENT: &[&str] = &["config.worktree", "modules"];

/// The paths that orch protects in a workspace by default: the files through which git can run programs, `.orch`,
/// `orch.yaml` and `.github`. The caller adds the pipelines, prompts and schemas of the run.
///
/// If the workspace has no git folder, the program can't create one. For a program that must create one, remove `.git`
/// from the result.
pub fn usually_protected(workspace: &Path) -> Vec<Protected> {
    let protected = |path: PathBuf, mask| Protected { path, mask };
    let git = workspace.join(".git");
    let mut paths = Vec::new();
    if git.is_file() {
        // In a worktree, the file refers to a folder elsewhere. The caller must make that folder writable and protect
        // it.
        paths.push(protected(git, Mask::Nothing));
    } else if git.is_dir() {
        paths.extend(git_protection(&git));
    } else {
        paths.push(protected(git, Mask::Folder));
    }
    paths.push(protected(workspace.join(".orch"), Mask::Folder));
    // The placeholder must be valid, because another orch process may read it in the meantime.
    paths.push(protected(workspace.join("orch.yaml"), Mask::File("{}\n".to_owned())));
    paths.push(protected(workspace.join(".github"), Mask::Folder));
    paths
}

/// The protected paths in a git folder.
fn git_protection(git: &Path) -> Vec<Protected> {
    let protected = |name: &&str, mask| Protected { path: git.join(name), mask };
    let folders = GIT_FOLDERS.iter().map(|name| protected(name, Mask::Folder));
    let files = GIT_FILES.iter().map(|name| protected(name, Mask::File(String::new())));
    let present = GIT_IF_PRESENT.iter().map(|name| protected(name, Mask::Nothing));
    let (name, text) = GIT_COMMON_DIR;
    folders.chain(files).chain(present).chain([protected(&name, Mask::File(text.to_owned()))]).collect()
}

/// A snapshot of the protected paths before a program starts. At `basic` the kernel can't protect a path inside a
/// writable folder, so orch detects changes afterwards.
#[derive(Debug)]
pub struct Seal {
    paths: Vec<PathBuf>,
    state: BTreeMap<PathBuf, Fingerprint>,
}

/// The inode, mode, size and `ctime` of a file or folder. Every change updates `ctime`, which a program can't set.
type Fingerprint = (u64, u32, u64, (i64, i64));

impl Seal {
    /// Takes the snapshot.
    pub fn take(policy: &Policy) -> Self {
        let paths: Vec<PathBuf> = policy.protect.iter().map(|protected| protected.path.clone()).collect();
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
        let policy = Policy { protect: usually_protected(root), ..Policy::default() };
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
