//! An open workspace folder: every access starts there, goes name by name and follows no link.

use std::io::{self, Read as _, Write as _};
use std::path::Path;

use cap_fs_ext::{DirExt as _, FollowSymlinks, OpenOptionsFollowExt as _, OpenOptionsSyncExt as _};
use cap_std::fs::{Dir, File, Metadata, OpenOptions};

use crate::folder::open_dir;
use crate::model::{Class, Failure};

use super::entry::MOST_MODE;
use super::record::FileState;

/// A workspace folder.
#[derive(Debug)]
pub struct Tree {
    root: Dir,
}

/// What is at a path.
#[derive(Debug)]
pub(super) enum DiskEntry {
    /// Nothing; its folder may be missing too.
    Nothing,
    /// A file.
    File(FileState),
}

/// Why orch can't use what is at a path.
#[derive(Debug, thiserror::Error)]
pub(super) enum Blocked {
    /// Something on the way, or at the path itself, is of the wrong kind.
    #[error("{0}")]
    Kind(String),
    /// The operating system returned an error.
    #[error("can't be {0}: {1}")]
    Io(&'static str, io::Error),
}

/// Wraps an error of the system with the action that failed.
pub(super) fn io(done: &'static str) -> impl Fn(io::Error) -> Blocked {
    move |error| Blocked::Io(done, error)
}

impl Tree {
    /// Opens the folder, which must exist and must not be a link. Links above it are followed once, now.
    pub fn open(workspace: &Path) -> Result<Self, Failure> {
        match open_dir(workspace) {
            Ok(root) => Ok(Self { root }),
            Err(error) => {
                let message = format!("can't open the workspace `{}`: {error}", workspace.display());
                Err(Failure::new(Class::Storage, message).with_hint("make the folder, or check who may read it"))
            }
        }
    }

    /// Opens the folder that contains `path`; `None` if it does not exist.
    pub(super) fn folder(&self, path: &str) -> Result<Option<Dir>, Blocked> {
        let mut dir = self.root.try_clone().map_err(io("opened"))?;
        for (end, _) in path.match_indices('/') {
            let name = path[..end].rsplit('/').next().unwrap_or(path);
            match step(&dir, name, &path[..end])? {
                Some(next) => dir = next,
                None => return Ok(None),
            }
        }
        Ok(Some(dir))
    }

    /// Opens the folder at a path, or the workspace for an empty path; `None` if it does not exist.
    pub(super) fn folder_at(&self, folder: &str) -> Result<Option<Dir>, Blocked> {
        if folder.is_empty() {
            return self.root.try_clone().map(Some).map_err(io("opened"));
        }
        match self.folder(folder)? {
            Some(parent) => step(&parent, name_of(folder), folder),
            None => Ok(None),
        }
    }

    /// What is at a path; a file of more than `limit` bytes is refused.
    pub(super) fn find(&self, path: &str, limit: u64) -> Result<DiskEntry, Blocked> {
        match self.folder(path)? {
            Some(dir) => find_in(&dir, name_of(path), limit),
            None => Ok(DiskEntry::Nothing),
        }
    }

    /// Creates one folder, whose parent must exist.
    pub(super) fn make_folder(&self, folder: &str) -> Result<(), Blocked> {
        self.here(folder)?.create_dir(name_of(folder)).map_err(io("made"))
    }

    /// Removes a folder if it is empty and not a link; returns whether the folder is gone.
    pub(super) fn remove_folder(&self, folder: &str) -> Result<bool, Blocked> {
        let Some(dir) = self.folder(folder)? else { return Ok(true) };
        match dir.remove_dir(name_of(folder)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory) => {
                Ok(false)
            }
            Err(error) => Err(io("removed")(error)),
        }
    }

