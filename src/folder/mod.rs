//! Folders that orch keeps files in: the state folder, the workspace, folders of recordings.
//!
//! A project may come from a stranger, with symbolic links in place of these folders and of their files. [`OwnFolder`]
//! opens the folder itself without following a link, and everything below it name by name from there, so that orch
//! never reads, writes, locks or removes a file elsewhere. A link is an error that names it ([`LinkRefused`]).

mod file;
mod nofollow;
mod temporary;

pub use file::OwnFile;
pub use nofollow::{LinkRefused, is_link_refused, open_dir, open_file};
pub use temporary::{TemporaryFolder, remove_temporary_folders};

use std::io;
use std::path::{Path, PathBuf};

use cap_fs_ext::DirExt as _;
use cap_std::fs::{Dir, Metadata};

use crate::crash::crash_point;

/// The prefix of the names of files that are not complete yet.
pub const TEMPORARY: &str = ".orch-tmp-";

/// Who may access what orch creates in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderAccess {
    /// Only the user, whatever the umask: folders are 0700, files 0600.
    Private,
    /// Everyone whom the umask allows.
    Ordinary,
}

impl FolderAccess {
    /// The mode of a new file.
    #[cfg(unix)]
    pub(crate) fn file_mode(self) -> u32 {
        if self == Self::Private { 0o600 } else { 0o666 }
    }

    fn folder_mode(self) -> u32 {
        if self == Self::Private { 0o700 } else { 0o777 }
    }
}

/// A folder, by a path without links. Names below it are relative, with `/`, and never contain `..`.
#[derive(Clone, Debug)]
pub struct OwnFolder {
    /// The folder that was opened by its path; links above it were resolved once.
    base: PathBuf,
    /// The names from there to this folder; none of them may be a link.
    below: String,
    /// `base` and `below` joined.
    path: PathBuf,
    access: FolderAccess,
}

impl OwnFolder {
    /// Opens the folder at a path, which must exist and must not be a link. Links above it are resolved once, now.
    ///
    /// # Errors
    /// Fails with [`LinkRefused`] for a link.
    pub fn open(path: &Path, access: FolderAccess) -> io::Result<Self> {
        nofollow::refuse_link(path)?;
        let path = path.canonicalize()?;
        let folder = Self { base: path.clone(), below: String::new(), path, access };
        folder.dir()?;
        Ok(folder)
    }

