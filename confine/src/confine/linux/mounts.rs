//! Sets up the mounts of a program: everything is read-only, except the paths that the policy makes writable.
//!
//! The order matters. This module copies the mounts of the writable folders before it makes all mounts read-only and
//! mounts an empty folder over `/tmp`, because a writable folder may be below `/tmp`. It mounts the copies afterwards.

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
use super::super::policy::{PRIVATE_FOLDERS, Policy};
use super::mountinfo::make_read_only_below;

/// The devices that a program may use: none of them gives access to the machine.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom"];
/// The terminal of the session. Only a program in a new session may use it: otherwise it is the user's terminal, from
/// which the program could read keys.
const SESSION_TERMINAL: &str = "tty";
/// The links that programs expect in `/dev`.
const DEVICE_LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// The files of `/proc` that show or change the state of the whole machine, and that programs do not need.
const HIDDEN_PROC_FILES: &[&str] =
    &["kcore", "key-users", "keys", "kmsg", "latency_stats", "sched_debug", "sysrq-trigger", "timer_list"];

/// A copy of the mounts at and below a path, to be mounted at this path later.
struct MountCopy {
    path: PathBuf,
    tree: OwnedFd,
    is_read_only: bool,
}

/// A change of the mounts at a path.
enum MountChange {
    Restore(MountCopy),
    Protect(PathInWritable),
    Hold(PathInWritable),
}

impl MountChange {
    /// The sort key of the change: a folder precedes the paths inside it, and restoring a path precedes protecting it.
    fn order(&self) -> (usize, bool) {
        match self {
            Self::Restore(copy) => (copy.path.components().count(), false),
            Self::Protect(place) | Self::Hold(place) => (place.path.components().count(), true),
        }
    }
}

/// The facts on which the mounts depend besides the policy.
pub(super) struct MountContext<'a> {
    /// The current folder.
    pub(super) cwd: &'a Path,
    /// The paths of UNIX sockets to hide.
    pub(super) sockets: &'a [PathBuf],
    /// Whether the program will run in a new session.
    pub(super) own_session: bool,
}

/// Sets up the mounts that a policy describes. This process must be in a new mount namespace.
pub(super) fn set_up(policy: &Policy, context: &MountContext<'_>) -> Result<(), ConfineError> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).in_step_at(Step::Mounts, "/")?;
    let roots = writable_roots(policy)?;
    let protections = protections(policy, &roots)?;
    let denied = denied_paths(policy, Step::Mounts)?;
    let held = denied.iter().filter_map(|path| held_folders(&roots, path));
    let copies = copy_trees(policy, context.cwd)?;
    let names = DEVICES.iter().copied().chain(context.own_session.then_some(SESSION_TERMINAL));
    let devices: Vec<MountCopy> = names.filter_map(copy_device).collect();
    make_read_only_below(Path::new("/")).map_err(mount_error)?;
    replace_private_folders(devices)?;
    let mut changes: Vec<MountChange> = copies.into_iter().map(MountChange::Restore).collect();
    changes.extend(protections.into_iter().map(MountChange::Protect));
    changes.extend(held.map(MountChange::Hold));
    changes.sort_by_key(MountChange::order);
    let mut mounted = Vec::new();
    for change in changes {
        match change {
            MountChange::Restore(copy) => restore(copy)?,
            MountChange::Protect(place) => protect(&place, &mut mounted)?,
            MountChange::Hold(place) => hold(&place.between, &mut mounted)?,
        }
    }
    let sockets = context.sockets.iter().filter(|path| path.exists());
    denied.iter().chain(sockets).try_for_each(|path| hide(path))?;
    // A program in a PID namespace of its own gets a separate `/proc` later.
    if context.own_session { Ok(()) } else { hide_proc_files() }
}

/// The denied paths that exist, without links. `step` is the step that needs them.
pub(super) fn denied_paths(policy: &Policy, step: Step) -> Result<Vec<PathBuf>, ConfineError> {
    let mut paths = Vec::new();
    for path in &policy.deny_read {
        match fs::canonicalize(path) {
            Ok(path) => paths.push(path),
            Err(error) if is_out_of_reach(&error) => {}
            Err(error) => return Err(ConfineError::system(step, error).at(path)),
        }
    }
    Ok(paths)
}

