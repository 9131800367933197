//! New recordings of a test case: gathered beside the old ones, which stay until the run came to its end.
//!
//! The folder of recordings is named by a file of the project: it lies below that of the case, and no link is followed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::failed;
use crate::folder::{OwnFile, OwnFolder, TEMPORARY};
use crate::session::SessionError;
use crate::store::Lock;

/// The file in a folder of new recordings whose lock says that its process lives.
const LOCK: &str = "lock";
/// A folder of this age has its lock, if its process lives.
const YOUNG: Duration = Duration::from_mins(1);

/// A folder for new recordings; it goes when it is dropped.
pub(super) struct Fresh {
    lock: Option<Lock>,
    cases: OwnFolder,
    name: String,
}

impl Fresh {
    /// A folder beside that of the old recordings, which has a name in the folder of the cases.
    pub(super) fn beside(cases: &OwnFolder, recordings: &str) -> Result<Self, SessionError> {
        let name = format!("{}{TEMPORARY}{}", parent(recordings), uuid::Uuid::now_v7().simple());
        cases.make(&name).map_err(|error| failed(&cases.path().join(&name), &error))?;
        let mut fresh = Self { lock: None, cases: cases.clone(), name };
        let (file, me) = (fresh.file(LOCK), format!("process {}", std::process::id()));
        let lock = Lock::take(&file, "the folder of new recordings", &me);
        fresh.lock = Some(lock.map_err(|error| SessionError::usage(error.to_string()))?);
        Ok(fresh)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.cases.path().join(&self.name)
    }

    fn file(&self, name: &str) -> OwnFile {
        self.cases.file(format!("{}/{name}", self.name))
    }

    /// Puts the new recordings in place; then the old ones go, unless other cases may share the folder.
    /// Who dies in between has both.
    pub(super) fn take(&self, recordings: &str, own: bool) -> Result<(), SessionError> {
        let shown = self.cases.path().join(recordings);
        self.cases.make(recordings).map_err(|error| failed(&shown, &error))?;
        let old = list(&self.cases, recordings)?;
        let taken = list(&self.cases, &self.name)?;
        for name in &taken {
            let target = self.cases.file(format!("{recordings}/{name}"));
            self.file(name).rename(&target).map_err(|error| failed(&target.path(), &error))?;
        }
        let left = old.iter().filter(|name| own && !taken.contains(name));
        left.map(|name| self.cases.file(format!("{recordings}/{name}")))
            .try_for_each(|file| file.remove().map_err(|error| failed(&file.path(), &error)))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        self.lock = None;
        // What is left is swept by the next run of the case.
        drop(self.cases.remove_tree(&self.name));
    }
}

/// The way to the folder that a folder lies in, with `/` at its end; nothing for one that lies beside the cases.
fn parent(name: &str) -> &str {
    let name = name.trim_end_matches('/');
    name.rfind('/').map_or("", |end| &name[..=end])
}

/// The names of the recordings in a folder.
fn list(cases: &OwnFolder, name: &str) -> Result<Vec<String>, SessionError> {
    let entries = cases.list(name).map_err(|error| failed(&cases.path().join(name), &error))?;
    let names = entries.into_iter().map(|(name, _)| name);
    Ok(names.filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "json")).collect())
}

/// Removes the folders beside recordings whose processes died.
pub(super) fn sweep(cases: &OwnFolder, recordings: &str) -> Result<(), SessionError> {
    let parent = parent(recordings);
    let Ok(entries) = cases.list(parent) else { return Ok(()) };
    for (name, _) in entries.into_iter().filter(|(name, meta)| name.starts_with(TEMPORARY) && meta.is_dir()) {
        let name = format!("{parent}{name}");
        if is_dead(cases, &name) {
            cases.remove_tree(&name).map_err(|error| failed(&cases.path().join(&name), &error))?;
        }
    }
    Ok(())
}

fn is_dead(cases: &OwnFolder, name: &str) -> bool {
    let lock = cases.file(format!("{name}/{LOCK}"));
    if lock.exists() {
        return !Lock::is_held(&lock);
    }
    cases.file(name).modified().is_ok_and(|at| at.elapsed().unwrap_or_default() > YOUNG)
}
