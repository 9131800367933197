//! Finds the git folders of a folder as git does, and the paths in them through which git can run programs.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::git_config::GitConfig;
use super::policy::{Mask, Protected};

/// The maximum length of a file that this module reads, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The name of the git folder in a working folder, or of the file that refers to it.
pub(super) const GIT_ENTRY: &str = ".git";
/// Folders of a git folder through which a later `git` command can run programs.
const GIT_FOLDERS: &[&str] = &["hooks"];
/// Files of a git folder through which a later `git` command can run programs.
const GIT_FILES: &[&str] = &["config"];
/// The name and the content of a file that could redirect git to another folder, with other hooks and settings. This
/// content refers to the same folder.
const GIT_COMMON_DIR: (&str, &str) = (COMMON_FOLDER_FILE, ".\n");
/// Paths that git uses only if `config` refers to them, so they need no placeholder.
const GIT_IF_PRESENT: &[&str] = &["modules"];
/// The settings that git reads in addition to `config`, if `config` says so.
const WORKTREE_SETTINGS: &str = "config.worktree";
/// The file with the path of the folder that contains the settings, the objects and the branches.
const COMMON_FOLDER_FILE: &str = "commondir";
/// The folder with a folder for each linked worktree.
const WORKTREES: &str = "worktrees";
/// The files of a linked worktree that refer to other folders.
const WORKTREE_FILES: &[&str] = &[COMMON_FOLDER_FILE, "gitdir"];
/// The file that names the current branch.
pub(super) const HEAD: &str = "HEAD";
/// The folders without which git does not take a folder for a git folder.
pub(super) const DATA_FOLDERS: &[&str] = &["objects", "refs"];

/// A folder in which git finds `HEAD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GitFolder {
    /// The path, without links.
    pub(super) path: PathBuf,
    /// The folder with the settings, the objects and the branches. Differs from `path` for a linked worktree.
    pub(super) common: PathBuf,
    /// The folder that contains the files of the repository.
    top: PathBuf,
}

impl GitFolder {
    fn new(path: PathBuf, top: PathBuf) -> Self {
        Self { common: common_folder(&path), path, top }
    }
}

/// The git folders of a folder and of its parents. git uses the first of them that is complete. Therefore it would use
/// another one if a program damaged the first.
pub(super) fn git_folders(folder: &Path) -> Vec<GitFolder> {
    let mut folders: Vec<GitFolder> = Vec::new();
    for top in folder.ancestors() {
        let entry = top.join(GIT_ENTRY);
        let found = if entry.is_dir() {
            GitFolder::new(entry, top.to_owned())
        } else if let Some(target) = referenced_folder(&entry) {
            GitFolder::new(target, top.to_owned())
        } else if is_git_folder(top) {
            let files = if top.ends_with(GIT_ENTRY) { top.parent().unwrap_or(top) } else { top };
            GitFolder::new(top.to_owned(), files.to_owned())
        } else {
            continue;
        };
        if folders.iter().all(|known| known.path != found.path) {
            folders.push(found);
        }
    }
    folders
}

/// Reads the beginning of a file. Anything else counts as missing, because reading a named pipe of a program could take
/// forever.
pub(super) fn read_file(path: &Path) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The folder to which a `.git` file refers.
fn referenced_folder(file: &Path) -> Option<PathBuf> {
    let text = read_file(file)?;
    let path = text.strip_prefix("gitdir:")?.trim();
    fs::canonicalize(file.parent()?.join(path)).ok()
}

/// The folder with the settings, the objects and the branches of a git folder.
fn common_folder(folder: &Path) -> PathBuf {
    let text = read_file(&folder.join(COMMON_FOLDER_FILE)).unwrap_or_default();
    let path = text.trim_end();
    let common = if path.is_empty() { None } else { fs::canonicalize(folder.join(path)).ok() };
    common.unwrap_or_else(|| folder.to_owned())
}

