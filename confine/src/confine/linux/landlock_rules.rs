//! The Landlock rules: which files a program may read and change. They also forbid signals to other processes, and
//! abstract UNIX sockets of other processes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, Scope,
};

use super::super::error::{ConfineError, InStep as _, Step};
use super::super::policy::{Level, PRIVATE_FOLDERS, Policy};
use super::mounts::denied_paths;

/// The newest Landlock version whose rights orch requests. An older kernel enforces only the rights that it supports.
const NEWEST: ABI = ABI::V10;
/// The oldest version that is sufficient for `basic`: with older versions, programs can truncate files everywhere.
pub(super) const OLDEST_FOR_BASIC: u32 = 3;
/// The first version that can restrict signals and abstract UNIX sockets.
pub(super) const WITH_SCOPES: u32 = 6;
/// The devices that programs may use at `basic`. Other devices give access to the machine or to the user's terminals,
/// from which a program could read keys.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom"];

/// Applies the rules to this thread and the processes that it starts. Returns the Landlock version of the kernel; 0 if
/// the kernel has no Landlock.
pub(super) fn restrict(policy: &Policy, level: Level) -> Result<u32, ConfineError> {
    let mut rules = Rules { ruleset: create_ruleset().map_err(landlock_error)? };
    match level {
        Level::Full => {
            rules.allow(Path::new("/"), AccessFs::from_read(NEWEST))?;
            rules.allow(Path::new("/dev"), AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev)?;
            for folder in PRIVATE_FOLDERS {
                rules.allow(Path::new(folder), AccessFs::from_all(NEWEST))?;
            }
        }
        Level::Basic | Level::None => {
            let denied = denied_paths(policy, Step::Landlock)?;
            for path in readable_paths(denied).in_step_at(Step::Landlock, "/")? {
                rules.allow(&path, AccessFs::from_read(NEWEST))?;
            }
            for device in DEVICES {
                let rights = AccessFs::from_file(NEWEST) & !AccessFs::Execute;
                rules.allow(&Path::new("/dev").join(device), rights)?;
            }
        }
    }
    for path in policy.writable() {
        rules.allow(path, AccessFs::from_all(NEWEST))?;
    }
    let status = rules.ruleset.restrict_self().map_err(landlock_error)?;
    Ok(version(&status))
}

fn landlock_error(error: impl std::fmt::Display) -> ConfineError {
    ConfineError::new(Step::Landlock, error.to_string())
}

fn create_ruleset() -> Result<RulesetCreated, landlock::RulesetError> {
    Ruleset::default().handle_access(AccessFs::from_all(NEWEST))?.scope(Scope::from_all(NEWEST))?.create()
}

/// The Landlock version of the kernel.
fn version(status: &RestrictionStatus) -> u32 {
    match status.landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            kernel_abi.and_then(|abi| u32::try_from(abi).ok()).unwrap_or(effective_abi as u32)
        }
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    }
}

struct Rules {
    ruleset: RulesetCreated,
}

impl Rules {
    /// Allows rights at and below a path. Adds no rule if the path does not exist or the user can't access it.
    fn allow(&mut self, path: &Path, rights: BitFlags<AccessFs>) -> Result<(), ConfineError> {
        let Ok(opened) = PathFd::new(path) else { return Ok(()) };
        let is_folder = fs::metadata(path).is_ok_and(|metadata| metadata.is_dir());
        let rights = if is_folder { rights } else { rights & AccessFs::from_file(NEWEST) };
        (&mut self.ruleset)
            .add_rule(PathBeneath::new(opened, rights))
            .map(|_| ())
            .map_err(|error| landlock_error(error).at(path))
    }
}

/// The paths that a program may read at `basic`, where no mount can hide the denied paths: all siblings of the denied
/// paths and of their parent folders. Landlock can't deny a right below a folder for which a rule allows it. Therefore
/// the program can't list the parent folders, and can't read entries that appear in them later.
///
/// `denied` contains no links. `/dev` is not readable, because root could read denied files from the disk devices.
fn readable_paths(denied: Vec<PathBuf>) -> std::io::Result<BTreeSet<PathBuf>> {
    let mut denied: BTreeSet<PathBuf> = denied.into_iter().collect();
    denied.insert("/dev".into());
    let parents: BTreeSet<&Path> = denied.iter().flat_map(|path| path.ancestors().skip(1)).collect();
    let mut readable = BTreeSet::new();
    for folder in &parents {
        if denied.iter().any(|path| folder.starts_with(path)) {
            continue;
        }
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            // A rule for a link would apply to its target, which may be a parent of a denied path.
            let is_no_link = entry.file_type().is_ok_and(|kind| !kind.is_symlink());
            if is_no_link && !denied.contains(&path) && !parents.contains(path.as_path()) {
                readable.insert(path);
            }
        }
    }
    Ok(readable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_siblings_of_a_denied_path_and_of_its_parents_are_readable() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for path in ["a/secret/x", "a/open", "b"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        std::os::unix::fs::symlink(&root, root.join("a/link")).unwrap();
        let readable = readable_paths(vec![root.join("a/secret")]).unwrap();
        for path in ["a/open", "b"] {
            assert!(readable.contains(&root.join(path)), "{path}");
        }
        for path in ["a", "a/secret", "a/secret/x", "a/link", ""] {
            assert!(!readable.contains(&root.join(path)), "{path}");
        }
        assert!(!readable.contains(Path::new("/dev")) && readable.contains(Path::new("/usr")));
    }
}
