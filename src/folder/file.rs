//! A file in a folder in which orch stores files.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::time::SystemTime;

use cap_fs_ext::DirExt as _;
use cap_std::fs::{Metadata, OpenOptions};

use super::{NoFollowFolder, nofollow};

/// A file, identified by its folder and its relative path in that folder. Each method opens the file again.
#[derive(Clone, Debug)]
pub struct NoFollowFile {
    folder: NoFollowFolder,
    name: String,
}

impl NoFollowFile {
    pub(super) fn new(folder: NoFollowFolder, name: String) -> Self {
        Self { folder, name }
    }

    /// The path of the file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    /// The file's name without folders.
    pub fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }

    /// The time of the last change.
    ///
    /// # Errors
    /// The file does not exist, or its metadata can't be read.
    pub fn modified(&self) -> io::Result<SystemTime> {
        self.metadata()?.modified().map(cap_std::time::SystemTime::into_std)
    }

    /// The metadata of the file or folder with this name; for a link, of the link itself.
    ///
    /// # Errors
    /// Fails with [`super::LinkRefused`] for a link in place of a parent folder.
    pub fn metadata(&self) -> io::Result<Metadata> {
        let (dir, name) = self.folder.open_parent(&self.name, false)?;
        dir.symlink_metadata(name)
    }

    /// The identity of the file: its device and its inode number.
    ///
    /// # Errors
    /// The file does not exist, or its metadata can't be read.
    #[cfg(unix)]
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        use cap_std::fs::MetadataExt as _;
        self.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
    }

    /// Whether the file exists and its metadata can be read.
    pub fn exists(&self) -> bool {
        self.metadata().is_ok()
    }

    /// Opens the file for reading.
    ///
    /// # Errors
    /// Fails with [`super::LinkRefused`] for a link.
    pub fn open(&self) -> io::Result<File> {
        self.open_with(OpenOptions::new().read(true), false)
    }

    /// Opens the file for reading and writing. Creates it and its parent folders if necessary.
    ///
    /// # Errors
    /// Fails with [`super::LinkRefused`] for a link.
    pub fn open_or_create(&self) -> io::Result<File> {
        self.open_with(OpenOptions::new().read(true).write(true).create(true).truncate(false), true)
    }

    /// Creates an empty file.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if the name exists.
    pub fn create_new(&self) -> io::Result<File> {
        self.open_with(OpenOptions::new().write(true).create_new(true), true)
    }

    fn open_with(&self, options: &mut OpenOptions, create_parents: bool) -> io::Result<File> {
        let (dir, name) = self.folder.open_parent(&self.name, create_parents)?;
        nofollow::open_regular_file(&dir, &name, options, self.folder.access()).map(cap_std::fs::File::into_std)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// Fails with [`super::LinkRefused`] for a link.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Replaces or creates the file by a rename, so that a reader never sees a part of the bytes. The bytes are durable
    /// when this returns. The name is durable after [`NoFollowFolder::sync`].
    ///
    /// # Errors
    /// Fails with [`super::LinkRefused`] for a link in place of a parent folder; replaces a link in place of the file.
    pub fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        self.folder.replace(&self.name, bytes, true)
    }

    /// Like [`NoFollowFile::replace`], but a power failure may lose the bytes.
    ///
    /// # Errors
    /// The same as [`NoFollowFile::replace`].
    pub fn replace_unsynced(&self, bytes: &[u8]) -> io::Result<()> {
        self.folder.replace(&self.name, bytes, false)
    }

    /// Makes the bytes of the file durable, also those that others have written.
    ///
    /// # Errors
    /// The file does not exist, or the system can't write it to the disk.
    pub fn sync(&self) -> io::Result<()> {
        self.open_with(OpenOptions::new().read(true).write(true), false)?.sync_data()
    }

    /// Renames the file to `target`, and replaces a file or link with that name.
    ///
    /// # Errors
    /// Fails with [`super::LinkRefused`] for a link in place of a parent folder.
    pub fn rename(&self, target: &Self) -> io::Result<()> {
        let (source_dir, source_name) = self.folder.open_parent(&self.name, false)?;
        let (target_dir, target_name) = target.folder.open_parent(&target.name, true)?;
        source_dir.rename(source_name, &target_dir, target_name)
    }

    /// Removes the file; for a link, removes the link itself.
    ///
    /// # Errors
    /// Fails with [`super::LinkRefused`] for a link in place of a parent folder.
    pub fn remove(&self) -> io::Result<()> {
        let (dir, name) = self.folder.open_parent(&self.name, false)?;
        dir.remove_file_or_symlink(name)
    }
}
