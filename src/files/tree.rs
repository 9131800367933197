//! An open workspace folder. Every access resolves a path name by name from there, without following links.

use std::io::{self, Read as _, Write as _};
use std::path::Path;

use cap_fs_ext::{DirExt as _, FollowSymlinks, OpenOptionsFollowExt as _, OpenOptionsSyncExt as _};
use cap_std::fs::{Dir, File, Metadata, OpenOptions};

use crate::folder::open_dir;
use crate::model::{Failure, FailureClass};

use super::entry::MAX_MODE;
use super::problem::escaped_path;
use super::record::FileState;

/// A workspace folder.
#[derive(Debug)]
pub struct Tree {
    root: Dir,
}

/// The entry at a path.
#[derive(Debug)]
pub(super) enum DiskEntry {
    /// There is no entry; its folder may be missing too.
    Absent,
    /// A regular file.
    File(FileState),
}

/// Why orch can't use the entry at a path.
#[derive(Debug, thiserror::Error)]
pub(super) enum AccessError {
    /// The entry, or a folder on its path, has the wrong type or state.
    #[error("{0}")]
    Refused(String),
    /// The file has more bytes than orch reads.
    #[error("is too large for orch to restore it later")]
    TooLarge,
    /// The operating system returned an error.
    #[error("can't be {0}: {1}")]
    Io(&'static str, io::Error),
}

/// Wraps an error of the system with the action that failed, as a participle such as `written`.
pub(super) fn cannot_be(action: &'static str) -> impl Fn(io::Error) -> AccessError {
    move |error| AccessError::Io(action, error)
}

impl Tree {
    /// Opens the folder, which must exist and must not be a link. Only this call follows links in its parent folders.
    pub fn open(workspace: &Path) -> Result<Self, Failure> {
        match open_dir(workspace) {
            Ok(root) => Ok(Self { root }),
            Err(error) => {
                let message = format!("can't open the workspace `{}`: {error}", workspace.display());
                Err(Failure::new(FailureClass::Storage, message)
                    .with_hint("create the folder, or check its permissions"))
            }
        }
    }

    /// Opens the folder that contains `path`; `None` if it does not exist.
    pub(super) fn open_parent(&self, path: &str) -> Result<Option<Dir>, AccessError> {
        let mut dir = self.root.try_clone().map_err(cannot_be("opened"))?;
        for (end, _) in path.match_indices('/') {
            let name = path[..end].rsplit('/').next().unwrap_or(path);
            match open_subfolder(&dir, name, &path[..end])? {
                Some(next) => dir = next,
                None => return Ok(None),
            }
        }
        Ok(Some(dir))
    }

    /// Opens the folder at a path, or the workspace for an empty path; `None` if it does not exist.
    pub(super) fn open_folder(&self, folder: &str) -> Result<Option<Dir>, AccessError> {
        if folder.is_empty() {
            return self.root.try_clone().map(Some).map_err(cannot_be("opened"));
        }
        match self.open_parent(folder)? {
            Some(parent) => open_subfolder(&parent, name_of(folder), folder),
            None => Ok(None),
        }
    }

    /// Whether there is an entry of any type at a path, or orch can't find out.
    pub fn has_entry(&self, path: &str) -> bool {
        let parent = self.open_parent(path);
        let entry = parent.and_then(|dir| dir.map(|dir| metadata(&dir, name_of(path))).transpose());
        !matches!(entry, Ok(None | Some(None)))
    }

    /// Reads the entry at a path; refuses a file of more than `limit` bytes.
    pub(super) fn read_entry(&self, path: &str, limit: u64) -> Result<DiskEntry, AccessError> {
        match self.open_parent(path)? {
            Some(dir) => read_entry_in(&dir, name_of(path), limit),
            None => Ok(DiskEntry::Absent),
        }
    }

    /// Creates one folder, whose parent must exist.
    pub(super) fn create_folder(&self, folder: &str) -> Result<(), AccessError> {
        self.open_existing_parent(folder)?.create_dir(name_of(folder)).map_err(cannot_be("created"))
    }

    /// Removes a folder if it is empty and not a link; returns whether the folder no longer exists.
    pub(super) fn remove_folder(&self, folder: &str) -> Result<bool, AccessError> {
        let Some(dir) = self.open_parent(folder)? else { return Ok(true) };
        match dir.remove_dir(name_of(folder)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory) => {
                Ok(false)
            }
            Err(error) => Err(cannot_be("removed")(error)),
        }
    }

