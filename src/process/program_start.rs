//! The state before the start of a confined program, which orch compares with the state after its end. The caller of
//! the program stores it, so that a resume finds the damage by a program that was running when orch was killed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orch_confine::confine::{DamageCheck, Level, Policy, Seal, is_lock_file};
use serde::{Deserialize, Serialize};

use crate::model::SandboxUse;

/// The state before the start of a confined program.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProgramStart {
    /// What is known about the sandbox before the program starts.
    sandbox: SandboxUse,
    damage_check: DamageCheck,
    /// The snapshot of the protected paths, if the kernel can't protect them.
    seal: Option<Seal>,
}

impl ProgramStart {
    /// Reads the state before a program starts in the folder `cwd`. `level` is the one in force, and `sandbox` the
    /// record so far.
    pub(super) fn take(policy: &Policy, cwd: &Path, level: Level, sandbox: SandboxUse) -> Self {
        let seal = (level == Level::Basic).then(|| Seal::take(policy));
        Self { sandbox, damage_check: DamageCheck::take(policy, cwd), seal }
    }

    /// The damage since the start of the program, whose processes have all ended: the protected paths that it changed,
    /// and the other damage, each as a sentence.
    pub(super) fn damage(&self) -> (Vec<PathBuf>, Vec<String>) {
        (self.seal.as_ref().map(Seal::broken).unwrap_or_default(), self.damage_check.damage())
    }

    /// The record of the sandbox of a program that was running when orch was killed, with the damage since its start.
    /// `is_later` returns whether a path has changed after the program had ended.
    ///
    /// # Errors
    /// The state can't be compared, because the program ran in another folder than `workspace`. The error is the
    /// reason.
    pub fn sandbox_after_kill(self, workspace: &Path, is_later: &dyn Fn(&Path) -> bool) -> Result<SandboxUse, String> {
        let folder = self.damage_check.folder();
        if !folder.starts_with(workspace) {
            return Err(format!("the workspace is no longer in `{}`", folder.display()));
        }
        let (changed_paths, damage) = self.damage();
        // The process that resumes the run has written the lock files.
        let changed_paths = changed_paths.iter().filter(|path| !is_lock_file(path) && !is_later(path));
        let changed_protected = changed_paths.map(|path| path.display().to_string()).collect();
        Ok(SandboxUse { changed_protected, damage, ..self.sandbox })
    }
}

/// Stores the state before the start of a program.
#[derive(Clone)]
pub struct StartRecorder(Arc<StoreStart>);

/// The function of a [`StartRecorder`].
type StoreStart = dyn Fn(&ProgramStart) -> io::Result<()> + Send + Sync;

impl StartRecorder {
    /// Creates a recorder that stores the state with this function.
    pub fn new(store: impl Fn(&ProgramStart) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(store))
    }

    pub(crate) fn record(&self, start: &ProgramStart) -> io::Result<()> {
        (self.0)(start)
    }
}

impl fmt::Debug for StartRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StartRecorder").finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use orch_confine::confine::{Mask, Protected};

    use super::*;

    /// The state before a program starts in a folder, at the level `basic`, with a protected file `file`.
    pub(crate) fn start_in(folder: &Path) -> ProgramStart {
        let protect = vec![Protected { path: folder.join("file"), mask: Mask::Nothing }];
        let policy = Policy { write: vec![folder.to_owned()], protect, ..Policy::default() };
        ProgramStart::take(&policy, folder, Level::Basic, SandboxUse::default())
    }

    #[test]
    fn a_stored_state_shows_the_damage_since_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        let text = serde_json::to_string(&start_in(&root)).unwrap();
        let sandbox = |workspace: &Path, is_later: bool| {
            let start: ProgramStart = serde_json::from_str(&text).unwrap();
            start.sandbox_after_kill(workspace, &|_| is_later)
        };
        assert_eq!(sandbox(&root, false), Ok(SandboxUse::default()));
        fs::write(root.join("file"), "").unwrap();
        fs::write(root.join(".git"), "gitdir: elsewhere\n").unwrap();
        let damaged = sandbox(&root, false).unwrap();
        assert_eq!(damaged.changed_protected, [root.join("file").display().to_string()]);
        assert!(damaged.damage.len() == 1 && damaged.damage[0].contains("/.git`"), "{damaged:?}");
        let later = sandbox(&root, true).unwrap();
        assert_eq!((later.changed_protected.len(), later.damage.len()), (0, 1));
        assert!(sandbox(&root.join("other"), false).unwrap_err().contains("is no longer in"));
    }
}
