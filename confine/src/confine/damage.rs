//! Detects damage by a program that no level prevents: git must be able to change its branches and its data, so the
//! kernel can't protect them.
//!
//! If a program makes a git folder invalid, git uses the next folder above that looks like a git folder. A program can
//! create such a folder with settings that run programs at the next `git status` of the user.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::git_protection::links_to_protected;
use super::index_state::IndexState;
use super::policy::Policy;
use super::repository::{GIT_ENTRY, HEAD, git_folders, is_git_folder};
use super::repository_state::RepositoryState;
use super::stored_path;

/// The state before a program starts that orch compares with the state after the program has ended. orch can store it,
/// so that another process compares it if orch is killed.
#[derive(Debug, Serialize, Deserialize)]
pub struct DamageCheck {
    /// The working directory of the program, without links.
    #[serde(with = "stored_path::path")]
    cwd: PathBuf,
    /// The valid git folders that the program can change.
    repositories: Vec<RepositoryState>,
    /// The indexes of all repositories whose files the program may be able to change.
    indexes: Vec<IndexState>,
    /// The writable folders that are not git folders themselves: the folders from which git would start, and those with
    /// files of a repository.
    #[serde(with = "stored_path::paths")]
    ordinary_folders: Vec<PathBuf>,
    /// The paths at which git would look for a git folder, and where nothing exists.
    #[serde(with = "stored_path::paths")]
    missing_entries: Vec<PathBuf>,
    /// The paths that the program may not read, and to which a link in a writable folder leads; each with the place to
    /// which it leads.
    denied_links: Vec<KnownLink>,
    /// The writable links on the way to the protected paths of a repository, each with its text.
    protected_links: Vec<KnownLink>,
}

/// A path with a link, and where it leads.
#[derive(Debug, Serialize, Deserialize)]
struct KnownLink {
    #[serde(with = "stored_path::path")]
    path: PathBuf,
    #[serde(with = "stored_path::path")]
    target: PathBuf,
}

impl DamageCheck {
    /// Reads the state before a program starts in the folder `cwd`.
    pub fn take(policy: &Policy, cwd: &Path) -> Self {
        let cwd = fs::canonicalize(cwd).unwrap_or_else(|_| cwd.to_owned());
        let is_writable = |path: &Path| policy.write.iter().any(|root| path.starts_with(root));
        let mut repositories: Vec<RepositoryState> = Vec::new();
        let mut indexes: Vec<IndexState> = Vec::new();
        let mut links: BTreeSet<PathBuf> = BTreeSet::new();
        // The folders in which a user may run git.
        let mut visited: BTreeSet<PathBuf> = cwd.ancestors().map(Path::to_owned).collect();
        for folder in std::iter::once(&cwd).chain(&policy.write).flat_map(|folder| git_folders(folder)) {
            if indexes.iter().any(|known| known.folder.path == folder.path) {
                continue;
            }
            if is_writable(&folder.path) || is_writable(&folder.common) {
                repositories.extend(RepositoryState::read(folder.clone()));
            }
            let (index, folders) = IndexState::read(folder);
            links.extend(links_to_protected(&index.folder, &index.submodules));
            indexes.push(index);
            visited.extend(folders);
        }
        visited.retain(|folder| is_writable(folder));
        let entries: Vec<PathBuf> = visited.iter().map(|folder| folder.join(GIT_ENTRY)).collect();
        let folders: BTreeSet<PathBuf> = visited.into_iter().chain(policy.write.iter().cloned()).collect();
        let is_missing = |path: &PathBuf| path.symlink_metadata().is_err();
        let denied_links = policy.deny_read.iter().filter(|path| is_writable(path)).filter_map(|path| {
            let target = fs::canonicalize(path).ok()?;
            (target != *path).then(|| KnownLink { path: path.clone(), target })
        });
        let protected_links = links.into_iter().filter(|path| is_writable(path));
        let protected_links =
            protected_links.filter_map(|path| Some(KnownLink { target: fs::read_link(&path).ok()?, path }));
        Self {
            repositories,
            indexes,
            ordinary_folders: folders.into_iter().filter(|folder| !is_git_folder(folder)).collect(),
            missing_entries: entries.into_iter().filter(is_missing).collect(),
            denied_links: denied_links.collect(),
            protected_links: protected_links.collect(),
            cwd,
        }
    }

