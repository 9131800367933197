//! Detects damage by a program that no level prevents: git must be able to change its branches and its data, so the
//! kernel can't protect them.
//!
//! If a program makes a git folder invalid, git uses the next folder above that looks like a git folder. A program can
//! create such a folder with settings that run programs at the next `git status` of the user.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::policy::Policy;
use super::repository::{
    DATA_FOLDERS, GIT_ENTRY, GitFolder, HEAD, git_folders, has_valid_head, is_git_folder, own_settings_of_worktree,
    worktree_entries,
};

/// The state before a program starts that orch compares with the state after the program has ended.
#[derive(Debug)]
pub struct DamageCheck {
    /// The valid git folders that the program can change.
    repositories: Vec<RepositoryState>,
    /// The writable folders that are not git folders themselves.
    ordinary_folders: Vec<PathBuf>,
    /// The paths at which git would look for a git folder, and where nothing exists.
    missing_entries: Vec<PathBuf>,
    /// The paths that the program may not read, and to which a link in a writable folder leads.
    denied_links: Vec<(PathBuf, PathBuf)>,
}

/// The state of a valid git folder.
#[derive(Debug)]
struct RepositoryState {
    folder: GitFolder,
    /// The folders for objects and branches.
    data: Vec<(PathBuf, EntryState)>,
    worktrees: BTreeSet<PathBuf>,
}

/// The kind of the entry at a path.
#[derive(Debug, PartialEq, Eq)]
enum EntryState {
    Folder,
    /// A link with this target.
    Link(PathBuf),
    MissingOrFile,
}

impl EntryState {
    fn read(path: &Path) -> Self {
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => Self::Folder,
            Ok(metadata) if metadata.is_symlink() => Self::Link(fs::read_link(path).unwrap_or_default()),
            Ok(_) | Err(_) => Self::MissingOrFile,
        }
    }
}

impl RepositoryState {
    /// Reads the state of a git folder; `None` if git does not use the folder.
    fn read(folder: GitFolder) -> Option<Self> {
        let data = DATA_FOLDERS.iter().map(|name| folder.common.join(name));
        let data: Vec<_> = data.map(|path| (path.clone(), EntryState::read(&path))).collect();
        let is_valid =
            has_valid_head(&folder.path) && data.iter().all(|(_, state)| *state != EntryState::MissingOrFile);
        let worktrees = worktree_entries(&folder.common).into_iter().collect();
        is_valid.then_some(Self { folder, data, worktrees })
    }

    /// The damage since the state was read, each as a sentence.
    fn damage(&self) -> Vec<String> {
        let GitFolder { path, common, .. } = &self.folder;
        let mut damage = Vec::new();
        if !has_valid_head(path) {
            let head = path.join(HEAD);
            damage.push(format!("the program removed or damaged `{}`", head.display()));
        }
        for (path, state) in &self.data {
            if EntryState::read(path) != *state {
                damage.push(format!("the program removed or replaced `{}`", path.display()));
            }
        }
        let worktrees = worktree_entries(common).into_iter().filter(|worktree| !self.worktrees.contains(worktree));
        let files = worktrees.filter_map(|worktree| own_settings_of_worktree(&worktree, common));
        damage.extend(files.map(|file| {
            let file = file.display();
            format!("the program created `{file}`, through which git reads settings that the program can change")
        }));
        damage
    }
}

impl DamageCheck {
    /// Reads the state before a program starts in the folder `cwd`.
    pub fn take(policy: &Policy, cwd: &Path) -> Self {
        let cwd = fs::canonicalize(cwd).unwrap_or_else(|_| cwd.to_owned());
        let is_writable = |path: &Path| policy.write.iter().any(|root| path.starts_with(root));
        let mut repositories: Vec<RepositoryState> = Vec::new();
        for folder in std::iter::once(&cwd).chain(&policy.write).flat_map(|folder| git_folders(folder)) {
            let is_known = repositories.iter().any(|known| known.folder.path == folder.path);
            if !is_known && (is_writable(&folder.path) || is_writable(&folder.common)) {
                repositories.extend(RepositoryState::read(folder));
            }
        }
        let folders_of_cwd: Vec<&Path> = cwd.ancestors().filter(|folder| is_writable(folder)).collect();
        let folders: BTreeSet<&Path> =
            folders_of_cwd.iter().copied().chain(policy.write.iter().map(PathBuf::as_path)).collect();
        let is_protected = |path: &PathBuf| policy.protect.iter().any(|protected| protected.path == *path);
        let entries = folders_of_cwd.iter().map(|folder| folder.join(GIT_ENTRY));
        let is_missing = |path: &PathBuf| path.symlink_metadata().is_err();
        let denied_links = policy.deny_read.iter().filter(|path| is_writable(path)).filter_map(|path| {
            let target = fs::canonicalize(path).ok()?;
            (target != *path).then(|| (path.clone(), target))
        });
        Self {
            repositories,
            ordinary_folders: folders.into_iter().filter(|folder| !is_git_folder(folder)).map(Path::to_owned).collect(),
            missing_entries: entries.filter(|path| !is_protected(path) && is_missing(path)).collect(),
            denied_links: denied_links.collect(),
        }
    }

