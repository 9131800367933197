//! Creates placeholders (masks) for protected paths that do not exist, and removes them at the end.
//!
//! The kernel can protect only paths that exist. So orch creates an empty folder or a file, which the program can
//! neither change nor replace. Programs share a mask; orch removes it when the last of them ends. The programs may belong
//! to several orch processes, for example to two runs of a project in different workspaces. So each process holds a
//! shared lock on its masks, and removes a mask only if no other process has locked it.
//!
//! A mask has a fixed modification time, by which orch distinguishes it from an empty folder or a file of the user.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags};

use super::error::{ConfineError, Step};
use super::policy::{Mask, Policy, Protected};
use super::protect::STATE_FOLDER;

/// The modification time of every mask, in seconds since 1970: 2001-02-03 04:05:06 UTC. The number is even, because some
/// file systems store only every other second.
const MASK_TIME_SECONDS: u64 = 981_173_106;

/// The maximum number of attempts to acquire a mask while other processes create and remove it.
const MAX_ATTEMPTS: usize = 1000;

/// The masks that programs of this process use.
static IN_USE: Mutex<Option<HashMap<PathBuf, MaskInUse>>> = Mutex::new(None);

/// A mask that programs of this process use.
struct MaskInUse {
    /// The number of these programs.
    program_count: usize,
    /// The mask, locked so that no other process removes it.
    file: File,
}

fn in_use() -> MutexGuard<'static, Option<HashMap<PathBuf, MaskInUse>>> {
    IN_USE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The masks of a program. Dropping this value removes them, so drop it only after all processes of the program have
/// ended.
#[derive(Debug, Default)]
pub(super) struct Masks {
    paths: Vec<(PathBuf, Mask)>,
}

impl Masks {
    /// Creates the masks that a policy needs.
    pub(super) fn create(policy: &Policy) -> Result<Self, ConfineError> {
        let mut masks = Self::default();
        let mut in_use = in_use();
        let in_use = in_use.get_or_insert_default();
        // A program can give any time to a writable folder, so such a folder itself is never a mask.
        let is_inside = |path: &Path| {
            let mut roots = policy.writable();
            roots.any(|root| path.starts_with(root)) && policy.writable().all(|root| path != root)
        };
        for protected in &policy.protect {
            let is_writable = policy.writable().any(|root| protected.path.starts_with(root));
            if !is_writable || protected.mask == Mask::Nothing {
                continue;
            }
            let (path, mask) = if let Some(known) = masks_of(protected).find(|(path, _)| in_use.contains_key(path)) {
                known
            } else {
                let Some((path, mask, file)) = acquire(protected, is_inside)? else { continue };
                in_use.insert(path.clone(), MaskInUse { program_count: 0, file });
                (path, mask)
            };
            if let Some(used) = in_use.get_mut(&path) {
                used.program_count += 1;
            }
            masks.paths.push((path, mask));
        }
        Ok(masks)
    }

    /// Adds the masks to the protected paths of a policy, because a mask may be at a parent folder of a protected path.
    pub(super) fn protected_in(&self, policy: &Policy) -> Policy {
        let mut policy = policy.clone();
        let masks = self.paths.iter().map(|(path, _)| Protected { path: path.clone(), mask: Mask::Nothing });
        policy.protect.extend(masks);
        policy
    }
}

/// Takes over the mask that another process created for a protected path or left there, or creates the mask. The mask is
/// then locked. Returns `None` if the protected path exists and is no mask. `is_inside` determines whether a mask can be
/// at a path.
fn acquire(
    protected: &Protected,
    is_inside: impl Fn(&Path) -> bool,
) -> Result<Option<(PathBuf, Mask, File)>, ConfineError> {
    for _ in 0..MAX_ATTEMPTS {
        let existing = masks_of(protected).find(|(path, mask)| is_inside(path) && is_mask(path, mask));
        let is_new = existing.is_none();
        let Some((path, mask)) = existing.or_else(|| first_missing(&protected.path, &protected.mask)) else {
            return Ok(None);
        };
        let opened = if is_new { create(&path, &mask) } else { open(&path) };
        match opened {
            Ok(file) if lock(&file, &path) => return Ok(Some((path, mask, file))),
            // Another process is removing the mask.
            Ok(_) => {}
            // Another process created it first, or has removed it.
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {}
            Err(error) => return Err(ConfineError::system(Step::Masks, error).at(path)),
        }
        std::thread::yield_now();
    }
    let cause = "another process keeps the placeholder locked".to_owned();
    let error = ConfineError::new(Step::Masks, cause).at(&protected.path);
    Err(error.advise("start the run again after the other programs in this folder have ended"))
}

/// Locks a mask so that no other process removes it. Returns `false` if a process is removing it or has removed it.
fn lock(file: &File, path: &Path) -> bool {
    // orch locks this folder to open a journal in it, and would wait for the program. Only runs in the same workspace
    // have this mask, and the lock of the workspace allows only one of them at a time.
    let is_lockable = !path.ends_with(STATE_FOLDER);
    // Some file systems have no locks. The mask is then without a lock, too.
    let is_refused = is_lockable && matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    !is_refused && is_at(file, path)
}