    /// The working directory of the program, without links.
    pub fn folder(&self) -> &Path {
        &self.cwd
    }

    /// The damage since [`DamageCheck::take`], each as a sentence.
    pub fn damage(&self) -> Vec<String> {
        let mut damage: Vec<String> = self.repositories.iter().flat_map(RepositoryState::damage).collect();
        damage.extend(self.indexes.iter().flat_map(IndexState::damage));
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
        let changed_links =
            self.protected_links.iter().filter(|link| fs::read_link(&link.path).ok().as_ref() != Some(&link.target));
        damage.extend(changed_links.map(|link| {
            let link = link.path.display();
            format!("the program changed the link `{link}`, which leads to a file that git reads or runs")
        }));
        for KnownLink { path, target } in &self.denied_links {
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
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::git_index::tests::index_of;
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
        assert_eq!(stored(&check).damage(), damage, "another process finds the same damage");
    }

    /// The check as another process reads it.
    fn stored(check: &DamageCheck) -> DamageCheck {
        serde_json::from_slice(&serde_json::to_vec(check).unwrap()).unwrap()
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
    fn a_file_that_refers_git_to_another_folder_is_detected() {
        let redirect = |root: &Path| fs::write(root.join(".git/commondir"), "../sub\n").unwrap();
        assert_damage(".", redirect, ".git/commondir");
        // A placeholder that orch removes after the program is no damage.
        let (_folder, root, policy) = workspace();
        fs::write(root.join(".git/commondir"), ".\n").unwrap();
        let check = DamageCheck::take(&policy, &root);
        fs::remove_file(root.join(".git/commondir")).unwrap();
        assert_eq!(check.damage(), Vec::<String>::new());
    }

    #[test]
    fn a_git_folder_that_no_user_may_enter_is_damaged() {
        let close = |root: &Path| {
            fs::set_permissions(root.join(".git/refs"), fs::Permissions::from_mode(0o644)).unwrap();
        };
        assert_damage(".", close, ".git/refs");
    }

    #[test]
    fn a_submodule_in_the_index_is_detected_when_it_gets_a_repository() {
        let (_folder, root, policy) = workspace();
        let write_index = |submodules: &[&str]| {
            fs::write(root.join(".git/index"), index_of(&["file"], submodules)).unwrap();
        };
        for name in ["known/.git", "other/.git"] {
            create_git_folder(&root.join(name));
        }
        fs::create_dir(root.join("empty")).unwrap();
        write_index(&["empty", "known"]);
        let check = DamageCheck::take(&policy, &root);
        assert_eq!(check.damage(), Vec::<String>::new());
        // The repository `other` existed, but `git status` did not run git in it.
        write_index(&["empty", "known", "other"]);
        fs::write(root.join("empty/.git"), "gitdir: ../other/.git\n").unwrap();
        let damage = check.damage().join("; ");
        for name in ["empty", "other"] {
            assert!(damage.contains(&format!("the submodule `{}`", root.join(name).display())), "{damage}");
        }
        assert!(!damage.contains("known"), "{damage}");
    }

    #[test]
    fn a_repository_in_a_folder_with_files_of_the_repository_is_detected() {
        for (folder, path) in [("src/a/.git", "src/a/.git"), ("src/a", "src/a/HEAD"), ("src", "src/HEAD")] {
            let (_folder, root, policy) = workspace();
            fs::create_dir_all(root.join("src/a")).unwrap();
            fs::write(root.join(".git/index"), index_of(&["src/a/file"], &[])).unwrap();
            let check = DamageCheck::take(&policy, &root);
            create_git_folder(&root.join(folder));
            let damage = check.damage();
            let expected = format!("`{}`", root.join(path).display());
            assert!(damage.len() == 1 && damage[0].contains(&expected), "{expected}: {damage:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_check_with_names_that_are_not_utf_8_can_be_stored() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;

        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap().join(OsStr::from_bytes(b"ws\xff"));
        create_git_folder(&root.join(".git"));
        fs::create_dir_all(root.join(OsStr::from_bytes(b"\xfe/a"))).unwrap();
        let policy = Policy { write: vec![root.clone()], ..Policy::default() };
        let check = stored(&DamageCheck::take(&policy, &root.join(OsStr::from_bytes(b"\xfe/a"))));
        assert!(check.folder().starts_with(&root));
        assert_eq!(check.damage(), Vec::<String>::new());
        create_git_folder(&root.join(OsStr::from_bytes(b"\xfe/.git")));
        fs::remove_file(root.join(".git/HEAD")).unwrap();
        assert_eq!(check.damage().len(), 2, "{:?}", check.damage());
    }

    #[test]
    fn a_changed_link_to_a_program_of_git_is_detected() {
        let (_folder, root, policy) = workspace();
        fs::create_dir(root.join("real")).unwrap();
        fs::write(root.join("real/diff.sh"), "").unwrap();
        fs::write(root.join(".git/config"), "[diff]\n\texternal = tools/diff.sh\n[core]\n\thooksPath = hooks\n")
            .unwrap();
        for (target, link) in [("real", "tools"), ("missing", "hooks"), ("real", "other")] {
            std::os::unix::fs::symlink(target, root.join(link)).unwrap();
        }
        let check = DamageCheck::take(&policy, &root);
        assert_eq!(check.damage(), Vec::<String>::new());
        for (link, count) in [("other", 0), ("tools", 1), ("hooks", 2)] {
            fs::remove_file(root.join(link)).unwrap();
            std::os::unix::fs::symlink("sub", root.join(link)).unwrap();
            let damage = stored(&check).damage();
            assert_eq!(damage.len(), count, "{damage:?}");
            assert!(count == 0 || damage.iter().any(|sentence| sentence.contains(&format!("{link}`"))), "{damage:?}");
        }
    }

    #[test]
    fn an_index_that_git_cannot_read_is_detected() {
        let (_folder, root, policy) = workspace();
        fs::write(root.join(".git/index"), index_of(&["file"], &[])).unwrap();
        let check = DamageCheck::take(&policy, &root);
        fs::write(root.join(".git/index"), index_of(&["file", "other"], &[])).unwrap();
        assert_eq!(check.damage(), Vec::<String>::new());
        fs::write(root.join(".git/index"), "DIRC").unwrap();
        assert!(check.damage()[0].contains("damaged the index"), "{:?}", check.damage());
    }

    #[test]
    fn a_worktree_of_an_earlier_program_is_detected_when_its_settings_change() {
        let (_folder, root, policy) = workspace();
        let worktree = root.join(".git/worktrees/side");
        create_git_folder(&root.join(".git/evil "));
        fs::create_dir_all(&worktree).unwrap();
        for (name, text) in [("commondir", "../..\n"), ("HEAD", "ref: refs/heads/side\n")] {
            fs::write(worktree.join(name), text).unwrap();
        }
        // A hard link, through which a program can change a protected file.
        fs::hard_link(worktree.join("commondir"), root.join("link")).unwrap();
        let check = DamageCheck::take(&policy, &root);
        assert_eq!(check.damage(), Vec::<String>::new());
        fs::write(root.join("link"), "../../evil \n").unwrap();
        let damage = check.damage();
        assert!(damage.len() == 1 && damage[0].contains("worktrees/side/commondir"), "{damage:?}");
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
    fn a_git_folder_at_a_protected_path_is_detected_if_no_placeholder_prevents_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let protect = super::super::protect::usually_protected(&root);
        let policy = Policy { write: vec![root.clone()], protect, ..Policy::default() };
        let check = DamageCheck::take(&policy, &root);
        create_git_folder(&root.join(".git"));
        assert!(check.damage()[0].contains("created the repository"), "{:?}", check.damage());
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