    /// Writes a new file durably in the folder of `path`, under the name `name`.
    pub(super) fn write_beside(&self, path: &str, name: &str, state: &FileState) -> Result<(), Blocked> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).follow(FollowSymlinks::No);
        narrow(&mut options, state.mode);
        let mut file = self.here(path)?.open_with(name, &options).map_err(io("written"))?;
        file.write_all(state.content.bytes()).map_err(io("written"))?;
        if let Some(mode) = state.mode {
            // Whatever the record says, orch writes no file with mode bits that lend privileges.
            set_mode(&file, mode & MOST_MODE).map_err(io("given its mode"))?;
        }
        file.sync_all().map_err(io("written"))
    }

    /// Renames `from` to `to`, both names in the folder of `path`.
    pub(super) fn rename_beside(&self, path: &str, from: &str, to: &str) -> Result<(), Blocked> {
        let dir = self.here(path)?;
        dir.rename(from, &dir, to).map_err(io("replaced"))
    }

    /// Creates a hard link `name` to a file, in the same folder.
    pub(super) fn link_beside(&self, path: &str, name: &str) -> Result<(), Blocked> {
        let dir = self.here(path)?;
        dir.hard_link(name_of(path), &dir, name).map_err(io("kept"))
    }

    /// Removes a name in the folder of `path`; does nothing if it is not there.
    pub(super) fn remove_beside(&self, path: &str, name: &str) -> Result<(), Blocked> {
        let Some(dir) = self.folder(path)? else { return Ok(()) };
        match dir.remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io("removed")(error)),
            _ => Ok(()),
        }
    }

    /// Makes the names in a folder durable; an empty path is the workspace itself.
    pub(super) fn sync_folder(&self, folder: &str) -> Result<(), Blocked> {
        match self.folder_at(folder)? {
            Some(dir) => sync(&dir).map_err(io("made durable")),
            None => Ok(()),
        }
    }

    /// Opens the folder that contains `path`, which must exist.
    fn here(&self, path: &str) -> Result<Dir, Blocked> {
        self.folder(path)?.ok_or_else(|| Blocked::Kind("lies in a folder that is gone".to_owned()))
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

/// The folders on the way to a path, outermost first.
pub(super) fn folders_of(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(end, _)| &path[..end])
}

/// Opens a subfolder without following a link; `None` if it does not exist.
fn step(dir: &Dir, name: &str, path: &str) -> Result<Option<Dir>, Blocked> {
    let Some(meta) = meta(dir, name)? else { return Ok(None) };
    if meta.is_symlink() {
        return Err(Blocked::Kind(format!("leads through `{path}`, which is a symbolic link")));
    }
    if !meta.is_dir() {
        return Err(Blocked::Kind(format!("needs the folder `{path}`, which is a file")));
    }
    // Opened without following links: if a link has replaced the folder since the check, this fails.
    dir.open_dir_nofollow(name).map(Some).map_err(io("reached"))
}

fn meta(dir: &Dir, name: &str) -> Result<Option<Metadata>, Blocked> {
    match dir.symlink_metadata(name) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io("read")(error)),
    }
}

/// What a folder has under a name.
fn find_in(dir: &Dir, name: &str, limit: u64) -> Result<DiskEntry, Blocked> {
    let Some(meta) = meta(dir, name)? else { return Ok(DiskEntry::Nothing) };
    refuse_kind(&meta)?;
    let mut options = OpenOptions::new();
    // If a pipe has replaced the file since the check, opening it must not wait for a writer.
    options.read(true).follow(FollowSymlinks::No).nonblock(true);
    let file = dir.open_with(name, &options).map_err(io("read"))?;
    let meta = file.metadata().map_err(io("read"))?;
    refuse_kind(&meta)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io("read"))?;
    if bytes.len() as u64 > limit {
        return Err(Blocked::Kind("is too large to be kept for taking back".to_owned()));
    }
    Ok(DiskEntry::File(FileState { content: bytes.into(), mode: mode_of(&meta) }))
}

fn refuse_kind(meta: &Metadata) -> Result<(), Blocked> {
    let what = match meta.file_type() {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_symlink() => "is a symbolic link",
        kind if kind.is_dir() => "is a folder, and a file is wanted",
        _ => "is neither a file nor a folder",
    };
    Err(Blocked::Kind(what.to_owned()))
}

#[cfg(unix)]
#[allow(clippy::unnecessary_wraps, reason = "other systems have no modes")]
fn mode_of(meta: &Metadata) -> Option<u32> {
    use cap_std::fs::PermissionsExt as _;
    Some(meta.permissions().mode() & 0o7777)
}

#[cfg(not(unix))]
fn mode_of(_: &Metadata) -> Option<u32> {
    None
}

/// Restricts the mode of a new file before it has any content.
#[cfg(unix)]
fn narrow(options: &mut OpenOptions, mode: Option<u32>) {
    use cap_std::fs::OpenOptionsExt as _;
    options.mode(mode.map_or(0o666, |mode| mode & MOST_MODE));
}

#[cfg(not(unix))]
fn narrow(_: &mut OpenOptions, _: Option<u32>) {}

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
    // The open handle of a folder may be for paths only; syncing needs one for reading.
    let mut options = OpenOptions::new();
    options.read(true);
    dir.open_with(".", &options)?.sync_all()
}

#[cfg(not(unix))]
fn sync(_: &Dir) -> io::Result<()> {
    Ok(())
}