/// Whether an open file is still at a path.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let (opened, current) = (file.metadata().map(identity), path.symlink_metadata().map(identity));
    matches!((opened, current), (Ok(opened), Ok(current)) if opened == current)
}

/// Opens a file or a folder for reading. Does not follow a link, and does not wait for the other end of a named pipe.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// Finds the outermost missing part of a path, and its mask: `mask` for the path itself, an empty folder for a parent
/// folder.
fn first_missing(path: &Path, mask: &Mask) -> Option<(PathBuf, Mask)> {
    let is_missing =
        |path: &Path| fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    let first = path.ancestors().take_while(|ancestor| is_missing(ancestor)).last()?;
    Some((first.to_owned(), if first == path { mask.clone() } else { Mask::Folder }))
}

/// The paths at which a protected path may have its mask, each with the mask: the path itself and its parent folders.
fn masks_of(protected: &Protected) -> impl Iterator<Item = (PathBuf, Mask)> {
    let Protected { path, mask } = protected;
    path.ancestors()
        .map(move |ancestor| (ancestor.to_owned(), if ancestor == path { mask.clone() } else { Mask::Folder }))
}

fn mask_time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(MASK_TIME_SECONDS)
}

/// Creates a mask, and returns it open.
fn create(path: &Path, mask: &Mask) -> io::Result<File> {
    let file = match mask {
        Mask::Folder => {
            fs::create_dir(path)?;
            open(path)?
        }
        Mask::File(text) => {
            let mut file = File::create_new(path)?;
            if let Err(error) = file.write_all(text.as_bytes()) {
                // A part of the text is no mask, so no later program or run would remove the file.
                drop(fs::remove_file(path));
                return Err(error);
            }
            file
        }
        Mask::Nothing => return Err(io::ErrorKind::InvalidInput.into()),
    };
    file.set_modified(mask_time())?;
    Ok(file)
}

/// Whether a path is a mask that no process has changed. A mask that is a parent folder of another path is empty.
fn is_mask(path: &Path, mask: &Mask) -> bool {
    let Ok(metadata) = path.symlink_metadata() else { return false };
    if !metadata.modified().is_ok_and(|time| time == mask_time()) {
        return false;
    }
    match mask {
        Mask::Folder => metadata.is_dir() && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()),
        Mask::File(text) => metadata.is_file() && fs::read(path).is_ok_and(|bytes| bytes == text.as_bytes()),
        Mask::Nothing => false,
    }
}

/// Removes a mask. Keeps a mask that another process has locked, and a folder or a file that a process outside the
/// sandbox has changed in the meantime.
fn remove(path: &Path, mask: &Mask) {
    if !is_mask(path, mask) {
        return;
    }
    let Ok(file) = open(path) else { return };
    let is_locked = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    if !is_locked && is_at(&file, path) {
        // If this fails, the next program or run in the workspace removes the mask.
        drop(if *mask == Mask::Folder { fs::remove_dir(path) } else { fs::remove_file(path) });
    }
}

/// Removes the masks of protected paths in a folder that a killed orch process left, except for those that another orch
/// process uses. The caller makes sure that no program of the killed process is running.
pub fn remove_leftover_masks(folder: &Path, protect: &[Protected]) {
    let in_use = in_use();
    let is_in_use = |path: &Path| in_use.as_ref().is_some_and(|in_use| in_use.contains_key(path));
    for (path, mask) in protect.iter().flat_map(masks_of) {
        if path != folder && path.starts_with(folder) && !is_in_use(&path) {
            remove(&path, &mask);
        }
    }
}

impl Drop for Masks {
    fn drop(&mut self) {
        let mut in_use = in_use();
        let in_use = in_use.get_or_insert_default();
        for (path, mask) in self.paths.drain(..).rev() {
            let Some(used) = in_use.get_mut(&path) else { continue };
            used.program_count -= 1;
            if used.program_count > 0 {
                continue;
            }
            // Closing the file is not enough: a process that another thread is starting has a copy of it until it runs
            // its program.
            drop(used.file.unlock());
            in_use.remove(&path);
            remove(&path, &mask);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_exist_until_the_last_program_ends() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join(".git")).unwrap();
        let protect = [("a/hooks", Mask::Folder), (".git/x", Mask::File(".\n".to_owned())), ("n", Mask::Nothing)]
            .map(|(path, mask)| Protected { path: root.join(path), mask });
        let policy = Policy { write: vec![root.to_owned()], protect: protect.into(), ..Policy::default() };
        let first = Masks::create(&policy).unwrap();
        let second = Masks::create(&policy).unwrap();
        drop(first);
        assert_eq!(fs::read_to_string(root.join(".git/x")).unwrap(), ".\n");
        assert!(root.join("a").is_dir() && !root.join("a/hooks").exists() && !root.join("n").exists());
        drop(second);
        assert!(!root.join(".git/x").exists() && !root.join("a").exists() && root.join(".git").exists());
    }