/// Whether an error shows that a path does not exist or that the user may not access it.
fn is_out_of_reach(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

/// Hides the files of `/proc` that no program needs.
pub(super) fn hide_proc_files() -> Result<(), ConfineError> {
    let paths = HIDDEN_PROC_FILES.iter().map(|name| Path::new("/proc").join(name));
    paths.filter(|path| path.exists()).try_for_each(|path| hide(&path))
}

fn mount_error((path, error): (PathBuf, io::Error)) -> ConfineError {
    ConfineError::system(Step::Mounts, error).at(path)
}

/// Copies the mounts to restore later: the writable folders, and the paths below private folders that must stay
/// readable.
fn copy_trees(policy: &Policy, cwd: &Path) -> Result<Vec<MountCopy>, ConfineError> {
    let mut copies: Vec<MountCopy> = Vec::new();
    for path in policy.writable() {
        let path = fs::canonicalize(path).in_step_at(Step::Mounts, path)?;
        copies.push(MountCopy { tree: copy_tree(&path)?, path, is_read_only: false });
    }
    // The resolver configuration is often a link into `/run`, and folders of `PATH` may be there too.
    let resolver = Path::new("/etc/resolv.conf").to_owned();
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let readable = std::env::split_paths(&search_path).chain([resolver, cwd.to_owned()]);
    let readable: Vec<PathBuf> = policy.read.iter().cloned().chain(readable).collect();
    for path in readable {
        let Ok(path) = fs::canonicalize(&path) else { continue };
        let is_private = PRIVATE_FOLDERS.iter().any(|private| path.starts_with(private) && path != Path::new(private));
        if is_private && !copies.iter().any(|copy| path.starts_with(&copy.path)) {
            copies.push(MountCopy { tree: copy_tree(&path)?, path, is_read_only: true });
        }
    }
    Ok(copies)
}

fn copy_tree(path: &Path) -> Result<OwnedFd, ConfineError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    open_tree(CWD, path, flags).in_step_at(Step::Mounts, path)
}

fn copy_device(name: &str) -> Option<MountCopy> {
    let path = Path::new("/dev").join(name);
    // A container may lack a device.
    let tree = copy_tree(&path).ok()?;
    Some(MountCopy { path, tree, is_read_only: true })
}

/// Mounts empty folders over `/dev` and the private folders, and fills `/dev`.
fn replace_private_folders(devices: Vec<MountCopy>) -> Result<(), ConfineError> {
    mount_empty(Path::new("/dev"), c"mode=0755,size=64k")?;
    for device in devices {
        fs::write(&device.path, "").in_step_at(Step::Mounts, &device.path)?;
        move_tree(&device.tree, &device.path)?;
        // Otherwise root could change the mode of the machine's device. Writing to a device needs no writable mount.
        make_read_only_below(&device.path).map_err(mount_error)?;
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
    for folder in existing_private_folders().map_err(mount_error)? {
        let mode = if folder == Path::new("/run") { c"mode=0755" } else { c"mode=1777" };
        mount_empty(&folder, mode)?;
    }
    Ok(())
}

/// The private folders of this machine, without links, each once. The error has the path that can't be resolved.
pub(super) fn existing_private_folders() -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut folders = Vec::new();
    for folder in PRIVATE_FOLDERS {
        match fs::canonicalize(folder) {
            Ok(path) if folders.contains(&path) => {}
            Ok(path) => folders.push(path),
            // A machine may lack the folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err((PathBuf::from(folder), error)),
        }
    }
    Ok(folders)
}

fn mount_empty(path: &Path, options: &std::ffi::CStr) -> Result<(), ConfineError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    // `NODEV` does not affect the devices in `/dev`: they are separate mounts with their own flags.
    mount("tmpfs", path, "tmpfs", flags, options).in_step_at(Step::Mounts, path)
}

/// Mounts a copy at its path. Creates the path if an empty folder hides it.
fn restore(copy: MountCopy) -> Result<(), ConfineError> {
    let MountCopy { path, tree, is_read_only } = copy;
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
    if is_read_only { make_read_only_below(&path).map_err(mount_error) } else { Ok(()) }
}

fn move_tree(tree: &OwnedFd, path: &Path) -> Result<(), ConfineError> {
    move_mount(tree, c"", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).in_step_at(Step::Mounts, path)
}

/// A path inside a writable folder.
struct PathInWritable {
    path: PathBuf,
    /// The folders between the writable folder and the path.
    between: Vec<PathBuf>,
}

/// A writable folder: its path in the policy, and the same path without links.
type WritableRoot = (PathBuf, PathBuf);

fn writable_roots(policy: &Policy) -> Result<Vec<WritableRoot>, ConfineError> {
    let mut roots = Vec::new();
    for path in policy.writable() {
        roots.push((path.clone(), fs::canonicalize(path).in_step_at(Step::Mounts, path)?));
    }
    Ok(roots)
}

