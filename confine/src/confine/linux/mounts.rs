//! The view of the disk that a program gets: everything read-only, except what the policy makes writable.
//!
//! The order matters. Copies of the writable folders are taken before everything becomes read-only, since a folder may
//! be below `/tmp`, which an empty folder replaces.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, mount_remount, move_mount, open_tree,
};

use super::super::error::{ConfineError, InStep as _, Step};
use super::super::policy::Policy;
use super::mountinfo::make_read_only_below;

/// Folders that an empty one replaces, since they hold sockets and files of other programs.
const PRIVATE_FOLDERS: &[&str] = &["/tmp", "/run", "/var/run", "/dev/shm"];
/// The devices that a program gets: none of them reaches the machine.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom"];
/// The terminal of the session, which only a program in a session of its own gets: otherwise it is the user's, and the
/// program could read keys from it.
const OWN_TERMINAL: &str = "tty";
/// Links that programs expect in `/dev`.
const DEVICE_LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// A copy of a part of the disk, which appears at a path later.
struct Copied {
    path: PathBuf,
    tree: OwnedFd,
    is_read_only: bool,
}

/// A change of the view at a path.
enum Change {
    PutBack(Copied),
    Protect(Protection),
}

impl Change {
    /// A folder must be in place before what is inside it, and is protected after it is in place.
    fn order(&self) -> (usize, bool) {
        match self {
            Self::PutBack(copied) => (copied.path.components().count(), false),
            Self::Protect(protection) => (protection.path.components().count(), true),
        }
    }
}

/// What a view of the disk depends on besides the policy.
pub(super) struct View<'a> {
    /// The current folder.
    pub(super) cwd: &'a Path,
    /// The paths of UNIX sockets to cover.
    pub(super) sockets: &'a [PathBuf],
    /// Whether the program will be in a session of its own.
    pub(super) own_session: bool,
}

/// Gives this process, which is in a mount namespace of its own, the view that a policy describes.
pub(super) fn set_up(policy: &Policy, view: &View<'_>) -> Result<(), ConfineError> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).in_step_at(Step::Mounts, "/")?;
    let protections = protections(policy)?;
    let copies = copy_trees(policy, view.cwd)?;
    let names = DEVICES.iter().copied().chain(view.own_session.then_some(OWN_TERMINAL));
    let devices: Vec<Copied> = names.filter_map(copy_device).collect();
    make_read_only_below(Path::new("/")).map_err(at_mount)?;
    replace_private_folders(devices)?;
    let mut changes: Vec<Change> = copies.into_iter().map(Change::PutBack).collect();
    changes.extend(protections.into_iter().map(Change::Protect));
    changes.sort_by_key(Change::order);
    let mut mounted = Vec::new();
    for change in changes {
        match change {
            Change::PutBack(copied) => put_back(copied)?,
            Change::Protect(protection) => protect(&protection, &mut mounted)?,
        }
    }
    let denied = policy.deny_read.iter().filter_map(|path| fs::canonicalize(path).ok());
    for path in denied {
        hide(&path)?;
    }
    view.sockets.iter().filter(|path| path.exists()).try_for_each(|path| hide(path))
}

fn at_mount((path, error): (PathBuf, io::Error)) -> ConfineError {
    ConfineError::system(Step::Mounts, error).at(path)
}

/// Copies what must appear again: the writable folders as they are, and what must stay readable below a private folder.
fn copy_trees(policy: &Policy, cwd: &Path) -> Result<Vec<Copied>, ConfineError> {
    let mut copies: Vec<Copied> = Vec::new();
    for path in policy.writable() {
        let path = fs::canonicalize(path).in_step_at(Step::Mounts, path)?;
        copies.push(Copied { tree: copy_tree(&path)?, path, is_read_only: false });
    }
    // The resolver's file is often a link into `/run`, and the search path may lead there too.
    let resolver = Path::new("/etc/resolv.conf").to_owned();
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let readable = std::env::split_paths(&search_path).chain([resolver, cwd.to_owned()]);
    let readable: Vec<PathBuf> = policy.read.iter().cloned().chain(readable).collect();
    for path in readable {
        let Ok(path) = fs::canonicalize(&path) else { continue };
        let is_private = PRIVATE_FOLDERS.iter().any(|private| path.starts_with(private) && path != Path::new(private));
        if is_private && !copies.iter().any(|copied| path.starts_with(&copied.path)) {
            copies.push(Copied { tree: copy_tree(&path)?, path, is_read_only: true });
        }
    }
    Ok(copies)
}

fn copy_tree(path: &Path) -> Result<OwnedFd, ConfineError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags).in_step_at(Step::Mounts, path)
}

fn copy_device(name: &str) -> Option<Copied> {
    let path = Path::new("/dev").join(name);
    // A container may lack a device.
    let tree = copy_tree(&path).ok()?;
    Some(Copied { path, tree, is_read_only: true })
}