    /// Like [`OwnFolder::open`], but creates the folder and its parents if needed.
    ///
    /// # Errors
    /// Fails with [`LinkRefused`] for a link.
    pub fn create(path: &Path, access: FolderAccess) -> io::Result<Self> {
        nofollow::refuse_link(path)?;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, access.folder_mode());
        builder.create(path)?;
        Self::open(path, access)
    }

    /// The folder's path, absolute and without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in the folder, or below it.
    pub fn file(&self, name: impl Into<String>) -> OwnFile {
        OwnFile::new(self.clone(), name.into())
    }

    /// Removes the permissions of everyone but the owner. Does nothing where that fails, as on a read-only medium: the
    /// files that orch creates are private anyway.
    pub fn close_to_others(&self) {
        #[cfg(unix)]
        if let Ok(dir) = self.dir()
            && dir.dir_metadata().is_ok_and(|meta| nofollow::mode(&meta) & 0o077 != 0)
        {
            use cap_std::fs::{Permissions, PermissionsExt as _};
            drop(dir.set_permissions(".", Permissions::from_mode(0o700)));
        }
    }

    /// A folder below this one; it need not exist.
    #[must_use]
    pub fn folder(&self, name: &str) -> Self {
        let below = if self.below.is_empty() { name.to_owned() } else { format!("{}/{name}", self.below) };
        Self { base: self.base.clone(), below, path: self.path.join(name), access: self.access }
    }

    /// Creates a folder below this one if needed, with the folders on the way and this one.
    ///
    /// # Errors
    /// Fails with [`LinkRefused`] for a link on the way.
    pub fn make(&self, name: &str) -> io::Result<Self> {
        let made = self.folder(name);
        let mut dir = open_dir(&self.base)?;
        for part in nofollow::parts(&made.below)? {
            dir = self.step_or_make(&dir, part)?;
        }
        Ok(made)
    }

    /// The contents of a folder below this one (of this one for an empty name), by name; empty if it does not exist.
    ///
    /// # Errors
    /// Fails with [`LinkRefused`] for a link on the way.
    pub fn list(&self, name: &str) -> io::Result<Vec<(String, Metadata)>> {
        let dir = match self.descend(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            dir => dir?,
        };
        let entries = dir.entries()?.map(|entry| {
            let entry = entry?;
            let meta = dir.symlink_metadata(entry.file_name())?;
            Ok((entry.file_name().to_string_lossy().into_owned(), meta))
        });
        // Leaves out a file that another process removed meanwhile.
        entries.filter(|entry| !is_absent(entry)).collect()
    }

    /// Removes a folder below this one with its contents; for a link, removes the link itself.
    ///
    /// # Errors
    /// Fails with [`LinkRefused`] for a link on the way.
    pub fn remove_tree(&self, name: &str) -> io::Result<()> {
        let removed = self.parent_of(name, false).and_then(|(dir, name)| match dir.symlink_metadata(&name) {
            Ok(meta) if meta.is_dir() => dir.remove_dir_all(&name),
            Ok(_) => dir.remove_file_or_symlink(&name),
            Err(error) => Err(error),
        });
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Makes the names in a folder below this one durable (in this one for an empty name).
    ///
    /// # Errors
    /// Fails with [`LinkRefused`] for a link on the way.
    pub fn sync(&self, name: &str) -> io::Result<()> {
        let dir = self.descend(name)?;
        #[cfg(unix)]
        dir.open_with(".", cap_std::fs::OpenOptions::new().read(true))?.sync_all()?;
        #[cfg(not(unix))]
        drop(dir);
        Ok(())
    }

    /// Waits for an exclusive lock on the folder, which ends when the returned file is dropped.
    ///
    /// # Errors
    /// The folder can't be opened or can't be locked, as on systems that lock only files.
    pub fn lock(&self) -> io::Result<std::fs::File> {
        #[cfg(unix)]
        {
            let file = self.dir()?.open_with(".", cap_std::fs::OpenOptions::new().read(true))?.into_std();
            file.lock()?;
            Ok(file)
        }
        #[cfg(not(unix))]
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Replaces a file by a rename. Its bytes are synced before if `durable` is set; the folder is not synced.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        let (dir, name) = self.parent_of(name, true)?;
        let temporary = format!("{TEMPORARY}{}", uuid::Uuid::now_v7().simple());
        let written =
            self.write_new(&dir, &temporary, bytes, durable).and_then(|()| dir.rename(&temporary, &dir, &name));
        if written.is_err() {
            // The error is returned. If the temporary file stays, a later run removes it.
            drop(dir.remove_file(&temporary));
        }
        crash_point!("file::renamed");
        written
    }

    fn write_new(&self, dir: &Dir, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        let mut file = nofollow::create_new(dir, name, self.access)?;
        crash_point!("file::created");
        io::Write::write_all(&mut file, bytes)?;
        crash_point!("file::written");
        if durable {
            file.sync_all()?;
        }
        crash_point!("file::synced");
        Ok(())
    }

    /// Opens the folder that contains a file, and returns it with the file's name in it.
    pub(crate) fn parent_of(&self, name: &str, make: bool) -> io::Result<(Dir, String)> {
        let mut parts = nofollow::parts(name)?;
        let last = parts.pop().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut dir = self.dir()?;
        for part in parts {
            dir = if make { self.step_or_make(&dir, part)? } else { nofollow::step(&dir, part)? };
        }
        Ok((dir, last.to_owned()))
    }

    fn step_or_make(&self, dir: &Dir, name: &str) -> io::Result<Dir> {
        match nofollow::step(dir, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match nofollow::make_dir(dir, name, self.access.folder_mode()) {
                    // Another process created it first.
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => {}
                }
                nofollow::step(dir, name)
            }
            found => found,
        }
    }

    fn descend(&self, name: &str) -> io::Result<Dir> {
        nofollow::parts(name)?.into_iter().try_fold(self.dir()?, |dir, part| nofollow::step(&dir, part))
    }

    /// Opens the folder itself.
    pub(crate) fn dir(&self) -> io::Result<Dir> {
        let mut parts = nofollow::parts(&self.below)?.into_iter();
        parts.try_fold(open_dir(&self.base)?, |dir, part| nofollow::step(&dir, part))
    }

    pub(crate) fn access(&self) -> FolderAccess {
        self.access
    }
}

