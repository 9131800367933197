//! Creates placeholders (masks) for protected paths that do not exist, and removes them at the end.
//!
//! The kernel can protect only paths that exist. So orch creates an empty folder or a file, which the program can
//! neither change nor replace. Programs in the same workspace share a mask; orch removes it when the last of them ends.
//!
//! A mask has a fixed modification time, by which orch distinguishes it from an empty folder or a file of the user.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::error::{ConfineError, InStep as _, Step};
use super::policy::{Mask, Policy, Protected};

/// The modification time of every mask, in seconds since 1970: 2001-02-03 04:05:06 UTC. The number is even, because some
/// file systems store only every other second.
const MASK_TIME_SECONDS: u64 = 981_173_106;

/// The masks that this process created, each with the number of programs that use it.
static IN_USE: Mutex<Option<HashMap<PathBuf, usize>>> = Mutex::new(None);

fn in_use() -> MutexGuard<'static, Option<HashMap<PathBuf, usize>>> {
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
        let mut counts = in_use();
        let counts = counts.get_or_insert_default();
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
            // Another program may have created a mask here already, or a killed orch process may have left one.
            let is_existing =
                |(path, mask): &(PathBuf, Mask)| counts.contains_key(path) || (is_inside(path) && is_mask(path, mask));
            let existing = masks_of(protected).find(is_existing);
            let (path, mask) = if let Some(existing) = existing {
                existing
            } else {
                let Some((path, mask)) = first_missing(&protected.path, &protected.mask) else { continue };
                create(&path, &mask).in_step_at(Step::Masks, &path)?;
                (path, mask)
            };
            *counts.entry(path.clone()).or_default() += 1;
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

fn create(path: &Path, mask: &Mask) -> io::Result<()> {
    let file = match mask {
        Mask::Folder => {
            fs::create_dir(path)?;
            File::open(path)?
        }
        Mask::File(text) => {
            let mut file = File::create_new(path)?;
            file.write_all(text.as_bytes())?;
            file
        }
        Mask::Nothing => return Ok(()),
    };
    file.set_modified(mask_time())
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

/// Removes a mask. Keeps a folder or a file that a process outside the sandbox has changed in the meantime.
fn remove(path: &Path, mask: &Mask) {
    if is_mask(path, mask) {
        // If this fails, the next program or run in the workspace removes the mask.
        drop(if *mask == Mask::Folder { fs::remove_dir(path) } else { fs::remove_file(path) });
    }
}

/// Removes the masks of protected paths in a folder that a killed orch process left. The caller makes sure that no
/// program of the folder is running.
pub fn remove_leftover_masks(folder: &Path, protect: &[Protected]) {
    let counts = in_use();
    let is_in_use = |path: &Path| counts.as_ref().is_some_and(|counts| counts.contains_key(path));
    for (path, mask) in protect.iter().flat_map(masks_of) {
        if path != folder && path.starts_with(folder) && !is_in_use(&path) {
            remove(&path, &mask);
        }
    }
}

impl Drop for Masks {
    fn drop(&mut self) {
        let mut counts = in_use();
        let counts = counts.get_or_insert_default();
        for (path, mask) in self.paths.drain(..).rev() {
            let Some(count) = counts.get_mut(&path) else { continue };
            *count -= 1;
            if *count == 0 {
                counts.remove(&path);
                remove(&path, &mask);
            }
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
            create(&root.join("a"), &Mask::Folder).unwrap();
            create(&root.join("orch.yaml"), &protect[1].mask).unwrap();
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
