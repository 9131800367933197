//! The run of a failed test case, which the user may want to look at.

use crate::folder::TemporaryFolder;
use crate::model::RunId;
use crate::report::SuggestedCommands;

/// The folder of the journal in the temporary folder of a test case.
pub(super) const STATE_FOLDER: &str = "state";
/// The workspace in the temporary folder of a test case.
pub(super) const WORKSPACE_FOLDER: &str = "workspace";

/// The run of a failed test case.
pub(super) struct FailedRun {
    /// The command that repeats the test and keeps its run.
    pub(super) keep_command: String,
    /// The run.
    pub(super) run: RunId,
    /// The folder with its journal and its workspace.
    pub(super) folder: TemporaryFolder,
}

impl FailedRun {
    /// Keeps the run. Completes the commands in the problems so that they show it, and adds where it is.
    pub(super) fn keep(self, problems: &[String]) -> Vec<String> {
        let folder = self.folder.keep();
        let (state, workspace) = (folder.join(STATE_FOLDER), folder.join(WORKSPACE_FOLDER));
        let commands = SuggestedCommands::new(Some(&state), None).for_run(self.run);
        let kept = format!(
            "kept the workspace `{}` and the journal `{}`; `{}` shows the run",
            workspace.display(),
            state.display(),
            commands.with_options("orch runs show --replies")
        );
        problems.iter().map(|problem| commands.complete_commands(problem)).chain([kept]).collect()
    }

    /// Deletes the run. If a problem names a command that shows it, adds how to keep the run.
    pub(super) fn delete(self, mut problems: Vec<String>) -> Vec<String> {
        if problems.iter().any(|problem| names_command_of_run(problem)) {
            problems.push(format!(
                "orch deleted the run of this test, so the commands above would use another run: correct the cause and \
                 run the test again; `{}` keeps the run and prints the commands for it",
                self.keep_command
            ));
        }
        problems
    }
}

/// Whether a text contains a command between backticks that uses a run.
fn names_command_of_run(text: &str) -> bool {
    let is_command_of_run = |part: &str| part.starts_with("orch runs ") || part.starts_with("orch pipeline resume");
    text.split('`').skip(1).step_by(2).any(is_command_of_run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_between_backticks_use_a_run() {
        assert!(names_command_of_run("see `a` with `orch runs show --replies`"));
        assert!(names_command_of_run("then run `orch pipeline resume`"));
        assert!(!names_command_of_run("orch runs `orch pipeline test --update x`"));
    }
}
