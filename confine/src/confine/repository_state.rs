//! The state of a git folder, which orch compares before and after a program.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::repository::{
    COMMON_FOLDER_FILE, DATA_FOLDERS, GitFolder, HEAD, has_valid_head, own_settings_of_worktree, worktree_entries,
};
use super::stored_path;

/// The state of a valid git folder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RepositoryState {
    folder: GitFolder,
    /// Whether the folder with the settings contains no file that refers to another folder.
    lacks_common_file: bool,
    /// The folders for objects and branches.
    data: Vec<DataFolder>,
    /// The files through which git reads other settings in linked worktrees.
    #[serde(with = "stored_path::paths")]
    worktree_settings: BTreeSet<PathBuf>,
}

/// The state of a folder for objects or branches.
#[derive(Debug, Serialize, Deserialize)]
struct DataFolder {
    #[serde(with = "stored_path::path")]
    path: PathBuf,
    state: EntryState,
}

/// The kind of the entry at a path.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum EntryState {
    /// A folder that at least one user may enter. git takes no other folder.
    Folder,
    /// A link with this target.
    Link(#[serde(with = "stored_path::path")] PathBuf),
    Unusable,
}

impl EntryState {
    fn read(path: &Path) -> Self {
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() && metadata.mode() & 0o111 != 0 => Self::Folder,
            Ok(metadata) if metadata.is_symlink() => Self::Link(fs::read_link(path).unwrap_or_default()),
            Ok(_) | Err(_) => Self::Unusable,
        }
    }
}

impl RepositoryState {
    /// Reads the state of a git folder; `None` if git does not use the folder.
    pub(super) fn read(folder: GitFolder) -> Option<Self> {
        let data = DATA_FOLDERS.iter().map(|name| folder.common.join(name));
        let data: Vec<DataFolder> = data.map(|path| DataFolder { state: EntryState::read(&path), path }).collect();
        let is_valid = has_valid_head(&folder.path) && data.iter().all(|entry| entry.state != EntryState::Unusable);
        let worktree_settings = worktree_settings(&folder.common);
        let lacks_common_file = folder.common.join(COMMON_FOLDER_FILE).symlink_metadata().is_err();
        is_valid.then_some(Self { folder, lacks_common_file, data, worktree_settings })
    }

    /// The damage since the state was read, each as a sentence.
    pub(super) fn damage(&self) -> Vec<String> {
        let GitFolder { path, common, .. } = &self.folder;
        let mut damage = Vec::new();
        if !has_valid_head(path) {
            let head = path.join(HEAD);
            damage.push(format!("the program removed or damaged `{}`", head.display()));
        }
        let common_file = common.join(COMMON_FOLDER_FILE);
        if self.lacks_common_file && common_file.symlink_metadata().is_ok() {
            damage.push(format!(
                "the program created `{}`, through which git uses the settings and the hooks of another folder",
                common_file.display()
            ));
        }
        for DataFolder { path, state } in &self.data {
            if EntryState::read(path) != *state {
                damage.push(format!("the program removed or replaced `{}`", path.display()));
            }
        }
        damage.extend(worktree_settings(common).difference(&self.worktree_settings).map(|file| {
            let file = file.display();
            format!("the program wrote `{file}`, through which git reads settings that the program can change")
        }));
        damage
    }
}

/// The files through which git reads other settings in the linked worktrees of a git folder.
fn worktree_settings(common: &Path) -> BTreeSet<PathBuf> {
    let worktrees = worktree_entries(common).into_iter();
    worktrees.filter_map(|worktree| own_settings_of_worktree(&worktree, common)).collect()
}