fn is_absent<T>(entry: &io::Result<T>) -> bool {
    entry.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_link_in_the_place_of_anything_is_refused_and_its_target_is_left() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir_all(at("victim/sub")).unwrap();
        fs::write(at("victim/file"), "kept").unwrap();
        symlink(at("victim"), at("linked")).unwrap();
        assert!(is_link_refused(&OwnFolder::open(&at("linked"), FolderAccess::Private).unwrap_err()));
        assert!(is_link_refused(&OwnFolder::create(&at("linked"), FolderAccess::Private).unwrap_err()));
        let own = OwnFolder::create(&at("own"), FolderAccess::Private).unwrap();
        symlink(at("victim"), at("own/sub")).unwrap();
        symlink(at("victim/file"), at("own/file")).unwrap();
        for error in [
            own.folder("sub").file("file").read().unwrap_err(),
            own.folder("sub").make("more").unwrap_err(),
            own.folder("sub").list("").unwrap_err(),
            own.file("sub/file").read().unwrap_err(),
            own.file("file").read().unwrap_err(),
            own.file("file").open_or_create().unwrap_err(),
            own.file("sub/file").replace(b"x").unwrap_err(),
            own.file("sub/new").replace(b"x").unwrap_err(),
            own.file("sub/file").remove().unwrap_err(),
            own.remove_tree("sub/sub").unwrap_err(),
            own.make("sub/more").unwrap_err(),
            own.list("sub").unwrap_err(),
            own.sync("sub").unwrap_err(),
        ] {
            assert!(is_link_refused(&error), "{error}");
        }
        for name in ["../victim/file", "/etc/passwd", "a/../../victim/file", ""] {
            assert!(own.file(name).replace(b"x").is_err(), "{name:?}");
        }
        // The link itself is replaced or removed, never what it leads to.
        own.file("file").replace(b"mine").unwrap();
        own.remove_tree("sub").unwrap();
        assert_eq!(fs::read_to_string(at("own/file")).unwrap(), "mine");
        assert_eq!(fs::read_to_string(at("victim/file")).unwrap(), "kept");
        assert!(at("victim/sub").is_dir() && !at("victim/new").exists() && !at("own/sub").exists());
    }

    #[test]
    fn a_folder_that_becomes_a_link_after_it_was_made_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("victim/run/home")).unwrap();
        let own = OwnFolder::create(&place.path().join("own"), FolderAccess::Private).unwrap();
        let home = own.folder("agents/run").make("home").unwrap();
        home.file("kept").note(b"x").unwrap();
        fs::rename(place.path().join("own/agents"), place.path().join("own/moved")).unwrap();
        symlink(place.path().join("victim"), place.path().join("own/agents")).unwrap();
        assert!(is_link_refused(&home.file("note").note(b"x").unwrap_err()));
        assert!(is_link_refused(&home.file("note").create_new().unwrap_err()));
        assert!(is_link_refused(&own.folder("agents/run").make("home").unwrap_err()));
        assert_eq!(fs::read_dir(place.path().join("victim/run/home")).unwrap().count(), 0);
    }

    #[test]
    fn a_private_folder_and_what_is_in_it_are_for_the_user_alone() {
        let place = tempfile::tempdir().unwrap();
        let own = OwnFolder::create(&place.path().join("own"), FolderAccess::Private).unwrap();
        own.file("a/b").replace(b"x").unwrap();
        own.file("lock").open_or_create().unwrap();
        let modes = ["", "a", "a/b", "lock"].map(|name| mode(&own.path().join(name)));
        assert_eq!(modes, [0o700, 0o700, 0o600, 0o600]);
        fs::set_permissions(own.path(), fs::Permissions::from_mode(0o755)).unwrap();
        own.close_to_others();
        assert_eq!(mode(own.path()), 0o700);
    }
}
