//! The workspace as the user sees it: artifact files, which orch writes atomically and never over content that it did
//! not write.

use std::io::ErrorKind;
use std::path::Path;

use crate::crash::crash_point;
use crate::folder::{FolderAccess, OwnFile, OwnFolder, TEMPORARY, is_link_refused};
use crate::model::{Artifact, Digest};

use super::{OwnedFiles, StoreError};

/// The name of the workspace's lock file.
const LOCK: &str = ".orch.lock";
/// The name of the lock file that programs in the workspace hold.
const PROGRAMS_LOCK: &str = ".orch.programs.lock";

/// A workspace folder.
#[derive(Clone, Debug)]
pub struct WorkspaceView {
    folder: OwnFolder,
}

/// How an artifact file differs from its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileDrift {
    /// It has content that orch never wrote there.
    Changed,
    /// It has content that this run wrote there earlier.
    Earlier,
    /// Another run, with this id, wrote it since.
    OtherRun(String),
}

/// What is at a path of a workspace.
enum ViewEntry {
    /// Nothing.
    Nothing,
    /// A regular file, with the digest of its bytes.
    Bytes(Digest),
    /// A link, a folder or anything else that is not a regular file.
    NoFile,
}

impl WorkspaceView {
    /// The workspace at `folder`, created if needed. It must not be a link; links above it are resolved once.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let folder = OwnFolder::create(folder, FolderAccess::Ordinary).map_err(StoreError::io("open", folder))?;
        Ok(Self { folder })
    }

    /// The workspace at `folder`, if it exists.
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

    /// The workspace's lock file.
    pub fn lock_file(&self) -> OwnFile {
        self.folder.file(LOCK)
    }

    /// The lock file that the workspace's programs hold too.
    pub fn programs_lock_file(&self) -> OwnFile {
        self.folder.file(PROGRAMS_LOCK)
    }

    /// The digest of a file's bytes; `None` if there is no such file.
    pub fn digest(&self, path: &str) -> Result<Option<Digest>, StoreError> {
        Ok(self.read(path)?.map(|bytes| Digest::of(&bytes)))
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

    /// Fails if one of the files that a run will write has content that orch did not write.
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

    /// How the user or another run changed the file of a reusable artifact; `None` if it is unchanged. A missing file
    /// is no change. With `crash`, an earlier version from this run is none either, since a crash may have left it.
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

    /// Writes the file of an artifact, unless it shows the value already.
    ///
    /// The folder is not synced: if a power failure loses the file, orch writes it again from its record.
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

    /// Removes temporary files that a killed process left beside the artifacts. The caller holds the workspace's lock,
    /// so no other process is writing such files.
    pub fn sweep(&self) -> Result<(), StoreError> {
        let entries = self.folder.list("").map_err(StoreError::io("read", self.folder()))?;
        for (name, _) in entries.into_iter().filter(|(name, meta)| name.starts_with(TEMPORARY) && meta.is_file()) {
            let file = self.folder.file(name);
            file.remove().map_err(StoreError::io("remove", &file.path()))?;
        }
        Ok(())
    }

    /// Removes the files that orch wrote, except the paths in `without` and files that were changed since. Returns the
    /// removed paths and the changed ones.
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
