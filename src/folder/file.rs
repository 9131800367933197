//! A file in one of orch's own folders.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::time::SystemTime;

use cap_fs_ext::DirExt as _;
use cap_std::fs::{Metadata, OpenOptions};

use super::{OwnFolder, nofollow};

/// A file, by its folder and its name below that. It is opened only when it is used.
#[derive(Clone, Debug)]
pub struct OwnFile {
    folder: OwnFolder,
    name: String,
}

impl OwnFile {
    pub(super) fn new(folder: OwnFolder, name: String) -> Self {
        Self { folder, name }
    }

    /// The path of the file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    /// Its last name, without folders.
    pub fn last_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }

    /// When it was last changed.
    ///
    /// # Errors
    /// Nothing is there, or its metadata can't be read.
    pub fn modified(&self) -> io::Result<SystemTime> {
        self.about()?.modified().map(cap_std::time::SystemTime::into_std)
    }

    /// The metadata of what is there; for a link, that of the link itself.
    ///
    /// # Errors
    /// Fails with [`super::LinkRefused`] for a link on the way.
    pub fn about(&self) -> io::Result<Metadata> {
        let (dir, name) = self.folder.parent_of(&self.name, false)?;
        dir.symlink_metadata(name)
    }

    /// The identity of the file: its device and its inode number.
    ///
    /// # Errors
    /// Nothing is there, or its metadata can't be read.
    #[cfg(unix)]
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        use cap_std::fs::MetadataExt as _;
        self.about().map(|meta| (meta.dev(), meta.ino()))
    }

    /// Whether something is there whose metadata can be read.
    pub fn exists(&self) -> bool {
        self.about().is_ok()
    }

    /// Opens it for reading.
    ///
    /// # Errors
    /// Fails with [`super::LinkRefused`] for a link.
    pub fn open(&self) -> io::Result<File> {
        self.open_with(OpenOptions::new().read(true), false)
    }

    /// Opens it for reading and writing. Creates it, and the folders on the way, if needed.
    ///
    /// # Errors
    /// Fails with [`super::LinkRefused`] for a link.
    pub fn open_or_create(&self) -> io::Result<File> {
        self.open_with(OpenOptions::new().read(true).write(true).create(true).truncate(false), true)
    }

    /// Creates it, empty.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if something is there.
    pub fn create_new(&self) -> io::Result<File> {
        self.open_with(OpenOptions::new().write(true).create_new(true), true)
    }

    fn open_with(&self, options: &mut OpenOptions, make: bool) -> io::Result<File> {
        let (dir, name) = self.folder.parent_of(&self.name, make)?;
        nofollow::open(&dir, &name, options, self.folder.access()).map(cap_std::fs::File::into_std)
    }

    /// Reads its bytes.
    ///
    /// # Errors
    /// Fails with [`super::LinkRefused`] for a link.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Replaces or creates it by a rename, so that a reader sees all of it or nothing. Its bytes are durable; its name
    /// is durable once the folder is synced.
    ///
    /// # Errors
    /// Fails with [`super::LinkRefused`] for a link on the way; replaces a link in its place.
    pub fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        self.folder.replace(&self.name, bytes, true)
    }

    /// Like [`OwnFile::replace`], but for a note that may be lost in a power failure.
    ///
    /// # Errors
    /// As for [`OwnFile::replace`].
    pub fn note(&self, bytes: &[u8]) -> io::Result<()> {
        self.folder.replace(&self.name, bytes, false)
    }

    /// Renames it to `to`, replacing what is there.
    ///
    /// # Errors
    /// Fails with [`super::LinkRefused`] for a link on the way; replaces a link in the place of `to`.
    pub fn rename(&self, to: &Self) -> io::Result<()> {
        let (from_dir, from) = self.folder.parent_of(&self.name, false)?;
        let (to_dir, to) = to.folder.parent_of(&to.name, true)?;
        from_dir.rename(from, &to_dir, to)
    }

    /// Removes it; for a link, removes the link itself.
    ///
    /// # Errors
    /// Fails with [`super::LinkRefused`] for a link on the way.
    pub fn remove(&self) -> io::Result<()> {
        let (dir, name) = self.folder.parent_of(&self.name, false)?;
        dir.remove_file_or_symlink(name)
    }
}
