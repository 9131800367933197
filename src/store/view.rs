//! The workspace as people see it: artifact files, written atomically, and never over
//! bytes that orch did not write.

use std::io::ErrorKind;
use std::path::Path;

use crate::crash::crash_point;
use crate::folder::{FolderAccess, OwnFile, OwnFolder, TEMPORARY, is_link_refused};
use crate::model::{Artifact, Digest};

use super::{OwnedFiles, StoreError};

/// The name of the workspace's lock file.
const LOCK: &str = ".orch.lock";
/// The name of the file that programs in the workspace keep locked.
const PROGRAMS_LOCK: &str = ".orch.programs.lock";

/// A workspace folder.
#[derive(Clone, Debug)]
pub struct WorkspaceView {
    folder: OwnFolder,
}

/// How an artifact file differs from its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileDrift {
    /// It holds other bytes than any that orch wrote there.
    Changed,
    /// It holds what this run wrote there before.
    Earlier,
    /// Another run wrote it since.
    OtherRun(String),
}

/// What is at a path of a workspace.
enum ViewEntry {
    /// Nothing.
    Nothing,
    /// A file, by the digest of its bytes.
    Bytes(Digest),
    /// A link, a folder or something else that is no file.
    NoFile,
}

impl WorkspaceView {
    /// The workspace at `folder`, made if it is not there; it must not be a link, and links above it are resolved once.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let folder = OwnFolder::create(folder, FolderAccess::Ordinary).map_err(StoreError::io("open", folder))?;
        Ok(Self { folder })
    }

    /// The workspace at `folder` if it is there.
    pub fn existing(folder: &Path) -> Result<Option<Self>, StoreError> {
        match OwnFolder::open(folder, FolderAccess::Ordinary) {
            Ok(folder) => Ok(Some(Self { folder })),
            Err(error) if is_link_refused(&error) => Err(StoreError::io("open", folder)(error)),
            Err(_) => Ok(None),
        }
    }

    /// The folder, absolute.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The folder as the journal names it.
    pub fn name(&self) -> String {
        self.folder().display().to_string()
    }

    /// The file of the workspace's lock.
    pub fn lock_file(&self) -> OwnFile {
        self.folder.file(LOCK)
    }

    /// The file of the lock that the workspace's programs hold too.
    pub fn programs_lock_file(&self) -> OwnFile {
        self.folder.file(PROGRAMS_LOCK)
    }

    /// The digest of a file's bytes, `None` when there is no such file.
    pub fn digest(&self, path: &str) -> Result<Option<Digest>, StoreError> {
        Ok(self.read(path)?.map(|bytes| Digest::of(&bytes)))
    }

    /// A file's bytes, `None` when there is no such file.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let file = self.folder.file(path);
        match file.read() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", &file.path())(error)),
        }
    }

    /// What is at a path.
    fn found(&self, path: &str) -> Result<ViewEntry, StoreError> {
        let file = self.folder.file(path);
        match file.about() {
            Ok(meta) if meta.is_file() => Ok(self.digest(path)?.map_or(ViewEntry::Nothing, ViewEntry::Bytes)),
            Ok(_) => Ok(ViewEntry::NoFile),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(ViewEntry::Nothing),
            Err(error) => Err(StoreError::io("read", &file.path())(error)),
        }
    }

    /// Fails when one of the files that a run will write holds bytes that orch did not write.
    pub fn check_free<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a str>,
        records: &OwnedFiles,
    ) -> Result<(), StoreError> {
        for path in paths {
            let foreign = match self.found(path)? {
                ViewEntry::Nothing => false,
                ViewEntry::NoFile => true,
                ViewEntry::Bytes(digest) => !records.has(path, digest.as_str()),
            };
            if foreign {
                return Err(StoreError::Foreign { path: self.folder.file(path).path() });
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
        records: &OwnedFiles,
        crash: bool,
    ) -> Result<Option<FileDrift>, StoreError> {
        let Some(path) = &artifact.path else { return Ok(None) };
        let found = match self.found(path)? {
            ViewEntry::Nothing => return Ok(None),
            ViewEntry::NoFile => return Ok(Some(FileDrift::Changed)),
            ViewEntry::Bytes(digest) => digest,
        };
        if found == artifact.digest {
            return Ok(None);
        }
        if !records.has(path, found.as_str()) {
            return Ok(Some(FileDrift::Changed));
        }
        let other =
            records.last_writer(path).filter(|last| *last != run).map(|last| FileDrift::OtherRun(last.to_owned()));
        Ok(other.or((!crash).then_some(FileDrift::Earlier)))
    }

    /// Whether the file of an artifact shows its value.
    pub fn shows(&self, artifact: &Artifact) -> Result<bool, StoreError> {
        let Some(path) = &artifact.path else { return Ok(false) };
        Ok(matches!(self.found(path)?, ViewEntry::Bytes(digest) if digest == artifact.digest))
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
        let file = self.folder.file(path);
        file.replace(&artifact.bytes()).map_err(StoreError::io("write", &file.path()))?;
        crash_point!("view::shown");
        Ok(())
    }

    /// Removes what a killed process left half-written beside the artifacts. For whoever holds the
    /// workspace's lock: nobody else writes such files.
    pub fn sweep(&self) -> Result<(), StoreError> {
        let entries = self.folder.list("").map_err(StoreError::io("read", self.folder()))?;
        for (name, _) in entries.into_iter().filter(|(name, meta)| name.starts_with(TEMPORARY) && meta.is_file()) {
            let file = self.folder.file(name);
            file.remove().map_err(StoreError::io("remove", &file.path()))?;
        }
        Ok(())
    }

    /// Removes the recorded files whose bytes are as recorded, without some; returns the removed and the
    /// kept paths.
    pub fn clean(&self, records: &OwnedFiles, without: &[String]) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let (mut removed, mut kept) = (Vec::new(), Vec::new());
        for path in records.paths().into_iter().filter(|path| without.iter().all(|kept| kept != path)) {
            let ViewEntry::Bytes(digest) = self.found(path)? else { continue };
            if records.has(path, digest.as_str()) {
                let file = self.folder.file(path);
                file.remove().map_err(StoreError::io("remove", &file.path()))?;
                crash_point!("clean::removed");
                removed.push(path.to_owned());
            } else {
                kept.push(path.to_owned());
            }
        }
        Ok((removed, kept))
    }
}