    /// The damage since [`DamageCheck::take`], each as a sentence.
    pub fn damage(&self) -> Vec<String> {
        let mut damage: Vec<String> = self.repositories.iter().flat_map(RepositoryState::damage).collect();
        for folder in self.ordinary_folders.iter().filter(|folder| is_git_folder(folder)) {
            let (head, config) = (folder.join(HEAD), folder.join("config"));
            damage.push(format!(
                "the program created `{}`, so git takes `{}` for a repository and runs programs that `{}` names",
                head.display(),
                folder.display(),
                config.display()
            ));
        }
        for entry in self.missing_entries.iter().filter(|path| path.symlink_metadata().is_ok()) {
            let entry = entry.display();
            damage.push(format!("the program created the repository `{entry}`, whose settings can name programs"));
        }
        for (path, target) in &self.denied_links {
            if fs::canonicalize(path).ok().as_ref() != Some(target) {
                damage.push(format!(
                    "the program changed a link on the way to `{}`, so that a later program could read `{}`",
                    path.display(),
                    target.display()
                ));
            }
        }
        damage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace with a repository.
    fn workspace() -> (tempfile::TempDir, PathBuf, Policy) {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap().join("ws");
        create_git_folder(&root.join(".git"));
        fs::create_dir_all(root.join("sub/inner")).unwrap();
        let policy = Policy { write: vec![root.clone()], ..Policy::default() };
        (folder, root, policy)
    }

    fn create_git_folder(path: &Path) {
        fs::create_dir_all(path.join("objects")).unwrap();
        fs::create_dir_all(path.join("refs")).unwrap();
        fs::write(path.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    }

    /// Asserts that a change causes exactly one damage whose sentence names this path of the workspace.
    #[track_caller]
    fn assert_damage(cwd: &str, change: impl FnOnce(&Path), path: &str) {
        let (_folder, root, policy) = workspace();
        let check = DamageCheck::take(&policy, &root.join(cwd));
        assert_eq!(check.damage(), Vec::<String>::new());
        change(&root);
        let damage = check.damage();
        let expected = format!("`{}`", root.join(path).display());
        assert!(damage.len() == 1 && damage[0].contains(&expected), "{expected}: {damage:?}");
    }

    #[test]
    fn a_damaged_git_folder_is_detected() {
        assert_damage(".", |root| fs::remove_file(root.join(".git/HEAD")).unwrap(), ".git/HEAD");
        assert_damage(".", |root| fs::write(root.join(".git/HEAD"), "x").unwrap(), ".git/HEAD");
        assert_damage("sub", |root| fs::remove_dir(root.join(".git/objects")).unwrap(), ".git/objects");
        assert_damage(
            ".",
            |root| {
                fs::remove_dir(root.join(".git/refs")).unwrap();
                std::os::unix::fs::symlink("../sub", root.join(".git/refs")).unwrap();
            },
            ".git/refs",
        );
    }

    #[test]
    fn a_new_git_folder_is_detected_in_every_folder_up_to_the_current_one() {
        for (cwd, folder) in [(".", "."), ("sub/inner", "."), ("sub/inner", "sub"), ("sub/inner", "sub/inner")] {
            let head = if folder == "." { "HEAD".to_owned() } else { format!("{folder}/HEAD") };
            assert_damage(cwd, |root| create_git_folder(&root.join(folder)), &head);
        }
        assert_damage("sub/inner", |root| create_git_folder(&root.join("sub/.git")), "sub/.git");
        let (_folder, root, policy) = workspace();
        let check = DamageCheck::take(&policy, &root);
        create_git_folder(&root.join("sub"));
        assert_eq!(check.damage(), Vec::<String>::new(), "a repository in another folder may be the program's work");
    }

    #[test]
    fn the_usual_work_of_git_is_no_damage() {
        let (_folder, root, policy) = workspace();
        let check = DamageCheck::take(&policy, &root);
        let git = root.join(".git");
        fs::write(git.join("HEAD.lock"), format!("{}\n", "0a".repeat(20))).unwrap();
        fs::rename(git.join("HEAD.lock"), git.join("HEAD")).unwrap();
        fs::create_dir_all(git.join("objects/0a")).unwrap();
        fs::create_dir_all(git.join("worktrees/side")).unwrap();
        fs::write(git.join("worktrees/side/commondir"), "../..\n").unwrap();
        fs::write(git.join("worktrees/side/HEAD"), "ref: refs/heads/side\n").unwrap();
        assert_eq!(check.damage(), Vec::<String>::new());
        fs::write(git.join("worktrees/side/config.worktree"), "").unwrap();
        assert!(check.damage()[0].contains("worktrees/side/config.worktree"));
    }

    #[test]
    fn a_changed_link_to_a_denied_file_is_detected() {
        let (_folder, root, mut policy) = workspace();
        fs::write(root.join("sub/secret"), "").unwrap();
        std::os::unix::fs::symlink("sub", root.join("link")).unwrap();
        policy.deny_read = vec![root.join("link/secret"), root.join("sub/secret")];
        let check = DamageCheck::take(&policy, &root);
        assert_eq!(check.damage(), Vec::<String>::new());
        fs::remove_file(root.join("link")).unwrap();
        let damage = check.damage();
        assert!(damage.len() == 1 && damage[0].contains("link/secret"), "{damage:?}");
    }
}