/// Puts empty folders over `/dev`, `/tmp` and others, and fills `/dev`.
fn replace_private_folders(devices: Vec<Copied>) -> Result<(), ConfineError> {
    mount_empty(Path::new("/dev"), c"mode=0755,size=64k")?;
    for device in devices {
        fs::write(&device.path, "").in_step_at(Step::Mounts, &device.path)?;
        move_tree(&device.tree, &device.path)?;
        // Root could change the mode of the machine's own device. Writing to a device needs no writable mount.
        make_read_only_below(&device.path).map_err(at_mount)?;
    }
    for (name, target) in DEVICE_LINKS {
        let path = Path::new("/dev").join(name);
        std::os::unix::fs::symlink(target, &path).in_step_at(Step::Mounts, &path)?;
    }
    for name in ["pts", "shm"] {
        let path = Path::new("/dev").join(name);
        fs::create_dir(&path).in_step_at(Step::Mounts, &path)?;
    }
    let options = c"newinstance,ptmxmode=0666,mode=620";
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", "/dev/pts", "devpts", flags, options).in_step_at(Step::Mounts, "/dev/pts")?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID;
    mount_remount("/dev", flags, c"").in_step_at(Step::Mounts, "/dev")?;
    let mut replaced: Vec<PathBuf> = Vec::new();
    for folder in PRIVATE_FOLDERS {
        let Ok(path) = fs::canonicalize(folder) else { continue };
        if !replaced.contains(&path) {
            let mode = if *folder == "/run" { c"mode=0755" } else { c"mode=1777" };
            mount_empty(&path, mode)?;
            replaced.push(path);
        }
    }
    Ok(())
}

fn mount_empty(path: &Path, options: &std::ffi::CStr) -> Result<(), ConfineError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    // Devices are copies of mounts, which keep their own flags.
    mount("tmpfs", path, "tmpfs", flags, options).in_step_at(Step::Mounts, path)
}

/// Mounts a copy at its path, which it creates where an empty folder has replaced it.
fn put_back(copied: Copied) -> Result<(), ConfineError> {
    let Copied { path, tree, is_read_only } = copied;
    if !path.exists() {
        let is_folder = rustix::fs::fstat(&tree)
            .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory);
        let folder = if is_folder { Some(path.as_path()) } else { path.parent() };
        folder.map_or(Ok(()), fs::create_dir_all).in_step_at(Step::Mounts, &path)?;
        if !is_folder {
            fs::write(&path, "").in_step_at(Step::Mounts, &path)?;
        }
    }
    move_tree(&tree, &path)?;
    if is_read_only { make_read_only_below(&path).map_err(at_mount) } else { Ok(()) }
}

fn move_tree(tree: &OwnedFd, path: &Path) -> Result<(), ConfineError> {
    move_mount(tree, c"", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).in_step_at(Step::Mounts, path)
}

/// A path inside a writable folder that becomes read-only.
struct Protection {
    path: PathBuf,
    /// The folders between the writable folder and the path.
    between: Vec<PathBuf>,
}

/// Finds the protected paths that exist. `Masks` has created those that must not come into being.
fn protections(policy: &Policy) -> Result<Vec<Protection>, ConfineError> {
    let mut roots = Vec::new();
    for given in policy.writable() {
        roots.push((given.clone(), fs::canonicalize(given).in_step_at(Step::Mounts, given)?));
    }
    let mut protections = Vec::new();
    for path in policy.protect.iter().map(|protected| &protected.path) {
        // The deepest folder counts: those further out contain it.
        let root = roots.iter().filter(|(given, real)| path.starts_with(given) || path.starts_with(real));
        let Some((given, real)) = root.max_by_key(|(given, _)| given.components().count()) else { continue };
        let Ok(below) = path.strip_prefix(given).or_else(|_| path.strip_prefix(real)) else { continue };
        protections.extend(walk(real, below)?);
    }
    Ok(protections)
}

/// Walks from a writable folder to a path below it; `None` if the path does not exist. A link on the way can't be
/// protected: the mount would be at its target, and the program could replace the link.
fn walk(root: &Path, below: &Path) -> Result<Option<Protection>, ConfineError> {
    let mut path = root.to_owned();
    let mut between = Vec::new();
    for part in below.components() {
        if path != root {
            between.push(path.clone());
        }
        path.push(part);
        match fs::symlink_metadata(&path) {
            Err(_) => return Ok(None),
            Ok(metadata) if metadata.is_symlink() => {
                return Err(ConfineError::new(Step::Mounts, "a symbolic link can't be protected".to_owned())
                    .at(&path)
                    .advise("replace the link by what it leads to"));
            }
            Ok(_) => {}
        }
    }
    Ok(Some(Protection { path, between }))
}

/// Makes a path inside a writable folder read-only. Each folder on the way becomes a mount too: the kernel lets a
/// program rename a folder that contains a mount, but not one that is a mount.
fn protect(protection: &Protection, mounted: &mut Vec<PathBuf>) -> Result<(), ConfineError> {
    for folder in protection.between.iter().chain([&protection.path]) {
        if !mounted.contains(folder) {
            mount_bind_recursive(folder, folder).in_step_at(Step::Mounts, folder)?;
            mounted.push(folder.clone());
        }
    }
    make_read_only_below(&protection.path).map_err(at_mount)
}

/// Covers a path with nothing: an empty folder or `/dev/null`. A path that the user can't reach needs no cover.
fn hide(path: &Path) -> Result<(), ConfineError> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    if metadata.is_dir() {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
        return mount("tmpfs", path, "tmpfs", flags, c"mode=0555,size=4k").in_step_at(Step::Mounts, path);
    }
    mount_bind("/dev/null", path).in_step_at(Step::Mounts, path)
}
