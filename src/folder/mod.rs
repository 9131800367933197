//! Folders in which orch stores files: the state folder, the workspace, and folders of recordings.
//!
//! A project may come from an untrusted author, with symbolic links in place of these folders and their files.
//! [`NoFollowFolder`] opens the folder without following a link, and resolves each path inside it name by name. orch
//! therefore never reads, writes, locks or removes a file outside the folder. A link is an error ([`LinkRefused`]).

mod file;
mod nofollow;
mod temporary;

pub use file::NoFollowFile;
pub use nofollow::{LinkRefused, is_link_refused, open_dir, open_file};
pub use temporary::{TemporaryFolder, remove_temporary_folders};

use std::io;
use std::path::{Path, PathBuf};

use cap_fs_ext::DirExt as _;
use cap_std::fs::{Dir, Metadata};

use crate::crash::crash_point;

/// The prefix of the names of incomplete files.
pub const TEMPORARY_PREFIX: &str = ".orch-tmp-";
/// The number of hexadecimal digits in the name of an incomplete file.
const NAME_DIGITS: usize = 32;
/// The number of hexadecimal digits in the name of an incomplete file whose name depends on its path.
const PATH_DIGITS: usize = 12;

/// A new name for an incomplete file.
pub fn new_temporary_name() -> String {
    format!("{TEMPORARY_PREFIX}{}", uuid::Uuid::now_v7().simple())
}