    /// Writes a new file `name` durably in the parent folder of `path`.
    pub(super) fn write_in_parent(&self, path: &str, name: &str, state: &FileState) -> Result<(), AccessError> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).follow(FollowSymlinks::No);
        restrict_mode(&mut options, state.mode);
        let mut file = self.open_existing_parent(path)?.open_with(name, &options).map_err(cannot_be("written"))?;
        file.write_all(state.content.bytes()).map_err(cannot_be("written"))?;
        if let Some(mode) = state.mode {
            // orch never writes mode bits that grant privileges, even if the record contains them.
            set_mode(&file, mode & MAX_MODE).map_err(cannot_be("given its mode"))?;
        }
        file.sync_all().map_err(cannot_be("written"))
    }

    /// Renames the file `old_name` in the parent folder of `path` to `new_name`.
    pub(super) fn rename_in_parent(&self, path: &str, old_name: &str, new_name: &str) -> Result<(), AccessError> {
        let dir = self.open_existing_parent(path)?;
        dir.rename(old_name, &dir, new_name).map_err(cannot_be("replaced"))
    }

    /// Creates a hard link `name` to a file, in the parent folder of the file.
    pub(super) fn link_in_parent(&self, path: &str, name: &str) -> Result<(), AccessError> {
        let dir = self.open_existing_parent(path)?;
        dir.hard_link(name_of(path), &dir, name).map_err(cannot_be("linked"))
    }

    /// Removes the file `name` in the parent folder of `path`, if it exists.
    pub(super) fn remove_in_parent(&self, path: &str, name: &str) -> Result<(), AccessError> {
        let Some(dir) = self.open_parent(path)? else { return Ok(()) };
        match dir.remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot_be("removed")(error)),
            _ => Ok(()),
        }
    }

    /// Makes the names in a folder durable; an empty path is the workspace itself.
    pub(super) fn sync_folder(&self, folder: &str) -> Result<(), AccessError> {
        match self.open_folder(folder)? {
            Some(dir) => sync(&dir).map_err(cannot_be("made durable")),
            None => Ok(()),
        }
    }

    /// Opens the folder that contains `path`, which must exist.
    fn open_existing_parent(&self, path: &str) -> Result<Dir, AccessError> {
        self.open_parent(path)?.ok_or_else(|| AccessError::Refused("lies in a folder that no longer exists".to_owned()))
    }
}

/// The last name of a path.
pub(super) fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The path of the folder that contains a path; empty for the workspace.
pub(super) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The folders that contain a path, outermost first.
pub(super) fn ancestors_of(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(end, _)| &path[..end])
}

/// Opens a subfolder without following a link; `None` if it does not exist.
fn open_subfolder(dir: &Dir, name: &str, path: &str) -> Result<Option<Dir>, AccessError> {
    let Some(metadata) = metadata(dir, name)? else { return Ok(None) };
    if metadata.is_symlink() {
        let shown = escaped_path(path);
        return Err(AccessError::Refused(format!("leads through `{shown}`, which is a symbolic link")));
    }
    if !metadata.is_dir() {
        return Err(AccessError::Refused(format!("needs the folder `{}`, which is a file", escaped_path(path))));
    }
    // Open without following links, so that this fails if a link has replaced the folder since the check.
    dir.open_dir_nofollow(name).map(Some).map_err(cannot_be("opened"))
}

pub(super) fn metadata(dir: &Dir, name: &str) -> Result<Option<Metadata>, AccessError> {
    match dir.symlink_metadata(name) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(cannot_be("read")(error)),
    }
}

/// Reads the entry with a name in a folder.
fn read_entry_in(dir: &Dir, name: &str, limit: u64) -> Result<DiskEntry, AccessError> {
    let Some((file, metadata)) = open_file_in(dir, name)? else { return Ok(DiskEntry::Absent) };
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(cannot_be("read"))?;
    if bytes.len() as u64 > limit {
        return Err(AccessError::TooLarge);
    }
    Ok(DiskEntry::File(FileState { content: bytes.into(), mode: mode_of(&metadata) }))
}

/// Opens the regular file with a name in a folder, without following a link; `None` if it does not exist.
pub(super) fn open_file_in(dir: &Dir, name: &str) -> Result<Option<(File, Metadata)>, AccessError> {
    let Some(metadata) = metadata(dir, name)? else { return Ok(None) };
    require_regular_file(&metadata)?;
    let mut options = OpenOptions::new();
    // If a named pipe has replaced the file since the check, opening it must not wait for a writer.
    options.read(true).follow(FollowSymlinks::No).nonblock(true);
    let file = dir.open_with(name, &options).map_err(cannot_be("read"))?;
    let metadata = file.metadata().map_err(cannot_be("read"))?;
    require_regular_file(&metadata)?;
    Ok(Some((file, metadata)))
}

fn require_regular_file(metadata: &Metadata) -> Result<(), AccessError> {
    let problem = match metadata.file_type() {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_symlink() => "is a symbolic link",
        kind if kind.is_dir() => "is a folder, not a file",
        _ => "is neither a file nor a folder",
    };
    Err(AccessError::Refused(problem.to_owned()))
}

#[cfg(unix)]
#[allow(clippy::unnecessary_wraps, reason = "other systems have no modes")]
fn mode_of(metadata: &Metadata) -> Option<u32> {
    use cap_std::fs::PermissionsExt as _;
    Some(metadata.permissions().mode() & 0o7777)
}

#[cfg(not(unix))]
fn mode_of(_: &Metadata) -> Option<u32> {
    None
}

/// Restricts the mode of a new file before it has any content.
#[cfg(unix)]
fn restrict_mode(options: &mut OpenOptions, mode: Option<u32>) {
    use cap_std::fs::OpenOptionsExt as _;
    options.mode(mode.map_or(0o666, |mode| mode & MAX_MODE));
}

#[cfg(not(unix))]
fn restrict_mode(_: &mut OpenOptions, _: Option<u32>) {}

#[cfg(unix)]
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    use cap_std::fs::{Permissions, PermissionsExt as _};
    file.set_permissions(Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn set_mode(_: &File, _: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn sync(dir: &Dir) -> io::Result<()> {
    // The handle may only support path look-ups, and syncing needs a readable handle, so open the folder again.
    let mut options = OpenOptions::new();
    options.read(true);
    dir.open_with(".", &options)?.sync_all()
}

#[cfg(not(unix))]
fn sync(_: &Dir) -> io::Result<()> {
    Ok(())
}
