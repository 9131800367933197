//! Finds out before a run whether a program that it starts later is missing.

use std::path::{Path, PathBuf};

use super::hidden_program::{HiddenProgram, SandboxView, is_executable};
use super::sandbox::ProgramSandbox;

/// Where programs start, and where the system looks for them.
#[derive(Clone, Copy, Debug)]
pub struct ProgramPlace<'a> {
    /// The workspace, in which the programs start. It may not exist yet.
    pub workspace: &'a Path,
    /// The value of `PATH`; `None` if it is not set.
    pub search_path: Option<&'a str>,
}

impl ProgramPlace<'_> {
    /// Whether a program is certainly missing. A program in the workspace is not, because an earlier step may create it.
    pub fn lacks(self, program: &str) -> bool {
        if program.contains('/') {
            let path = Path::new(program);
            return path.is_absolute()
                && !path.starts_with(self.workspace)
                && path.try_exists().is_ok_and(|exists| !exists);
        }
        let Some(search_path) = self.search_path.filter(|_| !program.is_empty()) else { return false };
        let folders: Vec<PathBuf> =
            std::env::split_paths(search_path).map(|folder| self.workspace.join(folder)).collect();
        let may_be_created = folders.iter().any(|folder| folder.starts_with(self.workspace));
        !may_be_created && !folders.iter().any(|folder| is_executable(&folder.join(program)))
    }

    /// The program, if this sandbox hides it.
    pub fn hidden_program(self, program: &str, sandbox: &ProgramSandbox) -> Option<HiddenProgram> {
        let (level, search_path) = (sandbox.machine.probe.level(), self.search_path.unwrap_or_default());
        let view = SandboxView::new(&sandbox.policy, level, self.workspace, search_path);
        view.find_hidden_program(program, Path::is_file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_program_that_no_step_can_create_in_the_workspace_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let (workspace, outside) = (folder.path().join("workspace"), folder.path().join("outside"));
        let missing = outside.join("tool").display().to_string();
        let in_workspace = workspace.join("tool").display().to_string();
        let plain = ProgramPlace { workspace: &workspace, search_path: Some("/usr/bin:/bin") };
        for (program, expected) in [
            ("sh", false),
            ("no-such-program", true),
            ("/bin/sh", false),
            (missing.as_str(), true),
            (in_workspace.as_str(), false),
            ("./tool", false),
            ("../outside/tool", false),
            ("", false),
        ] {
            assert_eq!(plain.lacks(program), expected, "{program}");
        }
        let search_path = format!("/usr/bin:{}", workspace.join("bin").display());
        for search_path in [Some(search_path.as_str()), Some("/usr/bin:"), Some("/usr/bin:bin"), None] {
            let place = ProgramPlace { search_path, ..plain };
            assert!(!place.lacks("no-such-program"), "{search_path:?}");
        }
    }
}