/// Finds the protected paths that exist. `Masks` has already created placeholders for the others.
fn protections(policy: &Policy, roots: &[WritableRoot]) -> Result<Vec<PathInWritable>, ConfineError> {
    let mut protections = Vec::new();
    for path in policy.protect.iter().map(|protected| &protected.path) {
        // If several writable folders contain the path, use the outermost: a program could move the inner one with its
        // parent folder.
        let root = roots.iter().filter(|(policy_path, real)| path.starts_with(policy_path) || path.starts_with(real));
        let outermost = root.min_by_key(|(policy_path, _)| policy_path.components().count());
        let Some((policy_path, real)) = outermost else { continue };
        let Ok(relative) = path.strip_prefix(policy_path).or_else(|_| path.strip_prefix(real)) else { continue };
        protections.extend(find_protection(real, relative)?);
    }
    Ok(protections)
}

/// Finds the folders that contain a path without links, if the path is inside a writable folder. They must not be moved:
/// a later program would find the path at its new place, where the policy does not deny it.
fn held_folders(roots: &[WritableRoot], path: &Path) -> Option<PathInWritable> {
    let containing = roots.iter().map(|(_, real)| real).filter(|real| path.starts_with(real) && path != real.as_path());
    let outermost = containing.min_by_key(|real| real.components().count())?;
    let between = path.ancestors().skip(1).take_while(|folder| *folder != outermost.as_path());
    let mut between: Vec<PathBuf> = between.map(Path::to_owned).collect();
    between.reverse();
    Some(PathInWritable { path: path.to_owned(), between })
}

/// Finds a path below a writable folder; `None` if the path does not exist. Fails if a part of the path is a symbolic
/// link: the mount would be at the target of the link, and the program could replace the link.
fn find_protection(root: &Path, relative: &Path) -> Result<Option<PathInWritable>, ConfineError> {
    let mut path = root.to_owned();
    let mut between = Vec::new();
    for part in relative.components() {
        if path != root {
            between.push(path.clone());
        }
        path.push(part);
        match fs::symlink_metadata(&path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            // The program could make the folder accessible, and then change the path.
            Err(error) => {
                return Err(ConfineError::system(Step::Mounts, error)
                    .at(&path)
                    .advise("orch can't protect this path: give the user access to its folder"));
            }
            Ok(metadata) if metadata.is_symlink() => {
                return Err(ConfineError::new(Step::Mounts, "a symbolic link can't be protected".to_owned())
                    .at(&path)
                    .advise("replace the link with its target"));
            }
            Ok(_) => {}
        }
    }
    Ok(Some(PathInWritable { path, between }))
}

/// Makes a path inside a writable folder read-only.
fn protect(place: &PathInWritable, mounted: &mut Vec<PathBuf>) -> Result<(), ConfineError> {
    hold(&place.between, mounted)?;
    hold(std::slice::from_ref(&place.path), mounted)?;
    make_read_only_below(&place.path).map_err(mount_error)
}

/// Makes each path a mount of its own: a program can rename a folder that contains a mount, but not a folder that is a
/// mount.
fn hold(paths: &[PathBuf], mounted: &mut Vec<PathBuf>) -> Result<(), ConfineError> {
    for path in paths {
        if !mounted.contains(path) {
            mount_bind_recursive(path, path).in_step_at(Step::Mounts, path)?;
            mounted.push(path.clone());
        }
    }
    Ok(())
}

/// Hides a path: mounts an empty folder or `/dev/null` over it. Does nothing if the user can't access the path.
fn hide(path: &Path) -> Result<(), ConfineError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if is_out_of_reach(&error) => return Ok(()),
        Err(error) => return Err(ConfineError::system(Step::Mounts, error).at(path)),
    };
    if metadata.is_dir() {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
        return mount("tmpfs", path, "tmpfs", flags, c"mode=0555,size=4k").in_step_at(Step::Mounts, path);
    }
    mount_bind("/dev/null", path).in_step_at(Step::Mounts, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_denied_path_that_cannot_be_resolved_is_an_error_unless_it_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::write(root.join("file"), "").unwrap();
        let deny = |names: &[&str]| {
            let deny_read = names.iter().map(|name| root.join(name)).collect();
            denied_paths(&Policy { deny_read, ..Policy::default() }, Step::Mounts)
        };
        assert_eq!(deny(&["missing", "file/below", "file"]).unwrap(), [root.join("file")]);
        symlink("loop", root.join("loop")).unwrap();
        let error = deny(&["loop"]).unwrap_err();
        assert_eq!(error.place, Some(root.join("loop").display().to_string()));
    }

    #[test]
    fn a_protected_path_that_cannot_be_examined_is_an_error_unless_it_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::write(root.join("file"), "").unwrap();
        for name in ["missing", "file/below"] {
            assert!(find_protection(&root, Path::new(name)).unwrap().is_none(), "{name}");
        }
        assert!(find_protection(&root, Path::new("file")).unwrap().is_some());
        // No file system accepts such a name.
        let name = "x".repeat(5000);
        assert!(find_protection(&root, Path::new(&name)).is_err_and(|error| error.advice.is_some()));
    }
}
