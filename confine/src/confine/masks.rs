//! Creates placeholders (masks) for protected paths that do not exist, and removes them at the end.
//!
//! The kernel can protect only paths that exist. So orch creates an empty folder or a file, which the program can
//! neither change nor replace. Programs in the same workspace share a mask; orch removes it when the last of them ends.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::{ConfineError, InStep as _, Step};
use super::policy::{Mask, Policy, Protected};

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
        for protected in &policy.protect {
            let is_writable = policy.writable().any(|root| protected.path.starts_with(root));
            if !is_writable || protected.mask == Mask::Nothing {
                continue;
            }
            // Another program may have created a mask here already.
            let existing = protected.path.ancestors().find(|path| counts.contains_key(*path));
            let (path, mask) = if let Some(path) = existing.map(Path::to_owned) {
                let mask = if path == protected.path { protected.mask.clone() } else { Mask::Folder };
                (path, mask)
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

fn create(path: &Path, mask: &Mask) -> io::Result<()> {
    match mask {
        Mask::Folder => fs::create_dir(path),
        Mask::File(text) => OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes()),
        Mask::Nothing => Ok(()),
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
                // Keep a folder or a file that a process outside the sandbox has changed in the meantime.
                let _ = match mask {
                    Mask::Folder => fs::remove_dir(&path),
                    Mask::File(text) if fs::read(&path).is_ok_and(|bytes| bytes == text.as_bytes()) => {
                        fs::remove_file(&path)
                    }
                    Mask::File(_) | Mask::Nothing => Ok(()),
                };
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
}
