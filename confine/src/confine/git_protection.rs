//! The paths of git folders through which git can run programs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::git_config::GitConfig;
use super::git_index::populated_submodules;
use super::links::resolve_links;
use super::policy::{Mask, Protected};
use super::repository::{
    COMMON_FOLDER_FILE, GIT_ENTRY, GitFolder, WORKTREE_ENTRY_FILE, WORKTREE_SETTINGS, entry_of_worktree, git_folders,
    worktree_folders,
};

/// Folders of a git folder through which a later `git` command can run programs.
const GIT_FOLDERS: &[&str] = &["hooks"];
/// Files of a git folder through which a later `git` command can run programs.
const GIT_FILES: &[&str] = &["config"];
/// The name and the content of a file that could redirect git to another folder, with other hooks and settings. This
/// content refers to the same folder. But with such a file, git ignores `core.bare` and `core.worktree`.
const GIT_COMMON_DIR: (&str, &str) = (COMMON_FOLDER_FILE, ".\n");
/// The folder with the git folders of the submodules. It needs no placeholder: git uses such a folder only if a `.git`
/// file refers to it.
const SUBMODULES: &str = "modules";
/// The files of a linked worktree that refer to other folders.
const WORKTREE_FILES: &[&str] = &[COMMON_FOLDER_FILE, WORKTREE_ENTRY_FILE];

/// The files through which git can run programs: those of the repository in a folder, of the repositories that contain
/// the folder, and of their submodules. A policy protects only those that the program could change.
pub fn protected_repositories(folder: &Path) -> Vec<Protected> {
    let mut paths: Vec<Protected> = Vec::new();
    let folders = git_folders(folder);
    let own_paths = folders.iter().flat_map(|folder| git_protection(folder, false));
    let submodules = |folder: &GitFolder| populated_submodules(folder, &folder.index());
    let of_submodules = folders.iter().flat_map(|folder| submodule_protection(folder, &submodules(folder)));
    for new in own_paths.chain(of_submodules) {
        if paths.iter().all(|known| known.path != new.path) {
            paths.push(new);
        }
    }
    paths
}

/// The links on the way to the protected paths of a repository and of these submodules. The kernel can't protect a
/// link.
pub(super) fn links_to_protected(folder: &GitFolder, submodules: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let inner_folders = submodules.iter().filter_map(|submodule| GitFolder::of_working_folder(submodule));
    let mut paths: Vec<PathBuf> =
        submodule_protection(folder, submodules).into_iter().map(|found| found.path).collect();
    for folder in std::iter::once(folder.clone()).chain(inner_folders) {
        paths.extend(git_protection(&folder, false).into_iter().map(|found| found.path));
        paths.extend(GitConfig::read(&folder.common).named_files(&folder.top));
    }
    paths.iter().flat_map(|path| resolve_links(path).links).collect()
}

/// The protected paths of a git folder, which may be that of a submodule.
fn git_protection(folder: &GitFolder, is_submodule: bool) -> Vec<Protected> {
    let GitFolder { path, common, top } = folder;
    let config = GitConfig::read(common);
    let worktree_settings = if config.reads_worktree_settings() { Mask::File(String::new()) } else { Mask::Nothing };
    let protected = |folder: &Path, name: &str, mask: Mask| Protected { path: folder.join(name), mask };
    let mut paths: Vec<Protected> = Vec::new();
    paths.extend(GIT_FOLDERS.iter().map(|name| protected(common, name, Mask::Folder)));
    paths.extend(GIT_FILES.iter().map(|name| protected(common, name, Mask::File(String::new()))));
    paths.push(protected(common, SUBMODULES, Mask::Nothing));
    let (name, text) = GIT_COMMON_DIR;
    // Where the placeholder would change what git does, `DamageCheck` detects the file. It does not examine submodules.
    let has_placeholder = is_submodule || !config.sets_working_folder();
    paths.push(protected(common, name, if has_placeholder { Mask::File(text.to_owned()) } else { Mask::Nothing }));
    paths.push(protected(common, WORKTREE_SETTINGS, worktree_settings.clone()));
    let mut worktrees = worktree_folders(common);
    if path != common && !worktrees.contains(path) {
        worktrees.push(path.clone());
    }
    for worktree in worktrees {
        paths.extend(WORKTREE_FILES.iter().map(|name| protected(&worktree, name, Mask::Nothing)));
        paths.push(protected(&worktree, WORKTREE_SETTINGS, worktree_settings.clone()));
        paths.extend(entry_of_worktree(&worktree).map(|path| Protected { path, mask: Mask::Nothing }));
    }
    paths.extend(config.hooks_folders(top).into_iter().map(|path| Protected { path, mask: Mask::Folder }));
    let included = config.included_files().iter().cloned();
    paths.extend(included.map(|path| Protected { path, mask: Mask::File(String::new()) }));
    // A file that git reads through a link can be protected, and the link can't: see `links_to_protected`.
    let named_files = config.named_files(top).into_iter().map(|path| resolve_links(&path).target);
    let named_files = named_files.filter(|path| !path.starts_with(top.join(GIT_ENTRY)));
    paths.extend(named_files.map(|path| Protected { path, mask: Mask::Nothing }));
    paths
}

