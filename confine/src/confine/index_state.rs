//! The state of the index of a git folder, which orch compares before and after a program.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::git_index::populated_submodules;
use super::repository::GitFolder;
use super::stored_path;

/// The state of the index of a git folder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct IndexState {
    pub(super) folder: GitFolder,
    is_readable: bool,
    /// The folders of the submodules that contain a repository.
    #[serde(with = "stored_path::paths")]
    pub(super) submodules: BTreeSet<PathBuf>,
}

impl IndexState {
    /// Reads the state of the index of a git folder. Also returns the folders with files of the repository.
    pub(super) fn read(folder: GitFolder) -> (Self, Vec<PathBuf>) {
        let index = folder.index();
        let submodules = populated_submodules(&folder, &index);
        let folders = index.folders.iter().map(|name| folder.top.join(name)).collect();
        (Self { folder, is_readable: index.is_readable, submodules }, folders)
    }

    /// The damage since the state was read, each as a sentence.
    pub(super) fn damage(&self) -> Vec<String> {
        let index = self.folder.index();
        let mut damage = Vec::new();
        if self.is_readable && !index.is_readable {
            let folder = self.folder.path.display();
            damage.push(format!("the program damaged the index of the repository `{folder}`"));
        }
        let submodules = populated_submodules(&self.folder, &index);
        damage.extend(submodules.difference(&self.submodules).map(|submodule| {
            let (submodule, top) = (submodule.display(), self.folder.top.display());
            format!(
                "the program created the submodule `{submodule}`, so `git status` in `{top}` runs programs that its \
                 settings name"
            )
        }));
        damage
    }
}