/// Whether orch gives a name to incomplete files. Other files with the same prefix belong to the user.
pub fn is_temporary_name(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(TEMPORARY_PREFIX) else { return false };
    let of_path = rest.strip_suffix("-new").or_else(|| rest.strip_suffix("-old"));
    let (digits, count) = of_path.map_or((rest, NAME_DIGITS), |digits| (digits, PATH_DIGITS));
    digits.len() == count && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Who may access the files and folders that orch creates in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderAccess {
    /// Only the user, independent of the umask: folders have the mode 0700, files 0600.
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

/// A folder whose path has no links. Names of files in it are relative paths with `/`, without `..`.
#[derive(Clone, Debug)]
pub struct NoFollowFolder {
    /// The path of the folder with which [`NoFollowFolder::open`] started. It contains no links.
    base: PathBuf,
    /// The relative path from `base` to this folder. None of its names may be a link.
    relative: String,
    /// `base` and `relative` joined.
    path: PathBuf,
    access: FolderAccess,
}

impl NoFollowFolder {
    /// Opens the folder at a path, which must exist and must not be a link. Only this call resolves links in its parent
    /// folders.
    ///
    /// # Errors
    /// Fails with [`LinkRefused`] for a link.
    pub fn open(path: &Path, access: FolderAccess) -> io::Result<Self> {
        nofollow::refuse_link(path)?;
        let path = path.canonicalize()?;
        let folder = Self { base: path.clone(), relative: String::new(), path, access };
        folder.open_dir()?;
        Ok(folder)
    }

    /// Like [`NoFollowFolder::open`], but creates the folder and its parents if necessary.
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

    /// A file in the folder or in one of its subfolders.
    pub fn file(&self, name: impl Into<String>) -> NoFollowFile {
        NoFollowFile::new(self.clone(), name.into())
    }

    /// Removes the permissions of everyone but the owner. Ignores errors, such as those of a read-only file system,
    /// since the files that orch creates are private anyway.
    pub fn restrict_to_owner(&self) {
        #[cfg(unix)]
        if let Ok(dir) = self.open_dir()
            && dir.dir_metadata().is_ok_and(|metadata| nofollow::mode(&metadata) & 0o077 != 0)
        {
            use cap_std::fs::{Permissions, PermissionsExt as _};
            drop(dir.set_permissions(".", Permissions::from_mode(0o700)));
        }
    }

    /// A subfolder, which need not exist.
    #[must_use]
    pub fn subfolder(&self, name: &str) -> Self {
        let relative = if self.relative.is_empty() { name.to_owned() } else { format!("{}/{name}", self.relative) };
        Self { base: self.base.clone(), relative, path: self.path.join(name), access: self.access }
    }

    /// Creates a subfolder, this folder and the folders between them, if necessary.
    ///
    /// # Errors
    /// Fails with [`LinkRefused`] for a link in place of a parent folder.
    pub fn create_subfolder(&self, name: &str) -> io::Result<Self> {
        let folder = self.subfolder(name);
        let mut dir = open_dir(&self.base)?;
        for part in nofollow::split_name(&folder.relative)? {
            dir = self.open_or_create(&dir, part)?;
        }
        Ok(folder)
    }

    /// The names and metadata of the entries of a subfolder, or of this folder if `name` is empty. Returns no entries
    /// if the folder does not exist.
    ///
    /// # Errors
    /// Fails with [`LinkRefused`] for a link in place of a parent folder.
    pub fn list(&self, name: &str) -> io::Result<Vec<(String, Metadata)>> {
        let dir = match self.open_subfolder(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            dir => dir?,
        };
        let entries = dir.entries()?.map(|entry| {
            let entry = entry?;
            let metadata = dir.symlink_metadata(entry.file_name())?;
            Ok((entry.file_name().to_string_lossy().into_owned(), metadata))
        });
        // Omit a file that another process removed after the listing.
        entries.filter(|entry| !is_not_found(entry)).collect()
    }

    /// Removes a file, or a subfolder with its contents. For a link, removes the link itself.
    ///
    /// # Errors
    /// Fails with [`LinkRefused`] for a link in place of a parent folder.
    pub fn remove_tree(&self, name: &str) -> io::Result<()> {
        let result = self.open_parent(name, false).and_then(|(dir, name)| match dir.symlink_metadata(&name) {
            Ok(metadata) if metadata.is_dir() => dir.remove_dir_all(&name),
            Ok(_) => dir.remove_file_or_symlink(&name),
            Err(error) => Err(error),
        });
        match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Makes the names in a subfolder durable, or in this folder if `name` is empty.
    ///
    /// # Errors
    /// Fails with [`LinkRefused`] for a link in place of a parent folder.
    pub fn sync(&self, name: &str) -> io::Result<()> {
        let dir = self.open_subfolder(name)?;
        #[cfg(unix)]
        dir.open_with(".", cap_std::fs::OpenOptions::new().read(true))?.sync_all()?;
        #[cfg(not(unix))]
        drop(dir);
        Ok(())
    }

    /// Waits for an exclusive lock on the folder. Dropping the returned file releases it.
    ///
    /// # Errors
    /// The folder can't be opened, or can't be locked because the system locks only files.
    pub fn lock(&self) -> io::Result<std::fs::File> {
        #[cfg(unix)]
        {
            let file = self.open_dir()?.open_with(".", cap_std::fs::OpenOptions::new().read(true))?.into_std();
            file.lock()?;
            Ok(file)
        }
        #[cfg(not(unix))]
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Replaces a file by a rename. Syncs the bytes before the rename if `sync` is set. Never syncs the folder.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8], sync: bool) -> io::Result<()> {
        let (dir, name) = self.open_parent(name, true)?;
        let temporary = new_temporary_name();
        let result = self.write_new(&dir, &temporary, bytes, sync).and_then(|()| dir.rename(&temporary, &dir, &name));
        if result.is_err() {
            // If the temporary file can't be removed, a later run removes it.
            drop(dir.remove_file(&temporary));
        }
        crash_point!("file::renamed");
        result
    }

    fn write_new(&self, dir: &Dir, name: &str, bytes: &[u8], sync: bool) -> io::Result<()> {
        let mut file = nofollow::create_new(dir, name, self.access)?;
        crash_point!("file::created");
        io::Write::write_all(&mut file, bytes)?;
        crash_point!("file::written");
        if sync {
            file.sync_all()?;
        }
        crash_point!("file::synced");
        Ok(())
    }

    /// Opens the parent folder of a file. Returns the folder, and the file's name in it.
    pub(crate) fn open_parent(&self, name: &str, create: bool) -> io::Result<(Dir, String)> {
        let mut parts = nofollow::split_name(name)?;
        let file_name = parts.pop().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut dir = self.open_dir()?;
        for part in parts {
            dir = if create { self.open_or_create(&dir, part)? } else { nofollow::open_subfolder(&dir, part)? };
        }
        Ok((dir, file_name.to_owned()))
    }

    /// Opens a subfolder, and creates it if necessary.
    fn open_or_create(&self, dir: &Dir, name: &str) -> io::Result<Dir> {
        match nofollow::open_subfolder(dir, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match nofollow::create_dir(dir, name, self.access.folder_mode()) {
                    // Another process created it first.
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => {}
                }
                nofollow::open_subfolder(dir, name)
            }
            result => result,
        }
    }

    fn open_subfolder(&self, name: &str) -> io::Result<Dir> {
        nofollow::split_name(name)?
            .into_iter()
            .try_fold(self.open_dir()?, |dir, part| nofollow::open_subfolder(&dir, part))
    }

    /// Opens the folder itself.
    pub(crate) fn open_dir(&self) -> io::Result<Dir> {
        let mut parts = nofollow::split_name(&self.relative)?.into_iter();
        parts.try_fold(open_dir(&self.base)?, |dir, part| nofollow::open_subfolder(&dir, part))
    }

    pub(crate) fn access(&self) -> FolderAccess {
        self.access
    }
}

fn is_not_found<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod name_tests {
    use super::*;

    #[test]
    fn only_the_names_that_orch_gives_to_incomplete_files_are_temporary() {
        assert!(is_temporary_name(&new_temporary_name()));
        assert!(is_temporary_name(".orch-tmp-0123456789ab-new") && is_temporary_name(".orch-tmp-0123456789ab-old"));
        let upper = new_temporary_name().replace("tmp-0", "tmp-A");
        for name in [".orch-tmp-", ".orch-tmp-x", ".orch-tmp-0123456789ab", ".orch-tmp-notes-old", upper.as_str(), "a"]
        {
            assert!(!is_temporary_name(name), "{name}");
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn permission_bits(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn links_are_refused_and_their_targets_stay_unchanged() {
        let parent = tempfile::tempdir().unwrap();
        let path_of = |name: &str| parent.path().join(name);
        fs::create_dir_all(path_of("victim/sub")).unwrap();
        fs::write(path_of("victim/file"), "original").unwrap();
        symlink(path_of("victim"), path_of("linked")).unwrap();
        assert!(is_link_refused(&NoFollowFolder::open(&path_of("linked"), FolderAccess::Private).unwrap_err()));
        assert!(is_link_refused(&NoFollowFolder::create(&path_of("linked"), FolderAccess::Private).unwrap_err()));
        let state_folder = NoFollowFolder::create(&path_of("own"), FolderAccess::Private).unwrap();
        symlink(path_of("victim"), path_of("own/sub")).unwrap();
        symlink(path_of("victim/file"), path_of("own/file")).unwrap();
        for error in [
            state_folder.subfolder("sub").file("file").read().unwrap_err(),
            state_folder.subfolder("sub").create_subfolder("more").unwrap_err(),
            state_folder.subfolder("sub").list("").unwrap_err(),
            state_folder.file("sub/file").read().unwrap_err(),
            state_folder.file("file").read().unwrap_err(),
            state_folder.file("file").open_or_create().unwrap_err(),
            state_folder.file("sub/file").replace(b"x").unwrap_err(),
            state_folder.file("sub/new").replace(b"x").unwrap_err(),
            state_folder.file("sub/file").remove().unwrap_err(),
            state_folder.remove_tree("sub/sub").unwrap_err(),
            state_folder.create_subfolder("sub/more").unwrap_err(),
            state_folder.list("sub").unwrap_err(),
            state_folder.sync("sub").unwrap_err(),
        ] {
            assert!(is_link_refused(&error), "{error}");
        }
        for name in ["../victim/file", "/etc/passwd", "a/../../victim/file", ""] {
            assert!(state_folder.file(name).replace(b"x").is_err(), "{name:?}");
        }
        // `replace` and `remove_tree` affect the link itself, never its target.
        state_folder.file("file").replace(b"new").unwrap();
        state_folder.remove_tree("sub").unwrap();
        assert_eq!(fs::read_to_string(path_of("own/file")).unwrap(), "new");
        assert_eq!(fs::read_to_string(path_of("victim/file")).unwrap(), "original");
        assert!(path_of("victim/sub").is_dir() && !path_of("victim/new").exists() && !path_of("own/sub").exists());
    }

    #[test]
    fn a_link_that_replaced_a_folder_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir_all(parent.path().join("victim/run/home")).unwrap();
        let state_folder = NoFollowFolder::create(&parent.path().join("own"), FolderAccess::Private).unwrap();
        let home = state_folder.subfolder("agents/run").create_subfolder("home").unwrap();
        home.file("before").replace_unsynced(b"x").unwrap();
        fs::rename(parent.path().join("own/agents"), parent.path().join("own/moved")).unwrap();
        symlink(parent.path().join("victim"), parent.path().join("own/agents")).unwrap();
        assert!(is_link_refused(&home.file("after").replace_unsynced(b"x").unwrap_err()));
        assert!(is_link_refused(&home.file("after").create_new().unwrap_err()));
        assert!(is_link_refused(&state_folder.subfolder("agents/run").create_subfolder("home").unwrap_err()));
        assert_eq!(fs::read_dir(parent.path().join("victim/run/home")).unwrap().count(), 0);
    }

    #[test]
    fn only_the_user_can_access_a_private_folder_and_its_contents() {
        let parent = tempfile::tempdir().unwrap();
        let state_folder = NoFollowFolder::create(&parent.path().join("own"), FolderAccess::Private).unwrap();
        state_folder.file("a/b").replace(b"x").unwrap();
        state_folder.file("lock").open_or_create().unwrap();
        let modes = ["", "a", "a/b", "lock"].map(|name| permission_bits(&state_folder.path().join(name)));
        assert_eq!(modes, [0o700, 0o700, 0o600, 0o600]);
        fs::set_permissions(state_folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        state_folder.restrict_to_owner();
        assert_eq!(permission_bits(state_folder.path()), 0o700);
    }
}
