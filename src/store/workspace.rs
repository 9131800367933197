//! The artifact files in a workspace. orch writes them atomically, and never overwrites content that it did not write.

use std::io::ErrorKind;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use crate::crash::crash_point;
use crate::folder::{FolderAccess, NoFollowFile, NoFollowFolder, is_temporary_name};
use crate::model::{Artifact, Digest};

use super::{OwnedFiles, StoreError};

/// The name of the workspace's lock file.
const LOCK_FILE: &str = ".orch.lock";
/// The name of the lock file of the programs that run in the workspace; see [`ProgramsLock`](super::ProgramsLock).
const PROGRAMS_LOCK_FILE: &str = ".orch.programs.lock";

/// The maximum time between two heartbeats of a process that writes artifact files, with a margin.
const MAX_HEARTBEAT_AGE: SignedDuration = SignedDuration::from_secs(2);

/// A workspace folder.
#[derive(Clone, Debug)]
pub struct Workspace {
    folder: NoFollowFolder,
}

/// The file of an artifact, compared with its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArtifactFile {
    /// It has the recorded content, or the artifact has no file.
    Unchanged,
    /// It does not exist.
    Missing,
    /// It has other content, with this digest; `None` if a link, a folder or another entry is in its place.
    Changed(Option<Digest>),
}

/// The entry at a path of a workspace.
enum WorkspaceEntry {
    /// No entry.
    Missing,
    /// A regular file, with the digest of its bytes.
    File(Digest),
    /// A link, a folder or anything else that is not a regular file.
    NotRegular,
}

