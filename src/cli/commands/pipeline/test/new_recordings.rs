//! The new recordings of a test case. orch writes them to a temporary folder beside the old recordings, and replaces
//! the old recordings after the run.
//!
//! The test case, which is a project file, names the folder of recordings. So orch requires this folder to be inside
//! the folder of the test case, and follows no links.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::folder::{NoFollowFile, NoFollowFolder, is_temporary_name, new_temporary_name};
use crate::runner::RunnerError;
use crate::store::Lock;

use super::path_error;

/// The lock file in a folder of new recordings. The process that writes the recordings holds the lock.
const LOCK_FILE: &str = "lock";
/// The maximum time from the creation of a folder until its process has created the lock file. orch treats an older
/// folder without a lock file as abandoned.
const MAX_LOCK_DELAY: Duration = Duration::from_mins(1);

/// A folder for new recordings. Dropping this value deletes the folder.
pub(super) struct NewRecordings {
    lock: Option<Lock>,
    case_folder: NoFollowFolder,
    name: String,
}

impl NewRecordings {
    /// Creates a folder beside the old recordings. The path `recordings` is relative to the folder of the test case.
    pub(super) fn create_beside(case_folder: &NoFollowFolder, recordings: &str) -> Result<Self, RunnerError> {
        let name = format!("{}{}", parent_path(recordings), new_temporary_name());
        case_folder.create_subfolder(&name).map_err(|error| path_error(&case_folder.path().join(&name), &error))?;
        let mut new_folder = Self { lock: None, case_folder: case_folder.clone(), name };
        let (file, owner) = (new_folder.file(LOCK_FILE), format!("process {}", std::process::id()));
        let lock = Lock::acquire(&file, "the folder of new recordings", &owner);
        new_folder.lock = Some(lock.map_err(|error| RunnerError::usage(error.to_string()))?);
        Ok(new_folder)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.case_folder.path().join(&self.name)
    }

    fn file(&self, name: &str) -> NoFollowFile {
        self.case_folder.file(format!("{}/{name}", self.name))
    }

    /// Moves the new recordings to their destination. Then deletes the old recordings if `delete_old` is set; the
    /// caller does not set it if other test cases may share the folder. If the process dies before the deletion, the
    /// old recordings remain.
    pub(super) fn replace_old(&self, recordings: &str, delete_old: bool) -> Result<(), RunnerError> {
        let destination = self.case_folder.path().join(recordings);
        self.case_folder.create_subfolder(recordings).map_err(|error| path_error(&destination, &error))?;
        let old_names = recording_names(&self.case_folder, recordings)?;
        let new_names = recording_names(&self.case_folder, &self.name)?;
        for name in &new_names {
            let target = self.case_folder.file(format!("{recordings}/{name}"));
            self.file(name).rename(&target).map_err(|error| path_error(&target.path(), &error))?;
        }
        let outdated = old_names.iter().filter(|name| delete_old && !new_names.contains(name));
        outdated
            .map(|name| self.case_folder.file(format!("{recordings}/{name}")))
            .try_for_each(|file| file.remove().map_err(|error| path_error(&file.path(), &error)))
    }
}

impl Drop for NewRecordings {
    fn drop(&mut self) {
        self.lock = None;
        // If this fails, the next run of the test case deletes the folder.
        drop(self.case_folder.remove_tree(&self.name));
    }
}

/// The path of a folder's parent, with a trailing `/`. Empty if the parent is the folder of the test case.
fn parent_path(name: &str) -> &str {
    let name = name.trim_end_matches('/');
    name.rfind('/').map_or("", |end| &name[..=end])
}

/// The names of the recordings in a folder.
fn recording_names(case_folder: &NoFollowFolder, name: &str) -> Result<Vec<String>, RunnerError> {
    let entries = case_folder.list(name).map_err(|error| path_error(&case_folder.path().join(name), &error))?;
    let names = entries.into_iter().map(|(name, _)| name);
    Ok(names.filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "json")).collect())
}

/// Deletes the folders of new recordings whose processes have died.
pub(super) fn remove_abandoned_folders(case_folder: &NoFollowFolder, recordings: &str) -> Result<(), RunnerError> {
    let parent_folder = parent_path(recordings);
    let Ok(entries) = case_folder.list(parent_folder) else { return Ok(()) };
    for (name, _) in entries.into_iter().filter(|(name, meta)| is_temporary_name(name) && meta.is_dir()) {
        let name = format!("{parent_folder}{name}");
        if is_abandoned(case_folder, &name) {
            case_folder.remove_tree(&name).map_err(|error| path_error(&case_folder.path().join(&name), &error))?;
        }
    }
    Ok(())
}

fn is_abandoned(case_folder: &NoFollowFolder, name: &str) -> bool {
    let lock = case_folder.file(format!("{name}/{LOCK_FILE}"));
    if lock.exists() {
        return !Lock::is_held(&lock);
    }
    case_folder.file(name).modified().is_ok_and(|time| time.elapsed().unwrap_or_default() > MAX_LOCK_DELAY)
}
