//! Which paths of a workspace a program may usually not change, and what it changed where the kernel can't protect them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::policy::{Mask, Policy, Protected};

/// Paths inside git's folder that make a later `git` run a program.
const GIT_FOLDERS: &[&str] = &["hooks"];
const GIT_FILES: &[&str] = &["config"];
/// A file that would lead git to another folder with hooks and settings of its own. This text leads to the same one.
const GIT_COMMON: (&str, &str) = ("commondir", ".\n");
/// Settings that count only if `config` says so.
const GIT_IF_PRESENT: &[&str] = &["config.worktree", "modules"];

/// What a program in a workspace may usually not change: what git runs later, and the folder and file of orch. The
/// caller adds the pipelines, prompts and schemas of the run.
///
/// If the workspace has no git folder, a program can't create one; leave these paths out for a program that is to do so.
pub fn usually_protected(workspace: &Path) -> Vec<Protected> {
    let protected = |path: PathBuf, mask| Protected { path, mask };
    let git = workspace.join(".git");
    let mut paths = Vec::new();
    if git.is_file() {
        // A worktree: the file leads to a folder elsewhere, which is for the caller to make writable and to protect.
        paths.push(protected(git, Mask::Nothing));
    } else if git.is_dir() {
        paths.extend(git_protection(&git));
    } else {
        paths.push(protected(git, Mask::Folder));
    }
    paths.push(protected(workspace.join(".orch"), Mask::Folder));
    // Settings that say nothing, since orch may read them meanwhile.
    paths.push(protected(workspace.join("orch.yaml"), Mask::File("{}\n".to_owned())));
    paths.push(protected(workspace.join(".github"), Mask::Folder));
    paths
}

/// What a program may not change in a git folder.
fn git_protection(git: &Path) -> Vec<Protected> {
    let protected = |name: &&str, mask| Protected { path: git.join(name), mask };
    let folders = GIT_FOLDERS.iter().map(|name| protected(name, Mask::Folder));
    let files = GIT_FILES.iter().map(|name| protected(name, Mask::File(String::new())));
    let present = GIT_IF_PRESENT.iter().map(|name| protected(name, Mask::Nothing));
    let (name, text) = GIT_COMMON;
    folders.chain(files).chain(present).chain([protected(&name, Mask::File(text.to_owned()))]).collect()
}

/// The state of the protected paths before a program starts. At `basic` the kernel can't protect a path inside a
/// writable folder, so orch looks afterwards what changed.
#[derive(Debug)]
pub struct Seal {
    paths: Vec<PathBuf>,
    state: BTreeMap<PathBuf, Entry>,
}

/// What changes with every change of a file or folder: no program can set the time of its last change.
type Entry = (u64, u32, u64, (i64, i64));

impl Seal {
    /// Reads the state.
    pub fn take(policy: &Policy) -> Self {
        let paths: Vec<PathBuf> = policy.protect.iter().map(|protected| protected.path.clone()).collect();
        let state = state(&paths);
        Self { paths, state }
    }

    /// The paths that appeared, changed or vanished since.
    pub fn broken(&self) -> Vec<PathBuf> {
        let now = state(&self.paths);
        let changed = now.iter().filter(|(path, entry)| self.state.get(*path) != Some(entry)).map(|(path, _)| path);
        let vanished = self.state.keys().filter(|path| !now.contains_key(*path));
        changed.chain(vanished).cloned().collect()
    }
}

/// The entries at and below some paths, without following links.
fn state(paths: &[PathBuf]) -> BTreeMap<PathBuf, Entry> {
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
    #[expect(clippy::disallowed_methods, reason = "the time of a change has a resolution")]
    fn a_seal_tells_what_appeared_changed_and_vanished() {
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
    fn the_git_folder_is_protected_in_each_of_its_forms() {
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
