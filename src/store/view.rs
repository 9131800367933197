//! The workspace as people see it: artifact files, written atomically, and never over
//! bytes that orch did not write.

use std::path::{Path, PathBuf};

use crate::crash::crash_point;
use crate::model::{Artifact, Digest};

use super::blob::{TEMPORARY, write_atomically};
use super::{Records, StoreError};

/// The name of the workspace's lock file.
const LOCK: &str = ".orch.lock";
/// The name of the file that programs in the workspace keep locked.
const PROGRAMS_LOCK: &str = ".orch.programs.lock";

/// A workspace folder.
#[derive(Clone, Debug)]
pub struct View {
    folder: PathBuf,
}

/// How an artifact file differs from its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edited {
    /// It holds other bytes than any that orch wrote there.
    Changed,
    /// It holds what this run wrote there before.
    Earlier,
    /// Another run wrote it since.
    OtherRun(String),
}

impl View {
    /// The workspace at `folder`, made if it is not there; symbolic links in its path are resolved once.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?;
        let folder = folder.canonicalize().map_err(StoreError::io("open", folder))?;
        Ok(Self { folder })
    }

    /// The workspace at `folder` if it is there.
    pub fn existing(folder: &Path) -> Option<Self> {
        let folder = folder.canonicalize().ok().filter(|folder| folder.is_dir())?;
        Some(Self { folder })
    }

    /// The folder, absolute.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder as the journal names it.
    pub fn name(&self) -> String {
        self.folder.display().to_string()
    }

    /// Where the workspace's lock lies.
    pub fn lock_path(&self) -> PathBuf {
        self.folder.join(LOCK)
    }

    /// Where the lock lies that the workspace's programs hold too.
    pub fn programs_lock_path(&self) -> PathBuf {
        self.folder.join(PROGRAMS_LOCK)
    }

    /// The digest of a file's bytes, `None` when there is no such file.
    pub fn digest(&self, path: &str) -> Result<Option<Digest>, StoreError> {
        Ok(self.read(path)?.map(|bytes| Digest::of(&bytes)))
    }

    /// A file's bytes, `None` when there is no such file.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let file = self.folder.join(path);
        match std::fs::read(&file) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", &file)(error)),
        }
    }

    /// Fails when one of the files that a run will write holds bytes that orch did not write.
    pub fn check_free<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a str>,
        records: &Records,
    ) -> Result<(), StoreError> {
        for path in paths {
            let file = self.folder.join(path);
            let foreign = match std::fs::symlink_metadata(&file) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
                Err(error) => return Err(StoreError::io("read", &file)(error)),
                Ok(meta) if !meta.is_file() => true,
                Ok(_) => self.digest(path)?.is_some_and(|digest| !records.has(path, digest.as_str())),
            };
            if foreign {
                return Err(StoreError::Foreign { path: file });
            }
        }
        Ok(())
    }

    /// Whether a person or another run changed the file of a standing artifact. A missing file is no
    /// edit, and bytes of an earlier record of ours are none where a crash may have left them.
    pub fn edited(
        &self,
        artifact: &Artifact,
        run: &str,
        records: &Records,
        crash: bool,
    ) -> Result<Option<Edited>, StoreError> {
        let Some(path) = &artifact.path else { return Ok(None) };
        let Some(found) = self.digest(path)? else { return Ok(None) };
        if found == artifact.digest {
            return Ok(None);
        }
        if !records.has(path, found.as_str()) {
            return Ok(Some(Edited::Changed));
        }
        let other = records.last_writer(path).filter(|last| *last != run).map(|last| Edited::OtherRun(last.to_owned()));
        Ok(other.or((!crash).then_some(Edited::Earlier)))
    }

    /// Whether the file of an artifact shows its value.
    pub fn shows(&self, artifact: &Artifact) -> Result<bool, StoreError> {
        let Some(path) = &artifact.path else { return Ok(false) };
        Ok(self.digest(path)?.as_ref() == Some(&artifact.digest))
    }

    /// Makes the file of an artifact show its value; does nothing when it already does.
    ///
    /// The folder is not synced: a file that a power failure takes away is written again from its record.
    pub fn show(&self, artifact: &Artifact) -> Result<(), StoreError> {
        let Some(path) = &artifact.path else { return Ok(()) };
        if self.shows(artifact)? {
            return Ok(());
        }
        crash_point!("view::show");
        write_atomically(&self.folder.join(path), &artifact.bytes())?;
        crash_point!("view::shown");
        Ok(())
    }

    /// Removes what a killed process left half-written beside the artifacts. For whoever holds the
    /// workspace's lock: nobody else writes such files.
    pub fn sweep(&self) -> Result<(), StoreError> {
        let entries = std::fs::read_dir(&self.folder).map_err(StoreError::io("read", &self.folder))?;
        for entry in entries {
            let entry = entry.map_err(StoreError::io("read", &self.folder))?;
            let is_ours = entry.file_name().to_string_lossy().starts_with(TEMPORARY);
            if is_ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
                std::fs::remove_file(entry.path()).map_err(StoreError::io("remove", &entry.path()))?;
            }
        }
        Ok(())
    }

    /// Removes the recorded files whose bytes are as recorded, without some; returns the removed and the
    /// kept paths.
    pub fn clean(&self, records: &Records, without: &[String]) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let (mut removed, mut kept) = (Vec::new(), Vec::new());
        for path in records.paths().into_iter().filter(|path| without.iter().all(|kept| kept != path)) {
            let file = self.folder.join(path);
            let is_file = std::fs::symlink_metadata(&file).is_ok_and(|meta| meta.is_file());
            let Some(digest) = is_file.then(|| self.digest(path)).transpose()?.flatten() else {
                continue;
            };
            if records.has(path, digest.as_str()) {
                std::fs::remove_file(&file).map_err(StoreError::io("remove", &file))?;
                crash_point!("clean::removed");
                removed.push(path.to_owned());
            } else {
                kept.push(path.to_owned());
            }
        }
        Ok((removed, kept))
    }
}
