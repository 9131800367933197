//! Landlock: which parts of the disk a program may read and change, whom it may signal, and no abstract UNIX sockets.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictionStatus, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, Scope,
};

use super::super::error::{ConfineError, InStep as _, Step};
use super::super::policy::{Level, Policy};

/// The newest version whose rights are asked for; the kernel enforces those that it knows.
const NEWEST: ABI = ABI::V10;
/// The oldest version that holds writes at `basic`: with older ones, programs can truncate files elsewhere.
pub(super) const OLDEST_FOR_BASIC: u32 = 3;
/// The version that separates signals and abstract UNIX sockets.
pub(super) const WITH_SCOPES: u32 = 6;
/// The devices that programs may use at `basic`. Others reach the machine, or the user's terminals: a program could
/// read keys from them.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom"];
/// Folders of its own that a program may change at `full`.
const PRIVATE_FOLDERS: &[&str] = &["/tmp", "/run", "/dev/shm"];

/// Confines this thread, and the processes that it starts. Returns the version of Landlock; 0 if there is none.
pub(super) fn restrict(policy: &Policy, level: Level) -> Result<u32, ConfineError> {
    let mut rules = Rules { created: create().map_err(failed)? };
    match level {
        Level::Full => {
            rules.allow(Path::new("/"), AccessFs::from_read(NEWEST))?;
            rules.allow(Path::new("/dev"), AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev)?;
            for folder in PRIVATE_FOLDERS {
                rules.allow(Path::new(folder), AccessFs::from_all(NEWEST))?;
            }
        }
        Level::Basic | Level::None => {
            for path in readable_paths(&policy.deny_read).in_step_at(Step::Landlock, "/")? {
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
    let status = rules.created.restrict_self().map_err(failed)?;
    Ok(version(&status))
}

fn failed(error: impl std::fmt::Display) -> ConfineError {
    ConfineError::new(Step::Landlock, error.to_string())
}

fn create() -> Result<RulesetCreated, landlock::RulesetError> {
    Ruleset::default().handle_access(AccessFs::from_all(NEWEST))?.scope(Scope::from_all(NEWEST))?.create()
}

/// The version that the kernel offers.
fn version(status: &RestrictionStatus) -> u32 {
    match status.landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            kernel_abi.and_then(|abi| u32::try_from(abi).ok()).unwrap_or(effective_abi as u32)
        }
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    }
}

struct Rules {
    created: RulesetCreated,
}

impl Rules {
    /// Allows rights at and below a path. A path that does not exist, or that the user can't reach, needs no rule.
    fn allow(&mut self, path: &Path, rights: BitFlags<AccessFs>) -> Result<(), ConfineError> {
        let Ok(opened) = PathFd::new(path) else { return Ok(()) };
        let is_folder = fs::metadata(path).is_ok_and(|metadata| metadata.is_dir());
        let rights = if is_folder { rights } else { rights & AccessFs::from_file(NEWEST) };
        (&mut self.created)
            .add_rule(PathBeneath::new(opened, rights))
            .map(|_| ())
            .map_err(|error| failed(error).at(path))
    }
}

/// What a program may read where nothing can cover the denied paths: every entry of each folder on the way to a denied
/// path, except those that lead to one. Landlock can't take a right away below a folder, so the folders on the way
/// can't be listed, and entries that appear in them later can't be read.
///
/// `/dev` is left out: as root, its disks hold everything that is denied.
fn readable_paths(denied: &[PathBuf]) -> std::io::Result<BTreeSet<PathBuf>> {
    let mut denied: BTreeSet<PathBuf> = denied.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
    denied.insert("/dev".into());
    let on_the_way: BTreeSet<&Path> = denied.iter().flat_map(|path| path.ancestors().skip(1)).collect();
    let mut readable = BTreeSet::new();
    for folder in &on_the_way {
        if denied.iter().any(|path| folder.starts_with(path)) {
            continue;
        }
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            // A rule for a link would be one for its target, which may be on the way to a denied path.
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if !is_link && !denied.contains(&path) && !on_the_way.contains(path.as_path()) {
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
    fn the_siblings_on_the_way_to_a_denied_path_are_readable() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        for path in ["a/secret/x", "a/open", "b"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        std::os::unix::fs::symlink(&root, root.join("a/link")).unwrap();
        let readable = readable_paths(&[root.join("a/secret"), root.join("missing")]).unwrap();
        for path in ["a/open", "b"] {
            assert!(readable.contains(&root.join(path)), "{path}");
        }
        for path in ["a", "a/secret", "a/secret/x", "a/link", ""] {
            assert!(!readable.contains(&root.join(path)), "{path}");
        }
        assert!(!readable.contains(Path::new("/dev")) && readable.contains(Path::new("/usr")));
    }
}
