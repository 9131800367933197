//! Finds the git folders of a folder as git does, and reads the files in them that refer to other folders.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::git_config::GitConfig;
use super::git_index::GitIndex;
use super::stored_path;

/// The maximum length of a file that this module reads, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The name of the git folder in a working tree, or of the file that refers to it.
pub(super) const GIT_ENTRY: &str = ".git";
/// The settings that git reads in addition to `config`, if `config` says so.
pub(super) const WORKTREE_SETTINGS: &str = "config.worktree";
/// The file with the path of the folder that contains the settings, the objects and the branches.
pub(super) const COMMON_FOLDER_FILE: &str = "commondir";
/// The folder with a folder for each linked worktree.
const WORKTREES: &str = "worktrees";
/// The file of a linked worktree with the path of the `.git` file in its working tree.
pub(super) const WORKTREE_ENTRY_FILE: &str = "gitdir";
/// The file that names the current branch.
pub(super) const HEAD: &str = "HEAD";
/// The folders without which git does not take a folder for a git folder.
pub(super) const DATA_FOLDERS: &[&str] = &["objects", "refs"];
/// The length of the part of `HEAD` that git reads to find out whether a folder is a git folder.
const HEAD_BYTES: usize = 255;

/// A folder in which git finds `HEAD`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GitFolder {
    /// The path, without links.
    #[serde(with = "stored_path::path")]
    pub(super) path: PathBuf,
    /// The folder with the settings, the objects and the branches. Differs from `path` for a linked worktree.
    #[serde(with = "stored_path::path")]
    pub(super) common: PathBuf,
    /// The folder that contains the files of the repository.
    #[serde(with = "stored_path::path")]
    pub(super) top: PathBuf,
}

impl GitFolder {
    fn new(path: PathBuf, top: PathBuf) -> Self {
        Self { common: common_folder(&path), path, top }
    }

    /// The git folder to which `.git` in a working tree leads.
    pub(super) fn of_working_folder(top: &Path) -> Option<Self> {
        let entry = top.join(GIT_ENTRY);
        let path = if entry.is_dir() { entry } else { referenced_folder(&entry)? };
        Some(Self::new(path, top.to_owned()))
    }

    /// Reads the index.
    pub(super) fn index(&self) -> GitIndex {
        GitIndex::read(&self.path, GitConfig::read(&self.common).object_id_bytes())
    }
}

