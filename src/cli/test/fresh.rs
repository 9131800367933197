//! New recordings of a test case: gathered beside the old ones, which stay until the run came to its end.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::failed;
use crate::cli::error::CliError;
use crate::store::Lock;

/// How the names of folders begin that hold new recordings.
const PREFIX: &str = ".orch-tmp-";
/// The file in such a folder whose lock says that its process lives.
const LOCK: &str = "lock";
/// A folder of this age has its lock, if its process lives.
const YOUNG: Duration = Duration::from_mins(1);

/// A folder for new recordings.
pub(super) struct Fresh {
    // Released before the folder goes: the fields are dropped in this order.
    _lock: Lock,
    folder: TempDir,
}

impl Fresh {
    /// A folder beside that of the old recordings.
    pub(super) fn beside(recordings: &Path) -> Result<Self, CliError> {
        let parent = recordings.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(|error| failed(parent, &error))?;
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent);
        let folder = folder.map_err(|error| failed(parent, &error))?;
        let me = format!("process {}", std::process::id());
        let lock = Lock::take(&folder.path().join(LOCK), "the folder of new recordings", &me)
            .map_err(|error| CliError::could_not(error.to_string()))?;
        Ok(Self { _lock: lock, folder })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts the new recordings in place; then the old ones go, unless other cases may share the folder.
    /// Who dies in between has both.
    pub(super) fn take(&self, recordings: &Path, own: bool) -> Result<(), CliError> {
        std::fs::create_dir_all(recordings).map_err(|error| failed(recordings, &error))?;
        let old = list(recordings)?;
        let mut taken: HashSet<OsString> = HashSet::new();
        for new in list(self.path())? {
            let name = new.file_name().unwrap_or_default().to_owned();
            let target = recordings.join(&name);
            std::fs::rename(&new, &target).map_err(|error| failed(&target, &error))?;
            taken.insert(name);
        }
        let left = |path: &&PathBuf| own && !path.file_name().is_some_and(|name| taken.contains(name));
        old.iter().filter(left).try_for_each(|path| std::fs::remove_file(path).map_err(|error| failed(path, &error)))
    }
}

/// The recordings in a folder.
fn list(folder: &Path) -> Result<Vec<PathBuf>, CliError> {
    let entries = std::fs::read_dir(folder).map_err(|error| failed(folder, &error))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(|error| failed(folder, &error)));
    let paths: Vec<PathBuf> = paths.collect::<Result<_, _>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect())
}

/// Removes the folders beside `recordings` whose processes died.
pub(super) fn sweep(recordings: &Path) -> Result<(), CliError> {
    let parent = recordings.parent().unwrap_or(Path::new("."));
    let Ok(entries) = std::fs::read_dir(parent) else { return Ok(()) };
    for entry in entries {
        let entry = entry.map_err(|error| failed(parent, &error))?;
        let (path, ours) = (entry.path(), entry.file_name().to_string_lossy().starts_with(PREFIX));
        if ours && entry.file_type().is_ok_and(|kind| kind.is_dir()) && is_dead(&path) {
            std::fs::remove_dir_all(&path).map_err(|error| failed(&path, &error))?;
        }
    }
    Ok(())
}

fn is_dead(folder: &Path) -> bool {
    let lock = folder.join(LOCK);
    if lock.exists() {
        return !Lock::is_held(&lock);
    }
    let age = std::fs::metadata(folder).and_then(|meta| meta.modified()).map(|at| at.elapsed().unwrap_or_default());
    age.is_ok_and(|age| age > YOUNG)
}