    #[test]
    fn an_empty_folder_or_a_file_of_the_user_is_no_mask() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let protect = [(".github", Mask::Folder), ("orch.yaml", Mask::File("{}\n".to_owned()))]
            .map(|(path, mask)| Protected { path: root.join(path), mask });
        fs::create_dir(root.join(".github")).unwrap();
        fs::write(root.join("orch.yaml"), "{}\n").unwrap();
        let policy = Policy { write: vec![root.to_owned()], protect: protect.to_vec(), ..Policy::default() };
        drop(Masks::create(&policy).unwrap());
        remove_leftover_masks(root, &protect);
        assert!(root.join(".github").exists() && root.join("orch.yaml").exists());
    }

    #[test]
    fn a_leftover_mask_is_removed_by_the_next_program_or_run() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let protect = [("a/hooks", Mask::Folder), ("orch.yaml", Mask::File("{}\n".to_owned()))]
            .map(|(path, mask)| Protected { path: root.join(path), mask });
        let create_all = || {
            drop(create(&root.join("a"), &Mask::Folder).unwrap());
            drop(create(&root.join("orch.yaml"), &protect[1].mask).unwrap());
        };
        create_all();
        remove_leftover_masks(root, &protect);
        assert!(!root.join("a").exists() && !root.join("orch.yaml").exists());
        create_all();
        let policy = Policy { write: vec![root.to_owned()], protect: protect.to_vec(), ..Policy::default() };
        let masks = Masks::create(&policy).unwrap();
        assert!(root.join("a").exists() && !root.join("a/hooks").exists());
        drop(masks);
        assert!(!root.join("a").exists() && !root.join("orch.yaml").exists());
    }

    #[test]
    fn a_mask_that_another_process_uses_stays() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let protect = [(".github", Mask::Folder), ("orch.yaml", Mask::File("{}\n".to_owned()))]
            .map(|(path, mask)| Protected { path: root.join(path), mask });
        let policy = Policy { write: vec![root.to_owned()], protect: protect.to_vec(), ..Policy::default() };
        let exist = || protect.each_ref().map(|protected| protected.path.exists());
        for Protected { path, mask } in &protect {
            drop(create(path, mask).unwrap());
        }
        // A lock belongs to an open file, not to a process, so these files can stand for another process.
        let others = protect.each_ref().map(|protected| open(&protected.path).unwrap());
        let lock_others = || others.iter().for_each(|other| other.lock_shared().unwrap());
        let unlock_others = || others.iter().for_each(|other| other.unlock().unwrap());
        lock_others();
        remove_leftover_masks(root, &protect);
        assert_eq!(exist(), [true, true]);
        let masks = Masks::create(&policy).unwrap();
        unlock_others();
        remove_leftover_masks(root, &protect);
        assert_eq!(exist(), [true, true], "this process uses them");
        for other in &others {
            assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)), "this process has locked them");
        }
        lock_others();
        drop(masks);
        assert_eq!(exist(), [true, true]);
        unlock_others();
        remove_leftover_masks(root, &protect);
        assert_eq!(exist(), [false, false]);
    }

    #[test]
    fn a_mask_that_another_process_is_removing_cannot_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orch.yaml");
        let mask = Mask::File("{}\n".to_owned());
        let file = create(&path, &mask).unwrap();
        let other = open(&path).unwrap();
        other.lock().unwrap();
        assert!(!lock(&file, &path));
        let protect = vec![Protected { path: path.clone(), mask }];
        let policy = Policy { write: vec![folder.path().to_owned()], protect, ..Policy::default() };
        let error = Masks::create(&policy).unwrap_err().to_string();
        assert!(error.contains("another process keeps the placeholder locked"), "{error}");
        other.unlock().unwrap();
        assert!(lock(&file, &path));
        fs::remove_file(&path).unwrap();
        assert!(!lock(&file, &path));
    }

    #[test]
    fn the_folder_for_a_journal_is_not_locked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(STATE_FOLDER);
        let protect = vec![Protected { path: path.clone(), mask: Mask::Folder }];
        let policy = Policy { write: vec![folder.path().to_owned()], protect, ..Policy::default() };
        let masks = Masks::create(&policy).unwrap();
        // This is what orch does to open a journal there.
        let opened = open(&path).unwrap();
        opened.try_lock().unwrap();
        opened.unlock().unwrap();
        drop(masks);
        assert!(!path.exists());
    }

    #[test]
    fn a_mask_that_the_user_changed_stays() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let protect = [(".github", Mask::Folder), ("orch.yaml", Mask::File("{}\n".to_owned()))]
            .map(|(path, mask)| Protected { path: root.join(path), mask });
        let policy = Policy { write: vec![root.to_owned()], protect: protect.into(), ..Policy::default() };
        let masks = Masks::create(&policy).unwrap();
        fs::write(root.join("orch.yaml"), "{}\n").unwrap();
        fs::write(root.join(".github/x"), "").unwrap();
        fs::remove_file(root.join(".github/x")).unwrap();
        drop(masks);
        assert!(root.join(".github").exists() && root.join("orch.yaml").exists());
    }
}