/// The git folders of a folder and of its parents. git uses the first of them that is complete. Therefore it would use
/// another one if a program damaged the first.
pub(super) fn git_folders(folder: &Path) -> Vec<GitFolder> {
    let mut folders: Vec<GitFolder> = Vec::new();
    for top in folder.ancestors() {
        let found = if let Some(found) = GitFolder::of_working_folder(top) {
            found
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

/// Opens a regular file. Anything else counts as missing, because reading a named pipe of a program could take forever.
pub(super) fn open_file(path: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    file.metadata().ok()?.is_file().then_some(file)
}

/// Reads the beginning of a regular file.
pub(super) fn read_file(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The path in a file of git. Like git, this function removes only the line breaks at the end, because spaces belong to
/// the path.
fn path_in_file(bytes: &[u8]) -> &Path {
    let mut path = bytes;
    while let Some((b'\n' | b'\r', rest)) = path.split_last() {
        path = rest;
    }
    Path::new(OsStr::from_bytes(path))
}

/// The folder to which a `.git` file refers.
fn referenced_folder(file: &Path) -> Option<PathBuf> {
    let bytes = read_file(file)?;
    let path = path_in_file(bytes.strip_prefix(b"gitdir: ")?);
    fs::canonicalize(file.parent()?.join(path)).ok()
}

/// The folder with the settings, the objects and the branches of a git folder.
fn common_folder(folder: &Path) -> PathBuf {
    let bytes = read_file(&folder.join(COMMON_FOLDER_FILE)).unwrap_or_default();
    let path = path_in_file(&bytes);
    let common = if path.as_os_str().is_empty() { None } else { fs::canonicalize(folder.join(path)).ok() };
    common.unwrap_or_else(|| folder.to_owned())
}

/// Whether git may take a folder for a git folder. Unlike git, this function does not check whether the entries can be
/// used, because a program could complete them later.
pub(super) fn is_git_folder(folder: &Path) -> bool {
    if !has_valid_head(folder) {
        return false;
    }
    let common = common_folder(folder);
    DATA_FOLDERS.iter().all(|name| common.join(name).symlink_metadata().is_ok())
}

/// Whether `HEAD` of a git folder is valid for git: a link or a text that names a branch, or the id of a commit.
pub(super) fn has_valid_head(folder: &Path) -> bool {
    let head = folder.join(HEAD);
    let Ok(metadata) = head.symlink_metadata() else { return false };
    if metadata.is_symlink() {
        return fs::read_link(&head).is_ok_and(|target| target.as_os_str().as_bytes().starts_with(b"refs/"));
    }
    let Some(bytes) = read_file(&head) else { return false };
    let text = bytes.get(..HEAD_BYTES).unwrap_or(&bytes);
    match text.strip_prefix(b"ref:") {
        Some(name) => {
            let is_space = |byte: &u8| [b' ', b'\t', b'\n', b'\r'].contains(byte);
            let start = name.iter().position(|byte| !is_space(byte)).unwrap_or(name.len());
            name.get(start..).is_some_and(|name| name.starts_with(b"refs/"))
        }
        None => text.iter().take_while(|byte| byte.is_ascii_hexdigit()).count() >= 40,
    }
}

/// The `.git` file in the working tree of a linked worktree.
pub(super) fn entry_of_worktree(worktree: &Path) -> Option<PathBuf> {
    let bytes = read_file(&worktree.join(WORKTREE_ENTRY_FILE))?;
    let entry = fs::canonicalize(worktree.join(path_in_file(&bytes))).ok()?;
    (entry.ends_with(GIT_ENTRY) && entry.is_file()).then_some(entry)
}

/// The folders of the linked worktrees in a git folder. A link to a folder is not one of them.
pub(super) fn worktree_folders(common: &Path) -> Vec<PathBuf> {
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
pub(super) mod tests {
    use super::super::git_protection::protected_repositories;
    use super::*;

    pub(in super::super) fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Creates a git folder at a path.
    pub(in super::super) fn create_git_folder(root: &Path, name: &str) {
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
        // git reads only the beginning, and skips only spaces of ASCII.
        assert!(!head(&format!("ref:{}refs/heads/x\n", " ".repeat(300))) && !head("ref:\u{a0}refs/heads/x\n"));
        // git looks for the objects and the branches in the common folder.
        write(&root, "split/HEAD", "ref: refs/heads/x\n");
        assert!(!is_git_folder(&root.join("split")));
        write(&root, "split/commondir", "../bare\n");
        assert!(is_git_folder(&root.join("split")));
        fs::remove_file(root.join("bare/HEAD")).unwrap();
        std::os::unix::fs::symlink("refs/heads/x", root.join("bare/HEAD")).unwrap();
        assert!(is_git_folder(&root.join("bare")));
        fs::remove_file(root.join("bare/HEAD")).unwrap();
        std::os::unix::fs::symlink("refs", root.join("bare/HEAD")).unwrap();
        assert!(!is_git_folder(&root.join("bare")));
    }

    #[test]
    fn spaces_and_other_bytes_belong_to_a_path_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let name = OsStr::from_bytes(b"n\xff ");
        create_git_folder(&root, "main/.git");
        fs::rename(root.join("main"), root.join(name)).unwrap();
        write(&root, "main/HEAD", "");
        fs::write(root.join("main/commondir"), [&b"../"[..], name.as_bytes(), b"/.git\r\n"].concat()).unwrap();
        assert_eq!(common_folder(&root.join("main")), root.join(name).join(".git"));
        fs::write(root.join("main/commondir"), [&b"../"[..], name.as_bytes(), b"/.git \n"].concat()).unwrap();
        assert_eq!(common_folder(&root.join("main")), root.join("main"), "no such folder");
        fs::write(root.join("main/.git"), [&b"gitdir: ../"[..], name.as_bytes(), b"/.git\n"].concat()).unwrap();
        assert_eq!(git_folders(&root.join("main"))[0].path, root.join(name).join(".git"));
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