/// Whether git may take a folder for a git folder. Unlike git, this function does not check whether the entries can be
/// used, because a program could complete them later.
pub(super) fn is_git_folder(folder: &Path) -> bool {
    let common = common_folder(folder);
    has_valid_head(folder) && DATA_FOLDERS.iter().all(|name| common.join(name).symlink_metadata().is_ok())
}

/// Whether `HEAD` of a git folder is valid for git: a link or a text that names a branch, or the id of a commit.
pub(super) fn has_valid_head(folder: &Path) -> bool {
    let head = folder.join(HEAD);
    let Ok(metadata) = head.symlink_metadata() else { return false };
    if metadata.is_symlink() {
        return fs::read_link(&head).is_ok_and(|target| target.starts_with("refs"));
    }
    let Some(text) = read_file(&head) else { return false };
    match text.strip_prefix("ref:") {
        Some(name) => name.trim_start().starts_with("refs/"),
        None => text.chars().take_while(char::is_ascii_hexdigit).count() >= 40,
    }
}

/// The files through which git can run programs: those of the repository in a folder, and of the repositories that
/// contain the folder. A policy protects only those that the program could change.
pub fn protected_repositories(folder: &Path) -> Vec<Protected> {
    let mut paths: Vec<Protected> = Vec::new();
    for new in git_folders(folder).iter().flat_map(git_protection) {
        if paths.iter().all(|known| known.path != new.path) {
            paths.push(new);
        }
    }
    paths
}

/// The protected paths of a git folder.
fn git_protection(folder: &GitFolder) -> Vec<Protected> {
    let GitFolder { path, common, top } = folder;
    let config = GitConfig::read(common);
    let worktree_settings = if config.reads_worktree_settings() { Mask::File(String::new()) } else { Mask::Nothing };
    let protected = |folder: &Path, name: &str, mask: Mask| Protected { path: folder.join(name), mask };
    let mut paths: Vec<Protected> = Vec::new();
    paths.extend(GIT_FOLDERS.iter().map(|name| protected(common, name, Mask::Folder)));
    paths.extend(GIT_FILES.iter().map(|name| protected(common, name, Mask::File(String::new()))));
    paths.extend(GIT_IF_PRESENT.iter().map(|name| protected(common, name, Mask::Nothing)));
    let (name, text) = GIT_COMMON_DIR;
    paths.push(protected(common, name, Mask::File(text.to_owned())));
    paths.push(protected(common, WORKTREE_SETTINGS, worktree_settings.clone()));
    let mut worktrees = worktree_folders(common);
    if path != common && !worktrees.contains(path) {
        worktrees.push(path.clone());
    }
    for worktree in worktrees {
        paths.extend(WORKTREE_FILES.iter().map(|name| protected(&worktree, name, Mask::Nothing)));
        paths.push(protected(&worktree, WORKTREE_SETTINGS, worktree_settings.clone()));
    }
    paths.extend(config.hooks_folders(top).into_iter().map(|path| Protected { path, mask: Mask::Folder }));
    paths
}

/// The folders of the linked worktrees in a git folder. A link to a folder is not one of them.
fn worktree_folders(common: &Path) -> Vec<PathBuf> {
    let is_folder = |path: &PathBuf| path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    worktree_entries(common).into_iter().filter(is_folder).collect()
}

