//! A file in a folder of orch's own.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::time::SystemTime;

use cap_fs_ext::DirExt as _;
use cap_std::fs::{Metadata, OpenOptions};

use super::{OwnFolder, nofollow};

/// A file by its folder and its name below that. Nothing is opened until it is used.
#[derive(Clone, Debug)]
pub struct OwnFile {
    folder: OwnFolder,
    name: String,
}

impl OwnFile {
    pub(super) fn new(folder: OwnFolder, name: String) -> Self {
        Self { folder, name }
    }

    /// Where the file is, for people.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    /// Its name without the folders on the way.
    pub fn last_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }

    /// When it was changed last.
    ///
    /// # Errors
    /// Nothing is there, or it can't be looked at.
    pub fn modified(&self) -> io::Result<SystemTime> {
        self.about()?.modified().map(cap_std::time::SystemTime::into_std)
    }

    /// What is there; a link is described itself.
    ///
    /// # Errors
    /// With [`super::LinkRefused`] for a link on the way.
    pub fn about(&self) -> io::Result<Metadata> {
        let (dir, name) = self.folder.parent_of(&self.name, false)?;
        dir.symlink_metadata(name)
    }

    /// Which file it is: its device and its number there.
    ///
    /// # Errors
    /// Nothing is there, or it can't be looked at.
    #[cfg(unix)]
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        use cap_std::fs::MetadataExt as _;
        self.about().map(|meta| (meta.dev(), meta.ino()))
    }

    /// Whether something is there that can be looked at.
    pub fn exists(&self) -> bool {
        self.about().is_ok()
    }

    /// Opens it for reading.
    ///
    /// # Errors
    /// With [`super::LinkRefused`] for a link.
    pub fn open(&self) -> io::Result<File> {
        self.open_with(OpenOptions::new().read(true), false)
    }

    /// Opens it for reading and writing, as it is, or new; the folders on the way are made.
    ///
    /// # Errors
    /// With [`super::LinkRefused`] for a link.
    pub fn open_or_create(&self) -> io::Result<File> {
        self.open_with(OpenOptions::new().read(true).write(true).create(true).truncate(false), true)
    }

    /// Makes it, empty.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when something is there.
    pub fn create_new(&self) -> io::Result<File> {
        self.open_with(OpenOptions::new().write(true).create_new(true), true)
    }

    fn open_with(&self, options: &mut OpenOptions, make: bool) -> io::Result<File> {
        let (dir, name) = self.folder.parent_of(&self.name, make)?;
        nofollow::open(&dir, &name, options, self.folder.access()).map(cap_std::fs::File::into_std)
    }

    /// Its bytes.
    ///
    /// # Errors
    /// With [`super::LinkRefused`] for a link.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open()?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Replaces it, or makes it, by a rename: whoever reads it sees all of it or nothing. Its bytes are durable; its
    /// name is once the folder is synced.
    ///
    /// # Errors
    /// With [`super::LinkRefused`] for a link on the way; a link in its place is replaced.
    pub fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        self.folder.replace(&self.name, bytes, true)
    }

    /// The same for a note that a power failure may take.
    ///
    /// # Errors
    /// As [`OwnFile::replace`].
    pub fn note(&self, bytes: &[u8]) -> io::Result<()> {
        self.folder.replace(&self.name, bytes, false)
    }

    /// Gives it the place of another file below the same folder.
    ///
    /// # Errors
    /// With [`super::LinkRefused`] for a link on the way; a link in its place is replaced.
    pub fn rename(&self, to: &Self) -> io::Result<()> {
        let (from_dir, from) = self.folder.parent_of(&self.name, false)?;
        let (to_dir, to) = to.folder.parent_of(&to.name, true)?;
        from_dir.rename(from, &to_dir, to)
    }

    /// Removes it; a link is removed itself.
    ///
    /// # Errors
    /// With [`super::LinkRefused`] for a link on the way.
    pub fn remove(&self) -> io::Result<()> {
        let (dir, name) = self.folder.parent_of(&self.name, false)?;
        dir.remove_file_or_symlink(name)
    }
}