impl Workspace {
    /// Opens the workspace at `folder`, and creates it if needed. The folder must not be a link, but its parent folders
    /// may be links.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let folder = NoFollowFolder::create(folder, FolderAccess::Ordinary).map_err(StoreError::io("open", folder))?;
        Ok(Self { folder })
    }

    /// Opens the workspace at `folder`; `None` if it does not exist.
    pub fn open_existing(folder: &Path) -> Result<Option<Self>, StoreError> {
        match NoFollowFolder::open(folder, FolderAccess::Ordinary) {
            Ok(folder) => Ok(Some(Self { folder })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("open", folder)(error)),
        }
    }

    /// The folder, absolute.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The path of the folder as the journal records it.
    pub fn path_in_journal(&self) -> String {
        self.folder().display().to_string()
    }

    /// The workspace's lock file.
    pub fn lock_file(&self) -> NoFollowFile {
        self.folder.file(LOCK_FILE)
    }

    /// The lock file of the programs that run in the workspace.
    pub fn programs_lock_file(&self) -> NoFollowFile {
        self.folder.file(PROGRAMS_LOCK_FILE)
    }

    /// The digest of a file's bytes; `None` if there is no such file.
    pub fn digest(&self, path: &str) -> Result<Option<Digest>, StoreError> {
        Ok(self.read(path)?.map(|bytes| Digest::compute(&bytes)))
    }

    /// A file's bytes; `None` if there is no such file.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let file = self.folder.file(path);
        match file.read() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", &file.path())(error)),
        }
    }

    /// The entry at a path.
    fn entry_at(&self, path: &str) -> Result<WorkspaceEntry, StoreError> {
        let file = self.folder.file(path);
        match file.metadata() {
            Ok(meta) if meta.is_file() => Ok(self.digest(path)?.map_or(WorkspaceEntry::Missing, WorkspaceEntry::File)),
            Ok(_) => Ok(WorkspaceEntry::NotRegular),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(WorkspaceEntry::Missing),
            Err(error) => Err(StoreError::io("read", &file.path())(error)),
        }
    }

    /// Fails if one of the files that a run will write has content that orch did not write.
    pub fn check_no_foreign_files<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a str>,
        owned_files: &OwnedFiles,
    ) -> Result<(), StoreError> {
        for path in paths {
            let is_foreign = match self.entry_at(path)? {
                WorkspaceEntry::Missing => false,
                WorkspaceEntry::NotRegular => true,
                WorkspaceEntry::File(digest) => !owned_files.contains(path, digest.as_str()),
            };
            if is_foreign {
                return Err(StoreError::ForeignFile { path: self.folder.file(path).path() });
            }
        }
        Ok(())
    }

    /// Compares the file of an artifact with the record.
    pub fn compare(&self, artifact: &Artifact) -> Result<ArtifactFile, StoreError> {
        let Some(path) = &artifact.path else { return Ok(ArtifactFile::Unchanged) };
        Ok(match self.entry_at(path)? {
            WorkspaceEntry::Missing => ArtifactFile::Missing,
            WorkspaceEntry::NotRegular => ArtifactFile::Changed(None),
            WorkspaceEntry::File(digest) if digest == artifact.digest => ArtifactFile::Unchanged,
            WorkspaceEntry::File(digest) => ArtifactFile::Changed(Some(digest)),
        })
    }

    /// Whether a power failure can have left the file of an artifact in its state: the file has only the first bytes of
    /// the artifact, or zeros in place of the others, and it was not changed after the last heartbeat of the process that
    /// wrote it. The file must exist.
    pub fn is_torn(&self, artifact: &Artifact, last_heartbeat: Timestamp) -> Result<bool, StoreError> {
        let Some(path) = &artifact.path else { return Ok(false) };
        let file = self.folder.file(path);
        let meta = file.metadata().map_err(StoreError::io("read", &file.path()))?;
        let modified = meta.modified().map_err(StoreError::io("read", &file.path()))?;
        let modified = Timestamp::try_from(modified.into_std()).unwrap_or(Timestamp::MAX);
        if !meta.is_file() || modified.duration_since(last_heartbeat) > MAX_HEARTBEAT_AGE {
            return Ok(false);
        }
        let bytes = self.read(path)?.unwrap_or_default();
        Ok(is_torn_copy(&bytes, &artifact.file_bytes()))
    }

    /// Whether the file of an artifact contains its value.
    pub fn is_up_to_date(&self, artifact: &Artifact) -> Result<bool, StoreError> {
        let Some(path) = &artifact.path else { return Ok(false) };
        Ok(matches!(self.entry_at(path)?, WorkspaceEntry::File(digest) if digest == artifact.digest))
    }

    /// Writes the file of an artifact, unless it contains the value already.
    ///
    /// Does not sync the file: if a power failure damages it, a resume writes it again from its record.
    pub fn write_artifact(&self, artifact: &Artifact) -> Result<(), StoreError> {
        let Some(path) = &artifact.path else { return Ok(()) };
        if self.is_up_to_date(artifact)? {
            return Ok(());
        }
        crash_point!("workspace::write");
        let file = self.folder.file(path);
        file.replace_unsynced(&artifact.file_bytes()).map_err(StoreError::io("write", &file.path()))?;
        crash_point!("workspace::written");
        Ok(())
    }

    /// Removes the temporary files that a killed process left in the workspace. The caller holds the workspace's lock,
    /// so no other process is writing such files.
    pub fn remove_temporary_files(&self) -> Result<(), StoreError> {
        let entries = self.folder.list("").map_err(StoreError::io("read", self.folder()))?;
        for (name, _) in entries.into_iter().filter(|(name, meta)| is_temporary_name(name) && meta.is_file()) {
            let file = self.folder.file(name);
            file.remove().map_err(StoreError::io("remove", &file.path()))?;
        }
        Ok(())
    }

    /// Removes the files that orch wrote, except the excluded paths and files that were changed since. Returns the
    /// removed paths and the paths of the changed files.
    pub fn remove_owned_files(
        &self,
        owned_files: &OwnedFiles,
        excluded_paths: &[String],
    ) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let (mut removed, mut changed) = (Vec::new(), Vec::new());
        for path in
            owned_files.paths().into_iter().filter(|path| excluded_paths.iter().all(|excluded| excluded != path))
        {
            let WorkspaceEntry::File(digest) = self.entry_at(path)? else { continue };
            if owned_files.contains(path, digest.as_str()) {
                let file = self.folder.file(path);
                file.remove().map_err(StoreError::io("remove", &file.path()))?;
                crash_point!("clean::removed");
                removed.push(path.to_owned());
            } else {
                changed.push(path.to_owned());
            }
        }
        Ok((removed, changed))
    }
}

/// Whether bytes are the beginning of the recorded bytes, followed only by zeros.
fn is_torn_copy(found: &[u8], recorded: &[u8]) -> bool {
    let length = found.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    length == 0 || (found.len() <= recorded.len() && recorded.get(..length) == found.get(..length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_copy_has_only_the_first_bytes_or_zeros() {
        let recorded = b"{\n  \"a\": 1\n}\n";
        for torn in [&b""[..], b"\0\0", &[0_u8; 4096], b"{\n", b"{\n  \"a\"\0\0"] {
            assert!(is_torn_copy(torn, recorded), "{torn:?}");
        }
        for edited in [&b"{}"[..], b"\n", b"{\n  \"a\": 2\n}\n", b"{\n  \"a\": 1\n}\n\n", b"\0\0a", b"{\n  \"b\0"] {
            assert!(!is_torn_copy(edited, recorded), "{edited:?}");
        }
    }
}