/// The entries of the folder for linked worktrees in a git folder.
pub(super) fn worktree_entries(common: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(common.join(WORKTREES)).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The file of a linked worktree through which git reads other settings than those in `common`. `git worktree add`
/// creates none: it only copies `config.worktree`.
pub(super) fn own_settings_of_worktree(worktree: &Path, common: &Path) -> Option<PathBuf> {
    if !is_git_folder(worktree) {
        return None;
    }
    if !fs::canonicalize(common).is_ok_and(|common| common_folder(worktree) == common) {
        return Some(worktree.join(COMMON_FOLDER_FILE));
    }
    let settings = worktree.join(WORKTREE_SETTINGS);
    let text = read_file(&settings);
    let is_copy = text.is_some() && text == read_file(&common.join(WORKTREE_SETTINGS));
    (!is_copy && settings.symlink_metadata().is_ok()).then_some(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Creates a git folder at a path.
    fn create_git_folder(root: &Path, name: &str) {
        write(root, &format!("{name}/HEAD"), "ref: refs/heads/main\n");
        for folder in ["objects", "refs"] {
            fs::create_dir_all(root.join(name).join(folder)).unwrap();
        }
    }

    #[test]
    fn a_git_folder_is_found_from_the_folders_below_it_and_through_a_git_file() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        create_git_folder(&root, "main/.git");
        write(&root, "main/.git/worktrees/side/HEAD", "ref: refs/heads/side\n");
        write(&root, "main/.git/worktrees/side/commondir", "../..\n");
        write(&root, "side/.git", &format!("gitdir: {}\n", root.join("main/.git/worktrees/side").display()));
        fs::create_dir_all(root.join("main/a/b")).unwrap();
        let found = |name: &str| -> Vec<(PathBuf, PathBuf)> {
            let folders = git_folders(&root.join(name)).into_iter().filter(|found| found.path.starts_with(&root));
            folders.map(|folder| (folder.path, folder.common)).collect()
        };
        let main = root.join("main/.git");
        for name in ["main", "main/a/b", "main/.git"] {
            assert_eq!(found(name), [(main.clone(), main.clone())], "{name}");
        }
        assert_eq!(found("side"), [(main.join("worktrees/side"), main.clone())]);
        let protected = |name: &str| protected_repositories(&root.join(name));
        for name in ["main", "side"] {
            for path in ["hooks", "config", "commondir", "worktrees/side/commondir", "worktrees/side/gitdir"] {
                assert!(protected(name).iter().any(|found| found.path == main.join(path)), "{name} {path}");
            }
        }
    }

    #[test]
    fn a_folder_is_a_git_folder_if_git_would_use_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        create_git_folder(&root, "bare");
        assert!(is_git_folder(&root.join("bare")) && !is_git_folder(&root));
        let head = |text: &str| {
            write(&root, "bare/HEAD", text);
            has_valid_head(&root.join("bare"))
        };
        assert!(head("ref: refs/heads/x\n") && head("ref:refs/heads/x") && head(&"0a".repeat(20)));
        assert!(!head("") && !head("ref: x\n") && !head("0a0a\n"));
        // git looks for the objects and the branches in the common folder.
        write(&root, "split/HEAD", "ref: refs/heads/x\n");
        assert!(!is_git_folder(&root.join("split")));
        write(&root, "split/commondir", "../bare\n");
        assert!(is_git_folder(&root.join("split")));
        fs::remove_file(root.join("bare/HEAD")).unwrap();
        std::os::unix::fs::symlink("refs/heads/x", root.join("bare/HEAD")).unwrap();
        assert!(is_git_folder(&root.join("bare")));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_named_pipe_counts_as_a_missing_file() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("commondir");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(read_file(&pipe), None);
        assert_eq!(common_folder(folder.path()), folder.path());
    }

    #[test]
    fn only_a_worktree_with_other_settings_is_suspicious() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        create_git_folder(&root, ".git");
        create_git_folder(&root, "other");
        let (common, worktree) = (root.join(".git"), root.join(".git/worktrees/side"));
        write(&root, ".git/worktrees/side/HEAD", "ref: refs/heads/side\n");
        write(&root, ".git/worktrees/side/commondir", "../..\n");
        assert_eq!(own_settings_of_worktree(&worktree, &common), None);
        write(&root, ".git/worktrees/side/config.worktree", "[core]\n");
        assert_eq!(own_settings_of_worktree(&worktree, &common), Some(worktree.join("config.worktree")));
        write(&root, ".git/config.worktree", "[core]\n");
        assert_eq!(own_settings_of_worktree(&worktree, &common), None);
        write(&root, ".git/worktrees/side/commondir", "../../../other\n");
        assert_eq!(own_settings_of_worktree(&worktree, &common), Some(worktree.join("commondir")));
    }
}
