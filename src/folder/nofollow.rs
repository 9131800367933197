//! Opens files and folders without following links. For a link, the error is a [`LinkRefused`].

use std::io;
use std::path::{Component, Path};

use cap_fs_ext::{DirExt as _, FollowSymlinks, OpenOptionsFollowExt as _, OpenOptionsSyncExt as _};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, File, OpenOptions};

use super::FolderAccess;

/// A symbolic link in place of one of orch's own files or folders.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is a symbolic link, and orch does not follow links here")]
pub struct LinkRefused(String);

/// Whether an error is a [`LinkRefused`].
pub fn is_link_refused(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<LinkRefused>)
}

fn link_error(name: &Path) -> io::Error {
    io::Error::other(LinkRefused(name.file_name().unwrap_or(name.as_os_str()).to_string_lossy().into_owned()))
}

/// Fails if the path itself is a link.
pub(super) fn refuse_link(path: &Path) -> io::Result<()> {
    let is_link = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    if is_link { Err(link_error(path)) } else { Ok(()) }
}

/// Opens a folder by its path, whose last name must not be a link.
///
/// # Errors
/// Fails with [`LinkRefused`] for a link.
pub fn open_dir(path: &Path) -> io::Result<Dir> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            open_subfolder(&Dir::open_ambient_dir(parent, ambient_authority())?, Path::new(name))
        }
        _ => Dir::open_ambient_dir(path, ambient_authority()),
    }
}

/// Opens a file for reading by its path, whose last name must not be a link.
///
/// # Errors
/// Fails with [`LinkRefused`] for a link.
pub fn open_file(path: &Path) -> io::Result<std::fs::File> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = Dir::open_ambient_dir(parent, ambient_authority())?;
    open_regular_file(&dir, name, OpenOptions::new().read(true), FolderAccess::Ordinary).map(File::into_std)
}

/// Splits a relative path into its names. Fails if the path leads out of its folder.
pub(super) fn split_name(name: &str) -> io::Result<Vec<&str>> {
    let check = |component: Component<'_>| match component {
        Component::Normal(_) => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` leads out of its folder"))),
    };
    Path::new(name).components().try_for_each(check)?;
    Ok(name.split('/').filter(|part| !part.is_empty()).collect())
}

/// Opens a subfolder.
pub(super) fn open_subfolder(dir: &Dir, name: impl AsRef<Path>) -> io::Result<Dir> {
    dir.open_dir_nofollow(&name).map_err(|error| link_or_system_error(dir, name.as_ref(), error))
}

/// Creates a subfolder.
pub(super) fn create_dir(dir: &Dir, name: &str, mode: u32) -> io::Result<()> {
    #[cfg_attr(not(unix), allow(unused_mut, reason = "other systems have no modes"))]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    cap_std::fs::DirBuilderExt::mode(&mut builder, mode);
    #[cfg(not(unix))]
    let _ = mode;
    dir.create_dir_with(name, &builder)
}

/// Creates a file, which must not exist yet.
pub(super) fn create_new(dir: &Dir, name: &str, access: FolderAccess) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    open_regular_file(dir, name, &mut options, access)
}

/// Opens a file, which must be a regular file.
pub(super) fn open_regular_file(
    dir: &Dir,
    name: &str,
    options: &mut OpenOptions,
    access: FolderAccess,
) -> io::Result<File> {
    // With `nonblock`, opening a named pipe does not wait for its other end.
    options.follow(FollowSymlinks::No).nonblock(true);
    #[cfg(unix)]
    cap_std::fs::OpenOptionsExt::mode(options, access.file_mode());
    #[cfg(not(unix))]
    let _ = access;
    let file = dir.open_with(name, options).map_err(|error| link_or_system_error(dir, Path::new(name), error))?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other(format!("`{name}` is not a regular file"))) }
}

/// Returns [`LinkRefused`] if a link caused the error, else the system's error.
fn link_or_system_error(dir: &Dir, name: &Path, error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::AlreadyExists {
        return error;
    }
    if dir.symlink_metadata(name).is_ok_and(|metadata| metadata.is_symlink()) { link_error(name) } else { error }
}

/// The permission bits of a file or folder.
#[cfg(unix)]
pub(super) fn mode(metadata: &cap_std::fs::Metadata) -> u32 {
    cap_std::fs::PermissionsExt::mode(&metadata.permissions())
}