/// The protected paths of the submodules of a repository. `git status` runs git in each submodule.
fn submodule_protection(folder: &GitFolder, submodules: &BTreeSet<PathBuf>) -> Vec<Protected> {
    let mut paths = Vec::new();
    for submodule in submodules {
        let entry = submodule.join(GIT_ENTRY);
        // The folder with the git folders of all submodules is protected as a whole.
        let modules = folder.common.join(SUBMODULES);
        let inner = GitFolder::of_working_folder(submodule).filter(|inner| !inner.path.starts_with(&modules));
        if inner.as_ref().is_none_or(|inner| inner.path != entry) {
            paths.push(Protected { path: entry, mask: Mask::Nothing });
        }
        paths.extend(inner.iter().flat_map(|inner| git_protection(inner, true)));
    }
    paths
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::super::git_index::tests::index_of;
    use super::super::repository::tests::{create_git_folder, write};
    use super::*;

    #[test]
    fn the_git_files_of_submodules_and_worktrees_are_protected() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for name in [".git", ".git/modules/sub", "own/.git"] {
            create_git_folder(&root, name);
        }
        fs::write(root.join(".git/index"), index_of(&["file"], &["own", "sub"])).unwrap();
        write(&root, "sub/.git", "gitdir: ../.git/modules/sub\n");
        write(&root, "side/.git", &format!("gitdir: {}\n", root.join(".git/worktrees/side").display()));
        write(&root, ".git/worktrees/side/gitdir", &format!("{}\n", root.join("side/.git").display()));
        let protected: Vec<PathBuf> = protected_repositories(&root).into_iter().map(|found| found.path).collect();
        for name in ["sub/.git", "side/.git", "own/.git/config", "own/.git/hooks", "own/.git/commondir"] {
            assert!(protected.contains(&root.join(name)), "{name}: {protected:?}");
        }
        assert!(!protected.contains(&root.join("own/.git")), "git must be able to change its data");
    }

    #[test]
    fn a_file_that_git_reads_through_a_link_is_protected_and_the_links_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for name in [".git", "own/.git"] {
            create_git_folder(&root, name);
            let top = root.join(name).parent().unwrap().to_owned();
            write(&top, ".git/config", "[diff]\n\texternal = tools/ext.sh\n[core]\n\thooksPath = hooks\n");
            write(&top, "real/ext.sh", "");
            symlink("real", top.join("tools")).unwrap();
            symlink("missing", top.join("hooks")).unwrap();
        }
        fs::write(root.join(".git/index"), index_of(&[], &["own"])).unwrap();
        let protected: Vec<PathBuf> = protected_repositories(&root).into_iter().map(|found| found.path).collect();
        for name in ["real/ext.sh", "own/real/ext.sh", "hooks", "own/hooks"] {
            assert!(protected.contains(&root.join(name)), "{name}: {protected:?}");
        }
        assert!(!protected.contains(&root.join("tools/ext.sh")), "the kernel can't protect this path");
        let links = links_to_protected(&git_folders(&root)[0], &BTreeSet::from([root.join("own")]));
        let expected = ["tools", "hooks", "own/tools", "own/hooks"].map(|name| root.join(name));
        assert_eq!(links, BTreeSet::from(expected));
    }

    #[test]
    fn the_placeholder_of_commondir_does_not_make_git_ignore_the_folder_of_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for name in [".git", "own/.git"] {
            create_git_folder(&root, name);
        }
        fs::write(root.join(".git/index"), index_of(&[], &["own"])).unwrap();
        let mask = |name: &str, settings: &str| {
            write(&root, &format!("{name}/config"), settings);
            let path = root.join(name).join(COMMON_FOLDER_FILE);
            protected_repositories(&root).into_iter().find(|found| found.path == path).unwrap().mask
        };
        let placeholder = Mask::File(".\n".to_owned());
        assert_eq!(mask(".git", "[core]\n\tbare = false\n"), placeholder);
        for settings in ["[core]\n\tbare = true\n", "[core]\n\tworktree = ../files\n"] {
            assert_eq!(mask(".git", settings), Mask::Nothing, "{settings}");
            assert_eq!(mask("own/.git", settings), placeholder, "{settings}");
        }
    }
}
